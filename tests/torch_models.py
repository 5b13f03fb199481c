"""Small modules of torch with their products and parameters, counted by hand.

A convolution multiplies (outputs) x (weights of one output), a transposed one (inputs) x (weights of one input).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

Shapes = tuple[tuple[int, ...], ...]


class Model(NamedTuple):
    """A module, the shapes of its inputs, and what was counted by hand; macs is None where it is unavailable."""

    name: str
    build: Callable[[], nn.Module]
    shapes: Shapes
    macs: int | None
    parameters: int


class Calls(nn.Module):
    """A module whose forward is a function of its parts and the inputs."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class Wider(nn.Conv2d):
    """A subclass whose name does not tell what it is."""


class Standardized(nn.Conv2d):
    """A convolution by a weight of mean 0."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class Direct(nn.Module):
    """Calls a layer's forward, which no hook sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv.forward(x)
        return y


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


def tied() -> nn.Module:
    a, b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6)
    b.weight = a.weight
    return nn.Sequential(a, b)


def two_names() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1, bias=False)
    return nn.Sequential(conv, nn.Sequential(conv))


def buffered(kernel: Tensor, function: Callable[..., Any], **parts: Any) -> nn.Module:
    module = Calls(function, **parts)
    module.register_buffer("kernel", kernel)
    return module


def frozen() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 1))
    net[0].requires_grad_(False)
    return net


