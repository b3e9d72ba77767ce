"""Small pieces that a `train.py` calls; the loop itself, with forward, loss and backward, stays in `train.py`."""

from scratch.training.metrics import (
    accuracy,
    confusion_matrix,
    evaluate,
    intersection_over_union,
    predict,
    standard_error,
)
from scratch.training.run import Run, RunStopped

__all__ = [
    "Run",
    "RunStopped",
    "accuracy",
    "confusion_matrix",
    "evaluate",
    "intersection_over_union",
    "predict",
    "standard_error",
]
