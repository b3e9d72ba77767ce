"""What surrounds the training of GANs: the loop, resuming, the pictures, the samples, the ablations."""

import copy
import json

import numpy as np
import pytest

from scratch import Tensor, viz
from scratch.data import Batches, Dataset
from scratch.layers import BatchNorm2d
from scratch.models.gan import ablations, inside, pictures, sample, tasks
from scratch.models.gan import train as training
from scratch.models.gan.losses import LOSSES
from scratch.models.gan.model import GAN, DCGANGenerator, MLPDiscriminator, MLPGenerator
from scratch.models.gan.penalty import between, clip_weights, gradient_penalty
from scratch.models.gan.tasks import Images, Points, drawn
from scratch.models.gan.train import PRESETS, Settings, discriminator_loss, generator_loss
from scratch.optim import Adam, AveragedModel
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.tensor import no_grad
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset

POINTS: dict = {"data": "gaussian_ring", "norm": "none", "conditional": False, "widths": (8, 7), "noise": 3,
                "batch_size": 12, "steps": 6, "evaluate_every": 3, "save_every": 2, "samples": 60, "shards": 1,
                "lr": 0.01, "ratio": 1.0}  # fmt: skip
DIGITS: dict = {"widths": (2, 3, 2), "conditional": False, "noise": 4, "batch_size": 6, "steps": 4,
                "evaluate_every": 2, "save_every": 2, "samples": 30, "lr": 0.01, "ratio": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def ring() -> Points:
    task = Points("gaussian_ring")
    task.train, task.validation, task.test = (
        Dataset(d.name, d.inputs[:n], d.targets[:n], d.class_names)
        for d, n in ((task.train, 300), (task.validation, 80), (task.test, 90))
    )
    return task


@pytest.fixture(scope="module")
def digits() -> Images:
    task = Images("digits")
    task.train, task.validation, task.test = (
        Dataset(d.name, d.inputs[:n], d.targets[:n], d.class_names)
        for d, n in ((task.train, 30), (task.validation, 80), (task.test, 90))
    )
    return task


def start(folder, monkeypatch, task, settings, make=training.build) -> Run:
    """A run on this task, without pictures."""
    monkeypatch.setattr(training, "load_task", lambda name: task)
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("gan", settings, folder=folder)
    try:
        training.train(settings, run, make)
    finally:
        run.close()
    return run


def ends(folder, prefix: str) -> dict[str, np.ndarray]:
    arrays = checkpoint.load(folder / CHECKPOINT)[1]
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def assert_equal(found, expected) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


# -- the loop ----------------------------------------------------------------------------------------------------


def test_the_loop_is_the_one_that_it_says(tmp_path, monkeypatch, ring):
    """Wasserstein with the penalty, two steps of the critic for one of the generator, by hand."""
    more = {"loss": "wasserstein", "penalty": "gradient", "weight": 3.0, "critic_steps": 2, "beta2": 0.9, "final": 0.5,
            "ratio": 3.0}  # fmt: skip
    settings = Settings(**POINTS | more)
    manual_seed(0)
    gan = GAN(MLPGenerator(3, (8, 7)), MLPDiscriminator(2, (8, 7))).to(np.float64)
    average = AveragedModel(gan.generator, 0.999)
    d = Adam(gan.discriminator.parameters(), 0.01, (0.5, 0.9))
    g = Adam(gan.generator.parameters(), 0.01, (0.5, 0.9))
    batches = Batches(*ring.train.arrays, batch_size=12, seed=0, drop_last=True)
    for step in range(6):
        d.lr = 0.01 * (0.75 + 0.25 * np.cos(np.pi * step / 6))
        g.lr = 3 * d.lr
        with stream(0, step):
            for _ in range(2):
                x, _ = next(batches)
                z, t = generator().standard_normal((12, 3)).astype(np.float32), generator().random(12)
                fake = gan.generator(z).data
                critic = gan.discriminator
                loss = (critic(fake) - critic(x)).mean() + 3 * gradient_penalty(critic, between(x, fake, t)).mean()
                gan.zero_grad()
                loss.backward()
                d.step()
            z = generator().standard_normal((12, 3)).astype(np.float32)
            loss = -gan.discriminator(gan.generator(z)).mean()
            gan.zero_grad()
            loss.backward()
            g.step()
        average.update_parameters(gan.generator)
    start(tmp_path / "run", monkeypatch, ring, settings, lambda *a: training.build(*a).to(np.float64))
    found, expected = ends(tmp_path / "run", "model."), gan.state_dict()
    # The critic's last bias cancels in its loss. What is left of its gradient is the rounding of 24 outputs, which Adam
    # divides by its ε of 1e-8 rather than by its size: 12 steps of lr · 24 · 2.2e-16 · |D| / 1e-8 at most.
    bias = "discriminator.net.4.bias"
    drift = 12 * 0.01 * 24 * np.finfo(np.float64).eps * 10 / 1e-8
    np.testing.assert_allclose(found.pop(bias), expected.pop(bias), rtol=0, atol=drift)
    assert_equal(found, expected)
    assert_equal(ends(tmp_path / "run", "average."), average.state_dict())


def test_clipping_and_the_saturating_loss(tmp_path, monkeypatch, ring):
    settings = Settings(**POINTS, loss="minimax", penalty="clip", weight=20.0, beta1=0.0, seed=3, decay=0.0,
                        final=1.0)  # fmt: skip
    manual_seed(3)
    gan = GAN(MLPGenerator(3, (8, 7)), MLPDiscriminator(2, (8, 7))).to(np.float64)
    d = Adam(gan.discriminator.parameters(), 0.01, (0.0, 0.999))
    g = Adam(gan.generator.parameters(), 0.01, (0.0, 0.999))
    batches = Batches(*ring.train.arrays, batch_size=12, seed=3, drop_last=True)
    for step in range(6):
        with stream(3, step):
            x, _ = next(batches)
            z = generator().standard_normal((12, 3)).astype(np.float32)
            generator()  # that of the penalty, which has none here
            critic, fake = gan.discriminator, gan.generator(z).data
            loss = LOSSES["minimax"].discriminator(critic(x), critic(fake)).mean()
            gan.zero_grad()
            loss.backward()
            d.step()
            clip_weights(critic, 0.05)
            z = generator().standard_normal((12, 3)).astype(np.float32)
            loss = LOSSES["minimax"].generator(gan(z)).mean()
            gan.zero_grad()
            loss.backward()
            g.step()
    start(tmp_path / "run", monkeypatch, ring, settings, lambda *a: training.build(*a).to(np.float64))
    assert_equal(ends(tmp_path / "run", "model."), gan.state_dict())
    assert all(np.abs(p.data).max() <= 0.05 for p in gan.discriminator.parameters())


CASES = {
    "batch norm": {},
    "conditional": {"conditional": True},
    "spectral norm": {"norm": "spectral", "loss": "hinge"},
    "penalty": {"norm": "none", "loss": "wasserstein", "penalty": "gradient"},
}


@pytest.mark.parametrize("name", CASES)
def test_two_shards_are_one(name, digits, rng):
    """Losses, gradients, running statistics and the vectors of spectral norm, of both steps, in float64."""
    settings = Settings(**{**DIGITS, **CASES[name]})
    manual_seed(0)
    whole = training.build(settings, digits).to(np.float64)
    cut = copy.deepcopy(whole)
    x, y = (array[:5] for array in digits.train.arrays)
    z, t = rng.standard_normal((5, 4)), rng.random(5)
    labels = (y,) if settings.conditional else ()
    for loss, batch in ((discriminator_loss, (x.astype(np.float64), z, t, *labels)), (generator_loss, (z, *labels))):
        values = []
        for gan, shards in ((whole, 1), (cut, 2)):
            gan.zero_grad()
            value = ShardedLoss(gan, lambda *a, loss=loss: loss(*a, settings=settings), shards)(*batch)
            value.backward()
            values.append(value.item())
        assert values[0] == pytest.approx(values[1], rel=1e-11)
        for (key, p), q in zip(whole.named_parameters(), cut.parameters(), strict=True):
            if p.grad is None:
                assert q.grad is None, key
            else:
                np.testing.assert_allclose(q.grad, p.grad, rtol=1e-8, atol=1e-12, err_msg=key)
    for key, value in whole.state_dict().items():
        np.testing.assert_allclose(cut.state_dict()[key], value, rtol=1e-10, atol=1e-14, err_msg=key)


@pytest.mark.parametrize(
    ("more", "step"),
    [({"conditional": True}, 0), ({"norm": "spectral", "loss": "hinge", "critic_steps": 2}, 3), (POINTS, 4)],
)
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(more, step, tmp_path, monkeypatch, ring, digits):
    """Both networks, both optimisers, the average, the film; it breaks off after the updates of `step`."""
    settings, task = Settings(**{**DIGITS, **more}), ring if more is POINTS else digits
    start(tmp_path / "whole", monkeypatch, task, settings)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == step:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, task, settings)
    generator().random()
    run = Run.resume(tmp_path / "run")
    training.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert set(arrays) == set(expected) and facts["best"] == others["best"]
    assert all(array.tobytes() == expected[name].tobytes() for name, array in arrays.items())
    parts = {name.split(".")[0] for name in arrays}
    assert parts == {"model", "average", "d_optimizer", "g_optimizer", "film", "best"}
    logs = [(tmp_path / name / LOG).read_text().splitlines() for name in ("run", "whole")]
    lines = [[{**json.loads(line), "seconds": 0} for line in log] for log in logs]
    assert lines[0] == lines[1]


