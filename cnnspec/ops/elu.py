"""A line that bends into an exponential, on each element by itself.

    elu(x) = x where x >= 0, else alpha (exp(x) - 1)

The gradient is given as the library computes it; the slope at 0 is alpha. Where x is NaN, g is passed on as torch's
scalar kernel does; its vectorised one gives NaN.
"""

from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.laws import always
from cnnspec.nested import Array
from cnnspec.op import Composed, number
from cnnspec.ops.pointwise import Pointwise, drawing, spec_of
from cnnspec.scalars import exp, expm1
from cnnspec.spec import Call, Law


@dataclass(frozen=True)
class ELU(Pointwise, Composed):
    """A line that bends into an exponential, as `torch.nn.ELU`: y = x where x >= 0, else alpha (exp(x) - 1).

    Source: Clevert, Unterthiner, Hochreiter, "Fast and Accurate Deep Network Learning by ELUs", 2016, section 3.

    >>> ELU(2.0).reference([0.0, 3.0, float("-inf")])
    [0.0, 3.0, -2.0]
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        self.normalise(("alpha",), number)

    def function(self, x: Any) -> Any:
        """Return x where it is not negative, else alpha (exp(x) - 1)."""
        return x if x >= 0 else expm1(x) * self.alpha

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g alpha exp(x) where x <= 0, else g."""
        return g * self.alpha * exp(x) if x <= 0 else g


def _is_identity_on_positive(op: ELU, call: Call, x: Array) -> tuple[Array, Array]:
    size = nested.elementwise(abs, x)
    return call(op, size), size


SPECS = (
    spec_of(
        "elu",
        ELU,
        drawing(alpha=(1.0, 0.5, 2, 0.1, -1.5)),
        "alpha",
        laws=(Law("identity", "elu(|x|) = |x|", always, _is_identity_on_positive),),
    ),
)
