"""The precision fingerprint of a target, in this process and without a run of all laws."""

from collections.abc import Iterator
from typing import Any

from cnnspec import fingerprints, ops, strategies, where
from cnnspec.backends import Backend, UnsupportedCase
from cnnspec.backends.targets import missing_device, resolve
from cnnspec.bounds import FORMATS
from cnnspec.calls import Violation, run
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.fingerprints import Fingerprint, Row
from cnnspec.judge import Trial
from cnnspec.shrink import generate

EXAMPLES = 100


def fingerprint(
    target: Any,
    operator: str = "",
    dtype: str = "float32",
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    where: str = "",
    device: str = "cpu",
) -> Fingerprint:
    """Return which error models `target` is consistent with in one operator: what it rounds, and how it sums.

    target:   as in `cnnspec.check`; called in this process
    operator: a sum of products; by default the first one that the target has
    where:    keep only the cases of which this expression holds, such as "stride == 1"
    Raises UsageError for an operator that the target lacks, or that is no sum of products.

    >>> import torch, cnnspec
    >>> print(cnnspec.fingerprint(torch.nn.functional.linear, examples=20).looks_like)
    direct float32
    """
    return fingerprints_of(target, operator, dtype, examples, seed, where, device, by_path=False)[0]


def fingerprints_of(
    target: Any,
    operator: str = "",
    dtype: str = "float32",
    examples: int = EXAMPLES,
    seed: int = 0,
    where: str = "",
    device: str = "cpu",
    *,
    by_path: bool = True,
) -> list[Fingerprint]:
    """Return the fingerprint of each backend that `target` names and, where it says, of each of its kernels."""
    found = []
    for backend in resolve(target, [operator] if operator else None, device):
        name = operator or next(iter(sums_of(backend)), "")
        _check(backend, name, dtype)
        if reason := missing_device(backend):
            raise UsageError(f"{backend.name} cannot run: {reason}")
        backend.prepare()
        rows = _rows(backend, name, dtype, examples, seed, where)
        shown = fingerprints.summary(row if by_path else {**row, "path": ""} for row in rows)
        found += shown or [Fingerprint(backend.name, name, dtype, (), 0)]
    return found


def sums_of(backend: Backend) -> list[str]:
    """Return the operators of a backend that are sums of products."""
    return [name for name in ops.NAMES if name in backend.functions and ops.spec(name).judged == "sum"]


def _check(backend: Backend, operator: str, dtype: str) -> None:
    known = sums_of(backend)
    if operator not in known:
        what = f"operator={operator!r}" if operator else f"the target {backend.name}"
        raise UsageError(
            f"{what} is no sum of products; those of {backend.name}: {', '.join(known) or 'none'}"
        )
    able = [name for name in ops.spec(operator).dtypes if name in FORMATS]
    if dtype not in able:
        raise UsageError(f"dtype={dtype!r} must be one of {operator}'s {', '.join(able)}")


def _rows(
    backend: Backend, operator: str, dtype: str, examples: int, seed: int, expression: str
) -> Iterator[Row]:
    accepts = where.parse(expression, (operator,)) if expression else lambda case: True

    def wanted(case: Case) -> bool:
        return accepts(case) and not backend.supports(case)

    strategy = strategies.cases(
        operator, dtype, regimes=fingerprints.REGIMES, layers=backend.layers, where=wanted
    )
    for case in generate(strategy, seed, examples):
        trial = Trial(case)
        try:
            output = run(backend, case, trial.operands)[0][0]
        except (UnsupportedCase, Violation):
            continue
        if (output.shape, output.dtype) == (trial.exact.shape, dtype):
            found = fingerprints.facts(trial.exact, output.values, case, trial.operands)
            names = {"backend": backend.name, "operator": operator, "dtype": dtype}
            yield {**names, "path": backend.path(case), **found}
