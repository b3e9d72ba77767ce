"""5,000 real handwritten digits, 28 × 28 grey pixels: a tenth of each class, split once and for all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from scratch.data.bundled import read_bundled
from scratch.data.dataset import Dataset, Splits

DIGIT_NAMES = tuple("0123456789")


def load_digits(flat: bool = True, folder: Path | None = None) -> Splits:
    """The bundled MNIST digits: 3,500 to train (350 a class), 500 to choose by (50), 1,000 to report once (100).

    The order of the rows and the split are stored in the file; no random generator has a say. `folder` is read instead
    of the package's own files if it is given.
    Shapes: inputs float32 in [0, 1], ink is 1, (N, 784), or (N, 1, 28, 28) with flat=False; targets int64 (N,).
    Raises FileNotFoundError for a missing file and ValueError for a damaged one.
    """
    with np.load(io.BytesIO(read_bundled("digits.npz", folder)), allow_pickle=False) as file:
        images, labels, sizes = file["images"], file["labels"], file["sizes"]
    shape = (784,) if flat else (1, 28, 28)
    inputs = images.reshape(-1, *shape).astype(np.float32) / 255  # a Python number: stays float32
    whole = Dataset("digits", inputs, labels.astype(np.int64), DIGIT_NAMES)
    return Splits(*(whole.take(rows) for rows in np.split(np.arange(len(whole)), np.cumsum(sizes)[:-1])))
