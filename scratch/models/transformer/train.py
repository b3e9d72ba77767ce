"""Train a Transformer to rewrite dates as ISO 8601 does, or to copy, reverse or sort strings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from scratch.data import Batches, Dataset, Pairs, in_order, load_dates, load_strings, trimmed
from scratch.data.pairs import PAD
from scratch.losses import cross_entropy
from scratch.models.transformer import pictures
from scratch.models.transformer.decoding import greedy
from scratch.models.transformer.model import Transformer
from scratch.optim import Adam, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed, stream
from scratch.schedules import Schedule, inverse_sqrt
from scratch.tensor import Tensor, no_grad
from scratch.training import Run, command, standard_error
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train transformer --FIELD VALUE` changes a field."""

    data: Literal["dates", "copy", "reverse", "sort"] = "dates"
    """Written dates to be rewritten as 1997-03-14, or random strings of ten symbols."""
    d_model: int = 64
    """Features of a token, a multiple of nhead."""
    nhead: int = 4
    """Attention heads of each layer."""
    layers: int = 2
    """Layers of the encoder, and as many of the decoder."""
    dim_feedforward: int = 256
    """Units between the two affine maps of a layer."""
    dropout: float = 0.0
    """Share set to zero at random in every step: embeddings, attention weights, what each part of a layer adds."""
    norm_first: bool = False
    """Normalise before each part of a layer (pre-norm) instead of after its sum (post-norm, as in the paper)."""
    label_smoothing: float = 0.1
    """Share of each target that is spread over the whole vocabulary."""
    steps: int = 5000
    """Updates of the weights."""
    batch_size: int = 64
    """Pairs in each step."""
    rate: float = 0.5
    """What the paper's learning rate d_model^-0.5 min(n^-0.5, n warmup^-1.5) is multiplied by, n being the step."""
    warmup: int = 400
    """Steps in which the learning rate rises; then it falls with the root of the step."""
    cooldown: int = 1500
    """Steps at the end in which it falls to 0 besides, along a line; 0 leaves the paper's schedule as it is."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 500
    """Steps between two looks at the validation set."""
    save_every: int = 500
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 2
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if math.isinf(self.rate):
            raise ValueError(f"rate must be a number of at least 0, got {self.rate}")
        if self.d_model % self.nhead:
            raise ValueError(f"d_model must be a multiple of nhead, got {self.d_model} and {self.nhead}")


LOWEST = {"d_model": 1, "nhead": 1, "layers": 1, "dim_feedforward": 1, "steps": 1, "batch_size": 1, "rate": 0,
          "warmup": 1, "cooldown": 0, "clip": 0, "evaluate_every": 1, "save_every": 1, "seed": 0,
          "shards": 1}  # fmt: skip

STRINGS = {"steps": 3000, "cooldown": 1000}

PRESETS = {
    "default": {},
    "quick": {"data": "copy", "steps": 800, "cooldown": 400, "rate": 1.0, "warmup": 200, "evaluate_every": 200},
    "copy": {"data": "copy", **STRINGS},
    "reverse": {"data": "reverse", **STRINGS},
    "sort": {"data": "sort", "steps": 4000, "cooldown": 3500, "label_smoothing": 0.0},
}


def build(settings: Settings, vocab_size: int, max_length: int) -> Transformer:
    """The model that the settings describe, for so many tokens and sequences of this length."""
    s = settings
    return Transformer(vocab_size, s.d_model, s.nhead, s.layers, s.layers, s.dim_feedforward, s.dropout, max_length,
                       PAD, s.norm_first)  # fmt: skip


def summed_loss(
    model: Transformer, source: np.ndarray, target: np.ndarray, smoothing: float = 0.0
) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, how many tokens count), as ShardedLoss wants it.  Shapes: (B, S), (B, T)

    Teacher forcing: the model sees the right beginning at every place, whatever it would have written itself.
    """
    source, target = trimmed(source, target)
    given, asked = target[:, :-1], target[:, 1:].reshape(-1)
    logits = model(source, given).reshape(asked.size, -1)
    loss = cross_entropy(logits, asked, ignore_index=PAD, reduction="sum", label_smoothing=smoothing)
    return loss, int((asked != PAD).sum())


def train(
    settings: Settings, run: Run, make: Callable[[Settings, int, int], Transformer] = build, cache: bool = True
) -> None:
    """The whole run; with `make`, `ablations.py` puts in another model, whose answers the cache cannot write."""
    manual_seed(settings.seed)
    pairs = load_pairs(settings)
    V, longest = len(pairs.tokenizer), max(rows.shape[1] for rows in pairs.train.arrays)

    model = make(settings, V, longest)
    optimizer = Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    schedule = learning_rate(settings)
    batches = Batches(*pairs.train.arrays, batch_size=settings.batch_size, seed=settings.seed)
    loss_of = ShardedLoss(model, partial(summed_loss, smoothing=settings.label_smoothing), settings.shards)

    run.track(model=model, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {pairs}", model, first_loss=(f"ln {V}", math.log(V)))

    for step in run.steps(settings.steps, settings.save_every):
        source, target = next(batches)
        with stream(settings.seed, step):  # dropout is a function of seed and step
            loss = loss_of(source, target)
        run.require_finite(loss, model, source, target)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, **evaluate(model, pairs.validation, cache=cache))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    test = evaluate(model, pairs.test, cache=cache)
    results = {"test loss": test["loss"], "test exact match": test["exact_match"],
               "standard error": standard_error(test["exact_match"], len(pairs.test))}  # fmt: skip
    drawn = pictures.draw_all(run.folder, run.history(), model, pairs)
    run.finish(results, drawn, then=f"scratch sample transformer --run {typed(run.folder)}")


def learning_rate(settings: Settings) -> Schedule:
    """rate · d_model^-0.5 min(n^-0.5, n warmup^-1.5), times the share of the cooldown that is left."""
    s = settings
    paper = inverse_sqrt(s.rate / math.sqrt(s.d_model * s.warmup), s.warmup)
    return lambda step: paper(step) * min(1.0, (s.steps - step) / s.cooldown if s.cooldown else 1.0)


def load_pairs(settings: Settings) -> Pairs:
    """The task that the settings name; the same pairs for every seed."""
    return load_dates() if settings.data == "dates" else load_strings(settings.data)


def evaluate(model: Transformer, data: Dataset, batch_size: int = 250, cache: bool = True) -> dict[str, float]:
    """{'loss': mean cross-entropy of a token in nats, without smoothing; 'exact_match': share of answers, written
    greedily, without any wrong token}"""
    total = tokens = right = 0.0
    model.eval()
    with no_grad():
        for source, target in in_order(data.arrays, batch_size):
            loss, count = summed_loss(model, source, target)
            total, tokens = total + loss.item(), tokens + count
            answers = greedy(model, trimmed(source)[0], target.shape[1] - 1, cache)
            right += int(matches(answers, target).sum())
    model.train()
    return {"loss": total / tokens, "exact_match": right / len(data)}


def matches(answers: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Which answers equal their targets to the last token.  Shapes: (B, ≤ T − 1), (B, T) → (B,)"""
    short = target.shape[1] - 1 - answers.shape[1]
    return (np.pad(answers, ((0, 0), (0, short)), constant_values=PAD) == target[:, 1:]).all(axis=1)


if __name__ == "__main__":
    command.main("transformer")
