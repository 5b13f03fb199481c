"""Wrong implementations and the sentence that explains each; where nothing is certain, nothing is said."""

from pathlib import Path
from typing import Any

import pytest
import torch

import cnnspec
from cnnspec import cli, localise
from cnnspec.backends.targets import resolve
from cnnspec.cases import Case
from cnnspec.judge import Trial
from cnnspec.phrases import Scene, difference
from cnnspec.symbols import Terms
from tests.explanations import BACKWARD, FORWARD, PLAIN, Kernel, case, upto
from tests.kernels import localised, localised_others, wrong_kernels

F = torch.nn.functional


def explained(kernel: Kernel, failing: Case, law: str = "forward") -> str:
    """Return what is said of the failure of a kernel, however slow this machine is."""
    (backend,) = resolve(kernel, [failing.operator])
    backend.prepare()
    rows = {row["law"]: row for row in Trial(failing).rows(backend, [law])}
    assert rows[law]["status"] == "fail"
    return localise.explain(failing, backend, rows[law], seconds=600)


def name(value: Any) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize(("kernel", "failing", "sentence"), FORWARD, ids=name)
def test_a_wrong_output_is_explained(kernel: Kernel, failing: Case, sentence: str) -> None:
    assert explained(kernel, failing) == sentence


@pytest.mark.parametrize(("kernel", "sentence"), BACKWARD)
def test_a_wrong_gradient_is_explained(kernel: Kernel, sentence: str) -> None:
    assert explained(kernel, PLAIN, "backward") == sentence


