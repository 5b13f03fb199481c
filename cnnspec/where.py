"""Which cases: `--where 'stride == 1 and in_channels % 8 == 0'`, in the language of `cnnspec.expressions`.

Names are the operator's arguments, their defaults filled in and one value per axis, and of every case
`operator`, `dtype`, `regime`, `rank`, `input_shape`, `batched`, `batch` (1 where there is no batch axis),
`channels`, `sizes` (all spatial axes), `depth`, `height`, `width`, `grad` (the operands whose gradients are asked
for), `asked` (what the law `acceptance` changes), and `layout_input`, `layout_weight`, ... `layout_grad_output`.

One expression serves several operators, so a name that a case lacks (the groups of a pooling, the height of
a 1-d input) says nothing of it: what an operator does not have does not restrict it, and a case of which the
whole expression says nothing is selected. `operator == 'conv2d' and groups == 1` keeps all others out.
"""

import ast
import dataclasses
import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnspec import borderline, expressions, ops
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.errors import UsageError
from cnnspec.op import Operator

SPATIAL = ("width", "height", "depth")
OWN = (
    "operator",
    "dtype",
    "regime",
    "rank",
    "batch",
    "batched",
    "channels",
    "grad",
    "asked",
    "sizes",
    *SPATIAL,
)


@dataclass(frozen=True)
class Where:
    """An expression over a case; call it with one.

    >>> where = parse("stride == 1 and in_channels % 8 == 0")
    >>> where(Case.parse("conv2d(in_channels=8, out_channels=2, kernel_size=3, input=(1, 8, 5, 7))"))
    True
    >>> where(Case.parse("max_pool2d(kernel_size=2, stride=(1, 1), input=(1, 3, 5, 7))"))  # no in_channels
    True
    >>> where(Case.parse("max_pool2d(kernel_size=2, input=(1, 3, 5, 7))"))  # its stride is its kernel
    False
    """

    text: str
    names: frozenset[str]
    tree: ast.expr = field(repr=False, compare=False)

    def __call__(self, case: Case) -> bool:
        """Return whether the expression selects `case`; one that says nothing of it does."""
        return self.verdict(case) is not False

    def verdict(self, case: Case) -> bool | None:
        """Return whether the expression holds; None where it says nothing of `case`."""
        asked = {"asked": borderline.kind(case)} if "asked" in self.names else {}
        return expressions.verdict(self.tree, {**values_of(case), **asked})


def parse(text: str, operators: Sequence[str] = ops.NAMES) -> Where:
    """Return the expression; UsageError for other syntax and for names that none of `operators` has.

    >>> parse("strid == 1", ["relu", "max_pool2d"])
    Traceback (most recent call last):
        ...
    cnnspec.errors.UsageError: unknown name 'strid' in 'strid == 1': did you mean 'stride'? (known are \
input_shape, layout_input, layout_grad_output, operator, dtype, regime, rank, batch, batched, channels, grad, \
asked, sizes, width, height, depth, kernel_size, stride, padding, dilation, return_indices, ceil_mode)
    """
    tree = expressions.parse(text)
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known = dict.fromkeys(name for one in operators for name in known_names(one)) if names else {}
    for name in names:
        if name not in known:
            repair = hint(name, known)
            rest = f" (known are {', '.join(known)})" if "mean" in repair else ""
            raise UsageError(f"unknown name {name!r} in {text!r}{repair}{rest}", name=name)
    return Where(text, frozenset(names), tree)


def known_names(operator: str) -> tuple[str, ...]:
    """Return the names that an expression over cases of `operator` may use.

    >>> known_names("relu")[:4]
    ('input_shape', 'layout_input', 'layout_grad_output', 'operator')
    """
    spec = ops.spec(operator)
    shapes = [f"{operand}_shape" for operand in spec.operands[: spec.input_count]]
    layouts = [f"layout_{operand}" for operand in (*spec.operands, GRAD_OUTPUT)]
    return (*shapes, *layouts, *OWN, *_arguments(spec.operator))


def values_of(case: Case) -> dict[str, Any]:
    """Return what the names of an expression stand for; a name that `case` lacks is absent.

    >>> values = values_of(Case.parse("conv1d(in_channels=2, out_channels=2, kernel_size=3, input=(2, 9))"))
    >>> values["batched"], values["channels"], values["width"], values["stride"], "height" in values
    (False, 2, 9, (1,), False)
    """
    operation, operands, shape = case.operation, case.spec.operands, case.inputs[0]
    spatial = getattr(operation, "spatial", max(0, len(shape) - 2))
    batched = len(shape) == spatial + 2
    sizes = shape[len(shape) - spatial :]
    values = {
        "operator": case.operator,
        "dtype": case.dtype,
        "regime": case.regime,
        "rank": len(shape),
        "batched": batched,
        "batch": shape[0] if batched else 1,
        "grad": case.differentiated,
    }
    values |= dict(zip(SPATIAL, reversed(sizes), strict=False))
    values |= {"sizes": sizes} if spatial else {}
    values |= {"channels": shape[-spatial - 1]} if len(shape) > max(1, spatial) else {}
    values |= {f"{name}_shape": one for name, one in zip(operands, case.inputs, strict=False)}
    values |= {f"layout_{name}": case.layout.get(name, "contiguous") for name in (*operands, GRAD_OUTPUT)}
    arguments = {name: getattr(operation, name) for name in _arguments(type(operation))}
    return values | {name: _per_axis(value, operation) for name, value in arguments.items()}


def hint(word: object, known: Collection[str]) -> str:
    """Return the repair of a misspelt word: the nearest one, or all.

    >>> hint("weigth", ("weight", "bias")), hint("x", ("weight", "bias"))
    (": did you mean 'weight'?", ': known are weight, bias')
    """
    near = difflib.get_close_matches(str(word), known, 1)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known) or 'none'}"


def _per_axis(value: Any, operation: Operator) -> Any:
    """Return one integer for all axes repeated, as a sequence of one may spell it."""
    one = isinstance(value, tuple) and len(value) == 1
    return value * getattr(operation, "spatial", 1) if one else value


def _arguments(operator: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(operator))
