"""The closed set of status words: their order, their glyphs, and what each one means."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """One status word, with the glyph shown beside it (one that no platform draws as a coloured emoji)."""

    word: str
    glyph: str
    meaning: str
    applicable: bool = True


_ALL = (
    Status("harness", "!", "cnnspec itself failed here; the whole score is withdrawn", applicable=False),
    Status("crash", "↯", "the process that ran the call died"),
    Status("timeout", "◷", "the call did not return within its time limit"),
    Status("fail", "✗", "a counterexample was found"),
    Status("flaky", "≈", "the same case gave both outcomes; never counted as a pass"),
    Status("xpass", "★", "listed as a known deviation, yet it passed: remove it from the list"),
    Status("xfail", "◐", "listed as a known deviation, with its reason, and it failed as listed"),
    Status("vacuous", "⊘", "every case passed, but none could have told right from wrong"),
    Status("pass", "✓", "every case kept within its proven bound, and some could have failed"),
    Status("unsupported", "–", "the target says that it does not implement this", applicable=False),
    Status("skip", "∅", "not run here, for the stated reason", applicable=False),
)

STATUSES: dict[str, Status] = {status.word: status for status in _ALL}
"""Every status by its word, worst first."""

NEEDS_ATTENTION = frozenset({"harness", "crash", "timeout", "fail", "flaky", "xpass"})
"""The statuses of a row that are a failure of the run; `xfail` is one that was foreseen."""

_RANK = {word: rank for rank, word in enumerate(STATUSES)}


def rank(word: str) -> int:
    """Return where `word` stands in the order from worst to least; an unknown word is as bad as harness."""
    return _RANK.get(word, 0)


def worst(words: Iterable[str]) -> str:
    """Return the worst of several statuses, by the order in which a cell of the matrix takes them.

    >>> worst(["pass", "xfail", "fail", "skip"])
    'fail'
    """
    return min(words, key=rank)
