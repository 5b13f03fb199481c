"""Bugs of operators of any kind that take what lies in memory for rows, whatever the strides are."""

from typing import Any

from cnnspec.mutants.bank import Invocation, mutant, with_gradient
from cnnspec.mutants.memory import read_as_contiguous
from cnnspec.mutants.pieces import is_strided


@mutant(
    ("gelu", "leaky_relu", "mse_loss"),
    "pytorch/pytorch#98212, pytorch/pytorch#123049, pytorch/pytorch#124621, pytorch/pytorch#125696",
    "an input that does not lie in rows is read as if it did",
    "forward",
    when=is_strided,
)
def misreads_strided_inputs(c: Invocation) -> Any:
    return c(input=read_as_contiguous(c.input))


@mutant(
    ("global_avg_pool", "log_softmax"),
    "torch/nn#345, torch/nn#832",
    "the output's gradient is read as if it were contiguous",
    "backward",
    when=lambda c: bool(c.input.requires_grad),
)
def misreads_strided_gradients(c: Invocation) -> Any:
    return with_gradient(c(), read_as_contiguous)
