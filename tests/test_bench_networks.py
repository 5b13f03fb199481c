"""Whole networks: what is right has images per second, memory and shares; what is wrong or cut says why."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cnnspec import nets, to_torch
from cnnspec.bench import modules, networks, profiles
from cnnspec.bench.desk import Desk
from cnnspec.bench.modules import Whole
from cnnspec.bench.plan import Plan
from cnnspec.bench.sides import FORWARD_ONLY, WITH_BACKWARD
from cnnspec.blocks import Seq
from cnnspec.graph import Network
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU
from cnnspec.spelling import spec_name
from tests.timed_kernels import KERNELS, Refusing

BUILDERS = """
import torch

from cnnspec import nets, to_torch


def right():
    return to_torch(nets.lenet5())


class Shifted(torch.nn.Sigmoid):
    def forward(self, input):
        return super().forward(input) + 2**-12


def wrong():
    module = to_torch(nets.lenet5())
    module.steps[4][1].__class__ = Shifted
    return module
"""


@dataclass
class Batches:
    """A timer for which a call takes what its batch is said to."""

    cost: dict[int, float]
    mode: str = "cpu"
    asked: list[int] = field(default_factory=list)

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of one call, which is not made."""
        batch = next(len(one) for one in reversed(call.args) if isinstance(one, torch.Tensor))
        if batch not in self.asked:
            self.asked.append(batch)
        return self.cost[batch]


@pytest.fixture
def builders(tmp_path: Path) -> str:
    file = tmp_path / f"builders_of_{tmp_path.name}.py"
    file.write_text(BUILDERS)
    return str(file)


def plan(**words: Any) -> Plan:
    return Plan(**{"target": "torch", "networks": ("lenet5",), "parts": ("networks",), **words})


def run(
    one: Plan, timer: Any = None, seconds: float = 1e6, roofs: Sequence[Any] = (), **words: Any
) -> dict[str, list[Any]]:
    """Return what the part yields, by kind."""
    desk = Desk(one, [timer or Batches({1: 1.0, 2: 2.0, 4: 4.0})], **words)
    desk.roofs.extend(roofs)
    found: dict[str, list[Any]] = {"network": [], "share": [], "cut": []}
    for entry in networks.entries(desk, seconds):
        found[entry["kind"]].append(entry)
    return found


# Images per second


def test_images_per_second_are_of_the_batch_and_the_best_is_marked() -> None:
    timer = Batches({1: 0.5, 2: 0.5, 4: 0.8, 8: 1.6, 16: 3.2, 32: 6.4})
    found = run(plan(), timer)["network"]
    assert timer.asked == [1, 2, 4, 8, 16]
    assert [(one["batch"], one["images_per_s"], one["best"]) for one in found] == [
        (1, 2.0, False),
        (2, 4.0, False),
        (4, 5.0, True),
        (8, 5.0, False),
        (16, 5.0, False),
    ]
    assert [one["note"] for one in found] == [
        "",
        "",
        "",
        "",
        "larger batches do not have more images per second",
    ]


def test_one_batch_that_is_slow_does_not_end_the_search() -> None:
    timer = Batches({1: 1.0, 2: 4.0, 4: 1.0, 8: 2.0, 16: 8.0})
    found = run(plan(), timer)["network"]
    assert [one["images_per_s"] for one in found] == [1.0, 0.5, 4.0, 4.0, 2.0]
    assert [one["batch"] for one in found if one["best"]] == [4]


def test_an_entry_says_what_was_measured_and_what_was_judged() -> None:
    ceiling = {"dtype": "float32", "limit": "compute", "gflops_per_s": 1e-3, "cache_bytes": 0}
    one = run(plan(), roofs=[ceiling])["network"][0]
    wanted: dict[str, Any] = {
        "net": "lenet5",
        "input": [1, 1, 28, 28],
        "dtype": "float32",
        "variant": "plain",
        "direction": FORWARD_ONLY,
        "parameters": 61_706,  # LeCun et al. 1998, with every map of S2 in C3
        "flops": 2 * (6 * 28 * 28 * 25 + 16 * 10 * 10 * 150 + 400 * 120 + 120 * 84 + 84 * 10),
        "mode": "cpu",
        "t_median_s": 1.0,
        "conformance": "pass",
        "checked": "12 nodes within their bounds at 1x1x28x28",
    }
    assert {name: one[name] for name in wanted} == wanted
    assert one["efficiency"] == wanted["flops"] / 1e9 / 1e-3
    assert run(plan())["network"][0]["efficiency"] is None


