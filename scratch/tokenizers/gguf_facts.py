"""The tokenizer among the facts of a GGUF file, llama.cpp's.

    tokenizer.ggml.model                      "gpt2", which is byte-level BPE
    tokenizer.ggml.pre                        the rule of splitting; without it llama.cpp's default, which isn't GPT-2's
    tokenizer.ggml.tokens, token_type         tokens in the order of their numbers, and what each is
    tokenizer.ggml.merges                     "left right"
    tokenizer.ggml.bos_token_id, ...          numbers of marks; add_bos_token, add_eos_token: whether they go around

Facts that change what comes out and aren't here are refused by name. Source: llama.cpp, llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scratch.messages import shown
from scratch.tokenizers.bpe import ByteLevelBPE
from scratch.tokenizers.fields import Fields
from scratch.tokenizers.json_file import merge_pairs
from scratch.tokenizers.special import Special

PREFIX = "tokenizer.ggml."
RULES = {"smollm": "smollm", "gpt-2": "gpt2", "default": "llama.cpp"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # types of tokens; 5 unused, 6 a byte, of other models
MARKS = ("bos", "eos", "unknown")


def gguf_tokenizer(facts: Mapping[str, Any]) -> ByteLevelBPE:
    """The tokenizer among the facts of a GGUF file. Raises ValueError for another kind than byte-level BPE."""
    fields = Fields({key.removeprefix(PREFIX): value for key, value in facts.items() if key.startswith(PREFIX)},
                    PREFIX.removesuffix("."))  # fmt: skip
    kind, rule = fields.optional_text("model"), fields.text("pre", "default")
    if kind != "gpt2" or rule not in RULES:
        raise ValueError(f"its tokenizer: {shown(kind)!r} with the rule {shown(rule)!r}; 'gpt2' with "
                         f"{', '.join(RULES)} is read")  # fmt: skip
    tokens, merges = fields.list("tokens"), merge_pairs(fields.list("merges"))
    types = fields.list("token_type") if "token_type" in fields.left else [NORMAL] * len(tokens)
    if len(tokens) != len(types) or not all(type(each) is int for each in types):
        raise ValueError("its tokens and their types are not two lists of one length, types whole numbers")
    if not all(isinstance(token, str) for token in tokens) or len(set(tokens)) != len(tokens):
        raise ValueError("its tokens aren't text, or one of them stands in it twice")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    special = {token: Special(number, special=each != USER_DEFINED)
               for number, (token, each) in enumerate(zip(tokens, types, strict=True))
               if each in (UNKNOWN, CONTROL, USER_DEFINED)}  # fmt: skip
    ids = {mark: fields.whole(f"{mark}_token_id") for mark in MARKS if f"{mark}_token_id" in fields.left}
    around = {mark: fields.flag(f"add_{mark}_token", False) for mark in ("bos", "eos")}
    lacking = [mark for mark, wanted in around.items() if wanted and mark not in ids]
    if lacking:
        raise ValueError(f"its {PREFIX}add_{lacking[0]}_token is true, and there is no {lacking[0]}_token_id")
    _refuse_the_rest(fields)
    return ByteLevelBPE(
        vocabulary, merges, special, rule=RULES[rule], unknown=ids.get("unknown"),
        begin=[ids["bos"]] if around["bos"] else [], end=[ids["eos"]] if around["eos"] else [],
    )  # fmt: skip


def _refuse_the_rest(fields: Fields) -> None:
    """`scores` are another model's; numbers of further marks change nothing; a space in front is put there by
    `transformers` and not by llama.cpp, so that a file that wants one is refused."""
    fields.refuse(add_space_prefix=False, add_sep_token=False, remove_extra_whitespaces=False)
    others = [key for key in fields.left if key.endswith(("_token_id", "_token_ids"))]
    fields.harmless("scores", "token_type_count", *others).done()
