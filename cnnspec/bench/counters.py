"""The part of a run that holds other counters of products and parameters against a summary: see `summary`."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cnnspec import nets
from cnnspec.bench.desk import Desk
from cnnspec.bench.exact import LEAST_SECONDS
from cnnspec.bench.figures import SPENT, Entry, cut
from cnnspec.bench.summary import COUNTERS, MACS, PARAMETERS, SHAPE, Counter, ours, prepared
from cnnspec.bench.timers import Timer
from cnnspec.tables import summary

NEW = "sum up"
"""The call that needs a network that was not summed up before, for each time that it is made."""


def entries(desk: Desk, seconds: float) -> Iterator[Entry]:
    """Yield an entry for each counter and each of our calls: how many times longer the counter takes.

    Calls come one after another, so that time that does not suffice leaves a ratio to each counter.
    """
    if desk.plan.device != "cpu":
        yield cut("counters", f"they are compared on the CPU, and not on {desk.plan.device}")
        return
    started, timer, known = desk.now(), desk.timers[0], ours(1)
    wrong = [name for name, call in known.items() if call() != (PARAMETERS, MACS)]
    if wrong:
        reason = f"{wrong[0]}: cnnspec does not count {PARAMETERS} parameters and {MACS} products"
        yield cut("counters", reason)
        return
    made: dict[str, Callable[[], Any] | None] = {}
    todo = [(name, counter) for name in known for counter in COUNTERS]
    for place, (name, counter) in enumerate(todo):
        told = {"kind": "counter", "counter": counter.name, "call": name}
        left = seconds - (desk.now() - started)
        if left <= 0 and not desk.plan.smoke:
            yield cut(f"{counter.name}, {name}", SPENT)
            continue
        first = counter.name not in made
        if first:
            made[counter.name], note = _made(counter)
        theirs = made[counter.name]
        if theirs is None:
            if first:
                yield {**told, "call": "", "mode": "", "note": note}
        elif desk.plan.smoke:
            yield {**told, "mode": "smoke", "note": ""}
        else:
            share = min(desk.plan.case_seconds, max(LEAST_SECONDS, left / (len(todo) - place)))
            reference = partial(_new, timer) if name == NEW else partial(timer.sample, known[name])
            candidate = partial(timer.sample, theirs)
            yield {**told, "mode": timer.mode, "note": "", **desk.compared(reference, candidate, share)}


def _made(counter: Counter) -> tuple[Callable[[], Any] | None, str]:
    """Return a counter's call, which warns of nothing, and why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, _, note = prepared(counter)
    if theirs is None:
        return None, note

    def quiet() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return theirs()

    return quiet, note


def _new(timer: Timer, count: int) -> float:
    """Return the seconds of one of `count` summaries, each of a network that was built for it."""
    built = iter([nets.resnet152() for _ in range(count)])
    return timer.sample(lambda: summary(next(built), SHAPE), count)
