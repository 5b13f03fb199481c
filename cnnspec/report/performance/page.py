"""The performance report: one HTML page that says first whether its verdicts hold."""

from pathlib import Path

from cnnspec.bench.record import Run
from cnnspec.report import rendering
from cnnspec.report.cells import text
from cnnspec.report.performance import (
    architectures,
    batching,
    fitness,
    forest,
    history,
    roofline,
    scaling,
    summary,
    tables,
)
from cnnspec.report.performance.measures import ratio_of
from cnnspec.report.rendering import Section

NAME = "performance.html"


def save(run: Run, directory: str | Path) -> list[str]:
    """Write performance.html; returns a sentence for each piece that failed."""
    problems: list[str] = []
    try:
        rendering.write(Path(directory) / NAME, performance_html(run, directory, problems))
    except Exception as error:  # noqa: BLE001 - a report that fails must not cost the others
        problems.append(f"{NAME} was not written: {type(error).__name__}: {error}")
    return problems


def performance_html(run: Run, directory: str | Path, problems: list[str]) -> str:
    """Write the page; a section that cannot be made says so in its place, and in `problems`.

    It depends on the run and on the history in the directory alone: made twice, it is the same bytes.
    """
    try:
        return _page(run, directory, problems)
    except Exception as error:  # noqa: BLE001 - a page without its looks still carries the verdict
        problems.append(f"{NAME} is in its plainest form: {type(error).__name__}: {error}")
        return rendering.plainest([*_plain(run), *problems])


def _page(run: Run, directory: str | Path, problems: list[str]) -> str:
    return rendering.page(
        "performance/page.html.j2",
        _sections(run, directory, problems),
        problems,
        warnings=_warnings(run),
        folder="performance/",
        verdict=fitness.verdict(run),
        fitness=fitness.fitness(run),
        status=fitness.overall(run),
        counts=fitness.verdict_counts(run),
        target=text(run.header, "target"),
        against=text(run.header, "against"),
        version=text(run.header, "cnnspec"),
    )


def _sections(run: Run, directory: str | Path, problems: list[str]) -> list[Section]:
    return [
        ("fitness", "Fitness", lambda: fitness.context(run)),
        ("summary", "Summary", lambda: summary.context(run)),
        ("forest", "Ratios", lambda: forest.context(run, problems)),
        ("roofline", "Rooflines", lambda: roofline.context(run, problems)),
        ("speedups", "Speed-ups and their errors", lambda: tables.speedups(run)),
        ("scaling", "Scaling", lambda: scaling.context(run, problems)),
        ("batching", "Batching", lambda: batching.context(run, problems)),
        ("architectures", "Architectures", lambda: architectures.context(run, problems)),
        ("engine", "The exact engine beside torch", lambda: tables.engine(run)),
        ("counters", "Counters of operations", lambda: tables.counters(run)),
        ("history", "History", lambda: history.context(directory, problems)),
        ("rows", "Every measured row", lambda: tables.rows(run)),
        ("run", "Run and environment", lambda: fitness.environment(run)),
        ("method", "Method", lambda: fitness.method(run)),
    ]


def _warnings(run: Run) -> list[str]:
    end = run.end
    if end is None:
        return ["The record has no end: the run was cut off."]
    return ["The run was interrupted."] if end.get("interrupted") else []


def _plain(run: Run) -> list[str]:
    told = [f"target: {text(run.header, 'target')}", f"rows: {len(run.rows)}"]
    return [
        *told,
        *(f"{text(row, 'layer')}: {text(row, 'verdict')} {ratio_of(row) or ''}" for row in run.rows),
    ]
