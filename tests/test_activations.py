"""Activations: gradients, composed twins, the far ends in float32, dtype and errors. Parity is in test_parity.py."""

import math

import numpy as np
import pytest

from scratch import Module, Sequential, Tensor, activations, gradcheck, no_grad
from scratch.activations import (
    elu,
    gelu,
    hardswish,
    leaky_relu,
    log_softmax,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from scratch.activations.gaussian import BLOCK, normal_tail
from scratch.combine import where
from scratch.gradcheck import GradcheckError
from scratch.tensor import record


def with_options(function, **options):
    def called(x):
        return function(x, **options)

    called.__name__ = f"{function.__name__}({', '.join(f'{k}={v}' for k, v in options.items())})"
    return called


ELEMENTWISE = [
    relu,
    leaky_relu,
    with_options(leaky_relu, negative_slope=1.6),
    with_options(leaky_relu, negative_slope=-0.4),
    relu6,
    hardswish,
    sigmoid,
    tanh,
    silu,
    elu,
    with_options(elu, alpha=0.3),
    with_options(elu, alpha=-1.4),
    with_options(elu, alpha=2.0),
    softplus,
    with_options(softplus, beta=0.4),
    with_options(softplus, beta=2.5, threshold=1.5),
    gelu,
    with_options(gelu, approximate="tanh"),
]
OVER_AN_AXIS = [softmax, log_softmax]
EVERY = ELEMENTWISE + [with_options(f, dim=dim) for f in OVER_AN_AXIS for dim in (-1, 0)]


def name(function):
    return function.__name__


# -- gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ELEMENTWISE, ids=name)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 5)], ids=str)
def test_the_derivative_of_each_element(function, shape, rng):
    assert gradcheck(function, [np.asarray(4 * rng.standard_normal(shape))])


@pytest.mark.parametrize("function", OVER_AN_AXIS, ids=name)
@pytest.mark.parametrize(
    ("shape", "dim"), [((6,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 3, 4), 1), ((2, 3, 4), -1), ((2, 3, 4), -3)]
)
def test_the_derivative_along_every_axis(function, shape, dim, rng):
    x = 2 * rng.standard_normal(shape)
    assert gradcheck(with_options(function, dim=dim), [x])
    x.reshape(-1)[:2] = x.max() + 1  # a tie for the largest
    assert gradcheck(with_options(function, dim=dim), [x])


# What PyTorch gives at exactly 0.
AT_ZERO = {"relu": 0, "leaky_relu": 0.01, "relu6": 0, "hardswish": 0.5, "sigmoid": 0.25, "tanh": 1, "silu": 0.5}
AT_ZERO |= {"elu": 1, "elu(alpha=0.3)": 0.3, "softplus": 0.5, "gelu": 0.5, "gelu(approximate=tanh)": 0.5}


@pytest.mark.parametrize("function", [f for f in ELEMENTWISE if name(f) in AT_ZERO], ids=name)
def test_the_derivative_at_exactly_zero(function):
    x = Tensor(np.array([0.0, -0.0]), requires_grad=True)
    function(x).backward(np.array([3.0, -2.0]))
    np.testing.assert_allclose(x.grad, np.array([3.0, -2.0]) * AT_ZERO[name(function)], rtol=1e-15)


def test_relu6_is_flat_at_both_kinks():
    x = Tensor(np.array([0.0, 6.0, 3.0, 7.0, -1.0]), requires_grad=True)
    relu6(x).backward(np.arange(1.0, 6.0))
    assert x.grad.tolist() == [0, 0, 3, 0, 0]


def test_hardswish_has_the_outer_slopes_at_both_kinks():
    x = Tensor(np.array([-3.0, 3.0, -4.0, 4.0, 1.0]), requires_grad=True)
    y = hardswish(x)
    y.backward(np.arange(1.0, 6.0))
    np.testing.assert_allclose(y.data, [0, 3, 0, 4, 4 / 6], rtol=1e-15)
    np.testing.assert_allclose(x.grad, [0, 2, 0, 4, 5 * 5 / 6], rtol=1e-15)


def test_relu_keeps_what_is_not_a_number_and_whole_numbers():
    assert np.isnan(relu(Tensor(np.array([np.nan]))).data[0]) and np.isnan(relu6(Tensor(np.array([np.nan]))).data[0])
    for function in (relu, relu6):
        y = function(Tensor(np.array([-2, 0, 5])))
        assert y.data.tolist() == [0, 0, 5] and y.dtype == np.int64


# -- twins composed of primitives ---------------------------------------------------------------------------------


def composed_softmax(x):
    e = (x - x.max(axis=1, keepdims=True).detach()).exp()
    return e / e.sum(axis=1, keepdims=True)


def composed_gelu_tanh(x):
    return x * 0.5 * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)).tanh())


