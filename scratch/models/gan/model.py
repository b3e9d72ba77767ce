"""Generators and discriminators: perceptrons for points in the plane, transposed convolutions for images of 28×28.

    z (B, noise) ─► G ─► x̂ (B, 1, 28, 28) ─► D ─► (B,) how real it looks        x (B, 1, 28, 28) ─► D ─► (B,)

    DCGAN, BN batch norm, ÷2 a convolution of stride 2, ×2 a transposed one, w₁ w₂ w₃ channels

    G  z ─ Linear ─ BN, ReLU (w₃, 4, 4) ─ ×2, BN, ReLU (w₂, 7, 7) ─ ×2, BN, ReLU (w₁, 14, 14) ─ ×2 ─ tanh (1, 28, 28)
    D  x ─ ÷2, LeakyReLU (w₁, 14, 14) ─ ÷2, BN, LeakyReLU (w₂, 7, 7) ─ ÷2, BN, LeakyReLU (w₃, 4, 4) ─ Linear ─► (1)

Every discriminator answers with one number a row and no sigmoid: losses.py takes logits, and a critic's number is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch import concatenate
from scratch.activations import LeakyReLU, ReLU, Tanh
from scratch.initializers import normal
from scratch.layers import BatchNorm2d, Conv2d, ConvTranspose2d, Embedding, Flatten, Linear, Unflatten
from scratch.module import Module, Sequential
from scratch.tensor import Tensor, as_tensor

SLOPE = 0.2  # of the discriminators' leaky ReLU below 0, as in DCGAN


class Generator(Module):
    """x̂ = net(z).  Raises ValueError for a z of another shape than (B, noise)."""

    noise: int
    net: Sequential

    def forward(self, z: Any) -> Tensor:
        if np.ndim(z) != 2 or np.shape(z)[1] != self.noise:
            raise ValueError(f"{type(self).__name__} expected z of shape (B, {self.noise}), got {np.shape(z)}")
        return self.net(as_tensor(z))


class MLPGenerator(Generator):
    """Points from noise: Linear and ReLU, then Linear.  Shapes: z (B, noise) → (B, features)"""

    def __init__(self, noise: int = 16, hidden: Sequence[int] = (128, 128), features: int = 2):
        self.noise = noise
        self.net = perceptron([noise, *hidden, features], ReLU)


class DCGANGenerator(Generator):
    """Images of 28×28 from noise, by transposed convolutions  (Radford et al. 2016, figure 1)

    The published network for 64×64 has five layers from 4×4 up; 28×28 needs four. No bias before a batch norm, which
    would take it out again.
    Shapes: z (B, noise) → (B, channels, 28, 28), from −1 to 1.
    """

    def __init__(self, noise: int = 64, widths: Sequence[int] = (32, 64, 128), channels: int = 1):
        fine, middle, coarse = widths
        self.noise = noise
        self.net = Sequential(
            Linear(noise, coarse * 16, bias=False), Unflatten(1, (coarse, 4, 4)), BatchNorm2d(coarse), ReLU(),
            ConvTranspose2d(coarse, middle, 3, 2, 1, bias=False), BatchNorm2d(middle), ReLU(),
            ConvTranspose2d(middle, fine, 4, 2, 1, bias=False), BatchNorm2d(fine), ReLU(),
            ConvTranspose2d(fine, channels, 4, 2, 1), Tanh(),
        )  # fmt: skip
        self.apply(start_as_dcgan)


class Discriminator(Module):
    """D(x) = net(x), one number a row.  Raises ValueError for an x of another shape than (B, *shape)."""

    shape: tuple[int, ...]
    net: Sequential

    def forward(self, x: Any, labels: Any = None) -> Tensor:
        return self.net(self.joined(x, labels)).reshape(-1)

    def joined(self, x: Any, labels: Any = None) -> Tensor:
        """What `net` is given: x, and of a conditional one the class."""
        if labels is not None:
            raise ValueError(f"{type(self).__name__} was built without classes, and expected no labels")
        if np.shape(x)[1:] != self.shape or np.ndim(x) != 1 + len(self.shape):
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"{type(self).__name__} expected x of shape (B, {expected}), got {np.shape(x)}")
        return as_tensor(x)

    def both(self, real: Any, fake: Any, labels: Any = None) -> tuple[Tensor, Tensor]:
        """D(x) and D(x̂) of as many rows, in one pass: nothing in it looks at more than one row."""
        twice = None if labels is None else np.concatenate([labels, labels])
        logits = self(concatenate([real, fake]), twice)
        return logits[: len(real)], logits[len(real) :]


class MLPDiscriminator(Discriminator):
    """One number from a point: Linear and leaky ReLU, then Linear.  Shapes: (B, features) → (B,)"""

    def __init__(self, features: int = 2, hidden: Sequence[int] = (128, 128)):
        self.shape = (features,)
        self.net = perceptron([features, *hidden, 1], lambda: LeakyReLU(SLOPE))


class DCGANCritic(Discriminator):
    """Three convolutions of stride 2 and a Linear, without batch norm, as a slope's penalty and spectral norm want it.

    Shapes: (B, channels, 28, 28) → (B,)
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128), channels: int = 1):
        fine, middle, coarse = widths
        self.shape = (channels, 28, 28)
        self.net = Sequential(
            Conv2d(channels, fine, 4, 2, 1), LeakyReLU(SLOPE), Conv2d(fine, middle, 4, 2, 1), LeakyReLU(SLOPE),
            Conv2d(middle, coarse, 3, 2, 1), LeakyReLU(SLOPE), Flatten(), Linear(coarse * 16, 1),
        )  # fmt: skip


