"""Train an RNN, LSTM or GRU to go on with a text, to answer questions about sequences, or to rewrite dates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from scratch.data import Batches, Pairs, TextStreams, load_dates
from scratch.data.augment import random_shift
from scratch.models.rnn_lstm_gru import pictures
from scratch.models.rnn_lstm_gru.model import LanguageModel, SequenceClassifier, Tagger, remember
from scratch.models.rnn_lstm_gru.objective import (
    Carried,
    Task,
    evaluate,
    pair_loss,
    report,
    sequence_loss,
    text_loss,
)
from scratch.models.rnn_lstm_gru.seq2seq import BahdanauSeq2Seq, LuongSeq2Seq
from scratch.models.rnn_lstm_gru.tasks import SEQUENCES, Sequences, Text, text
from scratch.module import Module
from scratch.optim import Adam, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train rnn_lstm_gru --FIELD VALUE` changes a field."""

    data: Literal["shakespeare", "tiny_shakespeare", "adding", "copy", "parity", "rows", "series",
                  "dates"] = "shakespeare"  # fmt: skip
    """Text (the plays ship; tiny_shakespeare is downloaded), or another task: tasks.py."""
    kind: Literal["rnn", "lstm", "gru"] = "lstm"
    """Which recurrence; the encoder and decoder of dates are GRUs."""
    attention: Literal["additive", "multiplicative"] = "multiplicative"
    """How the decoder of dates asks: Bahdanau's or Luong's."""
    embedding: int = 64
    """Features of a token."""
    hidden: int = 256
    """Size of a state."""
    layers: int = 1
    """Recurrences on top of each other."""
    bidirectional: bool = False
    """Whether a classifier or tagger reads from both ends."""
    dropout: float = 0.0
    """Share of features set to zero at random in every step."""
    length: int = 64
    """Steps: of a piece of text (how far the gradient goes back), of a sequence to be added, of copy's pause, of the
    longest string of bits, of the years before the one that is asked."""
    remember: int = 0
    """Steps that the gates of a classifier or tagger are set to remember at first; 0 leaves its biases as they are."""
    shift: int = 0
    """Pixels by which the digits of `rows` are moved at random, at most."""
    own: float = 0.0
    """Share of dates' tokens that the decoder reads from itself instead of the right ones; it rises from 0 at the first
    step to this at the last."""
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 32
    """Streams of text, or sequences, in each step."""
    lr: float = 4e-3
    """Learning rate at its highest, after the warm-up."""
    final_lr: float = 1e-4
    """Learning rate at the end of the cosine along which it falls."""
    warmup: int = 50
    """Steps in which the learning rate rises from 0, at most half of all."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 250
    """Steps between two looks at the validation set."""
    save_every: int = 250
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 2
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("dropout", "own"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.remember and (self.remember < 3 or self.kind == "rnn"):
            came = f"{self.remember} and {self.kind}"
            raise ValueError(f"remember must be 0, or from 3 with an LSTM or a GRU, got {came}")
        if math.isinf(self.lr) or not self.final_lr <= self.lr:
            raise ValueError(f"lr must be a number of at least final_lr, got {self.lr} and {self.final_lr}")


LOWEST = {"embedding": 1, "hidden": 1, "layers": 1, "length": 1, "steps": 1, "batch_size": 1, "evaluate_every": 1,
          "save_every": 1, "shards": 1, "lr": 0, "final_lr": 0, "warmup": 0, "clip": 0, "shift": 0, "remember": 0,
          "seed": 0}  # fmt: skip

ADDING: dict[str, Any] = {"data": "adding", "hidden": 64, "length": 100, "batch_size": 64, "steps": 1000, "lr": 1e-2}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"hidden": 128, "steps": 500, "evaluate_every": 125},
    "tiny_shakespeare": {"data": "tiny_shakespeare"},
    "adding": {**ADDING, "remember": 100},
    "adding_gru": {**ADDING, "kind": "gru"},
    "adding_rnn": {**ADDING, "kind": "rnn", "lr": 1e-3},
    "copy": {"data": "copy", "kind": "gru", "hidden": 64, "length": 20, "batch_size": 64, "steps": 1500, "lr": 1e-2},
    "parity": {"data": "parity", "hidden": 16, "length": 16, "batch_size": 64, "steps": 1000, "lr": 1e-2},
    "rows": {"data": "rows", "hidden": 128, "bidirectional": True, "dropout": 0.3, "shift": 2, "batch_size": 64,
             "steps": 2500, "lr": 5e-3},
    "series": {"data": "series", "hidden": 16, "length": 24, "steps": 600, "lr": 5e-3, "evaluate_every": 25},
    "dates": {"data": "dates", "hidden": 128, "batch_size": 64, "steps": 3000, "lr": 4e-3, "evaluate_every": 500},
}  # fmt: skip


def load_task(settings: Settings) -> Task:
    """The data that the settings name; the same for every seed."""
    if settings.data in SEQUENCES:
        return SEQUENCES[settings.data](settings.length)
    return load_dates() if settings.data == "dates" else text(settings.data)


def build(settings: Settings, task: Task) -> Module:
    """The model that the settings describe, for this task."""
    s = settings
    if isinstance(task, Text):
        return LanguageModel(len(task.tokenizer), s.kind, s.embedding, s.hidden, s.layers, s.dropout)
    if isinstance(task, Pairs):
        kind = {"additive": BahdanauSeq2Seq, "multiplicative": LuongSeq2Seq}[s.attention]
        return kind(len(task.tokenizer), s.embedding, s.hidden, task.train.targets.shape[1] - 1)
    answer = Tagger if task.every_step else SequenceClassifier
    model = answer(task.train[0].shape[2], task.outputs, s.kind, s.hidden, s.layers, s.dropout, s.bidirectional)
    if s.remember:
        remember(model.recurrence, s.remember)
    return model


def train(settings: Settings, run: Run, make: Callable[[Settings, Task], Module] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another model in its place."""
    manual_seed(settings.seed)
    task = load_task(settings)

    model = make(settings, task)
    optimizer = Adam(model.parameters())
    warmup = min(settings.warmup, settings.steps // 2)
    schedule = cosine(settings.lr, settings.steps, warmup=warmup, final=settings.final_lr)
    batches = load_batches(settings, task)
    carried = Carried(model, settings.batch_size) if isinstance(model, LanguageModel) else None
    loss_of = ShardedLoss(model, loss_function(task, carried), settings.shards)

    run.track(model=model, optimizer=optimizer, batches=batches, **({} if carried is None else {"carried": carried}))
    run.introduce(f"{settings.data}: {task}", model, first_loss=guess(task))

    for step in run.steps(settings.steps, settings.save_every):
        batch = next(batches)
        if carried is not None and batches.begins(step):  # the streams start anew
            carried.forget()
        with stream(settings.seed, step):  # what is drawn is a function of seed and step
            batch = varied(settings, task, step, batch)
            loss = loss_of(*batch)
        run.require_finite(loss, model, *inputs(task, batch))

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, **evaluate(model, task, task.validation))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    results = report(model, task)
    drawn = pictures.draw_all(run.folder, run.history(), model, task)
    run.finish(results, drawn, then=f"scratch sample rnn_lstm_gru --run {typed(run.folder)}")


