"""What definitions of networks on images share."""

import math

from cnnspec.blocks import Block, Seq
from cnnspec.graph import Network
from cnnspec.nested import Shape


def network(body: Block, in_channels: int, input_size: int) -> Network:
    """Return a network that is meant for square images."""
    return Network(body, input_shapes=(image(in_channels, input_size),))


def image(in_channels: int, input_size: int) -> Shape:
    """Return the shape of one square image.

    >>> image(3, 224)
    (1, 3, 224, 224)
    """
    return 1, in_channels, input_size, input_size


def features(body: Seq, in_channels: int, input_size: int) -> int:
    """Return how many values a body makes of an image; ShapeError, naming the layer, where it is too small."""
    return math.prod(Network(body).output_shape(image(in_channels, input_size)))


def scaled(channels: int, width: int, full: int) -> int:
    """Return `channels` of a network of width `full` at another width, at least 1.

    >>> scaled(192, 16, 64), scaled(16, 2, 64)
    (48, 1)
    """
    return max(1, channels * width // full)
