"""Published Vision Transformers: DINOv2's blocks, and weights under the names in which they are kept.

    names in the file                                                    written by
    blocks.0.attn.qkv.weight, blocks.0.mlp.fc1.bias ...                  timm, DINO, DINOv2, masked autoencoders: ours
    encoder.layer.0.attention.attention.query.weight ...                 `transformers`: files of ViTModel, Dinov2Model
    layers.0.attention.q_proj.weight ...                                 `transformers` 5: the same models in memory

Sizes are read off the arrays, and a config.json must agree with them. The number of heads and the norms' eps leave no
trace there: they are config.json's, or its defaults; of a file alone, heads are given, or one for 64 features.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratch import weights
from scratch.messages import shown
from scratch.models.vit.model import Block, VisionTransformer
from scratch.models.vit.positions import resized
from scratch.module import Module
from scratch.tensor import Array, Parameter, Tensor
from scratch.weights.folder import load_folder
from scratch.weights.published import MAX_SIZE, Config, build, renamed, told

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
    for name, value in renamed(dict(state), RENAMED).items():
        if not UNUSED.match(name):
            array = np.asarray(value.detach() if hasattr(value, "detach") else value)
            found[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    for name in [name for name in found if name.endswith(".attn.q.weight")]:
        layer = name.removesuffix(".q.weight")
        for kind in ("weight", "bias"):
            names = [f"{layer}.{part}.{kind}" for part in "qkv"]
            shapes = {found[name].shape for name in names if name in found}
            if len(shapes) > 1 or () in shapes:
                raise ValueError(f"expected {', '.join(map(shown, names))} of the same shape, got {told(shapes)}")
            if all(name in found for name in names):
                found[f"{layer}.qkv.{kind}"] = np.concatenate([found.pop(name) for name in names])
    for name in [name for name in found if name.endswith(".attn.qkv.weight") and found[name].ndim]:
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
    if not isinstance(source, (str, os.PathLike)):
        return _sized(_made(source, Config({}, "the state"), heads, eps), image_size)
    path = Path(source)
    config = Config.of(path) if path.is_dir() else Config({}, str(path))
    state = load_folder(path) if path.is_dir() else weights.load(path)
    try:
        if path.is_dir():
            eps, heads = fields_of(config, heads)
        return _sized(_made(state, config, heads, eps), image_size)
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None


def _made(source: Mapping[str, Any], config: Config, heads: int | None, eps: float) -> VisionTransformer:
    state = translated(source)
    sizes = sizes_of(state, heads, config.fields.get("image_size"))
    agrees(config, sizes, {name for name in source if name.endswith(("qkv.bias", "query.bias", "q_proj.bias"))})
    scaled = any(name.endswith("ls1.gamma") for name in state)
    model = build(config, state, lambda: (Dinov2 if scaled else VisionTransformer)(**sizes, eps=eps))
    model.load_state_dict(state)
    return model


def _sized(model: VisionTransformer, image_size: int | tuple[int, int] | None) -> VisionTransformer:
    return model if image_size is None else resized(model, image_size)


def sizes_of(state: Mapping[str, Array], heads: int | None, image_size: Any = None) -> dict[str, Any]:
    """The arguments of the model that these arrays belong to. Raises ValueError where they belong to none."""
    needed = {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}
    lacking = [name for name in needed if name not in state]
    if lacking:
        some = ", ".join(map(shown, list(state)[:6]))
        raise ValueError(f"expected the state of a Vision Transformer, found no {', '.join(lacking)} among {some} ...")
    for name, axes in {**needed, "head.weight": 2}.items():
        if name in state and (state[name].ndim != axes or 0 in state[name].shape):
            what = " (C, c, p, p)" if axes == 4 else ""
            raise ValueError(f"expected {name} of {axes} axes{what}, none of them empty, got {state[name].shape}")
    (dim, channels, p, other), hidden = state["patch_embed.proj.weight"].shape, len(state["blocks.0.mlp.fc1.weight"])
    if p != other:
        raise ValueError(f"expected patch_embed.proj.weight of shape (C, c, p, p), got {(dim, channels, p, other)}")
    pool = "class" if "cls_token" in state else "mean"
    places = state["pos_embed"].shape[1] - (pool == "class")
    if image_size is None:
        side = round(places**0.5)
        if side * side != places:
            raise ValueError(f"pos_embed has {places} places for patches, which are no square: a config.json is needed")
        image_size = side * p
    return {
        "image_size": _pair(image_size, "image_size"), "patch_size": p, "channels": channels,
        "num_classes": len(state["head.weight"]) if "head.weight" in state else 0, "dim": dim, "depth": depth_of(state),
        "heads": max(dim // 64, 1) if heads is None else heads, "pool": pool,
        "mlp_ratio": (hidden + 0.5) / dim,  # whose product with dim is cut to a whole number
    }  # fmt: skip


def depth_of(state: Mapping[str, Array]) -> int:
    """How many blocks there are. Raises ValueError unless they are numbered from 0 without a gap."""
    numbers = {found[1] for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    lacking = next(i for i in range(len(numbers) + 1) if str(i) not in numbers)
    if lacking < len(numbers):
        beyond = max(numbers - {str(i) for i in range(lacking)}, key=len)
        raise ValueError(f"expected blocks numbered from 0, found no block {lacking}, but a block {shown(beyond)}")
    return lacking


def _pair(size: Any, name: str) -> int | tuple[int, int]:
    """A number of pixels, or two of them."""
    both = size if isinstance(size, list) else [size]
    if len(both) not in (1, 2) or not all(type(n) is int and 1 <= n <= MAX_SIZE for n in both):
        raise ValueError(f"expected {name} to be a size or two, got {told(size)}")
    return both[0] if len(set(both)) == 1 else (both[0], both[1])


# -- config.json ------------------------------------------------------------------------------------------------

EPS = {"vit": 1e-12, "dinov2": 1e-6, "vit_mae": 1e-12}  # the defaults of `transformers`
HEADS = 12


def fields_of(config: Config, heads: int | None) -> tuple[float, int]:
    """(eps, heads), which leave no trace in the arrays. Raises ValueError for what this model does not have."""
    config.only("this model", model_type=tuple(EPS), hidden_act=("gelu",), use_swiglu_ffn=(False,))
    kind = config.text("model_type", "vit")
    heads = config.count("num_attention_heads", HEADS) if heads is None else heads
    return config.number("layer_norm_eps", EPS[kind]), heads


def agrees(config: Config, sizes: Mapping[str, Any], biases: Collection[str]) -> None:
    """Raises ValueError where config.json describes another network than the arrays do: which of them counts?"""
    dim, p = sizes["dim"], sizes["patch_size"]
    known: dict[str, tuple[Any, ...]] = {
        "hidden_size": (dim,), "num_hidden_layers": (sizes["depth"],), "patch_size": (p, [p, p]),
        "num_channels": (sizes["channels"],), "qkv_bias": (bool(biases),),
    }  # fmt: skip
    hidden = int(dim * sizes["mlp_ratio"])
    if config.fields.get("model_type") == "dinov2":  # its units are int(hidden_size · mlp_ratio)
        ratio = config.number("mlp_ratio", sizes["mlp_ratio"])
        known["mlp_ratio"] = (ratio,) if int(dim * ratio) == hidden else (hidden / dim,)
    else:
        known["intermediate_size"] = (hidden,)
    config.only("the file of weights", **known)
