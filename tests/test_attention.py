"""Attention: every telling against the definition, against finite differences, and against a twin of primitives."""

import inspect
import textwrap
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from scratch import Tensor, gradcheck, manual_seed
from scratch.activations import gelu, relu, softmax
from scratch.layers import (
    LayerNorm,
    MultiheadAttention,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    attention_weights,
    blocked_attention,
    causal_mask,
    dropout,
    merge_heads,
    packed_attention,
    scaled_dot_product_attention,
    split_heads,
)
from scratch.layers.attention import blocked, fused, packed, plain
from scratch.layers.attention.masks import causal_bias
from scratch.random import stream

INF = np.inf
SEEN = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], bool)  # (T, S); query 1 sees nothing


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@dataclass(frozen=True)
class Setting:
    """Shapes of query, key and value, and arguments; sizes differ wherever they may."""

    q: tuple
    k: tuple
    v: tuple
    mask: np.ndarray | None = None
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def inputs(self):
        return draw(*self.q), draw(*self.k, seed=1), draw(*self.v, seed=2)

    def options(self):
        return {"is_causal": self.is_causal, "scale": self.scale, "enable_gqa": self.enable_gqa}

    def bias(self):
        """What is added to all scores."""
        shape = (*self.q[:-1], self.k[-2])
        mask = np.tri(*shape[-2:], dtype=bool) if self.is_causal else self.mask
        if mask is None:
            return np.zeros(shape)
        return np.array(np.broadcast_to(np.where(mask, 0, -INF) if mask.dtype == bool else mask, shape))


Q, K, V = (2, 4, 3, 6), (2, 4, 5, 6), (2, 4, 5, 7)
SETTINGS = {
    "plain": Setting(Q, K, V),
    "matrices": Setting((3, 6), (5, 6), (5, 2)),
    "scale": Setting((3, 3, 2), (3, 1, 2), (3, 1, 4), scale=-1.7),
    "causal": Setting((2, 5, 3), (2, 5, 3), (2, 5, 4), is_causal=True),
    "causal, more keys": Setting(Q, K, V, is_causal=True),
    "causal, fewer keys": Setting((2, 5, 3), (2, 3, 3), (2, 3, 4), is_causal=True),
    "bool mask": Setting(Q, K, V, SEEN),
    "padding": Setting(Q, K, V, np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)[:, None, None, :]),
    "float mask of heads": Setting(Q, K, V, draw(4, 1, 5)),
    "float mask with -inf": Setting(Q, K, V, np.where(SEEN, draw(3, 5), -INF)),
    "mask of keys": Setting((3, 6), (5, 6), (5, 2), SEEN[0]),
    "float mask of queries": Setting(Q, K, V, draw(4, 3, 1)),
    "two by two, masked": Setting((2, 2, 6), (2, 2, 6), (2, 2, 3), np.array([[1, 0], [0, 1]], bool)),
    "float mask of all": Setting(Q, K, V, draw(2, 4, 3, 5)),
    "grouped heads": Setting(Q, (2, 2, 5, 6), (2, 2, 5, 3), enable_gqa=True),
    "one key head, mask": Setting((3, 3, 4), (1, 5, 4), (1, 5, 2), SEEN, enable_gqa=True),
    "grouped, mask of heads": Setting(Q, (2, 2, 5, 6), (2, 2, 5, 7), draw(4, 3, 5), enable_gqa=True),
    "grouped, causal": Setting(Q, (2, 1, 5, 6), (2, 1, 5, 7), is_causal=True, enable_gqa=True),
    "no keys": Setting((2, 3, 4), (2, 0, 4), (2, 0, 5)),
    "no queries": Setting((2, 0, 4), (2, 3, 4), (2, 3, 5)),
}
every_setting = pytest.mark.parametrize("s", SETTINGS.values(), ids=SETTINGS)


