"""Pairs of sequences: tokens with padding, begin and end; strings with a known answer; dates in every spelling."""

import datetime
import re

import numpy as np
import pytest

from scratch.data import STRINGS, Batches, SequenceTokenizer, load_dates, load_strings, spellings, trimmed
from scratch.data.dates import CHARACTERS, DATES, FIRST, FORMS, LAST, MONTHS, SHORT_FORMS, WEEKDAYS
from scratch.data.pairs import BEGIN, END, PAD, SPECIAL


def test_texts_become_rows_with_begin_end_and_padding():
    tokenizer = SequenceTokenizer("abc")
    rows = tokenizer.encode(["cab", "", "b"], begin=True)
    assert rows.tolist() == [[1, 5, 3, 4, 2], [1, 2, 0, 0, 0], [1, 4, 2, 0, 0]] and rows.dtype == np.int64
    assert tokenizer.encode(["cab", "", "b"]).tolist() == [[5, 3, 4, 2], [2, 0, 0, 0], [4, 2, 0, 0]]
    assert tokenizer.encode(["cab", "b"], begin=False, end=False).tolist() == [[5, 3, 4], [4, 0, 0]]
    assert tokenizer.decode(rows) == ["cab", "", "b"]
    assert tokenizer.decode([[BEGIN, 3, END, 4, PAD], [3, PAD, 4, BEGIN, 5]]) == ["a", "abc"]
    assert tokenizer.symbols(rows[2]) == ["^", "b", "$", "·", "·"]
    assert len(tokenizer) == 6 and len(SequenceTokenizer(**tokenizer.state_dict())) == 6


def test_texts_and_tokens_that_do_not_fit():
    tokenizer = SequenceTokenizer("abc")
    with pytest.raises(ValueError, match="the character 'x' in 'bx' is not known; known are abc"):
        tokenizer.encode(["ab", "bx"])
    with pytest.raises(ValueError, match="a list of at least one text, got 'ab'"):
        tokenizer.encode("ab")
    with pytest.raises(ValueError, match=r"a list of at least one text, got \[\]"):
        tokenizer.encode([])
    with pytest.raises(ValueError, match="tokens go from 0 to 5, got 0 to 6"):
        tokenizer.decode([[0, 6]])
    with pytest.raises(ValueError, match=r"of shape \(N, T\), got int64 \(2,\)"):
        tokenizer.decode([0, 1])
    with pytest.raises(ValueError, match="different single characters"):
        SequenceTokenizer("aba")


def test_trimming_leaves_the_longest_row():
    a, b = trimmed(np.array([[3, 4, 2, 0, 0], [3, 2, 0, 0, 0]]), np.array([[1, 2, 0], [1, 3, 2]]))
    assert a.tolist() == [[3, 4, 2], [3, 2, 0]] and b.tolist() == [[1, 2, 0], [1, 3, 2]]
    assert trimmed(np.zeros((2, 4), int))[0].shape == (2, 1)


ANSWERS = {"copy": lambda s: s, "reverse": lambda s: "".join(reversed(s)), "sort": lambda s: "".join(sorted(list(s)))}


@pytest.mark.parametrize("task", STRINGS)
def test_strings_have_the_right_answers_and_no_test_string_is_trained_on(task):
    pairs = load_strings(task, count=3000, validation=200, test=300, lengths=(2, 7), symbols=4, seed=3)
    parts = (pairs.train, pairs.validation, pairs.test)
    assert [len(part) for part in parts] == [2500, 200, 300] and len(pairs.tokenizer) == 7
    texts = [pairs.tokenizer.decode(part.inputs) for part in parts]
    for part, sources in zip(parts, texts, strict=True):
        assert pairs.tokenizer.decode(part.targets) == [ANSWERS[task](text) for text in sources]
        assert (part.targets[:, 0] == BEGIN).all() and ((part.targets == END).sum(axis=1) == 1).all()
        assert ((part.inputs == END).sum(axis=1) == 1).all() and not (part.inputs == BEGIN).any()
    train, validation, test = map(set, texts)
    assert not train & test and not train & validation and not validation & test
    everything = sum(texts, [])
    counts = np.bincount([len(text) for text in everything])
    assert counts[:2].tolist() == [0, 0] and len(counts) == 8
    assert np.abs(counts[2:] - 500).max() < 5 * np.sqrt(500 * 5 / 6)
    letters = np.unique(list("".join(everything)), return_counts=True)
    assert "".join(letters[0]) == "abcd" and np.abs(letters[1] / letters[1].sum() - 0.25).max() < 0.02
    again = load_strings(task, count=3000, validation=200, test=300, lengths=(2, 7), symbols=4, seed=3)
    other = load_strings(task, count=3000, validation=200, test=300, lengths=(2, 7), symbols=4, seed=4)
    assert np.array_equal(again.test.inputs, pairs.test.inputs)
    assert not np.array_equal(other.test.inputs, pairs.test.inputs)


def test_the_sizes_of_the_default_strings():
    pairs = load_strings()
    assert pairs.train.inputs.shape == (46000, 17) and pairs.test.targets.shape == (2000, 18)
    assert pairs.name == "reverse" and re.match(r"46,000 / 2,000 / 2,000 pairs such as (\w+) → (\w+)$", str(pairs))


