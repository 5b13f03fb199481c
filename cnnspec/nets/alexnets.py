"""AlexNet: five convolutions and three fully connected layers, in the form with one path.

Sources: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014; torchvision's `alexnet`.
"""

from cnnspec.blocks import Seq
from cnnspec.graph import Network
from cnnspec.nets.images import network, scaled
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool2d
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.dropout import Dropout
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import MaxPool2d


def alexnet(width: int = 64, in_channels: int = 3, classes: int = 1000, input_size: int = 224) -> Network:
    """Return AlexNet, its parameters named as in torchvision.

    >>> alexnet().parameter_count
    61100840
    """
    second, third, fourth, hidden = (scaled(channels, width, 64) for channels in (192, 384, 256, 4096))
    features = Seq(
        Conv2d(in_channels, width, 11, stride=4, padding=2),
        ReLU(),
        MaxPool2d(3, stride=2),
        Conv2d(width, second, 5, padding=2),
        ReLU(),
        MaxPool2d(3, stride=2),
        Conv2d(second, third, 3, padding=1),
        ReLU(),
        Conv2d(third, fourth, 3, padding=1),
        ReLU(),
        Conv2d(fourth, fourth, 3, padding=1),
        ReLU(),
        MaxPool2d(3, stride=2),
    )
    classifier = Seq(
        Dropout(),
        Linear(fourth * 6 * 6, hidden),
        ReLU(),
        Dropout(),
        Linear(hidden, hidden),
        ReLU(),
        Linear(hidden, classes),
    )
    body = Seq(features=features, avgpool=AdaptiveAvgPool2d(6), flatten=Flatten(), classifier=classifier)
    return network(body, in_channels, input_size)
