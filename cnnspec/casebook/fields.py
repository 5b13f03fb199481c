"""One reader for each key of an entry: it returns the value as the entry holds it, or raises RepairError."""

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import Any

from cnnspec import nets, ops
from cnnspec.casebook.entries import TEXTBOOK
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape, ravel


class RepairError(Exception):
    """A value that its key does not take; the message says what to write instead."""


def number(text: str) -> Fraction | float:
    """Return a TOML float exactly; NaN, the infinities and -0.0 stay floats.

    >>> number("0.0900"), number("-0.0"), number("inf")
    (Fraction(9, 100), -0.0, inf)
    """
    value = float(text)
    special = not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0)
    return value if special else Fraction(text.replace("_", ""))


def hint(word: object, known: Collection[str]) -> str:
    """Return the repair of a misspelt word: the nearest one, or all.

    >>> hint("weigth", ("weight", "bias")), hint("x", ("weight", "bias"))
    (": did you mean 'weight'?", ': known are weight, bias')
    """
    near = difflib.get_close_matches(str(word), known, 1)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known) or 'none'}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RepairError("write a string that is not empty")
    return value


def _when(value: Any) -> str:
    if value not in ("constructed", "called"):
        raise RepairError('write "constructed" or "called"')
    return str(value)


def _operator(value: Any) -> str:
    known = (*ops.NAMES, *TEXTBOOK)
    if value not in known:
        raise RepairError(f"no such operator{hint(value, known)}")
    return str(value)


def _network(value: Any) -> str:
    if value not in nets.NAMES:
        raise RepairError(f"no such network{hint(value, nets.NAMES)}")
    return str(value)


def _arrays(value: Any) -> dict[str, Array]:
    return {name: _array(array) for name, array in _table(value).items()}


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RepairError("write a table, such as { kernel_size = 3 }")
    return value


def _arguments(value: Any) -> dict[str, Any]:
    return {key: tuple(item) if isinstance(item, list) else item for key, item in _table(value).items()}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise RepairError("write a list that is not empty")
    return value


def _array(value: Any) -> Array:
    try:
        values = ravel(value)
    except ShapeError as error:
        raise RepairError("write rows of one length") from error
    if not values or any(type(item) not in (int, float, Fraction) for item in values):
        raise RepairError("write numbers, in rows of one length")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RepairError("write an integer of at least 0")
    return value


def _shape(value: Any) -> Shape:
    if not isinstance(value, list):
        raise RepairError("write a list of sizes")
    return tuple(_count(size) for size in value)


def _per_axis(value: Any) -> int | tuple[int, ...]:
    return _shape(_list(value)) if isinstance(value, list) else _count(value)


def _decimal(value: Any) -> Fraction:
    if not isinstance(value, Fraction):
        raise RepairError("write a decimal, such as 0.714")
    return value


READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "convention", "note", "reason", "node"), _text),
    **dict.fromkeys(("parameter_count", "macs", "macs_effective", "bias_adds"), _count),
    **dict.fromkeys(("norm_ops", "flops", "multiplications", "additions", "digits"), _count),
    **dict.fromkeys(("weight", "bias", "output", "indices"), _array),
    **dict.fromkeys(("output_shape", "weight_shape", "bias_shape"), _shape),
    **dict.fromkeys(("size", "stride", "padding"), _per_axis),
    "operator": _operator,
    "arguments": _arguments,
    "inputs": lambda value: tuple(_array(item) for item in _list(value)),
    "input_shapes": lambda value: tuple(_shape(item) for item in _list(value)),
    "parameter_shapes": lambda value: {name: _shape(shape) for name, shape in _table(value).items()},
    "layers": lambda value: [_table(item) for item in _list(value)],
    **dict.fromkeys(("others", "values", "gradients"), _arrays),
    "network": _network,
    "nodes": lambda value: [_table(item) for item in _list(value)],
    "takes": lambda value: tuple(_text(item) for item in _list(value)),
    "shared": lambda value: {name: _text(item) for name, item in _table(value).items()},
    "giga_macs": _decimal,
    "when": _when,
}
