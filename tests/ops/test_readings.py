"""One loop, many readings: costs and receptive fields against what they must equal.

Every formula stands beside wrong variants of it, which the same comparison must reject.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from cnnspec import nested
from cnnspec.nested import Array
from cnnspec.ops.conv import Conv1d
from cnnspec.ops.pool import AvgPool1d, MaxPool1d
from cnnspec.scalars import Counted, Tally, Traced
from cnnspec.window import ReceptiveField
from tests.ops.draws import Draw, Seeded, draws

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

CONVS = ("conv1d", "conv2d", "conv3d")


def all_draws(names: Iterable[str], count: int) -> list[Draw]:
    return [draw for name in names for draw in draws(name, count)]


def counted(draw: Draw) -> Tally:
    """Return what one run of the loop executes."""
    tally = Tally()
    shapes = (*draw.inputs, *draw.op.parameter_shapes().values())
    draw.op.reference(*(nested.unravel([Counted(tally)] * math.prod(shape), shape) for shape in shapes))
    return tally


# Costs


def per_axis_window(op: Any) -> dict[str, Any]:
    return {"stride": op.axes("stride"), "dilation": op.axes("dilation"), "groups": op.groups}


def ones(draw: Draw, padded_with: float) -> int:
    """Return the sum of conv(ones, ones) whose zero padding is replaced by `padded_with`."""
    op = draw.op
    pads = [side for pair in op._pads()[::-1] for side in pair]
    x = torch.nn.functional.pad(torch.ones(draw.inputs[0]).double(), pads, value=padded_with)
    weight = torch.ones(op.parameter_shapes()["weight"]).double()
    function = getattr(torch.nn.functional, draw.name)
    return int(function(x, weight, **per_axis_window(op)).sum())


def test_nominal_macs_are_the_sum_of_ones() -> None:
    wrong = [d for d in all_draws(CONVS, 60) if d.op.macs(*d.inputs) != ones(d, 1.0)]
    assert wrong == []


@pytest.mark.parametrize(
    "mutant",
    [
        lambda d: d.op.macs(*d.inputs) * d.op.groups,
        lambda d: d.op.macs_effective(*d.inputs),
        lambda d: (
            math.prod(d.inputs[0]) * math.prod(d.op.parameter_shapes()["weight"][2:]) * d.op.out_channels
        ),
        lambda d: d.op.macs(*d.inputs) + d.op.bias_adds(*d.inputs),
    ],
    ids=["no groups", "taps on data", "input positions", "bias counted"],
)
def test_wrong_nominal_macs_are_noticed(mutant: Callable[[Draw], int]) -> None:
    assert any(mutant(d) != ones(d, 1.0) for d in all_draws(CONVS, 60))


def test_effective_macs_are_executed_multiplications() -> None:
    """And, where padding reads nothing, the sum of ones over real zeros: counted twice, in two ways."""
    for d in all_draws(CONVS, 60):
        effective = d.op.macs_effective(*d.inputs)
        assert effective == counted(d).multiplications, d
        if d.op.padding_mode == "zeros":
            assert effective == ones(d, 0.0), d


@pytest.mark.parametrize(
    "mutant",
    [
        lambda d: d.op.macs(*d.inputs),
        lambda d: d.op.macs_effective(*d.inputs) * d.op.groups,
        lambda d: d.op.macs_effective(*d.inputs) // max(1, d.output_shape[0]),
    ],
    ids=["taps on padding", "no groups", "one image"],
)
def test_wrong_effective_macs_are_noticed(mutant: Callable[[Draw], int]) -> None:
    assert any(mutant(d) != counted(d).multiplications for d in all_draws(CONVS, 60))


def test_costs_of_linear_and_of_the_bias() -> None:
    for d in all_draws(("linear", *CONVS), 60):
        tally, outputs = counted(d), math.prod(d.output_shape)
        assert d.op.macs_effective(*d.inputs) == tally.multiplications
        assert d.op.bias_adds(*d.inputs) == (outputs if d.op.bias else 0)
        assert tally.additions == tally.multiplications - (0 if d.op.bias else reached(d)), d
        assert d.op.flops(*d.inputs) == 2 * d.op.macs(*d.inputs)
        assert d.op.parameter_count == sum(math.prod(s) for s in d.op.parameter_shapes().values())


def reached(draw: Draw) -> int:
    """Return how many outputs have a tap on data: their first product is added to nothing."""
    shapes = (*draw.inputs, *draw.op.parameter_shapes().values())
    positive = [nested.unravel([1] * math.prod(shape), shape) for shape in shapes]
    return sum(value > 0 for value in nested.ravel(draw.op.reference(*positive)))


# Receptive fields


def stack(seed: int) -> list[Any]:
    """Return one to four layers, of one channel and one axis."""
    pick, layers = Seeded(seed), []
    for _ in range(pick.integer(1, 4)):
        kernel, stride = pick.integer(1, 4), pick.integer(1, 3)
        padding, dilation = pick.integer(0, kernel // 2), pick.integer(1, 3)
        layers.append(
            pick.choice(
                (
                    Conv1d(1, 1, kernel, stride, padding, dilation, bias=False),
                    Conv1d(1, 1, kernel, 1, "same", dilation, bias=False),
                    AvgPool1d(kernel, stride, padding),
                    MaxPool1d(kernel, stride, padding, dilation),
                )
            )
        )
    return layers


def run(layers: list[Any], x: Array) -> Array:
    for layer in layers:
        weights = [nested.unravel([1] * layer.kernel_size[0], (1, 1, layer.kernel_size[0]))]
        x = layer.reference(x, *(weights if isinstance(layer, Conv1d) else []))
    return x


def observed(layers: list[Any], size: int) -> tuple[int, list[tuple[int, int]]]:
    """Return a middle output and, for it and the next, the first and the last input that it depends on."""
    if any(isinstance(layer, MaxPool1d) for layer in layers):
        base = run(layers, [[0] * size])[0]
        impulses = [run(layers, [[int(i == j) for i in range(size)]])[0] for j in range(size)]
        reach = [{j for j in range(size) if impulses[j][u] != base[u]} for u in range(len(base))]
    else:
        reach = [set(y.sources) for y in run(layers, [[Traced({i}) for i in range(size)]])[0]]
    middle = len(reach) // 2
    return middle, [(min(reach[u]), max(reach[u])) for u in (middle, middle + 1) if u < len(reach)]


Composition = Callable[[ReceptiveField, ReceptiveField], ReceptiveField]


def region(field: ReceptiveField, output: int) -> tuple[int, int]:
    """Return the first and the last input that an output sees."""
    start = field.offset + output * field.stride
    return start, start + field.size - 1


def fields_wrong(seeds: Iterable[int], then: Composition) -> list[int]:
    """Return the seeds whose composed field is not what is observed in the middle of a long input."""
    wrong = []
    for seed in seeds:
        layers, size = stack(seed), 130
        fields = [layer.receptive_field()[0] for layer in layers]
        middle, ends = observed(layers, size)
        low, high = region(functools.reduce(ReceptiveField.then, fields), middle + len(ends) - 1)
        if low >= 20 and high < size - 20:
            composed = functools.reduce(then, fields)
            wrong += [seed] * (ends != [region(composed, middle + i) for i in range(len(ends))])
    return wrong


def test_receptive_field_is_the_observed_dependence() -> None:
    assert fields_wrong(range(80), ReceptiveField.then) == []


@pytest.mark.parametrize(
    "mutant",
    [
        lambda a, b: ReceptiveField(a.size + b.size - 1, a.stride * b.stride, a.offset + b.offset * a.stride),
        lambda a, b: ReceptiveField(
            a.size + (b.size - 1) * a.stride, a.stride * b.stride, a.offset + b.offset
        ),
        lambda a, b: ReceptiveField(
            a.size + (b.size - 1) * a.stride, b.stride, a.offset + b.offset * a.stride
        ),
        lambda a, b: b.then(a),
    ],
    ids=["size without stride", "offset without stride", "strides do not multiply", "other order"],
)
def test_wrong_compositions_are_noticed(mutant: Composition) -> None:
    assert len(fields_wrong(range(40), mutant)) > 5


def test_each_axis_has_its_own_field() -> None:
    for d in all_draws(("conv2d", "avg_pool2d", "max_pool3d"), 20):
        for axis, field in enumerate(d.op.receptive_field()):
            kernel, stride, dilation = (
                d.op.axes("kernel_size")[axis],
                d.op.axes("stride")[axis],
                d.op._dilation[axis],
            )
            assert (field.size, field.stride) == (dilation * (kernel - 1) + 1, stride)
            assert field.centre == field.offset + (field.size - 1) / 2
