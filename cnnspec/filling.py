"""Values for the parameters of a network before training: each initialiser's law, drawn from one seed."""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Protocol

from cnnspec import nested
from cnnspec.blocks import Node
from cnnspec.errors import ArgumentError
from cnnspec.initialisers import Constant, Dirac, Initialiser, TruncatedNormal, default_initialiser
from cnnspec.nested import Array, Shape

Rules = Initialiser | Mapping[str, Initialiser] | None
"""One initialiser for all weights, or initialisers by name or path; None are torch's own."""

STARTS = {"running_mean": 0, "running_var": 1, ("PReLU", "weight"): 0.25}
"""What torch.nn fills buffers and the slope of PReLU with."""


class HasNodes(Protocol):
    """A network, as far as its parameters are concerned."""

    def __iter__(self) -> Iterator[Node]:
        """Yield the nodes."""
        ...


def filled(network: HasNodes, rules: Rules = None, seed: int = 0) -> dict[str, Array]:
    """Return values for all parameters and buffers of a network, those that are shared drawn once.

    Raises ArgumentError for a rule that fits no parameter.
    """
    generator = random.Random(seed)  # noqa: S311 - reproducible, not secret
    named = dict(rules) if isinstance(rules, Mapping) else {}
    used: set[str] = set()
    values: dict[str, Array] = {}
    for node in network:
        shapes = node.operator.buffer_shapes() | node.operator.parameter_shapes()
        for word, name in node.operands.items():
            if name in values:
                continue
            fitting = [path for path in named if name == path or name.startswith(f"{path}.")]
            used.update(fitting)
            if fitting:
                rule = named[max(fitting, key=len)]
            elif rules is not None and not isinstance(rules, Mapping) and len(shapes[word]) > 1:
                rule = rules
            else:
                rule = _start(type(node.operator).__name__, word)
            values[name] = draw(rule, shapes[word], generator, shapes.get("weight", shapes[word]))
    for path in named:
        if path not in used:
            raise ArgumentError(f"rules has {path!r}, which is no parameter and no path to one")
    return values


def draw(
    rule: Initialiser, shape: Shape, generator: random.Random, weight_shape: Shape | None = None
) -> Array:
    """Return an array of `shape` from an initialiser's law, that of a weight of `weight_shape` where it depends on it.

    >>> from cnnspec.initialisers import Uniform
    >>> [[value]] = draw(Uniform(2, 3), (1, 1), random.Random(0))
    >>> 2 <= value <= 3
    True
    """
    if isinstance(rule, Constant | Dirac):
        return rule.values(shape)
    law = rule.distribution(shape if weight_shape is None else weight_shape)
    low, high = map(float, law.support)
    if math.isinf(high) or isinstance(rule, TruncatedNormal):
        mean, deviation = (
            (rule.mean, rule.std)
            if isinstance(rule, TruncatedNormal)
            else (law.mean, math.sqrt(law.variance))
        )
        values = [
            _normal(float(mean), float(deviation), low, high, generator) for _ in range(math.prod(shape))
        ]
    else:
        values = [generator.uniform(low, high) for _ in range(math.prod(shape))]
    return nested.unravel(values, shape)


def _normal(mean: float, deviation: float, low: float, high: float, generator: random.Random) -> float:
    """Return a normal number of [low, high]: others are drawn again."""
    while not low <= (value := generator.gauss(mean, deviation)) <= high:
        pass
    return value


def _start(layer: str, word: str) -> Initialiser:
    """Return what torch.nn fills a parameter or a buffer with."""
    start = STARTS.get(word, STARTS.get((layer, word)))
    return default_initialiser(layer, word) if start is None else Constant(start)
