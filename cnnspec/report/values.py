"""Numbers as results.jsonl spells them, and as a person reads them."""

import math
from typing import Any


def as_float(value: Any) -> float | None:
    """Return the float that a JSON value of results.jsonl stands for; None where it stands for none.

    Strings are `float.hex` spellings, `nan`, `inf` and `-inf`.

    >>> as_float("0x1.8p+1"), as_float(2), as_float("-inf"), as_float(None), as_float("(2, 3)")
    (3.0, 2.0, -inf, None, None)
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        return float.fromhex(value) if isinstance(value, str) else float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def as_count(value: Any) -> int:
    """Return a whole number of things; 0 for what is no number."""
    number = as_float(value)
    return int(number) if number is not None and math.isfinite(number) else 0


def ratio_key(ratio: float | None) -> tuple[bool, float]:
    """Return a key that sorts ratios from none at all, through the numbers, to NaN, the worst."""
    if ratio is None:
        return (False, -1.0)
    return (math.isnan(ratio), 0.0 if math.isnan(ratio) else ratio)


def units(ratio: float | None) -> str:
    """Write an error in units of its bound, in few digits that never round across the bound.

    >>> [units(r) for r in (None, 0.0, 0.3, 0.9999, 1.0, 1.0001, 35.2, 1e4, 0.00004, 2.0**40)]
    ['', '0', '0.30', '0.99', '1', '1.01', '35.20', '1e+04', '4e-05', '1.1e+12']
    """
    if ratio is None:
        return ""
    if math.isnan(ratio):
        return "NaN"
    if math.isinf(ratio):
        return "∞"
    if ratio in {0, 1}:
        return f"{ratio:.0f}"
    if ratio < 0.01 or ratio >= 10_000:
        return f"{ratio:.2g}"
    return f"{max(ratio, 1.01):.2f}" if ratio > 1 else f"{min(ratio, 0.99):.2f}"


def decimal(value: Any, digits: int = 9) -> str:
    """Write a value of results.jsonl in decimal, to `digits` digits; as it stands where it is no number.

    >>> decimal("0x1.8p+1"), decimal("0x1.999999999999ap-4"), decimal("shape (2, 3)"), decimal(None)
    ('3', '0.1', 'shape (2, 3)', '')
    """
    if value is None:
        return ""
    number = as_float(value)
    if number is None:
        return str(value)
    return str(number) if not math.isfinite(number) else f"{number:.{digits}g}"


def thousands(count: int) -> str:
    """Write a count with its digits in groups of three.

    >>> thousands(1204)
    '1 204'
    """
    return f"{count:,}".replace(",", " ")


def percent(part: int, whole: int) -> str:
    """Write a share to a tenth of a per cent; only everything is 100.0 % and only nothing is 0.0 %.

    >>> percent(1204, 1249), percent(9999, 10000), percent(1, 10000), percent(3, 3)
    ('96.4 %', '99.9 %', '0.1 %', '100.0 %')
    """
    tenths = (2000 * part + whole) // (2 * whole)
    if 0 < part < whole:
        tenths = min(max(tenths, 1), 999)
    return f"{tenths // 10}.{tenths % 10} %"


def plural(count: int, noun: str, plural_noun: str = "") -> str:
    """Write a count and its noun.

    >>> plural(1, "failure"), plural(1200, "failure"), plural(2, "known deviation")
    ('1 failure', '1 200 failures', '2 known deviations')
    """
    return f"{thousands(count)} {noun if count == 1 else plural_noun or noun + 's'}"


def duration(seconds: float | None) -> str:
    """Write a duration in the unit that suits it.

    >>> duration(0.0012), duration(3.25), duration(93.1), duration(4000), duration(None)
    ('1.2 ms', '3.2 s', '1 min 33 s', '1 h 6 min', '')
    """
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.2g} ms" if seconds < 0.0995 else f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
