"""A batch in shards gives the loss, gradients, buffers and random numbers of the whole batch."""

import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scratch import Tensor, no_grad, parallel
from scratch.layers import BatchNorm1d, Dropout, Linear
from scratch.module import Module, Sequential, observe
from scratch.parallel import ShardedLoss, all_reduce, in_main_thread, replicate
from scratch.random import generator, stream
from scratch.tensor import Parameter

ROOT = Path(__file__).resolve().parent.parent
X = np.sin(np.arange(44.0) ** 2).reshape(11, 4)  # of no pattern, and the same for every test
Y = np.cos(np.arange(33.0) ** 2).reshape(11, 3)
IGNORED = np.arange(11) % 3 == 0


def make_model() -> Sequential:
    return Sequential(Linear(4, 5), BatchNorm1d(5), Linear(5, 3)).to(np.float64)


def squared_error(model: Module, x: np.ndarray, y: np.ndarray, ignored: np.ndarray):
    kept = Tensor(np.where(ignored, 0.0, 1.0)[:, None].astype(y.dtype))
    error = (model(Tensor(x)) - y) * kept
    return (error * error).sum(), float((~ignored).sum())


def gradients(model: Module, loss: Tensor) -> dict[str, np.ndarray]:
    loss.backward(np.asarray(1.7))
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize(("shards", "workers"), [(2, 2), (3, 2), (3, 1), (11, 2), (20, 4)])
def test_equals_the_whole_batch_also_with_unequal_weights_and_batch_statistics(shards, workers):
    whole, cut = make_model(), make_model()
    cut.load_state_dict(whole.state_dict())
    expected = ShardedLoss(whole, squared_error)(X, Y, IGNORED)
    came = ShardedLoss(cut, squared_error, shards, workers)(X, Y, IGNORED)
    np.testing.assert_allclose(came.data, expected.data, rtol=1e-12)
    wanted, got = gradients(whole, expected), gradients(cut, came)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    for (name, a), (_, b) in zip(whole.named_buffers(), cut.named_buffers(), strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-12, err_msg=name)


def test_a_mean_of_means_would_be_noticed():
    """The planted fault: shards of unequal weight averaged as if they were equal."""
    model = make_model().eval()
    parts = [squared_error(model, *part) for part in zip(*(np.array_split(a, 2) for a in (X, Y, IGNORED)), strict=True)]
    wrong = np.mean([total.item() / weight for total, weight in parts])
    assert abs(wrong - ShardedLoss(model, squared_error, 2)(X, Y, IGNORED).item()) > 1e-3


def test_workers_change_nothing():
    model = make_model()
    results = []
    for workers in (1, 2, 3):
        model.zero_grad()
        results.append(gradients(model, ShardedLoss(model, squared_error, 3, workers)(X, Y, IGNORED)))
    for name, gradient in results[0].items():
        assert np.array_equal(results[1][name], gradient) and np.array_equal(results[2][name], gradient)


def test_gradients_accumulate_as_without_shards():
    model = make_model().eval()
    sharded = ShardedLoss(model, squared_error, 2)
    sharded(X, Y, IGNORED).backward()
    once = [p.grad.copy() for p in model.parameters()]
    for _, own in sharded.replicas[1].parameters:
        own.grad = np.ones(own.shape)  # as a step leaves them that fails in another shard
    sharded(X, Y, IGNORED).backward()
    for p, g in zip(model.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-12)


def test_a_shared_parameter_and_a_frozen_one(rng):
    class Tied(Module):
        def __init__(self):
            self.first, self.second = Linear(4, 4), Linear(4, 4)
            self.second.weight = self.first.weight
            self.scale = Parameter(np.ones(4))

        def forward(self, x):
            return self.second(self.first(x) * self.scale)

    model = Tied().to(np.float64)
    y = rng.standard_normal((11, 4))
    sharded = ShardedLoss(model, squared_error, 2)
    model.scale.requires_grad = False
    sharded(X, y, IGNORED).backward()
    got = model.first.weight.grad
    assert model.scale.grad is None
    assert not sharded.replicas[0].model.scale.requires_grad  # so that nothing was computed for it either
    model.zero_grad()
    ShardedLoss(model, squared_error)(X, y, IGNORED).backward()
    np.testing.assert_allclose(got, model.first.weight.grad, rtol=1e-11)


