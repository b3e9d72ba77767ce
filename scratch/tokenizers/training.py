"""Byte-pair encoding learns its merges: count pairs, merge the most frequent one, repeat.

    words: low ×5, lower ×2, newest ×6        pairs: (w, e) ×8, (l, o) ×7, (o, w) ×7, (n, e) ×6 …
    merge (w, e):   l o w ×5, l o we r ×2, n e we s t ×6         and so on

Merging (w, e) took (o, w) and (e, r) away in "lower" and made (o, we) and (we, r): counts change only in words that
hold the merged pair. `merges_plain` counts anew every time; `merges_fast` looks into those words alone, and keeps the
pairs in a heap. Ties go to the pair of smaller numbers, first letters by code point, then tokens in their order of
birth.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from scratch.tokenizers.bpe import LETTERS, ByteLevelBPE, Merge, merged, to_letters
from scratch.tokenizers.special import Special, checked_text
from scratch.tokenizers.split import RULES

Pair = tuple[int, int]


def train_bpe(
    texts: str | Iterable[str], vocab_size: int = 512, special: Sequence[str] = (), rule: str = "gpt2",
    fast: bool = True,
) -> ByteLevelBPE:  # fmt: skip
    """A tokenizer whose merges are those of `texts`.

    Args: vocab_size: tokens in all, special ones and 256 bytes among them; fewer if nothing is left to merge. special:
        tokens that no text makes, with the first numbers. rule: how texts are split. fast: False: the plain way.
    Raises ValueError for a vocab_size below that, special tokens that repeat, and what is no text.
    """
    special = list(special)
    room = vocab_size - len(special) - len(LETTERS)
    if room < 0 or len(set(special)) != len(special) or rule not in RULES:
        raise ValueError(f"train_bpe expected a vocab_size of at least 256 and the special tokens, all different, and "
                         f"a rule of {', '.join(RULES)}; got {vocab_size}, {special} and {rule!r}")  # fmt: skip
    words: Counter[str] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        words.update(RULES[rule](checked_text("train_bpe", text)))
    merges = (merges_fast if fast else merges_plain)({to_letters(word): n for word, n in words.items()}, room)
    tokens = dict.fromkeys([*special, *sorted(LETTERS), *(left + right for left, right in merges)])
    numbers = {token: number for number, token in enumerate(tokens)}
    marks = {token: Special(numbers[token]) for token in special}
    return ByteLevelBPE({token: n for token, n in numbers.items() if token not in marks}, merges, marks, rule=rule)


def merges_plain(words: Mapping[str, int], room: int) -> list[Merge]:
    """Merges of words, {letters: how often}, until there are `room` new tokens, or no pairs."""
    order = {letter: number for number, letter in enumerate(sorted(LETTERS))}
    symbols = {word: list(word) for word in words}
    merges: list[Merge] = []
    while len(order) < len(LETTERS) + room:
        counts: Counter[Merge] = Counter()
        for word, times in words.items():
            for pair in zip(symbols[word], symbols[word][1:], strict=False):
                counts[pair] += times
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], order[pair[0]], order[pair[1]]))
        symbols = {word: merged(parts, best) for word, parts in symbols.items()}
        merges.append(best)
        order.setdefault(best[0] + best[1], len(order))
    return merges


def merges_fast(words: Mapping[str, int], room: int) -> list[Merge]:
    """The same merges, with numbers for tokens and only the words looked at that change."""
    names = sorted(LETTERS)
    order = {name: number for number, name in enumerate(names)}
    parts, times = [[order[letter] for letter in word] for word in words], list(words.values())
    counts: defaultdict[Pair, int] = defaultdict(int)
    inside: defaultdict[Pair, set[int]] = defaultdict(set)
    for word, symbols in enumerate(parts):
        for pair in zip(symbols, symbols[1:], strict=False):
            counts[pair] += times[word]
            inside[pair].add(word)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while heap and len(names) < len(LETTERS) + room:
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count:
            continue  # an old count; the new one was pushed when it changed
        merges.append((names[pair[0]], names[pair[1]]))
        name = "".join(merges[-1])
        if name not in order:
            order[name] = len(names)
            names.append(name)
        changed: set[Pair] = set()
        for word in inside.pop(pair):
            changed |= _remerge(parts, word, pair, order[name], times[word], counts, inside)
        for each in changed:
            if counts[each] > 0:
                heapq.heappush(heap, (-counts[each], each))
    return merges


def _remerge(
    parts: list[list[int]], word: int, pair: Pair, number: int, times: int,
    counts: defaultdict[Pair, int], inside: defaultdict[Pair, set[int]],
) -> set[Pair]:  # fmt: skip
    """Merge a pair in one word; count its pairs off before and on again after. Returns those whose count may differ."""
    old, new, at = parts[word], [], 0
    left, right = pair
    while at < len(old):
        if old[at] == left and at + 1 < len(old) and old[at + 1] == right:
            new.append(number)
            at += 2
        else:
            new.append(old[at])
            at += 1
    before, after = list(zip(old, old[1:], strict=False)), list(zip(new, new[1:], strict=False))
    for each in before:
        counts[each] -= times
    for each in after:
        counts[each] += times
        inside[each].add(word)
    parts[word] = new
    return set(before) | set(after)
