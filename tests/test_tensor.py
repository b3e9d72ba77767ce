"""Every primitive: its value is NumPy's, its gradient the finite difference's, its dtype the input's."""

import copy
import operator
import pickle

import numpy as np
import pytest

from scratch.combine import concatenate, stack, where
from scratch.gradcheck import gradcheck
from scratch.tensor import Buffer, Parameter, Tensor, as_tensor, matmul, no_grad, record


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def negative(*shape):
    return lambda rng: rng.uniform(-2.0, -0.5, shape)


def trainable(array):
    return Tensor(array, requires_grad=True)


MASK = np.array([[[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]], [[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0]]], bool)

# name: (here, in NumPy, arrays as functions of a generator)
OPERATIONS = {
    # operators
    "add": (operator.add, operator.add, normal(2, 3, 4), normal(2, 3, 4)),
    "add rows": (operator.add, operator.add, normal(2, 3, 4), normal(4)),
    "add columns": (operator.add, operator.add, normal(3, 1), normal(2, 1, 4)),
    "add one number": (operator.add, operator.add, normal(2, 3), normal()),
    "sub": (operator.sub, operator.sub, normal(2, 3), normal(2, 3)),
    "sub broadcast": (operator.sub, operator.sub, normal(3), normal(2, 1)),
    "mul": (operator.mul, operator.mul, normal(2, 3), normal(2, 3)),
    "mul broadcast": (operator.mul, operator.mul, normal(1, 3), normal(2, 1, 1)),
    "div": (operator.truediv, operator.truediv, normal(2, 3), positive(2, 3)),
    "div broadcast": (operator.truediv, operator.truediv, normal(3), negative(2, 1)),
    "neg": (operator.neg, operator.neg, normal(2, 3)),
    "plus a number": (lambda x: x + 2.5, lambda x: x + 2.5, normal(2, 3)),
    "a number plus": (lambda x: 2 + x, lambda x: 2 + x, normal(2, 3)),
    "a number minus": (lambda x: 2 - x, lambda x: 2 - x, normal(2, 3)),
    "minus a number": (lambda x: x - 2, lambda x: x - 2, normal(2, 3)),
    "a number times": (lambda x: 2.5 * x, lambda x: 2.5 * x, normal(2, 3)),
    "a number over": (lambda x: 2.5 / x, lambda x: 2.5 / x, positive(2, 3)),
    "over a number": (lambda x: x / 3, lambda x: x / 3, normal(2, 3)),
    "an array plus": (lambda x: MASK[0, 0] + x, lambda x: MASK[0, 0] + x, normal(3, 4)),
    "power 2": (lambda x: x**2, lambda x: x**2, normal(2, 3)),
    "power 3": (lambda x: x**3, lambda x: x**3, normal(2, 3)),
    "power 1": (lambda x: x**1, lambda x: x**1, normal(2, 3)),
    "power 0": (lambda x: x**0, lambda x: x**0, normal(2, 3)),
    "power -1": (lambda x: x**-1, lambda x: x**-1, positive(2, 3)),
    "power 0.5": (lambda x: x**0.5, lambda x: x**0.5, positive(2, 3)),
    "power -2.5": (lambda x: x**-2.5, lambda x: x**-2.5, positive(2, 3)),
    # matrix products
    "vector vector": (operator.matmul, operator.matmul, normal(3), normal(3)),
    "matrix vector": (operator.matmul, operator.matmul, normal(2, 3), normal(3)),
    "vector matrix": (operator.matmul, operator.matmul, normal(2), normal(2, 3)),
    "matrix matrix": (operator.matmul, operator.matmul, normal(2, 3), normal(3, 4)),
    "batch vector": (operator.matmul, operator.matmul, normal(5, 2, 3), normal(3)),
    "vector batch": (operator.matmul, operator.matmul, normal(2), normal(5, 2, 3)),
    "batch matrix": (operator.matmul, operator.matmul, normal(5, 2, 3), normal(3, 4)),
    "matrix batch": (operator.matmul, operator.matmul, normal(2, 3), normal(5, 3, 4)),
    "batch batch": (operator.matmul, operator.matmul, normal(5, 2, 3), normal(5, 3, 4)),
    "broadcast batches": (operator.matmul, operator.matmul, normal(2, 1, 2, 3), normal(5, 3, 4)),
    "batch of one": (operator.matmul, operator.matmul, normal(1, 2, 3), normal(5, 3, 4)),
    "one by one": (operator.matmul, operator.matmul, normal(2, 1), normal(1, 3)),
    # functions of each element
    "exp": (lambda x: x.exp(), np.exp, normal(2, 3)),
    "log": (lambda x: x.log(), np.log, positive(2, 3)),
    "sqrt": (lambda x: x.sqrt(), np.sqrt, positive(2, 3)),
    "tanh": (lambda x: x.tanh(), np.tanh, normal(2, 3)),
    "abs": (lambda x: x.abs(), np.abs, normal(2, 3)),
    "abs()": (abs, np.abs, normal(2, 3)),
    "clip": (lambda x: x.clip(-0.5, 0.5), lambda x: np.clip(x, -0.5, 0.5), normal(3, 4)),
    "clip below": (lambda x: x.clip(min=0.125), lambda x: np.maximum(x, 0.125), normal(3, 4)),
    "clip above": (lambda x: x.clip(max=0.125), lambda x: np.minimum(x, 0.125), normal(3, 4)),
    # arranging
    "reshape": (lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1), normal(2, 3, 4)),
    "reshape to a tuple": (lambda x: x.reshape((6, 4)), lambda x: x.reshape(6, 4), normal(2, 3, 4)),
    "reshape to a scalar": (lambda x: x.reshape(()), lambda x: x.reshape(()), normal(1, 1)),
    "T": (lambda x: x.T, lambda x: x.T, normal(2, 3, 4)),
    "transpose": (lambda x: x.transpose(2, 0, 1), lambda x: x.transpose(2, 0, 1), normal(2, 3, 4)),
    "transpose by a tuple": (lambda x: x.transpose((1, 2, 0)), lambda x: x.transpose(1, 2, 0), normal(2, 3, 4)),
    "transpose negative": (lambda x: x.transpose(0, -1, -2), lambda x: x.transpose(0, 2, 1), normal(2, 3, 4)),
    "transpose four axes": (lambda x: x.transpose(3, 0, 2, 1), lambda x: x.transpose(3, 0, 2, 1), normal(2, 3, 1, 4)),
    "swapaxes": (lambda x: x.swapaxes(0, -1), lambda x: x.swapaxes(0, -1), normal(2, 3, 4)),
    # several tensors
    "concatenate": (
        lambda a, b: concatenate([a, b, a]),
        lambda a, b: np.concatenate([a, b, a]),
        normal(2, 3),
        normal(4, 3),
    ),
    "concatenate the last": (
        lambda *t: concatenate(t, axis=-1),
        lambda *t: np.concatenate(t, axis=-1),
        *(normal(2, 3), normal(2, 1), normal(2, 0), normal(2, 4)),
    ),
    "stack": (lambda *t: stack(t), lambda *t: np.stack(t), normal(2, 3), normal(2, 3), normal(2, 3)),
    "stack in the middle": (lambda *t: stack(t, axis=1), lambda *t: np.stack(t, axis=1), normal(2, 3), normal(2, 3)),
    "stack the last": (lambda *t: stack(t, axis=-1), lambda *t: np.stack(t, axis=-1), normal(2, 3), normal(2, 3)),
    "stack numbers": (lambda *t: stack(t), lambda *t: np.stack(t), normal(), normal(), normal()),
    "where": (lambda a, b: where(MASK, a, b), lambda a, b: np.where(MASK, a, b), normal(2, 3, 4), normal(2, 3, 4)),
    "where broadcast": (lambda a, b: where(MASK, a, b), lambda a, b: np.where(MASK, a, b), normal(3, 1), normal(4)),
    "where or a number": (lambda a: where(MASK, a, -2.0), lambda a: np.where(MASK, a, -2.0), normal(2, 3, 4)),
    "where a number or": (lambda a: where(MASK, 1, a), lambda a: np.where(MASK, 1, a), normal(2, 3, 4)),
    "masked": (lambda a: where(a > 0.125, a, 0.0), lambda a: np.where(a > 0.125, a, 0), normal(3, 4)),
}

