"""A conversation as one text, which is all that a language model can read: ChatML, as SmolLM2 was taught it.

    <|im_start|>system
    You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
    <|im_start|>user
    What is the capital of France?<|im_end|>
    <|im_start|>assistant
                                        here the model goes on, until it writes <|im_end|>

Published weights bring this as a program in a template language; here it is written out. The marks are tokens that only
this function writes: what a person types is text, and <|im_end|> in it is ten characters, not the end of a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scratch.tokenizers.bpe import ByteLevelBPE

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
START, STOP = "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")


def chat_tokens(
    tokenizer: ByteLevelBPE, messages: Sequence[Mapping[str, str]], answer: bool = True, system: str = SYSTEM
) -> np.ndarray:
    """The numbers of a conversation, int64 (T,).

    Args: messages: {"role": "system", "user" or "assistant", "content": text}, in order. answer: whether an assistant's
        turn is begun at the end. system: what comes first where the messages don't begin with a system's.
    Raises ValueError for other roles, messages without text, and a tokenizer without the two marks.
    """
    lacking = [mark for mark in (START, STOP) if mark not in tokenizer.special or not tokenizer.special[mark].special]
    if lacking:  # one that isn't special would be found in what a person types
        raise ValueError(f"{tokenizer} has no special token {' and no '.join(lacking)}: it wasn't made for ChatML")
    for message in messages:
        if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            raise ValueError(f"expected messages with a role of {', '.join(ROLES)} and content, got {message!r:.200}")
    turns = [(message["role"], message["content"]) for message in messages]
    if turns and turns[0][0] != "system":
        turns.insert(0, ("system", system))
    parts = [turn_tokens(tokenizer, role, content) for role, content in turns]
    parts += [turn_tokens(tokenizer, "assistant")] * answer
    return np.concatenate([np.zeros(0, np.int64), *parts])


def turn_tokens(tokenizer: ByteLevelBPE, role: str, content: str | None = None) -> np.ndarray:
    """The numbers of one turn; without content, of its beginning."""
    start, stop = (tokenizer.special[mark].number for mark in (START, STOP))
    numbers = [start, *tokenizer.body(f"{role}\n{content or ''}", special=False)]  # not cut, however long it is
    if content is not None:
        numbers += [stop, *tokenizer.body("\n")]
    return np.array(numbers, np.int64)
