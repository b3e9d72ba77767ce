"""Files that published weights come in: folders, shards and their index, GGUF; values, damage, and lies about sizes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from scratch.weights import (
    load,
    load_folder,
    load_gguf,
    load_gguf_metadata,
    open_gguf,
    read_json,
    save_file,
    save_folder,
)
from scratch.weights.gguf_blocks import BLOCKS_AT_ONCE, KINDS, decode
from tests.gguf import gguf_bytes, text

REFERENCE = Path(__file__).parent / "reference" / "gguf.npz"


# -- blocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [2, 3, 6, 7, 8, 14])
def test_blocks_are_what_llama_cpp_makes_of_them(kind):
    with np.load(REFERENCE) as frozen:
        raw, values = frozen[f"{kind}/raw"], frozen[f"{kind}/values"]
    found = decode(KINDS[kind], raw.reshape(-1))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)
    many = np.tile(raw, (BLOCKS_AT_ONCE // 5 + 3, 1))
    np.testing.assert_array_equal(decode(KINDS[kind], many.reshape(-1)), np.tile(values, len(many) // 5))


def test_a_block_by_hand():
    """Q4_1: d = 2, m = −1, nibbles 0 1 2 … : x = 2 q − 1; byte j holds weights j and j + 16."""
    q = np.arange(32) % 16
    raw = np.array([2, -1], "<f2").tobytes() + bytes(int(q[j] | q[j + 16] << 4) for j in range(16))
    np.testing.assert_array_equal(decode(KINDS[3], np.frombuffer(raw, np.uint8)), 2.0 * q - 1)


# -- whole files ------------------------------------------------------------------------------------------------

FACTS = {"general.architecture": "llama", "llama.block_count": 2, "llama.eps": 0.5, "tokenizer.ggml.add": True,
         "tokens": ["a", "Ġb", "é"], "types": [1, 3, 1], "nested": [[1, 2], [3]], "empty": [], "below": -3}  # fmt: skip


def example() -> bytes:
    with np.load(REFERENCE) as frozen:
        blocks = frozen["3/raw"][:4].tobytes()
    return gguf_bytes(FACTS, {
        "norm": (0, (3,), np.arange(3, dtype="<f4").tobytes()),
        "half": (1, (2, 3), np.arange(6, dtype="<f2").tobytes()),
        "matrix": (3, (2, 64), blocks),
        "brain": (30, (2,), np.array([0x3F80, 0xC000], "<u2").tobytes()),
    })  # fmt: skip


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("alignment", [None, 1, 64])
@pytest.mark.parametrize("version", [2, 3])
def test_a_file_is_read(tmp_path, version, alignment):
    facts = FACTS | ({} if alignment is None else {"general.alignment": alignment})
    path = write(tmp_path / "a.gguf", gguf_bytes(facts, {
        "x": (0, (2, 3), np.arange(6, dtype="<f4").tobytes()), "y": (28, (1,), np.array([np.pi], "<f8").tobytes()),
    }, version))  # fmt: skip
    metadata, tensors = load_gguf(path)
    assert metadata == facts == load_gguf_metadata(path)
    np.testing.assert_array_equal(tensors["x"], np.arange(6).reshape(2, 3))
    assert tensors["y"] == np.array([np.pi]) and tensors["x"].flags.writeable


def test_tensors_wait_in_their_file_until_they_are_called(tmp_path):
    path = write(tmp_path / "a.gguf", example())
    metadata, waiting = open_gguf(path)
    assert metadata == FACTS
    for name, array in load_gguf(path).tensors.items():
        assert (waiting[name].shape, waiting[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(waiting[name](), array)
    path.write_bytes(example()[:-60])
    with pytest.raises(ValueError, match=r"a\.gguf: .*became shorter while it was read, at 'brain'"):
        waiting["brain"]()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.gguf"):
        waiting["norm"]()


def test_every_kind_in_one_file_and_load_knows_it(tmp_path):
    path = write(tmp_path / "without_suffix", example())
    tensors = load(path)
    assert {name: (array.shape, array.dtype.name) for name, array in tensors.items()} == {
        "norm": ((3,), "float32"), "half": ((2, 3), "float16"), "matrix": ((2, 64), "float32"),
        "brain": ((2,), "float32")}  # fmt: skip
    assert tensors["brain"].tolist() == [1, -2]
    with np.load(REFERENCE) as frozen:
        np.testing.assert_array_equal(tensors["matrix"].reshape(-1), frozen["3/values"][:128])


ONE = {"x": (0, (2,), bytes(8))}


def lying(offset: int, kind: int = 0, lengths: tuple[int, ...] = (2,)) -> bytes:
    """A file whose only tensor's entry says this."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("x")
    head += struct.pack(f"<I{len(lengths)}Q", len(lengths), *lengths) + struct.pack("<IQ", kind, offset)
    return head + bytes(-len(head) % 32) + bytes(64)


