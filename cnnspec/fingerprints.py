"""Precision fingerprints: which error models the outputs of a target are consistent with, over many cases.

A verdict asks whether a target keeps the model that it is held to; a fingerprint asks which models it keeps. One case
rules out the models whose bound it breaks; what no case of a run rules out remains.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import exact as references
from cnnspec.bounds import FORMATS, Format
from cnnspec.cases import Case
from cnnspec.compare import verdict
from cnnspec.exact.results import Exact
from cnnspec.exact.sums import round_to
from cnnspec.models import MODELS, ErrorModel, direct

Row = Mapping[str, Any]
Values = npt.NDArray[Any]

REGIMES = ("sparse", "dense", "impulse")
"""The data that can tell models apart: in few terms bounds are sharp, and one element shows where it goes."""

TRANSFORM = "transform (Winograd or FFT)"
_KEY = ("backend", "operator", "dtype", "path")


@cache
def candidates(dtype: str) -> tuple[ErrorModel, ...]:
    """Return the models that outputs of `dtype` may be consistent with, the strictest first.

    >>> [model.name for model in candidates("bfloat16")][-2:]
    ['bfloat16 intermediates', 'bfloat16 accumulation']
    """
    return tuple(model for model in MODELS.values() if _differs(model, dtype))


def _differs(model: ErrorModel, dtype: str) -> bool:
    """Say whether a model means more in `dtype` than another does: operands that round, sums it can hold."""
    precision = FORMATS[dtype].precision
    if model.inputs and FORMATS[model.inputs].precision >= precision:
        return False
    if model.compensated or model.accumulate == "float64":
        return precision == 24 or model.accumulate == dtype
    lowest = min(FORMATS[name].precision for name in (model.accumulate, model.intermediates) if name)
    return lowest == 24 or precision >= 24 or dtype in (model.accumulate, model.intermediates)


def consistent(exact: Exact, values: Sequence[Any], dtype: str) -> tuple[str, ...]:
    """Return the names of the models that one output is consistent with, the strictest first.

    Without any, or where an element is not zero although no product of its sum is not, it is TRANSFORM that follows if
    all errors are small beside the largest sum, at most half of the format's digits of it: else nothing does.
    """
    names, every = [], candidates(dtype)
    strict = direct(dtype).name
    for place, model in enumerate(every):
        if verdict(exact, values, dtype, model).holds:
            names.append(model.name)
            if model.name == strict:  # all that follow allow what it allows
                names += [wider.name for wider in every[place + 1 :]]
                break
    return (*names, *([TRANSFORM] if _leaks(exact, values, dtype, anywhere=not names) else []))


def _leaks(exact: Exact, values: Sequence[Any], dtype: str, *, anywhere: bool) -> bool:
    """Say whether errors are small beside all sums though not each beside its own, or not zero where that is."""
    if exact.special:
        return False
    near, found = exact.near, np.asarray(values, np.float64).reshape(-1)
    empty = near.size == 0
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(found - near.value)
    small = error <= near.size.max(initial=0.0) * 2.0 ** -(FORMATS[dtype].precision // 2)
    return bool(small.all() and (anywhere or error[empty].any()))


def would_show(exact: Exact, case: Case, operands: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of those models that this case told from the strict one, if they were the target's.

    They are played as well as a kernel of their kind can do: operands rounded to the nearest such format (but for the
    bias), all else exact; two exact partial sums, stored and added in a 16-bit dtype.
    """
    form, strict = FORMATS[case.dtype], direct(case.dtype)
    if exact.special or not {"input"} <= operands.keys() <= {"input", "weight", "bias"}:
        return ()

    def computed(**changes: Any) -> Any:
        return references.evaluate(case.spec, case.operation, {**operands, **changes}).near.value

    played = {}
    model = next((one for one in candidates(case.dtype) if one.inputs), None)
    if model is not None:
        factors = {name: one for name, one in operands.items() if name != "bias"}
        low = FORMATS[model.inputs]
        played[model.name] = computed(**{name: _rounded(one, low) for name, one in factors.items()})
    if form.precision < 24:
        x = operands["input"]
        odd = (np.arange(x.size) % 2).reshape(x.shape)
        without = {"bias": 0 * operands["bias"]} if "bias" in operands else {}
        parts = computed(input=x * odd), computed(input=x * (1 - odd), **without)
        played[f"{case.dtype} intermediates"] = sum(_rounded(part, form) for part in parts)
    return tuple(
        name
        for name, values in played.items()
        if not verdict(exact, _rounded(values, form), case.dtype, strict).holds
    )


