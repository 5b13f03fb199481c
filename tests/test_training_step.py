"""Steps of gradient descent, w - rate * dL/dw, in exact numbers: LeNet-5, a learned kernel, and shared layers.

On integers with a rate that is a power of two, a step of `torch.optim.SGD` is exact, so both must be equal.
"""

import itertools
import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
import torch

from cnnspec import graph, nested, nets
from cnnspec.backends.torch_modules import to_torch
from cnnspec.blocks import Node, Seq, Shared
from cnnspec.graph import Network
from cnnspec.nested import Array
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.corr import convolve2d, corr2d
from cnnspec.ops.linear import Linear
from cnnspec.ops.losses import MSELoss
from cnnspec.ops.pointwise import ReLU, Sigmoid
from tests.networks_in_torch import integer_parameters, integers

RATE = Fraction(1, 8)

Parameters = dict[str, Array]


def with_loss(network: Network) -> Network:
    """Return the network with the sum of the squares of output - target behind it."""
    (output,), (shape,) = network.outputs, network.input_shapes
    loss = Node("loss", MSELoss(reduction="sum"), (output, "target"))
    shapes = (shape, network.output_shape(shape))
    return Network([*network, loss], inputs=(*network.inputs, "target"), input_shapes=shapes)


def moved(parameters: Mapping[str, Array], gradients: Mapping[str, Array], rate: Fraction) -> Parameters:
    """Return w - rate * dL/dw of each parameter."""
    return {
        name: nested.elementwise(lambda w, g: w - rate * g, parameters[name], gradient)
        for name, gradient in gradients.items()
    }


def stepped(
    network: Network, parameters: Mapping[str, Array], *inputs: Array, rate: Fraction = RATE
) -> Parameters:
    """Return the parameters after one step."""
    return moved(parameters, network.gradients(1, *inputs, parameters=parameters).parameters, rate)


def stepped_by_torch(
    network: Network, parameters: Mapping[str, Array], *inputs: Array, dtype: torch.dtype, steps: int = 1
) -> Parameters:
    """Return the parameters after steps of torch's optimizer, as exact numbers."""
    module = to_torch(network, parameters, dtype)
    optimizer = torch.optim.SGD(module.parameters(), lr=float(RATE))
    for _ in range(steps):
        optimizer.zero_grad()
        module(*(torch.tensor(nested.elementwise(float, one), dtype=dtype) for one in inputs)).backward()
        optimizer.step()
    return {
        name: nested.elementwise(Fraction, value.to(torch.float64).tolist())
        for name, value in module.named_parameters()
    }


def differing(ours: Parameters, theirs: Parameters) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if ours[name] != theirs[name]]


# LeNet-5


def lenet5() -> Network:
    """Return LeNet-5 with ReLU in place of sigmoids, which are not exact; its pools divide by 4."""
    network = nets.lenet5()
    nodes = [
        Node(node.name, ReLU() if isinstance(node.operator, Sigmoid) else node.operator, node.inputs)
        for node in network
    ]
    return with_loss(Network(nodes, input_shapes=network.input_shapes))


def few_integers(network: Network) -> tuple[Parameters, list[Array]]:
    """Return parameters of which one in four is not 0, an image, and a target near the output."""
    generator = random.Random(5)
    parameters = integer_parameters(network, generator, zeros=3)
    image, any_target = (integers(shape, generator, 0, 2) for shape in network.input_shapes)
    output = network.forward(image, any_target, parameters=parameters)["fc3"]
    target = nested.elementwise(lambda y: Fraction(y) - generator.choice((-2, -1, 1, 2)), output)
    return parameters, [image, target]


def test_a_step_of_lenet5_is_torchs() -> None:
    network = lenet5()
    parameters, inputs = few_integers(network)
    gradients = network.gradients(1, *inputs, parameters=parameters).parameters
    ours = moved(parameters, gradients, RATE)
    for dtype in (torch.float32, torch.float64):
        theirs = stepped_by_torch(network, parameters, *inputs, dtype=dtype)
        assert differing(ours, theirs) == []
    assert len(differing(parameters, theirs)) == len(network.parameter_shapes()) == 10  # every layer learns
    assert len(differing(moved(parameters, gradients, 2 * RATE), theirs)) == 10


# Shared layers


def tied() -> Network:
    shared = Shared(Linear(3, 3))
    return with_loss(Network(Seq(shared, ReLU(), shared, Linear(3, 2)), input_shapes=((4, 3),)))


