"""NUMA policies of a task that stands (ckpt.mem.policy): its leader's has been asked with the rest.

What a further thread has is asked where it can matter: on a machine with several nodes, or in a
process whose leader has a policy. It costs a second visit to each thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.infect.threads import run_in_further
from ckpt.mem import policy
from ckpt.mem.vma import MADE_BY_KERNEL, backing_of
from ckpt.units import Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckpt.dump.facts import Known
    from ckpt.dump.snapshot import Snapshot
    from ckpt.infect.session import Session
    from ckpt.procfs.smaps import Smap


def prepare(known: Iterable[Known]) -> None:
    """Before the freeze: make what is asked of mappings that don't change."""
    for one in known:
        policy.questions(_starts(one.smaps))


def ask(taken: Snapshot, session: Session, *, own_memory: bool) -> None:
    """Fill in its policies. `own_memory`: the mappings are not those of another task's answer."""
    assert taken.inside is not None
    taken.policies[taken.pid] = taken.inside.policy
    if taken.inside.policy or policy.several_nodes():
        _ask_threads(taken, session)
    if own_memory:
        taken.bindings = policy.of_mappings(session, _starts(taken.facts.smaps))


def _ask_threads(taken: Snapshot, session: Session) -> None:
    at = session.layout.batches.start
    answers = Range(at, at + policy.ANSWER_SIZE)
    for stopped, results, raw in run_in_further(
        session, taken.task, policy.calls(at), answers=answers
    ):
        if results[-1] == 0:
            taken.policies[stopped.tid] = policy.answer(raw)


def _starts(smaps: Sequence[Smap]) -> tuple[int, ...]:
    return tuple(smap.start for smap in smaps if backing_of(smap) not in MADE_BY_KERNEL)
