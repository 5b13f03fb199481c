"""Bugs of adaptive, global and fractional pooling."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.max_pool import answer, both
from cnnspec.mutants.memory import in_channels_last, is_channels_last, named_channels_last, read_as_contiguous
from cnnspec.mutants.pieces import added_in_turn
from cnnspec.mutants.windows import looked_up

F = torch.nn.functional

Bounds = Callable[[int, int, int], tuple[int, int]]
"""bounds(p, size, outputs) -> where the window of output p starts and ends."""


def targets(c: Invocation) -> list[int]:
    """Return the output's spatial sizes."""
    return [size if out is None else out for out, size in zip(c.output_size, c.sizes, strict=True)]


def regular(p: int, size: int, outputs: int) -> tuple[int, int]:
    """The healthy window: from the floor of its start to the ceiling of its end."""
    return p * size // outputs, -(-(p + 1) * size // outputs)


def _rounded_down(p: int, size: int, outputs: int) -> tuple[int, int]:
    start = p * size // outputs
    return start, max(start + 1, (p + 1) * size // outputs)


def weights(size: int, outputs: int, bounds: Bounds, dtype: torch.dtype) -> Tensor:
    """Return the matrix of the averages of one axis, as (outputs, size)."""
    matrix = torch.zeros(outputs, size, dtype=dtype)
    for p in range(outputs):
        start, end = bounds(p, size, outputs)
        matrix[p, start:end] = 1 / (end - start)
    return matrix


def applied(c: Invocation, matrices: Sequence[Tensor]) -> Tensor:
    """Return the input with one matrix applied to each spatial axis."""
    y: Tensor = c.input
    for axis, matrix in zip(range(-c.spatial, 0), matrices, strict=True):
        y = (y.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return y


def averaged(
    c: Invocation, change: Callable[[Tensor], Tensor] = lambda matrix: matrix, bounds: Bounds = regular
) -> Tensor:
    """Return the averages of windows that are `bounds`, with a change to each axis' matrix."""
    axes = zip(c.sizes, targets(c), strict=True)
    return applied(c, [change(weights(size, out, bounds, c.input.dtype)) for size, out in axes])


def divides_unevenly(c: Invocation) -> bool:
    """Say whether windows of the input have different sizes, or overlap."""
    return all(t > 0 for t in targets(c)) and any(
        size % out for size, out in zip(c.sizes, targets(c), strict=True)
    )


# Averages


@mutant(
    ("adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    "flagos-ai/FlagGems#4915",
    "a window ends at the floor of its end, not at the ceiling",
    "forward",
    when=divides_unevenly,
)
def rounds_the_end_down(c: Invocation) -> Any:
    return averaged(c, bounds=_rounded_down)


@mutant(
    ("adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    "pytorch/pytorch#80732",
    "an output larger than the input is refused",
    "acceptance",
    when=lambda c: any(out > size for size, out in zip(c.sizes, targets(c), strict=True)),
)
def refuses_larger_outputs(c: Invocation) -> Any:
    raise RuntimeError("stride should not be zero")


def _last_only(matrix: Tensor) -> Tensor:
    """Return the matrix with, of each column, the last element that is not zero."""
    order = torch.arange(1, len(matrix) + 1)[:, None] * (matrix != 0)
    return matrix * (order == order.max(0).values)


@mutant(
    ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    "Oneflow-Inc/oneflow#5614",
    "an element of several windows gets the gradient of the last alone",
    "backward",
    when=divides_unevenly,
)
def assigns_gradients(c: Invocation) -> Any:
    return with_gradients_of(c(), averaged(c, _last_only))


LONG = 8
"""Length from which a kernel's shared memory did not hold a row; about 5,000 in the report."""


def _fails(gradient: Tensor) -> Tensor:
    raise RuntimeError("shmem_size <= sharedMemPerBlock")


@mutant(
    "adaptive_avg_pool1d",
    "pytorch/pytorch#70701",
    "the gradient of long rows with their channels next to each other fails",
    "backward",
    when=lambda c: c.sizes[0] > LONG and c.input.dim() == 3 and is_channels_last(c.input),
)
def fails_on_long_channels_last_gradients(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, _fails))


@mutant(
    "adaptive_avg_pool2d",
    "pytorch/pytorch#180956",
    "averages of large batches leave out the channels behind the last multiple of 16",
    "forward",
    when=lambda c: (
        c.batched
        and c.input.shape[0] > 1
        and c.channels % 16 > 0
        and c.channels * math.prod(targets(c)) > 1024
    ),
)
def leaves_out_the_last_channels(c: Invocation) -> Any:
    left_out = torch.arange(c.channels) >= c.channels // 16 * 16
    return c().masked_fill(left_out[:, None, None], 0)


def is_narrow(c: Invocation) -> bool:
    """Say whether the input has one of the 16-bit types, and elements."""
    return c.input.dtype in (torch.float16, torch.bfloat16) and c.input.numel() > 0


@mutant(
    "adaptive_avg_pool2d",
    "tracel-ai/cubek#639",
    "16-bit averages over the whole image are summed in 16 bits",
    "dtype",
    when=lambda c: is_narrow(c) and targets(c) == [1, 1],
)
def accumulates_in_the_input_type(c: Invocation) -> Any:
    return (added_in_turn(c.input.flatten(-2)) / math.prod(c.sizes))[..., None, None]


@mutant(
    "global_avg_pool",
    "fastmachinelearning/hls4ml#311",
    "sums are held in the type of the data",
    "dtype",
    when=is_narrow,
)
def holds_sums_in_the_input_type(c: Invocation) -> Any:
    rows = c.input.flatten(2)
    mean = added_in_turn(rows) / rows.shape[-1]
    return mean.reshape(*mean.shape, *[1] * (c.input.dim() - 2))


# Maxima


@mutant(
    "adaptive_max_pool2d",
    "pytorch/pytorch#67239",
    "the maxima of a channels_last image are written channel by channel",
    "forward",
    when=lambda c: is_channels_last(c.input) and c.batched,
)
def writes_rows_into_channels_last(c: Invocation) -> Any:
    values, indices = both(c)
    return answer(c, in_channels_last(named_channels_last(values)), indices)


@mutant(
    "adaptive_max_pool2d",
    "pytorch/pytorch#67697",
    "the gradient of a channels_last image is written channel by channel",
    "backward",
    when=lambda c: is_channels_last(c.input) and c.batched,
)
def writes_gradients_in_rows(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, named_channels_last))


@mutant(
    "adaptive_max_pool3d",
    "intel/torch-xpu-ops#5475",
    "indices that are channels_last are read as if they were contiguous",
    "backward",
    when=lambda c: is_channels_last(c.input) and c.batched and c.input.requires_grad,
)
def misreads_strided_indices(c: Invocation) -> Any:
    values, indices = both(c)
    wrong = looked_up(c.input, read_as_contiguous(in_channels_last(indices)), c.spatial)
    return answer(c, with_gradients_of(values, wrong), indices)


MAX_POOLS = {
    "adaptive_max_pool1d": F.max_pool1d,
    "adaptive_max_pool2d": F.max_pool2d,
    "adaptive_max_pool3d": F.max_pool3d,
}


@mutant(
    ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    "pytorch/pytorch#190064, pytorch/pytorch#190065",
    "windows are all of one size, and one step apart, where the output does not divide the input",
    "forward",
    when=lambda c: (
        divides_unevenly(c) and all(size >= out for size, out in zip(c.sizes, targets(c), strict=True))
    ),
)
def moves_one_window(c: Invocation) -> Any:
    steps = [size // out for size, out in zip(c.sizes, targets(c), strict=True)]
    kernel = [size - (out - 1) * s for size, out, s in zip(c.sizes, targets(c), steps, strict=True)]
    return answer(c, *MAX_POOLS[c.operator](c.input, kernel, steps, return_indices=True))


@mutant(
    "adaptive_max_pool1d",
    "PaddlePaddle/Paddle#79073",
    "an output of more than one element is refused",
    "acceptance",
    when=lambda c: max(targets(c)) > 1,
)
def refuses_several_outputs(c: Invocation) -> Any:
    raise RuntimeError("adaptive pooling supports an output of one element")


@mutant(
    ("adaptive_max_pool1d", "adaptive_max_pool2d"),
    "pytorch/pytorch#159936",
    "indices are counted in the input's type, which rounds large ones",
    "dtype",
    when=lambda c: c.return_indices and math.prod(c.sizes) > 256,
)
def counts_indices_in_the_input_type(c: Invocation) -> Any:
    values, indices = c()
    return values, indices.to(c.input.dtype).long()


@mutant(
    "adaptive_max_pool2d",
    "pytorch/pytorch#107842",
    "images of one channel that look like channels_last all have the maxima of the first",
    "forward",
    when=lambda c: c.batched and len(c.input) > 1 and c.channels == 1 and c.input.stride(1) == 1,
)
def pools_the_first_image_again(c: Invocation) -> Any:
    return c(input=c.input[:1].expand_as(c.input))


# Fractional maxima

FRACTIONAL = ("fractional_max_pool2d", "fractional_max_pool3d")


@mutant(
    FRACTIONAL,
    "pytorch/pytorch#39044",
    "NaN and minus infinity lose against the lowest finite number",
    "forward",
    when=lambda c: bool((c.input.isnan() | c.input.isneginf()).any()),
)
def starts_from_the_lowest_number(c: Invocation) -> Any:
    lowest = torch.finfo(c.input.dtype).min
    return c(input=torch.where(c.input.isnan(), lowest, c.input).clamp(min=lowest))


@mutant(
    FRACTIONAL,
    "pytorch/pytorch#70031",
    "the samples are those of a batch of one",
    "forward",
    when=lambda c: c.batched and c.input.shape[0] > 1,
)
def takes_samples_of_the_first_image(c: Invocation) -> Any:
    samples = c._random_samples
    return c(_random_samples=samples[:1].expand_as(samples))
