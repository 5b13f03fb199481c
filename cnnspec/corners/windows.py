"""Corners of windows: sizes of kernels, strides and dilations for which kernels have algorithms of their own."""

from cnnspec.cases import Case
from cnnspec.corners.corner import Corner, among
from cnnspec.corners.drawing import convolution, several, spatial_axes
from cnnspec.features import View
from cnnspec.spec import Pick


def _whole_image(pick: Pick, operator: str) -> Case:
    spatial = spatial_axes(operator)
    sizes = several(pick, spatial, 2, 4 if spatial < 3 else 3)
    channels = pick.choice(((1, 1), (3, 2), (1, 3), (4, 4)))
    return convolution(operator, channels, (pick.choice((1, 5, 2, 6)), *sizes), kernel_size=sizes)


def _is_whole_image(v: View) -> bool:
    return [*v.sizes] == v.kernel and max(v.kernel) > 1 and not v.padded and max(v.dilation) == 1


def _long_kernel(pick: Pick, operator: str) -> Case:
    spatial, taps, channels = spatial_axes(operator), pick.integer(17, 24), 2 * pick.integer(1, 2)
    kernel, sizes = [1] * spatial, [*several(pick, spatial, 1, 2)]
    axis = pick.integer(0, spatial - 1)
    kernel[axis], sizes[axis] = taps, taps + pick.integer(0, 6)
    image = (pick.integer(1, 2), *sizes)
    return convolution(
        operator, (channels, channels), image, kernel_size=tuple(kernel), groups=pick.choice((2, 1))
    )


def _is_long_kernel(v: View) -> bool:
    return max(v.kernel) > 16


def _square_kernel(pick: Pick, operator: str) -> Case:
    kernel, groups = pick.choice((3, 5, 5, 3, 7)), pick.choice((2, 2, 1))
    image = (pick.integer(1, 2), *(kernel + extra for extra in several(pick, 2, 0, 5)))
    channels = groups * pick.integer(1, 2), groups * pick.integer(1, 2)
    padding = pick.choice((0, kernel // 2))
    return convolution(operator, channels, image, kernel_size=kernel, groups=groups, padding=padding)


def _is_square_kernel(v: View) -> bool:
    return v.kernel[0] == v.kernel[1] > 2 and v.kernel[0] % 2 == 1 and max(*v.stride, *v.dilation) == 1


def _depthwise_column(pick: Pick, operator: str) -> Case:
    kernel = pick.choice(((3, 1), (1, 3), (2, 1), (1, 2)))
    channels, stride = pick.integer(2, 5), pick.integer(2, 3)
    image = (pick.integer(1, 2), *several(pick, 2, 4, 7))
    window = {"kernel_size": kernel, "stride": stride, "padding": tuple(k // 2 for k in kernel)}
    outputs = channels * pick.choice((1, 2))
    return convolution(operator, (channels, outputs), image, **window, groups=channels)


def _is_depthwise_column(v: View) -> bool:
    column = min(v.kernel) == 1 < max(v.kernel)
    return column and min(v.stride) > 1 and bool(1 < v.groups == v.channels[0])


def _list_of_one(pick: Pick, operator: str) -> Case:
    spatial = spatial_axes(operator)
    image = (pick.integer(1, 2), *several(pick, spatial, 5, 6))
    window = {"stride": (pick.integer(2, 3),)} if pick.choice((True, False)) else {"dilation": (2,)}
    return convolution(operator, (pick.integer(1, 2), pick.integer(1, 2)), image, kernel_size=2, **window)


def _is_list_of_one(v: View) -> bool:
    given = (v.case.arguments.get(name) for name in ("stride", "dilation"))
    return any(isinstance(one, tuple) and len(one) == 1 for one in given)


def _taps_meet(pick: Pick, operator: str) -> Case:
    spatial, step = spatial_axes(operator), pick.choice((2, 2, 3))
    image = (pick.integer(1, 2), *several(pick, spatial, 2, 3))
    kernel = several(pick, spatial, 2, 3)
    return convolution(operator, (1, 2), image, kernel_size=kernel, stride=step, dilation=step)


def _is_taps_meet(v: View) -> bool:
    steps = {*v.operation.axes("stride"), *v.operation.axes("dilation")}  # type: ignore[attr-defined]
    return len(steps) == 1 and min(steps) > 1


def _gaps(pick: Pick, operator: str) -> Case:
    spatial = spatial_axes(operator)
    kernel = pick.integer(1, 2)
    stride = kernel + pick.integer(2, 3)
    sizes = tuple(kernel + stride * pick.integer(0, 1) + stride - 1 for _ in range(spatial))
    return convolution(operator, (1, 1), (pick.integer(1, 2), *sizes), kernel_size=kernel, stride=stride)


def _is_gaps(v: View) -> bool:
    return not v.padded and min(map(int.__sub__, v.stride, v.kernel)) > 1 and min(v.remainders) > 1


def _dilated_column(pick: Pick, operator: str) -> Case:
    arguments = {"kernel_size": (pick.integer(2, 3), 1), "dilation": (2, 1), "stride": pick.integer(1, 2)}
    return Case(operator, arguments, ((pick.integer(2, 4), pick.integer(5, 9), 1),))


def _is_dilated_column(v: View) -> bool:
    return v.batch is None and v.shape[-1] == 1 and max(v.dilation) > 1


CORNERS = (
    Corner(
        "kernel of the image's size",
        "one window, one pixel of output, batches that leave a part of a block over",
        among("conv"),
        _whole_image,
        _is_whole_image,
    ),
    Corner(
        "long kernel",
        "more than 16 taps along an axis, with groups or without",
        among("conv"),
        _long_kernel,
        _is_long_kernel,
    ),
    Corner(
        "square kernel",
        "kernels of 3 x 3, 5 x 5 and 7 x 7 without stride or dilation, with groups or without",
        among("conv", axes=(2,)),
        _square_kernel,
        _is_square_kernel,
    ),
    Corner(
        "depthwise column",
        "depthwise kernels of one column or one row, with a stride and padding along the other axis",
        among("conv", axes=(2,)),
        _depthwise_column,
        _is_depthwise_column,
    ),
    Corner(
        "list of one number",
        "a stride or dilation given as a list of one number, for all axes",
        among("conv", axes=(2, 3)),
        _list_of_one,
        _is_list_of_one,
    ),
    Corner(
        "stride equals dilation",
        "stride and dilation above 1 and equal, so that products of many windows meet",
        among("conv_transpose"),
        _taps_meet,
        _is_taps_meet,
    ),
    Corner(
        "gaps",
        "a stride larger than the kernel, with pixels behind the last window",
        among("conv"),
        _gaps,
        _is_gaps,
    ),
    Corner(
        "dilated column",
        "an image without a batch, one pixel wide, under dilated windows",
        lambda name: name == "max_pool2d",
        _dilated_column,
        _is_dilated_column,
    ),
)
