"""The pace of a run: its threads are those it began with, and a slow run is told why, once. Clocks are made up."""

import json

import numpy as np
import pytest

from scratch import parallel
from scratch.models.cnn import train as cnn
from scratch.models.mlp import train as mlp
from scratch.training import Run, RunStopped, checkpoint, run
from scratch.training.folder import CHECKPOINT, SETTINGS, read_settings
from scratch.training.pace import Pace, expected_rate
from scratch.training.settings import from_json, to_json

SMALL = {"widths": (2, 3), "steps": 6, "batch_size": 90, "evaluate_every": 3, "save_every": 3, "shards": 1}


class Time:
    """A clock that stands still between `passes`; this thread computes for a share of the seconds."""

    def __init__(self):
        self.now = self.computed = 0.0

    def passes(self, seconds: float, share: float = 1.0) -> None:
        self.now += seconds
        self.computed += share * seconds


def pace_of(expected: float | None) -> tuple[Pace, Time]:
    time = Time()
    return Pace(expected, "4 CPU cores", lambda: time.now, lambda: time.computed), time


def steps(pace: Pace, time: Time, count: int, seconds: float, share: float = 1.0, counts: bool = True) -> list[bool]:
    told = []
    for _ in range(count):
        pace.begin()
        time.passes(seconds, share)
        pace.end(counts)
        time.passes(100)  # between two steps: a checkpoint
        told.append(pace.slow())
    return told


def test_the_rate_is_that_of_steps_without_the_first_and_without_evaluations():
    pace, time = pace_of(None)
    assert pace.rate == 0.0
    steps(pace, time, 1, 9.0)
    assert pace.rate == 0.0
    steps(pace, time, 3, 0.5)
    steps(pace, time, 2, 60.0, counts=False)
    steps(pace, time, 1, 1.0)
    assert pace.rate == pytest.approx(4 / 2.5)


@pytest.mark.parametrize(
    ("expected", "seconds", "first"),
    [
        (10.0, 0.25, 20),  # 4 steps/s; 5 s are over after 20 counted steps
        (10.0, 0.21, 24),
        (10.0, 0.19, None),  # above half
        (10.0, 0.2, None),  # exactly half
        (None, 100.0, None),  # nothing is known
        (1.0, 6.0, 1),
    ],
)
def test_a_run_below_half_of_the_expected_rate_is_slow_once(expected, seconds, first):
    told = steps(*pace_of(expected), 60, seconds)
    assert [i for i, slow in enumerate(told) if slow] == ([] if first is None else [first])


def test_evaluations_and_checkpoints_make_no_run_slow():
    pace, time = pace_of(10.0)
    told = []
    for _ in range(40):
        told += steps(pace, time, 2, 0.1) + steps(pace, time, 1, 30.0, counts=False)
    assert not any(told)


@pytest.mark.parametrize(
    ("share", "threads", "variables", "words"),
    [
        (0.5, 2, {}, ["for 50 % of the time", "other programs use the cores", "scratch resume runs/x"]),
        (0.95, 1, {"OMP_NUM_THREADS": "1"}, ["1 of 2 cores", "OMP_NUM_THREADS may have"]),
        (0.95, 1, {}, ["1 of 2 cores", "it keeps what it began with"]),
        (0.95, 2, {}, ["battery", "hot"]),
    ],
)
def test_a_slow_run_is_told_the_likely_cause(share, threads, variables, words, monkeypatch):
    monkeypatch.setattr("scratch.training.pace.cores", lambda: 2)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    pace, time = pace_of(100.0)
    steps(pace, time, 50, 0.25, share)
    line = pace.why(threads, "scratch resume runs/x")
    assert "\n" not in line and "4.0 steps/s" in line and "100 on 4 CPU cores" in line
    assert all(word in line for word in words), line


EXPECTED = {"settings": {"steps": 600, "lr": 0.1, "evaluate_every": 50}, "minutes": 0.5, "machine": "2 CPU cores"}


@pytest.mark.parametrize(
    ("changes", "total", "rate"),
    [
        ({}, 600, 20.0),
        ({"steps": 90, "evaluate_every": 7, "seed": 3, "save_every": 1}, 90, 20.0),  # these change no step
        ({"lr": 0.2}, 600, None),
        ({}, 900, None),  # a second stage, whose steps are others
    ],
)
def test_the_expected_rate_is_that_of_runs_with_the_same_settings(changes, total, rate):
    settings = {"steps": 600, "lr": 0.1, "evaluate_every": 50, "seed": 0, **changes}
    assert expected_rate(settings, EXPECTED, total)[0] == (None if rate is None else pytest.approx(rate))
    assert expected_rate(settings, {}, total) == (None, "")


