"""Weights for judging a network on: such that no node is idle, and that its bound is sharp.

Those of regime "sparse" have about eight entries for each output that are not zero, those of "dense" have no zeros.
"""

import math

import torch

from cnnspec.backends.torch_records import Tensors

ENTRIES = 8
"""Entries that are not zero for each output of sparse weights."""


def is_drawn(name: str) -> bool:
    """Say whether a value is drawn: a count of batches is not.

    >>> is_drawn("bn1.weight"), is_drawn("bn1.num_batches_tracked")
    (True, False)
    """
    return not name.endswith("num_batches_tracked")


def drawn_state(state: Tensors, regime: str, generator: torch.Generator) -> Tensors:
    """Return values drawn for parameters and buffers, by what they are called; in regime "own" those that they have."""
    if regime == "own":
        return state
    return {
        name: _draw(name.rpartition(".")[2], one, regime, generator).to(one) for name, one in state.items()
    }


def fill(module: torch.nn.Module, regime: str, generator: torch.Generator) -> None:
    """Give a module parameters and statistics of a regime, as far as their names say what they are."""
    statistics = {name: one for name, one in module.named_buffers() if ".running_" in f".{name}"}
    able = {**dict(module.named_parameters()), **statistics}
    with torch.no_grad():
        for name, value in drawn_state(able, regime, generator).items():
            able[name].copy_(value)


def _draw(word: str, like: torch.Tensor, regime: str, generator: torch.Generator) -> torch.Tensor:
    """Return weights of the size that keeps activations as they are, and statistics that are neither 0 nor 1."""
    normal = torch.randn(like.shape, generator=generator)
    uniform = torch.rand(like.shape, generator=generator)
    if word == "running_var" or (word == "weight" and like.dim() < 2):
        return 0.5 + 1.5 * uniform
    if word == "weight":
        terms = math.prod(like.shape[1:])
        entries = min(terms, ENTRIES) if regime == "sparse" else terms
        return normal * math.sqrt(2 / max(entries, 1)) * (uniform * terms < entries)
    if word in ("bias", "running_mean"):
        return normal / 2
    return like
