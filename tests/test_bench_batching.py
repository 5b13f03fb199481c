"""A batch beside its items one by one: the speed-up of a simulated cost, and none where both ways do not agree."""

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cnnspec import data
from cnnspec.backends import UnsupportedCase
from cnnspec.bench import batching, scaling
from cnnspec.bench.batches import FAIR, GRAPH, LECTURE, Batch, batch_of, recorded
from cnnspec.bench.batching import MODEL, Experiment
from cnnspec.bench.curves import powers_of_two
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import SPENT
from cnnspec.bench.plan import Plan
from cnnspec.bench.sides import Side, timed_case
from cnnspec.cases import Case
from tests.timed_kernels import Refusing

NOISE = 0.01
LINEAR = Experiment(
    "linear", Case("linear", {"in_features": 6, "out_features": 5, "bias": False}, ((1, 6),)), 20, 4.6, 144
)
CONV = Experiment(
    "conv",
    Case("conv2d", {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "bias": False}, ((1, 2, 5, 5),)),
    4,
)
NUMBERS = (1, 2, 4, 8, 16, 20)

KERNELS = """
import torch

calls = []


def linear(input, weight, bias=None):
    calls.append(len(input))
    y = torch.nn.functional.linear(input, weight, bias)
    CHANGE
    return y
"""


class Timer:
    """A timer whose clock is a cost: of one call with n items, or of n calls with one each."""

    mode = "cpu"

    def __init__(
        self, together: Callable[[int], float], apart: Callable[[int, str], float], seed: int = 0
    ) -> None:
        self.together, self.apart, self.rng = together, apart, Random(seed)

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of a call, which is not made."""
        name, first = call.func.__name__, call.args[0]
        apart = isinstance(first, list)
        seconds = self.apart(len(first), name) if apart else self.together(len(first))
        return seconds * (1 + self.rng.uniform(-NOISE, NOISE))


@pytest.fixture
def kernels(tmp_path: Path) -> Callable[..., str]:
    """Writes a kernel whose output y is changed, and gives its name."""
    numbers = itertools.count()

    def written(change: str = "") -> str:
        file = tmp_path / f"batched_{tmp_path.name}_{next(numbers)}.py"
        file.write_text(KERNELS.replace("CHANGE", change))
        return str(file)

    return written


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiments, on small layers."""
    monkeypatch.setattr(batching, "EXPERIMENTS", (CONV, LINEAR))


def run(plan: Plan, timer: Any = None, **words: Any) -> list[Any]:
    timer = timer or Timer(lambda n: 0.01 * n, lambda n, name: 0.01 * n)
    return list(batching.entries(Desk(plan, [timer], **words), plan.seconds))


def of(entries: list[Any], variant: str, experiment: str = "linear") -> list[Any]:
    found = [one for one in entries if one["kind"] == "batch" and one["variant"] == variant]
    return [one for one in found if one["experiment"] == experiment]


def linear_only(target: str, **words: Any) -> Plan:
    return Plan(target, only=("linear",), **words)


def test_the_experiments_are_those_of_the_lecture_and_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    conv, linear = batching.EXPERIMENTS
    assert batch_of(linear.item, linear.largest).operand_shapes() == {
        "input": (2500, 1000),
        "weight": (1500, 1000),
    }
    assert batch_of(conv.item, conv.largest).operand_shapes() == {
        "input": (64, 3, 32, 32),
        "weight": (64, 3, 5, 5),
    }
    assert (linear.lecture_cpu, linear.lecture_gpu) == (4.6, 144)
    assert powers_of_two(linear.largest)[-3:] == (1024, 2048, 2500)


@pytest.mark.parametrize("seed", range(3))
def test_the_speed_up_of_a_simulated_cost_is_found(seed: int) -> None:
    timer = Timer(
        lambda n: 0.02 + 0.001 * n, lambda n, name: 0.01 * n * (1 if name == "separately" else 3), seed
    )
    entries = run(linear_only("torch", seed=seed), timer)
    for variant, one in ((FAIR, 0.01), (LECTURE, 0.03)):
        found = of(entries, variant)
        assert [entry["N"] for entry in found] == [*NUMBERS]
        for entry in found:
            right = one * entry["N"] / (0.02 + 0.001 * entry["N"])
            low, high = right * (1 - NOISE) / (1 + NOISE), right * (1 + NOISE) / (1 - NOISE)
            assert low <= entry["ratio_ci_lo"] <= entry["speedup"] <= entry["ratio_ci_hi"] <= high
            assert entry["speedup"] == entry["ratio"]
            assert len(entry["samples"]) == entry["pairs"]
            assert (entry["agree"], entry["note"], entry["mode"], entry["target"]) == (
                True,
                "",
                "cpu",
                "torch",
            )
            assert entry["context"] == {"lecture_cpu": 4.6, "lecture_gpu": 144}