def test_the_generators_step_leaves_the_discriminator_and_frees_it_again(tmp_path, monkeypatch, ring):
    kept = []
    monkeypatch.setattr(pictures.Film, "record", lambda self, gan, step: kept.append(gan))
    start(tmp_path / "run", monkeypatch, ring, Settings(**{**POINTS, "steps": 1}))
    gan = kept[0]
    assert all(p.requires_grad for p in gan.parameters())
    frozen = []

    def looking(gan, z, settings):
        frozen.append([p.requires_grad for p in gan.discriminator.parameters()])
        return generator_loss(gan, z, settings=settings)

    monkeypatch.setattr(training, "generator_loss", looking)
    start(tmp_path / "again", monkeypatch, ring, Settings(**{**POINTS, "steps": 1}))
    assert frozen and not any(frozen[0])


def test_the_loss_at_the_start_is_that_of_knowing_nothing(tmp_path, monkeypatch, digits, capsys):
    start(tmp_path / "run", monkeypatch, digits, Settings(**DIGITS))
    assert "knowing nothing costs 2 ln 2 = 1.386" in capsys.readouterr().out
    figures = json.loads((tmp_path / "run" / RESULTS).read_text())["figures"]
    assert figures["loss at step 0"] == pytest.approx(2 * np.log(2), rel=0.1)
    assert {"classes", "KL to uniform", "Fréchet distance", "Fréchet distance, real"} <= set(figures)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_what_they_say(name, ring, digits):
    settings = with_preset(Settings, PRESETS, name)
    gan = training.build(settings, ring if "gaussian" in settings.data else digits)
    norms = sum(isinstance(m, BatchNorm2d) for m in gan.discriminator.modules())
    assert norms == (2 if settings.norm == "batch" else 0)
    assert ("parametrizations" in " ".join(gan.state_dict())) == (settings.norm == "spectral")
    assert hasattr(gan.generator, "label") == settings.conditional == (name == "default")
    assert gan.generator.noise == settings.noise
    if "gaussian" not in settings.data:
        assert gan.generator.count_parameters() * 2 <= 1_000_000  # bytes of the file that ships


