"""Precision fingerprints in the reports: a table where rows carry what it needs, nothing where they do not."""

import pytest

from cnnspec.fingerprints import TRANSFORM, candidates
from cnnspec.report import Results
from cnnspec.report.markdown import summary_md
from cnnspec.report.page import conformance_html
from tests.report.html_page import Page
from tests.report.synthetic import HOSTILE, header, row

ALL = [model.name for model in candidates("float32")]
ROWS = [
    row(models=ALL, apart=["tf32 inputs"], path="Mkldnn"),
    row(models=ALL[2:], apart=["tf32 inputs"], path="Mkldnn"),
    row(operator="linear", models=[*ALL[4:], TRANSFORM], apart=[]),
    row(operator="add", models=[]),
]


def section(rows: list[dict[str, object]]) -> str:
    markup = conformance_html(Results(header(), rows))
    _, _, rest = markup.partition('<section id="precision"')
    return rest.partition("</section>")[0]


def test_the_page_names_what_each_operator_computes_like() -> None:
    text = " ".join(Page(f"<div{section(ROWS)}</div>").text.split())

    assert "conv2d torch float32 Mkldnn direct float32 2 1" in text
    assert "2 cases, 1 rules out compensated float32, tf32 inputs would show in 2" in text
    assert f"linear torch float32 {TRANSFORM} 1 1" in text
    assert "add torch float32 no model 1 1 1 case, 1 beyond every model" in text


def test_the_kernel_has_a_column_where_any_is_known() -> None:
    assert ">kernel<" in section(ROWS)
    assert ">kernel<" not in section(ROWS[2:])


def test_the_summary_has_the_same_table() -> None:
    summary = summary_md(Results(header(), ROWS))

    assert "## Precision fingerprint" in summary
    assert "| **conv2d** | torch Mkldnn | float32 | direct float32 | 2 | 1 |" in summary
    assert "| **add** | torch | float32 | no model | 1 | 1 |" in summary


@pytest.mark.parametrize("odd", [None, "direct float32", {"a": 1}, 7])
def test_there_is_no_section_without_fingerprints(odd: object) -> None:
    problems: list[str] = []
    results = Results(header(), [row(), row(models=odd)])

    assert 'id="precision"' not in conformance_html(results, problems=problems)
    assert "Precision" not in summary_md(results)
    assert problems == []


def test_odd_names_are_shown_as_text() -> None:
    odd = [row(models=[None, HOSTILE], apart=[HOSTILE, 3], path=HOSTILE, backend=HOSTILE)]

    assert HOSTILE not in section(odd)
    assert "&lt;/script&gt;" in section(odd)
    assert HOSTILE not in summary_md(Results(header(), odd))