def slow_clock(monkeypatch) -> None:
    """Every step takes 10 s, of which its thread computes 4."""
    time = Time()

    class Slow(Pace):
        def __init__(self, expected, machine=""):
            super().__init__(expected, machine, lambda: time.now, lambda: time.computed)

        def end(self, counts=True):
            time.passes(10, 0.4)
            super().end(counts)

    monkeypatch.setattr(run, "Pace", Slow)


def test_a_slow_run_and_a_slow_resumed_run_say_so_once(tmp_path, monkeypatch, capsys):
    settings = mlp.Settings(hidden=(3,), steps=12, evaluate_every=4, save_every=5, batch_size=8)
    expected = {"default": {"settings": to_json(settings), "minutes": 0.01, "machine": "2 CPU cores", "bands": {},
                            "seeds": [0], "memory_mb": 1}}  # fmt: skip
    slow_clock(monkeypatch)
    log = Run.log

    def breaking(self, step, loss, **more):
        log(self, step, loss, **more)
        if step == 6:
            raise RunStopped("enough")

    monkeypatch.setattr(Run, "log", breaking)
    started = Run.create("mlp", settings, folder=tmp_path / "run", expected=expected)
    with pytest.raises(RunStopped):
        mlp.train(settings, started)
    started.close()
    monkeypatch.setattr(Run, "log", log)
    first = capsys.readouterr().out
    resumed = Run.resume(tmp_path / "run", expected=expected)
    mlp.train(settings, resumed)
    for output in (first, capsys.readouterr().out):
        assert output.count("steps/s, expected 20 on 2 CPU cores") == 1
        assert "40 % of the time" in output and f"scratch resume {tmp_path / 'run'}" in output
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps_per_second"] == pytest.approx(0.1)


# -- threads -----------------------------------------------------------------------------------------------------


def train_cnn(started: Run) -> None:
    try:
        cnn.train(from_json(cnn.Settings, started.document["settings"]), started)
    finally:
        started.close()


def machine(monkeypatch, cores: int) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: cores)


def test_a_run_records_one_thread_for_a_product_and_all_for_an_operation(tmp_path, monkeypatch):
    monkeypatch.setattr("scratch.training.folder.available_blas_threads", lambda: 7)
    Run.create("mlp", mlp.Settings(), folder=tmp_path / "run").close()
    document = read_settings(tmp_path / "run")
    assert (document["blas_threads"], document["threads"]) == (1, 7)
    with pytest.raises(ValueError, match="threads as 0"):
        (tmp_path / "run" / SETTINGS).write_text(json.dumps(document | {"threads": 0}))
        read_settings(tmp_path / "run")


def test_a_run_from_before_goes_on_with_its_blas_threads(tmp_path):
    created = Run.create("mlp", mlp.Settings(), folder=tmp_path / "run")
    created.close()
    old = {name: value for name, value in created.document.items() if name != "threads"} | {"blas_threads": 3}
    (tmp_path / "run" / SETTINGS).write_text(json.dumps(old))
    resumed = Run.resume(tmp_path / "run")
    resumed.close()
    with resumed.threads():
        assert parallel.threads() == 3


@pytest.mark.parametrize("there", [1, 8])
def test_a_run_that_goes_on_where_there_are_other_cores_ends_with_the_same_bits(there, tmp_path, monkeypatch):
    """A convolution outside of shards adds what its threads found, so their number is part of the sums."""
    found = {}
    monkeypatch.setattr("scratch.training.folder.available_blas_threads", lambda: 3)
    monkeypatch.setattr("scratch.models.cnn.pictures.draw_all", lambda *arguments, **more: [])
    for name, cores in (("whole", 3), ("moved", there)):
        machine(monkeypatch, 3)
        started = Run.create("cnn", cnn.Settings(**SMALL), folder=tmp_path / name)
        if name == "moved":
            log = Run.log

            def breaking(self, step, loss, log=log, **more):
                log(self, step, loss, **more)
                if step == 4:
                    raise RunStopped("enough")

            with monkeypatch.context() as patch, pytest.raises(RunStopped):
                patch.setattr(Run, "log", breaking)
                train_cnn(started)
            machine(monkeypatch, cores)
            started = Run.resume(tmp_path / name)
        train_cnn(started)
        found[name] = checkpoint.load(tmp_path / name / CHECKPOINT)[1]
    assert found["whole"].keys() == found["moved"].keys()
    for name, array in found["whole"].items():
        assert np.array_equal(array, found["moved"][name]), name
