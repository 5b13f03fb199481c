"""The history of runs: a line for each, series of one environment each, and where they step."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

import pytest

from cnnspec.bench import exports, history, record
from cnnspec.bench.history import HISTORY, Series, Step, step
from cnnspec.bench.plan import Plan
from cnnspec.bench.record import Run, commit
from cnnspec.bench.session import Session
from tests.timed_kernels import Simulated


def line(fingerprint: str = "here", **times: float) -> dict[str, Any]:
    """Return the line of a run of calls by name."""
    rows = {name: [seconds, None, None] for name, seconds in times.items()}
    known = {"schema_version": record.SCHEMA_VERSION, "started_utc": "2026-01-01T00:00:00Z"}
    return {**known, "fingerprint": fingerprint, "rows": rows}


def measured(directory: Path, cost: float = 1.0, seed: int = 0, **words: Any) -> Run:
    """Make a run whose calls take so many times 5 ms, and save it."""
    words = {"only": ("sigmoid",), "networks": ("lenet5",), "parts": ("layers",), **words}
    plan = Plan("torch", **words)
    run = Run(record.header(plan, []))
    timers = [Simulated(lambda name: cost, seed)]
    for entry in record.write(directory, [run.header, *Session(plan, timers).entries()]):
        if entry["kind"] != "header":
            run.add(entry)
    exports.save(run, directory)
    return run


# Lines


def test_a_run_adds_a_line(tmp_path: Path) -> None:
    run = measured(tmp_path)
    (found,) = history.read(tmp_path)
    names = ("schema_version", "started_utc", "fingerprint", "commit")
    assert {name: found[name] for name in names} == {name: run.header[name] for name in names}
    facts = run.header["environment"]
    assert (found["torch"], found["processor"]) == (facts["torch"], facts["processor"])
    assert (found["fit"], found["control"]) == (run.fit, run.controls[0]["ratio"])
    assert len(found["rows"]) == 4
    for row in run.rows:
        key = " | ".join((row["case"], "torch", "", "forward", "cpu"))
        assert found["rows"][key] == [row["t_median_s"], None, None]


def test_a_row_with_a_ratio_keeps_it(tmp_path: Path) -> None:
    run = measured(tmp_path, variants=("channels_last",))
    (found,) = history.read(tmp_path)
    keys = {
        " | ".join((row["case"], "torch channels_last", "torch", "forward", "cpu")): row for row in run.rows
    }
    assert found["rows"] == {
        key: [row["t_median_s"], row["ratio"], row["verdict"]] for key, row in keys.items()
    }


def test_each_run_has_its_line_and_a_run_that_is_saved_again_has_one(tmp_path: Path) -> None:
    first = measured(tmp_path)
    second = measured(tmp_path, seed=1)
    exports.save(second, tmp_path)
    assert [one["rows"] for one in history.read(tmp_path)] == [
        history.entry(run)["rows"]  # type: ignore[index]
        for run in (first, second)
    ]


def test_what_timed_nothing_has_no_line(tmp_path: Path) -> None:
    measured(tmp_path, smoke=True)
    measured(tmp_path, parts=("roofs",), seconds=0.0)
    assert not (tmp_path / HISTORY).exists()


@pytest.mark.parametrize(
    "broken",
    [
        '{"schema_version": 1, "rows"',
        "[1, 2]",
        "7",
        "",
        '{"rows": {}}',
        json.dumps(line(a=1.0) | {"schema_version": 0}),
        json.dumps(line(a=1.0) | {"rows": []}),
        json.dumps(line(a=1.0) | {"rows": {"a": [None, None, None]}}),
        json.dumps(line(a=1.0) | {"rows": {"a": ["1", None, None]}}),
        json.dumps(line(a=1.0) | {"rows": {"a": [0.0, None, None]}}),
        json.dumps(line(a=1.0) | {"rows": {"a": 1.0}}),
    ],
)
def test_broken_lines_are_dropped(broken: str, tmp_path: Path) -> None:
    whole = [json.dumps(line(a=1.0)), broken, json.dumps(line(a=2.0))]
    (tmp_path / HISTORY).write_text("\n".join(whole) + "\n")
    assert [one["rows"]["a"][0] for one in history.read(tmp_path)] == [1.0, 2.0]


def test_a_line_after_one_that_was_cut_off_stands_alone(tmp_path: Path) -> None:
    (tmp_path / HISTORY).write_text('{"schema_version": 1, "ro')
    measured(tmp_path)
    assert len(history.read(tmp_path)) == 1


def test_a_directory_without_runs_has_none(tmp_path: Path) -> None:
    assert history.read(tmp_path) == []
    assert history.series([]) == []


# Commits


def test_a_run_tells_the_commit_that_is_checked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit() == ""

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    assert commit() == ""
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    assert git("rev-parse", "HEAD").startswith(commit())
    assert len(commit()) >= 4
    assert record.header(Plan("torch"), [])["commit"] == commit()


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit() == ""


# Series


def test_runs_of_two_environments_are_never_joined() -> None:
    runs = [line("a", x=1.0), line("b", x=100.0), line("a", x=2.0), line("b", x=50.0)]
    found = history.series(runs)
    assert [(one.fingerprint, one.relative, one.shared) for one in found] == [
        ("a", (1.0, 2.0), 1),
        ("b", (1.0, 0.5), 1),
    ]
    assert [one.runs for one in found] == [(runs[0], runs[2]), (runs[1], runs[3])]


def test_the_mean_is_over_the_calls_that_all_runs_share() -> None:
    """x takes 4 times as long and y as long: 2, whatever z, which one run lacks, does."""
    runs = [line(x=1.0, y=3.0, z=1.0), line(x=4.0, y=3.0, z=1000.0), line(x=4.0, y=3.0)]
    (found,) = history.series(runs)
    assert (found.relative, found.shared) == ((1.0, 2.0, 2.0), 2)


def arithmetic(runs: list[dict[str, Any]]) -> tuple[float, ...]:
    """Take, wrongly, the mean of ratios: it favours what became slower."""
    first = runs[0]["rows"]
    return tuple(fmean(row[0] / first[name][0] for name, row in run["rows"].items()) for run in runs)


def test_twice_as_slow_and_twice_as_fast_are_no_change_though_their_mean_is() -> None:
    runs = [line(x=1.0, y=1.0), line(x=2.0, y=0.5)]
    (found,) = history.series(runs)
    assert found.relative == (1.0, 1.0) != arithmetic(runs)


def test_runs_that_share_no_call_have_no_mean() -> None:
    (found,) = history.series([line(x=1.0), line(y=1.0)])
    assert (found.relative, found.shared, found.step()) == ((None, None), 0, None)


# Steps


@pytest.mark.parametrize(
    ("means", "found"),
    [
        ([], None),
        ([1.0], None),
        ([1.0, 1.0, 1.0], None),
        ([1.0, 1.05], None),
        ([1.0, 1.0625], Step(1, 1.0625)),
        ([1.0, 0.9375], Step(1, 0.9375)),
        ([1.0, 1.0, 1.5, 1.5], Step(2, 1.5)),
        ([1.0, 1.5, 2.0], Step(1, 1.75)),
        ([1.0, 1.0, 1.5, 1.0], None),
        ([1.0, 1.5, 1.0, 1.0], None),
        ([1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06], None),
        ([2.0, 2.0, 1.0, 1.0, 1.0], Step(2, 0.5)),
    ],
)
def test_a_step_is_where_all_that_follows_lies_elsewhere(means: list[float], found: Step | None) -> None:
    assert step(means) == found


def test_the_border_is_that_of_the_gate_or_the_one_that_is_given() -> None:
    assert step([1.0, 1.25], delta=0.25) is None
    assert step([1.0, 1.25], delta=0.125) == Step(1, 1.25)


def largest_difference(means: list[float]) -> int | None:
    """Say, wrongly, that a step is where two runs in a row differ most."""
    jumps = [abs(after - before) for before, after in pairwise(means)]
    return jumps.index(max(jumps)) + 1 if jumps and max(jumps) > 0.05 else None


def medians(means: list[float]) -> int | None:
    """Say, wrongly, that a step is where the medians of what follows and of what came before differ."""
    places = range(1, len(means))
    return next((k for k in places if abs(median(means[k:]) / median(means[:k]) - 1) > 0.05), None)


def test_a_single_outlier_is_no_step_though_other_rules_say_so() -> None:
    means = [1.0, 1.0, 1.2, 1.0, 1.0]
    assert step(means) is None
    assert largest_difference(means) == 2
    late = [1.0, 1.0, 1.0, 1.2, 1.2]
    assert (step(late), medians(late)) == (Step(3, 1.2), 1)


def test_a_slower_target_is_a_step_and_noise_is_none(tmp_path: Path) -> None:
    for run in range(8):
        measured(tmp_path / "steady", seed=run)
        measured(tmp_path / "slower", cost=1.2 if run >= 5 else 1.0, seed=run)
    (steady,), (slower,) = (history.series(history.read(tmp_path / name)) for name in ("steady", "slower"))
    assert isinstance(steady, Series)
    assert (steady.shared, len(steady.runs), steady.step()) == (4, 8, None)
    found = slower.step()
    assert found is not None
    assert found.run == 5
    assert 1.1 < found.shift < 1.3


def test_noise_within_the_border_is_no_step() -> None:
    for seed in range(100):
        rng = Random(seed)
        assert step([rng.uniform(0.98, 1.02) for _ in range(20)]) is None
