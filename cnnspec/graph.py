"""A network: a directed acyclic graph of operators, with named nodes and named parameters.

    forward:   y_j = f_j(y_i for each input i of j, parameters of j)
    backward:  dy_i = sum over all j that take y_i of (J_j^T dy_j)_i
               dw   = sum over all j that use w of (J_j^T dy_j)_w

The network holds shapes, not values: parameters and buffers are given by name, so that any numbers will do.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnspec import nested
from cnnspec.blocks import Block, Node, Plan, Seq, join, place
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator
from cnnspec.ops import spec
from cnnspec.spelling import spec_name, spelled

if TYPE_CHECKING:
    from cnnspec.filling import Rules


class Gradients(NamedTuple):
    """What the sum of grad_output * output changes by: with each input, each parameter, each node's output."""

    inputs: tuple[Array, ...]
    parameters: dict[str, Array]
    nodes: dict[str, Array]


class Uses(NamedTuple):
    """The parameters of a node, counted.

    added:  those that no node before uses; trainable: those of them that are not frozen
    shared: those that nodes before use as well; shared_with: these nodes
    """

    added: int
    trainable: int
    shared: int
    shared_with: tuple[str, ...]


NOTHING = Uses(0, 0, 0, ())


class Network:
    """A network from a block, or from nodes in an order in which each follows what it takes.

    inputs:       the names of the network's inputs
    outputs:      the nodes whose values it returns: those of the block, or the last one
    input_shapes: the inputs that it is meant for, which a summary takes where no shape is given
    frozen:       parameters, or paths of nodes, that training leaves as they are

    Raises ArgumentError for names that stand twice or nowhere, and where users of one parameter want other shapes.

    >>> from cnnspec.ops.linear import Linear
    >>> from cnnspec.ops.pointwise import ReLU
    >>> net = Network(Seq(hidden=Linear(2, 3), act=ReLU(), out=Linear(3, 1)))
    >>> net.parameter_shapes()
    {'hidden.weight': (3, 2), 'hidden.bias': (3,), 'out.weight': (1, 3), 'out.bias': (1,)}
    >>> net.output_shape((5, 2)), net.parameter_count
    ((5, 1), 13)
    """

    def __init__(
        self,
        body: Block | Iterable[Node],
        *,
        inputs: Sequence[str] = ("input",),
        outputs: Sequence[str] = (),
        input_shapes: Sequence[Shape] = (),
        frozen: Sequence[str] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        if isinstance(body, Operator) or hasattr(body, "place"):
            plan = Plan()
            ends = place(Seq(body) if isinstance(body, Operator) else body, plan, "", self.inputs)
            nodes = plan.nodes
        else:
            nodes = list(body)
            ends = tuple(node.name for node in nodes[-1:])
        self.nodes = _ordered(nodes, self.inputs)
        self.outputs = tuple(outputs) or ends
        self.input_shapes = tuple(tuple(shape) for shape in input_shapes)
        self.frozen = tuple(frozen)
        self._parameters: dict[str, Shape] = {}
        self._buffers: dict[str, Shape] = {}
        self.uses = self._entered(nodes)
        self.worked_out: dict[Any, Any] = {}  # what a summary found for operators on shapes: for the next one
        if not nodes:
            raise ArgumentError("a network needs at least one node")
        for name in self.outputs:
            if name not in self.nodes and name not in self.inputs:
                raise ArgumentError(f"outputs has {name!r}, which is no node of the network")
        for path in self.frozen:
            if not any(_within(one, path) for one in (*self.nodes, *self._parameters)):
                raise ArgumentError(f"frozen has {path!r}, which is no parameter and no path to nodes")

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "worked_out": {},
        }  # it knows operators by their identity, which a copy has not

    def _entered(self, nodes: Sequence[Node]) -> dict[str, Uses]:
        """Enter the parameters and buffers of the nodes; return what each node adds and what it shares."""
        owners: dict[str, str] = {}
        uses: dict[str, Uses] = {}
        known: dict[int, tuple[Mapping[str, Shape], list[tuple[str, Shape, int]]]] = {}
        for node in nodes:
            operator = node.operator
            if id(operator) not in known:
                shapes = operator.parameter_shapes()
                counted = [(word, shape, math.prod(shape)) for word, shape in shapes.items()]
                known[id(operator)] = operator.buffer_shapes(), counted
            buffers, parameters = known[id(operator)]
            for word, shape in buffers.items():
                _enter(self._buffers, node, word, shape)
            added = trainable = shared = 0
            shared_with: dict[str, None] = {}
            for word, shape, elements in parameters:
                name = _enter(self._parameters, node, word, shape)
                if name in owners:
                    shared += elements
                    shared_with[owners[name]] = None
                else:
                    owners[name] = node.name
                    added += elements
                    trainable += elements if self.trainable(name) else 0
            uses[node.name] = Uses(added, trainable, shared, tuple(shared_with)) if parameters else NOTHING
        return uses

    # Access

    def __getitem__(self, name: str) -> Node:
        if name not in self.nodes:
            raise KeyError(f"{name!r} is no node: {', '.join(self.nodes)}")
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<network of {len(self)} nodes and {self.parameter_count:,} parameters>"

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return the shape of each parameter by name, shared ones once."""
        return dict(self._parameters)

    def buffer_shapes(self) -> dict[str, Shape]:
        """Return the shape of each buffer (running statistics) by name."""
        return dict(self._buffers)

    def named_parameters(self, path: str = "") -> Iterator[tuple[str, Shape]]:
        """Yield name and shape of each parameter, or of each below a path, in the order of their first use."""
        return ((name, shape) for name, shape in self._parameters.items() if not path or _within(name, path))

    def users(self, parameter: str) -> tuple[str, ...]:
        """Return the nodes that use a parameter; several where it is shared.

        >>> from cnnspec.blocks import Shared
        >>> from cnnspec.ops.linear import Linear
        >>> tied = Shared(Linear(2, 2))
        >>> Network(Seq(tied, tied)).users("0.weight")
        ('0', '1')
        """
        return tuple(node.name for node in self if parameter in node.operands.values())

    def trainable(self, parameter: str) -> bool:
        """Say whether training changes a parameter: whether it is not frozen."""
        return not self.frozen or not any(_within(parameter, path) for path in self.frozen)

    @property
    def parameter_count(self) -> int:
        """The number of parameters, shared ones counted once."""
        return sum(uses.added for uses in self.uses.values())

    def freeze(self, *paths: str) -> "Network":
        """Return the network with the parameters below these paths frozen as well.

        >>> from cnnspec.ops.linear import Linear
        >>> net = Network(Seq(body=Linear(2, 3), head=Linear(3, 1))).freeze("body")
        >>> [name for name, _ in net.named_parameters() if net.trainable(name)]
        ['head.weight', 'head.bias']
        """
        return self._with(self.nodes.values(), (*self.frozen, *paths))

    def train(self, mode: bool = True) -> "Network":
        """Return the network in training, or in evaluation: as `training` of dropout and of running statistics says."""
        known: dict[Operator, Operator] = {}
        nodes = []
        for node in self:
            operator: Any = node.operator
            if hasattr(operator, "training"):
                changed = dataclasses.replace(operator, training=mode)
                operator = known.setdefault(changed, changed)
            nodes.append(Node(node.name, operator, node.inputs, node.operands))
        return self._with(nodes, self.frozen)

    def _with(self, nodes: Iterable[Node], frozen: Sequence[str]) -> "Network":
        kept: dict[str, Any] = {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "input_shapes": self.input_shapes,
        }
        return Network(list(nodes), **kept, frozen=frozen)

    def place(self, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place the network as a block of a larger one."""
        known = dict(zip(self.inputs, sources, strict=True))
        known |= {name: join(path, name) for name in self.nodes}
        for node in self:
            shared = {word: join(path, name) for word, name in node.operands.items()}
            plan.add(known[node.name], node.operator, tuple(known[name] for name in node.inputs), shared)
        return tuple(known[name] for name in self.outputs)

    # Shapes

    def shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        """Return the output shape of each node by name; ShapeError, naming the node, where one refuses its input."""
        known = dict(zip(self.inputs, self._given(input_shapes), strict=True))
        for node in self:
            known[node.name] = output_of(node, tuple(known[name] for name in node.inputs))
        return {name: known[name] for name in self.nodes}

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the output, of the first of several; ShapeError, naming the node, where one refuses."""
        return (dict(zip(self.inputs, input_shapes, strict=False)) | self.shapes(*input_shapes))[
            self.outputs[0]
        ]

    # Values

    def initialise(self, rules: "Rules" = None, seed: int = 0) -> dict[str, Array]:
        """Return values for all parameters and buffers, drawn as torch.nn does, or by `rules`.

        rules: an initialiser for all weights of two axes and more, or initialisers by the name of a parameter, a
        node or a path; the longest name that fits decides. Running means start with 0, running variances with 1.

        >>> from cnnspec.initialisers import Constant
        >>> from cnnspec.ops.linear import Linear
        >>> Network(Seq(fc=Linear(2, 1))).initialise({"fc": Constant(3)})
        {'fc.weight': [[3, 3]], 'fc.bias': [3]}
        """
        from cnnspec.filling import filled

        return filled(self, rules, seed)

    def forward(self, *inputs: Array, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Return the value of every input and of every node by name, by the operators' loops, on any numbers.

        Raises ShapeError, naming the node, for inputs that do not fit; ArgumentError for parameters and buffers
        that are missing, unknown, or of another shape.
        """
        self._check(parameters)
        self.shapes(*map(nested.shape_of, inputs))
        values = dict(zip(self.inputs, inputs, strict=True))
        for node in self:
            values[node.name] = node.operator.reference(*_operands(node, values, parameters))
        return values

    def reference(self, *inputs: Array, parameters: Mapping[str, Array]) -> Array:
        """Return the output, by the definitions of all operators; a tuple where there are several.

        >>> from cnnspec.ops.linear import Linear
        >>> net = Network(Seq(fc=Linear(2, 1, bias=False)))
        >>> net.reference([1, 2], parameters={"fc.weight": [[10, 100]]})
        [210]
        """
        values = self.forward(*inputs, parameters=parameters)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def gradients(
        self, grad_output: Array | tuple[Array, ...], *inputs: Array, parameters: Mapping[str, Array]
    ) -> Gradients:
        """Return the vector-Jacobian product with respect to inputs, parameters and every node's output.

        The gradients of all uses of a value or a shared parameter add up; what reaches nothing is zero.
        `grad_output` is a tuple of one for each output where there are several.

        >>> from cnnspec.blocks import Shared
        >>> from cnnspec.ops.linear import Linear
        >>> w = Shared(Linear(1, 1, bias=False))
        >>> Network(Seq(w, w)).gradients([1], [5], parameters={"0.weight": [[3]]}).parameters   # y = w w x
        {'0.weight': [[30]]}
        """
        values = self.forward(*inputs, parameters=parameters)
        given = grad_output if len(self.outputs) > 1 else (grad_output,)
        found: dict[str, Array] = {}
        for name, gradient in zip(self.outputs, given, strict=True):
            if nested.shape_of(gradient) != nested.shape_of(values[name]):
                raise ShapeError(
                    f"grad_output of shape {nested.shape_of(gradient)} must be {nested.shape_of(values[name])}, "
                    f"the output of {name}"
                )
            _add(found, name, gradient)
        totals: dict[str, Array] = {}
        for node in reversed(self.nodes.values()):
            if node.name not in found:
                continue
            parts = node.operator.gradients(found[node.name], *_operands(node, values, parameters))
            for name, part in zip(node.inputs, parts, strict=False):
                _add(found, name, part)
            for name, part in zip(node.operands.values(), parts[len(node.inputs) :], strict=True):
                _add(totals, name, part)
        return Gradients(
            tuple(_or_zeros(found.get(name), values[name]) for name in self.inputs),
            {name: _or_zeros(totals.get(name), parameters[name]) for name in self._parameters},
            {name: _or_zeros(found.get(name), values[name]) for name in self.nodes},
        )

    def _given(self, input_shapes: Sequence[Shape]) -> Sequence[Shape]:
        if len(input_shapes) != len(self.inputs):
            raise ShapeError(f"{len(input_shapes)} inputs given, expected {' and '.join(self.inputs)}")
        return input_shapes

    def _check(self, parameters: Mapping[str, Array]) -> None:
        expected = self._parameters | self._buffers
        for name in parameters:
            if name not in expected and not name.endswith(
                ".num_batches_tracked"
            ):  # torch's count, in state_dicts
                raise ArgumentError(f"parameters has {name!r}, which the network has not")
        for name, shape in expected.items():
            if name not in parameters:
                raise ArgumentError(f"parameters lacks {name!r} of shape {shape}")
            if math.prod(shape) and nested.shape_of(parameters[name]) != shape:
                raise ShapeError(f"{name} of shape {nested.shape_of(parameters[name])} must be {shape}")


