"""The private folder of a run, `.cnnspec` in its directory, through which its processes know of each other.

plan.json           what to do
CHUNK.mark          the call that is under way, so that a crash leaves its case behind
CHUNK.trace         what Python says of a crash or a hang;   CHUNK.output: what the target prints
CHUNK.judged        (index, backend) of what has its rows;   CHUNK.finished: nothing is left of it
ended.jsonl         the calls that ended their process
KEY.first           something that one process alone has to do, and does

`results.jsonl` stands beside the folder and is all that lasts.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnspec.conformance import Past
from cnnspec.errors import CnnspecError
from cnnspec.plan import Chunk, Plan

RECORD = "results.jsonl"
fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None
"""None on Windows, where nothing keeps two runs out of one directory."""


@dataclass(frozen=True)
class Folder:
    """The folder of one run; every method is safe among several processes."""

    path: Path

    @property
    def plan(self) -> Plan:
        """The plan."""
        return Plan.load((self.path / "plan.json").read_text(encoding="utf-8"))

    def left(self) -> bool:
        """Say whether any chunk is not finished."""
        return not all(self.file(str(chunk), "finished").exists() for chunk in self.plan.chunks())

    def file(self, name: str, suffix: str) -> Path:
        """Return a file of a chunk."""
        return self.path / f"{name}.{suffix}"

    def claim(self, key: str) -> bool:
        """Say whether this process is the first to come, over all workers."""
        try:
            self.file(key, "first").open("x").close()
        except FileExistsError:
            return False
        return True

    def past(self, chunk: Chunk) -> Past:
        """Return what has been done of a chunk."""
        judged = self.file(str(chunk), "judged")
        pairs = [line.split(" ", 1) for line in _lines(judged)]
        ended: dict[tuple[str, str], set[int]] = {}
        for line in _lines(self.path / "ended.jsonl"):
            one = json.loads(line)
            if (one["operator"], one["dtype"]) == (chunk.operator, chunk.dtype):
                ended.setdefault((one["backend"], one["law"]), set()).add(one["index"])
        return Past(
            frozenset((int(index), backend) for index, backend in pairs),
            {key: frozenset(indices) for key, indices in ended.items()},
        )

    def note_judged(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Note that a case has its rows of a backend."""
        pairs = dict.fromkeys((row["index"], row["backend"]) for row in rows if "index" in row)
        _append(self.file(name, "judged"), "".join(f"{index} {backend}\n" for index, backend in pairs))

    def note_ended(self, row: Mapping[str, Any]) -> None:
        """Note that a call ended its process."""
        told = {key: row[key] for key in ("operator", "dtype", "backend", "law", "index")}
        _append(self.path / "ended.jsonl", json.dumps(told) + "\n")

    def mark(self, name: str) -> Mapping[str, Any]:
        """Return the call that was under way in a chunk; empty where there was none."""
        lines = _lines(self.file(name, "mark"))
        with contextlib.suppress(ValueError):  # it ended while it wrote
            return dict(json.loads(lines[0])) if lines else {}
        return {}

    def finish(self, name: str) -> None:
        """Note that nothing is left of a chunk."""
        self.file(name, "finished").touch()
        for suffix in ("mark", "trace", "output", "judged"):
            self.file(name, suffix).unlink(missing_ok=True)

    def record(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to `results.jsonl` in a single write, so that the lines of several workers never mix."""
        append(self.path.parent / RECORD, entries)

    def write_reproducer(self, row: Mapping[str, Any], script: str) -> None:
        """Write the reproducer of a row."""
        folder = self.path.parent / "reproducers"
        folder.mkdir(exist_ok=True)
        (folder / row["reproducer"]).write_text(script, encoding="utf-8")


def append(record: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Append entries to a record in a single write."""
    _append(record, "".join(json.dumps(one, allow_nan=False, default=str) + "\n" for one in entries))


def rewrite(record: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Put entries in the place of a record, which is whole at any time."""
    unfinished = record.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    append(unfinished, entries)
    unfinished.replace(record)


def set_aside(directory: Path) -> None:
    """Call the record of an earlier run `previous.jsonl`, and remove its reproducers."""
    with contextlib.suppress(FileNotFoundError):
        (directory / RECORD).replace(directory / "previous.jsonl")
    shutil.rmtree(directory / "reproducers", ignore_errors=True)


def close(record: Path, last: Mapping[str, Any]) -> None:
    """Append the last entry; what a process left unfinished before it stays a line of its own."""
    if not record.read_bytes().endswith(b"\n"):
        _append(record, "\n")
    append(record, [last])


def _append(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@contextlib.contextmanager
def alone_in(directory: Path, seconds: float) -> Iterator[None]:
    """Hold a directory for one run; wait so long for the workers of one that was killed to end.

    CnnspecError where another run goes on in it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        limit = time.monotonic() + seconds
        while not _locked(descriptor):
            if time.monotonic() > limit:
                raise CnnspecError(
                    f"another run writes to {directory}: wait for its end, or give another --out"
                )
            time.sleep(0.2)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # which the workers share
        yield
    finally:
        os.close(descriptor)


def join(directory: Path) -> int:
    """Hold a directory as one of the workers of its run, as long as the file descriptor is open that is returned."""
    descriptor = os.open(directory, os.O_RDONLY) if fcntl else -1
    if fcntl:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
