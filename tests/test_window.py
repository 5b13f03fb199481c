"""Sliding-window arithmetic against torch and against enumeration."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from cnnspec import window
from cnnspec.errors import ShapeError
from cnnspec.ops.combine import Add, Concat
from cnnspec.ops.conv import Conv1d, Conv2d
from cnnspec.ops.flatten import Flatten
from cnnspec.ops.linear import Linear
from cnnspec.ops.pad import Pad
from cnnspec.ops.pointwise import ReLU
from cnnspec.ops.pool import AvgPool3d, MaxPool2d
from cnnspec.ops.softmax import Softmax
from cnnspec.window import ReceptiveField, Window, same_padding, source

POOLS = [
    (n, k, s, p, d)
    for n, k, s, d in itertools.product(range(1, 17), range(1, 5), range(1, 6), (1, 2))
    for p in range(k // 2 + 1)
]


def torch_size(n: int, k: int, s: int, p: int, d: int, *, ceil: bool) -> int:
    """Return the output size of torch's max pooling, 0 where it refuses."""
    try:
        return int(torch.nn.functional.max_pool1d(torch.zeros(1, 1, n), k, s, p, d, ceil_mode=ceil).shape[-1])
    except RuntimeError:
        return 0


@pytest.mark.parametrize("ceil", [False, True])
def test_output_size_is_torchs_everywhere(ceil: bool) -> None:
    wrong, naive_wrong, fitting = [], 0, 0
    for n, k, s, p, d in POOLS:
        expected = torch_size(n, k, s, p, d, ceil=ceil)
        wrong += [(n, k, s, p, d)] * (max(0, Window(k, s, p, p, d, ceil).output_size(n)) != expected)
        naive = math.ceil((n + 2 * p - d * (k - 1) - 1) / s) + 1
        fits = n + 2 * p >= d * (k - 1) + 1
        fitting += fits
        naive_wrong += ceil and fits and naive != expected
    assert wrong == []
    assert (len(POOLS), fitting) == (1280, 1145)
    assert naive_wrong == (254 if ceil else 0)  # what the plain formula with ceil gets wrong of 1145


def test_floor_size_is_torchs_for_convolutions() -> None:
    weights = {k: torch.zeros(1, 1, k) for k in range(1, 5)}
    for n, k, s, p, d in itertools.product(range(1, 10), weights, (1, 2, 3), range(4), (1, 2, 3)):
        size = Window(k, s, p, p, d).output_size(n)
        if size >= 1:
            y = torch.nn.functional.conv1d(torch.zeros(1, 1, n), weights[k], None, s, p, d)
            assert y.shape[-1] == size
        else:
            with pytest.raises(RuntimeError):
                torch.nn.functional.conv1d(torch.zeros(1, 1, n), weights[k], None, s, p, d)


@pytest.mark.parametrize("ceil", [False, True])
def test_input_sizes_are_all_and_only_those(ceil: bool) -> None:
    grid = itertools.product(range(1, 5), range(1, 5), (0, 1, 2), (0, 1, 2), (1, 2))
    for kernel, stride, before, after, dilation in grid:
        one = Window(kernel, stride, before, after, dilation, ceil)
        by_output: dict[int, list[int]] = {}
        for size in range(1, 60):
            by_output.setdefault(one.output_size(size), []).append(size)
        for output in range(-1, 8):
            expected = by_output.get(output, []) if output >= 1 else []
            assert list(one.input_sizes(output)) == expected, (one, output)


def test_input_sizes_of_operators_leave_out_what_the_call_refuses() -> None:
    for op in (
        Conv2d(1, 1, (3, 2), 2, (4, 1), padding_mode="reflect"),
        Conv2d(1, 1, (3, 2), 2, (4, 1), padding_mode="circular"),
        Conv2d(1, 1, (2, 5), padding="same"),
        MaxPool2d((3, 2), 2, (1, 0), ceil_mode=True),
        AvgPool3d((1, 3, 2), 1, (0, 1, 0)),
    ):
        for output in range(1, 6):
            found = op.input_sizes(*[output] * op.spatial)
            accepted: list[set[int]] = [set() for _ in range(op.spatial)]
            for axis, size in itertools.product(range(op.spatial), range(1, 14)):
                sizes = [9] * op.spatial
                sizes[axis] = size
                try:
                    shape = op.output_shape((1, 1, *sizes))
                except ShapeError:
                    continue
                if shape[2 + axis] == output:
                    accepted[axis].add(size)
            assert [set(sizes) & set(range(1, 14)) for sizes in found] == accepted, op


