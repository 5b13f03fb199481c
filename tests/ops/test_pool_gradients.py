"""Maximum and average pooling backwards, their bounds in every format, and how other frameworks pool."""

import math
import random
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.derivatives import pullback
from cnnspec.nested import Array
from cnnspec.ops import pooling
from cnnspec.ops.pool import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from tests.ops.draws import draws, integers
from tests.ops.pool_checks import (
    DTYPES,
    check_bounds,
    cotangent,
    floats,
    in_torch,
    misses,
    plain,
    random_values,
    safe_in_torch,
    torch_gradient,
    wrong_gradients,
)
from tests.ops.torch_layers import tensor

MAXIMA = ("max_pool1d", "max_pool2d", "max_pool3d")
MEANS = ("avg_pool1d", "avg_pool2d", "avg_pool3d")


@pytest.mark.parametrize("name", [*MAXIMA, *MEANS])
def test_gradients_are_dual_numbers_and_autograd(name: str) -> None:
    """With many ties among maxima: the first of them gets the gradient."""
    assert wrong_gradients(name, 200) == []


def last_of_equals(plane: Any, region: Any) -> Any:
    best = max((plane[i] for i in region), default=-math.inf)
    return best, max((i for i in region if plane[i] == best), default=-1)


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "mutant"),
    [
        ("max_pool2d", pooling, "largest", last_of_equals),
        ("avg_pool2d", pooling, "divide", lambda a, b: a),
        ("avg_pool1d", AvgPool1d, "divisors", lambda op, shape: [2] * math.prod(op.output_shape(shape))),
    ],
    ids=["the last of equal maxima", "not divided", "one divisor for all"],
)
def test_wrong_gradients_are_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, owner: Any, attribute: str, mutant: Any
) -> None:
    right = []
    for draw in draws(name, 40, cost=250, empty=False):
        x, g = draw.operands(3)[0], cotangent(draw)
        if safe_in_torch(draw):
            right.append((plain(draw), x, g, torch_gradient(in_torch(draw), tensor(x), tensor(g))))
    monkeypatch.setattr(owner, attribute, mutant)
    assert any(nested.ravel(op.gradients(g, x)[0]) != dx.flatten().tolist() for op, x, g, dx in right)


@pytest.mark.parametrize("name", [*MAXIMA, *MEANS])
def test_the_gradient_of_the_gradient(name: str) -> None:
    """dx is linear in dy: its own gradient is the mean again, or what stands where the maximum stood."""
    for draw in draws(name, 40, cost=250, empty=False):
        op, (x,), g = plain(draw), draw.operands(), cotangent(draw)
        h = draw.operands(largest=20)[0]
        (back,) = pullback(lambda dy, op=op, x=x: op.gradients(dy, x)[0], h, [g])
        if name in MEANS:
            assert back == op.reference(h)
            continue
        _, indices = type(op)(**{**draw.arguments, "return_indices": True}).reference(x)
        rows, per_plane = pooling.planes(h, op.spatial), math.prod(draw.output_shape[-op.spatial :])
        places = enumerate(nested.ravel(indices))
        assert nested.ravel(back) == [rows[n // per_plane][i] if i >= 0 else 0 for n, i in places]


def test_a_window_without_a_tap_passes_nothing_on() -> None:
    """The taps stand at -1 and 2, the input at 0."""
    op = MaxPool1d(2, stride=2, padding=1, dilation=3, ceil_mode=True)
    assert op.reference([[5]]) == [[-math.inf]]
    assert op.gradients([[7]], [[5]]) == [[[0]]]


# Bounds


@pytest.mark.parametrize("name", MEANS)
def test_gradient_terms_of_means(name: str) -> None:
    """S is the gradient of |dy|; the roundings are the windows with a dy that is not zero, as divisor 1 counts them."""
    for draw in draws(name, 60, cost=400, empty=False):
        op, (x,) = draw.op, draw.operands()
        g = integers(random.Random(draw.seed + 1), draw.output_shape, 1)  # a third of them 0
        (terms,) = op.gradient_terms(g, x)
        absolute = nested.elementwise(abs, g)
        assert terms.divisors is not None
        means = [Fraction(s, d) for s, d in zip(terms.magnitude, terms.divisors, strict=True)]
        assert means == nested.ravel(op.gradients(absolute, x)[0])
        indicator = torch.zeros(draw.inputs[0], dtype=torch.float64)
        sums = {k: v for k, v in draw.arguments.items() if k not in ("count_include_pad", "divisor_override")}
        if op.spatial > 1:
            counted = lambda t, s=sums: getattr(torch.nn.functional, name)(t, **s, divisor_override=1)  # noqa: E731
            assert terms.roundings == torch_gradient(counted, indicator, tensor(absolute)).flatten().tolist()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in (*MAXIMA, *MEANS)
        for dtype in (*DTYPES,)[: 2 if name == "avg_pool3d" else None]
    ],
)
def test_torch_keeps_the_bounds(name: str, dtype: str) -> None:
    """Contiguous and channels last; torch's avg_pool3d has no 16-bit formats on the CPU."""
    assert check_bounds(name, dtype, 40) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["avg_pool1d", "avg_pool2d"])
