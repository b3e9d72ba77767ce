"""Where runs are kept, what may lie in their folders, how signals end them, and two of them in one process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from scratch import random
from scratch.cli import main
from scratch.models.bert.search import passages
from scratch.models.mlp import train as mlp
from scratch.parallel import MOST_SHARDS, ShardedLoss
from scratch.training import Run, RunStopped, checkpoint, command, expectations, report
from scratch.training.folder import CHECKPOINT, LOCK, LOG, REPORT, RESULTS, SETTINGS, new_folder
from scratch.training.settings import from_json
from scratch.training.signals import stop_signals

ROOT = Path(__file__).resolve().parent.parent
TINY = {"hidden": (8,), "steps": 12, "batch_size": 16, "evaluate_every": 6, "save_every": 4, "warmup": 2}
FAST = ["--steps", "12", "--hidden", "8", "--batch-size", "16", "--evaluate-every", "6", "--save-every", "4"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links or signals of POSIX")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlp.pictures, "draw_all", lambda *arguments: [])


def start(folder: Path, **changes) -> None:
    settings = mlp.Settings(**{**TINY, **changes})
    run = Run.create("mlp", settings, folder=folder)
    try:
        mlp.train(settings, run)
    finally:
        run.close()


def resume(folder: Path) -> None:
    run = Run.resume(folder)
    try:
        mlp.train(from_json(mlp.Settings, run.document["settings"]), run)
    finally:
        run.close()


def assert_same(folder: Path, other: Path) -> None:
    (facts, arrays), (expected_facts, expected) = (checkpoint.load(f / CHECKPOINT) for f in (folder, other))
    assert {**facts, "seconds": 0} == {**expected_facts, "seconds": 0}
    assert {name: a.tobytes() for name, a in arrays.items()} == {name: a.tobytes() for name, a in expected.items()}
    assert (folder / LOG).read_bytes() == (other / LOG).read_bytes()


# -- where runs are kept ----------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("words", [[], ["--folder", "runs/a/b"]])
def test_a_folder_for_runs_that_is_none_is_an_error_at_once(words, capsys):
    Path("runs").symlink_to("/nonexistent/x")
    assert main(["train", "mlp", *FAST, *words]) == 2
    assert "error: runs: expected a folder for runs, found a link to /nonexistent/x" in capsys.readouterr().err
    Path("runs").unlink()
    Path("runs").write_text("mine")
    assert main(["train", "mlp", *FAST, *words]) == 2
    assert "error: runs: expected a folder for runs, found a file" in capsys.readouterr().err
    assert Path("runs").read_text() == "mine"


@posix
def test_a_link_to_a_folder_is_a_folder_and_a_link_to_nothing_or_itself_is_none(tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    Path("runs").symlink_to("disk")
    assert new_folder("mlp", Path("runs")).name == "mlp-1" and (tmp_path / "disk/mlp-1").is_dir()
    Path("loop").symlink_to("loop")
    Path("nothing").symlink_to("nowhere")
    for name in ("loop", "nothing"):
        assert main(["train", "mlp", *FAST, "--folder", name]) == 2
        assert f"error: {name}: expected a folder for runs, found a link to" in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_names_that_only_look_numbered_are_passed_over(tmp_path):
    for name in ("mlp-2", "mlp-7²", "mlp-5x", "mlp-3-old"):
        (tmp_path / name).mkdir()
    assert new_folder("mlp", tmp_path).name == "mlp-3"


@posix
def test_a_working_directory_that_is_gone_is_one_line_of_error(tmp_path):
    script = ("import os, sys; from scratch.cli import main; os.mkdir('d'); os.chdir('d'); os.rmdir('../d'); "
              "sys.exit(main(sys.argv[1:]))")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["train", "mlp", *FAST], ["resume", "x"], ["train", "mlp", "--folder", "x"]):
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode in (1, 2) and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


# -- what may lie in a run folder -------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("name", [SETTINGS, LOG, CHECKPOINT, REPORT, RESULTS, LOCK, "curves.png", "anything"])
@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_link_in_a_run_folder_is_refused_and_what_it_points_to_is_left_alone(name, target, tmp_path, capsys):
    if name == SETTINGS and target != "file":
        pytest.skip("then it is no run folder")
    Run.create("mlp", mlp.Settings(**TINY), folder=Path("run")).close()
    place = tmp_path / "mine"
    if target == "file":
        place.write_text((tmp_path / "run" / SETTINGS).read_text() if name == SETTINGS else "precious")
    elif target == "folder":
        place.mkdir()
    before = place.read_bytes() if target == "file" else None
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(place)
    assert main(["resume", "run"]) == 2
    told = capsys.readouterr().err
    assert f"{Path('run') / name} is a link to {place}" in told and told.count("\n") == 1
    assert not place.is_file() or place.read_bytes() == before
    assert target != "folder" or not list(place.iterdir())
    assert target != "nothing" or not place.exists()


@posix
def test_a_lock_that_is_a_link_is_refused_by_a_new_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"run.\.lock is a link to"):
        Run.create("mlp", mlp.Settings(**TINY), folder=Path("run"))
    assert not (tmp_path / "mine").exists()


@posix
def test_pipes_and_folders_in_the_place_of_files_are_refused():
    for make, found in ((os.mkfifo, "a pipe or a device"), (os.mkdir, "a folder")):
        folder = Path(f"run-{make.__name__}")
        Run.create("mlp", mlp.Settings(**TINY), folder=folder).close()
        make(folder / LOG)
        with pytest.raises(ValueError, match=f"{LOG}: expected a regular file, found {found}"):
            Run.resume(folder)


@posix
def test_files_with_a_second_name_keep_their_old_content_under_it(tmp_path):
    """A copy of hard links, as backups make it, does not change with the run."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(mlp, "evaluate", lambda *arguments: (_ for _ in ()).throw(OSError("plug")))
        start(Path("run"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path("run").iterdir():
        os.link(file, copy / file.name)
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    resume(Path("run"))
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before
    start(Path("whole"))
    assert_same(Path("run"), Path("whole"))


# -- settings that no run can have ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "9" * 20], f"seed must be at most {2**63 - 1}, got {'9' * 20}"),
        (["--seed", str(2**63)], f"seed must be at most {2**63 - 1}"),
        (["--shards", "1000000"], f"shards must be at most {MOST_SHARDS}, got 1000000"),
        (["--hidden", "0"], "hidden must be at least 1"),
        (["--hidden", "8", "9" * 30], "hidden must be at most 2147483647"),
        (["--steps", "9" * 30], "steps must be at most 2147483647"),
        (["--batch-size", "9" * 30], "batch_size must be at most 2147483647"),
        (["--weight-decay", "inf"], "weight_decay must be a finite number, got inf"),
    ],
)
@pytest.mark.parametrize("folder", [None, "made/for/it", "empty"])
def test_impossible_settings_leave_no_folder(words, message, folder, capsys):
    Path("empty").mkdir()
    assert main(["train", "mlp", *words, *(["--folder", folder] if folder else [])]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["empty"] and not list(Path("empty").iterdir())


def test_impossible_settings_in_a_run_folder_are_named(capsys):
    Run.create("mlp", mlp.Settings(**TINY), folder=Path("run")).close()
    document = json.loads(Path("run", SETTINGS).read_text())
    document["settings"]["seed"] = 10**20
    Path("run", SETTINGS).write_text(json.dumps(document))
    assert main(["resume", "run"]) == 2
    assert f"seed must be at most {2**63 - 1}" in capsys.readouterr().err
    assert Path("run", SETTINGS).exists()


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError("no"), OverflowError("no")])
def test_a_run_that_cannot_begin_leaves_no_folder_but_one_that_has_begun_stays(error, monkeypatch):
    done = [0]

    def failing(settings, run):
        run.track()
        run.done = done[0]
        raise error

    monkeypatch.setattr(mlp, "train", failing)
    assert main(["train", "mlp"]) in (1, 2) and not Path("runs").exists()
    Path("runs").mkdir()
    assert main(["train", "mlp"]) in (1, 2) and not list(Path("runs").iterdir())
    done[0] = 1
    assert main(["train", "mlp"]) in (1, 2) and Path("runs/mlp-1", SETTINGS).exists()
    done[0] = 0
    assert main(["resume", "runs/mlp-1"]) in (1, 2) and Path("runs/mlp-1", SETTINGS).exists()


