"""GGUF, the file of llama.cpp: facts, tokenizer and weights of a language model in one, the weights often in 4 bits.

    ┌────────┬─────────┬─────────┬────────┬──────────────────────┬───────────────────────────┬───┬─────────────────┐
    │ "GGUF" │ version │ tensors │ facts  │ facts, each:         │ tensors, each:            │ 0 │ numbers, every  │
    │        │ 2 or 3  │ count   │ count  │ name, type, value    │ name, axes, lengths, kind,│   │ tensor's at its │
    │ 4      │ uint32  │ uint64  │ uint64 │ (lists have type 9)  │ where its numbers begin   │   │ own place       │
    └────────┴─────────┴─────────┴────────┴──────────────────────┴───────────────────────────┴───┴─────────────────┘

A string is its length, uint64, and its bytes; all numbers are little-endian. The lengths of axes come innermost first,
the other way round than NumPy's shape. Numbers begin at multiples of `general.alignment`, 32 bytes unless it is given.
How they are stored: `gguf_blocks.py`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scratch.messages import quoted
from scratch.weights.files import reading
from scratch.weights.gguf_blocks import KINDS, Kind, decode

GGUF = "a GGUF file"
MAGIC = b"GGUF"
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9
MAX_AXES = 4  # the format's limit
MAX_DEPTH = 4  # lists in lists
MAX_NAME = 1024
LEAST_FACT, LEAST_TENSOR = 13, 24  # bytes that a fact and a tensor's entry take at least


class Gguf(NamedTuple):
    """What a file holds. metadata: the facts by name. tensors: the arrays by name, float32 unless stored wider."""

    metadata: dict[str, Any]
    tensors: dict[str, np.ndarray]


class Waiting(NamedTuple):
    """A tensor that is still in its file; calling it reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __call__(self) -> np.ndarray:
        return self.read()


class Entry(NamedTuple):
    """A tensor as the header describes it, checked."""

    kind: Kind
    shape: tuple[int, ...]
    begin: int  # in the file
    size: int  # in bytes


def load_gguf(path: str | os.PathLike) -> Gguf:
    """Facts and tensors of a GGUF file; weights in 4, 5, 6 or 8 bits are turned into float32.

    Raises FileNotFoundError for a missing file and ValueError, naming path and fault, for one that is damaged, of
    another version, or whose numbers are stored in a way that is not in `gguf_blocks.KINDS`.
    """
    with reading(path, GGUF) as file:
        metadata, entries = _Header(file).read()
        return Gguf(metadata, {name: _read_tensor(file, name, entry) for name, entry in entries.items()})


def open_gguf(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Waiting]]:
    """Facts, and tensors that are read when they are called: for networks of which one copy fits into memory, not two.

    Raises what load_gguf raises, and so do the calls.
    """
    with reading(path, GGUF) as file:
        metadata, entries = _Header(file).read()
    return metadata, {name: _waiting(path, name, entry) for name, entry in entries.items()}


def _waiting(path: str | os.PathLike, name: str, entry: Entry) -> Waiting:
    def read() -> np.ndarray:
        with reading(path, GGUF) as file:
            return _read_tensor(file, name, entry)

    return Waiting(entry.shape, decode(entry.kind, np.empty(0, np.uint8)).dtype, read)


