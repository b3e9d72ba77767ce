"""Properties that hold for any shape, axis, index and expression, with examples drawn by Hypothesis.

Gradients are compared with a second derivation (repeat explicitly, scatter-add by flat position), not with the code's
own: the reference of an index expression is the same expression applied to an array of positions.
"""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scratch.combine import concatenate, stack, where
from scratch.gradcheck import gradcheck
from scratch.tape import unbroadcast
from scratch.tensor import Tensor, matmul

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FULL_SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def trainable(array):
    return Tensor(np.asarray(array), requires_grad=True)


def gradients(function, arrays, seed):
    """∂(Σ v · function)/∂arrays for a random v, and v."""
    tensors = [trainable(array) for array in arrays]
    y = function(*tensors)
    v = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(v)
    return [tensor.grad for tensor in tensors], v


def repeated_transpose(dy, shape):
    """The transpose of broadcasting, from its definition: element i receives every dy that a copy of i went to."""
    positions = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), dy.shape)
    return np.bincount(positions.ravel(), dy.ravel(), minlength=math.prod(shape)).reshape(shape)


# -- broadcasting --------------------------------------------------------------------------------------------------

BROADCASTABLE = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=4)


@given(BROADCASTABLE, SEEDS)
@settings(max_examples=200)
def test_unbroadcast_is_the_transpose_of_broadcasting(shapes, seed):
    dy = np.random.default_rng(seed).standard_normal(shapes.result_shape)
    for shape in shapes.input_shapes:
        came = unbroadcast(dy, shape)
        assert came.shape == shape
        np.testing.assert_allclose(came, repeated_transpose(dy, shape), rtol=1e-12, atol=1e-13)


@given(SHAPES, SHAPES)
@settings(max_examples=200)
def test_unbroadcast_refuses_exactly_what_does_not_broadcast(gradient, shape):
    try:
        fits = np.broadcast_shapes(gradient, shape) == gradient
    except ValueError:
        fits = False
    if fits:
        assert unbroadcast(np.ones(gradient), shape).shape == shape
    else:
        with pytest.raises(ValueError, match="does not broadcast"):
            unbroadcast(np.ones(gradient), shape)


PARTIALS = {  # name: (operation, ∂/∂a, ∂/∂b)
    "add": (lambda a, b: a + b, lambda a, b: np.ones_like(a + b), lambda a, b: np.ones_like(a + b)),
    "sub": (lambda a, b: a - b, lambda a, b: np.ones_like(a + b), lambda a, b: -np.ones_like(a + b)),
    "mul": (lambda a, b: a * b, lambda a, b: b + 0 * a, lambda a, b: a + 0 * b),
    "div": (lambda a, b: a / b, lambda a, b: 1 / b + 0 * a, lambda a, b: -a / (b * b)),
}


@pytest.mark.parametrize("name", PARTIALS)
@given(shapes=BROADCASTABLE, seed=SEEDS)
def test_arithmetic_broadcasts_as_numpy(name, shapes, seed):
    operation, *partials = PARTIALS[name]
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape) for shape in shapes.input_shapes]
    np.testing.assert_array_equal(operation(*map(Tensor, arrays)).data, operation(*arrays))
    came, v = gradients(operation, arrays, seed)
    for array, dx, partial in zip(arrays, came, partials, strict=True):
        np.testing.assert_allclose(dx, repeated_transpose(v * partial(*arrays), array.shape), rtol=1e-11, atol=1e-12)


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3), SEEDS)
def test_where_broadcasts_all_three(shapes, seed):
    rng = np.random.default_rng(seed)
    condition = rng.random(shapes.input_shapes[0]) < 0.5
    arrays = [rng.standard_normal(shape) for shape in shapes.input_shapes[1:]]
    np.testing.assert_array_equal(where(condition, *arrays).data, np.where(condition, *arrays))
    came, v = gradients(lambda a, b: where(condition, a, b), arrays, seed)
    for array, dx, taken in zip(arrays, came, (condition, ~condition), strict=True):
        np.testing.assert_allclose(dx, repeated_transpose(v * taken, array.shape), rtol=1e-11, atol=1e-12)


@st.composite
def matmul_shapes(draw):
    """Two shapes that @ takes: vectors, matrices, and batches that broadcast, empty ones too."""
    n, k, m = draw(st.lists(st.integers(0, 3), min_size=3, max_size=3))
    batches = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=1, max_side=3)).input_shapes
    a = draw(st.sampled_from([(k,), (n, k), (*batches[0], n, k)]))
    b = draw(st.sampled_from([(k,), (k, m), (*batches[1], k, m)]))
    return a, b


