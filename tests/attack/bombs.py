"""Small files that ask for much: memory, time, or depth. Each is a dict {what: content} for one kind of file."""

from __future__ import annotations

import functools
import gzip
import json
import struct
import zipfile
from typing import Any

from tests.attack.assembly import SIX, archive, dict_of, integer, named, program, pth, stream, tensor, text
from tests.attack.damage import zipped
from tests.gguf import gguf_bytes
from tests.gguf import text as gguf_text

HUGE = (2**31, 2**40, 2**62, 2**63 - 1)


def safetensors(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(shape: list, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


@functools.cache
def of_safetensors() -> dict[str, bytes]:
    found = {f"{n} numbers": safetensors({"a": entry([n], 4 * n)}, bytes(8)) for n in HUGE}
    found |= {f"a header of {n} bytes": n.to_bytes(8, "little") + b"{}" for n in (*HUGE, 99_000_000)}
    return found | {
        "numbers that wrap": safetensors({"a": entry([2**32, 2**32], 0)}),
        "axes without end": safetensors({"a": entry([1] * 100_000, 4)}, bytes(4)),
        "an empty array of a huge axis": safetensors({"a": entry([0, 2**62], 0)}),
        "deep": safetensors(b'{"a":' * 200_000),
        "deep lists": safetensors(b'{"a":' + b"[" * 500_000),
        "a number of a million digits": safetensors(b'{"a": ' + b"9" * 1_000_000 + b"}"),
        "many names": safetensors({f"{i}": entry([0], 0) for i in range(100_000)}),
        "a long name": safetensors({"B" * 5_000_000: entry([1], 5)}),
        "much metadata": safetensors({"__metadata__": {f"{i}": "x" for i in range(100_000)}}),
        "a name of escapes": safetensors({"\x1b]0;owned\x07" * 1000: entry([1], 5)}),
    }


@functools.cache
def of_pth() -> dict[str, bytes]:
    six, bomb = SIX.tobytes(), bytes(10**7)
    laughs = b"".join(b"](" + bytes([ord("h"), i]) * 10 + b"eq" + bytes([i + 1]) for i in range(15))
    many = b"](" + tensor(6, (6,), (1,)) + b"q\x00" + b"h\x00" * 900_000 + b"e"
    found = {f"{n} numbers of one": pth(dict_of(w=tensor(6, (n,), (0,))), six) for n in HUGE[:3]}
    found |= {f"storage of {n}": pth(dict_of(w=tensor(n, (1,), (1,))), six) for n in HUGE}
    bodies = {
        "a billion laughs": b"(]q\x00" + laughs + b"t", "a list in itself": b"]q\x00h\x00a",
        "a dict in itself": b"}q\x00" + text("a") + b"h\x00s", "deep lists": b"]" * 400_000 + b"a" * 399_999,
        "deep tuples": b")" + b"\x85" * 900_000, "deep keys": b"}" + b")" + b"\x85" * 400_000 + b"Ns",
        "deep arguments": named("torch", "Size") + b")" + b"\x85" * 400_000 + b"R",
        "many dicts": b"(" + b"}" * 1_900_000 + b"t", "many opcodes": b"(" + b"N" * 4_000_000 + b"t",
        "one tensor often": many, "a tensor of many axes": tensor(6, (1,) * 50_000, (1,) * 50_000),
        "a number of 4 MB": b"\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000,
        "a number for a key": b"}\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + tensor(6, (6,), (1,)) + b"s",
        "digits": b"I" + b"9" * 1_000_000 + b"\n", "long digits": b"L" + b"9" * 1_000_000 + b"L\n",
        "a string of 4 GB": b"X\xff\xff\xff\xffabc", "a string of 2**62": b"\x8d" + struct.pack("<Q", 2**62) + b"abc",
        "bytes of 2**62": b"\x8e" + struct.pack("<Q", 2**62), "bytes of 4 GB": b"B\xff\xff\xff\xff",
        "a frame of 2**62": b"\x95" + struct.pack("<Q", 2**62) + b"}", "a memo of 2**32": b"}r\xff\xff\xff\xff",
        "a long key": dict_of(**{"k" * 1_000_000: tensor(6, (6,), (1,))}), "a name": named("os\x1b", "x" * 1_000_000),
        "pairs": named("collections", "OrderedDict") + b"](" + b"]" * 300_000 + b"e\x85R",
    }  # fmt: skip
    for i, (what, body) in enumerate(bodies.items()):
        found[what] = pth(body, six) if i % 2 == 0 else stream(body, ("0", six, 6))
    return found | {
        "compressed": archive({"a/data.pkl": bomb}, zipfile.ZIP_DEFLATED),
        "parts on each other": archive({"a/data.pkl": program(b"}")}).replace(b"PK\x05\x06", b"PK\x01\x02" * 1000),
        "many parts": zipped([("a/data.pkl", program(b"}"))] + [(f"a/data/{i}", b"") for i in range(30_000)]),
        "a count of 2**63": stream(tensor(6, (6,), (1,)), ("0", six, 2**63)),
        "an int": stream(integer(3)),
    }


@functools.cache
def of_gguf() -> dict[str, bytes]:
    head = b"GGUF" + struct.pack("<I", 3)
    one = {"x": (0, (2,), bytes(8))}
    found = {f"{n} tensors": head + struct.pack("<QQ", n, 0) for n in HUGE}
    found |= {f"{n} facts": head + struct.pack("<QQ", 0, n) for n in HUGE}
    for n in HUGE:
        fact = gguf_text("a") + struct.pack("<IIQ", 9, 4, n)
        found[f"a list of {n}"] = head + struct.pack("<QQ", 0, 1) + fact + bytes(64)
        found[f"a list of {n} strings"] = head + struct.pack("<QQ", 0, 1) + fact.replace(
            struct.pack("<II", 9, 4), struct.pack("<II", 9, 8)) + bytes(64)  # fmt: skip
        found[f"a string of {n}"] = head + struct.pack("<QQQ", 0, 1, n) + bytes(64)
        axes = gguf_text("x") + struct.pack("<IQQ", 2, n, n) + struct.pack("<IQ", 0, 0)
        found[f"axes of {n}"] = head + struct.pack("<QQ", 1, 0) + axes + bytes(64)
    lists: Any = [[1] * 1000] * 1000
    return found | {
        "a million numbers in lists": gguf_bytes({"a": lists}, one), "strings": gguf_bytes({"a": [""] * 300_000}, one),
        "many facts": gguf_bytes({f"{i}": 1 for i in range(50_000)}, one),
        "many tensors": gguf_bytes({}, {f"{i}": (0, (1,), bytes(4)) for i in range(20_000)}),
        "a name of escapes": gguf_bytes({"\x1b]0;owned\x07": [[[[[1]]]]]}, one),
        "empty lists in lists": head + struct.pack("<QQ", 0, 1) + gguf_text("a") + struct.pack("<IIQ", 9, 9, 100_000)
        + struct.pack("<IQ", 9, 0) * 100_000,
    }  # fmt: skip


def npy(shape: str, descr: str = "'<f4'", numbers: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + numbers


@functools.cache
def of_npz() -> dict[str, bytes]:
    members = {
        "10^12 numbers": npy("(1000000000000,)"), "10^30 numbers": npy("(1000000000000000, 1000000000000000)"),
        "an endless axis": npy("(0, 9223372036854775807)"), "deep": npy("(" * 100_000),
        "minus": npy("(" + "-" * 100_000),
        "digits": npy(f"({'9' * 100_000},)"), "axes": npy("(" + "1, " * 100_000 + ")"), "tokens": npy("(4 ("),
        "objects": npy("(1,)", "'|O'", b"cos\nsystem\n(X\x01\0\0\0xtR."), "a call": npy("(1,)", "__import__('os')"),
        "a string": npy("(1,)", "'<U1000000000'"), "a record": npy("(1,)", str([("x", "<f4")] * 3)),
        "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "nothing": b"",
    }  # fmt: skip
    found = {what: archive({"a.npy": member}) for what, member in members.items()}
    sound = npy("(4,)", numbers=bytes(16))
    encrypted = bytearray(archive({"a.npy": sound}))
    encrypted[6] |= 1
    encrypted[encrypted.rfind(b"PK\x01\x02") + 8] |= 1
    return found | {
        "compressed": archive({"a.npy": npy("(1000000000,)", "'|u1'", bytes(2 * 10**7))}, zipfile.ZIP_DEFLATED),
        "compressed by bzip2": archive({"a.npy": sound}, zipfile.ZIP_BZIP2), "encrypted": bytes(encrypted),
        "by method 99": archive({"a.npy": sound}).replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),
        "twice": zipped([("a.npy", sound), ("a.npy", sound)]),
    }  # fmt: skip


def packed(raw: bytes) -> bytes:
    return gzip.compress(raw, mtime=0)


@functools.cache
def of_idx() -> dict[str, bytes]:
    full, one = b"\xff" * 4, b"\0\0\0\1"
    axes = {"huge axes": full * 3, "an empty axis": bytes(4) + full * 2, "one huge": full + one * 2}
    found = {what: b"\0\0\x08\x03" + raw for what, raw in axes.items()}
    bomb = b"\0\0\x08\x03" + struct.pack(">3I", 80_000, 1000, 1) + bytes(8 * 10**7)
    return found | {what + ", packed": packed(raw) for what, raw in found.items()} | {
        "80 MB packed": packed(bomb), "packed twice": packed(packed(bomb[:1000])), "many members": packed(b"") * 10_000,
    }  # fmt: skip


@functools.cache
def of_json() -> dict[str, bytes]:
    return {
        "deep lists": b"[" * 1_000_000, "deep objects": b'{"a":' * 1_000_000, "nothing": b"",
        "spaces": b" " * 5_000_000, "a list that is closed": b"[" * 900 + b"]" * 900,
        "digits": b'{"a": ' + b"9" * 1_000_000 + b"}",
        "1e400": b'{"a": 1e400}', "many names": json.dumps({str(i): i for i in range(300_000)}).encode(),
        "half a pair": b'{"\\ud800": "\\ud800"}', "a long string": json.dumps({"a": "\x1b" * 1_000_000}).encode(),
        "null": b"null", "a string": b'"' + b"x" * 1_000_000 + b'"', "bytes": bytes(1000),
        "UTF-16": '{"a": 1}'.encode("utf-16"),
    }  # fmt: skip


def of_fields(document: bytes) -> dict[str, bytes]:
    """Every number of a JSON document, replaced by numbers at which sizes go wrong."""
    found = {}
    fields = json.loads(document)
    for field, value in fields.items():
        if isinstance(value, (int, float)):
            for number in (0, -1, 10**6, 10**9, 2**63, 10**400, 0.5, float("inf"), float("nan"), True, None, [], "x"):
                found[f"{field} is {str(number)[:12]}"] = json.dumps({**fields, field: number}).encode()
    return found
