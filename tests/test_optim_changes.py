"""Options that change between steps, and float16 parameters."""

import json

import numpy as np
import pytest

import scratch.optim
from scratch import Parameter, Tensor
from scratch.layers import Linear
from scratch.optim import SGD, Adam, AdamW, AveragedModel, RMSprop, clip_grad_norm_

STEPS = 10
# (optimiser, first options, {step: new options}, the parameter that PyTorch 2.13 ends with). Its amsgrad, centered and
# momentum of RMSprop cannot be switched on later: it raises KeyError.
CASES = [
    ("SGD", {"lr": 0.1}, {3: {"momentum": 0.9, "dampening": 0.5}}, [1.27563754087, 0.561148844536, 0.98365481]),
    (
        "SGD",
        {"lr": 0.1, "weight_decay": 0.2},
        {3: {"momentum": 0.9, "dampening": 0.5}},
        [0.97025673291, 0.340059391722, 0.644902249768],
    ),
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5},
        {3: {"momentum": 0}, 6: {"momentum": 0.8}},
        [0.78131589244, -0.247253153567, 1.15179344],
    ),
    (
        "SGD",
        {"lr": 0.1},
        {3: {"momentum": 0.9}, 5: {"nesterov": True}, 8: {"nesterov": False, "dampening": 0.3}},
        [1.10839795917, 0.539303934518, 0.81025421],
    ),
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        {3: {"weight_decay": 0.1}, 5: {"lr": 0.0}, 8: {"lr": 0.2}},
        [0.67056682048, -1.55849860137, 0.793580954968],
    ),
    (
        "Adam",
        {"lr": 0.1},
        {3: {"betas": (0.5, 0.9)}, 6: {"betas": (0.9, 0.999)}},
        [1.08677508224, 0.749720713837, 1.37962863562],
    ),
    (
        "Adam",
        {"lr": 0.1},
        {3: {"betas": (0.0, 0.0)}, 6: {"betas": (0.9, 0.999)}},
        [0.88259443575, 1.03547339416, 1.20251371839],
    ),
    ("Adam", {"lr": 0.1, "amsgrad": True}, {3: {"betas": (0.5, 0.9)}}, [1.05506015788, 0.444547956735, 0.967386703563]),
    (
        "Adam",
        {"lr": 0.1, "amsgrad": True},
        {3: {"amsgrad": False}, 6: {"amsgrad": True}},
        [0.793375161619, 0.357406940948, 1.45566659915],
    ),
    (
        "Adam",
        {"lr": 0.1},
        {3: {"weight_decay": 0.1, "eps": 0.1}, 6: {"lr": 0.0}, 8: {"lr": 0.2}},
        [0.806829054732, 0.3196235338, 1.20678979292],
    ),
    (
        "AdamW",
        {"lr": 0.1},
        {3: {"weight_decay": 0.3, "betas": (0.5, 0.9)}, 6: {"weight_decay": 0}},
        [0.970314608147, 0.382361617157, 0.844043382802],
    ),
    (
        "RMSprop",
        {"lr": 0.1},
        {3: {"alpha": 0.5}, 6: {"alpha": 0.9, "eps": 0.1}},
        [-0.218989366179, -1.2358329715, 2.45561366845],
    ),
    (
        "RMSprop",
        {"lr": 0.1, "momentum": 0.9, "centered": True},
        {3: {"momentum": 0}, 6: {"momentum": 0.5}},
        [-2.06769454382, -6.33650831531, 4.08557498093],
    ),
    (
        "RMSprop",
        {"lr": 0.1, "centered": True},
        {3: {"centered": False}, 6: {"centered": True}},
        [0.527907461843, -1.92567838386, 1.10248714908],
    ),
]
by_case = pytest.mark.parametrize(("name", "options", "changes", "right"), CASES)


def gradient(step, of=0):
    return np.array([np.sin(1.3 * step + of), np.cos(0.7 * step) + 0.5, 0.1 * step - 0.4])


def train(parameters, optimizer, changes, set_gradient, first=0, last=STEPS, added=None):
    for step in range(first, last):
        optimizer.param_groups[0].update(changes.get(step, {}))
        if step == 7 and added is not None:
            optimizer.add_param_group({"params": [added]})
            parameters = [*parameters, added]
        for number, p in enumerate(parameters):
            set_gradient(p, gradient(step, number))
        optimizer.step()


def give(p, g):
    p.grad = g.astype(p.dtype)


@by_case
def test_options_changed_between_steps_act_as_in_pytorch(name, options, changes, right):
    p = Parameter(np.ones(3))
    train([p], getattr(scratch.optim, name)([p], **options), changes, give)
    np.testing.assert_allclose(p.data, right, rtol=1e-10)


