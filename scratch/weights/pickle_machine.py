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
few names of `pickle_names.py`, by building a description of a tensor: which storage, which shape, which strides. All
other opcodes and names are refused by name. `pickletools.genops` splits the bytes into opcodes; it executes nothing.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any, BinaryIO

from scratch.messages import quoted, shown
from scratch.weights.pickle_names import SET, Storage, call, known, set_items, storage

MAX_OPCODES = 2_000_000  # a tensor takes about 30; so memory and time are bounded whatever the file says
PUSH_ARGUMENT = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK, "EMPTY_SET": SET}
EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


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
            stack.append(storage(_pop(stack)))
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
        raise ValueError(f"its pickle is damaged: {shown(str(error), 200)}") from None


def _build(stack: list[Any], opcode: str, argument: Any) -> None:
    """The opcodes that make one value out of those on the stack."""
    match opcode:
        case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
            stack.append(EMPTY[opcode]())
        case "ADDITEMS":
            _pop_to_mark(stack)
            if _top(stack) is not SET:
                raise ValueError(f"its pickle adds to a {type(_top(stack)).__name__} as to a set")
        case "SHORT_BINSTRING":  # Python 2's strings
            stack.append(argument.encode("latin-1").decode("utf-8"))
        case "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            stack.append(tuple([_pop(stack) for _ in range(int(opcode[-1]))][::-1]))
        case "APPEND":
            _extend(stack, [_pop(stack)])
        case "APPENDS":
            _extend(stack, _pop_to_mark(stack))
        case "SETITEM":
            items = [_pop(stack), _pop(stack)][::-1]
            set_items(_top(stack), items)
        case "SETITEMS":
            items = _pop_to_mark(stack)
            set_items(_top(stack), items)
        case "GLOBAL":
            stack.append(known(argument.replace(" ", ".", 1)))
        case "STACK_GLOBAL":
            name, module = _pop(stack), _pop(stack)
            stack.append(known(f"{module}.{name}" if type(module) is type(name) is str else "what is no name"))
        case "REDUCE":
            arguments, name = _pop(stack), _pop(stack)
            stack.append(call(name, arguments))
        case "BUILD":  # attributes of an object: state_dict() hangs a _metadata on its OrderedDict, which nobody misses
            _pop(stack)
            if type(_top(stack)) is not dict:
                raise ValueError(f"refuses the opcode BUILD on a {type(_top(stack)).__name__}")
        case _:
            what = f" ({quoted(argument)})" if isinstance(argument, str) else ""
            raise ValueError(f"refuses the opcode {opcode}{what}: tensors and plain containers need no such thing")


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
