"""Truncation: a text, or a pair of texts, cut to the number of tokens that a model can read.

    longest_first   tokens go from the longer one of the two, one by one      only_first, only_second    from that one
    right, left     they go from a text's end, or from its beginning

Marks around a text are never cut; there is room for `max_length` tokens less the marks. Source: the library
`tokenizers`, utils/truncation.rs.
"""

from __future__ import annotations

SIDES = ("right", "left")
STRATEGIES = ("longest_first", "only_first", "only_second")


def checked_truncation(max_length: int | None, side: str, strategy: str, marks: int) -> None:
    """Raises ValueError for a length that leaves no room for the marks, and for an unknown side or strategy."""
    if max_length is not None and (type(max_length) is not int or max_length < marks):
        raise ValueError(f"expected a max_length of at least {marks}, for the marks, got {max_length!r:.50}")
    if side not in SIDES or strategy not in STRATEGIES:
        raise ValueError(f"truncation knows the sides {', '.join(SIDES)} and the strategies {', '.join(STRATEGIES)}, "
                         f"got {side!r:.50} and {strategy!r:.50}")  # fmt: skip


def shortened(bodies: list[list[int]], room: int, side: str = "right", strategy: str = "longest_first") -> None:
    """Cut the texts, in place, until both fit into `room`. Raises ValueError where the strategy cannot do that."""
    lengths = [len(body) for body in bodies]
    excess = sum(lengths) - room
    if excess <= 0:
        return
    if room == 0:
        lengths = [0, 0]
    elif strategy == "longest_first":  # the shorter one keeps up to half, the longer one the rest
        short = int(lengths[0] > lengths[1])
        kept = min(lengths[short], room // 2)
        lengths[short], lengths[1 - short] = kept, room - kept
    else:
        which = STRATEGIES.index(strategy) - 1
        if lengths[which] <= excess:
            raise ValueError(f"{strategy} expected more tokens in its text than the {excess} to cut, got "
                             f"{lengths[which]}")  # fmt: skip
        lengths[which] -= excess
    for body, length in zip(bodies, lengths, strict=True):
        if side == "right":
            del body[length:]
        else:
            del body[: len(body) - length]
