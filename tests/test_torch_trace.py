"""What tracing a module of torch leaves as it was: everything."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from cnnspec.backends.torch_graph import from_torch
from tests.hand_counts import CASES
from tests.hand_counts_of_calls import CALLS
from tests.torch_models import Calls, Model

LAZY = (UninitializedBuffer, UninitializedParameter)
HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *(
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    ),
)


def state(module: nn.Module) -> dict[str, Any]:
    """Return all that a trace could change, as values that `==` compares."""
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [np.asarray(one).tolist() for one in np.random.get_state()],  # noqa: NPY002 - the global one
        "torch": torch.get_rng_state().tolist(),
        "modes of torch": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
        ),
    }
    for path, one in module.named_modules():
        found[f"{path}: attributes"] = {
            name: id(value) for name, value in vars(one).items() if name != "training"
        }
        found[f"{path}: class"], found[f"{path}: training"] = type(one), one.training
        for name in HOOKS:
            found[f"{path}: {name}"] = [(key, id(hook)) for key, hook in (getattr(one, name) or {}).items()]
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        lazy = isinstance(value, LAZY)
        grad = value.grad if value.is_leaf else None
        found[name] = (id(value), type(value), value.dtype, value.requires_grad, value._version)
        found[f"{name}: values"] = None if lazy else (value.tolist(), tuple(value.stride()))
        found[f"{name}: gradient"] = None if grad is None else (id(grad), grad.tolist())
    return found


def changed(module: nn.Module, work: Callable[[], Any]) -> list[str]:
    """Return what differs after some work from what was before."""
    before = state(module)
    work()
    after = state(module)
    return [name for name in before | after if before.get(name) != after.get(name)]


def prepared(model: Model) -> nn.Module:
    """Return a module in training that has hooks, and gradients of ones."""
    module = model.build().train()
    module.register_forward_hook(lambda *_: pytest.fail("a forward hook was called"))
    module.register_forward_pre_hook(lambda *_: pytest.fail("a forward pre-hook was called"))
    for one in module.parameters():
        if one.requires_grad and not isinstance(one, LAZY):
            one.grad = torch.ones_like(one)
    return module


@pytest.mark.parametrize("model", [*CASES, *CALLS], ids=lambda model: model.name)
@pytest.mark.filterwarnings("ignore")
def test_the_module_and_the_random_states_are_left_as_they_were(model: Model) -> None:
    module = prepared(model)
    inputs = model.inputs(module)
    assert changed(module, lambda: from_torch(module, inputs)) == []
    assert all(not one.any() and one.grad is None for one in inputs)


def drawn() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())


@pytest.mark.parametrize(
    ("work", "noticed"),
    [
        (lambda m: m.eval(), {": training", "0: training", "1: training", "2: training"}),
        (lambda m: m[0].register_forward_hook(print), {"0: _forward_hooks"}),
        (
            lambda m: m[1](torch.ones(2, 4, 1, 1)),
            {"1.running_mean: values", "1.running_var: values"},
        ),
        (lambda m: m[2](torch.ones(3)), {"torch"}),
        (lambda m: random.random(), {"python"}),
        (lambda m: np.random.rand(), {"numpy"}),  # noqa: NPY002 - the global one
        (lambda m: m.requires_grad_(False), {"0.weight", "0.bias", "1.weight", "1.bias"}),
        (lambda m: m[0].weight.sum().backward(), {"0.weight: gradient"}),
        (lambda m: m.double(), {"0.weight", "0.bias", "1.weight", "1.bias"}),
        (lambda m: setattr(m[0], "total_ops", 3), {"0: attributes"}),
        (lambda m: m[1].register_buffer("total_ops", torch.zeros(1)), {"1.total_ops"}),
        (lambda m: torch.set_grad_enabled(False), {"modes of torch"}),
    ],
)
def test_what_counters_leave_behind_would_be_noticed(work: Callable[[Any], Any], noticed: set[str]) -> None:
    module = drawn()
    enabled = torch.is_grad_enabled()
    try:
        assert noticed <= set(changed(module, lambda: work(module)))
    finally:
        torch.set_grad_enabled(enabled)
    assert changed(module, lambda: None) == []


def test_a_run_on_values_leaves_the_module_as_it_was() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        x += 1
        return self.d(self.n(x)) if x.sum().item() > 0 else x

    module, example = Calls(forward, n=nn.BatchNorm1d(3), d=nn.Dropout()), torch.zeros(2, 3)
    found: list[str] = []
    assert changed(module, lambda: found.extend(node.name for node in from_torch(module, example))) == []
    assert found[-2:] == ["batch_norm", "dropout"]
    assert torch.equal(example, torch.zeros(2, 3))


def test_the_mode_of_each_layer_is_that_of_the_module() -> None:
    module = drawn()
    module[2].eval()
    network = from_torch(module, torch.ones(2, 3, 5, 5))
    assert [getattr(node.operator, "training", None) for node in network] == [None, True, False]
