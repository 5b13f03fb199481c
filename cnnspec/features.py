"""A case as a table of features looks at it, and the questions that take more than one line."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from cnnspec import ops
from cnnspec.cases import Case
from cnnspec.errors import ShapeError
from cnnspec.op import arguments_of
from cnnspec.window import Window

LAYOUTS = (
    *("contiguous", "channels_last", "transposed", "channel_slice", "step_2", "offset", "odd_strides"),
    "channels_last_slice",
)
CHANNELS = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels")
"""Arguments that count channels or features."""

BEHIND_THE_BATCH = ("global_pool", "upsample", "lrn", "nll_loss", "cross_entropy")
"""Families that have channels or classes on the second axis, whatever follows."""

_LEAST_AXES = {
    "channels_last": 3,
    "transposed": 2,
    "channel_slice": 2,
    "odd_strides": 2,
    "channels_last_slice": 3,
}


@dataclass(frozen=True)
class Feature:
    """Something that a case can have; `hit` is asked only where it `applies`."""

    name: str
    applies: Callable[["View"], bool]
    hit: Callable[["View"], bool]
    why: str


class View:
    """A case with everything that features ask for, each worked out once."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.name, self.family = case.operator, ops.family(case.operator)
        self.operation = case.operation
        self.arguments = arguments_of(self.operation)
        self.shape = case.inputs[0]
        parameters = self.operation.parameter_shapes()
        self.shapes = {"input": self.shape, **parameters}
        self.windows: tuple[Window, ...] = getattr(self.operation, "windows", ())
        self.sizes = self.shape[len(self.shape) - len(self.windows) :]
        self.kernel = [window.kernel for window in self.windows]
        self.stride = [window.stride for window in self.windows]
        self.dilation = [window.dilation for window in self.windows]
        self.before = [window.before for window in self.windows]
        self.padded = max(self.before, default=0) > 0
        leading = self.shape[: -1 - len(self.windows)]
        self.batch = leading[0] if leading else None
        self.groups = self.arguments.get("groups", 1)
        self.channels = self._channels()

    def _channels(self) -> tuple[int, ...]:
        """Return the channels or features in and out, or the classes; else the length of the input's last axis."""
        stated = tuple(self.arguments[name] for name in CHANNELS if name in self.arguments)
        if stated or not self.shape:
            return stated
        if self.family == "softmax":
            return (self.shape[self.arguments["dim"]],)
        if self.family in BEHIND_THE_BATCH:
            return (self.shape[min(1, len(self.shape) - 1)],)
        return (self.shape[-1 - getattr(self.operation, "spatial", 0)],)

    @property
    def spatial(self) -> tuple[int, ...]:
        """The spatial sizes of the input."""
        return (
            self.shape[len(self.shape) - self.operation.spatial :]
            if hasattr(self.operation, "spatial")
            else ()
        )

    @property
    def output(self) -> tuple[int, ...]:
        """The spatial sizes of the output."""
        shape = self.operation.output_shape(*self.case.inputs)
        return shape[len(shape) - len(self.spatial) :]

    @cached_property
    def starts(self) -> list[tuple[int, int]]:
        """Per spatial axis, where the last window starts and where the input ends."""
        axes = zip(self.windows, self.sizes, strict=True)
        return [(window.start(window.output_size(size) - 1), size) for window, size in axes]

    @property
    def remainders(self) -> list[int]:
        """Per spatial axis with a stride, how many pixels no window reaches."""
        axes = zip(self.windows, self.sizes, strict=True)
        return [window.remainder(size) for window, size in axes if window.stride > 1]

    @property
    def overhangs(self) -> bool:
        """Whether a last window reaches behind the input and its padding."""
        axes = zip(self.windows, self.starts, strict=True)
        return any(start + window.span > size + window.after for window, (start, size) in axes)

    @property
    def drops(self) -> bool:
        """Whether ceil mode leaves out a window, because it would start behind the input."""
        for window, size in zip(self.windows, self.sizes, strict=True):
            room = size + window.before + window.after - window.span
            if window.ceil_mode and window.output_size(size) < -(-room // window.stride) + 1:
                return True
        return False

    @property
    def tapless(self) -> bool:
        """Whether some window touches no element of the input."""
        axes = list(zip(self.windows, self.sizes, strict=True))
        return self.padded and any(
            not w.taps(p, size) for w, size in axes for p in range(w.output_size(size))
        )

    @property
    def smallest(self) -> bool:
        """Whether some spatial axis cannot be one shorter."""
        return any(
            self._is_least(axis) for axis in range(len(self.shape) - len(self.windows), len(self.shape))
        )

    def _is_least(self, axis: int) -> bool:
        try:
            self.operation.output_shape((*self.shape[:axis], self.shape[axis] - 1, *self.shape[axis + 1 :]))
        except ShapeError:
            return True
        return False

    def spelled(self, kind: type) -> bool:
        """Return whether an argument with a value per axis is written as a `kind`."""
        names = ("kernel_size", "stride", "padding", "dilation")
        return any(isinstance(self.case.arguments.get(name), kind) for name in names)


def differ(values: list[int]) -> bool:
    """Return whether the axes have different values.

    >>> differ([3, 3]), differ([3, 2])
    (False, True)
    """
    return len(set(values)) > 1


def is_wide(v: View) -> bool:
    """Say whether the operator has channels, or rows of numbers, that a kernel computes several at a time."""
    return v.family not in ("pad", "combine", "dropout", "losses", "flatten", "fold")


def around(size: int) -> Feature:
    """Return the feature of channels next to a width of vectors."""
    return Feature(
        f"channels around {size}",
        lambda v: bool(v.channels) and is_wide(v),
        lambda v: any(abs(count - size) <= 1 for count in v.channels),
        "edges of vectors and tiles",
    )


def argument(families: tuple[str, ...], name: str, value: object, why: str) -> Feature:
    """Return the feature of one value of an argument, asked of the operators of some families that have it."""
    return Feature(
        f"{name} {value}",
        lambda v: v.family in families and name in v.arguments,
        lambda v: bool(v.arguments[name] == value),
        why,
    )


def layout(operand: str, name: str) -> Feature:
    """Return the feature of one layout of an operand, asked where the operand has axes enough to tell it.

    Odd strides are those of axes of size 1, so only operands with such an axis have them.
    """
    least = _LEAST_AXES.get(name, 1)
    return Feature(
        f"{operand} {name}",
        lambda v: (
            len(v.shapes.get(operand, ())) >= least and (name != "odd_strides" or 1 in v.shapes[operand])
        ),
        lambda v: v.case.layout.get(operand, "contiguous") == name,
        "strides and offset are read, not assumed",
    )


def regime(name: str) -> Feature:
    """Return the feature of one regime of data; integer types have two."""
    return Feature(
        f"regime {name}",
        lambda v: "int" not in v.case.dtype or name in ("integers", "special"),
        lambda v: v.case.regime == name,
        "each finds what the others miss",
    )


def dtype(name: str) -> Feature:
    """Return the feature of one dtype, asked of the operators that are tested in it."""
    return Feature(
        f"dtype {name}",
        lambda v: name in v.case.spec.dtypes,
        lambda v: v.case.dtype == name,
        "a kernel of its own",
    )
