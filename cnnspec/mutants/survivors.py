"""Mutants that a default run does not catch, each with what its cases do not reach."""

_ACCEPTANCE = "no question of the law of acceptance"
_INDICES = "no case in 16 bits has indices of more than 256 elements"
_ONE_VALUE = f"{_ACCEPTANCE} leaves one value for each channel"
_SPELLING = "no case spells a stride, padding or dilation as a list of one number"

REASONS: dict[str, str] = {
    "conv1d nan in the weight swallowed": "special values stand in the input alone, never in the weight or bias",
    "conv1d same accepted with a stride": f"{_ACCEPTANCE} asks for a stride of 2 with padding='same'",
    "conv2d same accepted with a stride": f"{_ACCEPTANCE} asks for a stride of 2 with padding='same'",
    "conv1d stride of a single element refused": "no depthwise case of one element is channels-last",
    "conv1d gradients of long grouped kernels refused": "no kernel has more than 7 taps",
    "conv2d list of one is not repeated": _SPELLING,
    "conv3d list of one is not repeated": _SPELLING,
    "conv2d first tap only": "no kernel of more than one tap covers the whole image of one channel in bfloat16",
    "conv2d channel slice read as dense": "no layout is some channels of a channels-last image",
    "conv2d format guessed from one stride": "no image of one pixel and several channels is padded",
    "conv3d flat kernel wraps in bfloat16": "no large volume has a kernel of one plane",
    "conv3d negative padding accepted": f"{_ACCEPTANCE} pads a volume by -1 that is large enough to be cropped",
    "pad next row in the padding": "no float32 case crops an axis before and pads it behind",
    "pad too much reflection accepted": f"{_ACCEPTANCE} pads by the size of an axis",
    "pad reflection of large batches refused": "no batch or channel count of `pad` is 64 or more",
    "pad gradient of long rows cut": "no axis of `pad` has more than 64 elements",
    "conv_transpose2d last tap wins": "no case has stride 2 and dilation 2 on both axes",
    "max_pool1d holds indices in the input type": _INDICES,
    "max_pool2d holds indices in the input type": _INDICES,
    "max_pool2d refuses tall channels last images": "no channels-last image is tall and pooled",
    "adaptive_max_pool1d counts indices in the input type": _INDICES,
    "adaptive_max_pool2d counts indices in the input type": _INDICES,
    "adaptive_max_pool2d pools the first image again": "no batch of images of one channel is channels-last",
    "fold multiplies negative counts": f"{_ACCEPTANCE} makes the output too small for the windows on both axes",
    "interpolate takes a pixel for channels last": "no image of one pixel and several channels is enlarged",
    "batch_norm1d trains on one value": _ONE_VALUE,
    "batch_norm2d trains on one value": _ONE_VALUE,
    "batch_norm3d trains on one value": _ONE_VALUE,
    "batch_norm3d leaves images out of the gradient": "no batch of five volumes and more has one voxel each",
}
