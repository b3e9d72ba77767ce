"""PyTorch's files and what `torch.load(weights_only=True)` reads of them; the zip archives that hold them, and .npz."""

from __future__ import annotations

import collections
import io
import struct
import warnings
import zipfile

import numpy as np
import pytest

from scratch.layers import Linear
from scratch.module import Buffer, Module
from scratch.tensor import Parameter
from scratch.weights import load_pth, pickle_names
from scratch.weights.npz_file import read_npz
from tests.attack.assembly import (
    SIX,
    archive,
    call,
    dict_of,
    integer,
    named,
    pth,
    storage,
    tensor,
    text,
    tuple_of,
)
from tests.test_weights import read, refusal, same

assert read  # the fixture

# -- by hand: every argument of every call ---------------------------------------------------------------------------

HOOKS = call(named("collections", "OrderedDict"))
TRUE, FALSE = b"\x88", b"\x89"


def rebuilt(function: str, *arguments: bytes, kind: str = "FloatStorage") -> bytes:
    place = storage(3, kind), integer(0), tuple_of(integer(3)), tuple_of(integer(1))
    return call(named("torch._utils", f"_rebuild_{function}"), *place, *arguments)


def bits(**values: bytes) -> bytes:
    return dict_of(**values)


REAL, COMPLEX = np.array([1.5, -2, 0], "<f4"), np.array([1 + 2j, 5 - 3j, 4], "<c8")


@pytest.mark.parametrize(
    ("kind", "stored", "metadata", "expected"),
    [
        ("FloatStorage", REAL, bits(neg=TRUE), np.float32([-1.5, 2, -0.0])),
        ("FloatStorage", REAL, bits(neg=FALSE), REAL),
        ("FloatStorage", REAL, bits(), REAL),
        ("LongStorage", np.int64([1, -2, 3]), bits(neg=TRUE), np.int64([-1, 2, -3])),
        ("BFloat16Storage", np.array([0x3FC0, 0xC000, 0], "<u2"), bits(neg=TRUE), np.float32([-1.5, 2, -0.0])),
        ("ComplexFloatStorage", COMPLEX, bits(conj=TRUE), np.complex64([1 - 2j, 5 + 3j, complex(4, -0.0)])),
        ("ComplexFloatStorage", COMPLEX, bits(conj=TRUE, neg=TRUE), -np.complex64([1 - 2j, 5 + 3j, complex(4, -0.0)])),
        ("ComplexDoubleStorage", COMPLEX.astype("<c16"), bits(), COMPLEX.astype("<c16")),
    ],
)
def test_bits_that_negate_and_conjugate(read, kind, stored, metadata, expected):
    same(read(pth(rebuilt("tensor_v2", FALSE, HOOKS, metadata, kind=kind), stored.tobytes()))[""], expected)


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "words"),
    [
        ("tensor_v2", (FALSE, HOOKS, bits(neg=integer(1))), "FloatStorage", "of f4 with the bits .*neg"),
        ("tensor_v2", (FALSE, HOOKS, bits(zero=TRUE)), "FloatStorage", "metadata other than its bits neg and conj"),
        ("tensor_v2", (FALSE, HOOKS, b"]"), "FloatStorage", "metadata other than"),
        ("tensor_v2", (FALSE, HOOKS, b"}", b"}"), "FloatStorage", "metadata other than"),
        ("tensor_v2", (FALSE, HOOKS, bits(conj=TRUE)), "FloatStorage", "of f4 with the bits .*conj"),
        ("tensor_v2", (FALSE, HOOKS, bits(neg=TRUE)), "BoolStorage", "of bool with the bits .*neg"),
        ("tensor_v2", (integer(1), HOOKS), "FloatStorage", "to call torch._utils._rebuild_tensor_v2"),
        ("tensor_v2", (FALSE, dict_of(a=TRUE)), "FloatStorage", "to call torch._utils._rebuild_tensor_v2"),
        ("tensor_v2", (), "FloatStorage", "to call torch._utils._rebuild_tensor_v2"),
        ("tensor", (FALSE,), "FloatStorage", "to call torch._utils._rebuild_tensor with"),
        ("tensor_v3", (FALSE, HOOKS), "FloatStorage", "to call torch._utils._rebuild_tensor_v3"),
        ("tensor_v3", (FALSE, HOOKS, named("torch", "Size")), "FloatStorage", "_rebuild_tensor_v3"),
        ("tensor_v3", (FALSE, HOOKS, text("torch.int8")), "FloatStorage", "to call torch._utils._rebuild_tensor_v3"),
        ("parameter", (), "FloatStorage", "to call torch._utils._rebuild_parameter with"),
    ],
)
def test_arguments_that_pytorch_does_not_write_are_refused(read, function, arguments, kind, words):
    refusal(read, pth(rebuilt(function, *arguments, kind=kind), bytes(24)), words)


