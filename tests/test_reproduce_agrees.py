"""A reproducer has the judge's opinion, of every operator, dtype and value."""

import math
import runpy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnspec import data, exact, ops, strategies
from cnnspec.backends.targets import resolve
from cnnspec.bounds import FORMATS
from cnnspec.casebook import specs_directory
from cnnspec.cases import Case
from cnnspec.compare import verdict
from cnnspec.expectations import crash, for_backends
from cnnspec.judge import BACKWARD, DOUBLE, FORWARD, REPEATABLE, UNMODIFIED, UPDATES, Trial
from cnnspec.models import MODELS, ErrorModel, direct, with_elementary
from cnnspec.shrink import generate
from tests.reproducers import here, written

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")  # torch, for even kernels
STATUS = {"pass": "0", "fail": "1", "unsupported": "2"}
SCRIPTS = {
    FORWARD: [FORWARD, UNMODIFIED, REPEATABLE],
    BACKWARD: [BACKWARD],
    DOUBLE: [DOUBLE],
    UPDATES: [UPDATES],
}
KNOWN = for_backends(["torch", "torch-nn"], specs_directory())
CELLS = [(name, dtype) for name in ops.NAMES for dtype in ops.spec(name).dtypes]


@pytest.mark.parametrize("operator", ops.NAMES)
def test_scripts_find_in_torch_what_the_judge_finds(operator: str, tmp_path: Path) -> None:
    """Every operator, every layout, integers too, by function and by layer, lazy layers included."""
    backends = [backend for name in ("torch", "torch-nn") for backend in resolve(name)]
    compared = Counter[str]()
    for dtype in ops.spec(operator).dtypes:
        for case in generate(strategies.cases(operator, dtype), 2, 8):
            if math.prod(case.operation.output_shape(*case.inputs)) > 60:
                continue
            for backend in backends:
                for law, judged in SCRIPTS.items():
                    if crash(KNOWN, case, backend.name, law):
                        continue
                    rows = Trial(case).rows(backend, judged)
                    words = [row["status"] for row in rows]
                    word = next((one for one in ("unsupported", "fail") if one in words), "pass")
                    if not words:
                        continue
                    script = written(
                        tmp_path,
                        case,
                        backend.name,
                        model=backend.model(dtype, operator),
                        layers=backend.layers,
                        law=law,
                    )
                    assert (str(case), law, here(script, backend.name)[0]) == (str(case), law, STATUS[word])
                    compared[word] += 1
    assert compared["pass"] > 5


def after(value: float, dtype: str, direction: float) -> float:
    """Return the next number of the format; the zeros are two numbers."""
    if dtype not in FORMATS:
        return value + int(math.copysign(1, direction))
    if value == 0 and math.copysign(1, value) != math.copysign(1, direction):
        return -float(value)
    if dtype == "bfloat16":
        ends = torch.tensor([value, direction], dtype=torch.bfloat16)
        return torch.nextafter(ends[0], ends[1]).item()
    kind = np.dtype(dtype).type
    with np.errstate(over="ignore"):  # what follows the largest number is infinite
        return float(np.nextafter(kind(value), kind(direction)))


class Opinions:
    """What the judge says of an output and what a script says of it: the same."""

    def __init__(self, case: Case, error_model: ErrorModel | None, script: Path) -> None:
        self.case, self.error_model = case, error_model
        self.exact = exact.evaluate(case.spec, case.operation, data.operands(case))
        self.script = runpy.run_path(str(script))
        names = ("LOWEST", "EXPECTED", "HIGHEST")
        self.lowest, self.expected, self.highest = (
            self.script["numbers"](self.script[name]) for name in names
        )

    def rights(self, values: Sequence[Any]) -> list[bool]:
        """Return which of the values are right, in the opinion of both."""
        wrong = set(verdict(self.exact, values, self.case.dtype, self.error_model).wrong)
        rights = [i not in wrong for i in range(len(values))]
        assert [
            self.script["holds"](*row) for row in zip(values, self.lowest, self.highest, strict=True)
        ] == rights
        return rights

    def check_end(self, end: Sequence[Any], direction: float) -> None:
        """Check one end of what is allowed: it is right, and the next number beyond it is not."""
        zero = 0.0 if self.case.dtype in FORMATS else 0
        assert all(self.rights([zero if value is None else value for value in end]))
        bounded = [value is not None and math.isfinite(value) for value in end]
        beyond = [
            after(value, self.case.dtype, direction) if inside else zero if value is None else value
            for value, inside in zip(end, bounded, strict=True)
        ]
        assert self.rights(beyond) == [not inside for inside in bounded]


@pytest.mark.parametrize(("operator", "dtype"), CELLS)
def test_script_and_judge_take_the_same_values(operator: str, dtype: str, tmp_path: Path) -> None:
    """At the expected value, at the ends of what is allowed and one number beyond, at what is special."""
    models: list[ErrorModel | None] = [None]
    if dtype in FORMATS:
        models = [
            direct(dtype),
            with_elementary(direct(dtype), 20),
            MODELS["tf32 inputs" if dtype == "float32" else direct(dtype).name],
        ]
    cases = generate(strategies.cases(operator, dtype), 3, 40)
    small = [case for case in cases if math.prod(case.operation.output_shape(*case.inputs)) <= 40]
    elements = 0
    for number, case in enumerate(small[:12]):
        error_model = models[number % len(models)]
        both = Opinions(case, error_model, written(tmp_path, case, "torch", model=error_model))
        both.check_end(both.lowest, -math.inf)
        both.check_end(both.highest, math.inf)
        assert all(both.rights([0 if value is None else value for value in both.expected]))
        for value in (math.nan, math.inf, -math.inf, 0.0, -0.0) if dtype in FORMATS else (0, -(2**63)):
            both.rights([value] * len(both.expected))
        elements += len(both.expected)
    assert elements > 0
