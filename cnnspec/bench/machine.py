"""Where a run is measured: what is fixed for it, what is recorded, and what tells two environments apart."""

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnspec.bench.paired import MALLOC, THREADS
from cnnspec.errors import UsageError
from cnnspec.record import environment

SETTINGS = (*THREADS, *MALLOC)
"""Variables of the environment that change times."""


def allowed() -> list[int]:
    """Return the processors that this process may use; none where a system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Keep this process on so many processors, the last it may use, with as many threads of torch; gives them.

    The list is empty where a system does not say. UsageError for more than there are.
    """
    import torch

    there = allowed()
    if threads > (len(there) or os.cpu_count() or 1):
        raise UsageError(f"--threads {threads} is more than the processors that there are")
    before = torch.get_num_threads()
    chosen = there[-threads:]
    if chosen:
        os.sched_setaffinity(0, chosen)
    torch.set_num_threads(threads)
    try:
        yield chosen
    finally:
        torch.set_num_threads(before)
        if there:
            os.sched_setaffinity(0, there)


def facts(device: str, threads: int) -> dict[str, Any]:
    """Return what makes times comparable: processor, system, versions, switches and settings."""
    found = environment() | {"threads": threads, "device": device, "processor": _processor()}
    found.pop("hypothesis", None)
    found["processors"] = os.cpu_count()
    found["governor"] = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return found | {"settings": {name: os.environ[name] for name in SETTINGS if name in os.environ}}


def fingerprint(found: Mapping[str, Any]) -> str:
    """Return a short name of an environment: two that differ in any fact have different ones."""
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:12]


def moment() -> dict[str, Any]:
    """Return what changes while a run goes on: the load, and how fine the clock is."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"load": load, "clock_resolution_s": time.get_clock_info("perf_counter").resolution}


def _processor() -> str:
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""
