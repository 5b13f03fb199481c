"""Operators as text: "Conv2d(3, 64, 7, stride=2, padding=3)", read and written."""

import ast
import dataclasses
import inspect
from typing import Any

from cnnspec import ops
from cnnspec.errors import ArgumentError, UsageError
from cnnspec.op import Operator
from cnnspec.where import hint

_SPEC_NAMES: dict[type[Operator], str | None] = {}
_DEFAULTS: dict[type[Operator], dict[str, Any]] = {}
"""What `spec_name` found."""


def parse_operator(text: str) -> Operator:
    """Return the operator that a constructor's call spells, with literal arguments; UsageError where none is.

    The name is that of torch.nn or of torch.nn.functional; a name alone stands for a call without arguments.

    >>> parse_operator("Conv2d(3, 64, 7, stride=2, padding=3)").output_shape((1, 3, 224, 224))
    (1, 64, 112, 112)
    >>> parse_operator("ReLu()")
    Traceback (most recent call last):
        ...
    cnnspec.errors.UsageError: unknown operator 'ReLu' in 'ReLu()': did you mean 'ReLU'?
    """
    name, positional, named = _call(text)
    classes = {spelling: ops.spec(one).operator for one in _alike(name) for spelling in _spellings(one)}
    if name not in classes:
        known = [_spellings(one)[0] for one in ops.NAMES]
        raise UsageError(f"unknown operator {name!r} in {text!r}{hint(name, known)}", operator=name)
    operator = classes[name]
    fields = [field.name for field in dataclasses.fields(operator)]  # type: ignore[arg-type]
    for word in named:
        if word not in fields:
            raise UsageError(f"unknown argument {word!r} in {text!r}{hint(word, fields)}", argument=word)
    try:
        inspect.signature(operator).bind(*positional, **named)
        return operator(*positional, **named)
    except (ArgumentError, TypeError) as error:
        raise UsageError(f"{text!r}: {error}") from None


def spelled(operator: Operator) -> str:
    """Return an operator as `parse_operator` reads it, without what is said by default.

    >>> spelled(parse_operator("MaxPool2d((3, 3), stride=(3, 3), padding=1)"))
    'MaxPool2d(3, padding=1)'
    """
    parts = []
    kind: Any = type(operator)
    if kind not in _DEFAULTS:
        _DEFAULTS[kind] = {field.name: field.default for field in dataclasses.fields(kind)}
    defaults = _DEFAULTS[kind]
    given = {name: _short(getattr(operator, name)) for name in defaults}
    for name, default in defaults.items():
        value = given[name]
        if default is dataclasses.MISSING:
            parts.append(repr(value))
        elif value != (given["kernel_size"] if default is None and name == "stride" else default):
            parts.append(f"{name}={value!r}")
    return f"{kind.__name__}({', '.join(parts)})"


def spec_name(operator: Operator) -> str | None:
    """Return the functional name of an operator, None for one that the catalogue does not have.

    >>> spec_name(parse_operator("LogSoftmax(1)"))
    'log_softmax'
    """
    kind = type(operator)
    if kind not in _SPEC_NAMES:
        home = kind.__module__.rpartition(".")[2]
        alike = _alike(kind.__name__) or ops.FAMILIES.get(home, ())
        _SPEC_NAMES[kind] = next((name for name in alike if ops.spec(name).operator is kind), None)
    return _SPEC_NAMES[kind]


def _call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return name, positional and named arguments of a call of literals."""
    try:
        match ast.parse(text.strip(), mode="eval").body:
            case ast.Name(id=name):
                return name, [], {}
            case ast.Call(func=ast.Name(id=name), args=args, keywords=words) if all(
                word.arg for word in words
            ):
                named = {str(word.arg): ast.literal_eval(word.value) for word in words}
                return name, [ast.literal_eval(arg) for arg in args], named
        reason = "it must read as Name(value, argument=value, ...)"
    except SyntaxError as error:
        reason = error.msg
    except (ValueError, TypeError, RecursionError, MemoryError):
        reason = "every argument must be a literal"
    raise UsageError(f"not an operator: {text!r} ({reason})") from None


def _alike(name: str) -> list[str]:
    """Return the functional names that differ from `name` in underscores and capitals only."""
    return [one for one in ops.NAMES if one.replace("_", "") == name.replace("_", "").lower()]


def _spellings(name: str) -> tuple[str, str]:
    return ops.spec(name).operator.__name__, name


def _short(value: Any) -> Any:
    """Return the one integer that all axes have in common, in place of a tuple of them."""
    same = isinstance(value, tuple) and len(value) > 0 and len(set(value)) == 1
    return value[0] if same else value
