"""Which node of a network stands for which node of its definition, when another hand wrote the network.

Nodes of one name are a pair; then those that use the same parameters; then those of the same operator below the same
path: first those that take what the definition says, then the rest in the order in which they stand.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from cnnspec.blocks import Node
from cnnspec.graph import Network

Test = Callable[[Node, Node], bool]


def pairs(definition: Network, found: Network) -> dict[str, str]:
    """Return the found node for each node of the definition that has one, by name.

    >>> from cnnspec.blocks import Seq
    >>> from cnnspec.ops.linear import Linear
    >>> from cnnspec.ops.pointwise import ReLU
    >>> mine = Network(Seq(fc=Linear(2, 2), relu_=ReLU(), out=Linear(2, 1)))
    >>> pairs(Network(Seq(fc=Linear(2, 2), act=ReLU(), out=Linear(2, 1))), mine)
    {'fc': 'fc', 'out': 'out', 'act': 'relu_'}
    """
    made: dict[str, str] = dict(zip(definition.inputs, found.inputs, strict=False))
    free = {node.name: node for node in found}

    def same_name(one: Node, other: Node) -> bool:
        return one.name == other.name

    def same_parameters(one: Node, other: Node) -> bool:
        return bool(one.operands) and set(one.operands.values()) <= set(other.operands.values())

    def alike(one: Node, other: Node) -> bool:
        return type(one.operator) is type(other.operator) and _above(one.name) == _above(other.name)

    def alike_and_fed(one: Node, other: Node) -> bool:
        return alike(one, other) and [made.get(name) for name in one.inputs] == list(other.inputs)

    for test in (same_name, same_parameters, alike_and_fed, alike):
        for node in definition:
            match = None if node.name in made else _first(test, node, free.values())
            if match is not None:
                made[node.name] = match.name
                del free[match.name]
    return {name: other for name, other in made.items() if name not in definition.inputs}


def uses(network: Network) -> dict[str, list[tuple[str, int]]]:
    """Return who takes each value: for inputs and nodes the (node, place among its inputs) of each use.

    >>> from cnnspec.blocks import Residual, Seq
    >>> from cnnspec.ops.pointwise import ReLU
    >>> uses(Network(Residual(Seq(relu=ReLU()))))["input"]
    [('relu', 0), ('add', 0)]
    """
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for node in network:
        for place, name in enumerate(node.inputs):
            found[name].append((node.name, place))
    return dict(found)


def _first(test: Test, node: Node, others: Iterable[Node]) -> Node | None:
    return next((other for other in others if test(node, other)), None)


def _above(name: str) -> str:
    return name.rpartition(".")[0]
