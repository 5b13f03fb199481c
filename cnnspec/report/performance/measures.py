"""Entries of a run as they are shown: numbers where they are held, and none for what does not conform."""

import math
from collections.abc import Iterable
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.verdicts import INVALID, Interval
from cnnspec.report.cells import text
from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import thousands

MILLI = 1e3
OTHER = "against_"
"""What the names of the other side's numbers begin with."""
_UNITS = (("s", 1.0), ("ms", MILLI), ("µs", 1e6), ("ns", 1e9))
_JUDGED = ("row", "curve", "network")
"""Kinds of entries that say how they were judged; the others hold what was checked in other ways."""


def number(entry: Entry, name: str) -> float | None:
    """Return a finite number of an entry; None where it holds none."""
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def positive(entry: Entry, name: str) -> float | None:
    """Return a number above zero, which alone has a logarithm."""
    found = number(entry, name)
    return found if found is not None and found > 0 else None


def interval(entry: Entry, middle: str = "ratio", low: str = "ratio_ci_lo", high: str = "ratio_ci_hi") -> Any:
    """Return a positive median with its interval, whose ends may be NaN; None where there is no median."""
    centre = positive(entry, middle)
    if centre is None:
        return None
    ends = (positive(entry, name) for name in (low, high))
    return Interval(centre, *(math.nan if end is None else end for end in ends))


def time_of(entry: Entry, side: str = "") -> Any:
    """Return the seconds of a call with their interval; None where it was not timed or does not conform.

    With `OTHER` they are those of the other side.
    """
    names = (f"{side}{name}" for name in ("t_median_s", "t_ci95_lo_s", "t_ci95_hi_s"))
    return interval(entry, *names) if conforms(entry) else None


def status_of(entry: Entry, name: str = "conformance") -> str:
    """Return the status of an entry; "" for other words, such as "not judged: too large"."""
    word = text(entry, name)
    return word if word in STATUSES else ""


def is_wrong(entry: Entry) -> bool:
    """Tell whether a side of an entry failed conformance, or what must be equal is not."""
    sides = (status_of(entry), status_of(entry, f"{OTHER}conformance"))
    return "fail" in sides or entry.get("agree") is False


def conforms(entry: Entry) -> bool:
    """Tell whether a number of this entry may be shown: no side of it, and no output of it, was found wrong.

    A point of a curve that is too large to be judged has one where the smaller points pass; it is drawn hollow.
    """
    if is_unjudged(entry):
        return entry.get("kind") == "curve"
    if status_of(entry) != "pass" and (entry.get("conformance") or entry.get("kind") in _JUDGED):
        return False
    other = entry.get("against_conformance")
    return (not other or status_of(entry, "against_conformance") == "pass") and entry.get(
        "agree"
    ) is not False


def is_unjudged(entry: Entry) -> bool:
    """Tell whether the judge did not see a call, though it ran."""
    return text(entry, "conformance").startswith("not judged")


def ratio_of(entry: Entry, name: str = "ratio") -> Any:
    """Return the ratio of an entry with its interval; None where it has none that may be shown."""
    return interval(entry, name) if conforms(entry) and entry.get("verdict") != INVALID else None


def has_samples(entry: Entry) -> bool:
    """Tell whether an entry was measured, rather than run once."""
    return text(entry, "mode") != "smoke"


def digits(value: float, count: int = 3) -> str:
    r"""Write a number with so many significant digits, and never in powers of ten between 1e-4 and 1e7.

    From five digits on, those before the point stand in groups of three.

    >>> digits(1234.5), digits(0.01234), digits(2.0), digits(0.0), digits(3e9)
    ('1230', '0.0123', '2', '0', '3e+09')
    >>> digits(46231), digits(-999.7), digits(99.6, 2), digits(46231, 7)
    ('46\xa0200', '-1000', '100', '46\xa0231')
    """
    written = f"{value:.{count}g}"
    rounded = float(written)
    if 1e4 <= abs(rounded) < 1e7:
        return thousands(round(rounded)).replace(" ", "\u00a0")
    return f"{rounded:.0f}" if 10**count <= abs(rounded) < 1e4 else written


def shown(value: float | None, count: int = 3) -> str:
    """Write a number, or nothing where there is none."""
    return "" if value is None else digits(value, count)


def spread(found: Any, factor: float = 1.0, fewest: int = 0) -> str:
    """Write a median and its interval, with the digits that the interval supports, and at least so many decimals.

    The median has two significant digits, however wide the interval is.

    >>> spread(Interval(0.00104, 0.00103, 0.00106), MILLI), spread(Interval(2.0, math.nan, math.nan)), spread(None)
    ('1.04 [1.03, 1.06]', '2', '')
    >>> spread(Interval(0.000132, 0.000129, 0.000381), MILLI)
    '0.13 [0.13, 0.38]'
    """
    if found is None:
        return ""
    middle, low, high = (factor * one for one in (found.median, found.low, found.high))
    if not math.isfinite(high - low):
        return digits(middle, 2)
    least = (high - low) or abs(middle) / 1e3
    supported = 1 - math.floor(math.log10(least) + 0.7)
    places = max(fewest, min(9, max(supported, 1 - math.floor(math.log10(middle)))))
    return f"{middle:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def ratio_words(found: Any) -> str:
    """Write a ratio and its interval.

    >>> ratio_words(Interval(0.9, 0.7, 1.1)), ratio_words(Interval(312.0, 290.0, 330.0)), ratio_words(None)
    ('0.90 [0.70, 1.10]', '312 [290, 330]', '')
    """
    return "" if found is None else spread(found, fewest=2 if found.median < 10 else 0)


def seconds(value: float | None) -> str:
    """Write seconds in the unit that suits them.

    >>> seconds(0.00104), seconds(2.5e-7), seconds(12.0), seconds(None)
    ('1.04 ms', '250 ns', '12 s', '')
    """
    if value is None:
        return ""
    unit, factor = next((pair for pair in _UNITS if value * pair[1] >= 1), _UNITS[-1])
    return f"{digits(value * factor)} {unit}"


def mebibytes(value: float | None) -> str:
    """Write bytes in MiB.

    >>> mebibytes(3 * 2**19)
    '1.5'
    """
    return "" if value is None else digits(value / 2**20)


def share(value: float | None) -> str:
    r"""Write a part of one in per cent.

    >>> share(0.256), share(0.004), share(1.043), share(None)
    ('26\xa0%', '0.4\xa0%', '104\xa0%', '')
    """
    return "" if value is None else f"{digits(100 * value, 3 if value >= 1 else 2)}\u00a0%"


def call_of(entry: Entry) -> str:
    """Return what was called, in one line."""
    return " ".join((text(entry, "layer") or text(entry, "case") or text(entry, "operator")).split())


def several(entries: Iterable[Entry], names: Iterable[str]) -> list[str]:
    """Return those names under which entries say different things."""
    found = list(entries)
    return [name for name in names if len({text(entry, name) for entry in found}) > 1]
