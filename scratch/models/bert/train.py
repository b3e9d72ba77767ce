"""Train a BERT to fill gaps in a text, character by character."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scratch.data import TextWindows
from scratch.losses import cross_entropy
from scratch.models.bert import pictures
from scratch.models.bert.counts import Counts
from scratch.models.bert.masking import examined, hide
from scratch.models.bert.model import BertForMaskedLM
from scratch.models.gpt.tasks import Text, text
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor, no_grad
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train bert --FIELD VALUE` changes a field."""

    data: Literal["shakespeare", "tiny_shakespeare"] = "shakespeare"
    """Text (the plays ship; tiny_shakespeare is downloaded)."""
    hidden_size: int = 96
    """Features of a token, a multiple of num_attention_heads."""
    num_hidden_layers: int = 4
    """Layers."""
    num_attention_heads: int = 4
    """Attention heads of each layer."""
    intermediate_size: int = 384
    """Features inside each layer's network."""
    max_position_embeddings: int = 32
    """The context: how many tokens the model sees at a time. In longer ones a gap's neighbours are found later."""
    dropout: float = 0.0
    """Share of features and of attention weights set to zero at random in every step."""
    steps: int = 4000
    """Updates of the weights."""
    batch_size: int = 32
    """Windows in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    final_lr: float = 1e-4
    """Learning rate at the end of the cosine along which it falls."""
    warmup: int = 200
    """Steps in which the learning rate rises from 0, at most half of all."""
    beta2: float = 0.99
    """How long AdamW remembers the size of gradients."""
    weight_decay: float = 0.01
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
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads, got "
                             f"{self.hidden_size} and {self.num_attention_heads}")  # fmt: skip


LOWEST = {"hidden_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 1,
          "max_position_embeddings": 1, "steps": 1, "batch_size": 1, "evaluate_every": 1, "save_every": 1, "shards": 1,
          "lr": 0, "final_lr": 0, "warmup": 0, "weight_decay": 0, "clip": 0,
          "seed": 0}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "max_position_embeddings": 16,
              "steps": 1200, "batch_size": 64, "warmup": 100, "lr": 4e-3, "evaluate_every": 400},
}  # fmt: skip


def build(settings: Settings, characters: int) -> BertForMaskedLM:
    """The model that the settings describe, for so many characters and [MASK], which comes after them."""
    s = settings
    return BertForMaskedLM(
        vocab_size=characters + 1, hidden_size=s.hidden_size, num_hidden_layers=s.num_hidden_layers,
        num_attention_heads=s.num_attention_heads, intermediate_size=s.intermediate_size,
        max_position_embeddings=s.max_position_embeddings, type_vocab_size=1,
        hidden_dropout_prob=s.dropout, attention_probs_dropout_prob=s.dropout,
    )  # fmt: skip


def decayed_apart(model: BertForMaskedLM, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: matrices, which decay, and biases and the norms' scales, which don't."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim == 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def summed_loss(model: BertForMaskedLM, x: np.ndarray, y: np.ndarray, places: np.ndarray) -> tuple[Tensor, float]:
    """(sum of the cross-entropies at the places asked for, how many), as ShardedLoss wants it.  Shapes: (B, T) each"""
    return cross_entropy(model(x, places=places), y[places], reduction="sum"), int(places.sum())


def train(settings: Settings, run: Run, make: Callable[[Settings, int], BertForMaskedLM] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another model in its place."""
    manual_seed(settings.seed)
    task = load_task(settings)
    mask = len(task.tokenizer)  # the token after all characters

    model = make(settings, mask)
    optimizer = AdamW(decayed_apart(model, settings.weight_decay), betas=(0.9, settings.beta2))
    warmup = min(settings.warmup, settings.steps // 2)
    schedule = cosine(settings.lr, settings.steps, warmup=warmup, final=settings.final_lr)
    batches = TextWindows(task.train, settings.max_position_embeddings, settings.batch_size, settings.seed)
    loss_of = ShardedLoss(model, summed_loss, settings.shards)

    run.track(model=model, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {task}", model, first_loss=(f"ln {mask + 1}", math.log(mask + 1)))

    for step in run.steps(settings.steps, settings.save_every):
        y, _ = next(batches)
        with stream(settings.seed, step):  # gaps and dropout are a function of seed and step
            x, places = hide(y, mask, generator())
            loss = loss_of(x, y, places)
        run.require_finite(loss, model, x)

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
    run.finish(results, drawn, then=f"scratch sample bert --run {typed(run.folder)}")


def load_task(settings: Settings) -> Text:
    """The text that the settings name."""
    return text(settings.data)


def evaluate(model: BertForMaskedLM, task: Text, part: np.ndarray) -> dict[str, float]:
    """{'loss': the mean surprise at hidden characters in nats, 'accuracy': the share that is guessed right}"""
    loss, right, count = 0.0, 0, 0
    model.eval()
    with no_grad():
        for x, y, places in examined(part, model.bert.max_position_embeddings, len(task.tokenizer)):
            scores = model(x, places=places)
            loss += cross_entropy(scores, y[places], reduction="sum").item()
            right += int((scores.data.argmax(axis=1) == y[places]).sum())
            count += int(places.sum())
    model.train()
    return {"loss": loss / count, "accuracy": right / count}


def report(model: BertForMaskedLM, task: Text) -> dict[str, float]:
    """The figures of the test part, or of the validation part where there is no other; and what counting reaches."""
    name, part = ("test", task.test) if len(task.test) else ("validation", task.validation)
    figures = evaluate(model, task, part)
    length = model.bert.max_position_embeddings
    return {
        f"{name} loss": figures["loss"],
        f"{name} accuracy": figures["accuracy"],
        "counts, two neighbours": counted(task, part, length, 2),
        "counts, four neighbours": counted(task, part, length, 4),
    }


def counted(task: Text, part: np.ndarray, length: int, neighbours: int) -> float:
    """The loss of counting on the same hidden characters; it is told the true neighbours, hidden or not."""
    counts = Counts(task.train, len(task.tokenizer), neighbours)
    counts.choose(task.validation, hidden_places(task.validation, length, len(task.tokenizer)))
    return counts.loss(part, hidden_places(part, length, len(task.tokenizer)))


def hidden_places(part: np.ndarray, length: int, mask: int) -> np.ndarray:
    """Where in a text the characters stand that `examined` hides."""
    return np.flatnonzero(np.concatenate([places.reshape(-1) for _, _, places in examined(part, length, mask)]))


if __name__ == "__main__":
    command.main("bert")
