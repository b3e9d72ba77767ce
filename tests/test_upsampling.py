"""Upsampling: plain loops as twins, known pictures, the order in memory, gradients, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.layers import Upsample, interpolate, pixel_shuffle, pixel_unshuffle, upsampling


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def every_second(x: np.ndarray) -> np.ndarray:
    wide = np.full(tuple(2 * n for n in x.shape), 99, x.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


ARRANGEMENTS = [np.ascontiguousarray, channels_last, every_second, np.asfortranarray]
MODES = [{"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}]
GRIDS = [
    {"scale_factor": 2},
    {"scale_factor": (3, 1)},
    {"scale_factor": 1.5},
    {"scale_factor": (0.5, 2.5)},
    {"size": (3, 9)},
    {"size": 1},
]


def forward_and_backward(function, x, dy):
    x = Tensor(x, requires_grad=True)
    y = function(x)
    y.backward(dy)
    return y.data, x.grad


# -- the readable form: one point after the other ----------------------------------------------------------------


def interpolate_plainly(x, dy, mode, align_corners=False, size=None, scale_factor=None):
    N, C, H, W = x.shape
    scales = np.broadcast_to(scale_factor, 2) if size is None else np.broadcast_to(size, 2) / (H, W)
    out = [math.floor(n * s) for n, s in zip((H, W), scales, strict=True)] if size is None else np.broadcast_to(size, 2)

    def parts(o, n, m, scale):
        """(pixel, weight) of the pixels along one axis that point o is made of."""
        if mode == "nearest":
            return [(min(math.floor(o / scale), n - 1), 1.0)]
        place = (o * (n - 1) / (m - 1) if m > 1 else 0) if align_corners else max((o + 0.5) / scale - 0.5, 0)
        before = min(math.floor(place), n - 1)
        share = min(place - before, 1) if before < n - 1 else 0
        return [(before, 1 - share), (min(before + 1, n - 1), share)]

    y, dx = np.zeros((N, C, *out)), np.zeros_like(x)
    for i, j in np.ndindex(*out):
        for h, a in parts(i, H, out[0], scales[0]):
            for w, b in parts(j, W, out[1], scales[1]):
                y[:, :, i, j] += a * b * x[:, :, h, w]
                dx[:, :, h, w] += a * b * dy[:, :, i, j]
    return y, dx


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_equals_the_readable_form(mode, grid, arrange, rng):
    x = rng.standard_normal((2, 3, 6, 5))
    dy = rng.standard_normal(interpolate(x, **grid, **mode).shape)
    y, dx = forward_and_backward(lambda x: interpolate(x, **grid, **mode), arrange(x), arrange(dy))
    expected_y, expected_dx = interpolate_plainly(x, dy, **mode, **grid)
    np.testing.assert_allclose(y, expected_y, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-14)


def test_nearest_repeats_pixels():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])[None, None]
    y, dx = forward_and_backward(lambda x: interpolate(x, scale_factor=2), x, np.arange(16.0).reshape(1, 1, 4, 4))
    np.testing.assert_array_equal(y[0, 0], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    np.testing.assert_array_equal(dx[0, 0], [[10, 18], [42, 50]])


def test_straight_lines_meet_at_edges_or_at_corners():
    x = np.array([0.0, 3.0]).reshape(1, 1, 1, 2)
    edges = interpolate(x, size=(1, 4), mode="bilinear")
    corners = interpolate(x, size=(1, 4), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(edges.data[0, 0, 0], [0, 0.75, 2.25, 3])
    np.testing.assert_allclose(corners.data[0, 0, 0], [0, 1, 2, 3])
    ends = interpolate(np.array([1.0, 5, 9, 4]).reshape(1, 1, 2, 2), size=(1, 2), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(ends.data[0, 0], [[1, 5]])
    ends = interpolate(np.array([1.0, 5, 9]).reshape(1, 1, 3, 1), size=(2, 1), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(ends.data[0, 0], [[1], [9]])


def test_a_factor_that_only_rounds_to_a_whole_one_does_not_repeat_evenly():
    """3.25 · 2 pixels are 6, of which the first takes 4: ⌊3 / 3.25⌋ = 0."""
    x = np.array([[1.0, 2.0]])[None, None]
    y = interpolate(x, scale_factor=(1, 3.25))
    np.testing.assert_array_equal(y.data[0, 0, 0], [1, 1, 1, 1, 2, 2])


def test_a_point_that_rounding_puts_behind_the_last_pixel_reads_it():
    """Of more than 10⁷ points in float32; here of points that lie there for certain."""
    assert upsampling._nearest_sources(3, 6, 1.0).tolist() == [0, 1, 2, 2, 2, 2]


def test_whole_factors_repeat_pixels_without_a_table(monkeypatch, rng):
    monkeypatch.setattr(upsampling, "_nearest", None)
    grids = {(12, 10): {"scale_factor": 2}, (18, 5): {"scale_factor": (3, 1)}, (36, 5): {"size": (36, 5)}}
    for shape, grid in grids.items():
        x = rng.standard_normal((1, 2, 6, 5))
        expected = np.repeat(np.repeat(x, shape[0] // 6, axis=2), shape[1] // 5, axis=3)
        np.testing.assert_array_equal(interpolate(x, **grid).data, expected)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_constant_image_stays_constant(grid, align_corners):
    y = interpolate(np.full((1, 2, 6, 5), 7.0), mode="bilinear", align_corners=align_corners, **grid)
    np.testing.assert_allclose(y.data, 7, rtol=1e-14)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_the_same_size_is_the_same_image(mode, rng):
    x = rng.standard_normal((2, 3, 6, 5))
    for grid in ({"size": (6, 5)}, {"scale_factor": 1}, {"scale_factor": 1.1}):
        np.testing.assert_array_equal(interpolate(x, mode=mode, **grid).data, x)


# -- channels for pixels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 2, 3])
def test_pixel_shuffle_is_its_definition_and_unshuffle_undoes_it(r, rng):
    x = rng.standard_normal((2, 2 * r * r, 3, 4))
    y = pixel_shuffle(channels_last(x), r).data
    assert y.shape == (2, 2, 3 * r, 4 * r)
    for c, h, w, i, j in np.ndindex(2, 3, 4, r, r):
        np.testing.assert_array_equal(y[:, c, h * r + i, w * r + j], x[:, c * r * r + i * r + j, h, w])
    np.testing.assert_array_equal(pixel_unshuffle(y, r).data, x)


# -- gradients, memory, dtype ------------------------------------------------------------------------------------


FUNCTIONS = [
    *(lambda x, grid=grid: interpolate(x, **grid) for grid in GRIDS),
    *(lambda x, grid=grid: interpolate(x, mode="bilinear", **grid) for grid in GRIDS),
    lambda x: interpolate(x, size=(7, 3), mode="bilinear", align_corners=True),
    lambda x: pixel_shuffle(x, 2),
    lambda x: pixel_unshuffle(x, 2),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_equal_finite_differences(function, rng):
    gradcheck(function, [rng.standard_normal((2, 4, 6, 2))])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_dtype_and_order_in_memory_are_kept(function, dtype, rng):
    x = Tensor(channels_last(rng.standard_normal((2, 4, 6, 2)).astype(dtype)), requires_grad=True)
    y = function(x)
    assert y.dtype == dtype and last(y.data)
    (dx,) = y._backward(channels_last(rng.standard_normal(y.shape).astype(dtype)))
    assert dx.dtype == dtype and dx.shape == x.shape and last(dx)
    (dx,) = y._backward(rng.standard_normal(y.shape).astype(dtype))  # as it comes back from Flatten
    assert last(dx)
    assert function(np.ascontiguousarray(x.data)).data.flags.c_contiguous


def last(x: np.ndarray) -> bool:
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_empty_batch_stays_empty(function):
    shape = function(np.zeros((1, 4, 6, 2))).shape[1:]
    y, dx = forward_and_backward(function, np.zeros((0, 4, 6, 2)), np.zeros((0, *shape)))
    assert y.shape == (0, *shape) and dx.shape == (0, 4, 6, 2)


def test_the_result_shares_no_memory_with_the_input(rng):
    x = rng.standard_normal((1, 4, 6, 2))
    for options in ({"scale_factor": 1}, {"size": (6, 2)}, {"scale_factor": 1, "mode": "bilinear"}):
        assert not np.shares_memory(interpolate(x, **options).data, x)
    assert not np.shares_memory(pixel_shuffle(x, 1).data, x)


# -- what is refused ---------------------------------------------------------------------------------------------


IMAGE = np.zeros((2, 3, 6, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interpolate(IMAGE[0], 2), r"interpolate expected shape \(N, C, H, W\) .* got \(3, 6, 5\)"),
        (lambda: Upsample(2)(IMAGE[0]), r"Upsample expected shape \(N, C, H, W\)"),
        (lambda: interpolate(IMAGE, 2, 2), "interpolate expected either size or scale_factor, got 2 and 2"),
        (lambda: interpolate(IMAGE), "interpolate expected either size or scale_factor, got None and None"),
        (lambda: Upsample()(IMAGE), "Upsample expected either size or scale_factor"),
        (lambda: interpolate(IMAGE, 0), "interpolate expected size as one or two numbers above 0, for H and W, got 0"),
        (lambda: interpolate(IMAGE, 2.5), "expected size as one or two numbers"),
        (lambda: interpolate(IMAGE, (1, 2, 3)), "expected size as one or two numbers"),
        (lambda: interpolate(IMAGE, scale_factor=-1), "expected scale_factor as one or two numbers above 0"),
        (lambda: interpolate(IMAGE, scale_factor=math.nan), "expected scale_factor as one or two numbers above 0"),
        (lambda: interpolate(IMAGE, scale_factor=0.1), "expected at least one pixel each way, got scale_factor 0.1"),
        (lambda: interpolate(IMAGE, 2, mode="cubic"), "expected mode 'nearest' or 'bilinear', got 'cubic'"),
        (lambda: Upsample(2, mode="linear"), "Upsample expected mode 'nearest' or 'bilinear', got 'linear'"),
        (lambda: interpolate(IMAGE, 2, align_corners=False), "align_corners with mode 'bilinear' only"),
        (lambda: interpolate(IMAGE.astype(int), 2), "expected a floating-point input, got dtype int64"),
        (lambda: pixel_shuffle(IMAGE, 2), r"PixelShuffle expected a multiple of 2² channels in \(N, C, H, W\)"),
        (lambda: pixel_shuffle(IMAGE, 0), "PixelShuffle expected upscale_factor to be a whole number of at least 1"),
        (lambda: pixel_unshuffle(IMAGE, 2), r"PixelUnshuffle expected H and W divisible by 2 in \(N, C, H, W\)"),
        (lambda: pixel_unshuffle(IMAGE, 1.5), "PixelUnshuffle expected downscale_factor to be a whole number"),
    ],
)
def test_a_wrong_call_says_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_upsample_shows_what_it_was_given():
    assert repr(Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"
