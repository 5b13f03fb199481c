"""A network end to end, every node correctly rounded: what its output is compared with, as information.

Errors of an implementation compound along the depth, so no bound is claimed for the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import exact, ops
from cnnspec.bounds import FORMATS
from cnnspec.exact import Exact
from cnnspec.exact.sums import round_to
from cnnspec.graph import Network
from cnnspec.spelling import spec_name

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Distance:
    """How far an output is from the chain's: the largest difference, and the largest element of the chain's."""

    largest: float
    size: float

    def __str__(self) -> str:
        share = self.largest / self.size if self.size else 0.0
        return f"end to end off by {self.largest:.2g}, {share:.2g} of the largest output"


def chained(network: Network, values: Mapping[str, Values], dtype: str) -> dict[str, Values]:
    """Return the value of every node, each the exact result of rounded ones, rounded once.

    values: inputs, parameters and buffers by name, as float64 arrays of numbers of the format `dtype`

    >>> from cnnspec.blocks import Seq
    >>> from cnnspec.ops.linear import Linear
    >>> net = Network(Seq(fc=Linear(2, 1, bias=False)))
    >>> given = {"input": np.array([[1.0, 2.0**-30]]), "fc.weight": np.array([[1.0, 1.0]])}
    >>> chained(net, given, "float32")["fc"], chained(net, given, "float64")["fc"] - 1
    (array([[1.]]), array([[9.31322575e-10]]))
    """
    known = dict(values)
    for node in network:
        known_as = ops.spec(spec_name(node.operator) or "")
        inputs = [known[name] for name in node.inputs]
        operands = dict(zip(known_as.input_names(len(inputs)), inputs, strict=False))
        operands |= {word: known[name] for word, name in node.operands.items()}
        known[node.name] = _rounded(exact.evaluate(known_as, node.operator, operands), dtype)
    return {name: known[name] for name in network.nodes}


def distance(found: Values, wanted: Values) -> Distance:
    """Return how far an output is from that of a chain, over the elements where both are finite."""
    finite = np.isfinite(found) & np.isfinite(wanted)
    sizes, off = np.abs(wanted[finite]), np.abs(found[finite] - wanted[finite])
    return Distance(float(off.max(initial=0.0)), float(sizes.max(initial=0.0)))


def _rounded(right: Exact, dtype: str) -> Values:
    """Return exact results as numbers of a format."""
    if right.copies is not None:
        return np.asarray(right.copies, float).reshape(right.shape)
    value = round_to(right.near.value, FORMATS[dtype]).astype(float)
    for place, one in right.special.items():
        value[place] = one
    return np.asarray(value).reshape(right.shape)
