"""`cnnspec bench`: what it prints, writes and returns."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cnnspec.bench import exports, history, machine, record
from cnnspec.bench.plan import PARTS, Plan
from cnnspec.bench.timers import Wall, timers
from cnnspec.bench.variants import VARIANTS
from cnnspec.cli import main
from cnnspec.errors import UsageError
from tests.timed_kernels import KERNELS, Simulated

SIGMOIDS = ("--net", "lenet5", "--op", "sigmoid")
QUICK = (*SIGMOIDS, "--measure", "layers")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with kernels, on a machine whose times are simulated."""
    monkeypatch.setattr("cnnspec.bench.desk.timers", lambda device: (Simulated(lambda name: 1.0),))
    (tmp_path / "kernels.py").write_text(KERNELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    return tmp_path


def entries(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / record.RECORD).read_text().splitlines()]


def test_a_kernel_is_measured_against_torch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "kernels.py:same", "--against", "torch", *SIGMOIDS, "--out", "out"]) == 0

    told = capsys.readouterr().out
    assert told.startswith("ratio: time of kernels.py:same / time of torch\n")
    assert "Sigmoid() on 1x6x28x28 (lenet5 sigmoid1)" in told
    assert "A/A control, cpu: " in told
    assert told.rstrip().endswith("record: out/perf.jsonl")

    header, *roofs, control = entries(here / "out")[:5]
    *rows, end = entries(here / "out")[5:]
    assert (header["kind"], control["kind"], end["kind"]) == ("header", "control", "end")
    assert [roof["kind"] for roof in roofs] == ["roof"] * 3
    assert [row["kind"] for row in rows] == ["row"] * 4
    assert header["command"] == "cnnspec bench kernels.py:same --against torch --op sigmoid --net lenet5"
    assert header["fingerprint"] == machine.fingerprint(header["environment"])
    assert header["environment"]["threads"] == 1
    assert len(header["affinity"]) <= 1
    assert not any("samples" in row for row in rows)
    assert end["fit"] is (control["verdict"] == "SAME")

    table = pd.read_csv(here / "out" / exports.CSV)
    assert table["kind"].tolist() == ["row"] * 4 + ["roof"] * 3
    assert table["ratio"].tolist()[:4] == [row["ratio"] for row in rows]
    assert table["t_min_s"].tolist()[4:] == [roof["t_min_s"] for roof in roofs]
    assert set(table["fingerprint"]) == {header["fingerprint"]}

    samples = pd.read_csv(here / "out" / record.SAMPLES)
    paired = samples[samples["kind"] != "roof"]
    assert len(paired) == control["pairs"] + sum(row["pairs"] for row in rows)
    of_first = samples[samples["line"] == 6]
    assert of_first["target_s"].median() == pytest.approx(rows[0]["t_median_s"], rel=0, abs=0)

    page = (here / "out" / exports.SUMMARY).read_text()
    assert header["command"] in page
    assert exports.verdict_line(record.read(here / "out")) in page


def test_a_terminal_shows_the_same_table(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["bench", "kernels.py:same", "--against", "torch", *QUICK, "--out", "out"]) == 0
    told = capsys.readouterr().out
    for cells in exports.frame(record.read(here / "out")).itertuples(index=False):
        assert all(str(cell) in told for cell in cells)
    assert "━" in told


def test_pytest_benchmark_reads_its_file(here: Path) -> None:
    assert main(["bench", "torch", *QUICK, "--out", "out"]) == 0
    file = here / "out" / exports.PYTEST
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(file), "--columns", "median,rounds"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
    assert "benchmark 'sigmoid': 4 tests" in done.stdout
    assert "Sigmoid() on 1x6x28x28 float32 forward cpu torch" in done.stdout


def test_a_wrong_kernel_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "kernels.py:wrong", "--against", "torch", *QUICK, "--out", "out"]
    assert main(command) == 1

    told = capsys.readouterr().out
    assert "not ranked: fails forward at (0, " in told
    assert "again: cnnspec replay" in told
    assert told.rstrip().endswith("4 INVALID; record: out/perf.jsonl")
    assert json.loads((here / "out" / exports.PYTEST).read_text())["benchmarks"] == []
    assert not exports.frame(record.read(here / "out")).filter(["ms", "ratio"]).size


