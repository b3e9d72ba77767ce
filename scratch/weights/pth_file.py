"""PyTorch's .pth files (also .pt, .bin): a zip archive with a pickle for the structure and a file for each storage.

    model.pth
    ├── model/data.pkl     a pickle: {"fc.weight": tensor(storage "0", offset 0, shape (3, 2), strides (2, 1)), ...}
    ├── model/byteorder    little or big
    ├── model/version      3
    └── model/data/
        ├── 0              the raw numbers of storage "0"; tensors that share memory share a storage
        └── 1

Before PyTorch 1.6 it was a stream of pickles and numbers instead: `pth_stream.py`.

Python's `pickle.load` would do whatever the pickle says. Here it is read by `pickle_machine`, which knows what tensors
are made of and nothing else; nothing in this library calls `pickle.load`.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from scratch.messages import quoted
from scratch.weights.files import reading
from scratch.weights.pickle_machine import read_pickle
from scratch.weights.pickle_names import Stored, Unread
from scratch.weights.pth_stream import read_stream
from scratch.weights.safetensors_file import MAX_AXES, bfloat16_to_float32
from scratch.weights.zip_file import open_zip, read_part

PTH = "a PyTorch file written by torch.save"

# What a file may make of itself: a few bytes can describe a tensor of any size (stride 0) or name a tensor many times.
MAX_VALUES, MAX_TENSORS = 1_000_000, 100_000
MAX_DEPTH = 20
MAX_NAME = 200
MAX_GROWTH, FREE_BYTES = 32, 1 << 24  # all tensors together: 32 times the file, as in 32 tied layers, and 16 MiB


def load_pth(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file by dotted name, in memory of their own; bfloat16 comes as float32.

    A file of nested containers gives the names of the path to each tensor: {"epoch": 3, "model": {"fc.bias": b}}
    gives {"model.fc.bias": b}, and with key="model" {"fc.bias": b}, which a module loads. What is not a tensor is left
    out; one tensor saved alone has the name "". Gradients, devices and being a parameter are not kept.

    Raises FileNotFoundError for a missing file and ValueError, naming path and fault, for one that is damaged, or that
    holds anything else than tensors, numbers, strings and plain containers.
    """
    with reading(path, PTH) as file:
        size = os.fstat(file.fileno()).st_size
        value, order, storage_bytes = _contents(file, size)
        found = _collect(value)
        if key is not None:
            found = _inside(found, key)
        stored = _checked(found, size)
        storages: dict[str, bytes | memoryview] = {}
        for storage in {each.storage for each in stored.values()}:
            storages[storage.key] = storage_bytes(storage.key)
            expected = storage.size * _dtype(storage.dtype).itemsize
            if len(storages[storage.key]) != expected:
                got = len(storages[storage.key])
                raise ValueError(f"its storage {quoted(storage.key)} should take {expected} bytes and has {got}")
        return {name: _gather(each, storages[each.storage.key], order) for name, each in stored.items()}


def _contents(file: BinaryIO, size: int) -> tuple[Any, bytes, Callable[[str], bytes | memoryview]]:
    """What is described, the byte order of the numbers, and how to get a storage's numbers by its key."""
    start = file.read(1)
    file.seek(0)
    if start == b"\x80":  # a pickle's first opcode
        value, storages = read_stream(file, lambda dtype: _dtype(dtype).itemsize)

        def numbers(key: str) -> memoryview:
            if key not in storages:
                raise ValueError(f"its storage {quoted(key)} is missing")
            return storages[key]

        return value, b"little", numbers
    # PyTorch never compresses, so the parts take no more than the file (of a zip bomb they do).
    archive = open_zip(file, size)
    root = _root(archive)
    order = read_part(archive, f"{root}/byteorder") if f"{root}/byteorder" in archive.namelist() else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"its byte order is {order[:20]!r}")
    value = read_pickle(read_part(archive, f"{root}/data.pkl"))
    return value, order, lambda key: read_part(archive, f"{root}/data/{key}")


# -- the archive ----------------------------------------------------------------------------------------------------


