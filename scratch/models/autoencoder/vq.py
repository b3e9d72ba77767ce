"""VQ-VAE: an autoencoder whose code is a small grid of whole numbers  (van den Oord et al. 2017)

    x (B, 1, 28, 28) ─ encoder ─► z (B, D, 7, 7) ─ nearest of K vectors ─► e (B, D, 7, 7) ─ decoder ─► out

What is different from the autoencoder in `model.py`:

    z is a grid, and each of its vectors is replaced by the nearest row e_k of a codebook; k is the code
    "nearest" has no derivative: the gradient of e is handed to z as it is ("straight through")        straight_through
    the encoder is held close to the codebook: + β |z − sg(e)|², sg = no gradient passes               commitment
    the codebook follows what the encoder says: e_k is a moving mean of the z that chose it            _follow
    a row that nobody chooses is put where some z is                                                   _revive

    L = −log p(x|e) + β |z − sg(e)|²,  summed over the numbers of an image        (eq. 3, the codebook by eq. 6 to 8)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.initializers import normal
from scratch.losses import mse_loss
from scratch.models.autoencoder.elbo import Bernoulli
from scratch.models.autoencoder.model import DIGITS, Likelihood
from scratch.models.autoencoder.parts import Shape, grid_decoder, grid_encoder
from scratch.module import Module
from scratch.parallel import all_reduce, in_main_thread
from scratch.random import generator
from scratch.tensor import Buffer, Tensor, as_tensor, record


def straight_through(z: Tensor, e: np.ndarray) -> Tensor:
    """y = e in the forward pass, ∂L/∂z = ∂L/∂y in the backward pass, as if y were z  (Bengio et al. 2013)"""

    def backward(dy):
        return (dy,)

    return record(e, (z,), backward)


def nearest(z: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The row of the codebook nearest to each z: the least |e|² − 2 z·e.  Shapes: (N, D), (K, D) → (N,)"""
    distances = z @ (-2 * codebook.T)
    distances += (codebook * codebook).sum(axis=1)
    return distances.argmin(axis=1)


class VectorQuantizer(Module):
    """e, codes, |z − sg(e)|² = quantizer(z).  In training the codebook follows the z of the whole batch.

    Args: codes: rows K of the codebook. dim: numbers D of a row. decay: γ of the moving means. least: a row that is
        chosen by fewer z than this a batch, on average, is dead, and is put onto a z of the present batch.
    Shapes: z (B, D, H, W) → e the same, codes (B, H, W), one number. Raises ValueError for another D.
    """

    def __init__(self, codes: int = 128, dim: int = 16, decay: float = 0.99, least: float = 1.0):
        if codes < 1 or dim < 1 or not 0 <= decay < 1 or not least >= 0:
            raise ValueError(f"VectorQuantizer expected codes and dim of at least 1, a decay in [0, 1) and least of at "
                             f"least 0, got {codes}, {dim}, {decay} and {least}")  # fmt: skip
        self.decay, self.least = decay, least
        self.codebook = Buffer(normal((codes, dim), std=0.1))
        self.counts = Buffer(np.ones(codes, np.float32))  # N: how many z chose the row, a moving mean
        self.sums = Buffer(self.codebook.data.copy())  # m: their sum, a moving mean

    def forward(self, z: Any) -> tuple[Tensor, np.ndarray, Tensor]:
        z, (K, D) = floating("VectorQuantizer", z), self.codebook.shape
        if z.ndim != 4 or z.shape[1] != D:
            raise ValueError(f"VectorQuantizer expected z of shape (B, {D}, H, W), got {z.shape}")
        B, _, H, W = z.shape
        rows = z.data.transpose(0, 2, 3, 1).reshape(-1, D)
        codes = nearest(rows, self.codebook.data)
        e = self.vectors(codes.reshape(B, H, W))
        if self.training:
            chosen = np.zeros((len(rows), K), rows.dtype)
            chosen[np.arange(len(rows)), codes] = 1
            counts, sums = all_reduce(chosen.sum(axis=0), chosen.T @ rows)
            in_main_thread(lambda: self._follow(counts, sums, rows))
        return straight_through(z, e), codes.reshape(B, H, W), mse_loss(z, Tensor(e), reduction="sum")

    def vectors(self, codes: np.ndarray) -> np.ndarray:
        """The rows of these codes.  Shapes: (B, H, W) → (B, D, H, W). Raises ValueError for codes outside 0 … K − 1."""
        K = len(self.codebook)
        if codes.ndim != 3 or codes.dtype.kind not in "iu" or codes.size and not 0 <= codes.min() <= codes.max() < K:
            raise ValueError(f"VectorQuantizer expected codes (B, H, W) from 0 to {K - 1}, got {codes.dtype} of shape "
                             f"{codes.shape}")  # fmt: skip
        return np.ascontiguousarray(self.codebook.data[codes].transpose(0, 3, 1, 2))

    def _follow(self, counts: np.ndarray, sums: np.ndarray, rows: np.ndarray) -> None:
        """N ← γ N + (1 − γ) n,  m ← γ m + (1 − γ) Σ z,  e = m / N  (eq. 6 to 8)"""
        N, m = self.counts.data, self.sums.data
        N += (1 - self.decay) * (counts - N)
        m += (1 - self.decay) * (sums - m)
        self._revive(rows)
        self.codebook.data[...] = m / N[:, None]

    def _revive(self, rows: np.ndarray) -> None:
        """Dead rows begin anew on z of the batch (of its first shard), drawn at random  (Dhariwal et al. 2020)"""
        dead = np.flatnonzero(self.counts.data < self.least)
        if len(dead):
            self.sums.data[dead] = rows[generator().integers(len(rows), size=len(dead))]
            self.counts.data[dead] = 1


