"""Padding of the last axes: with a constant, or with what the input holds.

    y[..., p] = x[..., source(p - before)]

source is the index itself inside the input; outside it is absent (constant), mirrored without repeating the
edge (reflect), the edge (replicate) or wrapped (circular). Negative constant padding crops.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested, window
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Routing, integer
from cnnspec.spec import Call, Law, Pick, Spec
from cnnspec.window import source

MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Pad(Routing):
    """Pad the last axes, as `torch.nn.functional.pad`: pairs (before, after), the last axis first.

    y[..., p] = x[..., source(p - before)], or `value` where the constant mode has no source.
    Input: any shape for "constant"; the other modes pad the last 1, 2 or 3 axes of an input with channels, or
    batch and channels, before them. Negative padding crops.
    Raises ArgumentError for an unknown mode or an odd number of paddings, ShapeError where torch refuses.
    Not covered: circular padding of an axis that is cropped on its other side to less than the padding, for
    which torch returns memory that it has not written.
    Source: torch's documentation of `torch.nn.functional.pad`.

    >>> Pad((1, 2)).reference([[1, 2, 3]])
    [[0, 1, 2, 3, 0, 0]]
    >>> Pad((1, 2), mode="reflect").reference([[1, 2, 3]])
    [[2, 1, 2, 3, 2, 1]]
    """

    padding: tuple[int, ...]
    mode: str = "constant"
    value: float = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", tuple(integer("padding", one) for one in self.padding))
        if self.mode not in MODES:
            raise ArgumentError(f"mode={self.mode!r} is not one of {', '.join(MODES)}", mode=self.mode)
        if len(self.padding) % 2:
            raise ArgumentError(
                f"padding={self.padding} must hold pairs (before, after)", padding=self.padding
            )
        if self.mode != "constant" and self.value != 0:
            raise ArgumentError(f"value={self.value} has no meaning in mode={self.mode!r}", value=self.value)

    def pads(self, axes: int) -> list[tuple[int, int]]:
        """Return (before, after) of each of `axes` axes, the first axis first."""
        pairs = list(zip(self.padding[::2], self.padding[1::2], strict=True))[::-1]
        return [(0, 0)] * (axes - len(pairs)) + pairs

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the padded shape; ShapeError where torch refuses the call.

        >>> Pad((1, 1, 2, 0)).output_shape((3, 4, 5))
        (3, 6, 7)
        """
        (shape,) = input_shapes
        count = len(self.padding) // 2
        if count > len(shape):
            raise ShapeError(
                f"padding={self.padding} pads {count} axes, input of shape {tuple(shape)} has fewer"
            )
        pads = self.pads(len(shape))
        if self.mode != "constant":
            window.check_border(self.mode, shape, pads[len(shape) - count :])
        for size, (before, after) in zip(shape, pads, strict=True):
            if self.mode == "constant" and size + min(before, 0) + min(after, 0) < 0:
                raise ShapeError(
                    f"padding={self.padding} crops more than the input of shape {tuple(shape)} has"
                )
        return tuple(size + before + after for size, (before, after) in zip(shape, pads, strict=True))

    def reference(self, *arrays: Array) -> Array:
        """Return the padded input."""
        (input,) = arrays
        shape = nested.shape_of(input)
        output = self.output_shape(shape)
        values: Any = nested.ravel(input)
        sources: list[int | None] = [0]
        for size, (before, after) in zip(shape, self.pads(len(shape)), strict=True):
            axis = self._axis_sources(size, before, after)
            sources = [None if s is None or i is None else s * size + i for s in sources for i in axis]
        return nested.unravel([self.value if i is None else values[i] for i in sources], output)

    def _axis_sources(self, size: int, before: int, after: int) -> list[int | None]:
        """Return the input index at each position of a padded axis; None for the constant."""
        if self.mode != "circular":
            return [source(p, size, self.mode) for p in range(-before, size + after)]
        start, kept = max(0, -before), size + min(0, before) + min(0, after)  # it repeats what a crop leaves
        return [start + p % kept for p in range(-max(0, before), kept + max(0, after))]


def domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    """Draw 1 to 3 padded axes, every side by itself; crops in the constant mode."""
    mode = pick.choice(MODES)
    axes = pick.integer(1, 3)
    sizes = [pick.integer(1, 6) for _ in range(axes)]
    most = {"constant": 4, "reflect": -1, "replicate": 5, "circular": 0}[mode]
    padding: list[int] = []
    for size in sizes[::-1]:
        limit = most if mode in ("constant", "replicate") else size + most
        lowest = -(size // 2) if mode == "constant" and pick.choice((False, False, True)) else 0
        padding += [pick.integer(lowest, limit), pick.integer(lowest, limit)]
    arguments: dict[str, Any] = {"padding": tuple(padding)}
    if mode != "constant":
        arguments["mode"] = mode
    elif pick.choice((False, True)):
        arguments["value"] = pick.choice((1, -2, 5))
    batch: Shape = pick.choice(((1,), (2,), (3,), ()))
    return arguments, ((*batch, pick.choice((1, 2, 3, 5)), *sizes),)


def _padding_undone(op: Pad, call: Call, x: Array) -> tuple[Array, Array]:
    back = Pad(tuple(-p for p in op.padding))
    return call(back, call(op, x)), x


LAWS = (Law("cropping", "cropping undoes padding", lambda op, shapes: min(op.padding) >= 0, _padding_undone),)

SPECS = (
    Spec(
        name="pad",
        operator=Pad,
        operands=("input",),
        keywords=("padding", "mode", "value"),
        domain=domain,
        laws=LAWS,
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
    ),
)
