"""An architecture is finished when it has all its parts: code, proof, expected values, weights, page, notebook, week.

`missing` reads files below a root and imports nothing, so that planted gaps can show that each rule bites.
CONTRIBUTING.md says what the parts are for.
"""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.clone
MODELS = sorted(path.parent.name for path in (ROOT / "scratch" / "models").glob("*/__init__.py"))

# Being built: listed here, so that nothing is left out unseen. A test takes care that the list gets shorter again.
UNFINISHED: set[str] = set()

FILES = ("README.md", "__init__.py", "model.py", "train.py", "sample.py", "expected.json")
HEADINGS = ("## Idea", "## Equations", "## Derivation", "### A worked example", "## Results", "## Ablations",
            "## When something looks wrong", "## Departures", "## To read further")  # fmt: skip
WEIGHTS = 1_000_000  # bytes of a file of shipped weights


def missing(name: str, root: Path) -> list[str]:
    """What the architecture lacks, in words."""
    folder = root / "scratch" / "models" / name
    gaps = [f"{file} is missing" for file in FILES if not (folder / file).is_file()]
    experiments = root / "scratch" / "experiments" / f"{name}.py"
    if not experiments.is_file() and not (folder / "ablations.py").is_file():
        gaps.append(f"scratch/experiments/{name}.py is missing")
    if gaps:
        return gaps
    return [*_training(name, folder), *_proof(name, root), *_page(name, folder), *_pictures(folder, root),
            *_lessons(name, root)]  # fmt: skip


def _training(name: str, folder: Path) -> list[str]:
    gaps = []
    tree = ast.parse(read(folder / "train.py"))
    defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    gaps += [f"train.py defines no {each}" for each in ("Settings", "train") if each not in defined]
    presets = _presets(tree)
    gaps += [f"train.py has no preset {each!r}" for each in ("default", "quick") if each not in presets]
    expected = json.loads(read(folder / "expected.json"))
    for preset in presets:
        values = expected.get(preset)
        if values is None:
            gaps.append(f"expected.json has no values for the preset {preset!r}")
            continue
        if len(values["seeds"]) < 3 or len(values["runs"]) < 3:
            gaps.append(f"expected.json: {preset!r} needs three seeds")
        gaps += [f"expected.json: {preset!r} has no {key}" for key in ("result", "bands", "minutes", "memory_mb")
                 if not values.get(key)]  # fmt: skip
        if preset == "quick" and values.get("minutes", 0) > 1:
            gaps.append(f"expected.json: 'quick' takes {values['minutes']} minutes, at most 1")
    weights = list(folder.glob("weights*.safetensors"))
    gaps += [] if weights else ["weights.safetensors is missing: scratch/training/ship.py makes it"]
    gaps += [f"{file.name} has more than {WEIGHTS:,} bytes" for file in weights if file.stat().st_size > WEIGHTS]
    if "def main(" not in read(folder / "sample.py"):
        gaps.append("sample.py defines no main()")
    return gaps


def _presets(tree: ast.Module) -> list[str]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "PRESETS" and isinstance(node.value, ast.Dict):
            return [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


def _proof(name: str, root: Path) -> list[str]:
    gaps = []
    twin, test = root / "tests" / "twins" / f"{name}.py", root / "tests" / f"test_{name}.py"
    if not twin.is_file() or "Module)" not in read(twin):
        gaps.append(f"tests/twins/{name}.py has no PyTorch twin")
    proven = read(test) if test.is_file() else ""
    gaps += [f"tests/test_{name}.py has no {word}" for word in ("gradcheck", "lockstep") if word not in proven]
    if not list((root / "benchmarks" / "steps").glob(f"{name}*.py")):
        gaps.append(f"benchmarks/steps/{name}.py is missing")
    return gaps


def _page(name: str, folder: Path) -> list[str]:
    text = read(folder / "README.md")
    gaps = [f"README.md has no section {each!r}" for each in HEADINGS
            if not re.search(rf"^{each}\b", text, re.MULTILINE)]  # fmt: skip
    top = text.split("\n## ")[0]
    if not re.search(r"^```\n.*?\(B\b.*?^```", top, re.MULTILINE | re.DOTALL):
        gaps.append("README.md does not open with a block diagram with shapes, (B, ...)")
    if "![" not in top:
        gaps.append("README.md shows no signature picture before its first section")
    if "```pycon" not in text:
        gaps.append("README.md has no worked example as a pycon block")
    results, ablations = section(text, "Results"), section(text, "Ablations")
    for word in (f"scratch train {name}", f"scratch bench {name}", "seeds", "standard error", "peak memory"):
        if results and word not in results:
            gaps.append(f"README.md: Results do not say {word!r}")
    if ablations and (
        "|---|" not in ablations
        or not re.search(rf"scratch\.(models\.{name}\.ablations|experiments\.{name})", ablations)
    ):
        gaps.append("README.md: Ablations need a table and the command that made it")
    symptoms = section(text, "When something looks wrong")
    if symptoms and len(re.findall(r"^\|[^|]+\|[^|]+\|[^|]+\|$", symptoms, re.MULTILINE)) < 6:
        gaps.append("README.md: symptom, cause and where to look, at least four rows")
    further = section(text, "To read further")
    if further and not re.search(r"\bbetter\b", further):
        gaps.append("README.md: To read further does not say what another resource serves better")
    return gaps


def _pictures(folder: Path, root: Path) -> list[str]:
    figures = [file for file in (folder / "figures").glob("*") if file.suffix in (".png", ".gif")]
    gaps = [] if figures else ["figures/ has no pictures"]
    pages = [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md"), *folder.rglob("*.md")]
    texts = {page: read(page) for page in pages if page.is_file()}
    gaps += [f"figures/{file.name} is shown on no page" for file in figures
             if not any(f"figures/{file.name}" in text for text in texts.values())]  # fmt: skip
    for alt, target in re.findall(r"!\[([^]]*)\]\(([^)\s]+)", texts[folder / "README.md"]):
        if len(alt) < 20:
            gaps.append(f"README.md: {target} needs alternative text that says what is to be seen, has {alt!r}")
    return gaps


def _lessons(name: str, root: Path) -> list[str]:
    gaps = []
    notebooks = [read(file) for file in (root / "notebooks").glob("week*.py")]
    if not any(re.search(rf"\bscratch\.models\.{name}\b", text) for text in notebooks):
        gaps.append(f"no notebook of notebooks/ uses scratch.models.{name}")
    weeks = [read(file) for file in (root / "docs" / "weeks").glob("week*.md")]
    if not any(f"scratch/models/{name}/README.md" in text for text in weeks):
        gaps.append("no page of docs/weeks/ links to its README.md")
    front = read(root / "README.md")
    for part in ("Results", "Roadmap"):
        if f"(scratch/models/{name}/README.md)" not in section(front, part):
            gaps.append(f"the front page's {part} do not name it")
    return gaps


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in MODELS if name not in UNFINISHED])
def test_an_architecture_has_all_its_parts(name):
    assert not missing(name, ROOT), "\n" + "\n".join(missing(name, ROOT))


