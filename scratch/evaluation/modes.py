"""Which modes of a mixture of Gaussians a set of samples reaches, and how well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Modes:
    """Of each mode: how many samples lie within `within` standard deviations, and their own standard deviation.

    Shapes: counts (K,), deviations (K,), in units of the data (the root of the mean variance of both coordinates; nan
    below two samples). inside: the share of all samples that lie in any mode.
    """

    counts: np.ndarray
    deviations: np.ndarray
    inside: float

    def found(self, least: int = 20) -> int:
        """How many modes have at least so many samples."""
        return int((self.counts >= least).sum())


def count_modes(samples: np.ndarray, centres: np.ndarray, sigma: float, within: float = 3.0) -> Modes:
    """Each sample belongs to the nearest centre if it lies within `within` · sigma of it  (Metz et al. 2017).

    Shapes: samples (N, d), centres (K, d). Raises ValueError for other shapes.
    """
    if samples.ndim != 2 or centres.ndim != 2 or samples.shape[1] != centres.shape[1]:
        raise ValueError(f"count_modes expected (N, d) and (K, d), got {samples.shape} and {centres.shape}")
    offsets = samples[:, None] - centres
    distances = np.sqrt((offsets * offsets).sum(axis=2))
    mode = distances.argmin(axis=1)
    near = distances.min(axis=1) <= within * sigma
    counts = np.bincount(mode[near], minlength=len(centres))
    deviations = np.full(len(centres), np.nan)
    for k in np.flatnonzero(counts >= 2):
        deviations[k] = np.sqrt(samples[near & (mode == k)].var(axis=0, ddof=1).mean())
    return Modes(counts, deviations, float(near.mean()))
