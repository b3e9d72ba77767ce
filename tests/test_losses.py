"""Losses: gradients, composed twins, the far ends, masks and weights, errors. Parity is in test_parity.py."""

import math

import numpy as np
import pytest

from scratch import Module, Tensor, gradcheck, losses
from scratch.activations import sigmoid
from scratch.gradcheck import GradcheckError
from scratch.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from scratch.tensor import record

REDUCTIONS = ["mean", "sum", "none"]


def name(function):
    return function.__name__


def numbers(rng, *shape):
    return np.asarray(2 * rng.standard_normal(shape))


def chances(rng, *shape):
    return np.asarray(rng.uniform(0.05, 0.95, shape))


def labels(rng, classes, *shape):
    return np.asarray(rng.integers(0, classes, shape))


# -- gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)], ids=str)
def test_distances(shape, reduction, rng):
    x, t = numbers(rng, *shape), numbers(rng, *shape)
    for loss in (mse_loss, l1_loss):
        assert gradcheck(loss, [x, t, reduction])
    for width in (0.4, 3.0):
        assert gradcheck(huber_loss, [x, t, reduction, width])
        assert gradcheck(smooth_l1_loss, [x, t, reduction, width])


SCORES = [((5, 4), (5,)), ((4,), ()), ((2, 4, 3), (2, 3)), ((2, 4, 3, 5), (2, 3, 5))]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("shape", "positions"), SCORES, ids=str)
def test_losses_over_classes(shape, positions, weighted, reduction, rng):
    weight = list(rng.uniform(0.5, 2, 4)) if weighted else None
    x, y = numbers(rng, *shape), labels(rng, 4, *positions)
    some = int(y.flat[0])
    for ignored in (-100, some) if y.size > 1 and (y != some).any() else (-100,):
        for smoothing in (0.0, 0.3):
            assert gradcheck(cross_entropy, [x, y, weight, ignored, reduction, smoothing])
        assert gradcheck(nll_loss, [x, y, weight, ignored, reduction])
    for smoothing in (0.0, 0.3):  # and with respect to the target distribution
        assert gradcheck(cross_entropy, [x, chances(rng, *shape), weight, -100, reduction, smoothing])


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
def test_losses_between_probabilities(reduction, rng):
    shape = (3, 4, 2)
    x, p, t = numbers(rng, *shape), chances(rng, *shape), chances(rng, *shape)
    assert gradcheck(kl_div, [x, t, reduction])
    assert gradcheck(kl_div, [x, np.log(t), reduction, True])
    if reduction == "batchmean":
        return
    row, column = list(rng.uniform(0.5, 2, 2)), [[[1.5], [0.4], [2.0], [0.7]]]
    for weight in (None, row, column):
        assert gradcheck(binary_cross_entropy, [p, t, weight, reduction])
        for pos_weight in (None, row, column):
            assert gradcheck(binary_cross_entropy_with_logits, [x, t, weight, reduction, pos_weight])


# -- twins composed of primitives ---------------------------------------------------------------------------------


def composed_log_softmax(x):
    z = x - x.max(axis=1, keepdims=True).detach()
    return z - z.exp().sum(axis=1, keepdims=True).log()


def spread(*shape, stride=5):
    """Numbers from 0.05 to 0.95, all different, in an order that is none."""
    n = math.prod(shape)
    return (0.05 + 0.9 * (np.arange(n) * stride % n) / (n - 1)).reshape(shape)


LABELS = np.array([2, 0, 2, 3, 1, 0])
CLASS_WEIGHT = np.array([0.5, 2.0, 1.5, 0.7])
ONE_HOT = np.eye(4)[LABELS]
TARGETS = spread(6, 4)

TWINS = {
    "cross_entropy": (
        lambda x: cross_entropy(x, LABELS),
        lambda x: -(composed_log_softmax(x) * ONE_HOT).sum(axis=1).mean(),
    ),
    "weighted cross_entropy": (
        lambda x: cross_entropy(x, LABELS, CLASS_WEIGHT),
        lambda x: -(composed_log_softmax(x) * ONE_HOT * CLASS_WEIGHT).sum() / CLASS_WEIGHT[LABELS].sum(),
    ),
    "smoothed cross_entropy": (
        lambda x: cross_entropy(x, LABELS, label_smoothing=0.2),
        lambda x: -(composed_log_softmax(x) * (0.8 * ONE_HOT + 0.05)).sum(axis=1).mean(),
    ),
    "cross_entropy of probabilities": (
        lambda x: cross_entropy(x, TARGETS, reduction="sum"),
        lambda x: -(composed_log_softmax(x) * TARGETS).sum(),
    ),
    "nll_loss": (lambda x: nll_loss(x, LABELS), lambda x: -(x * ONE_HOT).sum(axis=1).mean()),
    "bce with logits": (
        lambda x: binary_cross_entropy_with_logits(x, TARGETS, pos_weight=CLASS_WEIGHT),
        lambda x: -(CLASS_WEIGHT * TARGETS * sigmoid(x).log() + (1 - TARGETS) * (1 - sigmoid(x)).log()).mean(),
    ),
    "bce": (
        lambda x: binary_cross_entropy(sigmoid(x), TARGETS),
        lambda x: -(TARGETS * sigmoid(x).log() + (1 - TARGETS) * (1 - sigmoid(x)).log()).mean(),
    ),
    "kl_div": (
        lambda x: kl_div(composed_log_softmax(x), TARGETS, "batchmean"),
        lambda x: (TARGETS * (np.log(TARGETS) - composed_log_softmax(x))).sum() / 6,
    ),
    "mse_loss": (lambda x: mse_loss(x, TARGETS), lambda x: ((x - TARGETS) * (x - TARGETS)).mean()),
    "l1_loss": (lambda x: l1_loss(x, TARGETS), lambda x: (x - TARGETS).abs().mean()),
}


