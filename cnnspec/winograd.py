"""Winograd's minimal filtering: its transforms, and a bound for every element of such a convolution.

F(m, 3) in two axes computes m x m outputs of a 3x3 convolution from a tile of a x a inputs, a = m + 2:

    Y = A^T [ sum_c (G g_c G^T) o (B^T d_c B) ] A        (o element by element, over channels c)

Lavin & Gray, "Fast algorithms for convolutional neural networks", arXiv:1509.09308, 2015, equations 8 and 9.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS
from cnnspec.errors import ArgumentError, ShapeError

Values = npt.NDArray[Any]

SLACK = 2.0**-30
"""What the rounding of the bound's own float64 arithmetic stays below, relatively: sums of positive terms."""


class Transforms(NamedTuple):
    """The matrices of F(m, 3): of inputs (a, a), of kernels (a, 3), and of outputs (m, a)."""

    inputs: Values
    kernel: Values
    outputs: Values


TRANSFORMS = {
    2: Transforms(
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float),
        np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float),
    ),
    4: Transforms(
        np.array(
            [
                [4, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ],
            float,
        ),
        np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
        np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], float),
    ),
}
"""The transforms of F(2, 3) and F(4, 3)."""


def winograd_bound(x: Values, w: Values, m: int, accumulate: str = "float32") -> Values:
    """Return the largest error of each output of F(m, 3) in two axes at stride 1, where nothing underflows on the way.

    x (N, C, H, W) with its padding, w (O, C, 3, 3) -> (N, O, H - 2, W - 2), in float64; tiles begin at output (0, 0).

        E = gamma_c |A|^T [ sum_c (|G| |g_c| |G|^T) o (|B|^T |d_c| |B|) ] |A|,    gamma_c = c u / (1 - c u)

    Each output is a sum of products of d, g and entries of the matrices, and every rounding on the way of such a
    product to the output multiplies it by 1 + delta, |delta| <= u. On no way are there more than c = C + 4 a + 8: a
    transform of a vector of length a multiplies and adds at most a times, of 3 at most 3 times; in two axes 2 a for
    the inputs, 6 for the kernel, and 2 for entries of G that are rounded; C for products and their sum; 2 a for the
    outputs. So its factor is within gamma_c of 1 (Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
    lemma 3.1), in any order, with or without fused multiply-add; and E adds up the products' magnitudes.

    Raises ArgumentError for another m than 2 and 4, ShapeError for other shapes.

    >>> float(winograd_bound(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), 2)[0, 0, 0, 0] * 2**24) > 9
    True
    """
    if m not in TRANSFORMS:
        raise ArgumentError(f"m={m} must be 2 or 4", m=m)
    if x.ndim != 4 or w.ndim != 4 or w.shape[2:] != (3, 3) or x.shape[1] != w.shape[1]:
        raise ShapeError(f"x {x.shape} must be (N, C, H, W) and w {w.shape} (O, C, 3, 3) with the same C")
    if min(x.shape[2:]) < 3:
        raise ShapeError(f"x {x.shape} must be 3 or more high and wide")
    inputs, kernel, outputs = map(np.abs, TRANSFORMS[m])
    terms = x.shape[1] + 4 * (m + 2) + 8
    steps = terms * 2.0 ** -FORMATS[accumulate].precision
    products = np.einsum(
        "ncijpq,ocpq->noijpq",
        _transformed(np.abs(tiles(x, m)), inputs),
        _transformed(np.abs(w.astype(np.float64)), kernel),
    )
    found = untiled(_transformed(products, outputs), x.shape[2] - 2, x.shape[3] - 2)
    bound: Values = found * (steps / (1 - steps) * (1 + SLACK))
    return bound


def tiles(x: Values, m: int) -> Values:
    """Return the tiles (N, C, rows, columns, m + 2, m + 2) of x in float64, with zeros behind its ends."""
    rows, columns = (-(-(size - 2) // m) for size in x.shape[2:])
    behind = [(0, 0), (0, 0), (0, rows * m + 2 - x.shape[2]), (0, columns * m + 2 - x.shape[3])]
    padded = np.pad(x.astype(np.float64), behind)
    every = np.lib.stride_tricks.sliding_window_view(padded, (m + 2, m + 2), (2, 3))
    return every[:, :, ::m, ::m]


def untiled(y: Values, height: int, width: int) -> Values:
    """Return the outputs (N, O, height, width) of tiles (N, O, rows, columns, m, m)."""
    n, o, rows, columns, m, _ = y.shape
    return y.swapaxes(3, 4).reshape(n, o, rows * m, columns * m)[:, :, :height, :width]


def _transformed(arrays: Values, matrix: Values) -> Values:
    """Return M a M^T for each matrix a."""
    product: Values = matrix @ arrays @ matrix.T
    return product
