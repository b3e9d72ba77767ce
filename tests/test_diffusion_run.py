"""What surrounds the training of a denoiser: the loop against its definition, a run that breaks off, full chains."""

from dataclasses import replace

import numpy as np
import pytest

from scratch.data import Batches, Dataset
from scratch.losses import mse_loss
from scratch.models.diffusion import ablations, tasks
from scratch.models.diffusion import train as training
from scratch.models.diffusion.noise import linear
from scratch.models.diffusion.process import diffuse
from scratch.models.diffusion.sampling import ask, ddpm, spaced
from scratch.models.diffusion.tasks import Images, load_task
from scratch.models.diffusion.train import PRESETS, Settings
from scratch.module import Module
from scratch.optim import AdamW, AveragedModel, clip_grad_norm_
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.settings import from_json

SHORT: dict = {"T": 20, "widths": (8, 8), "steps": 6, "batch_size": 16, "evaluate_every": 3, "save_every": 2,
               "warmup": 2, "samples": 10, "sampling_steps": 2, "dropout": 0.2}  # fmt: skip


def few_digits(dtype: type = np.float32) -> Images:
    """40, 20 and 20 of them."""

    def part(data: Dataset, n: int) -> Dataset:
        return Dataset(data.name, data.inputs[:n].astype(dtype), data.targets[:n], data.class_names)

    task = load_task("digits")
    return replace(task, train=part(task.train, 40), validation=part(task.validation, 20), test=part(task.test, 20))


def start(folder, monkeypatch, settings, dtype: type = np.float32) -> None:
    build = training.build
    monkeypatch.setattr(training, "load_task", lambda name: few_digits(dtype))
    monkeypatch.setattr(training, "build", lambda *arguments: build(*arguments).to(dtype))
    monkeypatch.setattr(Images, "judge", lambda *_: {})
    monkeypatch.setattr(training.pictures, "draw_all", lambda *_: [])
    run = Run.create("diffusion", settings, folder=folder)
    try:
        training.train(settings, run)
    finally:
        run.close()


def test_the_run_is_the_loop_it_is_said_to_be(tmp_path, monkeypatch):
    """One shard: noise by step, clipped gradients, a rate that rises and falls, weights that are averaged.

    In float64: Adam divides by the size of a gradient, and with it a gradient's rounding.
    """
    settings = Settings(**SHORT, shards=1, clip=0.5, decay=0.9, weight_decay=0.1)
    start(tmp_path / "run", monkeypatch, settings, np.float64)
    task, schedule = few_digits(np.float64), linear(20)
    manual_seed(0)
    model = training.build(settings, task)  # in float64, as `start` has left it
    average, optimizer = AveragedModel(model, 0.9), AdamW(model.parameters(), weight_decay=0.1)
    rate, batches = cosine(settings.lr, 6, warmup=2), Batches(*task.train.arrays, batch_size=16, seed=0)
    errors = []
    for step in range(6):
        x0, y = next(batches)
        with stream(0, step):
            x, t, eps, labels = training.noised(x0, y, settings, schedule, 10)
            loss = mse_loss(model(Tensor(x), t, labels), Tensor(eps))
        np.testing.assert_allclose(x, diffuse(x0, t, eps, schedule))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.lr = rate(step)
        optimizer.step()
        average.update_parameters(model)
        if step in (2, 5):
            errors.append(training.denoising_error(average.module, task.validation, settings, schedule, 10))
    facts, arrays = checkpoint.load(tmp_path / "run" / CHECKPOINT)
    assert facts["best"] == pytest.approx(min(errors), rel=1e-6)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("step", [0, 4])
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(step, tmp_path, monkeypatch):
    """Two shards, with dropout, withheld labels and averaged weights; it breaks off after the update of `step`."""
    settings = Settings(**SHORT)
    start(tmp_path / "whole", monkeypatch, settings)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == step:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, settings)
    generator().random()
    run = Run.resume(tmp_path / "run")
    training.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    assert any(name.startswith("average.") for name in expected)
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


class Sees(Module):
    """A network that says of each row how many rows came with it, plus its place in x."""

    def __init__(self):
        self.seen = []

    def forward(self, x, t):
        self.seen.append((len(x), t.tolist()[0], self.training))
        return Tensor(x.data * 2)


@pytest.mark.parametrize(("shape", "parts"), [((16, 1, 4, 4), 2), ((100, 1, 4, 4), 4), ((5, 2), 2), ((1, 2), 1)])
def test_a_batch_is_asked_in_parts_and_comes_back_whole(shape, parts, rng):
    model, x = Sees(), rng.standard_normal(shape)
    _, eps = ask(model, linear(10))(x, 7)
    np.testing.assert_array_equal(eps, 2 * x)
    assert len(model.seen) == parts and sum(n for n, _, _ in model.seen) == len(x)
    assert all(t == 7 and not training for _, t, training in model.seen) and model.training


