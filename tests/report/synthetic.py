"""Made-up runs: small ones to the last digit, one that tells a story, and one of 10 000 cells."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

Entry = dict[str, Any]

HOSTILE = "</script><img src=x onerror=alert(1)>"
BAD = ("fail", "xfail", "flaky", "crash", "timeout", "harness")
OPERATORS = (
    *("conv1d", "conv2d", "conv3d", "max_pool1d", "max_pool2d", "max_pool3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "pad", "linear", "flatten"),
    *("relu", "sigmoid", "tanh", "softmax", "log_softmax", "add", "concat"),
)
DTYPES = ("float64", "float32", "bfloat16", "float16")
LAWS = ("forward", "gradient", "linear", "shift", "batch", "adjoint", "layout", "repeat")
MODELS = {"float32": "direct float32", "bfloat16": "bf16 in, fp32 accumulate"}
EXPECTATION = {"reason": "rounds twice", "link": "https://example.org/7"}
ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux-6.1-x86_64",
    "torch": "2.13.0+cpu",
    "numpy": "2.2.1",
    "cpu_capability": "AVX512",
    "threads": 1,
    "mkldnn": True,
}


def header(**changes: Any) -> Entry:
    """The first line of a run."""
    torch = {"name": "torch", "description": "torch.nn.functional", "device": "cpu", "models": MODELS}
    mine = {"name": "mykernels.py", "description": "a module of functions", "device": "cpu", "models": {}}
    base = {
        "kind": "header",
        "schema_version": 1,
        "cnnspec": "0.1.0",
        "started_utc": "2026-11-21T09:00:00Z",
        "seed": 0,
        "command": "cnnspec check torch mykernels.py --budget 120s",
        "targets": [torch, mine],
        "operators": list(OPERATORS),
        "dtypes": list(DTYPES),
        "laws": list(LAWS),
        "examples": 150,
        "budget_seconds": 120,
        "isolation": "worker processes",
        "environment": ENVIRONMENT,
        "fingerprint": "1a2b3c4d5e6f",
    }
    return base | changes


def end(**changes: Any) -> Entry:
    """The last line of a run."""
    base = {"kind": "end", "finished_utc": "2026-11-21T09:01:33Z", "seconds": 93.1, "interrupted": False}
    return base | changes


def case_line(operator: str, dtype: str, index: int) -> str:
    """A case line of the usual length."""
    return (
        f"{operator}(in_channels=3, out_channels=4, kernel_size=(3, 2), stride=2, padding={index % 3}, "
        f"dilation=1, groups=1, bias=True, input=(2, 3, 5, {index % 11 + 4}), dtype='{dtype}', "
        f"regime='integers', seed={index})"
    )


def row(status: str = "pass", **changes: Any) -> Entry:
    """One row; a status that needs a reason or a counterexample has one."""
    operator = changes.get("operator", "conv2d")
    dtype = changes.get("dtype", "float32")
    index = changes.get("index", 17)
    base: Entry = {
        "kind": "row",
        "operator": operator,
        "backend": "torch",
        "device": "cpu",
        "dtype": dtype,
        "law": "forward",
        "index": index,
        "case": case_line(operator, dtype, index),
        "regime": "integers",
        "status": status,
        "seconds": 0.0012,
        "discriminating": True,
        "ratio": 0.31,
        "ulps": 0.5,
        "model": "direct float32",
        "histogram": {"exact": 40, "-3": 5, "-2": 1},
        "reason": "",
    }
    if status in ("unsupported", "skip", "xfail", "xpass", "vacuous"):
        base["reason"] = f"the reason of {status}"
    if status in ("unsupported", "skip"):
        base |= {"ratio": None, "ulps": None, "model": None, "histogram": None}
    if status in BAD:
        base |= counterexample(status, base | changes)
    return base | changes


def counterexample(status: str, base: Mapping[str, Any]) -> Entry:
    """What a row that is no pass carries besides."""
    name = f"{base['operator']}-{base['backend']}-{base['dtype']}-{base['law']}-{status}1a"
    common: Entry = {"failure_id": name, "reproducer": f"{name}.py"}
    if status in ("crash", "timeout", "harness"):
        return common | _broken_off(status)
    return common | {
        "message": "output[0, 1, 2, 3] is 2.0, but should be 3.0 exactly: 12 of 60 elements differ",
        "worst_index": [0, 1, 2, 3],
        "expected": "0x1.8p+1",
        "actual": "0x1.0p+1",
        "error": "0x1.0p+0",
        "bound": "0x1.cp-6",
        "ratio": 36.571428571428573,
        "wrong_elements": 12,
        "elements": 60,
        "minimal_case": f"{base['operator']}(in_channels=1, out_channels=1, kernel_size=(1, 2), "
        f"padding=(0, 1), input=(1, 1, 2, 2), dtype='{base['dtype']}', regime='integers', seed=17)",
        "looks_like": "consistent with padding on the wrong axis",
        "histogram": {"exact": 40, "-3": 8, "0": 1, "5": 11},
        "expectation": EXPECTATION if status == "xfail" else None,
        "operands": {
            "input": {
                "shape": [1, 1, 2, 2],
                "dtype": base["dtype"],
                "layout": "contiguous",
                "values": ["0x1.0p+0", "-0x1.8p+1", "0x0.0p+0", "0x1.999999999999ap-4"],
            },
            "weight": {
                "shape": [1, 1, 1, 2],
                "dtype": base["dtype"],
                "layout": "transposed",
                "values": ["0x1.0p+1", "-0x1.0p+0"],
            },
        },
    }


def _broken_off(status: str) -> Entry:
    frames = "".join(f'  File "kernel.py", line {n}, in frame_{n}\n    step({n})\n' for n in range(60))
    messages = {"crash": "the worker died with signal SIGSEGV", "timeout": "no answer within 10 s"}
    return {
        **dict.fromkeys(("worst_index", "expected", "actual", "error", "bound", "ratio", "histogram")),
        "message": messages.get(status, "the shrinker raised IndexError"),
        "minimal_case": None,
        "traceback": f"Traceback (most recent call last):\n{frames}IndexError: 60",
    }


def script(name: str) -> str:
    """A reproducer of the usual length."""
    lines = [f'"""Reproduces {name}."""', "import sys", "import torch", "", f"NOTE = {HOSTILE!r}"]
    return "\n".join(
        [*lines, *(f"x{n} = torch.tensor([{n}.0, {n}.5])" for n in range(25)), "sys.exit(1)", ""]
    )


def scripts_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A reproducer for every row that names one."""
    return {name: script(name) for entry in entries if (name := entry.get("reproducer"))}


