"""The convolutional networks in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


class LeNet5(nn.Module):
    """`places` is the area of the last maps, which the other side works out from the image."""

    def __init__(
        self,
        places: int = 25,
        in_channels: int = 1,
        channels: Sequence[int] = (6, 16),
        hidden: Sequence[int] = (120, 84),
        num_classes: int = 10,
        padding: Sequence[int] = (2, 0),
    ):
        super().__init__()
        self.convolutions = nn.ModuleList()
        for i, c in enumerate(channels):
            self.convolutions.append(nn.Conv2d(channels[i - 1] if i else in_channels, c, 5, padding=padding[i]))
        self.layers = nn.ModuleList()
        n = channels[-1] * places
        for m in [*hidden, num_classes]:
            self.layers.append(nn.Linear(n, m))
            n = m

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convolutions:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        x = x.flatten(1)
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else F.relu(x))
        return x


class VGG(nn.Module):
    def __init__(self, plan: str, places: int, in_channels: int, hidden: Sequence[int], num_classes: int = 10):
        """`plan` as in "4 4 M 6 M": channels of convolutions, and M for a pooling."""
        super().__init__()
        features: list[nn.Module] = []
        c = in_channels
        for word in plan.split():
            if word == "M":
                features.append(nn.MaxPool2d(kernel_size=2, stride=2))
            else:
                features.extend([nn.Conv2d(c, int(word), 3, 1, 1), nn.BatchNorm2d(int(word)), nn.ReLU()])
                c = int(word)
        self.features = nn.Sequential(*features)
        head: list[nn.Module] = []
        n = c * places
        for m in hidden:
            head.extend([nn.Linear(n, m), nn.ReLU(), nn.Dropout(0.0)])
            n = m
        self.classifier = nn.Sequential(*head, nn.Linear(n, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), start_dim=1))


class Residual(nn.Module):
    """Both kinds of block: `kernels` (3, 3) is the basic one, (1, 3, 1) the bottleneck."""

    def __init__(self, c: int, planes: int, stride: int, kernels: Sequence[int]):
        super().__init__()
        self.n = len(kernels)
        out = planes * (4 if self.n == 3 else 1)
        strided = 1 if self.n == 3 else 0
        n = c
        for i, k in enumerate(kernels):
            m = out if i == self.n - 1 else planes
            s = stride if i == strided else 1
            self.add_module(f"conv{i + 1}", nn.Conv2d(n, m, k, s, padding=(k - 1) // 2, bias=False))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(m))
            n = m
        if stride > 1 or c != out:
            self.downsample = nn.Sequential(nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for i in range(1, self.n + 1):
            h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
            if i < self.n:
                h = F.relu(h)
        return F.relu(h + self.downsample(x))


class ResNet(nn.Module):
    def __init__(
        self,
        kernels: Sequence[int],
        layers: Sequence[int],
        widths: Sequence[int],
        num_classes: int = 10,
        in_channels: int = 3,
        imagenet: bool = False,
    ):
        super().__init__()
        self.depth, self.imagenet = len(layers), imagenet
        w = widths[0]
        self.conv1 = nn.Conv2d(in_channels, w, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(
            in_channels, w, 3, 1, 1, bias=False
        )  # fmt: skip
        self.bn1 = nn.BatchNorm2d(w)
        for i in range(self.depth):
            stage = nn.Sequential()
            for j in range(layers[i]):
                stage.append(Residual(w, widths[i], 2 if i and not j else 1, kernels))
                w = widths[i] * (4 if len(kernels) == 3 else 1)
            self.add_module(f"layer{i + 1}", stage)
        self.fc = nn.Linear(w, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(self.depth):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


def cbr(c: int, d: int, k: int, s: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, d, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(d), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, c: int, d: int, stride: int, t: int):
        super().__init__()
        self.conv = nn.Sequential()
        if t > 1:
            self.conv.append(cbr(c, t * c, 1))
        self.conv.append(cbr(t * c, t * c, 3, stride, groups=t * c))
        self.conv.append(nn.Conv2d(t * c, d, 1, bias=False))
        self.conv.append(nn.BatchNorm2d(d))
        self.added = c == d and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x)
        return h.add(x) if self.added else h


class MobileNet(nn.Module):
    """`blocks` one by one: (t, channels in, channels out, stride)."""

    def __init__(
        self,
        blocks: Sequence[tuple[int, int, int, int]],
        head: int,
        num_classes: int = 10,
        in_channels: int = 1,
        stem_stride: int = 1,
    ):
        super().__init__()
        self.features = nn.Sequential(cbr(in_channels, blocks[0][1], 3, stem_stride))
        for t, c, d, s in blocks:
            self.features.append(Inverted(c, d, s, t))
        self.features.append(cbr(blocks[-1][2], head, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(head, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class Same(nn.Module):
    """TensorFlow's padding written as a padding: every output is the window that *ends* where it must."""

    def __init__(self, c: int, d: int, k: int, s: int = 1, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d, c // groups, k, k) * (k * k * c / groups) ** -0.5)
        self.k, self.s, self.groups = k, s, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for n in (x.shape[3], x.shape[2]):  # F.pad begins with the last axis
            missing = max(self.k - self.s if n % self.s == 0 else self.k - n % self.s, 0)
            pads += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, pads), self.weight, stride=self.s, groups=self.groups)


