"""Calls that a trace finds and the catalogue has not: what they give and cost, as far as that can be said.

They know the shapes that they were traced with, and no values.
"""

from dataclasses import dataclass

from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator
from cnnspec.ops.combine import Add
from cnnspec.window import ReceptiveField

NamedShapes = tuple[tuple[str, Shape], ...]


@dataclass(frozen=True)
class Trace:
    """What a trace knows of one call.

    name:       what was called
    inputs, output: the shapes of the tensors that depend on the network's input, and of the result
    parameters, buffers: the operands that do not, by the word of the operand
    macs:       the products that are counted; None where they are not known
    bias_adds:  the additions of a bias
    broadcasts: whether the result has the common shape of all inputs, whatever they are
    operator:   that of the catalogue, where the call is one but for operands that are computed
    """

    name: str
    inputs: tuple[Shape, ...]
    output: Shape
    parameters: NamedShapes = ()
    buffers: NamedShapes = ()
    macs: int | None = None
    bias_adds: int = 0
    broadcasts: bool = False
    operator: Operator | None = None

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Unavailable(Operator):
    """A call whose costs are not known: no count is stated, and none is 0."""

    trace: Trace

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shapes of the parameters that the call reads."""
        return dict(self.trace.parameters)

    def buffer_shapes(self) -> dict[str, Shape]:
        """Return the shapes of the buffers that the call reads."""
        return dict(self.trace.buffers)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the traced shape; ShapeError for inputs of other shapes than the traced ones."""
        if input_shapes == self.trace.inputs:
            return self.trace.output
        if not self.trace.broadcasts:
            raise ShapeError(
                f"{self.trace.name} was traced on {self.trace.inputs}: trace again for {input_shapes}"
            )
        shape: Shape = ()
        for one in (*input_shapes, *(shape for _, shape in (*self.trace.parameters, *self.trace.buffers))):
            shape = Add().output_shape(shape, one)
        return shape

    def reference(self, *arrays: Array) -> Array:
        """Raise NotImplementedError: no definition is known."""
        raise NotImplementedError(
            f"{self.trace.name} is known by a trace alone: it has no definition to evaluate"
        )


@dataclass(frozen=True)
class Counted(Unavailable):
    """A call that normalizes nothing and whose products are known; rearranging has none."""

    def macs(self, *input_shapes: Shape) -> int:
        """Return the products, those of the traced shapes; ShapeError for others."""
        self.output_shape(*input_shapes)
        return self.trace.macs or 0

    def bias_adds(self, *input_shapes: Shape) -> int:
        """Return the additions of a bias, those of the traced shapes."""
        return self.trace.bias_adds

    def norm_ops(self, *input_shapes: Shape) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True)
class Computed(Unavailable):
    """An operator of the catalogue some of whose operands are computed: from parameters, or from the input.

    Its parameters are those that the operands are computed from; the products of computing them count as well.
    """

    @property
    def operator(self) -> Operator:
        """The operator of the catalogue."""
        if self.trace.operator is None:
            raise ShapeError(f"{self.trace.name} was traced without an operator")
        return self.trace.operator

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return what the operator gives for the first input."""
        return self.operator.output_shape(input_shapes[0])

    def macs(self, *input_shapes: Shape) -> int:
        """Return the operator's products and those of its operands."""
        return self.operator.macs(input_shapes[0]) + (self.trace.macs or 0)

    def macs_effective(self, *input_shapes: Shape) -> int:
        """Return the operator's products on data and those of its operands."""
        return self.operator.macs_effective(input_shapes[0]) + (self.trace.macs or 0)

    def bias_adds(self, *input_shapes: Shape) -> int:
        """Return the operator's additions of a bias."""
        return self.operator.bias_adds(input_shapes[0])

    def norm_ops(self, *input_shapes: Shape) -> int:
        """Return the operator's operations of a normalization."""
        return self.operator.norm_ops(input_shapes[0])

    def receptive_field(self) -> tuple[ReceptiveField, ...]:
        """Return what the operator sees."""
        return self.operator.receptive_field()


@dataclass(frozen=True)
class Unused(Counted):
    """Parameters that the traced call does not read; the network owns them all the same."""

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return (0,), whatever the input."""
        return self.trace.output
