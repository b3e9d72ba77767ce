"""Index arrays, masks and lengths that the caller overwrites between forward and backward: operations keep a copy."""

import numpy as np
import pytest

from scratch import Tensor, manual_seed
from scratch.combine import where
from scratch.layers import LSTM, embedding, rotary, scaled_dot_product_attention
from scratch.losses import cross_entropy, nll_loss


def lstm():
    manual_seed(0)
    return LSTM(4, 2)


X = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
# name: (operation of x and of an array of the caller's, that array, what the caller writes into it)
OPERATIONS = {
    "index": (lambda x, i: x[i], np.array([0, 1]), 2),
    "index in a tuple": (lambda x, i: x[:, i], np.array([0, 1]), 2),
    "index as a Tensor": (lambda x, i: x[Tensor(i)], np.array([0, 1]), 2),
    "mask": (lambda x, i: x[i], np.array([True, False, True]), False),
    "embedding": (lambda x, i: embedding(i, x), np.array([0, 1, 1]), 2),
    "where": (lambda x, i: where(i, x, 2 * x), np.array([True, False, True, True]), False),
    "where of a Tensor": (lambda x, i: where(Tensor(i), x, 2 * x), np.array([True, False, True, True]), False),
    "cross_entropy": (lambda x, i: cross_entropy(x, i), np.array([0, 1, 1]), 2),
    "smoothed": (lambda x, i: cross_entropy(x, i, label_smoothing=0.2), np.array([0, -100, 1]), -100),
    "probabilities": (lambda x, i: cross_entropy(x, i), np.full((3, 4), 0.25), 0),
    "nll_loss": (lambda x, i: nll_loss(x, i), np.array([0, 1, 1]), 2),
    "class weights": (lambda x, i: cross_entropy(x, np.array([0, 1, 1]), i), np.arange(4, dtype=np.float32), 1),
    "attention": (lambda x, i: scaled_dot_product_attention(x, x, x, i), np.tri(3, 3, dtype=bool), True),
    "attention, float": (lambda x, i: scaled_dot_product_attention(x, x, x, i), np.eye(3, dtype=np.float32), 0),
    "rotary": (lambda x, i: rotary(x, positions=i), np.array([0, 1, 5]), 2),
    "lengths": (lambda x, i: lstm()(x.reshape(3, 1, 4), lengths=i)[0], np.array([2]), 1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_overwritten_before_backward_changes_no_gradient(name):
    operation, array, other = OPERATIONS[name]
    gradients = []
    for overwrite in (False, True):
        x, given = Tensor(X.copy(), requires_grad=True), array.copy()
        y = operation(x, given)
        if overwrite:
            given[...] = other
        y.backward((np.arange(y.size, dtype=y.dtype) + 1).reshape(y.shape))
        gradients.append(x.grad)
    assert (gradients[0] != 0).any()
    np.testing.assert_array_equal(*gradients)


def test_a_list_may_be_overwritten_too():
    x, index = Tensor(np.zeros(3, np.float32), requires_grad=True), [0, 1]
    y = x[index].sum()
    index[:] = [2, 2]
    y.backward()
    np.testing.assert_array_equal(x.grad, [1, 1, 0])


def test_an_empty_list_reads_nothing():
    x = Tensor(np.zeros(3, np.float32), requires_grad=True)
    x[[]].sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 0])
