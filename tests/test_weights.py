"""Weight files: what was saved comes back; what is broken or hostile is refused, by name, and nothing is harmed."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import pickle
import random
import struct
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch import Sequential
from scratch.layers import Linear
from scratch.weights import (
    atomic_write,
    load,
    load_file,
    load_metadata,
    load_pth,
    pickle_machine,
    pickle_names,
    pth_file,
    pth_stream,
    replacing,
    save_file,
    write_text,
)
from tests.attack.assembly import (
    MADE_BY_PYTORCH,
    SIX,
    archive,
    call,
    dict_of,
    integer,
    named,
    program,
    pth,
    storage,
    stream,
    tensor,
    text,
    tuple_of,
)

DTYPES = [
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
]  # fmt: skip


def same(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal in dtype, shape and every bit (so NaN equals NaN, and -0.0 does not equal 0.0)."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.tobytes() == expected.tobytes()


def only_file(path) -> None:
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# -- safetensors: there and back ------------------------------------------------------------------------------------

LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1] if a.ndim else a,
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@st.composite
def arrays(draw):
    """(as given to save_file, the same contiguous and native), of any bits: NaNs with payloads, infinities, -0.0."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=4))
    bits = random.Random(draw(st.integers(0, 10**6))).randbytes(math.prod(shape) * dtype.itemsize)
    array = np.frombuffer(bits, np.uint8) % 2 == 1 if dtype.kind == "b" else np.frombuffer(bits, dtype)
    array = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array.reshape(shape))
    return array, np.array(array.astype(dtype), order="C")


@given(st.dictionaries(st.text(max_size=8), arrays(), max_size=5), st.dictionaries(st.text(), st.text(), max_size=3))
def test_what_was_saved_comes_back_and_the_library_reads_the_same(tmp_path_factory, given_arrays, metadata):
    import safetensors
    from safetensors.numpy import load_file as library_load

    path = tmp_path_factory.mktemp("w") / "w.safetensors"
    save_file({name: array for name, (array, _) in given_arrays.items()}, path, metadata)
    ours, library = load_file(path), library_load(path)
    assert set(ours) == set(library) == set(given_arrays)
    for name, (_, expected) in given_arrays.items():
        same(ours[name], expected)
        same(library[name], expected)
    assert load_metadata(path) == metadata
    with safetensors.safe_open(path, "np") as file:
        assert (file.metadata() or {}) == metadata
    assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % 8 == 0  # the numbers are aligned
    only_file(path)


def test_the_bytes_are_the_librarys_and_the_same_on_every_day(tmp_path):
    """The library's own order of metadata changes from process to process; with one entry there is one order."""
    from safetensors.numpy import save

    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(3.0), "c": np.ones((0, 4), np.int8)}
    for metadata in (None, {"step": "1é"}):
        save_file(tensors, tmp_path / "w", metadata)
        assert (tmp_path / "w").read_bytes() == save(tensors, metadata)
    written = set()
    for order in itertools.permutations("vwxyz"):
        save_file(tensors, tmp_path / "w", {key: key * 2 for key in order})
        written.add((tmp_path / "w").read_bytes())
    assert len(written) == 1


def test_an_empty_file_of_weights_and_empty_metadata(tmp_path):
    for metadata in (None, {}, {"a": "b"}):
        save_file({}, tmp_path / "w", metadata)
        assert load_file(tmp_path / "w") == {} and load_metadata(tmp_path / "w") == (metadata or {})


