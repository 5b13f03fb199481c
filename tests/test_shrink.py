"""Shrinking ends at the smallest geometry and the plainest data that still fail."""

import contextlib
import importlib
import math
import time
from pathlib import Path

import pytest

from cnnspec import data, strategies
from cnnspec import shrink as shrinking
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


def test_a_list_of_cases_does_not_hang_on_the_modules_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> list[str]:
        return [str(case) for case in generate(strategies.cases("conv1d"), 7, 60)]

    before = drawn()
    numbers = ", ".join(str(3_141_592_653 + 7_919 * n) for n in range(400))
    (tmp_path / "of_a_user.py").write_text(f"NUMBERS = ({numbers})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "hypothesis.internal.constants_ast.is_local_module_file", lambda path: "of_a_user" in path
    )
    monkeypatch.setattr(
        "hypothesis.internal.conjecture.providers.is_local_module_file", lambda path: "of_a_user" in path
    )
    importlib.import_module("of_a_user")
    assert drawn() == before
    monkeypatch.setattr(shrinking, "without_constants", contextlib.nullcontext)
    assert drawn() != before
