"""Bugs of convolutions: windows, padding, channels and bias."""

from typing import Any

import torch

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.pieces import (
    channel_axis,
    fitted,
    only,
    padded_by,
    sizes_of,
)


def is_empty(c: Invocation) -> bool:
    """Say whether the batch is empty."""
    return c.batched and c.input.shape[0] == 0


def is_dense_3x3(c: Invocation) -> bool:
    """Say whether Winograd's algorithm for 3 x 3 would be taken."""
    return c.kernel == (3, 3) and c.stride == (1, 1) and c.dilation == (1, 1)


# Windows


@mutant(
    "conv2d",
    "pytorch/pytorch#83180",
    "the strides of the two axes change places",
    "forward",
    when=lambda c: c.stride[0] != c.stride[1],
)
def strides_swapped(c: Invocation) -> Any:
    return c(stride=c.stride[::-1])


@mutant(
    "conv2d",
    "tenstorrent/tt-metal#19542",
    "the width is computed with the kernel and dilation of the height",
    "shape",
    when=lambda c: c.dilation[0] * (c.kernel[0] - 1) != c.dilation[1] * (c.kernel[1] - 1),
)
def width_from_the_height_of_the_kernel(c: Invocation) -> Any:
    y = c()
    width = (c.sizes[1] + c.padded[1] - c.dilation[0] * (c.kernel[0] - 1) - 1) // c.stride[1] + 1
    return fitted(y, (*y.shape[:-1], max(0, width)))


@mutant(
    "conv1d",
    "huggingface/candle#68",
    "windows move by one element whatever the stride",
    "forward",
    when=lambda c: c.stride[0] > 1,
)
def stride_of_reads_ignored(c: Invocation) -> Any:
    return c(stride=1)[..., : c().shape[-1]]


@mutant(
    "conv2d",
    "tensorflow/tensorflow#55799",
    "32 filters and more take the first axis's dilation for both",
    "forward",
    when=lambda c: c.dilation[0] != c.dilation[1] and c.weight.shape[0] >= 32,
)
def dilation_of_the_first_axis(c: Invocation) -> Any:
    return c(dilation=c.dilation[0])


@mutant(
    "conv2d",
    "apache/tvm#4260",
    "the schedule for 3 x 3 and stride 1 pads by 1, whatever is asked",
    "shape",
    when=lambda c: is_dense_3x3(c) and c.pads != (1, 1),
)
def padding_of_the_schedule(c: Invocation) -> Any:
    return c(padding=1)


@mutant(
    "conv2d",
    "apache/tvm#13117",
    "the schedule for 3 x 3 and stride 1 reads the kernel with its axes exchanged",
    "forward",
    when=is_dense_3x3,
)
def kernel_transposed(c: Invocation) -> Any:
    return c(weight=c.weight.transpose(-1, -2))


@mutant(
    "conv2d",
    "apache/tvm#7090",
    "Winograd's algorithm for 3 x 3 refuses images that are not square",
    "acceptance",
    when=lambda c: is_dense_3x3(c) and c.sizes[0] != c.sizes[1],
)
def image_must_be_square(c: Invocation) -> Any:
    raise ValueError(f"height and width differ: {c.sizes}")


@mutant(
    "conv2d",
    "dotnet/TorchSharp#496",
    "padding whose first number is 0 is read as 'valid'",
    "shape",
    when=lambda c: not isinstance(c.padding, str) and c.padding[0] == 0 != c.padding[1],
)
def leading_zero_padding_is_valid(c: Invocation) -> Any:
    return c(padding=0)


@mutant(
    ("conv2d", "conv3d"),
    "pytorch/pytorch#98448",
    "stride, padding or dilation given as a list of one number counts for the first axis only",
    "forward",
    when=lambda c: any(
        isinstance(c.kwargs.get(name), tuple | list) and len(c.kwargs[name]) == 1
        for name in ("stride", "padding", "dilation")
    ),
)
def list_of_one_is_not_repeated(c: Invocation) -> Any:
    rest = {"stride": 1, "padding": 0, "dilation": 1}
    given = {name: c.kwargs.get(name) for name in rest}
    alone = {name: one for name, one in given.items() if isinstance(one, tuple | list) and len(one) == 1}
    return c(**{name: (*one, *[rest[name]] * (c.spatial - 1)) for name, one in alone.items()})


