"""The performance report in numbers and words: fitness first, and no number for what does not conform."""

import math

import pytest

from cnnspec.report.performance import scaling, summary
from cnnspec.report.performance.measures import digits, mebibytes, ratio_words, seconds, share, shown
from tests import performance_run as made
from tests.performance_page import lines_of, rendered, section, seen
from tests.performance_run import Entry, run_of
from tests.performance_story import story
from tests.report.html_page import Page


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
            "✗ Of 1 comparison: 1 invalid No ratio holds. 1 measurement failed conformance and has no number.",
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
        {**entry, "mode": "smoke"} for entry in story() if entry["kind"] in ("curve", "batch", "network")
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


OFF = {"conformance": "fail", "note": "off"}


AGAIN = "See it again from a shell"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (made.network("vgg16", 1, 0.0777, **OFF), "1 row: vgg16 · float32 · plain · forward off"),
        (
            made.curve("batch", 4, 0.0777, **OFF, target="my.py", failing_case=made.CASE),
            f"1 row: conv2d over batch · batch 4 · float32 off {AGAIN} cnnspec replay '{made.CASE}' my.py",
        ),
        (
            made.batch("fair", 2, 0.0777, agree=False, note="off"),
            "1 row: linear (2500 x 1000 by 1000 x 1500) · N = 2 · float32 · fair off",
        ),
    ],
)
def test_what_fails_beside_the_layers_is_told_first_too(entry: Entry, told: str) -> None:
    markup = rendered([made.control(), made.alone(), entry], against="my.py")
    text = Page(markup).text
    assert "✗ 1 call timed" in text
    assert "1 measurement failed conformance and has no number." in text
    assert Page(section(markup, "summary")).text.endswith(told)
    assert "0777" not in text


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


def test_every_row_stands_in_a_table_that_sorts(pages: dict[str, str]) -> None:
    markup = section(pages["story"], "rows")
    names, *lines = lines_of(markup)
    assert len(lines) == len(run_of(story()).rows)
    assert 'class="figures sortable' in markup
    where = names.index("conformance")
    assert {line[where] for line in lines} == {"✓ pass", "✗ fail", "– unsupported"}
    for line in lines:
        if line[where] != "✓ pass":
            assert line[names.index("ms")] == ""


def test_both_sides_have_intervals_and_what_has_no_flops_has_no_rate_of_them() -> None:
    still = {"flops": 0, "intensity": 0.0, "gflops_per_s": 0.0}
    rows = [made.row(0.5, "FAST", seconds=1e-4), made.row(1.0, "SAME", **still)]
    names, first, second = lines_of(section(rendered(rows), "rows"))
    told = [line[names.index(name)] for line in (first, second) for name in ("MFLOP", "GFLOP/s")]
    assert told == ["2", "20", "", ""]
    assert first[names.index("ms")] == "0.100 [0.098, 0.102]"
    assert first[names.index("against ms")] == "0.200 [0.196, 0.204]"
    wrong = {"conformance": "fail"}
    names, line = lines_of(section(rendered([made.row(0.5, "INVALID", **wrong)]), "rows"))
    assert "against ms" not in names
    assert "0.5" not in str(line)


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


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (46_231, "46 200"),
        (9_999_000, "1e+07"),
        (9_994_999, "9 990 000"),
        (1_235.0, "1240"),
        (-1_235.6, "-1240"),
        (999.6, "1000"),
        (9_999.0, "10 000"),
        (462.31, "462"),
        (0.046231, "0.0462"),
    ],
)
def test_three_significant_digits_on_either_side_of_the_point(value: float, told: str) -> None:
    assert digits(value).replace("\xa0", " ") == told


def test_counts_keep_all_their_digits() -> None:
    assert [shown(count, 7).replace("\xa0", " ") for count in (2500, 46_231, 1_048_576)] == [
        "2500",
        "46 231",
        "1 048 576",
    ]


def test_integers_have_no_more_digits_than_other_numbers_wherever_they_are_shown() -> None:
    fit = {"kind_of_fit": "line", "a_s": 0.0, "b_s": 1 / 46_231, "n_half": 1_234.0, "per_second": 46_231.0}
    told = "T(N) = 0 + 21.6 µs · N; N½ = 1200; at most 46\xa0200 inputs/s"
    assert scaling.fit_words(fit) == told
    assert seconds(46_231.0) == "46\xa0200 s"
    assert mebibytes(46_231 * 2**20) == "46\xa0200"
    assert (share(0.996), share(1.043)) == ("100\xa0%", "104\xa0%")
    names, line = lines_of(section(rendered([made.row(gflops_per_s=46_231.0)]), "rows"))
    assert line[names.index("GFLOP/s")] == "46 200"
