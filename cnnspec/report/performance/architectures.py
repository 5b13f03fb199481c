"""Whole networks: what they cost, how fast they are, and what their time is spent on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.report.cells import text
from cnnspec.report.charts import DOUBT, GOOD, GROUND, INK, KNOWN, WITHIN
from cnnspec.report.performance.drawing import figure
from cnnspec.report.performance.measures import (
    MILLI,
    conforms,
    has_samples,
    mebibytes,
    number,
    positive,
    several,
    share,
    shown,
    spread,
    time_of,
)
from cnnspec.report.performance.parts import Cell, Chart, Table, drawn, status_cell
from cnnspec.report.values import as_count, plural, thousands

MOST_BARS = 24
LEAST_PART = 0.01
_COLOURS = {"conv": WITHIN, "linear": KNOWN, "norm": DOUBT, "pool": GOOD}
_CHARACTER = 0.072
"""The width of a character in inches, on average."""
_WIDTH, _ROOM, _BAR = 9.6, (2.2, 0.3, 0.4, 0.06), 0.34
NETWORK_KEY = ("net", "variant", "dtype", "direction", "mode")
"""What tells two searches for a batch apart."""
SHARE_KEY = ("net", "variant", "dtype", "direction", "batch")
Shares = Mapping[tuple[str, ...], Sequence[Entry]]


def context(run: Run, problems: list[str]) -> Mapping[str, Any]:
    """Lay out a line for each network, and a bar of its time by operator; nothing where none was measured."""
    measured = [one for one in run.kinds.get("network", ()) if has_samples(one)]
    shares = _shares(run.kinds.get("share", ()))
    if not measured and not shares:
        return {}
    title = "Time by kind of operator"
    columns = ("network", *SHARE_KEY[1:], "operator", "of the time", "ms", "calls", "MFLOP")
    lines = [_share_line(one) for group in shares.values() for one in group]
    chart = Chart(
        "time-by-operator",
        title,
        _described(shares),
        drawn(lambda: _draw(shares), title, problems),
        Table(title, columns, lines),
        [f"{plural(len(shares) - MOST_BARS, 'more bar')}: only in the table."] * (len(shares) > MOST_BARS),
    )
    return {
        "table_of_networks": _table(measured),
        "time_by_operator": chart if shares else None,
        "notes": _notes(measured),
    }


def _table(measured: Sequence[Entry]) -> Table | None:
    groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for one in measured:
        groups[tuple(text(one, name) for name in NETWORK_KEY)].append(one)
    axes = several(measured, ("target", "variant", "dtype", "direction", "mode"))
    columns = (
        *("network", *axes, "input", "parameters", "MFLOP per image", "batch"),
        *("ms", "images/s", "peak MiB", "of the compute ceiling", "conformance"),
    )
    lines = [
        _line(one, axes, best=one is not chosen[0])
        for group in groups.values()
        for chosen in [chosen_of(group)]
        for one in chosen
    ]
    return (
        Table("Networks at batch 1 and at the batch with most images a second", columns, lines)
        if lines
        else None
    )


def chosen_of(group: Sequence[Entry]) -> list[Entry]:
    """Return the smallest batch, and the one with most images per second where that is another."""
    ordered = sorted(group, key=lambda one: number(one, "batch") or 0.0)
    timed = [one for one in ordered if conforms(one)]
    told = [one for one in timed if one.get("best") is True]
    best = (
        told[0]
        if told
        else max(timed, key=lambda one: number(one, "images_per_s") or 0.0, default=ordered[0])
    )
    return [ordered[0]] if best is ordered[0] else [ordered[0], best]


def _line(one: Entry, axes: Sequence[str], *, best: bool) -> list[str | Cell]:
    flops, held = positive(one, "flops"), conforms(one)
    numbers = (
        shown(number(one, "images_per_s")),
        mebibytes(number(one, "peak_memory_bytes")),
        share(number(one, "efficiency")),
    )
    return [
        text(one, "net"),
        *(text(one, name) for name in axes),
        "×".join(map(str, one["input"])) if isinstance(one.get("input"), list) else text(one, "input"),
        thousands(as_count(one.get("parameters"))),
        shown(flops / 1e6 if flops else None, 4),
        f"{shown(number(one, 'batch'), 7)}{' (best)' if best else ''}",
        spread(time_of(one), MILLI),
        *(numbers if held else ("", "", "")),
        status_cell(one),
    ]


def _notes(measured: Sequence[Entry]) -> list[str]:
    """Say how outputs were checked, and what the searches for a batch ended with."""
    told: dict[str, list[str]] = defaultdict(list)
    axes = several(measured, NETWORK_KEY[1:])
    for one in measured:
        name = " ".join(filter(None, (text(one, part) for part in ("net", *axes))))
        for words in (text(one, "checked"), text(one, "note")):
            if words:
                told[words].append(name)
    return [f"{', '.join(dict.fromkeys(nets))}: {words}" for words, nets in told.items()]


def _shares(entries: Sequence[Entry]) -> dict[tuple[str, ...], list[Entry]]:
    """Return the parts of each network's time, the largest first."""
    groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for one in entries:
        if positive(one, "part"):
            groups[tuple(text(one, name) for name in SHARE_KEY)].append(one)
    return {
        key: sorted(group, key=lambda one: -(number(one, "part") or 0.0)) for key, group in groups.items()
    }


