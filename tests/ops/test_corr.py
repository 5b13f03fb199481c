"""The textbook functions: their identities, scipy as a second opinion, and what they refuse."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from scipy import signal

import cnnspec
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, shape_of, unravel
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.pool import AvgPool2d, MaxPool2d


@st.composite
def matrices(draw: st.DrawFn, least: tuple[int, int] = (1, 1), most: int = 6) -> Array:
    shape = draw(st.tuples(st.integers(least[0], most), st.integers(least[1], most)))
    count = shape[0] * shape[1]
    return unravel(draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count)), shape)


@st.composite
def images_and_kernels(draw: st.DrawFn) -> tuple[Array, Array]:
    kernel = draw(matrices(most=3))
    return draw(matrices(shape_of(kernel))), kernel  # type: ignore[arg-type]


def flipped(kernel: Array) -> Array:
    return [row[::-1] for row in kernel[::-1]]


@settings(max_examples=60, deadline=None)
@given(images_and_kernels())
def test_convolution_is_correlation_with_the_flipped_kernel_and_scipys(pair: tuple[Array, Array]) -> None:
    image, kernel = pair
    assert cnnspec.convolve2d(image, kernel) == cnnspec.corr2d(image, flipped(kernel))
    assert cnnspec.convolve2d(image, kernel) == signal.convolve2d(image, kernel, mode="valid").tolist()
    assert cnnspec.corr2d(image, kernel) == signal.correlate2d(image, kernel, mode="valid").tolist()


def test_convolution_is_not_correlation() -> None:
    """Unless the kernel is its own mirror image, the two differ: nothing above holds by accident."""
    image, kernel = [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]]
    assert cnnspec.convolve2d(image, kernel) != cnnspec.corr2d(image, kernel)
    assert cnnspec.convolve2d(image, [[1, 2], [2, 1]]) == cnnspec.corr2d(image, [[1, 2], [2, 1]])


@settings(max_examples=40, deadline=None)
@given(images_and_kernels(), st.integers(1, 3))
def test_layers_are_made_of_the_textbook(pair: tuple[Array, Array], outputs: int) -> None:
    image, kernel = pair
    x, h, w = [image, [row[::-1] for row in image]], *shape_of(kernel)
    weight = [[kernel, flipped(kernel)]] * outputs
    layer = Conv2d(2, outputs, (h, w), bias=False)
    assert cnnspec.corr2d_multi_in_out(x, weight) == layer.reference(x, weight)
    assert cnnspec.corr2d_multi_in(x, weight[0]) == layer.reference(x, weight)[0]
    assert cnnspec.pool2d(image, (h, w)) == MaxPool2d((h, w), stride=1).reference([image])[0]
    assert cnnspec.pool2d(image, (h, w), mode="avg") == AvgPool2d((h, w), stride=1).reference([image])[0]
    points = [[[[row[0][0]]] for row in kernels] for kernels in weight]
    assert cnnspec.corr2d_multi_in_out_1x1(x, points) == cnnspec.corr2d_multi_in_out(x, points)


REFUSED: list[Any] = [
    (cnnspec.corr2d, ([[1, 2]], [[1], [2]]), "must fit"),
    (cnnspec.convolve2d, ([[1, 2]], [[1, 2, 3]]), "must fit"),
    (cnnspec.corr2d, ([1, 2], [[1]]), "matrices"),
    (cnnspec.corr2d, ([[1, 2]], [[]]), "empty"),
    (cnnspec.corr2d_multi_in, ([[[1]]], [[[1]], [[1]]]), "channels"),
    (cnnspec.corr2d_multi_in, ([], []), "channels"),
    (cnnspec.corr2d_multi_in_out, ([[[1]]], []), "output channel"),
    (cnnspec.corr2d_multi_in_out_1x1, ([[[1]]], [[[[1, 2]]]]), "must be"),
    (cnnspec.pool2d, ([[1, 2]], (2, 2)), "must fit"),
    (cnnspec.pool2d, ([1, 2], (1, 1)), "matrix"),
]


@pytest.mark.parametrize(("function", "arguments", "words"), REFUSED)
def test_refused(function: Any, arguments: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        function(*arguments)


def test_unknown_pooling() -> None:
    with pytest.raises(ArgumentError, match="mode='min'"):
        cnnspec.pool2d([[1]], (1, 1), mode="min")
