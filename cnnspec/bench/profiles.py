"""One pass of a network under torch's profiler: the most memory that it holds, and where its time goes.

Memory is that of tensors: parameters, buffers, inputs, and what torch's allocator hands out at once during the pass.
What libraries such as oneDNN allocate for themselves passes torch's allocator by and is not in it; on CUDA it is what
torch.cuda.max_memory_allocated says. A backward call belongs to the operator whose forward call recorded it.
"""

import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from cnnspec.backends.torch import functional_name
from cnnspec.graph import Network
from cnnspec.spelling import spec_name

WHOLE = "cnnspec pass"
CALLS = "aten::"
BACKWARD = "autograd::engine::evaluate_function: "
OTHER = "other"
ATEN_NAMES = {"concat": "cat", "global_avg_pool": "mean"}
"""Calls whose names are not those in torch.nn.functional."""


@dataclass
class Share:
    """The part of a pass that an operator takes, and how often it is called."""

    seconds: float = 0.0
    calls: int = 0


@dataclass
class Profile:
    """What a pass held at most, how long it took, and the calls that it made itself; all times in microseconds."""

    peak_bytes: int
    whole: float
    top: Sequence[Any] = field(default_factory=list)

    def shares(self, network: Network) -> dict[str, Share]:
        """Return the share of each operator of a network, and of what is not an operator's."""
        return shares(self.top, self.whole, kinds(network))


def profiled(call: Callable[[], Any], tensors: Iterable[torch.Tensor], device: str = "cpu") -> Profile:
    """Return the profile of a call; `tensors` are those that it is given."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else each profile is told of on stderr
    on_cuda = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_cuda]
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    with profile(activities=activities, profile_memory=not on_cuda) as found, record_function(WHOLE):
        call()
        if on_cuda:
            torch.cuda.synchronize()
    events: Any = found.events()
    top = outermost(events)
    if on_cuda:
        whole = sum(one.device_time_total for one in top)
        return Profile(torch.cuda.max_memory_allocated(), whole, [_OnDevice(one) for one in top])
    held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    whole = next(one.time_range.elapsed_us() for one in events if one.name == WHOLE)
    return Profile(sum(held.values()) + most_held(allocations(found)), whole, top)


def outermost(events: Iterable[Any]) -> list[Any]:
    """Return the calls that a pass made itself; what runs on a device is in the time of the call that launched it."""
    called = [one for one in events if one.device_type.name == "CPU" and one.name != WHOLE]
    return [one for one in called if one.cpu_parent is None or one.cpu_parent.name == WHOLE]


def allocations(found: Any) -> list[int]:
    """Return the bytes that a pass allocated, and less than 0 those that it gave back, in their order."""
    changes = [one for one in found.profiler.kineto_results.events() if one.name() == "[memory]"]
    return [one.nbytes() for one in sorted(changes, key=lambda one: one.start_ns())]


def most_held(changes: Iterable[int]) -> int:
    """Return the most that is held at once.

    >>> most_held([4, 2, -4, 3])
    6
    """
    held = most = 0
    for change in changes:
        held += change
        most = max(most, held)
    return most


class _OnDevice:
    """A call, and how long what it launched ran."""

    def __init__(self, event: Any) -> None:
        self.name, self.sequence_nr, self.cpu_time_total = (
            event.name,
            event.sequence_nr,
            event.device_time_total,
        )
        self.time_range = event.time_range


def kinds(network: Network) -> dict[str, str]:
    """Return the operators of a network by the names of torch's calls.

    >>> from cnnspec import nets
    >>> kinds(nets.resnet18())["batch_norm"]
    'batch_norm2d'
    """
    names = [name for name in (spec_name(node.operator) for node in network) if name]
    return {ATEN_NAMES.get(name, functional_name(name)): name for name in names}


def shares(top: Sequence[Any], whole: float, known: Mapping[str, str]) -> dict[str, Share]:
    """Return the seconds and calls of operators; what `whole` has beside them is other."""
    forward = sorted(
        (one for one in top if one.name.startswith(CALLS) and one.sequence_nr >= 0),
        key=lambda one: (one.sequence_nr, one.time_range.start),
    )
    numbers = [one.sequence_nr for one in forward]
    found: dict[str, Share] = defaultdict(Share)
    for event in top:
        call = event
        if event.name.startswith(BACKWARD):
            place = bisect_right(numbers, event.sequence_nr) - 1
            if event.sequence_nr < 0 or place < 0:
                continue
            call = forward[place]
        name = call.name.removeprefix(CALLS) if call.name.startswith(CALLS) else ""
        kind = known.get(name) or known.get(name.rstrip("_"))
        if kind:
            found[kind].seconds += event.cpu_time_total / 1e6
            found[kind].calls += event is call
    rest = whole / 1e6 - sum(one.seconds for one in found.values())
    return {**found, OTHER: Share(max(0.0, rest), 0)}
