"""The performance report as one page: it loads nothing, everyone can read it, and no failure costs the rest."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cnnspec import cli
from cnnspec.bench import exports, record
from cnnspec.report import rendering
from cnnspec.report.performance import (
    architectures,
    batching,
    forest,
    history,
    page,
    performance_html,
    roofline,
    scaling,
)
from tests import performance_run as made
from tests.performance_page import RUNS, lines_of, rendered, section
from tests.performance_run import HOSTILE, run_of
from tests.performance_story import story
from tests.report.html_page import Page

TITLES = {
    "fitness": "Fitness",
    "summary": "Summary",
    "forest": "Ratios",
    "roofline": "Rooflines",
    "speedups": "Speed-ups and their errors",
    "scaling": "Scaling",
    "batching": "Batching",
    "architectures": "Architectures",
    "engine": "The exact engine beside torch",
    "counters": "Counters of operations",
    "history": "History",
    "rows": "Every measured row",
    "run": "Run and environment",
    "method": "Method",
}


@pytest.mark.parametrize("name", RUNS)
def test_page_loads_nothing(name: str, pages: dict[str, str]) -> None:
    found = Page(pages[name])
    assert found.loads() == []
    assert "@import" not in pages[name]
    assert "url(" not in pages[name]
    links = {url for url in found.values("href") if not url.startswith(("#", "data:"))}
    assert links == {"perf.jsonl", "samples.csv.gz", "perf.csv", "summary.md"}


def test_only_its_own_script_may_run(pages: dict[str, str]) -> None:
    found = Page(pages["story"])
    (policy,) = [value for value in found.values("content") if "default-src" in value]
    digest = hashlib.sha256("".join(found.raw["script"]).encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert found.tags["script"] == 1


def test_hostile_strings_are_inert(pages: dict[str, str]) -> None:
    found = Page(pages["hostile"])
    assert (found.tags["img"], found.tags["script"]) == (0, 1)
    assert not any(name.startswith("on") for _, given in found.attributes for name in given)
    assert found.text.count(HOSTILE) > 50
    for svg in re.findall(r"<svg.*?</svg>", pages["hostile"], flags=re.DOTALL):
        ET.fromstring(svg)


@pytest.mark.parametrize("name", RUNS)
def test_ids_are_distinct_and_references_arrive(name: str, pages: dict[str, str]) -> None:
    found = Page(pages[name])
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    named = [*found.values("aria-labelledby"), *found.values("aria-describedby")]
    wanted = {url[1:] for url in found.values("href") if url.startswith("#")}
    assert (wanted | {one for value in named for one in value.split()}) <= set(ids)


def test_page_is_readable_by_everyone(pages: dict[str, str]) -> None:
    markup = pages["story"]
    levels = [int(level) for level in re.findall(r"<h([1-6])", markup)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for table in re.findall(r"<table.*?</table>", markup, flags=re.DOTALL):
        assert "<caption" in table
        assert not re.search(r"<th(?![^>]*scope=)[ >]", table)
    figures = re.findall(r"<figure.*?</figure>", markup, flags=re.DOTALL)
    assert len(figures) == 2 + 2 + 5 + 1 + 1 + 1
    for figure in figures:
        drawn = Page(figure)
        assert drawn.tags["svg"] == 1
        (image,) = [given for _, given in drawn.attributes if given.get("role") == "img"]
        for name in ("aria-labelledby", "aria-describedby"):
            assert Page(
                re.findall(rf'id="{image[name]}">(.*?)</(?:figcaption|div)>', figure, re.DOTALL)[0]
            ).text
        assert re.search(r"<details>.*<tbody>\n<tr>", figure, flags=re.DOTALL)


def test_size_of_two_thousand_rows(pages: dict[str, str]) -> None:
    assert len(lines_of(section(pages["large"], "rows"))) == 2_000 + 1
    assert len(pages["large"].encode()) <= 1.5 * 2**20
    code = Page(pages["large"]).raw
    assert len("".join([*code["script"], *code["style"]]).encode()) <= 35 * 1024


def test_made_twice_it_is_the_same_bytes(tmp_path: Path, pages: dict[str, str]) -> None:
    program = (
        "import sys; from pathlib import Path; from tests import performance_run as made; "
        "from cnnspec.report.performance import save; "
        "assert save(made.run_of(made.small()), sys.argv[1]) == []"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    command = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert (
        (tmp_path / page.NAME).read_text(encoding="utf-8") == rendered(made.small()) == rendered(made.small())
    )


def titles(markup: str) -> list[str]:
    return re.findall(r'<h2 id="title-([a-z]+)">', markup)


def test_sections_stand_in_order_and_only_where_they_have_entries(pages: dict[str, str]) -> None:
    assert titles(pages["story"]) == list(TITLES)
    assert titles(rendered([])) == ["fitness", "run", "method"]
    assert titles(rendered([made.alone()])) == ["fitness", "rows", "run", "method"]
    kinds = {"roof": "roofline", "curve": "scaling", "batch": "batching", "row": "rows"}
    kinds |= {"engine": "engine", "counter": "counters", "network share": "architectures"}
    for kind, name in kinds.items():
        without = titles(rendered([entry for entry in made.small() if entry["kind"] not in kind.split()]))
        assert name not in without, kind
        if kind != "row":
            assert without == [one for one in TITLES if one not in (name, "history")]


def test_gaps_cost_nothing(pages: dict[str, str]) -> None:
    assert titles(pages["awkward"])[-3:] == ["rows", "run", "method"]
    problems: list[str] = []
    performance_html(record.Run({"kind": "header"}), "nowhere", problems)
    assert problems == []


def test_charts_that_fail_leave_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("no font")

    for module in (forest, scaling, batching, roofline, architectures, history):
        monkeypatch.setattr(module, "figure", broken)
    problems: list[str] = []
    markup = performance_html(run_of(story()), "nowhere", problems)
    assert problems[0] == "the chart 'torch channels_last / torch, cpu' was not drawn: RuntimeError: no font"
    assert len(problems) == 2 + 2 + 5 + 1 + 1
    assert "<svg" not in markup
    assert "312 [296, 328]" in markup
    assert len(lines_of(section(markup, "forest"))) > 60


def test_a_section_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("<roofs>")

    monkeypatch.setattr(roofline, "context", broken)
    problems: list[str] = []
    text = Page(performance_html(run_of(story()), "nowhere", problems)).text
    assert problems == ["the section 'Rooflines' was not made: RuntimeError: <roofs>"]
    assert "This section could not be made: <roofs>" in text
    assert "Every measured row" in text


def test_a_page_that_fails_still_says_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "new_environment", lambda: None)
    *_, problem = page.save(run_of([made.row(1.5, "SLOW"), made.failed(ratio=0.0777)]), tmp_path)
    assert problem.startswith("performance.html is in its plainest form: ")
    text = Page((tmp_path / page.NAME).read_text(encoding="utf-8")).text
    assert "on 1x64x56x56: SLOW 1.5" in text
    assert "0777" not in text


def test_a_report_that_fails_costs_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr(page, "performance_html", broken)
    kept = list(record.write(tmp_path, [made.header(), made.control(), made.alone(samples=[(None, 1e-3)])]))
    problems = exports.save(run_of(kept[1:], kept[0]), tmp_path)
    assert "performance.html was not written: RuntimeError: no disk" in problems
    assert {exports.CSV, exports.SUMMARY} <= {path.name for path in tmp_path.iterdir()}


def test_a_run_and_report_build_write_the_same_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(1e-3, 2e-3)] * 20
    entries = [made.control(samples=pairs), *made.comparisons(3, samples=pairs), made.end()]
    kept = list(record.write(tmp_path, [made.header(), *entries]))
    assert exports.save(run_of(kept[1:], kept[0]), tmp_path) == []
    first = (tmp_path / page.NAME).read_bytes()
    (tmp_path / page.NAME).unlink()
    for word in (tmp_path, tmp_path / record.RECORD):
        assert cli.main(["report", "build", str(word)]) == 0
        assert (tmp_path / page.NAME).read_bytes() == first
    assert f"{tmp_path / page.NAME}: " in capsys.readouterr().out
    assert not (tmp_path / "conformance.html").exists()
