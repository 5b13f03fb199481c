"""From TOML to entries: every mistake is named with file, entry, field and repair."""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from cnnspec import ops
from cnnspec.casebook import entries
from cnnspec.casebook.entries import KINDS, TEXTBOOK, CasebookError, Entry, Source
from cnnspec.casebook.fields import READERS, RepairError, hint, number
from cnnspec.nested import ravel

BY_HAND = "by hand"
SHELF = ("author", "title", "url")
FORMS = 'write { from = "key", section = "..." }, { author, title, section } or "by hand: ..."'
ROUNDED = "giga_macs is rounded: give digits, the number of its decimals"
PLURALS = {"input": "inputs", "input_shape": "input_shapes"}


def specs_directory() -> Path:
    """Return the casebook's directory: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "_specs"
    return installed if installed.is_dir() else package.parent / "specs"


def find(directory: Path) -> tuple[Path, ...]:
    """Return the casebooks below `directory`, sorted; expectations are no casebooks."""
    paths = sorted(Path(directory).rglob("*.toml"))
    return tuple(path for path in paths if "expectations" not in path.relative_to(directory).parts)


def load_all(directory: Path) -> tuple[Entry, ...]:
    """Return the entries of all casebooks below `directory`; CasebookError where two share a name."""
    named: dict[str, Entry] = {}
    for path in find(directory):
        for entry in load(path):
            if entry.name in named:
                taken = named[entry.name].file
                raise CasebookError(f"{path}: {entry.kind} {entry.name!r}: {taken} has this name: rename one")
            named[entry.name] = entry
    return tuple(named.values())


def load(path: Path) -> tuple[Entry, ...]:
    """Return the entries of one casebook in their order; CasebookError where it cannot be read."""
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=number)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CasebookError(f"{path}: cannot be read as TOML: {error}") from error
    if tables.pop("casebook", None) != 1:
        raise CasebookError(f"{path}: write casebook = 1 at the top, the version of the format")
    shelf = _shelf(path, tables.pop("sources", {}))
    read = tuple(_entries(path, tables, shelf))
    if not read:
        raise CasebookError(f"{path}: no entry: write one of [[{']], [['.join(KINDS)}]]")
    names = [entry.name for entry in read]
    for entry in read:
        if names.count(entry.name) > 1:
            raise CasebookError(f"{path}: {entry.kind} {entry.name!r}: this name stands twice: rename one")
    return read


def _entries(path: Path, tables: Mapping[str, Any], shelf: Mapping[str, Source]) -> Iterator[Entry]:
    for kind, rows in tables.items():
        if kind not in KINDS:
            raise CasebookError(f"{path}: unknown kind {kind!r}{hint(kind, KINDS)}")
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise CasebookError(f"{path}: {kind}: write an array of tables, [[{kind}]]")
        for place, row in enumerate(rows, 1):
            where = f"{path}: {kind} {row.get('name', place)!r}"
            given = {"file": path, "source": _source(row.get("source"), where, shelf)}
            entry: Entry = _record(KINDS[kind], row, where, given)
            for lack in _lacks(entry):
                raise CasebookError(f"{where}: {lack}")
            yield entry


def _shelf(path: Path, tables: Any) -> dict[str, Source]:
    """Return the sources of a file by key; they have no section yet."""
    shelf = {}
    for key, table in (tables if isinstance(tables, Mapping) else {"": tables}).items():
        if not isinstance(table, Mapping) or not {*SHELF[:2]} <= set(table) <= {*SHELF}:
            raise CasebookError(f"{path}: [sources.{key}] takes {', '.join(SHELF)}, not {table!r}")
        shelf[key] = Source(section="", **table)
    return shelf


def _source(value: Any, where: str, shelf: Mapping[str, Source]) -> Source:
    """Return who says so: by hand, from `[sources]` of the file with a section, or in full."""
    if isinstance(value, str) and value.startswith(BY_HAND) and len(value) > len(BY_HAND):
        return Source(BY_HAND, "", value.removeprefix(BY_HAND).lstrip(",: "))
    match value:
        case None:
            problem = "source is missing"
        case {"from": str(key), "section": str(section), **rest} if section and not rest:
            if key in shelf:
                return dataclasses.replace(shelf[key], section=section)
            problem = f"source={value!r}: no [sources.{key}]{hint(key, shelf)}"
        case {"author": str(author), "title": str(title), "section": str(section), **rest} if (
            author and title and section and set(rest) <= {"url"}
        ):
            return Source(author, title, section, str(rest.get("url", "")))
        case _:
            problem = f"source={value!r} is incomplete or has unknown keys"
    raise CasebookError(f"{where}: {problem}; {FORMS}")


def _record(kind: type[Any], table: Mapping[str, Any], where: str, given: Mapping[str, Any]) -> Any:
    """Return the dataclass `kind` with the fields that are not `given` read from `table`."""
    row = {key: value for key, value in table.items() if key not in given}
    for one, many in PLURALS.items():
        if one in row and many not in row:
            row[many] = [row.pop(one)]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in given}
    if "others" in fields and row.get("operator") in ops.NAMES:
        known = [name for name in ops.spec(row["operator"]).operands if name not in ("weight", "bias")]
        others = {name: row.pop(name) for name in known if name in row and not name.startswith("input")}
        row |= {"others": others} if others else {}
    for key in row:
        if key not in fields:
            raise CasebookError(f"{where}: unknown key {key!r}{hint(key, fields)}")
    for key, field in fields.items():
        if key not in row and field.default is field.default_factory:  # both are MISSING
            raise CasebookError(f"{where}: {key} is missing")
    values: dict[str, Any] = dict(given)
    for key, value in row.items():
        try:
            values[key] = READERS[key](value)
        except RepairError as error:
            raise CasebookError(f"{where}: {key}={value!r}: {error}") from error
    for steps, step in (("layers", "layer"), ("nodes", "node")):
        if steps in values:
            rows = enumerate(values[steps])
            values[steps] = tuple(_record(kind.step, one, f"{where}, {step} {i}", {}) for i, one in rows)
    return kind(**values)


def _lacks(entry: Entry) -> Iterator[str]:
    """Yield what an entry needs so that it can be run, and so that running it says something."""
    match entry:
        case entries.Example():
            yield from _example_lacks(entry)
        case entries.Cost():
            counts = ("macs", "macs_effective", "bias_adds", "norm_ops", "flops")
            per_call = (*counts, "multiplications", "additions")
            costs = [name for name in per_call if getattr(entry, name) is not None]
            if not costs and entry.parameter_count is None and entry.parameter_shapes is None:
                yield "states no cost: give parameter_count, macs or another"
            if costs and not entry.input_shapes:
                yield f"{costs[0]} depends on the input: give input_shape"
        case entries.Refuse(when="constructed", weight_shape=None):
            if "weight" in _parameters(entry.operator, entry.arguments):
                yield "an operator that is not constructed has no weight: give weight_shape, and bias_shape"
        case entries.Sequence() | entries.ReceptiveFields():
            yield from _path_lacks(entry)
        case entries.NetworkTable() | entries.Graph():
            yield from _network_lacks(entry)


def _path_lacks(entry: entries.Sequence | entries.ReceptiveFields) -> Iterator[str]:
    if isinstance(entry, entries.ReceptiveFields):
        if entry.layers[-1].size is None:
            yield "the last layer must state its size"
    elif entry.giga_macs is not None and entry.digits is None:
        yield ROUNDED
    elif entry.layers[-1].output_shape is None:
        yield "the last layer must state its output_shape"


def _network_lacks(entry: entries.NetworkTable | entries.Graph) -> Iterator[str]:
    if isinstance(entry, entries.Graph):
        known = {*entry.values, *(use.node for use in entry.nodes)}
        lacking = (name for use in entry.nodes for name in use.takes if name not in known)
        yield from (f"values lacks {name!r}, which a node takes" for name in lacking)
        return
    totals = (entry.output_shape, entry.parameter_count, entry.macs, entry.giga_macs)
    if not entry.nodes and all(total is None for total in totals):
        yield "states nothing: give parameter_count, output_shape, nodes or another"
    if entry.giga_macs is not None and entry.digits is None:
        yield ROUNDED


def _example_lacks(entry: entries.Example) -> Iterator[str]:
    wanted, given = _parameters(entry.operator, entry.arguments), {"weight", "bias"} & set(entry.operands)
    if wanted - given:
        yield f"{max(wanted - given)} is missing: give it (or bias = false in arguments)"
    if given - wanted:
        yield f"{entry.operator} takes no {min(given - wanted)} here: remove it"
    arrays = [*entry.operands.values(), *([entry.output] if entry.digits is None else [])]
    odd = [value for array in arrays for value in ravel(array) if not _binary(value)]
    if odd:
        yield f"{float(odd[0])} is no binary fraction: choose another, or give digits if it is rounded output"


def _parameters(operator: str, arguments: Mapping[str, Any]) -> set[str]:
    """Return which of weight and bias a call has."""
    if operator in TEXTBOOK:
        return set() if operator == "pool2d" else {"weight"}
    names = {"weight", "bias"} & set(ops.spec(operator).operands)
    arguments_known = dataclasses.fields(ops.spec(operator).operator)  # type: ignore[arg-type]
    if {"affine", "elementwise_affine", "weight"} & {field.name for field in arguments_known}:
        operation = ops.spec(operator).operator(**arguments)
        return names & {*operation.parameter_shapes(), *operation.buffer_shapes()}
    return names if arguments.get("bias", True) else names - {"bias"}


def _binary(value: Any) -> bool:
    return not isinstance(value, Fraction) or value.denominator & (value.denominator - 1) == 0
