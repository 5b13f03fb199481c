"""Presets: what the table says of torch's kernels on a CPU, held to torch."""

import numpy as np
import pytest
import torch

from cnnspec import exact
from cnnspec.backends.torch_paths import onednn_off
from cnnspec.errors import UsageError
from cnnspec.models import MODELS
from cnnspec.presets import PRESETS, preset


def test_every_preset_has_a_source_and_only_kernels_of_the_cpu_are_measured() -> None:
    for (device, dtype, _), found in PRESETS.items():
        assert found.source
        assert found.measured is (device == "cpu")
        assert found.model.accumulate == ("float64" if dtype == "float64" else "float32")
        assert bool(found.partials) is bool(found.model.intermediates)


def test_partial_sums_are_counted_where_there_are_any() -> None:
    assert preset("cpu", "bfloat16", "Slow2d grad_weight", partials=16).model.stores == 17
    assert preset("cpu", "bfloat16", "Slow2d", partials=16).model is MODELS["direct float32"]


@pytest.mark.parametrize(
    ("key", "known"),
    [
        (("cpu", "float32", "Slow3d"), "Mkldnn, Slow2d, Mkldnn backward, Slow2d backward, NnpackSpatial"),
        (("mps", "float32", "Slow2d"), "none"),
    ],
)
def test_a_kernel_that_is_not_in_the_table_is_refused(key: tuple[str, str, str], known: str) -> None:
    with pytest.raises(
        UsageError, match=f"no preset for '{key[2]}' in float32 on '{key[0]}'; known are {known}"
    ):
        preset(*key)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_without_onednn_are_within_the_preset_and_not_within_a_direct_model(dtype: str) -> None:
    kind, low = getattr(torch, dtype), {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    torch.manual_seed(0)
    x, w = torch.randn(6, 4, 9, 9).to(kind), torch.randn(5, 4, 3, 3).to(kind)
    g = torch.randn(6, 5, 7, 7).to(kind)
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    with onednn_off():
        found = torch.autograd.grad(torch.nn.functional.conv2d(leaves[0], leaves[1]), leaves, g)
    g64, x64, w64 = (one.double().numpy() for one in (g, x, w))
    right = exact.conv2d.backward(g64, x64, w64, full=True)
    for name, one, gradient, partials in (
        ("grad_input", right.input, found[0], 9),
        ("grad_weight", right.weight, found[1], 6),
    ):
        error = np.abs(gradient.double().numpy() - one.value)
        wide = preset("cpu", dtype, f"Slow2d {name}", partials).model
        bounds = [
            which.relative(one.n_eff, 1.0) * one.bound_sum
            + one.n_eff * 2.0 ** which.underflow_exponent()
            + low * np.abs(one.value)  # the rounding of the output: half an ulp or more
            for which in (wide, MODELS["direct float32"])
        ]
        assert (error <= bounds[0]).all()
        assert (error > bounds[1]).mean() > 0.01