for axis in (None, 0, -1, 1, (0, 2), (-1, -3), (0, 1, 2), ()):
    for keepdims in (False, True):
        for name in ("sum", "mean", "max"):
            call = operator.methodcaller(name, axis=axis, keepdims=keepdims)
            OPERATIONS[f"{name} axis={axis} keepdims={keepdims}"] = (call, call, normal(2, 3, 4))

INDICES = {
    "row": np.s_[1],
    "element": np.s_[1, 2, -1],
    "slice": np.s_[:, 1:, ::2],
    "backwards": np.s_[::-1, ::-2],
    "empty": np.s_[2:1],
    "new axis": np.s_[:, None, 1],
    "ellipsis": np.s_[..., 1],
    "ellipsis in the middle": np.s_[1, ..., None, ::2],
    "nothing": np.s_[()],
    "all": np.s_[...],
    "NumPy integer": np.s_[np.int64(1), np.uint8(2)],
    "list": [1, 1, 0, 1],
    "integers": np.s_[np.array([[1, 0], [1, 1]])],
    "no integers": np.s_[np.array([], dtype=int)],
    "negative integers": np.s_[np.array([1, -1]), np.array([-1, 2])],
    "pairs, repeated": np.s_[:, np.array([0, 2, 0, 0]), np.array([1, 1, 0, 1])],
    "integers around a slice": np.s_[np.array([0, 1, 1]), :, np.array([3, 0, 0])],
    "slice and integers": np.s_[::-1, np.array([0, 2, 2])],
    "integers, new axis, slice": np.s_[np.array([1, 1]), None, 1:],
    "column and row": np.s_[np.array([[0], [1]]), np.array([2, 2, 0])],
    "an integer beside integers": np.s_[1, :, np.array([0, 0, 3])],
    "mask": MASK,
    "mask of rows": np.s_[np.array([False, True])],
    "mask inside": np.s_[:, np.array([True, False, True]), 1:],
    "mask and integers": np.s_[np.array([True, True]), np.array([2, 2])],
    "empty mask": np.zeros((2, 3), bool),
    "True": np.s_[True],
}
for name, index in INDICES.items():
    OPERATIONS[f"getitem {name}"] = (operator.itemgetter(index), operator.itemgetter(index), normal(2, 3, 4))


