"""The architectures: published totals, names as in torchvision, and the arguments that make them small."""

import random
from collections.abc import Sequence

import pytest

from cnnspec import casebook, nested, nets
from cnnspec.blocks import Node, Seq
from cnnspec.errors import ArgumentError, ShapeError, UsageError
from cnnspec.graph import Network
from cnnspec.nets import images
from cnnspec.nets.resnets import residual
from cnnspec.op import Operator
from cnnspec.ops.combine import Concat
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.linear import Linear
from cnnspec.tables import summary
from tests.networks_in_torch import integer_parameters, integers

# torchvision's model cards: num_params, and _ops in 10^9 products, three decimals.
CARDS = {
    "alexnet": (61_100_840, 714),
    "vgg11": (132_863_336, 7_609),
    "vgg13": (133_047_848, 11_308),
    "vgg16": (138_357_544, 15_470),
    "vgg19": (143_667_240, 19_632),
    "vgg11_bn": (132_868_840, 7_609),
    "vgg13_bn": (133_053_736, 11_308),
    "vgg16_bn": (138_365_992, 15_470),
    "vgg19_bn": (143_678_248, 19_632),
    "googlenet": (6_624_904, 1_498),
    "resnet18": (11_689_512, 1_814),
    "resnet34": (21_797_672, 3_664),
    "resnet50": (25_557_032, 4_089),
    "resnet101": (44_549_160, 7_801),
    "resnet152": (60_192_808, 11_514),
    "resnext50_32x4d": (25_028_904, 4_230),
    "wide_resnet50_2": (68_883_240, 11_398),
    "densenet121": (7_978_856, 2_834),
    "densenet161": (28_681_000, 7_728),
    "densenet169": (14_149_480, 3_360),
    "densenet201": (20_013_928, 4_291),
}
# torch.utils.flop_counter on 1x3x224x224, halved.
PRODUCTS = {
    "resnet18": 1_814_073_344,
    "googlenet": 1_498_376_192,
    "vgg16": 15_470_264_320,
    "densenet201": 4_291_365_888,
    "resnet152": 11_513_626_624,
}


def card(net: Network) -> tuple[int, int]:
    """Return parameters and 10^6 products, rounded half to even, of one image of 3x224x224."""
    table = summary(net, (1, 3, 224, 224))
    assert table.macs is not None
    return table.parameter_count, round(table.macs / 10**6)


@pytest.mark.parametrize("name", list(CARDS))
def test_model_card(name: str) -> None:
    assert card(nets.build(name)) == CARDS[name]


@pytest.mark.parametrize("name", list(PRODUCTS))
def test_products_to_the_last_digit(name: str) -> None:
    assert summary(nets.build(name)).macs == PRODUCTS[name]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet50", {"width_per_group": 32}),
        ("resnext50_32x4d", {"groups": 16}),
        ("vgg16", {"hidden": 4095}),
        ("resnet18", {"classes": 1001}),
        ("densenet121", {"width": 62}),
        ("googlenet", {"width": 63}),
    ],
)
def test_another_network_has_another_card(name: str, arguments: dict[str, int]) -> None:
    assert card(nets.build(name, **arguments)) != CARDS[name]


# Names


def names_below(net: Network, path: str) -> list[str]:
    return [name.removeprefix(f"{path}.") for name, _ in net.named_parameters(path)]


def normed(*pairs: tuple[str, str]) -> list[str]:
    """Return the parameters of convolutions without bias, each with its norm."""
    return [name for conv, bn in pairs for name in (f"{conv}.weight", f"{bn}.weight", f"{bn}.bias")]


