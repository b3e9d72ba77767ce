"""Tokenizers: text to the numbers that a network reads, and back.

    split.py       text in pieces: GPT-2's rule, read first
    bpe.py         byte-level byte-pair encoding: GPT-2, Llama, BART
    training.py    how its merges are learned
    wordpiece.py   WordPiece: BERT
    special.py     added tokens, such as <|im_end|>, in a text
    truncation.py  what is cut off where a text is too long
    files.py       published ones: fields.py, added.py, then json_file.py, folder_files.py, gguf_facts.py
    chat.py        a conversation as one text
"""

from scratch.tokenizers.bpe import ByteLevelBPE, TextStream
from scratch.tokenizers.chat import chat_tokens
from scratch.tokenizers.files import gguf_tokenizer, load_tokenizer
from scratch.tokenizers.special import Special
from scratch.tokenizers.split import split_gpt2, split_llamacpp, split_plain, split_smollm
from scratch.tokenizers.training import train_bpe
from scratch.tokenizers.wordpiece import WordPiece

__all__ = [
    "ByteLevelBPE",
    "Special",
    "TextStream",
    "WordPiece",
    "chat_tokens",
    "gguf_tokenizer",
    "load_tokenizer",
    "split_gpt2",
    "split_llamacpp",
    "split_plain",
    "split_smollm",
    "train_bpe",
]
