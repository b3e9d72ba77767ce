"""What befalls runs: kill -9 at any moment, a full disk, two in one folder, Ctrl-C while loading, damaged files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratch.models.cnn import train as cnn
from scratch.models.mlp import train as mlp
from scratch.optim import AdamW
from scratch.parallel import blas_threads
from scratch.training import Run, RunStopped, checkpoint
from scratch.training.folder import CHECKPOINT, LOG, SETTINGS

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
TINY = {"hidden": (8,), "steps": 40, "batch_size": 16, "evaluate_every": 10, "save_every": 5, "warmup": 5}
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, POSIX signals and limits")


def train(folder: Path, **changes) -> None:
    """A whole run on one thread, as the processes here have one, too: then the bits are theirs."""
    settings = mlp.Settings(**{**TINY, **changes})
    with blas_threads(1):
        run = Run.create("mlp", settings, folder=folder)
        try:
            mlp.train(settings, run)
        finally:
            run.close()


def assert_same(folder: Path, undisturbed: Path) -> None:
    """Every array, all facts (generator, place in the data, best value), the log: bit for bit, but for times."""
    (facts, arrays), (expected_facts, expected) = (checkpoint.load(f / CHECKPOINT) for f in (folder, undisturbed))
    assert {**facts, "seconds": 0} == {**expected_facts, "seconds": 0}
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (folder / LOG).read_bytes() == (undisturbed / LOG).read_bytes()
    left = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert left == {".lock"}, "half-written files were left behind"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of the time of so short a run."""
    monkeypatch.setattr(mlp.pictures, "draw_all", lambda *arguments: [])
    monkeypatch.setattr(cnn.pictures, "draw_all", lambda *arguments: [])


