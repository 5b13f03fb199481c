"""Two runs side by side: which failures are new, fixed, or still there, and what is no longer judged."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnspec.report.cells import AXES, Cell, Failure
from cnnspec.report.results import Results
from cnnspec.report.statuses import NEEDS_ATTENTION
from cnnspec.report.values import plural

NEW, STILL, FIXED, GONE = "new", "still failing", "fixed", "gone"
KINDS = (NEW, STILL, FIXED, GONE)
COLUMNS = ("change", "failure_id", *AXES, "before", "after", "case", "message")
PROVEN = frozenset({"pass", "xfail"})

Key = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One cell that fails in either run, or is judged in the first alone.

    before, after: its status in each run, "" where it has none;   failure: what shows it best, where one fails
    """

    kind: str
    cell: Key
    before: str
    after: str
    failure: Failure | None

    @property
    def failure_id(self) -> str:
        """The failure's name; the cell's where none fails."""
        return self.failure.failure_id if self.failure else "-".join(self.cell)


def changes(before: Results, after: Results) -> list[Change]:
    """Return what two runs say differently of a cell, and what fails in both: new failures first.

    new: fails in the second run alone;   still failing: in both;   fixed: in the first alone, and the second shows that
    it holds;   gone: judged in the first, and not, or to no avail, in the second
    """
    cells, others = _cells(before), _cells(after)
    both = {key: (cells.get(key), others.get(key)) for key in (*cells, *others)}
    worst = {_key(failure): failure for run in (before, after) for failure in reversed(run.failures)}
    found = [
        Change(kind, key, one.status if one else "", other.status if other else "", worst.get(key))
        for key, (one, other) in both.items()
        if (kind := _kind(one, other))
    ]
    return sorted(found, key=lambda change: KINDS.index(change.kind))


def _cells(results: Results) -> dict[Key, Cell]:
    return {_key(cell): cell for cell in results.cells}


def _key(cell: Cell | Failure) -> Key:
    return tuple(str(getattr(cell, axis)) for axis in AXES)


def _kind(before: Cell | None, after: Cell | None) -> str:
    failed, fails = (one is not None and one.status in NEEDS_ATTENTION for one in (before, after))
    if fails:
        return STILL if failed else NEW
    holds = after is not None and after.status in PROVEN
    if holds or before is None or not (failed or before.status in PROVEN):
        return FIXED if failed else ""
    return GONE


def as_text(found: Sequence[Change]) -> str:
    """Return a comparison as plain text, and how many cells each kind of change has."""
    lines = []
    for kind in KINDS:
        chosen = [change for change in found if change.kind == kind]
        if chosen:
            lines += [f"{kind}:", *(line for change in chosen for line in _told(change)), ""]
    counts = [f"{sum(change.kind == kind for change in found)} {kind}" for kind in KINDS]
    return "\n".join([*lines, f"{', '.join(counts)} of {plural(len(found), 'cell')} that changed or fail"])


def _told(change: Change) -> Iterable[str]:
    statuses = f"{change.before or 'not there'} -> {change.after or 'not there'}"
    yield f"  {' '.join(change.cell)}: {statuses}"
    if change.kind == NEW and change.failure:
        yield f"    {change.failure.message}"
        yield f"    case: {change.failure.minimal_case}"


def as_csv(found: Iterable[Change]) -> str:
    """Return a comparison as CSV, one line per cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for change in found:
        shown = change.failure
        words = (shown.minimal_case, shown.message) if shown else ("", "")
        writer.writerow([change.kind, change.failure_id, *change.cell, change.before, change.after, *words])
    return text.getvalue()
