"""The part of a run that measures whole networks: images per second, memory, and where the time goes.

Batches are 1, 2, 4, ... while images per second grow; efficiency = FLOPs / seconds / the ceiling of matrix products.
"""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cnnspec.bench import roofs, variants
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import SPENT, Entry, cut
from cnnspec.bench.modules import Checked, Whole
from cnnspec.bench.plan import SHARE_SECONDS, Plan
from cnnspec.bench.profiles import OTHER, Profile, profiled
from cnnspec.bench.timers import Sample, Timer
from cnnspec.errors import CnnspecError
from cnnspec.memory import ran_out, spelled
from cnnspec.spelling import spec_name

GROWTH = 1.03
"""A batch is better than the best before by more than this factor, or it is one that did not grow."""
PATIENCE = 2
"""So many batches that did not grow end the search."""
SLICES = 10
"""A batch gets at most this part of its network's time."""
PASSES, PASSES_SECONDS = 5, 2.0
"""Passes under a profiler, of which the quickest says where the time goes, or as many as so many seconds allow."""
FREE = 0.5
"""The part of the memory that is free that a batch may take."""


def entries(desk: Desk, seconds: float) -> Iterator[Entry]:
    """Yield an entry for each batch of each network, the shares of its operators, and what was cut."""
    started = desk.now()
    tasks = list[Whole]()
    for task in _tasks(desk.plan):
        try:
            tasks.append(_checked(task))
        except CnnspecError as error:
            yield _cut(task, str(error))
    tasks.sort(key=lambda task: sum(task.flops.values()))
    for place, task in enumerate(tasks):
        left = seconds - (desk.now() - started)
        if left <= 0 and not desk.plan.smoke:
            yield _cut(task, SPENT)
            continue
        share = max(SHARE_SECONDS, left / (len(tasks) - place))
        yield from _network(desk, task, share, left)


def _tasks(plan: Plan) -> list[Whole]:
    return [
        Whole(plan.target, net, dtype, variant, direction, plan.device, plan.seed)
        for net in plan.networks
        for dtype in plan.dtypes
        for variant in plan.variants
        for direction in plan.directions
    ]


def _checked(task: Whole) -> Whole:
    """Return a task whose network and module exist; what does not raises."""
    variants.backend_of(task.subject.backend, task.arithmetic)
    return task


def _cut(task: Whole, reason: str) -> Entry:
    told = {"net": task.net, "variant": task.variant, "direction": task.direction, "dtype": task.own_dtype}
    return cut(f"{task.net}, {task.variant}, {task.direction}", reason, **told)


def _network(desk: Desk, task: Whole, share: float, left: float) -> Iterator[Entry]:
    """Yield what a network has: no number unless its outputs were judged and are right."""
    started = desk.now()
    found = _conformance(desk, task, share, left)
    named = _named(task, found)
    if found.status == "unjudged":
        yield _cut(task, found.reason)
        return
    if found.status != "pass":
        yield {**named, "batch": task.least, "mode": "", "best": False}
        return
    try:
        with variants.switches(task.variant)():
            module = task.module()
            if desk.plan.smoke:
                task.call(module, task.least)()
                yield {**named, "batch": task.least, "mode": "smoke", "best": False}
                return
            spent = max(SHARE_SECONDS, min(share, left) - (desk.now() - started))
            yield from _marked(list(_batches(desk, task, module, named, spent)))
            yield from _shares(desk, task, module)
    except RuntimeError as error:  # such as a device's lack of a dtype, or of memory
        yield _cut(task, str(error).partition("\n")[0])


def _conformance(desk: Desk, task: Whole, share: float, left: float) -> Checked:
    """Return what the judge says: of a narrower form first where it is large, of itself where the time allows."""
    started, spent = desk.now(), desk.until(left) if not desk.plan.smoke else _never
    first = task.checked(spent)
    took = desk.now() - started
    if first.status != "pass" or not task.small or desk.plan.smoke:
        return first
    if took * task.enlargement > share / 2 - took:
        return first
    again = task.checked(spent, {})
    return again if again.status in ("pass", "fail") else first


def _never() -> bool:
    return False


def _named(task: Whole, found: Checked) -> Entry:
    """Return the fields that all batches of a network share; numbers that are not known are null."""
    return {
        "kind": "network",
        "net": task.net,
        "target": task.target,
        "input": list(task.shapes(1)[0]),
        "dtype": task.own_dtype,
        "variant": task.variant,
        "direction": task.direction,
        "parameters": task.definition.parameter_count,
        "flops": sum(task.flops.values()),
        "conformance": found.status,
        "checked": found.words,
        "note": found.reason,
        "images_per_s": None,
        "peak_memory_bytes": None,
        "efficiency": None,
    }


# Batches


