"""Train a Vision Transformer to classify images, if wanted after learning from images whose patches were hidden."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from scratch.data import (
    Batches,
    Dataset,
    Splits,
    hold_out,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    random_flip,
    random_shift,
)
from scratch.losses import cross_entropy
from scratch.models.vit import pictures
from scratch.models.vit.masked import MaskedAutoencoder, masked_loss, random_masks
from scratch.models.vit.model import VisionTransformer
from scratch.module import Module
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Array, Tensor
from scratch.training import Run, command, evaluate, standard_error
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train vit --FIELD VALUE` changes a field."""

    data: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    """Images (digits ship; mnist and fashion_mnist are downloaded)."""
    labels: int = 0
    """How many training images have a label; 0: all. Pre-training sees the others too."""
    patch_size: int = 7
    """Pixels a side of a patch."""
    dim: int = 64
    """Features of a patch, a multiple of heads."""
    depth: int = 4
    """Blocks."""
    heads: int = 4
    """Attention heads of each block."""
    pool: Literal["class", "mean"] = "class"
    """What the classifier reads: a token of its own, or the mean over the patches."""
    dropout: float = 0.0
    """Share of features set to zero at random in every step."""
    pretrain: int = 0
    """Steps of masked pre-training, before the steps with labels."""
    hidden: float = 0.75
    """Share of the patches that pre-training hides."""
    shift: int = 2
    """Pixels by which images are moved at random, at most."""
    flip: bool = False
    """Whether every other image is mirrored left to right."""
    both_ways: bool = False
    """Whether the test figures are those of the mean of two logits, the image's and its mirror image's."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all classes."""
    steps: int = 2000
    """Updates of the weights with labels."""
    batch_size: int = 128
    """Examples in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    warmup: int = 200
    """Steps in which the learning rate rises from 0, at most half of all; then it falls along a cosine to 0."""
    weight_decay: float = 0.1
    """Decay of the matrices in AdamW, multiplied by the learning rate."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 250
    """Steps between two looks at the validation set."""
    save_every: int = 250
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 2
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("dropout", "label_smoothing", "hidden"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if math.isinf(self.lr):
            raise ValueError(f"lr must be a number of at least 0, got {self.lr}")
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, got {self.dim} and {self.heads}")
        if 28 % self.patch_size:
            raise ValueError(f"patch_size must divide the images' 28 pixels, got {self.patch_size}")
        if self.pretrain and not 1 <= round(self.hidden * (28 // self.patch_size) ** 2) < (28 // self.patch_size) ** 2:
            raise ValueError(f"hidden must hide some of the {(28 // self.patch_size) ** 2} patches, got {self.hidden}")


LOWEST = {"labels": 0, "patch_size": 1, "dim": 1, "depth": 1, "heads": 1, "pretrain": 0, "shift": 0, "steps": 1,
          "batch_size": 1, "lr": 0, "warmup": 0, "weight_decay": 0, "clip": 0, "evaluate_every": 1, "save_every": 1,
          "seed": 0, "shards": 1}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"steps": 800, "warmup": 80, "evaluate_every": 200},
    "fashion": {
        "data": "fashion_mnist",
        "shift": 0,
        "flip": True,
        "both_ways": True,
        "steps": 8000,
        "evaluate_every": 1000,
    },  # fmt: skip
}


def build(settings: Settings, channels: int, classes: int) -> VisionTransformer:
    """The model that the settings describe, for images of 28 × 28 pixels."""
    s = settings
    return VisionTransformer(28, s.patch_size, channels, classes, s.dim, s.depth, s.heads,
                             dropout=s.dropout, pool=s.pool)  # fmt: skip


class BothWays(Module):
    """Answers with the mean of what a model says to an image and to its mirror image, (f(x) + f(x mirrored)) / 2.

    Shapes: (B, c, H, W) → as the model's.
    """

    def __init__(self, model: Module):
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(Tensor(x.data[..., ::-1]))) * 0.5


