"""One run of benchmarks: each comparison judged, then measured; every entry of its record, one after another."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median, quantiles
from typing import Any

from cnnspec.backends import UnsupportedCase
from cnnspec.bench.adaptive import CONFIDENCE, Comparison, alone, measured
from cnnspec.bench.layers import LARGEST
from cnnspec.bench.plan import SHARE_SECONDS, Plan, Task
from cnnspec.bench.sides import WITH_BACKWARD, Judgement, Side, timed_case
from cnnspec.bench.timers import Timer, timers
from cnnspec.bench.verdicts import FAST, INVALID, SAME, SLOW, Interval
from cnnspec.bench.work import work
from cnnspec.cases import Case

Entry = dict[str, Any]
TIMES_CONFIDENCE = 0.95
"""Of the interval of a median time; of a ratio it is `adaptive.CONFIDENCE`."""


@dataclass
class Session:
    """A run under way; `timers` are those of the device, or a simulation's."""

    plan: Plan
    timers: Sequence[Timer] = ()
    now: Callable[[], float] = time.monotonic
    _judgements: dict[tuple[str, str, str], Judgement] = field(default_factory=dict, init=False)
    _broken: str = field(default="", init=False)

    def entries(self) -> Iterator[Entry]:
        """Yield the A/A control, a row for each comparison, and what was cut; raw samples are under "samples"."""
        plan, started = self.plan, self.now()
        tasks, large = plan.schedule
        rng = Random(plan.seed)  # noqa: S311 - no secret
        clocks = self.timers or timers(plan.device)
        for layer in large:
            reason = (
                f"{layer.elements} elements are more than {LARGEST}: its exact result is too large to be held"
            )
            yield {"kind": "cut", "layer": str(layer), "places": list(layer.places), "reason": reason}
        controlled = plan.smoke
        for place, task in enumerate(tasks):
            left = plan.seconds - (self.now() - started)
            if left <= 0 and not plan.smoke:
                for rest in tasks[place:]:
                    yield self._cut(rest, "the budget was spent")
                return
            if not controlled:
                for timer in clocks:
                    control = self._control(task, timer, rng)
                    controlled = controlled or control is not None
                    if control is not None:
                        yield control
            share = max(SHARE_SECONDS, left / (len(tasks) - place))
            yield from self._rows(task, clocks, rng, min(plan.case_seconds, share))

    def _cut(self, task: Task, reason: str) -> Entry:
        return {"kind": "cut", **self._named(task, task.case), "reason": reason}

    def _named(self, task: Task, case: Case) -> Entry:
        """Return what tells a comparison from others."""
        return {
            "case": str(case),
            "layer": str(task.layer),
            "operator": case.operator,
            "dtype": task.candidate.case(case).dtype,
            "variant": task.candidate.variant,
            "direction": task.direction,
            "target": task.candidate.name,
            "against": task.reference.name if task.reference else "",
            "places": list(task.layer.places),
            "provenance": task.layer.provenance,
        }

    # Correctness

    def _judged(self, side: Side, case: Case, direction: str) -> Judgement:
        """Return what the judge says of a side on a case, asked once."""
        key = (side.name, str(case), direction)
        if key not in self._judgements:
            self._judgements[key] = side.judged(case, direction)
        return self._judgements[key]

    def _conformance(self, task: Task, case: Case) -> Entry:
        """Return the fields that say whether numbers may be shown."""
        found = self._judged(task.candidate, task.candidate.case(case), task.direction)
        entry = {
            "conformance": found.status,
            "error_over_bound": found.error_over_bound,
            "path": found.path,
            "note": found.reason,
            "failing_case": found.case,
        }
        if task.reference is not None:
            other = self._judged(task.reference, task.reference.case(case), task.direction)
            entry |= {"against_conformance": other.status, "against_error_over_bound": other.error_over_bound}
            if found.status == "pass" and other.status != "pass":
                entry |= {"note": f"{task.reference.name}: {other.reason}", "failing_case": other.case}
        return entry

    # Time

    def _rows(self, task: Task, clocks: Sequence[Timer], rng: Random, seconds: float) -> Iterator[Entry]:
        case = timed_case(task.case, self.plan.seed)
        entry = {
            "kind": "row",
            **self._named(task, case),
            **_work(task, case),
            **self._conformance(task, case),
        }
        statuses = {entry["conformance"], entry.get("against_conformance", "pass")}
        if "fail" in statuses or "unsupported" in statuses:
            yield {**entry, "mode": "", "verdict": INVALID if "fail" in statuses else None}
            return
        try:
            if self.plan.smoke:
                for side in filter(None, (task.candidate, task.reference)):
                    side.call(side.case(case), task.direction)()
                yield {**entry, "mode": "smoke", "verdict": None}
                return
            candidate = self._calls(task.candidate, case, task.direction)
            reference = self._calls(task.reference, case, task.direction) if task.reference else []
        except UnsupportedCase as error:
            yield {**entry, "conformance": "unsupported", "note": str(error), "mode": "", "verdict": None}
            return
        for timer in clocks:
            spent = self._spent(seconds)
            sample = task.candidate.sample(candidate, timer, rng)
            if task.reference is None:
                samples, count = alone(sample, spent)
                yield {**entry, "mode": timer.mode, **_times(samples, count, entry), "verdict": None}
                continue
            found = measured(
                task.reference.sample(reference, timer, rng),
                sample,
                rng,
                delta=self.plan.delta,
                spent=spent,
            )
            yield {**entry, "mode": timer.mode, **self._compared(found, entry)}

    def _compared(self, found: Comparison, entry: Mapping[str, Any]) -> Entry:
        """Return the fields of a comparison; a verdict is INVALID where the A/A control finds a difference."""
        reference, candidate = ([pair[side] for pair in found.pairs] for side in (0, 1))
        fields = _times(candidate, found.counts[1], entry)
        fields |= {"against_" + name: value for name, value in _medians(reference, found.counts[0]).items()}
        fields |= _ratio(found, self.plan.delta)
        fields["samples"] = found.pairs
        fields["complete"] = found.complete
        if self._broken:
            fields |= {"verdict": INVALID, "note": self._broken}
        return fields

    def _control(self, task: Task, timer: Timer, rng: Random) -> Entry | None:
        """Return the A/A control: the other side of a comparison, or the only one, against itself; None if it fails.

        Both calls are made as those of a comparison are, with operands of their own.
        """
        side, case = task.reference or task.candidate, timed_case(task.case, self.plan.seed)
        if self._judged(side, side.case(case), task.direction).status != "pass":
            return None
        try:
            both = [self._calls(side, case, task.direction) for _ in range(2)]
        except UnsupportedCase:
            return None
        first, second = (side.sample(calls, timer, rng) for calls in both)
        seconds = min(self.plan.case_seconds, self.plan.seconds / 4)
        found = measured(first, second, rng, delta=self.plan.delta, spent=self._spent(seconds))
        fields = _ratio(found, self.plan.delta)
        if fields["verdict"] in (SLOW, FAST):
            self._broken = f"the A/A control of {side.name} came out {fields['verdict']}"
        named = {"case": str(case), "layer": str(task.layer), "target": side.name, "against": side.name}
        told = {"direction": task.direction, "mode": timer.mode, **fields, "fit": fields["verdict"] == SAME}
        return {"kind": "control", **named, **told, "samples": found.pairs}

    def _calls(self, side: Side, case: Case, direction: str) -> list[Callable[[], Any]]:
        return side.calls(side.case(case), direction)

    def _spent(self, seconds: float) -> Callable[[], bool]:
        deadline = self.now() + seconds
        return lambda: self.now() >= deadline


