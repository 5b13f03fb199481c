"""Number formats and correct rounding.

An exact value is kept as `numerator / denominator * 2**exponent` in integers, so no step of a verdict rounds.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: `precision` significand bits, the hidden one included.

    smallest: the exponent of the smallest subnormal;   largest: all finite values are below 2**largest.
    """

    name: str
    precision: int
    smallest: int
    largest: int

    @property
    def smallest_normal(self) -> float:
        """The smallest number with all its significand bits."""
        return math.ldexp(1, self.smallest + self.precision - 1)


FORMATS = {
    "float64": Format("float64", 53, -1074, 1024),
    "float32": Format("float32", 24, -149, 128),
    "tf32": Format("tf32", 11, -136, 128),
    "bfloat16": Format("bfloat16", 8, -133, 128),
    "float16": Format("float16", 11, -24, 16),
}
"""IEEE 754 binary64, binary32 and binary16; bfloat16; NVIDIA's TensorFloat-32."""


def nearest(numerator: int, denominator: int, exponent: int, target: Format) -> float:
    """Return numerator / denominator * 2**exponent correctly rounded: to nearest, ties to even, overflow to inf.

    The result is exact in a Python float, which holds every value of every format.

    >>> nearest(1, 3, 0, FORMATS["bfloat16"]).hex()
    '0x1.5600000000000p-2'
    >>> nearest(65520, 1, 0, FORMATS["float16"]), nearest(65519, 1, 0, FORMATS["float16"])
    (inf, 65504.0)
    """
    if numerator == 0:
        return 0.0
    sign, magnitude = (-1, -numerator) if numerator < 0 else (1, numerator)
    unit = max(_log2(magnitude, denominator) + exponent - target.precision + 1, target.smallest)
    shift = exponent - unit
    above, below = (magnitude << shift, denominator) if shift >= 0 else (magnitude, denominator << -shift)
    quotient, rest = divmod(above, below)
    if 2 * rest > below or (2 * rest == below and quotient & 1):
        quotient += 1
    if quotient.bit_length() + unit > target.largest:
        return sign * math.inf
    return math.ldexp(sign * quotient, unit)


def half_ulp_exponent(magnitude: int, denominator: int, exponent: int, target: Format) -> int:
    """Return e such that rounding a value of this magnitude to `target` errs by at most 2**e."""
    if magnitude == 0:
        return target.smallest - 1
    return max(_log2(magnitude, denominator) + exponent - target.precision, target.smallest - 1)


def _log2(numerator: int, denominator: int) -> int:
    """Return floor(log2(numerator / denominator)) of positive integers."""
    guess = numerator.bit_length() - denominator.bit_length()
    below = numerator << -guess < denominator if guess < 0 else numerator < denominator << guess
    return guess - 1 if below else guess
