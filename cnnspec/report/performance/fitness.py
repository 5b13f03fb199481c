"""Whether a run's verdicts hold, what it found in one sentence, and where it was made."""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from statistics import median
from typing import Any

from cnnspec.bench.figures import Entry
from cnnspec.bench.record import Run
from cnnspec.bench.verdicts import AMBIGUOUS, DELTA, FAST, INVALID, SAME, SLOW, VERDICTS
from cnnspec.report.cells import text
from cnnspec.report.performance.measures import (
    conforms,
    has_samples,
    interval,
    is_wrong,
    number,
    positive,
    ratio_words,
    seconds,
    share,
    shown,
    status_of,
)
from cnnspec.report.performance.parts import GLYPHS, LOOKS, Cell, Table, answer_cell, verdict_cell
from cnnspec.report.performance.summary import means
from cnnspec.report.values import plural
from cnnspec.report.verdict import Verdict

MOST_CUTS = 200
_HEADER = {
    "command": "command", "started_utc": "started", "cnnspec": "cnnspec", "target": "target",
    "against": "against", "device": "device", "threads": "threads", "seed": "seed",
    "seconds": "budget in seconds", "fingerprint": "fingerprint of the environment",
}  # fmt: skip


def delta_of(run: Run) -> float:
    """Return what two calls that are the same may differ by."""
    return positive(run.header, "delta") or DELTA


def fitness(run: Run) -> dict[str, Any]:
    """Return the first line of the page: whether verdicts of this size hold, and why."""
    question = f"fit for a {100 * delta_of(run):g} % verdict"
    told = "; ".join(
        f"{text(one, 'mode') or 'A/A'} {ratio_words(interval(one)) or 'no ratio'} {text(one, 'verdict')}"
        for one in run.controls
    )
    if not run.controls:
        timed = any(row.get("t_median_s") for row in run.rows)
        why = "no call was held against itself" if timed else "nothing was timed"
        return {"question": question, "answer": "no", "status": "flaky", "told": why}
    fit = all(one.get("verdict") == SAME for one in run.controls)
    words = f"A/A control, a call held against itself: {told}"
    return {
        "question": question,
        "answer": "yes" if fit else "no",
        "status": "pass" if fit else "fail",
        "told": words,
    }


def verdict(run: Run) -> Verdict:
    """Say in one sentence what the run found."""
    compared = [row for row in run.rows if row.get("verdict")]
    wrong = sum(map(is_wrong, chain(*run.kinds.values())))
    but = (
        f" {plural(wrong, 'measurement')} failed conformance and {'has' if wrong == 1 else 'have'} no number."
        * bool(wrong)
    )
    if compared:
        counts = Counter(text(row, "verdict") for row in compared)
        words = {SLOW: "slower", FAST: "faster", SAME: "the same", AMBIGUOUS: "undecided", INVALID: "invalid"}
        parts = [f"{counts[word]} {said}" for word, said in words.items() if counts[word]]
        headline = f"Of {plural(len(compared), 'comparison')}: {', '.join(parts)}"
        return Verdict(headline, f"{_means(run)}{but}")
    timed = sum(conforms(row) and positive(row, "t_median_s") is not None for row in run.rows)
    if timed:
        return Verdict(f"{plural(timed, 'call')} timed", f"Each was timed alone: nothing was compared.{but}")
    kinds = ("curve", "batch", "network", "engine", "counter")
    others = sum(has_samples(one) for kind in kinds for one in run.kinds.get(kind, ()))
    if others:
        return Verdict(plural(others, "measurement"), f"No layer was compared.{but}")
    smoke = run.header.get("smoke")
    why = "Each call ran once, and nothing was timed." if smoke else "The run holds no time."
    return Verdict("Nothing measured", f"{why}{but}")


def _means(run: Run) -> str:
    told = [f"{one.words}: {ratio_words(one.mean)}" for one in means(run) if one.mean is not None]
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return (
        f"Geometric mean of the ratios of times: {'; '.join(told[:3])}{more}." if told else "No ratio holds."
    )


def overall(run: Run) -> str:
    """Return the status whose colour and glyph the page wears."""
    if run.wrong or any(row.get("verdict") == INVALID for row in run.rows):
        return "fail"
    return "pass" if fitness(run)["answer"] == "yes" else "flaky"


