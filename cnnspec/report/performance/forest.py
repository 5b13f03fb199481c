"""The forest plot: a line for each comparison, its ratio and interval on a logarithmic axis."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import AMBIGUOUS, FAST, SAME, SLOW
from cnnspec.report.cells import text
from cnnspec.report.charts import BEYOND, DOUBT, GOOD, INK, WASH
from cnnspec.report.performance.drawing import around, figure, marks, segments, set_ticks
from cnnspec.report.performance.fitness import delta_of
from cnnspec.report.performance.measures import call_of, ratio_of, ratio_words, several
from cnnspec.report.performance.parts import GLYPHS, Chart, Table, drawn, verdict_cell
from cnnspec.report.performance.summary import AXES
from cnnspec.report.values import plural
from cnnspec.report.views import slug

MOST_LINES = 60
"""Comparisons in one drawing: from both ends of the list."""
MOST_CHARTS = 12
MOST_WORDS = 66
_COLOURS = {SLOW: BEYOND, FAST: GOOD, SAME: INK, AMBIGUOUS: DOUBT}
_SIGNS = {SLOW: "▲", FAST: "▼", SAME: "■", AMBIGUOUS: "◆"}
_TICKS: tuple[tuple[float, ...], ...] = (
    (0.98, 0.99, 1.0, 1.01, 1.02),
    (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15),
    (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0),
    tuple(2.0**n for n in range(-6, 7)),
    tuple(10.0**n for n in range(-12, 13)),
)
_LINE = 0.2
_ROOM = (4.6, 0.3, 1.55, 0.08)


def context(run: Run, problems: list[str]) -> Mapping[str, Any]:
    """Lay out a drawing for each variant and other side; nothing where no ratio may be shown."""
    groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for row in run.rows:
        if ratio_of(row):
            groups[tuple(text(row, name) for name in ("target", "variant", "against", "mode"))].append(row)
    names = sorted(groups, key=lambda key: (-len(groups[key]), key))[:MOST_CHARTS]
    found = [_chart(key, groups[key], delta_of(run), problems) for key in groups if key in names]
    return (
        {"charts": found, "left_out": len(groups) - len(found), "delta": f"{100 * delta_of(run):g} %"}
        if found
        else {}
    )


def _chart(key: tuple[str, ...], rows: Sequence[Entry], delta: float, problems: list[str]) -> Chart:
    target, variant, against, mode = key
    ordered = sorted(rows, key=lambda row: (-ratio_of(row).median, call_of(row)))
    kept = ordered
    if len(ordered) > MOST_LINES:
        kept = [*ordered[: MOST_LINES // 2], *ordered[-(MOST_LINES // 2) :]]
    title = f"{target} / {against}{f', {mode}' if mode else ''}"
    if variant and variant not in target:
        title = f"{target} {variant} / {against}{f', {mode}' if mode else ''}"
    axes = several(rows, AXES[:2])
    words = {
        id(row): " · ".join(filter(None, [call_of(row), *(text(row, one) for one in axes)])) for row in kept
    }
    missing = len(ordered) - len(kept)
    notes = []
    if missing:
        half = MOST_LINES // 2
        notes.append(
            f"The {half} slowest and the {half} fastest; {plural(missing, 'comparison')} between them left out here."
        )
    low, high = ratio_of(ordered[-1]).median, ratio_of(ordered[0]).median
    table = Table(
        f"Ratios of {title}",
        ("call", "ratio", "pairs", "verdict"),
        [[words[id(row)], ratio_words(ratio_of(row)), text(row, "pairs"), verdict_cell(row)] for row in kept],
    )
    return Chart(
        slug("forest", *key),
        title,
        f"{plural(len(rows), 'ratio')} from {low:.3g} to {high:.3g}, slowest first",
        drawn(lambda: _draw(kept, words, delta, split=bool(missing)), title, problems),
        table,
        notes,
    )


def _draw(rows: Sequence[Entry], words: Mapping[int, str], delta: float, *, split: bool) -> str:
    ratios = [ratio_of(row) for row in rows]
    ends = [one for ratio in ratios for one in (ratio.median, ratio.low, ratio.high) if math.isfinite(one)]
    low, high = around([*ends, 1 - 1.3 * delta, 1 + 1.3 * delta], 0.04)

    def paint(axes: Any) -> None:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.axvspan(1 - delta, 1 + delta, color=WASH, linewidth=0)
        axes.axvline(1, color=INK, linewidth=0.8)
        if split:
            axes.axhline(len(rows) / 2 - 0.5, color=INK, linewidth=0.6, dashes=(2, 3))
        for verdict in (*_COLOURS, ""):
            _points(axes, rows, ratios, verdict)
        for place, (row, ratio) in enumerate(zip(rows, ratios, strict=True)):
            _words(axes, place, _cut(words[id(row)]), row, ratio)
        axes.set_yticks([])
        set_ticks(axes.xaxis, _ticks(low, high), lambda one: f"{one:g}")

    return figure(11.0, _ROOM[1] + _ROOM[3] + _LINE * len(rows), _ROOM, paint)


def _points(axes: Any, rows: Sequence[Entry], ratios: Sequence[Any], verdict: str) -> None:
    chosen = [
        (place, ratio)
        for place, (row, ratio) in enumerate(zip(rows, ratios, strict=True))
        if (text(row, "verdict") if text(row, "verdict") in _COLOURS else "") == verdict
    ]
    colour = _COLOURS.get(verdict, INK)
    spans = [
        ((one.low, place), (one.high, place)) for place, one in chosen if math.isfinite(one.high - one.low)
    ]
    segments(axes, spans, colour, 1.4)
    marks(axes, [(one.median, place) for place, one in chosen], _SIGNS.get(verdict, "●"), colour, size=3.2)


def _words(axes: Any, place: int, words: str, row: Entry, ratio: Any) -> None:
    sides = axes.get_yaxis_transform()
    verdict = text(row, "verdict")
    told = f"{GLYPHS[verdict]} {verdict}" if verdict in GLYPHS else verdict
    axes.text(-0.015, place, words, transform=sides, ha="right", va="center_baseline", color=INK)
    colour = _COLOURS.get(verdict, INK)
    axes.text(1.015, place, _short(ratio.median), transform=sides, ha="left", va="center_baseline", color=INK)
    axes.text(1.085, place, told, transform=sides, ha="left", va="center_baseline", color=colour)


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.1 <= ratio < 100 else f"{ratio:.3g}"


def _cut(words: str) -> str:
    half = MOST_WORDS // 2
    return words if len(words) <= MOST_WORDS else f"{words[: half - 1]} … {words[-half + 2 :]}"


def _ticks(low: float, high: float) -> list[float]:
    fitting = ([tick for tick in ticks if low <= tick <= high] for ticks in _TICKS)
    ranges = zip(_TICKS, fitting, strict=True)
    covering = (found for ticks, found in ranges if low >= ticks[0] ** 2 and high <= ticks[-1] ** 2)
    return next(covering, [1.0])