def test_training_counts_the_products_of_gradients() -> None:
    found = run(plan(directions=(WITH_BACKWARD,)))
    forward = [6 * 28 * 28 * 25, 16 * 10 * 10 * 150, 400 * 120, 120 * 84, 84 * 10]
    assert {one["flops"] for one in found["network"]} == {2 * (3 * sum(forward) - forward[0])}
    assert {one["checked"] for one in found["network"]} == {"12 nodes within their bounds at 2x1x28x28"}
    assert {one["operator"]: one["calls"] for one in found["share"]}["conv2d"] == 2


def test_what_is_drawn_at_random_is_not_said_to_be_judged() -> None:
    found = Whole("torch", "alexnet", direction=WITH_BACKWARD).checked(lambda: False)
    words = "20 nodes within their bounds at 2x3x64x64 of width 8, not 64; 2 not judged"
    assert (found.status, found.words) == ("pass", f"{words}, such as what is drawn at random")


def test_variants_are_judged_and_measured_as_they_say() -> None:
    words = ("channels_last+bfloat16", "onednn_off")
    found = run(plan(variants=words))["network"]
    assert {(one["variant"], one["dtype"], one["conformance"]) for one in found} == {
        ("channels_last+bfloat16", "bfloat16", "pass"),
        ("onednn_off", "float32", "pass"),
    }
    whole = Whole("torch", "lenet5", variant=words[0])
    call: Any = whole.call(whole.module(), 2)
    assert call.args[1].is_contiguous(memory_format=torch.channels_last)
    assert call().dtype == torch.bfloat16


def test_weights_and_images_are_never_zeros() -> None:
    whole = Whole("torch", "lenet5")
    module = whole.module()
    call: Any = whole.call(module, 2)
    assert all(one.count_nonzero() == one.numel() for one in (*module.parameters(), *call.args[1:]))


# What is wrong


def test_a_wrong_network_has_no_number(builders: str) -> None:
    found = run(plan(target=f"{builders}:wrong"), Refusing())
    (one,) = found["network"]
    assert (one["conformance"], one["images_per_s"], one["peak_memory_bytes"]) == ("fail", None, None)
    assert one["note"].startswith("not ranked: fails forward at sigmoid2: ")
    assert not {"t_median_s", "samples"} & one.keys()
    assert not found["share"]


def test_a_network_that_a_function_builds_is_measured(builders: str) -> None:
    found = run(plan(target=f"{builders}:right"))["network"]
    assert {(one["conformance"], one["images_per_s"]) for one in found} == {("pass", 1.0)}


