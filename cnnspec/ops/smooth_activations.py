"""Smooth activations, of exponentials and error functions, each on one element by itself.

elu(x) = x where x >= 0, else alpha (exp(x) - 1)       gelu(x) = x (1 + erf(x / sqrt 2)) / 2
silu(x) = x / (1 + exp(-x))                            softplus(x) = log(1 + exp(beta x)) / beta

Gradients are given as the library computes them; elu'(0) = alpha. Where x is NaN, elu passes on g as torch's
scalar kernel does; its vectorised one gives NaN.
"""

import math
from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import Composed
from cnnspec.ops.activations import always, drawing, number, spec_of
from cnnspec.ops.pointwise import Logistic, Pointwise, Sigmoid, domain
from cnnspec.scalars import erf, exp, expm1, log1p, pi, sqrt, tanh
from cnnspec.spec import Call, Dialect, Law


@dataclass(frozen=True)
class ELU(Pointwise, Composed):
    """A line that bends into an exponential, as `torch.nn.ELU`: y = x where x >= 0, else alpha (exp(x) - 1).

    Source: Clevert, Unterthiner, Hochreiter, "Fast and Accurate Deep Network Learning by ELUs", 2016, section 3.

    >>> ELU(2.0).reference([0.0, 3.0, -math.inf])
    [0.0, 3.0, -2.0]
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        self.normalise(("alpha",), number)

    def function(self, x: Any) -> Any:
        """Return x where it is not negative, else alpha (exp(x) - 1)."""
        return x if x >= 0 else expm1(x) * self.alpha

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g alpha exp(x) where x <= 0, else g."""
        return g * self.alpha * exp(x) if x <= 0 else g


@dataclass(frozen=True)
class GELU(Pointwise, Composed):
    """x times the normal distribution's P(X <= x), as `torch.nn.GELU`.

    none: y = x (1 + erf(x / sqrt 2)) / 2
    tanh: y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    The gradient of "none" is g (P + x exp(-x^2 / 2) / sqrt(2 pi)). Both sums cancel for negative x, in the library
    too: the error is as small as |x|'s, not as |y|'s. y(inf) = inf, y(-inf) = NaN.
    Raises ShapeError for another `approximate`: torch refuses it when called.
    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016, section 2.

    >>> GELU().reference([0.0, 40.0, -40.0])
    [0.0, 40.0, -0.0]
    """

    approximate: str = "none"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the input; ShapeError for an unknown approximation."""
        if self.approximate not in ("none", "tanh"):
            raise ShapeError(f"approximate={self.approximate!r} must be 'none' or 'tanh'")
        return super().output_shape(*input_shapes)

    def function(self, x: Any) -> Any:
        """Return x (1 + t) / 2, t an error function or a hyperbolic tangent."""
        if x == math.inf:  # where balls have no erf
            return x
        t = tanh(_inner(x)) if self.approximate == "tanh" else erf(x / _root_of_2(x))
        return x * 0.5 * (1 + t)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g (P + x P'), step by step."""
        if self.approximate == "tanh":
            t = tanh(_inner(x))
            slope = sqrt(2 / pi(x)) * (1 + x * x * 3 * 0.044715)
            return g * (0.5 * (1 + t) + x * 0.5 * (1 - t * t) * slope)
        below = 0.5 * (1 + erf(x / _root_of_2(x)))
        density = exp(x * x * -0.5) / sqrt(2 * pi(x))
        return g * (below + x * density)


def _inner(x: Any) -> Any:
    return sqrt(2 / pi(x)) * (x + x * x * x * 0.044715)


def _root_of_2(x: Any) -> Any:
    """Return the square root of 2 as a number of the kind of x."""
    return sqrt(2 * pi(x) / pi(x))


