"""Bugs of group norm, layer norm and local response norm."""

from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.memory import is_channels_last, named_channels_last, read_in_rows

F = torch.nn.functional


# Group norm


@mutant(
    "group_norm",
    "tensorflow/addons#751",
    "an image whose channels lie next to each other is cut into groups of rows",
    "forward",
    when=lambda c: c.num_groups > 1 and is_channels_last(c.input),
)
def groups_rows(c: Invocation) -> Any:
    return named_channels_last(c(input=read_in_rows(c.input)))


@mutant(
    "group_norm",
    "pytorch/pytorch#140913",
    "the gradient of the weight of a channels_last input is summed over other channels",
    "backward",
    when=lambda c: c.weight is not None and c.weight.requires_grad and is_channels_last(c.input),
)
def sums_other_channels_into_the_weight(c: Invocation) -> Any:
    other = read_in_rows(c.input.detach())
    return with_gradients_of(c(), c(weight=c.weight.detach()) + c(input=other, bias=None))


@mutant(
    "group_norm",
    "linkedin/Liger-Kernel#1376",
    "the gradient fails for inputs with more than three axes",
    "backward",
    when=lambda c: c.input.dim() > 3,
)
def fails_on_gradients_of_images(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, _no_such_shape), weight=_guarded(c.weight), bias=_guarded(c.bias))


def _guarded(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else with_gradient(parameter, _no_such_shape)


def _no_such_shape(gradient: Tensor) -> Tensor:
    raise RuntimeError("the shape is invalid for an input of this size")


# Layer norm


def rows(c: Invocation) -> Tensor:
    """Return the input with the normalised axes joined to one."""
    joined: Tensor = c.input.flatten(c.input.dim() - len(c.normalized_shape))
    return joined


def scaled(c: Invocation, normalised: Tensor) -> Tensor:
    """Return weight * x + bias, in the input's shape."""
    y = normalised.reshape(c.input.shape)
    y = y if c.weight is None else y * c.weight
    return y if c.bias is None else y + c.bias


@mutant(
    "layer_norm",
    "pytorch/pytorch#51102, tracel-ai/burn#5607",
    "the variance is the mean of the squares less the square of the mean, which cancels",
    "forward",
    when=lambda c: c.input.numel() > 0,
)
def cancels_the_variance(c: Invocation) -> Any:
    x, output = rows(c), c()
    mean = x.mean(-1, keepdim=True)
    variance = (x**2).mean(-1, keepdim=True) - mean**2
    return scaled(c, (x - mean) * (variance.clamp(min=0) + c.eps).rsqrt()).to(output.dtype)


@mutant(
    "layer_norm",
    "xlite-dev/LeetCUDA#309",
    "eps is added to the count that divides the sum of squares",
    "forward",
    when=lambda c: c.input.numel() > 0,
)
def adds_eps_to_the_count(c: Invocation) -> Any:
    x, output = rows(c), c()
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).sum(-1, keepdim=True) / (x.shape[-1] + c.eps)
    return scaled(c, centred * variance.rsqrt()).to(output.dtype)


@mutant(
    "layer_norm",
    "VeriSilicon/TIM-VX#589",
    "eps is 0",
    "forward",
    when=lambda c: c.input.numel() > 0,
)
def drops_eps(c: Invocation) -> Any:
    return c(eps=0.0)


@mutant(
    "layer_norm",
    "flagos-ai/FlagGems#5392",
    "the gradient takes all axes but the first for the normalised ones",
    "backward",
    when=lambda c: c.input.dim() > len(c.normalized_shape) + 1 and c.input.numel() > 0,
)
def normalises_all_axes_in_gradients(c: Invocation) -> Any:
    flat = c.input.flatten(1)
    whole = F.layer_norm(flat, flat.shape[1:], eps=c.eps)
    return with_gradients_of(c(), scaled(c, whole))


# Local response norm


@mutant(
    "local_response_norm",
    "onnx/onnx#7805",
    "sums are made for as many channels as there are images",
    "forward",
    when=lambda c: len(c.input) < c.input.shape[1],
)
def counts_images_for_channels(c: Invocation) -> Any:
    known = torch.arange(c.input.shape[1]).reshape(-1, *[1] * (c.input.dim() - 2)) < len(c.input)
    return torch.where(known, c(), c.input / c.k**c.beta)


@mutant(
    "local_response_norm",
    "onnx/tensorflow-onnx#602, alibaba/MNN#192",
    "size is taken for the channels on each side",
    "forward",
    when=lambda c: c.input.shape[1] > 1 and c.alpha != 0,
)
def takes_size_for_a_radius(c: Invocation) -> Any:
    size = 2 * c.size + 1
    return c(size=size, alpha=c.alpha * size / c.size)


@mutant(
    "local_response_norm",
    "MarcBS/keras#4",
    "alpha is not divided by size",
    "forward",
    when=lambda c: c.size > 1 and c.alpha != 0,
)
def sums_without_dividing(c: Invocation) -> Any:
    return c(alpha=c.alpha * c.size)
