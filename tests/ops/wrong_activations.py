"""Wrong activations, one for each law, and wrong values and gradients: see `tests.ops.wrong`."""

import functools
from collections.abc import Callable
from typing import Any

from cnnspec import nested
from cnnspec.nested import Array
from cnnspec.ops.gelu import GELU
from cnnspec.ops.pointwise import Sigmoid
from cnnspec.scalars import erf, exp, expm1, log1p, tanh
from tests.ops import wrong


def on_elements(function: Callable[[Any, Any], Any]) -> Any:
    """Return wrong(op, x) from the function of one element."""

    @functools.wraps(function)
    def of_array(op: Any, x: Array) -> Array:
        return nested.elementwise(lambda v: function(op, v), x)

    return of_array


def slope(function: Callable[[Any, Any, Any], Any]) -> Any:
    """Return wrong(op, g, x) from the gradient of one element."""

    @functools.wraps(function)
    def of_array(op: Any, g: Array, x: Array) -> list[Array]:
        return [nested.elementwise(lambda a, v: function(op, a, v), g, x)]

    return of_array


def logistic(x: Any) -> Any:
    return Sigmoid().function(x)


# Values


@on_elements
def clips_at_five(op: Any, v: Any) -> Any:
    """The cap is one too low."""
    return min(max(v, 0), 5)


@on_elements
def forgets_the_cap(op: Any, v: Any) -> Any:
    return max(v, 0)


@on_elements
def bends_at_one(op: Any, v: Any) -> Any:
    """The comparison is with 1."""
    return v if v > 1 else v * op.negative_slope


@on_elements
def takes_the_larger(op: Any, v: Any) -> Any:
    """max(x, slope x) is another function for slopes above 1."""
    return max(v, v * op.negative_slope)


def reads_next_weight(op: Any, x: Array, weight: Array) -> Array:
    """Positive elements get a weight too, the one of the channel behind theirs."""
    w, channels = nested.ravel(weight), op.channels(x)
    y = [v * w[(c + 1) % len(w)] for v, c in zip(nested.ravel(x), channels, strict=True)]
    return nested.unravel(y, nested.shape_of(x))


def reads_first_weight(op: Any, x: Array, weight: Array) -> Array:
    """One slope for all channels."""
    return op.reference(x, [weight[0]] * len(weight))


@on_elements
def bends_at_two(op: Any, v: Any) -> Any:
    """The shift is one too small."""
    return v * min(max(v + 2, 0), 6) / 6


@on_elements
def divides_by_eight(op: Any, v: Any) -> Any:
    """A shift by three bits in place of a division by 6."""
    return v * min(max(v + 3, 0), 6) / 8


@on_elements
def scales_positive(op: Any, v: Any) -> Any:
    """The scale of SELU on the line."""
    return 2 * v if v >= 0 else expm1(v)


@on_elements
def forgets_alpha(op: Any, v: Any) -> Any:
    return v if v >= 0 else expm1(v)


@on_elements
def logistic_gelu(op: Any, v: Any) -> Any:
    """The approximation x / (1 + exp(-1.702 x))."""
    return v * logistic(v * 1.702)


@on_elements
def forgets_root_of_two(op: Any, v: Any) -> Any:
    """erf(x) in place of erf(x / sqrt 2)."""
    return v * 0.5 * (1 + erf(v))


@on_elements
def forgets_x(op: Any, v: Any) -> Any:
    """The gate alone."""
    return logistic(v)


@on_elements
def doubles_the_exponent(op: Any, v: Any) -> Any:
    """Swish with beta = 2."""
    return v * logistic(v * 2)


@on_elements
def forgets_threshold(op: Any, v: Any) -> Any:
    """Beyond the threshold a line, but another one."""
    return v / op.beta + 1


@on_elements
def divides_by_no_beta(op: Any, v: Any) -> Any:
    """log(1 + exp(beta x))."""
    return log1p(exp(v * op.beta))


@on_elements
def saturates_in_a_line(op: Any, v: Any) -> Any:
    """The hard sigmoid."""
    return min(max(v + 3, 0), 6) / 6


@on_elements
def takes_tanh_of_x(op: Any, v: Any) -> Any:
    """(1 + tanh(x)) / 2 in place of (1 + tanh(x / 2)) / 2."""
    return (1 + tanh(v)) * 0.5


@on_elements
def takes_logistic_of_x(op: Any, v: Any) -> Any:
    """2 / (1 + exp(-x)) - 1 in place of 2 / (1 + exp(-2 x)) - 1."""
    return 2 * logistic(v) - 1


@on_elements
def softsign(op: Any, v: Any) -> Any:
    """The cheap function of that shape."""
    return v / (1 + abs(v))


# Gradients


@slope
def masks_by_gradient(op: Any, g: Any, v: Any) -> Any:
    """The sign of g decides, not that of x."""
    return max(g, 0)


@slope
def passes_everything(op: Any, g: Any, v: Any) -> Any:
    """The straight-through estimator."""
    return g


@slope
def passes_beyond_the_cap(op: Any, g: Any, v: Any) -> Any:
    """The slope of ReLU."""
    return g if v > 0 else 0 * g


