"""Max-unpooling: back from max-pooling, gradients in three ways, and who refuses what."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

import cnnspec
from cnnspec import nested, ops
from cnnspec.derivatives import pullback
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array
from cnnspec.ops.pool import MaxPool2d
from cnnspec.ops.unpool import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d
from tests.ops.acceptance import CALL, CONSTRUCTOR, Answer, Question, disagreements, ours, tally
from tests.ops.draws import Draw, Seeded, draws, integers
from tests.ops.pool_checks import DTYPES, dual_gradient
from tests.ops.torch_layers import tensor, torch_output

NAMES = ops.FAMILIES["unpool"]


def cotangent(draw: Draw) -> Array:
    return integers(Seeded(draw.seed + 1).rng, draw.output_shape)


def test_what_was_pooled_comes_back() -> None:
    """Zeiler & Fergus: the maxima at their places, zero elsewhere; pooling that again gives the maxima again."""
    x = [[[1, 5, 2, 0], [3, 4, 8, 1], [7, 0, 2, 2], [6, 1, 9, 3]]]
    pool = MaxPool2d(2, return_indices=True)
    maxima, indices = pool.reference(x)
    y = MaxUnpool2d(2).reference(maxima, indices)
    assert y == [[[0, 5, 0, 0], [0, 0, 8, 0], [7, 0, 0, 0], [0, 0, 9, 0]]]
    assert pool.reference(y) == (maxima, indices)


@pytest.mark.parametrize("backend", ["torch", "torch-nn"])
@pytest.mark.parametrize("output_size", [(5, 4), (1, 1, 5, 4)])
def test_backends_take_output_size(backend: str, output_size: tuple[int, ...]) -> None:
    """The layer of torch.nn takes it when it is called."""
    line = f"max_unpool2d(kernel_size=2, output_size={output_size}, input=(1, 1, 2, 2), indices=(1, 1, 2, 2))"
    statuses = {row["law"]: row["status"] for row in cnnspec.replay(line, backend)}
    assert statuses.keys() >= {"forward", "backward", "places"}
    assert set(statuses.values()) == {"pass"}


# Gradients


def unpooled(op: Any, indices: Array, x: Array) -> Array:
    return op.reference(x, indices)


def wrong_gradients(name: str, count: int) -> list[Draw]:
    """Return the cases in which gradients, dual numbers and autograd are not one."""
    wrong = []
    for draw in draws(name, count, cost=250, empty=False):
        (x, indices), g = draw.operands(), cotangent(draw)
        dx, none = draw.op.gradients(g, x, indices)
        assert none is None
        assert nested.shape_of(dx) == draw.inputs[0]
        leaf = tensor(x).requires_grad_()
        (theirs,) = torch.autograd.grad(torch_output(draw, [leaf, tensor(indices)]), leaf, tensor(g))
        duals = dual_gradient(partial(unpooled, draw.op, indices), x, nested.ravel(g))
        wrong += [draw] * (not nested.ravel(dx) == duals == theirs.flatten().tolist())
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_dual_numbers_and_autograd(name: str) -> None:
    assert wrong_gradients(name, 200) == []


def test_wrong_gradients_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_gathered(op: Any, g: Array, x: Array, indices: Array) -> list[Array]:
        return [x, None]

    monkeypatch.setattr(MaxUnpool2d, "gradients", not_gathered)
    assert wrong_gradients("max_unpool2d", 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_the_gradient_is_unpooling(name: str) -> None:
    for draw in draws(name, 30, cost=250, empty=False):
        (x, indices), g = draw.operands(), cotangent(draw)
        (back,) = pullback(lambda dy, d=draw, a=(x, indices): d.op.gradients(dy, *a)[0], x, [g])
        assert back == draw.op.reference(x, indices)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_terms_are_single_copies(name: str) -> None:
    for draw in draws(name, 30, cost=250, empty=False):
        g = cotangent(draw)
        terms, none = draw.op.gradient_terms(g, *draw.operands())
        assert none is None
        absolute = [abs(v) for v in nested.ravel(draw.op.gradients(g, *draw.operands())[0])]
        assert terms.magnitude == absolute
        assert terms.roundings == [int(v > 0) for v in absolute]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_copies_are_bit_for_bit(name: str, dtype: str) -> None:
    """NaN, infinities and negative zeros too, contiguous and channels last; what is left is +0."""
    special = [-0.0, 0.0, math.nan, -1.0, math.inf, -math.inf, 2.0]
    for draw in draws(name, 30, cost=250, empty=False):
        (_, indices), op = draw.operands(), draw.op
        row = [special[(i * 5 + draw.seed) % 7] for i in range(math.prod(draw.inputs[0]))]
        expected = [
            float(v) for v in nested.ravel(op.reference(nested.unravel(row, draw.inputs[0]), indices))
        ]
        x = torch.tensor(row, dtype=DTYPES[dtype]).reshape(draw.inputs[0])
        memory = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
        strided = [x.contiguous(memory_format=memory)] if memory and x.dim() == op.spatial + 2 else []
        for t in (x, *strided):
            y = torch_output(draw, [t, tensor(indices)])
            assert [repr(v) for v in y.flatten().tolist()] == [repr(v) for v in expected], draw


def test_domain_reaches_its_corners() -> None:
    all_draws = [draw for name in NAMES for draw in draws(name, 150)]
    given = [draw.op for draw in all_draws if draw.op.output_size]
    assert {len(op.output_size) - op.spatial for op in given} == {0, 2}
    assert any(draw.op.padding != (0,) * draw.op.spatial for draw in all_draws)
    assert any(s < k for d in all_draws for s, k in zip(d.op.stride, d.op.kernel_size, strict=True))
    for draw in all_draws:
        _, indices = draw.operands()
        per_plane = math.prod(draw.inputs[0][-draw.op.spatial :])
        flat = nested.ravel(indices)
        rows = [flat[i : i + per_plane] for i in range(0, len(flat), per_plane)]
        assert all(len(set(row)) == per_plane for row in rows)


# Acceptance


def theirs(name: str, arguments: dict[str, Any], shapes: tuple[Any, ...], index: int = 0) -> Answer:
    """Return who refuses in torch, or the output shape; `output_size` is an argument of the call there."""
    more = dict(arguments)
    size = {"output_size": more.pop("output_size")} if "output_size" in more else {}
    try:
        layer = getattr(torch.nn, name)(**more)
    except (TypeError, ValueError, RuntimeError):
        return CONSTRUCTOR
    try:
        indices = torch.full(shapes[1], index, dtype=torch.int64)
        return tuple(layer(torch.zeros(shapes[0]), indices, **size).shape)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return CALL


def e(name: str, answer: Answer, *shape: int, indices: Any = None, **arguments: Any) -> Any:
    return pytest.param(name, arguments, (shape, indices or shape), answer, id=f"{name} {shape} {arguments}")


TABLE = [
    e("MaxUnpool2d", (2, 3, 6, 4), 2, 3, 3, 2, kernel_size=2),
    e("MaxUnpool2d", (3, 6, 4), 3, 3, 2, kernel_size=2),
    e("MaxUnpool2d", CALL, 3, 2, kernel_size=2),
    e("MaxUnpool2d", (0, 3, 6, 4), 0, 3, 3, 2, kernel_size=2),
    e("MaxUnpool2d", CALL, 2, 0, 3, 2, kernel_size=2),
    e("MaxUnpool2d", CALL, 2, 3, 0, 2, kernel_size=2),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, indices=(2, 3, 3, 1)),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, indices=(1, 2, 3, 3, 2)),
    e("MaxUnpool2d", (2, 3, 7, 5), 2, 3, 3, 2, kernel_size=2, output_size=(7, 5)),
    e("MaxUnpool2d", (2, 3, 5, 3), 2, 3, 3, 2, kernel_size=2, output_size=(9, 9, 5, 3)),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, output_size=(8, 5)),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, output_size=(4, 4)),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, output_size=(3, 6, 4)),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, output_size=6),
    e("MaxUnpool2d", (2, 3, 5, 4), 2, 3, 3, 2, kernel_size=3, stride=1),
    e("MaxUnpool2d", (2, 3, 4, 2), 2, 3, 3, 2, kernel_size=2, padding=1),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, padding=3),
    e("MaxUnpool2d", (2, 3, 8, 6), 2, 3, 3, 2, kernel_size=2, padding=-1),
    e("MaxUnpool2d", (2, 3, 2, 2), 2, 3, 3, 2, kernel_size=2, stride=0),
    e("MaxUnpool2d", (2, 3, 1, 2), 2, 3, 3, 2, kernel_size=3, stride=-1),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=(2,)),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, stride=()),
    e("MaxUnpool2d", CALL, 2, 3, 3, 2, kernel_size=2, padding=(0,)),
    e("MaxUnpool1d", (2, 3, 6), 2, 3, 3, kernel_size=(2,)),
    e("MaxUnpool1d", CALL, 3, kernel_size=2),
    e("MaxUnpool3d", (2, 3, 6, 4, 8), 2, 3, 3, 2, 4, kernel_size=2),
    e("MaxUnpool3d", CALL, 2, 3, 3, 2, 4, kernel_size=2, stride=0),
    e("MaxUnpool3d", CALL, 2, 3, 3, 2, 4, kernel_size=2, stride=(1, 1, -1)),
]


@pytest.mark.parametrize(("name", "arguments", "shapes", "answer"), TABLE)
def test_table(name: str, arguments: dict[str, Any], shapes: tuple[Any, ...], answer: Answer) -> None:
    assert ours(name, arguments, shapes) == answer
    assert theirs(name, arguments, shapes) == answer


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "output_size"])
@pytest.mark.parametrize("value", [2.0, True, "2", (1, 2.0)])
def test_what_is_no_integer_is_refused_at_once(name: str, value: Any) -> None:
    """torch waits for the call, and takes True; here it is no argument."""
    with pytest.raises(ArgumentError, match=name):
        MaxUnpool2d(**{"kernel_size": 1} | {name: value})


@pytest.mark.parametrize("operator", [MaxUnpool1d, MaxUnpool2d, MaxUnpool3d])
@pytest.mark.parametrize("index", [-1, 2, 2**32])
def test_an_index_outside_is_refused(operator: Any, index: int) -> None:
    """As by torch."""
    op, shape = operator((2, *[1] * (operator.spatial - 1))), (1,) * (operator.spatial + 1)
    x, at = nested.unravel([5], shape), nested.unravel([index], shape)
    with pytest.raises(ShapeError, match=f"index {index} must be at least 0 and below 2"):
        op.reference(x, at)
    with pytest.raises(ShapeError, match=f"index {index}"):
        op.gradients(op.reference(x, nested.unravel([1], shape)), x, at)
    name = operator.__name__
    assert theirs(name, {"kernel_size": op.kernel_size}, (shape, shape), index) == CALL
    assert theirs(name, {"kernel_size": op.kernel_size}, (shape, shape), 1) == op.output_shape(shape, shape)


def questions(seed: int, count: int) -> Iterator[Question]:
    """Draw arguments and shapes that are legal but for one or two things, or not."""
    pick = Seeded(seed)
    for _ in range(count):
        axes = pick.choice((1, 2, 3))

        def sizes(usual: tuple[int, ...], *rare: int, axes: int = axes) -> int | tuple[int, ...]:
            values = tuple(pick.choice(pick.maybe(0.05, rare, usual)) for _ in range(axes))
            length = pick.maybe(0.04, pick.integer(0, axes), axes)
            return values[0] if pick.rng.random() < 0.4 else (values * 4)[:length]

        arguments: dict[str, Any] = {
            "kernel_size": sizes((1, 2, 3, 4), 0, -1),
            "stride": pick.maybe(0.4, None, sizes((1, 2, 3, 5), 0, -1)),
            "padding": pick.maybe(0.5, 0, sizes((0, 1, 1, 2), -1)),
        }
        image = tuple(pick.maybe(0.04, 0, pick.integer(1, 4)) for _ in range(axes))
        if pick.choice((True, False)):
            k, s = (arguments[n] if isinstance(arguments[n], int) else 2 for n in ("kernel_size", "stride"))
            given = [(n - 1) * s + k + pick.choice((0, 0, 0, 1, -1, 2)) for n in image]
            given = [1, 1, *given] if pick.choice((True, False)) else given
            arguments["output_size"] = pick.maybe(0.05, given[0], tuple(given)[pick.maybe(0.05, 1, 0) :])
        batch: tuple[int, ...] = pick.choice(((1,), (2,), (), (0,)))
        shape = (*batch, pick.maybe(0.06, 0, pick.integer(1, 3)), *image)[pick.maybe(0.04, 1, 0) :]
        other = pick.maybe(0.04, (*shape[:-1], shape[-1] + 1), shape)
        yield f"MaxUnpool{axes}d", arguments, (shape, other)


@pytest.mark.parametrize("seed", range(2))
def test_random_arguments_and_shapes(seed: int) -> None:
    asked = list(questions(seed, 2500))
    assert disagreements(asked, theirs) == []
    _, call, accepted = tally(asked)
    assert min(call, accepted) > 500
    assert all(hasattr(cnnspec, name) for name, _, _ in asked)


def test_wrong_rules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MaxUnpool2d.output_shape

    def unpadded(op: Any, *shapes: Any) -> Any:
        return right(MaxUnpool2d(op.kernel_size, op.stride, 0, op.output_size), *shapes)

    monkeypatch.setattr(MaxUnpool2d, "output_shape", unpadded)
    assert disagreements(questions(0, 500), theirs)
