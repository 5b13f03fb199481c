"""Corners of numbers: indices, counts and sizes that a type or a block does not hold."""

import math
from typing import Any

from cnnspec import ops
from cnnspec.cases import Case
from cnnspec.corners.corner import NORMS, POOLS, Corner, among
from cnnspec.corners.drawing import (
    MANY,
    several,
    spatial_axes,
)
from cnnspec.features import View
from cnnspec.nested import Shape
from cnnspec.spec import Pick


def _many_indices(pick: Pick, operator: str) -> Case:
    spatial = spatial_axes(operator)
    plane = {1: (2300,), 2: (48, 48), 3: (13, 13, 14)} if pick.choice((False, True)) else {
        1: (600,), 2: (24, 25), 3: (8, 9, 9)
    }  # fmt: skip
    sizes, most = plane[spatial], 12 if spatial == 1 else 6
    arguments: dict[str, Any] = {"kernel_size": pick.integer(2, most), "return_indices": True}
    if ops.family(operator) == "adaptive_pool":
        arguments = {"output_size": pick.integer(2, most), "return_indices": True}
    return Case(operator, arguments, ((pick.integer(1, 2), pick.integer(1, 2), *sizes),))


def _is_many_indices(v: View) -> bool:
    return bool(v.arguments.get("return_indices")) and math.prod(v.spatial) > 256


def _many_terms(pick: Pick, operator: str) -> Case:
    """Draw channels of more elements than 16 bits count one by one."""
    arguments = {"num_features": pick.integer(1, 2), "training": True}
    sizes = {1: (700,), 2: (26, 27), 3: (9, 9, 9)}[spatial_axes(operator)]
    return Case(operator, arguments, ((3, arguments["num_features"], *sizes),))


def _is_many_terms(v: View) -> bool:
    counted = math.prod(v.shape[2:]) * (v.shape[0] if v.family == "batch_norm" else 1)
    return bool(v.arguments["training"]) and counted > 512


def _cropped_and_padded(pick: Pick, operator: str) -> Case:
    size, crop = pick.integer(4, 6), pick.integer(1, 3)
    padding: tuple[int, ...] = (-crop, pick.integer(1, crop))
    if pick.choice((False, True)):
        padding = (*padding, *several(pick, 2, -1, 2))
    arguments: dict[str, Any] = {"padding": padding}
    if pick.choice((False, True)):
        arguments["value"] = pick.choice((1, -2, 5))
    return Case(operator, arguments, ((*several(pick, 2, 1, 3), pick.integer(3, 4), size),))


def _is_cropped_and_padded(v: View) -> bool:
    padding = v.arguments["padding"]
    return v.arguments["mode"] == "constant" and bool(0 < padding[1] <= -padding[0])


def _many_rows(pick: Pick, operator: str) -> Case:
    mode = pick.choice(("reflect", "constant", "replicate", "circular"))
    leading = pick.choice(((2, MANY + 3), (MANY + 1, 1), (1, 2)))
    shape: Shape = (
        *leading,
        pick.choice((5, MANY + 13)) if leading != (1, 2) else MANY + pick.integer(1, 40),
    )
    padding = several(pick, 2, 1, 4)
    if pick.choice((False, True)):
        shape, padding = (*leading, 3, shape[-1]), (*padding, 1, 2)
    arguments = {"padding": padding, "mode": mode} if mode != "constant" else {"padding": padding}
    return Case(operator, arguments, (shape,))


def _is_many_rows(v: View) -> bool:
    return max(v.shape) > MANY


CORNERS = (
    Corner(
        "many indices",
        "planes of more elements than 16-bit types count, whose maxima are asked for with indices",
        lambda name: ops.family(name) in POOLS and "max" in name,
        _many_indices,
        _is_many_indices,
    ),
    Corner(
        "many terms",
        "statistics over more elements than 16-bit types count one by one",
        among(*NORMS),
        _many_terms,
        _is_many_terms,
    ),
    Corner(
        "cropped and padded",
        "an axis that is cropped before and padded behind, by no more",
        among("pad"),
        _cropped_and_padded,
        _is_cropped_and_padded,
    ),
    Corner(
        "many rows",
        f"more than {MANY} images, channels or pixels in a row",
        among("pad"),
        _many_rows,
        _is_many_rows,
    ),
)