# Padding conventions


@mutant(
    "conv2d",
    "tensorflow/tensorflow#10747",
    "with a stride only the padding that is needed is added, the odd pixel behind",
    "forward",
    when=lambda c: max(c.stride) > 1 and max(c.pads) > 0 and _needed(c) != [(p, p) for p in c.pads],
)
def padding_of_the_same_convention(c: Invocation) -> Any:
    return padded_by(c, _needed(c))


def _needed(c: Invocation) -> list[tuple[int, int]]:
    axes = zip(sizes_of(c), c.stride, c.dilation, c.kernel, c.sizes, strict=True)
    totals = [max(0, (new - 1) * s + d * (k - 1) + 1 - size) for new, s, d, k, size in axes]
    return [(total // 2, total - total // 2) for total in totals]


@mutant(
    ("conv1d", "conv2d"),
    "tensorflow/tensorflow#14601",
    "a stride that is larger than the kernel starts behind half of the pixels that no window covers",
    "forward",
    when=lambda c: (
        not any(c.pads)
        and all(s > k for s, k in zip(c.stride, c.kernel, strict=True))
        and max(_uncovered(c)) > 1
    ),
)
def uncovered_pixels_cropped_evenly(c: Invocation) -> Any:
    return padded_by(c, [(-(one // 2), one // 2) for one in _uncovered(c)])


def _uncovered(c: Invocation) -> list[int]:
    """Return how many pixels lie behind the last window, for each axis."""
    axes = zip(sizes_of(c), c.stride, c.dilation, c.kernel, c.sizes, strict=True)
    return [size - ((new - 1) * s + d * (k - 1) + 1) for new, s, d, k, size in axes]


# Channels, bias


@mutant(
    "conv2d",
    "tenstorrent/tt-metal#20768",
    "channels are filled up to a multiple of 16 with what memory holds, and counted",
    "forward",
    when=lambda c: c.groups == 1 and c.channels % 16 > 0,
)
def padding_lanes_counted(c: Invocation) -> Any:
    axis = channel_axis(c)
    more = torch.cat([c.input, c.input.narrow(axis, 0, 1)], axis)
    return c(input=more, weight=torch.cat([c.weight, c.weight[:, :1]], 1))


@mutant(
    "conv2d",
    "ARM-software/armnn#169",
    "where neither channel count is a multiple of 4 the last filters repeat the first",
    "forward",
    when=lambda c: c.channels % 4 > 0 and c.weight.shape[0] % 4 > 0 and c.weight.shape[0] > 4,
)
def last_filters_repeat_the_first(c: Invocation) -> Any:
    y, axis = c(), channel_axis(c)
    whole = c.weight.shape[0] // 4 * 4
    return torch.cat([y.narrow(axis, 0, whole), y.narrow(axis, 0, c.weight.shape[0] - whole)], axis)


@mutant(
    "conv2d",
    "pytorch/pytorch#102968",
    "products beyond the last whole block of 16 are left out",
    "forward",
    when=lambda c: c.weight[0].numel() > 16 and c.weight[0].numel() % 16 > 0,
)
def last_block_of_products_dropped(c: Invocation) -> Any:
    whole = c.weight[0].numel() // 16 * 16
    return c(weight=only(c.weight.flatten(1), (slice(None), slice(whole))).reshape(c.weight.shape))


@mutant(
    "conv2d",
    "pytorch/functorch#338",
    "a bias that is absent is taken for one of a single zero",
    "acceptance",
    when=lambda c: c.bias is None and c.weight.shape[0] > 1,
)
def absent_bias_has_one_element(c: Invocation) -> Any:
    return c(bias=torch.zeros(1, dtype=c.weight.dtype))


@mutant(
    "conv3d",
    "pytorch/pytorch#185352, pytorch/pytorch#82093",
    "the bias of a volume without a batch axis is added along its depth, where the kernel is dilated",
    "forward",
    when=lambda c: not c.batched and c.bias is not None and max(c.dilation) > 1,
)
def bias_along_the_depth(c: Invocation) -> Any:
    y = c(bias=None)
    return y + c.bias[torch.arange(y.shape[-3]) % len(c.bias)][:, None, None]
