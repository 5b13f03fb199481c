"""Rows to cells and to distinct failures: the two aggregations that every report shares."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec.report.statuses import NEEDS_ATTENTION, STATUSES, rank, worst
from cnnspec.report.values import as_count, as_float, ratio_key

Row = Mapping[str, Any]
Key = tuple[str, str, str, str, str]

BLIND = {
    "one channel": "there is one channel: none in another order would show",
    "equal axes": "all axes are equal: none in the place of another would show",
    "symmetric kernel": "the kernel reads the same backwards: a flipped one would not show",
}
"""What cases cannot tell apart, by its name in their rows; see `cnnspec.vacuity`."""

AXES = ("operator", "backend", "device", "dtype", "law")


@dataclass(frozen=True)
class Cell:
    """Operator x backend x device x dtype x law, with everything its rows say together.

    `worst_ratio` (largest error in units of its bound), `worst_ulps`, `worst_case`, its `path` (the kernel that
    ran it), `model` and `reason` are those of the rows that decide the status; `counts`, `seconds` and `histogram`
    are sums over all rows.
    """

    operator: str
    backend: str
    device: str
    dtype: str
    law: str
    status: str
    counts: dict[str, int]
    examples: int
    discriminating: int
    seconds: float
    worst_ratio: float | None = None
    worst_ulps: float | None = None
    worst_case: str = ""
    model: str = ""
    reason: str = ""
    link: str = ""
    failure_id: str = ""
    histogram: dict[str, int] | None = None
    path: str = ""

    @property
    def applicable(self) -> bool:
        """Whether the cell counts in the denominator of the score."""
        return STATUSES[self.status].applicable


@dataclass(frozen=True)
class Failure:
    """One distinct failure: the row that shows it best, and how many rows share it."""

    failure_id: str
    status: str
    operator: str
    backend: str
    device: str
    dtype: str
    law: str
    row: Row
    occurrences: int

    @property
    def case(self) -> str:
        """The case line as it was drawn."""
        return text(self.row, "case")

    @property
    def minimal_case(self) -> str:
        """The smallest case line that still fails; the drawn one where nothing smaller was found."""
        return text(self.row, "minimal_case") or self.case

    @property
    def ratio(self) -> float | None:
        """The error in units of its bound."""
        return as_float(self.row.get("ratio"))

    @property
    def message(self) -> str:
        """One sentence: what is wrong, and where."""
        return text(self.row, "message") or text(self.row, "reason") or f"{self.status} without a message"


def text(row: Row, name: str) -> str:
    """Return a field of a row as text, empty where it is absent or null."""
    value = row.get(name)
    return "" if value is None else str(value)


def status_of(row: Row) -> str:
    """Return the status of a row; a word outside the closed set is cnnspec's own failure."""
    word = text(row, "status")
    return word if word in STATUSES else "harness"


def cell_key(row: Row) -> Key:
    """Return the cell that a row belongs to."""
    operator, backend, device, dtype, law = (text(row, axis) for axis in AXES)
    return operator, backend, device or "cpu", dtype, law


def cells_of(rows: Iterable[Row], cell_rows: Iterable[Row]) -> tuple[Cell, ...]:
    """Return every cell that any row names, in the order of first appearance."""
    groups: dict[Key, list[Row]] = {}
    for row in (*rows, *cell_rows):
        groups.setdefault(cell_key(row), []).append(row)
    return tuple(_cell(key, group) for key, group in groups.items())


def _cell(key: Key, rows: Sequence[Row]) -> Cell:
    ran = [row for row in rows if row.get("kind") != "cell"]
    discriminating = sum(row.get("discriminating") is True for row in ran)
    status = _cell_status(rows)
    deciding = [row for row in rows if status_of(row) == status]
    if status == "vacuous":
        deciding = [row for row in ran if status_of(row) in ("pass", "vacuous")]
    shown = max(deciding, key=lambda row: ratio_key(as_float(row.get("ratio"))))
    ulps = [value for row in deciding if (value := as_float(row.get("ulps"))) is not None]
    return Cell(
        *key,
        status=status,
        counts=dict(Counter(status_of(row) for row in ran)),
        examples=len(ran),
        discriminating=discriminating,
        seconds=sum(as_float(row.get("seconds")) or 0.0 for row in ran),
        worst_ratio=as_float(shown.get("ratio")),
        worst_ulps=max(ulps, default=None),
        worst_case=text(shown, "case"),
        model=next((text(row, "model") for row in (shown, *deciding) if row.get("model")), ""),
        reason=_reason(status, deciding),
        link=next((link for row in deciding if (link := link_of(row))), ""),
        failure_id=next((text(row, "failure_id") for row in deciding if row.get("failure_id")), ""),
        histogram=sum_histograms(ran),
        path=text(shown, "path"),
    )


