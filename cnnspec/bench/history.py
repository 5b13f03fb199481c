"""The runs of a directory, one line for each in `history.jsonl`, and how fast the same calls were from run to run.

Times of different environments are never set in relation: each fingerprint has a series of its own.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from cnnspec.bench.figures import Entry
from cnnspec.bench.gate import DELTA
from cnnspec.bench.record import SCHEMA_VERSION, Run

HISTORY = "history.jsonl"
KEY = ("case", "target", "against", "direction", "mode")
KNOWN = ("schema_version", "started_utc", "fingerprint", "rows")
"""What a line must hold to be read."""


class Step(NamedTuple):
    """From which run on a series lies elsewhere, and the median of what follows over that of what came before."""

    run: int
    shift: float


@dataclass(frozen=True)
class Series:
    """The runs of one fingerprint, in order.

    relative: of each run, the geometric mean over the shared calls of their time over that in the first run; None
              where no call is shared
    shared:   how many calls all of these runs have timed
    """

    fingerprint: str
    runs: tuple[Entry, ...]
    relative: tuple[float | None, ...]
    shared: int

    def step(self, delta: float = DELTA) -> Step | None:
        """Return where the series changed, as `step` finds it."""
        return step([one for one in self.relative if one is not None], delta)


def entry(run: Run) -> Entry | None:
    """Return the line of a run; None for one that timed no call."""
    if not run.timed:
        return None
    header = run.header
    facts = header["environment"]
    return {
        "schema_version": header["schema_version"],
        "started_utc": header["started_utc"],
        "fingerprint": header["fingerprint"],
        "commit": header.get("commit", ""),
        "torch": facts.get("torch"),
        "processor": facts.get("processor"),
        "fit": run.fit,
        "control": run.controls[0]["ratio"] if run.controls else None,
        "rows": {key(row): [row["t_median_s"], row.get("ratio"), row["verdict"]] for row in run.timed},
    }


def key(row: Entry) -> str:
    """Return what tells a timed call from others.

    >>> key({"case": "relu(input=(2,))", "target": "a", "against": "", "direction": "forward", "mode": "cpu"})
    'relu(input=(2,)) | a |  | forward | cpu'
    """
    return " | ".join(row[name] for name in KEY)


def append(run: Run, directory: Path) -> None:
    """Add the line of a run, once, to the history of a directory, where it has timed anything."""
    line = entry(run)
    if line is not None and line not in read(directory):
        file = directory / HISTORY
        whole = not file.exists() or not file.stat().st_size or file.read_bytes().endswith(b"\n")
        with file.open("a", encoding="utf-8", newline="\n") as lines:
            lines.write("\n" * (not whole) + json.dumps(line, allow_nan=False) + "\n")


def read(directory: str | Path) -> list[Entry]:
    """Return the runs of a directory, the oldest first; lines that are broken or of another schema are dropped."""
    file = Path(directory) / HISTORY
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if isinstance(one, dict) and all(name in one for name in KNOWN) and _is_ours(one):
            found.append(one)
    return found


def series(entries: Sequence[Entry]) -> list[Series]:
    """Return the runs of each fingerprint, in order, with their times relative to its first run.

    >>> runs = [{"fingerprint": "a", "rows": {"x": [t, None, None], "y": [1.0, None, None]}} for t in (1.0, 4.0)]
    >>> series(runs)[0].relative, series(runs)[0].shared
    ((1.0, 2.0), 2)
    """
    groups: dict[str, list[Entry]] = {}
    for one in entries:
        groups.setdefault(one["fingerprint"], []).append(one)
    return [_series(fingerprint, runs) for fingerprint, runs in groups.items()]


def step(means: Sequence[float], delta: float = DELTA) -> Step | None:
    """Return the first run from which all means lie above all earlier ones, or all below, by more than delta.

    A two-segment shift of the median: where `min(later) > (1 + delta) max(earlier)`, or `max(later) < (1 - delta)
    min(earlier)`, the medians of both segments differ, too; their ratio is the shift. It is a rule, not a test: it has
    no confidence, and a last run that lies apart is a step until another one does not.

    >>> step([1.0, 1.01, 0.99, 1.25, 1.5])
    Step(run=3, shift=1.375)
    """
    for place in range(1, len(means)):
        earlier, later = means[:place], means[place:]
        if min(later) > (1 + delta) * max(earlier) or max(later) < (1 - delta) * min(earlier):
            return Step(place, median(later) / median(earlier))
    return None


def _series(fingerprint: str, runs: Sequence[Entry]) -> Series:
    shared = set[str].intersection(*(set(one["rows"]) for one in runs))
    first = runs[0]["rows"]
    relative = (
        math.exp(fmean(math.log(one["rows"][name][0] / first[name][0]) for name in sorted(shared)))
        if shared
        else None
        for one in runs
    )
    return Series(fingerprint, tuple(runs), tuple(relative), len(shared))


def _is_ours(one: Entry) -> bool:
    rows = one["rows"]
    return (
        one["schema_version"] == SCHEMA_VERSION
        and isinstance(rows, dict)
        and all(map(_is_row, rows.values()))
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and isinstance(row[0], int | float) and row[0] > 0
