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
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from scratch.weights.files import reading
from scratch.weights.pickle_machine import Stored, read_pickle
from scratch.weights.pth_stream import read_stream
from scratch.weights.safetensors_file import MAX_AXES, bfloat16_to_float32

PTH = "a PyTorch file written by torch.save"
ZIP_FAULTS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError, OverflowError, struct.error)

# What a file may make of itself: a few bytes can describe a tensor of any size (stride 0) or name a tensor many times.
MAX_VALUES = 1_000_000
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
        _check(found, size)
        storages: dict[str, bytes | memoryview] = {}
        for storage in {stored.storage for stored in found.values()}:
            storages[storage.key] = storage_bytes(storage.key)
            expected = storage.size * _dtype(storage.dtype).itemsize
            if len(storages[storage.key]) != expected:
                got = len(storages[storage.key])
                raise ValueError(f"its storage {storage.key[:100]!r} should take {expected} bytes and has {got}")
        return {name: _gather(stored, storages[stored.storage.key], order) for name, stored in found.items()}


def _contents(file: BinaryIO, size: int) -> tuple[Any, bytes, Callable[[str], bytes | memoryview]]:
    """What is described, the byte order of the numbers, and how to get a storage's numbers by its key."""
    start = file.read(1)
    file.seek(0)
    if start == b"\x80":  # a pickle's first opcode
        value, storages = read_stream(file, lambda dtype: _dtype(dtype).itemsize)

        def numbers(key: str) -> memoryview:
            if key not in storages:
                raise ValueError(f"its storage {key[:100]!r} is missing")
            return storages[key]

        return value, b"little", numbers
    archive = _open(file, size)
    root = _root(archive)
    order = _read(archive, f"{root}/byteorder") if f"{root}/byteorder" in archive.namelist() else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"its byte order is {order[:20]!r}")
    value = read_pickle(_read(archive, f"{root}/data.pkl"))
    return value, order, lambda key: _read(archive, f"{root}/data/{key}")


# -- the archive ----------------------------------------------------------------------------------------------------


def _open(file: BinaryIO, size: int) -> zipfile.ZipFile:
    start = file.read(4)
    try:
        archive = zipfile.ZipFile(file)
    except (*ZIP_FAULTS, ValueError) as error:
        raise ValueError(f"it is no zip archive (it begins with {start!r}): {error}") from None
    entries = archive.infolist()
    # PyTorch never compresses. So whatever unpacks to more than the file holds is not its work (a zip bomb is).
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its part {entry.filename[:100]!r} is compressed, which PyTorch never does")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError(f"its parts claim {sum(entry.file_size for entry in entries)} bytes; the file has {size}")
    return archive


def _root(archive: zipfile.ZipFile) -> str:
    """The folder in which everything else lies; it has the name that the file had when it was written."""
    roots = [name[: -len("/data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise ValueError(f"it is a zip archive with {len(roots)} parts called <folder>/data.pkl, where there is one")
    return roots[0]


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (*ZIP_FAULTS, ValueError) as error:
        raise ValueError(f"its part {name[:100]!r} is missing or damaged: {error}") from None


# -- the tensors ----------------------------------------------------------------------------------------------------


def _collect(value: Any) -> dict[str, Stored]:
    """{dotted name: tensor} of everything in nested dicts, lists and tuples, in order."""
    found: dict[str, Stored] = {}
    seen = 1
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        name, depth, value = waiting.pop()
        if type(value) is Stored:
            if name in found:
                raise ValueError(f"it has two tensors of the name {name!r}")
            found[name] = value
        if type(value) not in (dict, list, tuple):
            continue
        items = list(value.items() if type(value) is dict else enumerate(value))
        seen += len(items)
        if seen > MAX_VALUES or depth >= MAX_DEPTH or any(len(str(key)) > MAX_NAME for key, _ in items):
            limits = f"{MAX_VALUES} values, in containers nested {MAX_DEPTH} deep, with keys of {MAX_NAME} letters"
            raise ValueError(f"it holds more than {limits}")
        waiting += [(f"{name}.{key}" if name else str(key), depth + 1, item) for key, item in reversed(items)]
    return found


def _inside(found: dict[str, Stored], key: str) -> dict[str, Stored]:
    """The tensors whose names begin with `key`, named from there on."""
    inside = {name[len(key) + 1 :]: stored for name, stored in found.items() if name.startswith(f"{key}.")}
    if not inside:
        there = ", ".join(repr(name) for name in list(dict.fromkeys(name.partition(".")[0] for name in found))[:10])
        raise ValueError(f"it has no tensors inside {key!r}; there are some in {there or 'nothing'}")
    return inside


def _check(found: dict[str, Stored], size: int) -> None:
    """No tensor reaches out of its storage, and all together are of a size that the file's justifies."""
    total = 0
    for name, (storage, offset, shape, strides, dtype) in found.items():
        count = math.prod(shape) if len(shape) <= MAX_AXES else -1
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        item, stored_item = _dtype(dtype).itemsize, _dtype(storage.dtype).itemsize
        if count < 0 or count and (last + 1) * item > storage.size * stored_item:
            shown = f"offset {offset}, shape {shape[:8]}, strides {strides[:8]}"
            raise ValueError(f"its tensor {name[:100]!r} ({shown}) is larger than its storage, {storage.size} numbers")
        total += count * item
    if total > MAX_GROWTH * size + FREE_BYTES:
        raise ValueError(f"its tensors would take {total} bytes, more than {MAX_GROWTH} times the file's {size}")


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
        return bfloat16_to_float32(array)
    return array.astype(np.bool_) if stored.dtype == "bool" else array
