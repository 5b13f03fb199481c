"""Ceilings: what is measured of them, where calls lie below, and what is said of those above; cold caches."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cnnspec.bench import caches, exports, layers, record, roofs
from cnnspec.bench.desk import Desk
from cnnspec.bench.plan import Plan
from cnnspec.bench.roofs import CACHE, COMPUTE, COUNTING, MEMORY, Ceilings, Operands, placed
from cnnspec.bench.session import Session
from cnnspec.bench.timers import MOST, Cold, cold_timers
from cnnspec.bench.work import Work, work
from cnnspec.bench.worker import answers
from tests.timed_kernels import Refusing, Simulated

CEILINGS = Ceilings(compute=100.0, memory=10.0, cache=50.0, cache_bytes=1000)
SMALL_CACHE = 2**16


class Machine:
    """A timer of a machine that makes 2^37 FLOPs a second of products of 512 x 512, and half of all others.

    It moves 2^33 bytes a second from a memory, 2^35 from a cache of 64 KiB, and 2^36 of what lies within a sixteenth
    of it, by triads; a quarter more time is what others take, and a call of any other function takes `layer` seconds.
    """

    mode = "cpu"

    def __init__(self, layer: float = 0.0, onednn: int = 2**35) -> None:
        self.layer, self.onednn = layer, onednn

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of one call, which is not made."""
        if call.func is torch.mm:
            n = call.args[0].shape[0]
            return float(2 * n**3 / (2**37 if n == 512 else 2**36))
        if call.args and call.args[0].is_mkldnn:
            return float(2 * call.args[0].shape[0] ** 3 / self.onednn)
        ways = {torch.sum: (1, 1.25), torch.Tensor.copy_: (2, 1.25), torch.sub: (3, 1.0)}
        if call.func not in ways:
            return self.layer
        times, longer = ways[call.func]
        one = call.args[0].numel() * call.args[0].element_size()
        rate = 2**33 if one > SMALL_CACHE else 2**36 if 2 * one <= SMALL_CACHE // 16 else 2**35
        return float(times * one / rate * longer)


class ColdMachine(Machine):
    mode = "cpu_cold"


