"""Wrong layers that are no convolutions: `tests.explanations` says of each what explains it."""

from typing import Any

import torch
from torch import Tensor

from tests.kernels.localised import like

F = torch.nn.functional


def conv_transpose2d_flipped(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    return F.conv_transpose2d(
        input, weight.flip(-1, -2), bias, stride, padding, output_padding, groups, dilation
    )


# Linear layers and copies


def linear_transposed_output(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(input, weight, bias).t()


def linear_skips_zeros(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(torch.where((weight == 0).all(0), 0, input), weight, bias)


def unfold_kernel_reversed(
    input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    return F.unfold(input, kernel_size, dilation, padding, stride).flip(1)


def fold_overwrites(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    one = torch.zeros_like(input)
    one[:, 0, 1] = input[:, 0, 1]
    return F.fold(input - one, output_size, kernel_size, dilation, padding, stride)


def pad_before_behind(
    input: Tensor, padding: Any, mode: str = "constant", value: float | None = None
) -> Tensor:
    return F.pad(input, padding[::-1], mode, value)


def pixel_shuffle_columns_first(input: Tensor, upscale_factor: int) -> Tensor:
    return F.pixel_shuffle(input, upscale_factor).transpose(-1, -2)


# Pools


def average(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@like(average)
def avg_pool2d_without_padding(count_include_pad: bool, **arguments: Any) -> Tensor:
    return average(count_include_pad=False, **arguments)


@like(average)
def avg_pool2d_one_pixel_missing(input: Tensor, **arguments: Any) -> Tensor:
    holed = input.clone()
    holed[0, 0, 1, 1] = 0
    return average(input=holed, **arguments)


def maximum(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    assert not return_indices
    return F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)


@like(maximum)
def max_pool2d_of_minima(input: Tensor, **arguments: Any) -> Tensor:
    output: Tensor = -maximum(input=-input, **arguments)
    return output


@like(maximum)
def max_pool2d_one_pixel_missing(input: Tensor, **arguments: Any) -> Any:
    holed = input.clone()
    holed[0, 0, 1, 1] = -torch.inf
    return maximum(input=holed, **arguments)


@like(maximum)
def max_pool2d_one_pixel_more(input: Tensor, **arguments: Any) -> Any:
    output = maximum(input=input, **arguments)
    output[0, 0, 0, 0] = torch.maximum(output[0, 0, 0, 0], input[0, 0, 2, 2])
    return output


@like(maximum)
def max_pool2d_without_nan(input: Tensor, **arguments: Any) -> Any:
    return maximum(input=torch.nan_to_num(input, nan=-torch.inf), **arguments)


def relu_of_nothing(input: Tensor) -> Tensor:
    return input.clone()


# Functions


def softmax_over_rows(input: Tensor, dim: int | None = None) -> Tensor:
    return F.softmax(input, 0)


def layer_norm_unbiased(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    root = (input.var(-1, keepdim=True) + eps).sqrt()
    output: Tensor = (input - input.mean(-1, keepdim=True)) / root * weight + bias
    return output


def layer_norm_without_eps(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    return F.layer_norm(input, normalized_shape, weight, bias, 0.0)


def batch_norm_other_momentum(
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, 1 - momentum, eps)


def tanh_of_one_neighbour(input: Tensor) -> Tensor:
    output = torch.tanh(input)
    output[0] = torch.tanh(input[2])
    return output


def mse_loss_summed(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return F.mse_loss(input, target, reduction="sum")


def batch_norm_biased_statistics(
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    old = running_var.clone()
    output = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    biased = input.var((0, 2, 3), correction=0)
    running_var.copy_((1 - momentum) * old + momentum * biased)
    return output
