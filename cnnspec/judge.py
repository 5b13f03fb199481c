"""One case on one backend under all its laws: each (case, law) is one row.

What does not depend on the backend (operands, exact result) is computed once per case, in a `Trial`.
"""

import math
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from cnnspec import data, exact, nested
from cnnspec.backends import Backend, Output, UnsupportedCase
from cnnspec.bounds import FORMATS, MODELS, ErrorModel
from cnnspec.cases import Case
from cnnspec.compare import Verdict, verdict
from cnnspec.nested import Array
from cnnspec.op import Law, Operator, arguments_of

Row = dict[str, Any]

FORWARD, UNMODIFIED, REPEATABLE = "forward", "inputs_unmodified", "repeatable"
GENERAL_LAWS = {
    FORWARD: "the output is the exact result within the proven bound, of the right type, shape, dtype and device",
    UNMODIFIED: "the call leaves its inputs, and what lies around them in memory, as they were",
    REPEATABLE: "the same call twice gives the same bits",
}


class Violation(Exception):
    """What a target did wrong, in one sentence; `row` holds the fields that a failing row carries."""

    def __init__(self, message: str, **row: Any) -> None:
        super().__init__(message)
        self.row = row


@dataclass
class Trial:
    """A case with its operands and its exact result."""

    case: Case
    announce: Callable[[str], None] = field(default=lambda law: None)

    @cached_property
    def operands(self) -> Mapping[str, Any]:
        """The operands by name, as float64 or integer arrays."""
        return data.operands(self.case)

    @cached_property
    def exact(self) -> exact.Exact:
        """The exact outputs."""
        return exact.evaluate(self.case.spec, self.case.operation, self.operands)

    def rows(self, backend: Backend, laws: Sequence[str] | None = None) -> list[Row]:
        """Return one row for each law that applies; `laws` restricts them."""
        reason = backend.supports(self.case)
        wanted = [name for name in self.laws() if laws is None or name in laws]
        if reason:
            return [self._row(backend, FORWARD, "unsupported", reason=reason)]
        rows = []
        for name in wanted:
            self.announce(name)
            started = time.perf_counter()
            row = self._judge(backend, name)
            row["seconds"] = round(time.perf_counter() - started, 6)
            rows.append(row)
            if row["status"] == "unsupported" or (name == FORWARD and row.get("raised")):
                break
        return rows

    def laws(self) -> list[str]:
        """Return the names of the laws that apply to this case, the general ones first.

        The operator's own are asked on exact data, and only where its output is not all zero: else they hold of
        anything.
        """
        own = []
        if self.case.regime == "integers" and _varies(self.exact):
            own = [
                law.name for law in self.case.spec.laws if law.applies(self.case.operation, self.case.inputs)
            ]
        return [*GENERAL_LAWS, *own]

    def violates(self, backend: Backend, law: str) -> bool:
        """Say whether the case breaks `law` on `backend`."""
        return bool(self._judge(backend, law)["status"] == "fail")

    def _judge(self, backend: Backend, law: str) -> Row:
        try:
            if law == FORWARD:
                return self._row(backend, law, "pass", **self._forward(backend))
            if law in GENERAL_LAWS:
                (self._unmodified if law == UNMODIFIED else self._repeatable)(backend)
            else:
                self._law(backend, next(one for one in self.case.spec.laws if one.name == law))
            return self._row(backend, law, "pass", discriminating=True)
        except UnsupportedCase as error:
            return self._row(backend, law, "unsupported", reason=str(error))
        except Violation as error:
            return self._row(backend, law, "fail", message=str(error), **error.row)

    def _row(self, backend: Backend, law: str, status: str, **extra: Any) -> Row:
        case = self.case
        return {
            "kind": "row",
            "operator": case.operator,
            "backend": backend.name,
            "device": backend.device,
            "dtype": case.dtype,
            "law": law,
            "case": str(case),
            "regime": case.regime,
            "status": status,
            "reason": "",
            "ratio": None,
            "ulps": None,
            "model": None,
            "discriminating": False,
            **extra,
        }

    # The laws

    def _forward(self, backend: Backend) -> Row:
        outputs, _ = run(backend, self.case, self.operands)
        self._check_form(outputs[0], backend, self.case.dtype)
        model = backend.model(self.case.dtype)
        result = verdict(self.exact, outputs[0].values, self.case.dtype, model)
        facts = _facts(result, model)
        if not result.holds:
            raise Violation(
                _sentence(result, self.exact), **facts, **self._failure(result, outputs[0], backend)
            )
        if len(outputs) > 1:
            self._check_indices(outputs[1], backend)
        return facts

    def _failure(self, result: Verdict, output: Output, backend: Backend) -> Row:
        index = list(np.unravel_index(result.worst or 0, self.exact.shape)) if self.exact.shape else []
        return {
            "worst_index": [int(i) for i in index],
            "expected": spelled(result.expected),
            "actual": spelled(result.actual),
            "error": spelled(result.error),
            "bound": spelled(result.bound),
            "wrong_elements": len(result.wrong),
            "elements": result.elements,
            "looks_like": self._looks_like(result, output, backend),
        }

    def _looks_like(self, worst: Verdict, output: Output, backend: Backend) -> str:
        """Return which wider error model the output is consistent with."""
        if self.case.spec.judged != "sum" or self.case.dtype not in FORMATS:
            return ""
        strict = backend.model(self.case.dtype)
        for model in MODELS.values():
            if not _wider(model, strict) or abs(worst.expected) < model.format.smallest_normal:
                continue  # far below its range a format excuses everything and says nothing
            if verdict(self.exact, output.values, self.case.dtype, model).holds:
                return f"consistent with {model.name}"
        return ""

    def _check_form(self, output: Output, backend: Backend, dtype: str, what: str = "output") -> None:
        shape = self.exact.shape
        for name, actual, expected in (
            ("shape", tuple(output.shape), tuple(shape)),
            ("dtype", output.dtype, dtype),
            ("device", output.device, backend.device.partition(":")[0]),
        ):
            if actual != expected:
                raise Violation(
                    f"{what} has {name} {actual}, it must be {expected}", expected=None, actual=None
                )

    def _check_indices(self, output: Output, backend: Backend) -> None:
        self._check_form(output, backend, "int64", "the indices' array")
        for i, (expected, actual) in enumerate(zip(self.exact.indices or [], output.values, strict=True)):
            if expected not in (actual, -1):
                where = [int(n) for n in np.unravel_index(i, self.exact.shape)]
                raise Violation(
                    f"index at {where} is {actual}, it must be {expected}: the first of equal maxima, the last NaN",
                    worst_index=where,
                    expected=spelled(float(expected)),
                    actual=spelled(float(actual)),
                    error=spelled(abs(float(actual) - expected)),
                    bound=spelled(0.0),
                )

    def _unmodified(self, backend: Backend) -> None:
        _, changed = run(backend, self.case, self.operands)
        if changed:
            raise Violation(f"the call changed the memory of {' and '.join(changed)}")

    def _repeatable(self, backend: Backend) -> None:
        first, second = (run(backend, self.case, self.operands)[0][0] for _ in range(2))
        for i, (a, b) in enumerate(zip(first.values, second.values, strict=True)):
            if spelled(a) != spelled(b):
                where = [int(n) for n in np.unravel_index(i, first.shape)]
                raise Violation(
                    f"two identical calls differ at {where}: {a!r} and {b!r}",
                    worst_index=where,
                    expected=spelled(a),
                    actual=spelled(b),
                    error=spelled(abs(a - b)),
                    bound=spelled(0.0),
                )

    def _law(self, backend: Backend, law: Law) -> None:
        calls: list[Case] = []

        def call(operator: Operator, *arrays: Array) -> Array:
            calls.append(_case_of(self.case, operator, arrays))
            return _call(backend, calls[-1])

        plain = [nested.unravel(_numbers(array), array.shape) for array in self.operands.values()]
        left, right = law.sides(self.case.operation, call, *plain)
        difference = _difference(law, left, right)
        if difference is not None:
            culprit = next((c for c in calls if Trial(c).violates(backend, FORWARD)), self.case)
            raise Violation(str(difference), **difference.row, culprit=str(culprit))


