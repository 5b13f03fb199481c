"""Judge entries with `==`: cnnspec's own operators, or a backend's."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cnnspec import ops
from cnnspec.casebook.differences import differs, elements, field_differs
from cnnspec.casebook.entries import (
    TEXTBOOK,
    Accept,
    CasebookError,
    Cost,
    Entry,
    Example,
    Graph,
    NetworkTable,
    OutputShape,
    ReceptiveFields,
    Refuse,
    Sequence,
    named,
)
from cnnspec.casebook.networks import graph_differs, network_differs
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape, elementwise, shape_of, unravel
from cnnspec.op import Operator
from cnnspec.window import ReceptiveField

Call = Callable[[str, Mapping[str, Any], Mapping[str, Array]], Array]
"""call(operator, arguments, operands) -> output: runs a backend on nested lists; an error is a refusal."""


@dataclass(frozen=True)
class Finding:
    """An entry that does not hold, and why."""

    name: str
    message: str


def check(entry: Entry, call: Call | None = None) -> list[Finding]:
    """Return where cnnspec, or the backend behind `call`, differs from `entry`; nothing where it holds.

    Numbers are equal or they are not; where the source prints rounded decimals, the value rounded half to
    even to as many digits must be the printed one. Raises CasebookError for an entry that `call` cannot
    answer (`not_for_backends`).
    """
    if call is None:
        judged = _OWN[type(entry)](entry)
    else:
        reason = not_for_backends(entry)
        if reason:
            raise CasebookError(f"{entry.file}: {entry.kind} {entry.name!r}: {reason}")
        judged = _BACKEND[type(entry)](entry, call)
    findings: list[Finding] = []
    try:
        findings.extend(Finding(entry.name, message) for message in judged)
    except Exception as error:  # noqa: BLE001 - whatever an implementation raises is what is found
        findings.append(Finding(entry.name, f"raised {type(error).__name__}: {error}"))
    return findings


def not_for_backends(entry: Entry) -> str:
    """Return why no backend can be asked about `entry`; nothing where it can."""
    if type(entry) not in _BACKEND:
        return f"a backend states no {entry.kind}"
    operator = getattr(entry, "operator", "")
    return f"{operator} is a textbook function, which backends do not have" if operator in TEXTBOOK else ""


# cnnspec's own operators


def _operator(entry: Any) -> Operator:
    return ops.spec(entry.operator).operator(**entry.arguments)


def _own(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    if operator in TEXTBOOK:
        return TEXTBOOK[operator](*operands.values(), **arguments)
    return ops.spec(operator).operator(**arguments).reference(*operands.values())


def _own_shape(entry: OutputShape | Accept) -> Iterator[str]:
    shape = _operator(entry).output_shape(*entry.input_shapes)
    yield from differs("output shape", shape, entry.output_shape)


def _own_cost(entry: Cost) -> Iterator[str]:
    op, shapes = _operator(entry), entry.input_shapes
    costs: dict[str, Callable[[], Any]] = {
        "parameter_count": lambda: op.parameter_count,
        "parameter_shapes": op.parameter_shapes,
        "macs": lambda: op.macs(*shapes),
        "macs_effective": lambda: op.macs_effective(*shapes),
        "bias_adds": lambda: op.bias_adds(*shapes),
        "norm_ops": lambda: op.norm_ops(*shapes),
        "flops": lambda: op.flops(*shapes),
        "multiplications": lambda: op.macs(*shapes),
        "additions": lambda: op.macs(*shapes) - math.prod(op.output_shape(*shapes)) + op.bias_adds(*shapes),
    }
    for name, cost in costs.items():
        yield from differs(name, cost, getattr(entry, name))


def _own_accept(entry: Accept) -> Iterator[str]:
    yield from _own_shape(entry)
    yield from _backend_accept(entry, _own)


def _own_refuse(entry: Refuse) -> Iterator[str]:
    try:
        op = _operator(entry)
    except ArgumentError as error:
        if entry.when != "constructed":
            yield f"refused when constructed, not when called: {error}"
        return
    if entry.when == "constructed":
        yield f"constructed, though it must be refused: {entry.reason}"
        return
    try:
        shape = op.output_shape(*entry.input_shapes)
    except ShapeError:
        return
    yield f"accepted with output shape {shape}, though it must be refused: {entry.reason}"


def _own_sequence(entry: Sequence) -> Iterator[str]:
    shapes, parameters, macs = entry.input_shapes, 0, 0
    for place, layer in enumerate(entry.layers):
        op, at = _operator(layer), f"of layer {place} ({layer.operator})"
        products, output = op.macs(*shapes), op.output_shape(*shapes)
        yield from differs(f"parameter_count {at}", op.parameter_count, layer.parameter_count)
        yield from differs(f"macs {at}", products, layer.macs)
        yield from differs(f"output shape {at}", output, layer.output_shape)
        parameters, macs, shapes = parameters + op.parameter_count, macs + products, (output,)
    yield from differs("parameter_count", parameters, entry.parameter_count)
    yield from differs("macs", macs, entry.macs)
    yield from differs("giga_macs", round(Fraction(macs, 10**9), entry.digits or 0), entry.giga_macs)


def _own_receptive_fields(entry: ReceptiveFields) -> Iterator[str]:
    path: tuple[ReceptiveField, ...] = ()
    for place, layer in enumerate(entry.layers):
        axes = _operator(layer).receptive_field()
        path = tuple(map(ReceptiveField.then, path, axes)) if path and axes else path or axes
        yield from field_differs(f"layer {place} ({layer.operator})", path, layer)


_OWN: Mapping[type[Entry], Callable[[Any], Iterator[str]]] = {
    Example: lambda entry: _backend_example(entry, _own),
    OutputShape: _own_shape,
    Cost: _own_cost,
    Accept: _own_accept,
    Refuse: _own_refuse,
    Sequence: _own_sequence,
    ReceptiveFields: _own_receptive_fields,
    NetworkTable: network_differs,
    Graph: graph_differs,
}


# Any implementation


def _backend_example(entry: Example, call: Call) -> Iterator[str]:
    own = call is _own
    operands = {name: array if own else elementwise(_plain, array) for name, array in entry.operands.items()}
    arguments = entry.arguments if own else {name: _plain(value) for name, value in entry.arguments.items()}
    output = call(entry.operator, arguments, operands)
    if entry.indices is not None:
        output, indices = output
        yield from elements("indices", indices, entry.indices, None)
    yield from elements("output", output, entry.output, entry.digits)


def _backend_accept(entry: Accept, call: Call) -> Iterator[str]:
    output = call(entry.operator, entry.arguments, _ones(entry))
    if entry.output_shape is None or 0 in entry.output_shape:
        return  # a nested list forgets the axes behind an empty one
    yield from differs("output shape", shape_of(output), entry.output_shape)


def _backend_refuse(entry: Refuse, call: Call) -> Iterator[str]:
    operands = _ones(entry)
    try:
        output = call(entry.operator, entry.arguments, operands)
    except Exception:  # noqa: BLE001 - any exception is a refusal
        return
    yield f"accepted with output shape {shape_of(output)}, though it must be refused: {entry.reason}"


_BACKEND: Mapping[type[Entry], Callable[[Any, Call], Iterator[str]]] = {
    Example: _backend_example,
    Accept: _backend_accept,
    Refuse: _backend_refuse,
}


def _ones(entry: Any) -> dict[str, Array]:
    """Return operands of ones, or of class and index 0, shaped as the entry says and as the parameters are."""
    spec = ops.spec(entry.operator)
    inputs = zip(spec.inputs, entry.input_shapes, strict=False)
    shapes: dict[str, Shape] = named(entry.input_shapes) if spec.gathers else dict(inputs)
    if getattr(entry, "weight_shape", None) is not None:
        given = {"weight": entry.weight_shape, "bias": entry.bias_shape}
        shapes |= {name: shape for name, shape in given.items() if shape is not None}
    elif "weight" in spec.operands:
        operation = _operator(entry)
        shapes |= operation.buffer_shapes() | operation.parameter_shapes()
    return {
        name: unravel([int(name not in spec.integers)] * math.prod(shape), shape)
        for name, shape in shapes.items()
    }


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Fraction) else value
