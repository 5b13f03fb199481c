"""Global average pooling: the mean of each channel.

    y[n, c] = sum_i x[n, c, i] / I        dx[n, c, i] = dy[n, c] / I

n batch, c channel, i one of the I pixels. The loops, their gradients and bounds stand in `cnnspec.ops.pooling`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.laws import always
from cnnspec.nested import Array, Shape
from cnnspec.ops.pooling import Mean, Regions, draw_shape
from cnnspec.spec import Call, Law, Pick, Spec


@dataclass(frozen=True)
class GlobalAvgPool(Mean):
    """Mean of each channel, as `torch.nn.AdaptiveAvgPool2d(1)`: the spatial axes stay, with one element each.

    y[n, c] = sum_i x[n, c, i] / I for an input (N, C, *spatial) of 1, 2 or 3 spatial axes and I pixels.
    Raises ShapeError for another number of axes, or where an axis but the batch is empty.
    Source: Lin, Chen, Yan, "Network in network", 2014, section 3.2.

    >>> GlobalAvgPool().reference([[[[1, 2], [3, 6]]]])
    [[[[3]]]]
    """

    divisions = 2  # multiplying by a reciprocal that is rounded as well

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, 1, ...)."""
        (shape,) = input_shapes
        if len(shape) not in (3, 4, 5) or 0 in shape[1:]:
            raise ShapeError(
                f"input of shape {tuple(shape)} must be (batch, channels, 1 to 3 spatial axes), only the batch empty",
                shape=shape,
            )
        return (*shape[:2], *[1] * (len(shape) - 2))

    def spatial_axes(self, input_shape: Shape) -> int:
        """Return how many of the last axes are spatial: all but batch and channels."""
        return len(input_shape) - 2

    def regions(self, sizes: Shape) -> Regions:
        """Return the only region, all of a channel."""
        return [range(math.prod(sizes))]

    def divisors(self, input_shape: Shape) -> list[int]:
        """Return the number of pixels for each channel of each image."""
        return [math.prod(input_shape[2:])] * math.prod(input_shape[:2])


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw images of one, two and three axes."""
    axes = pick.choice((2, 1, 3))
    sizes = [pick.integer(1, 9 if axes < 3 else 4) for _ in range(axes)]
    shape = draw_shape(pick, sizes)
    return {}, (shape if len(shape) > len(sizes) + 1 else (1, *shape),)


# Laws


def _pixels_in_any_order(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    shape = nested.shape_of(x)
    backwards = nested.unravel(
        [pixel for image in nested.collapse(x, 2) for row in image for pixel in row[::-1]], shape
    )
    return call(op, backwards), call(op, x)


def _twice_the_image(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    return call(op, nested.concatenate([x, x], len(nested.shape_of(x)) - 1)), call(op, x)


LAWS = (
    Law("order", "the pixels in reverse have the same mean", always, _pixels_in_any_order),
    Law("repetition", "an image beside itself has the same mean", always, _twice_the_image),
)


SPECS = (
    Spec(
        name="global_avg_pool",
        operator=GlobalAvgPool,
        operands=("input",),
        keywords=(),
        domain=domain,
        laws=LAWS,
        twice=True,
    ),
)
