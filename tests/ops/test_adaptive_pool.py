"""Adaptive and global pooling: windows by hand, gradients in three ways, bounds, and who refuses what."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

import cnnspec
from cnnspec import nested, ops
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array
from cnnspec.ops.adaptive_pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    _AdaptivePool,
)
from cnnspec.ops.global_pool import GlobalAvgPool
from tests.ops.acceptance import CALL, Answer, Question, disagreements, ours, tally, theirs
from tests.ops.draws import Seeded, draws
from tests.ops.pool_checks import (
    DTYPES,
    check_bounds,
    floats,
    misses,
    random_values,
    safe_in_torch,
    wrong_gradients,
)

MAXIMA = ops.FAMILIES["adaptive_pool"][:3]
MEANS = (*ops.FAMILIES["adaptive_pool"][3:], "global_avg_pool")


# Windows


@pytest.mark.parametrize(
    ("size", "outputs", "windows"),
    [
        (10, 5, [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]),
        (5, 3, [(0, 2), (1, 4), (3, 5)]),
        (7, 2, [(0, 4), (3, 7)]),
        (7, 5, [(0, 2), (1, 3), (2, 5), (4, 6), (5, 7)]),
        (2, 3, [(0, 1), (0, 2), (1, 2)]),
        (1, 4, [(0, 1)] * 4),
        (4, 1, [(0, 4)]),
    ],
)
def test_windows_by_hand(size: int, outputs: int, windows: list[tuple[int, int]]) -> None:
    """floor(p L / O) to ceil((p + 1) L / O): of 5 into 3 they begin at 0, 5/3, 10/3 and end at 5/3, 10/3, 5."""
    assert AdaptiveAvgPool1d(outputs).regions((size,)) == [list(range(*window)) for window in windows]


def test_shapes_and_receptive_fields() -> None:
    assert AdaptiveAvgPool2d((None, 7)).output_shape((2, 3, 11, 5)) == (2, 3, 11, 7)
    assert AdaptiveAvgPool2d(1).receptive_field() == () == GlobalAvgPool().receptive_field()
    assert [r[0] for r in AdaptiveMaxPool2d((3, None)).input_sizes(3, 6)] == [1, 1]
    assert list(AdaptiveMaxPool2d((3, None)).input_sizes(2, 6)[0]) == []
    assert GlobalAvgPool().output_shape((8, 16, 7, 9)) == (8, 16, 1, 1)


# Gradients and bounds


@pytest.mark.parametrize("name", [*MAXIMA, *MEANS])
def test_gradients_are_dual_numbers_and_autograd(name: str) -> None:
    assert wrong_gradients(name, 200) == []


def test_wrong_windows_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the comparison with autograd: windows that end at the floor, but hold an element."""

    def regions(op: Any, sizes: tuple[int, ...]) -> Any:
        (size,), (count,) = sizes, op._outputs(sizes)
        ends = [max(p * size // count + 1, (p + 1) * size // count) for p in range(count)]
        return [list(range(p * size // count, end)) for p, end in enumerate(ends)]

    monkeypatch.setattr(_AdaptivePool, "regions", regions)
    assert wrong_gradients("adaptive_avg_pool1d", 30)
    assert wrong_gradients("adaptive_max_pool1d", 30)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in (*MAXIMA, *MEANS)
        for dtype in (*DTYPES,)[: 2 if name == "adaptive_avg_pool3d" else None]
    ],
)
def test_torch_keeps_the_bounds(name: str, dtype: str) -> None:
    """Contiguous and channels last; torch's adaptive_avg_pool3d adds up in 16 bits where the input has them."""
    assert check_bounds(name, dtype, 40) == []


@pytest.mark.parametrize("name", ["adaptive_avg_pool2d", "global_avg_pool"])
def test_bounds_are_sharp(name: str) -> None:
    """A float32 result that was rounded to 16 bits on the way is outside."""
    asked = [draw for draw in draws(name, 20, cost=500, empty=False) if safe_in_torch(draw)]
    assert len(check_bounds(name, "float32", 20, lambda y: y.half().float())) >= len(asked) * 3 // 4


def test_a_forgotten_element_is_outside_the_bound() -> None:
    """One of the nine of a window, all of one sign."""
    x = nested.elementwise(lambda v: abs(Fraction(v)) + 1, random_values(2, (1, 1, 3, 3), "float32"))
    (right,), (last,) = nested.ravel(GlobalAvgPool().reference(x)), nested.ravel(x)[-1:]
    assert misses(floats([right - last / 9]), [right], GlobalAvgPool().rounding_terms(x), "float32") == [0]
    assert misses(floats([right]), [right], GlobalAvgPool().rounding_terms(x), "float32") == []


def test_division_in_steps_is_within_the_bound_of_exact_sums() -> None:
    """1 / 3 / 3 in float32, as libraries divide, need not be 1 / 9 correctly rounded."""
    third = torch.tensor(1.0) / 3
    found = []
    for n in range(1, 200):
        x = [[[n, 0, 0], [0, 0, 0], [0, 0, 0]]]
        in_steps = (third * 0 + n) / 3 / 3
        terms = AdaptiveAvgPool2d(1).rounding_terms(x)
        assert terms.divisors == [9]
        assert terms.divisions == terms.roundings[0] == 2
        found.append(in_steps.item() != (third * 0 + n).div(9).item())
        assert misses([in_steps.item()], [Fraction(n, 9)], terms, "float32") == []
    assert any(found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAXIMA)
def test_maximum_of_signed_zeros_and_nan(name: str, dtype: str) -> None:
    """The first of equal zeros wins, of whichever sign; the last NaN wins. Contiguous and channels last alike."""
    for draw in draws(name, 40, cost=400, empty=False):
        op = type(draw.op)(draw.op.output_size, return_indices=True)
        for values in ((0.0, -0.0), (0.0, -0.0, math.nan, 1.0), (math.nan, -math.inf, -1.0)):
            count = math.prod(draw.inputs[0])
            row = [values[(i * i + 3 * i + i // 5 + draw.seed) % len(values)] for i in range(count)]
            maxima, indices = op.reference(nested.unravel(row, draw.inputs[0]))
            x = torch.tensor(row, dtype=DTYPES[dtype]).reshape(draw.inputs[0])
            layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
            for memory in [torch.contiguous_format] + (
                [layout] if layout and x.dim() == op.spatial + 2 else []
            ):
                function = getattr(torch.nn.functional, name)
                y, where = function(x.contiguous(memory_format=memory), op.output_size, return_indices=True)
                assert list(map(repr, y.flatten().tolist())) == list(map(repr, floats(maxima))), draw
                assert where.flatten().tolist() == nested.ravel(indices), draw


# Dialects


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        # windows of 3 - 1 * 1 = 2, one apart, of 3; of 5 into 3: stride 1, 5 - 2 = 3 elements
        (AdaptiveAvgPool1d(3), [[3, 6, 9, 0, 3]], [[6, 5, 4]]),
        (AdaptiveMaxPool1d(3), [[3, 2, 9, 0, 1]], [[9, 9, 9]]),
        (AdaptiveMaxPool1d(3, return_indices=True), [[3, 2, 9, 0, 1]], ([[9, 9, 9]], [[2, 2, 2]])),
    ],
)
def test_fixed_windows_by_hand(op: Any, x: Array, expected: Array) -> None:
    kind = "max" if isinstance(op, AdaptiveMaxPool1d) else "avg"
    dialect = ops.spec(f"adaptive_{kind}_pool1d").dialects[0]
    assert dialect.applies(op)
    assert not dialect.applies(type(op)(1))
    assert dialect.reference(op, x) == expected != op.reference(x)


def test_fixed_windows_are_the_same_where_they_divide_evenly() -> None:
    dialect, op = ops.spec("adaptive_avg_pool2d").dialects[0], AdaptiveAvgPool2d((2, 3))
    x = [[[i * j for i in range(9)] for j in range(4)]]
    assert dialect.reference(op, x) == op.reference(x)
    with pytest.raises(ShapeError):
        dialect.reference(AdaptiveAvgPool2d(5), x)


# Acceptance


def e(name: str, answer: Answer, output_size: Any, *shape: int) -> Any:
    return pytest.param(name, output_size, shape, answer, id=f"{name}({output_size}) {shape}")


TABLE = [
    e("AdaptiveAvgPool2d", (2, 3, 3, 3), 3, 2, 3, 6, 5),
    e("AdaptiveAvgPool2d", (3, 7, 5), (7, None), 3, 6, 5),
    e("AdaptiveAvgPool2d", (2, 3, 0, 0), 0, 2, 3, 6, 5),
    e("AdaptiveAvgPool2d", CALL, -1, 2, 3, 6, 5),
    e("AdaptiveAvgPool2d", CALL, None, 2, 3, 6, 5),
    e("AdaptiveAvgPool2d", CALL, (3,), 2, 3, 6, 5),
    e("AdaptiveAvgPool2d", CALL, (3, 3, 3), 2, 3, 6, 5),
    e("AdaptiveAvgPool2d", (2, 0, 3, 3), 3, 2, 0, 6, 5),
    e("AdaptiveAvgPool3d", CALL, 3, 2, 0, 6, 5, 4),
    e("AdaptiveMaxPool2d", CALL, 3, 2, 0, 6, 5),
    e("AdaptiveMaxPool2d", (0, 3, 3), 3, 0, 6, 5),
    e("AdaptiveMaxPool2d", CALL, 3, 2, 3, 0, 5),
    e("AdaptiveMaxPool2d", (0, 3, 3, 3), 3, 0, 3, 6, 5),
    e("AdaptiveMaxPool1d", CALL, (None,), 2, 3, 6),
    e("AdaptiveMaxPool1d", (2, 3, 4), (4,), 2, 3, 6),
    e("AdaptiveMaxPool1d", CALL, (), 2, 3, 6),
    e("AdaptiveMaxPool3d", (1, 2, 6, 3, 4), (None, 3, 4), 1, 2, 6, 5, 4),
    e("AdaptiveMaxPool3d", CALL, 3, 6, 5, 4),
]


@pytest.mark.parametrize(("name", "output_size", "shape", "answer"), TABLE)
def test_table(name: str, output_size: Any, shape: tuple[int, ...], answer: Answer) -> None:
    assert ours(name, {"output_size": output_size}, (shape,)) == answer
    assert theirs(name, {"output_size": output_size}, (shape,)) == answer


@pytest.mark.parametrize("value", [2.0, True, "2", (1, 2.0), (True, None)])
def test_what_is_no_integer_is_refused_at_once(value: Any) -> None:
    """torch waits for the call; here it is no argument."""
    with pytest.raises(ArgumentError, match="output_size"):
        AdaptiveAvgPool2d(value)


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw output sizes and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes, kind = pick.choice((1, 2, 3)), pick.choice(("Avg", "Max"))
        outputs = tuple(pick.maybe(0.06, pick.choice((0, -1)), pick.integer(1, 6)) for _ in range(axes))
        kept = tuple(pick.maybe(0.2, None, size) for size in outputs)
        length = pick.maybe(0.06, pick.integer(0, 4), axes)
        output_size = pick.choice((outputs[0], outputs, (kept * 4)[:length], pick.maybe(0.1, None, 2)))
        image = tuple(pick.maybe(0.05, 0, pick.integer(1, 5)) for _ in range(axes))
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        shape = (*batch, pick.maybe(0.1, 0, pick.integer(1, 3)), *image)
        shape = shape[pick.maybe(0.04, 1, 0) :]
        more = {"return_indices": pick.choice((True, False))} if kind == "Max" else {}
        yield f"Adaptive{kind}Pool{axes}d", {"output_size": output_size, **more}, (shape,)


def is_an_unchecked_mean(question: Question) -> bool:
    """Say whether torch takes the mean of the last axes, of as many as there are and of empty ones too."""
    name, arguments, (shape,) = question
    op = getattr(cnnspec, name)(**arguments)
    sizes = op.output_size if isinstance(op.output_size, tuple) else (op.output_size,) * op.spatial
    if "Avg" not in name or len(sizes) != op.spatial or (op.spatial == 1 and None in sizes):
        return False
    inputs = ((1,) * op.spatial + shape)[-op.spatial :]
    ones = all(given == 1 or (given is None and size == 1) for given, size in zip(sizes, inputs, strict=True))
    return ones and ours(*question) == CALL and theirs(*question) != CALL


def test_means_of_nothing_are_refused() -> None:
    """Where torch returns NaN, or an output of another number of axes than the input."""
    asked = [one for one in questions(0, 2000) if is_an_unchecked_mean(one)]
    assert asked
    for name, _, (shape,) in asked:
        assert 0 in shape or len(shape) <= int(name[-2])


@pytest.mark.parametrize("seed", range(2))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = [one for one in questions(seed, 2000) if not is_an_unchecked_mean(one)]
    assert disagreements(asked) == []
    constructor, call, accepted = tally(asked)
    assert min(call, accepted) > 400
    assert constructor == 0


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdaptiveAvgPool2d, "_first_full_axis", lambda op, shape: 1)
    assert disagreements(one for one in questions(0, 2000) if not is_an_unchecked_mean(one))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1, 1, 1), (2, 0, 4), (2, 3, 4, 0)])
def test_global_pooling_refuses(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="1 to 3 spatial axes"):
        cnnspec.GlobalAvgPool().output_shape(shape)
