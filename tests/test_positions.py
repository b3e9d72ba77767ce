"""Positions: the formulas, what they promise about distances, offsets for cached decoding, and what is refused."""

import math

import numpy as np
import pytest

from scratch import Tensor, concatenate, gradcheck
from scratch.layers import (
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    rotary,
    scaled_dot_product_attention,
    sinusoidal_table,
)
from scratch.layers.positions import rotary as rotary_file


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


# -- sinusoidal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [6, 5, 1])
def test_the_table_is_the_papers_formula(dim):
    table = sinusoidal_table(40, dim, dtype=np.float64)
    for t in range(40):
        for i in range(dim):
            angle = t / 10000 ** ((i - i % 2) / dim)
            assert abs(table[t, i] - (math.cos(angle) if i % 2 else math.sin(angle))) < 1e-12
    assert sinusoidal_table(3, dim).dtype == np.float32


def test_a_step_is_one_linear_map_wherever_it_is_taken():
    table, k = sinusoidal_table(50, 8, dtype=np.float64), 7
    M = np.linalg.lstsq(table[:-k], table[k:], rcond=None)[0]
    np.testing.assert_allclose(table[:-k] @ M, table[k:], atol=1e-9)
    assert not np.allclose(M, np.eye(8), atol=0.1)


@pytest.mark.parametrize("make", [lambda: SinusoidalPositions(12, 6), lambda: LearnedPositions(12, 6)])
def test_rows_are_added_by_offset_and_by_given_positions(make):
    layer = make().to(np.float64)
    x = Tensor(draw(2, 4, 6))
    rows = layer.table if isinstance(layer, SinusoidalPositions) else layer.weight.data
    np.testing.assert_array_equal(layer(Tensor(np.zeros((12, 6)))).data, rows)
    np.testing.assert_allclose(layer(x).data, x.data + rows[:4], rtol=1e-14)
    np.testing.assert_allclose(layer(x, 3).data, x.data + rows[3:7], rtol=1e-14)
    np.testing.assert_allclose(layer(x, positions=[5, 0, 1, 11]).data, x.data + rows[[5, 0, 1, 11]], rtol=1e-14)
    each = np.array([[0, 0, 1, 2], [3, 4, 5, 6]])
    np.testing.assert_allclose(layer(x, 2, each).data, x.data + rows[each + 2], rtol=1e-14)
    for arguments in ((9,), (0, [0, 1, 2, 12])):
        with pytest.raises(ValueError, match=f"{type(layer).__name__} knows the positions 0 to 11, got position 12"):
            layer(x, *arguments)
    with pytest.raises(ValueError, match="positions from 0 up, got -1"):
        layer(x, -1)
    for wrong in ([0, 1], [0.0, 1.0, 2.0, 3.0], np.zeros((3, 4), int)):
        with pytest.raises(ValueError, match=r"positions as whole numbers \(4,\) or \(2, 4\)"):
            layer(x, positions=wrong)


def test_learned_rows_collect_the_gradients_of_their_places():
    layer = LearnedPositions(5, 3).to(np.float64)
    where = np.array([[0, 4, 4, 1], [4, 0, 1, 0]])
    gradcheck(lambda x: layer(x, positions=where), (draw(2, 4, 3),), dict(layer.named_parameters()))
    layer(Tensor(np.zeros((2, 4, 3))), positions=where).backward(np.ones((2, 4, 3)))
    np.testing.assert_array_equal(layer.weight.grad[:, 0], [3, 2, 0, 0, 3])


