"""Train a convolutional network to classify images, or, as a U-Net, to label every pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from scratch.data import (
    Batches,
    Splits,
    cutout,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_shapes,
    mixup,
    random_flip,
    random_shift,
)
from scratch.losses import cross_entropy
from scratch.models.cnn import pictures
from scratch.models.cnn.mobile import MobileNet
from scratch.models.cnn.model import VGG, LeNet5
from scratch.models.cnn.resnet import ResNet
from scratch.models.cnn.unet import UNet
from scratch.module import Module
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, command, evaluate, intersection_over_union, predict, standard_error
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train cnn --FIELD VALUE` changes a field."""

    data: Literal["digits", "mnist", "fashion_mnist", "shapes"] = "digits"
    """Images with a class each, or generated shapes with a class for every pixel."""
    model: Literal["lenet", "vgg", "resnet", "mobilenet", "unet"] = "lenet"
    """The architecture; only unet labels pixels."""
    widths: tuple[int, ...] = (16, 32)
    """Channels of each convolution of lenet, of each stage of vgg and resnet, of each level of unet, which doubles."""
    blocks: int = 1
    """Convolutions in a stage of vgg, residual blocks in a stage of resnet."""
    dropout: float = 0.0
    """Share of the last layer's inputs set to zero at random in every step, in vgg and mobilenet."""
    shift: int = 2
    """Pixels by which images are moved at random, at most."""
    flip: bool = False
    """Whether every other image is mirrored left to right."""
    both_ways: bool = False
    """Whether the test figures are those of the mean of two logits, the image's and its mirror image's."""
    cutout: int = 0
    """Side of the square that is cut out of each image; 0 cuts none."""
    mixup: float = 0.0
    """Alpha of the distribution by which images are blended in pairs; 0 blends none."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all classes."""
    steps: int = 1200
    """Updates of the weights."""
    batch_size: int = 64
    """Examples in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    warmup: int = 100
    """Steps in which the learning rate rises from 0, at most half of all; then it falls along a cosine to 0."""
    weight_decay: float = 0.1
    """Decay of the weights in AdamW, multiplied by the learning rate."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 200
    """Steps between two looks at the validation set."""
    save_every: int = 200
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 2
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if any(math.isinf(getattr(self, name)) for name in ("lr", "mixup")):
            raise ValueError(f"lr and mixup must be numbers of at least 0, got {self.lr} and {self.mixup}")
        if not self.widths or any(width < 1 for width in self.widths):
            raise ValueError(f"widths must be at least one number, each at least 1, got {self.widths}")
        if (self.data == "shapes") != (self.model == "unet"):
            raise ValueError(f"unet labels pixels, and only shapes has labels for them: {self.model} on {self.data}")
        if self.model == "unet" and (self.flip or self.shift or self.cutout or self.mixup):
            raise ValueError("flip, shift, cutout and mixup would leave the masks behind: set them to 0 with unet")


LOWEST = {"steps": 1, "batch_size": 2, "evaluate_every": 1, "save_every": 1, "shards": 1, "blocks": 1, "shift": 0,
          "cutout": 0, "mixup": 0, "lr": 0, "warmup": 0, "weight_decay": 0, "clip": 0, "seed": 0}  # fmt: skip

PRESETS = {
    "default": {},
    "quick": {"steps": 300, "evaluate_every": 100},
    "fashion": {"data": "fashion_mnist", "widths": (32, 64), "shift": 0, "flip": True, "steps": 5000,
                "evaluate_every": 500},
    "long": {"data": "fashion_mnist", "model": "resnet", "widths": (16, 64, 128), "shift": 0, "flip": True,
             "both_ways": True, "label_smoothing": 0.05, "steps": 10000, "lr": 4e-3, "warmup": 500,
             "evaluate_every": 1000},
    "shapes": {"data": "shapes", "model": "unet", "widths": (16, 32, 64, 128), "shift": 0, "steps": 3000,
               "batch_size": 16, "lr": 3e-3, "evaluate_every": 600},
}  # fmt: skip