def test_the_model_is_the_ratio_of_bytes() -> None:
    entries = run(Plan("torch"))
    assert [entry["N"] for entry in of(entries, MODEL)] == [*NUMBERS]
    two = of(entries, MODEL)[1]
    assert two["bytes_loop"] == 2 * 4 * (6 + 6 * 5 + 5)
    assert two["bytes_batched"] == 4 * (2 * 6 + 6 * 5 + 2 * 5)
    assert two["speedup"] == two["bytes_loop"] / two["bytes_batched"]
    assert (two["ratio"], two["agree"]) == (None, None)
    four = of(entries, MODEL, "conv")[2]
    assert four["bytes_loop"] == 4 * 4 * (2 * 25 + 2 * 3 * 9 + 3 * 9)
    assert four["bytes_batched"] == 4 * (4 * 2 * 25 + 2 * 3 * 9 + 4 * 3 * 9)
    assert four["context"] == {"lecture_cpu": None, "lecture_gpu": None}


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("if len(input) > 1: y = y + 1", 2),
        ("if len(input) > 10: y[7] *= 1.001", 16),
        ("if len(input) == 20: y[13, 2] = float('nan')", 20),
        ("if len(input) == 8: y = y[:4]", 8),
        ("if len(input) == 4: raise ValueError('no 4')", 4),
    ],
)
def test_a_batch_that_differs_from_its_items_has_no_number(
    kernels: Callable[..., str], change: str, first: int
) -> None:
    entries = run(linear_only(kernels(change)))
    for variant in (LECTURE, FAIR):
        found = {entry["N"]: entry for entry in of(entries, variant)}
        assert [*found] == [*NUMBERS]
        assert all(found[n]["agree"] for n in NUMBERS if n < first)
        wrong = found[first]
        assert (wrong["agree"], wrong["speedup"], wrong["mode"]) == (False, None, "")
        assert wrong["note"]
        assert not {"ratio", "t_median_s", "samples"} & wrong.keys()


def test_separate_calls_that_are_wrong_have_no_number(kernels: Callable[..., str]) -> None:
    entries = run(linear_only(kernels("if calls[-3:] == [1, 1, 1]: y = 2 * y")))
    for entry in of(entries, FAIR):
        if entry["N"] >= 4:
            assert (entry["agree"], entry["speedup"]) == (False, None)
            assert entry["note"].startswith("the output of separate calls of items [")


def test_two_ways_that_differ_in_their_last_bits_agree(kernels: Callable[..., str]) -> None:
    own = kernels("if len(input) > 1: y = (input.double() @ weight.double().T).float()")
    entries = run(linear_only(own))
    assert all(entry["agree"] for entry in of(entries, FAIR))
    held = batch(own, 20)
    assert not torch.equal(held.some(0, 20)(), held.loop(20, FAIR)())


def test_a_kernel_that_is_wrong_on_one_item_has_no_number(kernels: Callable[..., str]) -> None:
    entries = run(linear_only(kernels("y = y + 1")), Refusing())
    (found,) = of(entries, FAIR)
    assert (found["agree"], found["speedup"]) == (False, None)
    assert found["note"].startswith("not ranked: fails forward at")
    assert not of(entries, LECTURE)


def test_what_cannot_be_measured_is_told(kernels: Callable[..., str]) -> None:
    own = kernels("if len(input) > 3: raise NotImplementedError('at most 3')")
    cuts = [one for one in run(linear_only(own)) if one["kind"] == "cut"]
    assert {cut["reason"] for cut in cuts} == {"a CPU has no CUDA graphs", "at most 3"}
    assert f"linear of {own}, fair, N = 4" in {cut["layer"] for cut in cuts}
    cuts = [one for one in run(Plan(own)) if one["kind"] == "cut"]
    assert (f"conv of {own}", f"{own} has no conv2d") in {(cut["layer"], cut["reason"]) for cut in cuts}
    (cut,) = run(Plan("torch", only=("relu",)))
    assert cut["reason"] == "batches are of conv2d and linear, which --op leaves out"


def test_both_targets_are_measured(kernels: Callable[..., str]) -> None:
    own = kernels()
    entries = run(linear_only(own, against="torch"))
    assert [entry["target"] for entry in of(entries, FAIR)] == [own, "torch"] * len(NUMBERS)


