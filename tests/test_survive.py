"""Whatever a target does is a row, and the rest of the run is as it would have been."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnspec import alone, memory
from cnnspec.backends import Backend
from cnnspec.backends.targets import resolve
from cnnspec.cases import Case
from cnnspec.cli import main
from cnnspec.conformance import Session
from cnnspec.folder import Folder
from cnnspec.judge import Trial
from cnnspec.plan import Plan
from cnnspec.report.results import Results
from cnnspec.report.verdict import verdict
from cnnspec.reproduce import script
from cnnspec.rows import reproduces
from cnnspec.worker import Output, Worker, goes_on

HEALTHY = """
import os, time, torch
import torch.nn.functional as F

def flatten(x, start_dim=0, end_dim=-1):
    print("not for the user")
    return torch.flatten(x, start_dim, end_dim)

relu, tanh, sigmoid, relu6 = F.relu, torch.tanh, torch.sigmoid, F.relu6
"""
SICK = """
kept = []

def relu(x):
    kept.append(torch.ones(60_000_000))
    return F.relu(x)

def tanh(x):
    if x.shape == (1,):
        time.sleep(600)
    return torch.tanh(x)

def sigmoid(x):
    if x.shape == (1,):
        print("about to fall", flush=True)
        os.abort()
    return torch.sigmoid(x)