def test_the_gradients_of_a_shared_layer_add_up_by_hand() -> None:
    """y = w (w x + b) + b = 49 for x = 5, w = 3, b = 1; L = (y - 47)^2, dL/dw = 4 * (16 + 15), dL/db = 4 * (3 + 1)."""
    shared = Shared(Linear(1, 1))
    network = with_loss(Network(Seq(shared, shared), input_shapes=((1,),)))
    start = {"0.weight": [[3]], "0.bias": [1]}
    after = stepped(network, start, [5], [47])
    assert after == {"0.weight": [[3 - Fraction(124, 8)]], "0.bias": [1 - Fraction(16, 8)]}
    assert after == stepped_by_torch(network, start, [5], [47], dtype=torch.float64)


def test_two_steps_of_shared_layers_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    network, generator = tied(), random.Random(2)
    start = integer_parameters(network, generator)
    inputs = [integers(shape, generator) for shape in network.input_shapes]
    theirs = stepped_by_torch(network, start, *inputs, dtype=torch.float64, steps=2)
    assert differing(stepped(network, stepped(network, start, *inputs), *inputs), theirs) == []

    def last_use(found: dict[str, Any], name: str, gradient: Any) -> None:
        if gradient is not None:
            found[name] = gradient

    monkeypatch.setattr(graph, "_add", last_use)
    alone = stepped(network, start, *inputs)
    assert set(differing(alone, stepped_by_torch(network, start, *inputs, dtype=torch.float64))) == {
        "0.weight",
        "0.bias",
    }


# Learning the kernel of the edge detector: Zhang, Lipton, Li & Smola, "Dive into Deep Learning", 7.2.4

EDGES = [[1, 1, 0, 0, 0, 0, 1, 1]] * 6
DETECTED = corr2d(EDGES, [[1, -1]])


def learned(start: tuple[Fraction, Fraction], target: Array = DETECTED) -> tuple[list[Fraction], Array]:
    """Return the loss before each of ten steps with rate 3e-2, and the kernel after all of them."""
    network = Network(
        [
            Node("conv", Conv2d(1, 1, (1, 2), bias=False), ("input",)),
            Node("loss", MSELoss(reduction="sum"), ("conv", "target")),
        ],
        inputs=("input", "target"),
    )
    inputs = [[EDGES]], [[target]]
    kernel: Parameters = {"conv.weight": [[[list(start)]]]}
    losses = []
    for _ in range(10):
        losses.append(network.reference(*inputs, parameters=kernel))
        kernel = stepped(network, kernel, *inputs, rate=Fraction(3, 100))
    return losses, kernel["conv.weight"][0][0][0]


def test_the_kernel_of_the_edge_detector_is_learned_by_hand() -> None:
    """From 0 the kernel stays a multiple of [1, -1]: each step leaves 1 - 2 * 0.03 * 6 = 0.64 of what lacks.

    Rows of 1 1 0 0 0 0 1 1 give 6 * 3 squares of either pixel and 6 * 2 products of both: [[18, 12], [12, 18]] takes
    [1, -1] to 6 times itself. The loss is 12 times the square of what lacks.
    """
    losses, kernel = learned((Fraction(0), Fraction(0)))
    lacks = [Fraction(64, 100) ** step for step in range(11)]
    assert losses == [12 * lack * lack for lack in lacks[:10]]
    assert kernel == [1 - lacks[10], lacks[10] - 1]


def test_the_printed_run_of_the_book_is_ten_exact_steps() -> None:
    """The book draws its start and prints losses at steps 2, 4, 6, 8, 10 and the kernel; ten steps back lies this one.

    The start was found from the printed kernel, and one that differs by 0.001 prints other numbers.
    """
    losses, kernel = learned((Fraction("-0.2738"), Fraction("0.1637")))
    assert [round(loss, 3) for loss in losses[1::2]] == [
        *map(Fraction, ("7.417", "1.273", "0.225", "0.042", "0.009"))
    ]
    assert [round(weight, 4) for weight in kernel] == [Fraction("0.9800"), Fraction("-0.9919")]
    assert round(learned((Fraction("-0.2728"), Fraction("0.1637")))[0][1], 3) != Fraction("7.417")


def test_learning_leads_to_the_kernel_from_any_start() -> None:
    generator = random.Random(0)
    for _ in range(5):
        start = Fraction(generator.randint(-99, 99), 100), Fraction(generator.randint(-99, 99), 100)
        losses, _ = learned(start)
        assert all(later < earlier for earlier, later in itertools.pairwise(losses))


def test_a_layer_learns_the_flipped_kernel_of_a_convolution() -> None:
    _, kernel = learned((Fraction(0), Fraction(0)), convolve2d(EDGES, [[1, -1]]))
    lacks = Fraction(64, 100) ** 10
    assert kernel == [lacks - 1, 1 - lacks]
