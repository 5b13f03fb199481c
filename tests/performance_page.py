"""Pages of made-up runs of benchmarks, and their parts as a reader finds them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from cnnspec.report.performance import performance_html
from tests import performance_run as made
from tests.performance_run import Entry, run_of
from tests.performance_story import awkward, hostile, story
from tests.report.html_page import Page

RUNS: dict[str, Callable[[], list[Entry]]] = {
    "story": story,
    "hostile": hostile,
    "awkward": awkward,
    "large": lambda: [*story(), *made.comparisons(1_879, 7)],
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
