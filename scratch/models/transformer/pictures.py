"""What a trained Transformer looks like, from the outside and from the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scratch import viz
from scratch.data import Pairs
from scratch.models.transformer.model import Transformer


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: Transformer, pairs: Pairs) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    V = len(pairs.tokenizer)
    curves = viz.loss_curves(
        log, title=f"{pairs.name}: training and validation loss", loss_label="cross-entropy (nats)",
        panels=("validation_exact_match",), reference=(math.log(V), f"ln {V}"),
    )  # fmt: skip
    return [viz.save(curves, folder / "curves.png")]
