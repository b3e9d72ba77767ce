"""Let a trained BERT fill the gaps of a text: scratch sample bert --text "my l_rd, the k_ng" """

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.models.bert.inside import fill
from scratch.models.bert.model import BertForMaskedLM
from scratch.models.bert.pictures import LINE, look_into
from scratch.models.bert.train import Settings, load_task
from scratch.models.bert.train import build as make
from scratch.models.gpt.tasks import Text
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped

GAP = "_"
TEXTS = ("my l_rd, the k_ng is d__d", "What is the m_tter, my lo_d?", "O Rom_o, wh_refore art tho_")


def load_run(folder: Path) -> tuple[BertForMaskedLM, Text]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "bert", Settings))


def load_weights(path: Path) -> tuple[BertForMaskedLM, Text]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    return build(*shipped(path, "bert", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[BertForMaskedLM, Text]:
    task = load_task(settings)
    model = make(settings, len(task.tokenizer))
    model.load_state_dict(weights)
    model.eval()
    return model, task


def main(arguments: Sequence[str]) -> None:
    """`scratch sample bert`"""
    a = parse(arguments)
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    here = Path(str(resources.files("scratch.models.bert") / "weights.safetensors"))
    model, task = load_run(a.run) if a.run else load_weights(a.weights or here)
    for text in a.text or TEXTS:
        filled(model, task, text, a.guesses)
    if a.pictures:
        line = a.text[0].replace(GAP, " ") if a.text else LINE
        for name, figure in look_into(model, task.tokenizer, line).items():
            say(f"picture  {viz.save(figure, a.pictures / f'{name}.png')}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="scratch sample bert", description=__doc__)
    p.add_argument("--text", nargs="+", help="texts with _ for every gap")
    p.add_argument("--guesses", type=int, default=3, help="how many characters to show for each gap (default: 3)")
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--pictures", type=Path, metavar="FOLDER", help="also draw what happens inside, for the first text")
    return p.parse_args(list(arguments))


def filled(model: BertForMaskedLM, task: Text, text: str, guesses: int) -> None:
    """Print the text with its likeliest characters, and for each gap the likeliest ones with their probabilities."""
    most = model.bert.max_position_embeddings
    if GAP not in text or len(text) > most:
        raise ValueError(f"a text has at least one gap, {GAP}, and at most {most} characters; got {text!r}")
    if not 1 <= guesses <= len(task.tokenizer):
        raise ValueError(f"--guesses expected 1 to {len(task.tokenizer)}, got {guesses}")
    places = np.array([[c == GAP for c in text]])
    tokens = np.where(places, len(task.tokenizer), task.tokenizer.encode(text.replace(GAP, " "))[None])
    p = fill(model, tokens, places)[:, : len(task.tokenizer)]  # [MASK] itself is no answer
    tokens[places] = p.argmax(axis=1)
    say(f"{text} → {task.tokenizer.decode(tokens[0])}")
    for place, row in zip(np.flatnonzero(places), p, strict=True):
        best = np.argsort(-row, kind="stable")[:guesses]
        shown = "   ".join(f"{task.tokenizer.decode([c])!r} {100 * row[c]:.0f} %" for c in best)
        say(f"  place {place + 1:<3} {shown}")
