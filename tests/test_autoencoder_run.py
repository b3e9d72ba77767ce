"""What surrounds the autoencoders: the loop, stages, resuming, figures of the report, pictures, samples."""

import math
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from scratch import Tensor
from scratch.data import Batches, Dataset, Splits, load_digits, random_shift
from scratch.evaluation import judge as judging
from scratch.losses import binary_cross_entropy_with_logits, mse_loss
from scratch.models.autoencoder import VAE, VQVAE, GridVAE, LatentDiffusion, ablations, inside, pictures, sample, tasks
from scratch.models.autoencoder import train as training
from scratch.models.autoencoder.elbo import Bernoulli, gaussian_kl
from scratch.models.autoencoder.prior import VQGenerator
from scratch.models.autoencoder.train import PRESETS, Settings
from scratch.optim import AdamW
from scratch.random import generator, manual_seed, stream
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT
from scratch.training.settings import with_preset
from scratch.training.ship import shipped
from scratch.weights import load_metadata

SHORT = {"steps": 4, "evaluate_every": 2, "save_every": 1, "warmup": 2, "batch_size": 8, "samples": 4,
         "importance_samples": 2, "hidden": (6,), "latent": 3, "shards": 2}  # fmt: skip
KINDS = {
    "vae": {},
    "denoising": {"model": "autoencoder", "network": "conv", "widths": (2, 3), "noise": 0.3, "shift": 1},
    "vq": {"model": "vq", "width": 4, "blocks": 1, "codes": 6, "dim": 3, "beta": 0.25, "shift": 1, "second_steps": 3,
           "second_width": 8, "second_depth": 1},
    "latent": {"model": "latent", "width": 4, "blocks": 1, "binarise": False, "beta": 0.1, "second_steps": 3,
               "second_width": 8, "second_depth": 1, "T": 10, "sampling_steps": 2},
}  # fmt: skip
SHIPPED = Path(str(resources.files("scratch.models.autoencoder") / "weights.safetensors"))


def some_digits() -> Splits:
    """40, 16 and 16 of them."""

    def part(data: Dataset, n: int) -> Dataset:
        return Dataset(data.name, data.inputs[:n], data.targets[:n], data.class_names)

    return Splits(*(part(data, n) for data, n in zip(load_digits(flat=False), (40, 16, 16), strict=True)))


@pytest.fixture
def quick(monkeypatch):
    """Few digits, no pictures."""
    monkeypatch.setattr(training, "load_data", lambda settings: some_digits())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])


def start(folder, settings) -> Run:
    run = Run.create("autoencoder", settings, folder=folder)
    try:
        training.train(settings, run)
    finally:
        run.close()
    return run


def ends_as(folder):
    return checkpoint.load(folder / CHECKPOINT)[1]


# -- the loop -----------------------------------------------------------------------------------------------------


def test_the_training_loop_is_the_loop_that_it_says(tmp_path, quick):
    """A VAE on black and white digits, four steps, in two shards, against the bound written out."""
    settings, data = Settings(**SHORT), some_digits().train
    manual_seed(0)
    model = VAE(latent=3, hidden=(6,))
    optimizer = AdamW(model.parameters(), weight_decay=0.0)
    batches = Batches(*data.arrays, batch_size=8, seed=0, drop_last=True)
    for step, rate in enumerate([0.001, 0.002, 0.002, 0.001]):
        x, _ = next(batches)
        with stream(0, step):
            source = generator()
            x = (source.random(x.shape, np.float32) < x).astype(np.float32)
            eps = source.standard_normal((8, 3), np.float32)
        mean, s = model.encode(x)
        out = model.decode(mean + (s * 0.5).exp() * Tensor(eps))
        nats = binary_cross_entropy_with_logits(out, x, reduction="sum")
        loss = (nats + ((mean * mean + s.exp() - 1 - s) * 0.5).sum()) / 8.0
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = rate
        optimizer.step()
    start(tmp_path / "run", settings)
    arrays = ends_as(tmp_path / "run")
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_ends_in_the_same_bits(kind, tmp_path, quick, monkeypatch):
    """Stopped in every stage, and at the very step between two stages."""
    settings = Settings(**{**SHORT, **KINDS[kind]})
    start(tmp_path / "whole", settings)
    total = settings.steps + settings.second_steps
    run = Run.create("autoencoder", settings, folder=tmp_path / "parts")
    for stop in (2, 4, 5):
        if stop >= total:
            continue

        def stopping(self, total, save_every, steps=Run.steps, stop=stop):
            for step in steps(self, total, save_every):
                if step == stop:
                    raise KeyboardInterrupt
                yield step

        with monkeypatch.context() as patch:
            patch.setattr(Run, "steps", stopping)
            with pytest.raises(KeyboardInterrupt):
                training.train(settings, run)
        run.close()
        run = Run.resume(tmp_path / "parts")
    training.train(settings, run)
    run.close()
    whole, parts = ends_as(tmp_path / "whole"), ends_as(tmp_path / "parts")
    assert list(whole) == list(parts)
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)


