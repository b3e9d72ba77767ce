"""Instance norm: statistics of one channel of one example, so that an image's contrast does not matter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.layers.normalization.batch import batch_norm
from scratch.layers.normalization.group import norm_by_group
from scratch.layers.normalization.layer import affine
from scratch.module import Module
from scratch.parallel import all_reduce, in_main_thread
from scratch.tensor import Buffer, Parameter, Tensor, as_tensor


def instance_norm(
    x: Any,
    running_mean: Buffer | None = None,
    running_var: Buffer | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = w x̂ + b,  x̂ = (x − μ) / √(var + eps) for each channel of each example  (Ulyanov et al. 2016)

    A group norm of one channel a group, where the derivative is. The running statistics, if there are any, move by
    `momentum` towards the mean over the examples of μ and of the unbiased var; without `use_input_stats` they are used.
    Shapes: x (N, C, *), all others (C,) → as x.
    Raises ValueError where a channel of one value leaves no variance, or running statistics are missing.
    """
    x = floating("instance_norm", x)
    if x.ndim < 3:
        raise ValueError(f"instance_norm expected shape (N, C, *) with at least one axis after C, got {x.shape}")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("instance_norm expected running statistics, or use_input_stats=True")
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    C, n = x.shape[1], math.prod(x.shape[2:])
    if n <= 1:
        raise ValueError(f"InstanceNorm expected more than one value per channel and example, got shape {x.shape}")
    weight, bias = affine("instance_norm", weight, bias, (C,), x)
    y, mean, var = norm_by_group(x, C, weight, bias, float(eps))
    if running_mean is not None or running_var is not None:
        _track(running_mean, running_var, mean, var * (n / (n - 1)), float(momentum))
    return y


def _track(
    running_mean: Buffer | None, running_var: Buffer | None, mean: np.ndarray, var: np.ndarray, momentum: float
) -> None:
    """r ← r + momentum · (mean over the examples − r), of all shards' examples, once."""
    count, means, variances = all_reduce(np.array(len(mean)), mean.sum(axis=0), var.sum(axis=0))

    def update() -> None:
        for running, total in ((running_mean, means), (running_var, variances)):
            if running is not None:
                running.data += momentum * (total / float(count) - running.data)

    in_main_thread(update)


class InstanceNorm(Module):
    """Each channel of each example brought to mean 0 and variance 1; with `affine` also scaled (by 1), shifted (by 0).

    With `track_running_stats`, running statistics take the example's place in evaluation; `momentum=None` keeps them
    as they are, as in PyTorch, and `num_batches_tracked` does not count there either.
    Subclasses say which ranks of input they take. Raises ValueError for others, and for other channels.
    """

    layouts: dict[int, str] = {}  # number of axes → how the axes are called; the smaller one is without a batch

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
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
        shape = np.shape(x)
        alone = len(shape) == min(self.layouts)
        if len(shape) not in self.layouts or shape[0 if alone else 1] != self.num_features:
            expected = " or ".join(self.layouts.values())
            raise ValueError(f"{self!r} expected shape {expected} with C = {self.num_features}, got {shape}")
        if alone:
            return self.forward(as_tensor(x).reshape(1, *shape)).reshape(*shape)
        return instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum or 0.0, self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        rest = f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, {rest}"


class InstanceNorm1d(InstanceNorm):
    """Instance norm of the channels of sequences. Shapes: (N, C, L) or (C, L) → the same."""

    layouts = {2: "(C, L)", 3: "(N, C, L)"}


class InstanceNorm2d(InstanceNorm):
    """Instance norm of the channels of images. Shapes: (N, C, H, W) or (C, H, W) → the same."""

    layouts = {3: "(C, H, W)", 4: "(N, C, H, W)"}
