"""Going on with a run that was interrupted: what its record holds is not asked again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnspec.errors import UsageError
from cnnspec.folder import RECORD, Folder, rewrite
from cnnspec.plan import CHUNK, Chunk, Plan, differences
from cnnspec.report.reading import read_entries
from cnnspec.rows import path_key

Entry = Mapping[str, Any]


def kept(plan: Plan, directory: Path) -> list[Entry]:
    """Return the lines of the record in `directory` that a run of `plan` goes on from; none where there is no record.

    Those of the last case are left out, which may be half of them, and whatever the run says again: its end, where
    its budget cut, which cells cannot run. UsageError where the record is that of another plan.
    """
    if not (directory / RECORD).exists():
        return []
    entries, _ = read_entries(directory / RECORD)
    headers = [entry for entry in entries if entry.get("kind") == "header"]
    if not headers:
        return []
    if "plan" not in headers[0]:
        raise UsageError(f"{directory} cannot be resumed: its record does not say what was asked")
    different = differences(Plan.of(headers[0]["plan"]), plan)
    if different:
        told = f"{directory} cannot be resumed: there and here {'; '.join(different)}"
        raise UsageError(f"{told}; repeat its options, or leave out --resume")
    rows = [entry for entry in entries if entry.get("kind") == "row"]
    whole = entries[-1].get("kind") == "end" and not entries[-1].get("interrupted")
    last = _case(rows[-1]) if rows and not whole else None
    return [*headers, *(row for row in rows if _case(row) != last)]


def _case(row: Entry) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("operator", "dtype", "index", "backend"))


def restore(folder: Folder, entries: Sequence[Entry]) -> None:
    """Write the record and the private folder as the run had left them."""
    rewrite(folder.path.parent / RECORD, entries)
    judged: dict[str, list[Entry]] = {}
    for row in entries:
        if row.get("kind") != "row":
            continue
        if row["status"] in ("crash", "timeout") or row.get("exhausted"):
            folder.note_ended(row)
        if row["status"] not in ("crash", "timeout"):
            judged.setdefault(str(_chunk(row)), []).append(row)
        for key in _claimed(row):
            folder.claim(key)
    for name, rows in judged.items():
        folder.note_judged(name, rows)


def _chunk(row: Entry) -> Chunk:
    return Chunk(max(0, row["index"]) // CHUNK, row["operator"], row["dtype"])


def _claimed(row: Entry) -> Iterable[str]:
    """Yield what was done once for a row, and need not be done again."""
    if not row.get("reproducer"):
        return
    if row["status"] == "xfail":
        yield path_key({"path": "", **row})
    elif row.get("exhausted"):
        yield f"{row['failure_id']}-memory"
    else:
        yield row["failure_id"] + "-flaky" * (row["status"] == "flaky")
