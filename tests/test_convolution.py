"""Convolution: its three tellings agree, its gradients are transposes and finite differences, its messages help."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scratch import Parameter, Tensor, blocks, gradcheck, manual_seed
from scratch.layers import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
)
from scratch.layers.convolution import conv, fast, geometry, im2col, plain, transposed
from scratch.layers.convolution.channels import add_to_channels, sum_of_channels
from tests.rounding import apart


@dataclass(frozen=True)
class Setting:
    """A convolution: sizes and arguments in normal form."""

    x: tuple[int, int, int, int]
    out: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def weight(self) -> tuple[int, ...]:
        return self.out, self.x[1] // self.groups, *self.kernel

    @property
    def y(self) -> tuple[int, ...]:
        sizes = geometry.output_sizes(self.x[2:], self.kernel, self.stride, self.padding, self.dilation)
        return self.x[0], self.out, *sizes

    @property
    def arguments(self) -> tuple:
        return self.stride, self.padding, self.dilation, self.groups


def around(vertical, horizontal):
    return (vertical, vertical), (horizontal, horizontal)


SETTINGS = {
    "plain": Setting((2, 3, 5, 6), 4, (3, 2)),
    "padded": Setting((2, 3, 5, 6), 4, (3, 3), padding=around(1, 1)),
    "padded more than it is wide": Setting((2, 3, 4, 5), 2, (2, 3), padding=around(3, 4)),
    "padded on two sides": Setting((2, 3, 5, 4), 4, (3, 2), padding=((2, 0), (0, 1))),
    "strided, nothing left": Setting((2, 3, 7, 5), 4, (3, 3), (2, 2)),
    "strided, a row and two columns left": Setting((2, 3, 6, 9), 4, (3, 1), (2, 3)),
    "strided and padded": Setting((3, 2, 8, 7), 5, (3, 3), (2, 1), ((1, 0), (2, 1))),
    "strided beyond the kernel": Setting((2, 3, 9, 8), 4, (2, 1), (3, 2)),
    "1 × 1": Setting((2, 5, 3, 4), 3, (1, 1)),
    "1 × 1, strided and padded": Setting((2, 5, 4, 6), 3, (1, 1), (2, 3), around(1, 2)),
    "the whole image": Setting((2, 3, 4, 5), 6, (4, 5)),
    "dilated": Setting((2, 3, 7, 8), 4, (3, 2), dilation=(2, 3)),
    "dilated, strided and padded": Setting((2, 3, 9, 8), 4, (3, 3), (2, 3), ((2, 1), (0, 3)), (2, 1)),
    "in groups": Setting((2, 4, 5, 6), 6, (3, 2), (1, 2), around(1, 0), groups=2),
    "depthwise": Setting((2, 5, 6, 4), 5, (3, 3), padding=around(1, 1), groups=5),
    "depthwise, strided": Setting((2, 3, 7, 9), 3, (3, 3), (2, 2), around(1, 1), groups=3),
    "depthwise, two each": Setting((2, 3, 6, 5), 6, (2, 3), (1, 2), ((0, 1), (1, 0)), (2, 1), 3),
    "one channel": Setting((3, 1, 6, 7), 4, (5, 5), padding=around(2, 2)),
    "to one channel": Setting((2, 3, 4, 6), 1, (3, 3), padding=around(1, 1)),
    "one image": Setting((1, 2, 3, 4), 3, (2, 2)),
    "no image": Setting((0, 2, 3, 4), 3, (2, 2), padding=around(1, 1)),
    "height 1": Setting((3, 4, 1, 9), 2, (1, 3), (1, 2), around(0, 1)),
}

every_setting = pytest.mark.parametrize("s", SETTINGS.values(), ids=SETTINGS)
tellings = pytest.mark.parametrize("telling", [im2col, fast], ids=["im2col", "fast"])


def draw(*shape, seed=0):
    return 0.3 + np.random.default_rng([seed, *shape]).standard_normal(shape)


def arrays(s):
    """x, W and dy"""
    return draw(*s.x), draw(*s.weight, seed=1), draw(*s.y, seed=2)


@functools.cache
def by_definition(s):
    """y, ∂L/∂x and ∂L/∂W from the loops; read-only, since many tests share them."""
    x, W, dy = arrays(s)
    found = (
        plain.convolve(x, W, *s.arguments),
        plain.input_gradient(dy, W, s.x, *s.arguments),
        plain.weight_gradient(x, dy, s.kernel, *s.arguments),
    )
    for array in found:
        array.flags.writeable = False
    return found


def told(telling, s, x, W, dy):
    return (
        telling.convolve(x, W, *s.arguments),
        telling.input_gradient(dy, W, s.x, *s.arguments),
        telling.weight_gradient(x, dy, s.kernel, *s.arguments),
    )


def equal(came, expected, tolerance=1e-12):
    for one, other in zip(came, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def sliced(a):
    wide = np.full([2 * n + 1 for n in a.shape], np.nan, a.dtype)
    part = tuple(slice(1, None, 2) for _ in a.shape)
    wide[part] = a
    return wide[part]


def backwards(a):
    return a[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1]


ARRANGEMENTS = [np.ascontiguousarray, np.asfortranarray, channels_last, sliced, backwards]

# -- the three tellings --------------------------------------------------------------------------------------------


@every_setting
@tellings
@pytest.mark.parametrize("arrange", ARRANGEMENTS)
def test_the_tellings_are_equal_in_any_order_of_memory(telling, s, arrange):
    given = [arrange(a) for a in arrays(s)]
    before = [a.copy() for a in given]
    equal(told(telling, s, *given), by_definition(s))
    for a, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, copy)


@every_setting
@tellings
def test_float32_stays_float32(telling, s):
    came = told(telling, s, *(channels_last(a.astype(np.float32)) for a in arrays(s)))
    assert all(a.dtype == np.float32 for a in came)
    scale = max(1.0, *(float(np.abs(a).max(initial=0)) for a in by_definition(s)))
    equal([a / scale for a in came], [a / scale for a in by_definition(s)], 1e-5)


@tellings
def test_an_upstream_gradient_may_be_one_number_seen_everywhere(telling):
    """∂(Σ y)/∂y, as `sum` hands it on: strides of zero."""
    s = SETTINGS["strided and padded"]
    x, W, _ = arrays(s)
    ones = np.broadcast_to(np.float64(1), s.y)
    equal(told(telling, s, x, W, ones), told(plain, s, x, W, ones))


@tellings
@pytest.mark.parametrize("images", [1, 2, 3, 7, 40])
def test_blocks_of_images_are_only_blocks(telling, images):
    """Every image for itself gives the same: no block's edge is felt. Large enough for several blocks."""
    s = Setting((images, 16, 33, 31), 8, (3, 3), padding=around(1, 1))
    x, W, dy = arrays(s)
    y, dx, dW = told(telling, s, x, W, dy)
    one = Setting((1, *s.x[1:]), s.out, s.kernel, padding=s.padding)
    parts = [told(im2col, one, x[n : n + 1], W, dy[n : n + 1]) for n in range(images)]
    equal((y, dx), [np.concatenate(each) for each in list(zip(*parts, strict=True))[:2]], 1e-11)
    equal([dW], [sum(part[2] for part in parts)], 1e-10)