@given(matmul_shapes(), SEEDS)
@settings(max_examples=150)
@example(((3,), (2, 1, 3, 4)), 0)
@example(((2, 1, 4, 3), (3,)), 0)
def test_matmul_of_any_ranks(shapes, seed):
    """The reference writes each product as a sum over k of broadcast factors: A[..., n, k, 1] · B[..., 1, k, m]."""
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape) for shape in shapes)
    y = matmul(a, b)
    np.testing.assert_array_equal(y.data, a @ b)
    (da, db), v = gradients(matmul, [a, b], seed)
    A = (a if a.ndim > 1 else a[None, :])[..., :, :, None]
    B = (b if b.ndim > 1 else b[:, None])[..., None, :, :]
    V = v if b.ndim > 1 else v[..., None]
    V = (V if a.ndim > 1 else V[..., None, :])[..., :, None, :]
    np.testing.assert_allclose(da, repeated_transpose(V * B + 0 * A, A.shape).reshape(a.shape), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(db, repeated_transpose(V * A + 0 * B, B.shape).reshape(b.shape), rtol=1e-10, atol=1e-12)


# -- reductions ----------------------------------------------------------------------------------------------------


@st.composite
def shape_and_axis(draw, shapes=SHAPES):
    """A shape and an axis argument for it: None, one axis, or several, from either end."""
    shape = draw(shapes)
    ndim = len(shape)
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim) if ndim else st.just([]))
    signed = tuple(axis - ndim if draw(st.booleans()) else axis for axis in chosen)
    axis = draw(st.sampled_from([None, signed, *signed[:1]]))
    return shape, axis


def reduced_axes(shape, axis):
    if axis is None:
        return tuple(range(len(shape)))
    return tuple(a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,)))


@given(shape_and_axis(), st.booleans(), SEEDS)
@settings(max_examples=150)
def test_sum_and_mean_over_any_axes(shape_axis, keepdims, seed):
    shape, axis = shape_axis
    x = np.random.default_rng(seed).standard_normal(shape)
    n = math.prod(shape[a] for a in reduced_axes(shape, axis))
    for name, weight in (("sum", 1.0), ("mean", 1 / max(n, 1))):
        if name == "mean" and n == 0:
            continue  # NaN, and NumPy's warning
        y = getattr(Tensor(x), name)(axis=axis, keepdims=keepdims)
        expected = getattr(x, name)(axis=axis, keepdims=keepdims)
        assert y.shape == np.shape(expected)
        np.testing.assert_array_equal(y.data, expected)
        (dx,), v = gradients(lambda t, name=name: getattr(t, name)(axis=axis, keepdims=keepdims), [x], seed)
        kept = [1 if a in reduced_axes(shape, axis) else size for a, size in enumerate(shape)]
        np.testing.assert_allclose(dx, np.broadcast_to(v.reshape(kept), shape) * weight, rtol=1e-14)


@given(shape_and_axis(FULL_SHAPES), st.booleans(), SEEDS)
def test_max_over_any_axes_shares_among_ties(shape_axis, keepdims, seed):
    shape, axis = shape_axis
    x = np.random.default_rng(seed).integers(0, 3, shape).astype(float)
    np.testing.assert_array_equal(Tensor(x).max(axis=axis, keepdims=keepdims).data, x.max(axis=axis, keepdims=keepdims))
    (dx,), v = gradients(lambda t: t.max(axis=axis, keepdims=keepdims), [x], seed)
    axes = reduced_axes(shape, axis)
    v = v.reshape([1 if a in axes else size for a, size in enumerate(shape)])
    np.testing.assert_allclose(dx.sum(axis=axes, keepdims=True), v, rtol=1e-12, atol=1e-13)  # nothing is lost
    largest = x == x.max(axis=axes, keepdims=True)
    assert not dx[~largest].any()
    share = np.broadcast_to(v / largest.sum(axis=axes, keepdims=True), shape)
    np.testing.assert_allclose(dx[largest], share[largest], rtol=1e-14)


# -- arranging -----------------------------------------------------------------------------------------------------


