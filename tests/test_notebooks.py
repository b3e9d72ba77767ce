"""Notebooks run to their end, are what their sources say, and their exercises can be solved.

`python -m notebooks.build` makes them. Conventions, checked here: the source of NAME.ipynb is NAME.py, in jupytext's
percent format. A place to predict is a paragraph of a text cell that begins with **Predict n.**, an exercise one that
begins with **Fill in n.** A blank is a function whose last line is `return ...`; a cell after it calls `check`. Blanks
are filled in by functions of the same names in notebooks/solutions/weekN.py. All imports stand in the first code cell,
and a cell that calls `check` needs only those, the blanks, and other such cells. A cell whose printed output depends
on the machine (a trained network's numbers and texts, times) is tagged, `# %% tags=["machine-dependent"]`, and asserts
what holds everywhere.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from notebooks import build

ROOT = Path(__file__).resolve().parent.parent
NAMES = build.names()
TAG = "machine-dependent"

# Put before a script: no network, no PyTorch, no window.
GUARD = """
import socket, sys
def refuse(self, address):
    raise RuntimeError(f"a notebook tried to reach {address}")
socket.socket.connect = refuse
sys.modules["torch"] = None
"""


def committed(name):
    return json.loads((build.HERE / f"{name}.ipynb").read_text(encoding="utf-8"))


def code(name):
    """The code cells of the source."""
    return [cell.source for cell in build.read_source(name).cells if cell.cell_type == "code"]


def blanks(source):
    """Names of the functions whose last line is `return ...`."""
    ends = [(node.name, node.body[-1]) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [name for name, last in ends if isinstance(last, ast.Return) and is_ellipsis(last.value)]


def is_ellipsis(node):
    return isinstance(node, ast.Constant) and node.value is ...


def printed(notebook):
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def last_place(number):
    """The value of a printed number's last digit: 0.1 of 2.5 and of 1,003.0, 1 of 17, 1e-7 of 2.5e-06."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def differences(said, expected):
    """Places where two printed texts differ: words exactly, spaces aside, and numbers by more than one in the last
    printed place, since a rounding error may turn 0.12499 into 0.125."""
    words = [re.sub(r"\s+", "", NUMBER.sub("#", text)) for text in (said, expected)]
    if words[0] != words[1]:
        return [tuple(words)]
    pairs = zip(NUMBER.findall(said), NUMBER.findall(expected), strict=True)
    return [(a, b) for a, b in pairs if abs(value(a) - value(b)) > 1.001 * max(last_place(a), last_place(b))]


def value(number):
    return float(number.replace(",", ""))


def test_every_notebook_has_a_source_and_there_is_one_for_each_week_that_is_taught():
    assert sorted(path.stem for path in build.HERE.glob("*.ipynb") if "-Copy" not in path.stem) == NAMES
    assert {"week1_demo", "week2_optimizers"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_source_cell_by_cell(name):
    keys = ("cell_type", "id", "source", "metadata")
    expected = [{key: cell[key] for key in keys} for cell in build.read_source(name).cells]
    came = [{key: cell[key] for key in keys} for cell in committed(name)["cells"]]
    for cell in came:
        cell["source"] = "".join(cell["source"])
    assert came == expected, f"python -m notebooks.build {name}"
    assert committed(name)["metadata"] == build.read_source(name).metadata


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_was_executed_from_top_to_bottom_without_errors(name):
    cells = [cell for cell in committed(name)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert (build.HERE / f"{name}.ipynb").stat().st_size < build.BYTES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_hold_no_paths_and_names_of_a_machine(name):
    text = printed(committed(name)) + json.dumps([
        {kind: value for kind, value in output["data"].items() if not kind.startswith("image/")}
        for cell in committed(name)["cells"] for output in cell.get("outputs", []) if "data" in output
    ])  # fmt: skip
    own = [re.escape(word) for word in (socket.gethostname(), str(Path.home()), str(ROOT)) if len(word) > 5]
    for pattern in [r"/(?:tmp|home|root|work|Users|usr|opt|mnt|var)\b", r"[A-Za-z]:\\", r"\bat 0x[0-9a-f]+", *own]:
        assert not re.search(pattern, text), pattern


def run_as_script(name, folder):
    """What each code cell prints, the script being run as it is, but for a line that separates the cells.

    From another folder, offline, warnings being errors.
    """
    separator = "\x1e"
    source = (build.HERE / f"{name}.py").read_text(encoding="utf-8")
    source = re.sub(r"^# %%(?! \[markdown\]).*$", lambda _: f"print({separator!r})", source, flags=re.MULTILINE)
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    (folder / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    paths = [str(folder), str(build.HERE), str(ROOT)]  # notebooks/, since a script finds `check` in its own folder
    environment = {**build.environment(), "PYTHONPATH": os.pathsep.join(paths)}
    matmul = [f"-Wignore:{what} encountered in matmul:RuntimeWarning" for what in ("overflow", "invalid value")]
    script = [sys.executable, "-Werror", *matmul, str(folder / f"{name}.py")]
    done = subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr
    return done.stdout.split(separator + "\n")[1:]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_source_runs_as_a_script_and_prints_what_the_notebook_shows(name, tmp_path):
    """The only run of the whole notebook in the tests; unfilled blanks print "open".

    What a cell prints must be what its committed output says, unless the cell is tagged `machine-dependent`: what
    comes of training, and times, differ from machine to machine, in their words too where a network writes them.
    """
    cells = [cell for cell in committed(name)["cells"] if cell["cell_type"] == "code"]
    came = run_as_script(name, tmp_path)
    assert len(came) == len(cells)
    for cell, said in zip(cells, came, strict=True):
        expected = printed({"cells": [cell]})
        if TAG in cell["metadata"].get("tags", []):
            assert bool(said) == bool(expected), "".join(cell["source"])
        else:
            assert not differences(said, expected), f"python -m notebooks.build {name}"
    open_ones = re.findall(r"^open +(\w+):", "".join(came), re.MULTILINE)
    assert open_ones == [blank for cell in code(name) for blank in blanks(cell)]


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_whose_output_depends_on_the_machine_asserts_what_does_not(name):
    for cell in build.read_source(name).cells:
        if TAG in cell.metadata.get("tags", []):
            assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source))), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_that_trains_or_times_and_prints_is_tagged(name):
    """Those that only use what was trained before are not found here, but by a run on another kernel of OpenBLAS."""
    for cell in build.read_source(name).cells:
        if cell.cell_type == "code" and re.search(r"optimizer\.step\(\)|perf_counter\(", cell.source):
            assert TAG in cell.metadata.get("tags", []) or not prints(cell.source), cell.source


