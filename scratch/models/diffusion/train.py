"""Train a denoiser, on points in the plane or on images, and draw samples with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scratch.data import Batches, Dataset
from scratch.losses import mse_loss
from scratch.models.diffusion import pictures
from scratch.models.diffusion.model import MLPDenoiser, UNet
from scratch.models.diffusion.noise import SCHEDULES, NoiseSchedule
from scratch.models.diffusion.process import diffuse, target
from scratch.models.diffusion.tasks import Task, load_task
from scratch.module import Module
from scratch.optim import AdamW, AveragedModel, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor, no_grad
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train diffusion --FIELD VALUE` changes a field."""

    data: Literal[
        "digits", "mnist", "fashion_mnist", "gaussian_ring", "two_moons", "spirals", "gaussian_grid"
    ] = "digits"
    """Images with a class each, or points in the plane without."""
    T: int = 1000
    """Steps from data to noise."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "linear"
    """How fast the data drown in noise."""
    predict: Literal["eps", "x0", "v"] = "eps"
    """What the network is asked for: the noise, the data, or a rotation of the two."""
    widths: tuple[int, ...] = (16, 32, 56)
    """Channels of the U-Net at each resolution; for points, units of each hidden layer."""
    blocks: int = 1
    """Residual blocks at each resolution, down and up."""
    dropout: float = 0.0
    """Share of a residual block's numbers set to zero at random in every step."""
    drop_label: float = 0.1
    """Share of images whose class is withheld, so that the network learns both and guidance can weigh them."""
    guidance: float = 1.0
    """The w of classifier-free guidance when samples are drawn; 0 is none."""
    sampling_steps: int = 50
    """Steps of DDIM when images are drawn; points go through all T steps of DDPM."""
    decay: float = 0.999
    """Of the moving average of the weights, which draws the samples; 0 keeps none."""
    steps: int = 6000
    """Updates of the weights."""
    batch_size: int = 64
    """Examples in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    warmup: int = 200
    """Steps in which the learning rate rises from 0, at most half of all; then it falls along a cosine to 0."""
    weight_decay: float = 0.0
    """Decay of the weights in AdamW, multiplied by the learning rate."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    samples: int = 1000
    """How many samples the report judges."""
    evaluate_every: int = 500
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
        for name in ("dropout", "drop_label", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if math.isinf(self.lr):
            raise ValueError(f"lr must be a number of at least 0, got {self.lr}")
        if self.sampling_steps > self.T:
            raise ValueError(f"sampling_steps must be at most T = {self.T}, got {self.sampling_steps}")
        if not self.widths or any(width < 8 or width % 8 for width in self.widths):
            raise ValueError(f"widths must be multiples of 8, one a resolution, got {self.widths}")


LOWEST = {"T": 1, "blocks": 1, "guidance": 0, "sampling_steps": 1, "steps": 1, "batch_size": 1, "lr": 0, "warmup": 0,
          "weight_decay": 0, "clip": 0, "samples": 2, "evaluate_every": 1, "save_every": 1, "seed": 0,
          "shards": 1}  # fmt: skip

POINTS = {"widths": (128, 128, 128), "batch_size": 512, "steps": 6000, "lr": 2e-3, "samples": 5000, "shards": 1,
          "evaluate_every": 1000, "save_every": 1000}  # fmt: skip

PRESETS = {
    "default": {},
    "quick": {**POINTS, "data": "gaussian_ring", "steps": 1500, "evaluate_every": 500, "samples": 1000},
    "ring": {**POINTS, "data": "gaussian_ring"},
    "moons": {**POINTS, "data": "two_moons"},
}  # fmt: skip


def build(settings: Settings, task: Task) -> Module:
    """The denoiser that the settings name."""
    s = settings
    if task.classes:
        return UNet(task.train.inputs.shape[1], s.widths, s.blocks, task.classes, dropout=s.dropout)
    return MLPDenoiser(task.train.inputs.shape[1], s.widths[0], len(s.widths))


def noised(
    x0: np.ndarray, y: np.ndarray, settings: Settings, schedule: NoiseSchedule, no_class: int | None
) -> tuple[np.ndarray, ...]:
    """A batch as the network meets it (Ho et al. 2020, algorithm 1, lines 2 to 5): (x_t, t, what to say[, labels]).

    Each row has a time of its own, uniform on 1 … T, and noise of its own.
    """
    rng = generator()
    t = rng.integers(1, schedule.T + 1, len(x0))
    eps = rng.standard_normal(x0.shape).astype(x0.dtype)
    batch = diffuse(x0, t, eps, schedule), t, target(settings.predict, x0, eps, t, schedule)
    if no_class is None:
        return batch
    withheld = rng.random(len(y)) < settings.drop_label
    return *batch, np.where(withheld, no_class, y)


def summed_loss(
    model: Module, x: np.ndarray, t: np.ndarray, said: np.ndarray, labels: np.ndarray | None = None
) -> tuple[Tensor, float]:
    """(sum of the squared errors, how many there are), as ShardedLoss wants it  (Ho et al. 2020, eq. 14)."""
    out = model(Tensor(x), t) if labels is None else model(Tensor(x), t, labels)
    return mse_loss(out, Tensor(said), reduction="sum"), said.size


def train(settings: Settings, run: Run) -> None:
    """The whole run, from the data to the report."""
    manual_seed(settings.seed)
    task = load_task(settings.data)
    schedule = SCHEDULES[settings.schedule](settings.T)

    model = build(settings, task)
    average = AveragedModel(model, settings.decay)
    optimizer = AdamW(model.parameters(), weight_decay=settings.weight_decay)
    rate = cosine(settings.lr, settings.steps, warmup=min(settings.warmup, settings.steps // 2))
    batches = Batches(*task.train.arrays, batch_size=settings.batch_size, seed=settings.seed)
    loss_of = ShardedLoss(model, summed_loss, settings.shards)
    no_class = task.classes or None

    run.track(model=model, average=average, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {task}", model, first_loss=("the variance of the noise", 1.0))

    for step in run.steps(settings.steps, settings.save_every):
        x0, y = next(batches)
        with stream(settings.seed, step):  # times, noise and dropout are functions of seed and step
            batch = noised(x0, y, settings, schedule, no_class)
            loss = loss_of(*batch)
        run.require_finite(loss, model, *batch[:2], *batch[3:])

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = rate(step)
        optimizer.step()
        average.update_parameters(model)

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            error = denoising_error(average.module, task.validation, settings, schedule, task.classes)
            run.evaluated(step, average.module, loss=error)

    average.module.load_state_dict(run.best)  # the averaged weights with the lowest validation error
    results = {"test error": denoising_error(average.module, task.test, settings, schedule, task.classes)}
    samples = task.draw(average.module, schedule, settings)
    results |= task.judge(samples, settings)
    drawn = pictures.draw_all(run.folder, run.history(), average.module, task, samples, settings, schedule)
    run.finish(results, drawn, then=f"scratch sample diffusion --run {typed(run.folder)}")


def denoising_error(
    model: Module, data: Dataset, settings: Settings, schedule: NoiseSchedule, classes: int, repeats: int = 2
) -> float:
    """The mean squared error of what the network says of held-out data, always at the same times and noises."""
    loss_of = ShardedLoss(model, summed_loss, settings.shards)
    total, count = 0.0, 0
    for repeat in range(repeats):
        for i in range(0, len(data), 250):
            x0, y = data.inputs[i : i + 250], data.targets[i : i + 250]
            with stream(0, repeat, i), no_grad():
                batch = noised(x0, y, settings, schedule, classes or None)
                total += loss_of(*batch).item() * batch[2].size
            count += batch[2].size
    return total / count


if __name__ == "__main__":
    command.main("diffusion")
