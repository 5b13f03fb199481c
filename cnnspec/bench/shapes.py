"""The shapes that are measured: every layer of real networks, each once, with all the places where it stands."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cnnspec import nets, ops
from cnnspec.blocks import Node
from cnnspec.cases import Case
from cnnspec.nested import Shape
from cnnspec.op import arguments_of, without_defaults
from cnnspec.spelling import spec_name, spelled

NETS = ("lenet5", "alexnet", "vgg16", "nin", "googlenet", "resnet18", "resnet50", "densenet121")
"""The networks whose layers are measured where none is named."""
IDLE = ("flatten", "dropout")
"""Operator families that move no data when a network is evaluated."""
LARGEST = 20_000_000
"""Elements of the operands up to which a layer is measured: its exact result takes dozens of bytes for each."""


@dataclass(frozen=True)
class Layer:
    """An operator on inputs of certain shapes, and the nodes of networks that are this: "resnet18 layer1.0.conv1"."""

    case: Case
    places: tuple[str, ...]

    def __str__(self) -> str:
        """Return the operator, spelled as torch.nn does, and the shapes of its inputs.

        >>> print(next(layer for layer in layers(["lenet5"]) if layer.case.operator == "conv2d"))
        Conv2d(1, 6, 5, padding=2) on 1x1x28x28
        """
        shapes = " and ".join("x".join(map(str, shape)) for shape in self.case.inputs)
        return f"{spelled(self.case.operation)} on {shapes}"

    @property
    def provenance(self) -> str:
        """Where it stands, in one line.

        >>> layers(["resnet18"])[4].provenance
        'resnet18 layer1.0.conv1 and 3 more'
        """
        more = f" and {len(self.places) - 1} more" if len(self.places) > 1 else ""
        return f"{self.places[0]}{more}"

    @property
    def elements(self) -> int:
        """How many elements its operands have."""
        return sum(map(math.prod, self.case.operand_shapes().values()))


def layers(names: Sequence[str] = NETS, operators: Collection[str] = ()) -> list[Layer]:
    """Return the layers of networks in evaluation, each once; those of some operators where any is named.

    Raises UsageError for a network that does not exist.
    """
    found: dict[str, tuple[Case, list[str]]] = {}
    for place, case in _nodes(names):
        if (not operators or case.operator in operators) and ops.family(case.operator) not in IDLE:
            found.setdefault(str(case), (case, []))[1].append(place)
    return [Layer(case, tuple(places)) for case, places in found.values()]


def _nodes(names: Sequence[str]) -> Iterator[tuple[str, Case]]:
    for name in names:
        net = nets.build(name).train(False)
        shapes = dict(zip(net.inputs, net.input_shapes, strict=True)) | net.shapes(*net.input_shapes)
        for node in net:
            case = _case(node, [shapes[source] for source in node.inputs])
            if case is not None:
                yield f"{name} {node.name}", case


def _case(node: Node, inputs: Sequence[Shape]) -> Case | None:
    """Return the call of a node; None for an operator that the catalogue does not have."""
    name = spec_name(node.operator)
    if name is None:
        return None
    arguments = without_defaults(type(node.operator), arguments_of(node.operator))
    return Case(name, arguments, tuple(inputs))
