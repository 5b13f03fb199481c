"""Every law holds for the loops on integers, and every law rejects an implementation that is wrong."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnnspec import nested, ops
from cnnspec.spec import Law
from tests.ops.draws import Draw, draws
from tests.ops.wrong import KILLERS

LAWS = [(name, law) for name in ops.NAMES for law in ops.spec(name).laws]


def right(op: Any, *arrays: Any) -> Any:
    return op.reference(*arrays)


def applying(name: str, law: Law, count: int) -> Iterator[Draw]:
    """Yield cases with at least one element that the law applies to."""
    found = (d for d in draws(name, 10_000, cost=3000, empty=False) if law.applies(d.op, d.inputs))
    return itertools.islice(found, count)


def broken(name: str, law: Law, call: Callable[..., Any], count: int) -> list[Draw]:
    """Return the cases in which the two sides differ."""
    wrong = []
    for draw in applying(name, law, count):
        left, other = law.sides(draw.op, call, *draw.operands())
        assert nested.shape_of(left) == nested.shape_of(other), draw
        if nested.ravel(left) != nested.ravel(other):
            wrong.append(draw)
    return wrong


@pytest.mark.parametrize(("name", "law"), LAWS, ids=lambda value: getattr(value, "name", value))
def test_law_holds_for_the_loops(name: str, law: Law) -> None:
    assert len(list(applying(name, law, 20))) == 20
    assert broken(name, law, right, 20) == []


@pytest.mark.parametrize(("name", "law"), LAWS, ids=lambda value: getattr(value, "name", value))
def test_law_rejects_a_wrong_implementation(name: str, law: Law) -> None:
    wrong = KILLERS[name if name in KILLERS else name[:-2]][law.name]
    assert broken(name, law, wrong, 20)


def test_names_of_laws_are_unique_and_statements_are_sentences() -> None:
    for name in ops.NAMES:
        laws = ops.spec(name).laws
        assert len({law.name for law in laws}) == len(laws)
        assert all(law.name.isidentifier() and len(law.statement) < 90 for law in laws)
