"""The performance report: fitness first, no number for what does not conform, every chart with its numbers."""

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
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
    drawing,
    forest,
    history,
    page,
    performance_html,
    roofline,
    scaling,
    summary,
)
from cnnspec.report.performance.measures import ratio_words
from tests import performance_run as made
from tests.performance_run import HOSTILE, Entry, run_of
from tests.report.html_page import Page

RUNS: dict[str, Callable[[], list[Entry]]] = {
    "story": made.story,
    "hostile": made.hostile,
    "awkward": made.awkward,
    "large": lambda: [*made.story(), *made.comparisons(1_879, 7)],
}
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


def line_of_history(seconds: float, fingerprint: str = "a", call: str = "x") -> Entry:
    told = {"schema_version": 1, "started_utc": f"at {seconds}", "fingerprint": fingerprint, "fit": True}
    return told | {"commit": "abc", "rows": {call: [seconds, None, None]}}


def remembered(directory: Path, lines: list[Entry]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (directory / "history.jsonl").write_text(text, encoding="utf-8")


def rendered(entries: list[Entry], directory: Path = Path("nowhere"), **header: object) -> str:
    problems: list[str] = []
    markup = performance_html(run_of(entries, made.header(**header)), directory, problems)
    assert problems == []
    return markup


def seen(entries: list[Entry], **header: object) -> str:
    return Page(rendered(entries, **header)).text  # type: ignore[arg-type]


def section(markup: str, name: str) -> str:
    return markup.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def lines_of(markup: str) -> list[list[str]]:
    """The cells of all tables, line by line."""
    lines = re.findall(r"<tr>(.*?)(?=<tr>|</tbody>|</thead>)", markup, flags=re.DOTALL)
    return [
        [Page(f"<p>{cell}").text for cell in re.split(r"<t[hd][^>]*>", line)[1:]]
        for line in lines
        if line.strip()
    ]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("runs")
    remembered(directory, [line_of_history(seconds) for seconds in (1.0, 1.1, 1.2)])
    return {name: rendered(entries(), directory) for name, entries in RUNS.items()}


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


@pytest.mark.parametrize(
    ("controls", "told"),
    [
        (
            [made.control()],
            "✓ fit for a 3 % verdict: yes A/A control, a call held against itself: cpu 1.001 [0.996, 1.006]",
        ),
        ([made.control(), made.control("SLOW", 1.08)], "✗ fit for a 3 % verdict: no"),
        ([made.control("AMBIGUOUS", 1.03)], "✗ fit for a 3 % verdict: no"),
        ([], "≈ fit for a 3 % verdict: no no call was held against itself"),
    ],
)
def test_fitness_comes_first(controls: list[Entry], told: str) -> None:
    markup = rendered([*controls, made.row(), made.end()])
    text = Page(markup).text
    assert told in text
    assert text.index(told) < text.index("Of 1 comparison")
    assert all(f"{made.control()['ratio']:.3f}" in text for _ in controls[1:])


def test_delta_is_that_of_the_run() -> None:
    assert "fit for a 5 % verdict" in seen([made.control()], delta=0.05)


def test_the_machine_and_what_was_cut() -> None:
    rows = [made.row(t_iqr_s=width * 1e-3) for width in (0.01, 0.02, 0.5)]
    text = seen([made.control(), *rows, made.cut("a"), made.cut("b"), made.cut("c", "no memory"), made.end()])
    for words in (
        "load before and after 0.5, 1.25",
        "noise 2 %: median of IQR / median over timed rows",
        "threads 1",
        "affinity 3",
        "governor performance",
        "clock 1 ns",
        "fingerprint 1a2b3c4d5e6f",
        "2: the budget was spent 1: no memory",
    ):
        assert words in text, words
    assert "The record has no end: the run was cut off." in seen([made.row()])
    assert "The run was interrupted." in seen([made.row(), made.end(interrupted=True)])


@pytest.mark.parametrize(
    ("entries", "headline"),
    [
        (
            [made.row(1.2, "SLOW"), made.row(0.5, "FAST")],
            "Of 2 comparisons: 1 slower, 1 faster Geometric mean",
        ),
        (
            [made.failed()],
            "✗ Of 1 comparison: 1 invalid No ratio holds. 1 row failed conformance and has no number.",
        ),
        ([made.alone(), made.alone()], "2 calls timed Each was timed alone: nothing was compared."),
        ([made.engine("A/A", 1.0, None)], "1 measurement No layer was compared."),
        ([], "Nothing measured The run holds no time."),
    ],
)
def test_verdict_in_one_sentence(entries: list[Entry], headline: str) -> None:
    assert headline in seen(entries)


def test_a_run_of_smoke_claims_nothing() -> None:
    smoke = [
        {**entry, "mode": "smoke"} for entry in made.story() if entry["kind"] in ("curve", "batch", "network")
    ]
    dropped = [name for name in made.row() if name.startswith(("t_", "against_t", "ratio", "g"))]
    row = {name: one for name, one in made.row().items() if name not in dropped} | {
        "verdict": None,
        "mode": "smoke",
    }
    markup = rendered([row, *smoke], smoke=True)
    assert "Each call ran once, and nothing was timed." in Page(markup).text
    assert Page(markup).tags["svg"] == 0


def test_what_is_invalid_comes_first_with_its_command_and_without_a_number() -> None:
    times = {
        **made.times(0.0777),
        "ratio": 0.0777,
        "gflops_per_s": 0.0777,
        "mode": "cpu",
        "efficiency": 0.0777,
    }
    wrong = made.failed(**times)
    other = made.failed(conformance="pass", against_conformance="fail", note="the other is off", **times)
    broken = made.row(0.0777, "INVALID", note="the A/A control came out SLOW")
    markup = rendered([broken, made.row(1.5, "SLOW"), wrong, wrong, other], against="mykernels.py")
    text = Page(section(markup, "summary")).text
    assert text.index("2 rows:") < text.index("the A/A control came out SLOW") < text.index("The slowest")
    assert "output [0, 1] is 3 bounds off" in text
    assert "cnnspec replay 'relu(input=(1, 2))' mykernels.py" in text
    assert "cnnspec replay 'relu(input=(1, 2))' torch" in text
    assert "0777" not in Page(markup).text
    assert "77.7" not in Page(markup).text


def test_geometric_means_are_of_what_holds() -> None:
    rows = [made.row(2.0, "SLOW"), made.row(0.5, "FAST"), made.row(64.0, "INVALID"), made.failed(ratio=64.0)]
    rows += [made.row(3.0, "SLOW", variant="compile"), made.alone()]
    found = {one.variant: one for one in summary.means(run_of(rows))}
    assert (found["channels_last"].held, found["channels_last"].comparisons) == (2, 4)
    assert found["channels_last"].mean is not None
    assert ratio_words(found["channels_last"].mean) == "1.00 [0.50, 2.00]"
    assert found["compile"].mean is not None
    assert math.isnan(found["compile"].mean.low)
    text = Page(section(rendered(rows), "summary")).text
    assert "percentile interval of a bootstrap over these calls, 9 999 resamples, seed 0" in text


def test_modes_have_means_of_their_own() -> None:
    rows = [made.row(2.0, "SLOW"), made.row(4.0, "SLOW", mode="cpu_cold")]
    found = {one.mode: ratio_words(one.mean) for one in summary.means(run_of(rows))}
    assert found == {"cpu": "2", "cpu_cold": "4"}


def test_both_ends_of_the_list() -> None:
    ratios = [1.0 + n / 10 for n in range(12)]
    rows = [made.row(one, "SLOW", layer=f"call {one:.1f}") for one in ratios]
    lines = [line[0] for line in lines_of(section(rendered(rows), "summary"))]
    assert lines[-12:] == [
        *("call", "call 2.1", "call 2.0", "call 1.9", "call 1.8", "call 1.7"),
        *("call", "call 1.0", "call 1.1", "call 1.2", "call 1.3", "call 1.4"),
    ]


def labels(markup: str) -> list[str]:
    return [Page(f"<p>{words}").text for words in re.findall(r"<text[^>]*>([^<]*)</text>", markup)]


def test_forest_is_sorted_and_says_verdicts_in_words() -> None:
    rows = [
        made.row(1.2, "SLOW", layer="b"),
        made.row(0.8, "FAST", layer="d"),
        made.row(1.0, "SAME", layer="c"),
    ]
    rows += [made.row(1.5, "AMBIGUOUS", layer="a"), made.row(9.0, "INVALID", layer="e")]
    (chart,) = forest.context(run_of(rows), [])["charts"]
    shown = labels(chart.svg)
    assert [one for one in shown if len(one) == 1 and one.isalpha()] == ["a", "b", "c", "d"]
    verdicts = [one for one in shown if one.split()[-1].isupper()]
    assert verdicts == ["? AMBIGUOUS", "▲ SLOW", "= SAME", "▼ FAST"]
    assert [line[0] for line in chart.table.lines] == ["a", "b", "c", "d"]


def test_forest_draws_the_band_and_the_interval_where_they_are() -> None:
    row = made.row(1.3, "SLOW", ratio_ci_lo=1.2, ratio_ci_hi=1.4)
    (chart,) = forest.context(run_of([row], made.header(delta=0.1)), [])["charts"]
    paths = re.findall(r'<path d="([^"]*)" style="([^"]*)"', chart.svg)
    places = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", d)] for d, _ in paths]
    looks = [style for _, style in paths]
    band = next(xs for xs, look in zip(places, looks, strict=True) if "fill: var(--wash)" in look)
    span = next(
        xs for xs, look in zip(places, looks, strict=True) if "fill: none; stroke: var(--fail)" in look
    )
    scale = (max(band) - min(band)) / math.log(1.1 / 0.9)
    rounding = 0.01 * (1 + math.log(1.4 / 1.2) / math.log(1.1 / 0.9))  # each end is written to a hundredth
    assert abs(max(span) - min(span) - scale * math.log(1.4 / 1.2)) <= rounding
    assert min(band) < max(band) < min(span)


def test_forest_tells_what_it_leaves_out() -> None:
    rows = [made.row(1 + n / 1000, "SAME", layer=f"call {n}") for n in range(forest.MOST_LINES + 5)]
    (chart,) = forest.context(run_of(rows), [])["charts"]
    assert len(chart.table.lines) == forest.MOST_LINES
    assert chart.notes == ["The 30 slowest and the 30 fastest; 5 comparisons between them left out here."]
    assert [line[0] for line in chart.table.lines][29:31] == ["call 35", "call 29"]


def test_variants_and_modes_have_forests_of_their_own() -> None:
    rows = [made.row(), made.row(mode="cpu_cold"), made.row(variant="compile", target="torch compile")]
    assert len(forest.context(run_of(rows), [])["charts"]) == 3


def points_of(svg: str, colour: str, *, hollow: bool) -> int:
    """How many closed outlines are drawn in a colour."""
    found = re.findall(r'<path d="([^"]*z[^"]*)" style="([^"]*)"', svg)
    face = "fill: none" if hollow else f"fill: var({colour})"
    return sum(d.count("M") for d, style in found if face in style and f"stroke: var({colour})" in style)


def test_roofline_has_a_point_for_every_call_with_flops() -> None:
    rows = [*made.comparisons(30), made.alone(flops=0, intensity=0.0, gflops_per_s=0.0), made.failed()]
    rows += [made.row(roof_limit="compute", above_roof="Winograd does less", efficiency=1.3, layer="fast")]
    hollow = sum(row.get("roof_limit") == "cache" for row in rows)
    found = roofline.context(run_of([*map(made.roof, made.CEILINGS), *rows]), [])
    (chart,) = found["charts"]
    assert 0 < hollow < 30
    assert points_of(chart.svg, "--accent", hollow=True) == hollow
    assert points_of(chart.svg, "--accent", hollow=False) == 30 - hollow
    assert points_of(chart.svg, "--fail", hollow=False) == 1
    assert len(chart.table.lines) == 32
    (line,) = found["above"].lines
    assert (line[0], line[-1].text) == ("fast", "Winograd does less")
    words = labels(chart.svg)
    assert {"compute 90 GFLOP/s", "memory 10 GB/s", "cache 40 GB/s"} <= set(words)
    assert len({sign for sign, _, _ in chart.keys}) == len(chart.keys) == len(made.OPERATORS)


def test_ceilings_are_of_the_dtype_and_the_best() -> None:
    roofs = [
        made.roof("memory"),
        made.roof("memory", gbytes_per_s=12.0),
        made.roof("memory", "bfloat16", gbytes_per_s=99.0),
    ]
    assert roofline.ceilings_of(roofs, "float32") == {"memory": 12.0}
    rows = [made.row(dtype="float64"), made.row(variant="tf32")]
    notes = [chart.notes for chart in roofline.context(run_of([*roofs, *rows]), [])["charts"]]
    assert [note[0].split()[:4] for note in notes] == [
        ["No", "ceiling", "of", "float64"],
        ["No", "ceiling", "of", "tf32"],
    ]


def test_speedups_have_their_errors_beside_them() -> None:
    rows = [
        made.row(0.5, "FAST", variant="bfloat16", error_over_bound=0.875, layer="fast"),
        made.row(1.2, "SLOW", variant="bfloat16", error_over_bound="0x1.0p-1", layer="slow"),
        made.failed(),
    ]
    by_operator, calls = section(rendered(rows), "speedups").split("<details>")
    assert lines_of(by_operator)[1][3:] == ["2", "0.77 [0.50, 1.20]", "1▲ 1▼", "✓ pass", "0.88", "0.12"]
    first, second = lines_of(calls)[1:]
    assert first == ["fast", "bfloat16", "0.50 [0.49, 0.51]", "2", "▼ FAST", "✓ pass", "0.88", "0.12"]
    assert second[-2:] == ["0.50", "0.12"]


def test_one_drawing_for_each_curve_with_what_was_fitted(pages: dict[str, str]) -> None:
    text = Page(section(pages["story"], "scaling")).text
    for words in (
        "conv2d over batch · float32 · cpu ● torch ■ mykernels.py",
        "torch: T(N) = 2 ms + 500 µs · N; N½ = 4; at most 2000 per second",
        "mykernels.py: T(N) = 5 ms + 1.25 ms · N; N½ = 4; at most 800 per second",
        "log-log slope 0.4 to 2.7; jumps after 16",
        "6 times over kernel from 1 to 11",
    ):
        assert words in text, words
    charts = scaling.context(run_of(made.story()), [])["charts"]
    ruled = [
        chart.title
        for chart in charts
        if re.search(r"stroke-dasharray: 1[^\"]*stroke: var\(--accent\)", chart.svg)
    ]
    assert ruled == ["conv2d over channels · float32 · cpu"]


def test_targets_and_dtypes_share_a_drawing_and_keep_their_names() -> None:
    points = [made.curve("batch", n, 1e-3, dtype=dtype) for n in (1, 2) for dtype in ("float32", "bfloat16")]
    fit = {
        "kind": "fit",
        "curve": "conv2d over batch",
        "axis": "batch",
        "target": "torch",
        "dtype": "bfloat16",
    }
    told: Entry = {"dtype": "bfloat16", "kind_of_fit": "slopes", "slopes": [[1, 2, 0.0]], "switches": []}
    (chart,) = scaling.context(run_of([*points, fit | told]), [])["charts"]
    assert [words for _, _, words in chart.keys] == ["torch float32", "torch bfloat16"]
    assert chart.notes == ["torch bfloat16: log-log slope 0"]
    others = [made.curve("batch", n, 1e-3, curve="linear over batch") for n in (1, 2)]
    assert len(scaling.context(run_of([*points, *others]), [])["charts"]) == 2


def test_a_curve_that_fails_has_no_number_and_one_too_large_to_judge_is_hollow() -> None:
    points = [made.curve("batch", n, 1e-3 * n) for n in (1, 2, 4)]
    points[1] |= {"conformance": "fail", "note": "output [3] is off"}
    points[2] |= {"conformance": "not judged: too large"}
    (chart,) = scaling.context(run_of(points), [])["charts"]
    names = ("value", "t_median_s", "t_ci95_lo_s", "t_ci95_hi_s")
    wanted = [tuple(points[place][name] for name in names) for place in (0, 2)]
    assert scaling.lines_of(points)["torch"] == wanted
    assert points_of(chart.svg.replace("fill: var(--bg)", "fill: none"), "--accent", hollow=True) == 1
    assert points_of(chart.svg, "--accent", hollow=False) == 1
    assert "output [3] is off" in chart.notes
    assert [line[2] for line in chart.table.lines] == ["1.00 [0.94, 1.06]", "", "4.0 [3.8, 4.2]"]


def test_the_ideal_line_is_as_good_as_the_best_point() -> None:
    slow = [made.curve("batch", n, one, flops=10 * n) for n, one in ((1, 3.0), (2, 4.0), (8, 24.0))]
    assert scaling.ideal("batch", slow) == [(1, 2.0), (2, 4.0), (8, 16.0)]
    without = [{**point, "flops": 0, "bytes_compulsory": 7} for point in slow]
    assert scaling.ideal("batch", without) == [(1, 3.0), (2, 3.0), (8, 3.0)]
    assert scaling.ideal("threads", slow) == [(1, 3.0), (2, 1.5), (8, 0.375)]
    assert scaling.ideal("batch", []) == []


def test_batching_beside_the_lecture() -> None:
    entries = [
        made.batch("fair", 2, 1.5),
        made.batch("fair", 4, 66.6, agree=False, note="off"),
        made.batch("model", 4, 3.0, target="", mode="model"),
    ]
    (chart,) = batching.context(run_of(entries), [])["charts"]
    wanted = ["CPU 4.6:", "lecture,", "other hardware", "GPU 144:", "lecture,", "other hardware"]
    assert [words for words in labels(chart.svg) if words in wanted] == wanted
    assert next(name for _, _, name in chart.keys).startswith("fair: ")
    assert [line[2] for line in chart.table.lines] == ["1.50 [1.46, 1.54]", "", "3"]
    assert chart.notes == ["✗ 1 point without a number: off"]
    assert chart.described.startswith("S(N) up to 1.5;")
    assert batching.lines_of(entries).keys() == {"fair", "model"}
    assert [count for count, _ in batching.lines_of(entries)["fair"]] == [2]
    (invalid,) = batching.context(run_of([entries[0] | {"verdict": "INVALID", "note": "not fit"}]), [])[
        "charts"
    ]
    assert (invalid.svg, invalid.notes) == ("", ["✗ 1 point without a number: not fit"])
    nothing = {"context": {"lecture_cpu": None, "lecture_gpu": None}}
    (bare,) = batching.context(run_of([entry | nothing for entry in entries]), [])["charts"]
    assert "lecture, other" not in bare.svg + bare.described


def test_experiments_and_modes_are_not_mixed() -> None:
    entries = [made.batch("fair", 2, 1.5, mode=mode) for mode in ("gpu_cold", "host")]
    entries += [
        made.batch("fair", 2, 1.5, experiment="conv2d"),
        made.batch("model", 2, 1.5, target="", mode="model"),
    ]
    titles = [chart.title for chart in batching.context(run_of(entries), [])["charts"]]
    assert [title.split(" · ")[-1] for title in titles] == ["gpu_cold", "host", "cpu"]


def test_networks_at_batch_one_and_at_the_best() -> None:
    sizes = [made.network("resnet18", n, 0.01 * n) for n in (1, 8, 16)]
    wrong = made.network("vgg16", 1, 0.0777, conformance="fail", images_per_s=0.0777, note="image 2 is off")
    table = lines_of(section(rendered([*sizes, wrong]), "architectures"))
    names = table[0]
    assert [line[names.index("batch")] for line in table[1:]] == ["1", "8 (best)", "1"]
    assert table[1][names.index("parameters")] == "11 689 512"
    assert table[2][names.index("ms")] == "80 [78, 82]"
    assert table[3][names.index("ms")] == ""
    assert "777" not in str(table[3])
    assert table[3][-1] == "✗ fail"


def test_a_bar_for_each_network_with_words() -> None:
    parts = {"conv2d": 0.9, "relu": 0.096, "add": 0.004}
    chart = architectures.context(run_of(made.shares("lenet5", **parts)), [])["time_by_operator"]
    assert labels(chart.svg)[:2] == ["conv2d 90 %", "relu"] or {"conv2d 90 %", "relu"} <= set(
        labels(chart.svg)
    )
    assert "lenet5 · N = 1: conv2d 90\xa0%, relu 9.6\xa0%;" in chart.described
    assert "add" not in chart.described
    assert [line[4] for line in chart.table.lines] == ["conv2d", "relu", "add"]


def test_a_goal_is_reached_by_the_whole_interval(pages: dict[str, str]) -> None:
    lines = lines_of(section(pages["story"], "engine"))
    reached = lines[0].index("reached")
    assert {line[0]: line[reached] for line in lines[1:]} == {
        "8x64x56x56 * 64x64x3x3, float32": "✓ yes",
        "the same with S": "✗ no",
        "A/A": "",
        "8x512x7x7": "? open",
        "float64": "? open",
    }


def test_a_counter_that_is_missing_says_so(pages: dict[str, str]) -> None:
    lines = lines_of(section(pages["story"], "counters"))
    assert [line[2] for line in lines[1:]] == ["312 [296, 328]", "1801 [1711, 1891]", ""]
    assert lines[-1][-1] == "MISSING: No module named 'thop'"


def test_environments_are_never_joined(tmp_path: Path) -> None:
    lines = [
        line_of_history(one, name)
        for one, name in ((1.0, "a"), (1.0, "a"), (5.0, "b"), (1.5, "a"), (5.5, "b"))
    ]
    remembered(tmp_path, lines)
    first, second = history.context(tmp_path, [])["charts"]
    assert [line[-1] for line in first.table.lines] == ["1", "1", "1.5"]
    assert [line[-1] for line in second.table.lines] == ["1", "1.1"]
    paths = [
        re.findall(r'<path d="([^"]*)" style="[^"]*stroke: var\(--accent\)', chart.svg)
        for chart in (first, second)
    ]
    assert [path[0].count("L") for path in paths] == [2, 1]
    assert "A step at run 3: 1.5 times the time before." in first.notes


def test_history_needs_two_runs(tmp_path: Path) -> None:
    assert history.context(tmp_path, []) == {}
    remembered(tmp_path, [line_of_history(1.0)])
    assert history.context(tmp_path, []) == {}
    remembered(tmp_path, [line_of_history(1.0, call="x"), line_of_history(2.0, call="y")])
    (chart,) = history.context(tmp_path, [])["charts"]
    assert chart.svg == ""
    assert chart.described == "2 runs, 0 shared calls; nothing to compare"


def test_every_row_stands_in_a_table_that_sorts(pages: dict[str, str]) -> None:
    markup = section(pages["story"], "rows")
    names, *lines = lines_of(markup)
    assert len(lines) == len(run_of(made.story()).rows)
    assert 'class="figures sortable' in markup
    where = names.index("conformance")
    assert {line[where] for line in lines} == {"✓ pass", "✗ fail", "– unsupported"}
    for line in lines:
        if line[where] != "✓ pass":
            assert line[names.index("ms")] == ""


def test_method_is_told(pages: dict[str, str]) -> None:
    text = Page(section(pages["story"], "method")).text
    for words in (
        "20, 40, 80, 160 pairs",
        "resolution is 1 ns",
        "interval of 99.5 %",
        "sign test",
        "min(P, B · I)",
    ):
        assert words in text, words


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
    markup = performance_html(run_of(made.story()), "nowhere", problems)
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
    text = Page(performance_html(run_of(made.story()), "nowhere", problems)).text
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


def test_ticks_are_round_and_few() -> None:
    for low, high in ((0.97, 1.03), (0.9, 1.1), (1e-6, 1e-5), (3e-7, 40.0), (1.0, 1e12)):
        ticks = drawing.log_ticks(low, high)
        assert 2 <= len(ticks) <= 8, (low, high)
        assert all(low <= tick <= high for tick in ticks)
        assert all(float(f"{tick:.3g}") == tick for tick in ticks)
