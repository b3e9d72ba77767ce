"""Generative adversarial networks: a generator learns from a discriminator that learns to tell its work from data."""

from scratch.models.gan.model import (
    GAN,
    ConditionalDiscriminator,
    ConditionalGenerator,
    DCGANCritic,
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
)
from scratch.models.gan.penalty import gradient_penalty, input_gradient, r1_penalty
from scratch.models.gan.spectral import SpectralNorm, spectral_norm

__all__ = [
    "GAN",
    "ConditionalDiscriminator",
    "ConditionalGenerator",
    "DCGANCritic",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "MLPDiscriminator",
    "MLPGenerator",
    "SpectralNorm",
    "gradient_penalty",
    "input_gradient",
    "r1_penalty",
    "spectral_norm",
]
