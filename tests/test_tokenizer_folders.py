"""Tokenizers as people have them: folders of older files, and every field of the newer ones, used or refused by name.

Numbers are those of tokenizers 0.23.3, for folders without a tokenizer.json of transformers 5.24.0 (AutoTokenizer).
"""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path

import pytest

from scratch.tokenizers import (
    ByteLevelBPE,
    Special,
    TextStream,
    WordPiece,
    chat_tokens,
    gguf_tokenizer,
    load_tokenizer,
    split_llamacpp,
    train_bpe,
)
from scratch.tokenizers.bpe import LETTERS
from scratch.tokenizers.special import is_word
from scratch.tokenizers.truncation import shortened
from scratch.tokenizers.wordpiece import nfd, without_accents

V = {letter: i for i, letter in enumerate(sorted(LETTERS))}  # a is 64, the space Ġ 220
W = {token: i for i, token in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] a b ##b c . ! é e x y ' s , ? ##".split())}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
AROUND = {"type": "RobertaProcessing", "sep": ["</s>", 257], "cls": ["<s>", 256], "trim_offsets": True,
          "add_prefix_space": True}  # fmt: skip


def token(content: str, number: int, **flags: object) -> dict:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **plain, **flags}


MARKS = [token(name, i) for i, name in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK]".split())]
ENDS = [token("<s>", 256), token("</s>", 257)]


def bpe_document(added=(), vocabulary=V, merges=(), model=(), **fields) -> dict:
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "fuse_unk": False,
             "end_of_word_suffix": None, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary,
             "merges": list(merges), **dict(model)}  # fmt: skip
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added), "normalizer": None,
            "pre_tokenizer": BYTES, "post_processor": None, "decoder": BYTES, "model": model, **fields}  # fmt: skip


def wordpiece_document(added=MARKS, model=(), **fields) -> dict:
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                  "lowercase": True}  # fmt: skip
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": W, **dict(model)}  # fmt: skip
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added),
            "normalizer": normalizer, "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": model,
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}, **fields}  # fmt: skip


def read(folder: Path, document: object):
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return load_tokenizer(folder)


