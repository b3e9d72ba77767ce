"""tokenizer.json, in which the library `tokenizers` writes all of a tokenizer.

    added_tokens      names with their numbers: special.py
    normalizer        what happens to a text first: nothing (BPE), BERT's (WordPiece)
    pre_tokenizer     how it is split in pieces: split.py
    model             pieces to tokens: bpe.py, wordpiece.py
    post_processor    numbers that go around
    decoder           tokens to text
    truncation        truncation.py
    padding           WordPiece's `encode_batch` pads at the end, to the longest row; `encode` never pads, for a row of
                      numbers has no mask

Every field is read with its type, or refused by its name, or said to be harmless (`harmless`): it changes offsets or
the masked part of a row, which nothing here returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scratch.messages import shown
from scratch.tokenizers.added import added_tokens
from scratch.tokenizers.bpe import LETTERS, ByteLevelBPE, Merge
from scratch.tokenizers.fields import Fields
from scratch.tokenizers.special import Special
from scratch.tokenizers.wordpiece import WordPiece

STRATEGIES = {"LongestFirst": "longest_first", "OnlyFirst": "only_first", "OnlySecond": "only_second"}
MAX_PROCESSORS = 100


def read_document(document: dict[str, Any]) -> ByteLevelBPE | WordPiece:
    """The tokenizer that a tokenizer.json describes. Raises ValueError naming the field that is wrong or isn't read."""
    file = Fields(document).harmless("version")
    model = file.object("model")
    kind = model.optional_text("type")  # which old files lack
    if kind is None and ("merges" in model.left or "max_input_chars_per_word" in model.left):
        kind = "BPE" if "merges" in model.left else "WordPiece"
    if kind not in ("BPE", "WordPiece"):
        raise ValueError(f"its model is {shown(kind)!r}; BPE and WordPiece are read")
    vocabulary: dict[str, int] = model.mapping("vocab")
    added = added_tokens(file.list("added_tokens") if "added_tokens" in file.left else [], vocabulary)
    read = _bpe if kind == "BPE" else _wordpiece
    tokenizer = read(file, model, vocabulary, added)
    model.done()
    file.done()
    return tokenizer


# -- both kinds -------------------------------------------------------------------------------------------------


def _truncation(file: Fields, marks: int) -> dict[str, Any]:
    """Arguments of the tokenizers' classes."""
    cut = file.optional_object("truncation")
    if cut is None:
        return {}
    max_length = cut.whole("max_length")
    found = {
        "max_length": max_length,
        "truncation_side": cut.one_of("direction", ("Right", "Left"), "Right").lower(),
        "truncation_strategy": STRATEGIES[cut.one_of("strategy", STRATEGIES)],
    }
    stride = cut.whole("stride", 0)  # of the further parts, which the library returns, too
    cut.done()
    if stride and stride >= max_length - marks:
        raise ValueError(f"its truncation.stride {stride} is not below the max_length {max_length} less the {marks} "
                         "marks")  # fmt: skip
    return found


def _padding(file: Fields) -> tuple[str, int, str] | None:
    """(pad_token, pad_id, direction)"""
    pad = file.optional_object("padding")
    if pad is None:
        return None
    if isinstance(pad.left.get("strategy"), dict):
        pad.object("strategy").whole("Fixed")
    else:
        pad.one_of("strategy", ("BatchLongest",))
    if "pad_to_multiple_of" in pad.left:
        pad.whole("pad_to_multiple_of")
    found = pad.text("pad_token", "[PAD]"), pad.whole("pad_id", 0), pad.one_of("direction", ("Right", "Left"), "Right")
    pad.whole("pad_type_id", 0)
    pad.done()
    return found


# -- BPE --------------------------------------------------------------------------------------------------------


def _bpe(file: Fields, model: Fields, vocabulary: dict[str, int], added: dict[str, Special]) -> ByteLevelBPE:
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.left.get(key) in ("", 0):
            model.harmless(key)
    model.refuse(dropout=None, continuing_subword_prefix=None, end_of_word_suffix=None, byte_fallback=False)
    file.refuse(normalizer=None)
    decoder = file.optional_object("decoder")
    if decoder is None or decoder.optional_text("type") != "ByteLevel":
        raise ValueError(f"its decoder is {shown(decoder and decoder.left)}; only byte-level BPE is read")
    decoder.harmless("add_prefix_space", "trim_offsets", "use_regex").done()
    rule, prefix_space = _rule(file.optional_object("pre_tokenizer"))
    begin, end = _around(file.optional_object("post_processor"))
    cut = _truncation(file, len(begin) + len(end))
    if cut.pop("truncation_strategy", None) == "only_second":
        raise ValueError("its truncation.strategy is OnlySecond, and byte-level BPE reads one text")
    _padding(file)
    return ByteLevelBPE(
        vocabulary, merge_pairs(model.list("merges")), added, rule=rule, begin=begin, end=end,
        unknown=_unknown(model, vocabulary, added), prefix_space=prefix_space,
        whole=model.flag("ignore_merges", False), **cut,
    )  # fmt: skip


