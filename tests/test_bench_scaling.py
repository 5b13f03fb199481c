"""Points of curves: judged before they are timed, cut where they do not fit, without a number where they are wrong."""

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnspec.bench import machine, scaling
from cnnspec.bench.curves import BATCH, Curve
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import SPENT
from cnnspec.bench.plan import Plan
from cnnspec.cases import Case
from tests.simulated_curves import KERNELS, NOISE, OVER_THREADS, Timer, of, over_batch, over_channels, run
from tests.timed_kernels import Refusing


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the curves that are measured."""
    return lambda *given: monkeypatch.setattr("cnnspec.bench.scaling.CURVES", given)


@pytest.fixture
def kernels(tmp_path: Path) -> Callable[..., str]:
    """Writes a file of kernels, whose output goes through the body of change(y, channels)."""
    numbers = itertools.count()

    def written(change: str = "return y") -> str:
        file = tmp_path / f"scaled_{tmp_path.name}_{next(numbers)}.py"
        file.write_text(KERNELS.replace("CHANGE", change))
        return str(file)

    return written


# Points


def test_a_point_says_what_was_measured(curves: Callable[..., None]) -> None:
    curves(over_batch(1, 2, 4, 8))
    points = of("curve", run(Plan("torch"), lambda x: 1e-2 * x.shape[0]))
    assert [point["value"] for point in points] == [1, 2, 4, 8]
    wanted = {
        "curve": "conv2d over batch",
        "axis": "batch",
        "operator": "conv2d",
        "dtype": "float32",
        "mode": "cpu",
        "target": "torch",
        "conformance": "pass",
        "note": "",
        "threads": 1,
        "flops": 8 * 4 * 4 * 9 * 2,  # images, pixels, 2 x 2 channels, taps, and 2 for each product
        "bytes_compulsory": 4 * (8 * 2 * 16 + 2 * 2 * 9 + 8 * 2 * 4),
    }
    last = points[-1]
    assert {name: last[name] for name in wanted} == wanted
    assert last["gflops_per_s"] == last["flops"] / last["t_median_s"] / 1e9
    assert last["t_ci95_lo_s"] <= last["t_median_s"] <= last["t_ci95_hi_s"]
    assert len(last["samples"]) == 20
    assert Case.parse(last["case"]).inputs == ((8, 2, 4, 4),)


def test_both_targets_are_measured_on_the_same_axes(
    curves: Callable[..., None], kernels: Callable[..., str]
) -> None:
    curves(over_batch(1, 2, 4), over_channels(1, 2, 4))
    own = kernels()
    entries = run(Plan(own, against="torch"))
    assert [(one["curve"], one["value"], one["target"]) for one in of("curve", entries)] == [
        (f"conv2d over {axis}", value, target)
        for axis in ("batch", "channels")
        for value in (1, 2, 4)
        for target in (own, "torch")
    ]
    assert len(of("fit", entries)) == 4


@pytest.mark.parametrize("wrong", ["y + 1", "y + 1 if channels == 4 else y"])
def test_a_kernel_that_is_wrong_in_a_small_point_has_no_number(
    curves: Callable[..., None], kernels: Callable[..., str], wrong: str
) -> None:
    curves(over_channels())
    entries = run(Plan(kernels(f"return {wrong}")), timers=[Refusing()])
    assert not of("fit", entries)
    points = of("curve", entries)
    assert {point["conformance"] for point in points} == {"fail"}
    assert 4 in {point["value"] for point in points}
    assert all(point["note"].startswith("not ranked: fails forward at") for point in points)
    assert not any({"t_median_s", "samples", "gflops_per_s"} & point.keys() for point in points)
    assert {cut["reason"] for cut in of("cut", entries)} == {scaling.WRONG}
    assert len(points) + len(of("cut", entries)) == 7


def test_a_kernel_that_is_wrong_in_a_larger_point_has_no_number_from_there(
    curves: Callable[..., None], kernels: Callable[..., str]
) -> None:
    curves(over_channels())
    entries = run(Plan(kernels("return y + 1 if channels == 16 else y")))
    assert [(one["value"], "t_median_s" in one) for one in of("curve", entries)] == [
        (1, True),
        (2, True),
        (4, True),
        (8, True),
        (16, False),
    ]
    assert len(of("cut", entries)) == 2
    assert not of("fit", entries)


@pytest.mark.parametrize(
    ("change", "status", "note"),
    [
        (
            "return y[:, :1] if channels == 64 else y",
            "fail",
            "not ranked: output has shape (1, 1, 2, 2), it must",
        ),
        (
            "if channels == 64:\n        raise ValueError('no 64')\n    return y",
            "fail",
            "not ranked: raised ValueError",
        ),
    ],
)
def test_a_point_that_is_not_judged_is_called_first(
    curves: Callable[..., None],
    kernels: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    status: str,
    note: str,
) -> None:
    monkeypatch.setattr(scaling, "LARGEST", 1000)
    curves(over_channels())
    entries = run(Plan(kernels(change)))
    points = {one["value"]: one for one in of("curve", entries)}
    assert {value: one["conformance"] for value, one in points.items()} == {
        **dict.fromkeys((1, 2, 4, 8), "pass"),
        16: "not judged: 2560 elements are more than 1000",
        32: "not judged: 9728 elements are more than 1000",
        64: status,
    }
    assert points[32]["t_median_s"] > 0
    assert points[64]["note"].startswith(note)
    assert "t_median_s" not in points[64]


def test_what_a_kernel_does_not_claim_is_unsupported_and_the_rest_is_measured(
    curves: Callable[..., None], kernels: Callable[..., str]
) -> None:
    curves(over_channels())
    change = "if channels % 4:\n        raise NotImplementedError('channels % 4')\n    return y"
    entries = run(Plan(kernels(change)))
    found = {one["value"]: (one["conformance"], "t_median_s" in one) for one in of("curve", entries)}
    assert found == {
        **dict.fromkeys((1, 2), ("unsupported", False)),
        **dict.fromkeys((4, 8, 16, 32, 64), ("pass", True)),
    }
    (fit,) = of("fit", entries)
    assert fit["slopes"][0][:2] == [4, 8]


def test_what_cannot_be_served_is_told(curves: Callable[..., None], kernels: Callable[..., str]) -> None:
    linear = Curve(
        "linear over batch",
        BATCH,
        "",
        1,
        lambda n: Case("linear", {"in_features": 2, "out_features": 3}, ((n, 2),)),
        (1, 2, 4),
    )
    curves(linear)
    own = kernels()
    (cut,) = run(Plan(own))
    assert (cut["layer"], cut["reason"]) == (f"linear over batch of {own}", f"{own} has no linear")
    (cut,) = run(Plan("torch", only=("relu",)))
    assert cut["reason"] == "curves are of linear, which --op leaves out"


# The time


class Clock:
    """A clock that only samples move."""

    seconds = 0.0

    def now(self) -> float:
        return self.seconds


class Slow(Timer):
    """A timer that moves a clock by what its calls take."""

    def __init__(self, cost: Callable[[Any], float], clock: Clock) -> None:
        super().__init__(cost)
        self.clock = clock

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of a call."""
        seconds = super().sample(call, count)
        self.clock.seconds += seconds * count
        return seconds


