"""Correctly rounded sums of products at the speed of matrix products.

A way (`cnnspec.exact.ways`) proves most outputs correct; the terms of the few that it leaves open are gathered and
summed without error (`cnnspec.exact.sums`). Memory beside operands and results stays within the kind's budget.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS, Format
from cnnspec.errors import CnnspecError
from cnnspec.exact.adjoints import WeightGradient
from cnnspec.exact.products import Block, Forward, Scratch
from cnnspec.exact.sums import UNIT, container, round_to, rounded_sums
from cnnspec.exact.ways import (
    SLACK,
    AnyKind,
    Off,
    Sliced,
    Way,
    close_way_for,
    largest,
    lowest_unit,
    one_plane,
    sliced,
    way_for,
)

Values = npt.NDArray[Any]

PATIENCE = 1000  # open outputs that are settled from their terms however few outputs there are


@dataclass(frozen=True)
class Statistics:
    """How the outputs were found.

    way:         "lattice", "plain" or "sliced"
    ambiguous:   outputs that the rounding test left open, summed without error from their terms
    by_integers: those of them that took Python's integers
    special:     outputs that are NaN or infinite because an operand is
    """

    way: str
    outputs: int
    ambiguous: int = 0
    by_integers: int = 0
    special: int = 0


@dataclass(frozen=True)
class Rounded:
    """Correctly rounded outputs, zeros without a sign, and what bounds rounding errors.

    bound_sum: S = sum |x| |w| (+ |b|) over finite terms: never below it, above it by less than d 2**-50 S; exact on
    a lattice;   n_eff: the number of terms that are not zero. Both are None where they were not asked for.
    off: how far off the values are, where values near the results were asked for; None where they are the nearest
    """

    value: Values
    statistics: Statistics
    bound_sum: Values | None = None
    n_eff: Values | None = None
    off: Off | None = None


def rounded(
    kind: AnyKind, a: Values, b: Values, bias: Values | None, form: Format, *,
    full: bool = False, close: bool = False,
) -> Rounded:  # fmt: skip
    """Return sum a b (+ bias) of a kind of product, correctly rounded to `form`; operands are C-contiguous.

    close: values near the results are enough, in float64 and with all that `full` gives; `Rounded.off` says how near
    """
    if (np.float64(5e-324) * np.float64(1.0)) == 0:
        raise CnnspecError("this thread flushes subnormals to zero; switch that off to round correctly")
    operands = [a, b] if bias is None else [a, b, bias]
    sizes = [largest(array) for array in operands]
    finite = [
        array if np.isfinite(size) else np.where(np.isfinite(array), array, array.dtype.type(0))
        for array, size in zip(operands, sizes, strict=True)
    ]
    offset = finite[2].astype(np.float64) if len(finite) > 2 else None
    if any(not np.isfinite(size) for size in sizes):
        sizes = [largest(array) for array in finite]
    if not (a.size and b.size):
        return _without_products(kind, offset, form, full=full)
    way = close_way_for(kind, finite, sizes) if close else way_for(kind, finite, sizes, form, full=full)
    value = np.zeros(kind.shape, container(form))
    bound_sum = np.zeros(kind.shape) if full else None
    settle = Settle(kind, finite, form, value, way.short)
    off = Off(np.zeros(kind.shape), np.zeros(kind.shape), np.ones(kind.shape, bool)) if close else None
    if not _through(way, settle, offset, bound_sum, off):
        kind.scratch.held.clear()
        way = sliced(kind, finite, sizes, form, full=full)
        settle = Settle(kind, finite, form, value, way.short)
        _through(way, settle, offset, bound_sum, None)
    special = np.zeros(0, np.int64)
    if any(one is not array for one, array in zip(finite, operands, strict=True)):
        special = _propagate(kind, operands, value)
        for array, settled in zip(off or (), (0.0, 0.0, True), strict=False):
            array.reshape(-1)[special] = settled
    statistics = Statistics(way.name, value.size, settle.ambiguous, settle.by_integers, len(special))
    if not full:
        return Rounded(value, statistics)
    count = _counts(kind, finite[0], finite[1])
    if offset is not None:
        count += (offset != 0).reshape(-1, *([1] * (count.ndim - 2)))
    if bound_sum is not None and isinstance(way, Sliced):
        _add_faint(way.scale, settle, bound_sum, count)
    return Rounded(value, statistics, bound_sum, count, off)


def _add_faint(scale: int, settle: "Settle", bound_sum: Values, count: Values) -> None:
    """Add to S what products below the range of float64 come to; sum it anew where scaling may have lost some."""
    kind = settle.kind
    bound_sum[(count > 0) & (bound_sum < 2.0**-900)] += kind.terms * 5e-324
    if scale > 0:
        faint = np.flatnonzero((count > 0) & (bound_sum < np.ldexp(1.0, min(scale - 900, 1000))))
        for chosen, a, b in _gathered(kind, settle.operands, faint):
            sums = rounded_sums(np.abs(a), np.abs(b), FORMATS["float64"], short=False).values
            bound_sum.reshape(-1)[chosen] = np.nextafter(sums, np.inf)


def _through(
    way: Way, settle: "Settle", offset: Values | None, bound_sum: Values | None, off: Off | None
) -> bool:
    """Write all blocks; False, at some point, where so many are open that slices are cheaper than their terms."""
    seen = 0
    for block in settle.kind.blocks(way.a, way.b, way.split):
        column = None if offset is None else offset[block.place[1]]
        found = way.decide(block, column)
        _write(settle.value, block, found.value)
        if bound_sum is not None and found.size is not None:
            _write(bound_sum, block, found.size)
        if off is not None and found.off is not None:
            for array, part in zip(off, found.off, strict=True):
                _write(array, block, part)
        seen += found.value.size
        if found.open is not None and found.open.any():
            settle.later(_flat(settle.kind, block, found.open))
            if way.name == "plain" and settle.taken > PATIENCE + seen // 32:
                return False
    settle.now()
    return True


def _without_products(kind: AnyKind, bias: Values | None, form: Format, *, full: bool) -> Rounded:
    """Return sums of nothing, and of the bias."""
    per_channel = np.zeros(1) if bias is None else bias.reshape(-1, *([1] * (len(kind.shape) - 2)))
    spread = np.broadcast_to(per_channel, kind.shape)
    value = round_to(np.ascontiguousarray(spread), form) + container(form).type(0)
    statistics = Statistics("lattice", value.size)
    return (
        Rounded(value, statistics, np.abs(spread), (spread != 0).astype(np.int64))
        if full
        else Rounded(value, statistics)
    )


def _write(array: Values, block: Block, found: Values) -> None:
    """Write a block into its place; a sum that is zero has no sign."""
    view = array[block.place]
    view = view.swapaxes(0, 1) if block.swapped else view
    np.add(found.reshape(view.shape), found.dtype.type(0), out=view)


def _flat(kind: AnyKind, block: Block, mask: Values) -> Values:
    """Return the flat indices of a block's chosen elements."""
    shape = [len(range(*s.indices(n))) for s, n in zip(block.place, kind.shape, strict=False)]
    shape += kind.shape[len(shape) :]
    starts = [s.start for s in block.place] + [0] * (len(shape) - len(block.place))
    order = [1, 0, *range(2, len(shape))] if block.swapped else list(range(len(shape)))
    found = np.unravel_index(np.flatnonzero(mask), [shape[i] for i in order])
    index = [found[order.index(i)] + start for i, start in enumerate(starts)]
    flat: Values = np.ravel_multi_index(index, kind.shape)
    return flat


