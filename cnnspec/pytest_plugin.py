"""The pytest plugin: casebook files are tests, and `cnnspec check` runs its plan through it.

`pytest specs/` collects every TOML file under a folder `specs`, and any other with `casebook = 1` at its top.
A plan is one file, `plan.json`, in the folder `.cnnspec` of a run; its chunks are the tests, so pytest-xdist
spreads them over worker processes and replaces a worker that dies.
"""

import faulthandler
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cnnspec.casebook import Entry
    from cnnspec.conformance import Chunk, Plan, Session


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--cnnspec-backend`: run the casebook against backends as well."""
    group = parser.getgroup("cnnspec")
    group.addoption(
        "--cnnspec-backend",
        action="append",
        default=[],
        metavar="TARGET",
        help="also run casebook entries on TARGET",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect casebook files and the plan of a run."""
    if file_path.name == "plan.json" and file_path.parent.name == ".cnnspec":
        return PlanFile.from_parent(parent, path=file_path)
    if file_path.suffix == ".toml" and "expectations" not in file_path.parts and _is_casebook(file_path):
        return CasebookFile.from_parent(parent, path=file_path)
    return None


def _is_casebook(path: Path) -> bool:
    if "specs" in path.parts[:-1] or "_specs" in path.parts[:-1]:
        return True
    with path.open("rb") as file:
        return any(line.split() == [b"casebook", b"=", b"1"] for line in file.read(2000).splitlines())


class CasebookFile(pytest.File):
    """One TOML file: each entry is a test against cnnspec's own operators, and against each backend asked for."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per entry, and one per entry and backend."""
        from cnnspec import casebook

        for entry in casebook.load(self.path):
            yield EntryItem.from_parent(self, name=entry.name, entry=entry, target="")
            if not casebook.not_for_backends(entry):
                for target in self.config.getoption("--cnnspec-backend"):
                    yield EntryItem.from_parent(
                        self, name=f"{entry.name}[{target}]", entry=entry, target=target
                    )


class EntryItem(pytest.Item):
    """One entry of the casebook, on cnnspec itself or on a backend."""

    def __init__(self, *, entry: "Entry", target: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entry, self.target = entry, target

    def runtest(self) -> None:
        """Judge the entry; all its findings are one failure."""
        from cnnspec import casebook

        if not self.target:
            findings = casebook.check(self.entry)
        else:
            from cnnspec.entries import on_backend

            findings = casebook.check(self.entry, on_backend(self.entry, self.target))
        if findings:
            raise AssertionError("\n".join(f"{finding.name}: {finding.message}" for finding in findings))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """Return the findings; a traceback only for what is no finding."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the entry stands."""
        return self.path, None, f"{self.path.name}: {self.name}"


class PlanFile(pytest.File):
    """The plan of a run."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per chunk, in the order of the plan."""
        from cnnspec.conformance import Plan

        plan = Plan.load(self.path.read_text(encoding="utf-8"))
        for chunk in plan.chunks():
            yield ChunkItem.from_parent(self, name=str(chunk), chunk=chunk, plan=plan)


class ChunkItem(pytest.Item):
    """One chunk of a plan: its rows go straight to `results.jsonl`."""

    def __init__(self, *, chunk: "Chunk", plan: "Plan", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chunk, self.plan = chunk, plan

    def runtest(self) -> None:
        """Judge the cases that have no row yet, under a watchdog that ends the process after `case_seconds`."""
        folder = self.path.parent
        finished = folder / f"{self.name}.finished"
        if finished.exists():  # by pytest before it broke down
            return
        session = _session(self.config, self.plan, folder)
        mark = folder / f"{self.name}.mark"
        with mark.open("w", encoding="utf-8") as file, (folder / f"{self.name}.trace").open("w") as trace:

            def announce(event: Mapping[str, Any]) -> None:
                file.seek(0)
                file.write(json.dumps(event) + "\n")
                file.truncate()
                file.flush()
                faulthandler.dump_traceback_later(self.plan.case_seconds, exit=True, file=trace)

            session.announce = announce
            try:
                for row in session.run(self.chunk, done=_done(folder, self.name)):
                    faulthandler.cancel_dump_traceback_later()
                    append(folder.parent, row)
                    _note_done(folder, self.name, row)
            finally:
                faulthandler.cancel_dump_traceback_later()
        finished.touch()
        for suffix in (".mark", ".trace", ".done"):
            (folder / f"{self.name}{suffix}").unlink(missing_ok=True)


def append(directory: Path, entry: Mapping[str, Any]) -> None:
    """Append one line to `results.jsonl` in a single write, so that the lines of several workers never mix."""
    line = json.dumps(entry, allow_nan=False, default=str) + "\n"
    descriptor = os.open(directory / "results.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _session(config: pytest.Config, plan: "Plan", folder: Path) -> "Session":
    """Return this process's session, made once."""
    from cnnspec.conformance import Session

    session: Session | None = getattr(config, "_cnnspec_session", None)
    if session is None:
        session = Session(
            plan, first=lambda key: _claim(folder / f"{key}.first"), on_failure=_writer(folder.parent)
        )
        config._cnnspec_session = session  # type: ignore[attr-defined]
    return session


def _claim(path: Path) -> bool:
    """Say whether this process is the first to come, over all workers."""
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True


def _writer(directory: Path) -> Any:
    def write(row: Mapping[str, Any], script: str) -> None:
        folder = directory / "reproducers"
        folder.mkdir(exist_ok=True)
        (folder / row["reproducer"]).write_text(script, encoding="utf-8")

    return write


def _done(folder: Path, name: str) -> set[int]:
    path = folder / f"{name}.done"
    return {int(line) for line in path.read_text().split()} if path.exists() else set()


def _note_done(folder: Path, name: str, row: Mapping[str, Any]) -> None:
    if "index" in row:
        with (folder / f"{name}.done").open("a") as file:
            file.write(f"{row['index']}\n")


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """Write the row of the case that killed a worker, and have the rest of its chunk run by the next one."""
    from cnnspec.conformance import MOST_CRASHES, Plan
    from cnnspec.rows import attach_reproducer, crash_row

    folder, name = sched.config.rootpath, crashitem.rpartition("::")[2]
    mark = folder / f"{name}.mark"
    if not mark.exists() or not mark.read_text().strip():
        return
    plan = Plan.load((folder / "plan.json").read_text(encoding="utf-8"))
    event = json.loads(mark.read_text().splitlines()[0])
    operator, dtype, _ = name.rsplit("-", 2)
    row = crash_row(event, operator, dtype, plan.device, time.time() - event["started"], plan.case_seconds)
    if _claim(folder / f"{row['failure_id']}.first"):
        from cnnspec.backends import Backend
        from cnnspec.borderline import question
        from cnnspec.cases import Case

        target = Backend(row["backend"], {}, plan.device, layers=row["backend"].startswith("torch-nn"))
        loaded = row["backend"] if row["backend"] in plan.targets else plan.targets[0]
        case, write = Case.parse(row["case"]), _writer(folder.parent)
        if row["law"] == "acceptance":
            case = question(case)
        attach_reproducer(row, case, target, loaded, plan.case_seconds, write)
    append(folder.parent, row)
    _note_done(folder, name, row)
    crashes = folder / f"{name}.crashes"
    count = len(crashes.read_text()) + 1 if crashes.exists() else 1
    crashes.write_text("x" * count)
    if count < MOST_CRASHES:
        sched.mark_test_pending(crashitem)
    else:
        append(
            folder.parent,
            {
                "kind": "cut",
                "operator": operator,
                "dtype": dtype,
                "ran": max(0, row["index"]),
                "of": plan.examples,
                "reason": f"ended after {count} crashes",
            },
        )
