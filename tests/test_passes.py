"""Runs over whole networks: from the command line, in processes that may die."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cnnspec import passes
from cnnspec.cli import main
from cnnspec.errors import UsageError
from cnnspec.judge import Row
from cnnspec.networks import Pass
from cnnspec.passes import NetworkPlan
from cnnspec.report.networks import passes_of
from cnnspec.report.results import Results

FILE = str(Path(__file__).with_name("faulty_networks.py"))
SMALL = "resnet18(width=4, classes=3, input_size=32)"


def run(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str, str]:
    code = main(["check", *words, "--out", str(folder)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_network_on_torch_holds_and_has_its_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, tmp_path, "torch", "--net", SMALL, "lenet5", "--variant", "eval")
    assert (code, err) == (0, "")
    assert f"{SMALL} on torch, eval, sparse weights, float32: 69 nodes within their bounds" in out
    assert "lenet5 on torch, eval, dense weights, float32: 12 nodes within their bounds" in out
    page = (tmp_path / "conformance.html").read_text(encoding="utf-8")
    assert page.count("error over bound of 69 nodes; 69 nodes within their bounds") == 2
    found = passes_of(Results.read(tmp_path).rows)
    assert [(one.net, one.regime, one.status) for one in found] == [
        (net, regime, "pass") for net in (SMALL, "lenet5") for regime in ("sparse", "dense")
    ]
    assert all(node.ratios for one in found for node in one.nodes)


def test_the_first_wrong_node_is_named_with_a_command_that_shows_it_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net = "resnet18(width=16, classes=10, input_size=32)"
    words = (f"{FILE}:other_eps", "--net", net, "--input", "1,3,32,32", "--variant", "eval")
    code, out, _ = run(capsys, tmp_path, *words)
    assert code == 1
    assert "own weights, float32: first wrong node: layer2.1.bn2" in out
    assert "fail: layer2.1.bn2 (batch_norm2d) float32" in out
    command = f"cnnspec check {FILE}:other_eps --net '{net}' --input 1,3,32,32 --variant eval --seed 0"
    assert command in out
    assert command in (tmp_path / "conformance.html").read_text(encoding="utf-8").replace("&#39;", "'")


DEADLY = """
import os, time, torch

def relu(input, inplace=False):
    if input.dim() == 4:
        {deed}
    return torch.relu(input)
"""


@pytest.mark.parametrize(
    ("deed", "status", "message"),
    [
        ("os._exit(3)", "crash", "it ended its process, at the run"),
        ("time.sleep(600)", "timeout", "no answer within 20 s: the process was ended, at the run"),
    ],
)
def test_a_kernel_that_ends_or_hangs_its_process_is_one_row(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, deed: str, status: str, message: str
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY.format(deed=deed))
    words = (
        str(tmp_path / "deadly.py"),
        "--net",
        "cs428_net",
        "lenet_fleuret",
        "--variant",
        "eval",
        "--budget",
        "20s",
    )
    code, _, _ = run(capsys, tmp_path / "out", *words)
    assert code == 1
    rows = Results.read(tmp_path / "out").rows
    assert {row["status"] for row in rows if row["status"] in ("crash", "timeout")} == {status}
    assert all(row["message"].startswith(message) for row in rows if row["status"] == status)


HANGING = """
import os, time, torch
from pathlib import Path

def relu(input, inplace=False):
    mark = Path(__file__).with_name("first")
    if not mark.exists():
        mark.write_text(str(os.getpid()))
    if mark.read_text() != str(os.getpid()):
        Path(__file__).with_name("second").touch()
        time.sleep(600)
    return torch.relu(input)
"""


INTERRUPTIBLE = """
import signal, sys
from cnnspec.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
sys.exit(main(sys.argv[1:]))
"""


def kinds(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "results.jsonl").read_text().splitlines()]


def test_an_interrupted_run_keeps_the_passes_that_ended_and_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    words = ["check", "hanging.py", "--net", "lenet_fleuret", "--variant", "eval", "--jobs", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *words, "--out", "out"], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not (tmp_path / "second").exists():
            time.sleep(0.05)
        before = kinds(tmp_path / "out")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert set(before[1:]) == {"row"}
    assert kinds(tmp_path / "out") == [*before, "end"]
    found = Results.read(tmp_path / "out")
    assert found.end is not None
    assert found.end["interrupted"] is True
    assert {row["regime"] for row in found.rows} == {"sparse"}
    assert not {row["status"] for row in found.rows} & {"crash", "timeout"}
    assert (tmp_path / "out" / "conformance.html").exists()


@pytest.mark.parametrize(
    ("raised", "code", "last"), [(KeyboardInterrupt(), 130, ["end"]), (UsageError("no weights here"), 2, [])]
)
def test_a_pass_that_ends_the_run_leaves_the_rows_of_those_before_and_the_record_of_the_run_before(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    last: list[str],
) -> None:
    def answer(plan: NetworkPlan, one: Pass, *_: Any) -> list[Row]:
        if one.regime == "dense":
            raise raised
        return [one.row("pass", node="fc", discriminating=True)]

    monkeypatch.setattr(passes, "_run", answer)
    (tmp_path / "results.jsonl").write_text("an earlier run")
    words = ("torch", "--net", "lenet5", "--variant", "eval", "--jobs", "1")
    assert run(capsys, tmp_path, *words)[0] == code
    assert kinds(tmp_path) == ["header", "row", *last]
    assert (tmp_path / "conformance.html").exists() == (code == 130)
    assert (tmp_path / "previous.jsonl").read_text() == "an earlier run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("torch", "--net", "resnet19"), "unknown network 'resnet19': did you mean resnet18"),
        (("torch", "--net", "lenet5", "--op", "relu"), "--op says something of operators"),
        (("torch", "--input", "1,3,8,8"), "torch builds no network: name one with --net"),
        (("torch", "--net", "lenet5", "--input", "1,x"), "--input '1,x' must be sizes such as 1,3,224,224"),
        (("torch", "--net", "lenet5", "--variant", "quick"), "unknown variant 'quick'"),
        (
            (f"{FILE}:right", "--input", "1,4,32,32"),
            "the module cannot be traced on example_input of (1, 4, 32, 32)",
        ),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, _, err = run(capsys, tmp_path, *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_module_that_does_not_build_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("def build():\n    raise ValueError('no weights here')\n")
    code, _, err = run(capsys, tmp_path, f"{tmp_path / 'broken.py'}:build", "--input", "1,3,8,8")
    assert code == 2
    assert "build() raised ValueError: no weights here" in err


def test_known_deviations_of_torch_are_no_failures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("torch", "--net", "lenet_fleuret", "--variant", "autocast_float16")
    code, out, _ = run(capsys, tmp_path, *words)
    statuses = {row["status"] for row in Results.read(tmp_path).rows}
    assert code == 0, out
    assert "fail" not in statuses
