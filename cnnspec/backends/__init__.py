"""What is under test: a `Backend` holds one function per operator and says how arrays reach it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.models import ErrorModel, direct
from cnnspec.nested import Shape
from cnnspec.spec import Spec


class UnsupportedCase(Exception):
    """The target does not claim this case: outside the score, with its reason."""


@dataclass(frozen=True)
class Output:
    """One output array as the target returned it: its numbers in row-major order, and what it says of itself.

    values:  Python numbers, or a flat array of NumPy's in which float64 stands for every floating-point type

    formats: the memory formats in which it is dense, of "contiguous" and "channels_last"; None where it has none
    """

    values: Any
    shape: Shape
    dtype: str
    device: str
    formats: tuple[str, ...] | None = None


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
    gradients:   gradients(backend, case, operands, grad_output, wanted) -> gradient by operand; UnsupportedCase where
                 the output carries none. Default: none; targets that are named have torch's autograd
    second_gradients: second_gradients(backend, case, operands, grad_output, tangents, wanted) -> gradient of
                 sum(tangent * gradient) by operand, and of "grad_output"; as `gradients` else
    beside:      gradient functions of its own, named and called as in torch.nn.grad ("conv2d_input", "conv2d_weight"),
                 asked where the output carries no gradient
    whole:       it claims to refuse what its operators must refuse
    path:        case -> the name of the kernel that runs it, "" where there is but one or it is not known
    elementary_ulps: error of its exp, log and tanh, in units in the last place
    elementary_ulps_of: operator -> that error where its float32 arithmetic has a larger one

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
    elementary_ulps_of: Mapping[str, int] = field(default_factory=dict)
    gradients: Callable[..., Mapping[str, Any]] | None = None
    second_gradients: Callable[..., Mapping[str, Any]] | None = None
    beside: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    description: str = ""
    builtin: bool = False
    whole: bool = False
    path: Callable[[Case], str] = lambda case: ""

    def model(self, dtype: str, operator: str = "") -> ErrorModel | None:
        """Return the error model of `dtype`, for one operator where it differs; None for integers, which are exact."""
        from dataclasses import replace

        if dtype.startswith(("int", "uint")):
            return None
        base, ulps = self.models.get(dtype, direct(dtype)), self.elementary_ulps
        if base.accumulate != "float64":
            ulps = self.elementary_ulps_of.get(operator, ulps)
        return replace(base, elementary_ulps=ulps)

    def call(self, spec: Spec, case: Case, arrays: Mapping[str, Any]) -> Any:
        """Run one operator on its operands by name; UnsupportedCase where the target does not claim the case."""
        if spec.name not in self.functions:
            raise UnsupportedCase(f"{self.name} has no {spec.name}")
        if self.layers:
            return self.functions[spec.name](case, arrays)
        return call_functional(self.functions[spec.name], spec, case.arguments, arrays)

    def call_beside(
        self, case: Case, arrays: Mapping[str, Any], grad_output: Any, wanted: Sequence[str]
    ) -> dict[str, Any]:
        """Return those of the gradients wanted that a function beside the kernel gives; UnsupportedCase for none.

        f_input(input_size, weight, grad_output, stride, ...), f_weight(input, weight_size, grad_output, stride, ...)
        """
        spec, found = case.spec, {}
        if any(isinstance(value, str) for value in case.arguments.values()):
            raise UnsupportedCase(
                f"functions as in torch.nn.grad take numbers, the case has {case.arguments}"
            )
        keywords = spec.keyword_arguments(case.arguments)[0]
        for place, name in enumerate(("input", "weight")):
            function = self.beside.get(f"{spec.name}_{name}")
            if function is not None and name in wanted:
                operands = [arrays["input"], arrays["weight"]]
                operands[place] = tuple(case.operand_shapes()[name])
                found[name] = function(*operands, grad_output, **keywords)
        if not found:
            raise UnsupportedCase(f"{self.name} has no gradient of {' or '.join(wanted)}")
        return found


def call_functional(
    function: Callable[..., Any], spec: Spec, arguments: Mapping[str, Any], arrays: Mapping[str, Any]
) -> Any:
    """Call `function` as the torch.nn.functional function of its operator is called.

    `Spec.order` goes by position (operands and arguments without a default, unless it says otherwise), the rest by
    name; a name that the function does not take is left out where the case has its default, and makes the case
    unsupported where it has not. Raises UnsupportedCase for what the function does not take.
    """
    if arguments.get("padding_mode", "zeros") != "zeros":
        raise UnsupportedCase(
            f"padding_mode={arguments['padding_mode']!r} is no argument of a functional {spec.name}"
        )
    order, names = positions(spec), _parameters(function)
    named, defaults = spec.keyword_arguments(arguments)
    keywords = {name: value for name, value in named.items() if name not in order}
    if spec.gathers:
        return function(list(arrays.values()), **_taken(keywords, names, defaults))
    others = [name for name in spec.operands if name not in order]
    keywords |= {name: arrays[name] for name in others if name in arrays}
    slots = len(order) if names is None else sum(name not in keywords for name in names)
    given = [(name, arrays.get(name) if name in spec.operands else arguments[name]) for name in order]
    for name, value in reversed(given):
        if len(given) > slots and name in spec.operands:
            if value is not None:
                raise UnsupportedCase(f"the function takes no {name}, the case has one")
            given.remove((name, value))
    return function(*(value for _, value in given), **_taken(keywords, names, defaults))


def _taken(
    keywords: Mapping[str, Any], names: Sequence[str] | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keywords that a function takes; UnsupportedCase where one that it lacks is not at its default."""
    for name, value in keywords.items():
        if names is not None and name not in names and (name not in defaults or value != defaults[name]):
            raise UnsupportedCase(f"the function takes no {name}, the case has {name}={value!r}")
    return {name: value for name, value in keywords.items() if names is None or name in names}


def positions(spec: Spec) -> tuple[str, ...]:
    """Return the operands and arguments of the functional form that go by position."""
    if spec.order:
        return spec.order
    required = [f.name for f in fields(spec.operator) if f.name in spec.keywords and f.default is MISSING]  # type: ignore[arg-type]
    return (*spec.operands, *required)


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
    unknown = [name for name in named if name not in (*spec.keywords, *spec.derived, *spec.operands)]
    allowed = len({*spec.operands, *spec.keywords, *spec.derived})
    positional = [name for name in positions(spec) if name in (*spec.inputs, "weight")]
    least = 1 if spec.gathers else len(positional) - ("weight" in positional and spec.judged == "function")
    if unknown or len(needed) > allowed or takes < least:
        takes_names = ", ".join(p.name for p in parameters)
        raise UsageError(
            f"{getattr(function, '__name__', function)}({takes_names}) cannot be called as "
            f"{spec.name}({', '.join((*spec.operands, *spec.keywords))})"
        )
