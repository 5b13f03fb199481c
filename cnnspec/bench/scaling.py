"""The part of a run that measures how time grows: over batch, channels, image, kernel and threads.

Each curve has its share of the time. Its smallest points are judged before any of its points is timed; the larger ones
where that fits, as judging costs about as much as some hundred calls. Points are taken from small to large, each of
all targets before the next, and one whose predicted time does not fit what is left is cut.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnspec import data
from cnnspec.backends import UnsupportedCase
from cnnspec.bench import figures, machine, variants
from cnnspec.bench.curves import CURVES, THREADS, Curve, Point, fit, powers_of_two
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import SPENT, Entry, cut
from cnnspec.bench.plan import Plan
from cnnspec.bench.shapes import LARGEST
from cnnspec.bench.sides import FORWARD_ONLY, Judgement, Side, timed_case
from cnnspec.bench.timers import LEAST_SECONDS
from cnnspec.bench.work import Work, work
from cnnspec.calls import Violation, run
from cnnspec.cases import Case

SMALL = 3
"""The points of a curve, from the smallest on, that are judged before any is timed."""
CALLS = 16
"""Calls that a point makes at least: until it is warm, and of samples enough for an interval."""
JUDGING = 0.25
"""The part of the time left to a curve that the judgement of one of its larger points may take."""
TOO_LONG = "its predicted time does not fit the budget"
NOT_JUDGED = "not judged"
WRONG = "a point of its curve fails conformance"


def entries(desk: Desk, seconds: float) -> Iterator[Entry]:
    """Yield the points of each curve, what they say together, and what was cut."""
    plan, deadline = desk.plan, desk.now() + seconds
    wanted = [
        (curve, dtype)
        for curve in CURVES
        for dtype in plan.dtypes
        if not plan.only or curve.operator in plan.only
    ]
    if not wanted:
        served = " and ".join(dict.fromkeys(curve.operator for curve in CURVES))
        yield cut("scaling", f"curves are of {served}, which --op leaves out")
    for place, (curve, dtype) in enumerate(wanted):
        yield from _curve(desk, curve, dtype, (deadline - desk.now()) / (len(wanted) - place))


def every_side(plan: Plan) -> list[Side]:
    """Return the sides of a plan, each once, the candidates' before their references'."""
    sides = [side for pair in plan.sides for side in pair if side is not None]
    return list({side.name: side for side in sides}.values())


def thread_counts(plan: Plan) -> tuple[int, ...]:
    """Return the numbers of threads that a run may measure: up to its own, and none beyond its processors."""
    if plan.device != "cpu":
        return ()
    there = len(machine.allowed())
    return powers_of_two(min(plan.threads, there) if there else plan.threads)


def _curve(desk: Desk, curve: Curve, dtype: str, seconds: float) -> Iterator[Entry]:
    deadline = desk.now() + seconds
    if curve.axis == THREADS:
        curve = replace(curve, values=thread_counts(desk.plan))
        if len(curve.values) < 2:
            cpu = desk.plan.device == "cpu"
            yield cut(curve.name, "it needs --threads 2 or more" if cpu else "threads are those of a CPU")
            return
    tracks = []
    for side in every_side(desk.plan):
        if curve.operator in side.backend.functions:
            tracks.append(_Track(desk, curve, dtype, side, deadline))
        else:
            yield cut(f"{curve.name} of {side.name}", f"{side.name} has no {curve.operator}")
    for value in curve.values[:SMALL]:
        for track in tracks:
            with _threads(curve, value):
                track.judge_small(value)
    for value in curve.values:
        for track in tracks:
            with _threads(curve, value):
                found = list(track.point(value))
            yield from found
    for track in tracks:
        yield from track.fits()


def _threads(curve: Curve, value: int) -> contextlib.AbstractContextManager[Any]:
    """Return what sets threads and processors for a point of a curve over threads, and sets them back."""
    return machine.pinned(value) if curve.axis == THREADS else contextlib.nullcontext()


@dataclass
class _Cost:
    """What something took, of so much work."""

    work: Work
    seconds: float

    def of(self, more: Work) -> float:
        """Return what it takes of more work."""
        return self.seconds * max(more.flops / self.work.flops, more.bytes / self.work.bytes)


@dataclass
class _Track:
    """A side on its way along a curve; `costs` are those of its last point."""

    desk: Desk
    curve: Curve
    dtype: str
    side: Side
    deadline: float
    broken: bool = False
    judged: dict[int, Judgement] = field(default_factory=dict)
    costs: dict[str, _Cost] = field(default_factory=dict)
    points: dict[str, list[Point]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.deadline - self.desk.now()

    def judge_small(self, value: int) -> None:
        """Judge one of the small points, where that fits the time left."""
        cost = self.costs.get("judging")
        needed = cost.of(work(self._case(value))) if cost else 0.0
        if self.desk.plan.smoke or needed < self.left:
            self.judge(value)

    def judge(self, value: int) -> Judgement:
        """Hold a point to its exact result; one that fails breaks the curve."""
        case, started = self._timed_case(value), self.desk.now()
        self.judged[value] = found = self.desk.judged(self.side, case, FORWARD_ONLY)
        self._paid("judging", work(case), started)
        self.broken = self.broken or found.status == "fail"
        return found

    def point(self, value: int) -> Iterator[Entry]:
        """Yield the entries of a point, one for each timer, or why it has none."""
        done, smoke = work(self._case(value)), self.desk.plan.smoke
        needed = 0.0 if smoke else self._needed(done)
        known = self.judged.get(value)
        reason = self._obstacle(value, needed)
        if reason:
            yield cut(f"{self.curve.name}, {self.curve.axis} {value}, of {self.side.name}", reason)
            return
        started = self.desk.now()
        case = self._timed_case(value)
        self._paid("making", done, started)
        if known is None:
            known = self._judgement(value, case, done, needed)
        entry = {**self._named(value, case, done), "conformance": known.status, "note": known.reason}
        entry |= {"failing_case": known.case}
        if known.status != "pass" and not known.status.startswith(NOT_JUDGED):
            self.broken = self.broken or known.status == "fail"
            yield entry
        elif smoke:
            if known.status == "pass":
                self.side.call(case, FORWARD_ONLY)()
            yield {**entry, "mode": "smoke"}
        else:
            yield from self._times(value, case, done, entry)

    def fits(self) -> Iterator[Entry]:
        """Yield what the points say, of each timer."""
        for mode, points in self.points.items():
            if not self.broken:
                named = {"curve": self.curve.name, "axis": self.curve.axis, "target": self.side.name}
                told = {"operator": self.curve.operator, "dtype": self.dtype, "mode": mode}
                yield {"kind": "fit", **named, **told, **fit(self.curve.axis, points)}

    def _case(self, value: int) -> Case:
        return self.side.case(replace(self.curve.case(value), dtype=self.dtype))

    def _timed_case(self, value: int) -> Case:
        """Return a point's case with data of its own: another number of threads is another geometry to the judge."""
        return timed_case(self._case(value), self.desk.plan.seed + value)

    def _obstacle(self, value: int, needed: float) -> str:
        """Return why a point is cut; "" where it is not."""
        known = self.judged.get(value)
        if self.broken:
            return "" if known is not None and known.status == "fail" else WRONG
        if self.desk.plan.smoke:
            return ""
        if self.left <= 0:
            return SPENT
        small = [one for one in self.curve.values[:SMALL] if one <= value]
        return TOO_LONG if needed > self.left or not {*small} <= {*self.judged} else ""

    def _needed(self, done: Work) -> float:
        """Return about how long a point takes, by the last one."""
        costs = self.costs
        if "call" not in costs:
            return 0.0
        calls = CALLS * max(costs["call"].of(done), LEAST_SECONDS) * len(self.desk.timers)
        return max(calls, costs["timing"].seconds) + costs["making"].of(done)

    def _paid(self, what: str, done: Work, started: float) -> None:
        self.costs[what] = _Cost(done, self.desk.now() - started)

    def _judgement(self, value: int, case: Case, done: Work, needed: float) -> Judgement:
        """Return what is said of a larger point: the judge's word where that fits, else why there is none."""
        elements = sum(map(math.prod, case.operand_shapes().values()))
        asked = self.costs.get("judging")
        if self.desk.plan.smoke:
            reason = "nothing is timed"
        elif elements > LARGEST:
            reason = f"{elements} elements are more than {LARGEST}"
        elif asked is None or asked.of(done) > min(JUDGING * self.left, self.left - needed):
            reason = "judging it does not fit the budget"
        else:
            return self.judge(value)
        return _ran(self.side, case, f"{NOT_JUDGED}: {reason}")

    def _named(self, value: int, case: Case, done: Work) -> Entry:
        curve = self.curve
        return {
            "kind": "curve",
            "curve": curve.name,
            "axis": curve.axis,
            "value": value,
            "base": curve.base,
            "operator": curve.operator,
            "case": str(case),
            "dtype": case.dtype,
            "mode": "",
            "target": self.side.name,
            "threads": value if curve.axis == THREADS else self.desk.plan.threads,
            **figures.counted(done),
        }

    def _times(self, value: int, case: Case, done: Work, entry: Entry) -> Iterator[Entry]:
        """Yield an entry for each timer."""
        desk, started, slowest = self.desk, self.desk.now(), 0.0
        try:
            calls = desk.calls(self.side, case, FORWARD_ONLY)
        except UnsupportedCase as error:
            yield {**entry, "conformance": "unsupported", "note": str(error)}
            return
        self.costs["making"].seconds += desk.now() - started
        started = desk.now()
        for place, timer in enumerate(desk.timers):
            seconds = min(desk.plan.case_seconds, self.left / (len(desk.timers) - place))
            found = desk.alone(self.side.sample(calls, timer, desk.rng), seconds)
            found |= figures.calls_made(found, timer.mode)
            median = found["t_median_s"]
            slowest = max(slowest, median)
            ends = (found["t_ci95_lo_s"] or 0.0, found["t_ci95_hi_s"] or math.inf)
            self.points.setdefault(timer.mode, []).append(Point(value, median, *ends))
            yield {**entry, "mode": timer.mode, **found, **figures.rates(done, median)}
        self.costs["call"] = _Cost(done, slowest)
        self._paid("timing", done, started)


def _ran(side: Side, case: Case, status: str) -> Judgement:
    """Return a status for a point that is called once and not judged, or what is wrong with what any call shows."""
    try:
        side.prepare()
        with variants.switches(side.variant)():
            outputs, _ = run(side.backend, case, data.operands(case))
    except UnsupportedCase as error:
        return Judgement("unsupported", str(error))
    except Violation as error:
        return Judgement("fail", f"not ranked: {error}", case=str(case))
    wanted: Sequence[int] = case.operation.output_shape(*case.inputs)
    if tuple(outputs[0].shape) != tuple(wanted):
        shape = f"output has shape {tuple(outputs[0].shape)}, it must be {tuple(wanted)}"
        return Judgement("fail", f"not ranked: {shape}", case=str(case))
    return Judgement(status)
