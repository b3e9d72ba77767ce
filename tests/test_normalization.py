"""The norms: hand-known values, equality with the same thing composed from primitives, and batch norm in shards."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratch import Buffer, Parameter, Sequential, Tensor, gradcheck, no_grad
from scratch.layers import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    Linear,
    RMSNorm,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from scratch.layers.normalization import rows
from scratch.layers.normalization.batch import BatchNorm
from scratch.layers.normalization.rows import ChannelsLast, rows_of
from scratch.parallel import ShardedLoss

EPS = 1e-5


def draw(*shape, dtype=np.float64, seed=0):
    return (1.5 + 0.7 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


# -- the same formulas from primitives: what the derivations must equal ------------------------------------------


def composed_layer_norm(x, w, b, axes=-1):
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / ((centred * centred).mean(axis=axes, keepdims=True) + EPS).sqrt() * w + b


def composed_rms_norm(x, w):
    return x / ((x * x).mean(axis=-1, keepdims=True) + EPS).sqrt() * w


def composed_group_norm(x, groups, w, b):
    grouped = x.reshape(x.shape[0], groups, -1)
    y = composed_layer_norm(grouped, 1.0, 0.0).reshape(x.shape)
    per_channel = (-1, *[1] * (x.ndim - 2))
    return y * w.reshape(per_channel) + b.reshape(per_channel)


def composed_batch_norm(x, w, b):
    per_channel = (-1, *[1] * (x.ndim - 2))
    return composed_layer_norm(x, w.reshape(per_channel), b.reshape(per_channel), axes=(0, *range(2, x.ndim)))


def value_and_gradients(function, *arrays):
    tensors = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    y = function(*tensors)
    y.backward(np.random.default_rng(9).standard_normal(y.shape).astype(y.dtype))
    return [y.data, *(tensor.grad for tensor in tensors)]


TWINS = {
    "layer_norm": (
        lambda x, w, b: layer_norm(x, 5, w, b, EPS), composed_layer_norm,
        (draw(4, 3, 5), draw(5, seed=1), draw(5, seed=2)),
    ),
    "layer_norm of two axes": (
        lambda x, w, b: layer_norm(x, (3, 5), w, b, EPS), lambda x, w, b: composed_layer_norm(x, w, b, (-2, -1)),
        (draw(4, 3, 5), draw(3, 5, seed=1), draw(3, 5, seed=2)),
    ),
    "rms_norm": (lambda x, w: rms_norm(x, 5, w, EPS), composed_rms_norm, (draw(4, 3, 5), draw(5, seed=1))),
    "group_norm": (
        lambda x, w, b: group_norm(x, 3, w, b, EPS), lambda x, w, b: composed_group_norm(x, 3, w, b),
        (draw(2, 6, 5, 4), draw(6, seed=1), draw(6, seed=2)),
    ),
    "group_norm of a matrix": (
        lambda x, w, b: group_norm(x, 2, w, b, EPS), lambda x, w, b: composed_group_norm(x, 2, w, b),
        (draw(3, 6), draw(6, seed=1), draw(6, seed=2)),
    ),
    "instance_norm": (
        lambda x, w, b: instance_norm(x, weight=w, bias=b), lambda x, w, b: composed_group_norm(x, 4, w, b),
        (draw(2, 4, 3, 5), draw(4, seed=1), draw(4, seed=2)),
    ),
    "batch_norm of a matrix": (
        lambda x, w, b: batch_norm(x, weight=w, bias=b, training=True), composed_batch_norm,
        (draw(6, 4), draw(4, seed=1), draw(4, seed=2)),
    ),
    "batch_norm of images": (
        lambda x, w, b: batch_norm(x, weight=w, bias=b, training=True), composed_batch_norm,
        (draw(3, 4, 5, 2), draw(4, seed=1), draw(4, seed=2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fused", "composed", "arrays"), TWINS.values(), ids=TWINS)
def test_the_derivation_equals_the_tape_through_primitives(fused, composed, arrays):
    for came, expected in zip(
        value_and_gradients(fused, *arrays), value_and_gradients(composed, *arrays), strict=True
    ):
        np.testing.assert_allclose(came, expected, rtol=1e-11, atol=1e-13)


# -- hand-known values -------------------------------------------------------------------------------------------


def test_layer_norm_by_hand():
    y = layer_norm(np.array([[1.0, 2.0, 3.0]]), 3, Tensor(np.array([1.0, 10.0, 100.0])), Tensor(np.ones(3)), eps=0.0)
    root = math.sqrt(3 / 2)  # mean 2, variance 2/3
    np.testing.assert_allclose(y.data, [[1 - root, 1, 1 + 100 * root]], rtol=1e-14)


def test_rms_norm_by_hand():
    np.testing.assert_allclose(rms_norm(np.array([[3.0, 4.0]]), 2, eps=0.0).data, [[3 / 12.5**0.5, 4 / 12.5**0.5]])


def test_norms_ignore_what_they_are_meant_to_ignore():
    """A shift and a scale of what shares the statistics change nothing; RMS norm ignores the scale only."""
    x = draw(4, 6, 5)
    for norm in (lambda v: layer_norm(v, 5, eps=0.0), lambda v: group_norm(v, 2, eps=0.0)):
        np.testing.assert_allclose(norm(3 * x + 7).data, norm(x).data, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(rms_norm(3 * x, 5, eps=0.0).data, rms_norm(x, 5, eps=0.0).data, rtol=1e-12)
    assert np.abs(rms_norm(x + 7, 5).data - rms_norm(x, 5).data).max() > 0.1


def test_group_norm_of_one_group_and_of_as_many_as_channels():
    x = draw(3, 4, 5)
    np.testing.assert_allclose(group_norm(x, 1).data, layer_norm(x, (4, 5)).data, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(group_norm(x, 4).data, layer_norm(x, 5).data, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("norm", [
    lambda x: layer_norm(x, 64),
    lambda x: group_norm(x, 1),
    lambda x: batch_norm(x.T, training=True).T,
], ids=["layer", "group", "batch"])  # fmt: skip
def test_a_large_mean_costs_no_digits(norm):
    """With mean 1000 the shortcut E x² − (E x)² would be wrong by some 10 % in float32."""
    x = (1000 + np.random.default_rng(0).standard_normal((7, 64))).astype(np.float32)
    exact = x.astype(np.float64)
    exact = exact - exact.mean(axis=1, keepdims=True)
    exact /= np.sqrt((exact * exact).mean(axis=1, keepdims=True) + EPS)
    np.testing.assert_allclose(norm(Tensor(x)).data, exact, rtol=0, atol=5e-4)


def test_rms_norms_default_epsilon_is_that_of_the_dtype():
    for dtype in (np.float32, np.float64):
        tiny = np.full((1, 4), np.finfo(dtype).eps ** 0.5, dtype)  # x² = eps, so y = 1/√2
        np.testing.assert_allclose(RMSNorm(4)(tiny).data, np.full((1, 4), 0.5**0.5), rtol=1e-6)


@pytest.mark.parametrize("norm", [
    lambda x, eps: layer_norm(x, 4, eps=eps),
    lambda x, eps: rms_norm(x, 4, eps=eps),
    lambda x, eps: group_norm(x, 2, eps=eps),
    lambda x, eps: batch_norm(x, training=True, eps=eps),
    lambda x, eps: batch_norm(x, Buffer(np.zeros(4, np.float32)), Buffer(np.ones(4, np.float32)), eps=eps),
])  # fmt: skip
def test_float32_stays_where_epsilon_is_numpys_number(norm):
    x = Tensor(draw(3, 4, dtype=np.float32), requires_grad=True)
    y = norm(x, np.float64(EPS))
    (dx, *_) = y._backward(np.ones((3, 4), np.float32))  # as returned: the engine would cast
    assert y.dtype == dx.dtype == np.float32


@pytest.mark.parametrize(("make", "names"), [
    (lambda: LayerNorm((2, 3)), 2), (lambda: RMSNorm(3), 1), (lambda: GroupNorm(2, 6), 2), (lambda: BatchNorm1d(3), 5),
    (lambda: InstanceNorm1d(3, affine=True), 2), (lambda: InstanceNorm2d(3, affine=True, track_running_stats=True), 5),
])  # fmt: skip
def test_a_new_norm_scales_by_one_and_shifts_by_zero_and_has_seen_mean_zero_and_variance_one(make, names):
    begin = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    state = make().state_dict()
    assert len(state) == names
    for name, value in state.items():
        assert (value == begin[name]).all()


# -- batch norm: running statistics ------------------------------------------------------------------------------


def test_running_statistics_by_hand():
    norm = BatchNorm1d(1, momentum=0.25)
    norm(np.array([[1.0], [2.0], [6.0]], np.float32))  # mean 3, unbiased variance 7
    assert norm.running_mean.data == pytest.approx(0.75 * 0 + 0.25 * 3)
    assert norm.running_var.data == pytest.approx(0.75 * 1 + 0.25 * 7)
    assert norm.num_batches_tracked.item() == 1


def test_without_momentum_they_are_the_average_over_all_batches():
    norm, batches = BatchNorm1d(3, momentum=None).to(np.float64), [draw(5, 3, 2, seed=seed) for seed in range(4)]
    for batch in batches:
        norm(batch)
    np.testing.assert_allclose(norm.running_mean.data, np.mean([b.mean(axis=(0, 2)) for b in batches], axis=0))
    np.testing.assert_allclose(norm.running_var.data, np.mean([b.var(axis=(0, 2), ddof=1) for b in batches], axis=0))
    assert norm.num_batches_tracked.item() == 4


def test_the_variance_alone_may_be_tracked_and_without_either_no_momentum_is_needed():
    x, var = draw(5, 3), Buffer(np.ones(3))
    batch_norm(x, None, var, training=True, momentum=0.25)
    np.testing.assert_allclose(var.data, 0.75 + 0.25 * x.var(axis=0, ddof=1))
    np.testing.assert_array_equal(batch_norm(x, training=True, momentum=None).data, batch_norm(x, training=True).data)


def test_evaluation_uses_them_and_changes_nothing():
    norm = BatchNorm1d(3).to(np.float64)
    norm.running_mean.data[...], norm.running_var.data[...] = [1, 2, 3], [4, 9, 16]
    norm.weight.data[...], norm.bias.data[...] = [1, 2, 3], [5, 6, 7]
    before = {name: value.copy() for name, value in norm.state_dict().items()}
    x = draw(4, 3)
    y = norm.eval()(x)
    sigma = np.sqrt(np.array([4, 9, 16]) + EPS)
    np.testing.assert_allclose(y.data, (x - [1, 2, 3]) / sigma * [1, 2, 3] + [5, 6, 7], rtol=1e-13)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_gradient_taken_in_evaluation_belongs_to_the_statistics_of_its_forward():
    norm, x = BatchNorm1d(3).to(np.float64).eval(), draw(4, 3)
    dy = np.random.default_rng(1).standard_normal((4, 3))
    norm(x).backward(dy)
    expected, norm.weight.grad = norm.weight.grad, None
    y = norm(x)
    norm.train()(draw(6, 3, seed=5))  # moves the running statistics
    y.backward(dy)
    np.testing.assert_allclose(norm.weight.grad, expected, rtol=1e-14)


def test_without_running_statistics_the_batch_is_always_used():
    norm, x = BatchNorm1d(3, track_running_stats=False), draw(5, 3, dtype=np.float32)
    np.testing.assert_array_equal(norm(x).data, norm.eval()(x).data)
    assert norm.running_mean is norm.running_var is norm.num_batches_tracked is None


def test_another_rank_is_a_subclass_of_two_lines():
    class Images(BatchNorm):
        layouts = {4: "(N, C, H, W)"}

    x = draw(2, 3, 4, 5)
    np.testing.assert_allclose(
        Images(3).to(np.float64)(x).data.reshape(2, 3, 20), BatchNorm1d(3).to(np.float64)(x.reshape(2, 3, 20)).data
    )
    with pytest.raises(ValueError, match=r"Images.*\(N, C, H, W\) with C = 3, got \(2, 3, 4\)"):
        Images(3)(x[..., 0])


def channels_first(x):
    return np.ascontiguousarray(x)


def channels_last(x):
    """(N, H, W, C) memory seen as (N, C, H, W), as a convolution hands it over."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def half_of_the_channels(x):
    """Channels last with a gap between pixels, as one part of a concatenation is."""
    return channels_last(np.concatenate([x, -x], axis=1))[:, : x.shape[1]]


