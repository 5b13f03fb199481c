"""Correct rounding against the formats that `struct` knows, and by hand for bfloat16."""

import math
import random
import struct
from fractions import Fraction

import pytest

from cnnspec.bounds import FORMATS, half_ulp_exponent, nearest

CODES = {"float64": "d", "float32": "f", "float16": "e"}


def rounded(value: Fraction, name: str) -> float:
    return nearest(value.numerator, value.denominator, 0, FORMATS[name])


def neighbours(value: float, name: str) -> tuple[float, float]:
    """Return a float of the format and the next one away from zero, by their bits."""
    code = CODES[name]
    kind = {"d": "Q", "f": "I", "e": "H"}[code]
    (bits,) = struct.unpack(f"<{kind}", struct.pack(f"<{code}", value))
    (here,) = struct.unpack(f"<{code}", struct.pack(f"<{kind}", bits))
    (there,) = struct.unpack(f"<{code}", struct.pack(f"<{kind}", bits + 1))
    return here, there


@pytest.mark.parametrize("name", CODES)
def test_values_between_two_floats_round_to_the_nearer_and_ties_to_even(name: str) -> None:
    source = random.Random(0)
    for _ in range(400):
        exponent = source.randint(FORMATS[name].smallest, FORMATS[name].largest - 2)
        start = math.ldexp(source.uniform(1, 2), exponent)
        here, there = map(Fraction, neighbours(start, name))
        middle, step = (here + there) / 2, (there - here) / 1000

        assert rounded(middle - step, name) == here
        assert rounded(middle + step, name) == there
        even = here if rounded(here, name) == here and _even(float(here), name) else there
        assert rounded(middle, name) == even
        assert rounded(-middle, name) == -even


def _even(value: float, name: str) -> bool:
    code = CODES[name]
    kind = {"d": "Q", "f": "I", "e": "H"}[code]
    (bits,) = struct.unpack(f"<{kind}", struct.pack(f"<{code}", value))
    return bool(bits % 2 == 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Fraction(257, 256), 1.0),  # 1 + 2^-8 lies between 1 and 1 + 2^-7: the tie goes to the even 1
        (Fraction(259, 256), 1.015625),  # 1 + 3 * 2^-8: the tie goes up to 1 + 2^-6
        (Fraction(2**128 - 2**119), math.inf),  # half an ulp above the largest bfloat16
        (Fraction(2**128 - 2**119 - 1), float(2**128 - 2**120)),
        (Fraction(1, 2**134), 0.0),  # half the smallest subnormal: the tie goes to 0
        (Fraction(3, 2**135), 2.0**-133),
    ],
)
def test_bfloat16_by_hand(value: Fraction, expected: float) -> None:
    assert rounded(value, "bfloat16") == expected


def test_rounding_twice_through_float32_is_not_rounding_once() -> None:
    value = Fraction(1) + Fraction(1, 2**8) + Fraction(1, 2**30)
    twice = nearest(*Fraction(rounded(value, "float32")).as_integer_ratio(), 0, FORMATS["bfloat16"])

    assert rounded(value, "bfloat16") == 1.0078125
    assert twice == 1.0


@pytest.mark.parametrize("name", FORMATS)
def test_half_an_ulp_bounds_every_rounding(name: str) -> None:
    source = random.Random(1)
    for _ in range(300):
        value = Fraction(source.randint(1, 10**30), source.randint(1, 10**6)) * Fraction(2) ** source.randint(
            -60, -50
        )
        error = (
            abs(Fraction(rounded(value, name)) - value)
            if math.isfinite(rounded(value, name))
            else Fraction(0)
        )

        assert error <= Fraction(2) ** half_ulp_exponent(value.numerator, value.denominator, 0, FORMATS[name])
