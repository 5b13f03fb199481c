"""Healthy fills conform, wrong ones are found, and a verdict is wrong no more often than it says."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cnnspec.distributions import Fill, Finding, check_initialiser
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.initialisers import (
    Constant,
    Dirac,
    FanInUniform,
    Initialiser,
    KaimingNormal,
    KaimingUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    XavierNormal,
    XavierUniform,
    default_initialiser,
)
from cnnspec.nested import Shape

CONV = (24, 8, 3, 3)  # fan_in 72, fan_out 216
DEPTHWISE = (64, 1, 3, 3)
LINEAR = (40, 100)
SEEDS = range(0, 10000, 1000)  # fills of one check take seeds that follow each other
SQRT5 = math.sqrt(5)


def with_torch(function: Callable[..., Any], *, dtype: torch.dtype = torch.float32, **arguments: Any) -> Fill:
    """Return the fill that a function of torch.nn.init is."""

    def fill(shape: Shape, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        tensor = torch.empty(shape, dtype=dtype)
        function(tensor, **arguments)
        return tensor

    return fill


def label(value: object) -> str:
    """Return a name that is the same in every process."""
    return "fill" if callable(value) else str(value)


INIT = torch.nn.init
RANDOM: list[tuple[Initialiser, Fill, Shape]] = [
    (Uniform(), with_torch(INIT.uniform_), LINEAR),
    (Uniform(-0.1, 0.1), with_torch(INIT.uniform_, a=-0.1, b=0.1), (5000,)),
    (Uniform(-1, 3), with_torch(INIT.uniform_, a=-1, b=3, dtype=torch.float64), CONV),
    (Normal(), with_torch(INIT.normal_), CONV),
    (Normal(5, 0.01), with_torch(INIT.normal_, mean=5, std=0.01), (3, 3)),
    (Normal(0, 0.02), with_torch(INIT.normal_, std=0.02, dtype=torch.float64), LINEAR),
    (TruncatedNormal(), with_torch(INIT.trunc_normal_), CONV),
    (TruncatedNormal(0, 1, -1, 2), with_torch(INIT.trunc_normal_, a=-1, b=2), LINEAR),
    (TruncatedNormal(0, 1, 0.5, 0.75), with_torch(INIT.trunc_normal_, a=0.5, b=0.75), LINEAR),
    (TruncatedNormal(1, 0.5, 0, 2), with_torch(INIT.trunc_normal_, mean=1, std=0.5, a=0, b=2), LINEAR),
    (XavierUniform(), with_torch(INIT.xavier_uniform_), CONV),
    (XavierUniform(5 / 3), with_torch(INIT.xavier_uniform_, gain=5 / 3), LINEAR),
    (XavierNormal(), with_torch(INIT.xavier_normal_), CONV),
    (XavierNormal(2), with_torch(INIT.xavier_normal_, gain=2), DEPTHWISE),
    (FanInUniform(), with_torch(INIT.kaiming_uniform_, a=SQRT5), CONV),
    *(
        (rule(a, mode, name), with_torch(function, a=a, mode=mode, nonlinearity=name), shape)
        for rule, function in (
            (KaimingUniform, INIT.kaiming_uniform_),
            (KaimingNormal, INIT.kaiming_normal_),
        )
        for a, mode, name, shape in (
            (0, "fan_in", "leaky_relu", CONV),
            (0, "fan_out", "relu", CONV),
            (0.2, "fan_in", "leaky_relu", DEPTHWISE),
            (0, "fan_in", "tanh", LINEAR),
            (0, "fan_out", "linear", LINEAR),
            (0, "fan_in", "selu", CONV),
        )
    ),
    (XavierUniform(), with_torch(INIT.xavier_uniform_, dtype=torch.float16), CONV),
    (XavierUniform(), with_torch(INIT.xavier_uniform_, dtype=torch.bfloat16), CONV),
    (KaimingNormal(), with_torch(INIT.kaiming_normal_, dtype=torch.float16), CONV),
    (KaimingNormal(), with_torch(INIT.kaiming_normal_, dtype=torch.bfloat16), CONV),
]


@pytest.mark.parametrize(("initialiser", "fill", "shape"), RANDOM, ids=label)
def test_torch_init_conforms(initialiser: Initialiser, fill: Fill, shape: Shape) -> None:
    for seed in SEEDS:
        finding = check_initialiser(fill, initialiser, shape, seed=seed)
        assert finding.holds, finding.statement


@pytest.mark.parametrize(
    ("initialiser", "fill", "shape"),
    [
        (Constant(0.1), with_torch(INIT.constant_, val=0.1), CONV),
        (Constant(0.1), with_torch(INIT.constant_, val=0.1, dtype=torch.bfloat16), CONV),
        (Constant(1), with_torch(INIT.ones_), LINEAR),
        (Constant(0), with_torch(INIT.zeros_), (5,)),
        (Dirac(), with_torch(INIT.eye_), LINEAR),
        (Dirac(3), with_torch(INIT.dirac_, groups=3), CONV),
    ],
    ids=label,
)
def test_fixed_values_of_torch_conform(initialiser: Initialiser, fill: Fill, shape: Shape) -> None:
    finding = check_initialiser(fill, initialiser, shape)
    assert finding.holds, finding.statement
    assert finding.p_value == 1


LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "Linear": lambda: torch.nn.Linear(100, 40),
    "Conv1d": lambda: torch.nn.Conv1d(6, 80, 5, groups=2),
    "Conv2d": lambda: torch.nn.Conv2d(8, 64, 3),
    "Conv3d": lambda: torch.nn.Conv3d(4, 40, 3),
    "ConvTranspose1d": lambda: torch.nn.ConvTranspose1d(8, 100, 5),
    "ConvTranspose2d": lambda: torch.nn.ConvTranspose2d(16, 40, 3, groups=2),
    "ConvTranspose3d": lambda: torch.nn.ConvTranspose3d(4, 60, 2),
    "BatchNorm1d": lambda: torch.nn.BatchNorm1d(16),
    "BatchNorm2d": lambda: torch.nn.BatchNorm2d(16),
    "BatchNorm3d": lambda: torch.nn.BatchNorm3d(16),
    "InstanceNorm2d": lambda: torch.nn.InstanceNorm2d(16, affine=True),
    "GroupNorm": lambda: torch.nn.GroupNorm(2, 16),
    "LayerNorm": lambda: torch.nn.LayerNorm((3, 16)),
}


@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("name", LAYERS)
def test_defaults_of_torch_layers_conform(name: str, parameter: str) -> None:
    layer = LAYERS[name]()
    weight_shape, shape = tuple(layer.weight.shape), tuple(getattr(layer, parameter).shape)  # type: ignore[arg-type]

    def fill(shape: Shape, seed: int) -> Any:
        torch.manual_seed(seed)
        layer.reset_parameters()  # type: ignore[operator]
        return getattr(layer, parameter).detach().numpy()

    for seed in SEEDS:
        finding = check_initialiser(
            fill, default_initialiser(name, parameter), weight_shape, shape=shape, seed=seed
        )
        assert finding.holds, finding.statement


def uniform(low: float, high: float) -> Fill:
    return lambda shape, seed: np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def normal(mean: float, std: float) -> Fill:
    return lambda shape, seed: np.random.default_rng(seed).normal(mean, std, shape).astype(np.float32)


def changed(fill: Fill, change: Callable[[Any], Any]) -> Fill:
    return lambda shape, seed: change(fill(shape, seed))


def mirrored(array: Any) -> Any:
    array[1::2] = -array[::2]
    return array


def with_outliers(array: Any) -> Any:
    """Put one value in 250 at the lower bound."""
    array.reshape(-1)[::250] = -2
    return array


GLOROT, HE, DEFAULT = math.sqrt(6 / (72 + 216)), math.sqrt(2 / 72), 1 / math.sqrt(72)
GROUPED = (64, 4, 3, 3)  # Conv2d(16, 64, 3, groups=4): fan_in 36
WRONG: dict[str, tuple[Initialiser, Fill, Shape]] = {
    "fan_out for fan_in": (KaimingNormal(), normal(0, math.sqrt(2 / 216)), CONV),
    "fan_in for fan_out": (
        KaimingUniform(mode="fan_out"),
        uniform(-math.sqrt(6 / 72), math.sqrt(6 / 72)),
        CONV,
    ),
    "variance for std": (KaimingNormal(), normal(0, HE**2), CONV),
    "std for variance": (KaimingNormal(), normal(0, math.sqrt(HE)), CONV),
    "gain forgotten": (KaimingNormal(), normal(0, math.sqrt(1 / 72)), CONV),
    "half the range": (XavierUniform(), uniform(-GLOROT / 2, GLOROT / 2), CONV),
    "one side": (XavierUniform(), uniform(0, GLOROT), CONV),
    "sqrt(3) for sqrt(6)": (XavierUniform(), uniform(-math.sqrt(3 / 288), math.sqrt(3 / 288)), CONV),
    "sqrt(6) for sqrt(3)": (
        KaimingUniform(nonlinearity="linear"),
        uniform(-math.sqrt(6 / 72), math.sqrt(6 / 72)),
        CONV,
    ),
    "std for bound": (XavierUniform(), uniform(-math.sqrt(2 / 288), math.sqrt(2 / 288)), CONV),
    "groups ignored": (FanInUniform(), uniform(-1 / math.sqrt(144), 1 / math.sqrt(144)), GROUPED),
    "kernel left out": (KaimingNormal(), normal(0, math.sqrt(2 / 8)), CONV),
    "normal for uniform": (FanInUniform(), normal(0, math.sqrt(1 / 216)), CONV),
    "uniform for normal": (KaimingNormal(), uniform(-HE * math.sqrt(3), HE * math.sqrt(3)), CONV),
    "off the mean": (KaimingNormal(), normal(HE / 4, HE), CONV),
    "off the mean, uniform": (Uniform(-1, 1), uniform(-0.75, 1), CONV),
    "rows repeat": (FanInUniform(), changed(uniform(-DEFAULT, DEFAULT), lambda w: w[:1].repeat(24, 0)), CONV),
    "channels repeat": (
        FanInUniform(),
        changed(uniform(-DEFAULT, DEFAULT), lambda w: w[:, :1].repeat(8, 1)),
        CONV,
    ),
    "kernels are constant": (
        FanInUniform(),
        changed(uniform(-DEFAULT, DEFAULT), lambda w: w[..., :1].repeat(3, 3)),
        CONV,
    ),
    "rows are mirrored": (KaimingNormal(), changed(normal(0, HE), mirrored), CONV),
    "sorted": (KaimingNormal(), changed(normal(0, HE), lambda w: np.sort(w, axis=None).reshape(CONV)), CONV),
    "seed ignored": (KaimingNormal(), lambda shape, seed: normal(0, HE)(shape, 0), CONV),
    "cut at two std": (KaimingNormal(), with_torch(INIT.trunc_normal_, std=HE, a=-2 * HE, b=2 * HE), CONV),
    "not cut": (TruncatedNormal(), normal(0, 1), CONV),
    "clipped, not drawn again": (TruncatedNormal(), changed(normal(0, 1), lambda w: w.clip(-2, 2)), CONV),
    "cut at multiples of std": (
        TruncatedNormal(0, 0.5, -2, 2),
        with_torch(INIT.trunc_normal_, std=0.5, a=-1, b=1),
        CONV,
    ),
    # An inverse distribution function evaluated in few bits: github.com/pytorch/pytorch/issues/145498
    "outliers": (TruncatedNormal(0, 0.02, -2, 2), changed(normal(0, 0.02), with_outliers), CONV),
    "zeros": (KaimingNormal(), with_torch(INIT.zeros_), CONV),
    "one NaN": (KaimingNormal(), changed(normal(0, HE), lambda w: np.where(w == w.max(), math.nan, w)), CONV),
    "one inf": (KaimingNormal(), changed(normal(0, HE), lambda w: np.where(w == w.max(), math.inf, w)), CONV),
    "one value above": (
        Uniform(-1, 1),
        changed(
            uniform(-1, 1), lambda w: np.where(w == w.max(), np.nextafter(np.float32(1), np.float32(2)), w)
        ),
        CONV,
    ),
    "transposed": (XavierUniform(), changed(uniform(-GLOROT, GLOROT), lambda w: w.swapaxes(0, 1)), CONV),
    "other constant": (Constant(0.1), with_torch(INIT.constant_, val=0.1 + 2**-26), CONV),
    "no group": (Dirac(3), with_torch(INIT.dirac_), CONV),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_fills_are_found(name: str) -> None:
    initialiser, fill, shape = WRONG[name]
    for seed in SEEDS:
        finding = check_initialiser(fill, initialiser, shape, seed=seed)
        assert not finding.holds, finding.statement
        assert finding.p_value <= 1e-9


def two_valued(shape: Shape, seed: int) -> Any:
    """Return quartiles of Uniform(0, 1): right in location and spread."""
    return np.random.default_rng(seed).choice([0.25, 0.75], shape).astype(np.float32)


EACH: dict[str, tuple[Initialiser, Fill]] = {
    "Kolmogorov-Smirnov": (Uniform(), two_valued),
    "location": (Normal(), normal(0.25, 1)),
    "spread": (Normal(), normal(0, 1.25)),
    "sum at lag 72": WRONG["rows are mirrored"][:2],
    "difference at lag 1": WRONG["sorted"][:2],
    "difference at lag 9": WRONG["channels repeat"][:2],
    "difference at lag 72": WRONG["rows repeat"][:2],
    "difference at lag 1728": WRONG["seed ignored"][:2],
    "lower tail of 1": WRONG["cut at two std"][:2],
    "upper tail of 1": WRONG["cut at two std"][:2],
    "lower tail of 8": WRONG["outliers"][:2],
}


@pytest.mark.parametrize("name", EACH)
def test_each_kind_of_test_finds_what_it_is_for(name: str) -> None:
    initialiser, fill = EACH[name]
    finding = check_initialiser(fill, initialiser, CONV)
    assert finding.p_values[name] * len(finding.p_values) <= 1e-9


@pytest.mark.parametrize(
    ("initialiser", "fill"),
    [
        (Uniform(-1, 1), uniform(-1, 1)),
        (KaimingNormal(), normal(0, HE)),
        (XavierUniform(), with_torch(INIT.xavier_uniform_, dtype=torch.float16)),
    ],
    ids=label,
)
def test_p_values_are_honest(initialiser: Initialiser, fill: Fill) -> None:
    """Each is at most 0.1 in a tenth of the runs, but for luck of a probability of 1e-9."""
    runs = [
        check_initialiser(fill, initialiser, (8, 8, 3, 3), seed=seed, draws=1152) for seed in range(0, 600, 2)
    ]
    allowed = stats.binom.isf(1e-9, len(runs), 0.1)
    for name in runs[0].p_values:
        assert sum(run.p_values[name] <= 0.1 for run in runs) <= allowed, name


@pytest.mark.parametrize(
    ("bound", "nearest_above"),
    [(0.1, "0.10000000149011612"), (0.7, "0.7000000476837158")],  # to nearest, 0.1 rounds up and 0.7 down
)
def test_the_bound_is_rounded_outward(bound: float, nearest_above: str) -> None:
    """A fill may return the first float32 above the bound, but not the next one."""
    above = np.float32(nearest_above)
    assert float(np.nextafter(above, np.float32(0))) < bound < float(above)

    def with_highest(value: Any) -> Finding:
        fill = changed(uniform(-bound, bound), lambda w: np.where(w == w.max(), value, w))
        return check_initialiser(fill, Uniform(-bound, bound), CONV)

    assert with_highest(above).holds
    beyond = with_highest(np.nextafter(above, np.float32(1)))
    assert not beyond.holds
    assert f"outside [-{nearest_above}, {nearest_above}]" in beyond.statement


def test_a_bound_may_come_from_a_formula_in_float64() -> None:
    """Eight operations, each of a relative error of at most 2^-53, make it improbable; ten impossible."""
    for operations in (8, 10):  # even, because numbers above 1 are 2^-52 apart

        def fill(shape: Shape, seed: int, reached: float = 1 + operations * 2**-53) -> Any:
            array = np.random.default_rng(seed).uniform(-1, 1, shape)
            return np.where((array == array.max()) & (seed == 0), reached, array)

        assert (check_initialiser(fill, Uniform(-1, 1), CONV).p_value > 0) == (operations == 8)


def test_bfloat16_in_float32_arrays() -> None:
    rounded = changed(with_torch(INIT.constant_, val=0.1, dtype=torch.bfloat16), lambda w: w.float().numpy())
    assert check_initialiser(rounded, Constant(0.1), LINEAR, dtype="bfloat16").holds
    assert not check_initialiser(rounded, Constant(0.1), LINEAR).holds


def test_nested_lists_are_float64() -> None:
    def fill(shape: Shape, seed: int) -> Any:
        return np.random.default_rng(seed).uniform(-0.2, 0.2, shape).tolist()

    assert check_initialiser(fill, XavierUniform(), (100, 50)).holds
    assert not check_initialiser(fill, XavierUniform(), (100, 51)).holds


def test_findings_speak() -> None:
    finding = check_initialiser(WRONG["off the mean"][1], Normal(0, HE), CONV)
    assert "at least one of 37 tests rejects 5184 values at 1e-09; least p-value" in finding.statement
    assert (
        len(finding.p_values) == 37
    )  # Kolmogorov-Smirnov, location, spread, 5 lags twice, 12 counts in each tail
    healthy = check_initialiser(normal(0, HE), Normal(0, HE), CONV)
    assert "none of 37 tests rejects" in healthy.statement
    assert "where 0 is stated, variance" in healthy.statement
    assert (
        "(24, 8, 3, 3) instead of (8, 24, 3, 3)"
        in check_initialiser(lambda shape, seed: np.zeros(CONV), Normal(), (8, 24, 3, 3)).statement
    )
    assert (
        "cannot give 0.0 in the place of 1.0"
        in check_initialiser(lambda shape, seed: np.zeros(shape), Constant(1), LINEAR).statement
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"false_alarm": 0}, "false_alarm=0 must lie between 0 and 1"),
        ({"false_alarm": 1}, "false_alarm=1 must lie between 0 and 1"),
        ({"dtype": "int8"}, "dtype='int8' must be one of float64, float32, "),
        (
            {"weight_shape": (2, 2), "draws": 8},
            "draws=8 of float32 can reject nothing at false_alarm=1e-09: more",
        ),
        (
            {"weight_shape": (2, 2), "draws": 0},
            "draws=0 of float32 can reject nothing at false_alarm=1e-09: more",
        ),
        (
            {"initialiser": TruncatedNormal(), "dtype": "bfloat16"},
            "draws=4096 of bfloat16 can reject nothing at ",
        ),
        ({"initialiser": Normal(1000, 1), "dtype": "float16"}, "of float16 can reject nothing at "),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments: dict[str, Any], message: str) -> None:
    """A check that could never reject would be worth nothing."""
    defaults: dict[str, Any] = {"fill": uniform(0, 1), "initialiser": Uniform(), "weight_shape": LINEAR}
    with pytest.raises(ArgumentError) as caught:
        check_initialiser(**defaults | arguments)
    assert message in str(caught.value)


def test_scales_below_the_format_are_refused() -> None:
    """Half of all values of a normal law with std 2^-24 are no more than its two nearest numbers in float16."""
    with pytest.raises(ArgumentError, match="of float16 can reject nothing"):
        check_initialiser(
            changed(normal(0, 2**-24), lambda w: w.astype(np.float16)), Normal(0, 2**-24), LINEAR
        )


def test_nothing_to_fill_is_refused() -> None:
    with pytest.raises(ShapeError, match="must have elements"):
        check_initialiser(uniform(0, 1), Uniform(), (0, 3))
