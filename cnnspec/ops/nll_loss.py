"""The negative log-likelihood of classes.

    l_n = -w[t_n] x[n, t_n]

n batch and pixel, x the logarithms of the probabilities of C classes, t the target, w the weight of a class (1 where
none are given). l_n is 0 where t_n is `ignore_index`. The reduction "none" returns l, "sum" its sum, "mean" the sum
divided by the sum of w[t_n] over all n that are not ignored: NaN where there is none.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import integer, without_defaults
from cnnspec.ops.losses import REDUCTIONS, Loss, reduced
from cnnspec.rounding import RoundingTerms, rounded, terms
from cnnspec.scalars import divide, stored
from cnnspec.spec import Call, Dialect, Law, Pick, Spec

Row = tuple[list[Any], int | None]
"""The scores of all classes and the target, None to ignore."""


@dataclass(frozen=True)
class NLLLoss(Loss):
    """The negative log-likelihood of a class, as `torch.nn.NLLLoss`: l_n = -w[t_n] x[n, t_n], reduced.

    Input (N, C, *pixels) or (C,); target (N, *pixels), or () or (1,), of classes 0 to C - 1 or `ignore_index`;
    weight (C,). `weight` is how many class weights there are, None for none; torch.nn takes them themselves.
    Raises ShapeError where torch refuses the call, and for a target that is no class.
    Not covered: targets of class probabilities; weights of the targets that sum to 0.

    >>> NLLLoss().reference([[-1, -2], [-4, -8]], [0, 1])
    Fraction(9, 2)
    >>> NLLLoss(weight=2).reference([[-1, -2], [-4, -8]], [0, 1], [1, 3])
    Fraction(25, 4)
    """

    weight: int | None = None
    ignore_index: int = -100
    reduction: str = "mean"

    def __post_init__(self) -> None:
        self.normalise(("ignore_index",), integer)
        if self.weight is not None:
            self.normalise(("weight",), integer)

    def buffer_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (C,)} where there are weights."""
        return {} if self.weight is None else {"weight": (self.weight,)}

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return () or, for the reduction "none", the shape of the target, () without a batch."""
        shape, target_shape = map(tuple, input_shapes[:2])
        if not shape:
            raise ShapeError("input of shape () must have an axis of classes")
        batched = len(shape) > 1
        expected = (shape[0], *shape[2:]) if batched else ()
        if target_shape != expected and (batched or target_shape != (1,)):
            raise ShapeError(f"target of shape {target_shape} must be {expected}", shape=target_shape)
        if self.weight not in (None, classes_of(shape)):
            raise ShapeError(
                f"weight={self.weight} must be the {classes_of(shape)} classes", weight=self.weight
            )
        return self.reduced_shape(expected)

    def reference(self, *arrays: Array) -> Array:
        """Return the loss of input, target and weight."""
        input, target, *weight = arrays
        self.output_shape(nested.shape_of(input), nested.shape_of(target))
        return self._value(self._scores(input), target, weight)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradient of the input, from the sum of the weights and the scores as torch keeps them."""
        input, target, *weight = operands
        return self._gradients(grad_output, self._scores(input), target, weight)

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return the bound of the formula's steps; the target has no errors."""
        input, target, *weight = arrays
        return terms(self._value(self._rounded_scores(input), target, [rounded(one) for one in weight]))

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return the bound of the gradient's steps; target and weight have no gradient."""
        input, target, *weight = operands
        scores, weight = self._rounded_scores(input), [rounded(one) for one in weight]
        found = self._gradients(rounded(grad_output), scores, target, weight)
        return [None if one is None else terms(one) for one in found]

    def _scores(self, input: Array) -> Array:
        """Return the logarithms of the probabilities: here the input."""
        return input

    def _rounded_scores(self, input: Array) -> Array:
        """Return the same with their bound."""
        return rounded(input)

    def _value(self, scores: Array, target: Array, weight: list[Array]) -> Array:
        shape = nested.shape_of(scores)
        output = self.reduced_shape((shape[0], *shape[2:]) if len(shape) > 1 else ())
        rows, w = self._rows(scores, target), nested.ravel(weight[0]) if weight else None
        losses = [0 if t is None else self._loss(row, t, w) for row, t in rows]
        return reduced(losses, _total(rows, w), self.reduction, output)

    def _gradients(
        self, grad_output: Array, scores: Array, target: Array, weight: list[Array]
    ) -> list[Array | None]:
        g, shape = nested.ravel(grad_output), nested.shape_of(scores)
        rows, w = self._rows(scores, target), nested.ravel(weight[0]) if weight else None
        total, slopes = stored(_total(rows, w)), []
        for n, (row, t) in enumerate(rows):
            if t is None:
                slopes.append([0] * len(row))
                continue
            scale = g[n] if self.reduction == "none" else g[0]
            scale = divide(scale, total) if self.reduction == "mean" else scale
            slopes.append(self._slopes(row, t, w, scale))
        return [nested.unravel(_scattered(slopes, shape), shape), None, *(None for _ in weight)]

    def _rows(self, scores: Array, target: Array) -> list[Row]:
        shape, x = nested.shape_of(scores), nested.ravel(scores)
        classes, pixels = classes_of(shape), math.prod(shape[2:])
        rows: list[Row] = []
        for n, t in enumerate(nested.ravel(target)):
            if t != self.ignore_index and not 0 <= t < classes:
                raise ShapeError(
                    f"target={t} must be one of {classes} classes or ignore_index={self.ignore_index}"
                )
            start = n // pixels * classes * pixels + n % pixels
            row = x[start : start + classes * pixels : pixels]
            rows.append((row, None if t == self.ignore_index else int(t)))
        return rows

    def _loss(self, row: list[Any], t: int, w: list[Any] | None) -> Any:
        """Return the loss of one row of scores."""
        return -(row[t] * w[t]) if w else -row[t]

    def _slopes(self, row: list[Any], t: int, w: list[Any] | None, scale: Any) -> list[Any]:
        """Return scale times the gradient of one row of scores."""
        slope = -(w[t] * scale) if w else -scale
        return [slope if c == t else 0 for c in range(len(row))]


