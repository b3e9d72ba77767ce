"""Embedding: repeats add up, the padding row stays untrained, and a wrong index is named."""

import numpy as np
import pytest

from scratch import Parameter, Tensor, manual_seed
from scratch.layers import Embedding, embedding

INDICES = np.array([[3, 0, 3], [5, 3, 0]])


def one_hot_twin(indices, weight):
    """The lookup as the product of one-hot rows with the table."""
    return Tensor(np.eye(weight.shape[0])[indices]) @ weight


def test_it_is_the_product_of_one_hot_rows_with_the_table():
    table, dy = np.random.default_rng(0).standard_normal((6, 4)), np.random.default_rng(1).standard_normal((2, 3, 4))
    results = []
    for function in (embedding, one_hot_twin):
        weight = Parameter(table.copy())
        y = function(INDICES, weight)
        y.backward(dy)
        results.append((y.data, weight.grad))
    for came, expected in zip(*results, strict=True):
        np.testing.assert_allclose(came, expected, rtol=1e-14)


def test_repeated_indices_add_up_by_hand():
    weight = Parameter(np.zeros((6, 2)))
    embedding(INDICES, weight).backward(np.arange(12.0).reshape(2, 3, 2))
    expected = np.zeros((6, 2))
    expected[3] = np.add(np.add([0, 1], [4, 5]), [8, 9])
    expected[0] = np.add([2, 3], [10, 11])
    expected[5] = [6, 7]
    np.testing.assert_array_equal(weight.grad, expected)


@pytest.mark.parametrize("padding_idx", [3, -3])
def test_the_padding_row_starts_at_zero_and_gets_no_gradient(padding_idx):
    layer = Embedding(6, 4, padding_idx=padding_idx)
    assert layer.padding_idx == 3
    assert not layer.weight.data[3].any() and np.abs(layer.weight.data[[0, 1, 2, 4, 5]]).min() > 0
    y = layer(INDICES)
    assert not y.data[INDICES == 3].any()
    y.backward(1 + np.random.default_rng(0).random(y.shape))
    assert not layer.weight.grad[3].any()
    assert layer.weight.grad[[0, 5]].all() and not layer.weight.grad[[1, 2, 4]].any()


def test_the_table_is_drawn_from_a_standard_normal():
    manual_seed(7)
    table = Embedding(500, 200).weight.data
    assert abs(table.mean()) < 4 / 10**2.5 and abs(table.var() - 1) < 4 * 2**0.5 / 10**2.5  # four standard errors


def test_indices_may_be_a_list_a_tensor_or_unsigned():
    layer = Embedding(6, 4)
    expected = layer.weight.data[[1, 5]]
    for indices in ([1, 5], (1, 5), Tensor(np.array([1, 5])), np.array([1, 5], np.uint8), np.array([1, 5], np.int16)):
        np.testing.assert_array_equal(layer(indices).data, expected)
    wide = Embedding(200, 3)
    y = wide(np.array([199, 128], np.uint8))  # 199 · 3 would not fit into eight bits
    y.backward(np.array([[1, 2, 3], [4, 5, 6]]))
    np.testing.assert_array_equal(wide.weight.grad[[199, 128]], [[1, 2, 3], [4, 5, 6]])
    assert wide.weight.grad.sum() == 21


@pytest.mark.parametrize(("indices", "complaint"), [
    (np.array([[0, 1], [6, 7]]), r"from 0 to 5, got 6 at position \(1, 0\)"),
    (np.array([2, -1]), r"from 0 to 5, got -1 at position \(1,\)"),
    (np.array(9), r"got 9 at position \(\)"),
    (np.array([1.0, 2.0]), "as indices, got dtype float64"),
    (np.array([True, False]), "as indices, got dtype bool"),
])  # fmt: skip
def test_wrong_indices_are_named(indices, complaint):
    with pytest.raises(ValueError, match="Embedding expected .*" + complaint):
        Embedding(6, 4)(indices)


@pytest.mark.parametrize(("arguments", "complaint"), [
    ((0, 4), "at least 1, got 0 and 4"),
    ((6, 0), "at least 1, got 6 and 0"),
    ((6, 4, 6), "padding_idx from -6 to 5, got 6"),
    ((6, 4, -7), "padding_idx from -6 to 5, got -7"),
])  # fmt: skip
def test_wrong_sizes_are_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Embedding(*arguments)
