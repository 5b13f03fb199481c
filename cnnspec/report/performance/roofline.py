"""Rooflines: what each call reaches, below the ceilings that the same run measured."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.report.cells import text
from cnnspec.report.charts import BEYOND, INK, WITHIN
from cnnspec.report.performance.drawing import SHAPES, around, figure, log_ticks, marks, rough, set_ticks
from cnnspec.report.performance.measures import call_of, conforms, number, positive, share, shown
from cnnspec.report.performance.parts import Cell, Chart, Table, drawn
from cnnspec.report.values import plural
from cnnspec.report.views import slug

COMPUTE, MEMORY, CACHE = "compute", "memory", "cache"
SIGNS = tuple(SHAPES)
MOST_ABOVE = 40
MOST_LINES = 1_000
_ROOM = (0.55, 0.42, 0.15, 0.1)


def context(run: Run, problems: list[str]) -> Mapping[str, Any]:
    """Lay out a drawing for each dtype and mode, and the ceilings; nothing where no ceiling was measured."""
    roofs = [roof for roof in run.kinds.get("roof", ()) if _rate(roof)]
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for row in run.rows:
        if conforms(row) and (positive(row, "gflops_per_s") or positive(row, "gbytes_per_s")):
            groups[_dtype(row), text(row, "mode")].append(row)
    if not roofs:
        return {}
    signs = _signs(run.rows)
    found = [_chart(key, rows, roofs, signs, problems) for key, rows in sorted(groups.items())]
    return {"ceilings": _ceilings(roofs), "charts": found, "above": _above(run.rows)}


def _dtype(row: Entry) -> str:
    """Return whose ceilings a row has: TensorFloat-32 has its own."""
    return "tf32" if "tf32" in text(row, "variant").split("+") else text(row, "dtype")


def _rate(roof: Entry) -> float | None:
    return positive(roof, "gflops_per_s" if roof.get("limit") == COMPUTE else "gbytes_per_s")


def ceilings_of(roofs: Sequence[Entry], dtype: str) -> dict[str, float]:
    """Return the highest compute, memory and cache ceilings of a dtype; those that were measured.

    >>> ceilings_of([{"limit": "memory", "dtype": "float32", "gbytes_per_s": 9.0}], "float32")
    {'memory': 9.0}
    """
    best: dict[str, float] = {}
    for roof in roofs:
        rate, limit = _rate(roof), text(roof, "limit")
        if rate and text(roof, "dtype") == dtype:
            best[limit] = max(rate, best.get(limit, 0.0))
    return best


def _ceilings(roofs: Sequence[Entry]) -> Table:
    lines = [
        [
            text(roof, "limit"),
            text(roof, "dtype"),
            text(roof, "mode"),
            f"{shown(_rate(roof))} {'GFLOP/s' if roof.get('limit') == COMPUTE else 'GB/s'}",
            text(roof, "how"),
            text(roof, "threads"),
        ]
        for roof in roofs
    ]
    return Table(
        "The ceilings, measured in this run", ("limit", "dtype", "mode", "ceiling", "how", "threads"), lines
    )


def _signs(rows: Sequence[Entry]) -> dict[str, str]:
    """Return the form of each operator's points, the most frequent first; the last form for all others."""
    names = [name for name, _ in Counter(text(row, "operator") for row in rows).most_common()]
    return {name: SIGNS[min(place, len(SIGNS) - 1)] for place, name in enumerate(names)}


def _chart(
    key: tuple[str, str],
    rows: Sequence[Entry],
    roofs: Sequence[Entry],
    signs: Mapping[str, str],
    problems: list[str],
) -> Chart:
    dtype, mode = key
    ceilings = ceilings_of(roofs, dtype)
    points = [row for row in rows if positive(row, "gflops_per_s") and positive(row, "intensity")]
    title = f"{dtype or 'unknown dtype'}{f', {mode}' if mode else ''}"
    above = sum(bool(text(row, "above_roof")) for row in rows)
    best = max((number(row, "efficiency") or 0.0 for row in points), default=0.0)
    ordered = sorted(rows, key=lambda row: -(number(row, "efficiency") or -1.0))
    table = Table(
        f"Calls and their roofs, {title}",
        (
            "call",
            "operator",
            "variant",
            "direction",
            "FLOP/byte",
            "GFLOP/s",
            "GB/s",
            "roof GFLOP/s",
            "limit",
            "% of roof",
        ),
        [_line(row) for row in ordered[:MOST_LINES]],
        sortable=True,
    )
    notes = [f"No ceiling of {dtype} was measured: the points stand without a roof."] * (not ceilings)
    notes += [f"{plural(above, 'point')} above the roof, listed below."] * bool(above)
    notes += [f"{plural(len(rows) - len(points), 'call')} without FLOPs: only in the table."] * (
        len(points) < len(rows)
    )
    notes += [f"The table holds the {MOST_LINES} nearest to their roof."] * (len(rows) > MOST_LINES)
    kinds = dict.fromkeys(
        sorted((text(row, "operator") for row in points), key=lambda one: SIGNS.index(signs[one]))
    )
    described = f"{plural(len(points), 'call')} under {plural(len(ceilings), 'ceiling')}"
    described += f"; the nearest reaches {share(best)}" if best else ""
    return Chart(
        slug("roofline", dtype, mode),
        title,
        described,
        drawn(lambda: _draw(points, ceilings, signs), title, problems) if points else "",
        table,
        notes,
        [(signs[name], "accent", name) for name in kinds],
    )


