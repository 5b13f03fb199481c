"""Functions of gradients that stand beside a kernel without a graph, named as in torch.nn.grad."""

from pathlib import Path
from typing import Any

import pytest

import cnnspec
from cnnspec.cases import Case
from cnnspec.judge import ACCUMULATION, BACKWARD, DOUBLE
from tests.reproducers import here, written

KERNEL = """
import torch

def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    with torch.no_grad():
        return torch.nn.functional.conv2d(input, weight, bias, stride, padding, dilation, groups)

def conv2d_input(input_size, weight, grad_output, **arguments):
    return torch.nn.grad.conv2d_input(input_size, weight{flip}, grad_output, **arguments)

def conv2d_weight(input, weight_size, grad_output, **arguments):
    return torch.nn.grad.conv2d_weight(input, weight_size, grad_output{scale}, **arguments)
"""
CONV = Case.parse("conv2d(in_channels=1, out_channels=2, kernel_size=(2, 3), input=(2, 1, 4, 5), seed=4)")


def checked(folder: Path, **wrong: str) -> Any:
    path = folder / "kernel.py"
    path.write_text(KERNEL.format(**{"flip": "", "scale": "", **wrong}), encoding="utf-8")
    return cnnspec.check(
        str(path),
        ["conv2d"],
        ["float32"],
        examples=40,
        laws=(BACKWARD, ACCUMULATION, DOUBLE),
        where="rank == 4",
    )


def test_right_functions_pass_and_what_they_cannot_show_is_unsupported(tmp_path: Path) -> None:
    found = {(row["law"], row["status"]) for row in checked(tmp_path).rows}
    assert (BACKWARD, "pass") in found
    assert {status for law, status in found if law != BACKWARD} == {"unsupported"}


@pytest.mark.parametrize(
    ("wrong", "operand"), [({"flip": ".flip(-1)"}, "input"), ({"scale": " * 2"}, "weight")], ids=str
)
def test_a_wrong_function_is_found_and_its_script_reproduces(
    wrong: dict[str, str], operand: str, tmp_path: Path
) -> None:
    failures = checked(tmp_path, **wrong).failures
    assert {failure.row["operand"] for failure in failures} == {operand}
    script = written(tmp_path, CONV, str(tmp_path / "kernel.py"), law=BACKWARD)
    assert here(script)[0] == "1"
    assert here(script, "torch")[0] == "0"
