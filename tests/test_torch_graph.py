"""Modules of torch as networks: values and rows; and networks as modules of torch, and back."""

import copy
import dataclasses
import random
from typing import Any

import pytest
import torch
from torch import nn

import cnnspec
from cnnspec import nets
from cnnspec.backends.torch_graph import from_torch
from cnnspec.backends.torch_modules import to_torch
from cnnspec.blocks import Branches, Node, Residual, Seq, Shared
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.graph import Network
from cnnspec.op import Operator
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.conv_transpose import ConvTranspose2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.global_pool import GlobalAvgPool
from cnnspec.ops.linear import Linear
from cnnspec.ops.pad import Pad
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import AvgPool2d, MaxPool2d
from cnnspec.tables import summary
from tests.hand_counts import CASES
from tests.hand_counts_of_calls import CALLS
from tests.networks_in_torch import integer_parameters, integers
from tests.torch_models import Calls


@dataclasses.dataclass(frozen=True)
class _Foreign(Operator):
    """An operator from outside the catalogue."""


# Values

EXACT = (
    *(
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "Linear",
        "ReLU",
    ),
    *("Add", "Concat", "Flatten", "MaxPool2d", "Pad", "PixelShuffle", "Dropout"),
)
"""Operators that are exact on integers."""


def exact_models() -> dict[str, tuple[nn.Module, Network, list[list[Any]], torch.Tensor]]:
    """Return the modules that are nothing but exact operators, with integers for parameters and inputs."""
    found = {}
    generator = random.Random(3)
    for model in (*CASES, *CALLS):
        module = model.build().eval()
        network = from_torch(module, model.inputs(module))
        if not all(type(node.operator).__name__ in EXACT for node in network) or 0 in model.shapes[0]:
            continue
        module(*model.inputs(module))  # fills what is lazy
        module = module.to(torch.float64)
        x = [integers(shape, generator) for shape in model.shapes]
        with torch.no_grad():
            for value in module.parameters():
                value.copy_(torch.randint(-2, 3, value.shape, generator=torch.Generator().manual_seed(5)))
            given = zip(x, model.shapes, strict=True)
            output = module(*(torch.tensor(one, dtype=torch.float64).reshape(shape) for one, shape in given))
        found[model.name] = module, network, x, output
    return found


@pytest.mark.filterwarnings("ignore")
def test_the_network_computes_what_the_module_does() -> None:
    """Wiring, arguments and names of parameters, by the loops; with one input changed the values differ."""
    models = exact_models()
    assert len(models) >= 45
    for name, (module, network, x, output) in models.items():
        state = {key: value.tolist() for key, value in module.named_parameters()}
        state |= {key: value.tolist() for key, value in module.named_buffers()}
        parameters = {key: state[key] for key in (*network.parameter_shapes(), *network.buffer_shapes())}
        assert same(network.reference(*x, parameters=parameters), output), name
        other = torch.tensor(x[0]).mul(7).sub(3).tolist()
        assert not same(network.reference(other, *x[1:], parameters=parameters), output), name


# Rows


