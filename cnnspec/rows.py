"""The rows of a run that are more than a verdict: failures with their reproducer, crashes, cells that never ran."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnspec import data, reproduce
from cnnspec.backends import Backend
from cnnspec.cases import Case
from cnnspec.errors import CnnspecError
from cnnspec.judge import FORWARD, Row, Trial, blank_row, cell_of
from cnnspec.outputs import spelled


def attach_reproducer(
    row: Row,
    case: Case,
    backend: Backend,
    target: str,
    limits: tuple[float, int],
    write: Callable[[Row, str], None],
    before: Sequence[Case] = (),
) -> None:
    """Name the reproducer of a failing row, and hand its text to `write`.

    limits: seconds and bytes that a call may take, 0 bytes for any number;   before: the calls that must come first
    """
    try:
        row["reproducer"] = reproduce.file_name(backend.name, row["law"], case)
        script = reproduce.script(
            case,
            target,
            message=". ".join(filter(None, (row.get("explanation"), row.get("message") or row["status"]))),
            device=backend.device,
            law=row["law"],
            timeout_seconds=int(max(1, limits[0])),
            memory=limits[1],
            before=before,
            model=backend.model(case.dtype, case.operator),
            layers=backend.layers,
            worst=row.get("worst_index") or (),
        )
        write(row, script)
    except (CnnspecError, OSError, ValueError) as error:
        row["reproducer"] = None
        row["reason"] = f"no reproducer could be written: {error}"


def reproduces(script: str) -> bool:
    """Run a reproducer in a process of its own and say whether it reproduces."""
    with tempfile.TemporaryDirectory(prefix="cnnspec-") as folder:
        path = Path(folder, "repro.py")
        path.write_text(script, encoding="utf-8")
        done = subprocess.run([sys.executable, str(path)], capture_output=True, check=False)  # noqa: S603 - ours
    return done.returncode == 1


def failure_id(row: Mapping[str, Any]) -> str:
    """Return the name that all failures of one cell share."""
    return _name(row, "operator", "backend", "dtype", "law")


def path_key(row: Mapping[str, Any]) -> str:
    """Return the name that the rows of one law on one path of a backend share."""
    return _name(row, "backend", "path", "dtype", "law")


def _name(row: Mapping[str, Any], *keys: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in row[key]) for key in keys)


def crash_row(
    mark: Mapping[str, Any], cell: tuple[str, str, str], told: tuple[str, str], timeout: float
) -> Row:
    """Return the row of a call that ended its process, or was ended after `timeout` seconds.

    mark: what was written before the call;   cell: operator, dtype and device
    told: the first line that Python said at the end, and the first that the target had printed
    """
    (operator, dtype, device), (words, printed) = cell, told
    seconds = time.time() - mark["started"]
    hung = words.startswith("Timeout")
    ending = (
        f"no answer within {timeout:g} s: the process was ended" if hung else "the call ended its process"
    )
    reasons = [words] * bool(words and not hung) + [f"it printed {printed!r}"] * bool(printed)
    about = {
        "operator": operator,
        "backend": mark["backend"],
        "device": device,
        "dtype": dtype,
        "law": mark["law"],
        "index": mark["index"],
        "case": mark["case"],
        "regime": Case.parse(mark["case"]).regime,
    }
    row = blank_row(about, "timeout" if hung else "crash") | {
        "seconds": round(seconds, 3),
        "message": "; ".join([f"{ending}: {reasons[0]}", *reasons[1:]] if reasons else [ending]),
        "minimal_case": mark["case"],
    }
    row["failure_id"] = failure_id(row)
    return row


def cell_row(operator: str, dtype: str, backend: Backend, status: str, reason: str) -> Mapping[str, Any]:
    """Return the row of a cell that has no cases, with its reason."""
    about = cell_of(operator, backend, dtype, FORWARD)
    return {"kind": "cell", **about, "status": status, "reason": reason}


def broken_row(operator: str, dtype: str, backend: Backend, text: str) -> Mapping[str, Any]:
    """Return the row of a cell that cnnspec itself failed to run, with what is known of why."""
    last = text.strip().splitlines()[-1]
    return {**cell_row(operator, dtype, backend, "harness", f"cnnspec failed: {last}"), "traceback": text}


def harness_row(case: Case, backend: Backend, text: str) -> Row:
    """Return the row of an error of cnnspec itself, with its traceback."""
    row = Trial(case)._row(backend, FORWARD, "harness", message=text.splitlines()[-1], traceback=text)
    row["failure_id"] = failure_id(row)
    return row


def operands_of(case: Case) -> dict[str, Any]:
    """Return the operands of a small case for the failure card."""
    return {
        name: {
            "shape": list(array.shape),
            "dtype": case.dtype,
            "layout": case.layout.get(name, "contiguous"),
            **({"values": [spelled(v) for v in array.ravel().tolist()]} if array.size <= 64 else {}),
        }
        for name, array in data.operands(case).items()
    }
