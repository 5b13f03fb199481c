"""The table of paths: which kernels keep their error model, and a script for each that does not."""

import csv
import io

from cnnspec.report import Results
from cnnspec.report.markdown import summary_md
from cnnspec.report.page import conformance_html
from cnnspec.report.paths import Path, paths_of
from cnnspec.report.tables import conformance_csv, failures_csv
from tests.report.html_page import Page
from tests.report.synthetic import case_line, header, paths, row

RESULTS = Results.from_entries(paths())


def facts(path: Path) -> tuple[object, ...]:
    return (path.worst_ratio, path.cases, path.beyond, path.odd, path.verdict, path.reproducer)


def test_paths_are_told_apart_and_judged() -> None:
    found = {(one.backend, one.name, one.dtype, one.direction): facts(one) for one in paths_of(RESULTS.rows)}
    assert found == {
        ("torch", "Mkldnn", "float32", "forward"): (0.75, 3, 0, 0, "yes", ""),
        ("torch", "Mkldnn", "float32", "double backward"): (0.0, 1, 0, 0, "yes", ""),
        ("torch", "Slow2d", "float16", "backward"): (3.0, 3, 2, 0, "no", "slow.py"),
        ("torch", "SlowTranspose2d", "float32", "backward"): (
            *(0.125, 2, 0, 1),
            *("but for NaN and infinity", ""),
        ),
        ("torch-native", "Nnpack<Spatial>", "float32", "forward"): (
            *(float("inf"), 1, 1, 0),
            *("no", "a b.py"),
        ),
    }


def test_page_shows_clean_and_violating_paths_with_their_scripts() -> None:
    page = Page(conformance_html(RESULTS))
    clean = "torch Mkldnn float32 forward 3 0.75 ✓ yes"
    assert clean in page.text
    assert "torch Slow2d float16 backward 3 3.00 2 ✗ no script" in page.text
    assert "torch-native Nnpack<Spatial> float32 forward 1 ∞ 1 ✗ no script" in page.text
    assert "torch SlowTranspose2d float32 backward 2 0.12 1 ✗ but for NaN and infinity conv2d(" in page.text
    assert {"reproducers/slow.py", "reproducers/a%20b.py"} <= set(page.values("href"))


def test_summary_shows_them_too() -> None:
    text = summary_md(RESULTS)
    assert "| torch | Mkldnn | float32 | forward | 3 | 0.75 | 0 | yes |  |" in text
    line = "| torch | Slow2d | float16 | backward | 3 | 3.00 | 2 | no | `python reproducers/slow.py` |"
    assert line in text
    assert "Nnpack&lt;Spatial&gt;" in text


def test_without_paths_there_is_no_table() -> None:
    results = Results(header(), [row(), row("fail", path="", law="backward")])
    assert paths_of(results.rows) == []
    assert 'id="paths"' not in conformance_html(results)
    assert "## Paths" not in summary_md(results)


def test_csv_names_the_path_of_the_worst_case() -> None:
    slow, fast = row(path="slow", ratio=0.5, index=1), row(path="fast", ratio=0.25, index=2)
    results = Results(header(), [fast, slow, row("fail", law="backward", path="broken")])
    cells = list(csv.DictReader(io.StringIO(conformance_csv(results))))
    assert [(cell["path"], cell["worst_case"]) for cell in cells] == [
        ("slow", case_line("conv2d", "float32", 1)),
        ("broken", case_line("conv2d", "float32", 17)),
    ]
    (failure,) = csv.DictReader(io.StringIO(failures_csv(results)))
    assert failure["path"] == "broken"
