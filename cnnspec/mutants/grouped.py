"""Bugs of grouped and depthwise convolutions."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.conv import is_dense_3x3
from cnnspec.mutants.pieces import (
    F,
    channel_axis,
    interleaved,
    only,
    padded_by,
    sizes_of,
    winograd,
    with_weight_from,
)


def is_depthwise(c: Invocation) -> bool:
    """Say whether every channel is a group of its own."""
    return bool(c.groups == c.channels > 1)


def multiplier(c: Invocation) -> int:
    """Return the output channels of each group."""
    return int(c.weight.shape[0] // max(1, c.groups))


def first_groups(c: Invocation, y: Tensor, count: int) -> Tensor:
    """Return the output with zeros in all groups but the first `count`."""
    kept = slice(count * multiplier(c))
    return only(y, (..., kept, *[slice(None)] * c.spatial))


def weights_of_the_first_group(c: Invocation) -> Tensor:
    """Return the weight with each group's filters replaced by those of the first."""
    first: Tensor = c.weight[: multiplier(c)]
    return first.repeat(c.groups, *[1] * (c.spatial + 1))


# Which group is computed, and with what


@mutant(
    "conv2d",
    "ROCm/rocm-libraries#4998",
    "float16 3 x 3 kernels compute the first group only",
    "forward",
    when=lambda c: c.groups > 1 and is_dense_3x3(c) and c.input.dtype == torch.float16,
)
def first_group_only_in_float16(c: Invocation) -> Any:
    return first_groups(c, c(), 1)


@mutant(
    ("conv2d", "conv3d"),
    "ROCm/MIOpen#3744",
    "the last group is not dispatched",
    "forward",
    when=lambda c: c.groups > 1 and min(c.stride) == max(c.stride) == 1 and max(c.kernel) > 1,
)
def last_group_left_out(c: Invocation) -> Any:
    return first_groups(c, c(), c.groups - 1)


@mutant(
    "conv2d",
    "pytorch/executorch#15863",
    "groups of output channels that are split into parts of 16 come out as zeros",
    "forward",
    when=lambda c: c.groups > 1 and c.weight.shape[0] > 16,
)
def split_groups_are_zeros(c: Invocation) -> Any:
    return first_groups(c, c(), 0)


@mutant(
    "conv2d",
    "Tencent/ncnn#1304",
    "groups of more than one channel all take what belongs to the first",
    "forward",
    when=lambda c: 1 < c.groups < c.channels,
)
def weights_of_the_first_group_for_all(c: Invocation) -> Any:
    return c(weight=weights_of_the_first_group(c))


@mutant(
    ("conv1d", "conv2d"),
    "OAID/Tengine#5",
    "every group adds the bias of the first",
    "forward",
    when=lambda c: c.groups > 1 and c.bias is not None,
)
def bias_of_the_first_group_for_all(c: Invocation) -> Any:
    return c(bias=c.bias[: multiplier(c)].repeat(c.groups))


@mutant(
    "conv2d",
    "PaddlePaddle/Paddle#20712",
    "grouped 5 x 5 kernels go through Winograd's algorithm in the precision of the operands",
    "forward",
    when=lambda c: (
        c.groups > 1
        and c.kernel == (5, 5)
        and c.stride == c.dilation == (1, 1)
        and c.input.dtype == torch.float32
    ),
)
def winograd_of_groups_in_low_precision(c: Invocation) -> Any:
    return winograd(c)


# Depthwise


@mutant(
    "conv2d",
    "tensorflow/tensorflow#19992",
    "depthwise convolutions ignore dilation",
    "forward",
    when=lambda c: is_depthwise(c) and max(c.dilation) > 1,
)
def dilation_of_depthwise_ignored(c: Invocation) -> Any:
    return c(dilation=1)


@mutant(
    "conv2d",
    "tensorflow/tensorflow#57128",
    "stride and dilation together pass through batches of shifted images, which are then each strided",
    "shape",
    when=lambda c: is_depthwise(c) and max(c.stride) > 1 and max(c.dilation) > 1,
)
def stride_within_shifted_images(c: Invocation) -> Any:
    y = c(stride=1)
    for axis, s, d in zip((-2, -1), c.stride, c.dilation, strict=True):
        size = y.shape[axis]
        kept = [
            first + shift for first in range(0, size, s * d) for shift in range(d) if first + shift < size
        ]
        y = y.index_select(axis, torch.tensor(kept))
    return y


