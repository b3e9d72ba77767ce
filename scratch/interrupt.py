"""Ctrl-C while the command `scratch` is still loading: an end without a traceback through half-imported modules.

As long as there is nothing to save, the system's own answer to SIGINT is the right one: the process ends at once, and
a shell reports 130. Where the library is imported by a script, a notebook or a test, nothing changes.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

_changed = False


def end_at_once() -> None:
    """Leave Ctrl-C to the system until `raise_again`, if this process is the command and nobody else has decided."""
    global _changed
    if is_the_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _changed = True


def raise_again() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, as usual in Python."""
    global _changed
    if _changed:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _changed = False


def is_the_command() -> bool:
    """Whether the process was started as `scratch`, `python -m scratch` or `python -m scratch.models.NAME.train`."""
    name = (getattr(sys, "argv", None) or [""])[0]
    if name != "-m":
        return Path(name).stem == "scratch"
    words = sys.orig_argv  # `python -m MODULE` looks for the module while argv[0] is still "-m"
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return module == "scratch" or (module.startswith("scratch.models.") and module.endswith(".train"))
