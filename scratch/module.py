"""Module: parts that hold parameters, and the walk that finds them.

A parameter is any `Parameter` reachable through attributes, lists, tuples and dicts, in the order in which they were
assigned. Nothing is registered; what a reader sees in `__init__` is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.scope import Scope
from scratch.tensor import Buffer, Parameter, Tensor, no_grad

Observer = Callable[["Module", tuple, Any], None]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


def observe(function: Observer) -> Scope:
    """Call `function(module, inputs, output)` after every module's forward inside the block."""
    return Scope(_observer, lambda: function)


class Module:
    """A part of a network: attributes hold parameters and further modules, `forward` computes."""

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        observer = _observer.get()
        if observer is not None:
            observer(self, args, output)
        return output

    # -- what it is made of -------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules directly inside; one in a list or dict is named `blocks.0`."""
        for name, value in _leaves(vars(self), "", set()):
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module (named '') and all inside it, each once."""
        seen: set[int] = set()
        for name, value in _named(self):
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter); one shared by several parts comes once, under its first name."""
        seen: set[int] = set()
        for name, value in _named(self):
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(dotted name, buffer) of the arrays that are state but not trained."""
        seen: set[int] = set()
        for name, value in _named(self):
            if isinstance(value, Buffer) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def buffers(self) -> Iterator[Buffer]:
        return (buffer for _, buffer in self.named_buffers())

    # -- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays of all parameters and buffers by dotted name, not copied; a shared one under each of its names.

        Raises ValueError, as all walks do, for two parts of one dotted name, as in `{"b.c": p, "b": {"c": q}}`.
        """
        return {name: value.data for name, value in _named(self) if isinstance(value, (Parameter, Buffer))}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Write arrays or tensors, PyTorch's too, into the parameters and buffers of these names, cast to their dtype.

        Raises ValueError, before anything is changed, naming every shape that differs, every value that is no array of
        real numbers (or of whole numbers, for a buffer of such) and, if `strict`, every name missing or unexpected.
        """
        mine = self.state_dict()
        given, problems = {}, []
        for name, value in state.items():
            try:
                given[name] = _to_numpy(value)
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:  # sparse, quantized, of float8
                problems.append(f"{shown(name)}: expected an array of numbers: {shown(str(error), 200)}")
        for name, value in given.items():
            if name in mine and value.shape != mine[name].shape:
                problems.append(f"{name}: expected shape {mine[name].shape}, got {value.shape}")
            elif name in mine and not _fits(value, mine[name].dtype):
                problems.append(f"{name}: expected numbers for {mine[name].dtype}, got {value.dtype}")
        if strict:
            problems += [f"missing: {name}" for name in mine if name not in state]
            problems += [f"unexpected: {shown(name)}" for name in given if name not in mine]
        if problems:
            raise ValueError(f"{type(self).__name__}.load_state_dict: " + "; ".join(problems))
        for name, value in given.items():
            if name in mine:
                mine[name][...] = value

    def to(self, dtype: Any) -> Module:
        """Change the floating-point type of parameters and buffers, in place; gradients are dropped.

        The one place where `data` is bound anew: call it before optimisers and shards are made.
        """
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise ValueError(f"to() expects a floating-point dtype, got {dtype}")
        for _, value in _named(self):
            if isinstance(value, (Parameter, Buffer)) and value.dtype.kind == "f":
                value.data = value.data.astype(dtype, copy=False)
                value.grad = None
        return self

    def train(self, mode: bool = True) -> Module:
        """Set training behaviour (dropout, batch statistics) here and in all modules inside."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """The same as train(False)."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or free (True) every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget all gradients (they become None, as in PyTorch)."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, function: Callable[[Module], None]) -> Module:
        """Call `function` on every module inside, then on this one; for initialising weights."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # -- showing it ---------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments that `repr` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        return _draw(self, set())

    def count_parameters(self) -> int:
        """How many numbers it trains, shared ones once."""
        return sum(parameter.size for parameter in self.parameters())


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Inside the block the model is in evaluation mode and nothing is recorded for gradients.

    Afterwards every module has its own earlier mode again, also where parts of a model differed.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


class Sequential(Module):
    """Modules one after the other: y = fₙ(… f₂(f₁(x))). State keys are `0.weight`, `2.bias`, as in PyTorch."""

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ValueError(f"Sequential expected a Module at position {i}, got {type(module).__name__}")
            vars(self)[str(i)] = module

    def forward(self, x: Any) -> Any:
        for module in self.children():
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, index: int | slice) -> Any:
        modules = list(self.children())
        return Sequential(*modules[index]) if isinstance(index, slice) else modules[index]


def _dotted(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _quoted(name: str, key: Any) -> str:
    """'blocks' / 0 / 'weight': unlike a dotted name, different for every place."""
    return f"{name} / {key!r}" if name else repr(key)


def _leaves(
    value: Any, name: str, path: set[int], join: Callable[[str, Any], str] = _dotted
) -> Iterator[tuple[str, Any]]:
    """Tensors and modules in a container, with dotted names; `path` holds the containers being walked."""
    if isinstance(value, (Module, Tensor)):
        yield name, value
    elif isinstance(value, (list, tuple, dict)) and id(value) not in path:
        path.add(id(value))
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, join(name, key), path, join)
        path.remove(id(value))


def _walk(
    module: Module, name: str = "", path: tuple[int, ...] = (), join: Callable[[str, Any], str] = _dotted
) -> Iterator[tuple[str, Any]]:
    """Every (dotted name, module or tensor) from `module` down, parents first; a cycle is followed once."""
    yield name, module
    for full, value in _leaves(vars(module), name, set(), join):
        if not isinstance(value, Module):
            yield full, value
        elif id(value) != id(module) and id(value) not in path:
            yield from _walk(value, full, (*path, id(module)), join)


def _named(module: Module) -> Iterator[tuple[str, Any]]:
    """`_walk`, as long as every module, parameter and buffer has a name of its own."""
    found: dict[str, Any] = {}
    for name, value in _walk(module):
        if isinstance(value, (Module, Parameter, Buffer)) and found.setdefault(name, value) is not value:
            places = [place for place, other in _walk(module, join=_quoted) if other in (found[name], value)]
            raise ValueError(f"{type(module).__name__}: {' and '.join(places)} have one name, {name!r}; rename a key")
        yield name, value


def _draw(module: Module, path: set[int]) -> str:
    children = [(name, child) for name, child in module.named_children() if id(child) not in path | {id(module)}]
    title = type(module).__name__
    if not children:
        return f"{title}({module.extra_repr()})"
    rows = [module.extra_repr()] if module.extra_repr() else []
    rows += [f"({name}): " + _draw(child, path | {id(module)}) for name, child in children]
    return f"{title}(\n" + "\n".join("  " + row.replace("\n", "\n  ") for row in rows) + "\n)"


def _to_numpy(value: Any) -> np.ndarray:
    """The numbers of an array or tensor, or of PyTorch's: on any device, with any of its lazy bits."""
    if isinstance(value, Tensor):
        return value.data
    if not hasattr(value, "detach"):
        return np.asarray(value)
    if str(value.dtype) == "torch.bfloat16":  # which NumPy lacks; float32 holds it exactly
        value = value.float()
    return value.numpy(force=True)


def _fits(value: np.ndarray, dtype: np.dtype) -> bool:
    """Whether the cast keeps what the numbers say: no text, no imaginary parts, no fractions for whole numbers."""
    if value.dtype.kind == "f" and dtype.kind in "iu":
        return bool((np.isfinite(value) & (np.trunc(value) == value)).all())
    return value.dtype.kind in "biu" or value.dtype.kind == dtype.kind == "f"
