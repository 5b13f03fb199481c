"""What a layer, or a sequence of layers, costs and sees: one row for each, and totals.

A sequence is a path without branches; a network with branches will come here as a graph.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspec.costs import COUNTS, Costs, Field, NamedShape, Row, follow
from cnnspec.errors import ArgumentError
from cnnspec.op import Operator, bytes_per_element
from cnnspec.spelling import parse_operator

if TYPE_CHECKING:
    from cnnspec.frames import Frame

__all__ = ["Row", "Summary", "parse_operator", "summary"]


@dataclass(frozen=True, kw_only=True)
class Summary(Costs):
    """The rows of a sequence of layers, and their totals.

    >>> table = summary(parse_operator("Conv2d(3, 64, 7, stride=2, padding=3)"), (1, 3, 224, 224))
    >>> table.parameter_count, table.macs, table.output_shape
    (9472, 118013952, (1, 64, 112, 112))
    """

    rows: tuple[Row, ...]
    dtype: str
    batch: str = ""

    @property
    def output_shape(self) -> NamedShape:
        """The shape of the last output."""
        return self.rows[-1].output_shape

    @property
    def receptive_field(self) -> Field:
        """What an element of the last output sees of the input."""
        return self.rows[-1].receptive_field

    def __str__(self) -> str:
        head = (
            "layer",
            "operator",
            "output shape",
            "parameters",
            "MACs",
            "effective MACs",
            "receptive field",
        )
        lines = [head, *(_cells(row) for row in self.rows)]
        lines.append(("total", "", "", *(f"{getattr(self, name):,}" for name in COUNTS[:3]), ""))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        aligned = (
            "  ".join(
                cell.rjust(width) if 3 <= column <= 5 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        one = f", for {self.batch} = 1" if self.batch else ""
        arithmetic = f"{self.flops:,} FLOPs and {self.bias_adds:,} additions of a bias{one}"
        memory = f"{self.parameter_bytes:,} bytes of parameters and {self.activation_bytes:,} of outputs"
        return "\n".join([*aligned, arithmetic, f"{memory} in {self.dtype}{one}"])

    def to_csv(self) -> str:
        """Return one line per row; shapes and receptive fields as 1x64x112x112."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = [row.as_dict() for row in self.rows]
        writer.writerow(columns[0])
        writer.writerows([_joined(value) for value in row.values()] for row in columns)
        return text.getvalue()

    def to_json(self) -> str:
        """Return rows and totals as JSON."""
        totals = {name: getattr(self, name) for name in COUNTS}
        rows = [row.as_dict() for row in self.rows]
        named = {"batch": self.batch} if self.batch else {}
        return json.dumps({"dtype": self.dtype, **named, "rows": rows, "totals": totals}, indent=2)

    def to_frame(self) -> "Frame":
        """Return one line per row as a pandas DataFrame."""
        from cnnspec.frames import frame

        return frame(row.as_dict() for row in self.rows)


def summary(
    operators: Operator | Sequence[Operator] | Mapping[str, Operator],
    input_shape: Sequence[int | str] | Sequence[Sequence[int | str]],
    dtype: str = "float32",
) -> Summary:
    """Return what the operators cost and see, each applied to what the one before it gives.

    The first axis of `input_shape` may be a name: ("N", 3, 224, 224). Where the first operator takes several
    inputs, `input_shape` holds their shapes. ShapeError, naming the layer, where one refuses its input.

    >>> print(summary([parse_operator("Conv1d(1, 2, 3)"), parse_operator("ReLU")], ("N", 1, 9)))
    layer  operator         output shape  parameters  MACs  effective MACs  receptive field
    0      Conv1d(1, 2, 3)  (N, 2, 7)              8    42              42  3
    1      ReLU()           (N, 2, 7)              0     0               0  3
    total                                          8    42              42
    84 FLOPs and 14 additions of a bias, for N = 1
    32 bytes of parameters and 112 of outputs in float32, for N = 1
    """
    layers = _named(operators)
    bytes_per_element(dtype)
    rows, batch = follow(layers, input_shape, dtype)
    totals = {count: sum(getattr(row, count) for row in rows) for count in COUNTS}
    return Summary(rows=tuple(rows), dtype=dtype, batch=batch, **totals)


def _named(operators: Operator | Sequence[Operator] | Mapping[str, Operator]) -> dict[str, Operator]:
    """Return the operators by name: their places where they have none."""
    given = [operators] if isinstance(operators, Operator) else operators
    layers = dict(given) if isinstance(given, Mapping) else {str(n): one for n, one in enumerate(given)}
    for name, operator in layers.items():
        if not isinstance(operator, Operator):
            raise ArgumentError(
                f"layer {name}: {operator!r} is no operator, such as cnnspec.Conv2d(3, 64, 7)"
            )
    if not layers:
        raise ArgumentError("operators is empty: give at least one")
    return layers


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row as the text table shows it."""
    shape = f"({', '.join(map(str, row.output_shape))}{',' * (len(row.output_shape) == 1)})"
    counts = (f"{getattr(row, name):,}" for name in COUNTS[:3])
    sizes = row.as_dict()["receptive_size"]
    return row.name, row.op, shape, *counts, "all" if sizes is None else _joined(sizes) or "1"


def _joined(value: Any) -> Any:
    """Return a tuple as 1x64x112x112."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value
