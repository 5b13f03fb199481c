"""Receptive fields along graphs, against the elements that the loops read."""

import itertools
from typing import Any

import pytest

from cnnspec import costs, nested
from cnnspec.blocks import Branches, Residual, Seq
from cnnspec.fields import UNAVAILABLE, Field, joined, through
from cnnspec.graph import Network
from cnnspec.ops.adaptive_pool import AdaptiveAvgPool1d, AdaptiveAvgPool2d
from cnnspec.ops.combine import Add, Concat
from cnnspec.ops.conv import Conv1d, Conv2d
from cnnspec.ops.conv_transpose import ConvTranspose1d
from cnnspec.ops.pad import Pad
from cnnspec.ops.pool import AvgPool1d, AvgPool2d
from cnnspec.scalars import Traced
from cnnspec.spelling import parse_operator
from cnnspec.tables import summary
from cnnspec.window import ReceptiveField


def read_by_the_loops(net: Network, shape: tuple[int, ...]) -> dict[tuple[int, ...], list[tuple[int, int]]]:
    """Return, per output position, the first and the last index that it reads along each spatial axis."""
    places = list(itertools.product(*map(range, shape)))
    x = nested.unravel([Traced({place[2:]}) for place in places], shape)
    parameters = {
        name: nested.unravel([Traced(set()) for _ in itertools.product(*map(range, wanted))], wanted)
        for name, wanted in net.parameter_shapes().items()
    }
    y = net.reference(x, parameters=parameters)
    found: dict[tuple[int, ...], set[Any]] = {}
    shape_out = nested.shape_of(y)
    for place, value in zip(itertools.product(*map(range, shape_out)), nested.ravel(y), strict=True):
        found.setdefault(place[2:], set()).update(value.sources)
    return {u: [(min(axis), max(axis)) for axis in zip(*seen, strict=True)] for u, seen in found.items()}


def disagreement(net: Network, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the output positions whose stated field is not what the loops read.

    Where the field lies on the input its ends are read; where it overhangs, what is read lies within.
    """
    field = summary(net, shape).receptive_field
    assert isinstance(field, tuple)
    wrong, inside = [], 0
    for position, read in read_by_the_loops(net, shape).items():
        for u, axis, size, (first, last) in zip(position, field, shape[2:], read, strict=True):
            low = axis.offset + u * axis.stride
            high = low + axis.size - 1
            on_input = low >= 0 and high < size
            inside += on_input
            if (first, last) != (low, high) if on_input else not low <= first <= last <= high:
                wrong.append(position)
    assert inside
    return wrong


def line(kernel: int, **arguments: Any) -> Conv1d:
    return Conv1d(1, 1, kernel, **arguments)


def image(*kernel: int, **arguments: Any) -> Conv2d:
    return Conv2d(1, 1, kernel, **arguments)


PATHS = Branches(line(1), line(5, padding=2), AvgPool1d(3, 1, 1))
NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "residual": (Seq(line(3, padding=1), Residual(line(3, padding=1)), line(2, stride=2)), (1, 1, 12)),
    "branches": (Seq(line(2, stride=2), PATHS), (1, 1, 16)),
    "lopsided": (Branches(Seq(Pad((2, 0)), line(3)), Seq(Pad((0, 4)), line(5))), (1, 1, 9)),
    "downsampling": (Residual(image(3, 3, stride=2, padding=1), AvgPool2d(2)), (1, 1, 8, 8)),
    "two axes": (
        Seq(image(3, 1, stride=(2, 1)), Residual(image(1, 3, padding=(0, 1)))),
        (1, 1, 7, 5),
    ),
    "transposed": (Seq(line(3, stride=2), ConvTranspose1d(1, 1, 3, padding=1)), (1, 1, 15)),
    "equal regions": (Seq(image(2, 2), AdaptiveAvgPool2d((2, 3))), (1, 1, 5, 7)),
    "identity": (Seq(line(2), AdaptiveAvgPool1d(4)), (1, 1, 5)),
    "dilation": (Residual(line(3, padding=2, dilation=2), line(1)), (1, 1, 9)),
}


@pytest.mark.parametrize("name", list(NETS))
def test_field_is_what_the_loops_read(name: str) -> None:
    body, shape = NETS[name]
    assert disagreement(Network(body), shape) == []


def test_a_field_of_one_path_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "joined", lambda fields: fields[0])
    body, shape = NETS["branches"]
    assert disagreement(Network(body), shape) != []


IMAGE = (1, 4, 8, 8)
SEEN: Field = (ReceptiveField(3, 2, -1),) * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ReLU6", SEEN),
        ("LeakyReLU", SEEN),
        ("PReLU(4)", SEEN),
        ("GELU", SEEN),
        ("Softplus", SEEN),
        ("Dropout", SEEN),
        ("LocalResponseNorm(3)", SEEN),
        ("Softmax(1)", SEEN),
        ("Softmax(-1)", None),
        ("BatchNorm2d(4)", SEEN),
        ("BatchNorm2d(4, training=True)", None),
        ("InstanceNorm2d(4)", None),
        ("GroupNorm(2, 4)", None),
        ("LayerNorm(8)", None),
        ("GlobalAvgPool", None),
        ("AdaptiveAvgPool2d(1)", None),
        ("AdaptiveAvgPool2d(8)", SEEN),
        ("AdaptiveMaxPool2d(4)", (ReceptiveField(5, 4, -1),) * 2),
        ("AdaptiveMaxPool2d(3)", UNAVAILABLE),
        ("Flatten", None),
        ("Linear(8, 2)", None),
        ("ConvTranspose2d(4, 1, 2, stride=2)", UNAVAILABLE),
        ("PixelShuffle(2)", UNAVAILABLE),
        ("Unfold(3)", UNAVAILABLE),
        ("Conv1d(4, 1, 1)", None),
    ],
)
def test_what_operators_see(text: str, expected: Field) -> None:
    shape = IMAGE if text != "Conv1d(4, 1, 1)" else (1, 4, 8)
    assert through(parse_operator(text), [SEEN], [shape]) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(), ()], ()),
        ([SEEN, SEEN], SEEN),
        ([(ReceptiveField(3, 1, -1),), ()], (ReceptiveField(3, 1, -1),)),
        ([(ReceptiveField(3, 1, -2),), (ReceptiveField(3, 1, 2),)], (ReceptiveField(7, 1, -2),)),
        ([(ReceptiveField(3, 1, 0),), (ReceptiveField(3, 2, 0),)], UNAVAILABLE),
        ([SEEN, None], None),
        ([None, UNAVAILABLE], UNAVAILABLE),
        ([SEEN, (ReceptiveField(3, 2, -1),)], UNAVAILABLE),
    ],
)
def test_fields_of_paths_that_join(fields: list[Field], expected: Field) -> None:
    assert joined(fields) == expected
    assert joined(fields[::-1]) == expected


def test_a_seam_along_an_axis_has_no_field() -> None:
    assert through(Concat(2), [SEEN, SEEN], [IMAGE, IMAGE]) == UNAVAILABLE
    assert through(Concat(1), [SEEN, SEEN], [IMAGE, IMAGE]) == SEEN
    assert through(Add(), [SEEN, None], [IMAGE, (1, 4, 1, 1)]) is None
