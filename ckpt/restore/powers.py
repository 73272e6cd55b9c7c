"""What the tasks have from us to begin with, and what they can't be given because we lack it.

A restore needs no more than what the difference takes: without root, CAP_CHECKPOINT_RESTORE alone
brings back what runs with our own ids, for its number.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.images.pb.creds_pb2 import creds_entry
from ckpt.kerndat.privileges import CAPABILITIES, SYS_ADMIN
from ckpt.kerndat.trial import call
from ckpt.procfs import timens
from ckpt.procfs.reader import ProcDir, read_system
from ckpt.procfs.status import parse_status
from ckpt.record import record
from ckpt.task import creds

if TYPE_CHECKING:
    from ckpt.report import Report
    from ckpt.restore.load import Loaded


@record(frozen=True)
class Powers:
    """`ours`: the credentials that the tasks are born with. `last_cap`: the kernel's last one."""

    ours: creds_entry
    last_cap: int


def powers_for(loaded: Loaded) -> Powers:
    """Ours. RestoreError where a thread has a capability that we can't give."""
    powers = _ours()
    for pid, image in loaded.tasks.items():
        for tid, core in image.threads.items():
            if lacking := creds.beyond(core.thread_core.creds, powers.ours):
                raise RestoreError(
                    "its capabilities can't be given back",
                    pid=pid,
                    resource=f"thread {tid}",
                    why=f"ckpt itself lacks {_names(lacking, powers.last_cap)}",
                    hint="run ckpt restore with them",
                )
    return powers


def _ours() -> Powers:
    with ProcDir(os.getpid()) as proc:
        status = parse_status(proc.read("status"))
    ours = creds_entry()
    creds.fill(ours, status, call("prctl", creds.PR_GET_SECUREBITS))
    return Powers(ours, int(read_system("sys/kernel/cap_last_cap")))


def _names(mask: int, last_cap: int) -> str:
    known = {one.number: one.name.upper() for one in CAPABILITIES}
    numbers = (number for number in range(last_cap + 1) if mask >> number & 1)
    return ", ".join(known.get(number, f"capability {number}") for number in numbers)


def clock_offsets(loaded: Loaded, powers: Powers, report: Report) -> tuple[int, int] | None:
    """What the monotonic and the boot clock of the tasks must be ahead of the machine's own, in
    nanoseconds; None where they have no time namespace of their own.

    Without the capability for one, clocks may jump ahead, which a warning tells. RestoreError where
    they would go back.
    """
    if loaded.clocks_ns is None:
        return None
    own = timens.parse_timens_offsets(read_system("self/timens_offsets"))
    monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - own.monotonic_ns
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - own.boottime_ns
    offsets = loaded.clocks_ns[0] - monotonic, loaded.clocks_ns[1] - boottime
    if creds.effective(powers.ours) >> SYS_ADMIN & 1:
        return offsets
    ahead_s = [-offset / timens.NS_PER_S for offset in offsets]
    if min(ahead_s) < 0:
        raise RestoreError(
            "the tasks' clocks would go back",
            resource="CLOCK_MONOTONIC",
            why=f"by {-min(ahead_s):.1f} s, and ckpt may not make a time namespace",
            hint="run ckpt restore with CAP_SYS_ADMIN",
        )
    report.warn(
        f"the tasks' monotonic clock jumps ahead by {ahead_s[0]:.1f} s: a time namespace, in which "
        "it would go on from where it stood, takes CAP_SYS_ADMIN"
    )
    return None
