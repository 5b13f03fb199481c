"""Corners: each is what it says, legal, drawn in every run, and documented with whose bug it is for."""

import re
from pathlib import Path

import pytest

from cnnspec import borderline, corners, ops, strategies
from cnnspec.cases import Case
from cnnspec.corners import CORNERS
from cnnspec.corners.corner import Corner
from cnnspec.coverage import hits
from cnnspec.features import View
from cnnspec.plan import EXAMPLES
from cnnspec.shrink import generate
from tests.ops.draws import Seeded

NAMES = [corner.name for corner in CORNERS]
HELD = [(corner, name) for corner in CORNERS for name in ops.NAMES if corner.applies(name)]
FAMILIES = [family for family, names in ops.FAMILIES.items() if any(corners.of(name) for name in names)]

DOCUMENT = Path(__file__).parent.parent / "docs" / "corners.md"
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
CITATION = re.compile(r"[\w.-]+/[\w.-]+#\d+")


@pytest.mark.parametrize(
    ("corner", "operator"), HELD, ids=lambda one: one.name if isinstance(one, Corner) else one
)
def test_what_a_corner_draws_is_legal_and_lies_in_it(corner: Corner, operator: str) -> None:
    for seed in range(40):
        case = corner.draw(Seeded(seed), operator)
        assert case.operation.output_shape(*case.inputs)
        assert Case.parse(str(case)).inputs == case.inputs
        assert corner.holds(View(case)), case
        assert corner.layouts or not case.layout


@pytest.mark.parametrize("corner", [one for one in CORNERS if one.asks], ids=lambda one: one.name)
def test_a_question_of_a_corner_is_asked_and_must_be_refused(corner: Corner) -> None:
    assert corner.asks is not None
    for operator in filter(corner.applies, ops.NAMES):
        for seed in range(10):
            case = borderline.asking(corner.draw(Seeded(seed), operator), corner.asks)
            asked = borderline.question(case)
            assert corner.asks(asked), case
            assert borderline.refusal(asked), asked


def test_where_no_question_is_the_one_wanted_a_case_stays_as_it_is() -> None:
    case = Case.parse("relu(input=(2, 3))")
    assert borderline.asking(case, lambda question: False) is case


# Every run reaches them


def reached(family: str, *, with_corners: bool = True) -> dict[str, int]:
    """Return how many of a family's cases in float32 lie in each of its corners."""
    lines = [
        str(case)
        for operator in ops.FAMILIES[family]
        for case in generate(strategies.cases(operator, corners=with_corners), 1, EXAMPLES)
    ]
    return {one.feature: one.hit for one in hits(lines) if one.feature.startswith("corner: ")}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_reaches_every_corner(family: str) -> None:
    found = reached(family)
    wanted = {corner.feature.name for name in ops.FAMILIES[family] for corner in corners.of(name)}
    assert found.keys() == wanted
    assert [name for name, count in found.items() if not count] == []


def test_without_draws_of_their_own_corners_are_missed() -> None:
    missed = {name for name, count in reached("pad", with_corners=False).items() if not count}
    assert "corner: many rows" in missed


def test_questions_are_for_float32_alone() -> None:
    named = {dtype: {one.name for one in corners.of("fold", dtype)} for dtype in ("float32", "float64")}
    assert named == {"float32": {"no window on any axis"}, "float64": set()}


# Their documentation


def test_names_are_given_once() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert all(any(map(corner.applies, ops.NAMES)) for corner in CORNERS)


def test_the_document_lists_the_corners() -> None:
    assert [(name, region) for name, region, _ in ROWS[1:]] == [(one.name, one.region) for one in CORNERS]


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0])
def test_the_document_says_whose_bug_a_corner_is_for(row: tuple[str, str, str]) -> None:
    assert all(CITATION.fullmatch(one) for one in row[2].split(", "))


def test_nothing_in_the_list_cites_a_bug() -> None:
    assert not CITATION.search(Path(corners.__file__).read_text(encoding="utf-8"))
