"""The ways in which a convolution is computed, each for itself: which is taken when, at the borders of blocks, tiles
and pieces, and in memory full of what others left there."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from numpy.lib.array_utils import byte_bounds

from scratch import blocks
from scratch.layers.convolution import depthwise, fast, im2col, pointwise, windows, winograd
from scratch.layers.convolution.channels import add_to_channels, sum_of_channels
from tests.test_convolution import SETTINGS, Setting, around, arrays, channels_last, draw, equal, told

# -- each way against the matrix product of columns ----------------------------------------------------------------


def by_windows(s, x, W, dy, y):
    windows.convolve(x, W, s.stride, s.padding, s.dilation[0], y)
    return windows.weight_gradient(x, dy, s.kernel, s.stride, s.padding, s.dilation[0])


def by_winograd(s, x, W, dy, y):
    winograd.convolve(x, W, s.padding, y)
    return winograd.weight_gradient(x, dy, s.kernel, s.padding)


def by_depthwise(s, x, W, dy, y):
    depthwise.convolve(x, W, s.stride, s.padding, y)
    return depthwise.weight_gradient(x, dy, s.kernel, s.stride, s.padding)


def by_pointwise(s, x, W, dy, y):
    pointwise.convolve(x, W, s.stride, y)
    return pointwise.weight_gradient(x, dy, s.stride)


def by_columns(s, x, W, dy, y):
    fast._convolve_by_columns(x, W, s.stride, s.padding, s.dilation, y)
    return fast._weight_gradient_by_columns(x, dy, s.kernel, s.stride, s.padding, s.dilation)


WINDOWS = {
    "3 × 2": Setting((5, 3, 6, 7), 4, (3, 2)),
    "padded left": Setting((5, 2, 4, 5), 3, (2, 3), padding=((1, 0), (3, 0))),
    "padded right": Setting((5, 2, 4, 5), 3, (2, 3), padding=((0, 1), (0, 3))),
    "padded more than there is": Setting((5, 1, 2, 3), 2, (3, 3), padding=((4, 1), (2, 5))),
    "strided": Setting((5, 3, 7, 8), 2, (3, 3), (2, 2), around(1, 1)),
    "strided, unevenly": Setting((5, 2, 9, 11), 3, (4, 5), (3, 2), ((2, 0), (1, 2))),
    "strided beyond the kernel": Setting((5, 2, 8, 9), 3, (2, 1), (3, 4), around(1, 1)),
    "as wide a stride as the kernel": Setting((5, 2, 8, 9), 3, (2, 3), (2, 3)),
    "dilated": Setting((5, 2, 9, 6), 3, (3, 2), (2, 1), around(2, 1), (3, 1)),
    "rows of the kernel that meet padding alone": Setting((5, 1, 8, 4), 2, (12, 2), (3, 1), ((6, 0), (0, 1))),
    "rows of padding alone": Setting((5, 2, 1, 4), 3, (5, 3), padding=around(2, 1)),
    "one row, to one channel": Setting((5, 3, 1, 9), 1, (1, 4), (1, 2), around(0, 2)),
    "the whole image": Setting((5, 2, 3, 4), 6, (3, 4)),
}
WINOGRAD = {
    "3 × 3": Setting((5, 3, 6, 9), 4, (3, 3), padding=around(1, 1)),
    "3 × 5": Setting((5, 2, 5, 9), 3, (3, 5), padding=around(1, 2)),
    "1 × 3": Setting((5, 2, 3, 8), 3, (1, 3), padding=around(0, 1)),
    "2 × 3, padded above and left": Setting((5, 2, 4, 6), 3, (2, 3), padding=((3, 0), (6, 0))),
    "2 × 3, padded below and right": Setting((5, 2, 4, 6), 3, (2, 3), padding=((0, 3), (0, 6))),
    "tiles of padding alone": Setting((5, 2, 2, 1), 3, (4, 3), padding=((3, 5), (9, 10))),
    "from one channel to one": Setting((5, 1, 5, 7), 1, (3, 3), padding=around(2, 2)),
}
DEPTHWISE = {
    "depthwise": Setting((5, 3, 5, 6), 3, (3, 2), padding=((2, 1), (0, 1)), groups=3),
    "depthwise, strided down": Setting((5, 2, 7, 6), 2, (3, 3), (2, 1), around(1, 1), groups=2),
    "depthwise, strided": Setting((5, 3, 7, 9), 3, (2, 3), (3, 2), ((1, 0), (2, 1)), groups=3),
}
POINTWISE = {
    "1 × 1": Setting((5, 4, 3, 5), 3, (1, 1)),
    "1 × 1, strided": Setting((5, 2, 5, 7), 4, (1, 1), (2, 3)),
}
COLUMNS = {
    "columns": Setting((5, 3, 7, 9), 4, (3, 2), (2, 1), around(1, 2), (1, 3)),
    "padded above": Setting((5, 2, 3, 4), 3, (2, 2), padding=((1, 0), (0, 0))),
    "padded below": Setting((5, 2, 3, 4), 3, (2, 2), padding=((0, 1), (0, 0))),
    "padded on the left": Setting((5, 2, 3, 4), 3, (2, 2), padding=((0, 0), (1, 0))),
    "padded on the right": Setting((5, 2, 3, 4), 3, (2, 2), padding=((0, 0), (0, 1))),
}
WAYS = {
    name: (way, s)
    for way, settings in (
        (by_windows, WINDOWS), (by_winograd, WINOGRAD), (by_depthwise, DEPTHWISE), (by_pointwise, POINTWISE),
        (by_columns, COLUMNS), (by_windows, WINOGRAD), (by_columns, WINDOWS),
    )
    for name, s in ((f"{way.__name__}: {name}", s) for name, s in settings.items())
}  # fmt: skip
every_way = pytest.mark.parametrize(("way", "s"), WAYS.values(), ids=WAYS)


def strewn(name, shape, dtype):
    """A workspace with NaN in it, before it and behind it: who reads what he has not written will show."""
    return np.full(int(np.prod(shape)) + 2000, np.nan, dtype)[1000:-1000].reshape(shape)


@pytest.fixture
def cut_into(monkeypatch):
    """Blocks of so many images, products in so many pieces, and workspaces strewn with NaN."""

    def cut(images, pieces):
        for module in (windows, winograd, depthwise, fast):
            monkeypatch.setattr(module, "cut", lambda rows, most: blocks.cut(rows, images))
        for module in (windows, winograd):
            monkeypatch.setattr(module, "pieces", lambda rows, multiplications: pieces)
        for module in (windows, winograd, depthwise):
            monkeypatch.setattr(module, "workspace", strewn)
        windows.windows_of.cache_clear()
        winograd.tiles_of.cache_clear()

    yield cut
    windows.windows_of.cache_clear()
    winograd.tiles_of.cache_clear()


def into(s, kind):
    """Where y goes to, full of NaN: (N, H', W', O)"""
    N, O, H, W = s.y
    if kind == "an image":
        return np.full((N, H, W, O), np.nan)
    if kind == "every other pixel":
        return np.full((N, 2 * H, 3 * W, O), np.nan)[:, 1::2, ::3]
    return np.full((N, H, W, O + 3), np.nan)[..., 1:-2]  # some channels


def right(s):
    x, W, dy = arrays(s)
    return im2col.convolve(x, W, *s.arguments), im2col.weight_gradient(x, dy, s.kernel, *s.arguments)


@every_way
def test_every_way_is_right_in_blocks_and_pieces_and_strewn_memory(way, s, cut_into):
    expected, (x, W, dy) = right(s), arrays(s)
    kinds = ("an image", "every other pixel", *(("some channels",) if way is not by_depthwise else ()))
    for (images, pieces), kind in product(((1, 1), (2, 3), (3, 2), (5, 1)), kinds):
        cut_into(images, pieces)
        y = into(s, kind)
        dW = way(s, channels_last(x), W, channels_last(dy), y)
        equal([y.transpose(0, 3, 1, 2), dW], expected)
        assert dW.flags.c_contiguous


@pytest.mark.parametrize("kernel", [(1, 3), (2, 3), (3, 5)], ids=str)
def test_tiles_of_four_fit_images_of_any_width(kernel):
    for width in range(1, 14):
        for left, right_ in ((0, 0), (1, 1), (4, 0), (0, 4), (3, 5)):
            if width + left + right_ >= kernel[1]:
                s = Setting((2, 2, 2, width), 3, kernel, padding=((0, 1), (left, right_)))
                x, W, dy = arrays(s)
                y = into(s, "an image")
                dW = by_winograd(s, x, W, dy, y)
                equal([y.transpose(0, 3, 1, 2), dW], right(s), 1e-11)


# -- what lies where -----------------------------------------------------------------------------------------------


def inside(view, memory):
    """Whether a view made by strides stays within the memory that it was made of."""
    (low, high), (first, last) = byte_bounds(view), byte_bounds(memory)
    return first <= low and high <= last


@pytest.mark.parametrize("s", [*WINDOWS.values(), *WINOGRAD.values()], ids=[*WINDOWS, *WINOGRAD])
def test_windows_stay_within_the_slabs_and_slabs_are_no_larger_than_a_row_needs(s, cut_into):
    for images, pieces in ((1, 1), (2, 3), (5, 1), (5, 4)):
        cut_into(images, pieces)
        g = windows.windows_of(s.x, s.out, s.kernel, s.stride, s.padding, s.dilation[0])
        slabs = np.zeros(g.room * g.kh * g.C)
        assert inside(g.matrices(slabs), slabs)
        assert (g.starts - 1) * g.sw < max(s.x[3] + max(s.padding[1]), (g.Wo - 1) * g.sw + 1)
        assert 0 <= g.all - g.images * g.Ho * g.starts < g.phases * g.pieces  # rounded up, and not further
        assert g.phases == -(-s.kernel[1] // s.stride[1])


@pytest.mark.parametrize("s", WINOGRAD.values(), ids=WINOGRAD)
def test_columns_of_tiles_stay_within_their_memory(s, cut_into):
    for images, pieces in ((1, 1), (2, 3), (5, 1), (5, 4)):
        cut_into(images, pieces)
        g = winograd.tiles_of(s.x, s.out, s.kernel, s.padding, np.dtype(float))
        d, transformed, products = g.rooms(np.float64)
        assert not d.any()
        assert inside(g.windows(transformed), transformed) and inside(g.shifted(transformed), transformed)
        assert g.phases(products).size == products.size
        assert g.height == max(s.y[2], s.x[2] + max(s.padding[0]))
        assert g.tiles == -(-s.y[3] // 4) and g.points == s.kernel[1] + 3
        assert 0 <= g.all - g.images * g.column < g.kh * g.pieces


@pytest.mark.parametrize("s", DEPTHWISE.values(), ids=DEPTHWISE)
def test_depthwise_windows_stay_within_the_padded_images(s):
    g = depthwise._Images(s.x, s.kernel, s.stride, s.padding)
    room = g.room(np.float64)
    assert room.shape == (5, *(n + sum(sides) for n, sides in zip(s.x[2:], s.padding, strict=True)), s.x[1])
    assert inside(g.windows(room), room) and not room.any()
    assert g.rows == (s.stride[1] == 1)  # rows of all columns and channels together, which einsum does fastest


@pytest.mark.parametrize(("name", "kind", "straight"), [
    ("depthwise", "an image", True), ("depthwise", "every other pixel", False),
    ("depthwise, strided", "an image", True), ("depthwise, strided", "every other pixel", True),
])  # fmt: skip
def test_depthwise_outputs_are_written_straight_to_their_place_where_that_can_be(name, kind, straight, monkeypatch):
    s, given, einsum = DEPTHWISE[name], [], np.einsum

    def noted(*arguments, **keywords):
        given.append(keywords.get("out"))
        return einsum(*arguments, **keywords)

    monkeypatch.setattr(np, "einsum", noted)
    x, W, _ = arrays(s)
    y = into(s, kind)
    depthwise.convolve(x, W, s.stride, s.padding, y)
    assert given and all((out is not None and np.shares_memory(out, y)) == straight for out in given)


def numbers_in_a_block(way, s):
    """(the way's limit, the numbers that one of its blocks holds, the images in it)"""
    if way is windows:
        g = windows.Windows(s.x, s.out, s.kernel, s.stride, s.padding, 1)
        return windows.BLOCK, g.room * g.kh * g.C + g.all * g.O, g.images
    if way is winograd:
        g = winograd.Tiles(s.x, s.out, s.kernel, s.padding, np.dtype(float))  # which knows no stride
        return winograd.BLOCK, g.points * (g.room * g.C + g.all * g.O), g.images
    g = depthwise._Images(s.x, s.kernel, s.stride, s.padding)
    return depthwise.BLOCK, g.room(np.float32).size, g.blocks[0].stop


@pytest.mark.parametrize("way", [windows, winograd, depthwise])
@pytest.mark.parametrize("s", [
    Setting((10**5, 16, 28, 28), 32, (3, 3), padding=around(1, 1)),
    Setting((10**5, 3, 40, 31), 5, (5, 3), padding=around(2, 1)),
    Setting((10**5, 4, 40, 31), 5, (4, 5), (2, 2), padding=around(2, 1)),
    Setting((10**5, 40, 9, 17), 8, (2, 5)),
])  # fmt: skip
def test_a_block_is_as_large_as_the_cache_allows(way, s):
    limit, numbers, images = numbers_in_a_block(way, s)
    assert images > 1 and numbers <= limit < numbers * (images + 1) / images


@pytest.mark.parametrize(("rows", "multiplications", "pieces"), [
    (10_000, 1_000, 10), (10_001, 1_000, 11), (1_000, 1_000, 1), (1_001, 1_000, 2), (1, 1_000, 1),
    (320, 10**6 // 32, 10), (320, 10**6 // 32 + 1, 1), (320, 10**7, 1), (320, 1, 1),
])  # fmt: skip
def test_products_are_cut_into_pieces_that_the_library_multiplies_at_once(rows, multiplications, pieces):
    """No more than 10⁶ multiplications each, unless that leaves fewer than 32 rows."""
    assert windows.pieces(rows, multiplications) == pieces


@pytest.mark.parametrize("way", [windows, winograd])
@pytest.mark.parametrize("s", [Setting((40, 7, 28, 28), 11, (2, 3)), Setting((300, 11, 28, 28), 2, (3, 5))])
def test_a_piece_holds_as_many_rows_as_the_library_multiplies_at_once(way, s, monkeypatch):
    monkeypatch.setattr(windows, "UNPACKED", 50_000)
    if way is windows:
        g = windows.Windows(s.x, s.out, s.kernel, s.stride, s.padding, 1)
        each, rows = math.prod(s.weight), -(-g.images * g.Ho * g.starts // g.phases)
    else:
        g = winograd.Tiles(s.x, s.out, s.kernel, s.padding, np.dtype(float))
        each, rows = s.kernel[0] * s.x[1] * s.out, -(-g.images * g.column // g.kh)
    assert g.pieces > 1 and g.rows * each <= windows.UNPACKED
    assert -(-rows // (g.pieces - 1)) * each > windows.UNPACKED


def test_tiles_of_any_size_are_correlations():
    """Aᵀ [(G g) ⊙ (B d)], of m outputs and k weights, as far as the seven points and infinity reach."""
    for m, k in product(range(1, 6), range(2, 6)):
        if m + k <= 9:
            A, B, G = winograd.matrices(m, k)
            d, g = draw(m + k - 1), draw(k, seed=1)
            assert A.shape == (m + k - 1, m) and B.shape == (m + k - 1, m + k - 1) and G.shape == (m + k - 1, k)
            np.testing.assert_allclose(A.T @ ((G @ g) * (B @ d)), np.correlate(d, g), rtol=1e-10)


def test_images_are_looked_at_as_pixels_and_copied_only_where_channels_are_scattered():
    x = draw(2, 3, 4, 5)
    for arranged, copied in ((channels_last(x), False), (x, True), (channels_last(draw(2, 6, 4, 5))[:, ::2], True),
                             (channels_last(draw(2, 6, 4, 5))[:, 1:4], False), (draw(2, 1, 4, 5), False),
                             (draw(2, 1, 4, 9)[..., ::2], False)):  # fmt: skip
        pixels = windows.image_pixels(arranged)
        assert pixels.shape == (2, 4, 5) and np.shares_memory(pixels, arranged) is not copied
        numbers = np.ascontiguousarray(pixels).view(np.float64).reshape(2, 4, 5, -1)
        np.testing.assert_array_equal(numbers.transpose(0, 3, 1, 2), arranged)


# -- which way -----------------------------------------------------------------------------------------------------

CHOICES = {
    "winograd: 3 wide": (Setting((1, 16, 5, 6), 16, (3, 3)), "winograd"),
    "winograd: 5 wide": (Setting((1, 16, 5, 6), 16, (1, 5)), "winograd"),
    "winograd: 8 channels to 32": (Setting((1, 8, 5, 6), 32, (3, 3)), "winograd"),
    "winograd: 32 channels to 8": (Setting((1, 32, 5, 6), 8, (3, 3)), "winograd"),
    "8 channels to 31": (Setting((1, 8, 5, 6), 31, (3, 3)), "windows"),
    "7 channels to 64": (Setting((1, 7, 5, 6), 64, (3, 3)), "windows"),
    "64 channels to 7": (Setting((1, 64, 5, 6), 7, (3, 3)), "windows"),
    "2 wide": (Setting((1, 16, 5, 6), 16, (3, 2)), "windows"),
    "4 wide": (Setting((1, 16, 5, 6), 16, (3, 4)), "windows"),
    "6 wide": (Setting((1, 16, 5, 6), 16, (5, 6)), "windows"),
    "strided down": (Setting((1, 16, 5, 6), 16, (3, 3), (2, 1)), "windows"),
    "strided across": (Setting((1, 16, 5, 6), 16, (3, 3), (1, 2)), "windows"),
    "dilated down": (Setting((1, 16, 5, 6), 16, (3, 3), dilation=(2, 1)), "windows"),
    "dilated across": (Setting((1, 16, 5, 6), 16, (3, 3), dilation=(1, 2)), "im2col"),
    "dilated across, 1 wide": (Setting((1, 16, 5, 6), 16, (3, 1), dilation=(1, 2)), "windows"),
    "2 wide and dilated across": (Setting((1, 3, 5, 6), 4, (1, 2), dilation=(1, 2)), "im2col"),
    "1 × 1": (Setting((1, 16, 5, 6), 16, (1, 1)), "pointwise"),
    "1 × 1, strided and dilated": (Setting((1, 16, 5, 6), 16, (1, 1), (2, 2), dilation=(2, 2)), "pointwise"),
    "1 × 1, padded": (Setting((1, 16, 5, 6), 16, (1, 1), padding=((0, 0), (0, 1))), "windows"),
    "1 × 2": (Setting((1, 16, 5, 6), 16, (1, 2)), "windows"),
    "2 × 1": (Setting((1, 16, 5, 6), 16, (2, 1)), "windows"),
    "depthwise": (Setting((1, 4, 5, 6), 4, (3, 3), groups=4), "depthwise"),
    "two groups of one channel": (Setting((1, 2, 5, 6), 2, (3, 3), groups=2), "depthwise"),
    "one channel": (Setting((1, 1, 5, 6), 1, (3, 3)), "windows"),
    "depthwise, dilated": (Setting((1, 3, 5, 6), 3, (3, 3), dilation=(2, 1), groups=3), "windows windows windows"),
    "a group an input channel": (Setting((1, 2, 5, 6), 4, (3, 3), groups=2), "windows windows"),
    "a group an output channel": (Setting((1, 4, 5, 6), 2, (3, 3), groups=2), "windows windows"),
}


def noting(taken, name, compute):
    def noted(*given):
        taken.append(name)
        return compute(*given)

    return noted


@pytest.mark.parametrize(("s", "expected"), CHOICES.values(), ids=CHOICES)
def test_which_way_is_taken(s, expected, monkeypatch):
    x, W, dy = arrays(s)
    y, dW = right(s)
    taken = []
    for way, function in product((depthwise, im2col, pointwise, windows, winograd), ("convolve", "weight_gradient")):
        noted = noting(taken, way.__name__.rpartition(".")[2], getattr(way, function))
        monkeypatch.setattr(way, function, noted)
    equal([fast.convolve(x, W, *s.arguments)], [y])
    assert " ".join(taken) == expected
    equal([fast.weight_gradient(x, dy, s.kernel, *s.arguments)], [dW])
    assert " ".join(taken) == f"{expected} {expected}"


@pytest.mark.parametrize(("stride", "dilation", "spread"), [
    ((1, 1), (1, 1), False), ((2, 3), (1, 1), False), ((1, 1), (2, 3), False), ((2, 1), (1, 2), False),
    ((2, 1), (2, 1), True), ((1, 2), (2, 2), True), ((3, 3), (3, 3), True),
])  # fmt: skip
def test_zeros_are_put_between_gradients_only_where_one_axis_is_both_strided_and_dilated(
    stride, dilation, spread, monkeypatch
):
    s = Setting((2, 3, 9, 8), 2, (2, 2), stride, around(1, 1), dilation)
    x, W, dy = arrays(s)
    taken = []
    monkeypatch.setattr(fast, "_spread", noting(taken, "spread", fast._spread))
    dx = fast.input_gradient(dy, W, s.x, *s.arguments)
    equal([dx], [im2col.input_gradient(dy, W, s.x, *s.arguments)])
    assert taken == ["spread"] * spread


def test_zeros_between_by_hand():
    dy = np.array([[1.0, 2], [3, 4]])[None, None]
    np.testing.assert_array_equal(fast._spread(dy, (2, 3))[0, 0], [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]])
    np.testing.assert_array_equal(fast._spread(dy, (1, 1)), dy)


@pytest.mark.parametrize(("size", "kernel", "step", "padding", "met"), [
    (7, 2, 3, (1, 0), [0, 2]), (7, 1, 3, (1, 0), [2]), (7, 1, 3, (0, 1), [0]), (2, 1, 3, (0, 0), [0]),
    (2, 5, 3, (4, 4), [0, 1]), (9, 1, 1, (1, 2), [0]),
])  # fmt: skip
def test_which_of_the_first_pixels_meet_a_weight(size, kernel, step, padding, met):
    assert fast._met(size, kernel, step, padding) == met


@pytest.mark.parametrize(("kernel", "stride"), [((1, 2), (2, 1)), ((2, 1), (1, 2)), ((1, 1), (2, 1)), ((1, 1), (1, 3))])
def test_pixels_that_no_kernel_reaches_have_the_gradient_zero(kernel, stride, monkeypatch):
    """Also where the memory that the gradient is given was never cleared."""
    s = Setting((2, 3, 6, 7), 2, kernel, stride)
    _, W, dy = arrays(s)
    expected = im2col.input_gradient(dy, W, s.x, *s.arguments)
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, np.nan, dtype))
    equal([fast.input_gradient(dy, W, s.x, *s.arguments)], [expected])


def test_inside_exact_zeros_what_is_made_of_zeros_is_zero():
    s = Setting((1, 16, 3, 12), 16, (3, 3), padding=around(1, 1))
    x, W, _ = (a.astype(np.float32) for a in arrays(s))
    x[..., 2:] = 0
    for _ in range(2):  # winograd.py again after the block
        assert fast.convolve(x, W, *s.arguments)[..., 3:].any()
        with fast.exact_zeros():
            assert not fast.convolve(x, W, *s.arguments)[..., 3:].any()
    with pytest.raises(ZeroDivisionError), fast.exact_zeros():
        raise ZeroDivisionError
    assert fast._halved(16, 16, (3, 3), (1, 1), (1, 1))


@pytest.mark.parametrize(("images", "numbers", "threads", "parts"), [
    (4, 2**14, 2, [2, 2]), (4, 2**14 - 1, 2, [4]), (5, 2**14, 2, [3, 2]), (8, 2**14, 3, [2, 2, 2, 2]),
    (4, 2**14, 1, [4]), (1, 2**16, 2, [1]), (0, 2**16, 2, []),
])  # fmt: skip
def test_a_batch_worth_it_is_shared_out_over_the_threads(images, numbers, threads, parts, monkeypatch):
    monkeypatch.setattr(fast, "threads", lambda: threads)
    rows = fast._images(np.broadcast_to(np.float32(0), (images, numbers)))
    assert [part.stop - part.start for part in rows] == parts


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_columns_are_made_for_as_many_images_as_their_memory_allows(limit, monkeypatch):
    s = COLUMNS["columns"]
    x, W, dy = arrays(s)
    monkeypatch.setattr(fast, "COLUMNS", limit * 3 * 3 * 2 * s.y[2] * s.y[3])
    made, columns_of = [], im2col.im2col
    monkeypatch.setattr(im2col, "im2col", lambda *given: made.append(columns_of(*given).size) or columns_of(*given))
    by_columns(s, x, W, dy, into(s, "an image"))
    images = {1: [1, 1, 1, 1, 1], 2: [2, 2, 1], 5: [5]}[limit]
    assert made == [n * fast.COLUMNS // limit for n in (*images, *images)]


def test_of_no_images_in_groups_there_is_a_gradient_of_zeros():
    s = Setting((0, 6, 5, 7), 4, (3, 2), groups=2)
    x, W, dy = arrays(s)
    dW = fast.weight_gradient(x, dy, s.kernel, *s.arguments)
    assert dW.shape == s.weight and not dW.any()


@pytest.mark.parametrize(("dtypes", "expected"), [("fd", "d"), ("df", "d"), ("ff", "f"), ("ef", "f")])
def test_of_two_types_the_larger_is_the_result(dtypes, expected):
    for name in ("padded", "depthwise", "1 × 1", "dilated, strided and padded", "no image"):
        s = SETTINGS[name]
        x, W, dy = (a.astype(dtype) for a, dtype in zip(arrays(s), dtypes[0] + dtypes[1] + dtypes[1], strict=True))
        y, _, dW = told(fast, s, x, W, dy)
        dx = fast.input_gradient(dy.astype(dtypes[0]), W, s.x, *s.arguments)
        assert y.dtype == dx.dtype == dW.dtype == expected


# -- channels ------------------------------------------------------------------------------------------------------


def test_a_bias_is_added_in_place_whatever_the_order_of_memory():
    b = np.array([10.0, 20, 30])
    for y in (channels_last(draw(2, 3, 4, 5)), draw(2, 3, 4, 5), channels_last(draw(2, 6, 4, 5))[:, ::2]):
        before = y.copy()
        add_to_channels(y, b)
        np.testing.assert_allclose(y - before, np.broadcast_to(b[:, None, None], y.shape), rtol=1e-12)


def test_sums_of_channels_begin_with_each_image():
    """Channels last, one sum over all pixels would lose what an image of small numbers adds to one of large ones."""
    dy = np.ones((2, 3, 4, 5), np.float32)
    dy[0] = 2**24
    for arranged in (dy, channels_last(dy)):
        assert sum_of_channels(arranged).tolist() == [np.float32(20 * 2**24 + 20)] * 3
