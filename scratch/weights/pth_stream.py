"""PyTorch's .pth files from before 1.6 (2020): five pickles one after the other, then the numbers of each storage.

    ┌─────────────┬─────────────┬─────────────────┬───────────────────┬──────────────┬───────────────┬─────┐
    │ pickle: the │ pickle:     │ pickle: byte    │ pickle: name →    │ pickle: list │ storage k₁:   │ ... │
    │ MAGIC       │ 1001        │ order and sizes │ (storage k, ...)  │ k₁, k₂, ...  │ count, numbers│     │
    └─────────────┴─────────────┴─────────────────┴───────────────────┴──────────────┴───────────────┴─────┘

A count is 8 bytes, and the bytes it counts follow from the type that the fourth pickle gives the storage; all are
little endian whatever machine wrote them. The pickles are read by the same `pickle_machine`, so with the same refusals.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from scratch.messages import quoted
from scratch.weights.pickle_machine import read_pickle
from scratch.weights.pickle_names import Storage

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_stream(file: BinaryIO, itemsize: Callable[[str], int]) -> tuple[Any, dict[str, memoryview]]:
    """What the fourth pickle describes, and the bytes of every storage by its key; `itemsize` gives a type's bytes.

    Raises ValueError for a pickle that is not PyTorch's, for what the machine refuses, and where the numbers end early.
    """
    # In memory as a whole, where a string that claims 4 GB gets no more than is there.
    content = file.read()
    stream = io.BytesIO(content)
    magic = read_pickle(stream)
    if type(magic) is not int or magic != MAGIC:
        raise ValueError(f"it is the pickle of something else: it begins with a {type(magic).__name__}")
    version = read_pickle(stream)
    if type(version) is not int or version != PROTOCOL:
        raise ValueError(f"its second pickle should be the number {PROTOCOL}, PyTorch's protocol")
    read_pickle(stream)  # byte order and sizes of the machine that wrote it; the numbers don't depend on them
    described: dict[str, Storage] = {}
    value = read_pickle(stream, described)
    keys = read_pickle(stream)
    if type(keys) is not list or not all(type(key) is str and key in described for key in keys):
        raise ValueError("its list of storages names some that no tensor has")
    return value, _storages(memoryview(content), stream.tell(), [described[key] for key in keys], itemsize)


def _storages(
    content: memoryview, at: int, storages: list[Storage], itemsize: Callable[[str], int]
) -> dict[str, memoryview]:
    """The numbers of each storage, one after the other from byte `at` on; views of `content`, not copies."""
    found = {}
    for storage in storages:
        count, begin = int.from_bytes(content[at : at + 8], "little"), at + 8
        if begin > len(content) or count != storage.size:
            name = quoted(storage.key)
            raise ValueError(f"its storage {name} should be of {storage.size} numbers and is of {count}")
        at = begin + count * itemsize(storage.dtype)
        found[storage.key] = content[begin:at]
    return found
