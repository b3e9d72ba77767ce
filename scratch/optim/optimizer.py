"""What all optimisers share: groups of parameters, the walk over them in pieces, saving and resuming.

An optimiser is its options, the names of the arrays that it keeps for a parameter, and `_update`: the formula, in
place, on arrays. `_update` sees one piece at a time. A formula is a dozen passes over the arrays, and a piece stays
in the cache from the first to the last (8 million weights, Adam: 12 ms a step in pieces, 17 ms without).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from scratch.tensor import Array, Parameter

PIECE = 262_144  # numbers, 1 MB of float32: fewer cost more in calls than they save in memory traffic

Params = Iterable[Parameter] | Iterable[tuple[str, Parameter]] | Iterable[dict[str, Any]]


class Optimizer:
    """Base class: keeps the parameters in groups and calls `_update` for each parameter that has a gradient.

    Args: params: Parameters, (name, Parameter) pairs, or dicts {"params": one of these, option: value ...}.
        defaults: the options of groups that do not say otherwise.
    `param_groups` is a list of dicts, as in PyTorch; options may be changed there between steps.
    Raises ValueError for no parameters, one that comes twice, what is no Parameter, and options that are unknown or
    out of range.
    """

    # option: (smallest value, first value that is too large)
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "lr": (0, math.inf),
        "momentum": (0, math.inf),
        "dampening": (-math.inf, math.inf),
        "weight_decay": (0, math.inf),
        "eps": (0, math.inf),
        "alpha": (0, 1),
        "betas": (0, 1),
    }

    def __init__(self, params: Params, **defaults: Any):
        self.defaults = self._check(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: list[dict[str, Array]] = []  # of each parameter: what its rule keeps, made at its first step
        self.steps: list[int] = []  # of each parameter: how many updates it has had
        self._kept: dict[str, list[str]] = {}  # by parameter's index: what a loaded state keeps, if options changed
        self._owners: list[tuple[Parameter, dict[str, Any]]] = []  # each parameter and its group
        if isinstance(params, (Parameter, Mapping)) or not isinstance(params, Iterable):
            raise ValueError(f"{self._name} expected a list of Parameters or of groups, got {type(params).__name__}")
        given: list[Any] = list(params)
        if not given:
            raise ValueError(f"{self._name} got no parameters")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    # -- what an optimiser defines --------------------------------------------------------------------------------

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The arrays, zero at first, that the rule keeps for a parameter of this group."""
        return ()

    def _first(self, name: str, p: Array, g: Array, group: dict[str, Any]) -> Array:
        """The array `name` before the first update that uses it: zeros, unless the rule says otherwise."""
        return np.zeros_like(p)

    def _update(self, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any], t: int) -> None:
        """The t-th update, t = 1, 2, ...: write into p and the arrays of `state`, never into the gradient g."""
        raise NotImplementedError(f"{self._name} defines no _update()")

    # -- using it -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for index in range(len(self._owners)):
            self.update_parameter(index)

    def update_parameter(self, index: int) -> None:
        """Update the parameter of this index, counted through all groups; does nothing if it has no gradient.

        A float16 parameter is updated in float32, where its state stays, and rounded: in float16 an ε of 10⁻⁸ is 0
        and a squared gradient soon 0 or ∞. Steps below half of its last digit are lost; train in float32.
        Different parameters may be updated by different threads at the same time.
        Raises ValueError for a gradient of another shape.
        """
        parameter, group = self._owners[index]
        p, g, state = parameter.data, parameter.grad, self.state[index]
        if g is None:
            return
        if g.shape != p.shape:
            raise ValueError(f"{self._name}: {self._label(index)} has shape {p.shape}, its gradient {g.shape}")
        if p.dtype == np.float16:
            p, g = p.astype(np.float32), g.astype(np.float32)
        for name in self._state_names(group):
            if name not in state:
                state[name] = self._first(name, p, g, group)
        self.steps[index] += 1
        for piece in pieces(p, g, state):
            self._update(*piece, group, self.steps[index])
        if p is not parameter.data:
            parameter.data[...] = p

    def zero_grad(self) -> None:
        """Forget the gradients of all its parameters (they become None)."""
        for parameter, _ in self._owners:
            parameter.grad = None

    @property
    def lr(self) -> float:
        """The learning rate; setting it sets all groups. Raises ValueError where groups differ."""
        rates = {group["lr"] for group in self.param_groups}
        if len(rates) != 1:
            raise ValueError(f"{self._name}: the groups have learning rates {sorted(rates)}; see param_groups")
        return rates.pop()

    @lr.setter
    def lr(self, value: float) -> None:
        value = self._number("lr", value)
        for group in self.param_groups:
            group["lr"] = value

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Train further parameters: {"params": ..., option: value ...}, options as in the constructor."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise ValueError(f"{self._name}: a group is a dict with 'params', got {_kind(group)}")
        unknown = sorted(set(group) - {"params", *self.defaults})
        if unknown:
            raise ValueError(f"{self._name} has the options {', '.join(self.defaults)}; got {', '.join(unknown)}")
        names, parameters = self._unpack(group["params"])
        new: dict[str, Any] = {"params": parameters, **({"param_names": names} if names else {})}
        new |= self._check({**self.defaults, **{key: group[key] for key in group if key != "params"}})
        self.param_groups.append(new)
        self._owners += [(parameter, new) for parameter in parameters]
        self.state += [{} for _ in parameters]
        self.steps += [0 for _ in parameters]

    # -- saving and resuming --------------------------------------------------------------------------------------

    def state_arrays(self) -> dict[str, Array]:
        """What it keeps of each parameter, as `state.0.sum`; not copied. The rest of its state is `settings()`."""
        return {
            f"state.{index}.{name}": array for index, state in enumerate(self.state) for name, array in state.items()
        }

    def load_state_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from `state_arrays()`'s arrays, copied; call it after `load_settings`, which says how many steps.

        Raises ValueError, before anything is changed, naming each array that is missing, unexpected, or of another
        shape or dtype.
        """
        expected = {
            f"state.{index}.{name}": np.empty_like(parameter.data, dtype=_state_dtype(parameter))
            for index, (parameter, _) in enumerate(self._owners)
            for name in self._kept.get(str(index), self._usual_names(index))
        }
        problems = [f"missing: {name}" for name in expected if name not in arrays]
        problems += [f"unexpected: {name}" for name in arrays if name not in expected]
        for name, p in expected.items():
            came = arrays.get(name)
            if came is not None and (came.shape, came.dtype) != (p.shape, p.dtype):
                problems.append(f"{name}: expected {p.dtype} of shape {p.shape}, got {came.dtype} of {came.shape}")
        if problems:
            raise ValueError(f"{self._name}.load_state_arrays: " + "; ".join(problems))
        self.state = [{} for _ in self._owners]
        for name, p in expected.items():
            _, index, short = name.split(".")
            p[...] = arrays[name]
            self.state[int(index)][short] = p

    def settings(self) -> dict[str, Any]:
        """Its class, the groups' options and the number of steps of each parameter, fit for JSON.

        Also "kept", the names of a parameter's arrays, where they are not those of its options, which changed.
        """
        groups = [
            {
                "params": group.get("param_names", len(group["params"])),
                **self._check({key: group[key] for key in self.defaults}),
            }
            for group in self.param_groups
        ]
        kept = {str(i): sorted(state) for i, state in enumerate(self.state) if {*state} != {*self._usual_names(i)}}
        settings = {"optimizer": self._name, "groups": groups, "steps": list(self.steps)}
        return {**settings, "kept": kept} if kept else settings

    def load_settings(self, settings: Mapping[str, Any]) -> None:
        """Continue with `settings()`'s options and steps, also after their way through JSON.

        Raises ValueError, before anything is changed, for another optimiser, other groups, and bad options.
        """
        mine, where = self.settings(), f"{self._name}.load_settings"
        if {*settings} - {"kept"} != {*mine} - {"kept"} or settings["optimizer"] != self._name:
            raise ValueError(f"{where} expected settings of {self._name}, got {settings!r}")
        came = [group.get("params") for group in settings["groups"]]
        if came != [group["params"] for group in mine["groups"]]:
            raise ValueError(f"{where} expected the parameters {[g['params'] for g in mine['groups']]}, got {came}")
        steps = settings["steps"]
        if len(steps) != len(self.steps) or any(not isinstance(t, int) or t < 0 for t in steps):
            raise ValueError(f"{where} expected {len(self.steps)} numbers of steps, got {steps}")
        loaded = []
        for group in settings["groups"]:
            options = {key: value for key, value in group.items() if key != "params"}
            if set(options) != set(self.defaults):
                raise ValueError(f"{where} expected the options {list(self.defaults)}, got {list(options)}")
            loaded.append(self._check(options))
        for group, options in zip(self.param_groups, loaded, strict=True):
            group.update(options)
        self.steps = list(steps)
        self._kept = dict(settings.get("kept", {}))

    def state_dict(self) -> dict[str, Any]:
        """Both halves of its state in one dict: {"settings": ..., "arrays": ...}."""
        return {"settings": self.settings(), "arrays": self.state_arrays()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`'s value. Raises ValueError as the two loaders do, nothing being changed."""
        before = self.settings()
        self.load_settings(state["settings"])
        try:
            self.load_state_arrays(state["arrays"])
        except ValueError:
            self.load_settings(before)
            raise

    # -- checking what came ---------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _usual_names(self, index: int) -> tuple[str, ...]:
        """The arrays of a parameter whose options have not changed since its first step."""
        return self._state_names(self._owners[index][1]) if self.steps[index] else ()

    def _label(self, index: int) -> str:
        names = [name for group in self.param_groups for name in group.get("param_names", [""] * len(group["params"]))]
        return names[index] or f"parameter {index}"

    def _check(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options as plain Python numbers; ValueError for one out of range."""
        checked = dict(options)
        for name, value in options.items():
            if name == "betas":
                if not isinstance(value, (tuple, list)) or len(value) != 2:
                    raise ValueError(f"{self._name}: betas are two numbers, got {value!r}")
                checked[name] = tuple(self._number(name, beta) for beta in value)
            elif name in self.limits:
                checked[name] = self._number(name, value)
            elif name in ("nesterov", "centered", "amsgrad") and not isinstance(value, bool):
                raise ValueError(f"{self._name}: {name} is True or False, got {value!r}")
        return checked

    def _number(self, name: str, value: Any) -> float:
        low, high = self.limits[name]
        if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not low <= value < high:
            raise ValueError(f"{self._name}: {name} must be a number, at least {low} and below {high}, got {value!r}")
        return float(value)

    def _unpack(self, params: Any) -> tuple[list[str], list[Parameter]]:
        """(names or nothing, parameters), from a Parameter, Parameters or (name, Parameter) pairs."""
        given: list[Any] = [params] if isinstance(params, Parameter) else list(params)
        named = [isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in given]
        if any(named) and not all(named):
            raise ValueError(f"{self._name}: either all parameters of a group have names or none")
        names = [each[0] for each in given] if any(named) else []
        parameters = [each[1] for each in given] if any(named) else given
        seen = {id(parameter) for parameter, _ in self._owners}
        for position, parameter in enumerate(parameters):
            label = names[position] if names else f"number {len(self._owners) + position}"
            if not isinstance(parameter, Parameter):
                raise ValueError(f"{self._name} expected Parameters, got {_kind(parameter)} as {label}")
            if id(parameter) in seen:
                raise ValueError(f"{self._name}: the parameter {label}, of shape {parameter.shape}, comes twice")
            seen.add(id(parameter))
        if not parameters:
            raise ValueError(f"{self._name} got a group without parameters")
        return names, parameters


def pieces(p: Array, g: Array, state: dict[str, Array]) -> Iterator[tuple[Array, Array, dict[str, Array]]]:
    """A parameter, its gradient and its state, PIECE numbers at a time, as views; all at once where that cannot be."""
    if p.size <= PIECE or not p.flags.c_contiguous:
        yield p, g, state
        return
    p, g = p.reshape(-1), g.reshape(-1)  # a gradient that is not contiguous is copied here
    flat = {name: array.reshape(-1) for name, array in state.items()}
    for start in range(0, p.size, PIECE):
        part = slice(start, start + PIECE)
        yield p[part], g[part], {name: array[part] for name, array in flat.items()}


@lru_cache(maxsize=64)
def scalars(dtype: np.dtype, *values: float) -> tuple[Array, ...]:
    """Numbers as arrays without axes: float32 stays float32, and a call costs half of one with a Python float."""
    return tuple(np.array(value, dtype) for value in values)


def _state_dtype(parameter: Parameter) -> np.dtype:
    return np.dtype(np.float32) if parameter.dtype == np.float16 else parameter.dtype


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
