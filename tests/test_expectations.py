"""Known deviations: what an entry describes, what is wrong with a file, and what is proposed."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.expectations import UNEXPLAINED, for_backends, load, propose

GOOD = {
    "operator": '["max_pool2d", "avg_pool2d"]',
    "backend": '"torch"',
    "dtype": '["float16", "bfloat16"]',
    "law": '"forward"',
    "where": '"ceil_mode and padding > 0"',
    "witness": "\"max_pool2d(kernel_size=2, padding=1, ceil_mode=True, input=(1, 3, 3), dtype='float16')\"",
    "reason": '"the last window is dropped"',
    "link": '"https://example.org/1"',
    "expires": "2030-01-31",
}


def written(folder: Path, *entries: dict[str, str], name: str = "torch.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [
        "\n".join(["[[expect]]", *(f"{key} = {value}" for key, value in one.items())]) for one in entries
    ]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def pool(
    operator: str = "max_pool2d", padding: int = 1, dtype: str = "float16", *, ceil: bool = True
) -> Case:
    return Case(operator, {"kernel_size": 2, "padding": padding, "ceil_mode": ceil}, ((1, 3, 3),), dtype)


def test_entry_holds_what_the_file_says(tmp_path: Path) -> None:
    (entry,) = load(written(tmp_path, GOOD))
    assert entry.operators == ("max_pool2d", "avg_pool2d")
    assert (entry.backends, entry.dtypes, entry.law) == (("torch",), ("float16", "bfloat16"), "forward")
    assert entry.where is not None
    assert entry.where.text == "ceil_mode and padding > 0"
    assert entry.witness == pool()
    assert (entry.status, entry.reason) == ("xfail", "the last window is dropped")
    assert (entry.link, entry.expires) == ("https://example.org/1", dt.date(2030, 1, 31))


def test_optional_keys_may_be_missing(tmp_path: Path) -> None:
    few = {key: value for key, value in GOOD.items() if key not in ("where", "link", "expires")}
    (entry,) = load(written(tmp_path, few))
    assert (entry.where, entry.link, entry.expires, entry.status) == (None, "", None, "xfail")
    assert not entry.expired(dt.date(9999, 12, 31))


@pytest.mark.parametrize(
    ("case", "backend", "law", "described"),
    [
        (pool(), "torch", "forward", True),
        (pool("avg_pool2d"), "torch", "forward", True),
        (pool(dtype="bfloat16"), "torch", "forward", True),
        (pool("max_pool3d"), "torch", "forward", False),
        (pool(dtype="float32"), "torch", "forward", False),
        (pool(), "torch-nn", "forward", False),
        (pool(), "torch", "backward", False),
        (pool(padding=0), "torch", "forward", False),
        (pool(ceil=False), "torch", "forward", False),
    ],
)
def test_matching(tmp_path: Path, case: Case, backend: str, law: str, described: bool) -> None:
    (entry,) = load(written(tmp_path, GOOD))
    assert entry.matches(case, backend, law) is described


def test_condition_that_says_nothing_excuses_nothing(tmp_path: Path) -> None:
    relu = {**GOOD, "operator": '"relu"', "where": '"height == 3"', "dtype": '"float16"'}
    (entry,) = load(written(tmp_path, {**relu, "witness": "\"relu(input=(1, 2, 3, 4), dtype='float16')\""}))
    assert entry.matches(Case("relu", {}, ((2, 2, 3, 5),), "float16"), "torch", "forward")
    assert not entry.matches(Case("relu", {}, ((7,),), "float16"), "torch", "forward")


def test_an_entry_expires_after_its_last_day(tmp_path: Path) -> None:
    (entry,) = load(written(tmp_path, GOOD))
    assert [entry.expired(dt.date(2030, 1, 31)), entry.expired(dt.date(2030, 2, 1))] == [False, True]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reason", None, "reason is missing: write why"),
        ("witness", None, "witness is missing: write a case line"),
        ("operator", None, "operator is missing: write a name or a list of names"),
        ("reason", '""', "reason='': write why"),
        ("reason", "3", "reason=3: write why"),
        ("raeson", '"x"', "unknown key 'raeson': did you mean 'reason'?"),
        ("operator", '"maxpool2d"', "operator: unknown 'maxpool2d': did you mean 'max_pool2d'?"),
        ("operator", "[]", "operator=[]: write a name or a list of names"),
        ("operator", "[[]]", "operator=[[]]: write a name or a list of names"),
        ("dtype", '["float16", "half"]', "dtype: unknown 'half': known are float64, "),
        ("backend", "1", "backend=1: write a name or a list of names"),
        ("law", '["forward"]', "law=['forward']: write its name"),
        ("status", '"skip"', "status: unknown 'skip': known are xfail"),
        ("expires", '"2030-02-31"', "expires='2030-02-31': write a date without quotes"),
        ("expires", "2030-01-31T00:00:00", "write a date without quotes"),
        ("where", '"ceil_mode ="', "where, for max_pool2d: not an expression: 'ceil_mode ='"),
        ("where", '"dilation == 1"', "where, for avg_pool2d: unknown name 'dilation' in 'dilation == 1'"),
        ("witness", '"max_pool2d("', "witness: not a case line: 'max_pool2d('"),
        ("witness", '"max_pool2d(input=(1, 3, 3))"', "witness: not a case line: "),
        (
            "witness",
            "\"max_pool2d(kernel_size=2, padding=1, input=(1, 3, 3), dtype='float16')\"",
            'does not describe it: where = "ceil_mode and padding > 0" does not hold; change one of them',
        ),
        (
            "witness",
            '"max_pool2d(kernel_size=2, padding=1, ceil_mode=True, input=(1, 3, 3))"',
            "the entry does not describe it: dtype float32 is not among float16, bfloat16",
        ),
        (
            "witness",
            "\"relu(input=(1, 3, 3), dtype='float16')\"",
            "the entry does not describe it: operator relu is not among max_pool2d, avg_pool2d",
        ),
    ],
)
def test_mistake_is_named(tmp_path: Path, key: str, value: str | None, message: str) -> None:
    bad = {**GOOD, key: value or ""}
    if value is None:
        del bad[key]
    path = written(tmp_path, GOOD, bad)
    with pytest.raises(UsageError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: expect 2: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expect = 1", "expect: write [[expect]] tables, nothing else"),
        ("[expect]\nlaw = 1", "expect: write [[expect]] tables, nothing else"),
        ("[[expected]]", "expected: write [[expect]] tables, nothing else"),
        ("[[expect", "cannot be read as TOML: "),
    ],
)
def test_file_that_holds_no_entries_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "torch.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read as TOML"):
        load(tmp_path / "none.toml")


def test_each_backend_brings_its_own_file_once(tmp_path: Path) -> None:
    written(tmp_path, GOOD, name="expectations/torch.toml")
    written(tmp_path, {**GOOD, "backend": '"torch-nn"'}, name="expectations/torch-nn.toml")
    names = ("torch", "torch-nn", "torch", "my_kernels", "kernels.py:conv2d")
    assert {entry.backends for entry in for_backends(names, tmp_path)} == {("torch",), ("torch-nn",)}
    assert [entry.backends for entry in for_backends(["torch-nn"], tmp_path)] == [("torch-nn",)]
    assert for_backends(["torch"], tmp_path / "nowhere") == ()


def row(**changes: Any) -> dict[str, Any]:
    usual = {"operator": "relu", "backend": "torch", "dtype": "float32", "law": "forward", "status": "fail"}
    return {**usual, "case": "relu(input=(5, 7), dtype='float32')", "message": "wrong", **changes}


def test_one_proposal_for_each_cell_with_its_smallest_case(tmp_path: Path) -> None:
    failures = [
        row(minimal_case="relu(input=(3,), dtype='float32')"),
        SimpleNamespace(row=row(minimal_case="relu(input=(1,), dtype='float32')", message="sign of zero")),
        row(law="backward", minimal_case=None),
        row(status="xpass", law="parts"),
        row(status="harness", law="parts"),
    ]
    path = tmp_path / "torch.toml"
    path.write_text(propose(failures), encoding="utf-8")
    forward, backward = load(path)
    assert (str(forward.witness), forward.law) == (str(Case("relu", {}, ((1,),))), "forward")
    assert (str(backward.witness), backward.law) == (str(Case("relu", {}, ((5, 7),))), "backward")
    assert {forward.reason, backward.reason} == {UNEXPLAINED}
    assert path.read_text(encoding="utf-8").startswith('# 2 failures: "sign of zero"\n[[expect]]\n')


@pytest.mark.parametrize(
    "odd", ['"', "\\", "\n", "\r\n", "\t", "\x00", "\x1f", "\x7f", "\x85", "é", "𝄞", "\ud83d", "#"]
)
def test_proposal_survives_any_text(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(
        propose([row(backend=f"a{odd}b", message=f"{odd}[[expect]]")]), encoding="utf-8", newline=""
    )
    (entry,) = load(path)
    assert entry.backends == (f"a{odd}b".encode("utf-8", "replace").decode(),)


def test_nothing_failed_nothing_proposed(tmp_path: Path) -> None:
    path = tmp_path / "torch.toml"
    path.write_text(propose([]), encoding="utf-8")
    assert load(path) == ()
