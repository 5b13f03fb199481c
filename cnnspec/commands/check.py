"""`cnnspec check`: judge targets and write reports.

Exit codes: 0 all hold; 1 a violation, a crash, a timeout or an unexpected pass; 2 wrong usage;
3 only flaky or vacuous; 4 nothing ran, or cnnspec itself failed; 130 interrupted before anything was found.
With --strict, 1 also for an operator family that was not fully covered and for expectations that match nothing.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.commands.options import INTERRUPTED, positive, seconds, shard, size, whole_shape
from cnnspec.errors import UsageError

if TYPE_CHECKING:
    from cnnspec.report.results import Results


def add(commands: Any) -> None:
    """Add the subcommand."""
    one = commands.add_parser("check", help="judge targets and write reports")
    one.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="a built-in target (list targets), a module, file.py, file.py:function",
    )
    many: dict[str, Any] = {"action": "extend", "nargs": "+", "default": [], "metavar": "NAME"}
    one.add_argument(
        "--net",
        **many,
        help="networks, node by node: resnet18, 'vgg11(width=8)'; a target that builds a module is held to it",
    )
    one.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="1,3,224,224",
        help="its input shape; once for each input",
    )
    one.add_argument(
        "--variant",
        nargs="+",
        default=[],
        metavar="WORDS",
        help="how it runs: eval, train, channels_last, autocast_bfloat16, autocast_float16, compile; joined by +",
    )
    one.add_argument("--op", **many, help="only these operators")
    one.add_argument("--dtype", **many, help="only these dtypes")
    one.add_argument("--law", **many, help="only these laws")
    one.add_argument(
        "--where", default="", metavar="EXPR", help="only cases such as 'stride == 1 and groups == 1'"
    )
    one.add_argument(
        "--contract", default="", metavar="MODEL", help="hold to this error model, such as fp32 or tf32"
    )
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    one.add_argument("--examples", type=positive, metavar="N", help="cases per operator and dtype")
    one.add_argument("--budget", type=seconds, metavar="120s", help="stop drawing cases after this time")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--jobs", type=positive, default=0, help="worker processes (default: one per processor)")
    one.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="run the I-th of N parts")
    one.add_argument(
        "--case-timeout", type=seconds, default=60.0, metavar="60s", help="limit of a single call"
    )
    one.add_argument(
        "--memory", type=size, metavar="4GB", help="limit of what a worker process may allocate (CPU)"
    )
    one.add_argument(
        "--expect", default="default", metavar="FILE|none", help="known deviations (built-in targets: own)"
    )
    one.add_argument("--update-expectations", action="store_true", help="propose an expectations file in DIR")
    one.add_argument(
        "--strict",
        action="store_true",
        help="expectations that match nothing and inputs never drawn are errors",
    )
    one.add_argument("--resume", action="store_true", help="go on with the interrupted run in DIR")
    one.add_argument("--out", default="reports/latest", metavar="DIR")
    one.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    if options.net or options.input or options.variant:
        return _check_networks(options)
    from cnnspec import run
    from cnnspec.plan import MEMORY, Plan

    plan = Plan(
        targets=tuple(options.targets),
        operators=tuple(options.op) or Plan.operators,
        only=tuple(options.op),
        dtypes=tuple(options.dtype),
        laws=tuple(options.law),
        examples=options.examples or Plan.examples,
        seed=options.seed,
        where=options.where,
        contract=options.contract,
        device=options.device,
        expect=options.expect,
        shard=options.shard,
        case_seconds=options.case_timeout,
        memory=options.memory or MEMORY,
        deadline=time.time() + options.budget if options.budget else None,
    )
    plan.check()
    directory = Path(options.out)
    directory.mkdir(parents=True, exist_ok=True)
    with _Progress(plan) as told:
        results = run.run_workers(plan, directory, options.jobs, told, resume=options.resume)
    return _conclude(results, directory, options)


def _check_networks(options: argparse.Namespace) -> int:
    from cnnspec.passes import NetworkPlan, run_networks

    for word in ("op", "law", "where", "contract", "examples", "resume", "update_expectations"):
        if getattr(options, word):
            said = word.replace("_", "-")
            raise UsageError(f"--{said} says something of operators: leave it out with --net and --input")
    plan = NetworkPlan(
        targets=tuple(options.targets),
        nets=tuple(options.net),
        input_shapes=tuple(whole_shape(text) for text in options.input),
        variants=tuple(options.variant) or NetworkPlan.variants,
        dtypes=tuple(options.dtype) or NetworkPlan.dtypes,
        seed=options.seed,
        device=options.device,
        expect=options.expect,
        seconds=options.budget or NetworkPlan.seconds,
    )
    directory = Path(options.out)
    directory.mkdir(parents=True, exist_ok=True)
    results = run_networks(plan, directory, options.jobs, lambda line: print(line, flush=True))
    return _conclude(results, directory, options)


def _conclude(results: "Results", directory: Path, options: argparse.Namespace) -> int:
    """Write the reports, say what was found and where it stands."""
    from cnnspec import expectations
    from cnnspec.report.values import plural
    from cnnspec.report.verdict import verdict

    problems = results.save(directory)
    for failure in results.failures[:10]:
        row = failure.row
        at = f"{row['node']} ({row['operator']})" if row.get("node") else row["operator"]
        print(f"\n{failure.status}: {at} {row['dtype']} on {row['backend']}, law {row['law']}")
        if row.get("explanation"):
            print(f"  {row['explanation']}")
        print(f"  {row.get('message') or row.get('reason')}")
        if row["case"]:
            print(f"  case: {row['case']}")
        if row.get("looks_like"):
            print(f"  looks like: {row['looks_like']}")
        if row.get("reproducer"):
            print(f"  reproduce: python {directory / 'reproducers' / row['reproducer']}")
        elif row.get("command"):
            print(f"  reproduce: {row['command']}")
    if len(results.failures) > 10:
        print(f"\n... and {len(results.failures) - 10} more; all are in {directory / 'failures.csv'}")
    if options.update_expectations and results.failures:
        (directory / "expectations.toml").write_text(expectations.propose(results.failures), encoding="utf-8")
        print(f"\nproposed expectations: {directory / 'expectations.toml'}")
    print(f"\n{verdict(results)}\n{results.score_line()}")
    counted = plural(_cases(results), "node" if any(row.get("net") for row in results.rows) else "case")
    print(f"{len(results.rows)} verdicts on {counted}; report: {directory / 'conformance.html'}")
    for problem in (*results.warnings, *problems):
        print(f"warning: {problem}", file=sys.stderr)
    code = results.exit_code
    if options.strict and code in (0, 3) and _complain(results):
        code = 1
    interrupted = bool(results.end and results.end.get("interrupted"))
    return INTERRUPTED if interrupted and code != 1 else code


def _complain(results: "Results") -> bool:
    """Print what --strict takes for an error, and say whether there is any."""
    from cnnspec.report.expected import uncovered

    errors = [*results.unmatched, *uncovered(results)]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return bool(errors)


def _cases(results: "Results") -> int:
    nodes = {(row["command"], row["regime"], row["node"]) for row in results.rows if row.get("net")}
    return len(nodes) or len(
        {(row.get("operator"), row.get("dtype"), row.get("index")) for row in results.rows}
    )


class _Progress:
    """Progress while a plan runs: a bar on a terminal where rich is installed, else a line every ten seconds."""

    def __init__(self, plan: Any) -> None:
        self._total = len(plan.cells()) * plan.examples // plan.shard[1]
        self._seen: set[tuple[Any, ...]] = set()
        self._bad, self._last, self._started = 0, time.monotonic(), time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Callable[[Mapping[str, Any]], None]:
        if sys.stdout.isatty():
            try:
                from rich.progress import Progress

                self._bar = Progress(transient=True)
                self._bar.start()
                self._task = self._bar.add_task("checking", total=self._total)
            except ImportError:
                pass
        return self._tell

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def _tell(self, row: Mapping[str, Any]) -> None:
        if row.get("kind") != "row":
            return
        self._seen.add((row["operator"], row["dtype"], row["index"]))
        self._bad += row["status"] in ("fail", "crash", "timeout", "xpass", "harness")
        if self._bar:
            self._bar.update(
                self._task, completed=len(self._seen), description=f"checking, {self._bad} bad verdicts"
            )
        elif time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            seconds = self._last - self._started
            print(
                f"{len(self._seen)} of about {self._total} cases, {self._bad} bad verdicts, {seconds:.0f} s",
                flush=True,
            )
