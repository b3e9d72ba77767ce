"""What commands print: lines on standard output, complaints on standard error, and commands for a shell.

Nothing printed here holds a character that a terminal would obey, whatever file or model the text comes from, or one
that its encoding lacks. Streams may be missing (`>&-`, services, pythonw on Windows), closed, or lose their reader.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from scratch.messages import escaped, shortened

PLAIN = str.maketrans({"·": "-", "±": "+-", "–": "-", "−": "-", "≤": "<=", "≥": ">=", "→": "->", "×": "x", "é": "e"})
LONGEST_COMPLAINT = 4000  # characters
LEAST_COLUMNS = 40

# Control characters but for tab and line feed, line separators, switches of the direction, halves of surrogate pairs.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def say(text: str = "") -> None:
    """Print a line. Raises OSError where the output cannot be written, BrokenPipeError where its reader has gone."""
    write(f"{text}\n")


def write(text: str) -> None:
    """Print a part of a line at once, in characters that the terminal has."""
    if is_open(sys.stdout):
        try:
            print(fitting(text, sys.stdout), end="", flush=True)
        except OSError as error:
            if sys.platform == "win32" and error.errno == errno.EINVAL:  # a closed pipe's number there
                raise BrokenPipeError(*error.args) from error
            raise


def note(text: str = "") -> None:
    """Print a line of a training run, which goes on silently where its output can no longer be written."""
    try:
        say(text)
    except OSError:
        silence("stdout")


def complain(text: str) -> None:
    """Print a line on standard error, if there is one."""
    if is_open(sys.stderr):
        with suppress(OSError):
            print(fitting(shortened(text, LONGEST_COMPLAINT), sys.stderr), file=sys.stderr, flush=True)


def fitting(text: str, stream: Any) -> str:
    """The text without what a terminal would obey and without characters that the stream's encoding lacks."""
    text = OBEYED.sub(lambda match: escaped(match[0]), text)
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text


# -- streams ----------------------------------------------------------------------------------------------------


def is_open(stream: Any) -> bool:
    return stream is not None and not getattr(stream, "closed", False)


def is_terminal(stream: Any) -> bool:
    return is_open(stream) and stream.isatty()


def open_missing_streams() -> None:
    """Put the null device in the place of standard streams that are missing or closed.

    Their numbers 0, 1 and 2 must not go to the next files opened: what a C library prints would end up in those.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                _put_null_device_at(number)
        if not is_open(getattr(sys, name)):
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def silence(name: str) -> None:
    """From here on what is printed to the stream `name` goes nowhere, and so does what it has buffered."""
    try:
        _put_null_device_at(getattr(sys, name).fileno())
    except (AttributeError, OSError, ValueError):  # not a file of the system, as in a notebook
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def flush_or_silence() -> None:
    """Whatever could not be printed is dropped: Python would complain about it when it ends."""
    try:
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):
        silence("stdout")


@contextmanager
def readable_width() -> Iterator[None]:
    """Inside the block, texts are laid out for a terminal of at least 40 columns: below that, layouts never end."""
    told = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)
    try:
        yield
    finally:
        if told is not None:
            os.environ["COLUMNS"] = told
        else:
            os.environ.pop("COLUMNS", None)


def _put_null_device_at(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(null, True)
    else:
        os.dup2(null, number)
        os.close(null)


# -- commands for a shell ---------------------------------------------------------------------------------------


def typed(path: object, windows: bool = sys.platform == "win32") -> str:
    """A path as it is typed on a command line: quoted where a shell would read more into it than a name."""
    text = os.fsdecode(path) if isinstance(path, os.PathLike) else str(path)
    if text.startswith("-"):  # else it would be read as an option
        text = f".\\{text}" if windows else f"./{text}"
    return _for_windows(text) if windows else _for_posix(text)


def _for_posix(text: str) -> str:
    """Quoted for sh; bytes that can't be printed on this terminal are left to printf, in octal."""
    if (text.isprintable() and fitting(text, sys.stdout) == text) or text.endswith("\n"):  # $(...) drops a last \n
        return shlex.quote(text)
    safe = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./- ")
    octal = "".join(chr(byte) if byte in safe else f"\\{byte:03o}" for byte in os.fsencode(text))
    return f"\"$(printf '{octal}')\""


def _for_windows(text: str) -> str:
    """Quoted for PowerShell, and for cmd.exe where that is possible: a name with $ or ` needs PowerShell's '...'.

    A Windows file name cannot hold \" or control characters; typographic quotation marks count as quotes in PowerShell.
    """
    if re.fullmatch(r"[\w.:\\/+-]+", text):
        return text
    if re.search("[$`“”„]", text):
        return "'" + re.sub("(['‘’‚‛])", r"\1\1", text) + "'"
    return f'"{text}"'
