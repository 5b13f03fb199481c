"""Bugs of power-average pooling."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradients_of
from cnnspec.mutants.windows import is_legal, outputs, unclamped

F = torch.nn.functional
LP = ("lp_pool1d", "lp_pool2d", "lp_pool3d")


@mutant(
    LP,
    "pytorch/pytorch#163186, microsoft/onnxruntime#25848",
    "ceil mode keeps a last window that starts behind the input",
    "shape",
    when=lambda c: c.ceil_mode and is_legal(c) and outputs(c) != unclamped(c),
)
def keeps_windows_behind_the_input(c: Invocation) -> Any:
    behind: list[int] = []
    for out, s, k, size in zip(unclamped(c), c.stride, c.kernel, c.sizes, strict=True):
        behind = [0, max(0, (out - 1) * s + k - size), *behind]
    return c(input=F.pad(c.input, behind), ceil_mode=False)


AVERAGES = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _mean_power(c: Invocation) -> Tensor:
    """Return the average of the powers of each window."""
    powers = c.input.pow(c.norm_type)
    return AVERAGES[c.spatial - 1](powers, c.kernel, c.stride, 0, bool(c.ceil_mode))


@mutant(
    LP,
    "pytorch/pytorch#6765",
    "the gradient of a window whose powers sum to zero is NaN",
    "backward",
    when=lambda c: (
        math.isfinite(c.norm_type) and c.norm_type != 0 and is_legal(c) and bool((_mean_power(c) == 0).any())
    ),
)
def divides_by_the_norm_of_zeros(c: Invocation) -> Any:
    return with_gradients_of(c(), (_mean_power(c) * math.prod(c.kernel)).pow(1.0 / c.norm_type))
