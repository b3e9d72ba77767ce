"""Figures for generative models: numbers beside the pictures, and what real data give beside real data.

    distances.py   energy distance of points, Fréchet distance of features, nearest neighbours, the floor of each
    modes.py       which modes of a mixture are reached
    judge.py       one small CNN, frozen: agreement with the class asked for, balance, features
"""

from scratch.evaluation.distances import energy_distance, floor, frechet_distance, nearest, real_distance
from scratch.evaluation.modes import Modes, count_modes

__all__ = ["Modes", "count_modes", "energy_distance", "floor", "frechet_distance", "nearest", "real_distance"]