def test_remainder_is_what_the_transpose_must_add() -> None:
    for n, k, s, p, d in itertools.product(range(1, 13), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        one = Window(k, s, p, p, d)
        if one.output_size(n) < 1:
            continue
        last = one.start(one.output_size(n) - 1) + one.span - 1
        assert one.remainder(n) == n - 1 + p - last
        if one.remainder(n) < max(s, d):
            y = torch.zeros(1, 1, one.output_size(n))
            w = torch.zeros(1, 1, k)
            back = torch.nn.functional.conv_transpose1d(y, w, None, s, p, one.remainder(n), dilation=d)
            assert back.shape[-1] == n


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_padding_keeps_the_size_as_torch_does() -> None:
    for k, d in itertools.product(range(1, 7), range(1, 4)):
        before, after = same_padding(k, d)
        assert 0 <= after - before <= 1
        assert Window(k, 1, before, after, d).output_size(11) == 11
        row = list(range(1, 12))
        x, w = torch.tensor([[row]]).double(), torch.arange(1.0, k + 1).double()[None, None]
        same = torch.nn.functional.conv1d(x, w, dilation=d, padding="same")
        ours = Conv1d(1, 1, k, padding="same", dilation=d, bias=False)
        assert ours.reference([row], [[list(range(1, k + 1))]]) == same[0].tolist()


def test_taps_total_counts_taps() -> None:
    for n, k, s, p, d in itertools.product(range(1, 8), (1, 2, 3), (1, 2), (0, 1, 3), (1, 2)):
        one = Window(k, s, p, p, d)
        touched = [
            (u, t) for u in range(max(0, one.output_size(n))) for t in range(k) if 0 <= u * s - p + t * d < n
        ]
        assert one.taps_total(n) == len(touched)
    both = [Window(3, 1, 1, 1), Window(2, 2)]
    assert window.taps_total(both, (4, 5)) == sum(len(taps) for taps in window.taps(both, (4, 5)))


@pytest.mark.parametrize(
    ("border", "numpys"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_borders_are_numpys(border: str, numpys: Any) -> None:
    for size in range(1, 6):
        reach = {"reflect": size - 1, "circular": size}.get(border, 7)
        indices = [source(i, size, border) for i in range(-reach, size + reach)]
        assert indices == np.pad(np.arange(size), reach, mode=numpys).tolist()
        assert window.smallest_size(border, reach) <= size
        assert border == "replicate" or window.smallest_size(border, reach + 1) > size
    assert [source(i, 2, "zeros") for i in (-1, 0, 1, 2)] == [None, 0, 1, None]


def test_extent_ends_behind_the_padding() -> None:
    one = Window(kernel=3, stride=3, before=1, after=1, ceil_mode=True)
    assert one.output_size(6) == 3
    assert [one.extent(u, 6) for u in range(3)] == [3, 3, 2]


def test_receptive_fields_compose_associatively_and_start_from_a_pixel() -> None:
    a, b, c = ReceptiveField(3, 2, -1), ReceptiveField(5, 3, -2), ReceptiveField(2, 1, 4)
    assert a.then(b).then(c) == a.then(b.then(c))
    assert ReceptiveField().then(a) == a == a.then(ReceptiveField())
    assert a.centre == 0


REFUSED = [
    (Window(0), 5, "kernel=0 on spatial axis 0 must be at least 1"),
    (Window(2, 0), 5, "stride=0"),
    (Window(2, dilation=0), 5, "dilation=0"),
    (Window(2), 0, "empty"),
    (Window(4, before=1, after=1), 1, "enlarge the input or the padding"),
]


@pytest.mark.parametrize(("one", "size", "words"), REFUSED)
def test_check_fits_names_what_is_wrong(one: Window, size: int, words: str) -> None:
    with pytest.raises(ShapeError, match=words) as caught:
        window.check_fits([one], [size])
    assert caught.value.values["axis"] == 0


# Symbolic sizes


class Symbol:
    """A size that is not known: it can be computed with and compared, and is no integer."""

    def __init__(self, text: str, hint: int) -> None:
        self.text, self.hint = text, hint

    def _with(self, other: Any, sign: str, *, swapped: bool = False) -> "Symbol":
        sides = [self, other if isinstance(other, Symbol) else Symbol(str(other), other)]
        left, right = sides[::-1] if swapped else sides
        text = f"({left.text} {sign} {right.text})"
        return Symbol(text, eval(f"{left.hint} {sign} {right.hint}"))

    def __add__(self, other: Any) -> "Symbol":
        return self._with(other, "+")

    def __radd__(self, other: Any) -> "Symbol":
        return self._with(other, "+", swapped=True)

    def __sub__(self, other: Any) -> "Symbol":
        return self._with(other, "-")

    def __mul__(self, other: Any) -> "Symbol":
        return self._with(other, "*")

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> "Symbol":
        return self._with(other, "//")

    def __lt__(self, other: Any) -> bool:
        return bool(self.hint < getattr(other, "hint", other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.hint > getattr(other, "hint", other))

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __eq__(self, other: object) -> bool:
        return bool(self.hint == getattr(other, "hint", other))

    __hash__ = None  # type: ignore[assignment]


SYMBOLIC = [
    Conv2d(3, 8, 3, stride=2, padding=1),
    Conv2d(3, 6, (2, 5), padding="same", groups=3),
    Conv2d(3, 8, 3, padding=2, padding_mode="reflect"),
    Conv2d(3, 8, 3, padding=2, padding_mode="circular"),
    MaxPool2d(3, 2, 1, ceil_mode=True),
    MaxPool2d(2, return_indices=True),
]


@pytest.mark.parametrize("op", SYMBOLIC, ids=repr)
def test_symbolic_sizes_stay_symbolic(op: Any) -> None:
    n, h, w = Symbol("n", 4), Symbol("h", 9), Symbol("w", 12)
    shape: Any = op.output_shape((n, 3, h, w))
    assert tuple(getattr(size, "hint", size) for size in shape) == op.output_shape((4, 3, 9, 12))
    assert shape[0] is n
    assert "h" in shape[2].text
    larger = {"n": 5, "h": 11, "w": 16}
    predicted = [eval(size.text, larger) if isinstance(size, Symbol) else size for size in shape]
    assert tuple(predicted) == op.output_shape((5, 3, 11, 16))


def test_other_operators_take_symbols_too() -> None:
    n, h, w = Symbol("n", 4), Symbol("h", 9), Symbol("w", 12)
    asked: list[tuple[Any, Any]] = [
        (Linear(12, 5), ((n, h, w),)),
        (Flatten(), ((n, 3, h, w),)),
        (Softmax(1), ((n, h),)),
        (ReLU(), ((n, h),)),
        (Add(), ((n, 3, h), (1, h))),
        (Concat(), ((n, 3, h), (n, 5, h))),
        (Pad((1, 2)), ((n, h),)),
        (Pad((1, 2), mode="reflect"), ((n, 3, h),)),
        (AvgPool3d(2, 1), ((n, 3, h, w, h),)),
    ]
    for op, shapes in asked:
        shape = op.output_shape(*shapes)
        plain = op.output_shape(*(tuple(getattr(size, "hint", size) for size in one) for one in shapes))
        assert tuple(getattr(size, "hint", size) for size in shape) == plain
        assert shape[0] is n or "n" in shape[0].text


@pytest.mark.parametrize("op", SYMBOLIC, ids=repr)
def test_sizes_of_a_traced_torch_program(op: Any) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC] * 4)
    mode = FakeTensorMode(shape_env=ShapeEnv())
    fake = mode.from_tensor(torch.zeros(4, 3, 9, 12), symbolic_context=context)
    shape = op.output_shape((fake.shape[0], 3, *fake.shape[2:]))
    assert isinstance(shape[0], torch.SymInt)
    assert isinstance(shape[2], torch.SymInt)
    assert tuple(int(size) for size in shape) == op.output_shape((4, 3, 9, 12))
