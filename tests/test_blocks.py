"""Blocks: how they are cut, that threads change no bit of a result, and that memory stays where it was freed."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from scratch import Tensor, blocks, memory, parallel
from scratch.blocks import added, cut, over, product, products, workspace
from scratch.layers.linear import linear
from scratch.parallel import blas_threads, own_threads

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("most", [0, 1, 2, 5, 64, 1000])
def test_blocks_cover_all_rows_once_and_are_nearly_equal(rows, most):
    cuts = cut(rows, most)
    assert np.concatenate([np.arange(rows)[block] for block in cuts]).tolist() == list(range(rows))
    sizes = [block.stop - block.start for block in cuts]
    assert max(sizes) <= max(1, most) and max(sizes[:-1], default=sizes[0]) == min(sizes[:-1], default=sizes[0])
    assert max(sizes) == sizes[0]


@pytest.mark.parametrize(
    ("rows", "most", "sizes"),
    [
        (10, 10, [10]),
        (10, 5, [5, 5]),
        (10, 4, [3, 3, 3, 1]),  # three would do, but two threads would not get as much as each other
        (12, 4, [3, 3, 3, 3]),
        (64, 10, [8] * 8),
        (3, 1, [1, 1, 1]),
    ],
)
def test_blocks_are_as_few_as_can_be_and_an_even_number(rows, most, sizes):
    assert [block.stop - block.start for block in cut(rows, most)] == sizes


def test_no_rows_are_no_blocks():
    assert cut(0, 5) == []


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
def test_over_calls_once_for_each_part_and_keeps_their_order(count, threads, monkeypatch):
    monkeypatch.setattr(blocks, "threads", lambda: threads)
    assert over(cut(count, 1), lambda part: part.start) == list(range(count))


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_run_on_several_threads_only_where_there_are_some(parts, monkeypatch):
    def names(together):
        meeting = threading.Barrier(together)

        def name(part):
            meeting.wait(20)  # so that no thread can do the work of another
            return threading.current_thread().name

        return set(over(cut(parts, 1), name))

    monkeypatch.setattr(blocks, "threads", lambda: 1)
    assert names(1) == {threading.current_thread().name}
    monkeypatch.setattr(blocks, "threads", lambda: 2)
    assert len(names(2)) == 2


def test_the_caller_does_what_other_threads_are_too_late_for(monkeypatch):
    """As beside programs that keep all cores: a thread that does not begin is not waited for."""

    class Late:
        def submit(self, *arguments):
            return Future()  # which nobody ever runs

    monkeypatch.setattr(blocks, "threads", lambda: 2)
    monkeypatch.setattr(blocks, "_helpers", Late)
    seen = over(cut(5, 1), lambda part: (part.start, threading.current_thread()))
    assert seen == [(i, threading.current_thread()) for i in range(5)]


def test_after_an_error_of_the_caller_no_thread_works_on(monkeypatch):
    monkeypatch.setattr(blocks, "threads", lambda: 2)
    both, done = threading.Barrier(2), []

    def part(rows):
        both.wait(20)
        if threading.current_thread() is threading.main_thread():
            raise ValueError("the caller's")
        time.sleep(0.05)
        done.append(rows.start)

    with pytest.raises(ValueError, match="the caller's"):
        over(cut(9, 1), part)
    assert len(done) == 1  # it was waited for, and took no other part


def test_one_part_stays_in_the_calling_thread(monkeypatch):
    monkeypatch.setattr(blocks, "threads", lambda: 2)
    assert over([slice(0, 3)], lambda part: threading.current_thread()) == [threading.current_thread()]


def test_threads_have_one_matrix_thread_each_and_memory_is_kept(monkeypatch):
    told = []

    @contextmanager
    def limit(count):
        told.append(count)
        yield

    monkeypatch.setattr(blocks, "threads", lambda: 2)
    monkeypatch.setattr(blocks, "blas_threads", limit)
    monkeypatch.setattr(blocks, "keep_freed_memory", lambda: told.append("kept"))
    over(cut(4, 1), lambda part: None)
    assert told == ["kept", 1]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3)])
def test_the_calling_thread_works_too_so_one_thread_fewer_than_cores_is_made(cores, threads, monkeypatch):
    monkeypatch.setattr(blocks, "cores", lambda: cores)
    monkeypatch.setattr(blocks, "_pool", None)
    assert blocks._helpers()._max_workers == threads
    assert blocks._helpers() is blocks._helpers()


def test_where_no_thread_starts_the_work_is_done_all_the_same(monkeypatch):
    class Refusing:
        def submit(self, *arguments):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocks, "threads", lambda: 2)
    monkeypatch.setattr(blocks, "_helpers", Refusing)
    assert over(cut(3, 1), lambda part: part.start) == [0, 1, 2]


def test_an_error_in_a_block_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(blocks, "threads", lambda: 2)

    def fail(part):
        if part.start >= 6:
            raise ValueError("block 6")
        return 0

    with pytest.raises(ValueError, match="block 6"):
        over(cut(8, 1), fail)


def test_parts_are_added_in_their_order():
    parts = [np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([0.5, 0.25])]
    np.testing.assert_array_equal(added(parts), [11.5, 22.25])


def test_a_workspace_is_kept_for_each_name_and_type_and_grows():
    first = workspace("test", (3, 4), np.float32)
    first[...] = 7
    assert (workspace("test", (2, 6), np.float32) == 7).all()
    assert np.shares_memory(first, workspace("test", (5,), np.float32))
    assert not np.shares_memory(first, workspace("test", (3, 4), np.float64))
    assert not np.shares_memory(first, workspace("other", (3, 4), np.float32))
    assert workspace("test", (100, 100), np.float32).shape == (100, 100)


FAULTS_OF_STEPS = """
import resource, sys
import numpy as np
from scratch.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    arrays = [np.ones(2**20, np.float32) for _ in range(30)]  # 4 MB each, all alive together

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not memory.keep_freed_memory(), reason="the C library is not glibc")
def test_a_step_finds_the_memory_that_the_last_one_freed():
    def page_faults(argument):
        run = [sys.executable, "-c", FAULTS_OF_STEPS, argument]
        return int(subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ).stdout)

    assert page_faults("keep") < 100 < page_faults("not")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory.keep_freed_memory.cache_clear()
    assert memory.keep_freed_memory() is False
    memory.keep_freed_memory.cache_clear()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize(("m", "k", "n"), [(7, 5, 4), (4, 5, 7), (6, 2, 6), (1, 9, 2), (2, 0, 3)])
