"""What a casebook holds: a frozen dataclass for each kind of entry, its fields named as the keys in TOML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from cnnspec import ops
from cnnspec.errors import CnnspecError
from cnnspec.nested import Array, Shape, ravel
from cnnspec.ops import corr, pool

TEXTBOOK: Mapping[str, Callable[..., Array]] = {
    "corr2d": corr.corr2d,
    "convolve2d": corr.convolve2d,
    "corr2d_multi_in": corr.corr2d_multi_in,
    "corr2d_multi_in_out": corr.corr2d_multi_in_out,
    "corr2d_multi_in_out_1x1": corr.corr2d_multi_in_out_1x1,
    "pool2d": pool.pool2d,
}
"""The textbook functions: they take `input`, and all but pool2d `weight`; no backend has them."""


class CasebookError(CnnspecError):
    """A casebook that cannot be read: the message names file, entry, field and repair."""


@dataclass(frozen=True)
class Source:
    """Who says so; `author` is "by hand" where `section` is the arithmetic itself."""

    author: str
    title: str
    section: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What all kinds have; `file` is where it stands."""

    kind: ClassVar[str] = ""

    name: str
    source: Source
    file: Path = field(compare=False)
    convention: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Example(Entry):
    """A call with all its values; `digits` where the source prints rounded decimals.

    others: operands that are neither input, weight nor bias, each written under its own name
    """

    kind: ClassVar[str] = "example"

    operator: str
    inputs: tuple[Array, ...]
    output: Array
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weight: Array | None = None
    bias: Array | None = None
    others: Mapping[str, Array] = field(default_factory=dict)
    indices: Array | None = None
    digits: int | None = None

    @property
    def operands(self) -> dict[str, Array]:
        """The arrays by the name of the operand, in the order of the call."""
        given = named(self.inputs) | {"weight": self.weight, "bias": self.bias} | dict(self.others)
        order = () if self.operator in TEXTBOOK else ops.spec(self.operator).operands
        names = [*(name for name in order if name in given), *(name for name in given if name not in order)]
        return {name: given[name] for name in names if given[name] is not None}

    @property
    def significand_bits(self) -> int:
        """How many bits hold every number here; 24 where outputs are rounded decimals.

        bfloat16 has 8, float16 has 11, float32 has 24.
        """
        if self.digits is not None:
            return 24
        values = [value for array in (*self.operands.values(), self.output) for value in ravel(array)]
        numerators = [abs(value.numerator) for value in values if isinstance(value, int | Fraction) and value]
        return max(((odd // (odd & -odd)).bit_length() for odd in numerators), default=1)


@dataclass(frozen=True, kw_only=True)
class OutputShape(Entry):
    """A call's output shape."""

    kind: ClassVar[str] = "shape"

    operator: str
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cost(Entry):
    """What a call costs, of which something is stated; no input is needed for parameters alone."""

    kind: ClassVar[str] = "cost"

    operator: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    input_shapes: tuple[Shape, ...] = ()
    parameter_count: int | None = None
    parameter_shapes: Mapping[str, Shape] | None = None
    macs: int | None = None
    macs_effective: int | None = None
    bias_adds: int | None = None
    norm_ops: int | None = None
    flops: int | None = None
    multiplications: int | None = None
    additions: int | None = None


@dataclass(frozen=True, kw_only=True)
class Accept(Entry):
    """A call that must be accepted."""

    kind: ClassVar[str] = "accept"

    operator: str
    input_shapes: tuple[Shape, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    output_shape: Shape | None = None


@dataclass(frozen=True, kw_only=True)
class Refuse(Entry):
    """A call that must be refused, when the operator is "constructed" or when it is "called".

    What cannot be constructed has no parameter shapes: the entry gives those of the functional call.
    """

    kind: ClassVar[str] = "refuse"

    operator: str
    input_shapes: tuple[Shape, ...]
    when: str
    reason: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weight_shape: Shape | None = None
    bias_shape: Shape | None = None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a sequence, with what its source says of it."""

    operator: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    output_shape: Shape | None = None
    parameter_count: int | None = None
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sequence(Entry):
    """A chain of layers and its totals; `giga_macs` are 10^9 products, printed with `digits` decimals."""

    kind: ClassVar[str] = "sequence"
    step: ClassVar[type] = Layer

    input_shapes: tuple[Shape, ...]
    layers: tuple[Layer, ...]
    parameter_count: int | None = None
    macs: int | None = None
    giga_macs: Fraction | None = None
    digits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One layer of a path, with the receptive field after it: one number, or one for each spatial axis."""

    operator: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size: int | tuple[int, ...] | None = None
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ReceptiveFields(Entry):
    """A path of layers: how many pixels its outputs see, how far apart, and from how far before the input."""

    kind: ClassVar[str] = "receptive_field"
    step: ClassVar[type] = Step

    layers: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What a source says of a node, or of all nodes below a path: the output and the field are those of the last."""

    node: str
    output_shape: Shape | None = None
    parameter_count: int | None = None
    macs: int | None = None
    size: int | tuple[int, ...] | None = None
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkTable(Entry):
    """One of `cnnspec.nets`, its totals and what is said of its nodes; `giga_macs` and `digits` as in a sequence."""

    kind: ClassVar[str] = "network"
    step: ClassVar[type] = NodeFacts

    network: str
    input_shapes: tuple[Shape, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    nodes: tuple[NodeFacts, ...] = ()
    output_shape: Shape | None = None
    parameter_count: int | None = None
    macs: int | None = None
    giga_macs: Fraction | None = None
    digits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Use:
    """One node of a graph: an operator on what the inputs and nodes of these names give."""

    node: str
    operator: str
    takes: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Graph(Entry):
    """A small network with all its values, and the gradients of the sum of its outputs.

    values:    each input and each parameter by name; shared: what a node calls a parameter that has another name
    gradients: those of inputs and of parameters, by name
    """

    kind: ClassVar[str] = "graph"
    step: ClassVar[type] = Use

    values: Mapping[str, Array]
    nodes: tuple[Use, ...]
    output: Array
    gradients: Mapping[str, Array] = field(default_factory=dict)
    parameter_count: int | None = None


_KINDS = (Example, OutputShape, Cost, Accept, Refuse, Sequence, ReceptiveFields, NetworkTable, Graph)
KINDS: Mapping[str, type[Entry]] = {kind.kind: kind for kind in _KINDS}
"""The kinds by the name of their tables."""


def named(inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return the inputs by the names of the operands: input, input2, input3 and so on.

    >>> named((10, 20))
    {'input': 10, 'input2': 20}
    """
    return {f"input{position if position > 1 else ''}": value for position, value in enumerate(inputs, 1)}
