"""Experiments: a part of a model is swapped while a block runs, and only then."""

import sys
import types

import pytest

from scratch.experiments import swapped


class Part:
    pass


class OtherPart:
    pass


def modules() -> tuple[types.ModuleType, types.ModuleType]:
    """Two modules that use Part, as a model's file and its train.py do; one of them uses a function as well."""
    model, train = types.ModuleType("model"), types.ModuleType("train")
    model.Part, model.double = Part, lambda x: 2 * x
    train.Part = Part
    return model, train


def test_a_name_is_swapped_in_every_module_that_uses_it_and_restored():
    model, train = modules()
    double = model.double
    with swapped(model, train, Part=OtherPart, double=lambda x: 3 * x):
        assert model.Part is train.Part is OtherPart
        assert model.double(5) == 15
        assert not hasattr(train, "double")
    assert model.Part is train.Part is Part
    assert model.double is double


def test_names_are_restored_after_an_error_and_in_nested_blocks():
    model, _ = modules()
    with pytest.raises(ZeroDivisionError), swapped(model, Part=OtherPart):
        with swapped(model, Part=Part):
            assert model.Part is Part
        assert model.Part is OtherPart
        raise ZeroDivisionError
    assert model.Part is Part


@pytest.mark.parametrize(
    "replacements, named",
    [
        ({"Missing": OtherPart}, "model.*Missing"),
        ({"Part": lambda: None}, "Part expected a class"),
        ({"double": OtherPart}, "double expected a function"),
        ({"double": 3}, "double expected a function, got 3"),
    ],
)
def test_what_cannot_be_swapped_is_an_error_and_changes_nothing(replacements, named):
    model, _ = modules()
    double = model.double
    with pytest.raises(ValueError, match=named), swapped(model, **replacements):
        pass
    assert model.Part is Part and model.double is double


def test_a_swapped_class_builds_the_model_and_a_swapped_function_runs_in_it(monkeypatch):
    source = """
class Part: pass
def f(): return 1
def build(): return Part()
def run(): return f()
"""
    model = types.ModuleType("a_model")
    exec(source, vars(model))
    monkeypatch.setitem(sys.modules, "a_model", model)
    with swapped(model, Part=OtherPart, f=lambda: 2):
        assert type(model.build()) is OtherPart and model.run() == 2
    assert type(model.build()) is model.Part and model.run() == 1
