"""Optimisers, clipping and schedules as PyTorch computes them, frozen: `python -m tests.reference.make_optim`.

A run is 50 steps on a small non-convex problem with noise, whose gradient both sides compute with NumPy from their
own parameters. Two groups have different options, and two parameters lack their gradient in some steps.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).parent / "optim.npz"
STEPS = 50
MEANS = {"exp_avg": ("sum", 0), "exp_avg_sq": ("sum_sq", 1), "max_exp_avg_sq": ("max_sum_sq", 1)}  # name, which β
SNAPSHOTS = (1, 7, STEPS)  # after so many steps the parameters are recorded
SHAPES = {"weight": (3, 4), "bias": (5,), "scalar": (), "late": (2, 1, 3)}
FIRST_GROUP = ("weight", "bias")


@dataclass(frozen=True)
class Case:
    """An optimiser of this name, in both libraries, with options for all groups and for the second group alone."""

    optimizer: str
    options: dict[str, Any]
    second: dict[str, Any]

    @property
    def name(self) -> str:
        return " ".join([self.optimizer, *(f"{key}={value}" for key, value in self.options.items())])


def combinations(optimizer: str, second: dict[str, Any], **choices: tuple) -> list[Case]:
    return [
        Case(optimizer, dict(zip(choices, values, strict=True)), second)
        for values in itertools.product(*choices.values())
    ]


# eps is large in most cases: with 1e-8 nothing would show where it is added.
CASES = [
    Case("SGD", {}, {"lr": 0.02}),
    *combinations("SGD", {"lr": 0.02}, lr=(0.05,), momentum=(0, 0.9), dampening=(0, 0.3), weight_decay=(0, 0.1)),
    *combinations("SGD", {"lr": 0.02, "momentum": 0.5}, lr=(0.05,), momentum=(0.9,), nesterov=(True,),
                  weight_decay=(0, 0.1)),
    Case("RMSprop", {}, {"lr": 0.02, "alpha": 0.9}),
    *combinations("RMSprop", {"lr": 0.02, "alpha": 0.9}, eps=(1e-2,), weight_decay=(0, 0.1), momentum=(0, 0.8),
                  centered=(False, True)),
    Case("Adam", {}, {"lr": 0.02, "betas": (0.8, 0.99)}),
    *combinations("Adam", {"lr": 0.02, "betas": (0.8, 0.99)}, lr=(0.05,), eps=(1e-2,), weight_decay=(0, 0.1),
                  amsgrad=(False, True)),
    Case("Adam", {"betas": (0.0, 0.5), "eps": 1e-2}, {"betas": (0.9, 0.0)}),
    Case("AdamW", {}, {"lr": 0.02, "weight_decay": 0.3}),
    *combinations("AdamW", {"lr": 0.02, "weight_decay": 0.3}, lr=(0.05,), eps=(1e-2,), weight_decay=(0, 0.1),
                  amsgrad=(False, True)),
]  # fmt: skip


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}


def gradient(name: str, p: np.ndarray, step: int) -> np.ndarray | None:
    """Of Σ ½ sin(2 p) + p²/10, with noise; None for `bias` in every fifth step and for `late` in the first four."""
    if (name == "bias" and step % 5 == 2) or (name == "late" and step < 4):
        return None
    noise = np.random.default_rng([step, *name.encode()]).standard_normal(p.shape)
    return np.asarray(np.cos(2 * p) + p / 5 + 0.5 * noise)


def run(case: Case, read: Callable, set_gradient: Callable, step: Callable) -> dict[str, np.ndarray]:
    """{'p after 7 steps': value}: the loop is the same for both libraries."""
    found = {}
    for i in range(STEPS):
        for name in SHAPES:
            set_gradient(name, gradient(name, read(name), i))
        step()
        if i + 1 in SNAPSHOTS:
            found |= {f"{name} after {i + 1} steps": np.array(read(name)) for name in SHAPES}
    return found


def groups(case: Case, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"params": [parameters[name] for name in FIRST_GROUP]},
        {"params": [parameters[name] for name in SHAPES if name not in FIRST_GROUP], **case.second},
    ]


def run_ours(case: Case, make: Callable | None = None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(snapshots, state arrays at the end); `make` stands in for the optimiser's class."""
    import scratch.optim
    from scratch.tensor import Parameter

    parameters = {name: Parameter(value) for name, value in start().items()}
    optimizer = (make or getattr(scratch.optim, case.optimizer))(groups(case, parameters), **case.options)

    def set_gradient(name, value):
        parameters[name].grad = value

    snapshots = run(case, lambda name: parameters[name].data, set_gradient, optimizer.step)
    return snapshots, optimizer.state_arrays()


