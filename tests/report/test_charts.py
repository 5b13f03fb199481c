"""Histograms: what counts as beyond the bound, and drawings that take the colours of their page."""

import re
from xml.etree import ElementTree as ET

from cnnspec.report.charts import Histogram, drawings, histograms_of, inline_svg
from tests.report.synthetic import row


def test_an_element_at_its_bound_is_within_unless_the_row_failed() -> None:
    passed = row(histogram={"exact": 2, "-1": 3, "0": 5})
    failed = row("fail", histogram={"exact": 7, "-1": 11, "0": 13, "4": 17})
    (one,) = histograms_of([passed, failed])
    assert (one.exact, dict(one.within), dict(one.beyond)) == (9, {-1: 14, 0: 5}, {0: 13, 4: 17})
    assert (one.elements, one.count(0)) == (58, 18)


def test_bins_beyond_the_axis_and_odd_ones() -> None:
    (one,) = histograms_of([row(histogram={"-25": 1, "-20": 1, "30": 2, "odd": 9}), row(histogram=None)])
    assert (dict(one.within), dict(one.beyond), one.exact) == ({-20: 2}, {20: 2}, 0)


def test_one_drawing_for_each_operator_on_common_axes() -> None:
    wide = Histogram("conv2d", 10, {-18: 1, -1: 100_000}, {3: 2})
    narrow = Histogram("relu", 5, {}, {})
    drawn = drawings([wide, narrow])
    assert list(drawn) == ["conv2d", "relu"]
    labels = [re.findall(r">([^<>]+)</text>", svg) for svg in drawn.values()]
    assert labels[0] == labels[1]
    assert labels[0][0] == "exact"
    ET.fromstring(drawn["conv2d"])


def test_drawings_take_the_colours_of_the_page_and_name_nothing() -> None:
    (svg,) = drawings([Histogram("conv2d", 10, {-1: 3}, {3: 2})]).values()
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) == {
        "none",
        "currentColor",
        "var(--rule)",
        "var(--accent)",
        "var(--fail)",
    }
    for foreign in (" id=", "<style", "<metadata", "xlink", "http", "font-family", "#"):
        assert foreign not in svg


def test_words_of_a_drawing_stay_as_they_are() -> None:
    words = 'eps=0.00001 #030303 id="a" clip-path="b"'
    svg = f'<svg viewBox="0 0 9 9"><g id="c"><text x="1.23456" style="fill: #030303">{words}</text></g></svg>'
    assert inline_svg(svg) == (
        '<svg viewBox="0 0 9 9" aria-hidden="true">'
        f'<text x="1.23" style="fill: var(--accent)">{words}</text></svg>'
    )


def test_nothing_to_draw() -> None:
    assert drawings([]) == {}
    assert histograms_of([row("skip")]) == []
