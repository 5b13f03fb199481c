"""The report as one HTML page that needs no network and no JavaScript."""

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from cnnspec.report import charts, networks, rendering, views
from cnnspec.report.matrix import Matrix
from cnnspec.report.paths import paths_of
from cnnspec.report.rendering import Section
from cnnspec.report.results import Results
from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import as_float, duration, percent
from cnnspec.report.verdict import verdict

if TYPE_CHECKING:
    from cnnspec.report.build import Coverage, Hit


def conformance_html(
    results: Results, *, coverage: "Coverage | None" = None, problems: list[str] | None = None
) -> str:
    """Write the page; a section that cannot be made says so in its place, and in `problems`."""
    problems = [] if problems is None else problems
    try:
        return _page(results, coverage, problems)
    except Exception as error:  # noqa: BLE001 - a page without its looks still carries the verdict
        problems.append(f"conformance.html is in its plainest form: {type(error).__name__}: {error}")
        return _plainest(results, problems)


def _page(results: Results, coverage: "Coverage | None", problems: list[str]) -> str:
    return rendering.page(
        "page.html.j2",
        _sections(results, coverage, problems),
        problems,
        warnings=results.warnings,
        results=results,
        verdict=verdict(results),
        status=_overall(results),
        targets=_targets(results),
        counts={word: count for word, count in results.counts.items() if count},
        version=results.header.get("cnnspec", ""),
    )


def _sections(results: Results, coverage: "Coverage | None", problems: list[str]) -> list[Section]:
    return [
        ("failures", "Failures", lambda: _failures(results)),
        ("known", "Known deviations", lambda: _known(results)),
        ("networks", "Networks", lambda: _networks(results, problems)),
        ("matrix", "Matrix", lambda: _matrix(results)),
        ("paths", "Paths", lambda: _paths(results)),
        ("laws", "Law by law", lambda: _laws(results)),
        ("errors", "Error histograms", lambda: _errors(results, problems)),
        ("precision", "Precision fingerprint", lambda: views.precision(results.rows)),
        ("coverage", "Input coverage", lambda: _coverage(results, coverage)),
        ("run", "Run and environment", lambda: _run(results)),
        ("method", "How to read this", lambda: {"all_statuses": list(STATUSES.values())}),
    ]


def _overall(results: Results) -> str:
    return {0: "pass", 1: "fail", 3: "flaky", 4: "harness"}[results.exit_code]


def _targets(results: Results) -> list[Mapping[str, Any]]:
    targets = results.header.get("targets")
    listed = targets if isinstance(targets, (list, tuple)) else ()
    return [target for target in listed if isinstance(target, Mapping)]


def _failures(results: Results) -> Mapping[str, Any]:
    shown = results.failures[: views.MOST_CARDS]
    cards = [views.card(failure, results.scripts) for failure in shown]
    return {"cards": cards, "more": len(results.failures) - len(cards)} if cards else {}


def _known(results: Results) -> Mapping[str, Any]:
    shown = results.known_deviations[: views.MOST_CARDS]
    cards = [views.card(failure, results.scripts) for failure in shown]
    return {"cards": cards, "more": len(results.known_deviations) - len(cards)} if cards else {}


def _matrix(results: Results) -> Mapping[str, Any]:
    matrix = Matrix.of(results.cells)
    columns = [[matrix.squares.get((name, column)) for name in matrix.operators] for column in matrix.columns]
    return {
        "matrix": matrix,
        "rows": views.matrix_rows(matrix),
        "totals": [matrix.total(column) for column in columns],
    }


def _networks(results: Results, problems: list[str]) -> Mapping[str, Any]:
    found = networks.passes_of(results.rows)
    drawings = rendering.attempted(
        lambda: [networks.drawing(one) for one in found],
        [""] * len(found),
        "the networks were not drawn",
        problems,
    )
    return {"passes": [*zip(found, drawings, strict=True)]} if found else {}


def _paths(results: Results) -> Mapping[str, Any]:
    found = paths_of(results.rows)
    return {"paths": found} if found else {}


def _laws(results: Results) -> Mapping[str, Any]:
    groups = views.law_groups(Matrix.of(results.cells))
    whole = len(results.cells)
    return {
        "operators": groups,
        "shows_case": lambda cell: views.shows_case(cell, whole),
        "left_out": whole > views.MOST_CELLS_WITH_CASES,
    }


def _errors(results: Results, problems: list[str]) -> Mapping[str, Any]:
    histograms = charts.histograms_of(results.rows)
    svgs = rendering.attempted(
        lambda: charts.drawings(histograms), dict[str, str](), "the charts were not drawn", problems
    )
    exponents, lines = views.histogram_table(histograms)
    return {"figures": views.figures(histograms, svgs), "exponents": exponents, "lines": lines}


def _coverage(results: Results, coverage: "Coverage | None") -> Mapping[str, Any]:
    lines = results.case_lines
    measure = coverage or _own_coverage()
    if measure is None:
        return {"families": {}, "missed": [], "cases": len(lines), "known": False}
    families: dict[str, list[tuple[Hit, str]]] = {}
    missed = []
    for hit in measure(lines):
        share = percent(int(hit.hit), int(hit.applicable)) if hit.applicable else ""
        families.setdefault(str(hit.family), []).append((hit, share))
        if hit.applicable and not hit.hit:
            missed.append(hit)
    return {"families": families, "missed": missed, "cases": len(lines), "known": True}


def _own_coverage() -> "Coverage | None":
    try:
        module = importlib.import_module("cnnspec.coverage")  # reads every operator
    except ImportError:
        return None
    return cast("Coverage", module.hits)


def _run(results: Results) -> Mapping[str, Any]:
    header, end = results.header, results.end or {}
    names = {
        "command": "command", "started_utc": "started", "cnnspec": "cnnspec", "seed": "seed",
        "examples": "examples per cell", "budget_seconds": "budget in seconds", "isolation": "isolation",
        "fingerprint": "fingerprint of the environment",
    }  # fmt: skip
    facts = [(label, header[name]) for name, label in names.items() if header.get(name) is not None]
    seconds = as_float(end.get("seconds"))
    facts += [("finished", end["finished_utc"])] if end.get("finished_utc") else []
    facts += [("took", duration(seconds))] if seconds is not None else []
    environment = header.get("environment")
    return {
        "facts": facts,
        "environment": environment if isinstance(environment, Mapping) else {},
    }


def _plainest(results: Results, problems: Iterable[str]) -> str:
    lines = [str(verdict(results)), results.score_line(), *problems]
    lines += [f"{failure.status}: {failure.minimal_case}: {failure.message}" for failure in results.failures]
    return rendering.plainest(lines)