def run(function, arrays, dy, **options):
    """Value and gradients of everything in `arrays`."""
    tensors = [Tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]
    with np.errstate(all="raise", under="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        y = function(*tensors, **options)
        y.backward(dy)
    return [y.data, *(t.grad for t in tensors if t.requires_grad)]


def by_definition(s, dy):
    q, k, v = s.inputs()
    group = q.shape[-3] // k.shape[-3] if s.enable_gqa else 1
    many_k, many_v = (np.repeat(x, group, axis=-3) if group > 1 else x for x in (k, v))
    scale = q.shape[-1] ** -0.5 if s.scale is None else s.scale
    y = plain.attend(q, many_k, many_v, s.bias(), scale)
    dq, dk, dv, ds = plain.gradients(dy, q, many_k, many_v, s.bias(), scale)
    dk, dv = (dx.reshape(*x.shape[:-2], group, *x.shape[-2:]).sum(-3) for dx, x in ((dk, k), (dv, v)))
    found = [y, dq, dk, dv]
    if s.mask is not None and s.mask.dtype != bool:
        extra = ds.ndim - s.mask.ndim
        ds = ds.sum(axis=tuple(range(extra)))
        found.append(ds.sum(axis=tuple(i for i, n in enumerate(s.mask.shape) if n == 1), keepdims=True))
    return found


def upstream(s):
    return draw(*s.q[:-1], s.v[-1], seed=3)


def equal(came, expected, tolerance=1e-12):
    assert len(came) == len(expected)
    for one, other in zip(came, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def fused_is_right(s):
    masks = () if s.mask is None else (s.mask,)
    came = run(scaled_dot_product_attention, (*s.inputs(), *masks), upstream(s), **s.options())
    equal(came, by_definition(s, upstream(s)))


def blocked_is_right(s, block_size=2):
    expected = by_definition(s, upstream(s))[:4]
    mask = None if s.mask is None else s.mask
    came = run(
        lambda *t: blocked_attention(*t, attn_mask=mask, block_size=block_size, **s.options()), s.inputs(), upstream(s)
    )
    equal(came, expected)


# -- the operation ---------------------------------------------------------------------------------------------------


@every_setting
def test_it_is_the_definition_and_nothing_warns(s):
    fused_is_right(s)


@every_setting
def test_gradients_equal_finite_differences(s):
    masks = () if s.mask is None else (s.mask,)
    if not any(np.isneginf(m).any() for m in masks if m.dtype != bool):
        gradcheck(lambda *t: scaled_dot_product_attention(*t, **s.options()), (*s.inputs(), *masks))


@pytest.mark.parametrize("name", ["plain", "causal", "bool mask", "float mask of heads", "grouped, mask of heads"])
def test_with_dropout_too(name):
    s = SETTINGS[name]
    masks = () if s.mask is None else (s.mask,)

    def noisy(*tensors):
        with stream(seed=3, step=1):
            return scaled_dot_product_attention(*tensors, dropout_p=0.4, **s.options())

    gradcheck(noisy, (*s.inputs(), *masks))


def twin(q, k, v, mask=None, dropout_p=0.0):
    """The formula in primitives."""
    scores = (q @ k.swapaxes(-1, -2)) * (1 / q.shape[-1] ** 0.5)
    return dropout(softmax(scores if mask is None else scores + mask, -1), dropout_p) @ v


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("mask", [None, draw(4, 1, 5)], ids=["unmasked", "masked"])
def test_it_is_its_twin_of_primitives(p, mask):
    s = SETTINGS["plain"]
    arrays = s.inputs() if mask is None else (*s.inputs(), mask)
    results = []
    for function in (scaled_dot_product_attention, twin):
        with stream(seed=5, step=0):
            results.append(run(function, arrays, upstream(s), dropout_p=p))
    equal(*results)


def test_dropout_holds_whenever_it_is_passed_keeps_the_mean_and_follows_the_stream():
    q, k, v = (Tensor(draw(1, 1, 300, 4, seed=i) * 0.1) for i in range(3))
    values = Tensor(np.ones((1, 1, 300, 1)))
    drawn = []
    for step in (0, 0, 1):
        with stream(seed=1, step=step):
            drawn.append(scaled_dot_product_attention(q, k, values, dropout_p=0.3).data)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    assert abs(drawn[0].mean() - 1) < 4 * (0.3 / 0.7 / 300 / 300) ** 0.5 * 1.1
    assert not scaled_dot_product_attention(q, k, v, dropout_p=1.0).data.any()


def test_a_query_that_may_see_nothing_gives_zeros_and_sends_no_gradient():
    s = SETTINGS["bool mask"]
    dy = np.zeros_like(upstream(s))
    dy[..., 1, :] = 5
    for function in (scaled_dot_product_attention, blocked_attention):
        y, dq, dk, dv = run(lambda *t, f=function: f(*t, attn_mask=SEEN), s.inputs(), dy)
        assert not y[..., 1, :].any() and y[..., [0, 2], :].all()
        assert not dq.any() and not dk.any() and not dv.any()
    q, k, _ = s.inputs()
    weights = attention_weights(Tensor(q), Tensor(k), SEEN).data
    np.testing.assert_allclose(weights.sum(-1), np.broadcast_to([1.0, 0.0, 1.0], (2, 4, 3)), rtol=1e-14)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("function", [scaled_dot_product_attention, blocked_attention])
def test_scores_of_any_size_neither_overflow_nor_lose_a_row(function, shift):
    """One row lies 10,000 below the others: with one maximum for all, its sum would be 0."""
    q, k, v = (draw(2, n, 4, seed=i) for i, n in enumerate((3, 5, 5)))
    q[:, 1] = 0
    mask = draw(3, 5)
    expected = by_definition(Setting(q.shape, k.shape, v.shape, mask), np.ones((2, 3, 4)))
    del expected
    moved = mask + shift * np.array([[1.0], [0.0], [2.0]])
    came, level = (run(lambda *t, m=m: function(*t, attn_mask=m), (q, k, v), draw(2, 3, 4)) for m in (moved, mask))
    equal(came, level, 1e-9)
    large = function(Tensor(1e3 * q), Tensor(1e3 * k), Tensor(v)).data
    best = (q @ k.swapaxes(-1, -2))[:, [0, 2]].argmax(-1)
    np.testing.assert_allclose(large[:, [0, 2]], np.take_along_axis(v, best[..., None], 1), rtol=1e-9)


@pytest.mark.parametrize("bias", [None, -abs(draw(4, 1, 5)), 5 + draw(4, 1, 5)], ids=["none", "below 0", "above 0"])
def test_one_bound_serves_all_rows_until_one_lies_far_below(bias):
    """Ordinary scores are computed once, and their exponentials are at most 1."""
    q, k, _ = SETTINGS["plain"].inputs()
    scores = q @ k.swapaxes(-1, -2)
    bound = scores.max() * 0.3 + max(0.0, 0.0 if bias is None else bias.max())
    scores = 0.3 * scores + (0 if bias is None else bias)
    _, E, n = fused.exponentials(q, k, bias, 0.3)
    np.testing.assert_allclose(E, np.exp(scores - bound), rtol=1e-12)
    np.testing.assert_allclose(n, E.sum(-1, keepdims=True), rtol=1e-12)
    q[0, 1, 2] = 0
    far = np.zeros((3, 1))
    far[2] = -30
    _, E, n = fused.exponentials(q, k, far, 0.3)
    scores = 0.3 * (q @ k.swapaxes(-1, -2)) + far
    np.testing.assert_allclose(E, np.exp(scores - scores.max(-1, keepdims=True)), rtol=1e-12)
    np.testing.assert_allclose(n, E.sum(-1, keepdims=True), rtol=1e-12)


def test_float32_stays_float32_and_near_float64():
    q, k, v = (draw(2, 4, 33, 8, seed=i) for i in range(3))
    dy = draw(2, 4, 33, 8, seed=4)
    low = run(scaled_dot_product_attention, [x.astype(np.float32) for x in (q, k, v)], dy, is_causal=True)
    high = run(scaled_dot_product_attention, (q, k, v), dy, is_causal=True)
    assert {x.dtype for x in low} == {np.dtype(np.float32)}
    for one, other in zip(low, high, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=3e-6)


def test_the_causal_mask_is_that_of_its_place():
    np.testing.assert_array_equal(causal_mask(3), [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(causal_mask(2, 5, offset=3), [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    with pytest.raises(ValueError, match="read-only"):
        causal_bias(3, 3, np.dtype(np.float32))[0, 0] = 1  # shared by all calls


def test_a_frozen_input_costs_no_gradient():
    q, k, v = (Tensor(x, requires_grad=i == 1) for i, x in enumerate(SETTINGS["plain"].inputs()))
    y = scaled_dot_product_attention(q, k, v)
    assert [dx is None for dx in y._backward(upstream(SETTINGS["plain"]))] == [True, False, True]


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "causal", "padding", "float mask of heads", "grouped, mask of heads"])
def test_the_weights_are_what_values_are_weighed_with(name):
    s = SETTINGS[name]
    q, k, v = s.inputs()
    masks = () if s.mask is None else (s.mask,)
    weights = attention_weights(Tensor(q), Tensor(k), *masks, **s.options()).data
    group = q.shape[-3] // k.shape[-3] if s.enable_gqa else 1
    y = scaled_dot_product_attention(q, k, v, *masks, **s.options()).data
    np.testing.assert_allclose(weights @ np.repeat(v, group, axis=-3), y, rtol=1e-12, atol=1e-13)
    gradcheck(lambda *t: attention_weights(*t, **s.options()), (q, k, *masks))


# -- packed ----------------------------------------------------------------------------------------------------------


def cut(array, count, heads):
    """(B, T, count · C) as `count` arrays (B, nh, T, hd)."""
    B, T, width = array.shape
    return np.moveaxis(array.reshape(B, T, count, heads, width // count // heads), (2, 3), (0, 2))


@pytest.mark.parametrize("widths", [(3,), (1, 2), (1, 1, 1)])
@pytest.mark.parametrize("options", [
    {}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": draw(2, 3, 1, 5) > 0}, {"dropout_p": 0.4},
], ids=["plain", "causal", "scale", "mask", "dropout"])  # fmt: skip
def test_packed_is_the_same_between_projections(widths, options):
    C, heads, S = 6, 3, 5
    T = 5 if widths == (3,) else 4
    arrays = [draw(2, T if i == 0 else S, C * width, seed=i) for i, width in enumerate(widths)]
    separate = [x for array, width in zip(arrays, widths, strict=True) for x in cut(array, width, heads)]
    dy = draw(2, T, C, seed=9)
    with stream(seed=2, step=2):
        y, *came = run(lambda *t: packed_attention(*t, num_heads=heads, **options), arrays, dy)
    with stream(seed=2, step=2):
        expected = run(
            lambda *t: scaled_dot_product_attention(*t, **options), separate, cut(dy, 1, heads)[0]
        )
    assert y.flags.c_contiguous
    equal([cut(y, 1, heads)[0], *(x for dx, w in zip(came, widths, strict=True) for x in cut(dx, w, heads))], expected)


@pytest.mark.parametrize("trained", [(True, False), (False, True)])
def test_a_frozen_part_of_packed_attention_gets_no_gradient_and_changes_no_others(trained):
    arrays, dy = (draw(2, 4, 6), draw(2, 5, 12)), draw(2, 4, 6, seed=1)
    _, *expected = run(lambda *t: packed_attention(*t, num_heads=3), arrays, dy)
    tensors = [Tensor(array, requires_grad=each) for array, each in zip(arrays, trained, strict=True)]
    packed_attention(*tensors, num_heads=3).backward(dy)
    for tensor, right in zip(tensors, expected, strict=True):
        assert (tensor.grad is not None) == tensor.requires_grad
        assert tensor.grad is None or np.allclose(tensor.grad, right, rtol=1e-12)


def packed_is_right():
    test_packed_is_the_same_between_projections((1, 2), {})


def test_a_packed_mask_receives_its_gradient():
    gradcheck(
        lambda qkv, mask: packed_attention(qkv, num_heads=2, attn_mask=mask), (draw(2, 3, 12), draw(2, 1, 3))
    )


# -- blocked ---------------------------------------------------------------------------------------------------------


@every_setting
@pytest.mark.parametrize("block_size", [1, 2, 3, 100])
def test_blocked_is_the_definition(s, block_size):
    blocked_is_right(s, block_size)


def test_blocked_gradients_equal_finite_differences():
    s = SETTINGS["grouped, causal"]
    gradcheck(lambda *t: blocked_attention(*t, block_size=2, **s.options()), s.inputs())


def test_blocked_equals_fused_over_many_blocks():
    arrays, dy = [draw(2, 150, 8, seed=i) for i in range(3)], draw(2, 150, 8, seed=5)
    for options in ({}, {"is_causal": True}):
        equal(run(blocked_attention, arrays, dy, block_size=32, **options),
              run(scaled_dot_product_attention, arrays, dy, **options))  # fmt: skip


def test_blocked_never_looks_at_blocks_in_the_future(monkeypatch):
    seen = []
    inner = blocked._Blocks.scores
    monkeypatch.setattr(
        blocked._Blocks, "scores", lambda self, r, k, i, j: seen.append((i.start, j.start)) or inner(self, r, k, i, j)
    )
    blocked_attention(draw(6, 2), draw(6, 2), draw(6, 2), is_causal=True, block_size=2)
    assert seen == [(0, 0), (2, 0), (2, 2), (4, 0), (4, 2), (4, 4)]


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shapes", "options", "complaint"), [
    (((3,), (5, 4), (5, 4)), {}, r"expected query \(\.\.\., nh, T, hd\)"),
    (((2, 3, 4), (5, 4), (5, 4)), {}, r"expected query .*got query \(2, 3, 4\), key \(5, 4\)"),
    (((3, 4), (5, 3), (5, 4)), {}, "one head size"),
    (((3, 4), (5, 4), (6, 4)), {}, "one length S"),
    (((2, 3, 4), (3, 5, 4), (3, 5, 4)), {}, "the same batch and heads"),
    (((4, 3, 4), (2, 5, 4), (2, 5, 4)), {}, "or enable_gqa"),
    (((4, 3, 4), (3, 5, 4), (3, 5, 4)), {"enable_gqa": True}, "must be a multiple of key's"),
    (((4, 3, 4), (2, 5, 4), (4, 5, 4)), {"enable_gqa": True}, "must be a multiple of key's"),
    (((3, 4), (5, 4), (5, 4)), {"attn_mask": np.ones((5, 3), bool)}, r"attn_mask to broadcast to .*\(3, 5\), got"),
    (((3, 4), (5, 4), (5, 4)), {"attn_mask": np.ones((2, 3, 5), bool)}, r"shape \(3, 5\), got \(2, 3, 5\)"),
    (((3, 4), (5, 4), (5, 4)), {"attn_mask": np.ones((3, 5), int)}, "of bool or floating-point numbers, got dtype int"),
    (((3, 4), (5, 4), (5, 4)), {"attn_mask": np.ones((3, 5), bool), "is_causal": True}, "not both"),
    (((3, 4), (5, 4), (5, 4)), {"dropout_p": 1.5}, "a probability from 0 to 1, got 1.5"),
])  # fmt: skip
def test_what_does_not_fit_is_named(shapes, options, complaint):
    arrays = [draw(*shape) for shape in shapes]
    with pytest.raises(ValueError, match=f"scaled_dot_product_attention.*{complaint}"):
        scaled_dot_product_attention(*arrays, **options)
    if "dropout_p" not in options:
        with pytest.raises(ValueError, match=f"blocked_attention.*{complaint}"):
            blocked_attention(*arrays, **options)


def test_mixed_dtypes_and_a_blocked_masks_gradient_are_refused():
    x = draw(3, 4)
    with pytest.raises(ValueError, match="one dtype, got float64, float32 and float64"):
        scaled_dot_product_attention(x, x.astype(np.float32), x)
    with pytest.raises(ValueError, match="mask's gradient would be T x S"):
        blocked_attention(x, x, x, Tensor(draw(3, 3), requires_grad=True))
    with pytest.raises(ValueError, match="block_size of at least 1, got 0"):
        blocked_attention(x, x, x, block_size=0)


@pytest.mark.parametrize(("shapes", "heads"), [
    (((3, 6),), 1), (((2, 3, 7),), 1), (((2, 3, 6),), 4), (((2, 3, 6),), 0), (((2, 3, 4), (2, 3, 4)), 2),
    (((2, 3, 4),) * 4, 2), ((), 2),
])  # fmt: skip
def test_packed_says_which_widths_it_expected(shapes, heads):
    with pytest.raises(ValueError, match="packed_attention expected"):
        packed_attention(*(draw(*shape) for shape in shapes), num_heads=heads)


def test_packed_names_itself_in_what_the_operation_refuses():
    q, kv = draw(2, 3, 4), draw(3, 3, 8)
    with pytest.raises(ValueError, match="packed_attention: query, key and value need the same batch and heads"):
        packed_attention(q, kv, num_heads=2)
    with pytest.raises(ValueError, match="packed_attention expected .*a probability from 0 to 1, got 1.5"):
        packed_attention(q, kv[:2], num_heads=2, dropout_p=1.5)


def test_the_definition_too_stands_large_scores():
    keys = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = plain.weights(np.array([5e3, -5e3]), keys, np.array([0.0, 0.0, 5e3]), 1.0)
    np.testing.assert_allclose(found, [0.5, 0, 0.5], rtol=1e-12)


# -- MultiheadAttention and the layers -------------------------------------------------------------------------------


def multihead(**options):
    manual_seed(0)
    return MultiheadAttention(6, 2, batch_first=True, **options).to(np.float64)


def randomized(layer):
    layer.to(np.float64)
    for i, parameter in enumerate(layer.parameters()):  # biases too, which start at 0
        parameter.data[...] = draw(*parameter.shape, seed=i)
    return layer


def random_multihead(**options):
    return randomized(multihead(**options))


def by_formula(layer, query, key, value, bias):
    """Y = Concat(head_i) W_Oᵀ + b, head_i = softmax(Q K_iᵀ / √hd + bias) V_i, and the weights of all heads."""
    state, C, nh = {k: p.data for k, p in layer.named_parameters()}, layer.embed_dim, layer.num_heads
    hd, heads, weights = C // nh, [], []
    W = np.split(state["in_proj_weight"], 3) if layer.same else [state[f"{name}_proj_weight"] for name in "qkv"]
    b_in = np.split(state.get("in_proj_bias", np.zeros(3 * C)), 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), W, b_in, strict=True))
    for i in range(nh):
        own = slice(i * hd, (i + 1) * hd)
        scores = q[..., own] @ k[..., own].swapaxes(1, 2) / hd**0.5 + bias[:, i]
        weights.append(np.exp(scores) / np.exp(scores).sum(-1, keepdims=True))
        heads.append(weights[-1] @ v[..., own])
    y = np.concatenate(heads, axis=-1) @ state["out_proj.weight"].T + state.get("out_proj.bias", 0)
    return y, np.stack(weights, axis=1)


MASKS = {
    "no": None, "bool": np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool),
    "float": draw(4, 5), "bool of heads": draw(4, 4, 5) > 0.8, "float of heads": draw(4, 4, 5), "causal": "causal",
    "causal twice": ~causal_mask(4, 5),
}  # fmt: skip
PADDINGS = {"no": None, "bool": np.array([[0, 0, 0, 0, 1], [0, 1, 0, 0, 0]], bool), "float": draw(2, 5)}


def summed(mask, is_causal, padding):
    """What both masks add to the scores (B, nh, T, S)."""
    bias = np.zeros((2, 2, 4, 5))
    for each in (mask, ~causal_mask(4, 5) if is_causal else None, None if padding is None else padding[:, None, None]):
        if each is not None:
            added = np.where(each, -INF, 0) if each.dtype == bool else each
            bias = bias + (added.reshape(2, 2, 4, 5) if added.shape == (4, 4, 5) else added)
    return bias


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_multihead_attention_is_its_formula_under_all_masks(mask, padding):
    layer, x, memory = random_multihead(), draw(2, 4, 6), draw(2, 5, 6, seed=1)
    is_causal, given, pad = mask.startswith("causal"), MASKS[mask], PADDINGS[padding]
    given = None if mask == "causal" else given
    y, weights = by_formula(layer, x, memory, memory, summed(given, is_causal, pad))
    key = Tensor(memory)
    masks = {"key_padding_mask": pad, "attn_mask": given, "is_causal": is_causal}
    came, shown = layer(x, key, key, average_attn_weights=False, **masks)
    np.testing.assert_allclose(came.data, y, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(shown.data, weights, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(layer(x, key, key, need_weights=False, **masks)[0].data, y, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 3, "vdim": 5}, {"kdim": 6, "vdim": 5}])
@pytest.mark.parametrize("need_weights", [True, False])
def test_each_projection_has_its_rows_whichever_inputs_are_one(options, need_weights):
    layer = random_multihead(**options)
    q, k, v = (Tensor(draw(2, 4, width, seed=i)) for i, width in enumerate((6, layer.kdim, layer.vdim)))
    inputs = [(q, k, v), (q, q, q), (q, k, k), (q, q, v), (q, k, q)] if layer.same else [(q, k, v)]
    for each in inputs:
        y, weights = by_formula(layer, *(x.data for x in each), np.zeros((2, 2, 1, 1)))
        came, shown = layer(*each, need_weights=need_weights)
        np.testing.assert_allclose(came.data, y, rtol=1e-11, atol=1e-12)
        assert (shown is None) != need_weights
        assert shown is None or np.allclose(shown.data, weights.mean(axis=1), rtol=1e-11)


def test_without_a_batch_and_with_the_batch_in_the_middle_it_is_the_same():
    layer, x, memory = random_multihead(), Tensor(draw(2, 4, 6)), Tensor(draw(2, 5, 6, seed=1))
    padding = PADDINGS["bool"]
    y, weights = layer(x, memory, memory, padding)
    _, each = layer(x, memory, memory, padding, average_attn_weights=False)
    layer.batch_first = False
    along, same = layer(x.swapaxes(0, 1), *[memory.swapaxes(0, 1)] * 2, padding)
    np.testing.assert_allclose(along.data.swapaxes(0, 1), y.data, rtol=1e-12)
    np.testing.assert_allclose(same.data, weights.data, rtol=1e-12)
    for batch_first in (True, False):
        layer.batch_first = batch_first
        for b in range(2):
            alone, own = layer(x[b], memory[b], memory[b], padding[b])
            np.testing.assert_allclose(alone.data, y.data[b], rtol=1e-12)
            np.testing.assert_allclose(own.data, weights.data[b], rtol=1e-12)
            own = layer(x[b], memory[b], memory[b], padding[b], average_attn_weights=False)[1]
            np.testing.assert_allclose(own.data, each.data[b], rtol=1e-12)
            none = layer(x[b], memory[b], memory[b], padding[b], need_weights=False)
            np.testing.assert_allclose(none[0].data, y.data[b], rtol=1e-12)
            assert none[1] is None


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize(("name", "activation"), [("relu", relu), ("gelu", gelu)])
def test_layers_are_sums_of_their_parts_normed_before_or_after(norm_first, name, activation):
    options = {"dropout": 0.0, "activation": name, "batch_first": True, "norm_first": norm_first}
    encoder = randomized(TransformerEncoderLayer(6, 2, 7, **options))
    decoder = randomized(TransformerDecoderLayer(6, 2, 7, **options))
    x, memory = Tensor(draw(2, 4, 6)), Tensor(draw(2, 5, 6, seed=1))
    hidden, pad, other = ~causal_mask(4), PADDINGS["bool"], MASKS["bool"]

    def added(y, norm, f):
        return y + f(norm(y)) if norm_first else norm(y + f(y))

    def feed_forward(layer):
        return lambda y: layer.linear2(activation(layer.linear1(y)))

    for y in (x, x[0]):
        expected = added(y, encoder.norm1, lambda y: encoder.self_attn(y, y, y, attn_mask=hidden)[0])
        expected = added(expected, encoder.norm2, feed_forward(encoder))
        np.testing.assert_allclose(encoder(y, hidden).data, expected.data, rtol=1e-11, atol=1e-12)
    expected = added(x, decoder.norm1, lambda y: decoder.self_attn(y, y, y, is_causal=True)[0])
    cross = lambda y: decoder.multihead_attn(y, memory, memory, pad, attn_mask=other)[0]  # noqa: E731
    expected = added(added(expected, decoder.norm2, cross), decoder.norm3, feed_forward(decoder))
    came = decoder(x, memory, memory_mask=other, memory_key_padding_mask=pad, tgt_is_causal=True)
    np.testing.assert_allclose(came.data, expected.data, rtol=1e-11, atol=1e-12)


def test_a_float_mask_that_says_causal_receives_its_gradient_beside_padding():
    layer, x = random_multihead(), Tensor(draw(2, 4, 6))
    mask = Tensor(np.where(causal_mask(4), 0, -INF), requires_grad=True)
    layer(x, x, x, np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool), attn_mask=mask, is_causal=True)[0].sum().backward()
    assert mask.grad[1:, 0].all()


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_falls_on_the_weights_while_training(need_weights):
    layer, x = random_multihead(dropout=0.5), Tensor(draw(2, 4, 6))
    y, weights = by_formula(layer, x.data, x.data, x.data, np.zeros((2, 2, 1, 1)))
    with stream(seed=1, step=0):
        dropped, shown = layer(x, x, x, need_weights=need_weights, average_attn_weights=False)
    assert (np.abs(dropped.data - y) > 1e-3).any()
    if need_weights:
        kept = shown.data != 0
        assert 0.3 < kept.mean() < 0.7
        np.testing.assert_allclose(shown.data[kept], 2 * weights[kept], rtol=1e-11)
    layer.eval()
    np.testing.assert_allclose(layer(x, x, x, need_weights=need_weights)[0].data, y, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_asking_for_weights_changes_no_output(training):
    layer, x, memory = multihead(dropout=0.4).train(training), Tensor(draw(2, 4, 6)), Tensor(draw(2, 5, 6))
    padding = np.array([[0, 0, 0, 0, 1], [0, 1, 1, 0, 0]], bool)
    for inputs in ((x, x, x), (x, memory, memory), (x, memory, Tensor(draw(2, 5, 6, seed=1)))):
        mask = padding if inputs[1] is not x else None
        with stream(seed=0, step=0):
            fast, nothing = layer(*inputs, mask, need_weights=False)
        with stream(seed=0, step=0):
            slow, weights = layer(*inputs, mask)
        with stream(seed=0, step=0):
            _, each = layer(*inputs, mask, average_attn_weights=False)
        np.testing.assert_allclose(fast.data, slow.data, rtol=1e-12, atol=1e-14)
        assert nothing is None and each.shape == (2, 2, 4, inputs[1].shape[1])
        np.testing.assert_allclose(weights.data, each.data.mean(axis=1), rtol=1e-14)
        assert mask is None or not weights.data.swapaxes(1, 2)[padding].any()


def test_initial_weights_are_xaviers_for_the_stack_and_biases_start_at_zero():
    layer = MultiheadAttention(64, 4)
    bound = (6 / (4 * 64)) ** 0.5
    assert 0.98 * bound < np.abs(layer.in_proj_weight.data).max() <= bound
    assert 0.95 / 8 < np.abs(layer.out_proj.weight.data).max() <= 1 / 8
    assert not layer.in_proj_bias.data.any() and not layer.out_proj.bias.data.any()


def test_causal_needs_no_mask_and_takes_only_one_that_says_the_same():
    layer, x = multihead(), Tensor(draw(2, 4, 6))
    hidden = ~causal_mask(4)
    expected = layer(x, x, x, attn_mask=hidden)[0].data
    for options in ({}, {"attn_mask": hidden}, {"attn_mask": np.where(hidden, -INF, 0)},
                    {"key_padding_mask": np.zeros((2, 4), bool)}):  # fmt: skip
        for need_weights in (True, False):
            came = layer(x, x, x, need_weights=need_weights, is_causal=True, **options)[0].data
            np.testing.assert_allclose(came, expected, rtol=1e-12)
    for wrong in (~hidden, draw(4, 4), np.repeat(hidden[None], 4, axis=0)):
        with pytest.raises(ValueError, match="beside an attn_mask that is not the causal mask"):
            layer(x, x, x, attn_mask=wrong, is_causal=True)


def test_no_position_depends_on_a_later_one_and_padding_on_nothing():
    layer = TransformerDecoderLayer(6, 2, 8, 0.0, batch_first=True, norm_first=True).to(np.float64)
    x, memory = draw(2, 5, 6), draw(2, 4, 6, seed=1)
    padding = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], bool)

    def call(x, memory):
        return layer(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True).data

    y, later, other = call(x, memory), x.copy(), memory.copy()
    later[:, 3:] += 1
    other[padding] += 1
    np.testing.assert_allclose(call(later, memory)[:, :3], y[:, :3], rtol=1e-12)
    assert (np.abs(call(later, memory)[:, 3:] - y[:, 3:]) > 1e-6).any(axis=-1).all()
    np.testing.assert_allclose(call(x, other), y, rtol=1e-12, atol=1e-14)
    other[~padding] += 1
    assert (np.abs(call(x, other) - y) > 1e-6).any(axis=-1).all()


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda: MultiheadAttention(6, 4), "a multiple of num_heads, got 6 and 4"),
    (lambda: MultiheadAttention(6, 0), "a multiple of num_heads, got 6 and 0"),
    (lambda: MultiheadAttention(6, 2, add_bias_kv=True), "add_bias_kv and add_zero_attn are not supported"),
    (lambda: MultiheadAttention(6, 2, add_zero_attn=True), "add_bias_kv and add_zero_attn are not supported"),
    (lambda: MultiheadAttention(6, 2, dropout=2), "a probability from 0 to 1, got 2"),
    (lambda: multihead()(draw(2, 4, 6), draw(3, 4, 6), draw(3, 4, 6)), "batches of query, key and value differ"),
    (lambda: MultiheadAttention(6, 2)(draw(4, 2, 6), draw(5, 3, 6), draw(5, 3, 6)), r"key and value differ in \(T, B"),
    (lambda: multihead()(draw(2, 4, 6), draw(2, 4, 6), draw(2, 5, 6)), "one batch and one length"),
    (lambda: multihead()(draw(2, 4, 6), draw(2, 4, 5), draw(2, 4, 5)), r"key of shape \(\.\.\., 6\), got \(2, 4, 5\)"),
    (lambda: multihead()(draw(2, 4, 6), draw(4, 6), draw(4, 6)), r"query, key and value \(B, T, C\)"),
    (lambda: multihead()(*[draw(2, 4, 6)] * 3, np.zeros((4, 2), bool)), r"key_padding_mask of shape \(2, 4\)"),
    (lambda: multihead()(*[draw(2, 4, 6)] * 3, np.zeros(4, bool)), r"of shape \(2, 4\), got \(4,\)"),
    (lambda: multihead()(*[draw(2, 4, 6)] * 3, np.zeros((2, 4), int)), "key_padding_mask of bool or floating"),
    (lambda: multihead()(*[draw(2, 4, 6)] * 3, attn_mask=np.zeros((2, 4, 4), bool)),
     r"attn_mask of shape \(4, 4\) or \(4, 4, 4\), got \(2, 4, 4\)"),
    (lambda: TransformerEncoderLayer(6, 2, activation="tanh"), "'relu', 'gelu' or a function, got 'tanh'"),
    (lambda: TransformerEncoder(TransformerEncoderLayer(6, 2, 4), 0), "at least one layer, got 0"),
    (lambda: TransformerDecoderLayer(6, 2, 4)(draw(3, 2, 6), draw(3, 1, 6)), "batches of tgt"),
    (lambda: TransformerEncoderLayer(6, 2, 4)(draw(3, 2, 5)), r"expected \(T, B, 6\) or \(T, 6\), got \(3, 2, 5\)"),
    (lambda: TransformerEncoderLayer(6, 2, 4, batch_first=True)(draw(6)), r"expected \(B, T, 6\) or \(T, 6\), got"),
])  # fmt: skip
def test_what_modules_refuse(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_stacks_start_alike_own_their_parameters_and_end_in_the_norm():
    layer = TransformerEncoderLayer(6, 2, 4, 0.0, batch_first=True)
    encoder = TransformerEncoder(layer, 2, LayerNorm(6))
    first, second = encoder.layers
    np.testing.assert_array_equal(first.linear1.weight.data, second.linear1.weight.data)
    assert len({id(part.linear1.weight.data) for part in (layer, first, second)}) == 3
    x = Tensor(draw(2, 3, 6).astype(np.float32))
    np.testing.assert_array_equal(encoder(x).data, encoder.norm(second(first(x))).data)
    decoder = TransformerDecoder(TransformerDecoderLayer(6, 2, 4, 0.0, np.tanh and _double), 3)
    assert len(decoder.layers) == 3 and decoder(x.swapaxes(0, 1), x.swapaxes(0, 1)).shape == (3, 2, 6)


def _double(x):
    return x * 2


# -- planted faults --------------------------------------------------------------------------------------------------

FAULTS = {
    "no scale": (fused, "exponentials", "np.multiply(q, scale,", "np.multiply(q, 1,"),
    "the mask forgotten": (fused, "exponentials", "by_head += -c if bias is None else bias - c", "by_head -= c"),
    "no second look at rows far below": (fused, "exponentials", "if not (n > 1e-12).all():", "if False:"),
    "a masked row divided by 0": (fused, "exponentials", "n[n == 0] = 1", "pass"),
    "the noise on the sum too": (fused, "attend", "out /= n", "out /= D.sum(-1, keepdims=True)"),
    "not normalised": (fused, "attend", "out /= n", "pass"),
    "dV = P dY": (fused, "attend_backward", "saved.D.swapaxes(-1, -2), dy", "saved.E.swapaxes(-1, -2), dy"),
    "dY not divided": (fused, "attend_backward", "dy.reshape(shape) / saved.n", "dy.reshape(shape) / 1"),
    "dS without δ": (fused, "attend_backward", "dS -= delta\n", "pass\n"),
    "dS without P": (fused, "attend_backward", "dS *= saved.E", "pass"),
    "with dropout, dS without δ": (fused, "attend_backward", "dS -= saved.E * delta", "pass"),
    "with dropout, dS without noise": (fused, "attend_backward", "dS *= saved.D", "dS *= saved.E"),
    "with dropout, noise on δ": (fused, "attend_backward", "dS -= saved.E * delta", "dS -= saved.D * delta"),
    "dQ not scaled": (fused, "_queries_and_keys", "out *= scale", "pass"),
    "dK scaled twice": (fused, "_queries_and_keys", "rows, out=dk", "scale * rows, out=dk"),
    "blocked: sums not corrected": (blocked, "_forward", "n *= correction", "pass"),
    "blocked: values not corrected": (blocked, "_forward", "A *= correction", "pass"),
    "blocked: the last maximum": (blocked, "_forward", "np.maximum(m, E.max(axis=-1, keepdims=True))",
                                  "E.max(axis=-1, keepdims=True)"),
    "blocked: L without m": (blocked, "_forward", "np.add(m, np.log", "np.add(0 * n, np.log"),
    "blocked: dV of the last block": (blocked, "_backward", "dv[..., j, :] +=", "dv[..., j, :] ="),
    "blocked: dK of the last block": (blocked, "_backward", "dk[..., j, :] +=", "dk[..., j, :] ="),
    "blocked: dQ of the last block": (blocked, "_backward", "dq[..., i, :] +=", "dq[..., i, :] ="),
    "blocked: dS without δ": (blocked, "_backward", "dS -= delta[..., i, :]", "pass"),
    "blocked: dS without P": (blocked, "_backward", "dS *= P", "pass"),
    "packed: values before keys": (packed, "_heads", "return found", "return [found[0], found[2], found[1]]"),
}  # fmt: skip


def plant(monkeypatch, module, name, old, new):
    """`module.name` with one piece of its source replaced, wherever it is used."""
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}"
    space = dict(vars(module))
    exec("from __future__ import annotations\n" + source.replace(old, new), space)
    for user in (fused, packed, blocked):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, space[name])


