"""Generated shapes: masks against the geometry said in plain numbers, and images against their masks."""

import math

import numpy as np
import pytest

from scratch.data import class_counts, load_shapes
from scratch.data.shapes import BLOCK, CLASSES, Scenes, draw_scenes, paint

CIRCLE, RECTANGLE, TRIANGLE = 1, 2, 3


def scene(*shapes, background=(0.5, 0.0, 0.0)):
    """One image of shapes (kind, centre, radius, corners, grey)."""
    kinds, centres, radii, corners, greys = zip(*shapes, strict=True)
    return Scenes(
        np.array([kinds]), np.array([centres], float), np.array([radii], float), np.array([corners], float),
        np.array(greys, float).reshape(1, -1, 1), np.array(background, float).reshape(1, 3, 1),
    )  # fmt: skip


def rows(mask):
    return ["".join(".CRT"[kind] for kind in row) for row in mask]


FLAT = (0.0, 0.0, 0.0)


def test_a_circle_pixel_by_pixel():
    _, (mask,) = paint(scene((CIRCLE, (0.5, 0.5), 0.25, FLAT, 0.9)), 8)
    assert rows(mask[2:6]) == ["...CC...", "..CCCC..", "..CCCC..", "...CC..."] and not mask[[0, 1, 6, 7]].any()


def test_a_rectangle_pixel_by_pixel():
    """Corners at −θ and +θ with tan θ = ½: it is twice as wide as high, 0.5 by 0.25."""
    theta = math.atan2(1, 2)
    shape = (RECTANGLE, (0.5, 0.375), math.hypot(0.25, 0.125), (-theta, theta, 9.0), 0.9)
    _, (mask,) = paint(scene(shape), 8)
    assert rows(mask[2:4]) == ["..RRRR..", "..RRRR.."] and not mask[[0, 1, 4, 5, 6, 7]].any()


def test_a_triangle_pixel_by_pixel():
    """A right angle at the lower left (y goes down), the long side as the circle's diameter; partly outside."""
    quarter = math.pi / 2
    shape = (TRIANGLE, (0.51, 0.5), math.hypot(0.51, 0.51), (-1.5 * quarter, 0.5 * quarter, 1.5 * quarter), 0.9)
    _, (mask,) = paint(scene(shape), 4)
    assert rows(mask) == ["T...", "TT..", "TTT.", "TTTT"]


def plainly(scenes, n, size):
    """The class of each pixel of image n, by cross products with the corners and no vector."""
    mask = np.zeros((size, size), int)
    for i, j, k in np.ndindex(size, size, scenes.kinds.shape[1]):
        (cx, cy), r, angles, kind = scenes.centres[n, k], scenes.radii[n, k], scenes.corners[n, k], scenes.kinds[n, k]
        x, y = (j + 0.5) / size - cx, (i + 0.5) / size - cy
        if kind == CIRCLE and math.hypot(x, y) <= r:
            mask[i, j] = kind
        if kind in (RECTANGLE, TRIANGLE):
            turns = angles if kind == TRIANGLE else (*angles[:2], angles[0] + math.pi, angles[1] + math.pi)
            points = [(r * math.cos(t), r * math.sin(t)) for t in turns]
            edges = zip(points, [*points[1:], points[0]], strict=True)
            if all((bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0 for (ax, ay), (bx, by) in edges):
                mask[i, j] = kind
    return mask


def test_random_scenes_equal_the_geometry_said_plainly():
    scenes = draw_scenes(12, 4, 1, np.random.default_rng(0))
    _, masks = paint(scenes, 19)
    for n, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, plainly(scenes, n, 19))
    assert set(np.unique(masks)) == {0, 1, 2, 3}


def test_later_shapes_cover_earlier_ones_in_image_and_mask():
    first, second = (CIRCLE, (0.5, 0.5), 0.4, FLAT, 0.9), (RECTANGLE, (0.5, 0.5), 0.4, (0.0, 1.5, 9.0), 0.1)
    for order, kind in (((first, second), RECTANGLE), ((second, first), CIRCLE)):
        images, masks = paint(scene(*order), 9)
        assert masks[0, 4, 4] == kind
        np.testing.assert_allclose(images[0, 0, 4, 4], dict(zip((CIRCLE, RECTANGLE), (0.9, 0.1), strict=True))[kind])


