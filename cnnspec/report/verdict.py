"""The verdict of a run in one plain sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cnnspec.report.values import plural, ratio_key, units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnspec.report.cells import Failure
    from cnnspec.report.results import Results

MOST_NAMED = 3

_DOES = {
    "fail": "violates",
    "crash": "crashes in",
    "timeout": "hangs in",
    "flaky": "is flaky in",
    "xpass": "unexpectedly passes",
}


class Verdict(NamedTuple):
    """What the run found, as one would tell a colleague: a headline, and what it rests on."""

    headline: str
    detail: str

    def __str__(self) -> str:
        return f"{self.headline}: {self.detail}"


def verdict(results: Results) -> Verdict:
    """Say what the run found.

    >>> from cnnspec.report.results import Results
    >>> print(verdict(Results(header={})))
    Nothing ran: no cell applies.
    """
    if results.counts["harness"]:
        return Verdict("No verdict", f"cnnspec itself failed in {plural(results.counts['harness'], 'cell')}.")
    if not results.applicable:
        return Verdict("Nothing ran", "no cell applies.")
    if results.exit_code == 1:
        return Verdict(plural(len(results.failures), "failure"), f"{_named(results.failures)}.")
    return _inconclusive(results) if results.exit_code == 3 else _holds(results)


def _named(failures: Sequence[Failure]) -> str:
    places = list(dict.fromkeys(map(_place, failures)))
    rest = len(places) - MOST_NAMED
    named = "; ".join(places[:MOST_NAMED])
    return f"{named}; and {rest} more" if rest > 0 else named


def _place(failure: Failure) -> str:
    does = _DOES.get(failure.status, failure.status)
    node = failure.row.get("node")
    if node:
        return f"{node} of {failure.row.get('net')} ({failure.operator}) {does} {failure.law} on {failure.backend}"
    target = failure.backend if failure.device == "cpu" else f"{failure.backend} ({failure.device})"
    return f"{failure.operator} {failure.dtype} {does} {failure.law} on {target}"


def _inconclusive(results: Results) -> Verdict:
    flaky = sum(failure.status == "flaky" for failure in results.failures)
    vacuous = results.counts["vacuous"]
    parts = [f"{plural(flaky, 'case')} gave both outcomes"] if flaky else []
    parts += [f"{plural(vacuous, 'cell')} could not have failed"] if vacuous else []
    return Verdict("No violation, but not all is proven", f"{' and '.join(parts)}.")


def _holds(results: Results) -> Verdict:
    passed = [cell for cell in results.cells if cell.status == "pass"]
    ratios = [cell.worst_ratio for cell in passed if cell.worst_ratio is not None]
    judged = plural(sum(cell.examples for cell in passed), "judgement")
    worst = f", the worst error {units(max(ratios, key=ratio_key))} of its proven bound" if ratios else ""
    known = results.counts["xfail"]
    but = f" but for {plural(known, 'known deviation')}" if known else ""
    return Verdict(f"Every law holds{but}", f"{judged} in {plural(len(passed), 'cell')}{worst}.")
