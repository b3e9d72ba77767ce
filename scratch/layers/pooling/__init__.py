"""Pooling: one number for each window of an image. `windows` (where they lie) first, then `max`, then `average`."""

from scratch.layers.pooling.average import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
)
from scratch.layers.pooling.max import (
    AdaptiveMaxPool2d,
    MaxPool1d,
    MaxPool2d,
    adaptive_max_pool2d,
    max_pool1d,
    max_pool2d,
)

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]
