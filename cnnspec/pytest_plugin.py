"""The pytest plugin: casebook files are tests, so are benchmarks, and `cnnspec check` runs its plan through it.

`pytest specs/` collects every TOML file under a folder `specs`, and any other with `casebook = 1` at its top;
`benchmarks = 1` at the top makes one a file of benchmarks, which pytest-benchmark runs.
A plan is one file, `plan.json`, in the folder `.cnnspec` of a run; its chunks are the tests, so pytest-xdist
spreads them over worker processes and replaces a worker that dies.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cnnspec.bench.collected import Benchmark
    from cnnspec.casebook import Entry
    from cnnspec.plan import Chunk
    from cnnspec.worker import Worker


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


def pytest_configure(config: pytest.Config) -> None:
    """Have the processes of a run end with the one that started them: nobody else reads what they find."""
    if config.rootpath.name == ".cnnspec":
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect casebook files and the plan of a run."""
    if file_path.name == "plan.json" and file_path.parent.name == ".cnnspec":
        return PlanFile.from_parent(parent, path=file_path)
    if file_path.suffix == ".toml" and "expectations" not in file_path.parts:
        if {"specs", "_specs"} & {*file_path.parts[:-1]} or _says(file_path, b"casebook"):
            return CasebookFile.from_parent(parent, path=file_path)
        if _says(file_path, b"benchmarks"):
            return BenchmarkFile.from_parent(parent, path=file_path)
    return None


def _says(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return any(line.split() == [mark, b"=", b"1"] for line in file.read(2000).splitlines())


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


class BenchmarkFile(pytest.File):
    """One TOML file that says what is measured: each side of each comparison is a test of pytest-benchmark."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per benchmark."""
        from cnnspec.bench.collected import benchmarks
        from cnnspec.errors import UsageError

        try:
            found = list(benchmarks(self.path))
        except UsageError as error:
            raise self.CollectError(str(error)) from None
        if not self.config.pluginmanager.hasplugin("benchmark"):
            raise self.CollectError("pytest-benchmark is not installed: it comes with cnnspec[bench]")
        for one in found:
            yield pytest.Function.from_parent(self, name=one.name, callobj=_timed(one))


def _timed(one: "Benchmark") -> Any:
    """Return a benchmark as a test."""

    def test(benchmark: Any) -> None:
        benchmark.group, benchmark.extra_info = one.group, one.facts
        one.run(benchmark)

    return test


class PlanFile(pytest.File):
    """The plan of a run."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per chunk, in the order of the plan."""
        from cnnspec.worker import Worker

        worker = Worker(self.path.parent)
        for chunk in worker.plan.chunks():
            yield ChunkItem.from_parent(self, name=str(chunk), chunk=chunk, worker=worker)


class ChunkItem(pytest.Item):
    """One chunk of a plan: its rows go straight to `results.jsonl`."""

    def __init__(self, *, chunk: "Chunk", worker: "Worker", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chunk, self.worker = chunk, worker

    def runtest(self) -> None:
        """Judge the cases that have no row yet."""
        self.worker.run(self.chunk)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """Write the row of the case that killed a worker, and have the rest of its chunk run by the next one."""
    from cnnspec.worker import goes_on

    if goes_on(sched.config.rootpath, crashitem.rpartition("::")[2]):
        sched.mark_test_pending(crashitem)