def test_a_model_larger_than_the_machines_memory_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("scratch.memory.total_memory", lambda: 1_000_000)
    assert main(["train", "mlp", "--hidden", "512"]) == 1
    told = capsys.readouterr().err
    assert "error: not enough memory" in told and "407,050 parameters" in told and not Path("runs").exists()


def test_a_sharded_loss_refuses_more_threads_than_make_sense():
    with pytest.raises(ValueError, match=f"at most {MOST_SHARDS} shards, got {MOST_SHARDS + 1}"):
        ShardedLoss(mlp.MLP(2, (3,), 2, 0.0), mlp.summed_loss, MOST_SHARDS + 1)


# -- expected values --------------------------------------------------------------------------------------------

PART = {"settings": {"lr": 0.1}, "seeds": [0, 1], "bands": {"final loss": [0.1, 0.2]}, "result": "good", "minutes": 0.5,
        "memory_mb": 100, "machine": "2 CPU cores"}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"default": ', "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", r"expected an object with a part for each preset, found \[\]"),
        ('{"default": 3}', "expected default to be an object, found 3"),
        *((json.dumps({"default": {k: v for k, v in PART.items() if k != field}}), f"default: expected .* as {field}")
          for field in PART),
        *((json.dumps({"default": {**PART, field: wrong}}), f"default: expected .* as {field}, found")
          for field, wrong in [("settings", []), ("seeds", 3), ("seeds", ["0"]), ("bands", {"loss": 3}), ("bands", []),
                               ("bands", {"loss": [1]}), ("bands", {"loss": ["0", "1"]}), ("result", 1),
                               ("minutes", "x"), ("minutes", -1), ("minutes", float("nan")), ("minutes", True),
                               ("memory_mb", None), ("machine", 5)]),
    ],
)  # fmt: skip
def test_damaged_expected_values_are_named_before_any_training(content, message):
    with pytest.raises(ValueError, match=f"expected.json: .*{message}"):
        expectations.parse(content, "expected.json")


