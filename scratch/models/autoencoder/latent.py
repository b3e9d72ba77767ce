"""Latent diffusion: the diffusion model at work on the codes of an autoencoder  (Rombach et al. 2022)

    x (B, 1, 28, 28) ─ encoder ─► z (B, 4, 7, 7) ─ ÷ scale ─► diffusion: U-Net on 7×7 ─ · scale ─► z ─ decoder ─► x

A VAE with a grid for its code does what eyes do not see, a U-Net a quarter as wide and high draws the rest. The
VAE's KL is weighted so little that z is nearly a point: it keeps z from growing, and no more ("KL-reg." in the paper).
`scale` brings z to variance 1, which the noise schedule was made for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratch.models.autoencoder.model import DIGITS, VAE, Likelihood
from scratch.models.autoencoder.parts import Shape, grid_decoder, grid_encoder
from scratch.models.diffusion.model import UNet
from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.sampling import ask, ddim, spaced
from scratch.module import Module
from scratch.tensor import Buffer, Tensor, no_grad


class GridVAE(VAE):
    """A VAE whose code is a grid of `latent` channels, one place for every 4×4 pixels.  z (B, latent, H/4, W/4)"""

    def __init__(
        self, shape: Shape = DIGITS, latent: int = 4, width: int = 32, blocks: int = 1,
        likelihood: Likelihood | None = None,
    ):  # fmt: skip
        if shape[1] % 4 or shape[2] % 4:
            raise ValueError(f"GridVAE expected images whose sides are multiples of 4, got {shape}")
        parts = grid_encoder(shape[0], width, blocks, 2 * latent), grid_decoder(latent, width, blocks, shape[0])
        self._assemble(shape, (latent, shape[1] // 4, shape[2] // 4), *parts, likelihood)


class LatentDiffusion(Module):
    """An autoencoder and a denoiser of its codes, trained one after the other.

    Args: widths, blocks: of the U-Net; classes: how many there are.
    """

    def __init__(self, first: GridVAE, widths: Sequence[int] = (64,), blocks: int = 2, classes: int = 10):
        self.first = first
        self.denoiser = UNet(first.code[0], widths, blocks, classes)
        self.scale = Buffer(np.ones((), np.float32))

    def measure_scale(self, x: np.ndarray) -> None:
        """Set `scale` to the root mean square of the codes of these images."""
        self.scale.data[...] = 1
        z = self.codes(x)
        self.scale.data[...] = np.sqrt((z * z).mean(dtype=np.float64))

    def codes(self, x: np.ndarray) -> np.ndarray:
        """μ / scale: what is diffused.  Shapes: (B, C, H, W) → (B, latent, H/4, W/4)"""
        with no_grad():
            mean, _ = self.first.encode(Tensor(x))
        return mean.data / self.scale.data

    def pictures(self, z: np.ndarray) -> np.ndarray:
        """Codes as images from 0 to 1."""
        with no_grad():
            return self.first.likelihood.picture(self.first.decode(Tensor(z * self.scale.data)))

    def sample(
        self, labels: np.ndarray, schedule: NoiseSchedule, steps: int, guidance: float, rng: np.random.Generator,
        batch_size: int = 250,
    ) -> np.ndarray:  # fmt: skip
        """Images of these classes by DDIM in the codes' space, decoded.  Shapes: (N,) → (N, C, H, W)"""
        times, drawn = spaced(schedule.T, steps), []
        for i in range(0, len(labels), batch_size):
            part = labels[i : i + batch_size]
            noise = rng.standard_normal((len(part), *self.first.code)).astype(np.float32)
            denoise = ask(self.denoiser, schedule, "eps", part, guidance)
            drawn.append(self.pictures(ddim(denoise, noise, schedule, times)))
        return np.concatenate(drawn)
