"""What each part is there for: the default run, shortened, with one part taken away or replaced.

`python -m scratch.models.vit.ablations` trains them all and prints the tables of the README.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.models.vit.model import Attention, VisionTransformer
from scratch.models.vit.train import Settings, build, train
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int, int], VisionTransformer]


def without_positions(*arguments: Any) -> VisionTransformer:
    """A bag of patches: nothing tells where one comes from."""
    model = build(*arguments)
    model.pos_embed.data[...] = 0
    model.pos_embed.requires_grad = False
    return model


class Deaf(Attention):
    """What a token says to itself is all it hears: the values go straight to the output."""

    def forward(self, z: Tensor, asking: int | None = None) -> Tensor:
        C = z.shape[2]
        return self.dropout(self.proj(self.qkv(z)[:, :asking, 2 * C :]))


def without_attention(*arguments: Any) -> VisionTransformer:
    """Patches never meet but in the mean at the end, so this goes with pool="mean"."""
    model = build(*arguments)
    for block in model.blocks:
        block.attn.__class__ = Deaf
    return model


def shuffled(*arguments: Any) -> VisionTransformer:
    """The patches in another order, the same for every image; a Transformer cannot tell the difference."""
    model = build(*arguments)
    embed, order = model.patch_embed, np.random.default_rng(0).permutation(model.pos_embed.shape[1] - 1)
    plain = embed.cut
    embed.cut = lambda x: plain(x)[:, order]  # type: ignore[method-assign]
    return model


SHORT: dict[str, Any] = {"steps": 1000, "warmup": 100, "evaluate_every": 500}
MASKED: dict[str, Any] = {"labels": 350, "patch_size": 4, "pool": "mean", "pretrain": 3000, "hidden": 0.5, "steps": 400,
                          "batch_size": 64, "warmup": 100, "evaluate_every": 100}  # fmt: skip
FEW: dict[str, Any] = {**MASKED, "pretrain": 0}

PARTS: dict[str, tuple[dict[str, Any], Make]] = {
    "as it is": ({}, build),
    "patches of 14 × 14": ({"patch_size": 14}, build),
    "patches of 4 × 4": ({"patch_size": 4}, build),
    "mean pooling": ({"pool": "mean"}, build),
    "no positions": ({}, without_positions),
    "no attention, mean pooling": ({"pool": "mean"}, without_attention),
    "one head": ({"heads": 1}, build),
    "one block": ({"depth": 1}, build),
    "patches shuffled": ({}, shuffled),
    "no shifts": ({"shift": 0}, build),
}
PRETRAINED: dict[str, tuple[dict[str, Any], Make]] = {
    "350 labels, after pre-training": (MASKED, build),
    "350 labels": (FEW, build),
    "350 labels, three times the steps": ({**FEW, "steps": 3 * FEW["steps"]}, build),
}
COLUMNS = ("loss at step 0", "final loss", "test loss", "test accuracy")


def measure(name: str, settings: Settings, make: Make, parent: Path) -> dict[str, float]:
    """The figures of one run; those of a run that broke off are missing."""
    return figures_of("vit", name, settings, parent, train, make)


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=SHORT["steps"], help="of each run of the first table")
    p.add_argument("--only", nargs="*", default=[*PARTS, *PRETRAINED], help="names of rows")
    a = p.parse_args()
    for group, common in ((PARTS, {**SHORT, "steps": a.steps}), (PRETRAINED, {})):
        say("\n" + head(COLUMNS))
        for name in [name for name in group if name in a.only]:
            changes, make = group[name]
            figures = measure(name, Settings(**{**common, **changes, "seed": a.seed}), make, a.parent)
            say(row(name, COLUMNS, figures))


if __name__ == "__main__":
    main()
