"""Whether the suite catches the mutants: each is judged on the cases of a default run until a law fails.

An operator's cases are those that `cnnspec check torch` draws, in that order: a chunk of each dtype, then the next of
each. Operands and exact results are worked out once for all its mutants. A failure counts where healthy torch keeps
the law on this case; where a deviation of torch is known, each of several times.
"""

import multiprocessing
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from cnnspec.alone import clean_processes
from cnnspec.backends import Backend
from cnnspec.backends.torch import functional
from cnnspec.calls import promised_format
from cnnspec.cases import Case
from cnnspec.conformance import Session
from cnnspec.errors import CnnspecError
from cnnspec.judge import ACCEPTANCE, MEMORY_FORMAT, Trial
from cnnspec.mutants import bank
from cnnspec.mutants.bank import Invocation, Mutant
from cnnspec.plan import EXAMPLES, Chunk, Plan
from cnnspec.shrink import shrink

KILLED, SURVIVED, CUT = "killed", "survived", "cut"
SHRINK_SECONDS = 1.0
CRASH_SECONDS = 60.0
AGAIN = 2
"""So many times more both are asked where torch deviates now and then, by memory that it has not written."""


@dataclass
class Fate:
    """What a run found of one mutant.

    cases: of its operator, over all dtypes, judged until a law failed;   reached: those of them in which it was wrong
    seconds: its own calls and their verdicts;   case, minimal_case: lines, as they were drawn and made smaller
    """

    mutant: Mutant
    status: str = SURVIVED
    law: str = ""
    cases: int = 0
    reached: int = 0
    seconds: float = 0.0
    message: str = ""
    case: str = ""
    minimal_case: str = ""


def backend_of(mutant: Mutant) -> Backend:
    """Return torch's functions as a backend, with the mutant in its operator's place."""
    healthy = functional()
    functions = {**healthy.functions, mutant.operator: mutant.function}
    return replace(healthy, name=mutant.name, functions=functions, builtin=False, path=lambda case: "")


def laws_of(trial: Trial) -> list[str]:
    """Return the laws of a case in the order in which a whole library is judged by them."""
    promised = trial.case.dtype == "float32"
    formats = [MEMORY_FORMAT] * (promised and bool(promised_format(trial.case)))
    return [*trial.laws(), *[ACCEPTANCE] * promised, *formats]


def run(
    mutants: Sequence[Mutant],
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    jobs: int = 1,
    deadline: float | None = None,
) -> list[Fate]:
    """Return what becomes of the mutants, one worker process for each job; in this process where it is one.

    deadline: `time.time()` after which no case is begun
    """
    names: dict[str, list[str]] = {}
    for one in mutants:
        names.setdefault(one.operator, []).append(one.name)
    found: dict[str, Fate] = {}
    for fates in _parts(names, (examples, seed, deadline), jobs):
        for name, fate in fates:
            found[name] = replace(fate, mutant=bank.named(name))
    return [found[one.name] for one in mutants]


Part = list[tuple[str, Any]]
Limits = tuple[int, int, float | None]


def _parts(names: dict[str, list[str]], limits: Limits, jobs: int) -> Iterator[Part]:
    """Yield the fates of one operator after the other, those with many mutants begun first."""
    order = sorted(names, key=lambda operator: -len(names[operator]))
    if jobs == 1:
        yield from (hunted(operator, names[operator], limits) for operator in order)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(hunted, operator, names[operator], limits) for operator in order]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise CnnspecError("a worker ended: the direction of one of the mutants must be crash") from None


def hunted(operator: str, names: Sequence[str], limits: Limits) -> Part:
    """Return the fates of mutants of one operator by name; plain data but for the mutants, which are left out."""
    hunt = Hunt(operator, [bank.named(name) for name in names], *limits)
    functional().prepare()
    return [(name, replace(fate, mutant=None)) for name, fate in hunt.fates().items()]  # type: ignore[arg-type]


