"""A cnnspec network as torch runs it: each node by the layer or function of its name, gradients by autograd."""

import random
from collections.abc import Mapping
from typing import Any

import torch

from cnnspec import nested
from cnnspec.graph import Network
from cnnspec.nested import Array, Shape
from cnnspec.op import arguments_of

Tensors = dict[str, torch.Tensor]


def apply(operator: Any, inputs: list[torch.Tensor], operands: Tensors) -> torch.Tensor:
    """Return what torch makes of one node."""
    name = type(operator).__name__
    if name == "Add":
        return inputs[0] + inputs[1]
    if name == "Concat":
        return torch.cat(inputs, operator.dim)
    arguments = {key: value for key, value in arguments_of(operator).items() if key != "training"}
    layer = getattr(torch.nn, name)(**arguments).to(torch.float64).eval()
    result: torch.Tensor = torch.func.functional_call(layer, operands, tuple(inputs))
    return result


def tensors(values: Mapping[str, Array]) -> Tensors:
    return {name: torch.tensor(array, dtype=torch.float64) for name, array in values.items()}


def forward(net: Network, inputs: list[torch.Tensor], parameters: Tensors) -> torch.Tensor:
    """Return the network's output in float64."""
    values = dict(zip(net.inputs, inputs, strict=True))
    for node in net:
        operands = {word: parameters[name] for word, name in node.operands.items()}
        values[node.name] = apply(node.operator, [values[name] for name in node.inputs], operands)
    return values[net.outputs[0]]


def gradients(
    net: Network, grad_output: Array, inputs: list[Array], parameters: Mapping[str, Array]
) -> tuple[Array, list[Array], dict[str, Array]]:
    """Return output, gradients of the inputs, and gradients of the parameters, as nested lists."""
    x = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in inputs]
    w = tensors(parameters)
    for name in net.parameter_shapes():
        w[name].requires_grad_()
    y = forward(net, x, w)
    y.backward(torch.tensor(grad_output, dtype=torch.float64))  # type: ignore[no-untyped-call]
    found = {name: w[name].grad for name in net.parameter_shapes()}
    return (
        y.tolist(),
        [one.grad.tolist() if one.grad is not None else None for one in x],
        {name: grad.tolist() if grad is not None else None for name, grad in found.items()},
    )


def integers(shape: Shape, generator: random.Random, low: int = -2, high: int = 2) -> Array:
    """Return an array of small integers."""
    size = 1
    for n in shape:
        size *= n
    return nested.unravel([generator.randint(low, high) for _ in range(size)], shape)


def integer_parameters(net: Network, generator: random.Random, zeros: int = 0) -> dict[str, Array]:
    """Return integers for all parameters, `zeros` of them for each one; running statistics 0, variances 3."""
    values = {}
    for name, shape in net.parameter_shapes().items():
        array = integers(shape, generator, -1, 1)
        values[name] = nested.elementwise(lambda v: v if generator.randint(0, zeros) == 0 else 0, array)
    for name, shape in net.buffer_shapes().items():
        start = 3 if name.endswith("running_var") else 0
        values[name] = nested.unravel([start] * shape[0], shape)
    return values
