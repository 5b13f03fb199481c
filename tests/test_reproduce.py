"""Reproducers: they fail where the judge fails, pass where it passes, and need nothing but torch."""

import ast
import functools
import math
import re
import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cnnspec import reproduce, strategies
from cnnspec.backends.targets import resolve
from cnnspec.cases import Case
from cnnspec.judge import FORWARD, Trial
from cnnspec.models import model
from cnnspec.shrink import generate, simplify
from tests.reproducers import here, run, run_all, written

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=:UserWarning")  # torch, for even kernels
KERNELS = Path(__file__).parent / "kernels"
WRONG = (
    "conv2d_flipped_kernel",
    "conv2d_ignored_groups",
    "conv2d_ignored_dilation",
    "conv2d_swapped_strides",
    "conv2d_padding_on_one_side",
    "conv2d_dropped_bias",
    "conv2d_dropped_last_channel",
    "conv2d_float16_accumulation",
    "conv2d_tf32_inputs",
    "max_pool2d_zero_padding",
    "max_pool2d_swallowed_nan",
    "avg_pool2d_full_divisor",
)
RELU = Case.parse("relu(input=(3,), layout={'input': 'offset'}, data={'input': [1.0, -2.0, 3.0]})")
FORM = "it must be ((3,), 'torch.float32', 'cpu') (shape, dtype, device)"


@functools.cache
def drawn(operator: str) -> list[Case]:
    """Return small functional cases of an operator."""
    cases = generate(strategies.cases(operator, "float32", layers=False), 1, 500)
    return [case for case in cases if 0 < math.prod(case.operation.output_shape(*case.inputs)) < 100]


@functools.cache
def failing(kernel: str) -> Case:
    """Return a small case that the judge fails on a wrong kernel."""
    operator = re.sub("(2d)_.*", r"\1", kernel)
    (backend,) = resolve(f"{KERNELS / 'wrong_kernels.py'}:{kernel}", [operator])

    def fails(case: Case) -> bool:
        return Trial(case).violates(backend, FORWARD)

    return simplify(next(case for case in drawn(operator) if fails(case)), fails, time.monotonic() + 1)


def test_wrong_kernels_are_reproduced_and_torch_is_not_accused(tmp_path: Path) -> None:
    file = KERNELS / "wrong_kernels.py"
    scripts = {kernel: written(tmp_path, failing(kernel), f"{file}:{kernel}") for kernel in WRONG}
    found = {kernel: here(script) for kernel, script in scripts.items()}

    assert {
        kernel: finding
        for kernel, finding in found.items()
        if not finding.startswith(("1 output", "1 the output"))
    } == {}
    for target in ("torch", "torch-nn"):
        accused = {kernel: here(script, target) for kernel, script in scripts.items()}
        assert {kernel: finding for kernel, finding in accused.items() if not finding.startswith("0 ")} == {}


def test_scripts_run_where_there_is_only_torch(tmp_path: Path) -> None:
    kernels = ("conv2d_flipped_kernel", "max_pool2d_swallowed_nan", "avg_pool2d_full_divisor")
    file = KERNELS / "wrong_kernels.py"
    scripts = [written(tmp_path, failing(kernel), f"{file}:{kernel}") for kernel in kernels]
    found = run_all([*((script, "") for script in scripts), (scripts[0], "torch"), (scripts[0], "nonsense")])

    assert [status for status, _ in found] == [1, 1, 1, 0, 2]
    assert all(
        text.startswith(f"reproduces on {file}:{kernel}: output[")
        for kernel, (_, text) in zip(kernels, found[:3], strict=True)
    )
    assert found[3][1] == "does not reproduce on torch: 20 calls gave what they must"
    assert found[4][1] == "cannot run on nonsense: ModuleNotFoundError: No module named 'nonsense'"


def test_targets_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def relu(x): return x.clamp(min=0)\ndef off(x): return x + 1\n")
    (tmp_path / "backend.py").write_text(
        "class Mine:\n"
        "    arrays = layers = None\n"
        "    functions = {'relu': lambda x: x.clamp(min=0)}\n"
        "    def prepare(self): self.functions['relu'] = lambda x: x.clamp(min=0)\n"
        "mine = Mine()\n"
    )
    off = "output[0] is 2.0, the exact result rounds to 1, allowed is nothing else; 3 of 3 elements are wrong"
    right = "20 calls gave what they must"
    script = written(tmp_path, RELU, str(tmp_path / "mine.py"))

    assert here(script) == here(script, "torch.nn.functional") == f"0 {right}"
    assert here(script, f"{tmp_path / 'backend.py'}:mine") == f"0 {right}"
    assert here(script, f"{tmp_path / 'mine.py'}:off") == f"1 {off}"
    assert here(script, "mine.py:off") == f"1 {off}"
    assert here(script, "no.py") == "2 FileNotFoundError: there is no file no.py"
    assert here(script, "mine.py:no") == "2 AttributeError: module 'mine' has no attribute 'no'"
    assert run(script, "mine:off") == (1, f"reproduces on mine:off: {off}")