def _unknown(model: Fields, vocabulary: Mapping[str, int], added: Mapping[str, Special]) -> int | None:
    token, fused = model.text("unk_token", ""), model.flag("fuse_unk", False)
    if not token:
        return None
    numbers = {**vocabulary, **{name: each.number for name, each in added.items()}}
    if token not in numbers:
        raise ValueError(f"its model.unk_token {shown(token)!r} is not in the vocabulary")
    if fused and not all(letter in vocabulary for letter in LETTERS):
        raise ValueError("its model.fuse_unk is true, which isn't read where the vocabulary lacks bytes")
    return numbers[token]


def _rule(pre: Fields | None) -> tuple[str, bool]:
    """(name of the rule, whether a text gets a space in front)"""
    kind = pre and pre.optional_text("type")
    if pre is None or kind != "Sequence":
        parts, kinds = [pre], [kind]
    else:
        parts = [Fields(each, f"pre_tokenizer.pretokenizers[{i}]") for i, each in enumerate(pre.list("pretokenizers"))]
        kinds = [part.optional_text("type") for part in parts if part is not None]
        pre.done()
    last, digits = parts[-1] if parts else None, kinds == ["Digits", "ByteLevel"]
    if last is None or not digits and kinds != ["ByteLevel"]:
        raise ValueError(f"its pre_tokenizer is {shown(kinds)}; GPT-2's (ByteLevel), alone or after single Digits, is "
                         "read")  # fmt: skip
    if digits and parts[0] is not None:
        parts[0].left.setdefault("individual_digits", False)
        parts[0].refuse(individual_digits=True)
        parts[0].done()
    last.refuse(use_regex=True)
    prefix_space = last.flag("add_prefix_space", True)
    last.harmless("trim_offsets").done()
    return ("smollm" if digits else "gpt2"), prefix_space


def _around(post: Fields | None) -> tuple[list[int], list[int]]:
    """The numbers that go before and behind a text. Of the processors in a row one may put some there."""
    waiting, found, count = ([] if post is None else [post]), [], 0
    while waiting:
        each = waiting.pop()
        kind = each.optional_text("type")
        count += 1
        if count > MAX_PROCESSORS:
            raise ValueError(f"its post_processor has more than {MAX_PROCESSORS} parts")
        if kind == "Sequence":
            waiting += [Fields(one, "post_processor.processors[]") for one in each.list("processors")]
        elif kind == "ByteLevel":
            each.harmless("add_prefix_space", "trim_offsets", "use_regex")
        elif kind in ("RobertaProcessing", "BertProcessing"):
            each.harmless("trim_offsets", "add_prefix_space")
            found.append(([_named(each, "cls")[1]], [_named(each, "sep")[1]]))
        elif kind == "TemplateProcessing":
            found.append(_template(each))
        else:
            raise ValueError(f"its {each.name} is {shown(kind)!r}, which isn't read")
        each.done()
    if len(found) > 1:
        raise ValueError(f"its post_processor has {len(found)} parts that put tokens around a text; one is read")
    return found[0] if found else ([], [])


def _named(post: Fields, key: str) -> tuple[str, int]:
    """["[CLS]", 101]"""
    match post.left.pop(key, None):
        case [str(name), int(number)] if type(number) is int:
            return name, number
        case value:
            raise post.wrong(key, "a token and its number", value)


def _template(post: Fields) -> tuple[list[int], list[int]]:
    sides: tuple[list[int], list[int]] = ([], [])
    texts = 0
    names = post.object("special_tokens") if "special_tokens" in post.left else Fields({})
    ids: dict[str, list[int]] = {}
    for part in post.list("single"):
        name, _ = piece(part, "post_processor.single")
        if name is None:
            texts += 1
            continue
        if name not in ids:
            ids[name] = names.object(name).list("ids")
        if not all(type(number) is int for number in ids[name]):
            raise names.wrong(name, "a token with a list of whole numbers, ids", ids[name])
        sides[texts > 0].extend(ids[name])
    if texts != 1:
        raise ValueError(f"its post_processor.single has the text {texts} times; once is read")
    post.harmless("pair")  # of texts, which byte-level BPE does not read here
    return sides


