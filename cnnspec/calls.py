"""Calls of a backend: operands made as a case lays them out, outputs and gradients read, changes noticed."""

import contextlib
import functools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnspec import memory, nested, ops
from cnnspec.backends import Backend, Output, UnsupportedCase
from cnnspec.bounds import FORMATS
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.errors import said
from cnnspec.nested import Array
from cnnspec.op import Operator, arguments_of, without_defaults

KEEPS_CHANNELS_LAST = (
    "conv",
    "conv_transpose",
    "pool",
    "adaptive_pool",
    "pointwise",
    "relu6",
    "leaky_relu",
    "prelu",
    "hardswish",
)
"""Families whose output is in the format of their input, as PyTorch's tutorial on channels last says of layers."""


class Violation(Exception):
    """What a target did wrong, in one sentence; `row` holds the fields that a failing row carries."""

    def __init__(self, message: str, **row: Any) -> None:
        super().__init__(message)
        self.row = row


class Call:
    """One call's operands in a backend's arrays, and what it did to their memory."""

    def __init__(self, backend: Backend, case: Case, operands: Mapping[str, Any]) -> None:
        self.backend, self.case = backend, case
        self._make, self.read = _converters(backend)
        self._made = {name: self.array(name, values) for name, values in operands.items()}
        self._before = {name: snapshot() for name, (_, snapshot) in self._made.items()}

    def array(self, name: str, values: Any) -> Any:
        """Return (array, snapshot) of an operand, or of the output's gradient, in its layout."""
        layout = self.case.layout.get(name, "contiguous")
        axis = channel_axis(self.case, name, values.ndim)
        return self._make(values, self.case.dtype_of(name), layout, axis, self.backend.device)

    @property
    def arrays(self) -> dict[str, Any]:
        """The operands by name."""
        return {name: array for name, (array, _) in self._made.items()}

    def changed(self) -> list[str]:
        """Return the names of the operands whose memory is not as it was."""
        return [name for name, (_, snapshot) in self._made.items() if snapshot() != self._before[name]]

    def outputs(self) -> list[Output]:
        """Return what the target returns: the output, and indices where they are asked for."""
        with _as_violations():
            result = self.backend.call(self.case.spec, self.case, self.arrays)
            self.backend.synchronize()
        pair = bool(self.case.arguments.get("return_indices", False))
        results = result if pair and isinstance(result, tuple) else [result]
        outputs = [self._read(one) for one in results]
        if len(outputs) != 1 + pair:
            raise Violation("return_indices=True must return a pair (output, indices)")
        return outputs

    def gradients(self, grad_output: Any, wanted: Sequence[str]) -> dict[str, Output]:
        """Return the gradients that the target passes to the operands `wanted`; functions beside it may lack some."""
        backend, case = self.backend, self.case
        if backend.gradients is None:
            raise UnsupportedCase(f"{backend.name} has no gradients")
        arrays, cotangent = self._with_cotangent(grad_output)
        with _as_violations():
            try:
                found, needed = backend.gradients(backend, case, arrays, cotangent, wanted), wanted
            except UnsupportedCase:
                if not backend.beside:
                    raise
                found = backend.call_beside(case, arrays, cotangent, wanted)
                needed = [name for name in wanted if name in found]
            backend.synchronize()
        lacking = [name for name in needed if name not in found]
        if lacking:
            raise Violation(f"the target gives no gradient of {' and '.join(lacking)}")
        return {name: self._read(found[name]) for name in needed}

    def second_gradients(
        self, grad_output: Any, tangents: Mapping[str, Any], wanted: Sequence[str]
    ) -> dict[str, Output]:
        """Return the gradients of sum(tangent * gradient) with respect to "grad_output" and operands, as `wanted`."""
        backend, case = self.backend, self.case
        if backend.second_gradients is None:
            raise UnsupportedCase(f"{backend.name} has no second gradients")
        arrays, cotangent = self._with_cotangent(grad_output)
        along = {name: self.array(name, values)[0] for name, values in tangents.items()}
        with _as_violations():
            found = backend.second_gradients(backend, case, arrays, cotangent, along, wanted)
            backend.synchronize()
        return {name: self._read(found[name]) for name in wanted}

    def _with_cotangent(self, grad_output: Any) -> tuple[dict[str, Any], Any]:
        """Return the operands, and the output's gradient, whose memory is watched as theirs is."""
        operands = self.arrays
        self._made[GRAD_OUTPUT] = self.array(GRAD_OUTPUT, grad_output)
        self._before[GRAD_OUTPUT] = self._made[GRAD_OUTPUT][1]()
        return operands, self._made[GRAD_OUTPUT][0]

    def _read(self, array: Any) -> Output:
        try:
            return self.read(array)
        except TypeError as error:
            raise Violation(f"the target {error}") from None


