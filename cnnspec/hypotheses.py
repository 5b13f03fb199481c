"""What a target may do instead of what it is asked to: other arguments, operands read or results written otherwise.

Each is a rule that can be applied to any case of its operator, so that it is tried on fresh data and other shapes.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.backends.layouts import strided
from cnnspec.calls import channel_axis
from cnnspec.cases import Case
from cnnspec.nested import Shape
from cnnspec.op import arguments_of
from cnnspec.spec import Dialect

Values = npt.NDArray[Any]
Change = Callable[[Values], Values]

WORDS: Mapping[str, tuple[Any, ...]] = {
    "padding_mode": ("zeros", "reflect", "replicate", "circular"),
    "mode": ("constant", "reflect", "replicate", "circular", "nearest", "linear", "bilinear", "bicubic"),
    "reduction": ("none", "mean", "sum"),
    "approximate": ("none", "tanh"),
    "norm_type": (1, 2, math.inf),
    "eps": (0.0, 1e-5),
    "dim": (-1, 0, 1, 2, 3),
}
"""What else an argument may be taken for, besides its default."""

WINDOW = ("padding", "stride", "dilation", "output_padding")
"""Arguments that may be one off, or one number whatever is asked."""

NEUTRAL = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
"""What an operand that is ignored comes to in a normalization, and a bias anywhere."""

NOT_TRIED = ("bias", "affine", "return_indices", "in_channels", "out_channels", "in_features", "out_features")


@dataclass(frozen=True)
class Hypothesis:
    """One thing that a target may do instead.

    rule:      its name, the same for all cases
    text:      what the target does; "{result}" stands for the output, or the gradient of an operand
    arguments: those that it takes for others
    operand:   the one that it reads as `change` makes it;   permutes: `change` puts elements in another order only
    result:    how to undo what it does to the result, None where nothing
    scale:     what it multiplies the result with
    """

    rule: str
    text: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    operand: str = ""
    change: Change | None = None
    permutes: bool = False
    result: Change | None = None
    scale: Fraction = Fraction(1)
    dialect: Dialect | None = None

    def is_like(self, other: "Hypothesis") -> bool:
        """Say whether both are of another value of the same argument."""
        own, others = ({*one.arguments} if not one.operand else set() for one in (self, other))
        return bool(own) and own == others


def hypotheses(case: Case, shape: Shape, what: str = "") -> Iterator[Hypothesis]:
    """Yield what a target of `case` may do instead, the simplest first; `shape` is that of the result.

    what: the operand whose gradient is asked for, "" for the output
    """
    yield from _of_layouts(case)
    yield from _of_arguments(case)
    yield from _of_operands(case)
    yield from _of_results(shape)
    if not what:
        for dialect in case.spec.dialects:
            if dialect.applies(case.operation):
                text = f"{case.operator} follows the convention of {dialect.name}: {dialect.statement}"
                yield Hypothesis(f"dialect {dialect.name} {dialect.statement}", text, dialect=dialect)


# Arguments


def _of_arguments(case: Case) -> Iterator[Hypothesis]:
    operator = case.spec.operator
    defaults = {f.name: f.default for f in dataclasses.fields(operator)}  # type: ignore[arg-type]
    for name, value in arguments_of(case.operation).items():
        tried = [value]
        if name in NOT_TRIED:
            continue
        for kind, other in _alternatives(name, value, defaults[name]):
            if other in tried and any(type(other) is type(one) and other == one for one in tried):
                continue
            tried.append(other)
            text = f"{{result}} is that of {name}={other!r}, the call has {name}={value!r}"
            if kind == "ignored":
                text = f"{{result}} is that of {name}={other!r}: {name}={value!r} is ignored"
            yield Hypothesis(f"{name} {kind}", text, {name: other})


def _alternatives(name: str, value: Any, default: Any) -> Iterator[tuple[str, Any]]:
    """Yield (what is done to an argument, what it becomes)."""
    whole = type(value) is tuple and all(type(one) is int for one in value)
    axes = len(value) if whole else 0
    if default is not dataclasses.MISSING:
        yield "ignored", (default,) * axes if whole and isinstance(default, int) else default
    if whole:
        yield "reversed", value[::-1]
        orders = itertools.permutations(range(axes)) if axes > 2 else ()
        yield from ((f"in order {order}", tuple(value[axis] for axis in order)) for order in orders)
        yield from ((f"all as axis {axis}", (value[axis],) * axes) for axis in range(axes))
        if name in WINDOW:
            yield from ((f"{by:+d}", tuple(one + by for one in value)) for by in (-1, 1))
            yield from ((f"= {one}", (one,) * axes) for one in (0, 1, 2))
    elif type(value) is bool:
        yield "negated", not value
    if name in ("momentum", "p") and isinstance(value, int | float):
        yield "complement", 1 - value
    yield from ((f"{one!r}", one) for one in WORDS.get(name, ()))
    if name == "num_groups":
        yield "one group", 1


# Operands


def _of_layouts(case: Case) -> Iterator[Hypothesis]:
    """Yield operands that fill their memory without a gap in another order than row by row, but are read so."""
    for name, shape in case.operand_shapes().items():
        strides, offset, size = strided(
            shape, case.layout.get(name, "contiguous"), channel_axis(case, name, len(shape))
        )
        order = sorted(range(len(shape)), key=lambda axis: -strides[axis])
        if order != sorted(order) and offset == 0 and size == math.prod(shape):
            text = f"{name} is read as if it were contiguous"
            yield Hypothesis(f"contiguous {name}", text, operand=name, change=_reread(order))


def _reread(order: list[int]) -> Change:
    return lambda array: np.transpose(array, order).reshape(array.shape)


def _of_operands(case: Case) -> Iterator[Hypothesis]:
    shapes = case.operand_shapes()
    family = "convolution" if "weight" in shapes and hasattr(case.operation, "groups") else ""
    for name, neutral in NEUTRAL.items():
        if name not in shapes or (name == "weight" and case.spec.judged != "function"):
            continue
        text = f"{name} is ignored" if name != "bias" else "the bias is missing"
        yield Hypothesis(f"{name} ignored", text, operand=name,
                         change=partial(np.full_like, fill_value=neutral))  # fmt: skip
    yield from _of_statistics(case)
    if "bias" in shapes:
        for factor, text in ((2, "is added twice"), (-1, "is subtracted")):
            yield Hypothesis(f"bias times {factor}", f"the bias {text}", operand="bias",
                             change=partial(np.multiply, factor))  # fmt: skip
    if family:
        spatial = [axis for axis in range(2, len(shapes["weight"])) if shapes["weight"][axis] > 1]
        every = [axes for count in (1, 2, 3) for axes in itertools.combinations(spatial, count)]
        for axes, where in [(tuple(spatial), ""), *((axes, f" along {_listed(axes)}") for axes in every)]:
            yield Hypothesis(f"flipped{where}", f"the kernel is flipped{where}", operand="weight",
                             change=partial(np.flip, axis=axes), permutes=True)  # fmt: skip
        yield from _of_groups(case)
        yield from _of_sides(case)
    for name in ("weight", "input"):
        shape = shapes.get(name, ())
        for a, b in itertools.combinations(range(len(shape)), 2):
            if shape[a] == shape[b] > 1:
                yield Hypothesis(f"{name} axes {a} {b}", f"{name} is read with its axes {a} and {b} exchanged",
                                 operand=name, permutes=True,
                                 change=partial(np.swapaxes, axis1=a, axis2=b))  # fmt: skip
    yield from _of_batches(case)


def _of_statistics(case: Case) -> Iterator[Hypothesis]:
    """Yield a running variance that takes in v (n - 1) / n for v, as another momentum and another old value would."""
    momentum = getattr(case.operation, "momentum", None)
    if momentum is None or "running_var" not in case.operand_shapes():
        return
    shape = case.inputs[0]
    for n in (math.prod(shape) // max(1, shape[1]), math.prod(shape[2:])):
        share = momentum * (n - 1) / max(1, n)
        if n > 1 and share != 1:
            yield Hypothesis("biased", "the variance of the batch is the biased one", {"momentum": share},
                             operand="running_var",
                             change=partial(np.multiply, (1 - momentum) / (1 - share)))  # fmt: skip


def _of_groups(case: Case) -> Iterator[Hypothesis]:
    groups, axis = case.operation.groups, len(case.inputs[0]) - case.operation.spatial - 1  # type: ignore[attr-defined]
    if groups < 2:
        return

    def grouped(order: Callable[[Values], Values]) -> Change:
        def change(array: Values) -> Values:
            shape = array.shape
            parts = array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
            return np.ascontiguousarray(order(parts)).reshape(shape)

        return change

    def first(parts: Values) -> Values:
        return np.broadcast_to(np.take(parts, [0], axis), parts.shape)

    def interleaved(parts: Values) -> Values:
        flat = parts.reshape(*parts.shape[:axis], parts.shape[axis + 1], groups, *parts.shape[axis + 2 :])
        return np.swapaxes(flat, axis, axis + 1)

    yield Hypothesis("groups first", "every group reads the channels of group 0", operand="input",
                     change=grouped(first))  # fmt: skip
    yield Hypothesis("groups reversed", "the groups read the channels of each other in reverse order",
                     operand="input", change=grouped(lambda parts: np.flip(parts, axis)), permutes=True)  # fmt: skip
    text = f"group g reads the channels g, g + {groups}, ... instead of consecutive ones"
    yield Hypothesis("groups interleaved", text, operand="input", change=grouped(interleaved))


def _of_sides(case: Case) -> Iterator[Hypothesis]:
    """Yield a padding with zeros that lies on one side alone."""
    arguments = arguments_of(case.operation)
    padding = arguments.get("padding")
    if type(padding) is not tuple or not any(padding) or arguments.get("padding_mode") != "zeros":
        return
    if "output_padding" in arguments:
        return
    axes = padding * (case.operation.spatial if len(padding) == 1 else 1)  # type: ignore[attr-defined]
    for side, sides in (("behind", (0, 1)), ("before", (1, 0))):

        def change(array: Values, sides: tuple[int, int] = sides) -> Values:
            none = [(0, 0)] * (array.ndim - len(axes))
            return np.pad(array, [*none, *((2 * p * sides[0], 2 * p * sides[1]) for p in axes)])

        text = f"all of padding={padding} lies {side} the input, none on the other side"
        yield Hypothesis(f"padding {side}", text, {"padding": 0}, operand="input", change=change)


def _of_batches(case: Case) -> Iterator[Hypothesis]:
    spatial = getattr(case.operation, "spatial", None)
    shape = case.operand_shapes().get("input", ())
    if spatial is not None and len(shape) == spatial + 2 and shape[0] > 1:
        yield Hypothesis("first image", "every image of the batch is read as the first", operand="input",
                         change=lambda array: np.repeat(array[:1], len(array), 0))  # fmt: skip


# Results


def _of_results(shape: Shape) -> Iterator[Hypothesis]:
    if not math.prod(shape):
        return
    axes = range(len(shape))
    for a, b in itertools.combinations(axes, 2):
        if min(shape[a], shape[b]) < 2:
            continue
        text = f"{{result}} has its axes {a} and {b} exchanged"
        if shape[a] != shape[b]:
            text = f"{{result}} holds its numbers in an order with axes {a} and {b} exchanged"
        order = [b if n == a else a if n == b else n for n in axes]
        yield Hypothesis(f"result axes {a} {b}", text, result=_reordered(shape, order))
    if len(shape) > 3:
        for order in ([0, *axes[2:], 1], [0, len(shape) - 1, *axes[1:-1]]):
            text = f"{{result}} holds its numbers in the order of the axes {tuple(order)}"
            yield Hypothesis(f"result order {order}", text, result=_reordered(shape, order))
    for axis in axes:
        if shape[axis] > 1:
            yield Hypothesis(f"result flipped {axis}", f"{{result}} is reversed along axis {axis}",
                             result=partial(np.flip, axis=axis))  # fmt: skip
    yield Hypothesis("zero", "{result} is 0 everywhere", scale=Fraction(0))
    counts = {"elements": math.prod(shape), "of one": math.prod(shape[1:]), "batch": (*shape, 1)[0]}
    factors = [("", Fraction(n)) for n in (2, -1, Fraction(1, 2), 4, Fraction(1, 4))]
    factors += [(name, f) for name, n in counts.items() for f in (Fraction(n), Fraction(1, n))]
    for of, factor in factors:
        if factor != 1:
            rule = f"times {'1/' * (factor < 1)}{of}" if of else f"times {factor}"
            yield Hypothesis(rule, f"{{result}} is {factor} times what it must be", scale=factor)


def _reordered(shape: Shape, order: list[int]) -> Change:
    """Return what puts numbers that lie in the order of the axes `order` back into an array of `shape`."""

    def undo(array: Values) -> Values:
        return np.transpose(array.reshape([shape[axis] for axis in order]), np.argsort(order))

    return undo


def _listed(axes: tuple[int, ...]) -> str:
    return f"{'axes' if len(axes) > 1 else 'axis'} {' and '.join(map(str, axes))} of weight"
