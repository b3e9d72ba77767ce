"""Pooling: the readable form as a twin, ties, the order in memory, gradients, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from scratch import Tensor, gradcheck
from scratch.layers import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    MaxPool2d,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from scratch.layers.pooling import average
from scratch.layers.pooling import windows as geometry


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def every_second(x: np.ndarray) -> np.ndarray:
    wide = np.full(tuple(2 * n for n in x.shape), 99, x.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def backwards(x: np.ndarray) -> np.ndarray:
    return x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1]


ARRANGEMENTS = [np.ascontiguousarray, channels_last, every_second, np.asfortranarray, backwards]


def forward_and_backward(function, x, dy):
    x = Tensor(x, requires_grad=True)
    y = function(x)
    y.backward(dy)
    return y.data, x.grad


# -- the readable form: all windows as one view, then their largest or their mean --------------------------------


def pool_plainly(kind, x, dy, k, stride, padding, dilation=(1, 1)):
    """Values and gradient of max (first in reading order) or average pooling, window by window."""
    (ph, pw), (sh, sw), (dh, dw) = padding, stride, dilation
    fill = -np.inf if kind == "max" else 0.0
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    reach = (dh * (k[0] - 1) + 1, dw * (k[1] - 1) + 1)
    windows = sliding_window_view(padded, reach, axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    flat = windows.reshape(*windows.shape[:4], -1)
    dx = np.zeros_like(padded)
    for n, c, i, j in np.ndindex(flat.shape[:4]):
        if kind == "max":
            a, b = divmod(int(flat[n, c, i, j].argmax()), k[1])
            dx[n, c, i * sh + a * dh, j * sw + b * dw] += dy[n, c, i, j]
        else:
            dx[n, c, i * sh : i * sh + k[0], j * sw : j * sw + k[1]] += dy[n, c, i, j] / flat.shape[-1]
    y = flat.max(axis=-1) if kind == "max" else flat.mean(axis=-1)
    H, W = x.shape[2:]
    return y, dx[:, :, ph : ph + H, pw : pw + W]


GEOMETRIES = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 2), (1, 3), (1, 0)),
    ((2, 3), (3, 1), (0, 1)),
    ((4, 3), (2, 2), (2, 1)),
    ((1, 1), (1, 1), (0, 0)),
]


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize(("k", "stride", "padding"), GEOMETRIES)
def test_equals_the_readable_form(k, stride, padding, arrange, rng):
    x = rng.integers(-2, 3, (2, 3, 8, 7)).astype(float)  # few values, many ties
    for kind, function in (("max", max_pool2d), ("average", avg_pool2d)):
        shape = function(x, k, stride, padding).shape
        dy = rng.standard_normal(shape)
        y, dx = forward_and_backward(lambda x, f=function: f(x, k, stride, padding), arrange(x), arrange(dy))
        expected_y, expected_dx = pool_plainly(kind, x, dy, k, stride, padding)
        np.testing.assert_allclose(y, expected_y, rtol=1e-13)
        np.testing.assert_allclose(dx, expected_dx, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dilation", [(2, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize(("k", "stride"), [((3, 2), (2, 1)), ((2, 2), (2, 2)), ((2, 3), (4, 3))])
def test_dilated_windows_equal_the_readable_form(k, stride, dilation, rng):
    """Also windows that lie in one another's gaps, though the stride is the kernel's size."""
    x = rng.integers(-2, 3, (2, 3, 9, 8)).astype(float)
    dy = rng.standard_normal(max_pool2d(x, k, stride, 1, dilation).shape)
    y, dx = forward_and_backward(lambda x: max_pool2d(x, k, stride, 1, dilation), channels_last(x), dy)
    expected_y, expected_dx = pool_plainly("max", x, dy, k, stride, (1, 1), dilation)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-13)


def test_padding_may_be_half_of_what_a_dilated_kernel_spans(rng):
    x = rng.standard_normal((2, 3, 5, 6))
    dy = rng.standard_normal((2, 3, 6, 7))
    y, dx = forward_and_backward(lambda x: max_pool2d(x, 2, 1, 2, 3), x, dy)
    expected_y, expected_dx = pool_plainly("max", x, dy, (2, 2), (1, 1), (2, 2), (3, 3))
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-13)


def test_sizes_may_be_given_once_for_all_axes_and_no_stride_is_the_kernels(rng):
    x = rng.standard_normal((2, 3, 6, 7))
    expected = max_pool2d(x, 3, 3).data
    for kernel, stride in (((3,), None), ([3, 3], ()), (np.int64(3), []), ((3, 3), [3])):
        np.testing.assert_array_equal(max_pool2d(x, kernel, stride).data, expected)
    np.testing.assert_array_equal(adaptive_max_pool2d(x, [2]).data, adaptive_max_pool2d(x, (2, 2)).data)
    for whole in (None, (None,), (None, None), (6, 7)):
        np.testing.assert_array_equal(adaptive_avg_pool2d(x, whole).data, x)


@pytest.mark.parametrize(("n", "out"), [(7, 3), (6, 4), (3, 7), (2, 9), (5, 5), (8, 2), (5, 1)])
def test_adaptive_windows_equal_their_definition(n, out, rng):
    """Window o of H' reads from ⌊o H / H'⌋ up to ⌈(o + 1) H / H'⌉, with exact ties in the maximum."""
    x = rng.integers(-1, 2, (2, 3, n, 4)).astype(float)
    dy = rng.standard_normal((2, 3, out, 4))
    mean, dmean = forward_and_backward(lambda x: adaptive_avg_pool2d(x, (out, None)), channels_last(x), dy)
    largest, dlargest = forward_and_backward(lambda x: adaptive_max_pool2d(x, (out, None)), x, dy)
    expected_mean, expected_largest = np.zeros_like(x), np.zeros_like(x)
    for o in range(out):
        rows = slice(int(np.floor(o * n / out)), int(np.ceil((o + 1) * n / out)))
        part = x[:, :, rows]
        np.testing.assert_allclose(mean[:, :, o], part.mean(axis=2), rtol=1e-13, atol=1e-14)
        np.testing.assert_array_equal(largest[:, :, o], part.max(axis=2))
        expected_mean[:, :, rows] += dy[:, :, o : o + 1] / part.shape[2]
        first = np.arange(part.shape[2])[:, None] == part.argmax(axis=2)[:, :, None]
        expected_largest[:, :, rows] += first * dy[:, :, o : o + 1]
    np.testing.assert_allclose(dmean, expected_mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dlargest, expected_largest, rtol=1e-12, atol=1e-14)