@dataclass(frozen=True)
class SiLU(Pointwise, Logistic):
    """x times the logistic function, as `torch.nn.SiLU`: y = x / (1 + exp(-x)).

    Source: Elfwing, Uchibe, Doya, "Sigmoid-Weighted Linear Units", 2018; Ramachandran, Zoph, Le, 2017 ("Swish").

    >>> SiLU().reference([0.0, 40.0]), SiLU().gradients([1.0], [0.0])
    ([0.0, 40.0], [[0.5]])
    """

    def function(self, x: Any) -> Any:
        """Return x / (1 + e) with e = exp(-|x|), which cannot overflow: x e / (1 + e) for negative x."""
        e = exp(-abs(x))
        return x * e / (1 + e) if x < 0 else x / (1 + e)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g s (1 + x (1 - s)), s the logistic function of x."""
        s = Sigmoid().function(x)
        return g * s * (1 + x * (1 - s))


@dataclass(frozen=True)
class Softplus(Pointwise, Composed):
    """A smooth positive part, as `torch.nn.Softplus`: y = log(1 + exp(beta x)) / beta, x where beta x > threshold.

    The gradient is g exp(beta x) / (exp(beta x) + 1), g beyond the threshold.
    Not covered: beta = 0, and thresholds beyond the exponent at which exp overflows (88 in float32), where torch
    returns infinity. Source: Dugas et al., "Incorporating Second-Order Functional Knowledge", 2001.

    >>> Softplus().reference([-math.inf, 21.0])
    [0.0, 21.0]
    """

    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        self.normalise(("beta", "threshold"), number)

    def function(self, x: Any) -> Any:
        """Return x beyond the threshold, else log(1 + exp(beta x)) / beta."""
        scaled = x * self.beta
        return x if scaled > self.threshold else log1p(exp(scaled)) / self.beta

    def gradient(self, g: Any, x: Any) -> Any:
        """Return g beyond the threshold, else g e / (e + 1) with e = exp(beta x)."""
        scaled = x * self.beta
        if scaled > self.threshold:
            return g
        e = exp(scaled)
        return g * e / (e + 1)


# Laws, where all of this is exact


def _is_identity_on_positive(op: ELU, call: Call, x: Array) -> tuple[Array, Array]:
    size = nested.elementwise(abs, x)
    return call(op, size), size


def _is_identity_beyond_threshold(op: Softplus, call: Call, x: Array) -> tuple[Array, Array]:
    first = max(0, math.ceil(op.threshold / op.beta)) + 1
    beyond = nested.elementwise(lambda v: abs(v) + first, x)
    return call(op, beyond), beyond


# Conventions of other frameworks


def _other_gelu(name: str, approximate: str) -> Dialect:
    return Dialect(
        name,
        f"the formula is that of approximate={approximate!r}",
        lambda op: op.approximate != approximate,
        lambda op, x: GELU(approximate).reference(x),
    )


def _quick_gelu(op: GELU, *arrays: Array) -> Array:
    return nested.elementwise(lambda x: x * Sigmoid().function(x * 1.702), *arrays)


def _no_threshold(op: Softplus, *arrays: Array) -> Array:
    return Softplus(op.beta, math.inf).reference(*arrays)


SPECS = (
    spec_of(
        "elu",
        ELU,
        drawing(alpha=(1.0, 0.5, 2, 0.1, -1.5)),
        "alpha",
        laws=(Law("identity", "elu(|x|) = |x|", always, _is_identity_on_positive),),
    ),
    spec_of(
        "gelu",
        GELU,
        drawing(approximate=("none", "tanh")),
        "approximate",
        dialects=(
            _other_gelu("BERT, GPT-2, JAX", "tanh"),
            _other_gelu("Keras, ONNX", "none"),
            Dialect("CLIP, GPT", "y = x / (1 + exp(-1.702 x))", lambda op: True, _quick_gelu),
        ),
    ),
    spec_of("silu", SiLU, domain),
    spec_of(
        "softplus",
        Softplus,
        drawing(beta=(1.0, 2, 0.5, 3), threshold=(20.0, 5, 1, 30)),
        "beta",
        "threshold",
        laws=(Law("identity", "softplus is the identity", always, _is_identity_beyond_threshold),),
        dialects=(
            Dialect(
                "TensorFlow, NumPy's logaddexp", "no threshold", lambda op: op.threshold < 8, _no_threshold
            ),
        ),
    ),
)
