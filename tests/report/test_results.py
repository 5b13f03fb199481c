"""Rows to results: statuses, exit codes, scores, and files that broke off."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnspec.errors import UsageError
from cnnspec.report import Results
from cnnspec.report.statuses import STATUSES
from tests.report.synthetic import end, header, never_ran, row, scripts_of, story


def results_of(*rows: dict[str, Any], finished: bool = True) -> Results:
    return Results.from_entries([header(), *rows, *([end()] if finished else [])])


def write(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "xfail"], "xfail"),
        (["xfail", "xpass", "pass"], "xpass"),
        (["xpass", "flaky"], "flaky"),
        (["flaky", "fail"], "fail"),
        (["fail", "timeout"], "timeout"),
        (["timeout", "crash"], "crash"),
        (["crash", "harness", "pass"], "harness"),
        (["unsupported", "pass"], "pass"),
        (["skip", "unsupported"], "unsupported"),
        (["skip", "skip"], "skip"),
        (["vacuous", "pass"], "pass"),
        (["vacuous", "unsupported"], "vacuous"),
        (["vacuous", "xfail"], "xfail"),
        (["pass", "spam"], "harness"),
    ],
)
def test_a_cell_takes_the_worst_status(words: list[str], expected: str) -> None:
    for order in (words, words[::-1]):
        (cell,) = results_of(*(row(word) for word in order)).cells
        assert cell.status == expected


def test_a_cell_that_could_not_fail_is_vacuous() -> None:
    (cell,) = results_of(row(discriminating=False), row(discriminating=False)).cells
    assert cell.status == "vacuous"
    assert cell.reason == "none of 2 passing cases could tell right from wrong"
    (cell,) = results_of(row(discriminating=False), row(discriminating=True)).cells
    assert (cell.status, cell.discriminating) == ("pass", 1)
    without = {name: value for name, value in row().items() if name != "discriminating"}
    assert results_of(without).cells[0].status == "vacuous"


def test_a_cell_is_the_sum_of_its_rows() -> None:
    rows = [
        row(ratio=0.5, seconds=1.0, histogram={"exact": 2, "-3": 1}, case="a"),
        row(ratio=0.75, seconds=2.0, histogram={"-10": 4, "exact": 1}, case="b"),
        row(ratio=None, seconds=0.5, histogram=None, case="c", ulps=3),
        row("unsupported", case="d"),
    ]
    (cell,) = results_of(*rows).cells
    assert (cell.worst_ratio, cell.worst_case, cell.worst_ulps) == (0.75, "b", 3.0)
    assert (cell.examples, cell.counts, cell.seconds) == (4, {"pass": 3, "unsupported": 1}, 3.5012)
    assert list((cell.histogram or {}).items()) == [("exact", 3), ("-10", 4), ("-3", 1)]


def test_the_worst_case_is_one_that_decides() -> None:
    wrong_shape = row("fail", ratio=None, case="wrong shape")
    (cell,) = results_of(row(ratio=0.9), wrong_shape, row(ratio=0.8)).cells
    assert (cell.worst_ratio, cell.worst_case) == (None, "wrong shape")


@pytest.mark.parametrize("order", [("inf", 2.0, "nan"), ("nan", 2.0, "inf"), (2.0, "nan", "inf")])
def test_nan_is_the_worst_ratio(order: tuple[Any, ...]) -> None:
    (cell,) = results_of(*(row("fail", ratio=ratio, case=str(ratio)) for ratio in order)).cells
    assert cell.worst_case == "nan"
    (cell,) = results_of(*(row("fail", ratio=r, case=str(r)) for r in order if r != "nan")).cells
    assert cell.worst_case == "inf"


def test_cells_differ_by_each_of_their_axes() -> None:
    axes = {"operator": "relu", "backend": "other", "device": "cuda", "dtype": "float16", "law": "batch"}
    rows = [row(), *(row(**{axis: value}) for axis, value in axes.items())]
    assert len(results_of(*rows).cells) == 6


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["pass"], 0),
        (["pass", "xfail"], 0),
        (["pass", "skip", "unsupported"], 0),
        (["pass", "fail"], 1),
        (["pass", "crash"], 1),
        (["pass", "timeout"], 1),
        (["pass", "xpass"], 1),
        (["pass", "flaky"], 3),
        (["pass", "vacuous"], 3),
        (["flaky", "fail"], 1),
        (["vacuous", "xpass"], 1),
        (["fail", "harness"], 4),
        (["flaky", "harness"], 4),
        (["skip", "unsupported"], 4),
        ([], 4),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_exit_code(words: list[str], code: int, together: bool) -> None:
    laws = ["forward"] * len(words) if together else [f"law {n}" for n in range(len(words))]
    results = results_of(*(row(word, law=law) for word, law in zip(words, laws, strict=True)))
    if together and words == ["pass", "vacuous"]:
        code = 0  # one case of the cell could have failed, and did not
    assert (results.exit_code, results.ok) == (code, code == 0)


def test_an_unexpected_pass_behind_a_flaky_row_still_fails_the_run() -> None:
    results = results_of(row("xpass"), row("flaky"))
    assert (results.cells[0].status, results.exit_code) == ("flaky", 1)


def test_score_line_counts_what_it_is_out_of() -> None:
    groups = {"pass": 1204, "fail": 42, "vacuous": 3, "unsupported": 312, "skip": 96}
    rows = [row(word, law=f"{word} {number}") for word, count in groups.items() for number in range(count)]
    line = "96.4 % (1 204 of 1 249 applicable cells) · 312 unsupported · 96 skipped · 3 vacuous"
    assert results_of(*rows).score_line() == line
    flawed = results_of(*rows, row("harness", law="h")).score_line()
    assert flawed.startswith("no score: cnnspec itself failed in 1 of its cells")


def test_score_without_anything_applicable_is_no_score() -> None:
    results = results_of(row("unsupported"), never_ran("skip", law="batch"))
    assert results.score_line() == "no score: no applicable cell · 1 unsupported · 1 skipped"
    assert results.score is None


@pytest.mark.parametrize(("passed", "shown"), [(9_999, "99.9 %"), (1, "0.1 %"), (10_000, "100.0 %")])
def test_only_everything_is_100_percent(passed: int, shown: str) -> None:
    rows = [row("pass" if n < passed else "fail", law=str(n), operands=None) for n in range(10_000)]
    assert results_of(*rows).score_line().startswith(f"{shown} (")


def test_counts_name_every_status() -> None:
    counts = Results.from_entries(story()).counts
    assert list(counts) == list(STATUSES)
    assert sum(counts.values()) == len(Results.from_entries(story()).cells)
    assert [counts[word] for word in ("crash", "timeout", "fail", "flaky", "harness")] == [1, 1, 2, 1, 0]


def test_distinct_failures() -> None:
    rows = [row("fail", index=n, minimal_case=None if n == 0 else f"small {n}") for n in range(3)]
    rows += [row("crash", law="batch"), row("xfail", law="layout"), row(law="linear")]
    results = results_of(*rows)
    assert [(f.status, f.occurrences, f.minimal_case) for f in results.failures] == [
        ("crash", 1, rows[3]["case"]),
        ("fail", 3, "small 1"),
    ]
    assert [(f.status, f.law) for f in results.known_deviations] == [("xfail", "layout")]


def test_failures_without_an_id_are_one_per_cell_and_status() -> None:
    rows = [row(word, failure_id=None, law=law) for law in ("a", "b") for word in ("fail", "fail", "crash")]
    failures = results_of(*rows).failures
    assert [(f.law, f.status, f.occurrences) for f in failures] == [
        ("a", "crash", 1),
        ("b", "crash", 1),
        ("a", "fail", 2),
        ("b", "fail", 2),
    ]
    assert len({failure.failure_id for failure in failures}) == 4


def test_an_unexpected_pass_is_a_failure_with_a_message() -> None:
    (failure,) = results_of(row("xpass")).failures
    assert failure.message == "the reason of xpass"


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_file_cut_in_half_is_read(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "results.jsonl", [header(), row(), row(law="batch")])
    path.write_bytes(path.read_bytes()[: -1 - cut])
    results = Results.read(tmp_path)
    assert [cell.law for cell in results.cells] == ["forward"]
    assert results.warnings == [
        "results.jsonl: dropped the last line, cut in half",
        "the run did not finish: its results have no closing line",
    ]


def test_a_file_cut_within_a_character_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "results.jsonl", [header(), row()])
    path.write_bytes(path.read_bytes() + '{"reason": "≈'.encode()[:-1])
    assert Results.read(path).warnings[0] == "results.jsonl: dropped the last line, cut in half"


def test_a_broken_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = [json.dumps(header()), '{"kind": "row", "opera', "[1]", json.dumps(row()), json.dumps(end()), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    results = Results.read(path)
    assert len(results.rows) == 1
    assert results.warnings == [f"results.jsonl: dropped line {n}, not a JSON object" for n in (2, 3)]


def test_a_whole_file_has_no_warnings(tmp_path: Path) -> None:
    results = Results.read(write(tmp_path / "results.jsonl", story()))
    assert results.warnings == []
    assert len(results.cuts) == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "has no header line"),
        ([row()], "has no header line"),
        ([header(schema_version=2)], "has schema_version 2; this cnnspec reads 1"),
    ],
)
def test_what_is_no_results_file(tmp_path: Path, entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Results.read(write(tmp_path / "results.jsonl", entries))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*results\.jsonl: No such file"):
        Results.read(tmp_path)


def test_oddities_are_said() -> None:
    entries = [header(), header(fingerprint="other"), row("spam"), {"kind": "novelty"}, end(interrupted=True)]
    assert Results.from_entries(entries).warnings == [
        "parts of the run were made in different environments; the first one is shown",
        "passed over 1 line of unknown kind 'novelty'",
        "unknown statuses count as harness: spam",
        "the run was interrupted; only the cases that ran are shown",
    ]
    resumed = Results.from_entries([header(), row(), end(), row()])
    assert resumed.end is None


def test_to_frame() -> None:
    frame = results_of(row(ratio="inf"), row(ratio=None), row(ratio=0.5)).to_frame()
    assert frame["ratio"].tolist()[::2] == [float("inf"), 0.5]
    assert frame["ratio"].isna().tolist() == [False, True, False]
    assert frame["operator"].tolist() == ["conv2d"] * 3


def test_save_and_read_back(tmp_path: Path) -> None:
    entries = [*story(), row("fail", ratio=float("inf"), expected=float("nan"))]
    saved = Results.from_entries(entries, scripts=scripts_of(entries))
    assert saved.save(tmp_path / "run") == []
    back = Results.read(tmp_path / "run")
    assert [cell.status for cell in back.cells] == [cell.status for cell in saved.cells]
    assert back.scripts == saved.scripts
    assert back.rows[-1]["ratio"] == "inf"
    before = (tmp_path / "run" / "results.jsonl").stat().st_mtime_ns
    assert back.save(tmp_path / "run") == []
    assert (tmp_path / "run" / "results.jsonl").stat().st_mtime_ns == before


def test_reading_results_loads_no_library() -> None:
    program = (
        "import sys, cnnspec.report; print({'pandas', 'jinja2', 'matplotlib', 'numpy'} & {*sys.modules})"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "set()"
