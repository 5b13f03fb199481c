"""What a failing case says is wrong, in one sentence that calls of the target have confirmed.

First whole hypotheses: other arguments, an operand read or a result written in another way, another framework's
convention. What holds of the case, of fresh data and of the case before it was made small explains the failure. Else
impulses tell which elements went into the worst one. A sentence that was not confirmed is not said.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec import circumstances, dependence
from cnnspec.backends import Backend, Output
from cnnspec.calls import channel_axis
from cnnspec.cases import Case
from cnnspec.compare import verdict
from cnnspec.elements import rule
from cnnspec.evidence import Evidence, fresh, is_finite, of_original, operands_of
from cnnspec.hypotheses import Hypothesis, hypotheses
from cnnspec.impulses import MOST_PRODUCTS, Operands, Question, Search, factors
from cnnspec.judge import Trial
from cnnspec.outputs import is_small
from cnnspec.phrases import Scene, difference

LAWS = ("forward", "backward", "updates")
"""The laws whose failures are numbers that are wrong."""

SECONDS = 2.0
"""Time for hypotheses, and as much for one element."""


def explain(case: Case, backend: Backend, row: Mapping[str, Any], seconds: float = SECONDS) -> str:
    """Return in one sentence what the target does wrong, "" where nothing is certain.

    row:     the failing row of `case`
    seconds: how long hypotheses may take, and once more how long the search for elements may
    """
    try:
        if row.get("culprit") and row["law"] in {law.name for law in case.spec.laws}:
            case = Case.parse(row["culprit"])
            told = {"original_case": row.get("original_case")}
            row = {**Trial(case).rows(backend, ["forward"])[0], **told}
        if row["law"] not in LAWS or row["status"] != "fail" or row.get("raised") or not is_small(case):
            return ""
        if row["message"].startswith("index"):
            return ""  # the maxima are right, and said to come from elsewhere
        until = time.monotonic() + seconds
        question = Question(case, backend, row["law"], row.get("operand", ""), until)
        return _explained(question, row, seconds) if question.operand or row["law"] == "forward" else ""
    except Exception:  # noqa: BLE001 - a target may do anything: then there is nothing certain to say
        return ""


def _explained(question: Question, row: Mapping[str, Any], seconds: float) -> str:
    operands, evidence = operands_of(question), Evidence(question)
    own, again = evidence.add(operands), question.actual(operands)
    same = np.asarray(own.values).tobytes() == np.asarray(again.values).tobytes()
    if not same or evidence.is_right(operands, own):
        return ""
    element = _flat(row.get("worst_index"), question.shape)
    scene = None if element is None else _scene(question, element)
    name = circumstances.guilty_layout(question, operands)
    if name and scene:
        outside = circumstances.memory_outside(question, operands, name, scene)
        if outside:
            return outside
    said = _of_numbers(question, evidence, row, scene, seconds)
    if not name:
        return said
    return f"{said or 'the result is wrong'}, for {circumstances.described(question, name)} only"


def _of_numbers(
    question: Question, evidence: Evidence, row: Mapping[str, Any], scene: Scene | None, seconds: float
) -> str:
    """Return what explains the numbers; `evidence` holds those of the case."""
    operands, _ = evidence.found[0]
    others = Evidence(question)
    for other in fresh(question):
        others.add(other)
    wrong = [pair for pair in others.found if not others.is_right(*pair)]
    if not is_finite(operands):
        if not wrong:
            return circumstances.special_value(question, operands, scene) if scene else ""
        operands, output = wrong[0]
        scene = scene and _scene(question, _worst(question, operands, output))
    else:
        others.found.insert(0, evidence.found[0])
    original = of_original(question, row)
    found: list[Hypothesis] = []
    for one in hypotheses(question.case, question.shape, question.operand * question.backward):
        if question.is_late() or (found and not found[0].is_like(one)):
            break
        if all(others.holds(one, *pair) for pair in others.found) and original(one):
            found.append(one)
    if found:
        return _sentence(found, question)
    if scene is None:
        return ""
    question.until = time.monotonic() + seconds
    return _of_element(question, operands, scene) or _of_place(others, scene)


def _worst(question: Question, operands: Operands, output: Output) -> int:
    """Return the flat place of the worst element."""
    return verdict(question.right(operands), output.values, question.case.dtype, question.model).worst or 0


def _sentence(found: Sequence[Hypothesis], question: Question) -> str:
    """Return what hypotheses say that all hold: several are of one argument."""
    result = {"forward": "the output", "updates": f"the new {question.operand}"}.get(
        question.law, f"the gradient of {question.operand}"
    )
    first = found[0]
    if len(found) > 1:
        ((name, _),) = first.arguments.items()
        values = " or ".join(f"{name}={one.arguments[name]!r}" for one in found)
        return f"{result} is that of {values}, the call has {name}={getattr(question.case.operation, name)!r}"
    if "{result}" in first.text:
        return first.text.replace("{result}", result)
    return first.text if question.law == "forward" else f"{result} is computed as if {first.text}"


def _scene(question: Question, element: int) -> Scene:
    case = question.case
    spatial = hasattr(case.spec.operator, "spatial")
    axis = channel_axis(case, "input", len(question.shapes["input"])) if spatial else None
    groups = getattr(case.operation, "groups", 1)
    return Scene(question.shapes, question.shape, element, question.operand, axis, groups)


def _of_element(question: Question, operands: Operands, scene: Scene) -> str:
    case, element = question.case, scene.element
    if case.operation.macs(*case.inputs) > MOST_PRODUCTS:
        return ""
    if case.spec.judged != "function" and question.law != "updates":
        names = factors(question)
        try:
            right = question.definition(names, operands)
        except TypeError:
            return _of_choice(question, scene)
        return difference(scene, Search(question, element, right[element], names, operands).run(), right)
    if question.backward:
        return _of_contributions(scene, *dependence.contributions(question, element, operands))
    if question.law == "forward":
        return _of_answers(scene, *dependence.answers(question, element, operands))
    return ""


def _of_choice(question: Question, scene: Scene) -> str:
    """Return which element a maximum takes instead of the right one."""
    extra, missing, wrong = dependence.choice(question, scene.element)
    if wrong is None:
        return ""
    taken, right = (None if i is None else scene.name(("input", i)) for i in wrong)
    if taken is None:
        return f"{scene.subject} is 0 where every input is negative; it should take {right}"
    if right is None:
        return f"{scene.subject} takes {taken} where it should be 0"
    if extra and not missing:
        return f"{scene.subject} may take {scene.name(('input', min(extra)))}, which lies outside its window"
    if missing and not extra:
        return f"{scene.subject} never takes {scene.name(('input', min(missing)))}, which lies in its window"
    return f"{scene.subject} takes {taken}; it should take {right}"


def _of_place(evidence: Evidence, scene: Scene) -> str:
    """Return which other element of the result stands where this one must, on all data."""
    question = evidence.question
    places = set(range(math.prod(question.shape)))
    for operands, output in evidence.found:
        right, found = question.right(operands), output.values[scene.element].item()
        rules = {i: rule(right, i, question.case.dtype, question.model) for i in places}
        places = {i for i, one in rules.items() if one is not None and one.judge(found).holds}
    return scene.holds_other(places.pop()) if len(places) == 1 and scene.element not in places else ""


def _of_answers(scene: Scene, extra: Sequence[Any], missing: Sequence[Any]) -> str:
    if len(extra) == len(missing) == 1 and extra[0][0] == missing[0][0]:
        return (
            f"{scene.subject} answers to {scene.name(extra[0])}; it should answer to {scene.name(missing[0])}"
        )
    more = f" (and to {len(extra) - 1} more)" if len(extra) > 1 else ""
    if extra:
        return f"{scene.subject} answers to {scene.name(extra[0])}{more}, which it must not read"
    more = f" (nor to {len(missing) - 1} more)" if len(missing) > 1 else ""
    if missing:
        return f"{scene.subject} does not answer to {scene.name(missing[0])}{more}, which it must read"
    return ""


def _of_contributions(scene: Scene, extra: Sequence[Any], missing: Sequence[Any]) -> str:
    if extra and not missing:
        return scene.counts(extra[0])
    if missing and not extra:
        return scene.lacks(missing[0])
    return ""


def _flat(index: Sequence[int] | None, shape: Sequence[int]) -> int | None:
    """Return the flat place of an index of `shape`; None where it is none."""
    if index is None or len(index) != len(shape) or any(i >= n for i, n in zip(index, shape, strict=True)):
        return None
    return int(np.ravel_multi_index(tuple(index), tuple(shape))) if shape else 0
