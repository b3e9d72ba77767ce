"""What is asked of a model for each kind of task: the losses of its training, and the figures that are reported."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.data import Pairs, in_order, trimmed
from scratch.losses import cross_entropy, mse_loss
from scratch.models.rnn_lstm_gru.model import LanguageModel
from scratch.models.rnn_lstm_gru.seq2seq import PAD, greedy
from scratch.models.rnn_lstm_gru.tasks import IGNORED, SPOTS, Rows, Sequences, Text, pieces
from scratch.module import Buffer, Module
from scratch.tensor import Tensor, no_grad
from scratch.training import standard_error

Task = Text | Sequences | Pairs

# -- losses, as ShardedLoss wants them: a sum, and of how many --------------------------------------------------------


class Carried(Module):
    """The states of all streams, as they were behind the last piece: numbers, no tape, so that gradients end there.

    h, of an LSTM also c: (layers, B, H).
    """

    def __init__(self, model: LanguageModel, streams: int):
        layer: Any = model.recurrence
        shape = (layer.num_layers, streams, layer.hidden_size)
        names = ("h", "c") if layer.kind == "lstm" else ("h",)
        self.states = [Buffer(np.zeros(shape, model.output.weight.dtype)) for _ in names]

    def read(self, rows: np.ndarray) -> Any:
        """The state of these streams, as the layer takes it."""
        states = tuple(Tensor(state.data[:, rows]) for state in self.states)
        return states if len(states) > 1 else states[0]

    def write(self, rows: np.ndarray, after: Any) -> None:
        for state, value in zip(self.states, after if isinstance(after, tuple) else (after,), strict=True):
            state.data[:, rows] = value.data

    def forget(self) -> None:
        for state in self.states:
            state.data[...] = 0


def text_loss(model: Any, rows: np.ndarray, x: np.ndarray, y: np.ndarray, carried: Carried) -> tuple[Tensor, float]:
    """Backpropagation through time, truncated to the T steps of a piece: its first state is a given number.

    Shapes: rows (B,), which streams these are; x and y (B, T).
    """
    logits, state = model(x, carried.read(rows))
    carried.write(rows, state)
    return cross_entropy(logits.reshape(y.size, -1), y.reshape(-1), reduction="sum"), y.size


def sequence_loss(model: Any, x: np.ndarray, lengths: np.ndarray, y: np.ndarray) -> tuple[Tensor, float]:
    """Squared errors of numbers, cross-entropies of classes.  Shapes: (B, T, in), (B,), (B, 1) or (B,) or (B, T)"""
    answers = model(x, lengths if (lengths < x.shape[1]).any() else None)
    if y.dtype.kind == "f":
        return mse_loss(answers, y, reduction="sum"), y.size
    loss = cross_entropy(answers.reshape(y.size, -1), y.reshape(-1), ignore_index=IGNORED, reduction="sum")
    return loss, int((y != IGNORED).sum())


def pair_loss(
    model: Any, source: np.ndarray, target: np.ndarray, forced: np.ndarray | None = None
) -> tuple[Tensor, float]:
    """Teacher forcing where `forced`, everywhere without it.  Shapes: (B, S), (B, T), (B, T − 1)"""
    source, target = trimmed(source, target)
    given, asked = target[:, :-1], target[:, 1:].reshape(-1)
    logits = model(source, given, None if forced is None else forced[:, : given.shape[1]])
    loss = cross_entropy(logits.reshape(asked.size, -1), asked, ignore_index=PAD, reduction="sum")
    return loss, int((asked != PAD).sum())


# -- figures ----------------------------------------------------------------------------------------------------------


def evaluate(model: Any, task: Task, part: Any) -> dict[str, float]:
    """{'loss': mean over all that is asked} and, of classes and dates, shares of right answers."""
    model.eval()
    with no_grad():
        if isinstance(task, Text):
            figures = {"loss": text_figure(model, part)}
        else:
            figures = pair_figures(model, part) if isinstance(task, Pairs) else sequence_figures(model, part)
    model.train()
    return figures


def text_figure(model: LanguageModel, tokens: np.ndarray, length: int = 100) -> float:
    """Nats a character, the text read in 64 streams, each with its state carried from end to end."""
    total, count, state = 0.0, 0, None
    for x, y in pieces(tokens, length):
        logits, state = model(x, state)
        total += cross_entropy(logits.reshape(y.size, -1), y.reshape(-1), reduction="sum").item()
        count += y.size
    return total / count


def sequence_figures(model: Any, part: Rows, batch_size: int = 250) -> dict[str, float]:
    """Of classes the share of right answers, and where every step has one, of rows without any wrong one."""
    total = count = right = whole = 0.0
    for x, lengths, y in in_order(part, batch_size):
        loss, n = sequence_loss(model, x, lengths, y)
        total, count = total + loss.item(), count + n
        if y.dtype.kind != "f":
            answers = model(x, lengths).data.argmax(axis=-1)
            right += int((answers == y).sum())
            whole += int(((answers == y) | (y == IGNORED)).reshape(len(y), -1).all(axis=1).sum())
    figures = {"loss": total / count}
    if part[2].dtype.kind != "f":
        figures["accuracy"] = right / count
        if part[2].ndim == 2:
            figures["exact_match"] = whole / len(part[0])
    return figures


def pair_figures(model: Any, part: Any, batch_size: int = 250) -> dict[str, float]:
    """The share of answers, written greedily, without any wrong token; the loss with teacher forcing."""
    total = tokens = right = 0.0
    for source, target in in_order(part.arrays, batch_size):
        loss, count = pair_loss(model, source, target)
        total, tokens = total + loss.item(), tokens + count
        answers, _ = greedy(model, trimmed(source)[0])
        short = target.shape[1] - 1 - answers.shape[1]
        same = np.pad(answers, ((0, 0), (0, short)), constant_values=PAD) == target[:, 1:]
        right += int(same.all(axis=1).sum())
    return {"loss": total / tokens, "exact_match": right / len(part)}


def report(model: Any, task: Task) -> dict[str, float]:
    """The figures of the test set; of a text without one, those of the validation set."""
    if isinstance(task, Text) and not len(task.test):
        return {"validation loss": evaluate(model, task, task.validation)["loss"]}
    figures = evaluate(model, task, task.test)
    if isinstance(task, Sequences) and task.numbers:
        if task.name != "series":
            return {"test MSE": figures["loss"], **task.baselines}
        return {"test RMSE": SPOTS * math.sqrt(figures["loss"]), **task.baselines}
    results = {f"test {name.replace('_', ' ')}": value for name, value in figures.items()}
    if not isinstance(task, Text):
        rows = len(task.test) if isinstance(task, Pairs) else len(task.test[0])
        share = figures.get("exact_match", figures.get("accuracy", 0.0))
        results["standard error"] = standard_error(share, rows)
    return results
