"""Train a generator against a discriminator, on digits or on points in the plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from scratch.data import Batches
from scratch.models.gan import pictures
from scratch.models.gan.losses import LOSSES
from scratch.models.gan.model import (
    GAN,
    ConditionalDiscriminator,
    ConditionalGenerator,
    DCGANCritic,
    DCGANDiscriminator,
    DCGANGenerator,
    Discriminator,
    MLPDiscriminator,
    MLPGenerator,
)
from scratch.models.gan.penalty import between, clip_weights, gradient_penalty, r1_penalty
from scratch.models.gan.spectral import spectral_norm
from scratch.models.gan.tasks import Images, Task, load_task
from scratch.optim import Adam, AveragedModel
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train gan --FIELD VALUE` changes a field."""

    data: Literal["digits", "mnist", "gaussian_ring", "gaussian_grid", "two_moons", "spirals"] = "digits"
    """Images, by a DCGAN, or points in the plane, by perceptrons."""
    loss: Literal["nonsaturating", "minimax", "wasserstein", "hinge"] = "nonsaturating"
    """What the two players want."""
    penalty: Literal["none", "gradient", "r1", "clip"] = "none"
    """What keeps the discriminator's slope in bounds: a penalty between real and fake, one at the real, or clipping."""
    weight: float = 10.0
    """Of the penalty; with clip, 1/weight is where the weights are clipped."""
    norm: Literal["batch", "spectral", "none"] = "batch"
    """What stands in an image's discriminator; in that of points, batch norm does not."""
    conditional: bool = True
    """Whether both networks are told the class of an image; points have none."""
    noise: int = 64
    """Numbers that the generator starts from."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels at 14×14, 7×7 and 4×4; for points, units of each hidden layer."""
    critic_steps: int = 1
    """Updates of the discriminator for one of the generator."""
    decay: float = 0.999
    """Of the moving average of the generator's weights, which draws the samples; 0 keeps none."""
    steps: int = 3000
    """Updates of the generator."""
    batch_size: int = 64
    """Real examples, and as many fake ones, in each step."""
    lr: float = 3e-4
    """Learning rate of the discriminator at the beginning."""
    ratio: float = 3.0
    """The generator's learning rate, in units of the discriminator's."""
    final: float = 0.0
    """The share of it that is left at the end, along a cosine; 1 keeps it constant."""
    beta1: float = 0.5
    """Of Adam: how long the mean of the gradients remembers. The default elsewhere, 0.9, is too long for a game."""
    beta2: float = 0.999
    """Of Adam: how long the mean of the squares remembers."""
    samples: int = 1000
    """How many samples the report judges."""
    evaluate_every: int = 250
    """Steps between two looks at the validation set."""
    save_every: int = 500
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 2
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("decay", "beta1", "beta2", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("lr", "ratio", "weight"):
            if math.isinf(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {getattr(self, name)}")
        if not self.widths or any(width < 1 for width in self.widths):
            raise ValueError(f"widths must be at least one number, each at least 1, got {self.widths}")
        images = self.data in ("digits", "mnist")
        if images and len(self.widths) != 3:
            raise ValueError(f"widths of an image's networks are three, at 14×14, 7×7 and 4×4, got {self.widths}")
        if self.penalty in ("gradient", "r1") and self.norm != "none" and images:
            raise ValueError(f"a penalty on the slope needs norm none: the slope of norm {self.norm} has no exact form")


LOWEST = {"weight": 0, "noise": 1, "critic_steps": 1, "steps": 1, "batch_size": 2, "lr": 0, "ratio": 0,
          "samples": 2, "evaluate_every": 1, "save_every": 1, "seed": 0, "shards": 1}  # fmt: skip

POINTS = {"norm": "none", "conditional": False, "noise": 16, "widths": (128, 128, 128), "batch_size": 256, "ratio": 1.0,
          "samples": 2500, "evaluate_every": 500, "save_every": 1000, "shards": 1}  # fmt: skip

RING = {**POINTS, "data": "gaussian_ring", "penalty": "r1", "weight": 0.1, "lr": 1e-3, "beta1": 0.0, "beta2": 0.99}

PRESETS: dict[str, dict] = {
    "default": {},
    "quick": {**RING, "steps": 2000, "evaluate_every": 250},
    "ring": {**RING, "steps": 6000},
    "grid": {**POINTS, "data": "gaussian_grid", "loss": "wasserstein", "penalty": "gradient", "weight": 0.1,
             "critic_steps": 3, "widths": (128, 128), "lr": 1e-3, "beta2": 0.9, "steps": 12_000},
}  # fmt: skip

EMBEDDED = 16  # numbers that a class adds to the noise


def build(settings: Settings, task: Task) -> GAN:
    """Both networks that the settings name."""
    s, told = settings, EMBEDDED if settings.conditional else 0
    if not isinstance(task, Images):
        maker = MLPGenerator(s.noise, s.widths, task.shape[0])
        points = MLPDiscriminator(task.shape[0], s.widths)
        return GAN(maker, spectral_norm(points) if s.norm == "spectral" else points)
    images = DCGANGenerator(s.noise + told, s.widths, task.shape[0])
    kind = DCGANDiscriminator if s.norm == "batch" else DCGANCritic
    judge: Discriminator = kind(s.widths, task.shape[0] + bool(told))
    judge = spectral_norm(judge) if s.norm == "spectral" else judge
    if not s.conditional:
        return GAN(images, judge)
    return GAN(ConditionalGenerator(images, task.classes, told), ConditionalDiscriminator(judge, task.classes))


def discriminator_loss(
    gan: GAN, x: np.ndarray, z: np.ndarray, t: np.ndarray, *labels: np.ndarray, settings: Settings
) -> tuple[Tensor, float]:
    """(sum over the rows, how many), as ShardedLoss wants it; the fake rows are data: nothing flows into G."""
    fake = gan.generator(Tensor(z), *labels).detach()
    loss = LOSSES[settings.loss].discriminator(*gan.discriminator.both(x, fake, *labels))
    if settings.penalty == "gradient":
        loss = loss + settings.weight * gradient_penalty(gan.discriminator, between(x, fake.data, t), *labels)
    elif settings.penalty == "r1":
        loss = loss + settings.weight * r1_penalty(gan.discriminator, x, *labels)
    return loss.sum(), len(x)


def generator_loss(gan: GAN, z: np.ndarray, *labels: np.ndarray, settings: Settings) -> tuple[Tensor, float]:
    """(sum over the rows, how many): what G wants of D(G(z))."""
    return LOSSES[settings.loss].generator(gan(Tensor(z), *labels)).sum(), len(z)


def noise(rows: int, settings: Settings) -> np.ndarray:
    """z ~ N(0, 1).  Shapes: → (rows, noise)"""
    return generator().standard_normal((rows, settings.noise)).astype(np.float32)


def train(settings: Settings, run: Run, make: Callable[[Settings, Task], GAN] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put other networks in their place."""
    s = settings
    manual_seed(s.seed)
    task = load_task(s.data)

    gan = make(s, task)
    average = AveragedModel(gan.generator, s.decay)
    d_optimizer = Adam(gan.discriminator.parameters(), s.lr, (s.beta1, s.beta2))
    g_optimizer = Adam(gan.generator.parameters(), s.ratio * s.lr, (s.beta1, s.beta2))
    d_loss_of = ShardedLoss(gan, partial(discriminator_loss, settings=s), s.shards)
    g_loss_of = ShardedLoss(gan, partial(generator_loss, settings=s), s.shards)
    rate = cosine(s.lr, s.steps, final=s.final * s.lr)
    batches = Batches(*task.train.arrays, batch_size=s.batch_size, seed=s.seed, drop_last=True)
    film = pictures.Film(task, s.steps, unbounded=s.loss in ("wasserstein", "hinge"))

    run.track(model=gan, average=average, d_optimizer=d_optimizer, g_optimizer=g_optimizer, batches=batches, film=film)
    known = s.loss in ("nonsaturating", "minimax") and s.penalty == "none"
    run.introduce(f"{s.data}: {task}", gan, first_loss=("2 ln 2", 2 * math.log(2)) if known else None)

    for step in run.steps(s.steps, s.save_every):
        d_optimizer.lr, g_optimizer.lr = rate(step), s.ratio * rate(step)
        with stream(s.seed, step):  # all noise is a function of seed and step, and drawn before batches are cut
            for _ in range(s.critic_steps):
                x, y = next(batches)
                labels = (y,) if s.conditional and task.classes else ()
                d_loss = d_loss_of(x, noise(len(x), s), generator().random(len(x)), *labels)
                run.require_finite(d_loss, gan.discriminator, x, *labels)
                d_optimizer.zero_grad()
                d_loss.backward()
                d_optimizer.step()
                if s.penalty == "clip":
                    clip_weights(gan.discriminator, 1 / s.weight)

            gan.discriminator.requires_grad_(False)  # the generator's step goes through it and leaves it as it is
            z = noise(s.batch_size, s)
            g_loss = g_loss_of(z, *labels)
            run.require_finite(g_loss, gan, z, *labels)
            g_optimizer.zero_grad()
            g_loss.backward()
            g_optimizer.step()
            gan.discriminator.requires_grad_(True)
        average.update_parameters(gan.generator)

        run.log(step, loss=d_loss.item(), generator=g_loss.item(), lr=d_optimizer.lr)
        film.record(gan, step + 1)
        if (step + 1) % s.evaluate_every == 0 or step + 1 == s.steps:
            run.evaluated(step, average.module, **task.distance(task.draw(average.module, s.samples, s.seed)))

    average.module.load_state_dict(run.best)  # the averaged generator with the lowest validation distance
    samples = task.draw(average.module, s.samples, s.seed + 1)
    results = task.report(samples, s.conditional)
    drawn = pictures.draw_all(run.folder, run.history(), average.module, task, samples, film)
    run.finish(results, drawn, then=f"scratch sample gan --run {typed(run.folder)}")


if __name__ == "__main__":
    command.main("gan")
