"""Along a sequence of operators: the shape, the costs and the receptive field behind each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from cnnspec import ops
from cnnspec.errors import ShapeError
from cnnspec.nested import Shape
from cnnspec.op import Operator
from cnnspec.ops.pad import Pad
from cnnspec.spelling import spec_name, spelled
from cnnspec.window import ReceptiveField

Field = tuple[ReceptiveField, ...] | None
"""What an output sees of the input, per spatial axis: () one element, None all of it."""
NamedShape = tuple[int | str, ...]
"""A shape whose batch may be a name, such as "N"."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What is counted; of one image where the batch is a name."""

    parameter_count: int
    macs: int
    macs_effective: int
    flops: int
    bias_adds: int
    activation_bytes: int
    parameter_bytes: int


COUNTS = tuple(field.name for field in fields(Costs))


@dataclass(frozen=True, kw_only=True)
class Row(Costs):
    """One layer: what it is, gives and costs, and what its output sees of the input of the sequence."""

    name: str
    op: str
    output_shape: NamedShape
    receptive_field: Field

    def as_dict(self) -> dict[str, Any]:
        """Return the row by column; the receptive field as sizes, strides and offsets per axis."""
        columns = {name: getattr(self, name) for name in ("name", "op", "output_shape", *COUNTS)}
        for part in ("size", "stride", "offset"):
            seen = self.receptive_field
            axes = None if seen is None else tuple(getattr(axis, part) for axis in seen)
            columns[f"receptive_{part}"] = axes
        return columns


def follow(layers: Mapping[str, Operator], input_shape: Sequence[Any], dtype: str) -> tuple[list[Row], str]:
    """Return a row for each layer, and the name of the batch ("" where it has a size).

    Shapes are followed for a batch of 1 and of 2, and sizes that differ depend on the batch.
    """
    shapes, batch = _sizes(input_shape, 1)
    doubled, _ = _sizes(input_shape, 2)
    rows: list[Row] = []
    field: Field = ()
    for name, operator in layers.items():
        field = _seen(operator, field, shapes[0])
        one, two = (_output(name, operator, inputs) for inputs in (shapes, doubled))
        rows.append(
            Row(
                name=name,
                op=spelled(operator),
                output_shape=tuple(_size(*sizes, batch) for sizes in zip(one, two, strict=True)),
                receptive_field=field,
                **asdict(_costs(operator, shapes, dtype)),
            )
        )
        shapes, doubled = [one], [two]
    return rows, batch


def _sizes(input_shape: Sequence[Any], batch: int) -> tuple[list[Shape], str]:
    """Return the input shapes with the named batch replaced by `batch`, and its name."""
    several = bool(input_shape) and all(isinstance(one, list | tuple) for one in input_shape)
    given = [tuple(one) for one in (input_shape if several else [input_shape])]
    names = {size for shape in given for size in shape[:1] if isinstance(size, str)}
    shapes = [tuple(batch if size in names else size for size in shape) for shape in given]
    if len(names) > 1 or any(type(size) is not int or size < 0 for shape in shapes for size in shape):
        raise ShapeError(f"input_shape={input_shape!r} must hold sizes; the batch alone may be a name")
    return shapes, "".join(names)


def _size(one: int, two: int, batch: str) -> int | str:
    """Return a size, `one` for a batch of 1 and `two` for a batch of 2, as it depends on the batch."""
    factor, rest = two - one, 2 * one - two
    if not factor:
        return one
    name = batch if factor == 1 else f"{factor}{batch}"
    return f"{name}{rest:+d}" if rest else name


def _output(name: str, operator: Operator, inputs: Sequence[Shape]) -> Shape:
    """Return the output shape; ShapeError, naming the layer, where it refuses its inputs."""
    known = spec_name(operator)
    spec = ops.spec(known) if known else None
    refused = f"layer {name}, {spelled(operator)}, does not take {' and '.join(map(str, inputs))}"
    if spec and spec.input_count != len(inputs) and not spec.gathers:
        raise ShapeError(f"{refused}: it takes {spec.input_count} inputs, and a path has one", layer=name)
    try:
        return operator.output_shape(*inputs)
    except ShapeError as error:
        raise ShapeError(f"{refused}: {error}", **{**error.values, "layer": name}) from error


def _costs(operator: Operator, inputs: Sequence[Shape], dtype: str) -> Costs:
    return Costs(
        parameter_count=operator.parameter_count,
        macs=operator.macs(*inputs),
        macs_effective=operator.macs_effective(*inputs),
        flops=operator.flops(*inputs),
        bias_adds=operator.bias_adds(*inputs),
        activation_bytes=operator.activation_bytes(*inputs, dtype=dtype),
        parameter_bytes=operator.parameter_bytes(dtype),
    )


def _seen(operator: Operator, field: Field, input_shape: Shape) -> Field:
    """Return what the output of `operator` sees through an input that sees `field`."""
    own = operator.receptive_field()
    if isinstance(operator, Pad) and operator.padding:
        axes = len(field) if field else len(operator.padding) // 2
        own = tuple(ReceptiveField(1, 1, -before) for before, _ in operator.pads(len(input_shape))[-axes:])
    if field is None or not own:
        return field if _sees_one(operator, len(input_shape)) else None
    if field and len(field) != len(own):
        return None
    return tuple(ReceptiveField.then(*pair) for pair in zip(field, own, strict=True)) if field else own


def _sees_one(operator: Operator, axes: int) -> bool:
    """Say whether an output element depends on one position of its input (or on one of several channels)."""
    family = type(operator).__module__.rpartition(".")[2]
    dim = getattr(operator, "dim", 0) % max(1, axes)
    return family in ("pointwise", "combine", "pad") or (family == "softmax" and dim == 1 and axes > 2)
