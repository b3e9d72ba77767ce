"""A writer of GGUF files for tests: facts as Python values, tensors as (kind's number, shape, bytes)."""

from __future__ import annotations

import struct
from typing import Any


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def kind_of(value: Any) -> int:
    kinds = {bool: 7, int: 4 if isinstance(value, int) and value >= 0 else 5, float: 6, str: 8, list: 9}
    return kinds[type(value)]


def packed(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<?", value)
        case int():
            return struct.pack("<I" if value >= 0 else "<i", value)
        case float():
            return struct.pack("<f", value)
        case str():
            return text(value)
    inner = kind_of(value[0]) if value else 4
    return struct.pack("<IQ", inner, len(value)) + b"".join(map(packed, value))


def gguf_bytes(
    metadata: dict[str, Any], tensors: dict[str, tuple[int, tuple[int, ...], bytes]], version: int = 3
) -> bytes:
    alignment = metadata.get("general.alignment", 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for name, value in metadata.items():
        head += text(name) + struct.pack("<I", kind_of(value)) + packed(value)
    numbers = b""
    for name, (kind, shape, raw) in tensors.items():
        numbers += bytes(-len(numbers) % alignment)
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += struct.pack("<IQ", kind, len(numbers))
        numbers += raw
    return head + bytes(-len(head) % alignment) + numbers