def in_pieces(x):
    return np.repeat(np.repeat(x, 2, axis=-1), 2, axis=-2)[..., ::2, ::2]


IMAGES = {
    "several rows, not square": (3, 4, 5, 7), "one row": (3, 4, 1, 7), "one column": (3, 4, 5, 1),
    "points": (5, 4, 1, 1), "one channel": (2, 1, 5, 3), "one image": (1, 6, 3, 2), "a sequence": (3, 4, 5),
    "volumes": (2, 4, 3, 2, 5),
    "too large for a row": (2, 3, 9, 7),
}  # fmt: skip
NORMS = {
    "batch": lambda x, w, b: batch_norm(x, weight=w, bias=b, training=True),
    "batch, evaluation": lambda x, w, b: batch_norm(x, *_running(len(w.data), np.float64), w, b),
    "group": lambda x, w, b: group_norm(x, 2 if x.shape[1] % 2 == 0 else 1, w, b),
    "instance": lambda x, w, b: instance_norm(x, weight=w, bias=b),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES)
def test_the_order_in_memory_matters_to_neither_values_nor_gradients(shape, norm, monkeypatch):
    """Against the composed norm where x, and dy for itself, lie in every order."""
    monkeypatch.setattr(rows, "LONGEST", 150)  # the largest but one has 140 numbers
    if norm is NORMS["instance"] and shape == IMAGES["points"]:
        shape = (5, 4, 1, 2)  # one value alone has no variance
    x, dy, channels = draw(*shape), draw(*shape, seed=3) - 1.5, shape[1]

    def run(order, other):
        leaves = Tensor(order(x), True), Tensor(draw(channels, seed=1), True), Tensor(draw(channels, seed=2), True)
        y = norm(*leaves)
        dx, dw, db = y._backward(other(dy))
        return y.data, dx, dw, db

    expected = run(channels_first, channels_first)
    orders = (channels_last, half_of_the_channels, *([in_pieces] if len(shape) > 3 else []))
    for order, other in ((o, p) for o in (*orders, channels_first) for p in (*orders, channels_first)):
        for came, value in zip(run(order, other), expected, strict=True):
            np.testing.assert_allclose(came, value, rtol=1e-10, atol=1e-11)


