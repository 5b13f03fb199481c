"""Tables: what variants gain and what they cost in error, the exact engine, counters, and every measured row."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import AMBIGUOUS, FAST, SAME, SLOW
from cnnspec.report.cells import text
from cnnspec.report.performance.measures import (
    MILLI,
    OTHER,
    call_of,
    conforms,
    has_samples,
    number,
    positive,
    ratio_of,
    ratio_words,
    several,
    share,
    shown,
    spread,
    time_of,
)
from cnnspec.report.performance.parts import GLYPHS, Cell, Table, answer_cell, status_cell, verdict_cell
from cnnspec.report.performance.summary import geometric_mean
from cnnspec.report.statuses import worst
from cnnspec.report.values import as_float, ratio_key, units

MOST_SPEEDUPS = 120
MOST_ROWS = 5_000


def speedups(run: Run) -> Mapping[str, Any]:
    """Lay out each variant against the other side, by operator and call by call; nothing where none was compared."""
    rows = [row for row in run.rows if ratio_of(row)]
    if not rows:
        return {}
    rows.sort(key=lambda row: ratio_of(row).median)
    axes = several(rows, ("against", "dtype", "direction", "mode"))
    columns = (
        "call",
        "variant",
        *axes,
        "ratio",
        "times as fast",
        "verdict",
        "conformance",
        "error / bound",
        "of the other",
    )
    lines: list[list[str | Cell]] = [
        [
            call_of(row),
            text(row, "variant"),
            *(text(row, name) for name in axes),
            ratio_words(ratio_of(row)),
            shown(1 / ratio_of(row).median),
            verdict_cell(row),
            status_cell(row),
            units(as_float(row.get("error_over_bound"))),
            units(as_float(row.get("against_error_over_bound"))),
        ]
        for row in rows[:MOST_SPEEDUPS]
    ]
    caption = "Call by call, the fastest first: ratio of times, verdict, conformance and error over bound"
    return {
        "by_operator": _by_operator(rows),
        "table_of_calls": Table(caption, columns, lines, sortable=True),
        "left_out": len(rows) - len(lines),
    }


def _by_operator(rows: Sequence[Entry]) -> Table:
    axes = ("variant", "against", *several(rows, ("dtype", "direction", "mode")))
    groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for row in rows:
        groups[(text(row, "operator"), *(text(row, name) for name in axes))].append(row)
    columns = (
        "operator",
        *axes,
        "calls",
        "geometric mean of ratios",
        "verdicts",
        "conformance",
        "worst error / bound",
        "of the other",
    )
    lines: list[list[str | Cell]] = [
        [
            *key,
            str(len(group)),
            ratio_words(geometric_mean([ratio_of(row).median for row in group])),
            " ".join(_counted(group)),
            status_cell({"conformance": worst(text(row, "conformance") for row in group)}),
            _largest(group, "error_over_bound"),
            _largest(group, "against_error_over_bound"),
        ]
        for key, group in sorted(groups.items())
    ]
    return Table("Ratios and errors by operator", columns, lines, sortable=True)


def _counted(rows: Sequence[Entry]) -> list[str]:
    counts = {
        word: sum(text(row, "verdict") == word for row in rows) for word in (SLOW, FAST, SAME, AMBIGUOUS)
    }
    return [f"{count}{GLYPHS[word]}" for word, count in counts.items() if count]


def _largest(rows: Sequence[Entry], name: str) -> str:
    return units(max((as_float(row.get(name)) for row in rows), key=ratio_key, default=None))


def engine(run: Run) -> Mapping[str, Any]:
    """Lay out the exact engine beside torch; nothing where it was not measured."""
    entries = [one for one in run.kinds.get("engine", ()) if has_samples(one)]
    columns = ("what", "against", "ratio", "at most", "reached", "ms", "against ms", "pairs", "note")
    lines: list[list[str | Cell]] = [
        [
            text(one, "what"),
            text(one, "against"),
            ratio_words(ratio_of(one)),
            shown(number(one, "target_ratio")),
            _reached(one),
            spread(time_of(one), MILLI),
            spread(time_of(one, OTHER), MILLI),
            text(one, "pairs"),
            Cell(text(one, "note"), "wrap"),
        ]
        for one in entries
    ]
    caption = "Time of the exact engine over that of torch, whose results are rounded"
    return {"table_of_all": Table(caption, columns, lines)} if lines else {}


def _reached(one: Entry) -> Cell:
    """Say by the interval whether a goal is reached."""
    goal, found = number(one, "target_ratio"), ratio_of(one)
    if goal is None or found is None:
        return Cell("")
    if found.high <= goal:
        return answer_cell(True)
    return answer_cell(False) if found.low > goal else Cell("? open", "flaky")


def counters(run: Run) -> Mapping[str, Any]:
    """Lay out how many times longer other counters take; nothing where none was asked."""
    entries = [one for one in run.kinds.get("counter", ()) if has_samples(one)]
    columns = ("counter", "call", "times as long as cnnspec", "its ms", "our ms", "pairs", "note")
    lines: list[list[str | Cell]] = [
        [
            *(text(one, name) for name in ("counter", "call")),
            ratio_words(ratio_of(one)),
            spread(time_of(one), MILLI),
            spread(time_of(one, OTHER), MILLI),
            text(one, "pairs"),
            Cell(text(one, "note"), "wrap"),
        ]
        for one in entries
    ]
    caption = "Time of other counters of operations over that of cnnspec"
    return {"table_of_all": Table(caption, columns, lines)} if lines else {}


def rows(run: Run) -> Mapping[str, Any]:
    """Lay out every row of the record; nothing where there is none."""
    found = run.rows[:MOST_ROWS]
    if not found:
        return {}
    axes = several(found, ("variant", "against", "dtype", "direction", "mode"))
    columns = (
        *("call", *axes, "ratio", "verdict", "ms", "against ms", "IQR / median", "MFLOP", "GFLOP/s", "GB/s"),
        *("of the roof", "conformance", "error / bound", "where it stands"),
    )
    same = {name: text(found[0], name) for name in ("variant", "against", "dtype", "direction", "mode")}
    told = ", ".join(f"{name} {value}" for name, value in same.items() if name not in axes and value)
    lines = [[*_row(row, axes)] for row in found]
    return {
        "table_of_all": Table("Every measured row", columns, lines, sortable=True),
        "same": told,
        "left_out": len(run.rows) - len(found),
    }


def _row(row: Entry, axes: Sequence[str]) -> list[str | Cell]:
    held, flops = conforms(row), positive(row, "flops")
    middle, width = number(row, "t_median_s"), number(row, "t_iqr_s")
    names = ("gflops_per_s", "gbytes_per_s")
    return [
        call_of(row),
        *(text(row, name) for name in axes),
        ratio_words(ratio_of(row)),
        verdict_cell(row),
        spread(time_of(row), MILLI),
        spread(time_of(row, OTHER), MILLI),
        share(width / middle) if held and middle and width is not None else "",
        shown(flops / 1e6) if flops else "",
        *(shown(positive(row, name)) if held else "" for name in names),
        share(number(row, "efficiency")) if held else "",
        status_cell(row),
        units(as_float(row.get("error_over_bound"))),
        text(row, "provenance"),
    ]