def test_points_that_share_a_time_are_told_it_once_and_say_the_same(rng):
    from tests.test_diffusion import MLPDenoiser, awake

    model, x = awake(rng, MLPDenoiser(2, 16, 2)).to(np.float64), rng.standard_normal((6, 2))
    together = model(Tensor(x), np.full(6, 30)).data
    each = model(Tensor(np.concatenate([x, x[:1]])), np.array([30] * 6 + [31])).data[:6]
    np.testing.assert_allclose(together, each, rtol=1e-10)


def test_the_full_chain_of_the_points_draws_what_is_learned():
    """`Points.draw` goes through all T times, from T to 1, and gives points in their own units."""
    settings = Settings(**PRESETS["ring"] | {"samples": 40, "T": 30, "sampling_steps": 1})
    task, times = load_task("gaussian_ring"), []

    class Noise(Module):
        def forward(self, x, t):
            times.append(int(t[0]))
            a = linear(30).alpha_bar[t[:1]].astype(x.dtype)[:, None]
            return Tensor((x.data - np.sqrt(a) * np.float32(0.5)) / np.sqrt(1 - a))

    drawn = task.draw(Noise(), linear(30), settings)
    assert sorted(set(times), reverse=True) == list(range(30, 0, -1))
    np.testing.assert_allclose(drawn, np.full((40, 2), 0.5 * task.scale), rtol=1e-2)


def test_real_points_are_compared_with_the_points_that_are_reported_on():
    task = load_task("gaussian_ring")
    np.testing.assert_allclose(task.scale * task.test.inputs, tasks.held_out("gaussian_ring", 2).inputs, rtol=1e-5)


def test_real_points_lie_at_one_times_the_distance_of_real_points():
    """By the judge of points: held-out ones are at distance 0, real ones near 1, and one mode alone far off."""
    task, settings = load_task("gaussian_ring"), Settings(**PRESETS["quick"])
    sets = [tasks.independent("gaussian_ring", 200, seed).inputs for seed in range(12)]
    assert 0.5 < np.mean([task.judge(each, settings)["energy distance, ÷ real"] for each in sets]) < 1.6
    one = task.scale * task.test.inputs[task.test.targets == 0][:200]
    figures = task.judge(one, settings)
    assert figures["energy distance, ÷ real"] > 20 and figures["modes"] == 1


# -- ablations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ablations.CHOICES, *ablations.RELATIVES])
def test_every_ablation_runs(name, monkeypatch):
    monkeypatch.setattr(ablations, "SETS", 1)
    monkeypatch.setattr(ablations, "EACH", 60)
    way = (ablations.CHOICES | ablations.RELATIVES)[name]
    short = replace(way, changes={"T": 12, "sampling_steps": 2, **way.changes})
    figures = ablations.measure(short, "two_moons", 3, 0)
    assert np.isfinite(figures["energy distance, ÷ real"]) and ("test error" in figures) == ("flow" not in name)


def test_the_transformer_of_points_reads_both_coordinates(rng):
    model = ablations.PointDiT(dim=8, depth=1, heads=2)
    for parameter in model.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * 0.4
    x, t = rng.standard_normal((3, 2)).astype(np.float32), np.array([1, 5, 9])
    said = model(x, t).data
    assert said.shape == (3, 2)
    for axis in range(2):
        moved = x.copy()
        moved[:, axis] += 0.5
        assert (np.abs(model(moved, t).data - said) > 1e-6).all()
    np.testing.assert_allclose(model(x[1:2], t[1:2]).data, said[1:2], rtol=1e-4)


def test_samplers_are_compared_at_their_number_of_questions():
    schedule, count = linear(100), [0]

    def denoise(x, t):
        count[0] += 1
        return np.zeros_like(x), np.zeros_like(x)

    table = ablations.samplers(100, schedule)
    assert [name[:4] for name in table] == sorted(name[:4] for name in table)
    for asks, sampler in table.values():
        count[0] = 0
        sampler(denoise, np.ones((2, 1)), np.random.default_rng(0))
        assert count[0] == min(asks, 100)


def test_the_chain_of_a_network_is_that_of_its_answers(rng):
    """ddpm through `ask` in parts is ddpm with the whole batch: the noise is drawn for all rows at once."""
    s, x = linear(6), rng.standard_normal((9, 2))
    parts = ddpm(ask(Sees(), s), x, s, spaced(6), np.random.default_rng(1))
    whole = ddpm(lambda x, t: ((x - np.sqrt(1 - s.alpha_bar[t]) * 2 * x) / np.sqrt(s.alpha_bar[t]), 2 * x), x, s,
                 spaced(6), np.random.default_rng(1))  # fmt: skip
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
