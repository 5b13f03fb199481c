"""What is under test: a `Backend` holds one function per operator and says how arrays reach it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from cnnspec.bounds import ErrorModel, direct
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.nested import Shape
from cnnspec.op import Spec


class UnsupportedCase(Exception):
    """The target does not claim this case: outside the score, with its reason."""


@dataclass(frozen=True)
class Output:
    """One output array as the target returned it: flat Python numbers, and what it says of itself."""

    values: list[Any]
    shape: Shape
    dtype: str
    device: str


@dataclass
class Backend:
    """One implementation of operators.

    name:        what reports call it
    functions:   operator name -> function, called as in torch.nn.functional
    device:      where its arrays live
    arrays:      makes an operand: arrays(values, dtype, layout, channel_axis, device) -> (array, snapshot);
                 snapshot() returns its storage, for finding a modified input. Default: torch tensors
    outputs:     reads an output: outputs(array) -> Output; TypeError for what is no array. Default: torch tensors
    synchronize: waits until the device has finished
    prepare:     sets the library's switches before the first call in a process
    models:      dtype -> error model; the strictest direct model where none is declared
    supports:    case -> "" or the reason why it is outside what the implementation claims
    layers:      arguments are those of the layer (padding_mode and so on), not of the functional form
    elementary_ulps: error of its exp, log and tanh, in units in the last place

    >>> import cnnspec
    >>> mine = cnnspec.Backend("mine", {"relu": lambda x: x.clamp(min=0)})
    >>> mine.model("bfloat16").name
    'direct float32'
    """

    name: str
    functions: Mapping[str, Callable[..., Any]]
    device: str = "cpu"
    arrays: Callable[..., tuple[Any, Callable[[], bytes]]] | None = None
    outputs: Callable[[Any], Output] | None = None
    synchronize: Callable[[], None] = lambda: None
    prepare: Callable[[], None] = lambda: None
    models: Mapping[str, ErrorModel] = field(default_factory=dict)
    supports: Callable[[Case], str] = lambda case: ""
    layers: bool = False
    elementary_ulps: int = 1
    description: str = ""
    builtin: bool = False

    def model(self, dtype: str) -> ErrorModel | None:
        """Return the error model of `dtype`; None for integers, which are exact."""
        from dataclasses import replace

        if dtype.startswith(("int", "uint")):
            return None
        return replace(self.models.get(dtype, direct(dtype)), elementary_ulps=self.elementary_ulps)

    def call(self, spec: Spec, case: Case, arrays: Sequence[Any]) -> Any:
        """Run one operator; UnsupportedCase where the target does not claim the case."""
        if spec.name not in self.functions:
            raise UnsupportedCase(f"{self.name} has no {spec.name}")
        if self.layers:
            return self.functions[spec.name](case, *arrays)
        return call_functional(self.functions[spec.name], spec, case.arguments, arrays)


def call_functional(
    function: Callable[..., Any], spec: Spec, arguments: Mapping[str, Any], arrays: Sequence[Any]
) -> Any:
    """Call `function` as the torch.nn.functional function of its operator is called.

    Operands and arguments without a default go by position, the others by name; a name that the function does
    not take is left out where the case has its default, and makes the case unsupported where it has not.
    """
    if arguments.get("padding_mode", "zeros") != "zeros":
        raise UnsupportedCase(
            f"padding_mode={arguments['padding_mode']!r} is no argument of a functional {spec.name}"
        )
    defaults = {f.name: f.default for f in fields(spec.operator) if f.name in spec.keywords}  # type: ignore[arg-type]
    required = [name for name, default in defaults.items() if default is MISSING]
    keywords = {
        name: arguments.get(name, default) for name, default in defaults.items() if name not in required
    }
    names = _parameters(function)
    if names is not None:
        for name in [name for name in keywords if name not in names]:
            if keywords.pop(name) != defaults[name]:
                raise UnsupportedCase(
                    f"the function takes no {name}, the case has {name}={arguments[name]!r}"
                )
    operands: list[Any] = [list(arrays)] if spec.gathers else [*arrays]
    slots = len(spec.operands) if names is None else sum(name not in spec.keywords for name in names)
    if len(operands) > slots:
        raise UnsupportedCase(f"the function takes no {spec.operands[len(operands) - 1]}, the case has one")
    if not spec.gathers:
        operands += [None] * (min(slots, len(spec.operands)) - len(operands))
    return function(*operands, *(arguments[name] for name in required), **keywords)


def _parameters(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of a function's parameters; None where it takes any, or does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
        return None
    return [p.name for p in parameters]


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_signature(function: Callable[..., Any], spec: Spec) -> None:
    """Raise UsageError where `function` can never be called as `spec`'s functional form."""
    if not callable(function):
        raise UsageError(f"{function!r} is not callable: a target names a function")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
    named = [p.name for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    takes = len([p for p in parameters if p.kind in _POSITIONAL]) + 99 * any(
        p.kind is p.VAR_POSITIONAL for p in parameters
    )
    unknown = [name for name in named if name not in spec.keywords]
    allowed = len(spec.operands) + len(spec.keywords)
    least = 1 if spec.gathers else max(spec.input_count, 2 if "weight" in spec.operands else 1)
    if unknown or len(needed) > allowed or takes < least:
        takes_names = ", ".join(p.name for p in parameters)
        raise UsageError(
            f"{getattr(function, '__name__', function)}({takes_names}) cannot be called as "
            f"{spec.name}({', '.join((*spec.operands, *spec.keywords))})"
        )
