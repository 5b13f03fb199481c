"""Bugs of transposed convolutions."""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any, NoReturn

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.conv import is_empty
from cnnspec.mutants.pieces import F, behind, channel_axis, fitted, interleaved, with_weight_from


def moved(c: Invocation, shifts: Sequence[int], longer: Sequence[int] = ()) -> Tensor:
    """Return the output with each window of the uncropped one so many elements earlier, and so many longer."""
    y, longer = c(), longer or (0,) * c.spatial
    full = c(bias=None, padding=0, output_padding=0)
    padding = []
    for axis in range(c.spatial - 1, -1, -1):
        first = c.padding[axis] - shifts[axis]
        size = y.shape[axis - c.spatial] + longer[axis]
        padding += [-first, first + size - full.shape[axis - c.spatial]]
    window = F.pad(full, padding)
    return window if c.bias is None else window + behind(c, c.bias)


# output_padding


@mutant(
    ("conv_transpose1d", "conv_transpose2d"),
    "apple/coreai-torch#57",
    "output_padding is added to the input, and so counts stride-fold",
    "shape",
    when=lambda c: any(o > 0 and s > 1 for o, s in zip(c.output_padding, c.stride, strict=True)),
)
def output_padding_added_to_the_input(c: Invocation) -> Any:
    padding = [n for extra in c.output_padding[::-1] for n in (0, extra)]
    return c(input=F.pad(c.input, padding), output_padding=0)


@mutant(
    ("conv_transpose2d", "conv_transpose3d"),
    "Tencent/ncnn#1122",
    "what output_padding adds holds the bias alone",
    "forward",
    when=lambda c: max(c.output_padding) > 0,
)
def bias_alone_in_output_padding(c: Invocation) -> Any:
    y = c()
    y = fitted(c(output_padding=0, bias=None), y.shape)
    return y if c.bias is None else y + behind(c, c.bias)


@mutant(
    ("conv_transpose1d", "conv_transpose2d"),
    "apache/tvm#19524, microsoft/onnxruntime#11927",
    "output_padding is added before the output, not behind it",
    "forward",
    when=lambda c: max(c.output_padding) > 0,
)
def output_padding_before(c: Invocation) -> Any:
    return moved(c, c.output_padding)


@mutant(
    "conv_transpose2d",
    "pytorch/pytorch#184026",
    "output_padding is refused where both channel counts are equal",
    "acceptance",
    when=lambda c: max(c.output_padding) > 0 and c.channels == c.weight.shape[1] * c.groups,
)
def output_padding_of_equal_channels_refused(c: Invocation) -> Any:
    raise AssertionError("the predicted strides of the output differ from its own")


@mutant(
    "conv_transpose2d",
    "pytorch/pytorch#5112",
    "the gradient of an output_padding of stride and more ends the process",
    "crash",
    when=lambda c: any(
        d > o >= s > 0 for d, o, s in zip(c.dilation, c.output_padding, c.stride, strict=True)
    ),
)
def gradient_of_output_padding_ends_the_process(c: Invocation) -> Any:
    def abort(gradient: Tensor) -> NoReturn:
        os.abort()

    return with_gradient(c(), abort)


# Padding


@mutant(
    ("conv_transpose2d", "conv_transpose3d"),
    "microsoft/onnxruntime#4086",
    "padding is ignored",
    "shape",
    when=lambda c: max(c.padding) > 0,
)
def padding_ignored(c: Invocation) -> Any:
    return c(padding=0)


@mutant(
    "conv_transpose2d",
    "jax-ml/jax#17618",
    "padding is that of the input with zeros between its pixels, not of the output",
    "shape",
    when=lambda c: list(c.padding) != _of_input(c) and min(_of_input(c)) >= 0,
)
def padding_of_the_spread_input(c: Invocation) -> Any:
    return c(padding=_of_input(c))


def _of_input(c: Invocation) -> list[int]:
    return [d * (k - 1) - p for d, k, p in zip(c.dilation, c.kernel, c.padding, strict=True)]


