"""Bugs of the linear layer."""

from typing import Any

import torch

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.memory import read_as_contiguous
from cnnspec.mutants.pieces import tf32


@mutant(
    "linear",
    "pytorch/pytorch#162779",
    "a weight that is not contiguous is read as if it were",
    "forward",
    when=lambda c: not c.weight.is_contiguous(),
)
def strides_of_the_weight_ignored(c: Invocation) -> Any:
    return c(weight=read_as_contiguous(c.weight))


@mutant(
    "linear",
    "pytorch/pytorch#75740",
    "float32 operands are rounded to TF32",
    "forward",
    when=lambda c: c.input.dtype == torch.float32,
)
def operands_in_tf32(c: Invocation) -> Any:
    return c(input=tf32(c.input), weight=tf32(c.weight))
