"""`cnnspec bench gate`: what looks slower is measured again in fresh processes, and each outcome has its exit code."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cnnspec.bench import fresh, gate, record
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import (
    AMBIGUOUS,
    FAST,
    INVALID,
    MISSING,
    NOT_COMPARABLE,
    SAME,
    SLOW,
    VERDICTS,
)
from cnnspec.bench.worker import answers
from cnnspec.cli import main
from tests.timed_kernels import KERNELS, Simulated


def row(case: str, ratio: float, width: float = 0.01, **fields: Any) -> dict[str, Any]:
    """Return a row of a target whose ratio to torch has an interval of this half-width."""
    seconds = {"t_median_s": ratio, "t_ci95_lo_s": ratio * (1 - width), "t_ci95_hi_s": ratio * (1 + width)}
    ends = {"ratio": ratio, "ratio_ci_lo": ratio * (1 - width), "ratio_ci_hi": ratio * (1 + width)}
    named = {"layer": case, "dtype": "float32", "variant": "plain", "direction": "forward", "mode": "cpu"}
    return {
        "kind": "row",
        "case": case,
        **named,
        "against": "torch",
        "verdict": SAME,
        **seconds,
        **ends,
        **fields,
    }


def refused(case: str, verdict: str | None = INVALID) -> dict[str, Any]:
    nothing = dict.fromkeys(("t_median_s", "ratio", "ratio_ci_lo", "ratio_ci_hi"))
    return row(case, 1.0) | nothing | {"mode": "", "verdict": verdict}


def run(rows: Iterable[dict[str, Any]], control: str = SAME, **environment: Any) -> Run:
    facts = {"processor": "one", "threads": 1, **environment}
    header = {"kind": "header", "schema_version": 1, "environment": facts, "fingerprint": str(facts)}
    found = Run(header)
    found.rows.extend(rows)
    found.controls.append({"kind": "control", "verdict": control})
    return found


def processes(*ratios: float) -> gate.Measured:
    """Return what pairs of fresh processes find, the same of each row."""

    def measured(base: Run, head: Run, rows: Sequence[Mapping[str, Any]]) -> Any:
        return ([math.log(ratio)] * len(rows) for ratio in ratios)

    return measured


def unasked(base: Run, head: Run, rows: Sequence[Mapping[str, Any]]) -> Any:
    raise AssertionError("fresh processes are asked though nothing looks slower")


def lost(base: Run, head: Run, rows: Sequence[Mapping[str, Any]]) -> Any:
    raise fresh.LostError("the source of k.py:relu is not the one that was measured")


BASE = run(row(name, 1.0) for name in "abcdef")


def with_first(*first: dict[str, Any]) -> Run:
    return run([*first, *(row(name, 1.0) for name in "bcdef")])


@pytest.mark.parametrize(
    ("head", "measured", "code", "words"),
    [
        (BASE, unasked, 0, "nothing is confirmed slower (6 SAME)"),
        (with_first(row("a", 0.8)), unasked, 0, "nothing is confirmed slower (1 FAST, 5 SAME)"),
        (with_first(row("a", 1.04)), unasked, 0, "nothing is confirmed slower (1 AMBIGUOUS, 5 SAME)"),
        (with_first(row("a", 1.3)), processes(*[1.0] * 8), 0, "nothing is confirmed slower (6 SAME)"),
        (with_first(row("a", 1.3)), processes(*[1.2] * 8), 1, "1 of 6 calls became slower: a 1.2"),
        (with_first(row("a", 1.3)), processes(*[1.2] * 7, 1.0), 0, "(1 AMBIGUOUS, 5 SAME)"),
        (
            with_first(row("a", 1.3)),
            lost,
            3,
            "cannot be measured again in fresh processes: the source of k.py",
        ),
        (with_first(refused("a")), unasked, 3, "1 calls that conformed in the base do not in the head"),
        (with_first(), unasked, 0, "nothing is confirmed slower (1 MISSING, 5 SAME)"),
        (with_first(refused("a", None)), unasked, 0, "(1 MISSING, 5 SAME)"),
        (run(row(name, 1.0) for name in "abcd"), unasked, 3, "more than 20% of the calls have no verdict"),
        (
            run(row(name, 1.04) for name in "abcdef"),
            unasked,
            3,
            "more than 20% of the calls have no verdict",
        ),
        (
            run((row(name, 1.0) for name in "abcdef"), AMBIGUOUS),
            unasked,
            3,
            "the A/A control of head is not SAME",
        ),
        (run([]), unasked, 4, "nothing to compare: no call was timed in both runs"),
        (run(BASE.rows, threads=2), unasked, 4, "NOT COMPARABLE: threads is 1 in the base and 2 in the head"),
    ],
)
def test_each_outcome_has_its_code_and_its_sentence(
    head: Run, measured: gate.Measured, code: int, words: str
) -> None:
    found = gate.decide(BASE, head, measured)
    assert (found.code, words in found.sentence) == (code, True), found.sentence
    assert len(found.judged) == len(BASE.rows)


def test_every_verdict_is_reached() -> None:
    heads = (
        with_first(row("a", 1.3)),
        with_first(row("a", 0.8)),
        with_first(row("a", 1.04)),
        with_first(refused("a")),
        with_first(),
        run(BASE.rows, threads=2),
    )
    found = {one.verdict for head in heads for one in gate.decide(BASE, head, processes(*[1.2] * 8)).judged}
    assert found == {SLOW, FAST, SAME, AMBIGUOUS, INVALID, MISSING, NOT_COMPARABLE} == set(VERDICTS)


def test_an_unfit_run_has_no_verdicts() -> None:
    found = gate.decide(run(BASE.rows, SLOW), with_first(row("a", 1.3)), unasked)
    assert {one.verdict for one in found.judged} == {INVALID}


def test_ratios_to_the_same_other_side_are_compared_and_not_times() -> None:
    """The machine takes twice as long for everything: the target is as fast as before."""
    slower = run({**one, "t_median_s": 2.0, "t_ci95_lo_s": 1.99, "t_ci95_hi_s": 2.01} for one in BASE.rows)
    assert gate.decide(BASE, slower, unasked).code == 0
    before, after = (
        run({**one, "against": "", "ratio": None, "ratio_ci_lo": None} for one in each.rows)
        for each in (BASE, slower)
    )
    assert gate.decide(before, after, processes(*[2.0] * 8)).code == 1


def test_the_table_shows_both_looks() -> None:
    table = gate.decide(BASE, with_first(row("a", 1.3)), processes(*[1.2] * 8)).frame()
    assert table[["layer", "verdict"]].to_numpy().tolist()[0] == ["a", SLOW]
    assert table["fresh"].tolist()[1:] == [""] * 5


@pytest.mark.parametrize(("slower", "code"), [(1.0, 0), (1.5, 3)])
def test_the_command_reads_two_runs(
    slower: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What looks slower here was never measured by anybody, so that no process can measure it again."""
    heads = {"base": BASE, "head": with_first(row("a", slower))}
    for name, one in heads.items():
        origin = {"executable": str(tmp_path / "no python"), "directory": str(tmp_path), "package": ""}
        entries = [{**one.header, "origin": origin}, *one.controls, *one.rows]
        (tmp_path / name).mkdir()
        (tmp_path / name / record.RECORD).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert main(["bench", "gate", "--base", str(tmp_path / "base"), "--head", str(tmp_path / "head")]) == code
    assert ("No such file" in capsys.readouterr().out) == (code == 3)


