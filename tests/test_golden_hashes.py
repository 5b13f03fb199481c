"""Hashes of correctly rounded results that stay what they are, on every machine and in every version.

The data are integers of a linear congruential generator: state <- (1664525 state + 1013904223) modulo 2**32, of which
the upper 24 bits count (Press et al., "Numerical Recipes in C", 2nd edition, 1992, page 284). The expected values
are summed below as fractions and packed by `struct`; none of them comes from cnnspec.
"""

import hashlib
import itertools
import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnspec.exact.functional import conv2d, golden_hash, linear, matmul
from cnnspec.exact.transposed import conv_transpose2d

Values = npt.NDArray[Any]
Shape = tuple[int, ...]
PACKED = {"float64": ("d", 53, -1074), "float32": ("f", 24, -149), "float16": ("e", 11, -24)}


def states(count: int, state: int) -> Iterator[int]:
    """Yield the states that follow `state`."""
    for _ in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        yield state


def data(shape: Shape, start: int, exponents: int = 0) -> Values:
    """Return float32 numbers from -1 to 1, times 2**0 .. 2**exponents one after another."""
    integers = [(state >> 8) - 2**23 for state in states(math.prod(shape), start)]
    values = [math.ldexp(value, i % (exponents + 1) - 23) for i, value in enumerate(integers)]
    return np.array(values, np.float32).reshape(shape)


# What is expected


def rounded(value: Fraction, dtype: str) -> float:
    """Round half to even, as Python rounds fractions."""
    _, precision, smallest = PACKED[dtype]
    if value == 0:
        return 0.0
    exponent = math.floor(math.log2(abs(value)))
    exponent += (abs(value) >= Fraction(2) ** (exponent + 1)) - (abs(value) < Fraction(2) ** exponent)
    unit = Fraction(2) ** max(exponent - precision + 1, smallest)
    return float(round(value / unit) * unit)


def hash_of(sums: dict[Shape, Fraction], shape: Shape, dtype: str) -> str:
    """Return the SHA-256 of type, shape and little-endian elements in row-major order."""
    elements = [rounded(sums.get(index, Fraction(0)), dtype) for index in np.ndindex(shape)]
    head = f"{dtype} {','.join(map(str, shape))}\n".encode()
    return hashlib.sha256(head + struct.pack(f"<{len(elements)}{PACKED[dtype][0]}", *elements)).hexdigest()


def terms(
    channels: int, outputs: int, size: int, kernel: int, stride: int, padding: int
) -> Iterator[tuple[Shape, Shape, Shape]]:
    """Yield the indices of input, weight and output of each product of a square convolution of one image."""
    out = (size + 2 * padding - kernel) // stride + 1
    for o, c, i, j, row, column in itertools.product(
        range(outputs), range(channels), range(kernel), range(kernel), range(out), range(out)
    ):
        y, x = row * stride + i - padding, column * stride + j - padding
        if 0 <= y < size and 0 <= x < size:
            yield (0, c, y, x), (o, c, i, j), (0, o, row, column)


def summed(a: Values, b: Values, places: Iterator[tuple[Shape, Shape, Shape]]) -> dict[Shape, Fraction]:
    """Return for each third index the sum of products of elements of a and b at the first and second."""
    found: dict[Shape, Fraction] = {}
    for i, j, k in places:
        found[k] = found.get(k, Fraction(0)) + Fraction(float(a[i])) * Fraction(float(b[j]))
    return found


X, W = data((1, 5, 9, 9), 1, 3), data((4, 5, 3, 3), 2, 7)
DY, B = data((1, 4, 5, 5), 3, 11), data((4,), 4)
A, C = data((6, 40), 5, 23), data((40, 7), 6, 9)
SIZES = (5, 4, 9, 3, 2, 1)


def conv(dtype: str) -> tuple[str, Values]:
    sums = summed(X, W, terms(*SIZES))
    sums = {index: total + Fraction(float(B[index[1]])) for index, total in sums.items()}
    return hash_of(sums, (1, 4, 5, 5), dtype), conv2d(X, W, B, stride=2, padding=1, out_dtype=dtype)


def conv_input(dtype: str) -> tuple[str, Values]:
    sums = summed(DY, W, ((y, w, x) for x, w, y in terms(*SIZES)))
    found = conv2d.backward(DY, X, W, stride=2, padding=1, out_dtype=dtype).input
    return hash_of(sums, X.shape, dtype), found


