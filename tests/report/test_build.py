"""All reports of a run together: they agree, they repeat to the byte, and none costs another."""

import csv
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cnnspec.report import Results, charts, junit, page, rendering, tables, write_reports
from cnnspec.report.junit import OUTCOME
from tests.report.html_page import Page
from tests.report.synthetic import header, large, row, scripts_of, story

NAMES = ("conformance.html", "conformance.csv", "failures.csv", "junit.xml", "summary.md")


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("run", ["story_run", "large_run"])
def test_sums_agree_everywhere(run: str, request: pytest.FixtureRequest) -> None:
    results, folder = request.getfixturevalue(run)
    counts = Counter(cell.status for cell in results.cells)
    assert counts == {word: count for word, count in results.counts.items() if count}

    assert Counter(line["status"] for line in lines_of(folder / "conformance.csv")) == counts

    markup = (folder / "conformance.html").read_text(encoding="utf-8")
    laws = markup[markup.index('<section id="laws"') : markup.index('<section id="errors"')]
    assert Counter(re.findall(r'<tr><td>[^<]*<td class="(\w+)">', laws)) == counts
    listed = re.findall(r'<li><span class="(\w+)">.*?</span> ([\d ]+)', markup)
    assert {word: int(count.replace(" ", "")) for word, count in listed} == counts

    suites = ET.parse(folder / "junit.xml").getroot()
    outcomes = Counter(OUTCOME.get(word, "passed") for word in counts.elements())
    assert int(suites.get("tests", "")) == len(results.cells) == len(suites.findall(".//testcase"))
    for outcome, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(suites.findall(f".//{outcome}")) == outcomes[outcome]
        assert sum(int(suite.get(attribute, "")) for suite in suites) == outcomes[outcome]

    summary = (folder / "summary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \S+ (\w+) \| ([\d ]+) \|", summary, flags=re.MULTILINE)
    assert {word: int(count.replace(" ", "")) for word, count in rows if word in counts} == counts
    for text in (markup, summary):
        assert results.score_line() in text


def test_failures_agree_everywhere(story_run: tuple[Results, Path]) -> None:
    results, folder = story_run
    lines = lines_of(folder / "failures.csv")
    expected = [failure.failure_id for failure in (*results.failures, *results.known_deviations)]
    assert [line["failure_id"] for line in lines] == expected
    assert sum(int(line["occurrences"]) for line in lines) == sum(
        row["status"] in ("fail", "crash", "timeout", "flaky", "xpass", "xfail") for row in results.rows
    )
    markup = (folder / "conformance.html").read_text(encoding="utf-8")
    assert markup.count("<article") == len(expected)
    assert (folder / "summary.md").read_text(encoding="utf-8").count("\n- ") == len(expected)


def test_failures_csv_carries_exact_numbers(story_run: tuple[Results, Path]) -> None:
    (line,) = [line for line in lines_of(story_run[1] / "failures.csv") if line["occurrences"] == "3"]
    named = {name: line[name] for name in ("operator", "dtype", "law", "status", "worst_index")}
    assert named == {
        "operator": "conv2d",
        "dtype": "float32",
        "law": "forward",
        "status": "fail",
        "worst_index": "[0, 1, 2, 3]",
    }
    exact = [float.fromhex(line[name]) for name in ("expected", "actual", "error", "bound")]
    assert exact == [3.0, 2.0, 1.0, 0.02734375]
    assert float(line["ratio"]) == 36.571428571428573
    assert line["case"].startswith("conv2d(in_channels=3")
    assert line["minimal_case"].startswith("conv2d(in_channels=1")


def test_csv_holds_numbers_as_they_are() -> None:
    results = Results(header(), [row(ratio="inf", ulps=None), row(law="b", ratio=0.1, ulps=2)])
    first, second = csv.DictReader(tables.conformance_csv(results).splitlines())
    assert (first["err_max_bound_units"], first["err_max_ulp"]) == ("inf", "")
    assert (second["err_max_bound_units"], second["err_max_ulp"]) == ("0.1", "2.0")
    assert (second["hist_bins"], second["hist_counts"]) == ("exact -3 -2", "40 5 1")
    assert (second["examples"], second["examples_pass"], second["examples_fail"]) == ("1", "1", "0")
    assert second["backend_version"] == "2.13.0+cpu"


