"""Acceptance in both directions: what cnnspec and torch on the CPU say to the same arguments and shapes."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch

import cnnspec
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Shape

CONSTRUCTOR, CALL = "the constructor refuses", "the call refuses"
Answer = str | Shape
Question = tuple[str, Mapping[str, Any], tuple[Shape, ...]]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": lambda: torch.add,
    "Concat": lambda dim=1: lambda *inputs: torch.cat(inputs, dim),
    "Pad": lambda padding, mode="constant", value=0: (
        lambda x: torch.nn.functional.pad(x, padding, mode, value if mode == "constant" else None)
    ),
}


IMAGE = (1, 4, 6, 7)


def e(answer: Answer, *shape: int, **arguments: Any) -> Any:
    """A row: the answer, the input shape (IMAGE if none), and what differs from 4 channels, 6 outputs, kernel 3."""
    row = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | arguments
    return pytest.param(row, shape or IMAGE, answer, id=f"{shape or ''}{arguments}")


def ours(name: str, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Answer:
    """Return who refuses in cnnspec, or the output shape."""
    try:
        operator = getattr(cnnspec, name)(**arguments)
    except ArgumentError:
        return CONSTRUCTOR
    try:
        return tuple(operator.output_shape(*shapes))
    except ShapeError:
        return CALL


def theirs(
    name: str, arguments: Mapping[str, Any], shapes: tuple[Shape, ...], dtype: torch.dtype = torch.float32
) -> Answer:
    """Return who refuses in torch, or the output shape; `training` is the mode of the layer, evaluation by default."""
    given = {key: value for key, value in arguments.items() if key != "training"}
    make = FUNCTIONS.get(name) or getattr(torch.nn, name)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of parameters without elements, and of "same" with even kernels
        try:
            layer = make(**given)
            if isinstance(layer, torch.nn.Module):
                layer.train(arguments.get("training", False))
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError):
            return CONSTRUCTOR
        try:
            output = layer(*(torch.zeros(shape, dtype=dtype) for shape in shapes))
        except (TypeError, ValueError, RuntimeError, IndexError):
            return CALL
    return tuple((output[0] if isinstance(output, tuple) else output).shape)


def disagreements(questions: Iterable[Question], theirs: Callable[..., Answer] = theirs) -> list[str]:
    """Return one line for each question that cnnspec and theirs(name, arguments, shapes) answer differently."""
    return [
        f"{name}({arguments}) on {shapes}: cnnspec {mine}, torch {other}"
        for name, arguments, shapes in questions
        if (mine := ours(name, arguments, shapes)) != (other := theirs(name, arguments, shapes))
    ]


def tally(questions: Iterable[Question]) -> tuple[int, int, int]:
    """Return how many calls cnnspec refuses in the constructor, refuses in the call, and accepts."""
    answers = [ours(*question) for question in questions]
    refused = answers.count(CONSTRUCTOR), answers.count(CALL)
    return (*refused, len(answers) - sum(refused))
