"""Writes every report of a run; each is made on its own, so that one that fails costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cnnspec.report.reading import read_scripts
from cnnspec.report.rendering import write

if TYPE_CHECKING:
    from cnnspec.report.results import Results


class Hit(Protocol):
    """How often one feature of the arguments was drawn for one operator family, and could have been."""

    @property
    def family(self) -> str:
        """The operator family."""

    @property
    def feature(self) -> str:
        """What the arguments can have."""

    @property
    def hit(self) -> int:
        """How many cases have it."""

    @property
    def applicable(self) -> int:
        """How many cases could have it."""


Coverage = Callable[[Iterable[str]], Iterable[Hit]]
"""From the case lines of a run to its input coverage; `cnnspec.coverage.hits` unless told otherwise."""


def write_reports(results: Results, directory: str | Path, *, coverage: Coverage | None = None) -> list[str]:
    """Write HTML, CSV, JUnit XML and Markdown; return a sentence for each piece that failed.

    The files depend on `results` alone, and on the reproducers in `directory` where it has none of its own:
    made twice, they are the same bytes.
    """
    from cnnspec.report import junit, markdown, page, tables  # they bring in jinja2 and pandas

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    results = results if results.scripts else replace(results, scripts=read_scripts(folder))
    problems: list[str] = []
    makers: dict[str, Callable[[], str]] = {
        "conformance.csv": partial(tables.conformance_csv, results),
        "failures.csv": partial(tables.failures_csv, results),
        "junit.xml": partial(junit.junit_xml, results),
        "summary.md": partial(markdown.summary_md, results),
        "conformance.html": partial(page.conformance_html, results, coverage=coverage, problems=problems),
    }
    for name, make in makers.items():
        try:
            write(folder / name, make())
        except Exception as error:  # noqa: BLE001 - a report that fails must not cost the others
            problems.append(f"{name} was not written: {type(error).__name__}: {error}")
    return problems
