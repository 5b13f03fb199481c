"""Running a plan: in worker processes that may die, or in this process for a callable; and the one-line API."""

import contextlib
import dataclasses
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from cnnspec.backends import Backend
from cnnspec.backends.targets import resolve
from cnnspec.cases import Case
from cnnspec.conformance import Session
from cnnspec.errors import CnnspecError
from cnnspec.folder import RECORD, Folder, alone_in, close, set_aside
from cnnspec.judge import Row, Trial
from cnnspec.plan import Plan
from cnnspec.record import end, header
from cnnspec.report.results import Results
from cnnspec.resume import kept, restore

Progress = Callable[[Mapping[str, Any]], None]


def check(
    target: Any,
    ops: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    examples: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> Results:
    """Judge `target` against the exact reference and return the results.

    target: a built-in name, a module, a file, `module:function`, a function, or a `cnnspec.Backend`. A string is
    judged in worker processes; an object in this process, without isolation: what ends it ends this process.
    ops, dtypes, examples, seed: as on the command line; by default all that the target has, and seed 0.

    >>> import torch, cnnspec
    >>> cnnspec.check(torch.nn.functional.relu, examples=5).ok
    True
    """
    only = tuple(ops or ())
    plan = Plan(
        targets=(target if isinstance(target, str) else target_name(target),),
        operators=only or Plan.operators,
        only=only,
        dtypes=tuple(dtypes or ()),
        examples=Plan.examples if examples is None else examples,
        seed=seed or 0,
        **options,
    )
    plan.check()
    if not isinstance(target, str):
        return run_here(plan, resolve(target, list(only) or None, plan.device))
    with tempfile.TemporaryDirectory(prefix="cnnspec-") as directory:
        return run_workers(plan, Path(directory))


def assert_conforms(function: Any, operator: str | None = None, **options: Any) -> None:
    """Raise AssertionError, with the smallest failing case and a reproducer, unless `function` conforms.

    >>> import torch, cnnspec
    >>> cnnspec.assert_conforms(torch.nn.functional.conv2d, "conv2d", dtypes=["float32"], examples=5)
    """
    __tracebackhide__ = True
    options.setdefault("examples", 100)
    results = check(function, ops=[operator] if operator else None, **options)
    if results.ok:
        return
    if not results.failures:
        raise AssertionError(f"nothing could be judged: {results.score_line()}")
    folder = Path(tempfile.mkdtemp(prefix="cnnspec-"))
    results.save(folder)
    lines = [f"{len(results.failures)} of the laws are broken; {results.score_line()}"]
    for failure in results.failures[:5]:
        row = failure.row
        lines += [
            "",
            f"{row['operator']} {row['dtype']} breaks {row['law']}: {row.get('explanation') or row.get('message')}",
            *([f"  {row['message']}"] if row.get("explanation") else []),
            f"  case: {row['case']}",
        ]
        lines += [f"  looks like: {row['looks_like']}"] if row.get("looks_like") else []
        lines += (
            [f"  reproduce: python {folder / 'reproducers' / row['reproducer']}"]
            if row.get("reproducer")
            else []
        )
    raise AssertionError("\n".join([*lines, "", f"report: {folder / 'conformance.html'}"]))


def replay(line: "str | Case", target: Any = "torch", device: str = "cpu") -> list[Row]:
    """Judge one case line on `target` in this process and return its rows.

    >>> import cnnspec
    >>> rows = cnnspec.replay("relu(input=(3,), dtype='float32', data={'input': [1.0, -2.0, 3.0]})")
    >>> {row["law"]: row["status"] for row in rows}["forward"]
    'pass'
    """
    case = Case.parse(line) if isinstance(line, str) else line
    rows = []
    for backend in resolve(target, [case.operator], device):
        backend.prepare()
        rows += Trial(case).rows(backend)
    return rows


def target_name(target: Any) -> str:
    """Return what a reproducer can load `target` by: its file and name, or its name alone."""
    if isinstance(target, Backend):
        return target.name
    name = getattr(target, "__name__", type(target).__name__)
    with contextlib.suppress(TypeError):
        file = inspect.getsourcefile(target)
        if file and "<" not in f"{file}{name}" and not inspect.ismodule(target):
            return f"{file}:{name}"
    return str(name)


def run_here(plan: Plan, backends: Sequence[Backend]) -> Results:
    """Run a plan in this process."""
    if len(backends) == 1 and not backends[0].builtin:
        backends = [dataclasses.replace(backends[0], name=plan.targets[0])]
    scripts: dict[str, str] = {}
    session = Session(
        plan, backends, on_failure=lambda row, script: scripts.update({row["reproducer"]: script})
    )
    plan = dataclasses.replace(plan, operators=session.operators())
    started = time.time()
    entries: list[Mapping[str, Any]] = [
        header(plan, session.backends, "in process, without isolation", session.expectations)
    ]
    for chunk in plan.chunks():
        entries += session.run(chunk)
    entries.append(end(started, interrupted=False))
    return Results.from_entries(entries, scripts=scripts)


def run_workers(
    plan: Plan, directory: Path, jobs: int = 0, progress: Progress | None = None, *, resume: bool = False
) -> Results:
    """Run a plan in worker processes under pytest-xdist and return what `directory/results.jsonl` then holds.

    A call that ends its worker, or outlasts `plan.case_seconds`, is one row; Ctrl-C keeps what has been found. Where
    pytest leaves chunks out, as its schedulers may over workers that die, they run in a new one.

    resume: go on with the run that the directory holds, if it holds one
    """
    session = Session(plan)
    plan = dataclasses.replace(
        plan, operators=session.operators() or plan.operators, directory=str(directory)
    )
    with alone_in(directory, plan.case_seconds):
        entries = kept(plan, directory) if resume else []
        earlier = entries[0]["earlier"] if entries else _earlier_failures(directory)
        plan = dataclasses.replace(plan, earlier=tuple(earlier))
        folder = _prepare(plan, directory)
        here = header(plan, session.backends, "worker processes", session.expectations)
        same = any(entry.get("fingerprint") == here["fingerprint"] for entry in entries)
        restore(folder, entries if same else [*entries, here])
        return _run(folder, jobs, progress)


def _run(folder: Folder, jobs: int, progress: Progress | None) -> Results:
    """Run the plan in a folder, and write to its record how it ended."""
    started, record = time.time(), folder.path.parent / RECORD
    interrupted, found, code = False, 1, 0
    with (folder.path / "pytest.log").open("w") as log, record.open(encoding="utf-8") as entries:
        while found and not interrupted and folder.left():
            found = 0
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                _command(folder.path, jobs), stdout=log, stderr=log, env=worker_environment()
            )
            try:
                for row in _follow(entries, process):
                    found += 1
                    if progress:
                        progress(row)
            except KeyboardInterrupt:
                interrupted = True
                _stop(process)
            code = process.returncode
    close(record, end(started, interrupted))
    if folder.left() and not interrupted:
        tail = (folder.path / "pytest.log").read_text(errors="replace").strip().splitlines()[-15:]
        said = f"the run broke down (pytest exit status {code}); {record} keeps its rows:"
        raise CnnspecError("\n".join([said, *tail]))
    shutil.rmtree(folder.path, ignore_errors=True)
    return Results.read(record)