def forked(*words: str) -> object:
    """What tests/kills.py found; it forks, which this process with its threads must not."""
    done = subprocess.run([sys.executable, "-m", "tests.kills", *words], cwd=ROOT, env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- kill -9 ----------------------------------------------------------------------------------------------------


@posix
def test_killed_at_twenty_random_moments_and_resumed_each_time(tmp_path):
    found = forked("kill", str(tmp_path), "0")
    print(found["phases"])
    assert found["kills"] == 20 and found["ends"] == [0, 0]
    assert found["phases"]["inside a checkpoint's bytes"] == found["phases"]["inside a line of the log"] == 3
    others = {"step", "log", "making a checkpoint", "replacing a file", "taking up", "beginning or end"}
    assert len(others & found["phases"].keys()) >= 3
    assert checkpoint.load(tmp_path / "run" / CHECKPOINT)[0]["step"] == 400
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_start_that_was_killed_before_it_wrote_anything_does_not_block_its_folder(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".settings.0123456789ab.tmp.json").write_text('{"mod')
    train(tmp_path, steps=5)
    (tmp_path / ".checkpoint.0123456789ab.tmp.safetensors").write_bytes(b"123")
    Run.resume(tmp_path).close()
    assert {path.name for path in tmp_path.glob(".*")} == {".lock"}


def test_a_folder_with_files_of_its_own_is_refused_and_stays_as_it_is(tmp_path):
    for name in (".bashrc", "notes.txt"):
        folder = tmp_path / name[1:3]
        folder.mkdir()
        (folder / name).touch()
        with pytest.raises(ValueError, match="exists and is not empty; `scratch resume"):
            train(folder)
        assert [path.name for path in folder.iterdir()] == [name]


# -- two at once ------------------------------------------------------------------------------------------------


@posix
def test_of_two_that_start_in_one_folder_one_trains_and_the_other_says_why_not(tmp_path):
    """With seeds 0 and 1, so that anything of the loser in the winner's files would show."""
    for seed in (0, 1):
        train(tmp_path / f"seed{seed}", seed=seed, batch_size=128, evaluate_every=20)
    *starts, resumed = forked("race", str(tmp_path))
    assert len(starts) == 4
    for each in starts:
        folder, seed = Path(each["folder"]), each["codes"].index(0)
        assert sorted(each["codes"]) == [0, 2]
        assert each["told"][seed] == ""
        assert re.fullmatch(r"error: (another process is training in .*; wait for it, or start a new run|"
                            r".* exists and is not empty; `scratch resume .*` continues a run)\n",
                            each["told"][1 - seed])  # fmt: skip
        assert json.loads((folder / SETTINGS).read_text())["settings"]["seed"] == seed
        assert_same(folder, tmp_path / f"seed{seed}")
    # The second to take up a run may come when the first has finished, and then only writes the report again.
    assert 0 in resumed["codes"] and set(resumed["codes"]) <= {0, 2}
    assert all(not told or "another process is training in" in told for told in resumed["told"])
    assert_same(Path(resumed["folder"]), tmp_path / "seed0")


# -- a full disk ------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from scratch.cli import main
from scratch.models.mlp import pictures
pictures.draw_all = lambda *arguments: []
if int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def command(limit: int, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", LIMITED, str(limit), *words], cwd=ROOT, env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip


FIELDS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "hidden"] + ["--hidden", "8"]


@posix
def test_files_that_may_not_grow_lose_nothing(tmp_path):
    """The system refuses every byte beyond a limit, in the middle of a write, as a quota does: that of the checkpoint
    once it holds the best weights, too; then, with the disk still as full, that of the first after the resume."""
    train(tmp_path / "whole")
    size = (tmp_path / "whole" / CHECKPOINT).stat().st_size
    first = command(size - 9000, "train", "mlp", "--folder", str(tmp_path / "run"), *FIELDS)
    again = command(size - 9000, "resume", str(tmp_path / "run"))
    for failed in (first, again):
        assert failed.returncode == 1, failed.stderr
        assert re.fullmatch(r"error: the run failed after 10 steps: \[Errno 27\] File too large; "
                            r"go on with: scratch resume .*/run\n", failed.stderr)  # fmt: skip
        assert checkpoint.load(tmp_path / "run" / CHECKPOINT)[0]["step"] == 5
    done = command(0, "resume", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", tmp_path / "whole")


@posix
def test_a_log_that_may_not_grow_loses_nothing(tmp_path):
    """The checkpoints of 42 weights are smaller than the log becomes, which ends in a part of a line."""
    train(tmp_path / "whole", data="two_moons", evaluate_every=300, steps=300, save_every=100)
    limit = (tmp_path / "whole" / LOG).stat().st_size * 2 // 3 + 7
    words = [word for word in FIELDS if not word.startswith(("--steps", "--evaluate", "--save"))]
    more = ["--data", "two_moons", "--steps", "300", "--evaluate-every", "300", "--save-every", "100"]
    failed = command(limit, "train", "mlp", "--folder", str(tmp_path / "run"), *words, *more)
    assert failed.returncode == 1, failed.stderr
    assert re.fullmatch(r"error: the run failed after \d+ steps: \[Errno 27\] File too large; go on with: .*\n",
                        failed.stderr)  # fmt: skip
    assert (tmp_path / "run" / LOG).stat().st_size == limit
    assert checkpoint.load(tmp_path / "run" / CHECKPOINT)[0]["step"] in (100, 200)
    done = command(0, "resume", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True)
    except OSError:
        pytest.skip("this system mounts nothing")
    if done.returncode:
        pytest.skip("only root may mount a file system of its own")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_loses_nothing(tmp_path, small_disk):
    train(tmp_path / "whole")
    size = (tmp_path / "whole" / CHECKPOINT).stat().st_size
    (small_disk / "somebody's").write_bytes(bytes(400_000 - 3 * size // 2))  # room for one checkpoint, not for two
    failed = command(0, "train", "mlp", "--folder", str(small_disk / "run"), *FIELDS)
    assert failed.returncode == 1, failed.stderr
    assert re.fullmatch(r"error: the run failed after 1?[05] steps: \[Errno 28\] No space left on device; "
                        r"go on with: scratch resume .*/run\n", failed.stderr)  # fmt: skip
    assert checkpoint.load(small_disk / "run" / CHECKPOINT)[0]["step"] in (5, 10)
    again = command(0, "resume", str(small_disk / "run"))  # still full: the same end, and still nothing lost
    assert again.returncode == 1 and "[Errno 28]" in again.stderr
    (small_disk / "somebody's").unlink()
    done = command(0, "resume", str(small_disk / "run"))
    assert done.returncode == 0, done.stderr
    assert_same(small_disk / "run", tmp_path / "whole")


# -- numbers that are not finite --------------------------------------------------------------------------------


def test_a_convolutional_run_in_two_shards_names_step_layer_and_checkpoint(tmp_path, monkeypatch):
    """From step 7 on the weights of the second convolution are so large that its output overflows."""
    settings = cnn.Settings(widths=(2, 3), steps=20, batch_size=8, evaluate_every=5, save_every=5, shards=2)
    log = Run.log

    def overflowing(self, step, loss, **more):
        log(self, step, loss, **more)
        if step == 6:
            weights = {name: p for name, p in self._tracked["model"].named_parameters() if name.endswith("weight")}
            names.extend(weights)
            weights[names[1]].data[...] = 3e38

    names: list[str] = []
    monkeypatch.setattr(Run, "log", overflowing)
    run = Run.create("cnn", settings, folder=tmp_path / "run")
    with pytest.raises(RunStopped) as stop:
        cnn.train(settings, run)
    run.close()
    layer = names[1].removesuffix(".weight")
    assert re.fullmatch(rf"the loss is (nan|inf) at step 7; the first output that is not finite is that of "
                        rf"{re.escape(layer)}; the last good checkpoint is {re.escape(str(run.folder / CHECKPOINT))}",
                        str(stop.value))  # fmt: skip
    facts, arrays = checkpoint.load(run.folder / CHECKPOINT)
    assert facts["step"] == 5 and all(np.isfinite(array).all() for array in arrays.values())
    assert not stop.value.interrupted


def test_weights_spoiled_by_a_gradient_never_replace_good_ones(tmp_path, monkeypatch):
    """In the step before a checkpoint a gradient overflows although its loss was finite."""
    update = AdamW.step

    def overflowing(self):
        calls.append(1)
        if len(calls) == 15:
            self.param_groups[0]["params"][1].grad[...] = np.inf
        update(self)

    calls: list[int] = []
    monkeypatch.setattr(AdamW, "step", overflowing)
    with np.errstate(all="ignore"), pytest.raises(RunStopped) as stop:
        train(tmp_path / "run")
    assert str(stop.value) == (
        "model.layers.0.bias is not finite after 15 steps, though every loss was: a gradient overflowed; "
        f"the last good checkpoint is {tmp_path / 'run' / CHECKPOINT}"
    )
    assert checkpoint.load(tmp_path / "run" / CHECKPOINT)[0]["step"] == 10
    monkeypatch.undo()
    monkeypatch.setattr(mlp.pictures, "draw_all", lambda *arguments: [])
    run = Run.resume(tmp_path / "run")
    mlp.train(mlp.Settings(**TINY), run)
    run.close()
    train(tmp_path / "whole")
    assert_same(tmp_path / "run", tmp_path / "whole")
