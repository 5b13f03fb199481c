"""The smallest case that still fails: first the geometry, by Hypothesis; then the data, element by element."""

import contextlib
import importlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisException, Unsatisfiable
from hypothesis.strategies import SearchStrategy

from cnnspec import data
from cnnspec.cases import GRAD_OUTPUT, Case

MOST = 20_000
"""Elements of a case whose data are made simpler."""

Fails = Callable[[Case], bool]

QUIET: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}


DRAWS = 11
"""Draws of one run of Hypothesis: after so many it begins to draw variations of what it has drawn, not other cases."""

BARREN = 3
"""After so many runs without a case that is new a strategy counts as exhausted."""


def generate(strategy: SearchStrategy[Case], seed_value: int, examples: int) -> list[Case]:
    """Return `examples` different cases, fewer where there are no more: the same list for the same seed."""
    drawn: dict[str, Case] = {}
    barren = 0
    for run in itertools.count():
        before = len(drawn)

        @seed(f"{seed_value} {run}")
        @settings(max_examples=DRAWS, phases=[Phase.generate], **QUIET)
        @given(strategy)
        def collect(case: Case) -> None:
            drawn.setdefault(str(case), case)

        with contextlib.suppress(Unsatisfiable), without_constants():
            collect()
        barren = 0 if len(drawn) > before else barren + 1
        if len(drawn) >= examples or barren == BARREN:
            break
    return list(drawn.values())[:examples]


@contextlib.contextmanager
def without_constants() -> Iterator[None]:
    """Keep Hypothesis from drawing numbers that stand in the modules which a process happens to have loaded.

    It draws them now and then since version 6.131, and one seed would give other cases in other processes.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(
            ImportError, AttributeError
        ):  # older versions, and what later ones may call it
            provider = importlib.import_module("hypothesis.internal.conjecture.providers").HypothesisProvider
            stack.enter_context(mock.patch.object(provider, "_maybe_draw_constant", _no_constant))
        yield


def _no_constant(*_: Any, **__: Any) -> None:
    """Draw no constant."""


class _Fails(AssertionError):
    pass


def shrink(
    case: Case,
    strategy: SearchStrategy[Case],
    seed_value: int,
    fails: Fails,
    seconds: float = 4.0,
) -> Case:
    """Return the smallest case found that fails as `case` does, within about `seconds`.

    Hypothesis repeats the generation by its seed until it meets `case`, and shrinks from there.
    """
    limit = time.monotonic() + seconds
    known: dict[str, bool] = {str(case): True}
    best, reached = case, False
    for run in itertools.count():

        @seed(f"{seed_value} {run}")
        @settings(
            max_examples=DRAWS, phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False, **QUIET
        )
        @given(strategy)
        def probe(candidate: Case) -> None:
            nonlocal best, reached
            line = str(candidate)
            reached = reached or line == str(case)
            if not reached:
                return
            if line not in known and time.monotonic() < limit:
                known[line] = fails(candidate)
            if known.get(line):
                best = candidate
                raise _Fails

        with contextlib.suppress(_Fails, HypothesisException), without_constants():
            probe()
        if reached or time.monotonic() > limit:
            break
    return simplify(best, fails, limit + seconds / 2)


def simplify(case: Case, fails: Fails, limit: float) -> Case:
    """Return `case` with explicit data, as many of them 0 or small integers as it can have and still fail.

    Operands that are not any numbers (indices, variances) stay as they were drawn, and so do all of a large case.
    """
    if sum(math.prod(shape) for shape in case.operand_shapes().values()) > MOST:
        return case
    values = {name: array.ravel().tolist() for name, array in data.operands(case).items()}
    explicit = case.with_data(values)
    if case.layout:
        plain = replace(explicit, layout={})
        explicit = plain if fails(plain) else explicit
    if not fails(explicit) and case.differentiated:
        gradient = data.grad_output(case, case.operation.output_shape(*case.inputs))
        values |= {GRAD_OUTPUT: gradient.ravel().tolist()}
        explicit = replace(explicit, data=values)
    if not fails(explicit):
        return case
    for change in (_zeroed, _small):
        for name in (one for one in values if one not in case.spec.fill):  # those must stay legal
            explicit = _reduced(explicit, name, change, fails, limit)
    return explicit


def _reduced(case: Case, name: str, change: Callable[[Any], Any], fails: Fails, limit: float) -> Case:
    """Apply `change` to ever smaller blocks of one operand, keeping what still fails."""
    size = len((case.data or {})[name])
    block = size
    while block >= 1 and time.monotonic() < limit:
        for start in range(0, size, block):
            row = (case.data or {})[name]
            new = [*row[:start], *map(change, row[start : start + block]), *row[start + block :]]
            if repr(new) == repr(row) or time.monotonic() > limit:
                continue
            candidate = case.with_data({**(case.data or {}), name: new})
            if fails(candidate):
                case = candidate
        block //= 2
    return case


def _zeroed(value: Any) -> Any:
    return type(value)(0)


def _small(value: Any) -> Any:
    """Return 1 or -1 for any other finite number."""
    if value != value or value in (0, 1, -1, float("inf"), float("-inf")):
        return value
    return type(value)(1 if value > 0 else -1)
