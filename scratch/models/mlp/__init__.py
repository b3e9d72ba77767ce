"""Multilayer perceptron: affine maps with a bend between them."""

from scratch.models.mlp.model import MLP

__all__ = ["MLP"]