def test_unfinished_architectures_exist_and_are_unfinished():
    assert "mlp" in MODELS
    assert set(MODELS) >= UNFINISHED
    finished = [name for name in UNFINISHED if not missing(name, ROOT)]
    assert not finished, f"take {finished} out of UNFINISHED"


# -- the rules bite -----------------------------------------------------------------------------------------------

PAGE = "scratch/models/mlp/README.md"
EXPECTED = "scratch/models/mlp/expected.json"
TRAIN = "scratch/models/mlp/train.py"

# (file, what to replace, by what, what is then said); without a replacement the file is taken away
GAPS = [
    *((f"scratch/models/mlp/{file}", None, "", f"{file} is missing") for file in FILES),
    ("scratch/models/mlp/weights.safetensors", None, "", "weights.safetensors is missing"),
    ("scratch/models/mlp/figures", None, "", "figures/ has no pictures"),
    ("tests/twins/mlp.py", None, "", "tests/twins/mlp.py has no PyTorch twin"),
    ("tests/test_mlp.py", None, "", "tests/test_mlp.py has no gradcheck"),
    ("tests/test_mlp.py", "lockstep", "", "tests/test_mlp.py has no lockstep"),
    ("benchmarks/steps/mlp.py", None, "", "benchmarks/steps/mlp.py is missing"),
    ("notebooks/week2_optimizers.py", "scratch.models.mlp", "scratch.models.gan", "no notebook of notebooks/ uses"),
    ("docs/weeks/week2.md", "models/mlp/", "models/gan/", "no page of docs/weeks/ links to its README.md"),
    ("README.md", "(scratch/models/mlp/README.md)", "()", "the front page's Results do not name it"),
    (TRAIN, "class Settings", "class Options", "train.py defines no Settings"),
    (TRAIN, "def train(", "def run(", "train.py defines no train"),
    (TRAIN, '"quick":', '"fast":', "train.py has no preset 'quick'"),
    (TRAIN, '"quick":', '"fast":', "expected.json has no values for the preset 'fast'"),
    (EXPECTED, '"seeds": [\n   0,', '"seeds": [', "expected.json: 'default' needs three seeds"),
    (EXPECTED, '"minutes"', '"hours"', "expected.json: 'default' has no minutes"),
    (EXPECTED, '"minutes": 0', '"minutes": 10', "expected.json: 'quick' takes 10"),
    ("scratch/models/mlp/sample.py", "def main(", "def show(", "sample.py defines no main()"),
    *((PAGE, f"\n{heading}", "\n## Other", f"no section '{heading}'") for heading in HEADINGS),
    (PAGE, "(B, ", "(", "does not open with a block diagram"),
    (PAGE, "![", "[", "shows no signature picture"),
    (PAGE, "```pycon", "```python", "no worked example"),
    (PAGE, "scratch bench mlp", "scratch bench", "Results do not say 'scratch bench mlp'"),
    (PAGE, "standard error", "error", "Results do not say 'standard error'"),
    (PAGE, "scratch.models.mlp.ablations", "ablations", "Ablations need a table"),
    (PAGE, "\n| the loss", "\nthe loss", "symptom, cause and where to look, at least four rows"),
    (PAGE, "better", "good", "does not say what another resource serves better"),
    (PAGE, "Sixteen misread test digits with true and predicted class", "mistakes", "needs alternative text"),
    (PAGE, "figures/confusion.png", "https://example.org/confusion.png", "figures/confusion.png is shown on no page"),
]  # fmt: skip


@pytest.mark.parametrize("file, old, new, told", GAPS)
def test_a_gap_is_found(file, old, new, told, tmp_path):
    for part in ("scratch/models/mlp", "tests/twins", "benchmarks/steps", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    for path in [ROOT / "README.md", ROOT / "tests" / "test_mlp.py", *(ROOT / "notebooks").glob("week[12]_*.py")]:
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    assert not missing("mlp", tmp_path)
    place = tmp_path / file
    if old is None:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    else:
        assert old in read(place)
        place.write_text(read(place).replace(old, new), encoding="utf-8")
    found = "\n".join(missing("mlp", tmp_path))
    assert told in found
