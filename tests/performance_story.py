"""Made-up runs of every kind: a whole one, one in hostile strings, one that lacks almost everything."""

import math

from tests.performance_run import (
    CEILINGS,
    HOSTILE,
    Entry,
    alone,
    batch,
    comparisons,
    control,
    counter,
    curve,
    cut,
    end,
    engine,
    failed,
    network,
    roof,
    row,
    shares,
)


def story() -> list[Entry]:
    """Entries of every kind."""
    entries = [roof(limit, dtype) for dtype in ("float32", "bfloat16") for limit in CEILINGS]
    entries += [
        control(),
        cut("Conv2d(3, 64, 7) on 1x3x224x224"),
        cut("linear over features"),
        cut("roof", "no memory"),
    ]
    entries += comparisons(40)
    lower = {"variant": "bfloat16", "dtype": "bfloat16", "target": "torch bfloat16", "error_over_bound": 0.75}
    entries += comparisons(75, 1, **lower)
    above = {"efficiency": 1.2, "above_roof": "Winograd3x3 does fewer operations than are counted"}
    entries += [
        row(0.5, "FAST", layer="Conv2d(128, 128, 3) on 1x128x28x28", gflops_per_s=120.0, intensity=70.0)
        | above
    ]
    entries += [
        failed(),
        failed(layer="ReLU() on 1x64x56x56", operator="relu"),
        alone(operator="add", efficiency=0.4),
    ]
    entries += [
        alone(
            3e-5,
            operator="relu",
            flops=0,
            intensity=0.0,
            gflops_per_s=0.0,
            efficiency=0.5,
            layer="ReLU() on 1x64x7x7",
        )
    ]
    unsupported = {"conformance": "unsupported", "verdict": None, "mode": "", "note": "only on Tuesdays"}
    entries += [
        {**failed(layer="Softmax(1) on 1x1000", operator="softmax"), **unsupported, "failing_case": ""}
    ]
    entries += _curves() + _batches() + _networks()
    entries += [engine("8x64x56x56 * 64x64x3x3, float32", 1.7, 2.0), engine("the same with S", 3.0, 2.5)]
    entries += [engine("A/A", 1.0, None), engine("8x512x7x7", 2.51, 2.5), engine("float64", 2.45, 2.5)]
    entries += [counter("torchinfo", 312.0), counter("fvcore", 1801.0, call="sum up")]
    missing = {
        "kind": "counter",
        "counter": "thop",
        "call": "",
        "mode": "",
        "note": "MISSING: No module named 'thop'",
    }
    return [*entries, missing, end()]


def _curves() -> list[Entry]:
    entries: list[Entry] = []
    for target, factor in (("torch", 1.0), ("mykernels.py", 2.5)):
        sizes = [2**n for n in range(10)]
        entries += [curve("batch", n, factor * (2e-3 + 5e-4 * n), target=target) for n in sizes]
        line = {
            "a_s": factor * 2e-3,
            "b_s": factor * 5e-4,
            "n_half": 4.0,
            "per_second": 2000 / factor,
            "note": "",
        }
        told = {
            "kind": "fit",
            "curve": "conv2d over batch",
            "axis": "batch",
            "target": target,
            "kind_of_fit": "line",
        }
        entries += [told | {"dtype": "float32", "mode": "cpu"} | line]
    for axis, values in (("channels", (1, 4, 16, 64, 256, 1024)), ("image", (7, 14, 28, 56, 112, 224, 512))):
        jump = {value: 3.0 if value >= 64 else 1.0 for value in values}
        entries += [curve(axis, n, 1e-6 * n**2 * jump[n] + 2e-5) for n in values]
    entries += [curve("kernel", n, 1e-5 * n**2) for n in (1, 3, 5, 7, 9, 11)]
    entries += [curve("threads", n, 1e-2 / n**0.8) for n in (1, 2, 4, 8)]
    entries[-1]["conformance"] = "not judged: 40000000 elements are more than 20000000"
    told = {
        "kind": "fit",
        "curve": "conv2d over channels",
        "axis": "channels",
        "target": "torch",
        "kind_of_fit": "slopes",
    }
    slopes = {
        "slopes": [[1, 4, 0.4], [4, 16, 1.2], [16, 64, 2.7], [64, 256, 2.0]],
        "switches": [16],
        "note": "",
    }
    return [*entries, told | slopes]


def _batches() -> list[Entry]:
    sizes = (1, 2, 4, 16, 64, 256, 1024, 2500)
    entries = [batch("model", n, 6.01e6 * n / (6e6 + 1e4 * n), target="", mode="model") for n in sizes]
    entries += [batch("lecture", n, 1 + 1.9 * math.log10(n)) for n in sizes]
    entries += [batch("fair", n, 1 + 1.2 * math.log10(n)) for n in sizes[:-1]]
    return [*entries, batch("fair", 2500, 9.0, agree=False, note="output [3] is 2 bounds off")]


def _networks() -> list[Entry]:
    entries: list[Entry] = []
    for place, net in enumerate(("lenet5", "resnet18", "densenet121")):
        entries += [network(net, n, (0.01 + 0.004 * n) * (place + 1)) for n in (1, 2, 4, 8, 16)]
    wrong = network("vgg16", 1, 0.1, conformance="fail", note="image 2 is 40 bounds off", best=False)
    entries.append(wrong | dict.fromkeys(("images_per_s", "peak_memory_bytes", "efficiency"), None))
    entries += shares("lenet5", conv2d=0.5, linear=0.3, max_pool2d=0.15, relu=0.05)
    return entries + shares(
        "resnet18", conv2d=0.82, batch_norm=0.1, relu=0.04, max_pool2d=0.02, linear=0.01, add=0.01
    )


def awkward() -> list[Entry]:
    """One entry of each kind, with nulls and gaps in place of most numbers."""
    kinds = (
        "control",
        "row",
        "roof",
        "curve",
        "fit",
        "batch",
        "network",
        "share",
        "engine",
        "counter",
        "cut",
        "end",
    )
    names = (
        "ratio",
        "t_median_s",
        "verdict",
        "conformance",
        "part",
        "speedup",
        "value",
        "N",
        "net",
        "dtype",
        "slopes",
    )
    return [{"kind": kind} for kind in kinds] + [
        {"kind": kind, **dict.fromkeys(names)} for kind in kinds[:-1]
    ]


def hostile() -> list[Entry]:
    """The story, told in strings that want out of the page."""
    kept = (
        "kind",
        "mode",
        "conformance",
        "against_conformance",
        "verdict",
        "axis",
        "roof_limit",
        "limit",
        "kind_of_fit",
    )
    return [
        {name: HOSTILE if isinstance(one, str) and name not in kept else one for name, one in entry.items()}
        for entry in story()
    ]
