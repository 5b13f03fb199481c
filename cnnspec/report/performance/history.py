"""Run after run: how long the calls of a directory's runs took, each environment by itself."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnspec.bench import history
from cnnspec.bench.history import Series
from cnnspec.report.cells import text
from cnnspec.report.charts import DOUBT, INK, WITHIN
from cnnspec.report.performance.drawing import around, figure, log_ticks, marks, set_ticks
from cnnspec.report.performance.measures import shown
from cnnspec.report.performance.parts import Cell, Chart, Table, answer_cell, drawn
from cnnspec.report.values import plural
from cnnspec.report.views import slug

MOST_RUNS = 50
MOST_CHARTS = 12


def context(directory: str | Path, problems: list[str]) -> Mapping[str, Any]:
    """Lay out a drawing for each environment, never joined; nothing where there are not two runs."""
    entries = history.read(directory)
    found = history.series(entries)
    if len(entries) < 2:
        return {}
    charts = [_chart(one, problems) for one in found[-MOST_CHARTS:]]
    return {"charts": charts, "environments": len(found), "left_out": len(found) - len(charts)}


def _chart(one: Series, problems: list[str]) -> Chart:
    title = f"environment {one.fingerprint}"
    told = [text(one.runs[-1], name) for name in ("processor", "torch")]
    points = [(place, value) for place, value in enumerate(one.relative) if value is not None and value > 0]
    step = one.step()
    notes = [", ".join(filter(None, told))]
    if step is not None:
        notes.append(f"A step at run {step.run + 1}: {shown(step.shift)} times the time before.")
    last = (
        f"the last took {shown(points[-1][1])} times as long as the first" if points else "nothing to compare"
    )
    return Chart(
        slug("history", one.fingerprint),
        title,
        f"{plural(len(one.runs), 'run')}, {plural(one.shared, 'shared call')}; {last}",
        drawn(lambda: _draw(points, step.run if step else None), title, problems) if len(points) > 1 else "",
        Table(
            f"Runs of {title}",
            ("run", "started", "commit", "fit", "geometric mean of times over the first run's"),
            [
                _line(place, run, value)
                for place, (run, value) in enumerate(zip(one.runs, one.relative, strict=True))
            ],
        ),
        [note for note in notes if note],
    )


def _line(place: int, run: Mapping[str, Any], value: float | None) -> list[str | Cell]:
    fit = answer_cell(run.get("fit"))
    return [str(place + 1), text(run, "started_utc"), text(run, "commit")[:12], fit, shown(value, 4)]


def _draw(points: Sequence[tuple[int, float]], step: int | None) -> str:
    kept = points[-MOST_RUNS:]
    bottom, top = around([value for _, value in kept], 0.15, 1.2)

    def paint(axes: Any) -> None:
        axes.set_yscale("log")
        axes.set_xlim(kept[0][0] - 0.5, kept[-1][0] + 0.5)
        axes.set_ylim(bottom, top)
        axes.axhline(1, color=INK, linewidth=0.8)
        if step is not None and kept[0][0] < step:
            axes.axvline(step - 0.5, color=DOUBT, linewidth=1, dashes=(1, 2))
        axes.plot([x for x, _ in kept], [y for _, y in kept], color=WITHIN, linewidth=1.1)
        marks(axes, kept, "●", WITHIN, size=2.6)
        every = max(1, math.ceil(len(kept) / 10))
        set_ticks(axes.xaxis, [float(x) for x, _ in kept[::every]], lambda x: f"{x + 1:g}")
        set_ticks(axes.yaxis, log_ticks(bottom, top, 5), lambda y: f"{y:.3g}")
        axes.set_xlabel("run", color=INK, labelpad=3)

    return figure(4.2, 2.0, (0.5, 0.44, 0.1, 0.08), paint)
