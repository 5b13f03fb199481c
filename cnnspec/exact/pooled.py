"""Correctly rounded sums over regions, divided: what average and power-average pooling and their gradients share.

    y[p] = F[p] sum_i W[i] x[i]^k / D[p]      or its square root      i in the region of p; F, W, D whole numbers

The first of these that settles an output does (u = 2**-53, d additions in a row, n terms):

    lattice   the block is made of multiples of one unit, and n max|x| stays below 2**53 of them: sums are exact
    plain     float64 sums of exact terms, off by at most d u S, where the output's format is narrower
    pairs     sums as h + l +- e (`cnnspec.exact.expansions`), then the same from single terms, with more digits
    integers  Python's

Where numbers of one format round to both ends of an interval, the interval settles it: Ziv's test. S is bounded by
n max|x|, or is |y| itself where no term is negative.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import Format
from cnnspec.exact import expansions
from cnnspec.exact.engine import Rounded, Statistics
from cnnspec.exact.expansions import (
    Expansion,
    decided,
    multiplied,
    nearest_ratio,
    nearest_root,
    quotient,
    root,
)
from cnnspec.exact.regions import ELEMENTS, Block, Regions, blocks
from cnnspec.exact.sums import UNIT, container, round_to, two_product, two_sum
from cnnspec.exact.ways import SLACK, largest, lowest_unit

Values = npt.NDArray[Any]

WEIGHT = 1 << 29  # whole weights up to here times 24 bits are exact in float64


@dataclass
class Job:
    """What is to be computed of planes x (planes, *sizes): see the module.

    divisor, factor: per output position, broadcast;   weights: per element of a plane;   square: k = 2 and a root
    divisions: what `RoundingTerms` counts beside the additions
    """

    regions: Regions
    form: Format
    budget: int
    divisor: Values
    weights: Values | None = None
    factor: Values | None = None
    square: bool = False
    divisions: int = 1
    plain: bool = False
    unit: int | None = None
    open_outputs: int = 0
    by_integers: int = 0
    special: int = 0
    on_lattice: bool = field(default=True)

    def run(self, x: Values, *, full: bool) -> Rounded:
        """Return the values of all planes, with `full` S / |D| and the roundings."""
        expansions.check_thread()
        shape = (len(x), *self.regions.outputs)
        value = np.empty(shape, container(self.form))
        sizes, counts = (np.empty(shape), np.empty(shape, np.int64)) if full else (None, None)
        heavy = self.weights is not None and float(self.weights.max(initial=0)) > WEIGHT
        self.plain = self.form.precision < 53 and x.dtype != np.float64 and not heavy
        self.unit = None if self.weights is not None or self.square else _sampled_unit(x)
        with np.errstate(all="ignore"):
            for block in blocks(self.regions, len(x), self.budget):
                value[block.place] = self._block(x, block)
                if sizes is not None and counts is not None:
                    sizes[block.place], counts[block.place] = self._bounds(x, block)
        way = "lattice" if self.on_lattice else "plain" if self.plain else "pairs"
        statistics = Statistics(way, value.size, self.open_outputs, self.by_integers, self.special)
        return Rounded(value, statistics, sizes, counts)

    def _block(self, x: Values, block: Block) -> Values:
        part = x[block.source]
        top = largest(part)
        odd = None
        if not np.isfinite(top):
            finite = np.isfinite(part)
            odd = self._special(np.where(finite, 0, part), block)
            part = np.where(finite, part, part.dtype.type(0))
            top = largest(part)
        padded = block.regions.filled(part, 0, np.float64)
        divisor, factor = (self._here(array, block) for array in (self.divisor, self.factor))
        weights = None
        if self.weights is not None:
            weights = block.regions.filled(self._seen(self.weights, block), 0, np.float64)
        if self._is_lattice(padded, top, block.regions):
            sums: Expansion | None = Expansion(_summed(block.regions, padded))
        elif self.plain:
            self.on_lattice, sums = False, None
        else:
            self.on_lattice = False
            sums = _pairs(block.regions, *_terms(padded, weights, square=self.square))
        if sums is None:
            value, undecided = self._plain(block.regions, padded, weights, divisor, factor)
        else:
            value, undecided = self._rounded(sums, divisor, factor, self.form)
            if self.square and _faint(padded).any():
                undecided[...] = True
        if undecided.any():
            self._settle(value, np.flatnonzero(undecided), part, block, divisor, factor)
        value += value.dtype.type(0)
        if odd is not None:
            met = ~np.isfinite(odd)
            signs = np.broadcast_to(np.sign(divisor), value.shape)
            value[met] = odd[met] * signs[met]
            self.special += int(met.sum())
        return value

    def _plain(
        self, regions: Regions, padded: Values, weights: Values | None, divisor: Values, factor: Values | None
    ) -> tuple[Values, Values]:
        """Round y - E and y + E."""
        terms = padded * padded if self.square else padded if weights is None else padded * weights
        y = _summed(regions, terms)
        positive = self.square or not terms.size or float(terms.min()) >= 0
        size: Any = y if positive else regions.count * largest(terms)
        scale = np.abs(divisor) if factor is None else np.abs(divisor) / factor
        y = y / divisor if factor is None else y * factor / divisor
        if self.square:
            y = np.sqrt(y)
            e = y * ((regions.depth + 10) * UNIT * SLACK)
        else:
            e = size / scale
            e = np.abs(y) * (8 * UNIT) + e * ((regions.depth + 8) * UNIT * SLACK)
        below, above = round_to(y - e, self.form), round_to(y + e, self.form)
        return above, below != above

    def _rounded(
        self, sums: Expansion, divisor: Values, factor: Values | None, form: Format
    ) -> tuple[Values, Values]:
        """Round sums that are known as h + l +- e."""
        divides = bool((divisor != 1).any())
        if factor is not None:
            sums = multiplied(sums, factor)
        exact = sums.l is None and sums.e is None
        if divides and exact and form.precision == 53 and not self.square:
            return sums.h / divisor, ~(np.abs(sums.h) < expansions.LARGE)
        ratio = quotient(sums, divisor) if divides else sums
        whole = root(ratio) if self.square else ratio
        value, undecided = decided(whole, form, sums=not (divides or self.square or self.weights is not None))
        if self.square:
            size = np.abs(sums.h)
            undecided |= ((size < expansions.SMALL) & (size > 0)) | ~(size < expansions.LARGE)
        return value, undecided

    def _settle(
        self, value: Values, flat: Values, part: Values, block: Block, divisor: Values, factor: Values | None
    ) -> None:
        """Write open outputs, of flat indices within the block, from their terms."""
        self.open_outputs += len(flat)
        regions, per_plane = block.regions, value[0].size
        step = max(1, min(ELEMENTS, self.budget // 512) // max(1, regions.count))
        weights = None if self.weights is None else self._seen(self.weights, block).reshape(-1)
        for start in range(0, len(flat), step):
            some = flat[start : start + step]
            position = some % per_plane
            met = regions.met(position)
            absent = met < 0
            met[absent] = 0
            terms = part.reshape(len(part), -1)[(some // per_plane)[:, None], met].astype(np.float64)
            terms[absent] = 0
            w = None if weights is None else weights[met]
            del met, absent
            d = _flat(divisor, value)[position]
            f = None if factor is None else _flat(factor, value)[position]
            sums = expansions.folded(np.concatenate(_terms(terms, w, square=self.square), axis=1))
            found, undecided = self._rounded(sums, d, f, self.form)
            if self.square:
                undecided |= _faint(terms).any(axis=1)
            left = np.flatnonzero(undecided)
            self.by_integers += len(left)
            for j in left.tolist():
                found[j] = self._by_integers(terms[j], w, d, f, j)
            value.reshape(-1)[some] = found

    def _by_integers(
        self, terms: Values, weights: Values | None, divisor: Values, factor: Values | None, j: int
    ) -> float:
        row = terms.tolist()
        whole = None if weights is None else [int(w) for w in weights[j].tolist()]
        d, f = int(divisor[j]), 1 if factor is None else int(factor[j])
        if not self.square:
            n, exponent = expansions.whole_sum(row, whole)
            return nearest_ratio(n * f, d, exponent, self.form)
        units = [expansions.whole_sum([term]) for term in row if term]
        least = min((exponent for _, exponent in units), default=0)
        n = sum((k << (exponent - least)) ** 2 for k, exponent in units)
        return nearest_root(n * f, d, 2 * least, self.form)

    def _special(self, special: Values, block: Block) -> Values:
        """Return the sums of NaN and infinities alone; finite where there are none."""
        padded = block.regions.filled(special, 0, np.float64)
        return _summed(block.regions, padded * padded if self.square else padded)

    def _bounds(self, x: Values, block: Block) -> tuple[Values, Values]:
        """Return S / |D| and the roundings of a block."""
        part = x[block.source]
        part = np.where(np.isfinite(part), np.abs(part), part.dtype.type(0))
        padded = block.regions.filled(part, 0, np.float64)
        divisor, factor = np.abs(self._here(self.divisor, block)), self._here(self.factor, block)
        terms = padded
        if self.weights is not None:
            terms = padded * block.regions.filled(self._seen(self.weights, block), 0, np.float64)
        size = _summed(block.regions, terms)
        count = _summed(block.regions, (padded != 0).astype(np.float64)).astype(np.int64)
        if factor is not None:
            size = size * factor
        exact = self._is_lattice(padded, largest(part), block.regions)
        if not (exact and (divisor == 1).all()):
            size = size / divisor * (1 + (block.regions.depth + 8) * 4 * UNIT)
            size[(count > 0) & (size < 2.0**-900)] += (block.regions.count + 2) * 5e-324
        return size, count + (self.divisions - 1)

    def _here(self, array: Any, block: Block) -> Any:
        """Return what belongs to a block's outputs of an array per position."""
        if array is None or array.ndim == 0:
            return array
        return array[block.place[1:]]

    def _seen(self, array: Values, block: Block) -> Values:
        """Return what belongs to the elements that a block sees, as one plane."""
        return array[block.source[1:]][None]

    def _is_lattice(self, padded: Values, top: float, regions: Regions) -> bool:
        """Say whether all elements are multiples of the unit, and their sums below 2**53 of them."""
        if self.unit is None or not top * regions.count < 2.0 ** min(self.unit + 53, 900):
            return False
        scaled = padded * 2.0**-self.unit
        return bool((np.rint(scaled) == scaled).all())


