"""Tokenizers in several files, as `transformers` wrote them before there was a tokenizer.json.

    vocab.json, merges.txt      GPT-2's and RoBERTa's: {token: number}, and a line "left right" for each merge
    vocab.txt                   BERT's: one token a line, numbered from 0
    tokenizer_config.json       the class, its options, the names of special tokens, added_tokens_decoder
    special_tokens_map.json     the names of special tokens, of older versions
    added_tokens.json           {token: number}, of older versions
    config.json                 of the network; its model_type says which class, where nothing else does

The class decides what goes around a text and which names are special: GPT-2's puts nothing there, RoBERTa's and BART's
<s> and </s>, BERT's [CLS] and [SEP]. What isn't known here is refused. Source: transformers 5.24, whose classes build
their tokenizers of these files; the models' `mask_token` takes the white space on its left as in their published
tokenizer.json, for what 5.24 makes of the two files alone doesn't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scratch.messages import shown
from scratch.tokenizers.added import added_token, check_numbers
from scratch.tokenizers.bpe import ByteLevelBPE
from scratch.tokenizers.fields import Fields
from scratch.tokenizers.json_file import merge_pairs
from scratch.tokenizers.special import Special
from scratch.tokenizers.wordpiece import WordPiece
from scratch.weights import read_json
from scratch.weights.files import reading

MAX_LINES = 100_000_000  # bytes of a vocab.txt or merges.txt; those of 250,000 tokens have about 5 million
GPT2 = {"unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
           "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip
BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
CLASSES = {"GPT2": GPT2, "Roberta": ROBERTA, "Bart": ROBERTA, "Longformer": ROBERTA, "LED": ROBERTA, "Bert": BERT,
           "DistilBert": BERT, "Electra": BERT, "MobileBert": BERT, "ConvBert": BERT, "LayoutLM": BERT}  # fmt: skip
MODEL_TYPES = {"gpt2": "GPT2", "gpt_neo": "GPT2", "gptj": "GPT2", "roberta": "Roberta", "bart": "Bart",
               "longformer": "Longformer", "led": "LED", "bert": "Bert", "distilbert": "DistilBert",
               "electra": "Electra", "mobilebert": "MobileBert", "convbert": "ConvBert",
               "layoutlm": "LayoutLM"}  # fmt: skip
LISTS = ("additional_special_tokens", "extra_special_tokens")


def read_vocab_json(path: Path) -> ByteLevelBPE:
    """vocab.json with merges.txt beside it."""
    vocabulary = read_json(path)
    lines = read_lines(path.with_name("merges.txt"))
    lines = lines[1:] if lines and lines[0].startswith("#version") else lines
    merges = merge_pairs([line for line in lines if line])
    settings = read_settings(path, vocabulary, (GPT2, ROBERTA))
    if settings is None:  # no file says what it is: GPT-2's, with all marks that no byte and no merge makes
        if "<s>" in vocabulary and "</s>" in vocabulary:
            raise ValueError("it has <s> and </s>, and no tokenizer_config.json or config.json says whether they go "
                             "around a text")  # fmt: skip
        made = {left + right for left, right in merges}
        marks = [token for token in vocabulary if token not in made and re.fullmatch(r"<.+>", token, re.DOTALL)]
        return ByteLevelBPE(vocabulary, merges, {token: Special(vocabulary[token]) for token in marks})
    options, begin, end = settings.options, [], []
    if settings.family is ROBERTA:
        begin, end = [settings.number("cls_token")], [settings.number("sep_token")]
    else:
        begin = [settings.number("bos_token")] if options.flag("add_bos_token", False) else []
        end = [settings.number("eos_token")] if options.flag("add_eos_token", False) else []
    prefix_space = options.flag("add_prefix_space", False)
    return ByteLevelBPE(vocabulary, merges, settings.added, begin=begin, end=end, prefix_space=prefix_space)


def read_vocab_txt(path: Path) -> WordPiece:
    """vocab.txt"""
    lines = read_lines(path)
    vocabulary = {token: number for number, token in enumerate(lines)}
    if len(vocabulary) != len(lines):
        twice = next(token for number, token in enumerate(lines) if vocabulary[token] != number)
        raise ValueError(f"a token stands in it twice: {shown(twice)!r}")
    settings = read_settings(path, vocabulary, (BERT,))
    if settings is None:
        return WordPiece(vocabulary, cleanup=True)
    options, marks = settings.options, settings.marks
    options.refuse(do_basic_tokenize=True, never_split=[])
    return WordPiece(
        vocabulary, lowercase=options.flag("do_lower_case", True), chinese=options.flag("tokenize_chinese_chars", True),
        strip_accents=options.optional_flag("strip_accents"), unknown=marks["unk_token"], first=marks["cls_token"],
        last=marks["sep_token"], pad=marks["pad_token"], special=settings.added, cleanup=True,
    )  # fmt: skip


def check_config(path: Path, tokenizer: ByteLevelBPE | WordPiece) -> None:
    """Raises ValueError where a tokenizer_config.json says otherwise than the tokenizer.json beside it."""
    told = optional_json(path.with_name("tokenizer_config.json"))
    options = Fields(told or {}, "tokenizer_config.json")
    if isinstance(tokenizer, ByteLevelBPE):
        options.refuse(add_prefix_space=tokenizer.prefix_space)
    else:
        options.refuse(do_lower_case=tokenizer.lowercase, strip_accents=tokenizer.strip_accents,
                       tokenize_chinese_chars=tokenizer.chinese)  # fmt: skip
    options.refuse(split_special_tokens=False)
    for name, token in decoder_tokens(options).items():
        here = tokenizer.special.get(name)
        if here is None or here[:4] != token[:4]:  # number, lstrip, rstrip, single_word
            raise ValueError(f"its added token {shown(name)!r} is {here}, in tokenizer_config.json {token}")


# -- what the files beside a vocabulary say ----------------------------------------------------------------------


class Settings(NamedTuple):
    """options: the fields of tokenizer_config.json. family: GPT2, ROBERTA or BERT. marks: {"cls_token": "<s>", ...}.
    added: {name: Special}, with numbers that the vocabulary knows or that follow it."""

    options: Fields
    family: dict[str, str]
    marks: dict[str, str]
    added: dict[str, Special]

    def number(self, key: str) -> int:
        """The number of a mark. Raises ValueError where the vocabulary lacks it."""
        if self.marks[key] not in self.added:
            raise ValueError(f"its {key} {shown(self.marks[key])!r} is not in the vocabulary")
        return self.added[self.marks[key]].number


def read_settings(
    path: Path, vocabulary: Mapping[str, Any], families: tuple[dict[str, str], ...]
) -> Settings | None:  # fmt: skip
    """What the files say that lie beside a vocabulary; None where there are none. Raises ValueError."""
    names = ("tokenizer_config", "special_tokens_map", "added_tokens", "config")
    config, older, numbers, network = (optional_json(path.with_name(f"{name}.json")) for name in names)
    if (config, older, numbers, network) == (None,) * 4:
        return None
    options = Fields(config or {}, "tokenizer_config.json")
    options.refuse(split_special_tokens=False)
    family = family_of(options, Fields(network or {}, "config.json"), families, vocabulary)
    added = decoder_tokens(options)
    sources = [options.left] if added else [options.left, older or {}]  # the one that comes later counts
    marks, flags = dict(family), {}
    for source in sources:
        for key, value in source.items():
            for name, token in named_tokens(key, value):
                flags[name] = token
                if key not in LISTS:
                    marks[key] = name
    special = {*marks.values(), *flags}
    add_numbers(added, numbers or {}, special)
    for name in special:
        if name in added:
            added[name] = added[name]._replace(special=True)
        elif name in vocabulary:
            strip = family is ROBERTA and name == marks["mask_token"]
            added[name] = flags.get(name, Special(0, lstrip=strip))._replace(number=vocabulary[name], special=True)
        elif name in flags:
            raise ValueError(f"its special token {shown(name)!r} has no number in the vocabulary or the added tokens")
    check_numbers({name: token.number for name, token in added.items()}, vocabulary)
    return Settings(options, family, marks, added)


def family_of(
    options: Fields, network: Fields, families: tuple[dict[str, str], ...], vocabulary: Mapping[str, Any]
) -> dict[str, str]:  # fmt: skip
    """The marks of the class that a folder names. Raises ValueError for one that isn't read."""
    kind = options.optional_text("tokenizer_class") or network.optional_text("tokenizer_class")
    model = network.optional_text("model_type")
    if kind is None and model is not None:
        kind = MODEL_TYPES.get(model, model)
    elif kind is None:
        kind = "Bert" if BERT in families else "Roberta" if "<s>" in vocabulary and "</s>" in vocabulary else "GPT2"
    family = CLASSES.get(kind.removesuffix("Fast").removesuffix("Tokenizer"))
    if family is None or family not in families:
        known = [name for name, each in CLASSES.items() if each in families]
        raise ValueError(f"its tokenizer's class or model_type is {shown(kind)!r}; {', '.join(known)} are read")
    return family