def tf_norm(c: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(c, eps=0.001, momentum=1 - 0.99)


class LiteBlock(nn.Module):
    def __init__(self, c: int, d: int, k: int, s: int, t: int):
        super().__init__()
        if t != 1:
            self._expand_conv, self._bn0 = Same(c, c * t, 1), tf_norm(c * t)
        self._depthwise_conv, self._bn1 = Same(c * t, c * t, k, s, groups=c * t), tf_norm(c * t)
        self._project_conv, self._bn2 = Same(c * t, d, 1), tf_norm(d)
        self.t, self.same = t, s == 1 and c == d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.hardtanh(self._bn0(self._expand_conv(x)), 0.0, 6.0) if self.t != 1 else x
        h = F.hardtanh(self._bn1(self._depthwise_conv(h)), 0.0, 6.0)
        h = self._bn2(self._project_conv(h))
        return x + h if self.same else h


class EfficientNetLite0(nn.Module):
    """The blocks in the notation of TensorFlow's file: repeats, kernel, stride, expansion, in and out."""

    NOTATION = (
        "r1k3s1e1i32o16 r2k3s2e6i16o24 r2k5s2e6i24o40 r3k3s2e6i40o80 r3k5s1e6i80o112 r4k5s2e6i112o192 r1k3s1e6i192o320"
    )

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2), tf_norm(32)
        self._blocks = nn.ModuleList()
        for word in self.NOTATION.split():
            r, k, s, e, i, o = map(int, re.findall(r"\d+", word))
            self._blocks.append(LiteBlock(i, o, k, s, e))
            self._blocks.extend(LiteBlock(o, o, k, 1, e) for _ in range(r - 1))
        self._conv_head, self._bn1 = Same(320, 1280, 1), tf_norm(1280)
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardtanh(self._bn0(self._conv_stem(x)), 0.0, 6.0)
        for block in self._blocks:
            x = block(x)
        x = F.hardtanh(self._bn1(self._conv_head(x)), 0.0, 6.0)
        return self._fc(x.mean((2, 3)))


class UNet(nn.Module):
    """Told by recursion: every level wraps the one below."""

    def __init__(self, in_channels: int, num_classes: int, width: int, depth: int):
        super().__init__()
        self.depth = depth
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(depth):
            w = width * 2**level
            self.down.append(self.twice(in_channels if level == 0 else w // 2, w))
            self.up.insert(0, nn.ConvTranspose2d(2 * w, w, kernel_size=2, stride=2))
            self.join.insert(0, self.twice(2 * w, w))
        self.bottom = self.twice(width * 2 ** (depth - 1), width * 2**depth)
        self.head = nn.Conv2d(width, num_classes, 1)

    @staticmethod
    def twice(c: int, d: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for n in (c, d):
            parts += [nn.Conv2d(n, d, 3, padding="same", bias=False), nn.BatchNorm2d(d), nn.ReLU()]
        return nn.Sequential(*parts)

    def forward(self, x: torch.Tensor, level: int = 0) -> torch.Tensor:
        if level == self.depth:
            return self.bottom(x)
        x = self.down[level](x)
        below = self.forward(F.max_pool2d(x, 2), level + 1)
        i = self.depth - 1 - level
        x = self.join[i](torch.cat([x, self.up[i](below)], dim=1))
        return self.head(x) if level == 0 else x