def test_bounds_are_sharp(name: str, dtype: str) -> None:
    """An error of three parts in a hundred is outside, and so is a float32 result rounded to 16 bits on the way."""
    assert len(check_bounds(name, dtype, 20, lambda y: y * 1.03)) >= 15
    if dtype == "float32":
        assert len(check_bounds(name, dtype, 20, lambda y: y.half().float())) >= 15


def test_a_dropped_tap_is_outside_the_bound() -> None:
    """Of nine terms of one size, forwards; of the four windows that see a pixel, backwards."""
    x = random_values(1, (1, 1, 6, 6), "float32")
    exact = nested.elementwise(lambda v: abs(Fraction(v)) + 1, x)
    op, sums = AvgPool2d(3, stride=1), AvgPool2d(3, stride=1, divisor_override=9)
    terms = op.rounding_terms(exact)
    dropped = [y - Fraction(1, 9) for y in nested.ravel(sums.reference(exact))]
    assert len(misses(floats(dropped), nested.ravel(op.reference(exact)), terms, "float32")) == 16
    g = nested.take(nested.take(exact, 2, range(4)), 3, range(4))
    (dx,), (bound,) = op.gradients(g, exact), op.gradient_terms(g, exact)
    short = [d - Fraction(1, 9) for d in nested.ravel(dx)]
    assert len(misses(floats(short), nested.ravel(dx), bound, "float32")) == 36


# Dialects


CASES = [
    # name, dialect, operator, input, what the dialect returns: each worked by hand
    ("avg_pool1d", "ONNX, TensorFlow", AvgPool1d(2, padding=1), [[4, 8, 12, 6]], [[4, 10, 6]]),
    ("avg_pool1d", "Caffe", AvgPool1d(2, padding=1, count_include_pad=False), [[4, 8, 12, 6]], [[2, 10, 3]]),
    (
        "avg_pool2d",
        "ONNX Runtime before AveragePool-19",
        AvgPool2d((1, 2), ceil_mode=True),
        [[[2, 4, 6]]],
        [[[3, 3]]],
    ),
    ("max_pool1d", "CUDA's fmax, C++'s std::max", MaxPool1d(2, stride=1), [[1, math.nan, 3]], [[1, 3]]),
    ("max_pool1d", "CUDA's fmax, C++'s std::max", MaxPool1d(1), [[math.nan, 2]], [[-math.inf, 2]]),
    (
        "max_pool1d",
        "Keras with ZeroPadding2D",
        MaxPool1d(3, stride=2, padding=1),
        [[-3, -1, -2, -5]],
        [[0, -1]],
    ),
    ("max_pool1d", "Keras with ZeroPadding2D", MaxPool1d(2, padding=1), [[-3, -1, 4, 2]], [[0, 4, 2]]),
    (
        "max_pool1d",
        "ONNX before 1.16",
        MaxPool1d(2, padding=1, ceil_mode=True),
        [[1, 2, 3]],
        [[1, 3, -math.inf]],
    ),
    ("max_pool1d", "ONNX before 1.16", MaxPool1d(2, stride=3, ceil_mode=True), [[1, 2, 3]], [[2, -math.inf]]),
    (
        "max_pool2d",
        "TensorFlow",
        MaxPool2d(2, return_indices=True),
        [[[1, 2], [3, 4]], [[8, 7], [6, 5]]],
        ([[[4]], [[8]]], [[[6]], [[1]]]),
    ),
]


@pytest.mark.parametrize(("name", "dialect", "op", "x", "expected"), CASES)
def test_dialects_by_hand(name: str, dialect: str, op: Any, x: Array, expected: Array) -> None:
    found = next(one for one in ops.spec(name).dialects if one.name == dialect)
    assert found.applies(op)
    assert found.reference(op, x) == expected
    assert op.reference(x) != expected


@pytest.mark.parametrize("name", [*MAXIMA, *MEANS])
def test_dialects_differ_where_they_apply(name: str) -> None:
    """Over the domain each is another function."""
    asked = [draw for draw in draws(name, 80, cost=800, empty=False) if safe_in_torch(draw)]
    for one in ops.spec(name).dialects:
        applying = [draw for draw in asked if one.applies(draw.op)]
        different = 0
        for draw in applying:
            (x,) = draw.operands()
            if name in MAXIMA:
                x = nested.elementwise(lambda v: math.nan if v == 9 else v - 10, x)
            different += repr(one.reference(draw.op, x)) != repr(draw.op.reference(x))
        assert different or not applying
        assert applying or name == "avg_pool1d"
