"""All figures of a model that draws images: `python -m scratch.models.diffusion.evaluate [--run RUN]`

    DDIM     many images, few steps                           read as asked, Fréchet distance
    DDPM     the full chain, all T steps, fewer images        the same
    copies   how near each sample is to its nearest training image, beside how near test images are to theirs
    bound    bits per dimension of test images                bound.py

Each figure stands beside what real images give. Images are 0 … 1 here, as the judge sees them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.evaluation import nearest
from scratch.models.diffusion.bound import bits_per_dimension
from scratch.models.diffusion.noise import SCHEDULES, NoiseSchedule
from scratch.models.diffusion.sample import WEIGHTS, load_run, load_weights
from scratch.models.diffusion.sampling import ask, ddpm, spaced
from scratch.models.diffusion.tasks import Images, to_pixels
from scratch.module import Module
from scratch.training.progress import say


def copies(samples: np.ndarray, task: Images) -> dict[str, float]:
    """Distances to the nearest training image, of the samples and of as many test images, in units of a pixel's ink.

    A copy would have distance 0. `nearer`: the share of samples that are nearer to a training image than all but one in
    a hundred test images are.
    """
    train = to_pixels(task.train.inputs)
    drawn, _ = nearest(samples, train)
    real, _ = nearest(to_pixels(task.test.inputs[: len(samples)]), train)
    return {
        "median": float(np.median(drawn)), "median, real": float(np.median(real)),
        "least": float(drawn.min()), "least, real": float(real.min()),
        "nearer": float((drawn < np.quantile(real, 0.01)).mean()),
    }  # fmt: skip


def bound(
    model: Module, task: Images, settings: Any, schedule: NoiseSchedule, count: int, times: int = 100
) -> dict[str, float]:
    """Bits per dimension of the first test images, each told its class; the middle terms at `times` of the T."""
    x0, labels = task.test.inputs[:count], task.test.targets[:count]
    denoise = ask(model, schedule, settings.predict, labels, limit=1.0)
    chosen = np.unique(np.rint(np.linspace(2, schedule.T, times)).astype(int))
    return bits_per_dimension(denoise, x0, schedule, np.random.default_rng(0), chosen)


def draw_nearest(samples: np.ndarray, task: Images, picture: Path) -> Path:
    """Of the samples of each class the one that is nearest to a training image, above that image."""
    train, asked = to_pixels(task.train.inputs), np.arange(len(samples)) % task.classes
    distances, rows = nearest(samples, train)
    classes = [np.flatnonzero(asked == c) for c in range(min(task.classes, len(samples)))]
    chosen = np.array([each[distances[each].argmin()] for each in classes])
    images = np.concatenate([samples[chosen], train[rows[chosen]]])
    titles = [f"{distances[i]:.1f}" for i in chosen] + [""] * len(chosen)
    title = "The sample of each class that is nearest to a training image (below); the distance between them"
    return viz.save(viz.image_grid(images, titles, columns=len(chosen), limits=(0, 1), title=title), picture)


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--samples", type=int, default=1000, help="images by DDIM (default: 1,000)")
    p.add_argument("--chain", type=int, default=256, help="images by the full chain (default: 256; 0: none)")
    p.add_argument("--images", type=int, default=250, help="test images of the bound (default: 250)")
    p.add_argument("--picture", type=Path, help="draws samples above their nearest training images into this PNG file")
    a = p.parse_args()
    if min(a.samples, a.images) < 2 or a.chain < 0 or a.chain == 1:
        raise SystemExit("--samples and --images expected at least 2, --chain 0 or at least 2")
    model, task, settings = load_run(a.run) if a.run else load_weights(WEIGHTS)
    if not isinstance(task, Images):
        raise SystemExit(f"the judge looks at images, got a model of {settings.data}")
    schedule = SCHEDULES[settings.schedule](settings.T)
    settings = replace(settings, samples=a.samples)
    samples = task.draw(model, schedule, settings)
    tell(f"DDIM, {settings.sampling_steps} steps, {a.samples:,} images", task.judge(samples, settings))
    tell("to the nearest training image", copies(samples, task))
    if a.picture:
        say(f"picture  {draw_nearest(samples, task, a.picture)}")
    tell(f"bits per dimension, {a.images} test images", bound(model, task, settings, schedule, a.images))
    if a.chain:
        settings = replace(settings, samples=a.chain)
        chain = task.draw(
            model, schedule, settings, lambda denoise, x, rng: ddpm(denoise, x, schedule, spaced(schedule.T), rng)
        )
        tell(f"DDPM, {settings.T:,} steps, {a.chain:,} images", task.judge(chain, settings))


def tell(what: str, figures: dict[str, float]) -> None:
    say(f"{what}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
