"""What surrounds the training of the convolutional networks: the loop, the pictures, the samples, the ablations."""

import json
import re
from importlib import resources

import numpy as np
import pytest

from scratch import Tensor, viz
from scratch.activations import log_softmax
from scratch.data import Batches, Dataset, Splits, cutout, load_digits, load_shapes, mixup, random_flip, random_shift
from scratch.layers import BatchNorm2d, Conv2d
from scratch.losses import cross_entropy
from scratch.models.cnn import VGG, LeNet5, MobileNet, ResNet, UNet, ablations, classify, pictures, sample
from scratch.models.cnn import train as cnn
from scratch.models.cnn.train import PRESETS, Settings
from scratch.models.mlp import train as mlp
from scratch.module import Module
from scratch.optim import AdamW, clip_grad_norm_
from scratch.random import generator, manual_seed, stream
from scratch.training import Run, checkpoint, evaluate, intersection_over_union, predict
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.weights import load_metadata, save_file

SHIPPED = resources.files("scratch.models.cnn") / "weights.safetensors"
RATES = [0.005, 0.01, 0.01, 0.01 * 0.853553390593, 0.005, 0.01 * 0.146446609407]  # 2 steps up, 4 along a cosine
SHORT = {"steps": 6, "evaluate_every": 3, "warmup": 2, "clip": 0.5, "lr": 0.01, "batch_size": 16}


def some_digits(dtype=np.float64) -> Splits:
    """56, 20 and 30 of them."""

    def part(data: Dataset, n: int) -> Dataset:
        return Dataset(data.name, data.inputs[:n].astype(dtype), data.targets[:n], data.class_names)

    return Splits(*(part(data, n) for data, n in zip(load_digits(flat=False), (56, 20, 30), strict=True)))


def some_shapes(dtype=np.float64) -> Splits:
    parts = (Dataset(d.name, d.inputs.astype(dtype), d.targets, d.class_names) for d in load_shapes(60, size=16))
    return Splits(*parts)


def start(folder, monkeypatch, data: Splits, settings: Settings, make=cnn.build) -> Run:
    """A run on these data in their precision, without pictures."""
    monkeypatch.setattr(cnn, "load_data", lambda settings: data)
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("cnn", settings, folder=folder)
    try:
        cnn.train(settings, run, lambda *a: make(*a).to(data.train.inputs.dtype))
    finally:
        run.close()
    return run


def assert_ends_as(folder, model: Module) -> None:
    """The last weights of the run, and the running statistics of its batch norms."""
    _, arrays = checkpoint.load(folder / CHECKPOINT)
    expected = model.state_dict()
    assert sum(name.startswith("model.") for name in arrays) == len(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-8, atol=1e-9, err_msg=name)


# -- the loop ---------------------------------------------------------------------------------------------------


def test_the_training_loop_is_the_loop_that_it_says(tmp_path, monkeypatch):
    """In two shards, with every augmentation, against the whole batch at once and the loss as it is defined."""
    more = {"model": "resnet", "widths": (3, 4), "shift": 1, "flip": True, "cutout": 6, "mixup": 0.4,
            "label_smoothing": 0.1, "shards": 2}  # fmt: skip
    data = some_digits()
    manual_seed(0)
    model = ResNet(layers=(1, 1), in_channels=1, widths=(3, 4)).to(np.float64)
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    batches = Batches(*data.train.arrays, batch_size=16, seed=0, drop_last=True)  # 3 batches, and 8 examples left over
    norms = []
    for step, rate in enumerate(RATES):
        x, y = next(batches)
        with stream(0, step):
            source = generator()
            x = cutout(random_flip(random_shift(x, 1, source), source), 6, source)
            x, q = mixup(x, y, 10, 0.4, source)
        q = 0.9 * q + 0.1 / 10
        loss = -(log_softmax(model(Tensor(x)), dim=1) * q).sum() / 16.0
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        optimizer.lr = rate
        optimizer.step()
    assert max(norms) > 0.5  # or clipping would not be seen

    start(tmp_path / "run", monkeypatch, data, Settings(**SHORT, **more))
    assert_ends_as(tmp_path / "run", model)


