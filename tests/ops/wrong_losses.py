"""Wrong softmaxes and losses, one for each law, and wrong values and gradients: see `tests.ops.wrong`."""

from typing import Any

from cnnspec import nested
from cnnspec.laws import replaced
from cnnspec.nested import Array
from cnnspec.ops.losses import reduced
from cnnspec.ops.nll_loss import NLLLoss
from cnnspec.ops.softmax import LogSoftmax, Softmax
from cnnspec.scalars import exp

# Softmax


def along_another_axis(op: Any, x: Array) -> Array:
    """The axis before."""
    return replaced(op, dim=(op.dim - 1) % len(nested.shape_of(x))).reference(x)


def takes_the_other(op: Any, x: Array) -> Array:
    """The logarithm in place of the softmax, and the other way round."""
    return (LogSoftmax if isinstance(op, Softmax) else Softmax)(op.dim).reference(x)


def keeps_the_diagonal(op: Any, g: Array, x: Array) -> list[Any]:
    """The Jacobian's diagonal alone: g_i (1 - y_i) y_i, or g_i (1 - exp y_i)."""
    y = op.reference(x)
    if isinstance(op, Softmax):
        return [nested.elementwise(lambda a, b: a * b * (1 - b), g, y)]
    return [nested.elementwise(lambda a, b: a * (1 - exp(b)), g, y)]


def sums_along_another_axis(op: Any, g: Array, x: Array) -> list[Any]:
    """The axis before."""
    found: list[Any] = replaced(op, dim=(op.dim - 1) % len(nested.shape_of(x))).gradients(g, x)
    return found


# The mean square error


def weighs_with_input(op: Any, x: Array, target: Array) -> Array:
    """The magnitude of the input."""
    return op.reference(nested.elementwise(abs, x), target)


def halves(op: Any, x: Array, target: Array) -> Array:
    """The half of textbooks, whose gradient has no 2."""
    return nested.elementwise(lambda loss: loss * 0.5, op.reference(x, target))


def forgets_the_square(op: Any, x: Array, target: Array) -> Array:
    """The mean absolute error."""
    sizes = nested.ravel(nested.elementwise(lambda a, b: abs(a - b), x, target))
    return reduced(sizes, len(sizes), op.reduction, nested.shape_of(x))


def forgets_the_two(op: Any, g: Array, x: Array, target: Array) -> list[Any]:
    gx, gt = op.gradients(g, x, target)
    return [nested.elementwise(lambda v: v * 0.5, gx), nested.elementwise(lambda v: v * 0.5, gt)]


def gives_both_one_sign(op: Any, g: Array, x: Array, target: Array) -> list[Any]:
    """The target's gradient is the input's."""
    gx, _ = op.gradients(g, x, target)
    return [gx, gx]


# Losses of classes


def reads_next_class(op: Any, x: Array, target: Array, *weight: Array) -> Array:
    """Target t reads the score of class t + 1."""
    shape = nested.shape_of(x)
    axis = min(1, len(shape) - 1)
    classes = shape[axis]
    return op.reference(nested.take(x, axis, [(c + 1) % classes for c in range(classes)]), target, *weight)


def counts_what_is_ignored(op: Any, x: Array, target: Array, *weight: Array) -> Array:
    """The mean divides by all targets, by their number and not by their weights."""
    if op.reduction != "mean":
        return op.reference(x, target, *weight)
    total = replaced(op, reduction="sum").reference(x, target, *weight)
    return nested.elementwise(lambda loss: loss / max(1, len(nested.ravel(target))), total)


def forgets_weights(op: Any, x: Array, target: Array, *weight: Array) -> Array:
    return replaced(op, weight=None).reference(x, target)


def forgets_the_softmax(op: Any, x: Array, target: Array, *weight: Array) -> Array:
    """The scores are taken for logarithms of probabilities."""
    return NLLLoss(op.weight, op.ignore_index, op.reduction).reference(x, target, *weight)


def forgets_the_mean(op: Any, g: Array, *operands: Array) -> list[Any]:
    """The division of the mean."""
    found: list[Any] = replaced(op, reduction="sum" if op.reduction == "mean" else op.reduction).gradients(
        g, *operands
    )
    return found


def passes_no_weights(op: Any, g: Array, x: Array, target: Array, *weight: Array) -> list[Any]:
    found: list[Any] = replaced(op, weight=None).gradients(g, x, target)
    return [*found, *(None for _ in weight)]


def passes_to_the_target_only(op: Any, g: Array, x: Array, target: Array, *weight: Array) -> list[Any]:
    """The gradient of the likelihood, not taken through the softmax."""
    found: list[Any] = NLLLoss(op.weight, op.ignore_index, op.reduction).gradients(g, x, target, *weight)
    return found


def passes_no_smoothing(op: Any, g: Array, *operands: Array) -> list[Any]:
    found: list[Any] = replaced(op, label_smoothing=0.0).gradients(g, *operands)
    return found


KILLERS: dict[str, dict[str, Any]] = {
    "mse_loss": {"symmetry": weighs_with_input},
    "nll_loss": {"reversal": reads_next_class},
}
WRONG_OUTPUTS: dict[str, tuple[Any, ...]] = {
    "softmax": (along_another_axis, takes_the_other),
    "mse_loss": (halves, forgets_the_square),
    "nll_loss": (counts_what_is_ignored, forgets_weights),
    "cross_entropy": (forgets_the_softmax, counts_what_is_ignored, forgets_weights),
}
WRONG_OUTPUTS["log_softmax"] = WRONG_OUTPUTS["softmax"]
WRONG_GRADIENTS: dict[str, tuple[Any, ...]] = {
    "softmax": (keeps_the_diagonal, sums_along_another_axis),
    "mse_loss": (forgets_the_two, gives_both_one_sign),
    "nll_loss": (forgets_the_mean, passes_no_weights),
    "cross_entropy": (passes_to_the_target_only, passes_no_weights, passes_no_smoothing),
}
WRONG_GRADIENTS["log_softmax"] = WRONG_GRADIENTS["softmax"]