def _rounded(values: Values, form: Format) -> Values:
    """Return float64 values rounded to a format, in float64."""
    return round_to(values, form).astype(np.float64)


def facts(exact: Exact, values: Sequence[Any], case: Case, operands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that `summary` reads: `models`, and `apart`, which would have shown.

    Nothing where neither could say anything: other data than REGIMES, operators that are no sums of products.
    """
    if case.spec.judged != "sum" or case.regime not in REGIMES or case.dtype not in FORMATS:
        return {}
    if exact.copies is not None or not exact.varies():
        return {}
    apart = would_show(exact, case, operands)
    return {"models": list(consistent(exact, values, case.dtype)), "apart": list(apart)}


@dataclass(frozen=True)
class Fingerprint:
    """What one operator of a target computes like in one dtype.

    consistent: the models that no case rules out, the strictest first;   cases: how many were looked at
    telling:    how many of them rule out any model;   refuted: how many rule out each
    apart:      in how many a model would have shown, if it were the target's
    leaking:    how many show TRANSFORM;   broken: how many show neither that nor any model
    path:       the kernel of the target that ran them, "" where there is but one or it is not known

    >>> rows = [{"backend": "mine", "operator": "conv2d", "dtype": "bfloat16", "models": ["bfloat16 accumulation"]}]
    >>> print(summary(rows)[0])
    conv2d bfloat16: consistent with bfloat16 accumulation (1 case, 1 rules out bfloat16 intermediates)
    """

    backend: str
    operator: str
    dtype: str
    consistent: tuple[str, ...]
    cases: int
    telling: int = 0
    refuted: Mapping[str, int] = field(default_factory=dict)
    apart: Mapping[str, int] = field(default_factory=dict)
    leaking: int = 0
    broken: int = 0
    path: str = ""

    @property
    def looks_like(self) -> str:
        """The strictest consistent model; the transform where there is a sign of one; "" for neither."""
        if self.broken:
            return ""
        return TRANSFORM if self.leaking else next(iter(self.consistent), "")

    @property
    def evidence(self) -> str:
        """What speaks for it, in words."""
        said = [f"{self.cases} case{'s' * (self.cases != 1)}"]
        if self.broken:
            return f"{said[0]}, {self.broken} beyond every model"
        if self.leaking:
            return f"{said[0]}, {self.leaking} with errors that are small beside the largest sum, not beside their own"
        names = [model.name for model in candidates(self.dtype)]
        place = names.index(self.looks_like) if self.looks_like else len(names)
        stricter = [name for name in names[:place] if self.refuted.get(name)]
        if stricter:
            count = self.refuted[stricter[-1]]
            said.append(f"{count} rule{'s' * (count == 1)} out {stricter[-1]}")
        said += [f"{name} would show in {n}" for name, n in self.apart.items() if name in names[place + 1 :]]
        return ", ".join(said)

    def __str__(self) -> str:
        """Return one sentence."""
        what = f"{self.operator} {self.dtype}" + f" by {self.path}" * bool(self.path)
        if not self.cases:
            return f"{what}: no case could tell anything"
        found = self.looks_like or "no model: what it computes is something else"
        return f"{what}: consistent with {found} ({self.evidence})"


def summary(rows: Iterable[Row]) -> list[Fingerprint]:
    """Return the fingerprint of each (backend, operator, dtype, path) among rows that have the fields of `facts`."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if isinstance(row.get("models"), (list, tuple)) and row.get("dtype") in FORMATS:
            backend, operator, dtype, path = (str(row.get(name) or "") for name in _KEY)
            key = backend, operator, dtype, path
            groups.setdefault(key, []).append(row)
    return [_fingerprint(key, group) for key, group in groups.items()]


def _fingerprint(key: tuple[str, str, str, str], rows: Sequence[Row]) -> Fingerprint:
    names = [model.name for model in candidates(key[2])]
    refuted = Counter(name for row in rows for name in names if name not in row["models"])
    return Fingerprint(
        *key[:3],
        path=key[3],
        consistent=tuple(name for name in names if not refuted[name]),
        cases=len(rows),
        telling=sum(any(name not in row["models"] for name in names) for row in rows),
        refuted=dict(refuted),
        apart=dict(Counter(str(name) for row in rows for name in row.get("apart") or ())),
        leaking=sum(TRANSFORM in row["models"] for row in rows),
        broken=sum(not row["models"] for row in rows),
    )
