"""Runs over whole networks: each pass, a network in one variant on one kind of weights, in a process of its own.

A pass that crashes or hangs is one row, which names the node at which it stopped; the others run on.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cnnspec import expectations, networks
from cnnspec.backends.targets import missing_device
from cnnspec.cases import Case
from cnnspec.errors import CnnspecError, UsageError
from cnnspec.expectations import Expectation
from cnnspec.folder import RECORD, alone_in, append, rewrite, set_aside
from cnnspec.judge import Row
from cnnspec.nested import Shape
from cnnspec.networks import Pass, Subject, Variant
from cnnspec.record import end, start
from cnnspec.report.results import Results
from cnnspec.report.values import plural
from cnnspec.run import worker_environment

REFUSED = 2
"""Exit status of a pass that cannot run at all, such as one whose module does not build."""


@dataclass(frozen=True)
class NetworkPlan:
    """What to run; plain data, so that it crosses to other processes as JSON."""

    targets: tuple[str, ...]
    nets: tuple[str, ...] = ()
    input_shapes: tuple[Shape, ...] = ()
    variants: tuple[str, ...] = networks.DEFAULT_VARIANTS
    dtypes: tuple[str, ...] = ("float32",)
    seed: int = 0
    device: str = "cpu"
    expect: str = "default"
    seconds: float = 600.0

    def passes(self) -> list[Pass]:
        """Return the passes in their order; UsageError for what the plan names and what does not exist."""
        variants = [Variant.parse(word) for word in self.variants]
        found = [
            networks.subjects(target, net, self.input_shapes, self.device)
            for net in self.nets or ("",)
            for target in self.targets
        ]
        return [
            Pass(subject, variant, regime, dtype, self.seed)
            for subject in chain.from_iterable(found)
            for dtype in self.dtypes
            for variant in variants
            for regime in subject.regimes
        ]

    @classmethod
    def load(cls, text: str) -> "NetworkPlan":
        """Return the plan that JSON holds."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
        }
        values["input_shapes"] = tuple(tuple(shape) for shape in values["input_shapes"])
        return cls(**values)


def run_networks(
    plan: NetworkPlan, directory: Path, jobs: int = 0, told: Callable[[str], None] = lambda line: None
) -> Results:
    """Run all passes and return what `directory/results.jsonl` then holds; `told` gets a line for each pass.

    Each pass has its rows there as soon as it ends, at last in the order of the plan; Ctrl-C keeps what has been found.
    Raises UsageError for what the plan names and what does not exist, and where a pass says that it cannot run.
    """
    passes, started, interrupted = plan.passes(), time.time(), False
    folder = directory / ".cnnspec"
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(directory, plan.seconds):
        (folder / "networks.json").write_text(json.dumps(dataclasses.asdict(plan)), encoding="utf-8")
        set_aside(directory)
        record, first = directory / RECORD, _header(plan, passes)
        append(record, [first])
        rows: dict[int, list[Row]] = {}
        try:
            with contextlib.closing(_run_all(plan, passes, folder, jobs)) as ended:
                for n, found in ended:
                    rows[n] = found
                    append(record, found)
                    told(_line(passes[n], found))
        except KeyboardInterrupt:
            interrupted = True
        in_order = chain.from_iterable(rows[n] for n in sorted(rows))
        rewrite(record, [first, *in_order, end(started, interrupted)])
    return Results.read(record)


def _run_all(
    plan: NetworkPlan, passes: list[Pass], folder: Path, jobs: int
) -> Generator[tuple[int, list[Row]], None, None]:
    """Yield the number and the rows of each pass as it ends; closed, or where one raises, end the others."""
    processes = _Processes()
    with ThreadPoolExecutor(min(jobs or os.cpu_count() or 1, len(passes))) as pool:
        waiting = {pool.submit(_run, plan, one, folder, n, processes): n for n, one in enumerate(passes)}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()