X = np.zeros((2, 3, 4, 5))
ORDERS = {
    "first": (X, "First"),
    "last": (channels_last(X), "Last"),
    "a matrix": (X[..., 0, 0], "Last"),
    "points": (X[..., :1, :1], "Last"),
    "two by two, first": (np.zeros((2, 3, 2, 2)), "First"),
    "two channels, last": (channels_last(X[:, :2]), "Last"),
    "two channels, first": (X[:, :2], "First"),
    "one channel": (X[:, :1], "First"),
    "one channel of several, last": (channels_last(X)[:, :1], "First"),
    "one row, last": (channels_last(X[:, :, :1]), "Last"),
    "the channels between rows and columns": (np.zeros((2, 4, 3, 5)).swapaxes(1, 2), "First"),
    "the channels between rows and columns, one column": (np.zeros((2, 4, 3, 5)).swapaxes(1, 2)[..., :1], "Last"),
    "one number seen everywhere": (np.broadcast_to(0.0, (2, 3, 4, 5)), "First"),
}  # fmt: skip


@pytest.mark.parametrize(("x", "order"), ORDERS.values(), ids=ORDERS)
def test_memory_is_read_in_the_order_in_which_it_lies(x, order):
    """An axis of one element has no say in it, nor has a single channel."""
    for by_example in (False, True):
        assert type(rows_of(x, by_example)).__name__ == f"Channels{order}"


