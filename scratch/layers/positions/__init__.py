"""Positions: attention sees a set, so the order of a sequence must be told to it. Four ways:

    sinusoidal.py   waves of many lengths, added to the input (the Transformer)
    learned.py      a table of rows, added to the input (GPT-2, BERT)
    rotary.py       queries and keys turned by an angle that grows with the position (RoFormer, Llama)
    alibi.py        scores lowered by the distance (ALiBi)
"""

from scratch.layers.positions.alibi import alibi_bias, alibi_slopes
from scratch.layers.positions.learned import LearnedPositions
from scratch.layers.positions.rotary import RotaryPositions, rotary
from scratch.layers.positions.sinusoidal import SinusoidalPositions, sinusoidal_table

__all__ = [
    "LearnedPositions",
    "RotaryPositions",
    "SinusoidalPositions",
    "alibi_bias",
    "alibi_slopes",
    "rotary",
    "sinusoidal_table",
]
