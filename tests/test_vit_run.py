"""What surrounds the Vision Transformer: the loop with and without pre-training, pictures, samples, ablations."""

import json
import math
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from scratch import Tensor
from scratch.activations import log_softmax
from scratch.data import Batches, Dataset, Splits, load_digits, random_flip, random_shift
from scratch.models.mlp import train as mlp
from scratch.models.vit import MaskedAutoencoder, VisionTransformer, ablations, pictures, sample
from scratch.models.vit import train as vit
from scratch.models.vit.masked import masked_loss, random_masks
from scratch.models.vit.train import PRESETS, Settings
from scratch.optim import AdamW, clip_grad_norm_
from scratch.random import generator, manual_seed, stream
from scratch.training import Run, checkpoint, evaluate
from scratch.training.folder import CHECKPOINT, LOG, read_log
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.training.ship import shipped
from scratch.weights import load_metadata, save_file

SHIPPED = Path(str(resources.files("scratch.models.vit"))) / "weights.safetensors"
RATES = [0.005, 0.01, 0.01, 0.01 * 0.853553390593, 0.005, 0.01 * 0.146446609407]  # 2 steps up, 4 along a cosine
SHORT: dict = {"patch_size": 14, "dim": 8, "depth": 1, "heads": 2, "steps": 6, "evaluate_every": 3, "warmup": 2,
               "clip": 0.5, "lr": 0.01, "weight_decay": 0.3, "batch_size": 16}  # fmt: skip


def some_digits(dtype=np.float64) -> Splits:
    """80, 20 and 30 of them."""

    def part(data: Dataset, n: int) -> Dataset:
        return Dataset(data.name, data.inputs[:n].astype(dtype), data.targets[:n], data.class_names)

    return Splits(*(part(data, n) for data, n in zip(load_digits(flat=False), (80, 20, 30), strict=True)))


def start(folder, monkeypatch, data: Splits, settings: Settings, make=vit.build) -> Run:
    """A run on these data in their precision, without pictures."""
    monkeypatch.setattr(vit, "load_data", lambda settings: data)
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    monkeypatch.setattr(pictures, "draw_pretrained", lambda *arguments: None)
    run = Run.create("vit", settings, folder=folder)
    try:
        vit.train(settings, run, lambda *a: make(*a).to(data.train.inputs.dtype))
    finally:
        run.close()
    return run


def figures_of(run: Run) -> dict[str, float]:
    return json.loads((run.folder / RESULTS).read_text(encoding="utf-8"))["figures"]


# -- the loop ---------------------------------------------------------------------------------------------------


def adamw(model) -> AdamW:
    """Matrices decay; biases, norms, tokens and positions don't."""
    thin = ("bias", "norm", "cls_token", "pos_embed", "mask_token")
    named = list(model.named_parameters())
    decayed = [p for name, p in named if not any(word in name for word in thin)]
    others = [p for name, p in named if any(word in name for word in thin)]
    return AdamW([{"params": decayed, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}])


def update(loss: Tensor, model, optimizer: AdamW, lr: float) -> float:
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(model.parameters(), 0.5)
    optimizer.lr = lr
    optimizer.step()
    return loss.item()


def mean_surprise(model, x, y, smoothing: float = 0.0) -> Tensor:
    log_p = log_softmax(model(Tensor(x)), dim=1)
    target = np.eye(10)[y] * (1 - smoothing) + smoothing / 10
    return -(log_p * target).sum() / float(len(y))


@pytest.mark.parametrize("shards", [1, 2])
def test_the_training_loop_is_the_loop_that_it_says(shards, tmp_path, monkeypatch):
    """Shifts and mirror images drawn before sharding, smoothed labels, clipping, matrices alone decayed, a cosine."""
    data = some_digits()
    manual_seed(3)
    model = VisionTransformer(28, 14, dim=8, depth=1, heads=2).to(np.float64)
    optimizer, losses = adamw(model), []
    batches = Batches(*data.train.arrays, batch_size=16, seed=3)
    for n in range(6):
        x, y = next(batches)
        with stream(3, n):
            rng = generator()
            x = random_flip(random_shift(x, 1, rng), rng)
        losses.append(update(mean_surprise(model, x, y, 0.1), model, optimizer, RATES[n]))

    settings = Settings(**SHORT, seed=3, shift=1, flip=True, label_smoothing=0.1, shards=shards)
    run = start(tmp_path / "run", monkeypatch, data, settings)
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-8, atol=1e-9, err_msg=name)
    logged = [line["loss"] for line in read_log(run.folder) if "loss" in line]
    np.testing.assert_allclose(logged, losses, rtol=1e-8)
    assert figures_of(run)["loss at step 0"] == pytest.approx(math.log(10), rel=1e-9)  # the head is 0
    best = VisionTransformer(28, 14, dim=8, depth=1, heads=2).to(np.float64)
    best.load_state_dict({k.removeprefix("best."): a for k, a in arrays.items() if k.startswith("best.")})
    expected = evaluate(best, *data.test.arrays)
    assert figures_of(run)["test accuracy"] == expected["accuracy"]
    assert figures_of(run)["standard error"] == pytest.approx(
        math.sqrt(expected["accuracy"] * (1 - expected["accuracy"]) / 30)
    )


