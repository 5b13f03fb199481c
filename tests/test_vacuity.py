"""Cells whose cases could not have told right from wrong are vacuous, and say why."""

from typing import Any

import pytest
import torch.nn.functional as F

import cnnspec
from cnnspec.backends import Backend
from cnnspec.backends.torch import functional
from cnnspec.cases import Case
from cnnspec.compare import verdict
from cnnspec.exact import Exact
from cnnspec.judge import Trial
from cnnspec.models import direct
from cnnspec.report.results import Results

CONV = "conv2d(in_channels={0}, out_channels={0}, kernel_size={1}, bias=False, input=(1, {0}, {2}), data={3})"


def cells(*lines: str, function: Any = F.conv2d) -> dict[str, Any]:
    """Return the cells by law that torch's function has on some cases."""
    cases = [Case.parse(line) for line in lines]
    backend = Backend("torch", {cases[0].operator: function})
    rows = [row for case in cases for row in Trial(case).rows(backend, ["forward", "inputs_unmodified"])]
    return {cell.law: cell for cell in Results({}, rows).cells}


def conv(channels: int, kernel: tuple[int, int], sizes: str, weight: list[float]) -> str:
    height, width = (int(size) for size in sizes.split(", "))
    data = {"input": [float(n % 7 + 1) for n in range(channels * height * width)], "weight": weight}
    return CONV.format(channels, kernel, sizes, data)


ONE_CHANNEL = conv(1, (1, 2), "4, 5", [1.0, 2.0])
EQUAL_AXES = conv(2, (2, 2), "4, 4", [float(n) for n in range(16)])
SYMMETRIC = conv(2, (1, 3), "4, 5", [1.0, 2.0, 1.0] * 4)
ZEROS = conv(2, (1, 2), "4, 5", [0.0] * 8)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (ONE_CHANNEL, "in each of 1 cases there is one channel: none in another order would show"),
        (EQUAL_AXES, "in each of 1 cases all axes are equal: none in the place of another would show"),
        (SYMMETRIC, "in each of 1 cases the kernel reads the same backwards: a flipped one would not show"),
        (ZEROS, "none of 1 passing cases could tell right from wrong"),
    ],
    ids=["one channel", "equal axes", "symmetric kernel", "zeros"],
)
def test_each_reason_makes_a_cell_vacuous(line: str, reason: str) -> None:
    found = cells(line, line)["forward"]

    assert (found.status, found.reason) == (
        "vacuous",
        reason.replace("1 cases", "2 cases").replace("of 1", "of 2"),
    )
    assert cells(line)["inputs_unmodified"].status == "pass"  # it asks nothing of the numbers


def test_cases_that_are_blind_to_different_things_prove_something_together() -> None:
    assert cells(ONE_CHANNEL, EQUAL_AXES)["forward"].status == "pass"
    assert cells(ONE_CHANNEL, conv(1, (1, 3), "4, 5", [1.0, 2.0, 1.0]))["forward"].status == "vacuous"


def test_what_is_blind_may_still_fail() -> None:
    wrong = cells(ONE_CHANNEL, function=lambda *args, **kwargs: F.conv2d(*args, **kwargs) + 1)
    assert wrong["forward"].status == "fail"


def test_a_kernel_of_one_element_has_no_back() -> None:
    point = conv(2, (1, 1), "4, 5", [1.0, 2.0, 3.0, 4.0])
    assert "blind" not in Trial(Case.parse(point)).rows(Backend("torch", {"conv2d": F.conv2d}))[0]


def test_a_bound_beyond_the_result_tells_nothing() -> None:
    """The terms cancel to 1, and a bound of S / 2 takes 0 for it; where their sum may overflow there is no bound."""
    cancels = Exact((1,), [1], magnitude=[2**30], roundings=[2**20])
    overflows = Exact((1,), [1], 0, magnitude=[2**130], roundings=[2])
    sharp = Exact((1,), [1], magnitude=[1], roundings=[1])
    told = [verdict(one, [1.0], "float32", direct("float32")) for one in (cancels, overflows, sharp)]

    assert [one.holds for one in told] == [True, True, True]
    assert [one.discriminating for one in told] == [False, False, True]


@pytest.mark.parametrize(
    ("where", "status"),
    [("in_channels == 1 and out_channels == 1", "vacuous"), ("in_channels == 2", "pass")],
)
def test_a_run_that_is_restricted_too_far_is_no_success(where: str, status: str) -> None:
    results = cnnspec.check(F.conv2d, ["conv2d"], ["float32"], examples=12, where=where, laws=("forward",))

    assert [cell.status for cell in results.cells] == [status]
    assert results.exit_code == (3 if status == "vacuous" else 0)


def test_gradients_of_zero_prove_no_sum_of_both_uses() -> None:
    data = "{'input': [-1.0, -2.0, -3.0], 'grad_output': [1.0, 1.0, 1.0]}"
    line = f"relu(input=(3,), dtype='float32', regime='integers', data={data})"
    rows = Trial(Case.parse(line)).rows(functional(), ["accumulation"])
    assert [(row["status"], row["discriminating"]) for row in rows] == [("pass", False)]
    rows = Trial(Case.parse(line.replace("-2.0", "2.0"))).rows(functional(), ["accumulation"])
    assert [(row["status"], row["discriminating"]) for row in rows] == [("pass", True)]


def test_integers_lie_where_a_clipped_line_is_steep() -> None:
    lines = [f"relu6(input=(9,), dtype='float32', regime='integers', seed={seed})" for seed in range(4)]
    copies = [Trial(Case.parse(line)).exact.copies for line in lines]
    outputs = {value for one in copies if one is not None for value in one.ravel().tolist()}
    assert outputs > {0, 6}
