"""Known deviations of named backends: `specs/expectations/*.toml`.

    [[expect]]
    operator = "max_pool2d"                 # or a list
    backend = "torch"                       # or a list
    dtype = ["bfloat16", "float16"]         # or one
    law = "indices"
    where = "ceil_mode and padding > 0"     # optional; in the language of `cnnspec.where`
    witness = "max_pool2d(kernel_size=2, padding=1, ceil_mode=True, input=(1, 1, 3, 3), dtype='float16')"
    reason = "why this is known and left as it is"
    status = "xfail"                        # optional; "varies" by processor: a pass is no surprise;
                                            # "crashes" its process: called in one of its own alone
    link = "https://..."                    # optional
    expires = 2030-01-31                    # optional: the last day on which it counts

The witness is a case that shows the deviation; the entry itself must describe it.
"""

import datetime as dt
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnspec import ops, where
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.op import BYTES_PER_ELEMENT
from cnnspec.where import Where, hint

STATUSES = ("xfail", "varies", "crashes")
UNEXPLAINED = "TODO: why"
_CELL = ("operator", "backend", "dtype", "law")
_REPAIRS = {
    "operator": 'write a name or a list of names, such as "conv2d"',
    "backend": 'write a name or a list of names, such as "torch"',
    "dtype": 'write a name or a list of names, such as "float32"',
    "law": 'write its name, such as "forward"',
    "where": "write an expression over the case's arguments",
    "witness": "write a case line that shows the deviation",
    "status": f"write one of {', '.join(STATUSES)}",
    "reason": "write why the deviation is known and left as it is",
    "link": "write an address",
    "expires": "write a date without quotes, such as 2030-01-31",
}


@dataclass(frozen=True)
class Expectation:
    """A deviation that is known: the rows that it describes are expected to fail.

    >>> witness = Case.parse("relu(input=(2,), dtype='float16')")
    >>> known = Expectation(("relu",), ("torch",), ("float16",), "forward", None, witness, "xfail", "why")
    >>> known.matches(witness, "torch", "forward"), known.matches(witness, "numpy", "forward")
    (True, False)
    """

    operators: tuple[str, ...]
    backends: tuple[str, ...]
    dtypes: tuple[str, ...]
    law: str
    where: Where | None
    witness: Case | None
    status: str
    reason: str
    link: str = ""
    expires: dt.date | None = None

    def matches(self, case: Case, backend: str, law: str) -> bool:
        """Return whether the entry describes this row; a `where` that says nothing of the case does not."""
        return backend in self.backends and law == self.law and not self._objection(case)

    def expired(self, today: dt.date) -> bool:
        """Return whether the last day on which the entry counts lies before `today`."""
        return self.expires is not None and self.expires < today

    @property
    def told(self) -> dict[str, str]:
        """What a row that the entry describes says of it."""
        return {"reason": self.reason, "link": self.link, "law": self.law, "witness": str(self.witness or "")}

    def _objection(self, case: Case) -> str:
        """Return why the entry does not describe `case`, "" where it does."""
        if case.operator not in self.operators:
            return f"operator {case.operator} is not among {', '.join(self.operators)}"
        if case.dtype not in self.dtypes:
            return f"dtype {case.dtype} is not among {', '.join(self.dtypes)}"
        if self.where and not self.where.verdict(case):
            return f"where = {json.dumps(self.where.text)} does not hold"
        return ""


def crash(known: Iterable[Expectation], case: Case, backend: str, law: str) -> str:
    """Return why a call is known to end its process; "" where it is not."""
    listed = (one.reason for one in known if one.status == "crashes" and one.matches(case, backend, law))
    return next(listed, "")


def for_backends(names: Iterable[str], specs_directory: Path) -> tuple[Expectation, ...]:
    """Return what is expected of the backends `names`, from every file of the folder `expectations`."""
    wanted = set(names)
    paths = sorted((Path(specs_directory) / "expectations").glob("*.toml")) if wanted else []
    return tuple(one for path in paths for one in load(path) if wanted & set(one.backends))


