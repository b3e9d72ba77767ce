"""What grids of codes are likely: a GPT that writes them row by row, after a token for the class.

    p(codes | class) = Π_i p(c_i | class, c_1 … c_{i−1})          class ─► c_1 c_2 … c_49

The VQ-VAE itself does not say which codes go together; drawn at random they decode to rubble. The GPT is the one of
`scratch.models.gpt`: its vocabulary are the K codes and, above them, one token for each class.
"""

from __future__ import annotations

import numpy as np

from scratch.losses import cross_entropy
from scratch.models.autoencoder.vq import VQVAE
from scratch.models.gpt import GPT
from scratch.models.gpt.decoder import Decoder
from scratch.models.gpt.generate import choose
from scratch.module import Module
from scratch.tensor import Tensor, no_grad


def code_sentences(codes: np.ndarray, labels: np.ndarray, K: int) -> np.ndarray:
    """Each grid read row by row, behind its class's token K + label.  Shapes: (B, H, W), (B,) → (B, 1 + H·W)"""
    return np.concatenate([K + labels[:, None], codes.reshape(len(codes), -1)], axis=1)


def code_loss(prior: GPT, read: np.ndarray, codes: np.ndarray) -> tuple[Tensor, float]:
    """(Σ −ln p(codes | class) in nats, how many codes), as ShardedLoss wants it.

    Shapes: read (B, T), a sentence without its end; codes (B, T), what follows each token of it.
    """
    logits = prior(read)
    flat = logits.reshape(codes.size, logits.shape[-1])
    return cross_entropy(flat, codes.reshape(-1), reduction="sum"), float(codes.size)


def sample_codes(
    prior: GPT, labels: np.ndarray, K: int, grid: tuple[int, int], rng: np.random.Generator, temperature: float = 1.0,
    batch_size: int = 250,
) -> np.ndarray:  # fmt: skip
    """A grid of codes for each label, drawn code by code with a cache of keys and values.  (N,) → (N, H, W)"""
    T, drawn = grid[0] * grid[1], []
    for i in range(0, len(labels), batch_size):
        part = labels[i : i + batch_size]
        decoder, codes = Decoder(prior, len(part)), np.empty((len(part), T), np.int64)
        last = K + part
        for t in range(T):
            logits = decoder.read(last[:, None])[:, :K]  # a class's token is never written
            last = codes[:, t] = choose(logits, temperature, None, None, rng, t)
        drawn.append(codes.reshape(-1, *grid))
    return np.concatenate(drawn)


class VQGenerator(Module):
    """A VQ-VAE and the GPT that writes its codes, trained one after the other.

    Args: classes: how many there are. num_layers, num_heads, embed_dim, dropout: of the GPT.
    """

    def __init__(
        self, first: VQVAE, classes: int = 10, num_layers: int = 3, num_heads: int = 4, embed_dim: int = 96,
        dropout: float = 0.1,
    ):  # fmt: skip
        self.first, self.classes = first, classes
        self.K = len(first.quantizer.codebook)
        length = first.grid[0] * first.grid[1]
        self.prior = GPT(self.K + classes, length, embed_dim, num_layers, num_heads, dropout=dropout)

    def codes(self, x: np.ndarray) -> np.ndarray:
        """The codes of images.  Shapes: (B, C, H, W) → (B, H/4, W/4)"""
        training = self.first.training
        self.first.eval()
        with no_grad():
            codes = self.first(Tensor(x))[1]
        self.first.train(training)
        return codes

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        """Codes as images from 0 to 1."""
        with no_grad():
            return self.first.likelihood.picture(self.first.decode(codes))

    def sample(self, labels: np.ndarray, rng: np.random.Generator, temperature: float = 1.0) -> np.ndarray:
        """Images of these classes: the prior writes, the decoder draws.  Shapes: (N,) → (N, C, H, W)"""
        codes = sample_codes(self.prior, labels, self.K, self.first.grid, rng, temperature)
        return np.concatenate([self.pictures(codes[i : i + 250]) for i in range(0, len(codes), 250)])