# -- where windows lie ---------------------------------------------------------------------------------------------


def met(windows):
    """Which window finds which element, step by step."""
    return [
        list(zip(np.arange(windows.out)[outputs].tolist(), np.arange(windows.n)[inputs].tolist(), strict=True))
        for outputs, inputs in windows.steps
    ]


def test_sliding_windows_are_their_definition():
    numbers, flags = range(1, 5), (False, True)
    cases = itertools.product(range(1, 7), numbers, numbers, range(3), (1, 2), flags, flags)
    for n, k, stride, padding, dilation, ceil, count_padding in cases:
        reach = dilation * (k - 1) + 1
        if 2 * padding > k or reach > n + 2 * padding:
            continue
        came = geometry.sliding(n, k, stride, padding, dilation, ceil, count_padding)
        padded = n + 2 * padding
        fits = [s + reach <= padded or ceil and s - stride + reach < padded for s in range(0, n + padding, stride)]
        starts = [o * stride for o, fit in enumerate(fits) if fit]
        assert came.out == len(starts)
        pairs = [[(o, s + t * dilation - padding) for o, s in enumerate(starts)] for t in range(k)]
        steps = [[(o, i) for o, i in step if 0 <= i < n] for step in pairs]
        assert met(came) == [step for step in steps if step]
        least, most = (0, padded) if count_padding else (padding, n + padding)
        if dilation == 1:
            assert came.counts.tolist() == [min(s + k, most) - max(s, least) for s in starts]
        read = [i for step in steps for _, i in step]
        apart = len(set(read)) == len(read)
        assert apart or not came.apart
        assert not came.tiled or apart and len(read) == n
        if dilation == 1 and padding == 0:
            assert came.apart == apart
            assert came.tiled == (stride == k and n == len(starts) * k)


