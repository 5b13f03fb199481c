"""The exact engine against oracles that share no code with it: FLINT's integers, Freivalds' check, fractions.

Images become columns by `columns` below, which has its own index arithmetic; FLINT multiplies the integers that the
operands are in units of a power of two; Python rounds its integers and fractions.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import numpy.typing as npt
import pytest

from cnnspec.exact.functional import conv2d
from cnnspec.exact.transposed import conv_transpose2d
from tests.engine_calls import Values, draw, independent_rounding
from tests.test_exact_engine_wrong import column_lost, last_tap_lost

OUTPUTS = 100_000  # of random configurations that are compared with FLINT's
PARTS = 5  # tests that share them
Integers = npt.NDArray[Any]
Pair = tuple[int, int]


# Integers in place of floats


def lowest_bit(array: Values) -> int:
    """Return e such that all elements are multiples of 2**e and e is not far too low."""
    magnitudes = np.abs(array[array != 0]).astype(float)
    return int(np.frexp(magnitudes)[1].min()) - 53 if magnitudes.size else 0


def integers(array: Values, unit: int) -> Integers:
    """Return array / 2**unit as Python integers; none may have a fraction."""
    scaled = [Fraction(value) / Fraction(2) ** unit for value in array.ravel().tolist()]
    assert all(value.denominator == 1 for value in scaled)
    return np.array([value.numerator for value in scaled], dtype=object).reshape(array.shape)


def small_integers(array: Values, unit: int) -> Integers:
    """Return array / 2**unit as 64-bit integers; none may have a fraction."""
    scaled = np.ldexp(array.astype(float), -unit)
    assert (scaled == np.rint(scaled)).all()
    assert np.abs(scaled).max() < 2.0**62
    found: Integers = scaled.astype(np.int64)
    return found


def rounded(value: int, unit: int, dtype: str) -> float:
    """Return value * 2**unit in `dtype`: by Python's own conversion where that is float64."""
    if dtype == "float64" and unit > -900:
        return math.ldexp(float(value), unit)
    return independent_rounding(value * Fraction(2) ** unit, dtype)


def columns(x: Integers, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Integers:
    """Return (C kh kw, oh ow): for each channel and tap the inputs that the outputs meet, 0 in the padding."""
    channels, height, width = x.shape
    size = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    )
    found = np.zeros((channels, *kernel, *size), x.dtype)
    for i, j, row, column in itertools.product(
        range(kernel[0]), range(kernel[1]), range(size[0]), range(size[1])
    ):
        y = row * stride[0] + i * dilation[0] - padding[0]
        z = column * stride[1] + j * dilation[1] - padding[1]
        if 0 <= y < height and 0 <= z < width:
            found[:, i, j, row, column] = x[:, y, z]
    return found.reshape(channels * kernel[0] * kernel[1], size[0] * size[1])


