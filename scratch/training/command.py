"""From the words of a command line to a finished run, for `scratch train X` and `python -m scratch.models.X.train`.

A model's `train.py` offers `Settings` (a dataclass), `PRESETS` (name → values) and `train(settings, run)`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from scratch import interrupt
from scratch.console import complain, flush_or_silence, note, open_missing_streams, readable_width, silence
from scratch.training import expectations
from scratch.training.folder import SETTINGS, read_settings
from scratch.training.run import Run, RunStopped, resuming
from scratch.training.settings import from_json, nearest, with_preset

FAILED, MISUSED, STOPPED = 1, 2, 130


def models() -> list[str]:
    """The names of the architectures that can be trained."""
    folder = resources.files("scratch.models")
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and (each / "train.py").is_file())


def model_part(name: str, part: str) -> ModuleType:
    """The module scratch.models.NAME.PART. Raises ValueError for an unknown model."""
    if name not in models():
        raise ValueError(f"there is no model {name!r}.{nearest(name, models())}")
    return import_module(f"scratch.models.{name}.{part}")


def load_expected(name: str) -> dict[str, Any]:
    """The content of the model's expected.json; empty where there is none yet. Raises ValueError for a damaged one."""
    file = resources.files(f"scratch.models.{name}") / "expected.json"
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected text in UTF-8, found other bytes ({error})") from error
    return expectations.parse(text, str(file))


def train(name: str, arguments: Sequence[str]) -> int:
    """`scratch train NAME [--preset P] [--folder F] [--field value ...]`; returns the exit code."""
    import tyro

    module = model_part(name, "train")
    preset, rest = _take_preset(list(arguments))
    defaults = with_preset(module.Settings, module.PRESETS, preset)

    def start(settings: Any, folder: Path | None = None) -> int:
        run = Run.create(name, settings, preset, folder, expected=load_expected(name))
        return execute(module, settings, run)

    start.__annotations__["settings"] = Annotated[module.Settings, tyro.conf.arg(name="")]
    place = tyro.conf.arg(metavar="FOLDER", help="Where the run is kept.",
                          help_behavior_hint=f"(default: runs/{name}-1, then -2 ...)")  # fmt: skip
    start.__annotations__["folder"] = Annotated[Path | None, place]
    start.__defaults__ = (defaults, None)
    presets = ", ".join(f"{key} (the defaults shown below)" if key == preset else key for key in module.PRESETS)
    description = f"{(module.__doc__ or '').strip()}\n\n--preset NAME chooses other defaults: {presets}."
    return tyro.cli(start, args=rest, prog=f"scratch train {name}", description=description)


def resume(folder: Path) -> int:
    """`scratch resume RUN`; returns the exit code."""
    document = read_settings(folder)
    name = document["model"]
    try:
        module = model_part(name, "train")
        settings = from_json(module.Settings, document["settings"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / SETTINGS} does not hold settings of the model {name}: {error}") from error
    return execute(module, settings, Run.resume(folder, expected=load_expected(name)))


def execute(module: ModuleType, settings: Any, run: Run) -> int:
    """Train to the end, or say how to go on; returns the exit code."""
    try:
        try:
            with run.threads():  # for data and pictures too
                module.train(settings, run)
        except (ValueError, OverflowError, MemoryError):
            run.discard()
            raise
        finally:
            run.close()
    except RunStopped as stop:
        note(str(stop))
        return stop.code
    except KeyboardInterrupt:
        complain(f"interrupted; go on with: {resuming(run.folder)}")
        return STOPPED
    except BrokenPipeError:
        raise
    except OSError as error:
        told = f"the run failed after {run.done:,} steps: {error}; go on with: {resuming(run.folder)}"
        complain(f"error: {told}")
        return FAILED
    return 0


def guarded(command: Callable[[], int]) -> int:
    """Turn a user's mistake into one line on standard error and an exit code, never a traceback."""
    open_missing_streams()
    try:
        try:
            interrupt.raise_again()  # from the command's first line on, Ctrl-C is handled below
            with readable_width():
                return command()
        finally:
            sys.stdout.flush()  # here, where a closed pipe is noticed, and not when Python ends
    except KeyboardInterrupt:
        complain("interrupted")
        return STOPPED
    except BrokenPipeError:  # `| head`: nobody reads on, so what is left goes nowhere
        silence("stdout")
        return FAILED
    except MemoryError as error:
        complain(f"error: not enough memory: {error}")
        return FAILED
    except (ValueError, OverflowError, OSError) as error:
        complain(f"error: {error}")
        return MISUSED
    finally:
        flush_or_silence()


def main(name: str) -> None:
    """For `python -m scratch.models.NAME.train`."""
    sys.exit(guarded(lambda: train(name, sys.argv[1:])))


def _take_preset(arguments: list[str]) -> tuple[str, list[str]]:
    """Cut `--preset P` or `--preset=P` out of the arguments, for it decides what the other defaults are."""
    preset, rest = "default", []
    while arguments:
        word = arguments.pop(0)
        if word == "--preset":
            if not arguments:
                raise ValueError("--preset needs a name, such as --preset quick")
            preset = arguments.pop(0)
        elif word.startswith("--preset="):
            preset = word.removeprefix("--preset=")
        else:
            rest.append(word)
    return preset, rest
