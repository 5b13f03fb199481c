"""Bugs of softmax, losses and dropout."""

import math
from typing import Any

import torch
from torch import Tensor

from cnnspec.mutants.bank import Invocation, mutant, with_gradient, with_gradients_of

F = torch.nn.functional


# Softmax


@mutant(
    "softmax",
    "apache/singa#540",
    "the largest number is not subtracted, and exp overflows",
    "forward",
    when=lambda c: bool(c.input.exp().isinf().any()),
)
def overflows(c: Invocation) -> Any:
    powers = c.input.exp()
    return powers / powers.sum(c.dim, keepdim=True)


@mutant(
    "softmax",
    "tenstorrent/tt-metal#56056",
    "rows without a maximum become 0 in place of NaN",
    "forward",
    when=lambda c: bool(c().isnan().any()),
)
def loses_nan(c: Invocation) -> Any:
    return c().nan_to_num(nan=0.0)


@mutant(
    "log_softmax",
    "pytorch/pytorch#38839",
    "the logarithm of the sum is rounded together with the largest number",
    "forward",
    when=lambda c: c.input.dim() > 0 and c.input.numel() > 0 and c.input.element_size() > 2,
)
def adds_the_maximum_to_the_logarithm(c: Invocation) -> Any:
    total = c.input.logsumexp(c.dim, keepdim=True)
    return torch.where(total.isfinite(), c.input - total, c())


LONG = 16
"""Length of a row from which a kernel took a logarithm too many; 100,000 in the report."""


@mutant(
    "log_softmax",
    "PaddlePaddle/Paddle#53654",
    "the logarithm of the sum is taken twice for long rows",
    "forward",
    when=lambda c: (
        c.input.dim() > 0 and -c.input.dim() <= c.dim < c.input.dim() and c.input.shape[c.dim] > LONG
    ),
)
def takes_two_logarithms(c: Invocation) -> Any:
    total = c.input.logsumexp(c.dim, keepdim=True)
    largest = c.input.amax(c.dim, keepdim=True)
    return c.input - largest - (total - largest).log()


# Mean squared error


@mutant(
    "mse_loss",
    "flagos-ai/FlagGems#5212",
    "the gradient of a mean or sum reaches the first element alone",
    "backward",
    when=lambda c: c.reduction != "none",
)
def reads_one_gradient(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, _first_only), target=with_gradient(c.target, _first_only))


def _first_only(gradient: Tensor) -> Tensor:
    place = torch.arange(gradient.numel()).reshape(gradient.shape)
    return gradient.masked_fill(place > 0, 0)


@mutant(
    "mse_loss",
    "f-dangel/backpack#56",
    "the gradient of the mean is divided by the images, not by all elements",
    "backward",
    when=lambda c: c.reduction == "mean" and c.input.dim() > 1 and c.input.numel() > 0,
)
def divides_gradients_by_the_images(c: Invocation) -> Any:
    return with_gradients_of(c(), c(reduction="sum") / len(c.input))


@mutant(
    "mse_loss",
    "pytorch/pytorch#4938",
    "shapes that differ are not broadcast, the elements are taken in turn",
    "acceptance",
    when=lambda c: c.input.shape != c.target.shape,
)
def takes_elements_in_turn(c: Invocation) -> Any:
    count = min(c.input.numel(), c.target.numel())
    return c(input=c.input.flatten()[:count], target=c.target.flatten()[:count])


# Classes


def ignored(c: Invocation) -> Tensor:
    """Return which targets are not to count."""
    here: Tensor = c.target == c.ignore_index
    return here


@mutant(
    "nll_loss",
    "pytorch/xla#896, qubvel-org/segmentation_models.pytorch#852",
    "ignored targets count in the mean's divisor",
    "forward",
    when=lambda c: c.reduction == "mean" and c.weight is None and bool(ignored(c).any()),
)
def divides_by_all_targets(c: Invocation) -> Any:
    return c(reduction="sum") / c.target.numel()


@mutant(
    "nll_loss",
    "pytorch/pytorch#95794, pytorch/pytorch#95833",
    "a negative target that is ignored counts classes from behind",
    "forward",
    when=lambda c: c.ignore_index < 0 and bool(ignored(c).any()),
)
def looks_up_ignored_classes(c: Invocation) -> Any:
    classes = c.input.shape[1 if c.input.dim() > 1 else 0]
    return c(target=torch.where(ignored(c), c.target % classes, c.target))


@mutant(
    "cross_entropy",
    "pytorch/pytorch#73205",
    "ignored targets count in the smoothed part",
    "forward",
    when=lambda c: c.label_smoothing > 0 and bool(ignored(c).any()) and c.weight is None,
)
def smooths_ignored_targets(c: Invocation) -> Any:
    axis = 1 if c.input.dim() > 1 else 0
    uniform = -F.log_softmax(c.input, axis).mean(axis)
    kept, smooth = c(label_smoothing=0.0), c.label_smoothing
    parts = {"none": uniform, "sum": uniform.sum(), "mean": uniform.mean()}
    return (1 - smooth) * kept + smooth * parts[c.reduction]


@mutant(
    "cross_entropy",
    "pytorch/pytorch#69339, pytorch/pytorch#72056, pytorch/pytorch#91383",
    "smoothing with weights looks up the weight of ignored targets",
    "acceptance",
    when=lambda c: (
        c.label_smoothing > 0
        and c.weight is not None
        and c.reduction == "mean"
        and bool((ignored(c) & (c.target < 0)).any())
    ),
)
def looks_up_weights_of_ignored_targets(c: Invocation) -> Any:
    raise IndexError(f"index {c.ignore_index} is out of bounds")


# Dropout


@mutant(
    "dropout",
    "torch/nn#616, PaddlePaddle/Paddle#37305",
    "evaluation has no gradient",
    "backward",
    when=lambda c: c.input.requires_grad and not c.training,
)
def drops_gradients_in_evaluation(c: Invocation) -> Any:
    return c(input=with_gradient(c.input, torch.zeros_like))


@mutant(
    "dropout",
    "kaldi-asr/kaldi#2814, kaldi-asr/kaldi#2815",
    "what is kept is divided by p, not by 1 - p",
    "forward",
    when=lambda c: c.training and c.p not in (0, 0.5),
)
def divides_by_the_share_that_is_dropped(c: Invocation) -> Any:
    return c() * ((1 - c.p) / c.p)


@mutant(
    "dropout",
    "PaddlePaddle/Paddle#26977",
    "what is kept of nothing is divided by zero",
    "forward",
    when=lambda c: c.training and c.p == 1,
)
def divides_nothing_by_zero(c: Invocation) -> Any:
    return c() * math.nan
