"""Max-unpooling: elements go back to where the maxima stood, and everything else is zero.

    y[n, c, indices[n, c, p]] = x[n, c, p]        dx[n, c, p] = dy[n, c, indices[n, c, p]]

n batch, c channel, p input position. Indices are flat in the channel's output, as max-pooling returns them.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Routing, Windowed, each, integer, without_defaults
from cnnspec.ops.pooling import draw_shape, planes
from cnnspec.spec import Call, Law, Pick, Spec, spell
from cnnspec.window import Window


@dataclass(frozen=True)
class _MaxUnpool(Routing, Windowed):
    """The arguments of `torch.nn.MaxUnpool2d`, and `output_size`, which torch takes when the layer is called."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    output_size: int | tuple[int, ...] | None = None

    # Arguments

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        self.normalise(("kernel_size", "stride", "padding"), self.integers)
        self.normalise(("output_size",), _sizes)

    @property
    def windows(self) -> tuple[Window, ...]:
        """None: what an output element sees follows from the indices."""
        return ()

    # Shapes

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *output_size), or (C, *output_size) unbatched; ShapeError where torch refuses the call.

        Each output axis has (L - 1) * stride + kernel_size - 2 * padding elements, or what `output_size` says,
        which may be up to stride - 1 more or less: several sizes pool to L.

        >>> MaxUnpool2d(2).output_shape((8, 3, 5, 7), (8, 3, 5, 7))
        (8, 3, 10, 14)
        """
        input_shape, indices_shape = input_shapes
        batch, channels, sizes = self.split(input_shape)
        if tuple(indices_shape) != tuple(input_shape):
            raise ShapeError(
                f"indices of shape {tuple(indices_shape)} must be as the input, {tuple(input_shape)}",
                shape=indices_shape,
            )
        if 0 in input_shape[1:]:
            raise ShapeError(
                f"input of shape {tuple(input_shape)} has an empty axis: only the first may be",
                shape=input_shape,
            )
        return (*batch, channels, *self._outputs(sizes))

    def _outputs(self, sizes: Shape) -> Shape:
        kernel, stride, padding = (
            self.axes(name, broadcast=False) for name in ("kernel_size", "stride", "padding")
        )
        if self.spatial == 3 and min(stride) < 1:
            raise ShapeError(f"stride={stride} must be at least 1", stride=stride)
        outputs = tuple(
            (size - 1) * s + k - 2 * p for size, k, s, p in zip(sizes, kernel, stride, padding, strict=True)
        )
        if self.output_size is not None:
            given = self.output_size if isinstance(self.output_size, tuple) else ()
            given = given[2:] if len(given) == self.spatial + 2 else given
            if len(given) != self.spatial or any(
                abs(g - size) >= s for g, size, s in zip(given, outputs, stride, strict=True)
            ):
                raise ShapeError(
                    f"output_size={self.output_size} must be {outputs}, each more or less by less than "
                    f"stride={stride}, with or without batch and channels before",
                    output_size=self.output_size,
                )
            outputs = given
        if min(outputs) < 0:
            raise ShapeError(
                f"the output would have {outputs} elements: enlarge the input or the kernel", output=outputs
            )
        return outputs

    # Loop

    def reference(self, *operands: Array) -> Array:
        """Return y of x and indices; ShapeError for an index outside the output."""
        input, indices = operands
        shape = self.output_shape(nested.shape_of(input), nested.shape_of(indices))
        pixels = math.prod(shape[-self.spatial :])
        y = [0] * math.prod(shape)
        for n, (x, places) in enumerate(
            zip(planes(input, self.spatial), planes(indices, self.spatial), strict=True)
        ):
            for value, i in zip(x, places, strict=True):
                y[n * pixels + _checked(i, pixels)] = value
        return nested.unravel(y, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx: each element's dy comes from where the element went. The indices are constant."""
        input, indices = operands
        rows = zip(planes(grad_output, self.spatial), planes(indices, self.spatial), strict=True)
        dx = [dy[_checked(i, len(dy))] for dy, places in rows for i in places]
        return [nested.unravel(dx, nested.shape_of(input)), None]


def _sizes(name: str, value: Any) -> Any:
    """Return integers as a tuple; None, and an integer, which only the call refuses, as they are."""
    return None if value is None else each(integer, name, value)


def _checked(index: int, pixels: int) -> int:
    if not 0 <= index < pixels:
        raise ShapeError(f"index {index} must be at least 0 and below {pixels}, the pixels of the output")
    return int(index)


class MaxUnpool1d(_MaxUnpool):
    """Max-unpooling of one spatial axis; see `MaxUnpool2d`.

    >>> MaxUnpool1d(2).reference([[5, 6]], [[1, 2]])
    [[0, 5, 6, 0]]
    >>> MaxUnpool1d(2).gradients([[10, 20, 30, 40]], [[5, 6]], [[1, 2]])
    [[[20, 30]], None]
    """

    spatial = 1


