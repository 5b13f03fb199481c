"""The report as one HTML page that needs no network and no JavaScript."""

import base64
import hashlib
import importlib
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, cast

from cnnspec.report import charts, networks, views
from cnnspec.report.matrix import Matrix
from cnnspec.report.paths import paths_of
from cnnspec.report.results import Results
from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import as_float, duration, percent, plural, thousands, units
from cnnspec.report.verdict import verdict

if TYPE_CHECKING:
    import jinja2

    from cnnspec.report.build import Coverage, Hit

Context = Callable[[Results], Mapping[str, Any]]


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
    environment = _environment()
    made: list[tuple[str, str, str]] = []
    for name, title, make in _sections(coverage, problems):
        try:
            context = make(results)
            if context:
                template = environment.get_template(f"{name}.html.j2")
                made.append((name, title, template.render(results=results, **context)))
        except Exception as error:  # noqa: BLE001 - one section that fails must not cost the others
            problems.append(f"the section {title!r} was not made: {type(error).__name__}: {error}")
            made.append((name, title, f"<p>This section could not be made: {escape(str(error))}</p>"))
    script = environment.get_template("script.js.j2").render().strip()
    return environment.get_template("page.html.j2").render(
        results=results,
        verdict=verdict(results),
        status=_overall(results),
        targets=_targets(results),
        sections=made,
        counts={word: count for word, count in results.counts.items() if count},
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        warnings=[*results.warnings, *problems],
    )


def _environment() -> "jinja2.Environment":
    import jinja2  # only this report needs it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnspec.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(units=units, thousands=thousands, duration=duration)
    environment.globals.update(statuses=STATUSES, plural=plural)
    return environment


def _sections(coverage: "Coverage | None", problems: list[str]) -> list[tuple[str, str, Context]]:
    return [
        ("failures", "Failures", _failures),
        ("known", "Known deviations", _known),
        ("networks", "Networks", lambda results: _networks(results, problems)),
        ("matrix", "Matrix", _matrix),
        ("paths", "Paths", _paths),
        ("laws", "Law by law", _laws),
        ("errors", "Error histograms", lambda results: _errors(results, problems)),
        ("precision", "Precision fingerprint", lambda results: views.precision(results.rows)),
        ("coverage", "Input coverage", lambda results: _coverage(results, coverage)),
        ("run", "Run and environment", _run),
        ("method", "How to read this", lambda _: {"all_statuses": list(STATUSES.values())}),
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
    try:
        drawings = [networks.drawing(one) for one in found]
    except Exception as error:  # noqa: BLE001 - the numbers behind the charts must survive the charts
        problems.append(f"the networks were not drawn: {type(error).__name__}: {error}")
        drawings = [""] * len(found)
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
    try:
        svgs = charts.drawings(histograms)
    except Exception as error:  # noqa: BLE001 - the numbers behind the charts must survive the charts
        problems.append(f"the charts were not drawn: {type(error).__name__}: {error}")
        svgs = {}
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
        "targets": _targets(results),
    }


def _plainest(results: Results, problems: Iterable[str]) -> str:
    lines = [str(verdict(results)), results.score_line(), *problems]
    lines += [f"{failure.status}: {failure.minimal_case}: {failure.message}" for failure in results.failures]
    body = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>cnnspec</title>\n{body}\n</html>\n'