@pytest.fixture(params=OPERATIONS.values(), ids=OPERATIONS.keys())
def operation(request, rng):
    ours, numpy, *draws = request.param
    return ours, numpy, [draw(rng) for draw in draws]


def test_value_is_numpys(operation):
    ours, numpy, arrays = operation
    for dtype in (np.float64, np.float32):
        cast = [array.astype(dtype) for array in arrays]
        y, expected = ours(*map(Tensor, cast)), numpy(*cast)
        assert isinstance(y, Tensor) and not y.requires_grad
        assert y.shape == np.shape(expected) and y.dtype == dtype
        np.testing.assert_allclose(y.data, expected, rtol=1e-15 if dtype == np.float64 else 1e-6)


def test_gradient_is_the_finite_difference(operation):
    ours, _, arrays = operation
    assert gradcheck(ours, arrays)


def test_float32_gradients_are_those_of_float64(operation):
    ours, _, arrays = operation
    gradients = {}
    for dtype in (np.float32, np.float64):
        tensors = [trainable(array.astype(np.float32).astype(dtype)) for array in arrays]
        y = ours(*tensors)
        dy = np.asarray(np.random.default_rng(1).standard_normal(y.shape), dtype=dtype)
        assert all(np.asarray(dx).dtype == dtype for dx in y._backward(dy) if dx is not None)
        y.backward(dy)
        gradients[dtype] = [tensor.grad for tensor in tensors]
    for single, double in zip(gradients[np.float32], gradients[np.float64], strict=True):
        assert single.dtype == np.float32 and double.dtype == np.float64
        np.testing.assert_allclose(single, double, rtol=2e-5, atol=1e-6)


def test_nothing_is_written_into_and_memory_order_does_not_matter(operation):
    """Inputs and the upstream gradient are read-only, and once more in Fortran's order with every second element."""
    ours, _, arrays = operation
    results = []
    for strided in (False, True):
        tensors = []
        for array in arrays:
            array = array.copy()
            if strided:
                wide = np.empty([2 * n for n in array.shape][::-1])
                view = wide.T[(..., *[slice(None, None, 2)] * array.ndim)]
                view[...] = array
                array = view
            array.flags.writeable = False
            tensors.append(trainable(array))
        y = ours(*tensors)
        dy = np.asarray(np.random.default_rng(1).standard_normal(y.shape[::-1]).T)
        dy = dy if strided else dy.copy()
        dy.flags.writeable = False
        y.backward(dy)
        results.append([y.data] + [tensor.grad for tensor in tensors])
    for plain, strided in zip(*results, strict=True):
        np.testing.assert_allclose(strided, plain, rtol=1e-12, atol=1e-14)


