"""Which elements an element of a result was taken from, or answers to, where it is no sum of products."""

import math

import numpy as np

from cnnspec import nested
from cnnspec.cases import GRAD_OUTPUT
from cnnspec.derivatives import Dual
from cnnspec.impulses import Operands, Question, Unexplained, Values, precision_of
from cnnspec.symbols import Element

MOST_ELEMENTS = 200
"""Elements of all operands up to which each of them is changed by itself."""


STEPS = (1.0, -2.0)
"""By how much an element is changed to see what answers to it."""

Choice = tuple[int | None, int | None]
"""Which input element was taken, and which must be; None for a 0 that is no element."""


def choice(question: Question, element: int) -> tuple[set[int], set[int], Choice | None]:
    """Return the elements that the target alone ever takes, those that the definition alone does, a wrong choice.

    Each element is the largest of all once and the smallest of all once, and none is 0.
    """
    size = math.prod(question.shapes["input"])
    if not 0 < size < min(MOST_ELEMENTS, 2 ** precision_of(question.case.dtype)):
        raise Unexplained
    signs = (1,) if question.case.dtype.startswith("uint") else (1, -1)
    orders = [np.arange(1, size + 1)]
    orders += [np.random.default_rng(seed).permutation(size) + 1 for seed in range(6)]
    pairs = [_taken(question, element, sign * order) for sign in signs for order in orders]
    pairs += [_taken(question, element, np.roll(np.arange(1, size + 1), i)) for i in range(size)]
    targets, definitions = ({one[k] for one in pairs} - {None} for k in (0, 1))
    wrong = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return {*targets - definitions}, {*definitions - targets}, wrong  # type: ignore[arg-type]


def _taken(question: Question, element: int, numbers: Values) -> Choice:
    operands = {"input": numbers.astype(np.float64).reshape(question.shapes["input"])}
    copies = question.right(operands).copies
    if copies is None:
        raise Unexplained
    output = question.actual(operands)
    places = {float(number): i for i, number in enumerate(numbers.tolist())}
    pair = float(output.values[element]), float(copies.reshape(-1)[element])
    if any(one not in places and one != 0 for one in pair):
        raise Unexplained
    return places.get(pair[0]), places.get(pair[1])


def answers(question: Question, element: int, own: Operands) -> tuple[list[Element], list[Element]]:
    """Return the elements to which the target's element answers and must not, and to which it must and does not."""
    _small_enough(question)
    case = question.case
    numbers = [
        nested.unravel(
            [Dual.variable(number, (name, i)) for i, number in enumerate(array.ravel().tolist())], array.shape
        )
        for name, array in own.items()
    ]
    result = case.operation.reference(*numbers)
    right = nested.ravel(result)[element]
    slopes = {key: float(slope) for key, slope in getattr(right, "derivatives", {}).items()}
    before = _finite(question, own, element)
    extra, missing = [], []
    for name, array in own.items():
        if name in (*case.spec.integers, *case.spec.fill):
            continue
        for i in range(array.size):
            key, answered = (name, i), False
            for step in STEPS:
                changed = array.copy()
                changed.flat[i] += step
                answered |= _finite(question, {**own, name: changed}, element) != before
            if answered and key not in slopes:
                extra.append(key)
            if not answered and abs(slopes.get(key, 0.0)) > 1 / 16:
                missing.append(key)
    return extra, missing


def contributions(question: Question, element: int, own: Operands) -> tuple[list[Element], list[Element]]:
    """Return the elements of the output's gradient that only the target counts in a gradient, and those it lacks."""
    _small_enough(question)
    right = question.definition([GRAD_OUTPUT], own)[element]
    extra, missing = [], []
    for i in range(math.prod(question.shapes[GRAD_OUTPUT])):
        one = np.zeros(question.shapes[GRAD_OUTPUT])
        one.flat[i] = 1
        found = _finite(question, {**own, GRAD_OUTPUT: one}, element)
        key = (GRAD_OUTPUT, i)
        if found and (key,) not in right:
            extra.append(key)
        if not found and abs(right.get((key,), 0)) > 1 / 16:
            missing.append(key)
    return extra, missing


def _finite(question: Question, operands: Operands, element: int) -> float:
    """Return the target's number, where it is one."""
    found = float(question.actual(operands).values[element])
    if not math.isfinite(found):
        raise Unexplained
    return found


def _small_enough(question: Question) -> None:
    if sum(math.prod(shape) for shape in question.shapes.values()) > MOST_ELEMENTS:
        raise Unexplained
