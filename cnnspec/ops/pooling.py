"""What all poolings share: the maximum or the mean of regions of each channel, wherever a pooling has them lie.

    max: y[n, c, p] = max_i x[n, c, i]                    dx[n, c, i] = sum_p dy[n, c, p]    where p chose i
    avg: y[n, c, p] = sum_i x[n, c, i] / divisor(p)       dx[n, c, i] = sum_p dy[n, c, p] / divisor(p)

n batch, c channel, p output position, i input element: flat over the spatial axes, in the region of p.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from cnnspec import nested
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator, Routing
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import divide, is_nan
from cnnspec.spec import Pick

Regions = Sequence[Sequence[int]]
"""For each output position of one channel in row-major order: the flat input indices that it sees."""


def planes(array: Array, spatial: int) -> list[list[Any]]:
    """Return the channels of all images, each one flat row.

    >>> planes([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], 2)
    [[1, 2, 3, 4], [5, 6, 7, 8]]
    """
    shape, values = nested.shape_of(array), nested.ravel(array)
    first = len(shape) - spatial
    size = math.prod(shape[first:])
    return [values[n * size : (n + 1) * size] for n in range(math.prod(shape[:first]))]


def largest(plane: Sequence[Any], region: Sequence[int]) -> tuple[Any, int]:
    """Return the largest element of a region and its index; (-infinity, -1) where the region is empty.

    Of equal elements, +0 and -0 too, the first wins; of several NaN the last.

    >>> largest([3, 7, 7, 1], [0, 1, 2])
    (7, 1)
    """
    best, index = -math.inf, -1
    for i in region:
        if index < 0 or plane[i] > best or is_nan(plane[i]):
            best, index = plane[i], i
    return best, index


def boxes(axes: Sequence[Sequence[Sequence[int]]], sizes: Shape) -> Regions:
    """Return the regions whose windows are given axis by axis: the flat indices of every combination.

    >>> boxes([[[0], [1]], [[0, 1], [1, 2]]], (2, 3))
    [[0, 1], [1, 2], [3, 4], [4, 5]]
    """
    regions = []
    for position in itertools.product(*axes):
        flat = [0]
        for size, window in zip(sizes, position, strict=True):
            flat = [i * size + index for i in flat for index in window]
        regions.append(flat)
    return regions


class Maximum(Routing):
    """The maximum of each region, or (maxima, indices) with `return_indices`."""

    spatial: ClassVar[int]
    return_indices: bool

    def regions(self, sizes: Shape) -> Regions:
        """Return the regions of a channel with these spatial sizes."""
        raise NotImplementedError

    def plane_regions(self, *operands: Array) -> list[Regions]:
        """Return the regions of each channel of each image: by default all have the same."""
        shape = nested.shape_of(operands[0])
        return [self.regions(shape[-self.spatial :])] * math.prod(shape[: -self.spatial])

    def chosen(self, *operands: Array) -> list[list[tuple[Any, int]]]:
        """Return (maximum, index) of each region of each channel."""
        rows = zip(planes(operands[0], self.spatial), self.plane_regions(*operands), strict=True)
        return [[largest(plane, region) for region in regions] for plane, regions in rows]

    def reference(self, *operands: Array) -> Array:
        """Return the maxima, or (maxima, indices) with `return_indices`: flat in the channel's spatial axes.

        Of equal elements, +0 and -0 too, the first wins; of several NaN the last. A region without an element,
        which a dilated window in ceil mode may have, gives (-infinity, -1).
        """
        shape = self.output_shape(*map(nested.shape_of, operands))
        pairs = [pair for plane in self.chosen(*operands) for pair in plane]
        maxima = nested.unravel([maximum for maximum, _ in pairs], shape)
        return (maxima, nested.unravel([i for _, i in pairs], shape)) if self.return_indices else maxima

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx: each dy goes to the element that was chosen, that of a region without elements nowhere."""
        shape = nested.shape_of(operands[0])
        pixels = math.prod(shape[len(shape) - self.spatial :])
        dx = [0] * math.prod(shape)
        for n, (dy, pairs) in enumerate(
            zip(planes(grad_output, self.spatial), self.chosen(*operands), strict=True)
        ):
            for d, (_, i) in zip(dy, pairs, strict=True):
                if i >= 0:
                    dx[n * pixels + i] = dx[n * pixels + i] + d
        return [nested.unravel(dx, shape), *[None] * (len(operands) - 1)]