def decayed_apart(model: Module, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: matrices, which decay; and biases, norms, tokens and positions, which don't."""
    parameters = list(model.named_parameters())
    groups = [([p for p in parameters if p[1].ndim in (2, 4)], weight_decay),
              ([p for p in parameters if p[1].ndim not in (2, 4)], 0.0)]  # fmt: skip
    return [{"params": params, "weight_decay": decay} for params, decay in groups]


def summed_loss(model: Module, x: Array, y: Array, smoothing: float = 0.0) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, how many there are), as ShardedLoss wants it."""
    return cross_entropy(model(Tensor(x)), y, reduction="sum", label_smoothing=smoothing), len(y)


def augment(x: Array, settings: Settings) -> Array:
    """The batch moved and mirrored at random, as far as the settings say."""
    rng = generator()
    if settings.shift:
        x = random_shift(x, settings.shift, rng)
    return random_flip(x, rng) if settings.flip else x


def train(settings: Settings, run: Run, make: Callable[[Settings, int, int], VisionTransformer] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another model in its place."""
    s = settings
    manual_seed(s.seed)
    data = load_data(s)
    labelled = with_labels(data.train, s)
    classes = data.train.classes

    model = make(s, data.train.inputs.shape[1], classes)
    optimizer = AdamW(decayed_apart(model, s.weight_decay))
    schedule = cosine(s.lr, s.steps, warmup=min(s.warmup, s.steps // 2))
    batches = Batches(*labelled.arrays, batch_size=s.batch_size, seed=s.seed)
    loss_of = ShardedLoss(model, partial(summed_loss, smoothing=s.label_smoothing), s.shards)
    masked = Pretraining(model, data.train, s) if s.pretrain else None

    run.track(model=model, optimizer=optimizer, batches=batches, **(masked.parts() if masked else {}))
    sizes = " / ".join(f"{len(part):,}" for part in (labelled, data.validation, data.test))
    first = ("an empty picture", float(np.square(data.train.inputs).mean())) if masked else None
    run.introduce(f"{s.data}: {sizes} to learn from, to choose by, to report", model,
                  first_loss=first or (f"ln {classes}", math.log(classes)))  # fmt: skip

    for step in run.steps(s.pretrain + s.steps, s.save_every):
        if masked and step < s.pretrain:
            run.log(step, loss=masked.step(step, run), lr=masked.optimizer.lr)
            if step + 1 == s.pretrain:
                pictures.draw_pretrained(run.folder, masked.model, data.validation, s.hidden)
            continue
        x, y = next(batches)
        with stream(s.seed, step):  # augmentation and dropout are functions of seed and step
            loss = loss_of(augment(x, s), y)
        run.require_finite(loss, model, x)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), s.clip)
        optimizer.lr = schedule(step - s.pretrain)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1 - s.pretrain) % s.evaluate_every == 0 or step + 1 == s.pretrain + s.steps:
            run.evaluated(step, model, **evaluate(model, *data.validation.arrays))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    test = evaluate(BothWays(model) if s.both_ways else model, *data.test.arrays)
    results = {"test loss": test["loss"], "test accuracy": test["accuracy"],
               "standard error": standard_error(test["accuracy"], len(data.test))}  # fmt: skip
    drawn = pictures.draw_all(run.folder, run.history(), model, data, s.pretrain)
    run.finish(results, drawn, then=f"scratch sample vit --run {typed(run.folder)}")


class Pretraining:
    """The steps without labels: the encoder is the model that is trained with labels afterwards."""

    def __init__(self, encoder: VisionTransformer, images: Dataset, settings: Settings):
        s = self.settings = settings
        self.model = MaskedAutoencoder(encoder)
        self.optimizer = AdamW(decayed_apart(self.model, s.weight_decay))
        self.schedule = cosine(s.lr, s.pretrain, warmup=min(s.warmup, s.pretrain // 2))
        self.batches = Batches(images.inputs, batch_size=s.batch_size, seed=s.seed)
        self.loss_of = ShardedLoss(self.model, masked_loss, s.shards)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"masked": self.model, "masked_optimizer": self.optimizer, "images": self.batches}

    def step(self, step: int, run: Run) -> float:
        """One update; returns the loss."""
        s, patches = self.settings, (28 // self.settings.patch_size) ** 2
        (x,) = next(self.batches)
        with stream(s.seed, step):  # shifts, masks and dropout are functions of seed and step
            x = augment(x, s)
            keep, hide = random_masks(len(x), patches, s.hidden, generator())
            loss = self.loss_of(x, keep, hide)
        run.require_finite(loss, self.model.encoder, x)

        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.model.parameters(), s.clip)
        self.optimizer.lr = self.schedule(step)
        self.optimizer.step()
        return loss.item()


def with_labels(train: Dataset, settings: Settings) -> Dataset:
    """The images whose labels may be used, every class in its proportion. Raises ValueError if there are too few."""
    return hold_out(train, settings.labels, settings.seed)[1] if settings.labels else train


def load_data(settings: Settings) -> Splits:
    """Images (N, 1, 28, 28) to learn from, to choose by and to report."""
    sets: dict[str, Callable[..., Splits]] = {"digits": load_digits, "mnist": load_mnist}
    return sets.get(settings.data, load_fashion_mnist)(flat=False)


if __name__ == "__main__":
    command.main("vit")