REAL = {
    "3 × 3, few channels": Setting((9, 16, 28, 28), 32, (3, 3), padding=around(1, 1)),
    "3 × 3, more channels, odd size": Setting((5, 32, 15, 13), 64, (3, 3), padding=around(1, 1)),
    "3 × 3, many channels": Setting((6, 64, 8, 8), 64, (3, 3), padding=around(1, 1)),
    "3 × 3 without padding": Setting((3, 24, 17, 14), 40, (3, 3)),
    "3 × 3, padded on two sides": Setting((3, 32, 16, 15), 32, (3, 3), padding=((2, 0), (0, 1))),
    "3 × 3, strided": Setting((5, 32, 17, 16), 48, (3, 3), (2, 2), around(1, 1)),
    "1 × 1": Setting((5, 48, 14, 15), 96, (1, 1)),
    "1 × 1, strided": Setting((5, 48, 14, 15), 96, (1, 1), (2, 2)),
    "5 × 5 on one channel": Setting((17, 1, 28, 28), 16, (5, 5)),
    "7 × 7, strided": Setting((2, 3, 45, 47), 32, (7, 7), (2, 2), around(3, 3)),
    "depthwise": Setting((7, 40, 14, 15), 40, (3, 3), padding=around(1, 1), groups=40),
    "depthwise, strided": Setting((7, 40, 15, 14), 40, (5, 5), (2, 2), around(2, 2), groups=40),
    "in groups": Setting((5, 32, 12, 13), 64, (3, 3), padding=around(1, 1), groups=4),
    "dilated": Setting((5, 32, 15, 14), 32, (3, 3), padding=around(2, 2), dilation=(2, 2)),
}


@pytest.mark.parametrize("s", REAL.values(), ids=REAL)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_what_is_fast_for_the_sizes_of_networks_is_right(s, dtype, tolerance):
    """`fast` may choose its way by size. Differences are measured against the largest number."""
    given = arrays(s)
    expected = told(im2col, s, *given)
    for came, right in zip(told(fast, s, *(channels_last(a.astype(dtype)) for a in given)), expected, strict=True):
        assert came.dtype == dtype and came.shape == right.shape
        assert np.abs(came - right).max() <= tolerance * np.abs(right).max()


@st.composite
def a_setting(draw):
    """Any convolution that fits."""
    number = st.integers
    kernel, stride, dilation = (tuple(draw(number(1, 3)) for _ in range(2)) for _ in range(3))
    padding = tuple((draw(number(0, 3)), draw(number(0, 3))) for _ in range(2))
    groups = draw(number(1, 3))
    x = (draw(number(1, 3)), groups * draw(number(1, 2)), draw(number(1, 7)), draw(number(1, 7)))
    s = Setting(x, groups * draw(number(1, 2)), kernel, stride, padding, dilation, groups)
    assume(min(s.y) > 0)
    return s


@given(a_setting(), st.sampled_from(ARRANGEMENTS))
@example(Setting((1, 1, 1, 1), 1, (1, 1), (3, 3), ((0, 2), (2, 0))), channels_last)
def test_the_tellings_are_equal_for_any_setting(s, arrange):
    given = [arrange(a) for a in arrays(s)]
    for telling in (im2col, fast):
        equal(told(telling, s, *given), by_definition(s))


@given(a_setting())
def test_gradients_are_transposes(s):
    """y is linear in x and in W: <y(x, W), z> = <x, ∂x(z, W)> = <W, ∂W(x, z)>"""
    x, W, z = arrays(s)
    y, dx, dW = told(fast, s, x, W, z)
    size = np.linalg.norm(y) * np.linalg.norm(z)
    assert abs((y * z).sum() - (x * dx).sum()) <= 1e-12 * size
    assert abs((y * z).sum() - (W * dW).sum()) <= 1e-12 * size


