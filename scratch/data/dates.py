"""Dates as people write them, and the one way in which ISO 8601 writes them: "the 3rd of March, 1997" → "1997-03-03".

Every spelling means one date, by conventions that this set keeps throughout:

    3/14/1997     with slashes the month comes first (unless the year does)
    14.3.1997     with dots and dashes the day comes first (unless the year does)
    '97, 14.3.97  two digits of a year lie between 1969 and 2068, as in POSIX

The three parts are split by date, so that a test date was never seen in any spelling.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from scratch.data.order import PAIRS, SPLIT, checked_seed, draws, is_whole, shuffled
from scratch.data.pairs import Pairs, SequenceTokenizer, make_pairs

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
DATES = (LAST - FIRST).days + 1

# {d} 3, {dd} 03, {th} 3rd; {m} 3, {mm} 03, {mon} Mar, {month} March; {y} 1997, {yy} 97; {wd} Mon, {weekday} Monday
FORMS = (
    "{d} {month} {y}", "{d} {mon} {y}", "{dd} {mon} {y}", "{th} {month} {y}", "{th} {mon} {y}",
    "{month} {d}, {y}", "{month} {d} {y}", "{month} {th}, {y}", "{month} {th} {y}",
    "{mon} {d}, {y}", "{mon} {d} {y}", "{mon}. {d}, {y}", "{mon} {th}, {y}", "{mon} {dd} {y}",
    "the {th} of {month}, {y}", "the {th} of {month} {y}", "{th} of {month}, {y}", "{th} of {month} {y}",
    "{wd} {d} {mon} {y}", "{wd}, {d} {month} {y}", "{wd} {mon} {d} {y}", "{weekday}, {month} {d}, {y}",
    "{weekday} {d} {month} {y}", "{weekday}, the {th} of {month} {y}", "{weekday}, the {th} of {month}, {y}",
    "{y} {month} {d}", "{y} {mon} {dd}", "{y}, {month} {th}",
    "{d}-{mon}-{y}", "{dd}-{mon}-{y}", "{d}/{mon}/{y}", "{mon}-{dd}-{y}", "{y}-{mon}-{dd}",
    "{m}/{d}/{y}", "{mm}/{dd}/{y}", "{d}.{m}.{y}", "{dd}.{mm}.{y}", "{d}. {m}. {y}", "{d}-{m}-{y}", "{dd}-{mm}-{y}",
    "{y}/{m}/{d}", "{y}/{mm}/{dd}", "{y}-{m}-{d}", "{y}-{mm}-{dd}", "{y}.{mm}.{dd}", "{y}{mm}{dd}",
)  # fmt: skip
SHORT_FORMS = (
    "{d} {month} '{yy}", "{month} {d}, '{yy}", "{mon} {th} '{yy}", "the {th} of {month} '{yy}", "{d}-{mon}-{yy}",
    "{d} {mon} {yy}", "{wd} {d} {mon} '{yy}", "{m}/{d}/{yy}", "{mm}/{dd}/{yy}", "{d}.{m}.{yy}", "{dd}.{mm}.{yy}",
)  # fmt: skip
SHORT_YEARS = range(1969, 2069)
CASES = (str, str.lower, str.upper)  # as it is, all small, all capitals
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ORDINALS = {1: "1st", 2: "2nd", 3: "3rd", 21: "21st", 22: "22nd", 23: "23rd", 31: "31st"}


def spellings(date: datetime.date) -> list[str]:
    """Every way in which this set writes the date, each once. Raises ValueError outside 1900 to 2099."""
    if not FIRST <= date <= LAST:
        raise ValueError(f"spellings expected a date from {FIRST} to {LAST}, got {date}")
    parts = parts_of(date)
    forms = FORMS + SHORT_FORMS if date.year in SHORT_YEARS else FORMS
    return list(dict.fromkeys(case(form.format_map(parts)) for form in forms for case in CASES))


def parts_of(date: datetime.date) -> dict[str, str]:
    """What the braces of the forms stand for."""
    year, month, day = date.year, date.month, date.day
    name, weekday = MONTHS[month - 1], WEEKDAYS[date.weekday()]
    return {"d": f"{day}", "dd": f"{day:02}", "th": ORDINALS.get(day, f"{day}th"), "m": f"{month}",
            "mm": f"{month:02}", "mon": name[:3], "month": name, "y": f"{year}", "yy": f"{year % 100:02}",
            "wd": weekday[:3], "weekday": weekday}  # fmt: skip


CHARACTERS = sorted({c for case in CASES for word in (*MONTHS, *WEEKDAYS, "the of", "st nd rd th", "0123456789 ,.-/'")
                     for c in case(word)})  # fmt: skip


def load_dates(per_date: int = 2, validation: int = 2000, test: int = 2000, seed: int = 0) -> Pairs:
    """All 73,049 dates from 1900 to 2099: `validation` and `test` of them written once, the others `per_date` times.

    Forms are drawn uniformly, and then how capitals are used; forms with two digits for the year only where they can
    stand. All follows from the seed. Shapes: inputs int64 (N, 39 at most), targets int64 (N, 12).
    Raises ValueError for per_date below 1, and for sizes that leave nothing to train on.
    """
    if not is_whole(per_date) or per_date < 1:
        raise ValueError(f"load_dates expected per_date to be a whole number from 1, got {per_date!r}")
    for name, size in (("validation", validation), ("test", test)):
        if not is_whole(size) or size < 1 or validation + test >= DATES:
            raise ValueError(f"load_dates expected {name} to be some of {DATES:,} dates, got {size!r}")
    order = shuffled(DATES, checked_seed(seed), 0, SPLIT)
    parts = {
        "test": order[:test],
        "validation": order[test : test + validation],
        "train": np.repeat(order[test + validation :], per_date),
    }
    tokenizer = SequenceTokenizer(CHARACTERS)
    made = {}
    for number, (name, numbers) in enumerate(parts.items()):
        dates = [datetime.date.fromordinal(FIRST.toordinal() + i) for i in numbers.tolist()]
        texts = spelt(dates, seed, number)
        made[name] = make_pairs("dates", tokenizer, texts, [date.isoformat() for date in dates])
    return Pairs("dates", tokenizer, made["train"], made["validation"], made["test"])


def spelt(dates: Sequence[datetime.date], seed: int, index: int) -> list[str]:
    """Each date in a form and in a case drawn at random."""
    words = draws(2 * len(dates), 2**32, seed, 2 + index, PAIRS).reshape(2, -1).tolist()
    texts = []
    for date, form, case in zip(dates, *words, strict=True):
        forms = len(FORMS) + (len(SHORT_FORMS) if date.year in SHORT_YEARS else 0)
        chosen = form % forms
        text = FORMS[chosen] if chosen < len(FORMS) else SHORT_FORMS[chosen - len(FORMS)]
        texts.append(CASES[case % len(CASES)](text.format_map(parts_of(date))))
    return texts