def pair_folder(folder: Path, vocabulary: dict, merges: str = "", **files: object) -> Path:
    (folder / "merges.txt").write_bytes(b"#version: 0.2\n" + merges.encode())
    for name, document in {"vocab": vocabulary, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def list_folder(folder: Path, tokens: list[str], **files: object) -> Path:
    (folder / "vocab.txt").write_bytes(("\n".join(tokens) + "\n").encode())
    for name, document in files.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


# -- folders without a tokenizer.json ----------------------------------------------------------------------------

R = V | {"<s>": 256, "<pad>": 257, "</s>": 258, "<unk>": 259, "<mask>": 260}
G = V | {"<|endoftext|>": 256}
BART = {"tokenizer_config": {"tokenizer_class": "BartTokenizer"}, "config": {"model_type": "bart"}}
GPT2 = {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"}, "config": {"model_type": "gpt2"}}
STRIP = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
NO_STRIP = STRIP | {"lstrip": False, "__type": "AddedToken"}


def config(kind: str, **fields: object) -> dict:
    return {"tokenizer_config": {"tokenizer_class": kind, **fields}}


DECODER = {"256": token("<|endoftext|>", 0, normalized=True), "257": token("<think>", 0, special=False),
           "258": token("<l>", 0, lstrip=True)}  # fmt: skip
DECODER = {key: {name: value for name, value in each.items() if name != "id"} for key, each in DECODER.items()}


@pytest.mark.parametrize(("vocabulary", "files", "text", "numbers"), [
    (R, BART, "ab", [256, 64, 65, 258]), (R, BART, " ab", [256, 220, 64, 65, 258]),
    (R, BART, "a<s>b", [256, 64, 256, 65, 258]), (R, {"config": {"model_type": "bart"}}, "ab", [256, 64, 65, 258]),
    (R, BART, "a <mask> b", [256, 64, 260, 220, 65, 258]),  # as the published tokenizer.json; 5.24 keeps the space
    (R, BART | {"special_tokens_map": {"mask_token": STRIP}}, "a <mask> b", [256, 64, 260, 220, 65, 258]),
    (R, config("BartTokenizer", mask_token=NO_STRIP), "a <mask>", [256, 64, 220, 260, 258]),
    (R, config("RobertaTokenizerFast", add_prefix_space=True), "ab", [256, 220, 64, 65, 258]),
    (R, config("LongformerTokenizer"), "ab", [256, 64, 65, 258]), (R, config("LEDTokenizer"), "ab", [256, 64, 65, 258]),
    (R, config("RobertaTokenizer") | {"config": {"model_type": "gpt2"}}, "ab", [256, 64, 65, 258]),
    (R, BART | {"special_tokens_map": {"cls_token": "<pad>", "sep_token": "<unk>"}}, "ab", [257, 64, 65, 259]),
    (R, config("GPT2Tokenizer", add_bos_token=True, bos_token="</s>", eos_token="</s>", unk_token="</s>"), "ab",
     [258, 64, 65]),
    (G, GPT2, "a<|endoftext|>b", [64, 256, 65]), (G, GPT2, " a", [220, 64]), (G, {}, "a<|endoftext|>", [64, 256]),
    (G, GPT2 | {"added_tokens": {"<|pad|>": 257, " x": 258}}, "a<|pad|>b x", [64, 257, 65, 258]),
    (G, GPT2 | {"added_tokens": {"a": 64}}, "aab", [64, 64, 65]),
    (G, config("GPT2Tokenizer", add_prefix_space=True), "ab<|endoftext|>c", [220, 64, 65, 256, 220, 66]),
    (G, config("GPT2Tokenizer", add_bos_token=True), "ab", [256, 64, 65]),
    (G, config("GPT2Tokenizer", add_eos_token=True), "ab", [64, 65, 256]),
    (G, config("GPT2Tokenizer", added_tokens_decoder=DECODER), "a<think>b <l>", [64, 257, 65, 258]),
    (G, config("GPT2Tokenizer", extra_special_tokens=["<c>"], image_token="<i>") | {"added_tokens": {"<i>": 257,
     "<c>": 258}}, "a<c><i>", [64, 258, 257]),
])  # fmt: skip
def test_folders_of_gpt2_and_bart(tmp_path, vocabulary, files, text, numbers):
    assert load_tokenizer(pair_folder(tmp_path, vocabulary, **files)).encode(text).tolist() == numbers
    assert load_tokenizer(tmp_path / "vocab.json").encode(text).tolist() == numbers


def test_which_added_tokens_decoding_leaves_out(tmp_path):
    files = GPT2 | {"added_tokens": {"<|pad|>": 257, "<x>": 258}, "special_tokens_map": {"pad_token": "<|pad|>"}}
    t = load_tokenizer(pair_folder(tmp_path, G, **files))
    assert t.decode([64, 256, 257, 258], special=False) == "a<x>" and t.decode([256]) == "<|endoftext|>"


B = "[PAD] [UNK] [CLS] [SEP] [MASK] a b ##b c . ! é e x y".split()


@pytest.mark.parametrize(("tokens", "files", "text", "numbers"), [
    (B, config("BertTokenizer"), "ab É! a . [MASK] [PAD]", [2, 5, 7, 12, 10, 5, 9, 4, 0, 3]),
    (B, config("BertTokenizer") | {"added_tokens": {"[NEW]": 15, "Éx": 16}}, "a[new]b [NEW] ÉX exx",
     [2, 5, 15, 6, 15, 16, 16, 13, 3]),
    (["<p>", "<u>", "<c>", "<s>", "<m>", "a", "b"], config("BertTokenizer") | {"special_tokens_map": {
     "pad_token": "<p>", "unk_token": "<u>", "cls_token": "<c>", "sep_token": "<s>", "mask_token": "<m>"}},
     "a b z <m>", [2, 5, 6, 1, 4, 3]),
    (B, config("DistilBertTokenizer"), "ab", [2, 5, 7, 3]),
    (B, {"config": {"model_type": "electra"}}, "ab", [2, 5, 7, 3]),
    (B, {"tokenizer_config": {"do_lower_case": False}}, "É", [2, 1, 3]), (B, {}, "É", [2, 12, 3]),
    (B, config("BertTokenizer", model_max_length=4), "a b c a b c", [2, 5, 6, 8, 5, 6, 8, 3]),
])  # fmt: skip
def test_folders_of_bert(tmp_path, tokens, files, text, numbers):
    t = load_tokenizer(list_folder(tmp_path, tokens, **files))
    assert t.encode(text).tolist() == numbers and isinstance(t, WordPiece)


@pytest.mark.parametrize(("vocabulary", "files", "words"), [
    (G, config("Qwen2Tokenizer"), "'Qwen2Tokenizer'"), (G, config("CLIPTokenizerFast"), "'CLIPTokenizerFast'"),
    (R, config("BlenderbotTokenizer"), "Blenderbot"), (G, {"config": {"model_type": "qwen2"}}, "'qwen2'"),
    (R, {}, "<s> and </s>"), (V, BART, "cls_token '<s>' is not in"),
    (G, config("BertTokenizer"), "GPT2, Roberta, Bart"),
    (G, GPT2 | {"added_tokens": {"<x>": 300}}, "'<x>' has the number 300, .* 257"),
    (G, GPT2 | {"added_tokens": {"<x>": 10**12}}, "added_tokens.json.<x> to be a whole number"),
    (G, GPT2 | {"added_tokens": {"<x>": 257.0}}, "added_tokens.json.<x> .* got 257.0"),
    (G, GPT2 | {"special_tokens_map": {"pad_token": "<zzz>"}}, "'<zzz>' has no number"),
    (G, GPT2 | {"special_tokens_map": {"pad_token": 3}}, "pad_token to be an object, got 3"),
    (G, GPT2 | {"special_tokens_map": {"additional_special_tokens": "<a>"}}, "additional_special_tokens to be a list"),
    (G, config("GPT2Tokenizer", add_prefix_space="yes"), "tokenizer_config.json.add_prefix_space to be true or false"),
    (G, config("GPT2Tokenizer", split_special_tokens=True), "split_special_tokens is True"),
    (G, config("GPT2Tokenizer", added_tokens_decoder=DECODER) | {"added_tokens": {"<q>": 259}}, "'<q>' .* 259"),
    (G, config("GPT2Tokenizer", added_tokens_decoder={"x": DECODER["256"]}), "'x'"),
    (G, config("GPT2Tokenizer", added_tokens_decoder={"256": {"content": "<y>", "lstrip": 1}}), "256.lstrip"),
    (G, config("GPT2Tokenizer", added_tokens_decoder=[]), "added_tokens_decoder to be an object"),
    (G, {"tokenizer_config": {"tokenizer_class": 3}}, "tokenizer_config.json.tokenizer_class to be text, got 3"),
    (V | {"<x>": 10**12}, GPT2, "1000000000000"), (V | {"<x>": -1}, GPT2, "-1"),
    (V | {"<x>": 64}, GPT2, "the number 64"),
    (V | {"<x>": 2.0}, GPT2, "2.0"), (V | {"<x>": None}, GPT2, "None"), (V | {"\ud800": 256}, GPT2, "surrogate"),
])  # fmt: skip
def test_folders_that_are_refused(tmp_path, vocabulary, files, words):
    with pytest.raises(ValueError, match=rf"vocab\.json: .*{words}"):
        load_tokenizer(pair_folder(tmp_path, vocabulary, **files))


@pytest.mark.parametrize(("files", "words"), [
    (config("MPNetTokenizer"), "'MPNetTokenizer'"), (config("BertTokenizer", do_basic_tokenize=False), "do_basic"),
    (config("BertTokenizer", never_split=["a"]), "never_split"),
    (config("BertTokenizer", do_lower_case=1), "do_lower_case"),
    (config("BertTokenizer", strip_accents="no"), "strip_accents to be true or false, got no"),
    (config("BertTokenizer", cls_token="<c>"), "'<c>' has no number"),
])  # fmt: skip
def test_lists_that_are_refused(tmp_path, files, words):
    with pytest.raises(ValueError, match=rf"vocab\.txt: .*{words}"):
        load_tokenizer(list_folder(tmp_path, B, **files))


def test_a_line_ends_where_a_line_ends(tmp_path, monkeypatch):
    odd = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\x85", "\u2028", "\x1c", "a"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*odd, ""]).encode())
    assert list(load_tokenizer(tmp_path).vocabulary) == odd
    two = pair_folder(tmp_path, V | {"ab": 256}, "a b\r\n")
    assert load_tokenizer(two / "vocab.json").encode("ab").tolist() == [256]
    monkeypatch.setattr("scratch.tokenizers.folder_files.MAX_LINES", 10)
    for name in ("vocab.txt", "vocab.json"):
        with pytest.raises(ValueError, match="more than 10 bytes"):
            load_tokenizer(tmp_path / name)


def test_a_config_that_contradicts_its_tokenizer(tmp_path):
    def beside(document: dict, **fields: object):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
        return read(tmp_path, document)

    mask = {key: value for key, value in token("<mask>", 0, lstrip=True).items() if key != "id"}
    document = bpe_document([token("<mask>", 256, lstrip=True)])
    beside(document, add_prefix_space=False, added_tokens_decoder={"256": mask}, tokenizer_class="Any")
    beside(wordpiece_document(), do_lower_case=True, strip_accents=None, tokenize_chinese_chars=True)
    for wrong, fields, words in (
        (document, {"add_prefix_space": True}, "add_prefix_space is True"),
        (document, {"added_tokens_decoder": {"257": mask}}, "'<mask>'"),
        (document, {"added_tokens_decoder": {"256": mask | {"lstrip": False}}}, "'<mask>'"),
        (wordpiece_document(), {"do_lower_case": False}, "do_lower_case is False"),
    ):
        with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{words}"):
            beside(wrong, **fields)


# -- added tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("added", "text", "numbers"), [
    ([token("<m>", 256, lstrip=True), token("  ", 257)], "  <m>", [257, 256]),
    ([token("<m>", 256, lstrip=True), token("  ", 257)], "a   <m>", [64, 257, 256]),
    ([token("<m>", 256, lstrip=True), token("  ", 257)], "     <m>", [257, 257, 256]),
    ([token("<r>", 256, rstrip=True), token("<l>", 257, lstrip=True)], "a <l> <r> <l> b",
     [64, 257, 220, 256, 257, 220, 65]),
    ([token("<r>", 256, rstrip=True), token("  ", 257)], "<r> <r>  <r>", [256, 256, 257, 256]),
    ([token(" ", 256, lstrip=True, rstrip=True)], "a   b", [64, 256, 65]),
    ([token("<m>", 256, lstrip=True)], "a\x1c<m>", [64, 216, 256]),
    ([token("<m>", 256, lstrip=True)], "a\u3000\x85<m>", [64, 256]),
    ([token("the", 256, single_word=True)], "the the, xthe the_ the\u0301 \u24d0the \u200dthe \u00b2the",
     [256, 220, 256, 11, 220, 87, 83, 71, 68, 220, 83, 71, 68, 62, 220, 83, 71, 68, 136, 223, 220, 158, 241, 238, 83,
      71, 68, 220, 158, 222, 235, 83, 71, 68, 220, 126, 110, 256]),
    ([token("ab", 256), token("abc", 257, single_word=True)], "abcd abc", [64, 65, 66, 67, 220, 257]),
    ([token("ab", 256, normalized=True), token("ba", 257)], "aba", [64, 257]),
])  # fmt: skip
def test_added_tokens_are_the_librarys(tmp_path, added, text, numbers):
    assert read(tmp_path, bpe_document(added)).encode(text).tolist() == numbers


