"""Whole networks, judged node by node on the implementation's own inputs, forward and backward.

Each node is held to its own bound, so errors do not compound, and the first row that fails names the first wrong node.
Held to a definition, a network that another hand wrote must also have its nodes, take what they take, and use the
parameters that they use.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from cnnspec.backends import Backend
from cnnspec.backends.torch_records import Record, Run, Tensors
from cnnspec.backends.torch_runs import case_of, words_of
from cnnspec.backends.traced import Unused
from cnnspec.blocks import Node
from cnnspec.calls import Violation
from cnnspec.cases import Case
from cnnspec.graph import Network
from cnnspec.judge import BACKWARD, FORWARD, UPDATES, Row, blank_row, cell_of
from cnnspec.nodes import Held, family_of, held_to_sum
from cnnspec.op import Operator
from cnnspec.outputs import Unjudged
from cnnspec.pairs import pairs, uses
from cnnspec.spelling import spec_name, spelled

WIRING, GRADIENT_SUM, WHOLE = "wiring", "gradient_sum", "whole"
NETWORK_LAWS = {
    WIRING: "each node of the definition is there, and takes the values and parameters that the definition says",
    GRADIENT_SUM: "the gradient of what several nodes use is the sum of the gradients of these uses",
    WHOLE: "the module's own run gives the bits of its traced calls, forward and backward",
}


@dataclass
class Layerwise:
    """A run of a network, its judge and what its rows have in common.

    network:    what ran;   definition: what it must be, where that is another network
    about:      the fields of every row that say which run this is
    announce:   told (law, case) before each verdict
    """

    run: Run
    network: Network
    backend: Backend
    definition: Network | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    announce: Callable[[str, str], None] = field(default=lambda law, case: None)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all nodes in the order of the network, each node's laws one after another."""
        wanted = self.definition or self.network
        self._pairs = (
            pairs(wanted, self.network) if self.definition else {node.name: node.name for node in wanted}
        )
        self._uses = uses(self.network)
        for place, node in enumerate(wanted):
            for row in self._node(node):
                yield self._placed(row, node.name, place)
        if self.run.raised:
            message = f"the backward pass {self.run.raised}"
            culprit = self._culprit()
            place = list(self.network.nodes).index(culprit) if culprit else 0
            yield self._placed(self._row(None, None, BACKWARD, "fail", message=message), culprit, place)

    def _placed(self, row: Row, name: str, place: int) -> Row:
        """Return a row with the node that it is of; each node that fails is a failure of its own."""
        row |= {"node": name, "place": place}
        if row["status"] == "fail":
            words = [
                str(self.about.get(word, "")) for word in ("net", "variant", "regime", "dtype_of_network")
            ]
            row["failure_id"] = "-".join([*words, name, row["law"]])
        return row

    def _culprit(self) -> str:
        """Return the node at which a backward pass stopped: the last that got a gradient and gave none."""
        names = [
            one.name for one in self.run.records.values() if one.grad_output is not None and not one.gradients
        ]
        return names[0] if names else ""

    def _node(self, node: Node) -> Iterator[Row]:
        record = self.run.records.get(self._pairs.get(node.name, ""))
        case = case_of(node.operator, record.operands) if record and record.operands else None
        if self.definition is not None:
            wiring = self._judged(WIRING, case, node, lambda: self._wiring(node, record))
            yield _with_calls(wiring, node, record)
            if wiring["status"] == "fail":
                return
        operands = self._operands(node, record)
        value = self.run.value(self._pairs.get(node.name, ""))
        if operands is None or value is None:
            yield self._row(case, node, FORWARD, "skip", reason=_unknown(node))
            return
        if record is not None and record.raised:
            status = "unsupported" if record.unsupported else "fail"
            yield self._row(
                case, node, FORWARD, status, **{"reason" if record.unsupported else "message": record.raised}
            )
            return
        if getattr(node.operator, "training", False) and family_of(node.operator) == "dropout":
            yield self._row(case, node, FORWARD, "skip", reason="its values are drawn at random")
            return
        held = Held(node.operator, operands, value, self.backend)
        forward = self._judged(FORWARD, held.case, node, held.forward)
        yield _with_calls(forward, node, record)
        if forward["status"] != "pass" or record is None or type(record.operator) is not type(node.operator):
            return
        if record.grad_output is not None and record.gradients:
            yield self._judged(BACKWARD, held.case, node, lambda: held.backward(record))
        if held.updates:
            yield self._judged(UPDATES, held.case, node, lambda: held.updated(record))
        if len(self._uses.get(record.name, ())) > 1 and record.grad_output is not None:
            yield self._judged(GRADIENT_SUM, held.case, node, lambda: self._sum(record))

    def _judged(
        self, law: str, case: Case | None, node: Node | None, facts: Callable[[], Mapping[str, Any]]
    ) -> Row:
        """Return the row of one law of one node, or of the whole run."""
        self.announce(law, node.name if node else "")
        started = time.perf_counter()
        try:
            row = self._row(case, node, law, "pass", **facts())
        except Unjudged as error:
            row = self._row(case, node, law, "skip", reason=str(error))
        except Violation as error:
            row = self._row(case, node, law, "fail", message=str(error), **error.row)
        row["seconds"] = round(time.perf_counter() - started, 6)
        return row

    def _row(self, case: Case | None, node: Node | None, law: str, status: str, **extra: Any) -> Row:
        operator, dtype = _called(node.operator) if node else "network", case.dtype if case else "float32"
        about = cell_of(operator, self.backend, dtype, law) | {"case": str(case) if case else ""}
        return blank_row(about, status) | {"discriminating": status == "pass", **self.about, **extra}

    def whole(self, own: Run) -> Row:
        """Return the row of the module's own run: it gives what its traced calls gave, bit for bit."""
        row = self._judged(WHOLE, None, None, lambda: _equal_runs(self.run, own))
        return self._placed(row, "", len(self.definition or self.network))

    # What a node takes

    def _operands(self, node: Node, record: Record | None) -> Tensors | None:
        """Return what the definition's node takes: what the model's took where it is alike, else what it must take."""
        found: Tensors = {}
        same = record is not None and type(record.operator) is type(node.operator)
        if spec_name(node.operator) is None:
            return None
        inputs = _inputs(node)
        for word, name in (*inputs.items(), *node.operands.items()):
            value = record.operands.get(word) if record is not None and same else None
            if value is None:
                value = self.run.state.get(name) if word not in inputs else self._value(name)
            if value is None:
                return None
            found[word] = value
        return found

    def _value(self, name: str) -> torch.Tensor | None:
        """Return the value of a node of the definition, or of an input."""
        if name in self.run.inputs:
            return self.run.inputs[name]
        return self.run.value(self._pairs.get(name, ""))

    def _wiring(self, node: Node, record: Record | None) -> Mapping[str, Any]:
        """Raise Violation unless the model has a node, which takes what the definition says."""
        if node.name not in self._pairs:
            raise Violation(f"the model has no {spelled(node.operator)} at {node.name}")
        for name in node.operands.values():
            if name not in self.run.state:
                raise Violation(f"the model has no parameter {name}")
        if record is None or type(record.operator) is not type(node.operator):
            return {}
        inputs = _inputs(node)
        wanted = {word: (self._value(name), f"the output of {name}") for word, name in inputs.items()}
        wanted |= {word: (self.run.state[name], name) for word, name in node.operands.items()}
        commutes = spec_name(node.operator) == "add"
        taken = [record.operands.get(word) for word in inputs]
        for word, (value, what) in wanted.items():
            own = record.operands.get(word)
            if value is None or _same(own, value) or (commutes and any(_same(one, value) for one in taken)):
                continue
            raise Violation(f"{word} is {self._described(own)}, it must be {what}", operand=word)
        return {}

    def _described(self, value: torch.Tensor | None) -> str:
        """Return what a value is in words: the output of which node, or which parameter."""
        if value is None:
            return "missing"
        names = [*self.run.inputs, *self.run.records, *self.run.others]
        known = next((f"the output of {name}" for name in names if _same(self.run.value(name), value)), "")
        return known or next(
            (name for name, one in self.run.state.items() if _same(one, value)), "another tensor"
        )

    # Sums of gradients

    def _sum(self, record: Record) -> Mapping[str, Any]:
        """Hold the gradient of an output to the sum of what its uses gave."""
        if record.name in self.network.outputs:
            raise Unjudged("it is an output too, whose gradient comes from outside")
        parts = []
        for name, place in self._uses[record.name]:
            user = self.run.records.get(name)
            words = words_of(user.operator, place + 1) if user and spec_name(user.operator) else ()
            part = user.gradients.get(words[place]) if user and len(words) > place else None
            if part is None:
                raise Unjudged(f"the gradient that {name} gives is not known")
            parts.append(part)
        assert record.grad_output is not None
        return held_to_sum(parts, record.grad_output, self.backend)


