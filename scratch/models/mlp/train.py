"""Train a multilayer perceptron on handwritten digits, on pictures of clothes, or on points in the plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scratch.data import TOYS, Batches, Splits, load_digits, load_fashion_mnist, load_mnist, random_shift
from scratch.losses import cross_entropy
from scratch.models.mlp import pictures
from scratch.models.mlp.model import MLP
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, command, evaluate, standard_error
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train mlp --FIELD VALUE` changes a field."""

    data: Literal[
        "digits", "mnist", "fashion_mnist", "xor", "spirals", "two_moons", "circles", "gaussian_ring"
    ] = "digits"
    """Images (digits ship; mnist and fashion_mnist are downloaded), or one of the sets of points in the plane."""
    hidden: tuple[int, ...] = (256, 128)
    """Units of each hidden layer."""
    shift: int = 2
    """Pixels by which images are moved at random, at most; points in the plane stay where they are."""
    dropout: float = 0.2
    """Share of hidden units set to zero at random in every step."""
    steps: int = 1500
    """Updates of the weights."""
    batch_size: int = 128
    """Examples in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    warmup: int = 100
    """Steps in which the learning rate rises from 0, at most half of all; then it falls along a cosine to 0."""
    weight_decay: float = 0.1
    """Decay of the weights in AdamW, multiplied by the learning rate."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 100
    """Steps between two looks at the validation set."""
    save_every: int = 200
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 1
    """Parts that each batch is cut into, one thread each; one is fastest for a network this small."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.dropout > 1 or not self.dropout >= 0:
            raise ValueError(f"dropout must be from 0 to 1, got {self.dropout}")
        if math.isinf(self.lr):
            raise ValueError(f"lr must be a number of at least 0, got {self.lr}")
        if any(units < 1 for units in self.hidden):
            raise ValueError(f"hidden must be at least 1 unit a layer, got {' '.join(map(str, self.hidden))}")


LOWEST = {"steps": 1, "batch_size": 1, "evaluate_every": 1, "save_every": 1, "shards": 1,
          "shift": 0, "lr": 0, "warmup": 0, "weight_decay": 0, "clip": 0, "seed": 0}  # fmt: skip


PRESETS = {
    "default": {},
    "quick": {"steps": 500, "hidden": (128,), "shift": 1, "evaluate_every": 50, "warmup": 30},
    "long": {"steps": 6000, "hidden": (512, 256)},
    "fashion": {"data": "fashion_mnist", "hidden": (512, 256), "shift": 0, "steps": 8000, "evaluate_every": 500},
    "plane": {"data": "spirals", "hidden": (64, 64), "dropout": 0.0, "steps": 400, "evaluate_every": 10, "lr": 5e-3},
}


def summed_loss(model: MLP, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, how many there are), as ShardedLoss wants it."""
    return cross_entropy(model(Tensor(x)), y, reduction="sum"), len(y)


def train(settings: Settings, run: Run, kind: type[MLP] = MLP) -> None:
    """The whole run, from the data to the report; `kind` lets `ablations.py` put another network in its place."""
    manual_seed(settings.seed)
    data = load_data(settings.data)
    classes = data.train.classes

    model = kind(data.train.inputs.shape[1], settings.hidden, classes, settings.dropout)
    optimizer = AdamW(model.parameters(), weight_decay=settings.weight_decay)
    schedule = cosine(settings.lr, settings.steps, warmup=min(settings.warmup, settings.steps // 2))
    batches = Batches(*data.train.arrays, batch_size=settings.batch_size, seed=settings.seed)
    loss_of = ShardedLoss(model, summed_loss, settings.shards)
    film = pictures.Film(data.train)

    run.track(model=model, optimizer=optimizer, batches=batches, film=film)
    sizes = " / ".join(f"{len(part):,}" for part in data)
    run.introduce(f"{settings.data}: {sizes} to learn from, to choose by, to report", model,
                  first_loss=(f"ln {classes}", math.log(classes)))  # fmt: skip

    for step in run.steps(settings.steps, settings.save_every):
        x, y = next(batches)
        with stream(settings.seed, step):  # shifts and dropout are functions of seed and step
            if settings.data in IMAGES:
                x = random_shift(x.reshape(-1, 28, 28), settings.shift, generator()).reshape(len(x), -1)
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
            film.record(model, step + 1, loss.item())

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    test = evaluate(model, *data.test.arrays)
    results = {"test loss": test["loss"], "test accuracy": test["accuracy"],
               "standard error": standard_error(test["accuracy"], len(data.test))}  # fmt: skip
    drawn = pictures.draw_all(run.folder, run.history(), model, data, film)
    run.finish(results, drawn, then=f"scratch sample mlp --run {typed(run.folder)}")


IMAGES: dict[str, Callable[[], Splits]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
}


def load_data(name: str) -> Splits:
    """Images as they come; of a set in the plane, 1,000 points each to learn from, to choose by and to report."""
    if name in IMAGES:
        return IMAGES[name]()
    make: Callable = TOYS[name]
    return Splits(*(make(1000, seed=seed) for seed in (0, 1, 2)))


if __name__ == "__main__":
    command.main("mlp")
