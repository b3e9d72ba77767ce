"""What each part is there for: a VAE and a VQ-VAE with one part taken away or weighed otherwise.

`python -m scratch.models.autoencoder.ablations` trains them all and prints the tables of the README.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.models.autoencoder.elbo import reparameterise
from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.train import CONV, PRESETS, Settings, build, train
from scratch.models.autoencoder.vq import VectorQuantizer
from scratch.module import Module
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int], Module]


class NoNoise(VAE):
    """z is the mean, in training too: the variance is never used, and the KL pays for it alone."""

    def forward(self, x: Any, eps: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        mean, log_variance = self.encode(x)
        return self.decode(mean), mean, log_variance


class DeviationForVariance(VAE):
    """The usual slip: what the encoder calls ln σ² is used as ln σ when z is drawn."""

    def forward(self, x: Any, eps: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        mean, log_variance = self.encode(x)
        drawn = np.zeros(mean.shape) if eps is None else eps
        return self.decode(reparameterise(mean, log_variance * 2, drawn)), mean, log_variance


class NoStraightThrough(VectorQuantizer):
    """The decoder's gradient ends at e; the encoder hears only the commitment."""

    def forward(self, z: Any) -> tuple[Tensor, np.ndarray, Tensor]:
        e, codes, commitment = super().forward(z)
        return e.detach(), codes, commitment


def as_kind(kind: type[VAE]) -> Make:
    """The settings' VAE as this class."""

    def make(settings: Settings, classes: int) -> Module:
        model = build(settings, classes)
        model.__class__ = kind
        return model

    return make


def with_quantizer(kind: type[VectorQuantizer] = VectorQuantizer, **attributes: Any) -> Make:
    """The settings' VQ-VAE with a quantizer of this class, with other attributes."""

    def make(settings: Settings, classes: int) -> Module:
        model: Any = build(settings, classes)
        model.first.quantizer.__class__ = kind
        vars(model.first.quantizer).update(attributes)
        return model

    return make


SHORT: dict[str, Any] = PRESETS["quick"]
SHORT_VQ: dict[str, Any] = {**PRESETS["vq"], "steps": 1000, "second_steps": 20, "samples": 50}  # codes, not the prior

ABLATIONS: dict[str, tuple[dict[str, Any], Make]] = {
    "VAE as it is": (SHORT, build),
    "no KL": ({**SHORT, "beta": 0.0}, build),
    "KL · 0.1": ({**SHORT, "beta": 0.1}, build),
    "KL · 10": ({**SHORT, "beta": 10.0}, build),
    "no noise in z": (SHORT, as_kind(NoNoise)),
    "ln σ² taken for ln σ": (SHORT, as_kind(DeviationForVariance)),
    "two numbers in z": ({**SHORT, "latent": 2}, build),
    "convolutions": ({**SHORT, **CONV}, build),
    "pixels left grey": ({**SHORT, "binarise": False}, build),
    "Gaussian pixels": ({**SHORT, "binarise": False, "likelihood": "gaussian"}, build),
    "VQ-VAE as it is": (SHORT_VQ, build),
    "no straight-through": (SHORT_VQ, with_quantizer(NoStraightThrough)),
    "no commitment": ({**SHORT_VQ, "beta": 0.0}, build),
    "no revival": (SHORT_VQ, with_quantizer(least=0.0)),
}
COLUMNS = ("test reconstruction", "test KL", "test negative ELBO", "test squared error", "Fréchet distance",
           "codebook perplexity")  # fmt: skip
UNTRAINED = "Fréchet distance"  # of samples of a prior that has learned nothing


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--only", nargs="*", default=list(ABLATIONS), help="names of the rows to train")
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name in a.only:
        changes, make = ABLATIONS[name]
        settings = Settings(**{**changes, "seed": a.seed, "importance_samples": 0})
        figures = figures_of("autoencoder", name, settings, a.parent, train, make)
        if "codebook perplexity" in figures:
            del figures[UNTRAINED]
        rows.append(row(name, COLUMNS, figures))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
