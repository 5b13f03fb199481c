"""Numbers that write down which products of which elements they are the sum of."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cnnspec import nested
from cnnspec.nested import Array, Shape

Element = tuple[str, int]
"""An operand and a flat index of it."""

Product = tuple[Element, ...]
"""The elements of one product in order; the empty product is a constant."""

Terms = dict[Product, Any]
"""A sum of products by its coefficients, none of which is zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """An element, or a sum or product of two numbers, which is worked out only when its `terms` are asked for.

    Numbers of this kind have no order: a loop that compares them raises TypeError.

    >>> x, w = symbols("x", (2,)), symbols("w", (1,))
    >>> terms(x[0] * w[0] + x[1] / 2 + 3)
    {(): 3, (('x', 1),): Fraction(1, 2), (('w', 0), ('x', 0)): 1}
    """

    kind: str
    left: Any
    right: Any = None

    def __add__(self, other: Any) -> "Symbol":
        return Symbol("+", self, other)

    def __mul__(self, other: Any) -> "Symbol":
        return Symbol("*", self, other)

    def __truediv__(self, other: Any) -> "Symbol":
        return Symbol("*", self, 1 / Fraction(other))

    def __neg__(self) -> "Symbol":
        return Symbol("*", self, -1)

    def __sub__(self, other: Any) -> "Symbol":
        return Symbol("+", self, -other)

    def __rsub__(self, other: Any) -> "Symbol":
        return Symbol("+", -self, other)

    __radd__ = __add__
    __rmul__ = __mul__


def symbols(name: str, shape: Shape) -> Array:
    """Return the elements of an operand as numbers that stand for themselves."""
    count = 1
    for size in shape:
        count *= size
    return nested.unravel([Symbol("element", (name, i)) for i in range(count)], shape)


def terms(number: Any) -> Terms:
    """Return the products that a number is the sum of; a plain number is a constant."""
    found: Terms = {}
    waiting: list[Any] = [number]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Symbol) and one.kind == "+":
            waiting += (one.right, one.left)
            continue
        for product, coefficient in _of_one(one).items():
            found[product] = found.get(product, 0) + coefficient
    return {product: coefficient for product, coefficient in sorted(found.items(), key=_order) if coefficient}


def value(sum_of: Terms, numbers: Mapping[str, Any]) -> Fraction:
    """Return a sum of products where each operand is a flat array of numbers.

    >>> value({(("x", 1),): 3, (): 1}, {"x": [5, 7]})
    Fraction(22, 1)
    """
    total = Fraction(0)
    for product, coefficient in sum_of.items():
        one = Fraction(coefficient)
        for name, i in product:
            one *= Fraction(float(numbers[name][i]))
        total += one
    return total


def _of_one(number: Any) -> Terms:
    """Return the terms of an element, a product or a plain number."""
    if not isinstance(number, Symbol):
        return {(): number}
    if number.kind == "element":
        return {(number.left,): 1}
    if not isinstance(number.right, Symbol):
        return {product: c * number.right for product, c in terms(number.left).items()}
    right = terms(number.right)
    return {tuple(sorted((*a, *b))): c * d for a, c in terms(number.left).items() for b, d in right.items()}


def _order(item: tuple[Product, Any]) -> tuple[int, Product]:
    return len(item[0]), item[0]
