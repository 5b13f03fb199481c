"""What definitions of networks on images share."""

import math

from cnnspec.blocks import Block, Seq
from cnnspec.errors import ArgumentError
from cnnspec.graph import Network
from cnnspec.nested import Shape


def network(body: Block, in_channels: int, input_size: int) -> Network:
    """Return a network that is meant for square images; ArgumentError where a layer would have no channels."""
    return nonempty(Network(body, input_shapes=(image(in_channels, input_size),)))


def image(in_channels: int, input_size: int) -> Shape:
    """Return the shape of one square image; ArgumentError where it would have no pixels.

    >>> image(3, 224)
    (1, 3, 224, 224)
    """
    if in_channels < 1 or input_size < 1:
        raise ArgumentError(f"in_channels={in_channels} and input_size={input_size} must be at least 1")
    return 1, in_channels, input_size, input_size


def features(body: Seq, in_channels: int, input_size: int) -> int:
    """Return how many values a body makes of an image; ShapeError, naming the layer, where it is too small."""
    return math.prod(nonempty(Network(body)).output_shape(image(in_channels, input_size)))


def nonempty(net: Network) -> Network:
    """Return the network; ArgumentError where one of its layers has no channels."""
    for name, shape in net.parameter_shapes().items():
        if 0 in shape:
            raise ArgumentError(
                f"{name} of shape {shape} would be empty: width, classes and hidden must be at least 1"
            )
    return net


def scaled(channels: int, width: int, full: int) -> int:
    """Return `channels` of a network of width `full` at another width, at least 1; ArgumentError for no width.

    >>> scaled(192, 16, 64), scaled(16, 2, 64)
    (48, 1)
    """
    if width < 1:
        raise ArgumentError(f"width={width} must be at least 1")
    return max(1, channels * width // full)
