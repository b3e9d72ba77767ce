"""The judge: one small CNN, trained once and frozen, that looks at generated images; one of digits and one of clothes.

    x (N, 1, 28, 28) ─ [Conv 3×3, BatchNorm, ReLU, pool 2×2] × 2 ─ Linear ─ ReLU ─► features (N, 64) ─ Linear ─► logits

It answers what a generated image looks like (agreement with the class that was asked for), and its 64 features are
those of the Fréchet distance. `python -m scratch.evaluation.judge [fashion_mnist]` trains it anew, on the training part
of the bundled digits or of Fashion-MNIST, and writes its file here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import ReLU
from scratch.data import Batches, load_digits, load_fashion_mnist, random_shift
from scratch.evaluation.distances import frechet_distance
from scratch.layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from scratch.losses import cross_entropy
from scratch.module import Module, Sequential
from scratch.optim import AdamW
from scratch.random import manual_seed
from scratch.schedules import cosine
from scratch.tensor import Tensor, no_grad
from scratch.weights import load_file, load_metadata, save_file

FOLDER = Path(str(resources.files("scratch.evaluation")))
DIGITS, CLOTHES = FOLDER / "judge.safetensors", FOLDER / "judge_fashion.safetensors"
WEIGHTS = {"digits": DIGITS, "mnist": DIGITS, "fashion_mnist": CLOTHES}  # the judge of each set of images
FEATURES = 64

# what a judge is trained on: its loader, steps, and pixels by which images are moved at random
TRAINED_ON: dict[str, tuple[Callable[..., Any], int, int]] = {
    "digits": (load_digits, 2000, 2),
    "fashion_mnist": (load_fashion_mnist, 8000, 1),
}


class Judge(Module):
    """Images → features → logits.  Shapes: (N, 1, 28, 28) in 0 … 1 → (N, 10)"""

    def __init__(self, width: int = 16, features: int = FEATURES):
        self.features = Sequential(
            Conv2d(1, width, 3, padding=1), BatchNorm2d(width), ReLU(), MaxPool2d(2),
            Conv2d(width, 2 * width, 3, padding=1), BatchNorm2d(2 * width), ReLU(), MaxPool2d(2),
            Flatten(), Linear(2 * width * 49, features), ReLU(),
        )  # fmt: skip
        self.head = Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def load_judge(data: str = "digits") -> Judge:
    """The frozen judge of this set of images. Raises ValueError where there is none, and for a damaged file."""
    if data not in WEIGHTS:
        raise ValueError(f"there are judges of {', '.join(WEIGHTS)}, got {data!r}")
    judge = Judge()
    judge.load_state_dict(load_file(WEIGHTS[data]))
    judge.eval()
    return judge.requires_grad_(False)  # type: ignore[return-value]


def features(images: np.ndarray, judge: Judge | None = None, batch_size: int = 500) -> np.ndarray:
    """The judge's features of images with ink 1 and paper 0.  Shapes: (N, 1, 28, 28) → (N, 64)"""
    judge = judge or load_judge()
    with no_grad():
        parts = [judge.features(Tensor(part)).data for part in _batches(images, batch_size)]
    return np.concatenate(parts)


def labels(images: np.ndarray, judge: Judge | None = None) -> np.ndarray:
    """The class that the judge sees in each image.  Shapes: (N, 1, 28, 28) → (N,)"""
    judge = judge or load_judge()
    with no_grad():
        return judge.head(Tensor(features(images, judge))).data.argmax(axis=1)


def agreement(images: np.ndarray, asked: np.ndarray, judge: Judge | None = None) -> float:
    """The share of images in which the judge sees the class that was asked for.  Shapes: (N, 1, 28, 28), (N,)"""
    return float((labels(images, judge) == asked).mean())


def figures(
    samples: np.ndarray, test: np.ndarray, train: np.ndarray, judge: Judge, asked: np.ndarray | None = None
) -> dict[str, float]:
    """The Fréchet distance of samples to test images beside that of as many training images; the share read as asked.

    asked: (N,), the classes that were asked for, if they were. Shapes: images (N, 1, 28, 28) in 0 … 1
    """
    found, real, known = (features(images, judge) for images in (samples, test, train[: len(samples)]))
    read = {} if asked is None else {"read as asked": agreement(samples, asked, judge)}
    return read | {
        "Fréchet distance": frechet_distance(found, real),
        "Fréchet distance, real": frechet_distance(known, real),
    }


def class_balance(images: np.ndarray, judge: Judge | None = None) -> tuple[np.ndarray, float]:
    """(share of each class by the judge, KL(shares ‖ uniform) in nats).  Shapes: (N, 1, 28, 28) → (10,)"""
    shares = np.bincount(labels(images, judge), minlength=10) / len(images)
    kl = float(sum(share * np.log(share * 10) for share in shares if share > 0))
    return shares, kl


def _batches(images: np.ndarray, size: int) -> list[np.ndarray]:
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
        raise ValueError(f"the judge expected images (N, 1, 28, 28) in 0 … 1, got shape {images.shape}")
    images = np.ascontiguousarray(images, np.float32)
    return [images[i : i + size] for i in range(0, len(images), size)]


def train(data: str = "digits", seed: int = 0) -> tuple[Judge, float]:
    """The judge and its test accuracy; the test images are read once."""
    rng = manual_seed(seed)
    load, steps, shift = TRAINED_ON[data]
    images = load(flat=False)
    judge = Judge()
    optimizer, schedule = AdamW(judge.parameters(), weight_decay=0.1), cosine(3e-3, steps, warmup=100)
    batches = Batches(*images.train.arrays, batch_size=100, seed=seed)
    for step in range(steps):
        x, y = next(batches)
        loss = cross_entropy(judge(Tensor(random_shift(x, shift, rng))), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
    judge.eval()
    return judge, agreement(images.test.inputs, images.test.targets, judge)


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("data", nargs="?", choices=list(TRAINED_ON), default="digits")
    data = p.parse_args().data
    judge, accuracy = train(data)
    arrays = {k: a.astype(np.float16) if a.dtype.kind == "f" else a for k, a in judge.state_dict().items()}
    card = {"model": "judge", "made by": f"python -m scratch.evaluation.judge {data}", "data": data}
    save_file(arrays, WEIGHTS[data], card | {"test accuracy": f"{accuracy:.4f}"})
    size = sum(a.nbytes for a in arrays.values())
    print(f"{WEIGHTS[data].name}: {size:,} bytes, test accuracy {100 * accuracy:.1f} %")


def card(data: str = "digits") -> dict[str, str]:
    """What the file says of itself."""
    return load_metadata(WEIGHTS[data])


if __name__ == "__main__":
    main()
