"""Correctly rounded convolution, linear layer and matrix product on NumPy arrays, named as in torch.nn.functional.

Each output is the exact real result rounded once to `out_dtype`, which is unique: it does not depend on the machine,
the library or the order of sums. Zeros carry no sign. NaN and infinities follow `cnnspec.scalars.Extended`, where
padding is an absent term; a finite sum that is too large rounds to infinity.
bfloat16 and tf32, which NumPy lacks, are float32 arrays of representable values.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.errors import ShapeError
from cnnspec.exact.adjoints import InputGradient, WeightGradient
from cnnspec.exact.engine import rounded
from cnnspec.exact.operands import (
    BUDGET_BYTES,
    Gradients,
    Options,
    Products,
    Sizes,
    as_array,
    as_empty,
    as_format,
    as_result,
    check_gradient,
    gradients,
    hashable,
    per_axis,
)
from cnnspec.exact.products import Forward, Scratch
from cnnspec.exact.taps import Taps, taps
from cnnspec.ops.conv import Conv1d, Conv2d, Conv3d
from cnnspec.ops.linear import Linear

Values = npt.NDArray[Any]


class Convolution:
    """Correctly rounded convolution over `spatial` axes; `backward` for its gradients.

    y[n, o, p] = b[o] + sum_c sum_k x[n, g C/G + c, p * stride - padding + k * dilation] * w[o, c, k]

    x (N, C, ...) or (C, ...), w (O, C/G, *kernel), b (O,); arguments as in torch.nn.functional, and padding_mode.
    out_dtype: float64, float32, float16, bfloat16, tf32; default the type of x.   full: return a `Rounded`.
    Raises ArgumentError and ShapeError as `cnnspec.Conv2d` does.

    >>> x = np.array([[[[1e8, 1.0], [-1e8, 1.0]]]], dtype=np.float32)
    >>> conv2d(x, np.ones((1, 1, 2, 2), np.float32))
    array([[[[2.]]]], dtype=float32)
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    def __call__(
        self, x: Values, w: Values, b: Values | None = None, stride: Sizes = 1, padding: Sizes | str = 0,
        dilation: Sizes = 1, groups: int = 1, out_dtype: Any = None, full: bool = False, *,
        padding_mode: str = "zeros", budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, w, form = as_array("x", x), as_array("w", w), as_format(out_dtype, x)
        bias = None if b is None else as_array("b", b)
        shape, window = self.window(x, w, bias, stride, padding, dilation, groups, padding_mode)
        images = x if x.ndim == len(window.axes) + 2 else x[None]
        if 0 in shape:
            return as_empty(shape, form, full=full)
        kind = Forward(window, groups, len(images), images.shape[1], len(w), Scratch(budget))
        return as_result(rounded(kind, images, w, bias, form, full=full), shape, full=full)

    def backward(
        self, grad_output: Values, x: Values, w: Values, b: Values | None = None, stride: Sizes = 1,
        padding: Sizes | str = 0, dilation: Sizes = 1, groups: int = 1, out_dtype: Any = None, full: bool = False,
        *, padding_mode: str = "zeros", budget: int = BUDGET_BYTES, wanted: Sequence[str] = Gradients._fields,
    ) -> Gradients:  # fmt: skip
        """Return the correctly rounded gradients of sum grad_output * y; that of the bias does not read `b`.

        >>> x, w = np.array([[1.0, 2.0, 3.0]]), np.array([[[3.0, 2.0]]])
        >>> conv1d.backward(np.array([[1.0, 10.0]]), x, w).weight
        array([[[21., 32.]]])
        """
        dy, x, w = as_array("grad_output", grad_output), as_array("x", x), as_array("w", w)
        form = as_format(out_dtype, x)
        shape, window = self.window(x, w, None, stride, padding, dilation, groups, padding_mode)
        check_gradient(dy, shape)
        batched = x.ndim == self.spatial + 2
        images, gradient = (x, dy) if batched else (x[None], dy[None])
        products: Products = {
            "input": (InputGradient, gradient, w, x.shape),
            "weight": (WeightGradient, gradient, images, w.shape),
        }
        sizes = (window, groups, len(images), images.shape[1], len(w))
        return gradients(products, sizes, gradient.swapaxes(0, 1), form, Options(full, budget), wanted)

    def window(
        self, x: Values, w: Values, b: Values | None, stride: Sizes, padding: Sizes | str, dilation: Sizes,
        groups: int, padding_mode: str,
    ) -> tuple[tuple[int, ...], Taps]:  # fmt: skip
        """Return the shape of y and the window that slides over x; raise what the operator raises."""
        arguments = (hashable(stride), hashable(padding), hashable(dilation), groups, padding_mode)
        return _checked(self.spatial, x.shape, w.shape, None if b is None else b.shape, *arguments)


OPERATORS: dict[int, type[Conv1d | Conv2d | Conv3d]] = {1: Conv1d, 2: Conv2d, 3: Conv3d}


@lru_cache(maxsize=256)
def _checked(
    axes: int, x: tuple[int, ...], w: tuple[int, ...],
    b: tuple[int, ...] | None, stride: Any, padding: Any, dilation: Any, groups: int, padding_mode: str,
) -> tuple[tuple[int, ...], Taps]:  # fmt: skip
    """Return the output's shape and the window; raise what the operator raises."""
    if len(w) != axes + 2:
        raise ShapeError(f"w of shape {w} must have {axes + 2} axes: outputs, channels, kernel", shape=w)
    one = OPERATORS[axes](
        w[1] * groups, w[0], w[2:], stride, padding, dilation, groups, b is not None, padding_mode
    )
    shape = one.output_shape(x)
    if b is not None and b != (w[0],):
        raise ShapeError(f"b of shape {b} must be {(w[0],)}", shape=b)
    dilations = per_axis(dilation, axes)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilations, w[2:], strict=True)]
        pads = tuple((t // 2, t - t // 2) for t in total)
    else:
        pads = tuple((p, p) for p in per_axis(0 if padding == "valid" else padding, axes))
    return shape, taps(x[-axes:], w[2:], per_axis(stride, axes), dilations, pads, padding_mode)


conv1d = Convolution(1)
conv2d = Convolution(2)
conv3d = Convolution(3)


class LinearLayer:
    """Correctly rounded linear layer, a convolution with one tap over one position.

    y[..., o] = b[o] + sum_i x[..., i] * w[o, i];   x (..., I), w (O, I), b (O,)

    >>> linear(np.array([0.1, 0.2]), np.array([[1.0, 1.0]]), out_dtype="float32")
    array([0.3], dtype=float32)
    """

    def __call__(
        self, x: Values, w: Values, b: Values | None = None, out_dtype: Any = None, full: bool = False, *,
        budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, w, form = as_array("x", x), as_array("w", w), as_format(out_dtype, x)
        bias = None if b is None else as_array("b", b)
        shape = self._shape(x, w)
        kind = Forward(*self.sizes(x, w), Scratch(budget))
        one = rounded(
            kind, x.reshape(math.prod(x.shape[:-1]), w.shape[1], 1), w[:, :, None], bias, form, full=full
        )
        return as_result(one, shape, full=full)

    def backward(
        self, grad_output: Values, x: Values, w: Values, b: Values | None = None, out_dtype: Any = None,
        full: bool = False, *, budget: int = BUDGET_BYTES, wanted: Sequence[str] = Gradients._fields,
    ) -> Gradients:  # fmt: skip
        """Return the correctly rounded gradients of sum grad_output * y; that of the bias does not read `b`."""
        dy, x, w = as_array("grad_output", grad_output), as_array("x", x), as_array("w", w)
        form = as_format(out_dtype, x)
        shape = self._shape(x, w)
        check_gradient(dy, shape)
        count = math.prod(x.shape[:-1])
        gradient, rows = dy.reshape(count, len(w), 1), x.reshape(count, w.shape[1], 1)
        products: Products = {
            "input": (InputGradient, gradient, w[:, :, None], x.shape),
            "weight": (WeightGradient, gradient, rows, w.shape),
        }
        sums = gradient.swapaxes(0, 1)
        return gradients(products, self.sizes(x, w), sums, form, Options(full, budget), wanted)

    def _shape(self, x: Values, w: Values) -> tuple[int, ...]:
        if w.ndim != 2:
            raise ShapeError(f"w of shape {w.shape} must have 2 axes: outputs, inputs", shape=w.shape)
        return Linear(w.shape[1], w.shape[0]).output_shape(x.shape)

    def sizes(self, x: Values, w: Values) -> tuple[Taps, int, int, int, int]:
        """Return the sizes of its products: a window of one tap, rows as images."""
        rows = int(np.prod(x.shape[:-1]))
        return taps((1,), (1,), (1,), (1,), ((0, 0),), "zeros"), 1, rows, w.shape[1], w.shape[0]


linear = LinearLayer()


def matmul(a: Values, b: Values, out_dtype: Any = None, full: bool = False) -> Any:
    """Return the correctly rounded matrix product of a (..., M, K) and b (K, N).

    >>> matmul(np.array([[1e16, 1.0, -1e16]]), np.array([[1.0], [1.0], [1.0]]))
    array([[1.]])
    """
    if np.ndim(b) != 2:
        raise ShapeError(f"b of shape {np.shape(b)} must have 2 axes", shape=np.shape(b))
    return linear(a, np.asarray(b).T, out_dtype=out_dtype, full=full)


def golden_hash(array: Values) -> str:
    r"""Return the SHA-256, in hexadecimal, of type, shape and little-endian elements in row-major order.

    -0 counts as 0 and all NaN as one, so the hash of correctly rounded results is the same on every machine.

    >>> import struct
    >>> by_hand = hashlib.sha256(b"float32 2\n" + struct.pack("<2f", 0.0, 1.5)).hexdigest()
    >>> golden_hash(np.array([-0.0, 1.5], np.float32)) == by_hand
    True
    """
    kind = array.dtype.newbyteorder("<")
    head = f"{array.dtype.name} {','.join(map(str, array.shape))}\n"
    hasher = hashlib.sha256(head.encode())
    flat = np.ascontiguousarray(array).reshape(-1)
    for i in range(0, flat.size, 1 << 20):
        part = flat[i : i + (1 << 20)].astype(kind)
        if kind.kind == "f":
            part = np.where(np.isnan(part), kind.type("nan"), part + kind.type(0)).astype(kind)
        hasher.update(part.tobytes())
    return hasher.hexdigest()
