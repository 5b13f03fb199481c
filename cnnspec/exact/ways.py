"""Three ways to correctly rounded sums of float64 planes, with the proof that makes each right.

The first that applies (u = 2**-53, d additions on the way of a product into its sum, n products):

    lattice   every operand is an integer times one power of two and n max|a| max|b| stays below 2**53 such units:
              float64 sums are exact in any order
    plain     operands have at most 24 significant bits, so products are exact: |sum - y| <= d u S with
              S = sum |a| |b|, itself bounded by the product of two norms (Cauchy-Schwarz)
    sliced    a = a1 + a2 + a3 in multiples of 2**-b and 2**-2b of the largest: a1 b1 and a1 b2 + a2 b1 are exact,
              the rest is below n 2**-2b and loses n u of it

Where y - E and y + E round to one number, that number is correct, because rounding is monotone; elsewhere the output
is open. Requires IEEE arithmetic, rounding to nearest, no flushing of subnormals, and a matrix product that adds
products (no Strassen).
Sources: Ziv, "Fast evaluation of elementary mathematical functions with correctly rounded last bit", 1991 (the
test); Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1 (d u S); Ozaki, Ogita, Oishi,
Rump, "Error-free transformations of matrix multiplication", 2012 (the slices).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS, Format
from cnnspec.exact.adjoints import InputGradient, WeightGradient
from cnnspec.exact.products import Block, Forward, Scratch, Split
from cnnspec.exact.sums import UNIT, round_pair, round_to, two_sum

Values = npt.NDArray[Any]
AnyKind = Forward | InputGradient | WeightGradient

SLACK = 1 + 2.0**-20  # covers the roundings of the norms, of E and of y +- E
CHUNK = 1 << 15  # elements looked at together where an array is inspected


class Off(NamedTuple):
    """How far values near the results are from them: |value + low - result| <= most; whether they are the nearest."""

    most: Values
    low: Values
    nearest: Values


class Decided(NamedTuple):
    """What a way says of a block: the roundings, where they are open, S; for values near the results, how far off."""

    value: Values
    open: Values | None
    size: Values | None
    off: Off | None = None


class Way(Protocol):
    """One of the three ways, or `Close`."""

    name: str
    split: Split
    short: bool
    a: Values
    b: Values

    def decide(self, block: Block, bias: Values | None) -> Decided:
        """Return what is known of a block."""
        ...


def way_for(kind: AnyKind, operands: list[Values], sizes: list[float], form: Format, *, full: bool) -> Way:
    """Return the first way that applies to finite operands whose largest elements are `sizes`."""
    a, b, *_ = operands
    if _is_lattice(operands, sizes, kind.terms):
        return Lattice(a, b, form, one_plane(kind.scratch, "none", full=full))
    if form.precision < 53 and all(_is_short(array) for array in (a, b)):
        return Plain(
            a, b, form, one_plane(kind.scratch, "none" if full else "squares", full=full), kind.depth
        )
    return sliced(kind, operands, sizes, form, full=full)


def close_way_for(kind: AnyKind, operands: list[Values], sizes: list[float]) -> Way:
    """Return the first way to float64 sums that are exact, within a few units of float64 times S, or nearest."""
    a, b, *_ = operands
    if _is_lattice(operands, sizes, kind.terms):
        return Lattice(a, b, FORMATS["float64"], one_plane(kind.scratch, "none", full=True))
    if all(_is_short(array) for array in (a, b)):
        return Close(a, b, one_plane(kind.scratch, "none", full=True), kind.depth)
    return replace(sliced(kind, operands, sizes, FORMATS["float64"], full=True), close=True)


def one_plane(scratch: Scratch, norms: str, *, full: bool) -> Split:
    """Return one plane of products, and with `full` one of absolute products."""

    def slices(name: str) -> Callable[[Values], list[Values]]:
        return lambda array: [array, *([np.abs(array, out=scratch.take(name, array.shape))] if full else [])]

    return Split(
        slices("left size"), slices("right size"), ((0, 0, 0), *(((1, 1, 1),) if full else ())), norms
    )


@dataclass
class Lattice:
    """Sums that are exact."""

    a: Values
    b: Values
    form: Format
    split: Split
    name = "lattice"
    short = True

    def decide(self, block: Block, bias: Values | None) -> Decided:
        """Round each sum once."""
        y, *size = block.planes
        if bias is not None:
            y += _column(bias, y)
            if size:
                size[0] += _column(np.abs(bias), y)
        found = round_to(y, self.form)
        return Decided(found.copy() if found is y else found, None, size[0] if size else None)


@dataclass
class Plain:
    """Products that are exact, and a test of their rounded sums."""

    a: Values
    b: Values
    form: Format
    split: Split
    depth: int
    name = "plain"
    short = True

    @property
    def factor(self) -> float:
        """E / S: the sum, the bias, and the roundings of y - E and y + E."""
        return (self.depth + 6) * UNIT * SLACK

    def decide(self, block: Block, bias: Values | None) -> Decided:
        """Round y - E and y + E."""
        y, *size = block.planes
        if bias is not None:
            y += _column(bias, y)
        if size:
            s = size[0]
            if bias is not None:
                s += _column(np.abs(bias), y)
            s *= 1 + (self.depth + 6) * 4 * UNIT
            e = s * self.factor
        else:
            assert block.row_norm is not None
            assert block.column_norm is not None
            e = (block.row_norm * self.factor) * block.column_norm
            if bias is not None:
                e += _column(np.abs(bias) * self.factor, y)
        below = round_to(y - e, self.form)
        e += y
        above = round_to(e, self.form)
        return Decided(above, below != above, size[0] if size else None)


@dataclass
class Close:
    """Products that are exact, and their rounded sums as they are."""

    a: Values
    b: Values
    split: Split
    depth: int
    name = "close"
    short = True

    def decide(self, block: Block, bias: Values | None) -> Decided:
        """Return the sums, off by d u S of the sum and u S of the bias."""
        y, s = block.planes
        if bias is not None:
            y += _column(bias, y)
            s += _column(np.abs(bias), y)
        s *= 1 + (self.depth + 6) * 4 * UNIT
        off = s * ((self.depth + 2) * UNIT * SLACK)
        return Decided(y, None, s, Off(off, np.zeros(y.shape), s == 0))


@dataclass
class Sliced:
    """Sums of slices: exact leading parts, and a rest with a bound.

    rest: what the sums of the rest, and products below the range of float64, may lose; 0 where slices hold all bits
    scale: the exponent of the power of two that the operands were divided by;   depth: additions of one product
    close: open outputs are left as they are, with how far they may be off
    """

    a: Values
    b: Values
    form: Format
    split: Split
    rest: float
    scale: int
    depth: int
    short: bool
    close: bool = False
    name = "sliced"

    def decide(self, block: Block, bias: Values | None) -> Decided:
        """Round h + (l - e) and h + (l + e), where h + l is the sum of the planes and of the bias."""
        high, middle, low, *size = block.planes
        assert block.row_norm is not None
        assert block.column_norm is not None
        h, l = two_sum(high, middle)  # noqa: E741 - the letters of the formula
        l, lost = two_sum(l, low)  # noqa: E741
        e = np.abs(lost)
        if bias is not None:
            with np.errstate(over="ignore"):
                scaled = np.ldexp(bias, -self.scale)
            whole = np.isfinite(scaled) & (np.ldexp(scaled, self.scale) == bias)
            h, t = two_sum(h, np.broadcast_to(_column(np.where(whole, scaled, 0.0), h), h.shape))
            l, lost = two_sum(l, t)  # noqa: E741
            e += np.abs(lost)
            e += np.where(_column(whole, h), 0.0, np.inf)
        if self.rest:  # where operands were divided, what is left of a row that is not zero may be zero
            met = (block.row_norm > 0) & (block.column_norm > 0) | (self.scale != 0)
            e += np.where(met, self.rest, 0.0)
        e += np.where(e > 0, np.abs(l) * (4 * UNIT), 0.0)  # the roundings of l - e and l + e
        e *= SLACK
        with np.errstate(invalid="ignore"):
            below, above = (self._rounded(h, l - e), self._rounded(h, l + e))
            undecided = (below != above) | self._extreme(h)
        s = None
        if size:
            s = size[0]
            if self.scale:
                with np.errstate(over="ignore"):
                    s = np.where(s > 0, np.maximum(np.ldexp(s, self.scale), 5e-324), 0.0)
            if bias is not None:
                s += _column(np.abs(bias), s)
            s *= 1 + (self.depth + 6) * 4 * UNIT
        if not self.close:
            return Decided(above, undecided, s)
        with np.errstate(over="ignore", invalid="ignore"):
            value, low = (np.ldexp(part, self.scale) for part in two_sum(h, l))
            off = np.ldexp(e, self.scale) + 5e-324 * ((e > 0) + (self.scale != 0))
        unscaled = self._extreme(h) & ((np.frexp(h)[1] + self.scale > 0) | (self.scale == 0))
        off[unscaled | ~np.isfinite(off) | ~np.isfinite(value)] = np.inf
        return Decided(value, None, s, Off(off, np.where(np.isfinite(low), low, 0.0), ~undecided))

    def _rounded(self, h: Values, l: Values) -> Values:  # noqa: E741
        if self.scale == 0:
            return round_pair(h, l, self.form)
        with np.errstate(over="ignore"):
            return round_pair(np.ldexp(h, self.scale), np.ldexp(l, self.scale), self.form)

    def _extreme(self, h: Values) -> Values:
        """Say where the scaling of results may round once more than allowed, or overflow."""
        result = np.frexp(h)[1] + self.scale
        extreme: Values = (h != 0) & ((result < -900) | (result > 1000))
        return extreme


def sliced(kind: AnyKind, operands: list[Values], sizes: list[float], form: Format, *, full: bool) -> Sliced:
    """Return the way by slices, of operands that are brought near 1 where they are far from it."""
    scaled, scale, exponents = [], 0, []
    for array, size in zip(operands[:2], sizes[:2], strict=True):
        exponent = int(np.frexp(size)[1])
        if abs(exponent) > 300:
            array = np.ldexp(array.astype(np.float64), -exponent)  # noqa: PLW2901
            scale, exponent = scale + exponent, 0
        scaled.append(array)
        exponents.append(exponent)
    bits = (53 - (kind.terms - 1).bit_length()) // 2
    scratch = kind.scratch

    def slices(side: str, exponent: int) -> Callable[[Values], list[Values]]:
        def cut(array: Values) -> list[Values]:
            names = [f"{side} {i}" for i in range(4)]
            first, second, rest, third = (scratch.take(name, array.shape) for name in names)
            shifter = 1.5 * 2.0 ** (exponent + 52 - bits)
            np.add(array, shifter, out=first)
            first -= shifter
            np.subtract(array, first, out=rest)
            shifter *= 2.0**-bits
            np.add(rest, shifter, out=second)
            second -= shifter
            np.subtract(rest, second, out=third)
            parts = [first, second, array, rest, third]
            return [*parts, np.abs(array, out=scratch.take(f"{side} size", array.shape))] if full else parts

        return cut

    table = (
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 1),
        (1, 3, 2),
        (0, 4, 2),
        (4, 2, 2),
        *(((5, 5, 3),) if full else ()),
    )
    split = Split(slices("left", exponents[0]), slices("right", exponents[1]), table, "largest")
    if isinstance(kind, Forward | InputGradient):  # the second operand stands on the left
        split = replace(split, left=slices("left", exponents[1]), right=slices("right", exponents[0]))
    bound = kind.terms * 2.0 ** (sum(exponents) - 2 * bits) * 1.25
    rest = bound * (3 * kind.depth + 32) * UNIT * SLACK + kind.terms * 2.0**-1060
    if scale == 0 and all(
        _has_unit(array, exponent - 2 * bits) for array, exponent in zip(operands[:2], exponents, strict=True)
    ):
        rest = 0.0
    short = all(_is_short(array) for array in operands[:2])
    return Sliced(scaled[0], scaled[1], form, split, rest, scale, kind.depth, short)


def _column(per_channel: Values, planes: Values) -> Values:
    """Return a value per channel in the shape of planes (group, channel, ...)."""
    return per_channel.reshape(*planes.shape[:2], *([1] * (planes.ndim - 2)))


def largest(array: Values) -> float:
    """Return the largest absolute value; NaN or infinite where an element is."""
    if not array.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        return max(abs(float(array.max())), abs(float(array.min())))


def _is_short(array: Values) -> bool:
    """Say whether all elements are float32 numbers."""
    if array.dtype != np.float64:
        return True
    flat = array.reshape(-1)
    with np.errstate(over="ignore"):
        return all(
            bool((flat[i : i + CHUNK].astype(np.float32) == flat[i : i + CHUNK]).all())
            for i in range(0, flat.size, CHUNK)
        )


def _is_lattice(operands: list[Values], sizes: list[float], terms: int) -> bool:
    """Say whether any partial sum is a multiple of one unit and below 2**53 of them."""
    exponents = [int(np.frexp(size)[1]) for size in sizes]
    top = (
        max(exponents[0] + exponents[1] + terms.bit_length(), exponents[2] if len(exponents) > 2 else -9999)
        + 1
    )

    def fits(pieces: list[Values]) -> bool:
        units = [lowest_unit(piece) for piece in pieces]
        unit = min(units[0] + units[1], *units[2:]) if len(units) > 2 else units[0] + units[1]
        return top - unit <= 53 and unit > -1000 and top < 1000

    if not all(sizes[:2]):
        return len(sizes) < 3 or sizes[2] < 2.0**900  # all products are zero
    flat = [array.reshape(-1) for array in operands]
    if not fits([array[:: max(1, array.size // 256)] for array in flat]):
        return False
    return fits(flat)


def _has_unit(array: Values, exponent: int) -> bool:
    """Say whether all elements are multiples of a power of two."""
    flat = array.reshape(-1)
    return lowest_unit(flat[:: max(1, flat.size // 256)]) >= exponent and lowest_unit(flat) >= exponent


def lowest_unit(values: Values) -> int:
    """Return the exponent of the lowest bit set in any element; a large one where all are zero."""
    lowest = 9999
    for i in range(0, values.size, CHUNK):
        significands, exponents = np.frexp(values[i : i + CHUNK].astype(np.float64))
        integers = (significands * 2.0**53).astype(np.int64)
        present = integers != 0
        if present.any():
            bits = np.frexp((integers & -integers)[present].astype(np.float64))[1]
            lowest = min(lowest, int((exponents[present] + bits).min()) - 54)
    return lowest
