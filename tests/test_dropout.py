"""Dropout: how often, how much, when not at all, and from which random numbers."""

import sys

import numpy as np
import pytest

from scratch import Tensor, manual_seed
from scratch.layers import Dropout, Dropout2d, dropout, dropout2d
from scratch.random import stream


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_as_many_are_dropped_as_asked_and_the_rest_is_scaled(p):
    x = np.random.default_rng(0).uniform(1, 2, (300, 400)).astype(np.float32)
    y = dropout(x, p).data
    kept = y != 0
    assert abs((1 - kept.mean()) - p) < 4 * (p * (1 - p) / x.size) ** 0.5  # four standard errors
    np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-6)


def test_which_are_dropped_depends_on_neither_row_nor_column_nor_neighbour():
    """Four elements come of one 64-bit draw: their fates must be as independent as those of any others."""
    kept = dropout(np.ones((400, 512), np.float32), 0.5).data != 0
    error = 4 * 0.5 / 400**0.5
    assert np.abs(kept.mean(axis=0) - 0.5).max() < error * 1.3 and np.abs(kept.mean(axis=1) - 0.5).max() < error * 1.2
    centred = kept.reshape(-1) - 0.5
    for lag in (1, 2, 3, 4, 512):
        assert abs((centred[lag:] * centred[:-lag]).mean()) < 4 * 0.25 / centred.size**0.5


def test_the_gradient_passes_where_the_value_did_with_the_same_scale():
    x = Tensor(np.random.default_rng(0).uniform(1, 2, (5, 7)), requires_grad=True)
    y = dropout(x, 0.4)
    dy = np.random.default_rng(1).standard_normal((5, 7))
    y.backward(dy)
    np.testing.assert_allclose(x.grad, dy * (y.data / x.data), rtol=1e-14)
    assert 0 < (x.grad == 0).sum() < x.size


def test_evaluation_and_p_0_return_the_input_itself_and_p_1_zeros():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 4)), requires_grad=True)
    layer = Dropout(0.5)
    assert layer.eval()(x) is x and Dropout(0)(x) is x and dropout(x, 0.9, training=False) is x
    y = Dropout(1)(x)
    assert not y.data.any()
    y.backward(np.ones((3, 4)))
    assert not x.grad.any()


def test_the_seed_repeats_it_and_every_call_draws_anew():
    x = np.ones((8, 9), np.float32)
    manual_seed(3)
    first, second = dropout(x, 0.5).data, dropout(x, 0.5).data
    manual_seed(3)
    np.testing.assert_array_equal(dropout(x, 0.5).data, first)
    assert (first != second).any()


def test_inside_a_stream_it_is_a_function_of_seed_step_shard_and_call():
    x = np.ones((8, 9), np.float32)

    def drawn(calls=1, **where):
        with stream(**where):
            return [dropout(x, 0.5).data for _ in range(calls)]

    first, second = drawn(calls=2, seed=1, step=2, shard=3)
    manual_seed(99)  # of no influence inside a stream
    np.testing.assert_array_equal(drawn(seed=1, step=2, shard=3)[0], first)
    others = [second, *(drawn(**w)[0] for w in (
        {"seed": 2, "step": 2, "shard": 3}, {"seed": 1, "step": 3, "shard": 3}, {"seed": 1, "step": 2, "shard": 4},
    ))]  # fmt: skip
    assert all((other != first).any() for other in others)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0, 4), (2, 3, 5)])
def test_any_number_of_elements(shape):
    y = dropout(np.ones(shape, np.float32), 0.5)
    assert y.shape == shape and set(np.unique(y.data)) <= {0, 2}


def test_sixteen_random_bits_decide_an_element(monkeypatch):
    """Of all 2¹⁶ values exactly the share asked for keeps, and a 64-bit word is drawn for each four elements."""

    class EveryValue:
        bit_generator = property(lambda self: self)
        asked: list[int] = []

        def random_raw(self, words):
            self.asked.append(words)
            return np.arange(4 * words, dtype=np.uint16).view(np.uint64)

    monkeypatch.setattr(sys.modules["scratch.layers.dropout"], "generator", EveryValue)
    for p in (0.25, 2**-16, 1 - 2**-16, 1):
        assert (dropout(np.ones(2**16), p).data != 0).sum() == round((1 - p) * 2**16)
    EveryValue.asked.clear()
    for n in range(10):
        dropout(np.ones(n), 0.5)
    assert EveryValue.asked == [-(-n // 4) for n in range(10)]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_p_is_a_probability(p):
    with pytest.raises(ValueError, match=f"Dropout expected a probability from 0 to 1, got {p}"):
        Dropout(p)
    with pytest.raises(ValueError, match="dropout expected a probability"):
        dropout(np.ones(3), p)


def test_a_tiny_p_keeps_almost_all():
    y = dropout(np.ones(10_000, np.float32), 1e-7).data
    np.testing.assert_allclose(y, 1, rtol=1e-6)


# -- whole channels ----------------------------------------------------------------------------------------------


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_channels_are_dropped_as_a_whole_each_for_itself(p):
    x = Tensor(channels_last(np.random.default_rng(0).uniform(1, 2, (60, 50, 3, 4))), requires_grad=True)
    y = dropout2d(x, p)
    kept = y.data[:, :, 0, 0] != 0
    np.testing.assert_allclose(y.data, x.data * kept[..., None, None] / (1 - p), rtol=1e-14)
    error = 4 * (p * (1 - p)) ** 0.5
    assert abs(kept.mean() - (1 - p)) < error / 3000**0.5
    assert np.abs(kept.mean(axis=0) - (1 - p)).max() < error / 60**0.5  # neither an image nor a channel decides
    assert np.abs(kept.mean(axis=1) - (1 - p)).max() < error / 50**0.5
    dy = channels_last(np.random.default_rng(1).standard_normal(x.shape))
    (dx,) = y._backward(dy)
    np.testing.assert_allclose(dx, dy * kept[..., None, None] / (1 - p), rtol=1e-14)
    assert y.data.strides == dx.strides == x.data.strides


def test_channels_in_evaluation_with_p_0_with_p_1_and_from_one_seed():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 20, 2, 5)))
    layer = Dropout2d(0.5)
    manual_seed(3)
    first = layer(x).data
    manual_seed(3)
    np.testing.assert_array_equal(layer(x).data, first)
    assert (layer(x).data != first).any() and not Dropout2d(1)(x).data.any()
    assert Dropout2d(0)(x) is x and layer.eval()(x) is x
    assert repr(layer) == "Dropout2d(p=0.5)"


def test_channels_need_images_and_a_probability():
    with pytest.raises(ValueError, match=r"Dropout2d\(p=0.5\) expected shape \(N, C, H, W\), got \(3, 4, 5\)"):
        Dropout2d()(np.ones((3, 4, 5)))
    with pytest.raises(ValueError, match=r"dropout2d expected shape \(N, C, H, W\), got \(3, 4\)"):
        dropout2d(np.ones((3, 4)))
    with pytest.raises(ValueError, match="dropout2d expected a probability from 0 to 1, got 2"):
        dropout2d(np.ones((2, 3, 4, 5)), 2)
    with pytest.raises(ValueError, match="Dropout2d expected a probability from 0 to 1, got 2"):
        Dropout2d(2)
