"""float16: computed in float32 and rounded once, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import scratch.activations as activations
import scratch.layers as layers
import scratch.losses as losses
from scratch import Tensor
from scratch.layers.attention import blocked_attention, packed_attention, scaled_dot_product_attention
from scratch.layers.convolution import conv_transpose2d
from scratch.layers.normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from scratch.tensor import Buffer, matmul

# name: (operation, shapes of its arguments). Numbers of size 30 overflow as squares or sums of products; see `numbers`.
LABELS = np.arange(60) % 7
ELEMENTWISE = ("sigmoid", "tanh", "silu", "hardswish", "elu", "softplus", "gelu")
OPERATIONS = {
    **{name: (getattr(activations, name), [(40, 7)]) for name in ELEMENTWISE},
    "gelu tanh": (lambda x: activations.gelu(x, "tanh"), [(40, 7)]),
    "softmax": (lambda x: activations.softmax(x, -1), [(40, 7)]),
    "softmax of columns": (lambda x: activations.softmax(x, 0), [(40, 7)]),
    "log_softmax": (lambda x: activations.log_softmax(x, -1), [(40, 7)]),
    "layer_norm": (lambda x, w, b: layer_norm(x, 200, w, b), [(40, 200), (200,), (200,)]),
    "rms_norm": (lambda x, w: rms_norm(x, 200, w, 1e-5), [(40, 200), (200,)]),
    "group_norm": (lambda x, w, b: group_norm(x, 2, w, b), [(3, 4, 9, 9), (4,), (4,)]),
    "instance_norm": (lambda x, w, b: instance_norm(x, None, None, w, b), [(3, 4, 9, 9), (4,), (4,)]),
    "batch_norm": (lambda x, w, b: batch_norm(x, None, None, w, b, True), [(30, 4, 9, 9), (4,), (4,)]),
    "linear": (layers.linear, [(3000, 9), (4, 9), (4,)]),
    "matmul": (matmul, [(40, 9), (9, 4)]),
    "conv2d": (lambda x, w, b: layers.conv2d(x, w, b, padding=1), [(2, 3, 20, 20), (4, 3, 3, 3), (4,)]),
    "conv_transpose2d": (conv_transpose2d, [(2, 3, 20, 20), (3, 4, 3, 3), (4,)]),
    "avg_pool2d": (lambda x: layers.avg_pool2d(x, 3, 1, 1), [(2, 3, 9, 9)]),
    "global average": (lambda x: layers.adaptive_avg_pool2d(x, 1), [(2, 3, 50, 50)]),
    "attention": (scaled_dot_product_attention, [(2, 5, 8), (2, 6, 8), (2, 6, 8)]),
    "packed_attention": (lambda x: packed_attention(x, num_heads=2), [(2, 5, 24)]),
    "blocked_attention": (lambda q, k, v: blocked_attention(q, k, v, block_size=3), [(2, 5, 8)] * 3),
    "embedding": (lambda w: layers.embedding(np.zeros(3000, int), w), [(2, 3)]),
    "index": (lambda x: x[np.zeros(3000, int)], [(2, 3)]),
    "sum": (lambda x: x.sum(axis=0), [(3000, 3)]),
    "mean": (lambda x: x.mean(axis=0), [(3000, 3)]),
    "max": (lambda x: (x * 0).max(axis=0), [(3000, 3)]),
    "broadcast": (lambda x, b: x + b, [(3000, 3), (3,)]),
    "cross_entropy": (lambda x: losses.cross_entropy(x, LABELS), [(60, 7)]),
    "smoothed": (lambda x: losses.cross_entropy(x, LABELS, label_smoothing=0.1, reduction="none"), [(60, 7)]),
    "nll_loss": (lambda x: losses.nll_loss(x, LABELS), [(60, 7)]),
    "bce with logits": (lambda x: losses.binary_cross_entropy_with_logits(x, np.ones((90, 7))), [(90, 7)]),
    "mse_loss": (lambda x: losses.mse_loss(x, np.zeros((300, 300))), [(300, 300)]),
    "l1_loss": (lambda x: losses.l1_loss(x, np.zeros((300, 300))), [(300, 300)]),
    "huber_loss": (lambda x: losses.huber_loss(x, np.zeros((300, 300))), [(300, 300)]),
    "kl_div": (lambda x: losses.kl_div(x, np.full((300, 300), 0.5)), [(300, 300)]),
}


def numbers(rng, shapes):
    return [(rng.standard_normal(shape) * (12 if i == 0 else 1)).astype(np.float16) for i, shape in enumerate(shapes)]


def run(operation, arrays, upstream):
    inputs = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    y = operation(*inputs)
    y.backward(upstream(y.shape).astype(y.dtype))
    return y.data, [x.grad for x in inputs]


@pytest.mark.parametrize("name", OPERATIONS)
def test_float16_gives_the_float32_result_rounded(name, rng):
    operation, shapes = OPERATIONS[name]
    arrays, seed = numbers(rng, shapes), int(rng.integers(2**31))

    def upstream(shape):  # representable in both, mostly of one sign, so that its sums pass 2048 summands' worth
        return np.random.default_rng(seed).integers(1, 4, shape) / 4

    y, gradients = run(operation, arrays, upstream)
    right, right_gradients = run(operation, [array.astype(np.float32) for array in arrays], upstream)
    with np.errstate(over="ignore"):
        for came, expected in zip((y, *gradients), (right, *right_gradients), strict=True):
            assert came.dtype == np.float16 and expected.dtype == np.float32
            assert np.isfinite(expected).all()
            np.testing.assert_allclose(came, expected.astype(np.float16), rtol=2**-10, atol=2**-22)


# Values of PyTorch 2.13, which computes in float32 as well.


def test_a_layer_norm_whose_squares_overflow():
    x = np.tile(np.array([30, -30], np.float16), (1, 384))
    layer = layers.LayerNorm(768).to(np.float16)
    np.testing.assert_array_equal(layer(Tensor(x)).data[0, :4], [1, -1, 1, -1])
    np.testing.assert_array_equal(layers.RMSNorm(768).to(np.float16)(Tensor(x)).data[0, :4], [1, -1, 1, -1])


def test_rows_of_softmax_far_below_another_keep_their_digits():
    y = activations.softmax(Tensor(np.array([[0, 0], [-16, -15]], np.float16)), -1).data
    np.testing.assert_array_equal(y, np.array([[0.5, 0.5], [0.26894, 0.73106]], np.float16))


def test_a_mean_over_more_than_65504_numbers():
    x = Tensor(np.ones((300, 300), np.float16), requires_grad=True)
    loss = losses.mse_loss(x, np.zeros((300, 300)))
    loss.backward(np.float16(1024))
    assert loss.item() == 1 and loss.dtype == np.float16
    np.testing.assert_allclose(x.grad, 2048 / 90000, rtol=2**-11)
    assert x.mean().item() == 1


def test_the_wider_type_wins_in_a_layer_and_the_inputs_type_in_a_loss():
    x, w = Tensor(np.ones((2, 3), np.float16)), Tensor(np.ones((4, 3), np.float32))
    assert layers.linear(x, w).dtype == np.float32
    assert losses.mse_loss(x, Tensor(np.ones((2, 3), np.float32), requires_grad=True)).dtype == np.float16
    assert losses.mse_loss(input=x, target=np.ones((2, 3))).dtype == np.float16


def test_running_statistics_of_a_float16_batch_norm_move(rng):
    x = (rng.standard_normal((64, 3, 8, 8)) * 2 + 300).astype(np.float16)
    mean, var = Buffer(np.zeros(3, np.float16)), Buffer(np.ones(3, np.float16))
    batch_norm(Tensor(x), mean, var, training=True, momentum=0.5)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean.data, 0.5 * wide.mean(axis=(0, 2, 3)), rtol=2**-10)
    np.testing.assert_allclose(var.data, 0.5 + 0.5 * wide.var(axis=(0, 2, 3), ddof=1), rtol=2**-9)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrences_in_float16(kind, rng):
    x, layer = (rng.standard_normal((50, 2, 3)) * 4).astype(np.float16), getattr(layers, kind)(3, 4)
    layer.to(np.float16)
    y = layer(Tensor(x))[0]
    y.sum().backward()
    came = [p.grad for p in layer.parameters()]
    layer.to(np.float32)
    expected = layer(Tensor(x.astype(np.float32)))[0]
    expected.sum().backward()
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data, expected.data, atol=2**-11)
    for mine, parameter in zip(came, layer.parameters(), strict=True):
        np.testing.assert_allclose(mine, parameter.grad, rtol=2**-9, atol=2**-9 * np.abs(parameter.grad).max())
