"""A small language of conditions, parsed by `ast` and never evaluated as code.

It has and, or, not, comparisons (chained too, `in` and `not in` among them), + - * // %, numbers, strings,
tuples, True, False, None, and names.

    A tuple holds one value per axis: it is combined axis by axis, a number serves every axis, and a
    comparison holds where it holds on every axis. `x == 1` holds for (1, 1); `x != 1` wants no axis of 1,
    `not x == 1` some axis other than 1; `x in (1, 2)` looks at each axis.
    A comparison with a name that has no value says nothing, and `and`, `or`, `not` go on with the rest
    (Kleene's three-valued logic).
    A comparison that cannot be made (text with a number, tuples of different lengths) does not hold.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from cnnspec.errors import UsageError

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, many: value in many,
    ast.NotIn: lambda value, many: value not in many,
}
_TAKES = "an expression takes names, numbers, strings, tuples, == != < <= > >= in and or not + - * // %"
_DEEPEST = 50


class _LackError(Exception):
    """A name that has no value."""


def parse(text: str) -> ast.expr:
    """Return the tree of an expression; UsageError, naming the part, for what the language does not have.

    >>> parse("print(1)")
    Traceback (most recent call last):
        ...
    cnnspec.errors.UsageError: 'print(1)' in 'print(1)' is not allowed; an expression takes names, numbers, \
strings, tuples, == != < <= > >= in and or not + - * // %
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"not an expression: {text!r} ({reason}); {_TAKES}") from None
    _check(tree, text, _DEEPEST)
    return tree


def verdict(tree: ast.expr, values: Mapping[str, Any]) -> bool | None:
    """Return whether the condition holds of `values`, None where it says nothing of them.

    >>> tree = parse("stride == 1 and groups == 1")
    >>> verdict(tree, {"stride": (1, 2)}), verdict(tree, {"stride": (1, 1), "groups": 1})
    (False, True)
    >>> verdict(tree, {}), verdict(tree, {"stride": (1, 1)})
    (None, None)
    """
    match tree:
        case ast.BoolOp(op=op, values=parts):
            verdicts = [verdict(part, values) for part in parts]
            decisive = isinstance(op, ast.Or)  # one True decides `or`, one False decides `and`
            return decisive if decisive in verdicts else None if None in verdicts else not decisive
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            opposite = verdict(operand, values)
            return None if opposite is None else not opposite
    try:
        return _holds(tree, values)
    except _LackError:
        return None
    except (TypeError, ZeroDivisionError, OverflowError):
        return False


def _check(node: ast.expr, text: str, depth: int) -> None:
    parts: list[ast.expr] = []
    match node:
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts):
            pass
        case ast.Compare(left=left, ops=words, comparators=rest) if {*map(type, words)} <= {*_COMPARE}:
            parts = [left, *rest]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            parts = [left, right]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            parts = [operand]
        case ast.Name() | ast.Constant(value=int() | float() | str() | None):
            pass
        case _:
            raise UsageError(f"{ast.unparse(node)!r} in {text!r} is not allowed; {_TAKES}")
    if not depth:
        raise UsageError(f"{text[:60]!r}... is nested more than {_DEEPEST} deep: write it in fewer parts")
    for part in parts:
        _check(part, text, depth - 1)


def _holds(node: ast.expr, values: Mapping[str, Any]) -> bool:
    if not isinstance(node, ast.Compare):
        value = _value(node, values)
        return all(value) if isinstance(value, tuple) else bool(value)
    sides = [_value(side, values) for side in (node.left, *node.comparators)]
    return all(_compared(op, *pair) for op, *pair in zip(node.ops, sides, sides[1:], strict=False))


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool:
    compare = _COMPARE[type(op)]
    if isinstance(op, ast.In | ast.NotIn):
        whole = not isinstance(left, tuple) or any(isinstance(one, tuple) for one in right)
        return compare(left, right) if whole else all(compare(one, right) for one in left)
    if not isinstance(left, tuple) and not isinstance(right, tuple):
        return compare(left, right)
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) != len(right):
        return isinstance(op, ast.NotEq)
    return all(_per_axis(compare, left, right))


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id=name):
            raise _LackError(name)
        case ast.Tuple(elts=parts):
            return tuple(_value(part, values) for part in parts)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _combined(operator.mul, -1, _value(operand, values))
        case ast.BinOp(left=left, op=op, right=right):
            return _combined(_BINARY[type(op)], _value(left, values), _value(right, values))
    condition = verdict(node, values)
    if condition is None:
        raise _LackError
    return condition


def _combined(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Return numbers combined, per axis where there are several; TypeError for anything else."""
    if isinstance(left, tuple) or isinstance(right, tuple):
        return _per_axis(lambda one, other: _combined(function, one, other), left, right)
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise TypeError(f"{left!r} and {right!r} are not two numbers")
    return function(left, right)


def _per_axis(function: Callable[[Any, Any], Any], left: Any, right: Any) -> tuple[Any, ...]:
    """Apply `function` axis by axis; TypeError for tuples of different lengths."""
    axes = max(len(side) for side in (left, right) if isinstance(side, tuple))
    lefts, rights = (side if isinstance(side, tuple) else (side,) * axes for side in (left, right))
    if len(lefts) != len(rights):
        raise TypeError(f"{left} and {right} differ in length")
    return tuple(function(one, other) for one, other in zip(lefts, rights, strict=True))
