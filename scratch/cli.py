"""The command `scratch`: list, train, sample, chat, search, resume, report, data, bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import scratch
from scratch.messages import shown
from scratch.parallel import available_blas_threads, own_threads
from scratch.training import command
from scratch.training.folder import LOG, REPORT, read_log, read_settings
from scratch.training.progress import duration, say
from scratch.training.run import resuming
from scratch.training.settings import nearest

CLONE = Path(__file__).resolve().parent.parent  # where benchmarks/ lies, if this is a clone


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 128 + its number by another signal: 143 by SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return command.guarded(lambda: run(words))


def run(words: list[str]) -> int:
    """The command in `words`, with what its errors mean left to `main`."""
    if not words or words[0] in ("-h", "--help", "help"):
        say(overview())
        return 0
    if words[0] == "--version":
        say(f"scratch {scratch.__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise ValueError(f"there is no command {words[0]!r}.{nearest(words[0], COMMANDS)}")
    return COMMANDS[words[0]](words[1:])


def overview() -> str:
    lines = ["scratch: deep-learning architectures rebuilt on NumPy", "", "usage: scratch COMMAND [...]", ""]
    lines += [f"  {name:8} {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    lines += ["", "scratch COMMAND --help tells more; scratch --version tells the version.",
              "First steps:  scratch train mlp   then   scratch sample mlp"]  # fmt: skip
    return "\n".join(lines)


def list_models(words: list[str]) -> int:
    """Show the architectures that can be trained, and their presets."""
    parser("list", list_models).parse_args(words)
    for name in command.models():
        train = command.model_part(name, "train")
        expected = command.load_expected(name)
        say(f"{name:14} {(train.__doc__ or '').strip().splitlines()[0]}")
        for preset in train.PRESETS:
            facts = expected.get(preset, {})
            about = f"about {duration(max(60 * facts['minutes'], 1))}: {facts['result']}" if facts else ""
            say(f"{'':14}   --preset {preset:8} {about}".rstrip())
    return 0


def train(words: list[str]) -> int:
    """Train an architecture: scratch train NAME [--preset PRESET] [--FIELD VALUE ...]"""
    if not words or words[0].startswith("-"):
        if words and words[0] not in ("-h", "--help"):
            raise ValueError(f"scratch train needs a model first: {', '.join(command.models())}")
        say("usage: scratch train NAME [--preset PRESET] [--FIELD VALUE ...]\n")
        say(f"NAME is one of: {', '.join(command.models())}\nscratch train NAME --help lists the fields.")
        return 0 if words else command.MISUSED
    return command.train(words[0], words[1:])


def sample(words: list[str]) -> int:
    """Use a trained model (for a classifier: show predictions): scratch sample NAME [--run RUN]"""
    if not words or words[0].startswith("-"):
        say(f"usage: scratch sample NAME [...]\n\nNAME is one of: {', '.join(command.models())}")
        say("scratch sample NAME --help lists the options.")
        return 0 if words and words[0] in ("-h", "--help") else command.MISUSED
    with own_threads(available_blas_threads()):
        command.model_part(words[0], "sample").main(words[1:])
    return 0


def chat(words: list[str]) -> int:
    """Talk with a published language model: scratch chat [QUESTION] [--weights FOLDER_OR_GGUF]"""
    import_module("scratch.models.llama.chat").main(words)
    return 0


def search(words: list[str]) -> int:
    """Find passages by their meaning: scratch search QUESTION [--folder TEXTS] [--weights FOLDER]"""
    import_module("scratch.models.bert.search").main(words)
    return 0


def resume(words: list[str]) -> int:
    """Go on with a run that was stopped: scratch resume RUN"""
    p = parser("resume", resume)
    p.add_argument("run", type=Path, help="run folder, such as runs/mlp-1")
    return command.resume(p.parse_args(words).run)


def report(words: list[str]) -> int:
    """Show what came out of a run, next to what is expected: scratch report RUN"""
    p = parser("report", report)
    p.add_argument("run", type=Path, help="run folder, such as runs/mlp-1")
    folder = p.parse_args(words).run
    document = read_settings(folder)
    if (folder / REPORT).is_file():
        say((folder / REPORT).read_text(encoding="utf-8", errors="replace").rstrip())
        return 0
    losses = [row for row in read_log(folder) if "loss" in row] if (folder / LOG).is_file() else []
    last = losses[-1] if losses else {}
    reached = f"reached step {last['step'] + 1:,} with loss {last['loss']:.4f}" if last else "logged nothing"
    model, preset, started = (shown(document[part]) for part in ("model", "preset", "started"))
    say(f"{shown(folder)}: {model}, preset {preset}, started {started}, is not finished; it {reached}.\n"
        f"go on with: {resuming(folder)}")  # fmt: skip
    return 0


def data(words: list[str]) -> int:
    """Show the data sets: what is here, how large, under which licence; or download one: scratch data [fetch NAME]"""
    from scratch.data import CATALOG, SOURCES, fetch

    p = parser("data", data)
    p.add_argument("action", nargs="?", choices=["fetch"], help="download what is missing or damaged")
    p.add_argument("name", nargs="?", choices=sorted(SOURCES), help="the data set to fetch")
    chosen = p.parse_args(words)
    if chosen.action:
        if chosen.name is None:
            p.error(f"fetch what? {', '.join(sorted(SOURCES))}")
        fetch(SOURCES[chosen.name], renew=True)
    for entry in CATALOG:
        if chosen.name in (None, entry.name):
            say(f"{entry.name:16} {entry.what}")
            say(f"{'':16} {entry.size}; {entry.shape}")
            say(f"{'':16} {entry.licence}; {entry.source}")
            say(f"{'':16} {entry.state}\n")
    return 0


def bench(words: list[str]) -> int:
    """Time a training step here and in PyTorch, side by side (needs a clone): scratch bench [NAME]"""
    if not (CLONE / "benchmarks" / "__main__.py").is_file():
        raise ValueError("scratch bench needs a clone of the repository: benchmarks/ is not part of the package")
    sys.path.insert(0, str(CLONE))
    return import_module("benchmarks.__main__").main(words)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": list_models,
    "train": train,
    "sample": sample,
    "chat": chat,
    "search": search,
    "resume": resume,
    "report": report,
    "data": data,
    "bench": bench,
}


def parser(name: str, function: Callable) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"scratch {name}", description=(function.__doc__ or "").splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
