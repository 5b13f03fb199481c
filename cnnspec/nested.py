"""Arrays as nested lists that know their shape.

A plain nested list forgets the axes behind an axis of size zero: `[]` may be `(0, 3, 5)` or `(0,)`.
`Nested` is a list that remembers. Everything else in cnnspec takes plain lists as well, and
anything with `.tolist()` (NumPy arrays, torch tensors).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cnnspec.errors import ShapeError

Shape = tuple[int, ...]
Array = Any
"""A nested list of numbers of any kind, or anything that has `.tolist()`."""


class Nested(list[Any]):
    """A nested list with a `shape`.

    >>> Nested([[1, 2, 3]], (1, 3)).shape
    (1, 3)
    >>> Nested([], (0, 3)) == []
    True
    """

    __slots__ = ("shape",)

    def __init__(self, values: Iterable[Any], shape: Shape) -> None:
        super().__init__(values)
        self.shape = shape

    def __reduce__(self) -> tuple[Any, ...]:
        return Nested, (list(self), self.shape)


def shape_of(array: Array) -> Shape:
    """Return the shape of a nested list or of anything that has a `shape`.

    >>> shape_of([[1, 2, 3], [4, 5, 6]]), shape_of(7)
    ((2, 3), ())
    """
    shape = getattr(array, "shape", None)
    if shape is not None:
        return tuple(shape)
    if not isinstance(array, list | tuple):
        return ()
    return (len(array), *shape_of(array[0])) if array else (0,)


def ravel(array: Array) -> list[Any]:
    """Return the elements in row-major order.

    Raises ShapeError where the rows have different lengths.

    >>> ravel([[1, 2], [3, 4]])
    [1, 2, 3, 4]
    """
    shape = shape_of(array)
    values: list[Any] = [array.tolist() if hasattr(array, "tolist") else array]
    for size in shape:
        if any(not isinstance(row, list | tuple) or len(row) != size for row in values):
            raise ShapeError(
                f"rows differ in length: not all have the {size} elements that {shape} asks for", shape=shape
            )
        values = [value for row in values for value in row]
    return values


def unravel(values: Sequence[Any], shape: Shape) -> Array:
    """Return `values`, given in row-major order, as a nested list of `shape` (a scalar for `()`).

    >>> unravel([1, 2, 3, 4, 5, 6], (2, 3))
    [[1, 2, 3], [4, 5, 6]]
    """
    if len(values) != math.prod(shape):
        raise ShapeError(f"{len(values)} values do not fill shape={shape}", values=len(values), shape=shape)
    if not shape:
        return values[0]
    rows: list[Any] = list(values)
    empty = 0 in shape  # else the rows tell their shapes themselves
    for axis in range(len(shape) - 1, 0, -1):
        size, outer = shape[axis], math.prod(shape[:axis])
        parts = (rows[row * size : (row + 1) * size] for row in range(outer))
        rows = [Nested(part, shape[axis:]) for part in parts] if empty else [*parts]
    return Nested(rows, shape)


def collapse(array: Array, keep: int) -> list[Any]:
    """Return `array` with its first `keep` axes as they are and all others flattened into one.

    The loops of the operators see an image of any number of dimensions as one row of pixels.

    >>> collapse([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], 1)
    [[1, 2, 3, 4], [5, 6, 7, 8]]
    """
    shape = shape_of(array)
    flat: list[Any] = unravel(ravel(array), (*shape[:keep], math.prod(shape[keep:])))
    return flat


def elementwise(function: Callable[..., Any], *arrays: Array) -> Array:
    """Apply `function` to the elements of arrays of one shape.

    >>> elementwise(lambda a, b: a + b, [1, 2], [10, 20])
    [11, 22]
    """
    shape = shape_of(arrays[0])
    if any(shape_of(array) != shape for array in arrays):
        raise ShapeError(f"shapes differ: {[shape_of(array) for array in arrays]}")
    return unravel([function(*values) for values in zip(*map(ravel, arrays), strict=True)], shape)


def permute(array: Array, axes: Sequence[int]) -> Array:
    """Return `array` with its axes in the order `axes`.

    >>> permute([[1, 2, 3], [4, 5, 6]], (1, 0))
    [[1, 4], [2, 5], [3, 6]]
    """
    shape, values = shape_of(array), ravel(array)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    offsets = [0]
    for axis in axes:
        offsets = [offset + index * strides[axis] for offset in offsets for index in range(shape[axis])]
    return unravel([values[offset] for offset in offsets], tuple(shape[axis] for axis in axes))


def take(array: Array, axis: int, indices: Sequence[int]) -> Array:
    """Return the slices `indices` of `array` along `axis`.

    >>> take([[1, 2, 3], [4, 5, 6]], 1, [2, 0])
    [[3, 1], [6, 4]]
    """
    shape, values = shape_of(array), ravel(array)
    inner, outer, size = math.prod(shape[axis + 1 :]), math.prod(shape[:axis]), shape[axis]
    picked = [
        value
        for o in range(outer)
        for index in indices
        for value in values[(o * size + index) * inner : (o * size + index + 1) * inner]
    ]
    return unravel(picked, (*shape[:axis], len(indices), *shape[axis + 1 :]))


def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """Return `arrays` joined along `axis`; all their other axes agree.

    >>> concatenate([[[1], [2]], [[3], [4]]], 1)
    [[1, 3], [2, 4]]
    """
    shapes = [shape_of(array) for array in arrays]
    outer = math.prod(shapes[0][:axis])
    rows = [(ravel(array), math.prod(shape[axis:])) for array, shape in zip(arrays, shapes, strict=True)]
    values = [
        value for o in range(outer) for flat, width in rows for value in flat[o * width : (o + 1) * width]
    ]
    joined = sum(shape[axis] for shape in shapes)
    return unravel(values, (*shapes[0][:axis], joined, *shapes[0][axis + 1 :]))
