"""SGD: along the gradient, with momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.optim.optimizer import Optimizer, Params, scalars
from scratch.tensor import Array


class SGD(Optimizer):
    """Stochastic gradient descent with momentum μ, dampening τ and weight decay λ (L2).

        d = g + λ θ
        b ← μ b + (1 − τ) d        (the first time: b ← d)
        θ ← θ − η b                without momentum θ ← θ − η d, with Nesterov's θ ← θ − η (d + μ b)

    Source: Sutskever, Martens, Dahl and Hinton 2013, eqs. 1–4, in PyTorch's form: b holds gradients, not steps, so
    a change of the learning rate η acts at once (in the paper η is inside b).
    Raises ValueError for options out of range, and for nesterov without momentum or with dampening.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ):
        super().__init__(
            params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )

    def _check(self, options: dict[str, Any]) -> dict[str, Any]:
        options = super()._check(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov needs a momentum above 0 and no dampening, "
                f"got momentum {options['momentum']} and dampening {options['dampening']}"
            )
        return options

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _first(self, name: str, p: Array, g: Array, group: dict[str, Any]) -> Array:
        """τ/μ d, from which the formula makes b = d; it may be called for at any step, if momentum is set later."""
        start, d = group["dampening"] / group["momentum"], g
        if start == 0:
            return np.zeros_like(p)
        if group["weight_decay"]:
            d = g + group["weight_decay"] * p
        return np.multiply(d, start, out=np.empty_like(p))

    def _update(self, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any], t: int) -> None:
        momentum, decay = group["momentum"], group["weight_decay"]
        keep = 1 - group["dampening"]
        eta, mu, kept, lam = scalars(p.dtype, group["lr"], momentum, keep, decay)
        a, d = np.empty_like(p), g

        if decay:
            d = np.multiply(p, lam)
            d += g
        if momentum:
            b = state["momentum_buffer"]
            b *= mu
            b += d if keep == 1 else np.multiply(d, kept, out=a)
            if group["nesterov"]:
                np.multiply(b, mu, out=a)
                d = np.add(a, d, out=a)
            else:
                d = b
        p -= np.multiply(d, eta, out=a)