def classes_of(shape: Shape) -> int:
    """Return the number of classes of an input of `shape`."""
    return shape[0 if len(shape) == 1 else 1]


def _total(rows: list[Row], w: list[Any] | None) -> Any:
    """Return the sum of the weights of the targets that are not ignored."""
    total: Any = 0
    for _, t in rows:
        if t is not None:
            total = total + (w[t] if w else 1)
    return total


def _scattered(rows: list[list[Any]], shape: Shape) -> list[Any]:
    """Return rows over classes, one for each pixel, in the row-major order of (N, C, *pixels)."""
    pixels = math.prod(shape[2:])
    images = [rows[start : start + pixels] for start in range(0, len(rows), max(1, pixels))]
    return [row[c] for image in images for c in range(classes_of(shape)) for row in image]


# Domain, and what the operands that are not any numbers hold


def domain(operator: type[NLLLoss], **choices: tuple[Any, ...]) -> Any:
    """Return the domain of a loss of classes: with or without batch, pixels, weights, ignored ones."""

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        classes = pick.choice((1, 2, 3, 5, 8, 10, 16, 17, 33))
        batch: Shape = pick.choice(((1,), (2,), (), (3,), (7,), (0,)))
        pixels = tuple(pick.integer(1, 4) for _ in range(pick.integer(0, 3))) if batch else ()
        arguments: dict[str, Any] = {
            "weight": pick.choice((None, classes)),
            "ignore_index": pick.choice((-100, 0, 2, -1)),
            "reduction": pick.choice(REDUCTIONS),
        }
        arguments |= {name: pick.choice(options) for name, options in choices.items()}
        return without_defaults(operator, arguments), ((*batch, classes, *pixels), (*batch, *pixels))

    return draw


def _draw_targets(op: NLLLoss, shapes: Mapping[str, Shape], rng: random.Random) -> list[Any]:
    """Return classes, one in six of them ignored."""
    classes, count = classes_of(shapes["input"]), math.prod(shapes["target"])
    return [op.ignore_index if rng.random() < 1 / 6 else rng.randrange(classes) for _ in range(count)]


def _draw_weights(op: NLLLoss, shapes: Mapping[str, Shape], rng: random.Random) -> list[Any]:
    """Return positive weights, so that no sum of them is zero."""
    return [rng.randint(1, 16) / 8 for _ in range(math.prod(shapes["weight"]))]


# Laws


def _reversed_classes(
    op: NLLLoss, call: Call, x: Array, target: Array, *weight: Array
) -> tuple[Array, Array]:
    shape = nested.shape_of(x)
    last = classes_of(shape) - 1
    mirrored = nested.take(x, min(1, len(shape) - 1), range(last, -1, -1))
    others = nested.elementwise(lambda t: t if t == op.ignore_index else last - t, target)
    return call(op, x, target, *weight), call(op, mirrored, others, *(one[::-1] for one in weight))


REVERSAL = Law(
    "reversal",
    "classes in the other order give the same loss",
    lambda op, shapes: op.ignore_index < 0 and 0 not in shapes[1] and op.reduction != "mean",
    _reversed_classes,
)


# Conventions of other frameworks


def _mean_over_batch(op: NLLLoss, x: Array, target: Array, *weight: Array) -> Array:
    count = len(nested.ravel(target))
    return divide(laws.replaced(op, reduction="sum").reference(x, target, *weight), count)


MEAN_OVER_BATCH = Dialect(
    "Keras, TensorFlow",
    "the mean divides by the number of targets, ignored ones too, not by their weights",
    lambda op: op.reduction == "mean",
    _mean_over_batch,
)


def spec_of(name: str, operator: type[NLLLoss], *keywords: str, **more: Any) -> Spec:
    """Return the Spec of a loss of classes; `keywords` go by keyword beside those of `NLLLoss`."""
    return Spec(
        name=name,
        operator=operator,
        operands=("input", "target", "weight"),
        inputs=("input", "target"),
        order=("input", "target"),
        keywords=("ignore_index", "reduction", *keywords),
        judged="function",
        layer=operator.__name__,
        integers=("target",),
        constants=("target", "weight"),
        fill={"target": _draw_targets, "weight": _draw_weights},
        **more,
    )


SPECS = (spec_of("nll_loss", NLLLoss, domain=domain(NLLLoss), laws=(REVERSAL,), dialects=(MEAN_OVER_BATCH,)),)
