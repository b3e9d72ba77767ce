"""Reading a pickle without obeying it.

A pickle is a program for a small stack machine, and `pickle.load` runs it: GLOBAL imports any function there is, REDUCE
calls it. That is how a weight file can take over a computer. The state of a network needs very little of the language:

    }  X 'weight'  c 'torch._utils _rebuild_tensor_v2'  ( ... t  R  s  .
    │  │           │                                    │     │  │  └ STOP: the top of the stack is the result
    │  │           │                                    │     │  └ SETITEM: dict[key] = value
    │  │           │                                    │     └ REDUCE: call the name with the tuple
    │  │           │                                    └ MARK ... TUPLE: the values since the mark as one tuple
    │  │           └ GLOBAL: push a name             (here it stays a name: nothing is imported, ever)
    │  └ BINUNICODE: push a string
    └ EMPTY_DICT: push {}

So the machine below has only those opcodes that build strings, numbers, lists, tuples and dicts, and "calls" only the
few names of `_call`, by building a description of a tensor: which storage, which shape, which strides. All other
opcodes and names are refused by name. `pickletools.genops` splits the bytes into opcodes; it executes nothing.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

# PyTorch's storage classes and dtypes, as NumPy's codes less the byte order; bfloat16 is read as its bits.
DTYPES = {
    "torch.float64": "f8", "torch.float32": "f4", "torch.float16": "f2", "torch.bfloat16": "bf16",
    "torch.int64": "i8", "torch.int32": "i4", "torch.int16": "i2", "torch.int8": "i1",
    "torch.uint64": "u8", "torch.uint32": "u4", "torch.uint16": "u2", "torch.uint8": "u1", "torch.bool": "bool",
}  # fmt: skip
STORAGES = {
    "torch.DoubleStorage": "f8", "torch.FloatStorage": "f4", "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bf16", "torch.LongStorage": "i8", "torch.IntStorage": "i4", "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1", "torch.ByteStorage": "u1", "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": "u1",
}  # fmt: skip
CALLED = {
    "collections.OrderedDict", "torch.Size", "torch.device",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
}  # fmt: skip
KNOWN = CALLED | STORAGES.keys() | DTYPES.keys()

MAX_OPCODES = 4_000_000  # a tensor takes about 30; so memory is bounded whatever the file says
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PUSH_ARGUMENT = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
MARK = object()


class Name(NamedTuple):
    """What GLOBAL leaves on the stack: the name of something in PyTorch, and nothing that could be called."""

    text: str


class Storage(NamedTuple):
    """A flat run of numbers in the archive's file data/<key>."""

    key: str
    dtype: str
    size: int  # in elements of dtype


class Stored(NamedTuple):
    """A tensor as PyTorch saves it: element (i, j, ...) is number offset + i·strides[0] + j·strides[1] + ... there.

    So transposed, sliced and shared tensors need no copies in the file.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


def read_pickle(data: bytes | BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """What the pickle describes, of dicts, lists, tuples, strings, numbers and `Stored` tensors.

    A file is read up to the pickle's end; `storages` receives every storage that is referred to, by its key.

    Raises ValueError for everything that this needs not, naming it, and for pickles that are damaged or endless.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for count, (opcode, argument) in enumerate(_opcodes(data)):
        if count >= MAX_OPCODES:
            raise ValueError(f"its pickle has more than {MAX_OPCODES} opcodes")
        if opcode in CONSTANTS:
            stack.append(CONSTANTS[opcode])
        elif opcode in PUSH_ARGUMENT:
            stack.append(argument)
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = _top(stack)
        elif opcode == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif opcode in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise ValueError(f"its pickle recalls value {argument} before storing it")
            stack.append(memo[argument])
        elif opcode == "BINPERSID":
            stack.append(_storage(_pop(stack)))
            if storages is not None:
                storages[stack[-1].key] = stack[-1]
        elif opcode == "STOP":
            result = _pop(stack)
            if stack:
                raise ValueError(f"its pickle ends with {len(stack)} values left over")
            return result
        elif opcode not in ("PROTO", "FRAME"):
            _build(stack, opcode, argument)
    raise ValueError("its pickle does not end")


def _opcodes(data: bytes | BinaryIO) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            yield opcode.name, argument
    except (ValueError, Warning) as error:  # a string's bad escape is a warning, which may be set to be an error
        raise ValueError(f"its pickle is damaged: {error}") from None


