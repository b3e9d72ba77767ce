"""What is installed works away from the clone: a wheel, unpacked elsewhere, knows its version, data and weights."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import scratch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's files in a folder of their own. Built from a copy, so that the clone stays as it is."""
    folder = tmp_path_factory.mktemp("wheel with spaces")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    for file in filter(None, listed.stdout.split("\0")):
        if file.startswith("scratch/") or file in ("pyproject.toml", "README.md", "LICENSE"):
            target = folder / "source" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / file).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)]
    done = subprocess.run([*build, str(folder / "source")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"ai_architectures_from_scratch-{scratch.__version__}-py3")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(installed: Path, code: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_brings_data_weights_and_expected_values(installed, tmp_path):
    code = (
        "import scratch; from scratch.data import load_digits; from scratch.training.command import load_expected; "
        "from scratch.cli import main; print(scratch.__file__); print(load_digits().test.targets[:10].tolist()); "
        "print(sorted(load_expected('mlp'))); main(['sample', 'mlp', '--count', '2'])"
    )
    file, digits, expected, *sample = python(installed, code, tmp_path).splitlines()
    assert Path(file).parent.parent == installed
    from scratch.data import load_digits

    assert digits == str(load_digits().test.targets[:10].tolist())
    assert "default" in expected and sample[-1].endswith("of 2 right")


def test_benchmarks_need_a_clone_and_say_so(installed, tmp_path):
    code = "import sys; from scratch.cli import main; sys.stderr = sys.stdout; print(main(['bench']))"
    assert "needs a clone of the repository" in python(installed, code, tmp_path)


def test_the_wheel_holds_the_package_and_nothing_else(installed):
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"scratch"}
    assert (installed / "scratch/py.typed").exists()
    entry = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert re.search(r"^scratch = scratch.cli:main$", entry, re.MULTILINE)


@pytest.mark.clone
def test_requirements_install_the_clone_and_jupyter():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert lines == ["-e .[dev,notebooks]"]
