"""What the suite needs to test an operator: its domain, laws, and the conventions of its call (`Spec`)."""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from cnnspec.nested import Array, Shape
from cnnspec.op import Operator

T = TypeVar("T")


class Pick(Protocol):
    """A source of decisions: Hypothesis, a seeded generator, or an enumeration; earlier is simpler."""

    def integer(self, low: int, high: int) -> int:
        """Return an integer of [low, high]."""
        ...

    def choice(self, options: Sequence[T]) -> T:
        """Return one of `options`."""
        ...


Domain = Callable[[Pick], tuple[Mapping[str, Any], tuple[Shape, ...]]]

Call = Callable[..., Array]
"""call(operator, *operands) -> output: runs the implementation under test on nested lists."""


@dataclass(frozen=True)
class Law:
    """A statement that holds with no reference: two sides that must be equal on exact data.

    `sides` gets the operator, a `Call` and the operands, and returns the two sides; only the judge compares.
    """

    name: str
    statement: str
    applies: Callable[[Any, tuple[Shape, ...]], bool]
    sides: Callable[..., tuple[Array, Array]]


Fill = Callable[[Any, Mapping[str, Shape], random.Random], list[Any]]
"""fill(operator, shapes of all operands by name, generator) -> the values of one operand in row-major order."""


@dataclass(frozen=True)
class Dialect:
    """A convention of another framework: a target that follows it is wrong here, and is told so.

    name:      whose it is, as in "ONNX, TensorFlow";   statement: what it does, in one sentence
    applies:   operator -> whether its arguments leave room for the difference
    reference: (operator, *operands) -> the output as the dialect has it, on any numbers
    """

    name: str
    statement: str
    applies: Callable[[Any], bool]
    reference: Callable[..., Array]


@dataclass(frozen=True)
class Spec:
    """All that the suite needs to test one operator.

    name:      as in torch.nn.functional
    operator:  the class
    operands:  names of inputs, parameters and buffers, in the order of `reference`
    keywords:  the fields that the functional form takes by keyword; those without a default go by position
    domain:    draws (arguments as spelled, shapes of `inputs`) from a Pick
    large:     draws, in the same form, a layer of the size that networks have
    laws:      what holds without a reference
    judged:    "sum" within count * u * S; "copy" bit for bit; "function" within ulps of a rigorous enclosure
    dtypes:    those it is tested in
    layer:     the name in torch.nn, "" where there is none
    gathers:   the functional form takes its inputs as one list
    inputs:    the operands whose shapes a case states; those of the others follow from the arguments
    derived:   keywords of the functional form whose value is an attribute of the operator, by its name
    order:     operands and arguments that go by position, in the order of the functional form; by default the
               operands, then the arguments without a default. An operand left out goes by keyword
    integers:  operands that hold int64 in every dtype (indices, classes)
    constants: operands that have no gradient
    fill:      operands whose values are not any numbers, and what draws them
    largest:   the whole number beyond which inputs of a "copy" are not told apart, 0 where all are
    twice:     the gradients are differentiated once more
    dialects:  conventions of other frameworks
    """

    name: str
    operator: type[Operator]
    operands: tuple[str, ...]
    keywords: tuple[str, ...]
    domain: Domain
    laws: tuple[Law, ...] = ()
    judged: Literal["sum", "copy", "function"] = "sum"
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16", "float16")
    layer: str = ""
    gathers: bool = False
    inputs: tuple[str, ...] = ("input",)
    derived: Mapping[str, str] = dataclasses.field(default_factory=dict)
    order: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    fill: Mapping[str, Fill] = dataclasses.field(default_factory=dict)
    largest: int = 0
    twice: bool = False
    dialects: tuple[Dialect, ...] = ()
    large: Domain | None = None

    @property
    def input_count(self) -> int:
        """How many operands have shapes of their own."""
        return len(self.inputs)

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return what a call with `count` inputs names them: "input", "input2" and so on where it gathers them."""
        return (
            tuple(f"input{n if n > 1 else ''}" for n in range(1, count + 1)) if self.gathers else self.inputs
        )

    def keyword_arguments(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the functional form takes by keyword: the values for `arguments`, and the defaults."""
        everything = dataclasses.fields(self.operator)  # type: ignore[arg-type]
        required = {f.name: arguments[f.name] for f in everything if f.default is dataclasses.MISSING}
        defaults = {f.name: f.default for f in everything if f.name in self.keywords}
        values = {name: arguments.get(name, default) for name, default in defaults.items()}
        for keyword, attribute in self.derived.items():
            values[keyword] = getattr(self.operator(**arguments), attribute)
            defaults[keyword] = getattr(self.operator(**required), attribute)
        return values, defaults


def spell(pick: Pick, values: Sequence[int]) -> int | tuple[int, ...]:
    """Return per-axis values as a caller may spell them: one integer where all agree, or the tuple."""
    if len(set(values)) == 1 and pick.choice((True, False)):
        return values[0]
    return tuple(values)