class MaxUnpool2d(_MaxUnpool):
    """Max-unpooling of two spatial axes, as `torch.nn.MaxUnpool2d`; stride is the kernel unless given.

    y[n, c, indices[n, c, p]] = x[n, c, p], zero elsewhere
    Input (N, C, H, W) or (C, H, W); indices of the same shape, flat in the plane of the output.
    Raises ArgumentError for what are no integers, ShapeError where torch refuses the call.
    Not covered: an index that stands twice in a channel, for which torch writes either; indices into outputs
    without pixels, at which torch does not look; more strides or paddings than axes, which torch forgets.
    Source: Zeiler, Fergus, "Visualizing and understanding convolutional networks", 2014, section 2.1; torch's
    documentation for the size of the output.

    >>> MaxUnpool2d(2).reference([[[7]]], [[[2]]])
    [[[0, 0], [7, 0]]]
    """

    spatial = 2


class MaxUnpool3d(_MaxUnpool):
    """Max-unpooling of three spatial axes; see `MaxUnpool2d`. Strides must be positive."""

    spatial = 3


# Domain


def domain(operator: type[_MaxUnpool]) -> Any:
    """Return the domain: windows that overlap, touch or leave gaps, sizes that pool to the input's."""
    spatial = operator.spatial

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        kernel = [pick.integer(1, 3 if spatial == 3 else 4) for _ in range(spatial)]
        stride = [pick.integer(1, 4) for _ in range(spatial)] if pick.choice((False, True)) else None
        padding = [pick.integer(0, k // 2) for k in kernel] if pick.choice((False, True)) else [0] * spatial
        sizes = [pick.integer(1, 4 if spatial == 3 else 6) for _ in range(spatial)]
        steps = stride or kernel
        outputs = [(n - 1) * s + k - 2 * p for n, s, k, p in zip(sizes, steps, kernel, padding, strict=True)]
        if math.prod(outputs) < math.prod(sizes):  # no room for that many different indices
            outputs = [size + 2 * p for size, p in zip(outputs, padding, strict=True)]
            padding = [0] * spatial
        arguments: dict[str, Any] = {"kernel_size": spell(pick, kernel), "padding": spell(pick, padding)}
        arguments |= {"stride": spell(pick, stride)} if stride else {}
        shape = draw_shape(pick, sizes)
        if pick.choice((False, False, True)):
            given = [size + pick.integer(0, s - 1) for size, s in zip(outputs, steps, strict=True)]
            prefix = shape[:-spatial] if len(shape) == spatial + 2 else (1, shape[0])
            arguments["output_size"] = (*pick.choice(((), prefix)), *given)
        return without_defaults(operator, arguments), (shape, shape)

    return draw


def _different_indices(op: _MaxUnpool, shapes: Mapping[str, Shape], rng: random.Random) -> list[int]:
    """Draw indices of the output, each at most once in a channel."""
    shape = shapes["input"]
    pixels = math.prod(op.output_shape(shape, shape)[-op.spatial :])
    count = math.prod(shape[-op.spatial :])
    if count > pixels:
        raise ShapeError(f"{pixels} pixels of the output have no room for {count} different indices")
    return [i for _ in range(math.prod(shape[: -op.spatial])) for i in rng.sample(range(pixels), count)]


# Laws


def _what_went_comes_back(op: _MaxUnpool, call: Call, x: Array, indices: Array) -> tuple[Array, Array]:
    return op.gradients(call(op, x, indices), x, indices)[0], x


def _sizes_add_up(op: _MaxUnpool, call: Call, x: Array, indices: Array) -> tuple[Array, Array]:
    y = call(op, x, indices)
    return [sum(map(abs, nested.ravel(y)))], [sum(map(abs, nested.ravel(x)))]


LAWS = (
    Law("places", "y[indices] = x", laws.always, _what_went_comes_back),
    Law("zeros", "nothing else is there: sum |y| = sum |x|", laws.always, _sizes_add_up),
    Law(
        "batch",
        "a batch is the stack of its singles",
        lambda op, shapes: len(shapes[0]) == op.spatial + 2 and shapes[0][0] > 1,
        laws.pairs_are_singles,
    ),
)

SPECS = tuple(
    Spec(
        name=f"max_unpool{operator.spatial}d",
        operator=operator,
        operands=("input", "indices"),
        inputs=("input", "indices"),
        keywords=("kernel_size", "stride", "padding", "output_size"),
        domain=domain(operator),
        laws=LAWS,
        judged="copy",
        layer=operator.__name__,
        integers=("indices",),
        constants=("indices",),
        fill={"indices": _different_indices},
        twice=True,
    )
    for operator in (MaxUnpool1d, MaxUnpool2d, MaxUnpool3d)
)
