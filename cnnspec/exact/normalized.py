"""Exact results of normalizations, group by group in float64: what the judge holds whole layers to.

What brings a group to mean 0 and variance 1 is enclosed (`cnnspec.exact.channels`); elements follow in pairs of float64
numbers that say how far they may be off, and the bounds of `cnnspec.ops.norm_bounds` run over float64 rows: they add,
multiply and divide numbers that are not negative, and lose a few parts in 2**53 each time.

All that holds within limits: of operands, which every format up to float32 keeps; of r; of (|x| + size) r, size the
mean of |x| or |m|; and of t = size r, as deviations |x - m|, known to 2**-100 |x|, are multiplied by t^2. What is
beyond, NaN and infinities included, is left to balls, as are the elements that ask for exact numbers: a group at a
time, in a call of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.exact import balls
from cnnspec.exact import channels as enclosures
from cnnspec.exact.channels import Interval, Three
from cnnspec.exact.expansions import Expansion, check_thread
from cnnspec.exact.groups import AnyNorm, Columns, Grouped, Groups, Sums
from cnnspec.exact.norm_gradients import Cotangent, rests
from cnnspec.exact.norms import line
from cnnspec.exact.operands import BUDGET_BYTES
from cnnspec.exact.results import Exact
from cnnspec.exact.sums import UNIT, two_product, two_sum
from cnnspec.nested import Shape
from cnnspec.op import Operator
from cnnspec.ops.group_norm import GroupNorm
from cnnspec.ops.layer_norm import LayerNorm
from cnnspec.ops.norm import rounded_moments
from cnnspec.ops.norm_bounds import Bound, Given
from cnnspec.ops.running_stats import RUNNING, ChannelNorm
from cnnspec.rounding import Rounded, RoundingTerms, terms

Values = npt.NDArray[Any]
Exactly = Callable[[int], Exact]

OPERANDS, FACTORS = (2.0**-150, 2.0**130), (2.0**-130, 2.0**75)
LARGEST_SCALED, LARGEST_T = 2.0**40, 2.0**30

LEAST = 32
"""The elements of a group from which on all this takes less time than balls."""

NOTHING: Three = (0.0, 0.0, 0.0)


def outputs(operator: Operator, operands: Mapping[str, Values]) -> Exact | None:
    """Return the exact outputs of a normalization; None of other operators, empty arrays and small groups."""
    if not _served(operator, operands):
        return None
    with np.errstate(all="ignore"):
        return Normalization(operator, operands).outputs()


def gradients(
    operator: Operator, grad_output: Values, operands: Mapping[str, Values], wanted: Sequence[str]
) -> dict[str, Exact] | None:
    """Return the exact gradients of sum grad_output * y for the operands wanted; None as `outputs` does."""
    if not _served(operator, operands):
        return None
    with np.errstate(all="ignore"):
        call = Backward(operator, operands, grad_output)
        return {name: one for name, one in call.gradients().items() if name in wanted}


def updates(operator: Operator, operands: Mapping[str, Values]) -> dict[str, Exact] | None:
    """Return the exact new running statistics; None as `outputs` does, and where the call changes none."""
    if not _served(operator, operands) or not isinstance(operator, ChannelNorm):
        return None
    if not (operator.training and operator.track_running_stats):
        return None
    with np.errstate(all="ignore"):
        return Normalization(operator, operands).updates()


def _served(operator: Any, operands: Mapping[str, Values]) -> bool:
    if not isinstance(operator, AnyNorm) or not all(array.size for array in operands.values()):
        return False
    return Groups.of(operator, operands["input"].shape).n >= LEAST


class Normalization:
    """A call by groups: rows of x, the weight and the bias, what is known of mean and r, and where that serves."""

    def __init__(self, operator: Any, operands: Mapping[str, Values]) -> None:
        check_thread()
        self.operator: AnyNorm = operator
        self.operands = operands
        self.groups = groups = Groups.of(operator, operands["input"].shape)
        self.x = groups.rows(operands["input"])
        self.w, self.b = (
            np.asarray(operands[name], np.float64).reshape(-1) if name in operands else default
            for name, default in (("weight", np.ones(groups.weights)), ("bias", np.zeros(groups.weights)))
        )
        ones = np.ones(groups.count)
        if operator.from_batch:
            self.known = enclosures.own(self.x[None], operator.eps, ones, BUDGET_BYTES)
            self.size = self.known.average
        else:
            mean, variance = (np.resize(operands[name], groups.count) for name in RUNNING)
            self.known = enclosures.given(mean, variance, operator.eps, ones)
            self.size = np.abs(self.known.mh)
        self.usual = self._usual()

    def _usual(self) -> Values:
        """Return which groups are within the limits."""
        groups, r = self.groups, self.known.ah
        found: Values = (self.known.factor == 1) & ~self.known.hard & _inside(self.x)
        found &= (r > FACTORS[0]) & (r < FACTORS[1]) & (self.size * r < LARGEST_T)
        found &= (np.abs(self.x).max(axis=1) + self.size) * r < LARGEST_SCALED
        shared = _inside(self.w.reshape(-1, groups.block)) & _inside(self.b.reshape(-1, groups.block))
        found &= np.resize(shared, groups.count)
        return found if self.operator.from_batch else found & _inside(self.known.mh[:, None])

    def outputs(self) -> Exact:
        """Return the exact outputs."""
        groups, own = self.groups, self.operator.from_batch
        columns = Columns(groups.count, groups.n, 2 * groups.n + 13 if own else 8)
        for g in np.flatnonzero(self.usual).tolist():
            w, b = self.by_element(g, self.w), self.by_element(g, self.b)
            found = line(self.x[g], self.mean(g), _times(self.factor(g), w), b)
            columns.write(g, found, self.bounds(g).outputs(w, b))

        def exactly(g: int) -> Exact:
            operator, operands = self.alone([g])
            return balls.outputs(operator, [*operands.values()])

        return self.elements(columns, self.usual, exactly, self.operator.kind.stored_forward)

    def updates(self) -> dict[str, Exact] | None:
        """Return the exact new running statistics; None where no channel is within the limits."""
        usual = self.by_weight(self.usual)
        for name in RUNNING:
            usual = usual & _inside(np.asarray(self.operands[name], np.float64)[:, None])
        changed = {k: self._updated(k) for k in np.flatnonzero(usual).tolist()}
        if not changed:
            return None

        @cache
        def exactly(k: int) -> dict[str, Exact]:
            return balls.updates(*self.alone(self.groups.members(k)))

        found = {}
        for name in RUNNING:
            bounds = [one[name][1] for one in changed.values()]
            columns = Columns(len(usual), 1, bounds[0].roundings[0])
            for k, one in changed.items():
                number, bound = one[name]
                h, l, e = (np.array(part) for part in enclosures.three(number))  # noqa: E741 - h + l +- e
                reach, summed = ((sizes or [0.0])[0] for sizes in (bound.reach, bound.summed))
                columns.write(k, Expansion(h, l, e), Bound(bound.magnitude[0], 0, reach, 0, summed))
            part = partial(_named, exactly, name)
            found[name] = self.weights(name, columns, usual, part, bounds[0].stored)
        return found

    def _updated(self, k: int) -> dict[str, tuple[Interval, RoundingTerms]]:
        """Return the running statistics of a channel with their bounds."""
        operator, n, members = self.operator, self.groups.n, self.groups.members(k)
        assert isinstance(operator, ChannelNorm)
        old = [float(self.operands[name][k]) for name in RUNNING]
        moments = [self.known.intervals[g] for g in members]
        middles = [(mean.middle, variance.middle) for mean, variance in moments]
        values = operator.updated([[Fraction(one)] for one in old], [middles], n)
        rounded = [
            rounded_moments(enclosures.to_float(mean), enclosures.to_float(variance), float(self.size[g]), n)
            for (mean, variance), g in zip(middles, members, strict=True)
        ]
        bounds = operator.updated([[Rounded.exact(one)] for one in old], [rounded], n)
        off = 2 * abs(Fraction(operator.factor))  # n / (n - 1) is at most 2
        return {
            name: (
                Interval(values[name][0], off * max(pair[which].radius for pair in moments)),
                terms(bounds[name]),
            )
            for which, name in enumerate(RUNNING)
        }

    def mean(self, g: int) -> Three:
        """Return m."""
        return self.known.mh[g], self.known.ml[g], self.known.me[g]

    def factor(self, g: int) -> Three:
        """Return r."""
        return self.known.ah[g], self.known.al[g], self.known.ae[g]

    def by_element(self, g: int, values: Values) -> Values:
        """Return the weight or bias of each element of a group, or the one of all."""
        here = values[self.groups.shared(g)]
        return here if self.groups.block == 1 else np.repeat(here, self.groups.span)

    def by_weight(self, usual: Values) -> Values:
        """Return for each block of weights whether all groups that share it are usual."""
        return np.logical_and.reduce(usual.reshape(-1, self.groups.period))  # type: ignore[no-any-return]

    def bounds(self, g: int) -> Given:
        """Return the bounds of a group."""
        x, (mean, low, _) = self.x[g], self.mean(g)
        d, t = two_sum(x, -mean)
        return self.operator.kind(x, mean, self.known.ah[g], d + (t - low))

    def elements(self, columns: Columns, usual: Values, exactly: Exactly, stored: int) -> Exact:
        """Return results for each element of the input."""
        groups, shape = self.groups, self.operands["input"].shape
        return Grouped(shape, columns, usual, lambda g: (exactly(g), 0), groups.back, groups.place, stored)

    def weights(self, name: str, columns: Columns, usual: Values, exactly: Exactly, stored: int) -> Exact:
        """Return results for each element of the weight, the bias or the running statistics."""
        block, shape = self.groups.block, self.operands[name].shape
        return Grouped(
            shape, columns, usual, lambda k: (exactly(k), 0), np.ravel, lambda i: divmod(i, block), stored
        )

    def alone(self, rows: Sequence[int]) -> tuple[AnyNorm, dict[str, Values]]:
        """Return the call that groups which share their weights are by themselves."""
        operator, groups = self.operator, self.groups
        if isinstance(operator, LayerNorm):
            one: AnyNorm = operator
            shape: Shape = (len(rows), *operator.row_shape)
        elif isinstance(operator, GroupNorm):
            one = replace(operator, num_groups=1, num_channels=groups.block)
            shape = (len(rows), groups.block, groups.span)
        else:
            one = replace(operator, num_features=1)
            images = (groups.n, 1, 1) if operator.over_batch else (len(rows), 1, groups.n)
            shape = (*images, *[1] * (operator.spatial - 1))
        operands = {"input": self.x[[*rows]].reshape(shape)}
        for name, sizes in {**one.buffer_shapes(), **one.parameter_shapes()}.items():
            operands[name] = self.operands[name].reshape(-1)[groups.shared(rows[0])].reshape(sizes)
        return one, operands


class Backward(Normalization):
    """A call whose outputs have gradients, by groups too."""

    def __init__(self, operator: Any, operands: Mapping[str, Values], grad_output: Values) -> None:
        super().__init__(operator, operands)
        self.dy = self.groups.rows(grad_output)
        self.usual &= _inside(self.dy)
        if self.groups.block > 1:  # h is one float64 number
            for g in np.flatnonzero(self.usual).tolist():
                self.usual[g] = not two_product(self.by_element(g, self.w), self.dy[g])[1].any()

    def gradients(self) -> dict[str, Exact]:
        """Return the exact gradients of the input, the weight and the bias."""
        groups, own, stored = self.groups, self.operator.from_batch, self.operator.stored_gradients
        n, terms_of_one = groups.n, groups.span * len(groups.members(0)) - 1
        dx = Columns(groups.count, n, 3 * n + 16 if own else 6)
        dw = Columns(groups.period, groups.block, (2 * n + 14 if own else 8) + terms_of_one)
        db = Columns(groups.period, groups.block, 1 + terms_of_one)
        weight, bias = Sums(groups, plain=False), Sums(groups, plain=True)
        for g in np.flatnonzero(self.usual).tolist():
            bounds, dy, w = self.bounds(g), self.dy[g], self.by_element(g, self.w)
            dx.write(g, self._input_gradient(g, w), bounds.input_gradients(dy, w * dy))
            weight.write(g, self._weight_terms(g), bounds.weight_gradients(dy))
            bias.write(g, (dy,), bounds.bias_gradients(dy))
        weight.total(dw)
        bias.total(db)

        @cache
        def exactly(rows: range) -> dict[str, Exact]:
            operator, operands = self.alone(rows)
            cotangent = self.dy[[*rows]].reshape(operands["input"].shape)
            return balls.gradients(operator, cotangent, operands, [*operands])

        found = {
            "input": self.elements(
                dx, self.usual, lambda g: exactly(range(g, g + 1))["input"], stored["input"]
            )
        }
        usual = self.by_weight(self.usual)
        for name, columns in (("weight", dw), ("bias", db)):
            if name in self.operands:
                part = partial(_named, lambda k: exactly(groups.members(k)), name)
                found[name] = self.weights(name, columns, usual, part, stored[name])
        return found

    def _input_gradient(self, g: int, w: Values) -> Expansion:
        """Return (h - H - (x - m) K) r; with one weight for all, that of dy times w r."""
        one = self.groups.block == 1
        h, a = (self.dy[g], _times(self.factor(g), w)) if one else (w * self.dy[g], self.factor(g))
        shift = slope = NOTHING
        if self.operator.from_batch:
            mean, variance = self.known.intervals[g]
            eps = Fraction(self.operator.eps)
            root = Interval(variance.middle + eps, variance.radius)
            sums = Cotangent(self.x[g], h, mean, root, 1.0, True, eps, BUDGET_BYTES)
            shift, slope = enclosures.three(sums.shift), enclosures.three(sums.slope)
        return rests(self.x[g], h, self.mean(g), shift, slope, a)

    def _weight_terms(self, g: int) -> tuple[Values, Values, Values]:
        """Return dy (x - m) r."""
        z = line(self.x[g], self.mean(g), self.factor(g), np.zeros(()))
        h, error = two_product(self.dy[g], z.h)
        low, size = self.dy[g] * z.l, np.abs(self.dy[g])
        return h, error + low, size * z.e + (np.abs(error) + np.abs(low)) * (4 * UNIT)


def _named(exactly: Callable[[int], Mapping[str, Exact]], name: str, k: int) -> Exact:
    return exactly(k)[name]


def _inside(rows: Values) -> Values:
    """Return which rows hold numbers between the limits of operands, or 0."""
    size = np.abs(rows)
    found: Values = (size.max(axis=1) < OPERANDS[1]) & (
        np.where(size > 0, size, 1.0).min(axis=1) > OPERANDS[0]
    )
    return found


def _times(a: Three, w: Values) -> Three:
    """Return a w."""
    h, error = two_product(w, a[0])
    low = w * a[1]
    return h, error + low, np.abs(w) * a[2] + (np.abs(error) + np.abs(low)) * (4 * UNIT)
