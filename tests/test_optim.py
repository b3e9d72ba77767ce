"""Optimisers against PyTorch's over 50 steps, frozen and live; resuming, pieces, threads; faults that must show."""

import inspect
import json
import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

import scratch.optim
from scratch import Parameter, Sequential, Tensor
from scratch.layers import BatchNorm1d, BatchNorm2d, Conv2d, Linear
from scratch.optim import (
    SGD,
    Adam,
    AdamW,
    AveragedModel,
    Optimizer,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
    weight_decay_groups,
)
from scratch.optim.optimizer import pieces
from tests.reference import make_optim
from tests.reference.make_optim import CASES, NORMS, Case, gradients, run_ours

ids = [case.name for case in CASES]
by_case = pytest.mark.parametrize("case", CASES, ids=ids)
BUSY = [case for case in CASES if len(case.options) > 2]  # every option at work
EVERY = [(SGD, {"momentum": 0.9}), (RMSprop, {"momentum": 0.9, "centered": True}), (Adam, {"amsgrad": True}),
         (Adam, {"weight_decay": 0.1}), (AdamW, {})]  # fmt: skip


frozen = cache(make_optim.load)


def compare(came, expected):
    assert sorted(came) == sorted(expected)
    for what, value in expected.items():
        assert came[what].shape == value.shape, what
        np.testing.assert_allclose(came[what], value, rtol=1e-10, atol=1e-12, err_msg=what)


def deviates(case, make):
    """Whether a run with this optimiser differs from PyTorch's."""
    try:
        snapshots, state = run_ours(case, make)
        compare({**snapshots, **state}, frozen()[case.name])
    except AssertionError:
        return True
    return False


# -- the same as PyTorch ------------------------------------------------------------------------------------------


@by_case
def test_equals_the_frozen_run_of_pytorch(case):
    snapshots, state = run_ours(case)
    compare({**snapshots, **state}, frozen()[case.name])


@pytest.mark.torch
@by_case
def test_equals_pytorch_here(case):
    snapshots, state = run_ours(case)
    expected, expected_state = make_optim.run_theirs(case)
    compare(snapshots, expected)
    compare(state, expected_state)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_defaults_and_argument_order_are_those_of_pytorch(name):
    theirs, ours = make_optim.defaults_theirs(name), inspect.signature(getattr(scratch.optim, name)).parameters
    assert list(ours) == [key for key in theirs if key in ours]
    assert {key: ours[key].default for key in ours} == {key: theirs[key] for key in ours}


def test_the_cases_cover_every_option_of_every_optimiser():
    for cls in (SGD, RMSprop, Adam, AdamW):
        mine = [case.options for case in CASES if case.optimizer == cls.__name__]
        for option in cls([Parameter([1.0])]).defaults.keys() - {"lr", "alpha", "betas"}:
            assert any(options.get(option) for options in mine), (cls, option)


def test_the_first_steps_by_hand():
    p = Parameter([3.0, -2.0], dtype=np.float64)
    p.grad = np.array([0.5, -4.0])
    Adam([p], lr=0.1, eps=0.0).step()  # m̂ / √v̂ = g / |g|
    np.testing.assert_allclose(p.data, [2.9, -1.9], rtol=1e-14)
    SGD([p], lr=0.1).step()
    np.testing.assert_allclose(p.data, [2.85, -1.5], rtol=1e-14)
    AdamW([p], lr=0.1, eps=0.0, weight_decay=0.5).step()
    np.testing.assert_allclose(p.data, [2.85 * 0.95 - 0.1, -1.5 * 0.95 + 0.1], rtol=1e-14)
    RMSprop([p], lr=0.1, alpha=0.75, eps=0.0).step()  # √v = |g| / 2
    np.testing.assert_allclose(p.data, [2.85 * 0.95 - 0.3, -1.5 * 0.95 + 0.3], rtol=1e-14)


def test_descent_through_the_tape_finds_the_least_squares_solution():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    layer = Linear(3, 2).to(np.float64)
    optimizer = SGD(layer.named_parameters(), lr=0.1, momentum=0.8)
    for _ in range(400):
        error = layer(x) - Tensor(y)
        optimizer.zero_grad()
        (error * error).sum(axis=1).mean().backward()
        optimizer.step()
    solution = np.linalg.lstsq(np.c_[x, np.ones(20)], y, rcond=None)[0]
    np.testing.assert_allclose(np.c_[layer.weight.data, layer.bias.data], solution.T, atol=1e-12)