@pytest.mark.parametrize("which", TWINS)
def test_equals_the_same_composed_of_primitives(which, rng):
    fused, composed = TWINS[which]
    values = numbers(rng, 6, 4)
    a, b = Tensor(values, requires_grad=True), Tensor(values, requires_grad=True)
    y, expected = fused(a), composed(b)
    np.testing.assert_allclose(y.data, expected.data, rtol=1e-12)
    y.backward(-1.7)
    expected.backward(-1.7)
    np.testing.assert_allclose(a.grad, b.grad, rtol=1e-10, atol=1e-13)


def test_the_gradient_is_p_minus_y():
    x = Tensor(np.log(np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])), requires_grad=True)
    cross_entropy(x, [2, 1], reduction="sum").backward()
    np.testing.assert_allclose(x.grad, [[0.2, 0.3, -0.5], [0.6, -0.7, 0.1]], rtol=1e-14)


def test_equal_scores_cost_ln_c(rng):
    assert cross_entropy(np.zeros((5, 10)), labels(rng, 10, 5)).item() == pytest.approx(math.log(10))


# -- a wrong derivative is caught ---------------------------------------------------------------------------------


def cross_entropy_without_the_mean(x):
    y = cross_entropy(x, LABELS)
    p = np.exp(x.data) / np.exp(x.data).sum(axis=1, keepdims=True)
    return record(y.data, (x,), lambda dy: (dy * (p - ONE_HOT),))


def smoothing_forgotten_in_the_gradient(x):
    y = cross_entropy(x, LABELS, label_smoothing=0.1)
    p = np.exp(x.data) / np.exp(x.data).sum(axis=1, keepdims=True)
    return record(y.data, (x,), lambda dy: (dy / 6 * (p - ONE_HOT),))


def huber_that_never_clips(x):
    return record(huber_loss(x, TARGETS, delta=0.5).data, (x,), lambda dy: (dy / x.size * (x.data - TARGETS),))


WRONG = [cross_entropy_without_the_mean, smoothing_forgotten_in_the_gradient, huber_that_never_clips]


@pytest.mark.parametrize("wrong", WRONG, ids=name)
def test_a_planted_fault_is_caught(wrong, rng):
    with pytest.raises(GradcheckError, match=wrong.__name__):
        gradcheck(wrong, [numbers(rng, 6, 4)])


# -- what counts and what does not --------------------------------------------------------------------------------


def test_ignored_labels_neither_count_nor_learn(rng):
    x = numbers(rng, 5, 4)
    y, kept = np.array([1, -100, 3, 3, -100]), np.array([0, 2, 3])
    weighted, smoothed = {"weight": CLASS_WEIGHT}, {"label_smoothing": 0.2}
    for options in ({}, weighted, smoothed, weighted | smoothed):
        for reduction in ("mean", "sum"):
            a, b = Tensor(x, requires_grad=True), Tensor(x[kept], requires_grad=True)
            whole = cross_entropy(a, y, reduction=reduction, **options)
            part = cross_entropy(b, y[kept], reduction=reduction, **options)
            np.testing.assert_allclose(whole.data, part.data, rtol=1e-14)
            whole.backward(1.3)
            part.backward(1.3)
            np.testing.assert_allclose(a.grad[kept], b.grad, rtol=1e-13)
            assert not a.grad[[1, 4]].any()
    assert cross_entropy(x, y, reduction="none").data[[1, 4]].tolist() == [0, 0]


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss], ids=name)
def test_nothing_left_to_average_is_nan_with_gradient_zero(loss, rng):
    x = Tensor(numbers(rng, 3, 4), requires_grad=True)
    y = loss(x, np.full(3, -100))
    assert math.isnan(y.item())
    y.backward()
    assert not x.grad.any()
    assert loss(x, np.full(3, -100), reduction="sum").item() == 0


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4)], ids=str)
@pytest.mark.parametrize("loss", [cross_entropy, nll_loss], ids=name)
def test_an_empty_batch_has_no_mean_and_the_sum_zero(loss, shape):
    x = Tensor(np.zeros(shape, np.float32), requires_grad=True)
    y = np.zeros((shape[0], *shape[2:]), int)
    assert math.isnan(loss(x, y).item()) and loss(x, y).dtype == np.float32
    total = loss(x, y, reduction="sum")
    total.backward()
    assert total.item() == 0 and x.grad.shape == shape


