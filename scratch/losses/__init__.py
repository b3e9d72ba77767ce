"""Losses: how far a prediction is from its target. Each is one operation, with its derivative right below.

Names, arguments and meanings are PyTorch's. With ℓ the loss of each element (of each position, where there are
classes), `reduction` "mean", "sum" or "none" gives 1/n Σ ℓ, Σ ℓ or ℓ itself, and ∂L/∂ℓ = g is dy/n, dy or dy.
A loss keeps the input's dtype: targets and weights are cast to it. Targets may require a gradient, weights not.
Input and target must have equal shapes: a column against a row would broadcast to a matrix, and train on nonsense.
ValueError says what was expected where shapes, dtypes, labels or options are wrong.
"""

from scratch.losses.classes import cross_entropy, nll_loss
from scratch.losses.distances import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from scratch.losses.modules import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from scratch.losses.probabilities import binary_cross_entropy, binary_cross_entropy_with_logits, kl_div

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss",
    "MSELoss", "NLLLoss", "SmoothL1Loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss",
    "smooth_l1_loss",
]  # fmt: skip
