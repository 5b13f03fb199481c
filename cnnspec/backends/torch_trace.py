"""The calls of ATen that a module of torch makes: traced on a copy of it, which leaves the module as it was.

`torch.export` writes the calls down, and where it refuses, as for control flow that depends on values, `make_fx` does
on a copy that really runs. Both see the calls before they are taken apart.
"""

import contextlib
import copy
import operator
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from cnnspec.backends.torch_values import attribute, name_of, results
from cnnspec.blocks import join
from cnnspec.errors import ArgumentError

Example = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Traced:
    """The copy and its calls; for each placeholder the name of the parameter or buffer, None for an input.

    constants: the values of those placeholders that are neither
    """

    module: torch.nn.Module
    graph: torch.fx.Graph
    targets: Mapping[str, str | None]
    constants: Mapping[str, Any]


def traced(module: torch.nn.Module, example: Example, hooks: bool = False) -> Traced:
    """Return what a module calls on an example, its hooks too where it can; ArgumentError where it does not run."""
    devices = sorted({one.device for one in (*example, *module.parameters()) if one.is_cuda}, key=str)
    quiet, raised = warnings.catch_warnings(), Exception()
    with torch.random.fork_rng(devices), torch.enable_grad(), _seen_through(), quiet:
        warnings.simplefilter("ignore")
        for with_hooks in (True, False) if hooks else (False,):
            for tracer in (_exported, _run):
                try:
                    return tracer(_copied(module, example, with_hooks), example)
                except Exception as error:  # noqa: BLE001 - whatever a model or a tracer raises, the next may do
                    raised = error
    shapes = " and ".join(str(tuple(one.shape)) for one in example)
    raise ArgumentError(f"the module cannot be traced on example_input of {shapes}: {raised}") from raised


def _copied(module: torch.nn.Module, example: Example, hooks: bool) -> torch.nn.Module:
    """Return a copy, its lazy layers made by a call; with all hooks, or without those that are not torch's own."""
    memo: dict[int, Any] = {}
    for one in module.modules():
        memo |= {
            id(value): _plain(value) for value in (*vars(one).values(), *one._buffers.values()) if _odd(value)
        }
        memo |= {id(hook): _no_hook for hook in _hooks(one) if not (hooks or _own(hook))}
    twin = copy.deepcopy(module, memo)
    initialise(twin, example)
    return twin


def initialise(module: torch.nn.Module, example: Example) -> None:
    """Have lazy layers made by a call in evaluation, which leaves running statistics as they are.

    Raises ArgumentError where the module does not run on the example.
    """
    if any(isinstance(one, UninitializedParameter) for one in module.parameters()):
        modes = {one: one.training for one in module.modules()}
        try:
            with torch.no_grad():
                module.eval()(*(one.clone() for one in example))
        except Exception as error:
            raise ArgumentError(f"the module does not run on example_input: {error}") from error
        for one, training in modes.items():
            one.training = training


def _odd(value: Any) -> bool:
    """Say whether a tensor refuses to be copied: one with a history, as weight_norm leaves behind, or a lazy buffer."""
    return isinstance(value, torch.Tensor) and (isinstance(value, UninitializedBuffer) or not value.is_leaf)


def _plain(value: Any) -> torch.Tensor:
    if isinstance(value, UninitializedBuffer):
        lazy: Any = UninitializedBuffer
        return lazy(device=value.device, dtype=value.dtype)  # type: ignore[no-any-return]
    return value.detach().clone()  # type: ignore[no-any-return]


def _hooks(module: torch.nn.Module) -> list[Any]:
    return [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]


def _no_hook(*_: Any, **__: Any) -> None:
    """Stand where a hook stood."""


def _own(hook: Any) -> bool:
    """Say whether a hook is torch's: a function of it, a method, or an object that can be called."""
    home = getattr(hook, "__module__", None) or type(hook).__module__
    return str(home).split(".")[0] == "torch" or type(hook).__module__.split(".")[0] == "torch"


def _exported(module: torch.nn.Module, example: Example) -> Traced:
    program = torch.export.export(module, example, strict=False)
    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    graph = _Joined(program.graph).graph
    for node in graph.nodes:
        results(node)  # raises where a shape depends on values
    return Traced(module, graph, targets, program.constants)


