"""Layer normalization: statistics of the last axes, for each of the leading indices alone.

    y[..., i] = (x[..., i] - m[...]) / sqrt(v[...] + eps) * weight[i] + bias[i]

i is an index of `normalized_shape`. Mean m and biased variance v are those of everything that shares its leading
indices. Training and evaluation do the same.
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
        if self.elementwise_affine and any(size < 0 for size in self.row_shape):
            raise ArgumentError(
                f"normalized_shape={self.row_shape} must not be negative", normalized_shape=self.row_shape
            )

    @property
    def row_shape(self) -> Shape:
        """The shape of what is normalized together."""
        sizes = self.normalized_shape
        return sizes if isinstance(sizes, tuple) else (sizes,)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": normalized_shape, "bias": normalized_shape}, those that there are."""
        names = ("weight", "bias") if self.bias else ("weight",)
        return dict.fromkeys(names if self.elementwise_affine else (), self.row_shape)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError unless its last axes are `normalized_shape`."""
        (shape,) = input_shapes
        last = tuple(shape[max(0, len(shape) - len(self.row_shape)) :])
        if not self.row_shape or last != self.row_shape:
            raise ShapeError(
                f"the last axes of {tuple(shape)} must be normalized_shape={self.row_shape}, at least one",
                normalized_shape=self.row_shape,
            )
        return tuple(shape)

    def partition(self, input_shape: Shape) -> tuple[list[Sequence[int]], list[int]]:
        """Return one group for each leading index."""
        length = math.prod(self.row_shape)
        return norm.rows(math.prod(input_shape), length, 1, max(1, length))


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
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
        "eps": pick.choice(norm.EPS),
        "elementwise_affine": affine,
        "bias": not affine or pick.choice((True, True, False)),
    }
    return without_defaults(LayerNorm, arguments), ((*leading, *shape),)


SPECS = (
    Spec(
        name="layer_norm",
        operator=LayerNorm,
        operands=("input", "weight", "bias"),
        keywords=("normalized_shape", "eps"),
        order=("input", "normalized_shape", "weight", "bias"),
        domain=domain,
        laws=norm.LAWS,
        judged="function",
        layer="LayerNorm",
        dialects=norm.DIALECTS,
    ),
)
