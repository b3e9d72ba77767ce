"""Plots of a trained Llama: loss curves, attention weights, expert statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import CharTokenizer
from scratch.models.gpt.tasks import Text
from scratch.models.llama.experts import Mixtral
from scratch.models.llama.inside import attention_maps, expert_load, expert_token_counts
from scratch.models.llama.model import Llama
from scratch.tensor import Array
from scratch.viz.style import COLOURS, SMALL, label, legend
from scratch.viz.tokens import shown

PHRASE = "my lord, my l"  # whose attention weights are plotted


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: Llama, task: Text) -> list[Path]:
    """Save all plots in the run folder and return the files."""
    V = len(task.tokenizer)
    curves = viz.loss_curves(log, title="training and validation loss", loss_label="cross-entropy (nats)",
                             reference=(math.log(V), f"ln {V}"))  # fmt: skip
    figures = {"curves": curves, **look_into(model, task, PHRASE)}
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def look_into(model: Llama, task: Text, phrase: str) -> dict[str, Any]:
    """{name: figure}: attention weights of every head for a phrase, and expert statistics if there are experts."""
    figures = {"heads": draw_heads(model, task.tokenizer, phrase[: model.context_length])}
    if isinstance(model, Mixtral):
        figures["experts"] = draw_experts(model, task)
        figures["usage"] = draw_usage(expert_load(model, task.validation))
    return figures


def draw_heads(model: Llama, tokenizer: CharTokenizer, phrase: str) -> Any:
    """Attention weights of every head of every block."""
    maps = attention_maps(model, tokenizer.encode(phrase))
    names = [f"block {i + 1}, head {j + 1}" for i in range(maps.shape[0]) for j in range(maps.shape[1])]
    signs = [shown(c) for c in phrase]
    return viz.attention_maps(
        maps.reshape(-1, *maps.shape[2:]), signs, signs, title="attention weights by head", titles=names,
        rows="query position", columns="key position",
    )  # fmt: skip


def draw_usage(shares: Array) -> Any:
    """Share of the assignments that each expert of each block gets, and the share of an equal load."""
    layers, E = shares.shape
    page, axes = viz.figure(1, layers, panel=(2.9, 2.7), sharey=True)
    for i, panel in enumerate(axes[0]):
        panel.bar(np.arange(1, E + 1), shares[i], color=COLOURS[0], edgecolor="black", linewidth=0.5)
        panel.axhline(1 / E, color="black", linestyle="--", linewidth=1, label="equal load")
        panel.set_xticks(np.arange(1, E + 1))
        panel.set_ylim(0, max(1.15 * float(shares.max()), 2 / E))
        label(panel, f"block {i + 1}", "expert", "" if i else "share of assignments")
    legend(axes[0, 0], loc="upper left")
    return page


def draw_experts(model: Mixtral, task: Text, most: int = 40) -> Any:
    """Share of each frequent character's occurrences that each expert of each block processes."""
    counts = expert_token_counts(model, task.validation)  # (num_layers, E, V)
    order = np.argsort(-counts[0].sum(axis=0), kind="stable")[:most]
    order = order[counts[0].sum(axis=0)[order] > 0]
    characters = task.tokenizer.decode(order)
    order = order[np.argsort([_kind(c) for c in characters], kind="stable")]
    k = model.num_experts_per_token
    shares = k * counts[:, :, order] / counts[:, :, order].sum(axis=1, keepdims=True)
    page, axes = viz.figure(len(shares), 1, panel=(8.6, 1.9))
    for i, panel in enumerate(axes[:, 0]):
        image = panel.imshow(shares[i], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.set_xticks(np.arange(len(order)), [shown(c) for c in task.tokenizer.decode(order)], fontsize=SMALL)
        panel.set_yticks(np.arange(shares.shape[1]), [str(e + 1) for e in range(shares.shape[1])], fontsize=SMALL)
        label(panel, f"block {i + 1}: share of a character's occurrences processed by each expert", "", "expert")
        panel.grid(False)
        page.colorbar(image, ax=panel, fraction=0.02, pad=0.01)
    return page


def _kind(character: str) -> int:
    """Order of the characters in the plot: vowels, consonants, capitals, then all others."""
    if character.islower():
        return 0 if character in "aeiou" else 1
    return 2 if character.isupper() else 3
