"""The mean square error, and what all losses share: the reduction of a loss per element to one number.

    mse_loss: l_i = (x_i - t_i)^2

The reduction "none" returns l, "sum" its sum, "mean" the sum divided by the number of elements, NaN where there
is none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, without_defaults
from cnnspec.ops import pointwise
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import divide
from cnnspec.spec import Call, Dialect, Law, Pick, Spec

REDUCTIONS = ("mean", "sum", "none")


class Loss(Operator):
    """A loss per element, reduced."""

    reduction: str

    def reduced_shape(self, shape: Shape) -> Shape:
        """Return `shape`, () where the reduction is to one number; ShapeError for an unknown reduction."""
        if self.reduction not in REDUCTIONS:
            raise ShapeError(f"reduction={self.reduction!r} is not one of {', '.join(REDUCTIONS)}")
        return shape if self.reduction == "none" else ()


def reduced(losses: list[Any], divisor: Any, reduction: str, shape: Shape) -> Array:
    """Return the losses, their sum, or their sum divided; NaN where the divisor is the 0 of no losses."""
    if reduction == "none":
        return nested.unravel(losses, shape)
    if reduction == "mean" and isinstance(divisor, int) and divisor == 0:
        return math.nan
    total: Any = 0
    for loss in losses:
        total = total + loss
    return divide(total, divisor) if reduction == "mean" else total


@dataclass(frozen=True)
class MSELoss(Loss):
    """The mean square error, as `torch.nn.MSELoss`: the mean (or sum, or each) of (x_i - t_i)^2; NaN of nothing.

    Input and target of one shape. Raises ShapeError where they differ, and for an unknown reduction.
    Not covered: shapes that differ and fit by broadcasting, of which torch warns.

    >>> MSELoss().reference([1, 2], [1, 5]), MSELoss().gradients(2, [1, 2], [1, 5])
    (Fraction(9, 2), [[0, -6], [0, 6]])
    """

    reduction: str = "mean"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return () or, for the reduction "none", the shape of the input."""
        shape, target_shape = map(tuple, input_shapes)
        if shape != target_shape:
            raise ShapeError(
                f"target of shape {target_shape} must have the input's, {shape}", shape=target_shape
            )
        return self.reduced_shape(shape)

    def reference(self, *arrays: Array) -> Array:
        """Return the loss of input and target."""
        input, target = arrays
        shape = self.output_shape(nested.shape_of(input), nested.shape_of(target))
        squares = [(x - t) * (x - t) for x, t in zip(nested.ravel(input), nested.ravel(target), strict=True)]
        return reduced(squares, len(squares), self.reduction, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return 2 (x_i - t_i) g / n for the input, and minus that for the target."""
        input, target = operands
        g, shape = nested.ravel(grad_output), nested.shape_of(input)
        values = list(zip(nested.ravel(input), nested.ravel(target), strict=True))
        n = len(values) if self.reduction == "mean" else 1
        gx = [
            divide(2 * (x - t) * (g[i] if self.reduction == "none" else g[0]), n)
            for i, (x, t) in enumerate(values)
        ]
        return [nested.unravel(gx, shape), nested.unravel([-value for value in gx], shape)]

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return the loss itself, for it sums what is not negative, and its roundings.

        A difference rounds once and counts twice in its square; a product, n - 1 additions, a division, and one
        for O(u^2).
        """
        values, n = nested.ravel(self.reference(*arrays)), math.prod(nested.shape_of(arrays[0]))
        count = 4 if self.reduction == "none" else 4 + n
        sums = [value * n for value in values] if self.reduction == "mean" else values
        return RoundingTerms(values, [count] * len(values), reach=sums)

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return |gradient| and a difference, 2 / n, two products, and one for O(u^2).

        A difference may overflow when it is doubled.
        """
        (gx, _), (x, t) = self.gradients(grad_output, *operands), map(nested.ravel, operands)
        sizes = [abs(value) for value in nested.ravel(gx)]
        doubled = [2 * abs(a - b) for a, b in zip(x, t, strict=True)]
        return [RoundingTerms(sizes, [5] * len(sizes), reach=doubled)] * 2


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw any shape, empty ones too, and a reduction."""
    _, (shape,) = pointwise.domain(pick)
    return without_defaults(MSELoss, {"reduction": pick.choice(REDUCTIONS)}), (shape, shape)


def _exchanged(op: MSELoss, call: Call, x: Array, target: Array) -> tuple[Array, Array]:
    return call(op, x, target), call(op, target, x)


def _half_mean_over_batch(op: MSELoss, x: Array, target: Array) -> Array:
    return divide(MSELoss("sum").reference(x, target), 2 * (nested.shape_of(x) or (1,))[0])


SPECS = (
    Spec(
        name="mse_loss",
        operator=MSELoss,
        operands=("input", "target"),
        inputs=("input", "target"),
        keywords=("reduction",),
        domain=domain,
        laws=(Law("symmetry", "mse(x, t) = mse(t, x)", lambda op, shapes: 0 not in shapes[0], _exchanged),),
        judged="function",
        layer="MSELoss",
        dialects=(
            Dialect(
                "Caffe",
                "the sum is divided by twice the size of the first axis",
                lambda op: op.reduction == "mean",
                _half_mean_over_batch,
            ),
        ),
    ),
)