def test_rows_are_whole_images_as_long_as_the_cache_holds_them():
    assert ChannelsLast((2, 4, 128, 128), False).rows == (1, 2, 2**16)
    assert ChannelsLast((2, 4, 129, 128), False).rows == (2, 129, 4 * 128)
    assert ChannelsLast((2, 4, 129, 128), True).rows == (2, 129, 4 * 128)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("order", [channels_first, channels_last])
def test_the_order_in_memory_is_kept_forward_and_backward(norm, order):
    x = Tensor(order(draw(3, 4, 5, 7)), requires_grad=True)
    y = norm(x, Tensor(draw(4)), Tensor(draw(4)))
    dx, *_ = y._backward(order(draw(3, 4, 5, 7)))
    assert y.data.strides == dx.strides == x.data.strides


def test_an_upstream_gradient_that_is_one_number_repeated():
    """As the mean over the positions hands back: strides of 0."""
    x, dy = draw(3, 4, 5, 7), np.broadcast_to(draw(3, 4, 1, 1), (3, 4, 5, 7))
    for order in (channels_first, channels_last):
        y = batch_norm(Tensor(order(x), True), training=True)
        expected = batch_norm(Tensor(x, True), training=True)._backward(dy.copy())[0]
        np.testing.assert_allclose(y._backward(dy)[0], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("order", [channels_first, channels_last])
@pytest.mark.parametrize("norm", [
    lambda x: batch_norm(x, training=True), lambda x: group_norm(x, 4), instance_norm,
], ids=["batch", "group", "instance"])  # fmt: skip
def test_float32_statistics_of_many_pixels_keep_their_digits(norm, order):
    """2 · 10⁵ values a channel of mean 50: one running float32 sum would be wrong in the fourth digit."""
    x = order((50 + np.random.default_rng(0).standard_normal((4, 4, 220, 230))).astype(np.float32))
    np.testing.assert_allclose(norm(x).data, norm(x.astype(np.float64)).data, rtol=0, atol=2e-5)


# -- instance norm -----------------------------------------------------------------------------------------------


def test_instance_norm_ignores_each_images_own_brightness_and_contrast():
    x = draw(3, 4, 5, 7)
    contrast, brightness = draw(3, 4, 1, 1, seed=1), draw(3, 4, 1, 1, seed=2)
    np.testing.assert_allclose(
        instance_norm(contrast * x + brightness, eps=0.0).data, instance_norm(x, eps=0.0).data * np.sign(contrast),
        rtol=1e-9, atol=1e-11,
    )  # fmt: skip


def test_instance_norms_running_statistics_are_means_over_the_examples():
    norm, x = InstanceNorm2d(3, momentum=0.25, track_running_stats=True).to(np.float64), draw(4, 3, 5, 2)
    norm(x)
    np.testing.assert_allclose(norm.running_mean.data, 0.25 * x.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(norm.running_var.data, 0.75 + 0.25 * x.var(axis=(2, 3), ddof=1).mean(axis=0))
    before = norm.running_mean.data.copy()
    expected = (x - before[:, None, None]) / np.sqrt(norm.running_var.data + EPS)[:, None, None]
    np.testing.assert_allclose(norm.eval()(x).data, expected, rtol=1e-12)
    np.testing.assert_array_equal(norm.running_mean.data, before)


def test_one_of_instance_norms_statistics_may_be_tracked_alone():
    x, mean, var = draw(4, 3, 5), Buffer(np.zeros(3)), Buffer(np.ones(3))
    instance_norm(x, running_mean=mean, momentum=0.25)
    instance_norm(x, running_var=var, momentum=0.25)
    np.testing.assert_allclose(mean.data, 0.25 * x.mean(axis=(0, 2)))
    np.testing.assert_allclose(var.data, 0.75 + 0.25 * x.var(axis=2, ddof=1).mean(axis=0))


@pytest.mark.parametrize(("make", "shape"), [(InstanceNorm1d, (3, 5)), (InstanceNorm2d, (3, 5, 2))])
def test_instance_norm_without_a_batch_is_that_of_a_batch_of_one(make, shape):
    norm, x = make(3), draw(*shape)
    np.testing.assert_array_equal(norm(x).data, norm(x[None]).data[0])


def _running(channels, dtype=np.float32):
    return Tensor(draw(channels, dtype=dtype)), Tensor(np.full(channels, 2, dtype))


# -- batch norm: a batch cut into shards -------------------------------------------------------------------------


def loss(model, x, v):
    """Σ v · model(x), weighed by the rows: the random v is the upstream gradient."""
    return (model(x) * v).sum(), len(x)


def make_norm(shape, momentum):
    make = BatchNorm1d if len(shape) < 4 else BatchNorm2d
    return make(shape[1], momentum=momentum)


def make_instance_norm(shape, momentum):
    return InstanceNorm2d(shape[1], momentum=momentum, affine=True, track_running_stats=True)


def sharded_step(shards, shape=(7, 3), momentum=0.1, make=make_norm):
    linear = Linear(shape[-1], shape[-1])
    norm = make(shape, momentum)
    model = Sequential(linear, norm).to(np.float64)
    rng = np.random.default_rng(3)
    for p in model.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    sharded = ShardedLoss(model, loss, shards=shards, workers=2)
    losses = []
    for step in range(2):
        value = sharded(draw(*shape, seed=step), rng.standard_normal(shape))
        value.backward()
        losses.append(value.item())
    return losses, {name: p.grad for name, p in model.named_parameters()}, model.state_dict()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(7, 3), (7, 4, 3), (7, 4, 2, 3)])