def test_replicas_share_arrays_and_own_gradients():
    model = make_model()
    for p in model.parameters():
        p.grad = np.ones(p.shape)
    replica = replicate(model)
    for p, r in zip(model.parameters(), replica.parameters(), strict=True):
        assert r is not p and r.data is p.data and r.grad is None
    for b, r in zip(model.buffers(), replica.buffers(), strict=True):
        assert r is not b and r.data is b.data


def test_training_mode_dtype_and_no_grad_reach_the_shards():
    model = make_model()
    sharded = ShardedLoss(model, squared_error, 2)
    before = model.state_dict()["1.running_mean"].copy()
    model.eval()
    with no_grad():
        loss = sharded(X, Y, IGNORED)
    assert not loss.requires_grad
    assert np.array_equal(model.state_dict()["1.running_mean"], before)
    expected = squared_error(model, X, Y, IGNORED)
    np.testing.assert_allclose(loss.item(), expected[0].item() / expected[1], rtol=1e-12)
    model.to(np.float32)
    assert sharded(X.astype(np.float32), Y.astype(np.float32), IGNORED).dtype == np.float32


def test_dropout_is_a_function_of_seed_step_and_shard_whatever_the_threads():
    model = Sequential(Linear(4, 6), Dropout(0.5), Linear(6, 3)).to(np.float64)

    def run(workers: int, step: int) -> float:
        with stream(3, step):
            return ShardedLoss(model, squared_error, 3, workers)(X, Y, IGNORED).item()

    assert run(1, 0) == run(3, 0) == run(2, 0)
    assert run(1, 0) != run(1, 1)


def test_each_shard_draws_from_its_own_stream():
    drawn: dict[int, float] = {}

    def draw(model, x, y, ignored):
        drawn[len(x)] = generator().random()
        return squared_error(model, x, y, ignored)

    with stream(5, 9):
        ShardedLoss(make_model().eval(), draw, 2)(X, Y, IGNORED)
    for shard, rows in ((1, 6), (2, 5)):
        with stream(5, 9, shard):
            assert drawn[rows] == generator().random()


class Failing(Module):
    """Fails in the shard of `rows` rows, after or before it has met the others."""

    def __init__(self, rows: int, meet_first: bool):
        self.rows, self.meet_first = rows, meet_first
        self.weight = Parameter(np.ones(4))

    def forward(self, x):
        if self.meet_first:
            all_reduce(np.ones(1))
        if len(x) == self.rows:
            raise ValueError("this shard failed")
        all_reduce(np.ones(1))
        return x * self.weight


@pytest.mark.parametrize("rows", [6, 5])
@pytest.mark.parametrize("meet_first", [False, True])
def test_a_failing_shard_ends_the_step_with_its_own_error(rows, meet_first):
    def loss(model, x, y):
        return model(Tensor(x)).sum(), 1.0

    sharded = ShardedLoss(Failing(rows, meet_first), loss, 2)
    for _ in range(2):  # and the next step starts afresh
        with pytest.raises(ValueError, match="this shard failed"):
            sharded(X, Y)


def test_shards_that_meet_unequally_often_are_told_apart_from_a_hang():
    def loss(model, x, y):
        if len(x) == 6:
            all_reduce(np.ones(1))
        return model(Tensor(x)).sum(), 1.0

    with pytest.raises(ValueError, match="all_reduce a different number of times"):
        ShardedLoss(make_model().eval(), loss, 2)(X, Y)


def test_all_reduce_adds_in_the_order_of_the_shards_and_leaves_arrays_alone_outside():
    found = {}

    def loss(model, x, y):
        a, b = all_reduce(x.sum(axis=0), np.asarray(float(len(x))))
        (c,) = all_reduce(b * 2)
        found[len(x)] = a, b, c
        return model(Tensor(x)).sum(), 1.0

    ShardedLoss(make_model().eval(), loss, 3, 1)(X, Y)
    for a, b, c in found.values():
        np.testing.assert_allclose(a, X.sum(axis=0), rtol=1e-12)
        assert b == 11 and c == 66
    x = np.ones(3)
    assert all_reduce(x)[0] is x


def test_in_main_thread_runs_once_and_after_the_shards():
    calls = []

    def loss(model, x, y):
        in_main_thread(lambda: calls.append((len(x), threading.current_thread())))
        assert not calls
        return model(Tensor(x)).sum(), 1.0

    ShardedLoss(make_model().eval(), loss, 2)(X, Y)
    assert calls == [(6, threading.main_thread())]
    in_main_thread(lambda: calls.append("at once"))
    assert calls[-1] == "at once"


