"""One case on one backend under all its laws: each (case, law) is one row.

What does not depend on the backend (operands, exact result) is computed once per case, in a `Trial`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cnnspec import borderline, data, exact, nested
from cnnspec.backends import Backend, Output, UnsupportedCase
from cnnspec.calls import Call, Violation, case_of, promised_format, run, used_twice
from cnnspec.cases import Case
from cnnspec.exact import Exact
from cnnspec.exact.double import second_gradients, tangents
from cnnspec.nested import Array
from cnnspec.op import Operator
from cnnspec.outputs import (
    Unjudged,
    check_doubled,
    check_equal,
    check_indices,
    check_law,
    is_small,
    within,
    worst_of,
)
from cnnspec.spec import Law
from cnnspec.vacuity import blind_spots

Row = dict[str, Any]

FORWARD, UNMODIFIED, REPEATABLE, UPDATES = "forward", "inputs_unmodified", "repeatable", "updates"
BACKWARD, ACCUMULATION, DOUBLE, ACCEPTANCE = "backward", "accumulation", "double_backward", "acceptance"
MEMORY_FORMAT = "memory_format"
GRADIENT_LAWS = (BACKWARD, ACCUMULATION, DOUBLE)
GENERAL_LAWS = {
    FORWARD: "the output is the exact result within the proven bound, of the right type, shape, dtype and device",
    UNMODIFIED: "the call leaves its inputs, and what lies around them in memory, as they were",
    REPEATABLE: "the same call twice gives the same bits",
    BACKWARD: "every gradient asked for is the exact vector-Jacobian product within the proven bound",
    ACCUMULATION: "operands that are used twice get the sum of both gradients",
    DOUBLE: "the gradients' own gradients, for grad_output too, are exact within the proven bound",
    ACCEPTANCE: "what cnnspec refuses is refused, what it accepts is accepted, on both sides of the line",
    MEMORY_FORMAT: "contiguous operands give a contiguous output, a channels_last input of a layer of images its like",
    UPDATES: "operands that the call updates have the exact new values within the proven bound",
}


def cell_of(operator: str, backend: Backend, dtype: str, law: str) -> Row:
    """Return the fields of a row that say which cell it belongs to."""
    where = {"backend": backend.name, "device": backend.device}
    return {"operator": operator, **where, "dtype": dtype, "law": law}


def blank_row(about: Mapping[str, Any], status: str) -> Row:
    """Return a row that says what it is about and has no numbers."""
    empty = {"reason": "", "ratio": None, "ulps": None, "model": None, "discriminating": False}
    return {"kind": "row", **about, "status": status, **empty}


@dataclass
class Trial:
    """A case with its operands and its exact result.

    announce: told a law before it is judged
    spared:   (backend, law) -> the status and the reason of a law that is not judged, ("", "") of one that is;
              one with a reason alone has its row already
    """

    case: Case
    announce: Callable[[str], None] = field(default=lambda law: None)
    spared: Callable[[str, str], tuple[str, str]] = field(default=lambda backend, law: ("", ""))
    _called: dict[int, tuple[list[Output], list[str]]] = field(default_factory=dict, repr=False)
    _paths: dict[str, str] = field(default_factory=dict, init=False, repr=False)

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
    def second_gradients(self) -> Mapping[str, Exact]:
        """The exact gradients of the gradients' sum with the `tangents` of the operands."""
        case = self.case
        return second_gradients(
            case.spec, case.operation, self.grad_output, self.operands, case.differentiated
        )

    @cached_property
    def updates(self) -> Mapping[str, Exact]:
        """The exact new values of the operands that the call changes."""
        return exact.updates(self.case.operation, self.operands)

    @cached_property
    def _blind(self) -> Row:
        """What the case cannot tell apart, where there is such a thing."""
        spots = blind_spots(self.case, self.operands)
        return {"blind": spots} if spots else {}

    def rows(self, backend: Backend, laws: Sequence[str] | None = None) -> list[Row]:
        """Return one row for each law that applies; `laws` restricts them."""
        reason = backend.supports(self.case)
        asked = self.laws() if backend.gradients else [one for one in self.laws() if one not in GRADIENT_LAWS]
        wanted = [name for name in asked if laws is None or name in laws]
        promised = [ACCEPTANCE] + [MEMORY_FORMAT] * bool(promised_format(self.case))
        if self.case.dtype == "float32":  # what whole libraries promise, and a kernel that is asked to
            wanted += [one for one in promised if (one in laws if laws is not None else backend.whole)]
        if reason:
            return [self._row(backend, FORWARD, "unsupported", reason=reason)]
        rows = []
        for name in wanted:
            status, reason = self.spared(backend.name, name)
            if reason:
                rows += [self._row(backend, name, status, reason=reason)] if status else []
                if name == FORWARD:
                    break
                continue
            self.announce(name)
            started = time.perf_counter()
            row = self._judge(backend, name)
            row["seconds"] = round(time.perf_counter() - started, 6)
            rows.append(row)
            ends = row["status"] == "unsupported" or row.get("raised")
            if (name == FORWARD and ends) or row.get("exhausted"):
                break
        return rows

    def laws(self) -> list[str]:
        """Return the names of the laws that apply to this case, the general ones first.

        The operator's own are asked on exact data, of small cases, and only where the output is not all zero: else
        they hold of anything.
        """
        own = []
        if self.case.regime == "integers" and is_small(self.case) and self.exact.varies():
            own = [
                law.name for law in self.case.spec.laws if law.applies(self.case.operation, self.case.inputs)
            ]
        backward = [BACKWARD] if self.case.differentiated else []
        if backward and self.case.regime == "integers" and self.case.spec.judged != "function":
            backward.append(ACCUMULATION)
            if self.case.spec.twice and self.case.dtype in ("float32", "float64"):
                backward.append(DOUBLE)
        updates = [UPDATES] if self.updates else []
        return [FORWARD, UNMODIFIED, REPEATABLE, *backward, *updates, *own]

    def asks(self, law: str) -> bool:
        """Say whether a law applies to this case."""
        if law == MEMORY_FORMAT:
            return bool(promised_format(self.case))
        return law == ACCEPTANCE or law in self.laws()

    def violates(self, backend: Backend, law: str) -> bool:
        """Say whether the case breaks `law` on `backend`, in calls made anew."""
        self._called.pop(id(backend), None)
        self.announce(law)
        return bool(self._judge(backend, law)["status"] == "fail")

    def _judge(self, backend: Backend, law: str) -> Row:
        bounded = {FORWARD: self._forward, BACKWARD: self._backward, UPDATES: self._updates}
        bounded[DOUBLE] = self._double_backward
        equal: dict[str, Callable[[Backend], object]] = {
            UNMODIFIED: self._unmodified,
            REPEATABLE: self._repeatable,
            ACCUMULATION: self._accumulation,
            ACCEPTANCE: self._acceptance,
            MEMORY_FORMAT: self._memory_format,
        }
        telling: object = True
        try:
            if law in bounded:
                return self._row(backend, law, "pass", **bounded[law](backend), **self._blind)
            if law in equal:
                telling = equal[law](backend)
            else:
                self._law(backend, next(one for one in self.case.spec.laws if one.name == law))
            return self._row(backend, law, "pass", discriminating=telling is not False)
        except UnsupportedCase as error:
            return self._row(backend, law, "unsupported", reason=str(error))
        except Unjudged as error:
            return self._row(backend, law, "skip", reason=str(error))
        except Violation as error:
            return self._row(backend, law, "fail", message=str(error), **error.row)

    def _row(self, backend: Backend, law: str, status: str, **extra: Any) -> Row:
        case = self.case
        about = cell_of(case.operator, backend, case.dtype, law) | {"case": str(case), "regime": case.regime}
        return blank_row(about, status) | {"path": self._path(backend), **extra}

    def _path(self, backend: Backend) -> str:
        """Return the name of the kernel that runs the case, asked once for each backend."""
        if backend.name not in self._paths:
            self._paths[backend.name] = backend.path(self.case)
        return self._paths[backend.name]

    # The laws

    def _first(self, backend: Backend) -> tuple[list[Output], list[str]]:
        """Return what the first call gave, and which operands it changed: several laws look at it."""
        if id(backend) not in self._called:
            self._called[id(backend)] = run(backend, self.case, self.operands)
        return self._called[id(backend)]

    def _forward(self, backend: Backend) -> Row:
        outputs, _ = self._first(backend)
        facts = within(self.exact, outputs[0], backend, self.case, self.operands)
        if len(outputs) > 1:
            check_indices(self.exact, outputs[1], backend)
        return facts

    def _backward(self, backend: Backend) -> Row:
        wanted = self.case.differentiated
        call = Call(backend, self.case, self.operands)
        found = call.gradients(self.grad_output, wanted)
        changed = [name for name in call.changed() if name not in self.updates]
        if changed:
            raise Violation(f"the gradients' call changed the memory of {' and '.join(changed)}")
        return self._all_within(self.gradients, found, backend, "gradient")

    def _double_backward(self, backend: Backend) -> Row:
        call = Call(backend, self.case, self.operands)
        along = tangents(self.operands, self.case.differentiated)
        found = call.second_gradients(self.grad_output, along, [*self.second_gradients])
        return self._all_within(self.second_gradients, found, backend, "second gradient")

    def _updates(self, backend: Backend) -> Row:
        call = Call(backend, self.case, self.operands)
        call.outputs()
        found = {name: call.read(call.arrays[name]) for name in self.updates}
        return self._all_within(self.updates, found, backend, "new value")

    def _all_within(
        self, right: Mapping[str, Exact], found: Mapping[str, Output], backend: Backend, what: str
    ) -> Row:
        """Return the facts of the worst of several outputs, by operand; Violation where one is wrong."""
        return worst_of(
            [
                within(one, found[name], backend, self.case, self.operands, f"the {what} of {name}", name)
                for name, one in right.items()
                if name in found
            ]
        )

    def _unmodified(self, backend: Backend) -> None:
        _, changed = self._first(backend)
        changed = [name for name in changed if name not in self.updates]
        if changed:
            raise Violation(f"the call changed the memory of {' and '.join(changed)}")

    def _repeatable(self, backend: Backend) -> None:
        (first, *_), _ = self._first(backend)
        (second, *_), _ = run(backend, self.case, self.operands)
        check_equal(first, second, "two identical calls differ")

    def _accumulation(self, backend: Backend) -> bool:
        """Doubling is exact, so the gradients through f + f are twice those through f, bit for bit; 0 tells nothing."""
        wanted = self.case.differentiated
        once, twice = (
            Call(one, self.case, self.operands).gradients(self.grad_output, wanted)
            for one in (backend, used_twice(backend))
        )
        for name in wanted:
            check_doubled(once[name], twice[name], name)
        return any(bool(np.any(once[name].values)) for name in wanted)

    def _acceptance(self, backend: Backend) -> None:
        asked = borderline.question(self.case)
        refusal, raised = borderline.refusal(asked), None
        zeros = {name: np.zeros(shape) for name, shape in asked.operand_shapes().items()}
        try:
            outputs, _ = run(backend, asked, zeros)
        except Violation as error:
            if error.row.get("exhausted"):
                raise
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

    def _memory_format(self, backend: Backend) -> None:
        output = self._first(backend)[0][0]
        if output.formats is None:
            raise UnsupportedCase("its arrays have no memory format")
        promised = promised_format(self.case)
        if promised not in output.formats:
            raise Violation(
                f"output of shape {output.shape} is not {promised}, as its operands are",
                expected=promised,
                actual=" and ".join(output.formats) or "strided",
            )

    def _law(self, backend: Backend, law: Law) -> None:
        calls: list[Case] = []

        def call(operator: Operator, *arrays: Array) -> Array:
            calls.append(case_of(self.case, operator, arrays))
            return _call(backend, calls[-1])

        plain = [nested.unravel(_numbers(array), array.shape) for array in self.operands.values()]
        left, right = law.sides(self.case.operation, call, *plain)
        try:
            check_law(law, left, right)
        except Violation as difference:
            culprit = next((c for c in calls if Trial(c).violates(backend, FORWARD)), self.case)
            raise Violation(str(difference), **difference.row, culprit=str(culprit)) from None


def _call(backend: Backend, case: Case) -> Array:
    outputs, _ = run(backend, case, Trial(case).operands)
    shape = tuple(case.operation.output_shape(*case.inputs))
    for output in outputs:
        if tuple(output.shape) != shape:
            raise Violation(f"output has shape {tuple(output.shape)}, it must be {shape}", culprit=str(case))
    arrays = [nested.unravel(np.asarray(output.values).tolist(), output.shape) for output in outputs]
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def _numbers(array: Any) -> list[Any]:
    """Return whole floats as integers, so that the sides of a law are computed exactly."""
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in array.ravel().tolist()]
