"""Two versions of a target against each other in fresh processes: one pair of processes after another.

Processes differ by themselves, by 2 to 8 % of identical code: a pair of them is one observation, the median of the
ratios of its samples, and so many pairs agree on a difference by chance with a probability of 2 * 2^-8.
"""

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from random import Random
from statistics import median
from types import TracebackType
from typing import Any, Self

from cnnspec.bench.adaptive import drawn
from cnnspec.bench.figures import Entry
from cnnspec.bench.paired import interleaved
from cnnspec.bench.record import Run
from cnnspec.bench.timers import counts
from cnnspec.errors import CnnspecError

PROCESS_PAIRS, SAMPLE_PAIRS = 8, 21
CONFIDENCE = 0.99
"""Of the interval over so many pairs of processes, which is from the least to the greatest."""
SECONDS = 120.0
"""The longest that a process may take for one reply."""


class LostError(CnnspecError):
    """A fresh process that cannot measure what a run did."""


class Fresh:
    """A process that measures calls of the target of a run, where and with what that was measured."""

    def __init__(self, run: Run, seconds: float = SECONDS) -> None:
        self.header, self.seconds = run.header, seconds

    def __enter__(self) -> Self:
        origin = self.header["origin"]
        paths = [origin["package"], *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [origin["executable"], "-m", "cnnspec.bench.worker"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - what the run itself was started with
                command,
                cwd=origin["directory"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            raise LostError(f"{error.strerror or error}: {error.filename}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def prepare(self, row: Mapping[str, Any]) -> float:
        """Make the call of a row ready to be sampled; return the seconds of one, undisturbed."""
        known = {name: self.header[name] for name in ("target", "only", "device", "threads")}
        known["source_sha256"] = self.header["origin"]["source_sha256"]
        request = known | {name: row[name] for name in ("case", "variant", "direction", "mode")}
        return float(self._asked(request)["seconds"])

    def sample(self, count: int) -> float:
        """Return the seconds of one of `count` calls in a row."""
        return float(self._asked({"count": count})["seconds"])

    def _asked(self, request: Mapping[str, Any]) -> Entry:
        """Return the reply to a request; LostError where there is none."""
        writer, reader = self._process.stdin, self._process.stdout
        assert writer
        assert reader
        watch = threading.Timer(self.seconds, self._process.kill)
        watch.start()
        try:
            writer.write(json.dumps(request) + "\n")
            writer.flush()
            line = reader.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        reply: Entry = json.loads(line) if line else {"error": "the process ended, or did not reply in time"}
        if "error" in reply:
            raise LostError(reply["error"])
        return reply


def log_ratios(
    base: Run, head: Run, rows: Sequence[Mapping[str, Any]], processes: int = PROCESS_PAIRS
) -> Iterator[list[float]]:
    """Yield, for each pair of fresh processes, ln(head / base) of each row; LostError where one cannot measure."""
    rng = Random(0)  # noqa: S311 - no secret
    for number in range(processes):
        print(f"pair {number + 1} of {processes} fresh processes", file=sys.stderr, flush=True)
        with Fresh(base) as before, Fresh(head) as after:
            found = []
            for row in rows:
                numbers = counts(before.prepare(row), after.prepare(row))
                sides = partial(before.sample, numbers[0]), partial(after.sample, numbers[1])
                pairs = interleaved(*sides, islice(drawn(rng), SAMPLE_PAIRS))
                found.append(median([math.log(slow / fast) for fast, slow in pairs]))
            yield found
