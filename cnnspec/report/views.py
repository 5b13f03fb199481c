"""What each section of the HTML page shows, as plain values that its template lays out."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnspec.report.cells import Cell, Failure, Row, expected_reason, link_of, text
from cnnspec.report.charts import Histogram
from cnnspec.report.matrix import Column, Matrix, Square
from cnnspec.report.statuses import STATUSES, Status, worst
from cnnspec.report.values import as_count, as_float, decimal, percent, units

MOST_CARDS = 200
MOST_CELLS_WITH_CASES = 4_000
MOST_ELEMENTS = 64
MOST_TEXT = 2_000
MOST_TRACEBACK_LINES = 40
MOST_SCRIPT = 8_000


def slug(*parts: str) -> str:
    """Write an identifier that a fragment can name.

    >>> slug("conv2d", "torch", "cpu"), slug("conv2d", "my kernels.py", "cpu")
    ('conv2d-torch-cpu', 'conv2d-my-kernels.py-cpu-bcefc5')
    """
    name = "-".join(parts)
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    return name if name == readable else f"{readable}-{digest[:6]}"


def shorten(said: str, most: int = MOST_TEXT) -> str:
    """Cut a long text and say by how much."""
    return said if len(said) <= most else f"{said[:most]} … ({len(said) - most} more characters)"


def in_shell(word: str) -> str:
    """Quote a word for a shell, readably where that is safe.

    >>> print(in_shell("relu(input=(2, 3), dtype='float32')"), in_shell("torch"), in_shell("a'$b"))
    "relu(input=(2, 3), dtype='float32')" torch 'a'"'"'$b'
    """
    quoted = shlex.quote(word)
    return f'"{word}"' if "'" in word and not re.search(r'[$`"\\!\n]', word) else quoted


def card(failure: Failure, scripts: Mapping[str, str]) -> dict[str, Any]:
    """Lay out one distinct failure."""
    row = failure.row
    reason = text(row, "reason") or expected_reason(row)
    name = text(row, "reproducer").rpartition("/")[2]
    return {
        "id": slug(failure.status, failure.failure_id),
        "failure": failure,
        "status": STATUSES[failure.status],
        "explanation": shorten(text(row, "explanation")),
        "message": shorten(failure.message),
        "reason": "" if reason == failure.message else shorten(reason),
        "link": link_of(row),
        "case_title": "Smallest failing case" if row.get("minimal_case") else "Case",
        "facts": [(label, value) for label, value in _facts(failure) if value],
        "numbers": _numbers(row),
        "operands": _operands(row.get("operands")),
        "at": text(row, "node"),
        "replay": text(row, "command")
        or f"cnnspec replay {in_shell(failure.minimal_case)} {in_shell(failure.backend)}",
        "example": "" if text(row, "net") else _example(failure.minimal_case),
        "script": in_shell(f"reproducers/{name}") if name else "",
        "script_text": shorten(scripts.get(name, ""), MOST_SCRIPT),
        "traceback": _last_lines(text(row, "traceback")),
    }


def _example(case: str) -> str:
    return f"@example(cnnspec.Case.parse({json.dumps(case, ensure_ascii=False)}))"


def _facts(failure: Failure) -> Iterable[tuple[str, str]]:
    row = failure.row
    elements = as_count(row.get("elements"))
    yield "worst index", "" if row.get("worst_index") is None else json.dumps(row["worst_index"])
    yield "wrong elements", f"{as_count(row.get('wrong_elements'))} of {elements}" if elements else ""
    yield "looks", text(row, "looks_like")
    yield "judged as", text(row, "model") if row.get("expected") is not None else ""
    yield "seen in", f"{failure.occurrences} cases" if failure.occurrences > 1 else ""


def _numbers(row: Row) -> list[tuple[str, str, str]]:
    names = [name for name in ("expected", "actual", "error", "bound") if row.get(name) is not None]
    lines = [(name, shorten(decimal(row[name], 17), 80), _hexadecimal(row[name])) for name in names]
    ratio = as_float(row.get("ratio"))
    return [*lines, ("error / bound", units(ratio), "")] if names and ratio is not None else lines


def _hexadecimal(value: Any) -> str:
    number = as_float(value)
    return "" if number is None else value if isinstance(value, str) else number.hex()


def _operands(operands: Any) -> list[dict[str, Any]]:
    if not isinstance(operands, Mapping):
        return []
    return [
        {"name": name, "described": _described(operand), "planes": list(_planes(operand))}
        for name, operand in operands.items()
        if isinstance(operand, Mapping)
    ]


def _described(operand: Mapping[str, Any]) -> str:
    shape = " × ".join(str(size) for size in operand.get("shape") or ()) or "one number"
    return ", ".join(part for part in (shape, text(operand, "dtype"), text(operand, "layout")) if part)


def _planes(operand: Mapping[str, Any]) -> Iterable[tuple[str, list[list[str]]]]:
    values, shape = operand.get("values"), [as_count(size) for size in operand.get("shape") or ()]
    if not isinstance(values, Sequence) or not 0 < len(values) <= MOST_ELEMENTS:
        return
    words = [decimal(value, 6) for value in values]
    width = shape[-1] if shape and shape[-1] else len(words)
    height = shape[-2] if len(shape) > 1 and shape[-2] else 1
    for number, start in enumerate(range(0, len(words), width * height)):
        plane = words[start : start + width * height]
        label = _index(number, shape[:-2]) if len(words) > width * height else ""
        yield label, [plane[n : n + width] for n in range(0, len(plane), width)]


def _index(number: int, shape: Sequence[int]) -> str:
    index: list[int] = []
    for size in reversed(shape):
        number, place = divmod(number, size)
        index.insert(0, place)
    return f"[{', '.join(map(str, index))}, :, :]"


def _last_lines(traceback: str) -> str:
    lines = traceback.splitlines()
    left_out = len(lines) - MOST_TRACEBACK_LINES
    head = [f"… {left_out} lines left out"] if left_out > 0 else []
    return shorten("\n".join([*head, *lines[-MOST_TRACEBACK_LINES:]]), 4 * MOST_TEXT)


def matrix_rows(matrix: Matrix) -> list[dict[str, Any]]:
    """Lay out the lines of the matrix."""
    rows = []
    for operator, squares in matrix.lines():
        places = zip(matrix.columns, squares, strict=True)
        rows.append(
            {
                "operator": operator,
                "id": slug("op", operator),
                "squares": [(slug(operator, *column), square) for column, square in places],
                "total": matrix.total(squares),
                "holds": all(square is None or square.status in _CALM for square in squares),
            }
        )
    return rows


_CALM = frozenset({"pass", "unsupported", "skip"})


def _uncalm(squares: Iterable[Square | None]) -> Status | None:
    words = {square.status for square in squares if square is not None} - _CALM
    return STATUSES[worst(words)] if words else None


def law_groups(matrix: Matrix) -> list[dict[str, Any]]:
    """Lay out, for each operator, the cells of each column."""
    return [
        {
            "operator": operator,
            "id": slug("op", operator),
            "groups": [
                (slug(operator, *column), _column_title(column), square.cells)
                for column, square in zip(matrix.columns, squares, strict=True)
                if square is not None
            ],
            "total": matrix.total(squares),
            "status": _uncalm(squares),
        }
        for operator, squares in matrix.lines()
    ]


def _column_title(column: Column) -> str:
    return f"{column.backend} · {column.device} · {column.dtype}"


def shows_case(cell: Cell, cells: int) -> bool:
    """Tell whether a law's line has room for its worst case."""
    return cells <= MOST_CELLS_WITH_CASES or cell.status not in _CALM


