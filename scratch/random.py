"""The one place where randomness comes from.

Two kinds. *The default generator* serves what is drawn once, in the main thread: initial weights, noise, time steps.
Another thread that calls `manual_seed` gets a default generator of its own, so that a second training in the same
process neither changes the first one's numbers nor depends on them.
*Streams* serve what is drawn inside a training step that may run on several threads (dropout): every draw is a pure
function of (seed, step, shard, call), so a resumed or differently scheduled run draws the very same numbers.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np

from scratch.scope import Scope

_default = np.random.Generator(np.random.PCG64(0))
_own: ContextVar[np.random.Generator | None] = ContextVar("own", default=None)  # that of a thread besides the main one


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the default generator from `seed`, and return it.

    In the main thread it is that of all threads without one of their own. In another thread it becomes the generator
    of that thread and of the workers that it starts (`scratch.parallel` hands them its context).
    """
    return _restarted(np.random.PCG64(_checked(seed)))


def default_generator() -> np.random.Generator:
    """The generator behind initial weights and everything drawn outside a stream."""
    return _own.get() or _default


def get_state() -> dict:
    """The default generator's state, fit for JSON."""
    return dict(default_generator().bit_generator.state)


def set_state(state: dict) -> None:
    """Continue the default generator from `get_state()`'s value, as `manual_seed` does. Raises ValueError for anything
    else."""
    bits: np.random.BitGenerator = np.random.PCG64(0)
    try:
        bits.state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a saved state of the PCG64 generator: {error}") from error
    _restarted(bits)


def _restarted(bits: np.random.BitGenerator) -> np.random.Generator:
    """The default generator of this context, which goes on from the state of `bits`."""
    if _own.get() is None and threading.current_thread() is not threading.main_thread():
        _own.set(np.random.Generator(np.random.PCG64(0)))
    generator = default_generator()
    generator.bit_generator.state = bits.state
    return generator


@dataclass
class Stream:
    """Numbers addressed by (seed, step, shard, call): call k of shard s in step t is the same on every thread."""

    seed: int
    step: int
    shard: int = 0
    calls: int = field(default=0)

    def next_generator(self) -> np.random.Generator:
        """A generator for the next call: Philox, a block cipher over a counter (Salmon et al. 2011)."""
        key = np.array([self.seed, self.step], dtype=np.uint64)
        counter = np.array([0, 0, self.shard, self.calls], dtype=np.uint64)
        self.calls += 1
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


_stream: ContextVar[Stream | None] = ContextVar("stream", default=None)


def stream(seed: int, step: int, shard: int = 0) -> Scope:
    """Inside the block, `generator()` draws from the stream of this seed, step and shard (whole numbers from 0 up)."""
    address = _checked(seed), _checked(step, "step"), _checked(shard, "shard")
    return Scope(_stream, lambda: Stream(*address))


def current_stream() -> Stream | None:
    """The stream of the enclosing `with stream(...)` block, if there is one."""
    return _stream.get()


def generator() -> np.random.Generator:
    """What a layer draws from in `forward`: the stream's next generator, else the default one."""
    current = _stream.get()
    return default_generator() if current is None else current.next_generator()


def _checked(value: int, name: str = "seed") -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"a {name} is a whole number from 0 to 2**63 - 1, got {value!r}")
    return int(value)
