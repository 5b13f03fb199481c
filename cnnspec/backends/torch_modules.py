"""Networks of cnnspec as modules of torch: each node by the layer of torch.nn, under the names of the network."""

from collections.abc import Mapping
from typing import Any

import torch

from cnnspec.backends.torch import AT_THE_CALL
from cnnspec.blocks import Node
from cnnspec.errors import ArgumentError
from cnnspec.graph import Network
from cnnspec.nested import Array
from cnnspec.op import Operator, arguments_of
from cnnspec.ops import spec
from cnnspec.spelling import spec_name, spelled

__all__ = ["TorchNetwork", "to_torch"]


def to_torch(
    network: Network, parameters: Mapping[str, Array] | None = None, dtype: Any = None
) -> "TorchNetwork":
    """Return a network as a module of torch, whose state_dict has the names of the network's parameters and buffers.

    parameters: their values by name, as nested lists or anything with .tolist(); without, torch.nn's own start values
    dtype:      a dtype of torch; by default torch's
    The module is in the mode that the network is in: in training where `training` of its operators says so.
    Raises ArgumentError for an operator without a layer, and for parameters that are missing or unknown.

    >>> from cnnspec import nets
    >>> module = to_torch(nets.lenet5(), dtype=torch.float64)
    >>> module(torch.zeros(2, 1, 28, 28, dtype=torch.float64)).shape, list(module.state_dict())[:2]
    (torch.Size([2, 10]), ['conv1.weight', 'conv1.bias'])
    """
    module = TorchNetwork(network)
    if dtype is not None:
        module = module.to(dtype)
    if parameters is not None:
        _load(module, parameters)
    return module


class TorchNetwork(torch.nn.Module):
    """A network, node by node; `steps` are the nodes with their layers, in the order in which they are called.

    No value is held longer than a node takes it: `spent` are those that a node is the last to take.
    A layer holds those of its parameters that have its name; those of other nodes it borrows for its call.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inputs, self.outputs = network.inputs, network.outputs
        self.steps: list[tuple[Node, torch.nn.Module, dict[str, tuple[torch.nn.Module, str]]]] = []
        foreign: dict[str, torch.Tensor] = {}
        layers = []
        for node in network:
            layer = _layer(node)
            layer.train(bool(getattr(node.operator, "training", False)))
            _place(self, node.name, layer)
            for word, name in node.operands.items():
                if name != f"{node.name}.{word}":
                    kept: Any = layer._parameters if word in layer._parameters else layer._buffers
                    foreign.setdefault(name, kept[word])
                    kept[word] = None
            layers.append(layer)
        self.training = any(layer.training for layer in layers)
        for name, value in foreign.items():
            owner, word = _owner(self, name)
            if getattr(owner, word, None) is None:
                if isinstance(value, torch.nn.Parameter):
                    owner.register_parameter(word, value)
                else:
                    owner.register_buffer(word, value)
        for node, layer in zip(network, layers, strict=True):
            borrowed = {
                word: _owner(self, name)
                for word, name in node.operands.items()
                if name != f"{node.name}.{word}"
            }
            self.steps.append((node, layer, borrowed))
        last = {name: node.name for node in network for name in node.inputs if name not in self.outputs}
        self.spent = {node.name: [name for name in last if last[name] == node.name] for node in network}
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(network.trainable(name))

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the output, a tuple where there are several."""
        if len(inputs) != len(self.inputs):
            raise TypeError(f"{len(inputs)} inputs given, expected {' and '.join(self.inputs)}")
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for node, layer, borrowed in self.steps:
            given = tuple(values[name] for name in node.inputs)
            if borrowed:
                operands = {word: getattr(owner, name) for word, (owner, name) in borrowed.items()}
                values[node.name] = torch.func.functional_call(layer, operands, given)
            else:
                values[node.name] = layer(*given)
            for name in self.spent[node.name]:
                del values[name]
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found


class _Join(torch.nn.Module):
    """Add or Concat."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.dim: int | None = getattr(operator, "dim", None)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the sum of two tensors, or tensors laid one behind the other."""
        return torch.add(*inputs) if self.dim is None else torch.cat(inputs, self.dim)


class _Call(torch.nn.Module):
    """A layer that takes some of its arguments when it is called, and padding of any number of axes."""

    def __init__(self, function: Any, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, self.arguments = function, dict(arguments)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return what the function gives."""
        return self.function(*inputs, **self.arguments)


class _GlobalAverage(torch.nn.Module):
    """The mean over all spatial axes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the means, their axes kept."""
        return input.mean(dim=tuple(range(2, input.dim())), keepdim=True)


def _layer(node: Node) -> torch.nn.Module:
    """Return the layer of a node."""
    name = spec_name(node.operator)
    if name in ("add", "concat"):
        return _Join(node.operator)
    if name == "global_avg_pool":
        return _GlobalAverage()
    arguments = {word: value for word, value in arguments_of(node.operator).items() if word != "training"}
    if name == "pad":
        padding = arguments.pop("padding")
        return _Call(torch.nn.functional.pad, {"pad": padding, **arguments})
    kind = getattr(torch.nn, spec(name).layer, None) if name else None
    weighted = name and any(arguments.get(word) is not None for word in spec(name).constants)
    if name is None or kind is None or weighted:
        raise ArgumentError(f"node {node.name}: {spelled(node.operator)} has no layer in torch.nn")
    late = {word: arguments.pop(word) for word in AT_THE_CALL.get(name, ())}
    layer: torch.nn.Module = kind(**arguments)
    return _Call(layer, late) if late else layer


def _place(root: torch.nn.Module, path: str, layer: torch.nn.Module) -> None:
    """Put a layer at a path; names of modules may be those of methods, which `add_module` refuses."""
    *above, last = path.split(".")
    owner = _below(root, above)
    before = owner._modules.get(last)
    if before is not None:
        layer._modules.update(before._modules)
    owner._modules[last] = layer


def _owner(root: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    """Return the module that holds the parameter `name`, and what it calls it."""
    *above, last = name.split(".")
    return _below(root, above), last


def _below(root: torch.nn.Module, names: list[str]) -> torch.nn.Module:
    for name in names:
        found = root._modules.get(name)
        if found is None:
            found = root._modules[name] = torch.nn.Module()
        root = found
    return root


def _load(module: torch.nn.Module, parameters: Mapping[str, Any]) -> None:
    """Fill parameters and buffers; a count of batches, which the network has not, may be left out."""
    state = module.state_dict()
    for name in parameters:
        if name not in state:
            raise ArgumentError(f"parameters has {name!r}, which the network has not")
    with torch.no_grad():
        for name, tensor in state.items():
            if name not in parameters:
                if name.endswith(".num_batches_tracked"):
                    continue
                raise ArgumentError(f"parameters lacks {name!r} of shape {tuple(tensor.shape)}")
            value = parameters[name]
            given = (
                value if isinstance(value, torch.Tensor) else torch.tensor(_listed(value), dtype=tensor.dtype)
            )
            if given.shape != tensor.shape and tensor.numel():
                raise ArgumentError(f"{name} of shape {tuple(given.shape)} must be {tuple(tensor.shape)}")
            tensor.copy_(given.reshape(tensor.shape))


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