@slope
def forgets_the_slope(op: Any, g: Any, v: Any) -> Any:
    """The slope of ReLU."""
    return g if v > 0 else 0 * g


@slope
def squares_the_slope(op: Any, g: Any, v: Any) -> Any:
    """The slope is applied to the gradient, and to the mask."""
    return g if v > 0 else g * op.negative_slope * op.negative_slope


def sums_all_elements(op: Any, g: Array, x: Array, weight: Array) -> list[Any]:
    """Positive elements give the weight a gradient too."""
    gx, gw = op.gradients(g, x, weight)
    for a, v, c in zip(nested.ravel(g), nested.ravel(x), op.channels(x), strict=True):
        gw[c] = gw[c] + a * v if v > 0 else gw[c]
    return [gx, gw]


def gives_all_to_the_first_weight(op: Any, g: Array, x: Array, weight: Array) -> list[Any]:
    """The reduction runs over the channels too."""
    gx, gw = op.gradients(g, x, weight)
    return [gx, [sum(gw), *(0 * one for one in gw[1:])]]


@slope
def forgets_the_factor(op: Any, g: Any, v: Any) -> Any:
    """(x + 3) / 6: the gate, without the derivative of the gate."""
    return g * (v + 3) / 6 if -3 < v < 3 else g if v > 0 else 0 * g


@slope
def forgets_the_ends(op: Any, g: Any, v: Any) -> Any:
    """The parabola's slope everywhere."""
    return g * (2 * v + 3) / 6


@slope
def forgets_alpha_in_slope(op: Any, g: Any, v: Any) -> Any:
    return g * exp(v) if v <= 0 else g


@slope
def adds_one_to_output(op: Any, g: Any, v: Any) -> Any:
    """y + 1 in place of y + alpha."""
    return g * (op.function(v) + 1) if v <= 0 else g


@slope
def forgets_the_density(op: Any, g: Any, v: Any) -> Any:
    """The gate alone: P, without x P'."""
    t = tanh(v) if op.approximate == "tanh" else erf(v)
    return g * 0.5 * (1 + t)


@slope
def takes_the_other_gelu(op: Any, g: Any, v: Any) -> Any:
    """Forward by erf and backward by tanh, or the other way round."""
    return GELU("none" if op.approximate == "tanh" else "tanh").gradient(g, v)


@slope
def takes_the_gate(op: Any, g: Any, v: Any) -> Any:
    return g * logistic(v)


@slope
def takes_the_gates_slope(op: Any, g: Any, v: Any) -> Any:
    """s (1 - s), the derivative of the gate alone."""
    return g * logistic(v) * (1 - logistic(v))


@slope
def multiplies_by_beta(op: Any, g: Any, v: Any) -> Any:
    """The inner derivative, though the division by beta cancels it."""
    return g * logistic(v * op.beta) * op.beta


@slope
def forgets_beta(op: Any, g: Any, v: Any) -> Any:
    """The logistic function of x, not of beta x."""
    return g * logistic(v)


@slope
def takes_the_output(op: Any, g: Any, v: Any) -> Any:
    return g * op.function(v)


@slope
def takes_one_minus_output(op: Any, g: Any, v: Any) -> Any:
    return g * (1 - op.function(v))


@slope
def squares_the_input(op: Any, g: Any, v: Any) -> Any:
    """1 - x^2: the input was kept, not the output."""
    return g * (1 - v * v)


KILLERS: dict[str, dict[str, Any]] = {
    "relu6": {"reflection": clips_at_five},
    "leaky_relu": {"parts": bends_at_one},
    "prelu": {"parts": reads_next_weight},
    "hardswish": {"threes": bends_at_two},
    "elu": {"identity": scales_positive},
    "softplus": {"identity": forgets_threshold},
}
WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {
    "relu": (wrong.leaks,),
    "sigmoid": (saturates_in_a_line, takes_tanh_of_x),
    "tanh": (takes_logistic_of_x, softsign),
    "relu6": (clips_at_five, forgets_the_cap),
    "leaky_relu": (bends_at_one, takes_the_larger),
    "prelu": (reads_next_weight, reads_first_weight),
    "hardswish": (bends_at_two, divides_by_eight),
    "elu": (scales_positive, forgets_alpha),
    "gelu": (logistic_gelu, forgets_root_of_two),
    "silu": (forgets_x, doubles_the_exponent),
    "softplus": (forgets_threshold, divides_by_no_beta),
}
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "relu": (masks_by_gradient, passes_everything),
    "sigmoid": (takes_the_output, takes_one_minus_output),
    "tanh": (takes_one_minus_output, squares_the_input),
    "relu6": (masks_by_gradient, passes_beyond_the_cap),
    "leaky_relu": (forgets_the_slope, squares_the_slope),
    "prelu": (sums_all_elements, gives_all_to_the_first_weight),
    "hardswish": (forgets_the_factor, forgets_the_ends),
    "elu": (forgets_alpha_in_slope, adds_one_to_output),
    "gelu": (forgets_the_density, takes_the_other_gelu),
    "silu": (takes_the_gate, takes_the_gates_slope),
    "softplus": (multiplies_by_beta, forgets_beta),
}
