"""The names that a pickle of tensors may contain, and what a call of each leaves behind: a description, never a call.

    torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])  →  Stored
    torch._utils._rebuild_sparse_tensor(layout, data)                                                   →  Unread
    collections.OrderedDict(), collections.Counter({...})                                               →  dict
    torch.Size((2, 3))                                                                                  →  tuple

The names are those that `torch.load(weights_only=True)` allows. Every argument is checked, because each may change the
numbers: `metadata` holds the bits that negate and conjugate a tensor. A tensor of a kind that NumPy has no array for
(sparse, quantized, float8, without numbers) becomes `Unread`, which is an error only where that tensor is wanted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratch.messages import shown

# PyTorch's storage classes and dtypes, as NumPy's codes less the byte order; bfloat16 is read as its bits.
DTYPES = {
    "torch.float64": "f8", "torch.float32": "f4", "torch.float16": "f2", "torch.bfloat16": "bf16",
    "torch.int64": "i8", "torch.int32": "i4", "torch.int16": "i2", "torch.int8": "i1",
    "torch.uint64": "u8", "torch.uint32": "u4", "torch.uint16": "u2", "torch.uint8": "u1", "torch.bool": "bool",
    "torch.complex64": "c8", "torch.complex128": "c16",
}  # fmt: skip
STORAGES = {
    "torch.DoubleStorage": "f8", "torch.FloatStorage": "f4", "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bf16", "torch.LongStorage": "i8", "torch.IntStorage": "i4", "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1", "torch.ByteStorage": "u1", "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "c8", "torch.ComplexDoubleStorage": "c16", "torch.storage.UntypedStorage": "u1",
}  # fmt: skip
# Of these the sizes are known, which old files need, and no more.
UNREAD_STORAGES = {
    "torch.QInt8Storage": "i1", "torch.QUInt8Storage": "u1", "torch.QInt32Storage": "i4",
    "torch.QUInt4x2Storage": "u1", "torch.QUInt2x4Storage": "u1",
}  # fmt: skip
UNREAD_DTYPES = {f"torch.{name}" for name in (
    "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn_x2", "qint8", "quint8", "qint32", "quint4x2", "quint2x4", "bits8", "bits16", "bits1x8", "bits2x4",
    "bits4x2", *(f"{sign}int{bits}" for sign in ("u", "") for bits in range(1, 8)),
)}  # fmt: skip
UNREAD_CALLS = {f"torch._utils._rebuild_{name}": what for name, what in {
    "sparse_tensor": "sparse", "qtensor": "quantized", "nested_tensor": "nested",
    "meta_tensor_no_storage": "without numbers (on the device meta)", "wrapper_subclass": "of a class of its own",
    "device_tensor_from_numpy": "of a device with an array of its own",
}.items()}  # fmt: skip
SCHEMES = {f"torch.per_{name}" for name in (
    "tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric", "channel_affine_float_qparams",
)}  # fmt: skip
BUILTINS = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "complex", "bytearray")}
PLAIN_CALLS = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "_codecs.encode",
               "torch.serialization._get_layout"} | BUILTINS  # fmt: skip
TENSOR_CALLS = {f"torch._utils._rebuild_{name}" for name in (
    "tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "device_tensor_from_cpu_tensor",
)}  # fmt: skip
TENSOR_CLASSES = {"torch.Tensor", "torch.nn.parameter.Parameter"}
WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
CALLED = PLAIN_CALLS | TENSOR_CALLS | UNREAD_CALLS.keys() | {WITH_ATTRIBUTES}
KNOWN = (CALLED | STORAGES.keys() | UNREAD_STORAGES.keys() | DTYPES.keys() | UNREAD_DTYPES | SCHEMES | TENSOR_CLASSES)


class Name(NamedTuple):
    """What GLOBAL leaves on the stack: the name of something in PyTorch, and nothing that could be called."""

    text: str


SET = Name("a set")  # whatever is in it: no tensor of a network is


class Storage(NamedTuple):
    """A flat run of numbers in the archive's file data/<key>."""

    key: str
    dtype: str
    size: int  # in elements of dtype
    kind: str = ""  # PyTorch's class, if its numbers are not read


class Stored(NamedTuple):
    """A tensor as PyTorch saves it: element (i, j, ...) is number offset + i·strides[0] + j·strides[1] + ... there.

    So transposed, sliced and shared tensors need no copies in the file.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    negative: bool = False  # the numbers are stored with the opposite sign
    conjugate: bool = False  # complex numbers are stored with the opposite imaginary part


class Unread(NamedTuple):
    """A tensor whose numbers are not read, and why."""

    why: str


def known(name: str) -> Name:
    """The name, if it is one of those that tensors and plain containers need."""
    if name not in KNOWN:
        raise ValueError(
            f"refuses {shown(name)}, which is none of the names that plain tensors need (nothing was imported or "
            "called). If you trust the file, load it in PyTorch and save its tensors alone: "
            "torch.save(model.state_dict(), path)"
        )
    return Name(name)


def storage(reference: Any) -> Storage:
    """What a persistent id refers to: the None at its end is of old files, a storage that is no view of another."""
    match reference:
        case ("storage", Name(kind), str(key), str(), int(size), *rest) if size >= 0 and rest in ([], [None]):
            if kind in STORAGES:
                return Storage(key, STORAGES[kind], size)
            if kind in UNREAD_STORAGES:
                return Storage(key, UNREAD_STORAGES[kind], size, kind)
    raise ValueError("its pickle refers to something that is not a storage of numbers")


def call(name: Any, arguments: Any) -> Any:
    """What the call of a known name leaves. Unknown arguments are refused."""
    text = name.text if type(name) is Name else ""
    if type(arguments) is tuple:
        if text in UNREAD_CALLS:
            return Unread(UNREAD_CALLS[text])
        try:
            if text in PLAIN_CALLS:
                return _plain(text.replace("__builtin__", "builtins"), arguments)
            if text == WITH_ATTRIBUTES:  # as a tensor gets them by x.note = "..."; they are not kept
                function, kind, arguments, _ = arguments if len(arguments) == 4 else (None,) * 4
                inner = function.text if type(function) is Name and type(arguments) is tuple else ""
                plain = type(kind) is Name and kind.text in TENSOR_CLASSES
                if plain and inner in TENSOR_CALLS | UNREAD_CALLS.keys():
                    return call(function, arguments)
            if text in TENSOR_CALLS:
                return _tensor(text.removeprefix("torch._utils._rebuild_"), arguments)
        except _Unfit:
            pass
    what = text or f"a {type(name).__name__}"
    raise ValueError(f"refuses to call {what} with arguments that no tensor has")


class _Unfit(Exception):
    """Arguments that are not those of PyTorch's own calls."""