@pytest.mark.parametrize("words", [["train", "mlp", *FAST], ["list"], ["resume", "run"]])
def test_commands_name_the_damaged_file(words, monkeypatch, capsys, tmp_path):
    Run.create("mlp", mlp.Settings(**TINY), folder=Path("run")).close()
    real = resources.files
    (tmp_path / "models").mkdir()
    for content in (b'{"default": {}}', b"\xff"):
        (tmp_path / "models" / "expected.json").write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr(command.resources, "files",
                          lambda name: tmp_path / "models" if name == "scratch.models.mlp" else real(name))  # fmt: skip
            assert main(words) == 2
        told = capsys.readouterr().err
        assert str(tmp_path / "models" / "expected.json") in told and told.count("\n") == 1
    assert not Path("runs").exists()


def test_whole_expected_values_are_taken_and_incomplete_ones_never_end_a_report_with_a_key_error():
    assert expectations.parse(json.dumps({"default": PART}), "x") == {"default": PART}
    assert all(command.load_expected(name) for name in command.models())
    with pytest.raises(ValueError, match="as seeds, found no such field"):
        report.compare({"final loss": 0.15}, {"lr": 0.1}, {"settings": {"lr": 0.1}, "bands": {}})


# -- signals ----------------------------------------------------------------------------------------------------


def signalling(monkeypatch, step: int, *numbers: int, pause: float = 0.0) -> None:
    log = Run.log

    def stopping(self, number, loss, **more):
        log(self, number, loss, **more)
        if number == step:
            for each in numbers:
                os.kill(os.getpid(), each)
                time.sleep(pause)

    monkeypatch.setattr(Run, "log", stopping)


@posix
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_a_run_after_its_step_and_resume_has_the_same_bits(name, code, monkeypatch, capsys):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    start(Path("whole"))
    with monkeypatch.context() as patch:
        signalling(patch, 6, number)
        assert main(["train", "mlp", *FAST, "--warmup", "2", "--folder", "run"]) == code
    assert "stopped after 7 steps; go on with: scratch resume run\n" in capsys.readouterr().out
    assert signal.getsignal(number) is before
    assert checkpoint.load(Path("run", CHECKPOINT))[0]["step"] == 7
    assert main(["resume", "run"]) == 0
    assert_same(Path("run"), Path("whole"))


