"""Convolution layers of one, two and three dimensions (cross-correlation, as deep learning has it).

    y[n, o, p] = b[o] + sum_c sum_k x[n, g C/G + c, p * stride - padding + k * dilation] * w[o, c, k]

n batch, o output channel, p output position (one index per spatial axis), g = o // (O / G) its group,
c channel of the group, k kernel element. Taps outside the input are absent in padding_mode "zeros" (an
infinite weight on padding adds nothing) and read the reflected, replicated or wrapped input otherwise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cnnspec import nested, window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Windowed, integer, without_defaults
from cnnspec.ops import large
from cnnspec.ops.conv_laws import LAWS
from cnnspec.spec import Pick, Spec, spell
from cnnspec.window import Window, same_padding

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class _Conv(Windowed):
    """Arguments as `torch.nn.Conv2d` spells them; `weight` is (O, C/G, *kernel), `bias` (O,)."""

    in_channels: int
    out_channels: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | str | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"

    # Parameters

    def __post_init__(self) -> None:
        sizes = (
            "kernel_size",
            "stride",
            "dilation",
            *(() if isinstance(self.padding, str) else ("padding",)),
        )
        self.normalise(("in_channels", "out_channels", "groups"), integer)
        self.normalise(sizes, self.integers)
        if self.groups < 1:
            raise ArgumentError(f"groups={self.groups} must be at least 1", groups=self.groups)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels < 0:
                raise ArgumentError(f"{name}={channels} must not be negative", **{name: channels})
            if channels % self.groups != 0:
                raise ArgumentError(f"groups={self.groups} must divide {name}={channels}", groups=self.groups)
        if min(self.integers("kernel_size", self.kernel_size), default=0) < 0:
            raise ArgumentError(
                f"kernel_size={self.kernel_size} must not be negative", kernel_size=self.kernel_size
            )
        if self.padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"padding_mode={self.padding_mode!r} is not one of {', '.join(PADDING_MODES)}"
            )
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            raise ArgumentError(f"padding={self.padding!r} must be integers, 'same' or 'valid'")
        if self.padding == "same" and set(self.integers("stride", self.stride)) - {1}:
            raise ArgumentError(
                f"padding='same' needs stride=1, not stride={self.stride}", stride=self.stride
            )

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (O, C/G, *kernel), "bias": (O,)}."""
        shapes = {"weight": (self.out_channels, self.in_channels // self.groups, *self._kernel)}
        return {**shapes, "bias": (self.out_channels,)} if self.bias else shapes

    # Shapes

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        axes = zip(self._kernel, self._stride, self._pads(), self._dilation, strict=True)
        return tuple(Window(kernel, s, before, after, d) for kernel, s, (before, after), d in axes)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, O, *spatial), or (O, *spatial) unbatched; ShapeError where torch refuses the call.

        As in torch, no input channels give no output channels, whatever `out_channels` says.

        >>> Conv2d(3, 64, kernel_size=7, stride=2, padding=3).output_shape((1, 3, 224, 224))
        (1, 64, 112, 112)
        """
        (input_shape,) = input_shapes
        batch, channels, sizes = self.split(input_shape)
        check_channels(self.in_channels, channels, input_shape)
        if self.out_channels < 1:
            raise ShapeError(f"out_channels={self.out_channels} must be at least 1", out_channels=0)
        if self.padding_mode != "zeros":
            window.check_border(self.padding_mode, input_shape, self._pads())
        elif any(before < 0 for before, _ in self._pads()):
            raise ShapeError(f"padding={self.padding} must not be negative", padding=self.padding)
        window.check_fits(self.windows, sizes, empty=0 in (*batch, channels))
        return (*batch, self.out_channels if channels else 0, *window.output_sizes(self.windows, sizes))

    def least_sizes(self) -> tuple[int, ...]:
        """Return, per spatial axis, the smallest size that `padding_mode` can read its padding from."""
        return tuple(window.smallest_size(self.padding_mode, max(pads)) for pads in self._pads())

    # Costs

    def macs(self, *input_shapes: Shape) -> int:
        """Return N * O * positions * C/G * kernel elements: taps on padding count."""
        return math.prod(self.output_shape(*input_shapes)) * math.prod(self.parameter_shapes()["weight"][1:])

    def macs_effective(self, *input_shapes: Shape) -> int:
        """Return the products that read the input: nominal less the taps on zero padding.

        >>> conv = Conv2d(1, 1, 3, padding=1)
        >>> conv.macs((1, 1, 4, 4)), conv.macs_effective((1, 1, 4, 4))
        (144, 100)
        """
        if self.padding_mode != "zeros":
            return self.macs(*input_shapes)
        shape = self.output_shape(*input_shapes)
        touched = window.taps_total(self.windows, input_shapes[0][-self.spatial :])
        return math.prod(shape[: -self.spatial]) * (self.in_channels // self.groups) * touched

    def bias_adds(self, *input_shapes: Shape) -> int:
        """Return one addition per output element where there is a bias."""
        return math.prod(self.output_shape(*input_shapes)) if self.bias else 0

    # Loop

    def reference(self, *arrays: Array) -> Array:
        """Return y of x (N, C, *spatial) or (C, *spatial), weight and bias, on any numbers.

        >>> Conv1d(1, 1, 2, bias=False).reference([[1, 2, 3, 4]], [[[3, 2]]])
        [[7, 12, 17]]
        """
        input, *parameters = arrays
        weight, *bias = self.check_parameters(parameters)
        input_shape = nested.shape_of(input)
        shape = self.output_shape(input_shape)
        x, w, b = self._images(input), nested.collapse(weight, 2), nested.ravel(bias[0]) if bias else None
        per_group, outputs_per_group = self.in_channels // self.groups, self.out_channels // self.groups
        positions = list(window.taps(self.windows, input_shape[-self.spatial :], self.padding_mode))
        y = []
        for n in range(len(x)):
            for o in range(self.out_channels):
                g = o // outputs_per_group
                for taps in positions:
                    total = b[o] if b else 0
                    for c in range(per_group):
                        pixels, kernel = x[n][g * per_group + c], w[o][c]
                        for k, i in taps:
                            total = total + pixels[i] * kernel[k]
                    y.append(total)
        return nested.unravel(y, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradients of input, weight and bias: each product of the loop passes dy to both its factors.

        dx[n, g C/G + c, i] += dy[n, o, p] w[o, c, k]     dw[o, c, k] += dy[n, o, p] x[n, g C/G + c, i]
        db[o] += dy[n, o, p]                              over all taps (k, i) of p

        >>> Conv1d(1, 1, 2).gradients([[1, 10]], [[1, 2, 3]], [[[3, 2]]], [0])
        [[[3, 32, 20]], [[[21, 32]]], [11]]
        """
        input, weight, *_ = operands
        input_shape, weight_shape = nested.shape_of(input), nested.shape_of(weight)
        dy, x, w = self._images(grad_output), self._images(input), nested.collapse(weight, 2)
        per_group, outputs_per_group = self.in_channels // self.groups, self.out_channels // self.groups
        positions = list(window.taps(self.windows, input_shape[-self.spatial :], self.padding_mode))
        dx = [[[0] * len(pixels) for pixels in image] for image in x]
        dw = [[[0] * len(kernel) for kernel in row] for row in w]
        db = [0] * self.out_channels
        for n in range(len(x)):
            for o in range(self.out_channels):
                g = o // outputs_per_group
                for p, taps in enumerate(positions):
                    d = dy[n][o][p]
                    db[o] = db[o] + d
                    for c in range(per_group):
                        source = g * per_group + c
                        for k, i in taps:
                            dx[n][source][i] = dx[n][source][i] + d * w[o][c][k]
                            dw[o][c][k] = dw[o][c][k] + d * x[n][source][i]
        gradients = [nested.unravel(nested.ravel(a), s) for a, s in ((dx, input_shape), (dw, weight_shape))]
        return [*gradients, *([db] if self.bias else [])]

    def _images(self, array: Array) -> list[Any]:
        """Return the channels of all images, each one flat row; none where there is nothing in them."""
        shape = nested.shape_of(array)
        batch = array if len(shape) == self.spatial + 2 else [array]
        return nested.collapse(batch, 2) if math.prod(shape) else []

    @property
    def _kernel(self) -> tuple[int, ...]:
        return self.axes("kernel_size", broadcast=False)

    @property
    def _stride(self) -> tuple[int, ...]:
        return self.axes("stride")

    @property
    def _dilation(self) -> tuple[int, ...]:
        return self.axes("dilation")

    def _pads(self) -> list[tuple[int, int]]:
        """Return (before, after) of each spatial axis."""
        if self.padding == "valid":
            return [(0, 0)] * self.spatial
        if self.padding == "same":
            return [same_padding(k, d) for k, d in zip(self._kernel, self._dilation, strict=True)]
        return [(p, p) for p in self.axes("padding", broadcast=self.padding_mode == "zeros")]


def check_channels(in_channels: int, channels: int, input_shape: Shape) -> None:
    """Raise ShapeError unless the input has `in_channels` channels."""
    if channels != in_channels:
        raise ShapeError(
            f"in_channels={in_channels} must be the {channels} channels of {tuple(input_shape)}",
            shape=input_shape,
        )


class Conv1d(_Conv):
    """Convolution over one spatial axis; see `Conv2d`.

    >>> Conv1d(4, 8, kernel_size=3, dilation=2).output_shape((1, 4, 10))
    (1, 8, 6)
    """

    spatial = 1


class Conv2d(_Conv):
    """Convolution over two spatial axes, as `torch.nn.Conv2d`.

    y[n, o, p] = b[o] + sum_c sum_k x[n, g C/G + c, p * stride - padding + k * dilation] * w[o, c, k]

    Input (N, C, H, W) or (C, H, W); weight (O, C/G, kH, kW); bias (O,).
    Raises ArgumentError where the constructor of torch refuses, ShapeError where the call does.
    Not covered: integers and complex numbers, quantised weights.
    Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> Conv2d(3, 64, kernel_size=7, stride=2, padding=3).parameter_count
    9472
    """

    spatial = 2


class Conv3d(_Conv):
    """Convolution over three spatial axes; see `Conv2d`.

    >>> Conv3d(1, 2, kernel_size=(1, 3, 3)).output_shape((1, 5, 7, 7))
    (2, 5, 5, 5)
    """

    spatial = 3


# Domain


def domain(operator: type[_Conv]) -> Any:
    """Return the domain of a convolution: every axis with its own window, from the smallest legal size up."""
    spatial = operator.spatial

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        window_arguments = _draw_windows(pick, spatial)
        one_channel = operator(1, 1, **window_arguments)
        axes = zip(one_channel.windows, one_channel.least_sizes(), strict=True)
        smallest = [max(least, axis.span - axis.before - axis.after) for axis, least in axes]
        sizes = [size + pick.integer(0, 6) for size in smallest]
        positions = math.prod(window.output_sizes(one_channel.windows, sizes))
        taps = math.prod(axis.kernel for axis in one_channel.windows)
        groups, inputs, outputs, batch = _draw_channels(pick, 6000 // (positions * taps))
        channels = {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        arguments = {**channels, **window_arguments, "bias": pick.choice((True, False))}
        return without_defaults(operator, arguments), ((*batch, inputs, *sizes),)

    return draw


def _draw_windows(pick: Pick, spatial: int) -> dict[str, Any]:
    most = 3 if spatial == 3 else 4
    kernel = [pick.integer(1, most) for _ in range(spatial)]
    stride = [pick.integer(1, 4) if pick.choice((False, True)) else 1 for _ in range(spatial)]
    dilation = [pick.integer(1, 3) if pick.choice((False, False, True)) else 1 for _ in range(spatial)]
    kind = pick.choice(("integers", "integers", "integers", "same", "valid", "pointwise"))
    if kind == "pointwise":
        return {"kernel_size": spell(pick, [1] * spatial)}
    padding: Any = [pick.integer(0, k + 1) for k in kernel] if kind == "integers" else kind
    return {
        "kernel_size": spell(pick, kernel),
        "stride": 1 if kind == "same" else spell(pick, stride),
        "padding": padding if kind != "integers" else spell(pick, padding),
        "dilation": spell(pick, dilation),
        "padding_mode": pick.choice(("zeros",) * 5 + PADDING_MODES[1:]),
    }


def _draw_channels(pick: Pick, budget: int) -> tuple[int, int, int, Shape]:
    """Draw (groups, in_channels, out_channels, batch axes) that cost about `budget` per position and tap.

    A batch of 16 or more, from which on torch has kernels of its own, may cost four times as much.
    """
    many = ((16,), (17,)) if budget > 2 else ()
    batch: Shape = pick.choice((*((1,), (2,), (), (3,), (0,)) * 3, *many))
    budget = max(1, budget * (4 if batch in many else 1) // max(1, math.prod(batch)))
    groups = pick.choice((1, 1, 1, 2, 3, 4, 8, 16))
    counts = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
    groups = max(g for g in (1, 2, 3, 4, 8, 16) if g <= min(groups, budget))
    per_group = pick.choice([c for c in counts if c * groups <= budget])
    multiplier = pick.choice([c for c in counts if c * per_group * groups <= budget])
    return groups, groups * per_group, groups * multiplier, batch


SPECS = tuple(
    Spec(
        name=operator.__name__.lower(),
        operator=operator,
        operands=("input", "weight", "bias"),
        keywords=("stride", "padding", "dilation", "groups"),
        domain=domain(operator),
        laws=LAWS,
        layer=operator.__name__,
        twice=True,
        large=large.convolution(operator),
    )
    for operator in (Conv1d, Conv2d, Conv3d)
)