def test_a_reference_of_the_same_target_is_named_where_it_is_wrong() -> None:
    run = record.Run({"target": "kernels.py", "against": ""})
    told = {"layer": "ReLU()", "note": "not ranked", "failing_case": "relu(input=(1,))"}
    run.rows.append({**told, "conformance": "pass", "against_conformance": "fail"})
    assert exports.complaints(run) == [
        "ReLU(): not ranked; again: cnnspec replay 'relu(input=(1,))' kernels.py"
    ]


BUILDERS = """
from cnnspec import nets, to_torch


def right():
    return to_torch(nets.lenet5())


def wrong():
    module = right()
    module.steps[4][1].forward = lambda input: input.sigmoid() + 2**-12
    return module
"""


def test_networks_that_a_function_builds_are_measured_and_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "builders.py").write_text(BUILDERS)
    monkeypatch.setattr("cnnspec.bench.networks.free_bytes", lambda device: 4e6)
    words = ["--measure", "networks", "--net", "lenet5", "--out"]
    assert main(["bench", "builders.py:right", *words, "right"]) == 0
    timed = len([one for one in record.read(here / "right").kinds["network"] if one["images_per_s"]])
    assert capsys.readouterr().out.endswith(f"\n{timed} batches of networks; record: right/perf.jsonl\n")
    assert main(["bench", "builders.py:right", *words, "smoke", "--smoke"]) == 0
    assert capsys.readouterr().out.endswith("\n1 ran once, nothing timed; record: smoke/perf.jsonl\n")
    assert main(["bench", "builders.py:wrong", *words, "wrong"]) == 1
    _, complaint, verdicts = capsys.readouterr().out.splitlines()
    assert complaint.startswith(
        "lenet5 of builders.py:wrong, plain, forward: not ranked: fails forward at sigmoid2"
    )
    assert verdicts == "1 not ranked; record: wrong/perf.jsonl"


def test_a_point_of_a_curve_that_is_wrong_is_told_with_its_case() -> None:
    run = record.Run({"target": "torch", "against": "my kernels.py"})
    told = {"curve": "conv2d over batch", "axis": "batch", "value": 4, "mode": "", "conformance": "fail"}
    told |= {"note": "not ranked", "failing_case": "relu(input=(1,))"}
    run.kinds["curve"] = [{**told, "target": "my kernels.py tf32"}, {**told, "target": "torch"}]
    line = "conv2d over batch, batch 4, of {}: not ranked; again: cnnspec replay 'relu(input=(1,))' {}"
    assert exports.complaints(run) == [
        line.format("my kernels.py tf32", "my kernels.py"),
        line.format("torch", "torch"),
    ]
    assert exports.verdict_line(run) == "2 not ranked"


def test_smoke_runs_and_times_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--net", "lenet5", "--backward", "--smoke", "--cold", "--out", "out"]
    assert main(["bench", "run", "torch", *words]) == 0
    assert "22 ran once, nothing timed" in capsys.readouterr().out
    run = record.read(here / "out")
    assert not run.timed
    assert not run.controls
    assert {roof["mode"] for roof in run.kinds["roof"]} == {"smoke"}
    assert not (here / "out" / history.HISTORY).exists()
    assert {row["direction"] for row in run.rows} == {"forward", "forward+backward"}


def test_an_interrupted_run_keeps_its_rows_and_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(self: object) -> Any:
        yield {"kind": "cut", "layer": "a layer", "reason": "a reason"}
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnspec.bench.session.Session.entries", cut_short)
    assert main(["bench", "torch", *QUICK, "--out", "out"]) == 130
    _, cut, end = entries(here / "out")
    assert (cut["kind"], end["kind"], end["interrupted"]) == ("cut", "end", True)