class DCGANDiscriminator(Discriminator):
    """The same with batch norm behind all convolutions but the first  (Radford et al. 2016, section 3)

    Shapes: (B, channels, 28, 28) → (B,)
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128), channels: int = 1):
        fine, middle, coarse = widths
        self.shape = (channels, 28, 28)
        self.net = Sequential(
            Conv2d(channels, fine, 4, 2, 1), LeakyReLU(SLOPE),
            Conv2d(fine, middle, 4, 2, 1, bias=False), BatchNorm2d(middle), LeakyReLU(SLOPE),
            Conv2d(middle, coarse, 3, 2, 1, bias=False), BatchNorm2d(coarse), LeakyReLU(SLOPE),
            Flatten(), Linear(coarse * 16, 1),
        )  # fmt: skip
        self.apply(start_as_dcgan)

    def both(self, real: Any, fake: Any, labels: Any = None) -> tuple[Tensor, Tensor]:
        """D(x) and D(x̂), one after the other: statistics over both at once would mix them."""
        return self(real, labels), self(fake, labels)


class ConditionalGenerator(Module):
    """x̂ = G(z, e(class)), the class as a learned vector beside the noise  (Mirza and Osindero 2014)

    Args: generator: takes z of noise + dim numbers.
    Shapes: z (B, noise), labels (B,) → as the generator's.
    """

    def __init__(self, generator: Generator, classes: int, dim: int):
        self.noise = generator.noise - dim
        self.label = Embedding(classes, dim)
        self.generator = generator

    def forward(self, z: Any, labels: Any) -> Tensor:
        return self.generator(concatenate([as_tensor(z), self.label(labels)], axis=1))


class ConditionalDiscriminator(Discriminator):
    """D(x, class): the class as further features of a point, or as one more channel of an image, learned for each.

    Args: discriminator: takes x with that one more channel (of points: with `dim` more features).
    Shapes: x (B, …), labels (B,) → (B,)
    """

    def __init__(self, discriminator: Discriminator, classes: int, dim: int = 1):
        channels, *self.size = discriminator.shape
        self.shape = (channels - dim, *self.size)
        self.label = Embedding(classes, dim * int(np.prod(self.size, dtype=int)))
        self.discriminator = discriminator
        self.dim = dim

    @property
    def net(self) -> Sequential:  # type: ignore[override]
        return self.discriminator.net

    def joined(self, x: Any, labels: Any = None) -> Tensor:
        if labels is None:
            raise ValueError("ConditionalDiscriminator expected a label for each row, got none")
        x = super().joined(x)
        return concatenate([x, self.label(labels).reshape(len(x), self.dim, *self.size)], axis=1)

    def both(self, real: Any, fake: Any, labels: Any = None) -> tuple[Tensor, Tensor]:
        together = [self.joined(x, labels) for x in (real, fake)]
        return self.discriminator.both(*together)


class GAN(Module):
    """Both players, D(G(z)): what the generator is trained through.  Shapes: z (B, noise) → (B,)"""

    def __init__(self, generator: Module, discriminator: Discriminator):
        self.generator, self.discriminator = generator, discriminator

    def forward(self, z: Any, labels: Any = None) -> Tensor:
        told = () if labels is None else (labels,)
        return self.discriminator(self.generator(z, *told), *told)


def perceptron(sizes: Sequence[int], activation: Any) -> Sequential:
    """Linear layers of these sizes with an activation between them."""
    layers: list[Module] = []
    for n, m in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [Linear(n, m), activation()]
    return Sequential(*layers[:-1])


def start_as_dcgan(module: Module) -> None:
    """Weights from N(0, 0.02²), batch norm's scale from N(1, 0.02²), all biases 0  (Radford et al. 2016, section 4)"""
    if isinstance(module, (Linear, Conv2d, ConvTranspose2d, BatchNorm2d)):
        mean = 1.0 if isinstance(module, BatchNorm2d) else 0.0
        assert module.weight is not None
        module.weight.data[...] = normal(module.weight.shape, mean, 0.02)
        if module.bias is not None:
            module.bias.data[...] = 0
