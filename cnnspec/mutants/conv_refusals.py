"""Bugs of convolutions in what they accept and what they refuse."""

import os
from typing import Any

from cnnspec.mutants.bank import Invocation, mutant
from cnnspec.mutants.conv import is_empty
from cnnspec.mutants.pieces import F, fitted, padded_by, sizes_of


@mutant(
    ("conv1d", "conv2d"),
    "Theano/Theano#3715, pytorch/pytorch#19599, FluxML/NNlib.jl#763",
    "an empty batch is refused",
    "acceptance",
    when=is_empty,
)
def empty_batch_refused(c: Invocation) -> Any:
    raise RuntimeError("batch size must be positive")


@mutant(
    ("conv2d", "conv3d"),
    "FluxML/NNlib.jl#690, jax-ml/jax#11517",
    "negative padding is taken, and crops",
    "acceptance",
    when=lambda c: not isinstance(c.padding, str) and min(c.padding) < 0,
)
def negative_padding_accepted(c: Invocation) -> Any:
    return padded_by(c, [(p, p) for p in c.padding])


@mutant(
    "conv1d",
    "tensorflow/tensorflow#109275",
    "a kernel that is longer than the padded input gives an empty output",
    "acceptance",
    when=lambda c: c.weight.dim() == 3 and sizes_of(c)[0] <= 0,
)
def empty_output_of_long_kernels(c: Invocation) -> Any:
    return fitted(c(input=F.pad(c.input, (0, 64))), (*c.input.shape[:-2], c.weight.shape[0], 0))


@mutant(
    "conv1d",
    "pytorch/pytorch#165669",
    "groups=0 is taken for 1",
    "acceptance",
    when=lambda c: c.groups <= 0,
)
def no_groups_accepted(c: Invocation) -> Any:
    return c(groups=1)


@mutant(
    "conv2d",
    "pytorch/pytorch#71080",
    "groups=0 is divided by",
    "crash",
    when=lambda c: c.groups == 0,
)
def no_groups_end_the_process(c: Invocation) -> Any:
    os.abort()


@mutant(
    ("conv1d", "conv2d"),
    "pytorch/pytorch#67551, microsoft/onnxruntime#495",
    "padding='same' is taken with a stride, and pads as for stride 1",
    "acceptance",
    when=lambda c: c.padding == "same" and max(c.stride) > 1,
)
def same_accepted_with_a_stride(c: Invocation) -> Any:
    return padded_by(c, [(total // 2, total - total // 2) for total in c.padded])
