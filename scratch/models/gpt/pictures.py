"""What a trained GPT looks like, from the outside and from the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scratch import viz
from scratch.models.gpt.model import GPT
from scratch.models.gpt.tasks import Questions, Text


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: GPT, task: Text | Questions) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    V = len(task.tokenizer)
    curves = viz.loss_curves(
        log, title="training and validation loss", loss_label="cross-entropy (nats)",
        panels=("validation_exact_match",) if isinstance(task, Questions) else (), reference=(math.log(V), f"ln {V}"),
    )  # fmt: skip
    return [viz.save(curves, folder / "curves.png")]
