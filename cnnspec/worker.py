"""What a worker process does with the chunks of a plan, and what is left to say of one that died."""

import contextlib
import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from cnnspec import alone, memory
from cnnspec.backends import Backend
from cnnspec.borderline import question
from cnnspec.cases import Case
from cnnspec.conformance import EXPLANATION, Session
from cnnspec.errors import CnnspecError
from cnnspec.folder import Folder, join
from cnnspec.plan import Chunk, Plan
from cnnspec.rows import attach_reproducer, broken_row, crash_row

FIRST_LINE = 200
"""Characters of what a target prints that its row keeps."""

SPENT = 0.5
"""A process whose calls keep this part of its memory gets no further chunk: its next operator needs as much."""

RETIRED = "retired"
"""The key of a mark that says that the worker ended itself, to be replaced by a new one."""

MOST_DEATHS = 3
"""After so many deaths of a worker outside any call its chunk is given up."""


class Worker:
    """This process, as one that runs chunks of the plan in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder(folder)
        self.plan = self.folder.plan
        self._cases = 0
        self._file: TextIO | None = None

    @cached_property
    def session(self) -> Session:
        """The plan's session, made once; from then on the process keeps to its limits."""
        join(self.folder.path.parent)
        memory.keep_to(self.plan.memory if self.plan.device == "cpu" else 0)  # CUDA maps what it never uses
        session = Session(
            self.plan,
            announce=self._announce,
            first=self.folder.claim,
            on_failure=self.folder.write_reproducer,
            alone=alone.fails,
        )
        self._kept = memory.Kept()
        return session

    def run(self, chunk: Chunk) -> None:
        """Judge the cases of a chunk that have no row yet; a watchdog ends the process after `case_seconds`."""
        name, folder = str(chunk), self.folder
        if folder.file(name, "finished").exists():  # by pytest before it broke down
            return
        with (
            folder.file(name, "mark").open("w", encoding="utf-8") as self._file,
            self._watched(name) as output,
        ):
            try:
                session = self.session
                if self._kept.share > SPENT:
                    self._retire()
                for rows in session.groups(chunk, folder.past(chunk)):
                    faulthandler.cancel_dump_traceback_later()
                    self._cases += 1
                    for backend in {row["backend"] for row in rows if "backend" in row}:
                        self._kept.note(backend)
                    self._keep(name, [dict(row) for row in rows], output)
            except Exception:  # noqa: BLE001 - a chunk that cannot be judged is a row too
                told = traceback.format_exc()
                folder.record(
                    [broken_row(chunk.operator, chunk.dtype, b, told) for b in self.session.backends]
                )
        folder.finish(name)

    def _keep(self, name: str, rows: list[dict[str, Any]], output: "Output") -> None:
        """Write the rows of one case; a process that has run out of memory is no place for the next one."""
        exhausted = next((row for row in rows if row.get("exhausted")), None)
        if exhausted and self._kept.share > SPENT / 2:
            if not self._kept.is_most_of(exhausted["backend"]):
                self._retire()  # which asks the case again
            size = memory.spelled(self._kept.total)
            exhausted["message"] += f": the calls of {self._cases} cases keep {size}"
        printed = output.take()
        if printed and rows:
            rows[0]["output"] = printed
        self.folder.record(rows)
        self.folder.note_judged(name, rows)
        if exhausted:
            self.folder.note_ended(exhausted)
            self._retire()

    def _announce(self, mark: Mapping[str, Any]) -> None:
        """Say what is called next, and how long it may take."""
        self._write_mark(mark)
        more = 3 * self.plan.shrink_seconds if mark["law"] == EXPLANATION else 0
        faulthandler.dump_traceback_later(self.plan.case_seconds + more, exit=True, file=self._trace)

    def _write_mark(self, mark: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._file.write(json.dumps(mark) + "\n")
        self._file.truncate()
        self._file.flush()

    def _retire(self) -> None:
        """End this process; a new one goes on with the chunk."""
        self._write_mark({RETIRED: True})
        os._exit(0)

    @contextlib.contextmanager
    def _watched(self, name: str) -> Iterator["Output"]:
        """Keep what Python says of a crash or a hang, and what the target prints, in files."""
        output = Output(self.folder.file(name, "output"))
        with self.folder.file(name, "trace").open("w") as trace, output.taken():
            self._trace: TextIO = trace
            faulthandler.enable(trace)
            try:
                yield output
            finally:
                faulthandler.cancel_dump_traceback_later()
                faulthandler.disable()


class Output:
    """What is printed on standard output and standard error, from any language, goes to a file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Send both to the file."""
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(self._file, number)
            yield
        finally:
            self._flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
            os.close(self._file)

    def take(self) -> str:
        """Return the first line that was printed since the last time; "" for nothing."""
        self._flush()
        if not os.fstat(self._file).st_size:
            return ""
        text = os.pread(self._file, 4 * FIRST_LINE, 0).decode("utf-8", "replace")
        os.ftruncate(self._file, 0)
        return first_line(text)

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a target may have closed or replaced it
                stream.flush()


def first_line(text: str) -> str:
    r"""Return the first line of a text that is not empty, shortened.

    >>> first_line("\n  assertion failed: n > 0 \nat line 3")
    'assertion failed: n > 0'
    """
    return next((line.strip()[:FIRST_LINE] for line in text.splitlines() if line.strip()), "")


def goes_on(path: Path, name: str) -> bool:
    """Write what is to say of a worker that died in a chunk; return whether the rest of the chunk is to be run."""
    folder = Folder(path)
    plan, mark = folder.plan, folder.mark(name)
    operator, dtype, _ = name.rsplit("-", 2)
    if RETIRED in mark:
        return True
    if not mark:
        deaths = [place for place in range(MOST_DEATHS) if folder.claim(f"{name}-death-{place}")]
        if not deaths:
            told = "its worker process dies before any call"
            folder.record([broken_row(operator, dtype, Backend(target, {}), told) for target in plan.targets])
            folder.finish(name)
        return bool(deaths)
    if mark["law"] == EXPLANATION:
        folder.note_ended({**mark, "operator": operator, "dtype": dtype})
        return True
    row = crash_row(mark, (operator, dtype, plan.device), _last_words(folder, name), plan.case_seconds)
    if folder.claim(row["failure_id"]):
        _attach(row, plan, folder)
    folder.record([row])
    folder.note_ended(row)
    folder.file(name, "mark").write_text("")
    return True


def _last_words(folder: Folder, name: str) -> tuple[str, str]:
    """Return what Python said when the process ended, and what the target printed before."""
    trace, printed = (
        file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        for file in (folder.file(name, "trace"), folder.file(name, "output"))
    )
    return first_line(trace).removeprefix("Fatal Python error: "), first_line(printed)


def _attach(row: dict[str, Any], plan: Plan, folder: Folder) -> None:
    target = Backend(row["backend"], {}, plan.device, layers=row["backend"].startswith("torch-nn"))
    loaded = row["backend"] if row["backend"] in plan.targets else plan.targets[0]
    case = Case.parse(row["case"])
    if row["law"] == "acceptance":
        case = question(case)
    with contextlib.suppress(CnnspecError):
        attach_reproducer(row, case, target, loaded, (plan.case_seconds, 0), folder.write_reproducer)