def test_only_gradients_that_are_asked_for_are_computed(operation):
    """With one trainable input, the others' gradients are None, or dy itself or a view of it, which costs nothing.

    Division is excepted: it needs ∂y/∂a for ∂y/∂b.
    """
    ours, _, arrays = operation
    for asked in range(len(arrays)):
        tensors = [Tensor(array, requires_grad=i == asked) for i, array in enumerate(arrays)]
        y = ours(*tensors)
        dy = np.ones(y.shape)
        for parent, dx in zip(y._parents, y._backward(dy), strict=True):
            if dx is not None and not parent.requires_grad:
                assert np.shares_memory(dx, dy) or dx.size <= 1 or y.op == "truediv"
        y.backward(np.ones(y.shape))
        assert [tensor.grad is not None for tensor in tensors] == [i == asked for i in range(len(arrays))]


# -- corners where a convention decides, as PyTorch decides --------------------------------------------------------


def gradient_of(function, array, dy):
    x = trainable(np.array(array, dtype=np.float64))
    function(x).backward(np.array(dy, dtype=np.float64))
    return x.grad


def test_max_shares_the_gradient_among_ties():
    x = [[1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0], [0.0, -1.0, -2.0, -0.0]]
    came = gradient_of(lambda t: t.max(axis=1), x, [6.0, 8.0, 10.0])
    np.testing.assert_array_equal(came, [[0, 3, 3, 0], [2, 2, 2, 2], [5, 0, 0, 5]])
    came = gradient_of(lambda t: t.max(), x, 4.0)
    np.testing.assert_array_equal(came, [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    came = gradient_of(lambda t: t.max(axis=(0, 1), keepdims=True), x, [[2.0]])
    np.testing.assert_array_equal(came[1], [0.5] * 4)


def test_abs_has_gradient_zero_at_zero():
    np.testing.assert_array_equal(gradient_of(abs, [-2.0, 0.0, -0.0, 3.0], [5, 5, 5, 5]), [-5, 0, 0, 5])


def test_clip_lets_the_gradient_through_at_its_bounds():
    x = [-1.5, -1.0, 0.0, 2.0, 2.5]
    np.testing.assert_array_equal(gradient_of(lambda t: t.clip(-1, 2), x, [1, 2, 3, 4, 5]), [0, 2, 3, 4, 0])
    np.testing.assert_array_equal(gradient_of(lambda t: t.clip(max=2), x, [1, 2, 3, 4, 5]), [1, 2, 3, 4, 0])
    np.testing.assert_array_equal(gradient_of(lambda t: t.clip(min=-1), x, [1, 2, 3, 4, 5]), [0, 2, 3, 4, 5])


@pytest.mark.parametrize(("n", "y", "dx"), [(0, 1, 0), (1, 0, 3), (2, 0, 0), (3, 0, 0), (1.5, 0, 0), (0.0, 1, 0)])
def test_powers_of_zero(n, y, dx):
    x = trainable(np.zeros(2))
    power = x**n
    np.testing.assert_array_equal(power.data, [y, y])
    power.backward(np.array([3.0, 3.0]))
    np.testing.assert_array_equal(x.grad, [dx, dx])


def test_roots_and_logarithms_at_zero_are_infinite_and_numpy_says_so():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.testing.assert_array_equal(gradient_of(Tensor.sqrt, [0.0, 4.0], [1, 1]), [np.inf, 0.25])
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.testing.assert_array_equal(gradient_of(Tensor.log, [0.0, 4.0], [1, 1]), [np.inf, 0.25])


def test_where_keeps_what_was_not_taken_out_of_the_gradient():
    """0 · inf is NaN: a masked-out infinite element must not poison the gradient of the taken ones."""
    x = trainable(np.array([-1.0, 4.0]))
    where([False, True], x, np.inf).backward(np.array([np.inf, 2.0]))
    np.testing.assert_array_equal(x.grad, [0.0, 2.0])


def test_empty_tensors():
    x = trainable(np.zeros((0, 3)))
    assert x.sum().item() == 0 and x.sum(axis=0).data.tolist() == [0, 0, 0]
    for y in (
        x * 2,
        x.exp(),
        x.sum(axis=1),
        x.mean(axis=1),
        x.max(axis=1),
        x @ np.ones((3, 2)),
        x[:, 0],
        x.T,
        x.reshape(3, 0),
    ):
        x.grad = None
        y.backward(np.ones(y.shape))
        assert x.grad.shape == (0, 3)
    with pytest.raises(ValueError, match="no identity"):
        x.max(axis=0)
    with pytest.warns(RuntimeWarning):
        assert np.isnan(x.mean().item())
    empty_inside = trainable(np.ones((2, 0))) @ trainable(np.ones((0, 3)))
    np.testing.assert_array_equal(empty_inside.data, np.zeros((2, 3)))
    empty_inside.backward(np.ones((2, 3)))


def test_tensors_without_axes():
    x = trainable(np.array(3.0))
    y = (x * x).sum() + x.max() + x.mean() + x.reshape(1)[0] + x[None].sum() + x.T + x.transpose(())
    assert y.shape == () and y.item() == 27
    y.backward()
    assert x.grad.shape == () and x.grad == 12
    assert isinstance(x.grad, np.ndarray)


# -- dtypes --------------------------------------------------------------------------------------------------------

OTHERS = {
    "int": 3,
    "float": 0.1,
    "bool": True,
    "np.float64": np.float64(0.1),
    "np.float32": np.float32(0.1),
    "np.int64": np.int64(3),
    "array without axes": np.array(0.1),
    "integers": np.array([1, 2, 3]),
    "bools": np.array([True, False, True]),
    "list": [0.1, 0.2, 0.3],
    "list of integers": [1, 2, 3],
    "integer tensor": Tensor([1, 2, 3]),
    "bool tensor": Tensor([True, False, True]),
}
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operate", ARITHMETIC, ids=lambda o: o.__name__)
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_other_operands_do_not_change_the_dtype(operate, other, dtype):
    x = trainable(np.array([1.5, -2.5, 3.5], dtype=dtype))
    raw = np.asarray(other.data if isinstance(other, Tensor) else other).astype(dtype)
    for y, expected in ((operate(x, other), operate(x.data, raw)), (operate(other, x), operate(raw, x.data))):
        assert isinstance(y, Tensor) and y.dtype == dtype and y.requires_grad
        np.testing.assert_array_equal(y.data, expected)
        x.grad = None
        y.backward(np.array([1.0, 2.0, -1.0]))
        assert x.grad.dtype == dtype


def test_other_operations_keep_float32():
    x = trainable(np.array([1.5, -2.5, 3.5], dtype=np.float32))
    results = [
        x ** np.float64(2),
        x.abs() ** np.float64(0.3),
        x.clip(np.float64(-0.1), np.float64(0.1)),
        where([True, False, True], x, np.float64(0.1)),
        where([True, False, True], 0.1, x),
        where([True, False, True], [0.1, 0.2, 0.3], x),
        where([True, False, True], x, Tensor([1, 2, 3])),
        x @ np.array([1, 2, 3]),
        np.array([[1, 2, 3]]) @ x,
        matmul([0.1, 0.2, 0.3], x),
        concatenate([x, [0.5]]),
        stack([x, [0.5, 0.25, 1.0]]),
    ]
    assert [y.dtype for y in results] == [np.float32] * len(results)


def test_lists_beside_float64_are_not_rounded_to_float32():
    x = Tensor(np.zeros(2))
    np.testing.assert_array_equal((x + [0.1, 0.2]).data, [0.1, 0.2])
    np.testing.assert_array_equal(matmul([[0.1, 0.2]], Tensor(np.eye(2))).data, [[0.1, 0.2]])


def test_wider_arrays_promote_as_numpy_does():
    single, double = np.ones(2, np.float32), np.ones(2, np.float64)
    assert (Tensor(single) + double).dtype == (Tensor(double) * Tensor(single)).dtype == np.float64
    x = trainable(single)
    (x * double).backward(double)
    assert x.grad.dtype == np.float32


def test_integers_among_themselves_stay_integers():
    i = Tensor([1, 2, 3])
    assert (i + 1).dtype == (1 - i).dtype == (i * i).dtype == (i + True).dtype == np.int64
    assert (i + 0.5).dtype == (0.5 * i).dtype == np.float32
    assert (Tensor(np.array([1], np.uint8)) + 2).dtype == np.uint8
    assert (Tensor([True]) + 1).data.tolist() == [2]
    with pytest.raises(OverflowError, match="300 out of bounds for uint8"):
        Tensor(np.array([1], np.uint8)) + 300


def test_default_dtypes():
    dtypes = [Tensor(x).dtype for x in (1.0, [1.0, 2], 1, [1, 2], True, np.float64(1), np.ones(2), np.float16(1))]
    expected = [np.float32, np.float32, np.int64, np.int64, bool, np.float64, np.float64, np.float16]
    assert dtypes == [np.dtype(d) for d in expected]
    assert Tensor([0.1], dtype=np.float64).data[0] == 0.1
    assert Tensor([1, 2], requires_grad=True, dtype=np.float32).dtype == np.float32


def test_astype_is_differentiable_among_floating_point_types():
    x, dy = trainable(np.array([1.25, -2.5], dtype=np.float32)), np.array([0.1, 0.3])
    y = x.astype(np.float64)
    assert y.dtype == np.float64 and y.requires_grad
    y.backward(dy)
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, dy.astype(np.float32))


@pytest.mark.parametrize("dtype", [int, np.uint8, bool])
def test_astype_integer_leaves_the_tape(dtype):
    """Rounding has derivative zero; letting dy through would be another function's derivative."""
    x = trainable(np.array([1.25, 2.5]))
    y = x.astype(dtype)
    assert not y.requires_grad and y.dtype == dtype
    (x * y).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, y.data)


