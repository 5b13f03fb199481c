"""Entries of made-up runs of benchmarks, one function for each kind, and runs that hold them."""

import math
import random
from collections.abc import Iterable
from typing import Any

from cnnspec.bench.record import Run

Entry = dict[str, Any]

HOSTILE = "</script><img src=x onerror=1>"
OPERATORS = ("conv2d", "relu", "batch_norm", "max_pool2d", "linear", "add", "softmax", "avg_pool2d")
CASE = "relu(input=(1, 2))"
CEILINGS = {"compute": 90.0, "memory": 10.0, "cache": 40.0}


def header(**changes: Any) -> Entry:
    """The first line of a run."""
    base = {
        "kind": "header",
        "schema_version": 1,
        "cnnspec": "0.1.0",
        "started_utc": "2026-11-21T09:00:00Z",
        "command": "cnnspec bench torch --variant channels_last bfloat16 --measure all",
        "target": "torch",
        "against": "",
        "device": "cpu",
        "threads": 1,
        "seed": 0,
        "seconds": 600.0,
        "case_seconds": 10.0,
        "delta": 0.03,
        "smoke": False,
        "networks": ["lenet5", "resnet18"],
        "looks": [20, 40, 80, 160],
        "environment": {
            "processor": "AMD EPYC",
            "torch": "2.13.0+cpu",
            "governor": "performance",
            "threads": 1,
        },
        "fingerprint": "1a2b3c4d5e6f",
        "affinity": [3],
        "before": {"load": 0.5, "clock_resolution_s": 1e-9},
    }
    return base | changes


def end(**changes: Any) -> Entry:
    """The last line of a run."""
    base = {"kind": "end", "finished_utc": "2026-11-21T09:10:00Z", "after": {"load": 1.25}, "fit": True}
    return base | {"interrupted": False} | changes


def times(seconds: float, width: float = 0.02) -> Entry:
    """The times of a call."""
    return {
        "t_median_s": seconds,
        "t_min_s": 0.97 * seconds,
        "t_iqr_s": 0.04 * seconds,
        "t_ci95_lo_s": (1 - width) * seconds,
        "t_ci95_hi_s": (1 + width) * seconds,
        "calls_per_sample": 3,
    }


def ratio(value: float, verdict: str, width: float = 0.02) -> Entry:
    """A ratio with its interval."""
    return {
        "pairs": 40,
        "ratio": value,
        "ratio_ci_lo": value * (1 - width),
        "ratio_ci_hi": value * (1 + width),
        "ratio_confidence": 0.995,
        "delta": 0.03,
        "autocorrelation": 0.1,
        "verdict": verdict,
        "complete": True,
    }


def control(verdict: str = "SAME", value: float = 1.001, **changes: Any) -> Entry:
    """A call that was held against itself."""
    base = {"kind": "control", "case": CASE, "layer": "ReLU() on 1x2", "target": "torch", "against": "torch"}
    told = {"direction": "forward", "mode": "cpu", "fit": verdict == "SAME"}
    return base | told | times(1e-3) | ratio(value, verdict, 0.005) | changes


def row(value: float = 1.0, verdict: str = "SAME", **changes: Any) -> Entry:
    """A comparison of a variant with the target as it is."""
    flops, moved = 2_000_000, 400_000
    seconds = changes.pop("seconds", 1e-3)
    base: Entry = {
        "kind": "row",
        "case": CASE,
        "layer": "Conv2d(64, 64, 3, padding=1, bias=False) on 1x64x56x56",
        "operator": "conv2d",
        "dtype": "float32",
        "variant": "channels_last",
        "direction": "forward",
        "target": "torch channels_last",
        "against": "torch",
        "places": ["resnet18 layer1.0.conv1"],
        "provenance": "resnet18 layer1.0.conv1 and 3 more",
        "flops": flops,
        "flops_effective": flops,
        "bytes_compulsory": moved,
        "intensity": flops / moved,
        "conformance": "pass",
        "error_over_bound": 0.25,
        "path": "Mkldnn",
        "note": "",
        "failing_case": "",
        "against_conformance": "pass",
        "against_error_over_bound": 0.125,
        "mode": "cpu",
        "gflops_per_s": flops / seconds / 1e9,
        "gbytes_per_s": moved / seconds / 1e9,
        "roof_gflops_per_s": 50.0,
        "roof_limit": "memory",
        "efficiency": flops / seconds / 5e10,
        "above_roof": "",
    }
    against = {f"against_{name}": one for name, one in times(seconds / value).items()}
    return base | times(seconds) | against | ratio(value, verdict) | changes