def test_pre_training_and_then_the_labels(tmp_path, monkeypatch):
    """All images without labels, with masks drawn before sharding; then a new optimiser and some labels."""
    data = some_digits()
    manual_seed(3)
    model = VisionTransformer(28, 14, dim=8, depth=1, heads=2).to(np.float64)
    autoencoder = MaskedAutoencoder(model).to(np.float64)
    few = vit.with_labels(data.train, Settings(labels=20, seed=3))
    assert len(few) == 20
    unlabelled, labelled = (
        Batches(data.train.inputs, batch_size=16, seed=3),
        Batches(*few.arrays, batch_size=16, seed=3),
    )
    first, second, losses = adamw(autoencoder), adamw(model), []
    for n in range(6):
        (x,) = next(unlabelled)
        with stream(3, n):
            x = random_shift(x, 2, generator())
            keep, hide = random_masks(16, 4, 0.5, generator())
            total, count = masked_loss(autoencoder, x, keep, hide)
        losses.append(update(total / float(count), autoencoder, first, RATES[n]))
    for n in range(6):
        x, y = next(labelled)
        with stream(3, 6 + n):
            x = random_shift(x, 2, generator())
        losses.append(update(mean_surprise(model, x, y), model, second, RATES[n]))

    run = start(tmp_path / "run", monkeypatch, data, Settings(**SHORT, seed=3, pretrain=6, hidden=0.5, labels=20))
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-8, atol=1e-9, err_msg=name)
    logged = [line["loss"] for line in read_log(run.folder) if "loss" in line]
    np.testing.assert_allclose(logged, losses, rtol=1e-8)
    validated = [line["step"] for line in read_log(run.folder) if "validation_loss" in line]
    assert validated == [9, 12]


def test_the_answer_may_be_that_to_the_image_and_to_its_mirror_image(tmp_path, monkeypatch):
    data = some_digits()
    run = start(tmp_path / "run", monkeypatch, data, Settings(**SHORT, both_ways=True))
    model, x = sample.load_run(run.folder)[0].to(np.float64), data.test.inputs
    logits = [model(Tensor(images)).data for images in (x, np.flip(x, 3).copy())]
    surprise = -log_softmax(Tensor((logits[0] + logits[1]) / 2), dim=1).data[np.arange(30), data.test.targets]
    assert figures_of(run)["test loss"] == pytest.approx(surprise.mean(), rel=1e-4)
    assert figures_of(run)["test loss"] != pytest.approx(evaluate(model, *data.test.arrays)["loss"], rel=1e-4)


