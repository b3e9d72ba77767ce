"""Batch norm: statistics of one channel over the whole batch while training, and remembered ones afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.layers.normalization.layer import affine
from scratch.layers.normalization.rows import rows_of
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


@in_float32
def _batch_norm_by_batch(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, np.ndarray, np.ndarray, float]:
    """y = w x̂ + b by the batch's own statistics; also μ, var (biased) and n, the number of values a channel.

    x̂ changes with x directly, through μ and through σ = √(var + eps), as in layer norm:

        ∂L/∂x = w / σ · (dy − mean dy − x̂ · mean(dy x̂))        ∂L/∂w = Σ dy x̂        ∂L/∂b = Σ dy

    μ, var and the two means run over the whole batch: where it is cut into shards, their sums meet in `all_reduce`.
    Those of ∂L/∂w and ∂L/∂b run over the shard, since shards' gradients are added later. The variance is the mean of
    squares about the mean already known; the shortcut mean x² − μ² cancels where the mean is large. x − μ is computed
    again in `backward`: that costs no more than to keep it, and an activation's memory less.
    """
    rows = rows_of(x.data)
    spread, values, w = rows.spread, rows.view(x.data), weight.data
    count, total = all_reduce(np.array(x.size // x.shape[1]), rows.sum(values))
    n = float(count)
    if n <= 1:
        raise ValueError(f"BatchNorm expected more than one value per channel when training, got shape {x.shape}")
    mean = total / n
    y = values - spread(mean)
    (squares,) = all_reduce(rows.dot(y, y))
    var = squares / n
    sigma = np.sqrt(var + eps)
    y *= spread(w / sigma)
    y += spread(bias.data)

    def backward(dy):
        dy = rows.view(dy)
        dx = values - spread(mean)
        sum_dy, sum_dy_x_hat = rows.sum(dy), rows.dot(dy, dx) / sigma
        dw, db = sum_dy_x_hat if weight.requires_grad else None, sum_dy if bias.requires_grad else None
        if not x.requires_grad:
            return None, dw, db
        total_dy, total_dy_x_hat = all_reduce(sum_dy, sum_dy_x_hat)
        dx *= spread(total_dy_x_hat / (n * sigma))
        dx += spread(total_dy / n)
        np.subtract(dy, dx, out=dx)
        dx *= spread(w / sigma)
        return rows.restore(dx), dw, db

    return record(rows.restore(y), (x, weight, bias), backward), mean, var, n


@in_float32
def _batch_norm_by_given(
    x: Tensor, mean: np.ndarray, var: np.ndarray, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """y = w x̂ + b by constant statistics: an affine map of each channel,  ∂L/∂x = w / σ · dy"""
    rows, sigma = rows_of(x.data), np.sqrt(var + eps)
    values, scale = rows.view(x.data), weight.data / sigma
    mean = mean.copy()  # the running statistics may have moved on when backward comes
    y = values * rows.spread(scale)
    y += rows.spread(bias.data - mean * scale)

    def backward(dy):
        dy = rows.view(dy)
        dx = rows.restore(dy * rows.spread(scale)) if x.requires_grad else None
        dw = rows.dot(dy, values - rows.spread(mean)) / sigma if weight.requires_grad else None
        return dx, dw, rows.sum(dy) if bias.requires_grad else None

    return record(rows.restore(y), (x, weight, bias), backward)


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