def test_products_in_blocks_are_the_products(m, k, n, threads, monkeypatch, rng):
    monkeypatch.setattr(blocks, "LARGE", 0)
    for dtype in (np.float32, np.float64):
        a, b = rng.standard_normal((k, m)).astype(dtype).T, rng.standard_normal((n, k)).astype(dtype).T
        pairs = [(a, b), (b.T, b), (b, b.T)]
        with own_threads(threads):
            found = [product(a, b), *products(*pairs)]
        for (left, right), y in zip([(a, b), *pairs], found, strict=True):
            assert y.dtype == dtype
            limit = 8 * max(1, left.shape[1]) * 10 * np.finfo(dtype).eps
            np.testing.assert_allclose(y, left.astype(np.float64) @ right, rtol=0, atol=limit)


def test_sizes_and_threads_alone_decide_whether_a_product_is_cut(monkeypatch, rng):
    cuts = []
    monkeypatch.setattr(blocks, "over", lambda parts, function: cuts.append(len(parts)))
    monkeypatch.setattr(blocks, "LARGE", 64)
    small, large = (rng.standard_normal((4, k)) for k in (3, 4))
    product(large, large.T)  # BLAS has its own threads here
    with own_threads(2, blas=2):
        product(large, large.T)
    with own_threads(1):
        product(large, large.T)
    with blas_threads(1), own_threads(2), blas_threads(1):  # as in a shard
        product(large, large.T)
    with own_threads(2):
        product(small, small.T)
    assert cuts == []
    with own_threads(2):
        product(large, large.T)
    with own_threads(4):
        product(large, large.T)
        products((large, large.T), (large, large.T))
    assert cuts == [2, 4, 4]
    with own_threads(2):
        products((small, small.T), (small, small.T))  # large together
    assert cuts == [2, 4, 4, 2]


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_a_product_is_cut_by_the_threads_that_are_given_not_by_the_cores(cores, monkeypatch, rng):
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    monkeypatch.setattr(blocks, "LARGE", 0)
    seen = []
    monkeypatch.setattr(blocks, "over", lambda parts, function: seen.append(parts))
    with own_threads(3):
        product(rng.standard_normal((9, 2)), rng.standard_normal((2, 4)))
    assert [len(parts) for parts in seen] == [3]


@pytest.mark.parametrize("of_x", [True, False])
@pytest.mark.parametrize("of_weight", [True, False])
def test_a_linear_layer_in_blocks_gives_the_same(of_x, of_weight, monkeypatch, rng):
    found = []
    values = [rng.standard_normal(shape) for shape in ((3, 4, 5), (7, 5), (7,), (3, 4, 7))]
    for large in (2**60, 0):
        monkeypatch.setattr(blocks, "LARGE", large)
        x, weight, bias = (Tensor(value.copy(), requires_grad=True) for value in values[:3])
        x.requires_grad, weight.requires_grad = of_x, of_weight
        with own_threads(2):
            y = linear(x, weight, bias)
            (y * values[3]).sum().backward()
        found.append((y.data, x.grad, weight.grad, bias.grad))
    for plain, cut_up, wanted in zip(*found, (True, of_x, of_weight, True), strict=True):
        assert (plain is None) == (cut_up is None) == (not wanted)
        if wanted:
            np.testing.assert_allclose(cut_up, plain, rtol=0, atol=100 * np.finfo(np.float64).eps)
