"""Long float32 sums keep their digits: against float64, with bounds that one chain of additions does not meet."""

import numpy as np
import pytest

from scratch import Parameter, Tensor
from scratch.activations import softmax
from scratch.layers import BatchNorm1d, BatchNorm2d, GroupNorm, Linear, conv2d
from scratch.layers.attention import attention_weights
from scratch.layers.normalization import layer_norm, rms_norm
from scratch.losses import cross_entropy
from scratch.optim import clip_grad_norm_
from scratch.sums import BLOCK, LONG, column_dots, column_sums, row_dots, row_sums

LENGTHS = (1, 7, BLOCK, LONG - 1, LONG, LONG + 1, 8 * LONG, 8 * LONG + 3, 2**18 + 5)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_in_blocks_are_sums(n, dtype, rng):
    a, b = rng.random((2, 3, n)).astype(dtype)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    bound = {np.float32: 2e-6, np.float64: 1e-13}[dtype]
    for came, right in (
        (row_sums(a), wide_a.sum(1)), (row_dots(a, b), (wide_a * wide_b).sum(1)),
        (row_dots(a, b[0]), (wide_a * wide_b[0]).sum(1)), (column_sums(np.ascontiguousarray(a.T)), wide_a.sum(1)),
        (column_sums(a.T), wide_a.sum(1)), (column_dots(a.T, b.T), (wide_a * wide_b).sum(1)),
        (column_sums(np.stack([a.T, b.T])), [wide_a.sum(1), wide_b.sum(1)]),
    ):  # fmt: skip
        assert came.dtype == dtype
        np.testing.assert_allclose(came, right, rtol=bound)


def test_sums_of_nothing():
    assert row_sums(np.ones((0, LONG))).shape == row_dots(np.ones((0, 8 * LONG)), np.ones(8 * LONG)).shape == (0,)
    empty = np.ones((4 * LONG, 0))
    assert column_sums(empty).shape == column_dots(empty, empty).shape == (0,)
    assert Tensor(np.ones((2, LONG, 0))).sum(1).shape == Tensor(np.ones((2, LONG, 0))).mean(1).shape == (2, 0)
    assert (row_sums(np.ones((2, 0))) == 0).all() and (column_sums(np.ones((0, 2))) == 0).all()


@pytest.mark.parametrize(("n", "std", "bound"), [(2**20, 1.0, 2e-5), (32768, 0.01, 1e-3)])
def test_a_layer_norm_over_long_rows(n, std, bound, rng):
    x = (rng.standard_normal((2, n)) * std + 100).astype(np.float32)
    wide = x.astype(np.float64)
    right = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer_norm(Tensor(x), n).data, right, atol=bound)
    np.testing.assert_allclose(GroupNorm(1, 4)(Tensor(x.reshape(2, 4, -1))).data.reshape(2, n), right, atol=bound)
    norm = np.sqrt((wide * wide).mean(-1, keepdims=True))
    np.testing.assert_allclose(rms_norm(Tensor(x), n, eps=0.0).data, wide / norm, rtol=1e-6)


@pytest.mark.parametrize("shape", [(300_000, 3), (5000, 3, 8, 8), (5, 3, 300, 300)])
@pytest.mark.parametrize("last", [False, True])
def test_the_statistics_of_a_large_batch(shape, last, rng):
    x = (rng.standard_normal(shape) * 0.1 + 100).astype(np.float32)
    if last and len(shape) > 2:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    layer = (BatchNorm1d if len(shape) == 2 else BatchNorm2d)(3)
    layer.momentum = 1.0
    layer(Tensor(x))
    axes = (0, *range(2, len(shape)))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(layer.running_mean.data, wide.mean(axis=axes), rtol=5e-7)
    np.testing.assert_allclose(layer.running_var.data, wide.var(axis=axes, ddof=1), rtol=2e-5)


def test_gradients_summed_over_many_rows(rng):
    R = 400_000
    x, layer = Tensor((rng.random((R, 2)) + 1).astype(np.float32)), Linear(2, 3)
    dy = (rng.random((R, 3)) + 1).astype(np.float32)
    right = dy.astype(np.float64).sum(axis=0)
    layer(x).backward(dy)
    np.testing.assert_allclose(layer.bias.grad, right, rtol=1e-6)
    bias = Tensor(np.zeros(3, np.float32), requires_grad=True)
    (Tensor(np.zeros((R, 3), np.float32)) + bias).backward(dy)
    np.testing.assert_allclose(bias.grad, right, rtol=1e-6)
    weight, shift = (Tensor(np.ones(3, np.float32), requires_grad=True) for _ in range(2))
    layer_norm(Tensor(dy), 3, weight, shift).backward(dy)
    np.testing.assert_allclose(shift.grad, right, rtol=1e-6)
    images = Tensor(np.zeros((R // 100, 1, 10, 10), np.float32))
    w, b = Tensor(np.zeros((3, 1, 1, 1), np.float32)), Tensor(np.zeros(3, np.float32), requires_grad=True)
    conv2d(images, w, b).backward(np.ascontiguousarray(dy.reshape(-1, 10, 10, 3)).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(b.grad, right, rtol=1e-6)


def test_a_softmax_over_a_million_classes(rng):
    x = rng.random((1, 2**20)).astype(np.float32)
    wide = np.exp(x.astype(np.float64))
    right = wide / wide.sum()
    np.testing.assert_allclose(softmax(Tensor(x), -1).data, right, rtol=1e-6)
    t = Tensor(x, requires_grad=True)
    cross_entropy(t, np.array([0])).backward()
    np.testing.assert_allclose(t.grad[0, 1:], right[0, 1:], rtol=1e-6)


@pytest.mark.parametrize("shape", [(300_000, 3), (2, 200_000, 3), (100_000, 2, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_and_means_over_a_long_axis(shape, keepdims, rng):
    x = (rng.random(shape) + 1).astype(np.float32)
    wide, long = x.astype(np.float64), int(np.argmax(shape))
    for axis in (long, long - len(shape)):
        np.testing.assert_allclose(
            Tensor(x).sum(axis, keepdims).data, wide.sum(axis=long, keepdims=keepdims), rtol=1e-6
        )
        np.testing.assert_allclose(
            Tensor(x).mean(axis, keepdims).data, wide.mean(axis=long, keepdims=keepdims), rtol=1e-6
        )
    y = Tensor(np.moveaxis(x, long, 0)).sum(0)  # strided
    np.testing.assert_allclose(y.data, wide.sum(axis=long), rtol=1e-6)
    assert y.dtype == np.float32 and Tensor(np.ones(shape, np.int64)).sum(long).dtype == np.int64


def test_the_norm_of_millions_of_gradients(rng):
    p = Parameter(np.zeros(2**22, np.float32))
    p.grad = (rng.random(2**22) + 1).astype(np.float32)
    right = np.sqrt((p.grad.astype(np.float64) ** 2).sum())
    for norm_type, norm in ((2, right), (1, p.grad.sum(dtype=np.float64))):
        np.testing.assert_allclose(clip_grad_norm_([p], 1e9, norm_type), norm, rtol=1e-6)


def test_attention_over_many_keys(rng):
    S = 2**16
    q, k = np.ones((1, 1, 1), np.float32), rng.random((1, S, 1)).astype(np.float32)
    wide = np.exp(k.astype(np.float64)).reshape(1, 1, S)
    weights = attention_weights(Tensor(q), Tensor(k)).data
    np.testing.assert_allclose(weights, wide / wide.sum(), rtol=1e-6)