# -- planted faults: the comparison must see them -----------------------------------------------------------------


class NoBiasCorrection(Adam):
    def _update(self, p, g, state, group, t):
        super()._update(p, g, state, group, 10**9)


class EpsilonNotCorrected(Adam):
    def _update(self, p, g, state, group, t):
        c = math.sqrt(1 - group["betas"][1] ** t)
        super()._update(p, g, state, {**group, "eps": group["eps"] / c}, t)


class OneCounterForAll(Adam):
    def _update(self, p, g, state, group, t):
        super()._update(p, g, state, group, max(self.steps))


class CoupledDecay(AdamW):
    _update = Adam._update


class DecayLast(AdamW):
    def _update(self, p, g, state, group, t):
        super()._update(p, g, state, {**group, "weight_decay": 0}, t)
        p *= 1 - group["lr"] * group["weight_decay"]


class AmsgradOfThisStepOnly(Adam):
    def _update(self, p, g, state, group, t):
        state["max_sum_sq"][...] = 0
        super()._update(p, g, state, group, t)


class DampenedFirstStep(SGD):
    def _first(self, name, p, g, group):
        return np.zeros_like(p)


class NeverDampened(SGD):
    def _update(self, p, g, state, group, t):
        super()._update(p, g, state, {**group, "dampening": 0}, t)


class NotNesterov(SGD):
    def _update(self, p, g, state, group, t):
        super()._update(p, g, state, {**group, "nesterov": False}, t)


class NotCentered(RMSprop):
    def _update(self, p, g, state, group, t):
        super()._update(p, g, state, {**group, "centered": False}, t)


class EpsilonInsideTheRoot(RMSprop):
    def _update(self, p, g, state, group, t):
        state["square_avg"] += group["eps"] ** 2
        super()._update(p, g, state, {**group, "eps": 0.0}, t)


class ZeroForNone(Optimizer):
    """A missing gradient treated as zero, which decays the moments and counts a step."""

    def update_parameter(self, index):
        parameter, _ = self._owners[index]
        if parameter.grad is None:
            parameter.grad = np.zeros_like(parameter.data)
        super().update_parameter(index)


class SecondGroupLikeTheFirst(Optimizer):
    def add_param_group(self, group):
        super().add_param_group({"params": group["params"]})


def with_fault(fault, base):
    return type(fault.__name__, (fault, base), {})