def _difference(law: Law, left: Array, right: Array) -> Violation | None:
    """Return where the two sides of a law differ, or None."""
    shape, other = nested.shape_of(left), nested.shape_of(right)
    if shape != other:
        return Violation(f"{law.statement}: shapes {shape} and {other} differ")
    for i, (a, b) in enumerate(zip(nested.ravel(left), nested.ravel(right), strict=True)):
        if a != b and not (a != a and b != b):
            where = [int(n) for n in np.unravel_index(i, shape)]
            return Violation(
                f"{law.statement}: at {where} the left side is {a!r}, the right side {b!r}",
                worst_index=where,
                expected=spelled(float(b)),
                actual=spelled(float(a)),
                error=spelled(abs(float(a) - float(b))),
                bound=spelled(0.0),
            )
    return None


def run(backend: Backend, case: Case, operands: Mapping[str, Any]) -> tuple[list[Output], list[str]]:
    """Call the backend once: its outputs, and the names of operands whose memory it changed.

    Raises Violation for an exception or an output that is no array, UnsupportedCase for what it does not claim.
    """
    make, read = _converters(backend)
    made = [
        make(
            values, case.dtype, case.layout.get(name, "contiguous"), channel_axis(case, name), backend.device
        )
        for name, values in operands.items()
    ]
    before = [snapshot() for _, snapshot in made]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a target warns of is no violation
            result = backend.call(case.spec, case, [array for array, _ in made])
            backend.synchronize()
    except NotImplementedError as error:
        raise UnsupportedCase(str(error) or "NotImplementedError") from None
    except (UnsupportedCase, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a target raises is its row
        message = f"raised {type(error).__name__}: {_first_line(error)}"
        raise Violation(message, raised=True, traceback=_trimmed()) from None
    results = (
        result if getattr(case.operation, "return_indices", False) and isinstance(result, tuple) else [result]
    )
    try:
        outputs = [read(one) for one in results]
    except TypeError as error:
        raise Violation(f"the target {error}") from None
    changed = [
        name for name, (_, snapshot), old in zip(operands, made, before, strict=True) if snapshot() != old
    ]
    if len(outputs) != 1 + bool(getattr(case.operation, "return_indices", False)):
        raise Violation("return_indices=True must return a pair (output, indices)")
    return outputs, changed


def _converters(backend: Backend) -> tuple[Callable[..., Any], Callable[[Any], Output]]:
    """Return what makes operands and reads outputs: torch's where the backend brings none of its own."""
    if backend.arrays and backend.outputs:
        return backend.arrays, backend.outputs
    from cnnspec.backends import torch

    return backend.arrays or torch.tensor, backend.outputs or torch.output


def channel_axis(case: Case, operand: str) -> int:
    """Return the axis of `operand` that holds channels, for layouts."""
    shape = case.operand_shapes()[operand]
    spatial = getattr(case.operation, "spatial", None)
    if operand == "weight" or spatial is None:
        return min(1, len(shape) - 1) if shape else 0
    return max(0, len(shape) - spatial - 1) if operand == "input" else 0


def spelled(value: Any) -> str:
    """Return a number so that it survives: floats in hexadecimal.

    >>> spelled(0.5), spelled(7), spelled(float("nan"))
    ('0x1.0000000000000p-1', '7', 'nan')
    """
    return value.hex() if isinstance(value, float) else str(value)


def _call(backend: Backend, case: Case) -> Array:
    outputs, _ = run(backend, case, Trial(case).operands)
    arrays = [nested.unravel(output.values, output.shape) for output in outputs]
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def _case_of(original: Case, operator: Operator, arrays: Sequence[Array]) -> Case:
    """Return the call of a law as a case of its own, with its data."""
    spec = original.spec
    inputs = tuple(nested.shape_of(array) for array in arrays[: spec.input_count])
    names = [*spec.operands[: spec.input_count], *operator.parameter_shapes()]
    values = {
        name: [_number(value, original) for value in nested.ravel(a)]
        for name, a in zip(names, arrays, strict=False)
    }
    defaults = {one.name: one.default for one in fields(operator)}  # type: ignore[arg-type]
    arguments = {name: value for name, value in arguments_of(operator).items() if value != defaults[name]}
    return Case(spec.name, arguments, inputs, original.dtype, original.regime, original.seed, {}, values)


def _number(value: Any, case: Case) -> Any:
    return float(value) if case.dtype in FORMATS else int(value)


def _numbers(array: Any) -> list[Any]:
    """Return whole floats as integers, so that the sides of a law are computed exactly."""
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in array.ravel().tolist()]


