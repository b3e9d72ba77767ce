"""Mixtral: a Llama whose feed-forward networks are mixtures of experts (Jiang et al. 2024).

    p = softmax(x W_routerᵀ)                                      (N, E)   router: a probability for every expert
    selected = the k most probable,  g = p[selected] / Σ p[selected]       (N, k)   the k gates sum to 1
    y = Σ over the selected of g_e expert_e(x)                    (N, C)

N = B · T tokens, E experts. The selection has no gradient; the gates have one, through p. p[selected] / Σ p[selected]
equals the softmax over the selected logits alone, so the other logits get no gradient from the text. They get theirs
from the load-balancing loss. Without it, a router that prefers one expert trains it most, and then prefers it more
(Shazeer et al. 2017; the form is that of Fedus, Zoph and Shazeer 2022, eq. 4 to 6):

    f_e = share of the N·k assignments that expert e gets      P_e = mean of p_e over the tokens
    loss = E Σ_e f_e P_e             1 if all experts are used equally, up to E if a single expert is

f is counted and has no gradient: ∂loss/∂p_ne = E f_e / N lowers the probability of experts that are used often.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratch.activations import softmax
from scratch.half import in_float32
from scratch.layers import Linear
from scratch.models.llama.model import FeedForward, Llama
from scratch.module import Module
from scratch.parallel import all_reduce
from scratch.tensor import Array, Tensor, record


class Routing(NamedTuple):
    """A router's decisions in the last forward pass, for N tokens."""

    probs: Tensor  # (N, E), probabilities of all experts
    selected: Array  # (N, k), the k most probable experts, most probable first


class MixtureOfExperts(Module):
    """E feed-forward networks and a router that selects k of them for each token.  Shapes: (..., C) → (..., C)

    Attribute routing: that of the last forward pass; None before the first. Raises ValueError unless 1 ≤ k ≤ E.
    """

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        num_experts: int,
        num_experts_per_token: int,
        dropout: float = 0.0,
        bias: bool = False,
    ):
        if not 1 <= num_experts_per_token <= num_experts:
            raise ValueError("num_experts_per_token must be from 1 to num_experts, got "
                             f"{num_experts_per_token} and {num_experts}")  # fmt: skip
        self.num_experts, self.num_experts_per_token = num_experts, num_experts_per_token
        self.router = Linear(embed_dim, num_experts, bias=False)
        self.experts = [FeedForward(embed_dim, ffn_dim, dropout, bias) for _ in range(num_experts)]
        self.routing: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])  # (N, C)
        self.routing = routing = self.route(rows)
        gates = self.gates(routing)  # (N, k)
        outputs = []
        for e, expert in enumerate(self.experts):
            tokens, rank = np.nonzero(routing.selected == e)  # the tokens of this expert, (n,)
            if len(tokens):
                gate = gates[tokens, rank].reshape(-1, 1)  # (n, 1)
                outputs.append((tokens, expert(gather_rows(rows, tokens)) * gate))
        return scatter_add_rows(len(rows), outputs).reshape(x.shape)

    def route(self, rows: Tensor) -> Routing:
        """The k experts of each token.  Shapes: (N, C) → (N, E), (N, k)"""
        probs = softmax(self.router(rows), dim=-1)
        ranked = np.argsort(-probs.data, axis=1, kind="stable")
        return Routing(probs, ranked[:, : self.num_experts_per_token])

    def gates(self, routing: Routing) -> Tensor:
        """g = p[selected] / Σ p[selected]  (N, k)"""
        g = routing.probs[np.arange(len(routing.selected))[:, None], routing.selected]
        return g / g.sum(axis=1, keepdims=True)

    def load_balancing_loss(self) -> Tensor:
        """E Σ_e f_e P_e of the last forward pass, with f counted over all shards of a step."""
        if self.routing is None:
            raise ValueError("load_balancing_loss needs a forward pass first, and there was none")
        probs, selected = self.routing
        E = probs.shape[1]
        counts, total = all_reduce(np.bincount(selected.reshape(-1), minlength=E), np.array(selected.size))
        return (probs.mean(axis=0) * (E * counts / total).astype(probs.dtype)).sum()


class Mixtral(Llama):
    """A Llama with a mixture of experts in every block.

    Args: num_experts E, num_experts_per_token k; ffn_dim: hidden units of each expert. All others as in `Llama`.
    """

    def __init__(self, *args: Any, num_experts: int = 8, num_experts_per_token: int = 2, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.num_experts, self.num_experts_per_token = num_experts, num_experts_per_token
        blocks: list[Any] = self.blocks
        for block in blocks:
            ffn_dim, embed_dim = block.feed_forward.gate_proj.weight.shape
            dropout, bias = block.feed_forward.dropout.p, block.feed_forward.gate_proj.bias is not None
            block.feed_forward = MixtureOfExperts(
                embed_dim, ffn_dim, num_experts, num_experts_per_token, dropout, bias
            )
        self.init_weights()

    def mixtures(self) -> list[MixtureOfExperts]:
        """The mixture of experts of every block."""
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]

    def load_balancing_loss(self) -> Tensor:
        """The mean over the blocks of their load-balancing losses, from the last forward pass."""
        losses = [mixture.load_balancing_loss() for mixture in self.mixtures()]
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total / len(losses)


@in_float32
def gather_rows(x: Tensor, rows: Array) -> Tensor:
    """y = x[rows], each row at most once;  ∂L/∂x[rows] = dy, 0 elsewhere.  Shapes: (N, C) → (n, C)"""

    def backward(dy):
        dx = np.zeros(x.shape, dy.dtype)
        dx[rows] = dy
        return (dx,)

    return record(x.data[rows], (x,), backward)


def scatter_add_rows(N: int, parts: list[tuple[Array, Tensor]]) -> Tensor:
    """y[rows] += part for each (rows, part), each row at most once per part;  ∂L/∂part = dy[rows].

    Shapes: (n, C) each → (N, C)
    """
    first = parts[0][1]
    y = np.zeros((N, first.shape[1]), first.dtype)
    for rows, part in parts:
        y[rows] += part.data

    def backward(dy):
        return tuple(dy[rows] for rows, _ in parts)

    return record(y, tuple(part for _, part in parts), backward)
