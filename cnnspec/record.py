"""The first and the last line of a record: what ran, where, on what, and how it ended."""

import dataclasses
import datetime as dt
import hashlib
import json
import platform
import time
from collections.abc import Iterable, Sequence
from typing import Any

from cnnspec._version import __version__
from cnnspec.backends import Backend
from cnnspec.expectations import Expectation
from cnnspec.plan import FREE, Plan, known_laws

LIBRARIES = ("numpy", "hypothesis")


def header(
    plan: Plan, backends: Sequence[Backend], isolation: str, known: Sequence[Expectation] = ()
) -> dict[str, Any]:
    """Return the first line of a record: what ran, where, on what, and which deviations are known."""
    command = "cnnspec check " + " ".join(plan.targets)
    return start(plan.seed, command, isolation) | {
        "targets": [_described(backend, plan) for backend in backends],
        "operators": list(plan.operators),
        "dtypes": sorted({dtype for _, dtype in plan.cells()}),
        "laws": list(plan.laws or known_laws()),
        "examples": plan.examples,
        "budget_seconds": None if plan.deadline is None else round(plan.deadline - time.time()),
        "plan": {key: value for key, value in dataclasses.asdict(plan).items() if key not in FREE},
        "earlier": list(plan.earlier),
        "expectations": [*_expected(plan, backends, known)],
    }


def start(seed: int, command: str, isolation: str) -> dict[str, Any]:
    """Return what the first line of any record says: when it began, what was asked, and on what it ran."""
    facts = environment()
    return {
        "kind": "header",
        "schema_version": 1,
        "cnnspec": __version__,
        "started_utc": _now(),
        "seed": seed,
        "command": command,
        "isolation": isolation,
        "environment": facts,
        "fingerprint": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12],
    }


def _expected(
    plan: Plan, backends: Sequence[Backend], known: Sequence[Expectation]
) -> Iterable[dict[str, Any]]:
    """Yield the known deviations whose witness belongs to what the plan asks."""
    today, cells = dt.datetime.now(dt.UTC).date(), set(plan.cells())
    for one in known:
        on = [backend.name for backend in backends if backend.name in one.backends]
        witness = one.witness
        if not on or not witness or (witness.operator, witness.dtype) not in cells:
            continue
        if not plan.laws or one.law in plan.laws:
            cell = {"operator": witness.operator, "dtype": witness.dtype, "backend": " and ".join(on)}
            expired = str(one.expires) if one.expired(today) else ""
            yield {**one.told, **cell, "status": one.status, "expired": expired}


def _described(backend: Backend, plan: Plan) -> dict[str, Any]:
    dtypes = sorted({dtype for _, dtype in plan.cells()})
    models = {dtype: backend.model(dtype) for dtype in dtypes}
    return {
        "name": backend.name,
        "description": backend.description,
        "device": backend.device,
        "models": {dtype: one.name if one else "exact" for dtype, one in models.items()},
    }


def environment() -> dict[str, Any]:
    """Return what can change a number: versions, processor, torch's switches."""
    from importlib.metadata import version

    from cnnspec.backends import torch

    libraries = {name: version(name) for name in LIBRARIES}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **libraries,
        **torch.environment(),
        "threads": 1,
    }


def end(started: float, interrupted: bool) -> dict[str, Any]:
    """Return the last line of a record."""
    seconds = round(time.time() - started, 2)
    return {"kind": "end", "finished_utc": _now(), "seconds": seconds, "interrupted": interrupted}


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
