"""The casebook on a backend: an entry's call, made as the backend's users make it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from cnnspec import casebook, nested, ops
from cnnspec.backends import Backend, UnsupportedCase
from cnnspec.backends.targets import resolve
from cnnspec.calls import run
from cnnspec.cases import Case
from cnnspec.nested import Array

DTYPE = "float64"
"""Casebook entries hold in every format; in this one all their numbers are exact."""


@cache
def _backend(target: str) -> Backend:
    backend = resolve(target)[0]
    backend.prepare()
    return backend


def on_backend(entry: casebook.Entry, target: str) -> casebook.Call:
    """Return call(operator, arguments, operands) -> output for the backend that `target` names."""
    backend = _backend(target)

    def call(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
        arrays = {name: _array(values) for name, values in operands.items()}
        stated = (*ops.spec(operator).inputs, *(name for name in arrays if name.startswith("input")))
        inputs = tuple(arrays[name].shape for name in dict.fromkeys(stated) if name in arrays)
        case = Case(operator, dict(arguments), inputs, DTYPE)
        if "weight" in arrays and "bias" in ops.spec(operator).operands and "bias" not in arrays:
            case = Case(operator, {**arguments, "bias": False}, inputs, DTYPE)
        try:
            outputs, _ = run(backend, case, arrays)
        except UnsupportedCase as error:
            if isinstance(entry, casebook.Refuse):
                raise  # a refusal, as it should be
            import pytest

            pytest.skip(f"{target}: {error}")
        results = [nested.unravel(np.asarray(output.values).tolist(), output.shape) for output in outputs]
        return tuple(results) if len(results) > 1 else results[0]

    return call


def _array(values: Array) -> Any:
    flat = [float(value) for value in nested.ravel(values)]
    return np.array(flat, dtype=np.float64).reshape(nested.shape_of(values))
