"""The suite where it is least at home: other Pythons, NumPys, processors, numbers of processes and of BLAS threads.

    python tests/everywhere.py [python3.10 python3.13 ...] [-- -k gradcheck]    or make everywhere PYTHONS=... ARGS=...

Without names, on every Python from 3.10 to 3.14 that is found on the path or among pyenv's. Needs a registry of
packages and some ten minutes for each line of the table that it ends with. Every line is a run of the suite in another
random order, with LC_ALL=C, below a folder with spaces and letters beyond ASCII (removed at the end; KEEP=1 keeps it):

    clone   git clone of the last commit, `pip install -e .[dev]`
    wheel   the clone's wheel in an environment of its own; tests/, notebooks/, benchmarks/ and docs/ beside it,
            scratch/ not: what needs the files of a clone is skipped, and says so

`RUNS` is no full product: each value of each column occurs, each Python with its oldest and its newest NumPy.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# The first NumPy from 2.0 on that has wheels for a Python.
OLDEST = {"3.10": "2.0.0", "3.11": "2.0.0", "3.12": "2.0.0", "3.13": "2.1.0", "3.14": "2.3.2"}
BIN = "Scripts" if os.name == "nt" else "bin"
SKIPPED = 77  # as tests/kernels.py says it


@dataclass(frozen=True)
class Run:
    place: str
    newest: bool  # NumPy
    blas: str = "default"  # OpenBLAS's kernel, as in tests/kernels.py
    numpy: str = "all"  # NumPy's loops, likewise
    processes: int = 2
    threads: int = 1  # of BLAS, in each process


RUNS = [
    Run("clone", newest=True),
    Run("clone", newest=False, processes=1, threads=2),
    Run("wheel", newest=True, processes=4),
    Run("clone", newest=False, blas="Nehalem", numpy="baseline"),
    Run("clone", newest=True, blas="Nehalem", numpy="baseline", threads=2),
    Run("clone", newest=False, blas="Haswell", numpy="no AVX-512", processes=4),
    Run("clone", newest=True, blas="Sandybridge", numpy="baseline", processes=1),
    Run("wheel", newest=False, blas="Sandybridge", threads=2),
    Run("clone", newest=True, blas="SkylakeX"),
    Run("clone", newest=True, blas="Haswell", numpy="no AVX-512", processes=1),
]


def plan(pythons: list[str]) -> Iterator[tuple[int, str, Run]]:
    """(seed, Python, run): the runs in turn on the Pythons, more of them where a Python would lack a NumPy."""
    seed = 0
    for newest in (True, False):
        runs = [run for run in RUNS if run.newest == newest]
        for i in range(max(len(runs), len(pythons))):
            seed += 1
            yield seed, pythons[i % len(pythons)], runs[i % len(runs)]


def version_of(python: str) -> str:
    """"3.12" of an executable that runs, otherwise ""."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run([python, "-c", script], capture_output=True, text=True)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def found_pythons() -> list[str]:
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = []
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}"), *sorted(glob.glob(f"{pyenv}/versions/*/bin/python{version}"))]
        found += [path for path in candidates if path and version_of(path) == version][:1]
    return found


class Places:
    """The folder with the clone, and environments that are made where a run first asks for them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.clone, self.beside = folder / "clone", folder / "beside a wheel ü"
        self.made: dict[tuple[str, str, bool], str] = {}
        check(["git", "clone", "--quiet", str(ROOT), str(self.clone)])
        self.beside.mkdir()
        for name in ("tests", "notebooks", "benchmarks", "docs"):
            shutil.copytree(self.clone / name, self.beside / name)
        shutil.copy(self.clone / "pyproject.toml", self.beside)

    def python(self, base: str, run: Run) -> str:
        """The Python of an environment with the library as the run wants it."""
        key = (base, run.place, run.newest)
        if key not in self.made:
            home = self.folder / f"env {len(self.made) + 1}"
            check([base, "-m", "venv", str(home)])
            python = str(home / BIN / "python")
            pip = [python, "-m", "pip", "install", "--quiet"]
            numpy = [] if run.newest else [f"numpy=={OLDEST[version_of(base)]}"]
            if run.place == "clone":
                check([*pip, "-e", f"{self.clone}[dev]", *numpy])
            else:
                check([python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(home), str(self.clone)])
                (wheel,) = home.glob("*.whl")
                check([*pip, f"{wheel}[dev]", *numpy])
            self.made[key] = python
        return self.made[key]


def check(command: list[str]) -> None:
    subprocess.run(command, check=True, env=ENVIRONMENT)


ENVIRONMENT = {name: value for name, value in os.environ.items()
               if name not in ("PYTHONPATH", "PYTHONUTF8", "VIRTUAL_ENV")}  # fmt: skip
ENVIRONMENT |= {"LC_ALL": "C", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def suite(python: str, folder: Path, run: Run, seed: int, more: list[str]) -> tuple[str, list[str]]:
    """Run the suite; what it ran on and its verdict in a few words, and lines that say what failed."""
    command = [python, "-m", "tests.kernels", "--blas", run.blas, "--numpy", run.numpy, "--threads", str(run.threads)]
    command += ["--", "-q", "-p", "no:cacheprovider", f"--randomly-seed={seed}"]
    command += ["-n", str(run.processes if run.processes > 1 else 0), *more]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               encoding="utf-8", errors="replace")  # fmt: skip
    lines = []
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line.rstrip("\n"))
    code = process.wait()
    if code == SKIPPED:
        return next((line for line in lines if line.startswith("SKIPPED")), "SKIPPED").lower(), []
    version = next((line.partition(",")[0] for line in lines if line.startswith("NumPy ")), "no NumPy")
    counts = re.findall(r"(\d+) (failed|errors?|passed|skipped)", lines[-1] if lines else "")
    verdict = f"{version}: {', '.join(' '.join(pair) for pair in counts) or 'no verdict'}"
    if code == 0:
        return verdict, []
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return f"{verdict} (exit status {code})", failed or lines[-3:] or ["no output"]


def label(python: str, run: Run) -> str:
    numpy = "newest" if run.newest else "oldest"
    return (f"Python {version_of(python):<4}  NumPy {numpy}  {run.place}  BLAS {run.blas:<11}  loops {run.numpy:<10}"
            f"  {run.processes} × {run.threads}")  # fmt: skip


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    pythons = arguments[:cut] or found_pythons()
    unknown = [python for python in pythons if version_of(python) not in VERSIONS]
    if unknown or not pythons:
        print(f"no Python of {', '.join(VERSIONS)}: {', '.join(unknown) or 'none was found'}")
        return 1
    folder, rows, failed = Path(tempfile.mkdtemp()) / "a clone with späces", [], False
    folder.mkdir()
    try:
        places = Places(folder)
        for seed, python, run in plan(pythons):
            print(f"\n==== {label(python, run)}, seed {seed}", flush=True)
            start = time.monotonic()
            try:
                inside = places.clone if run.place == "clone" else places.beside
                verdict, lines = suite(places.python(python, run), inside, run, seed, arguments[cut + 1 :])
            except subprocess.CalledProcessError as error:
                verdict, lines = f"could not be set up: {error}", ["no run"]
            failed = failed or bool(lines)
            rows += [f"{label(python, run)}  seed {seed:<3} {time.monotonic() - start:5.0f} s  {verdict}"]
            rows += [f"    {line}" for line in lines]
    finally:
        if os.environ.get("KEEP"):
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder.parent, ignore_errors=True)
    print("\n==== everywhere (processes × BLAS threads)\n" + "\n".join(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