def passing(dice: random.Random, **changes: Any) -> Entry:
    """One passing row with a plausible histogram."""
    top = dice.randint(-6, -1)
    bins = {str(top - depth): max(1, int(400 * 0.6**depth * dice.random())) for depth in range(8)}
    index, seconds, ratio = dice.randrange(1000), dice.random() / 100, 2.0**top * (1 + dice.random())
    histogram = {"exact": dice.randrange(200, 900), **bins}
    return row(index=index, seconds=seconds, ratio=ratio, histogram=histogram, **changes)


def story() -> list[Entry]:
    """Two targets, with every status that a person may meet, `harness` excepted."""
    dice = random.Random(7)
    lines: list[Entry] = []
    for operator in OPERATORS:
        for backend in ("torch", "mykernels.py"):
            for dtype in DTYPES:
                for law in LAWS[: 8 if operator.startswith("conv") else 5]:
                    place = {"operator": operator, "backend": backend, "dtype": dtype, "law": law}
                    if backend == "mykernels.py" and not operator.startswith(("conv", "relu", "max")):
                        lines.append(never_ran("unsupported", **place))
                    else:
                        lines += [passing(dice, **place) for _ in range(4)]
        lines.append(never_ran("skip", operator=operator, device="cuda"))
    mine = {"backend": "mykernels.py"}
    off = {"message": "grad_weight[1, 0, 6] is off by 36.6 times its bound", "worst_index": [1, 0, 6]}
    lines += [
        *(row("fail", **mine, index=n) for n in range(3)),
        row("fail", **mine, **off, dtype="bfloat16", law="gradient", operator="conv1d", operands=None),
        row("crash", **mine, operator="max_pool3d", dtype="float16", law="layout"),
        row("timeout", **mine, operator="conv3d", dtype="float64", law="forward"),
        row("flaky", **mine, operator="relu", dtype="float32", law="repeat"),
        row("xfail", operator="log_softmax", dtype="float16"),
        row("xpass", operator="avg_pool2d", dtype="bfloat16", law="batch"),
        row(operator="flatten", law="layout", discriminating=False),
        {"kind": "cut", "operator": "conv3d", "dtype": "float64", "ran": 40, "of": 150},
    ]
    return [header(), *lines, end()]


