"""The textbook operators: correlation, true convolution and pooling of one image.

    corr2d(X, K)[i, j]     = sum_ab X[i + a, j + b] K[a, b]
    convolve2d(X, K)[i, j] = sum_ab X[i + h - 1 - a, j + w - 1 - b] K[a, b]     (h, w the size of K)

What deep learning calls convolution is the first. Both are "valid": (n_h - h + 1) x (n_w - w + 1) outputs.
These are the loops of the lectures, for reading; `cnnspec.ops.conv` and `.pool` have the layers.
"""

from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Nested, elementwise, shape_of
from cnnspec.scalars import divide


def corr2d(X: Array, K: Array) -> Array:
    """Return the cross-correlation of image X (n_h, n_w) with kernel K (h, w).

    Y[i, j] = sum over a, b of X[i + a, j + b] * K[a, b].   Raises ShapeError where K is larger than X.
    Source: Zhang, Lipton, Li, Smola, "Dive into Deep Learning", 7.2.1.

    >>> corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    [[19, 25], [37, 43]]
    """
    X, K = _plain(X), _plain(K)
    n_h, n_w, h, w = _sizes(X, K)
    Y = []
    for i in range(n_h - h + 1):
        row = []
        for j in range(n_w - w + 1):
            total = 0
            for a in range(h):
                for b in range(w):
                    total = total + X[i + a][j + b] * K[a][b]
            row.append(total)
        Y.append(row)
    return Nested(Y, (n_h - h + 1, n_w - w + 1))


def convolve2d(X: Array, K: Array) -> Array:
    """Return the true convolution of image X (n_h, n_w) with kernel K (h, w): the kernel runs backwards.

    Y[i, j] = sum over a, b of X[i + h - 1 - a, j + w - 1 - b] * K[a, b].
    It is the correlation with the kernel flipped on both axes.   Raises ShapeError where K is larger than X.

    >>> convolve2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    [[5, 11], [23, 29]]
    """
    X, K = _plain(X), _plain(K)
    n_h, n_w, h, w = _sizes(X, K)
    Y = []
    for i in range(n_h - h + 1):
        row = []
        for j in range(n_w - w + 1):
            total = 0
            for a in range(h):
                for b in range(w):
                    total = total + X[i + h - 1 - a][j + w - 1 - b] * K[a][b]
            row.append(total)
        Y.append(row)
    return Nested(Y, (n_h - h + 1, n_w - w + 1))


def corr2d_multi_in(X: Array, K: Array) -> Array:
    """Return the sum over channels of the correlations of X (c, n_h, n_w) with K (c, h, w).

    >>> corr2d_multi_in([[[0, 1], [2, 3]], [[1, 1], [1, 1]]], [[[1, 0], [0, 1]], [[1, 1], [1, 1]]])
    [[7]]
    """
    X, K = _plain(X), _plain(K)
    if not X or len(X) != len(K):
        raise ShapeError(f"X has {len(X)} channels and K has {len(K)}: they must agree and not be 0")
    total = corr2d(X[0], K[0])
    for x, k in zip(X[1:], K[1:], strict=True):
        total = elementwise(lambda a, b: a + b, total, corr2d(x, k))
    return total


def corr2d_multi_in_out(X: Array, K: Array) -> Array:
    """Return one correlation of X (c_in, n_h, n_w) for each kernel of K (c_out, c_in, h, w), stacked.

    >>> corr2d_multi_in_out([[[1, 2], [3, 4]]], [[[[1]]], [[[10]]]])
    [[[1, 2], [3, 4]], [[10, 20], [30, 40]]]
    """
    maps = [corr2d_multi_in(X, k) for k in _plain(K)]
    if not maps:
        raise ShapeError("K has no output channel: it needs at least one")
    return Nested(maps, (len(maps), *shape_of(maps[0])))


def corr2d_multi_in_out_1x1(X: Array, K: Array) -> Array:
    """Return `corr2d_multi_in_out` for 1x1 kernels as a product of matrices: (c_out, c_in) by (c_in, pixels).

    >>> corr2d_multi_in_out_1x1([[[1, 2]], [[3, 4]]], [[[[1]], [[100]]]])
    [[[301, 402]]]
    """
    X, K = _plain(X), _plain(K)
    c_in, h, w = shape_of(X)
    if shape_of(K)[1:] != (c_in, 1, 1):
        raise ShapeError(f"K of shape {shape_of(K)} must be (c_out, {c_in}, 1, 1)", shape=shape_of(K))
    Y = []
    for o in range(len(K)):
        plane = []
        for i in range(h):
            row = []
            for j in range(w):
                total = 0
                for c in range(c_in):
                    total = total + K[o][c][0][0] * X[c][i][j]
                row.append(total)
            plane.append(row)
        Y.append(plane)
    return Nested(Y, (len(K), h, w))


def pool2d(X: Array, pool_size: tuple[int, int], mode: str = "max") -> Array:
    """Return the maximum or the mean ("avg") of every window of X (n_h, n_w), moved by one pixel.

    Source: Zhang, Lipton, Li, Smola, "Dive into Deep Learning", 7.5.1.

    >>> pool2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], (2, 2))
    [[4, 5], [7, 8]]
    >>> pool2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], (2, 2), mode="avg")
    [[2, 3], [5, 6]]
    """
    if mode not in ("max", "avg"):
        raise ArgumentError(f"mode={mode!r} must be 'max' or 'avg'", mode=mode)
    X = _plain(X)
    if len(shape_of(X)) != 2:
        raise ShapeError(f"X must be a matrix, not of shape {shape_of(X)}")
    (n_h, n_w), (h, w) = shape_of(X), pool_size
    if not (1 <= h <= n_h and 1 <= w <= n_w):
        raise ShapeError(f"pool_size={pool_size} must fit into X of shape {(n_h, n_w)}", pool_size=pool_size)
    Y = []
    for i in range(n_h - h + 1):
        row = []
        for j in range(n_w - w + 1):
            values = [X[i + a][j + b] for a in range(h) for b in range(w)]
            row.append(max(values) if mode == "max" else divide(sum(values), h * w))
        Y.append(row)
    return Nested(Y, (n_h - h + 1, n_w - w + 1))


def _plain(array: Array) -> Array:
    return array.tolist() if hasattr(array, "tolist") else array


def _sizes(X: Array, K: Array) -> tuple[int, int, int, int]:
    """Return (n_h, n_w, h, w); ShapeError unless K fits into X."""
    if len(shape_of(X)) != 2 or len(shape_of(K)) != 2:
        raise ShapeError(f"X and K must be matrices, not of shapes {shape_of(X)} and {shape_of(K)}")
    (n_h, n_w), (h, w) = shape_of(X), shape_of(K)
    if not (1 <= h <= n_h and 1 <= w <= n_w):
        raise ShapeError(
            f"the kernel of shape {(h, w)} must fit into X of shape {(n_h, n_w)} and not be empty"
        )
    return n_h, n_w, h, w
