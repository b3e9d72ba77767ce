"""Names and values in messages: nothing that a terminal obeys, nothing that fills the screen."""

from pathlib import Path

import pytest

from scratch.messages import escaped, quoted, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("layers.0.weight", "layers.0.weight"),
        ("größe 中文", "größe 中文"),
        ("\x1b]0;owned\x07\x1b[31m", r"\x1b]0;owned\x07\x1b[31m"),
        ("a\nb\rc\td\x7f\x85\u2028\u202e", r"a\nb\rc\td\x7f\x85\u2028\u202e"),
        ("\udc80", r"\udc80"),  # a byte of a file name that is not UTF-8
        (r"C:\runs\mlp-1", r"C:\runs\mlp-1"),
        ("", ""),
        (Path("runs") / "a\x1b[2J", str(Path("runs") / r"a\x1b[2J")),
        (3.5, "3.5"),
        (None, "None"),
        ({"a": [1, "\x1b"]}, r"{'a': [1, '\x1b']}"),
    ],
)
def test_control_characters_are_escaped_and_other_text_is_kept(value, text):
    assert shown(value) == text
    assert shown(value).isprintable()


def test_long_names_keep_their_beginning_and_end():
    assert shown("a" * 80) == "a" * 80
    assert shown("a" * 60 + "b" * 2_000_000) == "a" * 51 + "..." + "b" * 26
    assert shown("abcdefghijkl", limit=9) == "abc...jkl"
    assert len(shown("\x1b" * 1000)) == 80  # also where the escapes are longer than the name
    assert len(shown("\U000e0001" * 80)) == 80


def test_a_path_keeps_its_full_length_unless_a_limit_is_given():
    path = Path("runs" + "x" * 200) / "log.jsonl"
    assert shown(path) == str(path)
    assert len(shown(path, limit=40)) == 40
    assert shown(Path("\x1b" * 100)) == r"\x1b" * 100


def test_large_and_deep_values_are_cut():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) <= 80
    assert shown(list(range(10**6))).startswith("[0, 1, 2, ") and len(shown(list(range(10**6)))) <= 80
    while deep:
        deep = deep.pop()  # freed level by level: Python's own way down is as deep as the list


def test_escaped_keeps_a_whole_text():
    assert escaped("x" * 1000 + "\b") == "x" * 1000 + r"\x08"


def test_quoted_tells_names_from_words():
    assert quoted("a b") == "'a b'" and quoted("\x1b") == r"'\x1b'" and quoted(3) == "3" and quoted([1]) == "[1]"
    assert len(quoted("x" * 1000, 20)) == 22
