"""The engine: what it adds up, what it never writes into, what it releases, and how it fails."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from scratch.tape import Node, ancestors, unbroadcast
from scratch.tensor import Parameter, Tensor, is_grad_enabled, no_grad, record


def leaf(rng, *shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


def probe(returns):
    """An operation whose backward returns what the test says."""

    def operation(*xs):
        def backward(dy):
            return returns(dy)

        return record(sum(x.data for x in xs), xs, backward)

    return operation


# -- adding up -----------------------------------------------------------------------------------------------------


def test_x_plus_x_and_x_times_x(rng):
    x, dy = leaf(rng, 2, 3), rng.standard_normal((2, 3))
    (x + x).backward(dy)
    np.testing.assert_array_equal(x.grad, 2 * dy)
    x.grad = None
    (x * x).backward(dy)
    np.testing.assert_allclose(x.grad, 2 * x.data * dy, rtol=1e-15)


def test_one_leaf_along_paths_of_different_length(rng):
    x, dy = leaf(rng, 4), rng.standard_normal(4)
    y = x * x  # L = dy · (x² x + x² + 3x + x)
    (y * x + y + 3 * x + x).backward(dy)
    np.testing.assert_allclose(x.grad, dy * (3 * x.data**2 + 2 * x.data + 4), rtol=1e-13)


def test_a_node_waits_for_everything_computed_from_it(rng):
    x, dy = leaf(rng, 3), rng.standard_normal(3)
    seen = []

    def watched(a):
        def backward(dy):
            seen.append(dy.copy())
            return (dy,)

        return record(a.data * 1, (a,), backward)

    y = watched(x)
    late = y.exp().tanh().exp()
    (y + late * y + y).backward(dy)
    assert len(seen) == 1
    e = np.exp(np.tanh(np.exp(y.data)))
    de = e * (1 - np.tanh(np.exp(y.data)) ** 2) * np.exp(y.data)
    np.testing.assert_allclose(x.grad, dy * (2 + e + y.data * de), rtol=1e-12)


def test_sixty_doublings_take_sixty_steps(rng):
    calls = []

    def double(a):
        def backward(dy):
            calls.append(1)
            return dy, dy

        return record(a.data + a.data, (a, a), backward)

    x = leaf(rng, 2)
    y = x
    for _ in range(60):
        y = double(y)
    dy = rng.standard_normal(2)
    y.backward(dy)
    assert len(calls) == 60
    np.testing.assert_array_equal(x.grad, dy * 2.0**60)


def test_two_losses_add_into_grad(rng):
    x, first, second = leaf(rng, 2, 3), rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    (x * 2).backward(first)
    before = x.grad
    kept = before.copy()
    (x.exp()).backward(second)
    np.testing.assert_allclose(x.grad, 2 * first + np.exp(x.data) * second, rtol=1e-15)
    np.testing.assert_array_equal(before, kept)  # whoever held the first gradient still holds it


def test_backward_on_a_leaf_and_on_one_element_of_any_rank(rng):
    x, dy = leaf(rng, 2), rng.standard_normal(2)
    x.backward(dy)
    np.testing.assert_array_equal(x.grad, dy)
    assert not np.shares_memory(x.grad, dy)
    y = leaf(rng, 1, 1)
    (y * 3).backward()
    np.testing.assert_array_equal(y.grad, [[3.0]])


def test_a_gradient_may_be_a_tensor_or_a_list_and_takes_the_dtype(rng):
    x = leaf(rng, 2, dtype=np.float32)
    (x * 1).backward([0.5, -2])
    (x * 1).backward(Tensor(np.array([0.25, 1.0])))
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [0.75, -1.0])
    x.grad, seen = None, []
    x.backward(np.array([1.0, 2.0]))
    assert x.grad.dtype == np.float32
    probe(lambda dy: (seen.append(dy.dtype), dy)[1:])(x).backward(np.array([1.0, 2.0]))
    assert seen == [np.float32]


# -- whose array it is ---------------------------------------------------------------------------------------------

ALIASES = {
    "dy for both": lambda a, b: probe(lambda dy: (dy, dy))(a, b),
    "one new array for both": lambda a, b: probe(lambda dy: (dy * 2,) * 2)(a, b),
    "views of dy": lambda a, b: probe(lambda dy: (dy[:], dy.reshape(dy.shape)))(a, b),
    "an array and its view": lambda a, b: probe(lambda dy: (lambda g: (g, g[:]))(dy * 2))(a, b),
    "a view and its array": lambda a, b: probe(lambda dy: (lambda g: (g[:], g))(dy * 2))(a, b),
    "a read-only view": lambda a, b: probe(lambda dy: (np.broadcast_to(dy, dy.shape),) * 2)(a, b),
    "after an operation that passes dy on": lambda a, b: probe(lambda dy: (dy, dy))(a + 0, b + 0),
    "addition": lambda a, b: a + b,
    "the same twice, then more": lambda a, b: (a + a) + (b + (a + b)) + a,
}


@pytest.mark.parametrize("build", ALIASES.values(), ids=ALIASES.keys())
def test_every_gradient_is_an_array_of_its_own(build, rng):
    a, b, dy = leaf(rng, 3, 2), leaf(rng, 3, 2), rng.standard_normal((3, 2))
    kept = dy.copy()
    y = build(a, b)
    y.retain_grad()
    y.backward(dy)
    np.testing.assert_array_equal(dy, kept)
    arrays = [a.grad, b.grad, y.grad, dy, a.data, b.data]
    for i, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[i + 1 :])
    a.grad *= 7.0  # as clipping does, in place
    np.testing.assert_array_equal(y.grad, kept)


def test_adding_up_never_writes_into_what_an_operation_returned(rng):
    x, given = leaf(rng, 3), np.array([1.0, 2.0, 3.0])
    given.flags.writeable = False
    y = x + 0
    total = sum(probe(lambda dy: (given,))(y) for _ in range(4))
    total.backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, [4.0, 8.0, 12.0])


def test_retained_gradients_do_not_change_when_their_parents_are_visited(rng):
    x, dy = leaf(rng, 3), rng.standard_normal(3)
    y = x + x
    z = y + y + 0
    for node in (y, z):
        node.retain_grad()
    (z + y).backward(dy)
    np.testing.assert_array_equal(z.grad, dy)
    np.testing.assert_allclose(y.grad, 3 * dy, rtol=1e-15)
    np.testing.assert_allclose(x.grad, 6 * dy, rtol=1e-15)


def test_computed_tensors_keep_no_gradient_unless_asked(rng):
    x = leaf(rng, 3)
    y = x * 2
    y.exp().backward(np.ones(3))
    assert y.grad is None and not y.is_leaf and x.is_leaf


# -- what needs no gradient ----------------------------------------------------------------------------------------


def test_nothing_is_recorded_without_a_parent_that_requires_a_gradient():
    y = probe(lambda dy: 1 / 0)(Tensor(np.ones(2)), Tensor(np.ones(2)))
    assert not y.requires_grad and y._parents == () and y._backward is None
    with pytest.raises(ValueError, match="nothing on its tape is trainable"):
        y.backward(np.ones(2))


def test_a_branch_that_needs_no_gradient_is_not_walked(rng):
    x, constant = leaf(rng, 2), Tensor(np.ones(2))
    branch = probe(lambda dy: 1 / 0)(constant)
    (x * branch).backward(np.array([2.0, 3.0]))
    np.testing.assert_array_equal(x.grad, [2.0, 3.0])
    assert constant.grad is None and branch.grad is None


def test_a_gradient_returned_for_a_parent_that_wants_none_is_ignored(rng):
    x, constant = leaf(rng, 2), Tensor(np.ones(2))
    probe(lambda dy: (dy, np.ones(7)))(x, constant).backward(np.ones(2))  # of whatever shape
    assert constant.grad is None


def test_none_stops_that_path_and_only_that(rng):
    x, y = leaf(rng, 2), leaf(rng, 2)
    probe(lambda dy: (None, dy))(probe(lambda dy: 1 / 0)(x), y).backward(np.ones(2))
    assert x.grad is None
    np.testing.assert_array_equal(y.grad, [1.0, 1.0])


# -- release -------------------------------------------------------------------------------------------------------


def test_a_second_backward_is_a_clear_error_and_changes_nothing(rng):
    x = leaf(rng, 2)
    y = x * 2
    y.backward(np.ones(2))
    younger = leaf(rng, 2)  # would be visited before y
    for again in (y, y + x, (y * y).exp(), y * younger):
        with pytest.raises(ValueError, match="a second time: the tape was released"):
            again.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [2.0, 2.0])
    assert younger.grad is None


def test_retain_graph_allows_it(rng):
    x, dy = leaf(rng, 2, 3), rng.standard_normal((2, 3))
    y = x.exp() * x
    y.backward(dy, retain_graph=True)
    y.backward(2 * dy, retain_graph=True)
    y.backward(4 * dy)
    np.testing.assert_allclose(x.grad, 7 * dy * np.exp(x.data) * (1 + x.data), rtol=1e-13)
    with pytest.raises(ValueError, match="a second time"):
        y.backward(dy)


def test_the_tape_is_released_as_it_is_walked(rng):
    alive = []
    x = leaf(rng, 4)
    early = x * 2
    watched = [weakref.ref(early)]

    def look(a):
        def backward(dy):
            alive.append([ref() is not None for ref in watched])
            return (dy,)

        return record(a.data * 1, (a,), backward)

    y = look(early)
    late = y.exp()
    watched.append(weakref.ref(late))
    end = late.tanh()
    del early, y, late
    end.backward(np.ones(4))
    assert alive == [[True, False]]  # `late`, the younger one, was gone when `look` was differentiated
    assert watched[0]() is None
    assert end._parents == ()


def test_memory_falls_during_backward():
    n, size = 20, 50_000
    sizes = []

    def look(a):
        def backward(dy):
            sizes.append(tracemalloc.get_traced_memory()[0])
            return (dy,)

        return record(a.data, (a,), backward)

    gc.collect()
    tracemalloc.start()
    try:
        x = Tensor(np.zeros(size), requires_grad=True)
        y = look(x)
        for i in range(n):
            y = y.exp() * 0.5 if i % 2 else y.tanh()
        y = look(y)
        dy = np.ones(size)
        y.backward(dy)
    finally:
        tracemalloc.stop()
    at_the_end, at_the_start = sizes
    assert at_the_end - at_the_start > 15 * size * 8  # `sizes` begins with the end of the chain


def test_dropping_a_tape_without_backward_frees_it_at_once(rng):
    x = leaf(rng, 3)
    y = x * 2
    ref = weakref.ref(y)
    z = y.exp() + y
    del y
    assert ref() is not None
    gc.disable()
    try:
        del z
        assert ref() is None  # no cycles: the reference count alone frees it
    finally:
        gc.enable()


@pytest.mark.parametrize("backward", [True, False])
def test_a_chain_of_100_000_operations(backward):
    x = Tensor(np.ones(1), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = -y
    if backward:
        y.backward(np.array([3.0]))
        np.testing.assert_array_equal(x.grad, [3.0])
    del y  # without recursion, even when the tape was not walked


def test_ancestors_are_each_once_and_oldest_first(rng):
    x = leaf(rng, 2)
    y = x * x
    z = y + x * Tensor(np.ones(2))
    assert ancestors(z) == [x, y, z._parents[1], z]  # the constant is not among them


# -- errors --------------------------------------------------------------------------------------------------------


def test_backward_needs_a_gradient_of_the_right_shape(rng):
    y = leaf(rng, 2, 3) * 2
    with pytest.raises(ValueError, match=r"without a gradient needs one number, got shape \(2, 3\)"):
        y.backward()
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(2, 3\), got \(3, 2\)"):
        y.backward(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(2, 3\), got \(\)"):
        y.backward(1.0)
    with pytest.raises(ValueError, match=r"needs one number, got shape \(0,\)"):
        (leaf(rng, 0) * 2).backward()
    y.backward(np.ones((2, 3)))  # a refused gradient releases nothing


@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 3), (2, 1), (), (3,), (2, 3, 1), (2, 1, 3, 1), (0, 3)])
def test_a_gradient_of_a_wrong_shape_names_the_operation(shape, rng):
    def crooked(a, b):
        def backward(dy):
            return dy, np.ones(shape)

        return record(a.data + b.data, (a, b), backward)

    y = crooked(leaf(rng, 2, 3), leaf(rng, 2, 3))
    with pytest.raises(ValueError) as error:
        y.backward(np.ones((2, 3)))
    expected = f"backward of crooked returned shape {shape} for input 1 of shape (2, 3)"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("returns", "came"), [(lambda dy: (dy,), "1"), (lambda dy: (dy,) * 3, "3"), (lambda dy: dy, "ndarray")]
)
def test_a_wrong_number_of_gradients_names_the_operation(returns, came, rng):
    y = probe(returns)(leaf(rng, 2, 3), leaf(rng, 2, 3))
    with pytest.raises(ValueError, match=f"backward of operation must return a tuple of 2 gradients, got {came}"):
        y.backward(np.ones((2, 3)))


def test_gradients_come_in_the_dtype_of_their_parent(rng):
    x, w = leaf(rng, 3, dtype=np.float32), leaf(rng, 3)
    (x * w).backward(np.ones(3))
    assert x.grad.dtype == np.float32 and w.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad, w.data.astype(np.float32))
    np.testing.assert_array_equal(w.grad, x.data.astype(np.float64))


def test_operations_have_names(rng):
    x = leaf(rng, 2)
    names = [y.op for y in (x, x + 1, 2 * x, x @ x, x.exp(), probe(lambda dy: (dy,))(x), x[0], -x)]
    assert names == ["", "add", "mul", "matmul", "exp", "operation", "getitem", "neg"]


# -- no_grad -------------------------------------------------------------------------------------------------------


def test_no_grad_records_nothing_and_nests(rng):
    x = leaf(rng, 2)
    assert is_grad_enabled()
    with no_grad():
        assert not is_grad_enabled()
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
        assert Parameter(np.ones(2)).requires_grad  # a leaf is what it is told to be
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception(rng):
    x = leaf(rng, 2)
    with pytest.raises(RuntimeError, match="stop"), no_grad():
        raise RuntimeError("stop")
    assert (x * 2).requires_grad


def test_no_grad_decorates(rng):
    x = leaf(rng, 2)

    @no_grad()
    def evaluate(depth):
        """What it does."""
        y = x * 2
        return [y.requires_grad] + (evaluate(depth - 1) if depth else [])

    assert evaluate.__name__ == "evaluate" and evaluate.__doc__ == "What it does."
    assert evaluate(2) == [False, False, False]
    assert evaluate(0) == [False] and (x * 2).requires_grad


def test_no_grad_holds_for_its_own_thread_only(rng):
    x, inside, done, results = leaf(rng, 2), threading.Event(), threading.Event(), {}

    def evaluates():
        with no_grad():
            inside.set()
            done.wait(10)
            results["evaluates"] = (x * 2).requires_grad

    def records():
        inside.wait(10)
        results["records"] = (x * 2).requires_grad
        done.set()

    threads = [threading.Thread(target=target) for target in (evaluates, records)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with no_grad():  # a thread that starts inside records too, unless it is handed the context
        started = threading.Thread(target=lambda: results.update(started=is_grad_enabled()))
        started.start()
        started.join()
    assert results == {"evaluates": False, "records": True, "started": True}


def test_backward_works_inside_no_grad(rng):
    x = leaf(rng, 2)
    y = x * 3
    with no_grad():
        y.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [3.0, 3.0])


# -- unbroadcast ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "shape", "axes"),
    [
        ((2, 3), (2, 3), ()),
        ((2, 3), (3,), (0,)),
        ((2, 3), (1, 3), (0,)),
        ((2, 3), (2, 1), (1,)),
        ((2, 3), (1, 1), (0, 1)),
        ((2, 3), (), (0, 1)),
        ((4, 2, 3), (2, 1), (0, 2)),
        ((4, 1, 3), (1, 3), (0,)),
        ((0, 3), (1, 3), (0,)),
        ((5, 0), (5, 1), (1,)),
        ((1, 1), (), (0, 1)),
    ],
)
def test_unbroadcast_sums_over_what_was_repeated(gradient, shape, axes, rng):
    dy = rng.standard_normal(gradient)
    came = unbroadcast(dy, shape)
    assert came.shape == shape
    np.testing.assert_allclose(came, dy.sum(axis=axes).reshape(shape), rtol=1e-15)


@pytest.mark.parametrize(("gradient", "shape"), [((3, 2), (2, 3)), ((6,), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 3))])
def test_unbroadcast_refuses_what_was_never_broadcast(gradient, shape):
    with pytest.raises(ValueError, match="does not broadcast"):
        unbroadcast(np.ones(gradient), shape)


def test_a_node_is_enough_for_the_engine():
    x, y = Node(np.array([1.0, 2.0]), True), Node(np.array([2.0, 4.0]), False)
    y.made_by((x,), lambda dy: (2 * dy,))
    y.backward(np.array([1.0, -1.0]))
    np.testing.assert_array_equal(x.grad, [2.0, -2.0])