# -- making and reading --------------------------------------------------------------------------------------------


def test_a_tensor_shares_the_array_it_is_given():
    array = np.ones((2, 3))
    x = Tensor(array)
    assert x.data is array and x.detach().data is array and x.numpy() is array
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.float64, 2)
    assert x.is_leaf and not x.requires_grad and x.grad is None


BAD = [None, "3", 1j, [1, None], ["a"], {}, np.array([1j]), np.array([None]), np.datetime64("2020-01-01")]


@pytest.mark.parametrize("data", BAD, ids=repr)
def test_what_is_no_real_number_is_refused(data):
    for attempt in (
        lambda: Tensor(data),
        lambda: Tensor(data, dtype=np.float32),  # NumPy would make NaN of None, and 3 of "3"
        lambda: Tensor(1.0) + data,
        lambda: data * Tensor(np.ones(2)),
        lambda: Tensor([1, 2]) - data,
        lambda: where([True], Tensor([1.0]), data),
    ):
        with pytest.raises(ValueError, match="a Tensor holds real numbers, got "):
            attempt()
    with pytest.raises(ValueError, match="a Tensor holds real numbers, got list of dtype complex"):
        Tensor([1.0], dtype=complex)


def test_only_floating_point_tensors_require_a_gradient():
    for data in (1, [1, 2], True, np.array([1], np.uint8)):
        with pytest.raises(ValueError, match="only floating-point tensors can require a gradient, got dtype"):
            Tensor(data, requires_grad=True)
        with pytest.raises(ValueError, match="only floating-point"):
            Parameter(data)
    assert not Tensor([1, 2]).requires_grad and not Buffer([1.0]).requires_grad and Parameter([1.0]).requires_grad


