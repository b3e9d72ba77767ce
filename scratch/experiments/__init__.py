"""Experiments: ablations and comparisons, one file per architecture. `swapped` exchanges one part of a model."""

from scratch.experiments.swap import swapped

__all__ = ["swapped"]
