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
from scratch.training import command

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


def test_each_command_has_help(capsys):
    for name in COMMANDS:
        if name != "bench":
            assert run(name, "--help") == 0
            assert f"usage: scratch {name}" in capsys.readouterr().out
    assert run("train", "mlp", "--help") == 0
    text = capsys.readouterr().out
    assert "--hidden" in text and "Learning rate at its highest" in text and "--preset NAME" in text


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
    assert capsys.readouterr().out.startswith("mlp ")
    assert run("data") == 0
    text = capsys.readouterr().out
    assert "digits " in text and "CC BY-SA 3.0" in text and "shakespeare" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command 'trian'. Did you mean train?"),
        (["train", "mpl"], "there is no model 'mpl'. Did you mean mlp?"),
        (["train", "--steps", "3"], "scratch train needs a model first: mlp"),
        (["train", "mlp", "--preset", "quik"], "there is no preset 'quik'. Did you mean quick?"),
        (["train", "mlp", "--preset"], "--preset needs a name"),
        (["train", "mlp", "--stepps", "3"], "--steps"),
        (["train", "mlp", "--steps", "many"], "many"),
        (["train", "mlp", "--data", "moons"], "moons"),
        (["train", "mlp", "--steps", "0"], "steps must be at least 1, got 0"),
        (["train", "mlp", "--batch-size", "0"], "batch_size"),
        (["train", "mlp", "--lr", "-1", *FAST], "lr must be a number of at least 0, got -1"),
        (["train", "mlp", "--dropout", "1.5"], "1.5"),
        (["train", "mlp", "--seed", "-1"], "a seed is a whole number"),
        (["sample", "mpl"], "there is no model 'mpl'. Did you mean mlp?"),
        (["sample", "mlp", "--count", "0"], "--count expected 1 to 1000, got 0"),
        (["sample", "mlp", "--run", "nowhere"], "nowhere is no run folder"),
        (["sample", "mlp", "--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["resume", "nowhere"], "nowhere is no run folder: it has no settings.json"),
        (["report", "nowhere"], "nowhere is no run folder"),
        (["bench", "mpl"], "there is no benchmark 'mpl'. Did you mean mlp?"),
    ],
)
def test_mistakes_get_one_clear_message_and_exit_code_two(words, message, capfd):
    assert run(*words) == 2
    captured = capfd.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


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
