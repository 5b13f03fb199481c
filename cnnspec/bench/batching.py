"""The part of a run that measures what a batch gains: one call for N items beside N calls of one item each.

    S(N) = T(N separate calls) / T(one batched call)

After the experiment of F. Fleuret's deep learning course, lecture 4.3: rows of 2500 x 1000 by 1000 x 1500. N separate
calls read the weights N times, and a batched one once: where both wait for memory alone, S(N) is the ratio of bytes.

Both ways are judged before they are timed, on data that are exact in any order and on those that are timed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cnnspec import data
from cnnspec.backends import UnsupportedCase
from cnnspec.bench import variants
from cnnspec.bench.adaptive import LOOKS
from cnnspec.bench.batches import FAIR, GRAPH, LECTURE, Batch, batch_of, check
from cnnspec.bench.curves import powers_of_two
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import SPENT, Entry, calls_made, cut
from cnnspec.bench.scaling import TOO_LONG, every_side
from cnnspec.bench.sides import FORWARD_ONLY, JUDGED, PLACEMENTS, Side, timed_case
from cnnspec.bench.timers import LEAST_SECONDS, PROBES
from cnnspec.bench.verdicts import INVALID
from cnnspec.bench.work import work
from cnnspec.calls import Violation
from cnnspec.cases import Case
from cnnspec.outputs import Unjudged

MODEL = "model"
VARIANTS = {
    LECTURE: "the output is allocated on the CPU, and filled one item after another: a GPU copies each of them",
    FAIR: "the output lies ready on the device of the data",
    GRAPH: "as fair, all calls recorded once in a CUDA graph and replayed: no time to launch them",
    MODEL: "a bound: the bytes of N separate calls over those of the batched one, nothing timed",
}
ENOUGH_SECONDS = 2.0
"""What the pairs of a point may take where there is time at all: a busy machine is slow to become warm."""
TIMED = "dense"
"""The regime of the data that are timed."""


class Experiment(NamedTuple):
    """A layer on one item, and the largest batch; what the lecture found, on other hardware."""

    name: str
    item: Case
    largest: int
    lecture_cpu: float | None = None
    lecture_gpu: float | None = None


EXPERIMENTS = (
    Experiment(
        "conv2d (64 x 3 x 32 x 32, 5 x 5 to 64 channels)",
        Case(
            "conv2d",
            {"in_channels": 3, "out_channels": 64, "kernel_size": 5, "bias": False},
            ((1, 3, 32, 32),),
        ),
        64,
    ),
    Experiment(
        "linear (2500 x 1000 by 1000 x 1500)",
        Case("linear", {"in_features": 1000, "out_features": 1500, "bias": False}, ((1, 1000),)),
        2500,
        4.6,
        144,
    ),
)
"""The longest last: it gets what the others leave."""


def entries(desk: Desk, seconds: float) -> Iterator[Entry]:
    """Yield the speed-ups of each experiment, their bounds, and what was cut."""
    plan, deadline = desk.plan, desk.now() + seconds
    wanted = [
        (experiment, dtype)
        for experiment in EXPERIMENTS
        for dtype in plan.dtypes
        if not plan.only or experiment.item.operator in plan.only
    ]
    if not wanted:
        served = " and ".join(experiment.item.operator for experiment in EXPERIMENTS)
        yield cut("batching", f"batches are of {served}, which --op leaves out")
    for place, (experiment, dtype) in enumerate(wanted):
        share = (deadline - desk.now()) / (len(wanted) - place)
        yield from _experiment(desk, experiment, dtype, share)


def _experiment(desk: Desk, experiment: Experiment, dtype: str, seconds: float) -> Iterator[Entry]:
    deadline, numbers = desk.now() + seconds, powers_of_two(experiment.largest)
    for n in numbers:
        yield {**_named(desk, experiment, dtype, n), "variant": MODEL, **_bound(desk, experiment, dtype, n)}
    ways = []
    for side in every_side(desk.plan):
        try:
            made = _sets(desk, side, experiment, dtype)
        except UnsupportedCase as error:
            yield cut(f"{experiment.name} of {side.name}", str(error))
            continue
        except Violation as error:
            told = {"target": side.name, "mode": "", "speedup": None, "agree": False, "note": str(error)}
            yield {**_named(desk, experiment, dtype, 1), "variant": FAIR, **told}
            continue
        for variant in (LECTURE, FAIR, GRAPH):
            if variant == GRAPH and not desk.plan.device.startswith("cuda"):
                yield cut(f"{experiment.name} of {side.name}, {GRAPH}", "a CPU has no CUDA graphs")
            else:
                ways.append(_Way(desk, experiment, made, variant, deadline))
    points = [(n, way) for n in numbers for way in ways]
    for place, (n, way) in enumerate(points):
        yield from way.point(n, (deadline - desk.now()) / (len(points) - place))


def _named(desk: Desk, experiment: Experiment, dtype: str, n: int) -> Entry:
    """Return what all variants have of N items: which they are, their bytes, and the lecture's speed-ups."""
    item = replace(experiment.item, dtype=dtype)
    return {
        "kind": "batch",
        "experiment": experiment.name,
        "operator": item.operator,
        "N": n,
        "dtype": dtype,
        "threads": desk.plan.threads,
        "bytes_batched": work(batch_of(item, n)).bytes,
        "bytes_loop": n * work(item).bytes,
        "context": {"lecture_cpu": experiment.lecture_cpu, "lecture_gpu": experiment.lecture_gpu},
    }


