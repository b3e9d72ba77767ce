"""What a code knows: functions that return arrays, for any model of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from scratch.models.autoencoder.elbo import gaussian_kl
from scratch.models.autoencoder.model import VAE, Autoencoder
from scratch.tensor import Tensor, no_grad


def codes_of(model: Autoencoder, x: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """z of images, a VAE's mean.  Shapes: (N, C, H, W) → (N, *code)"""
    parts = []
    with no_grad():
        for i in range(0, len(x), batch_size):
            z = model.encode(Tensor(x[i : i + batch_size]))
            parts.append((z[0] if isinstance(model, VAE) else z).data)
    return np.concatenate(parts)


def images_of(model: Autoencoder, z: np.ndarray) -> np.ndarray:
    """The images of codes, from 0 to 1.  Shapes: (N, *code) → (N, C, H, W)"""
    with no_grad():
        return model.likelihood.picture(model.decode(Tensor(np.asarray(z, np.float32))))


def plane(model: Autoencoder, count: int = 15, reach: float = 0.98) -> np.ndarray:
    """Images over a plane of two numbers, at places that cut N(0, 1) into equal shares  (Kingma and Welling 2014)

    The middle `reach` of it; the first number rises to the right, the second upwards. → (count², C, H, W), row by row
    from the top. Raises ValueError for a code that is not of two numbers.
    """
    if model.code != (2,):
        raise ValueError(f"plane expected a code of two numbers, got one of shape {model.code}")
    shares = 0.5 + reach * (np.linspace(0, 1, count) - 0.5)
    line = np.array([NormalDist().inv_cdf(share) for share in shares])
    first, second = np.meshgrid(line, line[::-1])
    return images_of(model, np.stack([first.ravel(), second.ravel()], axis=1))


def traversal(model: Autoencoder, z: np.ndarray, axis: int, values: Sequence[float]) -> np.ndarray:
    """Images of one code with one of its numbers set to each of `values`.  Shapes: (Z,) → (values, C, H, W)"""
    moved = np.repeat(z[None], len(values), axis=0)
    moved[:, axis] = values
    return images_of(model, moved)


def interpolation(model: Autoencoder, a: np.ndarray, b: np.ndarray, count: int = 10) -> np.ndarray:
    """Images on the straight line from the code a to the code b.  Shapes: (*code), (*code) → (count, C, H, W)"""
    shares = np.linspace(0, 1, count).reshape(-1, *(1,) * a.ndim)
    return images_of(model, (1 - shares) * a + shares * b)


def arithmetic(model: Autoencoder, x: np.ndarray, less: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Images of z(x) − mean z(less) + mean z(more): what sets the second set of images apart from the first, added.

    Shapes: x (N, C, H, W), less (L, …), more (M, …) → (N, C, H, W)
    """
    direction = codes_of(model, more).mean(axis=0) - codes_of(model, less).mean(axis=0)
    return images_of(model, codes_of(model, x) + direction)


def kl_of_axes(model: VAE, x: np.ndarray) -> np.ndarray:
    """The KL of each number of z, in nats, a mean over images: about 0 where the number says nothing.  → (Z,)"""
    with no_grad():
        mean, log_variance = model.encode(Tensor(x))
        columns = [gaussian_kl(mean[:, i], log_variance[:, i]).data.mean() for i in range(mean.shape[1])]
    return np.array(columns)


def active_units(model: VAE, x: np.ndarray, least: float = 0.01) -> int:
    """How many numbers of z differ between images: the variance of their mean above `least`  (Burda et al. 2016)"""
    return int((codes_of(model, x).reshape(len(x), -1).var(axis=0) > least).sum())


def principal_plane(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Codes on the plane in which they vary most, and that plane's share of the variance.  (N, …) → (N, 2)

    Of the centred codes Z = U S Vᵀ the first two columns of U S.
    """
    flat = z.reshape(len(z), -1).astype(np.float64)
    u, s, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    return u[:, :2] * s[:2], float((s[:2] ** 2).sum() / (s**2).sum())


def errors_of(x: np.ndarray, back: np.ndarray) -> np.ndarray:
    """The squared error of each image, a mean over its pixels.  Shapes: (N, …), (N, …) → (N,)"""
    return ((x - back) ** 2).reshape(len(x), -1).mean(axis=1)


def usage(codes: np.ndarray, K: int) -> np.ndarray:
    """How often each code occurs, as a share.  Shapes: (…) → (K,)"""
    return np.bincount(codes.reshape(-1), minlength=K) / codes.size
