"""Nested lists that keep their shape."""

import math
import pickle
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Nested

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def counted(shape: tuple[int, ...]) -> Any:
    return nested.unravel(list(range(math.prod(shape))), shape)


def numpys(shape: tuple[int, ...]) -> Any:
    return np.arange(math.prod(shape)).reshape(shape)


@settings(max_examples=80, deadline=None)
@given(shapes, st.data())
def test_every_function_is_numpys(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Empty axes included, which plain lists would forget."""
    ours, theirs = counted(shape), numpys(shape)
    assert (nested.shape_of(ours), ours) == (theirs.shape, theirs.tolist())
    assert nested.ravel(ours) == theirs.ravel().tolist()
    axes = data.draw(st.permutations(range(len(shape))))
    same(nested.permute(ours, axes), theirs.transpose(axes))
    keep = data.draw(st.integers(0, len(shape)))
    same(nested.collapse(ours, keep), theirs.reshape((*shape[:keep], math.prod(shape[keep:]))))
    same(nested.elementwise(lambda a, b: 2 * a + b, ours, ours), 3 * theirs)
    if shape:
        axis = data.draw(st.integers(0, len(shape) - 1))
        indices = data.draw(st.lists(st.integers(0, shape[axis] - 1), max_size=3)) if shape[axis] else []
        same(nested.take(ours, axis, indices), theirs.take(np.array(indices, dtype=int), axis))
        same(nested.concatenate([ours, ours], axis), np.concatenate([theirs, theirs], axis))


def same(ours: Any, theirs: Any) -> None:
    assert (nested.shape_of(ours), ours) == (theirs.shape, theirs.tolist())


def test_plain_lists_numpy_and_torch_are_arrays_too() -> None:
    for array in (
        [[1, 2], [3, 4]],
        ((1, 2), (3, 4)),
        np.array([[1, 2], [3, 4]]),
        torch.tensor([[1, 2], [3, 4]]),
    ):
        assert nested.shape_of(array) == (2, 2)
        assert nested.ravel(array) == [1, 2, 3, 4]
        assert nested.permute(array, (1, 0)) == [[1, 3], [2, 4]]
    assert nested.ravel(torch.tensor(5)) == [5]


def test_what_a_plain_list_forgets() -> None:
    assert nested.shape_of([]) == (0,)
    assert nested.shape_of(nested.unravel([], (0, 3, 5))) == (0, 3, 5)
    assert nested.shape_of(nested.unravel([], (2, 0, 5))[1]) == (0, 5)


def test_shapes_survive_pickling() -> None:
    empty = pickle.loads(pickle.dumps(nested.unravel([], (0, 3))))
    assert isinstance(empty, Nested)
    assert empty.shape == (0, 3)


@pytest.mark.parametrize("ragged", [[[1, 2], [3]], [[1], 2], [[[1]], [[1, 2]]]])
def test_ragged_lists_are_refused(ragged: Any) -> None:
    with pytest.raises(ShapeError, match="rows differ in length"):
        nested.ravel(ragged)


def test_refused_shapes() -> None:
    with pytest.raises(ShapeError, match=r"3 values do not fill shape=\(2, 2\)"):
        nested.unravel([1, 2, 3], (2, 2))
    with pytest.raises(ShapeError, match="shapes differ"):
        nested.elementwise(lambda a, b: a, [1], [[1]])
