"""What a trained Transformer looks like, from the outside and from the inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scratch import viz
from scratch.data import Pairs, trimmed
from scratch.data.pairs import PAD
from scratch.layers import causal_mask
from scratch.models.transformer.inside import alignment, attention_maps, queries_and_keys
from scratch.models.transformer.model import Transformer
from scratch.tensor import Array


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: Transformer, pairs: Pairs) -> list[Path]:
    """Draw everything into the run folder and return the files.

    Maps are those of the first test pair, the alignment that of the longest source among the first twenty.
    """
    V = len(pairs.tokenizer)
    curves = viz.loss_curves(
        log, title=f"{pairs.name}: training and validation loss", loss_label="cross-entropy (nats)",
        panels=("validation_exact_match",), reference=(math.log(V), f"ln {V}"),
    )  # fmt: skip
    sources, targets = (rows[:20] for rows in pairs.test.arrays)
    longest = int((sources != PAD).sum(axis=1).argmax())
    source, target = trimmed(sources[:1], targets[:1])
    figures = {
        "curves": curves,
        "alignment": draw_alignment(model, pairs, *trimmed(sources[longest, None], targets[longest, None])),
        "heads": draw_heads(model, pairs, source, target),
        "attention": draw_steps(model, pairs, source, target),
    }
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def draw_alignment(model: Transformer, pairs: Pairs, source: Array, target: Array) -> Any:
    """Where the last layer looks in the source while it writes each token, the mean over its heads."""
    written, read = pairs.tokenizer.symbols(target[0, 1:]), pairs.tokenizer.symbols(source[0])
    return viz.attention_maps(
        alignment(model, source, target[:, :-1]), written, read, title="where each written token comes from",
        titles=["last layer, mean of its heads"], rows="written", columns="read",
    )  # fmt: skip


def draw_heads(model: Transformer, pairs: Pairs, source: Array, target: Array) -> Any:
    """The heads of all decoder layers, looking at the source."""
    cross = attention_maps(model, source, target[:, :-1]).cross
    written, read = pairs.tokenizer.symbols(target[0, 1:]), pairs.tokenizer.symbols(source[0])
    names = [f"layer {i + 1}, head {j + 1}" for i in range(cross.shape[0]) for j in range(cross.shape[1])]
    return viz.attention_maps(
        cross.reshape(-1, *cross.shape[2:]), written, read, title="attention to the source, every head", titles=names,
        rows="written", columns="read",
    )  # fmt: skip


def draw_steps(
    model: Transformer, pairs: Pairs, source: Array, target: Array, layer: int = 0, head: int = -1, places: int = 6
) -> Any:
    """From queries and keys to weights: the decoder looking at the first places of what it has written, one head."""
    given = target[:, :-1]
    Q, K = queries_and_keys(model, source, given, layer)
    number = range(1, len(Q) + 1)[head]
    Q, K = Q[head, :places], K[head, :places]
    names = pairs.tokenizer.symbols(given[0])[:places]
    return viz.attention_steps(
        Q, K, names, names, allowed=causal_mask(len(Q), len(K)),
        title=f"the decoder's layer {layer + 1}, head {number}, reads what is written so far",
    )  # fmt: skip
