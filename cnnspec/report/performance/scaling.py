"""Scaling: how times grow along one axis, a small drawing for each curve, several targets together."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.report.cells import text
from cnnspec.report.charts import DOUBT, FAINT, GOOD, GROUND, INK, KNOWN, WITHIN
from cnnspec.report.performance.drawing import (
    SHAPES,
    around,
    figure,
    log_ticks,
    marks,
    rough,
    segments,
    set_ticks,
    thinned,
)
from cnnspec.report.performance.measures import (
    MILLI,
    digits,
    has_samples,
    is_unjudged,
    number,
    positive,
    seconds,
    shown,
    spread,
    time_of,
)
from cnnspec.report.performance.parts import Cell, Chart, Table, drawn, status_cell
from cnnspec.report.values import plural
from cnnspec.report.views import slug

THREADS, LINE = "threads", "line"
MOST_CHARTS = 60
LOOKS = ((WITHIN, "accent"), (KNOWN, "xfail"), (DOUBT, "flaky"), (GOOD, "pass"), (INK, "same"))
"""Colours of targets, in a drawing and in words."""
SIGNS = tuple(SHAPES)
_ROOM_OF_TICK, _CHARACTER = 0.03, 0.018
"""The parts of an axis's width that lie free beside a number, and that a character of it takes."""
Key = tuple[str, str, str]


def context(run: Run, problems: list[str]) -> Mapping[str, Any]:
    """Lay out a drawing for each curve and axis; nothing where no curve was measured."""
    measured = [point for point in run.kinds.get("curve", ()) if has_samples(point)]
    dtypes: dict[str, set[str]] = defaultdict(set)
    for point in measured:
        dtypes[text(point, "target")].add(text(point, "dtype"))
    measured, fits = (
        [_named(one, dtypes) for one in found] for found in (measured, run.kinds.get("fit", ()))
    )
    groups: dict[Key, list[Entry]] = defaultdict(list)
    for point in measured:
        groups[_key(point)].append(point)
    targets = list(dict.fromkeys(text(point, "target") for point in measured))
    found = [_chart(key, points, fits, targets, problems) for key, points in [*groups.items()][:MOST_CHARTS]]
    return {"charts": found, "left_out": len(groups) - len(found)} if found else {}


def _key(point: Entry) -> Key:
    return (text(point, "axis"), text(point, "curve"), text(point, "mode"))


def _named(one: Entry, dtypes: Mapping[str, AbstractSet[str]]) -> Entry:
    """Return an entry whose target says its dtype too, where it was measured in several."""
    target = text(one, "target")
    return {**one, "target": f"{target} {text(one, 'dtype')}" if len(dtypes.get(target, ())) > 1 else target}


def _of(fit: Entry, key: Key) -> bool:
    """Tell whether a fit is of a drawing; one that does not tell its mode is of all."""
    axis, curve, mode = key
    return (text(fit, "axis"), text(fit, "curve")) == (axis, curve) and text(fit, "mode") in (mode, "")


def _chart(
    key: Key, points: Sequence[Entry], fits: Sequence[Entry], targets: Sequence[str], problems: list[str]
) -> Chart:
    axis, curve, mode = key
    kinds = {text(point, "dtype") for point in points}
    title = " · ".join(filter(None, (curve or axis, *(kinds if len(kinds) == 1 else ()), mode)))
    lines = lines_of(points)
    own = [fit for fit in fits if _of(fit, key)]
    told = [
        f"{f'{target}: ' if len(lines) > 1 or target != targets[0] else ''}{words}"
        for target in lines
        for fit in own
        if text(fit, "target") == target and (words := fit_words(fit))
    ]
    wrong = {text(point, "note") for point in points if time_of(point) is None and text(point, "note")}
    columns = ("target", axis or "value", "ms", "GFLOP/s", "GB/s", "conformance")
    table = Table(f"{title}: times", columns, [_line(point) for point in points])
    count = sum(map(len, lines.values()))
    unjudged = {(text(one, "target"), number(one, "value") or 0.0) for one in points if is_unjudged(one)}
    ends = [value for line in lines.values() for value, *_ in line]
    reach = (
        f"{plural(count, 'point')}, {axis} {' to '.join(dict.fromkeys(f'{one:g}' for one in (min(ends), max(ends))))}"
        if ends
        else "no time to show"
    )
    return Chart(
        slug("scaling", *key),
        title,
        reach,
        drawn(lambda: _draw(axis, lines, ideal(axis, points), own, targets, unjudged), title, problems)
        if lines
        else "",
        table,
        [*told, *sorted(wrong)],
        [(_sign(name, targets), _look(name, targets)[1], name) for name in lines if len(targets) > 1],
    )


