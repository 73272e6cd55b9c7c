"""Rings of io_uring that threads have registered for themselves (IORING_REGISTER_RING_FDS).

Such a number stands for a ring in one thread, and nothing from outside tells of it: each thread is
asked. A task whose seccomp filters would have to be asked about the call first is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.dump.preflight import refuse
from ckpt.errors import Refusal
from ckpt.infect.batch import Batch
from ckpt.infect.threads import run_in_further
from ckpt.units import Range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.dump.snapshot import Snapshot
    from ckpt.infect.session import Session

_NR_REGISTERED, _ENTER_REGISTERED_RING = 16, 16
_CALLS = [
    ("io_uring_enter", (number, 0, 0, _ENTER_REGISTERED_RING, 0, 0))
    for number in range(_NR_REGISTERED)
]
"""Nothing is submitted: an error says that nothing is registered under this number."""


def refuse_registered(taken: Snapshot, session: Session) -> None:
    """Of one infected task. Raises RefusedError."""
    if taken.filters:
        why = "a process with seccomp filters in a tree with rings of io_uring"
        refuse([Refusal(taken.pid, "the task", f"{why} is not restored yet")])
    refuse(
        Refusal(
            taken.pid,
            "the task" if tid == taken.pid else f"thread {tid}",
            "it has registered the descriptor of an io_uring, which is not restored yet",
            "most programs have an option that avoids it",
        )
        for tid, answers in _asked(taken, session)
        if any(answer >= 0 for answer in answers)
    )


def _asked(taken: Snapshot, session: Session) -> Iterator[tuple[int, tuple[int, ...]]]:
    batch = Batch()
    for name, args in _CALLS:
        batch.call(name, *args, any_result=True)
    yield taken.pid, session.run(batch).results
    at = session.layout.batches.start
    answers = Range(at, at + 8)
    for stopped, results, _ in run_in_further(session, taken.task, _CALLS, answers=answers):
        yield stopped.tid, results
