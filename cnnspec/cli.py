"""The command line: `cnnspec check | fingerprint | list | replay | summary | report`.

Exit codes of check: 0 all hold; 1 a violation, a crash, a timeout or an unexpected pass; 2 wrong usage;
3 only flaky or vacuous; 4 nothing ran, or cnnspec itself failed; 130 interrupted before anything was found.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec._version import __version__
from cnnspec.errors import CnnspecError, UsageError

if TYPE_CHECKING:
    from cnnspec.report.results import Results

BREAKDOWN = 4
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors are one sentence on stderr, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as error:
        return _complain(error, 2)
    except CnnspecError as error:
        return _complain(error, 2 if options.run is not _check else BREAKDOWN)
    except ModuleNotFoundError as error:
        hint = "install what it needs with: pip install 'cnnspec[check]'"
        return _complain(f"{options.command} needs the module {error.name}; {hint}", 2)
    except OSError as error:
        return _complain(f"{error.strerror or error}: {error.filename}", 2)
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(message: object, code: int) -> int:
    print(f"cnnspec: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnspec", description="Exact references for CNN operators, and their judge."
    )
    parser.add_argument("--version", action="version", version=f"cnnspec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_check(commands)
    _add_fingerprint(commands)
    one = commands.add_parser("list", help="what there is: operators, laws, error models, targets")
    one.add_argument("what", nargs="?", choices=("ops", "laws", "models", "targets"), default="ops")
    one.set_defaults(run=_list)
    one = commands.add_parser("replay", help="judge one case line again")
    one.add_argument("case", help="a case line, as reports print it")
    one.add_argument("target", nargs="?", default="torch")
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    one.set_defaults(run=_replay)
    one = commands.add_parser("summary", help="shapes, parameters, MACs and receptive fields of a network")
    one.add_argument(
        "operators",
        nargs="+",
        metavar="NET",
        help='such as resnet18, or "Conv2d(3, 64, 7, stride=2, padding=3)"; several operators are a path',
    )
    one.add_argument(
        "--input", metavar="1,3,224,224", help="the input shape, N for any batch (networks know theirs)"
    )
    one.add_argument("--dtype", default="float32")
    one.add_argument("--format", default="table", choices=("table", "csv", "json"))
    one.set_defaults(run=_summary)
    one = commands.add_parser("report", help="write the reports of a run again from its results.jsonl")
    one.add_argument("words", nargs="+", metavar="[build] DIR", help="the run's directory")
    one.set_defaults(run=_report)
    return parser


def _add_check(commands: Any) -> None:
    one = commands.add_parser("check", help="judge targets and write reports")
    one.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="a built-in target (list targets), a module, file.py, file.py:function",
    )
    many: dict[str, Any] = {"action": "extend", "nargs": "+", "default": [], "metavar": "NAME"}
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
    one.add_argument("--examples", type=_positive, metavar="N", help="cases per operator and dtype")
    one.add_argument("--budget", type=_seconds, metavar="120s", help="stop drawing cases after this time")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument(
        "--jobs", type=_positive, default=0, help="worker processes (default: one per processor)"
    )
    one.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="run the I-th of N parts")
    one.add_argument(
        "--case-timeout", type=_seconds, default=60.0, metavar="60s", help="limit of a single call"
    )
    one.add_argument(
        "--expect", default="default", metavar="FILE|none", help="known deviations (built-in targets: own)"
    )
    one.add_argument("--update-expectations", action="store_true", help="propose an expectations file in DIR")
    one.add_argument("--out", default="reports/latest", metavar="DIR")
    one.set_defaults(run=_check)


def _add_fingerprint(commands: Any) -> None:
    one = commands.add_parser(
        "fingerprint", help="what a target computes like: the strictest error model it keeps"
    )
    one.add_argument("target", metavar="TARGET", help="as for check; it is called in this process")
    one.add_argument(
        "--op", default="", metavar="NAME", help="a sum of products (default: the target's first)"
    )
    one.add_argument("--dtype", default="float32")
    one.add_argument("--where", default="", metavar="EXPR", help="only cases such as 'stride == 1'")
    one.add_argument("--examples", type=_positive, default=100, metavar="N")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    one.set_defaults(run=_fingerprint)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive whole number")
    return int(text)


def _seconds(text: str) -> float:
    """Return a duration in seconds: 90, 90s, 2m, 1h."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be a duration such as 90s, 2m or 1h")
    return value


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} must be I/N with 1 <= I <= N")
    return int(part), int(parts)


def _check(options: argparse.Namespace) -> int:
    from cnnspec import run
    from cnnspec.conformance import Plan

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
        deadline=time.time() + options.budget if options.budget else None,
    )
    plan.check()
    directory = Path(options.out)
    directory.mkdir(parents=True, exist_ok=True)
    with _Progress(plan) as told:
        results = run.run_workers(plan, directory, options.jobs, told)
    return _conclude(results, directory, options)