def test_the_background_is_a_level_with_a_slope():
    images, masks = paint(scene((0, (0.5, 0.5), 0.4, FLAT, 0.9), background=(0.5, 0.2, -0.1)), 4)
    at = (np.arange(4) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(images[0, 0], 0.5 + 0.2 * at - 0.1 * at[:, None], rtol=1e-6)
    assert not masks.any()


def test_every_shape_differs_from_the_background_in_every_channel():
    data = load_shapes(40, noise=0, channels=3, size=24, seed=3)
    scenes = draw_scenes(40, 4, 3, np.random.default_rng(3))
    images, masks = paint(scenes, 24)
    bare = paint(Scenes(np.zeros_like(scenes.kinds), *list(vars(scenes).values())[1:]), 24)[0]
    difference = np.abs(images - bare)
    shown = np.broadcast_to((masks > 0)[:, None], images.shape)
    assert difference[shown].min() > 0.2 - 1e-6 and not difference[~shown].any()
    came = {image.tobytes() for part in data for image in part.inputs}
    assert came == {image.tobytes() for image in np.clip(images, 0, 1)}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_set_has_the_shapes_types_and_sizes_said(channels):
    data = load_shapes(50, size=20, channels=channels)
    assert [len(part) for part in data] == [35, 5, 10]
    for part in data:
        assert part.inputs.shape[1:] == (channels, 20, 20) and part.inputs.dtype == np.float32
        assert part.targets.shape[1:] == (20, 20) and part.targets.dtype == np.int64
        assert 0 <= part.inputs.min() and part.inputs.max() <= 1 and part.class_names == CLASSES
    shares = np.array(class_counts(data.train)) / data.train.targets.size
    assert shares[0] > 0.6 and shares[1:].min() > 0.02


def test_the_seed_decides_and_the_noise_is_as_large_as_said():
    one, same, other = (load_shapes(50, seed=seed, size=16) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.train.inputs, same.train.inputs)
    np.testing.assert_array_equal(one.test.targets, same.test.targets)
    assert (one.train.inputs != other.train.inputs).any()
    bare = load_shapes(50, seed=4, size=16, noise=0)
    background = {m.tobytes(): x for part in bare for x, m in zip(*part.arrays, strict=True)}
    noise = np.concatenate([
        (x - background[m.tobytes()])[0][m == 0] for part in one for x, m in zip(*part.arrays, strict=True)
    ])  # fmt: skip
    assert abs(noise.std() / 0.05 - 1) < 0.05 and abs(noise.mean()) < 0.005


def test_as_many_shapes_of_each_kind_and_number_and_blocks_change_nothing():
    n = BLOCK + 44
    scenes = draw_scenes(n, 3, 1, np.random.default_rng(0))
    numbers = (scenes.kinds > 0).sum(axis=1)
    assert np.abs(np.bincount(numbers, minlength=4)[1:] / n - 1 / 3).max() < 4 * (2 / 9 / n) ** 0.5
    drawn = scenes.kinds[scenes.kinds > 0]
    assert np.abs(np.bincount(drawn, minlength=4)[1:] / drawn.size - 1 / 3).max() < 4 * (2 / 9 / drawn.size) ** 0.5
    images, masks = paint(scenes, 8)
    last = slice(n - 5, n)
    np.testing.assert_array_equal(paint(scenes[last], 8)[0], images[last])
    np.testing.assert_array_equal(paint(scenes[last], 8)[1], masks[last])


@pytest.mark.parametrize(("wrong", "complaint"), [
    ({"count": 9}, "count to be a whole number from 10, got 9"),
    ({"size": 7}, "size to be a whole number from 8, got 7"),
    ({"shapes": 0}, "shapes to be a whole number from 1, got 0"),
    ({"channels": 2}, "1 channel .* or 3 .*, got 2"),
    ({"noise": -0.1}, "standard deviation from 0 as noise, got -0.1"),
    ({"seed": -1}, "seed"),
])  # fmt: skip
def test_refusals(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_shapes(**{"count": 20, "size": 8, **wrong})


def test_every_shape_lies_within_the_image():
    scenes = draw_scenes(500, 3, 1, np.random.default_rng(0))
    for axis in (0, 1):
        assert (scenes.centres[..., axis] - scenes.radii > -1e-12).all()
        assert (scenes.centres[..., axis] + scenes.radii < 1 + 1e-12).all()
    assert scenes.centres.min() < 0.2 and scenes.centres.max() > 0.8  # up to the border