ONE, TWO, THREE = ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")
DOWN = ("downsample.0", "downsample.1")


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("resnet18", "layer2.0", normed(ONE, TWO, DOWN)),
        ("resnet18", "layer2.1", normed(ONE, TWO)),
        ("resnext50_32x4d", "layer1.0", normed(ONE, TWO, THREE, DOWN)),
        ("resnet152", "fc", ["weight", "bias"]),
        ("vgg16_bn", "features.40", ["weight", "bias"]),
        ("vgg16", "classifier", [f"{place}.{word}" for place in (0, 3, 6) for word in ("weight", "bias")]),
        ("alexnet", "classifier", [f"{place}.{word}" for place in (1, 4, 6) for word in ("weight", "bias")]),
        ("alexnet", "features", [f"{place}.{word}" for place in (0, 3, 6, 8, 10) for word in ("weight", "bias")]),
        ("googlenet", "inception4a.branch3", normed(("0.conv", "0.bn"), ("1.conv", "1.bn"))),
        ("googlenet", "inception4a.branch4", normed(("1.conv", "1.bn"))),
        ("densenet121", "features.denseblock3.denselayer24", normed(("conv1", "norm1"), ("conv2", "norm2"))),
        ("densenet121", "features.transition3", normed(("conv", "norm"))),
    ],
)  # fmt: skip
def test_parameters_are_named_as_in_torchvision(name: str, path: str, expected: list[str]) -> None:
    assert sorted(names_below(nets.build(name), path)) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("resnet34", "conv1.weight", "fc.bias"),
        ("vgg11", "features.0.weight", "classifier.6.bias"),
        ("googlenet", "conv1.conv.weight", "fc.bias"),
        ("densenet169", "features.conv0.weight", "classifier.bias"),
    ],
)
def test_first_and_last_parameter(name: str, first: str, last: str) -> None:
    names = list(nets.build(name).parameter_shapes())
    assert (names[0], names[-1]) == (first, last)


def test_running_statistics_are_buffers() -> None:
    buffers = nets.resnet18().buffer_shapes()
    assert len(buffers) == 2 * 20
    assert buffers["layer4.1.bn2.running_var"] == (512,)


# What the literature says of them


def operators(net: Network, kind: type[Operator]) -> list[Node]:
    return [node for node in net if isinstance(node.operator, kind)]


def test_alexnet_has_eight_layers() -> None:
    assert len(operators(nets.alexnet(), Conv2d)) == 5
    assert len(operators(nets.alexnet(), Linear)) == 3


def test_googlenet_has_nine_blocks_of_four_paths() -> None:
    for net in (nets.googlenet(), nets.googlenet_d2l()):
        joins = operators(net, Concat)
        assert len(joins) == 9
        assert {len(node.inputs) for node in joins} == {4}


def test_nin_has_no_dense_layer() -> None:
    assert operators(nets.nin(), Linear) == []
    assert len(operators(nets.nin(), Conv2d)) == 4 * 3


@pytest.mark.parametrize("layers", [121, 161, 169, 201])
def test_densenet_counts_its_layers(layers: int) -> None:
    net = nets.build(f"densenet{layers}")
    counted = [node for node in net if isinstance(node.operator, Conv2d | Linear)]
    assert len(counted) == layers


@pytest.mark.parametrize("layers", [18, 34, 50, 101, 152])
def test_resnet_counts_its_layers(layers: int) -> None:
    net = nets.build(f"resnet{layers}")
    counted = [
        node for node in net if isinstance(node.operator, Conv2d | Linear) and "downsample" not in node.name
    ]
    assert len(counted) == layers


@pytest.mark.parametrize("layers", [11, 13, 16, 19])
def test_vgg_counts_its_layers(layers: int) -> None:
    net = nets.build(f"vgg{layers}")
    assert len([node for node in net if isinstance(node.operator, Conv2d | Linear)]) == layers


def test_residual_of_d2l() -> None:
    # Dive into Deep Learning, 8.6.2: the shape stays, or has half the size
    assert Network(Seq(residual(3, 3))).output_shape((4, 3, 6, 6)) == (4, 3, 6, 6)
    halved = Network(Seq(residual(3, 6, stride=2, use_1x1conv=True)))
    assert halved.output_shape((4, 3, 6, 6)) == (4, 6, 3, 3)


def test_resnet_may_stride_in_the_last_block() -> None:
    for where, strides in (("first", [2, 1, 1, 1]), ("last", [1, 1, 1, 2])):
        net = nets.resnet50(stride_in=where)
        convolutions = [net[f"layer2.{n}.conv2"].operator for n in range(4)]
        assert [one.windows[0].stride for one in convolutions if isinstance(one, Conv2d)] == strides
        assert card(net)[0] == 25_557_032
    with pytest.raises(ArgumentError, match="stride_in='middle' must be 'first' or 'last'"):
        nets.resnet50(stride_in="middle")


