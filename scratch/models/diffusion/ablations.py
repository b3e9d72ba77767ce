"""What each choice is there for, measured; each part prints a table of the README:

    python -m scratch.models.diffusion.ablations choices   schedule, what is predicted, averaging: trained on points
    python -m scratch.models.diffusion.ablations relatives   DDPM, rectified flow, a Transformer: trained on points
    python -m scratch.models.diffusion.ablations steps   samplers and their number of steps, with a trained model
    python -m scratch.models.diffusion.ablations guidance   its strength, with a trained model of digits

The last two take --run RUN, else the weights that ship. Of points 10,000 are drawn, and judged 5,000 at a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scratch import concatenate
from scratch.data import Batches
from scratch.models.diffusion import flow
from scratch.models.diffusion.dit import DiT
from scratch.models.diffusion.noise import SCHEDULES, NoiseSchedule
from scratch.models.diffusion.sample import WEIGHTS, load_run, load_weights
from scratch.models.diffusion.sampling import ask, ddim, ddpm, heun, karras_times, spaced
from scratch.models.diffusion.tasks import Images, Points, load_task
from scratch.models.diffusion.train import PRESETS, Settings, build, denoising_error, noised, summed_loss
from scratch.module import Module
from scratch.optim import AdamW, AveragedModel, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor, as_tensor
from scratch.training.progress import say

SETS, EACH = 2, 5000  # of points that are drawn
Draw = Callable[[Module, NoiseSchedule, Settings, np.ndarray, np.random.Generator], np.ndarray]


class PointDiT(DiT):
    """The Transformer on points: two tokens, the two coordinates.  Shapes: x (B, 2), t (B,) → (B, 2)

    `DiT` takes square images, so that a point comes as a row of two pixels with a copy below, which is not cut.
    """

    def __init__(self, dim: int = 64, depth: int = 3, heads: int = 4):
        super().__init__(1, 2, 1, dim, depth, heads)
        self.positions = self.positions[:2]

    def forward(self, x: Any, t: Any, labels: Any = None) -> Tensor:
        row = as_tensor(x).reshape(-1, 1, 1, 2)
        return super().forward(concatenate([row, row], axis=2), t, labels)

    def cut(self, x: Tensor) -> Tensor:
        return super().cut(x)[:, :2]

    def joined(self, patches: Tensor) -> Tensor:
        return patches.reshape(len(patches), 2)


# -- trained on points -------------------------------------------------------------------------------------------


def by_ddpm(model: Module, schedule: NoiseSchedule, s: Settings, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ddpm(ask(model, schedule, s.predict), x, schedule, spaced(s.T, min(250, s.T)), rng)


def by_flow(model: Module, schedule: NoiseSchedule, s: Settings, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return flow.heun(flow.velocity(model), x, 25)


@dataclass(frozen=True)
class Way:
    """A model, how its batches are noised, and how it draws."""

    changes: dict[str, Any]
    make: Callable[[Settings, Any], Module] = build
    noised: Callable[..., tuple[np.ndarray, ...]] = noised
    draw: Draw = by_ddpm


CHOICES = {
    "as it is: linear schedule, ε, average of the weights": Way({}),
    "cosine schedule": Way({"schedule": "cosine"}),
    "sigmoid schedule": Way({"schedule": "sigmoid"}),
    "predicts x_0": Way({"predict": "x0"}),
    "predicts v": Way({"predict": "v"}),
    "no average of the weights": Way({"decay": 0.0}),
}
RELATIVES = {
    "DDPM, 250 steps": Way({}),
    "rectified flow, Heun, 25 steps": Way({}, noised=flow.noised, draw=by_flow),
    "DDPM by a Transformer (DiT), 250 steps": Way({}, make=lambda settings, task: PointDiT()),
}


def fit(way: Way, task: Points, settings: Settings, schedule: NoiseSchedule) -> tuple[Module, float]:
    """(the averaged model after all steps, seconds): the loop of train.py, without its folder."""
    manual_seed(settings.seed)
    model = way.make(settings, task)
    average = AveragedModel(model, settings.decay)
    optimizer = AdamW(model.parameters(), weight_decay=settings.weight_decay)
    rate = cosine(settings.lr, settings.steps, warmup=min(settings.warmup, settings.steps // 2))
    batches = Batches(*task.train.arrays, batch_size=settings.batch_size, seed=settings.seed)
    loss_of, began = ShardedLoss(model, summed_loss, settings.shards), time.perf_counter()
    for step in range(settings.steps):
        x0, y = next(batches)
        with stream(settings.seed, step):
            loss = loss_of(*way.noised(x0, y, settings, schedule, None))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = rate(step)
        optimizer.step()
        average.update_parameters(model)
    return average.module, time.perf_counter() - began


def judged(samples: np.ndarray, task: Points, settings: Settings) -> dict[str, float]:
    """Energy distance over that of real points, mean of the sets; of all samples, what lies within the modes."""
    parts = [task.judge(part, settings) for part in np.split(samples, max(1, len(samples) // EACH))]
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0] if name != "modes"}


def measure(way: Way, data: str, steps: int, seed: int) -> dict[str, float]:
    settings = Settings(**{**PRESETS["ring"], "data": data, "steps": steps, "seed": seed, **way.changes})
    task, schedule = load_task(data), SCHEDULES[settings.schedule](settings.T)
    assert isinstance(task, Points)
    model, seconds = fit(way, task, settings, schedule)
    rng = np.random.default_rng([seed, 4])
    x = rng.standard_normal((SETS * EACH, 2)).astype(np.float32)
    figures = judged(task.scale * way.draw(model, schedule, settings, x, rng), task, settings)
    if way.noised is noised:
        figures["test error"] = denoising_error(model, task.test, settings, schedule, 0)
    return {"parameters": model.count_parameters(), "ms a step": 1000 * seconds / steps} | figures


# -- with a trained model ----------------------------------------------------------------------------------------


def samplers(T: int, schedule: NoiseSchedule) -> dict[str, tuple[int, Callable[..., np.ndarray]]]:
    """name → (questions asked of the network, sampler(denoise, x, rng))"""
    table: dict[str, tuple[int, Callable[..., np.ndarray]]] = {}
    for steps in (10, 20, 50, 100, 250):
        times = spaced(T, min(steps, T))
        table[f"DDPM, {steps} steps"] = steps, partial(lambda d, x, rng, t: ddpm(d, x, schedule, t, rng), t=times)
        table[f"DDIM, {steps} steps"] = steps, partial(lambda d, x, rng, t: ddim(d, x, schedule, t), t=times)
    for steps in (5, 10, 25, 50):
        times = karras_times(schedule, min(steps, T))
        asks = 2 * (len(times) - 1) - 1
        table[f"Heun, {steps} steps"] = asks, partial(lambda d, x, rng, t: heun(d, x, schedule, t), t=times)
    return dict(sorted(table.items(), key=lambda row: (row[0][:4], row[1][0])))


def compare_samplers(model: Module, task: Any, settings: Settings, count: int, most: int) -> None:
    schedule = SCHEDULES[settings.schedule](settings.T)
    for name, (asks, sampler) in samplers(settings.T, schedule).items():
        if asks > most:
            continue
        began = time.perf_counter()
        if isinstance(task, Images):
            drawn = task.draw(model, schedule, replace(settings, samples=count), sampler)
            figures = task.judge(drawn, settings)
        else:
            rng = np.random.default_rng([settings.seed, 5])
            x = rng.standard_normal((count, 2)).astype(np.float32)
            figures = judged(task.scale * sampler(ask(model, schedule, settings.predict), x, rng), task, settings)
        row(name, {"asked": asks} | figures | {"seconds": time.perf_counter() - began})


def compare_guidance(model: Module, task: Images, settings: Settings, count: int) -> None:
    schedule = SCHEDULES[settings.schedule](settings.T)
    for strength in (0.0, 0.5, 1.0, 2.0, 4.0):
        drawn = task.draw(model, schedule, replace(settings, guidance=strength, samples=count))
        spread = float(np.mean([drawn[c :: task.classes].std(axis=0).mean() for c in range(task.classes)]))
        row(f"w = {strength:g}", task.judge(drawn, settings) | {"spread within a class": spread})


def row(name: str, figures: dict[str, float]) -> None:
    say(f"| {name} | " + " | ".join(f"{key} {value:.4g}" for key, value in figures.items()) + " |")


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("part", choices=("choices", "relatives", "steps", "guidance"))
    p.add_argument("--data", default="gaussian_ring", help="points to train on (default: gaussian_ring)")
    p.add_argument("--steps", type=int, default=2000, help="of training (default: 2,000)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", help="train only ways whose name contains this")
    p.add_argument("--run", type=Path, help="run folder of the trained model (default: the weights that ship)")
    p.add_argument("--count", type=int, default=300, help="digits to draw (default: 300)")
    p.add_argument("--most", type=int, default=100, help="questions asked of the network at most (default: 100)")
    a = p.parse_args()
    if a.part in ("choices", "relatives"):
        for name, way in (CHOICES if a.part == "choices" else RELATIVES).items():
            if not a.only or a.only in name:
                row(f"{a.data}: {name}", measure(way, a.data, a.steps, a.seed))
        return
    model, task, settings = load_run(a.run) if a.run else load_weights(WEIGHTS)
    if a.part == "steps":
        compare_samplers(model, task, settings, a.count if task.classes else SETS * EACH, a.most)
    elif isinstance(task, Images):
        compare_guidance(model, task, settings, a.count)
    else:
        raise SystemExit(f"guidance needs a model with classes, got one of {settings.data}")


if __name__ == "__main__":
    main()