def _share_line(one: Entry) -> list[str]:
    flops, time = positive(one, "flops"), number(one, "seconds")
    return [
        *(text(one, name) for name in (*SHARE_KEY, "operator")),
        share(number(one, "part")),
        shown(None if time is None else MILLI * time),
        shown(number(one, "calls"), 7),
        shown(flops / 1e6 if flops else None),
    ]


def _part(one: Entry) -> str:
    return f"{text(one, 'operator')} {share(number(one, 'part'))}"


def _described(shares: Shares) -> str:
    told = [
        f"{_name(*key)}: {', '.join(_part(one) for one in group if (number(one, 'part') or 0.0) >= LEAST_PART)}"
        for key, group in shares.items()
    ]
    return f"{'; '.join(told[:MOST_BARS])}; what is below {share(LEAST_PART)} is in the numbers"


def _name(net: str, variant: str, dtype: str, direction: str, batch: str) -> str:
    backward = "backward" if "backward" in direction else ""
    told = [variant[:16] if variant != "plain" else "", dtype if dtype not in ("float32", variant) else ""]
    words = (net[:24], *told, backward, f"N = {batch}" if batch else "")
    return " · ".join(filter(None, words))


def _draw(shares: Shares) -> str:
    bars = [*shares.items()][:MOST_BARS]
    inches = _WIDTH - _ROOM[0] - _ROOM[2]

    def paint(axes: Any) -> None:
        axes.set_xlim(0, 1)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        words: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline"}
        for place, (key, group) in enumerate(bars):
            axes.text(-0.01, place, _name(*key), ha="right", color=INK, **words)
            parts = [number(one, "part") or 0.0 for one in group]
            start, whole = 0.0, max(1.0, sum(parts))
            for one, part in zip(group, parts, strict=True):
                operator, width = text(one, "operator"), part / whole
                look = {"facecolor": colour_of(operator), "edgecolor": GROUND, "linewidth": 1.2}
                axes.barh(place, width, 0.72, start, **look)
                told = _fitting(operator, width, inches)
                axes.text(start + width / 2, place, told, ha="center", color=GROUND, **words)
                start += width
        axes.set_yticks([])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])

    return figure(_WIDTH, _ROOM[1] + _ROOM[3] + _BAR * len(bars), _ROOM, paint)


def colour_of(operator: str) -> str:
    """Return the colour of a kind of operator."""
    return next((colour for word, colour in _COLOURS.items() if word in operator), INK)


def _fitting(operator: str, part: float, inches: float) -> str:
    """Return the longest of an operator's name with its part, its name, and nothing that a segment has room for."""
    room = part * inches / _CHARACTER - 1.5
    choices = (f"{operator} {share(part)}", operator, "")
    return next(words for words in choices if len(words) <= room or not words)
