"""What a run is to do, as plain data: a plan and the chunks that it is cut into.

A cell's cases are an ordered list fixed by the seed. It is cut into chunks, and the first chunk of every cell comes
before the second of any, so that a time budget cuts a prefix of each list and leaves no operator out.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cnnspec import ops, where
from cnnspec.errors import UsageError
from cnnspec.judge import GENERAL_LAWS
from cnnspec.models import model

EXAMPLES = 200
CHUNK = 25
MEMORY = 4 * 10**9
"""Bytes that a worker process may allocate."""

LEAST_MEMORY = 5 * 10**8

FREE = ("deadline", "case_seconds", "shrink_seconds", "memory", "earlier", "directory")
"""What may differ between the parts of one run: how far it comes, not what it asks."""


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
    memory: int = MEMORY
    earlier: tuple[str, ...] = ()
    directory: str = ""

    def dump(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def load(cls, text: str) -> "Plan":
        """Return the plan that `dump` wrote."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Plan":
        """Return the plan of a dict that went through JSON; what this version does not know is left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        restored: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
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
        if self.memory < LEAST_MEMORY:
            raise UsageError(
                f"memory={self.memory} must be {LEAST_MEMORY} bytes or more: torch itself takes some"
            )
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

    @property
    def start(self) -> int:
        """The index of its first case."""
        return self.number * CHUNK


def differences(one: Plan, other: Plan, besides: tuple[str, ...] = ()) -> list[str]:
    """Return what two plans ask differently, `besides` what may differ in any case.

    >>> differences(Plan(("torch",), seed=1, memory=1), Plan(("torch",), seed=2))
    ['seed is 1 and 2']
    """
    names = [field.name for field in dataclasses.fields(Plan) if field.name not in (*FREE, *besides)]
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in names}
    return [f"{name} is {_said(a)} and {_said(b)}" for name, (a, b) in pairs.items() if a != b]


def _said(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else repr(value)
    return (text if len(text) < 200 else f"{text[:200]}...") or "open"


@cache
def known_laws() -> dict[str, str]:
    """Return the statement of every law by name."""
    own = {law.name: law.statement for name in ops.NAMES for law in ops.spec(name).laws}
    return {**GENERAL_LAWS, **own}
