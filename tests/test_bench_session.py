"""A run of benchmarks: correct calls are ranked, wrong ones have no number, and what is cut or refused says why."""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import pytest
import torch

from cnnspec import data
from cnnspec.bench import variants
from cnnspec.bench.adaptive import LOOKS
from cnnspec.bench.plan import Plan
from cnnspec.bench.session import Session
from cnnspec.bench.shapes import layers
from cnnspec.bench.sides import FORWARD_ONLY, PLACEMENTS, WITH_BACKWARD, Judgement, Side, timed_case
from cnnspec.bench.verdicts import AMBIGUOUS, INVALID, SAME, SLOW
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from tests.timed_kernels import KERNELS, Refusing, Simulated

SIGMOID = Case("sigmoid", {}, ((2, 3, 4, 4),))


@pytest.fixture
def kernels(tmp_path: Path) -> str:
    file = tmp_path / f"kernels_of_{tmp_path.name}.py"
    file.write_text(KERNELS)
    return str(file)


def plan(target: str, **words: Any) -> Plan:
    usual = {"against": "torch", "only": ("sigmoid",), "networks": ("lenet5",), "parts": ("layers",)}
    return Plan(target, **{**usual, **words})


def run(plan: Plan, cost: Any = lambda name: 1.0, **words: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Return controls, rows and cuts."""
    entries = list(Session(plan, timers=[Simulated(cost)], **words).entries())
    return tuple([one for one in entries if one["kind"] == kind] for kind in ("control", "row", "cut"))  # type: ignore[return-value]


def test_a_target_that_sleeps_is_slow_and_an_equal_one_is_not(kernels: str) -> None:
    for seed in range(5):
        (control,), rows, _ = run(plan(f"{kernels}:same", seed=seed), lambda name: 1 + 0.1 * (name == "same"))
        assert (control["verdict"], {row["verdict"] for row in rows}) == (SAME, {SLOW})
        _, rows, _ = run(plan(f"{kernels}:same", seed=seed))
        assert {row["verdict"] for row in rows} <= {SAME, AMBIGUOUS}


def test_a_row_says_what_was_compared_and_how(kernels: str) -> None:
    _, rows, _ = run(plan(f"{kernels}:same"))
    assert len(rows) == 4
    row = next(row for row in rows if row["places"] == ["lenet5 sigmoid1"])
    wanted = {
        "layer": "Sigmoid() on 1x6x28x28",
        "provenance": "lenet5 sigmoid1",
        "conformance": "pass",
        "against": "torch",
        "flops": 0,
        "bytes_compulsory": 2 * 4 * 6 * 28 * 28,
        "mode": "cpu",
        "ratio_confidence": 0.995,
        "delta": 0.03,
    }
    assert {name: row[name] for name in wanted} == wanted
    assert row["pairs"] in LOOKS
    assert len(row["samples"]) == row["pairs"]
    assert row["ratio_ci_lo"] <= row["ratio"] <= row["ratio_ci_hi"]
    assert 0 < row["error_over_bound"] <= 1


def test_a_wrong_kernel_is_not_ranked(kernels: str) -> None:
    _, rows, _ = run(plan(f"{kernels}:wrong"))
    for row in rows:
        assert (row["verdict"], row["conformance"]) == (INVALID, "fail")
        assert row["note"].startswith("not ranked: fails forward at (0, ")
        assert Case.parse(row["failing_case"]).regime == "integers"
        assert not {"ratio", "t_median_s", "samples"} & row.keys()


def test_nothing_is_ranked_against_a_wrong_kernel(kernels: str) -> None:
    controls, rows, _ = run(plan("torch", against=f"{kernels}:wrong"))
    assert not controls
    assert {row["verdict"] for row in rows} == {INVALID}
    assert rows[0]["note"].startswith(f"{kernels}:wrong: not ranked: fails forward at")


def test_a_kernel_that_does_not_claim_a_case_is_unsupported(kernels: str) -> None:
    _, rows, _ = run(plan(f"{kernels}:partial"))
    assert {(row["verdict"], row["conformance"], row["note"]) for row in rows} == {
        (None, "unsupported", "only on Tuesdays")
    }
    _, rows, _ = run(plan(f"{kernels}:detached", directions=(WITH_BACKWARD,)))
    assert {(row["conformance"], row["note"]) for row in rows} == {
        ("unsupported", "the output carries no gradient")
    }


def test_what_cannot_be_judged_has_no_number(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Side, "judged", lambda *_: Judgement("skip", "no proven model"))
    controls, rows, _ = (
        [one for one in Session(plan(f"{kernels}:same"), [Refusing()]).entries() if one["kind"] == kind]
        for kind in ("control", "row", "cut")
    )
    assert not controls
    assert {(row["verdict"], row["conformance"], row["note"]) for row in rows} == {
        (None, "skip", "no proven model")
    }


def test_a_machine_that_finds_a_call_unlike_itself_ranks_nothing(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnspec.bench.sides.PLACEMENTS", 1)

    class Biased(Simulated):
        """The call that was made first is slower."""

        first: Any = None

        def sample(self, call: Any, count: int) -> float:
            self.first = self.first or call
            return super().sample(call, count) * (1.2 if call is self.first else 1)

    entries = list(Session(plan(f"{kernels}:same"), timers=[Biased(lambda name: 1.0)]).entries())
    control, *rows = entries
    assert (control["verdict"], control["fit"]) == ("FAST", False)
    assert {(row["verdict"], row["note"]) for row in rows} == {
        (INVALID, "the A/A control of torch came out FAST")
    }


def test_what_the_budget_leaves_out_is_told(kernels: str) -> None:
    seconds = iter(range(10**6))
    _, rows, cuts = run(plan(f"{kernels}:same", seconds=100.0), now=lambda: next(seconds) * 15.0)
    assert len(rows) + len(cuts) == 4
    assert rows
    assert {cut["reason"] for cut in cuts} == {"the budget was spent"}
    assert not any(row["complete"] for row in rows)


def test_a_layer_that_is_too_large_to_be_judged_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.bench.plan.LARGEST", 20_000)
    monkeypatch.setattr("cnnspec.bench.layers.LARGEST", 20_000)
    entries = list(Session(plan("torch", only=("linear",), smoke=True)).entries())
    (cut,) = [one for one in entries if one["kind"] == "cut"]
    assert cut["layer"] == "Linear(400, 120) on 1x400"
    assert cut["reason"].startswith("48520 elements are more than 20000:")
    assert len(entries) == 3


def test_smoke_makes_each_call_once_and_times_nothing(kernels: str) -> None:
    smoke = plan(f"{kernels}:same", smoke=True)
    rows = list(Session(smoke, timers=[Refusing()]).entries())
    assert {(row["kind"], row["mode"], row["verdict"]) for row in rows} == {("row", "smoke", None)}
    calls = sys.modules[Path(kernels).stem].calls
    assert len(calls) == 4 * 3  # judged on two regimes, then called


def test_variants_are_held_against_the_target_as_it_is() -> None:
    words = ("plain", "channels_last", "bfloat16", "onednn_off")
    _, rows, _ = run(plan("torch", against="", variants=words))
    found = {(row["variant"], row["target"], row["against"], row["dtype"]) for row in rows}
    assert found == {
        ("plain", "torch", "", "float32"),
        ("channels_last", "torch channels_last", "torch", "float32"),
        ("bfloat16", "torch bfloat16", "torch", "bfloat16"),
        ("onednn_off", "torch onednn_off", "torch", "float32"),
    }
    alone = [row for row in rows if row["variant"] == "plain"]
    assert {(row["verdict"], len(row["samples"])) for row in alone} == {(None, LOOKS[0])}


def test_a_variant_of_one_operator_leaves_the_others_to_the_other_variants() -> None:
    found = plan("torch", against="", only=(), variants=("plain", "im2col")).schedule[0]
    by_variant = {
        name: {one.case.operator for one in found if one.candidate.variant == name}
        for name in ("plain", "im2col")
    }
    assert by_variant["im2col"] == {"conv2d"} < by_variant["plain"]


@pytest.mark.parametrize("groups", [1, 2])
def test_windows_as_columns_give_what_the_judge_wants(groups: int) -> None:
    side = Side.of("torch", "im2col")
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "groups": groups}
    case = Case("conv2d", {**arguments, "stride": (2, 1), "padding": (1, 0), "dilation": 2}, ((2, 4, 7, 8),))
    assert side.judged(case, WITH_BACKWARD).status == "pass"
    assert side.call(case, FORWARD_ONLY)().shape == case.operation.output_shape(*case.inputs)


def test_windows_as_columns_are_timed_without_what_works_out_their_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case("conv2d", {"in_channels": 2, "out_channels": 3, "kernel_size": 3}, ((1, 2, 5, 9),))
    call = Side.of("torch", "im2col").call(case, FORWARD_ONLY)
    assert call().shape == (1, 3, 3, 7)
    monkeypatch.setattr(variants, "Conv2d", None)
    assert call().shape == (1, 3, 3, 7)


def test_both_sides_run_the_variant_where_another_target_is_named() -> None:
    (side, other), *_ = plan("torch", variants=("channels_last",)).sides
    assert other
    assert (side.name, other.name) == ("torch channels_last", "torch channels_last")


def test_only_what_both_sides_implement_is_measured(kernels: str) -> None:
    one = plan("torch", against=f"{kernels}:same")
    everything = replace(one, only=(), networks=("resnet18",), against=kernels)
    assert {task.case.operator for task in one.schedule[0]} == {"sigmoid"}
    with pytest.raises(UsageError, match="defines no operator"):
        everything.check()


def test_the_order_is_drawn_and_the_same_each_time() -> None:
    everything = plan("torch", against="", only=(), networks=("resnet18",))
    once, again, other = (
        [str(task.layer) for task in one.schedule[0]]
        for one in (everything, everything, replace(everything, seed=1))
    )
    assert once == again != other
    assert sorted(once) == sorted(other)


# One side


def test_inputs_are_never_zeros_nor_constant() -> None:
    for layer in layers(["lenet5"]):
        for seed in range(4):
            case = timed_case(layer.case, seed)
            assert case.regime == "dense"
            for name, array in data.operands(case).items():
                assert np.ptp(array) > 0, (str(case), name)
                assert np.count_nonzero(array) == array.size


def test_the_call_has_nothing_between_it_and_the_function(kernels: str) -> None:
    case = timed_case(SIGMOID, 0)
    assert Side.of("torch").call(case, FORWARD_ONLY).func is torch.sigmoid  # type: ignore[attr-defined]
    own = Side.of(f"{kernels}:same", only=["sigmoid"]).call(case, FORWARD_ONLY)
    assert own.func.__name__ == "same"  # type: ignore[attr-defined]
    assert torch.equal(own(), Side.of("torch").call(case, FORWARD_ONLY)())


def test_operands_lie_in_several_places_and_all_are_timed() -> None:
    side, timed = Side.of("torch"), list[int]()

    class Timer(Simulated):
        def sample(self, call: Any, count: int) -> float:
            timed.append(call.args[0].data_ptr())
            return 1.0

    calls = side.calls(timed_case(SIGMOID, 0), FORWARD_ONLY)
    sample = side.sample(calls, Timer(lambda name: 1.0), Random(0))
    for _ in range(100):
        sample(1)
    assert {*timed} == {call.args[0].data_ptr() for call in calls}  # type: ignore[attr-defined]
    assert len({*timed}) == PLACEMENTS


def test_the_call_with_backward_gives_the_gradients() -> None:
    case = timed_case(Case("linear", {"in_features": 3, "out_features": 2}, ((4, 3),)), 0)
    dx, dw, db = Side.of("torch").call(case, WITH_BACKWARD)()
    g = torch.from_numpy(data.grad_output(case, (4, 2))).float()
    x, w = (torch.from_numpy(data.operands(case)[name]).float() for name in ("input", "weight"))
    assert torch.equal(dx, g @ w)
    assert torch.equal(dw, g.T @ x)
    assert torch.equal(db, g.sum(0))


def test_switches_hold_for_the_variant_alone() -> None:
    seen, switch = list[bool](), cast("Any", torch.backends.mkldnn)

    class Timer(Simulated):
        def sample(self, call: Any, count: int) -> float:
            seen.append(switch.enabled)
            return 1.0

    side = Side.of("torch", "onednn_off")
    before = switch.enabled
    side.sample(side.calls(timed_case(SIGMOID, 0), FORWARD_ONLY), Timer(lambda name: 1.0), Random(0))(1)
    assert seen == [False]
    assert switch.enabled == before


def test_what_is_compiled_is_judged_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(function: Any, dynamic: bool) -> Any:
        assert dynamic is False
        return lambda *args, **kwargs: function(*args, **kwargs) + 1

    monkeypatch.setattr(torch, "compile", compiled)
    plain, other = Side.of("torch"), Side.of("torch", "compile")
    case = timed_case(SIGMOID, 0)
    assert other.judged(case, FORWARD_ONLY).status == "fail"
    assert torch.equal(other.call(case, FORWARD_ONLY)(), plain.call(case, FORWARD_ONLY)() + 1)


@pytest.mark.parametrize(
    ("target", "variant", "message"),
    [
        ("torch", "channel_last", "unknown variant 'channel_last': did you mean 'channels_last'?"),
        ("torch", "tf32", "variant tf32 is for built-in targets on CUDA"),
        ("torch-nn", "plain", "torch-nn does more in each call than the operator: measure torch"),
        ("torch-native", "plain", "measure torch with --variant onednn_off"),
    ],
)
def test_what_cannot_be_measured_is_refused(target: str, variant: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        Side.of(target, variant)


def test_a_variant_lays_out_images_and_their_weights() -> None:
    case = Case("conv2d", {"in_channels": 1, "out_channels": 1, "kernel_size": 3}, ((2, 1, 5, 5),))
    found = variants.case_of(case, "channels_last+float16")
    assert (found.dtype, dict(found.layout)) == (
        "float16",
        dict.fromkeys(("input", "weight", "grad_output"), "channels_last"),
    )
