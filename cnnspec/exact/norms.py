"""Correctly rounded batch normalization.

    y[n, c, p] = (x[n, c, p] - m[c]) a[c] + b[c]        a = w / sqrt(v + eps)

m and v are the running statistics, or in training those of x: enclosed per channel (`cnnspec.exact.channels`), then
applied to each element in float64 with a bound (u = 2**-53)

    E = 8 u |(x - m) a| + 4 u (|m a| + |b|)

and Ziv's test; where that leaves an element open, or the format is float64 itself, in pairs of float64 numbers; where
that does, in rational arithmetic.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import Format
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.exact import channels as enclosures
from cnnspec.exact import norm_gradients
from cnnspec.exact.channels import Channels, Three
from cnnspec.exact.engine import Rounded, Statistics, summed
from cnnspec.exact.expansions import Expansion, check_thread, decided
from cnnspec.exact.operands import BUDGET_BYTES, Gradients, as_array, as_empty, as_format, check_gradient
from cnnspec.exact.regions import ELEMENTS, pieces
from cnnspec.exact.sums import UNIT, container, round_to, two_product, two_sum
from cnnspec.ops.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d

Values = npt.NDArray[Any]

OPERATORS: dict[int, Any] = {2: BatchNorm1d, 3: BatchNorm1d, 4: BatchNorm2d, 5: BatchNorm3d}


class BatchNormalization:
    """Correctly rounded batch normalization of (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    running_mean, running_var, weight, bias (C,); arguments as in torch.nn.functional, but no array is changed, so
    that `momentum` has no effect. In training, the statistics are those of x, the variance divided by N P.
    out_dtype and full as in `cnnspec.exact.functional.Convolution`; with `full` bound_sum and n_eff are the magnitude
    and the roundings that `cnnspec.BatchNorm2d.rounding_terms` states, for finite values.
    Raises ArgumentError and ShapeError as `cnnspec.BatchNorm2d` does.

    >>> x = np.array([[5.0], [8.0]])
    >>> batch_norm(x, np.array([2.0]), np.array([8.0]), np.array([6.0]), np.array([1.0]), eps=1.0)
    array([[ 7.],
           [13.]])
    """

    def __call__(
        self, x: Values, running_mean: Values | None, running_var: Values | None, weight: Values | None = None,
        bias: Values | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
        out_dtype: Any = None, full: bool = False, *, budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, form = as_array("x", x), as_format(out_dtype, x)
        check_thread()
        per_channel = _checked(x, running_mean, running_var, weight, bias, training=training, eps=eps)
        if not x.size:
            return as_empty(x.shape, form, full=full)
        mean, variance, w, b = per_channel
        shaped = x.reshape(*x.shape[:2], -1)
        with np.errstate(all="ignore"):
            known = (
                enclosures.own(shaped, eps, w, budget)
                if training
                else enclosures.given(mean, variance, eps, w)
            )
            line = _Line(shaped, known, w, b, Fraction(eps), form, training)
            one = line.run(budget, full=full)
        value = one.value.reshape(x.shape)
        if one.bound_sum is None or one.n_eff is None:
            return value
        return Rounded(value, one.statistics, one.bound_sum.reshape(x.shape), one.n_eff.reshape(x.shape))

    def backward(
        self, grad_output: Values, x: Values, running_mean: Values | None, running_var: Values | None,
        weight: Values | None = None, bias: Values | None = None, training: bool = False, momentum: float = 0.1,
        eps: float = 1e-5, out_dtype: Any = None, *, budget: int = BUDGET_BYTES,
        wanted: Sequence[str] = Gradients._fields,
    ) -> Gradients:  # fmt: skip
        """Return the correctly rounded gradients of sum grad_output * y; that of the bias does not read `bias`.

        >>> dy, x = np.array([[1.0], [2.0]]), np.array([[5.0], [8.0]])
        >>> found = batch_norm.backward(dy, x, np.array([2.0]), np.array([8.0]), np.array([6.0]), eps=1.0)
        >>> found.input.tolist(), found.weight, found.bias
        ([[2.0], [4.0]], array([5.]), array([3.]))
        """
        dy, x, form = as_array("grad_output", grad_output), as_array("x", x), as_format(out_dtype, x)
        check_thread()
        mean, variance, w, _ = _checked(
            x, running_mean, running_var, weight, bias, training=training, eps=eps
        )
        check_gradient(dy, x.shape)
        found: dict[str, Any] = dict.fromkeys(Gradients._fields)
        count = x.shape[1]
        shaped, g = (one.reshape(len(one), count, -1) if x.size else one for one in (x, dy))
        if "input" in wanted:
            found["input"] = np.zeros(shaped.shape, container(form))
        if "weight" in wanted:
            found["weight"] = np.zeros(count, container(form))
        with np.errstate(all="ignore"):
            if "bias" in wanted:
                rows = [np.ascontiguousarray(g[:, c]).reshape(1, -1) for c in range(count)]
                found["bias"] = np.zeros(count, container(form))
                for c, row in enumerate(rows):
                    found["bias"][c] = summed(row, form, budget // 4, full=False).value[0]
            if x.size:
                given = None if training else (mean, variance)
                norm_gradients.write(found, shaped, g, given, w, eps, form, budget)
        if "input" in wanted:
            found["input"] = (found["input"] + found["input"].dtype.type(0)).reshape(x.shape)
        return Gradients(**found)


def _checked(
    x: Values, mean: Values | None, variance: Values | None, weight: Values | None, bias: Values | None, *,
    training: bool, eps: float,
) -> list[Values]:  # fmt: skip
    """Return mean, variance, weight and bias in float64, zeros and ones where they are absent."""
    if x.ndim not in OPERATORS:
        raise ShapeError(
            f"x of shape {x.shape} must have 2 to 5 axes: batch, channels, positions", shape=x.shape
        )
    OPERATORS[x.ndim](x.shape[1], eps, affine=False, training=training).output_shape(x.shape)
    if not training and (mean is None or variance is None):
        raise ArgumentError("running_mean and running_var must be given unless training=True")
    found = []
    pairs = {"running_mean": mean, "running_var": variance, "weight": weight, "bias": bias}
    for name, given in pairs.items():
        default = 1.0 if name in ("running_var", "weight") else 0.0
        array = np.full(x.shape[1], default) if given is None else as_array(name, given).astype(np.float64)
        if array.shape != x.shape[1:2]:
            raise ShapeError(f"{name} of shape {array.shape} must be {x.shape[1:2]}", shape=array.shape)
        found.append(array)
    return found


def line(x: Values, m: Three, a: Three, b: Any) -> Expansion:
    """Return (x - m) a + b, where e is infinite if products leave the range in which their errors are known."""
    d, t = two_sum(x, -m[0])
    t = t - m[1]
    p, error = two_product(d, a[0])
    cross, low = t * a[0], d * a[1]
    h, l = two_sum(p, b)  # noqa: E741 - the letters of the formula
    l, lost = two_sum(l, error + cross + low)  # noqa: E741
    e = np.abs(lost) + (np.abs(error) + np.abs(cross) + np.abs(low)) * (16 * UNIT)
    e += (np.abs(d) + np.abs(t)) * a[2] + (np.abs(a[0]) + np.abs(a[1])) * m[2] + np.abs(t * a[1])
    size, huge = np.abs(p), enclosures.HUGE
    outside = ~(size < huge) | ((size < 1 / huge) & (d != 0) & (a[0] != 0))
    return Expansion(h, l, np.where(outside, np.inf, e * (1 + 2.0**-10)))


class _Line:
    """(x - m) a + b of x (N, C, P), in the three ways."""

    def __init__(
        self, x: Values, known: Channels, w: Values, b: Values, eps: Fraction, form: Format, training: bool
    ) -> None:  # fmt: skip
        self.x, self.known, self.w, self.b, self.eps, self.form = x, known, w, b, eps, form
        self.training = training
        odd = (known.factor != 1) | ~np.isfinite(known.mh + w + b)
        self.odd = odd
        self.hard = known.hard | ((b != 0) & (np.abs(b) > enclosures.HUGE))
        self.steady = np.where(odd, 0.0, np.abs(b) + np.abs(known.mh * known.ah)) * (4 * UNIT)
        self.slope = np.where(odd, 0.0, known.ah)
        self.middle = np.where(odd, 0.0, known.mh)
        self.offset = np.where(odd, 0.0, b)
        self.by_integers = self.ambiguous = self.special = 0
        self.moments: dict[int, tuple[Fraction, Fraction]] = {}

    def run(self, budget: int, *, full: bool) -> Rounded:
        value = np.empty(self.x.shape, container(self.form))
        sizes, counts = (np.empty(value.shape), np.empty(value.shape, np.int64)) if full else (None, None)
        for place in pieces(value.shape, max(1, min(ELEMENTS, budget // 256))):
            part, c = self.x[place], place[1]
            value[place] = self._part(part, c)
            if sizes is not None and counts is not None:
                sizes[place], counts[place] = self._bounds(part, c)
        value += value.dtype.type(0)
        way = "pairs" if self.form.precision == 53 else "plain"
        statistics = Statistics(way, value.size, self.ambiguous, self.by_integers, self.special)
        return Rounded(value, statistics, sizes, counts)

    def _part(self, part: Values, c: slice) -> Values:
        finite = np.isfinite(part)
        x = part.astype(np.float64) if finite.all() else np.where(finite, part, 0).astype(np.float64)
        if self.form.precision == 53:
            column = np.arange(c.start, c.stop)[:, None]
            value, undecided = self._pairs(x, column)
        else:
            y = x - self.middle[c, None]
            y *= self.slope[c, None]
            e = np.abs(y)
            e *= 8 * UNIT
            e += self.steady[c, None]
            y += self.offset[c, None]
            value, above = round_to(y - e, self.form), round_to(y + e, self.form)
            undecided = value != above
            undecided |= self.hard[c, None]
        odd = self.odd[c, None] | ~finite
        undecided &= ~odd
        if undecided.any():
            self._settle(value, x, np.argwhere(undecided), c)
        if odd.any():
            n, channel, p = np.nonzero(odd)
            value[n, channel, p] = self._special(part[n, channel, p].astype(np.float64), channel + c.start)
        return value

    def _pairs(self, x: Values, c: Values) -> tuple[Values, Values]:
        """Return the roundings of elements of channels c, and which are open, in pairs of numbers."""
        k = self.known
        middle, slope = (self.middle[c], k.ml[c], k.me[c]), (self.slope[c], k.al[c], k.ae[c])
        value, undecided = decided(line(x, middle, slope, self.offset[c]), self.form, sums=False)
        return value, undecided | self.hard[c]

    def _settle(self, value: Values, x: Values, places: Values, c: slice) -> None:
        """Write the elements that are open."""
        n, channel, p = places.T
        self.ambiguous += len(n)
        some, channels = x[n, channel, p], channel + c.start
        if self.form.precision == 53:
            left = np.arange(len(n))
            found = value[n, channel, p]
        else:
            found, undecided = self._pairs(some, channels)
            left = np.flatnonzero(undecided)
        self.by_integers += len(left)
        for j in left.tolist():
            one = int(channels[j])
            mean, variance = self._moments(one)
            w, b = float(self.w[one]), float(self.b[one])
            found[j] = enclosures.nearest_line(float(some[j]), mean, variance, self.eps, w, b, self.form)
        value[n, channel, p] = found

    def _moments(self, c: int) -> tuple[Fraction, Fraction]:
        """Return mean and variance of a channel without error."""
        if not self.training:
            mean, variance = self.known.intervals[c]
            return mean.middle, variance.middle
        if c not in self.moments:
            self.moments[c] = enclosures.exact_moments(self.x, c)
        return self.moments[c]

    def _special(self, x: Values, c: Values) -> Values:
        """Return the results where an operand is NaN or infinite, or has no root."""
        m, w, b, factor = self.known.mh[c], self.w[c], self.b[c], self.known.factor[c]
        finite = np.isfinite(x) & np.isfinite(m)
        z = np.where(finite, (x > m).astype(np.float64) - (x < m), x - m) * factor
        z = z * np.where(np.isfinite(w), np.sign(w), w)
        found = z + np.where(np.isfinite(b), 0.0, b)
        self.special += int((~np.isfinite(found)).sum())
        plain = round_to(np.where(np.isfinite(b), b, 0.0), self.form)
        return np.where(np.isfinite(found), plain, found)

    def _bounds(self, part: Values, c: slice) -> tuple[Values, Values]:
        """Return the magnitudes and roundings of `cnnspec.ops.norm_bounds`."""
        k, n = self.known, self.x.shape[0] * self.x.shape[2]
        x = part.astype(np.float64)
        roots = [variance.middle + self.eps for _, variance in k.intervals[c]]
        variance = np.array([float(one) if abs(one) < 2**1000 else math.inf for one in roots])
        r = np.where(k.factor[c] == 0, 0.0, 1 / np.sqrt(variance))[:, None]
        size, distance = np.abs(x), np.abs(x - k.mh[c, None])
        if self.training:
            average = k.average[c, None]
            t = average * r
            line = (size + average) * r * (1 + t / 64) + distance * r * (1 + 2 * t)
        else:
            line = (size + np.abs(k.mh[c, None])) * r
        magnitude = (np.abs(self.w[c, None]) * line + np.abs(self.b[c, None])) * (1 + 2.0**-40)
        return magnitude, np.full(part.shape, 2 * n + 13 if self.training else 8)


batch_norm = BatchNormalization()