@pytest.mark.parametrize(
    ("case", "make"),
    [
        (CASES[ids.index("Adam")], NoBiasCorrection),
        (CASES[ids.index("Adam lr=0.05 eps=0.01 weight_decay=0 amsgrad=False")], EpsilonNotCorrected),
        (CASES[ids.index("Adam")], OneCounterForAll),
        (CASES[ids.index("Adam lr=0.05 eps=0.01 weight_decay=0 amsgrad=True")], AmsgradOfThisStepOnly),
        (CASES[ids.index("AdamW")], CoupledDecay),
        (CASES[ids.index("AdamW")], DecayLast),
        (CASES[ids.index("SGD lr=0.05 momentum=0.9 dampening=0.3 weight_decay=0")], DampenedFirstStep),
        (CASES[ids.index("SGD lr=0.05 momentum=0.9 dampening=0.3 weight_decay=0")], NeverDampened),
        (CASES[ids.index("SGD lr=0.05 momentum=0.9 nesterov=True weight_decay=0")], NotNesterov),
        (CASES[ids.index("RMSprop eps=0.01 weight_decay=0 momentum=0 centered=True")], NotCentered),
        (CASES[ids.index("RMSprop eps=0.01 weight_decay=0 momentum=0 centered=False")], EpsilonInsideTheRoot),
        (CASES[ids.index("SGD lr=0.05 momentum=0.9 dampening=0 weight_decay=0")], with_fault(ZeroForNone, SGD)),
        (CASES[ids.index("RMSprop")], with_fault(ZeroForNone, RMSprop)),
        (CASES[ids.index("Adam")], with_fault(ZeroForNone, Adam)),
        (CASES[ids.index("SGD")], with_fault(SecondGroupLikeTheFirst, SGD)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_planted_fault_is_seen(case, make):
    assert deviates(case, make)
    assert not deviates(case, None)


# -- in place, in pieces, in threads, in float32 ------------------------------------------------------------------


@by_case
def test_pieces_change_nothing(case, monkeypatch):
    whole, whole_state = run_ours(case)
    monkeypatch.setattr("scratch.optim.optimizer.PIECE", 5)
    parts, parts_state = run_ours(case)
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)
    assert all(np.array_equal(parts_state[name], whole_state[name]) for name in whole_state)


def test_only_what_is_larger_than_a_piece_is_cut(monkeypatch):
    monkeypatch.setattr("scratch.optim.optimizer.PIECE", 6)
    for shape, sizes in (((3, 2), [6]), ((7,), [6, 1]), ((3, 5), [6, 6, 3])):
        p, g, kept = (np.zeros(shape) for _ in range(3))
        cuts = list(pieces(p, g, {"sum": kept}))
        assert [piece.size for piece, _, _ in cuts] == [piece.size for _, piece, _ in cuts] == sizes
        assert [state["sum"].size for _, _, state in cuts] == sizes
        assert all(np.shares_memory(piece, p) and np.shares_memory(state["sum"], kept) for piece, _, state in cuts)
    small = np.zeros((3, 2))
    assert next(pieces(small, small, {}))[0] is small


@pytest.mark.parametrize(("cls", "options"), EVERY)
@pytest.mark.parametrize("layout", ["transposed parameter", "transposed gradient", "repeated gradient"])
def test_memory_layout_changes_nothing(cls, options, layout, monkeypatch):
    monkeypatch.setattr("scratch.optim.optimizer.PIECE", 4)
    rng = np.random.default_rng(1)
    start, g = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    if layout == "repeated gradient":
        g = np.broadcast_to(rng.standard_normal(5), (3, 5))  # read-only, one row seen three times
    plain, other = Parameter(start.copy()), Parameter(start.copy())
    if layout == "transposed parameter":
        other.data = np.asfortranarray(start)
    plain.grad = np.ascontiguousarray(g)
    other.grad = np.asfortranarray(g) if layout == "transposed gradient" else g
    kept = other.data
    for p in (plain, other):
        optimizer = cls([p], **options)
        optimizer.step()
        optimizer.step()
    assert np.array_equal(plain.data, other.data)
    assert other.data is kept and not np.array_equal(other.data, start)


@by_case
def test_data_is_never_rebound_and_gradients_are_only_read(case):
    parameters = {name: Parameter(value) for name, value in make_optim.start().items()}
    arrays = {name: parameter.data for name, parameter in parameters.items()}
    optimizer = getattr(scratch.optim, case.optimizer)(make_optim.groups(case, parameters), **case.options)
    for step in range(6):
        grads = {name: make_optim.gradient(name, p.data, step) for name, p in parameters.items()}
        for name, grad in grads.items():
            parameters[name].grad = grad
            if grad is not None:
                grad.flags.writeable = False
        before = {name: None if grad is None else grad.copy() for name, grad in grads.items()}
        optimizer.step()
        for name, parameter in parameters.items():
            assert parameter.data is arrays[name]
            assert parameter.grad is grads[name]
            assert grads[name] is None or np.array_equal(grads[name], before[name])


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_a_parameter_without_gradient_is_left_alone(cls, options):
    a, b = Parameter([1.0, 2.0]), Parameter([3.0])
    a.grad = np.array([0.5, 0.5], dtype=np.float32)
    optimizer = cls([a, b], weight_decay=0.5, **{k: v for k, v in options.items() if k != "weight_decay"})
    optimizer.step()
    assert b.data.tolist() == [3.0]
    assert a.data[0] != 1.0
    assert optimizer.steps == [1, 0]
    assert all(name.startswith("state.0.") for name in optimizer.state_arrays())
    optimizer.zero_grad()
    assert a.grad is None
    kept = a.data.copy()
    optimizer.step()
    assert np.array_equal(a.data, kept) and optimizer.steps == [1, 0]


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_float32_stays_float32_whatever_the_rate_is(cls, options):
    rng = np.random.default_rng(2)
    start, g = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    results = {}
    for dtype, lr in ((np.float32, 0.01), (np.float32, np.float64(0.01)), (np.float64, 0.01)):
        p = Parameter(start.astype(dtype))
        optimizer = cls([p], **options)
        for _ in range(5):
            for group in optimizer.param_groups:
                group["lr"] = lr
            p.grad = g.astype(dtype)
            optimizer.step()
        assert p.data.dtype == dtype
        assert all(array.dtype == dtype for array in optimizer.state_arrays().values())
        results[dtype, type(lr)] = p.data
    assert np.array_equal(results[np.float32, float], results[np.float32, np.float64])
    np.testing.assert_allclose(results[np.float32, float], results[np.float64, float], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_threads_may_update_different_parameters(cls, options, monkeypatch):
    monkeypatch.setattr("scratch.optim.optimizer.PIECE", 1000)
    rng = np.random.default_rng(3)
    starts = [rng.standard_normal(n).astype(np.float32) for n in (3001, 2000, 17, 5000, 4096, 1)]
    grads = [rng.standard_normal(start.shape).astype(np.float32) for start in starts]
    results = []
    with ThreadPoolExecutor(4) as pool:
        for run in (map, pool.map):
            parameters = [Parameter(start.copy()) for start in starts]
            optimizer = cls(parameters, **options)
            for _ in range(10):
                for parameter, grad in zip(parameters, grads, strict=True):
                    parameter.grad = grad
                list(run(optimizer.update_parameter, range(len(parameters))))
            results.append([parameter.data for parameter in parameters])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


# -- saving and resuming ------------------------------------------------------------------------------------------


def trained(case, steps, optimizer=None, parameters=None, first=0):
    """(optimiser, parameters) after steps first, first + 1, ... of the case's run."""
    if optimizer is None:
        parameters = {name: Parameter(value.astype(np.float32)) for name, value in make_optim.start().items()}
        optimizer = getattr(scratch.optim, case.optimizer)(make_optim.groups(case, parameters), **case.options)
    for step in range(first, first + steps):
        optimizer.lr = 0.05 / (1 + step)
        for name, parameter in parameters.items():
            grad = make_optim.gradient(name, parameter.data, step)
            parameter.grad = None if grad is None else np.asarray(grad, dtype=np.float32)
        optimizer.step()
    return optimizer, parameters


@pytest.mark.parametrize("case", BUSY, ids=[case.name for case in BUSY])
@pytest.mark.parametrize("after", [0, 3, 8])  # in step 3 `late` has had no gradient yet
def test_a_resumed_run_ends_with_the_same_bits(case, after):
    whole, expected = trained(case, 15)
    first, half = trained(case, after)
    text = json.dumps(first.settings())
    saved = {name: array.copy() for name, array in first.state_arrays().items()}
    weights = {name: parameter.data.copy() for name, parameter in half.items()}
    trained(case, 2, first, half, after)  # what happens to the old one does not matter

    parameters = {name: Parameter(value) for name, value in weights.items()}
    same_groups = make_optim.groups(Case(case.optimizer, {}, {}), parameters)
    resumed = getattr(scratch.optim, case.optimizer)(same_groups, lr=1.0)  # other options: the saved ones count
    resumed.load_settings(json.loads(text))
    resumed.load_state_arrays(saved)
    trained(case, 15 - after, resumed, parameters, after)

    assert all(np.array_equal(parameters[name].data, expected[name].data) for name in parameters)
    assert resumed.settings() == whole.settings()
    ours, theirs = resumed.state_arrays(), whole.state_arrays()
    assert sorted(ours) == sorted(theirs) and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert all(not np.shares_memory(ours[name], saved[name]) for name in saved if name in ours)


def test_state_dict_holds_both_halves():
    case = BUSY[-1]
    first, parameters = trained(case, 6)
    second, _ = trained(case, 2)
    second.load_state_dict(first.state_dict())
    assert second.settings() == first.settings()
    for name, array in first.state_arrays().items():
        assert np.array_equal(second.state_arrays()[name], array)
    assert sorted(first.state_dict()) == ["arrays", "settings"]


def adam_after_one_step():
    a, b = Parameter(np.ones((2, 3), np.float32)), Parameter(np.ones(4, np.float32))
    a.grad, b.grad = np.ones((2, 3), np.float32), np.ones(4, np.float32)
    optimizer = Adam([("a", a), ("b", b)])
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda arrays: arrays.pop("state.1.sum"), "missing: state.1.sum"),
        (lambda arrays: arrays.update({"state.2.sum": np.ones(4)}), "unexpected: state.2.sum"),
        (lambda arrays: arrays.update({"state.0.sum": np.ones((3, 2), np.float32)}),
         "state.0.sum: expected float32 of shape (2, 3), got float32 of (3, 2)"),
        (lambda arrays: arrays.update({"state.1.sum_sq": np.ones(4)}),
         "state.1.sum_sq: expected float32 of shape (4,), got float64 of (4,)"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_named_and_change_nothing(change, complaint):
    optimizer = adam_after_one_step()
    arrays = {name: array + 1 for name, array in optimizer.state_arrays().items()}
    before = {name: array.copy() for name, array in optimizer.state_arrays().items()}
    change(arrays)
    other = {**optimizer.settings(), "steps": [7, 7]}
    for load in (optimizer.load_state_arrays, lambda a: optimizer.load_state_dict({"settings": other, "arrays": a})):
        with pytest.raises(ValueError) as error:
            load(arrays)
        assert complaint in str(error.value)
        assert optimizer.steps == [1, 1]
        assert all(np.array_equal(array, before[name]) for name, array in optimizer.state_arrays().items())


def test_arrays_before_settings_are_refused():
    saved = adam_after_one_step().state_arrays()
    with pytest.raises(ValueError, match="unexpected: state.0.sum"):
        Adam([Parameter(np.ones((2, 3))), Parameter(np.ones(4))]).load_state_arrays(saved)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.update(optimizer="SGD"), "expected settings of Adam"),
        (lambda s: s.pop("steps"), "expected settings of Adam"),
        (lambda s: s.update(steps=[1]), "expected 2 numbers of steps, got [1]"),
        (lambda s: s.update(steps=[1, -1]), "expected 2 numbers of steps, got [1, -1]"),
        (lambda s: s["groups"].append(dict(s["groups"][0])), "expected the parameters [['a', 'b']]"),
        (lambda s: s["groups"][0].update(params=["b", "a"]), "got [['b', 'a']]"),
        (lambda s: s["groups"][0].pop("eps"), "expected the options"),
        (lambda s: s["groups"][0].update(momentum=0.9), "expected the options"),
        (lambda s: s["groups"][0].update(lr=-1), "lr must be a number, at least 0"),
        (lambda s: s["groups"][0].update(betas=[0.9]), "betas are two numbers, got [0.9]"),
    ],
)
def test_settings_that_do_not_fit_are_named_and_change_nothing(change, complaint):
    optimizer = adam_after_one_step()
    before = optimizer.settings()
    settings = json.loads(json.dumps({**before, "steps": [5, 6]}))
    change(settings)
    with pytest.raises(ValueError) as error:
        optimizer.load_settings(settings)
    assert complaint in str(error.value)
    assert optimizer.settings() == before