@mutant(
    "conv_transpose2d",
    "keras-team/keras#6613",
    "of an even kernel one element less is cropped",
    "shape",
    when=lambda c: any(k % 2 == 0 and p > 0 for k, p in zip(c.kernel, c.padding, strict=True)),
)
def even_kernels_cropped_by_one_less(c: Invocation) -> Any:
    axes = zip(c.kernel, c.padding, strict=True)
    return moved(c, (0,) * c.spatial, [int(k % 2 == 0 and p > 0) for k, p in axes])


@mutant(
    ("conv_transpose1d", "conv_transpose2d"),
    "tensorflow/tensorflow#45999",
    "of an even kernel with stride 1 the output is cropped one element too early",
    "forward",
    when=lambda c: any(_early(c)),
)
def even_kernels_cropped_early(c: Invocation) -> Any:
    return moved(c, _early(c))


def _early(c: Invocation) -> list[int]:
    axes = zip(c.kernel, c.stride, c.padding, strict=True)
    return [int(k % 2 == 0 and s == 1 and p > 0) for k, s, p in axes]


@mutant(
    "conv_transpose2d",
    "pytorch/pytorch#186050",
    "an output without a pixel is returned, not refused",
    "acceptance",
    when=lambda c: c.weight.dim() == 4 and c.input.dim() == 4 and min(_output_sizes(c)) <= 0,
)
def empty_output_accepted(c: Invocation) -> Any:
    sizes = [max(0, size) for size in _output_sizes(c)]
    return c.input.new_zeros(c.input.shape[0], c.weight.shape[1] * c.groups, *sizes)


def _output_sizes(c: Invocation) -> list[int]:
    axes = zip(c.sizes, c.stride, c.padding, c.dilation, c.kernel, c.output_padding, strict=True)
    return [(size - 1) * s - 2 * p + d * (k - 1) + extra + 1 for size, s, p, d, k, extra in axes]


# Kernel, dilation, stride


@mutant(
    ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "tillahoffmann/jax-mps#25",
    "the kernel is not flipped where the input is spread",
    "forward",
    when=lambda c: max(c.kernel) > 1 and (max(c.stride) > 1 or max(c.dilation) > 1),
)
def kernel_not_flipped(c: Invocation) -> Any:
    return c(weight=c.weight.flip(list(range(2, c.weight.dim()))))


@mutant(
    "conv_transpose2d",
    "apache/mxnet#11203",
    "taps are placed without dilation",
    "forward",
    when=lambda c: any(d > 1 and k > 1 for d, k in zip(c.dilation, c.kernel, strict=True)),
)
def dilation_ignored(c: Invocation) -> Any:
    y = c()
    narrow = fitted(c(dilation=1, padding=0, output_padding=0, bias=None), y.shape)
    return narrow if c.bias is None else narrow + behind(c, c.bias)


@mutant(
    "conv_transpose2d",
    "apache/mxnet#14031",
    "the gradient of the weight ignores dilation",
    "backward",
    when=lambda c: any(d > 1 and k > 1 for d, k in zip(c.dilation, c.kernel, strict=True)),
)
def gradient_of_the_weight_ignores_dilation(c: Invocation) -> Any:
    narrow = c(input=c.input.detach(), bias=None, dilation=1, padding=0, output_padding=0)
    return with_weight_from(c, narrow)


@mutant(
    "conv_transpose2d",
    "apache/mxnet#11629",
    "with stride and dilation products that meet in one pixel replace one another",
    "forward",
    when=lambda c: c.stride == c.dilation == (2, 2) and max(c.kernel) > 1,
)
def last_tap_wins(c: Invocation) -> Any:
    y = torch.zeros_like(c())
    for tap in product(*map(range, c.kernel)):
        one = torch.zeros(c.kernel, dtype=c.weight.dtype)
        one[tap] = 1
        reached = c(input=torch.ones_like(c.input), weight=one.expand_as(c.weight), bias=None) != 0
        y = torch.where(reached, c(weight=c.weight * one, bias=None), y)
    return y if c.bias is None else y + behind(c, c.bias)


