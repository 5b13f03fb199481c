"""Correctly rounded sum of two arrays, and the positive part of one, with their gradients.

add   y[i] = a[i] + b[i], axes of size 1 and missing leading axes repeated      da = sum of dy over what is repeated
relu  y[i] = max(x[i], 0): NaN stays NaN, -0 stays -0                           dx = dy where x > 0 or is NaN, else 0
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import Format
from cnnspec.exact.engine import Rounded, Statistics, summed
from cnnspec.exact.expansions import check_thread
from cnnspec.exact.operands import BUDGET_BYTES, as_array, as_format, check_gradient
from cnnspec.exact.regions import ELEMENTS, pieces
from cnnspec.exact.sums import container, round_pair, round_to, two_sum
from cnnspec.ops.combine import Add

Values = npt.NDArray[Any]
Part = tuple[slice, ...]


class Summands(NamedTuple):
    """The gradients of the two operands of a sum; None where one was not wanted."""

    input: Any
    input2: Any


class Addition:
    """Correctly rounded sum of two arrays; `backward` for its gradients.

    out_dtype and full as in `cnnspec.exact.functional.Convolution`; with `full` bound_sum is |a| + |b|.
    Raises ShapeError as `cnnspec.Add` does.

    >>> add(np.array([1.0, 2.0]), np.array([[2.0**-60], [1.0]]), out_dtype="float32")
    array([[1., 2.],
           [2., 3.]], dtype=float32)
    """

    def __call__(
        self, a: Values, b: Values, out_dtype: Any = None, full: bool = False, *, budget: int = BUDGET_BYTES
    ) -> Any:
        """Return a + b, or with `full` a `Rounded`."""
        a, b, form = as_array("a", a), as_array("b", b), as_format(out_dtype, a)
        check_thread()
        result = Add().output_shape(a.shape, b.shape)
        shape = result or (1,)
        here, there = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
        value, special = np.empty(shape, container(form)), 0
        sizes, counts = (np.empty(shape), np.empty(shape, np.int64)) if full else (None, None)
        native = form.name == a.dtype.name == b.dtype.name
        with np.errstate(all="ignore"):
            for place in pieces(shape, _most(budget)):
                u, v = here[place], there[place]
                value[place] = u + v if native else _sum(u, v, form)
                value[place] += value.dtype.type(0)
                if sizes is not None and counts is not None:
                    finite = [np.where(np.isfinite(one), one, 0).astype(np.float64) for one in (u, v)]
                    special += u.size - int((np.isfinite(u) & np.isfinite(v)).sum())
                    size, lost = two_sum(*map(np.abs, finite))
                    sizes[place] = np.where(lost > 0, np.nextafter(size, np.inf), size)
                    counts[place] = sum(one != 0 for one in finite)
        return (
            Rounded(value, Statistics("pairs", value.size, 0, 0, special), sizes, counts) if full else value
        )

    def backward(
        self, grad_output: Values, a: Values, b: Values, out_dtype: Any = None, full: bool = False, *,
        budget: int = BUDGET_BYTES, wanted: Sequence[str] = Summands._fields,
    ) -> Summands:  # fmt: skip
        """Return the correctly rounded gradients of sum grad_output * y; only the shapes of `a` and `b` matter.

        >>> add.backward(np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2), np.zeros((2, 1))).input
        array([4., 6.])
        """
        dy, a, b = as_array("grad_output", grad_output), np.asarray(a), np.asarray(b)
        form = as_format(out_dtype, a)
        check_thread()
        check_gradient(dy, Add().output_shape(a.shape, b.shape))
        found: dict[str, Any] = dict.fromkeys(Summands._fields)
        for name, operand in (("input", a), ("input2", b)):
            if name in wanted:
                one = _over_repeats(dy, operand.shape, form, budget, full=full)
                found[name] = one if full else one.value
        return Summands(**found)


def _most(budget: int) -> int:
    return max(1, min(ELEMENTS, budget // 256))


def _sum(a: Values, b: Values, form: Format) -> Values:
    """Return a + b rounded once; where that is NaN or infinite, float64 says which."""
    s, t = two_sum(a.astype(np.float64), b.astype(np.float64))
    finite = np.isfinite(s)
    if finite.all():
        return round_pair(s, t, form)
    whole = round_pair(np.where(finite, s, 0.0), np.where(finite, t, 0.0), form)
    return np.where(finite, whole, s.astype(whole.dtype))


def _over_repeats(dy: Values, shape: tuple[int, ...], form: Format, budget: int, *, full: bool) -> Rounded:
    """Return the sums of dy over the axes along which an array of this shape was repeated."""
    own = (1,) * (dy.ndim - len(shape)) + shape
    repeated = [i for i, (n, size) in enumerate(zip(own, dy.shape, strict=True)) if n != size]
    kept = [i for i in range(dy.ndim) if i not in repeated]
    rows = dy.transpose(kept + repeated)
    within = rows.shape[: len(kept)]
    count = math.prod(dy.shape[i] for i in repeated)
    value = np.zeros(within, container(form))
    sizes, counts = (np.zeros(within), np.zeros(within, np.int64)) if full else (None, None)
    ambiguous = by_integers = special = 0
    for place in pieces(within, max(1, _most(budget) // max(1, count))):
        part = np.ascontiguousarray(rows[place])
        with np.errstate(all="ignore"):
            one = summed(part.reshape(-1, count), form, budget // 4, full=full)
        value[place] = one.value.reshape(value[place].shape)
        if sizes is not None and counts is not None and one.bound_sum is not None and one.n_eff is not None:
            sizes[place] = one.bound_sum.reshape(sizes[place].shape)
            counts[place] = one.n_eff.reshape(sizes[place].shape)
        ambiguous, by_integers = (
            ambiguous + one.statistics.ambiguous,
            by_integers + one.statistics.by_integers,
        )
        special += one.statistics.special
    statistics = Statistics("plain", value.size, ambiguous, by_integers, special)
    return Rounded(
        value.reshape(shape),
        statistics,
        None if sizes is None else sizes.reshape(shape),
        None if counts is None else counts.reshape(shape),
    )


class PositivePart:
    """max(x, 0), which copies; `backward` for its gradient.

    Integers keep their type unless out_dtype is given. A narrower out_dtype rounds what is copied.

    >>> relu(np.array([-2, 3])), relu(np.array([-1.0, -0.0, 1 + 2.0**-30]), out_dtype="float32")
    (array([0, 3]), array([ 0., -0.,  1.], dtype=float32))
    """

    def __call__(self, x: Values, out_dtype: Any = None, full: bool = False) -> Any:
        """Return y, or with `full` a `Rounded` without bounds: a copy has no error."""
        x = as_copied(x, out_dtype)
        value, form = empty_copy(x, x.shape, out_dtype)
        for place in pieces(x.shape, ELEMENTS):
            value[place] = copied(np.where(x[place] < 0, x.dtype.type(0), x[place]), form)
        return Rounded(value, Statistics("copy", value.size)) if full else value

    def backward(
        self, grad_output: Values, x: Values, out_dtype: Any = None, full: bool = False, *,
        budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return dy where x is positive or NaN, else 0.

        >>> relu.backward(np.array([5.0, 5.0, 5.0]), np.array([-2.0, 0.0, 3.0]))
        array([0., 0., 5.])
        """
        dy, x = as_array("grad_output", grad_output), np.asarray(x)
        form = as_format(out_dtype, x)
        check_thread()
        check_gradient(dy, x.shape)
        value = np.empty(x.shape, container(form))
        sizes, counts = (np.empty(x.shape), np.empty(x.shape, np.int64)) if full else (None, None)
        special = 0
        for place in pieces(x.shape, _most(budget)):
            with np.errstate(all="ignore"):
                chosen = np.where(x[place] <= 0, 0.0, dy[place].astype(np.float64))
            value[place] = copied(chosen, form)
            value[place] += value.dtype.type(0)
            if sizes is not None and counts is not None:
                finite = np.isfinite(chosen)
                special += int((~finite).sum())
                sizes[place] = np.where(finite, np.abs(chosen), 0.0)
                counts[place] = sizes[place] != 0
        return Rounded(value, Statistics("copy", value.size, 0, 0, special), sizes, counts) if full else value


def as_copied(x: Any, out_dtype: Any) -> Values:
    """Return an array to copy from: floats, or integers where no out_dtype is given."""
    array = np.asarray(x)
    return array if array.dtype.kind in "iu" and out_dtype is None else as_array("x", array)


def empty_copy(x: Values, shape: Sequence[int], out_dtype: Any) -> tuple[Values, Format | None]:
    """Return the array for copies of x, and the format to round them to where it is not that of x."""
    if x.dtype.kind in "iu":
        return np.empty(shape, x.dtype), None
    form = as_format(out_dtype, x)
    return np.empty(shape, container(form)), None if form.name == x.dtype.name else form


def copied(x: Values, form: Format | None) -> Values:
    """Return x rounded to a format, NaN and infinities as they are."""
    if form is None:
        return x
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        finite = np.isfinite(wide)
        found = round_to(np.where(finite, wide, 0.0), form)
        signed = np.copysign(found, wide.astype(found.dtype))  # a copy keeps the sign of zero
        return signed if finite.all() else np.where(finite, signed, wide.astype(found.dtype))


add = Addition()
relu = PositivePart()
