"""A setting that holds inside a `with` block, or while a decorated function runs, in one thread only."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from typing import Any


class Scope:
    """`with Scope(variable, make):` sets the variable to `make()`; `@Scope(variable, make)` does so for each call.

    A decorated generator function has the setting while its body runs, and its caller, between two items, has not.
    A generator that *contains* the `with` block shares it with its caller until it ends; if another thread closes it,
    the setting of that thread stays as it is.
    """

    def __init__(self, variable: ContextVar, make: Callable[[], Any]):
        self._variable, self._make = variable, make
        self._tokens: list[Token] = []

    def __enter__(self) -> Any:
        value = self._make()
        self._tokens.append(self._variable.set(value))
        return value

    def __exit__(self, *error: Any) -> None:
        try:
            self._variable.reset(self._tokens.pop())
        except ValueError:  # set in another context, which this one cannot restore and need not
            pass

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generating(*args: Any, **kwargs: Any) -> Any:
                value = self._make()
                return _generate(lambda: Scope(self._variable, lambda: value), function(*args, **kwargs))

            return generating

        @functools.wraps(function)
        def calling(*args: Any, **kwargs: Any) -> Any:
            with Scope(self._variable, self._make):
                return function(*args, **kwargs)

        return calling


def _generate(scope: Callable[[], Scope], body: Any) -> Iterator[Any]:
    """The items of the generator `body`, which runs inside the scope each time it is resumed (`send`, `throw`, `close`
    too), and which returns what it returns."""
    resume, sent = body.send, None
    while True:
        try:
            with scope():
                item = resume(sent)
        except StopIteration as end:
            return end.value
        try:
            resume, sent = body.send, (yield item)
        except GeneratorExit:
            with scope():
                body.close()
            raise
        except BaseException as error:
            resume, sent = body.throw, error
