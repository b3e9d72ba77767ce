"""The sharded step: a batch cut into shards, one thread each, and gradients that equal the uncut step's.

With loss_fn giving a sum ℓₛ and its weight wₛ for every shard s,

    L = Σₛ ℓₛ / Σₛ wₛ        ∂L/∂θ = Σₛ ∂ℓₛ/∂θ / Σₛ wₛ

(a mean of the shards' means would be wrong where padding or ignored labels make the weights differ). NumPy releases
Python's global lock inside its loops and matrix products, so threads compute at the same time. Every shard has a
replica of the model that shares the parameters' arrays and owns its gradients. To the tape the whole sharded loss is
one operation: its parents are the parameters, its backward returns their gradients, added in the order of the shards.

`shards` belong to the numbers (rounding depends on them); `workers` only say how many run at a time.
"""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any

import numpy as np

from scratch.memory import keep_freed_memory
from scratch.module import Module
from scratch.random import current_stream, stream
from scratch.scope import Scope
from scratch.tensor import Tensor, record

MOST_SHARDS = 256  # each is a thread and a replica of the model

LossFunction = Callable[..., tuple[Tensor, float]]


class ShardedLoss:
    """`loss = sharded(x, y); loss.backward()`: the loss of a batch, computed in shards on several threads.

    Args: loss_fn(model, *shard) returns (sum of losses, weight of that sum), such as the number of targets.
        shards: into how many parts the first axis of every array of the batch is cut (fewer for a smaller batch).
        workers: how many shards run at a time; by default as many as there are cores.
    With one shard it is loss_fn's sum divided by its weight, and nothing else.
    Raises ValueError for shards or workers below 1, for more than MOST_SHARDS shards, and for a batch whose arrays
    differ in length.
    """

    def __init__(self, model: Module, loss_fn: LossFunction, shards: int = 1, workers: int | None = None):
        workers = min(shards, cores()) if workers is None else workers
        if shards < 1 or workers < 1:
            raise ValueError(f"ShardedLoss expected at least one shard and one worker, got {shards} and {workers}")
        if shards > MOST_SHARDS:
            raise ValueError(f"ShardedLoss expected at most {MOST_SHARDS} shards, got {shards}")
        if workers > 1 and not _blas_is_controllable():
            workers = 1
        keep_freed_memory()
        self.model, self.loss_fn, self.shards, self.workers = model, loss_fn, shards, workers
        self.parameters = list(model.parameters())
        self.replicas = [_Replica(model) for _ in range(shards)] if shards > 1 else []
        self._pool: ThreadPoolExecutor | None = None
        self._threads_start = True

    def __call__(self, *batch: np.ndarray) -> Tensor:
        lengths = {len(array) for array in batch}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"a batch needs arrays of one length above 0, got lengths {[len(a) for a in batch]}")
        shards = min(self.shards, lengths.pop())
        if shards == 1:
            total, weight = self.loss_fn(self.model, *batch)
            return total / _positive(weight)
        return self._sharded(shards, list(zip(*(np.array_split(array, shards) for array in batch), strict=True)))

    def _sharded(self, shards: int, parts: list[tuple[np.ndarray, ...]]) -> Tensor:
        for replica in self.replicas[:shards]:
            replica.synchronise()
        outer = current_stream()

        def forward(s: int) -> tuple[Tensor, float]:
            with ExitStack() as scope:
                if outer is not None:  # number 0 is the stream outside, for what is drawn before the batch is cut
                    scope.enter_context(stream(outer.seed, outer.step, s + 1))
                return self.loss_fn(self.replicas[s].model, *parts[s])

        results = self._run(forward, shards)
        weight = _positive(sum(w for _, w in results))
        sums = [total for total, _ in results]
        value = sums[0].data
        for total in sums[1:]:
            value = value + total.data

        def backward(dy):
            upstream = dy / weight
            self._run(lambda s: sums[s].backward(upstream) if sums[s].requires_grad else None, shards)
            return self._collect(shards)

        return record(np.asarray(value / weight, dtype=value.dtype), tuple(self.parameters), backward)

    def _collect(self, shards: int) -> tuple[np.ndarray | None, ...]:
        """Every parameter's gradients, taken from the replicas and added in the order of the shards."""
        totals: list[np.ndarray | None] = [None] * len(self.parameters)
        for replica in self.replicas[:shards]:
            for i, (_, parameter) in enumerate(replica.parameters):
                gradient, parameter.grad = parameter.grad, None
                if totals[i] is None:
                    totals[i] = gradient
                elif gradient is not None:
                    totals[i] = totals[i] + gradient
        return tuple(totals)

    def _run(self, function: Callable[[int], Any], shards: int) -> list[Any]:
        """[function(0), …, function(shards − 1)], together; shard 0 runs in the calling thread."""
        group = _Group(shards, self.workers)
        results: list[Any] = [None] * shards

        def run(s: int) -> None:
            with group.member(s):
                results[s] = function(s)

        with blas_threads(1):  # the cores are busy with the other shards
            jobs = self._start(run, shards)
            if jobs is None:
                group.together = False
                for s in range(shards):
                    run(s)
            else:
                mine = _error(lambda: run(0))
                group.raise_first([mine, *(job.exception() for job in jobs)])
        for late in group.late:
            late()
        return results

    def _start(self, run: Callable[[int], None], shards: int) -> list[Future] | None:
        """All shards but the first, each on a thread; None where threads can't start, as in a browser's Python."""
        if self._threads_start:
            try:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self.shards - 1, thread_name_prefix="shard")
                return [self._pool.submit(copy_context().run, run, s) for s in range(1, shards)]
            except RuntimeError:
                self._pool, self._threads_start = None, False  # a pool would keep what it could not run
        return None