def verdict_counts(run: Run) -> list[tuple[str, str, int]]:
    """Return (glyph and word, class, number) of each verdict, and of what has none."""
    counts = Counter(text(row, "verdict") for row in run.rows)
    found = [
        (f"{GLYPHS[word]} {word}", LOOKS.get(word, ""), counts[word]) for word in VERDICTS if counts[word]
    ]
    alone = sum(not row.get("verdict") and bool(row.get("t_median_s")) for row in run.rows)
    unsupported = sum(status_of(row) == "unsupported" for row in run.rows)
    rest = (("timed alone", "same", alone), ("– unsupported", "unsupported", unsupported))
    return [
        *found,
        *(one for one in rest if one[2]),
        *([("not measured", "skip", len(run.cuts))] if run.cuts else []),
    ]


def context(run: Run) -> Mapping[str, Any]:
    """Lay out the controls, what the machine was like, and what was cut."""
    return {
        "controls": _controls(run.controls),
        "facts": [(name, value) for name, value in _machine(run) if value],
        "cuts": Counter(text(cut, "reason") or "no reason is given" for cut in run.cuts).most_common(),
        "short": sum(row.get("complete") is False for row in run.rows),
        "left_out": _left_out(run.cuts),
    }


def _controls(controls: list[Entry]) -> Table | None:
    columns = ("mode", "call", "ratio of a call to itself", "pairs", "verdict", "fit")
    lines: list[list[str | Cell]] = [
        [
            text(one, "mode"),
            text(one, "layer") or text(one, "case"),
            ratio_words(interval(one)),
            text(one, "pairs"),
            verdict_cell(one),
            answer_cell(one.get("verdict") == SAME),
        ]
        for one in controls
    ]
    return Table("A/A controls: a call held against itself", columns, lines) if lines else None


def noise(run: Run) -> float | None:
    """Return the median, over timed rows, of the inter-quartile range of samples over their median."""
    parts = []
    for row in run.rows:
        middle, width = positive(row, "t_median_s"), number(row, "t_iqr_s")
        if middle is not None and width is not None:
            parts.append(width / middle)
    return median(parts) if parts else None


def _machine(run: Run) -> list[tuple[str, str]]:
    header, end = run.header, run.end or {}
    facts = _mapping(header.get("environment"))
    before, after = _mapping(header.get("before")), _mapping(end.get("after"))
    loads = [shown(number(one, "load")) or "not known" for one in (before, after)]
    places = header.get("affinity")
    return [
        ("load before and after", f"{loads[0]}, {loads[1]}"),
        (
            "noise",
            f"{share(noise(run))}: median of IQR / median over timed rows" if noise(run) is not None else "",
        ),
        ("processor", text(facts, "processor")),
        ("threads", text(header, "threads")),
        ("affinity", ", ".join(map(str, places)) if isinstance(places, (list, tuple)) else ""),
        ("governor", text(facts, "governor") or "not known"),
        ("clock", seconds(number(before, "clock_resolution_s"))),
        ("fingerprint", text(header, "fingerprint")),
        ("ended", "" if run.end else "cut off: the record has no end"),
        ("interrupted", "yes" if end.get("interrupted") else ""),
    ]


def _left_out(cuts: list[Entry]) -> Table | None:
    lines: list[list[str | Cell]] = [
        [text(cut, "layer"), text(cut, "dtype"), text(cut, "variant"), Cell(text(cut, "reason"), "wrap")]
        for cut in cuts
    ]
    shown_lines = lines[:MOST_CUTS]
    return Table("What was not measured", ("what", "dtype", "variant", "why"), shown_lines) if lines else None


def environment(run: Run) -> Mapping[str, Any]:
    """Lay out what was asked for and where it was measured."""
    header = run.header
    facts = [(label, text(header, name)) for name, label in _HEADER.items() if text(header, name)]
    end = run.end or {}
    facts += [("finished", text(end, "finished_utc"))] if end.get("finished_utc") else []
    asked = {name: header.get(name) for name in ("networks", "dtypes", "variants", "directions", "parts")}
    facts += [
        (name, ", ".join(map(str, one))) for name, one in asked.items() if isinstance(one, (list, tuple))
    ]
    return {"facts": facts, "environment": _mapping(header.get("environment"))}


def method(run: Run) -> Mapping[str, Any]:
    """Lay out the definitions, with the numbers of this run in them."""
    looks = run.header.get("looks")
    return {
        "looks": ", ".join(map(str, looks)) if isinstance(looks, (list, tuple)) else "20, 40, 80, 160",
        "delta": f"{100 * delta_of(run):g} %",
        "clock": seconds(number(_mapping(run.header.get("before")), "clock_resolution_s")) or "not recorded",
        "confidence": next(
            (f"{100 * one:g} %" for row in run.rows if (one := number(row, "ratio_confidence"))), "99.5 %"
        ),
        "verdicts": [(GLYPHS[word], word, LOOKS.get(word, ""), said) for word, said in VERDICTS.items()],
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
