"""What sections of the performance report are made of: cells, tables, and charts with their words and numbers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cnnspec.bench.figures import Entry
from cnnspec.bench.verdicts import AMBIGUOUS, FAST, INVALID, MISSING, NOT_COMPARABLE, SAME, SLOW
from cnnspec.report.cells import text
from cnnspec.report.performance.measures import status_of
from cnnspec.report.rendering import attempted
from cnnspec.report.statuses import STATUSES

GLYPHS = {SLOW: "▲", FAST: "▼", SAME: "=", AMBIGUOUS: "?", INVALID: "✗", NOT_COMPARABLE: "≠", MISSING: "∅"}
LOOKS = {SLOW: "fail", FAST: "pass", SAME: "same", AMBIGUOUS: "flaky", INVALID: "crash"}
"""The colours of verdicts: those of statuses."""


class Cell(NamedTuple):
    """Words of a table, and the class that colours them."""

    text: str
    look: str = ""


class Table(NamedTuple):
    """A table; the first cell of each line names it."""

    caption: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str | Cell]]
    sortable: bool = False

    @property
    def shown(self) -> tuple[list[str], list[list[Cell]]]:
        """The columns that say anything, and what their lines hold."""
        cells = [[one if isinstance(one, Cell) else Cell(one) for one in line] for line in self.lines]
        filled = {place for line in cells for place, cell in enumerate(line) if cell.text} | {0}
        kept = [place for place in range(len(self.columns)) if place in filled]
        return [self.columns[place] for place in kept], [[line[place] for place in kept] for line in cells]


class Chart(NamedTuple):
    """A drawing, which may be missing, with what it shows in words and in numbers."""

    name: str
    title: str
    described: str
    svg: str
    table: Table
    notes: Sequence[str] = ()
    keys: Sequence[tuple[str, str, str]] = ()
    """(glyph, class, words) of what is drawn."""


def drawn(paint: Callable[[], str], title: str, problems: list[str]) -> str:
    """Return a drawing; "" where it fails, which `problems` then says."""
    return attempted(paint, "", f"the chart {title!r} was not drawn", problems)


def verdict_cell(entry: Entry) -> Cell:
    """Return a verdict by glyph and word."""
    word = text(entry, "verdict")
    return Cell(f"{GLYPHS[word]} {word}", LOOKS.get(word, "")) if word in GLYPHS else Cell(word)


def status_cell(entry: Entry) -> Cell:
    """Return a conformance status by glyph and word; other words as they stand."""
    word = status_of(entry)
    return Cell(f"{STATUSES[word].glyph} {word}", word) if word else Cell(text(entry, "conformance"))


def answer_cell(answer: Any) -> Cell:
    """Return yes for True and no for False; nothing for what is neither."""
    if answer is True:
        return Cell("✓ yes", "pass")
    return Cell("✗ no", "fail") if answer is False else Cell("")
