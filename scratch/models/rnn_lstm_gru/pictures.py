"""What trained recurrent networks look like, from the outside and from the inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import CharTokenizer, Pairs, load_sunspots
from scratch.layers.recurrent import GRU, LSTM, RNN
from scratch.models.rnn_lstm_gru import inside
from scratch.models.rnn_lstm_gru.model import LanguageModel, initialise
from scratch.models.rnn_lstm_gru.tasks import SPOTS, YEARS, Sequences, Text
from scratch.random import manual_seed
from scratch.tensor import Array, no_grad
from scratch.viz import sequences

READ = 2000  # characters in which cells that count are looked for
SHOWN = 100  # of them are drawn
FEATURES: dict[str, Callable[[str], Array]] = {
    "place in the line": inside.line_position,
    "place in the word": inside.word_position,
    "in a speaker's name": inside.in_name,
}


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: Any, task: Any) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    panels = [key for key in ("validation_accuracy", "validation_exact_match") if any(key in line for line in log)]
    label = "squared error" if isinstance(task, Sequences) and task.numbers else "cross-entropy (nats)"
    V = len(task.tokenizer) if isinstance(task, Pairs) else 0
    known = (np.log(V), f"ln {V}") if isinstance(task, Pairs) else task.guess[::-1]
    curves = viz.loss_curves(log, title="training and validation loss", loss_label=label, panels=panels,
                             reference=known)  # fmt: skip
    figures = {"curves": curves}
    if isinstance(task, Text):
        text = task.tokenizer.decode(task.validation[:READ])
        figures["cells"] = draw_cells(model, task.tokenizer, text)
        figures["trajectory"] = draw_trajectory(model, task.tokenizer, text)
    elif isinstance(task, Pairs):
        figures["alignment"] = draw_alignment(model, task, task.test.inputs[:1])
    elif task.name == "series":
        figures["forecast"] = draw_forecast(model, task)
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def counting_cells(model: LanguageModel, tokenizer: CharTokenizer, text: str) -> dict[str, tuple[int, float, Array]]:
    """Of each feature that varies in the text: the cell that follows it best, Pearson's r, and its values (T,)."""
    found = inside.gates(model, tokenizer.encode(text))
    values, best = found["c"] if "c" in found else found["h"], {}
    for name, feature in FEATURES.items():
        known = feature(text)
        if known.std() > 0:
            r = inside.correlations(values, known)
            cell = int(np.abs(r).argmax())
            best[name] = (cell, float(r[cell]), values[:, cell])
    return best


def draw_cells(model: LanguageModel, tokenizer: CharTokenizer, text: str) -> Any:
    """The cells that count: the known number, and below it the cell of the highest correlation with it."""
    rows = {}
    for name, (cell, r, values) in counting_cells(model, tokenizer, text).items():
        rows[name] = FEATURES[name](text)[:SHOWN]
        rows[f"cell {cell}\nr = {r:.2f}"] = values[:SHOWN]
    rows = rows or {"h 0": inside.gates(model, tokenizer.encode(text[:SHOWN]))["h"][:, 0]}
    return sequences.traces(text[:SHOWN], rows, title="what is known of each character, and the cell that follows it")


def draw_gates(model: LanguageModel, tokenizer: CharTokenizer, text: str, cell: int) -> Any:
    """All gates and states of one cell along a text of at most 100 characters."""
    found = inside.gates(model, tokenizer.encode(text[:SHOWN]))
    rows = {name: values[:, cell] for name, values in found.items()}
    return sequences.traces(text[:SHOWN], rows, title=f"gates and states of cell {cell}")


def draw_trajectory(model: LanguageModel, tokenizer: CharTokenizer, text: str, steps: int = 40) -> Any:
    """Where h goes while the model reads, in its two directions of largest variance."""
    text = text[:steps]
    points, share = inside.trajectory(inside.gates(model, tokenizer.encode(text))["h"])
    names = [f"direction {i + 1}, {100 * part:.0f} % of the variance" for i, part in enumerate(share)]
    return sequences.path(points, list(text), title="the state behind each character", x_label=names[0],
                          y_label=names[1])  # fmt: skip


def draw_alignment(model: Any, pairs: Pairs, source: Array) -> Any:
    """Where the attention looks in the source while each token is written."""
    source = source[:, : int((source != 0).sum())]
    tokens, weights = inside.alignment(model, source)
    return viz.attention_maps(
        weights, pairs.tokenizer.symbols(tokens), pairs.tokenizer.symbols(source[0]),
        title="where each written token comes from", titles=["attention"], rows="written", columns="read",
    )  # fmt: skip


def draw_forecast(model: Any, task: Sequences) -> Any:
    """The years that were held back to report, each foretold from the true years before it."""
    with no_grad():
        told = SPOTS * model(task.test[0]).data[:, 0]
    asked, before = SPOTS * task.test[2][:, 0], SPOTS * task.test[0][:, -1, 0]
    error = {name: np.sqrt(((y - asked) ** 2).mean()) for name, y in (("network", told), ("last year", before))}
    curves = {"seen": asked, f"network, error {error['network']:.1f}": told,
              f"as last year, error {error['last year']:.1f}": before}  # fmt: skip
    years = load_sunspots().years
    page = sequences.lines(years[years >= YEARS[1]], curves, title="sunspots a year ahead", x_label="year",
                           y_label="sunspots")  # fmt: skip
    page.axes[0].set_ylim(top=1.4 * asked.max())  # room for the legend
    return page


def gradients(length: int = 100, hidden: int = 64, seed: int = 0) -> dict[str, Array]:
    """‖∂L/∂h_{T−k}‖ for k = 0 … length − 1 of fresh layers, fed with noise: of each kind, and of U made smaller."""
    x = np.random.default_rng(seed).standard_normal((length, 8, 4)).astype(np.float32)
    found = {}
    for name, layer in (("RNN", RNN), ("RNN, U from U(−1/√H, 1/√H)", RNN), ("GRU", GRU), ("LSTM", LSTM),
                        ("LSTM, forget bias 3", LSTM)):  # fmt: skip
        manual_seed(seed)
        made: Any = layer(4, hidden)
        if "U(" not in name:
            initialise(made)
        if "3" in name:
            made.bias_ih_l0.data[hidden : 2 * hidden] = 3
        found[name] = inside.gradient_by_distance(made, x, seed)
    return found


def draw_gradients(length: int = 100, hidden: int = 64, seed: int = 0) -> Any:
    """How far back the gradient reaches before anything is learned."""
    floor = {name: np.maximum(norms, 1e-12) for name, norms in gradients(length, hidden, seed).items()}
    page = sequences.lines(np.arange(length), floor, title="the gradient on its way back, before training", log_y=True,
                           x_label="steps back, k", y_label="‖∂L/∂h(T−k)‖")  # fmt: skip
    page.axes[0].set_ylim(top=1e10)  # room for the legend
    return page


def draw_trained_gradients(models: Mapping[str, Any], x: Array) -> Any:
    """How far back it reaches in trained classifiers, name → model, that read x (B, T, in)."""
    norms = {}
    for name, model in models.items():
        layer = copy.copy(model.recurrence)  # the same weights, time first
        layer.batch_first = False
        norms[name] = np.maximum(inside.gradient_by_distance(layer, x.swapaxes(0, 1)), 1e-12)
    return sequences.lines(np.arange(x.shape[1]), norms, title="the gradient on its way back, after training",
                           log_y=True, x_label="steps back, k", y_label="‖∂L/∂h(T−k)‖")  # fmt: skip
