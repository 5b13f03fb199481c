"""Correctly rounded gradients of batch normalization.

    dw[c] = r T, T = sum g (x - m)      db[c] = sum g      r = 1 / sqrt(v + eps), sums over the n elements of a channel
    dx_i = g_i w r                                         of given statistics
    dx_i = (g_i - G - (x_i - m) K) w r                     of own ones: G = sum g / n, K = T / (n (v + eps))

G, K, m and T are rational: enclosed per channel as in `cnnspec.exact.channels`, T around float64 numbers near G and m,
so that nothing cancels and a constant g leaves nothing. Elements are computed in pairs of float64 numbers and tested;
those left open are a rational number over a root, and rounded as such.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from cnnspec import nested
from cnnspec.bounds import Format, nearest
from cnnspec.exact import channels as enclosures
from cnnspec.exact.channels import BITS, Interval, Three
from cnnspec.exact.expansions import Expansion, decided
from cnnspec.exact.regions import ELEMENTS, pieces
from cnnspec.exact.sums import UNIT, container, two_product, two_sum
from cnnspec.ops.batch_norm import BatchNorm1d

Values = npt.NDArray[Any]

ZERO = Interval(Fraction(0))


@dataclass
class Cotangent:
    """What the gradients of one channel are made of; all finite.

    root: v + eps;   weight: w;   exact: computes (G, K, m, v, T) without error
    """

    x: Values
    g: Values
    mean: Interval
    root: Interval
    weight: float
    own: bool
    eps: Fraction
    budget: int

    def __post_init__(self) -> None:
        self.n = self.x.size
        pivot = enclosures.to_float(self.mean.middle)
        sums = ZERO
        for _, g in self.parts():
            sums = enclosures.joined(sums, _total(g))
        self.shift = Interval(sums.middle / self.n, sums.radius / self.n) if self.own else ZERO
        level = enclosures.to_float(self.shift.middle)
        product = ZERO
        for x, g in self.parts():
            product = enclosures.joined(product, _products(x, pivot, g, level))
        a, b = self.mean.middle - Fraction(pivot), self.shift.middle - Fraction(level)
        if self.own:
            off = (abs(a) + self.mean.radius) * (abs(b) + self.shift.radius) - abs(a * b)
            product = Interval(product.middle - self.n * a * b, product.radius + self.n * off)
        self.product = product
        v, off = self.root.middle, self.root.radius / self.root.middle
        k = product.middle / (self.n * v)
        self.slope = ZERO
        if self.own:
            self.slope = Interval(k, 2 * (product.radius / (self.n * v) + abs(k) * off))
        self.settled = False

    @cached_property
    def factor(self) -> Interval:
        """What the rests are multiplied by: w r."""
        found = enclosures.over_root(Fraction(self.weight), self.root.middle)
        off = self.root.radius / self.root.middle
        return Interval(found.middle, found.radius + abs(found.middle) * off)

    def parts(self) -> Iterator[tuple[Values, Values]]:
        """Yield elements of x and of g, some at a time."""
        x, g = (one.reshape(1, 1, -1) if one.ndim == 1 else one[:, None] for one in (self.x, self.g))
        most = min(self.budget, 8 * ELEMENTS * 256)
        return zip(enclosures.parts(x, 0, most), enclosures.parts(g, 0, most), strict=True)

    def settle(self) -> None:
        """Compute mean, variance, G, T and K without error."""
        if self.settled:
            return
        xs, gs = ([Fraction(float(value)) for value in one.reshape(-1).tolist()] for one in (self.x, self.g))
        if self.own:
            mean, variance = enclosures.exact_moments(self.x[:, None], 0)
            self.mean, self.root = Interval(mean), Interval(variance + self.eps)
            self.shift = Interval(sum(gs, Fraction(0)) / self.n)
        self.product = Interval(
            sum((g * (x - self.mean.middle) for x, g in zip(xs, gs, strict=True)), Fraction(0))
        )
        if self.own:
            self.slope = Interval(self.product.middle / (self.n * self.root.middle))
        self.settled = True

    def weight_gradient(self, form: Format) -> float:
        """Return r T."""
        v, off = self.root.middle, self.root.radius / self.root.middle
        size = abs(self.product.middle) + self.product.radius
        middle = enclosures.over_root(self.product.middle, v)
        radius = enclosures.over_root(self.product.radius + size * off, v)
        reach = radius.middle * 2 + middle.radius
        ends = {
            nearest(end.numerator, end.denominator, 0, form)
            for end in (middle.middle - reach, middle.middle + reach)
        }
        if len(ends) == 1:
            return ends.pop()
        self.settle()
        return _over_root(self.product.middle, self.root.middle, form)

    def input_gradient(self, x: float, g: float, form: Format) -> float:
        """Return dx of one element, in rational arithmetic."""
        self.settle()
        rest = Fraction(g) - self.shift.middle - (Fraction(x) - self.mean.middle) * self.slope.middle
        return _over_root(rest * Fraction(self.weight), self.root.middle, form)


def _over_root(t: Fraction, v: Fraction, form: Format) -> float:
    """Return t / sqrt(v) correctly rounded."""
    return enclosures.nearest_quotient(t, v, Fraction(0), form)


def _total(part: Values) -> Interval:
    top = float(np.abs(part).max(initial=0))
    return enclosures.folded(part) if top < enclosures.HUGE else enclosures.exact_sum(part.tolist())


def _products(x: Values, pivot: float, g: Values, level: float) -> Interval:
    """Return the sum of (x - pivot) (g - level)."""
    d, t = two_sum(x, np.full((), -pivot))
    u, v = two_sum(g, np.full((), -level))
    p, error = two_product(d, u)
    sizes = [np.abs(one) for one in (d, u, p)]
    if not all(((one < enclosures.HUGE) & ((one > 1 / enclosures.HUGE) | (one == 0))).all() for one in sizes):
        left, right = Fraction(pivot), Fraction(level)
        pairs = zip(x.tolist(), g.tolist(), strict=True)
        return Interval(sum(((Fraction(a) - left) * (Fraction(b) - right) for a, b in pairs), Fraction(0)))
    first, second = t * u, d * v
    return enclosures.folded(p, error + first + second, np.abs(error) + np.abs(first) + np.abs(second))


def input_gradients(one: Cotangent, form: Format, budget: int) -> Values:
    """Return dx of one channel, in the shape of x (N, P)."""
    value = np.empty(one.x.shape, container(form))
    m, s, k, a = (enclosures.three(number) for number in (one.mean, one.shift, one.slope, one.factor))
    for place in pieces(one.x.shape, max(1, min(ELEMENTS, budget // 512))):
        x, g = one.x[place].astype(np.float64), one.g[place].astype(np.float64)
        found, undecided = decided(rests(x, g, m, s, k, a), form, sums=False)
        for index in np.argwhere(undecided).tolist():
            at: Any = tuple(index)
            found[at] = one.input_gradient(float(x[at]), float(g[at]), form)
        value[place] = found
    return value


def rests(x: Values, g: Values, m: Three, s: Three, k: Three, a: Three) -> Expansion:
    """Return (g - G - (x - m) K) a, where e is infinite if products leave the range in which their errors are known."""
    u, v = two_sum(g, -s[0])
    v = v - s[1]
    d, t = two_sum(x, -m[0])
    t = t - m[1]
    p, error = two_product(d, k[0])
    first, second = t * k[0], d * k[1]
    h, l = two_sum(u, -p)  # noqa: E741 - h + l +- e, as in `cnnspec.exact.expansions`
    l, lost = two_sum(l, v - (error + first + second))  # noqa: E741
    e = np.abs(lost) + (np.abs(v) + np.abs(error) + np.abs(first) + np.abs(second)) * (16 * UNIT)
    e += s[2] + m[2] * (abs(k[0]) + abs(k[1])) + (np.abs(d) + np.abs(t)) * k[2] + np.abs(t * k[1])
    q, error = two_product(h, a[0])
    first, second = l * a[0], h * a[1]
    low = error + first + second
    e = e * (abs(a[0]) + abs(a[1])) + (np.abs(error) + np.abs(first) + np.abs(second)) * (16 * UNIT)
    e += (np.abs(h) + np.abs(l)) * a[2] + np.abs(l * a[1])
    huge = enclosures.HUGE
    outside = ((q == 0) & (h != 0) & (a[0] != 0)) | ((p == 0) & (d != 0) & (k[0] != 0))
    for size in (np.abs(q), np.abs(h), np.abs(p)):
        outside |= ~(size < huge) | ((size < 1 / huge) & (size > 0))
    return Expansion(q, low, np.where(outside, np.inf, e * (1 + 2.0**-10)))


def write(
    found: dict[str, Any], x: Values, g: Values, given: tuple[Values, Values] | None, w: Values, eps: float,
    form: Format, budget: int,
) -> None:  # fmt: skip
    """Write the gradients of x (N, C, P) and of w, those that are arrays; `given` are the statistics, if not own."""
    known = enclosures.own(x, eps, w, budget) if given is None else enclosures.given(*given, eps, w)
    dx, dw = found["input"], found["weight"]
    for c in range(x.shape[1]):
        finite_x, finite_g = np.isfinite(x[:, c]), np.isfinite(g[:, c])
        usual = known.factor[c] == 1 and bool(np.isfinite(known.mh[c]))
        plain = usual and bool(np.isfinite(w[c]))
        sums = usual and bool(finite_x.all()) and bool(finite_g.all())
        rows = plain and (given is not None or sums)
        if sums or rows:
            mean, variance = known.intervals[c]
            root = Interval(variance.middle + Fraction(eps), variance.radius)
            weight = float(w[c]) if plain else 1.0
            one = Cotangent(
                np.where(finite_x, x[:, c], 0), np.where(finite_g, g[:, c], 0), mean, root, weight,
                given is None, Fraction(eps), budget,
            )  # fmt: skip
            if dw is not None and sums:
                dw[c] = one.weight_gradient(form)
            if dx is not None and rows:
                value = input_gradients(one, form, budget)
                dx[:, c] = np.where(finite_g, value, g[:, c] * np.sign(w[c]))
        if not (sums and rows):
            statistics = None if given is None else (given[0][c], given[1][c])
            values, weight_gradient = _special(x[:, c], g[:, c], statistics, float(w[c]), eps)
            if dw is not None and not sums:
                dw[c] = weight_gradient
            if dx is not None and not rows:
                dx[:, c] = values


def _special(
    x: Values, g: Values, given: tuple[Any, Any] | None, w: float, eps: float
) -> tuple[Values, float]:
    """Return dx and dw of a channel where they are NaN, infinite or zero, from the operator's loop over balls."""
    operator = BatchNorm1d(1, eps, track_running_stats=given is not None, training=given is None)
    with flint.ctx.workprec(BITS):
        rows = [
            nested.unravel(
                [flint.arb(value) for value in one.astype(np.float64).reshape(-1).tolist()],
                (len(one), 1, one[0].size),
            )
            for one in (g, x)
        ]
        statistics = [[flint.arb(float(value))] for value in given or ()]
        found = operator.gradients(*rows, *statistics, [flint.arb(w)], [flint.arb(0)])
        dx = np.array([_number(ball) for ball in nested.ravel(found[0])]).reshape(x.shape)
        return dx, _number(nested.ravel(found[-2])[0])


def _number(ball: Any) -> float:
    ball = flint.arb(ball)
    middle = float(ball.mid())
    return middle if ball.is_finite() or (math.isinf(middle) and ball.rad().is_finite()) else math.nan
