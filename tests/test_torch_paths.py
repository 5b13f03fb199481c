"""The kernels that torch takes: named as torch runs them, with oneDNN and without, and with known deviations."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.profiler import profile

import cnnspec
from cnnspec import strategies, where
from cnnspec.backends import Backend
from cnnspec.backends.targets import resolve
from cnnspec.backends.torch_paths import kernel_of, onednn_off
from cnnspec.calls import run
from cnnspec.casebook import specs_directory
from cnnspec.cases import Case
from cnnspec.conformance import Session
from cnnspec.errors import UsageError
from cnnspec.expectations import Expectation, load
from cnnspec.judge import Trial
from cnnspec.plan import Plan
from cnnspec.shrink import generate
from tests.reproducers import here, written

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")  # torch, for even kernels
SWITCH: Any = torch.backends.mkldnn
RUNS = {  # what the profiler sees of each kernel; oneDNN's transposed convolution it does not see
    "Mkldnn": "aten::mkldnn_convolution",
    "NnpackSpatial": "aten::_nnpack_spatial_convolution",
    "Slow2d": "aten::_slow_conv2d_forward",
    "Slow3d": "aten::slow_conv3d_forward",
    "SlowDilated2d": "aten::slow_conv_dilated2d",
    "SlowDilated3d": "aten::slow_conv_dilated3d",
    "SlowTranspose2d": "aten::slow_conv_transpose2d",
    "SlowTranspose3d": "aten::slow_conv_transpose3d",
}
LISTED = load(specs_directory() / "expectations" / "torch-native.toml")
NNPACK = "batch >= 16 and dilation == 1 and (padding < kernel_size or padding in ('same', 'valid'))"


def backend_of(target: str) -> Backend:
    (backend,) = resolve(target)
    backend.prepare()
    return backend


def conv(shape: str = "(1, 2, 6, 6)", kernel: object = 3, operator: str = "conv2d", more: str = "") -> Case:
    arguments = f"in_channels=2, out_channels=2, kernel_size={kernel}, input={shape}, dtype='float32'"
    return Case.parse(f"{operator}({arguments}{', ' * bool(more)}{more})")


def kernels_that_ran(backend: Backend, case: Case) -> set[str]:
    """Return the kernels that torch's profiler sees in one call."""
    with profile() as events:
        run(backend, case, Trial(case).operands)
    return {event.name for event in events.function_events} & {*RUNS.values()}


@pytest.mark.parametrize(
    ("case", "without"),
    [
        (conv(), "Slow2d"),
        (conv("(16, 2, 6, 6)"), "NnpackSpatial"),
        (conv("(15, 2, 6, 6)"), "Slow2d"),
        (conv("(16, 2, 6)", operator="conv1d"), "NnpackSpatial"),
        (conv("(16, 2, 20, 20)", kernel=17), "Slow2d"),
        (conv("(16, 2, 6, 6)", more="dilation=2"), "SlowDilated2d"),
        (conv("(16, 2, 6, 6)", more="padding=3"), "Slow2d"),
        (conv("(16, 2, 6, 6, 6)", operator="conv3d"), "Slow3d"),
        (conv("(1, 2, 6, 6, 6)", operator="conv3d", more="dilation=(1, 2, 1)"), "SlowDilated3d"),
        (conv("(2, 6, 6)"), "Slow2d"),
        (conv("(1, 2, 6, 6)", operator="conv_transpose2d"), "SlowTranspose2d"),
        (conv("(1, 2, 6, 6, 6)", operator="conv_transpose3d"), "SlowTranspose3d"),
        (conv("(16, 2, 6, 6)", kernel=(2, 3), more="padding='same'"), "NnpackSpatial"),
    ],
)
def test_kernel_has_the_name_that_torch_runs(case: Case, without: str) -> None:
    on, off = backend_of("torch"), backend_of("torch-native")

    assert off.path(case) == without
    assert kernels_that_ran(off, case) == {RUNS[without]}
    assert kernels_that_ran(on, case) == {RUNS[one] for one in [on.path(case)] if one in RUNS}


@pytest.mark.parametrize("operator", ["conv1d", "conv2d", "conv3d", "conv_transpose2d"])
@pytest.mark.parametrize("target", ["torch", "torch-nn", "torch-native"])
def test_kernels_of_drawn_cases_have_the_names_that_torch_runs(operator: str, target: str) -> None:
    backend, seen = backend_of(target), Counter[str]()
    for dtype in ("float32", "bfloat16", "float16"):
        for case in generate(strategies.cases(operator, dtype, layers=backend.layers), 4, 25):
            name = backend.path(case)
            empty = 0 in (*case.inputs[0], *case.operation.output_shape(*case.inputs))
            assert (str(case), name == "") == (str(case), empty)
            assert (str(case), kernels_that_ran(backend, case)) == (
                str(case),
                {RUNS[name]} if name in RUNS else set(),
            )
            seen[name] += 1
    assert len(seen - Counter([""])) > 1


def test_without_a_dispatcher_to_ask_there_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    case = conv()
    assert kernel_of(case)
    monkeypatch.setattr(torch._C, "_select_conv_backend", lambda input: None)  # another signature
    assert kernel_of(case) == ""
    monkeypatch.delattr(torch._C, "_select_conv_backend")
    assert kernel_of(case) == ""


def test_rows_carry_the_kernel_asked_once() -> None:
    asked: list[Case] = []

    def path(case: Case) -> str:
        asked.append(case)
        return "mine"

    backend = dataclasses.replace(backend_of("torch"), path=path)
    rows = Trial(conv()).rows(backend)

    assert {row["path"] for row in rows} == {"mine"}
    assert len(rows) > len(asked) == 1
    assert {row["path"] for row in cnnspec.replay("relu(input=(3,))", "torch")} == {""}


