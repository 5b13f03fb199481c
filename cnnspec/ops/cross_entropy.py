"""The negative log-likelihood of a softmax over classes, with label smoothing.

    l_n = -(1 - e) w[t_n] y[n, t_n] - e / C sum_c w[c] y[n, c]         y = log_softmax(x)

n batch and pixel, c one of C classes, t the target, w the weight of a class, e the label smoothing; what is ignored
and how l is reduced stands in `nll_loss`. With g the gradient of l_n, that of y is

    dy[n, c] = -(1 - e) w[t_n] g where c = t_n, else 0; less e / C w[c] g

and that of x follows from it as in `softmax`.
"""

from dataclasses import dataclass
from typing import Any

from cnnspec import laws, nested
from cnnspec.errors import ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import number
from cnnspec.ops.nll_loss import MEAN_OVER_BATCH, NLLLoss, classes_of, domain, spec_of
from cnnspec.ops.softmax import LogSoftmax
from cnnspec.scalars import divide, stored
from cnnspec.spec import Dialect


@dataclass(frozen=True)
class CrossEntropyLoss(NLLLoss):
    """The negative log-likelihood of a softmax, as `torch.nn.CrossEntropyLoss`.

    l_n = -(1 - e) w[t_n] y[n, t_n] - e / C sum_c w[c] y[n, c], y = log_softmax(x) over the classes; see `NLLLoss`
    for shapes and errors. A label smoothing e above 1 is refused, one below 0 is none, both as in torch.
    Source: Zhang, Lipton, Li, Smola, "Dive into Deep Learning", 4.1; Szegedy et al. 2016, section 7 (smoothing).

    >>> CrossEntropyLoss().reference([[7.0], [8.0]], [0, 0])
    0.0
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.normalise(("label_smoothing",), number)

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return () or, for the reduction "none", the shape of the target; ShapeError as in torch."""
        if tuple(input_shapes[0]) == tuple(input_shapes[1]):
            raise ShapeError(
                f"target of the input's shape {tuple(input_shapes[0])} would be class probabilities"
            )
        if self.label_smoothing > 1:
            raise ShapeError(f"label_smoothing={self.label_smoothing} must not be above 1")
        return super().output_shape(*input_shapes)

    def _scores(self, input: Array) -> Array:
        return nested.elementwise(stored, _log_softmax(input).reference(input))

    def _rounded_scores(self, input: Array) -> Array:
        return _log_softmax(input).rounded_output(input)

    def _loss(self, row: list[Any], t: int, w: list[Any] | None) -> Any:
        e, likely = self.label_smoothing, super()._loss(row, t, w)
        if e <= 0:
            return likely
        total: Any = 0
        for c, y in enumerate(row):
            total = total - (y * w[c] if w else y)
        return likely * (1 - e) + total * divide(e, len(row))

    def _slopes(self, row: list[Any], t: int, w: list[Any] | None, scale: Any) -> list[Any]:
        e, slopes = self.label_smoothing, super()._slopes(row, t, w, scale)
        if e > 0:
            share = scale * divide(e, len(row))
            slopes = [d * (1 - e) - (share * w[c] if w else share) for c, d in enumerate(slopes)]
        return LogSoftmax.gradient([stored(d) for d in slopes], row)


def _log_softmax(input: Array) -> LogSoftmax:
    return LogSoftmax(0 if len(nested.shape_of(input)) == 1 else 1)


# Conventions of other frameworks


def _smooths_the_others(op: CrossEntropyLoss, *operands: Array) -> Array:
    """Spread e C / (C - 1) over all classes: e / (C - 1) for each but the target."""
    classes = classes_of(nested.shape_of(operands[0]))
    return laws.replaced(op, label_smoothing=op.label_smoothing * classes / (classes - 1)).reference(
        *operands
    )


SMOOTHS_THE_OTHERS = Dialect(
    "fairseq",
    "the smoothing is shared by the other classes only",
    lambda op: 0 < op.label_smoothing < 0.5,
    _smooths_the_others,
)


SPECS = (
    spec_of(
        "cross_entropy",
        CrossEntropyLoss,
        "label_smoothing",
        domain=domain(CrossEntropyLoss, label_smoothing=(0.0, 0.1, 0.5, 0.875)),
        dialects=(MEAN_OVER_BATCH, SMOOTHS_THE_OTHERS),
    ),
)