def figures(histograms: Sequence[Histogram], svgs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Lay out the drawings, each with its caption and a description for those who cannot see it."""
    shown = []
    for one in histograms:
        exact = f"{percent(one.exact, one.elements)} exact" if one.elements else "no elements"
        top = max((e for e in (*one.within, *one.beyond) if one.count(e)), default=None)
        beyond = sum(one.beyond.values())
        reach = "no error" if top is None else f"worst error under 2^{top + 1} bounds"
        described = f"{one.operator}: {one.elements} elements, {exact}, {reach}, {beyond} beyond the bound"
        shown.append(
            {"operator": one.operator, "svg": svgs.get(one.operator, ""), "exact": exact, "beyond": beyond}
            | {"described": described}
        )
    return shown


def histogram_table(histograms: Sequence[Histogram]) -> tuple[list[int], list[tuple[str, int, list[int]]]]:
    """Lay out the numbers behind the drawings: the bins that occur, and each operator's counts."""
    exponents = sorted({e for one in histograms for e in (*one.within, *one.beyond) if one.count(e)})
    return exponents, [(one.operator, one.exact, [one.count(e) for e in exponents]) for one in histograms]


def precision(rows: Iterable[Row]) -> dict[str, Any]:
    """Lay out the precision fingerprints; nothing where no row has one."""
    told = [row for row in rows if row.get("models") is not None]
    if not told:
        return {}
    from cnnspec import fingerprints  # brings in the exact engine

    found = fingerprints.summary(told)
    return {"fingerprints": found, "has_paths": any(one.path for one in found)} if found else {}