@given(SHAPES, st.data(), SEEDS)
@settings(max_examples=100)
def test_transposing_and_reshaping_there_and_back(shape, data, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    order = data.draw(st.permutations(range(len(shape))))
    other = data.draw(st.sampled_from([shape[::-1], (x.size,), (1, *shape), (*shape, 1)]))
    back = np.argsort(order)

    def there(t):
        return t.transpose(*order).reshape(other)

    def round_trip(t):
        return there(t).reshape([shape[axis] for axis in order]).transpose(*(int(axis) for axis in back))

    np.testing.assert_array_equal(there(Tensor(x)).data, there(x))
    np.testing.assert_array_equal(round_trip(Tensor(x)).data, x)
    (dx,), v = gradients(round_trip, [x], seed)
    np.testing.assert_array_equal(dx, v)
    (dx,), v = gradients(there, [x], seed)
    np.testing.assert_array_equal(dx, v.reshape([shape[axis] for axis in order]).transpose(back))


@given(FULL_SHAPES, st.data(), SEEDS)
def test_swapping_two_axes_twice(shape, data, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    first, second = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
    y = Tensor(x).swapaxes(first, second)
    np.testing.assert_array_equal(y.data, x.swapaxes(first, second))
    np.testing.assert_array_equal(y.swapaxes(second, first).data, x)
    (dx,), v = gradients(lambda t: t.swapaxes(first, second), [x], seed)
    np.testing.assert_array_equal(dx, v.swapaxes(first, second))


@given(FULL_SHAPES, st.data(), SEEDS)
def test_concatenating_pieces_restores_the_whole(shape, data, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=3)))
    pieces = np.split(x, cuts, axis=axis)
    np.testing.assert_array_equal(concatenate(pieces, axis=axis).data, x)
    came, v = gradients(lambda *t: concatenate(t, axis=axis), pieces, seed)
    np.testing.assert_array_equal(np.concatenate(came, axis=axis), v)
    rows = [np.take(x, i, axis=axis) for i in range(shape[axis])]
    np.testing.assert_array_equal(stack(rows, axis=axis).data, x)
    came, v = gradients(lambda *t: stack(t, axis=axis), rows, seed)
    np.testing.assert_array_equal(np.stack(came, axis=axis), v)


# -- indexing ------------------------------------------------------------------------------------------------------


@st.composite
def shape_and_index(draw):
    """A shape and an index expression for it: slices, integers, None, Ellipsis; integer arrays; masks; mixtures."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    kind = draw(st.sampled_from(["basic", "integers", "mask", "mixed"]))
    if kind == "basic":
        return shape, draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    if kind == "mask":
        inner = draw(st.integers(1, len(shape)))
        return shape, draw(hnp.arrays(bool, shape[:inner]))
    result = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
    if kind == "integers":
        return shape, draw(hnp.integer_array_indices(shape, result_shape=result))
    size, parts = draw(result), []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        if draw(st.integers(0, 4)) == 0:
            parts.append(None)
        one = st.integers(-n, n - 1)
        parts.append(draw(st.one_of(st.slices(n), one, hnp.arrays(np.int64, size, elements=one))))
    return shape, tuple(parts) if draw(st.booleans()) else (*parts, ...)


@given(shape_and_index(), SEEDS)
@settings(max_examples=250)
@example(((3,), ([0, 0, -3],)), 0)
@example(((2, 3), (None, np.array(1), ..., None)), 0)
def test_indexing_reads_as_numpy_and_scatters_back(shape_and_index, seed):
    shape, index = shape_and_index
    x = np.random.default_rng(seed).standard_normal(shape)
    y = Tensor(x)[index]
    np.testing.assert_array_equal(y.data, x[index])
    assert y.shape == np.shape(x[index])
    (dx,), v = gradients(lambda t: t[index], [x], seed)
    read = np.arange(x.size).reshape(shape)[index]  # where each element of y was read
    expected = np.bincount(np.ravel(read), np.ravel(v), minlength=x.size).reshape(shape)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-13)


# -- expressions ---------------------------------------------------------------------------------------------------

UNARY = [
    lambda t: -t,
    lambda t: t.tanh(),
    lambda t: (t * 0.5).tanh().exp(),
    lambda t: (t * t + 1).sqrt(),
    lambda t: (t * t + 2).log(),
    lambda t: t.T.reshape(-1)[::-1].reshape(2, 3),
    lambda t: t[[1, 0]][:, [2, 0, 0]],
    lambda t: t - t.mean(axis=0, keepdims=True),
    lambda t: t.sum(axis=1, keepdims=True) * 0.3 + 1.5,  # (2, 1), broadcast by what follows
    lambda t: 1 / (t * t + 1),
    lambda t: t**3 * 0.1,
]
BINARY = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (b * b + 1),
    lambda a, b: (a @ b.T).tanh() @ b,
    lambda a, b: where([[True, False, True], [False, False, True]], a, b),
    lambda a, b: concatenate([a, b], axis=0)[1:3],
    lambda a, b: stack([a, b], axis=1).mean(axis=1),
]
TREES = st.recursive(
    st.integers(0, 2),  # a leaf: which of three inputs
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(UNARY), inner),
        st.tuples(st.sampled_from(BINARY), inner, inner),
        st.tuples(st.sampled_from(BINARY), inner).map(lambda pair: (*pair, pair[1])),  # a diamond
    ),
    max_leaves=10,
)


def evaluate(tree, leaves, cache):
    """The tree's value, equal subtrees once: inputs and branches are used several times."""
    if isinstance(tree, int):
        return leaves[tree]
    if tree not in cache:
        y = tree[0](*(evaluate(inner, leaves, cache) for inner in tree[1:]))
        cache[tree] = y if y.shape == (2, 3) else y * np.ones((2, 3))
    return cache[tree]


