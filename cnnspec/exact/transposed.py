"""Correctly rounded transposed convolution: the input gradient of the convolution that it transposes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

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
from cnnspec.ops.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

Values = npt.NDArray[Any]

OPERATORS: dict[int, type[ConvTranspose1d | ConvTranspose2d | ConvTranspose3d]] = {
    1: ConvTranspose1d,
    2: ConvTranspose2d,
    3: ConvTranspose3d,
}


class TransposedConvolution:
    """Correctly rounded transposed convolution over `spatial` axes; `backward` for its gradients.

    y[n, o, i * stride - padding + k * dilation] += x[n, c, i] * w[c, o', k]          y[n, o, p] = b[o] at first

    x (N, C, ...) or (C, ...), w (C, O/G, *kernel), b (O,); arguments as in torch.nn.functional.
    out_dtype and full as in `cnnspec.exact.functional.Convolution`.
    Raises ArgumentError and ShapeError as `cnnspec.ConvTranspose2d` does.

    >>> import numpy as np
    >>> conv_transpose1d(np.array([[1.0, 10.0]]), np.array([[[3.0, 2.0]]]))
    array([[ 3., 32., 20.]])
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    def __call__(
        self, x: Values, w: Values, b: Values | None = None, stride: Sizes = 1, padding: Sizes = 0,
        output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1, out_dtype: Any = None, full: bool = False,
        *, budget: int = BUDGET_BYTES,
    ) -> Any:  # fmt: skip
        """Return y, or with `full` a `Rounded`."""
        x, w, form = as_array("x", x), as_array("w", w), as_format(out_dtype, x)
        bias = None if b is None else as_array("b", b)
        shape, window = self.window(x, w, bias, stride, padding, output_padding, groups, dilation)
        if 0 in shape:
            return as_empty(shape, form, full=full)
        images = x if x.ndim == self.spatial + 2 else x[None]
        kind = InputGradient(window, groups, len(images), w.shape[1] * groups, len(w), Scratch(budget))
        return as_result(rounded(kind, images, w, bias, form, full=full), shape, full=full)

    def backward(
        self, grad_output: Values, x: Values, w: Values, b: Values | None = None, stride: Sizes = 1,
        padding: Sizes = 0, output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1, out_dtype: Any = None,
        full: bool = False, *, budget: int = BUDGET_BYTES, wanted: Sequence[str] = Gradients._fields,
    ) -> Gradients:  # fmt: skip
        """Return the correctly rounded gradients of sum grad_output * y; that of the bias does not read `b`."""
        dy, x, w = as_array("grad_output", grad_output), as_array("x", x), as_array("w", w)
        form = as_format(out_dtype, x)
        shape, window = self.window(x, w, None, stride, padding, output_padding, groups, dilation)
        check_gradient(dy, shape)
        batched = x.ndim == self.spatial + 2
        images, gradient = (x, dy) if batched else (x[None], dy[None])
        products: Products = {
            "input": (Forward, gradient, w, x.shape),
            "weight": (WeightGradient, images, gradient, w.shape),
        }
        sizes = (window, groups, len(images), w.shape[1] * groups, len(w))
        return gradients(products, sizes, gradient.swapaxes(0, 1), form, Options(full, budget), wanted)

    def window(
        self, x: Values, w: Values, b: Values | None, stride: Sizes, padding: Sizes, output_padding: Sizes,
        groups: int, dilation: Sizes,
    ) -> tuple[tuple[int, ...], Taps]:  # fmt: skip
        """Return the shape of y and the window, which slides over y; raise what the operator raises."""
        arguments = tuple(map(hashable, (stride, padding, output_padding, groups, dilation)))
        return _checked(self.spatial, x.shape, w.shape, None if b is None else b.shape, *arguments)


@lru_cache(maxsize=256)
def _checked(
    axes: int, x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> tuple[tuple[int, ...], Taps]:  # fmt: skip
    """Return the output's shape and the window, which slides over it; raise what the operator raises."""
    if len(w) != axes + 2:
        raise ShapeError(f"w of shape {w} must have {axes + 2} axes: inputs, channels, kernel", shape=w)
    outputs = w[1] * groups
    one = OPERATORS[axes](
        w[0], outputs, w[2:], stride, padding, output_padding, groups, b is not None, dilation
    )
    shape = one.output_shape(x)
    if b is not None and b != (outputs,):
        raise ShapeError(f"b of shape {b} must be {(outputs,)}", shape=b)
    strides, dilations, paddings = (per_axis(value, axes) for value in (stride, dilation, padding))
    needed = zip(x[-axes:], w[2:], strides, dilations, paddings, shape[-axes:], strict=True)
    pads = tuple((p, max(0, (n - 1) * s + (k - 1) * d + 1 - p - size)) for n, k, s, d, p, size in needed)
    return shape, taps(shape[-axes:], w[2:], strides, dilations, pads, "zeros", x[-axes:])


conv_transpose1d = TransposedConvolution(1)
conv_transpose2d = TransposedConvolution(2)
conv_transpose3d = TransposedConvolution(3)