def _wider(model: ErrorModel, strict: ErrorModel | None) -> bool:
    return strict is None or model.format.precision < strict.format.precision or bool(model.inputs)


def _varies(exact_result: exact.Exact) -> bool:
    values = exact_result.special.values() if exact_result.copied else exact_result.values
    return any(value != 0 for value in values)


def _facts(result: Verdict, model: ErrorModel | None) -> Row:
    return {
        "ratio": result.ratio if math.isfinite(result.ratio) else "inf",
        "ulps": result.ulps if math.isfinite(result.ulps) else "inf",
        "model": model.name if model else "exact",
        "histogram": dict(sorted(result.histogram.items())),
        "discriminating": result.discriminating,
    }


def _sentence(result: Verdict, exact_result: exact.Exact) -> str:
    where = (
        [int(i) for i in np.unravel_index(result.worst or 0, exact_result.shape)]
        if exact_result.shape
        else []
    )
    bound = f"the bound is {result.bound:.6g}" if result.bound else "it must be exact"
    return (
        f"output {where} is {result.actual!r}, the exact result rounds to {result.expected!r}: "
        f"error {result.error:.6g}, {bound}; {len(result.wrong)} of {result.elements} elements are wrong"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def _trimmed() -> str:
    return "\n".join(traceback.format_exc().splitlines()[-40:])