def test_adaptive_windows_read_every_element_of_theirs_and_none_twice_in_a_step():
    for n, out in itertools.product(range(1, 9), range(9)):
        came = geometry.adaptive(n, out)
        for step in met(came):
            assert len({i for _, i in step}) == len(step) > 0
        pairs = sorted(pair for step in met(came) for pair in step)
        bounds = [(o * n // out, -(-(o + 1) * n // out)) for o in range(out)]
        assert pairs == [(o, i) for o, (start, end) in enumerate(bounds) for i in range(start, end)]
        assert came.counts.tolist() == [end - start for start, end in bounds]
        starts = [start for start, _ in bounds]
        turns = max([starts.count(start) for start in starts], default=0)  # windows that begin at one element
        assert len(came.steps) <= turns * max([end - start for start, end in bounds], default=0)
        assert came.tiled is came.apart is (out > 0 and n % out == 0)


def test_pixels_of_few_bytes_are_copied_as_a_whole(monkeypatch):
    x = np.arange(2 * 33 * 3 * 4, dtype=np.float32).reshape(2, 33, 3, 4)
    last = channels_last(x[:, :32])
    pixels = geometry._pixels(last)
    assert pixels.shape == (2, 3, 4) and pixels.itemsize == 128 and np.shares_memory(pixels, last)
    for other in (x[:, :32], channels_last(x), last[:, ::2], x[0], x[None]):
        assert geometry._pixels(other) is None
    for axis, inputs, copied in ((-1, slice(1, 4, 2), True), (-1, np.array([2, 0, 0]), True), (-2, slice(1, 3), False)):
        part = geometry.read(last, axis, inputs)
        assert np.shares_memory(part, last) is not copied
        np.testing.assert_array_equal(part, last[geometry.at(axis, inputs)])
    asked, look = [], geometry._pixels
    monkeypatch.setattr(geometry, "_pixels", lambda a: asked.append(a) or look(a))
    for axis in (-1, -2):
        geometry.write(last, axis, slice(1, 2), last[geometry.at(axis, slice(0, 1))].copy("K"))
        assert len(asked) == 2


# -- max: who wins -----------------------------------------------------------------------------------------------


def test_of_several_largest_the_first_in_reading_order_takes_the_gradient():
    x = np.array([[0.0, 5.0, 5.0], [5.0, 5.0, 1.0], [5.0, 0.0, 5.0]])[None, None]
    dy = np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    _, dx = forward_and_backward(lambda x: max_pool2d(x, 2, 1), x, dy)
    np.testing.assert_array_equal(dx[0, 0], [[0, 11, 0], [100, 1000, 0], [0, 0, 0]])


def test_the_first_row_goes_before_the_first_column():
    x = np.array([[0.0, 7.0], [7.0, 0.0]])[None, None]
    _, dx = forward_and_backward(lambda x: max_pool2d(x, 2), x, np.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(dx[0, 0], [[0, 1], [0, 0]])


def test_padding_never_wins_over_negative_numbers(rng):
    x = -1 - rng.random((1, 2, 4, 5))
    y = max_pool2d(x, 3, 2, 1)
    assert (y.data < -1).all() and y.shape == (1, 2, 2, 3)


def test_minus_infinity_wins_where_there_is_nothing_else():
    x = np.full((1, 1, 4, 4), -np.inf)
    y, dx = forward_and_backward(lambda x: max_pool2d(x, 3, 2, 1), x, np.full((1, 1, 2, 2), 3.0))
    assert (y == -np.inf).all()
    assert dx.sum() == 12 and dx[0, 0, 0, 0] == 3


def test_a_nan_is_passed_on_and_stays_in_its_windows(rng):
    x = rng.standard_normal((1, 1, 4, 6))
    x[0, 0, 1, 4] = np.nan
    y, places = max_pool2d(x, 2, return_indices=True)
    assert np.isnan(y.data[0, 0]).tolist() == [[False, False, True], [False, False, False]]
    assert places[0, 0, 0, 2] == 1 * 6 + 4


@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"padding": 1, "dilation": 2}, {"ceil_mode": True}])
def test_indices_name_the_winners(options, rng):
    x = rng.integers(-2, 3, (2, 3, 7, 5)).astype(np.float32)
    y, places = max_pool2d(channels_last(x), 3, return_indices=True, **options)
    assert places.dtype == np.int64 and places.shape == y.shape
    named = np.take_along_axis(x.reshape(2, 3, 35), places.reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(named, y.data.reshape(2, 3, -1))
    module = MaxPool2d(3, return_indices=True, **options)
    np.testing.assert_array_equal(module(x)[1], places)


def test_a_window_of_padding_alone_gives_minus_infinity_and_takes_no_gradient():
    """Dilation can step over an image of one row; PyTorch then writes outside of its memory."""
    y, dx = forward_and_backward(
        lambda x: max_pool2d(x, (2, 1), 1, (1, 0), (2, 1)), np.array([[[[2.0, 3.0]]]]), np.ones((1, 1, 1, 2))
    )
    assert (y == -np.inf).all() and not dx.any()
    _, places = max_pool2d(np.array([[[[2.0, 3.0]]]]), (2, 1), 1, (1, 0), (2, 1), return_indices=True)
    assert places.tolist() == [[[[0, 1]]]]  # inside of the image all the same


# -- ceil mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "stride", "padding", "floor", "ceil"),
    [
        (7, 2, 2, 0, 3, 4),
        (6, 2, 2, 0, 3, 3),
        (6, 3, 2, 0, 2, 3),
        (5, 2, 2, 1, 3, 3),  # ⌈·⌉ gives 4, whose window would start at 5, in the padding
        (4, 2, 3, 1, 2, 2),  # ⌈·⌉ gives 3, whose window would start at 5
        (5, 2, 3, 0, 2, 2),
        (3, 1, 3, 0, 1, 1),  # ⌈·⌉ gives 2, whose window would start at 3, outside
    ],
)
def test_the_last_window_of_ceil_mode_starts_inside(n, k, stride, padding, floor, ceil, rng):
    x = rng.standard_normal((2, 3, n))
    assert max_pool1d(x, k, stride, padding).shape == avg_pool1d(x, k, stride, padding).shape == (2, 3, floor)
    assert max_pool1d(x, k, stride, padding, ceil_mode=True).shape == (2, 3, ceil)
    assert avg_pool1d(x, k, stride, padding, ceil_mode=True).shape == (2, 3, ceil)