def test_empty_runs_still_have_every_report(tmp_path: Path) -> None:
    assert write_reports(Results(header()), tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert lines_of(tmp_path / "failures.csv") == lines_of(tmp_path / "conformance.csv") == []
    assert "no score: no applicable cell" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_two_renders_are_the_same_bytes(tmp_path: Path) -> None:
    results = Results.from_entries(story(), scripts=scripts_of(story()))
    results.save(tmp_path / "a")
    program = (
        "import sys; from cnnspec.report import *; write_reports(Results.read(sys.argv[1]), sys.argv[2])"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, str(tmp_path / "a"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    for name in NAMES:
        made = {(tmp_path / folder / name).read_bytes() for folder in ("a", "1", "2")}
        assert len(made) == 1, name


def test_budgets_on_ten_thousand_cells(large_run: tuple[Results, Path], tmp_path: Path) -> None:
    results, folder = large_run
    assert (len(results.cells), len(results.failures)) == (10_000, 50)
    assert (folder / "conformance.html").stat().st_size <= 1.5 * 2**20
    assert (folder / "summary.md").stat().st_size <= 60 * 2**10
    again = Results.from_entries(large(), scripts=results.scripts)
    begun = time.process_time()
    page.conformance_html(again)
    assert time.process_time() - begun < 5


def test_summary_stays_small_with_many_failures() -> None:
    results = Results.from_entries(large(cells=20_000, failures=5_000))
    from cnnspec.report.markdown import summary_md

    summary = summary_md(results)
    assert len(summary.encode()) <= 60 * 2**10
    assert "more are in failures.csv" in summary
    assert "parts that would not fit are left out" in summary
    assert results.score_line() in summary


@pytest.mark.parametrize("name", ["conformance.csv", "junit.xml"])
def test_a_report_that_fails_costs_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ModuleNotFoundError("No module named 'pandas'")

    monkeypatch.setattr(tables, "conformance_csv", broken)
    monkeypatch.setattr(junit, "junit_xml", broken)
    problems = write_reports(Results.from_entries(story()), tmp_path)
    assert f"{name} was not written: ModuleNotFoundError: No module named 'pandas'" in problems
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "conformance.html",
        "failures.csv",
        "summary.md",
    ]
    assert f"{name} was not written" in (tmp_path / "conformance.html").read_text(encoding="utf-8")


def test_charts_that_fail_leave_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> dict[str, str]:
        raise RuntimeError("no font")

    monkeypatch.setattr(charts, "drawings", broken)
    (problem,) = write_reports(Results.from_entries(story()), tmp_path)
    assert problem == "the charts were not drawn: RuntimeError: no font"
    markup = (tmp_path / "conformance.html").read_text(encoding="utf-8")
    assert "<svg" not in markup
    assert "2<sup>-3</sup>" in markup


def test_a_section_that_fails_leaves_the_others(tmp_path: Path) -> None:
    def broken(_: Iterable[str]) -> Iterator[Hit]:
        raise RuntimeError("<coverage>")

    (problem,) = write_reports(Results.from_entries(story()), tmp_path, coverage=broken)
    assert problem == "the section 'Input coverage' was not made: RuntimeError: <coverage>"
    text = Page((tmp_path / "conformance.html").read_text(encoding="utf-8")).text
    assert "This section could not be made: <coverage>" in text
    assert "How to read this" in text


def test_a_page_that_fails_still_says_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "new_environment", lambda: None)
    results = Results.from_entries(story())
    *_, problem = write_reports(results, tmp_path)
    assert problem.startswith("conformance.html is in its plainest form: ")
    text = Page((tmp_path / "conformance.html").read_text(encoding="utf-8")).text
    assert results.score_line() in text
    assert all(failure.message in text for failure in results.failures)


@dataclass(frozen=True)
class Hit:
    family: str
    feature: str
    hit: int
    applicable: int


def test_coverage_is_asked_about_distinct_cases(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(lines: Iterable[str]) -> list[Hit]:
        asked.extend(lines)
        return [
            Hit("conv", "stride > 1", 2, 3),
            Hit("conv", "empty batch", 0, 3),
            Hit("relu", "stride", 0, 0),
        ]

    rows = [row(case="a"), row(case="b"), row(case="a", law="batch")]
    assert write_reports(Results(header(), rows), tmp_path, coverage=measure) == []
    assert asked == ["a", "b"]
    markup = (tmp_path / "conformance.html").read_text(encoding="utf-8")
    assert "1 feature was never drawn" in markup
    assert markup.count('<tr class="fail">') == 2  # once by itself, once in the whole table


def test_reproducers_beside_the_results_are_shown(tmp_path: Path) -> None:
    failing = row("fail")
    (tmp_path / "reproducers").mkdir()
    (tmp_path / "reproducers" / failing["reproducer"]).write_text("print('it is <broken>')", encoding="utf-8")
    write_reports(Results(header(), [failing]), tmp_path)
    markup = (tmp_path / "conformance.html").read_text(encoding="utf-8")
    assert "print(&#39;it is &lt;broken&gt;&#39;)" in markup


def test_what_xml_and_utf8_cannot_hold(tmp_path: Path) -> None:
    odd = row("fail", message="nul \x00 and surrogate \ud800", case="c\x1b[31m")
    assert write_reports(Results(header(), [odd]), tmp_path) == []
    (failure,) = ET.parse(tmp_path / "junit.xml").getroot().findall(".//failure")
    assert failure.get("message") == "nul \ufffd and surrogate \ufffd"


def test_junit_outcomes() -> None:
    words = ("pass", "fail", "flaky", "xpass", "vacuous", "crash", "timeout", "harness", "xfail", "skip")
    root = ET.fromstring(junit.junit_xml(Results(header(), [row(word, law=word) for word in words])))
    outcomes = {case.get("name", "").partition("[")[0]: case[0].tag for case in root.iter("testcase")}
    assert outcomes == {
        "pass": "system-out",
        **dict.fromkeys(("fail", "flaky", "xpass", "vacuous"), "failure"),
        **dict.fromkeys(("crash", "timeout", "harness"), "error"),
        **dict.fromkeys(("xfail", "skip"), "skipped"),
    }
    assert root.find(".//skipped[@message='xfail: the reason of xfail']") is not None
    (case,) = [case for case in root.iter("testcase") if case.get("name") == "pass[torch-cpu-float32]"]
    assert case.get("classname") == "cnnspec.conv2d"
    assert "worst_ratio=0.31" in (case.findtext("system-out") or "")


def test_hostile_strings_stay_inside_their_csv_and_markdown(hostile_run: tuple[Results, Path]) -> None:
    results, folder = hostile_run
    assert len(lines_of(folder / "conformance.csv")) == len(results.cells)
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "<img" not in re.sub(r"`[^`]*`", "", summary)