def _plain(text: str, arguments: tuple) -> Any:
    match text, arguments:
        case "collections.OrderedDict" | "collections.Counter", ():
            return {}
        case "collections.Counter", (dict(counts),):
            return counts
        case "collections.OrderedDict", (list(pairs),):  # as Python 2 wrote it
            if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                return set_items({}, [value for pair in pairs for value in pair])
        case "torch.Size", (size,) if type(size) is tuple:
            return size
        case "torch.device", (str(kind), *index) if all(type(i) is int for i in index) and len(index) < 2:
            return Name(":".join([kind, *map(str, index)]))
        case "torch.serialization._get_layout", (str(layout),):
            return Name(layout)
        case "_codecs.encode", (str(content), str("latin1")):  # bytes
            return content.encode("latin-1", "replace")
        case "builtins.complex", (float(real), float(imaginary)):
            return complex(real, imaginary)
        case "builtins.set", (list(),):
            return SET
        case "builtins.bytearray", ():
            return None
        case "builtins.bytearray", (bytes(),) | (str(), str("latin-1")):
            return None
    raise _Unfit


def _tensor(function: str, arguments: tuple) -> Any:
    """A tensor's description. Whether it required a gradient, and that it was a parameter, is not kept."""
    match function, arguments:
        case "tensor", (place, offset, shape, strides):
            return _stored(place, offset, shape, strides, None, ())
        case "tensor_v2", (place, offset, shape, strides, bool(), hooks, *metadata) if hooks in ({}, None):
            return _stored(place, offset, shape, strides, None, metadata)
        case "tensor_v3", (place, offset, shape, strides, bool(), hooks, Name(dtype), *metadata) if hooks in ({}, None):
            return _stored(place, offset, shape, strides, dtype, metadata)
        case ("parameter", (data, bool(), hooks)) | ("parameter_with_state", (data, bool(), hooks, _)):
            if hooks in ({}, None) and type(data) in (Stored, Unread):
                return data
        case "device_tensor_from_cpu_tensor", (data, Name(dtype), str(), bool()):
            if type(data) is Unread or (type(data) is Stored and DTYPES.get(dtype) == data.dtype):
                return data
            return Unread(f"of {dtype} and stored otherwise")
    raise _Unfit


def _stored(place: Any, offset: Any, shape: Any, strides: Any, dtype: str | None, metadata: Any) -> Stored | Unread:
    if type(place) is not Storage:
        raise _Unfit
    if not (type(shape) is type(strides) is tuple and len(shape) == len(strides)):
        raise ValueError("it has a tensor whose shape and strides are not two tuples of one length")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *shape, *strides)):
        raise ValueError("it has a tensor whose offset, shape and strides are not all whole numbers from 0 up")
    if place.kind or dtype in UNREAD_DTYPES:
        return Unread(f"of {place.kind or dtype}")
    code = place.dtype if dtype is None else DTYPES.get(dtype)
    if code is None:
        raise _Unfit
    bits = metadata[0] if len(metadata) == 1 else {}
    if len(metadata) > 1 or type(bits) is not dict or not bits.keys() <= {"neg", "conj"}:
        raise ValueError("it has a tensor with metadata other than its bits neg and conj")
    negative, conjugate = bits.get("neg", False), bits.get("conj", False)
    if not type(negative) is type(conjugate) is bool or (negative and code == "bool") or (conjugate and code[0] != "c"):
        raise ValueError(f"it has a tensor of {code} with the bits {shown(bits)}")
    return Stored(place, offset, shape, strides, code, negative, conjugate)


def set_items(target: Any, items: list[Any]) -> dict:
    """Put keys and values, which alternate in `items`, into a dict."""
    if type(target) is not dict or len(items) % 2:
        raise ValueError(f"its pickle sets {len(items) / 2:g} items of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # No containers but flat tuples: hashing a tuple of tuples of tuples ... can overflow the C stack.
        for part in key if type(key) is tuple else [key]:
            if type(part) not in KEYS:
                raise ValueError(f"it has a {type(key).__name__} for the key of a dict, where str or int are read")
        target[key] = value
    return target


KEYS = (str, int, float, bool, type(None), bytes, complex, Name)
