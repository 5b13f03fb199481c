"""The reports as CSV: one row per cell, and one row per distinct failure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.report.cells import AXES, Cell, Failure, expected_reason, link_of, text
from cnnspec.report.results import Results
from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import as_float

CELL_COLUMNS = (
    *("schema_version", "date_utc", "cnnspec", "env_fingerprint", "seed"),
    *("operator", "backend", "backend_version", "device", "dtype", "law", "model"),
    *("status", "reason", "issue_url"),
    *("examples", "discriminating", *(f"examples_{word}" for word in STATUSES), "seconds"),
    *("err_max_bound_units", "err_max_ulp", "err_exact_fraction", "hist_bins", "hist_counts"),
    *("worst_case", "path", "failure_id"),
)
FAILURE_COLUMNS = (
    *("failure_id", "operator", "backend", "device", "dtype", "law", "status", "case", "minimal_case"),
    *("worst_index", "expected", "actual", "error", "bound", "ratio", "wrong_elements", "elements"),
    *("explanation", "message", "looks_like", "reason", "issue_url", "reproducer", "occurrences", "path"),
)


def conformance_csv(results: Results) -> str:
    """Write one line per cell; an empty field where something does not apply."""
    header = results.header
    environment = header.get("environment")
    versions = environment if isinstance(environment, Mapping) else {}
    run = {
        "schema_version": header.get("schema_version"),
        "date_utc": header.get("started_utc"),
        "cnnspec": header.get("cnnspec"),
        "env_fingerprint": header.get("fingerprint"),
        "seed": header.get("seed"),
    }
    records = [
        {**run, "backend_version": versions.get(cell.backend.partition("-")[0]), **_cell_record(cell)}
        for cell in results.cells
    ]
    return _csv(records, CELL_COLUMNS)


def _cell_record(cell: Cell) -> dict[str, Any]:
    bins = cell.histogram or {}
    elements = sum(bins.values())
    return {
        **{name: getattr(cell, name) for name in (*AXES, "model", "status", "reason")},
        "examples": cell.examples,
        "discriminating": cell.discriminating,
        **{f"examples_{word}": cell.counts.get(word, 0) for word in STATUSES},
        "issue_url": cell.link,
        "seconds": round(cell.seconds, 6),
        "err_max_bound_units": _number(cell.worst_ratio),
        "err_max_ulp": _number(cell.worst_ulps),
        "err_exact_fraction": bins.get("exact", 0) / elements if elements else None,
        "hist_bins": " ".join(bins),
        "hist_counts": " ".join(map(str, bins.values())),
        "worst_case": cell.worst_case,
        "path": cell.path,
        "failure_id": cell.failure_id,
    }


def failures_csv(results: Results) -> str:
    """Write one line per distinct failure, known deviations (`xfail`) last; exact floats as `float.hex`."""
    failures = (*results.failures, *results.known_deviations)
    return _csv([_failure_record(failure) for failure in failures], FAILURE_COLUMNS)


def _failure_record(failure: Failure) -> dict[str, Any]:
    row = failure.row
    index = row.get("worst_index")
    return {
        **{name: row.get(name) for name in FAILURE_COLUMNS},
        **{name: getattr(failure, name) for name in ("failure_id", *AXES)},
        "status": failure.status,
        "minimal_case": failure.minimal_case,
        "message": failure.message,
        "reason": text(row, "reason") or expected_reason(row),
        "issue_url": link_of(row),
        "worst_index": None if index is None else json.dumps(index),
        "ratio": _number(as_float(row.get("ratio"))),
        "occurrences": failure.occurrences,
    }


def _number(value: float | None) -> str | None:
    return None if value is None else repr(value)


def _csv(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    import pandas as pd  # slow, and only these reports need it

    frame = pd.DataFrame.from_records(list(records), columns=list(columns)).astype(object)
    return str(frame.to_csv(index=False, lineterminator="\n"))
