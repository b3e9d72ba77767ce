"""Initial weights: bounds exactly, moments of many draws within four standard errors, gains by PyTorch's table."""

import math

import numpy as np
import pytest

from scratch import manual_seed
from scratch.initializers import (
    GAINS,
    calculate_gain,
    fans,
    he_normal,
    he_uniform,
    normal,
    orthogonal,
    truncated_normal,
    uniform,
    xavier_normal,
    xavier_uniform,
)
from scratch.layers import Linear

SHAPE = (300, 400)  # (out, in): 120,000 numbers
KERNEL = (60, 40, 5, 7)  # in 40 · 35 = 1,400 and out 60 · 35 = 2,100
N = 300 * 400


def check_normal(weights, mean, std):
    """Mean, variance and the share within one σ."""
    n = weights.size
    assert abs(weights.mean() - mean) < 4 * std / n**0.5
    assert abs(weights.var() / std**2 - 1) < 4 * (2 / n) ** 0.5
    share = math.erf(1 / 2**0.5)
    assert abs((np.abs(weights - mean) < std).mean() - share) < 4 * (share * (1 - share) / n) ** 0.5


def check_uniform(weights, low, high):
    """Nothing outside, nearly all of the interval used, mean, variance and the quarters' shares."""
    n, width = weights.size, high - low
    assert weights.min() >= np.float32(low) and weights.max() <= np.float32(high)
    assert weights.min() < low + 12 * width / n and weights.max() > high - 12 * width / n
    assert abs(weights.mean() - (low + high) / 2) < 4 * width / (12 * n) ** 0.5
    assert abs(weights.var() / (width**2 / 12) - 1) < 4 * (0.8 / n) ** 0.5
    quarters = np.histogram(weights, 4, (float(np.float32(low)), float(np.float32(high))))[0] / n
    assert np.abs(quarters - 0.25).max() < 4 * (0.25 * 0.75 / n) ** 0.5


def test_normal_and_uniform():
    check_normal(normal(SHAPE, -0.3, 0.02), -0.3, 0.02)
    check_uniform(uniform(SHAPE, -0.3, 0.7), -0.3, 0.7)


@pytest.mark.parametrize(("shape", "inputs", "outputs"), [
    ((3, 5), 5, 3), (KERNEL, 1400, 2100), ((8, 3, 4), 12, 32),
])  # fmt: skip
def test_fans_count_the_kernel(shape, inputs, outputs):
    assert fans(shape) == (inputs, outputs)


@pytest.mark.parametrize("gain", [1.0, 5 / 3])
def test_xavier(gain):
    bound = gain * (6 / 700) ** 0.5
    check_uniform(xavier_uniform(SHAPE, gain), -bound, bound)
    check_normal(xavier_normal(SHAPE, gain), 0, gain * (2 / 700) ** 0.5)
    check_normal(xavier_normal(KERNEL), 0, (2 / 3500) ** 0.5)


@pytest.mark.parametrize(("options", "variance"), [
    ({}, 2 / 400),
    ({"mode": "fan_out"}, 2 / 300),
    ({"a": 0.5}, 2 / 1.25 / 400),
    ({"nonlinearity": "relu"}, 2 / 400),
    ({"nonlinearity": "tanh", "mode": "fan_out"}, 25 / 9 / 300),
    ({"nonlinearity": "linear"}, 1 / 400),
])  # fmt: skip
def test_he(options, variance):
    check_normal(he_normal(SHAPE, **options), 0, variance**0.5)
    check_uniform(he_uniform(SHAPE, **options), -((3 * variance) ** 0.5), (3 * variance) ** 0.5)


def test_he_keeps_the_power_of_a_signal_through_many_relu_layers_and_smaller_weights_lose_it():
    """What the formula is for: 20 layers of 512 with ReLU."""
    x = np.random.default_rng(0).standard_normal((512, 200)).astype(np.float32)
    kept = lost = x
    for _ in range(20):
        w = he_normal((512, 512))
        kept, lost = np.maximum(w @ kept, 0), np.maximum(w / math.sqrt(2) @ lost, 0)
    assert 0.3 < (kept * kept).mean() / (x * x).mean() < 3
    assert (lost * lost).mean() / (x * x).mean() < 1e-5


def test_truncated_normal_has_the_moments_of_the_truncated_distribution():
    weights = truncated_normal(SHAPE, mean=0.5, std=1.0, low=-0.5, high=2.0)
    assert weights.min() >= -0.5 and weights.max() <= 2.0
    a, b = -1.0, 1.5  # the bounds in units of σ, seen from the mean
    density = [math.exp(-t * t / 2) / math.sqrt(2 * math.pi) for t in (a, b)]
    inside = (math.erf(b / 2**0.5) - math.erf(a / 2**0.5)) / 2
    shift = (density[0] - density[1]) / inside
    variance = 1 + (a * density[0] - b * density[1]) / inside - shift**2
    assert abs(weights.mean() - (0.5 + shift)) < 4 * (variance / N) ** 0.5
    assert abs(weights.var() / variance - 1) < 4 * (2 / N) ** 0.5
    check_normal(truncated_normal(SHAPE, std=0.02), 0, 0.02)  # bounds a hundred σ away


