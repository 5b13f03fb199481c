"""Wrong convolutions, most of them in one place: `tests.explanations` says of each what explains it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

F = torch.nn.functional
Gradients = tuple[Tensor, Tensor, Tensor]


def like(original: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a kernel that takes all arguments by name the signature of the original."""

    def decorate(kernel: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        @functools.wraps(kernel)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return kernel(**bound.arguments)

        vars(call)["__signature__"] = signature
        del vars(call)["__wrapped__"]
        return call

    return decorate


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def without_tap(weight: Tensor) -> Tensor:
    kept = weight.clone()
    kept[..., -1, -1] = 0
    return kept


def alone(weight: Tensor) -> Tensor:
    return weight - without_tap(weight)


# Convolutions


@like(conv)
def conv2d_missing_tap(weight: Tensor, **arguments: Any) -> Tensor:
    return conv(weight=without_tap(weight), **arguments)


@like(conv)
def conv2d_half_tap(weight: Tensor, **arguments: Any) -> Tensor:
    return conv(weight=without_tap(weight) + alone(weight) / 2, **arguments)


@like(conv)
def conv2d_tap_one_off(input: Tensor, weight: Tensor, bias: Tensor | None, **arguments: Any) -> Tensor:
    shifted = conv(input=input.roll(-1, -1), weight=alone(weight), **arguments)
    return conv(input=input, weight=without_tap(weight), bias=bias, **arguments) + shifted


@like(conv)
def conv2d_extra_pixel(input: Tensor, **arguments: Any) -> Tensor:
    output = conv(input=input, **arguments)
    output[0, 0, 0, 0] += input[0, 0, -1, -1]
    return output


@like(conv)
def conv2d_bias_of_neighbour(bias: Tensor, **arguments: Any) -> Tensor:
    return conv(bias=bias.roll(1), **arguments)


@like(conv)
def conv2d_bias_twice(bias: Tensor, **arguments: Any) -> Tensor:
    return conv(bias=2 * bias, **arguments)


@like(conv)
def conv2d_bias_twice_in_one_place(bias: Tensor, **arguments: Any) -> Tensor:
    output = conv(bias=bias, **arguments)
    output[0, 1, 0, 0] += bias[1]
    return output


@like(conv)
def conv2d_bias_missing_in_one_place(bias: Tensor, **arguments: Any) -> Tensor:
    output = conv(bias=bias, **arguments)
    output[0, 1, 0, 0] -= bias[1]
    return output


@like(conv)
def conv2d_channels_of_other_group(input: Tensor, **arguments: Any) -> Tensor:
    output = conv(input=input, **arguments)
    output[:, -1] = conv(input=input.flip(1), **arguments)[:, -1]
    return output


@like(conv)
def conv2d_channels_last_output(**arguments: Any) -> Tensor:
    output = conv(**arguments)
    return output.permute(0, 2, 3, 1).reshape(output.shape)


@like(conv)
def conv2d_two_outputs_exchanged(**arguments: Any) -> Tensor:
    output = conv(**arguments)
    wrong = output.clone()
    wrong[0, 0, 0, 1], wrong[0, 0, 1, 0] = output[0, 0, 1, 0], output[0, 0, 0, 1]
    return wrong


@like(conv)
def conv2d_quarter_of_one_output(**arguments: Any) -> Tensor:
    output = conv(**arguments)
    output[0, 0, 0, 0] /= 4
    return output


@like(conv)
def conv2d_ignores_strides(input: Tensor, **arguments: Any) -> Tensor:
    plain = torch.empty(input.shape).stride()
    return conv(input=input.as_strided(input.shape, plain), **arguments)


@like(conv)
def conv2d_reads_what_lies_before(input: Tensor, **arguments: Any) -> Tensor:
    return conv(input=input, **arguments) + 0 * input.as_strided((1,), (1,), 0)


@like(conv)
def conv2d_of_squares(input: Tensor, **arguments: Any) -> Tensor:
    return conv(input=input * input, **arguments)


@like(conv)
def conv2d_undecided(**arguments: Any) -> Tensor:
    output = conv(**arguments)
    return output + torch.randint(1, 1000, output.shape)


def conv2d_breaking_down() -> Callable[..., Any]:
    """Return a kernel that is wrong twice and then raises."""
    calls = []

    @like(conv)
    def conv2d(bias: Tensor, **arguments: Any) -> Tensor:
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("no more")
        return conv(bias=2 * bias, **arguments)

    return conv2d


# Their gradients


def with_gradients(change: Callable[..., Gradients]) -> Callable[..., Any]:
    """Return a convolution whose gradients are change(gradients, x, w, dy), where gradients(x, w, dy) are right."""

    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, arguments: Any) -> Tensor:
            ctx.arguments = arguments
            ctx.save_for_backward(x, w, b)
            return F.conv2d(x, w, b, **arguments)

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            x, w, b = ctx.saved_tensors

            def gradients(x: Tensor, w: Tensor, dy: Tensor) -> Any:
                with torch.enable_grad():
                    x, w, bias = (one.detach().requires_grad_() for one in (x, w, b))
                    output = F.conv2d(x, w, bias, **ctx.arguments)
                    return torch.autograd.grad(output, (x, w, bias), dy)

            return (*change(gradients, x, w, dy), None)

    @like(conv)
    def conv2d(input: Tensor, weight: Tensor, bias: Tensor, **arguments: Any) -> Any:
        return Convolution.apply(input, weight, bias, arguments)  # type: ignore[no-untyped-call]

    return conv2d


def _lacks_one_output(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    dx, _, db = gradients(x, w, dy)
    kept = dy.clone()
    kept[0, 1, 0, 1] = 0
    return dx, gradients(x, w, kept)[1], db


def _counts_one_output_twice(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    dx, dw, _ = gradients(x, w, dy)
    more = dy.clone()
    more[0, 1, 0, 1] *= 2
    return dx, dw, gradients(x, w, more)[2]


def _counts_other_channel(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    dx, dw, db = gradients(x, w, dy)
    more = db.clone()
    more[0] += dy[0, 1, 0, 0]
    return dx, dw, more


def _half_weight(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    dx, dw, db = gradients(x, w, dy)
    return dx, dw / 2, db


def _flipped_weight(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    _, dw, db = gradients(x, w, dy)
    return gradients(x, w.flip(-1, -2), dy)[0], dw, db


def _other_pixel(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    dx, dw, db = gradients(x, w, dy)
    wrong = dw.clone()
    wrong[0, 0, 0, 0] += dy[0, 0, 0, 0] * (x[0, 0, 2, 2] - x[0, 0, 0, 0])
    return dx, wrong, db


def _without_infinity(gradients: Any, x: Tensor, w: Tensor, dy: Tensor) -> Gradients:
    dx, _, db = gradients(x, w, dy)
    return dx, gradients(torch.where(x.isinf(), 0, x), w, dy)[1], db


conv2d_gradient_without_infinity = with_gradients(_without_infinity)
conv2d_lacks_one_output = with_gradients(_lacks_one_output)
conv2d_counts_one_output_twice = with_gradients(_counts_one_output_twice)
conv2d_counts_other_channel = with_gradients(_counts_other_channel)
conv2d_half_weight_gradient = with_gradients(_half_weight)
conv2d_gradient_of_flipped_kernel = with_gradients(_flipped_weight)
conv2d_gradient_reads_other_pixel = with_gradients(_other_pixel)