@dataclass
class Hunt:
    """The mutants of one operator on its cases."""

    operator: str
    mutants: Sequence[Mutant]
    examples: int = EXAMPLES
    seed: int = 0
    deadline: float | None = None
    _reached: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        plan = Plan(("torch",), operators=(self.operator,), seed=self.seed, examples=self.examples)
        self._healthy = functional()
        self._session = Session(plan, [self._healthy])
        self._backends = {one.name: backend_of(one) for one in self.mutants}
        self._fates = {one.name: Fate(one) for one in self.mutants}

    def fates(self) -> dict[str, Fate]:
        """Judge the cases in their order until every mutant has failed or none is left."""
        number = 0
        for chunk in self._session.plan.chunks():
            for case in self._session.cases(chunk):
                if not self._alive():
                    return self._fates
                if self.deadline is not None and time.time() > self.deadline:
                    for fate in self._alive():
                        fate.status = CUT
                    return self._fates
                number += 1
                for fate in self._alive():
                    fate.cases = number
                self._judge(chunk, case)
        return self._fates

    def _alive(self) -> list[Fate]:
        return [fate for fate in self._fates.values() if fate.status == SURVIVED]

    def _judge(self, chunk: Chunk, case: Case) -> None:
        """Judge the mutants on one case, law by law; only those in whose trigger a call of a law has been."""
        trial, watching = Trial(case), self._watching()
        self._reached, kept = set(), []
        for law in laws_of(trial):
            listed = self._listed(case, law)
            if "crashes" in listed or trial.violates(watching, law):
                continue
            kept.append(law)
            for fate in self._alive():
                if fate.mutant.name in self._reached and not fate.mutant.crashes:
                    self._ask(fate, trial, law, chunk, 1 + AGAIN * bool(listed))
        for fate in self._alive():
            fate.reached += fate.mutant.name in self._reached
            if fate.mutant.name in self._reached and fate.mutant.crashes:
                fate.law = crashing_law(fate.mutant, case, kept)
                if fate.law:
                    self._kill(fate, "the call ended its process", case, case)

    def _watching(self) -> Backend:
        """Return healthy torch as a backend that notes which mutants would have been wrong."""
        watched = [fate.mutant for fate in self._alive()]

        def function(*args: Any, **kwargs: Any) -> Any:
            invocation = Invocation(self.operator, args, kwargs)
            self._reached |= {one.name for one in watched if _is_triggered(one, invocation)}
            return self._healthy.functions[self.operator](*args, **kwargs)

        functions = {**self._healthy.functions, self.operator: function}
        return replace(self._healthy, functions=functions, path=lambda case: "")

    def _listed(self, case: Case, law: str) -> set[str]:
        """Return the status words of torch's known deviations that describe the case."""
        listed = self._session.expectations
        return {one.status for one in listed if one.matches(case, self._healthy.name, law)}

    def _fails(self, trial: Trial, backend: Backend, law: str, times: int) -> bool:
        """Say whether a mutant fails where healthy torch does not, each time that both are asked."""
        pairs = ((trial.violates(backend, law), trial.violates(self._healthy, law)) for _ in range(times))
        return all(wrong and not known for wrong, known in pairs)

    def _ask(self, fate: Fate, trial: Trial, law: str, chunk: Chunk, times: int) -> None:
        started = time.perf_counter()
        backend = self._backends[fate.mutant.name]
        failed = trial.violates(backend, law)
        fate.seconds += time.perf_counter() - started
        if not failed or not self._fails(trial, backend, law, times - 1):
            return
        fate.law, fate.reached = law, fate.reached + 1
        rows = trial.rows(backend, [law])
        message = next((str(row["message"]) for row in rows if row["status"] == "fail"), "")
        self._kill(fate, message, trial.case, self._smallest(trial.case, backend, law, chunk))

    def _kill(self, fate: Fate, message: str, case: Case, smallest: Case) -> None:
        fate.status, fate.message = KILLED, message
        fate.case, fate.minimal_case = str(case), str(smallest)

    def _smallest(self, case: Case, backend: Backend, law: str, chunk: Chunk) -> Case:
        """Return the smallest case found in a short time on which the mutant fails and healthy torch does not."""
        left = SHRINK_SECONDS if self.deadline is None else min(SHRINK_SECONDS, self.deadline - time.time())
        if left <= 0:
            return case

        def breaks(candidate: Case) -> bool:
            trial, listed = Trial(candidate), self._listed(candidate, law)
            if "crashes" in listed or law not in laws_of(trial):
                return False
            return self._fails(trial, backend, law, 1 + AGAIN * bool(listed))

        strategy = self._session.strategy(case.operator, case.dtype)
        smallest = shrink(case, strategy, self._session.seed(chunk), breaks, left)
        return smallest if breaks(Case.parse(str(smallest))) else case  # explicit data leave the seed out


def _is_triggered(mutant: Mutant, invocation: Invocation) -> bool:
    """Say whether a mutant is wrong in a call; one that it cannot read is illegal, and may be."""
    try:
        return bool(mutant.trigger(invocation))
    except Exception:  # noqa: BLE001 - whatever a condition raises on an illegal call, the mutant raises it too
        return True


def crashing_law(mutant: Mutant, case: Case, laws: Sequence[str]) -> str:
    """Return the law in which a mutant ends a process of its own, or hangs; "" where it returns from all of them."""
    context = clean_processes()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_judge_alone, args=(sender, mutant.name, str(case), laws))
    process.start()
    sender.close()
    law = ""
    try:
        while receiver.poll(CRASH_SECONDS):
            law = receiver.recv()
    except EOFError:
        pass
    if law:
        process.kill()
    process.join()
    return law if process.exitcode != 1 else ""  # which an error of our own is


def _judge_alone(sender: Connection, name: str, line: str, laws: Sequence[str]) -> None:
    """Judge a case by the laws, and say which before each, and "" behind all of them."""
    trial, mutant = Trial(Case.parse(line)), bank.named(name)
    backend = backend_of(mutant)
    backend.prepare()
    for law in laws:
        sender.send(law)
        trial.violates(backend, law)
    sender.send("")


def score(fates: Iterable[Fate]) -> str:
    """Return the score line: how many mutants were killed, and after how many cases.

    >>> score([])
    '0 of 0 killed'
    """
    fates = list(fates)
    killed = sorted(fate.cases for fate in fates if fate.status == KILLED)
    if not killed:
        return f"0 of {len(fates)} killed"
    median, share = killed[len(killed) // 2], 100 * len(killed) / len(fates)
    return f"{len(killed)} of {len(fates)} killed ({share:.1f} %), median {median} cases"
