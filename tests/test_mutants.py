"""The bank of mutants, and the suite against it."""

import csv
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnspec import borderline, cli, ops
from cnnspec.backends import Backend
from cnnspec.backends.torch import functional
from cnnspec.calls import Call
from cnnspec.cases import BORDERLINE, Case
from cnnspec.conformance import Session
from cnnspec.judge import Trial
from cnnspec.mutants import bank, kill
from cnnspec.mutants.bank import Invocation, Mutant
from cnnspec.mutants.survivors import REASONS
from cnnspec.outputs import is_small
from cnnspec.plan import Plan

MUTANTS = {one.name: one for one in bank.mutants()}
OPERATORS = [name for name in ops.NAMES if any(one.operator == name for one in MUTANTS.values())]
FEWEST, MOST = 20, 400
"""Cases outside its trigger in which a mutant must be healthy, and how many are drawn for that."""

ALWAYS = "conv_transpose2d output of the call before"
"""It must see every call, to remember its output."""

with (Path(__file__).parent / "mutant_kills.csv").open(encoding="utf-8", newline="") as _file:
    KILLS = {row["mutant"]: row for row in csv.DictReader(_file)}
"""A case on which a law fails, for each mutant."""


def never(c: Invocation) -> bool:
    return False


def healthy_call(c: Invocation) -> Any:
    return c()


@pytest.fixture
def never_wrong() -> Iterator[Mutant]:
    bank.mutant("linear", "a/b#1", "nothing", "forward", when=never)(healthy_call)
    yield bank.named("linear healthy call")
    del bank._BANK["linear healthy call"]


# The bank


def test_there_are_as_many_as_the_readme_says() -> None:
    readme = Path(__file__).parent.parent / "README.md"
    assert f"| all | {len(MUTANTS)} |" in readme.read_text(encoding="utf-8")


def test_a_name_is_given_once(never_wrong: Mutant) -> None:
    with pytest.raises(ValueError, match="is there already"):
        bank.mutant("linear", "a/b#1", "nothing", "forward")(healthy_call)


@pytest.mark.parametrize("one", MUTANTS.values(), ids=list(MUTANTS))
def test_every_mutant_says_whose_bug_it_is(one: Mutant) -> None:
    for source in one.source.split(", "):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+|https://\S+", source)
    assert one.direction in bank.DIRECTIONS
    assert one.operator in ops.NAMES
    assert one.summary


def test_nothing_that_draws_cases_knows_a_mutant() -> None:
    package = Path(bank.__file__).parents[1]
    files = [package / f"{name}.py" for name in ("strategies", "coverage", "data", "features", "borderline")]
    folders = [path for name in ("ops", "corners") for path in (package / name).glob("*.py")]
    text = "\n".join(path.read_text() for path in (*files, *folders))
    for one in MUTANTS.values():
        function = one.name.partition(" ")[2].replace(" ", "_")
        assert "_" not in function or not re.search(rf"\b{function}\b", text)
        assert one.name not in text
        assert not any(source in text for source in one.source.split(", "))


# Outside its trigger a mutant is healthy


