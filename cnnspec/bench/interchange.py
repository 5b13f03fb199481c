"""A run of benchmarks in the JSON of pytest-benchmark, which its `compare` and other tools read."""

import json
import platform
from pathlib import Path
from typing import Any

import pandas as pd
from pytest_benchmark import __version__
from pytest_benchmark.stats import Stats

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import SAMPLES, Run

TOLD = ("case", "ratio", "ratio_ci_lo", "ratio_ci_hi", "verdict", "flops", "bytes_compulsory", "provenance")


def pytest_benchmark(run: Run, directory: Path) -> str:
    """Return an entry for each timed row of the run in `directory`; its rounds are the samples of the target."""
    raw = pd.read_csv(directory / SAMPLES)
    rounds = [group.tolist() for _, group in raw[raw["kind"] == "row"].groupby("line")["target_s"]]
    whole = {
        "machine_info": {"node": run.header["fingerprint"], "system": platform.system(), "cpu": {}},
        "commit_info": {},
        "benchmarks": [_benchmark(run, *pair) for pair in zip(run.timed, rounds, strict=True)],
        "datetime": run.header["started_utc"],
        "version": __version__,
    }
    return json.dumps(whole, indent=1)


def _benchmark(run: Run, row: Entry, seconds: list[float]) -> dict[str, Any]:
    made: Any = Stats  # without annotations
    stats = made()
    for one in seconds:
        stats.update(one)
    name = f"{row['layer']} {row['dtype']} {row['direction']} {row['mode']} {row['target']}"
    return {
        "group": row["operator"],
        "name": name,
        "fullname": name,
        "params": None,
        "param": None,
        "extra_info": {key: row.get(key) for key in TOLD},
        "options": {"disable_gc": True, "timer": "perf_counter", "max_time": run.header["case_seconds"]},
        "stats": {**stats.as_dict(), "data": seconds, "iterations": row["calls_per_sample"]},
    }
