"""Curves of a run: loss, accuracy and learning rate against the step, and several runs in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Log = Sequence[Mapping[str, Any]]  # the lines of a log.jsonl: {"step": 20, "loss": 1.93, "validation_loss": 2.01}


def series(log: Log, key: str) -> tuple[Array, Array]:
    """(steps, values) of the lines that hold `key`; a value of None is left out, NaN stays and breaks the line."""
    if not isinstance(log, Sequence) or not all(isinstance(line, Mapping) for line in log):
        raise ValueError(f"a log is a list of dicts, as scratch.training.folder.read_log gives, got {log!r:.80}")
    lines = [line for line in log if line.get(key) is not None]
    missing = [line for line in lines if "step" not in line]
    if missing:
        raise ValueError(f"every line of a log needs a 'step', got one with only {sorted(missing[0])}")
    steps = np.array([line["step"] for line in lines], dtype=np.float64)
    return steps, np.array([line[key] for line in lines], dtype=np.float64)


def smoothed(values: Any, reach: int) -> Array:
    """The mean of each value and its neighbours, at most `reach` on either side.

        mₜ = 1/n Σ xᵢ over t − l ≤ i ≤ t + r,    l = min(reach, t),  r = min(l, last − t)

    At the beginning, where losses fall fast, the window shrinks so that it stays centred: no lag, and the first value
    stays. At the end it keeps the past, or the curve would end in the noise of one step. Values that are not finite
    are passed over.
    Shapes: (n,) → (n,).
    """
    if reach < 0:
        raise ValueError(f"smoothed expected a reach of at least 0, got {reach}")
    x = np.asarray(values, dtype=np.float64)
    t = np.arange(len(x))
    left = np.minimum(reach, t)
    right = np.minimum(left, len(x) - 1 - t)
    good = np.isfinite(x)
    total = np.concatenate([[0.0], np.cumsum(np.where(good, x, 0.0))])
    count = np.concatenate([[0], np.cumsum(good)])
    n = count[t + right + 1] - count[t - left]
    return np.where(n > 0, (total[t + right + 1] - total[t - left]) / np.maximum(n, 1), np.nan)


def loss_curves(
    log: Log, *, title: str = "", loss_label: str = "loss", train: str = "loss", validation: str = "validation_loss",
    panels: Sequence[str] = (), smooth: int | None = None, reference: tuple[float, str] | None = None,
    expected: Sequence[tuple[float, float, float]] = (), log_y: bool = False,
) -> Figure:  # fmt: skip
    """Training loss (light: each step, dark: smoothed) and validation loss against the step.

    Args: log: lines with `step` and any of the keys below.
        train, validation: keys of the two losses. loss_label: the axis with its unit, "cross-entropy (nats)".
        panels: further quantities, drawn below: "learning_rate"; "accuracy" also shows "validation_accuracy".
        smooth: reach of the smoothed curve, 0 for none; a fortieth of the logged steps if None.
        reference: (value, name) of a known level, (2.303, "ln 10").
        expected: (step, low, high) bands; ten or more are shaded, fewer stand as bars where they are known.
    Raises ValueError for a log that holds neither loss, and for a panel that no line holds.
    """
    shown = [key for key in (train, validation) if len(series(log, key)[0])]
    if not shown:
        raise ValueError(f"the log holds neither {train!r} nor {validation!r}; its keys are {_keys(log)}")
    page, axes = style.figure(1 + len(panels), 1, panel=(7.2, 3.6 if not panels else 2.9), sharex=True)
    top = axes[0, 0]
    if expected:
        _expected(top, expected)
    _pair(top, log, train, validation, smooth)
    if reference is not None:
        _reference(top, *reference)
    if log_y:
        style.log_scale(top)
    style.label(top, title, y=loss_label)
    style.legend(top)
    for below, key in zip(axes[1:, 0], panels, strict=True):
        _panel(below, log, key, smooth)
    axes[-1, 0].set_xlabel("step", fontsize=style.TEXT)
    return page


def compare_runs(
    runs: Mapping[str, Any], key: str = "validation_loss", *, title: str = "", label: str | None = None,
    smooth: int = 0, reference: tuple[float, str] | None = None, log_y: bool = False,
) -> Figure:  # fmt: skip
    """The same quantity of several runs against the step, one line a run.

    Args: runs: name → log, or name → list of logs that differ in the seed: then the line is the median over the seeds
        at the steps that all of them logged, and the shade reaches from the smallest to the largest.
    Raises ValueError for a run without `key`, and for seeds without a common step.
    """
    if not runs or not isinstance(runs, Mapping):
        raise ValueError(f"compare_runs expected at least one run as name → log, got {runs or 'none'!r:.80}")
    page, axes = style.figure(panel=(7.2, 3.8))
    top = axes[0, 0]
    for i, (name, run) in enumerate(runs.items()):
        seeds: list[Log] = list(run) if run and not isinstance(run[0], Mapping) else [run]
        steps, values = _seeds(name, seeds, key, smooth)
        colour, note = style.COLOURS[i % 8], f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
        if len(seeds) > 1:
            top.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
        top.plot(steps, np.median(values, axis=0), color=colour, label=name + note, **_cue(i, len(steps)))
    if reference is not None:
        _reference(top, *reference)
    if log_y:
        style.log_scale(top)
    style.label(top, title, "step", label or key.replace("_", " "))
    _format(top, key)
    style.legend(top)
    return page


def _pair(axes: Any, log: Log, train: str, validation: str, smooth: int | None) -> None:
    """A training curve with its smoothed form, and the validation curve over it."""
    steps, values = series(log, train)
    reach = len(steps) // 40 if smooth is None else smooth
    if len(steps) and reach:
        note = f"training, mean of {2 * reach + 1} logged steps"
        axes.plot(steps, values, color=style.SKY, alpha=0.6, linewidth=0.8, label="training, each logged step")
        axes.plot(steps, smoothed(values, reach), color=style.BLUE, linewidth=2, label=note)
    elif len(steps):
        axes.plot(steps, values, color=style.BLUE, linewidth=1.6, label="training")
    steps, values = series(log, validation)
    if len(steps):
        every = max(1, len(steps) // 25)
        axes.plot(
            steps, values, color=style.VERMILLION, linestyle=style.DASHES[1], linewidth=1.8,
            marker="o", markersize=4.5, markevery=every, label="validation",
        )  # fmt: skip


def _panel(axes: Any, log: Log, name: str, smooth: int | None) -> None:
    key = name.removeprefix("validation_")
    if not len(series(log, key)[0]) and not len(series(log, f"validation_{key}")[0]):
        raise ValueError(f"panel {name!r}: no line of the log holds it; its keys are {_keys(log)}")
    rate = key in ("learning_rate", "lr")
    _pair(axes, log, key, f"validation_{key}", 0 if rate else smooth)
    style.label(axes, y="learning rate" if rate else key.replace("_", " "))
    _format(axes, key)  # without a legend: the lines mean what they mean in the first panel


def _seeds(name: str, seeds: Sequence[Log], key: str, smooth: int) -> tuple[Array, Array]:
    """Steps (n,) that every seed logged, and the values (seeds, n) there."""
    curves: list[dict[float, float]] = []
    for log in seeds:
        steps, values = series(log, key)
        if not len(steps):
            raise ValueError(f"run {name!r} holds no {key!r}; its keys are {_keys(log)}")
        curves.append(dict(zip(steps, smoothed(values, smooth) if smooth else values, strict=True)))
    common = sorted(set(curves[0]).intersection(*curves[1:]))
    if not common:
        raise ValueError(f"the seeds of run {name!r} have no logged step in common")
    return np.array(common), np.array([[curve[step] for step in common] for curve in curves])


def _cue(i: int, count: int) -> dict[str, Any]:
    """Dash and marker of series i, markers on about twelve of its points, shifted so that series do not coincide."""
    every = max(1, count // 12)
    return {
        "linestyle": style.DASHES[i % len(style.DASHES)], "linewidth": 1.8, "marker": style.MARKERS[i % 9],
        "markersize": 5, "markevery": (i * every // 4 % every, every),
    }  # fmt: skip


def _reference(axes: Any, value: float, name: str) -> None:
    axes.axhline(value, color=style.GREY, linestyle=(0, (2, 2)), linewidth=1.4, label=f"{name} = {value:.4g}")


def _expected(axes: Any, bands: Sequence[tuple[float, float, float]]) -> None:
    steps, low, high = np.array(sorted(bands), dtype=np.float64).T
    if np.any(low > high):
        raise ValueError("expected bands are (step, low, high) with low <= high")
    if len(steps) >= 10:
        axes.fill_between(steps, low, high, color=style.GREEN, alpha=0.2, linewidth=0, label="expected band")
    else:  # between so few points nothing is known
        middle = (low + high) / 2
        axes.errorbar(
            steps, middle, yerr=(middle - low, high - middle), fmt="none", ecolor=style.GREEN, elinewidth=3,
            capsize=6, capthick=2, zorder=4, label="expected band",
        )  # fmt: skip


def _format(axes: Any, key: str) -> None:
    if key.endswith(("accuracy", "exact_match")):
        from matplotlib.ticker import PercentFormatter

        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))


def _keys(log: Log) -> list[str]:
    return sorted({key for line in log for key in line})