def test_calls_around_a_tensor(read):
    """A tensor of four arguments (before 0.4), a parameter with attributes, one with attributes, one of a device."""
    v2 = rebuilt("tensor_v2", FALSE, HOOKS)
    attributes = dict_of(note=text("x"))
    class_, function = named("torch", "Tensor"), named("torch._utils", "_rebuild_tensor_v2")
    place = storage(3), integer(0), tuple_of(integer(3)), tuple_of(integer(1))
    with_note = call(named("torch._tensor", "_rebuild_from_type_v2"), function, class_,
                     tuple_of(*place, FALSE, HOOKS, bits(neg=TRUE)), attributes)  # fmt: skip
    device = named("torch._utils", "_rebuild_device_tensor_from_cpu_tensor")
    body = dict_of(
        old=rebuilt("tensor"),
        state=call(named("torch._utils", "_rebuild_parameter_with_state"), v2, TRUE, HOOKS, attributes),
        note=with_note,
        device=call(device, v2, named("torch", "float32"), text("xla:0"), FALSE),
    )
    loaded = read(pth(body, REAL.tobytes()))
    assert list(loaded) == ["old", "state", "note", "device"]
    for key in ("old", "state", "device"):
        same(loaded[key], REAL)
    same(loaded["note"], -REAL)
    refusal(read, pth(call(device, v2, named("torch", "float16"), text("xla"), FALSE), bytes(12)), "of torch.float16")
    endless = tuple_of(*place, FALSE, HOOKS)
    again = named("torch._tensor", "_rebuild_from_type_v2")
    for _ in range(3000):
        endless = tuple_of(again, class_, endless, attributes)
    refusal(read, pth(again + endless + b"R", bytes(12)), "to call torch._tensor._rebuild_from_type_v2")


def test_a_tensor_of_a_kind_that_is_not_read_hurts_only_where_it_is_wanted(read):
    sparse = call(named("torch._utils", "_rebuild_sparse_tensor"), integer(1), integer(2))
    content = pth(dict_of(model=dict_of(w=rebuilt("tensor")), other=dict_of(table=sparse)), REAL.tobytes())
    same(read(content, key="model")["w"], REAL)
    refusal(read, content, "its tensor 'other.table' is sparse, which is not read")


def test_strings_of_python_2_and_pairs_of_an_ordered_dict(read):
    old = call(named("collections", "OrderedDict"), b"](](U\x01w" + rebuilt("tensor") + b"ee")
    same(read(pth(old, REAL.tobytes()))["w"], REAL)


def test_names_with_escape_sequences_and_long_names_are_shown_escaped_and_short(read):
    hostile = "\x1b]0;owned\x07" + "B" * 100
    message = refusal(read, pth(dict_of(**{hostile: tensor(6, (7,), (1,))}), SIX.tobytes()), "larger than")
    assert "\x1b" not in message and r"\x1b]0;owned\x07" in message and "B" * 81 not in message
    message = refusal(read, pth(named("os\x1b", "system" * 1000)), "refuses os")
    assert "\x1b" not in message and len(message) < 500


# -- zip archives that two readers would read differently -------------------------------------------------------------


def sound() -> bytes:
    return pth(dict_of(w=tensor(6, (6,), (1,))), SIX.tobytes())