def test_labels_may_be_ignored_where_there_is_one_class(rng):
    x = Tensor(numbers(rng, 2, 1), requires_grad=True)
    nll_loss(x, [0, -100]).backward()
    np.testing.assert_array_equal(x.grad, [[-1], [0]])
    assert cross_entropy(x, [0, -100]).item() == 0


def test_shards_of_the_sum_add_up_to_the_whole(rng):
    x, y = numbers(rng, 7, 4), np.array([1, 0, -100, 3, 2, -100, 1])
    whole = Tensor(x, requires_grad=True)
    mean = cross_entropy(whole, y, CLASS_WEIGHT)
    mean.backward()
    total = weight = 0.0
    gradients = []
    for part in (slice(0, 3), slice(3, 7)):
        shard = Tensor(x[part], requires_grad=True)
        loss = cross_entropy(shard, y[part], CLASS_WEIGHT, reduction="sum")
        loss.backward()
        gradients.append(shard.grad)
        total, weight = total + loss.item(), weight + CLASS_WEIGHT[y[part][y[part] >= 0]].sum()
    assert total / weight == pytest.approx(mean.item(), rel=1e-14)
    np.testing.assert_allclose(np.concatenate(gradients) / weight, whole.grad, rtol=1e-13)


def test_repeated_labels_and_positions_stay_apart(rng):
    x = Tensor(numbers(rng, 2, 3, 4), requires_grad=True)
    cross_entropy(x, np.full((2, 4), 1), reduction="sum").backward()
    p = np.exp(x.data) / np.exp(x.data).sum(axis=1, keepdims=True)
    p[:, 1] -= 1
    np.testing.assert_allclose(x.grad, p, rtol=1e-12, atol=1e-15)


def test_kl_div_of_equal_distributions_is_zero_and_zeros_cost_nothing():
    p = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    log_p = np.log(np.maximum(p, 1e-300))
    assert kl_div(log_p, p, "sum").item() == pytest.approx(0, abs=1e-15)
    x = Tensor(log_p, requires_grad=True)
    kl_div(x, p, "batchmean").backward()
    np.testing.assert_allclose(x.grad, -p / 2)


# -- the far ends in float32 --------------------------------------------------------------------------------------


