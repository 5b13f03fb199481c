"""Layers of the size that networks have, drawn beside the small ones: up to 64 channels and 56 x 56 pixels.

Small cases meet every corner of the arguments; what depends on size (tiles, vector widths, threads, blocks of the
channels, another algorithm for a larger layer) shows only here.
"""

import math
from collections.abc import Mapping
from typing import Any

from cnnspec.nested import Shape
from cnnspec.op import without_defaults
from cnnspec.spec import Domain, Pick

Drawn = tuple[Mapping[str, Any], tuple[Shape, ...]]

CHANNELS = (3, 16, 24, 32, 48, 64)
PIXELS = {1: (28, 56, 100, 224), 2: (7, 14, 27, 28, 55, 56), 3: (7, 8, 14, 16)}
"""Pixels along an axis, by the number of axes."""

FLAT = (1, 3, 3)
"""The kernel of networks that convolve a video's images and its time apart."""

ELEMENTS = 1 << 18
"""Elements that an array may have: 64 channels of 56 x 56 pixels, and some more."""

MACS = 1 << 27
"""Products that a layer may have: those of 64 x 64 channels, 3 x 3 taps and 56 x 56 pixels, and some more."""


def image(pick: Pick, spatial: int) -> Shape:
    """Draw the shape of a batch of images (N, C, ...)."""
    size = pick.choice(PIXELS[spatial])
    sizes = [size if axis < 2 else min(size, 8) for axis in range(spatial)]
    if pick.choice((False, False, True)):
        sizes[-1] = pick.choice(PIXELS[spatial][:3])
    pixels = math.prod(sizes)
    channels = pick.choice([count for count in CHANNELS if count * pixels <= ELEMENTS])
    return (pick.choice([n for n in (1, 2, 16) if n * channels * pixels <= ELEMENTS]), channels, *sizes)


def convolution(operator: Any) -> Domain:
    """Return a domain of convolutions: one window for all axes or a flat one, some groups, strides and dilation."""

    def draw(pick: Pick) -> Drawn:
        shape = image(pick, operator.spatial)
        kernel: Any = pick.choice((3, 3, 1, 2, 5, 7) if operator.spatial < 3 else (3, FLAT, 1, FLAT, 2))
        same = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
        window = {
            "kernel_size": kernel,
            "stride": pick.choice((1, 1, 2)),
            "padding": pick.choice((same, 0)),
            "dilation": pick.choice((1, 1, 2)) if kernel == 3 else 1,
        }
        return _with_channels(pick, operator, shape, window)

    return draw


def transposed_convolution(operator: Any) -> Domain:
    """Return a domain of transposed convolutions: those that double or keep the size of an image."""

    def draw(pick: Pick) -> Drawn:
        shape = image(pick, operator.spatial)
        kernel, stride, padding, extra = pick.choice(
            ((2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1), (3, 1, 1, 0), (1, 1, 0, 0), (5, 2, 2, 1))
        )
        window = {"kernel_size": kernel, "stride": stride, "padding": padding, "output_padding": extra}
        return _with_channels(pick, operator, shape, window)

    return draw


def _with_channels(pick: Pick, operator: Any, shape: Shape, window: Mapping[str, Any]) -> Drawn:
    """Draw groups, and as many output channels as arrays and products allow; the smallest possible where none do."""
    spatial = operator.spatial
    grouped = [n for n in (1, 1, 1, 2, 4, shape[1]) if shape[1] % n == 0]
    groups = pick.choice(grouped)
    one = operator(1, 1, **window).output_shape((1, 1, *shape[2:]))
    positions = shape[0] * max(math.prod(one), math.prod(shape[2:]))
    kernel = window["kernel_size"]
    taps = math.prod(kernel) if isinstance(kernel, tuple) else kernel**spatial
    products = positions * taps * shape[1] // groups
    most = min(MACS // products, ELEMENTS // positions)
    outputs = pick.choice([n for n in CHANNELS if n % groups == 0 and n <= most] or [groups])
    channels = {"in_channels": shape[1], "out_channels": outputs, "groups": groups}
    arguments = {**channels, **window, "bias": pick.choice((True, False))}
    return without_defaults(operator, arguments), (shape,)


def linear(pick: Pick) -> Drawn:
    """Draw a linear layer of a network's head."""
    features, outputs = (
        pick.choice((120, 84, 256, 400, 512, 1024, 2048)),
        pick.choice((10, 84, 100, 120, 512)),
    )
    arguments = {"in_features": features, "out_features": outputs}
    return arguments, ((pick.choice((1, 8, 32, 64)), features),)


def pooling(operator: Any) -> Domain:
    """Return a domain of poolings between the stages of networks; of 3 or 2 pixels, overlapping or not."""

    def draw(pick: Pick) -> Drawn:
        kernel, stride, padding = pick.choice(((2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 1, 1), (5, 1, 2)))
        arguments = {"kernel_size": kernel, "stride": stride, "padding": padding}
        arguments["ceil_mode"] = pick.choice((False, True))
        return without_defaults(operator, arguments), (image(pick, operator.spatial),)

    return draw


def adaptive_pooling(operator: Any) -> Domain:
    """Return a domain of poolings before the head of a network, to 1, 6 or 7 pixels along each axis."""

    def draw(pick: Pick) -> Drawn:
        return {"output_size": pick.choice((1, 7, 6))}, (image(pick, operator.spatial),)

    return draw


def images(count: int) -> Domain:
    """Return a domain of `count` batches of images of one shape, for operators without arguments."""

    def draw(pick: Pick) -> Drawn:
        return {}, (image(pick, 2),) * count

    return draw
