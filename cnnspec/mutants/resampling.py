"""Bugs of interpolation."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.memory import in_channels_last, is_channels_last, named_channels_last


def sizes(c: Invocation) -> list[int]:
    """Return the input's spatial sizes."""
    return list(c.input.shape[2:])


def targets(c: Invocation) -> list[int]:
    """Return the output's spatial sizes."""
    if c.size is not None:
        return [c.size] * len(sizes(c)) if isinstance(c.size, int) else list(c.size)
    return [math.floor(size * factor) for size, factor in zip(sizes(c), factors(c), strict=True)]


def factors(c: Invocation) -> list[float]:
    """Return the factor of each axis, from the sizes where there is none."""
    if c.scale_factor is None:
        return [out / size for out, size in zip(targets(c), sizes(c), strict=True)]
    given = c.scale_factor
    return list(given) if isinstance(given, tuple) else [given] * len(sizes(c))


def is_linear(c: Invocation) -> bool:
    """Say whether pixels are interpolated, on images of at least one."""
    return bool(c.mode != "nearest" and c.input.dim() > 2 and min(sizes(c)) > 0)


def picked(c: Invocation, shift: float) -> Tensor:
    """Return the pixel at floor((p + shift) s) for each output position p."""
    y: Tensor = c.input
    for axis, (size, out, factor) in enumerate(zip(sizes(c), targets(c), factors(c), strict=True), 2):
        source = [min(math.floor((p + shift) / factor), size - 1) for p in range(out)]
        y = y.index_select(axis, torch.tensor(source, dtype=torch.int64))
    return y


@mutant(
    "interpolate",
    "Oneflow-Inc/oneflow#5347",
    "the nearest pixel is that of the centre of the output's",
    "forward",
    when=lambda c: c.mode == "nearest" and c.input.dim() > 2 and c.input.numel() > 0,
)
def takes_the_pixel_at_the_centre(c: Invocation) -> Any:
    c()
    return picked(c, 0.5)


@mutant(
    "interpolate",
    "ml-explore/mlx#3908",
    "factors that give no whole size have the corners of align_corners",
    "forward",
    when=lambda c: (
        is_linear(c)
        and not c.align_corners
        and c.scale_factor is not None
        and any(size * factor % 1 for size, factor in zip(sizes(c), factors(c), strict=True))
    ),
)
def aligns_corners_of_fractional_factors(c: Invocation) -> Any:
    return c(align_corners=True)


@mutant(
    "interpolate",
    "tinygrad/tinygrad#17790",
    "align_corners divides by the output's size less one, which is zero for one pixel",
    "forward",
    when=lambda c: is_linear(c) and bool(c.align_corners) and 1 in targets(c),
)
def divides_by_one_pixel_less_one(c: Invocation) -> Any:
    return c().mul(math.nan)


@mutant(
    "interpolate",
    "pytorch/pytorch#54744, pytorch/pytorch#54590",
    "the output of a channels_last image is written channel by channel",
    "forward",
    when=lambda c: c.mode == "nearest" and c.input.dim() in (4, 5) and is_channels_last(c.input),
)
def writes_rows_into_channels_last(c: Invocation) -> Any:
    return in_channels_last(named_channels_last(c()))


@mutant(
    "interpolate",
    "pytorch/pytorch#24090",
    "images of one pixel, whose strides are those of both formats, are taken for channels_last",
    "forward",
    when=lambda c: c.input.dim() == 4 and sizes(c) == [1, 1] and c.input.stride(1) == 1,
)
def takes_a_pixel_for_channels_last(c: Invocation) -> Any:
    return in_channels_last(c())


# Gradients


@mutant(
    "interpolate",
    "intel/torch-xpu-ops#4333, intel/torch-xpu-ops#4380",
    "the gradient's columns are found with the height of images that are taller than wide",
    "backward",
    when=lambda c: (
        c.mode == "bilinear" and c.input.dim() == 4 and not c.align_corners and sizes(c)[0] > sizes(c)[1] > 1
    ),
)
def finds_columns_by_the_height(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, lambda gradient: gradient.roll(1, -1)))


def _window(c: Invocation) -> Tensor:
    """Return which output positions a gradient reads for each pixel: those within out / size of its centre."""
    (size,), (out,) = sizes(c), targets(c)
    centres = torch.arange(size) * (out - 1) / max(1, size - 1)
    return (torch.arange(out) - centres[:, None]).abs() <= out / size


@mutant(
    "interpolate",
    "flagos-ai/FlagGems#5218",
    "the gradient of aligned corners reads as few output positions as without them",
    "backward",
    when=lambda c: (
        c.mode == "linear"
        and bool(c.align_corners)
        and c.input.dim() == 3
        and sizes(c)[0] > 1
        and targets(c)[0] > sizes(c)[0]
        and not _is_wide_enough(c)
    ),
)
def reads_too_few_gradients(c: Invocation) -> Any:
    weights = _weights(c)
    return with_gradients_of(c(), c.input @ (weights * _window(c)).to(c.input.dtype))


def _weights(c: Invocation) -> Tensor:
    """Return the weight of each pixel in each output, as (pixels, outputs)."""
    (size,), (out,) = sizes(c), targets(c)
    places = torch.arange(out, dtype=torch.float64) * (size - 1) / max(1, out - 1)
    return (1 - (places - torch.arange(size)[:, None]).abs()).clamp(min=0)


def _is_wide_enough(c: Invocation) -> bool:
    return bool(_window(c)[_weights(c) > 0].all())


@mutant(
    "interpolate",
    "pytorch/pytorch#97135",
    "the gradient of the nearest pixel is found from the input, which misses outputs",
    "backward",
    when=lambda c: c.mode == "nearest" and c.input.dim() > 2 and c.input.numel() > 0 and _misses_outputs(c),
)
def finds_outputs_from_the_input(c: Invocation) -> Any:
    y = c.input
    for axis, (size, out, factor) in enumerate(zip(sizes(c), targets(c), factors(c), strict=True), 2):
        y = (y.movedim(axis, -1) @ _found(size, out, factor).to(y.dtype)).movedim(-1, axis)
    return with_gradients_of(c(), y)


def _found(size: int, out: int, factor: float) -> Tensor:
    """Return which outputs each pixel's gradient sums: those from floor(i f) to floor((i + 1) f)."""
    ends = torch.tensor([min(out, math.floor(i * factor)) for i in range(size + 1)])
    p = torch.arange(out)
    return ((p >= ends[:-1, None]) & (p < ends[1:, None])).double()


def _misses_outputs(c: Invocation) -> bool:
    axes = list(zip(sizes(c), targets(c), factors(c), strict=True))
    sources = [[min(math.floor(p / f), n - 1) for p in range(out)] for n, out, f in axes]
    return any(
        not torch.equal(_found(*axis).argmax(0), torch.tensor(source))
        or bool((_found(*axis).sum(0) != 1).any())
        for axis, source in zip(axes, sources, strict=True)
    )
