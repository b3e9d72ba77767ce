"""What the two players want, as functions of the discriminator's logits D: how real x looks, from −∞ to ∞.

With σ(D) the probability that x is real,

    discriminator                       generator
    −ln σ(D(x)) − ln(1 − σ(D(x̂)))       minimax        ln(1 − σ(D(x̂)))       what the discriminator loses, it wins
                                        nonsaturating  −ln σ(D(x̂))           the same aim, and a slope where it loses
    D(x̂) − D(x)                         wasserstein    −D(x̂)                 D any 1-Lipschitz function
    max(0, 1 − D(x)) + max(0, 1 + D(x̂)) hinge          −D(x̂)                 who is right by a margin is left alone

x real, x̂ = G(z) fake. −ln σ(D) = softplus(−D) and −ln(1 − σ(D)) = softplus(D) are taken from the logits directly:
σ itself would round to 0 or 1, and its logarithm to −∞. All are to be minimised; one loss for each row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scratch.activations import relu, softplus
from scratch.tensor import Tensor


def cross_entropy_of_both(real: Tensor, fake: Tensor) -> Tensor:
    """−ln σ(D(x)) − ln(1 − σ(D(x̂)))  (Goodfellow et al. 2014, eq. 1, negated).  Shapes: (B,), (B,) → (B,)"""
    return softplus(-real) + softplus(fake)


def minimax(fake: Tensor) -> Tensor:
    """ln(1 − σ(D(x̂))), whose slope −σ(D) dies where the discriminator is sure  (Goodfellow et al. 2014, eq. 1)"""
    return -softplus(fake)


def nonsaturating(fake: Tensor) -> Tensor:
    """−ln σ(D(x̂)), whose slope σ(D) − 1 is −1 there  (Goodfellow et al. 2014, section 3)"""
    return softplus(-fake)


def wasserstein_of_both(real: Tensor, fake: Tensor) -> Tensor:
    """D(x̂) − D(x): minus an estimate of the Wasserstein distance, if D is 1-Lipschitz  (Arjovsky et al. 2017, eq. 3)"""
    return fake - real


def higher(fake: Tensor) -> Tensor:
    """−D(x̂): the generator wants its work judged higher"""
    return -fake


def hinge_of_both(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 − D(x)) + max(0, 1 + D(x̂))  (Lim and Ye 2017; Miyato et al. 2018, eq. 16)"""
    return relu(1 - real) + relu(1 + fake)


class Losses(NamedTuple):
    """The discriminator's, of its logits for real and fake rows; the generator's, of those for fake ones."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


LOSSES = {
    "nonsaturating": Losses(cross_entropy_of_both, nonsaturating),
    "minimax": Losses(cross_entropy_of_both, minimax),
    "wasserstein": Losses(wasserstein_of_both, higher),
    "hinge": Losses(hinge_of_both, higher),
}
