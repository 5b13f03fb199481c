"""What a run of benchmarks is written as for people and other tools.

perf.csv, summary.md, performance.html, pytest-benchmark's JSON.
"""

import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.roofs import COUNTING
from cnnspec.bench.verdicts import VERDICTS, Interval

NAMES = ("dtype", "variant", "direction", "mode")
"""Columns that are left out where they say the same of every row."""
MOST = 10
"""Complaints that are told one by one."""
CSV, SUMMARY, PYTEST = "perf.csv", "summary.md", "pytest-benchmark.json"
KINDS = ("row", "roof", "curve", "batch", "network", "engine", "counter")
"""Entries that perf.csv holds."""
BESIDE_LAYERS = {
    "curve": ("points of curves", "{curve}, {axis} {value}, of {target}"),
    "batch": ("speed-ups of batches", "{experiment} of {target}, {variant}, N = {N}"),
    "network": ("batches of networks", "{net} of {target}, {variant}, {direction}"),
    "engine": ("ratios of the exact engine", "{what}"),
    "counter": ("ratios to other counters", "{counter}"),
}
"""Entries of the other parts: what their numbers are of, and what one is called."""
HEAD = ("layer", *NAMES, "GFLOP", "ms", "of roof", "against ms", "ratio", "verdict")


def save(run: Run, directory: Path) -> list[str]:
    """Write all files but the record, and a line of the history; returns a sentence for each that is not written."""
    from cnnspec.bench import history
    from cnnspec.report import performance  # it stands higher, and reads what is written here

    history.append(run, directory)
    columns = {name: run.header[name] for name in ("fingerprint", "device", "threads", "seed")}
    rows = [{"kind": kind, **columns, **_flat(one)} for kind in KINDS for one in run.kinds[kind]]
    pd.DataFrame(rows).to_csv(directory / CSV, index=False, lineterminator="\n")
    (directory / SUMMARY).write_text(summary(run), encoding="utf-8", newline="\n")
    problems = performance.save(run, directory)
    if importlib.util.find_spec("pytest_benchmark") is None:
        return [
            *problems,
            f"{PYTEST} is not written: it needs pytest-benchmark, which comes with cnnspec[bench]",
        ]
    from cnnspec.bench.interchange import pytest_benchmark

    (directory / PYTEST).write_text(pytest_benchmark(run, directory), encoding="utf-8", newline="\n")
    return problems


def frame(run: Run) -> pd.DataFrame:
    """Return the table that is printed, the slowest ratio first; no number where a side fails conformance."""
    rows = sorted(run.rows, key=lambda row: -(row.get("ratio") or math.inf))
    columns = [_cells(row) for row in rows]
    table = pd.DataFrame(columns, columns=list(HEAD))
    given = {name: {*table[name]} - {""} for name in HEAD}
    return table[[name for name in HEAD if given[name] and (name not in NAMES or len(given[name]) > 1)]]


def verdict_line(run: Run) -> str:
    """Return the numbers of verdicts on layers, of what else was timed, and of what has no number."""
    verdicts = Counter(row["verdict"] for row in run.rows)
    numbers = {word: verdicts[word] for word in VERDICTS}
    numbers["timed alone"] = sum(row["verdict"] is None for row in run.timed)
    for kind, (words, _) in BESIDE_LAYERS.items():
        numbers[words] = sum(bool(one.get("t_median_s")) for one in run.kinds[kind])
    others = [one for kind in BESIDE_LAYERS for one in run.kinds[kind]]
    everything = [*run.rows, *others]
    numbers["not ranked"] = sum(
        one.get("conformance") == "fail" or one.get("agree") is False for one in others
    )
    numbers["ran once, nothing timed"] = sum(
        one["mode"] == "smoke" and not one.get("speedup") for one in everything
    )
    for status, word in (("unsupported", "unsupported"), ("skip", "that cannot be judged")):
        numbers[word] = sum(one.get("conformance") == status for one in everything)
    numbers["not measured"] = len(run.cuts)
    told = ", ".join(f"{number} {word}" for word, number in numbers.items() if number) or "nothing measured"
    short = sum(not row.get("complete", True) for row in run.rows)
    return f"{told}; {short} ended for lack of time" if short else told


def question(run: Run) -> str:
    """Return what is timed, or what the ratios are of."""
    target, against = run.header["target"], run.header["against"]
    if not any(row["against"] for row in run.rows):
        return f"time of {target}"
    return f"ratio: time of {target} / time of {against or f'{target} as it is'}"


