"""The counts of modules of torch against those worked by hand, in `hand_counts` and `hand_counts_of_calls`.

Each of the fifty-two cases is a test by its number and name, `01 conv2d root leaf` to `52 bfloat16`. The hand is itself
held to torch's counter, and to ones: the outputs of a convolution of ones by ones add up to its products on data.

Where known traps stand: padding by name 12-14; transposed convolutions with a stride 17, 19-24, with groups 20 and 21;
functions 25-28, 49, 50; modules called twice 29-32; tied weights 33; weight_norm 36 and more below; lazy modules 37 and
"lazy layers"; hooks that see nothing 46; in place, views, permute, flatten and interpolate in `hand_counts_of_calls`.
"""

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from cnnspec.backends.torch_graph import from_torch
from cnnspec.ops import conv, conv_transpose
from cnnspec.tables import Summary, summary
from tests.hand_counts import CASES
from tests.hand_counts_of_calls import CALLS
from tests.torch_models import Model

NUMBERED = {f"{number:02} {case.name}": case for number, case in enumerate(CASES, 1)}
MODELS = NUMBERED | {model.name: model for model in CALLS}

COUNTS = ("macs", "macs_effective", "parameter_count", "bias_adds", "norm_ops", "flops")


def counted(model: Model) -> Summary:
    module = model.build()
    return summary(from_torch(module, model.inputs(module)))


def by_hand(model: Model) -> dict[str, int | None]:
    flops = None if model.macs is None else 2 * model.macs
    found = (model.macs, model.macs_effective, model.parameters, model.bias_adds, model.norm_ops, flops)
    return dict(zip(COUNTS, found, strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_counts_are_those_worked_by_hand(name: str) -> None:
    table = counted(MODELS[name])
    assert {count: getattr(table, count) for count in COUNTS} == by_hand(MODELS[name]), str(table)


def test_every_case_is_there_once() -> None:
    assert len(CASES) == 52
    assert len({model.name for model in (*CASES, *CALLS)}) == len(MODELS) >= 85


# Two other counts of the same


class Ones(TorchFunctionMode):
    """Runs each sum of products by ones as well, without its bias: the sum of its outputs is its products on data."""

    SUMS = frozenset(
        (
            *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
            *(F.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.einsum),
        )
    )
    products = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.SUMS:
            tensors = [place for place, one in enumerate(args) if isinstance(one, torch.Tensor)]
            given = [None if place in tensors[2:] else one for place, one in enumerate(args)]
            for place in tensors[:2]:
                given[place] = torch.ones_like(args[place], dtype=torch.float64)
            self.products += int(func(*given, **(kwargs or {})).sum())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NUMBERED)
@pytest.mark.filterwarnings("ignore")
def test_ones_and_the_counter_of_torch_agree_with_the_hand(name: str) -> None:
    case = NUMBERED[name]
    module = case.build()
    inputs = case.inputs(module)
    module(*inputs)  # fills what is lazy
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    with torch.no_grad(), Ones() as ones:
        module(*inputs)
    assert counter.get_total_flops() == 2 * (case.macs or 0)
    assert ones.products == case.macs_effective
    assert sum(one.numel() for one in module.parameters()) == case.parameters


# Wrong counters


def at_the_output(self: Any, *shapes: tuple[int, ...]) -> int:
    """Count a transposed convolution as if it were none: by the size of its output."""
    channels, _, *kernel = self.parameter_shapes()["weight"]
    return int(math.prod((*self.output_shape(*shapes), channels // self.groups, *kernel)))


def groups_twice(self: Any, *shapes: tuple[int, ...]) -> int:
    """Divide by the groups what the weight has divided."""
    batch, _, sizes = self.split(shapes[0])
    return int(math.prod((*batch, *sizes, *self.parameter_shapes()["weight"])) // self.groups)


def without_strings(self: Any, *shapes: tuple[int, ...]) -> int:
    """Know no padding by name."""
    weight = self.parameter_shapes()["weight"]
    return 0 if self.padding == "same" else math.prod((*self.output_shape(*shapes), *weight[1:]))


@pytest.mark.parametrize(
    ("family", "wrong", "caught"),
    [
        (conv_transpose._ConvTranspose, at_the_output, {17, 18, 19, 20, 21, 22, 23, 24, 27, 51}),
        (conv_transpose._ConvTranspose, groups_twice, {20, 21}),
        (conv._Conv, without_strings, {12, 13, 14}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrong_products_are_caught(
    family: Any, wrong: Callable[..., int], caught: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "macs", wrong)
    assert {number for number, case in enumerate(CASES, 1) if counted(case).macs != case.macs} == caught


@pytest.mark.filterwarnings("ignore")
def test_parameters_counted_at_every_use_are_caught() -> None:
    found = set()
    for number, case in enumerate(CASES, 1):
        uses = sum(row.parameter_count + row.shared_count for row in counted(case).rows)
        found |= {number} if uses != case.parameters else set()
    assert found == {29, 30, 31, 32, 33}


# Unavailable is never 0


@pytest.mark.parametrize("name", [model.name for model in CALLS if model.macs is None])
@pytest.mark.filterwarnings("ignore")
def test_what_is_unavailable_never_shows_as_0(name: str) -> None:
    table = counted(MODELS[name])
    missing = {count: getattr(table, count) for count in COUNTS if count != "parameter_count"}
    assert set(missing.values()) == {None}
    place = next(number for number, row in enumerate(table.rows) if row.macs is None)

    lines = str(table).splitlines()
    heads = {head: lines[0].index(head) + len(head) for head in ("MACs", "effective MACs")}
    for line in (lines[1 + place], lines[1 + len(table.rows)]):
        assert [line[:end].split()[-1] for end in heads.values()] == ["unavailable"] * 2
    assert "unavailable FLOPs, unavailable additions of a bias and unavailable of normalizations" in str(
        table
    )

    row = list(csv.DictReader(io.StringIO(table.to_csv())))[place]
    assert {row[count] for count in missing} == {"unavailable"}

    told = json.loads(table.to_json())
    for counts in (told["rows"][place], told["totals"]):
        assert {counts[count] for count in missing} == {None}

    frame = table.to_frame()
    assert all(frame[count].isna()[place] for count in missing)
    assert all(frame[count].sum(skipna=False) != 0 for count in missing)