def paths() -> list[Entry]:
    """Kernels of which one keeps its model, one breaks it, and one breaks it where numbers are not finite."""
    slow = {"path": "Slow2d", "dtype": "float16", "law": "backward"}
    broken = {"path": "Nnpack<Spatial>", "backend": "torch-native"}
    odd = {"path": "SlowTranspose2d", "law": "backward", "expected": "0x0.0p+0", "actual": "nan"}
    lines = [
        *(row(path="Mkldnn", ratio=ratio) for ratio in (0.25, 0.75, None)),
        row(path="Mkldnn", law="double_backward", ratio=0.0),
        row(**slow, ratio=0.5),
        row("xfail", **slow, reproducer=None, ratio=3.0),
        row("xfail", **slow, reproducer="slow.py", ratio=2.0),
        row("fail", **broken, ratio="inf", reproducer="a b.py"),
        row("xfail", **odd, ratio="inf", reproducer=None),
        row(path="SlowTranspose2d", law="backward", ratio=0.125),
        # neither was judged by an error model, or called at all
        row("fail", path="Mkldnn", law="linearity"),
        row("xfail", **slow, message="", reason="not called: it crashes", ratio=None),
        row("unsupported", path="Mkldnn"),
        row("crash", path="Mkldnn"),
        row("fail"),
    ]
    return [header(), *lines, end()]


def never_ran(status: str, **changes: Any) -> Entry:
    """A cell without a case."""
    base = {"kind": "cell", "operator": "conv2d", "backend": "torch", "device": "cpu", "dtype": "float32"}
    return base | {"law": "forward", "status": status, "reason": f"the reason of {status}"} | changes


def large(cells: int = 10_000, failures: int = 50) -> list[Entry]:
    """A run of many cells with as many distinct failures as asked for, one row in each cell."""
    dice = random.Random(0)
    lines = []
    for number in range(cells):
        law, rest = LAWS[number % 8], number // 8
        dtype, rest = DTYPES[rest % 4], rest // 4
        backend, rest = f"backend{rest % 8}", rest // 8
        operator = f"{OPERATORS[rest % len(OPERATORS)]}_{rest // len(OPERATORS)}"
        place = {"operator": operator, "dtype": dtype, "law": law, "backend": backend}
        failing = number % (cells // failures) == 0 and number // (cells // failures) < failures
        lines.append(row("fail", **place) if failing else passing(dice, **place))
    return [header(), *lines, end()]


def hostile() -> list[Entry]:
    """A run in which every string that a stranger may choose is markup."""
    place = {"operator": HOSTILE, "backend": HOSTILE, "device": HOSTILE, "dtype": HOSTILE, "law": HOSTILE}
    strings = {
        "case": HOSTILE,
        "model": HOSTILE,
        "reason": HOSTILE,
        "message": HOSTILE,
        "looks_like": HOSTILE,
        "explanation": HOSTILE,
    }
    strings |= {"minimal_case": HOSTILE, "traceback": HOSTILE, "expected": HOSTILE, "actual": HOSTILE}
    strings |= {"failure_id": HOSTILE, "reproducer": HOSTILE}
    operand = {"shape": [2], "dtype": HOSTILE, "layout": HOSTILE, "values": [HOSTILE, HOSTILE]}
    nested = {
        "operands": {HOSTILE: operand},
        "expectation": {"reason": HOSTILE, "link": f"javascript:{HOSTILE}"},
        "histogram": {"exact": 1, "-2": 3, HOSTILE: 5},
        "worst_index": HOSTILE,
    }
    target = {"name": HOSTILE, "description": HOSTILE, "device": HOSTILE, "models": {HOSTILE: HOSTILE}}
    words = ("command", "cnnspec", "isolation", "fingerprint", "started_utc", "seed", "examples")
    first = header(targets=[target], environment={HOSTILE: HOSTILE}, **dict.fromkeys(words, HOSTILE))
    rows = [row(status, **place, **strings, **nested) for status in ("fail", "xfail", "crash", "xpass")]
    rows += [row("pass", **{**place, "law": "other"}, **strings), row("unsupported", reason=HOSTILE, law="x")]
    cut = {"kind": "cut", "operator": HOSTILE, "dtype": HOSTILE, "ran": HOSTILE, "of": HOSTILE}
    return [first, *rows, never_ran("skip", reason=HOSTILE, law="y"), cut, {"kind": HOSTILE}]
