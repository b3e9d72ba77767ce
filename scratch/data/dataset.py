"""Dataset: rows and what is to be said about them; and splits that never leak a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scratch.data.order import SPLIT, is_whole, shuffled


@dataclass(frozen=True, eq=False)
class Dataset:
    """N inputs and N targets, row by row.

    Shapes: inputs (N, …), targets (N,) class numbers, (N, H, W) masks with a class number for each pixel, or (N, …)
    values. With `class_names`, the targets are whole numbers from 0 to len(class_names) − 1. Raises ValueError if it is
    empty, if the lengths differ, or if a label is outside that range.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in ("inputs", "targets"):
            value = getattr(self, field)
            if not isinstance(value, np.ndarray) or value.ndim == 0:
                raise ValueError(f"{self.name}: {field} must be an array with rows, got {type(value).__name__}")
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{self.name}: {len(self.inputs)} inputs, but {len(self.targets)} targets")
        if len(self.inputs) == 0:
            raise ValueError(f"{self.name}: a data set needs at least one row")
        if self.class_names is not None:
            self._check_labels(len(self.class_names))

    def _check_labels(self, classes: int) -> None:
        labels = self.targets
        if labels.ndim not in (1, 3) or labels.dtype.kind not in "iu":
            raise ValueError(f"{self.name}: labels must be whole numbers of shape (N,) or, as masks, (N, H, W), "
                             f"got {labels.dtype} of shape {labels.shape}")  # fmt: skip
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            at = tuple(np.argwhere((labels < 0) | (labels >= classes))[0].tolist())
            where = f"row {at[0]}" + (f", pixel {at[1:]}," if len(at) > 1 else "")
            raise ValueError(f"{self.name}: labels go from 0 to {classes - 1}, {where} has {labels[at]}")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets), as `Batches(*data.arrays, ...)` and `in_order(data.arrays, ...)` take them."""
        return self.inputs, self.targets

    @property
    def classes(self) -> int:
        """How many classes there are. ValueError without class names."""
        if self.class_names is None:
            raise ValueError(f"{self.name} has no class names, so its targets are no classes")
        return len(self.class_names)

    def take(self, indices: Any) -> Dataset:
        """The rows of these numbers, in this order, as a data set of its own. ValueError if there are none."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.size == 0 or indices.dtype.kind not in "iu":
            raise ValueError(f"{self.name}: take() expected a list of at least one row number, got {indices!r}")
        if indices.min() < 0 or indices.max() >= len(self):
            raise ValueError(f"{self.name}: rows go from 0 to {len(self) - 1}, "
                             f"asked for {indices.min()} to {indices.max()}")  # fmt: skip
        return Dataset(self.name, self.inputs[indices], self.targets[indices], self.class_names)

    def __repr__(self) -> str:
        classes = "" if self.class_names is None else f", {len(self.class_names)} classes"
        return f"Dataset({self.name!r}, inputs {self.inputs.dtype} {self.inputs.shape}, " \
               f"targets {self.targets.dtype} {self.targets.shape}{classes})"  # fmt: skip


class Splits(NamedTuple):
    """To learn from, to choose by, and to report once."""

    train: Dataset
    validation: Dataset
    test: Dataset


def split(dataset: Dataset, validation: float, test: float, seed: int = 0) -> Splits:
    """Share out the rows at random: `validation` and `test` are counts (whole numbers) or shares (0.1), train the rest.

    Rows with equal inputs always stay together, so that nothing learned from is met again in a test. The result is a
    pure function of the rows and the seed. Raises ValueError for sizes that leave one of the three empty.
    """
    return _split(dataset, np.zeros(len(dataset), dtype=np.int64), validation, test, seed)


def stratified_split(dataset: Dataset, validation: float, test: float, seed: int = 0) -> Splits:
    """The same as `split`, with every class in the proportion that it has in the whole."""
    return _split(dataset, _class_numbers(dataset), validation, test, seed)


