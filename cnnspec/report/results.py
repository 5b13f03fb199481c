"""The results of one run: what `cnnspec.check` returns and what every report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.errors import UsageError
from cnnspec.report.cells import Cell, Failure, cells_of, failures_of, status_of
from cnnspec.report.expected import unmatched
from cnnspec.report.reading import entry_line, read_entries, read_scripts
from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import as_float, percent, plural, thousands

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Results:
    """Everything one conformance run found; `rows` hold one dict per (case, law, target).

    >>> row = {"operator": "conv2d", "backend": "torch", "device": "cpu", "dtype": "float32"}
    >>> row |= {"law": "forward", "status": "pass", "discriminating": True, "ratio": 0.31}
    >>> results = Results(header={"schema_version": 1}, rows=[row, {**row, "ratio": 0.5}])
    >>> results.ok, results.exit_code, results.score_line()
    (True, 0, '100.0 % (1 of 1 applicable cells)')
    >>> cell = results.cells[0]
    >>> cell.status, cell.examples, cell.worst_ratio
    ('pass', 2, 0.5)
    >>> broken = Results(results.header, [row, {**row, "status": "fail", "message": "off by one"}])
    >>> broken.exit_code, [(failure.law, failure.message) for failure in broken.failures]
    (1, [('forward', 'off by one')])

    A run that is on disk is read back with `Results.read("reports/latest")`; `results.save(directory)`
    writes all reports; `results.to_frame()` is a pandas DataFrame with one line per row.
    """

    header: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    cell_rows: Sequence[Mapping[str, Any]] = ()
    """Cells that never ran, each with its reason: `skip` or `unsupported`."""
    cuts: Sequence[Mapping[str, Any]] = ()
    """Where the time budget ended a list of cases early."""
    end: Mapping[str, Any] | None = None
    """The closing line; None where the run was cut off."""
    warnings: Sequence[str] = ()
    """What reading the results had to pass over, one sentence each."""
    scripts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The reproducer scripts, file name to text."""
    path: Path | None = None
    """The `results.jsonl` these were read from."""

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Return the results in a run directory or a `results.jsonl`; `warnings` tells what was dropped.

        `UsageError` if there is no such file, or it has no header line.
        """
        file = Path(path)
        file = file / "results.jsonl" if file.is_dir() else file
        entries, warnings = read_entries(file)
        return cls.from_entries(entries, warnings=warnings, scripts=read_scripts(file.parent), path=file)

    @classmethod
    def from_entries(
        cls,
        entries: Iterable[Mapping[str, Any]],
        *,
        warnings: Sequence[str] = (),
        scripts: Mapping[str, str] | None = None,
        path: Path | None = None,
    ) -> Results:
        """Return the results in the lines of a `results.jsonl`, already parsed, header first."""
        by_kind: dict[str, list[Mapping[str, Any]]] = {}
        last: Mapping[str, Any] = {}
        for last in entries:
            by_kind.setdefault(str(last.get("kind")), []).append(last)
        headers, rows, cells, cuts, _ = (
            by_kind.pop(kind, []) for kind in ("header", "row", "cell", "cut", "end")
        )
        _require_header(headers, str(path or "the results"))
        end = last if last.get("kind") == "end" else None
        said = [*warnings, *_oddities(headers, rows, end, by_kind), *unmatched(headers[0], rows, cuts, end)]
        return cls(headers[0], rows, cells, cuts, end, said, scripts or {}, path)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Operator x backend x device x dtype x law, each with its worst status and its sums."""
        return cells_of(self.rows, self.cell_rows)

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """The distinct failures, worst first; known deviations are in `known_deviations`."""
        return failures_of(self.rows)

    @cached_property
    def known_deviations(self) -> tuple[Failure, ...]:
        """The distinct failures that were expected (status `xfail`)."""
        return failures_of(self.rows, frozenset({"xfail"}))

    @property
    def case_lines(self) -> list[str]:
        """The distinct cases that a target claims."""
        rows = (row for row in self.rows if row.get("case") and row.get("status") != "unsupported")
        return [*dict.fromkeys(str(row["case"]) for row in rows)]

    @property
    def unmatched(self) -> list[str]:
        """A sentence for each known deviation that has expired or that no row showed."""
        return [*unmatched(self.header, self.rows, self.cuts, self.end)]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many cells have each status, worst status first; a status that none has counts 0."""
        counts = dict.fromkeys(STATUSES, 0)
        for cell in self.cells:
            counts[cell.status] += 1
        return counts

    @property
    def applicable(self) -> int:
        """How many cells the score is out of."""
        return sum(count for word, count in self.counts.items() if STATUSES[word].applicable)

    @cached_property
    def exit_code(self) -> int:
        """0 all hold; 1 violation, crash, timeout, unexpected pass; 3 only flaky or vacuous; 4 no verdict."""
        words = {status_of(row) for row in self.rows}
        if self.counts["harness"] or not self.applicable:
            return 4
        if words & {"fail", "crash", "timeout", "xpass"}:
            return 1
        return 3 if "flaky" in words or self.counts["vacuous"] else 0

    @property
    def ok(self) -> bool:
        """Whether something ran and everything that ran holds."""
        return self.exit_code == 0

    @property
    def score(self) -> float | None:
        """Passing cells over applicable cells; None where cnnspec itself failed or nothing applied."""
        return None if self.exit_code == 4 else self.counts["pass"] / self.applicable

    def score_line(self) -> str:
        """Write the score and what it is out of: `96.4 % (1 204 of 1 249 applicable cells) · 3 vacuous`."""
        if self.counts["harness"]:
            parts = [f"no score: cnnspec itself failed in {thousands(self.counts['harness'])} of its cells"]
        elif not self.applicable:
            parts = ["no score: no applicable cell"]
        else:
            passed, whole = self.counts["pass"], self.applicable
            share = f"{thousands(passed)} of {thousands(whole)} applicable cells"
            parts = [f"{percent(passed, whole)} ({share})"]
        apart = ((word, self.counts[word]) for word in ("unsupported", "skip", "vacuous", "flaky", "xfail"))
        parts += [f"{thousands(n)} {'skipped' if word == 'skip' else word}" for word, n in apart if n]
        return " · ".join(parts)

    def to_frame(self) -> pd.DataFrame:
        """Return one line per row, as a pandas DataFrame; `ratio` and `ulps` are floats."""
        import pandas as pd  # slow, and not needed to read results

        frame = pd.DataFrame.from_records([dict(row) for row in self.rows])
        for name in frame.columns.intersection(["ratio", "ulps"]):
            frame[name] = frame[name].map(as_float).astype(float)
        return frame.drop(columns="kind", errors="ignore")

    def entries(self) -> list[Mapping[str, Any]]:
        """Return the lines of the `results.jsonl` that says the same."""
        end = [self.end] if self.end is not None else []
        return [self.header, *self.rows, *self.cell_rows, *self.cuts, *end]

    def save(self, directory: str | Path) -> list[str]:
        """Write `results.jsonl`, the reproducers and all reports to `directory`; returns what went wrong.

        The file that the results were read from, the run's own record, is never written over.
        """
        from cnnspec.report.build import write_reports  # imports this module

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "results.jsonl"
        if self.path is None or record.resolve() != self.path.resolve():
            text = "".join(entry_line(entry) + "\n" for entry in self.entries())
            record.write_text(text, encoding="utf-8", newline="\n")
            for name, script in self.scripts.items():
                (folder / "reproducers").mkdir(exist_ok=True)
                (folder / "reproducers" / Path(name).name).write_text(script, encoding="utf-8", newline="\n")
        return write_reports(self, folder)


def _require_header(headers: Sequence[Mapping[str, Any]], source: str) -> None:
    if not headers:
        raise UsageError(f"{source} has no header line: it is not the results.jsonl of a run", source=source)
    version = headers[0].get("schema_version")
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{source} has schema_version {version}; this cnnspec reads {SCHEMA_VERSION}",
            source=source,
            schema_version=version,
        )


def _oddities(
    headers: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    end: Mapping[str, Any] | None,
    unknown: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Iterable[str]:
    if len({header.get("fingerprint") for header in headers}) > 1:
        yield "parts of the run were made in different environments; the first one is shown"
    for kind, entries in unknown.items():
        yield f"passed over {plural(len(entries), 'line')} of unknown kind {kind!r}"
    words = {str(row.get("status")) for row in rows} - set(STATUSES)
    if words:
        yield f"unknown statuses count as harness: {', '.join(sorted(words))}"
    if end is None:
        yield "the run did not finish: its results have no closing line"
    elif end.get("interrupted"):
        yield "the run was interrupted; only the cases that ran are shown"