def test_what_hangs_over_the_edge_counts_for_the_mean_only_as_far_as_the_padding_goes():
    x = np.ones((1, 1, 6))
    np.testing.assert_allclose(avg_pool1d(x, 3, 2, 1, True).data[0, 0], [2 / 3, 1, 1, 1 / 2])
    np.testing.assert_allclose(avg_pool1d(x, 3, 2, 1, True, False).data[0, 0], [1, 1, 1, 1])
    np.testing.assert_allclose(avg_pool1d(x, 4, 4, 0, True).data[0, 0], [1, 1])


# -- gradients, memory, dtype ------------------------------------------------------------------------------------


POOLS = [
    lambda x: max_pool2d(x, 2),
    lambda x: max_pool2d(x, 3, 2, 1, ceil_mode=True),
    lambda x: max_pool2d(x, 2, 1, 1, 2),
    lambda x: max_pool2d(x, 2, 3, 1),  # gaps between the windows, and padding
    lambda x: avg_pool2d(x, 2),
    lambda x: avg_pool2d(x, 2, 3, 1),
    lambda x: avg_pool2d(x, 3, 2, 1, True, False),
    lambda x: avg_pool2d(x, (2, 3), (3, 1), divisor_override=-4),
    lambda x: adaptive_avg_pool2d(x, 1),
    lambda x: adaptive_avg_pool2d(x, (3, 7)),
    lambda x: adaptive_max_pool2d(x, (4, 2)),
    lambda x: adaptive_max_pool2d(x, (None, 9)),
]


