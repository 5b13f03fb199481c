"""One output against what it must be: the facts of its row, or a `Violation` that says what is wrong with it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnspec import exact, fingerprints, nested
from cnnspec.backends import Backend, Output
from cnnspec.bounds import FORMATS
from cnnspec.calls import Violation
from cnnspec.cases import Case
from cnnspec.compare import Verdict, verdict
from cnnspec.exact import Exact
from cnnspec.models import MODELS, ErrorModel
from cnnspec.nested import Array
from cnnspec.spec import Law

Facts = dict[str, Any]

LOOP_ELEMENTS, LOOP_MACS = 20_000, 500_000
"""Elements and products up to which a case is small: something may be computed for it in plain loops."""

FINGERPRINT_ONE_IN = 4
"""In one case of so many a run asks which models its output keeps, which costs as much as the exact result."""


class Unjudged(Exception):
    """There is no proven bound to hold this case to: its row is skipped, with the reason."""


def within(
    right: Exact,
    output: Output,
    backend: Backend,
    case: Case,
    operands: Mapping[str, Any],
    what: str = "output",
    operand: str = "",
) -> Facts:
    """Return the facts of an output that is within its bound; else raise Violation.

    what: what sentences call it;   operand: whose gradient or new value it is
    """
    _check_form(right, output, backend, case.dtype, what)
    model = backend.model(case.dtype, case.operator)
    _check_model(model, operands)
    result = verdict(right, output.values, case.dtype, model)
    facts = _facts(result, model)
    if what == "output" and case.seed % FINGERPRINT_ONE_IN == 0:
        facts |= fingerprints.facts(right, output.values, case, operands)
    if result.holds:
        return facts
    index = [int(i) for i in np.unravel_index(result.worst or 0, right.shape)] if right.shape else []
    raise Violation(
        _sentence(result, index, what),
        **facts,
        **({"operand": operand} if operand else {}),
        worst_index=index,
        expected=spelled(result.expected),
        actual=spelled(result.actual),
        error=spelled(result.error),
        bound=spelled(result.bound),
        wrong_elements=len(result.wrong),
        elements=result.elements,
        looks_like=_looks_like(right, result, output, backend, case, {} if operand else operands),
    )


def is_small(case: Case) -> bool:
    """Say whether plain loops over a case take no time to speak of."""
    elements = sum(math.prod(shape) for shape in case.operand_shapes().values())
    return elements <= LOOP_ELEMENTS and case.operation.macs(*case.inputs) <= LOOP_MACS


def _check_model(model: ErrorModel | None, operands: Mapping[str, Any]) -> None:
    """Raise Unjudged where nothing is proven of a model, or of it on these operands."""
    if model is None:
        return
    if model.unproven:
        raise Unjudged(model.unproven)
    if model.inputs:
        sizes = np.abs(np.concatenate([np.ravel(array) for array in operands.values()]))
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        if len(sizes) and not model.reads(float(sizes.min()), float(sizes.max())):
            raise Unjudged(
                f"no proven model: {model.name} of operands outside the normal range of {model.inputs}"
            )


def worst_of(facts: list[Facts]) -> Facts:
    """Return the facts with the largest error of its bound; discriminating where any of them is."""
    worst = max(facts, key=lambda one: math.inf if one["ratio"] == "inf" else one["ratio"])
    return {**worst, "discriminating": any(one["discriminating"] for one in facts)}


def check_indices(right: Exact, output: Output, backend: Backend) -> None:
    """Raise Violation unless the indices of maxima are right; an index of -1 is any."""
    _check_form(right, output, backend, "int64", "the indices' array")
    wanted, found = np.asarray(right.indices), np.asarray(output.values)
    i = _first((wanted != found) & (wanted != -1))
    if i is not None:
        expected, actual = int(wanted[i]), int(found[i])
        must = f" is {actual}, it must be {expected}: the first of equal maxima, the last NaN"
        raise _differing("index", must, i, right.shape, float(expected), float(actual))


def check_equal(first: Output, second: Output, message: str) -> None:
    """Raise Violation unless two outputs have the same bits."""
    if first.shape != second.shape:
        raise Violation(f"{message}: shapes {first.shape} and {second.shape}")
    a, b = np.asarray(first.values), np.asarray(second.values)
    if a.dtype.kind == "f":
        differs = ((a != b) | (np.signbit(a) != np.signbit(b))) & ~(np.isnan(a) & np.isnan(b))
    else:
        differs = a != b
    i = _first(differs)
    if i is not None:
        one, other = a[i].item(), b[i].item()
        raise _differing(message, f": {one!r} and {other!r}", i, first.shape, one, other)


def check_doubled(once: Output, twice: Output, operand: str) -> None:
    """Raise Violation unless each number of `twice` is twice that of `once`."""
    a, b = np.asarray(once.values), np.asarray(twice.values)
    i = _first((2 * a != b) & (a == a))
    if i is not None:
        one, two = a[i].item(), b[i].item()
        uses = f" is {one!r} for one use and {two!r} for two"
        raise _differing(f"the gradient of {operand}", uses, i, once.shape, 2 * one, two, operand=operand)


def check_law(law: Law, left: Array, right: Array) -> None:
    """Raise Violation unless the two sides of a law are equal; NaN equals NaN."""
    shape, other = nested.shape_of(left), nested.shape_of(right)
    if shape != other:
        raise Violation(f"{law.statement}: shapes {shape} and {other} differ")
    for i, (a, b) in enumerate(zip(nested.ravel(left), nested.ravel(right), strict=True)):
        if a != b and not (a != a and b != b):
            sides = f" the left side is {a!r}, the right side {b!r}"
            raise _differing(f"{law.statement}:", sides, i, shape, float(b), float(a))


def spelled(value: Any) -> str:
    """Return a number so that it survives: floats in hexadecimal.

    >>> spelled(0.5), spelled(7), spelled(float("nan"))
    ('0x1.0000000000000p-1', '7', 'nan')
    """
    return value.hex() if isinstance(value, float) else str(value)


def _first(differs: np.ndarray[Any, Any]) -> int | None:
    """Return the first flat index that differs."""
    return int(differs.argmax()) if differs.any() else None


def _differing(
    what: str, how: str, i: int, shape: tuple[int, ...], expected: Any, actual: Any, **row: Any
) -> Violation:
    """Return the violation of what must be equal and differs at flat index i."""
    where = [int(n) for n in np.unravel_index(i, shape)] if shape else []
    return Violation(
        f"{what} at {where}{how}",
        **row,
        worst_index=where,
        expected=spelled(expected),
        actual=spelled(actual),
        error=spelled(abs(actual - expected)),
        bound=spelled(0.0),
    )


def _check_form(right: Exact, output: Output, backend: Backend, dtype: str, what: str) -> None:
    for name, actual, expected in (
        ("shape", tuple(output.shape), tuple(right.shape)),
        ("dtype", output.dtype, dtype),
        ("device", output.device, backend.device.partition(":")[0]),
    ):
        if actual != expected:
            raise Violation(f"{what} has {name} {actual}, it must be {expected}", expected=None, actual=None)


def _looks_like(
    right: Exact,
    worst: Verdict,
    output: Output,
    backend: Backend,
    case: Case,
    operands: Mapping[str, Any],
) -> str:
    """Return which other framework's convention, or wider error model, the output is consistent with."""
    strict = backend.model(case.dtype, case.operator)
    for dialect in case.spec.dialects if operands and is_small(case) else ():
        if dialect.applies(case.operation):
            other = exact.evaluate_dialect(case.spec, case.operation, dialect, operands)
            if other is None or other.shape != right.shape:
                continue
            if verdict(other, output.values, case.dtype, strict).holds:
                return f"consistent with {dialect.name}: {dialect.statement}"
    if case.spec.judged != "sum" or case.dtype not in FORMATS:
        return ""
    for name in fingerprints.consistent(right, output.values, case.dtype):
        model = MODELS.get(name)  # far below its range a format excuses everything and says nothing
        if model is None or abs(worst.expected) >= 2.0 ** (
            model.underflow_exponent() + model.format.precision
        ):
            return f"consistent with {name}"
    return ""


def _facts(result: Verdict, model: ErrorModel | None) -> Facts:
    return {
        "ratio": result.ratio if math.isfinite(result.ratio) else "inf",
        "ulps": result.ulps if math.isfinite(result.ulps) else "inf",
        "model": model.name if model else "exact",
        "histogram": dict(sorted(result.histogram.items())),
        "discriminating": result.discriminating,
    }


def _sentence(result: Verdict, where: list[int], what: str) -> str:
    bound = f"the bound is {result.bound:.6g}" if result.bound else "it must be exact"
    return (
        f"{what} {where} is {result.actual!r}, the exact result rounds to {result.expected!r}: "
        f"error {result.error:.6g}, {bound}; {len(result.wrong)} of {result.elements} elements are wrong"
    )