"""
LINE = "relu(input=(2, 3), dtype='float32', seed=1)"
BIG = 10**9


def rows_of(directory: Path, operator: str) -> list[tuple[Any, ...]]:
    keys = ("law", "index", "status", "case", "message")
    rows = [row for row in Results.read(directory).rows if row["operator"] == operator]
    return sorted(tuple(str(row.get(key, "")) for key in keys) for row in rows)


def test_a_crash_a_hang_and_a_leak_leave_other_operators_as_in_a_clean_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("healthy.py").write_text(HEALTHY)
    Path("sick.py").write_text(HEALTHY + SICK)
    words = ["--dtype", "float32", "--examples", "8", "--case-timeout", "4s", "--memory", "900MB"]
    laws = ["--law", "forward", "inputs_unmodified"]
    assert main(["check", "sick.py", *words, *laws, "--out", "sick"]) == 1
    assert main(["check", "healthy.py", *words, *laws, "--out", "healthy"]) == 0

    for operator in ("flatten", "relu6"):
        assert rows_of(tmp_path / "sick", operator) == rows_of(tmp_path / "healthy", operator) != []
    told = {
        failure.operator: (failure.status, failure.message)
        for failure in Results.read(tmp_path / "sick").failures
    }
    assert told["tanh"] == ("timeout", "no answer within 4 s: the process was ended")
    assert told["sigmoid"][1] == "the call ended its process: Aborted; it printed 'about to fall'"
    assert told["relu"][0] == "fail"
    assert "ran out of memory (limit 900 MB)" in told["relu"][1]
    assert set(told) == {"tanh", "sigmoid", "relu"}
    printed = [row["output"] for row in Results.read(tmp_path / "healthy").rows if "output" in row]
    assert set(printed) == {"not for the user"}
    assert "not for the user" not in "".join(capfd.readouterr())


@pytest.fixture
def limit() -> Iterator[int]:
    size = memory.allocated() + BIG
    memory.keep_to(size)
    yield size
    memory.keep_to(0)


def test_too_much_memory_is_one_failing_row_that_says_the_limit(limit: int) -> None:
    def takes_all(x: Tensor) -> Tensor:
        torch.ones(BIG)
        return F.relu(x)

    rows = Trial(Case.parse(LINE)).rows(Backend("mine", {"relu": takes_all}))

    assert [(row["law"], row["status"]) for row in rows] == [("forward", "fail")]
    assert rows[0]["message"] == f"ran out of memory (limit {memory.spelled(limit)})"
    assert torch.ones(BIG // 4).sum() == BIG // 4  # the judge has what it needs


def test_the_script_of_too_much_memory_has_the_limit(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(
        "import torch\ndef relu(x):\n    torch.ones(10**9)\n    return torch.relu(x)\n"
    )
    text = script(Case.parse(LINE), f"{tmp_path / 'kernels.py'}:relu", message="", model=None, memory=3 * BIG)
    assert reproduces(text)
    assert not reproduces(text.replace("torch.ones", "").replace(str(tmp_path / "kernels.py"), "torch"))


def test_an_exit_is_a_row() -> None:
    def leaves(x: Tensor) -> Tensor:
        sys.exit("enough")

    [row] = Trial(Case.parse(LINE)).rows(Backend("mine", {"relu": leaves}))
    assert (row["status"], row["message"]) == ("fail", "raised SystemExit: enough")


def session(function: Any, **more: Any) -> list[dict[str, Any]]:
    """Return the rows of relu on a function, named by its place in this file."""
    plan = Plan(("mine",), ("relu",), ("float32",), ("forward",), examples=12, expect="none")
    one = Session(plan, [Backend("mine", {"relu": function})], target_of={"mine": "mine"}, **more)
    return [dict(row) for chunk in plan.chunks() for row in one.run(chunk)]


def test_a_verdict_that_does_not_repeat_is_flaky_with_both_results() -> None:
    calls = iter(range(10_000))
    rows = session(lambda x: F.relu(x) + 1 if next(calls) == 4 else F.relu(x))
    bad = [row for row in rows if row["status"] != "pass"]

    assert {(row["status"], row["again"]) for row in bad} == {("flaky", "pass")}
    assert all(
        row["message"].startswith("gave both outcomes: ") and "; asked again it passed" in row["message"]
        for row in bad
    )
    assert Results({}, rows).exit_code == 3
    always = {row["status"] for row in session(lambda x: F.relu(x) + 1)}
    assert "fail" in always
    assert "flaky" not in always


def stateful(x: Tensor, last: list[int] = []) -> Tensor:  # noqa: B006 - its state is the point
    """Be wrong on three axes after anything that had others."""
    wrong = x.ndim == 3 and any(axes != 3 for axes in last)
    last.append(x.ndim)
    return F.relu(x) + 1 if wrong else F.relu(x)


def test_what_fails_only_after_another_call_says_which() -> None:
    def ask(target: str, backend: Backend, before: Sequence[Case], case: Case, *rest: Any) -> bool:
        assert target == "mine"
        return any(len(one.inputs[0]) != 3 for one in before) and len(case.inputs[0]) == 3

    rows = session(stateful, alone=ask)
    first = next(row for row in rows if row["status"] == "fail")
    [needed] = first["after"]

    assert len(Case.parse(needed).inputs[0]) != 3
    assert first["message"].startswith(f"fails only after {needed}: output [0, 0, 0] is")
    assert first["message"].endswith("; by itself it passes")
    assert first["case"] == first["minimal_case"]  # nothing smaller was looked for without that call

    never = next(row for row in session(lambda x: F.relu(x) + 1, alone=lambda *asked: False))
    assert never["status"] == "flaky"
    assert "in a process of its own it passed" in never["message"]


def test_calls_that_must_come_before_are_found() -> None:
    history = [Case.parse(f"relu(input=({n},))") for n in range(40)]

    def asks(*wanted: int) -> list[Case] | None:
        return alone.needed(lambda before: all(history[n] in before for n in wanted), history)

    assert asks() == []
    assert asks(39) == [history[39]]
    assert asks(7) == [history[7]]
    assert asks(31, 38) == history[31:]
    assert alone.needed(lambda before: False, history) is None
    assert alone.needed(lambda before: None, history) == []  # no answer changes nothing
    chance = iter([False, True, True, False, False] * 9)
    assert alone.needed(lambda before: next(chance), history[:1]) is None  # wrong at random, not after it


def test_a_process_of_its_own_and_a_script_that_makes_both_calls(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(
        "import os, torch\nlast = []\ndef relu(x):\n    os._exit(0) if x.ndim == 3 else last.append(x.ndim)\n"
        "    return torch.relu(x) + (last[0] != 2)\n"
    )
    target = f"{tmp_path / 'kernels.py'}:relu"
    [backend] = resolve(target)
    vector, ends, case = (
        Case.parse(line) for line in ("relu(input=(3,), seed=1)", "relu(input=(1, 1, 1))", LINE)
    )

    def fails(*before: Case) -> bool | None:
        return alone.fails(target, backend, before, case, "forward", 30.0)

    assert (fails(), fails(vector), fails(ends)) == (False, True, None)
    model = backend.model("float32")
    assert reproduces(script(case, target, message="", model=model, before=[vector]))
    assert not reproduces(script(case, target, message="", model=model))


def test_output_is_taken_and_given_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = Output(tmp_path / "output")
    with output.taken():
        os.write(1, b"\n one\n")
        os.write(2, b"two\n")
        first = output.take()
        nothing = output.take()
    os.write(1, b"three\n")

    assert (first, nothing) == ("one", "")
    assert capfd.readouterr().out == "three\n"


def test_a_chunk_that_cannot_be_judged_takes_the_verdict_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / ".cnnspec")
    folder.path.mkdir()
    plan = Plan(("torch",), ("relu",), ("float32",), examples=2, expect="none")
    (folder.path / "plan.json").write_text(plan.dump())
    monkeypatch.setattr("cnnspec.conformance.generate", lambda *args: 1 // 0)
    monkeypatch.setattr("cnnspec.memory.keep_to", lambda size: None)
    Worker(folder.path).run(plan.chunks()[0])

    assert not folder.left()
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    results = Results.from_entries([{"kind": "header", "schema_version": 1}, *map(json.loads, lines)])
    assert [(cell.status, cell.reason) for cell in results.cells] == [
        ("harness", "cnnspec failed: ZeroDivisionError: integer division or modulo by zero")
    ]
    assert results.exit_code == 4
    assert str(verdict(results)) == "No verdict: cnnspec itself failed in 1 cell."


def dead(folder: Folder, mark: str, **traces: str) -> dict[str, Any]:
    folder.file("relu-float32-0", "mark").write_text(mark)
    for suffix, text in traces.items():
        folder.file("relu-float32-0", suffix).write_text(text)
    assert goes_on(folder.path, "relu-float32-0")
    record = folder.path.parent / "results.jsonl"
    results = record.read_text().splitlines() if record.exists() else []
    return dict(json.loads(results[-1])) if results else {}


def test_what_a_dead_worker_leaves_behind_is_told(tmp_path: Path) -> None:
    folder = Folder(tmp_path / ".cnnspec")
    folder.path.mkdir()
    plan = Plan(("torch",), ("relu",), ("float32",), expect="none", case_seconds=9.0)
    (folder.path / "plan.json").write_text(plan.dump())
    mark = f'{{"index": 3, "case": "{LINE}", "law": "%s", "backend": "torch", "started": 1.0}}'

    assert dead(folder, '{"retired": true}') == {}
    assert dead(folder, mark % "explanation") == {}
    crash = dead(
        folder, mark % "backward", trace="Fatal Python error: Segmentation fault\n\nThread", output=""
    )
    assert (crash["status"], crash["law"], crash["index"]) == ("crash", "backward", 3)
    assert crash["message"] == "the call ended its process: Segmentation fault"
    hang = dead(folder, mark % "forward", trace="Timeout (0:00:09)!\nThread", output="hello\n")
    assert (hang["status"], hang["message"][:18]) == ("timeout", "no answer within 9")
    past = folder.past(plan.chunks()[0])
    assert set(past.ended) == {("torch", law) for law in ("explanation", "backward", "forward")}
