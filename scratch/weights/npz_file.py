"""NumPy's .npz files: a zip archive with one .npy file for each array.

    weights.npz                    enc_emb.npy
    ├── enc_emb.npy                ┌───────────────┬─────────┬────────┬──────────────────────────────┬───────────┐
    ├── enc_w_ih.npy               │ \\x93NUMPY    │ version │ length │ {'descr': '<f4',             │ the raw   │
    └── ...                        │               │ 1, 0    │        │  'fortran_order': False,     │ numbers   │
                                   │               │         │        │  'shape': (29, 256), }       │           │
                                   └───────────────┴─────────┴────────┴──────────────────────────────┴───────────┘

`np.load` evaluates the header as a Python expression and allocates what the shape asks for before it looks for the
numbers. Here the header must have exactly the form that NumPy writes, and the numbers must be there.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from typing import BinaryIO

import numpy as np

from scratch.messages import quoted, shown
from scratch.weights.zip_file import open_zip, read_part

MAGIC = b"\x93NUMPY"
LENGTHS = {1: "<H", 2: "<I", 3: "<I"}  # how the header's length is stored, by version
HEADER = re.compile(
    rb"\{'descr': '([<>|][biuf][1248]|[<>]f16|[<>]c(?:8|16))', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}L?,? ?)*)\), \}[ ]*\n"
)
MAX_AXES = 32  # NumPy's limit before 2.0


def read_npz(file: BinaryIO, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, in memory of their own: numbers and bool, `limit` bytes in all.

    Raises ValueError for what is no such file, is damaged, or holds objects, which only a pickle could bring back.
    """
    archive = open_zip(file, limit, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    return {part.removesuffix(".npy"): _array(part, read_part(archive, part)) for part in archive.namelist()}


def _array(part: str, content: bytes) -> np.ndarray:
    version = content[6] if content.startswith(MAGIC) and len(content) >= 12 else 0
    if version not in LENGTHS:
        raise ValueError(f"its part {quoted(part)} begins with {content[:8]!r}, not with {MAGIC!r} and a version")
    (length,) = struct.unpack_from(LENGTHS[version], content, 8)
    begin = 8 + struct.calcsize(LENGTHS[version])
    found = HEADER.fullmatch(content[begin : begin + length])
    if found is None:
        raise ValueError(f"its part {quoted(part)} is no array of numbers: "
                         f"its header is {shown(content[begin : begin + min(length, 200)])}")  # fmt: skip
    shape = tuple(int(n) for n in re.findall(rb"\d+", found[3]))
    numbers = content[begin + length :]
    try:
        dtype = np.dtype(found[1].decode())
        if len(shape) > MAX_AXES or math.prod(shape) * dtype.itemsize != len(numbers):
            raise ValueError(f"{len(numbers)} bytes follow")
        array = np.frombuffer(numbers, dtype).reshape(shape, order="F" if found[2] == b"True" else "C")
    except (TypeError, ValueError, OverflowError) as error:
        claimed = f"{found[1].decode()} of shape {shown(shape)}"
        raise ValueError(f"its part {quoted(part)} claims {claimed}: {error}") from None
    return np.array(array, dtype.newbyteorder("="), order="C")
