"""Runs in worker processes go on where pytest itself breaks down, and run no case twice."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from cnnspec import run
from cnnspec.errors import CnnspecError
from cnnspec.plan import Plan

PLAN = Plan(("torch",), ("relu", "flatten"), ("float32",), ("forward",), examples=4, expect="none")
BREAKS_DOWN = "import subprocess, sys; subprocess.run(sys.argv[1:] or ['true']); sys.exit(3)"


def breaking(monkeypatch: pytest.MonkeyPatch, times: int, *, first: bool) -> list[int]:
    """Let pytest exit with an internal error so many times: before any of its work, or after all."""
    real, calls = run._command, []

    def command(folder: Path, jobs: int) -> list[str]:
        calls.append(jobs)
        wanted = real(folder, jobs)
        return (
            wanted if len(calls) > times else [sys.executable, "-c", BREAKS_DOWN, *([] if first else wanted)]
        )

    monkeypatch.setattr(run, "_command", command)
    return calls


@pytest.mark.parametrize("first", [False, True])
def test_what_is_left_runs_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: bool) -> None:
    calls = breaking(monkeypatch, 1, first=first)
    results = run.run_workers(PLAN, tmp_path)

    cases = Counter((row["operator"], row["index"]) for row in results.rows)
    assert len(calls) == 1 + first  # nothing was left where all of its work was done
    assert set(cases.values()) == {1}
    assert len(cases) == 8


def test_a_pytest_that_gets_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = breaking(monkeypatch, 99, first=True)

    with pytest.raises(CnnspecError, match="the run broke down"):
        run.run_workers(PLAN, tmp_path)
    assert len(calls) == 2  # the header was new to the first
