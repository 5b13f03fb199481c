"""Bugs of batch norm and instance norm."""

import math
import os
import signal
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.memory import in_channels_last, is_channels_last, named_channels_last, read_in_rows
from cnnspec.mutants.pieces import added_in_turn

BATCH = ("batch_norm1d", "batch_norm2d", "batch_norm3d")
INSTANCE = ("instance_norm1d", "instance_norm2d", "instance_norm3d")


def is_training(c: Invocation) -> bool:
    """Say whether the statistics are those of the batch, as a whole or image by image."""
    return bool(c.kwargs.get("training", c.kwargs.get("use_input_stats", False)))


def is_tracked(c: Invocation) -> bool:
    """Say whether the call updates running statistics, from something."""
    return is_training(c) and c.running_var is not None and c.input.numel() > 0


def is_evaluated(c: Invocation) -> bool:
    """Say whether the statistics are the running ones."""
    return not is_training(c) and c.running_var is not None


def count(c: Invocation) -> int:
    """Return how many numbers of the batch, or of an image, share their statistics."""
    pixels = math.prod(c.input.shape[2:])
    return int(pixels if c.operator in INSTANCE else pixels * c.input.shape[0])


def along_channels(c: Invocation, values: Tensor | None, default: float) -> Tensor | float:
    """Return one value for each channel in the shape that broadcasts."""
    return default if values is None else values.reshape(-1, *[1] * (c.input.dim() - 2))


def normalised(c: Invocation, mean: Tensor, variance: Tensor, input: Tensor | None = None) -> Tensor:
    """Return (input - mean) / sqrt(variance + eps) * weight + bias."""
    scaled: Tensor = ((c.input if input is None else input) - mean) * (variance + c.eps).rsqrt()
    return scaled * along_channels(c, c.weight, 1.0) + along_channels(c, c.bias, 0.0)


def axes(c: Invocation) -> list[int]:
    """Return the axes over which the statistics of a batch are taken."""
    return [0, *range(2, c.input.dim())]


# Running statistics


@mutant(
    ("batch_norm1d", "batch_norm2d"),
    "pytorch/pytorch#12013",
    "an empty batch turns the running statistics into NaN",
    "state",
    when=lambda c: c.input.numel() == 0 and is_training(c) and c.running_mean is not None,
)
def averages_an_empty_batch(c: Invocation) -> Any:
    c.running_mean.data.mul_(1 - c.momentum).add_(math.nan)
    c.running_var.data.mul_(1 - c.momentum)
    return c()


def _biased(c: Invocation) -> Any:
    """Return the output; the running variance takes in the variance divided by the count."""
    kept = (1 - c.momentum) * c.running_var.detach()
    output, n = c(), count(c)
    c.running_var.data.copy_(kept + (c.running_var.detach() - kept) * (n - 1) / n)
    return output


@mutant(
    "batch_norm2d",
    "ml-explore/mlx#3817, tenstorrent/tt-metal#55438",
    "the running variance takes in the biased variance",
    "state",
    when=is_tracked,
)
def tracks_the_biased_variance(c: Invocation) -> Any:
    return _biased(c)


@mutant(
    ("batch_norm1d", "batch_norm3d"),
    "tensorflow/tensorflow#55545",
    "the running variance takes in the biased variance where the input is not images",
    "state",
    when=lambda c: is_tracked(c) and c.input.dim() != 4,
)
def tracks_the_biased_variance_but_of_images(c: Invocation) -> Any:
    return _biased(c)


@mutant(
    BATCH,
    "pytorch/pytorch#20967, pytorch/pytorch#38084",
    "evaluation updates the running statistics",
    "state",
    when=lambda c: is_evaluated(c) and c.input.numel() > 0 and count(c) > 1,
)
def tracks_in_evaluation(c: Invocation) -> Any:
    output = c()
    with torch.no_grad():
        c(running_mean=c.running_mean.data, running_var=c.running_var.data, training=True)
    return output


@mutant(
    BATCH,
    "pytorch/pytorch#15298",
    "momentum is the share that running statistics keep",
    "state",
    when=lambda c: is_tracked(c) and c.momentum != 0.5,
)
def turns_momentum_round(c: Invocation) -> Any:
    return c(momentum=1 - c.momentum)


@mutant(
    INSTANCE,
    "flagos-ai/FlagGems#4885",
    "the variance is recovered from its root with eps added once more",
    "state",
    when=lambda c: is_tracked(c) and count(c) > 1,
)
def adds_eps_to_the_running_variance(c: Invocation) -> Any:
    output, n = c(), count(c)
    c.running_var.data.add_(2 * c.eps * c.momentum * n / (n - 1))
    return output


# Acceptance


@mutant(
    BATCH,
    "torch/nn#1271, tensorflow/tensorflow#34062, pytorch/pytorch#1381",
    "one value for each channel is accepted in training, and the running variance becomes NaN",
    "acceptance",
    when=lambda c: is_training(c) and count(c) == 1,
)
def trains_on_one_value(c: Invocation) -> Any:
    given = (c.input, c.weight, c.bias, c.running_mean, c.running_var)
    return torch.batch_norm(*given, True, c.momentum, c.eps, False)


