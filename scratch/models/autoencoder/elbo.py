"""The evidence lower bound and its parts, each with its derivative.

    log p(x) ≥ ELBO = E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ p(z))          (Kingma and Welling 2014, eq. 3)
    q(z|x) = N(μ, σ²)  with s = ln σ² and μ from the encoder,  p(z) = N(0, 1)

    log p(x) ≥ L_K = E[log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x)]           (Burda et al. 2016), L_1 = ELBO, L_K ≤ L_{K+1}

All in nats. Shapes: mean, log_variance, eps, z (B, …) of one shape; what is one number an image has shape (B,).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations import sigmoid
from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.losses import binary_cross_entropy_with_logits, mse_loss
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, no_grad, record

LOG_TAU = math.log(2 * math.pi)  # ln 2π


@in_float32
def gaussian_kl(mean: Any, log_variance: Any) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² − 1 − s),  s = ln σ²:  ∂/∂μ = μ,  ∂/∂s = ½ (σ² − 1)

    Summed over all axes but the first: (B, …) → (B,).
    """
    mean, s = _same_shape("gaussian_kl", mean, log_variance)
    variance = np.exp(s.data)
    axes = tuple(range(1, mean.ndim))
    kl = mean.data * mean.data
    kl += variance
    kl -= s.data
    y = 0.5 * (kl.sum(axis=axes) - mean.data[0].size)

    def backward(dy):
        dy = dy.reshape(-1, *(1,) * len(axes))
        return dy * mean.data, dy * (0.5 * (variance - 1))

    return record(y, (mean, s), backward)


@in_float32
def reparameterise(mean: Any, log_variance: Any, eps: np.ndarray) -> Tensor:
    """z = μ + σ ε,  σ = e^(s/2):  ∂z/∂μ = 1,  ∂z/∂s = ½ σ ε = ½ (z − μ)

    With ε ~ N(0, 1) drawn beforehand, z is a draw from q(z|x), and a differentiable function of μ and s.
    """
    mean, s = _same_shape("reparameterise", mean, log_variance)
    if np.shape(eps) != mean.shape:
        raise ValueError(f"reparameterise expected noise of the mean's shape {mean.shape}, got {np.shape(eps)}")
    spread = np.exp(0.5 * s.data)
    spread *= np.asarray(eps, mean.dtype)  # σ ε

    def backward(dy):
        return dy, dy * (0.5 * spread)

    return record(mean.data + spread, (mean, s), backward)


class Bernoulli(Module):
    """p(x|z): every pixel is ink with the probability σ(out).  −log p = −Σ [x ln σ(out) + (1 − x) ln(1 − σ(out))]"""

    def nats(self, out: Tensor, x: Any) -> Tensor:
        """−log p(x|z), summed over the batch."""
        return binary_cross_entropy_with_logits(out, x, reduction="sum")

    def each(self, out: Tensor, x: Any) -> np.ndarray:
        """−log p(x|z) of every image: (B,)."""
        return _per_image(binary_cross_entropy_with_logits(out, x, reduction="none").data)

    def picture(self, out: Tensor) -> np.ndarray:
        """The expected image."""
        return sigmoid(out).data


class Gaussian(Module):
    """p(x|z) = N(out, σ²), one σ for all pixels, learned as ln σ.

        −log p = Σ [(x − out)² / 2σ² + ln σ + ½ ln 2π]

    With the σ that is best for given outputs, σ² = mean (x − out)²  (Rybkin et al. 2021).
    """

    def __init__(self, sigma: float = 0.3):
        if not 0 < sigma < math.inf:
            raise ValueError(f"Gaussian expected a standard deviation above 0, got {sigma}")
        self.log_sigma = Parameter(np.array(math.log(sigma), np.float32))

    def nats(self, out: Tensor, x: Any) -> Tensor:
        """−log p(x|z), summed over the batch."""
        squares = mse_loss(out, x, reduction="sum")
        return squares * (0.5 * (-2 * self.log_sigma).exp()) + (self.log_sigma + 0.5 * LOG_TAU) * out.size

    def each(self, out: Tensor, x: Any) -> np.ndarray:
        """−log p(x|z) of every image: (B,)."""
        s, squares = float(self.log_sigma.data), mse_loss(out, x, reduction="none").data
        return _per_image(squares * (0.5 * math.exp(-2 * s)) + (s + 0.5 * LOG_TAU))

    def picture(self, out: Tensor) -> np.ndarray:
        """The expected image."""
        return np.clip(out.data, 0, 1)


LIKELIHOODS: dict[str, type[Bernoulli] | type[Gaussian]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}


def elbo_parts(model: Any, x: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(−log p(x|z) for one z, KL) of every image, in nats: the negative ELBO is their sum.  (B, …) → (B,), (B,)"""
    with no_grad():
        out, mean, log_variance = model(Tensor(x), eps)
        return model.likelihood.each(out, Tensor(x)), gaussian_kl(mean, log_variance).data


def importance_bound(model: Any, x: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """L_K of every image, K = `samples`: log 1/K Σ_k w_k,  w = p(x|z) p(z) / q(z|x)  (Burda et al. 2016, eq. 8)

        ln w = log p(x|z) − ½ Σ z² + ½ Σ (ε² + s)              for z = μ + σ ε; the ln 2π of both Gaussians cancel

    Shapes: x (B, …) → (B,). Raises ValueError for fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"importance_bound expected at least one sample, got {samples}")
    with no_grad():
        mean, log_variance = model.encode(Tensor(x))
        logs = np.empty((samples, len(x)), np.float64)
        for k in range(samples):
            eps = rng.standard_normal(mean.shape).astype(mean.dtype)
            z = reparameterise(mean, log_variance, eps)
            prior_less_q = 0.5 * _per_image(eps * eps + log_variance.data - z.data * z.data)
            logs[k] = prior_less_q - model.likelihood.each(model.decode(z), Tensor(x))
    largest = logs.max(axis=0)
    return largest + np.log(np.exp(logs - largest).mean(axis=0))


def _per_image(values: np.ndarray) -> np.ndarray:
    """The sum over all axes but the first, in float64."""
    return values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)


def _same_shape(who: str, mean: Any, log_variance: Any) -> tuple[Tensor, Tensor]:
    mean, s = floating(who, mean), floating(who, log_variance)
    if mean.ndim < 1 or not len(mean) or mean.shape != s.shape:
        raise ValueError(f"{who} expected mean and log-variance of one shape (B, ...), got {mean.shape} and {s.shape}")
    return mean, s
