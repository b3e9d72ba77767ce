"""What an exercise cell calls: your function beside the library's, values and gradients, and one line that says how far
you are. Notebooks say `import check`: Jupyter starts them in this folder, and Python puts a script's own folder first.

A blank is a function that ends in `return ...`. As long as it does, the line begins with "open"; then with "right", or
with "wrong" and the first number that differs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import scratch
from scratch import Tensor

OTHERS = tuple(str(Path(str(package.__file__)).parent) for package in (scratch, np))  # code that no learner wrote


def operation(mine: Callable, theirs: Callable, cases: Sequence[Sequence[Any]], seed: int = 0) -> None:
    """Compare an operation on the tape: y and, for a random ∂L/∂y, the gradient of every floating-point argument.

    Args: cases: lists of arguments. Arrays of floating-point numbers become tensors that require a gradient,
        everything else is handed over as it is.
    Prints one line.
    """
    for number, case in enumerate(cases, start=1):
        theirs_of, mine_of = _tensors(case), _tensors(case)
        expected = theirs(*theirs_of)
        upstream = np.random.default_rng(seed + number).standard_normal(expected.shape)
        expected.backward(upstream)
        try:
            y = mine(*mine_of)
            if y is ...:
                return _say("open", mine.__name__, "still ends in `return ...`")
            if not isinstance(y, Tensor):
                return _say("wrong", mine.__name__, f"should return what record(...) gives, got {type(y).__name__}")
            problem = _difference("value", y.data, expected.data)
            if problem is None:
                y.backward(upstream)
        except Exception as error:  # a learner's line may raise anything; the notebook goes on
            return _say("wrong", mine.__name__, f"case {number}: {_where(error)}")
        for i, (a, b) in enumerate(zip(mine_of, theirs_of, strict=True)):
            if problem is None and isinstance(b, Tensor):
                problem = _difference(f"gradient of argument {i}", a.grad, b.grad)
        if problem is not None:
            return _say("wrong", mine.__name__, f"case {number}: {problem}")
    return _say("right", mine.__name__, f"values and gradients agree with {theirs.__name__} in {len(cases)} cases")


def function(mine: Callable, expected: Callable, cases: Sequence[Sequence[Any]], name: str = "") -> None:
    """Compare a plain function of numbers and arrays: its results, one or a tuple of them. Prints one line.

    Both get their own copies of the arrays, so a rule may write into them. `name` is shown where `mine` only calls what
    was filled in.
    """
    name = name or mine.__name__
    for number, case in enumerate(cases, start=1):
        right = expected(*(_copy(value) for value in case))
        try:
            came = mine(*(_copy(value) for value in case))
            if came is ...:
                return _say("open", name, "still ends in `return ...`")
        except Exception as error:  # a learner's line may raise anything; the notebook goes on
            return _say("wrong", name, f"case {number}: {_where(error)}")
        right = right if isinstance(right, tuple) else (right,)
        came = came if isinstance(came, tuple) else (came,)
        if len(came) != len(right):
            return _say("wrong", name, f"case {number}: should return {len(right)} results, got {len(came)}")
        for i, (a, b) in enumerate(zip(came, right, strict=True)):
            problem = _difference(f"result {i}", a, b)
            if problem is not None:
                return _say("wrong", name, f"case {number}: {problem}")
    return _say("right", name, f"agrees with the library in {len(cases)} cases")


def _difference(what: str, came: Any, expected: Any) -> str | None:
    """The first number that differs, in words; None if there is none."""
    if came is None or came is ...:
        return f"there is no {what}"
    came, expected = np.asarray(came), np.asarray(expected)
    if came.shape != expected.shape:
        return f"{what} has shape {came.shape}, expected {expected.shape}"
    wrong = np.argwhere(~np.isclose(came, expected, rtol=1e-6, atol=1e-9))
    if not len(wrong):
        return None
    index = tuple(int(i) for i in wrong[0])
    place = f" at index {index}" if index else ""
    return f"{what}{place} is {came[index]:.6g}, expected {expected[index]:.6g} ({len(wrong)} of {came.size} differ)"


def _tensors(case: Sequence[Any]) -> list[Any]:
    floating = [isinstance(value, np.ndarray) and value.dtype.kind == "f" for value in case]
    return [Tensor(v.copy(), requires_grad=True) if f else v for v, f in zip(case, floating, strict=True)]


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _where(error: Exception) -> str:
    """The error, and the learner's line that led to it, if there is one between ours and the library's."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f.lineno for f in frames if f.filename != __file__ and not any(f.filename.startswith(p) for p in OTHERS)]
    place = f"line {outside[-1]} of the cell raised " if outside else ""
    return f"{place}{type(error).__name__}: {error}"


def _say(state: str, name: str, what: str) -> None:
    print(f"{state:5}  {name}: {what}")