def test_strings_that_cannot_be():
    for arguments, message in [
        ({"task": "shuffle"}, "knows copy, reverse, sort, got 'shuffle'"),
        ({"lengths": (0, 3)}, r"lengths \(shortest, longest\) from 1 up, got \(0, 3\)"),
        ({"lengths": (4, 3)}, r"got \(4, 3\)"),
        ({"symbols": 27}, "1 to 26 symbols, got 27"),
        ({"count": 4000}, "leave nothing to train on"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_strings(**arguments)


def test_every_spelling_means_one_date():
    """Of years with and without leap days, of all decades in which two digits can be confused with days."""
    meant: dict[str, datetime.date] = {}
    for year in (1912, 1969, 2000, 2011, 2068, 2069):
        for day in range(0, 365, 3):
            date = datetime.date(year, 1, 1) + datetime.timedelta(day)
            for text in spellings(date):
                assert meant.setdefault(text, date) == date, text
    assert len(meant) > 50_000 and set("".join(meant)) <= set(CHARACTERS)


def test_some_spellings_by_hand():
    march, third = spellings(datetime.date(1997, 3, 14)), spellings(datetime.date(2003, 5, 22))
    assert len(march) == len(set(march)) == 128
    for text in ("14 March 1997", "MARCH 14TH, 1997", "the 14th of march, 1997", "3/14/1997", "14.03.97", "19970314",
                 "Friday, March 14, 1997", "Fri 14 Mar '97", "1997-Mar-14", "Mar. 14, 1997"):  # fmt: skip
        assert text in march
    for text in ("22nd of May 2003", "Thursday, the 22nd of May, 2003", "5/22/03", "2003/5/22"):
        assert text in third
    assert not any("'" in text for text in spellings(datetime.date(1968, 3, 14)))
    assert not any("'" in text for text in spellings(datetime.date(2069, 3, 14)))
    for n, word in ((1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"),
                    (21, "21st"), (22, "22nd"), (23, "23rd"), (30, "30th"), (31, "31st")):  # fmt: skip
        assert f"the {word} of July 1950" in spellings(datetime.date(1950, 7, n))
    for date in (FIRST - datetime.timedelta(1), LAST + datetime.timedelta(1)):
        with pytest.raises(ValueError, match="from 1900-01-01 to 2099-12-31"):
            spellings(date)


def read_by_hand(text: str) -> datetime.date:
    """What a spelling means, read by a parser that shares nothing with the writer."""
    words = text.lower()
    numbers = re.findall(r"\d+", words)
    named = [i for i, month in enumerate(MONTHS, 1) if re.search(rf"\b{month[:3].lower()}", words)]
    if len(numbers) == 1 and not named:
        return datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    year_first = len(numbers[0]) == 4
    year = int(numbers[0] if year_first else numbers[-1])
    year += 0 if year > 99 else 1900 if year > 68 else 2000
    rest = [int(n) for n in (numbers[1:] if year_first else numbers[:-1])]
    if named:
        return datetime.date(year, named[0], rest[0])
    month, day = rest if year_first or "/" in text else rest[::-1]
    return datetime.date(year, month, day)


def test_dates_are_split_by_date_and_mean_what_they_should():
    pairs = load_dates(per_date=1, seed=1)
    parts = (pairs.train, pairs.validation, pairs.test)
    assert [len(part) for part in parts] == [DATES - 4000, 2000, 2000]
    answers = [pairs.tokenizer.decode(part.targets) for part in parts]
    assert len(set(answers[0]) | set(answers[1]) | set(answers[2])) == DATES  # no date in two parts, none left out
    for part, isos in zip(parts[1:], answers[1:], strict=True):
        for text, iso in zip(pairs.tokenizer.decode(part.inputs), isos, strict=True):
            assert read_by_hand(text).isoformat() == iso, text
            weekday = [i for i, name in enumerate(WEEKDAYS) if re.match(rf"{name[:3]}", text, re.IGNORECASE)]
            assert not weekday or weekday == [datetime.date.fromisoformat(iso).weekday()], text
    texts = pairs.tokenizer.decode(pairs.test.inputs)
    shapes = {re.sub(r"[A-Za-z]+", "a", re.sub(r"\d", "0", text)) for text in texts}
    assert len(shapes) > 45 and 0.1 < np.mean([text == text.upper() and text != text.lower() for text in texts]) < 0.5
    assert pairs.train.inputs.shape[1] <= 39 and pairs.test.targets.shape[1] == 12


def test_dates_that_cannot_be():
    with pytest.raises(ValueError, match="per_date to be a whole number from 1, got 0"):
        load_dates(per_date=0)
    with pytest.raises(ValueError, match="validation to be some of 73,049 dates, got 73048"):
        load_dates(validation=73048, test=1)
    assert len(FORMS) == len(set(FORMS)) and not set(FORMS) & set(SHORT_FORMS)


def test_batches_of_pairs_go_on_where_they_stopped():
    pairs = load_strings("copy", count=200, validation=20, test=20)
    batches = Batches(*pairs.train.arrays, batch_size=16, seed=5)
    for _ in range(13):
        next(batches)
    other = Batches(*pairs.train.arrays, batch_size=16, seed=5)
    other.load_state_dict(batches.state_dict())
    for ours, theirs in zip(trimmed(*next(batches)), trimmed(*next(other)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert (ours != PAD).any(axis=0).all() and ours.max() < SPECIAL + 10
