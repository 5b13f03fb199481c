"""What an operator is: its own formulas, and what follows from them."""

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

from cnnspec import nested, rounding
from cnnspec.derivatives import pullback
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape, elementwise
from cnnspec.rounding import RoundingTerms
from cnnspec.window import ReceptiveField, Window

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

    def buffer_shapes(self) -> dict[str, Shape]:
        """Return the shape of each operand that is neither input nor parameter (running statistics) by name."""
        return {}

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the vector-Jacobian product: per operand d(sum grad_output * y) / d operand, None where constant.

        Here it is `reference` run backwards, on any numbers; an operator whose gradient reads well states it.
        """
        return pullback(self.reference, grad_output, operands)

    def differentiable(self, *input_shapes: Shape) -> bool:
        """Say whether gradients are asked of the call."""
        return True

    def updates(self, *operands: Array) -> dict[str, Array]:
        """Return the new values of the operands that a call changes, by name (running statistics)."""
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

    def norm_ops(self, *input_shapes: Shape) -> int:
        """Return the operations of a normalization, which are no products of weights."""
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

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return what bounds the rounding errors of a direct evaluation; see `RoundingTerms`.

        Here the operator is a sum of products: S = sum |x| |w| (+ |b|), and terms that are not zero count.
        """
        given = [array for array in arrays if array is not None]
        magnitude = self.reference(*(elementwise(abs, array) for array in given))
        count = self.reference(*(elementwise(_present, array) for array in given))
        return RoundingTerms(nested.ravel(magnitude), nested.ravel(count))

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return what bounds the rounding errors of each gradient; None where an operand is constant.

        Here gradients are sums of products as well: S and the count of their terms that are not zero.
        """
        magnitudes = self.gradients(*(elementwise(abs, array) for array in (grad_output, *operands)))
        counts = self.gradients(*(elementwise(_present, array) for array in (grad_output, *operands)))
        return [
            None if size is None else RoundingTerms(nested.ravel(size), nested.ravel(count))
            for size, count in zip(magnitudes, counts, strict=True)
        ]

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


def _present(value: Any) -> int:
    return int(value != 0)


class Routing(Operator):
    """What operators share that copy elements to where other elements say, or the shape: gradients are sums of g."""

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return S = sum |g| and the count of the terms that are not zero, for each gradient."""
        magnitudes = self.gradients(elementwise(abs, grad_output), *operands)
        counts = self.gradients(elementwise(_present, grad_output), *operands)
        return [
            None if size is None else RoundingTerms(nested.ravel(size), nested.ravel(count))
            for size, count in zip(magnitudes, counts, strict=True)
        ]


class Composed(Operator):
    """What operators share whose error bound is that of their own formula, step by step: see `cnnspec.rounding`.

    `reference` and `gradients` must be written as libraries compute them; then any order of sums is covered.
    """

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return the bound of the formula's steps, for each output."""
        return rounding.terms(self.reference(*map(rounding.rounded, arrays)))

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return the bound of the formula's steps, for each element of each gradient."""
        gradients = self.gradients(*map(rounding.rounded, (grad_output, *operands)))
        return [None if one is None else rounding.terms(one) for one in gradients]


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


def bytes_per_element(dtype: str) -> int:
    """Return the bytes of one element of `dtype`.

    >>> bytes_per_element("bfloat16")
    2
    """
    if dtype not in BYTES_PER_ELEMENT:
        raise ArgumentError(f"dtype={dtype!r} is not one of {', '.join(BYTES_PER_ELEMENT)}", dtype=dtype)
    return BYTES_PER_ELEMENT[dtype]


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


def number(name: str, value: Any) -> Any:
    """Return `value` if it is a real number; ArgumentError where it is none.

    >>> number("alpha", 0.5)
    0.5
    """
    if not isinstance(value, Real):
        raise ArgumentError(f"{name}={value!r} must be a number", **{name: value})
    return value


def each(form: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    """Return form(name, element) of each element of a list or tuple, as a tuple; of anything else form(name, value).

    >>> each(integer, "kernel_size", [2, 3]), each(integer, "kernel_size", 2)
    ((2, 3), 2)
    """
    return tuple(form(name, one) for one in value) if isinstance(value, list | tuple) else form(name, value)


def without_defaults(operator_class: type[Operator], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments but those that say what is the default anyway.

    >>> from cnnspec.ops.linear import Linear
    >>> without_defaults(Linear, {"in_features": 2, "out_features": 3, "bias": True})
    {'in_features': 2, 'out_features': 3}
    """
    missing = dataclasses.MISSING
    defaults = {field.name: field.default for field in dataclasses.fields(operator_class)}  # type: ignore[arg-type]
    return {k: v for k, v in arguments.items() if defaults[k] is missing or v != defaults[k]}
