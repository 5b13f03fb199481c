"""What `cnnspec check --net` and `--input` run: a network on a target, in its variants, on kinds of weights."""

import contextlib
import inspect
import random
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from cnnspec import nets
from cnnspec.backends import Backend, targets
from cnnspec.backends.torch import DTYPES, functional
from cnnspec.backends.torch_compiled import run_compiled
from cnnspec.backends.torch_graph import graph_of
from cnnspec.backends.torch_modules import to_torch
from cnnspec.backends.torch_records import Run
from cnnspec.backends.torch_runs import run_by, run_trace, run_whole
from cnnspec.backends.torch_trace import initialise
from cnnspec.backends.torch_weights import drawn_state, fill, is_drawn
from cnnspec.cases import call_of
from cnnspec.chain import chained, distance
from cnnspec.errors import ArgumentError, CnnspecError, ShapeError, UsageError, said
from cnnspec.graph import Network
from cnnspec.judge import BACKWARD, FORWARD, GENERAL_LAWS, UPDATES, Row, blank_row, cell_of
from cnnspec.layerwise import NETWORK_LAWS, WHOLE, Layerwise
from cnnspec.nested import Shape
from cnnspec.nodes import array_of

VARIANTS = {
    "eval": "in evaluation",
    "train": "in training: normalization by the batch, running statistics updated",
    "channels_last": "images and their weights in channels_last",
    "autocast_bfloat16": "under torch.autocast with bfloat16",
    "autocast_float16": "under torch.autocast with float16",
    "compile": "through torch.compile",
}
LAWS = {law: GENERAL_LAWS[law] for law in (FORWARD, BACKWARD, UPDATES)} | NETWORK_LAWS
"""What is asked of the nodes, and of the whole."""

DEFAULT_VARIANTS = ("eval", "train")


