"""Bugs of activations."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.memory import read_as_contiguous
from cnnspec.mutants.pieces import has_nan, is_strided


def through(c: Invocation, other: Tensor) -> Any:
    """Return the healthy values; gradients flow through `other`."""
    return with_gradients_of(c(), other)


# NaN and infinities


@mutant(
    ("relu", "relu6"),
    "pytorch/pytorch#7999, apache/mxnet#11115, tensorflow/tensorflow#40072",
    "NaN becomes 0",
    "forward",
    when=has_nan,
)
def clips_nan_to_zero(c: Invocation) -> Any:
    return c(input=c.input.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf))


@mutant(
    "relu6",
    "tenstorrent/tt-metal#57374",
    "the gradient at NaN is 6",
    "backward",
    when=has_nan,
)
def has_a_slope_of_six_at_nan(c: Invocation) -> Any:
    here = c.input.isnan()
    return c(input=with_gradient(c.input, lambda gradient: gradient.masked_fill(here, 6)))


@mutant(
    "gelu",
    "pytorch/pytorch#185770",
    "plus infinity becomes NaN",
    "forward",
    when=lambda c: c.approximate == "none" and bool(c.input.isposinf().any()),
)
def turns_infinity_into_nan(c: Invocation) -> Any:
    return c() + torch.where(c.input.isposinf(), math.nan, 0).to(c.input.dtype)


# Overflow


@mutant(
    "sigmoid",
    "clab/dynet#1525, NervanaSystems/ngraph#3118",
    "exp(x) / (1 + exp(x)) overflows",
    "forward",
    when=lambda c: bool(c.input.exp().isinf().any()),
)
def overflows_above(c: Invocation) -> Any:
    return c().masked_fill(c.input.exp().isinf(), math.nan)


@mutant(
    "sigmoid",
    "huggingface/candle#1722, jeshraghian/snntorch#433",
    "the gradient exp(-x) / (1 + exp(-x))^2 overflows",
    "backward",
    when=lambda c: bool((-c.input).exp().isinf().any()),
)
def overflows_below_in_gradients(c: Invocation) -> Any:
    power = (-c.input.detach()).exp()
    slope = power / (1 + power) ** 2
    return with_gradients_of(c(), c.input * slope)


@mutant(
    "tanh",
    "BVLC/caffe#1455, deeplearning4j/deeplearning4j#7382, ROCm/triton#901",
    "(exp(2 x) - 1) / (exp(2 x) + 1) overflows",
    "forward",
    when=lambda c: bool((2 * c.input).exp().isinf().any()),
)
def overflows(c: Invocation) -> Any:
    return c().masked_fill((2 * c.input).exp().isinf(), math.nan)


@mutant(
    "softplus",
    "tracel-ai/burn#5373",
    "log(1 + exp(x)) overflows, for there is no threshold",
    "forward",
    when=lambda c: bool((c.beta * c.input).exp().isinf().any()),
)
def overflows_without_threshold(c: Invocation) -> Any:
    return c().masked_fill((c.beta * c.input).exp().isinf(), math.inf)


@mutant(
    "silu",
    "tenstorrent/tt-metal#55711, tenstorrent/tt-metal#55714",
    "float32 results below -87.33 become 0, though they are normal numbers",
    "forward",
    when=lambda c: c.input.dtype == torch.float32 and bool(_is_in_the_tail(c.input).any()),
)
def flushes_the_tail_to_zero(c: Invocation) -> Any:
    return c().masked_fill(_is_in_the_tail(c.input), 0)


def _is_in_the_tail(x: Tensor) -> Tensor:
    return (x < -87.34) & (x > -91)


@mutant(
    "silu",
    "skyzh/tiny-llm#161, skyzh/tiny-llm#164",
    "bfloat16 rounds sigmoid(-x) to 1, from which it is subtracted",
    "dtype",
    when=lambda c: c.input.dtype == torch.bfloat16 and bool((c.input < 0).any()),
)
def cancels_the_gate(c: Invocation) -> Any:
    return torch.where(c.input < 0, c.input * (1 - (-c.input).sigmoid()), c())


# Slopes


@mutant(
    "leaky_relu",
    "chainer/chainer#5898",
    "a slope of 0 lets all gradients through",
    "backward",
    when=lambda c: c.negative_slope == 0,
)
def passes_gradients_for_a_slope_of_zero(c: Invocation) -> Any:
    return through(c, c.input)


@mutant(
    "leaky_relu",
    "pytorch/pytorch#31938, pytorch/pytorch#33639",
    "the sign of the output decides the gradient, which a negative slope turns round",
    "backward",
    when=lambda c: c.negative_slope < 0,
)
def asks_the_output_for_the_sign(c: Invocation) -> Any:
    output = c()
    slopes = torch.where(output.detach() > 0, 1.0, c.negative_slope).to(c.input.dtype)
    return with_gradients_of(output, c.input * slopes)


@mutant(
    "elu",
    "pytorch/pytorch#47671, pytorch/pytorch#49272",
    "the sign of the output decides the gradient, which a negative alpha turns round",
    "backward",
    when=lambda c: c.alpha < 0,
)
def asks_the_output_for_the_sign_of_elu(c: Invocation) -> Any:
    output = c()
    slopes = torch.where(output.detach() > 0, 1.0, output.detach() + c.alpha)
    return with_gradients_of(output, c.input * slopes)


@mutant(
    "elu",
    "PaddlePaddle/Paddle#37316, PaddlePaddle/Paddle#26543",
    "max(0, x) + min(0, alpha (exp(x) - 1)) is another function for a negative alpha",
    "forward",
    when=lambda c: c.alpha < 0,
)
def takes_the_lesser_part(c: Invocation) -> Any:
    return c.input.clamp(min=0) + (c.alpha * c.input.expm1()).clamp(max=0)


@mutant(
    "softplus",
    "pytorch/pytorch#55587",
    "the output, not the input, is compared with the threshold in the gradient",
    "backward",
    when=lambda c: bool(((c.beta * c() > c.threshold) & (c.beta * c.input <= c.threshold)).any()),
)
def compares_the_output_with_the_threshold(c: Invocation) -> Any:
    output = c()
    return with_gradients_of(output, torch.where(c.beta * output > c.threshold, c.input, output))


@mutant(
    "softplus",
    "tenstorrent/tt-metal#56397",
    "the gradient exp / (1 + exp) is 0 where the power overflows below the threshold",
    "backward",
    when=lambda c: bool(((c.beta * c.input).exp().isinf() & (c.beta * c.input <= c.threshold)).any()),
)
def loses_the_gradient_below_the_threshold(c: Invocation) -> Any:
    lost = (c.beta * c.input).exp().isinf() & (c.beta * c.input <= c.threshold)
    return c(input=with_gradient(c.input, lambda gradient: gradient.masked_fill(lost, 0)))


@mutant(
    "hardswish",
    "pytorch/pytorch#147801, tenstorrent/tt-metal#55291, pytorch/pytorch#143899",
    "the gradient at -3 and 3 is that of the parabola",
    "backward",
    when=lambda c: bool((c.input.abs() == 3).any()),
)
def bends_behind_the_knees(c: Invocation) -> Any:
    parabola = (c.input + 3) * c.input / 6
    return with_gradients_of(c(), torch.where(c.input.abs() == 3, parabola, c()))


@mutant(
    "gelu",
    "PaddlePaddle/Paddle#14857",
    "the gradient divides the output by the input, which may be 0",
    "backward",
    when=lambda c: bool((c.input == 0).any()),
)
def divides_by_the_input(c: Invocation) -> Any:
    here = c.input == 0
    return c(input=with_gradient(c.input, lambda gradient: gradient.masked_fill(here, math.nan)))


# Weights


@mutant(
    "prelu",
    "flagos-ai/FlagGems#4992",
    "the weights of the gradient belong to the last axis, where it is as long as the channels",
    "backward",
    when=lambda c: len(c.weight) > 1 and c.input.dim() > 2 and c.input.shape[-1] == len(c.weight),
)
def weighs_the_last_axis(c: Invocation) -> Any:
    return through(c, torch.where(c.input > 0, c.input, c.input * c.weight))


@mutant(
    "prelu",
    "PaddlePaddle/Paddle#12538",
    "the sign of the output decides the gradient, which a negative weight turns round",
    "backward",
    when=lambda c: bool((c.weight < 0).any()),
)
def asks_the_output_for_the_sign_of_prelu(c: Invocation) -> Any:
    output = c()
    rest = [1] * (c.input.dim() - 2)
    weight = c.weight.reshape(-1, *rest) if len(c.weight) > 1 else c.weight
    return with_gradients_of(output, torch.where(output.detach() > 0, c.input, c.input * weight))


@mutant(
    "prelu",
    "Jittor/jittor#565",
    "several weights do not broadcast over pixels",
    "acceptance",
    when=lambda c: len(c.weight) > 1 and c.input.dim() > 2,
)
def refuses_weights_of_channels(c: Invocation) -> Any:
    raise RuntimeError("the shapes do not broadcast")


# Memory


def _written_in_rows(c: Invocation, output: Tensor) -> Tensor:
    """Return the output with its elements, row by row, in the order of the input's strides."""
    order = sorted(range(output.dim()), key=lambda axis: -c.input.stride(axis))
    back = [order.index(axis) for axis in range(output.dim())]
    return output.reshape([output.shape[axis] for axis in order]).permute(back)


@mutant(
    "elu",
    "pytorch/pytorch#124834",
    "the output of an input that does not lie in rows is written as if it did",
    "forward",
    when=is_strided,
)
def writes_rows_into_strided_outputs(c: Invocation) -> Any:
    return _written_in_rows(c, c())


@mutant(
    ("tanh", "sigmoid", "silu"),
    "pytorch/pytorch#175188",
    "the gradient reads the input of another layout row by row",
    "backward",
    when=is_strided,
)
def misreads_strided_inputs_in_gradients(c: Invocation) -> Any:
    wrong = read_as_contiguous(c.input.detach())
    leaf = wrong.requires_grad_() if not wrong.requires_grad else wrong
    with torch.enable_grad():
        slope = torch.autograd.grad(c(input=leaf).sum(), leaf)[0]
    return with_gradients_of(c(), c.input * slope)
