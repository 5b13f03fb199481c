"""Bugs of the gradients of convolutions, whose outputs are right."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.conv import is_empty
from cnnspec.mutants.pieces import F, fitted, only, sizes_of, with_weight_from


@mutant(
    ("conv1d", "conv2d"),
    "FluxML/NNlib.jl#763",
    "the gradient of the weight is left uninitialised for an empty batch",
    "backward",
    when=is_empty,
)
def gradient_of_an_empty_batch_uninitialised(c: Invocation) -> Any:
    return c(weight=with_gradient(c.weight, lambda g: torch.full_like(g, torch.nan)))


@mutant(
    "conv2d",
    "ROCm/MIOpen#11",
    "the gradient of the weight is that of the flipped kernel",
    "backward",
    when=lambda c: max(c.kernel) > 1,
)
def gradient_of_the_weight_flipped(c: Invocation) -> Any:
    return c(weight=with_gradient(c.weight, lambda g: g.flip(-2, -1)))


@mutant(
    ("conv1d", "conv2d"),
    "soumith/cudnn.torch#28",
    "with a kernel of one tap only the first channel of the input gets a gradient",
    "backward",
    when=lambda c: max(c.kernel) == 1 and c.channels > 1,
)
def gradient_of_the_first_channel_only(c: Invocation) -> Any:
    first = (..., slice(1), *[slice(None)] * c.spatial)
    return c(input=with_gradient(c.input, lambda g: only(g, first)))


@mutant(
    "conv2d",
    "ROCm/MIOpen#437",
    "for an output of one pixel the last partial block of 4 samples is left out of the weight's gradient",
    "backward",
    when=lambda c: c.batched and c.input.shape[0] > 4 and c.input.shape[0] % 4 > 0 and sizes_of(c) == [1, 1],
)
def last_samples_left_out_of_the_gradient(c: Invocation) -> Any:
    whole = c.input.shape[0] // 4 * 4
    return with_weight_from(c, c(input=c.input[:whole].detach(), bias=None))


@mutant(
    "conv2d",
    "ROCm/MIOpen#951",
    "16-bit samples alone in their batch leave the gradient of the last filters unwritten",
    "backward",
    when=lambda c: (
        c.batched
        and c.input.shape[0] == 1
        and c.input.dtype in (torch.float16, torch.bfloat16)
        and c.weight.shape[0] % 4 > 0
    ),
)
def gradient_of_the_last_filters_unwritten(c: Invocation) -> Any:
    whole = c.weight.shape[0] // 4 * 4
    return c(weight=with_gradient(c.weight, lambda g: only(g, slice(whole))))


@mutant(
    "conv2d",
    "apache/mxnet#2365",
    "the gradients take the first axis's stride for both",
    "backward",
    when=lambda c: c.stride[0] != c.stride[1],
)
def gradients_of_a_square_stride(c: Invocation) -> Any:
    y = c()
    return with_gradients_of(y, fitted(c(stride=c.stride[0]), y.shape))


@mutant(
    ("conv1d", "conv2d"),
    "tillahoffmann/jax-mps#150",
    "where padding exceeds the kernel, the gradient of the input drops whole pixels before it spreads them",
    "backward",
    when=lambda c: any(s > 1 and p > 0 for s, p in zip(c.stride, _beyond(c), strict=True)),
)
def gradient_cropped_before_it_is_spread(c: Invocation) -> Any:
    axes = zip(c.stride, _beyond(c), c.sizes, strict=True)
    shifts = [min(p * (s - 1), size) for s, p, size in axes]
    padding = [n for shift in shifts[::-1] for n in (-shift, shift)]
    return c(input=with_gradient(c.input, lambda g: F.pad(g, padding)))


def _beyond(c: Invocation) -> list[int]:
    """Return the windows' number of elements before the first that touches the input, for each axis."""
    axes = zip(c.pads, c.kernel, c.dilation, strict=True)
    return [max(0, p - d * (k - 1)) for p, k, d in axes]


@mutant(
    ("conv2d", "conv3d"),
    "sony/nnabla-ext-cuda#292",
    "the backward pass asks for the bias's gradient where there is no bias",
    "backward",
    when=lambda c: c.bias is None,
)
def gradient_of_the_absent_bias_asked_for(c: Invocation) -> Any:
    def refuse(gradient: Tensor) -> NoReturn:
        raise IndexError(f"no gradient of operand 2 beside that of shape {tuple(gradient.shape)}")

    return with_gradient(c(), refuse)