def _sampled_unit(x: Values) -> int | None:
    """Return the lowest bit that is set in a few elements, or 0 where it is higher; None where it is far below."""
    flat = x.reshape(-1)
    some = flat[:: max(1, flat.size // 256)]
    unit = lowest_unit(some[np.isfinite(some)])
    return min(unit, 0) if unit > -500 else None


def _flat(array: Values, value: Values) -> Values:
    return np.broadcast_to(array, value.shape[1:]).reshape(-1)


def _faint(x: Values) -> Values:
    """Say which squares, or their errors, lie below the range of float64."""
    size = np.abs(x)
    found: Values = (size < 2.0**-450) & (size > 0)
    return found


def _terms(padded: Values, weights: Values | None, *, square: bool) -> tuple[Values, ...]:
    """Return the terms of the sums: numbers, and their errors where products are not exact."""
    if square:
        return two_product(padded, padded)
    return (padded,) if weights is None else two_product(padded, weights)


def _summed(regions: Regions, padded: Values) -> Values:
    """Return float64 sums over the regions, axis by axis."""
    for place, axis in zip(range(-1, -1 - len(regions.axes), -1), reversed(regions.axes), strict=True):
        picked = axis.picked(padded, place)
        total = next(picked).copy()
        for one in picked:
            total += one
        padded = total
    return padded


def _pairs(regions: Regions, *terms: Values) -> Expansion:
    """Return sums over the regions as h + l +- e, axis by axis."""
    state = [*terms, *[np.abs(error) for error in terms[1:]]]
    for place, axis in zip(range(-1, -1 - len(regions.axes), -1), reversed(regions.axes), strict=True):
        picked = zip(*(axis.picked(part, place) for part in state), strict=True)
        total = [part.copy() for part in next(picked)]
        for one in picked:
            total[0], q = two_sum(total[0], one[0])
            if len(total) == 1:
                total += [q, np.abs(q)]
                continue
            total[1] += q
            total[2] += np.abs(q)
            for i in range(1, len(one)):
                total[i] += one[i]
        state = total
    if len(state) == 1:
        return Expansion(state[0])
    return Expansion(state[0], state[1], state[2] * ((2 * regions.depth + 8) * UNIT))
