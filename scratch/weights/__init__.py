"""Weight files: safetensors in and out, PyTorch's .pth and GGUF in, and files that are replaced whole or not at all.

What is in the two most common formats, as a picture (each file here begins with its own in more detail):

    model.safetensors                                    model.pth, a zip archive
    ┌─────────┬─────────────────────────┬───────────┐    ┌────────────────────────┬───────────┬───────────┬─────┐
    │ 8 bytes │ header: JSON            │ numbers   │    │ data.pkl: a *program*  │ data/0    │ data/1    │ ... │
    │ = its   │ name → dtype, shape,    │ one array │    │ that builds            │ numbers   │ numbers   │     │
    │ length  │        first, last byte │ after the │    │ name → (storage "0",   │ of one    │ of the    │     │
    │         │                         │ other     │    │  offset, shape, ...)   │ storage   │ next      │     │
    └─────────┴─────────────────────────┴───────────┘    └────────────────────────┴───────────┴───────────┴─────┘
    read as data                                         read by a machine that knows tensors and refuses the rest

Read in this order: `safetensors_file.py`, `files.py`, `pth_file.py`, `zip_file.py`, `pth_stream.py`,
`pickle_machine.py`, `pickle_names.py`; then `folder.py`, published weights beside their config.json, `gguf_file.py`
with `gguf_blocks.py`, and `npz_file.py`.
"""

from __future__ import annotations

import os

import numpy as np

from scratch.weights.files import atomic_write, reading, replacing, write_text
from scratch.weights.folder import load_folder, read_json, save_folder
from scratch.weights.gguf_file import MAGIC, Gguf, load_gguf, load_gguf_metadata, open_gguf
from scratch.weights.pth_file import load_pth
from scratch.weights.safetensors_file import load_file, load_metadata, save_file

__all__ = [
    "Gguf",
    "atomic_write",
    "load",
    "load_file",
    "load_folder",
    "load_gguf",
    "load_gguf_metadata",
    "load_metadata",
    "load_pth",
    "open_gguf",
    "read_json",
    "replacing",
    "save_file",
    "save_folder",
    "write_text",
]


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a safetensors, PyTorch or GGUF file by name, whichever its contents and then its suffix say it is.

    Raises FileNotFoundError for a missing file, ValueError for one that is none of these or is damaged.
    """
    with reading(path, "a file of weights (safetensors, .pth of PyTorch, GGUF)") as file:
        start = file.read(9)
    if start.startswith(MAGIC):
        return load_gguf(path).tensors
    if start[8:] == b"{":
        return load_file(path)
    if start.startswith((b"PK", b"\x80")) or os.fsdecode(path).lower().endswith((".pth", ".pt", ".bin", ".ckpt")):
        return load_pth(path)
    return load_file(path)
