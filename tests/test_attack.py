"""Every reader, attacked for a few seconds with a fixed seed; and the tool itself, which must catch faulty readers.

`python -m tests.attack --count 40000` does the same for a quarter of an hour.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from scratch.models.mlp import train as mlp
from scratch.training import checkpoint
from scratch.training.folder import CHECKPOINT
from scratch.training.ship import shipped
from scratch.weights import load_file, load_metadata, save_file
from tests.attack import damage, gadgets, planted, runs
from tests.attack.assembly import MADE_BY_PYTORCH
from tests.attack.judge import Cases, fault_of
from tests.attack.readers import readers
from tests.attack.workers import CAN_FORK

ROOT = Path(__file__).resolve().parent.parent


def attack(*words: str) -> tuple[int, dict[str, dict]]:
    """(exit code, results) in a process of its own: it forks, which one with threads must not, and stays watched."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "tests.attack", "--json", *words], cwd=ROOT, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.clone
def test_every_reader_loads_a_file_right_or_refuses_it_by_name():
    code, results = attack("--count", "450", "--seed", "0", "--largest", "100000")
    assert results.keys() == readers().keys()
    assert {name: result["faults"] for name, result in results.items() if result["faults"]} == {}
    assert code == 0
    for name, result in results.items():
        assert result["tried"] >= 12 and result["loaded"] >= 1, name
        assert name == "log.jsonl, its rows" or result["refused"] >= 3, name  # which is read up to the damage


@pytest.mark.clone
def test_faulty_readers_are_caught_each_by_its_fault():
    code, results = attack("--planted", "--count", str(12 * len(planted.readers(CAN_FORK))), "--seconds", "0.2")
    faults = planted.FAULTS | (planted.SEVERE if CAN_FORK else {})
    assert code == 1 and results.keys() == faults.keys()
    for name, (_, words) in faults.items():
        found = results[name]["faults"]
        assert found and all(re.search(words, fault) for _, fault in found), (name, found)
        assert results[name]["tried"] == 13


def test_a_case_is_the_same_again_and_others_with_another_seed(tmp_path):
    reader = readers()["idx"]
    cases = [Cases(reader, tmp_path / str(i), seed) for i, seed in enumerate((3, 3, 4))]
    assert cases[0][0].content == (tmp_path / "0" / "sound" / "x").read_bytes()
    numbers = cases[0].numbers(20, 10**9)
    drawn = [[each[i].content for i in numbers] for each in cases]
    assert numbers == cases[1].numbers(20, 10**9) and drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 25


@pytest.mark.parametrize(
    ("function", "sound"),
    [
        (damage.of_bytes, b"0123456789" * 9), (damage.of_lines, b"a\nb\nc\nd"),
        (damage.of_json, b'{"a": 1, "b": [2, {"c": "x"}], "d": null}'), (damage.of_zip, MADE_BY_PYTORCH),
        (damage.in_zip("data.pkl", damage.of_pickle), MADE_BY_PYTORCH),
        (damage.of_safetensors, (30).to_bytes(8, "little") + b'{"a": {"b": [1, 2], "c": "x"}}'),
        (damage.of_head(5), b"0123456789"),
    ],
)  # fmt: skip
def test_damage_changes_files_in_many_ways(function, sound):
    rng = random.Random(1)
    made = [function(sound, rng) for _ in range(60)]
    assert len(set(made)) > 25 and sum(each != sound for each in made) > 45


def test_damage_keeps_what_it_should_keep():
    rng = random.Random(2)
    assert all(damage.of_head(5)(b"0123456789", rng).endswith(b"56789") for _ in range(50))
    for _ in range(20):
        with zipfile.ZipFile(BytesIO(damage.in_zip("data.pkl", damage.of_bytes)(MADE_BY_PYTORCH, rng))) as file:
            assert file.testzip() is None  # the damage gets past the checksums


def test_messages_name_the_file_in_printable_words_and_briefly():
    assert fault_of("/x/f.txt: it is damaged\nagain", "f.txt") == ""
    assert "without the name" in fault_of("it is damaged", "f.txt")
    assert "control characters" in fault_of("f.txt \x1b", "f.txt")
    assert "3005 characters" in fault_of("f.txt" + "x" * 3000, "f.txt")


def test_hostile_pickles_are_of_many_kinds():
    found = dict(gadgets.attacks())
    assert len(found) > 300 and len(gadgets.NAMES) == len(set(gadgets.NAMES)) > 150
    for style in gadgets.STYLES:
        assert sum(f" by {style}, " in what for what in found) > 15
    for place in gadgets.PLACES:
        assert sum(what.endswith(f", {place}") for what in found) > 15


# -- sums that are missing --------------------------------------------------------------------------------------------


def test_a_checkpoint_without_a_sum_is_refused(tmp_path):
    runs.make(tmp_path / "run")
    file = tmp_path / "run" / CHECKPOINT
    metadata = load_metadata(file)
    del metadata["sha256"]
    save_file(load_file(file), file, metadata)
    with pytest.raises(ValueError, match="safetensors: expected .* with the SHA-256 of its contents, found none"):
        runs.take_up(tmp_path / "run")


def test_shipped_weights_without_a_sum_are_refused(tmp_path):
    file = tmp_path / runs.WEIGHTS
    save_file({"layers.0.bias": np.arange(4, dtype=np.float16)}, file,
              load_metadata(Path(mlp.__file__).with_name(runs.WEIGHTS)))  # fmt: skip
    with pytest.raises(ValueError, match="the weights are damaged: their SHA-256"):
        shipped(file, "mlp", mlp.Settings)
    assert checkpoint.sha256({}) != checkpoint.sha256(load_file(file))
