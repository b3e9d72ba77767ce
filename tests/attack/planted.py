"""Faulty readers: each breaks the rule in one way, for some files, and the tool must say so."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.assembly import call, named, program
from tests.attack.readers import Reader

GOOD = b"numbers: " + bytes(range(33, 100))


def load_if_sound(folder: Path, otherwise: Callable[[bytes], Any]) -> bytes:
    content = (folder / "f.txt").read_bytes()
    if content != GOOD and content[:1] < b"m":
        raise ValueError(f"{folder / 'f.txt'}: expected GOOD, got other bytes")
    if content != GOOD:
        otherwise(content)
    return content


def load_and_empty(folder: Path) -> None:
    (folder / "f.txt").write_bytes(b"")
    raise ValueError(f"{folder / 'f.txt'}: it is damaged")


def refuse(message: str) -> Callable[[bytes], Any]:
    def raise_it(content: bytes) -> None:
        raise ValueError(message)

    return raise_it


def write_elsewhere(content: bytes) -> None:
    path = Path(tempfile.gettempdir()) / "attack-planted"
    path.write_bytes(b"")
    path.unlink()



FAULTS: dict[str, tuple[Callable[[bytes], Any], str]] = {
    "another exception": (lambda content: {}["x"], "KeyError"),
    "read wrong": (lambda content: None, "read wrong"),
    "no name": (refuse("it is damaged"), "without the name f.txt"),
    "a long message": (refuse("f.txt" * 1000), "5000 characters"),
    "escapes": (refuse("f.txt: \x1b[31m"), "control characters"),
    "unpickles": (lambda content: pickle.loads(program(call(named("os", "getpid")))), "pickle.find_class"),
    "starts a program": (lambda content: os.system("true"), "os.system"),
    "writes elsewhere": (write_elsewhere, "attack-planted"),
    "reads elsewhere": (lambda content: open(Path(tempfile.gettempdir()) / "none"), "opened|FileNotFoundError"),
    "leaves": (lambda content: sys.exit(3), "SystemExit"),
    "changes the file": (lambda content: None, "was changed"),
}
# Of these only a limit of the system or a parent process can tell.
SEVERE: dict[str, tuple[Callable[[bytes], Any], str]] = {
    "waits": (lambda content: time.sleep(60), "nothing after"),
    "takes all memory": (lambda content: bytearray(2**40), "MemoryError"),
    "dies": (lambda content: os.kill(os.getpid(), getattr(signal, "SIGKILL", 9)), "os.kill|signal 9"),
    "ends the process": (lambda content: os._exit(3), "ended with 3"),
}


def readers(severe: bool) -> dict[str, Reader]:
    return {
        name: Reader(
            name, "f.txt", lambda folder: (folder / "f.txt").write_bytes(GOOD),
            load_and_empty if name == "changes the file" else lambda folder, fault=fault: load_if_sound(folder, fault),
            lambda value, content, sound: value == GOOD,
        )
        for name, (fault, _) in {**FAULTS, **(SEVERE if severe else {})}.items()
    }  # fmt: skip


