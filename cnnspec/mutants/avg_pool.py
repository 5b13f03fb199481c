"""Bugs of average pooling: what it divides by, its sizes, its gradients, and what it accepts."""

import math
import os
import signal
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.memory import is_channels_last, without_channels
from cnnspec.mutants.pieces import fitted
from cnnspec.mutants.windows import (
    is_legal,
    outputs,
    overhangs,
    padded,
    planes,
    room,
    spread,
    taps,
    unclamped,
    windowed,
    windows,
)

F = torch.nn.functional
AVG = ("avg_pool1d", "avg_pool2d", "avg_pool3d")
IMAGES = ("avg_pool2d", "avg_pool3d")


def is_padded(c: Invocation) -> bool:
    """Say whether there is padding, around windows that are legal."""
    return max(c.padding) > 0 and is_legal(c)


def is_free(c: Invocation) -> bool:
    """Say whether the divisor is that of the windows."""
    return getattr(c, "divisor_override", None) is None


def sums(c: Invocation) -> Tensor:
    """Return the sum of each window's elements."""
    return spread(c, windowed(c, taps(c), 0).sum(-1))


# Divisors


@mutant(
    "avg_pool1d",
    "pytorch/pytorch#143720",
    "a window on a single element is divided by 1",
    "forward",
    when=lambda c: c.input.numel() == 1 and c.count_include_pad and is_padded(c),
)
def divides_a_single_element_by_one(c: Invocation) -> Any:
    return c(count_include_pad=False)


@mutant(
    IMAGES,
    "pytorch/executorch#18616",
    "divisor_override is ignored where the padding does not count",
    "forward",
    when=lambda c: c.divisor_override is not None and not c.count_include_pad,
)
def ignores_the_divisor_without_padding(c: Invocation) -> Any:
    return c(divisor_override=None)


@mutant(
    AVG,
    "apple/coremltools#2844, microsoft/onnxruntime#16203, PaddlePaddle/Paddle#14452, NVIDIA/TensorRT#779",
    "a window that hangs over in ceil mode is divided by the size of the kernel",
    "forward",
    when=lambda c: (
        is_free(c) and (c.count_include_pad or not max(c.padding)) and is_legal(c) and overhangs(c)
    ),
)
def counts_the_overhang(c: Invocation) -> Any:
    return sums(c) / math.prod(c.kernel)


@mutant(
    IMAGES,
    "pytorch/pytorch#62636",
    "the divisor is taken for that of each axis",
    "forward",
    when=lambda c: bool(c.divisor_override),
)
def divides_once_for_each_axis(c: Invocation) -> Any:
    return c(divisor_override=c.divisor_override**c.spatial)


def _shares(c: Invocation) -> Tensor:
    """Return the number of taps of each window on the input and the padding before it."""
    table = torch.ones(1)
    for window, size in zip(windows(c), c.sizes, strict=True):
        starts = torch.arange(window.output_size(size)) * window.stride - window.before
        counts = (starts + window.kernel).clamp(max=size) - starts
        table = (table[:, None] * counts).flatten()
    return table


@mutant(
    AVG,
    "microsoft/onnxruntime#29631",
    "the padding behind the input does not count",
    "forward",
    when=lambda c: is_free(c) and bool(c.count_include_pad) and is_padded(c),
)
def drops_the_padding_behind(c: Invocation) -> Any:
    return sums(c) / _shares(c).reshape(outputs(c)).to(c.input.dtype)


@mutant(
    ("avg_pool1d", "avg_pool3d"),
    "apache/mxnet#10194",
    "padding counts where it must not, and does not where it must",
    "forward",
    when=lambda c: is_free(c) and max(c.padding) > 0,
)
def turns_count_include_pad_round(c: Invocation) -> Any:
    return c(count_include_pad=not c.count_include_pad)


@mutant(
    "avg_pool2d",
    "neo-ai/tvm#32",
    "count_include_pad is not passed on",
    "forward",
    when=lambda c: is_free(c) and max(c.padding) > 0 and bool(c.count_include_pad),
)
def ignores_count_include_pad(c: Invocation) -> Any:
    return c(count_include_pad=False)


