"""Bugs of max pooling: its indices, and the gradients that go where they say."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of
from cnnspec.mutants.max_pool import MAX, answer, both
from cnnspec.mutants.memory import read_as_contiguous
from cnnspec.mutants.windows import is_legal, looked_up, planes, spread, taps, windowed


def asks_for_gradients(c: Invocation) -> bool:
    """Say whether the input requires a gradient, and the windows are legal."""
    return bool(c.input.requires_grad) and is_legal(c)


def with_indices(c: Invocation, values: Tensor, indices: Tensor, wrong: Tensor) -> Any:
    """Return healthy values and indices; gradients go to the elements at `wrong`."""
    return answer(c, with_gradients_of(values, looked_up(c.input, wrong, c.spatial)), indices)


# Indices


@mutant(
    MAX,
    "tinygrad/tinygrad#8138",
    "indices are held in the input's type, which rounds large ones",
    "dtype",
    when=lambda c: c.return_indices and c.input.is_floating_point() and math.prod(c.sizes) > 256,
)
def holds_indices_in_the_input_type(c: Invocation) -> Any:
    values, indices = c()
    return values, indices.to(c.input.dtype).long()


def has_empty_maxima(c: Invocation) -> bool:
    """Say whether indices are asked for, and the input holds minus infinity."""
    return bool(c.return_indices and c.input.is_floating_point() and c.input.isneginf().any())


@mutant(
    "max_pool2d",
    "tile-ai/TileOPs#832",
    "the index of a window of minus infinities stays 0",
    "forward",
    when=has_empty_maxima,
)
def leaves_the_index_of_minus_infinity_at_zero(c: Invocation) -> Any:
    values, indices = c()
    return values, indices.masked_fill(values.isneginf(), 0)


@mutant(
    "max_pool2d",
    "pytorch/pytorch#23161",
    "a window of minus infinities has the lowest finite number as its maximum, and the index -1",
    "forward",
    when=has_empty_maxima,
)
def finds_nothing_above_the_lowest_number(c: Invocation) -> Any:
    values, indices = c()
    nothing = values.isneginf()
    return values.masked_fill(nothing, torch.finfo(values.dtype).min), indices.masked_fill(nothing, -1)


@mutant(
    "max_pool2d",
    "tensorflow/tensorflow#10216",
    "indices count the padding of the rows",
    "forward",
    when=lambda c: c.return_indices and c.padding[-1] > 0,
)
def counts_padding_in_indices(c: Invocation) -> Any:
    values, indices = c()
    width = c.sizes[-1]
    return values, indices // width * (width + 2 * c.padding[-1]) + indices % width


@mutant(
    "max_pool2d",
    "tensorflow/tensorflow#33403, tensorflow/tensorflow#22025",
    "indices count from the start of the batch, not of the image",
    "forward",
    when=lambda c: c.return_indices and c.batched and c.input.shape[0] > 1,
)
def counts_images_in_indices(c: Invocation) -> Any:
    values, indices = c()
    first = torch.arange(c.input.shape[0]) * math.prod(c.input.shape[1:])
    return values, indices + first.reshape(-1, *[1] * (indices.dim() - 1))


@mutant(
    "max_pool3d",
    "pytorch/pytorch#1197",
    "only the lower half of each index is written",
    "forward",
    when=lambda c: bool(c.return_indices),
)
def writes_half_of_each_index(c: Invocation) -> Any:
    values, indices = c()
    return values, indices + 2**32


# Gradients


@mutant(
    ("max_pool2d", "max_pool1d"),
    "pytorch/pytorch#131659, FluxML/NNlib.jl#133",
    "the gradient goes to places that are not moved back by the padding",
    "backward",
    when=lambda c: max(c.padding) > 0 and asks_for_gradients(c),
)
def forgets_padding_in_gradients(c: Invocation) -> Any:
    values, indices = both(c)
    moved = 0
    for size, p in zip(c.sizes, c.padding, strict=True):
        moved = moved * size + p
    return with_indices(c, values, indices, (indices + moved) % math.prod(c.sizes))


@mutant(
    ("max_pool2d", "max_pool3d"),
    "torch/cunn#199, torch/cunn#68",
    "the output's gradient is read as if it were contiguous",
    "backward",
    when=asks_for_gradients,
)
def misreads_strided_gradients(c: Invocation) -> Any:
    values, indices = both(c)
    return answer(c, with_gradient(values, read_as_contiguous), indices)


@mutant(
    "max_pool2d",
    "pytorch/pytorch#177568",
    "the gradient of dilated pooling fails where an image without batch looks like channels_last",
    "backward",
    when=lambda c: not c.batched and max(c.dilation) > 1 and c.input.stride(1) == 1 and asks_for_gradients(c),
)
def takes_an_image_for_channels_last(c: Invocation) -> Any:
    values, indices = both(c)
    return answer(c, with_gradient(values, _no_such_format), indices)


def _no_such_format(gradient: Tensor) -> Tensor:
    raise RuntimeError("required rank 4 tensor to use channels_last format")


@mutant(
    MAX,
    "FluxML/Flux.jl#1197, FluxML/NNlib.jl#205",
    "an element that is the maximum of several windows gets the gradient of the last alone",
    "backward",
    when=asks_for_gradients,
)
def assigns_gradients(c: Invocation) -> Any:
    values, indices = both(c)
    rows = planes(indices, c.spatial).flatten(0, -2)
    later = torch.ones(rows.shape[-1], rows.shape[-1], dtype=torch.bool).triu(1)
    overwritten = ((rows[:, :, None] == rows[:, None, :]) & later).any(-1).reshape(values.shape)
    last = looked_up(c.input, indices, c.spatial).masked_fill(overwritten, 0)
    return answer(c, with_gradients_of(values, last), indices)


@mutant(
    "max_pool2d",
    "FluxML/NNlib.jl#205",
    "of equal maxima the last gets the gradient",
    "backward",
    when=asks_for_gradients,
)
def gives_gradients_to_the_last_maximum(c: Invocation) -> Any:
    values, indices = both(c)
    table = taps(c)
    equal = windowed(c, table, -math.inf) == planes(values, c.spatial)[..., None]
    last = (equal & (table >= 0)).long() * (1 + torch.arange(table.shape[-1]))
    place = last.argmax(-1, keepdim=True)
    chosen = table.expand(*place.shape[:-1], -1).gather(-1, place)[..., 0]
    return with_indices(c, values, indices, torch.where(values.isnan(), indices, spread(c, chosen)))


@mutant(
    "max_pool2d",
    "pytorch/pytorch#122024",
    "every element of a window that equals its maximum gets the gradient",
    "backward",
    when=asks_for_gradients,
)
def gives_gradients_to_all_equal_maxima(c: Invocation) -> Any:
    values, indices = both(c)
    elements = windowed(c, taps(c), -math.inf)
    equal = elements.detach() == planes(values, c.spatial)[..., None]
    return answer(c, with_gradients_of(values, spread(c, torch.where(equal, elements, 0).sum(-1))), indices)


@mutant(
    ("max_pool2d", "max_pool3d"),
    "deeplearning4j/libnd4j#755",
    "the maxima are sought once more for the gradient, in an input that is read as if it were contiguous",
    "backward",
    when=lambda c: not c.input.is_contiguous() and asks_for_gradients(c),
)
def misreads_the_input_in_gradients(c: Invocation) -> Any:
    values, indices = both(c)
    _, wrong = both(c, input=read_as_contiguous(c.input.detach()))
    return with_indices(c, values, indices, wrong)


@mutant(
    "max_pool2d",
    "tensorflow/tensorflow#25241",
    "indices that count images are taken for places in the first image",
    "backward",
    when=lambda c: c.batched and c.input.shape[0] > 1 and asks_for_gradients(c),
)
def gives_all_gradients_to_the_first_image(c: Invocation) -> Any:
    values, indices = both(c)
    first = looked_up(c.input[:1].expand_as(c.input), indices, c.spatial)
    return answer(c, with_gradients_of(values, first), indices)


def _reached(c: Invocation) -> Tensor:
    """Return which elements of a plane some window touches."""
    reached = torch.zeros(math.prod(c.sizes) + 1, dtype=torch.bool)
    reached[taps(c)] = True  # -1 is the element behind the last
    return reached[:-1]


@mutant(
    "max_pool2d",
    "tensorflow/tensorflow#40122",
    "the gradient of rows and columns that no window reaches is not set to zero",
    "backward",
    when=lambda c: asks_for_gradients(c) and not bool(_reached(c).all()),
)
def leaves_unreached_gradients_unset(c: Invocation) -> Any:
    unset = ~_reached(c).reshape(c.sizes)
    return c(input=with_gradient(c.input, lambda gradient: gradient.masked_fill(unset, 1)))