def test_a_script_finds_a_kernel_that_moved_with_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "reports").mkdir(parents=True)
    (old / "mine.py").write_text("def off(x): return x + 1\n")
    script = written(old / "reports", RELU, f"{old / 'mine.py'}:off")
    old.rename(new)

    moved = runpy.run_path(str(new / "reports" / script.name))

    assert moved["TARGET"] == f"{old / 'mine.py'}:off"
    assert moved["find"](str(old / "mine.py")) == new / "mine.py"


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("relu", "0 20 calls gave what they must"),
        ("raises", "1 raised ValueError: a shape of 1 axes\nis too much"),
        ("returns_a_list", "1 the output is a list, it must be a torch.Tensor"),
        ("modifies_its_input", "1 the call changed the memory of input"),
        ("writes_behind_its_input", "1 the call changed the memory of input"),
        ("is_nondeterministic", "1 two identical calls differ: 0.0 and -0.0"),
        ("has_wrong_dtype", f"1 the output is ((3,), 'torch.float64', 'cpu'), {FORM}"),
        ("has_wrong_shape", f"1 the output is ((1, 3), 'torch.float32', 'cpu'), {FORM}"),
        ("claims_nothing", "2 the target does not claim this call: only for float128"),
    ],
)
def test_what_else_a_kernel_must_not_do(name: str, finding: str, tmp_path: Path) -> None:
    assert here(written(tmp_path, RELU, f"{KERNELS / 'misbehaving.py'}:{name}")) == finding


def test_a_call_that_does_not_return_is_reproduced_too(tmp_path: Path) -> None:
    file = KERNELS / "misbehaving.py"
    sentences = {
        f"{file}:segfaults": "1 the call ended its process with signal SIGSEGV",
        f"{file}:hangs": "1 no answer within 3 s",
        f"{file}:exits": "1 the call ended its process with exit status 0",
        f"{file}:raises": "1 raised ValueError: a shape of 1 axes is too much",
        "exits.py": "2 it ended, or hung, when it was imported",
    }
    (tmp_path / "exits.py").write_text("import os\nos._exit(0)\n")
    script = written(tmp_path, RELU, "torch", timeout_seconds=3)
    found = zip(sentences, run_all([(script, target) for target in sentences]), strict=True)

    assert {target: f"{status} {text.partition(': ')[2]}" for target, (status, text) in found} == sentences


def test_arguments_that_a_target_lacks_are_left_out_at_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch.nn.functional as F\n"
        "def conv2d(x, w, stride=1): return F.conv2d(x, w, None, stride)\n"
        "def concat(tensors, dim=0):\n    import torch\n    return torch.cat(tensors, dim)\n"
    )
    mine = str(tmp_path / "mine.py")
    plain = "conv2d(in_channels=1, out_channels=1, kernel_size=2, stride=2, bias=False, input=(1, 1, 4, 4))"
    findings = [
        here(written(tmp_path, Case.parse(line), mine))
        for line in (
            plain,
            plain.replace("bias=False", "padding=1"),
            plain.replace("bias=False", "padding_mode='circular', padding=1"),
            "concat(input=(2, 3), input2=(2, 2), dim=-1)",
        )
    ]

    lacking = "2 the target does not claim this call: it takes no padding"
    assert findings == [
        "0 20 calls gave what they must",
        f"{lacking} and no bias",
        f"{lacking} and no bias and no padding_mode='circular'",
        "0 20 calls gave what they must",
    ]


def test_script_reads_as_it_should(tmp_path: Path) -> None:
    case = replace(failing("conv2d_dropped_bias"), layout={"input": "channels_last"})
    message = 'output """[0]""" is wrong\n\\ and \0 odd'
    script = written(tmp_path, case, "torch-cuda-tf32", message=message, model=model("tf32"), law="linearity")
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imports = {
        alias.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    imports |= {str(n.module).partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    docstring = ast.get_docstring(tree) or ""

    assert imports - {"torch"} <= sys.stdlib_module_names
    assert docstring.startswith("output '''[0]''' is wrong \\ and   odd\n")
    assert Case.parse(docstring.split("\n\n")[1]) == case
    assert "python repro.py [TARGET]" in docstring
    assert "'linearity'" in docstring
    assert 'TARGET = "torch"\n' in text
    assert "allow_tf32 = True" in text
    assert max(map(len, text.splitlines())) <= 110
    assert text == reproduce.script(
        case, "torch-cuda-tf32", message=message, model=model("tf32"), law="linearity"
    )


def test_lazy_layer_is_built_lazily(tmp_path: Path) -> None:
    line = "conv1d(in_channels=2, out_channels=1, kernel_size=2, input=(1, 2, 3), seed={})"
    layers = [
        runpy.run_path(str(written(tmp_path, Case.parse(line.format(seed)), "torch-nn", layers=True)))[
            "LAYER"
        ]
        for seed in (4, 5)
    ]

    assert layers == ["Conv1d", "LazyConv1d"]


@pytest.mark.parametrize(
    ("backend", "law", "start"),
    [
        ("torch", "forward", "relu-torch-float32-forward-"),
        ("torch-nn", "inputs_unmodified", "relu-torch-nn-float32-inputs_unmodified-"),
        ("../my kernels/a.py:relu", "forward", "relu-my_kernels_a_py_relu-float32-forward-"),
        ("x" * 300, "forward", f"relu-{'x' * 60}-float32-forward-"),
    ],
)
def test_file_names_are_safe(backend: str, law: str, start: str) -> None:
    name = reproduce.file_name(backend, law, RELU)

    assert re.fullmatch(re.escape(start) + "[0-9a-f]{6}[.]py", name)
    assert name != reproduce.file_name(backend, law, replace(RELU, layout={}))
