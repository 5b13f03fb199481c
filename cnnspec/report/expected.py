"""What a run was to find and did not: known deviations that nothing showed, inputs that were never drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspec.report.results import Results

Entry = Mapping[str, Any]


def unmatched(
    header: Entry, rows: Iterable[Entry], cuts: Sequence[Entry], end: Entry | None
) -> Iterator[str]:
    """Yield a sentence for each expectation of a whole run that has expired or that no row met.

    One that varies by processor may meet none; a shard, or a run that was cut short, says nothing of the others.
    """
    plan = header.get("plan") or {}
    if end is None or end.get("interrupted") or list(plan.get("shard", (1, 1))) != [1, 1]:
        return
    met = {_key(row["expectation"]) for row in rows if isinstance(row.get("expectation"), Mapping)}
    late = {(cut.get("operator"), cut.get("dtype")) for cut in cuts if not cut.get("ran")}
    for one in header.get("expectations", ()):
        what = f"the expectation of {one['operator']} {one['dtype']} on {one['backend']}, law {one['law']}"
        if one.get("expired"):
            yield f"{what}, expired on {one['expired']}: {one['reason']}"
        elif (
            one["status"] != "varies" and _key(one) not in met and (one["operator"], one["dtype"]) not in late
        ):
            yield f"{what}, matches nothing: {one['reason']}"


def uncovered(results: Results) -> Iterator[str]:
    """Yield a sentence for each operator family that has a feature of its arguments which no case had."""
    from cnnspec.coverage import hits  # reads every operator

    missed: dict[str, list[str]] = {}
    for hit in hits(results.case_lines):
        if not hit.hit:
            missed.setdefault(hit.family, []).append(hit.feature)
    yield from (f"no case of {family} has: {', '.join(names)}" for family, names in missed.items())


def _key(expectation: Entry) -> tuple[str, ...]:
    return tuple(str(expectation.get(name, "")) for name in ("law", "witness", "reason"))