@given(a_setting())
def test_im2col_and_col2im_are_transposes(s):
    arguments = (s.kernel, s.stride, s.padding, s.dilation)
    x = draw(*s.x)
    columns = im2col.im2col(x, *arguments)
    assert columns.shape == (s.x[0], s.x[1] * math.prod(s.kernel), math.prod(s.y[2:]))
    z = draw(*columns.shape, seed=1)
    back = im2col.col2im(z, s.x, *arguments)
    assert back.shape == s.x
    np.testing.assert_allclose((columns * z).sum(), (x * back).sum(), rtol=1e-11, atol=1e-11)


def test_columns_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    columns = im2col.im2col(x, (2, 2), (1, 1), around(0, 0), (1, 1))
    np.testing.assert_array_equal(columns, [[[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]])
    times = im2col.col2im(np.ones_like(columns), x.shape, (2, 2), (1, 1), around(0, 0), (1, 1))
    np.testing.assert_array_equal(times[0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


# -- numbers by hand -------------------------------------------------------------------------------------------------


def image(rows):
    return np.array(rows, float)[None, None]


def test_the_worked_example():
    """The numbers of conv.py; ∂L/∂x once more as the full convolution of dy with the flipped kernel."""
    x, W = image([[1, 2, 0], [0, 1, 3], [2, 1, 1]]), image([[1, 2], [0, -1]])
    dy = image([[1, 0], [2, -1]])
    inputs = [Tensor(a, requires_grad=True) for a in (x, W, np.array([0.0]))]
    y = conv2d(*inputs)
    y.backward(dy)
    np.testing.assert_array_equal(y.data, image([[4, -1], [1, 6]]))
    np.testing.assert_array_equal(inputs[0].grad, image([[1, 2, 0], [2, 2, -2], [0, -2, 1]]))
    np.testing.assert_array_equal(inputs[1].grad, image([[0, 1], [3, 2]]))
    np.testing.assert_array_equal(inputs[2].grad, [2])
    np.testing.assert_array_equal(conv2d(dy, W[:, :, ::-1, ::-1], padding=1).data, inputs[0].grad)
    np.testing.assert_array_equal(conv2d(x, dy).data, inputs[1].grad)


def test_a_transposed_convolution_stamps_the_kernel():
    x, W = image([[1, 2]]), image([[1, 10], [100, 1000]])
    np.testing.assert_array_equal(conv_transpose2d(x, W).data, image([[1, 12, 20], [100, 1200, 2000]]))
    np.testing.assert_array_equal(
        conv_transpose2d(x, W, stride=2).data, image([[1, 10, 2, 20], [100, 1000, 200, 2000]])
    )
    wider = conv_transpose2d(x, W, stride=(1, 3), output_padding=(0, 2), bias=np.array([0.5])).data
    np.testing.assert_array_equal(wider - 0.5, image([[1, 10, 0, 2, 20, 0, 0], [100, 1000, 0, 200, 2000, 0, 0]]))
    cut = conv_transpose2d(x, W, padding=((1, 0), (0, 1))).data
    np.testing.assert_array_equal(cut, image([[100, 1200]]))


def test_same_padding_gives_the_odd_zero_to_the_end():
    """Even kernels and odd spans: one more to the right and below, as in PyTorch."""
    x = image([[1, 2, 3]])
    np.testing.assert_array_equal(conv2d(x, image([[1, 10]]), padding="same").data, image([[21, 32, 3]]))
    W = image([[1, 10, 100, 1000]])
    np.testing.assert_array_equal(conv2d(x, W, padding="same").data, image([[3210, 321, 32]]))
    assert geometry.sides("", "same", (1, 2, 3, 4), (1,) * 4, (1, 3, 1, 1)) == ((0, 0), (1, 2), (1, 1), (1, 2))


def test_a_depthwise_convolution_keeps_channels_apart():
    x = np.stack([image([[1, 2]])[0, 0], image([[3, 4]])[0, 0]])[None]
    W = np.array([10.0, 100.0]).reshape(2, 1, 1, 1)
    np.testing.assert_array_equal(conv2d(x, W, groups=2).data[0], [[[10, 20]], [[300, 400]]])
    y = conv2d(x, np.array([1.0, 10, 100, 1000]).reshape(4, 1, 1, 1), groups=2).data[0, :, 0, 0]
    np.testing.assert_array_equal(y, [1, 10, 300, 3000])


# -- the operations ------------------------------------------------------------------------------------------------


def value_and_gradients(function, dy, *given):
    tensors = [Tensor(a.copy(), requires_grad=True) for a in given]
    y = function(*tensors)
    assert y.size == dy.size
    y.backward(dy.reshape(y.shape))
    return [y.data, *(tensor.grad for tensor in tensors)]


def conv2d_is_right(s):
    """Values and all gradients of `conv2d` are the loops' and the bias's."""
    x, W, dy = arrays(s)
    b = draw(s.out, seed=3)
    y, dx, dW = by_definition(s)
    came = value_and_gradients(lambda *t: conv2d(*t, *s.arguments), dy, x, W, b)
    equal(came, [y + b[:, None, None], dx, dW, dy.sum(axis=(0, 2, 3))])


def transposed_is_right(s, more=(0, 0)):
    """The same of `conv_transpose2d`, whose x is the setting's dy. `more`: output_padding."""
    sizes = geometry.transposed_sizes(s.y[2:], s.kernel, s.stride, s.padding, s.dilation, more)
    shape = (*s.x[:2], *sizes)
    x, W, b, dy = draw(*s.y), draw(*s.weight, seed=1), draw(s.x[1], seed=3), draw(*shape, seed=2)
    came = value_and_gradients(
        lambda *t: conv_transpose2d(*t, s.stride, s.padding, more, s.groups, s.dilation), dy, x, W, b
    )
    y = plain.input_gradient(x, W, shape, *s.arguments) + b[:, None, None]
    dx = plain.convolve(dy, W, *s.arguments)[:, :, : s.y[2], : s.y[3]]
    dW = plain.weight_gradient(dy, x, s.kernel, *s.arguments)
    equal(came, [y, dx, dW, dy.sum(axis=(0, 2, 3))])


def most_output_padding(s):
    return tuple(max(pair) - 1 for pair in zip(s.stride, s.dilation, strict=True))


@every_setting
def test_conv2d_and_its_gradients_are_the_definition(s):
    conv2d_is_right(s)


@every_setting
def test_conv_transpose2d_and_its_gradients_are_the_definition(s):
    transposed_is_right(s)
    transposed_is_right(s, most_output_padding(s))  # where the dilation allows it, of the stride and more


@given(a_setting(), st.data())
def test_conv_transpose2d_is_the_definition_for_any_setting(s, data):
    more = tuple(data.draw(st.integers(0, most)) for most in most_output_padding(s))
    assume(min(geometry.transposed_sizes(s.y[2:], s.kernel, s.stride, s.padding, s.dilation, more)) > 0)
    transposed_is_right(s, more)


@given(a_setting())
def test_the_transposed_convolution_is_the_transpose(s):
    """<conv2d(x), z> = <x, conv_transpose2d(z)>, the output padding being what the stride left over of x."""
    x, W, z = arrays(s)
    most = geometry.transposed_sizes(s.y[2:], s.kernel, s.stride, s.padding, s.dilation, (0, 0))
    more = tuple(n - m for n, m in zip(s.x[2:], most, strict=True))
    assume(all(m < max(pair) for m, *pair in zip(more, s.stride, s.dilation, strict=True)))
    back = conv_transpose2d(z, W, None, s.stride, s.padding, more, s.groups, s.dilation).data
    y = conv2d(x, W, None, *s.arguments).data
    np.testing.assert_allclose((y * z).sum(), (x * back).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name",
    ["strided and padded", "dilated, strided and padded", "in groups", "depthwise, two each", "padded on two sides"],
)  # fmt: skip
def test_gradients_equal_finite_differences(name):
    s = SETTINGS[name]
    x, W, dy = arrays(s)
    gradcheck(lambda *t: conv2d(*t, *s.arguments), (x[:1], W, draw(s.out)))
    turned = (None, s.stride, s.padding, (1, 0) if s.stride[0] > 1 else (0, 0), s.groups, s.dilation)
    gradcheck(lambda x, W: conv_transpose2d(x, W, *turned), (dy[:1], W))


def test_gradients_of_sequences_equal_finite_differences():
    x, W, b = draw(2, 4, 7), draw(6, 2, 3, seed=1), draw(6, seed=2)
    gradcheck(lambda *t: conv1d(*t, 2, ((2, 1),), 2, groups=2), (x, W, b))
    gradcheck(lambda *t: conv_transpose1d(*t, 3, 1, 2, 2, 2), (x, draw(4, 3, 3, seed=1), b))


def test_sequences_are_images_of_height_one():
    x, W, b, dy = draw(2, 4, 9), draw(6, 2, 3, seed=1), draw(6, seed=2), draw(2, 6, 4)
    flat = value_and_gradients(lambda *t: conv1d(*t, 2, 1, 2, 2), dy, x, W, b)
    high = value_and_gradients(
        lambda *t: conv2d(*t, (1, 2), (0, 1), (1, 2), 2), dy, x[:, :, None], W[:, :, None], b
    )
    equal(flat, [high[0][:, :, 0], high[1][:, :, 0], high[2][:, :, 0], high[3]])
    assert conv1d(x, W, padding="same", groups=2).shape == (2, 6, 9)


def test_transposed_sequences_are_images_of_height_one():
    x, W, b, dy = draw(2, 4, 5), draw(4, 3, 3, seed=1), draw(6, seed=2), draw(2, 6, 9)
    for bias in ((), (b,)):
        flat = value_and_gradients(lambda *t: conv_transpose1d(*t, stride=2, padding=1, groups=2), dy, x, W, *bias)
        high = value_and_gradients(
            lambda *t: conv_transpose2d(*t, stride=(1, 2), padding=(0, 1), groups=2),
            dy, x[:, :, None], W[:, :, None], *bias,
        )  # fmt: skip
        equal(flat, [each[:, :, 0] if each.ndim == 4 else each for each in high])


def test_without_a_bias_there_are_two_gradients():
    s = SETTINGS["strided and padded"]
    x, W, dy = arrays(s)
    equal(value_and_gradients(lambda x, W: conv2d(x, W, None, *s.arguments), dy, x, W), by_definition(s))
    turned = (None, s.stride, s.padding, 0, s.groups, s.dilation)
    z = draw(*conv_transpose2d(dy, W, *turned).shape)
    _, dx, dW = value_and_gradients(lambda x, W: conv_transpose2d(x, W, *turned), z, dy, W)
    equal([dx, dW], [plain.convolve(z, W, *s.arguments), plain.weight_gradient(z, dy, s.kernel, *s.arguments)])


def test_valid_padding_is_none():
    assert geometry.sides("", "valid", (3, 5), (2, 2), (1, 1)) == ((0, 0), (0, 0))
    np.testing.assert_array_equal(conv1d(draw(1, 2, 9), draw(3, 2, 4), padding="valid").shape, (1, 3, 6))


def test_what_needs_no_extension_is_not_copied():
    x = draw(2, 3, 4, 5)
    assert transposed._extended(x, (4, 5)) is x
    extended = transposed._extended(x, (5, 7))
    assert not extended[:, :, 4:].any() and not extended[..., 5:].any()
    np.testing.assert_array_equal(extended[:, :, :4, :5], x)


def test_what_is_frozen_is_not_computed(monkeypatch):
    """The first layer's images need no gradient, and none is paid for."""
    x, W, b = draw(2, 3, 5, 6), draw(4, 3, 3, 2), draw(4)
    y = conv2d(x, Parameter(W), Parameter(b))
    monkeypatch.setattr(fast, "input_gradient", None)
    y.backward(draw(*y.shape))
    y = conv2d(Tensor(x, requires_grad=False), W, Parameter(b))
    monkeypatch.setattr(fast, "weight_gradient", None)
    y.backward(draw(*y.shape))


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 2, 5), (2, 4, 1, 1), (0, 3, 2, 2)])
def test_a_number_for_each_channel_is_added_and_summed_in_any_order_of_memory(arrange, shape):
    a, b = draw(*shape), draw(shape[1], seed=1)
    y = arrange(a.copy())
    np.testing.assert_allclose(sum_of_channels(y), a.sum(axis=(0, 2, 3)), rtol=1e-13, atol=1e-13)
    assert sum_of_channels(y.astype(np.float32)).dtype == np.float32
    assert add_to_channels(y, b) is None
    np.testing.assert_allclose(y, a + b[:, None, None], rtol=1e-15)


