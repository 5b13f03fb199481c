"""LeNet: two convolutions with pooling, then fully connected layers.

Source: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

from cnnspec.blocks import Seq
from cnnspec.graph import Network
from cnnspec.nets.images import features, network, scaled
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU, Sigmoid
from cnnspec.ops.pool import AvgPool2d, MaxPool2d


def lenet5(width: int = 6, in_channels: int = 1, classes: int = 10, input_size: int = 28) -> Network:
    """Return LeNet-5 as Dive into Deep Learning has it: sigmoids, average pooling, a linear end.

    Source: Zhang, Lipton, Li & Smola, "Dive into Deep Learning", 7.6.

    >>> lenet5().parameter_count
    61706
    """
    second, hidden1, hidden2 = (scaled(channels, width, 6) for channels in (16, 120, 84))
    body = Seq(
        conv1=Conv2d(in_channels, width, 5, padding=2),
        sigmoid1=Sigmoid(),
        pool1=AvgPool2d(2, stride=2),
        conv2=Conv2d(width, second, 5),
        sigmoid2=Sigmoid(),
        pool2=AvgPool2d(2, stride=2),
        flatten=Flatten(),
    )
    head = Seq(
        fc1=Linear(features(body, in_channels, input_size), hidden1),
        sigmoid3=Sigmoid(),
        fc2=Linear(hidden1, hidden2),
        sigmoid4=Sigmoid(),
        fc3=Linear(hidden2, classes),
    )
    return network(Seq(**body.blocks, **head.blocks), in_channels, input_size)


def lenet_fleuret(width: int = 32, in_channels: int = 1, classes: int = 10, input_size: int = 28) -> Network:
    """Return the LeNet-like network of a lecture: ReLU, max-pooling, two fully connected layers.

    Source: Fleuret, "Deep learning", 4.6.

    >>> lenet_fleuret().parameter_count
    105506
    """
    second, hidden = scaled(64, width, 32), scaled(200, width, 32)
    body = Seq(
        conv1=Conv2d(in_channels, width, 5),
        pool1=MaxPool2d(3),
        relu1=ReLU(),
        conv2=Conv2d(width, second, 5),
        pool2=MaxPool2d(2),
        relu2=ReLU(),
        flatten=Flatten(),
    )
    head = Seq(
        fc1=Linear(features(body, in_channels, input_size), hidden), relu3=ReLU(), fc2=Linear(hidden, classes)
    )
    return network(Seq(**body.blocks, **head.blocks), in_channels, input_size)