def _bound(desk: Desk, experiment: Experiment, dtype: str, n: int) -> Entry:
    """Return the entry's rest for what is not measured."""
    item = replace(experiment.item, dtype=dtype)
    none = dict.fromkeys(("ratio", "ratio_ci_lo", "ratio_ci_hi", "agree"))
    bound = n * work(item).bytes / work(batch_of(item, n)).bytes
    mode = "smoke" if desk.plan.smoke else MODEL
    return {"target": "", "mode": mode, "speedup": bound, **none, "note": VARIANTS[MODEL]}


def _sets(desk: Desk, side: Side, experiment: Experiment, dtype: str) -> dict[str, list[Batch]]:
    """Return operands by regime, those to time in several places of memory.

    Raises UnsupportedCase where a side has no such calls, and Violation where it fails on one item.
    """
    if experiment.item.operator not in side.backend.functions:
        raise UnsupportedCase(f"{side.name} has no {experiment.item.operator}")
    item = side.case(timed_case(replace(experiment.item, dtype=dtype), desk.plan.seed))
    found = desk.judged(side, item, FORWARD_ONLY)
    if found.status == "fail":
        raise Violation(found.reason)
    if found.status != "pass":
        raise UnsupportedCase(found.reason)
    made = {}
    for regime in JUDGED:
        whole = replace(batch_of(item, experiment.largest), regime=regime)
        operands = data.operands(whole)
        made[regime] = [Batch(side, whole, operands) for _ in range(PLACEMENTS if regime == TIMED else 1)]
    return made


@dataclass
class _Way:
    """A side and a variant of its separate calls, from small batches to large ones; `taken` is of the last."""

    desk: Desk
    experiment: Experiment
    sets: dict[str, list[Batch]]
    variant: str
    deadline: float
    taken: dict[str, float] = field(default_factory=dict)
    last: int = 0

    @property
    def side(self) -> Side:
        """What is called."""
        return self.sets[TIMED][0].side

    def point(self, n: int, share: float) -> Iterator[Entry]:
        """Yield the speed-up of n items, of each timer, where both ways agree; `share` is its part of the time."""
        desk, left = self.desk, self.deadline - self.desk.now()
        needed = sum(self.taken.values()) * n / self.last if self.last else 0.0
        what = f"{self.experiment.name} of {self.side.name}, {self.variant}, N = {n}"
        if not desk.plan.smoke and (left <= 0 or needed > left):
            yield cut(what, SPENT if left <= 0 else TOO_LONG)
            return
        started = desk.now()
        try:
            wrong = self._wrong(n)
        except UnsupportedCase as error:
            yield cut(what, str(error))
            return
        entry = _named(desk, self.experiment, self.sets[TIMED][0].whole.dtype, n)
        entry |= {"variant": self.variant, "target": self.side.name, "mode": "", "speedup": None}
        entry |= {"agree": not wrong, "note": wrong}
        self.taken["agreement"] = desk.now() - started
        if wrong or desk.plan.smoke:
            yield {**entry, "mode": "" if wrong else "smoke"}
            return
        yield from self._times(n, entry, max(share, needed, min(ENOUGH_SECONDS, left)))
        self.last = n

    def _times(self, n: int, entry: Entry, seconds: float) -> Iterator[Entry]:
        desk, slowest = self.desk, 0.0
        timed = self.sets[TIMED]
        together, loops = ([one.some(0, n) for one in timed], [one.loop(n, self.variant) for one in timed])
        for timer in desk.timers:
            batched, loop = (self.side.sample(calls, timer, desk.rng) for calls in (together, loops))
            enough = min(desk.plan.case_seconds, seconds / len(desk.timers))
            found = desk.compared(batched, loop, enough)
            found |= calls_made(found, timer.mode)
            if desk.broken:
                found |= {"verdict": INVALID, "note": desk.broken}
            pair = sum(max(found[name], LEAST_SECONDS) for name in ("t_median_s", "against_t_median_s"))
            slowest = max(slowest, pair)
            yield {**entry, "mode": timer.mode, "speedup": found["ratio"], **found}
        self.taken["pairs"] = slowest * (LOOKS[0] + PROBES) * len(desk.timers)

    def _wrong(self, n: int) -> str:
        """Return why n items at once and one by one do not agree; "" where both are right."""
        self.side.prepare()
        try:
            with variants.switches(self.side.variant)():
                for sets in self.sets.values():
                    held = sets[0]
                    check(held, n, held.some(0, n)().clone(), held.loop(n, self.variant)(), self.desk.rng)
        except (Violation, Unjudged) as error:
            return str(error)
        except NotImplementedError as error:
            raise UnsupportedCase(str(error) or "NotImplementedError") from None
        except UnsupportedCase:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a target raises
            return f"raised {type(error).__name__}: {error}"
        return ""