def load_batches(settings: Settings, task: Task) -> Any:
    """Streams of the text, or rows in random order."""
    if isinstance(task, Text):
        return TextStreams(task.train, settings.length, settings.batch_size)
    arrays = task.train.arrays if isinstance(task, Pairs) else task.train
    return Batches(*arrays, batch_size=settings.batch_size, seed=settings.seed)


def loss_function(task: Task, carried: Carried | None) -> Callable[..., tuple[Tensor, float]]:
    if carried is not None:
        return partial(text_loss, carried=carried)
    return pair_loss if isinstance(task, Pairs) else sequence_loss


def varied(settings: Settings, task: Task, step: int, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The batch as the loss takes it: with the streams' numbers, moved digits, and who writes which token."""
    if isinstance(task, Text):
        return np.arange(len(batch[0])), *batch
    if isinstance(task, Pairs) and settings.own > 0:
        share = settings.own * step / max(settings.steps - 1, 1)
        return *batch, generator().random((len(batch[1]), batch[1].shape[1] - 1)) >= share
    if isinstance(task, Sequences) and settings.shift:
        return random_shift(batch[0], settings.shift, generator()), *batch[1:]
    return batch


def inputs(task: Task, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Of a batch, what the model itself is called with."""
    return batch[1:2] if isinstance(task, Text) else batch[:2]


def guess(task: Task) -> tuple[str, float]:
    """What knowing nothing costs: its name and its value."""
    V = len(task.tokenizer) if isinstance(task, Pairs) else 0
    return (f"ln {V}", math.log(V)) if isinstance(task, Pairs) else task.guess


if __name__ == "__main__":
    command.main("rnn_lstm_gru")
