"""Network in network: blocks of a convolution and two 1x1 convolutions, and no fully connected layer.

Sources: Lin, Chen & Yan, "Network in network", 2014; Zhang, Lipton, Li & Smola, "Dive into Deep Learning", 8.3.
"""

from cnnspec.blocks import Seq
from cnnspec.graph import Network
from cnnspec.nets.images import network, scaled
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool2d
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.dropout import Dropout
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import MaxPool2d


def block(in_channels: int, channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> Seq:
    """Return a convolution and, for each of its pixels, two fully connected layers over the channels."""
    return Seq(
        Conv2d(in_channels, channels, kernel_size, stride=stride, padding=padding),
        ReLU(),
        Conv2d(channels, channels, 1),
        ReLU(),
        Conv2d(channels, channels, 1),
        ReLU(),
    )


def nin(width: int = 96, in_channels: int = 1, classes: int = 10, input_size: int = 224) -> Network:
    """Return NiN as Dive into Deep Learning has it: the last block makes one channel of each class.

    >>> nin().output_shape((1, 1, 224, 224))
    (1, 10)
    """
    second, third = scaled(256, width, 96), scaled(384, width, 96)
    body = Seq(
        block(in_channels, width, 11, stride=4),
        MaxPool2d(3, stride=2),
        block(width, second, 5, padding=2),
        MaxPool2d(3, stride=2),
        block(second, third, 3, padding=1),
        MaxPool2d(3, stride=2),
        Dropout(),
        block(third, classes, 3, padding=1),
        AdaptiveAvgPool2d(1),
        Flatten(),
    )
    return network(body, in_channels, input_size)
