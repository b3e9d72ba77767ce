"""Order out of numbers: shuffles and draws addressed by (seed, index), the same on every machine and NumPy version.

NumPy promises the raw 64-bit words of its bit generators for ever, but not what `permutation` or `integers` make of
them. So only the words are used here: a shuffle is their sorting order, a draw below n is the word modulo n.
"""

from __future__ import annotations

import numpy as np

# One number a purpose, so that no two of them (nor dropout's streams, whose third counter word is a small shard
# number) ever see the same words.
BATCHES, WINDOWS, SPLIT, PAIRS = 1, 2, 3, 4
_NOT_A_SHARD = 2**64 - 1


def random_words(count: int, seed: int, index: int, purpose: int) -> np.ndarray:
    """`count` uniform 64-bit words, a pure function of the other arguments (Philox, Salmon et al. 2011)."""
    key = np.array([checked_seed(seed), index], dtype=np.uint64)
    counter = np.array([0, 0, _NOT_A_SHARD, purpose], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def shuffled(count: int, seed: int, index: int, purpose: int) -> np.ndarray:
    """A permutation of 0 … count − 1: the positions of random words, sorted."""
    return np.argsort(random_words(count, seed, index, purpose), kind="stable")


def draws(count: int, below: int, seed: int, index: int, purpose: int) -> np.ndarray:
    """`count` whole numbers from 0 to below − 1, with repetition.

    The modulus favours small numbers by at most below / 2⁶⁴: for a text of a million characters, one part in 10¹³.
    """
    return (random_words(count, seed, index, purpose) % np.uint64(below)).astype(np.int64)


def checked_seed(seed: int) -> int:
    """`seed` as an int; ValueError unless it is a whole number from 0 to 2⁶³ − 1."""
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, got {seed!r}")
    return int(seed)


def is_whole(value: object) -> bool:
    """Whether it is an integer, Python's or NumPy's, and not a truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def load_place(state: object, settings: dict[str, int | bool], place: tuple[str, ...], owner: str) -> list[int]:
    """The whole numbers `place` of a saved state whose `settings` equal the present ones.

    Raises ValueError naming what is missing or differs: continued in another order, a run would see some rows twice.
    """
    if not isinstance(state, dict):
        raise ValueError(f"{owner}.load_state_dict expected a dict, got {type(state).__name__}")
    missing = [name for name in (*settings, *place) if name not in state]
    if missing:
        raise ValueError(f"{owner}.load_state_dict: missing {', '.join(missing)}")
    differing = [f"{name} is {mine}, the state has {state[name]!r}"
                 for name, mine in settings.items() if state[name] != mine]  # fmt: skip
    if differing:
        raise ValueError(f"{owner}.load_state_dict: the state is of another order of the data: {'; '.join(differing)}")
    for name in place:
        if not is_whole(state[name]) or not 0 <= state[name] < 2**63:
            raise ValueError(f"{owner}.load_state_dict: {name} must be a whole number from 0, got {state[name]!r}")
    return [int(state[name]) for name in place]