def doubled() -> bytes:
    buffer = io.BytesIO(sound())
    with zipfile.ZipFile(buffer, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("archive/data/0", (SIX + 1).tobytes())
    return buffer.getvalue()


def patched(at: int, value: bytes, mark: bytes = b"PK\x03\x04", content: bytes = b"") -> bytes:
    """The archive with bytes replaced at a place of the last local header (or directory entry) of data/0."""
    content = content or sound()
    begin = content.index(mark, content.index(b"archive/data/0") - 50 if mark == b"PK\x03\x04" else 0)
    if mark == b"PK\x01\x02":
        begin = content.rindex(b"archive/data/0") - 46
    return content[: begin + at] + value + content[begin + at + len(value) :]


AMBIGUOUS = {
    "two parts of one name": (doubled, "two parts of the name 'archive/data/0'"),
    "bytes behind the end": (lambda: sound() + b"more", "does not end where its archive ends"),
    "a comment": (lambda: sound()[:-2] + b"\x04\x00more", "does not end where its archive ends"),
    "bytes before the first part": (lambda: b"MZ" + sound(), "before the first part"),
    "encrypted": (lambda: patched(8, b"\x01", b"PK\x01\x02"), "encrypted or has other flags"),
    "encrypted in the local header alone": (lambda: patched(6, b"\x01"), "described in two different ways"),
    "another size in the local header": (lambda: patched(22, b"\x04"), "described in two different ways"),
    "another name in the local header": (
        lambda: sound().replace(b"archive/data/0", b"archive/data/1", 1), "described in two different ways"
    ),
    "another method": (lambda: patched(10, b"\x63", b"PK\x01\x02"), "is compressed, which is not read"),
    "two sizes, not compressed": (lambda: patched(24, b"\x04", b"PK\x01\x02"), "different ways|two sizes"),
    "a part behind the end": (lambda: patched(42, b"\xff\xff\xff", b"PK\x01\x02"), "zip|behind|overlaps"),
}  # fmt: skip


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_an_ambiguous_archive_is_refused(read, fault):
    make, words = AMBIGUOUS[fault]
    same(read(sound())["w"], SIX)
    refusal(read, make(), words)


def test_an_archive_of_large_sizes_is_read(read):
    """zip64: the sizes stand in the extra fields, in the local header and in the directory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound())) as old, zipfile.ZipFile(buffer, "w") as new:
        for each in old.namelist():
            with new.open(each, "w", force_zip64=True) as part:
                part.write(old.read(each))
    same(read(buffer.getvalue())["w"], SIX)


# -- .npz -------------------------------------------------------------------------------------------------------------


def npz(tmp_path, content: bytes, limit: int = 10**6) -> dict[str, np.ndarray]:
    (tmp_path / "a.npz").write_bytes(content)
    with open(tmp_path / "a.npz", "rb") as file:
        return read_npz(file, limit)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_of_numpy(tmp_path, rng, save):
    arrays = {
        "f4": rng.normal(size=(3, 4)).astype(np.float32), "F": np.asfortranarray(rng.normal(size=(2, 3, 4))),
        "big": np.arange(5, dtype=">i8"), "bool": np.array([True, False]), "scalar": np.array(7, np.uint8),
        "empty": np.zeros((0, 3), np.float16), "complex": np.array([1 + 2j], np.complex64),
    }  # fmt: skip
    save(tmp_path / "a.npz", **arrays)
    loaded = npz(tmp_path, (tmp_path / "a.npz").read_bytes())
    assert list(loaded) == list(arrays)
    for key, array in loaded.items():
        same(array, np.ascontiguousarray(arrays[key].astype(arrays[key].dtype.newbyteorder("="))).reshape(array.shape))
        assert array.flags.writeable and array.flags.owndata


def member(shape: str = "(4,)", descr: str = "'<f4'", numbers: bytes = bytes(16)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + numbers


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (member("(1000000000000,)"), "'a.npy' claims <f4 of shape .*1000000000000"),
        (member("(9999999999999999999, 9999999999999999999)"), "'a.npy' claims <f4"),
        (member("(4 ("), "'a.npy' is no array of numbers"),
        (member("(" * 5000), "'a.npy' is no array of numbers"),
        (member("(-4,)"), "'a.npy' is no array of numbers"),
        (member("(3,)"), "'a.npy' claims <f4 of shape"),
        (member(descr="'|O'"), "'a.npy' is no array of numbers"),
        (member(descr="[('x', '<f4')]"), "'a.npy' is no array of numbers"),
        (member(descr="__import__('os')"), "'a.npy' is no array of numbers"),
        (member("(" + "1, " * 40 + ")", numbers=bytes(4)), "'a.npy' claims <f4 of shape"),
        (b"\x93NUMPY\x04\x00" + bytes(10), "'a.npy' begins with"),
        (b"", "'a.npy' begins with"),
    ],
)
def test_a_damaged_array_is_named(tmp_path, content, words):
    assert npz(tmp_path, archive({"a.npy": member()}))["a"].tolist() == [0] * 4
    with pytest.raises(ValueError, match=words):
        npz(tmp_path, archive({"a.npy": content}))


def test_an_npz_takes_no_more_than_its_limit(tmp_path):
    bomb = archive({"a.npy": member("(1000000,)", "'|u1'", bytes(10**6))}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2000
    assert npz(tmp_path, bomb, limit=1_100_000)["a"].size == 10**6
    with pytest.raises(ValueError, match=r"its parts claim 10000\d\d bytes; 1000000 are allowed"):
        npz(tmp_path, bomb)
    for patch, words in ((lambda b: b.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\x01"), "flags"),
                         (lambda b: b.replace(b"\0\0\x08\0", b"\0\0\x63\0"), "compressed by method 99")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            npz(tmp_path, patch(bomb), limit=1_100_000)


# -- with PyTorch -----------------------------------------------------------------------------------------------------


def checkpoints(as_zip: bool) -> dict[str, object]:
    """Things that `torch.load(weights_only=True)` reads; of the older format it reads a few less itself."""
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    sgd, adam = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), torch.optim.AdamW(net.parameters())
    net(torch.randn(4, 2)).square().sum().backward()
    sgd.step()
    adam.step()
    base, ties = torch.arange(12.0).reshape(3, 4), torch.randn(5)
    noted = torch.ones(3)
    noted.note = "x"
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    parameter.note = "x"
    complex_ = torch.complex(torch.randn(2, 3), torch.randn(2, 3))
    schedulers = torch.optim.lr_scheduler
    return {
        "module": net.state_dict(), "optimisers": [sgd.state_dict(), adam.state_dict()],
        "MultiStepLR": schedulers.MultiStepLR(sgd, [10, 20]).state_dict(),
        "OneCycleLR": schedulers.OneCycleLR(adam, 0.1, total_steps=9).state_dict(),
        "Counter": collections.Counter({"a": torch.ones(1), "b": torch.zeros(1)}),
        "OrderedDict": collections.OrderedDict(a=base, b={"c": ties}), "sets": [{1, 2}, torch.ones(1)],
        "ties": [ties, ties, ties[1:4], ties.view(1, 5).expand(3, 5)], "views": [base.T, base[1:, ::2], base[2]],
        "bytes": [b"raw", bytearray(b"raw"), bytearray(), 1j, 2**80, -1.5, None, True, torch.ones(1)],
        "sizes": [base.shape, torch.Size([]), torch.float16, torch.device("cpu"), torch.device("cuda", 1),
                  torch.strided, torch.ones(1)], "keys": {3: base, (1, "a"): ties, 2.5: base[0], None: base[1]},
        "devices": {torch.device("cuda", 0): base[0], torch.device("cuda", 1): base[1]},
        "parameters": [parameter, torch.nn.Parameter(base, requires_grad=False), noted, torch.nn.Buffer(base)],
        "negative": complex_.conj().imag, "conjugate": complex_.conj(), "both": torch._neg_view(complex_.conj()),
        "complex": [complex_, complex_.to(torch.complex128), complex_.imag.clone()],
        "dtypes": [base.to(getattr(torch, each)) for each in (
            "float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool",
            *(["uint16", "uint32", "uint64"] if as_zip else []))],
        "empty": [torch.zeros(0), torch.zeros(3, 0), torch.tensor(2.0)], "alone": base,
        "storage": [*([base.untyped_storage()] if as_zip else []), ties],
    }  # fmt: skip


def tensors_of(value: object) -> list:
    """All tensors in nested containers, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [each for item in value for each in tensors_of(item)] if isinstance(value, (list, tuple)) else []


@pytest.mark.torch
@pytest.mark.parametrize("as_zip", [True, False])
def test_what_torch_load_accepts_is_read_with_the_same_values(tmp_path, as_zip):
    import torch

    for title, thing in checkpoints(as_zip).items():
        path = tmp_path / f"{title}.pth"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(thing, path, _use_new_zipfile_serialization=as_zip)
            expected = tensors_of(torch.load(path, weights_only=True))
        loaded = load_pth(path)
        assert len(loaded) == len(expected), title
        for array, theirs in zip(loaded.values(), expected, strict=True):
            widened = theirs.float() if theirs.dtype == torch.bfloat16 else theirs
            same(array, np.ascontiguousarray(widened.numpy(force=True)).reshape(theirs.shape))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_kinds_that_have_no_array_are_refused_by_the_tensors_name(tmp_path):
    import torch

    base = torch.eye(3)
    things = {
        "sparse": base.to_sparse(), "sparse ": base.to_sparse_csr(), "nested": torch.nested.nested_tensor([base, base]),
        "quantized": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8), "without numbers": base.to("meta"),
        "quantized ": torch.quantize_per_channel(base, base[0] + 1, base[1] * 0, 0, torch.quint8),
        "of torch.float8_e5m2": base.to(torch.float8_e5m2), "of torch.complex32": base.to(torch.complex32),
    }  # fmt: skip
    for words, thing in things.items():
        for as_zip in (True, False):
            path = tmp_path / "m.pth"
            torch.save({"model": {"w": base}, "other": thing}, path, _use_new_zipfile_serialization=as_zip)
            with pytest.raises(ValueError, match=rf"m\.pth: .* its tensor 'other' is {words.strip()}"):
                load_pth(path)
            same(load_pth(path, "model")["w"], base.numpy())


