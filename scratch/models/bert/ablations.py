"""What each part is there for: the quick run with one part of the model, or of the objective, put in another way.

`python -m scratch.models.bert.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from scratch.activations import gelu
from scratch.layers import packed_attention
from scratch.models.bert import masking
from scratch.models.bert import train as loop
from scratch.models.bert.model import BertForMaskedLM, Embeddings, Layer, MaskedLMHead, Output, SelfAttention
from scratch.models.bert.train import PRESETS, Settings, build, train
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, exchanging, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int], BertForMaskedLM]


class LooksBackOnly(SelfAttention):
    """The GPT's rule: no place sees a later one."""

    def forward(self, x: Tensor, mask: np.ndarray | None) -> Tensor:
        return packed_attention(self.query(x), self.key(x), self.value(x), num_heads=self.num_heads, is_causal=True)


class SeesItself(SelfAttention):
    """A token takes its own value, and a gap knows nothing but its place."""

    def forward(self, x: Tensor, mask: np.ndarray | None) -> Tensor:
        return self.value(x)


class WithoutPositions(Embeddings):
    """A set of characters, in no order."""

    def forward(self, tokens: Tensor, types: Any, places: Any) -> Tensor:
        return self.dropout(self.LayerNorm(self.word_embeddings(tokens) + self.token_type_embeddings(types)))


class PreNorm(Layer):
    """The GPT's order: x ← x + f(norm(x)). The last sum goes to the head's norm."""

    def forward(self, x: Tensor, mask: np.ndarray | None) -> Tensor:
        first, second = cast(Output, self.attention["output"]), self.output
        x = x + first.dense(self.attention["self"](first.LayerNorm(x), mask))
        return x + second.dense(gelu(self.intermediate["dense"](second.LayerNorm(x))))


class PlainHead(MaskedLMHead):
    """The GPT's head: the embedding alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x)


Shares = tuple[float, float, float]  # chosen, of these masked, of these random
BERT: Shares = (masking.CHOSEN, masking.MASKED, masking.RANDOM)

ABLATIONS: dict[str, tuple[Shares, Make]] = {
    "as it is": (BERT, build),
    "looks back only": (BERT, exchanging(build, SelfAttention, LooksBackOnly)),
    "no attention": (BERT, exchanging(build, SelfAttention, SeesItself)),
    "no positions": (BERT, exchanging(build, Embeddings, WithoutPositions)),
    "pre-norm": (BERT, exchanging(build, Layer, PreNorm)),
    "the embedding alone as head": (BERT, exchanging(build, MaskedLMHead, PlainHead)),
    "always [MASK]": ((0.15, 1.0, 0.0), build),
    "40 % hidden": ((0.4, 0.8, 0.1), build),
    "never [MASK]: half random, half kept": ((0.15, 0.0, 0.5), build),
}
BASE: dict[str, Any] = PRESETS["quick"]
COLUMNS = ("loss at step 0", "final loss", "test loss", "test accuracy")


@contextmanager
def hiding(shares: Shares) -> Iterator[None]:
    """Inside, `hide` chooses these shares in training; `examined` always hides as it does."""
    before = masking.hide

    def hide(text: np.ndarray, mask: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return before(text, mask, rng, *shares)

    setattr(loop, "hide", hide)  # noqa: B010
    try:
        yield
    finally:
        setattr(loop, "hide", before)  # noqa: B010


def measure(name: str, shares: Shares, make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run; those of a run that broke off are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed})
    with hiding(shares):
        return figures_of("bert", name, settings, parent, train, make)


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=BASE["steps"])
    p.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), metavar="NAME")
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name in a.only:
        figures = measure(name, *ABLATIONS[name], a.seed, a.steps, a.parent)
        rows.append(row(name, COLUMNS, figures))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
