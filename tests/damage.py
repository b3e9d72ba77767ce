"""Damage as files suffer it, for tests that a reader refuses a file or reads it right, and does nothing else."""

from __future__ import annotations

import random


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One fault: flipped bits, a cut, bytes inserted, removed, zeroed, or repeated."""
    at, length = rng.randrange(len(content)), rng.randrange(1, 20)
    head, middle, tail = content[:at], content[at : at + length], content[at + length :]
    match rng.randrange(7):
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
        case _:
            return head + middle + middle + tail
