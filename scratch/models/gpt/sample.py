"""Let a trained GPT go on with a text, character by character: scratch sample gpt --prompt "ROMEO:" """

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.console import say, write
from scratch.data import CharTokenizer
from scratch.models.gpt.generate import generate, stream
from scratch.models.gpt.model import GPT
from scratch.models.gpt.pictures import LINE, look_into
from scratch.models.gpt.tasks import Questions, Text
from scratch.models.gpt.train import Settings, load_task
from scratch.models.gpt.train import build as make
from scratch.training.ship import best_of, shipped

Task = Text | Questions


def load_run(folder: Path) -> tuple[GPT, Task]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "gpt", Settings))


def load_weights(path: Path) -> tuple[GPT, Task]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    return build(*shipped(path, "gpt", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[GPT, Task]:
    task = load_task(settings)
    model = make(settings, len(task.tokenizer))
    model.load_state_dict(weights)
    model.eval()
    return model, task


def main(arguments: Sequence[str]) -> None:
    """`scratch sample gpt`"""
    a = parse(arguments)
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    for name, low in (("tokens", 0), ("count", 1), ("seed", 0)):
        if getattr(a, name) is not None and getattr(a, name) < low:
            raise ValueError(f"--{name} expected a number of at least {low}, got {getattr(a, name)}")
    shipped_here = Path(str(resources.files("scratch.models.gpt") / "weights.safetensors"))
    model, task = load_run(a.run) if a.run else load_weights(a.weights or shipped_here)
    rng = np.random.default_rng(a.seed)
    if isinstance(task, Questions):
        answer(model, task, a.prompt or questions(task, a.count or 6, rng))
    else:
        options = {"temperature": a.temperature, "top_k": a.top_k, "top_p": a.top_p, "rng": rng}
        go_on(model, task.tokenizer, (a.prompt or ["ROMEO:\n"]) * (a.count or 1), a.tokens, options)
    if a.pictures:
        line = a.prompt[0] if a.prompt else None
        draw(model, task, line, a.pictures)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="scratch sample gpt", description=__doc__)
    p.add_argument("--prompt", nargs="+", help="the beginning of a text, or a question (several: all in one batch)")
    p.add_argument("--tokens", type=int, default=400, help="characters to write (default: 400)")
    p.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest, 1: as learned (default: 0.8)")
    p.add_argument("--top-k", type=int, help="draw from the K likeliest only")
    p.add_argument("--top-p", type=float, help="draw from the likeliest that reach this probability together")
    p.add_argument("--count", type=int, help="how many texts from the same prompt, or how many test questions")
    p.add_argument("--seed", type=int, default=0, help="which texts are drawn (default: 0)")
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--pictures", type=Path, metavar="FOLDER", help="also draw what happens inside, for the prompt")
    return p.parse_args(list(arguments))


def go_on(model: GPT, tokenizer: CharTokenizer, prompts: Sequence[str], count: int, options: dict) -> None:
    """Print a text as it is written, or several, which are written together, one after the other."""
    tokens = [tokenizer.encode(prompt) for prompt in prompts]
    if len(prompts) > 1:
        for i, row in enumerate(generate(model, tokens, count, **options)):
            say(("-" * 40 + "\n") * (i > 0) + tokenizer.decode(row))
        return
    flowing = stream(model, tokens, count, **options)
    write(prompts[0])
    for token in flowing:
        write(tokenizer.decode(token))
    say()


def questions(task: Questions, count: int, rng: np.random.Generator) -> list[str]:
    """Test questions without their answers."""
    if count > len(task.test):
        raise ValueError(f"--count expected 1 to {len(task.test)}, got {count}")
    return [task.tokenizer.decode(row[: task.given]) for row in rng.choice(task.test, count, replace=False)]


def answer(model: GPT, task: Questions, asked: Sequence[str]) -> None:
    """Print each question with the likeliest answer."""
    for question in asked:
        if len(question) != task.given:
            example = task.tokenizer.decode(task.test[0, : task.given])
            raise ValueError(f"a question has {task.given} characters, such as {example}; got {question!r}")
    rows = [task.tokenizer.encode(question) for question in asked]
    for question, row in zip(asked, generate(model, rows, task.test.shape[1] - task.given, temperature=0), strict=True):
        say(f"{question} → {task.tokenizer.decode(row[task.given :])}")


def draw(model: GPT, task: Task, line: str | None, folder: Path) -> None:
    """The pictures of the model's inside while it reads the line."""
    if line is None:
        line = LINE if isinstance(task, Text) else task.tokenizer.decode(task.test[0])
    for name, figure in look_into(model, task.tokenizer, line).items():
        say(f"picture  {viz.save(figure, folder / f'{name}.png')}")
