"""Wrong normalizations and dropouts: see `tests.ops.wrong`."""

import math
from typing import Any

from cnnspec import nested
from cnnspec.laws import replaced
from cnnspec.nested import Array
from cnnspec.ops import norm
from cnnspec.ops.norm_bounds import total
from cnnspec.scalars import constant, divide, power, sqrt

# Local response normalization


def takes_magnitudes(op: Any, x: Array) -> Array:
    """The input is replaced by the root of its square, which is there anyway."""
    return op.reference(nested.elementwise(abs, x))


def has_the_alpha_of_the_paper(op: Any, x: Array) -> Array:
    return replaced(op, alpha=1e-4).reference(x)


def has_the_k_of_the_paper(op: Any, x: Array) -> Array:
    return replaced(op, k=2.0).reference(x)


def divides_no_alpha(op: Any, x: Array) -> Array:
    """Caffe's alpha is divided by size, TensorFlow's is not."""
    return op.divided(1, x)


def looks_forward(op: Any, x: Array) -> Array:
    """Of an even window the longer half lies ahead."""
    order = range(nested.shape_of(x)[1])[::-1]
    return nested.take(op.reference(nested.take(x, 1, order)), 1, order)


def forgets_the_power(op: Any, x: Array) -> Array:
    return replaced(op, beta=1.0).reference(x)


def _direct(op: Any, g: Array, x: Array) -> list[Any]:
    """Return g / base^beta: the part of the gradient that does not go through the sums."""
    shape, values = nested.shape_of(x), nested.ravel(x)
    bases = op._bases(values, shape, op.size)
    return [
        divide(one, power(base, op.beta)) for one, (_, _, base) in zip(nested.ravel(g), bases, strict=True)
    ]


def divisor_is_constant(op: Any, g: Array, x: Array) -> list[Array]:
    return [nested.unravel(_direct(op, g, x), nested.shape_of(x))]


def square_has_slope_one(op: Any, g: Array, x: Array) -> list[Array]:
    """The factor 2 of the square is missing."""
    (right,) = op.gradients(g, x)
    return [
        nested.unravel(
            [divide(a + b, 2) for a, b in zip(nested.ravel(right), _direct(op, g, x), strict=True)],
            nested.shape_of(x),
        )
    ]


# Dropout


def scales_as_the_paper_does(op: Any, x: Array, *mask: Array) -> Array:
    """Nothing is scaled in training, everything by 1 - p in evaluation."""
    if op.training:
        return replaced(op, p=0.0).reference(x)
    return nested.elementwise(lambda v: v * (1 - constant(op.p, v)), x)


def takes_p_as_what_is_kept(op: Any, x: Array, *mask: Array) -> Array:
    """p is taken for the probability of an element to stay, the mode for training."""
    return replaced(op, p=1 - op.p, training=True).reference(x)


def scales_what_is_dropped(op: Any, x: Array, *mask: Array) -> Array:
    """With p = 1 zeros are multiplied by infinity; the mode is taken for training."""
    if op.p == 1:
        return nested.elementwise(lambda v: math.nan, x)
    return replaced(op, training=True).reference(x, *mask)


def scales_gradients_in_evaluation(op: Any, g: Array, x: Array) -> list[Array]:
    return [nested.elementwise(lambda v: v * (1 - constant(op.p, v)), g)]


def drops_gradients_in_evaluation(op: Any, g: Array, x: Array) -> list[Array]:
    """Every second one, by a mask that evaluation has no use for."""
    values = [v * (i % 2) for i, v in enumerate(nested.ravel(g))]
    return [nested.unravel(values, nested.shape_of(g))]


# Normalizations by mean and variance


def reads_unsigned_weights(op: Any, x: Array, *rest: Array) -> Array:
    names = (*op.buffer_shapes(), *op.parameter_shapes())
    arrays = [
        nested.elementwise(abs, array) if name == "weight" else array
        for name, array in zip(names, rest, strict=True)
    ]
    return op.reference(x, *arrays)


def adds_eps_to_the_deviation(op: Any, *arrays: Array) -> Array:
    return op.normalized(lambda v, eps, n: divide(1, sqrt(v) + constant(eps, v)), *arrays)


def divides_by_the_variance(op: Any, *arrays: Array) -> Array:
    return op.normalized(lambda v, eps, n: divide(1, v + constant(eps, v)), *arrays)


def takes_the_unbiased_variance(op: Any, *arrays: Array) -> Array:
    return op.normalized(lambda v, eps, n: norm.one_over_root(divide(v * n, max(1, n - 1)), eps, n), *arrays)


def forgets_eps(op: Any, *arrays: Array) -> Array:
    """A variance of 0 is left at 0."""
    return op.normalized(lambda v, eps, n: divide(1, sqrt(v)) if v > 0 else 1, *arrays)


def forgets_the_mean(op: Any, x: Array, *rest: Array) -> Array:
    """Root mean square normalization: divides by the deviation, subtracts nothing."""
    given, places, shape = op._read([x, *rest])
    y = nested.ravel(op.reference(x, *rest))
    for group, mean, r in op._groups(given, shape):
        for i in group:
            y[i] = y[i] + mean * r * (given["weight"][places[i]] if "weight" in given else 1)
    return nested.unravel(y, shape)


