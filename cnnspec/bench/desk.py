"""What all parts of a run measure with: the plan, the clocks, the time that is left, and judgements made once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

from cnnspec.bench import figures
from cnnspec.bench.adaptive import alone, measured
from cnnspec.bench.figures import Entry
from cnnspec.bench.plan import Plan
from cnnspec.bench.sides import Judgement, Side
from cnnspec.bench.timers import Sample, Timer, cold_timers, timers
from cnnspec.cases import Case


@dataclass
class Desk:
    """A place to measure at; `given` are timers of a simulation, in place of the device's."""

    plan: Plan
    given: Sequence[Timer] = ()
    now: Callable[[], float] = time.monotonic
    broken: str = field(default="", init=False)
    """Why no verdict of this run holds; "" where the machine is fit."""
    roofs: list[Entry] = field(default_factory=list, init=False)
    """The ceilings that the part "roofs" has measured: `roofs.Ceilings.of(desk.roofs, dtype)`."""
    _judgements: dict[tuple[str, str, str], Judgement] = field(default_factory=dict, init=False)

    @cached_property
    def rng(self) -> Random:
        """What orders of pairs, and places of operands, are drawn from."""
        return Random(self.plan.seed)  # noqa: S311 - no secret

    @cached_property
    def timers(self) -> tuple[Timer, ...]:
        """The clocks of the device."""
        cold = cold_timers(self.plan.device) if self.plan.cold else ()
        return tuple(self.given) or (*timers(self.plan.device), *cold)

    def judged(self, side: Side, case: Case, direction: str) -> Judgement:
        """Return what the judge says of a side on a case, asked once."""
        key = (side.name, str(case), direction)
        if key not in self._judgements:
            self._judgements[key] = side.judged(case, direction)
        return self._judgements[key]

    def calls(self, side: Side, case: Case, direction: str) -> list[Callable[[], Any]]:
        """Return calls of a side on a case, whose operands lie in several places."""
        return side.calls(side.case(case), direction)

    def until(self, seconds: float) -> Callable[[], bool]:
        """Return what says whether so many seconds have passed from now on."""
        deadline = self.now() + seconds
        return lambda: self.now() >= deadline

    def alone(self, sample: Sample, seconds: float) -> Entry:
        """Return the times of a call that is compared with none, in at most about so many seconds."""
        return figures.timed(*alone(sample, self.until(seconds)))

    def compared(self, reference: Sample, candidate: Sample, seconds: float) -> Entry:
        """Return the times and the ratio of two calls, in at most about so many seconds."""
        spent = self.until(seconds)
        found = measured(reference, candidate, self.rng, delta=self.plan.delta, spent=spent)
        return figures.compared(found, self.plan.delta)