def test_the_second_stage_leaves_the_first_as_it_was_best(tmp_path, quick):
    for kind in ("vq", "latent"):
        settings = Settings(**{**SHORT, **KINDS[kind]})
        run = start(tmp_path / kind, settings)
        first = {name: value for name, value in ends_as(tmp_path / kind).items() if name.startswith("model.first")}
        assert first
        for name, value in first.items():
            np.testing.assert_array_equal(run.best[name.removeprefix("model.")], value)


# -- stages -------------------------------------------------------------------------------------------------------


def test_a_stage_prepares_noise_and_shifts_before_the_batch_is_cut():
    from scratch.models.autoencoder.stages import stages

    data = some_digits().train
    x, y = data.inputs[:5], data.targets[:5]
    settings = Settings(**{**SHORT, **KINDS["denoising"]})
    first, *_ = stages(training.build(settings, 10), settings)
    with stream(0, 1):
        shown, clean = first.prepare(x, y)
    with stream(0, 1):
        source = generator()
        moved = random_shift(x, 1, source)
        np.testing.assert_array_equal(clean, moved)
        np.testing.assert_array_equal(shown, moved + np.float32(0.3) * source.standard_normal(x.shape, np.float32))

    settings = Settings(**{**SHORT, **KINDS["vq"]})
    model = training.build(settings, 10)
    with stream(0, 1):
        read, codes = stages(model, settings)[1].prepare(x, y)
    np.testing.assert_array_equal(read[:, 0], 6 + y)
    np.testing.assert_array_equal(read[:, 1:], codes[:, :-1])
    np.testing.assert_array_equal(codes.reshape(5, 7, 7), model.codes(x))

    settings = Settings(**{**SHORT, **KINDS["latent"], "drop_label": 0.0})
    model = training.build(settings, 10)
    second = stages(model, settings)[1]
    second.begin(data)
    assert (model.codes(data.inputs) ** 2).mean() == pytest.approx(1, rel=1e-3)
    with stream(0, 1):
        z, t, labels, eps = second.prepare(x, y)
    np.testing.assert_array_equal(labels, y)
    assert t.min() >= 1 and t.max() <= 10
    kept = np.cumprod(1 - np.minimum(np.linspace(1e-4, 0.02, 10) * 100, 0.999))[t - 1].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(z, np.sqrt(kept) * model.codes(x) + np.sqrt(1 - kept) * eps, rtol=1e-4, atol=1e-5)


# -- figures ------------------------------------------------------------------------------------------------------


