"""Autoencoders: an encoder that squeezes an image into a few numbers z, and a decoder that makes it again.

    autoencoder     x (B, C, H, W) ─ encoder ─► z (B, Z) ─ decoder ─► out (B, C, H, W)         −log p(x|z)

                                   ┌► μ (B, Z) ─────────────┐
    VAE             x ─ encoder ───┤                        ├► z = μ + σ ε ─ decoder ─► out    −log p(x|z) + KL
                                   └► s = ln σ² (B, Z) ─────┘

`out` are the parameters of p(x|z): logits of a Bernoulli, or means of a Gaussian (`elbo.py`). A denoising autoencoder
is the first of the two, shown noise and asked for the clean image. Dense or convolutional is the encoder's and the
decoder's affair (`parts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.models.autoencoder.elbo import Bernoulli, Gaussian, reparameterise
from scratch.models.autoencoder.parts import Shape, conv_decoder, conv_encoder, dense_decoder, dense_encoder
from scratch.module import Module
from scratch.random import generator
from scratch.tensor import Tensor, as_tensor

Likelihood = Bernoulli | Gaussian
DIGITS: Shape = (1, 28, 28)


class Autoencoder(Module):
    """out = decode(encode(x)), with layers of `hidden` units on both sides  (Hinton and Salakhutdinov 2006)

    Args: shape: of an image. latent: numbers in z. hidden: units of the encoder's layers, from the image on; the
        decoder has the same in reverse. likelihood: what p(x|z) is, Bernoulli by default.
    Shapes: x (B, C, H, W) → out (B, C, H, W); encode → (B, latent). Raises ValueError for other images.
    """

    def __init__(
        self, shape: Shape = DIGITS, latent: int = 20, hidden: Sequence[int] = (400,),
        likelihood: Likelihood | None = None,
    ):  # fmt: skip
        parts = dense_encoder(shape, hidden, latent), dense_decoder(latent, hidden, shape)
        self._assemble(shape, (latent,), *parts, likelihood)

    def _assemble(
        self, shape: Shape, code: tuple[int, ...], encoder: Module, decoder: Module, likelihood: Likelihood | None
    ) -> None:
        self.shape, self.code = tuple(shape), tuple(code)
        self.encoder, self.decoder = encoder, decoder
        self.likelihood = likelihood or Bernoulli()

    def forward(self, x: Any) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Any) -> Tensor:
        """z.  Shapes: (B, C, H, W) → (B, *code)"""
        return self.encoder(self._images(x))

    def decode(self, z: Any) -> Tensor:
        """The parameters of p(x|z).  Shapes: (B, *code) → (B, C, H, W). Raises ValueError for other codes."""
        z = as_tensor(z)
        if z.shape[1:] != self.code:
            raise ValueError(f"{type(self).__name__} expected codes z of shape (B, {_told(self.code)}), got {z.shape}")
        return self.decoder(z)

    def _images(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if x.shape[1:] != self.shape:
            raise ValueError(f"{type(self).__name__} expected x of shape (B, {_told(self.shape)}), got {x.shape}")
        return x


class ConvAutoencoder(Autoencoder):
    """The same with convolutions that halve the image, one for each of `widths`, and transposed ones that double it."""

    def __init__(
        self, shape: Shape = DIGITS, latent: int = 20, widths: Sequence[int] = (16, 32),
        likelihood: Likelihood | None = None,
    ):  # fmt: skip
        parts = conv_encoder(shape, widths, latent), conv_decoder(latent, widths, shape)
        self._assemble(shape, (latent,), *parts, likelihood)


class VAE(Autoencoder):
    """out, μ, ln σ² = vae(x): a distribution for each image in place of a point  (Kingma and Welling 2014)

    By default 784-400-20-400-784, with one linear map for μ and ln σ² together.

    Shapes: x (B, C, H, W), eps (B, latent) → out (B, C, H, W), μ and ln σ² (B, latent).
    """

    def __init__(
        self, shape: Shape = DIGITS, latent: int = 20, hidden: Sequence[int] = (400,),
        likelihood: Likelihood | None = None,
    ):  # fmt: skip
        parts = dense_encoder(shape, hidden, 2 * latent), dense_decoder(latent, hidden, shape)
        self._assemble(shape, (latent,), *parts, likelihood)

    def forward(self, x: Any, eps: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """eps: the noise of z = μ + σ ε; drawn from `scratch.random` if it is not given."""
        mean, log_variance = self.encode(x)
        eps = generator().standard_normal(mean.shape) if eps is None else eps
        return self.decode(reparameterise(mean, log_variance, eps)), mean, log_variance

    def encode(self, x: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """μ and s = ln σ² of q(z|x).  Shapes: (B, C, H, W) → (B, *code) twice"""
        told, half = super().encode(x), self.code[0]
        return told[:, :half], told[:, half:]


class ConvVAE(VAE):
    """The VAE with the convolutions of `ConvAutoencoder`."""

    def __init__(
        self, shape: Shape = DIGITS, latent: int = 20, widths: Sequence[int] = (16, 32),
        likelihood: Likelihood | None = None,
    ):  # fmt: skip
        parts = conv_encoder(shape, widths, 2 * latent), conv_decoder(latent, widths, shape)
        self._assemble(shape, (latent,), *parts, likelihood)


def _told(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
