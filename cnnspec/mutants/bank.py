"""The bank of mutants: functions as in torch.nn.functional, each with a bug that an implementation had.

    @mutant("conv2d", "pytorch/pytorch#83180", "the strides of the axes change places", "forward",
            when=lambda c: c.stride[0] != c.stride[1])
    def strides_swapped(c: Invocation) -> Any:
        return c(stride=c.stride[::-1])

Where `when` does not hold the healthy function gets the very arguments of the call, so a mutant differs from it
nowhere else. Nothing that draws cases knows of mutants.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any

from torch import Tensor
from torch.autograd import Function

from cnnspec import ops
from cnnspec.backends import positions
from cnnspec.backends.torch import functional
from cnnspec.errors import UsageError

FAMILIES = (
    "conv",
    "conv_limits",
    "conv_refusals",
    "conv_layouts",
    "conv_backward",
    "grouped",
    "padding",
    "transposed",
    "max_pool",
    "max_indices",
    "avg_pool",
    "adaptive_pool",
    "lp_pool",
    "batch_norm",
    "norms",
    "activations",
    "losses",
    "rearrange",
    "resampling",
    "strides",
)
"""The modules of this package that hold mutants."""

DIRECTIONS = ("forward", "backward", "shape", "acceptance", "dtype", "state", "crash")

PER_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size")
"""Arguments that an `Invocation` has as one value for each spatial axis, however they were spelled."""


class Invocation:
    """One call of a function of torch.nn.functional: its arguments by name, those not given at their default.

    Called, it is the healthy function's result, with the arguments that are named changed.

    >>> import torch
    >>> image, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)
    >>> c = Invocation("conv2d", (image, weight, None), {"stride": 2})
    >>> c.stride, c.padding, tuple(c().shape), tuple(c(stride=1).shape)
    ((2, 2), (0, 0), (1, 1, 1, 1), (1, 1, 2, 2))
    """

    def __init__(self, operator: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.operator, self.spec, self.args, self.kwargs = operator, ops.spec(operator), args, kwargs
        self.spatial = getattr(self.spec.operator, "spatial", 0)
        self._order = ("tensors",) if self.spec.gathers else positions(self.spec)

    def __call__(self, **changed: Any) -> Any:
        """Return the healthy function's result, with some arguments changed."""
        args = [changed.pop(name, value) for name, value in zip(self._order, self.args, strict=False)]
        return healthy(self.operator)(*args, **{**self.kwargs, **changed})

    def __getattr__(self, name: str) -> Any:
        given = {**dict(zip(self._order, self.args, strict=False)), **self.kwargs}
        if name in given:
            value = given[name]
        elif name in _defaults(self.operator):
            value = _defaults(self.operator)[name]
        elif name in self.spec.operands:
            value = None
        else:
            raise AttributeError(f"{self.operator} has no {name!r}")
        if name == "stride" and value is None and "kernel_size" in given:  # a pool's default
            value = given["kernel_size"]
        if name in PER_AXIS and self.spatial:
            if isinstance(value, int):
                return (value,) * self.spatial
            return tuple(value) * (self.spatial if len(value) == 1 else 1) if _is_list(value) else value
        return value

    @property
    def batched(self) -> bool:
        """Whether the input has a batch axis."""
        return bool(self.input.dim() == self.spatial + 2)

    @property
    def channels(self) -> int:
        """The channels of the input."""
        return int(self.input.shape[self.input.dim() - self.spatial - 1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The spatial sizes of the input."""
        return tuple(self.input.shape[self.input.dim() - self.spatial :])

    @property
    def kernel(self) -> tuple[int, ...]:
        """The sizes of the kernel, or of the window of a pool."""
        weight = self.weight if "weight" in self.spec.operands else None
        return tuple(self.kernel_size) if weight is None else tuple(weight.shape[2:])

    @property
    def pads(self) -> tuple[int, ...]:
        """The padding before each axis as numbers, whatever a convolution's `padding` says."""
        if self.padding == "valid":
            return (0,) * self.spatial
        if self.padding == "same":
            return tuple(total // 2 for total in self.padded)
        return tuple(self.padding)

    @property
    def padded(self) -> tuple[int, ...]:
        """The padding of each axis on both sides together."""
        if self.padding == "same":
            return tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True))
        return tuple(2 * pad for pad in self.pads)


Condition = Callable[[Invocation], bool]


@dataclass(frozen=True)
class Mutant:
    """A function with one bug.

    function:  called as torch.nn.functional's of the operator;   trigger: where it is wrong
    source:    who had the bug, "owner/repository#number", several after commas;   summary: what was wrong, and when
    direction: what is wrong, one of DIRECTIONS
    """

    name: str
    operator: str
    function: Callable[..., Any]
    trigger: Condition
    source: str
    summary: str
    direction: str

    @property
    def crashes(self) -> bool:
        """Whether it ends its process."""
        return self.direction == "crash"


_BANK: dict[str, Mutant] = {}


def mutant(
    operators: str | tuple[str, ...],
    source: str,
    summary: str,
    direction: str,
    *,
    when: Condition = lambda c: True,
) -> Callable[[Callable[[Invocation], Any]], Callable[[Invocation], Any]]:
    """Enter a function of an `Invocation` into the bank, for one operator or several.

    when: where it is asked; elsewhere the healthy function is called. Its name says what is wrong.
    """

    def enter(wrong: Callable[[Invocation], Any]) -> Callable[[Invocation], Any]:
        for operator in (operators,) if isinstance(operators, str) else operators:
            name = f"{operator} {wrong.__name__.replace('_', ' ')}"
            if name in _BANK or direction not in DIRECTIONS:
                raise ValueError(f"{name!r} is there already, or {direction=} is not one of {DIRECTIONS}")
            function = _guarded(operator, wrong, when)
            _BANK[name] = Mutant(name, operator, function, when, source, summary, direction)
        return wrong

    return enter


def _guarded(operator: str, wrong: Callable[[Invocation], Any], when: Condition) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        invocation = Invocation(operator, args, kwargs)
        return wrong(invocation) if when(invocation) else healthy(operator)(*args, **kwargs)

    return function


def mutants(operators: Sequence[str] = ()) -> list[Mutant]:
    """Return the mutants of some operators, of all by default, in the order of the catalogue."""
    for family in FAMILIES:
        importlib.import_module(f"cnnspec.mutants.{family}")
    for name in operators:
        ops.spec(name)
    wanted = [one for one in _BANK.values() if not operators or one.operator in operators]
    return sorted(wanted, key=lambda one: ops.NAMES.index(one.operator))


def named(name: str) -> Mutant:
    """Return the mutant of this name; UsageError where there is none."""
    mutants()
    if name not in _BANK:
        raise UsageError(f"there is no mutant {name!r}")
    return _BANK[name]


@cache
def healthy(operator: str) -> Callable[..., Any]:
    """Return torch's function of an operator."""
    return functional().functions[operator]


@cache
def _defaults(operator: str) -> dict[str, Any]:
    spec = ops.spec(operator)
    every = {one.name: one.default for one in fields(spec.operator)}  # type: ignore[arg-type]
    return {name: every[name] for name in spec.keywords if every[name] is not MISSING}


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple | list)


def with_gradient(tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `tensor`, whose gradient `change` alters on its way back."""
    return _Changed.apply(tensor, change)  # type: ignore[no-any-return, no-untyped-call]


def with_gradients_of(output: Tensor, other: Tensor) -> Tensor:
    """Return the values of `output`; gradients flow back through `other`, of the same shape, in its stead."""
    return _Substituted.apply(output.detach(), other)  # type: ignore[no-any-return, no-untyped-call]


class _Changed(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return ctx.change(gradients[0]), None


class _Substituted(Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, other: Tensor) -> Tensor:  # noqa: ARG004 - as torch calls it
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004
        return None, gradients[0]
