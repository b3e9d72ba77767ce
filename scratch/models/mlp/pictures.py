"""What a trained multilayer perceptron looks like, from the outside and from the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.activations import softmax
from scratch.data import Dataset, Splits
from scratch.models.mlp.model import MLP
from scratch.training import confusion_matrix, predict

RESOLUTION = 80


class Film:
    """The decision boundary at moments of the training; empty for data that are not points in the plane.

    A checkpoint holds the frames too, so that a resumed run shows the whole training.
    """

    def __init__(self, data: Dataset):
        plane = data.inputs.shape[1:] == (2,)
        self.grid = viz.boundary_grid(data.inputs, RESOLUTION) if plane else None
        self.frames: list[tuple[int, float, np.ndarray]] = []

    def record(self, model: MLP, step: int, loss: float) -> None:
        """Keep the class probabilities over the plane as they are after `step` steps."""
        if self.grid is not None:
            self.frames.append((step, loss, probabilities(model, self.grid).astype(np.float16)))

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {str(i): p for i, (_, _, p) in enumerate(self.frames)}

    def settings(self) -> list[list[float]]:
        return [[step, loss] for step, loss, _ in self.frames]

    def load_settings(self, settings: list[list[float]]) -> None:
        self.frames = [(int(step), loss, np.zeros(0)) for step, loss in settings]

    def load_state_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.frames = [(step, loss, arrays[str(i)]) for i, (step, loss, _) in enumerate(self.frames)]


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: MLP, data: Splits, film: Film) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    classes = data.train.classes
    curves = viz.loss_curves(
        log, title=f"{data.train.name}: training and validation loss", loss_label="cross-entropy (nats)",
        panels=("validation_accuracy",), reference=(math.log(classes), f"ln {classes}"),
    )  # fmt: skip
    drawn = [viz.save(curves, folder / "curves.png")]
    if film.grid is not None:
        return drawn + draw_plane(folder, model, data, film)
    return drawn + draw_digits(folder, model, data.test)


def draw_plane(folder: Path, model: MLP, data: Splits, film: Film) -> list[Path]:
    """The boundary among test points, and the film of how it came about."""
    test, names = data.test, data.test.class_names
    boundary = viz.decision_boundary(lambda grid: probabilities(model, grid), *test.arrays, class_names=names,
                                     title=f"{test.name}: decision boundary and test points")  # fmt: skip
    frames = [(step, loss, p.astype(np.float32)) for step, loss, p in film.frames]
    animation, _ = viz.boundary_animation(frames, *data.train.arrays, folder / "training.gif", class_names=names,
                                          resolution=RESOLUTION)  # fmt: skip
    return [viz.save(boundary, folder / "boundary.png"), animation]


def draw_digits(folder: Path, model: MLP, test: Dataset) -> list[Path]:
    """First-layer weights as images, the confusion matrix, and the mistakes made with the most confidence."""
    p = probabilities(model, test.inputs)
    matrix = confusion_matrix(test.targets, p.argmax(axis=1), test.classes)
    images = test.inputs.reshape(-1, 28, 28)
    figures = {
        "first_weights": viz.first_layer_weights(
            strongest(model.layers[0].weight.data, 32), (28, 28), title="first layer, the largest weights"
        ),
        "confusion": viz.confusion(matrix, test.class_names),
        "mistakes": viz.worst_mistakes(images, test.targets, p, class_names=test.class_names),
    }
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def probabilities(model: MLP, inputs: np.ndarray) -> np.ndarray:
    """softmax(logits).  Shapes: (N, …) → (N, classes)"""
    return softmax(predict(model, inputs), dim=-1).data


def strongest(weight: np.ndarray, count: int) -> np.ndarray:
    """The rows of largest norm: units that weight decay and dropout left something to do."""
    norms = np.linalg.norm(weight, axis=1)
    return weight[np.sort(np.argsort(-norms)[:count])]
