"""Make the notebooks from their sources: `python -m notebooks.build [NAME ...]`, from the repository's root.

The source of NAME.ipynb is NAME.py beside it, in jupytext's percent format: cells begin with `# %%`, text cells with
`# %% [markdown]`. A notebook is converted, executed from top to bottom in a fresh kernel (one BLAS thread, no network,
at most 120 seconds of CPU time), stripped of all that changes from run to run (times, versions, random cell names) and
written, pictures reduced to 256 colours. tests/test_notebooks.py holds source and notebook together.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SECONDS, BYTES, MEMORY = 120, 600_000, 1000  # limits of a notebook: to run, as a file, in MB


def names() -> list[str]:
    """The notebooks that there are, by their sources."""
    return sorted(path.stem for path in HERE.glob("week*.py"))


def read_source(name: str) -> Any:
    """The source as a notebook without outputs."""
    import jupytext

    notebook = jupytext.read(HERE / f"{name}.py", fmt="py:percent")
    _describe(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02}"
    return notebook


def environment() -> dict[str, str]:
    """Of the process that runs a notebook: one BLAS thread, no window, and a proxy that leads nowhere."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return {**os.environ, **threads, **nowhere, "no_proxy": "", "NO_PROXY": "", "MPLBACKEND": "Agg",
            "PYTHONIOENCODING": "utf-8", "JUPYTER_PLATFORM_DIRS": "1"}  # fmt: skip


def execute(notebook: Any) -> float:
    """Fill in the outputs, in place; returns the seconds it took. Raises nbclient's errors of a cell or of time."""
    from nbclient import NotebookClient

    place = {"metadata": {"path": str(HERE)}}
    client = NotebookClient(notebook, timeout=10 * SECONDS, kernel_name="python3", record_timing=False, resources=place)
    began = used_seconds()
    client.execute(env=environment())
    return used_seconds() - began


def used_seconds() -> float:
    """CPU time of all child processes that have ended, which a busy machine does not change; where the system does not
    tell, the time of day."""
    try:
        import resource
    except ImportError:  # Windows
        return time.monotonic()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def strip(notebook: Any) -> None:
    """Leave nothing that changes from run to run or from machine to machine, and make the pictures small."""
    _describe(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                output.pop("transient", None)
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = reduced(output.data["image/png"])


def reduced(picture: str) -> str:
    """A base64 PNG with at most 256 colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def build(name: str) -> str:
    """Write NAME.ipynb; returns what it took, in words. Raises ValueError for a notebook above a limit."""
    import nbformat

    notebook = read_source(name)
    seconds = execute(notebook)
    strip(notebook)
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    size, memory = len(text.encode()), peak_memory()
    told = f"{name}: {seconds:.1f} s, " + (f"peak {memory} MB, " if memory else "") + f"{size / 1000:.0f} kB"
    if seconds > SECONDS or size > BYTES or memory > MEMORY:
        raise ValueError(f"{told}: the limits are {SECONDS} s, {MEMORY} MB and {BYTES // 1000} kB")
    (HERE / f"{name}.ipynb").write_text(text, encoding="utf-8", newline="\n")
    return told


def peak_memory() -> int:
    """Megabytes of the largest child process so far, 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (1_000_000 if sys.platform == "darwin" else 1000))


def _describe(notebook: Any) -> None:
    """The same words about the kernel everywhere; running one puts its versions there."""
    notebook.metadata.clear()
    notebook.metadata.update(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    )


def _joined(outputs: list[Any]) -> list[Any]:
    """Neighbouring pieces of one stream as one: where a kernel cuts them depends on time."""
    whole: list[Any] = []
    for output in outputs:
        last = whole[-1] if whole else None
        if last is not None and output.output_type == "stream" and last.get("name") == output.get("name"):
            last.text += output.text
        else:
            whole.append(output)
    return whole


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m notebooks.build", description=(__doc__ or "").splitlines()[0])
    p.add_argument("names", nargs="*", help=f"which ones; all if none is named: {', '.join(names())}")
    for name in p.parse_args().names or names():
        name = Path(name).stem
        if name not in names():
            p.error(f"there is no source notebooks/{name}.py")
        print(build(name), flush=True)


if __name__ == "__main__":
    main()
