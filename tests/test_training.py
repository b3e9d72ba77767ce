"""Runs: interrupted and resumed without a trace, judged against expected values, stopped before they spoil weights."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from scratch import Module, Tensor
from scratch.layers import Dropout, Linear
from scratch.models.mlp import train as mlp
from scratch.module import Sequential
from scratch.random import generator
from scratch.training import (
    Run,
    RunStopped,
    accuracy,
    checkpoint,
    confusion_matrix,
    evaluate,
    intersection_over_union,
    predict,
    report,
    standard_error,
)
from scratch.training.folder import CHECKPOINT, LOG, REPORT, new_folder, read_log
from scratch.training.progress import Progress, duration, say
from scratch.training.run import first_not_finite
from scratch.training.settings import from_json, nearest, to_json, with_preset
from scratch.training.ship import ship
from scratch.weights import load_file, load_metadata

ROOT = Path(__file__).resolve().parent.parent
TINY = {"hidden": (12,), "steps": 60, "evaluate_every": 20, "save_every": 7, "warmup": 5}


def start(folder: Path, **changes) -> Run:
    settings = mlp.Settings(**{**TINY, **changes})
    run = Run.create("mlp", settings, folder=folder)
    try:
        mlp.train(settings, run)
    finally:
        run.close()
    return run


def resume(folder: Path, **expected) -> Run:
    run = Run.resume(folder, **expected)
    try:
        mlp.train(from_json(mlp.Settings, run.document["settings"]), run)
    finally:
        run.close()
    return run


def state(folder: Path) -> tuple[dict, dict]:
    facts, arrays = checkpoint.load(folder / CHECKPOINT)
    return {name: value for name, value in facts.items() if name != "seconds"}, arrays


def assert_same(folder: Path, undisturbed: Path) -> None:
    """Every array, the random generator, the place in the data, the best weights and the log, bit for bit."""
    (facts, arrays), (expected_facts, expected) = state(folder), state(undisturbed)
    assert facts == expected_facts
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (folder / LOG).read_bytes() == (undisturbed / LOG).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp.pictures, "draw_all", lambda *arguments: [])
        start(folder)
    return folder


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """They take most of the time of so short a run; `with_pictures` keeps them."""
    if "with_pictures" not in request.fixturenames:
        monkeypatch.setattr(mlp.pictures, "draw_all", lambda *arguments: [])


@pytest.fixture
def with_pictures():
    pass


# -- stopping and resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 6, 7, 8, 21, 59])
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(step, tmp_path, undisturbed, monkeypatch):
    """It breaks off after the update of `step`, with lines in the log that no checkpoint knows."""
    log = Run.log

    def breaking(self, number, loss, **more):
        log(self, number, loss, **more)
        self._log.flush()
        if number == step:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run")
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", undisturbed)


def test_a_plane_run_resumes_with_its_film(tmp_path, monkeypatch):
    changes = {"data": "two_moons", "steps": 40, "dropout": 0.0}
    start(tmp_path / "whole", **changes)
    evaluated = Run.evaluated

    def breaking(self, step, *args, **more):
        evaluated(self, step, *args, **more)
        if step + 1 == 40:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "evaluated", breaking)
        start(tmp_path / "run", **changes)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert sum(name.startswith("film.") for name in state(tmp_path / "run")[1]) == 2


def test_killed_and_resumed_from_the_command_line(tmp_path, undisturbed):
    """SIGKILL at whatever step it has reached after its second checkpoint; the log may end in half a line."""
    settings = [f"--{k.replace('_', '-')}={v}" for k, v in TINY.items() if k != "hidden"] + ["--hidden", "12"]
    command = [sys.executable, "-m", "scratch"]
    process = subprocess.Popen(
        [*command, "train", "mlp", "--folder", str(tmp_path / "run"), *settings],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    file = tmp_path / "run" / CHECKPOINT
    while process.poll() is None and not file.exists():
        time.sleep(0.001)
    process.kill()
    process.communicate()
    done = subprocess.run([*command, "resume", str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, undisturbed, capsys, monkeypatch):
    log = Run.log

    def pressing(self, number, loss, **more):
        log(self, number, loss, **more)
        if number == 31:
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(RunStopped, match=f"after 32 steps; .* scratch resume {folder}"):
        patch.setattr(Run, "log", pressing)
        start(folder)
    assert signal.getsignal(signal.SIGINT) is before
    assert state(folder)[0]["step"] == 32
    resume(folder)
    assert_same(folder, undisturbed)


def test_a_finished_run_resumed_writes_its_report_again(tmp_path, undisturbed, capsys):
    before = (undisturbed / CHECKPOINT).read_bytes()
    (undisturbed / REPORT).unlink()
    resume(undisturbed)
    assert (undisturbed / REPORT).exists()
    assert (undisturbed / CHECKPOINT).read_bytes() == before
    assert "after 60 steps" in capsys.readouterr().out


def test_two_processes_never_train_in_one_folder(tmp_path):
    run = Run.create("mlp", mlp.Settings(**TINY), folder=tmp_path / "run")
    with pytest.raises(ValueError, match="call track.. before steps"):
        run.save()
    with pytest.raises(ValueError, match="belong into `for step in run.steps"):
        run.log(0, 1.0)
    with pytest.raises(ValueError, match="another process is training in"):
        Run.resume(tmp_path / "run")
    run.close()
    Run.resume(tmp_path / "run").close()


def test_new_folders_are_numbered_and_never_shared(tmp_path):
    assert [new_folder("mlp", tmp_path).name for _ in range(3)] == ["mlp-1", "mlp-2", "mlp-3"]
    (tmp_path / "mlp-10").mkdir()
    (tmp_path / "mlp-old").mkdir()
    assert new_folder("mlp", tmp_path).name == "mlp-11"


def test_seconds_go_on_counting_after_a_resume(tmp_path):
    start(tmp_path / "run", steps=7)
    document = json.loads((tmp_path / "run" / "settings.json").read_text())
    document["settings"]["steps"] = 14
    (tmp_path / "run" / "settings.json").write_text(json.dumps(document))
    facts, arrays = checkpoint.load(tmp_path / "run" / CHECKPOINT)
    checkpoint.write(tmp_path / "run" / CHECKPOINT, arrays, {**facts, "seconds": 600.0})
    run = resume(tmp_path / "run")
    assert 600 < run.seconds < 660
    minutes = json.loads((tmp_path / "run" / report.RESULTS).read_text())["minutes"]
    assert run.seconds / 60 <= minutes < 11
    assert "14 steps in 10 min 0" in (tmp_path / "run" / REPORT).read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path, monkeypatch):
    log = Run.log

    def pressing(self, number, loss, **more):
        log(self, number, loss, **more)
        if number == 31:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # Python runs the handler between two instructions

    monkeypatch.setattr(Run, "log", pressing)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run")
    assert state(tmp_path / "run")[0]["step"] == 28


def test_a_run_asks_for_the_blas_threads_that_it_began_with(tmp_path, monkeypatch):
    log, seen = Run.log, []

    def looking(self, number, loss, **more):
        log(self, number, loss, **more)
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    monkeypatch.setattr(Run, "log", looking)
    for threads in (1, 2):
        run = Run.create("mlp", mlp.Settings(**{**TINY, "steps": 1}), folder=tmp_path / str(threads))
        run.document["blas_threads"] = threads
        mlp.train(from_json(mlp.Settings, run.document["settings"]), run)
    if not seen:
        pytest.skip("this matrix library tells nothing of its threads")
    assert seen == [1, 2]


def test_what_ships_are_the_best_weights_in_sixteen_bits(tmp_path):
    start(tmp_path / "run", steps=7)
    file, target = tmp_path / "run" / CHECKPOINT, tmp_path / "weights.safetensors"
    facts, arrays = checkpoint.load(file)
    arrays = {name: array / 2 if name.startswith("best.") else array for name, array in arrays.items()}
    checkpoint.write(file, arrays, facts)  # now the best are not the last
    ship(tmp_path / "run", target)
    shipped = load_file(target)
    assert len(shipped) == 4
    for name, value in shipped.items():
        assert np.array_equal(value, arrays[f"best.{name}"].astype(np.float16))
        assert value.dtype == np.float16
    card = load_metadata(target)
    assert card["model"] == "mlp" and json.loads(card["settings"])["hidden"] == [12]
    assert "test accuracy" in card["figures"]


# -- what does not fit ------------------------------------------------------------------------------------------


def test_checkpoints_that_do_not_fit_are_refused_and_left_alone(tmp_path, undisturbed):
    def refused(message: str, **changes) -> None:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        start(folder, steps=7)
        document = json.loads((folder / "settings.json").read_text())
        document["settings"] |= changes
        (folder / "settings.json").write_text(json.dumps(document))
        before = (folder / CHECKPOINT).read_bytes(), (folder / LOG).read_bytes()
        with pytest.raises(ValueError, match=message):
            resume(folder)
        assert ((folder / CHECKPOINT).read_bytes(), (folder / LOG).read_bytes()) == before

    refused(r"does not fit: .*layers\.0\.weight: expected shape \(13, 784\), got \(12, 784\)", hidden=[13])
    refused("does not fit: .*batch_size", batch_size=64)
    refused("width is no setting of this model. Known: batch_size", width=3)
    refused("stepps is no setting of this model. Did you mean steps?", stepps=3)
    refused("lr: expected float, got 'fast'", lr="fast")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "checkpoint.safetensors"),
        (lambda data: b"", "checkpoint.safetensors"),
        (lambda data: b"not a checkpoint at all, but long enough to hold a length", "checkpoint.safetensors"),
        (lambda data: data.replace(b"scratch checkpoint 1", b"scratch checkpoint 9"), "expected a checkpoint"),
        (lambda data: data.replace(b'\\"step\\"', b'\\"stop\\"'), "damaged"),
    ],
)
def test_damaged_checkpoints_are_named(damage, message, tmp_path):
    start(tmp_path / "run", steps=7)
    file = tmp_path / "run" / CHECKPOINT
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=message):
        resume(tmp_path / "run")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run folder: it has no settings.json"):
        Run.resume(tmp_path)
    (tmp_path / "settings.json").write_text('{"model": "mlp"}')
    with pytest.raises(ValueError, match="expected the settings of a run"):
        Run.resume(tmp_path)
    with pytest.raises(ValueError, match="exists and is not empty; `scratch resume"):
        Run.create("mlp", mlp.Settings(), folder=tmp_path)


def test_a_log_shorter_than_the_checkpoint_knows(tmp_path):
    start(tmp_path / "run", steps=7)
    (tmp_path / "run" / LOG).write_bytes(b"")
    with pytest.raises(ValueError, match="expected at least the .* bytes that the checkpoint knows, found 0"):
        resume(tmp_path / "run")


def test_the_best_weights_are_those_of_the_lowest_validation_loss_also_after_a_resume(tmp_path):
    """Losses 3, 1, 2 and, after a resume, 1.5: the weights of the second stay the best, and a copy of their own."""

    def look(run: Run, model: Linear, step: int, loss: float) -> None:
        model.weight.data[...] = step
        run.evaluated(step, model, loss)
        run.done = step + 1

    def began(run: Run, model: Linear) -> Run:
        run.track(model=model)
        run._progress = Progress(9)
        return run

    model = Linear(2, 3)
    run = began(Run.create("mlp", mlp.Settings(), folder=tmp_path / "run"), model)
    for step, loss in enumerate([3.0, 1.0, 2.0]):
        look(run, model, step, loss)
    run.save()
    drawn = [generator().random() for _ in range(3)]
    run.close()
    generator().random()
    other = Linear(2, 3)
    run = began(Run.resume(tmp_path / "run"), other)
    assert run.done == 3 and (other.weight.data == 2).all()
    assert [generator().random() for _ in range(3)] == drawn  # the default generator goes on where it was
    look(run, other, 3, 1.5)
    assert run.best_value == 1.0 and (run.best["weight"] == 1).all()
    look(run, other, 4, 0.5)
    assert run.best_value == 0.5 and (run.best["weight"] == 4).all()
    run.close()


def test_the_report_is_on_the_test_set_and_with_the_best_weights(tmp_path, monkeypatch):
    """A learning rate that spoils the weights at the end: the best are of step 20, the last of step 40."""
    seen = []
    monkeypatch.setattr(Run, "finish", lambda self, results, *more, **other: seen.append(results))
    monkeypatch.setattr(mlp, "cosine", lambda *arguments, **more: lambda step: 2e-3 if step < 20 else 0.5)
    run = start(tmp_path / "run", steps=40, save_every=40)
    facts, arrays = state(tmp_path / "run")
    model, data = mlp.MLP(784, (12,)), mlp.load_data("digits")

    def judged(prefix: str, part) -> dict[str, float]:
        model.load_state_dict({k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)})
        return evaluate(model, *part.arrays)

    validation = [row["validation_loss"] for row in read_log(run.folder) if "validation_loss" in row]
    assert validation[0] < validation[1] and facts["best"] == validation[0]
    assert [judged("best.", data.validation)["loss"], judged("model.", data.validation)["loss"]] == validation
    test = judged("best.", data.test)
    assert seen == [{"test loss": test["loss"], "test accuracy": test["accuracy"],
                     "standard error": standard_error(test["accuracy"], 1000)}]  # fmt: skip


# -- a loss that is not finite ----------------------------------------------------------------------------------


def test_a_run_stops_before_nan_reaches_the_weights(tmp_path, monkeypatch):
    """From step 30 on, the second layer overflows; the message names step, layer and checkpoint."""
    forward, calls = Linear.forward, []

    def overflowing(self, x):
        calls.append(self.out_features == 10 and self.training)
        y = forward(self, x)
        return y * float("inf") if sum(calls) > 30 and self.out_features == 10 else y

    monkeypatch.setattr(Linear, "forward", overflowing)
    with np.errstate(all="ignore"), pytest.raises(RunStopped) as stop:
        start(tmp_path / "run")
    message = str(stop.value)
    assert message.startswith("the loss is nan at step 30; ")
    assert "the first output that is not finite is that of layers.1;" in message
    assert str(tmp_path / "run" / CHECKPOINT) in message
    facts, arrays = state(tmp_path / "run")
    assert facts["step"] == 28 and all(np.isfinite(array).all() for array in arrays.values())


def test_first_not_finite_names_the_innermost_module():
    class Log(Module):
        def forward(self, x):
            return x.log()

    class Net(Module):
        def __init__(self):
            self.parts = [Linear(2, 2), Log(), Linear(2, 2)]

        def forward(self, x):
            for part in self.parts:
                x = part(x)
            return x

    net = Net()
    for part in (net.parts[0], net.parts[2]):
        part.weight.data[...], part.bias.data[...] = np.eye(2), 0
    good, bad = Tensor(np.float32([[1, 2]])), Tensor(np.float32([[-1, 2]]))
    assert first_not_finite(net, lambda: net(bad)) == "the first output that is not finite is that of parts.1"
    assert first_not_finite(net, lambda: net(good)).startswith("every layer's output is finite")


# -- the report -------------------------------------------------------------------------------------------------

EXPECTED = {"settings": {"lr": 0.1, "hidden": [3]}, "seeds": [0, 1, 2],
            "bands": {"loss at step 0": [2.2, 2.4], "test accuracy": [0.9, 1.0]}}  # fmt: skip
GOOD = {"loss at step 0": 2.3, "test accuracy": 0.95}


@pytest.mark.parametrize(
    ("figures", "settings", "verdict"),
    [
        (GOOD, {"lr": 0.1, "hidden": [3], "seed": 9}, "inside the expected range (all 2 figures"),
        ({**GOOD, "test accuracy": 0.89}, {"lr": 0.1, "hidden": [3]},
         "outside the expected range: test accuracy is 89.0 %, expected 90.0 % to 100.0 %"),
        ({**GOOD, "loss at step 0": 2.5}, {"lr": 0.1, "hidden": [3]},
         "outside the expected range: loss at step 0 is 2.5, expected 2.2 to 2.4 (the initial weights"),
        ({**GOOD, "test accuracy": math.nan}, {"lr": 0.1, "hidden": [3]}, "outside"),
        ({"loss at step 0": 2.3}, {"lr": 0.1, "hidden": [3]}, "outside the expected range: test accuracy is missing"),
        (GOOD, {"lr": 0.2, "hidden": [3]}, "not comparable: lr is 0.2 (expected values: 0.1)"),
    ],
)  # fmt: skip
def test_verdicts(figures, settings, verdict):
    assert report.compare(figures, settings, EXPECTED).startswith(verdict)


def test_no_verdict_without_expected_values():
    assert report.compare(GOOD, {"lr": 0.1}, {}) == "not comparable: no expected values for this preset"


def test_losses_are_means_of_the_twenty_steps_before():
    log = [{"step": i, "loss": float(i)} for i in range(150)] + [{"step": 150, "validation_loss": 7.0}]
    assert report.losses(log) == {"loss at step 0": 0.0, "loss at step 100": 90.5, "final loss": 139.5}
    assert report.losses([]) == {}


def test_bands_are_the_range_widened_by_itself():
    low, high = report.bands([{"a": 1.0}, {"a": 2.0}, {"a": 1.5}])["a"]
    assert (low, high) == (0.0, 3.0)
    low, high = report.bands([{"test accuracy": 0.99}, {"test accuracy": 0.99}])["test accuracy"]
    assert math.isclose(low, 0.99 * 0.98) and high == 1.0


def test_the_report_says_what_ran_and_what_came(tmp_path, capsys, with_pictures):
    values = to_json(mlp.Settings(**TINY))
    expected = {"default": {"settings": values, "seeds": [0], "bands": {"loss at step 0": [2, 3]}, "minutes": 0.5,
                            "memory_mb": 100, "machine": "2 CPU cores"}}  # fmt: skip
    start(tmp_path / "run", steps=7)
    (tmp_path / "run" / "settings.json").write_text(
        (tmp_path / "run" / "settings.json").read_text().replace('"steps": 7', '"steps": 60')
    )
    run = resume(tmp_path / "run", expected=expected)
    text = (tmp_path / "run" / REPORT).read_text(encoding="utf-8")
    assert text.startswith("# mlp, preset default\n\nInside the expected range (all 1 figures")
    assert "| loss at step 0 | 2.3" in text and "| 2 to 3 |" in text
    assert "| hidden | [12] |" in text and "60 steps in" in text and "about 30 s, 100 MB on 2 CPU cores" in text
    for picture in ("curves", "first_weights", "confusion", "mistakes"):
        assert (tmp_path / "run" / f"{picture}.png").stat().st_size < 200_000 and f"({picture}.png)" in text
    printed = capsys.readouterr().out
    assert "knowing nothing costs ln 10 = 2.303" in printed
    assert f"next     scratch sample mlp --run {run.folder}" in printed
    rows = read_log(tmp_path / "run")
    assert [row["step"] for row in rows if "loss" in row] == list(range(60))
    assert [row["step"] for row in rows if "validation_loss" in row] == [7, 20, 40, 60]


# -- settings, metrics, words -----------------------------------------------------------------------------------


@dataclass
class Example:
    count: int = 3
    rate: float = 0.5
    names: tuple[str, ...] = ()
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    on: bool = False


def test_settings_survive_json():
    settings = Example(4, 1.0, ("x", "y"), "b", 7, True)
    assert from_json(Example, json.loads(json.dumps(to_json(settings)))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.5}, "count: expected int, got 1.5"),
        ({"count": True}, "count: expected int, got True"),
        ({"on": 1}, "on: expected bool, got 1"),
        ({"names": ["x", 3]}, "names: expected str, got 3"),
        ({"kind": "c"}, r"kind: expected Literal\['a', 'b'\], got 'c'"),
        ({"limit": "x"}, "limit: expected .*int.*None.*, got 'x'"),
        ({"cuont": 1, "rate": "x"}, "cuont is no setting of this model. Did you mean count.*; rate: expected float"),
    ],
)
def test_settings_that_do_not_fit(values, message):
    with pytest.raises(ValueError, match=message):
        from_json(Example, values)


def test_presets():
    assert with_preset(Example, {"big": {"count": 9}}, "big") == Example(count=9)
    with pytest.raises(ValueError, match="no preset 'bg'. Did you mean big?"):
        with_preset(Example, {"big": {}}, "bg")
    assert nearest("zzz", ["b", "a"]) == " Known: a, b."


def test_metrics():
    logits = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert accuracy(logits, np.array([1, 1, 1])) == 2 / 3
    assert standard_error(0.9, 100) == pytest.approx(0.03)
    matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"as many rows as targets, got \(3,\) and \(0,\)"):
        accuracy(logits, np.array([], int))


def test_metrics_of_pixels():
    """Two images of 1 × 3 pixels, three classes; class 3 is in neither."""
    targets = np.array([[[0, 0, 1]], [[1, 2, 2]]])
    labels = np.array([[[0, 1, 1]], [[1, 2, 0]]])
    logits = np.moveaxis(np.eye(4)[labels], -1, 1)  # (N, classes, H, W)
    assert logits.shape == (2, 4, 1, 3) and accuracy(logits, targets) == 4 / 6
    # Class 0 is true at 2 pixels, predicted at 2, both at 1; class 1 at 2, 3 and 2; class 2 at 2, 1 and 1.
    over = intersection_over_union(targets, labels, 4)
    np.testing.assert_allclose(over, [1 / 3, 2 / 3, 1 / 2, np.nan], rtol=1e-15)
    np.testing.assert_array_equal(intersection_over_union(targets, targets, 3), [1, 1, 1])
    np.testing.assert_array_equal(intersection_over_union(np.zeros(3, int), np.ones(3, int), 2), [0, 0])
    with pytest.raises(ValueError, match=r"as many rows as targets, got \(2, 1, 3\) and \(2, 3\)"):
        accuracy(logits, targets[:, 0])


def test_predict_covers_the_last_rows_and_restores_the_mode():
    layer = Linear(3, 2)
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    model = Sequential(layer, Dropout(0.5))
    whole = predict(model, x, batch_size=3)
    np.testing.assert_allclose(whole, layer(Tensor(x)).data, rtol=1e-5)
    assert model.training and model[1].training
    with pytest.raises(ValueError, match="at least one input"):
        predict(layer, x[:0])


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_words_survive_an_ascii_terminal(monkeypatch):
    import io

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("95 % ± 1 · a → b ∂")
    assert raw.getvalue() == b"95 % +- 1 - a -> b ?\n"


def test_progress_off_a_terminal_is_plain_lines(capsys):
    progress = Progress(100)
    for step in range(100):
        progress.update(step + 1, 1.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[0].startswith("step 10/100  loss 1.5000") and "steps/s" in lines[0]
    assert lines[-1].startswith("step 100/100") and lines[-1].endswith(" 0 s left")


def test_many_wrong_settings_and_huge_numbers_are_told_briefly():
    with pytest.raises(ValueError, match="0 is no setting of this model.*4 is no setting.*; and 95 more$") as caught:
        from_json(mlp.Settings, {str(i): i for i in range(100)})
    assert len(str(caught.value)) < 1500
    with pytest.raises(ValueError, match="lr: expected float, got 1000"):
        from_json(mlp.Settings, {"lr": 10**400})
    with pytest.raises(ValueError, match=r"^\\x1b\[31m is no setting of this model"):
        from_json(mlp.Settings, {"\x1b[31m": 1})
