"""A line with a bend at 0, on each element by itself.

    leaky_relu(x) = x where x > 0, else slope x

The slope at 0 is that of the negative numbers.
"""

from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed, number
from cnnspec.ops.pointwise import Pointwise, drawing, negated, spec_of
from cnnspec.spec import Call, Dialect, Law


@dataclass(frozen=True)
class LeakyReLU(Pointwise, Composed):
    """A line with a bend at 0, as `torch.nn.LeakyReLU`: y = x where x > 0, else negative_slope x.

    Source: Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.

    >>> LeakyReLU(0.25).reference([-2, 3]), LeakyReLU(0.25).gradients([1, 1, 1], [-2, 0, 3])
    ([-0.5, 3], [[0.25, 0.25, 1]])
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        self.normalise(("negative_slope",), number)

    def function(self, x: Any) -> Any:
        """Return x where it is positive, else negative_slope x."""
        return x if x > 0 else x * self.negative_slope

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g where x is positive, else negative_slope g."""
        return g if x > 0 else g * self.negative_slope


def _leaky_parts(op: LeakyReLU, call: Call, x: Array) -> tuple[Array, Array]:
    odd = nested.elementwise(lambda a, b: a - b, call(op, x), call(op, negated(x)))
    return odd, nested.elementwise(lambda v: v + v * op.negative_slope, x)


def _has_short_slope(op: LeakyReLU, shapes: tuple[Shape, ...]) -> bool:
    return float(8 * op.negative_slope).is_integer() and abs(op.negative_slope) <= 2


def _other_slope(name: str, slope: float) -> Dialect:
    return Dialect(
        name,
        f"the slope is {slope} where none is given",
        lambda op: op.negative_slope == LeakyReLU.negative_slope,
        lambda op, x: LeakyReLU(slope).reference(x),
    )


SPECS = (
    spec_of(
        "leaky_relu",
        LeakyReLU,
        drawing(negative_slope=(0.01, 0.25, 0.2, 0.3, 0, -0.5, 1.5)),
        "negative_slope",
        laws=(Law("parts", "f(x) - f(-x) = (1 + slope) x", _has_short_slope, _leaky_parts),),
        dialects=(_other_slope("Keras", 0.3), _other_slope("TensorFlow", 0.2)),
    ),
)
