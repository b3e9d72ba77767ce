"""Autoencoders: images squeezed into a few numbers or codes, and made again from them."""

from scratch.models.autoencoder.latent import GridVAE, LatentDiffusion
from scratch.models.autoencoder.model import VAE, Autoencoder, ConvAutoencoder, ConvVAE
from scratch.models.autoencoder.vq import VQVAE, VectorQuantizer

__all__ = ["VAE", "VQVAE", "Autoencoder", "ConvAutoencoder", "ConvVAE", "GridVAE", "LatentDiffusion", "VectorQuantizer"]
