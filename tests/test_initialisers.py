"""Fans, gains, ranges and moments against the papers, arithmetic by hand, and what torch counts."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

import cnnspec
from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.initialisers import (
    Constant,
    Dirac,
    FanInUniform,
    Fans,
    KaimingNormal,
    KaimingUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    XavierNormal,
    XavierUniform,
    default_initialiser,
    fans,
    gain,
)

SQRT5 = math.sqrt(5)


@pytest.mark.parametrize(
    ("weight_shape", "expected"),
    [
        ((10, 84), (84, 10)),  # Linear(84, 10)
        ((64, 3, 7, 7), (3 * 49, 64 * 49)),  # Conv2d(3, 64, 7)
        ((32, 1, 3, 3), (9, 32 * 9)),  # Conv2d(32, 32, 3, groups=32): depthwise
        ((6, 4, 5), (20, 30)),  # Conv1d(4, 6, 5)
        ((8, 2, 1, 2, 3), (12, 48)),  # Conv3d(2, 8, (1, 2, 3))
        ((5, 0), (0, 5)),  # Linear(0, 5)
    ],
    ids=str,
)
def test_fans(weight_shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert fans(weight_shape) == expected
    assert fans(weight_shape, transposed=True) == expected[::-1]
    assert torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(weight_shape)) == expected


def test_torch_counts_transposed_convolutions_as_if_they_were_none() -> None:
    """Its bound shows it: 16 input channels, 8 outputs in 2 groups, 3x3 taps, k = groups / (C_out * 9)."""
    layer = torch.nn.ConvTranspose2d(16, 8, 3, groups=2)
    counted = fans(tuple(layer.weight.shape))
    assert counted == Fans(fan_in=8 // 2 * 9, fan_out=16 * 9)


@pytest.mark.parametrize("weight_shape", [(), (5,)])
def test_no_fans_below_two_axes(weight_shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        fans(weight_shape)
    assert str(caught.value) == f"weight_shape={weight_shape} must have at least 2 axes to have fans"
    with pytest.raises(ShapeError):
        XavierUniform().distribution(weight_shape)


LINEAR = ("linear", *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)), "sigmoid")


def test_gains() -> None:
    """The table in the documentation of torch.nn.init.calculate_gain."""
    assert {gain(name) for name in LINEAR} == {1}
    assert (gain("tanh"), gain("selu"), gain("relu")) == (5 / 3, 0.75, math.sqrt(2))
    assert gain("leaky_relu", 0) == math.sqrt(2)
    assert gain("leaky_relu", 1) == 1
    assert gain("leaky_relu", 7) == 0.2  # sqrt(2 / 50)
    assert gain("leaky_relu") == gain("leaky_relu", 0.01)


def test_gains_are_those_of_torch() -> None:
    for name in (*LINEAR, "tanh", "selu", "relu", "leaky_relu"):
        assert gain(name) == torch.nn.init.calculate_gain(name)  # type: ignore[arg-type]
    for slope in (0, 1, SQRT5, *(k / 1000 for k in range(1000))):
        assert gain("leaky_relu", slope) == torch.nn.init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gain("gelu"),
            "nonlinearity='gelu' must be one of relu, leaky_relu, linear, sigmoid, conv1d, ",
        ),
        (lambda: gain("leaky_relu", True), "param=True must be a finite number"),
        (lambda: gain("leaky_relu", math.inf), "param=inf must be a finite number"),
        (lambda: gain("leaky_relu", "0.2"), "param='0.2' must be a finite number"),  # type: ignore[arg-type]
        (lambda: KaimingNormal(nonlinearity="gelu"), "nonlinearity='gelu' must be one of relu, leaky_relu, "),
        (lambda: KaimingNormal(mode="fan_avg"), "mode='fan_avg' must be 'fan_in' or 'fan_out'"),
        (lambda: XavierNormal(gain=0), "gain=0 must be a positive finite number"),
        (lambda: Uniform(1, 1), "high - low=0 must be a positive finite number"),
        (lambda: Uniform(0, math.nan), "high=nan must be a finite number"),
        (lambda: Normal(std=-1), "std=-1 must be a positive finite number"),
        (lambda: Normal(mean=math.inf), "mean=inf must be a finite number"),
        (lambda: TruncatedNormal(low=2, high=-2), "low=2 .. high=-2 must hold some of the law: move a bound"),
        (
            lambda: TruncatedNormal(low=50, high=51),
            "low=50 .. high=51 must hold some of the law: move a bound",
        ),
        (lambda: TruncatedNormal(low=math.nan), "low=nan .. high=2 must hold some of the law: move a bound"),
        (lambda: Constant(math.nan), "value=nan must be a finite number"),
        (lambda: Dirac(0), "groups=0 must be positive"),
        (lambda: default_initialiser("ReLU"), "layer='ReLU' must be one of Linear, Conv1d, Conv2d, Conv3d, "),
        (lambda: default_initialiser("Linear", "gamma"), "parameter='gamma' 'weight' or 'bias'"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert message in str(caught.value)


def test_a_fan_of_zero_is_refused() -> None:
    """torch fills nothing there, or divides by zero."""
    with pytest.raises(ShapeError) as caught:
        KaimingUniform().distribution((5, 0))
    assert str(caught.value) == "weight_shape=(5, 0) has a fan of 0: it takes no values"


def test_standard_deviations_of_he_et_al() -> None:
    """Section 2.2, "Backward Propagation Case": 3x3 filters, 64, 128, 256 and 512 of them."""
    for filters, published in ((64, 0.059), (128, 0.042), (256, 0.029), (512, 0.021)):
        law = KaimingNormal(mode="fan_out").distribution((filters, filters, 3, 3))
        assert law.variance == Fraction(2, 9 * filters)  # eq. 14: n Var[w] / 2 = 1
        assert round(math.sqrt(law.variance), 3) == published


def test_variances_by_hand() -> None:
    conv = (24, 8, 3, 3)  # fan_in 72, fan_out 216
    assert KaimingNormal().variance(conv) == Fraction(2, 72)  # He et al. 2015, eq. 10
    assert KaimingNormal(mode="fan_out").variance(conv) == Fraction(2, 216)  # eq. 14
    assert KaimingNormal(a=Fraction(1, 4)).variance(conv) == Fraction(2, 72) / (1 + Fraction(1, 16))  # eq. 15
    assert KaimingNormal(a=3, nonlinearity="relu").variance(conv) == Fraction(2, 72)  # no slope to speak of
    assert KaimingUniform(nonlinearity="tanh").variance(conv) == Fraction(25, 9 * 72)
    assert XavierNormal().variance(conv) == Fraction(2, 72 + 216)  # Glorot & Bengio 2010, eq. 12
    assert XavierUniform(gain=3).variance(conv) == Fraction(9 * 2, 72 + 216)
    assert FanInUniform().variance(conv) == Fraction(1, 3 * 72)  # eq. 15: n Var[w] = 1 / 3
    assert Uniform(-1, 3).distribution(conv).variance == Fraction(16, 12)
    assert Normal(2, Fraction(1, 3)).distribution(conv).variance == Fraction(1, 9)
    assert Constant(5).distribution(conv).variance == 0


def test_supports_by_hand() -> None:
    assert XavierUniform().distribution((50, 100)).support == (-0.2, 0.2)  # sqrt(6 / 150)
    assert XavierUniform(gain=5).distribution((50, 100)).support == (-1, 1)
    assert KaimingUniform().distribution((1, 24)).support == (-0.5, 0.5)  # sqrt(2) sqrt(3 / 24)
    assert KaimingUniform(nonlinearity="linear").distribution((1, 3, 2, 2)).support == (
        -0.5,
        0.5,
    )  # sqrt(3 / 12)
    assert FanInUniform().distribution((7, 4, 2, 2)).support == (-0.25, 0.25)  # 1 / sqrt(16)
    assert Uniform(-1, 3).distribution(()).support == (-1, 3)
    assert Normal().distribution(()).support == (-math.inf, math.inf)
    assert TruncatedNormal().distribution(()).support == (-2, 2)
    assert Constant(5).distribution(()).support == (5, 5)


def test_means_by_hand() -> None:
    assert Uniform(-1, 3).distribution(()).mean == 1
    assert Normal(0.5).distribution(()).mean == 0.5
    assert [rule.distribution((2, 3)).mean for rule in (XavierUniform(), XavierNormal(), FanInUniform())] == [
        0
    ] * 3
    assert TruncatedNormal(3, 1, 1, 5).distribution(()).mean == 3


def test_moments_of_truncated_normals() -> None:
    """The half normal has mean sqrt(2 / pi) and variance 1 - 2 / pi; an infinite interval cuts nothing."""
    half = TruncatedNormal(0, 1, 0, math.inf).distribution(())
    assert round(float(half.mean), 12) == round(math.sqrt(2 / math.pi), 12)
    assert round(float(half.variance), 12) == round(1 - 2 / math.pi, 12)
    mirrored = TruncatedNormal(0, 1, -math.inf, 0).distribution(())
    assert (mirrored.mean, mirrored.variance) == (-half.mean, half.variance)
    scaled = TruncatedNormal(8, 4, 8, math.inf).distribution(())
    assert (scaled.mean, scaled.variance) == (8 + 4 * half.mean, 16 * half.variance)
    whole = TruncatedNormal(0, 1, -math.inf, math.inf).distribution(())
    assert (whole.mean, whole.variance) == (0, 1)


def test_cumulative_distribution_functions() -> None:
    uniform = Uniform(-1, 3).distribution(()).cdf
    assert [uniform(x) for x in (-2, -1, 0, 1, 3, 4)] == [0, 0, 0.25, 0.5, 1, 1]
    normal = Normal(2, 3).distribution(()).cdf
    assert [round(normal(2 + 3 * z), 4) for z in (-1.96, -1, 0, 1, 1.96)] == [
        0.025,
        0.1587,
        0.5,
        0.8413,
        0.975,
    ]
    tail = Normal().distribution(()).cdf(-10)
    assert f"{tail:.3e}" == "7.620e-24"  # Abramowitz & Stegun, table 26.2: -log10 Q(10) = 23.11805
    assert round(-math.log10(tail), 5) == 23.11805
    half = TruncatedNormal(0, 1, 0, math.inf).distribution(()).cdf
    assert [half(-1), half(0), half(100)] == [0, 0, 1]
    assert round(half(1), 4) == 0.6827  # within one standard deviation
    far = TruncatedNormal(0, 1, 10, 11).distribution(()).cdf
    assert (far(10), far(11)) == (0, 1)
    assert 0 < far(10.01) < far(10.5) < 1
    constant = Constant(5).distribution(()).cdf
    assert [constant(x) for x in (4.9, 5, 5.1)] == [0, 1, 1]


def test_identities_are_those_of_torch() -> None:
    for shape, groups in (
        ((3, 5), 1),
        ((5, 3), 1),
        ((2, 2), 1),
        ((3, 16, 5, 5), 1),
        ((3, 24, 5, 4), 3),
        ((12, 2, 4, 2), 3),
        ((4, 2, 3), 2),
        ((4, 3, 2, 3, 4), 2),
        ((0, 3, 3), 1),
    ):
        ones = torch.full(shape, 7.0)
        if len(shape) == 2:
            torch.nn.init.eye_(ones)
        else:
            torch.nn.init.dirac_(ones, groups)
        values = Dirac(groups).values(shape)
        assert nested.shape_of(values) == shape
        assert nested.ravel(values) == ones.flatten().tolist()


def test_an_identity_returns_its_input() -> None:
    conv = cnnspec.Conv2d(2, 2, 3, padding=1, bias=False)
    x = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert conv.reference(x, Dirac().values((2, 2, 3, 3))) == x


@pytest.mark.parametrize(("groups", "shape"), [(2, (3, 2, 3)), (1, (3,)), (1, ())])
def test_identities_need_channels(groups: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"needs 2 axes, groups=\d dividing the first"):
        Dirac(groups).values(shape)


def test_default_of_torch_is_kaiming_uniform_with_a_slope_of_sqrt_5() -> None:
    """Rounding sqrt(5) to nearest changes 1 + a^2 = 6 by at most 10 u + 5 u^2, less than 2 u of it."""
    shape = (24, 8, 3, 3)
    ratio = KaimingUniform(a=SQRT5).variance(shape) / FanInUniform().variance(shape)
    assert abs(1 / ratio - 1) < Fraction(2, 2**53)


def test_defaults() -> None:
    for layer in (
        "Linear",
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
    ):
        assert default_initialiser(layer) == default_initialiser(layer, "bias") == FanInUniform()
    for layer in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm2d", "GroupNorm", "LayerNorm"):
        assert (default_initialiser(layer), default_initialiser(layer, "bias")) == (Constant(1), Constant(0))


def test_public_names_load() -> None:
    assert cnnspec.XavierUniform is XavierUniform
    assert cnnspec.fans is fans
