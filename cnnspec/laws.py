"""Laws that several operators share; an operator's own laws stand in its file."""

from typing import Any

from cnnspec import nested
from cnnspec.nested import Array, Shape
from cnnspec.op import Call, Law


def _batch_is_singles(op: Any, call: Call, x: Array, *parameters: Array) -> tuple[Array, Array]:
    singles = [call(op, nested.take(x, 0, [n]), *parameters) for n in range(len(x))]
    return call(op, x, *parameters), nested.concatenate(singles, 0)


def _has_batch(op: Any, shapes: tuple[Shape, ...]) -> bool:
    return len(shapes[0]) == op.spatial + 2 and shapes[0][0] > 1 and not getattr(op, "return_indices", False)


BATCH = Law("batch", "a batch is the stack of its singles", _has_batch, _batch_is_singles)


def _channels_are_parts(op: Any, call: Call, x: Array) -> tuple[Array, Array]:
    axis = len(nested.shape_of(x)) - op.spatial - 1
    planes = [call(op, nested.take(x, axis, [c])) for c in range(nested.shape_of(x)[axis])]
    return call(op, x), nested.concatenate(planes, axis)


CHANNELS = Law(
    "channels",
    "each channel is pooled by itself",
    lambda op, shapes: shapes[0][-op.spatial - 1] > 1 and not getattr(op, "return_indices", False),
    _channels_are_parts,
)
