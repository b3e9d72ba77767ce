"""Damage as files suffer it, and as an attacker would do it: each function makes one damaged file of a sound one."""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

Damage = Callable[[bytes, random.Random], bytes]

# Numbers at which sizes, counts and offsets go wrong.
EDGES = (0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63,
         2**64 - 1)  # fmt: skip
ESCAPES = "\x1b]0;owned\x07"


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flipped bits, a cut, bytes inserted, removed, zeroed or repeated, or a number at the edge of its range."""
    if not content:
        return rng.randbytes(3)
    at, length = rng.randrange(len(content)), rng.randrange(1, 20)
    head, middle, tail = content[:at], content[at : at + length], content[at + length :]
    match rng.randrange(8):
        case 0:
            return head + bytes(b ^ 1 << rng.randrange(8) for b in middle) + tail
        case 1:
            return head + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        case 2:
            return head
        case 3:
            return head + rng.randbytes(length) + content[at:]
        case 4:
            return head + tail
        case 5:
            return head + bytes(len(middle)) + tail
        case 6:
            number = edge(rng)
            return head + number + content[at + len(number) :]
        case _:
            return head + middle + middle + tail


def edge(rng: random.Random) -> bytes:
    size, order = rng.choice("BHIQ"), rng.choice("<>")
    width = struct.calcsize(order + size)
    return struct.pack(order + size, rng.choice(EDGES) % 2 ** (8 * width))


def of_head(size: int) -> Damage:
    """Of the first bytes only: where a file's structure is."""
    return lambda content, rng: of_bytes(content[:size], rng) + content[size:]


def often(damage: Damage, times: int = 3) -> Damage:
    """Up to so many times, one after the other."""

    def several(content: bytes, rng: random.Random) -> bytes:
        for _ in range(rng.randint(1, times)):
            content = damage(content, rng)
        return content

    return several


# -- text -----------------------------------------------------------------------------------------------------------


def of_lines(content: bytes, rng: random.Random) -> bytes:
    """A line removed, repeated, swapped with another, or replaced."""
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[i]
        case 1:
            lines.insert(j, lines[i])
        case 2:
            lines[i], lines[j] = lines[j], lines[i]
        case 3:
            lines[i] = rng.choice([b"", b" ", b"\xff\xfe", b"\0", b"a b c", ESCAPES.encode(), b"x" * 10_000, b"{}"])
        case _:
            lines[i] = of_bytes(lines[i], rng)
    return b"\n".join(lines)


def values(rng: random.Random) -> Any:
    """A value that no field of a JSON file expects."""
    return rng.choice([
        None, True, False, 0, -1, 1, 2, 10**6, 10**9, 2**31, 2**63, 10**400, 0.5, -0.0, 1e-320, 1e308, float("nan"),
        float("inf"), "", "x", "\0", "\ud800", ESCAPES, "../../x", "x" * 10_000, [], {}, [[]], [0], [None], {"": None},
        [[[[[[[[]]]]]]]], list(range(100)), {str(i): i for i in range(100)}, "1", "true", "éü中",
    ])  # fmt: skip


def of_json(content: bytes, rng: random.Random) -> bytes:
    """A value replaced by another, an entry removed, renamed, added or copied to another place."""
    try:
        document = json.loads(content)
    except ValueError:
        return of_bytes(content, rng)
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    if not places:
        return json.dumps(values(rng)).encode()
    node, key = rng.choice(places)
    match rng.randrange(6):
        case 0 | 1:
            node[key] = values(rng)
        case 2:
            del node[key]
        case 3:
            other, name = rng.choice(places)
            node[key] = json.loads(json.dumps(other[name])) if name in range_of(other) else None
        case 4 if isinstance(node, dict):
            node[rng.choice(["", "x", ESCAPES, "y" * 3000, "../x", key.upper()])] = node.pop(key)
        case _:
            if isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
                node[key] = node[key] * rng.choice([-1, 2, 1000, 10**12]) + rng.choice([0, 1, -1])
            else:
                node[key] = [node[key]]
    return json.dumps(document).encode("utf-8", "surrogatepass")


def range_of(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def of_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header as JSON, its length put right."""
    size = int.from_bytes(content[:8], "little")
    header = of_json(content[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


# -- archives and pickles ---------------------------------------------------------------------------------------------


def of_zip(content: bytes, rng: random.Random) -> bytes:
    """A sound archive with a part removed, renamed, repeated, compressed or damaged, or a header's field changed."""
    if rng.randrange(3) == 0:
        marks = [i for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06") for i in places_of(content, mark)]
        at = rng.choice(marks) + rng.randrange(4, 46)
        number = edge(rng)[: rng.choice([1, 2, 4])]
        return content[:at] + number + content[at + len(number) :]
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        parts = [(name, file.read(name)) for name in file.namelist()]
    i = rng.randrange(len(parts))
    how, names = zipfile.ZIP_STORED, [name for name, _ in parts]
    match rng.randrange(6):
        case 0:
            del parts[i]
        case 1:
            parts[i] = (rng.choice(["x", "a/../../x", "/x", ESCAPES, *names]), parts[i][1])
        case 2:
            parts.append((parts[i][0], rng.choice(parts)[1]))
        case 3:
            how = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        case _:
            parts[i] = (parts[i][0], of_bytes(parts[i][1], rng))
    return zipped(parts, how)


def zipped(parts: list[tuple[str, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", how) as file:
        warnings.simplefilter("ignore")  # of two parts with one name
        for name, content in parts:
            file.writestr(name, content)
    return buffer.getvalue()


def places_of(content: bytes, mark: bytes) -> list[int]:
    return [i for i in range(len(content)) if content.startswith(mark, i)]


def in_zip(suffix: str, damage: Damage) -> Damage:
    """Of one part of an archive, whose checksums are put right."""

    def damaged(content: bytes, rng: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            parts = [(name, file.read(name)) for name in file.namelist()]
        return zipped([(name, damage(part, rng) if name.endswith(suffix) else part) for name, part in parts])

    return damaged


def of_pickle(content: bytes, rng: random.Random) -> bytes:
    """An opcode removed, repeated, moved, replaced by one from elsewhere, or one inserted."""
    try:
        starts = [at for _, _, at in pickletools.genops(content) if at is not None] + [len(content)]
    except ValueError:
        return of_bytes(content, rng)
    words = [content[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    i, j = rng.randrange(len(words)), rng.randrange(len(words))
    match rng.randrange(6):
        case 0:
            del words[i]
        case 1:
            words.insert(j, words[i])
        case 2:
            words[i], words[j] = words[j], words[i]
        case 3:
            words[i] = words[j]
        case 4:
            words.insert(i, rng.choice(OPCODES))
        case _:
            words[i] = of_bytes(words[i], rng)
    return b"".join(words)


OPCODES = (
    b"(", b"}", b"]", b")", b"N", b"\x88", b"\x89", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"R", b"b",
    b"Q", b".", b"0", b"1", b"2", b"q\x05", b"h\x05", b"\x94", b"\x93", b"\x81", b"\x92", b"o", b"\x8f", b"\x90",
    b"\x91", b"K\x00", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"G\x7f\xf8" + bytes(6),
    b"X\0\0\0\0", b"U\x01w", b"C\x01w", b"\x80\x05", b"\x95" + bytes(8),
    b"ccollections\nOrderedDict\n", b"ctorch\nSize\n", b"ctorch\nfloat32\n",
    b"cos\nsystem\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ccollections\nCounter\n", b"c__builtin__\nset\n", b"I01\n", b"S'x'\n",
)  # fmt: skip