def test_tokens_that_are_not_special_are_text(tmp_path):
    added = [token("<|end|>", 256), token("<think>", 257, special=False), token("    ", 258, special=False)]
    t = read(tmp_path, bpe_document(added))
    numbers = t.encode("a<think>b    c<|end|>")
    assert numbers.tolist() == [64, 257, 65, 258, 66, 256]
    assert t.decode(numbers, special=False) == "a<think>b    c" and t.decode(numbers) == "a<think>b    c<|end|>"
    stream = TextStream(t)
    assert "".join(map(stream.add, numbers)) + stream.close() == "a<think>b    c"
    assert t.encode("<think><|end|>", special=False)[0] == 257 and 256 not in t.encode("<|end|>", special=False)


def test_a_character_split_over_tokens_with_a_hidden_one_between(tmp_path):
    t = read(tmp_path, bpe_document([token("<|end|>", 256), token("<x>", 257, special=False)]))
    first, second = t.encode("é").tolist()
    for special in (False, True):
        for numbers in ([first, 256, second, 64], [first, 257, second], [first], [64, second, 257]):
            stream = TextStream(t, special)
            assert "".join(map(stream.add, numbers)) + stream.close() == t.decode(numbers, special)
    for wrong in (1.5, "1", None, 258, -1):
        with pytest.raises(ValueError, match="decode expected"):
            TextStream(t).add(wrong)


