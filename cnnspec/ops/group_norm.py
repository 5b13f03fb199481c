"""Group and layer normalization: statistics of each image alone, over groups of channels or over the last axes.

    y = (x - m) / sqrt(v + eps) * weight + bias

Group normalization takes mean m and biased variance v of each group of num_channels / num_groups neighbouring
channels of an image, with a weight for each channel; layer normalization those of everything that shares its leading
indices, with a weight for each element of `normalized_shape`. Training and evaluation do the same.
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


@dataclass(frozen=True)
class LayerNorm(norm.Norm):
    """Normalize the last axes, as `torch.nn.LayerNorm`.

    y[..., i] = (x[..., i] - m[...]) / sqrt(v[...] + eps) * weight[i] + bias[i], i an index of `normalized_shape`
    Input (..., *normalized_shape); weight and bias of `normalized_shape`, which may be an integer.
    Raises ArgumentError for a negative size beside a weight, ShapeError where the last axes are others, or none.
    Not covered: where variance and eps are 0 there is no value.
    Source: Ba, Kiros & Hinton 2016, equations 3 and 4; the axes as in torch's documentation.

    >>> [float(value) for value in LayerNorm(2, eps=3.0).reference([4, 6], [1, 10], [0, 1])]
    [-0.5, 6.0]
    """

    normalized_shape: int | tuple[int, ...]
    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.normalized_shape, list | tuple):
            object.__setattr__(self, "normalized_shape", (self.normalized_shape,))
        self.normalise(("normalized_shape",), lambda name, sizes: tuple(integer(name, n) for n in sizes))
        if self.elementwise_affine and any(size < 0 for size in self._normalized):
            raise ArgumentError(
                f"normalized_shape={self._normalized} must not be negative", normalized_shape=self._normalized
            )

    @property
    def _normalized(self) -> Shape:
        sizes = self.normalized_shape
        return sizes if isinstance(sizes, tuple) else (sizes,)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": normalized_shape, "bias": normalized_shape}, those that there are."""
        names = ("weight", "bias") if self.bias else ("weight",)
        return dict.fromkeys(names if self.elementwise_affine else (), self._normalized)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError unless its last axes are `normalized_shape`."""
        (shape,) = input_shapes
        last = tuple(shape[max(0, len(shape) - len(self._normalized)) :])
        if not self._normalized or last != self._normalized:
            raise ShapeError(
                f"the last axes of {tuple(shape)} must be normalized_shape={self._normalized}, at least one",
                normalized_shape=self._normalized,
            )
        return tuple(shape)

    def partition(self, input_shape: Shape) -> tuple[list[Sequence[int]], list[int]]:
        """Return one group for each leading index."""
        length = math.prod(self._normalized)
        return norm.rows(math.prod(input_shape), length, 1, max(1, length))


EPS = (1e-5, 1e-3, 0.5, 2.0**-20)


def group_domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
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
        "eps": pick.choice(EPS),
        "affine": affine,
        "bias": not affine or pick.choice((True, True, False)),
    }
    return without_defaults(GroupNorm, arguments), ((batch, channels, *sizes),)


def layer_domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw rows around the widths of vector registers, single elements and several axes; no leading axis to two."""
    widths = (2, 3, 1, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100)
    shape = (
        (pick.choice(widths),)
        if pick.choice((True, True, False))
        else (pick.integer(1, 4), pick.integer(1, 9))
    )
    leading: Shape = pick.choice(((1,), (2,), (), (3,), (0,), (2, 3), (5, 1), (9,)))
    affine = pick.choice((True, True, False))
    arguments = {
        "normalized_shape": shape,
        "eps": pick.choice(EPS),
        "elementwise_affine": affine,
        "bias": not affine or pick.choice((True, True, False)),
    }
    return without_defaults(LayerNorm, arguments), ((*leading, *shape),)


SPECS = (
    Spec(
        name="group_norm",
        operator=GroupNorm,
        operands=("input", "weight", "bias"),
        keywords=("num_groups", "eps"),
        order=("input", "num_groups", "weight", "bias"),
        domain=group_domain,
        laws=norm.LAWS,
        judged="function",
        layer="GroupNorm",
        dialects=norm.DIALECTS,
    ),
    Spec(
        name="layer_norm",
        operator=LayerNorm,
        operands=("input", "weight", "bias"),
        keywords=("normalized_shape", "eps"),
        order=("input", "normalized_shape", "weight", "bias"),
        domain=layer_domain,
        laws=norm.LAWS,
        judged="function",
        layer="LayerNorm",
        dialects=norm.DIALECTS,
    ),
)
