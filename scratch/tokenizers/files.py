"""The files that published tokenizers come in.

    tokenizer.json                 everything, as the library `tokenizers` writes it: BPE and WordPiece are read
    vocab.json, merges.txt         GPT-2's: {token: number}, and a line "left right" for each merge
    vocab.txt                      BERT's: one token a line, numbered from 0; tokenizer_config.json tells about case
    *.gguf                         llama.cpp's: all of it among the facts of the weight file

What a file asks for and is not here (another model, another rule of splitting) is refused by name: a tokenizer that is
nearly right gives numbers that a network was never taught.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratch.tokenizers.bpe import ByteLevelBPE, Merge
from scratch.tokenizers.special import Special
from scratch.tokenizers.wordpiece import WordPiece
from scratch.weights import load_gguf_metadata, read_json
from scratch.weights.files import reading

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
            raise FileNotFoundError(f"{path}: expected one of {', '.join(NAMES)} in it, found none")
        path = found[0]
    reader = {".json": _from_json, ".txt": _from_lines, ".gguf": _from_gguf}.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: expected {', '.join(NAMES)}, a .gguf file, or a folder with one of them")
    try:
        return reader(path)
    except ValueError as error:
        raise ValueError(str(error) if str(path.parent) in str(error) else f"{path}: {error}") from None
    except (LookupError, TypeError, AttributeError, StopIteration) as error:
        fault = f"{type(error).__name__}: {str(error)[:100]}"
        raise ValueError(f"{path}: it isn't built as such a file is: {fault}") from None


# -- tokenizer.json ---------------------------------------------------------------------------------------------


def _from_json(path: Path) -> Tokenizer:
    if path.name == "vocab.json":
        return _from_pair(path)
    document = read_json(path)
    model = _object(document, "model")
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind not in ("BPE", "WordPiece"):
        raise ValueError(f"its model is {kind!r}; BPE and WordPiece are read")
    added = _added(document.get("added_tokens") or [], plain=document.get("normalizer") is None)
    return (_bpe if kind == "BPE" else _wordpiece)(document, model, added)


def _bpe(document: dict[str, Any], model: dict[str, Any], added: dict[str, Special]) -> ByteLevelBPE:
    _refuse(model, dropout=None, continuing_subword_prefix="", end_of_word_suffix="", byte_fallback=False)
    _refuse(document, normalizer=None)
    if (document.get("decoder") or {}).get("type") != "ByteLevel":
        raise ValueError(f"its decoder is {(document.get('decoder') or {}).get('type')!r}; only byte-level BPE is read")
    rule, prefix_space = _rule(document.get("pre_tokenizer") or {})
    vocabulary, unknown = _object(model, "vocab"), model.get("unk_token") or None
    begin, end = _around(document.get("post_processor"), added)
    numbers = vocabulary | {name: each.number for name, each in added.items()}
    if unknown is not None and unknown not in numbers:
        raise ValueError(f"its unk_token {unknown!r:.50} is not in the vocabulary")
    return ByteLevelBPE(
        {token: number for token, number in vocabulary.items() if token not in added},
        _merges(model.get("merges")), added, rule=rule, begin=begin, end=end,
        unknown=None if unknown is None else numbers[unknown], prefix_space=prefix_space,
        whole=bool(model.get("ignore_merges")),
    )  # fmt: skip


def _rule(pre: dict[str, Any]) -> tuple[str, bool]:
    """(name of the rule, whether a text gets a space in front)"""
    parts = list(pre["pretokenizers"]) if pre.get("type") == "Sequence" else [pre]
    kinds = [part.get("type") for part in parts]
    digits = kinds[:1] == ["Digits"] and parts[0].get("individual_digits") is True
    last = parts[-1] if kinds in (["ByteLevel"], ["Digits", "ByteLevel"]) else {}
    if not last or last.get("use_regex", True) is not True or len(kinds) == 2 and not digits:
        raise ValueError(f"its pre-tokenizer is {kinds or pre.get('type')}; GPT-2's (ByteLevel), alone or after single "
                         "Digits, is read")  # fmt: skip
    return ("smollm" if digits else "gpt2"), bool(last.get("add_prefix_space", True))


def _wordpiece(document: dict[str, Any], model: dict[str, Any], added: dict[str, Special]) -> WordPiece:
    normalizer = document.get("normalizer") or {}
    pre = (document.get("pre_tokenizer") or {}).get("type")
    if normalizer.get("type") != "BertNormalizer" or pre != "BertPreTokenizer":
        raise ValueError(f"its normalizer and pre-tokenizer are {normalizer.get('type')!r} and {pre!r}, not BERT's")
    vocabulary = _object(model, "vocab")
    foreign = [name for name, each in added.items() if vocabulary.get(name) != each.number]
    if foreign:
        raise ValueError(f"its token {foreign[0]!r:.50} is added to the vocabulary with a number of its own")
    marks = _template(document.get("post_processor"))
    names = {"unknown": model.get("unk_token", "[UNK]"), "first": marks[0], "last": marks[-1]}
    padding = document.get("padding") or {}
    return WordPiece(
        vocabulary, lowercase=normalizer.get("lowercase", True), strip_accents=normalizer.get("strip_accents"),
        chinese=normalizer.get("handle_chinese_chars", True), clean=normalizer.get("clean_text", True),
        pad=padding.get("pad_token", "[PAD]"), special=list(added),
        max_letters=model.get("max_input_chars_per_word", 100), prefix=model.get("continuing_subword_prefix", "##"),
        max_length=(document.get("truncation") or {}).get("max_length"), **names,
    )  # fmt: skip


def _template(post: dict[str, Any] | None) -> list[str]:
    """The marks before and after a text."""
    if post and post.get("type") == "BertProcessing":
        return [post["cls"][0], post["sep"][0]]
    single = [next(iter(part.items())) for part in (post or {}).get("single") or []]
    if [kind for kind, _ in single] != ["SpecialToken", "Sequence", "SpecialToken"]:
        raise ValueError("its post-processor puts no mark before a text and one behind it, as BERT's does")
    return [single[0][1]["id"], single[2][1]["id"]]


def _around(post: dict[str, Any] | None, added: Mapping[str, Special]) -> tuple[list[int], list[int]]:
    """The numbers that go before and behind a text."""
    kind = (post or {}).get("type")
    if post is None or kind == "ByteLevel":
        return [], []
    if kind == "Sequence":
        found = [_around(each, added) for each in post["processors"]]
        return sum((begin for begin, _ in found), []), sum((end for _, end in found), [])
    if kind in ("RobertaProcessing", "BertProcessing"):
        return [post["cls"][1]], [post["sep"][1]]
    if kind != "TemplateProcessing":
        raise ValueError(f"its post-processor is {kind!r}, which isn't read")
    sides: tuple[list[int], list[int]] = ([], [])
    behind = False
    for part in post["single"]:
        if "Sequence" in part:
            behind = True
        else:
            sides[behind].extend(post["special_tokens"][part["SpecialToken"]["id"]]["ids"])
    return sides


def _added(tokens: Any, plain: bool) -> dict[str, Special]:
    """{name: Special} of added_tokens. `plain`: nothing happens to a text before it is split."""
    found = {}
    for token in tokens if isinstance(tokens, list) else [tokens]:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or type(token.get("id")) is not int:
            raise ValueError(f"its added token {str(token)[:100]} has no content and id")
        if token.get("single_word") or token.get("normalized") and not plain:
            raise ValueError(f"its added token {token['content'][:50]!r} is looked for in another way than in the text")
        found[token["content"]] = Special(token["id"], bool(token.get("lstrip")), bool(token.get("rstrip")))
    return found


def _merges(merges: Any) -> list[Merge]:
    """Pairs from "left right" or ["left", "right"]."""
    if not isinstance(merges, list):
        raise ValueError(f"expected a list of merges, got {str(merges)[:100]}")
    found: list[Merge] = []
    for each in merges:
        match each.split(" ") if isinstance(each, str) else each:
            case [str(left), str(right)] if left and right:
                found.append((left, right))
            case _:
                raise ValueError(f"expected merges of two tokens, got {str(each)[:100]!r}")
    return found


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"expected {key} to be an object, got {str(value)[:100]}")
    return value


def _refuse(document: dict[str, Any], **known: Any) -> None:
    """Raises ValueError for fields of other values than these; None and "" are as good as absent."""
    for key, value in known.items():
        if document.get(key) not in (None, "", value):
            raise ValueError(f"its {key} is {str(document[key])[:100]}, which isn't read")


# -- the others -------------------------------------------------------------------------------------------------


def _from_pair(path: Path) -> ByteLevelBPE:
    """vocab.json with merges.txt beside it; marks such as <|endoftext|> are what no byte and no merge makes."""
    vocabulary = read_json(path)
    lines = _lines(path.with_name("merges.txt"))
    lines = lines[1:] if lines and lines[0].startswith("#version") else lines
    merges = _merges([line for line in lines if line])
    made = {left + right for left, right in merges}
    marks = {token: number for token, number in vocabulary.items() if token not in made and len(token) > 1}
    special = {token: Special(number) for token, number in marks.items() if re.fullmatch(r"<.*>", token)}
    return ByteLevelBPE({token: n for token, n in vocabulary.items() if token not in special}, merges, special)


def _from_lines(path: Path) -> WordPiece:
    config = path.with_name("tokenizer_config.json")
    told = read_json(config) if config.is_file() else {}
    lines = _lines(path)
    if len(set(lines)) != len(lines):
        raise ValueError(f"{path}: a token stands in it twice")
    return WordPiece(
        {token: number for number, token in enumerate(lines)}, lowercase=told.get("do_lower_case", True),
        strip_accents=told.get("strip_accents"), chinese=told.get("tokenize_chinese_chars", True),
    )  # fmt: skip


def _lines(path: Path) -> list[str]:
    with reading(path, "lines of text in UTF-8") as file:
        try:
            return file.read().decode("utf-8").removesuffix("\n").replace("\r\n", "\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"there is none at byte {error.start}") from None


def _from_gguf(path: Path) -> ByteLevelBPE:
    return gguf_tokenizer(load_gguf_metadata(path))


GGUF_RULES = {"smollm": "smollm", "gpt-2": "gpt2", "default": "gpt2"}
CONTROL, USER_DEFINED = 3, 4  # types of tokens


def gguf_tokenizer(facts: Mapping[str, Any]) -> ByteLevelBPE:
    """The tokenizer among the facts of a GGUF file. Raises ValueError for another kind than byte-level BPE."""
    kind, rule = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or rule not in GGUF_RULES:
        raise ValueError(f"its tokenizer: {kind!r} with the rule {rule!r}; 'gpt2' with {', '.join(GGUF_RULES)} is read")
    tokens, types = facts.get("tokenizer.ggml.tokens"), facts.get("tokenizer.ggml.token_type")
    types = [1] * len(tokens) if types is None and isinstance(tokens, list) else types
    if not isinstance(tokens, list) or not isinstance(types, list) or len(tokens) != len(types):
        raise ValueError("its tokens and their types are not two lists of one length")
    vocabulary = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(vocabulary) != len(tokens):
        raise ValueError("a token stands in it twice")
    special = {token: Special(vocabulary[token]) for token, each in zip(tokens, types, strict=True)
               if each in (CONTROL, USER_DEFINED)}  # fmt: skip
    ids: dict[str, Any] = {key: facts.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "unknown")}
    begin, end = ([ids[key]] if facts.get(f"tokenizer.ggml.add_{key}_token") else [] for key in ("bos", "eos"))
    return ByteLevelBPE({token: n for token, n in vocabulary.items() if token not in special},
                        _merges(facts.get("tokenizer.ggml.merges")), special, rule=GGUF_RULES[rule],
                        unknown=ids["unknown"], prefix_space=bool(facts.get("tokenizer.ggml.add_space_prefix", False)),
                        begin=begin, end=end)  # fmt: skip
