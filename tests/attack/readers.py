"""The readers that are attacked: for each a sound file, damage that suits it, how it is read and what is read right."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from scratch.data.idx import read_idx
from scratch.weights import load, load_file, load_folder, load_gguf, load_metadata, load_pth, save_file
from scratch.weights.files import reading
from scratch.weights.npz_file import read_npz
from tests.attack import bombs, gadgets
from tests.attack.assembly import MADE_BY_PYTORCH, SIX, dict_of, stream, tensor
from tests.attack.damage import (
    Damage,
    in_zip,
    of_bytes,
    of_head,
    of_json,
    of_pickle,
    of_safetensors,
    of_zip,
    often,
)

Arrays = dict[str, np.ndarray]
LIMIT = 10**6  # bytes that .npz files may unpack to here


@dataclass(frozen=True)
class Reader:
    """What is attacked.

    make(folder): write the sound file, and what else the reader needs, into an empty folder.
    load(folder): read it. right(value, content, sound): whether that is what a file of these bytes says; `sound` is the
    folder that `make` filled.
    """

    name: str
    file: str
    make: Callable[[Path], Any]
    load: Callable[[Path], Any]
    right: Callable[[Any, bytes, Path], bool]
    damages: tuple[Damage, ...] = (of_bytes,)
    hostile: Callable[[bytes], dict[str, bytes]] = lambda sound: {}  # {what: content}: bombs and gadgets
    refused: bool = False  # all that is hostile must be refused; else it may be read, where it is harmless
    by_folder: bool = False  # an error may name the folder instead of the file


def are_arrays(value: Any, most: int = 10**8) -> bool:
    """Whether it is a dict of arrays, each readable to its end."""
    return all(
        type(name) is str and isinstance(array, np.ndarray) and array.nbytes < most and array.tobytes() is not None
        for name, array in value.items()
    )


def same(value: Arrays, expected: Arrays) -> bool:
    return value.keys() == expected.keys() and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in ((value[name], expected[name]) for name in expected)
    )


# -- weights ----------------------------------------------------------------------------------------------------------

ARRAYS = {"a.b": np.arange(12, dtype=np.float32).reshape(3, 4), "c": np.array(True), "d": np.ones((2, 0), np.int8)}


def as_the_library_reads(value: Arrays, content: bytes, sound: Path) -> bool:
    """The reader takes no file that the library of the format refuses."""
    from safetensors.numpy import load as library

    theirs = {name: array.view(np.uint8) != 0 if array.dtype == bool else array
              for name, array in library(content).items()}  # fmt: skip
    return same(value, theirs)  # a byte of a bool may be any in a file


def as_pytorch_reads(value: Arrays, content: bytes, sound: Path) -> bool:
    """Where PyTorch was imported (--torch) and reads the file, the same tensors in the same order."""
    import sys

    if "torch" not in sys.modules:
        return are_arrays(value)
    import io

    import torch

    try:
        theirs = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # it raises whatever its parts do; what it refuses says nothing
        return are_arrays(value)
    found: list[Any] = []
    waiting = [theirs]
    while waiting:
        node = waiting.pop()
        if isinstance(node, torch.Tensor):
            found.append(node.float() if node.dtype == torch.bfloat16 else node)
        elif isinstance(node, (dict, list, tuple)):
            waiting += list(node.values() if isinstance(node, dict) else node)[::-1]
    arrays = [each.numpy(force=True) for each in found]
    return len(arrays) == len(value) and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in zip(value.values(), arrays, strict=True)
    )


def write(name: str, content: Callable[[], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content())


def old_file() -> bytes:
    body = dict_of(a=tensor(6, (6,), (1,)), b=tensor(2, (1,), (1,), key="1"))
    return stream(body, ("1", bytes(8), 2), ("0", SIX.tobytes(), 6))


def gguf_right(value: Any, content: bytes, sound: Path) -> bool:
    metadata, tensors = value
    return all(type(name) is str for name in metadata) and are_arrays(tensors, 10**6)


def make_npz(folder: Path) -> None:
    np.savez_compressed(folder / "a.npz", w=np.arange(6.0).reshape(2, 3), b=np.array(7), flags=np.array([True]))


def load_npz(folder: Path) -> Arrays:
    with reading(folder / "a.npz", "arrays (.npz)") as file:
        return read_npz(file, LIMIT)


def make_shards(folder: Path) -> None:
    save_file({"a": ARRAYS["a.b"]}, folder / "one.safetensors")
    save_file({"b": ARRAYS["c"], "c": ARRAYS["d"]}, folder / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, **index}))


def shards_right(value: Arrays, content: bytes, sound: Path) -> bool:
    """What the index names, and no more."""
    whole = {"a": ARRAYS["a.b"], "b": ARRAYS["c"], "c": ARRAYS["d"]}
    return same(value, {name: whole[name] for name in json.loads(content)["weight_map"]})


WEIGHTS = (
    Reader("safetensors", "w.safetensors", lambda folder: save_file(ARRAYS, folder / "w.safetensors", {"step": "1"}),
           lambda folder: load_metadata(folder / "w.safetensors") and None or load_file(folder / "w.safetensors"),
           as_the_library_reads, (of_bytes, often(of_head(260)), of_safetensors), lambda sound: bombs.of_safetensors()),
    Reader("pth", "m.pth", write("m.pth", lambda: MADE_BY_PYTORCH), lambda folder: load_pth(folder / "m.pth"),
           as_pytorch_reads, (of_bytes, often(of_head(900)), of_zip, in_zip("data.pkl", often(of_bytes)),
           in_zip("data.pkl", often(of_pickle))), lambda sound: bombs.of_pth()),
    Reader("hostile pickles", "m.pth", write("m.pth", lambda: MADE_BY_PYTORCH),
           lambda folder: load_pth(folder / "m.pth"), as_pytorch_reads, (in_zip("data.pkl", often(of_pickle)),),
           lambda sound: dict(gadgets.files()), refused=True),
    Reader("pth before 1.6", "m.pth", write("m.pth", old_file), lambda folder: load(folder / "m.pth"),
           as_pytorch_reads, (of_bytes, often(of_bytes), often(of_pickle))),
    Reader("gguf", "a.gguf", lambda folder: (folder / "a.gguf").write_bytes(sound_gguf()),
           lambda folder: load_gguf(folder / "a.gguf"), gguf_right, (of_bytes, often(of_head(700))),
           lambda sound: bombs.of_gguf()),
    Reader("npz", "a.npz", make_npz, load_npz, lambda value, content, sound: are_arrays(value, LIMIT),
           (of_bytes, of_zip, in_zip("w.npy", of_head(128))), lambda sound: bombs.of_npz(), refused=True),
    Reader("shards", "model.safetensors.index.json", make_shards, load_folder,
           shards_right, (of_bytes, of_json), lambda sound: bombs.of_json(), by_folder=True),
)  # fmt: skip


def sound_gguf() -> bytes:
    from tests.test_published_files import example

    return example()


# -- data -------------------------------------------------------------------------------------------------------------

IDX = np.arange(105, dtype=np.uint8).reshape(3, 5, 7)
IDX_BYTES = b"\0\0\x08\x03" + np.array(IDX.shape, ">u4").tobytes() + IDX.tobytes()


def idx_right(value: Any, content: bytes, sound: Path) -> bool:
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    return b"\0\0\x08" + bytes([3]) + np.array(value.shape, ">u4").tobytes() + value.tobytes() == plain


def copy_bundled(folder: Path) -> None:
    from scratch.data import bundled

    for name in bundled.SHA256:
        shutil.copy(Path(bundled.__file__).parent / "files" / name, folder)


def load_images(folder: Path) -> bytes:
    from scratch.data import load_digits

    return load_digits(folder=folder).train.inputs.tobytes()


def load_play(folder: Path) -> str:
    from scratch.data import load_shakespeare

    return load_shakespeare(folder).validation


def load_spots(folder: Path) -> bytes:
    from scratch.data import load_sunspots

    return load_sunspots(folder).values.tobytes()


DATA = (
    Reader("idx", "x", write("x", lambda: IDX_BYTES), lambda folder: read_idx(folder / "x", 3), idx_right,
           (of_bytes, of_head(16)), lambda sound: bombs.of_idx()),
    Reader("idx, packed", "x.gz", write("x.gz", lambda: gzip.compress(IDX_BYTES, mtime=0)),
           lambda folder: read_idx(folder / "x.gz", 3), idx_right),
    Reader("digits", "digits.npz", copy_bundled, load_images, lambda v, c, sound: v == load_images(sound)),
    Reader("shakespeare", "shakespeare-validation.txt.gz", copy_bundled, load_play,
           lambda v, c, sound: v == load_play(sound)),
    Reader("sunspots", "sunspots.csv.gz", copy_bundled, load_spots, lambda v, c, sound: v == load_spots(sound)),
)  # fmt: skip


def readers() -> dict[str, Reader]:
    """All of them by name; whatever they import later is imported now, so that children have it."""
    from tests.attack import published, runs

    for model in published.MODELS:
        import_module(f"scratch.models.{model}.published")

    return {reader.name: reader for reader in (*WEIGHTS, *DATA, *runs.READERS, *published.READERS)}


