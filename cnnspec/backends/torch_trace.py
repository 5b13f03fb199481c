"""The calls of ATen that a module of torch makes: traced on a copy of it, which leaves the module as it was.

`torch.export` writes the calls down, and where it refuses, as for control flow that depends on values, `make_fx` does
on a copy that really runs. Both see the calls before they are taken apart.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from cnnspec.blocks import join
from cnnspec.errors import ArgumentError

Example = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Traced:
    """The copy and its calls; for each placeholder the name of the parameter or buffer, None for an input."""

    module: torch.nn.Module
    graph: torch.fx.Graph
    targets: Mapping[str, str | None]


def traced(module: torch.nn.Module, example: Example) -> Traced:
    """Return what a module calls on an example; ArgumentError where it does not run."""
    devices = sorted({one.device for one in (*example, *module.parameters()) if one.is_cuda}, key=str)
    with torch.random.fork_rng(devices), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _exported(_copied(module, example), example)
        except Exception:  # noqa: BLE001 - whatever a model or the tracer raises, the other tracer may do
            try:
                return _run(_copied(module, example), example)
            except Exception as error:
                shapes = " and ".join(str(tuple(one.shape)) for one in example)
                raise ArgumentError(
                    f"the module cannot be traced on example_input of {shapes}: {error}"
                ) from error


def _copied(module: torch.nn.Module, example: Example) -> torch.nn.Module:
    """Return a copy without hooks that are not torch's own, its lazy layers initialised by the example."""
    memo: dict[int, Any] = {}
    for one in module.modules():
        memo |= {
            id(value): _plain(value) for value in (*vars(one).values(), *one._buffers.values()) if _odd(value)
        }
        memo |= {id(hook): _no_hook for hook in _hooks(one) if not _own(hook)}
    twin = copy.deepcopy(module, memo)
    if any(isinstance(one, UninitializedParameter) for one in twin.parameters()):
        twin(*(one.clone() for one in example))
    return twin


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
    return Traced(module, program.graph, targets)


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
    """Trace a run on real values, which the module may ask for."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def call(values: list[torch.Tensor], inputs: list[torch.Tensor]) -> Any:
        with _Asked():
            return torch.func.functional_call(module, dict(zip(state, values, strict=True)), tuple(inputs))

    traced: Any = make_fx(call, pre_dispatch=True)
    graph = traced([one.detach() for one in state.values()], [one.clone() for one in example]).graph
    places = [node.name for node in graph.nodes if node.op == "placeholder"]
    return Traced(module, graph, dict(zip(places, [*state, *(None for _ in example)], strict=True)))


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
        schema = getattr(node.target, "_schema", None)
        call = schema.name.split("::")[-1] if schema else getattr(node.target, "__name__", str(node.target))
        path = str(stack[-1][1][0]).partition("@")[0] if stack else ""
        whole = path in layers and last[stack[-1][0]] is node
        found[node] = path if whole else join(path, call.strip("_"))
    return found