def _cell_status(rows: Sequence[Row]) -> str:
    words = {status_of(row) for row in rows}
    bad = words - {"pass", "vacuous", "unsupported", "skip"}
    if bad:
        return worst(bad)
    if _telling(rows) and not _blind_spots(rows):
        return "pass"
    if words & {"pass", "vacuous"}:
        return "vacuous"
    return worst(words)


def _telling(rows: Sequence[Row]) -> list[Row]:
    """Return the passes that an output of nothing but zeros would not have been."""
    return [row for row in rows if status_of(row) == "pass" and row.get("discriminating") is True]


def _blind_spots(rows: Sequence[Row]) -> list[str]:
    """Return what none of the passes that tell something could tell apart."""
    spots = [row.get("blind") or () for row in _telling(rows)]
    return [name for name in BLIND if spots and all(name in one for one in spots)]


def _reason(status: str, deciding: Sequence[Row]) -> str:
    stated = next((text(row, "reason") for row in deciding if row.get("reason")), "")
    if not stated and status == "vacuous" and _telling(deciding):
        return f"in each of {len(_telling(deciding))} cases {' and '.join(BLIND[n] for n in _blind_spots(deciding))}"
    if not stated and status == "vacuous":
        return f"none of {len(deciding)} passing cases could tell right from wrong"
    return stated or next((text(row, "message") for row in deciding if row.get("message")), "")


def link_of(row: Row) -> str:
    """Return the link of the expectation that a row met, if it has one."""
    expectation = row.get("expectation")
    return text(expectation, "link") if isinstance(expectation, Mapping) else ""


def expected_reason(row: Row) -> str:
    """Return the reason of the expectation that a row met, if it has one."""
    expectation = row.get("expectation")
    return text(expectation, "reason") if isinstance(expectation, Mapping) else ""


def sum_histograms(rows: Iterable[Row]) -> dict[str, int] | None:
    """Return the sum of the bins of several rows, `exact` first; None where no row has any."""
    total: Counter[str] = Counter()
    for row in rows:
        bins = row.get("histogram")
        if isinstance(bins, Mapping):
            for name, count in bins.items():
                total[str(name)] += as_count(count)
    return {name: total[name] for name in sorted(total, key=bin_key)} if total else None


def bin_key(name: str) -> tuple[int, int, str]:
    """Return a key that sorts `exact` before the exponents, and the exponents as numbers."""
    sign = name[:1] in "+-"
    return (1, int(name), "") if name[sign:].isdecimal() else (name != "exact", 99, name)


def failures_of(rows: Iterable[Row], statuses: frozenset[str] = NEEDS_ATTENTION) -> tuple[Failure, ...]:
    """Return the distinct failures, worst first: one per failure id, else one per cell and status."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if status_of(row) in statuses:
            name = text(row, "failure_id")
            groups.setdefault((name,) if name else (status_of(row), *cell_key(row)), []).append(row)
    found = [_failure(group) for group in groups.values()]
    return tuple(sorted(found, key=lambda failure: rank(failure.status)))


def _failure(rows: Sequence[Row]) -> Failure:
    status = worst(status_of(row) for row in rows)
    candidates = [row for row in rows if status_of(row) == status]
    shown = next((row for row in candidates if row.get("minimal_case")), candidates[0])
    cell = cell_key(shown)
    name = text(shown, "failure_id") or "-".join((*cell, status))
    return Failure(name, status, *cell, row=shown, occurrences=len(rows))
