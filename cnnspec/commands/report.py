"""`cnnspec report`: the reports of runs that are over, what two of them say differently, shards made one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.errors import UsageError

if TYPE_CHECKING:
    from cnnspec.report.results import Results

RESULTS, MEASURED = "results.jsonl", "perf.jsonl"
BUILD, COMPARE, MERGE = ACTIONS = ("build", "compare", "merge")


def add(commands: Any) -> None:
    """Add the subcommand."""
    one = commands.add_parser(
        "report",
        help="write the reports of a run again, compare two runs, merge the shards of one",
        description="build writes the reports of each DIR again, of checks and of benchmarks; compare says what is "
        "new, fixed and gone in the second DIR, and exits with 1 if a failure is new; merge joins the shards of a run.",
    )
    one.add_argument("words", nargs="+", metavar="[build|compare|merge] DIR", help="directories of runs")
    one.add_argument("--format", choices=("table", "csv"), default="table", help="of compare")
    one.add_argument("--out", metavar="DIR", help="of merge: where the joint run is written")
    one.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    named = options.words[0] in ACTIONS and len(options.words) > 1
    action, directories = (options.words[0], options.words[1:]) if named else (BUILD, options.words)
    if action == COMPARE:
        return _compare(directories, options.format)
    return _merge(directories, options.out) if action == MERGE else _build(directories)


def _build(words: Sequence[str]) -> int:
    from cnnspec.report.results import Results

    for word in words:
        directory = Path(word) if Path(word).is_dir() else Path(word).parent
        measured = _has(word, MEASURED)
        if measured:
            _save_performance(word, directory)
        if not measured or _has(word, RESULTS):
            _save(Results.read(word), directory)
    return 0


def _has(word: str, name: str) -> bool:
    """Tell whether a word names a file, or a directory that holds one."""
    return (Path(word) / name).is_file() or (Path(word).name == name and Path(word).is_file())


def _save_performance(word: str, directory: Path) -> None:
    from cnnspec.bench import exports, record
    from cnnspec.report import performance

    run = record.read(word)
    problems = performance.save(run, directory)
    print(f"{directory / performance.NAME}: {exports.verdict_line(run)}")
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


def _compare(words: Sequence[str], kind: str) -> int:
    """Print what changed; return 1 where a failure is new."""
    from cnnspec.report import comparison
    from cnnspec.report.results import Results

    if len(words) != 2:
        raise UsageError(
            f"report compare takes two directories, not {len(words)}: the run before and the one after"
        )
    found = comparison.changes(*map(Results.read, words))
    print(comparison.as_text(found) if kind == "table" else comparison.as_csv(found).rstrip())
    return int(any(change.kind == comparison.NEW for change in found))


def _merge(words: Sequence[str], out: str | None) -> int:
    """Write the joint run, and return what it would have returned."""
    from cnnspec.report.merging import merged
    from cnnspec.report.results import Results

    if out is None:
        raise UsageError("--out is missing: report merge writes the joint run there")
    if any(Path(out).resolve() == Path(word).resolve() for word in words):
        raise UsageError(f"--out {out} is one of the shards: give another directory")
    results = merged([Results.read(word) for word in words], words)
    _save(results, Path(out))
    return results.exit_code


def _save(results: "Results", directory: Path) -> None:
    problems = results.save(directory)
    print(f"{directory / 'conformance.html'}: {results.score_line()}")
    for problem in (*results.warnings, *problems):
        print(f"warning: {problem}", file=sys.stderr)
