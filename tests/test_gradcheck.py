"""gradcheck passes right derivatives, catches wrong ones, and says where."""

import re

import numpy as np
import pytest

from scratch.gradcheck import GradcheckError, gradcheck
from scratch.layers.linear import Linear, linear
from scratch.module import Module
from scratch.tensor import Buffer, Parameter, Tensor, is_grad_enabled, matmul, record


def softmax(x, backward):
    """Softmax over the last axis with the derivative that a test gives: backward(dy, y) → dx."""
    e = np.exp(x.data - x.data.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return record(y, (x,), lambda dy: (backward(dy, y),))


def product(a, b, backward):
    """a b with the derivative that a test gives: backward(dy, a, b) → (da, db)."""
    return record(a.data @ b.data, (a, b), lambda dy: backward(dy, a.data, b.data))


# -- right derivatives pass ----------------------------------------------------------------------------------------


def test_right_derivatives_pass(rng):
    assert gradcheck(
        lambda x: softmax(x, lambda dy, y: y * (dy - (dy * y).sum(-1, keepdims=True))), [rng.random((2, 3))]
    )
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    assert gradcheck(lambda a, b: product(a, b, lambda dy, A, B: (dy @ B.T, A.T @ dy)), [a, b])
    assert gradcheck(matmul, [a, b]) and gradcheck(Tensor.exp, [Tensor(a)]) and gradcheck(lambda x: x, [a])


def test_arguments_that_are_no_floats_are_passed_on(rng):
    ids, got = np.array([2, 0, 2]), []

    def pick(x, index, scale, name):
        got.append((index is ids, scale, name))
        return x[index] * scale

    assert gradcheck(pick, [rng.standard_normal((3, 2)), ids, 2.5, "name"])
    assert set(got) == {(True, 2.5, "name")}


def test_the_callers_arrays_and_tensors_are_left_alone(rng):
    array, tensor = rng.standard_normal((2, 3)), Tensor(rng.standard_normal((2, 3)))
    kept = array.copy(), tensor.data.copy()
    array.flags.writeable = tensor.data.flags.writeable = False
    assert gradcheck(lambda x, y: x * y, [array, tensor])
    np.testing.assert_array_equal(array, kept[0])
    np.testing.assert_array_equal(tensor.data, kept[1])
    assert tensor.grad is None and not tensor.requires_grad


def test_parameters_are_checked_and_come_back_as_they_were(rng):
    module = Linear(3, 2).to(np.float64)
    kept = {name: parameter.data.copy() for name, parameter in module.named_parameters()}
    assert gradcheck(module, [rng.standard_normal((4, 3))], parameters=dict(module.named_parameters()))
    for name, parameter in module.named_parameters():
        np.testing.assert_array_equal(parameter.data, kept[name])
        assert parameter.grad is None
    assert gradcheck(lambda: module(Tensor(np.ones(3))), [], parameters=dict(module.named_parameters()))


def test_frozen_parameters_are_left_out(rng):
    module = Linear(3, 2).to(np.float64)
    module.bias.requires_grad = False
    assert gradcheck(module, [rng.standard_normal((4, 3))], parameters=dict(module.named_parameters()))


def test_old_gradients_of_parameters_do_not_count(rng):
    w = Parameter(rng.standard_normal(3))
    w.grad = np.full(3, 100.0)
    assert gradcheck(lambda x: x * w, [rng.standard_normal(3)], parameters={"w": w})


# -- wrong derivatives are caught ----------------------------------------------------------------------------------

WRONG_SOFTMAX = {
    "zero": lambda dy, y: 0 * dy,
    "no inner product": lambda dy, y: dy * y,
    "no outer y": lambda dy, y: dy - (dy * y).sum(-1, keepdims=True),
    "sign": lambda dy, y: y * ((dy * y).sum(-1, keepdims=True) - dy),
    "plus for minus": lambda dy, y: y * (dy + (dy * y).sum(-1, keepdims=True)),
    "sum over the other axis": lambda dy, y: y * (dy - (dy * y).sum(0, keepdims=True)),
    "diagonal only": lambda dy, y: dy * y * (1 - y),
    "NaN": lambda dy, y: dy * np.nan,
    "a little": lambda dy, y: 1.0001 * y * (dy - (dy * y).sum(-1, keepdims=True)),
}


@pytest.mark.parametrize("backward", WRONG_SOFTMAX.values(), ids=WRONG_SOFTMAX.keys())
def test_a_wrong_softmax_is_caught(backward, rng):
    with pytest.raises(GradcheckError, match="gradient of <lambda> with respect to argument 0"):
        gradcheck(lambda x: softmax(x, backward), [rng.random((2, 3))])


def test_a_softmax_of_zero_gradient_would_pass_under_sum(rng):
    """Why the upstream gradient is random: a row of softmax adds up to 1 whatever x is."""

    def total(x):
        return softmax(x, WRONG_SOFTMAX["zero"]).sum()

    assert gradcheck(total, [rng.random((2, 3))])


WRONG_PRODUCT = {  # square matrices, where a transposed gradient has the right shape
    "transposed": lambda dy, a, b: ((dy @ b.T).T, a.T @ dy),
    "factor not transposed": lambda dy, a, b: (dy @ b, a.T @ dy),
    "wrong order": lambda dy, a, b: (b.T @ dy, a.T @ dy),
    "exchanged arguments": lambda dy, a, b: (a.T @ dy, dy @ b.T),
    "the wrong factor": lambda dy, a, b: (dy @ b.T, b.T @ dy),
    "none for the second": lambda dy, a, b: (dy @ b.T, None),
    "half": lambda dy, a, b: (dy @ b.T, a.T @ dy / 2),
    "one element": lambda dy, a, b: (dy @ b.T, a.T @ dy + np.eye(1, 9, 4).reshape(3, 3)),
}


@pytest.mark.parametrize("backward", WRONG_PRODUCT.values(), ids=WRONG_PRODUCT.keys())
def test_a_wrong_matrix_product_is_caught(backward, rng):
    with pytest.raises(GradcheckError):
        gradcheck(lambda a, b: product(a, b, backward), [rng.standard_normal((3, 3)), rng.standard_normal((3, 3))])


def test_a_wrong_gradient_of_a_parameter_is_caught(rng):
    class Doubling(Module):
        def __init__(self):
            self.weight = Parameter(rng.standard_normal((2, 3)))
            self.bias = Parameter(rng.standard_normal(2))

        def forward(self, x):
            y = linear(x, self.weight, self.bias)
            return record(y.data + self.bias.data, (y, self.bias), lambda dy: (dy, None))

    module = Doubling()
    with pytest.raises(GradcheckError, match=r"gradient of Doubling with respect to parameter bias of shape \(2,\)"):
        gradcheck(module, [rng.standard_normal((4, 3))], parameters=dict(module.named_parameters()))


def test_a_detached_path_is_caught(rng):
    with pytest.raises(GradcheckError, match="argument 1"):
        gradcheck(lambda a, b: a * b.detach(), [rng.standard_normal(3), rng.standard_normal(3)])


# -- what is said --------------------------------------------------------------------------------------------------


def test_the_message_says_function_argument_index_and_both_values(rng):
    def scaled(x, w):
        def backward(dy):
            dw = dy * x.data
            dw[1, 0] += 0.5
            return dy * w.data, dw

        return record(x.data * w.data, (x, w), backward)

    x, w = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    with pytest.raises(GradcheckError) as error:
        gradcheck(scaled, [x, w], seed=5)
    expected = (np.random.default_rng(5).standard_normal((2, 3)) * x)[1, 0]
    said = re.fullmatch(
        r"gradient of scaled with respect to argument 1 of shape \(2, 3\) at index \(1, 0\): "
        r"backward\(\) gave (\S+), the finite difference is (\S+)",
        str(error.value),
    )
    np.testing.assert_allclose([float(said[1]), float(said[2])], [expected + 0.5, expected], rtol=1e-7)
    assert isinstance(error.value, AssertionError)


@pytest.mark.parametrize(
    ("rtol", "atol", "passes"), [(1e-3, 0, True), (0, 1e-2, True), (1e-5, 0, False), (0, 1e-7, False)]
)
def test_tolerances(rtol, atol, passes, rng):
    def nearly(x):
        return record(x.data * 2, (x,), lambda dy: (dy * 2 * 1.0001,))

    x = rng.standard_normal(3)
    if passes:
        assert gradcheck(nearly, [x], rtol=rtol, atol=atol)
    else:
        with pytest.raises(GradcheckError):
            gradcheck(nearly, [x], rtol=rtol, atol=atol)


def test_only_the_first_call_is_recorded():
    recorded = []

    def watch(x):
        recorded.append(is_grad_enabled())
        return x * 2

    gradcheck(watch, [np.ones(2)])
    assert recorded == [True] + [False] * 4


def test_the_upstream_gradient_depends_on_the_seed():
    seen = []

    def watch(x):
        return record(x.data, (x,), lambda dy: (seen.append(dy.copy()), dy)[1:])

    for seed in (0, 0, 1):
        gradcheck(watch, [np.ones((2, 3))], seed=seed)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2]) and len(np.unique(seen[0])) == 6


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_less_than_float64_is_refused(dtype):
    with pytest.raises(ValueError, match=rf"gradcheck\(exp\): argument 0 must be float64, got {np.dtype(dtype)}"):
        gradcheck(Tensor.exp, [np.ones(2, dtype)])
    with pytest.raises(ValueError, match="argument 1 must be float64"):
        gradcheck(lambda a, b: a * b, [np.ones(2), Tensor(np.ones(2, dtype))])
    module = Linear(2, 1)
    with pytest.raises(ValueError, match=r"gradcheck\(Linear\): parameter weight must be float64, got float32"):
        gradcheck(module, [np.ones(2)], parameters=dict(module.named_parameters()))


def test_nothing_to_check_is_refused():
    with pytest.raises(ValueError, match="no float64 input and no parameter to check"):
        gradcheck(lambda n: Tensor(np.ones(n)), [3])


def test_a_function_that_leaves_the_tape_is_refused():
    with pytest.raises(ValueError, match="nothing on its tape is trainable"):
        gradcheck(lambda x: Tensor(np.exp(x.data)), [np.ones(2)])


def test_parameters_are_restored_when_the_function_fails_half_way():
    w, calls = Parameter(np.ones(3)), []

    def fragile(x):
        calls.append(1)
        if len(calls) == 9:  # within the differences of w
            raise RuntimeError("stop")
        return x * w

    with pytest.raises(RuntimeError, match="stop"):
        gradcheck(fragile, [np.ones(3)], parameters={"w": w})
    np.testing.assert_array_equal(w.data, np.ones(3))


def test_buffers_are_read_but_not_checked(rng):
    scale = Buffer(rng.standard_normal(3))
    assert gradcheck(lambda x: x * scale, [rng.standard_normal((2, 3))])
