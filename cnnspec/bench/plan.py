"""What a run of benchmarks is asked for, and the comparisons that this makes, in an order that may be cut anywhere."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import NamedTuple

from cnnspec import nets, ops
from cnnspec.backends import Backend
from cnnspec.bench import variants
from cnnspec.bench.modules import Whole
from cnnspec.bench.shapes import LARGEST, NETS, Layer, layers
from cnnspec.bench.sides import DIRECTIONS, FORWARD_ONLY, Side
from cnnspec.bench.verdicts import DELTA
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.op import bytes_per_element
from cnnspec.where import hint

BUDGET_SECONDS = 600.0
CASE_SECONDS = 10.0
"""The most that is spent on the pairs of one comparison."""
SHARE_SECONDS = 0.5
"""The least: a budget that leaves less measures fewer comparisons, not worse ones."""


class Part(NamedTuple):
    """A part of a run: what it measures, and its share of the time beside others."""

    what: str
    share: float


PARTS = {
    "roofs": Part("the ceilings of the machine: matrix products and copies", 0.5),
    "layers": Part("every layer of networks, once", 6),
    "scaling": Part("time over batch, channels, image, kernel and threads", 3),
    "batching": Part("one call of a batch beside a call for each of its items", 1),
    "networks": Part("whole networks: images per second, memory, where the time goes", 3),
    "exact": Part("correctly rounded results beside torch", 1),
    "counters": Part("other counters of products and parameters beside ours", 1),
}
"""The parts of a run, in the order in which they run; each is a module that has `entries(desk, seconds)`."""
USUAL_PARTS = ("roofs", "layers")
CALLING = ("layers", "scaling", "batching")
"""The parts that call functions of the target; "networks" takes what builds a network as well."""


@dataclass(frozen=True)
class Task:
    """One comparison: a layer in a dtype, one way, of a candidate with a reference, or of none."""

    layer: Layer
    case: Case
    direction: str
    candidate: Side
    reference: Side | None


@dataclass(frozen=True)
class Plan:
    """The words of a command.

    against:  the other target; the target's variants are held against the target as it is where there is none
    only:     the operator that a function of another name implements, or those that are asked for
    parts:    what is measured, of `PARTS`
    smoke:    every call runs once and nothing is timed
    cold:     on a CPU each call is timed with cold caches as well; on a GPU it is in any case
    """

    target: str
    against: str = ""
    only: tuple[str, ...] = ()
    networks: tuple[str, ...] = NETS
    dtypes: tuple[str, ...] = ("float32",)
    variants: tuple[str, ...] = (variants.PLAIN,)
    directions: tuple[str, ...] = (FORWARD_ONLY,)
    device: str = "cpu"
    threads: int = 1
    seconds: float = BUDGET_SECONDS
    case_seconds: float = CASE_SECONDS
    seed: int = 0
    delta: float = DELTA
    parts: tuple[str, ...] = USUAL_PARTS
    smoke: bool = False
    cold: bool = False

    def check(self) -> None:
        """Raise UsageError for what no run can be made of."""
        for name in self.only:
            ops.spec(name)
        for dtype in self.dtypes:
            bytes_per_element(dtype)
        for variant in self.variants:
            variants.parts(variant)
        for direction in self.directions:
            if direction not in DIRECTIONS:
                raise UsageError(f"direction {direction!r} is not one of {', '.join(DIRECTIONS)}")
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"unknown part {part!r}{hint(part, [*PARTS])}", part=part)
        if "networks" in self.parts:
            for name in self.networks:
                nets.build(name)
        if "layers" in self.parts and not self.schedule[0]:
            raise UsageError(f"every layer has more than {LARGEST} elements: nothing to measure")

    @property
    def command(self) -> str:
        """The command that asks for this.

        >>> Plan("torch", networks=("resnet18",), seconds=60).command
        'cnnspec bench torch --net resnet18 --budget 60s'
        """
        told: dict[str, Sequence[str]] = {
            "against": [self.against] * bool(self.against),
            "op": self.only,
            "net": self.networks if self.networks != NETS else (),
            "dtype": self.dtypes if self.dtypes != Plan.dtypes else (),
            "variant": self.variants if self.variants != Plan.variants else (),
            "measure": self.parts if self.parts != Plan.parts else (),
        }
        words = [word for name, given in told.items() if given for word in (f"--{name}", *given)]
        words += ["--backward"] * (self.directions == DIRECTIONS) + ["--smoke"] * self.smoke
        words += ["--cold"] * self.cold
        numbers = {"device": self.device, "threads": str(self.threads), "seed": str(self.seed)}
        numbers["budget"] = f"{self.seconds:g}s"
        usual = {"device": Plan.device, "threads": "1", "seed": "0", "budget": f"{BUDGET_SECONDS:g}s"}
        words += [
            word for name in numbers if numbers[name] != usual[name] for word in (f"--{name}", numbers[name])
        ]
        return shlex.join(["cnnspec", "bench", self.target, *words])

    @cached_property
    def sides(self) -> tuple[tuple[Side, Side | None], ...]:
        """The candidate and the reference of each variant."""
        found: list[tuple[Side, Side | None]] = []
        for variant in self.variants:
            candidate = self.side(self.target, variant)
            if self.against:
                found.append((candidate, self.side(self.against, variant)))
            elif variant == variants.PLAIN:
                found.append((candidate, None))
            else:
                found.append((candidate, self.side(self.target, variants.PLAIN)))
        return tuple(found)

    @property
    def backend(self) -> Backend:
        """What the target is measured as; UsageError where it is nothing that the parts can measure."""
        if "networks" in self.parts and not {*CALLING} & {*self.parts}:
            return Whole(self.target, self.networks[0], device=self.device).subject.backend
        return self.sides[0][0].backend

    def side(self, target: str, variant: str) -> Side:
        """Return a side, with an operator's name for a function that has another."""
        return Side.of(target, variant, self.only, self.device)

    @cached_property
    def schedule(self) -> tuple[list[Task], list[Layer]]:
        """The comparisons in the order in which they are made, and the layers that are too large.

        The order is drawn from the seed: what a budget leaves is a sample of all. UsageError where there are none.
        """
        implemented = [_in_all(side.backend.functions for side in pair if side) for pair in self.sides]
        wanted = [name for name in self.only or ops.NAMES if any(name in names for names in implemented)]
        found = layers(self.networks, wanted) if wanted else []
        if not found:
            asked = " or ".join(self.only) or "what it implements"
            raise UsageError(f"no layer of {', '.join(self.networks)} is {asked}: nothing to measure")
        small = [layer for layer in found if layer.elements <= LARGEST]
        tasks = [
            Task(layer, replace(layer.case, dtype=dtype), direction, candidate, reference)
            for layer in small
            for dtype in self.dtypes
            for direction in self.directions
            for (candidate, reference), names in zip(self.sides, implemented, strict=True)
            if layer.case.operator in names
        ]
        return _shuffled(tasks, self.seed), [layer for layer in found if layer.elements > LARGEST]


def _in_all(functions: Iterable[Mapping[str, object]]) -> set[str]:
    """Return the operators that all sides of a comparison implement."""
    return set.intersection(*map(set, functions))


def _shuffled(tasks: Sequence[Task], seed: int) -> list[Task]:
    order = list(tasks)
    Random(seed).shuffle(order)  # noqa: S311 - no secret
    return order