@posix
def test_a_second_sigterm_ends_the_process_at_once_and_one_told_twice_is_one(tmp_path):
    """GNU timeout sends SIGTERM to the process and to its group."""
    script = """
import os, signal, sys, time
from scratch.training.signals import stop_signals
with stop_signals() as stop:
    os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGHUP); time.sleep(0.01)
    print(stop.number, flush=True)
    os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)
    print("still here")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, f"{int(signal.SIGTERM)}\n"), done.stderr


@posix
def test_an_ignored_hangup_stays_ignored_and_threads_change_no_signals():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    seen = []

    def elsewhere():
        with stop_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@posix
def test_sigterm_ends_a_table_of_ablations_too(monkeypatch):
    from scratch.training.ablation import figures_of

    signalling(monkeypatch, 3, signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        figures_of("mlp", "default", mlp.Settings(**TINY), Path("runs"), mlp.train)
    assert end.value.code == 143


# -- two at once ------------------------------------------------------------------------------------------------


def test_two_trainings_in_two_threads_have_the_weights_of_their_seeds():
    """Every step waits for the other's, so that their draws are interleaved in the worst way."""
    for seed in (0, 1):
        start(Path(f"alone-{seed}"), seed=seed, dropout=0.2)
    together, log, errors = threading.Barrier(2), Run.log, []

    def meeting(self, step, loss, **more):
        together.wait(60)
        random.generator().random()  # what a model draws outside a stream
        log(self, step, loss, **more)

    def go(seed: int) -> None:
        try:
            start(Path(f"at-once-{seed}"), seed=seed, dropout=0.2)
        except BaseException as error:
            together.abort()
            errors.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log", lambda self, step, loss, **more: (random.generator().random(),
                                                                    log(self, step, loss, **more)))  # fmt: skip
        for seed in (0, 1):
            start(Path(f"drawing-{seed}"), seed=seed, dropout=0.2)
        patch.setattr(Run, "log", meeting)
        threads = [threading.Thread(target=go, args=(seed,)) for seed in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    for seed in (0, 1):
        assert_same(Path(f"at-once-{seed}"), Path(f"drawing-{seed}"))


def test_a_thread_with_a_seed_of_its_own_leaves_the_main_threads_numbers_alone():
    drawn = {}

    def elsewhere():
        drawn["shared"] = random.default_generator() is main_generator
        random.manual_seed(5)
        drawn["own"] = random.default_generator().random(3)
        random.set_state({**random.get_state(), "state": np.random.PCG64(7).state["state"]})
        drawn["restored"] = random.default_generator().random(3)

    main_generator = random.manual_seed(3)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert drawn["shared"]  # a thread that seeds nothing draws from the main generator, as before
    assert np.array_equal(drawn["own"], np.random.Generator(np.random.PCG64(5)).random(3))
    assert np.array_equal(drawn["restored"], np.random.Generator(np.random.PCG64(7)).random(3))
    assert np.array_equal(main_generator.random(3), np.random.Generator(np.random.PCG64(3)).random(3))


# -- no home, and lines of texts --------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("words", [["data"], ["data", "fetch", "mnist"], ["train", "mlp", "--data", "mnist"]])
def test_without_a_home_directory_data_commands_are_one_line_of_error(words, tmp_path):
    script = ("import pwd, sys\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
              "from scratch.cli import main; sys.exit(main(sys.argv[1:]))")  # fmt: skip
    bare = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "SCRATCH_DATA")}
    bare["PYTHONPATH"] = str(ROOT)
    for variables, message in (({}, "set SCRATCH_DATA"), ({"SCRATCH_DATA": "~no_such_user_x/d"}, "~no_such_user_x")):
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, env={**bare, **variables},
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode in (1, 2) and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    elsewhere = {**bare, "SCRATCH_DATA": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", script, "data"], cwd=tmp_path, env=elsewhere).returncode == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("inside", ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_search_counts_lines_as_editors_do(inside, end, tmp_path):
    (tmp_path / "x.txt").write_bytes(f"one{inside}still one{end}{end}target{end}".encode())
    assert [(p.line, p.text) for p in passages(tmp_path)] == [(1, f"one{inside}still one"), (3, "target")]


def test_a_run_stopped_says_its_code():
    assert (RunStopped("a").code, RunStopped("a", True).code, RunStopped("a", True, 15).code) == (1, 130, 143)