class VQVAE(Module):
    """out, codes, commitment = vqvae(x): an image as a grid of codes, one for every 4×4 pixels.

    Args: width: channels of the encoder's and decoder's residual blocks, of which there are `blocks` on each side.
        codes, dim, decay, least: of the codebook. likelihood: what p(x|e) is, Bernoulli by default.
    Shapes: x (B, C, H, W) → out (B, C, H, W), codes (B, H/4, W/4), |z − sg(e)|² summed over the batch.
    """

    def __init__(
        self, shape: Shape = DIGITS, codes: int = 128, dim: int = 16, width: int = 32, blocks: int = 2,
        decay: float = 0.99, least: float = 1.0, likelihood: Likelihood | None = None,
    ):  # fmt: skip
        if shape[1] % 4 or shape[2] % 4:
            raise ValueError(f"VQVAE expected images whose sides are multiples of 4, got {shape}")
        self.shape, self.grid = tuple(shape), (shape[1] // 4, shape[2] // 4)
        self.encoder = grid_encoder(shape[0], width, blocks, dim)
        self.quantizer = VectorQuantizer(codes, dim, decay, least)
        self.decoder = grid_decoder(dim, width, blocks, shape[0])
        self.likelihood = likelihood or Bernoulli()

    def forward(self, x: Any) -> tuple[Tensor, np.ndarray, Tensor]:
        x = as_tensor(x)
        if x.shape[1:] != self.shape:
            raise ValueError(f"VQVAE expected x of shape (B, {', '.join(map(str, self.shape))}), got {x.shape}")
        e, codes, commitment = self.quantizer(self.encoder(x))
        return self.decoder(e), codes, commitment

    def decode(self, codes: np.ndarray) -> Tensor:
        """The parameters of p(x|e) for given codes.  Shapes: (B, H/4, W/4) → (B, C, H, W)"""
        return self.decoder(Tensor(self.quantizer.vectors(codes)))


def perplexity(codes: np.ndarray, K: int) -> float:
    """exp(−Σ p ln p) of how often each code occurs: K if all occur alike, 1 if only one does."""
    p = np.bincount(codes.reshape(-1), minlength=K) / codes.size
    p = p[p > 0]
    return math.exp(-float((p * np.log(p)).sum()))