def _batches(
    desk: Desk, task: Whole, module: torch.nn.Module, named: Entry, seconds: float
) -> Iterator[Entry]:
    """Yield an entry for each batch and timer, until images per second no longer grow; the last says why it ended."""
    ends, best, idle, batch, note = desk.until(seconds), 0.0, 0, task.least, ""
    ceiling = roofs.Ceilings.of(desk.roofs, roofs.dtype_of(task.own_dtype, task.variant)).compute
    timers = [one for one in desk.timers if not roofs.is_cold(one.mode)]
    found = list[Entry]()
    while not note:
        try:
            measured, peak = _measured(desk, task, module, batch, timers, seconds / SLICES)
        except RuntimeError as error:
            if not ran_out(error) or not found:
                raise
            note = f"batch {batch} does not fit the memory"
            break
        for mode, times in measured.items():
            rate = batch / times["t_median_s"]
            reached = ceiling and named["flops"] * rate / 1e9 / ceiling
            numbers = {"images_per_s": rate, "peak_memory_bytes": peak, "efficiency": reached}
            found.append({**named, "batch": batch, "mode": mode, **times, **numbers})
        rate = found[-len(timers)]["images_per_s"]
        idle = 0 if rate > GROWTH * best else idle + 1
        best, batch = max(best, rate), 2 * batch
        note = _end(idle, ends(), batch, 2 * peak, free_bytes(task.device))
    found[-1]["note"] = note
    yield from found


def _measured(
    desk: Desk, task: Whole, module: torch.nn.Module, batch: int, timers: list[Timer], seconds: float
) -> tuple[dict[str, Entry], int]:
    """Return the times of a batch by mode, and the most memory that it holds."""
    call = task.call(module, batch)
    part = min(desk.plan.case_seconds, seconds / len(timers))
    times = {timer.mode: desk.alone(_sample(call, timer), part) for timer in timers}
    return times, _profile(task, module, call).peak_bytes


def _sample(call: Any, timer: Timer) -> Sample:
    return functools.partial(timer.sample, call)


def _end(idle: int, spent: bool, batch: int, needed: int, free: float) -> str:
    """Return why no larger batch is measured; "" where one is."""
    if idle >= PATIENCE:
        return "larger batches do not have more images per second"
    if spent:
        return f"{SPENT} before batch {batch}"
    if needed > FREE * free:
        return f"batch {batch} may take {spelled(needed)}, more than half of the {spelled(int(free))} that are free"
    return ""


def free_bytes(device: str) -> float:
    """Return the bytes of memory that are free; as many as anyone wants where a system does not say.

    On CUDA what torch keeps of earlier calls is free, too.
    """
    if device.startswith("cuda"):
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return float(torch.cuda.mem_get_info()[0] + kept)
    try:
        words = dict(line.split(":") for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
        return 1024.0 * int(words["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return float("inf")


def _marked(found: list[Entry]) -> list[Entry]:
    """Return the entries, of each mode one marked as that with most images per second."""
    for mode in dict.fromkeys(one["mode"] for one in found):
        most = max((one for one in found if one["mode"] == mode), key=lambda one: one["images_per_s"])
        for one in found:
            if one["mode"] == mode:
                one["best"] = one is most
    return found


# Where the time goes


def _profile(task: Whole, module: torch.nn.Module, call: Any) -> Profile:
    given = [one for part in (call.args, *call.args) if isinstance(part, list | tuple) for one in part]
    tensors = [*module.parameters(), *module.buffers(), *given]
    return profiled(call, [one for one in tensors if isinstance(one, torch.Tensor)], task.device)


def _shares(desk: Desk, task: Whole, module: torch.nn.Module) -> Iterator[Entry]:
    """Yield the share of each operator in a pass of the smallest batch, the quickest of several."""
    told = {"net": task.net, "variant": task.variant, "direction": task.direction, "dtype": task.own_dtype}
    if "compile" in task.words:
        reason = "compiled code joins operators: none has a time of its own"
        yield _cut(task, reason) | {"layer": f"shares of {task.net}, {task.variant}, {task.direction}"}
        return
    call = task.call(module, task.least)
    call()
    spent, profiles = desk.until(PASSES_SECONDS), [_profile(task, module, call)]
    while len(profiles) < PASSES and not spent():
        profiles.append(_profile(task, module, call))
    found = min(profiles, key=lambda one: one.whole).shares(task.definition)
    total = math.fsum(one.seconds for one in found.values())
    flops = dict.fromkeys(found, 0)
    for node in task.definition:
        name = spec_name(node.operator)
        if name in flops:
            flops[name] += task.least * task.flops[node.name]
    for name in sorted(found, key=lambda name: (name == OTHER, -found[name].seconds)):
        numbers = {"seconds": found[name].seconds, "part": found[name].seconds / total}
        yield {
            "kind": "share",
            **told,
            "batch": task.least,
            "operator": name,
            **numbers,
            "calls": found[name].calls,
            "flops": flops[name],
        }