@pytest.mark.parametrize("function", POOLS)
def test_gradients_equal_finite_differences(function, rng):
    gradcheck(function, [rng.standard_normal((2, 3, 7, 5))])
    gradcheck(function, [rng.standard_normal((3, 6, 4))])  # without a batch


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("function", POOLS)
def test_dtype_and_order_in_memory_are_kept(function, dtype, rng):
    x = Tensor(channels_last(rng.standard_normal((2, 3, 7, 5)).astype(dtype)), requires_grad=True)
    y = function(x)
    assert y.dtype == dtype and last(y.data)
    dy = channels_last(rng.standard_normal(y.shape).astype(dtype))
    if dtype == np.float16:  # two operations where it is computed in float32
        y.backward(dy)
        assert x.grad.dtype == dtype and x.grad.shape == x.shape
    else:
        (dx,) = y._backward(dy)
        assert dx.dtype == dtype and dx.shape == x.shape and last(dx)
        (dx,) = y._backward(rng.standard_normal(y.shape).astype(dtype))  # as it comes back from Flatten
        assert last(dx)
    assert function(np.ascontiguousarray(x.data)).data.flags.c_contiguous


def last(x: np.ndarray) -> bool:
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


def test_a_large_batch_worked_on_in_blocks_gives_what_its_images_give(monkeypatch, rng):
    x = rng.integers(-2, 3, (7, 3, 6, 5)).astype(float)
    dy = rng.standard_normal((7, 3, 3, 2))
    y, dx = forward_and_backward(lambda x: max_pool2d(x, 3, 2, (1, 0)), x, dy)
    for images in (1, 2, 3):
        monkeypatch.setattr(geometry, "BLOCK", images * x.nbytes // len(x))
        assert len(geometry.blocks(x)) == -(-7 // images)
        again_y, again_dx = forward_and_backward(lambda x: max_pool2d(x, 3, 2, (1, 0)), x, dy)
        np.testing.assert_array_equal(again_y, y)
        np.testing.assert_array_equal(again_dx, dx)


@pytest.mark.parametrize("function", POOLS)
def test_pixels_copied_as_a_whole_and_number_by_number_give_the_same(function, rng):
    """Channels last: 31 float32 a pixel are copied as one element of 124 bytes, 33 are too many."""
    x = rng.integers(-2, 3, (2, 33, 7, 6)).astype(np.float32)
    dy = rng.standard_normal(function(x).shape).astype(np.float32)
    y, dx = forward_and_backward(function, x, dy)
    for channels in (1, 31, 33):
        again_y, again_dx = forward_and_backward(
            function, channels_last(x[:, :channels]), channels_last(dy[:, :channels])
        )
        np.testing.assert_allclose(again_y, y[:, :channels], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(again_dx, dx[:, :channels], rtol=1e-6, atol=1e-6)


def test_an_empty_batch_stays_empty():
    for function in POOLS:
        y, dx = forward_and_backward(function, np.zeros((0, 3, 7, 5)), np.zeros(function(np.zeros((0, 3, 7, 5))).shape))
        assert y.shape[:2] == (0, 3) and dx.shape == (0, 3, 7, 5)


def test_windows_of_one_size_share_one_number():
    windows = [geometry.sliding(6, 2, 2), geometry.sliding(9, 3, 3)]
    share = average._shares(windows, None, np.float32)
    assert share.shape == () and share == np.float32(1 / 6)
    assert average._shares([geometry.sliding(6, 3, 2, 1, count_padding=False)], None, np.float64).shape == (3,)


def test_no_windows_give_no_values(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    for size in ((0, 2), (2, 0), 0):
        for function in (adaptive_avg_pool2d, adaptive_max_pool2d):
            shape = (2, 3, *np.broadcast_to(size, 2))
            y, dx = forward_and_backward(lambda x, f=function, s=size: f(x, s), x, np.zeros(shape))
            assert y.shape == shape and not dx.any()


@pytest.mark.parametrize(("k", "stride", "padding"), [(4, None, 0), (3, None, 0), (3, 5, 1), (4, 6, 1)])
@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 4, 4)])
def test_one_window_need_not_be_the_whole_image(shape, k, stride, padding, rng):
    x, dy = rng.standard_normal(shape), rng.standard_normal((*shape[:2], 1, 1))
    y, dx = forward_and_backward(lambda x: avg_pool2d(x, k, stride, padding), x, dy)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    np.testing.assert_allclose(y, padded[..., :k, :k].mean(axis=(2, 3), keepdims=True), rtol=1e-13)
    expected = np.zeros(shape)
    expected[..., : k - padding, : k - padding] = dy / k**2
    np.testing.assert_allclose(dx, expected, rtol=1e-13)


def test_the_gradient_of_the_mean_is_shared_out_in_full(rng):
    """Every window that lies inside gives away exactly dy."""
    for k, stride in itertools.product((1, 2, 3), (1, 2, 3)):
        x = rng.standard_normal((2, 3, 9, 9))
        dy = rng.standard_normal(avg_pool2d(x, k, stride).shape)
        _, dx = forward_and_backward(lambda x, k=k, s=stride: avg_pool2d(x, k, s), x, dy)
        np.testing.assert_allclose(dx.sum((2, 3)), dy.sum((2, 3)), rtol=1e-12)


# -- what is refused ---------------------------------------------------------------------------------------------


IMAGE = np.zeros((2, 3, 6, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: max_pool2d(IMAGE[0, 0], 2), r"MaxPool2d expected shape \(N, C, H, W\) or \(C, H, W\), got \(6, 5\)"),
        (lambda: avg_pool2d(IMAGE[None], 2), r"AvgPool2d expected shape \(N, C, H, W\)"),
        (lambda: adaptive_avg_pool2d(IMAGE[0, 0], 1), r"AdaptiveAvgPool2d expected shape \(N, C, H, W\)"),
        (lambda: adaptive_max_pool2d(IMAGE[0, 0], 1), r"AdaptiveMaxPool2d expected shape \(N, C, H, W\)"),
        (lambda: max_pool1d(IMAGE, 2), r"MaxPool1d expected shape \(N, C, L\)"),
        (lambda: max_pool2d(IMAGE[:, :, :0], 2), r"no axis of length 0 but N, got \(2, 3, 0, 5\)"),
        (lambda: max_pool2d(IMAGE.astype(int), 2), "MaxPool2d expected a floating-point input, got dtype int64"),
        (lambda: max_pool2d(IMAGE, 7), r"kernel_size 7, dilation 1 and padding 0 leave no window in shape \(2, 3"),
        (lambda: max_pool2d(IMAGE, 3, dilation=3), "dilation 3 and padding 0 leave no window"),
        (lambda: avg_pool2d(IMAGE, (1, 6)), r"AvgPool2d expected a kernel that fits into the padded input"),
        (lambda: max_pool2d(IMAGE, 3, 2, 2), "MaxPool2d expected padding of at most half the kernel 3, got 2"),
        (lambda: avg_pool2d(IMAGE, (4, 2), 2, (1, 2)), r"at most half the kernel \(4, 2\), got \(1, 2\)"),
        (lambda: max_pool2d(IMAGE, 0), "MaxPool2d: kernel_size expected one or 2 whole numbers of at least 1, got 0"),
        (lambda: max_pool2d(IMAGE, 2.0), "kernel_size expected one or 2 whole numbers"),
        (lambda: max_pool2d(IMAGE, (2, 2, 2)), "kernel_size expected one or 2 whole numbers"),
        (lambda: max_pool2d(IMAGE, 2, 0), "stride expected one or 2 whole numbers of at least 1, got 0"),
        (lambda: max_pool2d(IMAGE, 2, 1, -1), "padding expected one or 2 whole numbers of at least 0, got -1"),
        (lambda: max_pool2d(IMAGE, 2, dilation=0), "dilation expected one or 2 whole numbers of at least 1"),
        (lambda: avg_pool2d(IMAGE, 2, divisor_override=0), "AvgPool2d expected a divisor_override other than 0"),
        (lambda: adaptive_avg_pool2d(IMAGE, -1), "output_size expected one or 2 whole numbers of at least 0"),
        (lambda: adaptive_avg_pool2d(IMAGE, (1, 2, 3)), "output_size expected one or 2 sizes, got"),
    ],
)
def test_a_wrong_call_says_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_modules_show_pytorchs_arguments():
    assert repr(MaxPool2d(2)) == (
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, return_indices=False, ceil_mode=False)"
    )
    assert AvgPool2d((3, 2)).stride == (3, 2)
    assert repr(AdaptiveAvgPool2d((None, 2))) == "AdaptiveAvgPool2d(output_size=(None, 2))"
    y, places = AdaptiveMaxPool2d(1, return_indices=True)(IMAGE)
    assert y.shape == places.shape == (2, 3, 1, 1)


