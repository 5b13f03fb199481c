"""Networks against torch's autograd: values and gradients, on integers that float64 holds exactly."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cnnspec import graph, nested, nets
from cnnspec.blocks import Branches, Node, Parallel, Residual, Seq, Shared
from cnnspec.graph import Network
from cnnspec.op import Operator
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.combine import Add, Concat
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.conv_transpose import ConvTranspose2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import AvgPool2d, MaxPool2d
from tests.networks_in_torch import gradients, integer_parameters, integers


def mixed() -> Network:
    """Return branches in a residual block, a shared convolution, a transposed one, and a line to two classes."""
    shared = Shared(Conv2d(2, 2, 3, padding=1))
    body = Seq(
        stem=Conv2d(1, 2, 3, stride=2, padding=1),
        block=Residual(Branches(shared, Seq(shared, ReLU()), join=Add()), after=ReLU()),
        up=ConvTranspose2d(2, 2, 2, stride=2),
        paths=Branches(MaxPool2d(2), Conv2d(2, 1, 2, stride=2), AvgPool2d(2), Conv2d(2, 1, 2, stride=2)),
        dense=Residual(Conv2d(6, 2, 1), join=Concat()),
        flat=Flatten(),
    )
    return Network(Seq(body, Linear(8 * 4 * 4, 2)), input_shapes=((2, 1, 8, 8),))


def siamese() -> Network:
    tower = Shared(Seq(Conv2d(1, 2, 3), ReLU(), Flatten(), Linear(8, 3)))
    return Network(
        Seq(Parallel(tower, tower), Concat()), inputs=("a", "b"), input_shapes=((2, 1, 4, 4), (2, 1, 4, 4))
    )


def small_resnet() -> Network:
    """Return ResNet-18 with one channel, its norms such that 1 / sqrt(variance 3 + eps 1) is a half."""
    net = nets.resnet18(width=1, in_channels=1, classes=2, input_size=32)
    nodes = []
    for node in net:
        operator: Operator = node.operator
        if isinstance(operator, BatchNorm2d):
            operator = dataclasses.replace(operator, eps=1.0)
        nodes.append(Node(node.name, operator, node.inputs))
    return Network(nodes, input_shapes=net.input_shapes)


CASES: dict[str, Callable[[], Network]] = {
    "mixed": mixed,
    "siamese": siamese,
    "tiny LeNet": lambda: nets.lenet_fleuret(width=2, classes=3, input_size=22),
    "ResNet-18": small_resnet,
    "GoogLeNet": lambda: nets.googlenet_d2l(width=4, classes=2, input_size=32),
}


def disagreement(net: Network, seed: int) -> list[str]:
    """Return which of output and gradients differ from torch's."""
    generator = random.Random(seed)
    inputs = [integers(shape, generator) for shape in net.input_shapes]
    parameters = integer_parameters(net, generator)
    output = net.reference(*inputs, parameters=parameters)
    grad_output = integers(nested.shape_of(output), generator)
    found = net.gradients(grad_output, *inputs, parameters=parameters)
    y, dx, dw = gradients(net, grad_output, inputs, parameters)
    pairs = [("output", output, y), *(("input", *pair) for pair in zip(found.inputs, dx, strict=True))]
    pairs += [(name, found.parameters[name], dw[name]) for name in net.parameter_shapes()]
    return [name for name, ours, theirs in pairs if ours != theirs]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", list(CASES))
def test_values_and_gradients_are_torchs(case: str, seed: int) -> None:
    assert disagreement(CASES[case](), seed) == []


def test_the_data_say_something() -> None:
    generator = random.Random(0)
    for make in CASES.values():
        net = make()
        inputs = [integers(shape, generator) for shape in net.input_shapes]
        parameters = integer_parameters(net, generator)
        assert any(nested.ravel(net.reference(*inputs, parameters=parameters)))


def test_gradients_that_replace_one_another_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(found: dict[str, Any], name: str, gradient: Any) -> None:
        if gradient is not None:
            found[name] = gradient

    monkeypatch.setattr(graph, "_add", replace)
    assert "0.0.0.weight" in disagreement(siamese(), 0)
    assert "0.stem.weight" in disagreement(mixed(), 0)


def test_a_dropped_shortcut_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Add, "reference", lambda self, a, b: b)
    assert "output" in disagreement(mixed(), 0)


def test_a_tiny_lenet_written_in_torch() -> None:
    net = nets.lenet_fleuret(width=2, classes=3, input_size=22)
    generator = random.Random(5)
    parameters = integer_parameters(net, generator)
    x = integers((1, 1, 22, 22), generator)
    w = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for name, array in parameters.items()
    }
    f = torch.nn.functional
    h = f.conv2d(torch.tensor(x, dtype=torch.float64), w["conv1.weight"], w["conv1.bias"])
    h = f.relu(f.max_pool2d(h, 3))
    h = f.relu(f.max_pool2d(f.conv2d(h, w["conv2.weight"], w["conv2.bias"]), 2))
    h = f.relu(f.linear(h.flatten(1), w["fc1.weight"], w["fc1.bias"]))
    y = f.linear(h, w["fc2.weight"], w["fc2.bias"])
    (y * torch.tensor([[1.0, -2.0, 3.0]])).sum().backward()  # type: ignore[no-untyped-call]
    assert net.reference(x, parameters=parameters) == y.tolist()
    found = net.gradients([[1, -2, 3]], x, parameters=parameters).parameters
    assert found == {name: one.grad.tolist() for name, one in w.items() if one.grad is not None}