@pytest.mark.parametrize("normalized", [False, True])
def test_an_added_token_that_merges_make_too(tmp_path, normalized):
    vocabulary, merges = V | {"he": 256, "the": 257, "they": 258}, ["h e", "t he", "the y"]
    document = bpe_document([token("the", 257, special=False, normalized=normalized)], vocabulary, merges)
    assert read(tmp_path, document).encode("xthey").tolist() == [87, 257, 88]
    spaced = bpe_document([token("Ġa", 256)], V | {"Ġa": 256}, ["Ġ a"])
    t = read(tmp_path, spaced)
    assert t.encode(" a").tolist() == [256] and t.decode([256]) == " a"


def test_added_tokens_of_wordpiece(tmp_path):
    n = len(W)
    added = [*MARKS, token("ÉX", n, normalized=True, special=False),
             token("Q q", n + 1, normalized=True, special=False), token("[N]", n + 2)]  # fmt: skip
    t = read(tmp_path, wordpiece_document(added))
    assert t.encode("ÉX éx ex EX exex q Q [n][N] aexb").tolist() == [
        2, 20, 20, 20, 20, 20, 20, 21, 1, 1, 1, 22, 5, 20, 6, 3]  # fmt: skip
    assert t.encode("a\u3000q q中ex").tolist() == [2, 5, 21, 1, 20, 3]
    assert t.decode([2, 5, n, n + 1, 4, 6, 3], special=False) == "a ex q q b" and len(t) == n + 3
    assert read(tmp_path, wordpiece_document([])).encode("a [SEP] b").tolist() == [2, 5, 1, 1, 1, 6, 3]
    one = token("a b", n, normalized=True, single_word=True, lstrip=True, rstrip=True)
    assert read(tmp_path, wordpiece_document([*MARKS, one])).encode("c  A B  c aa b").tolist() == [2, 8, 20, 8, 1, 6, 3]


def test_wordpieces_decoder(tmp_path):
    t = read(tmp_path, wordpiece_document())
    for numbers, text in (([5, 6, 7, 9], "a bb."), ([7, 5], "##b a"), ([5, 19, 6], "a b"), ([5, 10, 18], "a!?"),
                          ([9, 9], ".."), ([16, 17], "s,"), ([4, 5, 3], "[MASK] a [SEP]")):  # fmt: skip
        assert t.decode(numbers) == text
    plain = read(tmp_path, wordpiece_document(decoder={"type": "WordPiece", "prefix": "##", "cleanup": False}))
    assert plain.decode([5, 6, 7, 9, 16, 17]) == "a bb . s ,"


def test_a_word_is_what_unicode_calls_one():
    assert all(map(is_word, "aé中9٣_‿Ⅷⓐ\u0301\u200c\u200d")) and not any(map(is_word, ["", " ", "-", "²", "$", "\x1c"]))


@pytest.mark.parametrize("name", ["", "x" * 1001, "\ud800"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match=r"special tokens|surrogate pair"):
        ByteLevelBPE(V, [], {name: Special(256)})


# -- spaces in front, truncation, padding ------------------------------------------------------------------------

PREFIXED = BYTES | {"add_prefix_space": True}
DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, PREFIXED]}


