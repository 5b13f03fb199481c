"""Whole networks node by node: right ones hold, each planted fault is attributed to its node."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnspec import nets
from cnnspec.backends.torch import functional
from cnnspec.backends.torch_graph import graph_of
from cnnspec.backends.torch_runs import run_trace
from cnnspec.backends.torch_weights import drawn_state
from cnnspec.errors import UsageError
from cnnspec.judge import Row
from cnnspec.layerwise import Layerwise
from cnnspec.nested import Shape
from cnnspec.networks import Pass, Variant, subjects
from cnnspec.report.networks import passes_of
from tests import faulty_networks

FILE = str(Path(__file__).with_name("faulty_networks.py"))
NET = "resnet18(width=16, classes=10, input_size=32)"
SHAPE = (2, 3, 32, 32)
pytestmark = pytest.mark.usefixtures("one_thread")


def judged(
    target: str, net: str = NET, shape: Shape = SHAPE, variant: str = "eval", regime: str = "sparse"
) -> list[Row]:
    [subject] = subjects(target, net, [shape])
    return list(Pass(subject, Variant.parse(variant), regime).rows())


def failures(found: list[Row]) -> list[tuple[str, str]]:
    return [(row["node"], row["law"]) for row in found if row["status"] == "fail"]


@pytest.mark.parametrize("variant", ["eval", "train", "channels_last", "train+channels_last"])
@pytest.mark.parametrize("target", ["torch", f"{FILE}:right"])
def test_a_right_network_holds_forward_and_backward(target: str, variant: str) -> None:
    found = judged(target, variant=variant)
    assert not [(row["node"], row["law"], row["message"]) for row in found if row["status"] == "fail"]
    assert {row["status"] for row in found} == {"pass"}
    nodes = {node.name for node in nets.build("resnet18")}
    for law in ("forward", "backward"):
        assert {row["node"] for row in found if row["law"] == law} == nodes
    updated = {row["node"] for row in found if row["law"] == "updates"}
    assert updated == (
        {name for name in nodes if "bn" in name or name.endswith("downsample.1")}
        if "train" in variant
        else set()
    )


@pytest.mark.parametrize(
    ("build", "variant", "node"), faulty_networks.FAULTS, ids=lambda one: getattr(one, "__name__", None)
)
def test_a_fault_is_attributed_to_its_node(
    build: Callable[[], torch.nn.Module], variant: str, node: str
) -> None:
    found = judged(f"{FILE}:{build.__name__}", variant=variant)
    [one] = passes_of(found)
    assert one.first_wrong is not None
    assert one.first_wrong.name == node
    assert one.first_wrong.message


SAID = {
    "wrong_stride": "the model calls Conv2d(32, 64, 3, padding=1, bias=False), "
    "the definition says Conv2d(32, 64, 3, stride=2, padding=1, bias=False)",
    "without_shortcut": "the model has no Add() at layer1.1.add",
    "relu_before_add": "it must be the output of layer4.1.bn2",
    "transposed_weight": "weight is another tensor, it must be layer3.1.conv1.weight",
    "without_bias": "bias is missing, it must be fc.bias",
}


@pytest.mark.parametrize("fault", SAID)
def test_the_message_says_what_is_wrong(fault: str) -> None:
    [one] = passes_of(judged(f"{FILE}:{fault}"))
    assert SAID[fault] in one.sentence


def test_a_wrong_kernel_is_found_at_each_of_its_nodes(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(
        "import torch\n"
        "def batch_norm(input, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):\n"
        "    healthy = torch.nn.functional.batch_norm\n"
        "    return healthy(input, running_mean, running_var, weight, bias, training, momentum, 0.0)\n"
    )
    found = judged(str(tmp_path / "kernel.py"))
    nodes = [node.name for node in nets.build("resnet18") if type(node.operator).__name__ == "BatchNorm2d"]
    assert failures(found) == [(name, "forward") for name in nodes]
    others = {row["status"] for row in found if row["operator"] != "batch_norm2d"}
    assert others == {"unsupported"}


def test_a_kernel_that_raises_or_gives_another_shape_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "raising.py").write_text(
        "import torch\n"
        "def relu(input, inplace=False):\n    raise ValueError('not today')\n"
        "def flatten(input, start_dim=0, end_dim=-1):\n    return input.flatten(0)\n"
    )
    found = judged(str(tmp_path / "raising.py"))
    messages = {row["operator"]: row["message"] for row in found if row["status"] == "fail"}
    assert messages == {
        "relu": "raised ValueError: not today",
        "flatten": "output has shape (256,), it must be (2, 128)",
    }


WRONG_BACKWARD = """
import torch

