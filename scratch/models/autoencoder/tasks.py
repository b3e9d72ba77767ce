"""The images, and how the models of this folder are judged on them: likelihoods, errors, samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.data import Dataset, Splits, load_digits, load_fashion_mnist, load_mnist
from scratch.evaluation import judge as judging
from scratch.models.autoencoder.elbo import elbo_parts, importance_bound
from scratch.models.autoencoder.latent import LatentDiffusion
from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.prior import VQGenerator
from scratch.models.autoencoder.vq import VQVAE, perplexity
from scratch.models.diffusion.noise import linear
from scratch.random import generator, stream
from scratch.sampling import check_finite
from scratch.tensor import Tensor, no_grad

IMAGES: dict[str, Callable[..., Splits]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
}
BATCH = 250  # images looked at at a time


def load_data(settings: Any) -> Splits:
    """Images (N, 1, 28, 28), ink 1 and paper 0, to learn from, to choose by and to report."""
    return IMAGES[settings.data](flat=False)


def binarised(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pixel 1 with the probability that its grey says, else 0  (Salakhutdinov and Murray 2008)."""
    return (rng.random(x.shape, np.float32) < x).astype(x.dtype)


def noisy(x: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """x with Gaussian noise on every pixel."""
    return x + np.float32(deviation) * rng.standard_normal(x.shape, np.float32).astype(x.dtype)


def in_parts(data: Dataset, binarise: bool) -> list[tuple[np.ndarray, np.random.Generator]]:
    """Held-out images, always binarised alike, each part with a generator of its own that is the same every time."""
    parts = []
    for i in range(0, len(data), BATCH):
        with stream(0, i):
            rng = generator()
            x = data.inputs[i : i + BATCH]
            parts.append((binarised(x, rng) if binarise else x, rng))
    return parts


# -- figures ------------------------------------------------------------------------------------------------------


def vae_figures(model: VAE, data: Dataset, binarise: bool, samples: int = 0) -> dict[str, float]:
    """Nats an image: reconstruction −log p(x|z), KL, their sum, and with `samples` the importance-weighted bound."""
    nats: list[np.ndarray] = []
    kl: list[np.ndarray] = []
    bound: list[np.ndarray] = []
    for x, rng in in_parts(data, binarise):
        eps = rng.standard_normal((len(x), *model.code)).astype(x.dtype)
        for kept, part in zip((nats, kl), elbo_parts(model, x, eps), strict=True):
            kept.append(part)
        if samples:
            bound.append(importance_bound(model, x, samples, rng))
    figures = {"reconstruction": float(np.concatenate(nats).mean()), "KL": float(np.concatenate(kl).mean())}
    figures["negative ELBO"] = figures["reconstruction"] + figures["KL"]
    return figures | ({f"negative bound, K = {samples}": -float(np.concatenate(bound).mean())} if samples else {})


def outputs(model: Any, x: np.ndarray) -> Tensor:
    """The parameters of p(x|z) for images, without any draw: a VAE's z is its mean."""
    training = model.training
    model.eval()
    with no_grad():
        if isinstance(model, VAE):
            out = model.decode(model.encode(Tensor(x))[0])
        else:
            out = model(Tensor(x))[0] if isinstance(model, VQVAE) else model(Tensor(x))
    model.train(training)
    return out


def reconstructions(model: Any, x: np.ndarray) -> np.ndarray:
    """What comes back of images, from 0 to 1."""
    return model.likelihood.picture(outputs(model, x))


def error_figures(model: Any, data: Dataset, deviation: float = 0.0) -> dict[str, float]:
    """Of images that are not binarised: nats an image, and the squared error a pixel of what comes back.

    deviation: of the noise on what the model is shown.
    """
    nats, squares = 0.0, 0.0
    for x, rng in in_parts(data, binarise=False):
        out = outputs(model, noisy(x, deviation, rng) if deviation else x)
        nats += float(model.likelihood.each(out, Tensor(x)).sum())
        squares += float(((model.likelihood.picture(out) - x) ** 2).sum())
    return {"reconstruction": nats / len(data), "squared error": squares / data.inputs.size}


# -- samples ------------------------------------------------------------------------------------------------------


def draw(model: Any, settings: Any, classes: int, count: int | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """(images from 0 to 1, the classes that were asked for, in turn); a VAE can't be asked. None of an autoencoder.

    Raises ValueError where a picture has NaN or infinite values, naming the row.
    """
    count = settings.samples if count is None else count
    rng = np.random.default_rng([settings.seed, 1])
    asked = np.arange(count) % classes
    if isinstance(model, VQGenerator):
        images = model.sample(asked, rng, settings.temperature)
    elif isinstance(model, LatentDiffusion):
        images = model.sample(asked, linear(settings.T), settings.sampling_steps, settings.guidance, rng)
    elif isinstance(model, VAE):
        z = rng.standard_normal((count, *model.code)).astype(np.float32)
        with no_grad():
            parts = [model.likelihood.picture(model.decode(z[i : i + BATCH])) for i in range(0, count, BATCH)]
        images = np.concatenate(parts)
    else:
        return None
    check_finite(images, "the decoder's picture")
    return images, asked


def judged(samples: np.ndarray, asked: np.ndarray | None, data: Splits) -> dict[str, float]:
    """The judge's Fréchet distance to the test images, that of as many training images, and what it reads.

    asked: the classes that were asked for; without them, how far the classes are from evenly drawn.
    """
    judge = judging.load_judge(data.train.name)
    figures = judging.figures(samples, data.test.inputs, data.train.inputs, judge, asked)
    return figures | ({"classes, KL to uniform": judging.class_balance(samples, judge)[1]} if asked is None else {})


# -- the report ---------------------------------------------------------------------------------------------------


def report(model: Any, data: Splits, settings: Any, samples: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float]:
    """All figures of the test set, and of the samples."""
    first = getattr(model, "first", model)
    first.eval()
    results: dict[str, float] = {}
    if isinstance(first, VAE):
        figures = vae_figures(first, data.test, settings.binarise, settings.importance_samples)
        results |= {f"test {name}": value for name, value in figures.items()}
    errors = error_figures(first, data.test, settings.noise)
    if not isinstance(first, VAE):
        results["test reconstruction"] = errors["reconstruction"]
    results["test squared error"] = errors["squared error"]
    if isinstance(model, VQGenerator):
        codes = np.concatenate([model.codes(x) for x, _ in in_parts(data.test, binarise=False)])
        results["codebook perplexity"] = perplexity(codes, model.K)
    if samples is not None:
        results |= judged(samples[0], None if isinstance(model, VAE) else samples[1], data)
    return results