def decoder_tokens(options: Fields) -> dict[str, Special]:
    """{name: Special} of added_tokens_decoder: {"50264": {"content": "<mask>", "lstrip": true, ...}}."""
    found: dict[str, Special] = {}
    entries = options.optional_object("added_tokens_decoder")
    for key in list(entries.left) if entries else []:
        assert entries is not None
        fields = entries.object(key)
        name = fields.text("content", "")
        if not key.isascii() or not key.isdigit() or len(key) > 10 or name in found:
            raise ValueError(f"expected {entries.name} to have numbers and different tokens, got {shown(key)!r}: "
                             f"{shown(name)!r}")  # fmt: skip
        found[name] = added_token(fields.harmless("__type"), int(key))
    return found


def named_tokens(key: str, value: Any) -> list[tuple[str, Special]]:
    """[(name, Special without a number)] of a field such as "mask_token": "<mask>", or of one of LISTS."""
    values = list(value.values()) if key in LISTS and isinstance(value, dict) else value if key in LISTS else [value]
    if not key.endswith("_token") and key not in LISTS or value is None or isinstance(value, bool):
        return []
    if not isinstance(values, list):
        raise ValueError(f"expected {shown(key)} to be a list of tokens, got {shown(value)}")
    found = []
    for each in values:
        fields = Fields({"content": each} if isinstance(each, str) else each, shown(key)).harmless("__type")
        found.append((fields.text("content", ""), added_token(fields, 0, special=True, normalized=False)))
    return found


def add_numbers(added: dict[str, Special], numbers: Mapping[str, Any], special: set[str]) -> None:
    """Put the tokens of added_tokens.json into `added`. Raises ValueError where added_tokens_decoder has others."""
    known = bool(added)
    fields = Fields(dict(numbers), "added_tokens.json")
    for name in list(fields.left):
        number = fields.whole(name)
        if not known:
            added[name] = Special(number, normalized=name not in special, special=name in special)
        elif name not in added or added[name].number != number:
            raise ValueError(f"its added token {shown(name)!r} has the number {number} in added_tokens.json, and not "
                             "in added_tokens_decoder")  # fmt: skip


# -- files ------------------------------------------------------------------------------------------------------


def optional_json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def read_lines(path: Path) -> list[str]:
    r"""Lines end in \n or \r\n and in nothing else: U+2028 and \x85 are tokens of some vocabularies."""
    with reading(path, "lines of text in UTF-8") as file:
        raw = file.read(MAX_LINES + 1)
        if len(raw) > MAX_LINES:
            raise ValueError(f"it has more than {MAX_LINES} bytes")
        try:
            return raw.decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"there is none at byte {error.start}") from None
