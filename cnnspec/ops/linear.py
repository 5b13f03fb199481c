"""The fully connected layer.

    y[..., o] = b[o] + sum_i x[..., i] * w[o, i]

o output feature, i input feature; the leading axes are those of a batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.laws import LINEARITY
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, integer
from cnnspec.ops import large
from cnnspec.spec import Call, Law, Pick, Spec


@dataclass(frozen=True)
class Linear(Operator):
    """Multiply the last axis by a matrix, as `torch.nn.Linear`.

    y[..., o] = b[o] + sum_i x[..., i] * w[o, i]
    Input (..., in_features); weight (out_features, in_features); bias (out_features,).
    Raises ArgumentError for negative sizes, ShapeError where the last axis is not `in_features` long.

    >>> Linear(256, 200).parameter_count
    51400
    >>> Linear(2, 1).reference([1, 2], [[10, 100]], [5])
    [215]
    """

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        self.normalise(("in_features", "out_features"), integer)
        for name, size in (("in_features", self.in_features), ("out_features", self.out_features)):
            if size < 0:
                raise ArgumentError(f"{name}={size} must not be negative", **{name: size})

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (out_features, in_features), "bias": (out_features,)}."""
        shapes: dict[str, Shape] = {"weight": (self.out_features, self.in_features)}
        return {**shapes, "bias": (self.out_features,)} if self.bias else shapes

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (..., out_features); ShapeError where the last axis is not `in_features` long."""
        (shape,) = input_shapes
        if not shape or shape[-1] != self.in_features:
            raise ShapeError(
                f"the last axis of {tuple(shape)} must be in_features={self.in_features}", shape=shape
            )
        return (*shape[:-1], self.out_features)

    def macs(self, *input_shapes: Shape) -> int:
        """Return one product per output element and input feature."""
        return math.prod(self.output_shape(*input_shapes)) * self.in_features

    def bias_adds(self, *input_shapes: Shape) -> int:
        """Return one addition per output element where there is a bias."""
        return math.prod(self.output_shape(*input_shapes)) if self.bias else 0

    def reference(self, *arrays: Array) -> Array:
        """Return y of x (..., in_features), weight and bias, on any numbers."""
        input, *parameters = arrays
        weight, *bias = self.check_parameters(parameters)
        shape = nested.shape_of(input)
        output = self.output_shape(shape)
        x, b = nested.ravel(input), nested.ravel(bias[0]) if bias else None
        w = nested.collapse(weight, 1)
        y = []
        for row in range(math.prod(shape[:-1])):
            features = x[row * self.in_features : (row + 1) * self.in_features]
            for o in range(self.out_features):
                total = b[o] if b else 0
                for i in range(self.in_features):
                    total = total + features[i] * w[o][i]
                y.append(total)
        return nested.unravel(y, output)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradients of input, weight and bias, over all rows r of the leading axes.

        dx[r, i] = sum_o dy[r, o] w[o, i]     dw[o, i] = sum_r dy[r, o] x[r, i]     db[o] = sum_r dy[r, o]

        >>> Linear(2, 1).gradients([10], [1, 2], [[3, 4]], [0])
        [[30, 40], [[10, 20]], [10]]
        """
        input, weight, *_ = operands
        shape, features, outputs = nested.shape_of(input), range(self.in_features), range(self.out_features)
        rows = range(math.prod(shape[:-1]))
        x, w, dy = nested.ravel(input), nested.ravel(weight), nested.ravel(grad_output)
        dx: list[Any] = [0] * len(x)
        dw: list[Any] = [0] * len(w)
        db: list[Any] = [0] * self.out_features
        for r in rows:
            for o in outputs:
                d = dy[r * self.out_features + o]
                db[o] = db[o] + d
                for i in features:
                    at, weight_at = r * self.in_features + i, o * self.in_features + i
                    dx[at] = dx[at] + d * w[weight_at]
                    dw[weight_at] = dw[weight_at] + d * x[at]
        gradients = [nested.unravel(dx, shape), nested.unravel(dw, nested.shape_of(weight))]
        return [*gradients, *([db] if self.bias else [])]


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw features around the widths of vector registers; no leading axis to three, empty ones too."""
    sizes = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100)
    features, outputs = pick.choice(sizes), pick.choice(sizes[:14])
    leading: Shape = pick.choice(((1,), (2,), (), (3,), (0,), (2, 3), (5, 1, 2), (16,)))
    arguments = {"in_features": features, "out_features": outputs}
    if pick.choice((False, True)):
        arguments["bias"] = False
    return arguments, ((*leading, features),)


def _transposed_product(op: Linear, call: Call, x: Array, weight: Array, *bias: Array) -> tuple[Array, Array]:
    """(W X^T)^T: rows and columns change places, which a kernel that mixes them up does not survive."""
    plain, swapped = Linear(op.in_features, op.out_features, False), Linear(op.in_features, len(x), False)
    return call(plain, x, weight), nested.permute(call(swapped, weight, x), (1, 0))


LAWS = (
    LINEARITY,
    Law(
        "transpose",
        "X W^T = (W X^T)^T",
        lambda op, shapes: len(shapes[0]) == 2 and shapes[0][0] > 0,
        _transposed_product,
    ),
)

SPECS = (
    Spec(
        name="linear",
        operator=Linear,
        operands=("input", "weight", "bias"),
        keywords=(),
        domain=domain,
        laws=LAWS,
        layer="Linear",
        twice=True,
        large=large.linear,
    ),
)
