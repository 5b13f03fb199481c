"""Normalizations of whole layers: float64 says of every element what balls say, and finds what is wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnspec import data, exact, ops
from cnnspec.backends.targets import resolve
from cnnspec.calls import Call
from cnnspec.cases import REGIMES, Case
from cnnspec.compare import Verdict, verdict
from cnnspec.exact import balls, groups, normalized
from cnnspec.exact.expansions import Expansion
from cnnspec.exact.norm_gradients import rests
from cnnspec.exact.results import Exact
from cnnspec.models import direct
from cnnspec.shrink import generate
from cnnspec.strategies import cases
from tests.near_results import answers, same_quantities, same_verdicts

Values = np.ndarray[Any, Any]

DTYPES = ("float64", "float32", "bfloat16", "float16")
OPERATORS = ("batch_norm1d", "batch_norm2d", "batch_norm3d", "instance_norm2d", "group_norm", "layer_norm")


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve small groups; and let the balls' own radius, that of the largest element, show in no bound."""
    monkeypatch.setattr(normalized, "LEAST", 1)
    monkeypatch.setattr(balls, "PRECISION", 1400)


def both(case: Case) -> dict[str, tuple[Exact, Exact]]:
    """Return what float64 and what balls know of outputs, gradients and running statistics."""
    given, operator = data.operands(case), case.operation
    output = normalized.outputs(operator, given)
    if output is None:
        return {}
    found = {"output": (output, balls.outputs(operator, [*given.values()]))}
    dy = data.grad_output(case, output.shape)
    mine = normalized.gradients(operator, dy, given, case.differentiated)
    theirs = balls.gradients(operator, dy, given, case.differentiated)
    assert mine is not None
    found |= {f"gradient of {name}": (mine[name], right) for name, right in theirs.items()}
    new = normalized.updates(operator, given)
    if new is not None:
        found |= {f"new {name}": (new[name], right) for name, right in balls.updates(operator, given).items()}
    return found


def has_groups(case: Case) -> bool:
    """Say whether each group has more than one value: one alone is what balls, asked about it alone, refuse."""
    operation: Any = case.operation
    return all(len(group) > 1 for group in operation.partition(case.inputs[0])[0])


@pytest.mark.parametrize("operator", OPERATORS)
def test_verdicts_are_those_of_balls(operator: str) -> None:
    rng, compared, quick, caught = np.random.default_rng(1), 0, 0, 0
    for dtype in DTYPES:
        for case in generate(cases(operator, dtype, regimes=REGIMES, where=has_groups), 3, 9):
            for name, (found, right) in both(case).items():
                assert same_quantities(found, right), (str(case), name)
                given = answers(right, dtype, rng)
                assert all(same_verdicts(found, right, one, dtype) for one in given), (str(case), name)
                caught += not verdict(found, given[0], dtype, direct(dtype)).holds
                quick += bool((found.near.off < found.near.size * 2.0**-60 + 1e-300).any())
            compared += 1
    assert compared >= 34  # over 200 for all operators
    assert quick > compared
    assert caught > compared


@pytest.mark.parametrize("operator", OPERATORS)
def test_verdicts_on_torch_are_those_of_balls(operator: str) -> None:
    (backend,) = resolve("torch")
    compared = 0
    for case in generate(cases(operator, "float32", regimes=REGIMES, where=has_groups), 4, 12):
        call = Call(backend, case, data.operands(case))
        given = {"output": call.outputs()[0]}
        given |= {f"new {name}": call.read(call.arrays[name]) for name in case.operation.buffer_shapes()}
        pairs = both(case)
        if pairs and case.differentiated:
            dy = data.grad_output(case, pairs["output"][0].shape)
            found = Call(backend, case, data.operands(case)).gradients(dy, case.differentiated)
            given |= {f"gradient of {name}": one for name, one in found.items()}
        for name, (mine, right) in pairs.items():
            assert same_verdicts(mine, right, np.asarray(given[name].values, np.float64), case.dtype), str(
                case
            )
            compared += 1
    assert compared > 12


LOST = (
    "layer_norm(normalized_shape=(3,), input=(1, 3), dtype='float16', data={'input': [1, 2, 999]})",
    "batch_norm2d(num_features=2, training=True, input=(2, 2, 40, 40), dtype='float16', regime='dense', seed=3)",
    "group_norm(num_groups=1, num_channels=2, input=(1, 2, 20, 20), dtype='float16', regime='dense', seed=1)",
    "layer_norm(normalized_shape=(300,), input=(2, 300), dtype='float16', regime='dense', seed=1)",
)


@pytest.mark.parametrize("line", LOST)
def test_sums_that_float16_does_not_hold_excuse_nothing(line: str) -> None:
    """They are kept as they are accumulated, in float32."""
    case = Case.parse(line)
    given = data.operands(case)
    results = {"output": exact.evaluate(case.spec, case.operation, given)}
    dy = data.grad_output(case, results["output"].shape)
    results |= exact.gradients(case.spec, case.operation, dy, given, case.differentiated)
    results |= exact.updates(case.operation, given)
    for name, right in results.items():
        count = int(np.prod(right.shape))
        found = verdict(right, np.full(count, np.nan), "float16", direct("float16"))
        assert len(found.wrong) == count, name


# A layer in NumPy, as it must be and as it must not

C = 12
ARRAYS = ("output", "input", "weight", "bias", "running_mean", "running_var")


