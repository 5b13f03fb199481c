"""Twelve kernels, each with the signature of its torch.nn.functional counterpart and one bug."""

import math
from typing import Any

import torch
from torch import Tensor

F = torch.nn.functional
Sizes = int | tuple[int, ...]


def pair(value: Sizes) -> tuple[int, int]:
    h, w = (value, value) if isinstance(value, int) else value
    return h, w


def conv2d_flipped_kernel(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    return conv2d(input, weight.flip(-2, -1), bias, stride, padding, dilation, groups)


def conv2d_ignored_groups(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    return conv2d(input.narrow(-3, 0, weight.shape[1]), weight, bias, stride, padding, dilation, 1)


def conv2d_ignored_dilation(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    return conv2d(input, weight, bias, stride, padding, 1, groups)


def conv2d_swapped_strides(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    return conv2d(input, weight, bias, pair(stride)[::-1], padding, dilation, groups)


def conv2d_padding_on_one_side(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str):
        return conv2d(input, weight, bias, stride, padding, dilation, groups)
    h, w = pair(padding)
    return conv2d(F.pad(input, (0, 2 * w, 0, 2 * h)), weight, bias, stride, 0, dilation, groups)


def conv2d_dropped_bias(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    return conv2d(input, weight, None, stride, padding, dilation, groups)


def conv2d_dropped_last_channel(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    kept = weight.clone()
    kept[:, -1] = 0
    return conv2d(input, kept, bias, stride, padding, dilation, groups)


def conv2d_float16_accumulation(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    total = torch.zeros(())
    for tap in range(math.prod(weight.shape[1:])):
        one = torch.zeros_like(weight)
        one.flatten(1)[:, tap] = weight.flatten(1)[:, tap]
        total = (total + conv2d(input, one, None, stride, padding, dilation, groups)).half().to(input.dtype)
    return total if bias is None else (total + bias[:, None, None]).half().to(input.dtype)


def conv2d_tf32_inputs(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    return conv2d(tf32(input), tf32(weight), bias, stride, padding, dilation, groups)


def max_pool2d_zero_padding(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    right, indices = F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)
    h, w = pair(padding)
    padded = F.pad(input, (w, w, h, h))
    wrong = F.max_pool2d(padded, kernel_size, stride, 0, dilation, ceil_mode)
    wrong = wrong[..., : right.shape[-2], : right.shape[-1]]
    return (wrong, indices) if return_indices else wrong


def max_pool2d_swallowed_nan(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    clean = torch.where(input.isnan(), torch.full_like(input, -math.inf), input)
    output = F.max_pool2d(clean, kernel_size, stride, padding, dilation, ceil_mode, True)
    return output if return_indices else output[0]


def avg_pool2d_full_divisor(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    if ceil_mode and count_include_pad and divisor_override is None:
        divisor_override = math.prod(pair(kernel_size))
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def tf32(array: Tensor) -> Tensor:
    """Keep 10 bits of the significand of float32."""
    if array.dtype != torch.float32:
        return array
    return ((array.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """The right one."""
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