def test_figures_of_a_vae_are_those_of_its_definition():
    model, data = VAE(latent=3, hidden=(6,)), some_digits().test
    found = tasks.vae_figures(model, data, binarise=True, samples=3)
    (x, source), *_ = tasks.in_parts(data, True)
    assert set(np.unique(x)) == {0, 1}
    out, mean, s = model(x, source.standard_normal((16, 3)).astype(np.float32))
    nats = binary_cross_entropy_with_logits(out, x, reduction="sum").item() / 16
    kl = gaussian_kl(mean, s).data.mean()
    assert found["reconstruction"] == pytest.approx(nats, rel=1e-5)
    assert found["negative ELBO"] == pytest.approx(nats + kl, rel=1e-5)
    assert found["negative bound, K = 3"] < found["negative ELBO"] + 5
    assert tasks.vae_figures(model, data, binarise=True) == {k: found[k] for k in list(found)[:3]}  # always alike


def test_errors_are_those_of_grey_images():
    model, data = VQVAE(width=4, blocks=1, codes=6, dim=3), some_digits().test
    model.eval()
    found = tasks.error_figures(model, data)
    out = model(data.inputs)[0]
    assert found["squared error"] == pytest.approx(((Bernoulli().picture(out) - data.inputs) ** 2).mean(), rel=1e-5)
    nats = binary_cross_entropy_with_logits(out, data.inputs, reduction="sum").item() / 16
    assert found["reconstruction"] == pytest.approx(nats, rel=1e-5)


def test_binarised_pixels_are_ink_as_often_as_they_are_grey(rng):
    x = np.full((20_000, 2), [0.25, 0.9], np.float32)
    np.testing.assert_allclose(tasks.binarised(x, rng).mean(axis=0), [0.25, 0.9], atol=0.02)


def test_judged_digits():
    data = load_digits(flat=False)
    figures = tasks.judged(data.test.inputs, data.test.targets, data)
    assert figures["read as asked"] > 0.97 and abs(figures["Fréchet distance"]) < 1e-3
    assert tasks.judged(data.test.inputs, None, data)["classes, KL to uniform"] < 0.01
    clothes = Splits(*(Dataset("fashion_mnist", d.inputs, d.targets, d.class_names) for d in data))
    read = judging.agreement(data.test.inputs, data.test.targets, judging.load_judge("fashion_mnist"))
    assert tasks.judged(data.test.inputs, data.test.targets, clothes)["read as asked"] == read < 0.5  # by its own judge


# -- inside -------------------------------------------------------------------------------------------------------


