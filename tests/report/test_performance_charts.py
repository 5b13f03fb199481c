"""The charts of the performance report: each draws what was measured, and has its numbers beside it."""

import math
import re
from pathlib import Path

from cnnspec.report.performance import (
    architectures,
    batching,
    drawing,
    forest,
    history,
    roofline,
    scaling,
)
from tests import performance_run as made
from tests.performance_page import line_of_history, remembered, section
from tests.performance_run import Entry, run_of
from tests.performance_story import story
from tests.report.html_page import Page


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
    still = made.alone(flops=0, intensity=0.0, gflops_per_s=0.0, efficiency=1.5)
    rows = [*made.comparisons(30), still, made.failed()]
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
    assert chart.described == "31 calls under 3 ceilings; the nearest reaches 130\xa0%"
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


def test_one_drawing_for_each_curve_with_what_was_fitted(pages: dict[str, str]) -> None:
    text = Page(section(pages["story"], "scaling")).text
    for words in (
        "conv2d over batch · float32 · cpu ● torch ■ mykernels.py",
        "torch: T(N) = 2 ms + 500 µs · N; N½ = 4; at most 2000 inputs/s",
        "mykernels.py: T(N) = 5 ms + 1.25 ms · N; N½ = 4; at most 800 inputs/s",
        "log-log slope 0.4 to 2.7; jumps after 16",
        "6 points, kernel 1 to 11",
    ):
        assert words in text, words
    charts = scaling.context(run_of(story()), [])["charts"]
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


def test_long_numbers_have_room_on_an_axis() -> None:
    for most, wanted in ((9, [f"{2**n}" for n in range(10)]), (11, [f"{2**n}" for n in range(1, 12, 2)])):
        points = [made.curve("channels", 2**n, 1e-3) for n in range(most + 1)]
        (chart,) = scaling.context(run_of(points), [])["charts"]
        assert [one for one in labels(chart.svg) if one.isdigit()] == wanted


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


def test_a_bar_for_each_network_with_words() -> None:
    parts = {"conv2d": 0.9, "relu": 0.096, "add": 0.004}
    chart = architectures.context(run_of(made.shares("lenet5", **parts)), [])["time_by_operator"]
    assert {"conv2d 90 %", "relu"} <= set(labels(chart.svg))
    assert "lenet5 · N = 1: conv2d 90\xa0%, relu 9.6\xa0%;" in chart.described
    assert "add" not in chart.described
    assert [line[5] for line in chart.table.lines] == ["conv2d", "relu", "add"]


def test_dtypes_of_a_network_are_not_mixed() -> None:
    entries = [
        made.network("lenet5", n, 1e-3 * n, dtype=dtype, best=n == best)
        for dtype, best in (("float32", 4), ("float64", 2))
        for n in (1, 2, 4)
    ]
    for dtype in ("float32", "float64"):
        entries += [one | {"dtype": dtype} for one in made.shares("lenet5", conv2d=0.75, relu=0.25)]
    entries[-3]["note"] = "the budget was spent"
    entries[5]["note"] = "the memory was full"
    found = architectures.context(run_of(entries), [])
    assert [line[1:2] + line[5:6] for line in found["table_of_networks"].lines] == [
        ["float32", "1"],
        ["float32", "4 (best)"],
        ["float64", "1"],
        ["float64", "2 (best)"],
    ]
    assert "lenet5 float64: the memory was full" in found["notes"]
    chart = found["time_by_operator"]
    told = "lenet5 · N = 1: conv2d 75 %, relu 25 %; lenet5 · float64 · N = 1: conv2d 75 %, relu 25 %;"
    assert chart.described.replace("\xa0", " ").startswith(told)


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


def test_ticks_are_round_and_few() -> None:
    for low, high in ((0.97, 1.03), (0.9, 1.1), (1e-6, 1e-5), (3e-7, 40.0), (1.0, 1e12)):
        ticks = drawing.log_ticks(low, high)
        assert 2 <= len(ticks) <= 8, (low, high)
        assert all(low <= tick <= high for tick in ticks)
        assert all(float(f"{tick:.3g}") == tick for tick in ticks)