def test_cross_entropy_of_far_scores():
    x = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4]], dtype=np.float32)
    t = Tensor(x, requires_grad=True)
    y = cross_entropy(t, [1, 2, 0], reduction="none")
    np.testing.assert_allclose(y.data, [2e4, math.log(2), math.log(3)], rtol=1e-6)
    y.backward(np.array([1, -2, 3], dtype=np.float32))
    np.testing.assert_allclose(t.grad, [[1, -1, 0], [0, -1, 1], [-2, 1, 1]], rtol=1e-6)
    soft = Tensor(x, requires_grad=True)
    z = cross_entropy(soft, np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]]), reduction="none")
    np.testing.assert_allclose(z.data, [1e4, math.log(2), math.log(3)], rtol=1e-6)
    z.backward(np.ones(3))
    np.testing.assert_allclose(soft.grad, [[0.5, -0.5, 0], [0, 0.5, -0.5], [1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)
    assert y.dtype == z.dtype == t.grad.dtype == soft.grad.dtype == np.float32


def test_binary_cross_entropy_of_far_logits():
    x = Tensor(np.array([1e4, 1e4, -1e4, -1e4, 0], dtype=np.float32), requires_grad=True)
    y = binary_cross_entropy_with_logits(x, [1.0, 0.0, 1.0, 0.0, 0.5], reduction="none", pos_weight=3.0)
    np.testing.assert_allclose(y.data, [0, 1e4, 3e4, 0, 2 * math.log(2)], rtol=1e-6)
    y.backward(np.array([1, 2, 1, 5, 2], dtype=np.float32))
    np.testing.assert_allclose(x.grad, [0, 2, -3, 0, -1], rtol=1e-6)
    assert y.dtype == x.grad.dtype == np.float32


def test_binary_cross_entropy_at_the_edges_is_held_at_100():
    x = Tensor(np.array([0.0, 1.0, 0.0, 1.0]), requires_grad=True)
    t = Tensor(np.array([1.0, 0.0, 0.0, 1.0]), requires_grad=True)
    y = binary_cross_entropy(x, t, reduction="none")
    assert y.data.tolist() == [100, 100, 0, 0]
    y.backward(np.array([1.0, 1.0, 1.0, 2.0]))
    np.testing.assert_allclose(x.grad, [-1e12, 1e12, 0, 0])
    np.testing.assert_allclose(t.grad, [100, -100, 100, -200])


@pytest.mark.parametrize("loss", [mse_loss, l1_loss, huber_loss, smooth_l1_loss], ids=name)
def test_far_distances(loss):
    x = Tensor(np.array([1e4, -1e4, 0.0], dtype=np.float32), requires_grad=True)
    y = loss(x, np.array([-1e4, 1e4, 0.0]), reduction="none")
    value, slope = {"mse_loss": (4e8, 4e4), "l1_loss": (2e4, 1)}.get(name(loss), (2e4 - 0.5, 1))
    np.testing.assert_allclose(y.data, [value, value, 0], rtol=1e-7)
    y.backward(np.array([1, 2, 3]))
    np.testing.assert_allclose(x.grad, [slope, -2 * slope, 0], rtol=1e-7)


# -- dtype, memory ------------------------------------------------------------------------------------------------

S, P = (3, 4), spread(3, 4).astype(np.float32)
CALLS = {
    "mse_loss": lambda x, t, **o: mse_loss(x, t, **o),
    "l1_loss": lambda x, t, **o: l1_loss(x, t, **o),
    "huber_loss": lambda x, t, **o: huber_loss(x, t, delta=np.float64(0.3), **o),
    "smooth_l1_loss": lambda x, t, **o: smooth_l1_loss(x, t, beta=np.float64(0.3), **o),
    "cross_entropy": lambda x, t, **o: cross_entropy(x, np.array([1, 3, 0]), **o),
    "weighted": lambda x, t, **o: cross_entropy(x, np.array([1, -100, 0]), weight=CLASS_WEIGHT, **o),
    "smoothed": lambda x, t, **o: cross_entropy(x, np.array([1, 3, -100]), CLASS_WEIGHT, label_smoothing=0.1, **o),
    "probabilities": lambda x, t, **o: cross_entropy(x, t, weight=CLASS_WEIGHT, **o),
    "nll_loss": lambda x, t, **o: nll_loss(x, np.array([1, -100, 0]), weight=CLASS_WEIGHT, **o),
    "bce_logits": lambda x, t, **o: binary_cross_entropy_with_logits(x, t, CLASS_WEIGHT, pos_weight=[[2.0]], **o),
    "bce": lambda x, t, **o: binary_cross_entropy(x, t, CLASS_WEIGHT, **o),
    "kl_div": lambda x, t, **o: kl_div(x, t, **o),
    "kl_div_log": lambda x, t, **o: kl_div(x, t, log_target=True, **o),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("which", CALLS)
def test_float32_stays_and_nothing_given_is_written_into(which, reduction, rng):
    values = rng.uniform(0.05, 0.95, S).astype(np.float32)
    x, t = Tensor(values.copy(), requires_grad=True), Tensor(P.astype(np.float64), requires_grad=True)
    y = CALLS[which](x, t, reduction=reduction)
    dy = np.asarray(rng.standard_normal(y.shape).astype(np.float32))
    kept = dy.copy()
    y.backward(dy, retain_graph=True)
    first = x.grad
    y.backward(dy)
    assert y.dtype == first.dtype == np.float32
    np.testing.assert_array_equal(x.grad, 2 * first)  # a second walk finds everything as it was
    np.testing.assert_array_equal(x.data, values)
    np.testing.assert_array_equal(t.data, P.astype(np.float64))
    np.testing.assert_array_equal(dy, kept)
    if t.grad is not None:
        assert t.grad.dtype == np.float64  # each in its own

    wide = Tensor(values.astype(np.float64), requires_grad=True)
    CALLS[which](wide, P.astype(np.float64), reduction=reduction).backward(dy)
    np.testing.assert_allclose(first, wide.grad, rtol=1e-5, atol=1e-6)


def test_the_divergences_backward_works_in_float32_throughout(rng):
    drawn = numbers(rng, 2, 3), chances(rng, 2, 3)
    x, t = (Tensor(values.astype(np.float32), requires_grad=True) for values in drawn)
    for log_target in (False, True):
        gradients = kl_div(x, t, "none", log_target)._backward(np.ones((2, 3), np.float32))
        assert [each.dtype for each in gradients] == [np.float32, np.float32]  # as returned: the engine would cast


@pytest.mark.parametrize("loss", [mse_loss, binary_cross_entropy_with_logits, cross_entropy], ids=name)
def test_a_target_alone_may_require_a_gradient(loss, rng):
    x, t = chances(rng, 3, 4), Tensor(chances(rng, 3, 4), requires_grad=True)
    loss(x, t).backward()
    assert t.grad.shape == (3, 4) and t.grad.any()


PAIRS = [mse_loss, l1_loss, huber_loss, smooth_l1_loss, kl_div, binary_cross_entropy, binary_cross_entropy_with_logits,
         cross_entropy]  # fmt: skip


@pytest.mark.parametrize("loss", PAIRS, ids=name)
def test_a_target_of_another_dtype_gets_the_gradient_in_its_own(loss, rng):
    x, t = chances(rng, 3, 4), chances(rng, 3, 4)
    alike, narrow = Tensor(t, requires_grad=True), Tensor(t, requires_grad=True)
    loss(x, alike).backward()
    loss(x.astype(np.float32), narrow).backward()
    assert narrow.grad.dtype == np.float64
    np.testing.assert_allclose(narrow.grad, alike.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", PAIRS, ids=name)
def test_no_gradient_is_computed_for_a_target_that_needs_none(loss, rng):
    x, t = Tensor(chances(rng, 3, 4), requires_grad=True), chances(rng, 3, 4)
    dx, dt = loss(x, t)._backward(np.asarray(1.0))
    assert dx.any() and dt is None


def test_labels_of_every_integer_type(rng):
    x = numbers(rng, 4, 3)
    expected = cross_entropy(x, np.array([0, 2, 1, 2])).item()
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        assert cross_entropy(x, np.array([0, 2, 1, 2], dtype=dtype)).item() == expected
    assert cross_entropy(x, [0, 2, 1, 2]).item() == cross_entropy(x, Tensor([0, 2, 1, 2])).item() == expected


# -- errors -------------------------------------------------------------------------------------------------------

X = np.zeros((2, 3))
BAD = [
    (lambda: cross_entropy(X, [0, 3]), r"cross_entropy: label 3 at position \(1,\) is not one of 3 classes, 0 to 2"),
    (lambda: cross_entropy(X, [0, 7]), r"label 7 at position \(1,\)"),
    (lambda: cross_entropy(X, [-1, 3]), r"label -1 at position \(0,\)"),
    (lambda: cross_entropy(X, [-100, 7], CLASS_WEIGHT[:3]), r"label 7 at position \(1,\)"),
    (lambda: cross_entropy(np.zeros((2, 3, 4)), [[0, 1, 2, 0], [0, 0, -3, 9]]), r"label -3 at position \(1, 2\)"),
    (lambda: cross_entropy(np.zeros(3), np.array(3)), r"label 3 at position \(\)"),
    (lambda: nll_loss(X, [0, 3]), r"nll_loss: label 3 at position \(1,\) is not one of 3 classes"),
    (
        lambda: cross_entropy(X, np.array([0.0, 1.0])),
        r"expected integer labels of shape \(2,\), or probabilities of shape \(2, 3\), got float64 of shape \(2,\)",
    ),
    (lambda: cross_entropy(X, [True, False]), r"expected integer labels of shape \(2,\).*got bool of shape \(2,\)"),
    (lambda: cross_entropy(X, [[0], [1]]), r"expected integer labels of shape \(2,\).*got int64 of shape \(2, 1\)"),
    (lambda: cross_entropy(X, np.zeros((2, 3), int)), r"expected integer labels .*got int64 of shape \(2, 3\)"),
    (lambda: nll_loss(X, X), r"nll_loss expected integer labels of shape \(2,\), got float64 of shape \(2, 3\)"),
    (lambda: cross_entropy(np.zeros((2, 3), int), [0, 1]), "cross_entropy expected a floating-point input, got dtype"),
    (lambda: cross_entropy(np.array(1.0), 0), r"expected scores of shape \(N, C\), \(C,\) or \(N, C, ...\), got \(\)"),
    (lambda: cross_entropy(np.zeros((2, 0)), [0, 0]), r"expected scores of shape .* got \(2, 0\)"),
    (lambda: cross_entropy(X, [0, 1], weight=np.ones(4)), r"expected weight of shape \(3,\), got \(4,\)"),
    (lambda: cross_entropy(X, [0, 1], label_smoothing=1.5), "expected 0 <= label_smoothing <= 1, got 1.5"),
    (lambda: cross_entropy(X, X, ignore_index=1), "probabilities cannot be ignored, got ignore_index=1"),
    (lambda: cross_entropy(X, [0, 1], Tensor(np.ones(3), requires_grad=True)), "weight is a constant and cannot"),
    (lambda: mse_loss(np.zeros((4, 1)), np.zeros(4)), r"expected a target of the input's shape \(4, 1\), got \(4,\)"),
    (lambda: l1_loss(X, X.T), r"l1_loss expected a target of the input's shape \(2, 3\), got \(3, 2\)"),
    (lambda: mse_loss([1, 2], [1, 2]), "mse_loss expected a floating-point input, got dtype int"),
    (lambda: huber_loss(X, X, delta=0), "huber_loss expected delta > 0, got 0"),
    (lambda: smooth_l1_loss(X, X, beta=-1), "smooth_l1_loss expected beta >= 0, got -1"),
    (lambda: binary_cross_entropy(X - 0.5, X), r"expected probabilities in \[0, 1\], got -0.5 to -0.5"),
    (lambda: binary_cross_entropy(X * np.nan, X), r"expected probabilities in \[0, 1\], got nan"),
    (lambda: binary_cross_entropy_with_logits(X, X[0]), r"expected a target of the input's shape \(2, 3\), got \(3,\)"),
    (
        lambda: binary_cross_entropy_with_logits(X, X, pos_weight=np.ones(2)),
        r"expected pos_weight of a shape that broadcasts to \(2, 3\), got \(2,\)",
    ),
    (lambda: binary_cross_entropy(X, X, weight=np.ones((4, 2, 3))), r"expected weight of a shape that broadcasts to"),
    (lambda: kl_div(np.array(0.5), 0.5, "batchmean"), "batchmean needs a first axis"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_reduction_is_refused_everywhere():
    one = np.full((2, 3), 0.5)
    for loss in (mse_loss, l1_loss, huber_loss, smooth_l1_loss, binary_cross_entropy, binary_cross_entropy_with_logits):
        with pytest.raises(ValueError, match=f"{name(loss)} expected reduction .* mean, sum, none, got 'average'"):
            loss(one, one, reduction="average")
    for loss in (cross_entropy, nll_loss):
        with pytest.raises(ValueError, match=f"{name(loss)} expected reduction .* got 'batchmean'"):
            loss(one, [0, 1], reduction="batchmean")
    with pytest.raises(ValueError, match="kl_div expected reduction to be one of mean, sum, none, batchmean"):
        kl_div(one, one, reduction="max")
    for cls in (c for c in losses.__all__ if isinstance(getattr(losses, c), type)):
        with pytest.raises(ValueError, match=f"{cls} expected reduction .* got 'average'"):
            getattr(losses, cls)(reduction="average")


# -- modules ------------------------------------------------------------------------------------------------------

Q = spread(6, 4, stride=11)
MODULES = [
    (losses.MSELoss(), TARGETS, lambda x, t: mse_loss(x, t), "MSELoss(reduction='mean')"),
    (losses.L1Loss("sum"), TARGETS, lambda x, t: l1_loss(x, t, "sum"), "L1Loss(reduction='sum')"),
    (
        losses.HuberLoss(delta=0.1),
        TARGETS,
        lambda x, t: huber_loss(x, t, delta=0.1),
        "HuberLoss(reduction='mean', delta=0.1)",
    ),
    (
        losses.SmoothL1Loss(beta=0.1),
        TARGETS,
        lambda x, t: smooth_l1_loss(x, t, beta=0.1),
        "SmoothL1Loss(reduction='mean', beta=0.1)",
    ),
    (
        losses.CrossEntropyLoss(CLASS_WEIGHT, ignore_index=2, label_smoothing=0.1),
        LABELS,
        lambda x, t: cross_entropy(x, t, CLASS_WEIGHT, ignore_index=2, label_smoothing=0.1),
        "CrossEntropyLoss(ignore_index=2, reduction='mean', label_smoothing=0.1)",
    ),
    (
        losses.NLLLoss(CLASS_WEIGHT, 2, "sum"),
        LABELS,
        lambda x, t: nll_loss(x, t, CLASS_WEIGHT, 2, "sum"),
        "NLLLoss(ignore_index=2, reduction='sum')",
    ),
    (
        losses.BCEWithLogitsLoss(pos_weight=CLASS_WEIGHT),
        TARGETS,
        lambda x, t: binary_cross_entropy_with_logits(x, t, pos_weight=CLASS_WEIGHT),
        "BCEWithLogitsLoss(reduction='mean')",
    ),
    (
        losses.BCELoss(CLASS_WEIGHT, "sum"),
        TARGETS,
        lambda x, t: binary_cross_entropy(x, t, CLASS_WEIGHT, "sum"),
        "BCELoss(reduction='sum')",
    ),
    (
        losses.KLDivLoss("batchmean", log_target=True),
        TARGETS,
        lambda x, t: kl_div(x, t, "batchmean", True),
        "KLDivLoss(reduction='batchmean', log_target=True)",
    ),
]


@pytest.mark.parametrize(("module", "target", "function", "shown"), MODULES, ids=[shown for *_, shown in MODULES])
def test_a_module_is_its_function(module, target, function, shown):
    np.testing.assert_array_equal(module(Tensor(Q), target).data, function(Tensor(Q), target).data)
    assert repr(module) == shown


def test_weights_are_state_and_not_trained():
    module = losses.BCEWithLogitsLoss(weight=CLASS_WEIGHT, pos_weight=[3.0])
    assert list(module.state_dict()) == ["weight", "pos_weight"] and not list(module.parameters())
    assert losses.CrossEntropyLoss().state_dict() == {}


def test_everything_is_listed():
    classes = {n for n in losses.__all__ if isinstance(getattr(losses, n), type)}
    assert classes == {type(module).__name__ for module, *_ in MODULES}
    assert all(issubclass(getattr(losses, n), Module) for n in classes)


# -- images ------------------------------------------------------------------------------------------------------


def of_images(rng, classes):
    """Scores whose memory is (N, H, W, C), as a convolution leaves them, and a label for each pixel."""
    scores = np.moveaxis(numbers(rng, 3, 5, 7, classes), -1, 1)
    return scores, labels(rng, classes, 3, 5, 7)


@pytest.mark.parametrize("classes", [1, 4, 16, 17])  # short and long rows find their maximum in different ways
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 0}], ids=str)
def test_every_pixel_is_a_row(classes, options, rng):
    if classes == 1:
        options = {}
    scores, target = of_images(rng, classes)
    image, rows = Tensor(scores, True), Tensor(np.moveaxis(scores, 1, -1).reshape(-1, classes).copy(), True)
    y, expected = cross_entropy(image, target, **options), cross_entropy(rows, target.reshape(-1), **options)
    np.testing.assert_allclose(y.data, expected.data, rtol=1e-14)
    (dx,), (drows,) = y._backward(np.float64(1.5)), expected._backward(np.float64(1.5))
    np.testing.assert_allclose(np.moveaxis(dx, 1, -1).reshape(-1, classes), drows, rtol=1e-13, atol=1e-16)
    assert dx.strides == scores.strides


def test_pixels_as_probabilities_equal_labels_where_they_are_certain(rng):
    scores, target = of_images(rng, 4)
    certain = np.moveaxis(np.eye(4)[target], -1, 1)
    image, same = Tensor(scores, True), Tensor(scores, True)
    cross_entropy(image, target, reduction="none").backward(np.ones(target.shape))
    cross_entropy(same, certain, reduction="none").backward(np.ones(target.shape))
    np.testing.assert_allclose(same.grad, image.grad, rtol=1e-12, atol=1e-14)


def test_the_largest_score_may_be_anywhere_in_the_row():
    for classes in (3, 16, 17, 40):
        scores = np.full((classes, classes), -1e4, np.float32)
        np.fill_diagonal(scores, 1e4)
        assert cross_entropy(scores, np.arange(classes)).item() == 0
        assert cross_entropy(scores, np.roll(np.arange(classes), 1)).item() == pytest.approx(2e4)


def test_binary_cross_entropy_of_masks_keeps_channels_last_memory(rng):
    scores, mask = np.moveaxis(numbers(rng, 2, 5, 7, 3), -1, 1), np.moveaxis(chances(rng, 2, 5, 7, 3), -1, 1)
    x = Tensor(scores, True)
    y = binary_cross_entropy_with_logits(x, mask)
    (dx, *_) = y._backward(np.float64(1))
    same = 8 * np.finfo(float).eps / mask.size  # σ(x) and t, both at most 1, cancel where they are near each other
    np.testing.assert_allclose(dx, (1 / (1 + np.exp(-scores)) - mask) / mask.size, rtol=1e-12, atol=same)
    assert dx.strides == scores.strides


# -- scores that are not finite -----------------------------------------------------------------------------------

INF, NAN = math.inf, math.nan
SCORES = np.array(
    [[-INF, 1, 2], [-INF, 0.5, 0.1], [NAN, 1, 2], [INF, 1, 2], [-INF, -INF, -INF], [0, 1, 2]], np.float32
)
KEPT = [0, 5]
IGNORING = np.array([1, -100, -100, -100, -100, 2])
# value of each position and gradients of rows 0 and 5 by PyTorch 2.13, whose ignored rows of NaN have NaN gradients
ROW_0, ROW_5 = [0, -0.7310585975646973, 0.7310585975646973], [0.0900305807, 0.2447284907, -0.334758997]
NOT_FINITE = {
    "plain": ({}, [1.31326162815094, 0.40760594606399536], [ROW_0, ROW_5], 2),
    "weight 0 of the forbidden class": (
        {"weight": np.array([0, 1, 2], np.float32)}, [1.31326162815094, 0.8152118921279907],
        [ROW_0, [0.1800611615, 0.4894569814, -0.669517994]], 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("case", NOT_FINITE)
@pytest.mark.parametrize("as_image", [False, True])
def test_an_ignored_row_may_hold_anything(case, reduction, as_image):
    options, each, gradients, count = NOT_FINITE[case]
    scores, labels = (SCORES.T[None], IGNORING[None]) if as_image else (SCORES, IGNORING)
    x = Tensor(scores.copy(), requires_grad=True)
    y = cross_entropy(x, labels, reduction=reduction, **options)
    y.backward(np.ones_like(y.data))
    expected = np.zeros(6)
    expected[KEPT] = each
    right = {"none": expected, "sum": expected.sum(), "mean": expected.sum() / count}[reduction]
    np.testing.assert_allclose(y.data.reshape(np.shape(right)), right, rtol=1e-6)
    dx = np.zeros((6, 3))
    dx[KEPT] = gradients
    came = x.grad[0].T if as_image else x.grad
    np.testing.assert_allclose(came, dx / (count if reduction == "mean" else 1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, np.array([1, 1, 2], np.float32)])
def test_an_ignored_row_may_hold_anything_with_label_smoothing(reduction, weight):
    """As if the row were not there; PyTorch 2.13's values for the rows that count: 0.5076059, 0.8740257."""
    kept = np.array([[0, 1, 2]], np.float32)
    results = []
    for scores, labels in ((SCORES[1:], IGNORING[1:]), (kept, np.array([2]))):
        x = Tensor(scores.copy(), requires_grad=True)
        y = cross_entropy(x, labels, weight, reduction=reduction, label_smoothing=0.1)
        y.backward(np.ones_like(y.data))
        results.append((y.data, x.grad))
    (y, dx), (right, gradient) = results
    np.testing.assert_allclose(np.atleast_1d(y)[-1], np.ravel(right)[0], rtol=1e-6)
    np.testing.assert_allclose(dx, [*np.zeros((4, 3)), gradient[0]], rtol=1e-6)
    if weight is None:
        np.testing.assert_allclose(np.ravel(right)[0], 0.5076059103, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_an_ignored_row_may_hold_anything_in_nll_loss(reduction):
    x = Tensor(SCORES.copy(), requires_grad=True)
    y = nll_loss(x, IGNORING, reduction=reduction)
    y.backward(np.ones_like(y.data))
    each, dx = np.array([-1.0, 0, 0, 0, 0, -2]), np.zeros((6, 3))
    dx[0, 1] = dx[5, 2] = -1
    np.testing.assert_array_equal(y.data, {"none": each, "sum": -3, "mean": -1.5}[reduction])
    np.testing.assert_array_equal(x.grad, dx / (2 if reduction == "mean" else 1))


def test_a_class_of_probability_0_on_both_sides_counts_nothing():
    """The limit of q ln p; PyTorch's value is NaN there, its gradients are these."""
    x = Tensor(SCORES[:2].copy(), requires_grad=True)
    y = cross_entropy(x, np.array([[0, 1, 0], [0, 0.5, 0.5]], np.float32), reduction="none")
    y.sum().backward()
    np.testing.assert_allclose(y.data, [1.3132616, 0.7130153], rtol=1e-6)
    np.testing.assert_allclose(x.grad, [ROW_0, [0, 0.0986876488, -0.0986876488]], rtol=1e-6, atol=1e-7)
    possible = cross_entropy(Tensor(SCORES[:1]), np.array([[0.1, 0.9, 0]], np.float32))
    assert possible.item() == INF


@pytest.mark.parametrize("log_target", [False, True])
def test_a_target_of_0_counts_nothing_in_kl_div_whatever_the_input_is(log_target):
    t = np.array([0, 1, 0, 0.5, 0], np.float32)
    with np.errstate(divide="ignore"):
        target = Tensor(np.log(t) if log_target else t, requires_grad=log_target)
    x = Tensor(np.array([-INF, -INF, 0, -1, NAN], np.float32), requires_grad=True)
    y = kl_div(x, target, reduction="none", log_target=log_target)
    y.backward(np.ones_like(y.data))
    np.testing.assert_allclose(y.data, [0, INF, 0, 0.1534264087677002, 0], rtol=1e-6)
    np.testing.assert_allclose(x.grad, [0, -1, 0, -0.5, 0])
    if log_target:
        np.testing.assert_allclose(target.grad, [0, INF, 0, 0.6534264, 0], rtol=1e-6)


def test_labels_may_be_overwritten_before_backward():
    for loss in (cross_entropy, nll_loss):
        x, labels = Tensor(np.zeros((2, 3), np.float32), requires_grad=True), np.array([0, 1])
        y = loss(x, labels, reduction="sum")
        labels[:] = 2
        y.backward()
        assert (x.grad[[0, 1], [0, 1]] < 0).all() and (x.grad[:, 2] >= 0).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_smoothed_and_weighted_cross_entropy_by_its_definition(soft, weighted, rng):
    """−Σ_c w_c ((1 − s) q_c + s / C) log p_c, of labels with q one-hot; the mean of labels divides by Σ w_y."""
    s, C, x = 0.3, 4, rng.standard_normal((3, 4))
    w = np.array([0.5, 2.0, 1.5, 3.0]) if weighted else np.ones(4)
    labels = np.array([2, 0, 3])
    q = rng.dirichlet(np.ones(4), 3) if soft else np.eye(4)[labels]
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    p, smooth = np.exp(log_p), w * ((1 - s) * q + s / C)
    each, slope = -(smooth * log_p).sum(axis=1), smooth.sum(axis=1, keepdims=True) * p - smooth
    for reduction, share in (("sum", 1.0), ("mean", 1 / (3 if soft else w[labels].sum()))):
        logits = Tensor(x, requires_grad=True)
        loss = cross_entropy(logits, q if soft else labels, weight=w if weighted else None, label_smoothing=s,
                             reduction=reduction)  # fmt: skip
        loss.backward()
        np.testing.assert_allclose(loss.item(), share * each.sum(), rtol=1e-12)
        np.testing.assert_allclose(logits.grad, share * slope, rtol=1e-10, atol=1e-14)


def test_smooth_l1_of_another_beta_is_scaled_and_huber_is_not():
    """x² / (2 β) up to β and |x| − β/2 beyond; Huber is β times that."""
    x = np.array([0.1, -0.25, 1.5, -3.0])
    expected = [0.02, 0.125, 1.375, 2.875]
    np.testing.assert_allclose(losses.smooth_l1_loss(x, np.zeros(4), "none", 0.25).data, expected, rtol=1e-14)
    huber = losses.huber_loss(x, np.zeros(4), "none", 0.25).data
    np.testing.assert_allclose(huber, 0.25 * np.array(expected), rtol=1e-14)
    logits = Tensor(x, requires_grad=True)
    losses.smooth_l1_loss(logits, np.zeros(4), "sum", 0.25).backward()
    np.testing.assert_allclose(logits.grad, [0.4, -1, 1, -1], rtol=1e-14)
