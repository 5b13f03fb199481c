"""`cnnspec bench`: how fast a target is, in ratios that survive a noisy machine, and whether one became slower.

Exit codes of run: 0 measured; 1 a side fails conformance; 2 wrong usage; 4 nothing measured; 130 interrupted.
Exit codes of gate: 0 nothing is slower; 1 confirmed slower in fresh processes; 2 wrong usage; 3 inconclusive;
4 nothing measured or not comparable.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.commands.options import BREAKDOWN, INTERRUPTED, positive, seconds
from cnnspec.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from cnnspec.bench.figures import Entry
    from cnnspec.bench.plan import Plan
    from cnnspec.bench.record import Run

RUN, GATE = ACTIONS = ("run", "gate")


def add(commands: Any) -> None:
    """Add the subcommand."""
    one = commands.add_parser(
        "bench",
        help="measure a target on the layers of real networks, or ask whether one became slower",
        description="run measures a target; gate compares two runs, and exits with 1 if a call is confirmed slower.",
    )
    one.add_argument("words", nargs="+", metavar="[run] TARGET | gate", help="as for check")
    one.add_argument("--against", default="", metavar="TARGET", help="the other side of every comparison")
    many: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
    one.add_argument("--op", **many, metavar="NAME", help="only these operators")
    one.add_argument("--net", **many, metavar="NAME", help="layers of these networks (list nets)")
    one.add_argument("--dtype", **many, metavar="NAME", help="float32 where none is named")
    one.add_argument(
        "--variant",
        **many,
        metavar="WORDS",
        help="plain, channels_last, bfloat16, float16, float64, onednn_off, tf32, compile, im2col; joined by +",
    )
    one.add_argument(
        "--measure",
        **many,
        metavar="PART",
        help="roofs, layers, scaling, batching, networks, exact, counters, or all; if none is named, roofs and layers",
    )
    one.add_argument("--backward", action="store_true", help="forward with backward as well")
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    one.add_argument("--threads", type=positive, default=1, metavar="N")
    one.add_argument("--budget", type=seconds, metavar="60s", help="measure what fits (default: 10m)")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--smoke", action="store_true", help="run each call once and time nothing")
    one.add_argument("--cold", action="store_true", help="on a CPU with cold caches as well")
    one.add_argument("--out", default="reports/bench", metavar="DIR")
    one.add_argument("--base", metavar="DIR", help="of gate: the run before")
    one.add_argument("--head", metavar="DIR", help="of gate: the run after")
    one.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.words == [GATE]:
        return _gate(options)
    words = options.words[1:] if options.words[0] == RUN else options.words
    if options.base or options.head:
        raise UsageError("--base and --head are of: cnnspec bench gate")
    if len(words) != 1:
        raise UsageError(f"bench takes one target, not {len(words)}: name the other one with --against")
    return _measure(_plan(words[0], options), Path(options.out))


def _plan(target: str, options: argparse.Namespace) -> "Plan":
    from cnnspec.bench.plan import PARTS, Plan
    from cnnspec.bench.sides import DIRECTIONS

    plan = Plan(
        target=target,
        against=options.against,
        only=tuple(options.op),
        networks=tuple(options.net) or Plan.networks,
        dtypes=tuple(options.dtype) or Plan.dtypes,
        variants=tuple(options.variant) or Plan.variants,
        directions=DIRECTIONS if options.backward else Plan.directions,
        device=options.device,
        threads=options.threads,
        seconds=options.budget or Plan.seconds,
        seed=options.seed,
        parts=tuple(PARTS) if options.measure == ["all"] else tuple(options.measure) or Plan.parts,
        smoke=options.smoke,
        cold=options.cold,
    )
    plan.check()
    return plan


def _measure(plan: "Plan", directory: Path) -> int:
    from cnnspec.backends.targets import missing_device
    from cnnspec.bench import exports, machine, record
    from cnnspec.bench.session import Session

    absent = missing_device(plan.backend)
    if absent:
        print(f"nothing measured: {absent}")
        return BREAKDOWN
    with machine.pinned(plan.threads) as processors:
        run = record.Run(record.header(plan, processors))
        _follow(run, record.write(directory, _whole(run, Session(plan).entries())))
    problems = exports.save(run, directory)
    print(exports.question(run))
    _print(exports.frame(run))
    for line in (*exports.fitness(run), *exports.ceilings(run), *exports.complaints(run)):
        print(line)
    print(f"{exports.verdict_line(run)}; record: {directory / record.RECORD}")
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    if run.wrong:
        return 1
    if run.end and run.end["interrupted"]:
        return INTERRUPTED
    return 0 if run.measured else BREAKDOWN


def _whole(run: "Run", entries: Iterable["Entry"]) -> Iterable["Entry"]:
    """Yield the header, the entries, and an end even where the run is interrupted."""
    from cnnspec.bench.record import end

    yield run.header
    try:
        yield from entries
    except KeyboardInterrupt:
        yield end(run, interrupted=True)
    else:
        yield end(run)


def _follow(run: "Run", entries: Iterable["Entry"]) -> None:
    """Take the entries as they come, and say on a terminal how far the run is."""
    for entry in entries:
        run.add(entry)
        if sys.stderr.isatty() and entry["kind"] == "row":
            print(
                f"\r{len(run.rows)} measured: {entry['layer'][:60]:60}", end="", file=sys.stderr, flush=True
            )
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _print(table: "pd.DataFrame") -> None:
    """Print a table: by rich on a terminal where it is installed, else in plain columns."""
    if table.empty:
        return
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            shown = Table(*map(str, table.columns))
            for row in table.itertuples(index=False):
                shown.add_row(*(Text(str(cell)) for cell in row))
            Console().print(shown)
            return
    print(table.to_string(index=False))


def _gate(options: argparse.Namespace) -> int:
    from cnnspec.bench import gate, record

    if not (options.base and options.head):
        raise UsageError("bench gate needs --base DIR and --head DIR: two runs of cnnspec bench")
    outcome = gate.decide(record.read(options.base), record.read(options.head))
    _print(outcome.frame())
    print(outcome.sentence)
    return outcome.code
