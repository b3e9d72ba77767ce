"""The safetensors format: writing through its library, reading by hand.

    ┌──────────────┬──────────────────────────────────────────────────────┬──────────────────────────────┐
    │ 8 bytes      │ n bytes                                              │ the rest of the file         │
    │ n, unsigned, │ JSON, {"__metadata__": {"step": "100"},              │ the arrays' numbers, without │
    │ little-endian│        "fc.bias": {"dtype": "F32", "shape": [3],     │ gaps, little-endian, C order │
    │              │                    "data_offsets": [0, 12]}, ...}    │ (offsets count from here)    │
    └──────────────┴──────────────────────────────────────────────────────┴──────────────────────────────┘

The library's NumPy reader gives arrays that may look into a memory map and knows no bfloat16; the one here reads each
array once, into memory of its own, needs nothing but NumPy, and says in words what is wrong with a file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scratch.messages import quoted, shown
from scratch.weights.files import atomic_write, reading

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip
SAVED = {np.dtype(code).name for code in DTYPES.values()} | {"bool"}
MAX_HEADER = 100_000_000  # the library's limit, too
MAX_AXES = 64  # NumPy's limit
SAFETENSORS = "a safetensors file"


class Entry(NamedTuple):
    """One array's line in the header, checked."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def save_file(
    tensors: Mapping[str, np.ndarray], path: str | os.PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays, and metadata if there is any, as a safetensors file: all of it, durably, or nothing.

    Floats of 16, 32 and 64 bits, integers and bool, of any shape and memory layout. The same contents make the same
    bytes, whenever and wherever they are saved.

    Raises ValueError for names, arrays or metadata that the format cannot hold, the system's errors for a bad disk.
    """
    from safetensors.numpy import save

    data = save({name: _saveable(name, array) for name, array in tensors.items()})
    if metadata is None:
        return atomic_write(path, data)
    for key, value in metadata.items():
        if not (_is_text(key) and _is_text(value)):
            raise ValueError(f"save_file expected metadata of str to str, got {quoted(key)}: {quoted(value)}")
    # The library writes metadata in an order that changes from process to process; here it is sorted.
    start = 8 + int.from_bytes(data[:8], "little")
    entry = '"__metadata__":' + json.dumps(dict(sorted(metadata.items())), ensure_ascii=False, separators=(",", ":"))
    arrays = data[9:start].rstrip(b" ")  # all of the header after its {
    header = b"{" + entry.encode() + (b"" if arrays == b"}" else b",") + arrays
    header += b" " * (-len(header) % 8)  # so that the numbers stay aligned
    if len(header) > MAX_HEADER:
        raise ValueError(f"save_file expected names and metadata of at most {MAX_HEADER} bytes, got {len(header)}")
    atomic_write(path, len(header).to_bytes(8, "little"), header, memoryview(data)[start:])


def load_file(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, in memory of their own; bfloat16 comes as float32.

    Raises FileNotFoundError for a missing file and ValueError, naming path and fault, for one that is anything else
    than a whole and consistent safetensors file. Memory follows the file's true length, whatever its header claims.
    """
    with reading(path, SAFETENSORS) as file:
        entries, _, start = _read_header(file)
        return {name: _read_array(file, name, entry, start) for name, entry in entries.items()}


def load_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a safetensors file, {} if it has none; the arrays are not read. Raises what load_file raises."""
    with reading(path, SAFETENSORS) as file:
        return _read_header(file)[1]


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of a float32: the same sign and exponent, and 7 of the 23 bits after the point."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _saveable(name: Any, array: Any) -> np.ndarray:
    """The array as the library wants it: it copies raw memory, so a transposed view would be written as garbage."""
    if not _is_text(name) or name == "__metadata__":
        raise ValueError(f"save_file expected names of type str other than '__metadata__', got {quoted(name)}")
    if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.name not in SAVED:
        got = array.dtype if isinstance(array, (np.ndarray, np.generic)) else type(array).__name__
        raise ValueError(f"save_file expected {quoted(name)} to be an array of {', '.join(sorted(SAVED))}, got {got}")
    return np.asarray(array, order="C")  # the library sees to the byte order


def _is_text(value: Any) -> bool:
    """Whether it is a str that UTF-8 can hold (half a surrogate pair it cannot)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# -- reading --------------------------------------------------------------------------------------------------------


def _read_header(file: BinaryIO) -> tuple[dict[str, Entry], dict[str, str], int]:
    """(entries, metadata, where the numbers begin); ValueError unless the file is consistent to its last byte."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"it is {size} bytes long; the first 8 should hold the header's length")
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER, size - 8):
        raise ValueError(f"its header claims {length} bytes, of which {size - 8} are there ({MAX_HEADER} are allowed)")
    header = _parse(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(map(_is_text, metadata)) and all(map(_is_text, metadata.values()))):
        raise ValueError(f"its metadata should map str to str and is {quoted(metadata)}")
    entries = {name: _entry(name, value) for name, value in header.items()}

    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise ValueError(f"the data of {quoted(name)} begin at {entry.begin}, not at {end} (overlap or gap)")
        end = entry.end
    if end != size - 8 - length:
        raise ValueError(f"its header describes {end} bytes of data, and {size - 8 - length} are there")
    return entries, metadata, 8 + length


def _parse(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise ValueError(f"its header should begin with {{ and begins with {text[:8]!r}")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not JSON: {shown(str(error), 200)}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(name: str, value: Any) -> Entry:
    """The header's entry for one array; every number in it is checked before it is used."""
    if not (_is_text(name) and isinstance(value, dict) and {"dtype", "shape", "data_offsets"} <= value.keys()):
        raise ValueError(f"{quoted(name)} should have dtype, shape and data_offsets and is {quoted(value)}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not (isinstance(dtype, str) and dtype in DTYPES):
        raise ValueError(f"the dtype of {quoted(name)} is {quoted(dtype)}, not one of {', '.join(DTYPES)}")
    if not (_are_counts(shape) and len(shape) <= MAX_AXES):
        raise ValueError(f"the shape of {quoted(name)} is {quoted(shape)}")
    if not (_are_counts(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        raise ValueError(f"the data_offsets of {quoted(name)} are {quoted(offsets)}")
    need = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if offsets[1] - offsets[0] != need:
        described = f"{quoted(name)}, {dtype} of shape {quoted(shape)}"
        raise ValueError(f"{described}, takes {quoted(need)} bytes and has {quoted(offsets[1] - offsets[0])}")
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _are_counts(values: Any) -> bool:
    """Whether it is a list of sizes that 63 bits hold; True and False are no sizes."""
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _read_array(file: BinaryIO, name: str, entry: Entry, start: int) -> np.ndarray:
    try:
        array = np.empty(entry.shape, DTYPES[entry.dtype])
    except (ValueError, OverflowError):  # an empty array may still have an axis longer than an address can count
        raise ValueError(f"the shape of {quoted(name)} is {quoted(entry.shape)}") from None
    file.seek(start + entry.begin)
    if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:  # type: ignore[attr-defined]
        raise ValueError(f"it became shorter while it was read, at {quoted(name)}")
    if entry.dtype == "BF16":
        return bfloat16_to_float32(array)
    if entry.dtype == "BOOL":
        return array.astype(np.bool_)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