def gathered_back(
    rows: Integers, shape: tuple[int, int, int], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Integers:
    """Return the transpose of `columns` applied to rows (C kh kw, oh ow): every entry goes where it came from."""
    positions = np.arange(1, math.prod(shape) + 1).reshape(shape)
    places = columns(positions, kernel, stride, padding, dilation)
    found = np.zeros(math.prod(shape) + 1, object)
    for place, value in zip(places.ravel().tolist(), rows.ravel().tolist(), strict=True):
        found[place] += value
    return found[1:].reshape(shape)


def product(a: Integers, b: Integers) -> Integers:
    """Return the matrix product by FLINT."""
    left, right = (flint.fmpz_mat(matrix.tolist()) for matrix in (a, b))
    return np.array([[int(value) for value in row] for row in (left * right).tolist()], dtype=object)


def all_rounded(values: Integers, unit: int, dtype: str) -> Values:
    return np.array([rounded(value, unit, dtype) for value in values.ravel()]).reshape(values.shape)


# Random configurations


@dataclass(frozen=True)
class Geometry:
    """The arguments of a two-dimensional convolution."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def arguments(self) -> dict[str, Any]:
        return vars(self)

    def window(self, w: Values) -> tuple[Pair, Pair, Pair, Pair]:
        return w.shape[-2:], self.stride, self.padding, self.dilation


def layers(seed: int, dtypes: tuple[str, ...]) -> Iterator[tuple[Values, Values, Values, Geometry, str]]:
    """Yield input, weight, bias, geometry and type of the output."""
    choose, rng = random.Random(seed), np.random.default_rng(seed)

    def pair(low: int, high: int) -> Pair:
        return choose.randint(low, high), choose.randint(low, high)

    while True:
        groups = choose.choice((1, 1, 2, 3))
        geometry = Geometry(pair(1, 3), pair(0, 2), pair(1, 2), groups)
        channels, outputs = choose.randint(1, 4), groups * choose.randint(1, 4)
        shapes = (
            (choose.randint(1, 2), groups * channels, *pair(7, 16)),
            (outputs, channels, *pair(1, 4)),
            (outputs,),
        )
        regime = choose.choice(("dense", "integers", "wide", "sparse", "cancelling"))
        dtype = choose.choice(dtypes)
        x, w, b = (draw(rng, shape, regime, dtype) for shape in shapes)
        yield x, w, b, geometry, choose.choice((*dtypes, dtype))


def by_flint(x: Values, w: Values, b: Values | None, geometry: Geometry, dtype: str) -> Values:
    """Return the correctly rounded convolution."""
    units = lowest_bit(x), lowest_bit(w)
    unit = sum(units)
    X, W = integers(x, units[0]), integers(w, units[1])
    images = []
    for image in X:
        parts = zip(np.split(image, geometry.groups), np.split(W, geometry.groups), strict=True)
        found = [product(v.reshape(len(v), -1), columns(part, *geometry.window(w))) for part, v in parts]
        images.append(np.concatenate(found))
    sums, shift = np.stack(images), 0
    if b is not None:
        shift = max(0, unit - lowest_bit(b))
        sums = sums * 2**shift + integers(b, unit - shift)[None, :, None]
    return all_rounded(sums, unit - shift, dtype)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_hundred_thousand_outputs_equal_those_of_flint(part: int) -> None:
    compared = 0
    for x, w, b, geometry, dtype in layers(500 + part, ("float16", "bfloat16", "float32", "float64")):
        y = conv2d(x, w, b, **geometry.arguments, out_dtype=dtype)
        expected = by_flint(x, w, b, geometry, dtype)

        assert np.array_equal(y.astype(float).reshape(expected.shape), expected)
        compared += y.size
        if compared >= OUTPUTS // PARTS:
            return


def test_gradients_of_random_layers_equal_those_of_flint() -> None:
    rng, compared = np.random.default_rng(21), 0
    for x, w, _, geometry, dtype in itertools.islice(layers(600, ("float32", "float64")), 30):
        dy = draw(rng, conv2d(x, w, **geometry.arguments).shape, "dense", "float32")
        found = conv2d.backward(dy, x, w, **geometry.arguments, out_dtype=dtype)
        units = [lowest_bit(array) for array in (x, w, dy)]
        X, W, D = (integers(array, unit) for array, unit in zip((x, w, dy), units, strict=True))
        window, parts = geometry.window(w), geometry.groups
        to_input, to_weight = [], np.zeros((len(w), math.prod(w.shape[1:])), object)
        for image, gradient in zip(X, D.reshape(len(x), len(w), -1), strict=True):
            split = [np.split(array, parts) for array in (image, W, gradient)]
            for g, (c, v, d) in enumerate(zip(*split, strict=True)):
                back = product(v.reshape(len(v), -1).T, d)
                to_input.append(gathered_back(back, c.shape, *window))
                to_weight[g * len(v) : (g + 1) * len(v)] += product(d, columns(c, *window).T)

        expected = all_rounded(np.concatenate(to_input).reshape(x.shape), units[1] + units[2], dtype)
        assert np.array_equal(found.input.astype(float), expected)
        expected = all_rounded(to_weight.reshape(w.shape), units[0] + units[2], dtype)
        assert np.array_equal(found.weight.astype(float), expected)
        compared += found.input.size + found.weight.size
    assert compared > 20_000


def transposed_layers(seed: int) -> Iterator[tuple[Values, Values]]:
    """Yield 40 transposed convolutions of random layers, by the engine and by FLINT."""
    rng, choose = np.random.default_rng(seed), random.Random(seed)
    for _ in range(40):
        stride, dilation = choose.randint(1, 3), choose.randint(1, 2)
        extra, padding, kernel = choose.randrange(stride), choose.randint(0, 1), choose.randint(2, 4)
        x, w = (draw(rng, shape, "dense", "float32") for shape in ((3, 6, 5), (3, 4, kernel, kernel)))
        y = conv_transpose2d(x, w, stride=stride, padding=padding, output_padding=extra, dilation=dilation)
        units = lowest_bit(x), lowest_bit(w)
        X, W = integers(x, units[0]).reshape(3, -1), integers(w, units[1]).reshape(3, -1)
        size = [(n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + extra for n in (6, 5)]
        pairs = [(value, value) for value in (kernel, stride, padding, dilation)]
        sums = gathered_back(product(W.T, X), (4, size[0], size[1]), *pairs)
        yield y, all_rounded(sums, sum(units), "float32")


def test_transposed_convolutions_equal_those_of_flint() -> None:
    compared = list(transposed_layers(22))

    assert all(np.array_equal(y, expected) for y, expected in compared)
    assert sum(y.size for y, _ in compared) > 10_000


def test_flint_catches_wrong_indices() -> None:
    drawn = list(itertools.islice(layers(500, ("bfloat16", "float32")), 10))
    expected = [by_flint(*one) for one in drawn]

    def as_expected() -> list[bool]:
        found = [conv2d(x, w, b, **layer.arguments, out_dtype=dtype) for x, w, b, layer, dtype in drawn]
        return [
            np.array_equal(y.astype(float).reshape(right.shape), right)
            for y, right in zip(found, expected, strict=True)
        ]

    assert all(as_expected())
    with pytest.MonkeyPatch.context() as patch:
        column_lost(patch)
        assert not all(as_expected())
    with pytest.MonkeyPatch.context() as patch:
        last_tap_lost(patch)
        assert not any(np.array_equal(y, right) for y, right in transposed_layers(22))


# One large layer


@dataclass(frozen=True)
class Layer:
    """64 channels of 56 x 56 by 64 kernels of 3 x 3, padding 1, and its gradient, with FLINT's 116 million products."""

    x: Values
    w: Values
    dy: Values
    columns: Integers

    X_UNIT, W_UNIT, DY_UNIT = -42, -36, -40

    def weight(self) -> Integers:
        return small_integers(self.w, self.W_UNIT).reshape(64, 576)

    def gradient(self) -> Integers:
        return small_integers(self.dy, self.DY_UNIT).reshape(64, 3136)


@pytest.fixture(scope="module")
def large() -> Layer:
    rng = np.random.default_rng(23)

    def multiples(shape: tuple[int, ...], unit: int) -> Values:
        """Draw float32 numbers, dense and of all sizes, but multiples of 2**unit."""
        values = rng.standard_normal(shape, np.float32)
        found: Values = np.ldexp(np.rint(np.ldexp(values.astype(float), -unit)), unit).astype(np.float32)
        return found

    x, w = multiples((64, 56, 56), Layer.X_UNIT), multiples((64, 64, 3, 3), Layer.W_UNIT)
    one: Pair = (1, 1)
    found = columns(small_integers(x, Layer.X_UNIT), (3, 3), one, one, one)
    return Layer(x, w, multiples((64, 56, 56), Layer.DY_UNIT), found)


def test_a_large_layer_equals_flint(large: Layer) -> None:
    sums = product(large.weight(), large.columns).reshape(64, 56, 56)

    for dtype in ("float64", "float32"):
        y = conv2d(large.x, large.w, padding=1, out_dtype=dtype)
        assert np.array_equal(y, all_rounded(sums, Layer.X_UNIT + Layer.W_UNIT, dtype))


def test_the_gradient_of_a_large_layers_weight_equals_flint(large: Layer) -> None:
    sums = product(large.gradient(), large.columns.T).reshape(64, 64, 3, 3)

    for dtype in ("float64", "float32"):
        found = conv2d.backward(large.dy, large.x, large.w, padding=1, out_dtype=dtype, wanted=["weight"])
        assert np.array_equal(found.weight, all_rounded(sums, Layer.X_UNIT + Layer.DY_UNIT, dtype))


def test_the_gradient_of_a_large_layers_input_equals_flint(large: Layer) -> None:
    one: Pair = (1, 1)
    back = product(large.weight().T, large.gradient())
    sums = gathered_back(back, (64, 56, 56), (3, 3), one, one, one)

    for dtype in ("float64", "float32"):
        found = conv2d.backward(large.dy, large.x, large.w, padding=1, out_dtype=dtype, wanted=["input"])
        expected = all_rounded(sums, Layer.W_UNIT + Layer.DY_UNIT, dtype)
        assert np.array_equal(found.input, expected)
        assert np.array_equal(conv_transpose2d(large.dy, large.w, padding=1, out_dtype=dtype), expected)


# Freivalds' check: W X r = Y r modulo a prime for random r; a wrong Y passes with probability 2**-61 (Freivalds 1977)

PRIME = 2**61 - 1


def passes_freivalds(w: Integers, x: Integers, y: Integers, seed: int) -> bool:
    choose = random.Random(seed)
    r = [choose.randrange(PRIME) for _ in range(x.shape[1])]
    inner = [sum(map(int.__mul__, row, r)) % PRIME for row in x.tolist()]
    left = [sum(map(int.__mul__, row, inner)) % PRIME for row in w.tolist()]
    right = [sum(map(int.__mul__, row, r)) % PRIME for row in y.tolist()]
    return left == right


def test_a_large_layer_passes_freivalds_check_and_one_wrong_element_does_not(large: Layer) -> None:
    rng = np.random.default_rng(24)
    x = rng.integers(-(2**20), 2**20, (64, 56, 56), endpoint=True)
    w = rng.integers(-(2**20), 2**20, (64, 64, 3, 3), endpoint=True)
    one: Pair = (1, 1)
    X, W = columns(x, (3, 3), one, one, one), w.reshape(64, 576)
    y = conv2d(x.astype(float), w.astype(float), padding=1).reshape(64, 3136).astype(np.int64)

    assert passes_freivalds(W, X, y, 25)
    for place, error in (((0, 0), 1), ((63, 3135), -1), ((31, 1700), 2**40)):
        wrong = y.copy()
        wrong[place] += error
        assert not passes_freivalds(W, X, wrong, 25)
    swapped = y.copy()
    swapped[[3, 4]] = y[[4, 3]]
    assert not passes_freivalds(W, X, swapped, 25)