# Fresh processes


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    """Two runs of a kernel, from two folders."""
    monkeypatch.setattr("cnnspec.bench.desk.timers", lambda device: (Simulated(lambda name: 1.0),))
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("kernels.py").write_text(KERNELS + f"\nVERSION = {name!r}\n")
        monkeypatch.delitem(sys.modules, "kernels", raising=False)
        command = ["bench", "kernels.py:chatty", "--op", "sigmoid", "--net", "lenet5", "--out", "out"]
        assert main(command) == 0
    base, head = (record.read(tmp_path / name / "out") for name in ("base", "head"))
    return base, head


def test_fresh_processes_measure_both_versions(
    versions: tuple[Run, Run], capfd: pytest.CaptureFixture[str]
) -> None:
    base, head = versions
    assert base.header["origin"]["source_sha256"] != head.header["origin"]["source_sha256"]
    (found,) = fresh.log_ratios(base, head, base.timed[:2], processes=1)
    assert len(found) == 2
    assert all(map(math.isfinite, found))
    assert "a line that is no reply" in capfd.readouterr().err


def test_a_source_that_has_changed_is_not_measured(versions: tuple[Run, Run]) -> None:
    base, head = versions
    Path(head.header["origin"]["directory"], "kernels.py").write_text(KERNELS)
    with (
        pytest.raises(
            fresh.LostError, match=r"the source of kernels.py:chatty is not the one that was measured"
        ),
        fresh.Fresh(head) as process,
    ):
        process.prepare(base.timed[0])


def test_a_process_that_ends_or_hangs_is_given_up() -> None:
    header = {
        "target": "os:abort",
        "only": ["relu"],
        "device": "cpu",
        "threads": 1,
        "origin": {"executable": sys.executable, "directory": ".", "package": ".", "source_sha256": ""},
    }
    told = {"case": "relu(input=(2,))", "variant": "plain", "direction": "forward", "mode": "cpu"}
    with (
        pytest.raises(fresh.LostError, match="the process ended, or did not reply in time"),
        fresh.Fresh(Run(header), seconds=0.05) as process,
    ):
        process.prepare(told)


def test_a_worker_says_why_it_cannot_measure() -> None:
    known = {"target": "torch", "variant": "plain", "only": [], "device": "cpu", "threads": 1}
    told = {"case": "relu(input=(2,))", "direction": "forward", "mode": "cpu", "source_sha256": "another"}
    none, changed = answers([{"count": 1}, {**known, **told}])
    assert none == {"error": "UsageError: a sample of no call is asked for"}
    assert changed == {"error": "UsageError: the source of torch is not the one that was measured"}


def test_the_interval_of_eight_processes_is_from_the_least_to_the_greatest() -> None:
    logarithms = [math.log(1.1 + n / 100) for n in range(8)]
    found = gate.decide(BASE, with_first(row("a", 1.3)), processes(*map(math.exp, logarithms)))
    confirmed = found.judged[0].confirmed
    assert confirmed
    assert (confirmed.low, confirmed.high) == (
        math.exp(logarithms[0]),
        math.exp(logarithms[-1]),
    )
