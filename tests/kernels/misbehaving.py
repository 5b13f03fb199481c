"""Kernels of relu that do not compute something wrong but do something else that a kernel must not do."""

import ctypes
import itertools
import os
import time

import torch
from torch import Tensor

CALLS = itertools.count()


def relu(input: Tensor) -> Tensor:
    return torch.relu(input)


def segfaults(input: Tensor) -> Tensor:
    ctypes.string_at(0)
    return torch.relu(input)


def hangs(input: Tensor) -> Tensor:
    time.sleep(600)
    return torch.relu(input)


def exits(input: Tensor) -> Tensor:
    os._exit(0)


def raises(input: Tensor) -> Tensor:
    raise ValueError(f"a shape of {input.dim()} axes\nis too much")


def returns_a_list(input: Tensor) -> list[float]:
    result: list[float] = torch.relu(input).tolist()
    return result


def modifies_its_input(input: Tensor) -> Tensor:
    return input.relu_().clone()


def writes_behind_its_input(input: Tensor) -> Tensor:
    input.as_strided((1,), (1,), input.storage_offset() - 1).fill_(0)
    return torch.relu(input)


def is_nondeterministic(input: Tensor) -> Tensor:
    """Give 0 and -0 in turn, which are both right where the input is negative."""
    return torch.where(input > 0, input, -0.0 if next(CALLS) % 2 else 0.0)


def has_wrong_dtype(input: Tensor) -> Tensor:
    return torch.relu(input).double()


def has_wrong_shape(input: Tensor) -> Tensor:
    return torch.relu(input)[None]


def claims_nothing(input: Tensor) -> Tensor:
    raise NotImplementedError("only for float128")
