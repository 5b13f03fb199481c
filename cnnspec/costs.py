"""Along a network: the shape, the costs and the receptive field behind each node.

What is worked out for an operator and the shapes of its inputs holds wherever both come again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from cnnspec.blocks import Node
from cnnspec.errors import ShapeError
from cnnspec.fields import Field, joined, own, seen_through
from cnnspec.graph import Network, output_of
from cnnspec.nested import Shape
from cnnspec.op import Operator, bytes_per_element
from cnnspec.spelling import spec_name, spelled

NamedShape = tuple[int | str, ...]
"""A shape whose batch may be a name, such as "N"."""

COUNTED = ("macs", "macs_effective", "bias_adds", "norm_ops")
"""What operators count, beside flops; None where one from outside the catalogue does not say."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What is counted; of one image where the batch is a name. None is unavailable, never 0.

    parameter_count: without those that a node before has counted; trainable_count: those that training changes
    macs, macs_effective: products, with and without those on padding; flops: 2 * macs
    bias_adds, norm_ops: additions of a bias, operations of normalizations: in no other count
    """

    parameter_count: int
    macs: int | None
    macs_effective: int | None
    bias_adds: int | None
    norm_ops: int | None
    flops: int | None
    activation_bytes: int
    parameter_bytes: int
    trainable_count: int


COUNTS = tuple(field.name for field in fields(Costs))


class Row(NamedTuple):
    """One node: what it is, gives and costs, and what its output sees of the network's input.

    shared_with:  the nodes before that have counted parameters of this one; shared_count: how many those are
    See `Costs` for the counts.
    """

    name: str
    op: str
    output_shape: NamedShape
    parameter_count: int
    macs: int | None
    macs_effective: int | None
    bias_adds: int | None
    norm_ops: int | None
    flops: int | None
    activation_bytes: int
    parameter_bytes: int
    trainable_count: int
    receptive_field: Field
    shared_count: int = 0
    shared_with: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the row by column; the receptive field as sizes, strides and offsets per axis."""
        columns = {name: getattr(self, name) for name in ("name", "op", "output_shape", *COUNTS)}
        columns |= {"shared_count": self.shared_count, "shared_with": self.shared_with}
        seen = self.receptive_field
        for part in ("size", "stride", "offset"):
            axes = tuple(getattr(axis, part) for axis in seen) if isinstance(seen, tuple) else seen
            columns[f"receptive_{part}"] = axes
        return columns


Counts = tuple[int | None, int | None, int | None, int | None, int | None]
"""What `COUNTED` names, and flops."""


class _Known(NamedTuple):
    """What holds for an operator on inputs of certain shapes, whose fields have so many axes."""

    output_shape: Shape
    elements: int
    counts: Counts
    op: str
    sees: Field


def follow(network: Network, input_shape: Sequence[Any], dtype: str) -> tuple[list[Row], str]:
    """Return a row for each node, and the name of the batch ("" where it has a size).

    Shapes are followed for a batch of 1 and of 2 where it is a name; sizes that differ depend on it.
    """
    given, batch = _sizes(network, input_shape, 1)
    doubled = network.shapes(*_sizes(network, input_shape, 2)[0]) if batch else {}
    size = bytes_per_element(dtype)
    shapes: dict[str, Shape] = dict(zip(network.inputs, given, strict=True))
    seen: dict[str, Field] = dict.fromkeys(network.inputs, ())
    known: dict[tuple[int, int, tuple[Shape, ...]], _Known] = network.worked_out
    rows: list[Row] = []
    for name, node in network.nodes.items():
        if len(node.inputs) == 1:
            (source,) = node.inputs
            inputs: tuple[Shape, ...] = (shapes[source],)
            field = seen[source]
        else:
            inputs = tuple([shapes[source] for source in node.inputs])
            field = joined([seen[source] for source in node.inputs])
        axes = len(field) if isinstance(field, tuple) else 0
        key = (id(node.operator), axes, inputs)
        one = known.get(key)
        if one is None:
            one = known[key] = _known(node, axes, inputs)
        shape, elements, counts, op, sees = one
        if sees != ():
            field = seen_through(field, sees)
        seen[name], shapes[name] = field, shape
        named = tuple(map(_size, shape, doubled[name], [batch] * len(shape))) if batch else shape
        added, trainable, shared, shared_with = network.uses[name]
        stored = (elements * size, added * size, trainable)
        rows.append(Row._make((name, op, named, added, *counts, *stored, field, shared, shared_with)))
    return rows, batch


def total(rows: Sequence[Row]) -> dict[str, int | None]:
    """Return the sum of each count over rows; None where one of them is unavailable."""
    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    return {name: None if None in columns[name] else sum(columns[name]) for name in COUNTS}


def _known(node: Node, axes: int, inputs: tuple[Shape, ...]) -> _Known:
    shape = output_of(node, inputs)
    macs, effective, biases, norms = (_count(node.operator, name, inputs) for name in COUNTED)
    if macs is not None and type(node.operator).flops is Operator.flops:
        flops: int | None = 2 * macs
    else:
        flops = _count(node.operator, "flops", inputs)
    counts = (macs, effective, biases, norms, flops)
    sees = own(node.operator, axes, inputs[0])
    return _Known(shape, math.prod(shape), counts, spelled(node.operator), sees)


def _count(operator: Operator, name: str, inputs: tuple[Shape, ...]) -> int | None:
    """Return what an operator counts; None where one from outside the catalogue leaves it to `Operator`."""
    kind = type(operator)
    follows_macs = name in ("macs_effective", "flops") and kind.macs is not Operator.macs
    if follows_macs or getattr(kind, name) is not getattr(Operator, name):
        found: int = getattr(operator, name)(*inputs)
        return found
    return None if spec_name(operator) is None else 0


def _sizes(network: Network, input_shape: Sequence[Any], batch: int) -> tuple[list[Shape], str]:
    """Return the input shapes with the named batch replaced by `batch`, and its name; None is called N."""
    several = bool(input_shape) and all(isinstance(one, list | tuple) for one in input_shape)
    given = [tuple(one) for one in (input_shape if several else [input_shape])]
    given = [("N" if shape[:1] == (None,) else shape[0], *shape[1:]) if shape else () for shape in given]
    names = {size for shape in given for size in shape[:1] if isinstance(size, str)}
    shapes = [tuple(batch if size in names else size for size in shape) for shape in given]
    if len(names) > 1 or any(type(size) is not int or size < 0 for shape in shapes for size in shape):
        raise ShapeError(f"input_shape={input_shape!r} must hold sizes; the batch alone may be a name")
    if len(shapes) != len(network.inputs):
        wanted = ", ".join(network.inputs)
        raise ShapeError(f"input_shape holds {len(shapes)} shapes, and the network has the inputs {wanted}")
    return shapes, "".join(names)


def _size(one: int, two: int, batch: str) -> int | str:
    """Return a size, `one` for a batch of 1 and `two` for a batch of 2, as it depends on the batch."""
    factor, rest = two - one, 2 * one - two
    if not factor:
        return one
    name = batch if factor == 1 else f"{factor}{batch}"
    return f"{name}{rest:+d}" if rest else name
