"""A case is one line of text that replays: an operator, its arguments, shapes, dtype, layouts and data.

    conv2d(in_channels=3, out_channels=4, kernel_size=(3, 2), input=(2, 3, 5, 7), dtype='float32',
           regime='integers', seed=17)

It reads as a Python call and is parsed, never evaluated. Data come from (regime, seed), or stand in `data`.
"""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from cnnspec import ops
from cnnspec.errors import ArgumentError, UsageError
from cnnspec.nested import Shape
from cnnspec.op import Operator
from cnnspec.spec import Spec

REGIMES = ("integers", "sparse", "dense", "special", "impulse")
BORDERLINE = "borderline"
"""The regime of calls that may be illegal: their operands are zeros."""
_OWN = ("dtype", "regime", "seed", "grad", "layout", "shapes", "dtypes", "data")
GRAD_OUTPUT = "grad_output"
"""The name of the output's gradient among layouts and data."""


@dataclass(frozen=True)
class Case:
    """One call of one operator on one set of data.

    inputs: the shapes of `Spec.inputs`;   grad: the operands that require gradients, all that can where None
    layout, data: by operand, and of "grad_output"
    shapes, dtypes: of operands that are not as the arguments say, for calls that may be illegal

    >>> case = Case.parse("linear(in_features=3, out_features=2, input=(4, 3), dtype='float32', seed=7)")
    >>> case.operation.output_shape(*case.inputs)
    (4, 2)
    >>> print(case)
    linear(in_features=3, out_features=2, input=(4, 3), dtype='float32', regime='integers', seed=7)
    """

    operator: str
    arguments: Mapping[str, Any]
    inputs: tuple[Shape, ...]
    dtype: str = "float32"
    regime: str = "integers"
    seed: int = 0
    grad: tuple[str, ...] | None = None
    layout: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, list[Any]] | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """The Spec of the operator."""
        return ops.spec(self.operator)

    @cached_property
    def operation(self) -> Operator:
        """The operator with its arguments."""
        return self.spec.operator(**self.arguments)

    def operand_shapes(self) -> dict[str, Shape]:
        """Return the shape of every input and parameter, in the order of the call."""
        names = self.spec.input_names(len(self.inputs))
        shapes = dict(zip(names, self.inputs, strict=True))
        if set(self.spec.operands) <= set(names) or self.spec.gathers:
            return shapes
        if (
            self.regime != BORDERLINE or self.shapes
        ):  # its arguments may be illegal, all its shapes are stated
            shapes |= self.shapes or self.operation.buffer_shapes() | self.operation.parameter_shapes()
        return {name: shapes[name] for name in (*names, *self.spec.operands) if name in shapes}

    def dtype_of(self, operand: str) -> str:
        """Return the dtype of an operand: that of the case, or int64 for indices and classes."""
        return self.dtypes.get(operand, "int64" if operand in self.spec.integers else self.dtype)

    @property
    def differentiated(self) -> tuple[str, ...]:
        """The operands whose gradients are asked for; none for integers."""
        if self.dtype.startswith(("int", "uint")) or not self.operation.differentiable(*self.inputs):
            return ()
        constant = (*self.spec.constants, *self.spec.integers)
        able = [name for name in self.operand_shapes() if name not in constant]
        return tuple(name for name in able if self.grad is None or name in self.grad)

    def __str__(self) -> str:
        inputs = dict(zip(self.spec.inputs, self.inputs, strict=False))
        parts: dict[str, Any] = {**self.arguments, **inputs, "dtype": self.dtype}
        parts |= {"regime": self.regime} | ({"seed": self.seed} if self.data is None else {})
        parts |= {"grad": self.grad} if self.grad is not None else {}
        parts |= {"layout": dict(self.layout)} if self.layout else {}
        parts |= {"shapes": dict(self.shapes)} if self.shapes else {}
        parts |= {"dtypes": dict(self.dtypes)} if self.dtypes else {}
        parts |= {"data": {name: _spell(values) for name, values in self.data.items()}} if self.data else {}
        return f"{self.operator}({', '.join(f'{name}={value!r}' for name, value in parts.items())})"

    @classmethod
    def parse(cls, line: str) -> "Case":
        """Return the case that `line` spells; UsageError where it is none.

        >>> Case.parse("conv2d(")
        Traceback (most recent call last):
            ...
        cnnspec.errors.UsageError: not a case line: 'conv2d(' ('(' was never closed)
        """
        name, values = call_of(line, "case line")
        spec = ops.spec(name)
        inputs = spec.inputs
        missing = [operand for operand in inputs if operand not in values]
        if missing:
            raise UsageError(f"not a case line: {missing[0]}=(its shape) is missing in {line!r}")
        for operand in inputs:
            if not isinstance(values[operand], tuple | list):
                raise UsageError(
                    f"not a case line: {operand}={values[operand]!r} must be a shape, as in (2, 3)"
                )
        if values.get("regime", REGIMES[0]) not in (*REGIMES, BORDERLINE):
            raise UsageError(f"regime={values['regime']!r} is not one of {', '.join(REGIMES)}")
        own = {key: values[key] for key in _OWN if key in values}
        if "data" in own:
            own["data"] = {key: [_read(value) for value in row] for key, row in own["data"].items()}
            own.setdefault("regime", "dense")  # algebraic laws are for data made for them
        arguments = {key: value for key, value in values.items() if key not in (*_OWN, *inputs)}
        case = cls(name, arguments, tuple(tuple(values[key]) for key in inputs), **own)
        if case.regime == BORDERLINE:
            return case  # it may be illegal
        try:
            case.operation.parameter_shapes()  # illegal arguments are refused here
            shapes = case.operand_shapes()
        except (ArgumentError, TypeError) as error:
            raise UsageError(f"not a case line: {error} in {line!r}") from None
        for key, row in (case.data or {}).items():
            if key == GRAD_OUTPUT:
                continue
            if key not in shapes or len(row) != math.prod(shapes[key]):
                raise UsageError(f"not a case line: data for {key!r} does not fill {shapes.get(key)}")
        return case

    def with_data(self, data: Mapping[str, list[Any]]) -> "Case":
        """Return this case with explicit data, row by row."""
        return replace(self, data=data)


def call_of(text: str, what: str = "call") -> tuple[str, dict[str, Any]]:
    """Return the name and the literal keyword arguments of a Python call; UsageError where `text` is none.

    >>> call_of("Conv2d(in_channels=3, kernel_size=(3, 2))")
    ('Conv2d', {'in_channels': 3, 'kernel_size': (3, 2)})
    >>> call_of("LPPool2d(norm_type=-inf)")
    ('LPPool2d', {'norm_type': -inf})
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            raise ValueError("it must read as name(argument=value, ...)")
        return tree.func.id, {
            str(word.arg): ast.literal_eval(_Infinite().visit(word.value)) for word in tree.keywords
        }
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"not a {what}: {text!r} ({reason})") from None


class _Infinite(ast.NodeTransformer):
    """Put the number for the name `inf`, which Python prints but does not read as a literal."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(math.inf) if node.id == "inf" else node


def _spell(values: list[Any]) -> list[Any]:
    """Return values as literals: NaN and infinities, which have none, as strings."""
    return [repr(v) if isinstance(v, float) and not math.isfinite(v) else v for v in values]


def _read(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
