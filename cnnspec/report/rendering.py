"""Pages that stand alone: their templates, sections that may fail one by one, and the one script that may run."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnnspec.report.statuses import STATUSES
from cnnspec.report.values import duration, plural, thousands, units

if TYPE_CHECKING:
    import jinja2

T = TypeVar("T")
Section = tuple[str, str, Callable[[], Mapping[str, Any]]]
"""The name of its template and its anchor; its title; and what makes its values, where none leave it out."""


def page(
    template: str,
    sections: Iterable[Section],
    problems: list[str],
    *,
    warnings: Sequence[str] = (),
    folder: str = "",
    **shown: Any,
) -> str:
    """Fill a template that extends base.html.j2; a section that fails says so in its place, and in `problems`."""
    environment = new_environment()
    made: list[tuple[str, str, str]] = []
    for name, title, make in sections:
        try:
            values = make()
            if values:
                filled = environment.get_template(f"{folder}{name}.html.j2").render(**shown, **values)
                made.append((name, title, filled))
        except Exception as error:  # noqa: BLE001 - one section that fails must not cost the others
            problems.append(f"the section {title!r} was not made: {type(error).__name__}: {error}")
            made.append((name, title, f"<p>This section could not be made: {escape(str(error))}</p>"))
    script = environment.get_template("script.js.j2").render().strip()
    return environment.get_template(template).render(
        **shown,
        sections=made,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        warnings=[*warnings, *problems],
    )


def new_environment() -> "jinja2.Environment":
    """Return what reads the templates of this package."""
    import jinja2  # only pages need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnspec.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(units=units, thousands=thousands, duration=duration)
    environment.globals.update(statuses=STATUSES, plural=plural)
    return environment


def attempted(make: Callable[[], T], otherwise: T, what: str, problems: list[str]) -> T:
    """Return what `make` makes, or `otherwise` where it fails, which `problems` then says.

    >>> problems = []
    >>> attempted(lambda: 1 / 0, 0.0, "the charts were not drawn", problems), problems
    (0.0, ['the charts were not drawn: ZeroDivisionError: division by zero'])
    """
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - the numbers behind a chart must survive the chart
        problems.append(f"{what}: {type(error).__name__}: {error}")
        return otherwise


def plainest(lines: Iterable[str]) -> str:
    """Return a page without templates, a paragraph for each line."""
    body = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>cnnspec</title>\n{body}\n</html>\n'


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(text.encode("utf-8", "backslashreplace"))
    unfinished.replace(path)
