"""The files of a run directory that are not reports: `results.jsonl` and the reproducer scripts."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnspec.errors import UsageError


def read_entries(path: Path) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return the lines of a results file as dicts, and a sentence for each line that had to be dropped."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", path=path) from error
    entries: list[Mapping[str, Any]] = []
    warnings: list[str] = []
    for number, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is not None:
            entries.append(entry)
        elif line.strip():
            last = number == len(lines)
            what = "the last line, cut in half" if last else f"line {number}, not a JSON object"
            warnings.append(f"{path.name}: dropped {what}")
    return entries, warnings


def _entry(line: str) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def read_scripts(directory: Path) -> dict[str, str]:
    """Return the reproducers of a run directory, file name to text; one that cannot be read is left out."""
    scripts = {}
    for path in sorted((directory / "reproducers").glob("*.py")):
        try:
            scripts[path.name] = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return scripts


def entry_line(entry: Mapping[str, Any]) -> str:
    """Write one line of `results.jsonl`: strict JSON, where floats that are not finite are strings.

    >>> entry_line({"kind": "row", "ratio": float("inf"), "worst_index": (0, 1)})
    '{"kind": "row", "ratio": "inf", "worst_index": [0, 1]}'
    """
    return json.dumps(_strict(entry), allow_nan=False, default=str)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value.hex() if isinstance(value, float) and not math.isfinite(value) else value
