"""GoogLeNet: nine Inception blocks, each of four paths whose channels are laid one behind the other.

Source: Szegedy et al., "Going deeper with convolutions", 2015, table 1.
"""

from collections.abc import Mapping

from cnnspec.blocks import Branches, Seq
from cnnspec.graph import Network
from cnnspec.nets.images import network, scaled
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool2d
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.dropout import Dropout
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import MaxPool2d

Channels = tuple[int, ...]

TABLE: Mapping[str, Channels] = {
    #     1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(width: int = 64, in_channels: int = 3, classes: int = 1000, input_size: int = 224) -> Network:
    """Return GoogLeNet as torchvision has it: batch norm, 3x3 in place of 5x5, pools in ceil mode, no side heads.

    >>> googlenet().parameter_count
    6624904
    """
    second, before = scaled(64, width, 64), scaled(192, width, 64)
    inception = {}
    for name in TABLE:
        channels = [scaled(count, width, 64) for count in TABLE[name]]
        inception[name] = _with_batch_norm(before, *channels)
        before = _joined(channels)
    body = Seq(
        conv1=_normed(in_channels, width, 7, stride=2, padding=3),
        maxpool1=MaxPool2d(3, stride=2, ceil_mode=True),
        conv2=_normed(width, second, 1),
        conv3=_normed(second, scaled(192, width, 64), 3, padding=1),
        maxpool2=MaxPool2d(3, stride=2, ceil_mode=True),
        inception3a=inception["3a"],
        inception3b=inception["3b"],
        maxpool3=MaxPool2d(3, stride=2, ceil_mode=True),
        inception4a=inception["4a"],
        inception4b=inception["4b"],
        inception4c=inception["4c"],
        inception4d=inception["4d"],
        inception4e=inception["4e"],
        maxpool4=MaxPool2d(2, stride=2, ceil_mode=True),
        inception5a=inception["5a"],
        inception5b=inception["5b"],
        avgpool=AdaptiveAvgPool2d(1),
        flatten=Flatten(),
        dropout=Dropout(0.2),
        fc=Linear(before, classes),
    )
    return network(body, in_channels, input_size)


def _with_batch_norm(
    before: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int
) -> Branches:
    return Branches(
        branch1=_normed(before, one, 1),
        branch2=Seq(_normed(before, reduce3, 1), _normed(reduce3, three, 3, padding=1)),
        branch3=Seq(_normed(before, reduce5, 1), _normed(reduce5, five, 3, padding=1)),
        branch4=Seq(MaxPool2d(3, stride=1, padding=1, ceil_mode=True), _normed(before, pool, 1)),
    )


def _normed(before: int, channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> Seq:
    return Seq(
        conv=Conv2d(before, channels, kernel_size, stride=stride, padding=padding, bias=False),
        bn=BatchNorm2d(channels, eps=0.001),
        relu=ReLU(),
    )


def googlenet_d2l(width: int = 64, in_channels: int = 1, classes: int = 10, input_size: int = 96) -> Network:
    """Return GoogLeNet as Dive into Deep Learning has it: the paper's 5x5 convolutions, no batch norm.

    Source: Zhang, Lipton, Li & Smola, "Dive into Deep Learning", 8.4.

    >>> googlenet_d2l().output_shape((1, 1, 96, 96))
    (1, 10)
    """
    second, before = scaled(64, width, 64), scaled(192, width, 64)
    stages: dict[str, dict[str, Branches]] = {"3": {}, "4": {}, "5": {}}
    for name in TABLE:
        channels = [scaled(count, width, 64) for count in TABLE[name]]
        stages[name[0]][f"inception{name}"] = _plain(before, *channels)
        before = _joined(channels)
    stem1 = Seq(*_active(in_channels, width, 7, stride=2, padding=3), MaxPool2d(3, stride=2, padding=1))
    stem2 = Seq(
        *_active(width, second, 1),
        *_active(second, scaled(192, width, 64), 3, padding=1),
        MaxPool2d(3, stride=2, padding=1),
    )
    body = Seq(
        b1=stem1,
        b2=stem2,
        b3=Seq(**stages["3"], pool=MaxPool2d(3, stride=2, padding=1)),
        b4=Seq(**stages["4"], pool=MaxPool2d(3, stride=2, padding=1)),
        b5=Seq(**stages["5"], pool=AdaptiveAvgPool2d(1), flatten=Flatten()),
        fc=Linear(before, classes),
    )
    return network(body, in_channels, input_size)


def _plain(before: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> Branches:
    return Branches(
        b1=Seq(*_active(before, one, 1)),
        b2=Seq(*_active(before, reduce3, 1), *_active(reduce3, three, 3, padding=1)),
        b3=Seq(*_active(before, reduce5, 1), *_active(reduce5, five, 5, padding=2)),
        b4=Seq(MaxPool2d(3, stride=1, padding=1), *_active(before, pool, 1)),
    )


def _active(
    before: int, channels: int, kernel_size: int, stride: int = 1, padding: int = 0
) -> tuple[Conv2d, ReLU]:
    return Conv2d(before, channels, kernel_size, stride=stride, padding=padding), ReLU()


def _joined(channels: list[int]) -> int:
    """Return the channels of all four paths."""
    one, _, three, _, five, pool = channels
    return one + three + five + pool
