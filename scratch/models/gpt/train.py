"""Train a GPT to go on with a text, character by character, to sort digits or to add numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scratch.data import Batches, TextWindows
from scratch.losses import cross_entropy
from scratch.models.gpt import pictures
from scratch.models.gpt.generate import generate
from scratch.models.gpt.model import GPT
from scratch.models.gpt.tasks import IGNORED, TASKS, Questions, Text
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor, no_grad
from scratch.training import Run, command, standard_error
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train gpt --FIELD VALUE` changes a field."""

    data: Literal["shakespeare", "tiny_shakespeare", "sort", "add", "repeat"] = "shakespeare"
    """Text (the plays ship; tiny_shakespeare is downloaded), or questions: tasks.py."""
    n_layer: int = 4
    """Blocks."""
    n_head: int = 4
    """Attention heads of each block."""
    n_embd: int = 96
    """Features of a token, a multiple of n_head."""
    block_size: int = 64
    """The context: how many tokens the model sees at a time."""
    dropout: float = 0.0
    """Share of features and of attention weights set to zero at random in every step."""
    bias: bool = False
    """Whether linear layers and norms have one."""
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 16
    """Windows, or questions, in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    final_lr: float = 1e-4
    """Learning rate at the end of the cosine along which it falls."""
    warmup: int = 100
    """Steps in which the learning rate rises from 0, at most half of all."""
    beta2: float = 0.99
    """How long AdamW remembers the size of gradients."""
    weight_decay: float = 0.1
    """Decay of matrices in AdamW, multiplied by the learning rate; biases and norms have none."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 500
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
        for name in ("dropout", "beta2"):
            if not 0 <= getattr(self, name) <= 1 or (name == "beta2" and self.beta2 == 1):
                raise ValueError(f"{name} must be from 0 to {'below ' * (name == 'beta2')}1, got {getattr(self, name)}")
        if math.isinf(self.lr) or not self.final_lr <= self.lr:
            raise ValueError(f"lr must be a number of at least final_lr, got {self.lr} and {self.final_lr}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, got {self.n_embd} and {self.n_head}")


LOWEST = {"n_layer": 1, "n_head": 1, "n_embd": 1, "block_size": 1, "steps": 1, "batch_size": 1, "evaluate_every": 1,
          "save_every": 1, "shards": 1, "lr": 0, "final_lr": 0, "warmup": 0, "weight_decay": 0, "clip": 0,
          "seed": 0}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"n_layer": 3, "n_embd": 64, "steps": 800, "batch_size": 12, "lr": 4e-3, "evaluate_every": 400},
    "tiny_shakespeare": {"data": "tiny_shakespeare", "n_embd": 128, "batch_size": 12},
    "sort": {"data": "sort", "n_layer": 3, "n_embd": 64, "block_size": 12, "batch_size": 64, "steps": 3000},
    "add": {"data": "add", "n_layer": 3, "n_embd": 64, "block_size": 8, "batch_size": 128, "steps": 4000},
    "induction": {"data": "repeat", "n_layer": 2, "n_embd": 64, "block_size": 32, "batch_size": 32, "steps": 600,
                  "lr": 3e-3, "final_lr": 3e-4},
}  # fmt: skip


def build(settings: Settings, vocab_size: int) -> GPT:
    """The model that the settings describe, for so many tokens."""
    s = settings
    return GPT(vocab_size, s.block_size, s.n_layer, s.n_head, s.n_embd, s.dropout, s.bias)


def decayed_apart(model: GPT, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: matrices, which decay, and biases and the norms' scales, which don't."""
    named = list(model.named_parameters())
    groups = [([p for p in named if p[1].ndim >= 2], weight_decay), ([p for p in named if p[1].ndim < 2], 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def summed_loss(model: GPT, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, how many targets count), as ShardedLoss wants it.  Shapes: x, y (B, T)"""
    logits = model(x)
    loss = cross_entropy(logits.reshape(y.size, -1), y.reshape(-1), ignore_index=IGNORED, reduction="sum")
    return loss, int((y != IGNORED).sum())


def train(settings: Settings, run: Run, make: Callable[[Settings, int], GPT] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another model in its place."""
    manual_seed(settings.seed)
    task = load_task(settings)
    V = len(task.tokenizer)

    model = make(settings, V)
    optimizer = AdamW(decayed_apart(model, settings.weight_decay), betas=(0.9, settings.beta2))
    warmup = min(settings.warmup, settings.steps // 2)
    schedule = cosine(settings.lr, settings.steps, warmup=warmup, final=settings.final_lr)
    batches = load_batches(settings, task)
    loss_of = ShardedLoss(model, summed_loss, settings.shards)

    run.track(model=model, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {task}", model, first_loss=(f"ln {V}", math.log(V)))

    for step in run.steps(settings.steps, settings.save_every):
        x, y = next(batches)
        with stream(settings.seed, step):  # dropout is a function of seed and step
            loss = loss_of(x, y)
        run.require_finite(loss, model, x)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, **evaluate(model, loss_of, task, task.validation))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    results = report(model, loss_of, task)
    drawn = pictures.draw_all(run.folder, run.history(), model, task)
    run.finish(results, drawn, then=f"scratch sample gpt --run {typed(run.folder)}")


def load_task(settings: Settings) -> Text | Questions:
    """The data that the settings name. Raises ValueError for questions that don't fit into the context."""
    task = TASKS[settings.data]()
    if isinstance(task, Questions) and task.train.shape[1] - 1 > settings.block_size:
        longest = task.train.shape[1] - 1
        raise ValueError(f"block_size must be at least {longest} for {settings.data}, got {settings.block_size}")
    return task


def load_batches(settings: Settings, task: Text | Questions) -> TextWindows | Batches:
    """Random windows of the text, or questions in random order."""
    if isinstance(task, Text):
        return TextWindows(task.train, settings.block_size, settings.batch_size, settings.seed)
    return Batches(*task.shifted(task.train), batch_size=settings.batch_size, seed=settings.seed)


def evaluate(model: GPT, loss_of: ShardedLoss, task: Text | Questions, part: np.ndarray) -> dict[str, float]:
    """{'loss': mean over the targets of a part, in nats} and, of questions, the share answered right."""
    model.eval()
    with no_grad():
        losses = [(loss_of(x, y).item(), int((y != IGNORED).sum())) for x, y in task.pairs(part, model.block_size)]
    model.train()
    figures = {"loss": sum(mean * n for mean, n in losses) / sum(n for _, n in losses)}
    return figures if isinstance(task, Text) else figures | {"exact_match": exact_match(model, task, part)}


def exact_match(model: GPT, task: Questions, rows: np.ndarray, batch_size: int = 500) -> float:
    """The share of questions whose greedy answer has no wrong character."""
    right = 0
    for i in range(0, len(rows), batch_size):
        part, n = rows[i : i + batch_size], rows.shape[1] - task.given
        answers = np.stack(generate(model, part[:, : task.given], n, temperature=0))
        right += int((answers == part).all(axis=1).sum())
    return right / len(rows)


def report(model: GPT, loss_of: ShardedLoss, task: Text | Questions) -> dict[str, float]:
    """The figures of the test set, or of the validation set where there is no other."""
    if not len(task.test):
        return {"validation loss": evaluate(model, loss_of, task, task.validation)["loss"]}
    figures = evaluate(model, loss_of, task, task.test)
    results = {"test loss": figures["loss"]}
    if isinstance(task, Questions):
        share = figures["exact_match"]
        results |= {"test exact match": share, "standard error": standard_error(share, len(task.test))}
    return results


if __name__ == "__main__":
    command.main("gpt")