@pytest.mark.parametrize(("pre", "text", "numbers"), [
    (PREFIXED, "", []), (PREFIXED, "\ta", [220, 197, 64]), (PREFIXED, "a<s>b", [220, 64, 256, 220, 65]),
    (PREFIXED, "a<s> b", [220, 64, 256, 220, 65]), (PREFIXED, "\xa0a", [220, 126, 254, 64]), (PREFIXED, " ", [220]),
    (DIGITS, "a1b", [220, 64, 220, 16, 220, 65]), (DIGITS, "12", [220, 16, 220, 17]), (DIGITS, "", []),
    (DIGITS, " 1 2", [220, 220, 16, 220, 220, 17]), (DIGITS, "1<s>a ", [220, 16, 256, 220, 64, 220]),
    (DIGITS, "a\u00b2b", [220, 64, 220, 126, 110, 220, 65]), ({"type": "ByteLevel"}, "a", [220, 64]),
])  # fmt: skip
def test_spaces_in_front(tmp_path, pre, text, numbers):
    assert read(tmp_path, bpe_document(ENDS, pre_tokenizer=pre)).encode(text).tolist() == numbers


def cut(max_length: object = 4, **fields: object) -> dict:
    return {"truncation": {"direction": "Right", "max_length": max_length, "strategy": "LongestFirst", "stride": 0,
                           **fields}}  # fmt: skip


@pytest.mark.parametrize(("side", "around", "inside"), [
    ("Right", [256, 64, 65, 257], [64, 65, 66, 67]), ("Left", [256, 68, 69, 257], [66, 67, 68, 69]),
])  # fmt: skip
def test_truncation_of_bpe(tmp_path, side, around, inside):
    for strategy in ("LongestFirst", "OnlyFirst"):
        options = cut(direction=side, strategy=strategy, stride=1)
        t = read(tmp_path, bpe_document(ENDS, post_processor=AROUND, **options))
        assert t.encode("abcdef").tolist() == around and t.encode("abcdef", around=False).tolist() == inside
        assert t.encode("a").tolist() == [256, 64, 257] and len(t.body("abcdef")) == 6
    t = read(tmp_path, bpe_document(ENDS, post_processor=AROUND, **cut(2)))
    assert t.encode("abc").tolist() == [256, 257]


@pytest.mark.parametrize(("side", "strategy", "texts", "numbers"), [
    ("Right", "LongestFirst", ("a b c a", "b c x y"), [2, 5, 6, 3, 6, 8, 3]),
    ("Left", "LongestFirst", ("a b c a", "b c x y"), [2, 8, 5, 3, 13, 14, 3]),
    ("Left", "LongestFirst", ("a", "b c x y a b"), [2, 5, 3, 14, 5, 6, 3]),
    ("Left", "OnlyFirst", ("a b c x y a b c", "b"), [2, 5, 6, 8, 3, 6, 3]),
    ("Right", "OnlySecond", ("a", "b c x y a b"), [2, 5, 3, 6, 8, 13, 3]),
    ("Left", "OnlySecond", ("a", "b c x y a b"), [2, 5, 3, 14, 5, 6, 3]),
    ("Right", "OnlySecond", ("a b c",), [2, 5, 6, 8, 3]), ("Right", "OnlyFirst", ("a b c a", "b c x y"), None),
    ("Right", "OnlySecond", ("a b c x y a b c", "b"), None), ("Right", "OnlySecond", ("a b c x y a",), None),
])  # fmt: skip
def test_truncation_of_wordpiece(tmp_path, side, strategy, texts, numbers):
    t = read(tmp_path, wordpiece_document(**cut(7, direction=side, strategy=strategy)))
    if numbers is None:
        with pytest.raises(ValueError, match="only_.* expected more tokens"):
            t.encode(*texts)
    else:
        assert t.encode(*texts).tolist() == numbers


def test_no_room_at_all():
    for strategy in ("longest_first", "only_first", "only_second"):
        bodies = [[1, 2], [3]]
        shortened(bodies, 0, "left", strategy)
        assert bodies == [[], []]


def test_padding_goes_to_the_longest_row(tmp_path):
    pad = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": 4, "pad_id": 0, "pad_type_id": 0,
           "pad_token": "[PAD]"}  # fmt: skip
    t = read(tmp_path, wordpiece_document(padding=pad))
    assert t.encode("a").tolist() == [2, 5, 3] and t.encode_batch(["a", "b c"]).numbers.tolist() == [
        [2, 5, 3, 0], [2, 6, 8, 3]]  # fmt: skip
    assert read(tmp_path, bpe_document(padding=pad | {"direction": "Left"})).encode("a").tolist() == [64]


# -- every field -------------------------------------------------------------------------------------------------

TEMPLATE = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
            "special_tokens": {}}  # fmt: skip