def piece(part: Any, where: str) -> tuple[str | None, int]:
    """(name of a special token or None for the text, type of its tokens) of one part of a template."""
    fields = Fields(part, where)
    kind = "Sequence" if "Sequence" in fields.left else "SpecialToken"
    inner = fields.object(kind)
    fields.done()
    name, number = inner.text("id", ""), inner.whole("type_id", 0)
    inner.done()
    if kind == "Sequence" and name != "A":
        return f"${name}", number
    return (None if kind == "Sequence" else name), number


def merge_pairs(merges: list[Any]) -> list[Merge]:
    """Pairs from "left right" or ["left", "right"]. Raises ValueError."""
    found: list[Merge] = []
    for each in merges:
        match each.split(" ") if isinstance(each, str) else each:
            case [str(left), str(right)] if left and right:
                found.append((left, right))
            case _:
                raise ValueError(f"expected merges of two tokens, got {shown(each)!r}")
    return found


# -- WordPiece --------------------------------------------------------------------------------------------------


def _wordpiece(file: Fields, model: Fields, vocabulary: dict[str, int], added: dict[str, Special]) -> WordPiece:
    normalizer, pre = file.optional_object("normalizer"), file.optional_object("pre_tokenizer")
    kinds = [part and part.optional_text("type") for part in (normalizer, pre)]
    if normalizer is None or pre is None or kinds != ["BertNormalizer", "BertPreTokenizer"]:
        raise ValueError(f"its normalizer and pre_tokenizer are {shown(kinds[0])} and {shown(kinds[1])}, not BERT's")
    pre.done()
    numbers = vocabulary | {name: each.number for name, each in added.items()}
    first, last = _marks(file.optional_object("post_processor"), numbers)
    prefix = model.text("continuing_subword_prefix", "##")
    pad, pad_id, side = _padding(file) or ("[PAD]", None, "Right")
    if side != "Right" or pad_id not in (None, numbers.get(pad)):
        raise ValueError(f"its padding is {shown(pad)!r}, number {pad_id}, on the {side.lower()}; a token of the "
                         "vocabulary, on the right, is read")  # fmt: skip
    tokenizer = WordPiece(
        vocabulary, lowercase=normalizer.flag("lowercase", True), clean=normalizer.flag("clean_text", True),
        strip_accents=normalizer.optional_flag("strip_accents"), pad=pad, special=added, prefix=prefix,
        chinese=normalizer.flag("handle_chinese_chars", True), unknown=model.text("unk_token", "[UNK]"),
        first=first, last=last, max_letters=model.whole("max_input_chars_per_word", 100),
        cleanup=_cleanup(file.optional_object("decoder"), prefix), **_truncation(file, 2),
    )  # fmt: skip
    normalizer.done()
    return tokenizer


def _cleanup(decoder: Fields | None, prefix: str) -> bool:
    if decoder is None:
        return False
    decoder.refuse(type="WordPiece", prefix=prefix)
    cleanup = decoder.flag("cleanup", True)
    decoder.done()
    return cleanup


def _marks(post: Fields | None, numbers: Mapping[str, int]) -> tuple[str, str]:
    """The marks before and behind a text; a pair must have them as BERT's has: [CLS] A [SEP] B [SEP]."""
    kind = post and post.optional_text("type")
    if post is not None and kind == "BertProcessing":
        found = [_named(post, "cls"), _named(post, "sep")]
    elif post is not None and kind == "TemplateProcessing":
        single = [piece(part, "post_processor.single") for part in post.list("single")]
        pair = [piece(part, "post_processor.pair") for part in post.list("pair")] if "pair" in post.left else None
        match single:
            case [(str(first), 0), (None, 0), (str(last), 0)]:
                names = first, last
            case _:
                raise ValueError("its post_processor.single puts no mark before a text and one behind it, as BERT's")
        if pair is not None and pair != [*single, ("$B", 1), (last, 1)]:
            raise ValueError("its post_processor.pair isn't [CLS] A [SEP] B [SEP], as BERT's is")
        tokens = post.object("special_tokens")
        ids = {name: _only(tokens.object(name)) for name in set(names)}
        found = [(name, ids[name]) for name in names]
    else:
        raise ValueError(f"its post_processor is {shown(kind)}, which puts no marks around a text as BERT's does")
    post.done()
    for name, number in found:
        if numbers.get(name) != number:
            raise ValueError(f"its post_processor has the number {number} for {shown(name)!r}, the vocabulary "
                             f"{shown(numbers.get(name))}")  # fmt: skip
    return found[0][0], found[1][0]


def _only(token: Fields) -> int:
    match token.list("ids"):
        case [int(number)] if type(number) is int:
            return number
        case value:
            raise token.wrong("ids", "one whole number", value)
