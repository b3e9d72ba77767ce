"""Data: sets that ship with the package, toys that are generated, and the order in which a model meets them."""

from scratch.data.batches import Batches, in_order
from scratch.data.dataset import Dataset, Splits, class_counts, split, stratified_split

__all__ = ["Batches", "Dataset", "Splits", "class_counts", "in_order", "split", "stratified_split"]
