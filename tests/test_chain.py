"""A network end to end, each node rounded once."""

import math

import numpy as np

from cnnspec import exact
from cnnspec.blocks import Branches, Residual, Seq
from cnnspec.chain import Distance, chained, distance
from cnnspec.graph import Network
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU


def test_each_node_takes_rounded_values_and_is_rounded_once() -> None:
    net = Network(Seq(one=Linear(2, 1, bias=False), two=Linear(1, 1, bias=False)))
    given = {
        "input": np.array([[1.0, 2.0**-24]]),
        "one.weight": np.array([[1.0, 1.0]]),
        "two.weight": np.array([[2.0**24 + 2]]),
    }
    found = chained(net, given, "float32")
    assert found["one"].tolist() == [[1.0]]  # 1 + 2^-24 is half way, and 1 is even
    assert found["two"].tolist() == [[2.0**24 + 2]]
    assert chained(net, given, "float64")["two"].tolist() == [[2.0**24 + 3 + 2.0**-23]]


def test_joins_and_copies_are_nodes_as_others() -> None:
    net = Network(Seq(Residual(Seq(relu=ReLU())), Branches(a=ReLU(), b=ReLU()), Flatten()))
    found = chained(net, {"input": np.array([[[-1.0, 2.0]]])}, "float32")
    assert found[net.outputs[0]].tolist() == [[0.0, 4.0, 0.0, 4.0]]


def test_a_convolution_is_that_of_the_exact_engine() -> None:
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(shape).astype(np.float32) for shape in ((1, 3, 8, 8), (4, 3, 3, 3)))
    net = Network(Seq(conv=Conv2d(3, 4, 3, bias=False)))
    found = chained(net, {"input": x.astype(float), "conv.weight": w.astype(float)}, "float32")
    assert np.array_equal(found["conv"], exact.conv2d(x, w))


def test_what_is_not_finite_stays_and_is_left_out_of_the_distance() -> None:
    net = Network(Seq(fc=Linear(1, 1, bias=False)))
    found = chained(net, {"input": np.array([[math.nan], [2.0]]), "fc.weight": np.array([[3.0]])}, "float32")[
        "fc"
    ]
    assert math.isnan(found[0, 0])
    assert distance(np.array([[1.0], [6.5]]), found) == Distance(0.5, 6.0)
    assert str(Distance(0.5, 5.0)) == "end to end off by 0.5, 0.1 of the largest output"
    assert str(distance(np.zeros(0), np.zeros(0))) == "end to end off by 0, 0 of the largest output"