@pytest.mark.torch
@by_case
def test_options_and_groups_changed_between_steps_act_as_in_pytorch_here(name, options, changes, right):
    import torch

    def give_theirs(p, g):
        p.grad = torch.tensor(g)

    p, q = Parameter(np.ones(3)), Parameter(np.ones(3))
    theirs = [torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    train([p], getattr(scratch.optim, name)([p], **options), changes, give, added=q)
    train(theirs[:1], getattr(torch.optim, name)(theirs[:1], **options), changes, give_theirs, added=theirs[1])
    np.testing.assert_allclose(theirs[0].detach().numpy(), right, rtol=1e-10)
    for mine, other in zip((p, q), theirs, strict=True):
        np.testing.assert_allclose(mine.data, other.detach().numpy(), rtol=1e-10)


@by_case
@pytest.mark.parametrize("after", [2, 3, 4, 7])
def test_a_run_resumed_after_a_change_ends_with_the_same_bits(name, options, changes, right, after):
    make = getattr(scratch.optim, name)
    p = Parameter(np.ones(3))
    train([p], make([p], **options), changes, give)

    q = Parameter(np.ones(3))
    before = make([q], **options)
    train([q], before, changes, give, last=after)
    before.param_groups[0].update(changes.get(after, {}))  # saved after the change, before a step with it
    settings = json.loads(json.dumps(before.settings()))
    arrays = {key: array.copy() for key, array in before.state_arrays().items()}
    resumed = make([q], **options)
    resumed.load_settings(settings)
    resumed.load_state_arrays(arrays)
    train([q], resumed, changes, give, first=after)
    np.testing.assert_array_equal(q.data, p.data)


def test_an_array_missing_after_a_change_is_still_named():
    p = Parameter(np.ones(3))
    optimizer = Adam([p], amsgrad=True)
    train([p], optimizer, {2: {"amsgrad": False}}, give, last=3)
    assert optimizer.settings()["kept"] == {"0": ["max_sum_sq", "sum", "sum_sq"]}
    arrays = {key: array for key, array in optimizer.state_arrays().items() if "max" not in key}
    other = Adam([p], amsgrad=True)
    other.load_settings(optimizer.settings())
    with pytest.raises(ValueError, match=r"missing: state\.0\.max_sum_sq"):
        other.load_state_arrays(arrays)


# -- float16 -------------------------------------------------------------------------------------------------------

EVERY = [(SGD, {"momentum": 0.9, "lr": 0.01}), (RMSprop, {"momentum": 0.9, "centered": True, "lr": 0.01}),
         (Adam, {"amsgrad": True, "lr": 0.01}), (AdamW, {"lr": 0.01})]  # fmt: skip


@pytest.mark.parametrize(("cls", "options"), EVERY)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_a_float16_step_is_the_float32_step_rounded(cls, options, scale):
    """With a scale of 1e-4 squares are 0 in float16, with 300 their sums are infinite; a gradient of 0 divided by 0."""
    g = np.array([0, 1, -2], np.float16) * np.float16(scale)
    half, single = Parameter(np.ones(3, np.float16)), Parameter(np.ones(3, np.float32))
    optimizer, other = cls([half], **options), cls([single], **options)
    for _ in range(3):
        before = half.data.astype(np.float32)
        single.data[...] = before
        half.grad, single.grad = g, g.astype(np.float32)
        optimizer.step()
        other.step()
        np.testing.assert_array_equal(half.data, single.data.astype(np.float16))
        assert half.dtype == np.float16
    assert {array.dtype for array in optimizer.state_arrays().values()} == {np.dtype(np.float32)}

    loaded = cls([half], **options)
    loaded.load_state_dict(optimizer.state_dict())
    assert all(np.array_equal(a, optimizer.state_arrays()[key]) for key, a in loaded.state_arrays().items())


@pytest.mark.parametrize(("value", "count"), [(300.0, 100), (1.0, 300_000), (1e-4, 100)])
@pytest.mark.parametrize("norm_type", [1.0, 2.0])
def test_the_norm_of_float16_gradients_is_taken_in_float32(value, count, norm_type):
    p = Parameter(np.zeros(count, np.float16))
    p.grad = np.full(count, value, np.float16)
    stored = float(np.float16(value))
    expected = stored * count ** (1 / norm_type)
    np.testing.assert_allclose(clip_grad_norm_([p], 1.0, norm_type), expected, rtol=1e-5)
    assert p.grad.dtype == np.float16
    np.testing.assert_allclose(p.grad, stored * min(1, 1 / expected), rtol=2**-10, atol=2**-24)


def test_the_average_of_float16_weights_does_not_stop_on_its_way():
    """In float16 the average of 1 and 1.25, moving by a thousandth of the distance, would stay where it is."""
    model = Linear(2, 2).to(np.float16)
    model.weight.data[...] = 1
    average = AveragedModel(model, 0.999)
    average.n_averaged.data[...] = 10**6  # past the start, whose steps are larger
    model.weight.data[...] = 1.25
    for _ in range(1000):
        average.update_parameters(model)
    np.testing.assert_allclose(average.module.weight.data, 1.25 - 0.25 * 0.999**1000, rtol=1e-4)
    assert model.weight.dtype == np.float16 and average(Tensor(np.ones((1, 2), np.float16))).shape == (1, 2)