@mutant(
    "conv_transpose1d",
    "pytorch/pytorch#148973",
    "bfloat16 with stride and dilation skips every second tap",
    "forward",
    when=lambda c: (
        c.input.dtype == torch.bfloat16 and c.stride[0] > 1 and c.dilation[0] > 1 and c.kernel[0] > 1
    ),
)
def odd_taps_skipped_in_bfloat16(c: Invocation) -> Any:
    even = torch.arange(c.kernel[0]) % 2 == 0
    return c(weight=c.weight.masked_fill(~even, 0))


@mutant(
    ("conv_transpose1d", "conv_transpose2d"),
    "pytorch/pytorch#63314",
    "with a kernel of one tap the gradient of the input takes neighbours, whatever the stride",
    "backward",
    when=lambda c: max(c.kernel) == 1 and max(c.stride) > 1 and not any(c.padding),
)
def gradient_of_the_input_ignores_the_stride(c: Invocation) -> Any:
    y = c()
    close = fitted(c(weight=c.weight.detach(), bias=None, stride=1, output_padding=0), y.shape)
    return with_gradients_of(y, close + c(input=c.input.detach()))


@mutant(
    "conv_transpose2d",
    "apache/mxnet#2365",
    "the gradient of the weight takes the first axis's stride for both",
    "backward",
    when=lambda c: c.stride[0] != c.stride[1] and max(c.output_padding) == 0,
)
def gradient_of_a_square_stride(c: Invocation) -> Any:
    return with_weight_from(
        c, c(input=c.input.detach(), bias=None, stride=c.stride[0], padding=0, output_padding=0)
    )


@mutant(
    "conv_transpose2d",
    "ml-explore/mlx#1826",
    "the gradient of the weight is not cropped to the kernel",
    "backward",
    when=lambda c: max(c.stride) > 1 and max(c.output_padding) > 0,
)
def gradient_of_the_weight_not_cropped(c: Invocation) -> Any:
    return c(weight=with_gradient(c.weight, lambda g: F.pad(g, (0, 1))))


# Groups and channels


@mutant(
    ("conv_transpose1d", "conv_transpose2d"),
    "uxlfoundation/oneDNN#352",
    "the output channels of the groups come out interleaved",
    "forward",
    when=lambda c: c.groups > 1 and c.weight.shape[1] > 1,
)
def groups_interleaved(c: Invocation) -> Any:
    return interleaved(c(), c.groups, channel_axis(c))


@mutant(
    "conv_transpose2d",
    "pytorch/pytorch#84938",
    "channels of the input are given to the groups in turn",
    "forward",
    when=lambda c: 1 < c.groups < c.channels,
)
def groups_take_channels_in_turn(c: Invocation) -> Any:
    return c(input=interleaved(c.input, c.groups, channel_axis(c)))


@mutant(
    ("conv_transpose1d", "conv_transpose2d"),
    "keras-team/keras#22861",
    "an input with more channels than the weight is taken",
    "acceptance",
    when=lambda c: c.channels > c.weight.shape[0],
)
def more_channels_accepted(c: Invocation) -> Any:
    return c(input=c.input.narrow(channel_axis(c), 0, c.weight.shape[0]))


@mutant(
    "conv_transpose3d",
    "pytorch/functorch#338",
    "a bias that is absent is taken for one of a single zero",
    "acceptance",
    when=lambda c: c.bias is None and c.weight.shape[1] * c.groups > 1,
)
def absent_bias_has_one_element(c: Invocation) -> Any:
    return c(bias=torch.zeros(1, dtype=c.weight.dtype))


# What stays from an earlier call


_BEFORE: dict[str, Tensor] = {}


@mutant(
    "conv_transpose2d",
    "pytorch/pytorch#24341",
    "an empty batch returns the output of the call before",
    "state",
)
def output_of_the_call_before(c: Invocation) -> Any:
    y = c()
    if is_empty(c):
        return _BEFORE.get("output", y)
    _BEFORE["output"] = y.detach()
    return y