@pytest.mark.parametrize("shards", [2, 3, 7])  # shards of unlike sizes; of one row each, where alone none could be
def test_shards_equal_the_uncut_batch_in_loss_gradients_and_running_statistics(shards, shape, momentum):
    one, many = sharded_step(1, shape, momentum), sharded_step(shards, shape, momentum)
    np.testing.assert_allclose(many[0], one[0], rtol=1e-12)
    for came, expected in zip(many[1:], one[1:], strict=True):
        assert list(came) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(came[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
    assert many[2]["1.num_batches_tracked"] == 2


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_track_the_instances_of_the_whole_batch(shards):
    shape = (7, 4, 2, 3)
    one, many = (sharded_step(n, shape, 0.1, make_instance_norm) for n in (1, shards))
    for came, expected in zip(many[1:], one[1:], strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(came[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda: LayerNorm(()), "at least 1"),
    (lambda: LayerNorm((3, 0)), r"at least 1, got \(3, 0\)"),
    (lambda: LayerNorm((3, 5))(np.zeros((2, 5))), r"LayerNorm\(\(3, 5\).*shape \(\.\.\., 3, 5\), got \(2, 5\)"),
    (lambda: rms_norm(np.zeros((2, 5)), 4), r"rms_norm expected shape \(\.\.\., 4\), got \(2, 5\)"),
    (lambda: rms_norm(np.zeros((2, 4)), 4, np.ones(1)), r"rms_norm expected weight of shape \(4,\), got \(1,\)"),
    (lambda: layer_norm(np.zeros((2, 4)), 4, bias=np.ones(1)), r"layer_norm expected bias of shape \(4,\), got \(1,\)"),
    (lambda: group_norm(np.zeros((2, 4)), 2, np.ones(2)), r"group_norm expected weight of shape \(4,\), got \(2,\)"),
    (lambda: batch_norm(np.zeros((2, 4)), bias=np.ones(1), training=True), r"batch_norm expected bias of shape \(4,\)"),
    (lambda: BatchNorm2d(3)(np.zeros((2, 3, 4))), r"BatchNorm2d.*\(N, C, H, W\) with C = 3, got \(2, 3, 4\)"),
    (lambda: BatchNorm2d(3)(np.zeros((1, 3, 1, 1))), r"more than one value per channel when training"),
    (lambda: InstanceNorm2d(3)(np.zeros((2, 3, 1, 1))), r"more than one value per channel and example"),
    (lambda: InstanceNorm2d(3)(np.zeros((2, 4, 3, 5))), r"\(C, H, W\) or \(N, C, H, W\) with C = 3, got"),
    (lambda: InstanceNorm1d(0), "InstanceNorm1d expected at least 1 feature, got 0"),
    (lambda: instance_norm(np.zeros((2, 3))), r"\(N, C, \*\) with at least one axis after C, got \(2, 3\)"),
    (lambda: instance_norm(np.zeros((2, 3, 4)), use_input_stats=False), "running statistics, or use_input_stats=True"),
    (lambda: instance_norm(np.zeros((2, 3, 4)), weight=np.ones(2)), r"instance_norm expected weight of shape \(3,\)"),
    (lambda: GroupNorm(4, 6), "divide 6 channels, got 4"),
    (lambda: GroupNorm(0, 6), "divide 6 channels, got 0"),
    (lambda: group_norm(np.zeros((2, 6)), 4), r"divisible by 4 groups, got \(2, 6\)"),
    (lambda: BatchNorm1d(0), "BatchNorm1d expected at least 1 feature, got 0"),
    (lambda: BatchNorm1d(3)(np.zeros((2, 4, 3))), r"\(N, C\) or \(N, C, L\) with C = 3, got \(2, 4, 3\)"),
    (lambda: BatchNorm1d(3)(np.zeros((1, 3))), r"more than one value per channel when training, got shape \(1, 3\)"),
    (lambda: batch_norm(np.zeros((2, 3))), "running statistics, or training=True"),
    (lambda: batch_norm(np.zeros(3), training=True), r"\(N, C, \*\), got \(3,\)"),
    (lambda: batch_norm(np.zeros((2, 3)), *_running(3), training=True, momentum=None), "num_batches_tracked"),
])  # fmt: skip
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_a_refused_batch_leaves_the_running_statistics_alone():
    norm = BatchNorm1d(3)
    with pytest.raises(ValueError):
        norm(np.full((1, 3), 5, np.float32))
    assert norm.num_batches_tracked.item() == 0 and not norm.running_mean.data.any()
    with no_grad():
        assert norm.eval()(np.full((1, 3), 5, np.float32)).shape == (1, 3)


@pytest.mark.parametrize("norm", [
    lambda x: layer_norm(x, 5),
    lambda x: rms_norm(x, 5),
    lambda x: group_norm(x, 3),
    lambda x: batch_norm(x, *_running(6)),
    lambda x: instance_norm(x),
], ids=["layer", "RMS", "group", "batch", "instance"])  # fmt: skip
def test_no_examples_give_no_values(norm):
    assert norm(np.zeros((0, 6, 5), np.float32)).shape == (0, 6, 5)


def test_gradcheck_where_a_row_is_constant():
    """x̂ is 0 there and σ = √eps: the derivative is large, not infinite."""
    x = draw(3, 4)
    x[1] = 2.0
    w, b = Parameter(draw(4, seed=1)), Parameter(draw(4, seed=2))
    gradcheck(lambda v: layer_norm(v, 4, w, b, eps=0.1), [x], {"weight": w, "bias": b})
    assert np.isfinite(layer_norm(x, 4).data).all()
