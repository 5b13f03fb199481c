"""Corners: regions of arguments, layouts and shapes that cases drawn over the whole domain hardly ever meet.

Each is what an author of kernels knows as a case of its own: a shape that two layouts have in common, an index that a
type does not hold, a question that only some arguments ask. A small share of the cases is drawn from each of them;
`docs/corners.md` says which bugs they are for. Nothing else in the generators is special.
"""

from cnnspec.corners import layouts, limits, questions, windows
from cnnspec.corners.corner import Corner

CORNERS: tuple[Corner, ...] = (*layouts.CORNERS, *windows.CORNERS, *limits.CORNERS, *questions.CORNERS)


def of(operator: str, dtype: str = "float32") -> list[Corner]:
    """Return the corners of an operator in a dtype.

    >>> [corner.name for corner in of("linear")]
    []
    """
    return [one for one in CORNERS if one.has(operator, dtype)]
