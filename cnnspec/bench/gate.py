"""Whether a run is slower than the one before: what two records say, and fresh processes about what looks slower.

Two runs are apart in time, in which machines change by more than what is looked for. So times are compared where there
is nothing better only: where both runs hold the target against the same other side, their ratios are. What is SLOW so
is measured again, both versions against each other in fresh processes, and only what is SLOW there too fails.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspec.bench import fresh
from cnnspec.bench.exports import interval
from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import AMBIGUOUS, INVALID, MISSING, NOT_COMPARABLE, SLOW, Interval

if TYPE_CHECKING:
    import pandas as pd

DELTA = 0.05
"""What two runs, or two processes, may differ by and be the same."""
UNDECIDED = 0.2
"""The largest part of the calls of the base that may stay without a verdict."""
HOLDS, SLOWER, INCONCLUSIVE, NOTHING = 0, 1, 3, 4

Key = tuple[str, str, str, str]
Measured = Callable[[Run, Run, Sequence[Mapping[str, Any]]], Iterator[list[float]]]


@dataclass
class Judged:
    """A call of the base: what the two records say of it, and fresh processes where they were asked."""

    row: Entry
    verdict: str
    ratio: Interval | None = None
    confirmed: Interval | None = None


@dataclass(frozen=True)
class Outcome:
    """What a gate found: its exit code, one sentence, and every call of the base."""

    code: int
    sentence: str
    judged: Sequence[Judged] = ()

    def frame(self) -> "pd.DataFrame":
        """Return a row for each call."""
        import pandas as pd

        names = ("layer", "dtype", "variant", "direction", "mode")
        return pd.DataFrame(
            {name: one.row[name] for name in names}
            | {"head/base": str(one.ratio or ""), "fresh": str(one.confirmed or ""), "verdict": one.verdict}
            for one in self.judged
        )


def decide(base: Run, head: Run, measured: Measured = fresh.log_ratios) -> Outcome:
    """Return whether the head is slower than the base."""
    before, after = base.header, head.header
    if before["fingerprint"] != after["fingerprint"]:
        judged = [Judged(row, NOT_COMPARABLE) for row in base.timed]
        return Outcome(NOTHING, f"{NOT_COMPARABLE}: {differences(before, after)}", judged)
    judged = screened(base, head)
    if not any(one.ratio for one in judged):
        return Outcome(NOTHING, "nothing to compare: no call was timed in both runs", judged)
    unfit = [name for name, run in (("base", base), ("head", head)) if not run.fit]
    if unfit:
        for one in judged:
            one.verdict = INVALID
        reason = f"the A/A control of {' and '.join(unfit)} is not SAME: measure again on a calmer machine"
        return Outcome(INCONCLUSIVE, f"inconclusive: {reason}", judged)
    try:
        confirm(base, head, [one for one in judged if one.verdict == SLOW], measured)
    except fresh.LostError as error:
        reason = f"what looks slower cannot be measured again in fresh processes: {error}"
        return Outcome(INCONCLUSIVE, f"inconclusive: {reason}", judged)
    return _concluded(judged)


def differences(before: Entry, after: Entry) -> str:
    """Return the facts in which two environments differ.

    >>> differences({"environment": {"threads": 1, "torch": "2.9"}}, {"environment": {"threads": 2, "torch": "2.9"}})
    'threads is 1 in the base and 2 in the head'
    """
    one, other = before["environment"], after["environment"]
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return "; ".join(
        f"{name} is {one.get(name)!r} in the base and {other.get(name)!r} in the head" for name in names
    )


def screened(base: Run, head: Run) -> list[Judged]:
    """Return what the records say of each call that the base has timed."""
    heads = {_key(row): row for row in head.rows}
    found = []
    for row in base.timed:
        other = heads.get(_key(row)) or heads.get(_key({**row, "mode": ""}))
        if other is not None and other.get("t_median_s"):
            ratio = _ratio(row, other)
            found.append(Judged(row, ratio.verdict(DELTA), ratio))
        else:
            wrong = other is not None and other["verdict"] == INVALID
            found.append(Judged(row, INVALID if wrong else MISSING))
    return found


def confirm(base: Run, head: Run, slow: Sequence[Judged], measured: Measured) -> None:
    """Measure again, in fresh processes, what looks slower: the verdict is what they say."""
    if not slow:
        return
    by_process = list(measured(base, head, [one.row for one in slow]))
    for one, logarithms in zip(slow, zip(*by_process, strict=True), strict=True):
        found = Interval.of(logarithms, fresh.CONFIDENCE)
        one.confirmed = Interval(math.exp(found.median), math.exp(found.low), math.exp(found.high))
        one.verdict = one.confirmed.verdict(DELTA)


def _concluded(judged: Sequence[Judged]) -> Outcome:
    counts = Counter(one.verdict for one in judged)
    if counts[SLOW]:
        slow = "; ".join(f"{one.row['layer']} {one.confirmed}" for one in judged if one.verdict == SLOW)
        return Outcome(SLOWER, f"{counts[SLOW]} of {len(judged)} calls became slower: {slow}", judged)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    if counts[INVALID]:
        reason = f"{counts[INVALID]} calls that conformed in the base do not in the head ({told})"
        return Outcome(INCONCLUSIVE, f"inconclusive: {reason}", judged)
    if counts[AMBIGUOUS] + counts[MISSING] > UNDECIDED * len(judged):
        reason = f"more than {UNDECIDED:.0%} of the calls have no verdict ({told})"
        return Outcome(INCONCLUSIVE, f"inconclusive: {reason}", judged)
    return Outcome(HOLDS, f"nothing is confirmed slower ({told})", judged)


def _ratio(before: Entry, after: Entry) -> Interval:
    """Return head over base: of their ratios to the same other side, else of their times."""
    if before.get("ratio_ci_lo") and after.get("ratio_ci_lo") and before["against"] == after["against"]:
        return interval(after).over(interval(before))
    return _time(after).over(_time(before))


def _time(row: Entry) -> Interval:
    ends = (row[name] if row[name] is not None else math.nan for name in ("t_ci95_lo_s", "t_ci95_hi_s"))
    return Interval(row["t_median_s"], *ends)


def _key(row: Mapping[str, Any]) -> Key:
    return row["case"], row["variant"], row["direction"], row["mode"]
