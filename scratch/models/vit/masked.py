"""Masked autoencoder: a Vision Transformer learns from images without labels, by drawing what was hidden from it.

    1  cut the image into N patches; a random quarter stays visible, the others are hidden    keep (B, K), hide (B, M)
    2  the encoder reads the visible ones alone, with their positions                         (B, 1 + K, C)
    3  a light decoder reads those, and a mask token at the position of each hidden one       (B, 1 + K + M, D)
    4  it draws the hidden patches, and only those count                                      (B, M, c p²)

        loss = mean over the hidden patches and their pixels of (drawn − true)²

What is different from BERT, which hides words: most is hidden (3 of 4, for neighbours tell much), and the encoder never
sees a mask token, so that it is cheap here and meets nothing in pre-training that it will not meet later.

Source: He et al. 2022. There the tokens are put back into the order of the image before the decoder; here each takes
its position along, which is all that a Transformer knows of order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.combine import concatenate
from scratch.initializers import normal
from scratch.layers import LayerNorm, Linear, embedding, linear
from scratch.models.vit.model import Block, VisionTransformer
from scratch.module import Module
from scratch.tensor import Array, Parameter, Tensor, as_tensor


def random_masks(batch: int, patches: int, ratio: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """(keep, hide): numbers of the patches that stay visible and of those that are hidden, for every image its own.

    Shapes: → (B, N − M) and (B, M), M = ratio · N rounded. Raises ValueError unless at least one patch is in each.
    """
    hidden = round(ratio * patches)
    if not 1 <= hidden < patches:
        raise ValueError(f"random_masks expected a ratio that hides 1 to {patches - 1} of {patches}, got {ratio}")
    order = rng.random((batch, patches)).argsort(axis=1)
    return order[:, hidden:], order[:, :hidden]


class MaskedAutoencoder(Module):
    """An encoder to be pre-trained, and the decoder that is thrown away afterwards.

    Args: encoder: what is trained; its head is not used. dim, depth, heads: of the decoder.
    Shapes: images (B, c, H, W), keep (B, K), hide (B, M) → the hidden patches as drawn, (B, M, c p²).
    Raises ValueError for other images, and for patch numbers that do not fit them.
    """

    def __init__(self, encoder: VisionTransformer, dim: int = 32, depth: int = 1, heads: int = 4):
        self.encoder = encoder
        patches, pixels = encoder.pos_embed.shape[1], encoder.patch_embed.proj.weight[0].size
        self.decoder_embed = Linear(encoder.dim, dim)
        self.mask_token = Parameter(normal((1, 1, dim), std=0.02))
        self.decoder_pos_embed = Parameter(normal((1, patches, dim), std=0.02))
        self.decoder_blocks = [Block(dim, heads) for _ in range(depth)]
        self.decoder_norm = LayerNorm(dim, 1e-6)
        self.decoder_pred = Linear(dim, pixels)
        self.to(encoder.pos_embed.dtype)

    def forward(self, x: Any, keep: Any, hide: Any) -> Tensor:
        z = self.encode(x, keep)
        y = self.decoder_embed(z) + self.places(self.decoder_pos_embed, keep)
        masks = self.mask_token + self.places(self.decoder_pos_embed, hide, first=False)
        y = concatenate([y, masks], axis=1)  # (B, T + M, D)
        for block in self.decoder_blocks:
            y = block(y)
        return self.decoder_pred(self.decoder_norm(y[:, z.shape[1] :]))

    def encode(self, x: Any, keep: Any) -> Tensor:
        """The encoder's features of the class token, if it has one, and of the visible patches, (B, T, C)."""
        encoder = self.encoder
        patches = take(encoder.patch_embed.cut(x), keep)
        weight = encoder.patch_embed.proj.weight
        z = linear(patches, weight.reshape(len(weight), -1), encoder.patch_embed.proj.bias)
        if encoder.cls_token is not None:
            z = concatenate([encoder.cls_token + np.zeros((len(z), 1, 1), z.dtype), z], axis=1)
        z = encoder.dropout(z + self.places(encoder.pos_embed, keep))
        for block in encoder.blocks:
            z = block(z)
        return encoder.norm(z)

    def places(self, positions: Tensor, numbers: Any, first: bool = True) -> Tensor:
        """The rows of these patches, behind that of the class token if `first` and if there is one."""
        numbers = np.asarray(numbers)
        before = int(self.encoder.cls_token is not None)
        numbers = numbers + before
        if first and before:
            numbers = np.concatenate([np.zeros((len(numbers), 1), numbers.dtype), numbers], axis=1)
        return embedding(numbers, positions[0])


def take(patches: Any, numbers: Any) -> Tensor:
    """The patches of these numbers: (B, N, P) and (B, K) → (B, K, P). Raises ValueError for numbers that don't fit."""
    patches, numbers = as_tensor(patches), np.asarray(numbers)
    B, N, _ = patches.shape
    if numbers.ndim != 2 or len(numbers) != B or numbers.dtype.kind not in "iu":
        raise ValueError(f"MaskedAutoencoder expected whole numbers ({B}, K) of patches, got {numbers.dtype} "
                         f"{numbers.shape}")  # fmt: skip
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < N:
        came = f"{numbers.min()} to {numbers.max()}"
        raise ValueError(f"MaskedAutoencoder expected patches from 0 to {N - 1}, got {came}")
    return patches[np.arange(B)[:, None], numbers]


def masked_loss(model: MaskedAutoencoder, x: Array, keep: Array, hide: Array) -> tuple[Tensor, float]:
    """(sum of squared differences over the hidden patches' pixels, how many these are), as ShardedLoss wants it."""
    drawn, true = model(x, keep, hide), take(model.encoder.patch_embed.cut(x), hide)
    difference = drawn - true
    return (difference * difference).sum(), difference.size


def drawing(model: MaskedAutoencoder, x: Array, keep: Array, hide: Array) -> tuple[Array, Array]:
    """What the encoder saw, and that with the hidden patches as they were drawn.  Shapes: (B, c, H, W) → twice that"""
    cut = model.encoder.patch_embed
    patches = cut.cut(x).data
    rows = np.arange(len(patches))[:, None]
    seen = np.full_like(patches, np.nan)
    seen[rows, keep] = patches[rows, keep]
    whole = seen.copy()
    whole[rows, hide] = model(x, keep, hide).data
    return tuple(cut.joined(Tensor(each)).data for each in (seen, whole))  # type: ignore[return-value]
