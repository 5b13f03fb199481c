"""Calls on both sides of the line between what an operator accepts and what it must refuse.

`question(case)` changes a legal case in one place, by its seed: a wrong number of axes, an axis too short or empty,
channels or a bias that do not match, groups that do not divide, a stride or dilation of 0, padding of more than half
the window, a misspelt mode, mixed dtypes. Not every change makes the call illegal. `refusal` says what cnnspec does.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from cnnspec import ops
from cnnspec.cases import BORDERLINE, Case
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Shape
from cnnspec.op import arguments_of

MIXED = (
    "conv",
    "conv_transpose",
    "linear",
    "batch_norm",
    "instance_norm",
    "group_norm",
    "layer_norm",
    "prelu",
    "nll_loss",
    "cross_entropy",
)
"""Families whose operands must all have one dtype."""

ANY_AXES = ("batch_norm", "instance_norm")
"""Families whose functional form takes any number of axes, and an empty input whatever its channels."""

WEIGHT_AXIS = {"conv": 1, "conv_transpose": 0, "linear": 1}
"""The axis of the weight that must agree with the input; the functional form reads the others off the weight."""


TRIES = 200
"""Seeds that are tried for one question among all that a case may ask."""


def question(case: Case) -> Case:
    """Return a case next to `case`, with all its shapes stated; `case` itself where nothing can be changed.

    >>> print(question(Case.parse("linear(in_features=3, out_features=2, input=(4, 3), seed=1)")))
    linear(in_features=3, out_features=2, input=(4, 3), dtype='float32', regime='borderline', seed=1, \
shapes={'weight': (2, 4), 'bias': (2,)})
    """
    return _chosen(case)[1]


def asking(case: Case, wanted: Callable[[Case], bool]) -> Case:
    """Return `case` with the next seed from its own on whose question is one that is wanted; itself where none is."""
    seeds = (replace(case, seed=case.seed + more) for more in range(TRIES))
    return next((one for one in seeds if wanted(question(one))), case)


def kind(case: Case) -> str:
    """Return what `question` changes: an argument or operand by its name, "axes", "short axis", "dtype" and so on.

    >>> kind(Case.parse("linear(in_features=3, out_features=2, input=(4, 3), seed=1)"))
    'weight'
    """
    return _chosen(case)[0]


def _chosen(case: Case) -> tuple[str, Case]:
    shapes = case.operand_shapes()
    stated = {name: shape for name, shape in shapes.items() if name not in case.spec.inputs}
    if case.spec.gathers:
        stated = {}
    plain = replace(case, layout={}, data=None, grad=None, shapes=stated, regime=BORDERLINE)
    changes = list(_changes(plain))
    if not changes:
        return "", plain
    rng = random.Random(case.seed)  # noqa: S311 - no secret
    chosen = rng.choice(list(dict.fromkeys(name for name, _ in changes)))
    return chosen, rng.choice([change for name, change in changes if name == chosen])()


def refusal(case: Case) -> str:
    """Return why cnnspec refuses the call; "" where it accepts it.

    >>> refusal(Case.parse("relu(input=(3,))"))
    ''
    """
    try:
        operation = case.operation
        operation.output_shape(*case.inputs)
    except (ArgumentError, ShapeError, TypeError) as error:
        return str(error)
    expected = {**operation.buffer_shapes(), **operation.parameter_shapes()}
    for name, shape in case.shapes.items():
        if name in expected and expected[name] != shape:
            return f"{name} of shape {shape} must be {expected[name]}"
    if case.dtypes and ops.family(case.operator) in MIXED:
        return f"{', '.join(case.dtypes)} must have the dtype of the input, {case.dtype}"
    return ""


def _changes(case: Case) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield (kind, change) for all that can be changed."""
    if ops.family(case.operator) in ANY_AXES and 0 in case.inputs[0]:
        return
    for kind, other in _other_shapes(case, case.inputs[0]):
        yield kind, _with_input(case, other)
    for name, shape in case.shapes.items():
        axis = (
            WEIGHT_AXIS.get(ops.family(case.operator), -1) % len(shape)
            if name == "weight"
            else len(shape) - 1
        )
        if shape:
            yield name, _with_shape(case, name, (*shape[:axis], shape[axis] + 1, *shape[axis + 1 :]))
    arguments = arguments_of(case.operation)
    for name, values in (_other_values(arguments) | _of_axes(case)).items():
        for value in values if name in (*case.spec.keywords, "padding_mode") else ():
            if value != arguments[name]:
                yield name, _with_argument(case, name, value)
    if "weight" in case.shapes and 0 not in case.inputs[0]:
        yield "dtype", lambda: replace(case, dtypes={"weight": "float64"})
        yield "dtype", lambda: replace(case, dtypes={case.spec.inputs[0]: "int64"})


