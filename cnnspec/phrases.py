"""One sentence on how the terms of a wrong element differ from the right ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from cnnspec.cases import GRAD_OUTPUT
from cnnspec.nested import Shape
from cnnspec.symbols import Element, Product, Terms


@dataclass(frozen=True)
class Scene:
    """What sentences about one element need to know.

    shapes: of the operands;   element: the wrong one, a flat index of a result of `shape`
    operand: whose gradient it is of, "" for the output;   channel_axis, groups: of a convolution's input, else none, 1
    """

    shapes: Mapping[str, Shape]
    shape: Shape
    element: int
    operand: str = ""
    channel_axis: int | None = None
    groups: int = 1

    @property
    def subject(self) -> str:
        """What the sentence is about.

        >>> Scene({}, (2, 3), 4).subject, Scene({}, (2, 3), 4, "weight").subject
        ('output (1, 1)', 'the gradient of weight (1, 1)')
        """
        return self.place(self.element)

    def place(self, element: int) -> str:
        """Return what an element of the result is called."""
        what = f"the gradient of {self.operand}" if self.operand else "output" if self.shape else "the output"
        return f"{what} {_index(element, self.shape)}".rstrip()

    def holds_other(self, element: int) -> str:
        """Return that the number of another element stands in this place."""
        return f"{self.subject} holds what belongs to {self.place(element).removeprefix('the gradient of ')}"

    def name(self, element: Element) -> str:
        """Return what an element of an operand is called."""
        operand, i = element
        shape = self.shapes[operand]
        what = f"the gradient of {'' if shape else 'the '}output" if operand == GRAD_OUTPUT else operand
        return f"{what} {_index(i, shape)}".rstrip()

    def output(self, gradient: Element) -> str:
        """Return what the output's element is called that an element of its gradient belongs to."""
        return self.name(gradient).removeprefix("the gradient of ")

    def lacks(self, gradient: Element) -> str:
        """Return that an element of the output's gradient is left out."""
        return f"{self.subject} lacks the contribution of {self.output(gradient)}"

    def counts(self, gradient: Element) -> str:
        """Return that an element of the output's gradient is counted that must not be."""
        return f"{self.subject} counts a contribution of {self.output(gradient)}, which does not use it"

    def product(self, factors: Sequence[Element]) -> str:
        """Return what a product is called, inputs first."""
        order = [GRAD_OUTPUT, *(name for name in self.shapes if name != GRAD_OUTPUT)]
        return " times ".join(self.name(one) for one in sorted(factors, key=lambda e: order.index(e[0])))


def difference(scene: Scene, found: Terms, right: Sequence[Terms]) -> str:
    """Return how the terms `found` of the scene's element differ from those of `right`, "" where they do not."""
    own = right[scene.element]
    if found == own:
        return ""
    others = [i for i, terms in enumerate(right) if own and found and terms == found]
    if len(others) == 1:
        return scene.holds_other(others[0])
    if own and not found:
        return (
            f"{scene.subject} is 0, whatever {'the gradient of output' if scene.operand else 'the input'} is"
        )
    missing = [product for product in own if product not in found]
    extra = [product for product in found if product not in own]
    scaled = {p: Fraction(found[p]) / Fraction(own[p]) for p in own if p in found and found[p] != own[p]}
    if scaled and not missing and not extra:
        return _scaled(scene, scaled, own)
    return _contributions(scene, missing, extra, own, found) or _of_products(
        scene, missing, extra, own, found
    )


def _of_products(
    scene: Scene, missing: Sequence[Product], extra: Sequence[Product], own: Terms, found: Terms
) -> str:
    if not extra:
        return _missing(scene, missing)
    if not missing:
        return _extra(scene, extra, found)
    return _read_elsewhere(scene, missing, extra, own, found)


def _scaled(scene: Scene, scaled: Mapping[Product, Fraction], own: Terms) -> str:
    factors = {*scaled.values()}
    if len(scaled) == len(own) and len(factors) == 1:
        factor = factors.pop()
        every = "every term" if len(own) > 1 else f"its only term, {scene.product(next(iter(own)))},"
        return f"{scene.subject} is {factor} times what it must be: {every} has that factor"
    product, factor = next(iter(scaled.items()))
    bias = [name for name, _ in product] == ["bias"]
    if bias and factor == 2:
        return f"{scene.subject} adds {scene.product(product)} twice{_more(len(scaled))}"
    outputs = [one for one in product if one[0] == GRAD_OUTPUT]
    if outputs and factor.denominator == 1:
        place = scene.output(outputs[0])
        return f"{scene.subject} counts the contribution of {place} {_times(factor)}{_more(len(scaled))}"
    return f"the term {scene.product(product)} counts {_times(factor)} in {scene.subject}{_more(len(scaled))}"


