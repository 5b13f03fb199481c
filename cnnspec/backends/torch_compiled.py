"""Runs of traced networks through torch.compile that still give the value of every node.

What is compiled returns the values of all nodes, and adds to each a zero whose gradient is that of the node's output.
The compiler fuses what it fuses otherwise; what it would have kept in registers it stores as well.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch

from cnnspec.backends.torch_graph import Graph
from cnnspec.backends.torch_records import Record, Run, kept
from cnnspec.backends.torch_runs import is_assertion, placed, written_by
from cnnspec.backends.torch_values import VIEWS, name_of
from cnnspec.errors import ArgumentError

Place = torch.fx.Node


def run_compiled(graph: Graph, inputs: Sequence[torch.Tensor], seed: int = 0) -> Run:
    """Run the compiled calls of a traced module, forward and backward; it keeps no gradient of what has two uses.

    Raises ArgumentError where a call writes to memory that another value may see.
    """
    compiler = _Compiler(graph)
    values, state = placed(graph, inputs)
    run = Run(kept(state), kept(dict(zip(graph.network.inputs, inputs, strict=True))))
    device, traced = inputs[0].device, [one.meta["val"] for one in compiler.probed]
    probes = [torch.zeros(one.shape, dtype=one.dtype, device=device, requires_grad=True) for one in traced]
    for value in values:
        if isinstance(value, torch.Tensor) and value.requires_grad:
            value.retain_grad()
    given_values = dict(zip(compiler.placeholders, values, strict=True))
    before = {place: one.clone() for place, one in given_values.items() if isinstance(one, torch.Tensor)}
    compiled: Any = torch.compile(compiler.module(), dynamic=False)
    outputs, found = compiled(probes, *values)
    known = dict(zip(compiler.returned, found, strict=True)) | before
    for name, one in graph.calls.items():
        operands = {word: known[place] for word, place in one.operands.items()}
        record = run.records[name] = Record(name, one.operator, kept(operands), known[one.place].detach())
        updated = {word: one.operands[word] for word in one.operator.buffer_shapes() if word in one.operands}
        alone = {word: place for word, place in updated.items() if compiler.uses(place) == 1}
        record.updated = kept({word: given_values[place] for word, place in alone.items()})
    run.finish(outputs, dict(graph.trace.module.named_parameters()), seed)
    given = {place: probe.grad for place, probe in zip(compiler.probed, probes, strict=True)}
    given |= {place: value.grad for place, value in zip(compiler.placeholders, values, strict=True)}
    for name, one in graph.calls.items():
        record, gradient = run.records[name], given.get(one.place)
        record.grad_output = gradient
        parts = {word: given.get(place) for word, place in one.operands.items() if compiler.uses(place) == 1}
        record.gradients = {word: part for word, part in parts.items() if part is not None}
    return run


class _Compiler:
    """Copies a trace, call by call, into one that returns every value and takes a zero to add to each."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        calls = graph.calls.values()
        self.probed = [one.place for one in calls if one.place.meta["val"].is_floating_point()]
        self.returned = list(
            dict.fromkeys(place for one in calls for place in (*one.operands.values(), one.place))
        )
        self.placeholders = [place for place in graph.trace.graph.nodes if place.op == "placeholder"]

    def uses(self, place: Place) -> int:
        """Return how often calls take a value, but for assertions; one call may take it twice."""
        taken: list[Place] = []
        for user in place.users:
            if not is_assertion(user):
                torch.fx.node.map_arg((user.args, user.kwargs), taken.append)
        return taken.count(place)

    def module(self) -> torch.fx.GraphModule:
        """Return the copy: (zeros, *placeholders) -> (outputs, values of `returned`)."""
        copied, known = torch.fx.Graph(), dict[Place, Place]()
        probes = copied.placeholder("probes")
        for place in self.placeholders:
            known[place] = copied.placeholder(place.name)
        outputs: list[Place] = []
        values: dict[Place, Place] = dict(known)
        for place in self.graph.trace.graph.nodes:
            if place.op == "output":
                outputs = [known[one] for one in place.all_input_nodes]
            elif place.op != "placeholder" and not is_assertion(place):
                made = copied.node_copy(place, lambda one: known[one])
                written = written_by(place)
                if written is not None:
                    made.target = self._functional(place, written)
                if place in self.probed:
                    zero = copied.call_function(operator.getitem, (probes, self.probed.index(place)))
                    made = copied.call_function(torch.add, (made, zero))
                values[place] = known[place] = made
                if written is not None:
                    known[written] = made
        copied.output((outputs, [values[one] for one in self.returned]))
        owner: Any = self.graph.trace.graph.owning_module
        return torch.fx.GraphModule(owner, copied)

    def _functional(self, place: Place, written: Place) -> Any:
        """Return the call that gives what `place` writes; ArgumentError where a view may see the write."""
        name = name_of(place)
        seen = [written, *written.users]
        found = getattr(torch.ops.aten, name.removesuffix("_"), None)
        if found is None or any(name_of(one) in VIEWS for one in seen):
            raise ArgumentError(
                f"{place.name} writes in place, which the compiled run does not follow: use eval"
            )
        return found
