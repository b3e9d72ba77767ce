"""What came out of a run, next to what three seeds gave when `expected.json` was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scratch.training import expectations
from scratch.training.folder import REPORT, RESULTS, peak_memory
from scratch.training.progress import duration
from scratch.weights import atomic_write

SMOOTH = 20  # a loss "at step 100" is the mean of the 20 steps up to it, for one batch says little; step 0 is itself

# Settings that do not change what a run computes beyond rounding, or that the three seeds vary themselves.
FREE = {"seed", "workers", "save_every"}

CAUSES = {
    "loss at step 0": "the initial weights, the scale of the data, or the loss function changed",
    "loss at step 100": "the gradients, the optimiser, or the learning rate changed",
    "loss at step 1,000": "the schedule, the order of the data, or the regularisation changed",
    "final loss": "the schedule, the order of the data, or the regularisation changed",
}


@dataclass(frozen=True)
class Finished:
    """What a report needs to know of a run that reached its end."""

    folder: Path
    document: Mapping[str, Any]  # settings.json
    log: Sequence[Mapping[str, Any]]
    expected: Mapping[str, Any]  # the preset's part of expected.json
    steps: int
    seconds: float  # in the training loop
    whole: float  # from the first line to the last picture
    rate: float = 0.0  # steps per second, in steps alone; 0 if not measured


def write(run: Finished, results: Mapping[str, float], pictures: Sequence[Path], notes: str = "") -> str:
    """Write report.md and results.json into the run folder, and return the verdict."""
    figures = losses(run.log) | dict(results)
    memory = peak_memory()
    measured = {"figures": figures, "minutes": run.whole / 60, "memory_mb": memory, "steps_per_second": run.rate}
    verdict = compare(figures, run.document["settings"], run.expected)
    text = _markdown(run, measured, verdict, pictures, notes)
    atomic_write(run.folder / RESULTS, (json.dumps(measured, indent=1) + "\n").encode())
    atomic_write(run.folder / REPORT, text.encode())
    return verdict


def losses(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The training loss at steps 0, 100, 1,000 and at the end."""
    values = np.array([row["loss"] for row in log if "loss" in row])
    if not len(values):
        return {}
    figures = {"loss at step 0": float(values[0])}
    for step in (100, 1000):
        if step < len(values):
            figures[f"loss at step {step:,}"] = float(values[step + 1 - SMOOTH : step + 1].mean())
    return figures | {"final loss": float(values[-SMOOTH:].mean())}


def compare(figures: Mapping[str, float], settings: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """'inside …', 'outside …' with the likely causes, or 'not comparable …' with the settings that differ."""
    if not expected:
        return "not comparable: no expected values for this preset"
    expectations.check_part(expected, "expected values", ("settings", "bands", "seeds"))
    other = differing(settings, expected)
    if other:
        told = ", ".join(f"{k} is {v} (expected values: {expected['settings'].get(k)})" for k, v in other.items())
        return f"not comparable: {told}"
    outside = []
    for name, (low, high) in expected["bands"].items():
        value = figures.get(name)
        if value is None or not low <= value <= high:
            came = "missing" if value is None else number(name, value)
            cause = CAUSES.get(name, "see which of the losses left its band first")
            outside.append(f"{name} is {came}, expected {number(name, low)} to {number(name, high)} ({cause})")
    if outside:
        return "outside the expected range: " + "; ".join(outside)
    return f"inside the expected range (all {len(expected['bands'])} figures, bands from seeds {expected['seeds']})"


def differing(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not those of the expected values, and that change what a run computes."""
    return {k: v for k, v in settings.items() if k not in FREE and expected["settings"].get(k) != v}


def bands(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """For each figure, the range over the runs widened on both sides by that range, at least 2 % of the mean."""
    result = {}
    for name in runs[0]:
        if "standard error" in name:
            continue
        values = [run[name] for run in runs]
        margin = max(max(values) - min(values), 0.02 * abs(float(np.mean(values))))
        high = max(values) + margin
        result[name] = (min(values) - margin, min(high, 1.0) if is_share(name) else high)
    return result


def number(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if is_share(name) else f"{value:.4g}"


def is_share(name: str) -> bool:
    return any(word in name for word in ("accuracy", "exact match", "as asked", "inside", "standard error", "IoU"))


def in_words(results: Mapping[str, float]) -> str:
    return " · ".join(f"{name} {number(name, value)}" for name, value in results.items())


def _markdown(run: Finished, measured: Mapping[str, Any], verdict: str, pictures: Sequence[Path], notes: str) -> str:
    expected, document = run.expected, run.document
    memory = "not measured" if measured["memory_mb"] is None else f"{measured['memory_mb']:.0f} MB"
    time_line = f"{run.steps:,} steps in {duration(run.seconds)}, {duration(run.whole)} with pictures, "
    time_line += f"peak memory {memory}, on {document['machine']}"
    if expected:
        time_line += f" (expected: about {duration(60 * expected['minutes'])}, {expected['memory_mb']:.0f} MB"
        time_line += f" on {expected['machine']})"
    lines = [
        f"# {document['model']}, preset {document['preset']}",
        "",
        f"{verdict[0].upper()}{verdict[1:]}.",
        "",
        time_line + ".",
        "",
        "| figure | this run | expected |",
        "|---|---|---|",
    ]
    for name, value in measured["figures"].items():
        band = expected.get("bands", {}).get(name)
        told = f"{number(name, band[0])} to {number(name, band[1])}" if band else ""
        lines.append(f"| {name} | {number(name, value)} | {told} |")
    lines += ["", notes] if notes else []
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in document["settings"].items()]
    threads = f"threads: {document['threads']} for a large operation, {document['blas_threads']} for a matrix product"
    lines += ["", f"Started {document['started']}, {versions}; {threads}."]
    if pictures:
        lines += ["", "## Pictures", ""]
        lines += [f"![{picture.stem.replace('_', ' ')}]({picture.name})\n" for picture in pictures]
    return "\n".join(lines).rstrip() + "\n"