def _gathered(kind: AnyKind, operands: list[Values], flat: Values) -> Iterator[tuple[Values, Values, Values]]:
    """Yield (flat indices, factors, factors) of a few outputs at a time, the bias times 1 among them."""
    step = max(1, kind.scratch.budget // (160 * max(1, kind.terms)))
    for start in range(0, len(flat), step):
        chosen = flat[start : start + step]
        a, b = kind.factors(operands[0], operands[1], chosen)
        if len(operands) > 2:
            channel = np.unravel_index(chosen, kind.shape)[1]
            a = np.concatenate([a, operands[2][channel, None].astype(np.float64)], axis=1)
            b = np.concatenate([b, np.ones((len(chosen), 1))], axis=1)
        yield chosen, a, b


@dataclass
class Settle:
    """Open outputs, written from their terms without error when there are enough of them."""

    kind: AnyKind
    operands: list[Values]
    form: Format
    value: Values
    short: bool
    ambiguous: int = 0
    by_integers: int = 0
    waiting: list[Values] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """How many outputs were open so far."""
        return self.ambiguous + sum(map(len, self.waiting))

    def later(self, flat: Values) -> None:
        """Take flat indices of open outputs."""
        self.waiting.append(flat)
        if sum(map(len, self.waiting)) > self.kind.scratch.budget // 1024:
            self.now()

    def now(self) -> None:
        """Write the sums of all that wait."""
        if not self.waiting:
            return
        flat, self.waiting = np.concatenate(self.waiting), []
        for chosen, a, b in _gathered(self.kind, self.operands, flat):
            sums = rounded_sums(a, b, self.form, short=self.short)
            self.value.reshape(-1)[chosen] = sums.values
            self.by_integers += sums.by_integers
        self.ambiguous += len(flat)


def summed(rows: Values, form: Format, budget: int, *, full: bool) -> Rounded:
    """Return the correctly rounded sum of rows[o] over all other axes."""
    if full or rows.dtype != np.float32 or form.precision > 24 or not 0 < rows[0].size < 1 << 20:
        return _summed(rows, form, budget, full=full)
    axes, count = tuple(range(1, rows.ndim)), rows[0].size
    with np.errstate(all="ignore"):
        y = rows.sum(axis=axes, dtype=np.float64)
        letters = "oabcdefg"[: rows.ndim]
        squares = np.einsum(f"{letters},{letters}->o", rows, rows).astype(np.float64)
        squares = (squares + count * 2.0**-149) * (1 + count * 2.0**-22)  # float32 sums and underflow
        e = np.sqrt(squares * count) * ((count + 6) * UNIT * SLACK)
        below, value = round_to(y - e, form), round_to(y + e, form)
    left = np.flatnonzero((below != value) | ~np.isfinite(squares))
    rest = _summed(rows[left], form, budget, full=False)
    value[left] = rest.value
    statistics = replace(rest.statistics, outputs=value.size, ambiguous=len(left))
    return Rounded(value + value.dtype.type(0), statistics)


def _summed(rows: Values, form: Format, budget: int, *, full: bool) -> Rounded:
    """Sum rows of any type, some at a time."""
    value, sizes, counts = (
        np.empty(len(rows), container(form)),
        np.empty(len(rows)),
        np.empty(len(rows), np.int64),
    )
    ambiguous = by_integers = special = 0
    step = max(1, min(budget // 64, 1 << 16) // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        chosen = slice(start, start + step)
        terms = rows[chosen].astype(np.float64).reshape(len(rows[chosen]), -1)
        with np.errstate(invalid="ignore", over="ignore"):
            y = terms.sum(axis=1)
            odd, infinite = ~np.isfinite(y), y
            if odd.any():  # or their sum overflows, which the terms say
                finite = np.isfinite(terms)
                infinite, odd = np.where(finite, 0.0, terms).sum(axis=1), ~finite.all(axis=1)
                terms = np.where(finite, terms, 0.0)
                y = terms.sum(axis=1)
                special += int(odd.sum())
            if full or rows.dtype == np.float64:
                size = np.abs(terms).sum(axis=1)
            else:
                size = np.sqrt(np.einsum("ok,ok->o", terms, terms) * terms.shape[1])
            e = size * ((terms.shape[1] + 6) * UNIT * SLACK)
            value[chosen], above = round_to(y - e, form), round_to(y + e, form)
            left = np.flatnonzero(~((value[chosen] == above) & (size < 2.0**900)))
        found = rounded_sums(terms[left], None, form, short=True)
        value[chosen][left], by_integers = found.values, by_integers + found.by_integers
        ambiguous += len(left)
        value[chosen][odd] = infinite[odd]
        if full:
            exact = size < 2.0 ** min(
                52 + lowest_unit(terms.reshape(-1)), 900
            )  # sums of few multiples of one unit
            sizes[chosen] = np.where(exact, size, size * (1 + (rows[0].size + 6) * 4 * UNIT))
            counts[chosen] = (terms != 0).sum(axis=1)
    statistics = Statistics("plain", value.size, ambiguous, by_integers, special)
    value += value.dtype.type(0)
    return Rounded(value, statistics, sizes, counts) if full else Rounded(value, statistics)


def _propagate(kind: AnyKind, operands: list[Values], value: Values) -> Values:
    """Write NaN and infinities where a term is one; return the flat indices."""
    a, b = (~np.isfinite(array) for array in operands[:2])
    met = _sums(kind, a, np.ones_like(b)) > 0
    met |= _sums(kind, np.ones_like(a), b) > 0
    if len(operands) > 2:
        met |= ~np.isfinite(operands[2]).reshape(-1, *([1] * (met.ndim - 2)))
    flat = np.flatnonzero(met)
    for chosen, *factors in _gathered(kind, operands, flat):
        signs = [np.where(np.isfinite(array), np.sign(array), array) for array in factors]
        with np.errstate(invalid="ignore"):
            value.reshape(-1)[chosen] = (signs[0] * signs[1]).sum(axis=1)
    return flat


def _sums(kind: AnyKind, a: Values, b: Values) -> Values:
    """Return sums of products of zeros and ones, which float32 holds below 2**24."""
    small = kind.terms < 1 << 24
    scratch = Scratch(kind.scratch.budget, np.float32 if small else np.float64)
    counting = replace(kind, scratch=scratch)
    found = np.empty(counting.shape, np.int32 if small else np.int64)
    for block in counting.blocks(a, b, one_plane(scratch, "none", full=False)):
        _write(found, block, block.planes[0].astype(found.dtype))
    return found


def _counts(kind: AnyKind, a: Values, b: Values) -> Values:
    """Return how many products of each output are not zero.

    Where one operand has no zeros, channels (or images) of the other are counted together first.
    """
    here, there = a != 0, b != 0
    if isinstance(kind, WeightGradient):
        if not here.all():
            return _sums(kind, here, there)
        together = there.sum(axis=0, keepdims=True, dtype=np.float32)
        weights = replace(kind, images=1, outputs=kind.groups)
        return np.repeat(_sums(weights, here[:1, : kind.groups], together), kind.outputs_per_group, axis=0)
    if not there.all():
        return _sums(kind, here, there)
    together = here.reshape(len(a), kind.groups, -1, *a.shape[2:]).sum(axis=2, dtype=np.float32)
    few = replace(kind, channels=kind.groups, outputs=kind.groups)
    repeats = kind.outputs_per_group if isinstance(kind, Forward) else kind.channels_per_group
    return np.repeat(_sums(few, together, there[: kind.groups, :1]), repeats, axis=1)
