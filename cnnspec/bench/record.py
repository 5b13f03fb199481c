"""The record of a run of benchmarks: `perf.jsonl` and `samples.csv.gz`, written while it goes on, and read again.

perf.jsonl:      a header; entries of the kinds that each part of a run finds; what was cut, and why; an end
samples.csv.gz:  every sample, in seconds per call, by the line of its row in perf.jsonl
"""

import csv
import datetime as dt
import gzip
import hashlib
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnspec._version import __version__
from cnnspec.bench import machine
from cnnspec.bench.adaptive import ERROR, LOOKS
from cnnspec.bench.figures import Entry
from cnnspec.bench.plan import Plan
from cnnspec.bench.verdicts import SAME
from cnnspec.errors import UsageError

RECORD, SAMPLES = "perf.jsonl", "samples.csv.gz"
SCHEMA_VERSION = 1
BESIDE = ("roof", "control")
"""Kinds of entries that nobody asks for."""


@dataclass
class Run:
    """What a record holds."""

    header: Entry
    kinds: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    @property
    def rows(self) -> list[Entry]:
        """The comparisons of layers."""
        return self.kinds["row"]

    @property
    def controls(self) -> list[Entry]:
        """Calls that were held against themselves."""
        return self.kinds["control"]

    @property
    def cuts(self) -> list[Entry]:
        """What was not measured, and why."""
        return self.kinds["cut"]

    @property
    def end(self) -> Entry | None:
        """The last entry of a run that was not killed."""
        return next(iter(self.kinds["end"]), None)

    @property
    def timed(self) -> list[Entry]:
        """The rows that hold a time."""
        return [row for row in self.rows if row.get("t_median_s")]

    @property
    def measured(self) -> bool:
        """Whether anything that was asked for was timed, or ran once where nothing is timed."""
        asked = (one for kind, entries in self.kinds.items() if kind not in BESIDE for one in entries)
        return any(one.get("t_median_s") or one.get("ratio") or one.get("mode") == "smoke" for one in asked)

    @property
    def wrong(self) -> bool:
        """Whether anything that was asked for does not conform."""
        told = ("conformance", "against_conformance")
        every = (one for entries in self.kinds.values() for one in entries)
        return any("fail" in map(one.get, told) or one.get("agree") is False for one in every)

    @property
    def fit(self) -> bool:
        """Whether the machine found every call that was held against itself to be as fast as itself."""
        return bool(self.controls) and all(control["verdict"] == SAME for control in self.controls)

    def add(self, entry: Entry) -> None:
        """Put an entry where it belongs."""
        self.kinds[entry["kind"]].append(entry)


def header(plan: Plan, processors: list[int]) -> Entry:
    """Return the first line: what is measured, where, and how the target is found again."""
    facts = machine.facts(plan.device, plan.threads)
    asked = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
    return {
        "kind": "header",
        "schema_version": SCHEMA_VERSION,
        "cnnspec": __version__,
        "started_utc": _now(),
        "commit": commit(),
        "command": plan.command,
        **asked,
        "looks": LOOKS,
        "error": ERROR,
        "environment": facts,
        "fingerprint": machine.fingerprint(facts),
        "affinity": processors,
        "before": machine.moment(),
        "origin": origin(plan.target),
    }


def origin(target: str) -> Entry:
    """Return how a fresh process finds the target again, and what tells whether it is still what it was."""
    return {
        "executable": sys.executable,
        "directory": str(Path.cwd()),
        "package": str(Path(__file__).parents[2]),
        "source_sha256": source_sha256(target),
    }


def commit() -> str:
    """Return the short name of the commit that is checked out here; "" where there is none."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def source_sha256(target: str) -> str:
    """Return the hash of the file that a target was imported from; "" where there is none."""
    word = target.rpartition(":")[0] if ":" in target else target
    named = word if word.endswith(".py") else getattr(sys.modules.get(word), "__file__", None)
    return hashlib.sha256(Path(named).read_bytes()).hexdigest() if named and Path(named).is_file() else ""


def end(run: Run, interrupted: bool = False) -> Entry:
    """Return the last line."""
    return {
        "kind": "end",
        "finished_utc": _now(),
        "after": machine.moment(),
        "fit": run.fit,
        "interrupted": interrupted,
    }


def write(directory: Path, entries: Iterable[Mapping[str, Any]]) -> Iterable[Entry]:
    """Write entries as they come, their raw samples apart, and pass them on without these."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / RECORD).open("w", encoding="utf-8", newline="\n") as lines,
        gzip.open(directory / SAMPLES, "wt", encoding="utf-8", newline="") as raw,
    ):
        table = csv.writer(raw, lineterminator="\n")
        table.writerow(("line", "kind", "pair", "against_s", "target_s"))
        for number, entry in enumerate(entries, start=1):
            kept = {name: value for name, value in entry.items() if name != "samples"}
            for place, pair in enumerate(entry.get("samples", ())):
                table.writerow((number, entry["kind"], place, *("" if one is None else one for one in pair)))
            lines.write(json.dumps(kept, allow_nan=False) + "\n")
            lines.flush()
            yield kept


def read(path: str | Path) -> Run:
    """Return the run in a directory, or in a record; UsageError where there is none. A cut last line is dropped."""
    file = Path(path) / RECORD if Path(path).is_dir() else Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}", path=file) from None
    found: list[Entry] = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    first = found[0] if found else {}
    if first.get("kind") != "header" or first.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"{file} is not the {RECORD} of a run that this cnnspec reads", path=file)
    run = Run(first)
    for entry in found[1:]:
        run.add(entry)
    return run


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