def _conclude(results: "Results", directory: Path, options: argparse.Namespace) -> int:
    """Write the reports, say what was found and where it stands."""
    from cnnspec import expectations
    from cnnspec.report.verdict import verdict

    problems = results.save(directory)
    for failure in results.failures[:10]:
        row = failure.row
        print(f"\n{failure.status}: {row['operator']} {row['dtype']} on {row['backend']}, law {row['law']}")
        print(f"  {row.get('message') or row.get('reason')}")
        print(f"  case: {row['case']}")
        if row.get("looks_like"):
            print(f"  looks like: {row['looks_like']}")
        if row.get("reproducer"):
            print(f"  reproduce: python {directory / 'reproducers' / row['reproducer']}")
    if len(results.failures) > 10:
        print(f"\n... and {len(results.failures) - 10} more; all are in {directory / 'failures.csv'}")
    if options.update_expectations and results.failures:
        (directory / "expectations.toml").write_text(expectations.propose(results.failures), encoding="utf-8")
        print(f"\nproposed expectations: {directory / 'expectations.toml'}")
    print(f"\n{verdict(results)}\n{results.score_line()}")
    print(
        f"{len(results.rows)} verdicts on {_cases(results)} cases; report: {directory / 'conformance.html'}"
    )
    for problem in (*results.warnings, *problems):
        print(f"warning: {problem}", file=sys.stderr)
    interrupted = bool(results.end and results.end.get("interrupted"))
    return INTERRUPTED if interrupted and results.exit_code != 1 else results.exit_code


def _cases(results: "Results") -> int:
    return len({(row.get("operator"), row.get("dtype"), row.get("index")) for row in results.rows})


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


def _fingerprint(options: argparse.Namespace) -> int:
    from cnnspec.identify import fingerprints_of

    given = (options.target, options.op, options.dtype, options.examples, options.seed)
    found = fingerprints_of(*given, options.where, options.device)
    for one in found:
        print(f"{one.backend}: {one}" if len({one.backend for one in found}) > 1 else one)
    return 0 if any(one.cases for one in found) else BREAKDOWN


def _list(options: argparse.Namespace) -> int:
    from cnnspec import ops

    if options.what == "ops":
        for name in ops.NAMES:
            spec = ops.spec(name)
            print(
                f"{name:12} {', '.join(spec.dtypes)}; laws: {', '.join(law.name for law in spec.laws) or 'none'}"
            )
    elif options.what == "targets":
        from cnnspec.backends.targets import BUILTIN

        for name, text in BUILTIN.items():
            print(f"{name:12} {text}")
    elif options.what == "models":
        from cnnspec.models import MODELS, UNPROVEN

        for model in (MODELS | UNPROVEN).values():
            print(f"{model.name:28} {model}")
    else:
        from cnnspec.conformance import known_laws

        for name, statement in known_laws().items():
            print(f"{name:20} {statement}")
    return 0


def _replay(options: argparse.Namespace) -> int:
    from cnnspec import run

    rows = run.replay(options.case, options.target, options.device)
    for row in rows:
        told = row.get("message") or row["reason"]
        ratio = "" if row["ratio"] is None else f", error / bound {row['ratio']}"
        print(f"{row['status']:11} {row['backend']} {row['law']}{ratio}{': ' + told if told else ''}")
    statuses = {row["status"] for row in rows}
    return 1 if statuses & {"fail", "xpass"} else 0 if "pass" in statuses else BREAKDOWN


def _summary(options: argparse.Namespace) -> int:
    from cnnspec.tables import named, summary

    net = named(options.operators)
    if options.input is None and not net.input_shapes:
        raise UsageError("--input is missing: give the shape of the input, such as --input 1,3,224,224")
    table = summary(net, options.input and _shape(options.input), dtype=options.dtype)
    formats: dict[str, Callable[[], str]] = {
        "table": table.__str__,
        "csv": table.to_csv,
        "json": table.to_json,
    }
    print(formats[options.format]())
    return 0


def _shape(text: str) -> tuple[int | str, ...]:
    """Return a shape such as 1,3,224,224 or N,3,224,224."""
    batch, *sizes = text.replace("x", ",").split(",")
    try:
        return (batch if batch.isidentifier() else int(batch), *map(int, sizes))
    except ValueError:
        raise UsageError(f"--input {text!r} must be sizes such as 1,3,224,224") from None


def _report(options: argparse.Namespace) -> int:
    from cnnspec.report.results import Results

    words = options.words[1:] if options.words[0] == "build" and len(options.words) > 1 else options.words
    for word in words:
        results = Results.read(word)
        directory = Path(word) if Path(word).is_dir() else Path(word).parent
        problems = results.save(directory)
        print(f"{directory / 'conformance.html'}: {results.score_line()}")
        for problem in (*results.warnings, *problems):
            print(f"warning: {problem}", file=sys.stderr)
    return 0
