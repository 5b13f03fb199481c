"""Transposed convolution of one, two and three dimensions: each pixel puts a scaled copy of the kernel into the output.

    y[n, o, i * stride - padding + k * dilation] += x[n, c, i] * w[c, o', k]          y[n, o, p] = b[o] at first

n batch, c input channel, i input position and p output position (one index per spatial axis), k kernel element,
o output channel, o' = o - g O/G its number in the group g = c // (C / G). Per axis the output has
(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding pixels; what falls outside is
dropped. It is the gradient of a convolution's input, so `windows` are those of that convolution, on the output.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cnnspec import laws, nested, window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Windowed, without_defaults
from cnnspec.ops import conv, large
from cnnspec.ops.conv_laws import TRANSPOSED
from cnnspec.spec import Dialect, Pick, Spec, spell
from cnnspec.window import ReceptiveField, Window


@dataclass(frozen=True)
class _ConvTranspose(Windowed):
    """Arguments as `torch.nn.ConvTranspose2d` spells them; `weight` is (C, O/G, *kernel), `bias` (O,)."""

    in_channels: int
    out_channels: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: int = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1
    padding_mode: str = "zeros"

    convolution_class: ClassVar[type[conv._Conv]]

    # Parameters

    def __post_init__(self) -> None:
        if self.padding_mode != "zeros":
            raise ArgumentError(f"padding_mode={self.padding_mode!r} must be 'zeros': nothing is padded here")
        self.normalise(("kernel_size", "stride", "padding", "output_padding", "dilation"), self.integers)
        self._convolution(self.in_channels, self.out_channels)  # it refuses what this one must refuse

    @property
    def convolution(self) -> conv._Conv:
        """The convolution that this transposes: from what is the output here to what is the input."""
        return self._convolution(self.out_channels, self.in_channels)

    def _convolution(self, inputs: int, outputs: int) -> conv._Conv:
        arguments = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups, False)
        return self.convolution_class(inputs, outputs, *arguments)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (C, O/G, *kernel), "bias": (O,)}."""
        return self.convolution.parameter_shapes() | ({"bias": (self.out_channels,)} if self.bias else {})

    # Shapes

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows of the convolution that this transposes: they slide over the output."""
        return self.convolution.windows

    @property
    def _axes(self) -> list[tuple[Window, int]]:
        """The window and the output_padding of each spatial axis."""
        return list(zip(self.windows, self.axes("output_padding"), strict=True))

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, O, *spatial), or (O, *spatial) unbatched; ShapeError where torch refuses the call.

        >>> ConvTranspose2d(64, 3, 4, stride=2, padding=1).output_shape((1, 64, 16, 16))
        (1, 3, 32, 32)
        """
        (input_shape,) = input_shapes
        batch, channels, sizes = self.split(input_shape)
        conv.check_channels(self.in_channels, channels, input_shape)
        if min(self.in_channels, self.out_channels) < 1:
            raise ShapeError(
                f"in_channels={self.in_channels} and out_channels={self.out_channels} must be at least 1"
            )
        self._check_windows(sizes, empty=0 in batch)
        return (*batch, self.out_channels, *self._output_sizes(sizes))

    def _check_windows(self, sizes: Shape, *, empty: bool) -> None:
        """Raise ShapeError, naming the axis, where the call refuses; an empty batch takes what reads no pixel."""
        if min(self.axes("padding")) < 0:
            raise ShapeError(f"padding={self.padding} must not be negative", padding=self.padding)
        window.check_fits(self.windows, [one.span for one in self.windows], empty=empty)
        axes = zip(self._axes, sizes, self._output_sizes(sizes), strict=True)
        for axis, ((one, extra), size, output) in enumerate(axes):
            if extra < 0 or (extra >= max(one.stride, one.dilation) and not empty):
                raise ShapeError(
                    f"output_padding={extra} on spatial axis {axis} must be at least 0 and smaller than "
                    f"stride={one.stride} or dilation={one.dilation}",
                    axis=axis,
                )
            if min(size, output) < (0 if empty else 1):
                raise ShapeError(
                    f"spatial axis {axis} of {size} pixels would give {output}: enlarge the input or lower "
                    f"padding={one.before}",
                    axis=axis,
                )

    def _output_sizes(self, sizes: Shape) -> tuple[int, ...]:
        return tuple(
            one.transposed_size(n) + extra for (one, extra), n in zip(self._axes, sizes, strict=True)
        )

    def input_sizes(self, *output_sizes: int) -> tuple[range, ...]:
        """Return, per spatial axis, the input sizes that give the output size: one, or none.

        >>> ConvTranspose1d(1, 1, 3, stride=2).input_sizes(9), ConvTranspose1d(1, 1, 3, stride=2).input_sizes(10)
        ((range(4, 5),), (range(0, 0),))
        """
        axes = zip(self.windows, output_sizes, self._output_sizes((1,) * self.spatial), strict=True)
        more = [(*divmod(size - one, w.stride), size > 0) for w, size, one in axes]
        return tuple(range(n + 1, n + 2) if n >= 0 and not r and some else range(0) for n, r, some in more)

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return what an output position sees; empty for a stride, where it depends on the position modulo stride.

        >>> ConvTranspose1d(1, 1, 3, padding=1, dilation=2).receptive_field()
        (ReceptiveField(size=5, stride=1, offset=-3),)
        """
        if any(one.stride != 1 for one in self.windows):
            return ()
        return tuple(ReceptiveField(one.span, 1, one.before - one.span + 1) for one in self.windows)

    # Costs

    def macs(self, *input_shapes: Shape) -> int:
        """Return N * pixels of the input * weight elements: products that fall outside the output count."""
        self.output_shape(*input_shapes)
        batch, _, sizes = self.split(input_shapes[0])
        return math.prod((*batch, *sizes, *self.parameter_shapes()["weight"]))

    def macs_effective(self, *input_shapes: Shape) -> int:
        """Return the products that reach the output: nominal less those that padding crops.

        >>> op = ConvTranspose2d(1, 1, 3, padding=1)
        >>> op.macs((1, 1, 4, 4)), op.macs_effective((1, 1, 4, 4))
        (144, 100)
        """
        output = self.output_shape(*input_shapes)
        batch, _, sizes = self.split(input_shapes[0])
        axes = zip(self.windows, sizes, output[-self.spatial :], strict=True)
        reached = [sum(len(one.taps(i, p)) for i in range(n)) for one, n, p in axes]
        return math.prod((*batch, *reached, *self.parameter_shapes()["weight"][:2]))

    def bias_adds(self, *input_shapes: Shape) -> int:
        """Return one addition per output element where there is a bias."""
        return math.prod(self.output_shape(*input_shapes)) if self.bias else 0

    # Loop

    def _products(self, input_shape: Shape) -> Iterator[tuple[int, int, int]]:
        """Yield the flat indices (p, i, k) of each product: x[i] * w[k] goes to y[p]."""
        outputs, sizes = self.output_shape(input_shape)[-self.spatial :], input_shape[-self.spatial :]
        every = zip(window.positions(self.windows, outputs), window.taps(self.windows, outputs), strict=True)
        # A large output_padding makes room for windows that belong to no input.
        positions = [taps for i, taps in every if all(map(int.__lt__, i, sizes))]
        _, rows, *kernel = self.parameter_shapes()["weight"]
        taps_per_row, pixels, per_group = (
            math.prod(kernel),
            math.prod(outputs),
            self.in_channels // self.groups,
        )
        for image, row in itertools.product(range(math.prod(input_shape[: -self.spatial])), range(rows)):
            n, c = divmod(image, self.in_channels)
            plane = n * self.out_channels + c // per_group * rows + row
            for i, taps in enumerate(positions, image * len(positions)):
                for k, p in taps:
                    yield plane * pixels + p, i, (c * rows + row) * taps_per_row + k

    def reference(self, *arrays: Array) -> Array:
        """Return y of x (N, C, *spatial) or (C, *spatial), weight and bias, on any numbers.

        >>> ConvTranspose1d(1, 1, 2, stride=2, bias=False).reference([[1, 10]], [[[3, 2]]])
        [[3, 2, 30, 20]]
        """
        input, *parameters = arrays
        weight, *bias = self.check_parameters(parameters)
        shape = self.output_shape(nested.shape_of(input))
        x, w, b = nested.ravel(input), nested.ravel(weight), nested.ravel(bias[0]) if bias else None
        pixels = math.prod(shape[-self.spatial :])
        y = [b[p // pixels % self.out_channels] if b else 0 for p in range(math.prod(shape))]
        for p, i, k in self._products(nested.shape_of(input)):
            y[p] = y[p] + x[i] * w[k]
        return nested.unravel(y, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradients of input, weight and bias: each product of the loop passes dy to both its factors.

        dx[n, c, i] += dy[n, o, p] w[c, o', k]     dw[c, o', k] += dy[n, o, p] x[n, c, i]     db[o] += dy[n, o, p]

        >>> ConvTranspose1d(1, 1, 2).gradients([[1, 10, 100]], [[4, 5]], [[[3, 2]]], [0])
        [[[23, 230]], [[[54, 540]]], [111]]
        """
        input_shape, weight_shape = map(nested.shape_of, operands[:2])
        dy, x, w = map(nested.ravel, (grad_output, *operands[:2]))
        dx, dw, db = [0] * len(x), [0] * len(w), [0] * self.out_channels
        for p, i, k in self._products(input_shape):
            dx[i] = dx[i] + dy[p] * w[k]
            dw[k] = dw[k] + dy[p] * x[i]
        pixels = math.prod(nested.shape_of(grad_output)[-self.spatial :])
        for p, d in enumerate(dy):
            o = p // pixels % self.out_channels
            db[o] = db[o] + d
        return [
            nested.unravel(dx, input_shape),
            nested.unravel(dw, weight_shape),
            *([db] if self.bias else []),
        ]


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over one spatial axis; see `ConvTranspose2d`."""

    spatial = 1
    convolution_class = conv.Conv1d


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over two spatial axes, as `torch.nn.ConvTranspose2d`.

    y[n, o, i * stride - padding + k * dilation] += x[n, c, i] * w[c, o', k]          y[n, o, p] = b[o] at first

    Input (N, C, H, W) or (C, H, W); weight (C, O/G, kH, kW); bias (O,). output_padding must be smaller than
    stride or dilation. Raises ArgumentError where the constructor of torch refuses, ShapeError where the call does.
    Not covered: the call's argument output_size, which stands for an output_padding. An output without a pixel is
    refused, which torch accepts on some of its code paths.
    Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.

    >>> ConvTranspose2d(64, 3, 4, stride=2, padding=1).parameter_count
    3075
    """

    spatial = 2
    convolution_class = conv.Conv2d


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over three spatial axes; see `ConvTranspose2d`."""

    spatial = 3
    convolution_class = conv.Conv3d


# Domain


def domain(operator: type[_ConvTranspose]) -> Any:
    """Return the domain: every axis with its own window and output_padding, from the smallest legal size up."""
    spatial = operator.spatial

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        kernel = [pick.integer(1, 3 if spatial == 3 else 4) for _ in range(spatial)]
        stride = [pick.integer(1, 3) if pick.choice((False, True)) else 1 for _ in range(spatial)]
        dilation = [pick.integer(1, 3) if pick.choice((False, False, True)) else 1 for _ in range(spatial)]
        padding = [pick.integer(0, k) for k in kernel]
        extra = [pick.integer(0, max(axis) - 1) for axis in zip(stride, dilation, strict=True)]
        values = {"kernel_size": kernel, "stride": stride, "padding": padding, "output_padding": extra}
        arguments: dict[str, Any] = {name: spell(pick, one) for name, one in values.items()}
        arguments["dilation"] = spell(pick, dilation)
        smallest = operator(1, 1, **arguments)._output_sizes((1,) * spatial)
        more = [max(0, -((size - 1) // s)) for size, s in zip(smallest, stride, strict=True)]
        sizes = [1 + n + pick.integer(0, 4) for n in more]
        groups, inputs, outputs, batch = conv._draw_channels(pick, 6000 // math.prod((*sizes, *kernel)))
        channels = {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        arguments = {**channels, **arguments, "bias": pick.choice((True, False))}
        return without_defaults(operator, arguments), ((*batch, inputs, *sizes),)

    return draw


# Conventions of other frameworks


def _crops_evenly(op: _ConvTranspose, *operands: Array) -> Array:
    """Crop 2 padding - output_padding pixels, the odd one after, where torch crops `padding` before."""
    y = laws.replaced(op, padding=0).reference(*operands)
    for axis, (one, extra) in zip(laws.spatial_axes(op, y), op._axes, strict=True):
        first, size = (2 * one.before - extra) // 2, nested.shape_of(y)[axis] - 2 * one.before
        y = nested.take(y, axis, range(first, first + size))
    return y


DIALECTS = (
    Dialect(
        "TensorFlow, ONNX",
        "padding SAME or an output_shape crops both sides evenly, the odd pixel after",
        lambda op: (
            any(extra for _, extra in op._axes) and all(2 * w.before >= extra for w, extra in op._axes)
        ),
        _crops_evenly,
    ),
    Dialect(
        "correlation of the zero-stuffed input",
        "the kernel is not flipped before it is correlated with the zero-stuffed input",
        lambda op: any(one.kernel > 1 for one in op.windows),
        lambda op, x, weight, *bias: op.reference(x, laws.mirrored(weight), *bias),
    ),
)

SPECS = tuple(
    Spec(
        name=f"conv_transpose{operator.spatial}d",
        operator=operator,
        operands=("input", "weight", "bias"),
        keywords=("stride", "padding", "output_padding", "groups", "dilation"),
        domain=domain(operator),
        laws=TRANSPOSED,
        layer=operator.__name__,
        twice=True,
        dialects=DIALECTS,
        large=large.transposed_convolution(operator),
    )
    for operator in (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
)
