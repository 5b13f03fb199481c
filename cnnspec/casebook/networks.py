"""Entries on networks: the built-in architectures beside their sources' tables, and small graphs with all values."""

from collections.abc import Iterator
from fractions import Fraction

from cnnspec import nets, ops
from cnnspec.blocks import Node
from cnnspec.casebook.differences import differs, elements, field_differs
from cnnspec.casebook.entries import Graph, NetworkTable
from cnnspec.graph import Network
from cnnspec.nested import elementwise
from cnnspec.tables import summary


def network_differs(entry: NetworkTable) -> Iterator[str]:
    """Yield where the built-in architecture differs from its source."""
    table = summary(nets.build(entry.network, **entry.arguments), entry.input_shapes)
    for name in ("output_shape", "parameter_count", "macs"):
        yield from differs(name, getattr(table, name), getattr(entry, name))
    yield from differs(
        "giga_macs", lambda: round(Fraction(table.macs or 0, 10**9), entry.digits), entry.giga_macs
    )
    for facts in entry.nodes:
        found = table.under(facts.node)
        for name in ("output_shape", "parameter_count", "macs"):
            yield from differs(f"{name} of {facts.node}", getattr(found, name), getattr(facts, name))
        seen = found.receptive_field
        if isinstance(seen, tuple):
            yield from field_differs(facts.node, seen, facts)
        elif facts.size is not None:
            yield f"after {facts.node} the receptive field is {seen or 'all'}, expected {facts.size}"


def graph_differs(entry: Graph) -> Iterator[str]:
    """Yield where output or gradients of a graph differ from its source."""
    made = {use.node for use in entry.nodes}
    taken = dict.fromkeys(name for use in entry.nodes for name in use.takes if name not in made)
    nodes = [
        Node(use.node, ops.spec(use.operator).operator(**use.arguments), use.takes, use.shared)
        for use in entry.nodes
    ]
    net = Network(nodes, inputs=tuple(taken))
    inputs = [entry.values[name] for name in taken]
    parameters = {name: array for name, array in entry.values.items() if name not in taken}
    output = net.reference(*inputs, parameters=parameters)
    yield from elements("output", output, entry.output, None)
    yield from differs("parameter_count", net.parameter_count, entry.parameter_count)
    found = net.gradients(elementwise(lambda _: 1, output), *inputs, parameters=parameters)
    gradients = found.parameters | dict(zip(taken, found.inputs, strict=True))
    for name, stated in entry.gradients.items():
        yield from elements(f"gradient of {name}", gradients[name], stated, None)
