"""x times the logistic function, on each element by itself.

    silu(x) = x / (1 + exp(-x))

The gradient is given as the library computes it, from the logistic function of x.
"""

from dataclasses import dataclass
from typing import Any

from cnnspec.ops.pointwise import Logistic, Pointwise, Sigmoid, domain, spec_of
from cnnspec.scalars import exp


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


SPECS = (spec_of("silu", SiLU, domain),)