def _other_shapes(case: Case, shape: Shape) -> Iterator[tuple[str, Shape]]:
    spatial = getattr(case.operation, "spatial", 0)
    fixed = ops.family(case.operator) not in ANY_AXES
    if fixed:
        yield "axes", (*shape, 1)
    if shape and fixed:
        yield "axes", shape[1:]
        yield "axes", (1, *shape)
    for axis in range(len(shape) - spatial, len(shape)):
        yield "empty axis", (*shape[:axis], 0, *shape[axis + 1 :])
        if shape[axis] > 1:
            yield "short axis", (*shape[:axis], shape[axis] - 1, *shape[axis + 1 :])
            yield "short axis", (*shape[:axis], 1, *shape[axis + 1 :])
    if spatial and len(shape) > spatial:
        channel = len(shape) - spatial - 1
        yield "channels", (*shape[:channel], shape[channel] + 1, *shape[channel + 1 :])
        kept = channel if fixed else 1
        single = tuple(size if axis == kept else 1 for axis, size in enumerate(shape))
        if single != shape:
            yield "short axis", single


def _other_values(arguments: dict[str, Any]) -> dict[str, list[Any]]:
    """Return, by argument, values at and beyond the edge of what is legal."""
    windows = arguments.get("kernel_size")
    kernel = windows[0] if isinstance(windows, tuple) and windows else windows
    values: dict[str, list[Any]] = {
        "stride": [0, 1, 2],
        "dilation": [0, 2],
        "padding_mode": ["zero"],
        "mode": ["constan", "bilinaer", "nearest"],
        "reduction": ["average", "sum"],
        "ceil_mode": [True, False],
        "dim": [7, -7, 0, -1],
        "divisor_override": [0],
        "eps": [0.0, -1.0],
        "p": [-0.25, 1.25],
        "size": [0, 3],
        "scale_factor": [0.1, 2.0],
        "align_corners": [True, False],
        "upscale_factor": [0, 2],
        "downscale_factor": [0, 2],
    }
    if not isinstance(arguments.get("padding"), str) and isinstance(kernel, int):
        values["padding"] = [-1, kernel // 2, kernel // 2 + 1]
    for name in ("groups", "num_groups"):
        values[name] = [0, arguments.get(name, 1) + 1]
    if "output_padding" in arguments:
        largest = max(_largest(arguments[name]) for name in ("stride", "dilation"))
        # Of other groups the functional form makes as many output channels as the weight allows.
        values["groups"] = [0]
        values["output_padding"] = [largest, max(0, largest - 1), -1]
    return {name: options for name, options in values.items() if name in arguments}


def _of_axes(case: Case) -> dict[str, list[Any]]:
    """Return, by argument, values at and beyond the edge of what the axes of the image allow."""
    arguments = arguments_of(case.operation)
    if ops.family(case.operator) == "pad":
        axes = case.inputs[0][::-1][: len(arguments["padding"]) // 2]
        return {"padding": [tuple(size + more for size in axes for _ in range(2)) for more in (0, 1)]}
    if ops.family(case.operator) == "fold":
        sizes, padding = (_largest(arguments[name]) for name in ("output_size", "padding"))
        return {"dilation": [0, 2, sizes + 2 * padding + 1]}
    return {}


def _largest(values: Any) -> int:
    return int(max(values)) if isinstance(values, tuple) else int(values)


def _with_input(case: Case, shape: Shape) -> Callable[[], Case]:
    return lambda: replace(case, inputs=(shape, *case.inputs[1:]))


def _with_shape(case: Case, name: str, shape: Shape) -> Callable[[], Case]:
    if name == "weight" and hasattr(case.operation, "num_parameters"):  # the functional form reads it off
        case = replace(case, arguments={**case.arguments, "num_parameters": shape[0]})
    return lambda: replace(case, shapes={**case.shapes, name: shape})


def _with_argument(case: Case, name: str, value: Any) -> Callable[[], Case]:
    return lambda: replace(case, arguments={**case.arguments, name: value})
