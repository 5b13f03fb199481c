"""Bugs of padding: 'same' in convolutions, and the modes of `pad`, which the layers' padding_mode calls."""

from typing import Any

import torch

from cnnspec.mutants.bank import Invocation, mutant, with_gradient
from cnnspec.mutants.pieces import F, only, padded_by

LIMIT = 64
"""Stands for the 65536 elements, samples or channels at which 16-bit sizes overflow."""


# The padding of convolutions called "same"


@mutant(
    "conv2d",
    "tinygrad/tinygrad#17805",
    "padding='same' pairs the kernel of each axis with the dilation of the other",
    "shape",
    when=lambda c: c.padding == "same" and c.dilation[0] != c.dilation[1] and max(c.kernel) > 1,
)
def dilation_of_the_other_axis(c: Invocation) -> Any:
    totals = [d * (k - 1) for d, k in zip(c.dilation[::-1], c.kernel, strict=True)]
    return padded_by(c, [(total // 2, total - total // 2) for total in totals])


@mutant(
    ("conv1d", "conv2d"),
    "keras-team/keras#1092",
    "padding='same' of an even kernel pads both sides by the smaller half",
    "shape",
    when=lambda c: c.padding == "same" and any(total % 2 for total in c.padded),
)
def even_kernels_lose_an_element(c: Invocation) -> Any:
    return padded_by(c, [(total // 2, total // 2) for total in c.padded])


@mutant(
    ("conv1d", "conv2d", "conv3d"),
    "onnx/onnx#2043, microsoft/onnxscript#3037",
    "padding='same' is computed from the kernel without its dilation",
    "shape",
    when=lambda c: (
        c.padding == "same"
        and any(d > 1 and k > 1 for d, k in zip(c.dilation, c.kernel, strict=True))
        and all(size > d * (k - 1) for size, d, k in zip(c.sizes, c.dilation, c.kernel, strict=True))
    ),
)
def same_forgets_dilation(c: Invocation) -> Any:
    return padded_by(c, [((k - 1) // 2, k // 2) for k in c.kernel])


@mutant(
    ("conv1d", "conv3d"),
    "pytorch/executorch#20558",
    "padding='same' of an even kernel adds the odd element before, not behind",
    "forward",
    when=lambda c: c.padding == "same" and any(total % 2 for total in c.padded),
)
def odd_element_before(c: Invocation) -> Any:
    return padded_by(c, [(total - total // 2, total // 2) for total in c.padded])


# pad


def pairs(c: Invocation) -> list[tuple[int, int, int]]:
    """Return (size, before, after) of each padded axis, the last first."""
    sizes = c.input.shape[::-1][: len(c.padding) // 2]
    return list(zip(sizes, c.padding[::2], c.padding[1::2], strict=True))


def widest(c: Invocation) -> list[tuple[int, int]]:
    """Return (size, larger padding) of each padded axis, the last first."""
    return [(size, max(before, after)) for size, before, after in pairs(c)]


@mutant(
    "pad",
    "pytorch/pytorch#29712",
    "circular padding is left out",
    "shape",
    when=lambda c: c.mode == "circular" and any(c.padding),
)
def circular_padding_left_out(c: Invocation) -> Any:
    return c.input.clone()


@mutant(
    "pad",
    "ASEM000/kernex#14",
    "reflection before the first element starts one element too far",
    "forward",
    when=lambda c: c.mode == "reflect" and 0 < c.padding[0] < c.input.shape[-1] + c.padding[1] - 1,
)
def reflection_starts_too_far(c: Invocation) -> Any:
    y, before = c(), c.padding[0]
    return torch.cat([y[..., before + 2 : 2 * before + 2].flip(-1), y[..., before:]], -1)


@mutant(
    "pad",
    "openxla/xla#48713",
    "an axis that is cropped before and padded behind shows elements of the next row",
    "forward",
    when=lambda c: (
        c.mode == "constant"
        and 0 < c.padding[1] <= -c.padding[0]
        and c.input.dtype == torch.float32
        and c.input.numel() > c.input.shape[-1]
    ),
)
def next_row_in_the_padding(c: Invocation) -> Any:
    (before, after), others = c.padding[:2], c(padding=(0, 0, *c.padding[2:]))
    rows = others.reshape(-1, others.shape[-1])
    longer = torch.cat([rows, rows.roll(-1, 0)], 1)
    return longer[:, -before : rows.shape[1] + after].reshape(c().shape)


@mutant(
    "pad",
    "pytorch/pytorch#56263, QUVA-Lab/escnn#27",
    "reflection of three axes is refused",
    "acceptance",
    when=lambda c: c.mode == "reflect" and len(c.padding) == 6,
)
def reflection_of_volumes_refused(c: Invocation) -> Any:
    raise ValueError(f"padding of {len(c.padding)} numbers: only 2 and 4 are known")


@mutant(
    "pad",
    "pytorch/pytorch#2563",
    "reflection by the whole axis and more is taken, and repeats the last element that there is",
    "acceptance",
    when=lambda c: (
        c.mode == "reflect"
        and any(pad >= size > 1 for size, pad in widest(c))
        and min(size for size, _ in widest(c)) > 1
    ),
)
def too_much_reflection_accepted(c: Invocation) -> Any:
    legal = [min(pad, size - 1) for size, *both in pairs(c) for pad in both]
    rest = [pad - kept for pad, kept in zip(c.padding, legal, strict=True)]
    return F.pad(c(padding=tuple(legal)), rest, mode="replicate")


@mutant(
    "pad",
    "pytorch/pytorch#152152",
    "an axis of one element is reflected into itself",
    "acceptance",
    when=lambda c: c.mode == "reflect" and any(size == 1 and pad > 0 for size, pad in widest(c)),
)
def single_element_reflected(c: Invocation) -> Any:
    return c(mode="replicate")


@mutant(
    "pad",
    "pytorch/pytorch#165861",
    "reflection refuses batches and channels beyond a number",
    "acceptance",
    when=lambda c: c.mode == "reflect" and max((*c.input.shape[: -len(c.padding) // 2], 0)) >= LIMIT,
)
def reflection_of_large_batches_refused(c: Invocation) -> Any:
    raise RuntimeError(f"invalid configuration of {tuple(c.input.shape)}")


@mutant(
    "pad",
    "pytorch/pytorch#196949",
    "the gradient of a reflected row beyond a length, and no multiple of it, is wrong from its remainder on",
    "backward",
    when=lambda c: c.mode == "reflect" and c.input.shape[-1] > LIMIT and c.input.shape[-1] % LIMIT > 0,
)
def gradient_of_long_rows_cut(c: Invocation) -> Any:
    rest = c.input.shape[-1] % LIMIT
    return c(input=with_gradient(c.input, lambda g: only(g, (..., slice(rest)))))
