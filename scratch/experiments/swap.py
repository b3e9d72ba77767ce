"""How every experiment changes a model: a name in the model's modules gets another class or function for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def swapped(*modules: ModuleType, **replacements: Any) -> Iterator[None]:
    """Inside the block every NAME=replacement takes the place of the class or function NAME in the given modules.

        with swapped(gpt.model, Attention=ValueOnlyAttention, gelu=relu):
            model = GPT()          # built from ValueOnlyAttention
            ...                    # its feed-forward networks call relu

    Python looks a global name up each time it is used, so a class counts while a model is built, and a function
    whenever the model runs. A name that several of the modules use is replaced in all of them.
    Raises ValueError for a name that none of the modules uses, and for a function in place of a class.
    """
    before = [(module, name, vars(module)[name]) for module in modules for name in replacements if name in vars(module)]
    missing = sorted(set(replacements) - {name for _, name, _ in before})
    if missing:
        raise ValueError(f"{', '.join(module.__name__ for module in modules)}: no {', '.join(missing)} to swap")
    for _, name, old in before:
        new = replacements[name]
        if not callable(new) or isinstance(old, type) != isinstance(new, type):
            raise ValueError(f"{name} expected {'a class' if isinstance(old, type) else 'a function'}, got {new!r}")
    try:
        for module, name, _ in before:
            setattr(module, name, replacements[name])
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)
