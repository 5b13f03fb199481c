"""What a target makes of some operands, and whether a hypothesis says the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from cnnspec import data
from cnnspec.backends import Output
from cnnspec.bounds import FORMATS, nearest
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.compare import verdict
from cnnspec.elements import rule
from cnnspec.exact import Exact, evaluate_dialect
from cnnspec.hypotheses import Hypothesis, hypotheses
from cnnspec.impulses import Operands, Question
from cnnspec.outputs import is_small

FRESH = (
    ("integers", 1, 1.0),
    ("integers", 2, 1.0),
    ("integers", 3, 2.0**-10),
    ("dense", 4, 1.0),
    ("dense", 5, 1.0),
    ("dense", 6, 1.0),
)
"""Regime, seed and scale of the data that a hypothesis must hold on, besides those of the case: what is added to small
numbers shows."""


class Evidence:
    """Operands with what the target makes of them, and what hypotheses say of it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.found: list[tuple[Operands, Output]] = []

    def add(self, operands: Operands) -> Output:
        """Call the target on operands."""
        output = self.question.actual(operands)
        self.found.append((operands, output))
        return output

    def is_right(self, operands: Operands, output: Output) -> bool:
        """Say whether the target's result is what the definition gives."""
        return self._accepts(self.question.right(operands), output.values, output.shape)

    def _accepts(self, right: Exact, values: Any, shape: Sequence[int]) -> bool:
        if tuple(right.shape) != tuple(shape):
            return False
        return verdict(right, np.ravel(values), self.question.case.dtype, self.question.model).holds

    def holds(self, one: Hypothesis, operands: Operands, output: Output) -> bool:
        """Say whether the result is what it would be if the hypothesis held."""
        question, case = self.question, self.question.case
        try:
            given, values = dict(operands), np.asarray(output.values).reshape(output.shape)
            if one.change is not None:
                if one.operand == question.operand and question.backward:
                    if not one.permutes:
                        return False
                    values = one.change(values)
                given[one.operand] = one.change(given[one.operand])
            if one.result is not None:
                values = one.result(values)
            if one.dialect is not None:
                right = evaluate_dialect(case.spec, case.operation, one.dialect, given)
                return right is not None and self._accepts(right, values, output.shape)
            arguments = {**case.arguments, **one.arguments}
            right = question.right(given, case.spec.operator(**arguments) if one.arguments else None)
            if one.scale != 1:
                return _is_scaled(question, right, values, one.scale)
            return self._accepts(right, values, values.shape)
        except Exception:  # noqa: BLE001 - the definition refuses what the hypothesis asks
            return False


def _is_scaled(question: Question, right: Exact, values: Any, scale: Fraction) -> bool:
    """Say whether all values are `scale` times what they must be: within the bound, or rounded from it."""
    case, flat = question.case, np.ravel(values).tolist()
    if not scale:
        return right.varies() and not any(flat)
    for i, found in enumerate(flat):
        one = rule(right, i, case.dtype, question.model)
        if one is None or one.judge(Fraction(found) / scale).holds:
            continue
        wanted = (Fraction(one.expected) if right.copies is not None else right.value(i)) * scale
        if nearest(wanted.numerator, wanted.denominator, 0, FORMATS[case.dtype]) != found:
            return False
    return True


def operands_of(question: Question) -> Operands:
    """Return what the case's result is made from."""
    case, operands = question.case, data.operands(question.case)
    if question.backward:
        operands[GRAD_OUTPUT] = data.grad_output(case, question.shapes[GRAD_OUTPUT])
    return operands


def is_finite(operands: Operands) -> bool:
    """Say whether no number is NaN or infinite."""
    return all(bool(np.isfinite(array).all()) for array in operands.values())


def fresh(question: Question) -> Iterator[Operands]:
    """Yield other finite operands of the case's shapes."""
    kept = {
        name: operands_of(question)[name] for name in question.case.spec.integers if name in question.shapes
    }
    for regime, seed, scale in FRESH if question.case.dtype in FORMATS else FRESH[:2]:
        case = replace(question.case, data=None, regime=regime, seed=seed)
        operands = operands_of(replace(question, case=case))
        scaled = {"input": operands["input"] * scale} if "input" in operands and scale != 1 else {}
        yield {**operands, **scaled, **kept}  # indices stay legal as they are


def of_original(question: Question, row: Mapping[str, Any]) -> Callable[[Hypothesis], bool]:
    """Return whether a hypothesis explains the failure of the case before it was made small, too."""
    line = row.get("original_case")
    if not line or line == str(question.case):
        return lambda one: True
    larger = replace(question, case=replace(Case.parse(line), grad=None))
    if not is_small(larger.case):
        return lambda one: True
    evidence = Evidence(larger)
    try:
        for operands in (operands_of(larger), next(fresh(larger))):
            if is_finite(operands):
                evidence.add(operands)
    except Exception:  # noqa: BLE001 - what the target does not answer confirms nothing
        return lambda one: False
    what = larger.operand if larger.backward else ""
    rules = {one.rule: one for one in hypotheses(larger.case, larger.shape, what)}

    def holds(one: Hypothesis) -> bool:
        same = rules.get(one.rule)
        return same is not None and all(evidence.holds(same, *pair) for pair in evidence.found)

    return holds