def outcome(backend: Backend, case: Case) -> Any:
    """Return the bits of the outputs, with their shapes, types and strides; the message where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = backend.call(case.spec, case, Call(backend, case, Trial(case).operands).arrays)
    except Exception as error:  # noqa: BLE001 - the healthy one's refusals too
        return str(error)
    arrays = result if isinstance(result, tuple) else (result,)
    return [
        (one.shape, one.dtype, one.stride(), one.detach().flatten().contiguous().view(torch.uint8).tolist())
        for one in arrays
    ]


class Cases:
    """The cases of a default run, with what healthy torch gives and which mutants would have been wrong."""

    def __init__(self, operator: str, mutants: list[Mutant]) -> None:
        self.operator, self.mutants, self._healthy = operator, mutants, functional()
        self._healthy.prepare()
        self._seen: list[tuple[Case, Any, set[str]]] = []
        self._more = self._drawn()

    def __iter__(self) -> Iterator[tuple[Case, Any, set[str]]]:
        yield from self._seen
        for one in self._more:
            self._seen.append(one)
            yield one

    def _drawn(self) -> Iterator[tuple[Case, Any, set[str]]]:
        session = Session(Plan(("torch",), operators=(self.operator,)), [self._healthy])
        for chunk in session.plan.chunks():
            for case in session.cases(chunk):
                if is_small(case):
                    yield self._called(case)

    def _called(self, case: Case) -> tuple[Case, Any, set[str]]:
        wrong: set[str] = set()

        def watched(*args: Any, **kwargs: Any) -> Any:
            invocation = Invocation(self.operator, args, kwargs)
            wrong.update(one.name for one in self.mutants if one.trigger(invocation))
            return self._healthy.functions[self.operator](*args, **kwargs)

        return case, outcome(replace(self._healthy, functions={self.operator: watched}), case), wrong


def outside(one: Mutant, cases: Cases) -> int:
    """Count the cases outside the trigger of a mutant, on which it must be as healthy torch is."""
    count, backend = 0, kill.backend_of(one)
    for case, expected, wrong in islice(cases, MOST):
        if one.name not in wrong:
            count += 1
            assert outcome(backend, case) == expected, f"{one.name} on {case}"
        if count == FEWEST:
            break
    return count


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_mutant_is_healthy_outside_its_trigger(operator: str) -> None:
    cases = Cases(operator, bank.mutants([operator]))
    for one in cases.mutants:
        assert outside(one, cases) == FEWEST or one.name == ALWAYS, one.name


def test_a_mutant_that_is_wrong_elsewhere_is_noticed() -> None:
    liar = Mutant("liar", "relu", lambda input: input, never, "a/b#1", "nothing", "forward")
    with pytest.raises(AssertionError, match="liar on relu"):
        outside(liar, Cases("relu", [liar]))


# The judge catches it


def test_every_mutant_has_a_case_on_which_it_fails() -> None:
    assert KILLS.keys() == MUTANTS.keys()


@pytest.mark.parametrize("name", KILLS)
def test_the_judge_kills_a_mutant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, law, case = MUTANTS[name], KILLS[name]["law"], Case.parse(KILLS[name]["case"])
    if one.crashes:
        assert kill.crashing_law(one, case, [law]) == law
        return
    if case.regime == BORDERLINE:  # a question that the law of acceptance does not come to
        monkeypatch.setattr(borderline, "question", lambda case: case)
    trial, backend = Trial(case), kill.backend_of(one)
    assert case.regime == BORDERLINE or law in kill.laws_of(trial)
    if KILLS[name]["before"]:  # what it returns comes from this call
        Trial(Case.parse(KILLS[name]["before"])).violates(backend, law)
    assert trial.violates(backend, law)
    assert not trial.violates(functional(), law)


def test_survivors_are_mutants_and_have_a_reason() -> None:
    assert REASONS.keys() <= MUTANTS.keys()
    assert all(REASONS.values())


def test_a_healthy_function_survives_all_laws() -> None:
    function = functional().functions["linear"]
    harmless = Mutant("harmless", "linear", function, lambda c: True, "a/b#1", "nothing", "forward")
    fate = kill.Hunt("linear", [harmless], examples=3).fates()["harmless"]
    assert (fate.status, fate.cases, fate.reached) == (kill.SURVIVED, 12, 12)


def test_the_score_counts_the_killed_and_takes_the_median_of_their_cases() -> None:
    one = MUTANTS["linear operands in tf32"]
    fates = [kill.Fate(one, kill.KILLED, cases=n) for n in (9, 2, 5)] + [kill.Fate(one, cases=800)]
    assert kill.score(fates) == "3 of 4 killed (75.0 %), median 5 cases"


# The command


def test_the_command_prints_a_table_and_the_score(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["mutants", "--op", "linear", "--jobs", "1", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["mutant", "operator", "law", "cases", "seconds"]
    assert lines[1].split()[-4:-2] == ["linear", "forward"]
    assert re.fullmatch(r"2 of 2 killed \(100.0 %\), median \d cases", lines[-1])
    with (tmp_path / "mutants.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["mutant"] for row in rows] == [one.name for one in bank.mutants(["linear"])]
    for row in rows:
        assert Trial(Case.parse(row["minimal_case"])).violates(
            kill.backend_of(MUTANTS[row["mutant"]]), row["law"]
        )


def test_a_survivor_without_a_reason_is_a_failure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, never_wrong: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["mutants", "--op", "linear", "--jobs", "1", "--examples", "5", "--out", str(tmp_path)]
    assert cli.main(command) == 1
    told = capsys.readouterr()
    assert "2 of 3 killed (66.7 %)" in told.out
    too_few = "the score is below 99%\n"
    assert told.err == "survived: linear healthy call: none of 20 cases reaches it (nothing)\n" + too_few
    monkeypatch.setitem(REASONS, never_wrong.name, "it is healthy")
    assert cli.main(command) == 1
    assert capsys.readouterr().err == too_few
    monkeypatch.setattr("cnnspec.commands.mutants.LEAST_SCORE", 2 / 3)
    assert cli.main(command) == 0


def test_a_budget_cuts_and_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["mutants", "--op", "linear", "--jobs", "1", "--budget", "1e-6", "--out", str(tmp_path)]
    assert cli.main(command) == 1
    assert "cut: linear operands in tf32" in capsys.readouterr().err
