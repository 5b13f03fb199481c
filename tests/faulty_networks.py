"""A residual network of 18 layers in plain torch, right and with one fault at a time.

Each fault has the node of `cnnspec.nets.resnet18` that it makes wrong, worked out by hand.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

WIDTH, CLASSES = 16, 10


class Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != channels:
            project = nn.Conv2d(before, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(channels))

    def body(self, x: torch.Tensor) -> Any:
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: torch.Tensor) -> Any:
        found = self.body(x)
        found += x if self.downsample is None else self.downsample(x)
        return self.relu(found)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = WIDTH
        for stage in range(4):
            channels = WIDTH * 2**stage
            blocks = [Block(before, channels, 1 if stage == 0 else 2), Block(channels, channels, 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            before = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, CLASSES)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def right() -> Any:
    return ResNet()


def wrong_stride() -> Any:
    """The second convolution of a block halves the image, which the first should."""
    net: Any = ResNet()
    net.layer3[0].conv1.stride, net.layer3[0].conv2.stride = (1, 1), (2, 2)
    return net


def other_momentum() -> Any:
    net: Any = ResNet()
    net.layer2[1].bn1.momentum = 0.01
    return net


def other_eps() -> Any:
    net: Any = ResNet()
    net.layer2[1].bn2.eps = 1e-3
    return net


def without_shortcut() -> Any:
    net: Any = ResNet()

    class Plain(Block):
        def forward(self, x: torch.Tensor) -> Any:
            return self.relu(self.body(x))

    net.layer1[1].__class__ = Plain
    return net


def relu_before_add() -> Any:
    net: Any = ResNet()

    class Early(Block):
        def forward(self, x: torch.Tensor) -> Any:
            return x + self.relu(self.body(x))

    net.layer4[1].__class__ = Early
    return net


def transposed_weight() -> Any:
    """A convolution's weight with its channels exchanged: in and out are of one number."""
    net: Any = ResNet()

    class Transposed(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> Any:
            return self._conv_forward(input, self.weight.transpose(0, 1), self.bias)

    net.layer3[1].conv1.__class__ = Transposed
    return net


def without_bias() -> Any:
    net: Any = ResNet()

    class Unbiased(nn.Linear):
        def forward(self, input: torch.Tensor) -> Any:
            return nn.functional.linear(input, self.weight)

    net.fc.__class__ = Unbiased
    return net


def wrong_padding() -> Any:
    """Borders are mirrored instead of zero: the shape is right."""
    net: Any = ResNet()
    net.layer1[0].conv2 = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, bias=False, padding_mode="reflect")
    return net


def one_layer_in_evaluation() -> Any:
    """One normalization uses its running statistics while the network trains."""
    net: Any = ResNet()

    class Frozen(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    net.layer2[0].bn1.__class__ = Frozen
    return net


def one_layer_in_float16() -> Any:
    net: Any = ResNet()

    class Half(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> Any:
            return self._conv_forward(input.half(), self.weight.half(), None).float()

    net.layer3[0].conv2.__class__ = Half
    return net


def exchanged_channels() -> Any:
    """Two channels of one convolution's output have changed places."""
    net: Any = ResNet()

    class Exchanged(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> Any:
            places = [1, 0, *range(2, self.out_channels)]
            return super().forward(input)[:, places]

    net.layer2[0].conv1.__class__ = Exchanged
    return net


FAULTS: list[tuple[Callable[[], Any], str, str]] = [
    (wrong_stride, "eval", "layer3.0.conv1"),
    (other_momentum, "train", "layer2.1.bn1"),
    (other_eps, "eval", "layer2.1.bn2"),
    (without_shortcut, "eval", "layer1.1.add"),
    (relu_before_add, "eval", "layer4.1.add"),
    (transposed_weight, "eval", "layer3.1.conv1"),
    (without_bias, "eval", "fc"),
    (wrong_padding, "eval", "layer1.0.conv2"),
    (one_layer_in_evaluation, "train", "layer2.0.bn1"),
    (one_layer_in_float16, "eval", "layer3.0.conv2"),
    (exchanged_channels, "eval", "layer2.0.conv1"),
]
