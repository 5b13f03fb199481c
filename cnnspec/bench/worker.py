"""A fresh process that measures for the gate: `python -m cnnspec.bench.worker`, asked by lines of JSON on its input.

{"target": ..., "case": ..., ...}  makes a call and warms it up; the reply is {"seconds": of one, undisturbed}
{"count": ...}                     takes a sample of so many such calls; the reply is {"seconds": of one of them}

A reply {"error": ...} says why not. What the target prints goes to the error output.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from random import Random
from typing import Any

from cnnspec.bench.machine import pinned
from cnnspec.bench.record import source_sha256
from cnnspec.bench.sides import Side
from cnnspec.bench.timers import Sample, cold_timers, quickest, timers
from cnnspec.cases import Case
from cnnspec.errors import UsageError


def answers(requests: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield the reply to each request."""
    sample: Sample | None = None
    with contextlib.ExitStack() as stack:
        for request in requests:
            try:
                if "target" in request:
                    stack.enter_context(pinned(request["threads"]))
                    sample = _prepared(request)
                    yield {"seconds": quickest(sample)}
                elif sample is None:
                    raise UsageError("a sample of no call is asked for")
                else:
                    yield {"seconds": sample(request["count"])}
            except Exception as error:  # noqa: BLE001 - whatever a target raises is told to the one who asks
                yield {"error": f"{type(error).__name__}: {error}"}


def _prepared(request: dict[str, Any]) -> Sample:
    """Return what samples a call; UsageError where the target's source is not the one that was measured."""
    side = Side.of(request["target"], request["variant"], request["only"], request["device"])
    if source_sha256(request["target"]) != request["source_sha256"]:
        raise UsageError(f"the source of {request['target']} is not the one that was measured")
    calls = side.calls(side.case(Case.parse(request["case"])), request["direction"])
    there = (*timers(request["device"]), *cold_timers(request["device"]))
    timer = next(one for one in there if one.mode == request["mode"])
    return side.sample(calls, timer, Random(0))  # noqa: S311 - no secret


def main() -> None:
    """Answer on the standard output, kept from the target, until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for reply in answers(map(json.loads, sys.stdin)):
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