def _line(row: Entry) -> list[str | Cell]:
    near = Cell(share(number(row, "efficiency")), "flaky" if text(row, "above_roof") else "")
    rates = [
        shown(positive(row, name))
        for name in ("intensity", "gflops_per_s", "gbytes_per_s", "roof_gflops_per_s")
    ]
    words = [text(row, name) for name in ("operator", "variant", "direction")]
    return [call_of(row), *words, *rates, text(row, "roof_limit"), near]


def _above(rows: Sequence[Entry]) -> Table | None:
    found = [row for row in rows if text(row, "above_roof") and conforms(row)]
    found.sort(key=lambda row: -(number(row, "efficiency") or 0.0))
    lines: list[list[str | Cell]] = [
        [
            call_of(row),
            text(row, "dtype"),
            text(row, "variant"),
            text(row, "mode"),
            share(number(row, "efficiency")),
            Cell(text(row, "above_roof"), "wrap"),
        ]
        for row in found[:MOST_ABOVE]
    ]
    more = f"; {len(found) - MOST_ABOVE} more are in the tables" if len(found) > MOST_ABOVE else ""
    columns = ("call", "dtype", "variant", "mode", "of the roof", "why it may be")
    return Table(f"Above the roof: kept, and nothing is clipped{more}", columns, lines) if lines else None


def _draw(points: Sequence[Entry], ceilings: Mapping[str, float], signs: Mapping[str, str]) -> str:
    places = [(positive(row, "intensity") or 1.0, positive(row, "gflops_per_s") or 1.0) for row in points]
    compute = ceilings.get(COMPUTE)
    bends = [compute / rate for name, rate in ceilings.items() if compute and name != COMPUTE]
    left, right = around([x for x, _ in places] + bends, 0.05, 8)
    bottom, top = around([y for _, y in places] + ([compute] if compute else []), 0.08, 10)

    def paint(axes: Any) -> None:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        for name, rate in ceilings.items():
            _ceiling(axes, name, rate, compute or math.inf)
        for sign in SIGNS:
            for hollow in (False, True):
                for beyond, colour in ((False, WITHIN), (True, BEYOND)):
                    chosen = [
                        place
                        for place, row in zip(places, points, strict=True)
                        if signs[text(row, "operator")] == sign
                        and (row.get("roof_limit") == CACHE) == hollow
                        and bool(text(row, "above_roof")) == beyond
                    ]
                    marks(axes, chosen, sign, colour, size=3.0, hollow=hollow)
        span = range(math.ceil(math.log2(left)), math.floor(math.log2(right)) + 1)
        set_ticks(axes.xaxis, [2.0**e for e in span[:: max(1, len(span) // 8)]], rough)
        set_ticks(axes.yaxis, log_ticks(bottom, top), rough)
        axes.set_xlabel("FLOP / byte", color=INK, labelpad=2)
        axes.set_title("GFLOP/s", loc="left", color=INK, fontsize=8.5, pad=4, x=-0.06)

    return figure(8.4, 4.3, (_ROOM[0], _ROOM[1], _ROOM[2], 0.3), paint)


def _ceiling(axes: Any, name: str, rate: float, compute: float) -> None:
    """Draw one ceiling within the limits of the axes, with its words."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    if name == COMPUTE:
        axes.plot([left, right], [rate, rate], color=INK, linewidth=1.1)
        words, at, turn = f"compute {shown(rate)} GFLOP/s", (left, rate), 0.0
    else:
        first, last = max(left, bottom / rate), min(right, top / rate, compute / rate)
        if first >= last:
            return
        look: dict[str, Any] = {"dashes": (4, 2)} if name == CACHE else {}
        axes.plot([first, last], [first * rate, last * rate], color=INK, linewidth=1.1, **look)
        start, end = axes.transData.transform([(first, first * rate), (last, last * rate)]).tolist()
        turn = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
        words, at = f"{name} {shown(rate)} GB/s", (first, first * rate)
    axes.annotate(
        words, at, (2, 3), textcoords="offset points", va="bottom",
        rotation=turn, rotation_mode="anchor", color=INK,
    )  # fmt: skip