def build(settings: Settings, channels: int, classes: int) -> Module:
    """The network that the settings name, for images of so many channels."""
    s = settings
    if s.model == "lenet":
        return LeNet5(channels, channels=s.widths, hidden=(128,), num_classes=classes, padding=2)
    if s.model == "vgg":
        stages = [(width,) * s.blocks for width in s.widths]
        return VGG(channels, stages=stages, hidden=(128,), num_classes=classes, dropout=s.dropout)
    if s.model == "resnet":
        return ResNet(layers=(s.blocks,) * len(s.widths), num_classes=classes, in_channels=channels, widths=s.widths)
    if s.model == "mobilenet":
        return MobileNet(classes, s.dropout, in_channels=channels)
    return UNet(channels, classes, width=s.widths[0], depth=len(s.widths) - 1)


class BothWays(Module):
    """Answers with the mean of what a model says to an image and to its mirror image, (f(x) + f(x mirrored)) / 2.

    Input (B, C, H, W), output as the model's.
    """

    def __init__(self, model: Module):
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(Tensor(x.data[..., ::-1]))) * 0.5


def summed_loss(model: Module, x: np.ndarray, y: np.ndarray, smoothing: float = 0.0) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, how many there are), as ShardedLoss wants it; y labels or probabilities."""
    logits = model(Tensor(x))
    return cross_entropy(logits, y, reduction="sum", label_smoothing=smoothing), logits.size / logits.shape[1]


def augment(x: np.ndarray, y: np.ndarray, settings: Settings, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The batch moved, mirrored, cut and blended at random, as far as the settings say."""
    rng = generator()
    if settings.shift:
        x = random_shift(x, settings.shift, rng)
    if settings.flip:
        x = random_flip(x, rng)
    if settings.cutout:
        x = cutout(x, settings.cutout, rng)
    return mixup(x, y, classes, settings.mixup, rng) if settings.mixup else (x, y)


def train(settings: Settings, run: Run, make: Callable[[Settings, int, int], Module] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another network in its place."""
    manual_seed(settings.seed)
    data = load_data(settings)
    classes = data.train.classes

    model = make(settings, data.train.inputs.shape[1], classes)
    optimizer = AdamW(model.parameters(), weight_decay=settings.weight_decay)
    schedule = cosine(settings.lr, settings.steps, warmup=min(settings.warmup, settings.steps // 2))
    batches = Batches(*data.train.arrays, batch_size=settings.batch_size, seed=settings.seed, drop_last=True)
    loss_of = ShardedLoss(model, partial(summed_loss, smoothing=settings.label_smoothing), settings.shards)

    run.track(model=model, optimizer=optimizer, batches=batches)
    sizes = " / ".join(f"{len(part):,}" for part in data)
    run.introduce(f"{settings.data}: {sizes} to learn from, to choose by, to report", model,
                  first_loss=(f"ln {classes}", math.log(classes)))  # fmt: skip

    for step in run.steps(settings.steps, settings.save_every):
        x, y = next(batches)
        with stream(settings.seed, step):  # augmentation and dropout are functions of seed and step
            x, y = augment(x, y, settings, classes)
            loss = loss_of(x, y)
        run.require_finite(loss, model, x)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, **evaluate(model, *data.validation.arrays))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    results = report(BothWays(model) if settings.both_ways else model, data)
    drawn = pictures.draw_all(run.folder, run.history(), model, data)
    run.finish(results, drawn, then=f"scratch sample cnn --run {typed(run.folder)}")


def report(model: Module, data: Splits) -> dict[str, float]:
    """The figures of the test set."""
    test = evaluate(model, *data.test.arrays)
    results = {"test loss": test["loss"], "test accuracy": test["accuracy"]}
    if data.test.targets.ndim == 1:
        return results | {"standard error": standard_error(test["accuracy"], len(data.test))}
    labels = predict(model, data.test.inputs).argmax(axis=1)
    shares = intersection_over_union(data.test.targets, labels, data.test.classes)
    return results | {"test IoU": float(shares.mean())}


def load_data(settings: Settings) -> Splits:
    """Images (N, C, H, W) to learn from, to choose by and to report."""
    if settings.data == "shapes":
        return load_shapes(5000, channels=3, shapes=2)
    sets: dict[str, Callable[..., Splits]] = {"digits": load_digits, "mnist": load_mnist}
    return sets.get(settings.data, load_fashion_mnist)(flat=False)


if __name__ == "__main__":
    command.main("cnn")
