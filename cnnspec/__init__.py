"""cnnspec: exact reference operators of convolutional networks, and a suite that tests kernels against them.

>>> import cnnspec
>>> conv = cnnspec.Conv2d(in_channels=3, out_channels=64, kernel_size=7, stride=2, padding=3)
>>> conv.output_shape((1, 3, 224, 224)), conv.parameter_count, conv.macs((1, 3, 224, 224))
((1, 64, 112, 112), 9472, 118013952)
>>> cnnspec.corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
[[19, 25], [37, 43]]

Names load when they are asked for: calculators and loops need the standard library alone.
"""

import importlib
from typing import Any

from cnnspec._version import __version__ as __version__

_PUBLIC = {
    "errors": ("ArgumentError", "CnnspecError", "ShapeError", "UsageError"),
    "window": ("ReceptiveField", "Window", "same_padding"),
    "ops.corr": ("convolve2d", "corr2d", "corr2d_multi_in", "corr2d_multi_in_out", "corr2d_multi_in_out_1x1"),
    "ops.conv": ("Conv1d", "Conv2d", "Conv3d"),
    "ops.pool": ("AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "pool2d"),
    "ops.adaptive_pool": (
        "AdaptiveAvgPool1d",
        "AdaptiveAvgPool2d",
        "AdaptiveAvgPool3d",
        "AdaptiveMaxPool1d",
        "AdaptiveMaxPool2d",
        "AdaptiveMaxPool3d",
    ),
    "ops.global_pool": ("GlobalAvgPool",),
    "ops.fractional_pool": ("FractionalMaxPool2d", "FractionalMaxPool3d"),
    "ops.lp_pool": ("LPPool1d", "LPPool2d", "LPPool3d"),
    "ops.unpool": ("MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"),
    "ops.pad": ("Pad",),
    "ops.conv_transpose": ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
    "ops.unfold": ("Unfold",),
    "ops.fold": ("Fold",),
    "ops.rearrange": ("PixelShuffle", "PixelUnshuffle"),
    "ops.upsample": ("Upsample",),
    "ops.batch_norm": ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"),
    "ops.instance_norm": ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
    "ops.group_norm": ("GroupNorm",),
    "ops.layer_norm": ("LayerNorm",),
    "ops.lrn": ("LocalResponseNorm",),
    "ops.dropout": ("Dropout",),
    "ops.linear": ("Linear",),
    "ops.flatten": ("Flatten",),
    "ops.pointwise": ("ReLU", "Sigmoid", "Tanh"),
    "ops.relu6": ("ReLU6",),
    "ops.leaky_relu": ("LeakyReLU",),
    "ops.prelu": ("PReLU",),
    "ops.hardswish": ("Hardswish",),
    "ops.elu": ("ELU",),
    "ops.gelu": ("GELU",),
    "ops.silu": ("SiLU",),
    "ops.softplus": ("Softplus",),
    "ops.softmax": ("LogSoftmax", "Softmax"),
    "ops.losses": ("MSELoss",),
    "ops.nll_loss": ("NLLLoss",),
    "ops.cross_entropy": ("CrossEntropyLoss",),
    "ops.combine": ("Add", "Concat"),
    "initialisers": (
        "Constant",
        "Dirac",
        "FanInUniform",
        "KaimingNormal",
        "KaimingUniform",
        "Normal",
        "TruncatedNormal",
        "Uniform",
        "XavierNormal",
        "XavierUniform",
        "default_initialiser",
        "fans",
        "gain",
    ),
    "blocks": ("Branches", "Node", "Parallel", "Residual", "Seq", "Shared"),
    "graph": ("Network",),
    "cases": ("Case",),
    "tables": ("summary",),
    "backends": ("Backend",),
    "backends.torch_graph": ("from_torch",),
    "backends.torch_modules": ("to_torch",),
    "distributions": ("check_initialiser",),
    "identify": ("fingerprint",),
    "run": ("assert_conforms", "check", "replay"),
    "report.results": ("Results",),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_MODULES = ("exact", "nets", "ops", "strategies", "window")

__all__ = [*_HOME, "exact", "nets", "ops", "strategies"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"cnnspec.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"cnnspec.{name}")
    raise AttributeError(f"module 'cnnspec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
