"""A smooth positive part, on each element by itself.

    softplus(x) = log(1 + exp(beta x)) / beta, x where beta x > threshold

The gradient is given as the library computes it.
"""

import math
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.laws import always
from cnnspec.nested import Array
from cnnspec.op import Composed, number
from cnnspec.ops.pointwise import Pointwise, drawing, spec_of
from cnnspec.scalars import exp, log1p
from cnnspec.spec import Call, Dialect, Law


@dataclass(frozen=True)
class Softplus(Pointwise, Composed):
    """A smooth positive part, as `torch.nn.Softplus`: y = log(1 + exp(beta x)) / beta, x where beta x > threshold.

    The gradient is g exp(beta x) / (exp(beta x) + 1), g beyond the threshold.
    Not covered: beta = 0, and thresholds beyond the exponent at which exp overflows (88 in float32), where torch
    returns infinity. Source: Dugas et al., "Incorporating Second-Order Functional Knowledge", 2001.

    >>> Softplus().reference([-math.inf, 21.0])
    [0.0, 21.0]
    """

    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        self.normalise(("beta", "threshold"), number)

    def function(self, x: Any) -> Any:
        """Return x beyond the threshold, else log(1 + exp(beta x)) / beta."""
        scaled = x * self.beta
        return x if scaled > self.threshold else log1p(exp(scaled)) / self.beta

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g beyond the threshold, else g e / (e + 1) with e = exp(beta x)."""
        scaled = x * self.beta
        if scaled > self.threshold:
            return g
        e = exp(scaled)
        return g * e / (e + 1)


def _is_identity_beyond_threshold(op: Softplus, call: Call, x: Array) -> tuple[Array, Array]:
    first = max(0, math.ceil(op.threshold / op.beta)) + 1
    beyond = nested.elementwise(lambda v: abs(v) + first, x)
    return call(op, beyond), beyond


def _no_threshold(op: Softplus, *arrays: Array) -> Array:
    return Softplus(op.beta, math.inf).reference(*arrays)


SPECS = (
    spec_of(
        "softplus",
        Softplus,
        drawing(beta=(1.0, 2, 0.5, 3), threshold=(20.0, 5, 1, 30)),
        "beta",
        "threshold",
        laws=(Law("identity", "softplus is the identity", always, _is_identity_beyond_threshold),),
        dialects=(
            Dialect(
                "TensorFlow, NumPy's logaddexp", "no threshold", lambda op: op.threshold < 8, _no_threshold
            ),
        ),
    ),
)