def lines_of(points: Sequence[Entry]) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return (value, median, low, high) of each target's points that have a time, in order."""
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for point in points:
        value, time = positive(point, "value"), time_of(point)
        if value is not None and time is not None:
            found[text(point, "target")].append((value, time.median, time.low, time.high))
    return {target: sorted(line) for target, line in found.items()}


def ideal(axis: str, points: Sequence[Entry]) -> list[tuple[float, float]]:
    """Return the line of the first target on which it would always do as much work per second as at its best.

    The work is FLOPs, or bytes where there are none; over threads, each does as much as the first alone.

    >>> two = [{"value": n, "t_median_s": 1.0, "flops": 5 * n, "target": "a"} for n in (1, 4)]
    >>> ideal("batch", two), ideal("threads", two)
    ([(1.0, 0.25), (4.0, 1.0)], [(1.0, 1.0), (4.0, 0.25)])
    """
    timed = [point for point in points if positive(point, "value") and time_of(point)]
    if not timed:
        return []
    mine = [point for point in timed if text(point, "target") == text(timed[0], "target")]
    mine.sort(key=lambda point: positive(point, "value") or 0.0)
    places = [(positive(point, "value") or 1.0, time_of(point).median) for point in mine]
    if axis == THREADS:
        first, start = places[0]
        return [(value, start * first / value) for value, _ in places]
    for name in ("flops", "bytes_compulsory"):
        work = [one for point in mine if (one := positive(point, name))]
        if len(work) == len(places):
            least = min(time / one for one, (_, time) in zip(work, places, strict=True))
            return [(value, least * one) for one, (value, _) in zip(work, places, strict=True)]
    return []


def fit_words(fit: Entry) -> str:
    """Say what a fit found.

    >>> fit_words({"kind_of_fit": "line", "a_s": 0.002, "b_s": 0.0005, "n_half": 4.0, "per_second": 2000.0})
    'T(N) = 2 ms + 500 µs · N; N½ = 4; at most 2000 inputs/s'
    >>> fit_words({"kind_of_fit": "slopes", "slopes": [[16, 32, 1.9], [32, 64, 2.1]], "switches": [32]})
    'log-log slope 1.9 to 2.1; jumps after 32'
    """
    if fit.get("kind_of_fit") == LINE:
        slope, start = number(fit, "b_s"), number(fit, "a_s")
        if slope is None or start is None:
            return text(fit, "note")
        parts = [f"T(N) = {_signed(start)} {'+' if slope >= 0 else '−'} {_signed(abs(slope))} · N"]
        half, rate = number(fit, "n_half"), positive(fit, "per_second")
        parts += [f"N½ = {digits(half, 2)}"] if half is not None else []
        parts += [f"at most {shown(rate)} inputs/s"] if rate else []
        parts += [text(fit, "note")] if text(fit, "note") else []
        return "; ".join(parts)
    slopes = [one[2] for one in fit.get("slopes") or () if len(one) > 2 and isinstance(one[2], (int, float))]
    jumps = ", ".join(f"{one:g}" for one in _switches(fit))
    ends = dict.fromkeys(digits(one, 2) for one in (min(slopes), max(slopes))) if slopes else ()
    words = f"log-log slope {' to '.join(ends)}" if ends else ""
    return "; ".join(filter(None, (words, f"jumps after {jumps}" if jumps else "", text(fit, "note"))))