class _Joined:
    """A graph with the calls under torch.no_grad and autocast, which torch.export keeps apart, among the others."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self.root, self.graph, self.grad_enabled = torch.nn.Module(), torch.fx.Graph(), True
        self.graph.output(self._entered(graph, {}))
        torch.fx.GraphModule(self.root, self.graph)

    def _entered(self, graph: torch.fx.Graph, known: dict[torch.fx.Node, Any]) -> Any:
        """Enter the calls of a graph whose placeholders are `known`, or are its own; return what it returns."""
        owner: Any = graph.owning_module
        for node in graph.nodes:
            if node.op == "output":
                return torch.fx.node.map_arg(node.args[0], known.__getitem__)
            if node.op == "get_attr":
                name = f"attribute{len(self.graph.nodes)}"
                setattr(self.root, name, attribute(owner, str(node.target)))
                known[node] = self.graph.get_attr(name)
                known[node].meta = dict(node.meta)
            elif node.target is operator.getitem and isinstance(known[node.args[0]], list | tuple):
                known[node] = known[node.args[0]][node.args[1]]
            elif str(node.target) in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
                known[node] = self._joined(node, known)
            elif node not in known:
                known[node] = self.graph.node_copy(node, known.__getitem__)
        return ()

    def _joined(self, node: torch.fx.Node, known: dict[torch.fx.Node, Any]) -> Any:
        """Enter the calls of a part, between those that enter its context and leave it."""
        at = next(i for i, one in enumerate(node.args) if isinstance(one, torch.fx.Node))
        part: Any = attribute(node.graph.owning_module, str(node.args[at].target))  # type: ignore[union-attr]
        places = [one for one in part.graph.nodes if one.op == "placeholder"]
        given = dict(zip(places, (known[one] for one in node.args[at + 1 :]), strict=True))  # type: ignore[index]
        if at > 1:
            entered = self.graph.call_function(torch.amp.autocast_mode._enter_autocast, node.args[:at])
            found = self._entered(part.graph, given)
            self.graph.call_function(torch.amp.autocast_mode._exit_autocast, (entered,))
            return found
        before, self.grad_enabled = self.grad_enabled, bool(node.args[0])
        self.graph.call_function(torch._C._set_grad_enabled, (self.grad_enabled,))
        found = self._entered(part.graph, given)
        self.grad_enabled = before
        self.graph.call_function(torch._C._set_grad_enabled, (before,))
        return found


@contextlib.contextmanager
def _seen_through() -> Iterator[None]:
    """Let a trace see the calls of a torch.autograd.Function as if no one had switched their gradients off.

    Such a function runs without gradients and switches them on and off itself, as a reentrant checkpoint does; the
    trace would take the last of these switches for one of the module's.
    """
    function: Any = torch.autograd.Function
    before = vars(function)["apply"]

    def apply(cls: Any, *args: Any, **keywords: Any) -> Any:
        with _Unswitched():
            return before.__get__(None, cls)(*args, **keywords)

    function.apply = classmethod(apply)
    try:
        yield
    finally:
        function.apply = before


class _Unswitched(TorchFunctionMode):
    """Leaves gradients as they are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function other than the switch."""
        return None if func is torch._C._set_grad_enabled else func(*args, **(kwargs or {}))


class _Asked(TorchFunctionMode):
    """Answers what a module asks of values, outside the trace."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function."""
        if getattr(func, "__name__", "") in _QUESTIONS:
            with disable_proxy_modes_tracing():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_QUESTIONS = (
    "item",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "is_nonzero",
    "equal",
    "allclose",
)


def _run(module: torch.nn.Module, example: Example) -> Traced:
    """Trace a run on real values, which the module may ask for; it runs on a copy, whose shared layers it may spoil."""
    twin = copy.deepcopy(module)
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def call(values: list[torch.Tensor], inputs: list[torch.Tensor]) -> Any:
        with _Asked():
            return torch.func.functional_call(twin, dict(zip(state, values, strict=True)), tuple(inputs))

    traced: Any = make_fx(call, pre_dispatch=True)
    values = [one.detach().clone() for one in state.values()]
    graph = traced(values, [one.clone() for one in example]).graph
    places = [node.name for node in graph.nodes if node.op == "placeholder"]
    return Traced(module, graph, dict(zip(places, [*state, *(None for _ in example)], strict=True)), {})


def names_of_calls(graph: torch.fx.Graph, layers: set[str]) -> dict[torch.fx.Node, str]:
    """Return a name for each call: the path of the layer whose last call it is, else a name below its module."""
    stacks = {
        n: list((n.meta.get("nn_module_stack") or {}).items()) for n in graph.nodes if n.op == "call_function"
    }
    last: dict[str, torch.fx.Node] = {}
    for node, stack in stacks.items():
        if stack:
            last[stack[-1][0]] = node
    found = {}
    for node, stack in stacks.items():
        call = name_of(node) or getattr(node.target, "__name__", str(node.target))
        path = str(stack[-1][1][0]).partition("@")[0] if stack else ""
        whole = path in layers and last[stack[-1][0]] is node
        found[node] = path if whole else join(path, call.strip("_"))
    return found
