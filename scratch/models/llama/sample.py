"""Generate text with a trained Llama, character by character: scratch sample llama --prompt "ROMEO:" """

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.console import say, write
from scratch.models.gpt.tasks import Text
from scratch.models.llama import chat
from scratch.models.llama.generate import generate, stream
from scratch.models.llama.model import Llama
from scratch.models.llama.pictures import PHRASE, look_into
from scratch.models.llama.train import Settings, load_task
from scratch.models.llama.train import build as make
from scratch.training.ship import best_of, shipped


def load_run(folder: Path) -> tuple[Llama, Text]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "llama", Settings))


def load_weights(path: Path) -> tuple[Llama, Text]:
    """A model from a weight file whose metadata contain its settings, such as those that ship with the package."""
    return build(*shipped(path, "llama", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[Llama, Text]:
    task = load_task(settings)
    model = make(settings, len(task.tokenizer))
    model.load_state_dict(weights)
    model.eval()
    return model, task


def main(arguments: Sequence[str]) -> None:
    """`scratch sample llama`"""
    a = parse(arguments)
    if (a.run is not None) + (a.weights is not None) + a.experts > 1:
        raise ValueError("give one of --run, --weights and --experts")
    for name, low in (("tokens", 0), ("count", 1), ("seed", 0)):
        if getattr(a, name) < low:
            raise ValueError(f"--{name} expected a number of at least {low}, got {getattr(a, name)}")
    options = {"temperature": a.temperature, "top_k": a.top_k, "top_p": a.top_p, "rng": np.random.default_rng(a.seed)}
    if a.weights and chat.is_published(a.weights):
        if a.pictures:
            raise ValueError("--pictures needs a model with one character per token, which these weights are not")
        chat.continue_texts(a.weights, (a.prompt or ["Once upon a time"]) * a.count, a.tokens, options)
        return
    file = "weights_experts.safetensors" if a.experts else "weights.safetensors"
    here = Path(str(resources.files("scratch.models.llama") / file))
    model, task = load_run(a.run) if a.run else load_weights(a.weights or here)
    continue_texts(model, task, (a.prompt or ["ROMEO:\n"]) * a.count, a.tokens, options)
    if a.pictures:
        for name, figure in look_into(model, task, a.prompt[0] if a.prompt else PHRASE).items():
            say(f"picture  {viz.save(figure, a.pictures / f'{name}.png')}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="scratch sample llama", description=__doc__)
    p.add_argument("--prompt", nargs="+", help="beginning of a text (several: all in one batch)")
    p.add_argument("--tokens", type=int, default=400, help="characters to generate (default: 400)")
    p.add_argument("--temperature", type=float, default=0.8, help="0: greedy decoding, 1: softmax as it is (0.8)")
    p.add_argument("--top-k", type=int, help="sample from the K most probable characters only")
    p.add_argument("--top-p", type=float, help="sample from the top characters with this total probability")
    p.add_argument("--count", type=int, default=1, help="how many texts from the same prompt")
    p.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the shipped weights)")
    p.add_argument("--weights", type=Path, help="weight file to use instead, or a folder or GGUF of published weights")
    p.add_argument("--experts", action="store_true", help="the shipped mixture of experts instead")
    p.add_argument("--pictures", type=Path, metavar="FOLDER", help="also plot attention weights, for the prompt")
    return p.parse_args(list(arguments))


def continue_texts(model: Llama, task: Text, prompts: Sequence[str], count: int, options: dict) -> None:
    """Print one text while it is generated, or several, generated as one batch, one after the other."""
    tokens = [task.tokenizer.encode(prompt) for prompt in prompts]
    if len(prompts) > 1:
        for i, row in enumerate(generate(model, tokens, count, **options)):
            say(("-" * 40 + "\n") * (i > 0) + task.tokenizer.decode(row))
        return
    new = stream(model, tokens, count, **options)
    write(prompts[0])
    for token in new:
        write(task.tokenizer.decode(token))
    say()
