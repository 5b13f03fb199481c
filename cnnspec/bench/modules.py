"""A whole network as a module of torch: judged node by node, then ready to be called, forward or with backward."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch

from cnnspec import nets
from cnnspec.backends.torch import DTYPES
from cnnspec.backends.torch_modules import to_torch
from cnnspec.backends.torch_weights import fill
from cnnspec.bench import variants
from cnnspec.bench.shapes import LARGEST
from cnnspec.bench.sides import WITH_BACKWARD, prepare
from cnnspec.errors import CnnspecError, ShapeError, UsageError
from cnnspec.graph import Network
from cnnspec.judge import FORWARD
from cnnspec.nested import Shape
from cnnspec.networks import Pass, Subject, Variant, subjects
from cnnspec.tables import Summary, summary

Form = dict[str, int]
"""Arguments that make an architecture smaller than it is; none for itself."""
QUICK = 4_000_000
"""Elements of parameters and outputs up to which a network is judged as it is first."""
SIZES = (64, 96, 128)
"""Of images on which it is judged first."""
WIDTHS = ("width", "hidden")
"""Arguments that say how many channels and units there are."""
JUDGED = "sparse"
"""The weights on which nodes are judged: with them the bounds are sharp."""


class Checked(NamedTuple):
    """What the judge says of a network: its status, what was judged in words, and why it is no pass."""

    status: str
    words: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Whole:
    """A network of a target in a dtype and a variant, one way; `dtype` may be another one's in the variant.

    Raises UsageError for a network that does not exist, and for a target that gives no module of torch.

    >>> whole = Whole("torch", "lenet5")
    >>> whole.checked(lambda: False).words, whole.call(whole.module(), 2)().shape
    ('12 nodes within their bounds at 1x1x28x28', torch.Size([2, 10]))
    """

    target: str
    net: str
    dtype: str = "float32"
    variant: str = variants.PLAIN
    direction: str = "forward"
    device: str = "cpu"
    seed: int = 0

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the variant."""
        return variants.parts(self.variant)

    @property
    def training(self) -> bool:
        """Whether it trains while it is called."""
        return self.direction == WITH_BACKWARD

    @cached_property
    def own_dtype(self) -> str:
        """The dtype of parameters and inputs."""
        return next((word for word in reversed(self.words) if word in variants.DTYPES), self.dtype)

    @cached_property
    def definition(self) -> Network:
        """The network, in evaluation or in training."""
        return nets.build(self.net).train(self.training)

    @cached_property
    def least(self) -> int:
        """The smallest batch that it takes: in training, normalization may need two values of a channel."""
        try:
            self.definition.shapes(*self.shapes(1))
        except ShapeError:
            return 2
        return 1

    @cached_property
    def costs(self) -> Summary:
        """What one image costs."""
        return summary(nets.build(self.net), [(1, *shape[1:]) for shape in self.definition.input_shapes])

    @cached_property
    def flops(self) -> dict[str, int]:
        """The FLOPs of each node for one image; with backward, those of gradients of weights and inputs too."""
        network = self.definition
        found = {}
        for row, node in zip(self.costs.rows, network, strict=True):
            inner = any(name not in network.inputs for name in node.inputs)
            passes = 1 + self.training * ((f"{node.name}.weight" in network.parameter_shapes()) + inner)
            found[node.name] = passes * (row.flops or 0)
        return found

    def shapes(self, batch: int, network: Network | None = None) -> tuple[Shape, ...]:
        """Return the shapes of the inputs."""
        return tuple((batch, *shape[1:]) for shape in (network or self.definition).input_shapes)

    # Conformance

    @cached_property
    def subject(self) -> Subject:
        """What the judge calls it; UsageError where a target gives no module."""
        if "im2col" in self.words:
            raise UsageError("variant im2col is for single calls of conv2d")
        none = f"{self.target} builds no module of torch, which whole networks are measured as"
        shapes = self.shapes(1)
        try:
            found = subjects(self.target, self.net, shapes, self.device)[0]
        except UsageError as error:
            raise UsageError(f"{none}: {error}") from None
        if found.build is None and not found.backend.builtin:
            raise UsageError(none)
        return found

    @cached_property
    def small(self) -> Form:
        """The form in which a built-in network is judged first: where its own takes long, smaller and narrower."""
        if self.subject.build or self._elements({}) <= QUICK:
            return {}
        found = self._smaller()
        sizes = {name: _usual(self.net, name) for name in WIDTHS if _usual(self.net, name)}
        while sizes and min(sizes.values()) > 1 and self._elements(found) > QUICK:
            sizes = {name: size // 2 for name, size in sizes.items()}
            found |= sizes
        return found

    def _smaller(self) -> Form:
        """Return the smallest image that the network takes, of those that are tried."""
        for size in SIZES:
            if size < _usual(self.net, "input_size"):
                try:
                    self._elements({"input_size": size})
                except CnnspecError:
                    continue
                return {"input_size": size}
        return {}

    @property
    def enlargement(self) -> float:
        """How many times more elements the network has than in the form of the first judgement."""
        whole, largest = self._elements({}), self._largest({})
        return math.inf if largest > LARGEST else whole / self._elements(self.small)

    def checked(self, spent: Callable[[], bool], form: Form | None = None) -> Checked:
        """Hold every node to its bound, forward and backward, and the module's own run to the bits of its calls.

        The status is "unjudged" where time is spent before.
        """
        form = self.small if form is None else form
        if self._largest(form) > LARGEST:
            return Checked(
                "unsupported", "", f"a layer has more than {LARGEST} elements: it cannot be judged"
            )
        prepare(self.subject.backend)
        return self._judged(form, spent)

    def _judged(self, form: Form, spent: Callable[[], bool]) -> Checked:
        one, statuses = self._pass(form), Counter[str]()
        try:
            with variants.switches(self.variant)():
                for row in one.rows():
                    node, status = row["node"] or "the whole run", row["status"]
                    if status == "fail":
                        reason = f"not ranked: fails {row['law']} at {node}: {row['message']}"
                        return Checked("fail", self._said(one, form, statuses), reason)
                    if row["law"] == FORWARD:
                        statuses[status] += 1
                        if status == "unsupported" or not row["node"]:
                            return Checked("unsupported", "", f"{node}: {row['reason']}")
                    if spent():
                        return Checked("unjudged", "", "its nodes could not be judged in the time")
        except CnnspecError as error:
            return Checked("unsupported", "", str(error))
        if not statuses["pass"]:
            return Checked("unsupported", "", "none of its nodes can be judged")
        return Checked("pass", self._said(one, form, statuses))

    def _pass(self, form: Form) -> Pass:
        """Return the run that is judged."""
        network = self._built(form)
        build = self.subject.build or partial(to_torch, network)
        spoken = ["train" if self.training else "eval"]
        spoken += [word for word in self.words if word in ("channels_last", "compile")]
        backend = variants.backend_of(self.subject.backend, self.arithmetic)
        several = (
            self.training or "channels_last" in self.words
        )  # of one image, strides may say either layout
        shapes = self.shapes(max(self.least, 1 + several), network)
        subject = replace(
            self.subject, backend=backend, network=network, build=build, input_shapes=shapes, name=self.net
        )
        return Pass(subject, Variant.parse("+".join(spoken)), JUDGED, self.own_dtype, self.seed)

    @property
    def arithmetic(self) -> str:
        """The words that say how numbers are worked out."""
        return "+".join(word for word in self.words if word in ("onednn_off", "tf32")) or variants.PLAIN

    def _said(self, one: Pass, form: Form, statuses: Mapping[str, int]) -> str:
        shape = " and ".join("x".join(map(str, shape)) for shape in one.subject.input_shapes)
        narrow = ", ".join(
            f"{name} {form[name]}, not {_usual(self.net, name)}" for name in WIDTHS if name in form
        )
        skipped = (
            f"; {statuses['skip']} not judged, such as what is drawn at random" if statuses["skip"] else ""
        )
        return f"{statuses['pass']} nodes within their bounds at {shape}{narrow and f' of {narrow}'}{skipped}"

    def _built(self, form: Form) -> Network:
        return nets.build(self.net, **form).train(self.training) if form else self.definition

    def _sizes(self, form: Form) -> list[int]:
        """Return the elements of each parameter and output, of the smallest batch."""
        network = self._built(form)
        shapes = network.shapes(*self.shapes(self.least, network))
        return [math.prod(shape) for shape in (*network.parameter_shapes().values(), *shapes.values())]

    def _elements(self, form: Form) -> int:
        return sum(self._sizes(form))

    def _largest(self, form: Form) -> int:
        return max(self._sizes(form))

    # Calls

    def module(self) -> torch.nn.Module:
        """Return the module with weights drawn for it, none of them zeros, as the variant lays it out."""
        prepare(self.subject.backend)
        torch.manual_seed(self.seed)
        build = self.subject.build or partial(to_torch, self.definition)
        module = build().to(self.device, DTYPES[self.own_dtype]).train(self.training)
        fill(module, "dense", torch.Generator().manual_seed(self.seed))
        if "channels_last" in self.words:
            for one in module.parameters():
                one.data = self._placed(one.data)
        return module

    def call(self, module: torch.nn.Module, batch: int) -> Callable[[], Any]:
        """Return the call of a module on images drawn for it: in evaluation its output, in training gradients too."""
        generator = torch.Generator().manual_seed(self.seed)
        dtype = DTYPES[self.own_dtype]
        drawn = [torch.randn(shape, generator=generator).to(dtype) for shape in self.shapes(batch)]
        images = [self._placed(one.to(self.device)) for one in drawn]
        called = module
        if "compile" in self.words:
            torch.compiler.reset()
            called = torch.compile(module, dynamic=False)  # type: ignore[assignment]
        if not self.training:
            return partial(_evaluated, called, *images)
        with torch.no_grad():
            outputs = _listed(module(*images))
        gradients = [torch.randn(one.shape, generator=generator).to(one) for one in outputs]
        parameters = [one for one in module.parameters() if one.requires_grad]
        return partial(_trained, called, parameters, gradients, *images)

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        last = "channels_last" in self.words and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if last else value


def _usual(net: str, argument: str) -> int:
    """Return what an argument of an architecture is where none is given; 0 for one that it does not take."""
    found = inspect.signature(getattr(nets, net)).parameters.get(argument)
    return int(found.default) if found else 0


def _evaluated(module: torch.nn.Module, *images: torch.Tensor) -> Any:
    with torch.inference_mode():
        return module(*images)


def _trained(
    module: torch.nn.Module,
    parameters: list[torch.nn.Parameter],
    gradients: list[torch.Tensor],
    *images: torch.Tensor,
) -> Any:
    return torch.autograd.grad(_listed(module(*images)), parameters, gradients, allow_unused=True)


def _listed(output: Any) -> list[torch.Tensor]:
    return [one for one in torch.utils._pytree.tree_leaves(output) if isinstance(one, torch.Tensor)]