# -- inside a shard ----------------------------------------------------------------------------------------------


def all_reduce(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each array summed over all shards of this step, in their order; outside a sharded step the arrays themselves.

    Every shard must call it equally often, with the same shapes. Batch normalisation does, forward and backward.
    """
    member = _member.get()
    return arrays if member is None else member.group.all_reduce(member, arrays)


def in_main_thread(function: Callable[[], None]) -> None:
    """Call `function` once for the whole batch: at once outside a sharded step, else after it and for shard 0 only."""
    member = _member.get()
    if member is None:
        function()
    elif member.index == 0:
        member.group.late.append(function)


class _Group:
    """The shards of one pass: at most `workers` of them run, and all of them meet in `all_reduce`."""

    def __init__(self, shards: int, workers: int):
        self.shards = shards
        self.together = True
        self.late: list[Callable[[], None]] = []
        self._turns = threading.Semaphore(workers)
        self._barrier = threading.Barrier(shards)
        self._slots: list[list[Any]] = [[None] * shards, [None] * shards]

    @contextmanager
    def member(self, index: int) -> Iterator[None]:
        """Run as shard `index`; a failure wakes the others, and so does an end that they don't expect."""
        member = _Member(self, index)
        token = _member.set(member)
        try:
            with self._turns:
                yield
            if self.together:
                self._meet(member, None)  # the end; a shard still in all_reduce would find None among the arrays
        except BaseException:
            self._barrier.abort()
            raise
        finally:
            _member.reset(token)

    def all_reduce(self, member: _Member, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        if not self.together:
            raise ValueError("this model couples its shards (batch statistics), which needs threads: use shards=1")
        self._turns.release()  # let another shard run up to this point
        try:
            every = self._meet(member, arrays)
        finally:
            self._turns.acquire()
        totals = every[0]
        for other in every[1:]:
            totals = tuple(a + b for a, b in zip(totals, other, strict=True))
        return totals

    def _meet(self, member: _Member, arrays: Any) -> list[Any]:
        """Wait for all shards, then see what each one brought. Two sets of slots, used in turn, need one wait."""
        slots = self._slots[member.meetings % 2]
        member.meetings += 1
        slots[member.index] = arrays
        self._barrier.wait()
        if any((other is None) != (arrays is None) for other in slots):
            raise ValueError("the shards of one step called all_reduce a different number of times")
        return slots

    def raise_first(self, errors: list[BaseException | None]) -> None:
        """The error that started it, not the broken waits that followed."""
        raised = [error for error in errors if error is not None]
        for error in sorted(raised, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error


class _Member:
    """One shard's place in its group."""

    def __init__(self, group: _Group, index: int):
        self.group, self.index, self.meetings = group, index, 0


_member: ContextVar[_Member | None] = ContextVar("member", default=None)


# -- replicas ----------------------------------------------------------------------------------------------------


def replicate(model: Module) -> Module:
    """A copy of the model whose parameters and buffers are its own, over the same arrays."""
    shared: dict[int, Any] = {id(tensor.data): tensor.data for tensor in (*model.parameters(), *model.buffers())}
    replica = copy.deepcopy(model, shared)
    for parameter in replica.parameters():
        parameter.grad = None
    return replica


class _Replica:
    """A replica, and what is kept equal between it and the model; walked once, for a walk costs as much as a layer."""

    def __init__(self, model: Module):
        self.model = replicate(model)
        self.modules = list(zip(model.modules(), self.model.modules(), strict=True))
        self.parameters = list(zip(model.parameters(), self.model.parameters(), strict=True))
        self.buffers = list(zip(model.buffers(), self.model.buffers(), strict=True))

    def synchronise(self) -> None:
        """What may have changed since the last step, and no gradients that a failed step left behind."""
        for module, copied in self.modules:
            copied.training = module.training
        for parameter, own in self.parameters:
            own.requires_grad, own.data, own.grad = parameter.requires_grad, parameter.data, None
        for buffer, same in self.buffers:
            same.data = buffer.data


def _error(function: Callable[[], None]) -> BaseException | None:
    try:
        function()
    except BaseException as error:
        return error
    return None


def _positive(weight: float) -> float:
    if not weight > 0:
        raise ValueError(f"the batch's weight (how many targets count) must be above 0, got {weight}")
    return float(weight)


# -- cores and BLAS threads --------------------------------------------------------------------------------------


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def available_blas_threads() -> int:
    """How many threads NumPy's matrix products have: one a core, or what OPENBLAS_NUM_THREADS and the like say."""
    controller = _controller()
    told = [library.num_threads for library in controller.lib_controllers] if controller is not None else []
    return min([cores(), *told])


def threads() -> int:
    """How many threads one operation may use here: one in a shard, inside `own_threads` what that gives."""
    count, _ = _threads.get()
    return count or available_blas_threads()


def divides_products() -> bool:
    """Whether an operation has more threads here than a matrix product has of its own."""
    count, blas = _threads.get()
    return count > blas


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Give NumPy's matrix products, and other operations, this many threads inside the block.

    Matrix products only where they can be controlled.
    """
    with _limited(count, count):
        yield


@contextmanager
def own_threads(count: int, blas: int = 1) -> Iterator[None]:
    """Give each matrix product one BLAS thread inside the block, and let large operations use `count` threads of ours.

    OpenBLAS's threads compute while they wait for each other: next to other programs, a product of 0.1 ms takes some
    milliseconds. Ours (blocks.py) sleep while they wait, and no thread waits for one that has not begun. `blas` is for
    runs that began with another number.
    """
    with _limited(blas, count):
        yield


@contextmanager
def _limited(blas: int, own: int) -> Iterator[None]:
    controller = _controller()
    same = controller is None or all(library.num_threads == blas for library in controller.lib_controllers)
    limit = nullcontext() if same else controller.limit(limits=blas, user_api="blas")
    with limit, Scope(_threads, lambda: (own, own if controller is None else blas)):
        yield


_threads: ContextVar[tuple[int, int]] = ContextVar("threads", default=(0, 0))  # ours and BLAS's, 0 where not set


@cache
def _controller() -> Any:
    """threadpoolctl's controller, made once: making one costs fifty times what a limit costs."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controller = ThreadpoolController().select(user_api="blas")
    return controller if controller.info() else None


@cache
def _blas_is_controllable() -> bool:
    if _controller() is not None:
        return True
    warnings.warn("the matrix library's threads can't be controlled here, so shards run one at a time", stacklevel=3)
    return False
