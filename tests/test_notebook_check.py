"""What the check of a notebook's exercise tells a learner about right and wrong functions."""

import re

import numpy as np
import pytest

from notebooks import check
from scratch.activations import sigmoid
from scratch.layers.linear import linear
from scratch.tensor import record

X = np.array([[0.5, -1.0, 2.0]])
LINEAR = [X, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.1, 0.2])]


def my_sigmoid(value, gradient):
    """A sigmoid with parts that may be wrong."""

    def my_sigmoid(x):
        y = value(x.data)
        return record(y, (x,), lambda dy: (gradient(dy, y),))

    return my_sigmoid


def right(x):
    return 1 / (1 + np.exp(-x))


def raises(x):
    return np.ones(2) @ np.ones(3)


@pytest.mark.parametrize(
    "mine, told",
    [
        (my_sigmoid(right, lambda dy, y: dy * y * (1 - y)), r"right  my_sigmoid: .* agree with sigmoid in 2 cases"),
        (my_sigmoid(right, lambda dy, y: dy * y), r"wrong  my_sigmoid: case 1: gradient of argument 0 at index \(0, "),
        (my_sigmoid(right, lambda dy, y: y * (1 - y)), "wrong  my_sigmoid: case 1: gradient of argument 0"),
        (my_sigmoid(right, lambda dy, y: None), "wrong  my_sigmoid: case 1: there is no gradient of argument 0"),
        (my_sigmoid(right, lambda dy, y: dy[0]), "my_sigmoid: case 1: ValueError: backward of my_sigmoid returned"),
        (my_sigmoid(np.exp, lambda dy, y: dy), r"my_sigmoid: case 1: value at index \(0, 0\) is 1.64872, expected"),
        (my_sigmoid(np.sum, lambda dy, y: dy), r"value has shape \(\), expected \(1, 3\)"),
        (my_sigmoid(raises, lambda dy, y: dy), r"case 1: line \d+ of the cell raised ValueError: .*matmul"),
        (lambda x: ..., "open "),
        (lambda x: x.data, r"wrong  <lambda>: should return what record\(...\) gives, got ndarray"),
    ],
)  # fmt: skip
def test_the_check_of_an_operation_tells_right_from_wrong(mine, told, capsys):
    check.operation(mine, sigmoid, [[X], [2 * X]])
    assert re.search(told, capsys.readouterr().out)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_the_check_looks_at_every_argument(argument, capsys):
    def mine(x, weight, bias):
        def backward(dy):
            gradients = [dy @ weight.data, dy.T @ x.data, dy.sum(axis=0)]
            gradients[argument] = gradients[argument] * 1.001
            return tuple(gradients)

        return record(x.data @ weight.data.T + bias.data, (x, weight, bias), backward)

    check.operation(mine, linear, [LINEAR])
    assert f"gradient of argument {argument}" in capsys.readouterr().out


def halve(x, n):
    """A rule that writes into its argument."""
    x /= 2
    return x, n + 1


@pytest.mark.parametrize(
    "mine, told",
    [
        (lambda x, n: (x / 2, n + 1), "right  my_rule: agrees with the library in 2 cases"),
        (lambda x, n: (x / 2, n), "wrong  my_rule: case 1: result 1 is 1, expected 2"),
        (lambda x, n: x / 2, "wrong  my_rule: case 1: should return 2 results, got 1"),
        (lambda x, n: (x[0], n + 1), "wrong  my_rule: case 1: result 0 has shape"),
        (lambda x, n: (x / 0.0, n.no), "wrong  my_rule: case 1: line"),
        (lambda x, n: ..., "open   my_rule"),
        (lambda x, n: (..., n + 1), "wrong  my_rule: case 1: there is no result 0"),
    ],
)
def test_the_check_of_a_function_tells_right_from_wrong(mine, told, capsys):
    with np.errstate(all="ignore"):
        check.function(mine, halve, [[np.array([4.0, 2.0]), 1], [np.array([1.0]), 7]], name="my_rule")
    assert told in capsys.readouterr().out
