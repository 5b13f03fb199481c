"""What the draws of corners share: images of any operator, convolutions of small images."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec import ops
from cnnspec.cases import Case
from cnnspec.nested import Shape
from cnnspec.spec import Pick

CHANNELS_LAST = "channels_last"
MANY = 64
"""Images, channels or pixels in a row beyond which a kernel may take more than one block."""


def several(pick: Pick, count: int, low: int, high: int) -> tuple[int, ...]:
    """Draw some integers of [low, high]."""
    return tuple(pick.integer(low, high) for _ in range(count))


def batch_of_images(pick: Pick, batch: int, channels: int, operator: str) -> Case:
    """Draw a batch of images with more than one pixel along each axis; the operator's arguments are any."""
    spec = ops.spec(operator)
    if ops.family(operator) == "combine":
        return _two_images(pick, operator, (batch, channels, *several(pick, 2, 2, 4)))
    if ops.family(operator) == "upsample":
        mode = pick.choice(("nearest", "bilinear"))
        shape = (batch, channels, *several(pick, 2, 2, 4))
        return Case(operator, {"size": several(pick, 2, 1, 6), "mode": mode}, (shape,))
    drawn, (shape, *_) = spec.domain(pick)
    arguments, spatial = dict(drawn), getattr(spec.operator, "spatial", 0)
    sizes = (
        tuple(max(2, size) for size in shape[len(shape) - spatial :]) if spatial else several(pick, 2, 2, 4)
    )
    if ops.family(operator) == "flatten":
        arguments = {}
    if "in_channels" in arguments:
        arguments.pop("groups", None)
        arguments |= {"in_channels": channels, "out_channels": pick.integer(1, 4)}
    if "num_features" in arguments:
        arguments["num_features"] = channels
    return Case(operator, arguments, ((batch, channels, *sizes),))


def _two_images(pick: Pick, operator: str, shape: Shape) -> Case:
    if operator == "add":
        return Case(operator, {}, (shape, shape))
    dim = pick.choice((1, 0, 2, 3, -1, -2, -3))
    other = [*shape]
    other[dim] = pick.integer(2, 4)
    return Case(operator, {"dim": dim} if dim != 1 else {}, (shape, tuple(other)))


def laid_out(case: Case, layout: Mapping[str, str]) -> Case:
    """Return a case with its operands in these layouts."""
    return Case(case.operator, case.arguments, case.inputs, layout=layout)


def convolution(operator: str, channels: tuple[int, int], image: Sequence[int], **window: Any) -> Case:
    """Return a convolution of (in, out) channels; image: its shape, the channels left out behind the batch."""
    first, *sizes = image
    arguments = {"in_channels": channels[0], "out_channels": channels[1], **window}
    return Case(operator, arguments, ((first, channels[0], *sizes),))


def spatial_axes(operator: str) -> int:
    """Return how many spatial axes an operator has."""
    spatial: int = ops.spec(operator).operator.spatial  # type: ignore[attr-defined]
    return spatial
