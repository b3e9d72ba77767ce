"""Adam: momentum and the gradient's size at once, both corrected for having started from zero; and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from scratch.optim.optimizer import Optimizer, Params, scalars
from scratch.tensor import Array


class Adam(Optimizer):
    """Divide a running mean of the gradient by a running root mean square; with weight decay λ (L2).

        d = g + λ θ
        m ← β₁ m + (1 − β₁) d                  m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) d²                 v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

    m and v start from 0; after t steps their weights sum to 1 − βᵗ only, hence the hats. Each of these constants costs
    a pass over the arrays, so they are moved to where they meet a number: kept are the sums s = m / (1 − β₁) and
    q = v / (1 − β₂),

        s ← β₁ s + d        q ← β₂ q + d²        θ ← θ − η (1 − β₁) c / (1 − β₁ᵗ) · s / (√q + ε c)

    with c = √((1 − β₂ᵗ) / (1 − β₂)). Where an option changes β, the sums are rescaled, so that m and v stay.
    Source: Kingma and Ba 2015, algorithm 1; the end of its section 2 moves the hats likewise. `amsgrad` puts the
    largest v so far in v's place (Reddi, Kale and Kumar 2018, algorithm 2, with PyTorch's hats).
    Raises ValueError for options out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
    ):
        self._betas: dict[int, tuple[float, float]] = {}  # of each parameter: those that its sums belong to
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def update_parameter(self, index: int) -> None:
        self._rescale(index)
        super().update_parameter(index)

    def state_arrays(self) -> dict[str, Array]:
        for index in range(len(self._owners)):
            self._rescale(index)
        return super().state_arrays()

    def load_settings(self, settings: Mapping[str, Any]) -> None:
        super().load_settings(settings)
        self._betas = {}

    def _rescale(self, index: int) -> None:
        """s and q for the betas that the group has now, if those of the last step were others."""
        betas = self._owners[index][1]["betas"]
        before = self._betas.get(index, betas)
        if before != betas:
            factors = [(1 - old) / (1 - new) for old, new in zip(before, betas, strict=True)]
            for name, array in self.state[index].items():
                array *= factors[0 if name == "sum" else 1]
        self._betas[index] = betas

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum", "sum_sq", *(("max_sum_sq",) if group["amsgrad"] else ()))

    def _update(self, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any], t: int) -> None:
        if group["weight_decay"]:
            (lam,) = scalars(p.dtype, group["weight_decay"])
            d = np.multiply(p, lam)
            d += g
            g = d
        self._adam(p, g, state, group, t)

    def _adam(self, p: Array, d: Array, state: dict[str, Array], group: dict[str, Any], t: int) -> None:
        (b1, b2), s, q = group["betas"], state["sum"], state["sum_sq"]
        c = math.sqrt((1 - b2**t) / (1 - b2))
        beta1, beta2, eps, eta = scalars(
            p.dtype, b1, b2, group["eps"] * c, group["lr"] * (1 - b1) * c / (1 - b1**t)
        )
        a = np.square(d, out=np.empty_like(p))

        s *= beta1
        s += d
        q *= beta2
        q += a
        if group["amsgrad"]:
            q = np.maximum(q, state["max_sum_sq"], out=state["max_sum_sq"])
        np.sqrt(q, out=a)
        a += eps
        np.divide(s, a, out=a)
        a *= eta
        p -= a


class AdamW(Adam):
    """Adam whose weights shrink on their own, not through the gradient and hence not divided by its size.

        θ ← (1 − η λ) θ,  then Adam's step with d = g

    Source: Loshchilov and Hutter 2019, algorithm 2, with the decay multiplied by the learning rate, as in PyTorch.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def _update(self, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any], t: int) -> None:
        if group["weight_decay"]:
            (shrink,) = scalars(p.dtype, 1 - group["lr"] * group["weight_decay"])
            p *= shrink
        self._adam(p, g, state, group, t)
