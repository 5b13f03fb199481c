"""Fractional max pooling: windows by hand, values and gradients against torch, samples, and who refuses what."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch

from cnnspec import nested, ops
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array
from cnnspec.ops import fractional_pool
from cnnspec.ops.fractional_pool import FractionalMaxPool2d, FractionalMaxPool3d, starts, sure_samples
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, tally
from tests.ops.draws import Draw, Seeded, draws, integers
from tests.ops.pool_checks import DTYPES, dual_gradient
from tests.ops.torch_layers import tensor, torch_output

NAMES = ops.FAMILIES["fractional_pool"]
F = torch.nn.functional


def plain(draw: Draw) -> Any:
    """Return the operator, without indices."""
    return type(draw.op)(**{k: v for k, v in draw.arguments.items() if k != "return_indices"})


# Windows


@pytest.mark.parametrize(
    ("u", "size", "kernel", "outputs", "expected"),
    [
        (0.0, 7, 2, 4, [0, 1, 3, 5]),  # a = 5/3: 0, 1 2/3, 3 1/3, then 7 - 2
        (0.5, 7, 2, 4, [0, 2, 4, 5]),  # 5/6, 2 1/2, 4 1/6
        (0.75, 7, 2, 4, [0, 1, 3, 5]),  # 1 1/4, 2 11/12, 4 7/12, each less 1
        (0.5, 9, 3, 4, [0, 2, 4, 6]),  # a = 2, whatever u
        (0.9375, 6, 1, 2, [0, 5]),
        (0.3, 5, 2, 1, [3]),  # one window lies at the end
        (0.3, 5, 5, 1, [0]),
        (0.3, 5, 2, 0, []),
        (0.6, 6, 3, 4, [0, 1, 2, 3]),
    ],
)
def test_windows_by_hand(u: float, size: int, kernel: int, outputs: int, expected: list[int]) -> None:
    assert starts(u, size, kernel, outputs) == expected


@pytest.mark.parametrize("name", NAMES)
def test_windows_lie_inside_and_never_go_back(name: str) -> None:
    for draw in draws(name, 100):
        sizes = draw.inputs[0][-draw.op.spatial :]
        for size, kernel, outputs in zip(sizes, draw.op._kernel, draw.op._outputs(sizes), strict=True):
            for u in sure_samples(size, kernel, outputs):
                found = starts(u, size, kernel, outputs)
                assert found == sorted(found)
                assert len(found) == outputs
                assert found[0] == 0 or outputs == 1
                assert found[-1] == size - kernel
                steps = {b - a for a, b in itertools.pairwise(found)}
                assert max(steps, default=0) - min(steps, default=0) <= 1


def test_the_first_sample_is_of_the_width_in_two_dimensions_and_of_the_depth_in_three() -> None:
    """Of 6 elements and 3 windows of 1, those of u = 0 start at 0, 2, 5, those of 1/4 at 0, 3, 5."""
    row = [0, 1, 2, 3, 4, 5]
    plane = [[[10 * i + j for j in row] for i in row]]
    y = FractionalMaxPool2d(1, 3).reference(plane, [[[0.25, 0]]])
    assert y == [[[10 * i + j for j in (0, 3, 5)] for i in (0, 2, 5)]]
    volume = [[[[100 * d + 10 * i + j for j in row] for i in row] for d in row]]
    y = FractionalMaxPool3d(1, 3).reference(volume, [[[0.25, 0, 0]]])
    assert y == [[[[100 * d + 10 * i + j for j in (0, 2, 5)] for i in (0, 2, 5)] for d in (0, 3, 5)]]


# Samples


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_drawn_samples_place_windows_in_every_format_alike(name: str, dtype: str) -> None:
    """(p + u) a, each step rounded to the format, has the same integer part."""
    for draw in draws(name, 100):
        sizes = draw.inputs[0][-draw.op.spatial :]
        for size, kernel, outputs in zip(sizes, draw.op._kernel, draw.op._outputs(sizes), strict=True):
            for u in sure_samples(size, kernel, outputs):
                a = torch.tensor(size - kernel).to(DTYPES[dtype]) / max(1, outputs - 1)
                p = torch.arange(max(0, outputs - 1)).to(DTYPES[dtype])
                rounded = ((p + float(u)) * a).long() - (float(u) * a).long()
                assert [*rounded.tolist(), size - kernel] == starts(u, size, kernel, outputs)


def test_other_samples_need_not() -> None:
    """2/3 of a sixteenth before an integer, 8 bits fall on it: (2 + 1/8) 7/3 = 5 - 1/24."""
    assert Fraction(1, 8) not in sure_samples(9, 2, 4)
    a = torch.tensor(7.0).bfloat16() / 3
    assert ((2 + torch.tensor(0.125).bfloat16()) * a).item() != (2 + 0.125) * 7 / 3
    long = sure_samples(200, 2, 90)
    assert len(long) == 1


# Values and gradients


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_dual_numbers_and_autograd(name: str) -> None:
    assert wrong_gradients(name, 200) == []


def wrong_gradients(name: str, count: int) -> list[Draw]:
    """Return the cases in which gradients, dual numbers and autograd are not one."""
    wrong = []
    for draw in draws(name, count, cost=250, empty=False):
        (x, samples), op = draw.operands(), plain(draw)
        g = integers(Seeded(draw.seed + 1).rng, draw.output_shape)
        dx, none = op.gradients(g, x, samples)
        assert none is None
        leaf = tensor(x).requires_grad_()
        y = torch_output(draw, [leaf, tensor(samples)])
        (theirs,) = torch.autograd.grad(y[0] if isinstance(y, tuple) else y, leaf, tensor(g))
        duals = dual_gradient(partial(pooled, op, samples), x, nested.ravel(g))
        wrong += [draw] * (not nested.ravel(dx) == duals == theirs.flatten().tolist())
    return wrong


def pooled(op: Any, samples: Array, x: Array) -> Array:
    return op.reference(x, samples)


def test_wrong_windows_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the comparison with autograd: u is not used."""
    right = starts
    monkeypatch.setattr(fractional_pool, "starts", lambda u, *axis: right(0, *axis))
    assert wrong_gradients("fractional_max_pool2d", 40)
    assert wrong_gradients("fractional_max_pool3d", 40)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_maxima_are_copies_and_nan_and_the_first_of_equals_win(name: str, dtype: str) -> None:
    """Signed zeros, NaN and infinities, contiguous and channels last; indices too."""
    for draw in draws(name, 60, cost=400, empty=False):
        (_, samples), op = draw.operands(), type(draw.op)(**{**draw.arguments, "return_indices": True})
        for values in ((0.0, -0.0), (0.0, -0.0, float("nan"), 1.0), (float("nan"), -float("inf"), -1.0)):
            count = torch.Size(draw.inputs[0]).numel()
            row = [values[(i * i + 3 * i + i // 5 + draw.seed) % len(values)] for i in range(count)]
            maxima, indices = op.reference(nested.unravel(row, draw.inputs[0]), samples)
            x, u = tensor(nested.unravel(row, draw.inputs[0]), DTYPES[dtype]), tensor(samples, DTYPES[dtype])
            memory = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
            strided = [x.contiguous(memory_format=memory)] if memory and x.dim() == op.spatial + 2 else []
            for t in (x, *strided):
                y, where = getattr(F, name)(
                    t, op.kernel_size, op.output_size, op.output_ratio, True, _random_samples=u
                )
                expected = [repr(float(v)) for v in nested.ravel(maxima)]
                assert [repr(v) for v in y.flatten().tolist()] == expected, draw
                assert where.flatten().tolist() == nested.ravel(indices), draw


def test_domain_reaches_its_corners() -> None:
    found = [draw for name in NAMES for draw in draws(name, 200)]
    laws = {law.name: law for law in ops.spec(NAMES[0]).laws}
    assert any(laws["strides"].applies(draw.op, draw.inputs) for draw in found)
    assert any(draw.op.output_ratio for draw in found)
    assert any(0 in draw.inputs[0] for draw in found)
    assert any(len(draw.inputs[0]) == draw.op.spatial + 1 for draw in found)
    assert any(draw.inputs[1][0] > max(1, draw.inputs[0][0]) for draw in found)
    for draw in found:
        _, samples = draw.operands()
        assert all(0 <= u < 1 for u in nested.ravel(samples))


# Who refuses what


def theirs(name: str, arguments: dict[str, Any], shapes: tuple[Any, ...]) -> Answer:
    """Return who refuses in torch, or the output shape; the constructor takes the samples there."""
    samples = torch.full(shapes[1], 0.5)
    try:
        layer = getattr(torch.nn, name)(**arguments, _random_samples=samples)
    except (TypeError, ValueError, IndexError):
        return CONSTRUCTOR
    try:
        return tuple(layer(torch.zeros(shapes[0])).shape)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return CALL


def e(name: str, answer: Answer, *shape: int, samples: Any = None, **arguments: Any) -> Any:
    axes = int(name[-2])
    batch = shape[0] if len(shape) == axes + 2 else 1
    wanted = samples or (batch, shape[-axes - 1] if len(shape) > axes else 1, axes)
    return pytest.param(name, arguments, (shape, wanted), answer, id=f"{name} {shape} {samples} {arguments}")


two, three = partial(e, "FractionalMaxPool2d"), partial(e, "FractionalMaxPool3d")
TABLE = [
    two((2, 3, 4, 3), 2, 3, 5, 5, kernel_size=2, output_size=(4, 3)),
    two((3, 4, 4), 3, 5, 5, kernel_size=2, output_size=4),
    two(CALL, 2, 3, 5, 5, kernel_size=2, output_size=5),
    two((2, 3, 2, 3), 2, 3, 5, 5, kernel_size=2, output_ratio=(0.5, 0.7)),
    two((2, 3, 0, 0), 2, 3, 5, 5, kernel_size=2, output_ratio=0.1),
    two((2, 3, 0, 5), 2, 3, 5, 5, kernel_size=(5, 1), output_size=(0, 5)),
    two(CALL, 2, 3, 5, 5, kernel_size=2, output_size=-1),
    two((0, 3, 4, 4), 0, 3, 5, 5, kernel_size=2, output_size=4),
    two(CALL, 2, 0, 5, 5, kernel_size=2, output_size=4),
    two(CALL, 2, 3, 0, 5, kernel_size=2, output_size=4),
    two(CALL, 5, 5, kernel_size=2, output_size=4),
    two(CALL, 1, 1, 1, 5, 5, kernel_size=2, output_size=4),
    two(CALL, 2, 3, 5, 5, kernel_size=(2,), output_size=4),
    two(CALL, 2, 3, 5, 5, kernel_size=2, output_size=(4, 4, 4)),
    two(CALL, 2, 3, 5, 5, kernel_size=2, output_ratio=(0.5, 0.5, 0.5)),
    two(CONSTRUCTOR, 2, 3, 5, 5, kernel_size=2, output_ratio=(0.5,)),
    two(CONSTRUCTOR, 2, 3, 5, 5, kernel_size=2, output_ratio=1.0),
    two(CONSTRUCTOR, 2, 3, 5, 5, kernel_size=2, output_ratio=(0.5, 0)),
    two(CONSTRUCTOR, 2, 3, 5, 5, kernel_size=2, output_ratio=0.5, output_size=2),
    two(CONSTRUCTOR, 2, 3, 5, 5, kernel_size=2),
    two((2, 3, 4, 4), 2, 3, 5, 5, samples=(3, 3, 2), kernel_size=2, output_size=4),
    two(CALL, 2, 3, 5, 5, samples=(1, 3, 2), kernel_size=2, output_size=4),
    two(CALL, 2, 3, 5, 5, samples=(2, 4, 2), kernel_size=2, output_size=4),
    two(CALL, 2, 3, 5, 5, samples=(2, 3, 3), kernel_size=2, output_size=4),
    two(CALL, 2, 3, 5, 5, samples=(3, 2), kernel_size=2, output_size=4),
    three((2, 3, 3, 1, 2), 2, 3, 5, 5, 5, kernel_size=2, output_size=(3, 1, 2)),
    three(CALL, 2, 3, 5, 5, 5, kernel_size=2, output_size=4),
    three((3, 3, 3, 3), 3, 5, 5, 5, kernel_size=2, output_size=3),
    three((2, 3, 2, 3, 4), 2, 3, 5, 5, 6, kernel_size=2, output_ratio=(0.5, 0.7, 0.7)),
    three(CALL, 5, 5, 5, kernel_size=2, output_size=3),
    three(CONSTRUCTOR, 2, 3, 5, 5, 5, kernel_size=0, output_size=3),
    three(CONSTRUCTOR, 2, 3, 5, 5, 5, kernel_size=(1, 1, -1), output_size=3),
    three(CONSTRUCTOR, 2, 3, 5, 5, 5, kernel_size=2, output_ratio=(0.5, 0.5)),
]


@pytest.mark.parametrize(("name", "arguments", "shapes", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shapes: tuple[Any, ...], answer: Answer) -> None:
    assert ours(name, arguments, shapes) == answer
    assert theirs(name, arguments, shapes) == answer


@pytest.mark.parametrize("kernel", [0, -1])
def test_a_kernel_without_elements_is_refused(kernel: int) -> None:
    """Where torch returns -infinity."""
    shapes = ((1, 1, 5, 5), (1, 1, 2))
    with pytest.raises(ShapeError, match="kernel"):
        FractionalMaxPool2d(kernel, 3).output_shape(*shapes)
    assert theirs("FractionalMaxPool2d", {"kernel_size": kernel, "output_size": 3}, shapes) == (1, 1, 3, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((n, v) for n in ("kernel_size", "output_size") for v in (2.0, True, "2")),
        ("output_ratio", "0.5"),
        ("output_ratio", (0.5, True)),
    ],
)
def test_what_is_no_number_is_refused_at_once(name: str, value: Any) -> None:
    other = {} if name == "output_ratio" else {"output_size": 1}
    with pytest.raises(ArgumentError, match=name):
        FractionalMaxPool2d(**{"kernel_size": 1, **other, name: value})


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes = pick.choice((2, 3))

        def sizes(*usual: int, rare: tuple[int, ...] = (), axes: int = axes) -> int | tuple[int, ...]:
            values = tuple(
                pick.choice(rare if rare and pick.rng.random() < 0.05 else usual) for _ in range(axes)
            )
            length = pick.maybe(0.05, pick.integer(1, 4), axes)
            return values[0] if pick.rng.random() < 0.4 else (values * 4)[:length]

        arguments: dict[str, Any] = {"kernel_size": sizes(1, 2, 3)}
        if pick.rng.random() < 0.6:
            arguments["output_size"] = sizes(1, 2, 3, 4, rare=(0, -1))
        if pick.rng.random() < (0.04 if "output_size" in arguments else 0.95):
            ratios = tuple(pick.choice((0.3, 0.5, 0.8, pick.maybe(0.1, 1.0, 0.6))) for _ in range(axes))
            arguments["output_ratio"] = ratios[0] if pick.rng.random() < 0.3 else ratios
        image = tuple(pick.maybe(0.03, 0, pick.integer(3, 8)) for _ in range(axes))
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        channels = pick.maybe(0.05, 0, pick.integer(1, 3))
        shape = (*batch, channels, *image)[pick.maybe(0.04, 1, 0) :]
        samples = ((batch or (1,))[0] + pick.maybe(0.1, 1, 0), pick.maybe(0.04, 4, channels), axes)
        yield f"FractionalMaxPool{axes}d", arguments, (shape, samples)


@pytest.mark.parametrize("seed", range(2))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = list(questions(seed, 2500))
    assert disagreements(asked, theirs) == []
    constructor, call, accepted = tally(asked)
    assert min(call, accepted) > 500
    assert constructor > 0


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FractionalMaxPool3d, "_spare", 0)
    assert disagreements(questions(0, 500), theirs)