def failed(**changes: Any) -> Entry:
    """A comparison whose candidate is wrong: it has no number."""
    base = row(1.0, "INVALID", conformance="fail", note="output [0, 1] is 3 bounds off", failing_case=CASE)
    numbers = [name for name in base if name.startswith(("t_", "against_t_", "ratio", "g"))]
    return {name: one for name, one in base.items() if name not in numbers} | {"mode": ""} | changes


def alone(seconds: float = 1e-3, **changes: Any) -> Entry:
    """A call that is compared with none."""
    found = row(1.0, "SAME", seconds=seconds, variant="plain", target="torch", against="")
    dropped = [name for name in found if name.startswith(("against_", "ratio"))]
    return {name: one for name, one in found.items() if name not in dropped} | {"verdict": None} | changes


def roof(limit: str, dtype: str = "float32", **changes: Any) -> Entry:
    """A measured ceiling."""
    rate = {"gflops_per_s" if limit == "compute" else "gbytes_per_s": CEILINGS[limit]}
    base = {"kind": "roof", "dtype": dtype, "threads": 1, "limit": limit, "how": f"a way to reach {limit}"}
    return base | {"mode": "cpu", "cache_bytes": 2**20} | times(1e-2) | rate | changes


def curve(axis: str, value: float, seconds: float, **changes: Any) -> Entry:
    """A point of a curve."""
    flops = 1_000_000 * value ** {"batch": 1, "threads": 0}.get(axis, 2)
    base = {
        "kind": "curve",
        "curve": f"conv2d over {axis}",
        "axis": axis,
        "value": value,
        "operator": "conv2d",
    }
    told = {
        "case": CASE,
        "dtype": "float32",
        "mode": "cpu",
        "target": "torch",
        "conformance": "pass",
        "note": "",
    }
    rates = {
        "threads": 1,
        "flops": flops,
        "bytes_compulsory": 4_000,
        "gflops_per_s": 1.0,
        "gbytes_per_s": 2.0,
    }
    return base | told | rates | times(seconds, 0.06) | changes


def batch(variant: str, count: int, speedup: float | None, **changes: Any) -> Entry:
    """What a batch gains."""
    base = {
        "kind": "batch",
        "experiment": "linear (2500 x 1000 by 1000 x 1500)",
        "operator": "linear",
        "N": count,
    }
    told = {
        "dtype": "float32",
        "threads": 1,
        "variant": variant,
        "target": "torch",
        "mode": "cpu",
        "agree": True,
    }
    moved = {"bytes_batched": 6_000_000 + 10_000 * count, "bytes_loop": 6_010_000 * count, "speedup": speedup}
    lecture = {"context": {"lecture_cpu": 4.6, "lecture_gpu": 144}, "note": ""}
    numbers = ratio(speedup, "SLOW", 0.03) if speedup and variant != "model" else {}
    return base | told | moved | lecture | numbers | changes


def network(net: str, size: int, seconds: float, **changes: Any) -> Entry:
    """A network at one batch."""
    base = {"kind": "network", "net": net, "input": [1, 3, 224, 224], "variant": "plain", "batch": size}
    told = {
        "dtype": "float32",
        "direction": "forward",
        "mode": "cpu",
        "parameters": 11_689_512,
        "flops": 3_628_146_688,
    }
    numbers = {
        "images_per_s": size / seconds,
        "peak_memory_bytes": 2**26 * size,
        "efficiency": 0.4,
        "best": size == 8,
    }
    words = {"conformance": "pass", "checked": "3 images against the exact result", "note": ""}
    return base | told | numbers | words | times(seconds) | changes