def test_a_gradient_that_loses_an_infinity_is_explained() -> None:
    pixels = [float("inf"), *upto(18)[1:]]  # its weight's gradient is 1 * inf + 2 * 2 + 3 * 4 + 4 * 5
    failing = PLAIN.with_data({**(PLAIN.data or {}), "input": pixels})

    assert explained(localised.conv2d_gradient_without_infinity, failing, "backward") == (
        "the gradient of weight (0, 0, 0, 0) is 36.0 where input (0, 0, 0, 0) is inf; it must be inf, and is right "
        "where all numbers are finite"
    )


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        (
            localised_others.batch_norm_other_momentum,
            "the new running_mean is that of momentum=0.75, the call has momentum=0.25",
        ),
        (
            localised_others.batch_norm_biased_statistics,
            "the new running_var is computed as if the variance of the batch is the biased one",
        ),
    ],
)
def test_a_wrong_new_value_is_explained(kernel: Kernel, sentence: str) -> None:
    failing = case(
        "batch_norm2d(num_features=1, momentum=0.25, training=True, input=(2, 1, 1, 1))",
        input=[
            1.0,
            3.0,
        ],  # their mean is 2, and their unbiased variance 2, as before: another momentum leaves it
        running_mean=[0.0],
        running_var=[2.0],
        weight=[1.0],
        bias=[0.0],
    )

    assert explained(kernel, failing, "updates") == sentence


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_few_bits_are_enough_to_tell_elements_apart(dtype: str) -> None:
    line = f"conv2d(in_channels=1, out_channels=1, kernel_size=(2, 2), input=(1, 1, 2, 2), dtype='{dtype}')"
    failing = case(line, input=upto(4), weight=upto(4), bias=[0.0])

    assert explained(localised.conv2d_missing_tap, failing) == (
        "the term input (0, 0, 1, 1) times weight (0, 0, 1, 1) is missing from output (0, 0, 0, 0)"
    )


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (wrong_kernels.conv2d_float16_accumulation, "right numbers, too few bits"),
        (localised.conv2d_of_squares, "no sum of products"),
        (localised.conv2d_undecided, "another result each time"),
        (localised.conv2d_breaking_down(), "raises when it is asked again"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_nothing_is_said_where_nothing_is_certain(kernel: Kernel, reason: str) -> None:
    third = [1 / 3] * 18  # float16 rounds it
    failing = PLAIN.with_data({**(PLAIN.data or {}), "input": [float(torch.tensor(x)) for x in third]})

    assert explained(kernel, failing) == "", reason


def test_nothing_is_said_of_what_is_right() -> None:
    (backend,) = resolve(F.conv2d, ["conv2d"])
    (row,) = Trial(PLAIN).rows(backend, ["forward"])

    assert row["status"] == "pass"
    assert localise.explain(PLAIN, backend, row) == ""
    assert (
        localise.explain(PLAIN, backend, {**row, "status": "fail", "message": "", "worst_index": [0] * 4})
        == ""
    )


def test_nothing_is_said_when_the_time_is_over() -> None:
    (backend,) = resolve(localised.conv2d_bias_twice, ["conv2d"])
    (row,) = Trial(PLAIN).rows(backend, ["forward"])

    assert localise.explain(PLAIN, backend, row, seconds=-1) == ""


def test_a_hypothesis_must_hold_of_the_case_before_it_was_made_small() -> None:
    """On square images, a kernel of one row and one of one column look alike to whoever sees one of them."""

    @localised.like(localised.conv)
    def transposes_wide_images(input: torch.Tensor, **arguments: Any) -> Any:
        square = input.shape[-1] == input.shape[-2] == 2
        return localised.conv(input=input.transpose(-1, -2) if square else input + 1, **arguments)

    arguments = "in_channels=1, out_channels=1, kernel_size=(1, 1), bias=False"
    small = case(f"conv2d({arguments}, input=(1, 1, 2, 2))", input=upto(4), weight=[1.0])
    (backend,) = resolve(transposes_wide_images, ["conv2d"])
    (row,) = Trial(small).rows(backend, ["forward"])
    large = f"conv2d({arguments}, input=(1, 1, 3, 3), dtype='float32', seed=1)"

    assert (
        localise.explain(small, backend, row, seconds=600) == "input is read with its axes 2 and 3 exchanged"
    )
    assert localise.explain(small, backend, {**row, "original_case": large}, seconds=600) == (
        "output (0, 0, 0, 1) holds what belongs to output (0, 0, 1, 0)"
    )


def test_hypotheses_that_cannot_be_told_apart_are_all_said() -> None:
    """Where images have one row, the stride of rows is any."""
    line = (
        "conv2d(in_channels=1, out_channels=1, kernel_size=1, stride=(1, 2), bias=False, input=(1, 1, 1, 3))"
    )

    assert explained(wrong_kernels.conv2d_swapped_strides, case(line, input=upto(3), weight=[1.0])) == (
        "the output is that of stride=(1, 1) or stride=(2, 1), the call has stride=(1, 2)"
    )


def test_a_law_is_explained_by_the_call_that_is_wrong() -> None:
    line = "conv2d(in_channels=1, out_channels=1, kernel_size=1, input=(1, 1, 1, 1), regime='integers')"
    failing = case(line, input=[0.0], weight=[0.0], bias=[-1.0])

    assert explained(wrong_kernels.conv2d_dropped_bias, failing, "bias") == "the bias is missing"


def test_terms_that_agree_need_no_words() -> None:
    scene = Scene({"input": (2,)}, (1,), 0)
    terms: Terms = {(("input", 0),): 1, (("input", 1),): 2}

    assert difference(scene, terms, [terms]) == ""
    assert difference(scene, {}, [terms]) == "output (0) is 0, whatever the input is"
    assert difference(scene, {**terms, (): 3}, [terms]) == "output (0) has the constant 3 added"


def test_the_explanation_comes_first_wherever_a_failure_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{wrong_kernels.__file__}:conv2d_flipped_kernel"
    words = ["check", target, "--op", "conv2d", "--dtype", "float32", "--law", "forward", "--examples", "5"]

    assert cli.main([*words, "--out", str(tmp_path), "--jobs", "1"]) == 1

    printed = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(printed) if line.startswith("fail: conv2d"))
    page = (tmp_path / "conformance.html").read_text()
    table = (tmp_path / "failures.csv").read_text()
    script = next((tmp_path / "reproducers").iterdir()).read_text()
    assert printed[place + 1] == "  the kernel is flipped"
    assert '<p class="message"><strong>the kernel is flipped</strong></p>' in page
    assert "the kernel is flipped," in table
    assert "the kernel is flipped. output " in script
    assert "**the kernel is flipped**" in (tmp_path / "summary.md").read_text()


def test_an_assertion_says_what_is_wrong_first() -> None:
    with pytest.raises(AssertionError, match="conv2d float32 breaks forward: the kernel is flipped\n"):
        cnnspec.assert_conforms(
            wrong_kernels.conv2d_flipped_kernel, "conv2d", dtypes=["float32"], laws=["forward"], examples=5
        )
