"""What parameters are filled with before training: rules that give each weight shape a distribution.

fan_in  = shape[1] * prod(kernel)                       fan_out = shape[0] * prod(kernel)
Xavier:   Var[w] = gain^2 * 2 / (fan_in + fan_out)      uniform: bound = gain * sqrt(6 / (fan_in + fan_out))
Kaiming:  Var[w] = gain^2 / fan                         uniform: bound = gain * sqrt(3 / fan)
default:  Var[w] = 1 / (3 fan_in)                       uniform: bound = 1 / sqrt(fan_in)
Sources: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010;
He, Zhang, Ren & Sun, "Delving deep into rectifiers", ICCV 2015.
"""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple, cast

from cnnspec import nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import integer
from cnnspec.probability import Distribution, Number, between, normal, uniform

_UNIT = ("linear", "sigmoid", *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)))
_GAINS = dict.fromkeys(_UNIT, Fraction(1)) | {"tanh": Fraction(5, 3), "selu": Fraction(3, 4)}
_FANNED = ("Linear", *(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3)))
_NORMS = ("LayerNorm", "GroupNorm", *(f"{kind}Norm{n}d" for kind in ("Batch", "Instance") for n in (1, 2, 3)))


class Fans(NamedTuple):
    """How many inputs feed one output, and how many outputs one input feeds."""

    fan_in: int
    fan_out: int


def fans(weight_shape: Shape, transposed: bool = False) -> Fans:
    """Return fan_in and fan_out of a weight, as torch.nn.init counts them.

    fan_in = shape[1] * prod(shape[2:]), fan_out = shape[0] * prod(shape[2:])
    A convolution's weight is (out, in / groups, *kernel): fan_in respects the groups, fan_out does not. A
    transposed convolution's is (in, out / groups, *kernel), which torch counts in the same way; here the two change
    places where the weight is said to be `transposed`. Strides, which thin out the taps, count nowhere.
    Raises ShapeError for fewer than two axes.
    Sources: the documentation of torch.nn.init; He et al. 2015, section 2.2: n = k^2 c.

    >>> fans((64, 3, 7, 7)), fans((10, 84))
    (Fans(fan_in=147, fan_out=3136), Fans(fan_in=84, fan_out=10))
    >>> fans((16, 4, 3, 3), transposed=True)
    Fans(fan_in=144, fan_out=36)
    """
    shape = tuple(weight_shape)
    if len(shape) < 2:
        raise ShapeError(f"weight_shape={shape} must have at least 2 axes to have fans", weight_shape=shape)
    fan_out, fan_in = (size * math.prod(shape[2:]) for size in shape[:2])
    return Fans(fan_out, fan_in) if transposed else Fans(fan_in, fan_out)


def gain(nonlinearity: str, param: Number | None = None) -> float:
    """Return the factor that torch.nn.init recommends for weights in front of a nonlinearity.

    linear, conv1d .. conv_transpose3d and sigmoid 1, tanh 5/3, selu 3/4, relu sqrt(2), leaky_relu
    sqrt(2 / (1 + param^2)) with the negative slope `param`, 0.01 where none is given.
    Raises ArgumentError for other names, and for a slope that is no finite number.
    Sources: He et al. 2015, eq. 15 (rectifiers); torch.nn.init.calculate_gain (the others).

    >>> gain("tanh"), gain("relu"), gain("leaky_relu", 1)
    (1.6666666666666667, 1.4142135623730951, 1.0)
    """
    if nonlinearity in _GAINS:
        return float(_GAINS[nonlinearity])
    return math.sqrt(2 / (1 + _slope(nonlinearity, param) ** 2))


def _slope(nonlinearity: str, param: Number | None) -> Number:
    if nonlinearity not in ("relu", "leaky_relu"):
        names = ", ".join(("relu", "leaky_relu", *_GAINS))
        raise ArgumentError(f"nonlinearity={nonlinearity!r} must be one of {names}")
    return 0 if nonlinearity == "relu" else 0.01 if param is None else _number("param", param)


def _number(name: str, value: Any, *, positive: bool = False) -> Number:
    fits = isinstance(value, Number) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or (positive and value <= 0):
        raise ArgumentError(f"{name}={value!r} must be a {'positive ' * positive}finite number")
    return cast("Number", value)


@dataclass(frozen=True)
class Constant:
    """One value everywhere, as torch.nn.init.constant_.

    w = value. Raises ArgumentError for a value that is no finite number.

    >>> Constant(1).values((2, 3))
    [[1, 1, 1], [1, 1, 1]]
    """

    value: Number

    def __post_init__(self) -> None:
        _number("value", self.value)

    def values(self, weight_shape: Shape) -> Array:
        """Return `value` in every place."""
        return nested.unravel([self.value] * math.prod(weight_shape), tuple(weight_shape))

    def distribution(self, weight_shape: Shape) -> Distribution:
        """Return the law that has one value."""
        return Distribution((self.value, self.value), self.value, 0, lambda x: float(x >= self.value))


