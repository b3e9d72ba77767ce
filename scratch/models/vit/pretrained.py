"""Published Vision Transformers: DINOv2's blocks, and weights under the names in which they are kept.

    names in the file                                                    written by
    blocks.0.attn.qkv.weight, blocks.0.mlp.fc1.bias ...                  timm, DINO, DINOv2, masked autoencoders: ours
    encoder.layer.0.attention.attention.query.weight ...                 `transformers`: files of ViTModel, Dinov2Model
    layers.0.attention.q_proj.weight ...                                 `transformers` 5: the same models in memory

Sizes are read off the arrays. Only the number of heads leaves no trace in them: it stands in the folder's config.json,
or is given, or is one for 64 features, as in all usual sizes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratch import weights
from scratch.models.vit.model import Block, VisionTransformer
from scratch.models.vit.positions import resized
from scratch.module import Module
from scratch.tensor import Array, Parameter, Tensor
from scratch.weights.folder import load_folder
from scratch.weights.published import Config

# -- DINOv2 -----------------------------------------------------------------------------------------------------


class LayerScale(Module):
    """y = γ z, a factor for each feature (Touvron et al. 2021).  Shapes: (B, T, C) → the same."""

    def __init__(self, dim: int, value: float = 1e-5):
        self.gamma = Parameter(np.full(dim, value, np.float32))

    def forward(self, z: Tensor) -> Tensor:
        return z * self.gamma


class ScaledBlock(Block):
    """z ← z + γ₁ attention(norm1(z)),  z ← z + γ₂ mlp(norm2(z)): nearly the identity at first, γ being small."""

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0, eps: float = 1e-6,
        layer_scale: float = 1e-5,
    ):  # fmt: skip
        super().__init__(dim, heads, mlp_ratio, dropout, eps)
        self.ls1, self.ls2 = LayerScale(dim, layer_scale), LayerScale(dim, layer_scale)

    def forward(self, z: Tensor, asking: int | None = None) -> Tensor:
        z = (z if asking is None else z[:, :asking]) + self.ls1(self.attn(self.norm1(z), asking))
        return z + self.ls2(self.mlp(self.norm2(z)))


class Dinov2(VisionTransformer):
    """The Vision Transformer of DINOv2 (Oquab et al. 2023): blocks with layer scale, otherwise as its base.

    Args: layer_scale: γ at first. The others, shapes and errors: those of VisionTransformer.
    """

    def __init__(
        self, *, dim: int = 64, depth: int = 4, heads: int = 4, mlp_ratio: float = 4.0, dropout: float = 0.0,
        eps: float = 1e-6, layer_scale: float = 1e-5, **options: Any,
    ):  # fmt: skip
        block = {"heads": heads, "mlp_ratio": mlp_ratio, "dropout": dropout, "eps": eps}
        super().__init__(dim=dim, depth=depth, **block, **options)  # type: ignore[arg-type]
        self.blocks = [ScaledBlock(dim, layer_scale=layer_scale, **block) for _ in range(depth)]  # type: ignore
        self.initialise()


# -- names ------------------------------------------------------------------------------------------------------

# One after the other, each on what the one before left: (what `transformers` writes, ours).
RENAMED = [
    (r"^(vit|dinov2)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.attention\.(attention\.query|q_proj)\.", r"\1.attn.q."),
    (r"^(blocks\.\d+)\.attention\.(attention\.key|k_proj)\.", r"\1.attn.k."),
    (r"^(blocks\.\d+)\.attention\.(attention\.value|v_proj)\.", r"\1.attn.v."),
    (r"^(blocks\.\d+)\.attention\.(output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
]
UNUSED = re.compile(r"^(pooler\.|mask_token$|embeddings\.mask_token$)")  # for tasks of pre-training


def translated(state: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays under this library's names, queries, keys and values joined, in 32 bits.

    What only pre-training needs (a pooler, a mask token) is left out, and a query, key or value without a bias gets one
    of 0. Names that nobody knows stay as they are, for `load_state_dict` to name them.
    """
    found: dict[str, Array] = {}
    for name, value in state.items():
        for old, new in RENAMED:
            name = re.sub(old, new, name)
        if not UNUSED.match(name):
            array = np.asarray(value.detach() if hasattr(value, "detach") else value)
            found[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    for name in [name for name in found if name.endswith(".attn.q.weight")]:
        layer = name.removesuffix(".q.weight")
        for kind in ("weight", "bias"):
            names = [f"{layer}.{part}.{kind}" for part in "qkv"]
            if all(name in found for name in names):
                found[f"{layer}.qkv.{kind}"] = np.concatenate([found.pop(name) for name in names])
    for name in [name for name in found if name.endswith(".attn.qkv.weight")]:
        found.setdefault(name.replace("weight", "bias"), np.zeros(len(found[name]), np.float32))
    return found


# -- loading ----------------------------------------------------------------------------------------------------


def load_pretrained(
    source: Mapping[str, Any] | str | os.PathLike, heads: int | None = None,
    image_size: int | tuple[int, int] | None = None, eps: float = 1e-6,
) -> VisionTransformer:  # fmt: skip
    """A Vision Transformer with published weights, in evaluation mode.

    Args: source: a state_dict (arrays or tensors), a weight file (safetensors, .pth), or a folder as `transformers`
        writes it, with config.json beside the weights, whose heads and eps then count. heads: of each block.
        image_size: if other than that of the weights, positions are interpolated. eps: of the norms.
    A state without a classifier gives a model without a head, whose `forward` gives the class token's features.
    Raises ValueError naming every array that is missing, left over, or of another shape, and what of a config.json this
    model doesn't have; FileNotFoundError for a missing file.
    """
    config: dict[str, Any] = {}
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            config, state = read_config(path), translated(load_folder(path))
        else:
            state = translated(weights.load(path))
    else:
        state = translated(source)
    sizes = sizes_of(state, heads or config.get("num_attention_heads"), config.get("image_size"))
    scaled = any(name.endswith("ls1.gamma") for name in state)
    model = (Dinov2 if scaled else VisionTransformer)(**sizes, eps=config.get("layer_norm_eps", eps))
    model.load_state_dict(state)
    model.eval()
    return model if image_size is None else resized(model, image_size)


def sizes_of(state: Mapping[str, Array], heads: int | None, image_size: Any = None) -> dict[str, Any]:
    """The arguments of the model that these arrays belong to. Raises ValueError where they belong to none."""
    needed = ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")
    lacking = [name for name in needed if name not in state]
    if lacking:
        some = ", ".join(list(state)[:6])
        raise ValueError(f"expected the state of a Vision Transformer, found no {', '.join(lacking)} among {some} ...")
    projection, hidden = state["patch_embed.proj.weight"], len(state["blocks.0.mlp.fc1.weight"])
    if projection.ndim != 4 or projection.shape[2] != projection.shape[3] or state["pos_embed"].ndim != 3:
        raise ValueError(f"expected patches (C, c, p, p) and positions (1, T, C), got {projection.shape} and "
                         f"{state['pos_embed'].shape}")  # fmt: skip
    dim, channels, p, _ = projection.shape
    pool = "class" if "cls_token" in state else "mean"
    places = state["pos_embed"].shape[1] - (pool == "class")
    if image_size is None:
        side = round(places**0.5)
        if side * side != places:
            raise ValueError(f"pos_embed has {places} places for patches, which are no square: a config.json is needed")
        image_size = side * p
    heads = heads or max(dim // 64, 1)
    blocks = {int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d+\.", name)}
    classes = len(state["head.weight"]) if "head.weight" in state else 0
    return {
        "image_size": tuple(image_size) if isinstance(image_size, list) else image_size, "patch_size": p,
        "channels": channels, "num_classes": classes, "dim": dim, "depth": max(blocks) + 1, "heads": heads,
        "mlp_ratio": hidden / dim, "pool": pool,
    }  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's config.json. Raises ValueError for what this model does not have, saying what it is."""
    config = Config.of(folder)
    config.only("this model", model_type=("vit", "dinov2", "vit_mae"), hidden_act=("gelu",), use_swiglu_ffn=(False,))
    return dict(config.fields)