@mutant(
    "batch_norm1d",
    "pytorch/pytorch#156051",
    "a batch of one is refused in evaluation",
    "acceptance",
    when=lambda c: is_evaluated(c) and count(c) == 1,
)
def refuses_one_value_in_evaluation(c: Invocation) -> Any:
    raise ValueError("Expected more than 1 value per channel when training")


@mutant(
    INSTANCE,
    "pytorch/pytorch#19250, pytorch/pytorch#45687, pytorch/pytorch#56659",
    "images of one pixel are accepted",
    "acceptance",
    when=lambda c: is_training(c) and count(c) == 1,
)
def normalises_one_pixel(c: Invocation) -> Any:
    given = (c.input, c.weight, c.bias, c.running_mean, c.running_var)
    return torch.instance_norm(*given, True, c.momentum, c.eps, False)


@mutant(
    INSTANCE,
    "pytorch/pytorch#39049",
    "a batch of no images ends the process",
    "crash",
    when=lambda c: c.input.numel() == 0,
)
def dies_of_an_empty_batch(c: Invocation) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


# Values


@mutant(
    "batch_norm2d",
    "chainer/chainer#2214",
    "eps is not added to the running variance",
    "forward",
    when=is_evaluated,
)
def evaluates_without_eps(c: Invocation) -> Any:
    return c(eps=0.0)


@mutant(
    "batch_norm2d",
    "pytorch/pytorch#62839",
    "the output of a channels_last image is written channel by channel",
    "forward",
    when=lambda c: is_channels_last(c.input) and c.batched and is_evaluated(c),
)
def writes_rows_into_channels_last(c: Invocation) -> Any:
    return in_channels_last(named_channels_last(c()))


def _mean_of_squares(c: Invocation, squares: Tensor) -> Tensor:
    """Return the output in training, the variance being mean(x^2) - mean(x)^2."""
    mean = c.input.mean(axes(c), keepdim=True)
    return normalised(c, mean, squares.mean(axes(c), keepdim=True) - mean**2)


@mutant(
    ("batch_norm2d", "batch_norm3d"),
    "tenstorrent/tt-metal#45968",
    "the variance is the mean of the squares less the square of the mean, which cancels",
    "forward",
    when=lambda c: is_training(c) and c.input.numel() > 0 and count(c) > 1,
)
def cancels_the_variance(c: Invocation) -> Any:
    output = c()
    return _mean_of_squares(c, c.input**2).to(output.dtype)


def _summed(numbers: Tensor) -> Tensor:
    """Return the sums over images and pixels, rounded to the tensor's own type after each."""
    return added_in_turn(numbers.transpose(0, 1).flatten(1)).reshape(-1, *[1] * (numbers.dim() - 2))


@mutant(
    ("batch_norm2d", "batch_norm3d"),
    "microsoft/tensorflow-directml-plugin#321",
    "sums of float16 are held in float16",
    "dtype",
    when=lambda c: c.input.dtype == torch.float16 and is_training(c) and count(c) > 16,
)
def holds_sums_in_float16(c: Invocation) -> Any:
    output, n = c(), count(c)
    mean = _summed(c.input) / n
    return normalised(c, mean, _summed((c.input - mean) ** 2) / n).to(output.dtype)


MANY = 32
"""A count that float16 does not hold; 65,504 in the report."""


@mutant(
    "batch_norm2d",
    "tensorflow/tensorflow#30230",
    "the count of a float16 batch is infinite, and so is what it divides",
    "dtype",
    when=lambda c: c.input.dtype == torch.float16 and is_tracked(c) and count(c) > MANY,
)
def counts_in_float16(c: Invocation) -> Any:
    output = c()
    c.running_var.data.mul_(math.nan)
    return output


# Gradients


@mutant(
    BATCH,
    "FluxML/NNlib.jl#548, FluxML/Flux.jl#2179",
    "evaluation has no gradient",
    "backward",
    when=lambda c: is_evaluated(c) and c.input.requires_grad,
)
def drops_gradients_in_evaluation(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, torch.zeros_like))


FEW = 4
"""Images that take part in the gradient's means where there is one pixel; 768 in the report."""


@mutant(
    BATCH,
    "ROCm/MIOpen#1109",
    "images from a certain one on take no part in the means of the gradient where there is one pixel",
    "backward",
    when=lambda c: is_training(c) and c.input.dim() > 1 and len(c.input) > FEW and count(c) == len(c.input),
)
def leaves_images_out_of_the_gradient(c: Invocation) -> Any:
    kept = torch.cat([c.input[:FEW], c.input[FEW:].detach()])
    mean = kept.mean(axes(c), keepdim=True)
    variance = kept.var(axes(c), unbiased=False, keepdim=True)
    return with_gradients_of(c(), normalised(c, mean, variance))


@mutant(
    ("batch_norm2d", "batch_norm3d"),
    "pytorch/pytorch#175189",
    "the gradient of a channels_last input is worked out from its channels one by one",
    "backward",
    when=lambda c: is_channels_last(c.input) and c.batched and is_training(c) and count(c) > 1,
)
def misreads_channels_last_in_gradients(c: Invocation) -> Any:
    wrong = read_in_rows(c.input)
    mean = wrong.mean(axes(c), keepdim=True)
    variance = wrong.var(axes(c), unbiased=False, keepdim=True)
    return with_gradients_of(c(), normalised(c, mean, variance, wrong))
