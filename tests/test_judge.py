"""The judge on wrong targets: each thing that can be wrong is one failing row that says it in one sentence."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cnnspec.backends import Backend, Output
from cnnspec.calls import promised_format
from cnnspec.cases import Case
from cnnspec.judge import MEMORY_FORMAT, Trial

NOTHING: Any = None
CONV = Case.parse(
    "conv2d(in_channels=2, out_channels=3, kernel_size=(2, 1), input=(2, 2, 4, 3), dtype='float32', regime='integers', "
    "seed=3, layout={'input': 'step_2'})"
)


def rows(function: Callable[..., Any], case: Case = CONV) -> dict[str, dict[str, Any]]:
    return {row["law"]: row for row in Trial(case).rows(Backend("mine", {case.operator: function}))}


def test_torch_passes_every_law() -> None:
    found = rows(F.conv2d)

    assert {row["status"] for row in found.values()} == {"pass"}
    assert {"forward", "inputs_unmodified", "repeatable", "linearity", "batch", "bias"} <= set(found)
    assert found["forward"]["ratio"] == 0.0
    assert found["forward"]["discriminating"]


def changed(change: Callable[[torch.Tensor], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: change(F.conv2d(*args, **kwargs))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed(lambda y: y[:, :2]), "output has shape (2, 2, 3, 3), it must be (2, 3, 3, 3)"),
        (changed(lambda y: y.double()), "output has dtype float64, it must be float32"),
        (changed(lambda y: y.to("meta")), "output has device meta, it must be cpu"),
        (changed(lambda y: y.tolist()), "the target returned list, not torch.Tensor"),
        (changed(lambda y: None), "the target returned NoneType, not torch.Tensor"),
        (changed(lambda y: (y, y)), "the target returned tuple, not torch.Tensor"),
        (changed(lambda y: y + 1), "27 of 54 elements are wrong"),
        (changed(lambda y: 1 / 0), "raised ZeroDivisionError: division by zero"),
        (changed(lambda y: NOTHING()), "raised TypeError: "),
    ],
)
def test_what_is_wrong_is_said(wrong: Callable[..., Any], message: str) -> None:
    row = rows(wrong)["forward"]

    assert row["status"] == "fail"
    assert message.replace("27 of", "") in row["message"].replace("54 of", "")


def test_the_worst_element_is_named_with_expected_actual_error_and_bound() -> None:
    def wrong(*args: Any, **kwargs: Any) -> torch.Tensor:
        y = F.conv2d(*args, **kwargs)
        y[1, 2, 0, 1] += 4
        return y

    row = rows(wrong)["forward"]

    assert row["worst_index"] == [1, 2, 0, 1]
    assert float.fromhex(row["actual"]) - float.fromhex(row["expected"]) == 4
    assert (float.fromhex(row["error"]), row["bound"], row["ratio"]) == (4.0, "0x0.0p+0", "inf")
    assert (row["wrong_elements"], row["elements"]) == (1, 54)


def test_a_modified_input_is_found_even_between_its_elements() -> None:
    def scribbles(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        y = F.conv2d(x, w, b, **kwargs)
        x.as_strided((1,), (1,), x.storage_offset() + 1).fill_(0)  # a gap of the strided layout
        return y

    def scales(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return F.conv2d(x, w.mul_(1.5), b, **kwargs)

    assert rows(scribbles)["inputs_unmodified"]["message"] == "the call changed the memory of input"
    assert rows(scales)["inputs_unmodified"]["message"] == "the call changed the memory of weight"


def test_two_calls_that_differ_are_found() -> None:
    calls = [0]

    def counts(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls[0] += 1
        y: torch.Tensor = F.conv2d(*args, **kwargs)
        return y.nextafter(y + calls[0] % 2)

    assert "two identical calls differ at [0, 0, 0, 0]" in rows(counts)["repeatable"]["message"]


def test_an_output_of_another_shape_fails_a_law_that_counts_on_its_shape() -> None:
    case = Case.parse("unfold(kernel_size=2, input=(1, 2, 3, 3), dtype='float32', regime='integers', seed=1)")
    found = rows(lambda x, *args, **kwargs: F.unfold(x, *args, **kwargs)[:, :-1], case)

    for law in ("forward", "convolution"):
        assert found[law]["status"] == "fail"
        assert "output has shape (1, 7, 4), it must be (1, 8, 4)" in found[law]["message"]
    assert Case.parse(found["convolution"]["culprit"]).operator == "unfold"


def test_a_law_names_the_call_that_is_wrong() -> None:
    def forgets_bias_on_batches(
        x: torch.Tensor, w: torch.Tensor, b: Any = None, **kwargs: Any
    ) -> torch.Tensor:
        return F.conv2d(x, w, None if x.shape[0] > 1 else b, **kwargs)

    row = rows(forgets_bias_on_batches)["batch"]

    assert row["status"] == "fail"
    assert row["message"].startswith("a batch is the stack of its singles: at [0, 0, 0, 0] the left side is")
    assert Trial(Case.parse(row["culprit"])).violates(
        Backend("mine", {"conv2d": forgets_bias_on_batches}), "forward"
    )


@pytest.mark.parametrize("error", [NotImplementedError("only stride 2"), NotImplementedError()])
def test_not_implemented_is_unsupported_and_not_a_pass(error: Exception) -> None:
    def partial(*args: Any, **kwargs: Any) -> torch.Tensor:
        raise error

    found = rows(partial)

    assert [row["status"] for row in found.values()] == ["unsupported"]
    assert found["forward"]["reason"] == (str(error) or "NotImplementedError")


def test_a_function_without_some_argument_is_unsupported_where_the_case_needs_it() -> None:
    def plain(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, w)

    without = Case.parse(
        "conv2d(in_channels=1, out_channels=1, kernel_size=2, bias=False, input=(1, 1, 3, 3))"
    )
    strided = Case.parse(
        "conv2d(in_channels=1, out_channels=1, kernel_size=2, bias=False, stride=2, input=(1, 1, 3, 3))"
    )

    assert rows(plain, without)["forward"]["status"] == "pass"
    assert rows(plain, strided)["forward"]["reason"] == "the function takes no stride, the case has stride=2"
    assert rows(plain)["forward"]["reason"] == "the function takes no bias, the case has one"


def test_what_a_violation_looks_like_is_said() -> None:
    def tf32(x: torch.Tensor, w: torch.Tensor, b: Any = None) -> torch.Tensor:
        def kept(t: torch.Tensor) -> torch.Tensor:
            return ((t.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

        return F.linear(kept(x), kept(w), b)

    case = Case.parse(
        "linear(in_features=5, out_features=2, bias=False, input=(3, 5), regime='sparse', seed=4)"
    )
    row = rows(tf32, case)["forward"]

    assert row["status"] == "fail"
    assert row["looks_like"] == "consistent with tf32 inputs"


def test_wrong_indices_of_a_maximum_are_found_where_the_maxima_are_right() -> None:
    def last_wins(x: torch.Tensor, kernel_size: Any, **kwargs: Any) -> Any:
        y, i = F.max_pool1d(x.flip(-1), kernel_size, **kwargs)
        return y.flip(-1), x.shape[-1] - 1 - i.flip(-1)

    case = Case.parse(
        "max_pool1d(kernel_size=2, return_indices=True, input=(1, 4), data={'input': [5.0, 5.0, 1.0, 2.0]})"
    )
    row = rows(last_wins, case)["forward"]

    assert row["message"] == "index at [0, 0] is 1, it must be 0: the first of equal maxima, the last NaN"


def test_a_backend_brings_its_own_arrays() -> None:
    def arrays(values: Any, dtype: str, layout: str, channel: int, device: str) -> Any:
        return values.tolist(), lambda: repr(values).encode()

    def outputs(array: Any) -> Output:
        return Output(array, (len(array),), "float32", "cpu")

    case = Case.parse("relu(input=(3,), data={'input': [1.0, -2.0, 3.0]})")
    lists = Backend("lists", {"relu": lambda x: [max(v, 0.0) for v in x]}, arrays=arrays, outputs=outputs)
    wrong = Backend("lists", {"relu": lambda x: x}, arrays=arrays, outputs=outputs)

    assert {row["status"] for row in Trial(case).rows(lists)} == {"pass"}
    assert Trial(case).violates(wrong, "forward")


def test_an_output_in_memory_that_the_next_call_overwrites_still_shows_that_calls_differ() -> None:
    kept = torch.zeros(3, dtype=torch.float64)

    def relu(x: torch.Tensor, calls: list[int] = []) -> torch.Tensor:  # noqa: B006 - its state is the point
        calls.append(1)
        return kept.copy_(x.clamp(min=0) * (1.0 if len(calls) == 1 else 2.0))

    case = Case.parse("relu(input=(3,), dtype='float64', data={'input': [1.0, -2.0, 3.0]})")
    found = rows(relu, case)

    assert found["forward"]["status"] == "pass"
    assert found["repeatable"]["message"] == "two identical calls differ at [0]: 1.0 and 2.0"


LAST = "conv2d(in_channels=2, out_channels=3, kernel_size=2, input=(2, 2, 4, 5), layout={'input': 'channels_last'})"


@pytest.mark.parametrize("line", [LAST, LAST.replace(", layout={'input': 'channels_last'}", "")], ids=str)
def test_an_output_in_another_memory_format_is_found(line: str) -> None:
    """Contiguous where channels_last is promised, and the other way round; a kernel alone promises neither."""
    case = Case.parse(line)
    other = torch.contiguous_format if case.layout else torch.channels_last
    wrong = Backend("wrong", {"conv2d": changed(lambda y: y.contiguous(memory_format=other))})
    found = Trial(case).rows(wrong, [MEMORY_FORMAT])
    assert [(row["status"], row["expected"]) for row in found] == [("fail", promised_format(case))]
    assert [
        row["status"] for row in Trial(case).rows(Backend("right", {"conv2d": F.conv2d}), [MEMORY_FORMAT])
    ] == ["pass"]
    assert MEMORY_FORMAT not in {row["law"] for row in Trial(case).rows(wrong)}


def test_no_memory_format_is_promised_of_strided_operands() -> None:
    assert promised_format(Case.parse(LAST.replace("'channels_last'", "'transposed'"))) == ""
    assert promised_format(Case.parse(LAST.replace("(2, 2, 4, 5)", "(2, 4, 5)"))) == ""
    volume = "max_pool3d(kernel_size=2, input=(2, 4, 4, 4), layout={'input': 'channels_last'})"
    assert promised_format(Case.parse(volume)) == ""


def test_a_traceback_names_files_as_they_are_imported() -> None:
    """So that reports of two machines are the same."""
    row = rows(lambda x, *rest, **named: F.conv2d(x, x, nothing=1))["forward"]  # type: ignore[call-overload]
    assert 'File "cnnspec/backends/__init__.py"' in row["traceback"]
    assert not any(f'File "{folder}' in row["traceback"] for folder in sys.path if folder)


def test_a_gradient_that_is_left_out_is_found() -> None:
    """A backend's own gradients must be all that are asked for."""
    case = Case.parse("linear(in_features=2, out_features=1, bias=False, input=(1, 2), seed=1)")
    partial = Backend("mine", {"linear": F.linear}, gradients=lambda *asked: {"input": torch.zeros(1, 2)})
    (row,) = Trial(case).rows(partial, ["backward"])
    assert (row["status"], row["message"]) == ("fail", "the target gives no gradient of weight")
