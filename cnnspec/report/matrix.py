"""The cells as a matrix: operators down, backend, device and dtype across, all laws of a place together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from cnnspec.report.cells import Cell
from cnnspec.report.statuses import worst
from cnnspec.report.values import ratio_key


class Column(NamedTuple):
    """Where an operator ran."""

    backend: str
    device: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.backend} {self.device} {self.dtype}"


@dataclass(frozen=True)
class Square:
    """One operator in one column: the cells of all its laws."""

    cells: tuple[Cell, ...]

    @property
    def status(self) -> str:
        """The worst status of its laws."""
        return worst(cell.status for cell in self.cells)

    @property
    def applicable(self) -> int:
        """How many laws apply."""
        return sum(cell.applicable for cell in self.cells)

    @property
    def passed(self) -> int:
        """How many laws hold."""
        return sum(cell.status == "pass" for cell in self.cells)

    @property
    def ratio(self) -> float | None:
        """The worst error in units of the bound, over all laws; None where a call never returned."""
        if self.status in {"harness", "crash", "timeout"}:
            return None
        return max((cell.worst_ratio for cell in self.cells), key=ratio_key)


@dataclass(frozen=True)
class Matrix:
    """All squares; an operator that a column lacks has none there."""

    operators: tuple[str, ...]
    columns: tuple[Column, ...]
    squares: dict[tuple[str, Column], Square]

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Self:
        """Arrange cells in their order of appearance, the columns of a backend together."""
        groups: dict[tuple[str, Column], list[Cell]] = {}
        for cell in cells:
            groups.setdefault((cell.operator, Column(cell.backend, cell.device, cell.dtype)), []).append(cell)
        operators = tuple(dict.fromkeys(operator for operator, _ in groups))
        seen = list(dict.fromkeys(column for _, column in groups))
        first = {column[:2]: place for place, column in reversed(list(enumerate(seen)))}
        columns = tuple(sorted(seen, key=lambda column: first[column[:2]]))
        return cls(operators, columns, {place: Square(tuple(group)) for place, group in groups.items()})

    def lines(self) -> Iterator[tuple[str, list[Square | None]]]:
        """Yield each operator with its squares, one for each column."""
        for operator in self.operators:
            yield operator, [self.squares.get((operator, column)) for column in self.columns]

    def backends(self) -> list[tuple[str, str, int]]:
        """Return backend, device and number of columns of each group of columns."""
        spans: dict[tuple[str, str], int] = {}
        for column in self.columns:
            spans[column.backend, column.device] = spans.get((column.backend, column.device), 0) + 1
        return [(backend, device, span) for (backend, device), span in spans.items()]

    def total(self, squares: Sequence[Square | None]) -> tuple[int, int]:
        """Return how many laws hold, and how many apply, in some squares together."""
        there = [square for square in squares if square is not None]
        return sum(square.passed for square in there), sum(square.applicable for square in there)
