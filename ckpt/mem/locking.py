"""What mlockall(2) has arranged for mappings to come. The kernel tells nobody: it shows in what
became of the parasite's window, which was mapped under it.

Source: mlockall(2), mm/mlock.c (apply_mlockall_flags).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.infect.batch import Batch
from ckpt.procfs.status import parse_status
from ckpt.units import PAGE

if TYPE_CHECKING:
    from ckpt.infect.session import Session
    from ckpt.procfs.reader import ProcDir

MCL_FUTURE, MCL_ONFAULT = 2, 4


def lock_future(session: Session, proc: ProcDir, locked_before: int) -> int:
    """MCL_FUTURE and MCL_ONFAULT as they are in force in an infected task, which had
    `locked_before` bytes of locked memory before."""
    now = parse_status(proc.read("status")).vm_locked or 0
    if now - locked_before < len(session.layout.batches) or not session.can_pass_fds:
        return 0
    batch = Batch()
    resident = batch.space(8)
    # The last page is far from anything that was written: it is there only if it was locked in.
    batch.call("mincore", session.layout.window.end - PAGE, PAGE, resident)
    populated = session.run(batch).read(resident, 1)[0] & 1
    return MCL_FUTURE if populated else MCL_FUTURE | MCL_ONFAULT


def restore_lock_future(batch: Batch, flags: int) -> None:
    """Add the call that arranges it; mappings that exist are left as they are."""
    if flags & MCL_FUTURE:
        batch.call("mlockall", flags & (MCL_FUTURE | MCL_ONFAULT), note="locks to come")
