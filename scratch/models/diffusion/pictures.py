"""What a trained denoiser draws, and what is to be seen on the way; films and the figures of the page: `portraits.py`.

Images are drawn from 0 (paper) to 1 (ink), points in the units of their data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.models.diffusion.inside import noising, path, reconstruct, score_field
from scratch.models.diffusion.noise import SCHEDULES, NoiseSchedule
from scratch.models.diffusion.sampling import ask, normal
from scratch.viz.style import COLOURS, DASHES, label, legend

STEPS = 50  # of DDIM, in pictures


def draw_all(
    folder: Path, log: Sequence[Mapping[str, Any]], model: Any, task: Any, samples: np.ndarray, settings: Any,
    schedule: NoiseSchedule,
) -> list[Path]:  # fmt: skip
    """Draw everything into the run folder and return the files."""
    curves = viz.loss_curves(log, title=f"{task.name}: error of what the network predicts", log_y=True,
                             loss_label="mean squared error", reference=(1.0, "variance of the noise"))  # fmt: skip
    figures = {"curves": curves}
    if task.classes:
        rows = samples[: 8 * task.classes]
        title = f"{settings.sampling_steps} steps of DDIM, guidance {settings.guidance:g}; a column is a class"
        figures["samples"] = viz.image_grid(rows, columns=task.classes, limits=(0, 1), title=title)
        figures["path"] = draw_path(model, task, settings, schedule)
        figures["reconstruction"] = draw_reconstruction(model, task, settings, schedule)
    else:
        figures["samples"] = draw_points(samples, task)
        figures["path"] = draw_point_path(model, task, settings, schedule)
        figures["score"] = draw_score(model, task, settings, schedule)
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


# -- the forward process -----------------------------------------------------------------------------------------


def draw_schedules(T: int = 1000) -> Any:
    """Of each schedule what is left of the data, and the ratio of signal to noise, at every time."""
    page, axes = viz.figure(1, 2, panel=(4.6, 3.4))
    for i, (name, make) in enumerate(SCHEDULES.items()):
        schedule = make(T)
        look = {"color": COLOURS[i], "linestyle": DASHES[i], "linewidth": 1.8, "label": name}
        axes[0, 0].plot(schedule.alpha_bar, **look)
        axes[0, 1].plot(np.arange(1, T + 1), schedule.snr[1:], **look)
    axes[0, 1].set_yscale("log")
    axes[0, 1].axhline(1, color="black", linewidth=0.8)
    label(axes[0, 0], "ᾱ, the share of the data in the variance", "time t")
    label(axes[0, 1], "signal to noise, ᾱ / (1 − ᾱ)", "time t")
    legend(axes[0, 0])
    return page


def draw_noising(task: Any, schedule: NoiseSchedule, count: int = 3) -> Any:
    """The same data drowning in the same noise: a row an image, or a panel a time."""
    T, rng = schedule.T, np.random.default_rng(0)
    if task.classes:
        times = np.rint(np.linspace(0, 1, 11) * T).astype(int)
        seen = noising(task.test.inputs[:count], list(times), schedule, rng)
        return _strip(seen.reshape(-1, *seen.shape[2:]), times, count, "q(x_t | x_0): the way into noise")
    times = np.rint(np.array([0, 0.05, 0.1, 0.2, 0.4, 1]) * T).astype(int)
    seen = task.scale * noising(task.test.inputs[:1500], list(times), schedule, rng)
    return viz.clouds(list(seen.transpose(1, 0, 2)), _at(times), columns=6, title="q(x_t | x_0): the way into noise")


# -- the way back ------------------------------------------------------------------------------------------------


def draw_path(model: Any, task: Any, settings: Any, schedule: NoiseSchedule, classes: Sequence[int] = (3, 5, 8)) -> Any:
    """For each class two rows: x_t above, and below it x̂_0, what the network takes the data behind it to be."""
    noise = normal(np.random.default_rng(0), task.train.inputs[: len(classes)])
    denoise = asked(model, settings, schedule, np.array(classes))
    times, states, guesses = path(denoise, noise, schedule, min(STEPS, schedule.T), show=11)
    rows = np.stack([states, guesses], axis=1).reshape(-1, *states.shape[2:])
    return _strip(rows, times, 2 * len(classes), "x_t, and below it x̂_0, what the network sees behind the noise")


def draw_point_path(model: Any, task: Any, settings: Any, schedule: NoiseSchedule, count: int = 1000) -> Any:
    """Where points are on their way (above), and where the network sees them end (below)."""
    noise = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    denoise = ask(model, schedule, settings.predict)
    steps = min(100, schedule.T)
    times, states, guesses = path(denoise, noise, schedule, steps, show=steps)
    shown = [int(np.abs(times - share * schedule.T).argmin()) for share in (1, 0.4, 0.2, 0.1, 0.05, 0)]
    both = task.scale * np.concatenate([states[:, shown], guesses[:, shown]], axis=1)
    names = [*_at(times[shown]), *(f"x̂_0 at t = {t}" for t in times[shown[:-1]]), "x_0"]
    reach = (-3 * task.scale, 3 * task.scale)
    return viz.clouds(list(both.transpose(1, 0, 2)), names, columns=len(shown), limits=(reach, reach),
                      title="x_t, and below it x̂_0, what the network sees behind the noise")  # fmt: skip


def draw_points(samples: np.ndarray, task: Any) -> Any:
    """Samples beside held-out points."""
    real = task.scale * task.test.inputs[: len(samples)]
    return viz.clouds([real, samples], ["held-out points", "samples"], columns=2, panel=3.6)


def draw_score(
    model: Any, task: Any, settings: Any, schedule: NoiseSchedule, shares: Sequence[float] = (0.02, 0.1, 0.25, 0.6)
) -> Any:
    """∇ log q(x_t) as arrows over the plane at some shares of T: where every point is pushed to."""
    times = [max(1, round(share * schedule.T)) for share in shares]
    denoise = ask(model, schedule, settings.predict)
    fields = [score_field(denoise, t, schedule, reach=2.2, count=17) for t in times]
    places = task.scale * fields[0][0]
    return viz.arrows(places, np.stack([score for _, score in fields]), _at(times), columns=len(times),
                      points=task.scale * task.test.inputs[:800], title="the score, ∇ log q(x_t)")  # fmt: skip


def draw_reconstruction(
    model: Any, task: Any, settings: Any, schedule: NoiseSchedule,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7), count: int = 4,
) -> Any:  # fmt: skip
    """Test images noised up to some share of T (above) and what comes back (below), the original beside both.

    The network is not told the class: what the noise has hidden is invented.
    """
    x0, rng = task.test.inputs[:count], np.random.default_rng(0)
    denoise = asked(model, settings, schedule, np.full(count, model.no_class), guidance=0.0)
    times = [round(share * schedule.T) for share in shares]
    above, below = [x0], [x0]
    for t in times:
        noisy, back = reconstruct(denoise, x0, max(1, t), schedule, rng, min(STEPS, schedule.T))
        above.append(noisy)
        below.append(back)
    cells = np.stack([np.stack(above, axis=1), np.stack(below, axis=1)], axis=1)
    return _strip(cells.reshape(-1, *x0.shape[1:]), [0, *times], 2 * count, "noised up to time t, and what comes back")


# -- helpers -----------------------------------------------------------------------------------------------------


def asked(model: Any, settings: Any, schedule: NoiseSchedule, labels: np.ndarray, guidance: float | None = None) -> Any:
    """The network as a denoiser of images of these classes, guided as the settings say."""
    strength = settings.guidance if guidance is None else guidance
    return ask(model, schedule, settings.predict, labels, strength, limit=1.0)


def _strip(images: np.ndarray, times: Sequence[int] | np.ndarray, rows: int, title: str) -> Any:
    """Rows of images over the same times, which stand above the first row; from −1 … 1 to what is drawn."""
    names = [*_at(times), *[""] * ((rows - 1) * len(times))]
    return viz.image_grid((images + 1) / 2, names, columns=len(times), limits=(0, 1), title=title, cell=0.8)


def _at(times: Sequence[int] | np.ndarray) -> list[str]:
    return [f"t = {t}" for t in times]