def test_a_tensor_of_a_tensor_is_refused():
    with pytest.raises(ValueError, match="would lose the tape"):
        Tensor(Tensor(1.0))
    x = trainable(np.ones(2))
    assert as_tensor(x) is x and as_tensor(x, like=Tensor(1.0)) is x


def test_python_numbers():
    x = trainable(np.array([[2.5]]))
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert type(x.item()) is float and type(Tensor([3]).item()) is int and type(Tensor([True]).item()) is bool
    assert not Tensor(0.0) and f"{x:.3f} {Tensor(7):>3d}" == "2.500   7" and f"{x}" == repr(x)
    for broken in (Tensor.item, float, int, bool, lambda t: f"{t:.3f}"):
        with pytest.raises(ValueError, match=r"needs a tensor of one element, got shape \(2,\)"):
            broken(Tensor([1.0, 2.0]))


def test_repr_shows_dtype_and_history():
    x = trainable(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    assert repr(Tensor([1, 2])) == "Tensor([1, 2], dtype=int64)"
    assert repr(Tensor(1.5)) == "Tensor(1.5, dtype=float32)"
    assert repr(x) == "Tensor([[1., 2.],\n        [3., 4.]], dtype=float32, requires_grad=True)"
    assert repr(x[0] * 2) == "Tensor([2., 4.], dtype=float32, op=mul)"
    assert repr(Parameter([1.0])) == "Parameter([1.], dtype=float32, requires_grad=True)"
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 1000


def test_numpy_takes_only_tensors_whose_gradient_it_cannot_lose():
    x, plain = trainable(np.ones(2)), Tensor(np.ones(2))
    np.testing.assert_array_equal(np.asarray(plain), [1.0, 1.0])
    assert np.asarray(plain) is not None and np.shares_memory(np.asarray(plain), plain.data)
    assert not np.shares_memory(np.array(plain), plain.data)
    assert np.asarray(plain, dtype=np.float32).dtype == np.float32
    for lossy in (x.numpy, lambda: np.asarray(x), (x * 2).numpy, lambda: np.concatenate([x, x])):
        with pytest.raises(ValueError, match=r"use \.detach\(\)\.numpy\(\), or \.data, to leave the tape"):
            lossy()
    np.testing.assert_array_equal((x * 2).detach().numpy(), [2.0, 2.0])
    for ufunc in (np.exp, np.sqrt, lambda t: np.add(t, 1), lambda t: np.matmul(t, t)):
        with pytest.raises(TypeError, match="does not support ufuncs"):
            ufunc(plain)


def test_detach_is_a_leaf_without_history():
    x = trainable(np.ones(2))
    y = x * 2
    (y.detach() * x + y).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [4.0, 4.0])
    assert y.detach().is_leaf and not y.detach().requires_grad
    assert type(Parameter([1.0]).detach()) is Tensor


