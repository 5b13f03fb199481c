"""Dropout: in training each element is dropped with probability p, and what is kept is divided by 1 - p.

y_i = x_i                       in evaluation
y_i = x_i k_i / (1 - p)         in training, k_i 0 with probability p, else 1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from cnnspec import nested
from cnnspec.errors import ArgumentError
from cnnspec.laws import always, replaced
from cnnspec.nested import Array, Shape
from cnnspec.op import Routing, without_defaults
from cnnspec.scalars import constant, divide
from cnnspec.spec import Call, Law, Pick, Spec


@dataclass(frozen=True)
class Dropout(Routing):
    """Drop elements at random, as `torch.nn.Dropout`: y = x in evaluation, y = x k / (1 - p) while `training`.

    Input of any shape. Which elements are kept is up to the generator: `reference` takes the mask k as a second
    operand, all ones where it is left out.
    Raises ArgumentError for a p that is not between 0 and 1; NaN too, which torch refuses in training alone.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, section 10 for the division in training.

    >>> Dropout(0.75, training=True).reference([1, 2, 3], [1, 0, 1]) == [4, 0, 12]
    True
    """

    p: float = 0.5
    training: bool = False

    def __post_init__(self) -> None:
        p: Any = self.p
        if not isinstance(p, Real) or not 0 <= float(p) <= 1:
            raise ArgumentError(f"p={p!r} must be between 0 and 1", p=p)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = input_shapes
        return tuple(shape)

    def reference(self, *arrays: Array) -> Array:
        """Return x in evaluation; in training x / (1 - p) where the mask is 1, and 0 elsewhere."""
        input, *mask = arrays
        if not self.training:
            return nested.elementwise(lambda value: value, input)
        kept = mask[0] if mask else nested.elementwise(lambda value: int(self.p < 1), input)
        return nested.elementwise(self._element, input, kept)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return g in evaluation, in training g k / (1 - p); None for the mask."""
        _, *mask = operands
        return [self.reference(grad_output, *mask), *(None for _ in mask)]

    def _element(self, x: Any, kept: Any) -> Any:
        if not kept:
            return 0
        return x * divide(1, 1 - constant(self.p, x))


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw evaluation, any p and any shape of up to four axes."""
    p = pick.choice((0.5, 0.25, 0.75, 0.1, 0.0, 1.0))
    shape = (
        *(pick.choice((1, 2, 3, 5)) for _ in range(pick.integer(0, 3))),
        pick.choice((1, 2, 7, 8, 17, 33, 0)),
    )
    return without_defaults(Dropout, {"p": p}), (shape,)


def _kept_or_zero(op: Dropout, call: Call, x: Array) -> tuple[Array, Array]:
    """Whatever the mask, y is x / (1 - p) or 0; 1 - p is a power of two, so that the quotient is exact."""
    training = replaced(op, p=0.75 if op.p > 0.5 else 0.5, training=True)
    y = call(training, x)
    scaled = training.reference(x)
    return y, nested.elementwise(lambda value, kept: kept if value == kept else 0, y, scaled)


def _nothing_dropped(op: Dropout, call: Call, x: Array) -> tuple[Array, Array]:
    return call(replaced(op, p=0.0, training=True), x), x


def _all_dropped(op: Dropout, call: Call, x: Array) -> tuple[Array, Array]:
    return call(replaced(op, p=1.0, training=True), x), nested.elementwise(lambda value: 0, x)


SPECS = (
    Spec(
        name="dropout",
        operator=Dropout,
        operands=("input",),
        keywords=("p", "training"),
        domain=domain,
        laws=(
            Law("mask", "in training each element is x / (1 - p) or 0", always, _kept_or_zero),
            Law("none", "in training with p = 0 nothing is dropped", always, _nothing_dropped),
            Law("all", "in training with p = 1 all is dropped", always, _all_dropped),
        ),
        judged="copy",
        layer="Dropout",
    ),
)
