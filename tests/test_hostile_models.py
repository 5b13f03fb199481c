"""Models of torch that are right and hard to follow: no node of them fails, and what is not judged is said."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cnnspec.backends.torch import functional as torch_functional
from cnnspec.errors import ArgumentError
from cnnspec.judge import Row
from cnnspec.nested import Shape
from cnnspec.networks import Pass, Subject, Variant

IMAGE = (2, 3, 6, 6)
pytestmark = pytest.mark.usefixtures("one_thread")


class Model(nn.Module):
    """Calls a function of itself and its inputs."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self, *inputs)


def conv(before: int = 3, channels: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, channels, 3, padding=1)


def judged(
    build: Callable[[], nn.Module], shape: Shape = IMAGE, variant: str = "eval", regime: str = "own"
) -> dict[tuple[str, str], Row]:
    subject = Subject("file.py:build", "build", torch_functional(), None, build, (shape,))
    rows = Pass(subject, Variant.parse(variant), regime).rows()
    return {(row["node"], row["law"]): row for row in rows}


def statuses(found: dict[tuple[str, str], Row]) -> dict[tuple[str, str], str]:
    return {key: row["status"] for key, row in found.items()}


def failures(found: dict[tuple[str, str], Row]) -> list[tuple[str, str, str]]:
    return [(*key, row["message"]) for key, row in found.items() if row["status"] == "fail"]


class Rounded(Function):
    @staticmethod
    def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(_: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0]


def twice_in_one_call(self: Any, x: torch.Tensor) -> Any:
    y = self.conv(x)
    return self.last(torch.cat([y + y, y, y, x], 1))


def written_through_slices(self: Any, x: torch.Tensor) -> Any:
    y = self.conv(x)
    y[:, :2] += 1
    y.unsqueeze(0).relu_()
    return self.last(y)


def without_gradients(self: Any, x: torch.Tensor) -> Any:
    with torch.no_grad():
        y = self.conv(x)
    return self.last(y) + y


def partly_in_16_bits(self: Any, x: torch.Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        y = functional.relu(self.conv(self.conv(x)))
    return self.last(y.float())


def unpooled(self: Any, x: torch.Tensor) -> Any:
    y, places = functional.max_pool2d(self.conv(x), 2, return_indices=True)
    return functional.max_unpool2d(y, places, (2, 2))


def several_outputs(self: Any, x: torch.Tensor) -> Any:
    y = self.conv(x)
    return {"second": y, "first": (y, functional.relu(y), self.last(y)), "none": None}


def by_value(self: Any, x: torch.Tensor) -> Any:
    y = self.norm(self.conv(x))
    return self.last(y) if y.sum() < 1e9 else y


def with_a_gradient(self: Any, x: torch.Tensor) -> Any:
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        [gradient] = torch.autograd.grad(self.conv(z).sum(), z, create_graph=True)
    return self.conv(x) + gradient


def of_two_precisions(self: Any, x: torch.Tensor) -> Any:
    return self.conv(x).half() + self.last(x)


def checkpointed(self: Any, x: torch.Tensor) -> Any:
    return self.last(checkpoint(self.conv, x, use_reentrant=True))


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(conv()), nn.ReLU(), conv())


def averaged() -> nn.Module:
    """The momentum of a shared normalization is that of a mean over all batches, which torch reads from a buffer."""
    norm = nn.BatchNorm2d(3, momentum=None)
    return nn.Sequential(conv(), norm, conv(), norm)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))


def hooked() -> nn.Module:
    model = nn.Sequential(conv(), nn.ReLU())
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def with_a_gradient_before() -> nn.Module:
    model = conv()
    model(torch.ones(IMAGE)).sum().backward()
    return model


FUNCTIONS = [
    twice_in_one_call,
    written_through_slices,
    without_gradients,
    partly_in_16_bits,
    unpooled,
    several_outputs,
    by_value,
    with_a_gradient,
    of_two_precisions,
    checkpointed,
]
PARTS: dict[Callable[..., Any], dict[str, Callable[[], Any]]] = {
    twice_in_one_call: {"last": lambda: conv(12)},
    by_value: {"norm": lambda: nn.BatchNorm2d(3)},
}


def built(function: Callable[..., Any]) -> Callable[[], nn.Module]:
    parts = {"conv": conv, "last": conv} | PARTS.get(function, {})
    return lambda: Model(function, **{name: make() for name, make in parts.items()})


@pytest.mark.parametrize("variant", ["eval", "train", "train+channels_last"])
@pytest.mark.parametrize(
    "build",
    [
        *map(built, FUNCTIONS),
        spectral,
        averaged,
        lazy,
        hooked,
        with_a_gradient_before,
        lambda: nn.Sequential(nn.ReLU(inplace=True), conv()),
        lambda: Model(lambda self, x: self.conv(x.add_(1)), conv=conv()),
        lambda: Model(lambda self, x: (x, self.conv.weight), conv=conv()),
        lambda: Model(lambda self, x: self.conv(x)[x > 0], conv=conv()),
        lambda: Model(lambda self, x: torch.vmap(functional.relu)(self.conv(x)), conv=conv()),
    ],
    ids=[
        *(one.__name__ for one in FUNCTIONS),
        *("spectral", "averaged", "lazy", "hooked", "gradient_before", "first_in_place"),
        *("input_written", "input_returned", "masked", "mapped"),
    ],
)
def test_a_right_model_has_no_failure(build: Callable[[], nn.Module], variant: str) -> None:
    found = judged(build, variant=variant)
    assert not failures(found)
    assert found["", "whole"]["status"] == "pass"