def _equal_runs(run: Run, own: Run) -> Mapping[str, Any]:
    """Raise Violation where a module's own run gives something else than its traced calls."""
    if own.raised:
        raise Violation(f"the module's own run {own.raised}")
    if not (run.outputs or own.outputs):
        raise Unjudged("no tensor is returned, alone or in lists, tuples and dictionaries")
    if "CompiledFunction" in own.functions:
        raise Unjudged("the module's own run is compiled: it makes other calls than the traced ones")
    _equal("output", dict(enumerate(run.outputs)), dict(enumerate(own.outputs)))
    _equal("the new value of", run.buffers, own.buffers)
    if run.raised:
        raise Unjudged("the backward pass of its traced calls raised")
    if run.gradients and not own.gradients:
        raise Unjudged("the module's own run takes no gradients")
    try:
        _equal("the gradient of", run.gradients, own.gradients)
    except Violation as error:
        if not own.functions:
            raise
        raise Unjudged(f"{error}: the backward pass of {' and '.join(own.functions)}") from None
    return {}


def _equal(what: str, ones: Mapping[Any, torch.Tensor], others: Mapping[Any, torch.Tensor]) -> None:
    """Raise Violation where values of the module's own run, `others`, are not those of its traced calls."""
    for name in reversed({**others, **ones}):  # of gradients the nearest to the output first
        if name not in ones or not _same(others.get(name), ones[name]):
            raise Violation(
                f"{what} {name} of the module's own run is not that of its traced calls: a trace does not see "
                "some of its code"
            )


