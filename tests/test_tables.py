"""Summaries: shapes, costs and receptive fields along a sequence, as text, CSV, JSON and a frame."""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from cnnspec import nets
from cnnspec.blocks import Seq, Shared
from cnnspec.errors import ArgumentError, ShapeError, UsageError
from cnnspec.graph import Network
from cnnspec.op import Operator
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.linear import Linear
from cnnspec.spelling import spec_name
from cnnspec.tables import named, parse_operator, summary
from cnnspec.window import ReceptiveField


def layers(*texts: str) -> list[Operator]:
    return [parse_operator(text) for text in texts]


# Fleuret, "Deep learning", 4.6: the table of shapes, parameters and products of its LeNet-like network.
LENET = {
    "Conv2d(1, 32, 5)": ((1, 32, 24, 24), 832, 460_800),
    "MaxPool2d(3)": ((1, 32, 8, 8), 0, 0),
    "ReLU()": ((1, 32, 8, 8), 0, 0),
    "Conv2d(32, 64, 5)": ((1, 64, 4, 4), 51_264, 819_200),
    "MaxPool2d(2)": ((1, 64, 2, 2), 0, 0),
    "Flatten()": ((1, 256), 0, 0),
    "Linear(256, 200)": ((1, 200), 51_400, 51_200),
    "Linear(200, 10)": ((1, 10), 2_010, 2_000),
}


def vgg16() -> list[str]:
    """Return VGG-16's convolutions and poolings, as Simonyan & Zisserman's configuration D."""
    texts, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            texts += [f"Conv2d({channels}, {width}, 3, padding=1)", "ReLU()"]
            channels = width
        texts.append("MaxPool2d(2)")
    return texts


def test_lenet_of_the_lecture() -> None:
    table = summary(layers(*LENET), (1, 1, 28, 28))
    assert {row.op: (row.output_shape, row.parameter_count, row.macs) for row in table.rows} == LENET
    assert (table.parameter_count, table.macs) == (105_506, 1_333_200)
    assert table.flops == 2 * 1_333_200
    assert table.bias_adds == 32 * 24 * 24 + 64 * 4 * 4 + 200 + 10
    assert table.parameter_bytes == 4 * 105_506
    assert table.output_shape == (1, 10)


def test_receptive_field_of_vgg_16() -> None:
    # Araujo, Norris, Sim, Distill 2019: 196 after conv5_3 and 212 after pool5; padding 90 by hand:
    # the padding of 1 of two or three convolutions in front of strides 1, 2, 4, 8, 16.
    table = summary(layers(*vgg16()), (1, 3, 224, 224))
    conv5_3, _, pool5 = table.rows[-3:]
    padding = 2 * 1 + 2 * 2 + 3 * 4 + 3 * 8 + 3 * 16
    assert conv5_3.receptive_field == (ReceptiveField(196, 16, -padding),) * 2
    assert pool5.receptive_field == (ReceptiveField(212, 32, -padding),) * 2
    assert table.receptive_field == pool5.receptive_field


@pytest.mark.parametrize(
    ("texts", "shape", "field"),
    [
        (["ReLU"], (2, 3), ()),
        (["Linear(3, 4)"], (2, 3), None),
        (["Conv1d(1, 1, 3)", "Flatten"], (2, 1, 9), None),
        (["Conv1d(1, 1, 3)", "Flatten", "ReLU"], (2, 1, 9), None),
        (["ReLU", "Conv1d(1, 1, 3, stride=2)", "Sigmoid"], (2, 1, 9), (ReceptiveField(3, 2, 0),)),
        (["Conv1d(1, 2, 3)", "Softmax(1)"], (2, 1, 9), (ReceptiveField(3, 1, 0),)),
        (["Conv1d(1, 2, 3)", "Softmax(-1)"], (2, 1, 9), None),
        # by hand: padding moves what output 0 sees, and nothing else
        (["Pad((1, 2))", "Conv1d(1, 1, 3, stride=2)"], (2, 1, 9), (ReceptiveField(3, 2, -1),)),
        (["Conv1d(1, 1, 3, stride=2)", "Pad((1, 2))"], (2, 1, 9), (ReceptiveField(3, 2, -2),)),
        (
            ["Pad((1, 1, 2, 2))", "Conv2d(1, 1, (3, 5), stride=(2, 1))", "AvgPool2d(2)"],
            (1, 9, 9),
            (ReceptiveField(5, 4, -2), ReceptiveField(6, 2, -1)),
        ),
    ],
)
def test_receptive_field_along_a_path(texts: list[str], shape: tuple[int, ...], field: Any) -> None:
    assert summary(layers(*texts), shape).receptive_field == field


