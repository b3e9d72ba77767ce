"""Notebooks run to their end, are what their sources say, and their exercises can be solved.

`python -m notebooks.build` makes them. Conventions, checked here: the source of NAME.ipynb is NAME.py, in jupytext's
percent format. A place to predict is a paragraph of a text cell that begins with **Predict n.**, an exercise one that
begins with **Fill in n.** A blank is a function whose last line is `return ...`; a cell after it calls `check`. Blanks
are filled in by functions of the same names in notebooks/solutions/weekN.py. All imports stand in the first code cell,
and a cell that calls `check` needs only those, the blanks, and other such cells.
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

import numpy as np
import pytest

from notebooks import build, check
from scratch.activations import sigmoid
from scratch.layers.linear import linear
from scratch.tensor import record

ROOT = Path(__file__).resolve().parent.parent
NAMES = build.names()

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


def without_numbers(text):
    """What was said, numbers and spaces aside: those differ in their last digits from machine to machine."""
    return re.sub(r"\s+", "", re.sub(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", "#", text))


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


@pytest.mark.parametrize("name", NAMES)
def test_the_source_runs_as_a_script_and_says_what_the_notebook_says(name, tmp_path):
    """From another folder, offline, warnings being errors; unfilled blanks print "open"."""
    (tmp_path / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    environment = {**build.environment(), "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    matmul = [f"-Wignore:{what} encountered in matmul:RuntimeWarning" for what in ("overflow", "invalid value")]
    script = [sys.executable, "-Werror", *matmul, str(build.HERE / f"{name}.py")]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr
    committed_text = printed(committed(name))
    assert without_numbers(done.stdout) == without_numbers(committed_text), f"python -m notebooks.build {name}"
    open_ones = re.findall(r"^open +(\w+):", done.stdout, re.MULTILINE)
    assert open_ones == [blank for cell in code(name) for blank in blanks(cell)]


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


# -- what a learner is told ---------------------------------------------------------------------------------------

X = np.array([[0.5, -1.0, 2.0]])
LINEAR = [X, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.1, 0.2])]


def my_sigmoid(value, gradient):
    """A sigmoid with parts that may be wrong."""

    def my_sigmoid(x):
        y = value(x.data)
        return record(y, (x,), lambda dy: (gradient(dy, y),))

    return my_sigmoid


def right(x):
    return 1 / (1 + np.exp(-x))


def raises(x):
    return np.ones(2) @ np.ones(3)


@pytest.mark.parametrize(
    "mine, told",
    [
        (my_sigmoid(right, lambda dy, y: dy * y * (1 - y)), r"right  my_sigmoid: .* agree with sigmoid in 2 cases"),
        (my_sigmoid(right, lambda dy, y: dy * y), r"wrong  my_sigmoid: case 1: gradient of argument 0 at index \(0, "),
        (my_sigmoid(right, lambda dy, y: y * (1 - y)), "wrong  my_sigmoid: case 1: gradient of argument 0"),
        (my_sigmoid(right, lambda dy, y: None), "wrong  my_sigmoid: case 1: there is no gradient of argument 0"),
        (my_sigmoid(right, lambda dy, y: dy[0]), "my_sigmoid: case 1: ValueError: backward of my_sigmoid returned"),
        (my_sigmoid(np.exp, lambda dy, y: dy), r"my_sigmoid: case 1: value at index \(0, 0\) is 1.64872, expected"),
        (my_sigmoid(np.sum, lambda dy, y: dy), r"value has shape \(\), expected \(1, 3\)"),
        (my_sigmoid(raises, lambda dy, y: dy), r"case 1: line \d+ of the cell raised ValueError: .*matmul"),
        (lambda x: ..., "open "),
        (lambda x: x.data, r"wrong  <lambda>: should return what record\(...\) gives, got ndarray"),
    ],
)  # fmt: skip
def test_the_check_of_an_operation_tells_right_from_wrong(mine, told, capsys):
    check.operation(mine, sigmoid, [[X], [2 * X]])
    assert re.search(told, capsys.readouterr().out)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_the_check_looks_at_every_argument(argument, capsys):
    def mine(x, weight, bias):
        def backward(dy):
            gradients = [dy @ weight.data, dy.T @ x.data, dy.sum(axis=0)]
            gradients[argument] = gradients[argument] * 1.001
            return tuple(gradients)

        return record(x.data @ weight.data.T + bias.data, (x, weight, bias), backward)

    check.operation(mine, linear, [LINEAR])
    assert f"gradient of argument {argument}" in capsys.readouterr().out


def halve(x, n):
    """A rule that writes into its argument."""
    x /= 2
    return x, n + 1


@pytest.mark.parametrize(
    "mine, told",
    [
        (lambda x, n: (x / 2, n + 1), "right  my_rule: agrees with the library in 2 cases"),
        (lambda x, n: (x / 2, n), "wrong  my_rule: case 1: result 1 is 1, expected 2"),
        (lambda x, n: x / 2, "wrong  my_rule: case 1: should return 2 results, got 1"),
        (lambda x, n: (x[0], n + 1), "wrong  my_rule: case 1: result 0 has shape"),
        (lambda x, n: (x / 0.0, n.no), "wrong  my_rule: case 1: line"),
        (lambda x, n: ..., "open   my_rule"),
        (lambda x, n: (..., n + 1), "wrong  my_rule: case 1: there is no result 0"),
    ],
)
def test_the_check_of_a_function_tells_right_from_wrong(mine, told, capsys):
    with np.errstate(all="ignore"):
        check.function(mine, halve, [[np.array([4.0, 2.0]), 1], [np.array([1.0]), 7]], name="my_rule")
    assert told in capsys.readouterr().out


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