def test_a_point_whose_predicted_time_does_not_fit_is_cut(curves: Callable[..., None]) -> None:
    curves(over_batch(1, 2, 4, 8, 16, 32))
    clock = Clock()
    plan = Plan("torch", seconds=20.0)
    entries = run(plan, timers=[Slow(lambda x: 0.05 * x.shape[0], clock)], now=clock.now)
    # a point takes 16 calls or more: 0.8 s, 1.6 s, 3.2 s, 6.4 s, 12.8 s
    assert [point["value"] for point in of("curve", entries)] == [1, 2, 4, 8]
    assert [(cut["layer"], cut["reason"]) for cut in of("cut", entries)] == [
        (f"conv2d over batch, batch {value}, of torch", scaling.TOO_LONG) for value in (16, 32)
    ]
    assert clock.seconds <= plan.seconds
    assert len(of("fit", entries)) == 1


def test_without_time_nothing_is_measured_and_all_is_told(curves: Callable[..., None]) -> None:
    curves(over_batch(1, 2), over_channels(1, 2))
    entries = run(Plan("torch", seconds=0.0), timers=[Refusing()], now=lambda: 0.0)
    assert [one["reason"] for one in entries] == [SPENT] * 4


def test_a_curve_gets_what_those_before_it_leave(curves: Callable[..., None]) -> None:
    curves(over_batch(1), over_channels(1))
    seen = list[float]()

    class Asked(Desk):
        def alone(self, sample: Any, seconds: float) -> Any:
            seen.append(seconds)
            return super().alone(sample, seconds)

    plan = Plan("torch", case_seconds=math.inf)
    list(scaling.entries(Asked(plan, [Timer(lambda x: 1e-2)], lambda: 0.0), 60.0))
    assert seen == [30.0, 60.0]


def test_judging_waits_for_what_fits(curves: Callable[..., None]) -> None:
    curves(over_channels())
    clock = Clock()

    class Judging(Desk):
        def judged(self, side: Any, case: Case, direction: str) -> Any:
            clock.seconds += case.inputs[0][1] ** 2
            return super().judged(side, case, direction)

    plan = Plan("torch")
    found = list(scaling.entries(Judging(plan, [Timer(lambda x: 1e-9)], clock.now), 500.0))
    # 1 + 4 + 16 s at first; 8 channels take 64 s, which is less than a quarter of 479 s; 16 take 256 s, which is not
    assert {one["value"]: one["conformance"][:10] for one in of("curve", found)} == {
        **dict.fromkeys((1, 2, 4, 8), "pass"),
        **dict.fromkeys((16, 32, 64), "not judged"),
    }


