"""Blocks: how they are cut, that threads change no bit of a result, and that memory stays where it was freed."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from scratch import blocks, memory
from scratch.blocks import added, cut, over, workspace

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
    monkeypatch.setattr(blocks, "available_blas_threads", lambda: threads)
    assert over(cut(count, 1), lambda part: part.start) == list(range(count))


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_run_on_several_threads_only_where_there_are_some(parts, monkeypatch):
    def names():
        return set(over(cut(parts, 1), lambda part: threading.current_thread().name))

    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 1)
    assert names() == {threading.current_thread().name}
    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)
    assert len(names()) > 1


def test_one_part_stays_in_the_calling_thread(monkeypatch):
    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)
    assert over([slice(0, 3)], lambda part: threading.current_thread()) == [threading.current_thread()]


def test_threads_have_one_matrix_thread_each_and_memory_is_kept(monkeypatch):
    told = []

    @contextmanager
    def limit(count):
        told.append(count)
        yield

    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)
    monkeypatch.setattr(blocks, "blas_threads", limit)
    monkeypatch.setattr(blocks, "keep_freed_memory", lambda: told.append("kept"))
    over(cut(4, 1), lambda part: None)
    assert told == ["kept", 1]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3)])
def test_the_calling_thread_works_too_so_one_thread_fewer_than_cores_is_made(cores, threads, monkeypatch):
    monkeypatch.setattr(blocks, "cores", lambda: cores)
    monkeypatch.setattr(blocks, "_pool", None)
    assert blocks._threads()._max_workers == threads
    assert blocks._threads() is blocks._threads()


def test_where_no_thread_starts_the_work_is_done_all_the_same(monkeypatch):
    class Refusing:
        def submit(self, *arguments):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)
    monkeypatch.setattr(blocks, "_threads", Refusing)
    assert over(cut(3, 1), lambda part: part.start) == [0, 1, 2]


def test_an_error_in_a_block_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)

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
