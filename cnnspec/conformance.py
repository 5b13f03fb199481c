"""A run: the rows that judging a plan's chunks of cases gives."""

import dataclasses
import datetime as dt
import time
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from cnnspec import expectations, strategies, where
from cnnspec.alone import needed
from cnnspec.backends import Backend
from cnnspec.backends.targets import missing_device, resolve
from cnnspec.bounds import FORMATS
from cnnspec.cases import Case
from cnnspec.expectations import Expectation
from cnnspec.judge import Row, Trial
from cnnspec.localise import explain
from cnnspec.models import model
from cnnspec.outputs import is_small
from cnnspec.plan import CHUNK, Chunk, Plan
from cnnspec.rows import (
    attach_reproducer,
    cell_row,
    failure_id,
    harness_row,
    operands_of,
    path_key,
    reproduces,
)
from cnnspec.shrink import generate, shrink

EARLIER = -1000
"""Index of the first case that failed in an earlier run; witnesses of expectations count down from -1."""

MOST_ENDED = 3
"""After so many calls of a cell that ended their process its law is left out."""

HISTORY = 64
"""So many of the last cases of an operator are remembered, for failures that only come after others."""

EXPLANATION = "explanation"
"""What a mark names as its law while a failure is being made smaller."""


@dataclass(frozen=True)
class Past:
    """What earlier processes have done of a chunk.

    judged: (index, backend) of what has its rows;   ended: (backend, law) -> indices of the cell's cases whose call
    ended its process
    """

    judged: frozenset[tuple[int, str]] = frozenset()
    ended: Mapping[tuple[str, str], frozenset[int]] = field(default_factory=dict)


NOTHING = Past()


