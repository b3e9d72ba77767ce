"""Augmentation moves what it says, by amounts that it says."""

import numpy as np
import pytest

from scratch.data import cutout, mixup, random_flip, random_shift
from scratch.losses import cross_entropy


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
    with pytest.raises(ValueError, match=r"or \(B, C, H, W\) and pixels of at least 0, got \(2, 12\) and 1"):
        random_shift(images.reshape(2, 12), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="and -1"):
        random_shift(images, -1, np.random.default_rng(0))


def numbered(*shape):
    """No two pixels alike, none 0."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


def images_of(layout):
    """(200, 3, 5, 6), its memory in either order, and its parts as images without channels."""
    x = numbered(200, 3, 5, 6)
    return x if layout == "first" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("change", [
    lambda x, rng: random_shift(x, 2, rng), random_flip, lambda x, rng: cutout(x, 3, rng, value=-1.0),
], ids=["shift", "flip", "cutout"])  # fmt: skip
def test_all_channels_of_an_image_share_its_luck_and_the_seed_repeats_it(change, layout):
    x = images_of(layout)
    before = x.copy()
    y = change(x, np.random.default_rng(5))
    assert y.shape == x.shape and y.dtype == x.dtype and not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, before)
    for c in range(3):
        np.testing.assert_array_equal(y[:, c], change(x[:, c], np.random.default_rng(5)))
    assert (y != change(x, np.random.default_rng(6))).any()
    assert change(x[:0], np.random.default_rng(5)).shape == (0, 3, 5, 6)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_random_flip_mirrors_left_to_right_as_often_as_asked(p):
    x = numbered(2000, 2, 3)
    y = random_flip(x, np.random.default_rng(0), p)
    mirrored = (y == x[..., ::-1]).all(axis=(1, 2))
    np.testing.assert_array_equal(y[~mirrored], x[~mirrored])
    assert abs(mirrored.mean() - p) < 4 * (p * (1 - p) / 2000) ** 0.5
    assert abs((mirrored[1:] & mirrored[:-1]).mean() - p * p) < 0.05  # each image for itself


def test_random_flip_never_and_always():
    x = numbered(9, 2, 3)
    np.testing.assert_array_equal(random_flip(x, np.random.default_rng(0), 0), x)
    np.testing.assert_array_equal(random_flip(x, np.random.default_rng(0), 1), x[..., ::-1])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_takes_one_square_whose_centre_is_any_pixel(size):
    """Every way in which a square about a pixel can meet the image occurs, none other, and all alike often."""
    H, W, count = 5, 7, 7000
    cut = cutout(np.ones((count, H, W)), size, np.random.default_rng(0)) == 0
    squares = []
    for i in range(H):
        for j in range(W):
            square = np.zeros((H, W), bool)
            top, left = i - size // 2, j - size // 2
            square[max(top, 0) : top + size, max(left, 0) : left + size] = True
            squares.append(square.tobytes())
    came = [one.tobytes() for one in cut]
    assert set(came) == set(squares)
    for square in set(squares):
        share = squares.count(square) / (H * W)
        assert abs(came.count(square) / count - share) < 4.5 * (share / count) ** 0.5


def test_cutout_leaves_the_rest_and_fills_with_the_value():
    x = numbered(50, 3, 6, 6)
    y = cutout(x, 3, np.random.default_rng(0), value=-2.5)
    np.testing.assert_array_equal(y[y != -2.5], x[y != -2.5])
    assert (y == -2.5).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(cutout(x, 0, np.random.default_rng(0)), x)


def test_mixup_blends_images_and_targets_by_the_same_share():
    """Image b is filled with b, so that its blend says with whom, and by how much."""
    B = 400
    rng = np.random.default_rng(0)
    images, labels = np.eye(B, dtype=np.float32)[:, None, :], rng.integers(0, 5, B)
    mixed, q = mixup(images, labels, 5, 0.4, rng)
    shares = mixed[:, 0, :]  # (B, B): how much of each image is in each blend
    assert mixed.dtype == q.dtype == np.float32 and mixed.shape == images.shape
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert ((shares > 0).sum(axis=1) <= 2).all()
    np.testing.assert_allclose(q, shares @ np.eye(5)[labels], rtol=1e-5, atol=1e-6)
    assert np.isfinite(cross_entropy(np.zeros((B, 5), np.float32), q).item())


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixups_shares_are_betas(alpha):
    """Mean ½ and variance 1 / (4 (2α + 1)), by the image's own share; one λ for each pair."""
    B = 4000
    x = np.stack([np.zeros(B), np.ones(B)])  # what is told from 0 and 1: each blend of a 0 and a 1 gives λ or 1 − λ
    shares = []
    for seed in range(3):
        mixed, q = mixup(x.T.reshape(2 * B, 1), np.tile([0, 1], B), 2, alpha, np.random.default_rng(seed))
        unlike = (np.arange(2 * B) % 2 == 0) & (q[:, 1] > 0)  # a 0 blended with a 1
        np.testing.assert_allclose(mixed[:, 0], q[:, 1])
        shares.append(q[unlike, 0])
    share = np.concatenate(shares)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 4 * (variance / share.size) ** 0.5
    assert abs(share.var() / variance - 1) < 0.08


def test_mixup_takes_probabilities_and_alpha_0_changes_nothing():
    rng = np.random.default_rng(0)
    x, q = rng.standard_normal((6, 1, 2, 3)), rng.dirichlet(np.ones(4), 6)
    y, same = mixup(x, q, 4, 0.0, np.random.default_rng(1))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(same, q)
    _, mixed = mixup(x, q, 4, 1.0, np.random.default_rng(1))
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-12)
    assert (mixed != q).any()


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda rng: random_flip(np.ones((2, 3)), rng), r"random_flip expected \(B, H, W\) or .*, got \(2, 3\)"),
    (lambda rng: random_flip(np.ones((2, 3, 4)), rng, 1.5), "random_flip expected a probability from 0 to 1, got 1.5"),
    (lambda rng: cutout(np.ones((2, 3)), 1, rng), r"cutout expected \(B, H, W\) or \(B, C, H, W\), got \(2, 3\)"),
    (lambda rng: cutout(np.ones((2, 3, 4)), -1, rng), "cutout expected a size of at least 0, got -1"),
    (lambda rng: mixup(np.ones((2, 3), int), np.zeros(2, int), 2, 1, rng), "floating-point numbers, got dtype int64"),
    (lambda rng: mixup(np.ones((2, 3)), np.zeros(2, int), 2, -1, rng), "alpha of at least 0, got -1"),
    (lambda rng: mixup(np.ones((2, 3)), np.zeros(3, int), 2, 1, rng), r"labels of shape \(2,\) or probabilities"),
    (lambda rng: mixup(np.ones((2, 3)), np.zeros(2), 2, 1, rng), r"got float64 of shape \(2,\)"),
    (lambda rng: mixup(np.ones((2, 3)), np.array([0, 2]), 2, 1, rng), "labels from 0 to 1, got 0 to 2"),
])  # fmt: skip
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(np.random.default_rng(0))