def normalizes_other_groups(op: Any, x: Array, *rest: Array) -> Array:
    """Every group takes the mean of the group before it."""
    given, places, shape = op._read([x, *rest])
    y, groups = nested.ravel(op.reference(x, *rest)), list(op._groups(given, shape))
    for k, (group, mean, r) in enumerate(groups):
        for i in group:
            weight = given["weight"][places[i]] if "weight" in given else 1
            y[i] = y[i] + (mean - groups[k - 1][1]) * r * weight
    return nested.unravel(y, shape)


def _gradients(
    op: Any,
    g: Array,
    operands: tuple[Array, ...],
    *,
    shift: int = 1,
    slope: int = 1,
    less: int = 0,
    scaled: bool = True,
) -> list[Any]:
    """Return the gradients with the terms of mean and variance times `shift` and `slope`, n smaller by `less`."""
    given, places, shape = op._read(operands)
    x, weight, cotangent = given["input"], given.get("weight"), nested.ravel(g)
    right = op.gradients(g, *operands)
    dx, dw = [0] * len(x), [0] * len(given.get("weight", ()))
    for group, mean, r in op._groups(given, shape):
        n = max(1, len(group) - less)
        h = {i: cotangent[i] * (weight[places[i]] if weight else 1) for i in group}
        if op.from_batch:
            flat = divide(total([h[i] for i in group]) * shift, n)
            steep = divide(total([h[i] * (x[i] - mean) for i in group]) * r * r * slope, n)
            h = {i: h[i] - flat - (x[i] - mean) * steep for i in group}
        for i in group:
            dx[i] = h[i] * r
            if dw:
                dw[places[i]] = dw[places[i]] + cotangent[i] * (x[i] - mean) * (r if scaled else 1)
    wrong = {"input": nested.unravel(dx, shape)}
    if weight:
        wrong["weight"] = nested.unravel(dw, op.parameter_shapes()["weight"])
    return [wrong.get(name, one) for name, one in zip(given, right, strict=True)]


def mean_is_constant(op: Any, g: Array, *operands: Array) -> list[Any]:
    return _gradients(op, g, operands, shift=0)


def variance_is_constant(op: Any, g: Array, *operands: Array) -> list[Any]:
    return _gradients(op, g, operands, slope=0)


def divides_by_one_less(op: Any, g: Array, *operands: Array) -> list[Any]:
    return _gradients(op, g, operands, less=1)


def weight_gradient_is_not_scaled(op: Any, g: Array, *operands: Array) -> list[Any]:
    """The deviation from the mean is not brought to variance 1."""
    return _gradients(op, g, operands, scaled=False)


OF_THE_INPUT = (mean_is_constant, variance_is_constant, divides_by_one_less, weight_gradient_is_not_scaled)
OUTPUTS = (takes_the_unbiased_variance, forgets_eps, forgets_the_mean, normalizes_other_groups)
LAWS = {"sign": reads_unsigned_weights, "scale": adds_eps_to_the_deviation}

# Running statistics: wrong(op, *operands) -> new values by name


def swaps_momentum(op: Any, *operands: Array) -> dict[str, Array]:
    """momentum is what is kept of the old value, as in TensorFlow and Caffe."""
    values: dict[str, Array] = replaced(op, momentum=1 - op.factor).updates(*operands)
    return values


def tracks_the_biased_variance(op: Any, *operands: Array) -> dict[str, Array]:
    """The variance that normalizes is the one that is kept."""
    given, places, shape = op._read(operands)
    values: dict[str, Array] = op.updates(*operands)
    groups = [group for group in op.partition(shape)[0] if group]
    for group in groups:
        _, variance = norm.moments([given["input"][i] for i in group])
        excess = divide(variance * constant(op.factor, variance), len(group) - 1)
        c, images = places[group[0]], len(groups) // op.num_features
        values["running_var"][c] = values["running_var"][c] - divide(excess, images)
    return values


KILLERS: dict[str, dict[str, Any]] = {
    "local_response_norm": {
        "sign": takes_magnitudes,
        "scale": has_the_alpha_of_the_paper,
        "neutral": has_the_k_of_the_paper,
    },
    "dropout": {
        "mask": scales_as_the_paper_does,
        "none": takes_p_as_what_is_kept,
        "all": scales_what_is_dropped,
    },
    "batch_norm": {**LAWS, "line": divides_by_the_variance},
    "instance_norm": {**LAWS, "line": divides_by_the_variance},
    "group_norm": LAWS,
    "layer_norm": LAWS,
}

WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {
    "local_response_norm": (divides_no_alpha, looks_forward, forgets_the_power),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm", "layer_norm"), OUTPUTS),
}

WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "local_response_norm": (divisor_is_constant, square_has_slope_one),
    "dropout": (scales_gradients_in_evaluation, drops_gradients_in_evaluation),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm", "layer_norm"), OF_THE_INPUT),
}