def _prepare(plan: Plan, directory: Path) -> Folder:
    """Make the run's private folder with the plan in it."""
    folder = directory / ".cnnspec"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(plan.dump(), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return Folder(folder)


def _command(folder: Path, jobs: int) -> list[str]:
    options = "-p xdist -p cnnspec.pytest_plugin -p no:cacheprovider -p no:faulthandler --noconftest -q -s"
    schedule = "--dist load --maxschedchunk 1"
    workers = ["-n", str(jobs or os.cpu_count() or 1), "--max-worker-restart", "100000"]
    plan = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), str(folder / "plan.json")]
    return [sys.executable, "-m", "pytest", *options.split(), *schedule.split(), *workers, *plan]


def worker_environment() -> dict[str, str]:
    """Return the environment of the workers: one thread each, no plugin that was not asked for."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    path = os.pathsep.join(p for p in (os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[1])) if p)
    drop = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")
    others = {key: value for key, value in os.environ.items() if key not in drop}
    return {**others, **single, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}


def _follow(entries: TextIO, process: "subprocess.Popen[bytes]") -> Iterator[Mapping[str, Any]]:
    """Yield the entries that appear in the record until the process ends."""
    rest = ""
    while True:
        running = process.poll() is None
        rest += entries.read()
        *lines, rest = rest.split("\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # a worker was killed while it wrote
                yield json.loads(line)
        if not running:
            return
        time.sleep(0.2)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the workers: they were interrupted with us in a terminal, or are told now."""
    with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
        process.send_signal(2)
        process.wait(10)
        return
    process.kill()
    process.wait()


def _earlier_failures(directory: Path, most: int = 50) -> list[str]:
    """Return the cases that failed in the run that `directory` holds, which becomes `previous.jsonl`."""
    record = directory / RECORD
    if not record.exists():
        return []
    try:
        rows = Results.read(directory).rows
    except CnnspecError:
        rows = ()
    set_aside(directory)
    bad = [str(row["case"]) for row in rows if row.get("status") in ("fail", "crash", "timeout", "flaky")]
    return [*dict.fromkeys(bad)][:most]