def _with_calls(row: Row, node: Node, record: Record | None) -> Row:
    """Return the row of a failure with what the model calls, where the definition says something else."""
    if row["status"] == "fail" and record and spelled(record.operator) != spelled(node.operator):
        said = f"the model calls {spelled(record.operator)}, the definition says {spelled(node.operator)}"
        row["message"] = f"{row['message']}; {said}"
    return row


def _called(operator: Operator) -> str:
    """Return the name of an operator, or of a call that the catalogue does not have."""
    return spec_name(operator) or str(getattr(operator, "trace", None) or type(operator).__name__.lower())


def _inputs(node: Node) -> dict[str, str]:
    """Return what a node takes from other nodes, by the words of its operator."""
    return dict(zip(words_of(node.operator, len(node.inputs)), node.inputs, strict=False))


def _unknown(node: Node) -> str:
    """Return why nothing can be said of the output of a node."""
    if spec_name(node.operator):
        return "what it takes is not known"
    if isinstance(node.operator, Unused):
        names = list(node.operands.values())
        return f"no node uses the parameter{'s' * (len(names) > 1)} {' and '.join(names)}"
    return "the catalogue has no such operator"


def _same(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    """Say whether two tensors hold the same numbers; NaN is the same as NaN."""
    if one is None or one.shape != other.shape:
        return False
    if one.is_complex() and other.is_complex():
        one, other = torch.view_as_real(one.resolve_conj()), torch.view_as_real(other.resolve_conj())
    return torch.equal(torch.nan_to_num(one.double(), math.inf), torch.nan_to_num(other.double(), math.inf))