def test_comparisons_are_bools_off_the_tape():
    x, other = trainable(np.array([1.0, 2.0, 3.0])), np.array([2.0, 2.0, 2.0])
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        expected = compare(x.data, other)
        for right in (2, 2.0, np.float32(2), other, Tensor(other)):
            y = compare(x, right)
            assert isinstance(y, Tensor) and y.dtype == bool and not y.requires_grad
            np.testing.assert_array_equal(y.data, expected)
        np.testing.assert_array_equal(compare(other, x).data, compare(other, x.data))
        with pytest.raises(TypeError, match="not supported"):
            compare(x, None)
    np.testing.assert_array_equal(x[x > 1.5].data, [2.0, 3.0])


def test_equality_is_identity_so_tensors_live_in_sets_and_lists():
    x, same = Tensor([1.0]), Tensor([1.0])
    assert x == x and x != same and x is not None and (x == None) is False  # noqa: E711
    assert len({x, same, x}) == 2 and [same, x].index(x) == 1
    with pytest.raises(TypeError, match="not a container"):
        _ = 1.0 in x  # it would always have been False


def test_iteration_and_length(rng):
    x, dy = trainable(rng.standard_normal((3, 2))), rng.standard_normal(2)
    first, second, third = x
    (first * 2 + third * second).backward(dy)
    np.testing.assert_allclose(x.grad, [2 * dy, third.data * dy, second.data * dy], rtol=1e-15)
    for unsized in (len, iter, list):
        with pytest.raises(TypeError, match="unsized"):
            unsized(Tensor(1.0))


def test_in_place_operators_bind_a_new_tensor():
    x, y = trainable(np.ones(2)), trainable(np.ones(2))
    before = z = x * 2
    z -= y
    assert z is not before
    np.testing.assert_array_equal(before.data, [2.0, 2.0])
    z.backward(np.array([3.0, 5.0]))
    np.testing.assert_array_equal(x.grad, [6.0, 10.0])
    np.testing.assert_array_equal(y.grad, [-3.0, -5.0])


@pytest.mark.parametrize("kind", [Parameter, Buffer])
@pytest.mark.parametrize("operate", [operator.iadd, operator.isub, operator.imul, operator.itruediv])
def test_in_place_operators_on_parameters_and_buffers_are_refused(kind, operate):
    """PyTorch's `p -= lr * p.grad` would leave the module's array as it was, and nothing would learn."""
    p = kind(np.ones(2))
    with no_grad(), pytest.raises(ValueError, match=f"on a {kind.__name__} would bind.*write `p.data -= step`"):
        operate(p, 2.0)
    p.data -= 0.25
    np.testing.assert_array_equal(p.data, [0.75, 0.75])
    assert type(p + 1) is Tensor


