"""How is an English word spoken? A trained sequence-to-sequence GRU spells out its sounds, on NumPy.

    letters, </s> ─ Embedding ─ GRU ─► h: the whole word in 256 numbers
    h, <s> ─ Embedding ─ GRUCell ─ Linear ─► the likeliest sound ─ fed back, until </s>

The weights are those of the wheel `g2p-en==2.1.0` (Park and Kim, 834,890 parameters, learnt from the CMU dictionary of
American pronunciation, Apache 2.0). They don't ship here: `pip install --no-deps g2p-en==2.1.0`. The package is never
imported, its file of arrays is read. Sounds are ARPAbet's; the digit of a vowel is its stress, 1 the main one.
Departure: g2p-en looks common words up and asks its network about the others only; here the network answers always.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratch.activations import log_softmax
from scratch.layers import GRU, Embedding, GRUCell, Linear
from scratch.messages import shown
from scratch.module import Module
from scratch.tensor import Array, Tensor, no_grad
from scratch.training.command import guarded
from scratch.training.progress import say
from scratch.weights.files import reading
from scratch.weights.npz_file import read_npz

WHEEL, WEIGHTS = "g2p_en", "checkpoint20.npz"
INSTALL = "pip install --no-deps g2p-en==2.1.0"
UNKNOWN, END_OF_WORD, START, END = 1, 2, 2, 3  # the first two among the letters, the others among the sounds
LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
SOUNDS = (
    "<pad>", "<unk>", "<s>", "</s>",
    *(vowel + stress for vowel in ("AA", "AE", "AH", "AO", "AW", "AY") for stress in "012"), "B", "CH", "D", "DH",
    *(vowel + stress for vowel in ("EH", "ER", "EY") for stress in "012"), "F", "G", "HH",
    *(vowel + stress for vowel in ("IH", "IY") for stress in "012"), "JH", "K", "L", "M", "N", "NG",
    *(vowel + stress for vowel in ("OW", "OY") for stress in "012"), "P", "R", "S", "SH", "T", "TH",
    *("UH0", "UH1", "UH2", "UW", "UW0", "UW1", "UW2"), "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
MAX_BYTES = 20_000_000  # unpacked; the published file has 3.3 million
LONGEST = 20  # sounds of a word, as in g2p-en

# Their names for the arrays, and ours.
KEYS = {"enc_emb": "letters.weight", "dec_emb": "sounds.weight", "fc_w": "output.weight", "fc_b": "output.bias"}
KEYS |= {f"enc_{w}_{side}": f"encoder.{name}_{side}_l0" for w, name in (("w", "weight"), ("b", "bias"))
         for side in ("ih", "hh")}  # fmt: skip
KEYS |= {f"dec_{w}_{side}": f"decoder.{name}_{side}" for w, name in (("w", "weight"), ("b", "bias"))
         for side in ("ih", "hh")}  # fmt: skip


class Speller(Module):
    """Letters to sounds: an encoder's last state is all that the decoder knows of the word (Sutskever et al. 2014)."""

    def __init__(self, size: int = 256):
        self.letters = Embedding(len(LETTERS), size)
        self.encoder = GRU(size, size, batch_first=True)
        self.sounds = Embedding(len(SOUNDS), size)
        self.decoder = GRUCell(size, size)
        self.output = Linear(size, len(SOUNDS))

    def encode(self, letters: Array, lengths: Array) -> Tensor:
        """letters (B, T), lengths (B,) → the words' states (B, H)"""
        _, h = self.encoder(self.letters(letters), lengths=lengths)
        return h[0]

    def forward(self, sounds: Array, h: Tensor) -> tuple[Tensor, Tensor]:
        """The sounds before (B,), the state (B, H) → scores of the next sounds (B, 74), the next state"""
        h = self.decoder(self.sounds(sounds), h)
        return self.output(h), h


class Pronunciation(NamedTuple):
    sounds: tuple[str, ...]
    probability: float  # that the network gives to exactly these sounds


def find_weights() -> Path:
    """The file of arrays in the installed wheel. Raises FileNotFoundError, saying how to get it, if it is not there."""
    spec = importlib.util.find_spec(WHEEL)  # looks for the folder; runs nothing of it
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / WEIGHTS
        if path.is_file():
            return path
    raise FileNotFoundError(f"the weights of the speller are not installed: {INSTALL}, or name a file with --weights")


def load_speller(path: str | os.PathLike | None = None) -> Speller:
    """The published network, ready to spell; from `path`, else from the installed wheel.

    Raises FileNotFoundError for missing weights, ValueError for a file that is damaged or holds something else.
    """
    path = find_weights() if path is None else path
    with reading(path, "the speller's arrays (.npz)") as file:
        arrays = {KEYS.get(name, name): array for name, array in read_npz(file, MAX_BYTES).items()}
    model = Speller()
    try:
        model.load_state_dict(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {shown(str(error), 500)}") from None
    model.eval()
    return model


def numbered(words: Sequence[str]) -> tuple[Array, Array]:
    """Words as numbers of their letters, each with </s> behind it, padded with 0: (B, T) and the lengths (B,).

    Accents are dropped, capitals are made small, anything else than a to z is <unk>, as in g2p-en.
    Raises ValueError for a word without a letter.
    """
    found = []
    for word in words:
        plain = (c for c in unicodedata.normalize("NFD", word).lower() if unicodedata.category(c) != "Mn")
        found.append([LETTERS.index(c) if c in LETTERS else UNKNOWN for c in plain])
        if not any(number > END_OF_WORD for number in found[-1]):
            raise ValueError(f"a word has letters from a to z, got {word!r}")
    lengths = np.array([len(letters) + 1 for letters in found])
    table = np.zeros((len(found), lengths.max(initial=1)), np.int64)
    for row, letters in zip(table, found, strict=True):
        row[: len(letters) + 1] = [*letters, END_OF_WORD]
    return table, lengths


@no_grad()
def pronounce(model: Speller, words: Sequence[str]) -> list[Pronunciation]:
    """How each word is spoken: the likeliest sound at every step, all words at once. Errors as `numbered`'s."""
    if not words:
        return []
    h = model.encode(*numbered(words))
    B = len(words)
    sounds, probability = np.full(B, START), np.zeros(B, np.float64)
    found, open_ = np.full((B, LONGEST), END), np.ones(B, bool)
    for step in range(LONGEST):
        scores, h = model(sounds, h)
        sounds = scores.data.argmax(axis=1)
        probability += open_ * log_softmax(scores, dim=1).data[np.arange(B), sounds]
        open_ &= sounds != END
        if not open_.any():
            break
        found[open_, step] = sounds[open_]
    names = [tuple(SOUNDS[number] for number in row if number != END) for row in found]
    return [Pronunciation(sounds, float(np.exp(p))) for sounds, p in zip(names, probability, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m scratch.models.rnn_lstm_gru.phonemes WORD...`"""
    p = argparse.ArgumentParser(prog="phonemes", description="Say how English words are spoken, in ARPAbet.")
    p.add_argument("words", nargs="+", metavar="WORD")
    p.add_argument("--weights", type=Path, help=f"file of arrays (default: that of {INSTALL})")
    a = p.parse_args(arguments)
    words = [word for text in a.words for word in text.split()]
    wide = max(map(len, words), default=0)
    for word, spoken in zip(words, pronounce(load_speller(a.weights), words), strict=True):
        say(f"{word:{wide}}  {100 * spoken.probability:3.0f} %  {' '.join(spoken.sounds)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
