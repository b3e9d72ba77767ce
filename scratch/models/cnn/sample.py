"""Show what a trained convolutional network predicts for test images it has never seen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.data import Dataset
from scratch.data.shapes import CLASSES
from scratch.models.cnn import classify, train
from scratch.models.cnn.pictures import mean_iou, probabilities
from scratch.models.cnn.train import Settings, load_data
from scratch.module import Module
from scratch.training import intersection_over_union, predict
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped


def load_run(folder: Path) -> tuple[Module, Settings]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    settings, weights = best_of(folder, "cnn", Settings)
    return build(settings, weights), settings


def load_weights(path: Path) -> tuple[Module, Settings]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    settings, arrays = shipped(path, "cnn", Settings)
    return build(settings, arrays), settings


def build(settings: Settings, weights: dict[str, np.ndarray]) -> Module:
    """The network with these weights; all data sets are grey, and all but the shapes have ten classes."""
    model = train.build(settings, channels=1, classes=len(CLASSES) if settings.data == "shapes" else 10)
    model.load_state_dict(weights)
    model.eval()
    return model


def main(arguments: Sequence[str]) -> None:
    """`scratch sample cnn`"""
    words = list(arguments)
    if any(word.split("=")[0] == "--imagenet" for word in words):
        rest = [word.removeprefix("--imagenet").removeprefix("=") for word in words]
        return classify.main([word for word in rest if word])
    p = argparse.ArgumentParser(prog="scratch sample cnn", description=__doc__, allow_abbrev=False)
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=6, help="how many examples (default: 6)")
    p.add_argument("--seed", type=int, default=0, help="which examples are drawn (default: 0)")
    p.add_argument("--picture", type=Path, default=None, help="also draw them into this PNG file")
    p.add_argument("--imagenet", nargs="?", metavar="PHOTO", help="say what is in a photograph (default: a cat), with "
                   "published weights for 1,000 classes; its own options: --imagenet --help")  # fmt: skip
    a = p.parse_args(words)
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    shipped = Path(str(resources.files("scratch.models.cnn") / "weights.safetensors"))
    model, settings = load_run(a.run) if a.run else load_weights(a.weights or shipped)
    test = load_data(settings).test
    if not 1 <= a.count <= len(test):
        raise ValueError(f"--count expected 1 to {len(test)}, got {a.count}")
    if a.seed < 0:
        raise ValueError(f"--seed expected a number of at least 0, got {a.seed}")
    rows = np.random.default_rng(a.seed).choice(len(test), a.count, replace=False)
    (show_classes if test.targets.ndim == 1 else show_masks)(model, test, rows, a.picture)


def show_classes(model: Module, test: Dataset, rows: np.ndarray, picture: Path | None) -> None:
    """Print each image in characters, with the three likeliest classes."""
    images, targets, names = test.inputs[rows], test.targets[rows], test.class_names or ()
    p = probabilities(model, images)
    titles = []
    for image, target, row in zip(images, targets, p, strict=True):
        best = np.argsort(-row)[:3]
        guesses = ", ".join(f"{names[k]} {100 * row[k]:.1f} %" for k in best)
        say(viz.in_characters(image[0]).strip("\n"))
        say(f"is {names[target]}, predicted {guesses}: {'right' if best[0] == target else 'WRONG'}\n")
        titles.append(f"{names[target]} → {names[best[0]]}")
    say(f"{(p.argmax(axis=1) == targets).sum()} of {len(targets)} right")
    if picture is not None:
        cell = max(0.9, 0.085 * max(map(len, titles)))
        say(f"picture  {viz.save(viz.image_grid(images, titles, title='true → predicted', cell=cell), picture)}")


def show_masks(model: Module, test: Dataset, rows: np.ndarray, picture: Path | None) -> None:
    """Print each mask, the true one and the predicted one, and for each class how far they cover each other."""
    images, targets, names = test.inputs[rows], test.targets[rows], test.class_names or ()
    labels = predict(model, images).argmax(axis=1)
    letters = "." + "".join(name[0] for name in names[1:])
    for truth, label in zip(targets, labels, strict=True):
        pairs = zip(mask_in_characters(truth, letters), mask_in_characters(label, letters), strict=True)
        say("\n".join(f"{left}   {right}" for left, right in pairs))
        share, iou = (truth == label).mean(), mean_iou(truth, label, len(names))
        say(f"true, predicted: {100 * share:.1f} % of the pixels right, IoU {iou:.3f}\n")
    over = intersection_over_union(targets, labels, len(names))
    words = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, over, strict=True))
    say(f"intersection over union, all {len(rows)} images: {words}")
    if picture is not None:
        drawn = viz.segmentation(images, targets, labels, names, title=f"{test.name}: test images")
        say(f"picture  {viz.save(drawn, picture)}")


def mask_in_characters(mask: np.ndarray, letters: str) -> list[str]:
    """Every fourth row and second column of a mask of class numbers, a letter each."""
    return ["".join(letters[k] for k in row) for row in mask[2::4, 1::2]]
