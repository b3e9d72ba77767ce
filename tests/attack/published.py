"""Published networks and tokenizers: folders of config.json and weights, and the files of tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.pretrained import from_pretrained
from scratch.tokenizers import load_tokenizer
from scratch.weights import save_file
from tests.attack import bombs
from tests.attack.damage import Damage, of_bytes, of_head, of_json, of_lines, of_safetensors
from tests.attack.readers import Reader

REFERENCE = Path(__file__).resolve().parent.parent / "reference"
MODELS = ("bert", "gpt", "llama", "transformer", "vit")
NETWORKS = ("bert_mlm", "gpt2", "llama", "mixtral", "bart", "vit", "dinov2")
TEXT = "Low lower, 1999 <end>!\n"


def make_network(name: str) -> Callable[[Path], None]:
    """The folder that `transformers` wrote of a small random network."""
    file = "vit.npz" if name in ("vit", "dinov2") else "pretrained.npz"

    def make(folder: Path) -> None:
        with np.load(REFERENCE / file) as frozen:
            start = f"{name}/file/"
            arrays = {key.removeprefix(start): frozen[key] for key in frozen.files if key.startswith(start)}
            (folder / "config.json").write_text(str(frozen[f"{name}/config"]), encoding="utf-8")
        save_file(arrays, folder / "model.safetensors", {"format": "pt"})

    return make


def is_small(value: Any, content: bytes, sound: Path) -> bool:
    """A network of no more than the file holds, in evaluation mode."""
    return value.count_parameters() < 200_000 and not any(module.training for module in value.modules())


def network(name: str, file: str, *damages: Damage) -> Reader:
    def hostile(sound: bytes) -> dict[str, bytes]:
        return bombs.of_json() | bombs.of_fields(sound) if file == "config.json" else {}

    title = f"{name}, {'config' if file == 'config.json' else 'weights'}"
    return Reader(title, file, make_network(name), from_pretrained, is_small, damages, hostile, by_folder=True)


# -- tokenizers -------------------------------------------------------------------------------------------------------


def frozen(kind: str) -> dict[str, Any]:
    return json.loads((REFERENCE / "tokenizers.json").read_text(encoding="utf-8"))[kind]["file"]


def make_tokenizer(kind: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "tokenizer.json").write_text(json.dumps(frozen(kind)), encoding="utf-8")


def make_pair(folder: Path) -> None:
    model = frozen("bpe")["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def make_lines(folder: Path) -> None:
    vocabulary = sorted(frozen("wordpiece")["model"]["vocab"].items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')


def make_gguf(folder: Path) -> None:
    from tests.test_tokenizers import gguf

    gguf(folder)


def encodes(value: Any, content: bytes, sound: Path) -> bool:
    """Numbers that it has, and text again. A byte that the vocabulary lacks may be refused."""
    try:
        numbers = value.encode(TEXT)
    except ValueError:
        return True
    return numbers.dtype == np.int64 and bool((numbers >= 0).all()) and isinstance(value.decode(numbers), str)


def load_its(file: str) -> Callable[[Path], Any]:
    return lambda folder: load_tokenizer(folder / file if file.endswith(".gguf") else folder)


def tokenizer(name: str, file: str, make: Callable[[Path], Any], *damages: Damage) -> Reader:
    def hostile(sound: bytes) -> dict[str, bytes]:
        return bombs.of_gguf() if file.endswith(".gguf") else bombs.of_json()

    return Reader(f"tokenizer, {name}", file, make, load_its(file), encodes, damages, hostile, by_folder=True)


READERS = (
    *(network(name, "config.json", of_bytes, of_json, of_json) for name in NETWORKS),
    *(network(name, "model.safetensors", of_head(1500), of_safetensors) for name in NETWORKS),
    tokenizer("BPE", "tokenizer.json", make_tokenizer("bpe"), of_head(1500), of_bytes, of_json),
    tokenizer("WordPiece", "tokenizer.json", make_tokenizer("wordpiece"), of_head(1500), of_bytes, of_json),
    tokenizer("vocab.json", "vocab.json", make_pair, of_bytes, of_json),
    tokenizer("merges.txt", "merges.txt", make_pair, of_bytes, of_lines),
    tokenizer("vocab.txt", "vocab.txt", make_lines, of_bytes, of_lines),
    tokenizer("its config", "tokenizer_config.json", make_lines, of_bytes, of_json),
    tokenizer("gguf", "model.gguf", make_gguf, of_bytes, of_head(400)),
)
