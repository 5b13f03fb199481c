"""What is measured: the layers of networks, once each, and their work, which is what the loops do when they run."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from cnnspec import nested, nets
from cnnspec.bench.shapes import NETS, layers
from cnnspec.bench.work import Work, work
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.op import bytes_per_element
from cnnspec.scalars import Counted, Tally
from cnnspec.tables import summary
from tests.ops.draws import draws

PRODUCTS = ("conv1d", "conv2d", "conv3d", "linear")
MOVING = (*PRODUCTS, "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "add")
CASES = 25


@dataclass(frozen=True)
class Read:
    """A number without a value: elements that take part in anything are noted."""

    sources: frozenset[Hashable]
    noted: set[Hashable]

    def _with(self, other: Any) -> "Read":
        sources = self.sources | (other.sources if isinstance(other, Read) else frozenset())
        self.noted.update(sources)
        return Read(sources, self.noted)

    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __truediv__ = _with

    def __gt__(self, other: Any) -> bool:
        self._with(other)
        return False

    __lt__ = __ge__ = __le__ = __gt__


def cases(name: str) -> list[Case]:
    return [Case(name, draw.arguments, draw.inputs) for draw in draws(name, CASES, 3000, empty=False)]


def filled(shapes: dict[str, Any], number: Any) -> list[Any]:
    """Return nested lists of number(operand, index)."""
    return [
        nested.unravel([number(name, i) for i in range(math.prod(shape))], shape)
        for name, shape in shapes.items()
    ]


@pytest.mark.parametrize("name", PRODUCTS)
def test_flops_are_twice_the_products_that_the_loops_execute(name: str) -> None:
    for case in cases(name):
        forward, backward = Tally(), Tally()
        shape = case.operation.output_shape(*case.inputs)
        case.operation.reference(*filled(case.operand_shapes(), lambda *_, to=forward: Counted(to)))
        operands = filled(
            {"grad_output": shape, **case.operand_shapes()}, lambda *_, to=backward: Counted(to)
        )
        case.operation.gradients(*operands)
        products = forward.multiplications, forward.multiplications + backward.multiplications
        found = work(case), work(case, backward=True)
        assert tuple(one.flops_effective for one in found) == tuple(2 * count for count in products), case
        assert found[0].flops >= found[0].flops_effective


@pytest.mark.parametrize("name", MOVING)
def test_bytes_are_those_of_the_elements_that_the_loops_read_and_write(name: str) -> None:
    for case in cases(name):
        noted: set[Hashable] = set()
        numbers = filled(case.operand_shapes(), lambda name, i, to=noted: Read(frozenset({(name, i)}), to))
        output = nested.ravel(first_of(case.operation.reference(*numbers)))
        for one in output:
            noted.update(getattr(one, "sources", ()))
        assert work(case).bytes == 4 * (len(noted) + len(output)), case


def first_of(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def test_gradients_read_that_of_the_output_and_write_each_of_theirs() -> None:
    """y = w x + b, 3 features to 2, one row: 3 + 6 + 2 elements are read, 2 written; backward 2 read, 11 written."""
    case = Case("linear", {"in_features": 3, "out_features": 2}, ((1, 3),))
    assert work(case) == Work(12, 12, 4 * 13)
    assert work(case, backward=True) == Work(36, 36, 4 * 26)
    assert work(replace(case, dtype="bfloat16")).bytes == bytes_per_element("bfloat16") * 13
    assert work(case).intensity == 12 / 52


def test_a_stride_leaves_pixels_unread() -> None:
    """A 1x1 convolution of stride 2 on 4x4 pixels reads 4 of them; of a 3x3 window on one pixel one tap meets it."""
    strided = {"in_channels": 1, "out_channels": 1, "kernel_size": 1, "stride": 2, "bias": False}
    assert work(Case("conv2d", strided, ((1, 1, 4, 4),))) == Work(8, 8, 4 * (4 + 1 + 4))
    padded = {"in_channels": 1, "out_channels": 1, "kernel_size": 3, "padding": 1, "bias": False}
    assert work(Case("conv2d", padded, ((1, 1, 1, 1),))) == Work(18, 2, 4 * 3)


def test_layers_stand_once_with_all_their_places() -> None:
    """ResNet-18 (He et al. 2016, table 1): four 3x3 convolutions of 64 channels at 56x56."""
    found = {layer.places[0]: layer for layer in layers(["resnet18"], ["conv2d"])}
    assert found["resnet18 layer1.0.conv1"].places == tuple(
        f"resnet18 layer1.{block}.conv{n}" for block in (0, 1) for n in (1, 2)
    )
    assert found["resnet18 layer1.0.conv1"].provenance == "resnet18 layer1.0.conv1 and 3 more"
    assert sum(len(layer.places) for layer in found.values()) == 20


def test_layers_are_the_work_of_their_network() -> None:
    for name in ("lenet5", "resnet18", "densenet121"):
        found = [(len(layer.places), layer.case) for layer in layers([name])]
        macs = sum(times * case.operation.macs(*case.inputs) for times, case in found)
        assert macs == summary(nets.build(name)).macs, name


def test_layers_of_several_networks_are_shared() -> None:
    both, one = layers(NETS), layers(["resnet18"])
    assert len(both) < sum(len(layers([name])) for name in NETS)
    assert {str(layer) for layer in one} <= {str(layer) for layer in both}
    with pytest.raises(UsageError, match="unknown network 'resnet19'"):
        layers(["resnet19"])
