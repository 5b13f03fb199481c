"""SiLU in straight and parabolic pieces, on each element by itself.

    hardswish(x) = x min(max(x + 3, 0), 6) / 6

The slope is 0 at -3 and 1 at 3. Where x is NaN, the gradient is that of torch's scalar kernel; its vectorised one
gives NaN.
"""

from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.laws import always
from cnnspec.nested import Array
from cnnspec.op import Composed
from cnnspec.ops.pointwise import Pointwise, domain, spec_of
from cnnspec.scalars import divide
from cnnspec.spec import Call, Dialect, Law


@dataclass(frozen=True)
class Hardswish(Pointwise, Composed):
    """SiLU in pieces, as `torch.nn.Hardswish`: y = x min(max(x + 3, 0), 6) / 6.

    Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.2.

    >>> Hardswish().reference([-3, 0, 3, 6]), Hardswish().gradients([2, 2, 2], [-3, 0, 3])
    ([0, 0, 3, 6], [[0, Fraction(1, 1), 2]])
    """

    def function(self, x: Any) -> Any:
        """Return x relu6(x + 3) / 6."""
        return divide(x * min(max(x + 3, 0), 6), 6)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return 0 where x <= -3, g (2 x + 3) / 6 where x < 3, else g."""
        if x <= -3:
            return 0
        return g * divide(2 * x + 3, 6) if x < 3 else g


def _is_positive_part_of_threes(op: Hardswish, call: Call, x: Array) -> tuple[Array, Array]:
    threes = nested.elementwise(lambda v: 3 * v, x)
    return call(op, threes), nested.elementwise(lambda v: max(v, 0), threes)


def _swish_of_a_fifth(op: Hardswish, *arrays: Array) -> Array:
    return nested.elementwise(lambda x: x * min(max(x * 0.2 + 0.5, 0), 1), *arrays)


SPECS = (
    spec_of(
        "hardswish",
        Hardswish,
        domain,
        laws=(Law("threes", "hardswish(3 x) = max(3 x, 0)", always, _is_positive_part_of_threes),),
        dialects=(
            Dialect(
                "Keras 2, ONNX",
                "the hard sigmoid is x / 5 + 1 / 2, from 0 to 1",
                lambda op: True,
                _swish_of_a_fifth,
            ),
        ),
    ),
)
