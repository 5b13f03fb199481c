"""The page about the bound: its numbers are those of its script, and these satisfy what the page says."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from docs import figures
from tests.test_docs import blocks_of, run_python

DOCS = Path(figures.__file__).parent
PAGE = (DOCS / "no-tolerance.md").read_text(encoding="utf-8")
KEPT = figures.loaded((DOCS / "no-tolerance.json").read_text(encoding="utf-8"))
MOST_BYTES = 150_000
ROUNDED_INPUTS = ("tf32", "bfloat16")


@pytest.fixture(scope="module")
def small() -> figures.Findings:
    """What the script finds on layers of 6 channels and 9 x 9 outputs."""
    layer = figures.Layer(6, 9)
    return {name: figures.measure(replace(data, layer=layer)) for name, data in figures.DATA.items()}


def assert_satisfies_the_page(findings: figures.Findings) -> None:
    """Check what holds on every machine, at every size."""
    for row in findings.values():
        assert row["float32"].beyond == 0
        for one in row.values():
            assert sum(one.histogram.values()) == one.outputs
            assert sum(count for e, count in one.histogram.items() if e >= 0) == one.beyond
    for name in ("float32", *ROUNDED_INPUTS):
        assert findings["integers"][name].unequal == findings["integers"][name].mismatched == 0
        assert findings["dense scaled"][name] == replace(
            findings["dense"][name], mismatched=findings["dense scaled"][name].mismatched
        )
        assert findings["dense scaled"][name].mismatched == 0
    assert 0 < findings["integers"]["dropped"].unequal <= findings["integers"]["dropped"].outputs
    for name in ("sparse", "sparse last"):
        assert findings[name]["dropped"].beyond == findings[name]["dropped"].outputs > 0
        for rounded in ROUNDED_INPUTS:
            one = findings[name][rounded]
            assert 10 * one.beyond > 9 * one.outputs
            assert (
                one.beyond
                > findings["dense"][rounded].beyond * one.outputs / findings["dense"][rounded].outputs
            )


def test_small_layers_satisfy_the_page(small: figures.Findings) -> None:
    assert_satisfies_the_page(small)


def test_the_numbers_kept_satisfy_the_page() -> None:
    assert_satisfies_the_page(KEPT)

    assert KEPT["dense last"]["tf32"].beyond == 0
    assert KEPT["dense"]["float32"].mismatched > 0  # a fixed tolerance objects to correct float32
    assert 2 * KEPT["dense"]["float32"].unequal > KEPT["dense"]["float32"].outputs
    for rounded in ROUNDED_INPUTS:
        assert KEPT["dense"][rounded].mismatched > KEPT["dense"][rounded].beyond


def test_the_table_is_that_of_the_numbers_kept() -> None:
    assert figures.with_table(PAGE, KEPT) == PAGE
    assert figures.table(KEPT) in PAGE
    row = KEPT["dense"] | {"tf32": replace(KEPT["dense"]["tf32"], beyond=1)}
    assert figures.with_table(PAGE, KEPT | {"dense": row}) != PAGE


def test_integers_come_out_the_same_on_every_machine() -> None:
    assert figures.measure(figures.DATA["integers"]) == KEPT["integers"]


def test_the_terms_that_the_page_names_are_those_of_the_layers() -> None:
    assert (figures.FIRST.terms, figures.LAST.terms) == (576, 4608)
    assert [re.findall(r"n = (\d+)", label) for label in figures.ROWS.values()] == [[], ["576"], ["4608"]]


def test_a_lost_term_is_beyond_the_bound_in_sparse_data() -> None:
    """The page's 2**-20 and 2**-22: KEPT products, each within a factor of 2**18 of the others."""
    values = np.abs(figures.significands(np.random.default_rng(0), (10_000,)))

    assert 2.0**-4 <= values.min() <= values.max() <= 2.0**5
    least, largest = 2.0**-8, 2.0**10
    assert least > 2.0**-20 * (least + (figures.KEPT - 1) * largest)
    assert figures.KEPT * 2.0**-24 == 2.0**-22


def test_the_script_writes_numbers_pictures_and_table(
    tmp_path: Path, small: figures.Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = figures.Layer(6, 9)
    monkeypatch.setattr(
        figures, "DATA", {name: replace(data, layer=layer) for name, data in figures.DATA.items()}
    )
    (tmp_path / "no-tolerance.md").write_text(f"# Page\n{figures.BEGIN}{figures.END}end\n", encoding="utf-8")

    assert figures.main(tmp_path) == 0
    assert figures.loaded((tmp_path / "no-tolerance.json").read_text(encoding="utf-8")) == small
    assert figures.table(small) in (tmp_path / "no-tolerance.md").read_text(encoding="utf-8")
    for name, theme in figures.THEMES.items():
        picture = (tmp_path / name).read_text(encoding="utf-8")
        assert picture == figures.picture(small, theme)  # the same bytes each time
        assert len(picture.encode()) < MOST_BYTES
        assert not re.search(r"<dc:date>|<image", picture)


@pytest.mark.parametrize("name", figures.THEMES)
def test_the_pictures_of_the_page_are_small_and_opaque(name: str) -> None:
    assert name in PAGE
    picture = (DOCS / name).read_text(encoding="utf-8")
    assert len(picture.encode()) < MOST_BYTES
    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    background = picture[picture.index('id="patch_1"') :]
    assert f"fill: {figures.THEMES[name].page}" in background[: background.index("</g>")]


def test_an_error_too_near_its_bound_is_refused() -> None:
    one = np.ones(1)
    found = figures.ratios(
        np.array([1.0, 1.5, 3.0, 4.0]), np.array([1.0, 1.0, 1.0, 4.0]), np.array([1, 1, 1, 0])
    )

    assert found.tolist() == [0, 0.5, 2, 0]
    assert figures.octaves(found) == {figures.LOW: 2, -1: 1, 1: 1}
    with pytest.raises(ArithmeticError, match="so near its bound"):
        figures.ratios(2 * one, one, one)
    assert figures.ratios(one, 2 * one, 0 * one).tolist() == [np.inf]


def test_inputs_are_cut_to_the_bits_of_the_format() -> None:
    ulp = 2.0**-10  # of TF32 between 1 and 2

    assert figures.cut(np.array([1 + ulp, 1 + ulp / 2, 1 + 1.5 * ulp, -0.75]), 11).tolist() == [
        1 + ulp,
        1,
        1 + 2 * ulp,
        -0.75,
    ]


def test_the_example_of_the_page_runs() -> None:
    blocks = [block for block in blocks_of(PAGE) if block.language == "python"]
    assert blocks
    run_python(blocks)
