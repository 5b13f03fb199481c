"""The part of a run that measures layers: each comparison judged, then timed."""

from collections.abc import Iterator

from cnnspec.backends import UnsupportedCase
from cnnspec.bench import figures, roofs
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import Entry
from cnnspec.bench.plan import SHARE_SECONDS, Task
from cnnspec.bench.shapes import LARGEST
from cnnspec.bench.sides import WITH_BACKWARD, timed_case
from cnnspec.bench.timers import Timer
from cnnspec.bench.verdicts import FAST, INVALID, SAME, SLOW
from cnnspec.bench.work import work
from cnnspec.cases import Case


def entries(desk: Desk, seconds: float) -> Iterator[Entry]:
    """Yield the A/A controls, a row for each comparison, and what was cut."""
    plan = desk.plan
    tasks, large = plan.schedule
    started = desk.now()
    for layer in large:
        reason = (
            f"{layer.elements} elements are more than {LARGEST}: its exact result is too large to be held"
        )
        yield figures.cut(str(layer), reason, places=list(layer.places))
    controlled = plan.smoke
    for place, task in enumerate(tasks):
        left = seconds - (desk.now() - started)
        if left <= 0 and not plan.smoke:
            for rest in tasks[place:]:
                yield figures.cut(str(rest.layer), figures.SPENT, **_named(rest, rest.case))
            return
        if not controlled:
            for timer in desk.timers:
                share = min(plan.case_seconds, seconds / 4 / len(desk.timers))
                control = _control(desk, task, timer, share)
                controlled = controlled or control is not None
                if control is not None:
                    yield control
        share = max(SHARE_SECONDS, left / (len(tasks) - place) / len(desk.timers))
        yield from _rows(desk, task, min(plan.case_seconds, share))


def _named(task: Task, case: Case) -> Entry:
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


def _conformance(desk: Desk, task: Task, case: Case) -> Entry:
    """Return the fields that say whether numbers may be shown."""
    found = desk.judged(task.candidate, task.candidate.case(case), task.direction)
    entry = {
        "conformance": found.status,
        "error_over_bound": found.error_over_bound,
        "path": found.path,
        "note": found.reason,
        "failing_case": found.case,
    }
    if task.reference is not None:
        other = desk.judged(task.reference, task.reference.case(case), task.direction)
        entry |= {"against_conformance": other.status, "against_error_over_bound": other.error_over_bound}
        if found.status == "pass" and other.status != "pass":
            entry |= {"note": f"{task.reference.name}: {other.reason}", "failing_case": other.case}
    return entry


def _rows(desk: Desk, task: Task, seconds: float) -> Iterator[Entry]:
    case = timed_case(task.case, desk.plan.seed)
    done = work(task.candidate.case(case), task.direction == WITH_BACKWARD)
    entry = {
        "kind": "row",
        **_named(task, case),
        **figures.counted(done),
        **_conformance(desk, task, case),
        "mode": "",
        "verdict": None,
    }
    statuses = {entry["conformance"], entry.get("against_conformance", "pass")}
    if statuses != {"pass"}:
        yield {**entry, "verdict": INVALID if "fail" in statuses else None}
        return
    try:
        if desk.plan.smoke:
            for side in filter(None, (task.candidate, task.reference)):
                side.call(side.case(case), task.direction)()
            yield {**entry, "mode": "smoke"}
            return
        candidate = desk.calls(task.candidate, case, task.direction)
        reference = desk.calls(task.reference, case, task.direction) if task.reference else []
    except UnsupportedCase as error:
        yield {**entry, "conformance": "unsupported", "note": str(error)}
        return
    ceilings = roofs.Ceilings.of(desk.roofs, roofs.dtype_of(entry["dtype"], task.candidate.variant))
    for timer in desk.timers:
        sample = task.candidate.sample(candidate, timer, desk.rng)
        if task.reference is None:
            found = desk.alone(sample, seconds)
        else:
            found = desk.compared(task.reference.sample(reference, timer, desk.rng), sample, seconds)
            if desk.broken:
                found |= {"verdict": INVALID, "note": desk.broken}
        found |= figures.calls_made(found, timer.mode)
        place = roofs.placed(done, found["t_median_s"], timer.mode, ceilings, entry["path"])
        yield {**entry, "mode": timer.mode, **found, **figures.rates(done, found["t_median_s"]), **place}


def _control(desk: Desk, task: Task, timer: Timer, seconds: float) -> Entry | None:
    """Return the A/A control: the other side of a comparison, or the only one, against itself; None if it fails.

    Both calls are made as those of a comparison are, with operands of their own.
    """
    side, case = task.reference or task.candidate, timed_case(task.case, desk.plan.seed)
    if desk.judged(side, side.case(case), task.direction).status != "pass":
        return None
    try:
        first, second = (
            side.sample(desk.calls(side, case, task.direction), timer, desk.rng) for _ in range(2)
        )
    except UnsupportedCase:
        return None
    found = desk.compared(first, second, seconds)
    if found["verdict"] in (SLOW, FAST):
        desk.broken = f"the A/A control of {side.name} came out {found['verdict']}"
    named = {"case": str(case), "layer": str(task.layer), "target": side.name, "against": side.name}
    told = {"direction": task.direction, "mode": timer.mode, "fit": found["verdict"] == SAME}
    return {"kind": "control", **named, **told, **found, **figures.calls_made(found, timer.mode)}
