"""What an operator is: its own formulas (`Operator`), its domain and laws (`Spec`, `Law`, `Pick`)."""

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape, elementwise
from cnnspec.window import ReceptiveField, Window

T = TypeVar("T")

BYTES_PER_ELEMENT = {
    "float64": 8, "float32": 4, "bfloat16": 2, "float16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
}  # fmt: skip


class Operator:
    """What every operator derives from its own formulas.

    An operator is a frozen dataclass: its fields are its arguments, spelled as `torch.nn` spells them.
    It states `output_shape` and `reference`, and overrides what is not zero or empty.
    """

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the output; ShapeError where torch refuses the call."""
        raise NotImplementedError

    def reference(self, *arrays: Array) -> Array:
        """Return the output, by the definition, on nested lists of any numbers."""
        raise NotImplementedError

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shape of each parameter by name."""
        return {}

    def macs(self, *input_shapes: Shape) -> int:
        """Return the nominal multiply-accumulates: taps on padding count."""
        return 0

    def macs_effective(self, *input_shapes: Shape) -> int:
        """Return the multiply-accumulates that touch data: taps on zero padding do not count."""
        return self.macs(*input_shapes)

    def bias_adds(self, *input_shapes: Shape) -> int:
        """Return the additions of a bias."""
        return 0

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return, per spatial axis, what an output position sees; empty where it is one element or all."""
        return ()

    @property
    def parameter_count(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def flops(self, *input_shapes: Shape) -> int:
        """Return 2 * macs: multiplications and additions of the nominal products; bias_adds stand apart."""
        return 2 * self.macs(*input_shapes)

    def parameter_bytes(self, dtype: str = "float32") -> int:
        """Return the bytes of all parameters in `dtype`."""
        return self.parameter_count * bytes_per_element(dtype)

    def activation_bytes(self, *input_shapes: Shape, dtype: str = "float32") -> int:
        """Return the bytes of the output in `dtype`."""
        return math.prod(self.output_shape(*input_shapes)) * bytes_per_element(dtype)

    def rounding_terms(self, *arrays: Array) -> "RoundingTerms":
        """Return what bounds the rounding errors of a direct evaluation; see `RoundingTerms`.

        Here the operator is a sum of products: S = sum |x| |w| (+ |b|), and terms that are not zero count.
        """
        given = [array for array in arrays if array is not None]
        magnitude = self.reference(*(elementwise(abs, array) for array in given))
        count = self.reference(*(elementwise(lambda value: int(value != 0), array) for array in given))
        return RoundingTerms(nested.ravel(magnitude), nested.ravel(count))

    def normalise(self, names: Sequence[str], form: Callable[[str, Any], Any]) -> None:
        """Set each argument to form(name, value): dataclasses that are frozen allow it no other way."""
        for name in names:
            object.__setattr__(self, name, form(name, getattr(self, name)))

    def check_parameters(self, given: Sequence[Array]) -> list[Array]:
        """Return the parameters that are given; ShapeError unless they are those of `parameter_shapes`."""
        given = [array for array in given if array is not None]
        expected = self.parameter_shapes()
        if len(given) != len(expected):
            raise ShapeError(f"{len(given)} parameters given, expected {' and '.join(expected) or 'none'}")
        for (name, shape), array in zip(expected.items(), given, strict=True):
            if math.prod(shape) and nested.shape_of(array) != shape:
                raise ShapeError(f"{name} of shape {nested.shape_of(array)} must be {shape}", **{name: shape})
        return given


class Windowed(Operator):
    """What operators share that slide a window over `spatial` axes: receptive field, inverse shapes."""

    spatial: ClassVar[int]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The sliding window of each spatial axis."""
        raise NotImplementedError

    def split(self, input_shape: Shape) -> tuple[Shape, int, Shape]:
        """Split an input shape into batch axes, channels and spatial sizes; unbatched, it has no batch axis.

        Raises ShapeError for a wrong number of axes.

        >>> from cnnspec.ops.pool import MaxPool2d
        >>> MaxPool2d(2).split((8, 3, 5, 7)), MaxPool2d(2).split((3, 5, 7))
        (((8,), 3, (5, 7)), ((), 3, (5, 7)))
        """
        shape, axes = tuple(input_shape), self.spatial
        if len(shape) not in (axes + 1, axes + 2):
            raise ShapeError(
                f"input of shape {shape} must have {axes + 2} axes (batch, channels, {axes} spatial) "
                f"or {axes + 1} without the batch",
                shape=shape,
            )
        return shape[: -axes - 1], shape[-axes - 1], shape[-axes:]

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return what one output position sees, per spatial axis; what lies outside the input is padding."""
        return tuple(window.receptive_field for window in self.windows)

    def input_sizes(self, *output_sizes: int) -> tuple[range, ...]:
        """Return, per spatial axis, the input sizes that give the output size; empty where none does.

        >>> from cnnspec.ops.conv import Conv2d
        >>> Conv2d(1, 1, 3, stride=2, padding=1).input_sizes(4, 5)
        (range(7, 9), range(9, 11))
        """
        sizes = [w.input_sizes(size) for w, size in zip(self.windows, output_sizes, strict=True)]
        least = self.least_sizes()
        return tuple(range(max(r.start, low), max(r.stop, low)) for r, low in zip(sizes, least, strict=True))

    def least_sizes(self) -> tuple[int, ...]:
        """Return, per spatial axis, the smallest input size allowed for another reason than the window."""
        return (1,) * self.spatial

    def integers(self, name: str, value: Any) -> tuple[int, ...]:
        """Return integers as a tuple, one integer repeated for each spatial axis; else ArgumentError."""
        if isinstance(value, list | tuple):
            return tuple(integer(name, element) for element in value)
        return (integer(name, value),) * self.spatial

    def axes(self, name: str, *, broadcast: bool = True) -> tuple[int, ...]:
        """Return the argument `name` as one integer per spatial axis.

        Where torch does so, a sequence of one integer stands for all axes (`broadcast`). ShapeError for any
        other wrong number: torch.nn's constructors let it pass, and the call refuses.
        """
        values: tuple[int, ...] = getattr(self, name)
        if len(values) == 1 and broadcast:
            return values * self.spatial
        if len(values) != self.spatial:
            raise ShapeError(f"{name}={values} must be {self.spatial} integers", **{name: values})
        return values


@dataclass(frozen=True)
class RoundingTerms:
    """Per output element: |computed - exact| <= (roundings + 2 * elementary * ulps) * u * magnitude.

    u is the unit roundoff of the accumulation, `ulps` the error of the library's exp, log or tanh in units in
    the last place, `elementary` how many such errors the result contains. For sums of products the magnitude
    is S = sum |x| |w| and the roundings are the terms that are not zero. Where the sum is divided at the end,
    it is that of the sum before, `divisors` are what it is divided by, and the division is one of the
    roundings.
    Source: Jeannerod & Rump, "Improved error bounds for inner products in floating-point arithmetic",
    SIAM J. Matrix Anal. Appl. 34(2), 2013: n u S holds in any order, with or without fused multiply-add.
    """

    magnitude: list[Any]
    roundings: list[Any]
    elementary: int = 0
    divisors: list[int] | None = None


def bytes_per_element(dtype: str) -> int:
    """Return the bytes of one element of `dtype`.

    >>> bytes_per_element("bfloat16")
    2
    """
    if dtype not in BYTES_PER_ELEMENT:
        raise ArgumentError(f"dtype={dtype!r} is not one of {', '.join(BYTES_PER_ELEMENT)}", dtype=dtype)
    return BYTES_PER_ELEMENT[dtype]


class Pick(Protocol):
    """A source of decisions: Hypothesis, a seeded generator, or an enumeration; earlier is simpler."""

    def integer(self, low: int, high: int) -> int:
        """Return an integer of [low, high]."""
        ...

    def choice(self, options: Sequence[T]) -> T:
        """Return one of `options`."""
        ...


Call = Callable[..., Array]
"""call(operator, *operands) -> output: runs the implementation under test on nested lists."""


@dataclass(frozen=True)
class Law:
    """A statement that holds with no reference: two sides that must be equal on exact data.

    `sides` gets the operator, a `Call` and the operands, and returns the two sides; only the judge compares.
    """

    name: str
    statement: str
    applies: Callable[[Any, tuple[Shape, ...]], bool]
    sides: Callable[..., tuple[Array, Array]]


@dataclass(frozen=True)
class Spec:
    """All that the suite needs to test one operator.

    name:      as in torch.nn.functional
    operator:  the class
    operands:  names of inputs and parameters, in the order of `reference` and of the functional call
    keywords:  the fields that the functional form takes by keyword
    domain:    draws (arguments as spelled, input shapes) from a Pick
    laws:      what holds without a reference
    judged:    "sum" within count * u * S; "copy" bit for bit; "function" within ulps of a rigorous enclosure
    dtypes:    those it is tested in
    layer:     the name in torch.nn, "" where there is none
    gathers:   the functional form takes its inputs as one list
    """

    name: str
    operator: type[Operator]
    operands: tuple[str, ...]
    keywords: tuple[str, ...]
    domain: Callable[[Pick], tuple[Mapping[str, Any], tuple[Shape, ...]]]
    laws: tuple[Law, ...] = ()
    judged: Literal["sum", "copy", "function"] = "sum"
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16", "float16")
    layer: str = ""
    gathers: bool = False

    @property
    def input_count(self) -> int:
        """How many operands are inputs: those named so."""
        return sum(name.startswith("input") for name in self.operands)


def arguments_of(operation: Operator) -> dict[str, Any]:
    """Return the arguments of an operator by name.

    >>> from cnnspec.ops.linear import Linear
    >>> arguments_of(Linear(2, 3))
    {'in_features': 2, 'out_features': 3, 'bias': True}
    """
    return {
        field.name: getattr(operation, field.name)
        for field in dataclasses.fields(operation)  # type: ignore[arg-type]
    }


def integer(name: str, value: Any) -> int:
    """Return `value` if it is an integer of any type; ArgumentError where it is none, or True or False.

    >>> integer("groups", 2)
    2
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ArgumentError(f"{name}={value!r} must be an integer", **{name: value})
    return operator.index(value)


def spell(pick: Pick, values: Sequence[int]) -> int | tuple[int, ...]:
    """Return per-axis values as a caller may spell them: one integer where all agree, or the tuple."""
    if len(set(values)) == 1 and pick.choice((True, False)):
        return values[0]
    return tuple(values)


def without_defaults(operator_class: type[Operator], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments but those that say what is the default anyway.

    >>> from cnnspec.ops.linear import Linear
    >>> without_defaults(Linear, {"in_features": 2, "out_features": 3, "bias": True})
    {'in_features': 2, 'out_features': 3}
    """
    missing = dataclasses.MISSING
    defaults = {field.name: field.default for field in dataclasses.fields(operator_class)}  # type: ignore[arg-type]
    return {k: v for k, v in arguments.items() if defaults[k] is missing or v != defaults[k]}