BROKEN = {
    "empty": (b"", "should go on for 4 bytes"),
    "another": (b"GGML" + bytes(40), "begins with b'GGML'"),
    "version 1": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version is 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "or its numbers big-endian"),
    "cut": (example()[:300], "should go on for"),
    "cut in numbers": (example()[:-1], "'brain', BF16 of shape"),
    "many tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "claims 1152921504606846976 tensors"),
    "many facts": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62), "and 4611686018427387904 facts"),
    "long string": (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**50) + bytes(64), "1125899906842624"),
    "no UTF-8": (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2) + b"\xff\xfe" + bytes(64), "no UTF-8"),
    "long list": (gguf_bytes({"a": [1, 2]}, ONE).replace(struct.pack("<IQ", 4, 2), struct.pack("<IQ", 4, 2**40)),
                  "'a' claims 1099511627776 values"),
    "unknown type": (gguf_bytes({"a": "b"}, ONE).replace(b"a" + struct.pack("<I", 8), b"a" + struct.pack("<I", 13)),
                     "'a' is of the type 13"),
    "deep list": (gguf_bytes({"a": [[[[[1]]]]]}, ONE), "lists nested 4 deep"),
    "twice": (gguf_bytes({"a": 1, "b": 2}, ONE).replace(text("b"), text("a")), "a name twice"),
    "long name": (gguf_bytes({"a" * 2000: 1}, ONE), "more than 1024 letters"),
    "unknown kind": (lying(0, kind=99), "'x' is stored as kind 99; what is read is F32, F16, BF16"),
    "outside": (lying(64), "should lie at 128 and take 8 bytes"),
    "far outside": (lying(2**63), "should lie at 9223372036854775872"),
    "not aligned": (lying(8), "in steps of 32"),
    "huge": (lying(0, lengths=(2**39, 2**39, 2**39)), "F32 of shape"),
    "no axes": (lying(0, lengths=()), "has 0 axes"),
    "five axes": (lying(0, lengths=(1, 1, 1, 1, 1)), "has 5 axes"),
    "an axis of 0": (lying(0, lengths=(0,)), r"has axes of \[0\]"),
    "no whole block": (lying(0, kind=3, lengths=(33,)), "in blocks of 32"),
    "bad alignment": (gguf_bytes({"general.alignment": 32}, ONE).replace(struct.pack("<I", 32) + text("x"),
                      struct.pack("<I", 33) + text("x")), "its alignment is 33"),
    "on each other": (gguf_bytes({}, {"x": (0, (2,), bytes(64)), "y": (0, (2,), bytes(8))}).replace(
                      struct.pack("<IQ", 0, 64), struct.pack("<IQ", 0, 0)), "inside another tensor's"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_clear_error(tmp_path, name):
    content, words = BROKEN[name]
    path = write(tmp_path / "weights.gguf", content)
    with pytest.raises(ValueError, match=rf"weights\.gguf: expected a GGUF file, but .*{words}") as caught:
        load_gguf(path)
    assert len(str(caught.value)) < 600


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.gguf: expected a GGUF file"):
        load_gguf(tmp_path / "a.gguf")
    with pytest.raises(ValueError, match="it is a folder"):
        load_gguf(tmp_path)


# -- folders ----------------------------------------------------------------------------------------------------

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16), "c": np.zeros(1)}
INDEX = "model.safetensors.index.json"


