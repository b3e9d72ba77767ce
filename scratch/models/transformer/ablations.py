"""What each part is there for: strings reversed, with one part of the model or of its training taken away.

`python -m scratch.models.transformer.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.data import trimmed
from scratch.layers import MultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer
from scratch.models.transformer.inside import attention_maps
from scratch.models.transformer.model import Transformer
from scratch.models.transformer.train import Settings, build, load_pairs, train
from scratch.module import Module
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int, int], Transformer]


class Unscaled(MultiheadAttention):
    """Scores q·k instead of q·k / √hd: the queries are made √hd times as large."""

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        first, *others = super()._project(query, key, value)  # queries, with or without keys and values beside them
        factor = np.ones(first.shape[-1], first.dtype)
        factor[: self.embed_dim] = math.sqrt(self.embed_dim // self.num_heads)
        return first * Tensor(factor), *others


def without_scaling(*arguments: Any) -> Transformer:
    model = build(*arguments)
    for module in model.modules():
        if isinstance(module, MultiheadAttention):
            module.__class__ = Unscaled
    return model


class SeesTheFuture(Transformer):
    """The decoder without its mask: in training each place reads the token that it is asked for."""

    def decode(self, target: Any, memory: Tensor, padding: np.ndarray) -> Tensor:
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory, memory_key_padding_mask=padding)
        return self.scores(self.decoder_norm(x))


class WithoutPositions(Transformer):
    """Attention sees a set: without positions the source is a bag of symbols."""

    def embed(self, tokens: Any, offset: int = 0) -> Tensor:
        x = self.embedding(tokens)
        return self.dropout(x * math.sqrt(x.shape[-1]))


def of_kind(kind: type[Transformer]) -> Make:
    """A maker of the settings' model as this class."""

    def make(s: Settings, vocab_size: int, max_length: int) -> Transformer:
        return kind(vocab_size, s.d_model, s.nhead, s.layers, s.layers, s.dim_feedforward, s.dropout, max_length,
                    norm_first=s.norm_first)  # fmt: skip

    return make


class _Alone:
    """norm(f(x)) in place of norm(x + f(x))."""

    def _residual(self, x: Tensor, norm: Module, dropout: Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        return norm(dropout(f(x)))


class EncoderAlone(_Alone, TransformerEncoderLayer):
    pass


class DecoderAlone(_Alone, TransformerDecoderLayer):
    pass


def without_residual(*arguments: Any) -> Transformer:
    model = build(*arguments)
    for reader in model.encoder:
        reader.__class__ = EncoderAlone
    for writer in model.decoder:
        writer.__class__ = DecoderAlone
    return model


BASE: dict[str, Any] = {"data": "reverse", "steps": 1000, "cooldown": 400, "evaluate_every": 500}
DEEP: dict[str, Any] = {"layers": 6, "steps": 500, "cooldown": 200, "evaluate_every": 250}
AT_ONCE: dict[str, Any] = {"warmup": 1, "rate": Settings.rate / math.sqrt(Settings.warmup)}  # to the same highest rate

ABLATIONS: dict[str, tuple[dict[str, Any], Make]] = {
    "as it is": ({}, build),
    "no scaling": ({}, without_scaling),
    "no mask": ({}, of_kind(SeesTheFuture)),
    "no positions": ({}, of_kind(WithoutPositions)),
    "no residual": ({}, without_residual),
    "no warm-up": ({"warmup": 1}, build),
    "no warm-up, same highest rate": (AT_ONCE, build),
    "pre-norm": ({"norm_first": True}, build),
    "pre-norm, no warm-up": ({"norm_first": True, "warmup": 1}, build),
    "no label smoothing": ({"label_smoothing": 0.0}, build),
}
SIX: dict[str, tuple[dict[str, Any], Make]] = {
    "post-norm": (DEEP, build),
    "post-norm, no warm-up, same highest rate": (DEEP | AT_ONCE, build),
    "pre-norm": (DEEP | {"norm_first": True}, build),
    "pre-norm, no warm-up, same highest rate": (DEEP | AT_ONCE | {"norm_first": True}, build),
    "post-norm, no residual": (DEEP, without_residual),
}
COLUMNS = ("largest weight", "loss at step 0", "loss at step 100", "final loss", "test loss", "test exact match")


def largest_weight(model: Transformer, settings: Settings) -> float:
    """How sure a head is before training: the last layer looking at the source, the largest weight of each query.

    The mean over heads and queries for the first test pair; 1 / S where every place of the source counts alike.
    """
    source, target = trimmed(*(rows[:1] for rows in load_pairs(settings).test.arrays))
    return float(attention_maps(model, source, target[:, :-1]).cross[-1].max(axis=-1).mean())


def measure(name: str, changes: dict[str, Any], make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run, with `steps` as its longest; those of a run that broke off are missing."""
    chosen = {**BASE, **changes}
    settings = Settings(**{**chosen, "steps": min(steps, chosen["steps"]), "seed": seed})
    seen: dict[str, float] = {}

    def make_and_look(*arguments: Any) -> Transformer:
        model = make(*arguments)
        seen["largest weight"] = largest_weight(model, settings)
        return model

    # Without the cache, which repeats the layers as they are, not as changed here.
    figures = figures_of("transformer", name, settings, parent, train, make_and_look, cache=False)
    return seen | figures


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=BASE["steps"], help="of each run, at most")
    a = p.parse_args()
    rows = []
    for layers, group in ((2, ABLATIONS), (6, SIX)):
        rows += ["", head(COLUMNS, f"{layers} layers")]
        for name, (changes, make) in group.items():
            figures = measure(name, changes, make, a.seed, a.steps, a.parent)
            rows.append(row(name, COLUMNS, figures))
            say(rows[-1])
    say("\n".join(rows))


if __name__ == "__main__":
    main()
