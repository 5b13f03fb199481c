"""One run of benchmarks: its parts one after another, and every entry of its record."""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import Entry
from cnnspec.bench.plan import PARTS, Plan
from cnnspec.bench.timers import Timer


@dataclass
class Session:
    """A run under way; `timers` are those of the device, or a simulation's."""

    plan: Plan
    timers: Sequence[Timer] = ()
    now: Callable[[], float] = time.monotonic

    def entries(self) -> Iterator[Entry]:
        """Yield what each part finds; raw samples are under "samples".

        A part gets its share of the time that is left, so that what one does not need serves those after it.
        """
        desk, started = Desk(self.plan, self.timers, self.now), self.now()
        wanted = [part for part in PARTS if part in self.plan.parts]
        for place, part in enumerate(wanted):
            left = max(0.0, self.plan.seconds - (self.now() - started))
            share = PARTS[part].share / sum(PARTS[other].share for other in wanted[place:])
            module = importlib.import_module(f"cnnspec.bench.{part}")
            yield from module.entries(desk, left * share)