# -- NaN and infinity ---------------------------------------------------------------------------------------------


def special(rng, trial):
    """Small whole numbers, many of them equal, with NaN (several in a window) and infinities of both signs."""
    x = rng.integers(-2, 3, (2, 3, 6, 7)).astype(np.float32)
    if trial % 3:
        x[rng.random(x.shape) < 0.1] = np.nan
    if trial % 2:
        x[rng.random(x.shape) < 0.1] = np.inf
        x[rng.random(x.shape) < 0.2] = -np.inf
    return channels_last(x) if trial % 5 == 0 else x


def test_a_nan_takes_the_gradient_of_all_its_windows():
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = np.nan
    t = Tensor(x, requires_grad=True)
    y, indices = max_pool2d(t, 3, 1, 1, return_indices=True)
    y.sum().backward()
    assert np.isnan(y.data).all() and (indices == 4).all()
    np.testing.assert_array_equal(t.grad[0, 0], [[0, 0, 0], [0, 9, 0], [0, 0, 0]])


def test_of_several_nans_the_last_takes_the_gradient_as_in_pytorch():
    t = Tensor(np.array([[[np.nan, 1, np.nan, 2, 3, np.inf]]], np.float32), requires_grad=True)
    y, indices = max_pool1d(t, 3, 1, return_indices=True)
    y.backward(np.array([[[1, 2, 3, 4]]], np.float32))
    np.testing.assert_array_equal(indices, [[[2, 2, 2, 5]]])
    np.testing.assert_array_equal(t.grad, [[[0, 0, 6, 0, 0, 4]]])


@pytest.mark.torch
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("window", [(3, 1, 1, False), (2, 2, 0, False), (3, 2, 1, True), (2, 1, 0, False)])
def test_values_places_and_gradients_at_special_numbers_are_those_of_pytorch(adaptive, window, rng):
    import torch
    import torch.nn.functional as F

    k, s, p, ceil = window
    for trial in range(12):
        x = special(rng, trial)
        t, u = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        if adaptive:
            y, i = adaptive_max_pool2d(t, (3, 4), return_indices=True)
            z, j = F.adaptive_max_pool2d(u, (3, 4), return_indices=True)
        else:
            y, i = max_pool2d(t, k, s, p, 1, ceil, return_indices=True)
            z, j = F.max_pool2d(u, k, s, p, 1, ceil, return_indices=True)
        dy = rng.integers(1, 5, y.shape).astype(np.float32)
        y.backward(dy)
        z.backward(torch.tensor(dy))
        np.testing.assert_array_equal(y.data, z.detach().numpy())
        np.testing.assert_array_equal(i, j.numpy())
        np.testing.assert_array_equal(t.grad, u.grad.numpy())