# -- data and judgement ------------------------------------------------------------------------------------------


def test_points_are_scaled_and_come_back(ring):
    assert ring.train.inputs.std() == pytest.approx(1, rel=0.1)
    ideal = Ideal(tasks.Points("gaussian_ring").scale)
    samples = ring.draw(ideal, 400, 0)
    figures = ring.distance(samples)
    assert figures["modes"] == 1 and figures["inside"] > 0.95 and figures["loss"] < 0.1
    report = ring.report(samples, False)
    assert report["modes"] == 8 and report["energy distance, ÷ real"] < 6
    collapsed = ring.report(np.tile(ring.centres[:1], (400, 1)), False)
    assert collapsed["modes"] == 1 and collapsed["inside"] == 1 and collapsed["energy distance, ÷ real"] > 100


class Ideal(MLPGenerator):
    """Draws the ring itself: the first number says which mode, two others where in it."""

    def __init__(self, scale: float):
        super().__init__(3, (2,))
        self.scale = scale

    def forward(self, z):
        mode = np.floor(np.abs(z.data[:, 0]) * 1e4).astype(int) % 8
        return Tensor(((tasks.ring_centres()[mode] + 0.1 * z.data[:, 1:]) / self.scale).astype(np.float32))


def test_digits_are_judged_by_class_and_distance(digits):
    real = tasks.to_pixels(digits.test.inputs)
    figures = digits.report(real, False)
    assert figures["classes"] == 10 and figures["KL to uniform"] < 0.1 and figures["Fréchet distance"] < 1e-3
    assert "read as asked" not in figures
    order = np.argsort(digits.test.targets, kind="stable")
    in_turn = [real[digits.test.targets == k] for k in range(10)]
    least = min(map(len, in_turn))
    asked = np.stack([part[:least] for part in in_turn], axis=1).reshape(-1, 1, 28, 28)
    assert digits.report(asked, True)["read as asked"] > 0.9 and len(order) == 90
    ones = np.repeat(real[digits.test.targets == 1][:1], 50, axis=0)
    assert digits.report(ones, False)["classes"] == 1
    assert digits.report(ones, False)["KL to uniform"] == pytest.approx(np.log(10))