def test_a_network_of_torch_that_is_wrong_has_no_number(
    builders: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Whole("torch", "lenet5", seed=1)
    run(plan(target=f"{builders}:right"))
    shifted = sys.modules[Path(builders).stem].Shifted

    def altered(network: Network) -> Any:
        module = to_torch(network)
        module.steps[1][1].__class__ = shifted
        return module

    monkeypatch.setattr(modules, "to_torch", altered)
    found = whole.checked(lambda: False)
    assert (found.status, found.reason.partition(":")[0]) == ("fail", "not ranked")
    assert "fails forward at sigmoid1: " in found.reason


def test_what_builds_no_module_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "kernels_of_networks.py"
    file.write_text(
        KERNELS.replace("def same", "def sigmoid(input):\n    return torch.sigmoid(input)\n\n\ndef same")
    )
    for target in (str(file), f"{file}:same"):
        (cut,) = run(plan(target=target, only=("sigmoid",)), Refusing())["cut"]
        assert cut["layer"] == "lenet5, plain, forward"
        assert cut["reason"].startswith(f"{target} builds no module of torch, which whole networks are")
    (cut,) = run(plan(networks=("lenet6",)), Refusing())["cut"]
    assert cut["reason"].startswith("unknown network 'lenet6': did you mean lenet5")


# What is cut


def test_what_the_time_does_not_allow_is_told_the_largest_first() -> None:
    found = run(plan(networks=("resnet18", "lenet5")), Refusing(), seconds=0)
    assert [(cut["net"], cut["reason"]) for cut in found["cut"]] == [
        ("lenet5", "the budget was spent"),
        ("resnet18", "the budget was spent"),
    ]
    seconds = iter(range(10**6))
    found = run(plan(), Refusing(), seconds=5, now=lambda: float(next(seconds)))
    assert [cut["reason"] for cut in found["cut"]] == ["its nodes could not be judged in the time"]
    assert not found["network"]


def test_larger_batches_that_time_or_memory_do_not_allow_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert networks._end(0, True, 8, 0, 1e9) == "the budget was spent before batch 8"
    monkeypatch.setattr(networks, "free_bytes", lambda device: 1.5e6)
    found = run(plan(), Batches({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}))["network"]
    assert [one["batch"] for one in found] == [1, 2]
    assert (
        found[-1]["note"] == "batch 4 may take 0.782 MB, more than half of the 1.5 MB that are free"
    )  # twice what the last took


def test_a_batch_that_the_memory_does_not_hold_ends_the_search() -> None:
    class Full(Batches):
        def sample(self, call: Any, count: int) -> float:
            if call.args[-1].shape[0] == 4:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().sample(call, count)

    found = run(plan(), Full({1: 1.0, 2: 1.0}))["network"]
    assert [(one["batch"], one["note"]) for one in found] == [
        (1, ""),
        (2, "batch 4 does not fit the memory"),
    ]


def test_smoke_times_nothing() -> None:
    found = run(plan(smoke=True, directions=(FORWARD_ONLY, WITH_BACKWARD)), Refusing())
    assert [(one["mode"], one["images_per_s"]) for one in found["network"]] == [("smoke", None)] * 2
    assert not found["share"]
    assert not found["cut"]


def test_what_is_compiled_has_no_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    found = run(plan(variants=("compile",)))
    assert {one["conformance"] for one in found["network"]} == {"pass"}
    assert [cut["layer"] for cut in found["cut"]] == ["shares of lenet5, compile, forward"]
    assert not found["share"]


def test_large_networks_are_judged_in_a_smaller_form_that_is_told() -> None:
    assert Whole("torch", "resnet18").small == {"input_size": 64, "width": 32}
    assert Whole("torch", "vgg16").small == {"input_size": 64, "width": 8, "hidden": 512}
    assert Whole("torch", "vgg16").enlargement == float("inf")  # 25088 * 4096 weights
    assert Whole("torch", "lenet5").small == {}
    nin = Whole("torch", "nin")
    assert nin.small == {"input_size": 96}  # of 64 nothing is left for the last pool


def test_a_network_is_judged_as_it_is_where_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "QUICK", 50_000)
    small = "12 nodes within their bounds at 1x1x28x28 of width 3, not 6"
    whole = "12 nodes within their bounds at 1x1x28x28"
    for seconds, words in ((1e6, whole), (1e-3, small)):
        desk, one = Desk(plan()), Whole("torch", "lenet5")
        assert networks._conformance(desk, one, seconds, 1e6).words == words


# Where the time and the memory go


def test_shares_are_of_the_operators_and_sum_to_1() -> None:
    found = run(plan())["share"]
    assert {one["dtype"] for one in found} == {"float32"}
    calls = {one["operator"]: one["calls"] for one in found}
    assert calls == {"conv2d": 2, "linear": 3, "sigmoid": 4, "avg_pool2d": 2, "flatten": 1, "other": 0}
    assert found[-1]["operator"] == "other"
    total = math.fsum(one["seconds"] for one in found)
    assert [one["part"] for one in found] == [one["seconds"] / total for one in found]
    whole = math.fsum(one["part"] for one in found)
    assert abs(whole - 1) * 2**53 < 3  # the total is rounded once, and each part once
    conv = next(one for one in found if one["operator"] == "conv2d")
    assert conv["flops"] == 2 * (6 * 28 * 28 * 25 + 16 * 10 * 10 * 150)


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "nin"])
def test_no_operator_of_a_network_is_called_other(name: str) -> None:
    network = nets.build(name, width=4, input_size=224 if name == "nin" else 64)
    module = to_torch(network.train(False))
    call = partial(modules._evaluated, module, torch.randn(network.input_shapes[0]))
    found = profiles.profiled(call, []).shares(network)
    counted = dict.fromkeys(profiles.kinds(network).values(), 0)
    for node in network:
        counted[spec_name(node.operator) or ""] += 1
    assert {name: share.calls for name, share in found.items()} == {**counted, "other": 0}


