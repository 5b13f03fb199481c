"""Runs of whole networks on torch that keep what every node took and gave: of a definition, a trace, or a module."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from cnnspec.backends import Backend, UnsupportedCase
from cnnspec.backends.torch import dtype_name, functional
from cnnspec.backends.torch_graph import Called, Graph
from cnnspec.backends.torch_records import Record, Run, Tensors, copied, kept
from cnnspec.backends.torch_values import name_of
from cnnspec.blocks import Node
from cnnspec.cases import Case
from cnnspec.errors import ArgumentError, said
from cnnspec.graph import Network
from cnnspec.op import Operator, arguments_of, without_defaults
from cnnspec.ops import spec
from cnnspec.spelling import spec_name, spelled


def run_by(
    backend: Backend, network: Network, state: Tensors, inputs: Sequence[torch.Tensor], seed: int = 0
) -> Run:
    """Run a network node by node on the functions of a backend, forward and backward.

    Where the backend lacks an operator, raises, or gives another shape, the run goes on with what torch gives.
    Raises ArgumentError for a node that is no operator of the catalogue.
    """
    healthy = functional(device=backend.device)
    run = Run(kept(state), dict(zip(network.inputs, map(copied, inputs), strict=True)))
    parameters = network.parameter_shapes()
    leaves = {name: copied(one).requires_grad_(name in parameters) for name, one in state.items()}
    values = {name: copied(one).requires_grad_() for name, one in run.inputs.items()}
    for node in network:
        values[node.name] = _step(run, node, _operands(node, values, leaves), backend, healthy)
    run.finish([values[name] for name in network.outputs], leaves, seed)
    return run


def _step(run: Run, node: Node, operands: Tensors, backend: Backend, healthy: Backend) -> torch.Tensor:
    """Run one node on the backend, and where that fails on torch."""
    case = case_of(node.operator, operands)
    if case is None:
        raise ArgumentError(f"node {node.name}: {spelled(node.operator)} is no operator of the catalogue")

    def call(one: Backend, taken: Tensors) -> torch.Tensor:
        found = one.call(case.spec, case, taken)
        if not isinstance(found, torch.Tensor):
            raise TypeError(f"returned {type(found).__name__}, not torch.Tensor")
        return found

    shape = case.operation.output_shape(*case.inputs)
    unsupported = False
    output: torch.Tensor
    try:
        output = run.call(node.name, node.operator, operands, partial(call, backend))
        if tuple(output.shape) == tuple(shape):
            return output
        run.records[node.name].raised = f"output has shape {tuple(output.shape)}, it must be {shape}"
    except Exception as error:  # noqa: BLE001 - whatever a target raises is its row
        run.records[node.name].raised = said(error)
        unsupported = isinstance(error, UnsupportedCase | NotImplementedError)
    raised = run.records[node.name].raised
    output = run.call(node.name, node.operator, operands, partial(call, healthy))
    run.records[node.name].raised, run.records[node.name].unsupported = raised, unsupported
    return output


def run_trace(
    graph: Graph, inputs: Sequence[torch.Tensor], seed: int = 0, within: Any = contextlib.nullcontext
) -> Run:
    """Run the calls of a traced module, forward and backward, `within` a context; its parameters take gradients."""
    values, state = placed(graph, inputs)
    run = Run(kept(state), dict(zip(graph.network.inputs, map(copied, inputs), strict=True)))
    interpreter = _Recorder(run, graph)
    with _as_one_runs(within):
        interpreter.run(*values)
    run.finish(interpreter.outputs, dict(graph.trace.module.named_parameters()), seed)
    run.buffers = kept(dict(graph.trace.module.named_buffers()))
    return run


def placed(graph: Graph, inputs: Sequence[torch.Tensor]) -> tuple[list[Any], Tensors]:
    """Return the values of a trace's placeholders, inputs that take gradients, and parameters and buffers by name."""
    module = graph.trace.module
    state = {**dict(module.named_parameters()), **dict(module.named_buffers(remove_duplicate=False))}
    aliases = dict(module.named_parameters(remove_duplicate=False))
    names = {id(one): name for name, one in module.named_parameters()}
    given = map(taking_gradients, inputs)
    values: list[Any] = []
    for place in graph.trace.graph.nodes:
        if place.op != "placeholder":
            continue
        target = graph.trace.targets.get(place.name)
        if target is None:
            values.append(next(given))
        elif target in graph.trace.constants:
            values.append(graph.trace.constants[target])
        else:
            values.append(state[names.get(id(aliases.get(target)), target)])
    return values, state


def run_whole(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    seed: int = 0,
    within: Any = contextlib.nullcontext,
) -> Run:
    """Run a module as it is, forward and backward, on the gradients that `run_trace` draws; it has no records."""
    run = Run({}, {})
    module.zero_grad(set_to_none=True)
    with _as_one_runs(within):
        found = module(*map(taking_gradients, inputs))
    outputs = [one for one in torch.utils._pytree.tree_leaves(found) if isinstance(one, torch.Tensor)]
    run.functions = _own_functions(outputs)
    run.finish(outputs, dict(module.named_parameters()), seed)
    run.buffers = kept(dict(module.named_buffers()))
    return run


def _own_functions(outputs: Sequence[torch.Tensor]) -> tuple[str, ...]:
    """Return the names of the subclasses of torch.autograd.Function behind outputs."""
    seen: set[Any] = set()
    waiting: list[Any] = [one.grad_fn for one in outputs]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.add(one)
            waiting += [before for before, _ in one.next_functions]
    own = [type(one).__name__ for one in seen if isinstance(one, torch.autograd.function.BackwardCFunction)]
    return tuple(sorted({name.removesuffix("Backward") for name in own}))


