"""Looking inside a Vision Transformer.

    question                                          function              idea
    what does each block make of the image?           hidden_states         the tokens after every block
    who looks at whom, in every block and head?       attention_maps        the weights P of each attention
    where does the class token look?                  class_attention       its row of P, laid out as the image
    which patches does the answer come from?          rollout               the maps of all blocks, multiplied
    how far do heads look?                            attention_distance    the mean distance under P, in pixels
    what do positions know of the image?              position_similarity   cosines between the learned positions
    what do the patches' first features look for?     patch_filters         principal components of the first matrix

Every function returns arrays; the model is looked at off the tape, in evaluation mode, and left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratch.layers import attention_weights
from scratch.models.vit.model import Attention, VisionTransformer
from scratch.module import Module, observe
from scratch.tensor import Array, Tensor, no_grad


@contextmanager
def looking(model: Module) -> Iterator[None]:
    """Off the tape and without dropout; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)


def hidden_states(model: VisionTransformer, x: Any) -> list[Array]:
    """The tokens as they go into the first block and as they come out of every block; the norm at the end is not in.

    Shapes: x (B, c, H, W) → 1 + depth arrays (B, T, C)
    """
    with looking(model):
        states = [model.embed(x)]
        for block in model.blocks:
            states.append(block(states[-1]))
    return [state.data for state in states]


def attention_maps(model: VisionTransformer, x: Any) -> Array:
    """Every head's weights: P[l, b, h, t] says how head h of block l shares out the look of token t; it sums to 1.

    Shapes: x (B, c, H, W) → (depth, B, heads, T, T)
    """
    maps: list[Array] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, Attention):
            qkv = module.qkv.forward(inputs[0])
            B, T, C = inputs[0].shape
            q, k = (qkv.data[..., i * C : (i + 1) * C].reshape(B, T, module.heads, -1).swapaxes(1, 2) for i in (0, 1))
            maps.append(attention_weights(Tensor(q), Tensor(k)).data)

    with looking(model), observe(look):
        model.features(x)
    return np.stack(maps)


def class_attention(model: VisionTransformer, x: Any) -> Array:
    """The weights that the class token gives to the patches, in every block and head, laid out as the image.

    What it gives to itself is left out, so that a map sums to less than 1.
    Shapes: x (B, c, H, W) → (depth, B, heads, h, w). Raises ValueError for a model without a class token.
    """
    if model.cls_token is None:
        raise ValueError("class_attention expected a model with a class token, got one that takes the mean")
    maps = attention_maps(model, x)[..., 0, 1:]
    return maps.reshape(*maps.shape[:-1], *model.patch_embed.grid)


def rollout(maps: Any) -> Array:
    """How much of every patch is in every token at the end, were attention all that moves it:

        A_l = ½ I + ½ mean over heads of P_l        R = A_L … A_2 A_1        (Abnar and Zuidema 2020)

    The half that stays is the residual connection. Every row of R sums to 1.
    Shapes: maps (depth, B, heads, T, T) → (B, T, T). Raises ValueError for other shapes.
    """
    maps = np.asarray(maps)
    if maps.ndim != 5 or maps.shape[-1] != maps.shape[-2]:
        raise ValueError(f"rollout expected maps (depth, B, heads, T, T), got {maps.shape}")
    A = 0.5 * np.eye(maps.shape[-1], dtype=maps.dtype) + 0.5 * maps.mean(axis=2)
    R = A[0]
    for step in A[1:]:
        R = step @ R
    return R


def seen(model: VisionTransformer, x: Any) -> Array:
    """What `rollout` says of the answer: how much of each patch reaches the class token, or all patches on average.

    Divided by the sum over the patches.  Shapes: x (B, c, H, W) → (B, h, w)
    """
    R = rollout(attention_maps(model, x))
    row = R.mean(axis=1) if model.cls_token is None else R[:, 0, 1:]
    return (row / row.sum(axis=1, keepdims=True)).reshape(len(row), *model.patch_embed.grid)


def attention_distance(model: VisionTransformer, x: Any) -> Array:
    """How far each head looks: Σ_s P_ts |place of s − place of t|, in pixels, mean over patches t and images.

    The class token has no place and is left out.  Shapes: x (B, c, H, W) → (depth, heads)
    """
    maps, first = attention_maps(model, x), int(model.cls_token is not None)
    P = maps[..., first:, first:]
    P = P / P.sum(axis=-1, keepdims=True)
    places = np.stack(np.meshgrid(*map(np.arange, model.patch_embed.grid), indexing="ij"), axis=-1).reshape(-1, 2)
    distance = np.linalg.norm(places[:, None] - places, axis=-1) * model.patch_embed.patch_size
    return (P * distance).sum(axis=-1).mean(axis=(1, 3))


def position_similarity(model: VisionTransformer) -> Array:
    """S[i, j] is the map of cosines between the position of patch (i, j) and those of all patches.

    Their mean over all patches is taken away first: it says nothing about a place.  → (h, w, h, w)
    """
    h, w = model.patch_embed.grid
    rows = model.pos_embed.data[0, -h * w :]
    rows = rows - rows.mean(axis=0)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return (rows @ rows.T).reshape(h, w, h, w)


def patch_filters(model: VisionTransformer, count: int = 16) -> Array:
    """The first principal components of the matrix that reads the patches, small pictures: what its features share.

    → (count, c, p, p), the strongest first, each of length 1, at most as many as there are.
    """
    weight = model.patch_embed.proj.weight.data
    rows = weight.reshape(len(weight), -1)
    _, _, components = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return components[:count].reshape(-1, *weight.shape[1:])