@pytest.mark.parametrize(("step", "pretrain"), [(0, 0), (4, 0), (3, 6), (9, 6)])
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(step, pretrain, tmp_path, monkeypatch):
    """Two shards in 32 bits, with dropout; it breaks off after the update of `step`, before or after pre-training."""
    settings = Settings(**SHORT, flip=True, dropout=0.2, pretrain=pretrain, hidden=0.5, labels=20, save_every=2)
    data = some_digits(np.float32)
    start(tmp_path / "whole", monkeypatch, data, settings)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == step:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, data, settings)
    generator().random()
    run = Run.resume(tmp_path / "run")
    vit.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    assert any("decoder" in name for name in expected) == bool(pretrain)
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 10}, "dim must be a multiple of heads, got 10 and 4"),
        ({"patch_size": 5}, "patch_size must divide the images' 28 pixels, got 5"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": math.nan}, "lr must be at least 0, got nan"),
        ({"lr": math.inf}, "lr must be a number of at least 0, got inf"),
        ({"dropout": 1.5}, "dropout must be from 0 to 1, got 1.5"),
        ({"hidden": -0.5}, "hidden must be from 0 to 1, got -0.5"),
        ({"hidden": 1.0, "pretrain": 5}, "hidden must hide some of the 16 patches, got 1.0"),
        ({"hidden": 0.01, "pretrain": 5}, "hidden must hide some of the 16 patches, got 0.01"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**changes)


def test_every_preset_builds_its_model():
    for name in PRESETS:
        settings = with_preset(Settings, PRESETS, name)
        model = vit.build(settings, 1, 10)
        assert len(model.blocks) == settings.depth and model.patch_embed.patch_size == settings.patch_size
    assert vit.build(Settings(), 1, 10).count_parameters() == 205_066
    assert PRESETS["fashion"]["data"] == "fashion_mnist"
    assert Settings(**ablations.MASKED).pretrain > 0 and vars(Settings(**ablations.FEW)) == vars(
        Settings(**{**ablations.MASKED, "pretrain": 0})
    )


# -- pictures and samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pool", "pretrain"), [("class", 2), ("mean", 0)])
def test_every_picture_is_drawn(pool, pretrain, tmp_path, rng):
    data = some_digits(np.float32)
    model = vit.build(Settings(**SHORT, pool=pool), 1, 10)
    for parameter in model.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.shape).astype(np.float32)
    log = [{"step": n, "loss": 1.0 / (n + 1)} for n in range(6)]
    log.append({"step": 6, "validation_loss": 0.5, "validation_accuracy": 0.5})
    drawn = pictures.draw_all(tmp_path, log, model, data, pretrain)
    if pretrain:
        before = {name: array.copy() for name, array in model.state_dict().items()}
        drawn.append(pictures.draw_pretrained(tmp_path, MaskedAutoencoder(model), data.validation, 0.5))
        assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    names = {"curves", "rollout", "positions", "distance", "filters", "confusion", "mistakes"}
    names |= {"heads"} if pool == "class" else set()
    names |= {"pretraining", "drawing"} if pretrain else set()
    assert {path.stem for path in drawn} == names and all(path.stat().st_size < 200_000 for path in drawn)
    assert model.training


def test_the_mean_distance_of_two_patches():
    model = vit.build(Settings(), 1, 10)
    places = [(i, j) for i in range(4) for j in range(4)]
    expected = 7 * np.mean([math.dist(a, b) for a in places for b in places])
    assert pictures.evenly(model) == pytest.approx(expected)


def test_samples_show_the_image_and_where_the_answer_comes_from(tmp_path, monkeypatch, capsys):
    data = some_digits(np.float32)
    run = start(tmp_path / "run", monkeypatch, data, Settings(**SHORT))
    monkeypatch.setattr(sample, "load_data", lambda settings: data)
    capsys.readouterr()
    files = [tmp_path / "where.png", tmp_path / "heads.png"]
    sample.main(["--run", str(run.folder), "--count", "3", "--picture", str(files[0]), "--heads", str(files[1])])
    text = capsys.readouterr().out
    assert len(re.findall(r"^is \d, predicted (?:\d [\d.]+ %(?:, )?){3}: (?:right|WRONG)$", text, re.MULTILINE)) == 3
    assert re.search(r"\d of 3 right", text) and all(file.stat().st_size > 1000 for file in files)
    beside = [re.search(r" {2,}(\d+) +(\d+)$", line) for line in text.split("\nis ")[0].splitlines()]
    numbers = [int(number) for row in beside if row for number in row.groups()]
    assert len(numbers) == 4 and abs(sum(numbers) - 100) <= 2


def test_the_shipped_weights_give_the_accuracy_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    card, test = load_metadata(SHIPPED), load_digits(flat=False).test
    model, settings = sample.load_weights(SHIPPED)
    assert settings == shipped(SHIPPED, "vit", Settings)[0] == Settings()
    share = float(re.search(r"test accuracy ([\d.]+) %", card["figures"])[1]) / 100
    assert abs(evaluate(model, *test.arrays)["accuracy"] - share) < 0.002
    assert share >= 0.94


