"""What one call on a batch saves over as many calls on single inputs."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import INVALID
from cnnspec.report.cells import text
from cnnspec.report.charts import DOUBT, GOOD, INK, KNOWN, WITHIN
from cnnspec.report.performance.drawing import (
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
    has_samples,
    mebibytes,
    number,
    positive,
    ratio_of,
    ratio_words,
    shown,
)
from cnnspec.report.performance.parts import Cell, Chart, Table, answer_cell, drawn
from cnnspec.report.values import plural
from cnnspec.report.views import slug

VARIANTS = {
    "lecture": ("●", WITHIN, "accent", "as in the lecture: the output lies on the CPU"),
    "fair": ("■", GOOD, "pass", "the output lies on the device, and exists before"),
    "graph": ("▲", KNOWN, "xfail", "the separate calls are one captured graph"),
    "model": ("◆", DOUBT, "flaky", "by the bytes alone: weights are read again for each call"),
}
MODEL = "model"
_OTHER = ("+", INK, "same", "")
LECTURE = {"lecture_cpu": "CPU", "lecture_gpu": "GPU"}
ELSEWHERE = "lecture, other hardware"
Line = list[tuple[float, Any]]


def context(run: Run, problems: list[str]) -> Mapping[str, Any]:
    """Lay out a drawing for each experiment, target and mode; nothing where none was made."""
    found: dict[tuple[str, ...], list[Entry]] = {}
    experiments: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in run.kinds.get("batch", ()):
        if has_samples(entry):
            experiments[text(entry, "experiment"), text(entry, "dtype")].append(entry)
    for key, entries in experiments.items():
        models = [entry for entry in entries if entry.get("variant") == MODEL]
        measured = [entry for entry in entries if entry.get("variant") != MODEL]
        for target in dict.fromkeys(text(entry, "target") for entry in measured or models):
            own = [entry for entry in measured if text(entry, "target") == target]
            modes = list(dict.fromkeys(text(entry, "mode") for entry in own if entry.get("mode"))) or [""]
            for mode in modes:
                kept = [entry for entry in own if text(entry, "mode") in (mode, "")]
                found[*key, target, mode] = [*kept, *models]
    shown_charts = [_chart(key, entries, problems) for key, entries in found.items()]
    return {"charts": shown_charts} if shown_charts else {}


def _chart(key: tuple[str, ...], entries: Sequence[Entry], problems: list[str]) -> Chart:
    title = " · ".join(filter(None, key)) or "batching"
    lines = lines_of(entries)
    measured = [one.median for name, line in lines.items() if name != MODEL for _, one in line]
    wrong = [entry for entry in entries if entry.get("agree") is False or entry.get("verdict") == INVALID]
    told = sorted({text(entry, "note") for entry in wrong} - {""})
    notes = [
        f"✗ {plural(len(wrong), 'point')} without a number: {'; '.join(told) or 'both ways do not agree'}"
    ]
    columns = ("variant", "N", "S(N)", "MiB in one call", "MiB in N calls", "outputs agree")
    reach = f"S(N) up to {shown(max(measured))}" if measured else "no measured number to show"
    references = references_of(entries)
    described = "; ".join([reach, *(f"{ELSEWHERE}: {one:g} on a {name}" for name, one in references.items())])
    keys = [
        (sign, look, f"{name}{': ' if words else ''}{words}")
        for name in lines
        for sign, _, look, words in [_of(name)]
    ]
    return Chart(
        slug("batching", *key),
        title,
        described,
        drawn(lambda: _draw(lines, references), title, problems) if lines else "",
        Table(f"{title}: S(N)", columns, [_line(entry) for entry in entries]),
        notes if wrong else [],
        keys,
    )


def lines_of(entries: Sequence[Entry]) -> dict[str, Line]:
    """Return (N, S(N) with its interval) of each variant, in order, where both ways agree."""
    found: dict[str, Line] = defaultdict(list)
    for entry in entries:
        count, ratio = positive(entry, "N"), ratio_of(entry, "speedup")
        if count is not None and ratio is not None:
            found[text(entry, "variant")].append((count, ratio))
    return {variant: sorted(line, key=lambda point: point[0]) for variant, line in found.items()}


def references_of(entries: Sequence[Entry]) -> dict[str, float]:
    """Return what the lecture measured, by the words for its hardware."""
    found: dict[str, float] = {}
    for entry in entries:
        told = entry.get("context")
        if isinstance(told, dict):
            found |= {words: one for name, words in LECTURE.items() if (one := positive(told, name))}
    return found


def _of(variant: str) -> tuple[str, str, str, str]:
    return VARIANTS.get(variant, _OTHER)


def _line(entry: Entry) -> list[str | Cell]:
    variant, ratio = text(entry, "variant"), ratio_of(entry, "speedup")
    gain = shown(number(entry, "speedup")) if variant == MODEL else ratio_words(ratio)
    moved = [mebibytes(number(entry, name)) for name in ("bytes_batched", "bytes_loop")]
    return [variant, shown(number(entry, "N"), 7), gain, *moved, answer_cell(entry.get("agree"))]


def _draw(lines: Mapping[str, Line], references: Mapping[str, float]) -> str:
    counts = sorted({count for line in lines.values() for count, _ in line})
    heights = [
        one for line in lines.values() for _, ratio in line for one in (ratio.median, ratio.low, ratio.high)
    ]
    left, right = around(counts, 0.05)
    bottom, top = around([*(one for one in heights if math.isfinite(one)), *references.values(), 1.0], 0.1)

    def paint(axes: Any) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.axhline(1, color=INK, linewidth=0.8)
        for name, one in references.items():
            axes.axhline(one, color=INK, linewidth=0.8, dashes=(4, 3))
            look = {"transform": axes.get_yaxis_transform(), "va": "center", "color": INK}
            axes.text(1.01, one, f"{name} {one:g}:\n{ELSEWHERE}".replace(", ", ",\n"), **look)
        for variant, line in lines.items():
            sign, colour, *_ = _of(variant)
            axes.plot([x for x, _ in line], [one.median for _, one in line], color=colour, linewidth=1.1)
            spans = [((x, one.low), (x, one.high)) for x, one in line if math.isfinite(one.high - one.low)]
            segments(axes, spans, colour, 2.6, faint=True)
            marks(axes, [(x, one.median) for x, one in line], sign, colour, size=2.8)
        set_ticks(axes.xaxis, thinned(counts, (right / left) ** 0.06), rough)
        set_ticks(axes.yaxis, log_ticks(bottom, top), lambda one: f"{one:g}×")
        axes.set_xlabel("N", color=INK, labelpad=3)

    return figure(5.6, 3.0, (0.5, 0.44, 0.95 if references else 0.1, 0.12), paint)
