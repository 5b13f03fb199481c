"""Neighbouring axes joined into one.

    y[n, j] = x[n, j // W, j % W] for an input (N, H, W) and the axes from 1 on

The elements and their order stay; so do those of the gradient.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Routing, integer
from cnnspec.spec import Pick, Spec


@dataclass(frozen=True)
class Flatten(Routing):
    """Join the axes from `start_dim` to `end_dim` into one, as `torch.nn.Flatten`.

    y[n, j] = x[n, j // W, j % W] for an input (N, H, W): the same elements in the same order, fewer axes.
    Raises ShapeError for axes that are not there or out of order.

    >>> Flatten().output_shape((8, 16, 5, 5))
    (8, 400)
    """

    start_dim: int = 1
    end_dim: int = -1

    def __post_init__(self) -> None:
        self.normalise(("start_dim", "end_dim"), integer)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape with the axes joined; ShapeError for axes that are not there or out of order."""
        (shape,) = input_shapes
        axes = max(1, len(shape))
        for name, dim in (("start_dim", self.start_dim), ("end_dim", self.end_dim)):
            if not -axes <= dim < axes:
                raise ShapeError(f"{name}={dim} is not an axis of {tuple(shape)}", **{name: dim})
        start, end = self.start_dim % axes, self.end_dim % axes
        if start > end:
            raise ShapeError(
                f"start_dim={self.start_dim} must not come after end_dim={self.end_dim} in {tuple(shape)}"
            )
        return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])

    def reference(self, *arrays: Array) -> Array:
        """Return the same elements in the same order."""
        (input,) = arrays
        return nested.unravel(nested.ravel(input), self.output_shape(nested.shape_of(input)))


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw two to five axes, and the first and last to join, counted from the front or the back."""
    shape = tuple(pick.integer(1, 5) for _ in range(pick.integer(2, 5)))
    start = pick.integer(0, len(shape) - 1)
    end = pick.integer(start, len(shape) - 1)
    arguments = {
        "start_dim": start - pick.choice((0, len(shape))),
        "end_dim": end - pick.choice((0, len(shape))),
    }
    return {name: dim for name, dim in arguments.items() if dim != getattr(Flatten, name)}, (shape,)


SPECS = (
    Spec(
        name="flatten",
        operator=Flatten,
        operands=("input",),
        keywords=("start_dim", "end_dim"),
        domain=domain,
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
        layer="Flatten",
    ),
)