def _root(archive: zipfile.ZipFile) -> str:
    """The folder in which everything else lies; it has the name that the file had when it was written."""
    roots = [name[: -len("/data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise ValueError(f"it is a zip archive with {len(roots)} parts called <folder>/data.pkl, where there is one")
    return roots[0]


# -- the tensors ----------------------------------------------------------------------------------------------------


def _collect(value: Any) -> dict[str, Stored | Unread]:
    """{dotted name: tensor} of everything in nested dicts, lists and tuples, in order."""
    found: dict[str, Stored | Unread] = {}
    seen = 1
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        name, depth, value = waiting.pop()
        if type(value) in (Stored, Unread):
            if name in found:
                raise ValueError(f"it has two tensors of the name {quoted(name)}")
            found[name] = value
            if len(found) > MAX_TENSORS:
                raise ValueError(f"it names more than {MAX_TENSORS} tensors")
        if type(value) not in (dict, list, tuple):
            continue
        items = list(value.items() if type(value) is dict else enumerate(value))
        seen += len(items)
        if seen > MAX_VALUES or depth >= MAX_DEPTH or any(len(str(key)) > MAX_NAME for key, _ in items):
            limits = f"{MAX_VALUES} values, in containers nested {MAX_DEPTH} deep, with keys of {MAX_NAME} letters"
            raise ValueError(f"it holds more than {limits}")
        waiting += [(f"{name}.{key}" if name else str(key), depth + 1, item) for key, item in reversed(items)]
    return found


def _inside(found: dict[str, Stored | Unread], key: str) -> dict[str, Stored | Unread]:
    """The tensors whose names begin with `key`, named from there on."""
    inside = {name[len(key) + 1 :]: stored for name, stored in found.items() if name.startswith(f"{key}.")}
    if not inside:
        parts = list(dict.fromkeys(name.partition(".")[0] for name in found))
        there = ", ".join(quoted(part) for part in parts[:10])
        raise ValueError(f"it has no tensors inside {quoted(key)}; there are some in {there or 'nothing'}")
    return inside


def _checked(found: dict[str, Stored | Unread], size: int) -> dict[str, Stored]:
    """The same, if all can be read: none reaches out of its storage, and all together fit to the file's size."""
    total, checked = 0, {}
    for name, stored in found.items():
        if isinstance(stored, Unread):
            raise ValueError(f"its tensor {quoted(name)} is {stored.why}, which is not read")
        checked[name] = stored
        storage, offset, shape, strides, dtype, *_ = stored
        count = math.prod(shape) if len(shape) <= MAX_AXES else -1
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        item, stored_item = _dtype(dtype).itemsize, _dtype(storage.dtype).itemsize
        if count < 0 or count and (last + 1) * item > storage.size * stored_item:
            place = f"offset {offset}, shape {shape[:8]}, strides {strides[:8]}"
            raise ValueError(f"its tensor {quoted(name)} ({place}) is larger than its storage, {storage.size} numbers")
        total += count * item
    if total > MAX_GROWTH * size + FREE_BYTES:
        raise ValueError(f"its tensors would take {total} bytes, more than {MAX_GROWTH} times the file's {size}")
    return checked


def _dtype(name: str, order: bytes = b"little") -> np.dtype:
    """NumPy's dtype of the stored bytes; bfloat16 and bool are read as unsigned numbers."""
    code = {"bf16": "u2", "bool": "u1"}.get(name, name)
    return np.dtype((">" if order == b"big" else "<") + code)


def _gather(stored: Stored, raw: bytes | memoryview, order: bytes) -> np.ndarray:
    """The tensor's elements out of its storage, contiguous and in memory of their own."""
    numbers = np.frombuffer(raw, _dtype(stored.dtype, order), count=len(raw) // _dtype(stored.dtype).itemsize)
    try:
        array = np.empty(stored.shape, numbers.dtype.newbyteorder("="))
    except (ValueError, OverflowError):  # an empty tensor may still have an axis longer than an address can count
        raise ValueError(f"it has a tensor of shape {stored.shape[:8]}") from None
    if array.size:
        # The stride of an axis of length 1 is never used and may be any number.
        steps = [s * numbers.itemsize if n > 1 else 0 for n, s in zip(stored.shape, stored.strides, strict=True)]
        array[...] = np.lib.stride_tricks.as_strided(numbers[stored.offset :], stored.shape, steps)
    if stored.dtype == "bf16":
        array = bfloat16_to_float32(array)
    elif stored.dtype == "bool":
        array = array.astype(np.bool_)
    if stored.conjugate:
        np.conjugate(array, out=array)
    return np.negative(array, out=array) if stored.negative else array