def test_onednn_is_off_during_each_call_and_on_again() -> None:
    backend, seen = backend_of("torch-native"), list[bool]()

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(SWITCH.enabled)
            return function(*args, **kwargs)

        return call

    hooks = {"gradients": backend.gradients, "second_gradients": backend.second_gradients}
    assert SWITCH.enabled
    rows = Trial(conv("(16, 2, 6, 6)", more="regime='integers'")).rows(backend)
    assert {row["law"] for row in rows} >= {"forward", "backward", "accumulation", "double_backward"}
    assert SWITCH.enabled
    for function in (*hooks.values(), *backend.functions.values()):
        inner = spy(lambda *args: None)
        onednn_off()(inner)()
        assert function is not None
    assert seen
    assert not any(seen)
    assert SWITCH.enabled


def test_gradients_run_without_onednn_too() -> None:
    backend, case = backend_of("torch-native"), conv("(2, 2, 6, 6)")
    operands = {name: torch.ones(shape) for name, shape in case.operand_shapes().items()}
    cotangent = torch.ones(case.operation.output_shape(*case.inputs))
    assert backend.gradients
    assert backend.second_gradients
    with profile() as once:
        backend.gradients(backend, case, operands, cotangent, ["input", "weight"])
    with profile() as twice:
        backend.second_gradients(backend, case, operands, cotangent, operands, ["input"])
    for events in (once, twice):
        names = {event.name for event in events.function_events}
        assert "aten::_slow_conv2d_backward" in names
        assert not [name for name in names if "mkldnn" in name]


def test_switch_comes_back_when_a_call_raises_and_no_other_is_touched() -> None:
    backend = backend_of("torch-native")
    before = [SWITCH.conv.fp32_precision, SWITCH.matmul.fp32_precision, SWITCH.deterministic]

    with pytest.raises(RuntimeError):
        backend.functions["conv2d"](torch.ones(1, 2, 5, 5), torch.ones(1, 3, 3, 3))
    assert SWITCH.enabled
    with onednn_off():
        with pytest.raises(RuntimeError):
            backend.functions["conv2d"](torch.ones(1, 2, 5, 5), torch.ones(1, 3, 3, 3))
        assert not SWITCH.enabled  # as it was before the call
    assert SWITCH.enabled
    assert [SWITCH.conv.fp32_precision, SWITCH.matmul.fp32_precision, SWITCH.deterministic] == before


def test_target_without_onednn_is_for_the_cpu() -> None:
    assert backend_of("torch-native").builtin
    with pytest.raises(UsageError, match="torch-native is for device='cpu'"):
        resolve("torch-native", device="cuda")


@pytest.mark.parametrize("operator", ["conv1d", "conv2d"])
def test_condition_of_the_list_is_that_of_the_dispatcher(operator: str) -> None:
    """The generator reaches NNPACK, and no other case is excused for it."""
    assert NNPACK in {known.where.text for known in LISTED if known.where}
    backend, condition, hits = backend_of("torch-native"), where.parse(NNPACK), 0
    for case in generate(strategies.cases(operator, "float32", layers=False), 3, 250):
        takes = backend.path(case) == "NnpackSpatial"
        assert (str(case), condition.verdict(case)) == (str(case), takes)
        hits += takes
    assert hits > 3


@pytest.mark.parametrize("known", LISTED, ids=lambda known: f"{known.witness.operator}-{known.law}")
def test_witness_fails_as_listed(known: Expectation) -> None:
    if known.status == "varies" and not torch.backends.nnpack.is_available():  # type: ignore[no-untyped-call]
        known = dataclasses.replace(known, status="absent")
    backend, case = backend_of("torch-native"), known.witness
    assert case
    rows = {row["law"]: row for row in Trial(case).rows(backend, [known.law])}
    assert rows[known.law]["status"] == ("pass" if known.status == "absent" else "fail")


def test_reproducer_switches_onednn_off(tmp_path: Path) -> None:
    known = next(
        known for known in LISTED if known.law == "backward" and known.dtypes == ("bfloat16", "float16")
    )
    case = known.witness
    assert case
    script = written(
        tmp_path, case, "torch-native", law="backward", model=backend_of("torch").model(case.dtype)
    )

    assert here(script).startswith("1 the gradient of input [0, 0, 0, 3] is -0.01171875, the exact")
    assert here(script, "torch").startswith("0 ")  # oneDNN adds in float32
    assert SWITCH.enabled


def test_each_violated_path_has_a_reproducer(tmp_path: Path) -> None:
    """The first known deviation on every path gets one, not the witness alone."""
    listed = tmp_path / "known.toml"
    listed.write_text(
        "[[expect]]\noperator = 'relu'\nbackend = 'mine'\ndtype = 'float32'\nlaw = 'forward'\nreason = 'wrong'\n"
        "where = \"regime != 'impulse'\"\n"
        "witness = \"relu(input=(1,), dtype='float32', regime='integers', data={'input': [1.0]})\"\n",
        encoding="utf-8",
    )
    backend = Backend("mine", {"relu": lambda x: x - 1}, path=lambda case: f"rank {len(case.inputs[0])}")
    plan = Plan(("mine",), ("relu",), ("float32",), ("forward",), examples=25, expect=str(listed))
    session = Session(plan, [backend])
    rows = [row for chunk in plan.chunks() for row in session.run(chunk) if row.get("status") == "xfail"]
    made = Counter(row["path"] for row in rows if row.get("reproducer"))

    assert len(made) > 2
    assert set(made) == {row["path"] for row in rows}
    assert sum(made.values()) < len(rows)