def all_is_right():
    for name in ("scale", "causal", "bool mask", "float mask of heads", "grouped heads"):
        fused_is_right(SETTINGS[name])
        blocked_is_right(SETTINGS[name])
    test_it_is_its_twin_of_primitives(0.4, None)
    test_scores_of_any_size_neither_overflow_nor_lose_a_row(scaled_dot_product_attention, 1e4)
    packed_is_right()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    plant(monkeypatch, *fault)
    with pytest.raises((AssertionError, FloatingPointError, RuntimeWarning)):
        all_is_right()


def test_without_a_fault_all_is_right():
    all_is_right()


# -- heads --------------------------------------------------------------------------------------------------------


def test_split_heads_gives_each_head_its_consecutive_features():
    x = np.arange(2 * 3 * 6, dtype=np.float32).reshape(2, 3, 6)
    y = split_heads(Tensor(x), 2)
    assert y.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(y.data[1, 0, 2], x[1, 2, :3])
    np.testing.assert_array_equal(y.data[1, 1, 2], x[1, 2, 3:])
    np.testing.assert_array_equal(merge_heads(y).data, x)


def test_gradients_of_split_and_merged_heads(rng):
    gradcheck(lambda x: split_heads(x, 2), [rng.standard_normal((2, 3, 6))])
    gradcheck(merge_heads, [rng.standard_normal((2, 4, 3, 2))])