@mutant(
    "conv2d",
    "ARM-software/ComputeLibrary#553",
    "several filters for each channel come out filter after filter, not channel after channel",
    "forward",
    when=lambda c: is_depthwise(c) and multiplier(c) > 1,
)
def multiplied_channels_interleaved(c: Invocation) -> Any:
    return interleaved(c(), c.groups, channel_axis(c))


@mutant(
    "conv2d",
    "tensorflow/tensorflow#61815",
    "depthwise kernels of one column with a stride pad the width as the height",
    "forward",
    when=lambda c: (
        is_depthwise(c)
        and c.kernel[1] == 1 < c.kernel[0]
        and min(c.stride) > 1
        and c.pads[0] != c.pads[1]
        and not isinstance(c.padding, str)
    ),
)
def width_padded_as_the_height(c: Invocation) -> Any:
    height, width = c.pads
    return padded_by(c, [(height, height), (height, 2 * width - height)])


@mutant(
    "conv2d",
    "Tencent/ncnn#1384",
    "images of fewer than 256 pixels, in packs of 4 channels, miss the last partial tile of 4 columns",
    "forward",
    when=lambda c: (
        c.channels % 4 == 0
        and c.sizes[0] * c.sizes[1] < 256
        and (c.kernel == (1, 1) or (is_depthwise(c) and c.kernel == (3, 3)))
        and not any(c.pads)
        and sizes_of(c)[1] % 4 > 0
    ),
)
def last_partial_tile_missing(c: Invocation) -> Any:
    return only(c(), (..., slice(sizes_of(c)[1] // 4 * 4)))


# Gradients


@mutant(
    "conv1d",
    "tensorflow/tensorflow#50397",
    "the backward pass of groups is refused",
    "backward",
    when=lambda c: c.groups > 1,
)
def gradients_of_groups_refused(c: Invocation) -> Any:
    return with_gradient(c(), _refuse)


@mutant(
    "conv1d",
    "uxlfoundation/oneDNN#796",
    "the backward pass of groups is refused for kernels of more than 16 taps",
    "backward",
    when=lambda c: c.groups > 1 and c.kernel[0] > 16,
)
def gradients_of_long_grouped_kernels_refused(c: Invocation) -> Any:
    return with_gradient(c(), _refuse)


def _refuse(gradient: Tensor) -> NoReturn:
    raise RuntimeError(f"cannot pass a gradient of shape {tuple(gradient.shape)} through groups")


@mutant(
    "conv2d",
    "Theano/Theano#6332",
    "the gradient of the weight has all channels where it should have those of a group",
    "backward",
    when=lambda c: c.groups > 1,
)
def gradient_of_the_weight_has_all_channels(c: Invocation) -> Any:
    return c(weight=with_gradient(c.weight, lambda g: g.repeat(1, c.groups, 1, 1)))


@mutant(
    "conv2d",
    "pytorch/xla#973",
    "the weight's gradient of several filters for each channel lies filter after filter",
    "backward",
    when=lambda c: is_depthwise(c) and multiplier(c) > 1,
)
def gradient_of_multiplied_channels_interleaved(c: Invocation) -> Any:
    return c(weight=with_gradient(c.weight, lambda g: interleaved(g, c.groups, 0)))


@mutant(
    ("conv2d", "conv3d"),
    "ml-explore/mlx#3800",
    "with groups and a stride the gradient of the input takes every group's filters from the first",
    "backward",
    when=lambda c: c.groups > 1 and max(c.stride) > 1,
)
def gradient_by_the_weights_of_the_first_group(c: Invocation) -> Any:
    of_input = c(weight=weights_of_the_first_group(c).detach(), bias=None)
    return with_gradients_of(c(), of_input + c(input=c.input.detach()))


@mutant(
    "conv3d",
    "pytorch/pytorch#68868",
    "a stride that is larger than the kernel leaves the last plane out of the gradient of a grouped weight",
    "backward",
    when=lambda c: c.groups > 1 and any(s > k for s, k in zip(c.stride, c.kernel, strict=True)),
)
def last_plane_left_out_of_the_gradient(c: Invocation) -> Any:
    return with_weight_from(c, c(input=c.input.detach(), bias=None)[..., :-1])


@mutant(
    "conv2d",
    "uxlfoundation/oneDNN#4124",
    "the first row of windows, which lies in the padding, is left out of a depthwise weight's gradient",
    "backward",
    when=lambda c: is_depthwise(c) and c.stride[0] > 1 and c.pads[0] > 0,
)
def padded_row_left_out_of_the_gradient(c: Invocation) -> Any:
    of_weight = c(input=c.input.detach(), bias=None)[..., 1:, :]
    return with_weight_from(c, F.pad(of_weight, (0, 0, 1, 0)))
