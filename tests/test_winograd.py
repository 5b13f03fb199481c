"""Winograd's bound: simulated float32 kernels stay within theirs, and not within what is stricter."""

import numpy as np
import pytest

from cnnspec import exact
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.winograd import TRANSFORMS, Values, tiles, untiled, winograd_bound
from tests.kernels.winograd import winograd

KINDS = ("normal", "positive", "wide", "sparse", "constant")


def drawn(kind: str, rng: np.random.Generator) -> tuple[Values, Values]:
    c, o = (int(size) for size in rng.integers(1, 9, 2))
    shapes = (2, c, *(int(size) for size in rng.integers(3, 12, 2))), (o, c, 3, 3)
    if kind == "constant":
        arrays = [np.full(shape, 0.1 + rng.random()) for shape in shapes]
    else:
        arrays = [rng.standard_normal(shape) for shape in shapes]
    if kind == "positive":
        arrays = [abs(array) for array in arrays]
    if kind in ("wide", "sparse"):
        arrays = [array * 2.0 ** rng.integers(-12, 12, array.shape) for array in arrays]
    if kind == "sparse":
        arrays = [np.where(rng.random(array.shape) < 0.2, array, 0) for array in arrays]
    x, w = (array.astype(np.float32) for array in arrays)
    return x, w


def errors(x: Values, w: Values, m: int) -> tuple[Values, Values]:
    """Return the error of F(m, 3) in float32, and the bound of a direct sum in any order."""
    right = exact.conv2d(x, w, out_dtype="float64", full=True)
    return abs(winograd(x, w, m) - right.value), right.n_eff * 2.0**-24 * right.bound_sum


@pytest.mark.parametrize("m", TRANSFORMS)
def test_the_transforms_compute_a_convolution(m: int) -> None:
    """In integers times powers of two, 24 of them for F(4, 3), every step is exact."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-8, 9, (2, 3, 7, 9)).astype(float), rng.integers(-8, 9, (2, 3, 3, 3)) * 24.0
    inputs, kernel, outputs = TRANSFORMS[m]
    scale = 2 if m == 2 else 24
    u, v = np.rint(kernel * scale) @ w @ np.rint(kernel * scale).T, inputs @ tiles(x, m) @ inputs.T
    found = untiled(outputs @ np.einsum("ncijpq,ocpq->noijpq", v, u) @ outputs.T, 5, 7)

    assert (found == scale**2 * exact.conv2d(x, w)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", TRANSFORMS)
def test_a_float32_kernel_stays_within_its_bound(m: int, kind: str) -> None:
    rng = np.random.default_rng([m, KINDS.index(kind)])
    for _ in range(30):
        x, w = drawn(kind, rng)
        assert (errors(x, w, m)[0] <= winograd_bound(x, w, m)).all()


@pytest.mark.parametrize("kind", ["wide", "sparse"])
def test_larger_tiles_do_not_stay_within_what_is_stricter(kind: str) -> None:
    rng = np.random.default_rng(5)
    beyond = {"F(2, 3)": 0, "direct": 0, "F(2, 3) beyond direct": 0}
    for _ in range(40):
        x, w = drawn(kind, rng)
        of_four, direct = errors(x, w, 4)
        beyond["F(2, 3)"] += bool((of_four > winograd_bound(x, w, 2)).any())
        beyond["direct"] += bool((of_four > direct).any())
        beyond["F(2, 3) beyond direct"] += bool((errors(x, w, 2)[0] > direct).any())
    assert min(beyond.values()) > 20


def test_the_bound_by_hand() -> None:
    """One channel of ones: |B|^T 1 |B| and |G| 1 |G|^T are products of (2, 2, 2, 2) and (1, 1.5, 1.5, 1)."""
    x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    inner = np.outer([2, 3, 3, 2], [2, 3, 3, 2])  # both, and their product
    outer = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])
    steps = (1 + 4 * 4 + 8) * 2.0**-24
    bound = winograd_bound(x, w, 2)[0, 0]

    assert (outer @ inner @ outer.T == 64).all()
    assert (bound >= 64 * steps / (1 - steps)).all()
    assert (bound <= 64 * steps / (1 - steps) * (1 + 2.0**-29)).all()


def test_the_bound_grows_with_the_precision_lost() -> None:
    x, w = np.ones((1, 3, 5, 5)), np.ones((2, 3, 3, 3))

    assert (winograd_bound(x, w, 2, "float16") > 2**13 * winograd_bound(x, w, 2)).all()
    assert (winograd_bound(x, w, 4) > winograd_bound(x, w, 2)).all()
    assert not winograd_bound(0 * x, w, 4).any()


@pytest.mark.parametrize(
    ("x", "w", "m", "error", "message"),
    [
        ((1, 1, 4, 4), (1, 1, 3, 3), 3, ArgumentError, "m=3 must be 2 or 4"),
        ((1, 2, 4, 4), (1, 1, 3, 3), 2, ShapeError, "with the same C"),
        ((1, 4, 4), (1, 1, 3, 3), 2, ShapeError, "must be"),
        ((1, 1, 4, 4), (1, 1, 3, 2), 2, ShapeError, r"\(O, C, 3, 3\)"),
        ((1, 1, 2, 4), (1, 1, 3, 3), 2, ShapeError, "3 or more high"),
    ],
)
def test_what_it_does_not_bound_is_refused(
    x: tuple[int, ...], w: tuple[int, ...], m: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        winograd_bound(np.ones(x), np.ones(w), m)
