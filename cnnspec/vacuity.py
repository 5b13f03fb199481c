"""What a case cannot tell apart, whatever its outputs: where all of a cell share it, their passes prove little."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnspec.cases import Case
from cnnspec.op import arguments_of

ONE_CHANNEL, EQUAL_AXES, SYMMETRIC = "one channel", "equal axes", "symmetric kernel"


def blind_spots(case: Case, operands: Mapping[str, Any]) -> list[str]:
    """Return the names of what the case cannot tell apart.

    one channel:      one in, one out: channels in another order are the same
    equal axes:       spatial axes of equal sizes with equal arguments: exchanged arguments are the same
    symmetric kernel: a kernel of several elements that reads the same backwards: convolution is correlation

    >>> case = Case.parse("conv2d(in_channels=1, out_channels=1, kernel_size=2, input=(1, 1, 5, 5))")
    >>> blind_spots(case, {"weight": np.ones((1, 1, 2, 2))})
    ['one channel', 'equal axes', 'symmetric kernel']
    >>> blind_spots(case, {"weight": np.array([[[[1, 2], [3, 4]]]])})
    ['one channel', 'equal axes']
    """
    found = {
        ONE_CHANNEL: getattr(case.operation, "in_channels", 0)
        == getattr(case.operation, "out_channels", 1)
        == 1,
        EQUAL_AXES: _axes_are_equal(case),
        SYMMETRIC: _reads_the_same_backwards(operands.get("weight")),
    }
    return [name for name, holds in found.items() if holds]


def _axes_are_equal(case: Case) -> bool:
    """Say whether an operator of windows over several axes has them all alike."""
    axes = getattr(case.operation, "spatial", 1)
    by_axis = [v for v in arguments_of(case.operation).values() if isinstance(v, tuple) and len(v) == axes]
    if axes < 2 or not by_axis:
        return False
    return all(len(set(sizes)) == 1 for sizes in (*by_axis, *(shape[-axes:] for shape in case.inputs)))


def _reads_the_same_backwards(weight: Any) -> bool:
    if weight is None or np.ndim(weight) < 3 or np.prod(np.shape(weight)[2:]) < 2:
        return False
    axes = tuple(range(2, np.ndim(weight)))
    return bool(np.array_equal(weight, np.flip(weight, axes), equal_nan=True))
