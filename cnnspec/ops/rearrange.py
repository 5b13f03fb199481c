"""Channels to pixels and back: sub-pixel convolution's rearrangement.

    pixel_shuffle:   y[..., c, h r + i, w r + j] = x[..., c r^2 + i r + j, h, w]
    pixel_unshuffle: y[..., c r^2 + i r + j, h, w] = x[..., c, h r + i, w r + j]

r is the factor, i and j run from 0 to r - 1. Each is the inverse, and the gradient, of the other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cnnspec import laws, nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, Routing, integer
from cnnspec.spec import Call, Dialect, Law, Pick, Spec


@dataclass(frozen=True)
class PixelShuffle(Routing):
    """Make each r x r group of channels the pixels of a larger image, as `torch.nn.PixelShuffle`.

    y[..., c, h r + i, w r + j] = x[..., c r^2 + i r + j, h, w],   r = upscale_factor
    Input (..., C r^2, H, W); output (..., C, H r, W r).
    Raises ArgumentError for what is no integer, ShapeError where torch refuses the call.
    Source: Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", 2016.

    >>> PixelShuffle(2).reference([[[1, 2]], [[10, 20]], [[100, 200]], [[1000, 2000]]])
    [[[1, 10, 2, 20], [100, 1000, 200, 2000]]]
    """

    upscale_factor: int

    spatial: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self.normalise(("upscale_factor",), integer)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (..., C, H r, W r); ShapeError where torch refuses the call.

        >>> PixelShuffle(3).output_shape((1, 9, 20, 30))
        (1, 1, 60, 90)
        """
        (shape,) = input_shapes
        r = _checked("upscale_factor", self.upscale_factor, shape)
        *batch, channels, height, width = shape
        if channels % r**2:
            raise ShapeError(
                f"upscale_factor={r} squared must divide the {channels} channels of {tuple(shape)}",
                upscale_factor=r,
            )
        return (*batch, channels // r**2, height * r, width * r)

    def reference(self, *arrays: Array) -> Array:
        """Return the larger image."""
        (input,) = arrays
        *batch, channels, height, width = self.output_shape(nested.shape_of(input))
        r = self.upscale_factor
        blocks = (math.prod(batch), channels, r, r, height // r, width // r)
        return _rearranged(input, blocks, (0, 1, 4, 2, 5, 3), (*batch, channels, height, width))

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx[..., c r^2 + i r + j, h, w] = dy[..., c, h r + i, w r + j]."""
        return [PixelUnshuffle(self.upscale_factor).reference(grad_output)]


@dataclass(frozen=True)
class PixelUnshuffle(Routing):
    """Make each r x r block of pixels channels of a smaller image, as `torch.nn.PixelUnshuffle`.

    y[..., c r^2 + i r + j, h, w] = x[..., c, h r + i, w r + j],   r = downscale_factor
    Input (..., C, H r, W r); output (..., C r^2, H, W).
    Raises ArgumentError for what is no integer, ShapeError where torch refuses the call.
    Not covered: inputs without an element, which torch returns in their own shape.

    >>> PixelUnshuffle(2).reference([[[1, 10, 2, 20], [100, 1000, 200, 2000]]])
    [[[1, 2]], [[10, 20]], [[100, 200]], [[1000, 2000]]]
    """

    downscale_factor: int

    spatial: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self.normalise(("downscale_factor",), integer)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (..., C r^2, H, W); ShapeError where torch refuses the call.

        >>> PixelUnshuffle(3).output_shape((1, 1, 60, 90))
        (1, 9, 20, 30)
        """
        (shape,) = input_shapes
        r = _checked("downscale_factor", self.downscale_factor, shape)
        *batch, channels, height, width = shape
        if height % r or width % r:
            raise ShapeError(
                f"downscale_factor={r} must divide the height {height} and the width {width}",
                downscale_factor=r,
            )
        return (*batch, channels * r**2, height // r, width // r)

    def reference(self, *arrays: Array) -> Array:
        """Return the smaller image."""
        (input,) = arrays
        *batch, channels, height, width = self.output_shape(nested.shape_of(input))
        r = self.downscale_factor
        blocks = (math.prod(batch), channels // r**2, height, r, width, r)
        return _rearranged(input, blocks, (0, 1, 3, 5, 2, 4), (*batch, channels, height, width))

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx[..., c, h r + i, w r + j] = dy[..., c r^2 + i r + j, h, w]."""
        return [PixelShuffle(self.downscale_factor).reference(grad_output)]


def _checked(name: str, factor: int, shape: Shape) -> int:
    """Return the factor; ShapeError where it or the number of axes is refused."""
    if len(shape) < 3:
        raise ShapeError(
            f"input of shape {tuple(shape)} must have at least 3 axes: channels, height, width", shape=shape
        )
    if factor < 1:
        raise ShapeError(f"{name}={factor} must be at least 1", **{name: factor})
    return factor


def _rearranged(array: Array, split: Shape, axes: Shape, joined: Shape) -> Array:
    """Return the elements, seen as an array of shape `split`, in the order of `axes`, as an array of `joined`."""
    blocks = nested.unravel(nested.ravel(array), split)
    return nested.unravel(nested.ravel(nested.permute(blocks, axes)), joined)


def _domain(operator: type[Operator], factor: str) -> Any:
    """Return the domain: any leading axes, factors from 1, every axis with its own size."""
    batches: tuple[Shape, ...] = ((1,), (2,), (), (3,), (2, 3), (1, 2, 1))
    batches += ((0,),) if operator is PixelShuffle else ()

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        r = pick.choice((2, 3, 1, 4))
        batch = pick.choice(batches)
        channels = pick.choice((1, 2, 3, 4, 5, 8, 9))
        small = (channels * r**2, pick.integer(1, 5), pick.integer(1, 5))
        shape = PixelShuffle(r).output_shape(small) if operator is PixelUnshuffle else small
        return {factor: r}, ((*batch, *shape),)

    return draw


def _undone(inverse: Any) -> Any:
    def sides(op: Any, call: Call, x: Array) -> laws.Sides:
        return inverse(op).reference(call(op, x)), x

    return sides


def _phases_are_channels(op: Any, call: Call, x: Array) -> laws.Sides:
    """Every r-th row from i and column from j of the large image is every r^2-th channel of the small one."""
    large, small = (call(op, x), x) if isinstance(op, PixelShuffle) else (x, call(op, x))
    (r,), axis = vars(op).values(), len(nested.shape_of(x)) - 3
    channels, (height, width) = nested.shape_of(small)[axis], nested.shape_of(large)[axis + 1 :]
    planes = [
        nested.take(nested.take(large, axis + 1, range(i, height, r)), axis + 2, range(j, width, r))
        for i in range(r)
        for j in range(r)
    ]
    slices = [nested.take(small, axis, range(n, channels, r**2)) for n in range(r**2)]
    return nested.concatenate(planes, axis), nested.concatenate(slices, axis)


def _factor_is_not_one(op: Any, shapes: tuple[Shape, ...]) -> bool:
    return set(vars(op).values()) != {1}


def _depth_to_space(op: PixelShuffle, x: Array) -> Array:
    """Channel (i r + j) C + c goes where torch puts channel c r^2 + i r + j."""
    axis, r = len(nested.shape_of(x)) - 3, op.upscale_factor
    channels = nested.shape_of(x)[axis] // r**2
    order = [n * channels + c for c in range(channels) for n in range(r**2)]
    return op.reference(nested.take(x, axis, order))


def _space_to_depth(op: PixelUnshuffle, x: Array) -> Array:
    """Channel (i r + j) C + c comes out where torch has channel c r^2 + i r + j."""
    axis, r = len(nested.shape_of(x)) - 3, op.downscale_factor
    channels = nested.shape_of(x)[axis]
    return nested.take(op.reference(x), axis, [c * r**2 + n for n in range(r**2) for c in range(channels)])


def _spec(operator: Any, name: str, factor: str, inverse: Any, dialect: Any, statement: str) -> Spec:
    return Spec(
        name=name,
        operator=operator,
        operands=("input",),
        keywords=(factor,),
        domain=_domain(operator, factor),
        laws=(
            laws.BATCH,
            Law("inverse", "the inverse brings the input back", _factor_is_not_one, _undone(inverse)),
            Law("phases", "every r-th pixel is a channel", _factor_is_not_one, _phases_are_channels),
        ),
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
        layer=operator.__name__,
        dialects=(
            Dialect(
                "TensorFlow, ONNX in mode DCR", statement, lambda op: _factor_is_not_one(op, ()), dialect
            ),
        ),
    )


SPECS = (
    _spec(
        PixelShuffle,
        "pixel_shuffle",
        "upscale_factor",
        lambda op: PixelUnshuffle(op.upscale_factor),
        _depth_to_space,
        "depth_to_space takes pixel (i, j) of channel c from channel (i r + j) C + c, not c r^2 + i r + j",
    ),
    _spec(
        PixelUnshuffle,
        "pixel_unshuffle",
        "downscale_factor",
        lambda op: PixelShuffle(op.downscale_factor),
        _space_to_depth,
        "space_to_depth puts pixel (i, j) of channel c into channel (i r + j) C + c, not c r^2 + i r + j",
    ),
)
