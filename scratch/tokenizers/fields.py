"""The fields of an object in a file: each is taken with its type, and those that nothing here reads are refused.

    model = Fields(document, "model")
    prefix = model.text("continuing_subword_prefix", "##")      ValueError: expected model.continuing_subword_prefix to
    model.done()                                                be text, got [1]

A field that is absent and one that is null are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scratch.messages import shown


class Fields:
    """Args: value: what should be an object. name: what messages call it; "" for a whole file."""

    def __init__(self, value: Any, name: str = ""):
        self.name = name
        if not isinstance(value, dict):
            raise ValueError(f"expected {name or 'the file'} to be an object, got {shown(value)}")
        self.left = {key: each for key, each in value.items() if each is not None}

    def called(self, key: str) -> str:
        return f"{self.name}.{shown(key)}" if self.name else shown(key)

    def wrong(self, key: str, expected: str, value: Any) -> ValueError:
        return ValueError(f"expected {self.called(key)} to be {expected}, got {shown(value)}")

    def text(self, key: str, default: str) -> str:
        value = self.optional_text(key)
        return default if value is None else value

    def optional_text(self, key: str) -> str | None:
        value = self.left.pop(key, None)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "text", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.optional_flag(key)
        return default if value is None else value

    def optional_flag(self, key: str) -> bool | None:
        value = self.left.pop(key, None)
        if value is not None and type(value) is not bool:
            raise self.wrong(key, "true or false", value)
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number from 0 to 2³¹ - 1."""
        value = self.left.pop(key, default)
        if type(value) is not int or not 0 <= value < 2**31:
            raise self.wrong(key, "a whole number from 0 to 2**31 - 1", value)
        return value

    def one_of(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        value = self.left.pop(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(key, f"one of {', '.join(known)}", value)
        return value

    def list(self, key: str) -> list[Any]:
        value = self.left.pop(key, None)
        if not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.left.pop(key, None)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object", value)
        return value

    def object(self, key: str) -> Fields:
        return Fields(self.left.pop(key, None), self.called(key))

    def optional_object(self, key: str) -> Fields | None:
        return self.object(key) if key in self.left else None

    def refuse(self, **known: Any) -> None:
        """Raises ValueError for fields of other values than these."""
        for key, value in known.items():
            found = self.left.pop(key, value)
            if type(found) is not type(value) or found != value:
                raise ValueError(f"its {self.called(key)} is {shown(found)}, which isn't read")

    def harmless(self, *keys: str) -> Fields:
        """Leave out fields that change no number and no text."""
        for key in keys:
            self.left.pop(key, None)
        return self

    def done(self) -> None:
        """Raises ValueError for a field that nobody took."""
        for key, value in self.left.items():
            raise ValueError(f"its {self.called(key)} is {shown(value)}, which isn't read")