def test_padding_costs_products_that_touch_no_data() -> None:
    # by hand: rows of 2 + 3 + 3 + 2 taps on data out of 4 * 3, in both axes
    table = summary(parse_operator("Conv2d(1, 1, 3, padding=1)"), (1, 1, 4, 4))
    assert (table.macs, table.macs_effective) == (16 * 9, 10 * 10)


def test_bytes_follow_the_dtype() -> None:
    table = summary(parse_operator("Linear(3, 4)"), (2, 3), dtype="bfloat16")
    assert (table.parameter_bytes, table.activation_bytes) == (2 * (12 + 4), 2 * 8)
    with pytest.raises(ArgumentError, match="dtype='half'"):
        summary(parse_operator("Linear(3, 4)"), (2, 3), dtype="half")


def test_batch_may_be_a_name() -> None:
    named, one = (summary(layers(*LENET), (batch, 1, 28, 28)) for batch in ("N", 1))
    assert [row.output_shape for row in named.rows] == [("N", *row.output_shape[1:]) for row in one.rows]
    assert named.macs == one.macs
    assert str(named).endswith("for N = 1")
    flat = summary(parse_operator("Flatten(start_dim=0)"), ("batch", 3, 5))
    assert flat.output_shape == ("15batch",)
    assert summary(parse_operator("Concat(0)"), (("N", 3), (4, 3))).output_shape == ("N+4", 3)


def test_several_inputs_of_one_operator() -> None:
    assert summary(parse_operator("Add"), ((2, 1, 5), (3, 1))).output_shape == (2, 3, 5)


def test_names_are_kept() -> None:
    table = summary({"stem": parse_operator("Conv1d(1, 2, 3)"), "act": parse_operator("ReLU")}, (1, 1, 9))
    assert [row.name for row in table.rows] == ["stem", "act"]


@pytest.mark.parametrize(
    ("texts", "shape", "message"),
    [
        (
            ["Conv2d(1, 2, 3)", "ReLU", "Conv2d(3, 4, 3)"],
            (1, 1, 9, 9),
            "layer 2, Conv2d(3, 4, 3), does not take (1, 2, 7, 7): in_channels=3 ",
        ),
        (
            ["Flatten", "Linear(8, 2)"],
            (1, 3, 3),
            "layer 1, Linear(8, 2), does not take (1, 9): the last axis",
        ),
        (["ReLU", "Add"], (3, 5), "layer 1, Add(), does not take (3, 5): it takes 2 inputs"),
        (["ReLU"], ((3, 5), (3, 5)), "layer 0, ReLU(), does not take (3, 5) and (3, 5): it takes 1 inputs"),
        (["ReLU"], (3, "W"), "input_shape=(3, 'W') must hold sizes; the batch alone may be a name"),
        (["ReLU"], (3, -1), "input_shape=(3, -1) must hold sizes"),
        (["ReLU"], (3, 2.0), "input_shape=(3, 2.0) must hold sizes"),
        (["Add"], (("N", 3), ("M", 3)), "must hold sizes; the batch alone may be a name"),
    ],
)
def test_refusal_names_the_layer(texts: list[str], shape: Any, message: str) -> None:
    with pytest.raises(ShapeError) as error:
        summary(layers(*texts), shape)
    assert message in str(error.value)


def test_refusal_carries_the_layer() -> None:
    with pytest.raises(ShapeError) as error:
        summary({"head": parse_operator("Linear(8, 2)")}, (1, 9))
    assert error.value.values["layer"] == "head"


@pytest.mark.parametrize("wrong", [[], {}, ["ReLU"], [None]])
def test_what_is_no_operator_is_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"no operator|is empty"):
        summary(wrong, (1, 9))


TABLE = summary(layers("Conv2d(3, 4, (3, 1), bias=False)", "ReLU", "Flatten"), ("N", 3, 5, 7))


def test_text_is_aligned() -> None:
    expected = """\
layer  operator                          output shape  parameters  MACs  effective MACs  receptive field
0      Conv2d(3, 4, (3, 1), bias=False)  (N, 4, 3, 7)          36   756             756  3x1
1      ReLU()                            (N, 4, 3, 7)           0     0               0  3x1
2      Flatten()                         (N, 84)                0     0               0  all
total                                                          36   756             756
1,512 FLOPs and 0 additions of a bias, for N = 1
144 bytes of parameters and 1,008 of outputs in float32, for N = 1"""
    assert str(TABLE) == expected