def test_loaded_arrays_are_nobody_elses(tmp_path):
    """Writable, and untouched when the file is replaced or destroyed: nothing is a view of it."""
    path = tmp_path / "w.safetensors"
    save_file({"a": np.arange(5.0), "b": np.arange(6)}, path)
    loaded = load_file(path)
    path.write_bytes(bytes(path.stat().st_size))
    loaded["a"] += 1
    np.testing.assert_array_equal(loaded["a"], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(loaded["b"], range(6))
    assert not np.shares_memory(loaded["a"], loaded["b"]) and loaded["a"].flags.owndata


def test_a_module_round_trip(tmp_path):
    model, other = Sequential(Linear(3, 4), Linear(4, 2)), Sequential(Linear(3, 4), Linear(4, 2))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert not np.array_equal(other[0].weight.data, model[0].weight.data)
    other.load_state_dict(load(tmp_path / "w.safetensors"))
    for name, array in model.state_dict().items():
        same(other.state_dict()[name], array)


def container(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_bfloat16_is_widened_exactly(tmp_path):
    bits = [0x3F80, 0xC000, 0x3FC0, 0x8000, 0x7F80, 0x0001, 0x7FC1]  # 1, -2, 1.5, -0, inf, the least, a NaN
    header = {"x": entry("BF16", [7], 0, 14), "s": entry("BF16", [], 14, 16)}
    (tmp_path / "w").write_bytes(container(header, struct.pack("<8H", *bits, 0x4049)))
    loaded = load_file(tmp_path / "w")
    same(loaded["x"], np.array([bit << 16 for bit in bits], np.uint32).view(np.float32))
    assert loaded["x"].flags.writeable
    np.testing.assert_array_equal(loaded["x"][:6], np.float32([1, -2, 1.5, -0.0, np.inf, 2.0**-133]))
    same(loaded["s"], np.array(3.140625, np.float32))


def test_the_header_need_not_follow_the_order_of_the_data(tmp_path):
    header = {"second": entry("I16", [2], 4, 8), "first": entry("F32", [1], 0, 4), "none": entry("I8", [0], 4, 4)}
    (tmp_path / "w").write_bytes(container(header, struct.pack("<fhh", 1.5, 7, -8)))
    loaded = load_file(tmp_path / "w")
    assert list(loaded) == ["second", "first", "none"]
    same(loaded["second"], np.int16([7, -8]))
    same(loaded["first"], np.float32([1.5]))
    same(loaded["none"], np.int8([]))


def test_a_bool_of_any_byte_is_true_or_false(tmp_path):
    (tmp_path / "w").write_bytes(container({"x": entry("BOOL", [3], 0, 3)}, b"\x00\x01\x7f"))
    same(load_file(tmp_path / "w")["x"], np.array([False, True, True]))


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({"a": np.ones(2, np.complex64)}, None, "expected 'a' to be an array of bool, .*, got complex64"),
        ({"a": np.array(["x"])}, None, "got <U1"),
        ({"a": np.array([None])}, None, "got object"),
        ({"a": [1.0, 2.0]}, None, "got list"),
        ({"a": None}, None, "got NoneType"),
        ({1: np.ones(2)}, None, "names of type str .*, got 1"),
        ({"__metadata__": np.ones(2)}, None, "got '__metadata__'"),
        ({"\ud800": np.ones(2)}, None, "names of type str"),
        ({"a": np.ones(2)}, {"step": 3}, "metadata of str to str, got 'step': 3"),
        ({"a": np.ones(2)}, {3: "step"}, "got 3: 'step'"),
        ({"a": np.ones(2)}, {"x": "\ud800"}, "metadata of str to str"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path, tensors, metadata, words):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=words):
        save_file(tensors, path, metadata)
    assert path.read_bytes() == b"old"
    only_file(path)


# -- safetensors: broken files --------------------------------------------------------------------------------------

F = entry("F32", [2], 0, 8)
BROKEN = {
    "empty": (b"", "it is 0 bytes long"),
    "short": (b"1234567", "it is 7 bytes long"),
    "header longer than the file": (container({"a": F}, bytes(8))[:30], "header claims 61 bytes, of which 22"),
    "header longer than allowed": ((10**15).to_bytes(8, "little") + b"{}", "header claims 1000000000000000 bytes"),
    "foreign": (b"\x89PNG\r\n\x1a\n" + bytes(99), "header claims"),
    "no header": (container(b""), r"should begin with \{ and begins with b''"),
    "a list": (container([1]), "should begin with"),
    "space first": (container(b" {}"), "should begin with"),
    "not JSON": (container(b"{nonsense}"), "header is not JSON"),
    "two values": (container(b"{}{}"), "header is not JSON"),
    "not UTF-8": (container(b'{"\xff": 1}'), "header is not JSON: 'utf-8'"),
    "deep": (container(b'{"a":' + b"[" * 200_000), "header is not JSON"),
    "giant number": (container(b'{"a":' + b"9" * 9_000 + b"}"), "not JSON|should have dtype"),
    "same name": (container(b'{"a":1,"a":1}'), "a name occurs twice"),
    "metadata of numbers": (container({"__metadata__": {"a": 1}}), "metadata should map str to str"),
    "metadata a list": (container({"__metadata__": ["a"]}), "metadata should map str to str"),
    "metadata half a surrogate": (container({"__metadata__": {"a": "\ud800"}}), "metadata should map str"),
    "name half a surrogate": (container({"\ud800": F}, bytes(8)), "should have dtype"),
    "an entry that is a number": (container({"a": 3}), "'a' should have dtype, shape and data_offsets and is 3"),
    "no dtype": (container({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "'a' should have dtype"),
    "unknown dtype": (container({"a": entry("F8_E4M3", [2], 0, 2)}, bytes(2)), "'a' is 'F8_E4M3', not one of F64"),
    "dtype a list": (container({"a": {**F, "dtype": ["F32"]}}, bytes(8)), "dtype of 'a'"),
    "negative axis": (container({"a": entry("F32", [-1, -2], 0, 8)}, bytes(8)), r"shape of 'a' is \[-1, -2\]"),
    "axis of 1.5": (container({"a": entry("F32", [2.0], 0, 8)}, bytes(8)), r"shape of 'a' is \[2.0\]"),
    "axis of True": (container({"a": entry("F32", [True, 2], 0, 8)}, bytes(8)), "shape of 'a'"),
    "65 axes": (container({"a": entry("F32", [1] * 65, 0, 4)}, bytes(4)), "shape of 'a'"),
    "endless empty axis": (container({"a": entry("F32", [0, 2**62], 0, 0)}), "shape of 'a'"),
    "shape a number": (container({"a": {**F, "shape": 2}}, bytes(8)), "shape of 'a' is 2"),
    "backward offsets": (container({"a": entry("F32", [2], 8, 0)}, bytes(8)), r"data_offsets of 'a' are \[8, 0\]"),
    "three offsets": (container({"a": {**F, "data_offsets": [0, 8, 9]}}, bytes(8)), "data_offsets of 'a'"),
    "too few bytes": (container({"a": entry("F32", [3], 0, 8)}, bytes(8)), r"shape \[3\], takes 12 bytes and has 8"),
    "product wraps": (container({"a": entry("F32", [2**62, 4, 2], 0, 8)}, bytes(8)), "and has 8"),
    "data shorter": (container({"a": F}, bytes(7)), "describes 8 bytes of data, and 7 are there"),
    "data longer": (container({"a": F}, bytes(9)), "describes 8 bytes of data, and 9 are there"),
    "overlap": (container({"a": F, "b": entry("U8", [4], 4, 8)}, bytes(8)), "'b' begin at 4, not at 8"),
    "gap": (container({"a": F, "b": entry("U8", [1], 9, 10)}, bytes(10)), "'b' begin at 9, not at 8"),
    "gap at the start": (container({"b": entry("U8", [1], 1, 2)}, bytes(2)), "'b' begin at 1, not at 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_clear_error(tmp_path, name):
    content, words = BROKEN[name]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        load_file(path)
    assert str(caught.value).startswith(f"{path}: expected a safetensors file, but ")
    assert len(str(caught.value)) < 1_000
    if name != "endless empty axis":  # the one fault that lies not in the header but in what NumPy can make
        with pytest.raises(ValueError, match=words):
            load_metadata(path)


@pytest.mark.parametrize("read", [load_file, load_metadata, load_pth, load])
def test_what_is_not_a_readable_file(tmp_path, monkeypatch, read):
    with pytest.raises(FileNotFoundError, match="missing: expected .* no such file"):
        read(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"expected .*, but it is a folder"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"null"):
        read(f"{tmp_path}/a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match=r"pipe: expected .*, but it is not a regular file"):
            read(tmp_path / "pipe")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "locked").write_bytes(b"12345678{}")
    monkeypatch.setattr("scratch.weights.files.open", refuse, raising=False)
    with pytest.raises(ValueError, match=r"locked: expected .*, but it cannot be read: Permission denied"):
        read(tmp_path / "locked")


def peak_bytes(call) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_lying_header_gets_no_memory(tmp_path):
    path = tmp_path / "w.safetensors"
    for content in (
        container({"a": entry("F32", [2**40], 0, 2**42)}, bytes(8)),
        container({"a": entry("F32", [2**30], 0, 8)}, bytes(8)),
        (99_000_000).to_bytes(8, "little") + b"{}",
    ):
        path.write_bytes(content)

        def read():
            with pytest.raises(ValueError, match="w.safetensors"):
                load_file(path)

        assert peak_bytes(read) < 1_000_000


# -- replacing a file -----------------------------------------------------------------------------------------------


def test_text_is_utf8_with_plain_line_ends_and_parts_are_joined(tmp_path):
    write_text(tmp_path / "a.txt", "é\n→\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n→\r\n".encode()
    atomic_write(tmp_path / "a.txt", b"12", memoryview(b"34"), np.frombuffer(b"56", np.uint8).data)
    assert (tmp_path / "a.txt").read_bytes() == b"123456"
    only_file(tmp_path / "a.txt")


def test_replacing_gives_a_name_with_the_suffix_in_the_same_folder(tmp_path):
    path = tmp_path / ("long" * 60 + ".png")
    with replacing(path) as new:
        assert new.parent == path.parent and new.suffix == ".png" and new.exists() and new != path
        new.write_bytes(b"picture")
        assert not path.exists()
    assert path.read_bytes() == b"picture"
    only_file(path)


class Interrupted(BaseException):
    """As KeyboardInterrupt, which no `except Exception` sees."""


FAILURES = {
    "full disk": ("os.fsync", OSError(28, "No space left on device")),
    "rename": ("os.replace", OSError(5, "Input/output error")),
    "interrupted rename": ("os.replace", Interrupted()),
    "interrupted flush": ("os.fsync", Interrupted()),
    "blocked for good": ("os.replace", PermissionError(13, "in use")),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "w.safetensors"
    save_file({"a": np.arange(3.0)}, path)
    where, error = FAILURES[failure]

    def fail(*_):
        raise error

    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(where, fail)
    with pytest.raises(type(error)) as caught:
        save_file({"a": np.zeros(300)}, path)
    assert caught.value is error
    np.testing.assert_array_equal(load_file(path)["a"], [0, 1, 2])
    only_file(path)


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        atomic_write(path, b"new", 3)
    with pytest.raises(Interrupted), replacing(path) as new:
        new.write_text("half")
        raise Interrupted
    assert path.read_text() == "old"
    only_file(path)


def test_a_blocked_rename_is_tried_again(tmp_path, monkeypatch):
    """As on Windows, while a virus scanner holds the old file open."""
    replace, waits = os.replace, []

    def blocked_twice(*paths):
        if len(waits) < 2:
            raise PermissionError(13, "in use")
        replace(*paths)

    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(os, "replace", blocked_twice)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(waits) == 2 and 0 < sum(waits) < 1
    only_file(tmp_path / "a.txt")


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders")
def test_the_contents_reach_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    events = []
    replace, fsync = os.replace, os.fsync

    def record_fsync(descriptor):
        state = os.fstat(descriptor)
        events.append("folder" if state.st_ino == tmp_path.stat().st_ino else f"{state.st_size} bytes")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    atomic_write(tmp_path / "a", b"12345")
    assert events == ["5 bytes", "rename", "folder"]


def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch):
    opened = os.open

    def no_folders(path, flags, *mode):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")  # what Windows says
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", no_folders)
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="modes and links are different on Windows")
def test_modes_and_links_are_as_with_a_plain_open(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode
    (tmp_path / "link").symlink_to(plain)
    write_text(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink() and plain.read_text() == "through"


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected an existing folder to write into, got .*nowhere"):
        write_text(tmp_path / "nowhere" / "a", "x")
    with pytest.raises(ValueError, match="expected the name of a file to write, got a folder"):
        write_text(tmp_path, "x")


def test_a_reader_never_meets_half_a_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(5_000)}, path)

    def save_often():
        for i in range(1, 30):
            save_file({"a": np.full(5_000 * (1 + i % 3), i)}, path)

    writer = threading.Thread(target=save_often)
    writer.start()
    while writer.is_alive():
        array = load_file(path)["a"]
        assert (array == array[0]).all()
    writer.join()
    assert array.size and load_file(path)["a"][0] == 29
    only_file(path)


# -- PyTorch's files ----------------------------------------------------------------------------------------------


@pytest.fixture
def read(tmp_path):
    def read_bytes(content: bytes, **options):
        (tmp_path / "m.pth").write_bytes(content)
        return load_pth(tmp_path / "m.pth", **options)

    return read_bytes


def refusal(read, content: bytes, words: str) -> str:
    with pytest.raises(ValueError, match=words) as caught:
        read(content)
    assert "m.pth: expected a PyTorch file written by torch.save, but " in str(caught.value)
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


def test_a_file_that_pytorch_wrote(read):
    loaded = read(MADE_BY_PYTORCH)
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert list(loaded) == ["model.weight", "views.0", "views.1", "half"]
    same(loaded["model.weight"], np.float32([[0.5, -2.0]]))
    same(loaded["views.0"], np.ascontiguousarray(base.T))
    same(loaded["views.1"], np.ascontiguousarray(base[1:, 1:3]))
    same(loaded["half"], np.float32([1.5, -0.0078125]))
    assert all(array.flags.c_contiguous and array.flags.writeable for array in loaded.values())
    assert not np.shares_memory(loaded["views.0"], loaded["views.1"])
    same(read(MADE_BY_PYTORCH, key="model")["weight"], np.float32([[0.5, -2.0]]))
    assert list(read(MADE_BY_PYTORCH, key="views")) == ["0", "1"]
    with pytest.raises(ValueError, match="no tensors inside 'state_dict'; there are some in 'model', 'views', 'half'"):
        read(MADE_BY_PYTORCH, key="state_dict")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((2, 3), (3, 1), 0), ((3, 2), (1, 3), 0), ((2,), (2,), 1), ((), (), 5), ((2, 2), (1, 1), 2), ((3, 0), (1, 9), 0),
     ((2, 4), (3, 0), 2), ((1, 6), (2**62, 1), 0), ((1, 1), (2**62, 2**62), 5), ((0, 2), (2**62, 1), 2**40)],
)  # fmt: skip
def test_shapes_and_strides_are_followed(read, shape, strides, offset):
    loaded = read(pth(dict_of(w=tensor(6, shape, strides, offset)), SIX.tobytes()))["w"]
    expected = np.empty(shape, np.float32)
    for index in np.ndindex(*shape):  # the definition: element (i, j, ...) is number offset + Σ index · stride
        expected[index] = SIX[offset + sum(i * s for i, s in zip(index, strides, strict=True))]
    same(loaded, expected)


STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
}  # fmt: skip


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("order", [b"little", b"big", None])
def test_storages_of_every_kind_in_either_byte_order(read, kind, order):
    numbers = np.array([1, 2, -3 if kind != "ByteStorage" else 3, 100, 5, 6], STORAGES[kind])
    raw = numbers.astype(numbers.dtype.newbyteorder(">" if order == b"big" else "<")).tobytes()
    body = dict_of(w=tensor(6, (2, 2), (3, 1), 1, kind))
    same(read(pth(body, raw, order=order))["w"], np.ascontiguousarray(numbers.reshape(2, 3)[:, 1:]))


@pytest.mark.parametrize("order", ["<", ">"])
def test_bfloat16_and_bool_storages(read, order):
    body = dict_of(h=tensor(3, (2,), (1,), 1, "BFloat16Storage"), b=tensor(3, (3,), (1,), 0, "BoolStorage", "1"))
    raw = struct.pack(f"{order}3H", 0, 0x3FC0, 0xC000)
    loaded = read(pth(body, raw, b"\0\1\2", order=b"little" if order == "<" else b"big"))
    same(loaded["h"], np.float32([1.5, -2]))
    same(loaded["b"], np.array([False, True, True]))


def test_newer_and_rarer_things_that_state_dicts_hold(read):
    """Unsigned dtypes (rebuild_v3), parameters, metadata on the OrderedDict, torch.Size, a dtype, a device."""
    ordered = named("collections", "OrderedDict")
    untyped = storage(4, "UntypedStorage").replace(b"ctorch\n", b"ctorch.storage\n")
    v3 = call(
        named("torch._utils", "_rebuild_tensor_v3"), untyped, integer(1), tuple_of(integer(1)), tuple_of(integer(1)),
        b"\x89", call(ordered), named("torch", "uint16"),
    )  # fmt: skip
    two = tensor(6, (2,), (1,), 2, key="1")
    parameter = call(named("torch._utils", "_rebuild_parameter"), two, b"\x88", call(ordered))
    state = call(ordered) + text("p") + parameter + b"s" + dict_of(_metadata=call(ordered)) + b"b"
    rest = [call(named("torch", "Size"), tuple_of(integer(3))), call(named("torch", "device"), text("cpu"))]
    rest += [named("torch", "float32"), b"N", b"\x88", b"G" + struct.pack(">d", 0.5), integer(2**70), integer(-1)]
    body = dict_of(u=v3, s=state, rest=b"](" + b"".join(rest) + b"e", one=b"]" + integer(1) + b"a")
    loaded = read(pth(body, struct.pack("<2H", 7, 65535), SIX.tobytes()))
    assert list(loaded) == ["u", "s.p"]
    same(loaded["u"], np.uint16([65535]))
    same(loaded["s.p"], np.float32([2, 3]))


def test_protocol_4_pushes_names_as_strings(read):
    """MEMOIZE and STACK_GLOBAL in place of BINPUT and GLOBAL; a second tensor takes the function from the memo."""
    place = storage(6) + b"K\x01K\x02\x85K\x03\x85\x89}t"
    one = b"\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94(" + place + b"R"
    two = b"h\x02(" + place + b"R"
    loaded = read(pth(b"\x80\x04](" + one + two + b"e", SIX.tobytes()))
    assert list(loaded) == ["0", "1"]
    same(loaded["0"], np.float32([1, 4]))
    same(loaded["1"], np.float32([1, 4]))


def test_the_memo_shares_values(read):
    body = b"}(" + text("a") + tensor(6, (2,), (1,)) + b"q\x05" + text("b") + b"h\x05" + text("c") + b"h\x05u"
    loaded = read(pth(body, SIX.tobytes()))
    for array in loaded.values():
        same(array, np.float32([0, 1]))
    loaded["a"][:] = 9
    same(loaded["b"], np.float32([0, 1]))  # a tied tensor comes as two arrays
    with pytest.raises(ValueError, match="recalls value 7 before storing it"):
        read(pth(b"h\x07"))


def test_names_that_coincide_and_files_without_tensors(read):
    one = tensor(6, (2,), (1,))
    refusal(read, pth(dict_of(**{"a.b": one, "a": dict_of(b=one)}), SIX.tobytes()), "two tensors of the name 'a.b'")
    assert read(pth(dict_of(epoch=integer(3)))) == {}
    with pytest.raises(ValueError, match="no tensors inside 'model'; there are some in nothing"):
        read(pth(dict_of(epoch=integer(3))), key="model")
    assert list(read(pth(b"}(" + integer(7) + one + b"u", SIX.tobytes()))) == ["7"]  # as in an optimiser's state


# -- hostile files --------------------------------------------------------------------------------------------------


def write(marker: str) -> bytes:
    return text(f"open({marker!r}, 'w').close()")


# Each makes the file `marker` when Python's pickle reads it.
LIVE = {
    "os.mkdir": lambda marker: call(named("os", "mkdir"), text(marker)),
    "builtins.exec": lambda marker: call(named("builtins", "exec"), write(marker)),
    "builtins.eval": lambda marker: call(named("builtins", "eval"), write(marker)),
    "__builtin__.eval": lambda marker: call(named("__builtin__", "eval"), write(marker)),
    "_io.open": lambda marker: call(named("_io", "open"), text(marker), text("w")),
    "os.makedirs": lambda marker: b"\x8c\x02os\x8c\x08makedirs\x93" + tuple_of(text(marker)) + b"R",  # protocol 4
    "pathlib.Path.touch": lambda marker: (
        b"\x80\x04\x8c\x07pathlib\x8c\x0aPath.touch\x93" + tuple_of(call(named("pathlib", "Path"), text(marker))) + b"R"
    ),
    "builtins.getattr": lambda marker: call(
        call(named("builtins", "getattr"), call(named("builtins", "__import__"), text("os")), text("mkdir")),
        text(marker),
    ),
    "the opcode INST ('os mkdir')": lambda marker: b"(" + text(marker) + b"ios\nmkdir\n",
    "operator.attrgetter": lambda marker: call(
        call(named("operator", "attrgetter"), text("mkdir")), call(named("builtins", "__import__"), text("os"))
    ) + tuple_of(text(marker)) + b"R",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("attack", LIVE)
def test_an_attack_is_refused_by_name_and_nothing_runs(tmp_path, read, attack):
    marker = tmp_path / "owned"
    body = LIVE[attack](str(marker))
    assert f"refuses {attack}" in refusal(read, pth(body), "refuses")
    for place in range(5):  # every one of an old file's pickles
        magic, protocol = pickle.dumps(pth_stream.MAGIC, 2), pickle.dumps(1001, 2)
        pickles = [magic, protocol, program(b"}"), program(b"}"), program(b"]")]
        pickles[place] = program(body)
        assert f"refuses {attack}" in refusal(read, b"".join(pickles), "refuses")
    assert not marker.exists()
    pickle.loads(program(body))  # the attack is live
    assert marker.exists()


HOSTILE = {
    "os.system": call(named("os", "system"), text("true")),
    "posix.system": call(named("posix", "system"), text("true")),
    "subprocess.Popen": call(named("subprocess", "Popen"), text("true")),
    "torch.load": call(named("torch", "load"), text("other.pth")),
    "torch.hub.load": call(named("torch.hub", "load"), text("other")),
    "torch.storage._load_from_bytes": call(named("torch.storage", "_load_from_bytes"), text("x")),
    "torch._utils.sys": call(named("torch._utils", "sys")),
    "torch.nn.modules.linear.Linear": named("torch.nn.modules.linear", "Linear") + b")\x81",
    "numpy._core.multiarray.scalar": call(named("numpy._core.multiarray", "scalar")),
    "argparse.Namespace": named("argparse", "Namespace") + b")\x81}b",
    "collections.OrderedDict.fromkeys": b"\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93",
    "the opcode NEWOBJ": named("collections", "OrderedDict") + b")\x81",
    "the opcode OBJ": b"(" + named("collections", "OrderedDict") + b"o",
    "the opcode EXT1": b"\x82\x01",
    "the opcode PERSID ('0')": b"P0\n",
    "the opcode GET": b"g0\n",
    "the opcode DUP": b"N2",
    "the opcode NEXT_BUFFER": b"\x97",
    "the opcode BUILD on a Stored": tensor(6, (2,), (1,)) + b"}b",
    "the opcode BUILD on a Name": named("torch", "float32") + b"}b",
    "to call torch.FloatStorage": call(named("torch", "FloatStorage"), integer(3)),
    "to call collections.OrderedDict": call(named("collections", "OrderedDict"), b"N"),
    "to call torch.Size": call(named("torch", "Size"), b"]"),
    "to call torch._utils._rebuild_tensor_v2": call(named("torch._utils", "_rebuild_tensor_v2"), b"N"),
    "to call torch._utils._rebuild_parameter": call(named("torch._utils", "_rebuild_parameter"), b"}", b"\x88"),
    "to call a str": text("os.system") + b")R",
    "what is no name": b"NN\x93",
}


@pytest.mark.parametrize("culprit", HOSTILE)
def test_what_tensors_do_not_need_is_refused_by_name(read, culprit):
    attack = HOSTILE[culprit]
    for body in (attack, b"(" + attack + b"t", dict_of(w=tensor(6, (6,), (1,)), x=attack)):
        assert f"refuses {culprit}" in refusal(read, pth(body, SIX.tobytes()), "refuses")
        assert f"refuses {culprit}" in refusal(read, stream(body, ("0", SIX.tobytes(), 6)), "refuses")


def test_every_name_that_is_let_through_is_pytorchs_or_ordered_dict():
    """The rest are containers and text; each is only ever compared with: no name is looked up anywhere."""
    others = {each for each in pickle_names.KNOWN if not each.startswith("torch.")}
    assert others == {"collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set",
                      "builtins.complex", "builtins.bytearray", "__builtin__.set", "__builtin__.complex",
                      "__builtin__.bytearray"}  # fmt: skip


DAMAGED = {
    "nothing": (b"", "pickle is damaged"),
    "no such opcode": (b"\x80\x02\xff.", "pickle is damaged"),
    "no end": (b"\x80\x02}", "pickle is damaged"),
    "cut": (program(text("long"))[:-4], "pickle is damaged"),
    "stop on nothing": (program(b""), "takes a value where there is none"),
    "two results": (program(b"NN"), "1 values left over"),
    "a mark for a result": (program(b"("), "takes a value where there is none"),
    "no mark": (program(b"Nt"), "lacks a mark"),
    "tuple of too few": (program(b"N\x87"), "takes a value where there is none"),
    "append to a dict": (program(b"}Na"), "appends to a dict"),
    "append to a tensor": (program(tensor(6, (2,), (1,)) + b"Na"), "appends to a Stored"),
    "items of a list": (program(b"]" + text("a") + b"Ns"), "sets 1 items of a list"),
    "an odd number": (program(b"}(Nu"), "sets 0.5 items of a dict"),
    "a tuple for a key": (program(b"})\x85Ns"), "a tuple for the key of a dict"),
    "a dict for a key": (program(b"}}Ns"), "a dict for the key of a dict"),
    "a reference to a number": (program(integer(3) + b"Q"), "not a storage"),
    "a storage of the wrong name": (program(storage(3, "float32")), "not a storage"),
    "a storage of negative size": (program(storage(-3)), "not a storage"),
    "a pointer out of the archive": (program(tensor(6, (2,), (1,), key="../../etc/passwd")), "etc/passwd.*missing"),
    "a storage that is not there": (program(tensor(6, (2,), (1,), key="9")), "data/9' is missing"),
    "a storage of another size": (program(tensor(7, (2,), (1,))), "'0' should take 28 bytes and has 24"),
    "one storage of two sizes": (program(dict_of(a=tensor(6, (2,), (1,)), b=tensor(3, (2,), (1,)))), "should take 12"),
    "a bad escape": (program(b"S'\\q'\n"), "refuses the opcode STRING|pickle is damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_pickle_is_one_clear_error(read, name):
    content, words = DAMAGED[name]
    refusal(read, archive({"a/data.pkl": content, "a/data/0": SIX.tobytes()}), words)


BOUNDS = [
    ((7,), (1,), 0, "larger than its storage"),
    ((6,), (1,), 1, "larger than its storage"),
    ((2, 3), (4, 1), 0, "larger than its storage"),
    ((), (), 6, "larger than its storage"),
    ((2,), (2**62,), 0, "larger than its storage"),
    ((2**62,), (1,), 0, "larger than its storage"),
    ((2**40,), (0,), 0, "would take 4398046511104 bytes"),
    ((2**31, 2**31, 2**31), (0, 0, 0), 0, "would take"),
    ((-1,), (1,), 0, "whole numbers from 0 up"),
    ((2,), (-1,), 1, "whole numbers from 0 up"),
    ((2,), (1,), -1, "whole numbers from 0 up"),
    ((2**63,), (0,), 0, "whole numbers from 0 up"),
    ((True,), (1,), 0, "whole numbers from 0 up"),
    ((2, 3), (1,), 0, "not two tuples of one length"),
    ((1,) * 65, (1,) * 65, 0, "larger than its storage"),
    ((0, 2**62), (1, 1), 0, "tensor of shape"),
]


@pytest.mark.parametrize(("shape", "strides", "offset", "words"), BOUNDS)
def test_no_tensor_reaches_out_of_its_storage_or_grows_without_bounds(read, shape, strides, offset, words):
    content = pth(dict_of(w=tensor(6, shape, strides, offset)), SIX.tobytes())
    assert peak_bytes(lambda: refusal(read, content, words)) < 1_000_000


def test_one_storage_named_very_often_is_refused(read):
    raw = bytes(4 * 100_000)
    body = b"](" + tensor(100_000, (100_000,), (1,)) + b"q\x00" + b"h\x00" * 1_000 + b"e"
    content = pth(body, raw)
    assert peak_bytes(lambda: refusal(read, content, "its tensors would take 400400000 bytes")) < 4_000_000
    loaded = read(pth(b"](" + tensor(100_000, (100_000,), (1,)) + b"q\x00" + b"h\x00" * 23 + b"e", raw))
    assert len(loaded) == 24  # as in a network of tied layers


def test_small_pickles_that_unfold_without_end_are_refused(read, monkeypatch):
    assert pth_file.MAX_VALUES == 1_000_000
    monkeypatch.setattr(pth_file, "MAX_VALUES", 100_000)
    # Fifteen lists, each of ten times the one before it: 10^15 values in a few hundred bytes.
    laughs = b"".join(b"](" + bytes([ord("h"), i]) * 10 + b"eq" + bytes([i + 1]) for i in range(15))
    refusal(read, pth(b"(]q\x00" + laughs + b"t"), "it holds more than 100000 values")
    refusal(read, pth(b"]q\x00h\x00a"), "nested 20 deep")  # a list that is in itself
    refusal(read, pth(b"}q\x00" + text("a") + b"h\x00s"), "nested 20 deep")
    refusal(read, pth(b"]" * 100_000 + b"a" * 99_999), "nested 20 deep")
    refusal(read, pth(b")" + b"\x85" * 100_000), "nested 20 deep")
    refusal(read, pth(b"}" + b")" + b"\x85" * 100_000 + b"Ns"), "a tuple for the key of a dict")
    refusal(read, pth(dict_of(**{"k" * 201: b"N"})), "keys of 200 letters")
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 1_000)
    refusal(read, pth(b"](" + b"N" * 1_000 + b"e"), "more than 1000 opcodes")


ARCHIVES = {
    "nothing": (b"", "no zip archive"),
    "text": (b"hello, world", "no zip archive .it begins with b'hell'"),
    "only the mark of a zip": (b"PK\x03\x04" + bytes(99), "no zip archive"),
    "an npz": (archive({"a.npy": b""}), "with 0 parts called <folder>/data.pkl"),
    "two roots": (archive({"a/data.pkl": b"", "b/data.pkl": b""}), "with 2 parts called"),
    "deep root": (archive({"a/b/data.pkl": b""}), "with 1 parts called <folder>/data.pkl"),
    "a bomb": (archive({"a/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED), "'a/data.pkl' is compressed, which"),
    "another byte order": (pth(dict_of(), order=b"middle"), "its byte order is b'middle'"),
    "a wrong checksum": (pth(tensor(6, (6,), (1,)), SIX.tobytes()).replace(SIX.tobytes(), bytes(24)), "Bad CRC"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_is_no_archive_of_pytorch(read, name):
    content, words = ARCHIVES[name]
    refusal(read, content, words)


def test_a_file_from_before_pytorch_1_6(read):
    """Storages in the file's own order, one of them shared, one not of floats, one whose tensor is thrown away."""
    thrown_away = call(named("collections", "OrderedDict")) + dict_of(_metadata=tensor(2, (2,), (1,), key="30")) + b"b"
    body = dict_of(
        a=tensor(6, (3, 2), (1, 3), key="20"), b=tensor(3, (2,), (2,), kind="LongStorage", key="10"), c=thrown_away,
        d=tensor(6, (2,), (1,), 4, key="20"),
    )  # fmt: skip
    long = np.array([7, -8, 2**40], "<i8")
    content = stream(body, ("30", bytes(8), 2), ("10", long.tobytes(), 3), ("20", SIX.tobytes(), 6))
    loaded = read(content)
    assert list(loaded) == ["a", "b", "d"]
    same(loaded["a"], np.ascontiguousarray(SIX.reshape(2, 3).T))
    same(loaded["b"], np.array([7, 2**40]))
    same(loaded["d"], np.float32([4, 5]))
    assert all(array.flags.writeable and array.flags.owndata for array in loaded.values())
    # a sixth member of the reference, None, is what PyTorch writes here
    same(read(stream(tensor(6, (6,), (1,)).replace(b"tQ", b"NtQ"), ("0", SIX.tobytes(), 6)))[""], SIX)


ONE = tensor(6, (6,), (1,))
STREAMS = {
    "another magic": (stream(ONE, ("0", SIX.tobytes(), 6), magic=7), "the pickle of something else.* a int"),
    "a plain pickle": (pickle.dumps({"a": [1, 2]}, 2), "the pickle of something else.* a dict"),
    "only the magic": (pickle.dumps(pth_stream.MAGIC, 2), "pickle is damaged"),
    "another protocol": (pickle.dumps(pth_stream.MAGIC, 2) + pickle.dumps(1000, 2), "should be the number 1001"),
    "a list of other storages": (stream(ONE, ("1", SIX.tobytes(), 6)), "names some that no tensor has"),
    "a list of numbers": (stream(ONE, keys=[0]), "names some that no tensor has"),
    "no list": (stream(ONE, keys={}), "names some that no tensor has"),  # type: ignore[arg-type]
    "an unlisted storage": (stream(ONE), "'0' is missing"),
    "another count": (stream(ONE, ("0", SIX.tobytes(), 7)), "'0' should be of 6 numbers and is of 7"),
    "a count beyond all": (stream(ONE, ("0", SIX.tobytes(), 2**63)), "should be of 6 numbers"),
    "numbers that end early": (stream(ONE, ("0", SIX.tobytes()[:20], 6)), "should take 24 bytes and has 20"),
    "no numbers": (stream(ONE, ("0", b"", 6))[:-8], "should be of 6 numbers and is of 0"),
    "a view of a storage": (
        stream(ONE.replace(b"tQ", tuple_of(text("v"), integer(0), integer(6)) + b"tQ"), ("0", SIX.tobytes(), 6)),
        "not a storage of numbers",
    ),
    "a string of 4 GB": (pickle.dumps(pth_stream.MAGIC, 2) + b"\x80\x02X\xff\xff\xff\xffabc.", "pickle is damaged"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_damaged_file_from_before_pytorch_1_6_is_one_clear_error(read, name):
    content, words = STREAMS[name]
    assert peak_bytes(lambda: refusal(read, content, words)) < 1_000_000


def test_parts_that_lie_on_each_other_are_refused(read):
    """An overlapping zip: a thousand parts of the directory are one part of the file."""
    content = pth(dict_of(w=tensor(1_000, (1_000,), (1,))), bytes(4_000))
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        original = file.getinfo("archive/data/0")
        for i in range(1, 100):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            copy.header_offset, copy.CRC = original.header_offset, original.CRC
            copy.file_size = copy.compress_size = original.file_size
            file.filelist.append(copy)
        file._didModify = True  # type: ignore[attr-defined]
    refusal(read, buffer.getvalue(), r"its part 'archive/data/\d+' overlaps another")


# -- choosing the reader --------------------------------------------------------------------------------------------


def test_load_looks_at_the_contents_first_and_then_at_the_suffix(tmp_path):
    save_file({"a": np.arange(3)}, tmp_path / "misnamed.pth")
    same(load(tmp_path / "misnamed.pth")["a"], np.arange(3))
    (tmp_path / "misnamed.safetensors").write_bytes(pth(dict_of(w=tensor(6, (6,), (1,))), SIX.tobytes()))
    same(load(tmp_path / "misnamed.safetensors")["w"], SIX)
    for suffix in ("pth", "PT", "bin", "ckpt"):
        (tmp_path / f"broken.{suffix}").write_bytes(b"nonsense")
        with pytest.raises(ValueError, match="expected a PyTorch file"):
            load(tmp_path / f"broken.{suffix}")
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load(tmp_path / "broken.safetensors")
    (tmp_path / "old").write_bytes(pickle.dumps({}, 2))
    with pytest.raises(ValueError, match="expected a PyTorch file .* the pickle of something else"):
        load(str(tmp_path / "old"))


# -- with PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype_and_layout_as_torch_load_reads_it(tmp_path, protocol, as_zip):
    import torch

    base = torch.randn(4, 5, 6)
    state = {
        "transposed": base.permute(2, 0, 1), "sliced": base[1:, ::2, 3], "expanded": base[:1].expand(3, 5, 6),
        "empty": torch.empty(3, 0), "scalar": torch.tensor(2.5), "parameter": torch.nn.Parameter(base[0]),
        "big": torch.randn(300, 200),
        **{name: torch.randint(0, 100, (3, 4)).to(getattr(torch, name)).T for name in DTYPES if name != "bool"},
        "bool": torch.tensor([[True, False], [False, False]]),
    }  # fmt: skip
    bfloat16 = torch.randn(7, 3, dtype=torch.bfloat16)
    nested = {"model": state, "steps": [1, 2.5, None, (bfloat16, "text")], "size": base.shape, "dtype": torch.float16}
    torch.save(nested, tmp_path / "m.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
    loaded = load(tmp_path / "m.pth")
    assert list(loaded) == [*(f"model.{name}" for name in state), "steps.3.0"]
    for name, expected in state.items():
        same(loaded[f"model.{name}"], np.ascontiguousarray(expected.detach().numpy()).reshape(expected.shape))
    same(loaded["steps.3.0"], bfloat16.float().numpy())


@pytest.mark.torch
def test_a_pytorch_network_becomes_ours(tmp_path):
    import torch

    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    ours = Sequential(Linear(3, 4), Linear(4, 2))
    torch.save(theirs.state_dict(), tmp_path / "m.pth")
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, tmp_path / "checkpoint.ckpt")
    for state in (load_pth(tmp_path / "m.pth"), load_pth(tmp_path / "checkpoint.ckpt", key="state_dict")):
        for parameter in ours.parameters():
            parameter.data[...] = 0
        ours.load_state_dict(state)
        x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
        np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.torch
def test_an_optimisers_state_beside_the_network(tmp_path):
    import torch

    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pth")
    loaded = load_pth(tmp_path / "m.pth")
    same(loaded["optimizer.state.0.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"].numpy())
    assert set(load_pth(tmp_path / "m.pth", key="model")) == {"weight", "bias"}


@pytest.mark.torch
def test_what_pytorch_writes_and_we_refuse(tmp_path):
    import torch

    model = torch.nn.Linear(2, 3)
    for thing, words in [
        (model, r"refuses torch\.nn\.modules\.linear\.Linear"),
        (torch.ones(2).to(torch.float8_e4m3fn), r"its tensor '' is of torch\.float8_e4m3fn, which is not read"),
        ({"loss": np.float64(0.5)}, r"refuses numpy\._core\.multiarray\.scalar"),
    ]:
        torch.save(thing, tmp_path / "m.pth")
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "m.pth")
        torch.save(thing, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "m.pth")


@pytest.mark.torch
def test_pytorch_reads_the_safetensors_that_we_write(tmp_path):
    import torch
    from safetensors.torch import load_file as torch_load_file
    from safetensors.torch import save_file as torch_save_file

    arrays = {dtype: np.arange(6).reshape(2, 3).astype(dtype).T for dtype in DTYPES}
    save_file(arrays, tmp_path / "w.safetensors")
    for name, read_by_torch in torch_load_file(tmp_path / "w.safetensors").items():
        same(read_by_torch.numpy(), np.ascontiguousarray(arrays[name]))
    bfloat16 = torch.randn(3, 5, dtype=torch.bfloat16)
    torch_save_file({"x": bfloat16}, tmp_path / "w.safetensors")
    same(load_file(tmp_path / "w.safetensors")["x"], bfloat16.float().numpy())
