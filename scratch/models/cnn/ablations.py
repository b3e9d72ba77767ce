"""What each part is there for: the default run, and a network of 20 layers, with one part taken away or replaced.

`python -m scratch.models.cnn.ablations` trains them all and prints the tables of the README.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import relu
from scratch.data import load_digits
from scratch.layers import AvgPool2d, BatchNorm2d, Identity
from scratch.losses import cross_entropy
from scratch.models.cnn.model import LeNet5
from scratch.models.cnn.resnet import BasicBlock, ResNet
from scratch.models.cnn.train import Settings, build, train
from scratch.module import Module, Parameter
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int, int], Module]


# -- LeNet ------------------------------------------------------------------------------------------------------


def lenet(settings: Settings, channels: int, classes: int) -> LeNet5:
    model = build(settings, channels, classes)
    assert isinstance(model, LeNet5)
    return model


def with_average_pooling(settings: Settings, channels: int, classes: int) -> Module:
    """The mean of 2×2 in place of the largest."""
    model = lenet(settings, channels, classes)
    vars(model)["pool"] = AvgPool2d(2)
    return model


def with_strides(settings: Settings, channels: int, classes: int) -> Module:
    """Every convolution takes steps of two pixels, and nothing is pooled."""
    model = lenet(settings, channels, classes)
    vars(model)["pool"] = Identity()
    for convolution in model.convolutions:
        convolution.stride = (2, 2)
    return model


class Shuffled(Module):
    """The pixels in another order, the same for every image: nothing is lost but who is whose neighbour.

    To a network of fully connected layers this makes no difference.
    """

    def __init__(self, model: Module, pixels: int = 28 * 28):
        self.model = model
        self.order = np.random.default_rng(0).permutation(pixels)

    def forward(self, x: Any) -> Tensor:
        return self.model(x.reshape(*x.shape[:2], -1)[:, :, self.order].reshape(x.shape))


def shuffled(settings: Settings, channels: int, classes: int) -> Module:
    return Shuffled(lenet(settings, channels, classes))


# -- twenty layers ----------------------------------------------------------------------------------------------


class PlainBlock(BasicBlock):
    """The block without its shortcut: y = relu(f(x))."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__(inplanes, planes, stride)
        self.downsample = None  # no parameters that nothing uses

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))


class Bias(Module):
    """What is left of a batch norm that doesn't normalise: y = x + b.  Shapes: (N, C, H, W) → the same."""

    def __init__(self, channels: int):
        self.bias = Parameter(np.zeros(channels, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.reshape(-1, 1, 1)


def without_norm(model: Module) -> Module:
    """Every batch norm replaced by a bias."""
    for module in list(model.modules()):
        for name, value in list(vars(module).items()):
            if isinstance(value, BatchNorm2d):
                vars(module)[name] = Bias(value.num_features)
    return model


def plain(settings: Settings, channels: int, classes: int) -> Module:
    depth, widths = (settings.blocks,) * len(settings.widths), settings.widths
    return ResNet(PlainBlock, depth, classes, in_channels=channels, widths=widths)


def resnet_without_norm(*arguments: Any) -> Module:
    return without_norm(build(*arguments))


def plain_without_norm(*arguments: Any) -> Module:
    return without_norm(plain(*arguments))


DEEP: dict[str, Any] = {"model": "resnet", "widths": (8, 16, 32), "blocks": 3, "steps": 400}

LENET: dict[str, tuple[dict[str, Any], Make]] = {
    "LeNet as it is": ({}, build),
    "no shifts": ({"shift": 0}, build),
    "average pooling": ({}, with_average_pooling),
    "stride 2, no pooling": ({}, with_strides),
    "pixels shuffled": ({}, shuffled),
    "pixels shuffled, no shifts": ({"shift": 0}, shuffled),
}
TWENTY: dict[str, tuple[dict[str, Any], Make]] = {
    "ResNet-20 as it is": (DEEP, build),
    "no shortcuts": (DEEP, plain),
    "no normalisation": (DEEP, resnet_without_norm),
    "neither": (DEEP, plain_without_norm),
    "no shifts, 20 layers": (DEEP | {"shift": 0}, build),
}
COLUMNS = ("loss at step 0", "first layer's gradient", "final loss", "test accuracy")


def first_gradient(model: Module, count: int = 64) -> float:
    """‖∂loss/∂W‖ of the first layer before training, on the first images; `model` is not changed."""
    model, data = copy.deepcopy(model), load_digits(flat=False).train
    cross_entropy(model(Tensor(data.inputs[:count])), data.targets[:count]).backward()
    gradient = next(model.parameters()).grad
    return np.nan if gradient is None else float(np.linalg.norm(gradient))


def measure(name: str, changes: dict[str, Any], make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run, with `steps` as its longest; those of a run that broke off are missing."""
    length = min(steps, changes.get("steps", Settings.steps))
    settings = Settings(**{**changes, "steps": length, "seed": seed})
    seen: dict[str, float] = {}

    def make_and_look(*arguments: Any) -> Module:
        model = make(*arguments)
        seen["first layer's gradient"] = first_gradient(model)
        return model

    figures = figures_of("cnn", name, settings, parent, train, make_and_look)
    return seen | figures


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=Settings.steps, help="of each run, at most")
    a = p.parse_args()
    rows = []
    for group in (LENET, TWENTY):
        rows += ["", head(COLUMNS)]
        for name, (changes, make) in group.items():
            figures = measure(name, changes, make, a.seed, a.steps, a.parent)
            rows.append(row(name, COLUMNS, figures))
    say("\n".join(rows))


if __name__ == "__main__":
    main()