def layer(
    given: dict[str, Values], dy: Values, *, training: bool, eps: float = 1e-5, momentum: float = 0.1,
    unbiased: bool = False, centred: bool = True, tracked: float = 1.0, through_mean: bool = True,
    through_variance: bool = True,
) -> dict[str, Values]:  # fmt: skip
    """Return a batch normalization's output, gradients and running statistics, computed in float64."""
    x, m, v, w, b = (
        one.reshape(-1, 1, 1) if one.ndim == 1 else one.transpose(1, 0, 2, 3) for one in given.values()
    )
    x, g = x.reshape(C, 1, -1), dy.transpose(1, 0, 2, 3).reshape(C, 1, -1)
    n = x.shape[2]

    def average(values: Values) -> Values:
        return np.asarray(values.mean(axis=2, keepdims=True))

    mean = average(x)
    variance = average((x - mean) ** 2)
    new = [(1 - momentum) * m + momentum * mean]
    new.append((1 - momentum) * v + momentum * variance * (n / (n - 1) if tracked else 1))
    if not training:
        new, mean, variance = [m, v], m, v
    r = 1 / np.sqrt((variance * n / (n - 1) if unbiased else variance) + eps)
    z = (x - mean * centred) * r
    h = g * w
    shift, slope = average(h) * through_mean, average(h * z) * through_variance
    dx = (h - shift - z * slope) * r if training else h * r
    flat = [z * w + b, dx, average(g * z) * n, average(g) * n, *new]
    images = (C, given["input"].shape[0], *given["input"].shape[2:])
    return {
        name: one.reshape(images).transpose(1, 0, 2, 3) if one.size > C else one.reshape(C)
        for name, one in zip(ARRAYS, flat, strict=True)
    }


def verdicts(training: bool, **wrong: Any) -> dict[str, Verdict]:
    """Return the verdicts on a layer of 40,000 elements in float64."""
    case = Case(
        "batch_norm2d", {"num_features": C, "training": training}, ((2, C, 40, 41),), "float64", "dense"
    )
    given = data.operands(case)
    dy = data.grad_output(case, case.inputs[0])
    spec, operator = ops.spec("batch_norm2d"), case.operation
    right = {"output": exact.evaluate(spec, operator, given)}
    right |= exact.gradients(spec, operator, dy, given, ["input", "weight", "bias"])
    right |= exact.updates(operator, given)
    assert all(isinstance(one, groups.Grouped) for one in right.values())
    found = layer(given, dy, training=training, **wrong)
    return {
        name: verdict(one, found[name].ravel(), "float64", direct("float64")) for name, one in right.items()
    }


@pytest.mark.parametrize("training", [False, True])
def test_a_right_layer_is_held(training: bool) -> None:
    found = verdicts(training)
    assert [*found] == [*ARRAYS][: 6 if training else 4]
    assert all(one.holds and one.judged == one.elements for one in found.values())


@pytest.mark.parametrize(
    ("training", "wrong", "caught"),
    [
        (False, {"eps": 1.0001e-5}, {"output", "input", "weight"}),
        (True, {"eps": 1e-3}, {"output", "input", "weight"}),
        (False, {"centred": False}, {"output", "weight"}),
        (True, {"unbiased": True}, {"output", "input", "weight"}),
        (True, {"tracked": 0.0}, {"running_var"}),
        (True, {"momentum": 0.9}, {"running_mean", "running_var"}),
        (True, {"through_mean": False}, {"input"}),
        (True, {"through_variance": False}, {"input"}),
    ],
)
def test_a_wrong_layer_is_caught(training: bool, wrong: dict[str, Any], caught: set[str]) -> None:
    found = verdicts(training, **wrong)
    assert {name for name, one in found.items() if not one.holds} == caught


# Wrong exact results, each of which the comparison with balls must catch


def groups_confused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(groups.Groups, "back", lambda self, rows: rows.reshape(-1))


def claims_too_much(patch: pytest.MonkeyPatch) -> None:
    right = groups.Columns.write

    def write(self: Any, row: int, numbers: Any, bound: Any) -> None:
        right(self, row, Expansion(numbers.h), bound)

    patch.setattr(groups.Columns, "write", write)


def mean_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(normalized.Backward, "_input_gradient", _without_shift)


def _without_shift(self: Any, g: int, w: Values) -> Any:
    a = normalized._times(self.factor(g), w)
    zero = normalized.NOTHING
    return rests(self.x[g], self.dy[g], self.mean(g), zero, zero, a)


def unbiased_updates(patch: pytest.MonkeyPatch) -> None:
    right = normalized.Normalization._updated

    def updated(self: Any, k: int) -> Any:
        found = right(self, k)
        return {**found, "running_var": found["running_mean"]}

    patch.setattr(normalized.Normalization, "_updated", updated)


def smaller_deviations(patch: pytest.MonkeyPatch) -> None:
    right = normalized.Normalization.bounds

    def bounds(self: Any, g: int) -> Any:
        found = right(self, g)
        found.distance = found.distance * 0.5
        found.z = found.z * 0.5
        return found

    patch.setattr(normalized.Normalization, "bounds", bounds)


def quantities_hold() -> bool:
    arguments = {"num_features": 3, "training": True}
    case = Case("batch_norm1d", arguments, ((4, 3, 5),), "float32", "dense", grad=("input", "weight", "bias"))
    return all(same_quantities(*pair) for pair in both(case).values())


def test_the_right_results_agree_with_balls() -> None:
    assert quantities_hold()


@pytest.mark.parametrize(
    "wrong", [groups_confused, claims_too_much, mean_forgotten, unbiased_updates, smaller_deviations]
)
def test_wrong_results_are_caught(wrong: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wrong(patch)
        assert not quantities_hold()