def _times(factor: Fraction) -> str:
    return {Fraction(2): "twice"}.get(factor, f"{factor} times")


def _missing(scene: Scene, missing: Sequence[Product]) -> str:
    if [name for name, _ in missing[0]] == ["bias"]:
        return f"{scene.subject} lacks {scene.product(missing[0])}{_more(len(missing))}"
    if not missing[0]:
        return f"{scene.subject} lacks a constant"
    return f"the term {scene.product(missing[0])} is missing from {scene.subject}{_more(len(missing))}"


def _extra(scene: Scene, extra: Sequence[Product], found: Terms) -> str:
    if not extra[0]:
        return f"{scene.subject} has the constant {float(found[()]):g} added"
    return f"{scene.subject} adds {scene.product(extra[0])}, which it must not read{_more(len(extra))}"


def _more(count: int) -> str:
    return (
        f" (and {count - 1} more terms like it)" if count > 2 else " (and 1 more term like it)" * (count == 2)
    )


def _contributions(
    scene: Scene, missing: Sequence[Product], extra: Sequence[Product], own: Terms, found: Terms
) -> str:
    """Return which outputs pass no gradient on, or one that they must not; "" where it is not as simple as that."""

    def outputs(terms: Any) -> list[Element]:
        return list(dict.fromkeys(one for product in terms for one in product if one[0] == GRAD_OUTPUT))

    if not scene.operand:
        return ""
    lacking = [one for one in outputs(missing) if one not in outputs(found)]
    added = [one for one in outputs(extra) if one not in outputs(own)]
    if lacking and not extra and len(lacking) == len(missing):
        return f"{scene.lacks(lacking[0])}{_more(len(lacking))}"
    if added and not missing and len(added) == len(extra):
        return f"{scene.counts(added[0])}{_more(len(added))}"
    return ""


def _read_elsewhere(
    scene: Scene, missing: Sequence[Product], extra: Sequence[Product], own: Terms, found: Terms
) -> str:
    pairs = _pairs(missing, extra, own, found)
    if not pairs:
        return (
            f"{scene.subject} reads {scene.product(extra[0])}, which it must not, and lacks "
            f"{scene.product(missing[0])}"
        )
    whole = len(pairs) == len(missing) == len(extra)
    channels = _channels(scene, pairs) if whole and not scene.operand else ""
    if channels:
        return channels
    others, wrong, right = pairs[0]
    count = max(len(missing), len(extra))
    return (
        f"{scene.subject} reads {scene.product([wrong, *others])}; it should read {scene.name(right)}"
        f"{_more(count)}"
    )


def _pairs(
    missing: Sequence[Product], extra: Sequence[Product], own: Terms, found: Terms
) -> list[tuple[list[Element], Element, Element]]:
    """Return (common factors, wrong factor, right factor) of terms that differ in one factor of the same operand."""
    pairs, left = [], list(missing)
    for product in extra:
        for other in left:
            wrong = [one for one in product if one not in other]
            right = [one for one in other if one not in product]
            if len(wrong) == len(right) == 1 and wrong[0][0] == right[0][0] and found[product] == own[other]:
                pairs.append(([one for one in product if one in other], wrong[0], right[0]))
                left.remove(other)
                break
    return pairs


def _channels(scene: Scene, pairs: Sequence[tuple[list[Element], Element, Element]]) -> str:
    """Return which channel is read for which, where that is all that is wrong; "" where it is not."""
    axis, moves = scene.channel_axis, set()
    for _, wrong, right in pairs:
        shape = scene.shapes[wrong[0]]
        if wrong[0] != "input" or axis is None:
            return ""
        a, b = (list(map(int, np.unravel_index(i, shape))) for i in (wrong[1], right[1]))
        moves.add((a[axis], b[axis]))
        if [*a[:axis], *a[axis + 1 :]] != [*b[:axis], *b[axis + 1 :]]:
            return ""
    channels = scene.shapes["input"][axis or 0]
    per_group = channels // scene.groups
    said = []
    for one in min(moves):
        group = f" of group {one // per_group}" if scene.groups > 1 else ""
        said.append(f"channel {one % per_group if group else one}{group}")
    return f"{scene.subject} reads {said[0]} of input; it should read {said[1]}{_more_channels(len(moves))}"


def _more_channels(count: int) -> str:
    return "" if count == 1 else f" (and {count - 1} more like it)"


def _index(i: int, shape: Shape) -> str:
    """Return the index of a flat place.

    >>> _index(4, (2, 3)), _index(1, (2,)), _index(0, ())
    ('(1, 1)', '(1)', '')
    """
    return f"({', '.join(str(int(n)) for n in np.unravel_index(i, shape))})" if shape else ""