def test_drawing_is_by_seed_in_evaluation_and_class_after_class():
    manual_seed(0)
    maker = DCGANGenerator(4, (2, 3, 2))
    before = maker.state_dict()["net.2.running_mean"].copy()
    one, two, other = drawn(maker, 7, 0), drawn(maker, 7, 0), drawn(maker, 7, 1)
    assert (one == two).all() and (one != other).any() and maker.training
    np.testing.assert_array_equal(maker.state_dict()["net.2.running_mean"], before)
    maker.eval()
    assert not (drawn(maker, 2, 0), maker.training)[1]


# -- inside ------------------------------------------------------------------------------------------------------


def test_arcs_keep_their_length_and_end_where_they_should(rng):
    a, b = rng.standard_normal((2, 5, 40))
    b[4] = a[4]
    for share, expected in ((0, a), (1, b)):
        np.testing.assert_allclose(inside.arc(a, b, share), expected, atol=1e-12)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(inside.arc(a, b, 0.3), axis=1), 1)


def test_interpolation_values_and_slopes(rng):
    manual_seed(0)
    maker, critic = MLPGenerator(3, (4,)), MLPDiscriminator(2, (4,))
    a, b = rng.standard_normal((2, 6, 3)).astype(np.float32)
    path = inside.interpolation(maker, a, b, 5)
    with no_grad():
        np.testing.assert_allclose(path[:, 0], maker(a).data, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(path[:, 4], maker(b).data, rtol=1e-5, atol=1e-6)
        x = rng.standard_normal((1100, 2)).astype(np.float32)
        values = critic(x).data
    assert path.shape == (6, 5, 2)
    np.testing.assert_allclose(inside.critic_values(critic, x), values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inside.probabilities(critic, x), 1 / (1 + np.exp(-values)), rtol=1e-5)
    h = 1e-3
    steps = [inside.critic_values(critic, x + np.float32(h) * np.eye(2, dtype=np.float32)[i]) for i in (0, 1)]
    by_steps = np.hypot(*((step - values) / h for step in steps))
    assert np.median(np.abs(inside.slopes(critic, x) - by_steps)) < 1e-3


def test_the_best_discriminator():
    p, q = np.array([0.2, 0.0, 0.3, 0.0]), np.array([0.2, 0.5, 0.1, 0.0])
    np.testing.assert_allclose(inside.best_discriminator(p, q), [0.5, 0, 0.75, 0.5])


# -- pictures, samples, ablations --------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [POINTS, POINTS | {"loss": "wasserstein", "data": "two_moons"}, {"conditional": True}])
def test_a_run_draws_its_pictures_and_can_be_sampled(more, tmp_path, monkeypatch, ring, digits, capsys):
    settings = Settings(**{**DIGITS, **more, "steps": 12, "evaluate_every": 12})
    task = digits if settings.conditional else ring
    for name in ("load_task",):
        monkeypatch.setattr(training, name, lambda name: task)
        monkeypatch.setattr(sample, name, lambda name: task)
    run = Run.create("gan", settings, folder=tmp_path / "run")
    training.train(settings, run)
    run.close()
    files = {file.name for file in run.folder.iterdir()}
    expected = {"samples.png", "interpolation.png"} if settings.conditional else {"training.gif"}
    assert {"curves.png", "distance.png", "training.png"} | expected <= files
    capsys.readouterr()
    sample.main(["--run", str(run.folder), "--count", "3", "--picture", str(tmp_path / "three.png")])
    shown = capsys.readouterr().out
    assert shown.count("\n\n") >= 2 if settings.conditional else shown.count("(") == 3
    assert (tmp_path / "three.png").exists() == settings.conditional


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--run", "a", "--weights", "b"], "give --run or --weights, not both"),
        (["--count", "0"], "--count expected at least 1 and --seed at least 0, got 0 and 0"),
        (["--seed", "-1"], "got 6 and -1"),
    ],
)
def test_bad_options_are_refused(words, told):
    with pytest.raises(ValueError, match=told):
        sample.main(words)