@pytest.mark.parametrize("shape, heads", [((2, 3, 6), 4), ((3, 6), 2), ((2, 3, 6), 0)])
def test_heads_that_do_not_fit_are_an_error(shape, heads):
    with pytest.raises(ValueError, match=rf"{heads}.*\({shape[0]}, {shape[1]}"):
        split_heads(Tensor(np.zeros(shape, np.float32)), heads)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_split_heads_is_that_of_copied_ones(kv_heads, causal, rng):
    """Split heads are views with other strides; results and gradients are those of contiguous arrays, to the bit."""
    B, T, hd = 2, 5, 3

    def heads(copied):
        out = []
        for nh, x in zip((4, kv_heads, kv_heads), inputs, strict=True):
            view = x.reshape(B, T, nh, hd).swapaxes(1, 2)
            out.append(Tensor(view.copy() if copied else view, requires_grad=True))
        return out

    inputs = [rng.standard_normal((B, T, nh * hd)).astype(np.float32) for nh in (4, kv_heads, kv_heads)]
    upstream = rng.standard_normal((B, 4, T, hd)).astype(np.float32)
    results = []
    for copied in (False, True):
        q, k, v = heads(copied)
        y = scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        y.backward(upstream)
        results.append((y.data, q.grad, k.grad, v.grad))
    for view, copy in zip(*results, strict=True):
        np.testing.assert_allclose(view, copy, rtol=0, atol=8 * T * np.finfo(np.float32).eps * np.abs(copy).max())
