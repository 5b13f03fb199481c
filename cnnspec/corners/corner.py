"""What a corner is: which operators have it, what is drawn of it, and which cases lie in it."""

from collections.abc import Callable
from dataclasses import dataclass

from cnnspec import borderline, ops
from cnnspec.cases import Case
from cnnspec.features import Feature, View
from cnnspec.spec import Pick

CONVOLUTIONS, NORMS, POOLS = (
    ("conv", "conv_transpose"),
    ("batch_norm", "instance_norm"),
    ("pool", "adaptive_pool"),
)
PLAIN = (
    "pointwise",
    "relu6",
    "leaky_relu",
    "hardswish",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "flatten",
    "combine",
)
"""Families that take images of any shape."""


@dataclass(frozen=True)
class Corner:
    """A region of the cases of some operators.

    name, region: what it is, in a few words and in a sentence
    applies: operator -> whether it has the corner;   draw: (Pick, operator) -> a case in it, but for dtype and data
    holds:   says of a case whether it lies in the corner
    layouts: `draw` says how operands lie in memory; else that is drawn as for any case
    asks:    says of a question of the law of acceptance whether it is the one that the corner is for
    """

    name: str
    region: str
    applies: Callable[[str], bool]
    draw: Callable[[Pick, str], Case]
    holds: Callable[[View], bool]
    layouts: bool = False
    asks: Callable[[Case], bool] | None = None

    def has(self, operator: str, dtype: str) -> bool:
        """Say whether an operator has it in a dtype: one for questions in float32 alone, where acceptance is asked."""
        return self.applies(operator) and (self.asks is None or dtype == "float32")

    @property
    def feature(self) -> Feature:
        """Whether a case lies in the corner, as coverage asks."""

        def applies(v: View) -> bool:
            return self.has(v.name, v.case.dtype)

        def hit(v: View) -> bool:
            return self.holds(v) and (self.asks is None or self.asks(borderline.question(v.case)))

        return Feature(f"corner: {self.name}", applies, hit, self.region)


def among(*families: str, axes: tuple[int, ...] = (1, 2, 3)) -> Callable[[str], bool]:
    """Return whether an operator is of one of the families, and has so many spatial axes if it has any."""
    return lambda operator: (
        ops.family(operator) in families and getattr(ops.spec(operator).operator, "spatial", axes[0]) in axes
    )
