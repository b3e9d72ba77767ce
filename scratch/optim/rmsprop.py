"""RMSprop: the gradient divided by its recent size, so that every weight moves at about the same rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.optim.optimizer import Optimizer, Params, scalars
from scratch.tensor import Array


class RMSprop(Optimizer):
    """Divide by a running root mean square of the gradient; with weight decay λ (L2) and momentum μ.

        d = g + λ θ
        v ← α v + (1 − α) d²
        s = √v + ε                 centered: m ← α m + (1 − α) d,  s = √(v − m²) + ε, the standard deviation
        θ ← θ − η d / s            with momentum: b ← μ b + d / s,  θ ← θ − η b

    Source: Tieleman and Hinton 2012 (lecture 6.5); centered: Graves 2013, eqs. 38–45, where ε is inside the root;
    here it is outside, as in PyTorch. Centered, a gradient that never changes is divided by almost nothing, and
    where rounding makes v − m² negative the result is NaN, as in PyTorch too.
    Raises ValueError for options out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
    ):
        super().__init__(
            params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered
        )

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        used = {"square_avg": True, "momentum_buffer": group["momentum"], "grad_avg": group["centered"]}
        return tuple(name for name in used if used[name])

    def _update(self, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any], t: int) -> None:
        eta, alpha, rest, eps, lam, mu = scalars(
            p.dtype, group["lr"], group["alpha"], 1 - group["alpha"], group["eps"], group["weight_decay"],
            group["momentum"],
        )  # fmt: skip
        v, a, d = state["square_avg"], np.empty_like(p), g

        if group["weight_decay"]:
            d = np.multiply(p, lam)
            d += g
        v *= alpha
        np.square(d, out=a)
        a *= rest
        v += a
        if group["centered"]:
            m = state["grad_avg"]
            m *= alpha
            m += np.multiply(d, rest, out=a)
            np.square(m, out=a)
            np.subtract(v, a, out=a)
            np.sqrt(a, out=a)
        else:
            np.sqrt(v, out=a)
        a += eps
        np.divide(d, a, out=a)
        if group["momentum"]:
            b = state["momentum_buffer"]
            b *= mu
            b += a
            np.multiply(b, eta, out=a)
        else:
            a *= eta
        p -= a
