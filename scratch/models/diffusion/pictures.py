"""What a trained denoiser draws, and how the run went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.models.diffusion.noise import NoiseSchedule


def draw_all(
    folder: Path, log: Sequence[Mapping[str, Any]], model: Any, task: Any, samples: np.ndarray, settings: Any,
    schedule: NoiseSchedule,
) -> list[Path]:  # fmt: skip
    """Draw everything into the run folder and return the files."""
    curves = viz.loss_curves(log, title=f"{task.name}: error of what the network predicts",
                             loss_label="mean squared error", reference=(1.0, "variance of the noise"))  # fmt: skip
    drawn = [viz.save(curves, folder / "curves.png")]
    if task.classes:
        rows = samples[: 8 * task.classes]
        title = f"{settings.sampling_steps} steps of DDIM, guidance {settings.guidance:g}; a column is a class"
        grid = viz.image_grid(rows, columns=task.classes, limits=(0, 1), title=title)
        drawn.append(viz.save(grid, folder / "samples.png"))
    return drawn