# -- groups, options, errors --------------------------------------------------------------------------------------


def test_groups_names_and_the_learning_rate():
    a, b, c = (Parameter([float(i)]) for i in range(3))
    optimizer = Adam([{"params": [("a", a)], "lr": 0.5}, {"params": b, "betas": [0.5, 0.6]}], lr=0.25)
    optimizer.add_param_group({"params": iter([c])})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25, 0.25]
    assert [group["params"] for group in optimizer.param_groups] == [[a], [b], [c]]
    assert optimizer.param_groups[0]["param_names"] == ["a"] and "param_names" not in optimizer.param_groups[1]
    assert optimizer.param_groups[1]["betas"] == (0.5, 0.6)
    with pytest.raises(ValueError, match=r"the groups have learning rates \[0.25, 0.5\]"):
        _ = optimizer.lr
    optimizer.lr = 0.125
    assert [group["lr"] for group in optimizer.param_groups] == [0.125] * 3 and optimizer.lr == 0.125
    for wrong in (-1, math.nan, math.inf, "0.1", None, True):
        with pytest.raises(ValueError, match="lr must be a number"):
            optimizer.lr = wrong
    assert optimizer.lr == 0.125


def p():
    return Parameter(np.ones((2, 3)))


SHARED = p()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: SGD([]), "SGD got no parameters"),
        (lambda: SGD(iter(())), "SGD got no parameters"),
        (lambda: SGD([{"params": []}]), "SGD got a group without parameters"),
        (lambda: SGD(p()), "expected a list of Parameters or of groups, got Parameter"),
        (lambda: SGD({"params": [p()]}), "expected a list of Parameters or of groups, got dict"),
        (lambda: SGD(3), "expected a list of Parameters or of groups, got int"),
        (lambda: SGD([p(), Tensor(np.ones(4))]), "expected Parameters, got Tensor of shape (4,) as number 1"),
        (lambda: SGD([("w", np.ones(4))]), "expected Parameters, got ndarray of shape (4,) as w"),
        (lambda: SGD([("w", p(), 0.1)]), "expected Parameters, got tuple as number 0"),
        (lambda: SGD([(1, p())]), "expected Parameters, got tuple as number 0"),
        (lambda: SGD([("w", p()), p()]), "either all parameters of a group have names or none"),
        (lambda: SGD([SHARED, p(), SHARED]), "number 2, of shape (2, 3), comes twice"),
        (lambda: SGD([{"params": [SHARED]}, {"params": [("w", SHARED)]}]), "the parameter w, of shape (2, 3), comes"),
        (lambda: SGD([{"params": [p()]}, p()]), "a group is a dict with 'params', got Parameter of shape (2, 3)"),
        (lambda: SGD([{"parameters": [p()]}]), "a group is a dict with 'params', got dict"),
        (lambda: SGD([{"params": [p()], "betas": (0, 0)}]),
         "SGD has the options lr, momentum, dampening, weight_decay, nesterov; got betas"),
        (lambda: SGD([p()], lr=-0.1), "SGD: lr must be a number, at least 0 and below inf, got -0.1"),
        (lambda: SGD([p()], lr=math.nan), "got nan"),
        (lambda: SGD([p()], lr="1"), "got '1'"),
        (lambda: SGD([{"params": [p()], "lr": -2}]), "got -2"),
        (lambda: SGD([p()], momentum=-1), "momentum must be a number, at least 0"),
        (lambda: SGD([p()], weight_decay=-1), "weight_decay must be a number, at least 0"),
        (lambda: SGD([p()], dampening=math.inf), "dampening must be a number"),
        (lambda: SGD([p()], nesterov=True), "nesterov needs a momentum above 0 and no dampening, got momentum 0.0"),
        (lambda: SGD([p()], momentum=0.9, dampening=0.1, nesterov=True), "and dampening 0.1"),
        (lambda: SGD([p()], nesterov=1), "nesterov is True or False, got 1"),
        (lambda: RMSprop([p()], alpha=1.0), "RMSprop: alpha must be a number, at least 0 and below 1, got 1.0"),
        (lambda: RMSprop([p()], eps=-1e-9), "eps must be a number, at least 0"),
        (lambda: RMSprop([p()], centered="yes"), "centered is True or False, got 'yes'"),
        (lambda: Adam([p()], betas=(0.9, 1.0)), "Adam: betas must be a number, at least 0 and below 1, got 1.0"),
        (lambda: Adam([p()], betas=(-0.1, 0.9)), "got -0.1"),
        (lambda: Adam([p()], betas=0.9), "betas are two numbers, got 0.9"),
        (lambda: Adam([p()], betas=(0.9, 0.9, 0.9)), "betas are two numbers"),
        (lambda: Adam([p()], amsgrad=0), "amsgrad is True or False, got 0"),
        (lambda: AdamW([p()], weight_decay=-0.1), "AdamW: weight_decay"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(make, complaint):
    with pytest.raises(ValueError) as error:
        make()
    assert complaint in str(error.value)


def test_a_gradient_of_another_shape_is_refused():
    a, b = Parameter(np.ones(3)), Parameter(np.ones((2, 3)))
    b.grad = np.ones(3)
    with pytest.raises(ValueError, match=r"SGD: parameter 1 has shape \(2, 3\), its gradient \(3,\)"):
        SGD([a, b]).step()
    with pytest.raises(ValueError, match=r"SGD: head has shape \(2, 3\), its gradient \(3,\)"):
        SGD([("first", a), ("head", b)]).step()
    assert np.array_equal(b.data, np.ones((2, 3)))


def test_a_new_optimiser_is_its_names_and_its_formula():
    class SignDescent(Optimizer):
        def __init__(self, params, lr=0.5):
            super().__init__(params, lr=lr)

        def _update(self, p, g, state, group, t):
            p -= group["lr"] * np.sign(g)

    a = Parameter([1.0, 2.0, 3.0])
    a.grad = np.array([-3.0, 0.0, 0.1], dtype=np.float32)
    SignDescent([a]).step()
    assert a.data.tolist() == [1.5, 2.0, 2.5]
    with pytest.raises(NotImplementedError, match="Optimizer defines no _update"):
        optimizer = Optimizer([a])
        optimizer.step()


# -- clipping -----------------------------------------------------------------------------------------------------


def clip_parameters(dtype=np.float64):
    parameters = [Parameter(np.zeros(() if g is None else g.shape, dtype)) for g in gradients()]
    for parameter, g in zip(parameters, gradients(), strict=True):
        parameter.grad = None if g is None else np.asarray(g, dtype)
    return parameters


def check_clipped(parameters, expected):
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(grads) == len(expected) and parameters[1].grad is None
    for came, value in zip(grads, expected, strict=True):
        np.testing.assert_allclose(came, value, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("piece", [4, 10**6])
@pytest.mark.parametrize(("norm_type", "max_norm"), NORMS)
def test_clip_grad_norm_equals_the_frozen_values_of_pytorch(norm_type, max_norm, piece, monkeypatch):
    monkeypatch.setattr("scratch.optim.clipping.PIECE", piece)
    parameters, expected = clip_parameters(), dict(frozen()[f"clip_grad_norm_ {norm_type} {max_norm}"])
    total = clip_grad_norm_(parameters, max_norm, norm_type)
    assert type(total) is float and total == pytest.approx(float(expected.pop("total")), rel=1e-12)
    check_clipped(parameters, [expected[str(i)] for i in range(len(expected))])


@pytest.mark.torch
@pytest.mark.parametrize(("norm_type", "max_norm"), NORMS)
def test_clip_grad_norm_equals_pytorch_here(norm_type, max_norm):
    parameters = clip_parameters()
    total, expected = make_optim.clip_theirs(max_norm, norm_type)
    assert clip_grad_norm_(iter(parameters), max_norm, norm_type) == pytest.approx(total, rel=1e-12)
    check_clipped(parameters, expected)


def test_clip_grad_value_equals_the_frozen_values_of_pytorch():
    parameters, expected = clip_parameters(), frozen()["clip_grad_value_"]
    clip_grad_value_(parameters, 0.5)
    check_clipped(parameters, [expected[str(i)] for i in range(len(expected))])


def test_a_bound_of_zero_leaves_no_gradient():
    parameters = clip_parameters()
    clip_grad_value_(parameters, 0)
    check_clipped(parameters, [np.zeros_like(g) for g in gradients() if g is not None])


@pytest.mark.torch
def test_clip_grad_value_equals_pytorch_here():
    parameters = clip_parameters()
    clip_grad_value_(parameters, 0.9)
    check_clipped(parameters, make_optim.clip_value_theirs(0.9))


@pytest.mark.parametrize("clip", [lambda ps: clip_grad_norm_(ps, 1.0), lambda ps: clip_grad_value_(ps, 0.25)])
def test_clipping_replaces_gradients_and_never_writes_into_them(clip):
    shared = np.array([[1.0, -2.0, 3.0]], dtype=np.float32)
    a, b, c = (Parameter(np.zeros(shape, np.float32)) for shape in ((4, 3), (1, 3), (1, 3)))
    a.grad, b.grad, c.grad = np.broadcast_to(shared, (4, 3)), shared, shared  # read-only; the same array twice
    clip([a, b, c])
    assert shared.tolist() == [[1.0, -2.0, 3.0]]
    assert np.array_equal(b.grad, c.grad) and np.array_equal(a.grad, np.repeat(b.grad, 4, axis=0))
    assert a.grad.dtype == b.grad.dtype == np.float32
    assert b.grad[0, 1] < 0 and not np.array_equal(b.grad, shared)


def test_clipped_gradients_have_the_norm_asked_for():
    parameters = clip_parameters(np.float32)
    clip_grad_norm_(parameters, 0.5)
    flat = np.concatenate([parameter.grad.ravel() for parameter in parameters if parameter.grad is not None])
    assert np.linalg.norm(flat) == pytest.approx(0.5, rel=1e-5)
    clip_grad_norm_(parameters, np.float64(0.5) / 2)  # NumPy's number does not make gradients float64
    clip_grad_value_(parameters, np.float64(10))
    assert all(parameter.grad.dtype == np.float32 for parameter in parameters if parameter.grad is not None)
    for bound in (0.3, 10.0):  # within the bound: left as they are
        assert clip_grad_norm_(parameters, bound) == pytest.approx(0.25, rel=1e-5)
    assert clip_grad_norm_(parameters[1], 10.0) == 0.0  # one without a gradient
    assert clip_grad_norm_([parameters[0], parameters[0]], 10.0) == clip_grad_norm_(parameters[0], 10.0)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_a_large_norm_does_not_overflow(norm_type):
    parameter = Parameter(np.zeros((2, 5), np.float32))
    parameter.grad = np.full((2, 5), 2e37, np.float32)
    parameter.grad[1] *= -0.5
    norm = 1.0 if norm_type == math.inf else (5 + 5 * 0.5**norm_type) ** (1 / norm_type)
    assert clip_grad_norm_(parameter, 1.0, norm_type) == pytest.approx(2e37 * norm, rel=1e-6)
    np.testing.assert_allclose(parameter.grad, [[1 / norm] * 5, [-0.5 / norm] * 5], rtol=1e-5)


def test_a_large_norm_does_not_overflow_where_its_pieces_are_added(monkeypatch):
    monkeypatch.setattr("scratch.optim.clipping.PIECE", 2)
    parameter = Parameter(np.zeros(4))
    parameter.grad = np.full(4, 8e153)  # 1.28e308 a piece
    assert clip_grad_norm_(parameter, 1.0) == pytest.approx(1.6e154)
    np.testing.assert_allclose(parameter.grad, 0.5)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_norms_that_are_not_finite(norm_type):
    def pair(bad):
        a, b = Parameter(np.zeros(2)), Parameter(np.zeros(1))
        a.grad, b.grad = np.array([1.0, bad]), np.array([3.0])
        return a, b

    a, b = pair(math.inf)
    assert clip_grad_norm_([a, b], 1.0, norm_type) == math.inf
    np.testing.assert_array_equal(np.r_[a.grad, b.grad], [0.0, math.nan, 0.0])
    a, b = pair(math.nan)
    for order in ([a, b], [b, a]):
        assert math.isnan(clip_grad_norm_(order, 1.0, norm_type))
    assert np.isnan(np.r_[a.grad, b.grad]).all()
    a, b = pair(-math.inf)
    with pytest.raises(ValueError, match="the norm inf, which is not finite"):
        clip_grad_norm_([a, b], 1.0, norm_type, error_if_nonfinite=True)
    assert a.grad.tolist() == [1.0, -math.inf] and b.grad.tolist() == [3.0]


def test_gradients_without_elements_have_no_norm():
    parameter = Parameter(np.zeros((0, 3)))
    parameter.grad = np.zeros((0, 3))
    assert clip_grad_norm_([parameter], 1.0) == clip_grad_norm_([parameter], 1.0, math.inf) == 0.0


@pytest.mark.parametrize(
    ("clip", "complaint"),
    [
        (lambda ps: clip_grad_norm_(ps, -1.0), "max_norm must be at least 0, got -1.0"),
        (lambda ps: clip_grad_norm_(ps, math.nan), "max_norm must be at least 0, got nan"),
        (lambda ps: clip_grad_norm_(ps, 1.0, 0), "norm_type must be above 0, or inf, got 0"),
        (lambda ps: clip_grad_value_(ps, -1.0), "clip_value must be at least 0, got -1.0"),
        (lambda ps: clip_grad_norm_([*ps, np.ones(3)], 1.0), "clipping expected Parameters, got ndarray"),
    ],
)
def test_bad_bounds_are_named(clip, complaint):
    with pytest.raises(ValueError) as error:
        clip(clip_parameters())
    assert complaint in str(error.value)


# -- averaged weights ---------------------------------------------------------------------------------------------


def test_averaged_weights_follow_by_hand():
    """(1 + n) / (10 + n) is 1/10, 2/11, 3/12, …, until it reaches the decay."""
    model = BatchNorm1d(2).to(np.float64)
    averaged = AveragedModel(model, decay=0.3)
    mean = np.array([1.0, 1.0])
    for n, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 0.3]):
        model.weight.data[...] = [n, 10.0 + n]
        model.running_mean.data[...] = n
        averaged.update_parameters(model)
        mean = decay * mean + (1 - decay) * model.weight.data
        np.testing.assert_allclose(averaged.module.weight.data, mean, rtol=1e-14)
        np.testing.assert_array_equal(averaged.module.running_mean.data, [n, n])
        assert averaged.state_dict()["n_averaged"] == n + 1
    x = np.array([[2.0, 3.0]])
    np.testing.assert_array_equal(averaged(x).data, averaged.module(x).data)
    assert not averaged.module.training and model.training


@pytest.mark.parametrize("decay", [-0.1, 1.1, math.nan])
def test_a_decay_of_averages_is_a_share(decay):
    with pytest.raises(ValueError, match=f"expected a decay from 0 to 1, got {decay}"):
        AveragedModel(Linear(2, 3), decay)


def test_weight_decay_groups_decay_matrices_and_kernels_only():
    model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Linear(4, 3))
    decayed, others = weight_decay_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [name for name, _ in decayed["params"]] == ["0.weight", "2.weight"]
    assert [name for name, _ in others["params"]] == ["0.bias", "1.weight", "1.bias", "2.bias"]
    assert [group["weight_decay"] for group in weight_decay_groups(Linear(2, 2, bias=False), 0.1)] == [0.1]