class _Processes:
    """The processes under way, which can be ended together; none starts after that."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = threading.Event()

    def run(self, command: list[str], seconds: float) -> tuple[int | None, str]:
        """Return the exit status of a command, None after `seconds`, and the last line that it said."""
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            env=worker_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.add(process)
        if self._ended.is_set():
            process.kill()
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, ""
        finally:
            self._running.discard(process)
        return process.returncode, (said.strip().splitlines() or [""])[-1]

    def end(self) -> None:
        """End all that run."""
        self._ended.set()
        for process in [*self._running]:
            process.kill()


def _run(plan: NetworkPlan, one: Pass, folder: Path, n: int, processes: _Processes) -> list[Row]:
    """Run one pass in a process of its own and return its rows."""
    reason = missing_device(one.subject.backend)
    if reason:
        return [one.row("skip", reason=reason)]
    for kind in ("rows", "mark"):
        (folder / f"{n}.{kind}").write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "cnnspec.passes", str(folder), str(n)]
    code, said = processes.run(command, plan.seconds)
    if code == REFUSED:
        raise UsageError(said)
    rows: list[Row] = [
        json.loads(line) for line in (folder / f"{n}.rows").read_text(encoding="utf-8").splitlines()
    ]
    if code == 0:
        return rows
    law, _, node = (folder / f"{n}.mark").read_text(encoding="utf-8").partition(" ")
    ending = (
        f"no answer within {plan.seconds:g} s: the process was ended"
        if code is None
        else "it ended its process"
    )
    row = one.row(
        "timeout" if code is None else "crash",
        message=f"{ending}, at {node or 'the run'}{f': {said}' if said else ''}",
        node=node,
        place=len({row["place"] for row in rows}),
    )
    return [*rows, {**row, "law": law if law not in ("", "run") else "forward"}]


def _line(one: Pass, rows: list[Row]) -> str:
    bad = next((row for row in rows if row["status"] in ("fail", "crash", "timeout")), None)
    nodes = len({row["node"] for row in rows if row["status"] in ("pass", "xfail") and row["node"]})
    held = f"{plural(nodes, 'node')} within their bounds"
    return f"{one}: first wrong node: {bad['node'] or 'the whole run'}" if bad else f"{one}: {held}"


def _header(plan: NetworkPlan, passes: list[Pass]) -> dict[str, Any]:
    targets = {one.subject.backend.name: one.subject.backend for one in passes}
    return start(plan.seed, _command(plan), "a process for each pass") | {
        "targets": [
            {"name": name, "description": one.description, "device": one.device, "models": {}}
            for name, one in targets.items()
        ],
        "laws": [*networks.LAWS],
        "dtypes": [*plan.dtypes],
    }


def _command(plan: NetworkPlan) -> str:
    nets = ["--net", *plan.nets] if plan.nets else []
    shapes = [word for shape in plan.input_shapes for word in ("--input", ",".join(map(str, shape)))]
    return shlex.join(["cnnspec", "check", *plan.targets, *nets, *shapes, "--variant", *plan.variants])


# In the process of a pass


def main(folder: Path, n: int) -> int:
    """Run the n-th pass of the plan in a folder, and write its rows there."""
    plan = NetworkPlan.load((folder / "networks.json").read_text(encoding="utf-8"))
    mark, rows = folder / f"{n}.mark", folder / f"{n}.rows"
    try:
        one = plan.passes()[n]
        one.subject.backend.prepare()
        known = _known(plan, one.subject)

        def announce(law: str, node: str) -> None:
            mark.write_text(f"{law} {node}", encoding="utf-8")

        with rows.open("a", encoding="utf-8") as file:
            for row in _settled(one.rows(announce), known, one.subject):
                file.write(json.dumps(row, default=str) + "\n")
                file.flush()
    except CnnspecError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


def _known(plan: NetworkPlan, subject: Subject) -> tuple[Expectation, ...]:
    """Return the known deviations: a module of torch has those of torch."""
    from cnnspec.casebook import specs_directory

    if plan.expect == "none":
        return ()
    if plan.expect != "default":
        return expectations.load(Path(plan.expect))
    return expectations.for_backends([_listed(subject)], specs_directory())


def _listed(subject: Subject) -> str:
    return "torch" if subject.build else subject.backend.name


def _settled(rows: Iterator[Row], known: tuple[Expectation, ...], subject: Subject) -> Iterator[Row]:
    """Yield the rows, known deviations as such."""
    for row in rows:
        if row["status"] == "fail" and row["case"]:
            case = Case.parse(row["case"])
            listed = next((one for one in known if one.matches(case, _listed(subject), row["law"])), None)
            if listed is not None:
                row |= {"status": "xfail", "reason": listed.reason}
                row["expectation"] = {"reason": listed.reason, "link": listed.link}
        yield row


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