# Small forms, and forms of another source


SMALL = {
    **dict.fromkeys(("lenet5", "lenet_fleuret", "cs428_net"), 22),
    "mlp": 3,
    "alexnet": 64,
    **dict.fromkeys((name for name in nets.NAMES if name.startswith("vgg")), 32),
    "nin": 67,
}


@pytest.mark.parametrize("name", nets.NAMES)
def test_small_form_computes(name: str) -> None:
    width = 4 if name in ("densenet121", "resnet50", "googlenet", "googlenet_d2l") else 2
    size = SMALL.get(name, 32)
    hidden = {"hidden": 3} if name.startswith("vgg") else {}
    groups = {"groups": 2, "width_per_group": 32} if name.startswith("resnext") else {}
    net = nets.build(name, width=width, in_channels=1, classes=3, input_size=size, **hidden, **groups)
    assert net.output_shape(*net.input_shapes) == (1, 3)
    if sum(row.macs or 0 for row in summary(net).rows) > 150_000:
        return
    generator = random.Random(0)
    x = integers(net.input_shapes[0], generator)
    values = net.reference(x, parameters=integer_parameters(net, generator))
    assert nested.shape_of(values) == (1, 3)


def test_image_that_is_too_small_is_refused_with_its_layer() -> None:
    with pytest.raises(ShapeError, match=r"layer conv2, Conv2d\(6, 16, 5\), does not take \(1, 6, 4, 4\)"):
        nets.lenet5(input_size=8)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnext50_32x4d", {"width": 8}, "width=8 times width_per_group=4 must be at least 64: a group has"),
        ("resnext50_32x4d", {"width_per_group": 0}, "width=64 times width_per_group=0 must be at least 64"),
        (
            "resnet18",
            {"width": 0},
            "conv1.weight of shape (0, 3, 7, 7) would be empty: width, classes and hidden",
        ),
        ("lenet5", {"width": 0}, "width=0 must be at least 1"),
        ("vgg16", {"hidden": 0}, "classifier.0.weight of shape (0, 25088) would be empty"),
        ("mlp", {"classes": 0}, "2.weight of shape (0, 512) would be empty"),
        ("mlp", {"input_size": 0}, "in_channels=3 and input_size=0 must be at least 1"),
        ("densenet121", {"in_channels": 0}, "in_channels=0 and input_size=224 must be at least 1"),
    ],
)
def test_a_network_without_channels_is_refused(name: str, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        nets.build(name, **arguments)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", nets.NAMES)
@pytest.mark.parametrize("argument", ["width", "in_channels", "classes", "input_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_no_size_of_an_architecture_may_be_0(name: str, argument: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=r"must be at least|must not be negative"):
        nets.build(name, **{argument: value})


def test_the_least_group_has_one_channel() -> None:
    assert nets.resnext50_32x4d(width=16)["layer1.0.conv2"].operator == Conv2d(
        32, 32, 3, padding=1, groups=32, bias=False
    )


def test_definitions_state_the_input_they_are_meant_for() -> None:
    meant = {name: nets.build(name).input_shapes for name in nets.NAMES}
    assert meant["resnet18"] == ((1, 3, 224, 224),)
    assert meant["lenet5"] == ((1, 1, 28, 28),)
    assert all(len(shapes) == 1 for shapes in meant.values())
    assert images.image(1, 96) == meant["resnet18_d2l"][0]


# The catalogue


def test_names_load_when_asked_for() -> None:
    assert {*nets.NAMES} <= {*dir(nets)}
    for name in nets.NAMES:
        assert callable(getattr(nets, name))
    with pytest.raises(AttributeError, match="has no attribute 'resnet19'"):
        nets.resnet19  # noqa: B018


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet17", "unknown network 'resnet17': did you mean resnet"),
        ("transformer", "unknown network 'transformer': known are lenet5, "),
    ],
)
def test_unknown_network(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        nets.build(name)
    assert message in str(error.value)


def test_every_network_has_an_entry() -> None:
    entries: Sequence[casebook.Entry] = casebook.load_all(casebook.specs_directory() / "nets")
    assert {entry.network for entry in entries if isinstance(entry, casebook.NetworkTable)} == {*nets.NAMES}
