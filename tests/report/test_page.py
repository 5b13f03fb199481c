"""The HTML page: complete without JavaScript, closed to the network, inert, and readable by everyone."""

import base64
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

from cnnspec.report import Results
from cnnspec.report.page import conformance_html
from cnnspec.report.statuses import STATUSES
from tests.report.html_page import Page
from tests.report.synthetic import HOSTILE, header, row

TEMPLATES = Path(__file__).parents[2] / "cnnspec" / "report" / "templates"
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def markup(story_run: tuple[Results, Path]) -> str:
    return (story_run[1] / "conformance.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(markup: str) -> Page:
    return Page(markup)


@pytest.mark.parametrize("run", ["story_run", "large_run", "hostile_run"])
def test_page_loads_nothing(run: str, request: pytest.FixtureRequest) -> None:
    markup = (request.getfixturevalue(run)[1] / "conformance.html").read_text(encoding="utf-8")
    page = Page(markup)
    assert page.loads() == []
    assert "@import" not in markup
    assert re.findall(r"url\(", markup) == []
    links = [url for url in page.values("href") if not url.startswith(("#", "data:"))]
    allowed = {"results.jsonl", "conformance.csv", "failures.csv", "junit.xml", "summary.md"}
    assert set(links) <= allowed | {"https://example.org/7"}


def test_a_load_would_be_seen() -> None:
    assert Page('<img src="https://example.org/x.png">').loads() == ["https://example.org/x.png"]
    assert Page('<link rel="stylesheet" href="x.css">').loads() == ["x.css"]


def test_only_its_own_script_may_run(page: Page, markup: str) -> None:
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    digest = hashlib.sha256("".join(page.raw["script"]).encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert page.tags["script"] == 1
    assert markup.index("Content-Security-Policy") < markup.index("<style>") < markup.index("<script>")


def test_nothing_needs_the_script(story_run: tuple[Results, Path], page: Page) -> None:
    results, _ = story_run
    text = page.text
    for failure in (*results.failures, *results.known_deviations):
        assert failure.message in text
        assert f"ase {failure.minimal_case} " in text  # after the heading "Smallest failing case" or "Case"
        assert f'cnnspec replay "{failure.minimal_case}" {failure.backend}' in text
        assert f'@example(cnnspec.Case.parse("{failure.minimal_case}"))' in text
        if failure.row.get("reproducer"):
            assert f"python reproducers/{failure.row['reproducer']}" in text
    for cell in results.cells:
        assert cell.worst_case in text
    for name, value in results.header["environment"].items():
        assert f"{name} {value}" in text
    assert "conv3d float64: the first 40 of 150 cases" in text
    assert "reason of unsupported" in text


def test_numbers_are_decimal_and_hexadecimal(page: Page) -> None:
    assert "expected 3 0x1.8p+1" in page.text
    assert "bound 0.02734375 0x1.cp-6 error / bound 36.57" in page.text


def test_tensors_are_shown_if_small() -> None:
    def text(count: int) -> str:
        operand = {"shape": [count // 4, 2, 2], "values": [f"{n}" for n in range(count)]}
        page = conformance_html(Results(header(), [row("fail", operands={"input": operand})]))
        return Page(page).text

    assert "[1, :, :] 4 5 6 7" in text(64)
    assert "[1, :, :] 4 5 6 7" not in text(68)


def test_tracebacks_keep_their_last_40_lines(page: Page) -> None:
    assert "… 82 lines left out" in page.text
    assert "in frame_59" in page.text
    assert "in frame_39 " not in page.text


@pytest.mark.parametrize("run", ["story_run", "hostile_run"])
def test_links_within_the_page_arrive(run: str, request: pytest.FixtureRequest) -> None:
    page = Page((request.getfixturevalue(run)[1] / "conformance.html").read_text(encoding="utf-8"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = {url[1:] for url in page.values("href") if url.startswith("#")}
    assert targets - set(ids) == set()
    named = {name for value in page.values("aria-labelledby") for name in value.split()}
    assert named - set(ids) == set()


def test_hostile_strings_are_inert(hostile_run: tuple[Results, Path]) -> None:
    markup = (hostile_run[1] / "conformance.html").read_text(encoding="utf-8")
    page = Page(markup)
    assert page.tags["img"] == 0
    assert page.tags["script"] == 1
    assert not any(name.startswith("on") for _, found in page.attributes for name in found)
    assert not any(url.startswith("javascript:") for url in page.values("href"))
    assert page.text.count(HOSTILE) > 50  # shown, as the text that it is
    for where in ("title", "style"):
        assert HOSTILE not in "".join(page.raw[where]) or where == "title"


def test_a_string_that_is_not_escaped_would_be_seen() -> None:
    assert Page(f"<p>{HOSTILE}</p>").tags["img"] == 1


def test_landmarks_and_headings(page: Page, markup: str) -> None:
    assert ("html", {"lang": "en"}) in page.attributes
    assert [page.tags[tag] for tag in ("h1", "main", "header", "nav", "footer")] == [1] * 5
    assert '<a class="jump" href="#main">' in markup
    levels = [int(level) for level in re.findall(r"<h([1-6])", markup)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_table_of_data_has_a_caption_and_scopes(markup: str) -> None:
    tables = re.findall(r"<table.*?</table>", markup, flags=re.DOTALL)
    tables = [table for table in tables if 'class="tensor"' not in table]
    assert len(tables) > 20
    for table in tables:
        assert "<caption" in table
        assert "scope=" in table
        assert not re.search(r"<th(?![^>]*scope=)[ >]", table)


def test_every_chart_is_described(page: Page, story_run: tuple[Results, Path]) -> None:
    described = [found["aria-label"] for _, found in page.attributes if found.get("role") == "img"]
    assert len(described) == len({cell.operator for cell in story_run[0].cells}) == page.tags["svg"]
    assert any(label.startswith("conv2d: ") and "36 beyond the bound" in label for label in described)


def test_statuses_have_glyph_and_word(page: Page) -> None:
    for status in STATUSES.values():
        assert f"{status.glyph} {status.word}" in page.text
    assert len({status.glyph for status in STATUSES.values()}) == len(STATUSES)


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        ([row()], "✓ Every law holds 1 judgement in 1 cell, the worst error 0.31 of its proven bound."),
        ([row(), row("xfail", law="b")], "✓ Every law holds but for 1 known deviation"),
        ([row("fail")], "✗ 1 failure conv2d float32 violates forward on torch."),
        ([row("crash", device="cuda")], "✗ 1 failure conv2d float32 crashes in forward on torch (cuda)."),
        ([row("flaky"), row("vacuous", law="b")], "≈ No violation, but not all is proven 1 case gave both"),
        ([row("harness"), row("fail")], "! No verdict cnnspec itself failed in 1 cell."),
        ([row("skip")], "! Nothing ran no cell applies."),
    ],
)
def test_verdict_in_plain_words(rows: list[dict[str, object]], headline: str) -> None:
    assert headline in Page(conformance_html(Results(header(), rows))).text


def test_what_is_unseen_does_not_widen_a_narrow_page(page: Page) -> None:
    style = "".join(page.raw["style"])
    unseen, scroll = (re.search(rf"\.{name}[,{{].*", style) for name in ("unseen", "scroll"))
    assert unseen
    assert scroll
    assert "position:absolute" in unseen.group()
    assert "position:relative" in scroll.group()  # else what is unseen in a wide table widens the whole page


def test_commands_are_quoted() -> None:
    odd = row("fail", reproducer="a b.py", minimal_case="relu(x='$(reboot)')", backend="my kernels.py")
    text = Page(conformance_html(Results(header(), [odd]))).text
    assert "python 'reproducers/a b.py'" in text
    assert """cnnspec replay 'relu(x='"'"'$(reboot)'"'"')' 'my kernels.py'""" in text


def test_code_is_small(page: Page) -> None:
    code = "".join(page.raw["script"]) + "".join(page.raw["style"])
    assert len(code.encode()) <= 35 * 1024


def test_a_card_is_small(markup: str) -> None:
    cards = re.findall(r"<article.*?</article>", markup, flags=re.DOTALL)
    assert max(len(card.encode()) for card in cards) <= 16 * 1024


def test_more_failures_than_cards() -> None:
    rows = [row("fail", law=str(number), failure_id=f"f{number}", operands=None) for number in range(230)]
    markup = conformance_html(Results(header(), rows))
    assert markup.count("<article") == 200
    assert "30 more failures: see failures.csv" in markup


@pytest.mark.parametrize("odd", ["text", 7, None, ["text", None], {"a": 1}])
def test_an_odd_header_costs_no_section(odd: object) -> None:
    problems: list[str] = []
    names = ("targets", "environment", "operators", "examples", "seed", "started_utc")
    markup = conformance_html(Results(header(**dict.fromkeys(names, odd)), [row()]), problems=problems)
    assert problems == []
    assert markup.count("<section") == 6


def colours(theme: str) -> dict[str, str]:
    style = (TEMPLATES / "style.css.j2").read_text(encoding="utf-8")
    found = re.search(rf"macro {theme}\(\) %}}(.*?){{% endmacro", style)
    assert found
    return dict(pair.removeprefix("--").split(":") for pair in found.group(1).split(";"))


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_text_contrast_is_aa(theme: str) -> None:
    palette = colours(theme)
    pairs = [
        (ink, ground) for ink in ("ink", "soft", "pass", "fail", "warn", "known") for ground in ("bg", "wash")
    ]
    pairs += [("fail", "fail-wash"), ("warn", "warn-wash"), ("known", "known-wash")]
    pairs += [("soft", f"{name}-wash") for name in ("fail", "warn", "known")]
    for ink, ground in pairs:
        assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    assert contrast(palette["accent"], palette["bg"]) >= 3


def test_contrast_as_the_standard_has_it() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert contrast("#777777", "#ffffff") < 4.5 < contrast("#767676", "#ffffff")
