"""Convolution layers of one, two and three dimensions (cross-correlation, as deep learning has it).

    y[n, o, p] = b[o] + sum_c sum_k x[n, g C/G + c, p * stride - padding + k * dilation] * w[o, c, k]

n batch, o output channel, p output position (one index per spatial axis), g = o // (O / G) its group,
c channel of the group, k kernel element. Taps outside the input are absent in padding_mode "zeros" (an
infinite weight on padding adds nothing) and read the reflected, replicated or wrapped input otherwise.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cnnspec import nested, window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.laws import BATCH
from cnnspec.nested import Array, Shape
from cnnspec.op import Call, Law, Operator, Pick, Spec, check_rank, per_axis, spell
from cnnspec.window import ReceptiveField, Window, same_padding

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class _Conv(Operator):
    """Arguments as `torch.nn.Conv2d` spells them; `weight` is (O, C/G, *kernel), `bias` (O,)."""

    spatial: ClassVar[int]

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
        for name in ("kernel_size", "stride", "dilation"):
            object.__setattr__(self, name, per_axis(name, getattr(self, name), self.spatial))
        if not isinstance(self.padding, str):
            object.__setattr__(self, "padding", per_axis("padding", self.padding, self.spatial))
        elif self.padding not in ("same", "valid"):
            raise ArgumentError(f"padding={self.padding!r} must be integers, 'same' or 'valid'", padding=self.padding)
        elif self.padding == "same" and any(stride != 1 for stride in self._stride):
            raise ArgumentError(f"padding='same' needs stride=1, not stride={self.stride}", stride=self.stride)
        if self.groups < 1:
            raise ArgumentError(f"groups={self.groups} must be at least 1", groups=self.groups)
        for name in ("in_channels", "out_channels"):
            channels = getattr(self, name)
            if channels % self.groups != 0:
                raise ArgumentError(f"groups={self.groups} must divide {name}={channels}", groups=self.groups)
            if channels < 0:
                raise ArgumentError(f"{name}={channels} must not be negative", **{name: channels})
        if any(size < 0 for size in self._kernel):
            raise ArgumentError(f"kernel_size={self.kernel_size} must not be negative", kernel_size=self.kernel_size)
        if self.padding_mode not in PADDING_MODES:
            raise ArgumentError(f"padding_mode={self.padding_mode!r} is not one of {', '.join(PADDING_MODES)}")

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (O, C/G, *kernel), "bias": (O,)}."""
        weight = {"weight": (self.out_channels, self.in_channels // self.groups, *self._kernel)}
        return {**weight, "bias": (self.out_channels,)} if self.bias else weight

    # Shapes

    @property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        return tuple(
            Window(kernel, stride, before, after, dilation)
            for kernel, stride, (before, after), dilation in zip(
                self._kernel, self._stride, self._pads(), self._dilation, strict=True
            )
        )

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, O, *spatial), or (O, *spatial) unbatched; ShapeError where torch refuses the call.

        >>> Conv2d(3, 64, kernel_size=7, stride=2, padding=3).output_shape((1, 3, 224, 224))
        (1, 64, 112, 112)
        """
        (input_shape,) = input_shapes
        batch, _, sizes = check_rank(input_shape, self.spatial, self.in_channels)
        window.check_fits(self.windows, sizes)
        if self.out_channels < 1:
            raise ShapeError(f"out_channels={self.out_channels} must be at least 1", out_channels=self.out_channels)
        limits = {"reflect": 1, "circular": 0}
        for axis, (before, after) in enumerate(self._pads()):
            room = sizes[axis] - limits.get(self.padding_mode, -math.inf)
            if max(before, after) > room:
                raise ShapeError(
                    f"padding={max(before, after)} in padding_mode={self.padding_mode!r} must be at most {room} "
                    f"on spatial axis {axis} of size {sizes[axis]}",
                    padding=self.padding,
                )
        return (*batch, self.out_channels, *window.output_sizes(self.windows, sizes))

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

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return what one output position sees, per spatial axis (padding_mode apart)."""
        return tuple(axis.receptive_field for axis in self.windows)

    def input_sizes(self, *output_sizes: int) -> tuple[range, ...]:
        """Return, per spatial axis, the input sizes that give the output size.

        >>> Conv2d(1, 1, 3, stride=2, padding=1).input_sizes(4, 5)
        (range(7, 9), range(9, 11))
        """
        return tuple(axis.input_sizes(size) for axis, size in zip(self.windows, output_sizes, strict=True))

    # Loop

    def reference(self, *arrays: Array) -> Array:
        """Return y of x (N, C, *spatial) or (C, *spatial), weight and bias, on any numbers.

        >>> Conv1d(1, 1, 2, bias=False).reference([[1, 2, 3, 4]], [[[3, 2]]])
        [[7, 12, 17]]
        """
        input, weight, bias = (*arrays, None)[:3]
        input_shape = nested.shape_of(input)
        shape = self.output_shape(input_shape)
        batched = len(input_shape) == self.spatial + 2
        x = nested.collapse(input if batched else [input], 2) if math.prod(shape) else []
        w, b = nested.collapse(weight, 2), nested.ravel(bias) if self.bias else None
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

    @property
    def _kernel(self) -> tuple[int, ...]:
        return per_axis("kernel_size", self.kernel_size, self.spatial)

    @property
    def _stride(self) -> tuple[int, ...]:
        return per_axis("stride", self.stride, self.spatial)

    @property
    def _dilation(self) -> tuple[int, ...]:
        return per_axis("dilation", self.dilation, self.spatial)

    def _pads(self) -> list[tuple[int, int]]:
        """Return (before, after) of each spatial axis."""
        if self.padding == "valid":
            return [(0, 0)] * self.spatial
        if self.padding == "same":
            return [same_padding(k, d) for k, d in zip(self._kernel, self._dilation, strict=True)]
        return [(p, p) for p in per_axis("padding", self.padding, self.spatial)]


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


def domain(spatial: int) -> Any:
    """Return the domain of the convolution with `spatial` axes: every axis with its own window."""

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        most = 3 if spatial == 3 else 4
        kernel = [pick.integer(1, most) for _ in range(spatial)]
        stride = [pick.integer(1, 4) if pick.choice((False, True)) else 1 for _ in range(spatial)]
        dilation = [pick.integer(1, 3) if pick.choice((False, False, True)) else 1 for _ in range(spatial)]
        kind = pick.choice(("integers", "integers", "integers", "same", "valid"))
        mode = pick.choice(("zeros",) * 5 + PADDING_MODES[1:])
        padding: Any = [pick.integer(0, k + 1) for k in kernel] if kind == "integers" else kind
        if kind == "same":
            stride = [1] * spatial
        sizes = [_size(pick, w, mode) for w in _windows(kernel, stride, padding, dilation)]
        positions = math.prod(window.output_sizes(_windows(kernel, stride, padding, dilation), sizes))
        groups, inputs, outputs, batch = _channels(pick, 6000 // (positions * math.prod(kernel)))
        arguments = {
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_size": spell(pick, kernel),
            "stride": spell(pick, stride),
            "padding": padding if isinstance(padding, str) else spell(pick, padding),
            "dilation": spell(pick, dilation),
            "groups": groups,
            "bias": pick.choice((True, False)),
            "padding_mode": mode,
        }
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True, "padding_mode": "zeros"}
        spelled = {name: v for name, v in arguments.items() if name not in defaults or v != defaults[name]}
        return spelled, ((*batch, inputs, *sizes),)

    return draw


def _windows(kernel: list[int], stride: list[int], padding: Any, dilation: list[int]) -> list[Window]:
    pads = [(p, p) for p in padding] if isinstance(padding, list) else [(0, 0)] * len(kernel)
    if padding == "same":
        pads = [same_padding(k, d) for k, d in zip(kernel, dilation, strict=True)]
    return [Window(k, s, *p, d) for k, s, p, d in zip(kernel, stride, pads, dilation, strict=True)]


def _size(pick: Pick, axis: Window, mode: str) -> int:
    """Draw an axis from its smallest legal size up, so that every remainder and overhang occurs."""
    reach = {"reflect": max(axis.before, axis.after) + 1, "circular": max(axis.before, axis.after)}
    return max(1, axis.span - axis.before - axis.after, reach.get(mode, 1)) + pick.integer(0, 6)


def _channels(pick: Pick, budget: int) -> tuple[int, int, int, Shape]:
    """Draw (groups, in_channels, out_channels, batch axes) that cost about `budget` per position and tap."""
    batch: Shape = pick.choice(((1,), (2,), (), (3,), (0,)))
    budget = max(1, budget // max(1, math.prod(batch)))
    groups = pick.choice((1, 1, 1, 2, 3, 4, 8, 16))
    counts = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
    groups = max(g for g in (1, 2, 3, 4, 8, 16) if g <= min(groups, budget))
    per_group = pick.choice([c for c in counts if c * groups <= budget])
    multiplier = pick.choice([c for c in counts if c * per_group * groups <= budget])
    return groups, groups * per_group, groups * multiplier, batch


# Laws


def _is_1x1(op: _Conv, shapes: tuple[Shape, ...]) -> bool:
    return set(op._kernel) == set(op._stride) == {1} and op.groups == 1 and set(op._pads()) == {(0, 0)}


def _zero_padded(op: _Conv, shapes: tuple[Shape, ...]) -> bool:
    return op.padding_mode == "zeros"


def _linearity(op: _Conv, call: Call, x: Array, weight: Array, bias: Array = None) -> tuple[Array, Array]:
    plain = _without_bias(op)
    flipped = nested.unravel(nested.ravel(x)[::-1], nested.shape_of(x))
    total = call(plain, nested.elementwise(lambda a, b: 2 * a - b, x, flipped), weight)
    parts = call(plain, x, weight), call(plain, flipped, weight)
    return total, nested.elementwise(lambda a, b: 2 * a - b, *parts)


def _bias_is_added(op: _Conv, call: Call, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    without, with_bias = call(_without_bias(op), x, weight), call(op, x, weight, bias)
    shape = nested.shape_of(without)
    pixels, values = math.prod(shape[-op.spatial :]), nested.ravel(without)
    added = [value + nested.ravel(bias)[i // pixels % op.out_channels] for i, value in enumerate(values)]
    return with_bias, nested.unravel(added, shape)


def _groups_are_parts(op: _Conv, call: Call, x: Array, weight: Array, *bias: Array) -> tuple[Array, Array]:
    c, o = op.in_channels // op.groups, op.out_channels // op.groups
    part = _replace(op, in_channels=c, out_channels=o, groups=1)
    channel = len(nested.shape_of(x)) - op.spatial - 1
    outputs = [
        call(
            part,
            nested.take(x, channel, range(g * c, g * c + c)),
            *(nested.take(array, 0, range(g * o, g * o + o)) for array in (weight, *bias)),
        )
        for g in range(op.groups)
    ]
    return call(op, x, weight, *bias), nested.concatenate(outputs, channel)


def _stride_subsamples(op: _Conv, call: Call, *operands: Array) -> tuple[Array, Array]:
    strided, dense = call(op, *operands), call(_replace(op, stride=1), *operands)
    for axis, stride in enumerate(op._stride, len(nested.shape_of(dense)) - op.spatial):
        dense = nested.take(dense, axis, range(0, nested.shape_of(dense)[axis], stride))
    return strided, dense


def _dilation_spreads_kernel(op: _Conv, call: Call, x: Array, weight: Array, *bias: Array) -> tuple[Array, Array]:
    spread = weight
    for axis, dilation in enumerate(op._dilation, 2):
        shape = nested.shape_of(spread)
        zeros = nested.elementwise(lambda value: 0, nested.take(spread, axis, [0]))
        slices = [nested.take(spread, axis, [k]) for k in range(shape[axis])]
        parts = [slices[0]] + [part for s in slices[1:] for part in (*[zeros] * (dilation - 1), s)]
        spread = nested.concatenate(parts, axis)
    kernel = nested.shape_of(spread)[2:]
    return call(op, x, weight, *bias), call(_replace(op, kernel_size=kernel, dilation=1), x, spread, *bias)


def _padding_is_explicit(op: _Conv, call: Call, x: Array, *parameters: Array) -> tuple[Array, Array]:
    padded = x
    for axis, (before, after) in enumerate(op._pads(), len(nested.shape_of(x)) - op.spatial):
        zeros = nested.elementwise(lambda value: 0, nested.take(padded, axis, [0]))
        padded = nested.concatenate([zeros] * before + [padded] + [zeros] * after, axis)
    return call(op, x, *parameters), call(_replace(op, padding=0), padded, *parameters)


def _pointwise_is_matrix_product(op: _Conv, call: Call, x: Array, weight: Array, *bias: Array) -> tuple[Array, Array]:
    shape = nested.shape_of(x)
    rows = nested.collapse(x if len(shape) == op.spatial + 2 else [x], 2)
    matrix, b = nested.collapse(weight, 1), nested.ravel(bias[0]) if bias else [0] * op.out_channels
    y = [
        b[o] + sum(matrix[o][c] * image[c][i] for c in range(op.in_channels))
        for image in rows
        for o in range(op.out_channels)
        for i in range(len(image[0]))
    ]
    return call(op, x, weight, *bias), nested.unravel(y, op.output_shape(shape))


def _replace(op: _Conv, **changes: Any) -> _Conv:
    return dataclasses.replace(op, **changes)


def _without_bias(op: _Conv) -> _Conv:
    return _replace(op, bias=False)


LAWS = (
    Law("linearity", "conv(2x - x') = 2 conv(x) - conv(x')", lambda op, shapes: True, _linearity),
    Law("bias", "conv(x, w, b) = conv(x, w) + b", lambda op, shapes: op.bias, _bias_is_added),
    BATCH,
    Law("groups", "groups = concatenation of the parts", lambda op, shapes: op.groups > 1, _groups_are_parts),
    Law(
        "stride",
        "stride s = every s-th output of stride 1",
        lambda op, shapes: op.padding != "same" and set(op._stride) != {1},
        _stride_subsamples,
    ),
    Law(
        "dilation",
        "dilation = kernel with zeros between its taps",
        lambda op, shapes: op.padding != "same" and set(op._dilation) != {1},
        _dilation_spreads_kernel,
    ),
    Law(
        "padding",
        "padding = convolution of the input padded with zeros",
        lambda op, shapes: _zero_padded(op, shapes) and set(op._pads()) != {(0, 0)},
        _padding_is_explicit,
    ),
    Law("pointwise", "1x1 = product of matrices over the channels", _is_1x1, _pointwise_is_matrix_product),
)


def _spec(operator: type[_Conv]) -> Spec:
    return Spec(
        name=operator.__name__.lower(),
        operator=operator,
        operands=("input", "weight", "bias"),
        keywords=("stride", "padding", "dilation", "groups"),
        domain=domain(operator.spatial),
        laws=LAWS,
        layer=operator.__name__,
    )


SPECS = tuple(_spec(operator) for operator in (Conv1d, Conv2d, Conv3d))