def run_theirs(case: Case) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The same of PyTorch, its state under our names."""
    import torch

    parameters = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start().items()}
    optimizer = getattr(torch.optim, case.optimizer)(groups(case, parameters), **case.options)

    def set_gradient(name, value):
        parameters[name].grad = None if value is None else torch.tensor(value)

    snapshots = run(case, lambda name: parameters[name].detach().numpy(), set_gradient, optimizer.step)
    betas = [group.get("betas") for group in optimizer.param_groups for _ in group["params"]]
    state = {}
    for index, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            if name in MEANS:  # PyTorch keeps means, ours keeps sums
                ours, which = MEANS[name]
                state[f"state.{index}.{ours}"] = value.numpy() / (1 - betas[index][which])
            elif name != "step" and value is not None:
                state[f"state.{index}.{name}"] = value.numpy()
    return snapshots, state


def defaults_theirs(name: str) -> dict[str, Any]:
    """PyTorch's arguments that may be given without their name, in order, with their defaults."""
    import inspect

    import torch

    parameters = inspect.signature(getattr(torch.optim, name)).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY}


# -- clipping -----------------------------------------------------------------------------------------------------

NORMS = [(norm_type, max_norm) for norm_type in (1.0, 2.0, 3.0, math.inf) for max_norm in (0.0, 0.7, 1e4)]


def gradients() -> list[np.ndarray | None]:
    rng = np.random.default_rng(6)
    return [rng.standard_normal((3, 4)), None, rng.standard_normal(5) * 3, np.asarray(rng.standard_normal())]


def clip_theirs(max_norm: float, norm_type: float) -> tuple[float, list[np.ndarray]]:
    """(total norm, gradients after clipping), those that are not None."""
    import torch

    parameters = torch_parameters()
    total = torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
    return total.item(), [p.grad.numpy() for p in parameters if p.grad is not None]


def clip_value_theirs(clip_value: float) -> list[np.ndarray]:
    import torch

    parameters = torch_parameters()
    torch.nn.utils.clip_grad_value_(parameters, clip_value)
    return [p.grad.numpy() for p in parameters if p.grad is not None]


def torch_parameters() -> list:
    import torch

    parameters = []
    for value in gradients():
        parameters.append(torch.nn.Parameter(torch.zeros(() if value is None else value.shape, dtype=torch.float64)))
        parameters[-1].grad = None if value is None else torch.tensor(value)
    return parameters


# -- schedules ----------------------------------------------------------------------------------------------------


