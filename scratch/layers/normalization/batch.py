"""Batch norm: statistics of one channel over the whole batch while training, and remembered ones afterwards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.layers.normalization.layer import affine
from scratch.module import Module
from scratch.parallel import all_reduce, in_main_thread
from scratch.tensor import Buffer, Parameter, Tensor, record


def batch_norm(
    x: Any,
    running_mean: Buffer | None = None,
    running_var: Buffer | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    num_batches_tracked: Buffer | None = None,
) -> Tensor:
    """y = w x̂ + b,  x̂ = (x − μ) / √(var + eps) for each channel  (Ioffe and Szegedy 2015)

    Training: μ and var are the batch's own, and the running ones, if there are any, move towards them:
    r ← r + momentum · (batch − r), the variance by its unbiased estimate n / (n − 1) · var. With momentum None they
    are the plain average over all batches, which `num_batches_tracked` counts. Otherwise the running ones are used.
    Shapes: x (N, C, *), all others (C,) → as x.
    Raises ValueError where a batch of one value a channel leaves no variance, or running statistics are missing.
    """
    x = floating("batch_norm", x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm expected shape (N, C, *), got {x.shape}")
    weight, bias = affine("batch_norm", weight, bias, (x.shape[1],), x)
    eps = float(eps)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm expected running statistics, or training=True")
        return _batch_norm_by_given(x, running_mean.data, running_var.data, weight, bias, eps)
    if momentum is None and running_mean is not None and num_batches_tracked is None:
        raise ValueError("batch_norm expected num_batches_tracked to average over, since momentum is None")

    y, mean, var, n = _batch_norm_by_batch(x, weight, bias, eps)

    def update() -> None:
        if num_batches_tracked is not None:
            num_batches_tracked.data += 1
        rate = 1 / num_batches_tracked.item() if momentum is None and num_batches_tracked is not None else momentum
        for running, batch in ((running_mean, mean), (running_var, var * (n / (n - 1)))):
            if running is not None:
                running.data += rate * (batch - running.data)

    in_main_thread(update)
    return y


def _batch_norm_by_batch(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, np.ndarray, np.ndarray, float]:
    """y = w x̂ + b by the batch's own statistics; also μ, var (biased) and n, the number of values a channel.

    x̂ changes with x directly, through μ and through σ = √(var + eps), as in layer norm:

        ∂L/∂x = w / σ · (dy − mean dy − x̂ · mean(dy x̂))        ∂L/∂w = Σ dy x̂        ∂L/∂b = Σ dy

    μ, var and the two means run over the whole batch: where it is cut into shards, their sums meet in `all_reduce`.
    Those of ∂L/∂w and ∂L/∂b run over the shard, since shards' gradients are added later. The variance is the mean of
    squares about the mean already known; the shortcut mean x² − μ² cancels where the mean is large.
    """
    w, rows = weight.data, _channels(x.data)
    count, total = all_reduce(np.array(rows.shape[0] * rows.shape[2]), _sum(rows))
    n = float(count)
    if n <= 1:
        raise ValueError(f"BatchNorm expected more than one value per channel when training, got shape {x.shape}")
    mean = total / n
    centred = rows - mean[:, None]
    (squares,) = all_reduce(_sum(centred, centred))
    var = squares / n
    sigma = np.sqrt(var + eps)
    y = centred * (w / sigma)[:, None]
    y += bias.data[:, None]

    def backward(dy):
        dy = _channels(dy)
        sum_dy, sum_dy_x_hat = _sum(dy), _sum(dy, centred) / sigma
        dx = None
        if x.requires_grad:
            total_dy, total_dy_x_hat = all_reduce(sum_dy, sum_dy_x_hat)
            dx = dy * (w / sigma)[:, None]
            dx -= (w / sigma * total_dy / n)[:, None]
            dx -= centred * (w / (sigma * sigma) * total_dy_x_hat / n)[:, None]
            dx = _restore(dx, x.shape)
        return dx, sum_dy_x_hat if weight.requires_grad else None, sum_dy if bias.requires_grad else None

    return record(_restore(y, x.shape), (x, weight, bias), backward), mean, var, n


def _batch_norm_by_given(
    x: Tensor, mean: np.ndarray, var: np.ndarray, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """y = w x̂ + b by constant statistics: an affine map of each channel,  ∂L/∂x = w / σ · dy"""
    rows, sigma = _channels(x.data), np.sqrt(var + eps)
    scale = weight.data / sigma
    mean = mean.copy()  # the running statistics may have moved on when backward comes
    y = rows * scale[:, None]
    y += (bias.data - mean * scale)[:, None]

    def backward(dy):
        dy = _channels(dy)
        dx = _restore(dy * scale[:, None], x.shape) if x.requires_grad else None
        dw = _sum(dy, rows - mean[:, None]) / sigma if weight.requires_grad else None
        return dx, dw, _sum(dy) if bias.requires_grad else None

    return record(_restore(y, x.shape), (x, weight, bias), backward)


class BatchNorm(Module):
    """Each channel brought to mean 0 and variance 1 over the batch, then scaled (by 1) and shifted (by 0).

    In evaluation the running mean and variance, buffers, take the batch's place; with `track_running_stats=False` there
    are none and the batch's are always used. `momentum=None` averages over all batches.
    Subclasses say which ranks of input they take. Raises ValueError for others, and for other channels.
    """

    layouts: dict[int, str] = {}  # number of axes → how the axes are called

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ):
        if num_features < 1:
            raise ValueError(f"{type(self).__name__} expected at least 1 feature, got {num_features}")
        self.num_features = num_features
        self.eps = float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine and bias else None
        self.running_mean = Buffer(np.zeros(num_features, np.float32)) if track_running_stats else None
        self.running_var = Buffer(np.ones(num_features, np.float32)) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.array(0, np.int64)) if track_running_stats else None

    def forward(self, x: Any) -> Tensor:
        if np.ndim(x) not in self.layouts or np.shape(x)[1] != self.num_features:
            expected = " or ".join(self.layouts.values())
            raise ValueError(f"{self!r} expected shape {expected} with C = {self.num_features}, got {np.shape(x)}")
        return batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum, self.eps, self.num_batches_tracked,
        )  # fmt: skip

    def extra_repr(self) -> str:
        rest = f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, {rest}"


class BatchNorm1d(BatchNorm):
    """Batch norm of features, or of channels along a sequence. Shapes: (N, C) or (N, C, L) → the same."""

    layouts = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(BatchNorm):
    """Batch norm of the channels of images. Shapes: (N, C, H, W) → the same."""

    layouts = {4: "(N, C, H, W)"}


def _channels(x: np.ndarray) -> np.ndarray:
    """(N, C, *) as (N, C, L). A matrix becomes (1, C, N), over the same memory: its long axis is the one to sum."""
    return x.T[None] if x.ndim == 2 else x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _restore(y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The way back from `_channels`."""
    return y[0].T if len(shape) == 2 else y.reshape(shape)


def _sum(*factors: np.ndarray) -> np.ndarray:
    """Σ of the product over all but the channels, (N, C, L) → (C,), without the product in memory.

    Each example first, then their sums: one long float32 sum would lose digits. (A matrix has one long sum only; over
    100,000 rows it is right to about 1e-5.)
    """
    subscripts = ",".join(["ncl"] * len(factors)) + "->nc"
    return np.einsum(subscripts, *factors).sum(axis=0)
