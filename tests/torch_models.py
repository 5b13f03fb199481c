"""What the modules of torch that are counted by hand are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shapes = tuple[tuple[int, ...], ...]

IMAGE: Shapes = ((1, 3, 8, 8),)


class Model(NamedTuple):
    """A module, the shapes of its inputs, and what was counted by hand; None is unavailable.

    data: the products that touch data, where they are fewer than `macs`
    """

    name: str
    build: Callable[[], nn.Module]
    shapes: Shapes
    macs: int | None
    parameters: int
    data: int | None = None
    bias_adds: int | None = 0
    norm_ops: int | None = 0

    @property
    def macs_effective(self) -> int | None:
        """The products that touch data."""
        return self.macs if self.data is None else self.data

    def inputs(self, module: nn.Module) -> tuple[Tensor, ...]:
        """Return inputs of zeros, of the dtype of the module's parameters."""
        dtype = next((one.dtype for one in module.parameters()), torch.float32)
        return tuple(torch.zeros(shape, dtype=dtype) for shape in self.shapes)


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


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a convolution by a kernel of 1x1, without bias."""
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def buffered(kernel: Tensor, function: Callable[..., Any], **parts: Any) -> nn.Module:
    module = Calls(function, **parts)
    module.register_buffer("kernel", kernel)
    return module


def tied(first: Any, second: Any) -> nn.Module:
    """Return two layers, one after the other, that share their weight."""
    second.weight = first.weight
    return nn.Sequential(first, second)


def two_names() -> nn.Module:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.Sequential(conv))


def two_parents() -> nn.Module:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    left, right = nn.Sequential(conv, nn.ReLU()), nn.Sequential(nn.MaxPool2d(1), conv)
    return Calls(lambda s, x: s.left(x) + s.right(x), left=left, right=right)


def frozen() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), pointwise(8, 4))
    net[0].requires_grad_(False)
    return net


def non_local(self: Any, x: Tensor) -> Tensor:
    """Every position looks at all others."""
    y = self.conv(x).flatten(2)
    weights = torch.softmax(y.mT @ y, -1)
    return (y @ weights).view(x.shape)  # type: ignore[no-any-return]


def mixed() -> nn.Module:
    """Return layers in blocks in blocks, with a function between them."""
    down = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    up = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.ConvTranspose2d(4, 2, 2, 2, bias=False))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))
    body = Calls(lambda s, x: F.conv2d(s.up(s.down(x)), s.k), down=down, up=up, k=parameter(2, 2, 2, 2))
    return nn.Sequential(body, head).eval()


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
