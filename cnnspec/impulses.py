"""What a target makes one number of: impulses find the products that it sums into an element of its output.

A sum of products of at most two operands is known by its values on sets of elements: a set that gives what the terms
found so far predict hides no other; one that does not is halved, down to pairs of single elements.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import exact, nested
from cnnspec.backends import Backend, Output
from cnnspec.bounds import FORMATS
from cnnspec.calls import Call
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.exact import Exact
from cnnspec.models import ErrorModel
from cnnspec.nested import Shape
from cnnspec.symbols import Product, Terms, symbols, terms, value

Values = npt.NDArray[Any]
Operands = Mapping[str, Values]

MOST_CALLS = 1000
MOST_PRODUCTS = 200_000
"""Calls of the target, and products of the definition, after which an element is left unexplained."""


class Unexplained(Exception):
    """The target does not answer as one sum of products does, or there is no time to find out."""


@dataclass
class Question:
    """A call whose result is wrong: its output, or the gradient or the new value of one operand.

    until: when the target is called no more, by the monotonic clock
    """

    case: Case
    backend: Backend
    law: str
    operand: str = ""
    until: float = math.inf
    calls: int = 0

    @property
    def backward(self) -> bool:
        """Whether the result is a gradient."""
        return self.law == "backward"

    @cached_property
    def shape(self) -> Shape:
        """The shape of the result."""
        return self.case.operand_shapes()[self.operand] if self.operand else self._output_shape()

    def _output_shape(self) -> Shape:
        return tuple(self.case.operation.output_shape(*self.case.inputs))

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of what the result is made from."""
        shapes = self.case.operand_shapes()
        return {**shapes, GRAD_OUTPUT: self._output_shape()} if self.backward else shapes

    @cached_property
    def model(self) -> ErrorModel | None:
        """What the result is held to."""
        return self.backend.model(self.case.dtype, self.case.operator)

    def is_late(self) -> bool:
        """Say whether the time is over."""
        return time.monotonic() > self.until

    def actual(self, operands: Operands) -> Output:
        """Return what the target makes of operands, and in a backward of "grad_output"."""
        self.calls += 1
        if self.calls > MOST_CALLS or self.is_late():
            raise Unexplained
        given = {name: array for name, array in operands.items() if name != GRAD_OUTPUT}
        call = Call(self.backend, self.case, given)
        if self.backward:
            return call.gradients(operands[GRAD_OUTPUT], self.case.differentiated)[self.operand]
        output = call.outputs()[0]
        return call.read(call.arrays[self.operand]) if self.operand else output

    def right(self, operands: Operands, operation: Any = None) -> Exact:
        """Return the exact result, of another operation where one is given."""
        operation = operation or self.case.operation
        given = {name: array for name, array in operands.items() if name != GRAD_OUTPUT}
        if self.backward:
            found = exact.gradients(
                self.case.spec, operation, operands[GRAD_OUTPUT], given, self.case.differentiated
            )
            return found[self.operand]
        if self.operand:
            return exact.updates(operation, given)[self.operand]
        return exact.evaluate(self.case.spec, operation, given)

    def definition(self, names: Sequence[str], operands: Operands) -> list[Terms]:
        """Return the terms of each element of the result in the operands `names`; the others have their values.

        Raises TypeError where the definition compares elements, and so is no sum of products.
        """
        operation, numbers = self.case.operation, {}
        for name, shape in self.shapes.items():
            plain = operands[name].ravel().tolist()
            numbers[name] = symbols(name, shape) if name in names else nested.unravel(plain, shape)
        given = [number for name, number in numbers.items() if name != GRAD_OUTPUT]
        if self.backward:
            gradients = operation.gradients(numbers[GRAD_OUTPUT], *given)
            result = dict(zip(self.case.operand_shapes(), gradients, strict=False))[self.operand]
        else:
            result = operation.reference(*given)
        return [terms(one) for one in nested.ravel(result)]


def factors(question: Question) -> list[str]:
    """Return the operands that vary: those of numbers, but for a gradient through a choice the output's alone."""
    case = question.case
    if question.backward and case.spec.judged != "sum":
        return [GRAD_OUTPUT]
    fixed = (*case.spec.integers, *(name for name in case.spec.constants if question.backward))
    return [name for name in question.shapes if name not in fixed]


def precision_of(dtype: str) -> int:
    """Return how many bits of an integer each number of a format holds."""
    return FORMATS[dtype].precision if dtype in FORMATS else 7