@pytest.mark.parametrize("call", [
    lambda: sinusoidal_table(-1, 4), lambda: sinusoidal_table(3, 0), lambda: LearnedPositions(0, 4),
    lambda: LearnedPositions(4, 0), lambda: alibi_slopes(0), lambda: rotary(draw(3, 5)), lambda: rotary(draw(4)),
    lambda: rotary(draw(3, 4), pairing="neox"), lambda: RotaryPositions(pairing="neox"),
    lambda: rotary(draw(3, 4), positions=[0, 1]), lambda: rotary(draw(3, 4), -1),
    lambda: rotary(draw(3, 4), positions=np.zeros((3, 3), int)),
    lambda: SinusoidalPositions(4, 6)(draw(2, 3, 5)), lambda: LearnedPositions(4, 6)(draw(1, 2, 3, 6)),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


# -- rotary ----------------------------------------------------------------------------------------------------------


def as_complex(x, pairing):
    half = x.shape[-1] // 2
    return x[..., 0::2] + 1j * x[..., 1::2] if pairing == "interleaved" else x[..., :half] + 1j * x[..., half:]


both_pairings = pytest.mark.parametrize("pairing", ["interleaved", "halves"])


@both_pairings
def test_each_pair_is_multiplied_by_a_complex_number_of_length_one(pairing):
    x = draw(2, 3, 7, 6)
    angles = np.arange(7)[:, None] / 10000 ** (np.arange(3) * 2 / 6)
    y = rotary(x, pairing=pairing).data
    np.testing.assert_allclose(as_complex(y, pairing), as_complex(x, pairing) * np.exp(1j * angles), rtol=1e-12)
    slow = rotary(x, base=100, pairing=pairing).data
    np.testing.assert_allclose(
        as_complex(slow, pairing),
        as_complex(x, pairing) * np.exp(1j * np.arange(7)[:, None] / 100 ** (np.arange(3) / 3)),
        rtol=1e-12,
    )  # fmt: skip


def composed_halves(x):
    """Llama's telling: x cos + (−second half, first half) sin."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[-2])[:, None] / 10000 ** (np.arange(half) / half)
    cos, sin = np.tile(np.cos(angles), 2), np.tile(np.sin(angles), 2)
    return x * cos + concatenate([-x[..., half:], x[..., :half]], axis=-1) * sin


def rotary_is_right():
    x, dy = draw(2, 3, 5, 6), draw(2, 3, 5, 6, seed=1)
    results = []
    for function in (lambda t: rotary(t, pairing="halves"), composed_halves):
        t = Tensor(x.copy(), requires_grad=True)
        y = function(t)
        y.backward(dy)
        results.append((y.data, t.grad))
    for came, expected in zip(*results, strict=True):
        np.testing.assert_allclose(came, expected, rtol=1e-12, atol=1e-14)


def test_it_is_its_composed_twin():
    rotary_is_right()


@both_pairings
def test_gradients_equal_finite_differences(pairing):
    gradcheck(lambda x: rotary(x, 3, pairing=pairing), (draw(2, 3, 4, 6),))
    gradcheck(lambda x: rotary(x, positions=np.array([[3, 0, 9], [1, 1, 2]]), pairing=pairing), (draw(2, 4, 3, 2),))


@both_pairings
def test_a_product_of_two_turned_vectors_knows_only_their_distance(pairing):
    q, k = draw(1, 8), draw(1, 8, seed=1)

    def product(t, s):
        return (rotary(q, t, pairing=pairing).data @ rotary(k, s, pairing=pairing).data.T).item()

    for shift in (1, 50, 3000):
        assert abs(product(7 + shift, 4 + shift) - product(7, 4)) < 1e-9
    assert abs(product(7, 4) - product(7, 5)) > 1e-3 and abs(product(7, 4) - product(4, 7)) > 1e-3
    assert abs(np.linalg.norm(rotary(q, 9, pairing=pairing).data) - np.linalg.norm(q)) < 1e-12


@both_pairings
def test_one_token_at_a_time_gives_what_all_at_once_give(pairing):
    layer = RotaryPositions(pairing=pairing)
    x = draw(2, 3, 9, 4)
    whole = layer(x).data
    for t in range(9):
        np.testing.assert_allclose(layer(x[..., t : t + 1, :], t).data, whole[..., t : t + 1, :], rtol=1e-13)


@both_pairings
@pytest.mark.parametrize("heads", [(), (3,), (3, 5)])
def test_each_sequence_may_have_positions_of_its_own(heads, pairing):
    x, each = draw(2, *heads, 3, 4), np.array([[4, 0, 1], [6, 7, 2]])
    y = rotary(x, 1, each, pairing=pairing).data
    for b in range(2):
        np.testing.assert_allclose(y[b], rotary(x[b], 1, each[b], pairing=pairing).data, rtol=1e-13)


def test_the_two_pairings_differ_by_a_permutation_of_features():
    x, order = draw(5, 6), np.array([0, 2, 4, 1, 3, 5])
    np.testing.assert_allclose(
        rotary(x[:, order], pairing="halves").data, rotary(x).data[:, order], rtol=1e-13
    )


@pytest.mark.parametrize(("old", "new"), [
    ("c -= b * sin", "c += b * sin"), ("d += b * cos", "d += a * cos"), ("np.multiply(a, sin, out=d)", "d[...] = 0"),
])  # fmt: skip
def test_a_planted_fault_is_caught(old, new, monkeypatch):
    import inspect
    import sys

    module = sys.modules[rotary_file.__module__]
    source, space = inspect.getsource(module._turn), dict(vars(module))
    assert source.count(old) == 1
    exec("from __future__ import annotations\n" + source.replace(old, new), space)
    monkeypatch.setattr(module, "_turn", space["_turn"])
    with pytest.raises(AssertionError):
        rotary_is_right()


def test_a_rotation_that_is_not_turned_back_is_caught():
    with pytest.raises(AssertionError):
        x = Tensor(draw(3, 4), requires_grad=True)
        y = rotary(x)
        y._backward = lambda dy: (rotary(dy).data,)
        y.backward(draw(3, 4, seed=1))
        np.testing.assert_allclose(x.grad, rotary_back(draw(3, 4, seed=1)), rtol=1e-9)


def rotary_back(dy):
    """The transposed rotation, from the matrix of all unit vectors."""
    eye = np.eye(dy.shape[-1])
    return np.stack([dy[t] @ rotary(eye[:, None, :], t).data[:, 0].T for t in range(len(dy))])


# -- ALiBi -----------------------------------------------------------------------------------------------------------


def test_slopes_are_the_papers_for_powers_of_two_and_the_authors_between():
    np.testing.assert_array_equal(alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    np.testing.assert_allclose(alibi_slopes(16, np.float64), [2 ** (-i / 2) for i in range(1, 17)], rtol=1e-15)
    expected = [2.0**-i for i in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    np.testing.assert_allclose(alibi_slopes(12, np.float64), expected, rtol=1e-15)
    np.testing.assert_array_equal(alibi_slopes(3), [2**-4, 2**-8, 2**-2])
    np.testing.assert_array_equal(alibi_slopes(5), [2**-2, 2**-4, 2**-6, 2**-8, 2**-1])
    np.testing.assert_array_equal(alibi_slopes(1), [2**-8])


def test_the_bias_falls_with_the_distance_and_forbids_the_future():
    bias = alibi_bias(2, 3)
    np.testing.assert_array_equal(bias[0] * 16, [[0, -np.inf, -np.inf], [-1, 0, -np.inf], [-2, -1, 0]])
    np.testing.assert_array_equal(bias[1] * 256, bias[0] * 16)
    np.testing.assert_array_equal(alibi_bias(2, 3, is_causal=False)[0] * 16, [[0, -1, -2], [-1, 0, -1], [-2, -1, 0]])
    np.testing.assert_array_equal(alibi_bias(2, 1, 3, offset=2), bias[:, 2:])  # a later query, with a cache
    assert bias.dtype == np.float32


def test_attention_takes_it_as_its_mask():
    q, k, v = (draw(2, 3, 5, 4, seed=i) for i in range(3))
    bias = alibi_bias(3, 5, dtype=np.float64)
    scores = q @ k.swapaxes(-1, -2) / 2 + bias
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(scaled_dot_product_attention(q, k, v, bias).data, weights @ v, rtol=1e-12)