def test_a_run_of_another_model_or_without_weights_is_refused(tmp_path):
    run = Run.create("mlp", Settings(), folder=tmp_path / "mlp")
    run.close()
    with pytest.raises(ValueError, match="is a run of mlp, expected one of gan"):
        sample.load_run(tmp_path / "mlp")
    run = Run.create("gan", Settings(), folder=tmp_path / "gan")
    run.close()
    with pytest.raises(ValueError, match="was stopped before its first evaluation"):
        sample.load_run(tmp_path / "gan")


@pytest.mark.parametrize("group", ablations.GROUPS)
def test_every_ablation_builds_what_it_says(group, ring, digits):
    task = digits if group == "digits" else ring
    for name, (changes, make) in ablations.GROUPS[group].items():
        settings = Settings(**{**PRESETS[ablations.PRESET[group]], **changes, "widths": (2, 3, 2)})
        gan = make(settings, task)
        norms = sum(isinstance(m, BatchNorm2d) for m in gan.modules())
        expected = {"no batch norm": 0, "spectral norm and hinge loss": 3}
        assert norms == (expected.get(name, 5) if group == "digits" else 0), name
        if name == "real and fake in one batch norm":
            x, fake, y = task.train.inputs[:4], -task.train.inputs[4:8], task.train.targets[:4]
            together = gan.discriminator(np.concatenate([x, fake]), np.concatenate([y, y])).data
            both = gan.discriminator.both(x, fake, y)
            np.testing.assert_array_equal(np.concatenate([a.data for a in both]), together)
            assert np.abs(together[:4] - gan.discriminator(x, y).data).max() > 1e-4


def test_an_ablation_is_measured(tmp_path, monkeypatch, ring):
    monkeypatch.setattr(training, "load_task", lambda name: ring)
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    figures = ablations.measure("ring", "minimax loss, saturating", 0, 3, tmp_path)
    assert set(ablations.COLUMNS["ring"]) <= set(figures)
    document = json.loads((tmp_path / "gan-1" / "settings.json").read_text())
    assert document["settings"]["loss"] == "minimax" and document["settings"]["steps"] == 3


# -- the surface -------------------------------------------------------------------------------------------------


def test_a_surface_and_its_film(tmp_path, rng):
    points, fakes = rng.standard_normal((2, 40, 2))
    grid = viz.critic_grid(points, 12)
    values = grid[:, 0]
    page = viz.critic_surface(values, points, fakes, title="by x")
    assert page.axes[0].get_title(loc="left") == "by x"
    frames = [(1, values, fakes), (10, -values, fakes + 1)]
    film, still = viz.critic_animation(frames, points, tmp_path / "a.gif", limits=None)
    assert film.stat().st_size < 1_000_000 and still.suffix == ".png" and still.exists()
    flat = viz.critic_surface(np.zeros(144), points, fakes)
    assert len(flat.axes) == 2
    for bad in (values[:-1], np.full(144, np.nan)):
        with pytest.raises(ValueError, match="finite values on a square grid"):
            viz.critic_surface(bad, points, fakes)
    with pytest.raises(ValueError, match=r"points \(n, 2\) and \(m, 2\)"):
        viz.critic_surface(values, points[:, :1], fakes)
    with pytest.raises(ValueError, match="at least one frame"):
        viz.critic_animation([], points, tmp_path / "b.gif", limits=None)
    with pytest.raises(ValueError, match=r"ending in \.gif"):
        viz.critic_animation([(1, values, fakes)], points, tmp_path / "b.png", limits=None)
    with pytest.raises(ValueError, match="give fewer"):
        viz.critic_animation([(1, values, fakes)], points, tmp_path / "b.gif", limits=None, limit=100)


def test_a_film_of_points_is_kept_at_moments_ever_further_apart(ring):
    film = pictures.Film(ring, 1000)
    assert len(film.moments) <= pictures.FRAMES and {10, 1000} <= film.moments
    gan = GAN(MLPGenerator(3, (4,)), MLPDiscriminator(2, (4,)))
    for step in (1, 9, 10):
        film.record(gan, step)
    assert film.settings() == [10] and film.frames[0][1].shape == (pictures.SIDE**2,)
    assert ((film.frames[0][1] >= 0) & (film.frames[0][1] <= 1)).all()
    unbounded = pictures.Film(ring, 1000, unbounded=True)
    gan.discriminator.net[2].weight.data *= 1e7
    unbounded.record(gan, 10)
    assert np.isfinite(unbounded.frames[0][1]).all()