def test_the_bias_gradient_of_a_large_float32_batch_is_exact_to_a_few_digits_more_than_one_sum():
    dy = channels_last(draw(64, 3, 64, 64).astype(np.float32))
    exact = dy.sum(axis=(0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(sum_of_channels(dy), exact, rtol=2e-6)


# -- the layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape", "fan_in"),
    [
        (lambda: Conv2d(6, 40, (3, 5), groups=2), (40, 3, 3, 5), 45),
        (lambda: Conv1d(6, 90, 7), (90, 6, 7), 42),
        (lambda: ConvTranspose2d(40, 6, (3, 5), groups=2), (40, 3, 3, 5), 45),
        (lambda: ConvTranspose1d(90, 6, 7), (90, 6, 7), 42),
    ],
    ids=["Conv2d", "Conv1d", "ConvTranspose2d", "ConvTranspose1d"],
)
def test_first_weights_fill_pytorchs_interval(make, shape, fan_in):
    manual_seed(0)
    layer = make()
    assert layer.weight.shape == shape
    bound = 1 / math.sqrt(fan_in)
    assert 0.98 * bound < np.abs(layer.weight.data).max() <= bound
    assert abs(layer.weight.data.std() - bound / math.sqrt(3)) < 0.03 * bound
    assert np.abs(layer.bias.data).max() <= bound
    assert len(np.unique(layer.bias.data)) == layer.bias.size


def test_shown_as_pytorch_shows_them():
    assert repr(Conv2d(3, 4, 3, padding=1)) == "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"
    assert repr(Conv2d(4, 6, (3, 1), 2, dilation=2, groups=2, bias=False)) == (
        "Conv2d(4, 6, kernel_size=(3, 1), stride=(2, 2), dilation=(2, 2), groups=2, bias=False)"
    )
    assert repr(Conv1d(3, 4, 5, padding="same")) == "Conv1d(3, 4, kernel_size=(5,), stride=(1,), padding='same')"
    assert repr(ConvTranspose2d(3, 4, 3, 2, output_padding=1)) == (
        "ConvTranspose2d(3, 4, kernel_size=(3, 3), stride=(2, 2), output_padding=(1, 1))"
    )


def test_output_size_chooses_among_what_the_stride_leaves_open():
    down, up = Conv2d(3, 4, 3, (2, 3), 1), ConvTranspose2d(4, 3, 3, (2, 3), 1)
    for size in [(7, 7), (8, 8), (7, 9)]:
        small = down(draw(2, 3, *size))
        assert small.shape == (2, 4, 4, 3)
        assert up(small, output_size=size).shape == up(small, (2, 3, *size)).shape == (2, 3, *size)
    same = apart(4 * 3 * 3 + 1, small.data, up.weight.data)  # the two are products of matrices of different shapes
    np.testing.assert_allclose(up(small, (7, 9)).data[..., :7], up(small).data, rtol=0, atol=same)
    with pytest.raises(ValueError, match=r"output_size from \(7, 7\) to \(8, 9\) .*got \(9, 7\)"):
        up(small, output_size=(9, 7))
    with pytest.raises(ValueError, match="output_size"):
        up(small, output_size=(7,))
    assert ConvTranspose1d(4, 3, 3, 2)(draw(2, 4, 5), [12]).shape == (2, 3, 12)


# -- bad input -----------------------------------------------------------------------------------------------------

X, W = np.zeros((2, 3, 5, 7)), np.zeros((4, 3, 3, 3))
WRONG = {
    "one image": (lambda: conv2d(X[0], W), r"conv2d expected x of shape \(N, C, H, W\) with C = 3, got .*x\[None\]"),
    "channels last": (
        lambda: conv2d(X.transpose(0, 2, 3, 1), W),
        r"got \(2, 5, 7, 3\); this looks like \(N, H, W, C\): x.transpose\(0, 3, 1, 2\) brings the channels",
    ),
    "other channels": (lambda: conv2d(X[:, :2], W), r"with C = 3, got \(2, 2, 5, 7\)$"),
    "a fifth axis": (lambda: conv2d(np.zeros((2, 1, 5, 7, 3)), W), r"with C = 3, got \(2, 1, 5, 7, 3\)$"),
    "channels of groups": (lambda: conv2d(X, W, groups=2), r"with C = 6, got \(2, 3, 5, 7\)$"),
    "groups that do not divide the outputs": (
        lambda: conv2d(X, W[:, :1], groups=3), "out_channels to be divisible by groups = 3, got 4"
    ),
    "no group": (lambda: conv2d(X, W, groups=0), "groups to be an integer of at least 1, got 0"),
    "a broken group": (lambda: conv2d(X, W, groups=1.0), "groups to be an integer of at least 1, got 1.0"),
    "a kernel larger than the image": (
        lambda: conv2d(X, np.zeros((4, 3, 6, 3))),
        r"kernel no larger than the padded input: kernel \(6, 3\) on \(5, 7\)",
    ),
    "a kernel that dilation makes larger than the padded image": (
        lambda: conv2d(X, W, padding=1, dilation=(1, 5)),
        r"kernel \(3, 3\), which spans \(3, 11\) with dilation \(1, 5\), on \(7, 9\) \(the input's \(5, 7\) and",
    ),
    "a weight of another rank": (
        lambda: conv2d(X, W[0]), r"weight of shape \(out, in/groups, kh, kw\).*got \(3, 3, 3\)"
    ),
    "an empty weight": (lambda: conv2d(X, W[:, :, :0]), "without empty axes"),
    "a bias of another shape": (lambda: conv2d(X, W, np.zeros(3)), r"bias of shape \(4,\).*got \(3,\)"),
    "integers": (lambda: conv2d(X.astype(int), W), "conv2d expected a floating-point input"),
    "same with a stride": (
        lambda: conv2d(X, W, stride=(1, 2), padding="same"), r"stride 1 with padding='same', got \(1, 2\)"
    ),
    "a word": (lambda: conv2d(X, W, padding="full"), "padding to be numbers, 'same' or 'valid', got 'full'"),
    "negative padding": (lambda: conv2d(X, W, padding=(0, -1)), r"padding to be an integer or 2 of them, at least 0"),
    "negative padding on one side": (lambda: conv2d(X, W, padding=((0, 0), (-1, 0))), "padding's pairs"),
    "padding of three axes": (lambda: conv2d(X, W, padding=(1, 1, 1)), "padding to be an integer or 2 of them"),
    "pairs of one axis": (lambda: conv2d(X, W, padding=((1, 1),)), r"\(\(before, after\), \(before, after\)\)"),
    "a pair and a number": (lambda: conv2d(X, W, padding=((1, 1), 1)), r"padding in pairs"),
    "broken padding": (lambda: conv2d(X, W, padding=0.5), "got 0.5"),
    "no stride": (lambda: conv2d(X, W, stride=0), "stride to be an integer or 2 of them, at least 1, got 0"),
    "a truth for a stride": (lambda: conv2d(X, W, stride=True), "stride .* got True"),
    "three strides": (lambda: conv2d(X, W, stride=(1, 1, 1)), r"stride .* got \(1, 1, 1\)"),
    "no dilation": (lambda: conv2d(X, W, dilation=(1, 0)), r"dilation .* at least 1, got \(1, 0\)"),
    "sequences, channels last": (
        lambda: conv1d(np.zeros((2, 5, 3)), W[..., 0]),
        r"conv1d expected x of shape \(N, C, L\).* looks like \(N, L, C\): x.transpose\(0, 2, 1\)",
    ),
    "an image for a sequence": (lambda: conv1d(X, W[..., 0]), r"\(N, C, L\) with C = 3, got \(2, 3, 5, 7\)"),
    "a pair for a sequence": (
        lambda: conv1d(X[:, :, 0], W[..., 0], stride=(1, 1)), r"conv1d expected stride to be an integer, .*\(1, 1\)"
    ),
    "transposed: a weight the other way": (
        lambda: conv_transpose2d(X, W), r"conv_transpose2d expected x .* C = 4, got \(2, 3, 5, 7\)"
    ),
    "transposed: a weight of another rank": (
        lambda: conv_transpose2d(X, W[0]), r"weight of shape \(in, out/groups, kh, kw\).*got \(3, 3, 3\)"
    ),
    "transposed: groups": (lambda: conv_transpose2d(X, W[:3], groups=2), "in_channels to be divisible by groups = 2"),
    "transposed: a word": (lambda: conv_transpose2d(X, W[:3], padding="same"), "padding in numbers, got 'same'"),
    "transposed: too much output padding": (
        lambda: conv_transpose2d(X, W[:3], stride=2, output_padding=2), r"output_padding below the stride \(2, 2\)"
    ),
    "transposed: nothing left": (
        lambda: conv_transpose2d(X, W[:3], padding=(4, 0)), r"from an input of \(5, 7\).*an output of \(-1, 9\)"
    ),
    "transposed: a bias of another shape": (lambda: conv_transpose2d(X, W[:3], np.zeros(4)), r"bias of shape \(3,\)"),
    "layer: groups that do not divide the inputs": (
        lambda: Conv2d(3, 4, 3, groups=2), "Conv2d expected in_channels to be divisible by groups = 2, got 3"
    ),
    "layer: groups that do not divide the outputs": (
        lambda: ConvTranspose2d(4, 3, 3, groups=2), "ConvTranspose2d expected out_channels to be divisible"
    ),
    "layer: no channels": (lambda: Conv2d(0, 4, 3), "in_channels"),
    "layer: no kernel": (lambda: Conv2d(3, 4, (3, 0)), r"kernel_size to be an integer or 2 of them, at least 1"),
    "layer: other padding": (lambda: Conv2d(3, 4, 3, padding_mode="reflect"), "padding_mode 'zeros'.*got 'reflect'"),
    "layer: same with a stride": (lambda: Conv2d(3, 4, 3, 2, "same"), "Conv2d expected stride 1 with padding='same'"),
    "layer: output padding": (lambda: ConvTranspose1d(3, 4, 3, output_padding=1), "output_padding below the stride"),
    "layer: other channels": (lambda: Conv2d(3, 4, 3)(X[:, :2]), r"^Conv2d\(3, 4, .* expected x of shape"),
    "layer: too large a kernel": (lambda: Conv2d(3, 4, 6)(X), r"^Conv2d\(3, 4, .* no larger than the padded input"),
    "layer: other sequences": (lambda: Conv1d(3, 4, 3)(X[:, :2, 0]), r"^Conv1d\(3, 4, .* expected x of shape"),
    "layer: transposed, other channels": (
        lambda: ConvTranspose2d(3, 4, 3)(X[:, :2]), r"^ConvTranspose2d\(3, 4, .* expected x of shape"
    ),
    "layer: transposed, nothing left": (
        lambda: ConvTranspose2d(3, 4, 3, padding=4)(X),
        r"^ConvTranspose2d\(3, 4, .* from an input of \(5, 7\), the padding leaves an output of \(-1, 1\)",
    ),
    "layer: a word": (lambda: ConvTranspose2d(3, 4, 3, padding="valid"), "ConvTranspose2d expected padding in numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- PyTorch, live ---------------------------------------------------------------------------------------------------


@pytest.mark.torch
@given(a_setting())
def test_conv2d_equals_pytorchs_for_any_setting(s):
    import torch
    from torch.nn import functional as F

    x, W, dy = arrays(s)
    (top, bottom), (left, right) = s.padding
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, W)]
    padded = F.pad(theirs[0], (left, right, top, bottom))
    y = F.conv2d(padded, theirs[1], None, s.stride, 0, s.dilation, s.groups)
    y.backward(torch.tensor(dy))
    came = value_and_gradients(lambda *t: conv2d(*t, None, *s.arguments), dy, x, W)
    equal(came, [y.detach().numpy(), *(tensor.grad.numpy() for tensor in theirs)], 1e-11)


@pytest.mark.torch
@given(a_setting(), st.data())
def test_conv_transpose2d_equals_pytorchs_for_any_setting(s, data):
    import torch
    from torch.nn import functional as F

    more = tuple(data.draw(st.integers(0, most)) for most in most_output_padding(s))
    around_each = tuple(before for before, _ in s.padding)
    both = tuple((n, n) for n in around_each)
    sizes = geometry.transposed_sizes(s.y[2:], s.kernel, s.stride, both, s.dilation, more)
    assume(min(sizes) > 0)
    x, W, dy = draw(*s.y), draw(*s.weight, seed=1), draw(s.x[0], s.x[1], *sizes, seed=2)
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, W)]
    y = F.conv_transpose2d(*theirs, None, s.stride, around_each, more, s.groups, s.dilation)
    y.backward(torch.tensor(dy))
    came = value_and_gradients(
        lambda *t: conv_transpose2d(*t, None, s.stride, around_each, more, s.groups, s.dilation), dy, x, W
    )
    equal(came, [y.detach().numpy(), *(tensor.grad.numpy() for tensor in theirs)], 1e-11)


