"""Corners of images that lie in memory as layouts share it, or in an order that kernels have paths of their own for."""

import math
from typing import Any

from cnnspec import ops
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.corners.corner import CONVOLUTIONS, NORMS, PLAIN, POOLS, Corner, among
from cnnspec.corners.drawing import (
    CHANNELS_LAST,
    batch_of_images,
    convolution,
    laid_out,
    several,
    spatial_axes,
)
from cnnspec.features import View
from cnnspec.nested import Shape
from cnnspec.spec import Pick


def _one_pixel(pick: Pick, operator: str) -> Case:
    family, spatial = ops.family(operator), getattr(ops.spec(operator).operator, "spatial", 2)
    batch, channels, ones = pick.choice((5, 1, 2, 7)), pick.choice((3, 2, 5, 8)), (1,) * spatial
    layout = {"input": CHANNELS_LAST} if pick.choice((False, True)) else {}
    if family in CONVOLUTIONS:
        kernel, groups = pick.choice((2, 1)), pick.choice((1, channels))
        window = {"kernel_size": kernel, "padding": 1} if family == "conv" else {"kernel_size": kernel + 1}
        case = convolution(operator, (channels, channels), (batch, *ones), **window, groups=groups)
    elif family == "upsample":
        arguments = {"size": several(pick, 2, 2, 5), "mode": pick.choice(("nearest", "bilinear"))}
        case = Case(operator, arguments, ((batch, channels, 1, 1),))
    elif family == "adaptive_pool":
        case = Case(operator, {"output_size": pick.integer(2, 3)}, ((batch, channels, *ones),))
    else:
        training = {"training": pick.choice((True, False))}
        case = Case(operator, {"num_features": channels, **training}, ((max(2, batch), channels, *ones),))
    return laid_out(case, layout)


def _is_one_pixel(v: View) -> bool:
    sizes = v.shape[2:]
    return len(v.shape) > 2 and v.shape[1] > 1 and math.prod(sizes) == 1 and v.batch is not None


def _one_channel(pick: Pick, operator: str) -> Case:
    case = batch_of_images(pick, pick.integer(2, 3), 1, operator)
    weighted = "weight" in ops.spec(operator).operands and ops.family(operator) in CONVOLUTIONS
    layouts: list[dict[str, str]] = [{"input": CHANNELS_LAST}]
    if weighted:
        layouts += [{"weight": CHANNELS_LAST}, {"input": CHANNELS_LAST, "weight": CHANNELS_LAST}]
    return laid_out(case, pick.choice(layouts))


def _is_one_channel(v: View) -> bool:
    batched = len(v.shape) == 2 + getattr(v.operation, "spatial", len(v.shape) - 2) > 3
    many = batched and v.shape[0] > 1 == v.shape[1] and min(v.shape[2:]) > 1
    return many and CHANNELS_LAST in (v.case.layout.get("input"), v.case.layout.get("weight"))


def _everything_last(pick: Pick, operator: str) -> Case:
    """Draw images of which nothing lies otherwise: the gradient of the output too, or the inputs alone."""
    case = batch_of_images(pick, pick.integer(2, 3), pick.integer(2, 5), operator)
    shapes: dict[str, Shape] = case.operand_shapes()
    if pick.choice((False, True)):
        shapes |= {GRAD_OUTPUT: case.operation.output_shape(*case.inputs)}
    else:
        shapes = dict(zip(shapes, case.inputs, strict=False))
    return laid_out(case, {name: CHANNELS_LAST for name, shape in shapes.items() if len(shape) > 3})


def _is_everything_last(v: View) -> bool:
    inputs = [name for name, _ in zip(v.case.operand_shapes(), v.case.inputs, strict=False)]
    images = all(len(shape) > 3 and min(shape) > 1 for shape in v.case.inputs)
    return images and all(v.case.layout.get(name) == CHANNELS_LAST for name in inputs)


def _few_channels(pick: Pick, operator: str) -> Case:
    image = (pick.integer(1, 2), *several(pick, spatial_axes(operator), 3, 6))
    channels = pick.integer(2, 5), pick.integer(1, 5)
    case = convolution(operator, channels, image, kernel_size=1, stride=pick.integer(2, 3))
    return laid_out(case, {"input": CHANNELS_LAST})


def _is_few_channels(v: View) -> bool:
    pointwise = set(v.kernel) == {1} and min(v.stride) > 1 and 1 < v.channels[0] <= 5 and v.groups == 1
    return pointwise and v.case.layout.get("input") == CHANNELS_LAST


def _tall(pick: Pick, operator: str) -> Case:
    shape = (pick.integer(1, 2), pick.integer(2, 3), pick.integer(41, 96), pick.integer(2, 4))
    arguments: dict[str, Any] = {"kernel_size": 2, "stride": pick.choice((1, 2, 3))}
    if ops.family(operator) == "adaptive_pool":
        arguments = {"output_size": (pick.integer(1, 50), pick.integer(1, 3))}
    elif ops.family(operator) == "upsample":
        arguments = {"size": (pick.integer(5, 99), 3), "mode": pick.choice(("nearest", "bilinear"))}
    return Case(operator, arguments, (shape,), layout={"input": CHANNELS_LAST})


def _is_tall(v: View) -> bool:
    return len(v.shape) == 4 and v.shape[2] > 40 and v.case.layout.get("input") == CHANNELS_LAST


_IMAGES = among(*CONVOLUTIONS, *POOLS, *NORMS, "upsample", axes=(2, 3))
CORNERS = (
    Corner(
        "one pixel",
        "images of one pixel and several channels: contiguous and channels_last at once",
        among(*CONVOLUTIONS, "adaptive_pool", "batch_norm", "upsample"),
        _one_pixel,
        _is_one_pixel,
        layouts=True,
    ),
    Corner(
        "one channel, channels_last",
        "a batch of one channel: strides of channels_last, and of any other order",
        _IMAGES,
        _one_channel,
        _is_one_channel,
        layouts=True,
    ),
    Corner(
        "everything channels_last",
        "images that all lie in channels_last, the gradient of the output too or not",
        lambda name: _IMAGES(name) or ops.family(name) in PLAIN,
        _everything_last,
        _is_everything_last,
        layouts=True,
    ),
    Corner(
        "strided pointwise, few channels",
        "1 x 1 kernels with a stride on channels_last images of few channels",
        among(*CONVOLUTIONS, axes=(2,)),
        _few_channels,
        _is_few_channels,
        layouts=True,
    ),
    Corner(
        "tall image",
        "channels_last images of more than 40 rows",
        among(*POOLS, "upsample", axes=(2,)),
        _tall,
        _is_tall,
        layouts=True,
    ),
)
