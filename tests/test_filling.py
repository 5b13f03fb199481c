"""Values of parameters: as torch starts them, by a seed, and by rules."""

from typing import Any

import pytest

from cnnspec import nested
from cnnspec.blocks import Seq
from cnnspec.errors import ArgumentError
from cnnspec.graph import Network
from cnnspec.initialisers import Constant, Dirac, Normal, TruncatedNormal, Uniform, XavierUniform
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.conv_transpose import ConvTranspose2d
from cnnspec.ops.linear import Linear
from cnnspec.ops.prelu import PReLU
from tests.small_networks import linear, nested_blocks, tied_mlp


def test_parameters_start_as_torch_starts_them() -> None:
    net = Network(Seq(fc=Linear(16, 3), norm=BatchNorm2d(3), act=PReLU(3), up=ConvTranspose2d(3, 2, 2)))
    values = net.initialise()
    assert {name: nested.shape_of(array) for name, array in values.items()} == {
        **net.parameter_shapes(),
        **net.buffer_shapes(),
    }
    drawn = nested.ravel(values["fc.weight"]) + nested.ravel(values["fc.bias"])
    assert len(set(drawn)) == 51
    assert max(map(abs, drawn)) <= 1 / 4
    assert (values["norm.weight"], values["norm.bias"]) == ([1] * 3, [0] * 3)
    assert (values["norm.running_mean"], values["norm.running_var"]) == ([0] * 3, [1] * 3)
    assert values["act.weight"] == [0.25] * 3


def test_seed_decides() -> None:
    net = tied_mlp()
    assert net.initialise(seed=3) == net.initialise(seed=3)
    assert net.initialise(seed=3) != net.initialise(seed=4)
    assert "4.weight" not in net.initialise()


def test_rules() -> None:
    net = nested_blocks()
    values = net.initialise({"0": Constant(1), "0.block 1.2": Constant(42), "0.block 1.2.bias": Constant(7)})
    assert values["0.block 0.0.weight"] == [[1] * 4] * 8
    assert (values["0.block 1.2.weight"], values["0.block 1.2.bias"]) == ([[42] * 8] * 4, [7] * 4)
    assert net.initialise(Constant(2))["1.weight"] == [[2] * 4]
    assert net.initialise(Constant(2))["1.bias"] != [2]
    assert Network(Seq(linear(2, 2))).initialise(Dirac()) == {"0.weight": [[1, 0], [0, 1]]}
    with pytest.raises(ArgumentError, match="rules has 'head', which is no parameter"):
        net.initialise({"head": Constant(0)})


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        (Uniform(2, 3), 2, 3),
        (TruncatedNormal(0, 1, -0.5, 0.25), -0.5, 0.25),
        (XavierUniform(), -1, 1),  # sqrt(6 / (3 + 3))
        (Normal(100, 0.01), 99, 101),  # a hundred standard deviations
    ],
)
def test_draws_stay_in_their_support(rule: Any, low: float, high: float) -> None:
    drawn = nested.ravel(Network(Seq(linear(3, 3))).initialise(rule)["0.weight"])
    assert len(set(drawn)) == 9
    assert low <= min(drawn) <= max(drawn) <= high