def test_in_place_on_an_array_with_a_tensor_is_refused_by_numpy():
    array = np.ones(2)
    with pytest.raises(TypeError):
        array += Tensor(np.ones(2))
    np.testing.assert_array_equal(array, [1.0, 1.0])


def test_parameters_can_be_copied_and_pickled():
    p = Parameter(np.arange(3.0))
    p.grad = np.ones(3)
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert type(twin) is Parameter and twin.requires_grad and twin.data is not p.data
        np.testing.assert_array_equal(twin.data, p.data)
        (twin * 2).backward(np.ones(3))
        np.testing.assert_array_equal(twin.grad, [3.0, 3.0, 3.0])
    np.testing.assert_array_equal(p.grad, [1.0, 1.0, 1.0])


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 3), (2, 3)), ((3,), (2,)), ((2, 3), ()), ((), (3,)), ((3,), (2, 3)), ((2, 3), (2,)), ((4, 2, 3), (4, 2))],
)
def test_matmul_names_the_shapes_that_do_not_fit(a, b):
    with pytest.raises(ValueError) as error:
        matmul(np.ones(a), np.ones(b))
    assert str(error.value) == f"matmul expected (..., n, k) and (..., k, m), got {a} and {b}"


@pytest.mark.parametrize(
    "broken",
    [
        lambda x: x + np.ones(4),
        lambda x: x @ np.ones((5, 3, 4)) @ np.ones((4, 4, 2)),
        lambda x: x.reshape(4),
        lambda x: x.sum(axis=2),
        lambda x: x.transpose(0),
        lambda x: x.swapaxes(0, 2),
        lambda x: concatenate([x, x.T]),
        lambda x: concatenate([]),
        lambda x: stack([x, x.T]),
        lambda x: stack([]),
    ],
)
def test_numpys_own_errors_are_value_errors_too(broken):
    with pytest.raises(ValueError):
        broken(trainable(np.ones((2, 3))))


def test_power_and_clip_say_what_they_need():
    x = Tensor([1.0, 2.0])
    for exponent in (x, [2], "2", None, np.array([2.0])):
        with pytest.raises(ValueError, match="power: the exponent must be a number, got " + type(exponent).__name__):
            x**exponent
    with pytest.raises(TypeError, match="unsupported operand"):
        2**x
    with pytest.raises(ValueError, match="clip needs min, max or both"):
        x.clip()


def test_index_errors_come_at_once():
    x = Tensor(np.ones((2, 3)))
    for index in (2, (0, 3), (0, 0, 0), [5], "a", 1.0):
        with pytest.raises(IndexError):
            x[index]


# -- tensors as indices and conditions -----------------------------------------------------------------------------


def test_tensors_index_and_mask(rng):
    x = rng.standard_normal((3, 4))
    t = Tensor(x)
    rows, columns = Tensor([2, 0, 2]), Tensor([1, 1, 0])
    np.testing.assert_array_equal(t[rows].data, x[rows.data])
    np.testing.assert_array_equal(t[rows, columns].data, x[rows.data, columns.data])
    np.testing.assert_array_equal(t[:, columns].data, x[:, columns.data])
    np.testing.assert_array_equal(t[Tensor(1)].data, x[1])
    np.testing.assert_array_equal(t[t > 0].data, x[x > 0])
    np.testing.assert_array_equal(where(t > 0, t, -t).data, np.abs(x))


def test_repeated_indices_add_up():
    x = trainable(np.zeros((3, 2)))
    x[np.array([0, 2, 0, 0]), np.array([1, 1, 1, 0])].backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    np.testing.assert_array_equal(x.grad, [[1000, 101], [0, 0], [0, 10]])


# -- operations of one's own ---------------------------------------------------------------------------------------


def test_record_makes_an_operation(rng):
    def cube(x):
        def backward(dy):
            return (3 * x.data * x.data * dy,)

        return record(x.data**3, (x,), backward)

    assert gradcheck(cube, [rng.standard_normal((2, 3))])
    assert cube(trainable(np.ones(2))).op == "cube"
    with no_grad():
        assert not cube(trainable(np.ones(2))).requires_grad
