"""A batch of items in one place of memory: calls of all at once, calls of each, and whether both agree.

Both ways are held to the exact result of the items in which they differ most, of the first, the last, and some that are
drawn. Two correct ways may differ in their last bits, so none is held to the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

import torch

from cnnspec import exact
from cnnspec.backends import UnsupportedCase
from cnnspec.backends.torch import output
from cnnspec.bench.sides import Side
from cnnspec.calls import Call, Violation
from cnnspec.cases import Case
from cnnspec.outputs import within

LECTURE, FAIR, GRAPH = "lecture", "fair", "graph"
WORST, DRAWN = 2, 2
"""Of the items that are judged: those in which both ways differ most, and those that are drawn."""


def batch_of(item: Case, n: int) -> Case:
    """Return the case of n items at once.

    >>> print(batch_of(Case.parse("relu(input=(1, 3))"), 8))
    relu(input=(8, 3), dtype='float32', regime='integers', seed=0)
    """
    return replace(item, inputs=((n, *item.inputs[0][1:]),))


@dataclass
class Batch:
    """The operands of the largest batch in one place of memory, and calls of its first items."""

    side: Side
    whole: Case
    operands: dict[str, Any]
    arrays: dict[str, Any] = field(init=False)
    items: list[Callable[[], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arrays = Call(self.side.backend, self.whole, self.operands).arrays

    def some(self, low: int, high: int) -> Callable[[], Any]:
        """Return the call of items low to high at once."""
        arrays = {**self.arrays, "input": self.arrays["input"][low:high]}
        return self.side.bound(batch_of(self.whole, high - low), arrays)

    def loop(self, n: int, variant: str) -> Callable[[], Any]:
        """Return the separate calls of the first n items, as a variant makes them."""
        self.items += [self.some(k, k + 1) for k in range(len(self.items), n)]
        shape = self.whole.operation.output_shape(*batch_of(self.whole, n).inputs)
        like = self.arrays["input"]
        if variant == LECTURE:
            return partial(as_in_the_lecture, self.items[:n], shape, like.dtype)
        fair = partial(separately, self.items[:n], torch.empty(shape, dtype=like.dtype, device=like.device))
        if variant == FAIR:
            return fair
        try:
            return recorded(fair)
        except RuntimeError as error:
            raise UnsupportedCase(f"no CUDA graph: {str(error).splitlines()[0]}") from None


def separately(items: Sequence[Callable[[], Any]], result: torch.Tensor) -> torch.Tensor:
    """Call each item and put its output into its place in the result, which is returned."""
    for k, item in enumerate(items):
        result[k] = item()
    return result


def as_in_the_lecture(
    items: Sequence[Callable[[], Any]], shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """Call each item and put its output into its place in a new result on the CPU."""
    return separately(items, torch.empty(tuple(shape), dtype=dtype))


def recorded(loop: "partial[torch.Tensor]") -> Callable[[], Any]:
    """Return what replays a loop from a CUDA graph."""
    stream: Any = torch.cuda.Stream  # without annotations
    here, aside = torch.cuda.current_stream(), stream()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):  # what a library allocates at its first call must not be recorded
        loop()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loop()
    return partial(replayed, loop.args[0], graph, loop.args[1])


def replayed(items: Sequence[Callable[[], Any]], graph: Any, result: torch.Tensor) -> torch.Tensor:
    """Replay a graph, which reads what `items` hold, and return where it writes."""
    graph.replay()
    return result


def check(held: Batch, n: int, together: Any, apart: torch.Tensor, rng: Random) -> None:
    """Raise Violation where one of both ways is not within its bound of the exact result, in any item looked at."""
    shape = tuple(held.whole.operation.output_shape(*batch_of(held.whole, n).inputs))
    apart = apart.to(held.arrays["input"].device)
    if tuple(together.shape) != shape:
        raise Violation(f"the batched output has shape {tuple(together.shape)}, it must be {shape}")
    difference = (together.double() - apart.double()).abs().nan_to_num(nan=torch.inf).flatten(1).amax(1)
    worst = difference.topk(min(n, WORST)).indices.tolist()
    rows = sorted({0, n - 1, *worst, *(rng.randrange(n) for _ in range(DRAWN))})
    some = batch_of(held.whole, len(rows))
    operands = {**held.operands, "input": held.operands["input"][rows]}
    right = exact.evaluate(some.spec, some.operation, operands)
    for name, found in (("the batched output", together), ("the output of separate calls", apart)):
        within(right, output(found[rows]), held.side.backend, some, operands, f"{name} of items {rows} at")
