"""A training run: its folder, its progress, and how it goes on after it was stopped.

    run.track(model=model, optimizer=optimizer, batches=batches)
    for step in run.steps(settings.steps):
        ...                                # forward, loss, backward, update: in plain view in train.py
        run.log(step, loss=loss.item())

The checkpoint written after k steps holds all that the later steps depend on; a run killed at any moment and resumed
ends with the same bits as one that was left alone.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from scratch import memory
from scratch.messages import shown
from scratch.module import Module, observe
from scratch.parallel import own_threads
from scratch.tensor import Tensor, no_grad
from scratch.training import checkpoint, report
from scratch.training.folder import (
    CHECKPOINT,
    LOG,
    Lock,
    Log,
    missing,
    new_folder,
    read_log,
    read_settings,
    refuse_used,
    remove_unused,
    tidy,
    write_settings,
)
from scratch.training.pace import Pace, expected_rate
from scratch.training.progress import Progress, duration, note, typed
from scratch.training.settings import require_possible, to_json
from scratch.training.signals import stop_signals


class RunStopped(Exception):
    """The run ended early, by a signal such as Ctrl-C's or because the loss is not finite; the message says more.

    `code` is the exit code of the process: 1, or for a signal 128 + its number, as shells tell it.
    """

    def __init__(self, message: str, interrupted: bool = False, number: int = signal.SIGINT):
        super().__init__(message)
        self.interrupted = interrupted
        self.code = 128 + number if interrupted else 1


class Run:
    """One run folder. `Run.create` starts it, `Run.resume` takes it up again.

    Args: expected: the content of the model's expected.json.
    """

    def __init__(self, folder: Path, document: dict[str, Any], expected: dict[str, Any] | None, lock: Lock):
        self.folder, self.document = folder, document
        self.name, self.preset = document["model"], document["preset"]
        self.expected = (expected or {}).get(self.preset, {})
        self.done = 0
        self.seconds = 0.0  # in the loop, in this session and in those before it
        self._began, self._earlier = time.monotonic(), 0.0
        self.best: dict[str, np.ndarray] = {}
        self.best_value = math.inf
        self._lock = lock
        self._made: list[Path] | None = None  # the folders that a new run made
        self._tracked: dict[str, Any] = {}
        self._saved: tuple[dict[str, Any], dict[str, np.ndarray]] | None = None
        self._progress: Progress | None = None
        self._pace = Pace(None)
        self._log: Log | None = None
        self._evaluated = False
        self._first_loss: tuple[str, float] | None = None

    @classmethod
    def create(
        cls,
        name: str,
        settings: Any,
        preset: str = "default",
        folder: Path | None = None,
        parent: Path = Path("runs"),
        expected: dict[str, Any] | None = None,
    ) -> Run:
        """A new run in `folder`, or in the next free parent/NAME-n.

        Raises ValueError if the folder is in use, and for settings that no run can have.
        """
        require_possible(settings)
        made = missing(parent if folder is None else folder)
        if folder is None:
            folder = new_folder(name, parent)
            made.insert(0, folder)
        else:
            refuse_used(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
        try:
            refuse_used(folder)  # now for certain: another process may have been faster
            run = cls(folder, write_settings(folder, name, preset, to_json(settings)), expected, lock)
            run._made = made
            return run
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(cls, folder: Path, expected: dict[str, Any] | None = None) -> Run:
        """The run in `folder`, at its last checkpoint (at its beginning, if it was stopped before the first)."""
        document = read_settings(folder)
        lock = Lock(folder)
        try:
            tidy(folder)
            run = cls(folder, document, expected, lock)
            if (folder / CHECKPOINT).exists():
                run._saved = checkpoint.load(folder / CHECKPOINT)
            return run
        except BaseException:
            lock.release()
            raise

    def threads(self) -> AbstractContextManager[None]:
        """The threads that the run began with, on whatever machine it goes on: the order of sums depends on them."""
        return own_threads(self.document["threads"], self.document["blas_threads"])

    # -- before the loop ----------------------------------------------------------------------------------------

    def track(self, **parts: Any) -> None:
        """What the checkpoint holds: modules, optimisers, batches; a resumed run gets its state back here."""
        self._tracked = parts
        for model in (part for part in parts.values() if isinstance(part, Module)):
            size = sum(parameter.data.nbytes for parameter in model.parameters())
            # Weights, gradients and the copy of the best weights; the optimiser and the layers need more.
            memory.require(3 * size, f"{model.count_parameters():,} parameters, their gradients and their best values")
        if self._saved is None:
            self._log = Log(self.folder / LOG)
            return
        facts, arrays = self._saved
        try:
            checkpoint.restore(parts, facts, arrays)
            self.done, self.seconds = facts["step"], facts["seconds"]
            self._earlier = self.seconds
            self.best_value = math.inf if facts["best"] is None else facts["best"]
            self.best = {key.removeprefix("best."): a for key, a in arrays.items() if key.startswith("best.")}
            self._log = Log(self.folder / LOG, facts["log_bytes"], facts["log_crc32"])
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"{self.folder / CHECKPOINT} does not fit this model: {error!r}") from error
        except ValueError as error:
            raise ValueError(f"{self.folder / CHECKPOINT} does not fit: {error}") from error

    def introduce(self, data: str, model: Module, first_loss: tuple[str, float] | None = None) -> None:
        """The first lines: data, model, folder, the expected time; `first_loss` = ("ln 10", 2.303) at step 0."""
        note(f"data     {data}")
        note(f"model    {type(model).__name__}, {model.count_parameters():,} parameters")
        minutes = self.expected.get("minutes")
        about = f", about {duration(60 * minutes)} on {self.expected['machine']}" if minutes else ""
        note(f"run      {self.folder}{about}")
        if self.done:
            note(f"resumed  after {self.done:,} steps")
            before = self._saved[0]["settings"] if self._saved else {}
            for field, value in self.document["settings"].items():
                if before.get(field) != value:
                    was = shown(before.get(field))
                    note(f"changed  {field} is {value}; it was {was} when the checkpoint was written")
        self._first_loss = first_loss

    # -- the loop -----------------------------------------------------------------------------------------------

    def steps(self, total: int, save_every: int = 200) -> Iterator[int]:
        """The numbers of the steps still to do. Saves every so many, and after Ctrl-C or another signal that ends
        the run (`signals`), which raises RunStopped."""
        self._progress = Progress(total, self.done)
        pace = self._pace = Pace(*expected_rate(self.document["settings"], self.expected, total))
        began = time.monotonic() - self.seconds
        # No warnings of NumPy about numbers out of range: require_finite tells more, once, when it matters.
        quiet = np.errstate(over="ignore", divide="ignore", invalid="ignore")
        with self.threads(), quiet, stop_signals() as stop:
            try:
                for step in range(self.done, total):
                    self._evaluated = False
                    pace.begin()
                    yield step
                    pace.end(counts=not self._evaluated)
                    if pace.slow():
                        self._running().line(pace.why(self.document["threads"], resuming(self.folder)))
                    self.done, self.seconds = step + 1, time.monotonic() - began
                    if stop.number or self.done % save_every == 0 or self.done == total:
                        self.save()
                    if stop.number and self.done < total:
                        message = f"stopped after {self.done:,} steps; go on with: {resuming(self.folder)}"
                        raise RunStopped(message, True, stop.number)
            finally:
                self._progress.close()

    def log(self, step: int, loss: float, **more: float) -> None:
        """One line of the log, and the progress bar."""
        progress = self._running()
        self._opened().write({"step": step, "loss": loss, **more})
        if step == 0 and self._first_loss is not None:
            name, value = self._first_loss
            progress.line(f"step 0   loss {loss:.3f}; knowing nothing costs {name} = {value:.3f}")
        progress.update(step + 1, loss)

    def evaluated(self, step: int, model: Module, loss: float, **more: float) -> None:
        """Log a validation result after `step`, and keep the weights with the lowest validation loss."""
        self._evaluated = True
        progress, figures = self._running(), {f"validation_{name}": value for name, value in more.items()}
        self._opened().write({"step": step + 1, "validation_loss": loss, **figures})
        shown = "".join(f"  {name} {100 * value:.1f} %" for name, value in more.items())
        progress.line(f"step {step + 1:<6,} validation loss {loss:.4f}{shown}")
        if loss < self.best_value:
            self.best_value = loss
            self.best = {name: array.copy() for name, array in model.state_dict().items()}

    def require_finite(self, loss: Tensor, model: Module, *inputs: np.ndarray) -> None:
        """Stop before a loss that is NaN or infinite reaches the weights; model(*inputs) shows where it began."""
        if math.isfinite(loss.item()):
            return
        where = first_not_finite(model, lambda: model(*(Tensor(x) for x in inputs)))
        raise RunStopped(f"the loss is {loss.item()} at step {self.done:,}; {where}; {self._last_good()}")

    def _last_good(self) -> str:
        kept = self.folder / CHECKPOINT
        return f"the last good checkpoint is {kept}" if kept.exists() else "there is no checkpoint yet"

    def save(self) -> None:
        """Write the checkpoint of this moment. Raises RunStopped rather than replace good weights by spoiled ones."""
        modules = [(key, part) for key, part in self._tracked.items() if isinstance(part, Module)]
        for name, weight in ((f"{key}.{n}", p.data) for key, part in modules for n, p in part.named_parameters()):
            if weight.dtype.kind == "f" and not np.isfinite(weight).all():
                what = f"{name} is not finite after {self.done:,} steps, though every loss was: a gradient overflowed"
                raise RunStopped(f"{what}; {self._last_good()}")
        facts = {
            "step": self.done,
            "seconds": self.seconds,
            "best": self.best_value if math.isfinite(self.best_value) else None,
            "log_bytes": self._opened().flush(),
            "log_crc32": self._opened().crc32,
            "settings": self.document["settings"],
            "model": self.name,
        }
        checkpoint.save(self.folder / CHECKPOINT, self._tracked, facts, self.best)

    def _opened(self) -> Log:
        if self._log is None:
            raise ValueError("a run must know what it trains: call track() before steps(), log() and save()")
        return self._log

    def _running(self) -> Progress:
        if self._progress is None:
            raise ValueError("log() and evaluated() belong into `for step in run.steps(...)`")
        return self._progress

    # -- after the loop -----------------------------------------------------------------------------------------

    def history(self) -> list[dict[str, Any]]:
        """The log so far, as dicts: {'step', 'loss', …} and {'step', 'validation_loss', …}."""
        self._opened().flush()
        return read_log(self.folder)

    def finish(self, results: dict[str, float], pictures: list[Path], notes: str = "", then: str = "") -> None:
        """Write report.md and print the last lines: results, verdict, pictures, the next command."""
        whole = self._earlier + time.monotonic() - self._began
        finished = report.Finished(
            self.folder, self.document, self.history(), self.expected, self.done, self.seconds, whole, self._pace.rate
        )
        verdict = report.write(finished, results, pictures, notes)
        note(f"result   {report.in_words(results)}")
        note(f"verdict  {verdict}")
        note(f"report   {self.folder / report.REPORT}")
        for picture in pictures:
            note(f"picture  {picture}")
        if then:
            note(f"next     {then}")
        self.close()

    def discard(self) -> None:
        """Remove a new run that a mistake in its settings ended before its first step, with the folders made for it."""
        if self._made is None or self.done or (self.folder / CHECKPOINT).exists():
            return self.close()
        if sys.platform == "win32":
            self.close()  # open files can't be removed there; elsewhere the lock is held until all is gone
        remove_unused(self.folder, self._made)
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        try:
            if self._log is not None:
                self._log.close()
        finally:
            self._lock.release()


def resuming(folder: Path) -> str:
    """The command that goes on with the run in `folder`."""
    return f"scratch resume {typed(folder)}"


def first_not_finite(model: Module, again: Callable[[], Any]) -> str:
    """Run the forward pass once more and name the first module whose output has a NaN or an infinity."""
    names = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
    found: list[str] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        data = output.data if isinstance(output, Tensor) else None
        if not found and data is not None and data.dtype.kind == "f" and not np.isfinite(data).all():
            name = names.get(id(module), type(module).__name__)
            found.append(f"the first output that is not finite is that of {name}")

    with no_grad(), observe(look), np.errstate(all="ignore"):
        again()
    return found[0] if found else "every layer's output is finite, so the loss itself overflows"
