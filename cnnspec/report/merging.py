"""One record from the shards of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.errors import UsageError
from cnnspec.plan import Plan, differences
from cnnspec.report.results import Results

Entry = Mapping[str, Any]


def merged(parts: Sequence[Results], names: Sequence[str]) -> Results:
    """Return what the shards `parts` found as the one run that they are parts of.

    UsageError where they are not all the shards of one plan; `names` are what it calls them.
    """
    plans = [_plan(part, name) for part, name in zip(parts, names, strict=True)]
    for plan, name in zip(plans[1:], names[1:], strict=True):
        different = differences(plans[0], plan, besides=("shard",))
        if plan.shard[1] != plans[0].shard[1]:
            different.append(f"the number of shards is {plans[0].shard[1]} and {plan.shard[1]}")
        if different:
            raise UsageError(f"{names[0]} and {name} are not shards of one run: {'; '.join(different)}")
    count = plans[0].shard[1]
    places = [plan.shard[0] for plan in plans]
    for place in range(1, count + 1):
        if places.count(place) != 1:
            raise UsageError(
                f"shard {place}/{count} is there {places.count(place)} times, it must be there once"
            )
    return _joined([part for _, part in sorted(zip(places, parts, strict=True), key=lambda pair: pair[0])])


def _plan(part: Results, name: str) -> Plan:
    if "plan" not in part.header:
        raise UsageError(f"{name} cannot be merged: its record does not say what was asked")
    return Plan.of(part.header["plan"])


def _joined(parts: Sequence[Results]) -> Results:
    first = parts[0].header
    header = {**first, "plan": {**first["plan"], "shard": [1, 1]}}
    others = [part.header for part in parts[1:] if part.header.get("fingerprint") != first.get("fingerprint")]
    order = {(cell.operator, cell.dtype): place for place, cell in enumerate(parts[0].cells)}

    def place(row: Entry) -> tuple[int, int]:
        return order.setdefault((row["operator"], row["dtype"]), len(order)), row["index"]

    rows = sorted((row for part in parts for row in part.rows), key=place)
    cell_rows = [row for part in parts for row in part.cell_rows]
    scripts = {name: text for part in parts for name, text in part.scripts.items()}
    entries = [header, *others, *rows, *cell_rows, *_cuts(parts), *_end(parts)]
    return Results.from_entries(entries, warnings=[*dict.fromkeys(_dropped(parts))], scripts=scripts)


def _cuts(parts: Sequence[Results]) -> list[Entry]:
    """Return where the first shard that was cut ended each list: what comes before all of them have run."""
    first: dict[tuple[Any, Any], Entry] = {}
    for cut in (cut for part in parts for cut in part.cuts):
        key = (cut.get("operator"), cut.get("dtype"))
        first[key] = min(first.get(key, cut), cut, key=lambda one: one["ran"])
    return [*first.values()]


def _end(parts: Sequence[Results]) -> list[Entry]:
    """Return the closing line; none where a part has none."""
    ends = [part.end for part in parts if part.end is not None]
    if len(ends) < len(parts):
        return []
    last = max(ends, key=lambda end: str(end.get("finished_utc")))
    seconds = max(end.get("seconds") or 0 for end in ends)
    return [{**last, "seconds": seconds, "interrupted": any(end.get("interrupted") for end in ends)}]


def _dropped(parts: Sequence[Results]) -> list[str]:
    return [warning for part in parts for warning in part.warnings if ": dropped " in warning]
