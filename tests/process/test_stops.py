"""What stopped tasks are told, and their parents, beside what tests/victims/tree/stops_told.c does
by itself."""

from __future__ import annotations

import os
import signal
import struct
from typing import Any

from ckpt.images import framing
from tests.fault.injection import eventually
from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program


def stopped(root: int) -> list[int]:
    return [pid for pid in processes.tree(root) if processes.state(pid) == "T"]


def test_a_further_stop_waits_for_a_stopped_task(case: Case) -> None:
    """It means nothing: who has it go on throws it away."""
    victim = case.start(program("tree/stops_told"))
    for pid in stopped(victim.pid):
        os.kill(pid, signal.SIGSTOP)
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_stop_that_nobody_has_seen_yet(case: Case) -> None:
    """It came when the task stood for the dump already."""
    victim = case.start(program("tree/children"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, "--no-checksums").ok()
    victim.await_gone(pids)
    path = case.images / f"core-{victim.pid}.img"
    (record,) = framing.decode(path.stem, path.read_bytes())
    core: Any = record.message
    core.tc.signals_s.signals.add().siginfo = struct.pack("<i124x", signal.SIGSTOP)
    path.write_bytes(framing.encode(path.stem, [core]))
    case.ckpt.restore(case.images).ok()
    assert eventually(lambda: stopped(victim.pid) == [victim.pid])
    os.kill(victim.pid, signal.SIGCONT)
    victim.finish()


def test_left_stopped(case: Case) -> None:
    """Those that were stopped, too, and nobody is told of that twice."""
    victim = case.start(program("tree/stops_told"))
    pids, before = victim.tree, stopped(victim.pid)
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images, "--leave-stopped").ok()
    assert eventually(lambda: set(stopped(victim.pid)) == {victim.pid, *before})
    os.kill(victim.pid, signal.SIGCONT)
    victim.finish()