def complaints(run: Run) -> list[str]:
    """Return a line for each reason why a number is missing, or cannot be, and how to see it again."""
    lines: dict[str, None] = {}
    target, against = run.header["target"], run.header["against"]
    for row in run.rows:
        if row.get("above_roof") == COUNTING:
            told = f"{row['layer']} {row['dtype']} {row['target']}, {row['path']}, {row['mode']}"
            lines[f"{told}: {row['efficiency']:.3g} of the roof: {COUNTING}"] = None
        if row["note"]:
            wrong = target if row["conformance"] == "fail" else against or target
            told = f"{row['layer']}: {row['note']}{_again(row, wrong)}"
            lines[row["note"] if "ratio" in row else told] = None
    for kind, (_, name) in BESIDE_LAYERS.items():
        for one in run.kinds[kind]:
            if one.get("note") and not one["mode"]:
                is_other = against and f"{one.get('target')} ".startswith(f"{against} ")
                wrong = against if is_other else target
                lines[f"{name.format(**one)}: {one['note']}{_again(one, wrong)}"] = None
    reasons = Counter(cut["reason"] for cut in run.cuts)
    cuts = [f"{number} not measured: {reason}" for reason, number in reasons.items()]
    return [*list(lines)[:MOST], *[f"and {len(lines) - MOST} more"] * (len(lines) > MOST), *cuts]


def _again(one: Entry, target: str) -> str:
    """Return how to see a failure again; "" for what has no case of its own."""
    case = one.get("failing_case")
    return f"; again: cnnspec replay {case!r} {target}" if case else ""


def fitness(run: Run) -> list[str]:
    """Return what the A/A controls found, a line for each."""
    percent = f"{100 * run.header['delta']:g} %"
    return [
        f"A/A control, {one['mode']}: {interval(one)}, {one['verdict']}: "
        f"{'fit' if one['fit'] else 'not fit'} for verdicts of {percent}"
        for one in run.controls
    ]


def ceilings(run: Run) -> list[str]:
    """Return the ceilings that were measured, a line for each."""
    return [
        f"{one['dtype']}, {one['limit']}: {one[rate]:.3g} {unit} by a {one['how']}"
        for one in run.kinds["roof"]
        for rate, unit in (("gflops_per_s", "GFLOP/s"), ("gbytes_per_s", "GB/s"))
        if rate in one
    ]


def interval(row: dict[str, Any]) -> Interval:
    """Return the ratio of a row."""
    low, high = (row[name] if row[name] is not None else math.nan for name in ("ratio_ci_lo", "ratio_ci_hi"))
    return Interval(row["ratio"], low, high)


def summary(run: Run) -> str:
    """Return a page for a pull request."""
    facts = run.header["environment"]
    lines = [
        "# Benchmarks",
        "",
        f"`{run.header['command']}`",
        "",
        f"{verdict_line(run)}.",
        "",
        *(f"- {line}" for line in fitness(run)),
        f"- {facts['processor']}, threads: {facts['threads']}, torch {facts['torch']}",
        f"- fingerprint {run.header['fingerprint']}",
        *(f"- {line}" for line in ceilings(run)),
        "",
        question(run),
        "",
        "```",
        frame(run).to_string(index=False),
        "```",
        "",
        "A ratio is the time of the target over that of the other side: the median of interleaved pairs, and its",
        "interval by the sign test.",
        "",
        *(f"- {word}: {text}" for word, text in VERDICTS.items()),
        "",
        *(f"- {line}" for line in complaints(run)),
        "",
    ]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    found = {name: str(row[name]) for name in HEAD if name in row}
    found |= {
        "layer": f"{row['layer']} ({row['provenance']})",
        "GFLOP": f"{row['flops'] / 1e9:.3g}",
        "ratio": "",
    }
    found |= {"ms": _ms(row.get("t_median_s")), "against ms": _ms(row.get("against_t_median_s"))}
    found["of roof"] = "" if row.get("efficiency") is None else f"{row['efficiency']:.2g}"
    if row.get("ratio") is not None and row["conformance"] != "fail":
        found["ratio"] = str(interval(row))
    return found | {"verdict": row["verdict"] or (row["conformance"] if row["mode"] == "" else "")}


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry as cells: lists of words joined, what is nested as JSON."""
    return {name: _cell(one) for name, one in row.items()}


def _cell(one: Any) -> Any:
    if isinstance(one, dict) or (
        isinstance(one, list) and any(isinstance(part, list | dict) for part in one)
    ):
        return json.dumps(one)
    return "; ".join(map(str, one)) if isinstance(one, list) else one
