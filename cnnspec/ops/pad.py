"""Padding of the last axes: with a constant, or with what the input holds.

    y[..., p] = x[..., source(p - before)]

source is the index itself inside the input; outside it is absent (constant), mirrored without repeating the
edge (reflect), the edge (replicate) or wrapped (circular). Negative constant padding crops.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Call, Law, Operator, Pick, Spec
from cnnspec.window import source

MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Pad(Operator):
    """Pad the last axes, as `torch.nn.functional.pad`: pairs (before, after), the last axis first.

    y[..., p] = x[..., source(p - before)], or `value` where the constant mode has no source.
    Input: any shape for "constant"; for the other modes the pairs pad the 1, 2 or 3 last axes of an input with
    one or two axes more (channels, batch). Raises ArgumentError for an unknown mode or an odd number of paddings,
    ShapeError where torch refuses the call.
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
        object.__setattr__(self, "padding", tuple(self.padding))
        if self.mode not in MODES:
            raise ArgumentError(f"mode={self.mode!r} is not one of {', '.join(MODES)}", mode=self.mode)
        if len(self.padding) % 2:
            raise ArgumentError(f"padding={self.padding} must hold pairs (before, after)", padding=self.padding)
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
            raise ShapeError(f"padding={self.padding} pads {count} axes, input of shape {tuple(shape)} has fewer")
        if self.mode != "constant":
            self._check_borders(shape, count)
        output = tuple(size + before + after for size, (before, after) in zip(shape, self.pads(len(shape)), strict=True))
        if any(size < 0 for size in output):
            raise ShapeError(f"padding={self.padding} crops more than the input of shape {tuple(shape)} has")
        return output

    def _check_borders(self, shape: Shape, count: int) -> None:
        """Raise ShapeError where the border has nothing to read."""
        if not 1 <= count <= 3 or len(shape) not in (count + 1, count + 2):
            raise ShapeError(
                f"mode={self.mode!r} pads the last 1, 2 or 3 axes of an input with one or two axes more; "
                f"padding={self.padding} does not fit shape {tuple(shape)}"
            )
        for axis, (size, (before, after)) in enumerate(zip(shape, self.pads(len(shape)), strict=True)):
            room = {"reflect": size - 1, "circular": size, "replicate": math.inf}[self.mode]
            if max(before, after) > room:
                raise ShapeError(
                    f"padding={max(before, after)} in mode={self.mode!r} must be at most {room} on axis {axis} "
                    f"of size {size}",
                    axis=axis,
                )
            if size + before + after < 1 or (size < 1 and axis >= len(shape) - count - 1):
                raise ShapeError(f"axis {axis} of shape {tuple(shape)} is or becomes empty: nothing to read", axis=axis)

    def reference(self, *arrays: Array) -> Array:
        """Return the padded input."""
        (input,) = arrays
        shape = nested.shape_of(input)
        output = self.output_shape(shape)
        values: Any = nested.ravel(input)
        sources: list[int | None] = [0]
        for size, (before, after) in zip(shape, self.pads(len(shape)), strict=True):
            axis = [source(p, size, self.mode) for p in range(-before, size + after)]
            sources = [None if s is None or i is None else s * size + i for s in sources for i in axis]
        return nested.unravel([self.value if i is None else values[i] for i in sources], output)


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
        arguments["value"] = pick.choice((1, -2, 0.5))
    batch: Shape = pick.choice(((1,), (2,), (3,), ()))
    return arguments, ((*batch, pick.choice((1, 2, 3, 5)), *sizes),)


def _padding_undone(op: Pad, call: Call, x: Array) -> tuple[Array, Array]:
    back = Pad(tuple(-p for p in op.padding))
    return call(back, call(op, x)), x


LAWS = (
    Law("cropping", "cropping undoes padding", lambda op, shapes: min(op.padding) >= 0, _padding_undone),
)

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
