"""Cases asked again in a process in which nothing else was called: whether they fail by themselves, or after which."""

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from cnnspec.backends import Backend
from cnnspec.backends.targets import resolve
from cnnspec.cases import Case
from cnnspec.judge import Trial

SURE = 2
"""So often both outcomes must repeat: a target that is wrong at random needs no call before it."""

PRELOADED = ("cnnspec.judge", "cnnspec.backends.torch")


def fails(
    target: str, backend: Backend, before: Sequence[Case], case: Case, law: str, seconds: float
) -> bool | None:
    """Say whether `case` breaks `law` in a new process that has called `before` alone; None without an answer.

    target: what `backend` was resolved from
    """
    context = clean_processes()
    receiver, sender = context.Pipe(duplex=False)
    lines = [str(one) for one in (*before, case)]
    arguments = (sender, target, backend.name, backend.device, lines, law)
    process = context.Process(target=_answer, args=arguments)
    process.start()
    sender.close()
    try:
        return bool(receiver.recv()) if receiver.poll(seconds) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()
        receiver.close()


def clean_processes() -> Any:
    """Return the context of processes in which nothing was called, with torch loaded where the system can do that."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([*PRELOADED])
    return context


def _answer(sender: Connection, target: str, name: str, device: str, lines: Sequence[str], law: str) -> None:
    *before, case = map(Case.parse, lines)
    found = resolve(target, [case.operator], device)
    backend = next((one for one in found if one.name == name), found[0])
    backend.prepare()
    for one in before:
        Trial(one).rows(backend)
    sender.send(Trial(case).violates(backend, law))


def needed(
    fails_after: Callable[[Sequence[Case]], bool | None], history: Sequence[Case]
) -> list[Case] | None:
    """Return the calls of `history` that must come before a case for it to fail: [] for none.

    None where it passes after any of them, as it does alone. One call is found where one is enough, else the shortest
    end of the history.

    >>> [a, b] = [Case.parse(f"relu(input=({n},))") for n in (1, 2)]
    >>> needed(lambda before: a in before, [a, b]) == [a], needed(lambda before: False, [a, b])
    (True, None)
    """
    if fails_after([]) is not False:
        return []
    enough, short = min(1, len(history)), 0
    while enough > short and not fails_after(history[-enough:]):
        short, enough = enough, min(2 * enough, len(history))
    if enough == short:
        return None
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if fails_after(history[-middle:]) else (middle, enough)
    first, last = [history[-enough]], [*history[-enough:]]
    found = first if fails_after(first) else last
    sure = all(fails_after(found) and fails_after([]) is False for _ in range(SURE))
    return found if sure else None
