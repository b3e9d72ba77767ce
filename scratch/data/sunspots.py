"""A real time series: how many sunspots were seen in each year from 1700 to 2008."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratch.data.bundled import read_bundled


class Series(NamedTuple):
    """years (N,) whole numbers, one after the other, and values (N,) float64."""

    years: np.ndarray
    values: np.ndarray


def load_sunspots(folder: Path | None = None) -> Series:
    """The yearly mean sunspot number, 309 years: a cycle of about eleven of them, never twice the same.

    `folder` is read instead of the package's own files if it is given.
    Raises FileNotFoundError for a missing file and ValueError for a damaged one.
    """
    lines = gzip.decompress(read_bundled("sunspots.csv.gz", folder)).decode("ascii").split()
    years, values = zip(*(line.split(",") for line in lines[1:]), strict=True)
    return Series(np.array(years, np.int64), np.array(values, np.float64))