def sharded(folder: Path, weight_map: object = None, **files: dict) -> Path:
    folder.mkdir(exist_ok=True)
    for name, arrays in (files or {"one": {"a": ARRAYS["a"]}, "two": {"b": ARRAYS["b"], "c": ARRAYS["c"]}}).items():
        save_file(arrays, folder / f"{name}.safetensors")
    weight_map = weight_map or {"b": "two.safetensors", "a": "one.safetensors", "c": "two.safetensors"}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return folder


def check(found: dict[str, np.ndarray]) -> None:
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_folder_that_was_saved_and_its_config(tmp_path):
    save_folder(tmp_path / "new", {"model_type": "bert", "eps": 1e-12}, ARRAYS)
    check(load_folder(tmp_path / "new"))
    check(load(tmp_path / "new" / "model.safetensors"))
    assert read_json(tmp_path / "new" / "config.json") == {"model_type": "bert", "eps": 1e-12}
    with pytest.raises(ValueError, match="JSON compliant"):
        save_folder(tmp_path / "other", {"eps": float("nan")}, ARRAYS)
    assert not (tmp_path / "other").exists()


def test_shards(tmp_path):
    folder = sharded(tmp_path)
    check(load_folder(folder))
    assert list(load_folder(folder)) == ["b", "a", "c"]  # in the index's order
    (folder / "two.safetensors").unlink()
    with pytest.raises(ValueError, match=r"index\.json: it names the shard two\.safetensors, which is not there"):
        load_folder(folder)


@pytest.mark.torch
def test_pytorch_files_whole_and_in_shards(tmp_path):
    import torch

    tensors = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    check(load_folder(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    for name in tensors:
        torch.save({name: tensors[name]}, tmp_path / f"{name}.bin")
    index = {"weight_map": {name: f"{name}.bin" for name in tensors}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    check(load_folder(tmp_path))


ELSEWHERE = ["../one.safetensors", "/etc/passwd", "a\\b.safetensors", INDEX, "one.bin", "", 3, None, ".safetensors",
             ["one.safetensors"], "c:one.safetensors", "one\n.safetensors"]  # fmt: skip


@pytest.mark.parametrize("shard", ELSEWHERE)
def test_an_index_names_files_beside_it_and_no_others(tmp_path, shard):
    with pytest.raises(ValueError, match=r"index\.json: expected names of \.safetensors files beside it"):
        load_folder(sharded(tmp_path, {"a": shard}))


def test_an_index_tells_the_truth(tmp_path):
    with pytest.raises(ValueError, match=r"one\.safetensors should hold d, and does not"):
        load_folder(sharded(tmp_path, {"a": "one.safetensors", "d": "one.safetensors"}))
    with pytest.raises(ValueError, match=r"two\.safetensors holds c, of which the index does not know there"):
        load_folder(sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}))
    for weight_map in ({}, [], "a", 3):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ValueError, match="expected weight_map"):
            load_folder(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {f"{i}": f"{i}.safetensors" for i in range(10_001)}}))
    (tmp_path / "0.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="10001 shards"):
        load_folder(tmp_path)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected one of model\.safetensors, pytorch_model\.bin"):
        load_folder(tmp_path)


@pytest.mark.parametrize(("content", "words"), [(b"", "no JSON"), (b"[1]", "holds a list"), (b"\xff{}", "no UTF-8"),
                                                (b"[" * 100_000, "no JSON"), (b'{"a": 1', "no JSON")])  # fmt: skip
def test_json_that_is_none(tmp_path, content, words):
    path = write(tmp_path / "config.json", content)
    with pytest.raises(ValueError, match=rf"config\.json: expected a JSON object, but it .*{words}"):
        read_json(path)