@dataclass(frozen=True)
class Variant:
    """How a network runs, of words joined by "+".

    >>> Variant.parse("train+channels_last")
    Variant(name='train+channels_last', training=True, channels_last=True, autocast='', compiled=False)
    """

    name: str
    training: bool = False
    channels_last: bool = False
    autocast: str = ""
    compiled: bool = False

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Return the variant that `text` names; UsageError for words that say nothing, or exclude each other."""
        words = text.split("+")
        for word in words:
            if word not in VARIANTS:
                raise UsageError(f"unknown variant {word!r}; known are {', '.join(VARIANTS)}", variant=word)
        autocast = [word.removeprefix("autocast_") for word in words if word.startswith("autocast_")]
        if {"eval", "train"} <= set(words) or len(autocast) > 1:
            raise UsageError(f"variant {text!r} names two that exclude each other")
        return cls(text, "train" in words, "channels_last" in words, "".join(autocast), "compile" in words)


@dataclass(frozen=True)
class Subject:
    """What is judged: a network on a backend, or a module of torch, held to a definition where there is one."""

    target: str
    name: str
    backend: Backend
    network: Network | None = None
    build: Callable[[], torch.nn.Module] | None = None
    input_shapes: tuple[Shape, ...] = ()

    @property
    def regimes(self) -> tuple[str, ...]:
        """The kinds of parameters that it runs on."""
        return ("own", "sparse") if self.build else ("sparse", "dense")

    def command(self, variants: Sequence[str], dtypes: Sequence[str], seed: int) -> str:
        """Return the command line that runs it."""
        words = ["cnnspec", "check", self.target, *(["--net", self.name] if self.network else [])]
        words += [word for shape in self.input_shapes for word in ("--input", ",".join(map(str, shape)))]
        words += ["--variant", *variants, "--seed", str(seed)]
        words += ["--dtype", *dtypes] if tuple(dtypes) != ("float32",) else []
        words += ["--device", self.backend.device] if self.backend.device != "cpu" else []
        return shlex.join(words)


def subjects(target: str, net: str, input_shapes: Sequence[Shape], device: str = "cpu") -> list[Subject]:
    """Return what a target, the name of a network and input shapes ask for.

    A function of a file or module that needs no argument builds a module of torch; with the name of a network it is
    held to that definition. Anything else is a backend, on which the network of that name runs.
    Raises UsageError for an unknown network, for one without an input shape, and for a function that builds none.
    """
    definition = _definition(net)
    shapes = tuple(input_shapes) or (_batches(definition) if definition else ())
    if not shapes:
        raise UsageError("--input is missing: give the shape of the input, such as --input 1,3,224,224")
    build = _builder(target)
    if build is not None:
        name = net or target.rpartition(":")[2]
        return [
            Subject(target, name, replace(functional(device=device), name=target), definition, build, shapes)
        ]
    if definition is None:
        raise UsageError(f"{target} builds no network: name one with --net, such as --net resnet18")
    found = targets.resolve(target, None, device)
    return [Subject(target, net, one, definition, None, shapes) for one in found]


def _batches(definition: Network) -> tuple[Shape, ...]:
    """Return the shapes that a network is meant for, with a batch of two: so statistics are of more than one image."""
    return tuple((2, *shape[1:]) for shape in definition.input_shapes)


def _definition(net: str) -> Network | None:
    """Return the architecture that a text names, with arguments as in resnet18(width=16); None for no text."""
    if not net:
        return None
    name, arguments = call_of(net, "network") if "(" in net else (net, {})
    try:
        return nets.build(name, **arguments)
    except (TypeError, ArgumentError) as error:
        raise UsageError(f"--net {net!r}: {error}") from None


def _builder(target: str) -> Callable[[], torch.nn.Module] | None:
    """Return what builds the module that a target names; None where it names none."""
    if target in targets.BUILTIN or ":" not in target:
        return None
    found = targets.named(target)
    if isinstance(found, torch.nn.Module | Network):
        return lambda: _module(found, target)
    if not callable(found):
        return None
    try:
        needed = [p for p in inspect.signature(found).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return None
    if any(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in needed):
        return None
    return lambda: _module(_called(found, target), target)


def _module(found: Any, target: str) -> torch.nn.Module:
    if isinstance(found, Network):
        return to_torch(found)
    if not isinstance(found, torch.nn.Module):
        raise UsageError(f"{target} returned {type(found).__name__}: it must build a torch.nn.Module")
    return found


def _called(function: Callable[[], Any], target: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise UsageError(f"{target}() raised {type(error).__name__}: {error}") from error


def _runs(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> bool:
    try:
        with torch.no_grad():
            module(*(one.clone() for one in inputs))
    except Exception:  # noqa: BLE001 - whatever a model raises
        return False
    return True


@dataclass(frozen=True)
class Pass:
    """One run of one network: in which variant, on which weights, in which dtype, from which seed."""

    subject: Subject
    variant: Variant
    regime: str
    dtype: str = "float32"
    seed: int = 0

    def rows(self, announce: Callable[[str, str], None] = lambda law, node: None) -> Iterator[Row]:
        """Run it and yield its rows; one row, `skip`, where the network does not take the input in this variant.

        announce: told (law, node) before each verdict
        """
        announce("run", "")
        definition = self.subject.network and self.subject.network.train(self.variant.training)
        try:
            if definition is not None:
                definition.shapes(*self.subject.input_shapes)
        except ShapeError as error:
            yield self.row("skip", reason=str(error))
            return
        generator = torch.Generator().manual_seed(self.seed)
        drawn = [torch.randn(shape, generator=generator) for shape in self.subject.input_shapes]
        inputs = [self._placed(one.to(DTYPES[self.dtype])) for one in drawn]
        build = self.subject.build
        if definition is not None and build is None and self.variant.compiled:
            build = partial(to_torch, definition)
        if build is not None:
            self._seed()
            yield from self._of_module(build(), definition, inputs, generator, announce)
        elif definition is not None:
            yield from self._on_backend(definition, inputs, generator, announce)

    def _on_backend(
        self, definition: Network, inputs: list[torch.Tensor], generator: torch.Generator, announce: Any
    ) -> Iterator[Row]:
        """Run a definition node by node on the functions of a backend."""
        self._seed()
        module = to_torch(definition, dtype=DTYPES[self.dtype])
        state = {name: one.detach() for name, one in module.state_dict().items() if is_drawn(name)}
        state = {name: self._placed(one) for name, one in drawn_state(state, self.regime, generator).items()}
        with self._context():
            run = run_by(self.subject.backend, definition, state, inputs, self.seed)
        judge = Layerwise(run, definition, self.subject.backend, None, self.facts, announce)
        for row in judge.rows():
            if row["node"] == definition.outputs[0] and row["law"] == FORWARD and not self.variant.autocast:
                row["end_to_end"] = self._end_to_end(definition, run)
            yield row

    def _end_to_end(self, definition: Network, run: Run) -> str:
        """Return how far the output is from that of correctly rounded nodes, as information."""
        given = {name: array_of(one) for name, one in (*run.inputs.items(), *run.state.items())}
        try:
            wanted = chained(definition, given, self.dtype)
        except (CnnspecError, NotImplementedError) as error:
            return f"not compared end to end: {error}"
        return str(distance(array_of(run.outputs[0]), wanted[definition.outputs[0]]))

    def _of_module(
        self,
        module: torch.nn.Module,
        definition: Network | None,
        inputs: list[torch.Tensor],
        generator: torch.Generator,
        announce: Any,
    ) -> Iterator[Row]:
        """Run the traced calls of a module, and the module itself."""
        backend, seed = self.subject.backend, self.seed
        module = module.to(backend.device, DTYPES[self.dtype]).train(self.variant.training)
        try:
            initialise(module, tuple(inputs))
            if self.variant.channels_last:
                for one in module.parameters():
                    one.data = self._placed(one.data)
            if self.regime != "own":
                fill(module, self.regime, generator)
            self._seed()
            graph = graph_of(module, tuple(inputs), hooks=True)
        except ArgumentError as error:
            if not self.variant.training or _runs(module, inputs) or not _runs(module.eval(), inputs):
                raise
            yield self.row(
                "skip", reason=str(error)
            )  # such as one value in each channel, which has no variance
            return
        self._seed()
        try:
            if self.variant.compiled:
                run = run_compiled(graph, inputs, seed)
            else:
                run = run_trace(graph, inputs, seed, self._context)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its row
            yield self._without_trace(module, inputs, said(error))
            return
        judge = Layerwise(run, graph.network, backend, definition, self.facts, announce)
        yield from judge.rows()
        if not self.variant.compiled:
            announce(WHOLE, "")
            yield judge.whole(self._own_run(module, inputs))

    def _own_run(self, module: torch.nn.Module, inputs: list[torch.Tensor]) -> Run:
        """Run a module as it is; where it raises the run says so."""
        self._seed()
        try:
            return run_whole(module, inputs, self.seed, self._context)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its row
            return Run({}, {}, raised=said(error))

    def _without_trace(self, module: torch.nn.Module, inputs: list[torch.Tensor], raised: str) -> Row:
        """Return the row of a module whose traced calls raise: a failure where the module itself raises too."""
        own = self._own_run(module, inputs)
        if "not implemented for" in own.raised:
            return self.row("unsupported", reason=own.raised)
        if own.raised:
            return self.row("fail", message=f"the module's own run {own.raised}")
        return self.row("skip", reason=f"the module runs, but a run of its traced calls {raised}")

    def _seed(self) -> None:
        """Seed whatever a module may draw from."""
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)  # noqa: NPY002 - what modules draw from
        torch.manual_seed(self.seed)

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the device, as the variant lays it out."""
        value = value.to(self.subject.backend.device)
        last = self.variant.channels_last and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if last else value

    def _context(self) -> Any:
        """Return the context in which the calls run."""
        if not self.variant.autocast:
            return contextlib.nullcontext()
        return torch.autocast(self.subject.backend.device.partition(":")[0], DTYPES[self.variant.autocast])

    def __str__(self) -> str:
        name = f"{self.subject.name} on {self.subject.backend.name}"
        return f"{name}, {self.variant.name}, {self.regime} weights, {self.dtype}"

    @property
    def facts(self) -> dict[str, Any]:
        """The fields that all its rows share."""
        return {
            "net": self.subject.name,
            "variant": self.variant.name,
            "regime": self.regime,
            "seed": self.seed,
            "dtype_of_network": self.dtype,
            "command": self.subject.command((self.variant.name,), (self.dtype,), self.seed),
        }

    def row(self, status: str, **extra: Any) -> Row:
        """Return a row that says something of the whole pass."""
        about = cell_of("network", self.subject.backend, self.dtype, FORWARD) | {"case": ""}
        return blank_row(about, status) | {"node": "", "place": 0, **self.facts, **extra}
