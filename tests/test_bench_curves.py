"""Curves of time: which layers they go through, what a simulated cost makes of them, and which switches are seen."""

import itertools
import math
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from cnnspec.bench.curves import CURVES, Curve, Point, line, powers_of_two, slopes
from cnnspec.bench.plan import PARTS, Plan
from cnnspec.bench.shapes import LARGEST, layers
from tests.simulated_curves import NOISE, Timer, of, over_batch, over_channels, run


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the curves that are measured."""
    return lambda *given: monkeypatch.setattr("cnnspec.bench.scaling.CURVES", given)


# The curves themselves


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_a_curve_goes_through_a_layer_of_a_real_network(curve: Curve) -> None:
    net, _, node = curve.base.partition(" ")
    case = curve.case(curve.usual)
    (layer,) = [one for one in layers([net], [curve.operator]) if f"{net} {node}" in one.places]
    assert layer.case.operation == case.operation
    assert layer.case.inputs == ((1, *case.inputs[0][1:]),)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_points_go_from_small_to_large_and_stay_small_enough_to_be_judged(curve: Curve) -> None:
    values = curve.values or (1, 2)
    assert list(values) == sorted({*values})
    for value in values:
        assert sum(map(math.prod, curve.case(value).operand_shapes().values())) <= LARGEST


def test_the_axes_are_those_that_are_promised() -> None:
    ends = {curve.name: (curve.values[0], curve.values[-1]) for curve in CURVES if curve.values}
    assert ends == {
        "conv2d over batch": (1, 512),
        "linear over batch": (1, 512),
        "conv2d over channels": (1, 1024),
        "linear over features": (1, 4096),
        "conv2d over image": (7, 512),
        "conv2d over kernel": (1, 11),
    }
    assert [*PARTS].index("layers") < [*PARTS].index("scaling") < [*PARTS].index("batching")


# Fits


def bounds_of_line(a: float, b: float, values: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Return where the estimates must lie when every time is off by at most the part NOISE of it.

    The slope of two points is then off by at most NOISE (T + T') / (N' - N), and a median by no more than the medians
    of what is below and above.
    """
    times = {n: a + b * n for n in values}
    off = [(NOISE * (times[n] + times[m]) / (m - n)) for n, m in itertools.combinations(values, 2)]
    low, high = median(b - one for one in off), median(b + one for one in off)
    middle, centre = median(times.values()), median(values)
    least, most = middle * (1 - NOISE) - high * centre, middle * (1 + NOISE) - low * centre
    return {"b_s": (low, high), "a_s": (least, most), "n_half": (least / high, most / low)}


@pytest.mark.parametrize(("a", "b"), [(8e-3, 1e-3), (0.1, 2e-3), (5e-3, 5e-3)])
@pytest.mark.parametrize("seed", range(3))
def test_overhead_and_rate_of_a_simulated_batch_are_found(
    curves: Callable[..., None], a: float, b: float, seed: int
) -> None:
    curves(over_batch())
    entries = run(Plan("torch"), timers=[Timer(lambda x: a + b * x.shape[0], seed)])
    (found,) = of("fit", entries)
    for name, (low, high) in bounds_of_line(a, b, powers_of_two(512)).items():
        assert low <= found[name] <= high, name
    assert found["per_second"] == 1 / found["b_s"]
    assert (found["kind_of_fit"], found["axis"], found["target"], found["note"]) == (
        "line",
        "batch",
        "torch",
        "",
    )


def test_a_line_without_overhead_or_growth_has_no_n_half() -> None:
    falling = line([Point(1, 3.0), Point(2, 2.0), Point(4, 1.0)])
    assert falling["b_s"] < 0
    assert (falling["n_half"], falling["per_second"]) == (None, None)
    assert falling["note"] == "no n_half: the time does not grow with the batch"
    below = line([Point(1, 0.5), Point(2, 1.5), Point(4, 3.5)])
    assert (below["a_s"], below["b_s"], below["n_half"], below["per_second"]) == (-0.5, 1.0, None, 1.0)
    assert below["note"] == "no n_half: a batch of none would take no time"
    assert line([Point(1, 1.0), Point(2, 2.0)])["note"] == "2 points: a line needs 3"


def times_over_channels(a: float, factor: float) -> Callable[[Any], float]:
    """Return a time that grows as channels^2, times a factor from 16 channels on."""
    return lambda x: (a + 1e-4 * x.shape[1] ** 2) * (factor if x.shape[1] >= 16 else 1)


@pytest.mark.parametrize("a", [1e-4, 1e-2, 1.0])
def test_a_planted_switch_is_found_and_none_where_there_is_none(
    curves: Callable[..., None], a: float
) -> None:
    curves(over_channels())
    for factor, switches in ((1.6, [8]), (3.0, [8]), (0.6, [8]), (1.0, [])):
        (found,) = of("fit", run(Plan("torch"), times_over_channels(a, factor)))
        assert found["switches"] == switches, factor
        assert [one[:2] for one in found["slopes"]] == [[n, 2 * n] for n in powers_of_two(32)]


def test_local_slopes_are_those_of_the_cost(curves: Callable[..., None]) -> None:
    curves(over_channels())
    (found,) = of("fit", run(Plan("torch"), lambda x: 1e-2 * x.shape[1] ** 2))
    off = (math.log1p(NOISE) - math.log1p(-NOISE)) / math.log(2)
    assert all(2 - off <= slope <= 2 + off for *_, slope in found["slopes"])


def test_one_slow_point_is_a_way_up_and_a_way_down() -> None:
    times = (1.0, 2.0, 4.0, 16.0, 16.0, 32.0)
    assert slopes([Point(2**n, t, t, t) for n, t in enumerate(times)])["switches"] == [4, 8]


def test_a_jump_within_the_intervals_of_its_times_is_none() -> None:
    times = (1.0, 2.0, 4.0, 12.0, 24.0)
    points = [Point(2**n, t, t, t) for n, t in enumerate(times)]
    assert slopes(points)["switches"] == [4]
    points[3] = points[3]._replace(low=10.0)  # 8 is predicted, and 10.4 is what a jump exceeds
    assert slopes(points)["switches"] == []
    assert slopes([Point(point.value, point.seconds) for point in points])["switches"] == []
    assert slopes(points[:1])["note"] == "a slope needs 2 points"