def shares(net: str, **parts: float) -> list[Entry]:
    """What a network's time is spent on."""
    told = {"kind": "share", "net": net, "variant": "plain", "direction": "forward", "batch": 1}
    return [
        told | {"operator": name, "part": part, "seconds": part / 50, "calls": 20, "flops": 10_000_000}
        for name, part in parts.items()
    ]


def engine(what: str, value: float, goal: float | None, **changes: Any) -> Entry:
    """The exact engine beside torch."""
    base = {"kind": "engine", "what": what, "against": "torch float64", "target_ratio": goal, "mode": "cpu"}
    return base | times(2e-2) | ratio(value, "SLOW", 0.05) | changes


def counter(name: str, value: float, **changes: Any) -> Entry:
    """Another counter of operations."""
    base = {"kind": "counter", "counter": name, "call": "build and sum up", "mode": "cpu", "note": ""}
    return base | times(0.5) | ratio(value, "SLOW", 0.05) | changes


def cut(what: str, reason: str = "the budget was spent") -> Entry:
    """What was not measured."""
    return {"kind": "cut", "layer": what, "reason": reason}


def run_of(entries: Iterable[Entry], first: Entry | None = None) -> Run:
    """The run that a record of these entries holds."""
    made = Run(first or header())
    for entry in entries:
        made.add(entry)
    return made


def comparisons(count: int, seed: int = 0, **changes: Any) -> list[Entry]:
    """So many comparisons, each its own layer."""
    rng = random.Random(seed)
    found = []
    for place in range(count):
        value = math.exp(rng.gauss(-0.1, 0.25))
        verdict = (
            "SLOW"
            if value > 1.06
            else "FAST"
            if value < 0.94
            else "SAME"
            if abs(value - 1) < 0.01
            else "AMBIGUOUS"
        )
        channels, size = rng.choice((16, 64, 256, 512)), rng.choice((7, 14, 28, 56, 112))
        operator = rng.choice(OPERATORS)
        flops, moved = channels * size**2 * rng.choice((18, 2, 1000)), 8 * channels * size**2
        seconds = max(flops / 6e10, moved / 9e9) * math.exp(abs(rng.gauss(0, 0.8))) + 2e-6
        roofed = min(90.0, 10.0 * flops / moved)
        told: Entry = {
            "flops": flops,
            "bytes_compulsory": moved,
            "intensity": flops / moved,
            "operator": operator,
        }
        told |= {"gflops_per_s": flops / seconds / 1e9, "gbytes_per_s": moved / seconds / 1e9}
        told |= {"roof_gflops_per_s": roofed, "efficiency": flops / seconds / 1e9 / roofed}
        told |= {"roof_limit": "cache" if moved < 2**20 else "memory"}
        if told["efficiency"] > 1:
            told["above_roof"] = "its operands were in a cache in part"
        layer = f"{operator.title()}({channels}, {channels}, 3, number={place}) on 1x{channels}x{size}x{size}"
        found.append(row(value, verdict, seconds=seconds, layer=layer, **told) | changes)
    return found


def small() -> list[Entry]:
    """An entry of each kind, or two where one says nothing."""
    entries = [
        roof("compute"),
        roof("memory"),
        control(),
        row(1.5, "SLOW"),
        cut("Conv2d(3, 64, 7)"),
        counter("fvcore", 9.0),
    ]
    entries += [
        curve("batch", 1, 1e-3),
        curve("batch", 2, 2e-3),
        batch("fair", 2, 1.5),
        engine("A/A", 1.0, None),
    ]
    return [*entries, network("lenet5", 1, 1e-3), *shares("lenet5", conv2d=1.0), end()]
