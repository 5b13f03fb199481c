"""Runs that are killed go on where they were, and end as if they had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnspec import run
from cnnspec.backends import Backend
from cnnspec.cli import main
from cnnspec.conformance import Past, Session
from cnnspec.errors import CnnspecError, UsageError
from cnnspec.folder import Folder, alone_in, join
from cnnspec.plan import Chunk, Plan, differences
from cnnspec.record import end, header
from cnnspec.resume import kept, restore

KERNELS = """
import time, torch

def relu(x):
    time.sleep(0.02)
    return torch.relu(x)

def tanh(x):
    time.sleep(0.02)
    return torch.tanh(x) + (x.ndim == 2)
"""
PLAN = Plan(("mine",), ("relu",), ("float32",), examples=6, expect="none")
HEAD = header(PLAN, [], "worker processes")


def verdicts(entries: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("operator", "dtype", "law", "index", "status", "case")
    return sorted(tuple(entry[key] for key in keys) for entry in entries if entry["kind"] == "row")


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


def record(directory: Path, *entries: Mapping[str, Any], torn: str = "") -> None:
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (directory / "results.jsonl").write_text(text + torn)


def row(index: int, law: str = "forward", status: str = "pass", **more: Any) -> dict[str, Any]:
    cell = {"kind": "row", "operator": "relu", "backend": "mine", "dtype": "float32", "law": law}
    return {**cell, "index": index, "status": status, "case": f"relu(input=({index},))", **more}


def test_a_run_whose_processes_are_killed_ends_with_the_same_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kernels.py").write_text(KERNELS)
    words = ["check", "kernels.py", "--dtype", "float32", "--examples", "30", "--jobs", "1", "--seed", "3"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-m", "cnnspec", *words, "--out", "killed"])
    limit = time.monotonic() + 60
    while time.monotonic() < limit and not (
        (killed / "results.jsonl").exists() and len(lines_of(killed)) > 40
    ):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with alone_in(killed, 20):  # as soon as its workers have noticed
        before = (killed / "results.jsonl").read_text()
        (killed / "results.jsonl").write_text(before + '{"kind": "row", "operator": "re')
    assert '"kind": "end"' not in before

    assert main(["report", "killed"]) == 0
    assert (killed / "conformance.html").exists()
    assert main([*words, "--out", "whole"]) == 1
    assert main([*words, "--out", "killed", "--resume"]) == 1
    assert verdicts(lines_of(killed)) == verdicts(lines_of(whole))
    assert len(verdicts(lines_of(whole))) > before.count('"kind": "row"')
    assert [one["kind"] for one in lines_of(killed) if one["kind"] != "row"] == ["header", "end"]

    after = (killed / "results.jsonl").read_text()
    assert main([*words[:-1], "4", "--out", "killed", "--resume"]) == 2
    assert "cannot be resumed: there and here seed is 3 and 4; repeat its options" in capsys.readouterr().err
    assert (killed / "results.jsonl").read_text() == after


def test_what_was_half_written_is_asked_again(tmp_path: Path) -> None:
    rows = [row(0), row(0, "repeatable"), row(1), row(1, "repeatable")]
    cell = {"kind": "cell", "operator": "relu", "dtype": "float32"}
    record(tmp_path, HEAD, cell, *rows, torn='{"kind": "row", "oper')

    assert kept(PLAN, tmp_path) == [*json.loads(json.dumps([HEAD])), *rows[:2]]
    record(tmp_path, HEAD, *rows, end(0.0, interrupted=False))
    assert kept(PLAN, tmp_path)[1:] == rows
    record(tmp_path, HEAD, *rows, end(0.0, interrupted=True))
    assert kept(PLAN, tmp_path)[1:] == rows[:2]


def test_a_record_gives_back_what_its_run_knew(tmp_path: Path) -> None:
    folder = Folder(tmp_path / ".cnnspec")
    folder.path.mkdir()
    explained = row(1, status="fail", failure_id="relu-mine-float32-forward", reproducer="relu.py")
    restore(folder, [HEAD, row(0), explained, row(2, "backward", "crash"), row(30)])

    past = folder.past(Chunk(0, "relu", "float32"))
    assert past == Past(frozenset({(0, "mine"), (1, "mine")}), {("mine", "backward"): frozenset({2})})
    assert folder.past(Chunk(1, "relu", "float32")).judged == {(30, "mine")}
    assert not folder.claim("relu-mine-float32-forward")
    assert folder.claim("relu-mine-float32-backward")


def test_an_empty_directory_has_nothing_to_resume(tmp_path: Path) -> None:
    assert kept(PLAN, tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"examples": 7}, "examples is 6 and 7"),
        ({"operators": ("relu", "tanh")}, "operators is relu and relu tanh"),
        ({"where": "rank == 2"}, "where is '' and 'rank == 2'"),
        ({"shard": (1, 2)}, "shard is 1 1 and 1 2"),
    ],
)
def test_another_plan_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    record(tmp_path, HEAD, row(0))
    with pytest.raises(UsageError, match="cannot be resumed") as refusal:
        kept(Plan(**{**vars(PLAN), **changes}), tmp_path)
    assert told in str(refusal.value)


def test_limits_may_differ() -> None:
    free = {"deadline": 1.0, "case_seconds": 1.0, "memory": 1, "earlier": ("relu(input=(1,))",)}
    assert differences(PLAN, Plan(**{**vars(PLAN), **free})) == []


def test_a_chunk_goes_on_with_what_has_no_rows() -> None:
    session = Session(PLAN, [Backend("mine", {"relu": torch.relu})])
    chunk = Chunk(0, "relu", "float32")
    past = Past(frozenset({(0, "mine"), (2, "mine")}), {("mine", "repeatable"): frozenset({1, 3, 4})})
    rows = [*session.run(chunk, past)]

    assert {one["index"] for one in rows} == {1, 3, 4, 5}
    told = {(one["index"], one["status"]) for one in rows if one["law"] == "repeatable"}
    assert told == {(5, "skip")}  # the others have their rows; after three the law is left out
    assert {one["status"] for one in rows if one["law"] == "forward"} == {"pass"}


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    worker = join(tmp_path)
    with pytest.raises(CnnspecError, match="another run writes to"), alone_in(tmp_path, 0.1):
        pass
    os.close(worker)
    with alone_in(tmp_path, 0.1):
        os.close(join(tmp_path))


def test_failures_of_an_earlier_run_are_those_of_its_end(tmp_path: Path) -> None:
    record(tmp_path, HEAD, row(0), row(1, status="fail"), row(2, status="crash"), row(1, "batch", "fail"))

    assert run._earlier_failures(tmp_path) == ["relu(input=(1,))", "relu(input=(2,))"]
    assert (tmp_path / "previous.jsonl").exists()
