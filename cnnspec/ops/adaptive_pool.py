"""Pooling to a given size: the maximum or the mean of windows that divide each axis as evenly as integers can.

    max: y[n, c, p] = max_i x[n, c, i]                    i in window(p)
    avg: y[n, c, p] = sum_i x[n, c, i] / |window(p)|
    window(p) = [floor(p L / O), ceil((p + 1) L / O)) on each axis of L elements that becomes O

n batch, c channel, p output position, i input element (one index per spatial axis). Neighbouring windows share an
element where O does not divide L, and every element lies in a window. The loops, their gradients and bounds stand
in `cnnspec.ops.pooling`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Windowed, each, integer, without_defaults
from cnnspec.ops import large, pool, pool_laws
from cnnspec.ops.pooling import Maximum, Mean, Regions, boxes, draw_shape
from cnnspec.spec import Call, Dialect, Law, Pick, Spec
from cnnspec.window import Window


class _AdaptivePool(Windowed):
    """What maximum and mean share: `output_size`, one integer for all axes or one for each, None to keep it."""

    output_size: int | tuple[int | None, ...] | None

    def __post_init__(self) -> None:
        self.normalise(("output_size",), _sizes)

    @property
    def windows(self) -> tuple[Window, ...]:
        """None: where they lie follows from the size of the input."""
        return ()

    def input_sizes(self, *output_sizes: int) -> tuple[range, ...]:
        """Return all sizes for each axis whose output size is given, the size itself for one that is kept."""
        pairs = zip(output_sizes, self._outputs(output_sizes), strict=True)
        return tuple(range(1, 1 << 62) if size == given else range(0) for size, given in pairs)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (N, C, *output_size), or (C, *output_size) unbatched; ShapeError where torch refuses the call.

        >>> AdaptiveAvgPool2d((None, 2)).output_shape((8, 3, 5, 7))
        (8, 3, 5, 2)
        """
        (input_shape,) = input_shapes
        batch, channels, sizes = self.split(input_shape)
        outputs = self._outputs(sizes)
        if any(size < 0 for size in outputs):
            raise ShapeError(
                f"output_size={self.output_size} must not be negative", output_size=self.output_size
            )
        if 0 in input_shape[self._first_full_axis(input_shape) :]:
            raise ShapeError(
                f"input of shape {tuple(input_shape)} has an empty axis: only the first may be",
                shape=input_shape,
            )
        return (*batch, channels, *outputs)

    def _outputs(self, sizes: Shape) -> Shape:
        given = self.output_size
        if isinstance(given, int):
            return (given,) * self.spatial
        if given is None or len(given) != self.spatial or (self.spatial == 1 and None in given):
            raise ShapeError(
                f"output_size={given} must be {self.spatial} integers"
                + (" or None" if self.spatial > 1 else ""),
                output_size=given,
            )
        return tuple(size if one is None else one for one, size in zip(given, sizes, strict=True))

    def _first_full_axis(self, input_shape: Shape) -> int:
        return 1

    def regions(self, sizes: Shape) -> Regions:
        """Return the flat indices of the elements in each window.

        >>> AdaptiveMaxPool1d(3).regions((5,))
        [[0, 1], [1, 2, 3], [3, 4]]
        """
        axes = [
            [range(p * size // outputs, -(-(p + 1) * size // outputs)) for p in range(outputs)]
            for size, outputs in zip(sizes, self._outputs(sizes), strict=True)
        ]
        return boxes(axes, sizes)


def _sizes(name: str, value: Any) -> Any:
    """Return integers and None as they are, a list as a tuple; ArgumentError for anything else."""
    return each(lambda name, one: None if one is None else integer(name, one), name, value)


@dataclass(frozen=True)
class _AdaptiveMaxPool(_AdaptivePool, Maximum):
    output_size: int | tuple[int | None, ...] | None
    return_indices: bool = False


@dataclass(frozen=True)
class _AdaptiveAvgPool(_AdaptivePool, Mean):
    output_size: int | tuple[int | None, ...] | None

    @property
    def divisions(self) -> int:  # type: ignore[override]
        """One for each axis, as libraries divide; two for a reciprocal, which rounds as well, and its product."""
        return max(2, self.spatial)

    def spatial_axes(self, input_shape: Shape) -> int:
        """Return how many of the last axes are spatial."""
        return self.spatial

    def divisors(self, input_shape: Shape) -> list[int]:
        """Return the number of elements in each window, in row-major order of the output."""
        counts = [len(region) for region in self.regions(input_shape[-self.spatial :])]
        return counts * math.prod(input_shape[: -self.spatial])

    def _first_full_axis(self, input_shape: Shape) -> int:
        """Return the first axis that must not be empty: in one and two dimensions torch takes empty channels."""
        return 1 if self.spatial == 3 else len(input_shape) - self.spatial


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum over windows that divide one spatial axis; see `AdaptiveMaxPool2d`.

    >>> AdaptiveMaxPool1d(3, return_indices=True).reference([[1, 5, 2, 3, 3]])
    ([[5, 5, 3]], [[1, 1, 3]])
    """

    spatial = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum over windows that divide two spatial axes, as `torch.nn.AdaptiveMaxPool2d`.

    y[n, c, p] = max_i x[n, c, i], i in [floor(p L / O), ceil((p + 1) L / O)) on each axis; with `return_indices`
    also where it stands, flat in the channel's image. The first of equal maxima wins, the last NaN.
    Input (N, C, H, W) or (C, H, W); output_size an integer or (H', W'), None for an axis that is kept.
    Raises ArgumentError for what is neither an integer nor None, ShapeError where torch refuses the call.
    Source: torch's documentation, and its rule for windows, `start_index` and `end_index`.

    >>> AdaptiveMaxPool2d((1, 2)).reference([[[0, 1, 2], [3, 4, 5]]])
    [[[4, 5]]]
    """

    spatial = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum over windows that divide three spatial axes; see `AdaptiveMaxPool2d`."""

    spatial = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean over windows that divide one spatial axis; see `AdaptiveAvgPool2d`.

    >>> AdaptiveAvgPool1d(3).reference([[1, 5, 3, 1, 1]])
    [[3, 3, 1]]
    >>> AdaptiveAvgPool1d(2).gradients([[6, 10]], [[0, 0, 0]])
    [[[3, 8, 5]]]
    """

    spatial = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean over windows that divide two spatial axes, as `torch.nn.AdaptiveAvgPool2d`.

    y[n, c, p] = sum_i x[n, c, i] / count, i in [floor(p L / O), ceil((p + 1) L / O)) on each axis.
    Input (N, C, H, W) or (C, H, W); output_size an integer or (H', W'), None for an axis that is kept.
    Raises ArgumentError for what is neither an integer nor None, ShapeError where torch refuses the call.
    Not covered: means of empty images, and inputs with too few axes, which torch takes where all outputs are 1.
    Source: torch's documentation, and its rule for windows, `start_index` and `end_index`.

    >>> AdaptiveAvgPool2d(1).reference([[[0, 1, 2], [3, 4, 5]]])
    [[[Fraction(5, 2)]]]
    """

    spatial = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean over windows that divide three spatial axes; see `AdaptiveAvgPool2d`."""

    spatial = 3


# Domain


def domain(operator: type[_AdaptivePool]) -> Any:
    """Return the domain: outputs that divide the input, that do not, and that are larger."""
    spatial = operator.spatial

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        sizes = [pick.integer(1, 5 if spatial == 3 else 9) for _ in range(spatial)]
        outputs: list[int | None] = [_draw_output(pick, size, spatial) for size in sizes]
        if pick.choice((False, False, True)):
            outputs = [outputs[0]] * spatial
        bare = len(set(outputs)) == 1 and None not in outputs and pick.choice((True, False))
        arguments: dict[str, Any] = {"output_size": outputs[0] if bare else tuple(outputs)}
        if issubclass(operator, _AdaptiveMaxPool):
            arguments["return_indices"] = pick.choice((False, True))
        return without_defaults(operator, arguments), (draw_shape(pick, sizes),)

    return draw


def _draw_output(pick: Pick, size: int, spatial: int) -> int | None:
    kind = pick.choice(("one", "below", "below", "below", "equal", "above", "kept"))
    if kind == "kept" and spatial > 1:
        return None
    if kind == "below":
        return pick.integer(1, size)
    return size + pick.integer(1, size + 2) if kind == "above" else 1 if kind == "one" else size


# Laws


def _mirrors(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    first = laws.spatial_axes(op, x).start
    return call(op, laws.mirrored(x, first)), laws.mirrored(call(op, x), first)


def _repeats(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    sizes = nested.shape_of(x)[-op.spatial :]
    twice = x
    for axis, size in zip(laws.spatial_axes(op, x), sizes, strict=True):
        twice = nested.take(twice, axis, [i // 2 for i in range(2 * size)])
    return call(laws.replaced(op, output_size=tuple(2 * size for size in sizes)), x), twice


def _maximum_in_stages(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    everything = laws.replaced(op, output_size=1)
    return call(everything, call(op, x)), call(everything, x)


def _one_output(op: Any, shapes: tuple[Shape, ...]) -> bool:
    return laws.one_output(op)


LAWS = (
    laws.BATCH,
    laws.CHANNELS,
    Law("mirror", "a mirrored input gives a mirrored output", _one_output, _mirrors),
    Law("repetition", "an output of twice the input's size repeats each element", _one_output, _repeats),
)
MAX_LAWS = (
    *LAWS,
    pool_laws.MINIMUM,
    pool_laws.INDICES,
    Law(
        "stages",
        "the maximum of the maxima is the maximum",
        lambda op, shapes: laws.one_output(op) and 0 not in op.output_shape(*shapes),
        _maximum_in_stages,
    ),
)


def _windows_of_one_size(plain: Callable[..., Any]) -> Dialect:
    """Return the dialect that divides an axis of L into O windows of L - (O - 1) s elements, s = L // O apart."""

    def reference(op: Any, x: Array) -> Array:
        sizes = nested.shape_of(x)[-op.spatial :]
        outputs = op.output_shape(nested.shape_of(x))[-op.spatial :]
        stride = [size // output for size, output in zip(sizes, outputs, strict=True)]
        kernel = [
            size - (output - 1) * step for size, output, step in zip(sizes, outputs, stride, strict=True)
        ]
        indices = {"return_indices": True} if getattr(op, "return_indices", False) else {}
        return plain(tuple(kernel), tuple(stride), **indices).reference(x)

    return Dialect(
        "exports to fixed windows",
        "all windows have one size, L - (O - 1) (L // O), L // O apart",
        lambda op: op.output_size not in (1, (1,) * op.spatial, (None,) * op.spatial),
        reference,
    )


def _spec(operator: type[_AdaptivePool], plain: type[Windowed]) -> Spec:
    maximum = issubclass(operator, _AdaptiveMaxPool)
    name = operator.__name__
    dialects = (_windows_of_one_size(plain),)
    return Spec(
        name=f"adaptive_{name[8:11].lower()}_pool{name[-2:]}",
        operator=operator,
        operands=("input",),
        keywords=("output_size", "return_indices") if maximum else ("output_size",),
        domain=domain(operator),
        laws=MAX_LAWS if maximum else LAWS,
        judged="copy" if maximum else "sum",
        layer=name,
        twice=True,
        dialects=(*dialects, pool_laws.PASSES_OVER_NAN) if maximum else dialects,
        large=None if maximum else large.adaptive_pooling(operator),
    )


SPECS = tuple(
    _spec(operator, plain)
    for operator, plain in (
        (AdaptiveMaxPool1d, pool.MaxPool1d),
        (AdaptiveMaxPool2d, pool.MaxPool2d),
        (AdaptiveMaxPool3d, pool.MaxPool3d),
        (AdaptiveAvgPool1d, pool.AvgPool1d),
        (AdaptiveAvgPool2d, pool.AvgPool2d),
        (AdaptiveAvgPool3d, pool.AvgPool3d),
    )
)
