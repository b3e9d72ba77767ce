"""Blocks: how they are cut, that threads change no bit of a result, and that memory stays where it was freed."""

import os
import subprocess
import sys
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


def test_no_rows_are_no_blocks():
    assert cut(0, 5) == []


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 16])
def test_over_calls_once_for_each_run_of_blocks_in_their_order(count, threads, monkeypatch):
    monkeypatch.setattr(blocks, "available_blas_threads", lambda: threads)
    seen = over(cut(count, 1), lambda run: [block.start for block in run])
    assert [start for run in seen for start in run] == list(range(count))
    assert len(seen) == 1 if threads == 1 else len(seen) == min(count, -(-count // -(-count // blocks.RUNS)))


def test_sums_over_blocks_are_the_same_on_two_threads_and_on_more_and_nearly_so_on_one(monkeypatch):
    numbers = np.random.default_rng(0).standard_normal(1000).astype(np.float32)

    def total(threads):
        monkeypatch.setattr(blocks, "available_blas_threads", lambda: threads)
        return added(over(cut(1000, 7), lambda run: sum(numbers[block].sum(keepdims=True) for block in run)))

    assert total(2) == total(8)
    np.testing.assert_allclose([total(1), total(2)], numbers.astype(np.float64).sum(), rtol=1e-4)


def test_where_no_thread_starts_the_work_is_done_all_the_same(monkeypatch):
    class Refusing:
        def submit(self, *arguments):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)
    monkeypatch.setattr(blocks, "_threads", Refusing)
    assert over(cut(6, 1), len) == [2, 2, 2]


def test_an_error_in_a_block_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(blocks, "available_blas_threads", lambda: 2)

    def fail(run):
        if run[0].start >= 6:
            raise ValueError("block 6")
        return 0

    with pytest.raises(ValueError, match="block 6"):
        over(cut(8, 1), fail)


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
