"""Networks that courses build on CIFAR-10: a classifier of two classes without and with convolutions.

Source: Stevens, Antiga & Viehmann, "Deep learning with PyTorch", 2020, chapters 7 and 8.
"""

import math

from cnnspec.blocks import Seq
from cnnspec.graph import Network
from cnnspec.nets.images import features, image, network, nonempty, scaled
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import Tanh
from cnnspec.ops.pool import MaxPool2d
from cnnspec.ops.softmax import LogSoftmax


def mlp(width: int = 512, in_channels: int = 3, classes: int = 2, input_size: int = 32) -> Network:
    """Return the multilayer perceptron 3072-512-2 on images that are laid out as one row.

    Source: Stevens, Antiga & Viehmann 2020, 7.2.

    >>> mlp().parameter_count
    1574402
    """
    pixels = math.prod(image(in_channels, input_size))
    body = Seq(Linear(pixels, width), Tanh(), Linear(width, classes), LogSoftmax(dim=1))
    return nonempty(Network(body, input_shapes=((1, pixels),)))


def cs428_net(width: int = 16, in_channels: int = 3, classes: int = 2, input_size: int = 32) -> Network:
    """Return two convolutions, each with tanh and max-pooling, and two fully connected layers.

    Sources: CS428, "Introduction to AI", lecture 4; Stevens, Antiga & Viehmann 2020, 8.3.

    >>> cs428_net().parameter_count
    18090
    """
    second, hidden = scaled(8, width, 16), scaled(32, width, 16)
    body = Seq(
        conv1=Conv2d(in_channels, width, 3, padding=1),
        act1=Tanh(),
        pool1=MaxPool2d(2),
        conv2=Conv2d(width, second, 3, padding=1),
        act2=Tanh(),
        pool2=MaxPool2d(2),
        flatten=Flatten(),
    )
    head = Seq(
        fc1=Linear(features(body, in_channels, input_size), hidden), act3=Tanh(), fc2=Linear(hidden, classes)
    )
    return network(Seq(**body.blocks, **head.blocks), in_channels, input_size)