def test_a_small_point_whose_judgement_does_not_fit_is_cut(curves: Callable[..., None]) -> None:
    curves(over_channels(1, 2, 4, 8))
    clock = Clock()

    class Judging(Desk):
        def judged(self, side: Any, case: Case, direction: str) -> Any:
            clock.seconds += 1.0
            return super().judged(side, case, direction)

    found = list(scaling.entries(Judging(Plan("torch"), [Timer(lambda x: 1e-9)], clock.now), 2.0))
    # the judgement of 2 channels would take more than the second that the first one leaves
    assert [one["value"] for one in of("curve", found)] == [1]
    assert [one["reason"] for one in of("cut", found)] == [scaling.TOO_LONG] * 3


def test_smoke_calls_every_point_once_and_times_nothing(
    curves: Callable[..., None], kernels: Callable[..., str]
) -> None:
    curves(over_batch(1, 2, 4, 8, 16))
    own = kernels()
    entries = run(Plan(own, smoke=True, seconds=0.0), timers=[Refusing()])
    assert [(one["kind"], one["mode"], one["conformance"]) for one in entries] == [
        *[("curve", "smoke", "pass")] * 3,
        *[("curve", "smoke", "not judged: nothing is timed")] * 2,
    ]
    calls = sys.modules[Path(own).stem].calls
    assert [n for n, *_ in calls] == [
        1,
        1,
        2,
        2,
        4,
        4,
        1,
        2,
        4,
        8,
        16,
    ]  # two regimes judged, then each called


# Threads


def test_threads_go_up_to_those_of_the_run_and_no_further_than_its_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "allowed", lambda: [0, 1, 2, 3, 4, 5])
    assert scaling.thread_counts(Plan("torch", threads=6)) == (1, 2, 4, 6)
    assert scaling.thread_counts(Plan("torch", threads=3)) == (1, 2, 3)
    assert scaling.thread_counts(Plan("torch", threads=64)) == (1, 2, 4, 6)
    assert scaling.thread_counts(Plan("torch", threads=6, device="cuda")) == ()
    monkeypatch.setattr(machine, "allowed", list)
    assert scaling.thread_counts(Plan("torch", threads=3)) == (1, 2, 3)


def test_a_point_over_threads_is_judged_and_timed_with_them(
    curves: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    curves(OVER_THREADS)
    here, judged, timed = [0], list[int](), set[int]()

    @contextlib.contextmanager
    def pinned(threads: int) -> Iterator[list[int]]:
        here.append(threads)
        yield []
        here.pop()

    class Judging(Desk):
        def judged(self, side: Any, case: Case, direction: str) -> Any:
            judged.append(here[-1])
            return super().judged(side, case, direction)

    def cost(x: Any) -> float:
        timed.add(here[-1])
        return 0.1 / here[-1]

    monkeypatch.setattr(machine, "allowed", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(machine, "pinned", pinned)
    entries = list(scaling.entries(Judging(Plan("torch", threads=4), [Timer(cost)]), 60.0))
    assert [(one["value"], one["threads"], one["conformance"]) for one in of("curve", entries)] == [
        (threads, threads, "pass") for threads in (1, 2, 4)
    ]
    assert (judged, timed, here) == ([1, 2, 4], {1, 2, 4}, [0])
    (fit,) = of("fit", entries)
    off = (math.log1p(NOISE) - math.log1p(-NOISE)) / math.log(2)
    assert all(-1 - off <= slope <= -1 + off for *_, slope in fit["slopes"])


def test_threads_and_processors_are_set_for_a_point_and_set_back(curves: Callable[..., None]) -> None:
    curves(OVER_THREADS)
    before = torch.get_num_threads(), machine.allowed()
    most, seen = min(2, len(before[1]) or 1), set[tuple[int, int]]()

    def cost(x: Any) -> float:
        seen.add((torch.get_num_threads(), len(machine.allowed())))
        return 1e-2

    entries = run(Plan("torch", threads=most), cost)
    assert seen == ({(1, 1), (2, 2)} if most == 2 else set())
    assert len(entries) == (3 if most == 2 else 1)
    assert (torch.get_num_threads(), machine.allowed()) == before


def test_a_run_of_one_thread_has_no_curve_over_threads(curves: Callable[..., None]) -> None:
    curves(OVER_THREADS)
    (cut,) = run(Plan("torch"), timers=[Refusing()])
    assert (cut["kind"], cut["layer"]) == ("cut", "conv2d over threads")
    assert "--threads 2 or more" in cut["reason"]
