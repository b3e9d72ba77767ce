"""Looking inside a convolutional network: what it looks for, what it finds, and where in the image an answer lies.

    question                                          function          idea
    what does a first layer look for?                 filters           its weights are small pictures
    what did it find here?                            feature_maps      outputs of the modules by name
    which part does the answer need?                  occlusion         hide it, and see the probability fall
    which pixels would change the answer?             saliency          |∂logit/∂pixel|
    where did the last maps find evidence for it?     grad_cam          maps weighted by their gradients

Every function takes any model of images and returns arrays; `scratch.viz` draws them. The model is looked at in
evaluation mode and left as it was: no gradient of a parameter is computed or kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratch.activations import softmax
from scratch.layers import Conv2d
from scratch.module import Module, observe
from scratch.random import generator
from scratch.tensor import Array, Tensor, no_grad

PIXELS = 16 * 224 * 224  # in one pass: enough to be fast, little enough for a laptop's memory


@contextmanager
def looking(model: Module) -> Iterator[None]:
    """The model in evaluation mode and with frozen parameters inside the block, as before after it."""
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad in trained:
            parameter.requires_grad = requires_grad


def in_one_pass(shape: tuple[int, ...]) -> list[slice]:
    """Parts of a batch of images (N, C, H, W) of at most `PIXELS` pixels each, and of at least one image."""
    step = max(PIXELS // (shape[2] * shape[3]), 1)
    return [slice(begin, begin + step) for begin in range(0, shape[0], step)]


def filters(source: Any) -> Array:
    """The weights of a model's first convolution (or a given weight), a small picture for each output and input.

    Shapes: model, Tensor or array → (out, in, kh, kw), a copy. Raises ValueError for a model without a Conv2d.
    """
    if isinstance(source, Module):
        convolutions = [module for module in source.modules() if isinstance(module, Conv2d)]
        if not convolutions:
            raise ValueError(f"filters expected a model with a Conv2d, got {type(source).__name__}")
        source = convolutions[0].weight
    weight = np.array(source.data if isinstance(source, Tensor) else source)
    if weight.ndim != 4:
        raise ValueError(f"filters expected a weight of shape (out, in, kh, kw), got {weight.shape}")
    return weight


def feature_maps(model: Module, x: Any, names: Sequence[str] | None = None) -> dict[str, Array]:
    """What the named modules put out for x, in the order of computation; without names, all that put out images.

    The second output of a module that is used twice is called `name (2)`, and so on.
    Shapes: x (N, C, H, W) → {name: (N, channels, h, w), or whatever the module puts out}.
    Raises ValueError for names that the model doesn't have, or that gave nothing on the way.
    """
    named = {id(module): name for name, module in model.named_modules()}
    wanted = set(named.values()) if names is None else {check_name(model, name) for name in names}
    kept: dict[str, Array] = {}

    def keep(module: Module, inputs: tuple, output: Any) -> None:
        name = named.get(id(module))
        if name in wanted and isinstance(output, Tensor) and (names is not None or output.ndim == 4):
            times = 1 + sum(each == name or each.startswith(f"{name} (") for each in kept)
            kept[name if times == 1 else f"{name} ({times})"] = output.data

    with looking(model), no_grad(), observe(keep):
        model(x if isinstance(x, Tensor) else Tensor(x))
    silent = [name for name in names or () if name not in kept]
    if silent:
        raise ValueError(f"feature_maps: {', '.join(silent)} put out no tensor")
    return kept


def occlusion(
    model: Module, image: Any, target: int, size: int = 8, stride: int = 4, value: float | None = None
) -> Array:
    """How far the probability of `target` falls when a square patch of the image is hidden:

        D[i, j] = p(target | x) − p(target | x without rows i·stride … + size, columns j·stride … + size)

    Large where the answer hangs on what is there; negative where something else was seen  (Zeiler and Fergus 2014).

    Args: size, stride: of the patch, in pixels. value: what is put in its place, by default each channel's mean.
    Shapes: image (C, H, W) or (1, C, H, W) → (⌊(H − size) / stride⌋ + 1, ⌊(W − size) / stride⌋ + 1).
    Raises ValueError for patches larger than the image, and for a target that the model has no logit for.
    """
    x = _one_image("occlusion", image)
    height, width = x.shape[2:]
    if not 1 <= size <= min(height, width) or stride < 1:
        raise ValueError(f"occlusion expected a size from 1 to {min(height, width)} and a stride of at least 1, "
                         f"got {size} and {stride}")  # fmt: skip
    rows, columns = _patches(height, size, stride), _patches(width, size, stride)
    places = np.stack(np.meshgrid(np.arange(len(rows)), np.arange(len(columns)), indexing="ij"), -1).reshape(-1, 2)
    filling = x.mean(axis=(2, 3), keepdims=True) if value is None else np.array(value, x.dtype)
    with looking(model), no_grad():
        whole = _probability(model, x, target)
        hidden = []
        for part in in_one_pass((len(places), *x.shape[1:])):
            i, j = places[part].T
            patch = (rows[i][:, :, None] & columns[j][:, None, :])[:, None]  # (n, 1, H, W)
            hidden.append(_probability(model, np.where(patch, filling, x), target))
    return (whole - np.concatenate(hidden)).reshape(len(rows), len(columns))


def per_pixel(drops: Array, shape: tuple[int, int], size: int, stride: int) -> Array:
    """`occlusion`'s answer for every pixel: the mean drop over the patches that hide it, 0 where none does.

    With rows R and columns C of ones and zeros (patch, pixel):  y = Rᵀ D C / (Rᵀ 1)(1ᵀ C)
    Shapes: drops (rows, columns) → shape (H, W).
    """
    rows, columns = _patches(shape[0], size, stride), _patches(shape[1], size, stride)
    if drops.shape != (len(rows), len(columns)):
        raise ValueError(f"per_pixel expected drops of shape {(len(rows), len(columns))}, got {drops.shape}")
    times = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    return rows.T.astype(drops.dtype) @ drops @ columns.astype(drops.dtype) / np.maximum(times, 1).astype(drops.dtype)


def saliency(model: Module, image: Any, target: int, samples: int = 0, noise: float = 0.15) -> Array:
    """How much each pixel would move the logit of `target`:   max over the channels of |∂logit/∂x|

    (Simonyan, Vedaldi and Zisserman 2014). With `samples`, the gradient is averaged first, over as many copies of the
    image with noise of σ = noise · (max x − min x), which leaves what the copies agree in (SmoothGrad, Smilkov et al.
    2017). Shapes: image (C, H, W) or (1, C, H, W) → (H, W).
    """
    x = _one_image("saliency", image)
    if samples:
        sigma = float(noise * (x.max() - x.min()))
        x = x + sigma * generator().standard_normal((samples, *x.shape[1:])).astype(x.dtype)
    gradients = np.concatenate([input_gradient(model, x[part], target) for part in in_one_pass(x.shape)])
    return np.abs(gradients.mean(axis=0)).max(axis=0)


def input_gradient(model: Module, images: Array, target: int) -> Array:
    """∂logit[target]/∂x of every image.  Shapes: (N, C, H, W) → the same."""
    with looking(model):
        x = Tensor(images, requires_grad=True)
        logits = model(x)
        seed = np.zeros_like(logits.data)
        seed[:, _class(target, logits.shape)] = 1
        logits.backward(seed)
    return np.zeros_like(images) if x.grad is None else x.grad


def grad_cam(model: Module, image: Any, target: int, layer: str) -> Array:
    """Where the maps A of a layer speak for `target`: each counts as much as its gradient does on average,

        α_k = 1/hw Σ_ij ∂logit/∂A_k[i, j],        heat = ReLU(Σ_k α_k A_k)        (Selvaraju et al. 2017)

    Args: layer: name of the module whose output is A, as `named_modules` has it; mostly the last with an image.
    Shapes: image (C, H, W) or (1, C, H, W) → (h, w), the layer's. Raises ValueError for a name that is not there, and
        for a layer that puts out no images.
    """
    x, wanted = _one_image("grad_cam", image), dict(model.named_modules())[check_name(model, layer)]
    outputs: list[Tensor] = []

    def keep(module: Module, inputs: tuple, output: Any) -> None:
        # With frozen parameters nothing before the layer is on the tape: it begins at this output, the only gradient.
        if module is wanted and isinstance(output, Tensor):
            output.requires_grad = True
            output.retain_grad()
            outputs.append(output)

    with looking(model), observe(keep):
        logits = model(Tensor(x))
        if not outputs or outputs[-1].ndim != 4:
            came = outputs[-1].shape if outputs else "nothing"
            raise ValueError(f"grad_cam expected {layer} to put out (1, channels, h, w), got {came}")
        logits[0, _class(target, logits.shape)].backward()
    A, dA = outputs[-1].data[0], outputs[-1].grad
    if dA is None:  # no path leads from there to the logits
        return np.zeros(A.shape[1:], A.dtype)
    alpha = dA[0].mean(axis=(1, 2))
    return np.maximum(np.tensordot(alpha, A, 1), 0)


# -- shared -----------------------------------------------------------------------------------------------------


def check_name(model: Module, name: str) -> str:
    """`name`, if the model has a module of this name; raises ValueError, naming them all, if not."""
    there = [each for each, _ in model.named_modules()]
    if name not in there:
        known = ", ".join(filter(None, there))
        raise ValueError(f"{type(model).__name__} has no module {name!r}, it has {known[:800]}")
    return name


def _one_image(who: str, image: Any) -> Array:
    """(1, C, H, W) of floating-point numbers."""
    x = image.data if isinstance(image, Tensor) else np.asarray(image)
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or len(x) != 1 or x.dtype.kind != "f":
        raise ValueError(f"{who} expected one image of shape (C, H, W) or (1, C, H, W), of floating-point numbers, "
                         f"got {x.dtype} {np.shape(image)}")  # fmt: skip
    return x


def _class(target: int, shape: tuple[int, ...]) -> int:
    """`target`, if it is one of the classes of logits of this shape."""
    if len(shape) != 2 or not 0 <= target < shape[1]:
        raise ValueError(f"expected logits (N, classes) and a target among them, got {shape} and {target}")
    return int(target)


def _probability(model: Module, images: Array, target: int) -> Array:
    logits = model(Tensor(images))
    return softmax(logits, dim=-1).data[:, _class(target, logits.shape)]


def _patches(n: int, size: int, stride: int) -> Array:
    """Which of n pixels each patch along one axis hides.  → (patches, n) of bool"""
    start = np.arange(0, n - size + 1, stride)[:, None]
    return (np.arange(n) >= start) & (np.arange(n) < start + size)