@pytest.mark.parametrize(("shape", "gain"), [((5, 9), 1.0), ((9, 5), 1.5), ((6, 6), 1.0), ((4, 3, 2, 5), 2.0)])
def test_orthogonal_rows_or_columns(shape, gain):
    q = orthogonal(shape, gain, np.float64)
    assert q.shape == shape
    flat = q.reshape(shape[0], -1)
    small = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-13)


def test_orthogonal_is_uniform_over_all_orthogonal_matrices():
    """Unsigned QR would make diagonal elements negative most of the time; by symmetry each sign is as likely."""
    corners = np.array([orthogonal((3, 3))[0, 0] for _ in range(2000)])
    assert abs((corners > 0).mean() - 0.5) < 4 * 0.5 / 2000**0.5
    assert abs((corners**2).mean() - 1 / 3) < 4 * (4 / 45 / 2000) ** 0.5  # a coordinate of a random unit vector


@pytest.mark.parametrize("bias", [True, False])
def test_linear_draws_from_pytorchs_default_bound(bias):
    layer = Linear(400, 300, bias)
    check_uniform(layer.weight.data, -1 / 20, 1 / 20)
    if bias:
        assert np.abs(Linear(400, 5000).bias.data).max() <= np.float32(1 / 20)
        check_uniform(Linear(400, 5000).bias.data, -1 / 20, 1 / 20)


def test_pytorchs_default_is_he_uniform_with_a_of_the_root_of_five():
    manual_seed(1)
    ours = Linear(400, 300).weight.data
    manual_seed(1)
    np.testing.assert_allclose(he_uniform(SHAPE, a=math.sqrt(5)), ours, rtol=1e-6)


TABLE = {
    "linear": 1, "conv1d": 1, "conv2d": 1, "conv3d": 1, "conv_transpose1d": 1, "conv_transpose2d": 1,
    "conv_transpose3d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 0.75,
}  # fmt: skip


def test_gains_are_those_of_pytorchs_documentation():
    assert pytest.approx(TABLE) == GAINS
    assert calculate_gain("leaky_relu") == pytest.approx((2 / 1.0001) ** 0.5)
    assert calculate_gain("leaky_relu", 0.2) == pytest.approx((2 / 1.04) ** 0.5)
    assert calculate_gain("leaky_relu", 0.0) == calculate_gain("relu") == calculate_gain("relu", 0.7)


@pytest.mark.torch
def test_gains_are_those_of_pytorch_here():
    torch = pytest.importorskip("torch")
    for name in (*GAINS, "leaky_relu"):
        assert calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


@pytest.mark.parametrize("initializer", [
    uniform, normal, truncated_normal, xavier_uniform, xavier_normal, he_uniform, he_normal, orthogonal,
])  # fmt: skip
def test_dtype_shape_and_seed(initializer):
    assert initializer((3, 4)).dtype == np.float32 and initializer([3, 4, 2], dtype=np.float64).dtype == np.float64
    manual_seed(5)
    first, second = initializer((3, 4)), initializer((3, 4))
    manual_seed(5)
    np.testing.assert_array_equal(initializer((3, 4)), first)
    assert first.shape == (3, 4) and (first != second).any()


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda: xavier_uniform((3,)), r"at least two axes, got shape \(3,\)"),
    (lambda: he_normal((3,)), r"at least two axes, got shape \(3,\)"),
    (lambda: orthogonal((3,)), r"at least two axes, got shape \(3,\)"),
    (lambda: he_normal((3, 4), mode="fan_on"), "'fan_in' or 'fan_out', got 'fan_on'"),
    (lambda: he_uniform((3, 4), nonlinearity="swosh"), "expected one of .*leaky_relu.*, got 'swosh'"),
    (lambda: truncated_normal((3,), 0.0, 1.0, 5.0, 6.0), r"only 2.9e-07 of N\(0.0, 1.0²\) lies between 5.0 and 6.0"),
    (lambda: truncated_normal((3,), low=1.0, high=-1.0), "lies between 1.0 and -1.0"),
    # Φ(−0.035) − Φ(−0.05)
    (lambda: truncated_normal((3,), 0.5, 2.0, 0.4, 0.43), r"only 0.006 of N\(0.5, 2.0²\) lies between 0.4 and 0.43"),
])  # fmt: skip
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
