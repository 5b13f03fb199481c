"""Batch normalization of one, two and three spatial axes, with and without running statistics.

    y[n, c, p] = (x[n, c, p] - m[c]) / sqrt(v[c] + eps) * weight[c] + bias[c]

n batch, c channel, p position. Mean m and variance v of each channel are those over batch and positions; in evaluation,
where running statistics are tracked, the running ones. How a call changes those stands in `running_stats`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnspec.errors import ShapeError
from cnnspec.nested import Shape
from cnnspec.ops.running_stats import ChannelNorm, spec_of


@dataclass(frozen=True)
class _BatchNorm(ChannelNorm):
    over_batch = True

    @property
    def factor(self) -> float:
        """The momentum as the functional form takes it: None is 1 on a layer's first call."""
        return 1.0 if self.momentum is None else self.momentum

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input (N, C, *spatial); ShapeError where torch refuses the call."""
        (shape,) = input_shapes
        needed = (self.affine or self.track_running_stats) and 0 not in shape
        self.check(shape, (2, 3) if self.spatial == 1 else (self.spatial + 2,), 1, needed)
        self.check_many(shape, shape[0] * math.prod(shape[2:]))
        if self.eps < 0 or (self.from_batch and self.eps == 0):
            raise ShapeError(f"eps={self.eps} must be positive, or 0 beside running statistics", eps=self.eps)
        return tuple(shape)

    def partition(self, input_shape: Shape) -> tuple[list[Sequence[int]], list[int]]:
        """Return one group for each channel."""
        batch, channels, size = input_shape[0], input_shape[1], math.prod(input_shape[2:])
        places = [c for _ in range(batch) for c in range(channels) for _ in range(size)]
        groups = [
            [(n * channels + c) * size + p for n in range(batch) for p in range(size)]
            for c in range(channels)
        ]
        return [*groups], places


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L); see `BatchNorm2d`."""

    spatial = 1


class BatchNorm2d(_BatchNorm):
    """Normalize each channel over the batch and its positions, as `torch.nn.BatchNorm2d`.

    y[n, c, p] = (x[n, c, p] - m[c]) / sqrt(v[c] + eps) * weight[c] + bias[c]
    m and v are the mean and the biased variance of the input while `training`, or where no running statistics are
    tracked; else the running ones. `momentum=None` is the cumulative average, here that of a layer's first call.
    Input (N, C, H, W); weight, bias, running_mean and running_var (C,). `training` is the mode of the layer.
    Raises ArgumentError for a negative number of features, ShapeError where torch refuses the call: other channels,
    one value per channel in training, an eps that is not positive.
    Source: Ioffe & Szegedy 2015, algorithm 1; torch's documentation for the running statistics.

    >>> norm = BatchNorm2d(1, eps=1.0)
    >>> norm.reference([[[[5, 8]]]], [2], [8], [6], [1]) == [[[[7, 13]]]]
    True
    >>> norm.parameter_count, norm.buffer_shapes()
    (2, {'running_mean': (1,), 'running_var': (1,)})
    """

    spatial = 2


class BatchNorm3d(_BatchNorm):
    """Batch normalization of (N, C, D, H, W); see `BatchNorm2d`."""

    spatial = 3


SPECS = tuple(
    spec_of(operator, "batch_norm", "training") for operator in (BatchNorm1d, BatchNorm2d, BatchNorm3d)
)
