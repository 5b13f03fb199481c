"""The kernels that a library chose among, and which of them keep their error model."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnspec.report.cells import Key, Row, cell_key, status_of, text
from cnnspec.report.values import as_float, ratio_key

DIRECTIONS = {"forward": "forward", "backward": "backward", "double_backward": "double backward"}
"""The laws that hold an error model to account, and what they judge."""

_WITHIN = frozenset({"pass", "xpass", "vacuous"})


@dataclass(frozen=True)
class Path:
    """All judgements of one kernel in one dtype and direction, whatever the operator.

    `worst_ratio` (largest error in units of its bound) and `beyond` leave out what is NaN or infinite where it must
    not be, or the other way round: `odd` counts those. `row` is one that violates, with a reproducer if any has one.
    """

    backend: str
    device: str
    name: str
    dtype: str
    direction: str
    cases: int
    worst_ratio: float | None
    beyond: int
    odd: int
    row: Row | None = None

    @property
    def violating(self) -> int:
        """How many cases violate the model."""
        return self.beyond + self.odd

    @property
    def verdict(self) -> str:
        """Whether the path keeps its model, in words."""
        return "no" if self.beyond else "but for NaN and infinity" if self.odd else "yes"

    @property
    def reproducer(self) -> str:
        """The file name of a script that shows a violation, "" where there is none."""
        return text(self.row or {}, "reproducer").rpartition("/")[2]

    @property
    def case(self) -> str:
        """The case line that the reproducer runs, or one that violates."""
        row = self.row or {}
        return text(row, "minimal_case") or text(row, "case")


def paths_of(rows: Iterable[Row]) -> list[Path]:
    """Return the paths that rows name, each backend's kernels together; none where no row names one."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        if text(row, "path") and text(row, "law") in DIRECTIONS and _is_judged(row):
            _, backend, device, dtype, law = cell_key(row)
            key = (backend, device, text(row, "path"), dtype, DIRECTIONS[law])
            groups.setdefault(key, []).append(row)
    order = [*DIRECTIONS.values()]
    return sorted(
        (_path(key, group) for key, group in groups.items()),
        key=lambda path: (path.backend, path.device, path.name, path.dtype, order.index(path.direction)),
    )


def _is_judged(row: Row) -> bool:
    """Tell whether a call was made and its numbers were compared."""
    status = status_of(row)
    return status in _WITHIN or (status in ("fail", "xfail", "flaky") and bool(row.get("message")))


def _path(key: Key, rows: Sequence[Row]) -> Path:
    held = [row for row in rows if status_of(row) in _WITHIN]
    wrong = [row for row in rows if status_of(row) not in _WITHIN]
    beyond = [row for row in wrong if not _is_odd(row)]
    ratios = [as_float(row.get("ratio")) for row in (*held, *beyond)]
    return Path(
        *key,
        cases=len(rows),
        worst_ratio=max(ratios, key=ratio_key, default=None),
        beyond=len(beyond),
        odd=len(wrong) - len(beyond),
        row=max(wrong, key=lambda row: (bool(row.get("reproducer")), not _is_odd(row)), default=None),
    )


def _is_odd(row: Row) -> bool:
    """Tell whether the worst element is, or must be, NaN or infinite."""
    numbers = [as_float(row.get(name)) for name in ("expected", "actual")]
    return any(number is not None and not math.isfinite(number) for number in numbers)
