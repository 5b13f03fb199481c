"""One node of a run, held to the exact output, gradients and new values of what it took."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cnnspec import exact, ops
from cnnspec.backends import Backend, Output
from cnnspec.backends.torch import dtype_name
from cnnspec.backends.torch import output as read
from cnnspec.backends.torch_records import Record, Tensors
from cnnspec.backends.torch_runs import case_of
from cnnspec.calls import Violation
from cnnspec.cases import Case
from cnnspec.errors import CnnspecError
from cnnspec.op import Operator
from cnnspec.ops.linear import Linear
from cnnspec.outputs import Unjudged, within, worst_of
from cnnspec.spelling import spec_name

CAST_BY_AUTOCAST = ("conv", "conv_transpose", "linear", "prelu")
"""Families whose operands autocast rounds to 16 bits, as torch's "CPU Op-Specific Behavior" lists them."""


class Held:
    """One node's operands as exact numbers, and what its output and gradients must be."""

    def __init__(self, operator: Operator, operands: Tensors, value: torch.Tensor, backend: Backend) -> None:
        self.backend, self.value = backend, value
        if family_of(operator) in CAST_BY_AUTOCAST and value.dtype in (torch.bfloat16, torch.float16):
            operands = {word: one.to(value.dtype) for word, one in operands.items()}
        case = case_of(operator, operands)
        assert case is not None
        self.case = replace(case, dtype=dtype_name(value.dtype), layout=_layouts(case, operands))
        self.operands = {
            word: array_of(operands[word]) for word in self.case.operand_shapes() if word in operands
        }
        self.updates = (
            {} if not operator.buffer_shapes() else exact.updates(self.case.operation, self.operands)
        )

    def forward(self) -> Mapping[str, Any]:
        """Hold the output to the exact one."""
        try:
            right = exact.evaluate(self.case.spec, self.case.operation, self.operands)
        except CnnspecError as error:
            raise Violation(f"the definition does not take what the model gives: {error}") from None
        return within(right, read(self.value), self.backend, self.case, self.operands)

    def backward(self, record: Record) -> Mapping[str, Any]:
        """Hold the gradients of all operands to the exact ones."""
        assert record.grad_output is not None
        right = exact.gradients(
            self.case.spec,
            self.case.operation,
            array_of(record.grad_output),
            self.operands,
            [*record.gradients],
        )
        facts = []
        for name, one in right.items():
            found, dtype = record.gradients[name], self.value.dtype
            if found.dtype.itemsize > dtype.itemsize:  # autocast rounded the operand
                found = found.to(dtype)
            facts.append(self._hold(one, found, "gradient", name))
        if not facts:
            raise Unjudged("no gradient reaches its operands")
        return worst_of(facts)

    def updated(self, record: Record) -> Mapping[str, Any]:
        """Hold the operands that the call changes to their exact new values."""
        if self.updates.keys() - record.updated.keys():
            raise Unjudged("what this call alone changed is not known")
        return worst_of(
            [self._hold(one, record.updated[name], "new value", name) for name, one in self.updates.items()]
        )

    def _hold(self, right: exact.Exact, found: torch.Tensor, what: str, name: str) -> dict[str, Any]:
        case = replace(self.case, dtype=dtype_name(found.dtype))
        return within(right, read(found), self.backend, case, self.operands, f"the {what} of {name}", name)


def held_to_sum(parts: list[torch.Tensor], total: torch.Tensor, backend: Backend) -> Mapping[str, Any]:
    """Hold a tensor to the sum of others: a linear layer whose weights are 1."""
    if len(parts) > 2 and total.dtype in (torch.bfloat16, torch.float16):
        raise Unjudged("no proven model: partial sums may be stored in 16 bits")
    columns = np.stack([array_of(one).ravel() for one in parts], axis=-1)
    layer = Linear(len(parts), 1, bias=False)
    operands = {"input": columns, "weight": np.ones((1, len(parts)))}
    right = exact.evaluate(ops.spec("linear"), layer, operands)
    case = Case(
        "linear",
        {"in_features": len(parts), "out_features": 1, "bias": False},
        (columns.shape,),
        dtype_name(total.dtype),
        "dense",
        1,
    )
    found = read(total)
    flat = Output(found.values, (found.values.size, 1), found.dtype, found.device)
    return within(right, flat, backend, case, operands, "the sum of gradients")


def family_of(operator: Operator) -> str:
    """Return the family of an operator of the catalogue."""
    return ops.family(spec_name(operator) or "")


def array_of(value: torch.Tensor) -> Any:
    """Return the numbers of a tensor as a float64 or integer array."""
    found = read(value)
    return np.asarray(found.values).reshape(found.shape)


def _layouts(case: Case, operands: Tensors) -> dict[str, str]:
    """Return the layouts of operands that are in channels_last and in nothing else."""
    last = [
        word
        for word, one in operands.items()
        if one.dim() == 4 and not one.is_contiguous() and one.is_contiguous(memory_format=torch.channels_last)
    ]
    return dict.fromkeys(last, "channels_last")