def composed_gelu(x):
    """x Φ(x) with Φ from math.erf and its derivative the density: the only use of calculus is Φ′ = φ."""
    cdf = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x.data.reshape(-1)]).reshape(x.shape)

    def backward(dy):
        return (dy * np.exp(-0.5 * x.data * x.data) / math.sqrt(2 * math.pi),)

    return x * record(cdf, (x,), backward)


TWINS = [
    (relu, lambda x: where(x.data > 0, x, 0.0)),
    (leaky_relu, lambda x: where(x.data > 0, x, x * 0.01)),
    (relu6, lambda x: x.clip(0, 6)),
    (hardswish, lambda x: x * (x + 3).clip(0, 6) / 6),
    (sigmoid, lambda x: 1 / (1 + (-x).exp())),
    (tanh, lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
    (silu, lambda x: x / (1 + (-x).exp())),
    (elu, lambda x: where(x.data > 0, x, x.exp() - 1)),
    (softplus, lambda x: (1 + x.exp()).log()),
    (gelu, composed_gelu),
    (with_options(gelu, approximate="tanh"), composed_gelu_tanh),
    (with_options(softmax, dim=1), composed_softmax),
    (with_options(log_softmax, dim=1), lambda x: composed_softmax(x).log()),
]


@pytest.mark.parametrize(("fused", "composed"), TWINS, ids=[name(f) for f, _ in TWINS])
def test_equals_the_same_composed_of_primitives(fused, composed, rng):
    values, dy = 3 * rng.standard_normal((5, 6, 2)), rng.standard_normal((5, 6, 2))
    a, b = Tensor(values, requires_grad=True), Tensor(values, requires_grad=True)
    y, expected = fused(a), composed(b)
    np.testing.assert_allclose(y.data, expected.data, rtol=1e-12, atol=1e-14)
    y.backward(dy)
    expected.backward(dy)
    np.testing.assert_allclose(a.grad, b.grad, rtol=1e-11, atol=1e-13)


# -- a wrong derivative is caught ---------------------------------------------------------------------------------


def softmax_without_the_inner_product(x):
    y = softmax(x, dim=1).data
    return record(y, (x,), lambda dy: (y * dy,))


def log_softmax_without_the_sum(x):
    y = log_softmax(x, dim=1).data
    return record(y, (x,), lambda dy: (dy - np.exp(y) * dy,))


def gelu_without_the_density(x):
    y = gelu(x).data
    return record(y, (x,), lambda dy: (dy * y / x.data,))


def silu_with_a_sign_flipped(x):
    s = sigmoid(x).data
    return record(x.data * s, (x,), lambda dy: (dy * (s - x.data * s * (1 - s)),))


WRONG = [softmax_without_the_inner_product, log_softmax_without_the_sum, gelu_without_the_density]
WRONG += [silu_with_a_sign_flipped]


@pytest.mark.parametrize("wrong", WRONG, ids=name)
def test_a_planted_fault_is_caught(wrong, rng):
    with pytest.raises(GradcheckError, match=wrong.__name__):
        gradcheck(wrong, [rng.standard_normal((3, 4))])


def test_an_upstream_gradient_of_ones_would_miss_a_zero_softmax_gradient(rng):
    x = Tensor(rng.standard_normal((3, 4)), requires_grad=True)
    softmax(x, dim=1).backward(np.ones((3, 4)))
    np.testing.assert_allclose(x.grad, 0, atol=1e-15)  # why every check here draws it at random


# -- the normal tail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "low", "high", "bound"),
    [
        (np.float64, 0, 5, 1e-14),
        (np.float64, 5, 14, 1e-13),
        (np.float64, 14, 37, 5e-13),
        (np.float32, 0, 4, 1e-6),
        (np.float32, 4, 8, 2e-5),
    ],
)
def test_normal_tail_against_math_erfc(dtype, low, high, bound):
    a = np.linspace(low, high, 20_000).astype(dtype)
    tail, bell = normal_tail(a)
    expected = np.array([0.5 * math.erfc(float(value) / math.sqrt(2)) for value in a])
    assert tail.dtype == bell.dtype == dtype
    np.testing.assert_allclose(tail, expected, rtol=bound)
    np.testing.assert_allclose(bell, np.exp(-0.5 * a.astype(np.float64) ** 2), rtol=bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_tail_of_the_largest_number_is_zero(dtype):
    """Its powers would overflow in the polynomials, and ∞ / ∞ is no number."""
    largest = np.array([np.finfo(dtype).max, -1e30, np.inf], dtype)
    tail, bell = normal_tail(largest)
    assert not tail.any() and not bell.any()
    assert gelu(Tensor(largest[:2])).data.tolist() == [largest[0], 0]


def test_erf_from_the_tail_to_the_last_digits():
    x = np.concatenate([np.linspace(-6, 6, 5001), [1e-3, -1e-9, 0.0]])
    tail, _ = normal_tail(x * math.sqrt(2))
    erf = np.copysign(1 - 2 * tail, x)
    np.testing.assert_allclose(erf, [math.erf(value) for value in x], rtol=0, atol=4e-16)


def test_gelu_in_blocks_is_gelu_of_each_element(rng):
    x = 2 * rng.standard_normal(2 * BLOCK + 17)
    some = np.array([0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 16])
    expected = [value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x[some]]
    np.testing.assert_allclose(gelu(Tensor(x)).data[some], expected, rtol=1e-13, atol=1e-16)


def test_gelu_in_float32_is_as_exact_as_float32_allows():
    x = np.linspace(-10, 10, 20_001)
    single, double = gelu(Tensor(x.astype(np.float32))).data, gelu(Tensor(x.astype(np.float32).astype(np.float64))).data
    assert np.abs(single - double).max() < 1.5e-6
    assert (single[x < 0] <= 0).all() and (single[x < -15] == 0).all()


# -- the far ends, dtype, memory ----------------------------------------------------------------------------------

FAR = np.array([-1e4, -300.0, -90.0, 0.0, 90.0, 300.0, 1e4])
ENDS = {  # at −1e4 and at 1e4: value, derivative
    "relu": (0, 0, 1e4, 1),
    "leaky_relu": (-100, 0.01, 1e4, 1),
    "relu6": (0, 0, 6, 0),
    "hardswish": (0, 0, 1e4, 1),
    "sigmoid": (0, 0, 1, 0),
    "tanh": (-1, 0, 1, 0),
    "silu": (0, 0, 1e4, 1),
    "elu": (-1, 0, 1e4, 1),
    "softplus": (0, 0, 1e4, 1),
    "gelu": (0, 0, 1e4, 1),
    "gelu(approximate=tanh)": (0, 0, 1e4, 1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [f for f in ELEMENTWISE if name(f) in ENDS], ids=name)
def test_far_from_zero(function, dtype):
    x = Tensor(FAR.astype(dtype), requires_grad=True)
    y = function(x)
    y.backward(np.full(FAR.shape, -2, dtype))
    assert np.isfinite(y.data).all() and np.isfinite(x.grad).all()
    low, low_slope, high, high_slope = ENDS[name(function)]
    np.testing.assert_allclose(y.data[[0, -1]], [low, high], rtol=1e-6)
    np.testing.assert_allclose(x.grad[[0, -1]], [-2 * low_slope, -2 * high_slope], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_far_scores(dtype, rng):
    x = np.array([[1e4, -1e4, 1e4, 0], [-1e4, -1e4, -1e4, -1e4 + 1], [3, 1e4, 2, 1], [-9e3, -1e4, 0, 1]], dtype=dtype)
    t = Tensor(x, requires_grad=True)
    y = softmax(t, dim=1)
    e = math.e
    expected = [[0.5, 0, 0.5, 0], [1 / (3 + e)] * 3 + [e / (3 + e)], [0, 1, 0, 0], [0, 0, 1 / (1 + e), e / (1 + e)]]
    np.testing.assert_allclose(y.data, expected, rtol=1e-6)
    dy = rng.standard_normal(x.shape).astype(dtype)
    y.backward(dy)
    p = np.array(expected)
    np.testing.assert_allclose(t.grad, p * (dy - (p * dy).sum(axis=1, keepdims=True)), rtol=1e-4, atol=1e-7)

    t.grad = None
    z = log_softmax(t, dim=1)
    z.backward(dy)
    assert z.data[0, 1] == pytest.approx(-2e4 - math.log(2)) and z.data[2, 1] == 0
    np.testing.assert_allclose(t.grad, dy - p * dy.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_softmax_keeps_its_digits_where_one_row_is_far_above_the_others(rng):
    x = rng.standard_normal((6, 5)).astype(np.float32)
    for gap in (10, 25, 40, 80, 200):  # on both sides of the switch to each row's own maximum
        rows = x.copy()
        rows[3] += gap
        y = softmax(Tensor(rows), dim=1).data
        e = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
        np.testing.assert_allclose(y, e / e.sum(axis=1, keepdims=True), rtol=2e-6)


def test_a_masked_score_has_probability_and_gradient_zero():
    x = Tensor(np.array([[0.5, -np.inf, 1.5], [-np.inf, -np.inf, 2.0]]), requires_grad=True)
    y = softmax(x, dim=1)
    y.backward(np.array([[0.3, -2.0, 1.1], [5.0, 1.0, -1.0]]))
    p = 1 / (1 + math.e)
    np.testing.assert_allclose(y.data, [[p, 0, 1 - p], [0, 0, 1]])
    np.testing.assert_allclose(x.grad, [[-0.8 * p * (1 - p), 0, 0.8 * p * (1 - p)], [0, 0, 0]], atol=1e-16)


def test_one_row_of_nan_leaves_the_others_alone():
    y = softmax(Tensor(np.array([[np.nan, 1.0], [0.0, 0.0]])), dim=1).data
    assert np.isnan(y[0]).all() and y[1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("function", EVERY, ids=name)
def test_float32_stays_and_nothing_given_is_written_into(function, rng):
    values, dy = rng.standard_normal((3, 4, 2)).astype(np.float32), rng.standard_normal((3, 4, 2)).astype(np.float32)
    kept = values.copy(), dy.copy()
    x = Tensor(values, requires_grad=True)
    y = function(x)
    result = y.data.copy()
    y.backward(dy, retain_graph=True)
    first = x.grad.copy()
    assert y.dtype == x.grad.dtype == np.float32
    y.backward(dy)
    np.testing.assert_array_equal(x.grad, 2 * first)  # a second walk finds everything as it was
    np.testing.assert_array_equal(values, kept[0])
    np.testing.assert_array_equal(dy, kept[1])
    np.testing.assert_array_equal(y.data, result)
    wide = Tensor(values.astype(np.float64), requires_grad=True)
    function(wide).backward(dy)
    np.testing.assert_allclose(first, wide.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("function", EVERY, ids=name)
def test_any_memory_layout_gives_the_same(function, rng):
    values = rng.standard_normal((3, 4, 5, 2))
    channels_last = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    strided = np.repeat(values, 2, axis=2)[:, :, ::2]
    for x in (channels_last, strided, values[:, :1].repeat(4, axis=1)):
        expected = function(Tensor(x.copy())).data
        np.testing.assert_allclose(function(Tensor(x)).data, expected, rtol=1e-14)
    t, dy = Tensor(channels_last, requires_grad=True), rng.standard_normal((3, 4, 5, 2))
    function(t).backward(dy)
    u = Tensor(values, requires_grad=True)
    function(u).backward(dy)
    np.testing.assert_allclose(t.grad, u.grad, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "function", [relu, leaky_relu, relu6, hardswish, sigmoid, tanh, silu, elu, softplus], ids=name
)
def test_channels_last_memory_is_preserved(function, rng):
    x, dy = rng.standard_normal((2, 2, 5, 4, 3)).astype(np.float32).transpose(0, 1, 4, 2, 3)
    y = function(Tensor(x, requires_grad=True))
    (dx,) = y._backward(dy)
    assert y.data.strides == dx.strides == x.strides


@pytest.mark.parametrize("function", [f for f in EVERY if "dim=0" not in name(f)], ids=name)
def test_an_empty_batch(function):
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    y = function(x)
    y.backward(np.zeros((0, 3)))
    assert y.shape == x.grad.shape == (0, 3)


def test_no_gradient_asked_none_recorded():
    assert not gelu(Tensor(np.ones(3))).requires_grad
    with no_grad():
        assert not softmax(Tensor(np.ones(3), requires_grad=True), dim=0).requires_grad


# -- errors and modules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [f for f in EVERY if name(f) not in ("relu", "relu6")], ids=name)
def test_integers_are_refused_by_name(function):
    called = name(function).split("(")[0]
    with pytest.raises(ValueError, match=f"{called} expected a floating-point input, got dtype int"):
        function(np.arange(6).reshape(2, 3))


def test_bad_options_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"softmax: dim 2 is out of range for shape \(2, 3\)"):
        softmax(x, dim=2)
    with pytest.raises(ValueError, match=r"log_softmax: dim -3 is out of range for shape \(2, 3\)"):
        log_softmax(x, dim=-3)
    with pytest.raises(ValueError, match="gelu expected approximate='none' or 'tanh', got 'erf'"):
        gelu(x, approximate="erf")
    with pytest.raises(ValueError, match="GELU expected"):
        activations.GELU("erf")
    with pytest.raises(ValueError, match="softplus expected beta > 0, got 0"):
        softplus(x, beta=0)


MODULES = [
    (activations.ReLU(), relu, "ReLU()"),
    (activations.LeakyReLU(0.2), with_options(leaky_relu, negative_slope=0.2), "LeakyReLU(negative_slope=0.2)"),
    (activations.ReLU6(), relu6, "ReLU6()"),
    (activations.Hardswish(), hardswish, "Hardswish()"),
    (activations.ELU(0.7), with_options(elu, alpha=0.7), "ELU(alpha=0.7)"),
    (activations.Sigmoid(), sigmoid, "Sigmoid()"),
    (activations.Tanh(), tanh, "Tanh()"),
    (activations.SiLU(), silu, "SiLU()"),
    (activations.GELU("tanh"), with_options(gelu, approximate="tanh"), "GELU(approximate='tanh')"),
    (activations.Softplus(2, 3), with_options(softplus, beta=2, threshold=3), "Softplus(beta=2, threshold=3)"),
    (activations.Softmax(0), with_options(softmax, dim=0), "Softmax(dim=0)"),
    (activations.LogSoftmax(dim=-1), with_options(log_softmax, dim=-1), "LogSoftmax(dim=-1)"),
]


@pytest.mark.parametrize(("module", "function", "shown"), MODULES, ids=[shown for *_, shown in MODULES])
def test_a_module_is_its_function(module, function, shown, rng):
    x = 3 * rng.standard_normal((3, 4))
    np.testing.assert_array_equal(Sequential(module)(Tensor(x)).data, function(Tensor(x)).data)
    assert repr(module) == shown and module.state_dict() == {}


def test_everything_is_listed():
    classes = {n for n in activations.__all__ if isinstance(getattr(activations, n), type)}
    assert classes == {type(module).__name__ for module, *_ in MODULES}
    assert all(issubclass(getattr(activations, n), Module) for n in classes)
    functions = {name(f).split("(")[0] for f in EVERY}
    assert set(activations.__all__) - classes == functions


# -- NaN, infinity and ties: PyTorch 2.13's gradients --------------------------------------------------------------

SPECIAL = np.array([math.nan, math.inf, -math.inf, 0, -0.0, 1, -1, 3, -3, 6], np.float32)
SPECIAL_GRADIENTS = {
    "relu": (activations.relu, [1, 1, 0, 0, 0, 1, 0, 1, 0, 1]),
    "relu6": (activations.relu6, [1, 0, 0, 0, 0, 1, 0, 1, 0, 0]),
    "clip": (lambda x: x.clip(-1, 1), [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]),
    "clip from below": (lambda x: x.clip(0), [0, 1, 0, 1, 1, 1, 0, 1, 0, 1]),
}


@pytest.mark.parametrize("dy", [2.0, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", SPECIAL_GRADIENTS)
def test_what_a_bound_drops_is_0_even_of_an_infinite_gradient(name, dtype, dy):
    function, passes = SPECIAL_GRADIENTS[name]
    for layout in (lambda a: a, lambda a: np.repeat(a, 2)[::2], lambda a: a[:, None].repeat(3, 1).T[1]):
        x = Tensor(layout(SPECIAL.astype(dtype)), requires_grad=True)
        function(x).backward(np.full(len(SPECIAL), dy, dtype))
        np.testing.assert_array_equal(x.grad, np.where(passes, dy, 0))
    zero = Tensor(np.array(-1.5, dtype), requires_grad=True)
    function(zero).backward(np.array(dy, dtype))
    assert zero.grad == 0 and zero.grad.shape == ()


def test_the_root_of_a_bounded_number_has_no_nan_in_its_gradient():
    x = Tensor(np.array([-1.0, 4.0], np.float32), requires_grad=True)
    with np.errstate(divide="ignore"):
        activations.relu(x).sqrt().backward(np.ones(2, np.float32))
    np.testing.assert_array_equal(x.grad, [0, 0.25])


def test_hardswish_far_out():
    x = Tensor(np.array([math.inf, -math.inf, 3, -3, 1], np.float32), requires_grad=True)
    with np.errstate(invalid="ignore"):
        activations.hardswish(x).backward(np.ones(5, np.float32))
    np.testing.assert_allclose(x.grad, [1, 0, 1, 0, 1 / 3 + 0.5], rtol=1e-6)
