"""What a trained BERT looks like, from the outside and from the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import CharTokenizer
from scratch.models.bert.inside import attention_maps, one_by_one
from scratch.models.bert.model import BertForMaskedLM
from scratch.models.gpt.tasks import Text
from scratch.viz.tokens import shown

LINE, PHRASE = "What is the matter, my lord?", "my lord, my l"  # to look into


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: BertForMaskedLM, task: Text) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    V = len(task.tokenizer) + 1
    curves = viz.loss_curves(log, title="training and validation loss", loss_label="cross-entropy in gaps (nats)",
                             panels=("validation_accuracy",), reference=(math.log(V), f"ln {V}"))  # fmt: skip
    figures = {"curves": curves, **look_into(model, task.tokenizer, LINE, PHRASE)}
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def look_into(model: BertForMaskedLM, tokenizer: CharTokenizer, line: str, phrase: str | None = None) -> dict[str, Any]:
    """{name: figure}: each character of a line hidden in turn; and every head, reading a shorter phrase of it."""
    line = line[: model.bert.max_position_embeddings]
    phrase = line[:13] if phrase is None else phrase[: model.bert.max_position_embeddings]
    return {"gaps": draw_gaps(model, tokenizer, line), "heads": draw_heads(model, tokenizer, phrase)}


def draw_gaps(model: BertForMaskedLM, tokenizer: CharTokenizer, line: str, ranks: int = 5) -> Any:
    """The likeliest characters at every place while it is hidden, one rank below the other."""
    tokens = tokenizer.encode(line)
    p = one_by_one(model, tokens, len(tokenizer))[:, : len(tokenizer)].T  # (V, T); [MASK] itself is no answer
    best = np.argsort(-p, axis=0, kind="stable")[:ranks]
    return viz.token_grid(
        [list(tokenizer.decode(row)) for row in best], np.take_along_axis(p, best, axis=0),
        [str(i + 1) for i in range(len(best))], list(line), right=best == tokens,
        title="what could stand here, were this character hidden", rows="rank", columns="the text, all of it read",
    )  # fmt: skip


def draw_heads(model: BertForMaskedLM, tokenizer: CharTokenizer, phrase: str) -> Any:
    """Where each head of each layer looks."""
    maps = attention_maps(model, tokenizer.encode(phrase))
    names = [f"layer {i + 1}, head {j + 1}" for i in range(maps.shape[0]) for j in range(maps.shape[1])]
    signs = [shown(c) for c in phrase]
    return viz.attention_maps(
        maps.reshape(-1, *maps.shape[2:]), signs, signs, title="attention, every head", titles=names,
        rows="from", columns="looked at",
    )  # fmt: skip
