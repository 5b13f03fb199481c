"""Any model of torch as a network of cnnspec: each call of ATen that a trace of it makes becomes one node.

The calls are those before ATen takes them apart, whoever made them: a layer, a function or a method. What depends on
parameters and buffers alone is no node, but part of the call that takes it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cnnspec.backends.torch_calls import WITH_BIAS, Arguments, Match, broadcasts, matched, products
from cnnspec.backends.torch_trace import Traced, names_of_calls, traced
from cnnspec.backends.torch_values import (
    VIEWS,
    Call,
    State,
    Value,
    attribute,
    flat,
    in_place_of_tensors,
    name_of,
    results,
    shape_of,
    single,
)
from cnnspec.backends.traced import Computed, Counted, Trace, Unavailable, Unused
from cnnspec.blocks import Node
from cnnspec.errors import ArgumentError, CnnspecError
from cnnspec.graph import Network
from cnnspec.nested import Shape
from cnnspec.op import Operator
from cnnspec.ops import spec
from cnnspec.spelling import spec_name, spelled

__all__ = ["from_torch"]


def from_torch(module: torch.nn.Module, example_input: Any) -> Network:
    """Return a module as a network: what it calls on `example_input`, a tensor or a tuple of tensors.

    Parameters have their names in the state_dict, a shared one its first; nodes are named after the layers that call
    them. A call that the catalogue does not have is one node, with costs that are unavailable or, where it multiplies
    nothing or only matrices, known; such a node takes the traced shapes alone. The module, its mode, its buffers, its
    hooks and the random state stay as they are; forward hooks other than torch's own are not called.
    Raises ArgumentError where the module does not run on the example.

    >>> from cnnspec.tables import summary
    >>> up = torch.nn.ConvTranspose2d(4, 2, 3, stride=2, bias=False)
    >>> net = from_torch(torch.nn.Sequential(up, torch.nn.ReLU()), torch.zeros(1, 4, 5, 5))
    >>> [node.name for node in net], summary(net).macs, net.parameter_count
    (['0', '1'], 1800, 72)
    """
    return graph_of(module, example_input).network


def graph_of(module: torch.nn.Module, example_input: Any, hooks: bool = False) -> "Graph":
    """Return a module as a network, with the trace and the calls that it was made of; see `from_torch`.

    hooks: whether to call all its hooks, where a trace can
    """
    example = tuple(example_input) if isinstance(example_input, list | tuple) else (example_input,)
    if not example or not all(isinstance(one, torch.Tensor) for one in example):
        raise ArgumentError("example_input must be a tensor, or a tuple of tensors")
    found = traced(module, example, hooks)
    builder = _Builder(found.module)
    return Graph(
        builder.network(found, [tuple(one.shape) for one in example]), found, builder.calls, builder.others
    )


@dataclass(frozen=True)
class Called:
    """The call behind a node: its place in the trace, its operator, and what it gives to each operand by its word."""

    place: torch.fx.Node
    operator: Operator
    operands: Mapping[str, torch.fx.Node]


@dataclass(frozen=True)
class Graph:
    """A network made of a trace; `calls` has those of its nodes that are operators, `others` the places of the rest."""

    network: Network
    trace: Traced
    calls: Mapping[str, Called]
    others: Mapping[str, torch.fx.Node]


class _Builder:
    """Builds the nodes of a network, call by call."""

    def __init__(self, module: torch.nn.Module) -> None:
        first = {id(one): name for name, one in module.named_parameters()}
        every = module.named_parameters(remove_duplicate=False)
        self.aliases = {name: first[id(one)] for name, one in every}
        self.shapes: dict[str, Shape] = {n: tuple(p.shape) for n, p in module.named_parameters()}
        self.frozen = [name for name, one in module.named_parameters() if not one.requires_grad]
        self.parameters = list(self.shapes)
        self.layers = {
            path
            for path, one in module.named_modules()
            if path and (hasattr(one, "parametrizations") or not list(one.children()))
        }
        self.nodes: list[Node] = []
        self.taken: set[str] = set()
        self.known: dict[torch.fx.Node, Any] = {}
        self.roots: dict[torch.fx.Node, torch.fx.Node] = {}
        self.calls: dict[str, Called] = {}
        self.others: dict[str, torch.fx.Node] = {}

    def network(self, trace: Traced, shapes: Sequence[Shape]) -> Network:
        """Return the network of a trace on inputs of these shapes."""
        inputs: list[str] = []
        for place in trace.graph.nodes:
            if place.op != "placeholder":
                continue
            target = trace.targets.get(place.name)
            if target is not None:
                name = self.aliases.get(target, target)
                self.shapes.setdefault(name, shape_of(place))
                self.known[place] = State(self.shapes[name], (name,))
            else:
                inputs.append(self._unique("input" if len(shapes) == 1 else f"input:{len(inputs)}"))
                self.known[place] = Value(inputs[-1], shape_of(place))
        self.inputs = tuple(inputs)
        outputs = self._walk(trace.graph)
        if not self.nodes:
            source = Value(inputs[0], tuple(shapes[0]))
            self._opaque("identity", "identity", [source], source.shape)
        self._add_unused()
        names = list(dict.fromkeys(one.name for one in outputs if isinstance(one, Value)))
        return Network(self.nodes, inputs=inputs, outputs=names, input_shapes=shapes, frozen=self.frozen)

    def _walk(self, graph: torch.fx.Graph) -> list[Any]:
        """Enter all calls of a graph; return what it returns."""
        paths = names_of_calls(graph, self.layers)
        for node in graph.nodes:
            if node.op == "get_attr":
                owner: Any = graph.owning_module
                value = attribute(owner, str(node.target))
                self.known[node] = value if isinstance(value, torch.fx.GraphModule) else State(shape_of(node))
            elif node.op == "call_function":
                self.known[node] = self._called(node, paths[node])
            elif node.op == "output":
                return [self.known.get(one) for one in flat(node.args)]
        return []

    def _called(self, node: torch.fx.Node, path: str) -> Any:
        target: Any = node.target
        if getattr(target, "__name__", "") == "getitem" and isinstance(self.known.get(node.args[0]), list):  # type: ignore[arg-type]
            return self.known[node.args[0]][node.args[1]]  # type: ignore[index]
        inner = [
            self.known[one]
            for one in flat(node.args)
            if isinstance(self.known.get(one), torch.fx.GraphModule)
        ]
        if inner:
            return self._inlined(node, inner[0])
        shapes = results(node)
        if not shapes:  # an assertion, or a number
            return None
        call = self._call(node, path, shapes[0])
        if call.name in VIEWS and node.args and isinstance(node.args[0], torch.fx.Node):
            self.roots[node] = self.roots.get(node.args[0], node.args[0])
        if not any(isinstance(one, Value) for one in call.all):
            state = self._state(call)
            states = [replace(state, shape=shape) for shape in shapes]
            return state if single(node) else in_place_of_tensors(node, states)
        value = self._value(call)
        if call.name.endswith("_") and not call.name.endswith("__"):
            self._write(node, value)
        if single(node):
            return value
        free = products(call.name, call.arguments) == 0 and matched(call.name, call.arguments) is None
        source = [one for one in call.all if isinstance(one, Value)] if free else [value]
        others = [
            self._opaque(f"{call.name}[{i}]", f"{path}.{i}", source, s) for i, s in enumerate(shapes) if i
        ]
        return in_place_of_tensors(node, [value, *others])

    def _inlined(self, node: torch.fx.Node, inner: torch.fx.GraphModule) -> Any:
        """Enter the calls of a part that torch keeps apart, such as what stands under torch.no_grad or autocast."""
        given = [one for one in flat(node.args) if not isinstance(self.known.get(one), torch.fx.GraphModule)]
        places = [one for one in inner.graph.nodes if one.op == "placeholder"]
        for place, one in zip(places, [one for one in given if isinstance(one, torch.fx.Node)], strict=False):
            self.known[place] = self.known[one]
        return self._walk(inner.graph)

    def _call(self, node: torch.fx.Node, path: str, output: Shape) -> Call:
        """Read the arguments of a call by their names in its schema."""
        target: Any = node.target
        schema = getattr(target, "_schema", None)
        if schema is None:
            name, values = (
                getattr(target, "__name__", str(target)),
                {str(i): v for i, v in enumerate(node.args)},
            )
        else:
            name = name_of(node)
            named = dict(zip((one.name for one in schema.arguments), node.args, strict=False)) | dict(
                node.kwargs
            )
            values = {one.name: named.get(one.name, one.default_value) for one in schema.arguments}
        call = Call(name, path, node, Arguments(values, {}, output))
        for word, value in values.items():
            found = [self.known.get(one) for one in flat(value) if isinstance(one, torch.fx.Node)]
            tensors = [one for one in flat(found) if isinstance(one, Value | State)]
            if tensors:
                call.tensors[word] = tensors
                listed = isinstance(value, list | tuple)
                call.arguments.shapes[word] = [one.shape for one in tensors] if listed else tensors[0].shape  # type: ignore[index]
        return call

    def _state(self, call: Call) -> State:
        """Return what is computed of parameters and buffers alone."""
        states = [one for one in call.all if isinstance(one, State)]
        made = products(call.name, call.arguments)
        known = [made, *(one.macs for one in states)]
        macs = None if None in known else sum(one or 0 for one in known)
        sources = dict.fromkeys(name for one in states for name in one.sources)
        return State(call.arguments.output, tuple(sources), macs, computed=True)

    def _value(self, call: Call) -> Value:
        """Add the node of a call that depends on the network's input."""
        found = self._matched(call)
        values = [one for one in call.all if isinstance(one, Value)]
        if found is None:
            made = products(call.name, call.arguments)
            value = self._opaque(call.name, call.node, values, call.arguments.output, made, call.all)
            self.others[value.name] = call.place
            return value
        inputs = [one for word in found.inputs for one in call.tensors.get(word, ())]
        operands = {word: call.tensors[name][0] for word, name in found.operands.items()}
        if not all(isinstance(one, Value) for one in inputs):
            return self._opaque(call.name, call.node, values, call.arguments.output, 0, call.all)
        buffers = found.operator.buffer_shapes()
        shared = {
            word: one.sources[0]
            for word, one in operands.items()
            if isinstance(one, State)
            and len(one.sources) == 1
            and not one.computed
            and (one.sources[0] in self.aliases) != (word in buffers)
        }
        if len(shared) == len(operands):
            value = self._add(call.node, found.operator, inputs, call.arguments.output, shared)
            return self._remembered(value, call, found)
        of_data = [one for one in operands.values() if isinstance(one, Value)]
        rest = [one for one in operands.values() if isinstance(one, State)]
        value = self._opaque(
            spelled(found.operator),
            call.node,
            [*(one for one in inputs[:1] if isinstance(one, Value)), *of_data],
            call.arguments.output,
            0,
            rest,
            found.operator,
        )
        return self._remembered(value, call, found)

    def _remembered(self, value: Value, call: Call, found: Match) -> Value:
        """Keep the call behind a node with what it gives to each operand."""
        given: list[Any] = [one for word in found.inputs for one in flat(call.arguments.get(word))]
        words = spec(spec_name(found.operator) or "").input_names(len(given))
        operands = dict(zip(words, given, strict=False))
        operands |= {word: call.arguments[name] for word, name in found.operands.items()}
        places = {word: one for word, one in operands.items() if isinstance(one, torch.fx.Node)}
        self.calls[value.name] = Called(call.place, found.operator, places)
        return value

    def _matched(self, call: Call) -> Match | None:
        """Return the operator of a call, where it gives the traced shape."""
        try:
            found = matched(call.name, call.arguments)
            if found is None:
                return None
            inputs = [one.shape for word in found.inputs for one in call.tensors.get(word, ())]
            return found if found.operator.output_shape(*inputs) == call.arguments.output else None
        except (CnnspecError, KeyError, ValueError, TypeError, IndexError):
            return None

    def _opaque(
        self,
        name: str,
        path: str,
        values: Sequence[Value],
        output: Shape,
        macs: int | None = 0,
        others: Iterable[Value | State] = (),
        operator: Operator | None = None,
    ) -> Value:
        """Add a node for what is no operator of the catalogue, or for one whose operands are computed."""
        states = [one for one in others if isinstance(one, State)]
        known = [macs, *(one.macs for one in states)]
        sources = dict.fromkeys(source for one in states for source in one.sources)
        words = {f"operand{i}": source for i, source in enumerate(sources)}
        trained = tuple((w, self.shapes[s]) for w, s in words.items() if s in self.aliases)
        buffers = tuple((w, self.shapes[s]) for w, s in words.items() if s not in self.aliases)
        inputs = tuple(one.shape for one in values)
        plain = not any(one.computed for one in states) and all(
            one.sources or not one.shape for one in states
        )
        trace = Trace(
            name,
            inputs,
            output,
            trained,
            buffers,
            None if None in known else sum(one or 0 for one in known),
            math.prod(output) if macs and name in WITH_BIAS else 0,
            broadcasts(name) and plain,
            operator,
        )
        if trace.macs is None:
            return self._add(path, Unavailable(trace), values, output, words)
        return self._add(path, Computed(trace) if operator else Counted(trace), values, output, words)

    def _add(
        self, path: str, operator: Operator, inputs: Sequence[Any], output: Shape, shared: Mapping[str, str]
    ) -> Value:
        name = self._unique(path)
        kept = {word: one for word, one in shared.items() if one != f"{name}.{word}"}
        self.nodes.append(Node(name, operator, tuple(one.name for one in inputs), kept))
        return Value(name, output)

    def _write(self, node: torch.fx.Node, value: Value) -> None:
        """Let what stands for the tensor that a call changed in place stand for its result from now on."""
        changed: Any = node.args[0]
        root = self.roots.get(changed, changed)
        self.known[changed] = value
        self.roots[node] = root
        before = self.known.get(root)
        if root is changed or not isinstance(before, Value | State):
            return
        if before.shape == value.shape:
            self.known[root] = value
        else:
            values = [one for one in (before, value) if isinstance(one, Value)]
            self.known[root] = self._opaque(
                "write", f"{value.name}.write", values, before.shape, others=[before]
            )

    def _add_unused(self) -> None:
        """Add a node before all others for the parameters that no call reads."""
        used = {name for node in self.nodes for name in node.operands.values()}
        rest = [name for name in self.parameters if name not in used]
        if rest:
            words = {f"operand{i}": name for i, name in enumerate(rest)}
            shapes = tuple((word, self.shapes[name]) for word, name in words.items())
            trace = Trace("parameters", (), (0,), shapes)
            self.nodes.insert(0, Node(self._unique("unused"), Unused(trace), self.inputs[:1], words))

    def _unique(self, name: str) -> str:
        found, n = name, 1
        while found in self.taken:
            n += 1
            found = f"{name}:{n}"
        self.taken.add(found)
        return found