def load(path: Path) -> tuple[Expectation, ...]:
    """Return the entries of one file in their order; UsageError, with the repair, where it cannot be read."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}") from None
    rows = tables.pop("expect", [])
    if tables or not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise UsageError(f"{path}: {', '.join(tables) or 'expect'}: write [[expect]] tables, nothing else")
    return tuple(_entry(row, f"{path}: expect {place}") for place, row in enumerate(rows, 1))


def propose(failures: Iterable[Any]) -> str:
    """Return TOML with one entry for each (operator, backend, dtype, law) that fails; `load` reads it back.

    A failure is a row of results.jsonl, or has one as `row`; the witness is the smallest case of the cell.
    Unexpected passes and failures of cnnspec itself are left out: no entry repairs them.

    >>> print(propose([{"operator": "relu", "backend": "torch", "dtype": "float16", "law": "forward",
    ...                 "case": "relu(input=(1,), dtype='float16')", "message": "NaN is lost"}]))
    # 1 failure: "NaN is lost"
    [[expect]]
    operator = "relu"
    backend = "torch"
    dtype = "float16"
    law = "forward"
    witness = "relu(input=(1,), dtype='float16')"
    reason = "TODO: why"
    <BLANKLINE>
    """
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for failure in failures:
        row: Mapping[str, Any] = getattr(failure, "row", failure)
        if row.get("status") not in ("xpass", "harness"):
            witness = str(row.get("minimal_case") or row["case"])
            message = str(row.get("message") or "no message")
            groups.setdefault(tuple(str(row[key]) for key in _CELL), []).append((witness, message))
    return "\n".join(_proposal(dict(zip(_CELL, cell, strict=True)), rows) for cell, rows in groups.items())


def _proposal(cell: Mapping[str, str], rows: list[tuple[str, str]]) -> str:
    witness, message = min(rows, key=lambda row: (len(row[0]), row))
    fields = {**cell, "witness": witness, "reason": UNEXPLAINED}
    head = f"# {len(rows)} failure{'s' * (len(rows) > 1)}: {_quoted(message)}"
    return "\n".join([head, "[[expect]]", *(f"{key} = {_quoted(text)}" for key, text in fields.items()), ""])


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's, but DEL must be escaped and lone surrogates cannot be written."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def _entry(row: Mapping[str, Any], place: str) -> Expectation:
    for key in row.keys() - _REPAIRS.keys():
        raise UsageError(f"{place}: unknown key {key!r}{hint(key, _REPAIRS)}")
    for key in (*_CELL, "witness", "reason"):
        if key not in row:
            raise UsageError(f"{place}: {key} is missing: {_REPAIRS[key]}")
    values = {key: _read(key, value, place) for key, value in row.items()}
    operators, backends, dtypes, law = (values[key] for key in _CELL)
    entry = Expectation(
        operators,
        backends,
        dtypes,
        law,
        _condition(values["where"], operators, f"{place}: where") if "where" in values else None,
        _placed(f"{place}: witness", Case.parse, values["witness"]),
        values.get("status", STATUSES[0]),
        values["reason"],
        values.get("link", ""),
        values.get("expires"),
    )
    if entry.witness and (objection := entry._objection(entry.witness)):
        raise UsageError(f"{place}: witness: the entry does not describe it: {objection}; change one of them")
    return entry


def _condition(text: str, operators: Sequence[str], place: str) -> Where:
    """Return the expression; every operator of the entry must have its names, or it would excuse nothing."""
    for name in operators:
        _placed(f"{place}, for {name}", where.parse, text, (name,))
    return where.parse(text, operators)


def _placed(place: str, read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `read` reads; its UsageError then says where."""
    try:
        return read(*arguments)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def _read(key: str, value: Any, place: str) -> Any:
    """Return the value of one key, names always as a tuple."""
    if key == "expires" and type(value) is dt.date:
        return value
    several = key in ("operator", "backend", "dtype")
    values: list[Any] = value if several and isinstance(value, list) else [value]
    if key == "expires" or not values or not all(isinstance(one, str) and one.strip() for one in values):
        raise UsageError(f"{place}: {key}={value!r}: {_REPAIRS[key]}")
    known = {"operator": ops.NAMES, "dtype": tuple(BYTES_PER_ELEMENT), "status": STATUSES}.get(key)
    for one in values:
        if known and one not in known:
            raise UsageError(f"{place}: {key}: unknown {one!r}{hint(one, known)}")
    return tuple(values) if several else value
