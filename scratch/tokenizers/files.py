"""The files that published tokenizers come in.

    tokenizer.json                 everything, as the library `tokenizers` writes it: json_file.py
    vocab.json, merges.txt         GPT-2's and RoBERTa's: folder_files.py
    vocab.txt                      BERT's: folder_files.py
    *.gguf                         llama.cpp's: gguf_facts.py

What a file asks for and is not here (another model, another rule of splitting) is refused by name: a tokenizer that is
nearly right gives numbers that a network was never taught.
"""

from __future__ import annotations

import os
from pathlib import Path

from scratch.messages import shown
from scratch.tokenizers.bpe import ByteLevelBPE
from scratch.tokenizers.folder_files import check_config, read_vocab_json, read_vocab_txt
from scratch.tokenizers.gguf_facts import gguf_tokenizer
from scratch.tokenizers.json_file import read_document
from scratch.tokenizers.wordpiece import WordPiece
from scratch.weights import load_gguf_metadata, read_json

Tokenizer = ByteLevelBPE | WordPiece
NAMES = ("tokenizer.json", "vocab.json", "vocab.txt")


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """The tokenizer of a folder of published weights, of one of the files above, or of a GGUF file.

    Raises FileNotFoundError where there is none, ValueError naming the file for damage and for kinds that aren't read.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in NAMES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{shown(path)}: expected one of {', '.join(NAMES)} in it, found none")
        path = found[0]
    reader = {".json": _from_json, ".txt": read_vocab_txt, ".gguf": _from_gguf}.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{shown(path)}: expected {', '.join(NAMES)}, a .gguf file, or a folder with one of them")
    try:
        return reader(path)
    except ValueError as error:
        named = str(path.parent) in str(error) or shown(path.parent) in str(error)
        raise ValueError(str(error) if named else f"{shown(path)}: {error}") from None


def _from_json(path: Path) -> Tokenizer:
    if path.name == "vocab.json":
        return read_vocab_json(path)
    tokenizer = read_document(read_json(path))
    if path.name == "tokenizer.json":
        check_config(path, tokenizer)
    return tokenizer


def _from_gguf(path: Path) -> ByteLevelBPE:
    return gguf_tokenizer(load_gguf_metadata(path))
