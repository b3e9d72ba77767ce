"""Data: sets that ship with the package, toys that are generated, and the order in which a model meets them."""

from scratch.data.augment import cutout, mixup, random_flip, random_shift
from scratch.data.batches import Batches, in_order
from scratch.data.catalog import CATALOG
from scratch.data.dataset import Dataset, Splits, class_counts, hold_out, split, stratified_split
from scratch.data.dates import load_dates, spellings
from scratch.data.digits import load_digits
from scratch.data.download import fetch
from scratch.data.idx import read_idx
from scratch.data.mnist import load_fashion_mnist, load_mnist
from scratch.data.pairs import Pairs, SequenceTokenizer, trimmed
from scratch.data.shapes import load_shapes
from scratch.data.sources import SOURCES
from scratch.data.streams import TextStreams
from scratch.data.strings import STRINGS, load_strings
from scratch.data.sunspots import load_sunspots
from scratch.data.text import (
    CharTokenizer,
    Texts,
    TextWindows,
    load_shakespeare,
    load_tiny_shakespeare,
    windows_in_order,
)
from scratch.data.toys import (
    CURVES,
    TOYS,
    circles,
    curve,
    gaussian_grid,
    gaussian_ring,
    grid_centres,
    independent,
    ring_centres,
    sine,
    spirals,
    steps,
    two_moons,
    xor,
)

__all__ = [
    "CATALOG",
    "CURVES",
    "SOURCES",
    "STRINGS",
    "TOYS",
    "Batches",
    "CharTokenizer",
    "Dataset",
    "Pairs",
    "SequenceTokenizer",
    "Splits",
    "TextStreams",
    "TextWindows",
    "Texts",
    "circles",
    "class_counts",
    "curve",
    "cutout",
    "fetch",
    "gaussian_grid",
    "gaussian_ring",
    "grid_centres",
    "hold_out",
    "in_order",
    "independent",
    "load_dates",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_shakespeare",
    "load_shapes",
    "load_strings",
    "load_sunspots",
    "load_tiny_shakespeare",
    "mixup",
    "random_flip",
    "random_shift",
    "read_idx",
    "ring_centres",
    "sine",
    "spellings",
    "spirals",
    "split",
    "steps",
    "stratified_split",
    "trimmed",
    "two_moons",
    "windows_in_order",
    "xor",
]
