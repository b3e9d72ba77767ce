"""A mixture of experts: many networks, of which each token goes through two (Mixtral, Jiang et al. 2024).

    p = softmax(x W_gᵀ)                                  (N, E)      a router scores the experts for every token
    chosen = the k likeliest,  g = p[chosen] / Σ p[chosen]   (N, k)  renormalised: the k gates sum to 1
    y = Σ over the chosen of g_e expert_e(x)             (N, C)

Which experts are chosen has no gradient; how much they count has one, through p. p[chosen] / Σ p[chosen] is the softmax
over the chosen scores alone, so the others' scores get none from here. They get theirs from the balancing loss, without
which a router that favours one expert trains it most, and then favours it more (Shazeer et al. 2017; the form is that
of Fedus, Zoph and Shazeer 2022, eq. 4 to 6):

    f_e = share of the N·k choices that fell on e        P_e = mean over the tokens of p_e
    balance = E Σ_e f_e P_e                              1 where all experts are used alike, E where one does it all

f is counted, a constant to the derivative: ∂balance/∂p_ne = E f_e / N pushes down what is used much.

What is different from Llama: the network of a layer, and a second term in the loss. Names are those of the published
files (`MixtralForCausalLM`): w1 is the gate, w3 goes up, w2 down.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratch.activations import silu, softmax
from scratch.half import in_float32
from scratch.layers import Linear, RMSNorm
from scratch.models.llama.model import Attention, Layer, Llama
from scratch.module import Module
from scratch.parallel import all_reduce
from scratch.tensor import Array, Tensor, record


class Expert(Module):
    """y = (silu(x W₁ᵀ) ∘ x W₃ᵀ) W₂ᵀ, Llama's network under Mixtral's names.  Shapes: (n, C) → the same"""

    def __init__(self, hidden_size: int, intermediate_size: int):
        self.w1 = Linear(hidden_size, intermediate_size, bias=False)
        self.w2 = Linear(intermediate_size, hidden_size, bias=False)
        self.w3 = Linear(hidden_size, intermediate_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(silu(self.w1(x)) * self.w3(x))


class Routing(NamedTuple):
    """What a router decided in the last forward pass, for N tokens."""

    p: Tensor  # (N, E), probabilities of all experts
    chosen: Array  # (N, k), the k likeliest, first the likeliest


class Mixture(Module):
    """E experts behind a router, k of them for each token.  Shapes: (..., C) → the same.

    Attribute routing: the last forward pass's; None before the first. Raises ValueError unless 1 ≤ k ≤ E.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, num_local_experts: int, num_experts_per_tok: int):
        if not 1 <= num_experts_per_tok <= num_local_experts:
            raise ValueError("Mixture expected num_experts_per_tok from 1 to num_local_experts, got "
                             f"{num_experts_per_tok} of {num_local_experts}")  # fmt: skip
        self.k = num_experts_per_tok
        self.gate = Linear(hidden_size, num_local_experts, bias=False)
        self.experts = [Expert(hidden_size, intermediate_size) for _ in range(num_local_experts)]
        self.routing: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        self.routing = routing = self.route(rows)
        gates = self.gates(routing)
        parts = []
        for e, expert in enumerate(self.experts):
            tokens, place = np.nonzero(routing.chosen == e)
            if len(tokens):
                parts.append((tokens, expert(take(rows, tokens)) * gates[tokens, place].reshape(-1, 1)))
        return put_together(len(rows), parts).reshape(x.shape)

    def route(self, rows: Tensor) -> Routing:
        """The k experts of each token.  Shapes: (N, C) → (N, E), (N, k)"""
        p = softmax(self.gate(rows), dim=-1)
        return Routing(p, np.argsort(-p.data, axis=1, kind="stable")[:, : self.k])

    def gates(self, routing: Routing) -> Tensor:
        """g = p[chosen] / Σ p[chosen]  (N, k)"""
        g = routing.p[np.arange(len(routing.chosen))[:, None], routing.chosen]
        return g / g.sum(axis=1, keepdims=True)

    def balance(self) -> Tensor:
        """E Σ_e f_e P_e of the last forward pass, f counted over all shards of a step."""
        if self.routing is None:
            raise ValueError("Mixture.balance is about the last forward pass, and there was none")
        p, chosen = self.routing
        E = p.shape[1]
        counts, total = all_reduce(np.bincount(chosen.reshape(-1), minlength=E), np.array(chosen.size))
        return (p.mean(axis=0) * (E * counts / total).astype(p.dtype)).sum()


class SparseLayer(Layer):
    """x ← x + self_attn(input_layernorm(x)),  x ← x + block_sparse_moe(post_attention_layernorm(x))"""

    def __init__(self, attention: Attention, mixture: Mixture, hidden_size: int, rms_norm_eps: float):
        self.self_attn = attention
        self.input_layernorm = RMSNorm(hidden_size, rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(hidden_size, rms_norm_eps)
        self.block_sparse_moe = mixture

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.block_sparse_moe(self.post_attention_layernorm(x))


class Mixtral(Llama):
    """A Llama whose layers have experts.

    Args: num_local_experts E, num_experts_per_tok k; intermediate_size is that of each expert. All others as `Llama`.
    """

    def __init__(self, *args: Any, num_local_experts: int = 8, num_experts_per_tok: int = 2, **kwargs: Any):
        self.num_local_experts, self.num_experts_per_tok = num_local_experts, num_experts_per_tok
        super().__init__(*args, **kwargs)

    def layer(self, attention: Attention, hidden_size: int, intermediate_size: int, eps: float) -> Layer:
        mixture = Mixture(hidden_size, intermediate_size, self.num_local_experts, self.num_experts_per_tok)
        return SparseLayer(attention, mixture, hidden_size, eps)

    def mixtures(self) -> list[Mixture]:
        return [layer.block_sparse_moe for layer in self.model.layers if isinstance(layer, SparseLayer)]

    def balance(self) -> Tensor:
        """The mean over the layers of their balancing losses, from the last forward pass."""
        parts = [mixture.balance() for mixture in self.mixtures()]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total / len(parts)


@in_float32
def take(x: Tensor, rows: Array) -> Tensor:
    """y = x[rows], no row twice;  ∂L/∂x[rows] = dy, 0 elsewhere.  Shapes: (N, C) → (n, C)"""

    def backward(dy):
        dx = np.zeros(x.shape, dy.dtype)
        dx[rows] = dy
        return (dx,)

    return record(x.data[rows], (x,), backward)


def put_together(N: int, parts: list[tuple[Array, Tensor]]) -> Tensor:
    """y[rows] += part for each (rows, part), no row twice in one;  ∂L/∂part = dy[rows].  Shapes: (n, C) → (N, C)"""
    first = parts[0][1]
    y = np.zeros((N, first.shape[1]), first.dtype)
    for rows, part in parts:
        y[rows] += part.data

    def backward(dy):
        return tuple(dy[rows] for rows, _ in parts)

    return record(y, tuple(part for _, part in parts), backward)
