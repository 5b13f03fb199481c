"""The command line: exit codes, one sentence for every wrong word, and runs that survive their target."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cnnspec import nets
from cnnspec.cli import main
from cnnspec.report.results import Results

KERNELS = """
import ctypes, os, time
import torch
import torch.nn.functional as F

def relu(x):
    if x.ndim == 2:
        ctypes.string_at(0)
    return F.relu(x)

def tanh(x):
    if x.ndim == 4:
        time.sleep(600)
    return torch.tanh(x)

def sigmoid(x):
    print("noise on standard output")
    if x.ndim == 3:
        os._exit(0)
    return torch.sigmoid(x)

def flatten(x, start_dim=0, end_dim=-1):
    return torch.flatten(x, start_dim, end_dim)
"""


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cnnspec", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def rows_of(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "row"]


def test_crash_hang_and_exit_are_rows_and_the_rest_of_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(KERNELS)
    command = [
        "check",
        "kernels.py",
        "--dtype",
        "float32",
        "--examples",
        "30",
        "--case-timeout",
        "3s",
        "--out",
        "out",
        "--expect",
        "none",
    ]
    done = run(*command, cwd=tmp_path)
    rows = rows_of(tmp_path / "out")
    fine = ("pass", "unsupported", "skip")  # left out after some crashes
    found = {row["operator"]: row["status"] for row in rows if row["status"] not in fine}

    assert done.returncode == 1, done.stdout + done.stderr
    assert found == {"relu": "crash", "tanh": "timeout", "sigmoid": "crash"}
    assert "Traceback" not in done.stderr
    healthy = {row["operator"] for row in rows if row["status"] == "pass"}
    assert healthy >= {"relu", "tanh", "flatten"}
    assert len([row for row in rows if row["operator"] == "flatten"]) > 50
    crash = next(row for row in rows if row["status"] == "crash" and row["operator"] == "relu")
    script = tmp_path / "out" / "reproducers" / crash["reproducer"]
    assert (
        subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, check=False).returncode
        == 1
    )
    assert (
        subprocess.run(
            [sys.executable, script, "torch"], cwd=tmp_path, capture_output=True, check=False
        ).returncode
        == 0
    )
    for name in ("conformance.html", "conformance.csv", "failures.csv", "junit.xml", "summary.md"):
        assert (tmp_path / "out" / name).stat().st_size > 100


def test_a_wrong_target_leaves_the_earlier_results_and_earlier_failures_come_first(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "import torch\ndef relu(x): return torch.relu(x) * (1 if x.ndim < 2 else 2)\n"
    )
    command = ["--dtype", "float32", "--examples", "12", "--out", "out"]
    assert run("check", "wrong.py:relu", *command, cwd=tmp_path).returncode == 1
    before = (tmp_path / "out" / "results.jsonl").read_text()

    assert run("check", "wrong.py:relux", *command, cwd=tmp_path).returncode == 2
    assert (tmp_path / "out" / "results.jsonl").read_text() == before
    (tmp_path / "wrong.py").write_text("import torch\ndef relu(x): return torch.relu(x)\n")
    assert run("check", "wrong.py:relu", *command, cwd=tmp_path).returncode == 0
    rows = rows_of(tmp_path / "out")
    failed = json.loads(next(line for line in before.splitlines() if '"fail"' in line))
    assert {row["case"] for row in rows if row["index"] <= -1000} >= {failed["case"]}


def test_an_interrupted_run_keeps_what_it_found_and_writes_its_reports(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cnnspec",
        "check",
        "torch",
        "--op",
        "conv2d",
        "--examples",
        "20000",
        "--out",
        "out",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # jobs in the background ignore the signal, and so would this one
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - there are no threads
    )
    record = tmp_path / "out" / "results.jsonl"
    limit = time.monotonic() + 120
    while time.monotonic() < limit and (not record.exists() or record.read_text().count("\n") < 50):
        time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "the run was interrupted" in errors
    assert "Traceback" not in errors
    results = Results.read(tmp_path / "out")
    assert len(results.rows) >= 40
    assert (tmp_path / "out" / "conformance.html").exists()


def test_a_budget_is_kept_and_leaves_no_operator_out(tmp_path: Path) -> None:
    done = run(
        *["check", "torch", "--op", "conv1d", "relu", "concat", "--dtype", "float32", "--examples", "5000"],
        *["--budget", "20s", "--out", "out"],
        cwd=tmp_path,
    )
    results = Results.read(tmp_path / "out")

    assert done.returncode in (0, 3), done.stdout  # a cut cell may be too short to discriminate
    assert len(results.cuts) > 0
    assert {row["operator"] for row in results.rows} == {"conv1d", "relu", "concat"}


BAD = {
    "raises.py": "raise RuntimeError('no driver')",
    "syntax.py": "def conv2d(:",
    "exits.py": "import sys; sys.exit(3)",
    "empty.py": "answer = 42",
    "signature.py": "def relu(a, b, c, d, e): return a\ndef conv2d(x): return x\ndef linear(x, *, device): return x",
    "other.py": "def my_kernel(x): return x",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("check tortch", "target 'tortch' cannot be imported: No module named 'tortch'; did you mean torch"),
        ("check nowhere.py", "there is no file nowhere.py"),
        ("check raises.py", "target 'raises.py' fails while it is imported: RuntimeError: no driver"),
        ("check syntax.py", "target 'syntax.py' fails while it is imported: SyntaxError"),
        ("check exits.py", "target 'exits.py' fails while it is imported: SystemExit: 3"),
        ("check empty.py", "empty.py defines no operator; it may define conv1d"),
        ("check other.py:my_kernl", "other.py has no 'my_kernl'; did you mean my_kernel?"),
        ("check other.py:my_kernel", "'my_kernel' is no operator's name: say which one it is with --op"),
        ("check empty.py:answer --op relu", "42 is not callable"),
        ("check signature.py:relu", "relu(a, b, c, d, e) cannot be called as relu(input)"),
        ("check signature.py:conv2d", "conv2d(x) cannot be called as conv2d(input, weight, bias"),
        ("check signature.py:linear", "linear(x, device) cannot be called as linear(input, weight, bias)"),
        ("check torch --op conv2", "unknown operator 'conv2'; did you mean conv"),
        ("check torch --dtype float31", "unknown dtype 'float31'"),
        ("check torch --law lineraity", "unknown law 'lineraity'"),
        ("check torch --contract fp8", "unknown error model 'fp8'"),
        ("check torch --where __import__('os')", "is not allowed; an expression takes names"),
        ("replay conv2d(", "not a case line: 'conv2d('"),
        ("replay conv9d(input=(1,))", "unknown operator 'conv9d'"),
        ("summary Conv9d(1,2) --input 1,2", "Conv9d"),
        ("summary resnet19", "unknown network 'resnet19': did you mean resnet18"),
        ("summary Conv2d(3,4,3)", "--input is missing: give the shape of the input"),
        (
            "summary resnet18 --input 1,4,64,64",
            "layer conv1, Conv2d(3, 64, 7, stride=2, padding=3, bias=False), does not",
        ),
        ("summary Conv2d(3,4,3) --input N,x", "--input 'N,x' must be sizes such as 1,3,224,224"),
        ("summary Conv2d(3,4,3) --input 1,x", "--input '1,x' must be sizes such as 1,3,224,224"),
        ("report build nowhere", "nowhere"),
    ],
)
def test_wrong_words_are_one_sentence_and_exit_code_2(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in BAD.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)

    assert main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        "check",
        "check torch --examples 0",
        "check torch --budget soon",
        "check torch --shard 3/2",
        "check torch --memory much",
        "frobnicate",
        "",
    ],
)
def test_wrong_options_are_refused_with_their_usage(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments.split())

    assert refusal.value.code == 2
    assert "usage: cnnspec" in capsys.readouterr().err


def test_a_record_that_is_cut_in_half_still_gives_its_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        "check",
        "torch",
        "--op",
        "relu",
        "--dtype",
        "float32",
        "--examples",
        "5",
        "--out",
        "out",
        cwd=tmp_path,
    )
    record = tmp_path / "out" / "results.jsonl"
    text = record.read_text()
    record.write_text(text[: len(text) * 2 // 3])
    (tmp_path / "out" / "conformance.html").unlink()

    assert main(["report", "build", str(tmp_path / "out")]) == 0
    assert "warning: " in capsys.readouterr().err
    assert (tmp_path / "out" / "conformance.html").exists()


def test_replay_judges_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "relu(input=(2,), dtype='float32', seed=1)"]) == 0
    assert "pass        torch forward, error / bound 0.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "word"),
    [("ops", "conv2d"), ("laws", "linearity"), ("models", "tf32"), ("targets", "torch-native")],
)
def test_lists_name_what_there_is(what: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert word in capsys.readouterr().out


def test_list_of_networks_names_parameters_and_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "nets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(nets.NAMES)
    assert "resnet18          11,689,512 parameters, input 1,3,224,224" in lines
    assert "mlp                1,574,402 parameters, input 1,3072" in lines


def test_summary_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "Conv2d(3, 64, 7, stride=2, padding=3)", "--input", "1,3,224,224"]) == 0
    assert "118" in capsys.readouterr().out


def test_summary_of_a_network_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "lenet_fleuret"]) == 0
    table = capsys.readouterr().out
    assert "105,506" in table
    assert "1,333,200" in table
    assert main(["summary", "lenet_fleuret", "--input", "N,1,28,28", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["totals"]["macs"], told["rows"][-1]["output_shape"]) == (1_333_200, ["N", 10])
    assert main(["summary", "lenet_fleuret", "--format", "csv", "--dtype", "float16"]) == 0
    assert capsys.readouterr().out.startswith("name,op,output_shape,parameter_count,")