def test_csv() -> None:
    conv, _, flat = csv.DictReader(io.StringIO(TABLE.to_csv()))
    assert (conv["name"], conv["output_shape"], conv["parameter_count"], conv["macs"]) == (
        "0",
        "Nx4x3x7",
        "36",
        "756",
    )
    assert (conv["receptive_size"], conv["receptive_stride"], conv["receptive_offset"]) == (
        "3x1",
        "1x1",
        "0x0",
    )
    assert flat["receptive_size"] == ""


def test_json() -> None:
    told = json.loads(TABLE.to_json())
    assert (told["dtype"], told["batch"], told["totals"]["macs"]) == ("float32", "N", 756)
    assert told["rows"][0]["output_shape"] == ["N", 4, 3, 7]
    assert told["rows"][0]["receptive_size"] == [3, 1]
    assert told["rows"][2]["receptive_size"] is None


def test_frame() -> None:
    frame = TABLE.to_frame()
    assert list(frame["macs"]) == [756, 0, 0]
    assert frame.loc[0, "output_shape"] == ("N", 4, 3, 7)


# Operators from outside the catalogue


@dataclass(frozen=True)
class Twice(Operator):
    """Every pixel twice: an operator that the catalogue does not have."""

    times: int = 2

    def output_shape(self, *input_shapes: tuple[int, ...]) -> tuple[int, ...]:
        return (*input_shapes[0][:-1], self.times * input_shapes[0][-1])


def test_operator_outside_the_catalogue_has_a_row() -> None:
    assert spec_name(Twice()) is None
    table = summary(Twice(times=3), (2, 5))
    (row,) = table.rows
    assert (row.op, row.output_shape, row.receptive_field) == ("Twice(times=3)", (2, 15), "unavailable")
    assert (row.macs, row.macs_effective, row.bias_adds, row.flops) == (None,) * 4
    assert (table.macs, table.parameter_count, row.as_dict()["receptive_size"]) == (None, 0, "unavailable")
    assert str(table).count("unavailable") == 2 + 1 + 2 + 3  # row, field, totals, FLOPs, additions, norms
    (line,) = csv.DictReader(io.StringIO(table.to_csv()))
    assert (line["macs"], line["flops"], line["parameter_count"]) == ("unavailable", "unavailable", "0")
    assert json.loads(table.to_json())["totals"]["macs"] is None


@dataclass(frozen=True)
class Weighted(Twice):
    """An operator from outside that says what it multiplies."""

    def macs(self, *input_shapes: tuple[int, ...]) -> int:
        return 7


def test_what_an_operator_says_of_itself_counts() -> None:
    (row,) = summary(Weighted(), (2, 5)).rows
    assert (row.macs, row.macs_effective, row.flops, row.bias_adds) == (7, 7, 14, None)


# Networks


def tied() -> Network:
    shared = Shared(parse_operator("Linear(4, 4)"))
    return Network(Seq(shared, parse_operator("ReLU"), shared, Linear(4, 2)), input_shapes=((3, 4),))


def test_tied_weights_count_once() -> None:
    table = summary(tied())
    assert [row.parameter_count for row in table.rows] == [20, 0, 0, 10]
    assert (table.rows[2].shared_count, table.rows[2].shared_with) == (20, ("0",))
    assert (table.parameter_count, table.parameter_bytes) == (30, 120)
    assert table.macs == 3 * (16 + 16 + 8)  # used twice, multiplied twice
    assert "0 (+20 of 0)" in str(table)
    told = json.loads(table.to_json())["rows"][2]
    assert (told["shared_count"], told["shared_with"]) == (20, ["0"])
    assert list(csv.DictReader(io.StringIO(table.to_csv())))[2]["shared_with"] == "0"


def test_frozen_parameters_are_told() -> None:
    table = summary(tied().freeze("0"))
    assert [row.trainable_count for row in table.rows] == [0, 0, 0, 10]
    assert str(table).endswith("\n10 parameters are trained")
    assert "are trained" not in str(summary(tied()))


def test_parts_of_a_network() -> None:
    table = summary(nets.resnet18())
    part = table.under("layer2.0.downsample")
    assert [row.name for row in part.rows] == ["layer2.0.downsample.0", "layer2.0.downsample.1"]
    assert part.parameter_count == 64 * 128 + 2 * 128
    assert part.output_shape == (1, 128, 28, 28)
    assert table.under("layer2").macs == sum(
        row.macs or 0 for row in table.rows if row.name.startswith("layer2.")
    )
    with pytest.raises(ArgumentError, match="'layer9' is no node and no path to nodes: conv1, bn1"):
        table.under("layer9")


