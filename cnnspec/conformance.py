"""A run: a plan, its chunks of cases, and the rows that judging them gives.

A cell's cases are an ordered list fixed by the seed. It is cut into chunks, and the first chunk of every cell comes
before the second of any, so that a time budget cuts a prefix of each list and leaves no operator out.
"""

import dataclasses
import datetime as dt
import json
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from cnnspec import expectations, ops, strategies, where
from cnnspec.backends import Backend
from cnnspec.backends.targets import missing_device, resolve
from cnnspec.bounds import FORMATS
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.expectations import Expectation
from cnnspec.judge import GENERAL_LAWS, Row, Trial
from cnnspec.models import model
from cnnspec.outputs import is_small
from cnnspec.rows import attach_reproducer, cell_row, failure_id, harness_row, operands_of, reproduces
from cnnspec.shrink import generate, shrink

EXAMPLES = 200
CHUNK = 25
EARLIER = -1000
"""Index of the first case that failed in an earlier run; witnesses of expectations count down from -1."""

MOST_CRASHES = 3
"""After so many crashes of one chunk its remaining cases are left out, and said so."""


@dataclass(frozen=True)
class Plan:
    """What to run; plain data, so that it crosses to worker processes as JSON."""

    targets: tuple[str, ...]
    operators: tuple[str, ...] = ops.NAMES
    dtypes: tuple[str, ...] = ()
    laws: tuple[str, ...] = ()
    examples: int = EXAMPLES
    seed: int = 0
    where: str = ""
    contract: str = ""
    device: str = "cpu"
    only: tuple[str, ...] = ()
    expect: str = "default"
    shard: tuple[int, int] = (1, 1)
    deadline: float | None = None
    case_seconds: float = 60.0
    shrink_seconds: float = 4.0
    earlier: tuple[str, ...] = ()
    directory: str = ""

    def dump(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def load(cls, text: str) -> "Plan":
        """Return the plan that `dump` wrote."""
        values: dict[str, Any] = json.loads(text)
        restored: Any = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**restored)

    def cells(self) -> list[tuple[str, str]]:
        """Return (operator, dtype) of every list of cases."""
        every = [(name, dtype) for name in self.operators for dtype in ops.spec(name).dtypes]
        return [(name, dtype) for name, dtype in every if not self.dtypes or dtype in self.dtypes]

    def chunks(self) -> list["Chunk"]:
        """Return the chunks of this shard, the first of every cell before the second of any."""
        rounds = range(max(1, -(-self.examples // CHUNK)))
        every = [Chunk(number, name, dtype) for number in rounds for name, dtype in self.cells()]
        part, parts = self.shard
        return every[part - 1 :: parts]

    def check(self) -> None:
        """Raise UsageError for anything that the plan names and that does not exist."""
        for name in self.operators:
            ops.spec(name)
        known = {dtype for name in ops.NAMES for dtype in ops.spec(name).dtypes}
        for dtype in self.dtypes:
            if dtype not in known:
                raise UsageError(
                    f"unknown dtype {dtype!r}; known are {', '.join(sorted(known))}", dtype=dtype
                )
        laws = known_laws()
        for law in self.laws:
            if law not in laws:
                raise UsageError(f"unknown law {law!r}; known are {', '.join(laws)}", law=law)
        if self.where:
            where.parse(self.where, self.operators)
        if self.contract:
            model(self.contract)
        if not self.cells():
            raise UsageError(f"none of {', '.join(self.operators)} is tested in {', '.join(self.dtypes)}")


@dataclass(frozen=True)
class Chunk:
    """Some cases of one cell, judged by one worker in one go."""

    number: int
    operator: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.operator}-{self.dtype}-{self.number}"


@cache
def known_laws() -> dict[str, str]:
    """Return the statement of every law by name."""
    own = {law.name: law.statement for name in ops.NAMES for law in ops.spec(name).laws}
    return {**GENERAL_LAWS, **own}


@dataclass
class Session:
    """A plan in a process that can run it: backends resolved, predicates parsed.

    announce: told (case, law, index, backend) before each call, so that a crash leaves its case behind
    first:    says once per key whether it is new, so that one failure of a cell is shrunk, not all
    """

    plan: Plan
    backends: Sequence[Backend] = ()
    announce: Callable[[Mapping[str, Any]], None] = field(default=lambda mark: None)
    first: Callable[[str], bool] = field(default_factory=lambda: _once())  # noqa: PLW0108 - defined below
    on_failure: Callable[[Row, str], None] = field(default=lambda row, script: None)
    target_of: dict[str, str] = field(default_factory=dict)

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
        return strategies.cases(operator, dtype, layers=layers, where=wanted, large=True)

    def run(self, chunk: Chunk, done: Iterable[int] = ()) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a chunk, leaving out the cases of index `done`."""
        able = []
        for backend in self.backends:
            reason = missing_device(backend)
            missing = "" if chunk.operator in backend.functions else f"{backend.name} has no {chunk.operator}"
            if not reason and not missing:
                able.append(backend)
            elif chunk.number == 0:
                yield cell_row(
                    chunk.operator,
                    chunk.dtype,
                    backend,
                    "skip" if reason else "unsupported",
                    reason or missing,
                )
        if not able:
            return
        if self._is_late():
            yield from self._cut(chunk, chunk.number * CHUNK)
            return
        finished = set(done)
        cases = self.cases(chunk)
        if not cases and chunk.number == 0:
            reason = f"no case satisfies {self.plan.where!r} and what the target supports"
            yield from (cell_row(chunk.operator, chunk.dtype, backend, "skip", reason) for backend in able)
        for index, case, only in self._ordered(chunk, cases, able):
            if index in finished:
                continue
            if self._is_late():
                yield from self._cut(chunk, max(0, index))
                return
            yield from self._judge(chunk, index, case, only)

    def _is_late(self) -> bool:
        return self.plan.deadline is not None and time.time() > self.plan.deadline

    def _cut(self, chunk: Chunk, ran: int) -> Iterator[Mapping[str, Any]]:
        """Yield where the budget ended a cell's list of cases, once for each cell."""
        if self.first(f"cut-{chunk.operator}-{chunk.dtype}"):
            cell = {"operator": chunk.operator, "dtype": chunk.dtype}
            yield {"kind": "cut", **cell, "ran": ran, "of": self.plan.examples}

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
        for index, case in enumerate(cases, chunk.number * CHUNK):
            yield index, case, able

    def _judge(self, chunk: Chunk, index: int, case: Case, backends: list[Backend]) -> Iterator[Row]:
        for backend in backends:

            def announce(law: str, name: str = backend.name) -> None:
                self.announce(
                    {"index": index, "case": str(case), "law": law, "backend": name, "started": time.time()}
                )

            trial = Trial(case, announce, partial(expectations.crash, self.expectations, case))
            try:
                rows = trial.rows(backend, self.plan.laws or None)
                if index < 0:
                    self._call_crashing(rows, index, case, backend)
            except Exception:  # noqa: BLE001 - our own error is a row too, and no result is lost
                rows = [harness_row(case, backend, traceback.format_exc())]
            for row in rows:
                row["index"] = index
                row.pop("raised", None)
                self._settle(row, case, backend, chunk)
                yield row

    def _call_crashing(self, rows: Sequence[Row], index: int, case: Case, backend: Backend) -> None:
        """Call a witness that is listed as crashing in a process of its own, and say so if it returns."""
        own = self.expectations[-1 - index] if index >= -len(self.expectations) else None
        row = next((row for row in rows if own and own.status == "crashes" and row["law"] == own.law), None)
        if row is None or own is None:
            return
        scripts: list[str] = []
        target = self.target_of.get(backend.name, backend.name)
        seconds = self.plan.case_seconds
        attach_reproducer(row, case, backend, target, seconds, lambda _, text: scripts.append(text))
        if not scripts:
            return  # the row says why there is none
        self.on_failure(row, scripts[0])
        if not reproduces(scripts[0]):
            row["reason"] = f"listed as ending its process; here it returned ({own.reason})"

    def _settle(self, row: Row, case: Case, backend: Backend, chunk: Chunk) -> None:
        """Turn a listed failure into xfail, a passing witness into xpass; shrink a cell's first failure."""
        law = row["law"]
        listed = next((e for e in self.expectations if e.matches(case, backend.name, law)), None)
        own = self.expectations[-1 - row["index"]] if -len(self.expectations) <= row["index"] < 0 else None
        witness = listed is not None and listed is own
        if row["status"] == "pass" and witness and listed is not None and listed.status == "xfail":
            row |= {
                "status": "xpass",
                "reason": f"listed as a known deviation but passes: remove it ({listed.reason})",
            }
        if row["status"] != "fail":
            return
        row["failure_id"] = failure_id(row)
        if listed is not None and not listed.expired(dt.datetime.now(dt.UTC).date()):
            row |= {"status": "xfail", "reason": listed.reason}
            row["expectation"] = {"reason": listed.reason, "link": listed.link}
            if witness or (is_small(case) and self._is_first_of_its_path(row)):
                self._reproduce(row, case, backend)
            return
        if self.first(row["failure_id"]):
            self._explain(row, case, backend, chunk)

    def _is_first_of_its_path(self, row: Row) -> bool:
        """Say whether no known deviation of this law was written down for the row's path, so that each has a script."""
        if not row.get("path"):
            return False
        words = (row["backend"], row["path"], row["dtype"], row["law"])
        return self.first("-".join("".join(c if c.isalnum() else "_" for c in word) for word in words))

    def _explain(self, row: Row, case: Case, backend: Backend, chunk: Chunk) -> None:
        """Put the smallest case that fails into the row, with its operands and a reproducer."""
        law, smallest = row["law"], case
        if row["index"] >= 0:
            strategy = self.strategy(case.operator, case.dtype)

            def breaks(candidate: Case) -> bool:
                known = any(e.matches(candidate, backend.name, law) for e in self.expectations)
                return not known and Trial(candidate).violates(backend, law)

            seconds = self.plan.shrink_seconds
            if self.plan.deadline is not None:
                seconds = min(seconds, max(0.5, self.plan.deadline - time.time()))
            smallest = shrink(case, strategy, self.seed(chunk), breaks, seconds)
        explained = next((r for r in Trial(smallest).rows(backend, [law]) if r["status"] == "fail"), None)
        if explained is not None:
            explained.pop("raised", None)
            row |= {key: value for key, value in explained.items() if key not in ("seconds", "index")}
            row["original_case"] = str(case)
        row["minimal_case"] = row["case"]
        self._reproduce(row, smallest, backend)

    def _reproduce(self, row: Row, case: Case, backend: Backend) -> None:
        """Add the operands of the call that is wrong, and its reproducer."""
        culprit = Case.parse(row["culprit"]) if row.get("culprit") else case
        row["operands"] = operands_of(culprit)
        target = self.target_of.get(backend.name, backend.name)
        attach_reproducer(row, culprit, backend, target, self.plan.case_seconds, self.on_failure)


def _once() -> Callable[[str], bool]:
    seen: set[str] = set()

    def first(key: str) -> bool:
        new = key not in seen
        seen.add(key)
        return new

    return first
