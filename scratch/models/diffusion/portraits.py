"""The further pictures of a trained denoiser: guidance, inpainting, interpolation, films.

`scratch sample diffusion --pictures FOLDER` draws them, and those of `pictures.py`, with any trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.models.diffusion import pictures
from scratch.models.diffusion.inside import interpolate, noising, path
from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.pictures import STEPS, asked
from scratch.models.diffusion.sampling import ask, ddim, inpaint, normal, spaced

FRAMES = 25  # of a film


def draw_portraits(folder: Path, model: Any, task: Any, settings: Any, schedule: NoiseSchedule) -> list[Path]:
    """Everything that a model shows of itself without new training; → the files."""
    known = (model, task, settings, schedule)
    figures = {"schedules": pictures.draw_schedules(schedule.T), "noising": pictures.draw_noising(task, schedule)}
    if task.classes:
        figures |= {
            "path": pictures.draw_path(*known), "reconstruction": pictures.draw_reconstruction(*known),
            "guidance": draw_guidance(*known), "inpainting": draw_inpainting(*known),
            "interpolation": draw_interpolation(*known),
        }  # fmt: skip
    else:
        figures |= {"path": pictures.draw_point_path(*known), "score": pictures.draw_score(*known)}
    files = [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]
    return [*files, *film_noising(task, schedule, folder / "noising_film.gif"),
            *film_path(*known, folder / "path_film.gif")]  # fmt: skip


def draw_guidance(
    model: Any, task: Any, settings: Any, schedule: NoiseSchedule, strengths: Sequence[float] = (0, 0.5, 1, 2, 4)
) -> Any:
    """The same noises at several strengths of guidance, a row each; a column is a class."""
    labels = np.arange(task.classes)
    noise = normal(np.random.default_rng(1), task.train.inputs[: task.classes])
    rows, names = [], []
    for strength in strengths:
        denoise = asked(model, settings, schedule, labels, strength)
        rows.append(ddim(denoise, noise, schedule, spaced(schedule.T, min(STEPS, schedule.T))))
        names += [f"w = {strength:g}", *[""] * (len(labels) - 1)]
    return viz.image_grid((np.concatenate(rows) + 1) / 2, names, columns=len(labels), limits=(0, 1),
                          title="guidance: the same noise, pushed towards its class")  # fmt: skip


def draw_inpainting(
    model: Any, task: Any, settings: Any, schedule: NoiseSchedule, count: int = 8, fills: int = 3
) -> Any:
    """Test images of which the lower half is hidden, and several ways to complete them; no class is told."""
    known = task.test.inputs[:count]
    mask = np.ones_like(known)
    mask[:, :, known.shape[2] // 2 :] = 0
    rng, many = np.random.default_rng(0), np.tile(known, (fills, 1, 1, 1))
    denoise = asked(model, settings, schedule, np.full(len(many), model.no_class), guidance=0.0)
    times = spaced(schedule.T, min(STEPS, schedule.T))
    filled = inpaint(denoise, many, np.tile(mask, (fills, 1, 1, 1)), schedule, times, rng, again=3)
    rows = np.concatenate([known, np.where(mask == 1, known, 0), filled])
    return viz.image_grid((rows + 1) / 2, columns=count, limits=(0, 1),
                          title="from the top: image, what is known of it, three ways to go on")  # fmt: skip


def draw_interpolation(
    model: Any, task: Any, settings: Any, schedule: NoiseSchedule, classes: Sequence[int] = (2, 4, 9), steps: int = 10
) -> Any:
    """What DDIM makes of the noises on the arc from one noise to another, a row a class."""
    rng, rows = np.random.default_rng(0), []
    for label in classes:
        a, b = (normal(rng, task.train.inputs[0]) for _ in range(2))
        denoise = asked(model, settings, schedule, np.full(steps, label))
        shares = list(np.linspace(0, 1, steps))
        rows.append(interpolate(denoise, a, b, shares, schedule, min(STEPS, schedule.T)))
    return viz.image_grid((np.concatenate(rows) + 1) / 2, columns=steps, limits=(0, 1),
                          title="between two noises (slerp), a row a class")  # fmt: skip


def film_noising(task: Any, schedule: NoiseSchedule, file: Path) -> tuple[Path, Path]:
    """Data drowning in noise, as a GIF of under 1 MB and its last frame."""
    times = [int(t) for t in np.unique(np.rint(np.linspace(0, 1, FRAMES) ** 1.5 * schedule.T).astype(int))]
    names, rng = [f"t = {t} of {schedule.T}" for t in times], np.random.default_rng(0)
    if task.classes:
        seen = noising(task.test.inputs[:10], times, schedule, rng).swapaxes(0, 1)
        return viz.image_film((seen + 1) / 2, names, file, columns=5, limits=(0, 1))
    seen = task.scale * noising(task.test.inputs[:1500], times, schedule, rng).swapaxes(0, 1)
    return viz.points_film(seen, names, file)


def film_path(model: Any, task: Any, settings: Any, schedule: NoiseSchedule, file: Path) -> tuple[Path, Path]:
    """The way from noise to data, as a GIF of under 1 MB and its last frame."""
    rng, steps = np.random.default_rng(0), min(2 * STEPS, schedule.T)
    if task.classes:
        noise = normal(rng, task.train.inputs[: task.classes])
        denoise = asked(model, settings, schedule, np.arange(task.classes))
    else:
        noise, denoise = normal(rng, task.train.inputs[:1500]), ask(model, schedule, settings.predict)
    times, states, _ = path(denoise, noise, schedule, steps, show=FRAMES)
    names, seen = [f"t = {t} of {schedule.T}" for t in times], states.swapaxes(0, 1)
    if task.classes:
        return viz.image_film((seen + 1) / 2, names, file, columns=5, limits=(0, 1))
    return viz.points_film(task.scale * seen, names, file)
