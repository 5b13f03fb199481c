"""The rows of a run that are more than a verdict: failures with their reproducer, crashes, cells that never ran."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnspec import data, reproduce
from cnnspec.backends import Backend
from cnnspec.cases import Case
from cnnspec.errors import CnnspecError
from cnnspec.judge import FORWARD, Row, Trial
from cnnspec.outputs import spelled


def attach_reproducer(
    row: Row, case: Case, backend: Backend, target: str, seconds: float, write: Callable[[Row, str], None]
) -> None:
    """Name the reproducer of a failing row, and hand its text to `write`."""
    try:
        row["reproducer"] = reproduce.file_name(backend.name, row["law"], case)
        script = reproduce.script(
            case,
            target,
            message=row.get("message") or row["status"],
            device=backend.device,
            law=row["law"],
            timeout_seconds=int(max(1, seconds)),
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
    parts = (row["operator"], row["backend"], row["dtype"], row["law"])
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in part) for part in parts)


def crash_row(
    mark: Mapping[str, Any], operator: str, dtype: str, device: str, seconds: float, timeout: float
) -> Row:
    """Return the row of a call that killed its process, or that was killed after `timeout` seconds."""
    hung = seconds >= timeout
    message = (
        f"no answer within {timeout:g} s: the process was ended" if hung else "the call ended its process"
    )
    row: Row = {
        "kind": "row",
        "operator": operator,
        "backend": mark["backend"],
        "device": device,
        "dtype": dtype,
        "law": mark["law"],
        "index": mark["index"],
        "case": mark["case"],
        "regime": Case.parse(mark["case"]).regime,
        "status": "timeout" if hung else "crash",
        "reason": "",
        "ratio": None,
        "ulps": None,
        "model": None,
        "discriminating": False,
        "seconds": round(seconds, 3),
        "message": message,
        "minimal_case": mark["case"],
    }
    row["failure_id"] = failure_id(row)
    return row


def cell_row(operator: str, dtype: str, backend: Backend, status: str, reason: str) -> Mapping[str, Any]:
    """Return the row of a cell that has no cases, with its reason."""
    return {
        "kind": "cell",
        "operator": operator,
        "backend": backend.name,
        "device": backend.device,
        "dtype": dtype,
        "law": FORWARD,
        "status": status,
        "reason": reason,
    }


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