TWICE = {"type": "Sequence", "processors": [AROUND, AROUND]}
PAD = {"strategy": "BatchLongest", "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}


@pytest.mark.parametrize(("fields", "words"), [
    ({"model": {"fuse_unk": 1}}, "model.fuse_unk to be true"),
    ({"model": {"ignore_merges": "no"}}, "model.ignore_merges"),
    ({"model": {"dropout": 0.1}}, "model.dropout is 0.1"), ({"model": {"unk_token": 3}}, "model.unk_token to be text"),
    ({"model": {"more": 1}}, "model.more is 1"), ({"more": {"a": []}}, "its more is .'a'"),
    ({"model": {"unk_token": "a", "fuse_unk": True, "vocab": {"a": 0}}}, "model.fuse_unk is true"),
    ({"model": {"byte_fallback": True}}, "model.byte_fallback is True"), ({"model": {"vocab": []}}, "model.vocab"),
    ({"model": {"continuing_subword_prefix": "##"}}, "continuing_subword_prefix"),
    ({"model": {"merges": "a b"}}, "merges"),
    ({"model": {"merges": [["a", 1]]}}, "merges of two tokens"), ({"model": {"type": 3}}, "model.type to be text"),
    ({"model": {"type": "WordLevel"}}, "its model is 'WordLevel'"), ({"normalizer": {"type": "NFC"}}, "its normalizer"),
    ({"decoder": {"type": "ByteFallback"}}, "its decoder"), ({"decoder": BYTES | {"x": 1}}, "decoder.x is 1"),
    ({"pre_tokenizer": BYTES | {"add_prefix_space": 1}}, "pre_tokenizer.add_prefix_space to be true or false"),
    ({"pre_tokenizer": BYTES | {"x": 1}}, "pre_tokenizer.x"), ({"pre_tokenizer": None}, "pre_tokenizer"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS]}}, "pre_tokenizer is .'Sequence'"),
    ({"post_processor": AROUND | {"cls": ["<s>", 10**12]}}, "1000000000000"),
    ({"post_processor": []}, "post_processor"),
    ({"post_processor": AROUND | {"cls": ["<s>", "x"]}}, "post_processor.cls"), ({"post_processor": TWICE}, "2 parts"),
    ({"post_processor": AROUND | {"sep": None}}, "post_processor.sep"), ({"post_processor": {"type": "x"}}, "'x'"),
    ({"post_processor": TEMPLATE | {"single": []}}, "the text 0 times"),
    ({"post_processor": TEMPLATE | {"y": 1}}, "y is 1"),
    ({"post_processor": TEMPLATE | {"single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}}, "<s>"),
    (cut("4"), "truncation.max_length to be a whole number"), (cut(2.5), "truncation.max_length"),
    (cut(-1), "max_length"),
    (cut(direction="Up"), "truncation.direction"), (cut(strategy="Any"), "truncation.strategy"),
    (cut(stride=4), "stride"),
    (cut(strategy="OnlySecond"), "OnlySecond"), (cut(True), "max_length"), (cut(more=1), "truncation.more"),
    (cut(1) | {"post_processor": AROUND}, "at least 2, for the marks, got 1"), ({"truncation": 4}, "truncation"),
    ({"padding": PAD | {"pad_id": "0"}}, "padding.pad_id"),
    ({"padding": PAD | {"strategy": "All"}}, "padding.strategy"),
    ({"padding": PAD | {"direction": 1}}, "padding.direction"), ({"padding": PAD | {"x": 1}}, "padding.x"),
    ({"padding": PAD | {"strategy": {"Fixed": -1}}}, "padding.strategy.Fixed"), ({"added_tokens": {}}, "added_tokens"),
    ({"added_tokens": [token("<x>", 258), token("<x>", 259)]}, "occurs twice"),
    ({"added_tokens": [*ENDS, token("<x>", 300)]}, "'<x>' has the number 300, .* 258"),
    ({"added_tokens": [*ENDS, token("a", 258)]}, "'a' has the number 258, .* 64"),
    ({"added_tokens": [*ENDS, token("<x>", 258, lstrip="no")]}, r"added_tokens\[2\].lstrip to be true or false"),
    ({"added_tokens": [*ENDS, token("<x>", 258, special=1)]}, r"added_tokens\[2\].special"),
    ({"added_tokens": [*ENDS, token("<x>", 258, more=1)]}, r"added_tokens\[2\].more"),
    ({"added_tokens": [token("<x>", 10**12)]}, r"added_tokens\[0\].id"),
    ({"model": {"vocab": V | {"zz": 64}}}, "number 64"),
    ({"model": {"vocab": V | {"zz": None}}}, "'zz': None"), ({"model": {"vocab": V | {"zz": [1]}}}, "'zz': .1."),
])  # fmt: skip
def test_fields_of_bpe_that_are_refused(tmp_path, fields, words):
    added = [] if "vocab" in fields.get("model", ()) else ENDS
    document = bpe_document(fields.get("added_tokens", added), model=fields.get("model", ()))
    document |= {key: value for key, value in fields.items() if key != "model"}
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{words}") as caught:
        read(tmp_path, document)
    assert len(str(caught.value)) < 600


NORMALIZER = wordpiece_document()["normalizer"]
MARK = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}
NAMED = {"[CLS]": {"id": "[CLS]", "ids": [2, 2], "tokens": ["[CLS]", "[CLS]"]}}


