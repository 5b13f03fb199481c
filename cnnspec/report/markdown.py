"""The results in one page of Markdown, small enough for a pull-request comment."""

import re
from collections.abc import Iterable, Sequence

from cnnspec.report import views
from cnnspec.report.cells import Failure, text
from cnnspec.report.matrix import Matrix, Square
from cnnspec.report.paths import Path, paths_of
from cnnspec.report.results import Results
from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import decimal, thousands, units
from cnnspec.report.verdict import verdict

MOST_BYTES = 60 * 1024
MOST_FAILURES = 20
MOST_MESSAGE = 400

_MATRIX_CAPTION = "Worst error in units of the proven bound, and laws that hold out of those that apply."
_PRECISION_CAPTION = "The strictest error model that no case of this run rules out; it decides nothing."
_PATHS_CAPTION = (
    "The kernels that were chosen, by their library's names, and which of them keep their error model."
)
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")


def summary_md(results: Results) -> str:
    """Write verdict, score, failures and matrix; parts that would not fit are left out and said so."""
    matrix = Matrix.of(results.cells)
    found = verdict(results)
    page = [f"# {plain(found.headline)}", plain(found.detail), f"**{plain(results.score_line())}**"]
    sections = [
        *([_bullets(results.warnings)] if results.warnings else []),
        _counts(results),
        *_failures("Failures", results.failures),
        *_failures("Known deviations", results.known_deviations),
        f"## Matrix\n\n{_MATRIX_CAPTION}\n\n{_matrix(matrix)}",
        *_paths(paths_of(results.rows)),
        *_precision(results),
        _facts(results),
    ]
    room, dropped = MOST_BYTES - 200 - _size("\n\n".join(page)), 0
    for section in sections:
        if _size(section) + 2 <= room:
            room -= _size(section) + 2
            page.append(section)
        else:
            dropped += 1
    if dropped:
        page.append(f"{dropped} parts that would not fit are left out; conformance.html has everything.")
    return "\n\n".join(page) + "\n"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


def plain(text: str) -> str:
    r"""Escape text so that Markdown shows as it is, on one line.

    >>> plain("<b> 2 * 3 | x_y")
    '&lt;b&gt; 2 \\* 3 \\| x\\_y'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def code(text: str) -> str:
    """Write text as inline code, on one line, whatever backticks it holds.

    >>> code("a | b"), code("a `b` c")
    ('`a | b`', '`` a `b` c ``')
    """
    text = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def _counts(results: Results) -> str:
    lines = [
        [f"{STATUSES[word].glyph} {word}", thousands(count), STATUSES[word].meaning]
        for word, count in results.counts.items()
        if count
    ]
    return _table(["status", "cells", "meaning"], lines)


def _failures(title: str, failures: Sequence[Failure]) -> Iterable[str]:
    if not failures:
        return
    yield f"## {title} ({thousands(len(failures))})"
    for failure in failures[:MOST_FAILURES]:
        yield _failure(failure)
    if len(failures) > MOST_FAILURES:
        yield f"{thousands(len(failures) - MOST_FAILURES)} more are in failures.csv."


def _failure(failure: Failure) -> str:
    row = failure.row
    glyph = STATUSES[failure.status].glyph
    where = f"{failure.law} · {failure.backend} · {failure.device} · {failure.dtype}"
    lines = [
        f"{glyph} **{failure.status}** · **{plain(failure.operator)}** · {plain(where)}",
        *([f"**{plain(told[:MOST_MESSAGE])}**"] if (told := text(row, "explanation")) else []),
        plain(failure.message[:MOST_MESSAGE]),
    ]
    if row.get("expected") is not None or row.get("actual") is not None:
        numbers = {name: decimal(row.get(name)) for name in ("expected", "actual", "error", "bound")}
        said = ", ".join(f"{name} {plain(value)}" for name, value in numbers.items() if value)
        ratio = f" ({units(failure.ratio)} x bound)" if failure.ratio is not None else ""
        lines.append(f"At {plain(str(row.get('worst_index')))}: {said}{ratio}.")
    lines.append(code(failure.minimal_case))
    return "- " + "<br>\n  ".join(lines)


def _matrix(matrix: Matrix) -> str:
    lines = ([f"**{plain(name)}**", *map(_square, squares)] for name, squares in matrix.lines())
    return _table(["operator", *(plain(str(column)) for column in matrix.columns)], lines)


def _square(square: Square | None) -> str:
    if square is None:
        return ""
    status = STATUSES[square.status]
    if not status.applicable and square.status != "harness":
        return f"{status.glyph} {square.status}"
    word = "" if square.status == "pass" else f" {square.status}"
    return " ".join(f"{status.glyph}{word} {units(square.ratio)} {square.passed}/{square.applicable}".split())


def _precision(results: Results) -> Iterable[str]:
    found = views.precision(results.rows).get("fingerprints", ())
    lines = [
        [
            f"**{plain(one.operator)}**",
            *map(plain, (f"{one.backend} {one.path}".strip(), one.dtype, one.looks_like or "no model")),
            thousands(one.cases),
            thousands(one.telling),
        ]
        for one in found
    ]
    if lines:
        head = ["operator", "target", "dtype", "consistent with", "cases", "that could tell"]
        yield f"## Precision fingerprint\n\n{_PRECISION_CAPTION}\n\n{_table(head, lines)}"


def _paths(paths: Sequence[Path]) -> Iterable[str]:
    if not paths:
        return
    head = ["target", "path", "dtype", "direction", "cases", "error / bound", "violating", "keeps its model"]
    lines = (
        [
            *map(plain, (path.backend, path.name, path.dtype, path.direction)),
            *(thousands(path.cases), units(path.worst_ratio), thousands(path.violating), path.verdict),
            code(f"python reproducers/{path.reproducer}").replace("|", "\\|") if path.reproducer else "",
        ]
        for path in paths
    )
    yield f"## Paths\n\n{_PATHS_CAPTION}\n\n{_table([*head, 'reproducer'], lines)}"


def _facts(results: Results) -> str:
    header = results.header
    names = ("command", "cnnspec", "seed", "examples", "budget_seconds", "started_utc", "fingerprint")
    stated = [name for name in names if header.get(name) is not None]
    values = [code(str(header[name])).replace("|", "\\|") for name in stated]
    return _table(["run", ""], zip(map(plain, stated), values, strict=True))


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _table(head: Sequence[str], lines: Iterable[Iterable[str]]) -> str:
    rows: list[Iterable[str]] = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