def test_without_threads_the_shards_run_one_after_the_other(monkeypatch):
    def refuse(self, *args):
        raise RuntimeError("can't start new thread")

    model = Sequential(Linear(4, 5), Linear(5, 3)).to(np.float64)
    expected = ShardedLoss(model, squared_error, 3)(X, Y, IGNORED).item()
    monkeypatch.setattr(parallel.ThreadPoolExecutor, "submit", refuse)
    sharded = ShardedLoss(model, squared_error, 3)
    loss = sharded(X, Y, IGNORED)
    loss.backward()
    assert loss.item() == expected and sharded._pool is None
    with pytest.raises(ValueError, match="use shards=1"):
        ShardedLoss(make_model(), squared_error, 3)(X, Y, IGNORED)


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_threads_follow_the_environment_and_the_limit(threads):
    """A new process, for the matrix library reads the variables when it is loaded."""
    code = (
        "from scratch.parallel import available_blas_threads as n, blas_threads, cores\n"
        "before = n()\n"
        "with blas_threads(1): inside = n()\n"
        "print(before, inside, n(), cores())"
    )
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    before, inside, after, cores = map(int, done.stdout.split())
    assert before == after == min(threads, cores) and inside == 1


@pytest.mark.parametrize(("cores", "shards", "workers"), [(1, 3, 1), (2, 3, 2), (8, 3, 3)])
def test_as_many_shards_run_at_a_time_as_there_are_cores(cores, shards, workers, monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    sharded = ShardedLoss(make_model(), squared_error, shards)
    assert (sharded.workers, len(sharded.replicas)) == (workers, shards)
    sharded(X, Y, IGNORED)
    assert sharded._pool._max_workers == shards - 1  # the first runs in the calling thread
    assert ShardedLoss(make_model(), squared_error).replicas == []


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_shards_compute_at_a_time_than_there_are_workers(workers):
    lock, running, most = threading.Lock(), [0], []

    def count(change):
        with lock:
            running[0] += change
            most.append(running[0])

    def loss(model, x, y, ignored):
        for _ in range(3):
            count(1)
            time.sleep(0.002)
            count(-1)
            all_reduce(x.sum(axis=0))
        return squared_error(model, x, y, ignored)

    ShardedLoss(make_model().eval(), loss, 4, workers)(X, Y, IGNORED)
    assert max(most) <= workers


def test_a_shard_that_reads_late_still_finds_what_the_others_brought(monkeypatch):
    wait = threading.Barrier.wait

    def slow(barrier):
        wait(barrier)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.02)  # meanwhile the first shard has brought its next arrays

    monkeypatch.setattr(threading.Barrier, "wait", slow)
    found = []

    def loss(model, x, y):
        found.append([float(all_reduce(np.asarray(10.0**i))[0]) for i in range(3)])
        return model(Tensor(x)).sum(), 1.0

    ShardedLoss(make_model().eval(), loss, 2, 2)(X, Y)
    assert found == [[2, 20, 200]] * 2


class Controller:
    """As threadpoolctl's, of two libraries with 5 and 3 threads."""

    def __init__(self):
        self.lib_controllers = [SimpleNamespace(num_threads=5), SimpleNamespace(num_threads=3)]
        self.limits = []

    def limit(self, limits, user_api):
        self.limits.append((limits, user_api))
        return nullcontext()


def test_matrix_products_have_the_fewest_threads_that_a_library_or_the_cores_allow(monkeypatch):
    controller = Controller()
    monkeypatch.setattr(parallel, "_controller", lambda: controller)
    for cores, threads in ((8, 3), (2, 2)):
        monkeypatch.setattr(parallel, "cores", lambda cores=cores: cores)
        assert parallel.available_blas_threads() == threads
    with parallel.blas_threads(4):
        assert controller.limits == [(4, "blas")]
    ShardedLoss(make_model(), squared_error, 2)(X, Y, IGNORED)
    assert controller.limits == [(4, "blas"), (1, "blas")]


