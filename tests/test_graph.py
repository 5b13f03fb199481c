"""Networks as graphs: names, shared parameters, values and gradients, and what is refused."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from cnnspec import blocks, nested, nets
from cnnspec.blocks import Branches, Node, Parallel, Residual, Seq, Shared
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.graph import Network
from cnnspec.initialisers import Constant
from cnnspec.op import Operator
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.combine import Add
from cnnspec.ops.conv import Conv1d, Conv2d
from cnnspec.ops.dropout import Dropout
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.scalars import Counted, Tally
from cnnspec.tables import summary
from tests.small_networks import linear, nested_blocks, tied_mlp

Shapes = dict[str, tuple[int, ...]]


# Names and access


def test_names_of_nested_blocks() -> None:
    net = nested_blocks()
    assert net.parameter_count == 4 * (4 * 8 + 8 + 8 * 4 + 4) + 5
    assert net.parameter_shapes()["0.block 1.0.bias"] == (8,)
    assert [name for name, _ in net.named_parameters("0.block 2")] == [
        "0.block 2.0.weight",
        "0.block 2.0.bias",
        "0.block 2.2.weight",
        "0.block 2.2.bias",
    ]
    assert dict(net.named_parameters()) == net.parameter_shapes()
    assert list(net.named_parameters("0.block")) == []  # a path ends at a dot


def test_nodes_by_name() -> None:
    net = Network(Seq(stem=Conv1d(1, 2, 3), act=ReLU()))
    assert net["stem"].operator == Conv1d(1, 2, 3)
    assert [node.name for node in net] == ["stem", "act"]
    assert (len(net), repr(net)) == (2, "<network of 2 nodes and 8 parameters>")
    with pytest.raises(KeyError, match="'head' is no node: stem, act"):
        net["head"]


def test_residual_keeps_the_names_of_body_and_shortcut() -> None:
    body = Seq(conv1=Conv2d(1, 2, 3, padding=1), relu1=ReLU())
    net = Network(Seq(block=Residual(body, Seq(conv2=Conv2d(1, 2, 1)), after=Seq(relu2=ReLU()))))
    assert {node.name: node.inputs for node in net} == {
        "block.conv1": ("input",),
        "block.relu1": ("block.conv1",),
        "block.conv2": ("input",),
        "block.add": ("block.conv2", "block.relu1"),
        "block.relu2": ("block.add",),
    }


def test_branches_are_joined_in_their_order() -> None:
    net = Network(Branches(Conv2d(1, 2, 1), Seq(), wide=Conv2d(1, 3, 3, padding=1)))
    assert {node.name: node.inputs for node in net} == {
        "0": ("input",),
        "wide": ("input",),
        "concat": ("0", "input", "wide"),
    }
    assert net.output_shape((1, 1, 5, 5)) == (1, 6, 5, 5)


def test_network_as_a_block_keeps_its_names() -> None:
    tied = Shared(linear(2, 2))
    inner = Network(Seq(a=tied, b=tied, c=linear(2, 2)))
    whole = Network(Seq(first=inner, second=inner, out=linear(2, 1)))
    assert list(whole.parameter_shapes()) == [
        "first.a.weight",
        "first.c.weight",
        "second.a.weight",
        "second.c.weight",
        "out.weight",
    ]
    assert whole["second.b"].operands == {"weight": "second.a.weight"}
    assert whole["second.a"].inputs == ("first.c",)


def test_equal_operators_are_one_object() -> None:
    net = Network(Seq(ReLU(), Linear(2, 2), ReLU(), Linear(2, 2)))
    assert net["0"].operator is net["2"].operator
    assert net.parameter_count == 2 * 6


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_work_out_their_own_costs(copied: Callable[[Network], Network]) -> None:
    net = nets.lenet5()
    table = summary(net)
    again = copied(net)
    assert net.worked_out
    assert not again.worked_out
    assert summary(again) == table


# Shared parameters


def test_shared_layer_counts_once() -> None:
    net = tied_mlp()
    assert net.parameter_count == (4 * 8 + 8) + (8 * 8 + 8) + (8 + 1)
    assert net["4"].operands == {"weight": "2.weight", "bias": "2.bias"}
    assert net.users("2.weight") == ("2", "4")
    assert (net.uses["4"].added, net.uses["4"].shared, net.uses["4"].shared_with) == (0, 72, ("2",))


def test_only_the_weight_is_shared() -> None:
    tied = Shared(Linear(2, 2), "weight")
    net = Network(Seq(tied, tied))
    assert list(net.parameter_shapes()) == ["0.weight", "0.bias", "1.bias"]


def test_towers_share_everything_below() -> None:
    inner = Shared(linear(2, 2))
    tower = Shared(Seq(conv=inner, norm=Seq(conv=inner), head=Linear(2, 1)))
    net = Network(Seq(Parallel(left=tower, right=tower), Add()), inputs=("a", "b"))
    assert list(net.parameter_shapes()) == ["0.left.conv.weight", "0.left.head.weight", "0.left.head.bias"]
    assert net["0.right.norm.conv"].operands == {"weight": "0.left.conv.weight"}
    assert net["1"].inputs == ("0.left.head", "0.right.head")


def test_running_statistics_are_shared_with_their_layer() -> None:
    norm = Shared(BatchNorm2d(3))
    net = Network(Seq(norm, norm))
    assert net.buffer_shapes() == {"0.running_mean": (3,), "0.running_var": (3,)}


def test_frozen_parameters() -> None:
    net = tied_mlp().freeze("0", "2.bias")
    assert [name for name in net.parameter_shapes() if not net.trainable(name)] == [
        "0.weight",
        "0.bias",
        "2.bias",
    ]
    assert sum(uses.trainable for uses in net.uses.values()) == 64 + 9
    assert net.freeze("6.weight").frozen == ("0", "2.bias", "6.weight")


# Values


def test_forward_keeps_every_value() -> None:
    net = Network(Residual(linear(1, 1)))
    values = net.forward([2], parameters={"body.weight": [[5]]})
    assert values == {"input": [2], "body": [10], "add": [12]}


def test_products_executed_are_the_effective_macs() -> None:
    net = nets.lenet5(width=2, input_size=14)
    tally = Tally()

    def numbers(shape: tuple[int, ...]) -> Any:
        size = 1
        for n in shape:
            size *= n
        return nested.unravel([Counted(tally) for _ in range(size)], shape)

    convolutions = [node for node in net if node.name in ("conv1", "conv2")]
    shapes = {"conv1": (1, 1, 14, 14), "conv2": net.shapes((1, 1, 14, 14))["pool1"]}
    for node in convolutions:
        parameters = [numbers(shape) for shape in node.operator.parameter_shapes().values()]
        node.operator.reference(numbers(shapes[node.name]), *parameters)
    table = summary(net)
    assert tally.multiplications == sum(
        row.macs_effective or 0 for row in table.rows if row.name.startswith("conv")
    )


def test_network_of_two_outputs() -> None:
    net = Network(
        [Node("a", linear(1, 1), ("x",)), Node("b", linear(1, 1), ("a",))], inputs=("x",), outputs=("a", "b")
    )
    parameters = {"a.weight": [[2]], "b.weight": [[3]]}
    assert net.reference([5], parameters=parameters) == ([10], [30])
    found = net.gradients(([1], [10]), [5], parameters=parameters)
    assert found.inputs == ([2 + 10 * 6],)
    assert found.parameters == {"a.weight": [[5 + 10 * 15]], "b.weight": [[100]]}
    assert found.nodes == {"a": [1 + 30], "b": [10]}


def test_what_reaches_no_output_has_gradient_zero() -> None:
    net = Network(
        [Node("a", linear(1, 1), ("x",)), Node("b", linear(1, 1), ("x",))], inputs=("x",), outputs=("a",)
    )
    found = net.gradients([1], [5], parameters={"a.weight": [[2]], "b.weight": [[3]]})
    assert found.parameters == {"a.weight": [[5]], "b.weight": [[0]]}
    assert found.nodes == {"a": [1], "b": [0]}


# Modes


def test_training_reaches_every_layer() -> None:
    net = Network(Seq(norm=BatchNorm2d(1), drop=Dropout(0.0), act=ReLU()))
    trained = net.train()
    assert trained["norm"].operator == BatchNorm2d(1, training=True)
    assert trained["drop"].operator == Dropout(0.0, training=True)
    assert trained.train(mode=False)["norm"].operator == BatchNorm2d(1)
    with pytest.raises(ShapeError, match="layer norm"):
        trained.output_shape((1, 1, 1, 1))  # one value for each channel


# What is refused


def used(name: str, source: str, operator: Operator) -> Node:
    return Node(name, operator, (source,), {"weight": "w"})


def test_refusal_names_node_and_reason() -> None:
    net = nets.resnet18()
    with pytest.raises(ShapeError) as error:
        net.output_shape((1, 4, 224, 224))
    assert str(error.value).startswith(
        "layer conv1, Conv2d(3, 64, 7, stride=2, padding=3, bias=False), does not "
    )
    assert str(error.value).endswith(
        "(1, 4, 224, 224): in_channels=3 must be the 4 channels of (1, 4, 224, 224)"
    )
    assert error.value.values["layer"] == "conv1"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Network([Node("a", ReLU(), ("b",))]), "node a takes 'b', which is no input and no node before it"),
        (lambda: Network([Node("a", ReLU(), ("input",))] * 2), "two nodes are called 'a': rename one"),
        (lambda: Network(Seq(input=ReLU())), "two nodes are called 'input': rename one"),
        (lambda: Network(Seq(ReLU()), outputs=("1",)), "outputs has '1', which is no node of the network"),
        (lambda: Network(Seq(a=Seq(ReLU())), outputs=("a",)), "outputs has 'a', which is no node of the network"),
        (lambda: Network(Seq(ReLU()), frozen=("1",)), "frozen has '1', which is no parameter and no path to nodes"),
        (lambda: Network(Seq()), "a network needs at least one node"),
        (lambda: Network([]), "a network needs at least one node"),
        (lambda: Network(Seq(a=3)), "a: 3 is no operator, such as cnnspec.Conv2d(3, 64, 7), and no block"),
        (lambda: Network(Parallel(ReLU(), ReLU())), "Parallel has 2 blocks for 1 inputs"),
        (
            lambda: Node("a", ReLU(), ("x",), {"weight": "w"}),
            "node a: shared='weight' must be one of its operands: none",
        ),
        (
            lambda: Network([used("a", "input", linear(2, 2)), used("b", "a", linear(2, 3))]),
            "node b wants w of shape (3, 2), another use (2, 2)",
        ),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        make()
    assert message in str(error.value)


def test_joins_refuse_what_does_not_fit() -> None:
    net = Network(Seq(block=Residual(Conv2d(1, 2, 3))))
    with pytest.raises(
        ShapeError, match=r"layer block\.add, Add\(\), does not take \(1, 1, 5, 5\) and \(1, 2, 3, 3\)"
    ):
        net.output_shape((1, 1, 5, 5))
    add = Network(Seq(ReLU(), Add()))
    with pytest.raises(ShapeError, match=r"layer 1, .* it takes 2 inputs, not 1"):
        add.output_shape((2, 2))
    with pytest.raises(ShapeError, match="2 inputs given, expected input"):
        add.output_shape((2, 2), (2, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"0.weight": None}, ArgumentError, "parameters lacks '0.weight' of shape (1, 2)"),
        ({"0.weights": [[1, 1]]}, ArgumentError, "parameters has '0.weights', which the network has not"),
        ({"0.weight": [[1]]}, ShapeError, "0.weight of shape (1, 1) must be (1, 2)"),
    ],
)
def test_wrong_parameters_are_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    parameters = {"0.weight": [[1, 1]], "0.bias": [0], **change}
    given = {name: value for name, value in parameters.items() if value is not None}
    with pytest.raises(error) as refused:
        Network(Seq(Linear(2, 1))).reference([1, 2], parameters=given)
    assert message in str(refused.value)


def test_the_counter_of_a_state_dict_is_ignored() -> None:
    net = Network(Seq(norm=BatchNorm2d(1, eps=1.0)))
    values = net.initialise({"norm.running_var": Constant(3)}) | {"norm.num_batches_tracked": 0}
    assert net.reference([[[[2]]]], parameters=values) == [[[[1]]]]


def test_grad_output_must_be_of_the_shape_of_the_output() -> None:
    with pytest.raises(ShapeError, match=r"grad_output of shape \(2,\) must be \(1,\), the output of 0"):
        Network(Seq(linear(2, 1))).gradients([1, 2], [1, 2], parameters={"0.weight": [[1, 1]]})


def test_unhashable_operators_are_placed() -> None:
    @dataclasses.dataclass(frozen=True)
    class Listed(Operator):
        sizes: list[int]

        def output_shape(self, *input_shapes: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(self.sizes)

    assert Network(Seq(Listed([3]), Listed([4]))).output_shape((1,)) == (4,)
    assert blocks.join("", "a") == "a"