@given(TREES, SEEDS)
@settings(max_examples=80)
def test_the_gradient_of_any_expression_is_the_finite_difference(tree, seed):
    rng = np.random.default_rng(seed)
    leaves = [rng.standard_normal((2, 3)) for _ in range(3)]

    def expression(*inputs):
        return evaluate(tree, inputs, {})

    assert gradcheck(expression, leaves, rtol=1e-5, atol=1e-5)


@given(TREES, SEEDS)
@settings(max_examples=60)
def test_backward_is_linear_and_adds_up(tree, seed):
    """∂(Σ (u + 2v) · y) = ∂(Σ u · y) + 2 ∂(Σ v · y): one walk with u + 2v, two walks that accumulate."""
    rng = np.random.default_rng(seed)
    leaves = [trainable(rng.standard_normal((2, 3))) for _ in range(3)]
    u, v = rng.standard_normal((2, 2, 3))
    y = evaluate(tree, leaves, {})
    y.backward(u + 2 * v, retain_graph=True)
    once = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    y.backward(u, retain_graph=True)
    y.backward(2 * v)
    for leaf, expected in zip(leaves, once, strict=True):
        assert (leaf.grad is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(leaf.grad, expected, rtol=1e-9, atol=1e-9 * max(1, np.abs(expected).max()))


# -- PyTorch, live -------------------------------------------------------------------------------------------------


@pytest.mark.torch
@given(BROADCASTABLE, SEEDS)
@settings(max_examples=60)
def test_broadcast_gradients_equal_pytorchs(shapes, seed):
    import torch

    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(0.5, 2, shape) for shape in shapes.input_shapes]

    def expression(a, b):
        return (a * b - a) / b + a

    came, v = gradients(expression, arrays, seed)
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    expression(*theirs).backward(torch.tensor(v))
    for dx, tensor in zip(came, theirs, strict=True):
        assert dx.shape == tuple(tensor.shape)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.torch
@given(TREES, SEEDS)
@settings(max_examples=60)
def test_values_and_gradients_of_expressions_in_pytorch(tree, seed):
    import torch

    def translated(node):
        """The same tree: where, concatenate and stack become PyTorch's."""
        if isinstance(node, int):
            return node
        return (IN_TORCH.get(node[0], node[0]), *map(translated, node[1:]))

    condition = torch.tensor([[True, False, True], [False, False, True]])
    IN_TORCH = {
        UNARY[5]: lambda t: t.T.reshape(-1).flip(0).reshape(2, 3),
        BINARY[5]: lambda a, b: torch.where(condition, a, b),
        BINARY[6]: lambda a, b: torch.cat([a, b], dim=0)[1:3],
        BINARY[7]: lambda a, b: torch.stack([a, b], dim=1).mean(dim=1),
    }

    def in_torch(node, leaves):
        if isinstance(node, int):
            return leaves[node]
        return node[0](*(in_torch(inner, leaves) for inner in node[1:])) * torch.ones(2, 3, dtype=torch.float64)

    rng = np.random.default_rng(seed)
    arrays, v = rng.standard_normal((3, 2, 3)), rng.standard_normal((2, 3))
    ours = [trainable(array) for array in arrays]
    y = evaluate(tree, ours, {})
    y.backward(v)
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = in_torch(translated(tree), theirs)
    expected.backward(torch.tensor(v))
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None:
            scale = max(1, float(np.abs(mine.grad).max()))
            np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-8, atol=1e-9 * scale)