@mutant(
    "avg_pool2d",
    "FluxML/NNlib.jl#238",
    "negative averages of windows on the padding become 0",
    "forward",
    when=is_padded,
)
def lifts_averages_on_the_padding_to_zero(c: Invocation) -> Any:
    average = c()
    beside = (taps(c) < 0).any(-1).reshape(outputs(c))
    return torch.where(beside, average.clamp(min=0), average)


# Sizes


def _one_more(c: Invocation) -> list[int]:
    """Return the sizes with one window more where the division has no remainder."""
    axes = zip(unclamped(c), room(c), c.stride, strict=True)
    return [out + (free % s == 0) for out, free, s in axes]


@mutant(
    "avg_pool2d",
    "apache/tvm#18594",
    "ceil mode adds a window where the stride divides the room",
    "shape",
    when=lambda c: c.ceil_mode and is_legal(c) and _one_more(c) != unclamped(c),
)
def adds_a_window_to_exact_divisions(c: Invocation) -> Any:
    return c(input=padded(c, _one_more(c), 0), padding=0, ceil_mode=False)


@mutant(
    AVG,
    "pytorch/pytorch#116420, mlpack/mlpack#2886",
    "ceil mode keeps a last window that starts behind the input",
    "shape",
    when=lambda c: c.ceil_mode and is_legal(c) and outputs(c) != unclamped(c),
)
def keeps_windows_behind_the_input(c: Invocation) -> Any:
    return c(input=padded(c, unclamped(c), 0), padding=0, ceil_mode=False)


# Gradients


@mutant(
    "avg_pool2d",
    "pytorch/pytorch#188344, pytorch/pytorch#188345, pytorch/pytorch#107201",
    "the gradient of a channels_last input is not moved back by the padding",
    "backward",
    when=lambda c: is_channels_last(c.input) and is_padded(c),
)
def forgets_padding_in_channels_last_gradients(c: Invocation) -> Any:
    average = c()
    behind = [side for p in reversed(c.padding) for side in (0, 2 * p)]
    moved = c(input=F.pad(c.input, behind), padding=0)
    return with_gradients_of(average, fitted(moved, average.shape))


def _with_steps_of_one_plane(gradient: Tensor) -> Tensor:
    """Return the gradient with image n taken n planes, not n volumes, behind the first."""
    shape = without_channels(gradient.shape)
    flat = gradient.movedim(1, -1).flatten()
    count, step = math.prod(shape[1:]), math.prod(shape[2:])
    images = [flat[n * step : n * step + count] for n in range(shape[0])]
    return torch.stack(images).reshape(shape).movedim(-1, 1)


@mutant(
    "avg_pool3d",
    "pytorch/pytorch#171869",
    "the gradients of channels_last volumes start one plane behind each other",
    "backward",
    when=lambda c: is_channels_last(c.input) and c.batched and c.input.shape[0] > 1 and c.sizes[0] > 1,
)
def steps_by_planes_through_the_batch(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, _with_steps_of_one_plane))


# Acceptance


@mutant(
    IMAGES,
    "pytorch/pytorch#179303",
    "a divisor of 0 is taken for none",
    "acceptance",
    when=lambda c: c.divisor_override == 0,
)
def accepts_a_divisor_of_zero(c: Invocation) -> Any:
    return c(divisor_override=None)


@mutant(
    "avg_pool2d",
    "CanReader/FastNN#5",
    "padding of more than half the window is accepted",
    "acceptance",
    when=lambda c: min(c.padding) >= 0 and any(2 * p > k for p, k in zip(c.padding, c.kernel, strict=True)),
)
def accepts_any_padding(c: Invocation) -> Any:
    return c(input=padded(c, outputs(c), 0), padding=0)


@mutant(
    "avg_pool1d",
    "pytorch/pytorch#94698",
    "the number of axes is not checked",
    "acceptance",
    when=lambda c: c.input.dim() not in (2, 3),
)
def accepts_any_number_of_axes(c: Invocation) -> Any:
    return c(input=planes(c.input, 1).flatten(0, -2) if c.input.dim() > 1 else c.input[None])


@mutant(
    "avg_pool2d",
    "pytorch/pytorch#41767, pytorch/pytorch#145077",
    "a stride of 0 divides by zero, and the process ends",
    "crash",
    when=lambda c: 0 in c.stride,
)
def dies_of_a_stride_of_zero(c: Invocation) -> Any:
    os.kill(os.getpid(), signal.SIGFPE)
