"""Failures that depend on how operands lie in memory, or on numbers that are not finite."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cnnspec.backends.layouts import strided
from cnnspec.calls import channel_axis
from cnnspec.cases import GRAD_OUTPUT
from cnnspec.compare import verdict
from cnnspec.evidence import Evidence
from cnnspec.impulses import Operands, Question
from cnnspec.phrases import Scene


def guilty_layout(question: Question, operands: Operands) -> str:
    """Return the operand that must be contiguous for the result to be right, where nothing else must; else ""."""
    layouts = {name: one for name, one in question.case.layout.items() if name in question.shapes}
    if not layouts or not _is_right(question, operands, {}):
        return ""
    return next((name for name in layouts if not _is_right(question, operands, {name: layouts[name]})), "")


def _is_right(question: Question, operands: Operands, layout: Mapping[str, str]) -> bool:
    evidence = Evidence(_laid_out(question, layout))
    return evidence.is_right(operands, evidence.add(operands))


def _laid_out(question: Question, layout: Mapping[str, str]) -> Question:
    return replace(question, case=replace(question.case, layout=layout))


def memory_outside(question: Question, operands: Operands, name: str, scene: Scene) -> str:
    """Return what of the memory around an operand reaches an element that is made from zeros; "" for nothing."""
    case = question.case
    zeros = {key: one if key in case.spec.fill else np.zeros_like(one) for key, one in operands.items()}
    layouts: tuple[Mapping[str, str], ...] = ({}, {name: case.layout[name]})
    plain, found = (_laid_out(question, one).actual(zeros).values[scene.element] for one in layouts)
    if np.isnan(plain) or not np.isnan(found):
        return ""
    return f"{scene.subject} reads memory outside {described(question, name)}: what lies around it reaches the result"


def described(question: Question, name: str) -> str:
    """Return how an operand lies in memory, in words."""
    shape, layout = question.shapes[name], question.case.layout[name]
    strides, offset, _ = strided(shape, layout, channel_axis(question.case, name, len(shape)))
    what = "a gradient of output" if name == GRAD_OUTPUT else name
    return f"{what} of strides {strides} and offset {offset} ({layout})"


def special_value(question: Question, operands: Operands, scene: Scene) -> str:
    """Return which NaN or infinity does not give what it must, where finite numbers do; "" where none does."""
    evidence = Evidence(question)
    ones = {name: np.where(np.isfinite(array), array, 1.0) for name, array in operands.items()}
    if not evidence.is_right(ones, question.actual(ones)):
        return ""
    for name, array in operands.items():
        for i in np.flatnonzero(~np.isfinite(array.ravel())).tolist():
            given = {**ones, name: ones[name].copy()}
            given[name].flat[i] = array.flat[i]
            output = question.actual(given)
            found = verdict(question.right(given), output.values, question.case.dtype, question.model)
            if not found.holds and found.worst == scene.element:
                return (
                    f"{scene.subject} is {found.actual!r} where {scene.name((name, i))} is {float(array.flat[i])!r}; "
                    f"it must be {found.expected!r}, and is right where all numbers are finite"
                )
    return ""