# -- planted faults --------------------------------------------------------------------------------------------------


def turned_padding(padding):
    return tuple(side[::-1] for side in padding)


def y_with(change):
    """plain.convolve of arguments that `change` has falsified; a bias, where one is handed on, is right."""

    def convolve(x, W, s, p, d, g, bias=None):
        y = plain.convolve(*change(x, W, s, p, d, g))
        return y if bias is None else y + bias[:, None, None]

    return convolve


def dx_with(change):
    def input_gradient(dy, W, n, s, p, d, g, bias=None):
        dx = plain.input_gradient(*change(dy, W, n, s, p, d, g))
        return dx if bias is None else dx + bias[:, None, None]

    return input_gradient


def dW_with(change):
    return lambda x, dy, k, s, p, d, g: plain.weight_gradient(*change(x, dy, k, s, p, d, g))


def turned(W):
    return W[:, :, ::-1, ::-1]


def other_group(x, g):
    """The channels moved by a group's width."""
    return np.roll(x, x.shape[1] // g, axis=1)


ONES, EXTENDED = (1, 1), transposed._extended
FAULTS = {
    "the kernel turned": (fast, "convolve", y_with(lambda x, W, *a: (x, turned(W), *a))),
    "strides of the wrong axes": (fast, "convolve", y_with(lambda x, W, s, *a: (x, W, s[::-1], *a))),
    "padding on the other sides": (
        fast, "convolve", y_with(lambda x, W, s, p, *a: (x, W, s, turned_padding(p), *a))
    ),
    "padding of the other axis": (fast, "convolve", y_with(lambda x, W, s, p, *a: (x, W, s, p[::-1], *a))),
    "dilation forgotten": (fast, "convolve", y_with(lambda x, W, s, p, d, g: (x, W, s, p, ONES, g))),
    "another group's channels": (
        fast, "convolve", y_with(lambda x, W, s, p, d, g: (other_group(x, g), W, s, p, d, g))
    ),
    "∂L/∂x: the kernel turned": (fast, "input_gradient", dx_with(lambda dy, W, *a: (dy, turned(W), *a))),
    "∂L/∂x: padding on the other sides": (
        fast, "input_gradient", dx_with(lambda dy, W, n, s, p, *a: (dy, W, n, s, turned_padding(p), *a))
    ),
    "∂L/∂x: dilation forgotten": (
        fast, "input_gradient", dx_with(lambda dy, W, n, s, p, d, g: (dy, W, n, s, p, ONES, g))
    ),
    "∂L/∂x: the last row of dy forgotten": (
        fast, "input_gradient", dx_with(lambda dy, *a: (dy[:, :, :-1], *a))
    ),
    "∂L/∂x: another group's channels": (
        fast, "input_gradient",
        dx_with(lambda dy, W, n, s, p, d, g: (other_group(dy, g), W, n, s, p, d, g)),
    ),
    "∂L/∂W: dilation forgotten": (
        fast, "weight_gradient", dW_with(lambda x, dy, k, s, p, d, g: (x, dy, k, s, p, ONES, g))
    ),
    "∂L/∂W: strides of the wrong axes": (
        fast, "weight_gradient", dW_with(lambda x, dy, k, s, *a: (x, dy, k, s[::-1], *a))
    ),
    "∂L/∂W: padding of the other axis": (
        fast, "weight_gradient", dW_with(lambda x, dy, k, s, p, *a: (x, dy, k, s, p[::-1], *a))
    ),
    "∂L/∂W: the last image forgotten": (
        fast, "weight_gradient", dW_with(lambda x, dy, *a: (x[:-1], dy[:-1], *a))
    ),
    "∂L/∂W: averaged over the batch": (
        fast, "weight_gradient", dW_with(lambda x, dy, *a: (x / max(len(x), 1), dy, *a))
    ),
    "∂L/∂b: a column left out": (conv, "sum_of_channels", lambda dy: dy[..., 1:].sum(axis=(0, 2, 3))),
    "∂L/∂b: averaged over the batch": (conv, "sum_of_channels", lambda dy: dy.sum(axis=(2, 3)).mean(axis=0)),
    "transposed, ∂L/∂b: none": (transposed, "sum_of_channels", lambda dy: np.zeros(dy.shape[1])),
    "transposed: output padding before the image": (
        transposed, "_extended", lambda x, rows: np.roll(EXTENDED(x, rows), rows[0] - x.shape[2], axis=2)
    ),
}  # fmt: skip


def all_is_right():
    for s in SETTINGS.values():
        conv2d_is_right(s)
        transposed_is_right(s, most_output_padding(s))


@pytest.mark.parametrize(("module", "name", "faulty"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(module, name, faulty, monkeypatch):
    for s in SETTINGS.values():
        by_definition(s)
    monkeypatch.setattr(module, name, faulty)
    with pytest.raises((AssertionError, ValueError)):
        all_is_right()


def test_what_faults_are_planted_with_is_itself_right(monkeypatch):
    for name, planted in (("convolve", y_with), ("input_gradient", dx_with), ("weight_gradient", dW_with)):
        monkeypatch.setattr(fast, name, planted(lambda *given: given))
    all_is_right()


@pytest.mark.parametrize("before", [(2, 0), (0, 2), (3, 4)])
def test_padding_that_takes_everything_away_leaves_zeros(before):
    """The gradient of a wide padding is a crop, here of more rows than there are."""
    s = Setting((1, 1, 1, 1), 1, (1, 1), (3, 1), (before, (0, 0)), (2, 1), 1)
    conv2d_is_right(s)


def test_two_threads_share_a_batch_and_change_nothing(monkeypatch):
    x, W = draw(5, 8, 6, 7), draw(16, 8, 3, 3)
    arguments = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    dy = draw(5, 16, 6, 7, seed=1)

    def all_three():
        return (fast.convolve(x, W, *arguments), fast.input_gradient(dy, W, x.shape, *arguments),
                fast.weight_gradient(x, dy, (3, 3), *arguments))  # fmt: skip

    alone = all_three()
    monkeypatch.setattr(fast, "SMALL", 0)
    monkeypatch.setattr(fast, "threads", lambda: 2)
    monkeypatch.setattr(blocks, "threads", lambda: 2)
    for came, expected in zip(all_three(), alone, strict=True):
        np.testing.assert_allclose(came, expected, rtol=1e-12, atol=1e-12)
