"""The multilayer perceptron: affine maps with ReLU between them.

    h₀ = x        hₗ = relu(hₗ₋₁ Wₗᵀ + bₗ)   for l = 1 … L−1        logits = h_{L−1} W_Lᵀ + b_L

    x (B, inputs) ─ Linear ─ ReLU ─ Dropout ─ … ─ Linear ─► logits (B, outputs)

Trained on the cross-entropy of softmax(logits), which `losses.cross_entropy` takes from the logits directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scratch.activations import relu
from scratch.layers import Dropout, Linear
from scratch.module import Module
from scratch.tensor import Tensor


class MLP(Module):
    """Fully connected classifier.

    Args: inputs: features of one example. hidden: units of each hidden layer; () leaves softmax regression.
        outputs: classes. dropout: share of hidden units set to zero at random in training (Srivastava et al. 2014).
    Shapes: (B, ...) with `inputs` numbers an example → logits (B, outputs). Raises ValueError for other inputs.
    """

    def __init__(
        self, inputs: int = 784, hidden: Sequence[int] = (256, 128), outputs: int = 10, dropout: float = 0.0
    ):
        sizes = [inputs, *hidden, outputs]
        self.layers = [Linear(n, m) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]
        self.dropout = Dropout(dropout)

    def forward(self, x: Any) -> Tensor:
        h = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            h = self.dropout(relu(layer(h)))
        return self.layers[-1](h)
