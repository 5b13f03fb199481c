"""Instance normalization of one, two and three spatial axes, with and without running statistics.

    y[n, c, p] = (x[n, c, p] - m[n, c]) / sqrt(v[n, c] + eps) * weight[c] + bias[c]

n batch, c channel, p position. Mean m and variance v of each channel of each image are those over its positions; in
evaluation, where running statistics are tracked, the running ones. How a call changes those stands in `running_stats`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnspec.errors import ShapeError
from cnnspec.nested import Shape
from cnnspec.ops import norm
from cnnspec.ops.running_stats import ChannelNorm, spec_of


@dataclass(frozen=True)
class _InstanceNorm(ChannelNorm):
    affine: bool = False
    track_running_stats: bool = False

    over_batch = False
    sums_stored_parts = True

    @property
    def factor(self) -> float:
        """The momentum as the functional form takes it: None is 0."""
        return 0.0 if self.momentum is None else self.momentum

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input (N, C, *spatial) or (C, *spatial); ShapeError where torch refuses the call."""
        (shape,) = input_shapes
        needed = self.affine or (self.track_running_stats and (self.training or 0 not in shape))
        self.check(shape, (self.spatial + 1, self.spatial + 2), -self.spatial - 1, needed)
        self.check_many(shape, math.prod(shape[-self.spatial :]))
        if self.affine and not shape[0]:
            raise ShapeError(f"input of shape {tuple(shape)}: an empty batch can have no weight", shape=shape)
        return tuple(shape)

    def partition(self, input_shape: Shape) -> tuple[list[Sequence[int]], list[int]]:
        """Return one group for each channel of each image."""
        size, channels = math.prod(input_shape[-self.spatial :]), input_shape[-self.spatial - 1]
        return norm.rows(math.prod(input_shape), size, max(1, size), max(1, channels))


class InstanceNorm1d(_InstanceNorm):
    """Instance normalization of (N, C, L) or (C, L); see `InstanceNorm2d`."""

    spatial = 1


class InstanceNorm2d(_InstanceNorm):
    """Normalize each channel of each image over its positions, as `torch.nn.InstanceNorm2d`.

    y[n, c, p] = (x[n, c, p] - m[n, c]) / sqrt(v[n, c] + eps) * weight[c] + bias[c]
    m and v are those of the input, or the running ones in evaluation where they are tracked; `momentum=None` is 0.
    Input (N, C, H, W) or (C, H, W); weight, bias, running_mean and running_var (C,).
    Raises ArgumentError for a negative number of features, ShapeError where torch refuses the call: other channels,
    one value per channel, an empty batch beside a weight.
    Not covered: torch makes the running statistics of an empty batch NaN, here they stay; where variance and eps
    are 0, torch divides by nothing, here there is no value.
    Source: Ulyanov, Vedaldi & Lempitsky 2016, equation 7; torch's documentation for the running statistics.

    >>> half = InstanceNorm2d(1, eps=3.0).reference([[[[-1, 1]]], [[[8, 10]]]])
    >>> [[float(value) for value in image[0][0]] for image in half]
    [[-0.5, 0.5], [-0.5, 0.5]]
    """

    spatial = 2


class InstanceNorm3d(_InstanceNorm):
    """Instance normalization of (N, C, D, H, W) or (C, D, H, W); see `InstanceNorm2d`."""

    spatial = 3


SPECS = tuple(
    spec_of(operator, "instance_norm", "use_input_stats")
    for operator in (InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)
)
