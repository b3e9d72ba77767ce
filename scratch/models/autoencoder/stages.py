"""What is trained, one stage after the other: an autoencoder of images and, where there is one, a model of its codes.

A stage says which module is trained, for how many steps, what a batch becomes before it is cut into shards (all noise
is drawn there), what the loss of a shard is, and what is measured on held-out images to choose the weights by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scratch.data import Dataset, random_shift
from scratch.losses import mse_loss
from scratch.models.autoencoder.elbo import gaussian_kl
from scratch.models.autoencoder.latent import LatentDiffusion
from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.prior import VQGenerator, code_loss, code_sentences
from scratch.models.autoencoder.tasks import binarised, error_figures, in_parts, noisy, vae_figures
from scratch.models.autoencoder.vq import VQVAE
from scratch.models.diffusion.noise import linear
from scratch.models.diffusion.process import diffuse
from scratch.module import Module
from scratch.random import generator
from scratch.tensor import Tensor, no_grad

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Stage:
    """One training: see the top of this file."""

    trained: Module
    steps: int
    lr: float
    prepare: Callable[[np.ndarray, np.ndarray], Arrays]  # (images, labels) → what the loss takes
    loss: Callable[..., tuple[Tensor, float]]  # (trained, *prepared) → (sum, weight), as ShardedLoss wants it
    figure: Callable[[Dataset], float]  # of held-out images; the less the better
    inputs: int = 1  # how many of the prepared arrays the module itself is called with
    begin: Callable[[Dataset], None] = lambda data: None  # called once before its first step, with the training images


def stages(model: Any, settings: Any) -> list[Stage]:
    """The stages of this model: one, or of a model that has a `first` two."""
    if isinstance(model, VQGenerator):
        return [picture_stage(model.first, settings), code_stage(model, settings)]
    if isinstance(model, LatentDiffusion):
        return [picture_stage(model.first, settings), denoiser_stage(model, settings)]
    return [picture_stage(model, settings)]


# -- an autoencoder of images -------------------------------------------------------------------------------------


def picture_stage(model: Any, settings: Any) -> Stage:
    s = settings

    def prepare(x: np.ndarray, y: np.ndarray) -> Arrays:
        rng = generator()
        x = random_shift(x, s.shift, rng) if s.shift else x
        if isinstance(model, VAE):
            x = binarised(x, rng) if s.binarise else x
            return x, rng.standard_normal((len(x), *model.code), np.float32).astype(x.dtype)
        return (noisy(x, s.noise, rng), x) if s.noise else (x, x)

    def figure(data: Dataset) -> float:
        if isinstance(model, VAE):
            found = vae_figures(model, data, s.binarise)
            return found["reconstruction"] + s.beta * found["KL"]
        return error_figures(model, data, s.noise)["reconstruction"]

    if isinstance(model, VAE):
        return Stage(model, s.steps, s.lr, prepare, partial(vae_loss, beta=s.beta), figure, inputs=2)
    loss = partial(vq_loss, beta=s.beta) if isinstance(model, VQVAE) else autoencoder_loss
    return Stage(model, s.steps, s.lr, prepare, loss, figure)


def autoencoder_loss(model: Any, shown: np.ndarray, x: np.ndarray) -> tuple[Tensor, float]:
    """(Σ −log p(x|z), how many images): the clean image from what was shown."""
    return model.likelihood.nats(model(Tensor(shown)), Tensor(x)), len(x)


def vae_loss(model: Any, x: np.ndarray, eps: np.ndarray, beta: float = 1.0) -> tuple[Tensor, float]:
    """(Σ −log p(x|z) + β KL, how many images); with β = 1 the negative ELBO  (Higgins et al. 2017 for other β)."""
    out, mean, log_variance = model(Tensor(x), eps)
    return model.likelihood.nats(out, Tensor(x)) + gaussian_kl(mean, log_variance).sum() * beta, len(x)


def vq_loss(model: Any, shown: np.ndarray, x: np.ndarray, beta: float = 0.25) -> tuple[Tensor, float]:
    """(Σ −log p(x|e) + β |z − sg(e)|², how many images)  (van den Oord et al. 2017, eq. 3)."""
    out, _, commitment = model(Tensor(shown))
    return model.likelihood.nats(out, Tensor(x)) + commitment * beta, len(x)


# -- models of its codes ------------------------------------------------------------------------------------------


def code_stage(model: VQGenerator, settings: Any) -> Stage:
    """The GPT learns the grids of codes that the VQ-VAE makes of the training images."""

    def sentences(x: np.ndarray, y: np.ndarray) -> Arrays:
        written = code_sentences(model.codes(x), y, model.K)
        return written[:, :-1], written[:, 1:]

    def prepare(x: np.ndarray, y: np.ndarray) -> Arrays:
        return sentences(random_shift(x, settings.second_shift, generator()) if settings.second_shift else x, y)

    def figure(data: Dataset) -> float:
        total = count = 0.0
        model.prior.eval()
        for i in range(0, len(data), 250):
            with no_grad():
                nats, n = code_loss(model.prior, *sentences(data.inputs[i : i + 250], data.targets[i : i + 250]))
            total, count = total + nats.item(), count + n
        model.prior.train()
        return total / count

    return Stage(model.prior, settings.second_steps, settings.second_lr, prepare, code_loss, figure)


def denoiser_stage(model: LatentDiffusion, settings: Any) -> Stage:
    """The U-Net learns to say the noise in noised codes; the class is withheld now and then, for guidance."""
    schedule = linear(settings.T)

    def noised(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Arrays:
        z = model.codes(x)
        t = rng.integers(1, schedule.T + 1, len(z))
        eps = rng.standard_normal(z.shape).astype(z.dtype)
        labels = np.where(rng.random(len(y)) < settings.drop_label, model.denoiser.no_class, y)
        return diffuse(z, t, eps, schedule), t, labels, eps

    def figure(data: Dataset) -> float:
        total = count = 0.0
        for i, (x, rng) in enumerate(in_parts(data, binarise=False)):
            batch = noised(x, data.targets[250 * i : 250 * (i + 1)], rng)
            with no_grad():
                squares, n = denoising_loss(model.denoiser, *batch)
            total, count = total + squares.item(), count + n
        return total / count

    def prepare(x: np.ndarray, y: np.ndarray) -> Arrays:
        rng = generator()
        return noised(random_shift(x, settings.second_shift, rng) if settings.second_shift else x, y, rng)

    return Stage(model.denoiser, settings.second_steps, settings.second_lr, prepare, denoising_loss, figure,
                 inputs=3, begin=lambda data: model.measure_scale(data.inputs[:1000]))  # fmt: skip


def denoising_loss(
    model: Module, z: np.ndarray, t: np.ndarray, labels: np.ndarray, eps: np.ndarray
) -> tuple[Tensor, float]:
    """(Σ (ε̂ − ε)², how many numbers)  (Ho et al. 2020, eq. 14)."""
    return mse_loss(model(Tensor(z), t, labels), Tensor(eps), reduction="sum"), float(eps.size)
