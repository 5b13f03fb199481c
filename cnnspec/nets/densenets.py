"""DenseNet: blocks whose layers see all that stands before them, and transitions that halve channels and image.

Source: Huang, Liu, van der Maaten & Weinberger, "Densely connected convolutional networks", 2017, table 1.
"""

from functools import partial

from cnnspec.blocks import Residual, Seq
from cnnspec.graph import Network
from cnnspec.nets.images import network
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool2d
from cnnspec.ops.batch_norm import BatchNorm2d
from cnnspec.ops.combine import Concat
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import AvgPool2d, MaxPool2d

BLOCKS = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}
"""How many layers stand in each dense block, by the number of layers with weights."""


def densenet(
    layers: int, width: int = 64, in_channels: int = 3, classes: int = 1000, input_size: int = 224
) -> Network:
    """Return a DenseNet, its parameters named as in torchvision; each layer adds `width // 2` channels.

    Concatenations are chained: each layer's input is the one before with the channels of the layer before behind it.

    >>> densenet(121).parameter_count
    7978856
    """
    growth, channels = max(1, width // 2), width
    features: dict[str, object] = {
        "conv0": Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
        "norm0": BatchNorm2d(width),
        "relu0": ReLU(),
        "pool0": MaxPool2d(3, stride=2, padding=1),
    }
    for block, count in enumerate(BLOCKS[layers], 1):
        dense = {f"denselayer{n + 1}": dense_layer(channels + n * growth, growth) for n in range(count)}
        features[f"denseblock{block}"] = Seq(**dense)
        channels += count * growth
        if block < len(BLOCKS[layers]):
            features[f"transition{block}"] = transition(channels)
            channels //= 2
    features["norm5"] = BatchNorm2d(channels)
    body = Seq(
        features=Seq(**features),
        relu=ReLU(),
        avgpool=AdaptiveAvgPool2d(1),
        flatten=Flatten(),
        classifier=Linear(channels, classes),
    )
    return network(body, in_channels, input_size)


def dense_layer(before: int, growth: int) -> Residual:
    """Return a layer that lays `growth` channels behind those of its input."""
    body = Seq(
        norm1=BatchNorm2d(before),
        relu1=ReLU(),
        conv1=Conv2d(before, 4 * growth, 1, bias=False),
        norm2=BatchNorm2d(4 * growth),
        relu2=ReLU(),
        conv2=Conv2d(4 * growth, growth, 3, padding=1, bias=False),
    )
    return Residual(body, join=Concat())


def transition(before: int) -> Seq:
    """Return the layers between two blocks: half the channels, half the height and width."""
    return Seq(
        norm=BatchNorm2d(before),
        relu=ReLU(),
        conv=Conv2d(before, before // 2, 1, bias=False),
        pool=AvgPool2d(2, stride=2),
    )


densenet121, densenet169, densenet201 = (partial(densenet, layers) for layers in (121, 169, 201))
densenet161 = partial(densenet, 161, width=96)
