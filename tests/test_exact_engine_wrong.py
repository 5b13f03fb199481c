"""Wrong exact engines, each of which the comparisons must catch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cnnspec.exact import engine, sums, ways
from cnnspec.exact.functional import conv1d, conv2d
from cnnspec.exact.taps import Taps
from cnnspec.ops.conv import Conv2d
from tests.engine_calls import EPS, Values, dot, draw, rounded_exact
from tests.integer_sums import exact_gradients, exact_outputs


def hard_sums() -> Iterator[tuple[float, float]]:
    """Yield results and what they should be, of sums that a float64 sum leaves on a tie."""
    for e in (2.0**-75, -(2.0**-75)):
        yield dot([1, EPS, e], [1, 1, 2.0**-75], "float32"), 1 + 2 * EPS if e > 0 else 1
        x = np.array([[[1, EPS, e]]], np.float32)
        w = np.array([[[1, 1, 2.0**-75]]], np.float32)
        kernels = np.ones((3, 1, 1), np.float32) * w.swapaxes(0, 2)
        yield float(conv1d(x, w)[0, 0, 0]), 1 + 2 * EPS if e > 0 else 1
        by_input = conv1d.backward(
            x.swapaxes(1, 2), np.ones((1, 1, 1), np.float32), kernels, wanted=["input"]
        ).input
        yield float(by_input[0, 0, 0]), 1 + 2 * EPS if e > 0 else 1
        by_weight = conv1d.backward(w, x, np.ones((1, 1, 1), np.float32), wanted=["weight"]).weight
        yield float(by_weight[0, 0, 0]), 1 + 2 * EPS if e > 0 else 1
        yield dot([1, 2.0**-53, e], [1, 1, 2.0**-75], "float64"), 1 + 2.0**-52 if e > 0 else 1


def test_the_right_engine_gets_the_hard_sums_right() -> None:
    assert all(found == expected for found, expected in hard_sums())


def bound_too_small(patch: pytest.MonkeyPatch) -> None:
    right: Any = ways.Plain.factor
    patch.setattr(ways.Plain, "factor", property(lambda self: right.fget(self) / 2**10))


def rest_forgotten(patch: pytest.MonkeyPatch) -> None:
    right: Any = ways.Sliced
    patch.setattr(
        ways, "Sliced", lambda a, b, form, split, rest, *others: right(a, b, form, split, 0.0, *others)
    )


def no_fallback(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine.Settle, "now", lambda self: None)


def everything_on_a_lattice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ways, "_is_lattice", lambda *args: True)


def rest_of_a_sum_dropped(patch: pytest.MonkeyPatch) -> None:
    right = sums.round_pair
    patch.setattr(sums, "round_pair", lambda h, low, form: right(h, np.zeros_like(low), form))


@pytest.mark.parametrize(
    "wrong", [bound_too_small, rest_forgotten, no_fallback, everything_on_a_lattice, rest_of_a_sum_dropped]
)
def test_wrong_roundings_are_caught(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert any(found != expected for found, expected in hard_sums())


def column_lost(patch: pytest.MonkeyPatch) -> None:
    right = Taps.fill_slab

    def fill(self: Taps, slab: Values, x: Values, rows: range) -> None:
        right(self, slab, x, rows)
        slab[..., -1 - self.axes[-1].after] = 0

    patch.setattr(Taps, "fill_slab", fill)


def last_tap_lost(patch: pytest.MonkeyPatch) -> None:
    right = Taps.scatter

    def scatter(self: Taps, padded: Values, products: Values, rows: range) -> None:
        kept = products.copy()
        kept[-1] = 0
        right(self, padded, kept, rows)

    patch.setattr(Taps, "scatter", scatter)


def padding_not_folded(patch: pytest.MonkeyPatch) -> None:
    right = Taps.fold

    def fold(self: Taps, padded: Values) -> Values:
        inside: Any = tuple(slice(axis.before, axis.before + axis.size) for axis in self.axes)
        return padded[(..., *inside)] if not self.absent else right(self, padded)

    patch.setattr(Taps, "fold", fold)


@pytest.mark.parametrize("wrong", [column_lost, last_tap_lost, padding_not_folded])
def test_wrong_indices_are_caught(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    rng = np.random.default_rng(9)
    x, w = (draw(rng, shape, "integers", "float64") for shape in ((1, 2, 5, 6), (3, 2, 3, 3)))
    operator = Conv2d(2, 3, 3, padding=1, bias=False, padding_mode="circular")
    dy = draw(rng, (1, 3, 5, 6), "integers", "float64")
    forward, by_input, by_weight = exact_outputs(operator, [x, w]), *exact_gradients(operator, dy, [x, w])

    def found() -> list[bool]:
        y = conv2d(x, w, padding=1, padding_mode="circular")
        gradients = conv2d.backward(dy, x, w, padding=1, padding_mode="circular")
        return [
            np.array_equal(y, rounded_exact(forward, "float64")),
            np.array_equal(gradients.input, rounded_exact(by_input, "float64")),
            np.array_equal(gradients.weight, rounded_exact(by_weight, "float64")),
        ]

    assert all(found())
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert not all(found())
