"""Verdicts: an output against the exact result, in float64 where that decides, in exact numbers where it does not."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS, Format
from cnnspec.elements import rule
from cnnspec.exact.results import Exact
from cnnspec.models import ErrorModel
from cnnspec.screen import Screened, screen, screen_copies

Values = npt.NDArray[Any]

MOST_ASKED, TOGETHER = 20_000, 32
"""About how many elements of one output exact numbers are asked about, and how many neighbours at a time."""


@dataclass
class Verdict:
    """What the comparison of one output found.

    ratio: the largest error / bound: at most 1 where all elements hold, inf where a bound of 0 is missed
    ulps:  the largest error in units in the last place of the exact result's format
    wrong: flat indices of the elements that do not hold
    worst: flat index of the element with the largest ratio; where it is wrong, with its expected value, error and bound
    histogram: elements by floor(log2(error / bound)) within -20 .. 20; "exact" for those without error
    """

    ratio: float = 0.0
    ulps: float = 0.0
    wrong: list[int] = field(default_factory=list)
    elements: int = 0
    judged: int = 0
    worst: int | None = None
    expected: float = 0.0
    actual: float = 0.0
    error: float = 0.0
    bound: float = 0.0
    histogram: Counter[str] = field(default_factory=Counter)
    discriminating: bool = False

    @property
    def holds(self) -> bool:
        """Whether no element is wrong."""
        return not self.wrong


def verdict(exact: Exact, actual: Sequence[Any] | Values, dtype: str, model: ErrorModel | None) -> Verdict:
    """Return the verdict on `actual`, given in row-major order as numbers of format `dtype`."""
    found = _screened(exact, actual, dtype, model)
    for i in _asked(exact, found).tolist():
        one = rule(exact, i, dtype, model)
        if one is None:
            found.judged[i] = False
            continue
        element = one.judge(_item(actual[i]))
        found.holds[i], found.ratio[i] = element.holds, element.ratio
        if element.holds and np.isinf(found.ulps[i]):  # an infinity in the place of what may overflow
            found.ulps[i] = 0.0
    judged = found.judged
    wrong = np.flatnonzero(judged & ~found.holds)
    result = Verdict(
        wrong=wrong.tolist(),
        elements=len(actual),
        judged=int(judged.sum()),
        histogram=_histogram(found.ratio[judged]),
        discriminating=_refuses_zeros(exact, judged, dtype, model),
    )
    if not result.judged:
        return result
    result.ulps = float(found.ulps[judged].max())
    among = wrong if len(wrong) else np.flatnonzero(judged)
    worst = int(among[np.argmax(found.ratio[among])])
    result.worst, result.actual = worst, _item(actual[worst])
    one = None if result.holds else rule(exact, worst, dtype, model)
    if one is None:
        result.ratio = float(found.ratio[worst]) if wrong.size else min(1.0, float(found.ratio[worst]))
        return result
    element = one.judge(result.actual)
    result.ratio, result.expected = element.ratio, element.expected
    result.error, result.bound = element.error, element.bound
    return result


def _asked(exact: Exact, found: Screened) -> Values:
    """Return the open elements that exact numbers are asked about; of very many some, and the others stay unjudged."""
    still_open = np.flatnonzero(found.open & found.judged)
    parts = math.ceil(len(still_open) / MOST_ASKED)
    if parts < 2 or exact.copies is not None:
        return still_open
    chosen = still_open // TOGETHER % parts == 0
    found.judged[still_open[~chosen]] = False
    asked: Values = still_open[chosen]
    return asked


def _screened(exact: Exact, actual: Sequence[Any] | Values, dtype: str, model: ErrorModel | None) -> Screened:
    if model is not None and exact.copies is None:
        return screen(exact, np.asarray(actual, np.float64), dtype, model)
    if exact.copies is not None and dtype in FORMATS:
        return screen_copies(exact, np.asarray(actual, np.float64))
    count = len(actual)
    every, none = np.ones(count, bool), np.zeros(count, bool)
    return Screened(every, none.copy(), every, np.zeros(count), np.zeros(count))


def _refuses_zeros(exact: Exact, judged: Values, dtype: str, model: ErrorModel | None) -> bool:
    """Say whether an output of zeros would be wrong: a case that takes it tells nothing from anything."""
    found = _screened(exact, np.zeros(judged.shape), dtype, model)
    wrong = found.judged & judged & ~found.holds
    return bool((wrong & ~found.open).any()) or bool((wrong & found.open).any() and exact.varies())


def _item(value: Any) -> Any:
    """Return a Python number."""
    return value.item() if isinstance(value, np.generic) else value


def _histogram(ratios: Values) -> Counter[str]:
    found = Counter({"exact": int((ratios == 0).sum()), "20": int(np.isinf(ratios).sum())})
    between = ratios[(ratios > 0) & np.isfinite(ratios)]
    bins, counts = np.unique(np.clip(np.frexp(between)[1] - 1, -20, 20), return_counts=True)
    found.update({str(one): count for one, count in zip(bins.tolist(), counts.tolist(), strict=True)})
    return +found


def accepted(exact: Exact, i: int, dtype: str, model: ErrorModel | None) -> tuple[Any, Any, Any] | None:
    """Return the least number of `dtype` that `verdict` takes for element i, the expected one, the largest.

    None where it takes any; (inf, expected, -inf) where it takes none; NaN three times where it must be NaN.
    -0.0 counts as less than 0.0. Found by bisection over the numbers of the format, so no rule stands twice.
    """
    one = rule(exact, i, dtype, model)
    if one is None:
        return None
    if dtype not in FORMATS:
        whole = one.expected == math.floor(one.expected)
        return (int(one.expected) if whole else float(one.expected),) * 3
    form = FORMATS[dtype]
    if one.expected != one.expected:
        return (math.nan,) * 3

    def holds(position: int) -> bool:
        return one.judge(_float_at(position, form)).holds

    start, infinite = _position(one.expected, form), _position(math.inf, form)
    if not holds(start):
        return math.inf, one.expected, -math.inf
    lowest = -_furthest(lambda position: holds(-position), -start, infinite + 1)
    return _float_at(lowest, form), one.expected, _float_at(_furthest(holds, start, infinite), form)


def _furthest(holds: Callable[[int], bool], position: int, end: int) -> int:
    """Return the last position up to `end` that holds; after one that does not, none does."""
    step = 1
    while step:
        if position + step <= end and holds(position + step):
            position, step = position + step, 2 * step
        else:
            step //= 2
    return position


def _position(value: float, form: Format) -> int:
    """Return the place of `value` among the numbers of its format in order: 0 for 0.0, -1 for -0.0.

    >>> _position(1.0, FORMATS["float16"]), _float_at(15360, FORMATS["float16"])
    (15360, 1.0)
    """
    if math.copysign(1, value) < 0:
        return ~_position(-value, form)
    if value == 0:
        return 0
    if math.isinf(value):
        return (form.largest - form.precision - form.smallest + 2) << (form.precision - 1)
    unit = max(math.frexp(value)[1] - form.precision, form.smallest)
    return int(math.ldexp(value, -unit)) + ((unit - form.smallest) << (form.precision - 1))


def _float_at(position: int, form: Format) -> float:
    """Return the number at a position; see `_position`."""
    if position < 0:
        return -_float_at(~position, form)
    steps = max(0, (position >> (form.precision - 1)) - 1)
    significand = position - (steps << (form.precision - 1))
    if form.smallest + steps > form.largest - form.precision:
        return math.inf
    return math.ldexp(significand, form.smallest + steps)
