"""Shrinking ends at the smallest geometry and the plainest data that still fail."""

import math
import time

from cnnspec import data, strategies
from cnnspec.cases import Case
from cnnspec.shrink import generate, shrink, simplify

STRATEGY = strategies.cases("conv2d", "float32", layers=False)


def test_the_same_seed_gives_the_same_cases() -> None:
    first, again, other = (generate(STRATEGY, seed, 40) for seed in (7, 7, 8))

    assert [*map(str, first)] == [*map(str, again)]
    assert [*map(str, first)] != [*map(str, other)]
    assert len(set(map(str, first))) == len(first) > 25


def test_more_examples_only_add_cases_behind() -> None:
    assert len(generate(STRATEGY, 0, 120)) > len(generate(STRATEGY, 0, 60))


def test_geometry_shrinks_to_what_the_bug_needs() -> None:
    def fails(case: Case) -> bool:
        return bool(case.arguments.get("groups", 1) > 1)

    found = next(case for case in generate(STRATEGY, 0, 150) if fails(case))
    smallest = shrink(found, STRATEGY, 0, fails)

    assert smallest.arguments["groups"] == 2
    assert smallest.arguments["in_channels"] == smallest.arguments["out_channels"] == 2
    assert math.prod(smallest.operand_shapes()["weight"]) <= 4
    assert math.prod(smallest.inputs[0]) <= 4
    assert smallest.layout == {}


def test_data_shrink_to_zeros_and_ones() -> None:
    case = Case("relu", {}, ((9,),), "float32", "dense", 3)

    def fails(candidate: Case) -> bool:
        return bool(data.operands(candidate)["input"][5] > 0) or bool(
            data.operands(candidate)["input"][5] < 0
        )

    smallest = simplify(case, fails, time.monotonic() + 5)

    assert smallest.data is not None
    assert [abs(v) for v in smallest.data["input"]] == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_a_case_that_fails_once_only_is_kept_as_it_is() -> None:
    found = generate(STRATEGY, 0, 20)[5]

    assert shrink(found, STRATEGY, 0, lambda case: False) == found


def test_indices_stay_as_they_were_drawn() -> None:
    """All zero they would be illegal: an element of the output can come from one place only."""
    case = Case("max_unpool1d", {"kernel_size": 2}, ((1, 1, 3),) * 2, "float32", "dense", 3)
    drawn = data.operands(case)["indices"].ravel().tolist()

    smallest = simplify(case, lambda candidate: True, time.monotonic() + 5)

    assert smallest.data is not None
    assert (smallest.data["indices"], smallest.data["input"]) == (drawn, [0, 0, 0])
    assert len(set(drawn)) == 3
