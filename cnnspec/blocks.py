"""What networks are built of: operators in sequence, beside a shortcut, in branches, with shared parameters.

    Seq(conv1=Conv2d(1, 6, 5), relu1=ReLU(), pool1=MaxPool2d(2))     y = pool1(relu1(conv1(x)))
    Residual(body)                                                   y = x + body(x)
    Branches(one, other)                                             y = one(x) and other(x), laid one behind the other

A block is an operator or one of these. Placed in a network, its operators become nodes; a node's name is the path to
it, a parameter's name that path and what the operator calls it: `layer1.0.conv1.weight`, as in a state_dict of torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnspec.errors import ArgumentError
from cnnspec.op import Operator
from cnnspec.ops.combine import Add, Concat


@dataclass(frozen=True)
class Node:
    """One use of an operator in a network.

    inputs:   the names of the nodes, or of the network's inputs, whose values it takes
    shared:   what the network calls those of its parameters and buffers that are not `name`.parameter
    operands: what the network calls each buffer and each parameter, in the order of the operator's `reference`

    >>> from cnnspec.ops.linear import Linear
    >>> Node("x1", Linear(2, 2), ("x0",), {"weight": "w1"}).operands
    {'weight': 'w1', 'bias': 'x1.bias'}
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    shared: Mapping[str, str] = field(default_factory=dict)
    operands: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        own = (*self.operator.buffer_shapes(), *self.operator.parameter_shapes())
        for word in self.shared:
            if word not in own:
                known = ", ".join(own) or "none"
                raise ArgumentError(f"node {self.name}: shared={word!r} must be one of its operands: {known}")
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(
            self, "operands", {word: self.shared.get(word, f"{self.name}.{word}") for word in own}
        )


class Plan:
    """The nodes of a network while blocks are placed, one after another."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._operators: dict[Operator, Operator] = {}
        self._placed: dict[int, tuple[Operator, Operator]] = {}  # by identity: it and what it is equal to
        self._homes: dict[int, str] = {}
        self._use: tuple[str, str, tuple[str, ...]] | None = None

    def add(
        self, path: str, operator: Operator, sources: tuple[str, ...], names: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """Add a node, its parameters called `names` where they are given, and return its name as the next takes it.

        Operators that are equal become one object: what is worked out for one is known of all.
        """
        if id(operator) not in self._placed:
            self._placed[id(operator)] = operator, self._alike(operator)
        operator = self._placed[id(operator)][1]
        shared = self._shared(path, operator, names or {}) if names or self._use else {}
        self.nodes.append(Node(path, operator, sources, shared))
        return (path,)

    def _alike(self, operator: Operator) -> Operator:
        """Return the first operator that was equal."""
        try:
            return self._operators.setdefault(operator, operator)
        except TypeError:  # one from outside whose arguments have no hash
            return operator

    def share(self, block: "Shared", path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place a block whose parameters belong to the first place where it stands."""
        before = self._use
        home = self._homes.setdefault(id(block), self._home(path))
        self._use = (path, home, block.names)
        try:
            return place(block.block, self, path, sources)
        finally:
            self._use = before

    def _home(self, path: str) -> str:
        """Return the path of the first use of what stands at `path`."""
        if self._use is None:
            return path
        used, home, _ = self._use
        return home + path[len(used) :]

    def _shared(self, path: str, operator: Operator, names: Mapping[str, str]) -> Mapping[str, str]:
        own = (*operator.buffer_shapes(), *operator.parameter_shapes())
        called = {word: names.get(word, f"{path}.{word}") for word in own}
        if self._use:
            only = self._use[2] or own
            called = {word: self._home(name) if word in only else name for word, name in called.items()}
        return {word: name for word, name in called.items() if name != f"{path}.{word}"}


