"""What a run of a network on torch keeps of every node: what it took and gave, forward and backward.

A node takes an alias of each value, so that the gradient of each use is known apart from those of other uses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from cnnspec.errors import said
from cnnspec.op import Operator

Tensors = dict[str, torch.Tensor]


@dataclass
class Record:
    """What one node of a run took and gave, in memory of its own.

    operands:  what it took, by the operator's words;   updated: those that the call changes, after it
    gradients: what the backward pass gave for each operand, by this use alone
    raised:    what its call raised, `unsupported` where it does not claim it; the output is then torch's
    """

    name: str
    operator: Operator
    operands: Tensors
    output: torch.Tensor | None = None
    updated: Tensors = field(default_factory=dict)
    grad_output: torch.Tensor | None = None
    gradients: Tensors = field(default_factory=dict)
    raised: str = ""
    unsupported: bool = False


@dataclass
class Run:
    """A run of a network: its nodes in order, its parameters and buffers before it, and what it returned.

    others:    the values that belong to no operator of the catalogue, by the name of their node
    gradients: those of the parameters, of all uses together;   buffers: those of the module, after the run
    raised:    what the backward pass raised, "" where it went through
    functions: the names of the functions with a backward pass of their own that gave the outputs
    """

    state: Tensors
    inputs: Tensors
    records: dict[str, Record] = field(default_factory=dict)
    others: Tensors = field(default_factory=dict)
    outputs: tuple[torch.Tensor, ...] = ()
    gradients: Tensors = field(default_factory=dict)
    buffers: Tensors = field(default_factory=dict)
    raised: str = ""
    functions: tuple[str, ...] = ()

    def value(self, name: str) -> torch.Tensor | None:
        """Return the value of an input or of a node; None where the run has none."""
        record = self.records.get(name)
        return record.output if record else self.inputs.get(name, self.others.get(name))

    def call(
        self, name: str, operator: Operator, operands: Tensors, function: Callable[[Tensors], Any]
    ) -> Any:
        """Call a function on aliases of a node's operands, and keep what it takes and gives, of several the first."""
        record = self.records[name] = Record(name, operator, kept(operands))
        last_first = reversed(operands.items())  # a backward pass comes to the youngest alias first
        taken = {word: self._alias(record, word, one) for word, one in last_first}
        returned = function({word: taken[word] for word in operands})
        output = returned[0] if isinstance(returned, tuple | list) else returned
        if torch._C._functorch.is_functorch_wrapped_tensor(
            output
        ):  # under torch.vmap: of no shape of its own
            del self.records[name]
            return returned
        record.output = copied(output)
        record.updated = kept({word: operands[word] for word in operator.buffer_shapes() if word in operands})
        if output.requires_grad:
            _on_gradient(output, partial(_set, record))
        return returned

    def _alias(self, record: Record, word: str, value: torch.Tensor) -> torch.Tensor:
        if not (value.requires_grad and torch.is_grad_enabled()):
            return value
        alias = value.view_as(value)
        _on_gradient(alias, partial(_enter, record.gradients, word))
        return alias

    def finish(self, outputs: Sequence[torch.Tensor], leaves: Tensors, seed: int) -> None:
        """Keep the outputs, and pass gradients drawn for them back through the run."""
        self.outputs = tuple(copied(one) for one in outputs)
        able = [one for one in outputs if one.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        try:
            if able:
                torch.autograd.backward(able, [cotangent(one, generator) for one in able])
        except Exception as error:  # noqa: BLE001 - whatever a target raises is its row
            self.raised = said(error)
        self.gradients = {name: one.grad for name, one in leaves.items() if one.grad is not None}


def cotangent(output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a gradient drawn for an output, the same whatever its dtype, device and memory format."""
    drawn = torch.randn(output.shape, generator=generator)
    return torch.empty_like(output).copy_(drawn)


def kept(values: Mapping[str, torch.Tensor]) -> Tensors:
    """Return copies of tensors, as they are laid out."""
    return {name: copied(one) for name, one in values.items()}


def copied(value: torch.Tensor) -> torch.Tensor:
    """Return a copy of a tensor, as it is laid out."""
    return value.detach().clone(memory_format=torch.preserve_format)


def _on_gradient(value: Any, told: Callable[[torch.Tensor], None]) -> None:
    """Have the gradient of a value told when the backward pass comes to it."""
    value.register_hook(told)


def _set(record: Record, gradient: torch.Tensor) -> None:
    record.grad_output = copied(gradient)


def _enter(gradients: Tensors, word: str, gradient: torch.Tensor) -> None:
    gradients[word] = copied(gradient)
