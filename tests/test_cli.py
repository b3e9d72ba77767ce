"""The command line: what a newcomer types, right and wrong; never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scratch
from scratch.cli import COMMANDS, main
from scratch.models.mlp.train import Settings
from scratch.training import Run, RunStopped, checkpoint, command
from scratch.training.progress import typed

ROOT = Path(__file__).resolve().parent.parent
FAST = ["--steps", "20", "--hidden", "8", "--evaluate-every", "10", "--warmup", "2"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def run(*words: str) -> int:
    """The exit code, also where a parser ends the process itself."""
    try:
        return main(list(words))
    except SystemExit as end:
        return int(end.code or 0)


def test_help_and_version(capsys):
    assert run() == run("--help") == run("help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert run("--version") == 0
    assert capsys.readouterr().out == f"scratch {scratch.__version__}\n"


in_a_clone = pytest.mark.clone  # `scratch bench` needs benchmarks/ beside the package


@pytest.mark.parametrize("name", [*sorted(COMMANDS.keys() - {"bench"}), pytest.param("bench", marks=in_a_clone)])
def test_each_command_has_help(name, capsys):
    assert run(name, "--help") == 0
    assert f"usage: scratch {name}" in capsys.readouterr().out


def test_the_help_of_train_names_fields_presets_and_folder(capsys):
    assert run("train", "mlp", "--help") == 0
    text = capsys.readouterr().out
    assert "--hidden" in text and "Learning rate at its highest" in text and "--preset NAME" in text
    assert "--folder FOLDER" in text and "None" not in text


def test_from_training_to_report_and_sample(capsys, tmp_path):
    assert run("train", "mlp", *FAST) == 0
    text = capsys.readouterr().out
    assert "digits: 3,500 / 500 / 1,000" in text and "verdict  not comparable: hidden is [8]" in text
    assert "next     scratch sample mlp --run" in text
    document = json.loads((tmp_path / "runs/mlp-1/settings.json").read_text())
    assert document["model"] == "mlp" and document["settings"]["hidden"] == [8]

    assert run("report", "runs/mlp-1") == 0
    assert capsys.readouterr().out.startswith("# mlp, preset default\n")
    assert run("sample", "mlp", "--run", "runs/mlp-1", "--count", "3", "--picture", "seen.png") == 0
    text = capsys.readouterr().out
    assert text.count("predicted") == 3 and (tmp_path / "seen.png").exists()
    assert run("resume", "runs/mlp-1") == 0


def test_presets_choose_other_defaults_and_fields_come_on_top(tmp_path):
    assert run("train", "mlp", "--preset", "plane", "--steps", "25", "--folder", "here") == 0
    document = json.loads((tmp_path / "here/settings.json").read_text())
    assert document["preset"] == "plane"
    assert document["settings"]["data"] == "spirals" and document["settings"]["steps"] == 25
    assert (tmp_path / "here/training.gif").read_bytes().startswith(b"GIF8")
    assert (tmp_path / "here/training.gif").stat().st_size < 1_000_000


def test_samples_of_a_plane_model(capsys):
    assert run("train", "mlp", "--preset", "plane", "--steps", "25", "--folder", "here") == 0
    capsys.readouterr()
    assert run("sample", "mlp", "--run", "here", "--count", "2") == 0
    assert capsys.readouterr().out.count("point (") == 2


def test_the_shipped_weights_are_the_default(capsys):
    assert run("sample", "mlp", "--count", "50", "--seed", "1") == 0
    text = capsys.readouterr().out
    right = int(text.splitlines()[-1].split(" of ")[0])
    assert right >= 44


def test_lists(capsys):
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert "\nmlp " in listed and listed.startswith("autoencoder ")
    assert run("data") == 0
    text = capsys.readouterr().out
    assert "digits " in text and "CC BY-SA 3.0" in text and "shakespeare" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command 'trian'. Did you mean train?"),
        (["train", "mpl"], "there is no model 'mpl'. Did you mean mlp?"),
        (["train", "--steps", "3"], "scratch train needs a model first: autoencoder, bert, cnn, "),
        (["train", "mlp", "--preset", "quik"], "there is no preset 'quik'. Did you mean quick?"),
        (["train", "mlp", "--preset"], "--preset needs a name"),
        (["train", "mlp", "--stepps", "3"], "--steps"),
        (["train", "mlp", "--steps", "many"], "many"),
        (["train", "mlp", "--data", "moons"], "moons"),
        (["train", "mlp", "--steps", "0"], "steps must be at least 1, got 0"),
        (["train", "mlp", "--batch-size", "0"], "batch_size"),
        (["train", "mlp", "--lr", "-1", *FAST], "lr must be at least 0, got -1"),
        (["train", "mlp", "--lr", "nan"], "lr must be at least 0, got nan"),
        (["train", "mlp", "--lr", "inf"], "lr must be a number of at least 0, got inf"),
        (["train", "mlp", "--hidden", "8", "0"], "hidden must be at least 1 unit a layer, got 8 0"),
        (["train", "mlp", "--clip", "-1"], "clip must be at least 0, got -1"),
        (["train", "mlp", "--shift", "-1"], "shift must be at least 0, got -1"),
        (["train", "mlp", "--dropout", "1.5"], "1.5"),
        (["train", "mlp", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["sample", "mpl"], "there is no model 'mpl'. Did you mean mlp?"),
        (["sample", "mlp", "--count", "0"], "--count expected 1 to 1000, got 0"),
        (["sample", "mlp", "--seed", "-1"], "--seed expected a number of at least 0, got -1"),
        (["sample", "mlp", "--run", "nowhere"], "nowhere is no run folder"),
        (["sample", "mlp", "--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["resume", "nowhere"], "nowhere is no run folder: it has no settings.json"),
        (["report", "nowhere"], "nowhere is no run folder"),
        pytest.param(["bench", "mpl"], "there is no benchmark 'mpl'. Did you mean mlp?", marks=in_a_clone),
        pytest.param(["bench", "mlp", "--seconds", "inf"], "--seconds above 0", marks=in_a_clone),
        pytest.param(["bench", "mlp", "--json", "a/x.json"], "--json needs a folder that exists", marks=in_a_clone),
    ],
)
def test_mistakes_get_one_clear_message_and_exit_code_two(words, message, capfd):
    assert run(*words) == 2
    captured = capfd.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not Path("runs").exists(), "a run folder was left behind"


def test_a_run_that_is_not_finished(capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "execute", lambda module, settings, run: run.close() or 0)
        assert run("train", "mlp", "--folder", "here") == 0
    assert run("report", "here") == 0
    assert "is not finished; it logged nothing.\ngo on with: scratch resume here" in capsys.readouterr().out
    assert run("sample", "mlp", "--run", "here") == 2


def test_as_modules_and_on_a_plain_terminal(tmp_path):
    """`python -m scratch`, `python -m scratch.models.mlp.train`, ASCII output, NO_COLOR."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}

    def out(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("ascii")

    assert out("scratch", "--version") == f"scratch {scratch.__version__}\n"
    assert "\x1b" not in out("scratch.models.mlp.train", "--folder", "here", *FAST)
    assert "expected" in out("scratch", "report", "here")


def test_damaged_weights_are_refused(tmp_path, capfd):
    from scratch.weights import save_file

    save_file({"layers.0.weight": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors", {"model": "gpt"})
    assert run("sample", "mlp", "--weights", "other.safetensors") == 2
    assert "expected weights of mlp, found 'gpt'" in capfd.readouterr().err
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    assert run("sample", "mlp", "--weights", "cut.safetensors") == 2
    assert "cut.safetensors" in capfd.readouterr().err


# -- what a run meets -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close otherwise there")
@pytest.mark.parametrize("words", [["train", "mlp", *FAST], ["list"], ["resume", "--help"]])
def test_a_reader_that_goes_away_is_no_error(words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "scratch", *words], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment)  # fmt: skip
    process.stdout.close()
    process.stdout = None
    assert process.communicate()[1] == b"" and process.returncode in (0, 1)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device"), 1, "error: the run failed after 7 steps: [Errno 28] No space left on "
         f"device; go on with: scratch resume {typed('a b')}"),
        (MemoryError("Unable to allocate 9 PiB"), 1, "error: not enough memory: Unable to allocate 9 PiB"),
        (KeyboardInterrupt(), 130, f"interrupted; go on with: scratch resume {typed('a b')}"),
        (RunStopped("the loss is nan, in resume-1"), 1, ""),
        (RunStopped("stopped", interrupted=True), 130, ""),
    ],
)  # fmt: skip
def test_a_run_that_fails_says_so_and_lets_go_of_its_folder(error, code, message, capsys, monkeypatch):
    def failing(settings, run):
        run.done = 7
        raise error

    monkeypatch.setattr("scratch.models.mlp.train.train", failing)
    assert run("train", "mlp", "--folder", "a b") == code
    assert capsys.readouterr().err.strip() == message
    Run.resume(Path("a b")).close()


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(capsys, monkeypatch):
    """The third and every later file is refused at its last moment."""
    replace, names = os.replace, []

    def full(source, target):
        names.append(Path(target).name)
        if names.count("checkpoint.safetensors") > 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert run("train", "mlp", *FAST, "--save-every", "4", "--folder", "here") == 1
    assert "the run failed after 12 steps: [Errno 28]" in capsys.readouterr().err
    facts, _ = checkpoint.load(Path("here/checkpoint.safetensors"))
    assert facts["step"] == 8 and not list(Path("here").glob("*.tmp*"))
    monkeypatch.setattr("scratch.models.mlp.pictures.draw_all", lambda *arguments: [])
    assert run("resume", "here") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "expected the settings of a run as a JSON object, found 3"),
        ("{", "expected the settings of a run as JSON, found other text"),
        ({"preset": []}, "expected the settings of a run, found preset as []"),
        ({"started": None, "versions": 1}, "found versions as 1, started as None"),
        ({"blas_threads": -3}, "found blas_threads as -3"),
        ({"model": "mpl"}, "there is no model 'mpl'"),
        ({"settings": {"steps": 0}},
         "settings.json does not hold settings of the model mlp: steps must be at least 1, got 0"),  # fmt: skip
    ],
)
def test_damaged_settings_are_named_and_left_alone(text, message, capsys, monkeypatch):
    Run.create("mlp", Settings(), folder=Path("here")).close()
    file = Path("here/settings.json")
    file.write_text(text if isinstance(text, str) else json.dumps(json.loads(file.read_text()) | text))
    before = file.read_bytes()
    assert run("resume", "here") == 2
    assert message in capsys.readouterr().err
    assert run("report", "here") in (0, 2) and file.read_bytes() == before


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b'{"loss": 1}', b'{"step": "x", "loss": 1}', b'{"step": 1, "lo'])
def test_a_log_is_read_up_to_a_damaged_line(line, capsys):
    Run.create("mlp", Settings(), folder=Path("here")).close()
    Path("here/log.jsonl").write_bytes(b'{"step": 3, "loss": 1.5}\n' + line + b'\n{"step": 9, "loss": 1}\n')
    assert run("report", "here") == 0
    assert "reached step 4 with loss 1.5000" in capsys.readouterr().out


@in_a_clone
def test_bench_without_pytorch_and_with_one_that_is_broken(capfd, monkeypatch):
    (Path("torch")).mkdir()
    Path("torch/__init__.py").write_text("raise ImportError('libtorch is broken')")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "here")
    quick = ["bench", "mlp", "--rounds", "1", "--seconds", "0.01"]
    assert run(*quick) == 1
    told = capfd.readouterr().err
    assert "error: PyTorch, fused Adam failed: ImportError: libtorch is broken\n" in told and "Traceback" not in told
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(*quick, "--json", "figures.json") == 0
    text = capfd.readouterr().out
    assert "PyTorch is not installed" in text and "| scratch, two shards |" in text
    assert set(json.loads(Path("figures.json").read_text())["mlp"]) == {"scratch", "scratch, two shards"}
