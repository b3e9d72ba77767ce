"""The judge: one small CNN, trained once on the bundled training digits and frozen, that looks at generated digits.

    x (N, 1, 28, 28) ─ [Conv 3×3, BatchNorm, ReLU, pool 2×2] × 2 ─ Linear ─ ReLU ─► features (N, 64) ─ Linear ─► logits

It answers what a generated digit looks like (agreement with the class that was asked for), and its 64 features are
those of the Fréchet distance. `python -m scratch.evaluation.judge` trains it anew and writes judge.safetensors.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from scratch.activations import ReLU
from scratch.data import Batches, load_digits, random_shift
from scratch.layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from scratch.losses import cross_entropy
from scratch.module import Module, Sequential
from scratch.optim import AdamW
from scratch.random import manual_seed
from scratch.schedules import cosine
from scratch.tensor import Tensor, no_grad
from scratch.weights import load_file, load_metadata, save_file

WEIGHTS = Path(str(resources.files("scratch.evaluation") / "judge.safetensors"))
FEATURES = 64


class Judge(Module):
    """Digits → features → logits.  Shapes: (N, 1, 28, 28) in 0 … 1 → (N, 10)"""

    def __init__(self, width: int = 16, features: int = FEATURES):
        self.features = Sequential(
            Conv2d(1, width, 3, padding=1), BatchNorm2d(width), ReLU(), MaxPool2d(2),
            Conv2d(width, 2 * width, 3, padding=1), BatchNorm2d(2 * width), ReLU(), MaxPool2d(2),
            Flatten(), Linear(2 * width * 49, features), ReLU(),
        )  # fmt: skip
        self.head = Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def load_judge(path: Path = WEIGHTS) -> Judge:
    """The frozen judge. Raises FileNotFoundError and ValueError for a missing or damaged file."""
    judge = Judge()
    judge.load_state_dict(load_file(path))
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


def train(steps: int = 2000, seed: int = 0) -> tuple[Judge, float]:
    """The judge and its test accuracy; the test digits are read once."""
    rng = manual_seed(seed)
    data = load_digits(flat=False)
    judge = Judge()
    optimizer, schedule = AdamW(judge.parameters(), weight_decay=0.1), cosine(3e-3, steps, warmup=100)
    batches = Batches(*data.train.arrays, batch_size=100, seed=seed)
    for step in range(steps):
        x, y = next(batches)
        loss = cross_entropy(judge(Tensor(random_shift(x, 2, rng))), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(step)
        optimizer.step()
    judge.eval()
    return judge, agreement(*data.test.arrays, judge)


def main() -> None:
    judge, accuracy = train()
    arrays = {k: a.astype(np.float16) if a.dtype.kind == "f" else a for k, a in judge.state_dict().items()}
    card = {"model": "judge", "made by": "python -m scratch.evaluation.judge", "data": "3,500 bundled digits"}
    save_file(arrays, WEIGHTS, card | {"test accuracy": f"{accuracy:.4f}"})
    print(f"{WEIGHTS.name}: {sum(a.nbytes for a in arrays.values()):,} bytes, test accuracy {100 * accuracy:.1f} %")


def card() -> dict[str, str]:
    """What the file says of itself."""
    return load_metadata(WEIGHTS)


if __name__ == "__main__":
    main()