def test_input_of_a_network() -> None:
    assert summary(nets.lenet5()).output_shape == (1, 10)
    assert summary(nets.lenet5(), (None, 1, 28, 28)).output_shape == ("N", 10)
    with pytest.raises(ArgumentError, match="input_shape is missing: give the shape of the input"):
        summary(Network(Seq(parse_operator("ReLU"))))
    with pytest.raises(ShapeError, match="input_shape holds 2 shapes, and the network has the inputs input"):
        summary(nets.lenet5(), ((1, 1, 28, 28), (1, 1, 28, 28)))


def test_another_size_follows_the_first_summary() -> None:
    net = nets.resnet18()
    small, large, again = (summary(net, (1, 3, size, size)) for size in (64, 224, 64))
    assert small == again
    assert (small.macs, large.macs) == (summary(nets.resnet18(), (1, 3, 64, 64)).macs, 1_814_073_344)


def test_named_batch_follows_branches() -> None:
    table = summary(nets.googlenet_d2l(), ("N", 1, 96, 96))
    one = summary(nets.googlenet_d2l(), (1, 1, 96, 96))
    assert [row.output_shape for row in table.rows] == [("N", *row.output_shape[1:]) for row in one.rows]
    assert table.macs == one.macs


# fvcore's total less the products, and less one operation for each input of the global pool: 2 for each normed element.
@pytest.mark.parametrize(
    ("name", "fvcore", "pooled"),
    [
        ("resnet18", 1_819_065_856, 512 * 49),
        ("googlenet", 1_504_878_688, 1024 * 49),
        ("densenet201", 4_340_870_784, 1920 * 49),
        ("resnet152", 11_558_835_200, 2048 * 49),
    ],
)
def test_operations_of_norms(name: str, fvcore: int, pooled: int) -> None:
    table = summary(nets.build(name))
    assert table.macs is not None
    assert table.norm_ops == fvcore - table.macs - pooled


def test_operations_of_norms_by_hand() -> None:
    for text, operations in (
        ("BatchNorm2d(4)", 2),
        ("BatchNorm2d(4, training=True)", 6),
        ("GroupNorm(2, 4)", 6),
        ("LocalResponseNorm(3)", 7),
        ("ReLU", 0),
    ):
        table = summary(parse_operator(text), (2, 4, 3, 3))
        assert table.norm_ops == 72 * operations
    assert "0 FLOPs, 0 additions of a bias and 144 of normalizations" in str(
        summary(parse_operator("BatchNorm2d(4)"), (2, 4, 3, 3))
    )


# torchinfo counts products, one addition for each element with a bias, and once each parameter of a norm.
@pytest.mark.parametrize(
    ("name", "torchinfo", "norms"),
    [("vgg16", 15_483_821_032, 0), ("resnet18", 1_814_083_944, 9_600)],
)
def test_additions_of_a_bias(name: str, torchinfo: int, norms: int) -> None:
    table = summary(nets.build(name))
    assert (table.macs or 0) + (table.bias_adds or 0) == torchinfo - norms


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "googlenet", "densenet121"])
def test_products_on_data_are_those_of_ones(name: str) -> None:
    """The sum of a convolution of ones by ones is the number of its products that touch data."""
    net = nets.build(name)
    shapes = net.shapes(*net.input_shapes) | dict(zip(net.inputs, net.input_shapes, strict=True))
    for row in summary(net).rows:
        operator = net[row.name].operator
        if isinstance(operator, Conv2d):
            height, width = shapes[net[row.name].inputs[0]][2:]
            kernel = torch.ones(1, 1, *operator.parameter_shapes()["weight"][2:])
            window: Any = (None, operator.stride, operator.padding, operator.dilation)
            ones = torch.nn.functional.conv2d(torch.ones(1, 1, height, width), kernel, *window)
            channels = operator.in_channels * operator.out_channels // operator.groups
            assert row.macs_effective == int(ones.to(torch.float64).sum()) * channels


# Networks by name


def test_named() -> None:
    assert named(["resnet18"]).parameter_count == 11_689_512
    assert named(["Conv1d(1, 1, 3)", "ReLU"]).output_shape((1, 1, 5)) == (1, 1, 3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["resnet19"], "unknown network 'resnet19': did you mean resnet"),
        (["Conv9d(1)"], "unknown operator 'Conv9d'"),
        (["resnet18", "ReLU"], "unknown operator 'resnet18'"),
    ],
)
def test_names_that_nothing_has(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        named(texts)
    assert message in str(error.value)
