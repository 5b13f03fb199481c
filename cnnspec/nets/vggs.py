"""VGG: blocks of 3x3 convolutions, each followed by max-pooling that halves the image.

Source: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015, table 1.
"""

from functools import partial

from cnnspec.blocks import Block, Seq
from cnnspec.graph import Network
from cnnspec.nets import images
from cnnspec.nets.images import network, scaled
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool2d
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.dropout import Dropout
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import MaxPool2d

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),  # A
    13: (2, 2, 2, 2, 2),  # B
    16: (2, 2, 3, 3, 3),  # D
    19: (2, 2, 4, 4, 4),  # E
}
"""How many convolutions stand in each block, by the number of layers with weights."""


def vgg(
    layers: int,
    batch_norm: bool = False,
    width: int = 64,
    in_channels: int = 3,
    classes: int = 1000,
    input_size: int = 224,
    hidden: int = 4096,
) -> Network:
    """Return a VGG network, its parameters named as in torchvision.

    >>> vgg(16).parameter_count
    138357544
    """
    channels = [scaled(count, width, 64) for count in CHANNELS]
    features: list[Block] = []
    before = in_channels
    for count, repeats in zip(channels, CONVOLUTIONS[layers], strict=True):
        for _ in range(repeats):
            norm = [BatchNorm2d(count)] if batch_norm else []
            features += [Conv2d(before, count, 3, padding=1), *norm, ReLU()]
            before = count
        features.append(MaxPool2d(2, stride=2))
    classifier = Seq(
        Linear(before * 7 * 7, hidden),
        ReLU(),
        Dropout(),
        Linear(hidden, hidden),
        ReLU(),
        Dropout(),
        Linear(hidden, classes),
    )
    body = Seq(
        features=Seq(*features), avgpool=AdaptiveAvgPool2d(7), flatten=Flatten(), classifier=classifier
    )
    return network(body, in_channels, input_size)


vgg11, vgg13, vgg16, vgg19 = (partial(vgg, layers) for layers in (11, 13, 16, 19))
vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn = (
    partial(vgg, layers, batch_norm=True) for layers in (11, 13, 16, 19)
)


def vgg11_d2l(
    width: int = 64, in_channels: int = 1, classes: int = 10, input_size: int = 224, hidden: int = 4096
) -> Network:
    """Return VGG-11 as Dive into Deep Learning has it: one channel, ten classes, no adaptive pooling.

    Source: Zhang, Lipton, Li & Smola, "Dive into Deep Learning", 8.2.

    >>> vgg11_d2l().parameter_count
    128806154
    """
    blocks, before = [], in_channels
    for count, repeats in zip(CHANNELS, CONVOLUTIONS[11], strict=True):
        layers: list[Block] = []
        for _ in range(repeats):
            layers += [Conv2d(before, scaled(count, width, 64), 3, padding=1), ReLU()]
            before = scaled(count, width, 64)
        blocks.append(Seq(*layers, MaxPool2d(2, stride=2)))
    body = Seq(
        *blocks,
        Flatten(),
        Linear(images.features(Seq(*blocks), in_channels, input_size), hidden),
        ReLU(),
        Dropout(),
        Linear(hidden, hidden),
        ReLU(),
        Dropout(),
        Linear(hidden, classes),
    )
    return network(body, in_channels, input_size)


vgg11_narrow = partial(vgg11_d2l, width=16)