def _signed(value: float) -> str:
    return f"−{seconds(-value)}" if value < 0 else seconds(value) if value else "0"


def _switches(fit: Entry) -> list[float]:
    return [float(one) for one in fit.get("switches") or () if isinstance(one, (int, float)) and one > 0]


def _line(point: Entry) -> list[str | Cell]:
    value = shown(number(point, "value"), 7)
    rates = [
        shown(number(point, name)) if time_of(point) else "" for name in ("gflops_per_s", "gbytes_per_s")
    ]
    return [text(point, "target"), value, spread(time_of(point), MILLI), *rates, status_cell(point)]


def _sign(target: str, targets: Sequence[str]) -> str:
    return SIGNS[min(targets.index(target), len(SIGNS) - 1)]


def _look(target: str, targets: Sequence[str]) -> tuple[str, str]:
    return LOOKS[targets.index(target) % len(LOOKS)]


def _draw(
    axis: str,
    lines: Mapping[str, Sequence[tuple[float, float, float, float]]],
    line: Sequence[tuple[float, float]],
    fits: Sequence[Entry],
    targets: Sequence[str],
    unjudged: AbstractSet[tuple[str, float]],
) -> str:
    points = [point for found in lines.values() for point in found]
    left, right = around([value for value, *_ in points], 0.07)
    bottom, top = around([one for _, *times in points for one in times if math.isfinite(one)], 0.1, 4)
    values = sorted({value for value, *_ in points})

    def paint(axes: Any) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        kept_line = _within(line, bottom, top)
        axes.plot(
            [x for x, _ in kept_line], [y for _, y in kept_line], color=INK, linewidth=0.8, dashes=(4, 3)
        )
        for target, found in lines.items():
            colour, _ = _look(target, targets)
            for switch in [one for fit in fits if text(fit, "target") == target for one in _switches(fit)]:
                after = min((value for value in values if value > switch), default=switch)
                axes.axvline(math.sqrt(switch * after), color=colour, linewidth=1, dashes=(1, 2))
            axes.plot([x for x, *_ in found], [y for _, y, *_ in found], color=colour, linewidth=1.1)
            spans = [((x, low), (x, high)) for x, _, low, high in found if math.isfinite(high - low)]
            segments(axes, spans, colour, 2.6, faint=True)
            for hollow in (False, True):
                kept = [(x, y) for x, y, *_ in found if ((target, x) in unjudged) == hollow]
                marks(axes, kept, _sign(target, targets), colour, size=2.6, hollow=hollow, ground=GROUND)
        room = _ROOM_OF_TICK + _CHARACTER * max(len(rough(value)) for value in values)
        set_ticks(axes.xaxis, thinned(values, (right / left) ** room), rough)
        set_ticks(axes.yaxis, log_ticks(bottom, top, 5), seconds)
        axes.spines["bottom"].set_color(FAINT)
        axes.set_xlabel(axis, color=INK, labelpad=3)

    return figure(3.6, 2.4, (0.58, 0.44, 0.08, 0.06), paint)


def _within(line: Sequence[tuple[float, float]], bottom: float, top: float) -> list[tuple[float, float]]:
    """Return the part of a line of powers that lies between two heights."""
    kept: list[tuple[float, float]] = []
    for (x, y), (after, higher) in pairwise(line):
        for edge in sorted(
            {y, higher, *(one for one in (bottom, top) if min(y, higher) < one < max(y, higher))}
        ):
            if bottom <= edge <= top:
                part = math.log(edge / y) / math.log(higher / y) if higher != y else 0.0
                kept.append((x * (after / x) ** part, edge))
    return sorted(set(kept))
