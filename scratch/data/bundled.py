"""The files that ship with the package: found wherever it is installed, and used only if they are whole."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

# Made by files/build.py, which prints these.
SHA256 = {
    "digits.npz": "81bc87ff492e03d6cc8a6ab65d290e917fb82ae0f7983456e2980e5b37504049",
    "shakespeare-train.txt.gz": "2268639907f29ad4fea05e40e10324dc441b6140ed7fb69c312042f9671a356a",
    "shakespeare-validation.txt.gz": "c4a8a43ff433e1d39428ffa3f6777c592aa37cc2f66e867cec1335be318018b5",
    "shakespeare-test.txt.gz": "ad14136620af2876289550a27ef2c863eca377652023284dc4dfab2e3120bdd5",
    "sunspots.csv.gz": "7dbce9d7cca978c1b7c4d45d113d7dd384845566599912447efc5dceb1d20532",
}
_REPAIR = (
    "it comes with the package: in a clone run `git checkout -- scratch/data/files`, "
    "else install ai-architectures-from-scratch again"
)


def read_bundled(name: str, folder: Path | None = None) -> bytes:
    """The bytes of one of the files named in `SHA256`, from `folder` instead of the package if it is given.

    Raises FileNotFoundError if the file is missing, and ValueError if its SHA-256 is not the expected one.
    """
    if name not in SHA256:
        raise ValueError(f"no file of that name ships: expected one of {', '.join(SHA256)}, got {name!r}")
    path = (resources.files("scratch.data") / "files" if folder is None else Path(folder)) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {_REPAIR}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{path} is damaged ({len(content):,} bytes, SHA-256 {found[:16]}..., "
                         f"expected {SHA256[name][:16]}...); {_REPAIR}")  # fmt: skip
    return content
