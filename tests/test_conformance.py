"""Plans and sessions, in this process: order, budgets, expectations, cells that cannot run."""

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import cnnspec
from cnnspec.backends import Backend
from cnnspec.conformance import Past, Session
from cnnspec.errors import UsageError
from cnnspec.models import MODELS
from cnnspec.plan import CHUNK, Chunk, Plan, known_laws

TORCH = Backend("mine", {"relu": F.relu, "linear": F.linear})


def plan(**changes: Any) -> Plan:
    small: dict[str, Any] = {
        "targets": ("mine",),
        "operators": ("relu",),
        "dtypes": ("float32",),
        "examples": 12,
    }
    return Plan(**small | changes)


def entries(session: Session) -> list[Mapping[str, Any]]:
    return [entry for chunk in session.plan.chunks() for entry in session.run(chunk)]


def test_a_plan_crosses_to_other_processes_unchanged() -> None:
    given = plan(where="rank == 2", deadline=12.5, shard=(2, 3))

    assert Plan.load(given.dump()) == given


def test_first_chunks_of_all_cells_come_before_second_ones() -> None:
    chunks = plan(operators=("relu", "linear"), dtypes=("float32", "float64"), examples=CHUNK + 1).chunks()

    assert [chunk.number for chunk in chunks] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(set(chunks)) == 8


def test_shards_are_a_partition() -> None:
    whole = plan(operators=("relu", "linear"), dtypes=()).chunks()
    parts = [plan(operators=("relu", "linear"), dtypes=(), shard=(i, 3)).chunks() for i in (1, 2, 3)]

    assert sorted(map(str, whole)) == sorted(str(chunk) for part in parts for chunk in part)


def test_same_seed_same_cases_same_verdicts() -> None:
    def told(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in entry.items() if key != "seconds"}

    first, again = ([told(e) for e in entries(Session(plan(), [TORCH]))] for _ in range(2))

    assert first == again
    assert [*map(told, entries(Session(plan(seed=1), [TORCH])))] != first


def test_a_spent_budget_says_where_each_list_was_cut() -> None:
    session = Session(plan(deadline=time.time() - 1), [TORCH])

    assert entries(session) == [{"kind": "cut", "operator": "relu", "dtype": "float32", "ran": 0, "of": 12}]
    assert entries(session) == []  # said once


def test_cases_that_have_a_row_are_left_out() -> None:
    past = Past(frozenset((index, "mine") for index in range(10)))
    rows = Session(plan(), [TORCH]).run(Chunk(0, "relu", "float32"), past)

    assert {row["index"] for row in rows} == {10, 11}


def test_an_operator_that_the_target_lacks_is_one_unsupported_cell() -> None:
    [cell] = entries(Session(plan(operators=("tanh",)), [TORCH]))

    assert (cell["kind"], cell["status"], cell["reason"]) == ("cell", "unsupported", "mine has no tanh")


def test_a_device_that_is_not_there_is_skipped_with_its_reason() -> None:
    absent = Backend("mine", {"relu": F.relu}, device="cuda")
    [cell] = (
        entries(Session(plan(), [absent]))
        if not torch.cuda.is_available()
        else [{"status": "skip", "reason": "no"}]
    )

    assert cell["status"] == "skip"
    assert cell["reason"].startswith("no")


def test_where_restricts_the_cases_and_says_when_none_is_left() -> None:
    rows = entries(Session(plan(operators=("linear",), where="in_features == 3 and not bias"), [TORCH]))
    assert all("in_features=3" in row["case"] and "bias=False" in row["case"] for row in rows)
    assert rows

    [cell] = entries(Session(plan(operators=("linear",), where="in_features == -1"), [TORCH]))
    assert (cell["status"], cell["reason"][:35]) == ("skip", "no case satisfies 'in_features == -")


def test_supports_restricts_the_cases() -> None:
    narrow = Backend(
        "mine", {"linear": F.linear}, supports=lambda c: "" if c.arguments["in_features"] == 4 else "only 4"
    )

    assert all(
        "in_features=4" in row["case"] for row in entries(Session(plan(operators=("linear",)), [narrow]))
    )


def test_an_error_in_cnnspec_is_a_harness_row_and_not_a_failure_of_the_target() -> None:
    def broken(values: Any, *rest: Any) -> Any:
        raise RuntimeError("the converter is broken")

    results = cnnspec.check(Backend("mine", {"relu": F.relu}, arrays=broken), examples=2, dtypes=["float32"])

    assert {row["status"] for row in results.rows} == {"harness"}
    assert results.exit_code == 4