@pytest.mark.parametrize(("fields", "words"), [
    ({"model": {"max_input_chars_per_word": "x"}}, "model.max_input_chars_per_word"),
    ({"model": {"max_input_chars_per_word": [1]}}, "model.max_input_chars_per_word"),
    ({"model": {"continuing_subword_prefix": [1]}}, "model.continuing_subword_prefix to be text, got .1."),
    ({"model": {"unk_token": 1}}, "model.unk_token"), ({"model": {"x": 1}}, "model.x"),
    ({"normalizer": NORMALIZER | {"lowercase": "false"}}, "normalizer.lowercase to be true or false, got false"),
    ({"normalizer": NORMALIZER | {"strip_accents": 1}}, "strip_accents"),
    ({"normalizer": {"type": "NFC"}}, "not BERT's"),
    ({"normalizer": NORMALIZER | {"x": 1}}, "normalizer.x"),
    ({"pre_tokenizer": {"type": "BertPreTokenizer", "x": 1}}, "x"),
    ({"decoder": {"type": "WordPiece", "prefix": "@@"}}, "decoder.prefix is @@"),
    ({"decoder": {"type": "BPE"}}, "type"),
    ({"decoder": {"type": "WordPiece", "cleanup": 1}}, "decoder.cleanup"), (cut(1), "at least 2"),
    (cut("x"), "max_length"),
    ({"padding": PAD | {"direction": "Left"}}, "on the left"), ({"padding": PAD | {"pad_id": 5}}, "number 5"),
    ({"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 7], "sep": ["[SEP]", 3]}}, "the number 7"),
    ({"post_processor": {"type": "BertProcessing", "cls": "[CLS]", "sep": ["[SEP]", 3]}}, "post_processor.cls"),
    ({"post_processor": TEMPLATE | {"single": [TEXT, MARK]}}, "puts no mark before"),
    ({"post_processor": {"type": "TemplateProcessing", "single": [MARK, TEXT, MARK], "pair": [TEXT]}}, "pair isn't"),
    ({"post_processor": {"type": "TemplateProcessing", "single": [MARK, TEXT, MARK], "special_tokens": NAMED}}, "ids"),
])  # fmt: skip
def test_fields_of_wordpiece_that_are_refused(tmp_path, fields, words):
    document = wordpiece_document(model=fields.get("model", ()))
    document |= {key: value for key, value in fields.items() if key != "model"}
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{words}"):
        read(tmp_path, document)


def test_deep_nesting_is_refused(tmp_path):
    """Python 3.12 and later parse JSON thousands of levels deep, so that no walk here may recurse."""
    n = 800
    deep = '{"type":"Sequence","processors":[' * n + '{"type":"ByteLevel"}' + "]}" * n
    for field in ("post_processor", "decoder", "pre_tokenizer", "normalizer", "padding", "truncation", "more"):
        document = json.dumps(bpe_document() | {field: "@"}).replace('"@"', deep)
        (tmp_path / "tokenizer.json").write_text(document)
        with pytest.raises(ValueError, match=r"tokenizer\.json: "):
            load_tokenizer(tmp_path)


def test_processors_in_a_row(tmp_path):
    row = {"type": "Sequence", "processors": [BYTES, {"type": "Sequence", "processors": [AROUND]}]}
    assert read(tmp_path, bpe_document(ENDS, post_processor=row)).encode("a").tolist() == [256, 64, 257]


def test_unknown_bytes(tmp_path):
    lacking = {letter: i for i, letter in enumerate(letter for letter in V if letter not in "Ã©")}
    t = read(tmp_path, bpe_document((), lacking, model={"unk_token": "a"}))
    assert t.encode("xéé").tolist() == [lacking["x"], *[lacking["a"]] * 4]
    assert read(tmp_path, bpe_document(model={"unk_token": "a", "fuse_unk": True})).encode("é").tolist() == [127, 102]


# -- GGUF --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "pieces"), [
    ("a ,", ["a", " ", ","]), ("don't stop", ["don", "'", "t", " stop"]), ("  12345 x", [" ", " ", "123", "45", " x"]),
    ("a  b  ", ["a", " ", " b", "  "]), ("12²3456 ٣٤٥٦ Ⅷ", ["12²", "345", "6", " ", "٣٤٥٦", " ", "Ⅷ"]),
    ("x = 3.14; `q` $5 ~^|", ["x", " ", "=", " ", "3", ".", "14", ";", " `", "q", "`", " ", "$", "5", " ", "~^|"]),
    ("_a__b", ["_", "a", "__", "b"]), (" \n\t x", [" \n\t", " x"]), (", ,a", [",", " ", ",", "a"]), ("", []),
    ("👩\u200d👧!é\u0301", ["👩\u200d👧", "!", "é", "\u0301"]),
])  # fmt: skip
def test_llamacpps_default_rule(text, pieces):
    """The four expressions of llama-vocab.cpp, one after the other, by the library's Split."""
    assert split_llamacpp(text) == pieces


def facts(**changes: object) -> dict:
    tokens = [*sorted(LETTERS), "Ġ,", "Ġ1", "Ġ12", "<end>", "<think>", "<unk>"]
    found = {"model": "gpt2", "tokens": tokens, "merges": ["Ġ ,", "Ġ 1", "Ġ1 2"],
             "token_type": [1] * 259 + [3, 4, 2], "bos_token_id": 259} | changes  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in found.items() if value is not None}