def _work(task: Task, case: Case) -> Entry:
    found = work(task.candidate.case(case), task.direction == WITH_BACKWARD)
    return {
        "flops": found.flops,
        "flops_effective": found.flops_effective,
        "bytes_compulsory": found.bytes,
        "intensity": found.intensity,
    }


def _medians(samples: Sequence[float], count: int) -> Entry:
    """Return the seconds of one call, of a side, and the interval of their median."""
    interval = Interval.of(samples, TIMES_CONFIDENCE)
    quarters = quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    return {
        "t_median_s": median(samples),
        "t_min_s": min(samples),
        "t_iqr_s": quarters[2] - quarters[0],
        "t_ci95_lo_s": _or_none(interval.low),
        "t_ci95_hi_s": _or_none(interval.high),
        "calls_per_sample": count,
    }


def _times(samples: Sequence[float], count: int, entry: Mapping[str, Any]) -> Entry:
    """Return the seconds of one call of the candidate, and the rates that they make."""
    found = _medians(samples, count)
    rates = {
        "gflops_per_s": entry["flops"] / found["t_median_s"] / 1e9,
        "gbytes_per_s": entry["bytes_compulsory"] / found["t_median_s"] / 1e9,
    }
    return {**found, **rates, "samples": tuple((None, one) for one in samples)}


def _ratio(found: Comparison, delta: float) -> Entry:
    ratio = found.ratio
    return {
        "pairs": len(found.pairs),
        "ratio": ratio.median,
        "ratio_ci_lo": _or_none(ratio.low),
        "ratio_ci_hi": _or_none(ratio.high),
        "ratio_confidence": CONFIDENCE,
        "delta": delta,
        "autocorrelation": found.autocorrelation,
        "verdict": ratio.verdict(delta),
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
