"""Vision Transformers against their definition, PyTorch and `transformers`; masked pre-training; what is inside."""

import json
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import gelu
from scratch.losses import cross_entropy
from scratch.models.vit import Dinov2, MaskedAutoencoder, VisionTransformer, inside
from scratch.models.vit.masked import drawing, masked_loss, random_masks, take
from scratch.models.vit.model import Attention
from scratch.models.vit.positions import cubic, resize, resized
from scratch.models.vit.published import LayerScale, load_pretrained, translated
from scratch.models.vit.train import decayed_apart, summed_loss
from scratch.module import Module
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from scratch.random import stream
from scratch.weights import save_file
from tests import lockstep
from tests.reference.make_vit import FILE

TINY: dict = {"image_size": (8, 12), "patch_size": 4, "channels": 2, "num_classes": 3, "dim": 12, "depth": 2,
              "heads": 3}  # fmt: skip
KINDS = {"class": VisionTransformer, "mean": VisionTransformer, "scaled": Dinov2}


@pytest.fixture(autouse=True)
def _one_thread_for_pytorch(request: pytest.FixtureRequest) -> Iterator[None]:
    """Arrays this small gain nothing from threads."""
    if request.node.get_closest_marker("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(rng: np.random.Generator, kind: str = "class", **changes) -> VisionTransformer:
    sizes = TINY | ({"pool": kind} if kind != "scaled" else {}) | changes
    return awake(rng, KINDS[kind](**sizes))


def awake(rng: np.random.Generator, model: Module) -> Module:
    """Weights large enough that every part matters, norms with scales and shifts of their own."""
    for name, parameter in model.named_parameters():
        parameter.data[...] = 0.4 * rng.standard_normal(parameter.shape)
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            parameter.data += 1
    return model


def images(rng: np.random.Generator, n: int, *shape: int) -> np.ndarray:
    return rng.standard_normal((n, *(shape or (2, 8, 12))))


# -- the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_whole_model(kind, rng):
    sizes = {"image_size": (4, 6), "patch_size": 2, "num_classes": 2, "dim": 4, "heads": 2, "mlp_ratio": 1.5}
    model = tiny(rng, kind, **sizes).to(np.float64)
    gradcheck(lambda x: model(x), [images(rng, 2, 2, 4, 6)], parameters=dict(model.named_parameters()))


def plain(w: dict, x: np.ndarray, kind: str, heads: int = 3, p: int = 4) -> np.ndarray:
    """The model in loops over patches, heads and tokens."""

    def norm(z, name):
        z = z - z.mean(-1, keepdims=True)
        return z / np.sqrt((z * z).mean(-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def affine(z, name):
        return z @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    patches = [x[:, :, i : i + p, j : j + p] for i in range(0, x.shape[2], p) for j in range(0, x.shape[3], p)]
    kernel = w["patch_embed.proj.weight"]
    z = np.stack([np.einsum("bcij,kcij->bk", patch, kernel) for patch in patches], axis=1) + w["patch_embed.proj.bias"]
    if kind != "mean":
        z = np.concatenate([np.repeat(w["cls_token"], len(x), axis=0), z], axis=1)
    z = z + w["pos_embed"]
    C = z.shape[2]
    for layer in sorted({name[:8] for name in w if name.startswith("blocks")}):
        qkv, y = affine(norm(z, f"{layer}.norm1"), f"{layer}.attn.qkv"), np.zeros_like(z)
        for head in range(heads):
            at = slice(head * C // heads, (head + 1) * C // heads)
            q, k, v = (qkv[:, :, i * C : (i + 1) * C][:, :, at] for i in range(3))
            for t in range(z.shape[1]):
                e = np.exp((q[:, t, None] * k).sum(-1) / math.sqrt(C // heads))
                y[:, t, at] = (e[..., None] * v).sum(1) / e.sum(1)[:, None]
        y = affine(y, f"{layer}.attn.proj")
        z = z + (y * w[f"{layer}.ls1.gamma"] if kind == "scaled" else y)
        y = affine(gelu(Tensor(affine(norm(z, f"{layer}.norm2"), f"{layer}.mlp.fc1"))).data, f"{layer}.mlp.fc2")
        z = z + (y * w[f"{layer}.ls2.gamma"] if kind == "scaled" else y)
    z = norm(z, "norm")
    return affine(z.mean(1) if kind == "mean" else z[:, 0], "head")


def is_the_plain_one(rng: np.random.Generator, model: VisionTransformer, kind: str) -> bool:
    x = images(rng, 3)
    return np.allclose(model(x).data, plain(model.state_dict(), x, kind), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_the_one_of_a_few_plain_lines(kind, rng):
    assert is_the_plain_one(rng, tiny(rng, kind).to(np.float64), kind)


@pytest.mark.parametrize("kind", ["class", "scaled"])
def test_the_last_block_answers_those_tokens_only_that_are_read(kind, rng):
    """Values and gradients are those of all tokens, from which the first are taken."""
    model, x = tiny(rng, kind, dropout=0.0).to(np.float64), images(rng, 3)
    for asking in (1, 2):
        dy = rng.standard_normal((3, asking, model.dim))
        found = []
        for some in (model.features(x, asking=asking), model.features(x)[:, :asking]):
            model.zero_grad()
            some.backward(dy)
            found.append([some.data, *(p.grad.copy() for p in model.parameters() if p.grad is not None)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    logits = model.head(model.features(x)[:, 0]).data
    np.testing.assert_allclose(model(x).data, logits, rtol=1e-10, atol=1e-12)


class PositionsFirst(VisionTransformer):
    """Fault: positions are added before the class token is put in front, which has none then."""

    def embed(self, x):
        z = self.patch_embed(x) + self.pos_embed[:, 1:]
        from scratch.combine import concatenate

        return concatenate([self.cls_token + np.zeros((len(z), 1, 1)), z], axis=1)


class ClassTokenLast(VisionTransformer):
    """Fault: the head reads the last patch."""

    def features(self, x, asking=None):
        return super().features(x)[:, ::-1]


class MeanOverFeatures(VisionTransformer):
    """Fault: the mean is taken over the wrong axis (here there are as many patches as features)."""

    def pooled(self, z):
        return z.mean(axis=2)


def unscaled(model: Module) -> Module:
    """Fault: layer scale is missing."""
    for module in model.modules():
        if isinstance(module, LayerScale):
            module.forward = lambda z: z
    return model


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: PositionsFirst(**TINY), "class"),
        (lambda: ClassTokenLast(**TINY), "class"),
        (lambda: MeanOverFeatures(**TINY | {"patch_size": 2, "image_size": (6, 8), "pool": "mean"}), "mean"),
        (lambda: unscaled(Dinov2(**TINY)), "scaled"),
    ],
    ids=["positions before the class token", "last patch", "wrong axis", "no layer scale"],
)
def test_planted_faults_are_seen(make, kind, rng):
    """By the comparison with the plain lines."""
    model = awake(rng, make()).to(np.float64)
    x = images(rng, 3, 2, *model.patch_embed.image_size)
    p = model.patch_embed.patch_size
    assert not np.allclose(model(x).data, plain(model.state_dict(), x, kind, p=p), rtol=1e-3)


def test_patches_by_reshaping_are_those_of_a_convolution(rng):
    embed = tiny(rng).to(np.float64).patch_embed
    mine, other = (Tensor(images(rng, 3), requires_grad=True) for _ in range(2))
    other.data[...] = mine.data
    upstream, gradients = rng.standard_normal((3, 6, 12)), []
    for x, call in ((mine, embed.forward), (other, embed.as_convolution)):
        embed.zero_grad()
        y = call(x)
        y.backward(upstream)
        gradients.append([y.data, x.grad, *(parameter.grad for parameter in embed.parameters())])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_patches_come_row_by_row_and_can_be_joined_again(rng):
    embed, x = tiny(rng).patch_embed, images(rng, 2)
    patches = embed.cut(x)
    assert patches.shape == (2, 6, 32) and embed.grid == (2, 3)
    np.testing.assert_array_equal(patches.data[1, 4], x[1, :, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(embed.joined(patches).data, x)


def test_published_counts():
    """ViT-Ti, S and B with 16 × 16 patches: 5.7, 22 and 86 million (timm: 5,717,416, 22,050,664, 86,567,656)."""
    for dim, heads, expected in ((192, 3, 5_717_416), (384, 6, 22_050_664)):
        model = VisionTransformer(224, 16, 3, 1000, dim, 12, heads)
        assert model.count_parameters() == expected
    assert VisionTransformer().count_parameters() == 205_066  # 49-64, 17 places, 4 blocks of 49,984, a norm, 64-10
    assert VisionTransformer(pool="mean").count_parameters() == 205_066 - 2 * 64
    keys = list(VisionTransformer(depth=1).state_dict())
    block = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    assert keys == [
        "patch_embed.proj.weight", "patch_embed.proj.bias", "cls_token", "pos_embed",
        *(f"blocks.0.{part}.{kind}" for part in block for kind in ("weight", "bias")),
        "norm.weight", "norm.bias", "head.weight", "head.bias",
    ]  # fmt: skip


def test_first_weights(rng):
    """All classes are equally likely; patches keep their variance; nothing is left at PyTorch's own beginnings."""
    model = VisionTransformer(dim=128, patch_size=14, depth=1)
    state = model.state_dict()
    assert np.array_equal(model(images(rng, 2, 1, 28, 28).astype(np.float32)).data, np.zeros((2, 10)))
    assert state["patch_embed.proj.weight"].std() * 14 == pytest.approx(0.88, abs=0.02)  # cut off at two σ
    assert state["blocks.0.mlp.fc1.weight"].std() == pytest.approx(math.sqrt(2 / (128 + 512)), rel=0.03)
    assert state["pos_embed"].std() == pytest.approx(0.02, rel=0.1)
    assert not any(state[name].any() for name in state if name.endswith("bias"))
    assert np.array_equal(Dinov2(dim=8, heads=2, layer_scale=0.1).blocks[0].ls2.gamma.data, np.full(8, 0.1, np.float32))


def test_dropout_acts_in_training_only(rng):
    model, x = tiny(rng, dropout=0.4), images(rng, 2)
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: tiny(rng)(images(rng, 2, 2, 8, 8)), r"images (B, 2, 8, 12), got (2, 2, 8, 8)"),
        (lambda rng: tiny(rng)(images(rng, 2, 1, 8, 12)), r"images (B, 2, 8, 12), got (2, 1, 8, 12)"),
        (lambda rng: tiny(rng)(images(rng, 8, 12)), r"images (B, 2, 8, 12), got (8, 12)"),
        (lambda rng: tiny(rng)(np.ones((1, 2, 8, 12), int)), "floating-point"),
        (lambda rng: tiny(rng, patch_size=5), "patches that divide it, got 2 × 8 × 12 pixels and patches of 5 × 5"),
        (lambda rng: tiny(rng, channels=0), "got 0 × 8 × 12 pixels"),
        (lambda rng: tiny(rng, heads=5), "dim to be a multiple of heads, got 12 and 5"),
        (lambda rng: tiny(rng, depth=0), "a depth of at least 1"),
        (lambda rng: tiny(rng, pool="max"), "pool 'class' or 'mean', got 2, 3 and 'max'"),
        (lambda rng: tiny(rng, dropout=1.5), "from 0 to 1, got 1.5"),
        (lambda rng: resized(tiny(rng), (8, 10)), "patches that divide it, got 1 × 8 × 10 pixels"),
        (lambda rng: resize(np.zeros((1, 5, 2)), (2, 3), (2, 2)), "positions (1, at least 6, C)"),
        (
            lambda rng: resize(np.zeros((1, 6, 2)), (2, 3), (2, 2), "nearest"),
            "mode 'bicubic' or 'bilinear', got 'nearest'",
        ),
    ],
)
def test_bad_input_is_refused(call, message, rng):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(rng)


def striped(rng: np.random.Generator, size: int = 6):
    """Batches with something to learn: in which third of the picture it is brighter."""
    while True:
        y = rng.integers(0, 3, size)
        x = images(rng, size)
        for image, k in zip(x, y, strict=True):
            image[:, :, 4 * k : 4 * k + 4] += 1.5
        yield x, y


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "shards"), [("class", 2), ("mean", 1), ("scaled", 1)])
def test_twenty_steps_in_lockstep_with_pytorch(kind, shards, rng):
    import torch

    from tests.twins import vit as twins

    scaled = kind == "scaled"
    twin = twins.VisionTransformer(**TINY, pool="class" if scaled else kind, scaled=scaled)
    model = tiny(rng, kind)
    shapes = {name: tuple(p.shape) for name, p in twin.named_parameters()}
    assert {name: array.shape for name, array in model.state_dict().items()} == shapes
    matrices = [p for p in twin.parameters() if p.ndim in (2, 4)]
    others = [p for p in twin.parameters() if p.ndim not in (2, 4)]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    lockstep.check(
        model,
        twin,
        AdamW(decayed_apart(model, 0.1), lr=3e-3),
        torch.optim.AdamW(groups, lr=3e-3),
        striped(rng),
        ShardedLoss(model, summed_loss, shards),
        lambda x, y: torch.nn.functional.cross_entropy(twin(x), y),
    )


# -- positions for other sizes ----------------------------------------------------------------------------------


def test_cubic_weights():
    """Twice as many points: a quarter before and after each of the four, by hand with a = −3/4."""
    np.testing.assert_allclose(cubic(4, 4), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(cubic(5, 9).sum(axis=1), 1)
    row = cubic(6, 12)[5]  # at 2.25: k(1.25), k(0.25), k(0.75), k(1.75)
    np.testing.assert_allclose(row, [0, -0.10546875, 0.87890625, 0.26171875, -0.03515625, 0], atol=1e-12)
    assert cubic(2, 6)[0, 0] > 1  # it overshoots at the border, where the outermost point stands in for those beyond


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_positions_keep_the_class_token_and_go_back_to_themselves(mode, rng):
    positions = rng.standard_normal((1, 7, 5))
    np.testing.assert_allclose(resize(positions, (2, 3), (2, 3), mode), positions, atol=1e-12)
    larger = resize(positions, (2, 3), (4, 9), mode)
    assert larger.shape == (1, 37, 5)
    np.testing.assert_array_equal(larger[:, :1], positions[:, :1])
    flat = np.ones((1, 6, 2))
    np.testing.assert_allclose(resize(flat, (2, 3), (5, 4), mode), 1, rtol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("new", [(6, 4), (3, 9), (2, 2), (11, 13)])
def test_positions_are_resized_as_pytorch_resizes_images(mode, new, rng):
    import torch

    positions = rng.standard_normal((1, 21, 3))
    image = torch.tensor(positions[:, 1:]).reshape(1, 4, 5, 3).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(image, size=new, mode=mode, align_corners=False)
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy()
    np.testing.assert_allclose(resize(positions, (4, 5), new, mode)[:, 1:], expected, atol=1e-12)


def test_a_model_for_larger_images_is_the_same_but_for_its_positions(rng):
    model = tiny(rng)
    larger = resized(model, (16, 8))
    assert larger.patch_embed.grid == (4, 2) and larger(images(rng, 2, 2, 16, 8)).shape == (2, 3)
    assert model.patch_embed.grid == (2, 3) and model(images(rng, 2)).shape == (2, 3)
    for name, array in larger.state_dict().items():
        if name != "pos_embed":
            np.testing.assert_array_equal(array, model.state_dict()[name])
    assert [name for name, _ in larger.named_parameters()] == [name for name, _ in model.named_parameters()]
    x = images(rng, 2)
    np.testing.assert_allclose(resized(model, (8, 12))(x).data, model(x).data, rtol=1e-5)


# -- published weights ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frozen() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return dict(file)


def part(frozen: dict, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in frozen.items() if name.startswith(prefix)}


@pytest.mark.parametrize("place", ["vit/file/", "vit/memory/", "dinov2/file/"])
@pytest.mark.parametrize("size", ["own", "other"])
def test_hidden_states_are_those_of_transformers(place, size, frozen):
    """To 1e-4; the largest difference measured is 7e-6, of states up to 21."""
    name = place.split("/")[0]
    x, expected = frozen[f"{name}/{size}/x"], frozen[f"{name}/{size}/states"]
    state, eps = part(frozen, place), {"vit": 1e-12, "dinov2": 1e-6}[name]
    model = load_pretrained(state, heads=3, image_size=x.shape[2:] if size == "other" else None, eps=eps)
    assert isinstance(model, Dinov2) == (name == "dinov2") and not model.training
    states = np.stack(inside.hidden_states(model, x))
    assert states.dtype == np.float32
    np.testing.assert_allclose(states, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(model.features(x).data, frozen[f"{name}/{size}/last"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(model(x).data, frozen[f"{name}/{size}/last"][:, 0], atol=1e-4, rtol=0)  # no head


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_a_folder_is_read_with_its_config(name, frozen, tmp_path):
    (tmp_path / "config.json").write_text(str(frozen[f"{name}/config"]), encoding="utf-8")
    state = {k: a.astype(np.float16) for k, a in part(frozen, f"{name}/file/").items()}
    save_file(state, tmp_path / "model.safetensors")
    model = load_pretrained(tmp_path)
    assert model.blocks[0].attn.heads == 3 and model.norm.eps == {"vit": 1e-12, "dinov2": 1e-6}[name]
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    x = frozen[f"{name}/own/x"]
    np.testing.assert_allclose(model.features(x).data, frozen[f"{name}/own/last"], atol=0.1)
    other = load_pretrained(tmp_path / "model.safetensors", heads=3)
    np.testing.assert_allclose(other.features(x).data, model.features(x).data, atol=1e-5)


def test_without_layer_scale_the_hidden_states_are_others(frozen):
    x, expected = frozen["dinov2/own/x"], frozen["dinov2/own/states"]
    model = unscaled(load_pretrained(part(frozen, "dinov2/file/"), heads=3))
    assert np.abs(np.stack(inside.hidden_states(model, x)) - expected).max() > 0.1


def test_our_own_names_pass_through_and_a_missing_bias_is_zero(rng):
    """timm, DINO and DINOv2 write these names; some models have no bias in qkv."""
    model = tiny(rng, "scaled", image_size=8)
    state = dict(model.state_dict())
    again = load_pretrained(state, heads=3)
    x = images(rng, 2, 2, 8, 8).astype(np.float32)
    np.testing.assert_array_equal(again(x).data, model.eval()(x).data)
    for name in [name for name in state if name.endswith("qkv.bias")]:
        model.state_dict()[name][...] = 0
        del state[name]
    np.testing.assert_array_equal(load_pretrained(state, heads=3)(x).data, model(x).data)
    mean = tiny(rng, "mean", image_size=8).eval()
    np.testing.assert_array_equal(load_pretrained(mean.state_dict(), heads=3)(x).data, mean(x).data)


def test_a_classifier_keeps_its_head(frozen):
    state = {f"vit.{name}": a for name, a in part(frozen, "vit/file/").items()}
    state |= {"classifier.weight": np.ones((4, 12), np.float32), "classifier.bias": np.arange(4, dtype=np.float32)}
    model = load_pretrained(state, heads=3)
    x = frozen["vit/own/x"]
    features = frozen["vit/own/last"][:, 0]
    np.testing.assert_allclose(model(x).data, features.sum(axis=1)[:, None] + np.arange(4), atol=1e-3)
    assert "pooler.dense.weight" in part(frozen, "vit/memory/")
    assert not any("pooler" in name or "mask" in name for name in translated(part(frozen, "vit/memory/")))
    assert "embeddings.mask_token" in part(frozen, "dinov2/file/")


def without(state: dict, *names: str) -> dict:
    return {name: a for name, a in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"embeddings.register_tokens": np.zeros((1, 4, 12))}, "unexpected: embeddings.register_tokens"),
        (lambda s: s | {"encoder.layer.0.mlp.weights_in.bias": np.zeros(3)}, "blocks.0.mlp.weights_in.bias"),
        (lambda s: without(s, "encoder.layer.1.mlp.fc2.bias"), "missing: blocks.1.mlp.fc2.bias"),
        (lambda s: without(s, "encoder.layer.1.attention.attention.key.weight"), "unexpected: blocks.1.attn.q.weight"),
        (lambda s: s | {"layernorm.bias": np.zeros(11, np.float32)}, "norm.bias: expected shape (12,), got (11,)"),
        (lambda s: s | {"classifier.weight": np.zeros((4, 24), np.float32), "classifier.bias": np.zeros(4)},
         "head.weight: expected shape (4, 12), got (4, 24)"),
        (lambda s: without(s, "embeddings.position_embeddings"), "found no pos_embed among"),
        (lambda s: {"features.0.weight": np.zeros(3)}, "among features.0.weight"),
        (lambda s: s | {"embeddings.position_embeddings": np.zeros((1, 9, 12))}, "8 places for patches, which are no"),
        (lambda s: s | {"embeddings.patch_embeddings.projection.weight": np.zeros((9, 2, 4, 3))}, "(C, c, p, p)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message, frozen):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pretrained(change(part(frozen, "dinov2/file/")), heads=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "swin"}, "model_type is 'swin', this model has 'vit' or 'dinov2' or 'vit_mae'"),
        ({"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu', this model has 'gelu'"),
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn is True"),
        ("{", "config.json: expected a JSON object, but it is no JSON: Expecting property name"),
        ("[]", "config.json: expected a JSON object, but it holds a list"),
    ],
)
def test_a_config_of_another_model_is_refused(change, message, frozen, tmp_path):
    text = change if isinstance(change, str) else json.dumps(json.loads(str(frozen["dinov2/config"])) | change)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    save_file(part(frozen, "dinov2/file/"), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pretrained(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pretrained(tmp_path / "nothing.safetensors")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="expected one of model.safetensors, pytorch_model.bin, .* found none"):
        load_pretrained(tmp_path)


# -- masked pre-training ----------------------------------------------------------------------------------------


def masks(rng: np.random.Generator, n: int, hidden: int = 4, patches: int = 6):
    return random_masks(n, patches, hidden / patches, rng)


@pytest.mark.parametrize("kind", ["class", "mean"])
def test_gradients_of_the_masked_autoencoder(kind, rng):
    encoder = tiny(rng, kind, image_size=(4, 6), patch_size=2, dim=4, depth=1, heads=2, num_classes=0)
    model = awake(rng, MaskedAutoencoder(encoder, dim=4, depth=1, heads=2)).to(np.float64)
    keep, hide = masks(rng, 2)
    gradcheck(lambda x: model(x, keep, hide), [images(rng, 2, 2, 4, 6)], parameters=dict(model.named_parameters()))


def test_masks_cover_the_image_once_and_every_image_has_its_own(rng):
    keep, hide = random_masks(500, 16, 0.75, np.random.default_rng(1))
    assert keep.shape == (500, 4) and hide.shape == (500, 12)
    whole = np.sort(np.concatenate([keep, hide], axis=1), axis=1)
    np.testing.assert_array_equal(whole, np.tile(np.arange(16), (500, 1)))
    counts = np.bincount(keep.reshape(-1), minlength=16)
    assert abs(counts - 125).max() < 4 * math.sqrt(500 * 0.25 * 0.75)
    for ratio in (0.0, 0.01, 1.0):
        with pytest.raises(ValueError, match="hides 1 to 15 of 16"):
            random_masks(2, 16, ratio, rng)


def test_the_encoder_of_all_patches_is_the_model_itself(rng):
    """In any order: each patch takes its position along."""
    model, x = MaskedAutoencoder(tiny(rng)).to(np.float64), images(rng, 2)
    order = np.stack([rng.permutation(6) for _ in range(2)])
    z, whole = model.encode(x, order).data, model.encoder.features(x).data
    np.testing.assert_allclose(z[:, 0], whole[:, 0], rtol=1e-9)
    np.testing.assert_allclose(z[:, 1:], np.take_along_axis(whole[:, 1:], order[..., None], axis=1), rtol=1e-9)


def test_what_is_hidden_is_not_seen_and_only_what_is_hidden_counts(rng):
    model, x = awake(rng, MaskedAutoencoder(tiny(rng))).to(np.float64), images(rng, 3)
    keep, hide = masks(rng, 3)
    drawn = model(x, keep, hide).data
    patches = model.encoder.patch_embed.cut(x).data
    other = patches.copy()
    other[np.arange(3)[:, None], hide] += 1
    moved = model.encoder.patch_embed.joined(Tensor(other)).data
    np.testing.assert_array_equal(model(moved, keep, hide).data, drawn)
    total, count = masked_loss(model, x, keep, hide)
    true = np.stack([patches[b, hide[b]] for b in range(3)])
    assert count == 3 * 4 * 32 and total.item() == pytest.approx(((drawn - true) ** 2).sum(), rel=1e-12)
    seen, whole = drawing(model, x, keep, hide)
    assert np.isnan(seen).sum() == count and not np.isnan(whole).any()
    np.testing.assert_array_equal(seen[~np.isnan(seen)], x[~np.isnan(seen)])
    assert ((whole - x) ** 2).sum() == pytest.approx(total.item())


def over_all_patches(model: MaskedAutoencoder, x, keep, hide):
    """Fault: the visible patches count too."""
    order = np.concatenate([keep, hide], axis=1)
    drawn, true = model(x, keep, order), take(model.encoder.patch_embed.cut(x), order)
    return ((drawn - true) * (drawn - true)).sum(), drawn.size


def to_scale(rng: np.random.Generator, size: int = 6):
    while True:
        yield striped_images(rng, size), *masks(rng, size)


def striped_images(rng: np.random.Generator, size: int) -> np.ndarray:
    x = np.repeat(rng.standard_normal((size, 2, 8, 1)), 12, axis=3)
    return x + 0.1 * images(rng, size)


@pytest.mark.torch
@pytest.mark.parametrize(("loss", "kind"), [(masked_loss, "class"), (masked_loss, "mean"), (over_all_patches, "class")])
def test_pre_training_in_lockstep_with_pytorch(loss, kind, rng):
    """The twin puts tokens back in order, and masks the errors; a loss over all patches does not pass."""
    import torch

    from tests.twins import vit as twins

    twin = twins.MaskedAutoencoder(twins.VisionTransformer(**TINY, pool=kind), 8, 1, 2)
    model = awake(rng, MaskedAutoencoder(tiny(rng, kind), 8, 1, 2))
    arguments = (
        model, twin, AdamW(model.parameters(), lr=3e-3), torch.optim.AdamW(twin.parameters(), lr=3e-3), to_scale(rng),
        ShardedLoss(model, loss, 2), twin,
    )  # fmt: skip
    if loss is masked_loss:
        lockstep.check(*arguments)
    else:
        with pytest.raises(AssertionError, match="loss at step 0"):
            lockstep.check(*arguments)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.array([[0, 1]]), "whole numbers (2, K) of patches, got int64 (1, 2)"),
        (np.ones((2, 3)), "whole numbers (2, K) of patches, got float64 (2, 3)"),
        (np.array([[0, 6], [1, 2]]), "patches from 0 to 5, got 0 to 6"),
        (np.array([[0, -1], [1, 2]]), "patches from 0 to 5, got -1 to 2"),
    ],
)
def test_patch_numbers_that_do_not_fit(numbers, message, rng):
    with pytest.raises(ValueError, match=re.escape(message)):
        MaskedAutoencoder(tiny(rng))(images(rng, 2), numbers, masks(rng, 2)[1])


def test_pre_training_changes_the_model_that_is_fine_tuned(rng):
    """The autoencoder holds the model, not a copy, and its loss reaches all of it but the head."""
    model = tiny(rng)
    autoencoder = MaskedAutoencoder(model)
    assert autoencoder.encoder is model
    total, _ = masked_loss(autoencoder, images(rng, 3), *masks(rng, 3))
    total.backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == ["head.weight", "head.bias"]
    assert all(parameter.grad is not None for name, parameter in autoencoder.named_parameters() if "head" not in name)


# -- inside -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_the_weights_that_the_model_uses(kind, rng):
    model, x = tiny(rng, kind, dropout=0.3).to(np.float64), images(rng, 2)
    maps = inside.attention_maps(model, x)
    T = 6 if kind == "mean" else 7
    assert maps.shape == (2, 2, 3, T, T) and model.training
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-12)
    model.eval()
    block, z = model.blocks[1], inside.hidden_states(model, x)[1]
    qkv = block.attn.qkv(block.norm1(Tensor(z)))
    v = np.split(qkv.data, 3, axis=2)[2].reshape(2, T, 3, 4)
    mixed = np.einsum("bhts,bshd->bthd", maps[1], v).reshape(2, T, 12)
    np.testing.assert_allclose(block.attn.proj(Tensor(mixed)).data, block.attn(block.norm1(Tensor(z))).data, rtol=1e-9)


def test_hidden_states_begin_with_the_embedding_and_end_with_the_answer(rng):
    model, x = tiny(rng, dropout=0.3).to(np.float64), images(rng, 2)
    states = inside.hidden_states(model, x)
    assert len(states) == 3 and model.training
    model.eval()
    np.testing.assert_array_equal(states[0], model.embed(x).data)
    np.testing.assert_allclose(model.head(model.norm(Tensor(states[-1]))[:, 0]).data, model(x).data, rtol=1e-12)


def test_where_the_class_token_looks(rng):
    model, x = tiny(rng), images(rng, 2)
    maps = inside.attention_maps(model, x)
    looks = inside.class_attention(model, x)
    assert looks.shape == (2, 2, 3, 2, 3)
    assert looks[1, 0, 2, 1, 0] == maps[1, 0, 2, 0, 1 + 3]
    with pytest.raises(ValueError, match="a model with a class token"):
        inside.class_attention(tiny(rng, "mean"), x)


def test_rollout_by_hand():
    """Two blocks, two tokens, one head: A₁ = (3/4 1/4; 0 1), A₂ = (1/2 1/2; 1/4 3/4)."""
    P = np.array([[[0.5, 0.5], [0, 1]], [[0, 1], [0.5, 0.5]]])[:, None, None]
    R = inside.rollout(P)
    np.testing.assert_allclose(R, [[[0.375, 0.625], [0.1875, 0.8125]]])
    heads = np.concatenate([P, P.swapaxes(-1, -2) / P.swapaxes(-1, -2).sum(-1, keepdims=True)], axis=2)
    np.testing.assert_allclose(inside.rollout(heads).sum(axis=-1), 1)
    with pytest.raises(ValueError, match="maps"):
        inside.rollout(P[0])


@pytest.mark.parametrize("kind", ["class", "mean"])
def test_what_is_seen_sums_to_one_and_lies_where_attention_went(kind, rng):
    model, x = tiny(rng, kind), images(rng, 3)
    found = inside.seen(model, x)
    assert found.shape == (3, 2, 3)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, rtol=1e-5)
    R = inside.rollout(inside.attention_maps(model, x))
    row = R[1, 0, 1:] if kind == "class" else R[1].mean(axis=0)
    np.testing.assert_allclose(found[1].reshape(-1), row / row.sum(), rtol=1e-5)


def test_heads_that_look_nowhere_and_everywhere_have_the_distances_on_paper(monkeypatch, rng):
    """A grid of 2 × 3 patches of 4 pixels: to itself 0; evenly, the mean of all distances."""
    model, x = tiny(rng, "class"), images(rng, 1)
    near, even = np.eye(7), np.full((7, 7), 1 / 7)
    monkeypatch.setattr(inside, "attention_maps", lambda *a: np.stack([near, even])[None, None])
    places = [(i, j) for i in range(2) for j in range(3)]
    mean = np.mean([math.dist(a, b) for a in places for b in places])
    np.testing.assert_allclose(inside.attention_distance(model, x), [[0, 4 * mean]], atol=1e-12)


def test_similarities_of_positions(rng):
    model = tiny(rng)
    similarity = inside.position_similarity(model)
    assert similarity.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(np.einsum("ijij->ij", similarity), 1, rtol=1e-5)
    rows = model.pos_embed.data[0, 1:] - model.pos_embed.data[0, 1:].mean(axis=0)
    cosine = rows[1] @ rows[5] / np.linalg.norm(rows[1]) / np.linalg.norm(rows[5])
    assert similarity[0, 1, 1, 2] == pytest.approx(cosine, rel=1e-5)


def test_filters_are_the_directions_in_which_the_first_matrix_varies(rng):
    model = tiny(rng)
    weight = model.patch_embed.proj.weight.data
    direction = rng.standard_normal(weight[0].shape)
    weight[...] = np.arange(12).reshape(-1, 1, 1, 1) * direction
    found = inside.patch_filters(model, 3)
    assert found.shape == (3, 2, 4, 4)
    assert abs((found[0] * direction).sum()) == pytest.approx(np.linalg.norm(direction), rel=1e-5)


def test_looking_is_not_on_the_tape(rng):
    model, x = tiny(rng), images(rng, 2)
    inside.attention_maps(model, x)
    loss = cross_entropy(model(x), np.array([0, 1]))
    loss.backward()
    assert all(isinstance(block.attn, Attention) for block in model.blocks)
    assert all(parameter.grad is not None for parameter in model.parameters())


# -- values that single changed expressions would move -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["class", "mean"])
def test_the_decoder_gets_features_and_masks_with_their_positions(kind, rng):
    """y = [z W + b + p(visible), m + p(hidden)], the blocks, the norm, and pixels of the hidden ones."""
    encoder = tiny(rng, kind)
    model, x = awake(rng, MaskedAutoencoder(encoder, 8, 2, 2)).to(np.float64), images(rng, 2)
    keep, hide = masks(rng, 2)
    z, positions, first = model.encode(x, keep).data, model.decoder_pos_embed.data[0], int(kind == "class")
    seen = np.concatenate([np.zeros((2, first), int), keep + first], axis=1)
    y = np.concatenate([z @ model.decoder_embed.weight.data.T + model.decoder_embed.bias.data + positions[seen],
                        model.mask_token.data + positions[hide + first]], axis=1)  # fmt: skip
    y = Tensor(y)
    for block in model.decoder_blocks:
        y = block(y)
    expected = model.decoder_pred(model.decoder_norm(y)).data[:, z.shape[1] :]
    np.testing.assert_allclose(model(x, keep, hide).data, expected, rtol=1e-10)


def test_visible_patches_and_the_class_token_are_dropped_as_by_the_model(rng):
    """In training, with every patch visible in its order: the model's own features, of the same random draws."""
    model, x = MaskedAutoencoder(tiny(rng, dropout=0.3)).to(np.float64), images(rng, 2)
    with stream(1, 0):
        z = model.encode(x, np.tile(np.arange(6), (2, 1))).data
    with stream(1, 0):
        whole = model.encoder.features(x).data
    np.testing.assert_allclose(z, whole, rtol=1e-9, atol=1e-12)


def test_a_masked_autoencoder_begins_as_published(rng):
    """Mask token and positions from N(0, 0.02²), norms with eps 10⁻⁶, the dtype of the encoder, and width 1 is one."""
    model = MaskedAutoencoder(tiny(rng).to(np.float64), 64, 1, 2)
    assert model.mask_token.shape == (1, 1, 64) and model.decoder_pos_embed.shape == (1, 7, 64)
    for parameter in (model.mask_token, model.decoder_pos_embed):
        assert abs(parameter.data.std() / 0.02 - 1) < 5 / math.sqrt(2 * parameter.size)
    assert model.decoder_norm.eps == 1e-6
    assert {parameter.dtype for parameter in model.parameters()} == {np.dtype(np.float64)}
    narrow = MaskedAutoencoder(tiny(rng, dim=1, heads=1), 4, 1, 2)
    assert narrow.decoder_pred.weight.shape == (32, 4)


def test_no_patch_and_one_patch_are_taken_too(rng):
    patches = rng.standard_normal((2, 3, 4))
    assert take(patches, np.zeros((2, 0), int)).shape == (2, 0, 4)
    one = take(patches, np.array([[1], [1]])).data  # the least number is the largest
    np.testing.assert_array_equal(one, patches[:, 1:2])
