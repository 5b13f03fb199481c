"""The command line: `cnnspec check | fingerprint | mutants | list | replay | summary | bench | report`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cnnspec._version import __version__
from cnnspec.commands import bench, check, mutants, report
from cnnspec.commands.options import BREAKDOWN, INTERRUPTED, positive, shape
from cnnspec.errors import CnnspecError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors are one sentence on stderr, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as error:
        return _complain(error, 2)
    except CnnspecError as error:
        return _complain(error, BREAKDOWN if options.command == "check" else 2)
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
    check.add(commands)
    _add_fingerprint(commands)
    mutants.add(commands)
    one = commands.add_parser("list", help="what there is: operators, laws, networks, error models, targets")
    one.add_argument("what", nargs="?", choices=("ops", "laws", "nets", "models", "targets"), default="ops")
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
    bench.add(commands)
    report.add(commands)
    return parser


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
    one.add_argument("--examples", type=positive, default=100, metavar="N")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    one.set_defaults(run=_fingerprint)


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
    elif options.what == "nets":
        from cnnspec import nets

        for name in nets.NAMES:
            net = nets.build(name)
            shapes = " and ".join(",".join(map(str, shape)) for shape in net.input_shapes)
            print(f"{name:16} {net.parameter_count:>11,} parameters, input {shapes}")
    elif options.what == "targets":
        from cnnspec.backends.targets import BUILTIN

        for name, text in BUILTIN.items():
            print(f"{name:12} {text}")
    elif options.what == "models":
        from cnnspec.models import MODELS, UNPROVEN

        for model in (MODELS | UNPROVEN).values():
            print(f"{model.name:28} {model}")
    else:
        from cnnspec.plan import known_laws

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
    table = summary(net, options.input and shape(options.input), dtype=options.dtype)
    formats: dict[str, Callable[[], str]] = {
        "table": table.__str__,
        "csv": table.to_csv,
        "json": table.to_json,
    }
    print(formats[options.format]())
    return 0