class Mean(Operator):
    """The sum of each region, divided; `divisions` says in how many steps libraries divide."""

    divisions = 1

    def regions(self, sizes: Shape) -> Regions:
        """Return the regions of a channel with these spatial sizes."""
        raise NotImplementedError

    def divisors(self, input_shape: Shape) -> list[int]:
        """Return what each sum is divided by, in row-major order of the output."""
        raise NotImplementedError

    def spatial_axes(self, input_shape: Shape) -> int:
        """Return how many of the last axes are spatial."""
        raise NotImplementedError

    def reference(self, *arrays: Array) -> Array:
        """Return the means, exactly on integers and fractions."""
        (input,) = arrays
        shape = nested.shape_of(input)
        output = self.output_shape(shape)
        pairs = zip(self.sums(input), self.divisors(shape), strict=True)
        return nested.unravel([divide(total, divisor) for total, divisor in pairs], output)

    def sums(self, input: Array) -> list[Any]:
        """Return the sum of each region, not divided, in row-major order of the output."""
        spatial, shape = self.spatial_axes(nested.shape_of(input)), nested.shape_of(input)
        regions = self.regions(shape[len(shape) - spatial :])
        sums = []
        for plane in planes(input, spatial):
            for region in regions:
                total = 0
                for i in region:
                    total = total + plane[i]
                sums.append(total)
        return sums

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return dx: each dy, divided as its sum was, goes to every element of the region."""
        shape = nested.shape_of(operands[0])
        dx = [0] * math.prod(shape)
        for d, divisor, region in self._shares(grad_output, shape):
            share = divide(d, divisor)
            for i in region:
                dx[i] = dx[i] + share
        return [nested.unravel(dx, shape)]

    def _shares(self, grad_output: Array, shape: Shape) -> list[tuple[Any, int, list[int]]]:
        """Return, for each output: its gradient, its divisor, and its region as flat indices of the input."""
        sizes = shape[len(shape) - self.spatial_axes(shape) :]
        regions, pixels = self.regions(sizes), math.prod(sizes)
        starts = range(0, math.prod(shape), max(1, pixels))
        places = [[start + i for i in region] for start in starts for region in regions]
        return list(zip(nested.ravel(grad_output), self.divisors(shape), places, strict=True))

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return S = sum |x| before the division and the roundings of a sum and its divisions.

        Of m terms that are not zero, m - 1 additions round and each division does.
        """
        (input,) = arrays
        magnitude = self.sums(nested.elementwise(abs, input))
        count = self.sums(nested.elementwise(lambda value: int(value != 0), input))
        divisors = [abs(divisor) for divisor in self.divisors(nested.shape_of(input))]
        roundings = [m + self.divisions - 1 for m in count]
        return RoundingTerms(magnitude, roundings, divisors=divisors, divisions=self.divisions)

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return S = sum_p |dy| / |divisor(p)| and its roundings, for each element of dx.

        The terms are divided before they are added: `divisors` holds the least common multiple D of their
        divisors, the magnitude is D S, and both are integers where dy is. Of m terms that are not zero, m - 1
        additions round, and each term by its divisions: in all m + divisions - 1, as in a sum of m products.
        """
        shape = nested.shape_of(operands[0])
        shares = self._shares(nested.elementwise(abs, grad_output), shape)
        common, magnitude, count = ([one] * math.prod(shape) for one in (1, 0, 0))
        for _, divisor, region in shares:
            for i in region:
                common[i] = math.lcm(common[i], divisor)
        for d, divisor, region in shares:
            for i in region:
                magnitude[i] = magnitude[i] + d * (common[i] // abs(divisor))
                count[i] += d != 0
        return [RoundingTerms(magnitude, [m + self.divisions - 1 for m in count], divisors=common)]


def draw_shape(pick: Pick, sizes: Sequence[int]) -> Shape:
    """Draw batch and channels for an input of these spatial sizes: empty, unbatched, around widths of vectors."""
    batch: Shape = pick.choice(((1,), (2,), (), (3,), (0,)))
    channels = pick.choice((1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33))
    while channels > 1 and math.prod((*batch, channels, *sizes)) > 1500:
        channels //= 2
    return (*batch, channels, *sizes)
