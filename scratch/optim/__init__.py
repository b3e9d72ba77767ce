"""Optimisers: how parameters change, given their gradients. The files in order of increasing difficulty:

    sgd.py        along the gradient, with momentum
    rmsprop.py    divided by the gradient's recent size
    adam.py       both, corrected for the start from zero; AdamW, whose weights shrink on their own
    clipping.py   gradients held within a bound
    groups.py     which parameters decay
    averaging.py  a steadier copy of the weights
    optimizer.py  what all share: groups of parameters, the walk over them, saving and resuming

In use:

    optimizer = Adam(model.parameters(), lr=1e-3)
    for step in range(1000):
        loss = ...
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.lr = schedule(step)       # scratch/schedules.py
        optimizer.step()
"""

from scratch.optim.adam import Adam, AdamW
from scratch.optim.averaging import AveragedModel
from scratch.optim.clipping import clip_grad_norm_, clip_grad_value_
from scratch.optim.groups import weight_decay_groups
from scratch.optim.optimizer import Optimizer
from scratch.optim.rmsprop import RMSprop
from scratch.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AveragedModel",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "weight_decay_groups",
]