@contextlib.contextmanager
def _as_one_runs(within: Any) -> Iterator[None]:
    """Take gradients, within a context; autocast rounds a weight for each use anew, so that each has its gradient."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with within(), torch.enable_grad():
            yield
    finally:
        torch.set_autocast_cache_enabled(before)


def taking_gradients(value: torch.Tensor) -> torch.Tensor:
    """Return a copy of an input that takes gradients where it can, and that a network may write to."""
    leaf = copied(value).requires_grad_(value.is_floating_point())
    with torch.enable_grad():
        return leaf.clone(memory_format=torch.preserve_format)


class _Recorder(torch.fx.Interpreter):
    """Runs a trace call by call; those of the catalogue are kept."""

    def __init__(self, run: Run, graph: Graph) -> None:
        owner: Any = graph.trace.graph.owning_module
        super().__init__(owner, garbage_collect_values=False)
        self.kept = run
        self.outputs: list[torch.Tensor] = []
        self.called = {one.place: (name, one) for name, one in graph.calls.items()}
        self.others = {place: name for name, place in graph.others.items()}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run one call of the trace, on aliases of what it takes where it is of the catalogue."""
        if is_assertion(n):
            return None
        if n.op == "output":
            found: list[Any] = []
            torch.fx.node.map_arg(n.args, lambda one: found.append(self.env[one]))
            self.outputs = [one for one in found if isinstance(one, torch.Tensor)]
        if n not in self.called:
            value = super().run_node(n)
            first = value[0] if isinstance(value, tuple | list) and value else value
            if n in self.others and isinstance(first, torch.Tensor):
                self.kept.others[self.others[n]] = copied(first)
            return value
        name, one = self.called[n]
        operands = {word: self.env[place] for word, place in one.operands.items()}
        written = written_by(n)
        if written is None:
            return self.kept.call(name, one.operator, operands, partial(self._call, n, one))
        if self._is_shared(self.env[written]):
            record = self.kept.records[name] = Record(name, one.operator, kept(operands))
            record.output = copied(written_value := super().run_node(n))
            return written_value
        value = self.kept.call(name, one.operator, operands, partial(self._call, n, one, written=written))
        self.env[written] = value
        return value

    def _call(
        self, n: torch.fx.Node, one: Called, taken: Tensors, written: torch.fx.Node | None = None
    ) -> Any:
        """Make a call on aliases; what it writes is a copy, as a write to an alias would cut its gradient off."""
        aliases: dict[torch.fx.Node, list[torch.Tensor]] = {}
        for word, place in one.operands.items():
            aliases.setdefault(place, []).append(taken[word])
        if written is not None:
            first, *rest = aliases.get(written, [self.env[written]])
            aliases[written] = [first.clone(), *rest]

        def given(place: torch.fx.Node) -> Any:
            """Return what stands for a value: each use of it has an alias of its own."""
            found = aliases.get(place, [self.env[place]])
            return found.pop(0) if len(found) > 1 else found[0]

        arguments, keywords = torch.fx.node.map_arg((n.args, n.kwargs), given)
        target: Any = n.target
        return target(*arguments, **keywords)

    def _is_shared(self, value: torch.Tensor) -> bool:
        """Say whether another value of the run stands in the same memory, and would see a write."""
        memory = value.untyped_storage().data_ptr()
        others = (one for one in self.env.values() if isinstance(one, torch.Tensor) and one is not value)
        return any(one.untyped_storage().data_ptr() == memory for one in others)


def is_assertion(n: torch.fx.Node) -> bool:
    """Say whether a call asserts something, such as a dtype, which autocast may change."""
    return n.op == "call_function" and str(getattr(n.target, "__name__", n.target)).startswith("_assert")


def written_by(n: torch.fx.Node) -> torch.fx.Node | None:
    """Return what a call changes in place and returns; None for most."""
    name = name_of(n)
    first = n.args[0] if n.args else None
    in_place = name.endswith("_") and not name.endswith("__")
    return first if in_place and isinstance(first, torch.fx.Node) else None


def case_of(operator: Operator, operands: Mapping[str, torch.Tensor]) -> Case | None:
    """Return the call of a node as a case without its data; None for what is no operator of the catalogue."""
    name = spec_name(operator)
    if name is None:
        return None
    known = spec(name)
    words = [word for word in operands if word.startswith("input")] if known.gathers else known.inputs
    shapes = tuple(tuple(operands[word].shape) for word in words if word in operands)
    dtype = dtype_name(next(iter(operands.values())).dtype)
    arguments = without_defaults(type(operator), arguments_of(operator))
    return Case(name, arguments, shapes, dtype, "dense", 1)


def words_of(operator: Operator, inputs: int) -> tuple[str, ...]:
    """Return what an operator of the catalogue calls its inputs.

    >>> from cnnspec.ops.combine import Concat
    >>> words_of(Concat(), 3)
    ('input', 'input2', 'input3')
    """
    return spec(spec_name(operator) or "").input_names(inputs)[:inputs]


def _operands(node: Node, values: Tensors, leaves: Tensors) -> Tensors:
    words = words_of(node.operator, len(node.inputs))
    taken = {word: values[name] for word, name in zip(words, node.inputs, strict=True)}
    return taken | {word: leaves[name] for word, name in node.operands.items()}