@contextlib.contextmanager
def _as_violations() -> Iterator[None]:
    """Turn whatever a target raises into a Violation, or into UnsupportedCase where it does not claim the case."""
    try:
        with warnings.catch_warnings(), memory.limited():
            warnings.simplefilter("ignore")  # what a target warns of is no violation
            yield
    except NotImplementedError as error:
        raise UnsupportedCase(str(error) or "NotImplementedError") from None
    except (UnsupportedCase, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a target raises is its row, SystemExit too
        if memory.ran_out(error):
            raise Violation(memory.limit_sentence(), raised=True, exhausted=True) from None
        raise Violation(said(error), raised=True, traceback=_trimmed()) from None


def run(backend: Backend, case: Case, operands: Mapping[str, Any]) -> tuple[list[Output], list[str]]:
    """Call the backend once: its outputs, and the names of operands whose memory it changed.

    Raises Violation for an exception or an output that is no array, UnsupportedCase for what it does not claim.
    """
    call = Call(backend, case, operands)
    return call.outputs(), call.changed()


def _converters(backend: Backend) -> tuple[Callable[..., Any], Callable[[Any], Output]]:
    """Return what makes operands and reads outputs: torch's where the backend brings none of its own."""
    if backend.arrays and backend.outputs:
        return backend.arrays, backend.outputs
    from cnnspec.backends import torch

    return backend.arrays or torch.tensor, backend.outputs or torch.output


def channel_axis(case: Case, operand: str, axes: int) -> int:
    """Return which of the `axes` of `operand` holds channels, for layouts."""
    spatial = getattr(case.spec.operator, "spatial", None)
    if operand == "weight" or spatial is None:
        return min(1, axes - 1) if axes else 0
    return max(0, axes - spatial - 1) if operand in (*case.spec.inputs, GRAD_OUTPUT) else 0


def promised_format(case: Case) -> str:
    """Return the memory format that the output must have, "contiguous" or "channels_last"; "" for none.

    >>> promised_format(Case.parse("relu(input=(2, 3, 4, 4), layout={'input': 'channels_last'})"))
    'channels_last'
    """
    layouts = {name: layout for name, layout in case.layout.items() if name != GRAD_OUTPUT}
    if not layouts:
        return "contiguous"
    keeps = ops.family(case.operator) in KEEPS_CHANNELS_LAST and layouts == {"input": "channels_last"}
    keeps &= getattr(case.operation, "spatial", 2) == 2  # not four axes of a volume without a batch
    shapes = (case.inputs[0], case.operation.output_shape(*case.inputs))
    images = all(len(shape) == 4 and min(shape) > 1 for shape in shapes)  # else a tensor is in both formats
    return "channels_last" if keeps and images else ""


def used_twice(backend: Backend) -> Backend:
    """Return the backend of f + f."""

    def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # its parameters are those of `function`, or as unknown
        def call(*args: Any, **kwargs: Any) -> Any:
            first, second = (function(*args, **kwargs) for _ in range(2))
            if isinstance(first, tuple):
                return (first[0] + second[0], *first[1:])
            return first + second

        return call

    return replace(backend, functions=_Mapped(doubled, backend.functions), beside={})


class _Mapped(Mapping[str, Any]):
    """A mapping whose values go through a function when they are asked for."""

    def __init__(self, function: Callable[[Any], Any], values: Mapping[str, Any]) -> None:
        self._function, self._values = function, values

    def __getitem__(self, key: str) -> Any:
        return self._function(self._values[key])

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def case_of(original: Case, operator: Operator, arrays: Sequence[Array]) -> Case:
    """Return the call of a law as a case of its own, with its data."""
    spec = original.spec
    inputs = tuple(nested.shape_of(array) for array in arrays[: spec.input_count])
    held = {**operator.buffer_shapes(), **operator.parameter_shapes()}
    names = [*spec.inputs, *(name for name in spec.operands if name in held)]
    values = {
        name: [_number(value, original) for value in nested.ravel(a)]
        for name, a in zip(names, arrays, strict=False)
    }
    arguments = without_defaults(type(operator), arguments_of(operator))
    return Case(spec.name, arguments, inputs, original.dtype, original.regime, original.seed, data=values)


def _number(value: Any, case: Case) -> Any:
    return float(value) if case.dtype in FORMATS else int(value)


def _trimmed() -> str:
    """Return the end of the traceback, its files as they are imported, wherever they are installed."""
    text = "\n".join(traceback.format_exc().splitlines()[-40:])
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        text = text.replace(f'File "{folder}/', 'File "')
    return text
