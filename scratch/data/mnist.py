"""MNIST and Fashion-MNIST in full: 70,000 grey images of 28 × 28 pixels, from files that are downloaded once."""

from __future__ import annotations

import numpy as np

from scratch.data.cache import read
from scratch.data.dataset import Dataset, Splits, hold_out
from scratch.data.digits import DIGIT_NAMES
from scratch.data.download import fetch
from scratch.data.idx import parse_idx
from scratch.data.sources import SOURCES, File, Source

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
VALIDATION = 12  # one of so many training images is held out to choose by: 5,000 of 60,000


def load_mnist(flat: bool = True, download: bool = True) -> Splits:
    """All of MNIST's digits: 55,000 to train, 5,000 to choose by, and its 10,000 test images to report once.

    What ships as `load_digits` was drawn from the same images, nobody says from which part: don't test on the one what
    was trained on the other. Shapes and errors are those of `load_fashion_mnist`.
    """
    return _load(SOURCES["mnist"], DIGIT_NAMES, flat, download)


def load_fashion_mnist(flat: bool = True, download: bool = True) -> Splits:
    """Clothes (Xiao, Rasul and Vollgraf 2017): 55,000 to train, 5,000 to choose by, 10,000 to report once.

    The published training set is split by class with seed 0, and so always in the same way; no two images of the
    70,000 are equal. Inputs are float32 in [0, 1], 0 the background: 220 MB in all. Files that are not here are
    downloaded first (31 MB), unless `download` forbids it.
    Shapes: inputs (N, 784), or (N, 1, 28, 28) with flat=False; targets int64 (N,).
    Raises FileNotFoundError, saying which file to put where, and ValueError for one that is damaged.
    """
    return _load(SOURCES["fashion_mnist"], FASHION_NAMES, flat, download)


def _load(source: Source, class_names: tuple[str, ...], flat: bool, download: bool) -> Splits:
    if download:
        fetch(source)
    images, labels, test_images, test_labels = source.files
    whole = _bytes_of(source, images, labels, class_names)
    train, validation = hold_out(whole, len(whole) // VALIDATION)
    test = _bytes_of(source, test_images, test_labels, class_names)
    del whole  # one array of bytes less while the floats are made
    return Splits(*(_as_numbers(part, flat) for part in (train, validation, test)))


def _bytes_of(source: Source, images: File, labels: File, class_names: tuple[str, ...]) -> Dataset:
    """The pixels as they are stored, uint8 (N, 28, 28), with their labels."""
    pixels = parse_idx(read(source, images), 3, f"{source.name}: {images.name}")
    targets = parse_idx(read(source, labels), 1, f"{source.name}: {labels.name}")
    if pixels.shape[1:] != (28, 28):
        raise ValueError(f"{source.name}: {images.name} must hold images of 28 x 28 pixels, got {pixels.shape}")
    return Dataset(source.name, pixels, targets.astype(np.int64), class_names)


def _as_numbers(part: Dataset, flat: bool) -> Dataset:
    shape = (784,) if flat else (1, 28, 28)
    # Divided on the way to float32: without an array of whole numbers in between.
    inputs = np.divide(part.inputs, 255, dtype=np.float32).reshape(-1, *shape)
    return Dataset(part.name, inputs, part.targets, part.class_names)
