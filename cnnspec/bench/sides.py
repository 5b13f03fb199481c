"""One side of a comparison: a target and a variant on a case, judged first, then as a bare call for the clock."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch

from cnnspec import data
from cnnspec.backends import Backend, UnsupportedCase
from cnnspec.backends import torch as torch_backend
from cnnspec.backends.targets import resolve
from cnnspec.bench import variants
from cnnspec.bench.timers import Sample, Timer
from cnnspec.calls import Call
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.errors import UsageError
from cnnspec.judge import BACKWARD, FORWARD, Trial

FORWARD_ONLY, WITH_BACKWARD = "forward", "forward+backward"
DIRECTIONS = (FORWARD_ONLY, WITH_BACKWARD)
JUDGED = ("integers", "dense")
"""The regimes of a case that is judged before it is timed: sharp, and the very data that are timed."""
PLACEMENTS = 4
"""How often operands are laid out in memory: of two copies that stay where they are, one is faster by 6 % or more."""


class Judgement(NamedTuple):
    """What the judge says of a side: its status and why; its largest error over the bound, kernel, and failing case."""

    status: str
    reason: str = ""
    error_over_bound: Any = None
    path: str = ""
    case: str = ""


@dataclass(frozen=True)
class Side:
    """A target under a variant.

    >>> side = Side.of("torch", "channels_last")
    >>> case = side.case(Case.parse("relu(input=(1, 2, 3, 3))"))
    >>> side.judged(case, "forward").status, side.call(case, "forward")().stride()
    ('pass', (18, 1, 6, 2))
    """

    target: str
    variant: str
    backend: Backend

    @classmethod
    def of(cls, target: str, variant: str = "plain", only: Sequence[str] = (), device: str = "cpu") -> "Side":
        """Return the side that a target's name and a variant's make; UsageError where they make none."""
        backend = resolve(target, list(only) or None, device)[0]
        if backend.layers or target == "torch-native":
            plain = "torch" if backend.layers else "torch with --variant onednn_off"
            raise UsageError(f"{target} does more in each call than the operator: measure {plain}")
        if backend.arrays not in (None, torch_backend.tensor):
            raise UsageError(f"{target} has arrays of its own: only functions of torch tensors are measured")
        return cls(target, variant, variants.backend_of(backend, variant))

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.target if self.variant == variants.PLAIN else f"{self.target} {self.variant}"

    def case(self, case: Case) -> Case:
        """Return the case as this side runs it."""
        return variants.case_of(case, self.variant)

    def judged(self, case: Case, direction: str) -> Judgement:
        """Hold the side to the exact result of a case, forward and, where it is timed, backward."""
        laws = [FORWARD, BACKWARD] if direction == WITH_BACKWARD else [FORWARD]
        if direction == WITH_BACKWARD and not case.differentiated:
            return Judgement("unsupported", "it has no gradients")
        rows = []
        for regime in JUDGED:
            trial = _trial(str(dataclasses.replace(case, regime=regime)))
            self.prepare()
            with variants.switches(self.variant)():
                rows += trial.rows(self.backend, laws)
        bad = [row for row in rows if row["status"] != "pass"]
        if bad:
            worst = next((row for row in bad if row["status"] == "fail"), bad[0])
            case_line = worst["case"] if worst["status"] == "fail" else ""
            return Judgement(worst["status"], _sentence(worst), None, worst["path"], case_line)
        ratios = [row["ratio"] for row in rows if isinstance(row["ratio"], float)]
        return Judgement("pass", "", max(ratios, default=None), rows[0]["path"])

    def prepare(self) -> None:
        """Set torch's switches as the backend wants them, but for the number of threads."""
        prepare(self.backend)

    def calls(self, case: Case, direction: str) -> list[Callable[[], Any]]:
        """Return calls that differ by where in memory their operands lie."""
        self.prepare()
        return [self.call(case, direction) for _ in range(PLACEMENTS)]

    def call(self, case: Case, direction: str) -> Callable[[], Any]:
        """Return the bare call on operands of its own, none of them zeros; UnsupportedCase for what it cannot run."""
        operands = Call(self.backend, case, data.operands(case))
        made = operands.arrays
        if direction == FORWARD_ONLY:
            return self.bound(case, made)
        leaves = {
            name: one.detach().requires_grad_(name in case.differentiated) for name, one in made.items()
        }
        forward, wanted = self.bound(case, leaves), [leaves[name] for name in case.differentiated]
        output = _first(forward())
        if not output.requires_grad:
            raise UnsupportedCase("the output carries no gradient")
        g, _ = operands.array(GRAD_OUTPUT, data.grad_output(case, tuple(output.shape)))

        def training() -> Any:
            return torch.autograd.grad(_first(forward()), wanted, g, allow_unused=True)

        return training

    def sample(self, calls: Sequence[Callable[[], Any]], timer: Timer, rng: Random) -> Sample:
        """Return what samples calls of this side, each time one of them."""
        around = variants.switches(self.variant)

        def sample(count: int) -> float:
            with around():
                return timer.sample(rng.choice(calls), count)

        return sample

    def bound(self, case: Case, arrays: dict[str, Any]) -> Callable[[], Any]:
        """Return the function with its arguments as the judge gives them, and nothing between it and its caller."""
        function = self.backend.functions.get(case.operator)
        if function is None:
            raise UnsupportedCase(f"{self.target} has no {case.operator}")
        bare = _own(case.operator) if self._is_torch else function

        @functools.wraps(function)
        def bind(*args: Any, **kwargs: Any) -> Any:
            return functools.partial(bare, *args, **kwargs)

        binding = dataclasses.replace(self.backend, functions={case.operator: bind})
        bound: Callable[[], Any] = binding.call(case.spec, case, arrays)
        return bound

    @property
    def _is_torch(self) -> bool:
        return self.backend.builtin and not {*variants.REPLACED} & {*variants.parts(self.variant)}


def prepare(backend: Backend) -> None:
    """Set torch's switches as a backend wants them, but for the number of threads, which is the run's."""
    threads = torch.get_num_threads()
    backend.prepare()
    torch.set_num_threads(threads)


@functools.lru_cache(maxsize=len(JUDGED))
def _trial(line: str) -> Trial:
    """Return the trial of a case: the exact result serves the sides that are judged one after another."""
    return Trial(Case.parse(line))


def _own(operator: str) -> Callable[..., Any]:
    """Return torch's function itself, without what makes its refusals ours."""
    found: Callable[..., Any] = torch_backend.OTHER_NAMES.get(operator) or getattr(
        torch.nn.functional, torch_backend.functional_name(operator)
    )
    return found


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def timed_case(case: Case, seed: int) -> Case:
    """Return a case with data to time: the first seed from `seed` on, odd, whose operands vary.

    Constant data, and zeros, are what some kernels and some hardware are faster on.
    """
    for odd in itertools.count(2 * seed + 1, 2):
        found = dataclasses.replace(case, regime="dense", seed=odd)
        if all(array.size < 2 or np.ptp(array) > 0 for array in data.operands(found).values()):
            return found
    raise AssertionError


def _sentence(row: dict[str, Any]) -> str:
    """Return why a row is no pass."""
    if row["status"] != "fail":
        return str(row["reason"])
    where = f" at {tuple(row['worst_index'])}" if row.get("worst_index") else ""
    return f"not ranked: fails {row['law']}{where}: {row['message']}"