def event(name: str, number: int, start: int, microseconds: float) -> Any:
    return SimpleNamespace(
        name=name,
        sequence_nr=number,
        time_range=SimpleNamespace(start=start),
        cpu_time_total=microseconds,
    )


def test_gradients_belong_to_the_call_that_recorded_them() -> None:
    """A linear layer makes two nodes, 5 and 6; what runs before a node is made has its number too."""
    engine = profiles.BACKWARD
    top = [
        event("aten::empty", 5, 0, 1e6),
        event("aten::linear", 5, 1, 8e6),
        event("aten::relu_", 7, 2, 4e6),
        event("aten::sum", 8, 3, 2e6),
        event(f"{engine}SumBackward0", 8, 4, 1e6),
        event(f"{engine}ReluBackward0", 7, 5, 4e6),
        event(f"{engine}AddmmBackward0", 6, 6, 16e6),
        event(f"{engine}TBackward0", 5, 7, 8e6),
        event(f"{engine}torch::autograd::AccumulateGrad", -1, 8, 1e6),
    ]
    found = profiles.shares(top, 64e6, {"linear": "linear", "relu": "relu"})
    assert {name: (one.seconds, one.calls) for name, one in found.items()} == {
        "linear": (32.0, 1),
        "relu": (8.0, 1),
        "other": (24.0, 0),
    }


def test_a_kernel_counts_once_in_the_call_that_launched_it() -> None:
    """On CUDA a profile lists a kernel beside the call that launched it, and the pass on both clocks."""

    def one(name: str, parent: Any = None, device: str = "CPU") -> Any:
        return SimpleNamespace(name=name, cpu_parent=parent, device_type=SimpleNamespace(name=device))

    whole = one(profiles.WHOLE)
    call = one("aten::conv2d", whole)
    inner, backward = one("aten::cudnn_convolution", call), one(f"{profiles.BACKWARD}ConvolutionBackward0")
    on_device = [one(name, device="CUDA") for name in (profiles.WHOLE, "implicit_convolve_sgemm")]
    assert profiles.outermost([whole, call, inner, backward, *on_device]) == [call, backward]


def test_memory_that_torch_keeps_of_earlier_calls_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, found in (("mem_get_info", (50, 80)), ("memory_reserved", 25), ("memory_allocated", 5)):
        monkeypatch.setattr(torch.cuda, name, partial(lambda one: one, found))
    assert networks.free_bytes("cuda") == 70


def test_the_peak_holds_what_a_network_must_hold() -> None:
    network = Network(Seq(Linear(100, 400, bias=False), ReLU(), Linear(400, 10, bias=False)))
    module = to_torch(network)
    x = torch.randn(50, 100)
    found = profiles.profiled(partial(modules._evaluated, module, x), [*module.parameters(), x])
    parameters, hidden = 100 * 400 + 400 * 10, 50 * 400
    assert found.peak_bytes == 4 * (parameters + x.numel() + 2 * hidden)  # the input and output of ReLU
    trained = partial(modules._trained, module, [*module.parameters()], [torch.ones(50, 10)], x)
    least = 2 * parameters + x.numel() + hidden
    assert profiles.profiled(trained, [*module.parameters(), x]).peak_bytes >= 4 * least


def test_memory_of_a_tensor_that_is_given_twice_counts_once() -> None:
    x = torch.randn(10, 10)
    assert profiles.profiled(lambda: None, [x, x, x.T]).peak_bytes == 400


def test_a_network_holds_no_value_longer_than_it_is_taken() -> None:
    network = nets.build("resnet18", width=4, input_size=64)
    last = {name: node for node, names in to_torch(network).spent.items() for name in names}
    assert (last["input"], last["maxpool"], last["layer1.0.relu1"]) == (
        "conv1",
        "layer1.0.add",
        "layer1.0.conv2",
    )
    assert {*last} == {"input", *network.nodes} - {*network.outputs}