def tensors(call: Any) -> list[torch.Tensor]:
    """Return the operands of a call."""
    found = [one for one in (*call.args, *call.keywords.values()) if isinstance(one, torch.Tensor)]
    return [one.to_dense() if one.is_mkldnn else one for one in found]


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies from memory are of 256 KiB."""
    monkeypatch.setattr(caches, "last_level_bytes", lambda device="cpu": SMALL_CACHE)


def measured(plan: Plan, timer: Any, seconds: float = math.inf, **words: Any) -> tuple[Desk, list[Any]]:
    desk = Desk(plan, [timer], **words)
    return desk, list(roofs.entries(desk, seconds))


# Where a call lies


@pytest.mark.parametrize(
    ("work", "mode", "roof", "limit", "at_the_roof"),
    [
        (Work(8000, 8000, 2000), "cpu", 40.0, MEMORY, 2000 / 10 / 1e9),
        (Work(80000, 80000, 2000), "cpu", 100.0, COMPUTE, 80000 / 100 / 1e9),
        (Work(1000, 1000, 1000), "cpu", 50.0, CACHE, 1000 / 50 / 1e9),
        (Work(1000, 1000, 1000), "cpu_cold", 10.0, MEMORY, 1000 / 10 / 1e9),
        (Work(1000, 1000, 1000), "gpu_cold", 10.0, MEMORY, 1000 / 10 / 1e9),
        (Work(1000, 1000, 1001), "cpu", 10.0 * 1000 / 1001, MEMORY, 1001 / 10 / 1e9),
        (Work(0, 0, 2000), "cpu", None, MEMORY, 2000 / 10 / 1e9),
        (Work(0, 0, 500), "gpu_hot", None, CACHE, 500 / 50 / 1e9),
    ],
)
def test_the_roof_is_the_lower_of_both_ceilings(
    work: Work, mode: str, roof: float | None, limit: str, at_the_roof: float
) -> None:
    found = placed(work, at_the_roof, mode, CEILINGS)
    assert (found["roof_gflops_per_s"], found["roof_limit"]) == (roof, limit)
    assert (found["efficiency"], found["above_roof"]) == (1, "")
    assert placed(work, 2 * at_the_roof, mode, CEILINGS)["efficiency"] == 0.5


def test_the_efficiency_is_the_rate_over_the_roof() -> None:
    work = Work(8000, 8000, 2000)
    assert placed(work, 4e-7, "cpu", CEILINGS)["efficiency"] == 8000 / 4e-7 / 1e9 / 40
    assert placed(Work(0, 0, 2000), 4e-7, "cpu", CEILINGS)["efficiency"] == 2000 / 4e-7 / 1e9 / 10


@pytest.mark.parametrize(
    "ceilings",
    [Ceilings(), Ceilings(compute=100.0), Ceilings(memory=10.0), Ceilings(100.0, 10.0, None, 4000)],
)
def test_without_both_ceilings_there_is_no_roof(ceilings: Ceilings) -> None:
    found = placed(Work(8000, 8000, 2000), 1e-7, "cpu", ceilings)
    assert found == {"roof_gflops_per_s": None, "roof_limit": None, "efficiency": None, "above_roof": ""}


@pytest.mark.parametrize(
    ("work", "mode", "path", "words"),
    [
        (Work(80000, 80000, 2000), "cpu_cold", "Mkldnn", COUNTING),
        (Work(8000, 8000, 2000), "cpu_cold", "Mkldnn", COUNTING),
        (Work(80000, 80000, 2000), "cpu", "Slow2d", "the ceiling was measured too low, or a counting error?"),
        (
            Work(80000, 80000, 2000),
            "cpu_cold",
            "Winograd3x3Depthwise",
            "Winograd3x3Depthwise does fewer operations",
        ),
        (Work(80000, 80000, 2000), "gpu_hot", "Cudnn", "Cudnn does not say its algorithm: Winograd and FFT"),
        (Work(80000, 80000, 2000), "cpu", "", "its algorithm is not known: Winograd and FFT do fewer"),
        (Work(8000, 8000, 2000), "cpu", "Mkldnn", "its operands were in a cache in part"),
        (Work(8000, 8000, 1000), "cpu", "Mkldnn", "the ceiling was measured too low"),
        (Work(1000, 1000, 1000), "cpu", "Mkldnn", "its operands were in a cache that is faster"),
        (Work(0, 0, 2000), "cpu_cold", "", "what it wrote is still in a cache"),
        (
            Work(80000, 20000, 2000),
            "cpu_cold",
            "Mkldnn",
            "products on padding are counted, and need not be made",
        ),
    ],
)
def test_what_lies_above_the_roof_is_kept_and_explained(work: Work, mode: str, path: str, words: str) -> None:
    ceilings = CEILINGS._replace(cache_bytes=0) if mode.endswith("cold") else CEILINGS
    at_the_roof = max(work.flops / 100e9, work.bytes / (50e9 if work.bytes <= ceilings.cache_bytes else 10e9))
    found = placed(work, at_the_roof / 2, mode, ceilings, path)
    assert found["efficiency"] > 1
    assert found["above_roof"].startswith(words)


def test_padding_is_no_excuse_for_more_than_its_products() -> None:
    """A quarter of the products are needed: a fifth of the time is too little, and so is too little for the bytes."""
    work = Work(80000, 20000, 2000)
    assert placed(work, 8e-7 / 5, "cpu_cold", CEILINGS, "Mkldnn")["above_roof"] == COUNTING
    heavy = Work(8000, 2000, 2000)
    assert placed(heavy, 1e-7, "cpu_cold", CEILINGS, "Mkldnn")["above_roof"] == COUNTING


# What is measured


def test_each_dtype_has_three_ceilings_which_are_the_best() -> None:
    desk, found = measured(
        Plan("torch", dtypes=("float32", "float64"), variants=("plain", "bfloat16")), Machine()
    )
    assert [(one["dtype"], one["limit"]) for one in found] == [
        (dtype, limit) for dtype in ("float32", "float64", "bfloat16") for limit in (COMPUTE, MEMORY, CACHE)
    ]
    for one in found:
        assert (one["kind"], one["mode"], one["threads"], len(one["samples"])) == ("roof", "cpu", 1, 20)
    best = Ceilings(2**37 / 1e9, 2**33 / 1e9, 2**36 / 1e9, SMALL_CACHE)
    assert {Ceilings.of(desk.roofs, dtype) for dtype in ("float32", "float64", "bfloat16")} == {best}
    hows = {one["limit"]: one["how"] for one in found}
    assert hows == {
        COMPUTE: "matrix product of 512 x 512 by 512 x 512",
        MEMORY: "triad of 256 KiB",
        CACHE: "triad within 4 KiB",
    }
    assert not any("samples" in one for one in desk.roofs)


def test_the_ceiling_is_the_shortest_sample() -> None:
    _, found = measured(Plan("torch"), Simulated(lambda name: 1.0))
    for one in found:
        assert one["t_min_s"] == min(sample for _, sample in one["samples"])
        rate = one["gflops_per_s"] if one["limit"] == COMPUTE else one["gbytes_per_s"]
        assert rate > 0


def test_the_products_of_onednn_are_a_ceiling_where_they_are_faster() -> None:
    desk, found = measured(Plan("torch", dtypes=("float32", "float64")), Machine(onednn=2**38))
    assert Ceilings.of(desk.roofs, "float32").compute == 2**38 / 1e9
    assert found[0]["how"] == "matrix product of 128 x 128 by 128 x 128 in oneDNN"
    assert Ceilings.of(desk.roofs, "float64").compute == 2**37 / 1e9
    call: Any = next(
        one for one in Operands("cpu", 1).candidates("float32", COMPUTE) if "oneDNN" in one.how
    ).made()
    a, b = tensors(call)
    exact = a.double() @ b.double().T
    error = (call().to_dense().double() - exact).abs().max().item()
    assert error <= 128 * 2.0**-24 * exact.max().item() * (1 + 2.0**-10)


def test_what_takes_too_long_is_not_tried() -> None:
    """A product of 128 x 128 takes 0.1 s: one of 256 x 256 would take 0.8, and there is a second for all."""

    class Slow(Simulated):
        def sample(self, call: Any, count: int) -> float:
            assert call.func is not torch.mm or call.args[0].shape[0] == 128
            return 0.1

    _, found = measured(Plan("torch"), Slow(lambda name: 1.0), seconds=3.0)
    assert found[0]["tried"] == ["matrix product of 128 x 128 by 128 x 128"]


def test_what_the_budget_leaves_out_is_told() -> None:
    ticks = iter(range(10**6))
    _, found = measured(
        Plan("torch"), Simulated(lambda name: 1.0), seconds=4.0, now=lambda: float(next(ticks))
    )
    assert [one["kind"] for one in found] == ["roof", "cut", "cut"]
    assert [(one["layer"], one["reason"]) for one in found[1:]] == [
        ("roof of float32, memory", "the budget was spent"),
        ("roof of float32, cache", "the budget was spent"),
    ]


def test_a_dtype_that_has_no_products_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise RuntimeError("no kernel for this\nat a place")

    monkeypatch.setattr(Operands, "_product", refuse)
    _, found = measured(Plan("torch", dtypes=("float16",)), Machine())
    assert found[0] == {"kind": "cut", "layer": "roof of float16, compute", "reason": "no kernel for this"}
    assert [one["limit"] for one in found[1:]] == [MEMORY, CACHE]


def test_smoke_calls_and_times_nothing() -> None:
    desk, found = measured(Plan("torch", smoke=True), Refusing(), seconds=0.0)
    assert [(one["mode"], one["limit"]) for one in found] == [
        ("smoke", limit) for limit in (COMPUTE, MEMORY, CACHE)
    ]
    assert not any({"t_min_s", "gflops_per_s", "gbytes_per_s"} & one.keys() for one in found)
    assert "triad of 256 KiB" in found[1]["tried"]
    assert desk.roofs == []


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_no_data_are_ever_zeros(dtype: str) -> None:
    operands = Operands("cpu", SMALL_CACHE)
    for limit in (COMPUTE, MEMORY, CACHE):
        for one in operands.candidates(dtype, limit):
            if one.amount <= 2**25:
                call: Any = one.made()
                for _ in range(7):
                    call()
                    for tensor in tensors(call):
                        assert bool(torch.isfinite(tensor).all())
                        assert torch.count_nonzero(tensor) == tensor.numel(), one.how


def test_bytes_are_those_that_a_way_reads_and_writes() -> None:
    found = {one.how: one.amount for one in Operands("cpu", SMALL_CACHE).candidates("float32", MEMORY)}
    one = 4 * SMALL_CACHE
    assert found == {"copy of 256 KiB": 2 * one, "triad of 256 KiB": 3 * one, "sum of 256 KiB": one}


def test_on_cuda_float32_has_a_ceiling_of_tensorfloat_as_well() -> None:
    assert roofs.dtypes(Plan("torch", device="cuda")) == ["float32", "tf32"]
    assert roofs.dtypes(Plan("torch", device="cuda", dtypes=("bfloat16",))) == ["bfloat16"]
    assert roofs.dtype_of("float32", "channels_last+tf32") == "tf32"
    assert roofs.dtype_of("float32", "channels_last") == "float32"


def test_ceilings_are_not_measured_with_cold_caches() -> None:
    class Unasked(Refusing):
        mode = "cpu_cold"

    desk = Desk(Plan("torch", cold=True), [Unasked(), Machine()])
    assert {one["mode"] for one in roofs.entries(desk, math.inf)} == {"cpu"}


# Rows


def rows(words: dict[str, Any], *given: Any) -> list[Any]:
    plan = Plan("torch", **{"only": ("conv2d", "sigmoid"), "networks": ("lenet5",), "seconds": 1e9, **words})
    return [one for one in Session(plan, timers=given).entries() if one["kind"] == "row"]


def test_rows_lie_below_the_roofs_of_their_run() -> None:
    for row in rows({}, Machine(1e-3)):
        flops, moved = (row[name] for name in ("flops", "bytes_compulsory"))
        bandwidth = 2**36 if moved <= SMALL_CACHE else 2**33
        assert row["roof_limit"] == (COMPUTE if flops / 2**37 > moved / bandwidth else CACHE)
        assert (row["efficiency"] < 1, row["above_roof"]) == (True, "")
        assert (row["roof_gflops_per_s"] is None) == (row["operator"] == "sigmoid")
    for row in rows({"parts": ("layers",)}, Machine(1e-3)):
        assert (row["efficiency"], row["roof_limit"]) == (None, None)


def miscounted(counted: Callable[..., Work]) -> Callable[..., Work]:
    """Return a count that is wrong by a factor."""

    def wrong(*args: Any) -> Work:
        found = counted(*args)
        return Work(10**6 * found.flops, 10**6 * found.flops_effective, found.bytes)

    return wrong


@pytest.mark.parametrize("mode", ["cpu", "cpu_cold"])
def test_a_wrong_count_of_a_direct_algorithm_is_told_where_caches_are_cold(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [Machine(1e-3), *[ColdMachine(1e-3)] * (mode == "cpu_cold")]

    def complaints() -> tuple[list[Any], list[str]]:
        found = rows({"only": ("conv2d",), "cold": mode != "cpu"}, *given)
        run = record.Run({"target": "torch", "against": ""})
        run.rows.extend(found)
        return found, exports.complaints(run)

    assert complaints()[1] == []
    monkeypatch.setattr(layers, "work", miscounted(work))
    found, told = complaints()
    assert all(row["efficiency"] > 1 and row["above_roof"] for row in found)
    assert {row["path"] for row in found} == {"Mkldnn"}
    assert len(told) == (2 if mode == "cpu_cold" else 0)
    assert all(line.endswith(COUNTING) and " of the roof: " in line for line in told)


# Cold calls


def test_the_filler_is_twice_the_last_level_cache_and_is_written() -> None:
    fill: Any = Cold().fill
    (buffer,) = (fill.func.__self__,)
    assert buffer.numel() * buffer.element_size() == 2 * SMALL_CACHE
    before = buffer.clone()
    fill()
    assert bool((buffer != before).all())


def test_cold_calls_are_timed_beside_warm_ones_where_they_are_asked_for() -> None:
    assert [one.mode for one in Desk(Plan("torch", cold=True)).timers] == ["cpu", "cpu_cold"]
    assert [one.mode for one in Desk(Plan("torch")).timers] == ["cpu"]
    assert cold_timers("cuda") == ()

    found = rows({"only": ("sigmoid",), "cold": True}, Machine(1e-5), ColdMachine(1e-5))
    assert [row["mode"] for row in found] == ["cpu", "cpu_cold"] * 4
    for row in found:
        assert (row["calls_per_sample"] == MOST) == (row["mode"] == "cpu_cold")
        assert row["calls_per_sample"] >= MOST


def test_a_fresh_process_times_cold_calls() -> None:
    request = {"target": "torch", "only": [], "device": "cpu", "threads": 1, "source_sha256": ""}
    call = {"case": "relu(input=(2, 3))", "variant": "plain", "direction": "forward", "mode": "cpu_cold"}
    source = record.source_sha256("torch")
    first, second = answers([request | call | {"source_sha256": source}, {"count": 1000}])
    assert first["seconds"] > 0
    assert second["seconds"] > 0
