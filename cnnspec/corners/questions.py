"""Corners of the law of acceptance: calls next to which a question lies that few arguments ask."""

import math

from cnnspec import ops
from cnnspec.cases import Case
from cnnspec.corners.corner import NORMS, Corner, among
from cnnspec.corners.drawing import (
    convolution,
    several,
    spatial_axes,
)
from cnnspec.features import View
from cnnspec.spec import Pick


def _same(pick: Pick, operator: str) -> Case:
    spatial = spatial_axes(operator)
    image = (pick.integer(1, 2), *several(pick, spatial, 4, 6))
    return convolution(operator, (1, 1), image, kernel_size=pick.integer(1, 3), padding="same")


def _asks_stride(question: Case) -> bool:
    return question.arguments.get("padding") == "same" and question.arguments.get("stride", 1) not in (0, 1)


def _roomy(pick: Pick, operator: str) -> Case:
    spatial = spatial_axes(operator)
    image = (pick.integer(1, 2), *several(pick, spatial, 5, 6))
    return convolution(operator, (1, 1), image, kernel_size=pick.integer(1, 2))


def _is_roomy(v: View) -> bool:
    return not v.padded and all(
        size > window.span + 1 for size, window in zip(v.sizes, v.windows, strict=True)
    )


def _asks_crop(question: Case) -> bool:
    return question.arguments.get("padding") == -1


def _one_block(pick: Pick, operator: str) -> Case:
    size = pick.integer(2, 4)
    arguments = {"output_size": (size, size), "kernel_size": 2, "dilation": size - 1}
    return Case(operator, arguments, ((pick.integer(1, 2), 4 * pick.integer(1, 2), 1),))


def _is_one_block(v: View) -> bool:
    return v.shape[-1] == 1


def _asks_dilation(question: Case) -> bool:
    """Say whether no window fits on any axis."""
    dilation, sizes = (question.arguments.get(name) for name in ("dilation", "output_size"))
    return isinstance(dilation, int) and isinstance(sizes, tuple) and dilation > max(sizes)


def _trains(pick: Pick, operator: str) -> Case:
    drawn, (shape,) = ops.spec(operator).domain(pick)
    shape = (max(2, shape[0]), *(max(2, size) for size in shape[1:]))
    arguments = {**drawn, "training": True, "num_features": shape[1]}
    return Case(operator, arguments, (shape,))


def _is_training(v: View) -> bool:
    return bool(v.arguments["training"])


def _asks_one_value(question: Case) -> bool:
    (shape,) = question.inputs
    return math.prod(shape) == shape[1] > 0


def _is_any(v: View) -> bool:
    return True


CORNERS = (
    Corner(
        "one value per channel",
        "asks whether training on one value of each channel, which has no variance, is refused",
        among(*NORMS),
        _trains,
        _is_training,
        asks=_asks_one_value,
    ),
    Corner(
        "stride of 'same'",
        "asks whether padding='same' is refused with a stride",
        among("conv"),
        _same,
        _is_any,
        asks=_asks_stride,
    ),
    Corner(
        "crop by padding",
        "asks whether a negative padding is refused where the image is large enough to be cropped",
        among("conv"),
        _roomy,
        _is_roomy,
        asks=_asks_crop,
    ),
    Corner(
        "no window on any axis",
        "asks whether columns are refused where windows fit on no axis: a product of negatives",
        among("fold"),
        _one_block,
        _is_one_block,
        asks=_asks_dilation,
    ),
)