def test_where_threads_of_the_matrix_library_are_not_controlled_shards_run_one_at_a_time(monkeypatch):
    monkeypatch.setattr(parallel, "_controller", lambda: None)
    monkeypatch.setattr(parallel, "_blas_is_controllable", parallel._blas_is_controllable.__wrapped__)
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    assert parallel.available_blas_threads() == 4
    with pytest.warns(UserWarning, match="shards run one at a time"):
        assert ShardedLoss(make_model(), squared_error, 3, 2).workers == 1
    assert ShardedLoss(make_model(), squared_error, 3, 1)(X, Y, IGNORED).requires_grad  # asks for nothing, no warning


def test_the_controller_is_none_where_it_controls_nothing(monkeypatch):
    find = parallel._controller.__wrapped__
    for info in ([], ["OpenBLAS"]):
        found = SimpleNamespace(info=lambda info=info: info)
        every = SimpleNamespace(select=lambda user_api, found=found: found)
        module = SimpleNamespace(ThreadpoolController=lambda every=every: every)
        monkeypatch.setitem(sys.modules, "threadpoolctl", module)
        assert find() is (found if info else None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)  # not installed
    assert find() is None


def test_cores_are_those_of_this_process_or_else_of_the_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 7} if pid == 0 else {2}, raising=False)
    assert parallel.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for told, cores in ((5, 5), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda told=told: told)
        assert parallel.cores() == cores


def test_freed_memory_is_kept_for_the_next_step(monkeypatch):
    calls = []
    monkeypatch.setattr(parallel, "keep_freed_memory", lambda: calls.append("kept"))
    ShardedLoss(make_model(), squared_error)
    assert calls == ["kept"]


def test_an_observer_sees_the_modules_of_every_shard():
    seen = []
    with observe(lambda module, inputs, output: seen.append(type(module).__name__)):
        ShardedLoss(make_model(), squared_error, 2)(X, Y, IGNORED)
    assert seen.count("BatchNorm1d") == 2


@pytest.mark.parametrize(
    ("arguments", "batch", "message"),
    [
        ({"shards": 0}, (X, Y, IGNORED), "at least one shard and one worker, got 0 and"),
        ({"shards": 2, "workers": 0}, (X, Y, IGNORED), "got 2 and 0"),
        ({"shards": 2}, (X, Y[:5], IGNORED), r"arrays of one length above 0, got lengths \[11, 5, 11\]"),
        ({"shards": 2}, (X[:0], Y[:0], IGNORED[:0]), r"got lengths \[0, 0, 0\]"),
        ({"shards": 2}, (X, Y, np.ones(11, bool)), "weight .* must be above 0, got 0"),
        ({"shards": 1}, (X, Y, np.ones(11, bool)), "weight .* must be above 0, got 0"),
    ],
)
def test_wrong_use_is_named(arguments, batch, message):
    with pytest.raises(ValueError, match=message):
        ShardedLoss(make_model(), squared_error, **arguments)(*batch)


def blas_now():
    return [library.num_threads for library in parallel._controller().lib_controllers]


@pytest.mark.skipif(parallel._controller() is None, reason="the matrix library's threads can't be controlled here")
def test_inside_own_threads_a_product_has_one_thread_and_an_operation_as_many_as_it_says():
    before = blas_now()
    assert parallel.threads() == parallel.available_blas_threads()
    with parallel.own_threads(3):
        assert (parallel.threads(), set(blas_now())) == (3, {1})
        with parallel.blas_threads(1):
            assert parallel.threads() == 1
        assert parallel.threads() == 3
    with parallel.own_threads(3, blas=2):
        assert (parallel.threads(), set(blas_now())) == (3, {2})
    assert parallel.threads() == parallel.available_blas_threads() and blas_now() == before


def test_a_shard_has_one_thread_for_its_operations():
    seen = []

    def loss(model, x, y):
        seen.append(parallel.threads())
        return model(Tensor(x)).sum(), 1.0

    with parallel.own_threads(4):
        ShardedLoss(make_model().eval(), loss, 2, 2)(X, Y)
        assert parallel.threads() == 4
        ShardedLoss(make_model().eval(), loss, 1)(X, Y)
    assert seen == [1, 1, 4]


def test_a_limit_that_holds_already_is_not_set_again(monkeypatch):
    """Setting it takes as long as a small product."""
    controller = Controller()
    monkeypatch.setattr(parallel, "_controller", lambda: controller)
    for library in controller.lib_controllers:
        library.num_threads = 1
    with parallel.own_threads(2), parallel.blas_threads(1):
        assert controller.limits == [] and parallel.threads() == 1
