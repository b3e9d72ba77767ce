"""Augmentation moves what it says, by amounts that it says."""

import numpy as np
import pytest

from scratch.data import random_shift


def test_random_shift_moves_each_image_by_its_own_offset():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((200, 5, 6)).astype(np.float32)
    moved = random_shift(images, 2, rng)
    assert moved.dtype == np.float32
    offsets = set()
    for before, after in zip(images, moved, strict=True):
        around = np.pad(before, 2)
        found = [(u, v) for u in range(5) for v in range(5) if np.array_equal(around[u : u + 5, v : v + 6], after)]
        assert len(found) == 1
        offsets.update(found)
    assert len(offsets) == 25


def test_random_shift_by_nothing_and_its_errors():
    images = np.ones((2, 3, 4))
    assert np.array_equal(random_shift(images, 0, np.random.default_rng(0)), images)
    with pytest.raises(ValueError, match=r"expected \(B, H, W\) and pixels of at least 0, got \(2, 12\) and 1"):
        random_shift(images.reshape(2, 12), 1, np.random.default_rng(0))
