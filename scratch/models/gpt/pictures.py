"""What a trained GPT looks like, from the outside and from the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import CharTokenizer
from scratch.models.gpt.inside import HeadScores, attention_maps, head_scores, logit_lens, next_token, repeated
from scratch.models.gpt.model import GPT
from scratch.models.gpt.tasks import Questions, Rounds, Text
from scratch.viz.style import COLOURS, HATCHES, label, legend
from scratch.viz.tokens import shown

LINE, PHRASE = "What is the matter, my lord?", "my lord, my l"  # to look into, where the task is a text


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: GPT, task: Text | Questions) -> list[Path]:
    """Draw everything into the run folder and return the files; of questions the first test row is looked into."""
    V, tokenizer = len(task.tokenizer), task.tokenizer
    curves = viz.loss_curves(
        log, title="training and validation loss", loss_label="cross-entropy (nats)",
        panels=("validation_exact_match",) if isinstance(task, Questions) else (), reference=(math.log(V), f"ln {V}"),
    )  # fmt: skip
    line, phrase = (LINE, PHRASE) if isinstance(task, Text) else [tokenizer.decode(task.test[0])] * 2
    rounds = isinstance(task, Rounds)
    phrase = tokenizer.decode(repeated(V, 8, 1)[0]) if rounds else phrase
    figures = {"curves": curves, **look_into(model, tokenizer, line, phrase)}
    if rounds:
        figures["induction"] = draw_head_scores(head_scores(model, 12), 12)
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def look_into(model: GPT, tokenizer: CharTokenizer, line: str, phrase: str | None = None) -> dict[str, Any]:
    """{name: figure}: what comes next in a line, block by block; and every head, reading a shorter phrase of it."""
    line = line[: model.context_length]
    phrase = line[:13] if phrase is None else phrase[: model.context_length]
    return {
        "lens": draw_lens(model, tokenizer, line),
        "next_token": draw_next_token(model, tokenizer, line),
        "heads": draw_heads(model, tokenizer, phrase),
    }


def draw_lens(model: GPT, tokenizer: CharTokenizer, line: str) -> Any:
    """The likeliest next character at every place, read from the stream after every block."""
    lens = logit_lens(model, tokenizer.encode(line))  # (1 + num_layers, T, V)
    names = ["embedding", *(f"block {i}" for i in range(1, len(lens)))]
    best = lens.argmax(axis=-1)
    return viz.token_grid(
        [list(tokenizer.decode(row)) for row in best], lens.max(axis=-1), names, list(line),
        right=_right(tokenizer, line, best), title="what would come next, if the model ended there",
        columns="the text read so far",
    )  # fmt: skip


def draw_next_token(model: GPT, tokenizer: CharTokenizer, line: str, ranks: int = 5) -> Any:
    """The likeliest next characters at every place, one rank below the other."""
    p = next_token(model, tokenizer.encode(line)).T  # (V, T)
    best = np.argsort(-p, axis=0, kind="stable")[:ranks]
    return viz.token_grid(
        [list(tokenizer.decode(row)) for row in best], np.take_along_axis(p, best, axis=0),
        [str(i + 1) for i in range(len(best))], list(line), right=_right(tokenizer, line, best),
        title="the likeliest next characters", rows="rank", columns="the text read so far",
    )  # fmt: skip


def _right(tokenizer: CharTokenizer, line: str, guesses: np.ndarray) -> np.ndarray:
    """Which guesses (R, T) are what the line goes on with; nothing is known about its end."""
    follows = np.append(tokenizer.encode(line)[1:], -1)
    return guesses == follows


def draw_heads(model: GPT, tokenizer: CharTokenizer, phrase: str) -> Any:
    """Where each head of each block looks."""
    maps = attention_maps(model, tokenizer.encode(phrase))
    names = [f"block {i + 1}, head {j + 1}" for i in range(maps.shape[0]) for j in range(maps.shape[1])]
    signs = [shown(c) for c in phrase]
    return viz.attention_maps(
        maps.reshape(-1, *maps.shape[2:]), signs, signs, title="attention, every head", titles=names,
        rows="from", columns="looked at",
    )  # fmt: skip


def draw_head_scores(scores: HeadScores, period: int) -> Any:
    """Both scores of every head, blocks beside each other."""
    blocks, heads = scores.previous.shape
    page, axes = viz.figure(1, blocks, panel=(3.9, 3.2), sharey=True)
    place = np.arange(heads)
    for i, panel in enumerate(axes[0]):
        for k, name in enumerate(("the place before", "after the earlier copy")):
            panel.bar(place + 0.4 * k - 0.2, scores[k][i], 0.4, color=COLOURS[k], hatch=HATCHES[k], edgecolor="white",
                      label=name)  # fmt: skip
        panel.set_xticks(place, [str(j + 1) for j in place])
        panel.set_ylim(0, 1)
        label(panel, f"block {i + 1}", "head", "" if i else f"share of the look, period {period}")
    legend(axes[0, 0], loc="upper left")
    return page