def rows(module: nn.Module, *shapes: tuple[int, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return operator and inputs of each node by name."""
    network = from_torch(module, tuple(torch.zeros(shape) for shape in shapes))
    ops = {row.name: row.op for row in summary(network).rows}
    return {node.name: (ops[node.name], node.inputs) for node in network}


def test_nodes_are_named_after_layers() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.ReLU())
    module = Calls(
        lambda s, x: s.head(torch.tanh(s.body(s.body[1](x))).flatten(1)), body=block, head=nn.Linear(64, 2)
    )
    assert rows(module, (1, 3, 4, 4)) == {
        "body.1": ("ReLU()", ("input",)),
        "body.0.pad": ("Pad(1, mode='circular')", ("body.1",)),
        "body.0": ("Conv2d(3, 4, 3)", ("body.0.pad",)),
        "body.1:2": ("ReLU()", ("body.0",)),
        "tanh": ("Tanh()", ("body.1:2",)),
        "flatten": ("Flatten()", ("tanh",)),
        "head": ("Linear(64, 2)", ("flatten",)),
    }


def test_what_is_changed_in_place_is_read_as_changed() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        nn.functional.relu_(y.view(-1))
        z: torch.Tensor = self.a(y) + x
        return z

    assert rows(Calls(forward, a=nn.Linear(3, 3)), (2, 3)) == {
        "a": ("Linear(3, 3)", ("input",)),
        "view": ("Flatten(start_dim=0)", ("a",)),
        "relu": ("ReLU()", ("view",)),
        "relu.write": ("Counted(write)", ("a", "relu")),
        "a:2": ("Linear(3, 3)", ("relu.write",)),
        "add": ("Add()", ("a:2", "input")),
    }


def test_what_is_unknown_is_one_row_without_counts() -> None:
    network = from_torch(Calls(lambda s, x: torch.linalg.inv(x).relu()), torch.zeros(3, 3))
    table = summary(network)
    first, second = table.rows
    assert (first.op, first.macs, first.flops, first.bias_adds) == (
        "Unavailable(linalg_inv)",
        None,
        None,
        None,
    )
    assert (second.op, second.macs, table.macs) == ("ReLU()", 0, None)
    assert "unavailable" in str(table)


def test_a_traced_call_refuses_other_shapes_than_its_own() -> None:
    network = from_torch(Calls(lambda s, x: (x * 2).sum(1)), torch.zeros(2, 3))
    assert network.shapes((2, 3)) == {"mul": (2, 3), "sum": (2,)}
    with pytest.raises(ShapeError, match=r"layer sum, .* trace again"):
        network.shapes((4, 3))
    with pytest.raises(
        NotImplementedError, match="mul is known by a trace alone: it has no definition to evaluate"
    ):
        network.reference([[1, 2, 3], [4, 5, 6]], parameters={})


def test_elements_taken_by_themselves_go_with_any_batch() -> None:
    module = Calls(lambda s, x: s.c(x) * s.g, c=nn.Conv2d(3, 4, 1), g=nn.Parameter(torch.ones(4, 1, 1)))
    table = summary(from_torch(module, torch.zeros(1, 3, 5, 5)), ("N", 3, 5, 5))
    assert table.output_shape == ("N", 4, 5, 5)


def test_several_inputs_and_outputs() -> None:
    network = from_torch(Calls(lambda s, a, b: (a + b, a)), (torch.zeros(2, 3), torch.zeros(3)))
    assert (network.inputs, network.outputs) == (("input:0", "input:1"), ("add", "input:0"))


def test_frozen_parameters_stay_frozen() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module[0].requires_grad_(False)
    table = summary(from_torch(module, torch.zeros(1, 4)))
    assert (table.parameter_count, table.trainable_count) == (15 + 8, 8)


@pytest.mark.parametrize("example", ["x", (), [1, 2], None])
def test_an_example_without_tensors_is_refused(example: Any) -> None:
    with pytest.raises(ArgumentError, match="example_input must be a tensor"):
        from_torch(nn.ReLU(), example)


def test_a_module_that_does_not_run_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"cannot be traced on example_input of \(1, 5\)"):
        from_torch(nn.Linear(4, 3), torch.zeros(1, 5))


# Networks as modules


def small_networks() -> dict[str, tuple[Network, tuple[int, ...]]]:
    tied = Shared(Linear(4, 4))
    body = Seq(conv=Conv2d(3, 3, 3, padding=1), norm=BatchNorm2d(3, eps=1.0), act=ReLU())
    foreign = [
        Node("a", Linear(4, 4), ("input",), {"weight": "w"}),
        Node("b", Linear(4, 4), ("a",), {"weight": "w"}),
    ]
    return {
        "residual": (Network(Residual(body, after=Seq(pool=AvgPool2d(2)))), (2, 3, 4, 4)),
        "branches": (Network(Branches(Conv2d(3, 2, 1), ConvTranspose2d(3, 2, 1))), (1, 3, 4, 4)),
        "pads": (Network(Seq(Pad((1, 0, 2, 1)), MaxPool2d(2), GlobalAvgPool(), Flatten())), (1, 2, 3, 7)),
        "tied": (Network(Seq(tied, ReLU(), tied)), (2, 4)),
        "a name of its own": (Network(foreign), (2, 4)),
        "names of methods": (Network(Seq(type=Linear(4, 4), half=Seq(train=ReLU()))), (1, 4)),
        "two outputs": (Network(Seq(a=Linear(2, 2), b=ReLU()), outputs=("a", "b")), (3, 2)),
    }


def same(a: Any, b: Any) -> bool:
    """Compare nested lists with tensors or tuples of them, exactly."""
    if isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(torch.equal(torch.tensor(a, dtype=torch.float64), b))


@pytest.mark.parametrize("name", small_networks())
@pytest.mark.parametrize("training", [False, True])
def test_a_module_computes_what_the_network_does(name: str, training: bool) -> None:
    network, shape = small_networks()[name]
    network = network.train(training)
    generator = random.Random(7)
    parameters, x = integer_parameters(network, generator), integers(shape, generator)
    module = to_torch(network, parameters, torch.float64)
    assert module.training == (training and name == "residual")
    given = torch.tensor(x, dtype=torch.float64)
    if module.training:  # the square root of a variance is not exact: one value per channel has none
        given, x = torch.zeros_like(given), torch.zeros(shape).tolist()
        parameters |= {key: [[[[0] * 3] * 3] * 3] * 3 for key in parameters if key.endswith("conv.weight")}
        module = to_torch(network, parameters, torch.float64)
    y = module(given)
    expected = network.reference(x, parameters=parameters)
    assert same(expected, y), name
    wrong = parameters | {
        key: torch.tensor(value).add(1).tolist() for key, value in parameters.items() if key.endswith("bias")
    }
    assert wrong == parameters or not same(network.reference(x, parameters=wrong), y)


def test_the_mode_is_that_of_the_module() -> None:
    network, shape = small_networks()["residual"]
    parameters = integer_parameters(network, random.Random(1))
    module = to_torch(network, parameters, torch.float64)
    before = module(torch.ones(shape, dtype=torch.float64))
    module.train()(torch.ones(shape, dtype=torch.float64))
    assert module.state_dict()["norm.num_batches_tracked"] == 1
    module.load_state_dict(to_torch(network, parameters, torch.float64).state_dict())
    assert torch.equal(module.eval()(torch.ones(shape, dtype=torch.float64)), before)


@pytest.mark.parametrize("name", nets.NAMES)
def test_every_architecture_has_its_names_and_shapes_in_torch(name: str) -> None:
    network, shape = small(name)
    with torch.device("meta"):
        module = to_torch(network)
        output = module.eval()(torch.zeros(shape))
    assert tuple((output[0] if isinstance(output, tuple) else output).shape) == network.output_shape(shape)
    wanted = {**network.parameter_shapes(), **network.buffer_shapes()}
    state = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert {n: s for n, s in state.items() if not n.endswith("num_batches_tracked")} == wanted
    assert set(dict(module.named_parameters())) == set(network.parameter_shapes())


def small(name: str) -> tuple[Network, tuple[int, ...]]:
    """Return an architecture of a small width, and its input."""
    width = 16 if name.startswith("resnext") else 8
    network = nets.build(name, width=width) if name != "mlp" else nets.build(name)
    (shape,) = network.input_shapes
    return network, (2, *shape[1:])


@pytest.mark.parametrize("name", nets.NAMES)
def test_every_architecture_comes_back_from_torch(name: str) -> None:
    network, shape = small(name)
    with torch.device("meta"):
        back = from_torch(to_torch(network), torch.zeros(shape))
    assert summary(back, shape).rows == summary(network, shape).rows
    assert back.parameter_shapes() == network.parameter_shapes()
    assert back.buffer_shapes() == network.buffer_shapes()
    assert [node.inputs for node in back] == [node.inputs for node in network]


def test_another_padding_shows_when_a_network_comes_back() -> None:
    one, other = (Network(Seq(conv=Conv2d(3, 4, 3, padding=p, stride=2), act=ReLU())) for p in (0, 1))
    shape = (1, 3, 8, 8)
    back = from_torch(to_torch(one), torch.zeros(shape))
    assert summary(back, shape).rows == summary(one, shape).rows != summary(other, shape).rows


def test_shared_and_frozen_parameters_come_back() -> None:
    tied = Shared(Linear(4, 4))
    network = Network(Seq(tied, ReLU(), tied, Linear(4, 2)), frozen=("0",))
    back = from_torch(to_torch(network), torch.zeros(1, 4))
    assert back.parameter_shapes() == network.parameter_shapes()
    assert [back.trainable(name) for name, _ in back.named_parameters()] == [False, False, True, True]
    assert back.users("0.weight") == ("0", "2")


def test_a_module_can_be_copied_and_trained() -> None:
    network, _ = small_networks()["tied"]
    module = to_torch(network, network.initialise(), torch.float64)
    twin = copy.deepcopy(module)
    twin(torch.ones(2, 4, dtype=torch.float64)).sum().backward()
    assert [one.grad is None for one in module.parameters()] == [True, True]
    assert [one.grad is None for one in twin.parameters()] == [False, False]


def test_parameters_must_be_those_of_the_network() -> None:
    network = Network(Seq(fc=Linear(2, 1)))
    with pytest.raises(ArgumentError, match=r"lacks 'fc\.bias' of shape \(1,\)"):
        to_torch(network, {"fc.weight": [[1, 2]]})
    with pytest.raises(ArgumentError, match=r"has 'fc\.more', which the network has not"):
        to_torch(network, {"fc.more": [1]})
    with pytest.raises(ArgumentError, match=r"fc.weight of shape \(2,\) must be \(1, 2\)"):
        to_torch(network, {"fc.weight": [1, 2], "fc.bias": [1]})


def test_an_operator_without_a_layer_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"node a: .* has no layer in torch\.nn"):
        to_torch(Network([Node("a", _Foreign(), ("input",))]))
    assert cnnspec.to_torch is to_torch
    assert cnnspec.from_torch is from_torch
