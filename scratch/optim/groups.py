"""Parameter groups: which parameters weight decay applies to."""

from __future__ import annotations

from typing import Any

from scratch.module import Module


def weight_decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimiser: weight matrices and convolution kernels decay, everything else does not.

    Biases and the scales of norms have few numbers and do not overfit; decaying them only shifts the features. The
    same holds for a class token and for position tables stored as (1, T, C), so the rule is 2 or 4 axes.
    """
    named = list(model.named_parameters())
    decayed = [(name, p) for name, p in named if p.ndim in (2, 4)]
    others = [(name, p) for name, p in named if p.ndim not in (2, 4)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