def test_what_the_budget_leaves_out_is_told() -> None:
    clock = SimpleNamespace(seconds=0.0)

    class Slow(Timer):
        def sample(self, call: Any, count: int) -> float:
            """Return the seconds of a call, by which the clock moves."""
            seconds = super().sample(call, count)
            clock.seconds += seconds * count
            return seconds

    timer = Slow(lambda n: 0.1 * n, lambda n, name: 0.1 * n)
    plan = linear_only("torch", seconds=100.0, case_seconds=math.inf)
    entries = run(plan, timer, now=lambda: clock.seconds)
    assert all(entry["ratio_ci_lo"] is not None for entry in of(entries, FAIR))
    cuts = [one["layer"] for one in entries if one["kind"] == "cut" and one["reason"] == scaling.TOO_LONG]
    # a pair of 4 items takes 0.8 s and what is needed of them 20 s; of 8, 40 s, of which less are left
    assert [entry["N"] for entry in of(entries, FAIR)] == [1, 2, 4]
    assert [one for one in cuts if FAIR in one] == [f"linear of torch, fair, N = {n}" for n in (8, 16, 20)]
    assert clock.seconds <= plan.seconds
    none = run(linear_only("torch", seconds=0.0), Refusing(), now=lambda: 0.0)
    assert {one["reason"] for one in none if one["kind"] == "cut"} == {
        SPENT,
        "a CPU has no CUDA graphs",
    }
    assert not of(none, FAIR)


def test_smoke_calls_everything_and_times_nothing(kernels: Callable[..., str]) -> None:
    own = kernels()
    entries = run(linear_only(own, smoke=True, seconds=0.0), Refusing())
    for variant in (LECTURE, FAIR):
        assert [(one["N"], one["mode"], one["agree"], one["speedup"]) for one in of(entries, variant)] == [
            (n, "smoke", True, None) for n in NUMBERS
        ]
    assert {one["mode"] for one in of(entries, MODEL)} == {"smoke"}
    calls = sys.modules[Path(own).stem].calls
    assert {n: calls.count(n) for n in NUMBERS[1:]} == dict.fromkeys(NUMBERS[1:], 2 * 2)  # variants, regimes


# Variants


def batch(target: str, largest: int) -> Batch:
    side = Side.of(target, only=["linear"])
    whole = batch_of(timed_case(LINEAR.item, 0), largest)
    return Batch(side, whole, data.operands(whole))


def test_a_loop_calls_each_item_and_puts_it_into_its_place(kernels: Callable[..., str]) -> None:
    own = kernels()
    held = batch(own, 4)
    calls = sys.modules[Path(own).stem].calls
    x, w = held.arrays["input"], held.arrays["weight"]
    right = torch.cat([torch.nn.functional.linear(x[k : k + 1], w) for k in range(3)])
    for variant in (FAIR, LECTURE):
        loop = held.loop(3, variant)
        calls.clear()
        found = loop()
        assert calls == [1, 1, 1]
        assert (found.shape, found.dtype, found.device.type) == ((3, 5), torch.float32, "cpu")
        assert torch.equal(found, right)


def test_the_lecture_allocates_each_time_and_the_fair_loop_never() -> None:
    held = batch("torch", 4)
    lecture, fair = held.loop(4, LECTURE), held.loop(4, FAIR)
    kept = [lecture(), lecture()]
    assert kept[0].data_ptr() != kept[1].data_ptr()
    assert fair().data_ptr() == fair().data_ptr()


class Recorder:
    """In place of torch.cuda: what is called within `graph` is kept, and called again by a replay."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def note(*args: Any) -> Any:
            self.told.append(name)
            return self

        return note

    @contextlib.contextmanager
    def stream(self, one: Any) -> Iterator[None]:
        self.told.append("aside")
        yield
        self.told.append("back")

    @contextlib.contextmanager
    def graph(self, one: Any) -> Iterator[None]:
        self.told.append("record")
        yield
        self.told.append("recorded")


def test_a_graph_is_recorded_after_a_first_call_and_then_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    held, cuda = batch("torch", 4), Recorder()
    fair: Any = held.loop(4, FAIR)

    def told(items: Any, result: torch.Tensor) -> Any:
        cuda.told.append("loop")
        return fair.func(items, result)

    monkeypatch.setattr(torch, "cuda", cuda)
    loop: Any = recorded(partial(told, *fair.args))
    assert cuda.told == [
        *("current_stream", "Stream", "wait_stream", "aside", "loop", "back", "wait_stream"),
        *("CUDAGraph", "record", "loop", "recorded"),
    ]
    cuda.told.clear()
    assert loop() is fair.args[1]
    assert cuda.told == ["replay"]


def test_what_cannot_be_recorded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(Recorder):
        def graph(self, one: Any) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    held = batch("torch", 4)
    monkeypatch.setattr(torch, "cuda", Refuses())
    with pytest.raises(
        UnsupportedCase, match=r"^no CUDA graph: operation not permitted when stream is capturing$"
    ):
        held.loop(4, GRAPH)