def make_schedules() -> dict[str, tuple[Callable[[int], float], Callable]]:
    """{name: (our schedule, a function that makes PyTorch's scheduler for an optimiser)}; lambdas import nothing."""
    from scratch import schedules as ours

    def theirs():
        from torch.optim import lr_scheduler

        return lr_scheduler

    def rise(optimizer, warmup):  # (step + 1) / warmup
        return theirs().LinearLR(optimizer, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1)

    def warm_cosine(optimizer, warmup, total, final):
        parts = [rise(optimizer, warmup), theirs().CosineAnnealingLR(optimizer, total - warmup, eta_min=final)]
        return theirs().SequentialLR(optimizer, parts, milestones=[warmup])

    def attention(step):  # Vaswani et al. 2017, eq. 3, with d_model = 512 and 9 steps of warmup; the base rate is 1
        return 512**-0.5 * min((step + 1) ** -0.5, (step + 1) * 9**-1.5)

    return {
        "constant": (ours.constant(0.3), lambda o: theirs().ConstantLR(o, factor=1.0)),
        "constant warmup": (ours.constant(0.3, warmup=7), lambda o: rise(o, 7)),
        "step": (ours.step(0.3, every=8), lambda o: theirs().StepLR(o, 8)),
        "step gamma": (ours.step(0.3, every=7, gamma=0.5), lambda o: theirs().StepLR(o, 7, gamma=0.5)),
        "inverse_sqrt": (ours.inverse_sqrt(d_model=512, warmup=9),
                         lambda o: theirs().LambdaLR(o, lambda step: attention(step) / 0.3)),
        "cosine": (ours.cosine(0.3, total=50), lambda o: theirs().CosineAnnealingLR(o, 50)),
        "cosine final": (ours.cosine(0.3, 50, final=0.02), lambda o: theirs().CosineAnnealingLR(o, 50, eta_min=0.02)),
        "cosine warmup": (ours.cosine(0.3, 50, 6, 0.02), lambda o: warm_cosine(o, 6, 50, 0.02)),
        "one_cycle": (ours.one_cycle(0.3, 50), lambda o: theirs().OneCycleLR(o, 0.3, total_steps=50)),
        "one_cycle options": (ours.one_cycle(0.3, 50, 0.45, 10.0, 100.0),
                              lambda o: theirs().OneCycleLR(o, 0.3, total_steps=50, pct_start=0.45, div_factor=10.0,
                                                            final_div_factor=100.0)),
        "one_cycle down": (ours.one_cycle(0.3, 50, 0.0),
                           lambda o: theirs().OneCycleLR(o, 0.3, total_steps=50, pct_start=0.0)),
        "one_cycle up": (ours.one_cycle(0.3, 50, 1.0),
                         lambda o: theirs().OneCycleLR(o, 0.3, total_steps=50, pct_start=1.0)),
    }  # fmt: skip


def rates_theirs(name: str) -> np.ndarray:
    """The learning rates that PyTorch's scheduler gives in 50 steps, from a base rate of 0.3."""
    import warnings

    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of SequentialLR about its own parts
        scheduler = make_schedules()[name][1](optimizer)
        rates = []
        for step in range(STEPS):
            if step:
                optimizer.step()
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


# -- the file -----------------------------------------------------------------------------------------------------


def save(frozen: dict[str, dict[str, np.ndarray]]) -> None:
    """All values in one row, their names and shapes as text beside it: 600 small arrays make a large archive."""
    layout = {name: {what: value.shape for what, value in group.items()} for name, group in frozen.items()}
    values = np.concatenate([value.ravel() for group in frozen.values() for value in group.values()])
    np.savez_compressed(PATH, values=values, layout=np.frombuffer(json.dumps(layout).encode(), np.uint8))


def load() -> dict[str, dict[str, np.ndarray]]:
    """{case: {what: value}} as PyTorch gave it."""
    with np.load(PATH) as archive:
        values, layout = archive["values"], json.loads(archive["layout"].tobytes())
    frozen, start = {}, 0
    for name, group in layout.items():
        frozen[name] = {}
        for what, shape in group.items():
            end = start + math.prod(shape)
            frozen[name][what], start = values[start:end].reshape(shape), end
    return frozen


def main() -> None:
    frozen: dict[str, dict[str, np.ndarray]] = {}
    for case in CASES:
        snapshots, state = run_theirs(case)
        frozen[case.name] = {**snapshots, **state}
    for norm_type, max_norm in NORMS:
        total, clipped = clip_theirs(max_norm, norm_type)
        frozen[f"clip_grad_norm_ {norm_type} {max_norm}"] = {"total": np.array(total), **numbered(clipped)}
    frozen["clip_grad_value_"] = numbered(clip_value_theirs(0.5))
    frozen["schedules"] = {name: rates_theirs(name) for name in make_schedules()}
    save(frozen)
    print(f"{len(CASES)} optimisers, {len(make_schedules())} schedules, {PATH.stat().st_size / 1024:.0f} kB")


def numbered(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(i): array for i, array in enumerate(arrays)}


if __name__ == "__main__":
    main()
