"""Benchmarks that pytest collects: a TOML file says what is measured, in the words of `cnnspec bench`.

    benchmarks = 1
    target = "kernels.py:conv2d"    # from the folder of the file
    against = "torch"
    net = ["resnet18"]

Each side of each comparison is a test that pytest-benchmark runs, on the same data; those of one comparison are a
group. What does not conform fails before it is timed. Ratios with intervals are what `cnnspec bench` measures.
"""

import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnnspec.bench import machine, variants
from cnnspec.bench.figures import counted
from cnnspec.bench.plan import Plan, Task
from cnnspec.bench.sides import DIRECTIONS, WITH_BACKWARD, Side, timed_case
from cnnspec.bench.work import work
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.where import hint

MARK = "benchmarks"
"""What a file has at its top, as `benchmarks = 1`."""
WORDS: dict[str, type] = {
    **dict.fromkeys(("target", "against", "device"), str),
    **dict.fromkeys(("op", "net", "dtype", "variant"), list),
    "backward": bool,
    "threads": int,
    "seed": int,
}
"""The keys of a file and what they hold."""
NAMES = {"op": "only", "net": "networks", "dtype": "dtypes", "variant": "variants"}
"""What the fields of a plan are called where they have another name."""


@dataclass(frozen=True)
class Benchmark:
    """One side of a comparison, and the file that asks for it."""

    task: Task
    side: Side
    plan: Plan
    path: Path

    @property
    def group(self) -> str:
        """What all sides of the comparison have in common."""
        return f"{self.task.layer} {self.task.case.dtype} {self.task.direction}"

    @property
    def name(self) -> str:
        """What tells a test from the others of its file."""
        return f"{self.group} {self.side.name.removeprefix(f'{self.path.parent}{os.sep}')}"

    @property
    def case(self) -> Case:
        """The call, with its data."""
        return self.side.case(timed_case(self.task.case, self.plan.seed))

    @property
    def facts(self) -> dict[str, Any]:
        """What pytest-benchmark keeps beside the times."""
        found = work(self.case, self.task.direction == WITH_BACKWARD)
        return {"case": str(self.case), "provenance": self.task.layer.provenance, **counted(found)}

    def run(self, timed: Callable[[Callable[[], Any]], Any]) -> None:
        """Have the call timed, on the plan's threads; AssertionError with a reason where it does not conform."""
        found = self.side.judged(self.case, self.task.direction)
        if found.status != "pass":
            raise AssertionError(f"{self.side.name}: {found.reason}")
        self.side.prepare()
        made = self.side.call(self.case, self.task.direction)
        with machine.pinned(self.plan.threads), variants.switches(self.side.variant)():
            timed(_awaited(made) if self.plan.device.startswith("cuda") else made)


def _awaited(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return a call that ends when the device has finished it."""

    def awaited() -> None:
        call()
        torch.cuda.synchronize()

    return awaited


def plan(path: Path) -> Plan:
    """Return what a file asks for; UsageError for what cannot be asked."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}", path=path) from None
    told.pop(MARK, None)
    for name, value in told.items():
        if name not in WORDS:
            raise UsageError(f"{path}: unknown key {name!r}{hint(name, WORDS)}", path=path)
        if type(value) is not WORDS[name]:
            raise UsageError(f"{path}: {name} = {value!r} is no {WORDS[name].__name__}", path=path)
    if "target" not in told:
        raise UsageError(f'{path} names no target, such as target = "torch"', path=path)
    fields: dict[str, Any] = {
        NAMES.get(name, name): tuple(v) if isinstance(v, list) else v for name, v in told.items()
    }
    if fields.pop("backward", False):
        fields["directions"] = DIRECTIONS
    for name in ("target", "against"):
        fields[name] = _beside(path, fields.get(name, ""))
    found = Plan(**fields)
    found.check()
    return found


def benchmarks(path: Path) -> Iterator[Benchmark]:
    """Yield the benchmarks of a file."""
    asked = plan(path)
    known: dict[str, Benchmark] = {}
    for task in asked.schedule[0]:
        for side in filter(None, (task.reference, task.candidate)):
            one = Benchmark(task, side, asked, path)
            known.setdefault(one.name, one)
    yield from known.values()


def _beside(path: Path, target: str) -> str:
    """Return a target whose file, where it names one, is looked for beside the file of benchmarks."""
    file, colon, function = target.partition(":")
    beside = path.parent / file
    return f"{beside}{colon}{function}" if file.endswith(".py") and beside.is_file() else target
