"""What an operator, a path of operators or a network costs and sees: one row for each node, and totals."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspec import nets
from cnnspec.blocks import Block, Seq
from cnnspec.costs import COUNTS, Costs, NamedShape, Row, follow, total
from cnnspec.errors import ArgumentError
from cnnspec.fields import UNAVAILABLE, Field
from cnnspec.graph import Network
from cnnspec.op import Operator
from cnnspec.spelling import parse_operator
from cnnspec.where import hint

if TYPE_CHECKING:
    from cnnspec.frames import Frame

__all__ = ["Row", "Summary", "parse_operator", "summary"]


@dataclass(frozen=True, kw_only=True)
class Summary(Costs):
    """The rows of a network, and their totals; a total is None where it is unavailable for one of the rows.

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

    def under(self, path: str) -> "Summary":
        """Return the rows of a node, or of all nodes below a path, with totals of their own.

        >>> net = Seq(body=Seq(parse_operator("Conv1d(1, 2, 3)"), parse_operator("ReLU")))
        >>> summary(net, (1, 1, 9)).under("body").parameter_count
        8
        """
        rows = [row for row in self.rows if row.name == path or row.name.startswith(f"{path}.")]
        if not rows:
            known = ", ".join(row.name for row in self.rows)
            raise ArgumentError(f"{path!r} is no node and no path to nodes: {known}")
        return _summed(rows, self.dtype, self.batch)

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
        lines.append(("total", "", "", *(_number(getattr(self, name)) for name in COUNTS[:3]), ""))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        aligned = (
            "  ".join(
                cell.rjust(width) if 3 <= column <= 5 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        one = f", for {self.batch} = 1" if self.batch else ""
        biases, norms = f"{_number(self.bias_adds)} additions of a bias", _number(self.norm_ops)
        counted = f" and {biases}" if self.norm_ops == 0 else f", {biases} and {norms} of normalizations"
        arithmetic = f"{_number(self.flops)} FLOPs{counted}{one}"
        memory = f"{self.parameter_bytes:,} bytes of parameters and {self.activation_bytes:,} of outputs"
        lines_below = [arithmetic, f"{memory} in {self.dtype}{one}"]
        if self.trainable_count != self.parameter_count:
            lines_below.append(f"{self.trainable_count:,} parameters are trained")
        return "\n".join([*aligned, *lines_below])

    def to_csv(self) -> str:
        """Return one line per row; shapes and receptive fields as 1x64x112x112, counts that lack as "unavailable"."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = [row.as_dict() for row in self.rows]
        writer.writerow(columns[0])
        writer.writerows([_cell(*item) for item in row.items()] for row in columns)
        return text.getvalue()

    def to_json(self) -> str:
        """Return rows and totals as JSON; a count that lacks is null."""
        totals = {name: getattr(self, name) for name in COUNTS}
        rows = [row.as_dict() for row in self.rows]
        named = {"batch": self.batch} if self.batch else {}
        return json.dumps({"dtype": self.dtype, **named, "rows": rows, "totals": totals}, indent=2)

    def to_frame(self) -> "Frame":
        """Return one line per row as a pandas DataFrame."""
        from cnnspec.frames import frame

        return frame(row.as_dict() for row in self.rows)


def summary(
    operators: Block | Sequence[Operator] | Mapping[str, Operator],
    input_shape: Sequence[int | str | None] | Sequence[Sequence[int | str | None]] | None = None,
    dtype: str = "float32",
) -> Summary:
    """Return what each node of a network costs and sees; of operators, each is applied to what the one before gives.

    The first axis of `input_shape` may be a name: ("N", 3, 224, 224); None is called N. Where a network has several
    inputs, `input_shape` holds their shapes. A network that knows the input it is meant for needs none.
    Raises ShapeError, naming the layer, where one refuses its input.

    >>> print(summary([parse_operator("Conv1d(1, 2, 3)"), parse_operator("ReLU")], ("N", 1, 9)))
    layer  operator         output shape  parameters  MACs  effective MACs  receptive field
    0      Conv1d(1, 2, 3)  (N, 2, 7)              8    42              42  3
    1      ReLU()           (N, 2, 7)              0     0               0  3
    total                                          8    42              42
    84 FLOPs and 14 additions of a bias, for N = 1
    32 bytes of parameters and 112 of outputs in float32, for N = 1
    """
    if isinstance(operators, Network):
        network = operators
        if input_shape is None:
            input_shape = network.input_shapes
    else:
        network = _path(operators, input_shape)
    if not input_shape:
        raise ArgumentError("input_shape is missing: give the shape of the input, such as (1, 3, 224, 224)")
    rows, batch = follow(network, input_shape, dtype)
    return _summed(rows, dtype, batch)


def named(texts: Sequence[str]) -> Network:
    """Return the architecture that a text names, or the path of operators that texts spell; UsageError for neither.

    >>> named(["resnet18"]).parameter_count, named(["Conv2d(3, 64, 7)", "ReLU"]).parameter_count
    (11689512, 9472)
    """
    if len(texts) == 1 and (texts[0] in nets.NAMES or hint(texts[0], nets.NAMES).startswith(": did")):
        return nets.build(texts[0])
    return Network(Seq(*map(parse_operator, texts)))


def _path(operators: Any, input_shape: Any) -> Network:
    """Return the network of operators one after another, or of a block: on one input, or on all at once."""
    if not operators and not hasattr(operators, "place"):
        raise ArgumentError("operators is empty: give at least one")
    if isinstance(operators, Mapping):
        body: Block = Seq(**operators)
    else:
        one = isinstance(operators, Operator) or hasattr(operators, "place")
        body = operators if one else Seq(*operators)
    several = bool(input_shape) and all(isinstance(one, list | tuple) for one in input_shape)
    return Network(body, inputs=[f"input:{n}" for n in range(len(input_shape) if several else 1)])


def _summed(rows: Sequence[Row], dtype: str, batch: str) -> Summary:
    totals: dict[str, Any] = total(rows)
    return Summary(rows=tuple(rows), dtype=dtype, batch=batch, **totals)


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row as the text table shows it."""
    shape = f"({', '.join(map(str, row.output_shape))}{',' * (len(row.output_shape) == 1)})"
    shared = f" (+{row.shared_count:,} of {', '.join(row.shared_with)})" if row.shared_count else ""
    counts = (_number(row.macs), _number(row.macs_effective))
    seen = row.receptive_field
    sizes = "x".join(str(axis.size) for axis in seen) or "1" if isinstance(seen, tuple) else seen or "all"
    return row.name, row.op, shape, f"{row.parameter_count:,}{shared}", *counts, sizes


def _number(value: int | None) -> str:
    return UNAVAILABLE if value is None else f"{value:,}"


def _cell(name: str, value: Any) -> Any:
    """Return a value as CSV shows it: a tuple as 1x64x112x112, names apart by spaces."""
    if isinstance(value, tuple):
        return (" " if name == "shared_with" else "x").join(map(str, value))
    return UNAVAILABLE if value is None and name in COUNTS else value
