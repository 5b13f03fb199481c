"""Wrong poolings, each of which the comparisons must catch."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cnnspec import exact, nested
from cnnspec.exact import averages, expansions, pooled, regions, sums
from tests.engine_calls import EPS, Values
from tests.layer_calls import MAXIMA, MEANS, by_definition, layer_calls, mean, numbers


def hard_means_hold() -> bool:
    """Say whether means near ties, windows of all kinds and maxima come out right."""
    right = mean([1, EPS, 2.0**-126], 1, "float32", "float32") == 1 + 2 * EPS
    right &= mean([3, 3 * EPS, 2.0**-126], 3, "float32", "float32") == 1 + 2 * EPS
    right &= mean([3, 3 * 2.0**-8, 2.0**-40], 3, "float32", "bfloat16") == 1 + 2.0**-7
    right &= mean([1, 2.0**-53, 2.0**-1000], 1, "float64", "float64") == 1 + 2.0**-52
    right &= mean([1, 1, 1 - 2.0**-52, 2.0**-54], 3, "float64", "float64") == float(
        (3 - Fraction(1, 2**52) + Fraction(1, 2**54)) / 3
    )
    right &= float(exact.lp_pool1d(np.array([[257, 2.0**-60]]), 2, 2, out_dtype="bfloat16")[0, 0]) == 258
    try:
        drawn = layer_calls((*MEANS, *MAXIMA), 7)
        for call in (next(drawn) for _ in range(150)):
            if call.name in MEANS:
                assert np.array_equal(call.forward().astype(float), by_definition(call), equal_nan=True)
                continue
            x = call.operands["input"]
            call.keywords["return_indices"] = True
            found = call.forward(out_dtype=None, budget=1)[1]
            with_indices = type(call.operator)(**call.keywords)
            assert found.ravel().tolist() == nested.ravel(with_indices.reference(numbers(x, float))[1])
    except (AssertionError, IndexError, ValueError):
        return False
    return right


def test_the_right_implementation_gets_the_hard_means_right() -> None:
    assert hard_means_hold()


def no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pooled, "UNIT", 0.0)


def everything_on_a_lattice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pooled.Job, "_is_lattice", lambda *args: True)


def nothing_settled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pooled.Job, "_settle", lambda *args: None)


def rounded_through_float32(patch: pytest.MonkeyPatch) -> None:
    right = sums.round_to

    def twice(y: Values, form: Any) -> Values:
        return right(y.astype(np.float32).astype(np.float64), form)

    patch.setattr(pooled, "round_to", twice)
    patch.setattr(expansions, "round_pair", lambda h, low, form: twice(h + low, form))


def divided_before_the_sum(patch: pytest.MonkeyPatch) -> None:
    def block(self: Any, x: Values, block: Any) -> Values:
        padded = block.regions.filled(x[block.source], 0, np.float64)
        found = pooled._summed(block.regions, padded / np.max(self.divisor))
        return sums.round_to(found * (np.max(self.divisor) / self._here(self.divisor, block)), self.form)

    patch.setattr(pooled.Job, "_block", block)


def remainder_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = expansions.quotient

    def quotient(numbers_: Any, divisor: Values) -> Any:
        found = right(numbers_, divisor)
        return expansions.Expansion(found.h, None, np.zeros(found.h.shape))

    patch.setattr(pooled, "quotient", quotient)


def rest_of_the_root_forgotten(patch: pytest.MonkeyPatch) -> None:
    def root(numbers_: Any) -> Any:
        return expansions.Expansion(np.sqrt(numbers_.h))

    patch.setattr(pooled, "root", root)
    patch.setattr(pooled.Job, "_plain", lambda self, regions, padded, *others: self._rounded(
        expansions.Expansion(pooled._summed(regions, padded * padded if self.square else padded)),
        others[1], others[2], self.form,
    ))  # fmt: skip


def block_lacks_its_first_row(patch: pytest.MonkeyPatch) -> None:
    right = regions.Axis.part

    def part(self: Any, outputs: range) -> Any:
        met, axis = right(self, outputs)
        return met, regions.Axis(axis.size, np.where(axis.table == 0, -1, axis.table))

    patch.setattr(regions.Axis, "part", part)


def overhang_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(averages, "_simple", lambda divisors: np.asarray(float(divisors.max())))


def last_of_equal_maxima(patch: pytest.MonkeyPatch) -> None:
    right = regions.Axis.picked
    patch.setattr(regions.Axis, "picked", lambda self, *args: iter([*right(self, *args)][::-1]))


@pytest.mark.parametrize(
    "wrong",
    [
        no_bound,
        everything_on_a_lattice,
        nothing_settled,
        rounded_through_float32,
        divided_before_the_sum,
        remainder_forgotten,
        rest_of_the_root_forgotten,
        block_lacks_its_first_row,
        overhang_counts,
        last_of_equal_maxima,
    ],
)
def test_wrong_implementations_are_caught(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    averages._sliding_plan.cache_clear()
    averages._adaptive_plan.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert not hard_means_hold()
    averages._sliding_plan.cache_clear()
    averages._adaptive_plan.cache_clear()
