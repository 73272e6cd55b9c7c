"""What only a task itself can tell: asked by one batch in its leader, and by a few calls in each
other thread.

Some answers are of states that ckpt does not restore yet; `obstacles` names them. They are found
only here, while the tree stands still, and the refusal puts it back as it was.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ckpt.errors import Refusal
from ckpt.infect.batch import Batch, Data, Outcome, Result
from ckpt.infect.blob import layout_at
from ckpt.task import mm, signals, thread

if TYPE_CHECKING:
    from collections.abc import Iterator

_ITIMERS = {0: "ITIMER_REAL", 1: "ITIMER_VIRTUAL", 2: "ITIMER_PROF"}
_ITIMER_SIZE = 32
_PR_GET_TSC, _PR_TSC_ENABLE = 25, 1
_PR_GET_CHILD_SUBREAPER = 37

_MODES = {
    "machine check policy (PR_MCE_KILL)": (34, 2),
    "I/O flusher (PR_SET_IO_FLUSHER)": (58, 0),
    "memory-deny-write-execute (PR_SET_MDWE)": (66, 0),
    "same-page merging (PR_SET_MEMORY_MERGE)": (68, 0),
}
"""prctl(2) getters whose answer must be this default, or an error: name -> (option, default)."""


@dataclass(frozen=True, slots=True)
class Questions:
    """One batch, the same for every task, and where its answers will be."""

    batch: Batch
    actions: Data
    leader: Data
    securebits: Result
    brk: Result
    dumpable: Result
    thp_disabled: Result
    words: Data
    itimers: Data
    modes: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
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
        return self.outcome.of(self.asked.thp_disabled) == 1

    @property
    def subreaper(self) -> bool:
        return self.outcome.read(self.asked.words, 4) != bytes(4)

    @property
    def leader(self) -> thread.Answers:
        raw = self.outcome.read(self.asked.leader, thread.ANSWERS_SIZE)
        return thread.answers(raw, self.outcome.of(self.asked.securebits))

    def obstacles(self, pid: int) -> Iterator[Refusal]:
        """States that a restore could not bring back yet."""
        for which, name in _ITIMERS.items():
            raw = self.outcome.read(self.asked.itimers + _ITIMER_SIZE * which, _ITIMER_SIZE)
            if any(raw):
                yield Refusal(pid, name, "an interval timer is not restored yet")
        for (name, (_, default)), answer in zip(_MODES.items(), self.asked.modes, strict=True):
            value = self.outcome.of(answer)
            if value not in (default,) and value >= 0:
                yield Refusal(pid, name, "this mode is not restored yet")
        tsc = struct.unpack("<i", self.outcome.read(self.asked.words + 8, 4))[0]
        if tsc not in (0, _PR_TSC_ENABLE):
            yield Refusal(pid, "PR_SET_TSC", "this mode is not restored yet")


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
    thp = batch.call("prctl", mm.PR_GET_THP_DISABLE, 0, 0, 0, 0, any_result=True)
    batch.call("prctl", _PR_GET_CHILD_SUBREAPER, words, 0, 0, 0)
    batch.call("prctl", _PR_GET_TSC, words + 8, 0, 0, 0, any_result=True)
    itimers = batch.space(_ITIMER_SIZE * len(_ITIMERS))
    for which in _ITIMERS:
        batch.call("getitimer", which, itimers + _ITIMER_SIZE * which)
    modes = tuple(
        batch.call("prctl", option, 0, 0, 0, 0, any_result=True) for option, _ in _MODES.values()
    )
    like_any = layout_at(1 << 32, len(batch) * 256)
    batch.encode(like_any.batches.start, like_any.data)
    return Questions(batch, actions, leader, securebits, brk, dumpable, thp, words, itimers, modes)