def test_a_loop_with_dropout_and_without_any_augmentation(tmp_path, monkeypatch):
    data = some_digits()
    manual_seed(3)
    model = VGG(stages=((3,), (4,)), hidden=(128,), dropout=0.3).to(np.float64)
    optimizer = AdamW(model.parameters(), weight_decay=0.2)
    batches = Batches(*data.train.arrays, batch_size=16, seed=3, drop_last=True)
    for step, rate in enumerate(RATES):
        x, y = next(batches)
        with stream(3, step):
            generator()  # that of the augmentation, unused; the next one is dropout's
            loss = cross_entropy(model(Tensor(x)), y)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.lr = rate
        optimizer.step()

    more = {"model": "vgg", "widths": (3, 4), "shift": 0, "dropout": 0.3, "weight_decay": 0.2, "seed": 3, "shards": 1}
    start(tmp_path / "run", monkeypatch, data, Settings(**SHORT, **more))
    assert_ends_as(tmp_path / "run", model)


def test_a_unet_learns_from_every_pixel_alike(tmp_path, monkeypatch):
    data = some_shapes()
    manual_seed(0)
    model = UNet(1, 4, width=3, depth=1).to(np.float64)
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    batches = Batches(*data.train.arrays, batch_size=16, seed=0, drop_last=True)
    pixels, classes = np.arange(256), 4
    for rate in RATES:
        x, y = next(batches)
        logits = model(Tensor(x)).transpose(0, 2, 3, 1).reshape(16, 256, classes)
        loss = -log_softmax(logits, dim=2)[np.arange(16)[:, None], pixels, y.reshape(16, 256)].mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.lr = rate
        optimizer.step()

    settings = Settings(**SHORT, data="shapes", model="unet", widths=(3, 6), shift=0)
    run = start(tmp_path / "run", monkeypatch, data, settings)
    assert_ends_as(tmp_path / "run", model)

    best, _ = sample.load_run(run.folder)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    right = predict(best, data.test.inputs.astype(np.float32)).argmax(axis=1)
    assert figures["test accuracy"] == pytest.approx((right == data.test.targets).mean(), abs=1e-3)
    over = intersection_over_union(data.test.targets, right, 4).mean()
    assert figures["test IoU"] == pytest.approx(over, abs=1e-3) and "standard error" not in figures
    assert figures["loss at step 0"] == pytest.approx(np.log(4), rel=0.5)


def test_the_report_and_the_pictures_are_of_the_best_weights_on_the_test_set(tmp_path, monkeypatch):
    """A learning rate that spoils the weights at the end: the best are of step 3, the last of step 6."""
    data, seen = some_digits(np.float32), []
    monkeypatch.setattr(cnn, "cosine", lambda *arguments, **more: lambda step: 2e-3 if step < 3 else 0.5)
    monkeypatch.setattr(Run, "finish", lambda self, results, drawn, then: seen.append(results))
    settings = Settings(**SHORT, model="resnet", widths=(3, 4))
    monkeypatch.setattr(cnn, "load_data", lambda settings: data)
    monkeypatch.setattr(
        pictures, "draw_all", lambda folder, log, model, data: seen.append(evaluate(model, *data.test.arrays))
    )
    run = Run.create("cnn", settings, folder=tmp_path / "run")
    cnn.train(settings, run)
    run.close()
    facts, arrays = checkpoint.load(tmp_path / "run" / CHECKPOINT)

    def judged(prefix: str, part: Dataset) -> dict[str, float]:
        model = cnn.build(settings, 1, 10)
        model.load_state_dict({k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)})
        return evaluate(model, *part.arrays)

    assert judged("best.", data.validation)["loss"] == facts["best"] < judged("model.", data.validation)["loss"]
    test, figures = judged("best.", data.test), seen[1]
    assert seen[0] == test != judged("model.", data.test)
    assert (figures["test loss"], figures["test accuracy"]) == (test["loss"], test["accuracy"])
    assert figures["standard error"] == pytest.approx(np.sqrt(test["accuracy"] * (1 - test["accuracy"]) / 30))


