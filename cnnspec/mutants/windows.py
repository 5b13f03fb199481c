"""The windows of poolings as tables of indices, which a bug alters: one row for each window, -1 for a tap beside."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation
from cnnspec.window import Window

F = torch.nn.functional


def windows(c: Invocation) -> list[Window]:
    """Return the sliding window of each spatial axis."""
    padding, dilation = (getattr(c, name, (n,) * c.spatial) for name, n in (("padding", 0), ("dilation", 1)))
    axes = zip(c.kernel, c.stride, padding, dilation, strict=True)
    return [Window(k, s, p, p, d, ceil_mode=bool(c.ceil_mode)) for k, s, p, d in axes]


def outputs(c: Invocation) -> list[int]:
    """Return the output's spatial sizes."""
    return [window.output_size(size) for window, size in zip(windows(c), c.sizes, strict=True)]


def room(c: Invocation) -> list[int]:
    """Return, per spatial axis, how far the first window can move: the padded size less the span."""
    return [n + 2 * w.before - w.span for w, n in zip(windows(c), c.sizes, strict=True)]


def unclamped(c: Invocation) -> list[int]:
    """Return the output's sizes in ceil mode without the rule that the last window starts on the input."""
    return [-(-free // s) + 1 for free, s in zip(room(c), c.stride, strict=True)]


def is_legal(c: Invocation) -> bool:
    """Say whether the windows move, and fit."""
    plain = min(c.stride) > 0 and c.input.dim() in (c.spatial + 1, c.spatial + 2)
    return plain and min(room(c)) >= 0 and min(outputs(c)) > 0


def overhangs(c: Invocation) -> bool:
    """Say whether a window of ceil mode reaches behind the input and its padding."""
    axes = zip(outputs(c), c.stride, room(c), strict=True)
    return bool(c.ceil_mode) and any((out - 1) * s > free for out, s, free in axes)


def padded(c: Invocation, sizes: Sequence[int], value: float) -> Tensor:
    """Return the input with its padding in memory, and as much behind it as outputs of `sizes` need."""
    sides: list[int] = []
    for out, window, n in zip(sizes, windows(c), c.sizes, strict=True):
        behind = (out - 1) * window.stride + window.span - n - window.before
        sides = [window.before, max(window.after, behind), *sides]
    return F.pad(c.input, sides, value=value)


def lowest(tensor: Tensor) -> float:
    """Return minus infinity, or the smallest integer."""
    return -math.inf if tensor.is_floating_point() else torch.iinfo(tensor.dtype).min


def taps(c: Invocation, clipped: bool = False) -> Tensor:
    """Return the index in its plane of each tap of each window, as (windows, taps).

    clipped: a window that starts on the padding is moved to the input's first pixel
    """
    table = torch.zeros(1, 1, dtype=torch.int64)
    for window, size in zip(windows(c), c.sizes, strict=True):
        starts = torch.arange(window.output_size(size))[:, None] * window.stride - window.before
        axis = (starts.clamp(min=0) if clipped else starts) + torch.arange(window.kernel) * window.dilation
        axis = torch.where((axis >= 0) & (axis < size), axis, -1)[None, :, None, :]
        joined = torch.where(
            (table[:, None, :, None] < 0) | (axis < 0), -1, table[:, None, :, None] * size + axis
        )
        table = joined.flatten(2).flatten(0, 1)
    return table


def planes(tensor: Tensor, spatial: int) -> Tensor:
    """Return the tensor with its spatial axes joined to one."""
    return tensor.flatten(tensor.dim() - spatial)


def looked_up(input: Tensor, indices: Tensor, spatial: int) -> Tensor:
    """Return the elements of the input's planes at `indices`, those beside a plane moved onto it."""
    plane = planes(input, spatial)
    at = planes(indices, spatial).clamp(0, plane.shape[-1] - 1)
    return plane.gather(-1, at).reshape(indices.shape)


def windowed(c: Invocation, table: Tensor, beside: float) -> Tensor:
    """Return the elements of each window, as (..., windows, taps), `beside` for those next to the input."""
    return torch.where(table < 0, beside, planes(c.input, c.spatial)[..., table.clamp(min=0)])


def spread(c: Invocation, values: Tensor) -> Tensor:
    """Return one value for each window, as (..., windows), in the shape of the output."""
    return values.reshape(*values.shape[:-1], *outputs(c))
