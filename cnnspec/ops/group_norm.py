"""Group normalization: statistics of groups of neighbouring channels, of each image alone.

    y[n, c, p] = (x[n, c, p] - m) / sqrt(v + eps) * weight[c] + bias[c]

n image, c channel, p position. Mean m and biased variance v are those of the num_channels / num_groups channels of c's
group and their positions. Training and evaluation do the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Shape
from cnnspec.op import integer, without_defaults
from cnnspec.ops import norm
from cnnspec.spec import Pick, Spec


@dataclass(frozen=True)
class GroupNorm(norm.Norm):
    """Normalize groups of channels of each image, as `torch.nn.GroupNorm`.

    y[n, c, p] = (x[n, c, p] - m[n, group of c]) / sqrt(v[n, group of c] + eps) * weight[c] + bias[c]
    Input (N, num_channels, ...); weight and bias (num_channels,). One group is layer normalization over all but the
    batch, as many as channels are instance normalization.
    Raises ArgumentError where num_groups does not divide num_channels, ShapeError where torch refuses the call:
    other channels, a negative num_groups, a batch whose every group is one element.
    Not covered: where variance and eps are 0 there is no value.
    Source: Wu & He 2018, equations 1, 2, 6 and 7.

    >>> norm = GroupNorm(2, 4, eps=3.0, affine=False)
    >>> [float(value[0]) for value in norm.reference([[[-1], [1], [4], [6]]])[0]]
    [-0.5, 0.5, -0.5, 0.5]
    """

    num_groups: int
    num_channels: int
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        self.normalise(("num_groups", "num_channels"), integer)
        if self.num_groups == 0 or self.num_channels % self.num_groups:
            raise ArgumentError(
                f"num_groups={self.num_groups} must divide num_channels={self.num_channels}",
                num_groups=self.num_groups,
                num_channels=self.num_channels,
            )
        if self.affine and self.num_channels < 0:
            raise ArgumentError(
                f"num_channels={self.num_channels} must not be negative", num_channels=self.num_channels
            )

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (num_channels,), "bias": (num_channels,)}, those that there are."""
        names = ("weight", "bias") if self.bias else ("weight",)
        return dict.fromkeys(names if self.affine else (), (self.num_channels,))

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input (N, C, ...); ShapeError where torch refuses the call."""
        (shape,) = input_shapes
        if len(shape) < 2:
            raise ShapeError(f"input of shape {tuple(shape)} must have at least 2 axes", shape=shape)
        groups, channels = self.num_groups, shape[1]
        if groups < 0 or channels % groups:
            raise ShapeError(
                f"num_groups={groups} must be positive and divide the {channels} channels of {tuple(shape)}",
                num_groups=groups,
            )
        if self.affine and channels != self.num_channels:
            raise ShapeError(
                f"the {channels} channels of {tuple(shape)} must be num_channels={self.num_channels}",
                num_channels=self.num_channels,
            )
        if shape[0] * channels // groups * math.prod(shape[2:]) == 1:
            raise ShapeError(f"input of shape {tuple(shape)} has one value per group", shape=shape)
        return tuple(shape)

    def partition(self, input_shape: Shape) -> tuple[list[Sequence[int]], list[int]]:
        """Return one group for each group of channels of each image."""
        size, channels = math.prod(input_shape[2:]), input_shape[1]
        length = channels // self.num_groups * size
        return norm.rows(math.prod(input_shape), length, max(1, size), max(1, channels))


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw one group, groups of one channel, and between; no spatial axis to three; empty batches."""
    groups = pick.choice((1, 2, 3, 4, 5, 8))
    channels = groups * pick.choice((1, 2, 3, 4, 7))
    sizes = [pick.choice((2, 1, 3, 4, 5)) for _ in range(pick.choice((2, 1, 0, 3)))]
    batch = pick.choice((1, 2, 3, 0))
    while math.prod((batch, channels, *sizes)) > 1000:
        sizes[sizes.index(max(sizes))] -= 1
    if batch * channels // groups * math.prod(sizes) == 1:
        batch = 2
    affine = pick.choice((True, True, False))
    arguments = {
        "num_groups": groups,
        "num_channels": channels,
        "eps": pick.choice(norm.EPS),
        "affine": affine,
        "bias": not affine or pick.choice((True, True, False)),
    }
    return without_defaults(GroupNorm, arguments), ((batch, channels, *sizes),)


SPECS = (
    Spec(
        name="group_norm",
        operator=GroupNorm,
        operands=("input", "weight", "bias"),
        keywords=("num_groups", "eps"),
        order=("input", "num_groups", "weight", "bias"),
        domain=domain,
        laws=norm.LAWS,
        judged="function",
        layer="GroupNorm",
        dialects=norm.DIALECTS,
    ),
)
