"""The table of a model's parts, on models whose numbers are known by hand."""

import numpy as np
import pytest

from scratch import Module, Parameter, Sequential
from scratch.layers import BatchNorm1d, Dropout, Embedding, LayerNorm, Linear
from scratch.summary import summary


class Tied(Module):
    """An output layer that is the embedding, a norm that runs twice, a layer that never runs, two outputs."""

    def __init__(self):
        self.embed = Embedding(10, 4)
        self.norm = LayerNorm(4)
        self.body = Sequential(Linear(4, 6), Dropout(), Linear(6, 4))
        self.head = Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.unused = Linear(2, 2)

    def forward(self, x):
        h = self.norm(self.embed(x))
        h = self.norm(self.body(h))
        return self.head(h), {"hidden": h}


TIED = """\
name     type        output                             parameters
------------------------------------------------------------------
(whole)  Tied        [(2, 3, 10), {hidden: (2, 3, 4)}]           0
embed    Embedding   (2, 3, 4)                                  40
norm     LayerNorm   (2, 3, 4) x2                                8
body     Sequential  (2, 3, 4)                                   0
body.0   Linear      (2, 3, 6)                                  30
body.1   Dropout     (2, 3, 6)                                   0
body.2   Linear      (2, 3, 4)                                  28
head     Linear      (2, 3, 10)                                 0*
unused   Linear      -                                           6

parameters: 112 (112 trainable), 0.000 MB
* shares parameters counted above"""


def test_a_model_with_shared_parameters_is_drawn_as_known_by_hand():
    assert summary(Tied(), np.zeros((2, 3), int)) == TIED


def test_a_shape_stands_for_zeros_and_the_counts_are_those_of_the_formula():
    model = Sequential(Linear(784, 256), Linear(256, 10))
    lines = summary(model, (5, 784)).splitlines()
    assert lines[3].split() == ["0", "Linear", "(5,", "256)", "200,960"]  # 784 · 256 + 256
    assert lines[4].split() == ["1", "Linear", "(5,", "10)", "2,570"]
    assert lines[-1] == "parameters: 203,530 (203,530 trainable), 0.814 MB"  # four bytes each


def test_frozen_parameters_and_the_dtype_show_in_the_totals():
    model = Sequential(Linear(100, 50), Linear(50, 7)).to(np.float64)
    model[0].requires_grad_(False)
    assert summary(model, (3, 100)).splitlines()[-1] == "parameters: 5,407 (357 trainable), 0.043 MB"


def test_a_module_shared_by_two_parts_is_one_row_that_ran_twice():
    layer = Linear(3, 3)
    lines = summary(Sequential(layer, Sequential(layer)), (2, 3)).splitlines()
    assert [line.split()[0] for line in lines[2:-2]] == ["(whole)", "0", "1"]
    assert lines[3].split() == ["0", "Linear", "(2,", "3)", "x2", "12"]
    assert lines[-1].startswith("parameters: 12 ")


def test_the_column_adds_up_where_a_part_knows_the_whole():
    class Whole(Module):
        def __init__(self):
            self.scale = Parameter(np.ones(5, np.float32))
            self.part = Linear(2, 3)
            self.part.whole = self

        def forward(self, x):
            return self.part(x)

    lines = summary(Whole(), (4, 2)).splitlines()
    assert [line.split()[-1] for line in lines[2:4]] == ["5", "9"]
    assert lines[-1].startswith("parameters: 14 ")


def test_the_model_is_left_as_it_was():
    model = Sequential(BatchNorm1d(3), Dropout(), Linear(3, 2))
    model[1].eval()
    before = {name: value.copy() for name, value in model.state_dict().items()}
    summary(model, np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))
    assert [part.training for part in model.modules()] == [True, True, False, True]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_failing_run_restores_the_modes_too():
    model = Sequential(Dropout(), Linear(3, 2))
    with pytest.raises(ValueError, match="Linear"):
        summary(model, (4, 5))
    assert all(part.training for part in model.modules())