@pytest.mark.parametrize("pre", [None, "default"])
def test_a_gguf_without_a_rule_has_llamacpps(pre):
    t = gguf_tokenizer(facts(pre=pre))
    assert [t.tokens[i] for i in t.encode("a , 12")] == ["a", "Ġ", ",", "Ġ", "1", "2"]
    assert [t.tokens[i] for i in gguf_tokenizer(facts(pre="gpt-2")).encode("a , 12")] == ["a", "Ġ,", "Ġ12"]
    assert t.decode([64, 259, 260, 261], special=False) == "a<think>"


@pytest.mark.parametrize(("changes", "words"), [
    ({"tokens": ["a", 1], "token_type": [1, 1]}, "aren't text"),
    ({"tokens": [["a"]], "token_type": [1]}, "aren't text"),
    ({"token_type": ["x"] * 262}, "types whole numbers"), ({"token_type": 1}, "token_type to be a list"),
    ({"merges": "a b"}, "tokenizer.ggml.merges to be a list"), ({"merges": [1]}, "merges of two tokens"),
    ({"bos_token_id": "x"}, "tokenizer.ggml.bos_token_id"), ({"bos_token_id": 10**12}, "bos_token_id"),
    ({"bos_token_id": 262, "add_bos_token": True}, "numbers of tokens, got 262"),
    ({"add_bos_token": 1}, "add_bos_token"),
    ({"unknown_token_id": -1}, "unknown_token_id"), ({"unknown_token_id": 999}, "numbers of tokens, got 999"),
    ({"add_space_prefix": True}, "add_space_prefix is True"), ({"pre": ["x"]}, "tokenizer.ggml.pre to be text"),
    ({"model": 3}, "tokenizer.ggml.model"), ({"new_fact": 1}, "tokenizer.ggml.new_fact is 1"),
    ({"pre": "llama-bpe"}, "'llama-bpe'"), ({"precompiled_charsmap": [1]}, "precompiled_charsmap"),
    ({"add_eos_token": True}, "no eos_token_id"), ({"add_sep_token": True}, "add_sep_token is True"),
])  # fmt: skip
def test_facts_that_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        gguf_tokenizer(facts(**changes))


def test_facts_that_change_nothing():
    more = {"scores": [0.0], "padding_token_id": 1, "eot_token_id": 2, "fim_pre_token_id": 3, "add_eos_token": False,
            "add_space_prefix": False, "token_type_count": 2}  # fmt: skip
    assert gguf_tokenizer(facts(**more)).encode("ab").tolist() == [64, 65]


# -- time --------------------------------------------------------------------------------------------------------

MANY = {f"<{i}>": Special(256 + i, lstrip=i % 2 == 0) for i in range(5000)}
LONG = {"<" + "x" * i: Special(256 + i, rstrip=True) for i in range(1, 300)}
SPACED = {"  ": Special(256, rstrip=True), "   ": Special(257, lstrip=True), "<m>": Special(258, True, True)}


@pytest.mark.parametrize(("added", "text"), [
    ({"<mask>": Special(256, lstrip=True)}, " b"), ({"<mask>": Special(256, rstrip=True)}, "<mask> "),
    (SPACED, " "), (SPACED, "<m> "), (MANY, "<"), (MANY, " <"), (LONG, "<xx"), (LONG, "<y"),
    ({}, "a"), ({}, " "), ({}, "1"),
    ({}, "."),
])  # fmt: skip
def test_time_to_encode_is_linear(added, text):
    """16 times the text may take at most 64 times the time: quadratic would be 256 times."""
    t = ByteLevelBPE(V, [], added)
    seconds = []
    for n in (1000, 16_000):
        for row in (text * n, text[0] * n + text[1:]):
            start = time.perf_counter()
            t.encode(row)
            seconds.append(time.perf_counter() - start)
    assert max(seconds[2:]) < 64 * max(*seconds[:2], 0.01)


def test_long_words_and_marks_take_wordpiece_no_quadratic_time():
    start = time.perf_counter()
    t = WordPiece(W, max_letters=10**9)
    assert t.encode("b" * 200_000).size == 200_002
    assert t.encode("a" + "\u0315\u0300" * 50_000, around=False).tolist() == [5]
    assert time.perf_counter() - start < 10  # 2 s; Python's own NFD takes 10 s for the marks alone


def test_taking_characters_apart_is_unicodes(rng):
    marks = "aé\u0315\u0300\u0323\u302e\U0001d165\u3099中각ﬁ"
    text = "".join(rng.choice(list(marks), 3000))
    assert nfd(text) == unicodedata.normalize("NFD", text)
    assert without_accents(text) == "".join(
        c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn"
    )


def test_truncation_does_not_cut_a_conversation():
    t = train_bpe("user system assistant", 300, ["<|im_start|>", "<|im_end|>"])
    short = ByteLevelBPE(t.vocabulary, t.merges, t.special, max_length=3)
    said = [{"role": "user", "content": "a long question"}]
    assert chat_tokens(short, said).tolist() == chat_tokens(t, said).tolist() and short.encode("a long one").size == 3
    typed = {name: token._replace(special=False) for name, token in t.special.items()}
    with pytest.raises(ValueError, match="no special token <.im_start"):
        chat_tokens(ByteLevelBPE(t.vocabulary, t.merges, typed), said)
