"""Joining branches: the sum of a residual connection and the concatenation of inception and dense blocks.

add:    y[i] = a[i] + b[i], axes of size 1 repeated
concat: y[..., j, ...] = the j-th slice along `dim` of the inputs laid one behind the other
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.laws import always
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, Routing, integer
from cnnspec.ops import large
from cnnspec.spec import Call, Law, Pick, Spec


@dataclass(frozen=True)
class Add(Operator):
    """Add two arrays, axes of size 1 and missing leading axes repeated, as `torch.add`.

    y[i] = a[i] + b[i].   Raises ShapeError where two sizes differ and neither is 1.

    >>> Add().reference([[1, 2], [3, 4]], [10, 20])
    [[11, 22], [13, 24]]
    """

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the common shape; ShapeError where two sizes differ and neither is 1."""
        a, b = input_shapes
        sizes = []
        for m, n in itertools.zip_longest(reversed(a), reversed(b), fillvalue=1):
            if m not in (n, 1) and n != 1:
                raise ShapeError(
                    f"shapes {tuple(a)} and {tuple(b)} do not agree: {m} and {n} differ and neither is 1"
                )
            sizes.append(n if m == 1 else m)
        return tuple(reversed(sizes))

    def reference(self, *arrays: Array) -> Array:
        """Return a + b."""
        a, b = arrays
        shape = self.output_shape(nested.shape_of(a), nested.shape_of(b))
        return nested.elementwise(lambda u, v: u + v, _expand(a, shape), _expand(b, shape))


def _expand(array: Array, shape: Shape) -> Array:
    """Repeat axes of size 1, and missing leading ones, until `array` has `shape`."""
    own = nested.shape_of(array)
    own = (1,) * (len(shape) - len(own)) + own
    values = nested.ravel(array)
    strides = [0 if size == 1 else math.prod(own[axis + 1 :]) for axis, size in enumerate(own)]
    offsets = [0]
    for size, stride in zip(shape, strides, strict=True):
        offsets = [offset + index * stride for offset in offsets for index in range(size)]
    return nested.unravel([values[offset] for offset in offsets], shape)


@dataclass(frozen=True)
class Concat(Routing):
    """Join arrays along `dim`, as `torch.cat`; all their other axes agree.

    Raises ShapeError where they do not, or where there is no axis `dim`.
    Not covered: torch skips inputs of shape (0,) whatever the others are; here they must agree.

    >>> Concat(dim=0).reference([[1, 2]], [[3, 4], [5, 6]])
    [[1, 2], [3, 4], [5, 6]]
    """

    dim: int = 1

    def __post_init__(self) -> None:
        self.normalise(("dim",), integer)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the joined shape; ShapeError where another axis differs or there is no axis `dim`.

        >>> Concat().output_shape((1, 64, 8, 8), (1, 32, 8, 8))
        (1, 96, 8, 8)
        """
        if not input_shapes:
            raise ShapeError("there must be at least one input")
        first = input_shapes[0]
        if not -len(first) <= self.dim < len(first):
            raise ShapeError(f"dim={self.dim} is not an axis of {tuple(first)}", dim=self.dim)
        axis = self.dim % len(first)
        for shape in input_shapes[1:]:
            if len(shape) != len(first) or any(
                m != n for i, (m, n) in enumerate(zip(first, shape, strict=True)) if i != axis
            ):
                raise ShapeError(
                    f"shapes {tuple(first)} and {tuple(shape)} must agree but for axis dim={self.dim}"
                )
        joined = first[axis]
        for shape in input_shapes[1:]:
            joined = joined + shape[axis]
        return (*first[:axis], joined, *first[axis + 1 :])

    def reference(self, *arrays: Array) -> Array:
        """Return the inputs laid one behind the other along `dim`."""
        shapes = [nested.shape_of(array) for array in arrays]
        self.output_shape(*shapes)
        return nested.concatenate(arrays, self.dim % len(shapes[0]))


def _add_domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    shape = tuple(pick.integer(1, 6) for _ in range(pick.integer(1, 4)))
    other = shape
    if pick.choice((False, False, True)):
        other = tuple(size if pick.choice((True, False)) else 1 for size in shape)[
            pick.integer(0, len(shape) - 1) :
        ]
    return {}, (shape, other) if pick.choice((True, False)) else (other, shape)


def _concat_domain(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
    shape = [pick.integer(1, 5) for _ in range(pick.integer(2, 5))]
    axis = pick.integer(0, len(shape) - 1)
    other = [*shape[:axis], pick.choice((1, 2, 3, 5, 8, 0)), *shape[axis + 1 :]]
    dim = axis - pick.choice((0, len(shape)))
    return ({} if dim == 1 else {"dim": dim}), (tuple(shape), tuple(other))


def _commutes(op: Add, call: Call, a: Array, b: Array) -> tuple[Array, Array]:
    return call(op, a, b), call(op, b, a)


def _parts_come_back(op: Concat, call: Call, a: Array, b: Array) -> tuple[Array, Array]:
    axis = op.dim % len(nested.shape_of(a))
    m, n = nested.shape_of(a)[axis], nested.shape_of(b)[axis]
    joined = call(op, a, b)
    parts = nested.take(joined, axis, range(m)), nested.take(joined, axis, range(m, m + n))
    return nested.concatenate([nested.ravel(part) for part in parts], 0), nested.ravel(a) + nested.ravel(b)


SPECS = (
    Spec(
        name="add",
        operator=Add,
        operands=("input", "input2"),
        inputs=("input", "input2"),
        keywords=(),
        domain=_add_domain,
        laws=(Law("commutes", "a + b = b + a", always, _commutes),),
        dtypes=(*Spec.dtypes, "int64"),
        large=large.images(2),
    ),
    Spec(
        name="concat",
        operator=Concat,
        operands=("input", "input2"),
        inputs=("input", "input2"),
        keywords=("dim",),
        domain=_concat_domain,
        laws=(Law("slices", "the parts come back as slices", always, _parts_come_back),),
        judged="copy",
        dtypes=(*Spec.dtypes, "int64"),
        gathers=True,
    ),
)
