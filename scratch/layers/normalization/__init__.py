"""Normalisation: activations brought to mean 0 and variance 1, then scaled and shifted by what is learnt.

They differ in the elements that share a mean and a variance, for x of shape (N, C, *):

    layer norm      one example (or position), over its last axes        layer.py, read first
    RMS norm        the same, divided by its length without centring     layer.py
    batch norm      one channel, over the whole batch                    batch.py
    group norm      one example and a group of its channels              group.py
    instance norm   one example and one channel                          instance.py

How the last three read memory with the channels first or last is in rows.py.
"""

from scratch.layers.normalization.batch import BatchNorm1d, BatchNorm2d, batch_norm
from scratch.layers.normalization.group import GroupNorm, group_norm
from scratch.layers.normalization.instance import InstanceNorm1d, InstanceNorm2d, instance_norm
from scratch.layers.normalization.layer import LayerNorm, RMSNorm, layer_norm, rms_norm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "LayerNorm",
    "RMSNorm",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]
