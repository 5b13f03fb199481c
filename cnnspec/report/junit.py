"""The results as JUnit XML, one test case per cell, for continuous integration servers."""

import re
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from cnnspec.report.cells import Cell
from cnnspec.report.results import Results
from cnnspec.report.values import units

OUTCOME = {
    **dict.fromkeys(("fail", "flaky", "xpass", "vacuous"), "failure"),
    **dict.fromkeys(("crash", "timeout", "harness"), "error"),
    **dict.fromkeys(("xfail", "unsupported", "skip"), "skipped"),
}
MOST_MESSAGE = 500

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(results: Results) -> str:
    """Write one suite per backend, device and dtype; characters that XML cannot hold are replaced."""
    suites: dict[str, list[Cell]] = {}
    for cell in results.cells:
        suites.setdefault(f"{cell.backend}-{cell.device}-{cell.dtype}", []).append(cell)
    messages = {failure.failure_id: failure.message for failure in results.failures}
    root = ET.Element("testsuites", {"name": "cnnspec", **_totals(results.cells)})
    for name, cells in suites.items():
        suite = ET.SubElement(root, "testsuite", {"name": _clean(name), **_totals(cells, suite=True)})
        suite.set("timestamp", _clean(str(results.header.get("started_utc", "")).rstrip("Z")))
        for cell in cells:
            _add_case(suite, name, cell, messages.get(cell.failure_id, ""))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _totals(cells: Sequence[Cell], *, suite: bool = False) -> dict[str, str]:
    outcomes = Counter(OUTCOME.get(cell.status, "passed") for cell in cells)
    totals = {
        "tests": str(len(cells)),
        "failures": str(outcomes["failure"]),
        "errors": str(outcomes["error"]),
        "time": f"{sum(cell.seconds for cell in cells):.3f}",
    }
    return {**totals, "skipped": str(outcomes["skipped"])} if suite else totals


def _add_case(suite: ET.Element, name: str, cell: Cell, message: str) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_clean(f"cnnspec.{cell.operator}"),
        name=_clean(f"{cell.law}[{name}]"),
        time=f"{cell.seconds:.3f}",
    )
    outcome = OUTCOME.get(cell.status)
    if outcome == "skipped":
        ET.SubElement(case, outcome, message=_clean(f"{cell.status}: {cell.reason}")[:MOST_MESSAGE])
    elif outcome:
        said = _clean(message or cell.reason or cell.status)
        element = ET.SubElement(case, outcome, type=cell.status, message=said[:MOST_MESSAGE])
        element.text = _clean(f"{said}\n{cell.worst_case}")
    lines = [f"status={cell.status}", f"examples={cell.examples}", f"discriminating={cell.discriminating}"]
    if cell.worst_ratio is not None:
        lines.append(f"worst_ratio={units(cell.worst_ratio)}")
    ET.SubElement(case, "system-out").text = "\n".join(lines)


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
