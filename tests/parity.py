"""The same computation here and in PyTorch: outputs and all gradients of a random upstream gradient, in float64.

A subject is a file in `tests/parity_cases/` with a function `cases`, which draws from a generator of its own.
`python -m tests.reference.make` runs every case in PyTorch and freezes what came out; `tests/test_parity.py` compares
with the frozen values everywhere, and with PyTorch itself where it is installed.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scratch.module import Module
from scratch.tensor import Tensor

CASES_FOLDER = Path(__file__).parent / "parity_cases"
REFERENCE_FOLDER = Path(__file__).parent / "reference"


@dataclass(frozen=True)
class Case:
    """One computation, twice.

    inputs: arrays; float64 ones get gradients, others are passed on.
    ours: a function of Tensors, or a function of nothing that makes a Module (then `module=True`).
    theirs: makes the PyTorch side; called without arguments, so that PyTorch is imported only there, it returns a
        function of torch tensors or an `nn.Module` into which our state_dict is loaded, unrenamed.
    training: the mode of modules; buffers are compared as well after the call.
    """

    name: str
    inputs: tuple[Any, ...]
    ours: Callable[..., Any]
    theirs: Callable[[], Any]
    module: bool = False
    training: bool = True


def subjects() -> list[str]:
    return sorted(path.stem for path in CASES_FOLDER.glob("*.py") if path.stem != "__init__")


def cases(subject: str) -> list[Case]:
    found = importlib.import_module(f"tests.parity_cases.{subject}").cases()
    names = [case.name for case in found]
    if len(set(names)) != len(names):
        raise ValueError(f"{subject}: two cases share a name")
    return found


def generator(case: Case, purpose: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{case.name}/{purpose}".encode()))


def make_module(case: Case) -> Module:
    """Our module in float64, every parameter and floating-point buffer drawn at random (buffers positive)."""
    module = case.ours().to(np.float64)
    rng = generator(case, "state")
    for _, parameter in module.named_parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    for _, buffer in module.named_buffers():
        if buffer.dtype.kind == "f":
            buffer.data[...] = rng.uniform(0.5, 1.5, buffer.shape)
    return module.train(case.training)


def run_ours(case: Case) -> dict[str, np.ndarray]:
    """Our output, gradients and buffers, by name."""
    function: Any = make_module(case) if case.module else case.ours
    tensors = [Tensor(x.copy(), requires_grad=True) if is_float(x) else x for x in case.inputs]
    y = function(*tensors)
    results = {"output": y.data}
    if y.requires_grad:
        y.backward(generator(case, "upstream").standard_normal(y.shape))
    for i, tensor in enumerate(tensors):
        if isinstance(tensor, Tensor):
            results[f"gradient of input {i}"] = zeros_if_none(tensor.grad, tensor.shape)
    if case.module:
        for name, parameter in function.named_parameters():
            results[f"gradient of {name}"] = zeros_if_none(parameter.grad, parameter.shape)
        for name, buffer in function.named_buffers():
            results[f"buffer {name}"] = buffer.data
    return results


def run_theirs(case: Case) -> dict[str, np.ndarray]:
    """PyTorch's output, gradients and buffers, by the same names."""
    import torch

    function = case.theirs()
    if case.module:
        function = function.double().train(case.training)
        state = {name: torch.tensor(value) for name, value in make_module(case).state_dict().items()}
        function.load_state_dict(state)
    tensors = [
        torch.tensor(x, requires_grad=is_float(x)) if isinstance(x, np.ndarray) else x for x in case.inputs
    ]
    y = function(*tensors)
    results = {"output": y.detach().numpy()}
    if y.requires_grad:
        upstream = generator(case, "upstream").standard_normal(tuple(y.shape))
        y.backward(torch.tensor(upstream, dtype=torch.float64))
    for i, tensor in enumerate(tensors):
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
            gradient = None if tensor.grad is None else tensor.grad.numpy()
            results[f"gradient of input {i}"] = zeros_if_none(gradient, tuple(tensor.shape))
    if case.module:
        for name, parameter in function.named_parameters():
            gradient = None if parameter.grad is None else parameter.grad.numpy()
            results[f"gradient of {name}"] = zeros_if_none(gradient, tuple(parameter.shape))
        for name, buffer in function.named_buffers():
            results[f"buffer {name}"] = buffer.numpy()
    return results


def compare(case: Case, came: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Equal names, shapes and values, to the rounding of float64."""
    assert sorted(came) == sorted(expected), f"{case.name}: {sorted(came)} against {sorted(expected)}"
    for what, value in expected.items():
        assert came[what].shape == value.shape, f"{case.name}, {what}: {came[what].shape}, expected {value.shape}"
        np.testing.assert_allclose(came[what], value, rtol=1e-9, atol=1e-11, err_msg=f"{case.name}, {what}")


def load_frozen(subject: str) -> dict[str, dict[str, np.ndarray]]:
    """{case: {what: value}} as PyTorch gave it when `tests.reference.make` ran."""
    frozen: dict[str, dict[str, np.ndarray]] = {}
    with np.load(REFERENCE_FOLDER / f"{subject}.npz") as archive:
        for key in archive.files:
            name, what = key.rsplit("|", 1)
            frozen.setdefault(name, {})[what] = archive[key]
    return frozen


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def zeros_if_none(gradient: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape) if gradient is None else gradient