def _build(stack: list[Any], opcode: str, argument: Any) -> None:
    """The opcodes that make one value out of those on the stack."""
    match opcode:
        case "MARK":
            stack.append(MARK)
        case "EMPTY_DICT":
            stack.append({})
        case "EMPTY_LIST":
            stack.append([])
        case "EMPTY_TUPLE":
            stack.append(())
        case "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            stack.append(tuple([_pop(stack) for _ in range(int(opcode[-1]))][::-1]))
        case "APPEND":
            _extend(stack, [_pop(stack)])
        case "APPENDS":
            _extend(stack, _pop_to_mark(stack))
        case "SETITEM":
            _set_items(stack, [_pop(stack), _pop(stack)][::-1])
        case "SETITEMS":
            _set_items(stack, _pop_to_mark(stack))
        case "GLOBAL":
            stack.append(_known(argument.replace(" ", ".", 1)))
        case "STACK_GLOBAL":
            name, module = _pop(stack), _pop(stack)
            stack.append(_known(f"{module}.{name}" if type(module) is type(name) is str else "what is no name"))
        case "REDUCE":
            arguments, name = _pop(stack), _pop(stack)
            stack.append(_call(name, arguments))
        case "BUILD":  # attributes of an object: state_dict() hangs a _metadata on its OrderedDict, which nobody misses
            _pop(stack)
            if type(_top(stack)) is not dict:
                raise ValueError(f"refuses the opcode BUILD on a {type(_top(stack)).__name__}")
        case _:
            shown = f" ({argument[:100]!r})" if isinstance(argument, str) else ""
            raise ValueError(f"refuses the opcode {opcode}{shown}: tensors and plain containers need no such thing")


def _top(stack: list[Any]) -> Any:
    if not stack or stack[-1] is MARK:
        raise ValueError("its pickle takes a value where there is none")
    return stack[-1]


def _pop(stack: list[Any]) -> Any:
    _top(stack)
    return stack.pop()


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    values = []
    while stack and stack[-1] is not MARK:
        values.append(stack.pop())
    if not stack:
        raise ValueError("its pickle lacks a mark")
    stack.pop()
    return values[::-1]


def _extend(stack: list[Any], values: list[Any]) -> None:
    target = _top(stack)
    if type(target) is not list:
        raise ValueError(f"its pickle appends to a {type(target).__name__}")
    target.extend(values)


def _set_items(stack: list[Any], items: list[Any]) -> None:
    target = _top(stack)
    if type(target) is not dict or len(items) % 2:
        raise ValueError(f"its pickle sets {len(items) / 2:g} items of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Strings and numbers only: hashing a tuple of tuples of tuples ... can overflow the C stack.
        if type(key) not in (str, int):
            raise ValueError(f"it has a {type(key).__name__} for the key of a dict, where str or int are read")
        target[key] = value


def _known(name: str) -> Name:
    if name not in KNOWN:
        raise ValueError(
            f"refuses {name[:200]}, which is none of the names that plain tensors need (nothing was imported or "
            "called). If you trust the file, save its weights alone: torch.save(model.state_dict(), path)"
        )
    return Name(name)


def _storage(reference: Any) -> Storage:
    match reference:
        # The None is of streams: a storage that is no view of another, as in all since PyTorch 0.4.
        case ("storage", Name(kind), str(key), str(), int(size), *rest) if (
            kind in STORAGES and size >= 0 and rest in ([], [None])
        ):
            return Storage(key, STORAGES[kind], size)
    raise ValueError("its pickle refers to something that is not a storage of numbers")


def _call(name: Any, arguments: Any) -> Any:
    """What the call of a known name leaves: a dict, a tuple, a tensor's description. Unknown arguments are refused."""
    match name, arguments:
        case Name("collections.OrderedDict"), ():
            return {}
        case Name("torch.Size"), (tuple(size),):
            return size
        case Name("torch.device"), (str(), *_):
            return None
        case Name("torch._utils._rebuild_parameter"), (Stored() as stored, *_):
            return stored
        case Name("torch._utils._rebuild_tensor_v2"), (Storage() as storage, offset, shape, strides, *_):
            return _stored(storage, offset, shape, strides, storage.dtype)
        case (
            Name("torch._utils._rebuild_tensor_v3"),
            (Storage() as storage, offset, shape, strides, _, _, Name(dtype), *_),
        ) if dtype in DTYPES:
            return _stored(storage, offset, shape, strides, DTYPES[dtype])
    shown = name.text if isinstance(name, Name) else f"a {type(name).__name__}"
    raise ValueError(f"refuses to call {shown} with arguments that no tensor has")


def _stored(storage: Storage, offset: Any, shape: Any, strides: Any, dtype: str) -> Stored:
    if not (type(shape) is type(strides) is tuple and len(shape) == len(strides)):
        raise ValueError("it has a tensor whose shape and strides are not two tuples of one length")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *shape, *strides)):
        raise ValueError("it has a tensor whose offset, shape and strides are not all whole numbers from 0 up")
    return Stored(storage, offset, shape, strides, dtype)
