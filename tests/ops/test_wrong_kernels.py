"""Wrong outputs, wrong gradients, and checks that a kernel forgets: each is found, for every operator."""

import importlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec import borderline, data, exact, nested, ops, strategies
from cnnspec.backends import Backend, Output
from cnnspec.cases import Case
from cnnspec.compare import verdict
from cnnspec.judge import ACCEPTANCE, Trial
from cnnspec.models import direct
from cnnspec.shrink import generate

Wrong = Callable[..., Any]


def collected(table: str) -> Iterator[tuple[str, Wrong]]:
    """Yield (operator, wrong implementation) of the tables in `wrong*.py`; one operator stands for its family."""
    for path in sorted(Path(__file__).parent.glob("wrong*.py")):
        found = getattr(importlib.import_module(f"tests.ops.{path.stem}"), table, {})
        for name, wrongs in found.items():
            operator = name if name in ops.NAMES else f"{name}2d"
            yield from (
                (operator, wrong) for wrong in (wrongs.values() if isinstance(wrongs, dict) else wrongs)
            )


OUTPUTS = [*collected("WRONG_OUTPUTS")]  # those of KILLERS are found by laws
GRADIENTS = [*collected("WRONG_GRADIENTS")]


@lru_cache(2)
def cases(operator: str) -> list[Case]:
    """Return cases with operands that an output can tell apart."""
    found = []
    for regime in ("integers", "dense"):
        strategy = strategies.cases(operator, regimes=(regime,), layouts=("contiguous",))
        found += [case for case in generate(strategy, 1, 80) if math.prod(case.inputs[0])]
    return found


def nested_of(array: Any) -> Any:
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in array.ravel().tolist()]
    return nested.unravel(values, array.shape)


def values_of(array: Any) -> list[Any]:
    return [float(value) for value in nested.ravel(array[0] if isinstance(array, tuple) else array)]


@pytest.mark.parametrize(("operator", "wrong"), OUTPUTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_output_is_found(operator: str, wrong: Wrong) -> None:
    """By its verdict, or by the indices that go with it."""
    for case in cases(operator):
        operands = data.operands(case)
        try:
            output = wrong(case.operation, *map(nested_of, operands.values()))
        except (ArithmeticError, AttributeError, IndexError):
            continue  # it is wrong of other cases
        right = exact.evaluate(case.spec, case.operation, operands)
        indices = nested.ravel(output[1]) if isinstance(output, tuple) else right.indices
        if nested.shape_of(output[0] if isinstance(output, tuple) else output) != right.shape:
            return
        if (
            indices != right.indices
            or not verdict(right, values_of(output), "float32", direct("float32")).holds
        ):
            return
    pytest.fail("it passed for right")


@pytest.mark.parametrize(
    ("operator", "wrong"), GRADIENTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_wrong_gradient_is_found(operator: str, wrong: Wrong) -> None:
    for case in cases(operator):
        trial = Trial(case)
        if not case.differentiated or not trial.grad_output.size:
            continue
        try:
            found = wrong(
                case.operation, nested_of(trial.grad_output), *map(nested_of, trial.operands.values())
            )
        except (ArithmeticError, AttributeError, IndexError):
            continue  # it is wrong of other cases
        for name, gradient in zip(trial.operands, found, strict=True):
            if (
                name in trial.gradients
                and not verdict(
                    trial.gradients[name], values_of(gradient), "float32", direct("float32")
                ).holds
            ):
                return
    pytest.fail("it passed for right")


def test_every_operator_has_wrong_implementations_in_both_directions() -> None:
    """One operator of each family at least, and all that are alone in theirs."""
    for table in ([*collected("KILLERS"), *OUTPUTS], GRADIENTS):
        held = {ops.family(operator) for operator, _ in table}
        assert set(ops.FAMILIES) - held == set()


class Careless:
    """A kernel that is right but for the checks of its arguments: it takes all, or refuses what is rare."""

    def __init__(self, forgets: Callable[[Case], bool]) -> None:
        self.forgets = forgets

    def backend(self, operator: str) -> Backend:
        return Backend(
            "careless",
            {operator: self.call},
            layers=True,
            arrays=lambda values, *_: (values, values.tobytes),
            outputs=lambda array: Output(array.ravel().tolist(), array.shape, "float32", "cpu"),
        )

    def call(self, case: Case, arrays: Any) -> Any:
        refused = bool(borderline.refusal(case))
        if refused is not self.forgets(case):
            raise ValueError("refused")
        output = np.zeros(case.inputs[0] if refused else case.operation.output_shape(*case.inputs))
        return (output, output) if case.arguments.get("return_indices") else output


@lru_cache(1)
def drawn(operator: str) -> list[Case]:
    return generate(strategies.cases(operator, layouts=("contiguous",)), 2, 40)


def answers(operator: str, forgets: Callable[[Case], bool]) -> set[str]:
    backend = Careless(forgets).backend(operator)
    rows = [row for case in drawn(operator) for row in Trial(case).rows(backend, [ACCEPTANCE])]
    return {row["status"] for row in rows if row["law"] == ACCEPTANCE}


@pytest.mark.parametrize("operator", ops.NAMES)
def test_forgotten_checks_are_found(operator: str) -> None:
    """A kernel that takes what it must refuse, one that refuses what it must take; one that does neither passes."""
    assert answers(operator, lambda case: False) == {"pass"}
    assert "fail" in answers(operator, lambda case: not borderline.refusal(case))
    if any(borderline.refusal(borderline.question(case)) for case in drawn(operator)):
        assert "fail" in answers(operator, lambda case: bool(borderline.refusal(case)))