class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g / 2

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(Halved.apply(self.conv(x)).flatten(1))

def build():
    return Model()
"""


def test_a_backward_pass_of_ones_own_is_not_taken_for_that_of_the_traced_calls(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(WRONG_BACKWARD)
    found = judged(f"{tmp_path / 'model.py'}:build", net="", shape=(2, 1, 4, 4), regime="own")
    assert failures(found) == []
    [whole] = [row for row in found if row["law"] == "whole"]
    assert whole["status"] == "skip"
    assert whole["reason"].startswith("the gradient of conv.")
    assert whole["reason"].endswith("a trace does not see some of its code: the backward pass of Halved")


def test_gradients_of_several_uses_are_held_to_their_sum() -> None:
    module = faulty_networks.right().eval()
    example = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    graph = graph_of(module, example)
    run = run_trace(graph, [example])
    name = next(node.name for node in graph.network if node.name.endswith("layer1.0.relu:2"))
    gradient = run.records[name].grad_output
    assert gradient is not None
    gradient[0, 0, 0, 0] += 1
    found = list(Layerwise(run, graph.network, functional()).rows())
    assert ("layer1.0.relu:2", "gradient_sum") in failures(found)


def test_what_cannot_be_judged_is_said_and_never_passed(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.drop = torch.nn.Dropout(0.5)\n"
        "        self.idle = torch.nn.Linear(2, 2)\n"
        "    def forward(self, x):\n        return self.drop(torch.erfinv(torch.tanh(x)))\n"
        "def build():\n    return Model()\n"
    )
    found = judged(f"{tmp_path / 'model.py'}:build", net="", shape=(2, 3), variant="train", regime="own")
    told = {(row["node"], row["law"]): (row["status"], row["reason"]) for row in found}
    assert told["erfinv", "forward"] == ("skip", "the catalogue has no such operator")
    assert told["unused", "forward"] == ("skip", "no node uses the parameters idle.weight and idle.bias")
    assert told["drop", "forward"] == ("skip", "its values are drawn at random")
    assert told["tanh", "forward"][0] == "pass"


def test_a_network_that_refuses_its_input_in_one_variant_is_skipped_with_the_reason() -> None:
    found = judged("torch", shape=(1, 3, 32, 32), variant="train")
    assert [row["status"] for row in found] == ["skip"]
    assert "layer4.0.bn1" in found[0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("torch", "resnet19", ()), "unknown network 'resnet19': did you mean resnet18"),
        (("torch", "", ((1, 3, 8, 8),)), "torch builds no network: name one with --net"),
        (("torch", "resnet18(depth=3)", ()), "--net 'resnet18(depth=3)'"),
        ((f"{FILE}:nothing", "", ((1, 3, 8, 8),)), "has no 'nothing'"),
        ((f"{FILE}:right", "", ()), "--input is missing"),
    ],
)
def test_what_is_no_subject_is_one_sentence(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace(")", r"\)")):
        subjects(*arguments)


@pytest.mark.parametrize("words", ["fast", "eval+train", "autocast_float16+autocast_bfloat16"])
def test_variants_that_say_nothing_or_contradict_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match="variant"):
        Variant.parse(words)


def test_sparse_weights_have_about_eight_entries_for_each_output_and_statistics_are_not_idle() -> None:
    state = {
        "conv.weight": torch.zeros(64, 64, 3, 3),
        "bn.weight": torch.ones(64),
        "bn.bias": torch.zeros(64),
        "bn.running_mean": torch.zeros(64),
        "bn.running_var": torch.ones(64),
    }
    drawn = drawn_state(state, "sparse", torch.Generator().manual_seed(0))
    assert 64 * 4 < int((drawn["conv.weight"] != 0).sum()) < 64 * 16
    assert all(len(set(drawn[name].tolist())) == 64 for name in state if name.startswith("bn"))
    assert bool((drawn["bn.running_var"] > 0).all())
    assert drawn_state(state, "own", torch.Generator()) is state
