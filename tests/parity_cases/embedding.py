"""Embedding: repeated indices, padding rows counted from either end, ranks of input, index types."""

import numpy as np

from scratch.layers import Embedding, embedding
from tests.parity import Case


def torch_embedding(*arguments, **options):
    from torch import nn

    return nn.Embedding(*arguments, **options)


def torch_function(padding_idx):
    from torch.nn import functional as F

    return lambda weight: F.embedding(_tensor(REPEATS), weight, padding_idx)


def _tensor(array):
    import torch

    return torch.tensor(array)


def case(name, indices, *arguments, **options):
    return Case(
        name, (indices,), lambda: Embedding(*arguments, **options), lambda: torch_embedding(*arguments, **options), True
    )


def function_case(rng, name, padding_idx):
    weight = rng.standard_normal((6, 3))
    return Case(name, (weight,), lambda w: embedding(REPEATS, w, padding_idx), lambda: torch_function(padding_idx))


REPEATS = np.array([[3, 0, 3, 3], [5, 1, 0, 3]])


def cases():
    rng = np.random.default_rng(1)
    return [
        case("repeated indices", REPEATS, 6, 5),
        case("padding row", REPEATS, 6, 5, padding_idx=3),
        case("padding row from the end", REPEATS, 6, 5, padding_idx=-1),
        case("one index", np.array(2), 4, 3),
        case("three axes", rng.integers(0, 7, (2, 3, 4)), 7, 2),
        case("int32", rng.integers(0, 7, (2, 3)).astype(np.int32), 7, 2),
        case("one symbol", np.zeros(5, int), 1, 3),
        case("no indices", np.zeros((0, 2), int), 4, 3),
        function_case(rng, "function", None),
        function_case(rng, "function, padding row", 0),
    ]