def test_what_can_not_be_sampled(tmp_path, monkeypatch):
    data = some_digits(np.float32)
    run = str(start(tmp_path / "run", monkeypatch, data, Settings(**SHORT)).folder)
    monkeypatch.setattr(sample, "load_data", lambda settings: data)
    for words, message in [
        (["--run", run, "--count", "31"], "--count expected 1 to 30, got 31"),
        (["--run", run, "--seed", "-1"], "--seed expected a number of at least 0, got -1"),
        (["--run", run, "--weights", "x.safetensors"], "give --run or --weights, not both"),
    ]:
        with pytest.raises(ValueError, match=message):
            sample.main(words)
    Run.create("mlp", mlp.Settings(), folder=tmp_path / "other").close()
    with pytest.raises(ValueError, match="is a run of mlp, expected one of vit"):
        sample.load_run(tmp_path / "other")
    Run.create("vit", Settings(), folder=tmp_path / "empty").close()
    with pytest.raises(ValueError, match="stopped before its first evaluation; go on with: scratch resume"):
        sample.load_run(tmp_path / "empty")
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"model": "mlp"})
    with pytest.raises(ValueError, match="expected weights of vit, found 'mlp'"):
        sample.load_weights(tmp_path / "w.safetensors")


# -- ablations --------------------------------------------------------------------------------------------------


TINY = Settings(**SHORT)


def images(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, 1, 28, 28)).astype(np.float32)


def awake(rng: np.random.Generator, model: VisionTransformer) -> VisionTransformer:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data[...] = 0.3 * rng.standard_normal(parameter.shape)
    return model


def moved(x: np.ndarray) -> np.ndarray:
    """The left and the right half change places: the patches of each row, two of 14 × 14, do."""
    return np.concatenate([x[..., 14:], x[..., :14]], axis=-1)


def test_without_positions_patches_may_change_places(rng):
    x, settings = images(rng, 3), Settings(**SHORT, pool="mean")
    bag, model = awake(rng, ablations.without_positions(settings, 1, 10)), awake(rng, vit.build(settings, 1, 10))
    np.testing.assert_allclose(bag(moved(x)).data, bag(x).data, rtol=1e-4, atol=1e-5)
    model.pos_embed.data *= 10  # as large as what the patches give
    assert np.abs(model(moved(x)).data - model(x).data).max() > 1e-2
    assert not bag.pos_embed.requires_grad and not bag.pos_embed.data.any()


def test_without_attention_a_patch_changes_its_own_token_only(rng):
    x = images(rng, 1)
    other = x.copy()
    other[..., :14, :14] += 1
    model = awake(rng, ablations.without_attention(Settings(**SHORT, pool="mean"), 1, 10))
    difference = np.abs(model.features(other).data - model.features(x).data).max(axis=2)[0]
    assert difference[0] > 1e-2 and not difference[1:].any()


def test_shuffled_patches_are_the_same_ones(rng):
    x = images(rng, 2)
    manual_seed(0)
    model = ablations.shuffled(TINY, 1, 10).to(np.float64)
    manual_seed(0)
    plain = vit.build(TINY, 1, 10).to(np.float64).patch_embed
    order = np.random.default_rng(0).permutation(4)
    np.testing.assert_array_equal(model.patch_embed.cut(x).data, plain.cut(x).data[:, order])
    np.testing.assert_allclose(model.patch_embed(x).data, plain(x).data[:, order], rtol=1e-12, atol=1e-12)


def test_every_ablation_is_a_run_of_its_own_and_its_figures_are_in_the_table(tmp_path, monkeypatch, capsys):
    ran = []

    def trained(settings: Settings, run: Run, make) -> None:
        ran.append(settings)
        make(settings, 1, 10)
        (run.folder / RESULTS).write_text(json.dumps({"figures": {"final loss": 0.5, "test accuracy": 0.25}}))

    monkeypatch.setattr(ablations, "train", trained)
    monkeypatch.setattr("sys.argv", ["ablations", "--steps", "500", "--seed", "4", "--parent", str(tmp_path)])
    ablations.main()
    names = [*ablations.PARTS, *ablations.PRETRAINED]
    assert {settings.seed for settings in ran} == {4} and len(list(tmp_path.iterdir())) == len(names) == len(ran)
    assert [settings.steps for settings in ran[: len(ablations.PARTS)]] == [500] * len(ablations.PARTS)
    rows = [line for line in capsys.readouterr().out.splitlines() if "25.0 %" in line]
    assert rows == [f"| {name} | nan | 0.5 | nan | 25.0 % |" for name in names]