def output_of(node: Node, input_shapes: tuple[Shape, ...]) -> Shape:
    """Return a node's output shape; ShapeError, naming node, operator, inputs and reason, where it refuses them."""
    operator = node.operator
    known = spec_name(operator)
    wanted = spec(known) if known else None
    try:
        if wanted and wanted.input_count != len(input_shapes) and not wanted.gathers:
            raise ShapeError(f"it takes {wanted.input_count} inputs, not {len(input_shapes)}")
        return operator.output_shape(*input_shapes)
    except ShapeError as error:
        taken = " and ".join(map(str, input_shapes))
        refused = f"layer {node.name}, {spelled(operator)}, does not take {taken}: {error}"
        raise ShapeError(refused, **{**error.values, "layer": node.name}) from error


def _ordered(nodes: Sequence[Node], inputs: Sequence[str]) -> dict[str, Node]:
    """Return the nodes by name; ArgumentError where one is named twice or takes what does not stand before it."""
    found: dict[str, Node] = {}
    for node in nodes:
        if node.name in found or node.name in inputs:
            raise ArgumentError(f"two nodes are called {node.name!r}: rename one")
        for name in node.inputs:
            if name not in found and name not in inputs:
                raise ArgumentError(
                    f"node {node.name} takes {name!r}, which is no input and no node before it"
                )
        found[node.name] = node
    return found


def _enter(known: dict[str, Shape], node: Node, word: str, shape: Shape) -> str:
    """Enter a parameter or buffer of a node, and return its name."""
    name = node.operands[word]
    if known.setdefault(name, shape) != shape:
        raise ArgumentError(f"node {node.name} wants {name} of shape {shape}, another use {known[name]}")
    return name


def _within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _operands(node: Node, values: Mapping[str, Array], parameters: Mapping[str, Array]) -> list[Array]:
    return [*(values[name] for name in node.inputs), *(parameters[name] for name in node.operands.values())]


def _add(found: dict[str, Array], name: str, gradient: Array | None) -> None:
    """Add a gradient to those of other uses; None is that of a constant."""
    if gradient is not None:
        before = found.get(name)
        found[name] = gradient if before is None else nested.elementwise(_sum, before, gradient)


def _sum(a: Any, b: Any) -> Any:
    return a + b


def _or_zeros(gradient: Array | None, value: Array) -> Array:
    return nested.elementwise(lambda _: 0, value) if gradient is None else gradient