def conv_weight(dtype: str) -> tuple[str, Values]:
    sums = summed(X, DY, ((x, y, w) for x, w, y in terms(*SIZES)))
    found = conv2d.backward(DY, X, W, stride=2, padding=1, out_dtype=dtype).weight
    return hash_of(sums, W.shape, dtype), found


def conv_transpose(dtype: str) -> tuple[str, Values]:
    sums = summed(DY, W, ((y, w, x) for x, w, y in terms(*SIZES)))
    return hash_of(sums, X.shape, dtype), conv_transpose2d(DY, W, stride=2, padding=1, out_dtype=dtype)


def product(dtype: str) -> tuple[str, Values]:
    places = (((i, k), (k, j), (i, j)) for i in range(6) for j in range(7) for k in range(40))
    return hash_of(summed(A, C, places), (6, 7), dtype), matmul(A, C, out_dtype=dtype)


def cancelling(dtype: str) -> tuple[str, Values]:
    """A linear layer whose outputs are sums of its inputs and their opposites, and of one input times 2**-24."""
    x = np.concatenate([A, -A, A[:, :1] * np.float32(2.0**-24)], axis=1)
    w = np.ones((1, 81), np.float32)
    sums: dict[Shape, Fraction] = {(i, 0): Fraction(float(A[i, 0])) / 2**24 for i in range(6)}
    return hash_of(sums, (6, 1), dtype), linear(x, w, out_dtype=dtype)


HASHES = {
    (conv, "float64"): "56d65086e45ae38045d586179ba2d41c53999295ec4e5bc0dce8ded65eefc21b",
    (conv, "float32"): "a339ab188aec73f1003c43711858f2f3faf00f55a74b414429914b3d2bbf3e30",
    (conv, "float16"): "3acd4c0410b12e3cbf1b5006523e3353a6fbee3afe645aaf6de9842cfadb6944",
    (conv_input, "float64"): "56c0e487dfb78b16b0e986bbe0d98fabba78be8f76b1fcbb45781fb750a821a0",
    (conv_input, "float32"): "41dc277420350b28681f19371776b8816cd1d96b704beec24ec718709e1cb310",
    (conv_weight, "float64"): "c0709d9c0278b9d398da1e27e74c79729ecae6ae926ff1dbbc1997585938a947",
    (conv_weight, "float32"): "47d07aaa9864760dd0eb03ff624ee42a5578ae7725d1074fdcb5109d47231234",
    (conv_transpose, "float64"): "56c0e487dfb78b16b0e986bbe0d98fabba78be8f76b1fcbb45781fb750a821a0",
    (conv_transpose, "float32"): "41dc277420350b28681f19371776b8816cd1d96b704beec24ec718709e1cb310",
    (product, "float64"): "e94cb194c159e664215ce18cc6e1153bc73de38626e28370edabd1944c7d8c7a",
    (product, "float32"): "5f8edcae7a33189f80d4da4e47e1e0ca9f8c427fbf749a94a2b5d6e4658f0240",
    (cancelling, "float64"): "c122e7bd77ffba04f464019c4fa4ffbc4f0acb89a705b2e0db820ce08f05e8cb",
    (cancelling, "float32"): "2667d128095dc74e74c1e20df73bfcda43b28668e2d5178659cccc757fbc5831",
    (cancelling, "float16"): "3633b50b1d57314d378f08241c15b9f6179faf27d593c2e9db4a9ba6ce97ea2d",
}


def test_the_generator_yields_the_published_states() -> None:
    """The sequence after 0 that Press et al. print to check an implementation."""
    published = (
        "3C6EF35F 47502932 D1CCF6E9 AAF95334 6252E503 9F2EC686 57FE6C2D A3D95FA8 81FDBEE7 94F0AF1A CBF633B1"
    )

    assert [f"{state:08X}" for state in states(11, 0)] == published.split()


@pytest.mark.parametrize(("result", "dtype", "known"), [(*key, known) for key, known in HASHES.items()])
def test_a_result_has_the_known_hash(
    result: Callable[[str], tuple[str, Values]], dtype: str, known: str
) -> None:
    expected, found = result(dtype)

    assert expected == known
    assert golden_hash(found) == known


def test_one_unit_in_the_last_place_changes_a_hash() -> None:
    known, found = conv("float32")
    wrong = found.copy()
    wrong[0, 3, 4, 4] = np.nextafter(wrong[0, 3, 4, 4], np.float32(np.inf))

    assert golden_hash(found) == known
    assert golden_hash(wrong) != known