def test_inside_of_a_code():
    model, x = VAE(latent=2, hidden=(6,)), some_digits().test.inputs
    z = inside.codes_of(model, x)
    assert z.shape == (16, 2)
    grid = inside.plane(model, 5, 0.9)
    assert grid.shape == (25, 1, 28, 28)
    np.testing.assert_allclose(grid[12], inside.images_of(model, np.zeros((1, 2)))[0], rtol=1e-5)  # the middle
    corner = np.array([[-1.6448536, 1.6448536]])  # the 5 % and the 95 % quantile: top left
    np.testing.assert_allclose(grid[0], inside.images_of(model, corner)[0], rtol=1e-4)
    line = inside.interpolation(model, z[0], z[1], 4)
    np.testing.assert_allclose(line[[0, 3]], inside.images_of(model, z[:2]), rtol=1e-4, atol=1e-6)
    moved = inside.traversal(model, z[0], 1, [z[0, 1], 2.0])
    np.testing.assert_allclose(moved[0], line[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved[1], inside.images_of(model, [[z[0, 0], 2.0]])[0], rtol=1e-4, atol=1e-6)
    same = inside.arithmetic(model, x[:3], x[4:6], x[4:6])
    np.testing.assert_allclose(same, inside.images_of(model, z[:3]), atol=1e-6)
    kl = inside.kl_of_axes(model, x)
    assert kl.sum() == pytest.approx(gaussian_kl(*model.encode(x)).data.mean(), rel=1e-4)
    assert inside.active_units(model, x, 0.0) == 2 and inside.active_units(model, x, 1e9) == 0
    assert inside.errors_of(x, x).max() == 0
    np.testing.assert_allclose(inside.usage(np.array([[0, 2], [2, 2]]), 4), [0.25, 0, 0.75, 0])
    with pytest.raises(ValueError, match=r"two numbers, got one of shape \(3,\)"):
        inside.plane(VAE(latent=3))


def test_the_principal_plane_is_that_of_the_largest_variances(rng):
    z = rng.standard_normal((500, 4)) * [0.1, 3.0, 0.2, 1.0]
    points, share = inside.principal_plane(z)
    assert share == pytest.approx((z.var(axis=0)[[1, 3]].sum()) / z.var(axis=0).sum(), rel=0.01)
    np.testing.assert_allclose(np.abs(points[:, 0]), np.abs(z[:, 1] - z[:, 1].mean()), atol=0.3)


# -- settings, samples, pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_built(preset):
    settings = with_preset(Settings, PRESETS, preset)
    model = training.build(settings, 10)
    kinds = {"vae": VAE, "vq": VQGenerator, "latent": LatentDiffusion, "grid_vae": GridVAE}
    assert isinstance(model, kinds.get(settings.model, object))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"beta": math.inf}, "beta must be a number"),
        ({"dropout": 1.2}, "dropout must be from 0 to 1"),
        ({"hidden": (3, 0)}, "hidden and widths must be at least 1"),
        ({"T": 5}, "at most T = 5"),
        ({"model": "vq"}, "second_steps must be above 0"),
        ({"second_steps": 5}, "second_steps must be above 0"),
        ({"likelihood": "gaussian"}, "no Gaussian"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_samples_of_a_run(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "load_data", lambda settings: some_digits())
    more = {"latent": 2} if kind == "vae" else {}
    start(tmp_path / "run", Settings(**{**SHORT, **KINDS[kind], **more}))
    drawn = {path.stem for path in (tmp_path / "run").glob("*.png")}
    expected = {"vae": {"samples", "codes", "plane", "interpolation", "axes"}, "denoising": {"codes", "interpolation"},
                "vq": {"samples", "usage", "second_curves"}, "latent": {"samples", "second_curves"}}  # fmt: skip
    assert drawn == {"curves", "reconstructions", *expected[kind]}
    capsys.readouterr()
    sample.main(["--run", str(tmp_path / "run"), "--count", "2", "--picture", str(tmp_path / "drawn.png")])
    told = capsys.readouterr().out
    assert (tmp_path / "drawn.png").is_file() and "picture" in told
    assert told.count("squared error a pixel") == (2 if kind == "denoising" else 0)
    sample.main(["--run", str(tmp_path / "run"), "--count", "1", "--back"])
    assert capsys.readouterr().out.count("squared error a pixel") == 1


def test_what_can_not_be_sampled(tmp_path):
    for words, message in (
        (["--count", "0"], "--count expected at least 1"),
        (["--run", "a", "--weights", "b"], "--run or --weights, not both"),
        (["--run", str(tmp_path)], "is no run folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            sample.main(words)


def test_ablations_change_one_part(tmp_path, quick, rng):
    """Each runs, and is what its name says."""
    assert set(ablations.ABLATIONS) >= {"no KL", "KL · 10", "no straight-through", "no commitment", "no revival"}
    z = Tensor(rng.standard_normal((2, 3, 1, 1)).astype(np.float32), requires_grad=True)
    quantizer = ablations.NoStraightThrough(4, 3)
    e, _, commitment = quantizer(z)
    assert not e.requires_grad
    np.testing.assert_allclose(commitment.item(), mse_loss(z, e, reduction="sum").item(), rtol=1e-6)


def test_the_shipped_weights_give_the_bound_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    card = load_metadata(SHIPPED)
    assert shipped(SHIPPED, "autoencoder", Settings)[0] == Settings()
    assert "scratch train autoencoder --preset default --seed 0" in card["made by"]
    model, settings = sample.load_weights(SHIPPED)
    bound = tasks.vae_figures(model, load_digits(flat=False).test, settings.binarise)["negative ELBO"]
    assert abs(float(re.search(r"test negative ELBO ([\d.]+)", card["figures"])[1]) - bound) < 0.1
    assert bound < 108
