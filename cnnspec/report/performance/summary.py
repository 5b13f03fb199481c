"""Numbers of verdicts, geometric means of ratios, the ends of the list, and what is invalid."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import INVALID, Interval
from cnnspec.report.cells import text
from cnnspec.report.performance.measures import (
    MILLI,
    OTHER,
    call_of,
    is_wrong,
    ratio_of,
    ratio_words,
    several,
    spread,
    status_of,
    time_of,
)
from cnnspec.report.performance.parts import Cell, Table, verdict_cell
from cnnspec.report.values import plural
from cnnspec.report.views import in_shell

RESAMPLES, CONFIDENCE, SEED = 9_999, 0.95, 0
MOST_ENDS = 5
MOST_INVALID = 50
MAY_FAIL = ("curve", "batch", "network")
"""Kinds of entries beside rows that may fail."""
AXES = ("dtype", "direction", "mode")
"""What tells two comparisons of one call apart."""


@dataclass(frozen=True)
class Mean:
    """The geometric mean of the ratios of one variant to one other side."""

    variant: str
    against: str
    mode: str
    comparisons: int
    held: int
    mean: Interval | None

    @property
    def words(self) -> str:
        """What is held against what."""
        mode = f", {self.mode}" if self.mode else ""
        return f"{self.variant or 'target'} / {self.against}{mode}"


def geometric_mean(ratios: Sequence[float]) -> Interval:
    """Return the geometric mean of ratios, with the percentile interval of a bootstrap over cases.

    Each case is drawn with its ratio, which is paired already. Fewer than two cases have no interval.

    >>> geometric_mean([2.0, 0.5]).median, geometric_mean([3.0, 3.0]), geometric_mean([2.0]).low
    (1.0, Interval(median=3.0, low=3.0, high=3.0), nan)
    """
    import numpy as np
    from scipy.stats import bootstrap  # slow to import

    logarithms = [math.log(ratio) for ratio in ratios]
    mean = math.exp(sum(logarithms) / len(logarithms))
    if len(ratios) < 2:
        return Interval(mean, math.nan, math.nan)
    if min(ratios) == max(ratios):
        return Interval(ratios[0], ratios[0], ratios[0])
    found = bootstrap(
        (logarithms,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 2**20 // len(ratios)),
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(mean, math.exp(found.low), math.exp(found.high))


def means(run: Run) -> list[Mean]:
    """Return the geometric mean for each variant, other side and mode, in the order in which they were measured."""
    pairs: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for row in run.rows:
        if text(row, "against"):
            pairs[text(row, "variant"), text(row, "against")].append(row)
    modes = sorted({text(row, "mode") for rows in pairs.values() for row in rows} - {"", "smoke"})
    found = []
    for (variant, against), rows in sorted(pairs.items()):
        for mode in modes or [""]:
            there = [row for row in rows if text(row, "mode") in (mode, "", "smoke")]
            ratios = [ratio.median for ratio in map(ratio_of, there) if ratio is not None]
            mean = geometric_mean(ratios) if ratios else None
            told = mode if len(modes) > 1 else ""
            found.append(Mean(variant, against, told, len(there), len(ratios), mean))
    return found


def context(run: Run) -> Mapping[str, Any]:
    """Lay out what is invalid, the means, and both ends of the list; nothing where nothing was compared."""
    compared = [row for row in run.rows if text(row, "against") or row.get("verdict")]
    complaints = invalid(run)
    if not compared and not complaints:
        return {}
    held = sorted((row for row in compared if ratio_of(row)), key=lambda row: -ratio_of(row).median)
    return {
        "invalid": complaints[:MOST_INVALID],
        "more": len(complaints) - len(complaints[:MOST_INVALID]),
        "means": _means(run),
        "resamples": RESAMPLES,
        "seed": SEED,
        "slowest": ends("The slowest against the other side", held[:MOST_ENDS], compared),
        "fastest": ends("The fastest against the other side", held[MOST_ENDS:][-MOST_ENDS:][::-1], compared),
    }


def _means(run: Run) -> Table | None:
    lines = [
        [one.variant, one.against, one.mode, ratio_words(one.mean), str(one.held), str(one.comparisons)]
        for one in means(run)
    ]
    columns = ("variant", "against", "mode", "geometric mean of ratios", "comparisons in it", "of")
    return Table("The geometric mean of ratios of times", columns, lines) if lines else None


def ends(caption: str, rows: Sequence[Entry], all_rows: Iterable[Entry]) -> Table | None:
    """Lay out a few comparisons."""
    axes = several(all_rows, ("variant", "against", *AXES))
    columns = ("call", *axes, "ratio", "ms", "against ms", "verdict")
    lines: list[list[str | Cell]] = [
        [
            call_of(row),
            *(text(row, name) for name in axes),
            ratio_words(ratio_of(row)),
            spread(time_of(row), MILLI),
            spread(time_of(row, OTHER), MILLI),
            verdict_cell(row),
        ]
        for row in rows
    ]
    return Table(caption, columns, lines) if lines else None


@dataclass(frozen=True)
class Complaint:
    """A reason why rows have no number: the sentence, the rows, and the command that shows it again."""

    sentence: str
    calls: tuple[str, ...]
    command: str

    @property
    def rows(self) -> str:
        """How many rows it costs, and the first of them."""
        more = f" and {len(self.calls) - 1} more" if len(self.calls) > 1 else ""
        return f"{plural(len(self.calls), 'row')}: {self.calls[0]}{more}"


def invalid(run: Run) -> list[Complaint]:
    """Return a complaint for each sentence that makes rows invalid, what fails conformance first.

    Points of curves, batches and networks that fail are among them.
    """
    groups: dict[tuple[bool, str, str], list[Entry]] = defaultdict(list)
    others = (one for kind in MAY_FAIL for one in run.kinds.get(kind, ()) if is_wrong(one))
    for row in (*run.rows, *others):
        wrong = is_wrong(row)
        if wrong or row.get("verdict") == INVALID:
            sentence = text(row, "note") or "no reason is given"
            groups[not wrong, sentence, _command(run, row)].append(row)
    return [
        Complaint(sentence, tuple(map(_title, rows)), command)
        for (_, sentence, command), rows in sorted(groups.items(), key=lambda item: item[0][0])
    ]


def _title(row: Entry) -> str:
    named = next(filter(None, (text(row, name) for name in ("net", "curve", "experiment"))), call_of(row))
    places = (
        f"{text(row, 'axis')} {text(row, 'value')}".strip(),
        f"N = {text(row, 'N')}" if "N" in row else "",
    )
    told = (text(row, name) for name in ("dtype", "variant", "direction"))
    return " · ".join(filter(None, (named, *places, *told)))


def _command(run: Run, row: Entry) -> str:
    case, target, against = text(row, "failing_case"), text(run.header, "target"), text(run.header, "against")
    wrong = target if status_of(row) == "fail" else against or target
    if row.get("kind") in MAY_FAIL:  # it is of one side, which it names
        names = (one for one in (target, against) if f"{text(row, 'target')} ".startswith(f"{one} "))
        wrong = next(names, target)
    return f"cnnspec replay {in_shell(case)} {in_shell(wrong)}" if case else ""
