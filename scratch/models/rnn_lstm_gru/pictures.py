"""What trained recurrent networks look like, from the outside and from the inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scratch import viz


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: Any, task: Any) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    panels = [key for key in ("validation_accuracy", "validation_exact_match") if any(key in line for line in log)]
    curves = viz.loss_curves(log, title="training and validation loss", loss_label="loss", panels=panels)
    return [viz.save(curves, folder / "curves.png")]
