"""`cnnspec mutants`: whether the suite catches kernels with the bugs that implementations had."""

import argparse
import csv
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.commands.options import positive, seconds

if TYPE_CHECKING:
    from cnnspec.mutants.kill import Fate

HEAD = ("mutant", "operator", "law", "cases", "seconds")
COLUMNS = (
    *("mutant", "operator", "direction", "source", "summary", "status", "law", "cases", "reached", "seconds"),
    *("message", "case", "minimal_case", "reason"),
)
LEAST_SCORE = 0.99
"""The part of the mutants that must be killed, whatever reasons the others have."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    one = commands.add_parser("mutants", help="does the suite catch kernels with known bugs?")
    one.add_argument(
        "--op", action="extend", nargs="+", default=[], metavar="NAME", help="only these operators"
    )
    one.add_argument("--budget", type=seconds, metavar="600s", help="begin no case after this time")
    one.add_argument("--examples", type=positive, metavar="N", help="cases per operator and dtype")
    one.add_argument("--seed", type=int, default=0, help="of the cases, as of `check`")
    one.add_argument(
        "--jobs", type=positive, metavar="N", help="worker processes (default: one per processor)"
    )
    one.add_argument("--out", default="reports/mutants", metavar="DIR", help="where mutants.csv is written")
    one.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Print the table and the score; return 1 where a mutant survives without a reason, or too many do with one."""
    from cnnspec.mutants import kill
    from cnnspec.mutants.bank import mutants
    from cnnspec.mutants.survivors import REASONS
    from cnnspec.plan import EXAMPLES

    deadline = time.time() + options.budget if options.budget else None
    jobs = options.jobs or os.cpu_count() or 1
    examples = options.examples or EXAMPLES
    found = mutants(options.op)
    fates = kill.run(found, examples=examples, seed=options.seed, jobs=jobs, deadline=deadline)
    print(table(fates))
    print(kill.score(fates))
    Path(options.out).mkdir(parents=True, exist_ok=True)
    _write(Path(options.out) / "mutants.csv", fates, REASONS)
    unlisted = [fate for fate in fates if fate.status != kill.KILLED and fate.mutant.name not in REASONS]
    for fate in unlisted:
        print(f"{fate.status}: {fate.mutant.name}: {_why(fate)}", file=sys.stderr)
    for fate in fates:
        if fate.status == kill.KILLED and fate.mutant.name in REASONS:
            print(f"warning: {fate.mutant.name} is listed as a survivor, but was killed", file=sys.stderr)
    killed = sum(fate.status == kill.KILLED for fate in fates)
    if killed < LEAST_SCORE * len(fates):
        print(f"the score is below {LEAST_SCORE:.0%}", file=sys.stderr)
        return 1
    return 1 if unlisted else 0


def _why(fate: "Fate") -> str:
    if not fate.reached:
        return f"none of {fate.cases} cases reaches it ({fate.mutant.summary})"
    return f"{fate.reached} of {fate.cases} cases reach it, all laws hold ({fate.mutant.summary})"


def table(fates: Sequence["Fate"]) -> str:
    """Return one line for each mutant, aligned."""
    import pandas as pd

    frame = pd.DataFrame([_row(fate) for fate in fates], columns=list(HEAD))
    words = {name: f"{{:<{frame[name].str.len().max()}}}".format for name in HEAD[:3]}
    text: str = frame.to_string(index=False, formatters=words)
    return text


def _row(fate: "Fate") -> tuple[Any, ...]:
    return (
        fate.mutant.name,
        fate.mutant.operator,
        fate.law or f"({fate.status})",
        fate.cases,
        round(fate.seconds, 2),
    )


def _write(path: Path, fates: Sequence["Fate"], reasons: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for fate in fates:
            one, values = fate.mutant, {**vars(fate), **vars(fate.mutant), "mutant": fate.mutant.name}
            values |= {"seconds": f"{fate.seconds:.3f}", "reason": reasons.get(one.name, "")}
            writer.writerow([values[column] for column in COLUMNS])