class Search:
    """The search for the terms of one element of a target's result."""

    def __init__(
        self, question: Question, element: int, right: Terms, names: Sequence[str], own: Operands
    ) -> None:
        self.question, self.element, self.names, self.own = question, element, names, own
        self.found: Terms = dict(right)
        self.precision = precision_of(question.case.dtype)
        self.scale = math.lcm(1, *(Fraction(c).denominator for c in right.values()))
        self.whole = self.scale == 1
        self.sizes = {name: math.prod(question.shapes[name]) for name in names}
        self.codes = [self._code(seed) for seed in range(2 if self.precision >= 24 else 6)]

    def _code(self, seed: int) -> dict[str, Values]:
        """Return whole numbers by which the elements are told apart, none of them 0."""
        largest = 31 if self.precision >= 24 else 3 if self.precision > 8 else 1
        rng = np.random.default_rng(seed)
        signs = (1,) if self.question.case.dtype.startswith("uint") else (-1, 1)
        return {
            name: rng.integers(1, largest, size, endpoint=True) * rng.choice(signs, size)
            for name, size in self.sizes.items()
        }

    def run(self) -> Terms:
        """Return the terms, checked on fresh numbers; Unexplained where they are not what the target computes."""
        self._compare({})
        for count in (1, 2):
            for kind in combinations(self.names, count):
                self._split({name: range(self.sizes[name]) for name in kind})
        self._check()
        return {product: c for product, c in self.found.items() if c}

    def _split(self, sets: dict[str, Sequence[int]]) -> None:
        """Find the products with one factor of each of `sets`."""
        if not all(sets.values()):
            return
        if all(len(one) == 1 for one in sets.values()):
            self._compare(sets)
        elif not self._agrees(sets):
            widest = max(sets, key=lambda name: len(sets[name]))
            middle = len(sets[widest]) // 2
            for half in (sets[widest][:middle], sets[widest][middle:]):
                self._split({**sets, widest: half})

    def _agrees(self, sets: Mapping[str, Sequence[int]]) -> bool:
        """Say whether the terms found so far are all of those between the elements of `sets`."""
        inside = self._within(sets)
        for codes in self.codes:
            numbers = self._numbers(sets, codes)
            slack = self._slack(inside, numbers)
            if slack >= Fraction(1, 2):
                return False
            if abs(self._measured(numbers) - value(inside, numbers)) > slack:
                return False
        return True

    def _slack(self, inside: Terms, numbers: Mapping[str, Values]) -> Fraction:
        """Return the rounding errors that a sum of these terms may have: none where all its sums are exact."""
        sizes = {name: np.abs(array) for name, array in numbers.items()}
        size = value({product: abs(c) for product, c in inside.items()}, sizes)
        if self.whole and size < 2**self.precision:
            return Fraction(0)
        return Fraction(len(inside) + 2, 2**self.precision) * size

    def _compare(self, sets: Mapping[str, Sequence[int]]) -> None:
        """Measure the coefficient of the product of single elements, one of each of `sets`."""
        ones = {name: np.ones(size) for name, size in self.sizes.items()}
        numbers = self._numbers(sets, ones)
        product: Product = tuple(sorted((name, chosen[0]) for name, chosen in sets.items()))
        inside = self._within(sets)
        expected = inside.pop(product, 0)
        coefficient = self._measured(numbers, simple=True) - value(inside, numbers)
        coefficient /= self.scale ** len(sets)
        if expected and abs(coefficient - expected) * 2 ** (self.precision - 1) <= abs(Fraction(expected)):
            return
        self.found[product] = coefficient

    def _within(self, sets: Mapping[str, Sequence[int]]) -> Terms:
        """Return the terms found whose factors all lie in `sets`."""
        return {
            product: c
            for product, c in self.found.items()
            if all(name in sets and i in sets[name] for name, i in product)
        }

    def _numbers(self, sets: Mapping[str, Sequence[int]], codes: Mapping[str, Values]) -> dict[str, Values]:
        """Return operands that are zero outside `sets`."""
        numbers = {}
        for name, code in codes.items():
            numbers[name] = np.zeros(len(code))
            chosen = list(sets.get(name, ()))
            numbers[name][chosen] = code[chosen] * self.scale
        return numbers

    def _measured(self, numbers: Mapping[str, Values], simple: bool = False) -> Fraction:
        """Return the target's number; where it is `simple`, as the simplest fraction that rounds to it."""
        shaped = {name: array.reshape(self.question.shapes[name]) for name, array in numbers.items()}
        output = self.question.actual({**self.own, **shaped})
        one = float(output.values[self.element])
        if not math.isfinite(one):
            raise Unexplained
        near = Fraction(one).limit_denominator(1000)
        plain = abs(near - Fraction(one)) * 2**self.precision <= abs(near)
        return near if simple and plain else Fraction(one)

    def _check(self) -> None:
        """Raise Unexplained unless the terms found predict the target's number on fresh integers."""
        everything: dict[str, Sequence[int]] = {name: range(size) for name, size in self.sizes.items()}
        for seed in range(7, 11):
            codes = self._code(seed)
            if seed % 2:  # some zeros leave the others room to be seen
                codes = {name: code * (np.arange(len(code)) % 3 != seed % 3) for name, code in codes.items()}
            numbers = self._numbers(everything, codes)
            if abs(self._measured(numbers) - value(self.found, numbers)) > self._slack(self.found, numbers):
                raise Unexplained