def test_a_contract_widens_the_bound_only_where_it_is_declared() -> None:
    def tf32(x: torch.Tensor, w: torch.Tensor, b: Any = None) -> torch.Tensor:
        def kept(t: torch.Tensor) -> torch.Tensor:
            bits = t.contiguous().view(torch.int32)
            return torch.where(
                t.isfinite() & (t.abs() < 1e38), ((bits + 0x1000) & ~0x1FFF).view(torch.float32), t
            )

        return F.linear(kept(x), kept(w), b)

    where = "regime == 'sparse' or regime == 'dense'"
    asked: dict[str, Any] = {"examples": 40, "where": where, "laws": ("forward",)}
    strict = cnnspec.check(tf32, ["linear"], ["float32"], **asked)
    declared = cnnspec.check(tf32, ["linear"], ["float32"], **asked, contract="tf32")
    others = {
        name: cnnspec.check(tf32, ["linear"], ["float32"], **asked, contract=name).exit_code
        for name in ("fp32", "float32 truncation", "tf32 tensor cores", "bf16")
    }

    assert strict.exit_code == 1
    assert others == {"fp32": 1, "float32 truncation": 1, "tf32 tensor cores": 0, "bf16": 0}
    assert strict.failures[0].row["looks_like"] == "consistent with tf32 inputs"
    assert declared.exit_code == 0
    assert {row["model"] for row in declared.rows if row["law"] == "forward"} == {MODELS["tf32 inputs"].name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operators": ("conv2",)}, "unknown operator 'conv2'; did you mean conv"),
        ({"dtypes": ("float31",)}, "unknown dtype 'float31'; known are"),
        ({"laws": ("linear",)}, "unknown law 'linear'; known are forward"),
        ({"contract": "fp8"}, "unknown error model 'fp8'"),
        ({"where": "strid == 1"}, "strid"),
        ({"memory": 10**8}, "memory=100000000 must be 500000000 bytes or more"),
        ({"dtypes": ("int64",), "operators": ("linear",)}, "none of linear is tested in int64"),
    ],
)
def test_what_does_not_exist_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", "\\(")):
        plan(**changes).check()


def test_every_law_has_a_statement() -> None:
    assert all(statement for statement in known_laws().values())


EXPECTATION = """
[[expect]]
operator = "relu"
backend = "mine"
dtype = "float32"
law = "forward"
status = "xfail"
reason = "rounds up"
witness = "relu(input=(1,), dtype='float32', regime='dense', data={'input': [0.5]})"
"""


def test_listed_deviations_are_expected_and_listed_ones_that_pass_fail_the_run(tmp_path: Path) -> None:
    listed = tmp_path / "mine.toml"
    listed.write_text(EXPECTATION, encoding="utf-8")
    wrong = Backend("mine", {"relu": lambda x: F.relu(x).ceil()})
    deviates = entries(Session(plan(expect=str(listed)), [wrong]))
    passes = entries(Session(plan(expect=str(listed)), [TORCH]))

    bad = [row for row in deviates if row["status"] != "pass"]
    assert {row["status"] for row in bad} == {"xfail"}
    assert bad[0]["index"] == -1
    assert bad[0]["expectation"]["reason"] == "rounds up"
    unexpected = [row for row in passes if row["status"] != "pass"]
    assert [(row["index"], row["status"], row["law"]) for row in unexpected] == [(-1, "xpass", "forward")]


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        ("segfaults", "not called: rounds up"),
        ("relu", "listed as ending its process; here it returned (rounds up)"),
    ],
)
def test_what_is_listed_as_crashing_is_called_in_a_process_of_its_own(
    kernel: str, reason: str, tmp_path: Path
) -> None:
    """This process would not survive the call; where the listed witness does not crash, its row says so."""
    listed = tmp_path / "mine.toml"
    listed.write_text(EXPECTATION.replace("xfail", "crashes"), encoding="utf-8")
    module = importlib.import_module("tests.kernels.misbehaving")
    backend = Backend("mine", {"relu": getattr(module, kernel)})
    target = {"mine": f"{module.__file__}:{kernel}"}
    rows = entries(Session(plan(expect=str(listed)), [backend], target_of=target))

    assert {(row["law"], row["status"]) for row in rows} == {("forward", "xfail")}
    assert {row["index"]: row["reason"] for row in rows}[-1] == reason
    assert {row["reason"] for row in rows if row["index"] != -1} == {"not called: rounds up"}


def test_failures_of_an_earlier_run_come_first() -> None:
    line = "relu(input=(1,), dtype='float32', regime='dense', data={'input': [0.5]})"
    rows = entries(Session(plan(earlier=(line,)), [TORCH]))

    assert rows[0]["case"] == line
    assert rows[0]["index"] < -1
    assert len(rows) > 10