@dataclass(frozen=True)
class Dirac:
    """The weight of a layer that returns its input, as torch.nn.init.dirac_, and eye_ for two axes.

    w[g * out / groups + d, d, kernel // 2] = 1, d < min(out, in) / groups; 0 elsewhere; w (out, in / groups, *kernel)
    Raises ArgumentError unless groups is a positive integer, ShapeError unless it divides out and there are two axes.

    >>> Dirac().values((1, 2, 3)), Dirac().values((2, 3))
    ([[[0, 1, 0], [0, 0, 0]]], [[1, 0, 0], [0, 1, 0]])
    """

    groups: int = 1

    def __post_init__(self) -> None:
        if integer("groups", self.groups) < 1:
            raise ArgumentError(f"groups={self.groups} must be positive", groups=self.groups)

    def values(self, weight_shape: Shape) -> Array:
        """Return 1 in the middle of the kernels that carry a channel over, 0 elsewhere."""
        shape = tuple(weight_shape)
        if len(shape) < 2 or shape[0] % self.groups:
            raise ShapeError(f"weight_shape={shape} needs 2 axes, groups={self.groups} dividing the first")
        outputs, middle = shape[0] // self.groups, tuple(size // 2 for size in shape[2:])
        places = itertools.product(*map(range, shape))
        return nested.unravel([int(o % outputs == d and (*tap,) == middle) for o, d, *tap in places], shape)


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high], as torch.nn.init.uniform_.

    mean = (low + high) / 2, variance = (high - low)^2 / 12
    Raises ArgumentError unless low < high, both finite.

    >>> Uniform(0, 1).distribution((2, 2)).variance
    Fraction(1, 12)
    """

    low: Number = 0
    high: Number = 1

    def __post_init__(self) -> None:
        _number("high - low", _number("high", self.high) - _number("low", self.low), positive=True)

    def distribution(self, weight_shape: Shape) -> Distribution:
        """Return the uniform law, which no shape changes."""
        low, high = Fraction(self.low), Fraction(self.high)
        return uniform((self.low, self.high), (low + high) / 2, (high - low) ** 2 / 12)


@dataclass(frozen=True)
class Normal:
    """Normal with this mean and standard deviation, as torch.nn.init.normal_.

    Raises ArgumentError unless std is positive, both finite.

    >>> Normal(std=0.5).distribution((2, 2)).variance
    Fraction(1, 4)
    """

    mean: Number = 0
    std: Number = 1

    def __post_init__(self) -> None:
        _number("mean", self.mean)
        _number("std", self.std, positive=True)

    def distribution(self, weight_shape: Shape) -> Distribution:
        """Return the normal law, which no shape changes."""
        return normal(self.mean, Fraction(self.std) ** 2)


@dataclass(frozen=True)
class TruncatedNormal(Normal):
    """Normal, drawn again until it lies in [low, high], as torch.nn.init.trunc_normal_.

    With a = (low - mean) / std, b = (high - mean) / std, phi and Phi of the standard normal law, and
    Z = Phi(b) - Phi(a): the mean is mean + std (phi(a) - phi(b)) / Z, the variance
    std^2 (1 + (a phi(a) - b phi(b)) / Z - ((phi(a) - phi(b)) / Z)^2), both in floats.
    `low` and `high` are values, not multiples of std, and may be infinite.
    Raises ArgumentError unless std is positive and low < high so that Z > 0 in float64.
    Source: Johnson, Kotz & Balakrishnan, "Continuous Univariate Distributions", vol. 1, 1994, chapter 13.

    >>> round(TruncatedNormal(0, 1, -2, 2).distribution((2, 2)).variance, 4)
    0.7737
    """

    low: Number = -2
    high: Number = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.low < self.high and between(self._standard(self.low), self._standard(self.high)) > 0):
            raise ArgumentError(f"low={self.low} .. high={self.high} must hold some of the law: move a bound")

    def _standard(self, x: Number) -> float:
        z = (float(x) - float(self.mean)) / float(self.std)
        return min(40.0, max(-40.0, z))  # beyond, phi and 1 - Phi are 0 in float64

    def distribution(self, weight_shape: Shape) -> Distribution:
        """Return the truncated law, which no shape changes."""
        centre, std = float(self.mean), float(self.std)
        a, b = self._standard(self.low), self._standard(self.high)
        share = between(a, b)
        density = [math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in (a, b)]
        shift = (density[0] - density[1]) / share
        return Distribution(
            (self.low, self.high),
            centre + std * shift,
            std**2 * (1 + (a * density[0] - b * density[1]) / share - shift**2),
            lambda x: between(a, min(b, max(a, self._standard(x)))) / share,
            4 * (16 + abs(centre) / std) / share,
        )


class _Scaled:
    """A law about zero whose variance follows from the fans of the weight."""

    uniform: ClassVar[bool] = False

    def _terms(self, counted: Fans) -> tuple[Fraction, int]:
        raise NotImplementedError

    def variance(self, weight_shape: Shape) -> Fraction:
        """Return the exact Var[w]; ShapeError for fewer than two axes or a fan of zero."""
        scale, fan = self._terms(fans(weight_shape))
        if not fan:
            raise ShapeError(f"weight_shape={tuple(weight_shape)} has a fan of 0: it takes no values")
        return scale / fan

    def distribution(self, weight_shape: Shape) -> Distribution:
        """Return the law with this variance: normal, or uniform within sqrt(3 Var[w])."""
        variance = self.variance(weight_shape)
        bound = math.sqrt(3 * variance)
        return uniform((-bound, bound), 0, variance) if self.uniform else normal(0, variance)


@dataclass(frozen=True)
class XavierNormal(_Scaled):
    """Normal so that outputs and gradients keep their variance on average, as torch.nn.init.xavier_normal_.

    Var[w] = gain^2 * 2 / (fan_in + fan_out)
    Raises ArgumentError unless gain is positive. Source: Glorot & Bengio 2010, eq. 12.

    >>> XavierNormal().variance((100, 60))
    Fraction(1, 80)
    """

    gain: Number = 1

    def __post_init__(self) -> None:
        _number("gain", self.gain, positive=True)

    def _terms(self, counted: Fans) -> tuple[Fraction, int]:
        return 2 * Fraction(self.gain) ** 2, sum(counted)


@dataclass(frozen=True)
class XavierUniform(XavierNormal):
    """Uniform with the variance of XavierNormal, as torch.nn.init.xavier_uniform_.

    bound = gain * sqrt(6 / (fan_in + fan_out))
    Raises ArgumentError unless gain is positive. Source: Glorot & Bengio 2010, eq. 16.

    >>> XavierUniform().distribution((100, 50)).support
    (-0.2, 0.2)
    """

    uniform = True


@dataclass(frozen=True)
class KaimingNormal(_Scaled):
    """Normal so that what leaves a rectifier keeps its size, as torch.nn.init.kaiming_normal_.

    Var[w] = gain^2 / fan; mode: "fan_in" (outputs) or "fan_out" (gradients); a: the negative slope of a leaky_relu
    Raises ArgumentError for an unknown mode or nonlinearity. Source: He et al. 2015, eq. 10, 14 and 15.

    >>> KaimingNormal(mode="fan_out").variance((64, 3, 3, 3))
    Fraction(1, 288)
    """

    a: Number = 0
    mode: str = "fan_in"
    nonlinearity: str = "leaky_relu"

    def __post_init__(self) -> None:
        gain(self.nonlinearity, self.a)
        if self.mode not in Fans._fields:
            raise ArgumentError(f"mode={self.mode!r} must be 'fan_in' or 'fan_out'", mode=self.mode)

    def _terms(self, counted: Fans) -> tuple[Fraction, int]:
        fan = getattr(counted, self.mode)
        if self.nonlinearity in _GAINS:
            return _GAINS[self.nonlinearity] ** 2, fan
        return 2 / (1 + Fraction(_slope(self.nonlinearity, self.a)) ** 2), fan


@dataclass(frozen=True)
class KaimingUniform(KaimingNormal):
    """Uniform with the variance of KaimingNormal, as torch.nn.init.kaiming_uniform_.

    bound = gain * sqrt(3 / fan)
    Raises ArgumentError for an unknown mode or nonlinearity. Source: as for KaimingNormal.

    >>> KaimingUniform().distribution((5, 24)).support
    (-0.5, 0.5)
    """

    uniform = True


@dataclass(frozen=True)
class FanInUniform(_Scaled):
    """What torch.nn fills linear layers and convolutions with: KaimingUniform(a=sqrt(5)), but sqrt(5) exact.

    bound = 1 / sqrt(fan_in), Var[w] = 1 / (3 fan_in), of a bias too: ask with the shape of its weight.
    Sources: Glorot & Bengio 2010, eq. 1, a heuristic in common use; torch.nn.Linear, torch.nn.Conv2d.

    >>> FanInUniform().distribution((20, 3, 1, 3)).support
    (-0.3333333333333333, 0.3333333333333333)
    """

    uniform = True

    def _terms(self, counted: Fans) -> tuple[Fraction, int]:
        return Fraction(1, 3), counted.fan_in


Initialiser = Constant | Dirac | Uniform | Normal | _Scaled


def default_initialiser(layer: str, parameter: str = "weight") -> Constant | FanInUniform:
    """Return what the constructor of a layer of torch.nn fills its "weight" or its "bias" with.

    Linear and convolutions: uniform within 1 / sqrt(fan_in) of the weight as torch counts it, also where that is
    the fan_out: of transposed convolutions. Normalisations: weight 1, bias 0.
    Raises ArgumentError for other layers and parameters. Source: "Variables" of each layer of torch.nn.

    >>> default_initialiser("Conv2d", "bias"), default_initialiser("BatchNorm2d")
    (FanInUniform(), Constant(value=1))
    """
    if parameter in ("weight", "bias"):
        if layer in _FANNED:
            return FanInUniform()
        if layer in _NORMS:
            return Constant(int(parameter == "weight"))
    known = ", ".join((*_FANNED, *_NORMS))
    raise ArgumentError(f"{layer=} must be one of {known}, and {parameter=} 'weight' or 'bias'")
