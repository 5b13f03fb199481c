"""The positive part up to 6, on each element by itself.

    relu6(x) = min(max(x, 0), 6)

Slopes at the kinks are 0. Where x is NaN, g is passed on as torch's scalar kernel does; its vectorised one passes on 0.
"""

from dataclasses import dataclass
from typing import Any

from cnnspec import nested
from cnnspec.laws import always
from cnnspec.nested import Array
from cnnspec.op import Routing
from cnnspec.ops.pointwise import DROPS_NAN, Pointwise, domain, spec_of
from cnnspec.spec import Call, Law, Spec


@dataclass(frozen=True)
class ReLU6(Pointwise, Routing):
    """The positive part up to 6, as `torch.nn.ReLU6`: y = min(max(x, 0), 6); NaN stays NaN and -0 stays -0.

    Source: Howard et al., "MobileNets", 2017; Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10", 2010.

    >>> ReLU6().reference([-2, 3, 8]), ReLU6().gradients([5, 5, 5, 5], [-2, 0, 3, 6])
    ([0, 3, 6], [[0, 0, 5, 0]])
    """

    def function(self, x: Any) -> Any:
        """Return x clipped to [0, 6]."""
        return min(max(x, 0), 6)

    def gradient(self, g: Any, x: Any) -> Any:
        """Return 0 where x <= 0 or x >= 6, else g."""
        return 0 if x <= 0 or x >= 6 else g


def _clip_reflects(op: ReLU6, call: Call, x: Array) -> tuple[Array, Array]:
    return call(op, x), nested.elementwise(lambda y: 6 - y, call(op, nested.elementwise(lambda v: 6 - v, x)))


SPECS = (
    spec_of(
        "relu6",
        ReLU6,
        domain,
        laws=(Law("reflection", "relu6(x) = 6 - relu6(6 - x)", always, _clip_reflects),),
        judged="copy",
        largest=12,
        dtypes=(*Spec.dtypes, "int64"),
        dialects=(DROPS_NAN,),
    ),
)
