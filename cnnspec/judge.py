"""One case on one backend under all its laws: each (case, law) is one row.

What does not depend on the backend (operands, exact result) is computed once per case, in a `Trial`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cnnspec import borderline, data, exact, nested
from cnnspec.backends import Backend, Output, UnsupportedCase
from cnnspec.bounds import FORMATS, MODELS, ErrorModel
from cnnspec.calls import Call, Violation, case_of, run, used_twice
from cnnspec.cases import Case
from cnnspec.compare import Verdict, verdict
from cnnspec.exact import Exact
from cnnspec.nested import Array
from cnnspec.op import Operator
from cnnspec.spec import Law

Row = dict[str, Any]

FORWARD, UNMODIFIED, REPEATABLE, UPDATES = "forward", "inputs_unmodified", "repeatable", "updates"
BACKWARD, ACCUMULATION, ACCEPTANCE = "backward", "accumulation", "acceptance"
GRADIENT_LAWS = (BACKWARD, ACCUMULATION)
GENERAL_LAWS = {
    FORWARD: "the output is the exact result within the proven bound, of the right type, shape, dtype and device",
    UNMODIFIED: "the call leaves its inputs, and what lies around them in memory, as they were",
    REPEATABLE: "the same call twice gives the same bits",
    BACKWARD: "every gradient asked for is the exact vector-Jacobian product within the proven bound",
    ACCUMULATION: "operands that are used twice get the sum of both gradients",
    ACCEPTANCE: "what cnnspec refuses is refused, what it accepts is accepted, on both sides of the line",
    UPDATES: "operands that the call updates have the exact new values within the proven bound",
}


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
    def exact(self) -> Exact:
        """The exact outputs."""
        return exact.evaluate(self.case.spec, self.case.operation, self.operands)

    @cached_property
    def grad_output(self) -> Any:
        """The gradient of the output, as a float64 array."""
        return data.grad_output(self.case, self.exact.shape)

    @cached_property
    def gradients(self) -> Mapping[str, Exact]:
        """The exact gradients of the operands that require them."""
        case = self.case
        return exact.gradients(
            case.spec, case.operation, self.grad_output, self.operands, case.differentiated
        )

    @cached_property
    def updates(self) -> Mapping[str, Exact]:
        """The exact new values of the operands that the call changes."""
        return exact.updates(self.case.operation, self.operands)

    def rows(self, backend: Backend, laws: Sequence[str] | None = None) -> list[Row]:
        """Return one row for each law that applies; `laws` restricts them."""
        reason = backend.supports(self.case)
        asked = self.laws() if backend.gradients else [one for one in self.laws() if one not in GRADIENT_LAWS]
        wanted = [name for name in asked if laws is None or name in laws]
        if self.case.dtype == "float32" and (ACCEPTANCE in laws if laws is not None else backend.whole):
            wanted.append(ACCEPTANCE)
        if reason:
            return [self._row(backend, FORWARD, "unsupported", reason=reason)]
        rows = []
        for name in wanted:
            self.announce(name)
            started = time.perf_counter()
            row = self._judge(backend, name)
            row["seconds"] = round(time.perf_counter() - started, 6)
            rows.append(row)
            if name == FORWARD and (row["status"] == "unsupported" or row.get("raised")):
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
        backward = [BACKWARD] if self.case.differentiated else []
        if backward and self.case.regime == "integers" and self.case.spec.judged != "function":
            backward.append(ACCUMULATION)
        updates = [UPDATES] if self.updates else []
        return [FORWARD, UNMODIFIED, REPEATABLE, *backward, *updates, *own]

    def violates(self, backend: Backend, law: str) -> bool:
        """Say whether the case breaks `law` on `backend`."""
        return bool(self._judge(backend, law)["status"] == "fail")

    def _judge(self, backend: Backend, law: str) -> Row:
        bounded = {FORWARD: self._forward, BACKWARD: self._backward, UPDATES: self._updates}
        equal = {UNMODIFIED: self._unmodified, REPEATABLE: self._repeatable, ACCUMULATION: self._accumulation}
        equal[ACCEPTANCE] = self._acceptance
        try:
            if law in bounded:
                return self._row(backend, law, "pass", **bounded[law](backend))
            if law in equal:
                equal[law](backend)
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
        facts = self._within(self.exact, outputs[0], backend)
        if len(outputs) > 1:
            self._check_indices(outputs[1], backend)
        return facts

    def _backward(self, backend: Backend) -> Row:
        wanted = self.case.differentiated
        call = Call(backend, self.case, self.operands)
        found = call.gradients(self.grad_output, wanted)
        changed = [name for name in call.changed() if name not in self.updates]
        if changed:
            raise Violation(f"the gradients' call changed the memory of {' and '.join(changed)}")
        facts = [self._within(self.gradients[name], found[name], backend, name) for name in wanted]
        worst = max(facts, key=lambda one: math.inf if one["ratio"] == "inf" else one["ratio"])
        return {**worst, "discriminating": any(one["discriminating"] for one in facts)}

    def _updates(self, backend: Backend) -> Row:
        call = Call(backend, self.case, self.operands)
        call.outputs()
        facts = [
            self._within(one, call.read(call.arrays[name]), backend, name, "new value")
            for name, one in self.updates.items()
        ]
        return max(facts, key=lambda one: math.inf if one["ratio"] == "inf" else one["ratio"])

    def _within(
        self, right: Exact, output: Output, backend: Backend, operand: str = "", what: str = "gradient"
    ) -> Row:
        """Return the facts of an output, or an operand's gradient, that is within its bound; else raise Violation."""
        named = f"the {what} of {operand}" if operand else "output"
        _check_form(right, output, backend, self.case.dtype, named)
        model = backend.model(self.case.dtype)
        result = verdict(right, output.values, self.case.dtype, model)
        facts = _facts(result, model)
        if result.holds:
            return facts
        index = [int(i) for i in np.unravel_index(result.worst or 0, right.shape)] if right.shape else []
        raise Violation(
            _sentence(result, index, named),
            **facts,
            **({"operand": operand} if operand else {}),
            worst_index=index,
            expected=spelled(result.expected),
            actual=spelled(result.actual),
            error=spelled(result.error),
            bound=spelled(result.bound),
            wrong_elements=len(result.wrong),
            elements=result.elements,
            looks_like=self._looks_like(right, result, output, backend, operand),
        )

    def _looks_like(
        self, right: Exact, worst: Verdict, output: Output, backend: Backend, operand: str
    ) -> str:
        """Return which other framework's convention, or wider error model, the output is consistent with."""
        strict = backend.model(self.case.dtype)
        if not operand:
            for dialect in self.case.spec.dialects:
                if dialect.applies(self.case.operation):
                    other = exact.evaluate_dialect(
                        self.case.spec, self.case.operation, dialect, self.operands
                    )
                    if other is not None and verdict(other, output.values, self.case.dtype, strict).holds:
                        return f"consistent with {dialect.name}: {dialect.statement}"
        if self.case.spec.judged != "sum" or self.case.dtype not in FORMATS:
            return ""
        for model in MODELS.values():
            if not _wider(model, strict) or abs(worst.expected) < model.format.smallest_normal:
                continue  # far below its range a format excuses everything and says nothing
            if verdict(right, output.values, self.case.dtype, model).holds:
                return f"consistent with {model.name}"
        return ""

    def _check_indices(self, output: Output, backend: Backend) -> None:
        _check_form(self.exact, output, backend, "int64", "the indices' array")
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
        changed = [name for name in changed if name not in self.updates]
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

    def _accumulation(self, backend: Backend) -> None:
        """Doubling is exact, so the gradients through f + f are twice those through f, bit for bit."""
        wanted = self.case.differentiated
        once, twice = (
            Call(one, self.case, self.operands).gradients(self.grad_output, wanted)
            for one in (backend, used_twice(backend))
        )
        for name in wanted:
            for i, (a, b) in enumerate(zip(once[name].values, twice[name].values, strict=True)):
                if 2 * a != b and a == a:
                    where = [int(n) for n in np.unravel_index(i, once[name].shape)]
                    raise Violation(
                        f"the gradient of {name} at {where} is {a!r} for one use and {b!r} for two",
                        operand=name,
                        worst_index=where,
                        expected=spelled(2 * a),
                        actual=spelled(b),
                        error=spelled(abs(b - 2 * a)),
                        bound=spelled(0.0),
                    )

    def _acceptance(self, backend: Backend) -> None:
        asked = borderline.question(self.case)
        refusal, raised = borderline.refusal(asked), None
        zeros = {name: np.zeros(shape) for name, shape in asked.operand_shapes().items()}
        try:
            outputs, _ = run(backend, asked, zeros)
        except Violation as error:
            raised = error
        except UnsupportedCase:
            if not refusal:
                raise
            return
        if bool(refusal) == bool(raised):
            return
        if raised:
            raise Violation(f"refuses what it must accept: {asked}: {raised}", culprit=str(asked))
        shape = tuple(outputs[0].shape)
        raise Violation(
            f"accepts what it must refuse, with an output of shape {shape}: {asked}: {refusal}",
            culprit=str(asked),
        )

    def _law(self, backend: Backend, law: Law) -> None:
        calls: list[Case] = []

        def call(operator: Operator, *arrays: Array) -> Array:
            calls.append(case_of(self.case, operator, arrays))
            return _call(backend, calls[-1])

        plain = [nested.unravel(_numbers(array), array.shape) for array in self.operands.values()]
        left, right = law.sides(self.case.operation, call, *plain)
        difference = _difference(law, left, right)
        if difference is not None:
            culprit = next((c for c in calls if Trial(c).violates(backend, FORWARD)), self.case)
            raise Violation(str(difference), **difference.row, culprit=str(culprit))


def _check_form(right: Exact, output: Output, backend: Backend, dtype: str, what: str) -> None:
    for name, actual, expected in (
        ("shape", tuple(output.shape), tuple(right.shape)),
        ("dtype", output.dtype, dtype),
        ("device", output.device, backend.device.partition(":")[0]),
    ):
        if actual != expected:
            raise Violation(f"{what} has {name} {actual}, it must be {expected}", expected=None, actual=None)


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


def _numbers(array: Any) -> list[Any]:
    """Return whole floats as integers, so that the sides of a law are computed exactly."""
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in array.ravel().tolist()]


def _wider(model: ErrorModel, strict: ErrorModel | None) -> bool:
    return strict is None or model.format.precision < strict.format.precision or bool(model.inputs)


def _varies(exact_result: Exact) -> bool:
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


def _sentence(result: Verdict, where: list[int], what: str) -> str:
    bound = f"the bound is {result.bound:.6g}" if result.bound else "it must be exact"
    return (
        f"{what} {where} is {result.actual!r}, the exact result rounds to {result.expected!r}: "
        f"error {result.error:.6g}, {bound}; {len(result.wrong)} of {result.elements} elements are wrong"
    )
