"""What each part is there for: runs on the ring, on the grid and on digits, with one part taken away or replaced.

`python -m scratch.models.gan.ablations` trains them all and prints the tables of the README;
`--only ring`, `--only grid` or `--only digits` trains one group.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.layers import BatchNorm2d
from scratch.models.gan.model import GAN, ConditionalDiscriminator, DCGANDiscriminator, Discriminator
from scratch.models.gan.tasks import Task
from scratch.models.gan.train import PRESETS, Settings, build, train
from scratch.module import Module, Parameter
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, Task], GAN]


class Bias(Module):
    """What is left of a batch norm that doesn't normalise: y = x + b.  Shapes: (N, C, H, W) → the same."""

    def __init__(self, channels: int):
        self.bias = Parameter(np.zeros(channels, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.reshape(-1, 1, 1)


def without_norm(settings: Settings, task: Task) -> GAN:
    """Every batch norm of both networks replaced by a bias."""
    gan = build(settings, task)
    for module in list(gan.modules()):
        for name, value in list(vars(module).items()):
            if isinstance(value, BatchNorm2d):
                vars(module)[name] = Bias(value.num_features)
    return gan


class Mixed(DCGANDiscriminator):
    """Judges both in one pass, as discriminators without batch norm do."""

    both = Discriminator.both


def mixed_statistics(settings: Settings, task: Task) -> GAN:
    """Real and fake images in one batch of the discriminator's batch norm: its statistics tell which they are."""
    gan = build(settings, task)
    judge = gan.discriminator
    (judge.discriminator if isinstance(judge, ConditionalDiscriminator) else judge).__class__ = Mixed
    return gan


GROUPS: dict[str, dict[str, tuple[dict[str, Any], Make]]] = {
    "ring": {
        "as it is": ({}, build),
        "minimax loss, saturating": ({"loss": "minimax"}, build),
        "β₁ = 0.9 in Adam": ({"beta1": 0.9}, build),
        "without the penalty": ({"penalty": "none"}, build),
    },
    "grid": {
        "as it is": ({}, build),
        "critic steps 1": ({"critic_steps": 1}, build),
        "clipping at 0.1 instead of the penalty": ({"penalty": "clip", "weight": 10.0}, build),
        "neither penalty nor clipping": ({"penalty": "none"}, build),
        "original GAN, one step each": ({"loss": "nonsaturating", "penalty": "none", "critic_steps": 1}, build),
    },
    "digits": {
        "as it is": ({}, build),
        "not told the class": ({"conditional": False}, build),
        "equal learning rates": ({"ratio": 1.0}, build),
        "no batch norm": ({}, without_norm),
        "real and fake in one batch norm": ({}, mixed_statistics),
        "spectral norm and hinge loss": ({"norm": "spectral", "loss": "hinge"}, build),
    },
}
PRESET = {"ring": "ring", "grid": "grid", "digits": "default"}
STEPS = {"ring": 3000, "grid": 12_000, "digits": 500}  # of ring and digits fewer than the presets: differences show
COLUMNS = {
    "ring": ("modes", "inside", "energy distance, ÷ real"),
    "grid": ("modes", "inside", "energy distance, ÷ real"),
    "digits": ("classes", "KL to uniform", "Fréchet distance"),
}


def measure(group: str, name: str, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run of so many steps at most; those of a run that broke off are missing."""
    changes, make = GROUPS[group][name]
    length = min(steps, STEPS[group])
    chosen = {**PRESETS[PRESET[group]], **changes, "steps": length, "evaluate_every": max(1, length // 4)}
    settings = Settings(**chosen, seed=seed)
    return figures_of("gan", f"{group}: {name}", settings, parent, train, make)


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--only", choices=list(GROUPS), help="one group")
    p.add_argument("--steps", type=int, default=max(STEPS.values()), help="of each run, at most")
    a = p.parse_args()
    rows = []
    for group in [a.only] if a.only else list(GROUPS):
        columns = COLUMNS[group]
        rows += ["", head(columns, group)]
        for name in GROUPS[group]:
            figures = measure(group, name, a.seed, a.steps, a.parent)
            rows.append(row(name, columns, figures))
    say("\n".join(rows))


if __name__ == "__main__":
    main()