def load_gguf_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The facts alone; the numbers are not read. Raises what load_gguf raises."""
    with reading(path, GGUF) as file:
        return _Header(file).read()[0]


def _read_tensor(file: BinaryIO, name: str, entry: Entry) -> np.ndarray:
    raw = np.empty(entry.size, np.uint8)
    file.seek(entry.begin)
    if file.readinto(raw.data) != entry.size:  # type: ignore[attr-defined]
        raise ValueError(f"it became shorter while it was read, at {quoted(name)}")
    return decode(entry.kind, raw).reshape(entry.shape)


class _Header:
    """Reads a file up to its numbers. What it says about sizes is compared with the file's before it is believed."""

    def __init__(self, file: BinaryIO):
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.at = 0  # counted here: to ask the file costs a call of the system for each of 100,000 strings

    def read(self) -> tuple[dict[str, Any], dict[str, Entry]]:
        magic = self.take(4)
        if magic != MAGIC:
            raise ValueError(f"it begins with {magic!r}, not with {MAGIC!r}")
        version = self.number("<I")
        if version not in (2, 3):
            raise ValueError(f"its version is {version} (or its numbers big-endian); 2 and 3 are read")
        tensors, facts = self.number("<Q"), self.number("<Q")
        if tensors * LEAST_TENSOR + facts * LEAST_FACT > self.size:
            raise ValueError(f"it claims {tensors} tensors and {facts} facts in {self.size} bytes")
        metadata: dict[str, Any] = {}
        for _ in range(facts):
            name = self.name(metadata)
            metadata[name] = self.value(self.number("<I"), name)
        found: dict[str, tuple[Kind, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name = self.name(found)
            found[name] = self.tensor(name)
        return metadata, self.placed(found, metadata.get("general.alignment", 32))

    def take(self, count: int) -> bytes:
        if count > self.size - self.at:
            raise ValueError(f"it should go on for {count} bytes at {self.at}, and has {self.size} in all")
        self.at += count
        return self.file.read(count)

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        at, raw = self.at, self.take(self.number("<Q"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"its string at {at} is no UTF-8: {raw[:40]!r}") from None

    def name(self, taken: dict[str, Any]) -> str:
        name = self.text()
        if name in taken or len(name) > MAX_NAME:
            raise ValueError(f"it has a name twice, or one of more than {MAX_NAME} letters: {quoted(name)}")
        return name

    def value(self, kind: int, name: str, depth: int = 0) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind != LIST or depth >= MAX_DEPTH:
            raise ValueError(f"{quoted(name)} is of the type {kind}, or of lists nested {depth} deep")
        inner, count = self.number("<I"), self.number("<Q")
        least = {STRING: 8, LIST: 12}.get(inner) or struct.calcsize(NUMBERS.get(inner, "<Q"))
        if count * least > self.size:
            raise ValueError(f"{quoted(name)} claims {count} values in {self.size} bytes")
        if inner in NUMBERS:
            raw = np.frombuffer(self.take(count * least), NUMBERS[inner])
            return raw.tolist()
        return [self.value(inner, name, depth + 1) for _ in range(count)]

    def tensor(self, name: str) -> tuple[Kind, tuple[int, ...], int]:
        axes = self.number("<I")
        if not 1 <= axes <= MAX_AXES:
            raise ValueError(f"{quoted(name)} has {axes} axes, not 1 to {MAX_AXES}")
        lengths = [self.number("<Q") for _ in range(axes)]
        kind, offset = self.number("<I"), self.number("<Q")
        if kind not in KINDS:
            known = ", ".join(each.name for each in KINDS.values())
            raise ValueError(f"{quoted(name)} is stored as kind {kind}; what is read is {known}")
        if not all(0 < n < 2**40 for n in lengths) or lengths[0] % KINDS[kind].weights:
            raise ValueError(f"{quoted(name)} has axes of {lengths}, in blocks of {KINDS[kind].weights}")
        return KINDS[kind], tuple(reversed(lengths)), offset

    def placed(self, found: dict[str, tuple[Kind, tuple[int, ...], int]], alignment: Any) -> dict[str, Entry]:
        """Where in the file each tensor's numbers are: inside it, and nowhere two tensors'."""
        if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
            raise ValueError(f"its alignment is {alignment!r}, not a power of 2")
        start = -(-self.at // alignment) * alignment
        entries = {}
        for name, (kind, shape, offset) in found.items():
            size = math.prod(shape) // kind.weights * kind.size
            if offset % alignment or start + offset + size > self.size:
                raise ValueError(f"{quoted(name)}, {kind.name} of shape {shape}, should lie at {start + offset} and "
                                 f"take {size} bytes; the file has {self.size}, in steps of {alignment}")  # fmt: skip
            entries[name] = Entry(kind, shape, start + offset, size)
        end = start
        for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
            if entry.begin < end:
                raise ValueError(f"the numbers of {quoted(name)} begin at {entry.begin}, inside another tensor's")
            end = entry.begin + entry.size
        return entries