def test_a_broken_last_line_is_dropped(here: Path) -> None:
    assert main(["bench", "torch", *QUICK, "--smoke", "--out", "out"]) == 0
    file = here / "out" / record.RECORD
    file.write_text(file.read_text() + '{"kind": "row", "rat')
    assert len(record.read(file).rows) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["torch", "torch"], "bench takes one target, not 2: name the other one with --against"),
        (["gate"], "bench gate needs --base DIR and --head DIR"),
        (["torch", "--base", "a"], "--base and --head are of: cnnspec bench gate"),
        (["torch", "--variant", "plane"], "unknown variant 'plane': did you mean 'plain'?"),
        (["torch", "--net", "lenet5", "--op", "conv3d"], "no layer of lenet5 is conv3d: nothing to measure"),
        (["torch", "--op", "conv4d"], "conv4d"),
        (
            ["torch", "--measure", "networks", "--net", "lenet6"],
            "unknown network 'lenet6': did you mean lenet5",
        ),
        (["torch", "--measure", "curves"], "unknown part 'curves'"),
        (["torch", "--dtype", "float31"], "dtype='float31' is not one of"),
        (["torch", "--threads", "100000"], "--threads 100000 is more than the processors"),
        (["nowhere.py:relu"], "there is no file nowhere.py"),
        (["nowhere.py:build", "--measure", "networks"], "there is no file nowhere.py"),
        (["nowhere.py:relu", "--measure", "exact"], "there is no file nowhere.py"),
        (["gate", "--base", "a", "--head", "b"], "cannot read a: No such file or directory"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_wrong_usage_leaves_the_last_record_as_it_is(here: Path) -> None:
    assert main(["bench", "torch", *QUICK, "--smoke", "--out", "out"]) == 0
    before = (here / "out" / record.RECORD).read_text()
    for words in (["--op", "conv3d"], ["--threads", "100000"], ["--variant", "tf32"]):
        assert main(["bench", "torch", "--net", "lenet5", *words, "--out", "out"]) == 2
    assert (here / "out" / record.RECORD).read_text() == before


def test_the_help_names_every_variant_and_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert ", ".join(VARIANTS) in told
    assert ", ".join(PARTS) in told


def test_without_a_device_nothing_is_measured(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnnspec.backends.torch.cuda_is_present", lambda: False)
    assert main(["bench", "torch", "--device", "cuda", *QUICK]) == 4
    assert capsys.readouterr().out == "nothing measured: no CUDA device is present\n"


def test_a_processor_is_timed_by_the_clock_of_the_wall() -> None:
    assert timers("cpu") == (Wall(),)
    assert Wall().sample(lambda: None, 10) > 0


def test_a_gpu_is_timed_cold_hot_and_by_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device that is simulated: a launch takes the host 1 ms and the device 2, flushing the cache 7."""
    host, device, told = [0.0], [0.0], list[str]()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = 0.0

        def record(self) -> None:
            self.at = device[0]

        def elapsed_time(self, other: "Event") -> float:
            return other.at - self.at

    class Filler:
        def zero_(self) -> None:
            told.append("flushed")
            device[0] += 7

    def launch() -> None:
        host[0] += 1
        device[0] = max(device[0], host[0]) + 2

    def synchronize() -> None:
        host[0] = max(host[0], device[0])

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr("time.perf_counter_ns", lambda: round(host[0] * 1e6))
    cold, hot, waited = timers("cuda")
    vars(cold)["_filler"] = Filler()
    assert [one.mode for one in (cold, hot, waited)] == ["gpu_cold", "gpu_hot", "host"]
    assert cold.sample(launch, 3) == 0.002
    assert told == ["flushed"] * 3
    assert 0.002 <= hot.sample(launch, 10) <= 0.0022
    assert 0.002 <= waited.sample(launch, 10) <= 0.0023


def test_threads_and_processors_are_set_and_set_back() -> None:
    before = torch.get_num_threads()
    with machine.pinned(1) as processors:
        assert torch.get_num_threads() == 1
        assert processors in ([], machine.allowed())
        assert len(machine.allowed()) <= 1
    assert torch.get_num_threads() == before
    assert set(processors) <= set(machine.allowed())


def test_two_environments_that_differ_in_anything_have_two_fingerprints() -> None:
    facts = machine.facts("cpu", 1)
    assert machine.fingerprint(facts) == machine.fingerprint(dict(reversed(facts.items())))
    assert machine.fingerprint(facts) != machine.fingerprint(facts | {"threads": 2})


def test_the_command_is_told_as_it_can_be_typed() -> None:
    plan = Plan(
        "my kernel.py:conv2d",
        against="torch",
        only=("conv2d",),
        device="cuda",
        threads=2,
        smoke=True,
        cold=True,
    )
    assert plan.command == (
        "cnnspec bench 'my kernel.py:conv2d' --against torch --op conv2d --smoke --cold --device cuda --threads 2"
    )
    assert Plan("torch", parts=("layers",)).command == "cnnspec bench torch --measure layers"


def test_a_direction_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="direction 'backward' is not one of forward, forward\\+backward"):
        Plan("torch", directions=("backward",)).check()