def test_each_use_in_one_call_has_its_gradient() -> None:
    found = statuses(judged(built(twice_in_one_call)))
    assert found["add", "backward"] == found["cat", "backward"] == "pass"
    assert found["conv", "gradient_sum"] == "pass"


@pytest.mark.parametrize("function", [without_gradients, partly_in_16_bits, checkpointed])
def test_what_torch_keeps_apart_is_judged(function: Callable[..., Any]) -> None:
    found = statuses(judged(built(function)))
    assert found["conv", "forward"] == found["last", "backward"] == "pass"
    assert found.get(("conv", "backward")) == (None if function is without_gradients else "pass")


def test_the_sum_of_gradients_of_an_output_is_not_judged() -> None:
    row = judged(built(several_outputs))["conv", "gradient_sum"]
    assert (row["status"], row["reason"]) == (
        "skip",
        "it is an output too, whose gradient comes from outside",
    )


def test_a_layer_used_twice_under_autocast_holds() -> None:
    def build() -> nn.Module:
        layer = conv()
        return nn.Sequential(layer, nn.ReLU(), layer, layer)

    found = judged(build, variant="autocast_bfloat16")
    assert not failures(found)
    assert found["", "whole"]["status"] == "pass"


def test_a_backward_pass_of_ones_own_is_named_and_not_judged() -> None:
    rounded: Any = Rounded.apply
    found = judged(lambda: Model(lambda self, x: rounded(self.conv(x)), conv=conv()))
    assert not failures(found)
    assert found["", "whole"]["status"] == "skip"
    assert found["", "whole"]["reason"].endswith("the backward pass of Rounded")


def test_a_gradient_changed_by_a_hook_is_found() -> None:
    def doubled(self: Any, x: torch.Tensor) -> Any:
        y = self.conv(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient * 2)
        return functional.relu(y)

    found = judged(lambda: Model(doubled, conv=conv()))
    assert [key[:2] for key in failures(found)] == [("", "whole")]


def test_a_model_that_refuses_gradients_is_one_failure_with_what_it_said() -> None:
    def halves_written(self: Any, x: torch.Tensor) -> Any:
        first, second = self.conv(x).split([1, 2], 1)
        return first.relu_() + second

    [(node, law, message)] = failures(judged(lambda: Model(halves_written, conv=conv())))
    assert (node, law) == ("", "forward")
    assert message.startswith("the module's own run raised RuntimeError: Output 0 of Split")


def test_a_backward_pass_that_raises_says_so() -> None:
    def overwritten(self: Any, x: torch.Tensor) -> Any:
        y = functional.relu(self.conv(x))
        y.view(-1).add_(1)
        return y

    found = judged(lambda: Model(overwritten, conv=conv()))
    assert found["", "whole"]["message"].startswith(
        "the module's own run raised RuntimeError: one of the var"
    )


def test_one_value_in_each_channel_is_skipped_in_training_alone() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    assert set(statuses(judged(build, (1, 4))).values()) == {"pass"}
    [row] = judged(build, (1, 4), "train").values()
    assert row["status"] == "skip"
    assert "Expected more than 1 value per channel when training" in row["reason"]
    with pytest.raises(ArgumentError, match="cannot be traced"):
        judged(build, (1, 5), "train")


def test_a_seed_gives_the_same_weights_and_draws() -> None:
    def drawn(self: Any, x: torch.Tensor) -> Any:
        import random

        return self.conv(x) * random.random() + torch.randn(1)

    first, second = (judged(lambda: Model(drawn, conv=conv())) for _ in range(2))
    assert not failures(first)
    ratios = [[row["ratio"] for row in one.values()] for one in (first, second)]
    assert ratios[0] == ratios[1]


def test_buffers_that_are_no_memory_of_their_own_keep_their_values() -> None:
    def build() -> nn.Module:
        places = torch.arange(3.0)[:, None, None].expand(3, 6, 6)
        return Model(lambda self, x: self.conv(x) + self.weight, conv=conv(), weight=places)

    assert not failures(judged(build, regime="sparse"))


def test_layers_of_other_axes_stay_as_they_are_in_channels_last() -> None:
    found = judged(lambda: nn.Conv3d(2, 3, 3), (1, 2, 3, 4, 5), "channels_last")
    assert set(statuses(found).values()) == {"pass"}


@dataclass
class Found:
    first: torch.Tensor
    second: torch.Tensor


def test_outputs_that_are_not_found_are_said_to_be_not_judged() -> None:
    def build() -> nn.Module:
        return Model(lambda self, x: Found(self.conv(x), x), conv=conv())

    found = judged(build)
    assert not failures(found)
    assert found["", "whole"]["reason"].startswith("no tensor is returned")


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_normalization_in_training_has_its_new_statistics() -> None:
    found = judged(lambda: nn.Sequential(conv(), nn.BatchNorm2d(3)), variant="train+compile")
    assert [(*key, row["reason"]) for key, row in found.items() if row["status"] != "pass"] == []
    assert ("1", "updates") in found