def residual(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.conv(x)
    y += x
    return y.relu_()


def in_place(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    F.relu_(y)
    y.mul_(2).add_(1)
    return self.b(y)  # type: ignore[no-any-return]


def in_view(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    y[:, :2].zero_()
    return self.b(y)  # type: ignore[no-any-return]


def filled(self: Any, x: Tensor) -> Tensor:
    y = torch.zeros(2, 4)
    y[:, 1:] = x
    return self.l(y)  # type: ignore[no-any-return]


def attention(self: Any, x: Tensor) -> Tensor:
    q, k, v = self.qkv(x).chunk(3, -1)
    return self.out(F.scaled_dot_product_attention(q, k, v))  # type: ignore[no-any-return]


def branching(self: Any, x: Tensor) -> Tensor:
    return self.a(x) if float(x.sum()) == 0 else self.b(self.a(x))  # type: ignore[no-any-return]


def dynamic(self: Any, x: Tensor) -> Tensor:
    weight = self.make(x.mean((2, 3))).view(4, 3, 1, 1)
    return F.conv2d(x, weight)


IMAGE: Shapes = ((1, 3, 8, 8),)

MODELS: tuple[Model, ...] = (
    Model("root", lambda: nn.Conv2d(3, 8, 3, bias=False), IMAGE, 8 * 6 * 6 * 27, 216),
    Model("bias", lambda: nn.Conv2d(3, 8, 3), IMAGE, 8 * 6 * 6 * 27, 216 + 8),
    Model("batch", lambda: nn.Conv2d(3, 8, 3), ((4, 3, 8, 8),), 4 * 8 * 6 * 6 * 27, 216 + 8),
    Model("unbatched", lambda: nn.Conv2d(3, 8, 3), ((3, 8, 8),), 8 * 6 * 6 * 27, 216 + 8),
    Model("groups", lambda: nn.Conv2d(8, 8, 3, groups=4), ((1, 8, 5, 5),), 8 * 9 * 2 * 9, 8 * 2 * 9 + 8),
    Model("depthwise", lambda: nn.Conv2d(4, 8, 3, groups=4), ((1, 4, 5, 5),), 8 * 9 * 9, 8 * 9 + 8),
    Model("dilation", lambda: nn.Conv2d(3, 2, 3, 2, dilation=2), ((1, 3, 9, 9),), 2 * 9 * 27, 2 * 27 + 2),
    Model("1x7", lambda: nn.Conv2d(3, 2, (1, 7), padding=(0, 3)), IMAGE, 2 * 64 * 21, 2 * 21 + 2),
    Model("conv1d", lambda: nn.Conv1d(3, 5, 4), ((2, 3, 9),), 2 * 5 * 6 * 12, 5 * 12 + 5),
    Model("conv3d", lambda: nn.Conv3d(2, 3, 2), ((1, 2, 4, 4, 4),), 3 * 27 * 16, 3 * 16 + 3),
    Model("same 3", lambda: nn.Conv2d(3, 8, 3, padding="same"), IMAGE, 8 * 64 * 27, 224),
    Model("same 4", lambda: nn.Conv2d(3, 8, 4, padding="same"), IMAGE, 8 * 64 * 48, 8 * 48 + 8),
    Model("same dilated", lambda: nn.Conv2d(3, 8, 3, padding="same", dilation=3), IMAGE, 8 * 64 * 27, 224),
    Model("valid", lambda: nn.Conv2d(3, 8, 3, padding="valid"), IMAGE, 8 * 36 * 27, 224),
    Model(
        "circular", lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), IMAGE, 8 * 64 * 27, 224
    ),
    Model("reflect", lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), IMAGE, 8 * 64 * 27, 224),
    Model("transposed", lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False), IMAGE, 3 * 64 * 4 * 9, 108),
    Model("transposed stride 1", lambda: nn.ConvTranspose2d(3, 4, 3), IMAGE, 3 * 64 * 4 * 9, 108 + 4),
    Model(
        "transposed groups",
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2),
        ((1, 4, 5, 5),),
        4 * 25 * 3 * 9,
        4 * 3 * 9 + 6,
    ),
    Model(
        "transposed depthwise",
        lambda: nn.ConvTranspose2d(4, 4, 2, 2, groups=4, bias=False),
        ((1, 4, 5, 5),),
        4 * 25 * 4,
        4 * 4,
    ),
    Model("transposed 1d", lambda: nn.ConvTranspose1d(3, 2, 4, 2), ((1, 3, 7),), 3 * 7 * 2 * 4, 24 + 2),
    Model(
        "transposed 3d",
        lambda: nn.ConvTranspose3d(2, 3, 2, 2),
        ((1, 2, 3, 3, 3),),
        2 * 27 * 3 * 8,
        2 * 3 * 8 + 3,
    ),
    Model(
        "transposed to a size",
        lambda: Calls(lambda s, x: s.up(x, output_size=[16, 16]), up=nn.ConvTranspose2d(3, 4, 3, 2, 1)),
        IMAGE,
        3 * 64 * 4 * 9,
        108 + 4,
    ),
    Model(
        "functional",
        lambda: Calls(lambda s, x: F.conv2d(x, s.k), k=parameter(8, 3, 3, 3)),
        IMAGE,
        8 * 36 * 27,
        216,
    ),
    Model(
        "functional transposed",
        lambda: Calls(lambda s, x: F.conv_transpose2d(x, s.k, stride=2), k=parameter(3, 4, 2, 2)),
        IMAGE,
        3 * 64 * 4 * 4,
        48,
    ),
    Model(
        "functional linear",
        lambda: Calls(lambda s, x: F.linear(x, s.w, s.b), w=parameter(5, 3), b=parameter(5)),
        ((2, 3),),
        2 * 5 * 3,
        20,
    ),
    Model(
        "fixed kernel",
        lambda: buffered(
            torch.ones(3, 1, 3, 3), lambda s, x: s.c(F.conv2d(x, s.kernel, groups=3)), c=nn.Conv2d(3, 2, 1)
        ),
        IMAGE,
        3 * 36 * 9 + 2 * 36 * 3,
        2 * 3 + 2,
    ),
    Model(
        "called twice",
        lambda: Calls(lambda s, x: s.c(s.c(x)), c=nn.Conv2d(4, 4, 3, padding=1)),
        ((1, 4, 6, 6),),
        2 * 4 * 36 * 36,
        4 * 36 + 4,
    ),
    Model(
        "called on two sizes",
        lambda: Calls(lambda s, x: s.c(F.max_pool2d(s.c(x), 2)), c=nn.Conv2d(4, 4, 1)),
        ((1, 4, 6, 6),),
        4 * 36 * 4 + 4 * 9 * 4,
        20,
    ),
    Model("two names", two_names, ((1, 4, 6, 6),), 2 * 4 * 36 * 4, 16),
    Model("tied", tied, ((2, 6),), 2 * 2 * 6 * 6, 36 + 6),
    Model("subclass", lambda: Wider(3, 8, 3), IMAGE, 8 * 36 * 27, 224),
    Model("standardized weight", lambda: Standardized(3, 8, 3), IMAGE, 8 * 36 * 27, 224),
    Model(
        "weight_norm",
        lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
        IMAGE,
        8 * 36 * 27,
        8 + 216 + 8,
    ),
    Model(
        "weight_norm by hook",
        lambda: nn.utils.weight_norm(nn.Conv2d(3, 8, 3)),
        IMAGE,
        8 * 36 * 27,
        8 + 216 + 8,
    ),
    Model(
        "weight_norm transposed",
        lambda: parametrizations.weight_norm(nn.ConvTranspose2d(3, 4, 2, 2)),
        IMAGE,
        3 * 64 * 4 * 4,
        3 + 48 + 4,
    ),
    Model("lazy conv", lambda: nn.LazyConv2d(8, 3), IMAGE, 8 * 36 * 27, 224),
    Model(
        "lazy net",
        lambda: nn.Sequential(nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5)),
        IMAGE,
        2 * 36 * 27 + 5 * 72,
        (54 + 2) + 4 + (5 * 72 + 5),
    ),
    Model("frozen", frozen, IMAGE, 8 * 36 * 27 + 4 * 36 * 8, 216 + 36),
    Model("linear on a sequence", lambda: nn.Linear(6, 5), ((2, 7, 6),), 2 * 7 * 5 * 6, 35),
    Model(
        "batch_norm",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        IMAGE,
        4 * 36 * 27,
        112 + 8,
    ),
    Model(
        "norms",
        lambda: nn.Sequential(nn.GroupNorm(3, 3), nn.InstanceNorm2d(3, affine=True), nn.LayerNorm([3, 8, 8])),
        IMAGE,
        0,
        6 + 6 + 2 * 192,
    ),
    Model(
        "layer scale",
        lambda: Calls(lambda s, x: x + s.g * s.c(x), c=nn.Conv2d(3, 3, 1), g=parameter(3, 1, 1)),
        IMAGE,
        3 * 64 * 3,
        12 + 3,
    ),
    Model(
        "no parameters",
        lambda: nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)),
        IMAGE,
        0,
        0,
    ),
    Model(
        "ceil and adaptive",
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AdaptiveAvgPool2d((2, 1))
        ),
        IMAGE,
        4 * 49 * 12,
        52,
    ),
    Model("direct call", Direct, IMAGE, 8 * 36 * 27, 216),
    Model(
        "unused layer",
        lambda: Calls(lambda s, x: s.a(x), a=nn.Linear(4, 3), b=nn.Linear(9, 9)),
        ((2, 4),),
        24,
        15 + 90,
    ),
    Model("matrix product", lambda: Calls(lambda s, a, b: a @ b), ((2, 3, 4), (2, 4, 5)), 2 * 3 * 5 * 4, 0),
    Model(
        "matrix times parameter",
        lambda: Calls(lambda s, x: x @ s.w, w=parameter(4, 5)),
        ((2, 3, 4),),
        2 * 3 * 5 * 4,
        20,
    ),
    Model(
        "addmm",
        lambda: Calls(lambda s, x: torch.addmm(s.b, x, s.w), w=parameter(4, 5), b=parameter(5)),
        ((3, 4),),
        60,
        25,
    ),
    Model(
        "non-local",
        lambda: Calls(lambda s, x: torch.bmm(torch.softmax(torch.bmm(x, x.mT), -1), x)),
        ((1, 4, 9),),
        4 * 4 * 9 + 4 * 9 * 4,
        0,
    ),
    Model(
        "unfold and matrix product",
        lambda: Calls(lambda s, x: s.w @ F.unfold(x, 3), w=parameter(8, 27)),
        IMAGE,
        8 * 36 * 27,
        216,
    ),
    Model(
        "einsum",
        lambda: Calls(lambda s, x: torch.einsum("nchw,oc->nohw", x, s.w), w=parameter(5, 3)),
        IMAGE,
        64 * 3 * 5,
        15,
    ),
    Model(
        "attention",
        lambda: Calls(attention, qkv=nn.Linear(4, 12), out=nn.Linear(4, 4)),
        ((2, 5, 4),),
        2 * 5 * 12 * 4 + 2 * 2 * 5 * 5 * 4 + 2 * 5 * 4 * 4,
        60 + 20,
    ),
    Model(
        "multi-head attention",
        lambda: Calls(lambda s, x: s.m(x, x, x)[0], m=nn.MultiheadAttention(8, 2)),
        ((5, 2, 8),),
        10 * 24 * 8 + 2 * (2 * 2) * 5 * 5 * 4 + 10 * 8 * 8,
        (24 * 8 + 24) + (64 + 8),
    ),
    Model(
        "transformer layer",
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
        ((2, 5, 8),),
        10 * 24 * 8 + 2 * (2 * 2) * 5 * 5 * 4 + 10 * 8 * 8 + 10 * (16 * 8 + 8 * 16),
        (24 * 8 + 24) + (64 + 8) + (128 + 16) + (128 + 8) + 2 * 16,
    ),
    Model("embedding", lambda: Calls(lambda s, x: s.e(x.long()), e=nn.Embedding(5, 3)), ((2, 3),), 0, 15),
    Model(
        "class token",
        lambda: Calls(lambda s, x: torch.cat([s.t.expand(2, -1, -1), x], 1), t=parameter(1, 1, 4)),
        ((2, 3, 4),),
        0,
        4,
    ),
    Model("empty batch", lambda: nn.Conv2d(3, 8, 3), ((0, 3, 8, 8),), 0, 224),
    Model("into zeros", lambda: Calls(filled, l=nn.Linear(4, 5)), ((2, 3),), 2 * 5 * 4, 25),
    Model("nothing", nn.Identity, ((2, 3),), 0, 0),
    Model("orthogonal", lambda: parametrizations.orthogonal(nn.Linear(4, 4)), ((2, 4),), None, 16 + 4),
    Model(
        "residual in place",
        lambda: Calls(residual, conv=nn.Conv2d(3, 3, 3, padding=1)),
        IMAGE,
        3 * 64 * 27,
        84,
    ),
    Model(
        "in place",
        lambda: Calls(in_place, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1)),
        IMAGE,
        64 * (12 + 8),
        16 + 10,
    ),
    Model(
        "in a view",
        lambda: Calls(in_view, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1)),
        IMAGE,
        64 * (12 + 8),
        16 + 10,
    ),
    Model(
        "views",
        lambda: Calls(
            lambda s, x: s.l(x.permute(0, 2, 3, 1).reshape(-1, 3)).view(1, 8, 8, 2), l=nn.Linear(3, 2)
        ),
        IMAGE,
        64 * 2 * 3,
        8,
    ),
    Model(
        "interpolate",
        lambda: Calls(
            lambda s, x: s.c(F.interpolate(x, scale_factor=2, mode="bilinear")), c=nn.Conv2d(3, 2, 1)
        ),
        IMAGE,
        256 * 2 * 3,
        8,
    ),
    Model(
        "upsample to a size",
        lambda: nn.Sequential(nn.Upsample((5, 4)), nn.Conv2d(3, 2, 1)),
        IMAGE,
        20 * 2 * 3,
        8,
    ),
    Model(
        "concatenated branches",
        lambda: Calls(
            lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(3, 4, 1)
        ),
        IMAGE,
        64 * 18,
        8 + 16,
    ),
    Model(
        "activations",
        lambda: nn.Sequential(
            nn.PReLU(3), nn.LeakyReLU(0.2), nn.GELU(), nn.SiLU(), nn.ReLU6(), nn.Hardswish(), nn.ELU()
        ),
        IMAGE,
        0,
        3,
    ),
    Model(
        "dropout", lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.25), nn.Softmax(1)), ((2, 4),), 24, 15
    ),
    Model("pixel shuffle", lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2)), IMAGE, 64 * 24, 32),
    Model(
        "spectral_norm",
        lambda: parametrizations.spectral_norm(nn.Linear(4, 3)).eval(),
        ((2, 4),),
        24 + 12 + 3,
        15,
    ),
    Model(
        "without gradients",
        lambda: Calls(lambda s, x: torch.no_grad()(s.c)(x), c=nn.Conv2d(3, 2, 1)),
        IMAGE,
        384,
        8,
    ),
    Model(
        "depends on values",
        lambda: Calls(branching, a=nn.Linear(4, 4), b=nn.Linear(4, 2)),
        ((2, 4),),
        32,
        20 + 10,
    ),
    Model("computed weight", lambda: Calls(dynamic, make=nn.Linear(3, 12)), IMAGE, 36 + 64 * 12, 48),
    Model(
        "recurrent",
        lambda: Calls(lambda s, x: s.r(x)[0], r=nn.LSTM(4, 3)),
        ((5, 2, 4),),
        None,
        12 * 4 + 12 * 3 + 24,
    ),
    Model(
        "unknown",
        lambda: nn.Sequential(nn.Linear(3, 3), Calls(lambda s, x: torch.linalg.inv(x))),
        ((3, 3),),
        None,
        12,
    ),
)