def hold_out(dataset: Dataset, validation: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """(train, validation), shared out as by `stratified_split`, where the test set is one of its own."""
    sizes = {"validation": _size(validation, len(dataset), "validation")}
    train, held = _deal(dataset, _class_numbers(dataset), sizes, seed)
    return train, held


def _class_numbers(dataset: Dataset) -> np.ndarray:
    if dataset.targets.ndim != 1 or dataset.targets.dtype.kind not in "iu":
        raise ValueError(f"{dataset.name}: a stratified split needs class numbers as targets, "
                         f"got {dataset.targets.dtype} of shape {dataset.targets.shape}")  # fmt: skip
    return dataset.targets


def _split(dataset: Dataset, strata: np.ndarray, validation: float, test: float, seed: int) -> Splits:
    n = len(dataset)
    test_size, validation_size = _size(test, n, "test"), _size(validation, n, "validation")
    return Splits(*_deal(dataset, strata, {"validation": validation_size, "test": test_size}, seed))


def _deal(dataset: Dataset, strata: np.ndarray, sizes: dict[str, int], seed: int) -> list[Dataset]:
    """The rows that are left to train on, and then the parts of these sizes."""
    if sum(sizes.values()) >= len(dataset):
        wanted = " and ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"{dataset.name}: {wanted} of {len(dataset)} rows leave nothing to train on")
    _, stratum = np.unique(strata, return_inverse=True)
    counts = np.bincount(stratum)
    rooms: dict[str, list[int]] = {}
    for name in reversed(sizes):  # test first, then validation
        share = _shares(counts, sizes[name])
        rooms[name], counts = share.tolist(), counts - share

    # Each group of equal rows goes to the first part where the quota of its class has room for all of it.
    # Without repeated rows every quota is met exactly; with them it is met from below.
    groups = _equal_rows(dataset.inputs)
    parts: dict[str, list[int]] = {name: [] for name in ("train", *sizes)}
    classes = stratum.tolist()
    for g in shuffled(len(groups), seed, 0, SPLIT):
        group = groups[g]
        c = classes[group[0]]
        name = next((name for name, room in rooms.items() if len(group) <= room[c]), "train")
        if name != "train":
            rooms[name][c] -= len(group)
        parts[name] += group
    for name, rows in parts.items():
        if not rows:
            raise ValueError(f"{dataset.name}: no row is left for {name}; too many rows are equal to each other")
    # Shuffled once more: as they were dealt out, train begins with the class whose quotas were filled first.
    orders = (shuffled(len(rows), seed, i, SPLIT) for i, rows in enumerate(parts.values(), start=1))
    return [dataset.take(np.array(rows)[order]) for rows, order in zip(parts.values(), orders, strict=True)]


def _size(size: float, n: int, name: str) -> int:
    """A count as it is, a share as the nearest count."""
    count = int(size) if is_whole(size) else round(size * n) if isinstance(size, float) and 0 < size < 1 else 0
    if count < 1:
        raise ValueError(f"{name} must be a count from 1 or a share between 0 and 1 of {n} rows, got {size!r}")
    return count


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in the proportion of `counts` that add up to `total` (largest remainders, none above its count)."""
    whole, remainder = np.divmod(counts * total, counts.sum())
    whole[np.argsort(-remainder, kind="stable")[: total - whole.sum()]] += 1
    return whole


def _equal_rows(inputs: np.ndarray) -> list[list[int]]:
    """The row numbers, gathered into groups of equal rows, in order of first appearance."""
    rows = np.ascontiguousarray(inputs).reshape(len(inputs), -1)
    if rows.dtype.kind == "f":
        rows = rows + rows.dtype.type(0)  # −0 and 0 are equal, but not their bytes
    groups: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.tobytes(), []).append(i)
    return list(groups.values())


def class_counts(dataset: Dataset) -> list[int]:
    """How many rows, or pixels of masks, each class has, by class number. ValueError without class names."""
    return np.bincount(dataset.targets.ravel(), minlength=dataset.classes).tolist()