@pytest.mark.torch
def test_the_names_are_those_that_pytorch_allows():
    """Nothing is let through that PyTorch's own restricted reader does not know."""
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = {each.replace("builtins", "__builtin__") for each in _get_allowed_globals()} | {*_get_allowed_globals()}
    assert allowed >= pickle_names.KNOWN
    missing = {each for each in _get_allowed_globals() if each not in pickle_names.KNOWN}
    assert all("cuda" in each or each.endswith("Tensor") or each == "torch.storage.TypedStorage" for each in missing)


# -- tensors for load_state_dict --------------------------------------------------------------------------------------


class Two(Module):
    def __init__(self) -> None:
        self.w = Parameter(np.zeros(3, np.float32))
        self.count = Buffer(np.array(0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([1j, 2, 3]), "w: .*complex128"),
        (np.array(["a", "b", "c"]), "w: .*<U1"),
        (np.array([{}, {}, {}]), "w: .*object"),
        ([[1.0], [2.0, 3.0]], "w: "),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name_and_nothing_changes(value, words):
    model = Two()
    model.w.data[:] = 7
    with pytest.raises(ValueError, match=words):
        model.load_state_dict({"count": np.array(5), "w": value})
    assert model.w.data.tolist() == [7, 7, 7] and int(model.count.data) == 0
    with pytest.raises(ValueError, match="count: .*float64"):
        model.load_state_dict({"w": np.ones(3), "count": np.array(1.5)})
    assert model.w.data.tolist() == [7, 7, 7]


@pytest.mark.torch
def test_a_state_dict_of_every_dtype_of_pytorch(rng):
    import torch

    values = torch.tensor([[1.0, -2.5], [0.0078125, 3.0]])
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.float32):
        ours = Linear(2, 2)
        ours.load_state_dict({"weight": values.to(dtype, copy=True).requires_grad_(), "bias": values[0].to(dtype)})
        same(ours.weight.data, values.numpy())
    for dtype in (torch.int64, torch.uint8, torch.bool):
        ours = Linear(2, 2)
        ours.load_state_dict({"weight": torch.ones(2, 2).to(dtype), "bias": torch.zeros(2).to(dtype)})
        assert ours.weight.data.tolist() == [[1, 1], [1, 1]]
    negative = torch.complex(values, values).conj().imag
    ours.load_state_dict({"weight": negative, "bias": values[0]})
    same(ours.weight.data, -values.numpy())
    net = torch.nn.Linear(2, 2).bfloat16()
    ours.load_state_dict(net.state_dict())
    same(ours.weight.data, net.weight.detach().float().numpy())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_an_array_are_refused_by_name():
    import torch

    base = torch.eye(2)
    for kind, value in {
        "complex64": base.to(torch.complex64), "[Mm]eta": base.to("meta"), "[Ss]parse": base.to_sparse(),
        "quantized|QInt8": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8), "[Ff]loat8": base.to(
        torch.float8_e4m3fn), "complex32|ComplexHalf": base.to(torch.complex32), "[Ss]parse.*": base.to_sparse_csr(),
    }.items():  # fmt: skip
        ours = Linear(2, 2)
        before = ours.weight.data.copy()
        with pytest.raises(ValueError, match=rf"Linear\.load_state_dict: weight: .*({kind})"):
            ours.load_state_dict({"weight": value, "bias": torch.zeros(2)})
        same(ours.weight.data, before)


def test_a_path_with_escape_sequences_is_shown_escaped(tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match=r"x\\x1b\[31m\.pth: expected a PyTorch file") as caught:
        load_pth(tmp_path / "x\x1b[31m.pth")
    assert str(caught.value).isprintable()
