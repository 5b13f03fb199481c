"""Seeded decisions, cases of an operator's domain, and integer data for them."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cnnspec import nested, ops
from cnnspec.cases import Case
from cnnspec.nested import Array, Shape

T = TypeVar("T")


class Seeded:
    """A `cnnspec.spec.Pick` that asks a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def choice(self, options: Sequence[T]) -> T:
        return self.rng.choice(options)

    def maybe(self, probability: float, rare: T, usual: T) -> T:
        return rare if self.rng.random() < probability else usual

    def shape(self, axes: int, sizes: Sequence[int] = (0, 1, 2, 3)) -> Shape:
        return tuple(self.choice(sizes) for _ in range(axes))


@dataclass
class Draw:
    """One operator of a domain, the shapes of its inputs, and integers for its operands."""

    name: str
    arguments: dict[str, Any]
    inputs: tuple[Shape, ...]
    seed: int

    @property
    def op(self) -> Any:
        return ops.spec(self.name).operator(**self.arguments)

    @property
    def output_shape(self) -> Shape:
        shape: Shape = self.op.output_shape(*self.inputs)
        return shape

    def operands(self, largest: int = 9) -> list[Array]:
        """Return nested lists of integers, or of what the operator fills an operand with, in the order of the call."""
        rng, spec = random.Random(self.seed), ops.spec(self.name)
        shapes = Case(self.name, self.arguments, self.inputs).operand_shapes()
        values = {name: integers(rng, shape, largest) for name, shape in shapes.items()}
        for name, fill in spec.fill.items():
            if name not in shapes:
                continue
            values[name] = nested.unravel(fill(self.op, shapes, rng), shapes[name])
        return list(values.values())


def integers(rng: random.Random, shape: Shape, largest: int = 9) -> Array:
    """Return a nested list of integers between -largest and largest."""
    return nested.unravel([rng.randint(-largest, largest) for _ in range(math.prod(shape))], shape)


def draws(name: str, count: int, cost: int = 6000, *, empty: bool = True) -> Iterator[Draw]:
    """Yield `count` cases of an operator's domain whose loops take at most `cost` steps, empty ones if wanted."""
    domain, seed = ops.spec(name).domain, 0
    while count:
        seed += 1
        arguments, inputs = domain(Seeded(seed))
        draw = Draw(name, dict(arguments), inputs, seed)
        if math.prod(inputs[0]) > cost or draw.op.macs(*inputs) > cost or (0 in inputs[0] and not empty):
            continue
        count -= 1
        yield draw
