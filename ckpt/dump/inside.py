"""What only a task itself can tell: asked by one batch in its leader, and by a few calls in each
other thread.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from ckpt.infect.batch import Batch, Data, Outcome, Result
from ckpt.infect.blob import layout_at
from ckpt.mem import policy
from ckpt.record import record
from ckpt.task import mm, modes, signals, thread, timers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.images.pb.timer_pb2 import task_timers_entry
    from ckpt.infect.session import Session
    from ckpt.procfs.timers import PosixTimer

_PR_GET_CHILD_SUBREAPER = 37


@record(frozen=True)
class Questions:
    """One batch, the same for every task, and where its answers will be."""

    batch: Batch
    actions: Data
    leader: Data
    securebits: Result
    brk: Result
    dumpable: Result
    words: Data
    itimers: timers.Questions
    modes: modes.Asked
    policy: policy.Asked


@record(frozen=True)
class Inside:
    """One task's own answers."""

    outcome: Outcome
    asked: Questions

    @property
    def brk(self) -> int:
        return self.outcome.of(self.asked.brk)

    @property
    def dumpable(self) -> int:
        return self.outcome.of(self.asked.dumpable)

    @property
    def thp_disabled(self) -> bool:
        return self.asked.modes.thp_disabled(self.outcome)

    @property
    def subreaper(self) -> bool:
        return self.outcome.read(self.asked.words, 4) != bytes(4)

    @property
    def policy(self) -> policy.Policy:
        return self.asked.policy.policy(self.outcome)

    @property
    def leader(self) -> thread.Answers:
        raw = self.outcome.read(self.asked.leader, thread.ANSWERS_SIZE)
        return thread.answers(raw, self.outcome.of(self.asked.securebits))


@cache
def questions() -> Questions:
    """Every question to a task's leader."""
    batch = Batch()
    leader, words = batch.space(thread.ANSWERS_SIZE), batch.space(16)
    actions = signals.ask_actions(batch)
    signals.ask_stack(batch, leader)
    batch.call("prctl", thread.PR_GET_TID_ADDRESS, leader + 24, 0, 0, 0)
    batch.call("prctl", thread.PR_GET_PDEATHSIG, leader + 32, 0, 0, 0)
    securebits = batch.call("prctl", 27, 0, 0, 0, 0)
    brk = batch.call("brk", 0)
    dumpable = batch.call("prctl", mm.PR_GET_DUMPABLE, 0, 0, 0, 0)
    batch.call("prctl", _PR_GET_CHILD_SUBREAPER, words, 0, 0, 0)
    modes.ask_tsc(batch, leader + 36)
    itimers = timers.ask(batch, ())
    of_process = modes.ask(batch)
    nodes = policy.ask(batch)
    like_any = layout_at(1 << 32, len(batch) * 256)
    batch.encode(like_any.batches.start, like_any.data)
    return Questions(
        batch, actions, leader, securebits, brk, dumpable, words, itimers, of_process, nodes
    )


@record(frozen=True)
class TimersLeft:
    """What was left of a task's timers at `at_ns` (time.monotonic_ns)."""

    outcome: Outcome
    asked: timers.Questions
    at_ns: int

    def fill(
        self, entry: task_timers_entry, infos: Sequence[bytes], now_ns: int, clock_ns: int
    ) -> None:
        """`infos`: the signals that waited for the process or a thread of it at `now_ns`.
        `clock_ns`: what its clock will say."""
        passed_ns = max(0, clock_ns - self.at_ns)
        timers.fill(entry, self.asked, self.outcome, infos, now_ns - self.at_ns, passed_ns)


def ask_timers(session: Session, posix: Sequence[PosixTimer], told: Inside) -> TimersLeft:
    """The last question of a session, so that no more than a moment lies between its answer and
    the look at the signals that wait; a task without timers has answered it by `told`."""
    at_ns = time.monotonic_ns()
    early = told.asked.itimers
    if not posix and not early.running(told.outcome):
        return TimersLeft(told.outcome, early, at_ns)
    batch = Batch()
    asked = timers.ask(batch, posix)
    return TimersLeft(session.run(batch), asked, at_ns)
