"""Make a preset's part of expected.json: train three seeds, each in its own process, and widen what they gave.

`python -m scratch.training.expected mlp --preset default`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from scratch.parallel import cores
from scratch.training.command import load_expected, model_part
from scratch.training.progress import say
from scratch.training.report import FREE, RESULTS, bands, is_share, number
from scratch.training.settings import to_json, with_preset
from scratch.weights import atomic_write


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("model")
    p.add_argument("--preset", default="default")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--headline", default="test accuracy", help="the figure that `scratch list` shows")
    p.add_argument("--folder", type=Path, help="keeps the runs in FOLDER/SEED; those finished there are not repeated")
    a = p.parse_args()

    train = model_part(a.model, "train")
    settings = to_json(with_preset(train.Settings, train.PRESETS, a.preset))
    with TemporaryDirectory() as temporary:
        runs = [measure(a.model, a.preset, seed, (a.folder or Path(temporary)) / str(seed)) for seed in a.seeds]
    for seed, run in zip(a.seeds, runs, strict=True):
        say(f"seed {seed}: " + ", ".join(f"{name} {number(name, value)}" for name, value in run["figures"].items()))
    figures = [run["figures"] for run in runs]
    headline = [each[a.headline] for each in figures]
    worst = min(headline) if is_share(a.headline) else max(headline)
    mean = sum(headline) / len(headline)
    part = {
        "settings": {name: value for name, value in settings.items() if name not in FREE},
        "seeds": a.seeds,
        "result": f"{a.headline} {number(a.headline, worst)} (worst of {len(runs)} seeds, "
        f"mean {number(a.headline, mean)})",
        "bands": {name: [float(f"{x:.4g}") for x in band] for name, band in bands(figures).items()},
        "runs": figures,
        "minutes": round(max(run["minutes"] for run in runs), 3),
        "memory_mb": round(max(run["memory_mb"] or 0 for run in runs)),
        "machine": f"{cores()} CPU cores",
    }
    path = Path(str(resources.files(f"scratch.models.{a.model}") / "expected.json"))
    text = json.dumps({**load_expected(a.model), a.preset: part}, indent=1)
    atomic_write(path, (text + "\n").encode())
    say(part["result"])


def measure(model: str, preset: str, seed: int, folder: Path) -> dict:
    command = [sys.executable, "-m", "scratch", "train", model, "--preset", preset, "--seed", str(seed)]
    if not (folder / RESULTS).exists():
        subprocess.run([*command, "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
