"""The values of a trace, by what they are made of, and how a trace is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from cnnspec.backends.torch_calls import Arguments
from cnnspec.nested import Shape


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the network's input: the node that gives it."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class State:
    """A tensor that does not: the parameters and buffers that it is made of, and the products of making it."""

    shape: Shape
    sources: tuple[str, ...] = ()
    macs: int | None = 0
    computed: bool = False


@dataclass
class Call:
    """One call: its name, the path of the layer, its place in the trace, its arguments as tensors of the trace."""

    name: str
    node: str
    place: torch.fx.Node
    arguments: Arguments
    tensors: dict[str, list[Value | State]] = field(default_factory=dict)

    @property
    def all(self) -> list[Value | State]:
        """Its tensors, in the order of its arguments."""
        return [one for group in self.tensors.values() for one in group]


VIEWS = frozenset(
    (
        "view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "slice",
        "select",
        "narrow",
        "squeeze",
        "unsqueeze",
        "flatten",
    )
) | frozenset(("expand", "contiguous", "detach", "alias", "unflatten", "view_as", "to"))
"""Calls whose result may be the memory of their first argument."""


def name_of(place: torch.fx.Node) -> str:
    """Return the name of the call of ATen at a place of a trace, "" for what is no call."""
    schema = getattr(place.target, "_schema", None)
    return schema.name.split("::")[-1] if schema else ""


def attribute(owner: Any, path: str) -> Any:
    """Return what stands at a path of names below an object."""
    for name in path.split("."):
        owner = getattr(owner, name)
    return owner


def flat(value: Any) -> Iterator[Any]:
    """Yield what lists and tuples hold, one in another or not.

    >>> [*flat([1, (2, [3])])]
    [1, 2, 3]
    """
    if isinstance(value, list | tuple):
        for one in value:
            yield from flat(one)
    else:
        yield value


def results(node: torch.fx.Node) -> list[Shape]:
    """Return the shapes of the tensors that a call returns."""
    found = node.meta.get("val")
    return [tuple(map(int, one.shape)) for one in flat(found) if isinstance(one, torch.Tensor)]


def in_place_of_tensors(node: torch.fx.Node, values: Iterable[Any]) -> list[Any]:
    """Return what stands for each result of a call: one of `values` for a tensor, None for what is none."""
    left = iter(values)
    found = flat(node.meta.get("val"))
    return [next(left, None) if isinstance(one, torch.Tensor) else None for one in found]


def single(node: torch.fx.Node) -> bool:
    """Say whether a call returns one tensor, not several."""
    return isinstance(node.meta.get("val"), torch.Tensor)


def shape_of(node: torch.fx.Node) -> Shape:
    """Return the shape of the value at a place of a trace; () for what is no tensor."""
    found = node.meta.get("val")
    if isinstance(found, torch.Tensor):
        return tuple(map(int, found.shape))
    owner: Any = node.graph.owning_module
    value = attribute(owner, str(node.target)) if node.op == "get_attr" else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
