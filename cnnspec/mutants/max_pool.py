"""Bugs of max pooling: its values, sizes, and what it accepts."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.memory import is_channels_last
from cnnspec.mutants.pieces import fitted, has_nan
from cnnspec.mutants.windows import (
    is_legal,
    lowest,
    outputs,
    padded,
    room,
    spread,
    taps,
    unclamped,
    windowed,
    windows,
)

MAX = ("max_pool1d", "max_pool2d", "max_pool3d")


def both(c: Invocation, **changed: Any) -> tuple[Tensor, Tensor]:
    """Return the healthy values and indices."""
    values, indices = c(**changed, return_indices=True)
    return values, indices


def answer(c: Invocation, values: Tensor, indices: Tensor) -> Any:
    """Return values, with the indices where they are asked for."""
    return (values, indices) if c.return_indices else values


@mutant(
    ("max_pool1d", "max_pool2d"),
    "pytorch/pytorch#7645",
    "NaN counts as minus infinity",
    "forward",
    when=has_nan,
)
def loses_nan(c: Invocation) -> Any:
    return c(input=torch.where(c.input.isnan(), -math.inf, c.input))


@mutant(
    "max_pool3d",
    "pytorch/pytorch#39846",
    "a window of NaN has the lowest finite number as its maximum",
    "forward",
    when=has_nan,
)
def starts_from_the_lowest_number(c: Invocation) -> Any:
    return c(input=torch.where(c.input.isnan(), torch.finfo(c.input.dtype).min, c.input))


@mutant(
    "max_pool2d",
    "pytorch/pytorch#76432",
    "taps of dilated windows lie next to each other where the input is channels_last",
    "forward",
    when=lambda c: is_channels_last(c.input) and max(c.dilation) > 1,
)
def ignores_dilation_in_channels_last(c: Invocation) -> Any:
    spans = tuple(window.span for window in windows(c))
    return c(kernel_size=spans, dilation=1, stride=c.stride)


@mutant(
    MAX,
    "apache/mxnet#2753",
    "the padding is zeros, which are larger than negative maxima",
    "forward",
    when=lambda c: max(c.padding) > 0,
)
def pads_with_zeros(c: Invocation) -> Any:
    values, indices = both(c)
    wrong, _ = both(c, input=padded(c, outputs(c), 0), padding=0)
    return answer(c, fitted(wrong, values.shape), indices)


@mutant(
    "max_pool2d",
    "microsoft/onnxruntime#29637, microsoft/onnxruntime#1320",
    "a dilated window that starts on the padding is moved to the first pixel",
    "forward",
    when=lambda c: any(p > 0 and d > 1 for p, d in zip(c.padding, c.dilation, strict=True)) and is_legal(c),
)
def clips_the_start_of_dilated_windows(c: Invocation) -> Any:
    table = taps(c, clipped=True)
    values, place = windowed(c, table, lowest(c.input)).max(-1)
    indices = table.expand(*place.shape, -1).gather(-1, place[..., None])[..., 0]
    return answer(c, spread(c, values), spread(c, indices))


# Sizes


@mutant(
    ("max_pool1d", "max_pool2d"),
    "pytorch/pytorch#154882, mlpack/mlpack#2886",
    "ceil mode keeps a last window that starts behind the input",
    "shape",
    when=lambda c: c.ceil_mode and is_legal(c) and outputs(c) != unclamped(c),
)
def keeps_windows_behind_the_input(c: Invocation) -> Any:
    return c(input=padded(c, unclamped(c), lowest(c.input)), padding=0, ceil_mode=False)


@mutant(
    MAX,
    "NVIDIA-AI-IOT/torch2trt#57",
    "ceil_mode is not passed on",
    "shape",
    when=lambda c: bool(c.ceil_mode),
)
def ignores_ceil_mode(c: Invocation) -> Any:
    return c(ceil_mode=False)


def _undilated(c: Invocation) -> list[int]:
    """Return the sizes that ceil mode would have without dilation."""
    axes = zip(room(c), windows(c), strict=True)
    return [-(-(free + w.span - w.kernel) // w.stride) + 1 for free, w in axes]


@mutant(
    "max_pool2d",
    "tenstorrent/tt-metal#25894",
    "the output's size in ceil mode is that of windows without dilation",
    "shape",
    when=lambda c: c.ceil_mode and max(c.dilation) > 1 and is_legal(c),
)
def forgets_dilation_in_ceil_mode(c: Invocation) -> Any:
    return c(input=padded(c, _undilated(c), lowest(c.input)), padding=0, ceil_mode=False)


@mutant(
    "max_pool2d",
    "pytorch/pytorch#79415",
    "ceil_mode and return_indices change places",
    "shape",
    when=lambda c: bool(c.ceil_mode) != bool(c.return_indices),
)
def confuses_ceil_mode_and_return_indices(c: Invocation) -> Any:
    return c(ceil_mode=c.return_indices, return_indices=c.ceil_mode)


# Acceptance


@mutant(
    "max_pool1d",
    "pytorch/pytorch#90211",
    "padding of more than half the window is accepted",
    "acceptance",
    when=lambda c: min(c.padding) >= 0 and any(2 * w.before > w.span for w in windows(c)),
)
def accepts_any_padding(c: Invocation) -> Any:
    return c(input=padded(c, outputs(c), lowest(c.input)), padding=0)


@mutant(
    "max_pool2d",
    "tenstorrent/tt-metal#25208",
    "a stride of 0 is accepted",
    "acceptance",
    when=lambda c: 0 in c.stride,
)
def accepts_a_stride_of_zero(c: Invocation) -> Any:
    return c(stride=tuple(s or 1 for s in c.stride))


@mutant(
    "max_pool3d",
    "tenstorrent/tt-metal#25208",
    "a dilation of 0 is accepted",
    "acceptance",
    when=lambda c: 0 in c.dilation,
)
def accepts_a_dilation_of_zero(c: Invocation) -> Any:
    return c(dilation=tuple(d or 1 for d in c.dilation))


@mutant(
    "max_pool2d",
    "pytorch/pytorch#93384",
    "dilation that differs between the axes is refused",
    "acceptance",
    when=lambda c: len(set(c.dilation)) > 1,
)
def refuses_dilation_per_axis(c: Invocation) -> Any:
    raise RuntimeError("assert isinstance(dilation, int)")


@mutant(
    MAX,
    "PaddlePaddle/Paddle#72954",
    "a batch of no images is refused",
    "acceptance",
    when=lambda c: c.input.numel() == 0,
)
def refuses_empty_batches(c: Invocation) -> Any:
    raise RuntimeError("the input must hold elements")


TALL = 40
"""Rows from which the grid of a kernel for channels_last was too large; 16,777,217 in the report."""


@mutant(
    "max_pool2d",
    "pytorch/pytorch#28714",
    "a channels_last image of too many rows does not launch",
    "acceptance",
    when=lambda c: is_channels_last(c.input) and c.input.dim() == 4 and c.sizes[0] > TALL,
)
def refuses_tall_channels_last_images(c: Invocation) -> Any:
    raise RuntimeError("invalid configuration argument")
