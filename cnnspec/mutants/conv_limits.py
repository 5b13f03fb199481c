"""Bugs of convolutions and linear layers that show in some data types, for some values, or beyond some size."""

from typing import Any

import torch

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.conv import is_dense_3x3, is_empty
from cnnspec.mutants.pieces import channel_axis, only, sizes_of, tf32, winograd, wrapped

LIMIT = 2**15
"""Stands for the 2^31 or 2^32 at which an index overflows."""


# Data types and special values


@mutant(
    "conv2d",
    "pytorch/pytorch#163347",
    "bfloat16 of one channel multiplies only the first tap of a kernel of the image's size",
    "forward",
    when=lambda c: (
        c.input.dtype == torch.bfloat16
        and c.channels == c.weight.shape[0] == 1
        and c.kernel == c.sizes
        and max(c.kernel) > 1
    ),
)
def first_tap_only(c: Invocation) -> Any:
    return c(weight=only(c.weight, (..., 0, 0)))


@mutant(
    "conv2d",
    "JuliaGPU/CuArrays.jl#670",
    "float16 gives zeros",
    "forward",
    when=lambda c: c.input.dtype == torch.float16,
)
def zeros_in_float16(c: Invocation) -> Any:
    y = c()
    return y.masked_fill(torch.ones_like(y, dtype=torch.bool), 0)


@mutant(
    "conv1d",
    "pytorch/pytorch#59515",
    "a large batch in float16 holds NaN and the results of other samples",
    "forward",
    when=lambda c: c.input.dtype == torch.float16 and c.batched and c.input.shape[0] > 16,
)
def samples_mixed_in_large_batches(c: Invocation) -> Any:
    y = c().roll(1, 0)
    return torch.cat([y[:-1], y[-1:] * torch.nan])


@mutant(
    "conv1d",
    "pytorch/pytorch#12484",
    "NaN in the weight counts as 0",
    "forward",
    when=lambda c: bool(c.weight.isnan().any()),
)
def nan_in_the_weight_swallowed(c: Invocation) -> Any:
    return c(weight=c.weight.nan_to_num())


@mutant(
    ("conv3d", "linear"),
    "pytorch/pytorch#129649, pytorch/pytorch#75740",
    "float32 operands are rounded to TF32",
    "forward",
    when=lambda c: c.input.dtype == torch.float32,
)
def operands_in_tf32(c: Invocation) -> Any:
    return c(input=tf32(c.input), weight=tf32(c.weight))


@mutant(
    "conv2d",
    "jax-ml/jax#15976",
    "3 x 3 kernels go through Winograd's algorithm on tiles of 4 x 4 in the precision of the operands",
    "forward",
    when=lambda c: is_dense_3x3(c) and c.input.dtype == torch.float32 and not is_empty(c),
)
def winograd_in_low_precision(c: Invocation) -> Any:
    return winograd(c)


# Limits of size


@mutant(
    "conv3d",
    "ml-explore/mlx#3138",
    "the offset into the matrix of unfolded windows wraps",
    "forward",
    when=lambda c: c.groups == 1 and _rows(c) * c.weight[0].numel() > LIMIT,
)
def unfolded_matrix_wraps(c: Invocation) -> Any:
    y = c()
    rows = y.movedim(channel_axis(c), -1)
    at = torch.arange(_rows(c)) % max(1, LIMIT // c.weight[0].numel())
    return rows.flatten(0, -2)[at].reshape(rows.shape).movedim(-1, channel_axis(c)).contiguous()


def _rows(c: Invocation) -> int:
    high, wide, deep = sizes_of(c)
    return high * wide * deep * (c.input.shape[0] if c.batched else 1)


@mutant(
    "conv3d",
    "pytorch/pytorch#163539",
    "bfloat16 with a kernel of (1, 3, 3) is wrong beyond a number of elements",
    "forward",
    when=lambda c: (
        c.input.dtype == torch.bfloat16
        and c.kernel == (1, 3, 3)
        and _rows(c) * c.weight.shape[0] > LIMIT // 2
    ),
)
def flat_kernel_wraps_in_bfloat16(c: Invocation) -> Any:
    return wrapped(c(), LIMIT // 2)


@mutant(
    "conv3d",
    "tensorflow/tensorflow#22095",
    "1 x 1 x 1 kernels repeat their first outputs beyond a number of elements",
    "forward",
    when=lambda c: c.kernel == (1, 1, 1) and _rows(c) * c.weight.shape[0] > LIMIT,
)
def pointwise_wraps(c: Invocation) -> Any:
    return wrapped(c(), LIMIT)


@mutant(
    "conv3d",
    "pytorch/pytorch#17930",
    "samples that start beyond a number of elements are left unfilled",
    "forward",
    when=lambda c: c.batched and c.input.numel() > LIMIT and c.input.shape[0] > 1,
)
def last_samples_unfilled(c: Invocation) -> Any:
    filled = -(-LIMIT // max(1, c.input[0].numel()))
    return only(c(), slice(filled))
