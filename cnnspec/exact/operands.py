"""Arguments and results of the functions in `cnnspec.exact.functional`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS, Format
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.exact.engine import Rounded, Statistics, rounded, summed
from cnnspec.exact.products import Scratch
from cnnspec.exact.sums import container
from cnnspec.exact.ways import AnyKind

Values = npt.NDArray[Any]
Sizes = int | Sequence[int]
Products = Mapping[str, tuple[Callable[..., AnyKind], Values, Values, tuple[int, ...]]]

BUDGET_BYTES = 64 << 20
"""What a call may take beside its arguments and results; at least one row of positions is held."""


@dataclass(frozen=True)
class Options:
    """What a call asks for beside its operands."""

    full: bool
    budget: int


class Gradients(NamedTuple):
    """The gradients of input, weight and bias; None where one was not wanted."""

    input: Any
    weight: Any
    bias: Any


def gradients(
    products: Products, sizes: tuple[Any, ...],
    bias_rows: Values, form: Format, options: Options, wanted: Sequence[str],
) -> Gradients:  # fmt: skip
    """Return the gradients wanted: name to (kind of product, its operands, shape), and sums of the bias's rows."""
    found: dict[str, Any] = dict.fromkeys(Gradients._fields)
    for name, (kind, a, b, shape) in products.items():
        if name in wanted:
            one = rounded(kind(*sizes, Scratch(options.budget)), a, b, None, form, full=options.full)
            found[name] = as_result(one, shape, full=options.full)
    if "bias" in wanted:
        one = summed(bias_rows, form, options.budget, full=options.full)
        found["bias"] = as_result(one, (len(bias_rows),), full=options.full)
    return Gradients(**found)


def as_empty(shape: tuple[int, ...], form: Format, *, full: bool) -> Any:
    """Return a result without elements."""
    value = np.zeros(shape, container(form))
    sizes, counts = np.zeros(shape), np.zeros(shape, np.int64)
    return Rounded(value, Statistics("lattice", 0), sizes, counts) if full else value


def as_result(one: Rounded, shape: tuple[int, ...], *, full: bool) -> Any:
    """Return the values in the shape of the call, or with `full` all that is known of them."""
    value = one.value.reshape(shape)
    if not full:
        return value
    assert one.bound_sum is not None
    assert one.n_eff is not None
    return Rounded(value, one.statistics, one.bound_sum.reshape(shape), one.n_eff.reshape(shape))


def check_gradient(dy: Values, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless the output's gradient has the output's shape."""
    if dy.shape != shape:
        raise ShapeError(f"grad_output of shape {dy.shape} must have the output's, {shape}", shape=dy.shape)


def as_array(name: str, given: Any) -> Values:
    """Return an array of floats in row-major order; ArgumentError for anything that float64 does not hold."""
    array = np.asarray(given)
    if array.dtype.kind in "iu":
        if array.size and max(abs(int(array.max())), abs(int(array.min()))) > 1 << 53:
            raise ArgumentError(f"{name} of {array.dtype} holds integers above 2**53: give floats")
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ArgumentError(f"{name} of {array.dtype} must be float16, float32, float64 or integers")
    return np.ascontiguousarray(array)


def as_format(out_dtype: Any, x: Any) -> Format:
    """Return the format asked for, or that of x; float64 for integers."""
    given = np.asarray(x).dtype
    name = given.name if given.kind == "f" else "float64"
    if out_dtype is not None:
        name = out_dtype if isinstance(out_dtype, str) else np.dtype(out_dtype).name
    if name not in FORMATS:
        raise ArgumentError(f"out_dtype={name!r} is not one of {', '.join(FORMATS)}", out_dtype=name)
    return FORMATS[name]


def per_axis(value: Any, axes: int) -> tuple[int, ...]:
    """Return one integer per axis."""
    values = tuple(value) if isinstance(value, tuple) else (value,)
    return values * axes if len(values) == 1 else values


def hashable(value: Any) -> Any:
    """Return a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value