class Seq:
    """Blocks one after another; y = last(... first(x)). Without blocks, y = x.

    What is given without a name is named by its place: 0, 1, 2, ...
    """

    def __init__(self, *blocks: "Block", **named: "Block") -> None:
        self.blocks = _named(blocks, named)

    def place(self, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place the blocks, each behind the one before."""
        for name, block in self.blocks.items():
            sources = place(block, plan, join(path, name), sources)
        return sources


class Residual:
    """A body beside a shortcut: y = after(join(shortcut(x), body(x))); by default y = x + body(x).

    The names in body, shortcut and after stand side by side, those of blocks other than Seq below `body`, `shortcut`
    and `after`; the join is `add`, or `concat`.
    Sources: He, Zhang, Ren & Sun 2016, figure 2 (Add); Huang, Liu, van der Maaten & Weinberger 2017 (Concat).
    """

    def __init__(
        self,
        body: "Block",
        shortcut: "Block | None" = None,
        join: Operator | None = None,
        after: "Block | None" = None,
    ) -> None:
        self.body = _sequence("body", body)
        self.shortcut, self.after = _sequence("shortcut", shortcut), _sequence("after", after)
        self.join = Add() if join is None else join

    def place(self, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place body, shortcut, join and what comes after, under one path."""
        found = self.body.place(plan, path, sources)
        beside = self.shortcut.place(plan, path, sources)
        joined = plan.add(join(path, type(self.join).__name__.lower()), self.join, (*beside, *found))
        return self.after.place(plan, path, joined)


class Branches:
    """Blocks side by side on one input, their outputs joined: y = concat(first(x), second(x), ...).

    What is given without a name is named by its place: 0, 1, 2, ...; the join is `concat`, or `add`.
    Source: Szegedy et al. 2015, figure 2.
    """

    def __init__(self, *blocks: "Block", join: Operator | None = None, **named: "Block") -> None:
        self.blocks = _named(blocks, named)
        self.join = Concat() if join is None else join

    def place(self, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place the blocks, all behind the same input, and their join."""
        ends = [place(block, plan, join(path, name), sources) for name, block in self.blocks.items()]
        found = tuple(name for end in ends for name in end)
        return plan.add(join(path, type(self.join).__name__.lower()), self.join, found)


class Parallel:
    """Blocks side by side, each on an input of its own; an operator of several inputs joins them.

    What is given without a name is named by its place: 0, 1, 2, ...
    """

    def __init__(self, *blocks: "Block", **named: "Block") -> None:
        self.blocks = _named(blocks, named)

    def place(self, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place each block behind its own input."""
        if len(sources) != len(self.blocks):
            raise ArgumentError(
                f"{path or 'Parallel'} has {len(self.blocks)} blocks for {len(sources)} inputs"
            )
        ends = [
            place(block, plan, join(path, name), (source,))
            for (name, block), source in zip(self.blocks.items(), sources, strict=True)
        ]
        return tuple(name for end in ends for name in end)


class Shared:
    """A block whose parameters and buffers are one set wherever it stands: tied layers, Siamese towers.

    They are named after the first place. With names, as in Shared(Linear(8, 8), "weight"), only those are shared.

    >>> from cnnspec.ops.linear import Linear
    >>> plan, tied = Plan(), Shared(Linear(8, 8))
    >>> end = Seq(tied, tied).place(plan, "", ("x",))
    >>> [node.operands["weight"] for node in plan.nodes]
    ['0.weight', '0.weight']
    """

    def __init__(self, block: "Block", *names: str) -> None:
        self.block, self.names = block, names

    def place(self, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Place the block; its parameters are those of its first place."""
        return plan.share(self, path, sources)


Block = Any
"""An Operator, Seq, Residual, Branches, Parallel, Shared, or a Network: what has `place`, or a formula."""


def place(block: Block, plan: Plan, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    """Add the nodes of a block to a plan and return the names of its outputs; ArgumentError for what is no block."""
    if isinstance(block, Operator):
        return plan.add(path, block, sources)
    if not hasattr(block, "place"):
        raise ArgumentError(
            f"{path}: {block!r} is no operator, such as cnnspec.Conv2d(3, 64, 7), and no block"
        )
    ends: tuple[str, ...] = block.place(plan, path, sources)
    return ends


def join(path: str, name: str) -> str:
    """Return the path of `name` below `path`.

    >>> join("layer1", "0"), join("", "conv1")
    ('layer1.0', 'conv1')
    """
    return f"{path}.{name}" if path else name


def _named(blocks: tuple[Block, ...], named: Mapping[str, Block]) -> dict[str, Block]:
    return {**{str(n): block for n, block in enumerate(blocks)}, **named}


def _sequence(name: str, block: Block | None) -> Seq:
    """Return a block whose names may stand beside others'; what is no Seq gets a name of its own."""
    if isinstance(block, Seq):
        return block
    return Seq() if block is None else Seq(**{name: block})
