"""Fingerprints of kernels that sum in known ways name the way; transforms and wrong kernels are told from rounding."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cnnspec
from cnnspec import exact
from cnnspec.backends import Backend
from cnnspec.bounds import FORMATS
from cnnspec.cases import Case
from cnnspec.cli import main
from cnnspec.errors import UsageError
from cnnspec.fingerprints import (
    REGIMES,
    TRANSFORM,
    Fingerprint,
    candidates,
    consistent,
    facts,
    summary,
    would_show,
)
from cnnspec.identify import fingerprints_of
from cnnspec.judge import Trial
from cnnspec.models import MODELS
from tests.kernels.arithmetic import (
    KERNELS,
    Kernel,
    Values,
    as_bfloat16,
    as_tf32,
    bfloat16,
    in_order,
    in_parts,
)
from tests.kernels.winograd import winograd
from tests.kernels.wrong_kernels import conv2d_flipped_kernel

F = torch.nn.functional
Rows = list[dict[str, Any]]


def linear_by(kernel: Kernel) -> Backend:
    """A linear layer that sums each output as `kernel` does, the bias a term of its own."""

    def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        x, w = (one.detach().double().numpy() for one in (input, weight))
        x = x.reshape(-1, x.shape[-1])
        if bias is not None:
            x, w = (
                np.column_stack(pair) for pair in ((x, np.ones(len(x))), (w, bias.detach().double().numpy()))
            )
        with np.errstate(all="ignore"):
            found = [kernel(row, column) for row in x for column in w]
        return torch.tensor(found, dtype=torch.float64).reshape(*input.shape[:-1], len(w)).to(input.dtype)

    return Backend("mine", {"linear": linear})


@pytest.mark.parametrize(
    ("kernel", "dtype", "names"),
    [
        ("direct float64", "float64", ["direct float64"]),
        ("direct float64", "float32", ["direct float64"]),
        ("direct float32", "float64", ["direct float32"]),
        ("direct float32", "float32", ["direct float32"]),
        ("float32 truncation", "float32", ["float32 truncation"]),
        ("tf32 inputs", "float32", ["tf32 inputs"]),
        ("tf32 tensor cores", "float32", ["tf32 tensor cores"]),
        ("float16 intermediates", "float32", ["float16 intermediates"]),
        ("float16 accumulation", "float32", ["float16 intermediates", "float16 accumulation"]),
        ("bfloat16 inputs", "float32", ["bfloat16 inputs"]),
        ("bfloat16 throughout", "float32", ["bfloat16 accumulation", "bfloat16 throughout"]),
        ("direct float32", "float16", ["direct float32"]),
        ("direct float32", "bfloat16", ["direct float32"]),
        ("float16 accumulation", "float16", ["float16 intermediates", "float16 accumulation"]),
        ("bfloat16 accumulation", "bfloat16", ["bfloat16 intermediates", "bfloat16 accumulation"]),
    ],
)
def test_a_way_to_sum_is_named(kernel: str, dtype: str, names: list[str]) -> None:
    """Models with nearly the same bounds are not told apart: sums stored or accumulated in 16 bits."""
    found = cnnspec.fingerprint(linear_by(KERNELS[kernel]), "linear", dtype, examples=120)

    assert found.looks_like in names, str(found)
    assert found.cases > 60
    assert not found.leaking
    assert names[0] in (name.name for name in candidates(dtype))


def test_what_a_healthy_kernel_is_not_would_have_shown() -> None:
    found = cnnspec.fingerprint(F.conv2d, examples=60)

    assert found.looks_like == "direct float32"
    assert found.apart["tf32 inputs"] > found.cases / 2
    assert found.telling >= found.refuted["direct float64"] > 10
    assert f"tf32 inputs would show in {found.apart['tf32 inputs']}" in str(found)


@pytest.mark.parametrize(
    ("kernel", "dtype"), [(in_parts(2, np.float16), "float16"), (in_parts(2, bfloat16), "bfloat16")]
)
def test_two_partial_sums_in_sixteen_bits_show(kernel: Kernel, dtype: str) -> None:
    healthy, parted = (
        cnnspec.fingerprint(linear_by(one), "linear", dtype, examples=60) for one in (in_order, kernel)
    )

    assert parted.looks_like == f"{dtype} intermediates"
    assert parted.refuted["direct float32"] > 5
    assert healthy.apart[f"{dtype} intermediates"] > 5


def over_small_convolutions(conv2d: Callable[[Values, Values, int], Values]) -> Fingerprint:
    """Return the fingerprint of a function of images, 3x3 kernels and padding, over 72 cases."""
    found: Rows = []
    for seed, (channels, size, padding, regime) in enumerate(
        itertools.product((1, 3), (4, 5, 9, 12), (0, 1, 2), REGIMES)
    ):
        arguments = {
            "in_channels": channels,
            "out_channels": 3,
            "kernel_size": 3,
            "padding": padding,
            "bias": False,
        }
        case = Case("conv2d", arguments, ((2, channels, size, size + 1),), "float32", regime, seed)
        trial = Trial(case)
        x, w = (trial.operands[name].astype(np.float32) for name in ("input", "weight"))
        values = conv2d(x, w, padding).astype(np.float64).ravel().tolist()
        told = facts(trial.exact, values, case, trial.operands)
        found.append({"backend": "mine", "operator": "conv2d", "dtype": "float32", **told})
    return summary(found)[0]


def by_torch(x: Values, w: Values, padding: int) -> Values:
    return F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=padding).numpy()


def by_winograd(m: int) -> Callable[[Values, Values, int], Values]:
    def conv2d(x: Values, w: Values, padding: int) -> Values:
        return winograd(np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)]), w, m)

    return conv2d


def test_winograd_is_told_from_rounding() -> None:
    healthy, *transforms = map(over_small_convolutions, (by_torch, by_winograd(2), by_winograd(4)))

    assert healthy.looks_like == "direct float32"
    for found in transforms:
        assert found.looks_like == TRANSFORM, str(found)
        assert 10 < found.leaking < found.cases == healthy.cases
        assert "errors that are small beside the largest sum" in str(found)


def test_a_wrong_kernel_is_no_model_and_no_transform() -> None:
    found = cnnspec.fingerprint(conv2d_flipped_kernel, "conv2d", examples=60)

    assert found.looks_like == ""
    assert found.broken > 5
    assert str(found).startswith(
        "conv2d float32: consistent with no model: what it computes is something else ("
    )


def test_kernels_of_one_target_are_told_apart() -> None:
    found = fingerprints_of("torch-native", "conv2d", examples=60)

    assert [one.path for one in found] == [*dict.fromkeys(one.path for one in found)]
    assert {"Slow2d", "SlowDilated2d"} <= {one.path for one in found}
    assert {one.looks_like for one in found if one.path.startswith("Slow")} <= {
        "direct float32",
        "direct float64",
    }


LINE = "conv2d(in_channels=1, out_channels=1, kernel_size=3, bias=False, input=(1, 1, 4, 4), dtype='float32')"


def impulse() -> tuple[exact.Exact, Case, dict[str, Any]]:
    """One pixel that outputs (0, 0) and (0, 1) alone see: outputs 9, 8, 0, 0 thirds."""
    x, w = np.zeros((1, 1, 4, 4)), np.arange(1.0, 10).reshape(1, 1, 3, 3)
    x[0, 0, 0, 1] = float(np.float32(1 / 3))
    case = Case.parse(LINE.replace("dtype", "regime='impulse', dtype"))
    operands = {"input": x, "weight": w}
    return exact.evaluate(case.spec, case.operation, operands), case, operands


def test_an_output_without_a_product_must_be_zero() -> None:
    right, case, operands = impulse()
    third = operands["input"][0, 0, 0, 1]
    values = [float(np.float32(2 * third)), third, 0.0, 0.0]

    assert consistent(right, values, "float32")[0] == "direct float64"
    assert TRANSFORM not in consistent(right, values, "float32")
    assert consistent(right, [*values[:2], 2.0**-24, 0.0], "float32") == (TRANSFORM,)
    assert (
        consistent(right, [*values[:2], 0.5, 0.0], "float32") == ()
    )  # as large as the others: a wrong index
    assert consistent(right, values[::-1], "float32") == ()
    assert would_show(right, case, operands) == ("tf32 inputs",)
    assert facts(right, values, case, operands)["apart"] == ["tf32 inputs"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rounded_operands_are_consistent_with_what_rounds_them(dtype: str) -> None:
    rng = np.random.default_rng(0)
    case = Case("linear", {"in_features": 3, "out_features": 8, "bias": False}, ((5, 3),), dtype, "dense")
    x, w = (rng.standard_normal(shape).astype(dtype).astype(np.float64) for shape in ((5, 3), (8, 3)))
    right = exact.evaluate(case.spec, case.operation, {"input": x, "weight": w})
    rounded = {"float32": as_tf32, "float16": as_bfloat16}[dtype]
    values = (rounded(x) @ rounded(w).T).astype(dtype).astype(np.float64).ravel()
    found = consistent(right, values.tolist(), dtype)

    assert found[0] == {"float32": "tf32 inputs", "float16": "bfloat16 inputs"}[dtype]
    assert "direct float32" not in found


@pytest.mark.parametrize(
    "line",
    [
        "relu(input=(3,), dtype='float32', regime='dense')",
        "linear(in_features=3, out_features=2, input=(2, 3), dtype='float32', regime='integers')",
        "linear(in_features=3, out_features=2, input=(2, 3), dtype='float32', regime='special')",
    ],
)
def test_other_operators_and_data_have_no_fingerprint(line: str) -> None:
    case = Case.parse(line)
    operands = Trial(case).operands
    right = exact.evaluate(case.spec, case.operation, operands)

    assert facts(right, [0.0] * 4, case, operands) == {}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_candidates_are_models_that_differ_in_the_dtype(dtype: str) -> None:
    found = [model.name for model in candidates(dtype)]

    assert found == [name for name in MODELS if name in found]
    assert all(
        FORMATS[model.inputs].precision < FORMATS[dtype].precision
        for model in candidates(dtype)
        if model.inputs
    )
    assert ("float16 accumulation" in found) is (dtype != "bfloat16")
    assert ("direct float64" in found) is (dtype in ("float64", "float32"))


def rows(*models: list[str], **changes: Any) -> Rows:
    base = {"backend": "mine", "operator": "linear", "dtype": "float16"}
    return [{**base, "models": one, **changes} for one in models]


ALL = [model.name for model in candidates("float16")]


def test_a_model_is_kept_where_no_case_rules_it_out() -> None:
    apart = {"apart": ["bfloat16 inputs"]}
    [found] = summary([*rows(ALL, ALL[1:], **apart), *rows(ALL[2:]), {"backend": "mine", "models": None}])

    assert found.consistent == tuple(ALL[2:])
    assert (found.cases, found.telling, found.refuted) == (3, 2, {ALL[0]: 2, ALL[1]: 1})
    assert str(found) == (
        "linear float16: consistent with float32 truncation "
        "(3 cases, 1 rules out float32 flushing subnormals, bfloat16 inputs would show in 2)"
    )


def test_one_case_beyond_every_model_outweighs_the_sign_of_a_transform() -> None:
    [transform] = summary(rows(ALL, [*ALL, TRANSFORM], [TRANSFORM]))
    [wrong] = summary(rows(ALL, [TRANSFORM], []))

    assert (transform.looks_like, transform.leaking) == (TRANSFORM, 2)
    assert (wrong.looks_like, wrong.broken, wrong.evidence) == ("", 1, "3 cases, 1 beyond every model")


def test_each_backend_operator_dtype_and_kernel_has_its_own() -> None:
    every = [*rows(ALL), *rows(ALL, path="Slow2d"), *rows(ALL, backend="other"), *rows(ALL, dtype="bfloat16")]

    assert [(one.backend, one.dtype, one.path) for one in summary(every)] == [
        ("mine", "float16", ""),
        ("mine", "float16", "Slow2d"),
        ("other", "float16", ""),
        ("mine", "bfloat16", ""),
    ]
    assert "linear float16 by Slow2d: consistent with direct float32 (1 case)" in map(str, summary(every))
    assert summary(rows(ALL, dtype="int64")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operator": "relu"}, "operator='relu' is no sum of products; those of torch: conv1d"),
        ({"operator": "linear", "dtype": "int8"}, "dtype='int8' must be one of linear's float32"),
        ({"operator": "linear", "where": "strid == 1"}, "strid"),
    ],
)
def test_what_has_no_fingerprint_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cnnspec.fingerprint("torch", **arguments)


def test_a_target_that_runs_no_case_says_so() -> None:
    def linear(input: Any, weight: Any, bias: Any = None) -> Any:
        raise NotImplementedError

    assert str(cnnspec.fingerprint(linear, examples=5)) == "linear float32: no case could tell anything"


KERNEL = """
import torch
def linear(input, weight, bias=None):
    rounded = [one.bfloat16().float() for one in (input, weight)]
    return torch.nn.functional.linear(*rounded, bias)
"""


def test_the_command_prints_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(KERNEL, encoding="utf-8")

    assert main(["fingerprint", f"{file}:linear", "--examples", "40"]) == 0
    assert capsys.readouterr().out.startswith("linear float32: consistent with bfloat16 inputs (")
    assert main(["fingerprint", "torch", "--op", "relu"]) == 2
    assert main(["fingerprint", f"{file}:linear", "--where", "in_features == -1"]) == 4
