"""What batch and instance normalization share: a weight and running statistics for each channel.

    y[n, c, p] = (x[n, c, p] - m) / sqrt(v + eps) * weight[c] + bias[c]

n batch, c channel, p position. Mean m and variance v are those of the input, or, in evaluation where running
statistics are tracked, those of the channel. A call in training that tracks them changes them:

    running = (1 - momentum) running + momentum batch

where `batch` is the mean, and the unbiased variance v n / (n - 1); of instances, their average over the batch.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cnnspec import laws, nested
from cnnspec.errors import ArgumentError, ShapeError
from cnnspec.nested import Array, Shape
from cnnspec.op import integer, without_defaults
from cnnspec.ops import norm
from cnnspec.ops.norm_bounds import total
from cnnspec.scalars import constant, divide, stored
from cnnspec.spec import Call, Law, Pick, Spec

RUNNING = ("running_mean", "running_var")


@dataclass(frozen=True)
class ChannelNorm(norm.Norm):
    """The arguments, the operands and the running statistics; what is to be normalized is stated by each."""

    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    bias: bool = True
    training: bool = False

    spatial: ClassVar[int]
    over_batch: ClassVar[bool]
    """Whether mean and variance run over the batch too."""

    def __post_init__(self) -> None:
        if self.affine or self.track_running_stats:
            self.normalise(("num_features",), integer)
            if self.num_features < 0:
                raise ArgumentError(
                    f"num_features={self.num_features} must not be negative", num_features=self.num_features
                )

    @property
    def from_batch(self) -> bool:
        """Whether mean and variance are those of the input, not the running ones."""
        return self.training or not self.track_running_stats

    @property
    def factor(self) -> float:
        """The momentum as the functional form takes it."""
        raise NotImplementedError

    def parameter_shapes(self) -> dict[str, Shape]:
        """Return {"weight": (num_features,), "bias": (num_features,)}, those that there are."""
        names = ("weight", "bias") if self.bias else ("weight",)
        return dict.fromkeys(names if self.affine else (), (self.num_features,))

    def buffer_shapes(self) -> dict[str, Shape]:
        """Return {"running_mean": (num_features,), "running_var": (num_features,)} where they are tracked."""
        return dict.fromkeys(RUNNING if self.track_running_stats else (), (self.num_features,))

    def given_statistics(self, place: int, given: Mapping[str, list[Any]]) -> tuple[Any, Any]:
        """Return the running mean and variance of a channel."""
        return given["running_mean"][place], given["running_var"][place]

    def updates(self, *operands: Array) -> dict[str, Array]:
        """Return the new running mean and variance; {} where the call changes none."""
        if not (self.training and self.track_running_stats):
            return {}
        given, places, shape = self._read(operands)
        found: list[list[tuple[Any, Any]]] = [[] for _ in range(self.num_features)]
        n = 0
        for group in self.partition(shape)[0]:
            if group:
                n = len(group)
                found[places[group[0]]].append(norm.moments([given["input"][i] for i in group]))
        return self.updated([given[name] for name in RUNNING], found, n)

    def updated(
        self, running: Sequence[Sequence[Any]], batch: Sequence[Sequence[tuple[Any, Any]]], n: int
    ) -> dict[str, Array]:
        """Return the running means and variances after groups of n elements: the moments of each, by channel."""
        means, variances = running
        return {
            "running_mean": [
                self._averaged(old, [mean for mean, _ in pairs])
                for old, pairs in zip(means, batch, strict=True)
            ],
            "running_var": [
                self._averaged(old, [divide(variance, n - 1) * n for _, variance in pairs])
                for old, pairs in zip(variances, batch, strict=True)
            ],
        }

    def _averaged(self, old: Any, batch: Sequence[Any]) -> Any:
        """Return old + momentum (new - old), averaged over what is new; factors and products may be stored."""
        shares = [old + stored(stored((new - old) * constant(self.factor, new))) for new in batch]
        if len(shares) < 2:
            return shares[0] if shares else old
        return divide(total(shares), len(shares))

    def check(self, shape: Shape, axes: Sequence[int], channel: int, needed: bool) -> None:
        """Refuse other numbers of axes, other channels where they are `needed`, and a weight without elements."""
        if len(shape) not in axes:
            raise ShapeError(
                f"input of shape {tuple(shape)} must have {' or '.join(map(str, axes))} axes", shape=shape
            )
        if (needed and shape[channel] != self.num_features) or (self.affine and not self.num_features):
            raise ShapeError(
                f"the {shape[channel]} channels of {tuple(shape)} must be num_features={self.num_features}, "
                "at least 1 beside a weight",
                num_features=self.num_features,
            )

    def check_many(self, shape: Shape, values: int) -> None:
        """Refuse statistics of one value."""
        if self.from_batch and values == 1:
            raise ShapeError(
                f"input of shape {tuple(shape)} has one value per channel, which has no variance", shape=shape
            )


# Domain


def domain(operator: type[ChannelNorm]) -> Callable[[Pick], tuple[Mapping[str, Any], tuple[Shape, ...]]]:
    """Return the domain of a normalization: every mode, batches of one, single positions, nothing at all."""
    spatial, of_batch = operator.spatial, operator.over_batch

    def draw(pick: Pick) -> tuple[Mapping[str, Any], tuple[Shape, ...]]:
        training, tracked = pick.choice(((False, True), (True, True), (True, False), (False, False)))
        affine = pick.choice((True, True, False))
        arguments: dict[str, Any] = {
            "num_features": pick.choice((1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33)),
            "training": training,
            "track_running_stats": tracked,
            "affine": affine,
            "bias": not affine or pick.choice((True, True, False)),
            "eps": pick.choice(norm.EPS),
            "momentum": pick.choice((0.1, 0.25, 0.0, 1.0, None)),
        }
        lengths = (2, 3, 1, 4, 5, 7, 8, 9, 17)[: (9, 6, 5)[spatial - 1]]
        sizes = [pick.choice(lengths) for _ in range(spatial)]
        if of_batch and spatial == 1 and pick.choice((False, False, True)):
            sizes = []
        batch = pick.choice((2, 1, 3, 5, 0) if of_batch or not (affine or tracked) else (2, 1, 3, 5))
        if math.prod(sizes) * (batch if of_batch else 1) == 1 and (training or not tracked):
            batch, sizes = (2, sizes) if of_batch else (batch, [2] * spatial)
        while math.prod((batch, arguments["num_features"], *sizes)) > 1000:
            arguments["num_features"] //= 2
        return without_defaults(operator, arguments), ((batch, arguments["num_features"], *sizes),)

    return draw


def positive(op: ChannelNorm, shapes: Mapping[str, Shape], rng: random.Random) -> list[float]:
    """Draw variances between 2^-7 and 2^7, and 0 for one in ten."""
    drawn = [rng.uniform(0.5, 1) * 2.0 ** rng.randint(-6, 7) for _ in range(math.prod(shapes["running_var"]))]
    return [0.0 if rng.random() < 0.1 else value for value in drawn]


# Laws


def _is_a_line(
    op: ChannelNorm, call: Call, x: Array, mean: Array, var: Array, *parameters: Array
) -> tuple[Array, Array]:
    """With variance 4 and no eps the factor is w / 2, which leaves small integers exact."""
    m, given = nested.ravel(mean), [nested.ravel(one) for one in parameters]
    w, b = (given + [[1] * op.num_features, [0] * op.num_features][len(given) :])[:2]
    line = [
        divide(value * w[c], 2) + (b[c] - divide(m[c] * w[c], 2))
        for value, c in zip(nested.ravel(x), op.partition(nested.shape_of(x))[1], strict=True)
    ]
    y = call(laws.replaced(op, eps=0.0), x, mean, laws.constant_like(var, 4), *parameters)
    return y, nested.unravel(line, nested.shape_of(x))


LINE = Law(
    "line",
    "evaluation with variance 4 is the line x w / 2 + (b - m w / 2)",
    lambda op, shapes: not op.from_batch,
    _is_a_line,
)


def spec_of(operator: type[ChannelNorm], name: str, mode: str) -> Spec:
    """Return the Spec of one number of axes; `mode` is the functional form's word for statistics of the input."""
    return Spec(
        name=f"{name}{operator.spatial}d",
        operator=operator,
        operands=("input", *RUNNING, "weight", "bias"),
        keywords=("momentum", "eps"),
        derived={mode: "from_batch", "momentum": "factor"},
        domain=domain(operator),
        laws=(*norm.LAWS, LINE),
        judged="function",
        layer=operator.__name__,
        constants=RUNNING,
        fill={"running_var": positive},
        dialects=norm.DIALECTS,
    )
