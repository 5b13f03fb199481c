"""Winograd's convolution in float32, as kernels compute it."""

from typing import Any

import numpy as np

from cnnspec.winograd import TRANSFORMS, tiles, untiled

Values = np.ndarray[Any, Any]


def winograd(x: Values, w: Values, m: int) -> Values:
    """Convolve x (N, C, H, W), with its padding, with w (O, C, 3, 3) by F(m, 3), every step in float32."""
    inputs, kernel, outputs = (matrix.astype(np.float32) for matrix in TRANSFORMS[m])
    d, g = tiles(x, m).astype(np.float32), w.astype(np.float32)
    v, u = inputs @ d @ inputs.T, kernel @ g @ kernel.T
    total = np.zeros((len(x), len(w), *v.shape[2:]), np.float32)
    for c in range(x.shape[1]):
        total += u[None, :, c, None, None] * v[:, None, c]
    return untiled(outputs @ total @ outputs.T, x.shape[2] - 2, x.shape[3] - 2)