def prints(source):
    """Whether a cell prints something of its own; what `print(inspect.getsource(...))` shows is the library's text."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(ast.unparse(call.func) == "print" and "getsource" not in ast.unparse(call) for call in calls)


@pytest.mark.parametrize(
    "said, expected, count",
    [
        ("loss 0.125, after 10 steps", "loss  0.126, after 10 steps", 0),
        ("loss 0.125, after 10 steps", "loss 0.127, after 10 steps", 1),
        ("loss 0.125", "cost 0.125", 1),
        ("1,234 parameters", "1,235 parameters", 0),
        ("1,234 parameters", "1,236 parameters", 1),
        ("[1.5 2.  3.]", "[1.50001 2. 3.]", 0),
        ("2.50e-05 at most", "2.52e-05 at most", 1),
        ("2.50e-05 at most", "2.51e-05 at most", 0),
        ("-0.0 and 3", "0.0 and 4", 0),
        ("1 2", "1 2 3", 1),
        ("12 3", "1 23", 2),
    ],
)
def test_printed_texts_are_compared_by_words_and_to_the_last_printed_place(said, expected, count):
    assert len(differences(said, expected)) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_places_to_predict_and_blanks_to_fill_in(name):
    text = "\n\n".join(cell.source for cell in build.read_source(name).cells if cell.cell_type == "markdown")
    for what, least in (("Predict", 3), ("Fill in", 2)):
        numbers = [int(n) for n in re.findall(rf"^\*\*{what} (\d+)\.\*\*", text, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= least, what
    assert len([blank for cell in code(name) for blank in blanks(cell)]) == len(numbers)  # of "Fill in"


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_comes_before_its_answer(name):
    """Its text cell ends with the question, and a cell that shows something follows."""
    cells = committed(name)["cells"]
    for i, cell in enumerate(cells):
        paragraphs = "".join(cell["source"]).split("\n\n")
        if cell["cell_type"] == "markdown" and any(p.startswith("**Predict") for p in paragraphs):
            assert paragraphs[-1].startswith("**Predict"), paragraphs[-1]
            shows = next(other for other in cells[i + 1 :] if other["cell_type"] == "code")
            assert shows["outputs"], shows["source"]


@pytest.mark.parametrize("name", NAMES)
def test_the_solutions_pass_the_checks_of_the_notebook(name):
    """The imports, the solutions in the blanks' places, the cells that check; nothing else of the notebook runs."""
    solutions = importlib.import_module(f"notebooks.solutions.{name.split('_')[0]}")
    first, *rest = code(name)
    space = {"__name__": "notebook"}
    filled, said = [], io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(first.replace("import check\n", "from notebooks import check\n"), space)
        for cell in rest:
            filled += blanks(cell)
            space.update({blank: vars(solutions)[blank] for blank in blanks(cell)})
            if re.search(r"^check\.", cell, re.MULTILINE):
                exec(cell, space)
    assert re.findall(r"^right +(\w+):", said.getvalue(), re.MULTILINE) == filled, said.getvalue()
    assert len(filled) >= 2


@pytest.mark.clone
@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_somewhere(name):
    text = "\n".join(cell.source for cell in build.read_source(name).cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in target]
    assert len(targets) >= 3
    assert not [target for target in targets if not (build.HERE / target).exists()]


def test_a_machine_s_traces_are_stripped_from_outputs():
    """What a kernel may leave behind: times, versions, streams in pieces."""
    import nbformat

    notebook = build.read_source("week1_demo")
    notebook.metadata.language_info["version"] = "3.99"
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    stream = nbformat.v4.new_output
    cell.outputs = [stream("stream", text="a"), stream("stream", text="b"), stream("stream", name="stderr", text="c")]
    build.strip(notebook)
    assert notebook.metadata == build.read_source("week1_demo").metadata and not cell.metadata
    assert [(output.name, output.text) for output in cell.outputs] == [("stdout", "ab"), ("stderr", "c")]