@pytest.mark.parametrize("step", [0, 4])
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(step, tmp_path, monkeypatch):
    """Two shards in 32 bits, with random images and running statistics; it breaks off after the update of `step`."""
    more = {"model": "resnet", "widths": (2, 3), "flip": True, "cutout": 4, "mixup": 0.2, "save_every": 2}
    settings, data = Settings(**{**SHORT, **more}), some_digits(np.float32)
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
    cnn.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    assert any("running_var" in name for name in expected)
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"shift": -1}, "shift must be at least 0, got -1"),
        ({"cutout": -2}, "cutout must be at least 0, got -2"),
        ({"mixup": float("nan")}, "mixup must be at least 0, got nan"),
        ({"lr": -0.1}, "lr must be at least 0, got -0.1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"dropout": 1.5}, "dropout must be from 0 to 1, got 1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing must be from 0 to 1, got -0.1"),
        ({"label_smoothing": float("nan")}, "label_smoothing must be from 0 to 1, got nan"),
        ({"widths": ()}, r"widths must be at least one number, each at least 1, got \(\)"),
        ({"widths": (8, 0)}, r"widths must be .*, got \(8, 0\)"),
        ({"data": "shapes"}, "unet labels pixels, and only shapes has labels for them: lenet on shapes"),
        ({"model": "unet"}, "only shapes has labels for them: unet on digits"),
        ({"data": "shapes", "model": "unet"}, "leave the masks behind: set them to 0 with unet"),
        ({"data": "shapes", "model": "unet", "shift": 0, "mixup": 0.1}, "leave the masks behind"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


def test_every_preset_builds_its_network_and_every_name_its_own():
    for preset in PRESETS:
        settings = with_preset(Settings, PRESETS, preset)
        model = cnn.build(settings, 1, 10)
        side = 48 if settings.data == "shapes" else 28
        assert predict(model, np.zeros((2, 1, side, side), np.float32)).shape[:2] == (2, 10)
    kinds = {"lenet": LeNet5, "vgg": VGG, "resnet": ResNet, "mobilenet": MobileNet}
    for name, kind in kinds.items():
        model = cnn.build(Settings(model=name, widths=(3, 5), blocks=2), 2, 7)
        assert type(model) is kind
        assert model(Tensor(np.zeros((2, 2, 28, 28), np.float32))).shape == (2, 7)
        assert [c.out_channels for c in model.modules() if isinstance(c, Conv2d)][:2] == {
            "lenet": [3, 5], "vgg": [3, 3], "resnet": [3, 3], "mobilenet": [16, 16]}[name]  # fmt: skip
    unet = cnn.build(Settings(data="shapes", model="unet", widths=(3, 6, 12), shift=0), 1, 4)
    assert isinstance(unet, UNet) and unet.depth == 2 and unet.head.weight.shape == (4, 3, 1, 1)


# -- pictures ---------------------------------------------------------------------------------------------------


LOSSES = [{"step": 0, "loss": 2.3}, {"step": 1, "loss": 2.2},
          {"step": 1, "validation_loss": 2.25, "validation_accuracy": 0.2}]  # fmt: skip


def test_pictures_of_a_classifier_are_drawn_and_the_model_left_as_it_was(tmp_path, monkeypatch):
    """Drawn but not written, which takes long and is tested elsewhere."""
    figures = {}

    def keep(figure, path):
        figures[path.name] = " / ".join(axes.get_title(loc="left") for axes in figure.axes)
        return path

    monkeypatch.setattr(pictures.viz, "save", keep)
    model, data = cnn.build(Settings(model="resnet", widths=(3, 4)), 1, 10), some_digits(np.float32)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    drawn = pictures.draw_all(tmp_path, LOSSES, model, data)
    names = ["curves", "filters", "feature_maps", "where", "confusion", "mistakes", "adversarial"]
    assert drawn == [tmp_path / f"{name}.png" for name in names]
    right = (predict(model, data.test.inputs).argmax(axis=1) == data.test.targets).sum()
    assert f"{right} of 30 right" in figures["confusion.png"] and f"{30 - right} of 30 wrong" in figures["mistakes.png"]
    assert "3 units" in figures["filters.png"] and "layer2: 4 of 4 maps, 14×14" in figures["feature_maps.png"]
    assert figures["where.png"].startswith("image / Grad-CAM, last maps / saliency")
    assert figures["adversarial.png"].count("change, at most 0.1") == 3
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_pictures_of_masks_show_the_worst_image_first(tmp_path, monkeypatch):
    """A model that is right but for image 9, where it calls all background."""
    data = some_shapes(np.float32)
    logits = np.moveaxis(np.eye(4, dtype=np.float32)[data.test.targets], -1, 1)
    logits[9] = np.array([1, 0, 0, 0], np.float32)[:, None, None]
    seen = []
    monkeypatch.setattr(pictures, "predict", lambda model, inputs: logits)
    monkeypatch.setattr(pictures.viz, "segmentation", lambda *arguments, title: seen.append((*arguments, title)))
    monkeypatch.setattr(pictures.viz, "save", lambda figure, path: path)
    drawn = pictures.draw_all(tmp_path, LOSSES, UNet(1, 4, 2, 1), data)
    assert [path.name for path in drawn] == ["curves.png", "masks.png", "feature_maps.png"]
    ((images, truths, labels, names, title),) = seen
    np.testing.assert_array_equal(images, data.test.inputs[[9, 0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(truths, data.test.targets[[9, 0, 1, 2, 3, 4]])
    assert not labels[0].any() and (labels[1:] == truths[1:]).all() and names == data.test.class_names
    there = np.unique(data.test.targets[9])
    share = 100 * (data.test.targets[9] == 0).mean() / len(there)  # the other classes have an IoU of 0
    assert len(there) > 1 and f"the worst of 12 test images (mean IoU {share:.1f} %)" in title


def test_stages_are_the_last_maps_of_each_size():
    x = np.zeros((1, 1, 28, 28), np.float32)
    settings = {"lenet": {"convolutions.0": 28, "convolutions.1": 14, "pool (2)": 7},
                "resnet": {"layer1": 28, "layer2": 14},
                "vgg": {"features.2": 28, "features.6": 14, "features": 7}}  # fmt: skip
    for name, expected in settings.items():
        found = pictures.stages(cnn.build(Settings(model=name, widths=(3, 4)), 1, 10), x)
        assert {stage: maps.shape[-1] for stage, maps in found.items()} == expected
    found = pictures.stages(UNet(1, 4, 2, 1), x)
    assert [(stage, maps.shape[1:]) for stage, maps in found.items()] == [
        ("down.0", (2, 28, 28)), ("bottom", (4, 14, 14)), ("", (4, 28, 28))]  # fmt: skip


def test_montage_and_shares():
    images = np.arange(5 * 2 * 4.0).reshape(5, 2, 4)
    whole = pictures.montage(images)
    assert whole.shape == (6, 12)
    for i in range(5):
        row, column = divmod(i, 3)
        np.testing.assert_array_equal(whole[2 * row : 2 * row + 2, 4 * column : 4 * column + 4], images[i])
    assert not whole[2:4, 8:].any() and not whole[4:].any()
    np.testing.assert_array_equal(pictures.shares([np.array([[1.0, 4.0]]), np.zeros((1, 2))]), [[[0.25, 1]], [[0, 0]]])


# -- samples ----------------------------------------------------------------------------------------------------


def run_of(folder, monkeypatch, settings: Settings, data: Splits):
    """The folder of a finished run."""
    start(folder, monkeypatch, data, settings)
    return str(folder)


def test_sampling_a_classifier(tmp_path, monkeypatch, capsys):
    data = some_digits(np.float32)
    run = run_of(tmp_path / "run", monkeypatch, Settings(**SHORT, widths=(3, 4)), data)
    monkeypatch.setattr(sample, "load_data", lambda settings: data)
    model, settings = sample.load_run(tmp_path / "run")
    assert not model.training and settings.widths == (3, 4)
    capsys.readouterr()
    sample.main(["--run", run, "--count", "5", "--seed", "2", "--picture", str(tmp_path / "seen.png")])
    text = capsys.readouterr().out
    rows = np.random.default_rng(2).choice(30, 5, replace=False)
    p = pictures.probabilities(model, data.test.inputs[rows])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    found = re.findall(r"is (\d), predicted (\d) ([\d.]+) %, \d .* %: (right|WRONG)", text)
    assert [(int(t), int(k)) for t, k, _, _ in found] == list(zip(data.test.targets[rows], p.argmax(1), strict=True))
    assert [share for _, _, share, _ in found] == [f"{100 * value:.1f}" for value in p.max(axis=1)]
    right = p.argmax(axis=1) == data.test.targets[rows]
    assert [verdict == "right" for *_, verdict in found] == list(right)
    assert f"{right.sum()} of 5 right\n" in text and viz.in_characters(data.test.inputs[rows[0], 0]).strip("\n") in text
    assert (tmp_path / "seen.png").read_bytes()[:4] == b"\x89PNG"


def test_sampling_a_unet(tmp_path, monkeypatch, capsys):
    data = some_shapes(np.float32)
    settings = Settings(**SHORT, data="shapes", model="unet", widths=(2, 4), shift=0)
    run, seen = run_of(tmp_path / "run", monkeypatch, settings, data), []
    monkeypatch.setattr(sample, "load_data", lambda settings: data)
    monkeypatch.setattr(sample.viz, "segmentation", lambda *arguments, title: seen.append(arguments))
    monkeypatch.setattr(sample.viz, "save", lambda figure, path: path)
    capsys.readouterr()
    sample.main(["--run", run, "--count", "4", "--picture", "seen.png"])
    text = capsys.readouterr().out
    rows = np.random.default_rng(0).choice(12, 4, replace=False)
    labels = predict(sample.load_run(tmp_path / "run")[0], data.test.inputs[rows]).argmax(axis=1)
    truths = data.test.targets[rows]
    over = intersection_over_union(truths, labels, 4)
    words = ", ".join(f"{n} {v:.3f}" for n, v in zip(data.test.class_names, over, strict=True))
    assert f"all 4 images: {words}\n" in text
    shares = re.findall(r"([\d.]+) % of the pixels right", text)
    assert shares == [f"{100 * (t == p).mean():.1f}" for t, p in zip(truths, labels, strict=True)]
    for given, expected in zip(seen[0][:3], (data.test.inputs[rows], truths, labels), strict=True):
        np.testing.assert_array_equal(given, expected)
    assert "picture  seen.png" in text


def test_masks_in_characters():
    mask = np.zeros((8, 6), int)
    mask[2, 1:4], mask[6, 5] = 1, 3
    assert sample.mask_in_characters(mask, ".crt") == ["cc.", "..t"]


def test_photographs_are_handed_over(monkeypatch):
    seen = []
    monkeypatch.setattr(classify, "main", lambda words: seen.append(words))
    sample.main(["--imagenet"])
    sample.main(["--imagenet", "cat.png", "--weights", "w.pth"])
    sample.main(["--weights", "w.pth", "--imagenet=cat.png"])
    assert seen == [[], ["cat.png", "--weights", "w.pth"], ["--weights", "w.pth", "cat.png"]]


def test_what_can_not_be_sampled(tmp_path, monkeypatch):
    data = some_digits(np.float32)
    run = run_of(tmp_path / "run", monkeypatch, Settings(**SHORT, widths=(3, 4)), data)
    monkeypatch.setattr(sample, "load_data", lambda settings: data)
    for words, message in [
        (["--run", run, "--count", "31"], "--count expected 1 to 30, got 31"),
        (["--run", run, "--count", "0"], "--count expected 1 to 30, got 0"),
        (["--run", run, "--seed", "-1"], "--seed expected a number of at least 0, got -1"),
        (["--run", run, "--weights", "x.safetensors"], "give --run or --weights, not both"),
    ]:
        with pytest.raises(ValueError, match=message):
            sample.main(words)
    Run.create("mlp", mlp.Settings(), folder=tmp_path / "other").close()
    with pytest.raises(ValueError, match="is a run of mlp, expected one of cnn"):
        sample.load_run(tmp_path / "other")
    Run.create("cnn", Settings(), folder=tmp_path / "empty").close()
    with pytest.raises(ValueError, match="stopped before its first evaluation; go on with: scratch resume"):
        sample.load_run(tmp_path / "empty")
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"model": "mlp"})
    with pytest.raises(ValueError, match="expected weights of cnn, found 'mlp'"):
        sample.load_weights(tmp_path / "w.safetensors")


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the weights are not there yet")
def test_the_shipped_weights_give_the_accuracy_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    card, test = load_metadata(SHIPPED), load_digits(flat=False).test
    model, settings = sample.load_weights(SHIPPED)
    assert settings == Settings() and "scratch train cnn --preset default --seed 0" in card["made by"]
    share = float(re.search(r"test accuracy ([\d.]+) %", card["figures"])[1]) / 100
    assert abs(evaluate(model, *test.arrays)["accuracy"] - share) < 0.002
    assert share > 0.97


# -- ablations --------------------------------------------------------------------------------------------------


LENET, DEEP = Settings(widths=(3, 4)), Settings(model="resnet", widths=(3, 4), blocks=2)


def images(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_shuffling_is_one_permutation_for_all_images_and_channels(rng):
    model = ablations.shuffled(LENET, 1, 10)
    x = images(rng, 3, 1, 28, 28)
    order = model.order
    assert sorted(order) == list(range(784)) and (order != np.arange(784)).mean() > 0.9
    other = np.stack([image.reshape(-1)[order].reshape(1, 28, 28) for image in x])
    np.testing.assert_array_equal(model(Tensor(x)).data, model.model(Tensor(other)).data)
    assert not any("order" in name for name, _ in model.named_parameters())


def test_pooling_by_the_mean_and_by_no_pooling(rng):
    x = images(rng, 2, 1, 28, 28)
    mean, strided = ablations.with_average_pooling(LENET, 1, 10), ablations.with_strides(LENET, 1, 10)
    for model in (mean, strided):
        assert model.count_parameters() == cnn.build(LENET, 1, 10).count_parameters()
    h = images(rng, 2, 3, 6, 8)
    np.testing.assert_allclose(mean.pool(Tensor(h)).data, h.reshape(2, 3, 3, 2, 4, 2).mean(axis=(3, 5)), atol=1e-6)
    seen = pictures.stages(strided, x)
    assert {name: maps.shape[1:] for name, maps in seen.items()} == {"pool": (3, 14, 14), "pool (2)": (4, 7, 7)}


def test_a_plain_network_is_the_residual_one_without_its_shortcuts(rng):
    """With a second convolution of zeros a residual block passes its input on, a plain one nothing."""
    model = ablations.plain(DEEP, 1, 10)
    blocks = [each for each in model.modules() if isinstance(each, ablations.PlainBlock)]
    assert len(blocks) == 4 and all(block.downsample is None for block in blocks)
    residual = cnn.build(DEEP, 1, 10)
    kept = [name for name in residual.state_dict() if "downsample" not in name]
    assert kept == list(model.state_dict())
    x = Tensor(images(rng, 2, 3, 5, 5))
    for block, passed in ((blocks[0], 0), (residual.layer1[0], np.maximum(x.data, 0))):
        block.conv2.weight.data[...] = 0
        np.testing.assert_allclose(block(x).data, np.broadcast_to(passed, x.shape), atol=1e-6)
    loss = cross_entropy(ablations.plain(DEEP, 1, 10)(Tensor(images(rng, 4, 1, 28, 28))), np.arange(4))
    loss.backward()


def test_without_norm_a_bias_is_left(rng):
    """In evaluation mode a fresh batch norm is the identity but for its eps, and so is a fresh bias."""
    manual_seed(1)
    normed = cnn.build(DEEP, 1, 10).eval()
    manual_seed(1)
    bare = ablations.resnet_without_norm(DEEP, 1, 10)
    assert not any(isinstance(module, BatchNorm2d) for module in bare.modules())
    norms = sum(isinstance(module, BatchNorm2d) for module in normed.modules())
    assert norms == sum(isinstance(module, ablations.Bias) for module in bare.modules()) == 10
    x = Tensor(images(rng, 2, 1, 28, 28))
    np.testing.assert_allclose(bare(x).data, normed(x).data, rtol=1e-3, atol=1e-4)
    bias = ablations.Bias(3)
    bias.bias.data[...] = [1, 2, 3]
    h = images(rng, 2, 3, 4, 5)
    np.testing.assert_array_equal(bias(Tensor(h)).data, h + np.float32([1, 2, 3]).reshape(3, 1, 1))
    assert not any(isinstance(m, BatchNorm2d) for m in ablations.plain_without_norm(DEEP, 1, 10).modules())


def test_the_first_gradient_is_measured_on_a_copy():
    model, data = cnn.build(DEEP, 1, 10), load_digits(flat=False).train
    before = {name: value.copy() for name, value in model.state_dict().items()}
    length = ablations.first_gradient(model, 8)
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    cross_entropy(model(Tensor(data.inputs[:8])), data.targets[:8]).backward()
    assert length == pytest.approx(np.sqrt((model.conv1.weight.grad.astype(np.float64) ** 2).sum()), rel=1e-5)


def test_every_ablation_is_a_run_of_its_own_and_its_figures_are_in_the_table(tmp_path, monkeypatch, capsys):
    ran = []

    def trained(settings: Settings, run: Run, make) -> None:
        ran.append(settings)
        make(settings, 1, 10)
        (run.folder / RESULTS).write_text(json.dumps({"figures": {"final loss": 0.5, "test accuracy": 0.25}}))

    monkeypatch.setattr(ablations, "train", trained)
    monkeypatch.setattr(ablations, "first_gradient", lambda model: 0.125)
    monkeypatch.setattr("sys.argv", ["ablations", "--steps", "500", "--seed", "4", "--parent", str(tmp_path)])
    ablations.main()
    names = [*ablations.LENET, *ablations.TWENTY]
    assert [settings.steps for settings in ran] == [500] * len(ablations.LENET) + [400] * len(ablations.TWENTY)
    assert {settings.seed for settings in ran} == {4} and len(list(tmp_path.iterdir())) == len(names)
    rows = [line for line in capsys.readouterr().out.splitlines() if "25.0 %" in line]
    assert rows == [f"| {name} | nan | 0.125 | 0.5 | 25.0 % |" for name in names]
