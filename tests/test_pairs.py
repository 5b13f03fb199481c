"""Which node of another hand's network stands for which node of the definition."""

from cnnspec.blocks import Residual, Seq, Shared
from cnnspec.graph import Network
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.pairs import pairs, uses

BODY = {"fc1": Linear(2, 2), "relu1": ReLU(), "fc2": Linear(2, 2)}


def test_a_network_is_its_own_pair() -> None:
    net = Network(Residual(Seq(**BODY), after=Seq(relu2=ReLU())))
    assert pairs(net, net) == {name: name for name in net.nodes}


def test_one_layer_used_twice_stands_for_two() -> None:
    relu = ReLU()
    mine = Network(Residual(Seq(fc1=Linear(2, 2), act=relu, fc2=Linear(2, 2)), after=Seq(last=relu)))
    wanted = Network(Residual(Seq(**BODY), after=Seq(relu2=ReLU())))
    assert pairs(wanted, mine)["relu1"] == "act"
    assert pairs(wanted, mine)["relu2"] == "last"


def test_parameters_tell_layers_of_other_names() -> None:
    tied = Shared(Linear(2, 2))
    mine = Network(Seq(first=tied))
    named = Network(Seq(other=tied))
    assert pairs(named, named) == {"other": "other"}
    moved = pairs(Network(Seq(fc=Linear(2, 2))), mine)
    assert moved == {"fc": "first"}  # of the same operator below the same path


def test_what_is_missing_has_no_pair() -> None:
    without = Network(Seq(**BODY, relu2=ReLU()))
    wanted = Network(Residual(Seq(**BODY), after=Seq(relu2=ReLU())))
    found = pairs(wanted, without)
    assert "add" not in found
    assert found["relu2"] == "relu2"


def test_what_takes_the_right_values_goes_before_what_stands_first() -> None:
    early = Network(Residual(Seq(fc=Linear(2, 2), a=ReLU()), after=Seq(b=ReLU())))
    wanted = Network(Residual(Seq(fc=Linear(2, 2)), after=Seq(last=ReLU())))
    assert pairs(wanted, early)["last"] == "b"


def test_uses_name_each_use_and_its_place() -> None:
    net = Network(Residual(Seq(**BODY)))
    assert uses(net) == {
        "input": [("fc1", 0), ("add", 0)],
        "fc1": [("relu1", 0)],
        "relu1": [("fc2", 0)],
        "fc2": [("add", 1)],
    }
