"""Residual networks: stages of blocks that add their input to what they compute from it.

Sources: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016, table 1; Xie et al., "Aggregated
residual transformations for deep neural networks", 2017 (ResNeXt); Zagoruyko & Komodakis, "Wide residual networks",
2016.
"""

from functools import cache, partial

from cnnspec.blocks import Residual, Seq
from cnnspec.errors import ArgumentError
from cnnspec.graph import Network
from cnnspec.nets.images import network
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool2d
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import MaxPool2d

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""How many blocks stand in each stage, by the number of layers with weights."""

EXPANSION = {18: 1, 34: 1, 50: 4, 101: 4, 152: 4}
"""Output channels of a block, in multiples of its stage's; 4 are bottlenecks."""


def resnet(
    layers: int,
    groups: int = 1,
    width_per_group: int = 64,
    width: int = 64,
    in_channels: int = 3,
    classes: int = 1000,
    input_size: int = 224,
    stride_in: str = "first",
) -> Network:
    """Return a residual network, its parameters named as in torchvision.

    width_per_group: the channels of the 3x3 convolutions of bottlenecks in each group, for a stage of 64
    stride_in: the block of a stage that halves the image. "first" is the paper's and torchvision's, whose first
    stage does not; "last" is TF-Slim's, whose last stage does not.
    Raises ArgumentError for another `stride_in`, and where groups would have no channels.

    >>> resnet(18).parameter_count, resnet(50).parameter_count
    (11689512, 25557032)
    """
    if stride_in not in ("first", "last"):
        raise ArgumentError(f"stride_in={stride_in!r} must be 'first' or 'last'")
    if EXPANSION[layers] > 1 and width * width_per_group < 64:
        raise ArgumentError(
            f"width={width} times width_per_group={width_per_group} must be at least 64: a group has "
            "width * width_per_group // 64 channels"
        )
    stages, before = {}, width
    for stage, repeats in enumerate(STAGES[layers]):
        planes = width * 2**stage
        halves = stage > 0 if stride_in == "first" else stage < 3
        place = 0 if stride_in == "first" else repeats - 1
        blocks = []
        for n in range(repeats):
            stride = 2 if halves and n == place else 1
            if EXPANSION[layers] == 1:
                blocks.append(basic(before, planes, stride))
            else:
                inner = int(planes * (width_per_group / 64)) * groups
                blocks.append(bottleneck(before, inner, planes * EXPANSION[layers], stride, groups))
            before = planes * EXPANSION[layers]
        stages[f"layer{stage + 1}"] = Seq(*blocks)
    body = Seq(
        conv1=Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
        bn1=BatchNorm2d(width),
        relu=ReLU(),
        maxpool=MaxPool2d(3, stride=2, padding=1),
        **stages,
        avgpool=AdaptiveAvgPool2d(1),
        flatten=Flatten(),
        fc=Linear(before, classes),
    )
    return network(body, in_channels, input_size)


@cache
def basic(before: int, channels: int, stride: int) -> Residual:
    """Return two 3x3 convolutions beside a shortcut."""
    body = Seq(
        conv1=Conv2d(before, channels, 3, stride=stride, padding=1, bias=False),
        bn1=BatchNorm2d(channels),
        relu1=ReLU(),
        conv2=Conv2d(channels, channels, 3, padding=1, bias=False),
        bn2=BatchNorm2d(channels),
    )
    return Residual(body, _projection(before, channels, stride), after=Seq(relu2=ReLU()))


@cache
def bottleneck(before: int, inner: int, channels: int, stride: int, groups: int) -> Residual:
    """Return 1x1, 3x3 and 1x1 convolutions beside a shortcut; the 3x3 one has the stride and the groups."""
    body = Seq(
        conv1=Conv2d(before, inner, 1, bias=False),
        bn1=BatchNorm2d(inner),
        relu1=ReLU(),
        conv2=Conv2d(inner, inner, 3, stride=stride, padding=1, groups=groups, bias=False),
        bn2=BatchNorm2d(inner),
        relu2=ReLU(),
        conv3=Conv2d(inner, channels, 1, bias=False),
        bn3=BatchNorm2d(channels),
    )
    return Residual(body, _projection(before, channels, stride), after=Seq(relu3=ReLU()))


def _projection(before: int, channels: int, stride: int) -> Seq:
    """Return the shortcut: the identity, every other pixel of it, or a 1x1 convolution where the channels change."""
    if before != channels:
        return Seq(
            downsample=Seq(Conv2d(before, channels, 1, stride=stride, bias=False), BatchNorm2d(channels))
        )
    return Seq(downsample=MaxPool2d(1, stride=stride)) if stride > 1 else Seq()


resnet18, resnet34, resnet50, resnet101, resnet152 = (partial(resnet, layers) for layers in STAGES)
resnext50_32x4d = partial(resnet, 50, groups=32, width_per_group=4)
wide_resnet50_2 = partial(resnet, 50, width_per_group=128)


def resnet18_d2l(width: int = 64, in_channels: int = 1, classes: int = 10, input_size: int = 96) -> Network:
    """Return ResNet-18 as Dive into Deep Learning has it: convolutions have a bias, the shortcut's has no batch norm.

    Source: Zhang, Lipton, Li & Smola, "Dive into Deep Learning", 8.6.

    >>> resnet18_d2l().output_shape((1, 1, 96, 96))
    (1, 10)
    """
    stages, before = {}, width
    for stage, repeats in enumerate(STAGES[18]):
        channels = width * 2**stage
        blocks = []
        for n in range(repeats):
            blocks.append(residual(before, channels, 2 if stage and not n else 1, bool(stage and not n)))
            before = channels
        stages[f"b{stage + 2}"] = Seq(*blocks)
    stem = Seq(
        Conv2d(in_channels, width, 7, stride=2, padding=3),
        BatchNorm2d(width),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
    )
    last = Seq(AdaptiveAvgPool2d(1), Flatten(), Linear(before, classes))
    return network(Seq(b1=stem, **stages, last=last), in_channels, input_size)


def residual(before: int, channels: int, stride: int = 1, use_1x1conv: bool = False) -> Residual:
    """Return the residual block of Dive into Deep Learning, 8.6.2."""
    body = Seq(
        conv1=Conv2d(before, channels, 3, stride=stride, padding=1),
        bn1=BatchNorm2d(channels),
        relu1=ReLU(),
        conv2=Conv2d(channels, channels, 3, padding=1),
        bn2=BatchNorm2d(channels),
    )
    shortcut = Seq(conv3=Conv2d(before, channels, 1, stride=stride)) if use_1x1conv else Seq()
    return Residual(body, shortcut, after=Seq(relu2=ReLU()))