@dataclass
class Session:
    """A plan in a process that can run it: backends resolved, predicates parsed.

    announce: told (case, law, index, backend) before each call, so that a crash leaves its case behind
    first:    says once per key whether it is new, so that one failure of a cell is shrunk, not all
    alone:    asks a case again in a process of its own, as `cnnspec.alone.fails` does, where there may be one
    """

    plan: Plan
    backends: Sequence[Backend] = ()
    announce: Callable[[Mapping[str, Any]], None] = field(default=lambda mark: None)
    first: Callable[[str], bool] = field(default_factory=lambda: _once())  # noqa: PLW0108 - defined below
    on_failure: Callable[[Row, str], None] = field(default=lambda row, script: None)
    target_of: dict[str, str] = field(default_factory=dict)
    alone: Callable[..., bool | None] | None = None
    _history: dict[tuple[str, str], deque[Case]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.backends:
            only = list(self.plan.only) or None
            found = [(b, t) for t in self.plan.targets for b in resolve(t, only, self.plan.device)]
            self.backends = [backend for backend, _ in found]
            self.target_of = {backend.name: target for backend, target in found}
        if self.plan.contract:
            wanted = model(self.plan.contract)
            formats = [name for name in FORMATS if name != "float64" or wanted.accumulate == "float64"]
            declared = dict.fromkeys(formats, wanted)
            self.backends = [
                dataclasses.replace(backend, models={**backend.models, **declared})
                for backend in self.backends
            ]
        for backend in self.backends:
            if not missing_device(backend):
                backend.prepare()
        self._where = where.parse(self.plan.where) if self.plan.where else lambda case: True
        self.expectations = self._expected()

    def _expected(self) -> Sequence[Expectation]:
        from cnnspec.casebook import specs_directory

        if self.plan.expect == "none":
            return ()
        if self.plan.expect != "default":
            return expectations.load(Path(self.plan.expect))
        builtin = [backend.name for backend in self.backends if backend.builtin]
        return expectations.for_backends(builtin, specs_directory())

    def operators(self) -> tuple[str, ...]:
        """Return the operators that any backend has."""
        return tuple(op for op in self.plan.operators if any(op in b.functions for b in self.backends))

    def cases(self, chunk: Chunk) -> list[Case]:
        """Return the chunk's part of its cell's ordered list of cases."""
        size = min(CHUNK, self.plan.examples - chunk.number * CHUNK)
        return generate(self.strategy(chunk.operator, chunk.dtype), self.seed(chunk), size)

    def seed(self, chunk: Chunk) -> int:
        """Return the seed of a chunk: cells and chunks draw independently."""
        return zlib.crc32(f"{self.plan.seed} {chunk}".encode())

    def strategy(self, operator: str, dtype: str) -> Any:
        """Return the strategy of a cell: its domain, within --where and what any backend supports."""
        able = [backend for backend in self.backends if operator in backend.functions]

        def wanted(case: Case) -> bool:
            return self._where(case) and any(not backend.supports(case) for backend in able)

        layers = any(backend.layers for backend in able)
        return strategies.cases(operator, dtype, layers=layers, where=wanted, large=True, corners=True)

    def run(self, chunk: Chunk, past: Past = NOTHING) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a chunk, but for what `past` has judged."""
        return chain.from_iterable(self.groups(chunk, past))

    def groups(self, chunk: Chunk, past: Past = NOTHING) -> Iterator[list[Mapping[str, Any]]]:
        """Yield the rows of a chunk, those of one case on one backend together."""
        able = []
        for backend in self.backends:
            reason = missing_device(backend)
            missing = "" if chunk.operator in backend.functions else f"{backend.name} has no {chunk.operator}"
            if not reason and not missing:
                able.append(backend)
            elif chunk.number == 0:
                status = "skip" if reason else "unsupported"
                yield [cell_row(chunk.operator, chunk.dtype, backend, status, reason or missing)]
        if not able or self._is_finished(chunk, able, past):
            return
        if self._is_late():
            yield from self._cut(chunk, chunk.start)
            return
        cases = self.cases(chunk)
        if not cases and chunk.number == 0:
            reason = f"no case satisfies {self.plan.where!r} and what the target supports"
            yield [cell_row(chunk.operator, chunk.dtype, backend, "skip", reason) for backend in able]
        for index, case, listed in self._ordered(chunk, cases, able):
            left = [backend for backend in listed if (index, backend.name) not in past.judged]
            if left and self._is_late():
                yield from self._cut(chunk, max(0, index))
                return
            for backend in left:
                yield self._judge(chunk, index, case, backend, past)

    def _is_finished(self, chunk: Chunk, able: Sequence[Backend], past: Past) -> bool:
        """Say whether each case of a chunk that has nothing but its own cases has been judged."""
        indices = range(chunk.start, min(chunk.start + CHUNK, self.plan.examples))
        return chunk.number > 0 and past.judged >= {(i, backend.name) for i in indices for backend in able}

    def _is_late(self) -> bool:
        return self.plan.deadline is not None and time.time() > self.plan.deadline

    def _cut(self, chunk: Chunk, ran: int) -> Iterator[list[Mapping[str, Any]]]:
        """Yield where the budget ended a cell's list of cases, once for each cell."""
        if self.first(f"cut-{chunk.operator}-{chunk.dtype}"):
            cell = {"operator": chunk.operator, "dtype": chunk.dtype}
            yield [{"kind": "cut", **cell, "ran": ran, "of": self.plan.examples}]

    def _ordered(
        self, chunk: Chunk, cases: list[Case], able: list[Backend]
    ) -> Iterator[tuple[int, Case, list[Backend]]]:
        """Yield (index, case, backends): earlier failures and witnesses before the first chunk's own cases."""
        if chunk.number == 0:
            for n, line in enumerate(self.plan.earlier):
                case = Case.parse(line)
                if (case.operator, case.dtype) == (chunk.operator, chunk.dtype):
                    yield EARLIER - n, case, able
            for n, expected in enumerate(self.expectations):
                witness = expected.witness
                if witness and (witness.operator, witness.dtype) == (chunk.operator, chunk.dtype):
                    listed = [b for b in able if expected.matches(witness, b.name, expected.law)]
                    yield -1 - n, witness, listed
        for index, case in enumerate(cases, chunk.start):
            yield index, case, able

    def _judge(
        self, chunk: Chunk, index: int, case: Case, backend: Backend, past: Past
    ) -> list[Mapping[str, Any]]:
        """Return the rows of one case on one backend."""

        def announce(law: str) -> None:
            mark = {"index": index, "case": str(case), "law": law, "backend": backend.name}
            self.announce({**mark, "started": time.time()})

        def spared(name: str, law: str) -> tuple[str, str]:
            known = expectations.crash(self.expectations, case, name, law)
            ended = past.ended.get((name, law), frozenset())
            if index in ended:
                return "", "it has its row"
            if known:
                return "xfail", f"not called: {known}"
            if len(ended) >= MOST_ENDED:
                return "skip", f"left out: {len(ended)} calls of this cell ended their process"
            return "", ""

        trial = Trial(case, announce, spared)
        fragile = index in past.ended.get((backend.name, EXPLANATION), ())
        try:
            rows = trial.rows(backend, self.plan.laws or None)
            if index < 0:
                self._call_crashing(rows, index, case, backend)
            for row in rows:
                row["index"] = index
                row.pop("raised", None)
                if not self._is_listed(row, case, backend) and row["status"] == "fail":
                    expired = row["reason"]
                    self._settle(row, trial, backend, chunk, fragile=fragile)
                    row["reason"] = row["reason"] or expired
        except Exception:  # noqa: BLE001 - our own error is a row too, and no result is lost
            rows = [harness_row(case, backend, traceback.format_exc()) | {"index": index}]
        self._history.setdefault((backend.name, case.operator), deque(maxlen=HISTORY)).append(case)
        return [*rows]

    def _call_crashing(self, rows: Sequence[Row], index: int, case: Case, backend: Backend) -> None:
        """Call a witness that is listed as crashing in a process of its own, and say so if it returns."""
        own = self._own(index)
        row = next((row for row in rows if own and own.status == "crashes" and row["law"] == own.law), None)
        if row is None or own is None:
            return
        scripts: list[str] = []
        target = self.target_of.get(backend.name, backend.name)
        limits = (self.plan.case_seconds, 0)
        attach_reproducer(row, case, backend, target, limits, lambda _, text: scripts.append(text))
        if not scripts:
            return  # the row says why there is none
        self.on_failure(row, scripts[0])
        if not reproduces(scripts[0]):
            row["reason"] = f"listed as ending its process; here it returned ({own.reason})"

    def _own(self, index: int) -> Expectation | None:
        """Return the expectation whose witness the case of an index is."""
        return self.expectations[-1 - index] if -len(self.expectations) <= index < 0 else None

    def _is_listed(self, row: Row, case: Case, backend: Backend) -> bool:
        """Turn a listed failure into xfail, a passing witness into xpass; say whether the row is one of them."""
        if row["status"] not in ("pass", "fail", "xfail"):
            return False
        matching = [e for e in self.expectations if e.matches(case, backend.name, row["law"])]
        if not matching:
            return False
        own = self._own(row["index"])
        witness = own in matching
        listed = own if own is not None and witness else matching[0]
        if row["status"] == "pass":
            if witness and listed.status == "xfail":
                reason = f"listed as a known deviation but passes: remove it ({listed.reason})"
                row |= {"status": "xpass", "reason": reason, "expectation": listed.told}
            return True
        if row["status"] == "fail" and listed.expired(dt.datetime.now(dt.UTC).date()):
            row["reason"] = f"listed as a known deviation until {listed.expires}: {listed.reason}"
            return False
        if row["status"] == "fail":
            row |= {"status": "xfail", "reason": listed.reason, "failure_id": failure_id(row)}
            if witness or (is_small(case) and self._is_first_of_its_path(row)):
                self._reproduce(row, case, backend)
        row["expectation"] = listed.told
        return True

    def _settle(self, row: Row, trial: Trial, backend: Backend, chunk: Chunk, *, fragile: bool) -> None:
        """Ask a failing verdict again; explain a cell's first one, unless that has ended the process before."""
        case, law = trial.case, row["law"]
        row["failure_id"] = failure_id(row)
        if row.get("exhausted"):
            if self.first(f"{row['failure_id']}-memory"):
                self._reproduce(row, case, backend)
            return
        repeats = trial.violates(backend, law)
        trial.announce(EXPLANATION)
        if fragile:
            row["reason"] = "a smaller case of it ended its process"
            self._reproduce(row, case, backend)
        elif self.first(row["failure_id"] + "-flaky" * (not repeats)):
            before = self._needed(trial, law, backend)
            if before == [] and repeats:
                self._explain(row, case, backend, chunk)
                return
            if before:
                _say_after(row, before)
            elif repeats:
                _say_both(row, "in a process of its own it passed")
            self._reproduce(row, case, backend, before or ())
        if not repeats and "after" not in row:
            _say_both(row, "asked again it passed")

    def _needed(self, trial: Trial, law: str, backend: Backend) -> list[Case] | None:
        """Return the calls that must come before a case for it to fail: [] for none, None where none was found."""
        target, case, ask = self.target_of.get(backend.name), trial.case, self.alone
        if ask is None or target is None or self._is_late():
            return []

        def fails_after(before: Sequence[Case]) -> bool | None:
            trial.announce(EXPLANATION)
            return ask(target, backend, before, case, law, self.plan.case_seconds)

        return needed(fails_after, [*self._history.get((backend.name, case.operator), ())])

    def _is_first_of_its_path(self, row: Row) -> bool:
        """Say whether no known deviation of this law was written down for the row's path, so that each has a script."""
        return bool(row.get("path")) and self.first(path_key(row))

    def _explain(self, row: Row, case: Case, backend: Backend, chunk: Chunk) -> None:
        """Put the smallest case that fails into the row, with its operands and a reproducer."""
        law, smallest = row["law"], case
        if row["index"] >= 0:
            strategy = self.strategy(case.operator, case.dtype)

            def breaks(candidate: Case) -> bool:
                known = any(e.matches(candidate, backend.name, law) for e in self.expectations)
                trial = Trial(candidate)
                return not known and trial.asks(law) and trial.violates(backend, law)

            seconds = self.plan.shrink_seconds
            if self.plan.deadline is not None:
                seconds = min(seconds, max(0.5, self.plan.deadline - time.time()))
            smallest = shrink(case, strategy, self.seed(chunk), breaks, seconds)
        explained = next((r for r in Trial(smallest).rows(backend, [law]) if r["status"] == "fail"), None)
        if explained is not None:
            explained.pop("raised", None)
            row |= {key: value for key, value in explained.items() if key not in ("seconds", "index")}
            row["original_case"] = str(case)
            row["explanation"] = explain(smallest, backend, row)
        row["minimal_case"] = row["case"]
        self._reproduce(row, smallest, backend)

    def _reproduce(self, row: Row, case: Case, backend: Backend, before: Sequence[Case] = ()) -> None:
        """Add the operands of the call that is wrong, and its reproducer."""
        culprit = Case.parse(row["culprit"]) if row.get("culprit") else case
        row["operands"] = operands_of(culprit)
        target = self.target_of.get(backend.name, backend.name)
        limits = (self.plan.case_seconds, self.plan.memory if row.get("exhausted") else 0)
        attach_reproducer(row, culprit, backend, target, limits, self.on_failure, before)


def _say_both(row: Row, otherwise: str) -> None:
    """Make a row flaky, with both of its results."""
    row["message"] = f"gave both outcomes: {row['message']}; {otherwise}"
    row |= {"status": "flaky", "again": "pass", "minimal_case": row["case"]}


def _say_after(row: Row, before: Sequence[Case]) -> None:
    """Say of a failure that it needs other calls before it."""
    more = f" and {len(before) - 1} more" if len(before) > 1 else ""
    row["message"] = f"fails only after {before[0]}{more}: {row['message']}; by itself it passes"
    row |= {"after": [*map(str, before)], "minimal_case": row["case"]}


def _once() -> Callable[[str], bool]:
    seen: set[str] = set()

    def first(key: str) -> bool:
        new = key not in seen
        seen.add(key)
        return new

    return first
